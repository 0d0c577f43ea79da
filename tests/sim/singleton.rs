//! Singletons on an embedded fleet: in drills and outside, exactly one region runs them, whatever becomes of calls and operators.

use crate::base;
use crate::world::{DRILL, World, pace, seeds, test};
use firedrill::api::{HoldReason, SingletonWorkloadStatus, Stage, Status, Verdict};
use firedrill::cli::embedded::{Embedded, Instance, REGIONS};
use firedrill::sim::physics::Pace;
use firedrill::sim::{Call, End, Fate, Fates, Server};
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

/// Faults of every kind for a while; then the network is calm.
fn stormy(seed: u64, fleet: &Fleet, seconds: i64) -> Fates {
    let mut random = fastrand::Rng::with_seed(seed);
    let clock = fleet.world.fleet.clock.clone();
    let until = clock.now() + chrono::TimeDelta::seconds(seconds);
    Fates::new(move |_| {
        let mut fate = Fate {
            before: Duration::from_millis(random.u64(0..40)),
            after: Duration::from_millis(random.u64(0..40)),
            end: End::Deliver,
        };
        if clock.now() < until {
            match random.u32(0..100) {
                0..2 => fate.end = End::Refuse(503, "ServiceUnavailable"),
                2 => fate.end = End::LoseAnswer,
                3 => fate.end = End::Break,
                4 => fate.end = End::Lost,
                // Later than any time-out: a write that lands when nobody waits for it any more.
                5 => fate.before = Duration::from_secs(random.u64(5..20)),
                _ => {}
            }
        }
        fate
    })
}

#[test]
fn under_any_finite_faults_never_two_regions_run_it_and_it_comes_home() {
    for seed in seeds(90) {
        test(async {
            let kind = KINDS[usize::try_from(seed % 3).unwrap()];
            let context = format!("seed {seed} {kind}");
            println!("{context}");
            let fleet = Fleet::new(seed, &[kind], &json!({})).await;
            let mut random = fastrand::Rng::with_seed(seed ^ 0x51);
            let mut instances = vec![fleet.world.fleet.operator("a", &stormy(seed, &fleet, 120))];
            fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
            for number in 0..random.u32(1..6) {
                fleet.pass(random.i64(0..40)).await;
                match random.u32(0..4) {
                    0 => {
                        instances.pop().unwrap().kill();
                        let fates = stormy(seed + 1000 * u64::from(number), &fleet, 60);
                        instances.push(fleet.world.fleet.operator(&format!("a{number}"), &fates));
                    }
                    // Old, new, third or hub; or, where all are, the whole process is paused.
                    1 | 2 => {
                        let links: Vec<_> = instances.last().unwrap().links.values().cloned().collect();
                        let whole = random.bool();
                        let chosen = random.usize(0..links.len());
                        let cut: Vec<_> = links.into_iter().enumerate().filter(|(at, _)| whole || *at == chosen).collect();
                        for (_, link) in &cut {
                            link.partition();
                        }
                        fleet.pass(random.i64(0..40)).await;
                        for (_, link) in &cut {
                            link.heal();
                        }
                    }
                    _ => {
                        let fates = stormy(seed + 2000 * u64::from(number), &fleet, 60);
                        instances.insert(0, fleet.world.fleet.operator(&format!("b{number}"), &fates));
                    }
                }
            }
            fleet.done().await;
            fleet.until("home", 10, |fleet| fleet.is_at(kind, "eu-west")).await;
            fleet.pass(130).await;
            fleet.watch.assert_one(&context);
            fleet.world.assert_restored(&context);
            let regions = REGIONS.map(|region| fleet.workload(region, kind)["metadata"].to_string());
            assert!(regions.iter().all(|metadata| !metadata.contains("firedrill.dev/")), "{context}: {regions:?}");
            instances.iter().for_each(Instance::kill);
        });
    }
}

/// Runs a hand-over of a Deployment with a bug at the seam; what the watch saw.
async fn with_bug(plant: impl Fn(&Fleet, &Instance), fates: &Fates) -> Watch {
    let fleet = Fleet::new(5, &["Deployment"], &json!({})).await;
    let instance = fleet.world.fleet.operator("a", fates);
    fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
    plant(&fleet, &instance);
    fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
    fleet.pass(180).await;
    instance.kill();
    fleet.watch.clone()
}

