//! An embedded fleet with singletons, and what is seen to run in it by the pods alone.

use crate::base;
use crate::world::{DRILL, World, pace, stormy};
use firedrill::api::{SingletonWorkloadStatus, Stage, Status};
use firedrill::cli::embedded::{Embedded, Instance, REGIONS};
use firedrill::sim::Fates;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const KINDS: [&str; 3] = ["CronJob", "Deployment", "StatefulSet"];

/// The workload of a singleton, stopped everywhere but at home.
pub fn workload(kind: &str, is_home: bool) -> Value {
    let name = kind.to_lowercase();
    let template = json!({
        "metadata": {"labels": {"singleton": name}},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": "one", "image": "one"}]},
    });
    let metadata = json!({"name": name, "namespace": "shop"});
    if kind == "CronJob" {
        return json!({
            "apiVersion": "batch/v1", "kind": kind, "metadata": metadata,
            "spec": {
                "schedule": "* * * * *", "suspend": !is_home, "concurrencyPolicy": "Forbid",
                "jobTemplate": {"spec": {"template": template}},
            },
        });
    }
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": metadata,
        "spec": {
            "replicas": if is_home { 2 } else { 0 }, "selector": {"matchLabels": {"singleton": name}}, "template": template,
        },
    })
}

pub fn singleton(kind: &str, more: &Value) -> Value {
    let mut spec = json!({
        "workload": {"kind": kind, "name": kind.to_lowercase()}, "regions": REGIONS, "enforcement": "Enforce",
        "stop": {"settle": "15s"}, "token": {"configMap": {"name": format!("{}-epoch", kind.to_lowercase())}},
    });
    json_patch::merge(&mut spec, more);
    let metadata = json!({"name": kind.to_lowercase(), "namespace": "shop"});
    json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "SingletonWorkload", "metadata": metadata, "spec": spec})
}

pub struct Fleet {
    pub world: World,
    pub watch: Watch,
}

/// What was seen to run where, by the pods alone.
#[derive(Clone)]
pub struct Watch(pub Arc<Mutex<Seen>>);

#[derive(Default)]
pub struct Seen {
    /// Moments at which two regions ran the same, and which.
    pub two: Vec<String>,
    /// For how long.
    pub together: Duration,
    pub since: BTreeMap<String, chrono::DateTime<chrono::Utc>>,
    /// The slots that each region started.
    pub jobs: BTreeMap<String, Vec<String>>,
    /// Who ran each last, and with which epoch on its workload.
    pub last: BTreeMap<String, (String, u64)>,
    /// The highest epoch seen on any Lease.
    pub epochs: BTreeMap<String, u64>,
    pub falls: Vec<String>,
}

impl Watch {
    fn look(&self, fleet: &Embedded) {
        let now = fleet.clock.now();
        let mut seen = self.0.lock().unwrap();
        let everywhere = REGIONS.map(|region| {
            fleet.server(region).unwrap().with(|store| {
                let (pods, jobs) = (store.kind("Pod").unwrap(), store.kind("Job").unwrap());
                let running: BTreeSet<String> = store
                    .list(&pods, "shop")
                    .filter(|(_, pod)| pod["status"]["phase"] == "Running")
                    .filter_map(|(_, pod)| Some(pod["metadata"]["labels"]["singleton"].as_str()?.to_owned()))
                    .collect();
                let jobs: Vec<String> = store.list(&jobs, "shop").map(|(key, _)| key.name.clone()).collect();
                (region, running, jobs)
            })
        });
        for kind in KINDS {
            let name = kind.to_lowercase();
            let running: Vec<&str> =
                everywhere.iter().filter(|(_, names, _)| names.contains(&name)).map(|(region, ..)| *region).collect();
            if let [only] = running.as_slice() {
                let object = fleet.server(only).unwrap().get(kind, "shop", &name).unwrap_or_default();
                let epoch = object["metadata"]["labels"]["firedrill.dev/epoch"].as_str().and_then(|text| text.parse().ok());
                // The first one has none on its workload.
                let epoch = epoch.unwrap_or(1);
                // What it began to run with: its stop will be stamped with the next.
                match seen.last.get(&name).cloned() {
                    Some((before, _)) if before == **only => {}
                    before => {
                        if let Some((before, old)) = before.filter(|(_, old)| epoch <= *old) {
                            seen.falls.push(format!("{name} went from {before} with epoch {old} to {only} with {epoch}"));
                        }
                        seen.last.insert(name.clone(), ((*only).to_owned(), epoch));
                    }
                }
            }
            if running.len() > 1 {
                let since = *seen.since.entry(name.clone()).or_insert(now);
                let lasted = (now - since).to_std().unwrap_or_default();
                seen.together = seen.together.max(lasted);
                seen.two.push(format!("{now} {name}: {}", running.join(" and ")));
            } else {
                seen.since.remove(&name);
            }
        }
        for (region, _, jobs) in &everywhere {
            for job in jobs {
                let regions = seen.jobs.entry(job.clone()).or_default();
                if !regions.iter().any(|known| known == region) {
                    regions.push((*region).to_owned());
                }
            }
        }
        for (name, server) in &fleet.servers {
            for lease in server.list("Lease", "shop") {
                let key = format!("{name} {}", lease["metadata"]["name"]);
                let epoch = lease["metadata"]["annotations"]["firedrill.dev/epoch"].as_str().map(|text| text.parse().unwrap());
                // An application's own Lease has none; of ours it may not vanish.
                if epoch.is_none() && !seen.epochs.contains_key(&key) {
                    continue;
                }
                let epoch: u64 = epoch.unwrap_or(0);
                let before = seen.epochs.insert(key.clone(), epoch).unwrap_or(0);
                if epoch < before {
                    seen.falls.push(format!("{key}: {before} to {epoch}"));
                }
            }
        }
    }

