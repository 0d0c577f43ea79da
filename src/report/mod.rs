//! What people read of a drill: a report as plain data, as text and as a page. Pure.

/// The report as a page: one file, without scripts, in light and dark.
mod html;
/// The report and its parts as text.
mod text;

pub use html::html;
pub use text::{bar, text};

use crate::api::{Basis, Direction, Drill, DrillStatus, Finding, Gate, Moment, Phase, Role, Status, StepState, Verdict};
use crate::decide::{Contract, Work, go_duration};
use crate::terms::Timestamp;
use serde::Serialize;

/// Everything that is told of one drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The drill.
    pub drill: String,
    /// Its plan.
    pub plan: String,
    /// The region that it evacuates.
    pub region: String,
    /// What it does: `Exercise`, `Check`.
    pub mode: String,
    /// Where it is.
    pub phase: Phase,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// What the verdict rests on; before there is one, what is going on.
    pub reasons: Vec<String>,
    /// From the start until users were healthy without the region.
    pub time_to_healthy: Option<String>,
    /// The promise; known from the contract.
    pub objective: Option<String>,
    /// On what evidence the region is said to be without users.
    pub basis: String,
    /// The fewest requests in a window that confirmed a share.
    pub fewest_requests: Option<u64>,
    /// How long each phase took.
    pub phases: Vec<Took>,
    /// Each region's share of each route; known from the contract.
    pub shares: Vec<Shares>,
    /// The gates, and what was said of each; known from the contract.
    pub gates: Vec<GateSaid>,
    /// The steps.
    pub steps: Vec<StepSaid>,
    /// What happened, in order.
    pub timeline: Vec<Moment>,
    /// How many moments the timeline leaves out.
    pub omitted: u32,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// What others changed meanwhile; it was left alone.
    pub conflicts: Vec<String>,
    /// What is not put back yet.
    pub debts: Vec<String>,
    /// Whether everything is as it was, and why not.
    pub restored: String,
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Took {
    /// Its name.
    pub phase: &'static str,
    /// When it began.
    pub from: Timestamp,
    /// When it was over; absent while it goes on.
    pub to: Option<Timestamp>,
    /// How long it took.
    pub took: String,
}

