//! Singletons on an embedded fleet: in drills and outside, exactly one region runs them, whatever becomes of calls and operators.

use crate::base;
use crate::world::{DRILL, World, pace, seeds, test};
use firedrill::api::{SingletonWorkloadStatus, Stage, Verdict};
use firedrill::cli::embedded::{Embedded, REGIONS};
use firedrill::sim::Fates;
use firedrill::sim::physics::Pace;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KINDS: [&str; 3] = ["CronJob", "Deployment", "StatefulSet"];

/// The workload of a singleton, stopped everywhere but at home.
fn workload(kind: &str, is_home: bool) -> Value {
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

fn singleton(kind: &str, more: &Value) -> Value {
    let mut spec = json!({
        "workload": {"kind": kind, "name": kind.to_lowercase()}, "regions": REGIONS, "enforcement": "Enforce",
        "stop": {"settle": "15s"}, "token": {"configMap": {"name": format!("{}-epoch", kind.to_lowercase())}},
    });
    json_patch::merge(&mut spec, more);
    let metadata = json!({"name": kind.to_lowercase(), "namespace": "shop"});
    json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "SingletonWorkload", "metadata": metadata, "spec": spec})
}

fn with_pods() -> Pace {
    Pace { pods: true, ..pace() }
}

struct Fleet {
    world: World,
    watch: Watch,
}

/// What was seen to run where, by the pods alone.
#[derive(Clone)]
struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Moments at which two regions ran the same, and which.
    two: Vec<String>,
    /// For how long.
    together: Duration,
    since: BTreeMap<String, chrono::DateTime<chrono::Utc>>,
    /// The slots that each region started.
    jobs: BTreeMap<String, Vec<String>>,
    /// The highest epoch seen on any Lease or token.
    epochs: BTreeMap<String, u64>,
    falls: Vec<String>,
}

impl Watch {
    fn look(&self, fleet: &Embedded) {
        let now = fleet.clock.now();
        let mut seen = self.0.lock().unwrap();
        let running = |region: &str| -> BTreeSet<String> {
            let pods = fleet.server(region).unwrap().list("Pod", "shop");
            let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
            running.filter_map(|pod| Some(pod["metadata"]["labels"]["singleton"].as_str()?.to_owned())).collect()
        };
        let everywhere = REGIONS.map(|region| (region, running(region)));
        for kind in KINDS {
            let name = kind.to_lowercase();
            let running: Vec<&str> =
                everywhere.iter().filter(|(_, names)| names.contains(&name)).map(|(region, _)| *region).collect();
            if running.len() > 1 {
                let since = *seen.since.entry(name.clone()).or_insert(now);
                let lasted = (now - since).to_std().unwrap_or_default();
                seen.together = seen.together.max(lasted);
                seen.two.push(format!("{now} {name}: {}", running.join(" and ")));
            } else {
                seen.since.remove(&name);
            }
        }
        for region in REGIONS {
            let server = fleet.server(region).unwrap();
            for job in server.list("Job", "shop") {
                let (region, name) = (region.to_owned(), job["metadata"]["name"].as_str().unwrap().to_owned());
                let regions = seen.jobs.entry(name).or_default();
                if !regions.contains(&region) {
                    regions.push(region);
                }
            }
        }
        for (name, server) in &fleet.servers {
            for lease in server.list("Lease", "shop") {
                let key = format!("{name} {}", lease["metadata"]["name"]);
                let epoch: u64 = lease["metadata"]["annotations"]["firedrill.dev/epoch"].as_str().unwrap().parse().unwrap();
                let before = seen.epochs.insert(key.clone(), epoch).unwrap_or(0);
                if epoch < before {
                    seen.falls.push(format!("{key}: {before} to {epoch}"));
                }
            }
        }
    }

    /// Never two, no slot twice, no epoch fell.
    fn assert_one(&self, context: &str) {
        let seen = self.0.lock().unwrap();
        assert!(seen.two.is_empty(), "{context}: two regions ran it: {:#?}", &seen.two[..seen.two.len().min(5)]);
        let twice: Vec<_> = seen.jobs.iter().filter(|(_, regions)| regions.len() > 1).collect();
        assert!(twice.is_empty(), "{context}: slots ran twice: {twice:?}");
        assert!(seen.falls.is_empty(), "{context}: {:?}", seen.falls);
    }
}

