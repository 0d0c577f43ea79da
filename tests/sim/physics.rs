use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use firedrill::sim::{Edge, Pace, Physics, Prometheus, Sample, Server};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{base, raw, run, seconds, server, web};

/// A cluster with two nodes of four cores.
fn physical() -> Server {
    at_pace(Pace::default())
}

fn at_pace(pace: Pace) -> Server {
    let server = server();
    for name in ["n1", "n2"] {
        node(&server, name, "4");
    }
    tokio::spawn(firedrill::sim::physics::run(server.clone(), Physics::new(pace), || None));
    server
}

fn node(server: &Server, name: &str, cpu: &str) {
    let allocatable = json!({"cpu": cpu, "memory": "16Gi"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"allocatable": allocatable}});
    server.seed(node).unwrap();
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

fn is(object: &Value, condition: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == condition && one["status"] == status))
}

/// Pods that are not ending.
fn pods(server: &Server) -> Vec<Value> {
    server.list("Pod", "shop").into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect()
}

fn names(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

/// How many pods each node has.
fn spread(server: &Server) -> BTreeMap<String, usize> {
    pods(server).iter().fold(BTreeMap::new(), |mut all, pod| {
        *all.entry(pod["spec"]["nodeName"].as_str().unwrap_or("").to_owned()).or_insert(0) += 1;
        all
    })
}

async fn evict(server: &Server, pod: &str) -> u16 {
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "shop"}});
    let line = format!("/api/v1/namespaces/shop/pods/{pod}/eviction");
    match raw(server, "POST", &line, "application/json", body).await {
        Ok(_) => 201,
        Err(kube::Error::Api(status)) => status.code,
        Err(other) => panic!("{other}"),
    }
}

fn cron(spec: &Value) -> Value {
    let mut all = json!({
        "schedule": "*/5 * * * *", "concurrencyPolicy": "Forbid",
        "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "one", "image": "one"}]}}}},
    });
    json_patch::merge(&mut all, spec);
    json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "shop"}, "spec": all})
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
        assert!(pods(&server).iter().all(|pod| pod["status"]["phase"] == "Running" && is(pod, "Ready", "True")));
        scale(&server, 1);
        seconds(2).await;
        assert_eq!(status(&server)["readyReplicas"], 1);
        assert_eq!((pods(&server).len(), server.list("Pod", "shop").len()), (1, 3), "two are ending");
        seconds(4).await;
        assert_eq!(server.list("Pod", "shop").len(), 1);
    });
}

#[test]
fn a_new_template_is_rolled_out_within_surge_and_unavailability_and_copies_annotations() {
    run(async {
        let server = physical();
        server.seed(web(4)).unwrap();
        seconds(20).await;
        server
            .edit("Deployment", "shop", "web", |object| {
                object["metadata"]["annotations"] = json!({"firedrill.dev/claim": "x"});
                object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
            })
            .unwrap();
        for _ in 0..60 {
            seconds(1).await;
            let ready = pods(&server).iter().filter(|pod| is(pod, "Ready", "True")).count();
            assert!((3..=5).contains(&ready) && pods(&server).len() <= 5, "{ready} of {}", pods(&server).len());
        }
        let sets = server.list("ReplicaSet", "shop");
        let mut sizes: Vec<_> = sets.iter().map(|set| set["spec"]["replicas"].as_u64().unwrap()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [0, 4]);
        assert!(pods(&server).iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"));
        assert_eq!(sets.iter().filter(|set| set["metadata"]["annotations"]["firedrill.dev/claim"] == "x").count(), 1);
        server.delete("Deployment", "shop", "web").unwrap();
        assert_eq!(server.list("ReplicaSet", "").len(), 0);
        seconds(5).await;
        assert_eq!(server.list("Pod", "").len(), 0);
    });
}

#[test]
fn a_template_that_never_becomes_ready_stops_the_rollout_and_a_rollback_ends_it() {
    run(async {
        let images = BTreeMap::from([("web:bad".to_owned(), Duration::MAX)]);
        let server = at_pace(Pace { images, ..Pace::default() });
        server.seed(web(4)).unwrap();
        seconds(20).await;
        let image = |name: &'static str| {
            move |object: &mut Value| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(name)
        };
        server.edit("Deployment", "shop", "web", image("web:bad")).unwrap();
        seconds(600).await;
        assert_eq!((&status(&server)["readyReplicas"], &status(&server)["updatedReplicas"]), (&json!(3), &json!(2)));
        server.edit("Deployment", "shop", "web", image("web:1")).unwrap();
        seconds(30).await;
        assert_eq!((&status(&server)["readyReplicas"], &status(&server)["updatedReplicas"]), (&json!(4), &json!(4)));
        assert_eq!(server.list("ReplicaSet", "shop").len(), 2, "the old one is used again");
    });
}

