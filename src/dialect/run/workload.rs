use super::Schedule;
use crate::terms::{Epoch, Json, Kind, Object, Spot, Target, Version};
use crate::world::{Blind, List, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};

/// The label that each stop and each start stamps with its epoch, in the same write; on Leases an annotation. A Deployment's
/// labels, other than its annotations, are not copied to its `ReplicaSet`s, so that no rollback brings an old one back.
pub const EPOCH: &str = "firedrill.dev/epoch";
/// The `startingDeadlineSeconds` that keeps a `CronJob` from starting the slot that it missed while it was suspended: the least
/// that Kubernetes' documentation calls safe, and shorter than any `settle`, so that no slot of before the stop is within it.
pub const DEADLINE: u32 = 10;

/// A singleton's workload in one region, as it was seen.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where it is.
    pub target: Target,
    /// The workload; `None` if there is none.
    pub object: Option<Object>,
    /// Jobs of a `CronJob` that are not finished.
    pub jobs: Vec<Job>,
    /// Its pods, whatever has become of them.
    pub pods: Vec<Pod>,
    /// Uids of all pods of its namespace that have not ended: one that was its own may have lost its labels or its owner.
    pub listed: BTreeSet<String>,
    /// The autoscaler that scales it.
    pub autoscaler: Option<String>,
}

/// A Job that is not finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Where.
    pub target: Target,
    /// Which.
    pub version: Version,
    /// Somebody is deleting it already.
    pub leaving: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The node that it runs on; empty before it is scheduled.
    pub node: String,
    /// How many seconds it is given to end.
    pub grace: u32,
    /// Its containers have ended, says its phase.
    pub ended: bool,
}

/// The spot that lets it run: `spec.suspend`, or `spec.replicas`.
#[must_use]
pub fn switch(kind: Kind) -> Spot {
    Spot::fields(&["spec", if kind == Kind::CronJob { "suspend" } else { "replicas" }])
}

/// The spot of `startingDeadlineSeconds`.
#[must_use]
pub fn deadline() -> Spot {
    Spot::fields(&["spec", "startingDeadlineSeconds"])
}

/// The spot of the epoch.
#[must_use]
pub fn epoch() -> Spot {
    Spot::fields(&["metadata", "labels", EPOCH])
}

/// The switch of what is stopped.
#[must_use]
pub fn stopped(kind: Kind) -> Json {
    if kind == Kind::CronJob { true.into() } else { 0.into() }
}

/// The switch of what runs, with so many pods.
#[must_use]
pub fn started(kind: Kind, size: u32) -> Json {
    if kind == Kind::CronJob { false.into() } else { size.into() }
}

/// The lists beside the workload itself that [`Site::see`] reads.
#[must_use]
pub fn lists(target: &Target) -> Vec<List> {
    let list = |kind| List { cluster: target.cluster.clone(), kind, namespace: target.namespace.clone() };
    let beside = if target.kind == Kind::CronJob { Kind::Job } else { Kind::HorizontalPodAutoscaler };
    vec![list(beside), list(Kind::Pod)]
}

impl Site {
    /// The workload behind `target` and all that it runs.
    ///
    /// # Errors
    /// Why it could not be seen.
    pub fn see(world: &World, target: &Target) -> Result<Self, Blind> {
        let object = world.object(target)?.cloned();
        let list = |kind| world.list(&List { cluster: target.cluster.clone(), kind, namespace: target.namespace.clone() });
        let pods = list(Kind::Pod)?;
        let listed = pods.iter().filter(|pod| !has_ended(pod)).map(|pod| pod.uid().to_owned()).collect();
        let mut site = Self { target: target.clone(), object, jobs: Vec::new(), pods: Vec::new(), listed, autoscaler: None };
        if target.kind == Kind::CronJob {
            site.cronjob(list(Kind::Job)?, pods);
            return Ok(site);
        }
        let scales = |scaler: &&Object| {
            scaler.text("/spec/scaleTargetRef/kind") == target.kind.to_string()
                && scaler.text("/spec/scaleTargetRef/name") == target.name
        };
        site.autoscaler = list(Kind::HorizontalPodAutoscaler)?.iter().find(scales).map(|scaler| scaler.name().to_owned());
        let Some(object) = &site.object else { return Ok(site) };
        let selector = object.at("/spec/selector").cloned().unwrap_or_default();
        let selector = serde_json::from_value::<LabelSelector>(selector).ok().and_then(|s| Selector::try_from(s).ok());
        let Some(selector) = selector else { return Err(Blind::Malformed(format!("spec.selector of {}", target.label()))) };
        site.pods = pods.iter().filter(|pod| selector.matches(&labels(pod))).map(Pod::of).collect();
        Ok(site)
    }