/// Makes a workload look stopped with the epoch of the hand-over that is under way.
fn looks_stopped(hub: Server) -> impl Fn(&Call, &mut Value) {
    move |call, json| {
        let singleton = hub.get("SingletonWorkload", "shop", "deployment").unwrap();
        if singleton["status"]["stage"] == "Held" && singleton["status"]["holder"] == "eu-west" {
            return;
        }
        if call.verb == "get" && call.path.ends_with("/deployments/deployment") {
            json["spec"]["replicas"] = json!(0);
            json["metadata"]["labels"]["firedrill.dev/epoch"] = json!(singleton["status"]["handover"]["epoch"].to_string());
        }
        if call.verb == "list" && call.path.ends_with("/pods") {
            json["items"] = json!([]);
        }
    }
}

#[test]
fn a_stop_that_was_never_written_would_be_found() {
    test(async {
        // The patch is answered and not stored, and from then on the region looks as if it had been.
        let calm = || Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::Deliver };
        let fates = Fates::new(move |call| {
            let stops = call.server == "eu-west" && call.verb == "patch" && call.path.contains("/deployments/deployment");
            Fate { end: if stops { End::Pretend } else { End::Deliver }, ..calm() }
        });
        let watch = with_bug(
            |fleet, instance| {
                let hub = fleet.world.fleet.server("hub").unwrap().clone();
                instance.links["eu-west"].lie(looks_stopped(hub));
            },
            &fates,
        )
        .await;
        assert!(!watch.0.lock().unwrap().two.is_empty(), "two regions ran it, and nobody saw that");
    });
}

#[test]
fn a_stop_that_is_only_claimed_to_be_written_starts_nothing_elsewhere() {
    test(async {
        let fates = Fates::new(move |call| {
            let stops = call.server == "eu-west" && call.verb == "patch" && call.path.contains("/deployments/deployment");
            Fate { before: Duration::ZERO, after: Duration::ZERO, end: if stops { End::Pretend } else { End::Deliver } }
        });
        let watch = with_bug(|_, _| {}, &fates).await;
        watch.assert_one("the answer alone proves nothing");
    });
}

#[test]
fn a_start_before_the_proof_would_be_found() {
    test(async {
        // The stop is written, and its pods take five minutes to end; the lists do not show them.
        let plant = |fleet: &Fleet, instance: &Instance| {
            let west = fleet.world.fleet.server("eu-west").unwrap();
            // A kubelet that is gone ends no pod.
            west.edit("Node", "", "eu-west-0", |node| node["status"]["conditions"][0]["status"] = json!("Unknown")).unwrap();
            instance.links["eu-west"].lie(|call, json| {
                if call.verb == "list" && call.path.ends_with("/pods") {
                    json["items"] = json!([]);
                }
                if call.verb == "get" && call.path.contains("/nodes/") {
                    json["status"]["conditions"][0]["status"] = json!("True");
                }
            });
        };
        let watch = with_bug(plant, &Fates::calm()).await;
        assert!(!watch.0.lock().unwrap().two.is_empty(), "two regions ran it, and nobody saw that");
    });
}

#[test]
fn an_epoch_that_falls_would_be_found() {
    test(async {
        let plant = |fleet: &Fleet, _: &Instance| {
            let hub = fleet.world.fleet.server("hub").unwrap().clone();
            let clock = fleet.world.fleet.clock.clone();
            let end = clock.now() + chrono::TimeDelta::seconds(120);
            tokio::spawn(async move {
                // As if the epoch were not read from where it is kept.
                while clock.now() < end {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    hub.edit("Lease", "shop", "firedrill-deployment", |lease| {
                        lease["metadata"]["annotations"]["firedrill.dev/epoch"] = json!("1");
                    })
                    .unwrap();
                }
            });
        };
        let watch = with_bug(plant, &Fates::calm()).await;
        assert!(!watch.0.lock().unwrap().falls.is_empty(), "an epoch fell, and nobody saw that");
    });
}

