use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::json::{at, items, map, members, set, text};
use super::kind::Kind;
use super::object::timestamp;
use super::server::Server;
use super::store::{Deletion, Key, Object, Part, Store};

/// How long things take.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How long a pod takes to become Ready once it has a node.
    pub ready_after: Duration,
    /// How long a controller takes to see a new generation; until then the status tells of the old one.
    pub seen_after: Duration,
    /// How long an autoscaler takes; the real one looks every 15 s.
    pub scaled_after: Duration,
    /// Whether there are pods. Without them a fleet is cheaper, always has room, and its workloads become ready as a whole.
    pub pods: bool,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { ready_after: seconds(10), seen_after: seconds(1), scaled_after: seconds(15), pods: true }
    }
}

/// Echo physics: what is asked of a cluster comes true after a while, as far as its nodes have room. Nothing fails by itself, and what a foreign hand
/// has set (a pod that is not ready, a node that is not) stays; faults are the tests' business.
#[derive(Clone, Debug, Default)]
pub struct Physics {
    pace: Pace,
    waits: Waits,
    /// The waits of the round before; what is not asked about again is forgotten.
    before: Waits,
    next: Option<DateTime<Utc>>,
    turn: usize,
}

/// What is waited for, by uid and aspect: the state that it was asked in, and when it is due.
type Waits = BTreeMap<(String, &'static str), (String, DateTime<Utc>)>;

/// Runs physics on a server for as long as it is polled: after each change, and when something is due.
pub async fn run(server: Server, mut physics: Physics) {
    let mut changes = server.changes();
    loop {
        changes.borrow_and_update();
        let now = server.now();
        let due = server.with(|store| physics.advance(store, now));
        let wait = due.map_or(Duration::from_hours(1), |due| (due - now).to_std().unwrap_or_default());
        tokio::select! {
            biased;
            more = changes.changed() => if more.is_err() { return },
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
            each(store, "Node", |store, kind, key| ready(store, kind, key, "KubeletReady"));
            each(store, "HorizontalPodAutoscaler", |store, kind, key| self.autoscale(store, kind, key, now));
            for workload in ["Deployment", "StatefulSet"] {
                each(store, workload, |store, kind, key| self.workload(store, kind, key, now));
            }
            self.pods(store, now);
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
            self.next = Some(self.next.map_or(due, |next| next.min(due)));
        }
        due <= now
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
        let (total, updated, ready) = if self.pace.pods {
            replace(store, kind, key, &object, &hash)?
        } else {
            let all = self.is_due(&object, "ready", format!("{replicas} {hash}"), self.pace.ready_after, now);
            let was = at(&object, "status.readyReplicas").as_u64().unwrap_or(0).min(replicas);
            (replicas, replicas, if all { replicas } else { was })
        };
        let stamp = timestamp(&store.clock);
        edit(store, kind, key, |object| {
            let generation = at(object, "metadata.generation").clone();
            set(object, "status.observedGeneration", generation);
            let counts =
                [("replicas", total), ("updatedReplicas", updated), ("readyReplicas", ready), ("availableReplicas", ready)];
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

    /// Puts pods on nodes in turn, where their CPU fits, and makes them Ready. In a cluster without nodes they run nowhere, but run.
    fn pods(&mut self, store: &mut Store, now: DateTime<Utc>) -> Option<()> {
        let (kind, nodes) = (store.kind("Pod")?, store.kind("Node")?);
        let mut room: Vec<(Object, u64)> =
            store.list(&nodes, "").map(|(_, node)| (node.clone(), cpu(at(node, "status.allocatable.cpu")))).collect();
        let pods: Vec<(Key, Object)> =
            store.list(&kind, "").filter(|(_, pod)| !is_over(pod)).map(|(key, pod)| (key.clone(), pod.clone())).collect();
        for (_, pod) in &pods {
            for (_, free) in room.iter_mut().filter(|(node, _)| *at(node, "metadata.name") == *at(pod, "spec.nodeName")) {
                *free = free.saturating_sub(request(pod));
            }
        }
        for (key, pod) in pods {
            if !at(&pod, "spec.nodeName").is_string() && !room.is_empty() {
                let count = room.len();
                let order = (self.turn..self.turn + count).map(|turn| turn % count);
                let fits =
                    |place: &usize| room.get(*place).is_some_and(|(node, free)| *free >= request(&pod) && takes(node, &pod));
                let Some(place) = order.into_iter().find(fits) else { continue };
                let Some((node, free)) = room.get_mut(place) else { continue };
                *free -= request(&pod);
                self.turn = (place + 1) % count;
                edit(store, &kind, &key, |pod| set(pod, "spec.nodeName", at(node, "metadata.name").clone()));
            }
            if condition(&pod).is_none() && self.is_due(&pod, "ready", String::new(), self.pace.ready_after, now) {
                edit(store, &kind, &key, |pod| set(pod, "status.phase", json!("Running")));
                ready(store, &kind, &key, "");
            }
        }
        Some(())
    }
}

/// Brings the pods of a workload to its spec: new ones at once, old ones as new ones are Ready (of a `StatefulSet` at once, since they share names).
/// Answers how many there are, how many of the present template, and how many are Ready.
fn replace(store: &mut Store, kind: &Kind, key: &Key, object: &Object, hash: &str) -> Option<(u64, u64, u64)> {
    let wanted = usize::try_from(at(object, "spec.replicas").as_u64().unwrap_or(1)).ok()?;
    let sets = store.kind("ReplicaSet")?;
    let (mut owner, mut owners) = ((kind.clone(), object.clone()), vec![object.clone()]);
    if kind.kind == "Deployment" {
        let name = format!("{}-{hash}", key.name);
        let present = Key::new(&sets, &key.namespace, &name);
        if store.get(&present).is_none() {
            let (template, selector) = (at(object, "spec.template"), at(object, "spec.selector"));
            let metadata =
                json!({"name": name, "labels": at(template, "metadata.labels"), "ownerReferences": [reference(kind, object)]});
            let spec = json!({"selector": selector, "template": template});
            store.create(&sets, &key.namespace, json!({"metadata": metadata, "spec": spec}), true, false).ok()?;
        }
        owners = store.list(&sets, &key.namespace).filter(|(_, set)| is_owned(set, object)).map(|(_, set)| set.clone()).collect();
        for one in &owners {
            let one = Key::new(&sets, &key.namespace, text(one, "metadata.name"));
            let is_present = one == present;
            // The real controller copies the annotations, whatever they are, and never takes one back.
            edit(store, &sets, &one, |copy| {
                set(copy, "spec.replicas", json!(if is_present { wanted } else { 0 }));
                for (name, value) in members(object, "metadata.annotations").filter(|_| is_present) {
                    map(copy, "metadata.annotations").insert(name.clone(), value.clone());
                }
            });
        }
        owner = (sets, store.get(&present)?.clone());
    }
    let pods = store.kind("Pod")?;
    let mine = |pod: &Object| owners.iter().any(|owner| is_owned(pod, owner)) && !is_over(pod);
    let all: Vec<(Key, Object)> =
        store.list(&pods, &key.namespace).filter(|(_, pod)| mine(pod)).map(|(key, pod)| (key.clone(), pod.clone())).collect();
    let is_ready = |pod: &Object| condition(pod).is_some_and(|ready| *at(ready, "status") == "True");
    let (mut new, mut old): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, pod)| at(pod, "metadata.labels").get(LABEL).is_some_and(|is| *is == hash));
    // Whoever is not ready goes first, then the last in order.
    new.sort_by_key(|(key, pod)| (!is_ready(pod), key.name.len(), key.name.clone()));
    let up = new.iter().filter(|(_, pod)| is_ready(pod)).count();
    let keep = if kind.kind == "Deployment" { wanted.saturating_sub(up) } else { 0 };
    let gone: Vec<_> = new.split_off(new.len().min(wanted)).into_iter().chain(old.split_off(old.len().min(keep))).collect();
    for (key, _) in gone {
        // A pod that a finalizer holds is counted until it is gone.
        let _ = store.delete(&pods, &key, &Deletion::default(), false);
    }
    for _ in new.len()..wanted {
        let template = at(object, "spec.template");
        let mut pod = json!({"metadata": at(template, "metadata"), "spec": at(template, "spec"), "status": {"phase": "Pending"}});
        let free = |name: &String| store.get(&Key::new(&pods, &key.namespace, name)).is_none();
        match kind.kind.as_str() {
            "StatefulSet" => {
                set(&mut pod, "metadata.name", json!((0..=wanted).map(|ordinal| format!("{}-{ordinal}", key.name)).find(free)));
            }
            _ => set(&mut pod, "metadata.generateName", json!(format!("{}-{hash}-", key.name))),
        }
        map(&mut pod, "metadata.labels").insert(LABEL.into(), json!(hash));
        set(&mut pod, "metadata.ownerReferences", json!([reference(&owner.0, &owner.1)]));
        store.create(&pods, &key.namespace, pod, true, false).ok()?;
    }
    let ready = new.iter().chain(&old).filter(|(_, pod)| is_ready(pod)).count();
    let count = |number| u64::try_from(number).ok();
    Some((count(wanted + old.len())?, count(wanted)?, count(ready)?))
}

/// The label that tells the templates apart.
const LABEL: &str = "pod-template-hash";

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

/// Ready, unless somebody has said yes or no already.
fn ready(store: &mut Store, kind: &Kind, key: &Key, reason: &str) {
    if store.get(key).is_some_and(|object| condition(object).is_none()) {
        let condition =
            json!({"type": "Ready", "status": "True", "reason": reason, "lastTransitionTime": timestamp(&store.clock)});
        edit(store, kind, key, |object| match object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            Some(conditions) => conditions.push(condition),
            None => set(object, "status.conditions", json!([condition])),
        });
    }
}

fn condition(object: &Value) -> Option<&Value> {
    at(object, "status.conditions").as_array()?.iter().find(|condition| *at(condition, "type") == "Ready")
}

fn takes(node: &Value, pod: &Value) -> bool {
    let taints = items(node, "spec.taints");
    let mut wanted = members(pod, "spec.nodeSelector");
    *at(node, "spec.unschedulable") != true
        && taints.filter(|taint| *at(taint, "effect") != "PreferNoSchedule").count() == 0
        && wanted.all(|(label, value)| at(node, "metadata.labels").get(label) == Some(value))
}

fn request(pod: &Value) -> u64 {
    let containers = items(pod, "spec.containers");
    containers.map(|container| cpu(at(container, "resources.requests.cpu"))).sum()
}

/// CPU in millicores, of `2`, `"1.5"` and `"250m"`.
fn cpu(quantity: &Value) -> u64 {
    let text = quantity.as_str().map_or_else(|| quantity.to_string(), str::to_owned);
    let (text, digits) = text.strip_suffix('m').map_or((text.as_str(), 3), |milli| (milli, 0));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{:0<digits$}", part.chars().take(digits).collect::<String>()).parse().unwrap_or(0)
}

fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "status.phase"), "Succeeded" | "Failed")
}

fn is_owned(object: &Value, owner: &Value) -> bool {
    at(object, "metadata.ownerReferences")
        .as_array()
        .is_some_and(|owners| owners.iter().any(|one| *at(one, "uid") == *at(owner, "metadata.uid")))
}

fn reference(kind: &Kind, owner: &Value) -> Value {
    let meta = at(owner, "metadata");
    json!({"apiVersion": kind.api_version(), "kind": kind.kind, "name": at(meta, "name"), "uid": at(meta, "uid"), "controller": true})
}

/// FNV-1a: names of `ReplicaSet`s only have to differ.
fn hash(template: &Value) -> String {
    let sum = template
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", sum & 0xffff_ffff)
}
