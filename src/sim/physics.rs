/// Pods, Jobs and `CronJob`s.
mod run;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::json::{at, items, map, members, set, text};
use super::kind::Kind;
use super::object::timestamp;
use super::server::Server;
use super::store::{Key, Part, Store};

/// How long things take.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How long the pods of a new size or template take to become Ready.
    pub ready_after: Duration,
    /// How long a controller takes to see a new generation; until then the status tells of the old one.
    pub seen_after: Duration,
    /// How long an autoscaler takes; the real one looks every 15 s.
    pub scaled_after: Duration,
    /// Whether there are pods, and Jobs run; else workloads become ready as a whole.
    pub pods: bool,
    /// How long a Job's pod runs.
    pub job_runs: Duration,
    /// How long a pod that is deleted takes to end.
    pub ends_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            ready_after: seconds(10),
            seen_after: seconds(1),
            scaled_after: seconds(15),
            pods: false,
            job_runs: seconds(20),
            ends_after: seconds(3),
        }
    }
}

/// Echo physics: what is asked of a cluster comes true after a while. A workload becomes ready as a whole, and nodes always have room; where pods
/// are asked for, they run on the first node. Nothing fails by itself, and what a foreign hand has set (a node that is not ready) stays; faults are the tests' business.
#[derive(Clone, Debug, Default)]
pub struct Physics {
    pace: Pace,
    waits: Waits,
    /// The waits of the round before; what is not asked about again is forgotten.
    before: Waits,
    /// The specs that controllers see, by uid.
    views: BTreeMap<String, Value>,
    next: Option<DateTime<Utc>>,
}

