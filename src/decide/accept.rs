use super::application::{Application, Parsed, parse};
use super::contract::{Confirmation, Contract, FORMAT, Limits, Route};
use super::gate::{Colour, colour};
use super::graph;
use super::words::busy_with;
use crate::api::{Finding, Mode, NoData, Severity, TrafficRouteSpec};
use crate::check::capacity::Site;
use crate::check::{blocker, warning, writable};
use crate::claim::{self, Write};
use crate::dialect::size;
use crate::dialect::traffic::http_route;
use crate::terms::{Object, RegionName, Target, Term, Timestamp};
use crate::world::{Blind, Needs, Reading, World};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The largest stored contract, in bytes: a `ConfigMap` may have a mebibyte.
const LARGEST: usize = 900 * 1024;

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
        findings.push(busy_with(busy));
    }
    let sites = sites(application, &parsed, world, &mut findings);
    if let Some(leaving) = sites.get(&parsed.leaving) {
        contract.split = graph::split(&parsed, leaving, &sites);
        if contract.split.values().all(|part| *part == 0) {
            findings.push(blocker(
                "Capacity",
                "",
                "",
                format!("no survivor has room for what {} carries: there is a workload of which not one pod more fits", parsed.leaving),
                "Add nodes, raise the autoscalers' maxima, or lower what pods request; where a workload is missing there is no room for it.",
            ));
        }
        let routes = routes(&parsed, &contract, world, &mut findings);
        let led = graph::led(application, &parsed, &mut findings);
        graph::headroom(&parsed, &mut contract, leaving, &sites, &routes, &mut findings);
        graph::cordon(&parsed, &mut contract, world, &mut findings);
        graph::traffic(&parsed, &mut contract, routes);
        graph::singletons(&mut contract, led);
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
        match claim::write(object, &target, &contract.drill, Term::default(), &changes, contract.taken_of(&target)) {
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
    // With what it takes from others a claim is longer than it was in the dry run.
    if findings.is_empty() {
        findings = first_writes(&contract, world).err().unwrap_or_default();
    }
    let length = serde_json::to_string(&contract).map_or(usize::MAX, |text| text.len());
    if length > LARGEST {
        let message = format!("the contract is {length} bytes long, at most {LARGEST} can be stored");
        findings.push(blocker("ClaimFits", "", "", message, "Split the plan by namespaces."));
    }
    if findings.is_empty() { Ok(contract) } else { Err(findings) }
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

fn sites(
    application: &Application,
    parsed: &Parsed<'_>,
    world: &World,
    findings: &mut Vec<Finding>,
) -> BTreeMap<RegionName, Site> {
    // A singleton's workload is written by its own loop alone, and needs no headroom anywhere but where it goes.
    let is_led = |workload: &size::Workload| application.singletons.iter().any(|singleton| singleton.is_of(&workload.target));
    let mut sites = BTreeMap::new();
    for (region, cluster) in &parsed.regions {
        let site = size::workloads(world, cluster, &parsed.plan.namespaces)
            .and_then(|workloads| Ok(Site { workloads, rooms: size::rooms(world, cluster)? }));
        match site {
            Ok(mut site) => {
                site.workloads.retain(|workload| !is_led(workload));
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
                block(
                    format!("{label} {blind}"),
                    "See why its cluster does not answer, or what keeps the operator from reading it.",
                );
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
                block(format!("{label}: {problem}"), "Correct the route, or the TrafficRoute's backends.");
                continue;
            }
        };
        let least = parsed.plan.guards.as_ref().and_then(|guards| guards.min_serving).unwrap_or(1);
        for rule in &rules {
            let serves = |region: &&RegionName| rule.share(region, &parsed.leaving, &contract.split, 100) > 0.0;
            let serving = parsed.regions.keys().filter(serves).count();
            if u32::try_from(serving).unwrap_or(u32::MAX) < least {
                block(
                    format!("{label}: {serving} regions would serve a rule of it, guards.minServing is {least}"),
                    "Add backends of more regions, make room there, or lower guards.minServing.",
                );
            }
        }
        let confirm = confirmation(&facts.spec);
        match &confirm {
            None => findings.push(warning(
                "Traffic",
                "",
                &label,
                format!("{label}: nothing confirms where requests go, so no drill of this plan can be Passed"),
                "Set the TrafficRoute's confirm.query.",
            )),
            Some(confirm) => findings.extend(unconfirmed(contract, confirm, &label, world)),
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

/// The queries that show a route's requests and answer no number.
fn unconfirmed(contract: &Contract, confirm: &Confirmation, label: &str, world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (region, query) in contract.request_queries(confirm) {
        let problem = match world.reading(&query) {
            Ok(Reading::Value(_)) => continue,
            Ok(Reading::NoData) => "answers no series (an absent one is no zero: add `or vector(0)`)".to_owned(),
            Ok(Reading::Several(count)) => format!("answers {count} series, it must be one: aggregate it"),
            Ok(Reading::NotFinite) => "answers no finite number".to_owned(),
            Err(blind) => format!("is not answered: {blind}"),
        };
        let message = format!("{label}: confirm.query for {region} {problem}");
        findings.push(blocker("Traffic", region.as_str(), label, message, "Try the query in Prometheus."));
    }
    findings
}

/// The line that stands for findings that were left out of a status.
#[must_use]
pub fn more(rest: usize) -> Finding {
    warning("More", "", "", format!("{rest} more findings"), "Mend these first.")
}
