//! A drill that applies to be run: what the hub says about everything that it names.

use crate::api::{
    ClusterRef, DrillSpec, EvacuationPlanSpec, Finding, Mode, SingletonWorkloadSpec, SingletonWorkloadStatus, TrafficRouteSpec,
    WorkloadKind,
};
use crate::check::blocker;
use crate::terms::{ClusterUid, Kind, Owner, RegionName, Target, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

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
    /// All `SingletonWorkload`s of the plan's namespaces.
    pub singletons: Vec<SingletonFacts>,
    /// What regions owe from drills that are over: by region, in words.
    pub owed: BTreeMap<RegionName, String>,
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

/// A `SingletonWorkload` as the hub has it.
#[derive(Clone, Debug)]
pub struct SingletonFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its spec.
    pub spec: SingletonWorkloadSpec,
    /// What is known of it.
    pub status: SingletonWorkloadStatus,
}

impl SingletonFacts {
    /// Whether an object is its workload, in whichever region.
    #[must_use]
    pub fn is_of(&self, target: &Target) -> bool {
        let workload = &self.spec.workload;
        let kind = match workload.kind {
            WorkloadKind::CronJob => Kind::CronJob,
            WorkloadKind::Deployment => Kind::Deployment,
            WorkloadKind::StatefulSet => Kind::StatefulSet,
        };
        target.kind == kind && target.name == workload.name && target.namespace.as_ref() == Some(&self.namespace)
    }
}

/// What is parsed of an application before the world is looked at.
pub(super) struct Parsed<'a> {
    pub plan: &'a EvacuationPlanSpec,
    pub leaving: RegionName,
    pub regions: BTreeMap<RegionName, ClusterUid>,
    pub prometheus: Option<String>,
    pub routes: Vec<(&'a RouteFacts, Target)>,
}

/// What can be said of an application before the world is looked at.
///
/// # Errors
/// Findings, all of them blockers.
pub(super) fn parse(application: &Application, now: Timestamp) -> Result<Parsed<'_>, Vec<Finding>> {
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
        if let Some((region, owed)) = known.as_ref().and_then(|(region, _)| Some((region, application.owed.get(region)?))) {
            let message = format!("region {region} has not been put back yet: {owed}");
            let remedy =
                "It is put back when the region can be reached; see `kubectl describe region`, or run `firedrill restore`.";
            block("Debts", name, message, remedy);
        }
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