/// One region's part of one route.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shares {
    /// The route.
    pub route: String,
    /// The region.
    pub region: String,
    /// By its weights before the drill, in percent.
    pub before_percent: f64,
    /// By its weights as planned without the evacuated region, in percent; the timeline tells how far that went.
    pub without_percent: f64,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GateSaid {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub role: String,
    /// Within what it is green.
    pub bounds: String,
    /// When it held or ended the drill, and with what.
    pub said: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepSaid {
    /// Its name.
    pub name: String,
    /// Which way it went last.
    pub way: Direction,
    /// How far it is.
    pub state: StepState,
    /// What it did or waits for.
    pub message: String,
}

impl Report {
    /// The report of a drill as it stands; `contract` adds what only that knows.
    #[must_use]
    pub fn of(drill: &Drill, contract: Option<&Contract>) -> Self {
        let status = drill.status.clone().unwrap_or_default();
        let going_on = || Some(status.message.clone()).filter(|text| !text.is_empty()).into_iter().collect();
        let restored = status.conditions.iter().find(|condition| condition.kind == "Restored");
        Self {
            drill: drill.metadata.name.clone().unwrap_or_default(),
            plan: drill.spec.plan.clone(),
            region: drill.spec.region.clone(),
            mode: format!("{:?}", drill.spec.mode),
            phase: status.phase,
            verdict: status.verdict,
            reasons: if status.reasons.is_empty() { going_on() } else { status.reasons.clone() },
            time_to_healthy: status.time_to_healthy.clone(),
            objective: contract.map(|contract| go_duration(contract.limits.time_to_healthy)),
            basis: match status.basis {
                Some(Basis::Observed) => "observed",
                Some(Basis::Assumed) => "assumed, not observed",
                None => "not observed",
            }
            .to_owned(),
            fewest_requests: status.fewest_requests,
            phases: phases(&status),
            shares: contract.map(shares).unwrap_or_default(),
            gates: contract.map(|contract| gates(contract, &status)).unwrap_or_default(),
            steps: status
                .steps
                .iter()
                .map(|step| StepSaid {
                    name: step.name.clone(),
                    way: step.direction,
                    state: step.state,
                    message: step.message.clone(),
                })
                .collect(),
            restored: restored.map_or_else(
                || "not known".to_owned(),
                |condition| match (condition.status, condition.message.as_str()) {
                    (Status::True, "") => "yes".to_owned(),
                    (Status::True, message) => format!("yes, but for what others changed: {message}"),
                    (Status::False, message) => format!("not yet: {message}"),
                    (Status::Unknown, message) => format!("not known: {message}"),
                },
            ),
            timeline: status.timeline,
            omitted: status.omitted,
            findings: status.findings,
            conflicts: status.conflicts,
            debts: status.debts,
        }
    }

    /// The verdict in a word; before there is one, the phase.
    #[must_use]
    pub fn headline(&self) -> String {
        self.verdict.map_or_else(|| format!("{:?}", self.phase), |verdict| format!("{verdict:?}"))
    }
}

fn phases(status: &DrillStatus) -> Vec<Took> {
    let times = &status.times;
    let now = times.done.or(times.looked);
    let ends = [
        ("checking", times.declared, times.evacuating.or(times.done)),
        ("evacuating", times.evacuating, times.evacuated.or(times.returning).or(times.done)),
        ("evacuated", times.evacuated, times.returning.or(times.done)),
        ("returning", times.returning, times.done),
    ];
    let took = |(phase, from, to): (&'static str, Option<Timestamp>, Option<Timestamp>)| {
        let from = from?;
        let passed = (to.or(now)? - from).to_std().unwrap_or_default();
        let took = if to.is_some() { go_duration(passed) } else { format!("{} so far", go_duration(passed)) };
        Some(Took { phase, from, to, took })
    };
    ends.into_iter().filter_map(took).collect()
}

/// Every region's part of every route, before and without the leaving one; of several rules the mean.
fn shares(contract: &Contract) -> Vec<Shares> {
    let mut all = Vec::new();
    let traffic =
        contract.steps.iter().filter_map(|step| if let Work::Traffic(traffic) = &step.work { Some(traffic) } else { None });
    for route in traffic.flat_map(|traffic| &traffic.routes) {
        for region in contract.regions.keys() {
            let mean = |moved| {
                let rules = route.rules.iter().map(|rule| rule.share(region, &contract.leaving, &contract.split, moved));
                #[expect(clippy::cast_precision_loss, reason = "a route has few rules")]
                let percent = rules.sum::<f64>() * 100.0 / route.rules.len().max(1) as f64;
                (percent * 10.0).round() / 10.0
            };
            all.push(Shares {
                route: route.target.label(),
                region: region.to_string(),
                before_percent: mean(0),
                without_percent: mean(100),
            });
        }
    }
    all
}

fn gates(contract: &Contract, status: &DrillStatus) -> Vec<GateSaid> {
    let bounds = |gate: &Gate| match (&gate.min, &gate.max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "any number".to_owned(),
    };
    let said = |gate: &Gate| {
        let names = [format!("gate {}:", gate.name), format!("gate {}@", gate.name)];
        let of = |moment: &&Moment| names.iter().any(|name| moment.what.contains(name.as_str()));
        let line = |moment: &Moment| format!("{}: {}", clock(moment.at), moment.what);
        status.timeline.iter().filter(of).map(line).collect()
    };
    let one = |gate: &Gate| GateSaid {
        name: gate.name.clone(),
        role: format!("{:?}", gate.role.unwrap_or(Role::Other)),
        bounds: bounds(gate),
        said: said(gate),
    };
    contract.gates.iter().map(one).collect()
}

/// A time of day, as a report has it: its date stands at the top.
fn clock(at: Timestamp) -> String {
    at.format("%H:%M:%S").to_string()
}