#[test]
fn a_start_that_is_taken_for_settled_while_it_may_still_land_would_be_found() {
    test(async {
        // The start is long under way. The version that guards it is shown as gone, and what is there as stopped; the drill goes back.
        let sent = Arc::new(Mutex::new(false));
        let flag = Arc::clone(&sent);
        let fates = Fates::new(move |call| {
            let writes = call.verb == "patch" && call.path.contains("/deployments/deployment") && !call.dry_run;
            let mut fate = Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::Deliver };
            if call.server == "us-east" && writes {
                let sent = flag.lock().unwrap();
                // The first is the stop there, with the epoch; the second starts.
                if *sent {
                    fate.end = End::Refuse(500, "InternalError");
                }
            }
            fate
        });
        let plant = |fleet: &Fleet, instance: &Instance| {
            let hub = fleet.world.fleet.server("hub").unwrap().clone();
            let status = hub.clone();
            let sees = Arc::clone(&sent);
            instance.links["us-east"].lie(move |call, json| {
                if *sees.lock().unwrap() && call.verb == "get" && call.path.ends_with("/deployments/deployment") {
                    let singleton = status.get("SingletonWorkload", "shop", "deployment").unwrap();
                    json["metadata"]["resourceVersion"] = json!("1");
                    json["metadata"]["labels"]["firedrill.dev/epoch"] =
                        json!(singleton["status"]["handover"]["epoch"].to_string());
                    json["spec"]["replicas"] = json!(0);
                }
            });
            let (sent, clock) = (Arc::clone(&sent), fleet.world.fleet.clock.clone());
            let east = fleet.world.fleet.server("us-east").unwrap().clone();
            tokio::spawn(async move {
                while hub.get("SingletonWorkload", "shop", "deployment").unwrap()["status"]["stage"] != "Publishing" {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                *sent.lock().unwrap() = true;
                hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!("Abort")).unwrap();
                // The start, as it was decided, lands a minute later.
                let lands = clock.now() + chrono::TimeDelta::seconds(90);
                while clock.now() < lands {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                east.edit("Deployment", "shop", "deployment", |object| object["spec"]["replicas"] = json!(2)).unwrap();
            });
        };
        let watch = with_bug(plant, &fates).await;
        assert!(!watch.0.lock().unwrap().two.is_empty(), "two regions ran it, and nobody saw that");
    });
}

fn condition(status: &SingletonWorkloadStatus, kind: &str) -> (Status, String, String) {
    let found = status.conditions.iter().find(|condition| condition.kind == kind).unwrap();
    (found.status, found.reason.clone(), found.message.clone())
}

#[test]
fn somebody_who_starts_it_at_home_again_is_stopped_at_once_and_no_slot_runs_twice() {
    test(async {
        for kind in ["CronJob", "Deployment"] {
            let more = if kind == "CronJob" { json!({"stop": {"runningJobs": "Delete"}}) } else { json!({}) };
            let fleet = Fleet::new(3, &[kind], &more).await;
            let instance = fleet.world.fleet.operator("a", &Fates::calm());
            let hub = fleet.world.fleet.server("hub").unwrap();
            hub.edit("EvacuationPlan", "", "shop", |plan| plan["spec"]["soak"] = json!("3m")).unwrap();
            fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
            fleet.until("handed over", 10, |fleet| fleet.is_at(kind, "us-east")).await;
            // GitOps, which knows nothing of it, every 10 s.
            let west = fleet.world.fleet.server("eu-west").unwrap();
            for _ in 0..12 {
                fleet.pass(10).await;
                west.edit(kind, "shop", &kind.to_lowercase(), |object| match kind {
                    "CronJob" => object["spec"]["suspend"] = json!(false),
                    _ => object["spec"]["replicas"] = json!(2),
                })
                .unwrap();
            }
            fleet.done().await;
            fleet.until("home", 10, |fleet| fleet.is_at(kind, "eu-west")).await;
            {
                let seen = fleet.watch.0.lock().unwrap();
                // A look each second while a drill acts, and what a pod takes to end.
                assert!(seen.together <= Duration::from_secs(6), "{kind}: two for {:?}", seen.together);
                assert!(seen.jobs.values().all(|regions| regions.len() == 1), "{:?}", seen.jobs);
                assert!(seen.falls.is_empty());
                let events: Vec<Value> = hub
                    .list("events", "shop")
                    .into_iter()
                    .filter(|event| event["reason"] == "Enforcing" || event["reason"] == "TwoHolders")
                    .collect();
                assert!(!events.is_empty(), "nobody was told");
            }
            instance.stop().await;
        }
    });
}

