use super::Contract;
use crate::api::{Gate, HoldReason, NoData, OnFailure, Role, Streak};
use crate::terms::Timestamp;
use crate::world::{Blind, Reading, World};
use std::time::Duration;

/// How often a gate is measured when its plan does not say.
const INTERVAL: Duration = Duration::from_secs(10);

/// How one measurement stands to its gate.
#[derive(Clone, Debug, PartialEq)]
pub enum Colour {
    /// Within bounds.
    Green,
    /// Out of bounds, and how.
    Red(String),
    /// There is no number, and why.
    Unknown(String),
}

/// What all gates together say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Signal {
    /// Nothing moves on, and why.
    pub hold: Option<(HoldReason, String)>,
    /// Back to the last green level, and why.
    pub step_back: Option<String>,
    /// The drill is aborted, and why.
    pub abort: Option<String>,
    /// A gate of users' health has no number, and its plan lets that pass: nothing is held, and nothing is healthy.
    pub unmeasured: bool,
}

impl Signal {
    /// Whether every gate is green.
    pub fn green(&self) -> bool {
        self.hold.is_none() && self.step_back.is_none() && self.abort.is_none() && !self.unmeasured
    }
}

/// How a reading stands to its gate.
#[must_use]
pub fn colour(gate: &Gate, reading: &Result<Reading, Blind>) -> Colour {
    let bound = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<f64>().ok());
    match reading {
        Ok(Reading::Value(value)) => match (bound(&gate.min), bound(&gate.max)) {
            (Some(min), _) if *value < min => Colour::Red(format!("{value} is below its minimum {min}")),
            (_, Some(max)) if *value > max => Colour::Red(format!("{value} is above its maximum {max}")),
            _ => Colour::Green,
        },
        Ok(Reading::NoData) => {
            Colour::Unknown("the query answers no series (an absent one is no zero: add `or vector(0)`)".into())
        }
        Ok(Reading::Several(count)) => Colour::Unknown(format!("the query answers {count} series, it must be one: aggregate it")),
        Ok(Reading::NotFinite) => Colour::Unknown("the query answers no finite number".into()),
        Err(blind) => Colour::Unknown(format!("Prometheus: {blind}")),
    }
}

/// How often a gate is measured.
pub(super) fn interval(gate: &Gate) -> Duration {
    gate.interval.map_or(INTERVAL, Duration::from)
}

/// Counts the streaks on, and says what the gates want together.
pub(super) fn judge(contract: &Contract, streaks: &[Streak], world: &World, now: Timestamp) -> (Vec<Streak>, Signal) {
    let mut signal = Signal::default();
    let mut counted = Vec::new();
    for gate in &contract.gates {
        let interval = interval(gate);
        for (region, query) in contract.gate_queries(gate) {
            let key = region.as_ref().map_or_else(|| gate.name.clone(), |region| format!("{}@{region}", gate.name));
            let before = streaks.iter().find(|streak| streak.gate == key);
            let (message, red) = match (colour(gate, &world.reading(&query)), gate.no_data.unwrap_or_default()) {
                (Colour::Green, _) => continue,
                (Colour::Unknown(_), NoData::Ignore) => {
                    signal.unmeasured |= gate.role == Some(Role::UserHealth);
                    continue;
                }
                (Colour::Unknown(message), NoData::Hold) => (message, false),
                (Colour::Red(message) | Colour::Unknown(message), _) => (message, true),
            };
            let message = format!("gate {key}: {message}");
            if !red {
                signal.hold.get_or_insert((HoldReason::Gate, format!("{message}; set control: Abort to go back")));
                counted.extend(before.cloned());
                continue;
            }
            // A red reading counts at once, and then once in each interval.
            let streak = match before {
                Some(before) if before.red > 0 && elapsed(before.last, now) < interval => before.clone(),
                Some(before) => Streak { gate: key, red: before.red + 1, last: now },
                None => Streak { gate: key, red: 1, last: now },
            };
            if streak.red > gate.failure_limit.unwrap_or(0) {
                match gate.on_failure.unwrap_or_default() {
                    OnFailure::Hold => {}
                    OnFailure::StepBack => signal.step_back = signal.step_back.or(Some(message.clone())),
                    OnFailure::Abort => signal.abort = signal.abort.or(Some(message.clone())),
                }
            }
            signal.hold.get_or_insert((HoldReason::Gate, message));
            counted.push(streak);
        }
    }
    (counted, signal)
}

/// The time from one moment to a later one; zero if the clock went back.
pub(super) fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_finite_number_within_bounds_is_green() {
        let gate: Gate =
            serde_json::from_value(serde_json::json!({"name": "errors", "query": "q", "max": "0.01", "min": "0"})).unwrap();
        assert_eq!(colour(&gate, &Ok(Reading::Value(0.01))), Colour::Green);
        assert!(matches!(colour(&gate, &Ok(Reading::Value(0.02))), Colour::Red(_)));
        assert!(matches!(colour(&gate, &Ok(Reading::Value(-1.0))), Colour::Red(_)));
        for reading in [Ok(Reading::NoData), Ok(Reading::Several(2)), Ok(Reading::NotFinite), Err(Blind::TimedOut)] {
            assert!(matches!(colour(&gate, &reading), Colour::Unknown(_)), "{reading:?}");
        }
    }
}
