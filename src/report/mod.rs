//! What people read of a drill: a report as plain data, as text and as a page. Pure.

/// The report as a page: one file, without scripts, in light and dark.
mod html;
/// The report and its parts as text.
mod text;

pub use html::html;
pub use text::{bar, text};

use crate::api::{
    Basis, Direction, Drill, DrillStatus, Finding, Gate, Mode, Moment, Phase, Prediction, Role, Status, StepState, Verdict,
};
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
    /// What was predicted, beside what was measured; known from the Check before it.
    pub prediction: Option<Predicted>,
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

/// What the Check before a drill predicted of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Predicted {
    /// The Check.
    pub drill: String,
    /// When the fleet was copied.
    pub taken: Timestamp,
    /// What was predicted, beside what was measured.
    pub lines: Vec<Beside>,
    /// The survivor that would be busiest, in words: what it was is not measured.
    pub busiest: Option<String>,
    /// What the rehearsal leaves out.
    pub not_modelled: Vec<String>,
}

/// A prediction beside its measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beside {
    /// Of what.
    pub what: String,
    /// What was predicted; a dash for what would never be.
    pub predicted: String,
    /// What was measured; a dash for what was not.
    pub measured: String,
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
            prediction: None,
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

    /// With what the last Check of the same plan and region before it predicted; a Check has its own.
    #[must_use]
    pub fn beside(mut self, drills: &[Drill]) -> Self {
        let begun = self.phases.first().map(|took| took.from);
        let of = |drill: &Drill| {
            let name = drill.metadata.name.clone()?;
            let same = drill.spec.plan == self.plan && drill.spec.region == self.region && drill.spec.mode == Mode::Check;
            let prediction = drill.status.as_ref()?.prediction.clone()?;
            let before = name == self.drill || begun.is_some_and(|begun| prediction.taken <= begun);
            (same && before && (!self.is_check() || name == self.drill)).then_some((name, prediction))
        };
        let last = drills.iter().filter_map(of).max_by_key(|(name, prediction)| (prediction.taken, name.clone()));
        self.prediction = last.map(|(name, prediction)| self.compared(name, prediction));
        self
    }

    fn compared(&self, drill: String, prediction: Prediction) -> Predicted {
        let dash = || "-".to_owned();
        let beside = |what: &str, predicted: Option<String>, measured: Option<String>| Beside {
            what: what.to_owned(),
            predicted: predicted.unwrap_or_else(dash),
            measured: measured.unwrap_or_else(dash),
        };
        let word = |verdict: Verdict| format!("{verdict:?}");
        let mut lines = vec![
            beside("verdict", prediction.verdict.map(word), self.verdict.map(word)),
            beside("time to healthy", prediction.time_to_healthy, self.time_to_healthy.clone()),
        ];
        lines.extend(prediction.phases.into_iter().map(|one| {
            let measured = self.phases.iter().find(|took| took.phase == one.phase).map(|took| took.took.clone());
            beside(&one.phase, Some(one.took), measured)
        }));
        let busiest = prediction.busiest.map(|busy| {
            format!("{}: {} % of the users that a Ready pod had there when the fleet was copied", busy.region, busy.percent)
        });
        Predicted { drill, taken: prediction.taken, lines, busiest, not_modelled: prediction.not_modelled }
    }

    /// Whether it only looks.
    #[must_use]
    pub fn is_check(&self) -> bool {
        self.mode == "Check"
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::json;

    fn drill(name: &str, region: &str, mode: &str, status: &serde_json::Value) -> Drill {
        let object = json!({
            "apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": name},
            "spec": {"plan": "shop", "region": region, "mode": mode}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn check(name: &str, region: &str, minute: u32) -> Drill {
        let phases = json!([{"phase": "evacuating", "took": "40s"}, {"phase": "returning", "took": "50s"}]);
        let prediction = json!({
            "taken": format!("2026-11-24T08:{minute:02}:00Z"), "verdict": "Passed", "timeToHealthy": format!("{minute}s"),
            "phases": phases, "busiest": {"region": "us", "percent": 98}, "notModelled": ["the moon"],
        });
        drill(name, region, "Check", &json!({"phase": "Done", "prediction": prediction}))
    }

    #[test]
    fn the_last_check_before_a_drill_stands_beside_it() {
        let times = json!({"declared": "2026-11-24T08:30:00Z", "evacuating": "2026-11-24T08:30:02Z", "evacuated": "2026-11-24T08:30:44Z"});
        let status = json!({"phase": "Evacuated", "timeToHealthy": "44s", "times": times});
        let real = drill("real", "eu", "Exercise", &status);
        let all =
            [check("old", "eu", 10), check("last", "eu", 20), check("later", "eu", 31), check("other", "us", 25), real.clone()];
        let report = Report::of(&real, None).beside(&all);
        let predicted = report.prediction.clone().unwrap();
        assert_eq!(predicted.drill, "last");
        let lines: Vec<[&str; 3]> =
            predicted.lines.iter().map(|one| [one.what.as_str(), one.predicted.as_str(), one.measured.as_str()]).collect();
        assert_eq!(
            lines,
            [
                ["verdict", "Passed", "-"],
                ["time to healthy", "20s", "44s"],
                ["evacuating", "40s", "42s"],
                ["returning", "50s", "-"]
            ]
        );
        let said = text(&report, 100);
        assert!(
            said.contains("Predicted by Check last from a copy of the fleet of 2026-11-24T08:20:00Z, and measured"),
            "{said}"
        );
        assert!(said.contains("  time to healthy           20s               44s\n"), "{said}");
        assert!(html(&report).unwrap().contains("<td>time to healthy</td><td>20s</td><td>44s</td>"));
        assert!(Report::of(&real, None).beside(&all[2..]).prediction.is_none(), "a later one predicts nothing");
    }

    #[test]
    fn a_check_has_its_own_prediction_and_measures_nothing() {
        let all = [check("old", "eu", 10), check("last", "eu", 20)];
        let report = Report::of(&all[0], None).beside(&all);
        assert_eq!(report.prediction.as_ref().unwrap().drill, "old");
        let said = text(&report, 100);
        assert!(said.contains("nothing: a Check evacuates nothing") && said.contains("the moon"), "{said}");
        assert!(!said.contains("never seen healthy") && !said.contains("restored"), "{said}");
        assert!(html(&report).unwrap().contains("eu is looked at"));
    }
}
