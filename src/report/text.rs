use super::{Predicted, Report, clock};
use crate::api::{Severity, StepState};
use std::fmt::Write as _;

/// How wide a bar of 100 % is.
const WIDTH: usize = 24;

/// The report for a terminal of `width` columns, without colour.
#[must_use]
pub fn text(report: &Report, width: usize) -> String {
    let mut out = String::new();
    let options = textwrap::Options::new(width.max(40)).subsequent_indent("      ");
    let mut line = |text: &str| {
        let _ = writeln!(out, "{}", textwrap::fill(text, &options));
    };
    line(&format!("{}: {}", report.headline(), report.reasons.join("; ")));
    line("");
    let fact = |name: &str, value: &str| format!("  {name:<26}{value}");
    line(&fact("drill", &format!("{} ({} of plan {}, region {})", report.drill, report.mode, report.plan, report.region)));
    let objective = report.objective.as_ref().map(|objective| format!(" (objective {objective})")).unwrap_or_default();
    if report.is_check() {
        line(&fact("measured", "nothing: a Check evacuates nothing"));
    } else {
        let healthy = report.time_to_healthy.clone().unwrap_or_else(|| "never seen healthy".to_owned());
        line(&fact("time to healthy", &format!("{healthy}{objective}")));
        line(&fact("no users in the region", &report.basis));
    }
    if let Some(count) = report.fewest_requests {
        line(&fact("fewest requests seen", &format!("{count} in a window")));
    }
    for took in &report.phases {
        line(&fact(took.phase, &took.took));
    }
    if !report.is_check() {
        line(&fact("restored", &report.restored));
    }
    report.prediction.iter().flat_map(predicted).for_each(|text| line(&text));
    if !report.shares.is_empty() {
        line("");
        line("Shares of users by weight: as they were, and as planned without the region");
        for share in &report.shares {
            line(&format!(
                "  {:<32} {:<14} {:>5.1} %  {:>5.1} %",
                share.route, share.region, share.before_percent, share.without_percent
            ));
        }
    }
    if !report.gates.is_empty() {
        line("");
        line("Gates");
        for gate in &report.gates {
            let said = if gate.said.is_empty() { "never stood in the way".to_owned() } else { gate.said.join("; ") };
            line(&format!("  {} ({}, {}): {said}", gate.name, gate.role, gate.bounds));
        }
    }
    let waits: Vec<_> = report.steps.iter().filter(|step| step.state != StepState::Done).collect();
    if !waits.is_empty() {
        line("");
        line("Steps that are not done");
        for step in waits {
            line(&format!("  {} ({:?}, {:?}): {}", step.name, step.way, step.state, step.message));
        }
    }
    if !report.timeline.is_empty() {
        line("");
        line("What happened (UTC)");
        for moment in &report.timeline {
            line(&format!("  {}  {:>3} %  {}", clock(moment.at), moment.moved_percent, moment.what));
        }
        if report.omitted > 0 {
            line(&format!("  {} moments in the middle are left out", report.omitted));
        }
    }
    if !report.findings.is_empty() {
        line("");
        line("Findings");
        for finding in &report.findings {
            let weight = match finding.severity {
                Severity::Blocker => "blocker",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            let place = [finding.region.as_str(), finding.object.as_str()].join(" ");
            line(&format!("  {weight}: {}: {} {} {}", finding.check, place.trim(), finding.message, finding.remedy));
        }
    }
    let gaps = report.prediction.as_ref().filter(|_| report.is_check()).map(|predicted| &predicted.not_modelled);
    if let Some(gaps) = gaps {
        line("");
        line("Not modelled in the prediction");
        for gap in gaps {
            line(&format!("  {gap}"));
        }
    }
    for (title, list) in [("Changed by others, and left", &report.conflicts), ("Not put back yet", &report.debts)] {
        if !list.is_empty() {
            line("");
            line(title);
            for item in list {
                line(&format!("  {item}"));
            }
        }
    }
    out
}

/// A prediction beside what was measured, in lines.
fn predicted(predicted: &Predicted) -> Vec<String> {
    let taken = predicted.taken.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let row = |what: &str, one: &str, other: &str| format!("  {what:<26}{one:<18}{other}");
    let mut lines = vec![
        String::new(),
        format!("Predicted by Check {} from a copy of the fleet of {taken}, and measured", predicted.drill),
        row("", "predicted", "measured"),
    ];
    lines.extend(predicted.lines.iter().map(|one| row(&one.what, &one.predicted, &one.measured)));
    lines.extend(predicted.busiest.iter().map(|busiest| format!("  {:<26}{busiest}", "worst utilisation")));
    lines
}

/// A bar for a share in percent.
#[must_use]
pub fn bar(percent: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "0 to 24")]
    let full = ((percent.clamp(0.0, 100.0) / 100.0 * WIDTH as f64).round() as usize).min(WIDTH);
    format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full))
}
