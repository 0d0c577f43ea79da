//! Singletons on an embedded fleet: in drills and outside, exactly one region runs them, whatever becomes of calls and operators.

use crate::base;
use crate::fleet::{Fleet, KINDS, condition, singleton, workload};
use crate::world::{DRILL, seeds, test};
use firedrill::api::{HoldReason, SingletonWorkloadStatus, Stage, Status, Verdict};
use firedrill::cli::embedded::{Instance, REGIONS};
use firedrill::sim::Fates;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

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

#[test]
fn under_any_finite_faults_never_two_regions_run_it_and_it_comes_home() {
    for seed in seeds(90) {
        test(async {
            let kind = KINDS[usize::try_from(seed % 3).unwrap()];
            let context = format!("seed {seed} {kind}");
            println!("{context}");
            let fleet = Fleet::new(seed, &[kind], &json!({})).await;
            let mut random = fastrand::Rng::with_seed(seed ^ 0x51);
            let mut instances = vec![fleet.world.fleet.operator("a", &fleet.storm(seed, 120))];
            fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
            for number in 0..random.u32(1..6) {
                fleet.pass(random.i64(0..40)).await;
                match random.u32(0..4) {
                    0 => {
                        instances.pop().unwrap().kill();
                        let fates = fleet.storm(seed + 1000 * u64::from(number), 60);
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
                        let fates = fleet.storm(seed + 2000 * u64::from(number), 60);
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
fn a_next_holder_that_cannot_be_seen_any_more_is_told_at_once_since_nobody_runs_it() {
    test(async {
        let fleet = Fleet::new(13, &["Deployment"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("the hand-over", 10, |fleet| fleet.status("Deployment").stage == Stage::Stopping).await;
        // Long enough for the stop to be written there, too short for the proof.
        fleet.pass(8).await;
        instance.links["us-east"].partition();
        fleet.until("the proof", 2, |fleet| fleet.status("Deployment").stage == Stage::Publishing).await;
        fleet.until("the question", 1, |fleet| condition(&fleet.status("Deployment"), "Ready").1 == "NeedsHuman").await;
        let held = |fleet: &Fleet| fleet.world.status().hold.is_some_and(|hold| hold.reason == HoldReason::NeedsHuman);
        fleet.until("the drill's question", 1, held).await;
        fleet.pass(60).await;
        assert_eq!(fleet.status("Deployment").stage, Stage::Publishing, "nothing starts before its epoch stands there");
        instance.links["us-east"].heal();
        fleet.until("handed over", 5, |fleet| fleet.is_at("Deployment", "us-east")).await;
        fleet.done().await;
        fleet.until("home", 10, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.watch.assert_one("unseen");
        instance.stop().await;
    });
}

#[test]
fn a_region_that_is_gone_for_good_is_left_by_a_person_alone() {
    test(async {
        let fleet = Fleet::new(14, &["Deployment"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("the hand-over", 10, |fleet| fleet.status("Deployment").stage == Stage::Stopping).await;
        instance.links["eu-west"].partition();
        let hub = fleet.world.fleet.server("hub").unwrap();
        hub.delete("Region", "", "eu-west").unwrap();
        let asks = |fleet: &Fleet| {
            let (_, reason, message) = condition(&fleet.status("Deployment"), "Ready");
            reason == "NeedsHuman" && message.contains("A region that is gone for good")
        };
        fleet.until("the question", 3, asks).await;
        hub.delete("SingletonWorkload", "shop", "deployment").unwrap();
        fleet.pass(60).await;
        assert_eq!(fleet.status("Deployment").stage, Stage::Stopping, "a deletion proves nothing");
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 0);
        // As the docs have it.
        hub.edit("SingletonWorkload", "shop", "deployment", |object| object["metadata"]["finalizers"] = json!([])).unwrap();
        assert!(hub.get("SingletonWorkload", "shop", "deployment").is_none());
        let east = fleet.world.fleet.server("us-east").unwrap();
        east.edit("Deployment", "shop", "deployment", |object| object["spec"]["replicas"] = json!(2)).unwrap();
        hub.seed(singleton("Deployment", &json!({"regions": ["us-east", "ap-south"]}))).unwrap();
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "us-east")).await;
        let epoch = fleet.status("Deployment").epoch.0;
        assert!(epoch > 2, "{epoch}: above the hand-over's that was never proven");
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
fn who_is_stopped_by_a_person_is_started_nowhere_else_by_a_drill() {
    test(async {
        let fleet = Fleet::new(15, &["CronJob"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("CronJob", "eu-west")).await;
        let west = fleet.world.fleet.server("eu-west").unwrap();
        west.edit("CronJob", "shop", "cronjob", |object| object["spec"]["suspend"] = json!(true)).unwrap();
        fleet.until("the word", 2, |fleet| condition(&fleet.status("CronJob"), "Ready").1 == "NotRunning").await;
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.done().await;
        assert_eq!(fleet.world.status().verdict, Some(Verdict::Refused));
        for region in REGIONS {
            assert_eq!(fleet.workload(region, "CronJob")["spec"]["suspend"], true, "{region}");
        }
        instance.stop().await;
        // Between the checks and the hand-over: it is told, and an abort gets out of it.
        let fleet = Fleet::new(15, &["CronJob"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("CronJob", "eu-west")).await;
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.world.moved_beyond(10).await;
        let west = fleet.world.fleet.server("eu-west").unwrap();
        west.edit("CronJob", "shop", "cronjob", |object| object["spec"]["suspend"] = json!(true)).unwrap();
        let asked = |fleet: &Fleet| fleet.world.status().hold.is_some_and(|hold| hold.reason == HoldReason::NeedsHuman);
        fleet.until("the question", 5, asked).await;
        assert!(
            fleet.status("CronJob").message.contains("somebody has stopped it in eu-west"),
            "{}",
            fleet.status("CronJob").message
        );
        let hub = fleet.world.fleet.server("hub").unwrap();
        hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!("Abort")).unwrap();
        fleet.done().await;
        assert_eq!(fleet.workload("us-east", "CronJob")["spec"]["suspend"], true);
        instance.stop().await;
    });
}

#[test]
fn pods_that_have_lost_their_workload_or_their_region_keep_the_next_holder_from_starting() {
    test(async {
        // An orphaning deletion, as for a change of fields that cannot be changed.
        let fleet = Fleet::new(16, &["StatefulSet"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("StatefulSet", "eu-west")).await;
        fleet.pass(10).await;
        let west = fleet.world.fleet.server("eu-west").unwrap();
        let object = fleet.workload("eu-west", "StatefulSet");
        west.with(|store| {
            let kind = store.kind("StatefulSet").unwrap();
            let key = firedrill::sim::Key::new(&kind, "shop", "statefulset");
            let orphan = firedrill::sim::store::Deletion { orphan: true, ..Default::default() };
            store.delete(&kind, &key, &orphan, false).unwrap();
        });
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.pass(240).await;
        assert_eq!(fleet.workload("us-east", "StatefulSet")["spec"]["replicas"], 0, "{}", fleet.status("StatefulSet").message);
        let pods = west.list("Pod", "shop").iter().filter(|pod| pod["status"]["phase"] == "Running").count();
        assert!(pods > 0, "its pods run on");
        assert!(object["spec"]["replicas"].as_u64() > Some(0));
        fleet.watch.assert_one("orphans");
        instance.stop().await;
        // Its Region is deleted and made anew while a pod that was deleted by force runs on a silent node.
        let fleet = Fleet::new(17, &["Deployment"], &json!({})).await;
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.pass(10).await;
        let (west, hub) = (fleet.world.fleet.server("eu-west").unwrap(), fleet.world.fleet.server("hub").unwrap());
        west.edit("Node", "", "eu-west-0", |node| node["status"]["conditions"][0]["status"] = json!("Unknown")).unwrap();
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("the hand-over", 10, |fleet| fleet.status("Deployment").stage == Stage::Stopping).await;
        fleet.pass(5).await;
        for pod in west.list("Pod", "shop").iter().filter(|pod| pod["metadata"]["labels"]["singleton"] == "deployment") {
            let name = pod["metadata"]["name"].as_str().unwrap();
            west.edit("Pod", "shop", name, |pod| pod["metadata"]["finalizers"] = json!([])).unwrap();
            let _ = west.delete("Pod", "shop", name);
        }
        let region = hub.get("Region", "", "eu-west").unwrap();
        hub.delete("Region", "", "eu-west").unwrap();
        fleet.pass(20).await;
        hub.seed(json!({
            "apiVersion": region["apiVersion"], "kind": "Region", "metadata": {"name": "eu-west"}, "spec": region["spec"],
        }))
        .unwrap();
        fleet.pass(180).await;
        let message = fleet.status("Deployment").message;
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 0, "{message}");
        assert!(message.contains("on node eu-west-0"), "{message}");
        instance.stop().await;
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
