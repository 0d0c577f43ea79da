use crate::stage::on_stage;
use serde_json::{Value, json};

/// What the API server says to a manifest, without storing it.
async fn answer(cluster: &testbed::Cluster, manifest: &Value) -> Result<String, String> {
    let arguments = ["apply", "--dry-run=server", "-f", "-"];
    cluster.kubectl(&arguments, Some(&manifest.to_string())).await.map_err(|error| error.to_string())
}

fn object(kind: &str, spec: &Value) -> Value {
    let metadata = if kind == "TrafficRoute" { json!({"name": "probe", "namespace": "shop"}) } else { json!({"name": "probe"}) };
    json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

#[test]
fn every_rule_accepts_what_it_should_and_says_what_to_do_about_the_rest() {
    let backends = json!([{"region": "a", "name": "x"}, {"region": "b", "name": "y"}]);
    let route = |query: &str| json!({"httpRoute": {"name": "r"}, "backends": backends, "confirm": {"query": query}});
    let plan = |gates: Value| json!({"regions": ["a", "b"], "namespaces": ["shop"], "gates": gates});
    let pairs = [
        (
            "Region",
            json!({"cluster": {"local": {}}}),
            json!({"cluster": {"local": {}, "kubeconfigSecret": {"name": "x"}}}),
            "set exactly one of local and kubeconfigSecret",
        ),
        ("Region", json!({"cluster": {"kubeconfigSecret": {"name": "x"}}}), json!({"cluster": {}}), "set exactly one of"),
        ("TrafficRoute", route("a ${backend}"), route("a"), "the query must contain ${region} or ${backend}"),
        (
            "TrafficRoute",
            route("a ${region}"),
            json!({"httpRoute": {"name": "r"}, "backends": [{"region": "a", "name": "x"}]}),
            "spec.backends",
        ),
        (
            "EvacuationPlan",
            plan(json!([{"name": "errors", "query": "q", "max": "0.01"}])),
            plan(json!([{"name": "errors", "query": "q"}])),
            "set min, max or both",
        ),
        (
            "EvacuationPlan",
            plan(json!([{"name": "errors", "query": "q", "max": "1"}])),
            plan(json!([{"name": "errors", "query": "q", "max": "a lot"}])),
            "spec.gates[0].max",
        ),
        ("EvacuationPlan", plan(json!([])), json!({"regions": ["a"], "namespaces": ["shop"]}), "spec.regions"),
        ("EvacuationPlan", plan(json!([])), json!({"regions": ["a", "a"], "namespaces": ["shop"]}), "Duplicate value"),
        (
            "EvacuationPlan",
            json!({"regions": ["a", "b"], "namespaces": ["shop"], "soak": "1h30m"}),
            json!({"regions": ["a", "b"], "namespaces": ["shop"], "soak": "-5m"}),
            "spec.soak",
        ),
        (
            "Drill",
            json!({"plan": "p", "region": "r", "mode": "Exercise", "start": {"at": "2026-12-08T10:00:00Z"}}),
            json!({"plan": "p", "region": "r", "mode": "Exercise"}),
            "mode Exercise needs start.at",
        ),
        (
            "Drill",
            json!({"plan": "p", "region": "r", "mode": "Check"}),
            json!({"plan": "p", "region": "r", "mode": "Guess"}),
            "spec.mode",
        ),
    ];
    on_stage(|stage| async move {
        for (kind, good, bad, message) in pairs {
            answer(stage.hub(), &object(kind, &good)).await.unwrap_or_else(|error| panic!("{kind} {good}: {error}"));
            let refused = answer(stage.hub(), &object(kind, &bad)).await.expect_err(&bad.to_string());
            assert!(refused.contains(message), "{kind} {bad}: {refused}");
        }
    });
}

#[test]
fn a_drill_that_cannot_run_is_refused_by_name_and_nothing_is_written() {
    on_stage(|stage| async {
        let operator = stage.operator("first");
        let before = stage.snapshot().await;
        let start = json!({"at": "2026-11-01T10:00:00Z"});
        let late = json!({"plan": "shop", "region": "eu-west", "mode": "Exercise", "start": start});
        stage
            .apply(&json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": "late"}, "spec": late}))
            .await;
        stage.drill("no-plan", "nothing", "eu-west").await;
        stage.drill("no-region", "shop", "mars").await;
        for (drill, reason, text) in [
            ("late", "TooLate", "its start at"),
            ("no-plan", "Plan", "there is no EvacuationPlan nothing"),
            ("no-region", "Region", "region mars is not one of the plan's"),
        ] {
            let status = stage.done(drill, 60).await;
            assert_eq!(status["verdict"], "Refused", "{status:#}");
            let accepted =
                status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Accepted").unwrap();
            assert_eq!(accepted["reason"], reason);
            assert!(accepted["message"].as_str().unwrap().contains(text), "{accepted}");
        }
        assert_eq!(before, stage.snapshot().await);
        operator.kill();
    });
}