impl Fleet {
    /// A fleet with these singletons, adopted by a calm operator that is stopped again.
    async fn new(seed: u64, kinds: &[&str], more: &Value) -> Self {
        let mut fleet = Embedded::new(seed, base()).unwrap();
        fleet.hurry().unwrap();
        for kind in kinds {
            for region in REGIONS {
                fleet.server(region).unwrap().seed(workload(kind, region == REGIONS[0])).unwrap();
            }
            fleet.server("hub").unwrap().seed(singleton(kind, more)).unwrap();
        }
        fleet.start(&with_pods());
        let first = fleet.operator("first", &Fates::calm());
        tokio::time::sleep(Duration::from_secs(15)).await;
        first.stop().await;
        let before = fleet.snapshot();
        Self { world: World { fleet, before }, watch: Watch(Arc::default()) }
    }

    fn status(&self, kind: &str) -> SingletonWorkloadStatus {
        let object = self.world.fleet.server("hub").unwrap().get("SingletonWorkload", "shop", &kind.to_lowercase()).unwrap();
        serde_json::from_value(object["status"].clone()).unwrap_or_default()
    }

    fn workload(&self, region: &str, kind: &str) -> Value {
        self.world.fleet.server(region).unwrap().get(kind, "shop", &kind.to_lowercase()).unwrap()
    }

    /// Watches until the condition holds, looking whenever anything changes anywhere.
    async fn until(&self, what: &str, minutes: i64, wanted: impl Fn(&Self) -> bool) {
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

    async fn done(&self) {
        self.until("the end", 20, |fleet| fleet.world.status().phase == firedrill::api::Phase::Done).await;
    }

    async fn pass(&self, seconds: i64) {
        let end = self.world.fleet.clock.now() + chrono::TimeDelta::seconds(seconds);
        self.until("time", 60, |fleet| fleet.world.fleet.clock.now() >= end).await;
    }

    fn is_at(&self, kind: &str, region: &str) -> bool {
        let status = self.status(kind);
        status.stage == Stage::Held && status.holder.as_deref() == Some(region)
    }
}

#[test]
fn a_drill_hands_every_kind_over_and_back_by_proof_and_leaves_everything_as_it_was() {
    test(async {
        let fleet = Fleet::new(1, &KINDS, &json!({})).await;
        let before: Vec<Value> = KINDS.iter().flat_map(|kind| REGIONS.map(|region| fleet.workload(region, kind))).collect();
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| KINDS.iter().all(|kind| fleet.is_at(kind, "eu-west"))).await;
        let epochs = KINDS.map(|kind| fleet.status(kind).epoch.0);
        assert_eq!(epochs, [1, 1, 1]);
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("handed over", 10, |fleet| KINDS.iter().all(|kind| fleet.is_at(kind, "us-east"))).await;
        assert_eq!(KINDS.map(|kind| fleet.status(kind).epoch.0), [2, 2, 2], "one per hand-over");
        let east = fleet.world.fleet.server("us-east").unwrap();
        for kind in KINDS {
            let token = east.get("ConfigMap", "shop", &format!("{}-epoch", kind.to_lowercase())).unwrap();
            assert_eq!(token["data"]["epoch"], "2");
            assert_eq!(fleet.workload("us-east", kind)["metadata"]["labels"]["firedrill.dev/epoch"], "2");
        }
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 2, "as many as at home");
        fleet.done().await;
        let status = fleet.world.status();
        assert_eq!(status.verdict, Some(Verdict::Passed), "{status:#?}");
        assert_eq!(KINDS.map(|kind| fleet.status(kind).epoch.0), [3, 3, 3]);
        // The deadline stays until the first regular run has passed.
        fleet.pass(120).await;
        let spec = |object: &Value| {
            (object["spec"].clone(), object["metadata"]["annotations"].clone(), object["metadata"]["labels"].clone())
        };
        let after: Vec<Value> = KINDS.iter().flat_map(|kind| REGIONS.map(|region| fleet.workload(region, kind))).collect();
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(spec(after), spec(before), "{after:#}");
        }
        fleet.watch.assert_one("calm");
        instance.stop().await;
    });
}
