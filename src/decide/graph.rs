//! The steps of a contract: what each will write, and in which order they go out and come back.

use super::application::{Application, Parsed};
use super::contract::{Contract, Led, Replicas, Route, Size, Step, Traffic, Work};
use crate::api::{Cordon, Enforcement, Finding, PaceStep, Stage, Status};
use crate::check::capacity::{self, Site};
use crate::check::{blocker, warning};
use crate::terms::{Kind, Object, RegionName, Target};
use crate::world::{List, World};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How the leaving share is dealt out to the survivors, by the room that they have for it.
pub(super) fn split(parsed: &Parsed<'_>, leaving: &Site, sites: &BTreeMap<RegionName, Site>) -> BTreeMap<RegionName, u64> {
    sites
        .iter()
        .filter(|(region, _)| **region != parsed.leaving)
        .map(|(region, site)| (region.clone(), capacity::free(leaving, site)))
        .collect()
}

/// Survivors are raised before traffic comes; the leaving region's own floor is held.
pub(super) fn headroom(
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
            // The way back waits for every pod that was there, so it must have been Ready.
            if out && !workload.has(workload.replicas) {
                let label = workload.target.label();
                let message = format!("{label} in {region} {}", workload.readiness(workload.replicas));
                let remedy = "Mend it, scale it to what runs, or leave its namespace out of the plan.";
                findings.push(blocker("Capacity", region.as_str(), &label, message, remedy));
            }
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

/// The leaving region's nodes take nothing new.
pub(super) fn cordon(parsed: &Parsed<'_>, contract: &mut Contract, world: &World, findings: &mut Vec<Finding>) {
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

/// Users are led elsewhere, level by level.
pub(super) fn traffic(parsed: &Parsed<'_>, contract: &mut Contract, routes: Vec<Route>) {
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

/// The singletons that the leaving region holds, and who is to hold them meanwhile: the first of the others in their order of
/// succession that is in the plan.
pub(super) fn led(application: &Application, parsed: &Parsed<'_>, findings: &mut Vec<Finding>) -> Vec<Led> {
    const CHECK: &str = "Singletons";
    let mut all = Vec::new();
    for singleton in &application.singletons {
        let label = format!("SingletonWorkload {}/{}", singleton.namespace, singleton.name);
        let status = &singleton.status;
        let leaving = parsed.leaving.as_str();
        let mut block = |message: String, remedy: &str| findings.push(blocker(CHECK, leaving, &label, message, remedy));
        if singleton.spec.enforcement == Enforcement::Report {
            if status.regions.iter().any(|region| region.region == leaving && region.running == crate::api::Running::Yes) {
                let message = format!("{label} runs in {leaving} and is only reported: it stays there");
                findings.push(warning(CHECK, leaving, &label, message, "Set enforcement: Enforce."));
            }
            continue;
        }
        let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
        let (Stage::Held, Some(holder), Some(Status::True)) = (status.stage, &status.holder, ready.map(|ready| ready.status))
        else {
            let why = ready.map_or("it has not been looked at yet", |ready| ready.message.as_str());
            block(format!("{label} is not ready: {why}"), "A drill starts only when every enforced singleton has one holder.");
            continue;
        };
        if holder != leaving {
            continue;
        }
        let succession = singleton.spec.regions.iter().filter_map(|region| RegionName::try_from(region.as_str()).ok());
        let Some(to) = succession.into_iter().find(|region| *region != parsed.leaving && parsed.regions.contains_key(region))
        else {
            block(
                format!("{label} is held by {leaving}, and none of its other regions is in the plan"),
                "Add a region of the plan to its spec.regions.",
            );
            continue;
        };
        let target = Target {
            cluster: application.hub.clone(),
            kind: Kind::SingletonWorkload,
            namespace: Some(singleton.namespace.clone()),
            name: singleton.name.clone(),
        };
        all.push(Led { target, uid: singleton.uid.clone(), from: parsed.leaving.clone(), to });
    }
    all
}

/// What runs in one region at a time follows the users, and goes home after them, while the headroom still stands.
pub(super) fn singletons(contract: &mut Contract, led: Vec<Led>) {
    if led.is_empty() {
        return;
    }
    for step in contract.steps.iter_mut().filter(|step| matches!(step.work, Work::Headroom(_))) {
        step.after_back.insert("singletons".to_owned());
    }
    contract.steps.push(Step {
        name: "singletons".to_owned(),
        after: BTreeSet::from(["traffic".to_owned()]),
        after_back: BTreeSet::from(["traffic".to_owned()]),
        work: Work::Singletons(led),
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