#[test]
fn what_cannot_be_stopped_in_a_second_region_stops_the_holder_too() {
    test(async {
        let fleet = Fleet::new(4, &["CronJob"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("CronJob", "eu-west")).await;
        // A Job made by hand in another region; this singleton waits for Jobs, so it cannot be ended at once.
        let east = fleet.world.fleet.server("us-east").unwrap();
        let cronjob = fleet.workload("us-east", "CronJob");
        let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "cronjob", "uid": cronjob["metadata"]["uid"]}]);
        let template = cronjob["spec"]["jobTemplate"]["spec"].clone();
        let metadata = json!({"name": "by-hand", "namespace": "shop", "ownerReferences": owner});
        // Just after a run at home has begun.
        fleet
            .until("a run", 3, |fleet| {
                fleet.watch.0.lock().unwrap().since.is_empty() && fleet.world.fleet.clock.now().timestamp() % 60 == 5
            })
            .await;
        east.seed(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template})).unwrap();
        fleet.until("the alarm", 1, |fleet| condition(&fleet.status("CronJob"), "Exclusive").1 == "TwoHolders").await;
        fleet.until("the stop", 1, |fleet| fleet.workload("eu-west", "CronJob")["spec"]["suspend"] == true).await;
        fleet.until("the end", 3, |fleet| fleet.is_at("CronJob", "eu-west")).await;
        assert_eq!(fleet.status("CronJob").epoch.0, 2);
        assert_eq!(fleet.workload("eu-west", "CronJob")["spec"]["suspend"], false);
        instance.stop().await;
    });
}

