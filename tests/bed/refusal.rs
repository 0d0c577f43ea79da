use crate::stage::{NAMESPACE, condition, on_stage, since};
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use testbed::{AuditEvent, shop, until};

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = if kind == "TrafficRoute" { json!({"name": name, "namespace": name}) } else { json!({"name": name}) };
    json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// A Prometheus that answers what its query asks for.
async fn odd_prometheus() -> String {
    let vector = |items: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{items}]}}}}"#);
    let answer = move |Query(query): Query<BTreeMap<String, String>>| async move {
        let series = |value: &str| format!(r#"{{"metric":{{}},"value":[1,"{value}"]}}"#);
        match query["query"].as_str() {
            "nan" => (StatusCode::OK, vector(&series("NaN"))),
            "none" => (StatusCode::OK, vector("")),
            "several" => (StatusCode::OK, vector(&[series("0"), series("0")].join(","))),
            "large" => (StatusCode::OK, vector(&vec![series("0"); 300_000].join(","))),
            _ => (
                StatusCode::UNPROCESSABLE_ENTITY,
                r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned(),
            ),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/api/v1/query", get(answer))).await });
    address
}

#[test]
fn a_drill_that_cannot_run_is_refused_by_name_and_nothing_is_written_to_any_region() {
    on_stage(async |stage| {
        let odd = odd_prometheus().await;
        let operator = stage.operator_with("first", &["--allow-host", &odd]);
        let before = stage.snapshot().await;
        let mark = stage.mark();
        let good = std::fs::read_to_string(stage.file("us-east")).unwrap();

        // Kubeconfigs that are not used; each makes its Region say so.
        let token = good.lines().find(|line| line.trim_start().starts_with("token:")).unwrap().trim().to_owned();
        let exec =
            good.replace(&token, "exec: {apiVersion: client.authentication.k8s.io/v1, command: id, interactiveMode: Never}");
        let file = good.replace(&token, "tokenFile: /etc/hostname");
        stage.secret("uses-exec", &exec).await;
        stage.secret("uses-file", &file).await;
        stage.secret("is-garbage", "{]").await;
        stage.secret("moves", &good).await;
        for region in ["uses-exec", "uses-file", "is-garbage", "has-none", "moves"] {
            stage.apply(&object("Region", region, &json!({"cluster": {"kubeconfigSecret": {"name": region}}}))).await;
        }
        let ready = async |region: &str, reason: &str| {
            until(&format!("region {region} is {reason}"), Duration::from_secs(60), || async {
                let status = stage.get(stage.hub(), "region", region).await["status"].clone();
                if status["conditions"].is_array() && condition(&status, "Ready")["reason"] == reason {
                    Ok(())
                } else {
                    Err(format!("{status:#}"))
                }
            })
            .await
            .unwrap();
        };
        ready("moves", "Ready").await;
        stage.secret("moves", &std::fs::read_to_string(stage.file("ap-south")).unwrap()).await;
        ready("moves", "ClusterChanged").await;

        // Each case has a namespace, a plan and a drill of its own, and differs from what would run in one thing.
        let regions = json!(["eu-west", "us-east", "ap-south"]);
        let backends =
            json!([{"region": "eu-west", "name": "a"}, {"region": "us-east", "name": "b"}, {"region": "ap-south", "name": "c"}]);
        let references = json!([{"name": "a", "port": 80, "weight": 34}, {"name": "b", "port": 80, "weight": 33}, {"name": "c", "port": 80, "weight": 33}]);
        let zero = json!([{"name": "a", "port": 80, "weight": 0}, {"name": "b", "port": 80, "weight": 0}, {"name": "c", "port": 80, "weight": 0}]);
        let gate = |query: &str| json!([{"name": query, "query": query, "max": "1"}]);
        let asks = |query: &str| json!({"prometheus": {"url": format!("http://{odd}")}, "gates": gate(query)});
        let cases = [
            ("no-route", Value::Null, json!({}), "Traffic", "HTTPRoute no-route/web does not exist"),
            (
                "no-backend",
                json!([references[0], references[1]]),
                json!({}),
                "Traffic",
                "HTTPRoute no-backend/web has no backend c",
            ),
            ("all-zero", zero, json!({}), "Traffic", "HTTPRoute all-zero/web: "),
            (
                "one-region",
                references.clone(),
                json!({}),
                "Capacity",
                "Deployment one-region/lonely runs in the leaving region and does not exist in ",
            ),
            (
                "min-serving",
                references.clone(),
                json!({"guards": {"minServing": 3}}),
                "Traffic",
                "HTTPRoute min-serving/web: 2 regions would serve a rule of it, guards.minServing is 3",
            ),
            ("nan", references.clone(), asks("nan"), "Gates", "gate nan is not green: the query answers no finite number"),
            ("none", references.clone(), asks("none"), "Gates", "gate none is not green: the query answers no series"),
            ("several", references.clone(), asks("several"), "Gates", "gate several is not green: the query answers 2 series"),
            ("error", references.clone(), asks("error"), "Gates", "gate error is not green: Prometheus: "),
            ("large", references.clone(), asks("large"), "Gates", "gate large is not green: Prometheus: "),
            (
                "not-allowed",
                references.clone(),
                json!({"prometheus": {"url": "http://127.0.0.1:9"}}),
                "Prometheus",
                "127.0.0.1:9, which is not on the operator's list of allowed hosts",
            ),
            (
                "unknown-region",
                references.clone(),
                json!({"regions": ["eu-west", "us-east", "mars"]}),
                "Region",
                "there is no Region mars",
            ),
            (
                "exec",
                references.clone(),
                json!({"regions": ["eu-west", "uses-exec"]}),
                "Region",
                "region uses-exec is not ready: Secret firedrill/uses-exec: the kubeconfig uses `exec`",
            ),
            (
                "file",
                references.clone(),
                json!({"regions": ["eu-west", "uses-file"]}),
                "Region",
                "the kubeconfig uses `tokenFile`",
            ),
            (
                "garbage",
                references.clone(),
                json!({"regions": ["eu-west", "is-garbage"]}),
                "Region",
                "the kubeconfig does not parse",
            ),
            (
                "no-secret",
                references.clone(),
                json!({"regions": ["eu-west", "has-none"]}),
                "Region",
                "Secret firedrill/has-none: ",
            ),
            ("another-uid", references.clone(), json!({"regions": ["eu-west", "moves"]}), "Region", "another cluster answers"),
        ];
        let mut hub = Vec::new();
        for (name, references, with, _, _) in &cases {
            hub.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
            if !references.is_null() {
                let spec = json!({"rules": [{"backendRefs": references}]});
                let metadata = json!({"name": "web", "namespace": name});
                hub.push(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec}));
            }
            hub.push(object("TrafficRoute", name, &json!({"httpRoute": {"name": "web"}, "backends": backends})));
            let mut spec = json!({"regions": regions, "namespaces": [name]});
            for (field, value) in with.as_object().unwrap() {
                spec[field] = value.clone();
            }
            hub.push(object("EvacuationPlan", name, &spec));
        }
        stage.apply(&json!({"apiVersion": "v1", "kind": "List", "items": hub})).await;
        let west = stage.bed.region("eu-west").unwrap();
        west.kubectl(&["create", "namespace", "one-region"], None).await.unwrap();
        let lonely = shop::deployment("lonely", 1).replace("namespace: shop", "namespace: one-region");
        west.kubectl(&["apply", "-f", "-"], Some(&lonely)).await.unwrap();

        for (name, ..) in &cases {
            stage.drill(&format!("refused-{name}"), name, "eu-west").await;
        }
        let late = json!({"plan": "shop", "region": "eu-west", "mode": "Exercise", "start": {"at": "2026-11-01T10:00:00Z"}});
        stage.apply(&object("Drill", "refused-late", &late)).await;
        stage.drill("refused-no-plan", "nothing", "eu-west").await;
        stage.drill("refused-no-region", "shop", "mars").await;
        let rest = [
            ("late", "TooLate", "its start at 2026-11-01T10:00:00"),
            ("no-plan", "Plan", "there is no EvacuationPlan nothing"),
            ("no-region", "Region", "region mars is not one of the plan's"),
        ];
        let cases = cases.iter().map(|(name, _, _, check, text)| (*name, *check, *text)).chain(rest);
        for (name, check, text) in cases {
            let status = stage.done(&format!("refused-{name}"), 60).await;
            assert_eq!(status["verdict"], "Refused", "{name}: {status:#}");
            let accepted = condition(&status, "Accepted");
            let findings = status["findings"].as_array().unwrap();
            let found = |finding: &Value| finding["check"] == check && finding["message"].as_str().unwrap().contains(text);
            assert!(findings.iter().any(found), "{name}: {status:#}");
            assert_eq!(
                (accepted["status"].as_str(), accepted["reason"].as_str()),
                (Some("False"), Some(check)),
                "{name}: {status:#}"
            );
        }
        for cluster in stage.bed.regions() {
            let wrote: Vec<_> = since(&mark, cluster).into_iter().filter(AuditEvent::wrote).collect();
            assert!(wrote.is_empty(), "{}: {wrote:?}", cluster.name());
        }
        stage.assert_restored(&before).await;
        operator.kill();
        west.kubectl(&["delete", "namespace", "one-region", "--wait=false"], None).await.unwrap();
        let regions = ["delete", "region", "uses-exec", "uses-file", "is-garbage", "has-none", "moves"];
        stage.hub().kubectl(&regions, None).await.unwrap();
        let secrets = ["delete", "secret", "-n", NAMESPACE, "uses-exec", "uses-file", "is-garbage", "moves"];
        stage.hub().kubectl(&secrets, None).await.unwrap();
    });
}
