//! What a drill could not put back is paid later, by the sweep or by hand.

use crate::fleet::Fleet;
use crate::world::{DRILL, World, test};
use firedrill::api::{Phase, Status, Verdict};
use firedrill::cli::embedded::{NAMESPACE, REGIONS};
use firedrill::operator::restore::{Fate, Restore};
use firedrill::sim::Fates;
use serde_json::{Value, json};
use std::time::Duration;

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    object["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
}

#[test]
fn a_region_that_was_away_until_after_the_end_is_put_back_when_it_returns_and_refuses_drills_until_then() {
    test(async {
        let world = World::new(21).await;
        let instance = world.fleet.operator("a", &Fates::calm());
        let hub = world.fleet.server("hub").unwrap();
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(10).await;
        instance.links["us-east"].partition();
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Aborted), "{status:#?}");
        let owed: Vec<&str> = status.debts.iter().filter_map(|debt| debt.strip_prefix("us-east: ")).collect();
        assert!(owed.contains(&"HorizontalPodAutoscaler shop/web"), "{:?}", status.debts);
        let restored = |status: &firedrill::api::DrillStatus| {
            let found = status.conditions.iter().find(|condition| condition.kind == "Restored").unwrap();
            (found.status, found.reason.clone())
        };
        assert_eq!(restored(&status), (Status::Unknown, "Debts".to_owned()));
        let again = |name: &'static str| async {
            world.fleet.drill(name, "ap-south").unwrap();
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let drill = hub.get("Drill", "", name).unwrap();
                if drill["status"]["phase"] == "Done" {
                    return drill;
                }
            }
        };
        let refused = again("too-early").await;
        assert_eq!(refused["status"]["verdict"], "Refused");
        let reasons = refused["status"]["reasons"].to_string();
        assert!(reasons.contains("region us-east has not been put back yet: drill test left"), "{reasons}");
        tokio::time::sleep(Duration::from_secs(20)).await;
        let region = hub.get("Region", "", "us-east").unwrap();
        assert_eq!(condition(&region, "Settled")["reason"], "Debts", "{region:#}");
        instance.links["us-east"].heal();
        tokio::time::sleep(Duration::from_secs(150)).await;
        let status = world.status();
        assert!(status.debts.is_empty(), "{status:#?}");
        assert_eq!(restored(&status), (Status::True, "Complete".to_owned()));
        assert_eq!(status.verdict, Some(Verdict::Aborted), "a verdict is for good");
        assert_eq!(condition(&hub.get("Region", "", "us-east").unwrap(), "Settled")["status"], "True");
        assert_eq!(hub.get("Region", "", "us-east").unwrap()["status"]["claims"], 0);
        let told = hub.list("events", "").into_iter().any(|event| event["reason"] == "DebtsPaid");
        assert!(told, "nobody was told");
        world.assert_restored("paid");
        assert_eq!(again("then").await["status"]["verdict"], "Passed");
        world.assert_restored("then");
        instance.stop().await;
    });
}

#[test]
fn a_singleton_whose_home_was_away_goes_home_last_and_is_owed_until_it_runs_there() {
    test(async {
        let fleet = Fleet::new(25, &["Deployment"], &json!({})).await;
        let hub = fleet.world.fleet.server("hub").unwrap();
        hub.edit("EvacuationPlan", "", "shop", |plan| plan["spec"]["cordon"] = json!("Nodes")).unwrap();
        let instance = fleet.world.fleet.operator("a", &Fates::calm());
        fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
        fleet.until("handed over", 10, |fleet| fleet.is_at("Deployment", "us-east")).await;
        instance.links["eu-west"].partition();
        fleet.until("the end", 60, |fleet| fleet.world.status().phase == Phase::Done).await;
        let led = "the hub: SingletonWorkload shop/deployment".to_owned();
        let debts = fleet.world.status().debts;
        assert!(debts.contains(&led) && debts.len() > 1, "{debts:?}");
        // A Region that is not there any more proves nothing.
        let region = hub.get("Region", "", "eu-west").unwrap();
        hub.delete("Region", "", "eu-west").unwrap();
        fleet.pass(120).await;
        assert_eq!(fleet.world.status().debts, debts);
        assert!(fleet.is_at("Deployment", "us-east"));
        let metadata = json!({"name": "eu-west", "labels": region["metadata"]["labels"]});
        let again = json!({"apiVersion": region["apiVersion"], "kind": "Region", "metadata": metadata, "spec": region["spec"]});
        hub.seed(again).unwrap();
        instance.links["eu-west"].heal();
        // First what the region owes, then the singleton, and only then is it said.
        fleet.until("the claims", 5, |fleet| fleet.world.status().debts == [led.clone()]).await;
        assert!(!fleet.is_at("Deployment", "eu-west"));
        fleet.until("home", 5, |fleet| fleet.is_at("Deployment", "eu-west")).await;
        fleet.until("settled", 2, |fleet| fleet.world.status().debts.is_empty()).await;
        assert_eq!(
            condition(&hub.get("Region", "", "eu-west").unwrap(), "Settled")["status"],
            "False",
            "not before it is looked at"
        );
        fleet.pass(60).await;
        assert_eq!(condition(&hub.get("Region", "", "eu-west").unwrap(), "Settled")["status"], "True");
        let told = hub.list("events", "").into_iter().filter(|event| event["reason"] == "DebtsPaid").count();
        assert_eq!(told, 2);
        fleet.watch.assert_one("owed");
        instance.stop().await;
    });
}

