//! What a drill does on an embedded fleet: its way out and back, its holds, and what becomes of it in other hands.

use crate::world::{DRILL, World, pace, test};
use firedrill::api::{Basis, DrillStatus, HoldReason, Phase, Prediction, Status, Verdict, Why};
use firedrill::cli::embedded::NAMESPACE;
use firedrill::cluster::Fleet;
use firedrill::operator::Rehearser;
use firedrill::sim::physics::Pace;
use firedrill::sim::{End, Fate, Fates, Sample};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_drill_without_faults_passes_and_restores_every_object() {
    test(async {
        let world = World::new(1).await;
        let shares = world.watch_shares();
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Passed), "{status:#?}");
        assert_eq!(status.basis, Some(Basis::Observed));
        let restored = status.conditions.iter().find(|condition| condition.kind == "Restored").unwrap();
        assert_eq!((restored.status, restored.reason.as_str()), (Status::True, "Complete"));
        world.assert_restored("calm");
        assert!(!shares.is_finished(), "an invariant broke");
        instance.stop().await;
    });
}

#[test]
fn an_abort_leads_users_back_although_nodes_cannot_be_written() {
    test(async {
        let world = World::new(12).await;
        let hub = world.fleet.server("hub").unwrap();
        hub.edit("EvacuationPlan", "", "shop", |plan| plan["spec"]["cordon"] = json!("Nodes")).unwrap();
        let stuck = Arc::new(Mutex::new(false));
        let closed = Arc::clone(&stuck);
        let fates = Fates::new(move |call| {
            let node = call.verb == "patch" && call.path.contains("/nodes/") && *closed.lock().unwrap();
            let end = if node { End::Refuse(500, "InternalError") } else { End::Deliver };
            Fate { before: Duration::from_millis(1), after: Duration::from_millis(1), end }
        });
        let instance = world.fleet.operator("a", &fates);
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        *stuck.lock().unwrap() = true;
        hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!("Abort")).unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let weight = hub.get("HTTPRoute", "shop", "shop").unwrap()["spec"]["rules"][0]["backendRefs"][0]["weight"].clone();
        assert_eq!(weight, json!(34), "users are still elsewhere: {:#?}", world.status());
        *stuck.lock().unwrap() = false;
        assert_eq!(world.done().await.verdict, Some(Verdict::Aborted));
        world.assert_restored("aborted");
        instance.stop().await;
    });
}

#[test]
fn a_dead_claim_that_came_back_without_its_label_is_removed_and_no_value_with_it() {
    test(async {
        let world = World::new(13).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        let east = world.fleet.server("us-east").unwrap();
        world.moved_beyond(0).await;
        let claimed: Vec<Value> = east
            .list("Deployment", "shop")
            .into_iter()
            .filter(|d| d["metadata"]["annotations"]["firedrill.dev/claim"].is_string())
            .collect();
        assert!(!claimed.is_empty(), "no Deployment is claimed");
        world.done().await;
        world.assert_restored("done");
        for object in &claimed {
            let name = object["metadata"]["name"].as_str().unwrap();
            let claim = object["metadata"]["annotations"]["firedrill.dev/claim"].clone();
            east.edit("Deployment", "shop", name, |object| {
                object["metadata"]["annotations"] = json!({"firedrill.dev/claim": claim});
            })
            .unwrap();
        }
        tokio::time::sleep(Duration::from_secs(45)).await;
        for object in &claimed {
            let name = object["metadata"]["name"].as_str().unwrap();
            let after = east.get("Deployment", "shop", name).unwrap();
            assert!(after["metadata"]["annotations"]["firedrill.dev/claim"].is_null(), "{after:#}");
            assert_eq!(after["spec"], world.before[&format!("us-east: Deployment {name}")]["spec"]);
        }
        instance.stop().await;
    });
}

#[test]
fn a_contract_that_the_hub_has_lost_is_found_in_its_copies() {
    test(async {
        let world = World::new(10).await;
        let first = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        let status = world.moved_beyond(0).await;
        first.kill();
        let hub = world.fleet.server("hub").unwrap();
        hub.delete("ConfigMap", NAMESPACE, &status.contract.unwrap().config_map).unwrap();
        let second = world.fleet.operator("b", &Fates::calm());
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Passed), "{status:#?}");
        world.assert_restored("contract lost");
        second.stop().await;
    });
}

