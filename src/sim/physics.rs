/// `HorizontalPodAutoscaler`: the size of a workload between its bounds, by its load.
mod autoscaler;
/// `CronJob` → Jobs.
mod cronjob;
/// Deployment → `ReplicaSet`s.
mod deployment;
/// `PodDisruptionBudget`: how many pods may be evicted now.
mod disruption;
/// Job → pods that end.
mod job;
/// What runs on a node: pods start, become Ready, end.
mod kubelet;
/// Nodes that are lost, and what becomes of their pods.
mod node;
/// What controllers read of pods, and how they make them.
mod pod;
/// `ReplicaSet` → pods.
mod replicaset;
/// Pods → nodes.
mod scheduler;
/// `StatefulSet` → pods, one after another.
mod statefulset;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::json::{at, items, set, text};
use super::kind::Kind;
use super::server::Server;
use super::store::{Key, Object, Part, Store};

pub(crate) use self::disruption::may_evict;

/// How long things take.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How long a started pod takes to become Ready.
    pub ready_after: Duration,
    /// The same by image, where it differs; a pod takes as long as its slowest image.
    pub images: BTreeMap<String, Duration>,
    /// How long a controller takes to see a change of a spec; until then it acts by the old one.
    pub seen_after: Duration,
    /// How long an autoscaler takes; the real one looks every 15 s.
    pub scaled_after: Duration,
    /// How long a Job's pod runs.
    pub job_runs: Duration,
    /// How long a pod that is deleted takes to end.
    pub ends_after: Duration,
    /// How long the node lifecycle controller takes to doubt a node that is silent.
    pub doubted_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            ready_after: seconds(10),
            images: BTreeMap::new(),
            seen_after: seconds(1),
            scaled_after: seconds(15),
            job_runs: seconds(20),
            ends_after: seconds(3),
            doubted_after: seconds(5),
        }
    }
}

/// What a cluster does by itself: its controllers, its scheduler and its kubelets, one file each. A controller acts by the spec that it saw a
/// moment ago, so that one may still start what has just been stopped. Nothing fails by itself, and what a foreign hand has set (a node that is not ready)
/// stays; faults are the tests' business.
///
/// Not done, and nothing is pretended in their place: `DaemonSet`s, volumes, affinity between pods, topology spread, priorities and preemption,
/// quotas, proportional scaling in mid-rollout, paused rollouts.
#[derive(Clone, Debug, Default)]
pub struct Physics {
    pace: Pace,
    waits: Waits,
    /// The waits of the round before; what is not asked about again is forgotten.
    before: Waits,
    /// Objects as their controllers see them, by uid.
    views: BTreeMap<String, Object>,
    /// The load of this cluster over what its Ready pods carry.
    load: Option<f64>,
    /// What autoscalers wanted lately, by uid.
    wanted: BTreeMap<String, Vec<(DateTime<Utc>, u64)>>,
    next: Option<DateTime<Utc>>,
}