#[test]
fn headroom_goes_down_only_after_traffic_was_seen_back() {
    test(async {
        let world = World::new(22).await;
        let first = world.fleet.operator("a", &Fates::calm());
        let (hub, east) = (world.fleet.server("hub").unwrap(), world.fleet.server("us-east").unwrap());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(50).await;
        first.kill();
        // A drill that was removed by force leaves all it did; the region that users left is not ready.
        let west = world.fleet.server("eu-west").unwrap();
        west.edit("Deployment", "shop", "checkout", |object| object["spec"]["replicas"] = json!(0)).unwrap();
        hub.edit("Drill", "", DRILL, |drill| drill["metadata"]["finalizers"] = json!([])).unwrap();
        hub.delete("Drill", "", DRILL).unwrap();
        let raised = east.get("HorizontalPodAutoscaler", "shop", "web").unwrap()["spec"]["minReplicas"].clone();
        let second = world.fleet.operator("b", &Fates::calm());
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(
            east.get("HorizontalPodAutoscaler", "shop", "web").unwrap()["spec"]["minReplicas"],
            raised,
            "users are still there"
        );
        west.edit("Deployment", "shop", "checkout", |object| object["spec"]["replicas"] = json!(2)).unwrap();
        // The copies of a contract without its drill are kept until nothing of it can be under way.
        tokio::time::sleep(Duration::from_secs(720)).await;
        world.assert_restored("paid");
        second.stop().await;
    });
}

