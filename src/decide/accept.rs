use super::contract::{Confirmation, Contract, FORMAT, Limits, Replicas, Route, Size, Step, Traffic, Work};
use super::gate::{Colour, colour};
use crate::api::{
    ClusterRef, Cordon, DrillSpec, EvacuationPlanSpec, Finding, Mode, NoData, PaceStep, Severity, TrafficRouteSpec,
};
use crate::check::capacity::{self, Site};
use crate::check::{blocker, warning, writable};
use crate::claim::{self, Write};
use crate::dialect::size;
use crate::dialect::traffic::http_route;
use crate::terms::{ClusterUid, Kind, Object, Owner, RegionName, Target, Term, Timestamp};
use crate::world::{Blind, List, Needs, Reading, World};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The largest stored contract, in bytes: a `ConfigMap` may have a mebibyte.
const LARGEST: usize = 900 * 1024;

/// A drill that applies to be run, and what the hub says about everything it names.
#[derive(Clone, Debug)]
pub struct Application {
    /// The drill.
    pub drill: Owner,
    /// Its spec.
    pub spec: DrillSpec,
    /// Its plan, if there is one of that name.
    pub plan: Option<EvacuationPlanSpec>,
    /// All regions of the hub.
    pub regions: BTreeMap<RegionName, RegionFacts>,
    /// All `TrafficRoute`s of the plan's namespaces.
    pub routes: Vec<RouteFacts>,
    /// The hub's cluster.
    pub hub: ClusterUid,
    /// The Prometheus to ask where the plan names none.
    pub prometheus: Option<String>,
    /// Why the plan's Prometheus must not be asked.
    pub prometheus_refused: Option<String>,
    /// The drill that acts just now.
    pub busy: Option<String>,
}

/// A region as the hub knows it.
#[derive(Clone, Debug)]
pub struct RegionFacts {
    /// How its cluster is reached.
    pub access: ClusterRef,
    /// Its cluster, once reached.
    pub cluster: Option<ClusterUid>,
    /// Why it is not ready; empty if it is.
    pub problem: String,
}

/// A `TrafficRoute` as the hub has it.
#[derive(Clone, Debug)]
pub struct RouteFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: TrafficRouteSpec,
}

/// What is parsed of an application before the world is looked at.
struct Parsed<'a> {
    plan: &'a EvacuationPlanSpec,
    leaving: RegionName,
    regions: BTreeMap<RegionName, ClusterUid>,
    prometheus: Option<String>,
    routes: Vec<(&'a RouteFacts, Target)>,
}

/// What must be looked at before a drill is accepted; nothing while what it names does not exist.
#[must_use]
pub fn needs_accept(application: &Application, now: Timestamp) -> Needs {
    let mut needs = Needs::default();
    let Ok(parsed) = parse(application, now) else { return needs };
    for cluster in parsed.regions.values() {
        needs.lists.extend(size::lists(cluster, &parsed.plan.namespaces, true));
    }
    needs.objects.extend(parsed.routes.iter().map(|(_, target)| target.clone()));
    if let Ok(contract) = bare(application, &parsed) {
        needs.queries.extend(contract.gates.iter().flat_map(|gate| contract.gate_queries(gate)).map(|(_, query)| query));
        for (facts, _) in &parsed.routes {
            let confirm = confirmation(&facts.spec);
            needs.queries.extend(confirm.iter().flat_map(|c| contract.request_queries(c)).map(|(_, query)| query));
        }
    }
    needs
}

/// Accepts a drill: everything is resolved once, and what would go wrong is found.
///
/// # Errors
/// All findings, blockers first, if one of them is a blocker.
pub fn accept(application: &Application, world: &World, now: Timestamp) -> Result<(Contract, Vec<Finding>), Vec<Finding>> {
    let parsed = parse(application, now)?;
    let mut contract = bare(application, &parsed)?;
    let mut findings = Vec::new();
    if let Some(busy) = &application.busy {
        findings.push(blocker(
            "Busy",
            "",
            "",
            format!("drill {busy} acts just now; one at a time"),
            "Create the drill again when it is over.",
        ));
    }
    let sites = sites(&parsed, world, &mut findings);
    if let Some(leaving) = sites.get(&parsed.leaving) {
        contract.split = split(&parsed, leaving, &sites, &mut findings);
        let routes = routes(&parsed, &contract, world, &mut findings);
        headroom(&parsed, &mut contract, leaving, &sites, &routes, &mut findings);
        cordon(&parsed, &mut contract, world, &mut findings);
        traffic(&parsed, &mut contract, routes);
    }
    gates(&contract, world, &mut findings);
    remember(&mut contract, world);
    if let Err(error) = contract.check_graph() {
        findings.push(blocker("Plan", "", "", error.to_string(), "This is a bug of firedrill: report it."));
    }
    findings.sort();
    if findings.iter().any(|finding| finding.severity == Severity::Blocker) { Err(findings) } else { Ok((contract, findings)) }
}

