use super::Contract;
use super::words::cut;
use crate::api::{Basis, DrillStatus, Phase, Return, Role, Severity, Status, Verdict, Why, set};
use crate::terms::Timestamp;
use std::time::Duration;

/// How a drill ended, and what that rests on. It claims nothing that was not observed.
pub(super) fn verdict(contract: &Contract, progress: &DrillStatus) -> (Verdict, Vec<String>) {
    if progress.way_back == Some(Return::Abort) {
        return (Verdict::Aborted, vec![cut(&format!("went back: {}", progress.why_message))]);
    }
    let objective = contract.limits.time_to_healthy;
    let Some(healthy) = progress.times.healthy else {
        return (Verdict::ObjectiveMissed, vec!["users were never seen healthy without the region".to_owned()]);
    };
    let took = super::gate::elapsed(contract.limits.declared, healthy);
    let said = format!("healthy without {} after {}", contract.leaving, go_duration(took));
    if took > objective {
        return (Verdict::ObjectiveMissed, vec![format!("{said}; the objective is {}", go_duration(objective))]);
    }
    let mut lacks = Vec::new();
    if !contract.gates.iter().any(|gate| gate.role == Some(Role::UserHealth)) {
        lacks.push("no gate of role UserHealth: users' health was not observed".to_owned());
    }
    if progress.basis != Some(Basis::Observed) {
        lacks.push("that no request reached the region was assumed, not observed".to_owned());
    }
    if !progress.conflicts.is_empty() {
        lacks.push(format!("{} values were changed by somebody else and were not restored", progress.conflicts.len()));
    }
    if !progress.debts.is_empty() {
        lacks.push(format!("{} objects could not be seen to be restored", progress.debts.len()));
    }
    if lacks.is_empty() { (Verdict::Passed, vec![said]) } else { (Verdict::Inconclusive, lacks) }
}

/// Sets the conditions, which are a pure function of the rest of the status.
pub fn conditions(progress: &mut DrillStatus, generation: i64, now: Timestamp) {
    let phase = progress.phase;
    progress.observed_generation = generation;
    let refused = progress.verdict == Some(Verdict::Refused);
    let checked = phase == Phase::Done && progress.contract.is_none() && !refused;
    let blocker = progress.findings.iter().find(|finding| finding.severity == Severity::Blocker);
    let (accepted, reason, message) = match blocker {
        Some(finding) if refused || checked => {
            (Status::False, finding.check.clone(), format!("{} {}", finding.message, finding.remedy))
        }
        _ if refused => (Status::False, "Refused".to_owned(), progress.message.clone()),
        _ if progress.contract.is_some() || phase == Phase::Done => (Status::True, "Accepted".to_owned(), String::new()),
        _ => (Status::Unknown, "Pending".to_owned(), progress.message.clone()),
    };
    let mut all = std::mem::take(&mut progress.conditions);
    set(&mut all, "Accepted", accepted, &reason, message.trim(), generation, now);

    let moving = matches!(phase, Phase::Checking | Phase::Evacuating | Phase::Evacuated | Phase::Returning);
    let reason =
        progress.hold.as_ref().filter(|_| moving).map_or_else(|| format!("{phase:?}"), |hold| format!("{:?}", hold.reason));
    set(&mut all, "Progressing", if moving { Status::True } else { Status::False }, &reason, &progress.message, generation, now);

    let (succeeded, reason) = match progress.verdict {
        None if phase == Phase::Done && blocker.is_some() => (Status::False, "Blocked".to_owned()),
        None if phase == Phase::Done => (Status::True, "Checked".to_owned()),
        None => (Status::Unknown, format!("{phase:?}")),
        Some(Verdict::Passed) => (Status::True, "Passed".to_owned()),
        Some(verdict) => (Status::False, format!("{verdict:?}")),
    };
    let said = if checked { progress.message.clone() } else { progress.reasons.join("; ") };
    set(&mut all, "Succeeded", succeeded, &reason, &said, generation, now);

    let (restored, reason, message) = match phase {
        Phase::Done if !progress.debts.is_empty() => (Status::Unknown, "Debts", progress.debts.join("; ")),
        Phase::Done if !progress.conflicts.is_empty() => (Status::True, "ForeignChangesKept", progress.conflicts.join("; ")),
        Phase::Done if progress.times.evacuating.is_none() => (Status::True, "NothingChanged", String::new()),
        Phase::Done => (Status::True, "Complete", String::new()),
        Phase::Pending | Phase::Checking => (Status::True, "NothingChanged", String::new()),
        Phase::Evacuating | Phase::Evacuated | Phase::Returning => {
            (Status::False, "InUse", "the drill's changes stand".to_owned())
        }
    };
    set(&mut all, "Restored", restored, reason, &message, generation, now);
    progress.conditions = all;
    debug_assert!(progress.why != Some(Why::SoakOver) || progress.way_back.is_some());
}

/// A duration as Go writes it, in whole seconds: `1h2m3s`.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        assert_eq!(go_duration(Duration::from_secs(59)), "59s");
        assert_eq!(go_duration(Duration::from_mins(1)), "1m0s");
        assert_eq!(go_duration(Duration::from_secs(3_723)), "1h2m3s");
    }
}
