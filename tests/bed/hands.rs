use crate::stage::{condition, moved, on_stage, plan};
use serde_json::{Value, json};
use std::time::Duration;
use testbed::{Cluster, until};

async fn patch(cluster: &Cluster, kind: &str, name: &str, patch: &Value) {
    let text = patch.to_string();
    let arguments = ["patch", kind, name, "-n", "shop", "--type=json", "--field-manager=somebody", "-p", &text];
    cluster.kubectl(&arguments, None).await.unwrap();
}

/// Gives a Deployment another image, and waits until that is a revision of its own.
async fn revise(region: &Cluster, name: &str, tag: u32) {
    let image = format!("server=shop.example/{name}:{tag}");
    region.kubectl(&["set", "image", &format!("deployment/{name}"), &image, "-n", "shop"], None).await.unwrap();
    settled(region, name).await;
}

async fn settled(region: &Cluster, name: &str) {
    let object = format!("deployment/{name}");
    region.kubectl(&["rollout", "status", &object, "-n", "shop", "--timeout=50s"], None).await.unwrap();
}

#[test]
fn a_drill_lives_with_an_inserted_rule_a_rollback_of_a_claimed_workload_and_the_deletion_of_its_plan() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        let east = stage.bed.region("us-east").unwrap();
        stage.apply(&plan("lives-with", &json!({"failback": "Manual", "soak": "1s"}))).await;
        stage.drill("lives-with", "lives-with", "eu-west").await;
        stage.until("lives-with", 300, |status| moved(status) >= 10).await;
        let rule = json!({
            "matches": [{"path": {"type": "PathPrefix", "value": "/cart/old"}}],
            "backendRefs": [{"name": "cart-us-east", "port": 80, "weight": 1}],
        });
        patch(stage.hub(), "httproute", "cart", &json!([{"op": "add", "path": "/spec/rules/0", "value": rule}])).await;
        stage.hub().kubectl(&["delete", "evacuationplan", "lives-with"], None).await.unwrap();
        let claimed = stage.get(east, "deployment", "orders").await;
        assert!(claimed["metadata"]["annotations"]["firedrill.dev/claim"].is_string(), "{claimed:#}");
        revise(east, "orders", 2).await;
        east.kubectl(&["rollout", "undo", "deployment/orders", "-n", "shop"], None).await.unwrap();
        settled(east, "orders").await;
        stage.healthy("lives-with").await;
        let raised = stage.get(east, "deployment", "orders").await;
        assert_eq!(raised["spec"]["replicas"], claimed["spec"]["replicas"], "the rollback lowered what the drill had raised");
        stage.control("lives-with", "Failback").await;
        let status = stage.done("lives-with", 300).await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        assert_eq!(condition(&status, "Restored")["reason"], "Complete", "{status:#}");
        let foreign = |key: &str| key.starts_with("us-east") && key.contains(" orders") || key.ends_with("HTTPRoute cart");
        stage.assert_restored_but(&before, foreign).await;
        let cart = stage.get(stage.hub(), "httproute", "cart").await;
        assert_eq!(cart["spec"]["rules"][0]["matches"][0]["path"]["value"], "/cart/old", "the rule of somebody else is gone");
        assert_eq!(cart["spec"]["rules"][1]["backendRefs"], before["hub HTTPRoute cart"]["spec"]["rules"][0]["backendRefs"]);
        // A day's worth of revisions later: no old one brings the claim back.
        for tag in 3..=5 {
            revise(east, "orders", tag).await;
        }
        let wanted = &before["us-east Deployment orders"]["spec"];
        for revision in [2, 4] {
            let to = format!("--to-revision={revision}");
            // Kubernetes renumbers the revision that is gone back to, so some are not there any more.
            let _ = east.kubectl(&["rollout", "undo", "deployment/orders", "-n", "shop", &to], None).await;
            settled(east, "orders").await;
            stage.assert_nothing_left().await;
            assert_eq!(stage.get(east, "deployment", "orders").await["spec"]["replicas"], wanted["replicas"]);
        }
        // One that was kept elsewhere and is put back is dead: it goes, and no value with it.
        let text = claimed["metadata"]["annotations"]["firedrill.dev/claim"].as_str().unwrap();
        let note = format!("firedrill.dev/claim={text}");
        east.kubectl(&["annotate", "deployment/orders", "-n", "shop", &note], None).await.unwrap();
        until("the dead claim is removed", Duration::from_secs(60), || async {
            let object = stage.get(east, "deployment", "orders").await;
            assert_eq!(object["spec"]["replicas"], wanted["replicas"]);
            if object["metadata"]["annotations"]["firedrill.dev/claim"].is_null() {
                Ok(())
            } else {
                Err("still there".to_owned())
            }
        })
        .await
        .unwrap();
        assert_eq!(load.stop().await.failed, 0);
        operator.kill();
        revise(east, "orders", 1).await;
        stage.owners_again("cart").await;
    });
}

#[test]
fn an_edited_weight_and_a_route_made_anew_are_named_and_left_and_a_deleted_drill_restores_the_rest() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        stage.apply(&plan("contended", &json!({"guards": {"contention": "Hold"}}))).await;
        stage.drill("contended", "contended", "eu-west").await;
        stage.until("contended", 300, |status| moved(status) >= 10).await;
        patch(
            stage.hub(),
            "httproute",
            "shop",
            &json!([{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 7}]),
        )
        .await;
        let held = |status: &Value| {
            status["hold"]["reason"] == "Contention"
                && status["hold"]["message"].as_str().unwrap().contains("HTTPRoute shop/shop")
        };
        stage.until("contended", 60, held).await;
        stage.hub().kubectl(&["delete", "httproute", "cart", "-n", "shop"], None).await.unwrap();
        stage.owners_again("cart").await;
        stage.hub().kubectl(&["delete", "drill", "contended", "--wait=false"], None).await.unwrap();
        until("the drill is gone", Duration::from_secs(120), || async {
            let text =
                stage.hub().kubectl(&["get", "drill", "contended", "--ignore-not-found", "-o", "yaml"], None).await.unwrap();
            if text.is_empty() { Ok(()) } else { Err(text) }
        })
        .await
        .unwrap();
        stage.assert_restored_but(&before, |key| key.ends_with("HTTPRoute shop") || key.ends_with("HTTPRoute cart")).await;
        let weights = async |route: &str| -> Vec<u64> {
            let object = stage.get(stage.hub(), "httproute", route).await;
            object["spec"]["rules"][0]["backendRefs"].as_array().unwrap().iter().map(|r| r["weight"].as_u64().unwrap()).collect()
        };
        assert_eq!(weights("shop").await, [34, 7, 33]);
        assert_eq!(weights("cart").await, [34, 33, 33]);
        let fields = "involvedObject.name=contended,reason=ForeignChangeKept";
        let events = stage.hub().kubectl(&["get", "events", "-n", "default", "--field-selector", fields], None).await.unwrap();
        assert!(events.contains("HTTPRoute shop/shop: ") && events.contains(" is 7, somebody else's"), "{events}");
        assert!(events.contains("HTTPRoute shop/cart was deleted and made anew by somebody else"), "{events}");
        load.stop().await;
        operator.kill();
        stage.owners_again("shop").await;
    });
}
