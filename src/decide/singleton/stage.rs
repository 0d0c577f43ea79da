use crate::api::Stage;

/// What happened to a singleton, found in the world by `decide`; the only input of the stage machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Enforcement began, and one region was found to run it, or was named to keep it.
    Adopted,
    /// Another region is to hold it, or the same one anew because two were seen to run it.
    MoveAsked,
    /// Everybody who may run it is proven stopped; the next epoch is committed with this.
    ProvenStopped,
    /// Leases and token show the epoch.
    Published,
    /// The new holder was seen to run.
    SeenRunning,
    /// Enforcement ended, and every claim is given back.
    Released,
}

/// An event that a stage does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a singleton that is {from:?} does not know the event {step:?}")]
pub(super) struct IllegalStep {
    /// The stage.
    pub from: Stage,
    /// The event.
    pub step: Step,
}

/// The only place where a stage changes: `stop → proven stopped → commit epoch → token → start → seen running`.
///
/// # Errors
/// [`IllegalStep`]; the stage stays.
pub(super) fn follow(from: Stage, step: Step) -> Result<Stage, IllegalStep> {
    match (from, step) {
        (Stage::Observed, Step::Adopted) | (Stage::Starting, Step::SeenRunning) => Ok(Stage::Held),
        (Stage::Held | Stage::Stopping | Stage::Publishing | Stage::Starting, Step::MoveAsked) => Ok(Stage::Stopping),
        (Stage::Stopping, Step::ProvenStopped) => Ok(Stage::Publishing),
        (Stage::Publishing, Step::Published) => Ok(Stage::Starting),
        (Stage::Held, Step::Released) => Ok(Stage::Observed),
        (
            Stage::Observed | Stage::Held | Stage::Stopping | Stage::Publishing | Stage::Starting,
            Step::Adopted | Step::MoveAsked | Step::ProvenStopped | Step::Published | Step::SeenRunning | Step::Released,
        ) => Err(IllegalStep { from, step }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: [Stage; 5] = [Stage::Observed, Stage::Held, Stage::Stopping, Stage::Publishing, Stage::Starting];
    const STEPS: [Step; 6] =
        [Step::Adopted, Step::MoveAsked, Step::ProvenStopped, Step::Published, Step::SeenRunning, Step::Released];

    #[test]
    fn nothing_is_started_but_after_the_proof_and_the_token() {
        let into = |stage: Stage| -> Vec<(Stage, Step)> {
            let all = STAGES.iter().flat_map(|from| STEPS.iter().map(|step| (*from, *step)));
            all.filter(|(from, step)| follow(*from, *step) == Ok(stage)).collect()
        };
        assert_eq!(into(Stage::Starting), [(Stage::Publishing, Step::Published)]);
        assert_eq!(into(Stage::Publishing), [(Stage::Stopping, Step::ProvenStopped)]);
        assert_eq!(into(Stage::Observed), [(Stage::Held, Step::Released)], "a hand-over is never left half-done");
    }
}