#[test]
fn a_holder_that_cannot_be_seen_is_waited_for_and_a_person_is_asked() {
    test(async {
        let fleet = Fleet::new(6, &["Deployment"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("the hand-over", 10, |fleet| fleet.status("Deployment").stage == Stage::Stopping).await;
        instance.links["eu-west"].partition();
        fleet
            .until("the question", 3, |fleet| {
                let held = fleet.world.status().hold.is_some_and(|hold| hold.reason == HoldReason::NeedsHuman);
                held && condition(&fleet.status("Deployment"), "Ready").1 == "NeedsHuman"
            })
            .await;
        fleet.pass(60).await;
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 0, "it was started without a proof");
        instance.links["eu-west"].heal();
        fleet.until("handed over", 5, |fleet| fleet.is_at("Deployment", "us-east")).await;
        fleet.done().await;
        fleet.until("home", 10, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.watch.assert_one("partition");
        instance.stop().await;
    });
}

#[test]
fn a_pod_on_a_silent_node_or_deleted_by_force_keeps_the_next_holder_from_starting() {
    test(async {
        for force in [false, true] {
            let fleet = Fleet::new(7, &["Deployment"], &json!({})).await;
            let instance = fleet.world.fleet.operator("a", &Fates::calm());
            fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
            fleet.pass(10).await;
            let west = fleet.world.fleet.server("eu-west").unwrap();
            west.edit("Node", "", "eu-west-0", |node| node["status"]["conditions"][0]["status"] = json!("Unknown")).unwrap();
            fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
            fleet.until("the hand-over", 10, |fleet| fleet.status("Deployment").stage == Stage::Stopping).await;
            fleet.pass(5).await;
            if force {
                for pod in west.list("Pod", "shop").iter().filter(|pod| pod["metadata"]["labels"]["singleton"] == "deployment") {
                    let name = pod["metadata"]["name"].as_str().unwrap();
                    west.edit("Pod", "shop", name, |pod| pod["metadata"]["finalizers"] = json!([])).unwrap();
                    let _ = west.delete("Pod", "shop", name);
                }
            }
            fleet.pass(240).await;
            let message = fleet.status("Deployment").message;
            assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 0, "{message}");
            assert_eq!(condition(&fleet.status("Deployment"), "Ready").1, "NeedsHuman", "{message}");
            assert!(message.contains("on node eu-west-0"), "{message}");
            // The machine is booted anew: nothing of before runs there.
            west.edit("Node", "", "eu-west-0", |node| {
                node["status"]["conditions"][0]["status"] = json!("True");
                node["status"]["nodeInfo"] = json!({"bootID": "another"});
            })
            .unwrap();
            fleet.until("handed over", 5, |fleet| fleet.is_at("Deployment", "us-east")).await;
            fleet.done().await;
            instance.stop().await;
        }
    });
}

#[test]
fn a_fleet_is_taken_as_it_is_found() {
    test(async {
        let east = |fleet: &Fleet, replicas: u64| {
            let server = fleet.world.fleet.server("us-east").unwrap();
            server.edit("Deployment", "shop", "deployment", |object| object["spec"]["replicas"] = json!(replicas)).unwrap();
        };
        // Report: told, and nothing written.
        let fleet = Fleet::new(8, &["Deployment"], &json!({"enforcement": "Report", "token": null})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        east(&fleet, 1);
        fleet.until("the alarm", 1, |fleet| condition(&fleet.status("Deployment"), "Exclusive").1 == "TwoHolders").await;
        fleet.pass(60).await;
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 1);
        assert_eq!(fleet.status("Deployment").runs_in, "eu-west, us-east");
        // Enforced with two that run: only told, until somebody says who stays.
        let hub = fleet.world.fleet.server("hub").unwrap();
        hub.edit("SingletonWorkload", "shop", "deployment", |object| object["spec"]["enforcement"] = json!("Enforce")).unwrap();
        fleet.pass(30).await;
        let (ready, reason, message) = condition(&fleet.status("Deployment"), "Ready");
        assert_eq!((ready, reason.as_str()), (Status::False, "NeedsHuman"));
        assert_eq!(message, "eu-west and us-east run it: stop all but one, or name who stays in spec.keep");
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 1);
        hub.edit("SingletonWorkload", "shop", "deployment", |object| object["spec"]["keep"] = json!("us-east")).unwrap();
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "us-east")).await;
        fleet.until("the stop", 2, |fleet| fleet.workload("eu-west", "Deployment")["spec"]["replicas"] == 0).await;
        fleet.pass(60).await;
        assert_eq!(fleet.status("Deployment").home.as_deref(), Some("us-east"));
        // It goes: what runs runs on, and no claim is left.
        hub.delete("SingletonWorkload", "shop", "deployment").unwrap();
        fleet.until("the end", 2, |_| hub.get("SingletonWorkload", "shop", "deployment").is_none()).await;
        for (region, replicas) in [("eu-west", 0), ("us-east", 1)] {
            let object = fleet.workload(region, "Deployment");
            assert_eq!(object["spec"]["replicas"], replicas, "{region}");
            assert!(!object["metadata"].to_string().contains("firedrill.dev/"), "{object:#}");
        }
        instance.stop().await;
        // Nobody runs it: told, and who is started by a person is adopted.
        let fleet = Fleet::new(8, &["Deployment"], &json!({})).await;
        let west = fleet.world.fleet.server("eu-west").unwrap();
        hub_delete(&fleet).await;
        west.edit("Deployment", "shop", "deployment", |object| object["spec"]["replicas"] = json!(0)).unwrap();
        fleet.pass(20).await;
        fleet.world.fleet.server("hub").unwrap().seed(singleton("Deployment", &json!({}))).unwrap();
        let instance = fleet.world.fleet.operator("b", &Fates::calm());
        fleet.pass(20).await;
        assert_eq!(condition(&fleet.status("Deployment"), "Exclusive").1, "NoHolder");
        east(&fleet, 1);
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "us-east")).await;
        assert_eq!(fleet.status("Deployment").epoch.0, 2, "above what the lease remembers");
        instance.stop().await;
    });
}

/// Deletes the Deployment's singleton with an operator there to let it go.
async fn hub_delete(fleet: &Fleet) {
    let hub = fleet.world.fleet.server("hub").unwrap();
    let instance = fleet.world.fleet.operator("a", &Fates::calm());
    fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
    hub.delete("SingletonWorkload", "shop", "deployment").unwrap();
    fleet.until("the end", 2, |_| hub.get("SingletonWorkload", "shop", "deployment").is_none()).await;
    instance.stop().await;
}

