//! What runs: pods of workloads and Jobs, and Jobs of `CronJob`s. A controller acts by what it saw a moment ago, so that one may still start
//! what has just been stopped.

use super::{Physics, each, edit, is_owned_by};
use crate::sim::json::{at, items, set, text};
use crate::sim::kind::Kind;
use crate::sim::store::{Deletion, Key, Store};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

/// Keeps a pod until its kubelet has ended it.
const KUBELET: &str = "sim/kubelet";

impl Physics {
    /// Everything that runs, in a fixed order.
    pub(super) fn run(&mut self, store: &mut Store, now: DateTime<Utc>) {
        each(store, "CronJob", |store, kind, key| self.cronjob(store, kind, key, now));
        each(store, "Job", |store, kind, key| job(store, kind, key, now));
        for workload in ["ReplicaSet", "StatefulSet"] {
            each(store, workload, |store, kind, key| self.pods(store, kind, key, now));
        }
        each(store, "Pod", |store, kind, key| self.kubelet(store, kind, key, now));
    }

    /// The real controller's rules: a slot is started once, late if it must be and may; of several missed ones the last.
    fn cronjob(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let object = store.get(key)?.clone();
        let spec = self.seen(&object, now)?;
        if at(&spec, "suspend") == true {
            return None;
        }
        let schedule: croner::Cron = text(&spec, "schedule").parse().ok()?;
        let next = schedule.find_next_occurrence(&now, false).ok()?;
        self.come(next);
        let slot = schedule.find_previous_occurrence(&now, true).ok()?;
        let time = |path: &str| text(&object, path).parse::<DateTime<Utc>>().ok();
        let mut after = time("status.lastScheduleTime").or_else(|| time("metadata.creationTimestamp"))?;
        if let Some(deadline) = at(&spec, "startingDeadlineSeconds").as_i64() {
            after = after.max(now - TimeDelta::seconds(deadline));
        }
        if slot <= after {
            return None;
        }
        let jobs = store.kind("Job")?;
        let uid = text(&object, "metadata.uid");
        let is_active = |job: &Value| is_owned_by(job, uid) && at(job, "status.completionTime").is_null();
        if text(&spec, "concurrencyPolicy") == "Forbid" && store.list(&jobs, &key.namespace).any(|(_, job)| is_active(job)) {
            return None;
        }
        let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": key.name, "uid": uid, "controller": true}]);
        let name = format!("{}-{}", key.name, slot.timestamp() / 60);
        let metadata = json!({"name": name, "ownerReferences": owner});
        let made = store.create(
            &jobs,
            &key.namespace,
            json!({"metadata": metadata, "spec": at(&spec, "jobTemplate.spec")}),
            true,
            false,
        );
        if made.is_ok() {
            let stamp = slot.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            edit(store, kind, key, |object| set(object, "status.lastScheduleTime", json!(stamp)));
        }
        Some(())
    }

    /// A workload has as many pods as the spec that its controller saw wants.
    fn pods(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let object = store.get(key)?.clone();
        let spec = self.seen(&object, now)?;
        let wanted = usize::try_from(at(&spec, "replicas").as_u64().unwrap_or(1)).unwrap_or(0);
        let pods = store.kind("Pod")?;
        let uid = text(&object, "metadata.uid");
        let is_alive = |pod: &Value| is_owned_by(pod, uid) && at(pod, "metadata.deletionTimestamp").is_null();
        let alive: Vec<Key> =
            store.list(&pods, &key.namespace).filter(|(_, pod)| is_alive(pod)).map(|(key, _)| key.clone()).collect();
        for extra in alive.iter().skip(wanted) {
            let _ = store.delete(&pods, extra, &Deletion::default(), false);
        }
        let mut missing = wanted.saturating_sub(alive.len());
        for number in 0.. {
            if missing == 0 {
                break;
            }
            let pod = Key::new(&pods, &key.namespace, &format!("{}-{number}", key.name));
            if store.get(&pod).is_none() {
                start(store, &kind.kind, &object, &pod, at(&spec, "template"))?;
                missing -= 1;
            }
        }
        Some(())
    }