    /// Never two, no slot twice, no epoch fell.
    pub fn assert_one(&self, context: &str) {
        let seen = self.0.lock().unwrap();
        assert!(seen.two.is_empty(), "{context}: two regions ran it: {:#?}", &seen.two[..seen.two.len().min(5)]);
        let twice: Vec<_> = seen.jobs.iter().filter(|(_, regions)| regions.len() > 1).collect();
        assert!(twice.is_empty(), "{context}: slots ran twice: {twice:?}");
        assert!(seen.falls.is_empty(), "{context}: {:?}", seen.falls);
    }
}

impl Fleet {
    /// A fleet with these singletons, adopted by a calm operator that is stopped again.
    pub async fn new(seed: u64, kinds: &[&str], more: &Value) -> Self {
        let mut fleet = Embedded::new(seed, base()).unwrap();
        fleet.hurry().unwrap();
        for kind in kinds {
            for region in REGIONS {
                fleet.server(region).unwrap().seed(workload(kind, region == REGIONS[0])).unwrap();
            }
            fleet.server("hub").unwrap().seed(singleton(kind, more)).unwrap();
        }
        fleet.start(&pace());
        let first = fleet.operator("first", &Fates::calm());
        tokio::time::sleep(Duration::from_secs(15)).await;
        first.stop().await;
        let before = fleet.snapshot();
        Self { world: World { fleet, before }, watch: Watch(Arc::default()) }
    }

    /// A fleet with this singleton, held at home by a calm operator.
    pub async fn adopted(seed: u64, kind: &str, more: &Value) -> (Self, Instance) {
        let fleet = Self::new(seed, &[kind], more).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at(kind, REGIONS[0])).await;
        (fleet, instance)
    }

    /// One whose drill has just begun to hand it over.
    pub async fn stopping(seed: u64, kind: &str, more: &Value) -> (Self, Instance) {
        let (fleet, instance) = Self::adopted(seed, kind, more).await;
        fleet.world.fleet.drill(DRILL, REGIONS[0]).unwrap();
        fleet.until("the hand-over", 10, |fleet| fleet.status(kind).stage == Stage::Stopping).await;
        (fleet, instance)
    }

    pub fn status(&self, kind: &str) -> SingletonWorkloadStatus {
        let object = self.world.fleet.server("hub").unwrap().get("SingletonWorkload", "shop", &kind.to_lowercase()).unwrap();
        serde_json::from_value(object["status"].clone()).unwrap_or_default()
    }

    pub fn workload(&self, region: &str, kind: &str) -> Value {
        self.world.fleet.server(region).unwrap().get(kind, "shop", &kind.to_lowercase()).unwrap()
    }

    /// Watches until the condition holds, looking whenever anything changes anywhere.
    pub async fn until(&self, what: &str, minutes: i64, wanted: impl Fn(&Self) -> bool) {
        let end = self.world.fleet.clock.now() + chrono::TimeDelta::minutes(minutes);
        loop {
            self.watch.look(&self.world.fleet);
            if wanted(self) {
                return;
            }
            let statuses: Vec<_> = KINDS
                .iter()
                .filter_map(|kind| self.world.fleet.server("hub").unwrap().get("SingletonWorkload", "shop", &kind.to_lowercase()))
                .map(|object| object["status"].clone())
                .collect();
            assert!(
                self.world.fleet.clock.now() < end,
                "{what} did not come about: {:#?} {}",
                self.world.status(),
                serde_json::to_string_pretty(&statuses).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn done(&self) {
        self.until("the end", 20, |fleet| fleet.world.status().phase == firedrill::api::Phase::Done).await;
    }

    pub async fn pass(&self, seconds: i64) {
        let end = self.world.fleet.clock.now() + chrono::TimeDelta::seconds(seconds);
        self.until("time", 60, |fleet| fleet.world.fleet.clock.now() >= end).await;
    }

    /// Faults of every kind for so many seconds; then the network is calm.
    pub fn storm(&self, seed: u64, seconds: i64) -> Fates {
        let clock = &self.world.fleet.clock;
        stormy(seed, clock.now() + chrono::TimeDelta::seconds(seconds), clock)
    }

    /// The kubelet under a singleton's first running pod falls silent; its node.
    pub fn silence(&self, region: &str, singleton: &str) -> String {
        let server = self.world.fleet.server(region).unwrap();
        let pods = server.list("Pod", "shop");
        let of_it = |pod: &&Value| pod["metadata"]["labels"]["singleton"] == singleton && pod["status"]["phase"] == "Running";
        let node = pods.iter().find(of_it).unwrap()["spec"]["nodeName"].as_str().unwrap().to_owned();
        server.edit("Node", "", &node, |node| node["status"]["conditions"][0]["status"] = json!("Unknown")).unwrap();
        node
    }

    pub fn is_at(&self, kind: &str, region: &str) -> bool {
        let status = self.status(kind);
        status.stage == Stage::Held && status.holder.as_deref() == Some(region)
    }
}

pub fn condition(status: &SingletonWorkloadStatus, kind: &str) -> (Status, String, String) {
    let found = status.conditions.iter().find(|condition| condition.kind == kind).unwrap();
    (found.status, found.reason.clone(), found.message.clone())
}
