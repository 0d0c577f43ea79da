use crate::stage::{HELMS, condition, more, moved, on_stage, plan, since};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use testbed::{Totals, shop, until};

#[test]
fn a_drill_under_traffic_loses_no_request_and_restores_every_object_and_its_owners() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        let mark = stage.mark();
        let begun = Instant::now();
        let pace = json!({"firstPercent": 10, "growthPercent": 300, "maxStepPercent": 50, "hold": "0s"});
        stage.apply(&plan("stepwise", &json!({"pace": {"evacuate": pace, "failback": pace}}))).await;
        stage.drill("the-drill", "stepwise", "eu-west").await;
        stage.healthy("the-drill").await;
        let quiet = load.snapshot();
        more(&load, 1000).await;
        let later = load.snapshot();
        assert_eq!(stage.status("the-drill").await["phase"], "Evacuated", "the soak is too short for this test");
        let count = |totals: &Totals| totals.region("eu-west").unwrap().requests;
        assert_eq!(count(&quiet), count(&later), "the evacuated region got requests");
        let status = stage.done("the-drill", 300).await;
        eprintln!("the drill took {:?}, operator {}, times {}", begun.elapsed(), operator.peak_memory(), status["times"]);
        let mut calls: BTreeMap<(String, String), u32> = BTreeMap::new();
        for cluster in stage.bed.regions().iter().chain([stage.hub()]) {
            for event in since(&mark, cluster) {
                let resource = event.object_ref.map(|object| object.resource).unwrap_or_default();
                *calls.entry((event.verb, resource)).or_default() += 1;
            }
        }
        eprintln!("its calls: {calls:?}");
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        assert_eq!(condition(&status, "Restored")["reason"], "Complete", "{status:#}");
        let totals = load.stop().await;
        assert_eq!(totals.failed, 0, "{:?}", totals.failures);
        eprintln!("{} requests, none failed, slowest {:?}", totals.requests, totals.slowest);
        stage.assert_restored(&before).await;
        for (output, said) in [
            ("text", "users are healthy without the region"),
            ("html", "<h2>Share of the region's users that was to be elsewhere</h2>"),
            ("json", "\"verdict\": \"Passed\""),
        ] {
            let report = stage.report("the-drill", output);
            assert!(report.contains(said) && report.contains("HTTPRoute shop/cart"), "{output}: {report}");
            if output == "text" {
                eprintln!("{report}");
            }
        }
        // The owners' next ordinary run, with another weight and without force.
        for first in [30, 34] {
            let weights = [("eu-west", first), ("us-east", 33), ("ap-south", 33)];
            shop::apply_server_side(stage.hub(), &shop::route("cart", &weights)).await.unwrap();
            stage.hub().kubectl(&["apply", "-f", "-"], Some(&shop::route("checkout", &weights))).await.unwrap();
            stage.helm(first).await.unwrap();
            let west = stage.get(stage.hub(), "httproute", HELMS).await["spec"]["rules"][0]["backendRefs"][0]["weight"].clone();
            assert_eq!(west, json!(first));
        }
        operator.kill();
    });
}

#[test]
fn a_red_gate_in_mid_shift_puts_the_weights_back_at_once_and_is_named() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        let mut red = plan("red", &json!({}));
        red["spec"]["gates"][0]["interval"] = json!("2s");
        red["spec"]["gates"][0]["failureLimit"] = json!(0);
        let query = red["spec"]["gates"][0]["query"].as_str().unwrap().to_owned();
        stage.apply(&red).await;
        stage.drill("red", "red", "eu-west").await;
        stage.until("red", 300, |status| moved(status) >= 10).await;
        stage.bed.backend("us-east").unwrap().fail("/", 503, 0.5);
        let encoded = query.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
        let url = format!("{}/api/v1/query?query={encoded}", stage.bed.prometheus().unwrap());
        until("the gate is red", Duration::from_secs(30), || async {
            let (_, body) = testbed::http_get(&url).await?;
            let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
            let ratio: f64 =
                answer["data"]["result"][0]["value"][1].as_str().ok_or("no value")?.parse().map_err(|_| "no number")?;
            if ratio > 0.01 { Ok(()) } else { Err(format!("{ratio}")) }
        })
        .await
        .unwrap();
        let turned = std::time::SystemTime::now();
        let mark = stage.mark();
        let status = stage.done("red", 300).await;
        stage.bed.backend("us-east").unwrap().recover();
        assert_eq!(status["verdict"], "Aborted", "{status:#}");
        assert!(status["whyMessage"].as_str().unwrap().contains("gate errors"), "{status:#}");
        // The gate's interval and one second, by the API server's own clock.
        let weight = |event: &testbed::AuditEvent| {
            let patch = event.request_object.as_array()?;
            let weights =
                patch.iter().filter(|operation| operation["path"].as_str().is_some_and(|path| path.ends_with("/weight")));
            (weights.count() > 0).then(|| event.stage_timestamp.parse::<chrono::DateTime<chrono::Utc>>().unwrap())
        };
        let late = since(&mark, stage.hub()).iter().filter(|event| event.wrote()).filter_map(weight).max();
        let took = late.map_or(chrono::TimeDelta::zero(), |late| late - chrono::DateTime::<chrono::Utc>::from(turned));
        eprintln!("the weights were back {} ms after the gate turned red", took.num_milliseconds());
        assert!(took <= chrono::TimeDelta::seconds(3), "the weights went back only {took} after the gate turned red");
        stage.assert_restored(&before).await;
        load.stop().await;
        operator.kill();
    });
}

#[test]
fn a_person_pauses_a_drill_and_leads_it_back_and_no_other_starts_meanwhile() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        stage.apply(&plan("manual", &json!({"failback": "Manual", "soak": "1s"}))).await;
        let check = json!({"plan": "manual", "region": "us-east", "mode": "Check"});
        let object = |name: &str, spec: &Value| json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": name}, "spec": spec});
        stage.apply(&object("only-checked", &check)).await;
        let mark = stage.mark();
        let status = stage.done("only-checked", 60).await;
        assert!(status["verdict"].is_null() && status["contract"].is_null(), "{status:#}");
        assert_eq!(condition(&status, "Succeeded")["reason"], "Checked");
        for region in stage.bed.regions() {
            let wrote: Vec<_> = since(&mark, region).into_iter().filter(testbed::AuditEvent::wrote).collect();
            assert!(wrote.is_empty(), "a Check wrote in {}: {wrote:?}", region.name());
        }
        stage.drill("led", "manual", "us-east").await;
        stage.until("led", 300, |status| moved(status) >= 10).await;
        stage.control("led", "Pause").await;
        stage.until("led", 30, |status| status["hold"]["reason"] == "Paused").await;
        let held = stage.get(stage.hub(), "httproute", "shop").await;
        stage.drill("second", "quick", "eu-west").await;
        let second = stage.done("second", 60).await;
        assert_eq!(condition(&second, "Accepted")["reason"], "Busy", "{second:#}");
        more(&load, 1200).await;
        assert_eq!(
            stage.get(stage.hub(), "httproute", "shop").await["metadata"]["resourceVersion"],
            held["metadata"]["resourceVersion"]
        );
        stage.control("led", "Run").await;
        let status = stage.healthy("led").await;
        assert!(status["hold"].is_null(), "{status:#}");
        more(&load, 1200).await;
        assert_eq!(stage.status("led").await["phase"], "Evacuated", "failback: Manual waits for a person");
        stage.control("led", "Failback").await;
        let status = stage.done("led", 300).await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        stage.assert_restored(&before).await;
        assert_eq!(load.stop().await.failed, 0);
        operator.kill();
    });
}