/// The first write of every object, as it will be at the end of the way out: to be run dry.
///
/// # Errors
/// Findings of the checks `Writable` and `ClaimFits`.
pub fn first_writes(contract: &Contract, world: &World) -> Result<Vec<Write>, Vec<Finding>> {
    let mut writes = Vec::new();
    let mut findings = Vec::new();
    for (target, changes) in contract.steps.iter().flat_map(|step| contract.changes(step, 0, 100)) {
        let region = contract.region_of(&target.cluster);
        let Ok(Some(object)) = world.object(&target) else { continue };
        match claim::write(object, &target, &contract.drill, Term::default(), &changes, &[]) {
            Ok(write) => writes.extend(write),
            Err(refusal) => findings.push(writable::refused(region, &target, &refusal)),
        }
    }
    if findings.is_empty() { Ok(writes) } else { Err(findings) }
}

/// Completes a contract by what the dry runs answered: what each first write takes from other managers.
///
/// # Errors
/// Findings of the check `Writable`, and a contract that is too large.
pub fn seal(
    mut contract: Contract,
    world: &World,
    dry: &BTreeMap<Target, Result<Object, String>>,
) -> Result<Contract, Vec<Finding>> {
    let mut findings = Vec::new();
    for (target, answer) in dry {
        match (answer, world.object(target)) {
            (Ok(after), Ok(Some(before))) => {
                let taken = claim::taken(before, after);
                if !taken.is_empty() {
                    contract.taken.insert(target.clone(), taken);
                }
            }
            (Err(message), _) => findings.push(writable::dry_run(contract.region_of(&target.cluster), target, message)),
            (Ok(_), _) => {}
        }
    }
    let length = serde_json::to_string(&contract).map_or(usize::MAX, |text| text.len());
    if length > LARGEST {
        let message = format!("the contract is {length} bytes long, at most {LARGEST} can be stored");
        findings.push(blocker("ClaimFits", "", "", message, "Split the plan by namespaces."));
    }
    if findings.is_empty() { Ok(contract) } else { Err(findings) }
}

