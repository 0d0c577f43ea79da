//! Singletons that are held, or are not led yet: adoption, enforcement against other hands, and what is wrong with one.

use crate::fleet::{Fleet, condition, singleton, workload};
use crate::world::{DRILL, test};
use firedrill::api::{HoldReason, SingletonWorkloadStatus, Stage, Status, Verdict};
use firedrill::cli::embedded::REGIONS;
use firedrill::sim::{End, Fate, Fates};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn who_is_stopped_by_a_person_is_started_nowhere_else_by_a_drill() {
    test(async {
        let (fleet, instance) = Fleet::adopted(15, "CronJob", &json!({})).await;
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
        let (fleet, instance) = Fleet::adopted(15, "CronJob", &json!({})).await;
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
        hub_delete(&fleet, "Deployment").await;
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

/// Deletes a singleton with an operator there to let it go.
async fn hub_delete(fleet: &Fleet, kind: &str) {
    let (hub, name) = (fleet.world.fleet.server("hub").unwrap(), kind.to_lowercase());
    let instance = fleet.world.fleet.operator("a", &Fates::calm());
    fleet.until("adoption", 2, |fleet| fleet.is_at(kind, "eu-west")).await;
    hub.delete("SingletonWorkload", "shop", &name).unwrap();
    fleet.until("the end", 2, |_| hub.get("SingletonWorkload", "shop", &name).is_none()).await;
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
            for name in ["third", "cartographer"] {
                let mut object = workload("Deployment", region == "eu-west");
                object["metadata"]["name"] = json!(name);
                object["spec"]["selector"]["matchLabels"]["singleton"] = json!(name);
                object["spec"]["template"]["metadata"]["labels"]["singleton"] = json!(name);
                fleet.world.fleet.server(region).unwrap().seed(object).unwrap();
            }
        }
        // A Lease of an application's own, of the name that ours would have.
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "firedrill-lease", "namespace": "shop"},
            "spec": {"holderIdentity": "theirs"},
        });
        fleet.world.fleet.server("us-east").unwrap().seed(lease.clone()).unwrap();
        add("lease", spec("Deployment", "third"));
        hub.seed(json!({
            "apiVersion": "firedrill.dev/v1alpha1", "kind": "Region", "metadata": {"name": "twin"},
            "spec": {"cluster": {"kubeconfigSecret": {"name": "eu-west"}}},
        }))
        .unwrap();
        let mut twins = spec("StatefulSet", "third");
        twins["regions"] = json!(["eu-west", "twin"]);
        add("twins", twins);
        let mut token = spec("Deployment", "cartographer");
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
            said("lease"),
            "LeaseForeign: us-east: Lease shop/firedrill-lease belongs to somebody else: rename this SingletonWorkload, or delete it"
        );
        assert_eq!(said("twins"), "SameCluster: eu-west and twin are one cluster: name only one of them in spec.regions");
        let stands = fleet.world.fleet.server("us-east").unwrap().get("Lease", "shop", "firedrill-lease").unwrap();
        assert_eq!(stands["spec"], lease["spec"]);
        assert_eq!(
            fleet.world.fleet.server("ap-south").unwrap().get("ConfigMap", "shop", "theirs").unwrap()["data"],
            foreign["data"]
        );
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.done().await;
        let status = fleet.world.status();
        assert_eq!(status.verdict, Some(Verdict::Refused));
        let blocked: BTreeSet<&str> = status.findings.iter().map(|finding| finding.object.as_str()).collect();
        for name in ["missing", "other-kind", "twice", "scaled", "elsewhere", "token", "lease", "twins"] {
            assert!(blocked.contains(format!("SingletonWorkload shop/{name}").as_str()), "{blocked:?}");
        }
        instance.stop().await;
    });
}

