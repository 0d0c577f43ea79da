//! What a singleton's status says to people, and its conditions: a pure function of the rest.

use super::{Facts, cut};
use crate::api::{Enforcement, Running, SingletonWorkloadStatus, Stage, Status, set};
use crate::terms::Timestamp;

/// Fills in everything that is only told.
pub(super) fn tell(
    facts: &Facts,
    next: &mut SingletonWorkloadStatus,
    problem: Option<(&'static str, String)>,
    waits: Option<String>,
    person: bool,
    now: Timestamp,
) {
    let of = |running| {
        next.regions.iter().filter(|region| region.running == running).map(|region| region.region.clone()).collect::<Vec<_>>()
    };
    let (runs, unknown) = (of(Running::Yes), of(Running::Unknown));
    next.runs_in = match (runs.as_slice(), unknown.as_slice()) {
        ([], []) => "none".to_owned(),
        (runs, []) => runs.join(", "),
        ([], unknown) => format!("unknown: {}", unknown.join(", ")),
        (runs, unknown) => format!("{} (unknown: {})", runs.join(", "), unknown.join(", ")),
    };
    let guarantee = if facts.spec.self_fencing == Some(true) {
        "no start before the old holder is proven stopped; its storage refuses what an old epoch writes, so two can never both take effect"
    } else {
        "no start before the old holder is proven stopped; what others start in a second region is detected within seconds, not excluded: \
         its storage does not check the epoch (selfFencing)"
    };
    guarantee.clone_into(&mut next.guarantee);
    let enforced = facts.spec.enforcement == Enforcement::Enforce;
    let moves = matches!(next.stage, Stage::Stopping | Stage::Publishing | Stage::Starting);
    let holder = next.holder.clone().unwrap_or_default();
    let said = match (next.stage, &next.handover) {
        (Stage::Observed, _) if enforced => String::new(),
        (Stage::Observed, _) => match runs.as_slice() {
            [] if unknown.is_empty() => "no region runs it".to_owned(),
            [] => "no region is seen to run it".to_owned(),
            [one] => format!("{one} runs it; only reported"),
            several => format!("{} run it", several.join(" and ")),
        },
        (Stage::Held, _) if !runs.contains(&holder) && !unknown.contains(&holder) => {
            format!("{holder} holds it and does not run it: somebody stopped it there")
        }
        (Stage::Held, _) => format!("{holder} holds it"),
        (Stage::Stopping, Some(handover)) => format!("goes to {}: {}; being stopped everywhere", handover.to, handover.why),
        (Stage::Publishing, Some(handover)) => {
            format!("goes to {}: proven stopped; epoch {} is being written", handover.to, next.epoch)
        }
        (Stage::Starting, Some(handover)) => format!("goes to {}: being started", handover.to),
        (Stage::Stopping | Stage::Publishing | Stage::Starting, None) => "its hand-over is lost".to_owned(),
    };
    let kept = match (&facts.named, facts.deleted || !enforced) {
        (Some(drill), true) if next.stage != Stage::Observed => Some(format!("enforcement ends when drill {drill} is over")),
        _ => facts
            .owed
            .as_ref()
            .map(|drill| format!("goes home when drill {drill} has put everything back"))
            .filter(|_| next.holder != next.home),
    };
    let parts = [Some(said).filter(|said| !said.is_empty()), waits.clone(), problem.as_ref().map(|(_, said)| said.clone()), kept];
    next.message = cut(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "));

    let (exclusive, reason, message) = match (runs.as_slice(), unknown.is_empty()) {
        ([_, _, ..], _) => (Status::False, "TwoHolders", format!("{} run it at the same time", runs.join(" and "))),
        (_, true) if moves => (Status::True, "HandingOver", next.message.clone()),
        (_, false) => (Status::Unknown, "RegionUnseen", format!("{} cannot be seen", unknown.join(", "))),
        ([one], true) => (Status::True, "OneHolder", format!("{one} runs it")),
        ([], true) => (Status::False, "NoHolder", "no region runs it".to_owned()),
    };
    let mut all = std::mem::take(&mut next.conditions);
    set(&mut all, "Exclusive", exclusive, reason, &message, facts.generation, now);
    let (ready, reason, message) = match (problem, waits) {
        // While nobody may run it, what keeps it from running comes first.
        (_, Some(message)) if person && moves => (Status::False, "NeedsHuman", message),
        (Some((reason, message)), _) => (Status::False, reason, message),
        (None, Some(message)) if person => (Status::False, "NeedsHuman", message),
        (None, Some(message)) if next.stage == Stage::Observed => (Status::False, "NotAdopted", message),
        (None, Some(message)) if !moves => (Status::False, "Enforcing", message),
        (None, _) if moves => (Status::True, "HandingOver", next.message.clone()),
        (None, _) if next.stage == Stage::Held && !runs.contains(&holder) && !unknown.contains(&holder) => {
            (Status::False, "NotRunning", format!("{holder} holds it and does not run it: start it there"))
        }
        (None, _) if enforced => (Status::True, "Held", next.message.clone()),
        (None, _) => (Status::True, "Reported", next.message.clone()),
    };
    set(&mut all, "Ready", ready, reason, &message, facts.generation, now);
    next.conditions = all;
}
