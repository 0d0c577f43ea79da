/// What a rehearsal reads of a fleet, as a file too.
mod copy;

use self::copy::Copy;
use super::embedded::{Embedded, Instance, NAMESPACE};
use super::{cluster, columns, kubeconfig};
use crate::api::{Drill, DrillStatus, Finding, Phase, Verdict};
use crate::cluster::{Counters, Fleet, Internet};
use crate::decide::Contract;
use crate::report::{Report, Took, text};
use crate::seam::{Clock, Network, Seam};
use crate::sim::physics::Pace;
use crate::sim::{Fates, Sample};
use crate::terms::{Json, RegionName};
use crate::world::fill;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The drill would not pass.
const WOULD_NOT_PASS: u8 = 3;
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

/// Predict an evacuation: copy the fleet into memory, read only, and run the drill forward there.
///
/// Nothing is written anywhere. Secrets are read only to reach installed Regions, and never enter the copy.
///
/// Exit codes: 0 the drill would pass; 1 it could not be rehearsed; 2 the command line is wrong; 3 the drill would not pass.
#[derive(Debug, clap::Args)]
pub(super) struct Rehearse {
    /// The region to evacuate; absent means each of the plan's regions in turn.
    region: Option<String>,
    /// The plan; needed only where there are several.
    #[arg(long)]
    plan: Option<String>,
    /// The kubeconfig file; absent means KUBECONFIG or ~/.kube/config.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The context of the hub; absent means the current one.
    #[arg(long)]
    hub: Option<String>,
    /// How a region is reached, as `eu-west=context`; once for each. Absent means as its Region says.
    #[arg(long = "via")]
    via: Vec<String>,
    /// The operator's namespace, where the Secrets of Regions are.
    #[arg(long, default_value = NAMESPACE)]
    namespace: String,
    /// Keep the copy in this file, to look at it or to rehearse it again.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Rehearse a copy that was saved, instead of taking one.
    #[arg(long, conflicts_with_all = ["kubeconfig", "hub", "via", "plan", "save"])]
    from: Option<PathBuf>,
    /// How many requests a second each route has.
    #[arg(long, default_value_t = 1000.0)]
    requests: f64,
    /// Everything that happens follows from this.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// `json` for machines.
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

/// What is expected of a drill.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Prediction {
    plan: String,
    region: String,
    verdict: Option<Verdict>,
    reasons: Vec<String>,
    time_to_healthy: Option<String>,
    objective: Option<String>,
    phases: Vec<Took>,
    /// The busiest survivor at its busiest: its users per Ready pod, in percent of today's.
    busiest: Option<Busy>,
    /// The pods of each region: before, and at most.
    pods: BTreeMap<String, [usize; 2]>,
    findings: Vec<Finding>,
    not_modelled: Vec<String>,
    #[serde(skip)]
    report: Report,
}

#[derive(Clone, Debug, Serialize)]
struct Busy {
    region: String,
    percent: f64,
}

