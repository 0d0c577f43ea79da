//! `firedrill rehearse` from a saved copy: what it predicts follows from the copy, and what is wrong with one is said.

use serde_json::{Value, json};
use std::process::{Command, Output};

fn rehearse(copy: &Value, arguments: &[&str]) -> Output {
    let name = format!("firedrill-copy-{}-{:x}.json", std::process::id(), copy.to_string().len() * 31 + arguments.len());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, copy.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
    let output = command.args(["rehearse", "--from"]).arg(&file).args(arguments).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    output
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A fleet of these regions, each with two nodes of so many cores and four pods of one core.
fn copy(regions: &[&str], cores: u32) -> Value {
    let firedrill = |kind: &str, name: &str, namespace: Option<&str>, spec: Value| {
        let mut metadata = json!({"name": name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    let mut hub: Vec<Value> =
        regions.iter().map(|name| firedrill("Region", name, None, json!({"cluster": {"local": {}}}))).collect();
    let gates = json!([{"name": "errors", "role": "UserHealth", "max": "0.01", "query": "errors"}]);
    let spec = json!({"regions": regions, "namespaces": ["shop"], "gates": gates, "soak": "1m"});
    hub.push(firedrill("EvacuationPlan", "shop", None, spec));
    let backends: Vec<Value> = regions.iter().map(|region| json!({"region": region, "name": format!("web-{region}")})).collect();
    let confirm = json!({"query": "sum(rate(r{service=\"${backend}\"}[30s]))"});
    let spec = json!({"httpRoute": {"name": "web"}, "backends": backends, "confirm": confirm});
    hub.push(firedrill("TrafficRoute", "web", Some("shop"), spec));
    let references: Vec<Value> =
        regions.iter().map(|region| json!({"name": format!("web-{region}"), "port": 80, "weight": 50})).collect();
    hub.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"rules": [{"backendRefs": references}]},
    }));
    let allocatable = json!({"cpu": cores.to_string(), "memory": "64Gi", "pods": "110"});
    let node = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
            "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    let container = json!({"name": "web", "image": "web:1", "resources": {"requests": {"cpu": "1"}}});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}});
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 4, "maxReplicas": 20},
    });
    let content = json!([node("n1"), node("n2"), web, scaler]);
    let all: serde_json::Map<String, Value> = regions.iter().map(|name| ((*name).to_owned(), content.clone())).collect();
    json!({"format": 1, "taken": "2026-11-24T08:00:00Z", "plan": "shop", "hub": hub, "regions": all, "starts": {"web:1": 40}})
}

#[test]
fn a_prediction_follows_from_the_copy_alone() {
    let fleet = copy(&["eu", "us", "ap"], 16);
    let made = rehearse(&fleet, &["eu", "-o", "json"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    assert_eq!(made.stdout, rehearse(&fleet, &["eu", "-o", "json"]).stdout, "the same copy gives another prediction");
    let prediction = serde_json::from_slice::<Value>(&made.stdout).unwrap()[0].clone();
    assert_eq!(prediction["verdict"], "Passed", "{prediction:#}");
    assert_eq!(prediction["pods"]["eu"][0], 4, "{prediction:#}");
    assert!(prediction["pods"]["us"][1].as_u64().unwrap() >= 6, "half of a third more, and a margin: {prediction:#}");
    let minutes = |prediction: &Value| {
        let took: kube::core::Duration = prediction["timeToHealthy"].as_str().unwrap().parse().unwrap();
        std::time::Duration::from(took).as_secs()
    };
    // Images that start slower make it later, by that much at least.
    let mut slow = fleet.clone();
    slow["starts"]["web:1"] = json!(240);
    let slower = serde_json::from_slice::<Value>(&rehearse(&slow, &["eu", "-o", "json"]).stdout).unwrap()[0].clone();
    assert!(minutes(&slower) >= minutes(&prediction) + 200, "{slower:#} {prediction:#}");
    let said = text(&rehearse(&fleet, &[]));
    for region in ["eu", "us", "ap"] {
        assert!(said.contains(&format!("Predicted without {region}: Passed: ")), "{said}");
    }
    assert!(said.contains("Not modelled") && said.contains("Nothing was touched."), "{said}");
}

#[test]
fn survivors_without_room_are_found_without_a_drill() {
    // Two nodes of two cores and 4 pods of one: full.
    let made = rehearse(&copy(&["eu", "us", "ap"], 2), &["eu"]);
    assert_eq!(made.status.code(), Some(3), "{}", text(&made));
    assert!(text(&made).starts_with("Predicted without eu: Refused: "), "{}", text(&made));
    assert!(text(&made).contains("Capacity"), "{}", text(&made));
}

#[test]
fn what_is_wrong_with_a_copy_is_said() {
    let said = |copy: &Value, arguments: &[&str], what: &str| {
        let made = rehearse(copy, arguments);
        assert!(made.status.code() == Some(1) && made.stdout.is_empty() && text(&made).contains(what), "{}", text(&made));
    };
    said(&copy(&["eu", "us"], 16), &["mars"], "error: plan shop has no region mars; it has eu, us");
    said(&copy(&["eu"], 16), &[], "error: plan shop has 1 regions: losing one needs another to go to, so at least two");
    said(&copy(&[], 16), &["eu"], "error: plan shop has no region eu");
    let mut secret = copy(&["eu", "us"], 16);
    secret["regions"]["eu"][0]["kind"] = json!("Secret");
    said(&secret, &[], "it has a Secret n1: this kind is not known here");
    let mut invalid = copy(&["eu", "us"], 16);
    invalid["hub"][2]["spec"]["regions"] = json!(7);
    said(&invalid, &[], "EvacuationPlan shop: ");
    let absent = Command::new(env!("CARGO_BIN_EXE_firedrill")).args(["rehearse", "--from", "/nowhere.json"]).output().unwrap();
    assert!(absent.status.code() == Some(1) && text(&absent).contains("/nowhere.json: No such file"), "{}", text(&absent));
    let both = Command::new(env!("CARGO_BIN_EXE_firedrill")).args(["rehearse", "--from", "a", "--hub", "b"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2), "{}", text(&both));
}