/// Puts back what can be, until nothing more can; how often it wrote.
async fn rounds(work: &Restore) -> usize {
    let mut written = 0;
    for _ in 0..60 {
        let plan = work.plan().await;
        let (done, failed) = work.perform(&plan).await;
        assert!(failed.is_empty(), "{failed:?}");
        written += done;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    written
}

#[test]
fn by_hand_everything_goes_back_in_order_with_the_hub_whose_drill_then_ends() {
    test(async {
        let world = World::new(23).await;
        let first = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(50).await;
        let work = world.fleet.by_hand(true, false).await.unwrap();
        let plan = work.plan().await;
        assert!(plan.unseen.is_empty() && plan.kept.is_empty());
        let fate = |object: &str| plan.items.iter().find(|item| item.object.contains(object)).unwrap().fate.clone();
        assert_eq!(fate("HTTPRoute shop/shop"), Fate::Back);
        assert_eq!(fate("HorizontalPodAutoscaler"), Fate::Waits("for traffic to be seen back".into()));
        let order: Vec<bool> = plan.items.iter().map(|item| item.object.starts_with("HTTPRoute")).collect();
        assert!(order.is_sorted_by(|one, two| one >= two), "users first: {:#?}", plan.items);
        // The operator is alive; the lead is taken from it, and it does not go on when it has it again.
        let written = work.alone("by-hand", async |aborted| {
            assert_eq!(aborted, [DRILL]);
            // However long it takes, the lead is kept: the operator, which lives, would go on.
            tokio::time::sleep(Duration::from_secs(60)).await;
            let lease = world.fleet.server("hub").unwrap().get("Lease", NAMESPACE, "firedrill").unwrap();
            assert_eq!(lease["spec"]["holderIdentity"], "by-hand");
            assert_eq!(world.status().phase, Phase::Evacuating, "the operator acts beside it");
            rounds(&work).await
        });
        let written = written.await.unwrap();
        assert!(written > 10, "{written} writes");
        let status = world.done().await;
        assert_eq!(status.verdict, Some(Verdict::Aborted), "{status:#?}");
        world.assert_restored("by hand");
        first.stop().await;
    });
}

#[test]
fn by_hand_without_the_hub_headroom_waits_for_a_person_who_has_seen_users_back() {
    test(async {
        let world = World::new(24).await;
        let hub = world.fleet.server("hub").unwrap();
        hub.edit("EvacuationPlan", "", "shop", |plan| plan["spec"]["cordon"] = json!("Nodes")).unwrap();
        let first = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(50).await;
        first.kill();
        // Somebody's hand, after the operator's.
        let east = world.fleet.server("us-east").unwrap();
        east.edit("HorizontalPodAutoscaler", "shop", "web", |scaler| scaler["spec"]["minReplicas"] = json!(9)).unwrap();
        let work = world.fleet.by_hand(false, false).await.unwrap();
        work.alone("by-hand", async |_| rounds(&work).await).await.unwrap();
        let west = world.fleet.server("eu-west").unwrap();
        assert!(west.list("Node", "").iter().all(|node| node["spec"]["taints"].is_null()), "nodes take pods again");
        let plan = work.plan().await;
        assert!(!plan.items.is_empty() && plan.items.iter().all(|item| matches!(item.fate, Fate::Waits(_))), "{:#?}", plan.items);
        let work = world.fleet.by_hand(false, true).await.unwrap();
        let plan = work.plan().await;
        let theirs = plan.items.iter().find(|item| item.fate == Fate::Conflict).unwrap();
        assert_eq!((theirs.place.as_str(), theirs.found.as_str(), theirs.was.as_str()), ("us-east", "9", "3"), "both values");
        rounds(&work).await;
        assert!(work.plan().await.items.is_empty());
        assert_eq!(east.get("HorizontalPodAutoscaler", "shop", "web").unwrap()["spec"]["minReplicas"], 9);
        let after = world.fleet.snapshot();
        for (key, object) in world.before.iter().filter(|(key, _)| !key.starts_with("hub: ")) {
            if key != "us-east: HorizontalPodAutoscaler web" {
                assert_eq!(after.get(key), Some(object), "{key}");
            }
        }
        for region in ["eu-west", "us-east", "ap-south"] {
            assert!(world.fleet.server(region).unwrap().list("ConfigMap", NAMESPACE).is_empty(), "{region}: the copy is left");
        }
        assert_eq!(world.status().phase, Phase::Evacuating, "the hub was not touched");
    });
}

#[test]
fn by_hand_a_wrong_namespace_or_a_region_left_out_is_no_success() {
    test(async {
        let world = World::new(26).await;
        let first = world.fleet.operator("a", &Fates::calm());
        world.fleet.drill(DRILL, "eu-west").unwrap();
        world.moved_beyond(50).await;
        let elsewhere = world.fleet.by_hand_in("elsewhere", &REGIONS, false, false).await.unwrap().plan().await;
        assert!(elsewhere.kept.is_empty() && elsewhere.is_idle(), "{elsewhere:#?}");
        let asks = |fate: &Fate| matches!(fate, Fate::Waits(what) if what.contains("is --namespace right?"));
        assert!(!elsewhere.items.is_empty() && elsewhere.items.iter().all(|item| asks(&item.fate)), "{elsewhere:#?}");
        let fewer = world.fleet.by_hand_in(NAMESPACE, &["eu-west", "us-east"], false, false).await.unwrap().plan().await;
        assert_eq!(fewer.unseen, [format!("ap-south: drill {DRILL} has been there, and no --region names it")]);
        // A drill that is over keeps its contract on the hub, for the record: it has nothing to say any more.
        let hub = world.fleet.server("hub").unwrap();
        hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!("Abort")).unwrap();
        world.done().await;
        let over = world.fleet.by_hand_in(NAMESPACE, &["eu-west", "us-east"], true, false).await.unwrap().plan().await;
        assert!(over.items.is_empty() && over.unseen.is_empty(), "{over:#?}");
        first.stop().await;
    });
}