#[test]
fn what_changes_between_the_checks_and_the_first_write_is_checked_anew_and_kept() {
    test(async {
        let world = World::new(14).await;
        let slow = Fates::latency(fastrand::Rng::with_seed(14), Duration::from_millis(40)..=Duration::from_millis(60));
        let instance = world.fleet.operator("a", &slow);
        world.fleet.drill(DRILL, "eu-west").unwrap();
        while world.status().contract.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let first = world.status().contract;
        let hub = world.fleet.server("hub").unwrap();
        let weights = |route: &mut Value| {
            for (number, weight) in [40, 30, 30].into_iter().enumerate() {
                route["spec"]["rules"][0]["backendRefs"][number]["weight"] = json!(weight);
            }
        };
        hub.edit("HTTPRoute", "shop", "shop", weights).unwrap();
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Passed), "{status:#?}");
        assert!(status.conflicts.is_empty(), "{status:#?}");
        assert_ne!(status.contract, first, "the contract is the old one");
        let mut wanted = world.before["hub: HTTPRoute shop"].clone();
        weights(&mut wanted);
        assert_eq!(hub.get("HTTPRoute", "shop", "shop").unwrap()["spec"], wanted["spec"]);
        let left = world
            .fleet
            .servers
            .iter()
            .filter(|(name, _)| *name != "hub")
            .flat_map(|(_, server)| server.list("ConfigMap", NAMESPACE));
        assert_eq!(left.count(), 0, "a copy of a contract is left");
        instance.stop().await;
    });
}

#[test]
fn a_drill_that_is_removed_by_force_is_taken_back_by_the_sweep_and_its_contract_forgotten() {
    test(async {
        let world = World::new(15).await;
        let first = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        first.kill();
        let hub = world.fleet.server("hub").unwrap();
        hub.edit("Drill", "", DRILL, |drill| drill["metadata"]["finalizers"] = json!([])).unwrap();
        hub.delete("Drill", "", DRILL).unwrap();
        // Its original went with it, as the garbage collector does.
        for original in hub.list("ConfigMap", NAMESPACE) {
            hub.delete("ConfigMap", NAMESPACE, original["metadata"]["name"].as_str().unwrap()).unwrap();
        }
        let second = world.fleet.operator("b", &Fates::calm());
        tokio::time::sleep(Duration::from_mins(15)).await;
        world.assert_restored("removed by force");
        second.stop().await;
    });
}

#[test]
fn a_long_way_back_does_not_end_because_a_region_is_silent_for_a_moment() {
    test(async {
        let world = World::new(16).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        let hub = world.fleet.server("hub").unwrap();
        hub.edit("EvacuationPlan", "", "shop", |plan| plan["spec"]["deadline"] = json!("2h")).unwrap();
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.until("returning", |status| status.phase == Phase::Returning).await;
        let control = |word: &str| hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!(word)).unwrap();
        control("Pause");
        tokio::time::sleep(Duration::from_mins(30)).await;
        instance.links["us-east"].partition();
        control("Run");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(world.status().phase, Phase::Returning);
        let lock = hub.get("Lease", NAMESPACE, "firedrill-drill").unwrap();
        assert!(lock["spec"]["holderIdentity"].is_string(), "another drill could begin: {lock:#}");
        instance.links["us-east"].heal();
        assert_eq!(world.done().await.verdict, Some(Verdict::Passed));
        world.assert_restored("long");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let lock = hub.get("Lease", NAMESPACE, "firedrill-drill").unwrap();
        assert!(lock["spec"]["holderIdentity"].is_null(), "the lock is kept: {lock:#}");
        instance.stop().await;
    });
}

#[test]
fn a_weight_that_gitops_heals_in_mid_shift_is_contention_and_no_fight() {
    test(async {
        let world = World::new(17).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        let hub = world.fleet.server("hub").unwrap();
        let rules = world.before["hub: HTTPRoute shop"]["spec"]["rules"].clone();
        hub.edit("HTTPRoute", "shop", "shop", |route| route["spec"]["rules"] = rules.clone()).unwrap();
        let status = world.done().await;
        assert_eq!((status.verdict, status.why), (Some(Verdict::Aborted), Some(Why::Contention)), "{status:#?}");
        world.assert_restored("healed by somebody else");
        instance.stop().await;
    });
}