#[test]
fn what_is_wrong_with_a_singleton_is_said_and_no_drill_begins() {
    test(async {
        let fleet = Fleet::new(9, &["Deployment", "CronJob"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        let hub = fleet.world.fleet.server("hub").unwrap();
        let add = |name: &str, spec: Value| {
            let metadata = json!({"name": name, "namespace": "shop"});
            hub.seed(
                json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "SingletonWorkload", "metadata": metadata, "spec": spec}),
            )
            .unwrap();
        };
        fleet.pass(10).await;
        let spec = |kind: &str, name: &str| json!({"workload": {"kind": kind, "name": name}, "regions": REGIONS, "enforcement": "Enforce"});
        add("missing", spec("StatefulSet", "statefulset"));
        add("other-kind", spec("StatefulSet", "deployment"));
        add("twice", spec("Deployment", "deployment"));
        add("scaled", spec("Deployment", "cart"));
        let mut elsewhere = spec("CronJob", "cronjob");
        elsewhere["regions"] = json!(["eu-west", "mars"]);
        elsewhere["workload"]["name"] = json!("other");
        add("elsewhere", elsewhere);
        let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "shop"}, "data": {"epoch": "9"}});
        fleet.world.fleet.server("ap-south").unwrap().seed(foreign.clone()).unwrap();
        for region in REGIONS {
            let mut object = workload("Deployment", region == "eu-west");
            object["metadata"]["name"] = json!("third");
            object["spec"]["selector"]["matchLabels"]["singleton"] = json!("third");
            object["spec"]["template"]["metadata"]["labels"]["singleton"] = json!("third");
            fleet.world.fleet.server(region).unwrap().seed(object).unwrap();
        }
        let mut token = spec("Deployment", "third");
        token["token"] = json!({"configMap": {"name": "theirs"}});
        add("token", token);
        fleet.pass(20).await;
        let said = |name: &str| {
            let object = hub.get("SingletonWorkload", "shop", name).unwrap();
            let status: SingletonWorkloadStatus = serde_json::from_value(object["status"].clone()).unwrap();
            let (ready, reason, message) = condition(&status, "Ready");
            assert_eq!(ready, Status::False, "{name}");
            assert_eq!(status.stage, Stage::Observed, "{name}");
            format!("{reason}: {message}")
        };
        let there = "create it there (stopped), or correct spec.workload or spec.regions";
        assert_eq!(said("missing"), format!("WorkloadMissing: there is no StatefulSet shop/statefulset in ap-south: {there}"));
        assert_eq!(said("other-kind"), format!("WorkloadMissing: there is no StatefulSet shop/deployment in ap-south: {there}"));
        assert_eq!(
            said("twice"),
            "AlreadyLed: Deployment shop/deployment is led by SingletonWorkload deployment already, which is older: delete one of them"
        );
        assert_eq!(
            said("scaled"),
            "Autoscaled: HorizontalPodAutoscaler cart in ap-south scales shop/cart: a singleton is started and stopped by its replicas; \\
             delete the autoscaler"
                .replace("\\\n             ", "")
        );
        assert_eq!(said("elsewhere"), "RegionUnknown: there is no Region mars: create it, or correct spec.regions");
        assert_eq!(
            said("token"),
            "TokenForeign: ap-south: ConfigMap shop/theirs belongs to somebody else: name another in spec.token, or delete it"
        );
        assert_eq!(
            fleet.world.fleet.server("ap-south").unwrap().get("ConfigMap", "shop", "theirs").unwrap()["data"],
            foreign["data"]
        );
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.done().await;
        let status = fleet.world.status();
        assert_eq!(status.verdict, Some(Verdict::Refused));
        let blocked: BTreeSet<&str> = status.findings.iter().map(|finding| finding.object.as_str()).collect();
        for name in ["missing", "other-kind", "twice", "scaled", "elsewhere", "token"] {
            assert!(blocked.contains(format!("SingletonWorkload shop/{name}").as_str()), "{blocked:?}");
        }
        instance.stop().await;
    });
}