fn parse(application: &Application, now: Timestamp) -> Result<Parsed<'_>, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut block = |check: &str, object: &str, message: String, remedy: &str| {
        findings.push(blocker(check, "", object, message, remedy));
    };
    let spec = &application.spec;
    if let Some(start) = &spec.start {
        let within = start.within.map_or(Duration::from_hours(1), Duration::from);
        if super::gate::elapsed(start.at, now) > within && spec.mode == Mode::Exercise {
            let message = format!("its start at {} is more than {} ago", start.at.to_rfc3339(), super::go_duration(within));
            block("TooLate", "", message, "Create a drill with a start in the future.");
        }
    }
    let Some(plan) = &application.plan else {
        block("Plan", &spec.plan, format!("there is no EvacuationPlan {}", spec.plan), "Create it, or correct spec.plan.");
        return Err(findings);
    };
    if let Some(reason) = &application.prometheus_refused {
        block(
            "Prometheus",
            "",
            reason.clone(),
            "Add its host to the operator's allow list (Helm value prometheus.allowedHosts).",
        );
    }
    let mut regions = BTreeMap::new();
    for name in &plan.regions {
        let known =
            RegionName::try_from(name.as_str()).ok().and_then(|name| Some((name.clone(), application.regions.get(&name)?)));
        match known {
            None => block("Region", name, format!("there is no Region {name}"), "Create it, or correct the plan's regions."),
            Some((region, RegionFacts { cluster: Some(cluster), problem, .. })) if problem.is_empty() => {
                if let Some((other, _)) = regions.iter().find(|(_, uid)| *uid == cluster) {
                    let message = format!("regions {other} and {region} are on the same cluster");
                    block("Region", name, message, "Give each region its own cluster.");
                }
                regions.insert(region, cluster.clone());
            }
            Some((region, facts)) => {
                let message = format!("region {region} is not ready: {}", facts.problem);
                block("Region", name, message, "See `kubectl describe region`.");
            }
        }
    }
    let leaving = RegionName::try_from(spec.region.as_str()).ok().filter(|name| plan.regions.iter().any(|r| r == name.as_str()));
    let Some(leaving) = leaving else {
        let message = format!("region {} is not one of the plan's: {}", spec.region, plan.regions.join(", "));
        block("Region", &spec.region, message, "Correct spec.region.");
        return Err(findings);
    };
    let prometheus = plan.prometheus.as_ref().map(|prometheus| prometheus.url.clone()).or(application.prometheus.clone());
    let asks = plan.gates.as_ref().is_some_and(|gates| !gates.is_empty())
        || application.routes.iter().any(|route| route.spec.confirm.is_some());
    if asks && prometheus.is_none() {
        block(
            "Prometheus",
            "",
            "gates or confirmations ask Prometheus, and no address is known".to_owned(),
            "Set the plan's prometheus.url or the Helm value prometheus.url.",
        );
    }
    if application.routes.is_empty() {
        let message = format!("no TrafficRoute in the plan's namespaces ({})", plan.namespaces.join(", "));
        block("Traffic", "", message, "Create one for each route that users come by.");
    }
    let mut routes: Vec<(&RouteFacts, Target)> = Vec::new();
    for facts in &application.routes {
        let label = format!("TrafficRoute {}/{}", facts.namespace, facts.name);
        let cluster = match &facts.spec.cluster {
            None => Some(application.hub.clone()),
            Some(name) => RegionName::try_from(name.as_str()).ok().and_then(|name| regions.get(&name).cloned()),
        };
        let Some(cluster) = cluster else {
            let message =
                format!("{label} lives in {}, which is no ready region of the plan", facts.spec.cluster.as_deref().unwrap_or(""));
            block("Traffic", &label, message, "Correct spec.cluster.");
            continue;
        };
        let target = Target {
            cluster,
            kind: Kind::HTTPRoute,
            namespace: Some(facts.namespace.clone()),
            name: facts.spec.http_route.name.clone(),
        };
        if let Some((other, _)) = routes.iter().find(|(_, other)| *other == target) {
            let message = format!("{label} and TrafficRoute {} name the same {}", other.name, target.label());
            block("Traffic", &label, message, "Keep one of them.");
        }
        routes.push((facts, target));
    }
    if findings.is_empty() { Ok(Parsed { plan, leaving, regions, prometheus, routes }) } else { Err(findings) }
}

/// The contract before anything of the world is in it.
fn bare(application: &Application, parsed: &Parsed<'_>) -> Result<Contract, Vec<Finding>> {
    let plan = parsed.plan;
    let objectives = plan.objectives.clone().unwrap_or_default();
    let or = |duration: Option<kube::core::Duration>, seconds: u64| duration.map_or(Duration::from_secs(seconds), Duration::from);
    let declared = match (&application.spec.start, application.spec.mode) {
        (Some(start), _) => start.at,
        (None, Mode::Check) => Timestamp::UNIX_EPOCH,
        (None, Mode::Exercise) => {
            return Err(vec![blocker("Drill", "", "", "mode Exercise needs start.at", "Set spec.start.at.")]);
        }
    };
    Ok(Contract {
        format: FORMAT,
        drill: application.drill.clone(),
        plan: application.spec.plan.clone(),
        mode: application.spec.mode,
        scenario: application.spec.scenario.unwrap_or_default(),
        leaving: parsed.leaving.clone(),
        hub: application.hub.clone(),
        regions: parsed.regions.clone(),
        access: application
            .regions
            .iter()
            .filter(|(region, _)| parsed.regions.contains_key(region))
            .map(|(region, facts)| (region.clone(), facts.access.clone()))
            .collect(),
        namespaces: plan.namespaces.clone(),
        split: BTreeMap::new(),
        steps: Vec::new(),
        replicas: BTreeMap::new(),
        gates: plan.gates.clone().unwrap_or_default(),
        prometheus: parsed.prometheus.clone(),
        uids: BTreeMap::new(),
        taken: BTreeMap::new(),
        limits: Limits {
            declared,
            time_to_healthy: or(objectives.time_to_healthy, 600),
            stable_for: or(objectives.stable_for, 120),
            soak: or(plan.soak, 1800),
            deadline: or(plan.deadline, 7200),
            failback: plan.failback.unwrap_or_default(),
            contention: plan.guards.as_ref().and_then(|guards| guards.contention).unwrap_or_default(),
        },
    })
}

