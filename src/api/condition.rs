use crate::terms::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Status {
    /// It does.
    True,
    /// It does not.
    False,
    /// It was not seen.
    Unknown,
}

/// One aspect of an object's state, as in every Kubernetes kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Whether it holds.
    pub status: Status,
    /// Why, as one constant word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, for people: what happened and what to do.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// The generation of the spec that it speaks of.
    pub observed_generation: i64,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// Sets one condition; its transition time moves only when its status does.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: Status,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) {
    let before = conditions.iter().position(|condition| condition.kind == kind).map(|at| conditions.remove(at));
    let since = before.filter(|before| before.status == status).map_or(now, |before| before.last_transition_time);
    conditions.push(Condition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.chars().take(4096).collect(),
        observed_generation: generation,
        last_transition_time: since,
    });
    conditions.sort_by(|one, two| one.kind.cmp(&two.kind));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |second| Timestamp::from_timestamp(second, 0).unwrap();
        let mut all = Vec::new();
        set(&mut all, "Ready", Status::False, "A", "", 1, at(1));
        set(&mut all, "Ready", Status::False, "B", "", 2, at(2));
        assert_eq!((all[0].last_transition_time, all[0].reason.as_str()), (at(1), "B"));
        set(&mut all, "Ready", Status::True, "C", "", 2, at(3));
        assert_eq!((all.len(), all[0].last_transition_time), (1, at(3)));
    }
}