#[test]
fn recreate_ends_the_old_pods_before_new_ones_start() {
    run(async {
        let server = physical();
        let mut web = web(2);
        web["spec"]["strategy"] = json!({"type": "Recreate"});
        server.seed(web).unwrap();
        seconds(20).await;
        server
            .edit("Deployment", "shop", "web", |web| web["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2"))
            .unwrap();
        seconds(20).await;
        assert!(pods(&server).iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"));
        assert_eq!(status(&server)["readyReplicas"], 2);
    });
}

#[test]
fn pods_go_where_they_fit_are_tolerated_and_selected() {
    run(async {
        let server = physical();
        server.seed(web(17)).unwrap();
        seconds(20).await;
        assert_eq!(
            spread(&server),
            BTreeMap::from([("n1".into(), 8), ("n2".into(), 8), (String::new(), 1)]),
            "16 of half a core"
        );
        assert_eq!(status(&server)["readyReplicas"], 16);
        let waiting = pods(&server).into_iter().find(|pod| pod["spec"]["nodeName"].is_null()).unwrap();
        assert_eq!(waiting["status"]["conditions"][0]["reason"], "Unschedulable");
        // Room that is made is taken.
        node(&server, "n3", "1");
        seconds(12).await;
        assert_eq!(spread(&server)["n3"], 1);
        // What is tainted takes no more; what is there stays.
        server.edit("Node", "", "n3", |node| node["spec"]["taints"] = json!([{"key": "away", "effect": "NoSchedule"}])).unwrap();
        scale(&server, 18);
        seconds(12).await;
        assert_eq!((spread(&server)["n3"], spread(&server)[""]), (1, 1));
        scale(&server, 0);
        server
            .edit("Deployment", "shop", "web", |web| web["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"}))
            .unwrap();
        server.edit("Node", "", "n2", |node| node["metadata"]["labels"] = json!({"disk": "ssd"})).unwrap();
        scale(&server, 2);
        seconds(60).await;
        assert_eq!(spread(&server), BTreeMap::from([("n2".into(), 2)]));
        server.edit("Node", "", "n2", |node| node["spec"]["taints"] = json!([{"key": "away", "effect": "NoExecute"}])).unwrap();
        seconds(5).await;
        assert_eq!(spread(&server), BTreeMap::from([(String::new(), 2)]), "nothing else is selected");
    });
}

#[test]
fn a_pod_becomes_ready_when_its_slowest_image_has_started() {
    run(async {
        let images = BTreeMap::from([("web:1".to_owned(), Duration::from_secs(40))]);
        let server = at_pace(Pace { images, ..Pace::default() });
        server.seed(web(1)).unwrap();
        seconds(40).await;
        assert_eq!(status(&server)["readyReplicas"], 0);
        seconds(2).await;
        assert_eq!(status(&server)["readyReplicas"], 1);
    });
}