#[test]
fn an_epoch_edited_by_hand_never_makes_it_fall() {
    test(async {
        let fleet = Fleet::new(10, &["Deployment"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        let west = fleet.world.fleet.server("eu-west").unwrap();
        let token = |text: &str| {
            west.edit("ConfigMap", "shop", "deployment-epoch", |token| token["data"]["epoch"] = json!(text)).unwrap()
        };
        let stands = || west.get("ConfigMap", "shop", "deployment-epoch").unwrap()["data"]["epoch"].clone();
        token("40");
        fleet.pass(20).await;
        assert_eq!((fleet.status("Deployment").epoch.0, stands()), (40, json!("40")), "a storage may have seen it");
        for lower in ["3", "-1", "none", "99999999999999999999"] {
            token(lower);
            fleet.pass(20).await;
            assert_eq!((fleet.status("Deployment").epoch.0, stands()), (40, json!("40")), "{lower}");
        }
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("handed over", 10, |fleet| fleet.is_at("Deployment", "us-east")).await;
        assert_eq!(fleet.status("Deployment").epoch.0, 41);
        fleet.done().await;
        fleet.watch.assert_one("by hand");
        instance.stop().await;
    });
}

#[test]
fn a_singleton_that_is_changed_or_deleted_while_a_drill_names_it_is_led_home_first() {
    test(async {
        for delete in [false, true] {
            let fleet = Fleet::new(11, &["Deployment"], &json!({})).await;
            let instance = fleet.world.fleet.operator("a", &Fates::calm());
            fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
            fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
            fleet.until("handed over", 10, |fleet| fleet.is_at("Deployment", "us-east")).await;
            let hub = fleet.world.fleet.server("hub").unwrap();
            if delete {
                hub.delete("SingletonWorkload", "shop", "deployment").unwrap();
            } else {
                hub.edit("SingletonWorkload", "shop", "deployment", |object| {
                    object["spec"] = json!({
                        "workload": {"kind": "Deployment", "name": "deployment"}, "regions": ["us-east", "ap-south"], "enforcement": "Report",
                    });
                })
                .unwrap();
            }
            fleet.pass(5).await;
            assert!(fleet.status("Deployment").message.contains("enforcement ends when drill test is over"));
            fleet.done().await;
            assert_eq!(fleet.world.status().verdict, Some(Verdict::Passed), "{:#?}", fleet.world.status());
            fleet.pass(60).await;
            for (region, replicas) in [("eu-west", 2), ("us-east", 0)] {
                let object = fleet.workload(region, "Deployment");
                assert_eq!(object["spec"]["replicas"], replicas, "{region}");
                assert!(!object["metadata"].to_string().contains("firedrill.dev/"), "{object:#}");
            }
            assert_eq!(hub.get("SingletonWorkload", "shop", "deployment").is_none(), delete);
            fleet.watch.assert_one("changed");
            instance.stop().await;
        }
    });
}

#[test]
fn a_missed_run_is_left_out_or_made_up_for_once_as_its_singleton_says() {
    test(async {
        for (policy, runs) in [("Skip", false), ("RunOnce", true)] {
            // Every five minutes; the slot at 08:05 falls into the hand-over.
            let fleet = Fleet::new(12, &["CronJob"], &json!({"missedRuns": policy, "stop": {"settle": "40s"}})).await;
            for region in REGIONS {
                let server = fleet.world.fleet.server(region).unwrap();
                server.edit("CronJob", "shop", "cronjob", |object| object["spec"]["schedule"] = json!("*/5 * * * *")).unwrap();
            }
            let instance = fleet.world.fleet.operator("a", &Fates::calm());
            fleet
                .until("a first run", 8, |fleet| {
                    fleet.workload("eu-west", "CronJob")["status"]["lastScheduleTime"] == "2026-11-23T08:05:00Z"
                })
                .await;
            fleet
                .until("the hour", 8, |fleet| fleet.world.fleet.clock.now() > base() + chrono::TimeDelta::seconds(9 * 60 + 20))
                .await;
            fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
            fleet.until("handed over", 10, |fleet| fleet.is_at("CronJob", "us-east")).await;
            let slot = format!("cronjob-{}", (base() + chrono::TimeDelta::seconds(600)).timestamp() / 60);
            let started = fleet.status("CronJob").handover.unwrap().started.unwrap();
            assert!(started > base() + chrono::TimeDelta::seconds(11 * 60 - 30), "the slot did not fall into it: {started}");
            fleet.pass(30).await;
            let ran = fleet.watch.0.lock().unwrap().jobs.get(&slot).cloned().unwrap_or_default();
            assert_eq!(ran, if runs { vec!["us-east".to_owned()] } else { vec![] }, "{policy}: {started}");
            fleet.done().await;
            fleet.watch.assert_one(policy);
            instance.stop().await;
        }
    });
}
