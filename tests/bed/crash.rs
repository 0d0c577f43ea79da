use crate::stage::{Mark, Stage, more, on_stage, since};
use std::time::Duration;
use testbed::{AuditEvent, until};

/// Waits until the operator has made so many writes, by the API servers' audit logs.
async fn written(stage: &Stage, mark: &Mark, drill: &str, count: usize) {
    until(&format!("{count} writes"), Duration::from_secs(120), || async {
        let seen = stage.writes(mark).len();
        if seen >= count { Ok(()) } else { Err(format!("{seen} writes, {:#}", stage.status(drill).await)) }
    })
    .await
    .unwrap();
}

#[test]
fn an_operator_killed_at_any_of_ten_writes_is_followed_by_one_that_restores_everything() {
    on_stage(async |stage| {
        let load = stage.load().await;
        let before = stage.snapshot().await;
        let mut operator = stage.operator("first");
        for (region, counts) in [("eu-west", [1, 6, 25, 55, 85]), ("us-east", [3, 12, 40, 70, 100])] {
            let name = format!("killed-at-{}", counts.map(|count| count.to_string()).join("-"));
            stage.calm().await;
            let mark = stage.mark();
            stage.drill(&name, "quick", region).await;
            for count in counts {
                written(stage, &mark, &name, count).await;
                operator.kill();
                assert_ne!(stage.status(&name).await["phase"], "Done", "killed too late at write {count}");
                operator = stage.operator("first");
            }
            let status = stage.done(&name, 300).await;
            assert_eq!(status["verdict"], "Passed", "killed at writes {counts:?}: {status:#}");
            eprintln!("killed at writes {counts:?} of {}", stage.writes(&mark).len());
            stage.assert_restored(&before).await;
        }
        let totals = load.stop().await;
        assert_eq!(totals.failed, 0, "{:?}", totals.failures);
        operator.kill();
    });
}

#[test]
fn a_leader_stopped_beyond_its_lease_with_a_request_under_way_changes_no_settled_object() {
    on_stage(async |stage| {
        let first = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        stage.apply(&crate::stage::plan("zombie", &serde_json::json!({"failback": "Manual", "soak": "1s"}))).await;
        stage.drill("zombie", "zombie", "ap-south").await;
        stage.healthy("zombie").await;
        // From here on a write to us-east is lost on its way, a read is not: only writes fill a whole segment.
        let east = stage.bed.region("us-east").unwrap();
        east.lose_packets("meta length > 1450").unwrap();
        stage.control("zombie", "Failback").await;
        until("a write is under way", Duration::from_secs(120), || async {
            let lost = east.lost_packets().unwrap();
            if lost > 0 { Ok(()) } else { Err(format!("{:#}", stage.status("zombie").await)) }
        })
        .await
        .unwrap();
        first.signal("STOP");
        let ports = first.ports(&east.address().to_string());
        assert!(!ports.is_empty(), "it has no connection to us-east");
        // The kernel goes on sending for the stopped process; the other instance's packets pass.
        east.lose_packets(&format!("ip saddr 10.231.0.1 tcp sport {{ {} }}", ports.join(", "))).unwrap();
        let second = stage.operator("second");
        let status = stage.done("zombie", 400).await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        assert!(status["term"].as_u64().unwrap() > 1, "{status:#}");
        stage.assert_restored(&before).await;
        let mark = stage.mark();
        east.heal().unwrap();
        // Now what was under way lands, and only then the former leader goes on.
        let landed = until("the write under way lands", Duration::from_secs(150), || async {
            let patches =
                |event: &AuditEvent| event.verb == "patch" && event.object_ref.as_ref().is_some_and(|o| o.namespace == "shop");
            let landed: Vec<_> = since(&mark, east).into_iter().filter(patches).collect();
            if landed.is_empty() { Err("not yet".to_owned()) } else { Ok(landed) }
        })
        .await
        .unwrap();
        // The version has moved on: 409; or, where the claim is gone, the patch does not even apply: 422.
        let code = |event: &AuditEvent| event.response_status.as_ref().map_or(0, |status| status.code);
        assert!(landed.iter().all(|event| matches!(code(event), 409 | 422)), "{landed:?}");
        first.signal("CONT");
        more(&load, 2400).await;
        for cluster in stage.bed.regions().iter().chain([stage.hub()]) {
            let foreign = |event: &AuditEvent| {
                event.object_ref.as_ref().is_some_and(|object| object.namespace == "shop" || object.resource == "nodes")
            };
            let late: Vec<_> = since(&mark, cluster).into_iter().filter(AuditEvent::wrote).filter(foreign).collect();
            assert!(late.is_empty(), "the former leader wrote to a settled object: {late:?}");
        }
        stage.assert_restored(&before).await;
        assert_eq!(load.stop().await.failed, 0);
        first.kill();
        second.kill();
    });
}