/// What is waited for, by uid and aspect: the state that it was asked in, and when it is due.
type Waits = BTreeMap<(String, &'static str), (String, DateTime<Utc>)>;

/// Runs physics on a server for as long as it is polled: after each change, and when something is due. `load` tells the load of this cluster
/// over what its Ready pods carry, where that is known.
pub async fn run(server: Server, mut physics: Physics, load: impl Fn() -> Option<f64>) {
    let mut changes = server.changes();
    loop {
        changes.know();
        let now = server.now();
        physics.load = load();
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
            each(store, "Node", |store, kind, key| self.node(store, kind, key, now));
            each(store, "HorizontalPodAutoscaler", |store, kind, key| self.autoscaler(store, kind, key, now));
            each(store, "Deployment", |store, kind, key| self.deployment(store, kind, key, now));
            each(store, "CronJob", |store, kind, key| self.cronjob(store, kind, key, now));
            each(store, "Job", |store, kind, key| self.job(store, kind, key, now));
            each(store, "ReplicaSet", |store, kind, key| self.replicaset(store, kind, key, now));
            each(store, "StatefulSet", |store, kind, key| self.statefulset(store, kind, key, now));
            scheduler::schedule(store);
            each(store, "Pod", |store, kind, key| self.kubelet(store, kind, key, now));
            each(store, "PodDisruptionBudget", disruption::budget);
            if store.revision() == revision {
                return self.next;
            }
        }
    }

    /// Whether it is `delay` since this aspect of this object first was in this state.
    fn is_due(&mut self, object: &Value, aspect: &'static str, state: String, delay: Duration, now: DateTime<Utc>) -> bool {
        let key = (text(object, "metadata.uid").to_owned(), aspect);
        let known = self.before.get(&key).filter(|(was, _)| *was == state).map(|(_, due)| *due);
        let later = || TimeDelta::from_std(delay).ok().and_then(|delay| now.checked_add_signed(delay));
        let due = known.unwrap_or_else(|| later().unwrap_or(DateTime::<Utc>::MAX_UTC));
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

    /// The object as its controller sees it by now; `None` before that has seen it at all.
    fn seen(&mut self, object: &Object, now: DateTime<Utc>) -> Option<Object> {
        let uid = text(object, "metadata.uid").to_owned();
        let generation = at(object, "metadata.generation").to_string();
        if self.is_due(object, "seen", generation, self.pace.seen_after, now) {
            self.views.insert(uid.clone(), Arc::clone(object));
        }
        self.views.get(&uid).cloned()
    }
}

/// How many pods serve users: Ready ones of `ReplicaSet`s and `StatefulSet`s.
pub(crate) fn serves(store: &mut Store) -> usize {
    let Some(pods) = store.kind("Pod") else { return 0 };
    let is_served = |pod: &Value| items(pod, "metadata.ownerReferences").any(|owner| text(owner, "kind") != "Job");
    store.list(&pods, "").filter(|(_, pod)| pod::is_ready(pod) && is_served(pod)).count()
}

/// The objects of a kind that this one controls, in the order of their names.
fn owned(store: &Store, kind: &Kind, owner: &Value) -> Vec<(Key, Object)> {
    store.dependents(kind, text(owner, "metadata.uid")).map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
}

/// How an object refers to what controls it.
fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": at(owner, "apiVersion"), "kind": at(owner, "kind"), "name": at(owner, "metadata.name"),
        "uid": at(owner, "metadata.uid"), "controller": true, "blockOwnerDeletion": true,
    })
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

/// Puts these values where they are not yet.
fn put(store: &mut Store, kind: &Kind, key: &Key, values: Vec<(&str, Value)>) {
    let Some(object) = store.get(key) else { return };
    let differing: Vec<_> = values.into_iter().filter(|(path, value)| at(object, path) != value).collect();
    if !differing.is_empty() {
        edit(store, kind, key, |object| differing.into_iter().for_each(|(path, value)| set(object, path, value)));
    }
}

/// A whole number at a path, or `absent`.
fn count(object: &Value, path: &str, absent: u64) -> u64 {
    at(object, path).as_u64().unwrap_or(absent)
}

/// A number or percentage at a path, of `all`, in whole things.
fn portion(object: &Value, path: &str, absent: &str, all: u64, up: bool) -> u64 {
    let value = at(object, path);
    if let Some(number) = value.as_u64() {
        return number;
    }
    let percent = |text: &str| text.strip_suffix('%').and_then(|number| number.parse::<u64>().ok());
    let percent = value.as_str().and_then(percent).or_else(|| percent(absent)).unwrap_or(0);
    if up { (all * percent).div_ceil(100) } else { all * percent / 100 }
}

/// Whether a condition of the object has this status.
fn is(object: &Value, condition: &str, status: &str) -> bool {
    items(object, "status.conditions").any(|one| text(one, "type") == condition && text(one, "status") == status)
}

/// The conditions with this one among them; the time of a transition stays where there is none.
fn with_condition(object: &Value, condition: &str, status: bool, reason: &str, message: &str, stamp: &str) -> Value {
    let status = if status { "True" } else { "False" };
    let was = items(object, "status.conditions").find(|one| text(one, "type") == condition);
    let since = was.filter(|was| text(was, "status") == status).map_or(stamp, |was| text(was, "lastTransitionTime"));
    let mut new = json!({"type": condition, "status": status, "lastTransitionTime": since});
    for (field, value) in [("reason", reason), ("message", message)].into_iter().filter(|(_, value)| !value.is_empty()) {
        set(&mut new, field, json!(value));
    }
    let mut all: Vec<Value> = items(object, "status.conditions").cloned().collect();
    match all.iter_mut().find(|one| text(one, "type") == condition) {
        Some(known) => *known = new,
        None => all.push(new),
    }
    json!(all)
}

/// FNV-1a: names of `ReplicaSet`s only have to differ.
fn hash(template: &Value) -> String {
    let sum = template
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", sum & 0xffff_ffff)
}
