use crate::api::{DrillStatus, Phase, Verdict, WorkloadKind};
use crate::cli::embedded::{Embedded, Instance, REGIONS};
use crate::cli::layout::Layout;
use crate::sim::{Fates, Sample};
use crate::terms::Timestamp;
use chrono::TimeDelta;
use clap::ValueEnum;
use serde_json::json;

/// The query of the gate that the shop's plan has.
const ERRORS: &str = "error_ratio";
/// How long a survivor is cut off.
const CUT: TimeDelta = TimeDelta::minutes(2);

/// What happens during a drill of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Scenario {
    /// Nothing goes wrong: out, soak, back.
    Calm,
    /// Errors rise in mid-shift: the gate turns red, and users go back at once.
    RedGate,
    /// A survivor is cut off in mid-shift for two minutes: nothing is raised towards it meanwhile.
    Partition,
    /// A `CronJob` and a consumer that must run once in the world are handed over, and come home.
    Singleton,
    /// The survivors have no room for the region's users: the drill is refused, and nothing is written.
    TooSmall,
    /// The operator's leader is killed in mid-shift: a standby takes over.
    LeaderDies,
}

impl Scenario {
    /// How its drill ends if all is as it should be.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Calm | Self::Partition | Self::Singleton | Self::LeaderDies => Verdict::Passed,
            Self::RedGate => Verdict::Aborted,
            Self::TooSmall => Verdict::Refused,
        }
    }

    /// What the shop has for it besides.
    pub fn furnish(self, layout: &mut Layout, region: &str) {
        if self == Self::Singleton {
            let mut regions = REGIONS;
            regions.sort_by_key(|name| *name != region);
            layout.lead(WorkloadKind::CronJob, "nightly", &regions);
            layout.lead(WorkloadKind::Deployment, "consumer", &regions);
        }
    }

    /// What becomes of the fleet before anything runs.
    pub fn prepare(self, fleet: &Embedded, region: &str) -> Result<(), String> {
        if self != Self::TooSmall {
            return Ok(());
        }
        for (name, server) in fleet.servers.iter().filter(|(name, _)| *name != "hub" && *name != region) {
            for node in 0..3 {
                let small = json!({"status": {"allocatable": {"cpu": "750m", "memory": "2Gi"}}});
                server
                    .edit("Node", "", &format!("{name}-{node}"), |node| json_patch::merge(node, &small))
                    .map_err(|refusal| format!("{name}: {refusal:?}"))?;
            }
        }
        Ok(())
    }
}

/// The instances of the operator, and what has been done to them and the fleet.
pub(super) struct Stage {
    scenario: Scenario,
    instances: Vec<Instance>,
    struck: Option<Timestamp>,
    healed: bool,
}

impl Stage {
    /// Starts the operator: one instance, with a standby where the first is to die.
    pub fn start(scenario: Scenario, fleet: &Embedded, fates: &Fates) -> Self {
        let names: &[&str] = if scenario == Scenario::LeaderDies { &["leader", "standby"] } else { &["leader"] };
        let instances = names.iter().map(|name| fleet.operator(name, fates)).collect();
        Self { scenario, instances, struck: None, healed: false }
    }

    /// Does what is due as the drill stands; what was done, for people.
    pub fn act(&mut self, fleet: &Embedded, region: &str, status: &DrillStatus) -> Option<String> {
        let now = fleet.clock.now();
        let moved = status.steps.iter().filter_map(|step| step.level).map(|level| level.moved_percent).max().unwrap_or(0);
        let survivor = fleet.servers.keys().find(|name| *name != "hub" && *name != region).cloned().unwrap_or_default();
        let links = || self.instances.iter().filter_map(|instance| instance.links.get(&survivor));
        match (self.scenario, self.struck) {
            (Scenario::Calm | Scenario::Singleton | Scenario::TooSmall, _) | (Scenario::LeaderDies, Some(_)) => None,
            (_, None) if status.phase != Phase::Evacuating || moved < 20 => None,
            (Scenario::RedGate, None) => {
                fleet.prometheus.set(ERRORS, Sample::Value(0.2));
                self.struck = Some(now);
                Some("errors rise to 20 %".to_owned())
            }
            (Scenario::RedGate, Some(_)) => {
                if status.phase == Phase::Returning && !self.healed {
                    self.healed = true;
                    fleet.prometheus.unset(ERRORS);
                }
                None
            }
            (Scenario::Partition, None) => {
                links().for_each(crate::sim::Link::partition);
                self.struck = Some(now);
                Some(format!("{survivor} is cut off"))
            }
            (Scenario::Partition, Some(since)) => {
                if self.healed || now - since < CUT {
                    return None;
                }
                links().for_each(crate::sim::Link::heal);
                self.healed = true;
                Some(format!("{survivor} is reached again"))
            }
            (Scenario::LeaderDies, None) => {
                if let Some(leader) = self.instances.first() {
                    leader.kill();
                }
                self.struck = Some(now);
                Some("the operator's leader is killed".to_owned())
            }
        }
    }

    /// Ends every instance, as SIGTERM would.
    pub async fn stop(self) {
        for instance in self.instances {
            instance.stop().await;
        }
    }
}
