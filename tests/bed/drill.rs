use crate::stage::{Stage, on_stage};
use serde_json::Value;
use std::time::{Duration, Instant};
use testbed::{Load, shop};

fn load(stage: &Stage) -> Load {
    Load::start(&stage.bed.edge().unwrap(), &shop::ROUTES, 240).unwrap()
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
}

/// Some traffic first, so that rates exist and shares can be confirmed.
async fn warm(load: &Load) {
    testbed::until("traffic", Duration::from_secs(60), || async {
        let seen = load.snapshot().requests;
        if seen > 2000 { Ok(()) } else { Err(format!("{seen} requests")) }
    })
    .await
    .unwrap();
}

#[test]
fn a_drill_under_traffic_loses_no_request_and_restores_every_object_and_its_owners() {
    on_stage(|stage| async {
        let operator = stage.operator("first");
        let load = load(stage);
        warm(&load).await;
        let before = stage.snapshot().await;
        let begun = Instant::now();
        stage.drill("the-drill", "shop", "eu-west").await;
        stage.until("the-drill", 300, |status| status["phase"] == "Evacuated" && status["times"]["healthy"].is_string()).await;
        let quiet = load.snapshot();
        testbed::until("1000 more requests", Duration::from_secs(30), || async {
            let seen = load.snapshot().requests;
            if seen > quiet.requests + 1000 { Ok(()) } else { Err(format!("{seen} requests")) }
        })
        .await
        .unwrap();
        let later = load.snapshot();
        assert_eq!(stage.status("the-drill").await["phase"], "Evacuated", "the soak is too short for this test");
        let count = |totals: &testbed::Totals| totals.region("eu-west").unwrap().requests;
        assert_eq!(count(&quiet), count(&later), "the evacuated region got requests");
        let status = stage.done("the-drill", 300).await;
        eprintln!("the drill took {:?}, operator {}, times {}", begun.elapsed(), operator.peak_memory(), status["times"]);
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        assert_eq!(condition(&status, "Restored")["reason"], "Complete", "{status:#}");
        let totals = load.stop().await;
        assert_eq!(totals.failed, 0, "{:?}", totals.failures);
        eprintln!("{} requests, none failed, slowest {:?}", totals.requests, totals.slowest);
        stage.assert_nothing_left().await;
        let after = stage.snapshot().await;
        for (key, object) in &before {
            assert_eq!(Some(object), after.get(key), "{key}");
        }
        // The owners' next ordinary run, with another weight and without force.
        let weights = [("eu-west", 30), ("us-east", 35), ("ap-south", 35)];
        shop::apply_server_side(stage.hub(), &shop::route("cart", &weights)).await.unwrap();
        stage.hub().kubectl(&["apply", "-f", "-"], Some(&shop::route("checkout", &weights))).await.unwrap();
        let weights = [("eu-west", 34), ("us-east", 33), ("ap-south", 33)];
        shop::apply_server_side(stage.hub(), &shop::route("cart", &weights)).await.unwrap();
        stage.hub().kubectl(&["apply", "-f", "-"], Some(&shop::route("checkout", &weights))).await.unwrap();
        operator.kill();
    });
}

#[test]
fn a_red_gate_in_mid_shift_puts_the_weights_back_and_is_named() {
    on_stage(|stage| async {
        let operator = stage.operator("first");
        let load = load(stage);
        warm(&load).await;
        let before = stage.snapshot().await;
        stage.drill("red", "shop", "eu-west").await;
        stage.until("red", 300, |status| moved(status) >= 10).await;
        stage.bed.backend("us-east").unwrap().fail("/", 503, 0.5);
        let status = stage.done("red", 300).await;
        stage.bed.backend("us-east").unwrap().recover();
        assert_eq!(status["verdict"], "Aborted", "{status:#}");
        assert!(status["whyMessage"].as_str().unwrap().contains("gate errors"), "{status:#}");
        stage.assert_nothing_left().await;
        let after = stage.snapshot().await;
        for (key, object) in &before {
            assert_eq!(Some(object), after.get(key), "{key}");
        }
        load.stop().await;
        operator.kill();
    });
}

#[test]
fn an_operator_killed_in_mid_drill_is_followed_by_one_that_restores_everything() {
    on_stage(|stage| async {
        let load = load(stage);
        warm(&load).await;
        let before = stage.snapshot().await;
        let mut operator = stage.operator("first");
        stage.drill("killed", "shop", "ap-south").await;
        let mut kills = 0;
        for level in [0, 10, 40, 100] {
            stage.until("killed", 300, |status| moved(status) >= level && status["phase"] != "Checking").await;
            operator.kill();
            kills += 1;
            operator = stage.operator("first");
        }
        let status = stage.done("killed", 400).await;
        assert_eq!(kills, 4);
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        stage.assert_nothing_left().await;
        let after = stage.snapshot().await;
        for (key, object) in &before {
            assert_eq!(Some(object), after.get(key), "{key}");
        }
        let totals = load.stop().await;
        assert_eq!(totals.failed, 0, "{:?}", totals.failures);
        operator.kill();
    });
}

fn moved(status: &Value) -> u64 {
    let steps = status["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().filter_map(|step| step["level"]["movedPercent"].as_u64()).max().unwrap_or(0)
}