#[test]
fn a_write_that_an_api_server_does_not_take_is_a_hold_with_its_reason() {
    test(async {
        let world = World::new(18).await;
        let closed = Arc::new(Mutex::new(true));
        let is_closed = Arc::clone(&closed);
        let fates = Fates::new(move |call| {
            let route = call.verb == "patch" && call.path.ends_with("/httproutes/shop") && !call.dry_run;
            let refuse = route && *is_closed.lock().unwrap();
            let end = if refuse { End::Refuse(403, "Forbidden") } else { End::Deliver };
            Fate { before: Duration::from_millis(1), after: Duration::from_millis(1), end }
        });
        let instance = world.fleet.operator("a", &fates);
        world.fleet.drill(DRILL, "eu-west").unwrap();
        let refused = |status: &DrillStatus| status.hold.as_ref().is_some_and(|hold| hold.reason == HoldReason::WriteRefused);
        let status = world.until("a hold", refused).await;
        assert!(status.hold.unwrap().message.contains("HTTPRoute shop/shop is not taken: "), "{:?}", status.message);
        *closed.lock().unwrap() = false;
        assert_eq!(world.done().await.verdict, Some(Verdict::Passed));
        world.assert_restored("taken again");
        instance.stop().await;
    });
}

#[test]
fn of_two_drills_at_the_same_moment_one_runs_and_one_is_refused() {
    test(async {
        let world = World::new(19).await;
        let slow = Fates::latency(fastrand::Rng::with_seed(19), Duration::from_millis(5)..=Duration::from_millis(50));
        let instance = world.fleet.operator("a", &slow);
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.fleet.drill("other", "us-east").unwrap();
        let verdict = |name: &str| {
            let drill = world.fleet.server("hub").unwrap().get("Drill", "", name).unwrap();
            drill["status"]["verdict"].as_str().unwrap_or_default().to_owned()
        };
        let end = world.fleet.clock.now() + chrono::TimeDelta::minutes(10);
        while verdict(DRILL).is_empty() || verdict("other").is_empty() {
            assert!(world.fleet.clock.now() < end, "{} {}", verdict(DRILL), verdict("other"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut both = [verdict(DRILL), verdict("other")];
        both.sort();
        assert_eq!(both, ["Passed", "Refused"]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.assert_restored("one of two");
        instance.stop().await;
    });
}

#[test]
fn a_drill_whose_contract_is_gone_everywhere_stands_and_says_what_to_do() {
    test(async {
        let world = World::new(20).await;
        let first = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        first.kill();
        let name = world.status().contract.unwrap().config_map;
        let stored = world.fleet.server("hub").unwrap().get("ConfigMap", NAMESPACE, &name).unwrap();
        for server in world.fleet.servers.values() {
            server.delete("ConfigMap", NAMESPACE, &name).unwrap();
        }
        let second = world.fleet.operator("b", &Fates::calm());
        let lost = |status: &DrillStatus| status.hold.as_ref().is_some_and(|hold| hold.reason == HoldReason::ContractLost);
        let status = world.until("a hold", lost).await;
        assert!(status.message.contains(&name), "{}", status.message);
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": stored["data"],
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": stored["metadata"]["labels"]},
        });
        // In one region it is enough to know what to put back; where it is missing nothing may be written outwards any more.
        world.fleet.server("us-east").unwrap().seed(body).unwrap();
        let status = world.done().await;
        assert_eq!((status.verdict, status.why), (Some(Verdict::Aborted), Some(Why::Person)), "{status:#?}");
        assert!(status.why_message.starts_with("the contract's copy was removed"), "{}", status.why_message);
        world.assert_restored("found again");
        second.stop().await;
    });
}

#[test]
fn a_red_gate_aborts_and_everything_goes_back_at_once() {
    test(async {
        let world = World::new(3).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        world.fleet.prometheus.set("error_ratio", Sample::Value(0.5));
        let red = world.fleet.clock.now();
        let hub = world.fleet.server("hub").unwrap();
        loop {
            let object = hub.get("HTTPRoute", "shop", "shop").unwrap();
            if object["spec"]["rules"][0]["backendRefs"][0]["weight"] == json!(34) {
                break;
            }
            assert!(world.fleet.clock.now() - red < chrono::TimeDelta::seconds(2), "too slow: {:#?}", world.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Aborted));
        assert!(status.reasons[0].contains("gate errors: 0.5 is above its maximum 0.01"), "{:?}", status.reasons);
        world.assert_restored("aborted");
        instance.stop().await;
    });
}

#[test]
fn a_gate_that_steps_back_leads_nobody_to_pods_that_are_not_ready() {
    test(async {
        let world = World::new(3).await;
        let hub = world.fleet.server("hub").unwrap();
        let order = |kind: &str, name: &str, spec: Value| {
            hub.edit(kind, "", name, |object| json_patch::merge(object, &json!({"spec": spec}))).unwrap();
        };
        let mut gate = hub.get("EvacuationPlan", "", "shop").unwrap()["spec"]["gates"][0].clone();
        gate["onFailure"] = json!("StepBack");
        order("EvacuationPlan", "shop", json!({"gates": [gate]}));
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        order("Drill", DRILL, json!({"control": "Pause"}));
        let region = world.fleet.server("eu-west").unwrap();
        let heard = |heard: bool| {
            for node in region.list("Node", "") {
                let change = |node: &mut Value| {
                    node["status"]["conditions"][0]["status"] = json!(if heard { "True" } else { "Unknown" });
                };
                region.edit("Node", "", node["metadata"]["name"].as_str().unwrap(), change).unwrap();
            }
        };
        let share = || {
            let route = hub.get("HTTPRoute", "shop", "shop").unwrap();
            let weights: Vec<f64> = route["spec"]["rules"][0]["backendRefs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|backend| backend["weight"].as_f64().unwrap())
                .collect();
            weights[0] / weights.iter().sum::<f64>()
        };
        heard(false);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = share();
        assert!(before < 0.3, "{before}");
        world.fleet.prometheus.set("error_ratio", Sample::Value(0.5));
        let waits = |status: &DrillStatus| status.hold.as_ref().is_some_and(|hold| hold.reason == HoldReason::CapacityNotReady);
        world.until("the hold", waits).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!((share() - before).abs() < 1e-9, "{} became {}", before, share());
        heard(true);
        let back =
            |status: &DrillStatus| status.steps.iter().any(|step| step.level.is_some_and(|level| level.moved_percent == 10));
        world.until("the step back", back).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!((share() - 0.34 * 0.9).abs() < 0.005, "{}", share());
        world.fleet.prometheus.unset("error_ratio");
        order("Drill", DRILL, json!({"control": "Run"}));
        assert_eq!(world.done().await.verdict, Some(Verdict::Passed));
        world.assert_restored("stepped back");
        instance.stop().await;
    });
}

#[test]
fn somebody_elses_hand_is_named_and_left_and_the_rest_restored() {
    test(async {
        let world = World::new(4).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        let hub = world.fleet.server("hub").unwrap();
        hub.edit("HTTPRoute", "shop", "shop", |route| route["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(7)).unwrap();
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Aborted), "{status:#?}");
        assert_eq!(status.conflicts.len(), 1, "{:?}", status.conflicts);
        assert!(
            status.conflicts[0].contains("HTTPRoute shop/shop") && status.conflicts[0].contains(" is 7,"),
            "{:?}",
            status.conflicts
        );
        let weights = |name: &str| -> Vec<u64> {
            let object = hub.get("HTTPRoute", "shop", name).unwrap();
            object["spec"]["rules"][0]["backendRefs"].as_array().unwrap().iter().map(|r| r["weight"].as_u64().unwrap()).collect()
        };
        assert_eq!(weights("shop"), [34, 7, 33]);
        assert_eq!(weights("checkout"), [34, 33, 33]);
        instance.stop().await;
    });
}

#[test]
fn a_route_deleted_and_made_anew_is_somebody_elses() {
    test(async {
        let world = World::new(5).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        let hub = world.fleet.server("hub").unwrap();
        let fresh = world.before["hub: HTTPRoute shop"].clone();
        let mut fresh = fresh;
        fresh["metadata"] = json!({"name": "shop", "namespace": "shop"});
        hub.delete("HTTPRoute", "shop", "shop").unwrap();
        hub.seed(fresh.clone()).unwrap();
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Aborted));
        assert!(status.conflicts.iter().any(|text| text.contains("made anew by somebody else")), "{:?}", status.conflicts);
        assert_eq!(hub.get("HTTPRoute", "shop", "shop").unwrap()["spec"], fresh["spec"]);
        instance.stop().await;
    });
}

#[test]
fn plan_and_regions_may_be_deleted_in_mid_drill_and_deleting_the_drill_aborts_it() {
    test(async {
        let world = World::new(6).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        let hub = world.fleet.server("hub").unwrap();
        hub.delete("EvacuationPlan", "", "shop").unwrap();
        hub.delete("Region", "", "us-east").unwrap();
        world.until("evacuated", |status| status.phase == Phase::Evacuated).await;
        hub.delete("Drill", "", DRILL).unwrap();
        let end = world.fleet.clock.now() + chrono::TimeDelta::minutes(5);
        while hub.get("Drill", "", DRILL).is_some() {
            assert!(world.fleet.clock.now() < end, "the drill is not gone: {:#?}", world.status());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.assert_restored("deleted");
        instance.stop().await;
    });
}

#[test]
fn a_blind_survivor_gets_nothing_raised_and_the_drill_goes_on_when_it_is_seen_again() {
    test(async {
        let world = World::new(7).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(5).await;
        instance.links["us-east"].partition();
        world.until("a hold", |status| status.hold.as_ref().is_some_and(|hold| hold.message.contains("us-east"))).await;
        let hub = world.fleet.server("hub").unwrap();
        let weights = || hub.get("HTTPRoute", "shop", "shop").unwrap()["spec"].to_string();
        let held = weights();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(weights(), held, "nothing is raised towards a blind region");
        instance.links["us-east"].heal();
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Passed), "{status:#?}");
        world.assert_restored("healed");
        instance.stop().await;
    });
}