    /// The unfinished Jobs of a `CronJob`, made by its controller or by hand from it, and the pods of all of its Jobs; of those
    /// that are gone too, by the names that the controller gives.
    fn cronjob(&mut self, jobs: &[Object], pods: &[Object]) {
        let name = &self.target.name;
        let is_its = |job: &&Object| {
            job.list("/metadata/ownerReferences").iter().any(|owner| is(owner, "kind", "CronJob") && is(owner, "name", name))
        };
        let own: Vec<&Object> = jobs.iter().filter(is_its).collect();
        let known: BTreeSet<&str> = jobs.iter().map(Object::name).collect();
        let names: BTreeSet<&str> = own.iter().map(|job| job.name()).collect();
        let was_its = |job: &str| {
            let number = job.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('-'));
            !known.contains(job) && number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        };
        let of_its = |pod: &&Object| {
            pod.list("/metadata/ownerReferences")
                .iter()
                .filter(|owner| is(owner, "kind", "Job"))
                .filter_map(|owner| owner.get("name")?.as_str())
                .any(|job| names.contains(job) || was_its(job))
        };
        self.pods = pods.iter().filter(of_its).map(Pod::of).collect();
        let unfinished = own.iter().filter(|job| !is_finished(job));
        self.jobs = unfinished
            .map(|job| Job {
                target: Target {
                    cluster: self.target.cluster.clone(),
                    kind: Kind::Job,
                    namespace: self.target.namespace.clone(),
                    name: job.name().to_owned(),
                },
                version: Version::of(job),
                leaving: job.at("/metadata/deletionTimestamp").is_some(),
            })
            .collect();
    }

    /// Whether its spec lets it run.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.object.as_ref().is_some_and(|object| {
            if self.target.kind == Kind::CronJob {
                object.at("/spec/suspend").and_then(Json::as_bool) != Some(true)
            } else {
                self.size() > 0
            }
        })
    }

    /// How many pods its spec wants; of a `CronJob` none.
    #[must_use]
    pub fn size(&self) -> u32 {
        let Some(object) = self.object.as_ref().filter(|_| self.target.kind != Kind::CronJob) else { return 0 };
        object.number("/spec/replicas").map_or(1, |number| u32::try_from(number).unwrap_or(0))
    }

    /// Its pods that have not ended.
    pub fn alive(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| !pod.ended)
    }

    /// What of it still runs, for people; `None` if nothing does.
    #[must_use]
    pub fn busy(&self) -> Option<String> {
        let alive: Vec<&str> = self.alive().map(|pod| pod.name.as_str()).collect();
        match (self.jobs.first(), alive.first()) {
            (Some(job), _) => Some(format!("{} of {} is not finished", job.target.label(), self.target.label())),
            (None, Some(pod)) => Some(format!("{} pods of {} run, first {pod}", alive.len(), self.target.label())),
            (None, None) => None,
        }
    }

    /// The epoch that its last stop or start stamped.
    #[must_use]
    pub fn stamped(&self) -> Option<Epoch> {
        self.object.as_ref().and_then(|object| object.label(EPOCH)).and_then(Epoch::parse)
    }

    /// Whether it was seen to run as its spec says: a `CronJob` once its spec lets it, others with their first Ready pod.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let Some(object) = &self.object else { return false };
        let ready = || object.observed() && object.number("/status/readyReplicas").unwrap_or(0) > 0;
        self.is_on() && (self.target.kind == Kind::CronJob || ready())
    }

    /// When a `CronJob` last started a run.
    #[must_use]
    pub fn last_run(&self) -> Option<crate::terms::Timestamp> {
        self.object.as_ref()?.text("/status/lastScheduleTime").parse().ok()
    }

    /// When a `CronJob` is due; nothing where that cannot be read.
    #[must_use]
    pub fn schedule(&self) -> Option<Schedule> {
        self.object.as_ref().filter(|_| self.target.kind == Kind::CronJob).and_then(|object| Schedule::of(object).ok())
    }
}

