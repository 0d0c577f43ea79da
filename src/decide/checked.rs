use super::words::cut;
use super::{Event, Orders, conditions, transition};
use crate::api::{DrillSpec, DrillStatus, Finding, Prediction, Severity, Verdict};
use crate::check::warning;
use crate::terms::Timestamp;

/// How many reasons and gaps of the model a status holds.
const REASONS: usize = 16;
const GAPS: usize = 32;

/// Whether a drill with these findings would be run.
#[must_use]
pub fn nothing_stands(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Blocker)
}

/// A Check that is over: what was found, and what a rehearsal came to or why there is none.
#[must_use]
pub fn checked(
    progress: &DrillStatus,
    orders: &Orders,
    spec: &DrillSpec,
    mut findings: Vec<Finding>,
    rehearsed: Option<Result<Prediction, String>>,
    now: Timestamp,
) -> DrillStatus {
    let mut next = progress.clone();
    let mut warn = |message: String, remedy: &str| findings.push(warning("Rehearsal", &spec.region, &spec.plan, message, remedy));
    let said = match rehearsed {
        None => String::new(),
        Some(Err(error)) => {
            warn(format!("it could not be rehearsed: {error}"), "");
            "; it could not be rehearsed".to_owned()
        }
        Some(Ok(prediction)) => {
            let ends = prediction.verdict.map_or_else(|| "no end within a day".to_owned(), |verdict| format!("{verdict:?}"));
            if prediction.verdict != Some(Verdict::Passed) {
                let reasons = prediction.reasons.join("; ");
                let message = format!("a rehearsal on a copy of the fleet ends otherwise than Passed: {ends}: {reasons}");
                warn(message, "run `firedrill rehearse` for what happens in it, or raise what it lacks");
            }
            let healthy = prediction.time_to_healthy.as_ref().map(|healthy| format!(", users healthy after {healthy}"));
            let said = format!("; a rehearsal on a copy of the fleet: {ends}{}", healthy.unwrap_or_default());
            next.prediction = Some(bounded(prediction));
            said
        }
    };
    findings.sort();
    if let Ok(phase) = transition(next.phase, Event::Checked) {
        next.phase = phase;
        next.since = Some(now);
        next.times.done = Some(now);
    }
    next.message = match findings.first() {
        Some(first) if !nothing_stands(&findings) => format!("{} findings, first: {}", findings.len(), first.message),
        _ => format!("nothing stands in the way{said}"),
    };
    next.findings = findings;
    conditions(&mut next, orders.generation, now);
    next
}

/// As much of it as the API server takes: a status that it refuses would be rehearsed again for ever.
fn bounded(mut prediction: Prediction) -> Prediction {
    let rest = prediction.not_modelled.len().saturating_sub(GAPS - 1);
    if rest > 1 {
        prediction.not_modelled.truncate(GAPS - 1);
        prediction.not_modelled.push(format!("and {rest} more: `firedrill rehearse` names them"));
    }
    prediction.reasons.truncate(REASONS);
    prediction.reasons.iter_mut().chain(&mut prediction.not_modelled).for_each(|text| *text = cut(text));
    prediction
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::api::{Control, Mode, Phase, PredictedPhase};

    fn predicted(verdict: Option<Verdict>) -> Prediction {
        Prediction {
            taken: Timestamp::UNIX_EPOCH,
            verdict,
            reasons: vec!["healthy after 31m, promised were 30m".into()],
            time_to_healthy: Some("31m".into()),
            phases: vec![PredictedPhase { phase: "evacuating".into(), took: "31m".into() }],
            busiest: None,
            not_modelled: Vec::new(),
        }
    }

    fn ended(findings: Vec<Finding>, rehearsed: Option<Result<Prediction, String>>) -> DrillStatus {
        let spec = DrillSpec {
            plan: "shop".into(),
            region: "eu".into(),
            mode: Mode::Check,
            scenario: None,
            start: None,
            reason: None,
            control: None,
        };
        let progress = DrillStatus { phase: Phase::Checking, ..DrillStatus::default() };
        let orders = Orders { control: Control::Run, deleted: false, finalizer: false, generation: 1 };
        checked(&progress, &orders, &spec, findings, rehearsed, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_prediction_is_kept_and_told() {
        let status = ended(Vec::new(), Some(Ok(predicted(Some(Verdict::Passed)))));
        assert_eq!((status.phase, status.findings.len()), (Phase::Done, 0));
        assert!(status.message.ends_with("in the way; a rehearsal on a copy of the fleet: Passed, users healthy after 31m"));
        assert_eq!(status.prediction.unwrap().time_to_healthy.as_deref(), Some("31m"));
    }

    #[test]
    fn what_does_not_pass_or_cannot_be_rehearsed_is_warned_of() {
        let status = ended(Vec::new(), Some(Ok(predicted(Some(Verdict::ObjectiveMissed)))));
        assert!(status.message.ends_with("fleet: ObjectiveMissed, users healthy after 31m"), "{}", status.message);
        let found = &status.findings[0];
        assert_eq!((found.severity, found.check.as_str(), found.region.as_str()), (Severity::Warning, "Rehearsal", "eu"));
        assert!(found.message.ends_with("Passed: ObjectiveMissed: healthy after 31m, promised were 30m"), "{}", found.message);
        assert!(ended(Vec::new(), Some(Ok(predicted(None)))).message.contains("no end within a day"));
        let status = ended(Vec::new(), Some(Err("no answer".into())));
        assert_eq!(status.findings[0].message, "it could not be rehearsed: no answer");
        assert!(status.phase == Phase::Done && status.prediction.is_none());
    }

    #[test]
    fn blockers_come_first_and_are_told() {
        let found = vec![warning("a", "", "", "a warning", ""), crate::check::blocker("b", "", "", "a blocker", "")];
        assert_eq!(ended(found, None).message, "2 findings, first: a blocker");
    }

    #[test]
    fn no_prediction_is_longer_than_the_api_server_takes() {
        let long = Prediction {
            reasons: vec!["r".repeat(5000); 40],
            not_modelled: vec!["n".repeat(5000); 40],
            ..predicted(Some(Verdict::Passed))
        };
        let kept = ended(Vec::new(), Some(Ok(long))).prediction.unwrap();
        assert_eq!((kept.reasons.len(), kept.not_modelled.len()), (REASONS, GAPS));
        assert!(kept.reasons.iter().chain(&kept.not_modelled).all(|text| text.len() <= 1024));
        assert_eq!(kept.not_modelled[GAPS - 1], "and 9 more: `firedrill rehearse` names them");
        // The bounds are those of the schema.
        let schema = serde_json::to_value(schemars::schema_for!(Prediction)).unwrap();
        for (field, most) in [("reasons", REASONS), ("notModelled", GAPS)] {
            let of = &schema["properties"][field];
            assert_eq!((of["maxItems"].as_u64(), of["items"]["maxLength"].as_u64()), (Some(most as u64), Some(1024)), "{of}");
        }
    }
}