#[test]
fn traffic_leaves_a_region_whose_api_server_is_gone_and_debts_are_listed() {
    test(async {
        let world = World::new(8).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(5).await;
        instance.links["eu-west"].partition();
        world.until("evacuated", |status| status.phase == Phase::Evacuated).await;
        let status = world.done().await;
        let restored = status.conditions.iter().find(|condition| condition.kind == "Restored").unwrap();
        assert_eq!(restored.status, Status::Unknown, "{status:#?}");
        assert!(!status.debts.is_empty());
        assert_ne!(status.verdict, Some(Verdict::Passed));
        // What is owed is not paid blindly: no user is led to a region that nobody can see.
        let hub = world.fleet.server("hub").unwrap();
        let weight = || hub.get("HTTPRoute", "shop", "shop").unwrap()["spec"]["rules"][0]["backendRefs"][0]["weight"].clone();
        let raised =
            || world.fleet.server("us-east").unwrap().get("Deployment", "shop", "checkout").unwrap()["spec"]["replicas"].clone();
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert_eq!((weight(), raised()), (json!(0), json!(4)));
        instance.links["eu-west"].heal();
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!((weight(), raised()), (json!(34), json!(2)));
        // Nobody needs the contract's copies any more.
        tokio::time::sleep(Duration::from_mins(10)).await;
        world.assert_restored("paid");
        instance.stop().await;
    });
}

