//! Singletons that are handed over on an embedded fleet: exactly one region runs them, whatever becomes of calls and operators.

use crate::base;
use crate::fleet::{Fleet, KINDS, condition, singleton};
use crate::world::{DRILL, seeds, test};
use firedrill::api::{HoldReason, Stage, Verdict};
use firedrill::cli::embedded::{Instance, NAMESPACE, REGIONS};
use firedrill::sim::Fates;
use serde_json::{Value, json};

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
fn a_holder_that_cannot_be_seen_is_waited_for_and_a_person_is_asked() {
    test(async {
        let (fleet, instance) = Fleet::stopping(6, "Deployment", &json!({})).await;
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
        let (fleet, instance) = Fleet::stopping(13, "Deployment", &json!({})).await;
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
        let (fleet, instance) = Fleet::stopping(14, "Deployment", &json!({})).await;
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
        fleet.pass(90).await;
        for region in ["us-east", "ap-south"] {
            let metadata = fleet.workload(region, "Deployment")["metadata"].to_string();
            assert!(!metadata.contains("firedrill.dev/claim"), "{region}: {metadata}");
        }
        instance.stop().await;
    });
}

#[test]
fn an_abort_before_the_start_goes_home_although_the_next_holder_cannot_be_seen() {
    test(async {
        let (fleet, instance) = Fleet::stopping(18, "Deployment", &json!({})).await;
        fleet.pass(8).await;
        instance.links["us-east"].partition();
        fleet.until("the proof", 2, |fleet| fleet.status("Deployment").stage == Stage::Publishing).await;
        let hub = fleet.world.fleet.server("hub").unwrap();
        hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!("Abort")).unwrap();
        fleet.until("home", 3, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 0);
        instance.links["us-east"].heal();
        fleet.done().await;
        fleet.watch.assert_one("aborted");
        instance.stop().await;
    });
}

#[test]
fn another_cluster_behind_the_holders_name_proves_nothing_of_it() {
    test(async {
        let (fleet, instance) = Fleet::stopping(19, "Deployment", &json!({"regions": ["eu-west", "us-east"]})).await;
        let hub = fleet.world.fleet.server("hub").unwrap();
        instance.links["eu-west"].partition();
        let region = hub.get("Region", "", "eu-west").unwrap();
        hub.delete("Region", "", "eu-west").unwrap();
        let other = hub.get("Secret", NAMESPACE, "ap-south").unwrap()["data"].clone();
        hub.edit("Secret", NAMESPACE, "eu-west", |secret| secret["data"] = other.clone()).unwrap();
        hub.seed(json!({
            "apiVersion": region["apiVersion"], "kind": "Region", "metadata": {"name": "eu-west"}, "spec": region["spec"],
        }))
        .unwrap();
        let asks = |fleet: &Fleet| condition(&fleet.status("Deployment"), "Ready").2.contains("none of this fleet's any more");
        fleet.until("the question", 3, asks).await;
        fleet.pass(120).await;
        let known = hub.get("Region", "", "eu-west").unwrap()["status"]["clusterUid"].clone();
        assert_eq!(known, hub.get("Region", "", "ap-south").unwrap()["status"]["clusterUid"], "the other cluster is not reached");
        assert_eq!(fleet.workload("us-east", "Deployment")["spec"]["replicas"], 0, "{}", fleet.status("Deployment").message);
        instance.stop().await;
    });
}

#[test]
fn a_run_is_made_up_for_once_although_the_hand_over_was_begun_anew() {
    test(async {
        let (fleet, instance) = Fleet::adopted(20, "CronJob", &json!({"missedRuns": "RunOnce"})).await;
        for region in REGIONS {
            let server = fleet.world.fleet.server(region).unwrap();
            server.edit("CronJob", "shop", "cronjob", |object| object["spec"]["schedule"] = json!("*/5 * * * *")).unwrap();
        }
        let (west, east) = (fleet.world.fleet.server("eu-west").unwrap(), fleet.world.fleet.server("us-east").unwrap());
        // What it last ran there was long ago.
        east.edit("CronJob", "shop", "cronjob", |object| object["status"]["lastScheduleTime"] = json!("2026-11-23T07:00:00Z"))
            .unwrap();
        let ran = |fleet: &Fleet| fleet.workload("eu-west", "CronJob")["status"]["lastScheduleTime"] == "2026-11-23T08:05:00Z";
        fleet.until("a run at home", 8, ran).await;
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("the proof", 5, |fleet| fleet.status("CronJob").stage == Stage::Publishing).await;
        let epoch = fleet.status("CronJob").handover.unwrap().epoch.0;
        west.edit("CronJob", "shop", "cronjob", |object| object["spec"]["suspend"] = json!(false)).unwrap();
        fleet.until("handed over", 5, |fleet| fleet.is_at("CronJob", "us-east")).await;
        assert!(fleet.status("CronJob").epoch.0 > epoch, "it was not begun anew");
        let slot = format!("cronjob-{}", (base() + chrono::TimeDelta::seconds(300)).timestamp() / 60);
        fleet.pass(20).await;
        assert_eq!(fleet.watch.0.lock().unwrap().jobs[&slot], ["eu-west"], "the slot of 08:05");
        fleet.done().await;
        fleet.watch.assert_one("begun anew");
        instance.stop().await;
    });
}

#[test]
fn a_pod_on_a_silent_node_or_deleted_by_force_keeps_the_next_holder_from_starting() {
    test(async {
        for force in [false, true] {
            let (fleet, instance) = Fleet::adopted(7, "Deployment", &json!({})).await;
            fleet.pass(10).await;
            let west = fleet.world.fleet.server("eu-west").unwrap();
            let node = fleet.silence("eu-west", "deployment");
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
            assert!(message.contains(&format!("on node {node}")), "{message}");
            // The machine is booted anew: nothing of before runs there.
            west.edit("Node", "", &node, |node| {
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
fn pods_that_have_lost_their_workload_or_their_region_keep_the_next_holder_from_starting() {
    test(async {
        // An orphaning deletion, as for a change of fields that cannot be changed.
        let (fleet, instance) = Fleet::adopted(16, "StatefulSet", &json!({})).await;
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
        let (fleet, instance) = Fleet::adopted(17, "Deployment", &json!({})).await;
        fleet.pass(10).await;
        let (west, hub) = (fleet.world.fleet.server("eu-west").unwrap(), fleet.world.fleet.server("hub").unwrap());
        let node = fleet.silence("eu-west", "deployment");
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
        assert!(message.contains(&format!("on node {node}")), "{message}");
        instance.stop().await;
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
