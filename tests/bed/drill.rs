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

#[test]
fn a_weight_edited_by_somebody_else_is_named_and_left_and_the_rest_restored() {
    on_stage(|stage| async {
        let operator = stage.operator("first");
        let load = load(stage);
        warm(&load).await;
        let before = stage.snapshot().await;
        stage.drill("foreign", "shop", "eu-west").await;
        stage.until("foreign", 300, |status| moved(status) >= 10).await;
        let edit = r#"[{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 7}]"#;
        let arguments = ["patch", "httproute", "catalog", "-n", "shop", "--type=json", "--field-manager=somebody", "-p", edit];
        stage.hub().kubectl(&arguments, None).await.unwrap();
        let status = stage.done("foreign", 300).await;
        assert_eq!(status["verdict"], "Aborted", "{status:#}");
        assert_eq!(condition(&status, "Restored")["reason"], "ForeignChangesKept", "{status:#}");
        let conflicts = status["conflicts"].as_array().unwrap();
        assert!(conflicts.len() == 1 && conflicts[0].as_str().unwrap().contains("HTTPRoute shop/catalog"), "{conflicts:?}");
        let edited = stage.get(stage.hub(), "httproute", "catalog").await;
        let weights: Vec<u64> =
            edited["spec"]["rules"][0]["backendRefs"].as_array().unwrap().iter().map(|r| r["weight"].as_u64().unwrap()).collect();
        assert_eq!(weights, [34, 7, 33]);
        stage.assert_nothing_left().await;
        let after = stage.snapshot().await;
        for (key, object) in before.iter().filter(|(key, _)| !key.ends_with("HTTPRoute catalog")) {
            assert_eq!(Some(object), after.get(key), "{key}");
        }
        load.stop().await;
        operator.kill();
        // For the tests that follow: the owner's manifest, by force, since the value is somebody else's.
        let manifest = shop::route("catalog", &[("eu-west", 34), ("us-east", 33), ("ap-south", 33)]);
        let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager", shop::FIELD_MANAGER, "-f", "-"];
        stage.hub().kubectl(&arguments, Some(&manifest)).await.unwrap();
    });
}

#[test]
fn nothing_is_raised_towards_a_survivor_whose_api_server_is_cut_off_and_the_drill_goes_on_when_it_is_back() {
    on_stage(|stage| async {
        let operator = stage.operator("first");
        let load = load(stage);
        warm(&load).await;
        let before = stage.snapshot().await;
        stage.drill("partition", "shop", "eu-west").await;
        stage.until("partition", 300, |status| moved(status) >= 10).await;
        stage.bed.region("us-east").unwrap().partition_api().unwrap();
        stage
            .until("partition", 60, |status| status["hold"]["message"].as_str().is_some_and(|text| text.contains("us-east")))
            .await;
        let weights = async || stage.get(stage.hub(), "httproute", "shop").await["spec"].clone();
        let held = weights().await;
        let seen = load.snapshot().requests;
        testbed::until("1200 more requests", Duration::from_secs(60), || async {
            if load.snapshot().requests > seen + 1200 { Ok(()) } else { Err("few".to_owned()) }
        })
        .await
        .unwrap();
        assert_eq!(weights().await, held, "weights moved towards a region that cannot be seen");
        stage.bed.region("us-east").unwrap().heal().unwrap();
        let status = stage.done("partition", 300).await;
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

#[test]
fn a_leader_that_was_stopped_beyond_its_lease_writes_nothing_to_settled_objects_when_it_goes_on() {
    on_stage(|stage| async {
        let first = stage.operator("first");
        let load = load(stage);
        warm(&load).await;
        let before = stage.snapshot().await;
        stage.drill("zombie", "shop", "us-east").await;
        stage.until("zombie", 300, |status| moved(status) >= 10).await;
        first.signal("STOP");
        let second = stage.operator("second");
        let status = stage.done("zombie", 400).await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        assert!(status["term"].as_u64().unwrap() > 1, "{status:#}");
        stage.assert_nothing_left().await;
        let (_, mark) = stage.hub().audit_since(0).unwrap();
        first.signal("CONT");
        // Long enough for it to see that it does not lead, and for whatever it had under way.
        let seen = load.snapshot().requests;
        testbed::until("2400 more requests", Duration::from_secs(60), || async {
            if load.snapshot().requests > seen + 2400 { Ok(()) } else { Err("few".to_owned()) }
        })
        .await
        .unwrap();
        let (events, _) = stage.hub().audit_since(mark).unwrap();
        let late: Vec<_> = events
            .iter()
            .filter(|event| event.wrote() && event.object_ref.as_ref().is_some_and(|object| object.resource == "httproutes"))
            .filter(|event| event.user.username.contains("firedrill"))
            .collect();
        assert!(late.is_empty(), "the former leader wrote to a settled route: {late:?}");
        let after = stage.snapshot().await;
        for (key, object) in &before {
            assert_eq!(Some(object), after.get(key), "{key}");
        }
        load.stop().await;
        first.kill();
        second.kill();
    });
}

fn moved(status: &Value) -> u64 {
    let steps = status["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().filter_map(|step| step["level"]["movedPercent"].as_u64()).max().unwrap_or(0)
}