#[test]
fn a_drill_that_is_aborted_before_its_first_write_waits_for_no_region() {
    test(async {
        let world = World::new(21).await;
        let slow = Fates::latency(fastrand::Rng::with_seed(21), Duration::from_millis(40)..=Duration::from_millis(60));
        let instance = world.fleet.operator("a", &slow);
        world.fleet.drill(DRILL, "eu-west").unwrap();
        while world.status().contract.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        instance.links["us-east"].partition();
        let hub = world.fleet.server("hub").unwrap();
        hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!("Abort")).unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        let status = world.status();
        assert_eq!((status.phase, status.verdict), (Phase::Done, Some(Verdict::Aborted)), "{status:#?}");
        assert!(status.debts.is_empty() && status.times.evacuating.is_none(), "{status:#?}");
        instance.links["us-east"].heal();
        tokio::time::sleep(Duration::from_mins(15)).await;
        world.assert_restored("never begun");
        instance.stop().await;
    });
}

#[test]
fn a_drill_of_a_region_whose_pods_are_not_ready_is_refused() {
    test(async {
        let world = World::at(22, &Pace { ready_after: Duration::from_mins(2), ..pace() }).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Refused), "{status:#?}");
        let named = "Deployment shop/checkout in eu-west has 0 of 2 pods Ready".to_owned();
        assert!(status.reasons.contains(&named), "{:?}", status.reasons);
        instance.stop().await;
    });
}