/// What is waited for, by uid and aspect: the state that it was asked in, and when it is due.
type Waits = BTreeMap<(String, &'static str), (String, DateTime<Utc>)>;

/// Runs physics on a server for as long as it is polled: after each change, and when something is due.
pub async fn run(server: Server, mut physics: Physics) {
    let mut changes = server.changes();
    loop {
        changes.know();
        let now = server.now();
        let due = server.with(|store| physics.advance(store, now));
        let wait = due.map_or(Duration::from_hours(1), |due| (due - now).to_std().unwrap_or_default());
        tokio::select! {
            biased;
            () = changes.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Physics {
    /// Physics at this pace, with nothing under way.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }

    /// Lets everything happen that is due, in a fixed order, and answers when to come again if nothing changes until then.
    pub fn advance(&mut self, store: &mut Store, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        loop {
            let revision = store.revision();
            self.before = std::mem::take(&mut self.waits);
            self.next = None;
            each(store, "Node", ready);
            each(store, "HorizontalPodAutoscaler", |store, kind, key| self.autoscale(store, kind, key, now));
            for workload in ["Deployment", "StatefulSet"] {
                each(store, workload, |store, kind, key| self.workload(store, kind, key, now));
            }
            if self.pace.pods {
                self.run(store, now);
            }
            if store.revision() == revision {
                return self.next;
            }
        }
    }

    /// Whether it is `delay` since this aspect of this object first was in this state.
    fn is_due(&mut self, object: &Value, aspect: &'static str, state: String, delay: Duration, now: DateTime<Utc>) -> bool {
        let key = (text(object, "metadata.uid").to_owned(), aspect);
        let known = self.before.get(&key).filter(|(was, _)| *was == state).map(|(_, due)| *due);
        let due = known.unwrap_or_else(|| now + TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX));
        self.waits.insert(key, (state, due));
        if due > now {
            self.come(due);
        }
        due <= now
    }

    /// Comes again at the latest then.
    fn come(&mut self, due: DateTime<Utc>) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    /// An autoscaler without metrics holds its workload between its bounds; one that was scaled to 0 by hand is left alone.
    fn autoscale(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let scaler = store.get(key)?.clone();
        let reference = at(&scaler, "spec.scaleTargetRef");
        let target_kind = store.kind(text(reference, "kind"))?;
        let target_key = Key::new(&target_kind, &key.namespace, text(reference, "name"));
        let target = store.get(&target_key)?.clone();
        let replicas = at(&target, "spec.replicas").as_u64().unwrap_or(1);
        let least = at(&scaler, "spec.minReplicas").as_u64().unwrap_or(1);
        let most = at(&scaler, "spec.maxReplicas").as_u64().unwrap_or(u64::MAX).max(least);
        let wanted = if replicas == 0 { 0 } else { replicas.clamp(least, most) };
        if wanted != replicas && !self.is_due(&scaler, "scaled", wanted.to_string(), self.pace.scaled_after, now) {
            return None;
        }
        edit(store, &target_kind, &target_key, |target| set(target, "spec.replicas", json!(wanted)));
        let active = if wanted == 0 { ("False", "ScalingDisabled") } else { ("True", "ValidMetricFound") };
        edit(store, kind, key, |scaler| {
            set(scaler, "status.currentReplicas", json!(at(&target, "status.replicas").as_u64().unwrap_or(0)));
            set(scaler, "status.desiredReplicas", json!(wanted));
            set(scaler, "status.conditions", json!([{"type": "ScalingActive", "status": active.0, "reason": active.1}]));
        });
        Some(())
    }

    fn workload(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let object = store.get(key)?.clone();
        let replicas = at(&object, "spec.replicas").as_u64().unwrap_or(1);
        let generation = at(&object, "metadata.generation").to_string();
        if at(&object, "metadata.deletionTimestamp").is_string()
            || !self.is_due(&object, "seen", generation, self.pace.seen_after, now)
        {
            return None;
        }
        let hash = hash(at(&object, "spec.template"));
        if kind.kind == "Deployment" {
            replica_sets(store, key, &object, &hash)?;
        }
        let all = self.is_due(&object, "ready", format!("{replicas} {hash}"), self.pace.ready_after, now);
        let was = at(&object, "status.readyReplicas").as_u64().unwrap_or(0).min(replicas);
        let ready = if all { replicas } else { was };
        let stamp = timestamp(&store.clock);
        edit(store, kind, key, |object| {
            let generation = at(object, "metadata.generation").clone();
            set(object, "status.observedGeneration", generation);
            let counts =
                [("replicas", replicas), ("updatedReplicas", replicas), ("readyReplicas", ready), ("availableReplicas", ready)];
            for (field, count) in counts {
                map(object, "status").insert(field.into(), json!(count));
            }
            let available = if ready >= replicas { "True" } else { "False" };
            if kind.kind == "Deployment"
                && items(object, "status.conditions").next().is_none_or(|was| *at(was, "status") != available)
            {
                set(
                    object,
                    "status.conditions",
                    json!([{"type": "Available", "status": available, "lastTransitionTime": stamp}]),
                );
            }
        });
        Some(())
    }
}

/// The `ReplicaSet` of a Deployment's present template has its size and its annotations; the others have none of the size.
fn replica_sets(store: &mut Store, key: &Key, deployment: &Value, hash: &str) -> Option<()> {
    let sets = store.kind("ReplicaSet")?;
    let present = Key::new(&sets, &key.namespace, &format!("{}-{hash}", key.name));
    let meta = at(deployment, "metadata");
    if store.get(&present).is_none() {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": key.name, "uid": at(meta, "uid"), "controller": true});
        let labels = at(deployment, "spec.template.metadata.labels");
        let metadata = json!({"name": present.name, "labels": labels, "ownerReferences": [owner]});
        let spec = json!({"selector": at(deployment, "spec.selector"), "template": at(deployment, "spec.template")});
        store.create(&sets, &key.namespace, json!({"metadata": metadata, "spec": spec}), true, false).ok()?;
    }
    let uid = text(meta, "uid");
    let own: Vec<Key> =
        store.list(&sets, &key.namespace).filter(|(_, set)| is_owned_by(set, uid)).map(|(key, _)| key.clone()).collect();
    for one in own {
        let is_present = one == present;
        // The real controller copies the annotations, whatever they are, and never takes one back.
        edit(store, &sets, &one, |copy| {
            set(copy, "spec.replicas", if is_present { at(deployment, "spec.replicas").clone() } else { json!(0) });
            for (name, value) in members(deployment, "metadata.annotations").filter(|_| is_present) {
                map(copy, "metadata.annotations").insert(name.clone(), value.clone());
            }
        });
    }
    Some(())
}

fn is_owned_by(object: &Value, uid: &str) -> bool {
    items(object, "metadata.ownerReferences").any(|owner| text(owner, "uid") == uid)
}

fn each<T>(store: &mut Store, kind: &str, mut work: impl FnMut(&mut Store, &Kind, &Key) -> T) {
    let Some(kind) = store.kind(kind) else { return };
    let keys: Vec<Key> = store.list(&kind, "").map(|(key, _)| key.clone()).collect();
    for key in keys {
        work(store, &kind, &key);
    }
}

/// A controller's write. A refusal changes nothing, and the next round finds the same thing to do.
fn edit(store: &mut Store, kind: &Kind, key: &Key, change: impl FnOnce(&mut Value)) {
    if let Some(mut object) = store.get(key).map(|object| Value::clone(object)) {
        change(&mut object);
        let _ = store.update(kind, key, object, Part::Whole, false);
    }
}

/// A node is ready, unless somebody has said yes or no already.
fn ready(store: &mut Store, kind: &Kind, key: &Key) {
    let stamp = timestamp(&store.clock);
    if store.get(key).is_some_and(|node| items(node, "status.conditions").all(|condition| *at(condition, "type") != "Ready")) {
        edit(store, kind, key, |node| match node.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            Some(conditions) => conditions.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": stamp})),
            None => set(node, "status.conditions", json!([{"type": "Ready", "status": "True", "lastTransitionTime": stamp}])),
        });
    }
}

/// FNV-1a: names of `ReplicaSet`s only have to differ.
fn hash(template: &Value) -> String {
    let sum = template
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", sum & 0xffff_ffff)
}