fn sites(parsed: &Parsed<'_>, world: &World, findings: &mut Vec<Finding>) -> BTreeMap<RegionName, Site> {
    let mut sites = BTreeMap::new();
    for (region, cluster) in &parsed.regions {
        let site = size::workloads(world, cluster, &parsed.plan.namespaces)
            .and_then(|workloads| Ok(Site { workloads, rooms: size::rooms(world, cluster)? }));
        match site {
            Ok(site) => {
                sites.insert(region.clone(), site);
            }
            Err(blind) => findings.push(blocker(
                "Capacity",
                region.as_str(),
                "",
                format!("workloads and nodes of {region} cannot be seen: {blind}"),
                "A drill starts only with every region in sight.",
            )),
        }
    }
    sites
}

fn split(
    parsed: &Parsed<'_>,
    leaving: &Site,
    sites: &BTreeMap<RegionName, Site>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<RegionName, u64> {
    let split: BTreeMap<RegionName, u64> = sites
        .iter()
        .filter(|(region, _)| **region != parsed.leaving)
        .map(|(region, site)| (region.clone(), capacity::free(leaving, site)))
        .collect();
    let serving = split.values().filter(|part| **part > 0).count();
    let least = parsed.plan.guards.as_ref().and_then(|guards| guards.min_serving).unwrap_or(1);
    if u32::try_from(serving).unwrap_or(u32::MAX) < least {
        findings.push(blocker(
            "Capacity",
            "",
            "",
            format!("{serving} regions could take over the load of {}, guards.minServing is {least}", parsed.leaving),
            "Make room in more regions, or lower guards.minServing.",
        ));
    }
    split
}

fn confirmation(spec: &TrafficRouteSpec) -> Option<Confirmation> {
    spec.confirm.as_ref().map(|confirm| Confirmation {
        query: confirm.query.clone(),
        window: confirm.window.map_or(Duration::from_secs(30), Duration::from),
        minimum: confirm.minimum_requests.unwrap_or(20),
        tolerance: confirm.split_tolerance_percent.unwrap_or(5),
        backends: spec
            .backends
            .iter()
            .filter_map(|backend| Some((RegionName::try_from(backend.region.as_str()).ok()?, backend.name.clone())))
            .collect(),
    })
}

fn routes(parsed: &Parsed<'_>, contract: &Contract, world: &World, findings: &mut Vec<Finding>) -> Vec<Route> {
    let mut routes = Vec::new();
    for (facts, target) in &parsed.routes {
        let label = target.label();
        let mut block = |message: String, remedy: &str| findings.push(blocker("Traffic", "", &label, message, remedy));
        let object = match world.object(target) {
            Ok(Some(object)) => object,
            Ok(None) => {
                block(format!("{label} does not exist"), "Correct the TrafficRoute's httpRoute.name.");
                continue;
            }
            Err(Blind::NotInstalled) => {
                block(
                    "Gateway API is not installed in that cluster".to_owned(),
                    "Install its CRDs, or correct the TrafficRoute's cluster.",
                );
                continue;
            }
            Err(blind) => {
                block(format!("{label} {blind}"), "");
                continue;
            }
        };
        let mut backends = BTreeMap::new();
        for backend in &facts.spec.backends {
            match RegionName::try_from(backend.region.as_str()).ok().filter(|region| parsed.regions.contains_key(region)) {
                Some(region) => {
                    backends.insert(backend.name.clone(), region);
                }
                None => block(
                    format!("{label}: backend {} serves from {}, which is no region of the plan", backend.name, backend.region),
                    "Correct the TrafficRoute's backends.",
                ),
            }
        }
        let named: BTreeSet<&str> = object
            .list("/spec/rules")
            .iter()
            .filter_map(|rule| rule.get("backendRefs")?.as_array())
            .flatten()
            .filter_map(|reference| reference.get("name")?.as_str())
            .collect();
        for missing in backends.keys().filter(|name| !named.contains(name.as_str())) {
            block(format!("{label} has no backend {missing}"), "Correct the TrafficRoute's backends, or add it to the route.");
        }
        let rules = match http_route::baseline(object, &backends, &parsed.leaving, &contract.split) {
            Ok(rules) => rules,
            Err(problem) => {
                block(format!("{label}: {problem}"), "");
                continue;
            }
        };
        let confirm = confirmation(&facts.spec);
        match &confirm {
            None => findings.push(warning(
                "Traffic",
                "",
                &label,
                format!("{label}: nothing confirms where requests go, so no drill of this plan can be Passed"),
                "Set the TrafficRoute's confirm.query.",
            )),
            Some(confirm) => {
                for (region, query) in contract.request_queries(confirm) {
                    let problem = match world.reading(&query) {
                        Ok(Reading::Value(_)) => continue,
                        Ok(Reading::NoData) => "answers no series (an absent one is no zero: add `or vector(0)`)".to_owned(),
                        Ok(Reading::Several(count)) => format!("answers {count} series, it must be one: aggregate it"),
                        Ok(Reading::NotFinite) => "answers no finite number".to_owned(),
                        Err(blind) => format!("is not answered: {blind}"),
                    };
                    findings.push(blocker(
                        "Traffic",
                        region.as_str(),
                        &label,
                        format!("{label}: confirm.query for {region} {problem}"),
                        "Try the query in Prometheus.",
                    ));
                }
            }
        }
        routes.push(Route {
            target: target.clone(),
            rules,
            convergence: facts.spec.convergence.map_or(Duration::from_secs(10), Duration::from),
            confirm,
        });
    }
    routes
}

fn headroom(
    parsed: &Parsed<'_>,
    contract: &mut Contract,
    leaving: &Site,
    sites: &BTreeMap<RegionName, Site>,
    routes: &[Route],
    findings: &mut Vec<Finding>,
) {
    let settings = parsed.plan.capacity.clone().unwrap_or_default();
    let (mode, margin) = (settings.mode.unwrap_or_default(), settings.margin_percent.unwrap_or(10));
    let mut sizes = Vec::new();
    for (region, site) in sites {
        let mut wants = Vec::new();
        let mut counts = Vec::new();
        let (part, whole) = largest_part(region, contract, routes);
        for workload in &site.workloads {
            let from = capacity::counterpart(leaving, workload).map_or(0, |other| other.replicas);
            // The leaving region keeps what it has: its own floor is held, so that the way back is instant.
            let out = *region == parsed.leaving;
            let want = if out { workload.replicas } else { capacity::want(workload.replicas, from, part, whole, margin) };
            counts.push(Replicas { target: workload.target.clone(), base: workload.replicas, want });
            let (target, spot, was) = workload.size();
            if want > was.unwrap_or(1) && want > 0 {
                sizes.push(Size { region: region.clone(), target, spot, was, to: want });
            }
            wants.push((workload.clone(), want));
        }
        contract.replicas.insert(region.clone(), counts);
        if *region != parsed.leaving {
            findings.extend(capacity::check(region, site, leaving, &wants, mode));
        }
    }
    contract.steps.push(Step {
        name: "headroom".to_owned(),
        after: BTreeSet::new(),
        after_back: BTreeSet::from(["traffic".to_owned()]),
        work: Work::Headroom(sizes),
    });
}

/// The largest part of the leaving share that any rule sends to a region, as part and whole.
fn largest_part(region: &RegionName, contract: &Contract, routes: &[Route]) -> (u64, u64) {
    let own = contract.split.get(region).copied().unwrap_or(0);
    let wholes = routes.iter().flat_map(|route| &route.rules).filter_map(|rule| {
        let there: BTreeSet<&RegionName> = rule.references.iter().filter_map(|reference| reference.region.as_ref()).collect();
        there.contains(region).then(|| contract.split.iter().filter(|(name, _)| there.contains(name)).map(|(_, part)| part).sum())
    });
    // The smallest whole makes the largest part.
    (own, wholes.min().unwrap_or(0))
}

fn cordon(parsed: &Parsed<'_>, contract: &mut Contract, world: &World, findings: &mut Vec<Finding>) {
    let mut nodes = Vec::new();
    if let (Cordon::Nodes, Some(cluster)) = (parsed.plan.cordon.unwrap_or_default(), parsed.regions.get(&parsed.leaving)) {
        let list = |kind| world.list(&List { cluster: cluster.clone(), kind, namespace: None });
        let namespaces: BTreeSet<&str> = parsed.plan.namespaces.iter().map(String::as_str).collect();
        let daemon = |pod: &Object| {
            pod.list("/metadata/ownerReferences")
                .iter()
                .any(|owner| matches!(owner.get("kind").and_then(|kind| kind.as_str()), Some("DaemonSet" | "Node")))
        };
        let strangers: BTreeSet<&str> = list(Kind::Pod)
            .unwrap_or_default()
            .iter()
            .filter(|pod| !namespaces.contains(pod.namespace()) && !daemon(pod))
            .map(Object::namespace)
            .collect();
        if !strangers.is_empty() {
            let message = format!(
                "cordon: Nodes would keep new pods of other namespaces away too: {}",
                strangers.into_iter().take(8).collect::<Vec<_>>().join(", ")
            );
            findings.push(blocker(
                "Cordon",
                parsed.leaving.as_str(),
                "",
                message,
                "Use cordon: Mark, or add those namespaces to the plan.",
            ));
        }
        let name =
            |node: &Object| Target { cluster: cluster.clone(), kind: Kind::Node, namespace: None, name: node.name().to_owned() };
        nodes = list(Kind::Node).unwrap_or_default().iter().map(name).collect();
    }
    contract.steps.push(Step {
        name: "cordon".to_owned(),
        after: BTreeSet::from(["headroom".to_owned()]),
        after_back: BTreeSet::new(),
        work: Work::Cordon(nodes),
    });
}

fn traffic(parsed: &Parsed<'_>, contract: &mut Contract, routes: Vec<Route>) {
    let pace = parsed.plan.pace.clone().unwrap_or_default();
    let (evacuate, failback) = (pace.evacuate.unwrap_or_default(), pace.failback.unwrap_or_default());
    let hold = |step: &PaceStep, seconds| step.hold.map_or(Duration::from_secs(seconds), Duration::from);
    contract.steps.push(Step {
        name: "traffic".to_owned(),
        after: BTreeSet::from(["cordon".to_owned()]),
        after_back: BTreeSet::from(["cordon".to_owned()]),
        work: Work::Traffic(Traffic {
            routes,
            out: levels(&evacuate),
            back: levels(&failback).into_iter().map(|level| 100 - level).collect(),
            hold_out: hold(&evacuate, 30),
            hold_back: hold(&failback, 60),
        }),
    });
}

/// Levels in percent: increments `first`, then times growth, at most `maxStep`, up to 100.
fn levels(pace: &PaceStep) -> Vec<u32> {
    let (growth, most) = (pace.growth_percent.unwrap_or(200), pace.max_step_percent.unwrap_or(20));
    let mut step = pace.first_percent.unwrap_or(1).clamp(1, 100);
    let mut levels = Vec::new();
    let mut level = 0;
    while level < 100 {
        level = (level + step.min(most.max(1))).min(100);
        levels.push(level);
        step = (step * growth.max(100)).div_ceil(100).min(100);
    }
    levels
}

fn gates(contract: &Contract, world: &World, findings: &mut Vec<Finding>) {
    if !contract.gates.iter().any(|gate| gate.role == Some(crate::api::Role::UserHealth)) {
        findings.push(warning(
            "Gates",
            "",
            "",
            "no gate of role UserHealth: users' health is not observed, so no drill of this plan can be Passed",
            "Add a gate on errors or latency as users see them.",
        ));
    }
    for gate in &contract.gates {
        for (region, query) in contract.gate_queries(gate) {
            let (Colour::Red(message) | Colour::Unknown(message)) = colour(gate, &world.reading(&query)) else { continue };
            if gate.no_data == Some(NoData::Ignore) && !matches!(world.reading(&query), Ok(Reading::Value(_))) {
                continue;
            }
            let place = region.as_ref().map(RegionName::as_str).unwrap_or_default();
            let message = format!("gate {} is not green: {message}", gate.name);
            findings.push(blocker("Gates", place, "", message, "A drill starts only with every gate green."));
        }
    }
}

/// Which objects the contract is about: another of the same name is somebody else's.
fn remember(contract: &mut Contract, world: &World) {
    let targets: BTreeSet<Target> =
        contract.steps.iter().flat_map(|step| contract.changes(step, 0, 0)).map(|(target, _)| target).collect();
    contract.uids =
        targets.into_iter().filter_map(|target| Some((target.clone(), world.object(&target).ok()??.uid().to_owned()))).collect();
}

/// The line that stands for findings that were left out of a status.
#[must_use]
pub fn more(rest: usize) -> Finding {
    warning("More", "", "", format!("{rest} more findings"), "Mend these first.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_grow_up_to_the_largest_step() {
        assert_eq!(levels(&PaceStep::default()), [1, 3, 7, 15, 31, 51, 71, 91, 100]);
        let at_once = PaceStep { first_percent: Some(100), max_step_percent: Some(100), ..PaceStep::default() };
        assert_eq!(levels(&at_once), [100]);
    }
}