/// Whether its containers have ended, says its phase.
fn has_ended(pod: &Object) -> bool {
    matches!(pod.text("/status/phase"), "Succeeded" | "Failed")
}

impl Pod {
    fn of(pod: &Object) -> Self {
        Self {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            node: pod.text("/spec/nodeName").to_owned(),
            grace: pod.number("/spec/terminationGracePeriodSeconds").and_then(|s| u32::try_from(s).ok()).unwrap_or(30),
            ended: has_ended(pod),
        }
    }
}

fn labels(object: &Object) -> BTreeMap<String, String> {
    let all = object.at("/metadata/labels").and_then(Json::as_object);
    all.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn is(owner: &Json, key: &str, value: &str) -> bool {
    owner.get(key).and_then(Json::as_str) == Some(value)
}

fn is_finished(job: &Object) -> bool {
    job.list("/status/conditions").iter().any(|condition| {
        (is(condition, "type", "Complete") || is(condition, "type", "Failed")) && is(condition, "status", "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::ClusterUid;
    use crate::world::Seen;
    use serde_json::json;

    fn see(target: &Target, object: Json, jobs: Vec<Json>, pods: Vec<Json>) -> Site {
        let at = "2026-12-08T10:00:00Z".parse().unwrap();
        let mut world = World::default();
        world.objects.insert(target.clone(), Seen { at, what: Ok(Some(Object::new(object))) });
        for (list, items) in lists(target).into_iter().zip([jobs, pods]) {
            world.lists.insert(list, Seen { at, what: Ok(items.into_iter().map(Object::new).collect()) });
        }
        Site::see(&world, target).unwrap()
    }

    fn target(kind: Kind) -> Target {
        Target { cluster: ClusterUid("c".into()), kind, namespace: Some("shop".into()), name: "nightly".into() }
    }

    fn owned(name: &str, kind: &str, owner: &str, status: &Json) -> Json {
        let metadata = json!({"name": name, "uid": name, "ownerReferences": [{"kind": kind, "name": owner}]});
        json!({"metadata": metadata, "status": status})
    }

    #[test]
    fn a_cronjob_runs_while_a_job_or_a_pod_of_it_does_even_if_the_job_is_gone() {
        let cronjob = target(Kind::CronJob);
        let finished = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        let busy = |jobs: Vec<Json>, pods: Vec<Json>| see(&cronjob, json!({"spec": {}}), jobs, pods).busy();
        assert_eq!(busy(vec![owned("nightly-1", "CronJob", "nightly", &finished)], vec![]), None);
        assert!(busy(vec![owned("nightly-2", "CronJob", "nightly", &json!({}))], vec![]).unwrap().contains("Job shop/nightly-2"));
        assert!(busy(vec![owned("by-hand", "CronJob", "nightly", &json!({}))], vec![]).is_some());
        assert_eq!(busy(vec![owned("other-2", "CronJob", "other", &json!({}))], vec![]), None);
        let running = json!({"phase": "Running"});
        assert!(busy(vec![], vec![owned("nightly-29-x", "Job", "nightly-29", &running)]).is_some(), "its Job is gone");
        assert_eq!(
            busy(vec![], vec![owned("nightly-report-2-x", "Job", "nightly-report-2", &running)]),
            None,
            "another CronJob's"
        );
        assert_eq!(busy(vec![], vec![owned("nightly-29-x", "Job", "nightly-29", &json!({"phase": "Succeeded"}))]), None);
    }

    #[test]
    fn a_deployment_runs_while_a_pod_that_it_selects_has_not_ended() {
        let deployment = target(Kind::Deployment);
        let object = json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "n"}}}});
        let pod = |app: &str, phase: &str| json!({"metadata": {"name": "p", "labels": {"app": app}}, "status": {"phase": phase}});
        let busy = |pods: Vec<Json>| see(&deployment, object.clone(), vec![], pods).busy();
        assert!(busy(vec![pod("n", "Running")]).is_some());
        assert!(busy(vec![pod("n", "Pending")]).is_some(), "it may run any moment");
        assert_eq!(busy(vec![pod("n", "Failed"), pod("m", "Running")]), None);
        assert!(!see(&deployment, object.clone(), vec![], vec![]).is_on());
        assert_eq!(see(&deployment, json!({"spec": {"selector": {}}}), vec![], vec![]).size(), 1, "absent counts as 1");
    }
}