#[test]
fn an_autoscaler_holds_its_deployment_between_its_bounds_and_leaves_zero_alone() {
    run(async {
        let server = physical();
        server.seed(web(2)).unwrap();
        server.seed(scaler(5, 8, &Value::Null)).unwrap();
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

fn scaler(least: u32, most: u32, metrics: &Value) -> Value {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"scaleTargetRef": target, "minReplicas": least, "maxReplicas": most, "metrics": metrics});
    let metadata = json!({"name": "web", "namespace": "shop"});
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec})
}

#[test]
fn load_scales_out_and_errors_fall_when_the_pods_are_ready() {
    run(async {
        let server = server();
        node(&server, "n1", "16");
        let edge = Edge::new(server.clone());
        let route = json!({"rules": [{"backendRefs": [{"name": "web-eu"}, {"name": "web-us", "weight": 0}]}]});
        let metadata = json!({"name": "web", "namespace": "shop"});
        server
            .seed(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": route}))
            .unwrap();
        edge.requests(400.0);
        edge.place("web-eu", "hub");
        edge.limit(&server, 100.0);
        let load = edge.clone();
        tokio::spawn(firedrill::sim::physics::run(server.clone(), Physics::new(Pace::default()), move || load.load("hub")));
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        server.seed(web(4)).unwrap();
        server.seed(scaler(2, 9, &cpu)).unwrap();
        seconds(12).await;
        assert_eq!((edge.load("hub"), edge.errors(None)), (Some(1.0), 0.0));
        edge.requests(600.0);
        assert!((edge.errors(None) - 1.0 / 3.0).abs() < 1e-9);
        seconds(60).await;
        assert_eq!((replicas(&server), edge.errors(None)), (json!(8), 0.0), "600 requests at 80 of 100 a pod");
        edge.requests(200.0);
        seconds(240).await;
        assert_eq!(replicas(&server), 8, "what was wanted lately holds");
        seconds(120).await;
        assert_eq!(replicas(&server), 3);
        // Weights that were written are followed after a while, and by some later still.
        edge.delay(Duration::from_secs(5));
        edge.stragglers(0.1, Duration::from_secs(30));
        server
            .edit("HTTPRoute", "shop", "web", |route| {
                route["spec"]["rules"][0]["backendRefs"] = json!([{"name": "web-eu", "weight": 0}, {"name": "web-us"}]);
            })
            .unwrap();
        seconds(4).await;
        let rate = |edge: &Edge| format!("{:.3}", edge.rate("web-eu", Duration::ZERO));
        assert_eq!(rate(&edge), "200.000");
        seconds(2).await;
        assert_eq!(rate(&edge), "20.000");
        seconds(25).await;
        assert_eq!(rate(&edge), "0.000");
    });
}

#[test]
fn what_happens_happens_when_it_is_due() {
    run(async {
        let server = server();
        node(&server, "n1", "4");
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
fn numbered_pods_come_one_after_another_and_go_from_the_last() {
    run(async {
        let server = physical();
        let mut data = web(3);
        (data["kind"], data["metadata"]["name"]) = (json!("StatefulSet"), json!("data"));
        server.seed(data).unwrap();
        let numbers = |server: &Server| names(&pods(server)).join(" ");
        seconds(2).await;
        assert_eq!(numbers(&server), "data-0");
        seconds(10).await;
        assert_eq!(numbers(&server), "data-0 data-1");
        seconds(20).await;
        let status = |server: &Server| server.get("StatefulSet", "shop", "data").unwrap()["status"].clone();
        assert_eq!((numbers(&server), &status(&server)["readyReplicas"]), ("data-0 data-1 data-2".into(), &json!(3)));
        server
            .edit("StatefulSet", "shop", "data", |data| {
                data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
            })
            .unwrap();
        seconds(5).await;
        assert_eq!(status(&server)["updatedReplicas"], 1, "the last one first");
        seconds(60).await;
        assert_eq!((&status(&server)["updatedReplicas"], &status(&server)["readyReplicas"]), (&json!(3), &json!(3)));
        server.edit("StatefulSet", "shop", "data", |data| data["spec"]["replicas"] = json!(1)).unwrap();
        seconds(3).await;
        assert_eq!(numbers(&server), "data-0 data-1");
        seconds(10).await;
        assert_eq!(numbers(&server), "data-0");
    });
}

#[test]
fn a_cron_job_starts_one_of_the_slots_it_missed_and_keeps_some_of_its_jobs() {
    run(async {
        let server = physical();
        server.seed(cron(&json!({}))).unwrap();
        let jobs = |server: &Server| server.list("Job", "shop").len();
        seconds(299).await;
        assert_eq!(jobs(&server), 0);
        seconds(31).await;
        assert_eq!(jobs(&server), 1);
        let job = server.list("Job", "shop").remove(0);
        assert!(is(&job, "Complete", "True") && job["status"]["succeeded"] == 1);
        let suspend = |suspend: bool| move |cron: &mut Value| cron["spec"]["suspend"] = json!(suspend);
        server.edit("CronJob", "shop", "tick", suspend(true)).unwrap();
        seconds(1500).await;
        assert_eq!(jobs(&server), 1);
        server.edit("CronJob", "shop", "tick", suspend(false)).unwrap();
        seconds(2).await;
        assert_eq!(jobs(&server), 2, "the last of five, at once");
        server.edit("CronJob", "shop", "tick", suspend(true)).unwrap();
        seconds(700).await;
        server
            .edit("CronJob", "shop", "tick", |cron| {
                cron["spec"]["suspend"] = json!(false);
                cron["spec"]["startingDeadlineSeconds"] = json!(20);
            })
            .unwrap();
        seconds(2).await;
        assert_eq!(jobs(&server), 2, "too late for any");
        seconds(2000).await;
        assert_eq!(jobs(&server), 3, "older ones are gone");
    });
}

#[test]
fn a_cron_job_forbids_allows_or_replaces_a_second_run() {
    for (policy, expected) in [("Forbid", 1), ("Allow", 3), ("Replace", 1)] {
        run(async {
            let server = at_pace(Pace { job_runs: Duration::from_mins(12), ..Pace::default() });
            server.seed(cron(&json!({"concurrencyPolicy": policy}))).unwrap();
            seconds(905).await;
            let jobs = server.list("Job", "shop");
            assert_eq!(jobs.len(), expected, "{policy}");
            let active = &server.get("CronJob", "shop", "tick").unwrap()["status"]["active"];
            assert_eq!(active.as_array().unwrap().len(), expected, "{policy}");
        });
    }
}

#[test]
fn a_job_runs_so_many_at_once_and_gives_up_after_so_many_failures() {
    run(async {
        let server = physical();
        let job = |name: &str, spec: Value| {
            let mut all =
                json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "one", "image": "one"}]}}});
            json_patch::merge(&mut all, &spec);
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "shop"}, "spec": all})
        };
        server.seed(job("many", json!({"parallelism": 2, "completions": 5}))).unwrap();
        let status = |name: &str| server.get("Job", "shop", name).unwrap();
        seconds(5).await;
        assert_eq!(status("many")["status"]["active"], 2);
        seconds(100).await;
        assert!(is(&status("many"), "Complete", "True"));
        assert_eq!(server.list("Pod", "shop").len(), 5);
        server.seed(job("bad", json!({"backoffLimit": 1}))).unwrap();
        for _ in 0..2 {
            seconds(3).await;
            for pod in server.list("Pod", "shop").iter().filter(|pod| pod["status"]["phase"] == "Running") {
                server
                    .edit("Pod", "shop", pod["metadata"]["name"].as_str().unwrap(), |pod| {
                        pod["status"]["phase"] = json!("Failed");
                    })
                    .unwrap();
            }
        }
        seconds(3).await;
        assert!(is(&status("bad"), "Failed", "True"), "{}", status("bad"));
        server.seed(job("later", json!({"suspend": true}))).unwrap();
        seconds(30).await;
        assert!(is(&status("later"), "Suspended", "True") && status("later")["status"]["active"] == 0);
        server.edit("Job", "shop", "later", |job| job["spec"]["suspend"] = json!(false)).unwrap();
        seconds(40).await;
        assert!(is(&status("later"), "Complete", "True"));
    });
}

