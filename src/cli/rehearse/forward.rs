use super::copy::{self, Copy};
use crate::api::{Busiest, Drill, DrillStatus, Finding, Phase, PredictedPhase, Prediction};
use crate::cli::embedded::{Embedded, Instance, NAMESPACE};
use crate::decide::Contract;
use crate::report::Report;
use crate::seam::Clock;
use crate::sim::physics::Pace;
use crate::sim::{Fates, Sample};
use crate::terms::{Json, RegionName, Timestamp};
use crate::world::fill;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the copy may take to stand: slow images, singletons.
const STANDS: Duration = Duration::from_mins(15);
/// How long the drill may take, in the copy's time.
const LIMIT: Duration = Duration::from_hours(24);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How long a weight takes to reach most users.
const DELAY: Duration = Duration::from_secs(2);
/// The window of a route that names none.
const WINDOW: Duration = Duration::from_secs(30);
/// This part of the users follows a weight only at the end of its route's convergence.
const STRAGGLERS: f64 = 0.05;

/// How many requests a second each route is taken to have.
pub(super) const REQUESTS: f64 = 1000.0;

/// A copy of a fleet, and how it is run forward.
#[derive(Clone, Debug)]
pub(super) struct Rehearsal {
    /// The copy.
    pub copy: Copy,
    /// How many requests a second each route has.
    pub requests: f64,
    /// Everything that happens follows from this.
    pub seed: u64,
    /// How long it may be worked at, of the machine's time.
    pub patience: Option<Duration>,
}

/// What is expected of a drill, and what of it only a person reads.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Forecast {
    pub plan: String,
    pub region: String,
    #[serde(flatten)]
    pub prediction: Prediction,
    pub objective: Option<String>,
    /// The pods of each region: before, and at most.
    pub pods: BTreeMap<String, [usize; 2]>,
    pub findings: Vec<Finding>,
    #[serde(skip)]
    pub report: Report,
}

impl Rehearsal {
    /// Runs the drill of a region in time of its own.
    ///
    /// # Errors
    /// Why it cannot be, for people.
    pub fn run(&self, region: &str) -> Result<Forecast, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.map_err(|error| error.to_string())?.block_on(self.forward(region))
    }

    /// Whether it may still be worked at, by the machine's clock: the copy has another.
    fn goes_on(&self, begun: Timestamp) -> Result<(), String> {
        let worked = (Clock::Wall.now() - begun).to_std().unwrap_or_default();
        match self.patience {
            Some(patience) if worked > patience => {
                Err(format!("it takes more than {} s of work; `firedrill rehearse` has no such limit", patience.as_secs()))
            }
            _ => Ok(()),
        }
    }

    /// Builds the copy anew, and waits until it stands; what it does not model is added.
    async fn build(&self, not_modelled: &mut Vec<String>, working: Timestamp) -> Result<(Embedded, Instance), String> {
        let copy = &self.copy;
        let mut fleet = Embedded::with(self.seed, copy.taken, &copy.layout()?)?;
        fleet.edge.requests(self.requests);
        fleet.edge.delay(DELAY);
        let routes = copy.routes()?;
        let longest = routes.iter().filter_map(|route| route.spec.convergence.map(Duration::from)).max();
        if let Some(longest) = longest {
            fleet.edge.stragglers(STRAGGLERS, longest);
        }
        for route in &routes {
            for backend in &route.spec.backends {
                let name = RegionName::try_from(backend.region.as_str()).map_err(|error| error.to_string())?;
                if let Some(confirm) = &route.spec.confirm {
                    let window = confirm.window.map_or(WINDOW, Duration::from);
                    let query = fill(&confirm.query, &name, &backend.name);
                    fleet.prometheus.set(&query, Sample::Requests(backend.name.clone(), window));
                }
            }
        }
        not_modelled.extend(gates(copy, &fleet)?);
        let unknown: BTreeSet<String> = images(copy).filter(|image| !copy.starts.contains_key(image)).collect();
        if !unknown.is_empty() {
            let names = unknown.into_iter().collect::<Vec<_>>().join(", ");
            not_modelled.push(format!("how long these images start, since no pod of theirs was Ready: {names} (10 s each)"));
        }
        let starts = copy.starts.iter().map(|(image, seconds)| (image.clone(), Duration::from_secs(*seconds)));
        fleet.start(&Pace { images: starts.collect(), ..Pace::default() });
        let instance = fleet.operator("rehearsal", &Fates::calm());
        stands(&fleet, || self.goes_on(working)).await?;
        fleet.limit();
        Ok((fleet, instance))
    }

    /// Runs the drill in a copy, in its own time.
    async fn forward(&self, region: &str) -> Result<Forecast, String> {
        let copy = &self.copy;
        let working = Clock::Wall.now();
        let late = STRAGGLERS * 100.0;
        let mut not_modelled = vec![
            "what pods do beyond starting: each carries today's users and the headroom that static stability asks for, no more"
                .to_owned(),
            "autoscaling by load: autoscalers keep to their bounds".to_owned(),
            "affinity between pods, topology spread, volumes, quotas, priorities, new nodes: nodes are those there are"
                .to_owned(),
            format!(
                "who the users are: {} requests a second on each route, {late} % follow only after its convergence",
                self.requests
            ),
            "what connects regions: databases, queues, calls between services".to_owned(),
            "how long Jobs run: 20 s each".to_owned(),
        ];
        let (fleet, instance) = self.build(&mut not_modelled, working).await?;
        let busy = |fleet: &Embedded| -> Vec<(String, f64)> {
            let survivors = fleet.servers.keys().filter(|name| *name != "hub" && *name != region);
            survivors.filter_map(|name| Some((name.clone(), fleet.edge.load(name)? * 100.0 * fleet.headroom()))).collect()
        };
        let count = |fleet: &Embedded| -> BTreeMap<String, usize> {
            let regions = fleet.servers.iter().filter(|(name, _)| *name != "hub");
            regions
                .map(|(name, server)| {
                    (
                        name.clone(),
                        server
                            .list("Pod", "")
                            .iter()
                            .filter(|pod| pod.pointer("/metadata/namespace").is_some_and(|namespace| namespace != copy::ROOM))
                            .count(),
                    )
                })
                .collect()
        };
        let before = count(&fleet);
        let mut pods: BTreeMap<String, [usize; 2]> =
            before.iter().map(|(name, count)| (name.clone(), [*count, *count])).collect();
        let mut busiest: Option<(String, f64)> = None;
        let name = format!("rehearsal-{region}");
        fleet.drill_of(&name, &copy.plan, region)?;
        let begun = fleet.clock.now();
        let hub = fleet.server("hub")?.clone();
        let drill: Drill = loop {
            tokio::time::sleep(LOOK).await;
            let object = hub.get("Drill", "", &name).unwrap_or_default();
            let status: DrillStatus =
                serde_json::from_value(object.get("status").cloned().unwrap_or_default()).unwrap_or_default();
            for (region, percent) in busy(&fleet) {
                if busiest.as_ref().is_none_or(|(_, most)| percent > *most) {
                    busiest = Some((region, percent));
                }
            }
            for (region, now) in count(&fleet) {
                pods.entry(region).and_modify(|[_, most]| *most = now.max(*most));
            }
            if status.phase == Phase::Done || (fleet.clock.now() - begun).to_std().unwrap_or_default() > LIMIT {
                break serde_json::from_value(object).map_err(|error| error.to_string())?;
            }
            self.goes_on(working)?;
        };
        instance.stop().await;
        let report = Report::of(&drill, contract(&fleet, &drill).as_ref());
        let phases = report.phases.iter().map(|took| PredictedPhase { phase: took.phase.to_owned(), took: took.took.clone() });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "percents, and casts from floats saturate")]
        let busiest = busiest.map(|(region, percent)| Busiest { region, percent: percent.round() as u32 });
        Ok(Forecast {
            plan: copy.plan.clone(),
            region: region.to_owned(),
            prediction: Prediction {
                taken: copy.taken,
                verdict: report.verdict,
                reasons: report.reasons.clone(),
                time_to_healthy: report.time_to_healthy.clone(),
                phases: phases.collect(),
                busiest,
                not_modelled,
            },
            objective: report.objective.clone(),
            pods,
            findings: report.findings.clone(),
            report,
        })
    }
}

