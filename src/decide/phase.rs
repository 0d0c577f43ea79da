use crate::api::Phase;

/// What happened, found in the world by `decide`; the only input of the phase machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its start is reached.
    Due,
    /// It is not to be run.
    Refused,
    /// It was a Check, and the checks have run.
    Checked,
    /// Contract, copies, lock and finalizer are in place.
    Ready,
    /// Every step is out.
    AllOut,
    /// It goes back: the soak is over, a gate, a person, the deadline, contention or deletion.
    ReturnAsked,
    /// Every step is back, everything is cleaned up.
    AllBack,
}

/// An event that a phase does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a drill in phase {from:?} does not know the event {event:?}")]
pub struct IllegalTransition {
    /// The phase.
    pub from: Phase,
    /// The event.
    pub event: Event,
}

/// The only place where a phase changes.
///
/// # Errors
/// [`IllegalTransition`]; the phase stays.
pub fn transition(from: Phase, event: Event) -> Result<Phase, IllegalTransition> {
    match (from, event) {
        (Phase::Pending, Event::Due) => Ok(Phase::Checking),
        (Phase::Pending | Phase::Checking, Event::Refused)
        | (Phase::Checking, Event::Checked)
        | (Phase::Returning, Event::AllBack) => Ok(Phase::Done),
        (Phase::Checking, Event::Ready) => Ok(Phase::Evacuating),
        (Phase::Evacuating, Event::AllOut) => Ok(Phase::Evacuated),
        (Phase::Checking | Phase::Evacuating | Phase::Evacuated, Event::ReturnAsked) => Ok(Phase::Returning),
        (
            Phase::Pending | Phase::Checking | Phase::Evacuating | Phase::Evacuated | Phase::Returning | Phase::Done,
            Event::Due | Event::Refused | Event::Checked | Event::Ready | Event::AllOut | Event::ReturnAsked | Event::AllBack,
        ) => Err(IllegalTransition { from, event }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn done_is_for_good() {
        for event in [Event::Due, Event::Refused, Event::Checked, Event::Ready, Event::AllOut, Event::ReturnAsked, Event::AllBack]
        {
            assert!(transition(Phase::Done, event).is_err());
        }
    }

    #[test]
    fn a_drill_that_has_begun_is_over_only_by_the_way_back() {
        for phase in [Phase::Evacuating, Phase::Evacuated] {
            assert!(transition(phase, Event::AllBack).is_err());
            assert!(transition(phase, Event::Refused).is_err());
            assert_eq!(transition(phase, Event::ReturnAsked), Ok(Phase::Returning));
        }
        assert_eq!(transition(Phase::Returning, Event::AllBack), Ok(Phase::Done));
    }
}
