use crate::stage::{condition, more, moved, on_stage, plan};
use serde_json::json;

#[test]
fn nothing_is_raised_towards_a_survivor_that_is_cut_off_and_traffic_leaves_a_region_that_is() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        stage.drill("partition", "shop", "eu-west").await;
        stage.until("partition", 300, |status| moved(status) >= 10).await;
        stage.bed.region("us-east").unwrap().partition_api().unwrap();
        stage
            .until("partition", 60, |status| status["hold"]["message"].as_str().is_some_and(|text| text.contains("us-east")))
            .await;
        let weights = async || stage.get(stage.hub(), "httproute", "shop").await["spec"].clone();
        let held = weights().await;
        more(&load, 1200).await;
        assert_eq!(weights().await, held, "weights moved towards a region that cannot be seen");
        // The survivor is back, and now the leaving region is gone: users leave it all the same.
        stage.bed.region("eu-west").unwrap().partition_api().unwrap();
        stage.bed.region("us-east").unwrap().heal().unwrap();
        let status = stage.healthy("partition").await;
        let debts: Vec<&str> = status["debts"].as_array().unwrap().iter().filter_map(|debt| debt.as_str()).collect();
        assert!(debts.contains(&"eu-west: Node eu-west-0"), "{status:#}");
        let quiet = load.snapshot().region("eu-west").unwrap().requests;
        more(&load, 600).await;
        assert_eq!(load.snapshot().region("eu-west").unwrap().requests, quiet, "the evacuated region got requests");
        stage.bed.region("eu-west").unwrap().heal().unwrap();
        let status = stage.done("partition", 300).await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        stage.assert_restored(&before).await;
        let totals = load.stop().await;
        assert_eq!(totals.failed, 0, "{:?}", totals.failures);
        // No call outlived its time-out, the ones that nobody answered included.
        let metrics = testbed::http_get("http://127.0.0.1:18090/metrics").await.unwrap().1;
        let buckets = |le: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with("firedrill_api_request_duration_seconds_bucket"));
            lines
                .filter(|line| line.contains(&format!("le=\"{le}\"")))
                .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum()
        };
        assert!(buckets("+Inf") > 100.0, "{metrics}");
        assert!((buckets("+Inf") - buckets("10.0")).abs() < 0.5, "a call took more than 10 s:\n{metrics}");
        operator.kill();
    });
}

#[test]
fn a_drill_whose_survivor_stays_cut_off_is_aborted_at_its_deadline_and_traffic_goes_back() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        stage.apply(&plan("short", &json!({"deadline": "40s"}))).await;
        stage.drill("deadline", "short", "eu-west").await;
        stage.until("deadline", 60, |status| moved(status) >= 10).await;
        stage.bed.region("us-east").unwrap().partition_api().unwrap();
        let status = stage.until("deadline", 120, |status| status["why"] == "Deadline" && moved(status) == 0).await;
        assert_eq!(status["return"], "Abort", "{status:#}");
        let weight =
            async || stage.get(stage.hub(), "httproute", "shop").await["spec"]["rules"][0]["backendRefs"][0]["weight"].clone();
        testbed::until("the weights are back", std::time::Duration::from_secs(30), || async {
            if weight().await == json!(34) { Ok(()) } else { Err(format!("{:#}", stage.status("deadline").await)) }
        })
        .await
        .unwrap();
        // What was raised over there is owed until it is seen again.
        let debts = |status: &serde_json::Value| {
            status["debts"]
                .as_array()
                .is_some_and(|debts| debts.iter().any(|debt| debt.as_str().unwrap().starts_with("us-east: ")))
        };
        let status = stage.until("deadline", 60, debts).await;
        assert_eq!(status["hold"]["reason"], "Unreachable", "{status:#}");
        stage.bed.region("us-east").unwrap().heal().unwrap();
        let status = stage.done("deadline", 300).await;
        assert_eq!(status["verdict"], "Aborted", "{status:#}");
        assert_eq!(condition(&status, "Restored")["reason"], "Complete", "{status:#}");
        stage.assert_restored(&before).await;
        assert_eq!(load.stop().await.failed, 0);
        operator.kill();
    });
}