#[test]
fn a_drill_that_is_paused_before_it_began_says_so_and_begins_when_told() {
    test(async {
        let world = World::new(23).await;
        world.fleet.drill(DRILL, "eu-west").unwrap();
        let hub = world.fleet.server("hub").unwrap();
        let control = |word: &str| hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!(word)).unwrap();
        control("Pause");
        let instance = world.fleet.operator("a", &Fates::calm());
        let status = world.until("the word", |status| status.message.starts_with("paused before it began")).await;
        assert_eq!((status.phase, status.observed_generation), (Phase::Pending, 2), "{status:#?}");
        control("Run");
        assert_eq!(world.done().await.verdict, Some(Verdict::Passed));
        world.assert_restored("begun late");
        instance.stop().await;
    });
}

/// Rehearses for ten minutes, one at a time as the trait says, and then cannot.
#[derive(Debug, Default)]
struct Slow(Arc<tokio::sync::Mutex<u32>>);

impl Rehearser for Slow {
    fn rehearse(&self, _: Fleet, _: String, _: String) -> BoxFuture<'static, Result<Option<Prediction>, String>> {
        let one = Arc::clone(&self.0);
        Box::pin(async move {
            let Ok(mut count) = one.try_lock_owned() else { return Ok(None) };
            *count += 1;
            tokio::time::sleep(Duration::from_mins(10)).await;
            Err("the moon is in the way".to_owned())
        })
    }
}

#[test]
fn checks_that_are_rehearsed_keep_no_drill_waiting_and_all_end() {
    test(async {
        let mut world = World::new(5).await;
        let slow = Arc::new(Slow::default());
        world.fleet.rehearser = Some(Arc::<Slow>::clone(&slow));
        let hub = world.fleet.server("hub").unwrap().clone();
        // More than the operator looks at together.
        for number in 0..12 {
            let spec = json!({"plan": "shop", "region": "eu-west", "mode": "Check"});
            let check = json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": format!("check-{number}")}, "spec": spec});
            hub.seed(check).unwrap();
        }
        let instance = world.fleet.operator("a", &Fates::calm());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let begun = world.fleet.clock.now();
        world.fleet.drill(DRILL, "eu-west").unwrap();
        assert_eq!(world.done().await.verdict, Some(Verdict::Passed));
        let took = world.fleet.clock.now() - begun;
        assert!(took < chrono::TimeDelta::minutes(5), "it took {took} beside the Checks");
        assert_eq!(*slow.0.lock().await, 1, "more than one was rehearsed meanwhile, or none");
        let status = |name: String| hub.get("Drill", "", &name).unwrap()["status"].clone();
        let end = world.fleet.clock.now() + chrono::TimeDelta::hours(3);
        while (0..12).any(|number| status(format!("check-{number}"))["phase"] != "Done") {
            assert!(world.fleet.clock.now() < end, "{:#}", status("check-11".to_owned()));
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        for number in 0..12 {
            let status = status(format!("check-{number}"));
            let said = status["findings"].to_string();
            // Those that were looked at while the drill acted have that for a blocker.
            assert!(
                said.contains("it could not be rehearsed: the moon is in the way") || said.contains("acts just now"),
                "{status:#}"
            );
        }
        world.assert_restored("beside Checks");
        instance.stop().await;
    });
}