    /// A pod that is deleted ends after a while; one of a Job ends by itself.
    fn kubelet(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let pod = store.get(key)?.clone();
        if !items(&pod, "metadata.finalizers").any(|name| name == KUBELET) {
            return None;
        }
        let nodes = store.kind("Node")?;
        let node = store.get(&Key::new(&nodes, "", text(&pod, "spec.nodeName")));
        let is_ready = |node: &Value| {
            items(node, "status.conditions")
                .any(|condition| text(condition, "type") == "Ready" && text(condition, "status") == "True")
        };
        if !node.is_some_and(|node| is_ready(node)) {
            return None;
        }
        let is_job = items(&pod, "metadata.ownerReferences").any(|owner| text(owner, "kind") == "Job");
        if at(&pod, "metadata.deletionTimestamp").is_string() {
            if text(&pod, "status.phase") != "Running" || self.is_due(&pod, "ends", String::new(), self.pace.ends_after, now) {
                edit(store, kind, key, |pod| set(pod, "metadata.finalizers", json!([])));
            }
        } else if is_job
            && text(&pod, "status.phase") == "Running"
            && self.is_due(&pod, "runs", String::new(), self.pace.job_runs, now)
        {
            edit(store, kind, key, |pod| set(pod, "status.phase", json!("Succeeded")));
        }
        Some(())
    }

    /// The spec as its controller sees it by now.
    fn seen(&mut self, object: &Value, now: DateTime<Utc>) -> Option<Value> {
        let uid = text(object, "metadata.uid").to_owned();
        let generation = at(object, "metadata.generation").to_string();
        if self.is_due(object, "acted upon", generation, self.pace.seen_after, now) {
            self.views.insert(uid.clone(), at(object, "spec").clone());
        }
        self.views.get(&uid).cloned()
    }
}

/// A Job has one pod, and is complete when that has ended.
fn job(store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
    let job = store.get(key)?.clone();
    if at(&job, "metadata.deletionTimestamp").is_string() || at(&job, "status.completionTime").is_string() {
        return None;
    }
    let pods = store.kind("Pod")?;
    let pod = Key::new(&pods, &key.namespace, &format!("{}-0", key.name));
    if store.get(&pod).is_none() && at(&job, "status.startTime").is_null() {
        start(store, "Job", &job, &pod, at(&job, "spec.template"))?;
        let stamp = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        edit(store, kind, key, |job| set(job, "status.startTime", json!(stamp)));
    } else if store.get(&pod).is_some_and(|pod| text(pod, "status.phase") == "Succeeded") {
        let stamp = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        edit(store, kind, key, |job| {
            set(job, "status.completionTime", json!(stamp));
            set(job, "status.conditions", json!([{"type": "Complete", "status": "True", "lastTransitionTime": stamp}]));
        });
    }
    Some(())
}

/// A pod that runs at once, on the first node.
fn start(store: &mut Store, kind: &str, owner: &Value, key: &Key, template: &Value) -> Option<()> {
    let pods = store.kind("Pod")?;
    let nodes = store.kind("Node")?;
    let node = store.list(&nodes, "").map(|(key, _)| key.name.clone()).next()?;
    let reference = json!([{
        "kind": kind, "name": at(owner, "metadata.name"), "uid": at(owner, "metadata.uid"), "controller": true,
    }]);
    let metadata = json!({
        "name": key.name, "labels": at(template, "metadata.labels"), "ownerReferences": reference, "finalizers": [KUBELET],
    });
    let mut spec = at(template, "spec").clone();
    set(&mut spec, "nodeName", json!(node));
    store
        .create(&pods, &key.namespace, json!({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}), true, false)
        .ok()?;
    Some(())
}
