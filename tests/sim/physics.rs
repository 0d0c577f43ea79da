use std::time::Duration;

use chrono::TimeDelta;
use firedrill::sim::{Pace, Physics, Prometheus, Sample, Server};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{base, run, seconds, server, web};

fn physical() -> Server {
    let server = server();
    tokio::spawn(firedrill::sim::physics::run(server.clone(), Physics::default()));
    server
}

fn node(server: &Server, name: &str, cpu: &str) {
    server
        .seed(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu}}}))
        .unwrap();
}

fn status(server: &Server) -> Value {
    server.get("Deployment", "shop", "web").unwrap()["status"].clone()
}

fn scale(server: &Server, replicas: u32) {
    server.edit("Deployment", "shop", "web", |object| object["spec"]["replicas"] = json!(replicas)).unwrap();
}

fn replicas(server: &Server) -> Value {
    server.get("Deployment", "shop", "web").unwrap()["spec"]["replicas"].clone()
}

#[test]
fn a_deployment_reaches_its_spec_after_a_while_and_says_so() {
    run(async {
        let server = physical();
        server.seed(web(3)).unwrap();
        tokio::task::yield_now().await;
        assert!(status(&server).is_null(), "nothing is seen at once");
        seconds(2).await;
        let early = status(&server);
        assert_eq!(
            (&early["observedGeneration"], &early["replicas"], &early["readyReplicas"]),
            (&json!(1), &json!(3), &json!(0))
        );
        assert_eq!(early["conditions"][0]["status"], "False");
        seconds(11).await;
        let late = status(&server);
        assert_eq!(
            (&late["readyReplicas"], &late["availableReplicas"], &late["updatedReplicas"]),
            (&json!(3), &json!(3), &json!(3))
        );
        assert_eq!(late["conditions"][0]["status"], "True");
        scale(&server, 1);
        seconds(2).await;
        assert_eq!(status(&server)["readyReplicas"], 1);
    });
}

#[test]
fn a_new_template_makes_a_new_replica_set_that_copies_annotations() {
    run(async {
        let server = physical();
        server.seed(web(2)).unwrap();
        seconds(20).await;
        server
            .edit("Deployment", "shop", "web", |object| {
                object["metadata"]["annotations"] = json!({"firedrill.dev/claim": "x"});
                object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
            })
            .unwrap();
        seconds(20).await;
        let sets = server.list("ReplicaSet", "shop");
        assert_eq!(sets.iter().map(|set| set["spec"]["replicas"].as_u64().unwrap()).sum::<u64>(), 2);
        assert_eq!(sets.len(), 2);
        assert_eq!(sets.iter().filter(|set| set["metadata"]["annotations"]["firedrill.dev/claim"] == "x").count(), 1);
        server.delete("Deployment", "shop", "web").unwrap();
        assert_eq!(server.list("ReplicaSet", "").len(), 0);
    });
}

#[test]
fn an_autoscaler_holds_its_deployment_between_its_bounds_and_leaves_zero_alone() {
    run(async {
        let server = physical();
        server.seed(web(2)).unwrap();
        let spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 5, "maxReplicas": 8});
        server.seed(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec})).unwrap();
        seconds(10).await;
        assert_eq!(replicas(&server), 2);
        seconds(6).await;
        assert_eq!(replicas(&server), 5);
        scale(&server, 12);
        seconds(16).await;
        assert_eq!(replicas(&server), 8);
        scale(&server, 6);
        seconds(30).await;
        assert_eq!(replicas(&server), 6, "between the bounds it stays");
        let scaler = server.get("HorizontalPodAutoscaler", "shop", "web").unwrap();
        assert_eq!((&scaler["status"]["currentReplicas"], &scaler["status"]["desiredReplicas"]), (&json!(6), &json!(6)));
        scale(&server, 0);
        seconds(60).await;
        assert_eq!(replicas(&server), 0);
        let scaler = server.get("HorizontalPodAutoscaler", "shop", "web").unwrap();
        assert_eq!(scaler["status"]["conditions"][0]["reason"], "ScalingDisabled");
    });
}