/// Gates of errors are answered by the edge; the others are taken for green, and told.
fn gates(copy: &Copy, fleet: &Embedded) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    for gate in copy.plan()?.spec.gates.unwrap_or_default() {
        let is_errors = gate.max.is_some() && (gate.query.contains("error") || gate.query.contains("5.."));
        for region in copy.regions.keys() {
            let name = RegionName::try_from(region.as_str()).map_err(|error| error.to_string())?;
            let query = fill(&gate.query, &name, "");
            let green = gate.max.as_ref().or(gate.min.as_ref()).and_then(|bound| bound.parse().ok()).unwrap_or(0.0);
            let about = gate.query.contains("${region}").then(|| region.clone());
            fleet.prometheus.set(&query, if is_errors { Sample::Errors(about) } else { Sample::Value(green) });
        }
        told.push(if is_errors {
            format!("gate {}: it is asked for requests beyond what pods carry, and nothing else fails", gate.name)
        } else {
            format!("gate {}: it is taken for green throughout", gate.name)
        });
    }
    Ok(told)
}

fn images(copy: &Copy) -> impl Iterator<Item = String> {
    let templates = copy.regions.values().flatten().filter_map(|object| object.pointer("/spec/template/spec/containers/0/image"));
    templates.filter_map(Json::as_str).map(str::to_owned)
}

/// Waits until every workload has its pods and every singleton its holder, or nothing more comes of waiting.
async fn stands(fleet: &Embedded, goes_on: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let end = fleet.clock.now() + chrono::TimeDelta::from_std(STANDS).unwrap_or_default();
    let is_up = |object: &Json| {
        let of = |pointer: &str| object.pointer(pointer).and_then(Json::as_u64);
        of("/status/readyReplicas").unwrap_or(0) >= of("/spec/replicas").unwrap_or(1)
    };
    // A look at the regions by the operator takes some seconds in any case.
    tokio::time::sleep(Duration::from_secs(30)).await;
    while fleet.clock.now() < end {
        let workloads =
            fleet.servers.values().flat_map(|server| ["Deployment", "StatefulSet"].map(|kind| server.list(kind, "")).concat());
        let singletons = fleet.servers.get("hub").map(|hub| hub.list("SingletonWorkload", "")).unwrap_or_default();
        let held = singletons.iter().all(|one| one.pointer("/status/stage").is_some_and(|stage| stage == "Held"));
        if held && workloads.into_iter().all(|object| is_up(&object)) {
            break;
        }
        goes_on()?;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The contract that the drill acted by, from the hub.
fn contract(fleet: &Embedded, drill: &Drill) -> Option<Contract> {
    let reference = drill.status.as_ref()?.contract.as_ref()?;
    let map = fleet.server("hub").ok()?.get("ConfigMap", NAMESPACE, &reference.config_map)?;
    Contract::parse(map.pointer("/data/contract")?.as_str()?, &reference.hash).ok()
}
