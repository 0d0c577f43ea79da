//! What happened between two progresses, for the record that the report is made from.

use crate::api::{Basis, Direction, DrillStatus, Level, Moment, Phase, StepState};
use crate::terms::Timestamp;

/// How many moments a status has room for, beside everything else.
const MOST: usize = 128;

/// Notes in `next` what has happened since `before`.
pub fn record(before: &DrillStatus, next: &mut DrillStatus, now: Timestamp) {
    let moved_percent = next.steps.iter().filter_map(|step| step.level).map(|level| level.moved_percent).max().unwrap_or(0);
    for what in happened(before, next) {
        if next.timeline.len() >= MOST {
            // How it began and how it ended is what people ask for.
            next.timeline.remove(MOST / 2);
            next.omitted += 1;
        }
        let what = what.chars().take(256).collect();
        next.timeline.push(Moment { at: now, phase: next.phase, moved_percent, what });
    }
}

fn happened(before: &DrillStatus, next: &DrillStatus) -> Vec<String> {
    let mut all = Vec::new();
    if before.phase != next.phase {
        all.push(match next.phase {
            Phase::Pending => "pending".to_owned(),
            Phase::Checking => "the checks begin".to_owned(),
            Phase::Evacuating => "the evacuation begins".to_owned(),
            Phase::Evacuated => "the region is evacuated".to_owned(),
            Phase::Returning => format!("goes back: {}", next.why_message),
            Phase::Done => {
                let verdict = next.verdict.map_or_else(|| "Checked".to_owned(), |verdict| format!("{verdict:?}"));
                format!("{verdict}: {}", next.reasons.first().unwrap_or(&next.message))
            }
        });
    }
    for step in &next.steps {
        let was = before.steps.iter().find(|was| was.name == step.name);
        let old = was.and_then(|was| was.level);
        all.extend(step.level.map(|level| followed(old, level)).unwrap_or_default());
        let done = |state| state == StepState::Done;
        if done(step.state) && !was.is_some_and(|was| done(was.state) && was.direction == step.direction) {
            let way = if step.direction == Direction::Out { "out" } else { "back" };
            all.push(format!("{} is {way}", step.name));
        }
    }
    if before.times.healthy.is_none() && next.times.healthy.is_some() {
        all.push("users are healthy without the region".to_owned());
    }
    let reason = |status: &DrillStatus| status.hold.as_ref().map(|hold| hold.reason);
    match (&next.hold, reason(before) != reason(next)) {
        (_, false) => {}
        (Some(hold), true) => all.push(format!("holds: {}", hold.message)),
        (None, true) => all.push("goes on".to_owned()),
    }
    if !before.debts.is_empty() && next.debts.is_empty() && next.phase == Phase::Done {
        all.push("what was owed is put back".to_owned());
    }
    all
}

/// What became of a level: another is driven to, or users were seen to follow.
fn followed(old: Option<Level>, level: Level) -> Vec<String> {
    let mut all = Vec::new();
    let old_moved = old.map_or(0, |old| old.moved_percent);
    if old_moved != level.moved_percent {
        all.push(format!("to {} % moved", level.moved_percent));
    }
    let was_confirmed = old.is_some_and(|old| old.confirmed.is_some() && old.moved_percent == level.moved_percent);
    if level.confirmed.is_some() && !was_confirmed && level.moved_percent > 0 {
        let basis = if level.basis == Some(Basis::Assumed) { "are taken to follow" } else { "follow" };
        all.push(format!("users {basis} {} % moved", level.moved_percent));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Hold, HoldReason};

    #[test]
    fn what_happened_is_noted_once_and_the_middle_goes_when_there_is_too_much() {
        let now: Timestamp = "2026-12-08T10:00:00Z".parse().unwrap();
        let hold = Hold { reason: HoldReason::Gate, message: "gate errors".into(), since: now };
        let (calm, held) = (DrillStatus::default(), DrillStatus { hold: Some(hold), ..DrillStatus::default() });
        let mut next = held.clone();
        record(&calm, &mut next, now);
        record(&held, &mut next, now);
        assert_eq!(next.timeline.iter().map(|moment| moment.what.as_str()).collect::<Vec<_>>(), ["holds: gate errors"]);
        for _ in 0..200 {
            record(&calm, &mut next, now);
        }
        assert_eq!((next.timeline.len(), next.omitted), (128, 73));
    }
}