#[test]
fn a_workload_becomes_ready_as_a_whole_when_it_is_due() {
    run(async {
        let server = server();
        server.seed(web(4)).unwrap();
        let mut physics = Physics::new(Pace::default());
        let at = |seconds: i64| base() + TimeDelta::seconds(seconds);
        assert_eq!(server.with(|store| physics.advance(store, at(0))), Some(at(1)));
        assert_eq!(server.with(|store| physics.advance(store, at(1))), Some(at(11)));
        assert_eq!(status(&server)["readyReplicas"], 0);
        assert_eq!(server.with(|store| physics.advance(store, at(11))), None);
        assert_eq!(status(&server)["readyReplicas"], 4);
    });
}

#[test]
fn what_a_foreign_hand_set_on_a_node_stays() {
    run(async {
        let server = physical();
        node(&server, "n1", "4");
        seconds(20).await;
        assert_eq!(server.get("Node", "", "n1").unwrap()["status"]["conditions"][0]["status"], "True");
        server.edit("Node", "", "n1", |node| node["status"]["conditions"][0]["status"] = json!("Unknown")).unwrap();
        seconds(60).await;
        assert_eq!(server.get("Node", "", "n1").unwrap()["status"]["conditions"][0]["status"], "Unknown");
    });
}

fn value(prometheus: &Prometheus, query: &str) -> (u16, Value) {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let (code, body) = prometheus.answer(&format!("/api/v1/query?time=1&query={encoded}"));
    (code.as_u16(), serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_query_that_names_a_backend_sees_its_share_of_the_traffic_as_it_was() {
    run(async {
        let server = server();
        let rules = json!([{"backendRefs": [{"name": "shop-eu", "weight": 1}, {"name": "shop-eu-west", "weight": 3}]}]);
        let metadata = json!({"name": "shop", "namespace": "shop"});
        server.seed(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": {"rules": rules}})).unwrap();
        let prometheus = Prometheus::new(server.clone());
        prometheus.requests(200.0);
        prometheus.lag(Duration::from_secs(30));
        let rate = |backend: &str| {
            value(&prometheus, &format!("sum(rate(x{{service=~\".*-svc-{backend}-.*\"}}[30s]))")).1["data"]["result"][0]["value"]
                [1]
            .clone()
        };
        seconds(60).await;
        assert_eq!((rate("shop-eu"), rate("shop-eu-west")), (json!("50"), json!("150")));
        server
            .edit("HTTPRoute", "shop", "shop", |route| route["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(0))
            .unwrap();
        seconds(29).await;
        assert_eq!(rate("shop-eu-west"), "150");
        seconds(2).await;
        assert_eq!((rate("shop-eu"), rate("shop-eu-west")), (json!("200"), json!("0")));
    });
}

#[test]
fn other_queries_are_answered_from_the_table_in_prometheus_words() {
    run(async {
        let prometheus = Prometheus::new(server());
        assert_eq!(value(&prometheus, "errors").1["data"]["result"][0]["value"][1], "0");
        prometheus.set("errors", Sample::Value(f64::NAN));
        assert_eq!(value(&prometheus, "errors").1["data"]["result"][0]["value"][1], "NaN");
        prometheus.set("errors", Sample::NoData);
        assert_eq!(value(&prometheus, "errors").1["data"], json!({"resultType": "vector", "result": []}));
        prometheus.set("errors", Sample::Several(vec![0.5, 2.0]));
        assert_eq!(value(&prometheus, "errors").1["data"]["result"].as_array().unwrap().len(), 2);
        prometheus.set("errors", Sample::Error(StatusCode::UNPROCESSABLE_ENTITY));
        assert_eq!((value(&prometheus, "errors").0, value(&prometheus, "errors").1["status"].clone()), (422, json!("error")));
        prometheus.set("errors", Sample::Bytes(100_000));
        assert_eq!(prometheus.answer("/api/v1/query?query=errors").1.len(), 100_000);
        prometheus.unset("errors");
        assert_eq!(value(&prometheus, "errors").1["data"]["result"][0]["value"][1], "0");
        assert_eq!(prometheus.answer("/api/v1/query").0, StatusCode::BAD_REQUEST);
    });
}