impl Rehearse {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let copy = self.copy()?;
        let plan = copy.plan()?;
        let regions = match &self.region {
            None => plan.spec.regions,
            Some(region) if plan.spec.regions.contains(region) => vec![region.clone()],
            Some(region) => {
                return Err(format!("plan {} has no region {region}; it has {}", copy.plan, plan.spec.regions.join(", ")));
            }
        };
        let human = self.output == "text";
        let mut predictions = Vec::new();
        for region in &regions {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let prediction = runtime.map_err(|error| error.to_string())?.block_on(self.forward(&copy, region))?;
            if human {
                show(&prediction, &copy, regions.len() == 1);
            }
            predictions.push(prediction);
        }
        if !human {
            anstream::println!("{}", serde_json::to_string_pretty(&predictions).map_err(|error| error.to_string())?);
        }
        let passes = predictions.iter().all(|prediction| prediction.verdict == Some(Verdict::Passed));
        Ok(ExitCode::from(if passes { 0 } else { WOULD_NOT_PASS }))
    }

    fn copy(&self) -> Result<Copy, String> {
        if let Some(path) = &self.from {
            let said = |error: String| format!("{}: {error}", path.display());
            return Copy::read(&std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?).map_err(said);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let copy = runtime.block_on(self.take())?;
        if let Some(path) = &self.save {
            let json = serde_json::to_string_pretty(&copy).map_err(|error| error.to_string())?;
            std::fs::write(path, json + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(copy)
    }

    /// Copies the fleet, reading only.
    async fn take(&self) -> Result<Copy, String> {
        let network: Arc<dyn Network> =
            Arc::new(Internet::new().map_err(|error| format!("the machine's certificates cannot be read: {error}"))?);
        let file = kubeconfig(self.kubeconfig.as_deref())?;
        let hub = cluster(&file, self.hub.as_deref(), &network, &Clock::Wall).await?;
        let seam = Seam::new(Clock::Wall, Arc::clone(&network), u64::from(std::process::id()));
        let mut copy = Copy::of_hub(&hub, self.plan.as_deref(), seam.clock.now()).await?;
        let fleet = Fleet::new(hub, &self.namespace, seam, Counters::default());
        let mut ways = BTreeMap::new();
        for text in &self.via {
            let (name, context) = text.split_once('=').unwrap_or((text, text));
            if !copy.regions.contains_key(name) {
                return Err(format!("--via {text}: the plan has no Region {name}"));
            }
            ways.insert(name.to_owned(), context.to_owned());
        }
        for object in copy.hub.clone().iter().filter(|object| object.get("kind").is_some_and(|kind| kind == "Region")) {
            let region: crate::api::Region = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
            let name = region.metadata.name.unwrap_or_default();
            let api = match ways.get(&name) {
                Some(context) => cluster(&file, Some(context), &network, &Clock::Wall).await?,
                None => fleet
                    .connect(&region.spec.cluster)
                    .await
                    .map_err(|error| format!("region {name}: {error}; name a context for it with --via {name}=CONTEXT"))?,
            };
            copy.add(&name, &api).await?;
        }
        Ok(copy)
    }

    /// Builds the copy anew, and waits until it stands; what it does not model is added.
    async fn build(&self, copy: &Copy, not_modelled: &mut Vec<String>) -> Result<(Embedded, Instance), String> {
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
        stands(&fleet).await;
        fleet.limit();
        Ok((fleet, instance))
    }

    /// Runs the drill in a copy, in its own time.
    async fn forward(&self, copy: &Copy, region: &str) -> Result<Prediction, String> {
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
        let (fleet, instance) = self.build(copy, &mut not_modelled).await?;
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
        let mut busiest: Option<Busy> = None;
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
                if busiest.as_ref().is_none_or(|most| percent > most.percent) {
                    busiest = Some(Busy { region, percent });
                }
            }
            for (region, now) in count(&fleet) {
                pods.entry(region).and_modify(|[_, most]| *most = now.max(*most));
            }
            if status.phase == Phase::Done || (fleet.clock.now() - begun).to_std().unwrap_or_default() > LIMIT {
                break serde_json::from_value(object).map_err(|error| error.to_string())?;
            }
        };
        instance.stop().await;
        let report = Report::of(&drill, contract(&fleet, &drill).as_ref());
        Ok(Prediction {
            plan: copy.plan.clone(),
            region: region.to_owned(),
            verdict: report.verdict,
            reasons: report.reasons.clone(),
            time_to_healthy: report.time_to_healthy.clone(),
            objective: report.objective.clone(),
            phases: report.phases.clone(),
            busiest,
            pods,
            findings: report.findings.clone(),
            not_modelled,
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
async fn stands(fleet: &Embedded) {
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
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The contract that the drill acted by, from the hub.
fn contract(fleet: &Embedded, drill: &Drill) -> Option<Contract> {
    let reference = drill.status.as_ref()?.contract.as_ref()?;
    let map = fleet.server("hub").ok()?.get("ConfigMap", NAMESPACE, &reference.config_map)?;
    Contract::parse(map.pointer("/data/contract")?.as_str()?, &reference.hash).ok()
}

fn show(prediction: &Prediction, copy: &Copy, whole: bool) {
    let width = columns().max(40);
    let options = textwrap::Options::new(width).subsequent_indent("      ");
    let line = |text: &str| anstream::println!("{}", textwrap::fill(text, &options));
    let fact = |name: &str, value: &str| line(&format!("  {name:<26}{value}"));
    let verdict = prediction.verdict.map_or_else(|| "no end".to_owned(), |verdict| format!("{verdict:?}"));
    line(&format!("Predicted without {}: {verdict}: {}", prediction.region, prediction.reasons.join("; ")));
    line(&format!(
        "From a copy of plan {} and its fleet of {}. Nothing was touched.",
        copy.plan,
        copy.taken.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    ));
    line("");
    let objective = prediction.objective.as_ref().map(|objective| format!(" (objective {objective})")).unwrap_or_default();
    fact("time to healthy", &format!("{}{objective}", prediction.time_to_healthy.as_deref().unwrap_or("never")));
    for took in &prediction.phases {
        fact(took.phase, &took.took);
    }
    if let Some(busy) = &prediction.busiest {
        fact("worst utilisation", &format!("{}: {:.0} % of the users a Ready pod has there today", busy.region, busy.percent));
    }
    for (region, [before, most]) in &prediction.pods {
        fact(&format!("pods in {region}"), &format!("{before} today, at most {most}"));
    }
    if whole && !prediction.report.timeline.is_empty() {
        line("");
        let said = text(&prediction.report, width);
        let from = said.find("What happened").unwrap_or(said.len());
        anstream::print!("{}", said.get(from..).unwrap_or_default());
    } else {
        for finding in &prediction.findings {
            line(&format!(
                "  {:?}: {}: {} {} {} {}",
                finding.severity, finding.check, finding.region, finding.object, finding.message, finding.remedy
            ));
        }
    }
    line("");
    line("Not modelled");
    for gap in &prediction.not_modelled {
        line(&format!("  {gap}"));
    }
    line("");
}
