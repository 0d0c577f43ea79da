//! What the status says to people: the same words in the condition, the event and the report.

use super::contract::Contract;
use crate::api::{DrillStatus, Finding, Phase};
use crate::check::blocker;
use crate::claim::Conflict;
use crate::terms::{ClusterUid, Target};
use std::collections::BTreeSet;

/// A cluster for people: its region, or the hub.
pub(super) fn named(contract: &Contract, cluster: &ClusterUid) -> String {
    contract.region_of(cluster).map_or_else(|| "the hub".to_owned(), ToString::to_string)
}

/// An object for people, and where it is.
pub(super) fn place(contract: &Contract, target: &Target) -> String {
    format!("{}: {}", named(contract, &target.cluster), target.label())
}

/// Somebody else's hand, for people.
pub(super) fn describe(conflict: &Conflict) -> String {
    let or_absent = |text: &str| if text.is_empty() { "absent".to_owned() } else { text.to_owned() };
    let object = conflict.target.label();
    match (conflict.spot.as_str(), conflict.found.as_str()) {
        ("metadata.uid", "") => format!("{object} was deleted by somebody else ({} was ours)", conflict.ours),
        ("metadata.uid", _) => format!("{object} was deleted and made anew by somebody else; it is left as it is"),
        (spot, found) => format!(
            "{object}: {spot} is {}, somebody else's; it was {} before and {} by this drill; it is left as it is",
            or_absent(found),
            or_absent(&conflict.was),
            or_absent(&conflict.ours)
        ),
    }
}

/// Both lists of messages, each once; as many as a status keeps.
pub(super) fn union(before: &[String], more: impl Iterator<Item = String>) -> Vec<String> {
    let all: BTreeSet<String> = before.iter().cloned().chain(more).map(|text| text.chars().take(2048).collect()).collect();
    all.into_iter().take(64).collect()
}

/// As much of a message as a status keeps.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(1024).collect()
}

/// The finding of a drill that is not alone.
pub(super) fn busy_with(drill: &str) -> Finding {
    let message = format!("drill {drill} acts just now; one at a time");
    blocker("Busy", "", "", message, "Create the drill again when it is over.")
}

/// Where a drill is, in a line.
pub(super) fn summary(contract: &Contract, next: &DrillStatus) -> String {
    let leaving = &contract.leaving;
    let moved = next.steps.iter().find_map(|step| step.level).map_or(0, |level| level.moved_percent);
    let text = match next.phase {
        Phase::Pending => "waiting for its start".to_owned(),
        Phase::Checking => "storing the contract".to_owned(),
        Phase::Evacuating => format!("evacuating {leaving}, {moved} % moved"),
        Phase::Evacuated if next.times.healthy.is_none() => format!("{leaving} is evacuated, waiting to be healthy"),
        Phase::Evacuated => format!("{leaving} is evacuated, soaking"),
        Phase::Returning => format!("{leaving} returns, {moved} % still moved: {}", next.why_message),
        Phase::Done => next.reasons.first().cloned().unwrap_or_default(),
    };
    match &next.hold {
        Some(hold) => format!("{text}; holds: {}", hold.message),
        None => text,
    }
}