#[test]
fn an_epoch_edited_by_hand_never_makes_it_fall() {
    test(async {
        let (fleet, instance) = Fleet::adopted(10, "Deployment", &json!({})).await;
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
            let (fleet, instance) = Fleet::adopted(11, "Deployment", &json!({})).await;
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
        let (fleet, instance) = Fleet::adopted(4, "CronJob", &json!({})).await;
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
fn while_the_holders_region_is_none_of_the_fleets_nobody_else_may_run_it() {
    test(async {
        let (fleet, instance) = Fleet::adopted(21, "Deployment", &json!({})).await;
        fleet.world.fleet.server("hub").unwrap().delete("Region", "", "eu-west").unwrap();
        fleet.until("the question", 2, |fleet| condition(&fleet.status("Deployment"), "Ready").0 == Status::False).await;
        let east = fleet.world.fleet.server("us-east").unwrap();
        east.edit("Deployment", "shop", "deployment", |object| object["spec"]["replicas"] = json!(2)).unwrap();
        fleet.until("the stop", 1, |fleet| fleet.workload("us-east", "Deployment")["spec"]["replicas"] == 0).await;
        assert_eq!(fleet.workload("eu-west", "Deployment")["spec"]["replicas"], 2, "it runs on");
        instance.stop().await;
    });
}

#[test]
fn who_suspends_the_new_holder_is_not_overruled_when_the_deadline_goes() {
    test(async {
        let (fleet, instance) = Fleet::adopted(22, "CronJob", &json!({})).await;
        let hub = fleet.world.fleet.server("hub").unwrap();
        hub.edit("EvacuationPlan", "", "shop", |plan| plan["spec"]["soak"] = json!("5m")).unwrap();
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("handed over", 10, |fleet| fleet.is_at("CronJob", "us-east")).await;
        let started = fleet.status("CronJob").handover.unwrap().started.unwrap();
        let east = fleet.world.fleet.server("us-east").unwrap();
        let ran = |fleet: &Fleet| {
            let last = fleet.workload("us-east", "CronJob")["status"]["lastScheduleTime"].as_str().map(str::to_owned);
            last.and_then(|last| last.parse::<chrono::DateTime<chrono::Utc>>().ok()).is_some_and(|last| last > started)
        };
        fleet.until("its first regular run", 3, ran).await;
        let spec = || fleet.workload("us-east", "CronJob")["spec"].clone();
        assert_eq!(spec()["startingDeadlineSeconds"], 10, "the operator was quicker than this test");
        east.edit("CronJob", "shop", "cronjob", |object| object["spec"]["suspend"] = json!(true)).unwrap();
        fleet
            .until("the deadline", 1, |fleet| fleet.workload("us-east", "CronJob")["spec"]["startingDeadlineSeconds"].is_null())
            .await;
        assert_eq!(spec()["suspend"], true);
        instance.stop().await;
    });
}

#[test]
fn who_cannot_be_written_in_every_region_is_not_led() {
    test(async {
        let fleet = Fleet::new(12, &["CronJob"], &json!({})).await;
        hub_delete(&fleet, "CronJob").await;
        fleet.world.fleet.server("hub").unwrap().seed(singleton("CronJob", &json!({}))).unwrap();
        // An admission webhook in ap-south that supports no dry run.
        let fates = Fates::new(|call| {
            let end = if call.server == "ap-south" && call.dry_run { End::Refuse(400, "BadRequest") } else { End::Deliver };
            Fate { before: Duration::from_millis(1), after: Duration::from_millis(1), end }
        });
        let instance = fleet.world.fleet.operator("b", &fates);
        fleet
            .until("the word", 2, |fleet| {
                let status = fleet.status("CronJob");
                !status.conditions.is_empty() && condition(&status, "Ready").2.contains("CronJob shop/cronjob is not taken")
            })
            .await;
        fleet.pass(30).await;
        let status = fleet.status("CronJob");
        assert_eq!((status.stage, condition(&status, "Ready").1.as_str()), (Stage::Observed, "NeedsHuman"), "{status:#?}");
        assert!(!fleet.workload("ap-south", "CronJob")["metadata"].to_string().contains("firedrill.dev/"));
        fates.replace(|_| Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::Deliver });
        fleet.until("adoption", 2, |fleet| fleet.is_at("CronJob", "eu-west")).await;
        instance.stop().await;
    });
}

#[test]
fn a_region_that_is_taken_out_of_the_spec_gets_back_what_was_changed_there() {
    test(async {
        let fleet = Fleet::new(13, &["CronJob"], &json!({})).await;
        hub_delete(&fleet, "CronJob").await;
        let (hub, east) = (fleet.world.fleet.server("hub").unwrap(), fleet.world.fleet.server("us-east").unwrap());
        east.edit("CronJob", "shop", "cronjob", |object| object["spec"]["suspend"] = json!(false)).unwrap();
        hub.seed(singleton("CronJob", &json!({"keep": "eu-west"}))).unwrap();
        let instance = fleet.world.fleet.operator("b", &Fates::calm());
        fleet.until("the stop", 2, |fleet| fleet.workload("us-east", "CronJob")["spec"]["suspend"] == true).await;
        assert_eq!(fleet.workload("us-east", "CronJob")["spec"]["startingDeadlineSeconds"], 10);
        // Another Region of that cluster is none of this singleton's business.
        let mut twin = hub.get("Region", "", "us-east").unwrap();
        twin["metadata"] = json!({"name": "twin"});
        hub.seed(twin).unwrap();
        fleet.pass(60).await;
        assert_eq!(condition(&fleet.status("CronJob"), "Ready").1, "Held");
        hub.edit("SingletonWorkload", "shop", "cronjob", |object| object["spec"]["regions"] = json!(["eu-west", "ap-south"]))
            .unwrap();
        let is_left = |fleet: &Fleet| fleet.workload("us-east", "CronJob")["metadata"].to_string().contains("firedrill.dev/");
        fleet.until("what is ours is gone there", 2, |fleet| !is_left(fleet)).await;
        fleet.pass(30).await;
        let object = fleet.workload("us-east", "CronJob");
        assert_eq!((&object["spec"]["suspend"], &object["spec"]["startingDeadlineSeconds"]), (&json!(true), &Value::Null));
        let status = fleet.status("CronJob");
        assert!(status.regions.iter().all(|region| region.region != "us-east"), "{status:#?}");
        assert_eq!(condition(&status, "Ready").1, "Held", "{status:#?}");
        instance.stop().await;
    });
}