#[test]
fn a_budget_lets_so_many_be_evicted() {
    run(async {
        let server = physical();
        server.seed(web(4)).unwrap();
        let selector = json!({"matchLabels": {"app": "web"}});
        let metadata = json!({"name": "web", "namespace": "shop"});
        server.seed(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": {"minAvailable": "60%", "selector": selector}})).unwrap();
        seconds(20).await;
        let budget = server.get("PodDisruptionBudget", "shop", "web").unwrap()["status"].clone();
        assert_eq!((&budget["desiredHealthy"], &budget["disruptionsAllowed"]), (&json!(3), &json!(1)));
        let all = pods(&server);
        let [first, second, ..] = names(&all)[..] else { panic!("too few") };
        assert_eq!(evict(&server, first).await, 201);
        assert_eq!(evict(&server, second).await, 429);
        seconds(12).await;
        assert_eq!(evict(&server, second).await, 201, "another took its place");
        seconds(12).await;
        server
            .edit("PodDisruptionBudget", "shop", "web", |budget| {
                budget["spec"] = json!({"maxUnavailable": 0, "selector": {"matchLabels": {"app": "web"}}});
            })
            .unwrap();
        seconds(1).await;
        let all = pods(&server);
        assert_eq!(evict(&server, names(&all)[0]).await, 429);
    });
}

#[test]
fn of_a_node_that_is_lost_the_pods_are_replaced_after_five_minutes_and_end_when_it_is_back() {
    run(async {
        let server = physical();
        server.seed(web(4)).unwrap();
        seconds(20).await;
        let says = |status: &'static str| move |node: &mut Value| node["status"]["conditions"][0]["status"] = json!(status);
        server.edit("Node", "", "n1", says("Unknown")).unwrap();
        seconds(10).await;
        assert_eq!(status(&server)["readyReplicas"], 2);
        assert_eq!(server.get("Node", "", "n1").unwrap()["spec"]["taints"][0]["key"], "node.kubernetes.io/unreachable");
        seconds(280).await;
        assert_eq!(status(&server)["readyReplicas"], 2);
        seconds(40).await;
        assert_eq!(
            (status(&server)["readyReplicas"].clone(), server.list("Pod", "shop").len()),
            (json!(4), 6),
            "two that nobody can end"
        );
        assert_eq!(spread(&server), BTreeMap::from([("n2".into(), 4)]));
        server.edit("Node", "", "n1", says("True")).unwrap();
        seconds(5).await;
        assert_eq!(server.list("Pod", "shop").len(), 4);
        assert!(server.get("Node", "", "n1").unwrap()["spec"].get("taints").is_none());
    });
}

#[test]
fn what_a_foreign_hand_set_on_a_node_stays() {
    run(async {
        let server = physical();
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
        let edge = Edge::new(server.clone());
        let prometheus = Prometheus::new(server.clone(), edge.clone());
        edge.requests(200.0);
        edge.delay(Duration::from_secs(30));
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
        seconds(16).await;
        assert_eq!(rate("shop-eu-west"), "75", "half a window of 30 s");
        seconds(16).await;
        assert_eq!((rate("shop-eu"), rate("shop-eu-west")), (json!("200"), json!("0")));
    });
}

#[test]
fn other_queries_are_answered_from_the_table_in_prometheus_words() {
    run(async {
        let server = server();
        let prometheus = Prometheus::new(server.clone(), Edge::new(server));
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
