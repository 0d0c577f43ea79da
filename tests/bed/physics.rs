//! What the simulated controllers bring about, the real ones do: the same scripts are played on both, and what has come of each step is compared.

use crate::conformance::player::ask;
use crate::stage::on_stage;
use chrono::{DateTime, Timelike, Utc};
use firedrill::cluster::Internet;
use firedrill::seam::{Clock, Network};
use firedrill::sim::{Fates, Link, Pace, Physics, Server, physics};
use futures::future::join_all;
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const NODES: [&str; 2] = ["physics-a", "physics-b"];
const WEB: &str = "apis/apps/v1/deployments/web";

/// What has come of each step, by its name.
type Outcomes = Vec<(String, Value)>;

/// One script in its own namespace, on one of the two.
struct Play {
    client: Client,
    /// Simulated time, else the real one.
    clock: Option<Clock>,
    namespace: &'static str,
    /// What the simulation had for each step: what is real may take as long as that, and is then compared.
    expected: Option<Outcomes>,
    outcomes: Outcomes,
}

impl Play {
    /// `apis/apps/v1/deployments/web` in this namespace; nodes have none.
    fn line(&self, place: &str) -> String {
        let parts: Vec<&str> = place.split('/').collect();
        let (head, tail) = parts.split_at(if parts[0] == "api" { 2 } else { 3 });
        if tail[0] == "nodes" {
            return format!("/{place}");
        }
        format!("/{}/namespaces/{}/{}", head.join("/"), self.namespace, tail.join("/"))
    }

    async fn call(&self, method: &str, place: &str, body: &Value) -> (u16, Value) {
        let content = if method == "PATCH" { "application/merge-patch+json" } else { "" };
        ask(&self.client, method, &self.line(place), content, body).await
    }

    async fn get(&self, place: &str) -> Value {
        self.call("GET", place, &Value::Null).await.1
    }

    async fn create(&self, collection: &str, name: &str, mut object: Value) {
        object["metadata"] = json!({"name": name});
        let (code, answer) = self.call("POST", collection, &object).await;
        assert_eq!(code, 201, "{collection} {name}: {answer}");
    }

    async fn patch(&self, place: &str, patch: Value) {
        // A controller may be faster.
        let (code, answer) = self.call("PATCH", place, &patch).await;
        assert_eq!(code, 200, "{place}: {answer}");
    }

    async fn list(&self, collection: &str) -> Vec<Value> {
        self.get(collection).await["items"].as_array().cloned().unwrap_or_default()
    }

    fn now(&self) -> DateTime<Utc> {
        #[allow(clippy::disallowed_methods, reason = "the real one has the real time")]
        self.clock.as_ref().map_or_else(Utc::now, Clock::now)
    }

    /// Waits for this second of a minute, so many minutes on.
    async fn second(&self, second: u32, minutes: u32) {
        let now = self.now().second() * 1000 + self.now().timestamp_subsec_millis();
        // The next one, if this is it.
        let wait = (second * 1000 + 59_999 - now) % 60_000 + 1 + minutes * 60_000;
        tokio::time::sleep(Duration::from_millis(wait.into())).await;
    }

    /// What has come of a step within so many seconds, at the latest.
    async fn settle(&mut self, step: &str, seconds: u64, look: impl AsyncFn(&Self) -> Value) {
        let outcome = match &self.expected {
            None => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                look(self).await
            }
            Some(expected) => {
                let wanted = &expected[self.outcomes.len()];
                assert_eq!(wanted.0, step);
                let end = std::time::Instant::now() + Duration::from_secs(seconds);
                loop {
                    let seen = look(self).await;
                    if seen == wanted.1 {
                        // It stays so.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        break look(self).await;
                    }
                    if std::time::Instant::now() > end {
                        break seen;
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        };
        self.outcomes.push((step.to_owned(), outcome));
    }

    /// Conditions by their types.
    async fn told(&self, place: &str, fields: &[&str], conditions: &[&str]) -> Value {
        let object = self.get(place).await;
        let mut told: BTreeMap<String, Value> = BTreeMap::new();
        for field in fields {
            // An absent count is zero.
            let value = object["status"][*field].clone();
            told.insert((*field).to_owned(), if value.is_null() { json!(0) } else { value });
        }
        for wanted in conditions {
            let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = all.iter().find(|one| one["type"] == *wanted);
            told.insert((*wanted).to_owned(), found.map_or(Value::Null, |one| one["status"].clone()));
        }
        let current = object["status"]["observedGeneration"].is_null()
            || object["status"]["observedGeneration"] == object["metadata"]["generation"];
        json!({"told": told, "current": current, "replicas": object["spec"]["replicas"]})
    }

    async fn deployment(&self) -> Value {
        let counts = ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "unavailableReplicas"];
        let told = self.told(WEB, &counts, &["Available"]).await;
        let mut sizes: Vec<u64> =
            self.list("apis/apps/v1/replicasets").await.iter().map(|set| set["spec"]["replicas"].as_u64().unwrap()).collect();
        sizes.sort_unstable();
        json!({"told": told, "sizes": sizes, "pods": self.list("api/v1/pods").await.len()})
    }

    /// How many pods run on each node, and how many have none.
    async fn spread(&self) -> Value {
        let mut spread: BTreeMap<String, usize> = BTreeMap::new();
        for pod in self.list("api/v1/pods").await {
            *spread.entry(pod["spec"]["nodeName"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
        }
        json!(spread)
    }
}

/// As the operator makes one: kube's own repeats what is answered with 429, and that is an answer here.
async fn client(kubeconfig: &std::path::Path) -> Client {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await.unwrap();
    Internet::new().unwrap().client(config).unwrap()
}

fn web(replicas: u64, template: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "web", "image": "web:1"}]});
    json_patch::merge(&mut spec, template);
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
    json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template})
}

fn deployment(replicas: u64, template: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": web(replicas, template)})
}

fn image(name: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": name}]}}}})
}

async fn rollouts(play: &mut Play) {
    play.create("apis/apps/v1/deployments", "web", deployment(3, &json!({}))).await;
    play.settle("scaled from nothing", 60, Play::deployment).await;
    play.patch(WEB, json!({"spec": {"replicas": 7}})).await;
    play.settle("scaled out", 60, Play::deployment).await;
    play.patch(WEB, image("web:2")).await;
    play.settle("a new template", 60, Play::deployment).await;
    play.patch(WEB, image("web:1")).await;
    play.settle("rolled back", 60, Play::deployment).await;
    play.patch(WEB, json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})).await;
    play.patch(WEB, image("web:3")).await;
    play.settle("recreated", 60, Play::deployment).await;
    play.patch(WEB, json!({"spec": {"replicas": 0}})).await;
    play.settle("scaled to nothing", 60, Play::deployment).await;
}

async fn autoscaling(play: &mut Play) {
    let size = async |play: &Play| {
        let scaler = play.get("apis/autoscaling/v2/horizontalpodautoscalers/web").await;
        let active = scaler["status"]["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["type"] == "ScalingActive").cloned());
        // Without metrics the real one is not active either way, and says so; by hand at zero it says that.
        let disabled = active.is_some_and(|one| one["reason"] == "ScalingDisabled");
        json!({"replicas": play.get(WEB).await["spec"]["replicas"], "disabled": disabled})
    };
    play.create("apis/apps/v1/deployments", "web", deployment(2, &json!({}))).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"scaleTargetRef": target, "minReplicas": 4, "maxReplicas": 6});
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec});
    play.create("apis/autoscaling/v2/horizontalpodautoscalers", "web", scaler).await;
    play.settle("its minimum", 60, size).await;
    play.patch(WEB, json!({"spec": {"replicas": 9}})).await;
    play.settle("its maximum", 60, size).await;
    play.patch("apis/autoscaling/v2/horizontalpodautoscalers/web", json!({"spec": {"minReplicas": 5}})).await;
    play.patch(WEB, json!({"spec": {"replicas": 1}})).await;
    play.settle("a raised minimum", 60, size).await;
    play.patch(WEB, json!({"spec": {"replicas": 0}})).await;
    play.settle("zero by hand", 45, size).await;
}

async fn numbered(play: &mut Play) {
    let place = "apis/apps/v1/statefulsets/data";
    let look = async |play: &Play| {
        let pods = play.list("api/v1/pods").await;
        let mut names: Vec<_> = pods.iter().map(|pod| pod["metadata"]["name"].clone()).collect();
        names.sort_by_key(ToString::to_string);
        json!([
            names,
            play.told(place, &["replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "currentReplicas"], &[])
                .await
        ])
    };
    let mut spec = web(3, &json!({}));
    spec["serviceName"] = json!("data");
    play.create("apis/apps/v1/statefulsets", "data", json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": spec})).await;
    play.settle("in order", 60, look).await;
    play.patch(place, image("web:2")).await;
    play.settle("a new template", 90, look).await;
    play.patch(place, json!({"spec": {"replicas": 1}})).await;
    play.settle("fewer", 60, look).await;
}

async fn jobs(play: &mut Play) {
    let look = |place: &'static str| {
        async move |play: &Play| play.told(place, &["succeeded", "failed", "active"], &["Complete", "Suspended"]).await
    };
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "one", "image": "one"}]}});
    let job = |spec: Value| {
        let mut spec = spec;
        spec["template"] = template.clone();
        json!({"apiVersion": "batch/v1", "kind": "Job", "spec": spec})
    };
    play.create("apis/batch/v1/jobs", "many", job(json!({"parallelism": 2, "completions": 5}))).await;
    play.settle("five, two at once", 120, look("apis/batch/v1/jobs/many")).await;
    play.create("apis/batch/v1/jobs", "later", job(json!({"suspend": true}))).await;
    play.settle("suspended", 30, look("apis/batch/v1/jobs/later")).await;
    play.patch("apis/batch/v1/jobs/later", json!({"spec": {"suspend": false}})).await;
    play.settle("resumed", 60, look("apis/batch/v1/jobs/later")).await;
}

async fn crons(play: &mut Play) {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "one", "image": "one"}]}});
    let look = async |play: &Play| {
        let jobs = play.list("apis/batch/v1/jobs").await;
        let of = |cron: &str| jobs.iter().filter(|job| job["metadata"]["ownerReferences"][0]["name"] == cron).count();
        json!({"patient": of("patient"), "strict": of("strict")})
    };
    let suspend = async |play: &Play, suspend: bool| {
        for cron in ["patient", "strict"] {
            play.patch(&format!("apis/batch/v1/cronjobs/{cron}"), json!({"spec": {"suspend": suspend}})).await;
        }
    };
    play.second(50, 0).await;
    for (cron, deadline) in [("patient", Value::Null), ("strict", json!(10))] {
        let spec = json!({"schedule": "* * * * *", "startingDeadlineSeconds": deadline, "jobTemplate": {"spec": {"template": template}}});
        play.create("apis/batch/v1/cronjobs", cron, json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": spec})).await;
    }
    play.second(5, 0).await;
    play.settle("the first slot", 10, look).await;
    suspend(play, true).await;
    play.second(20, 2).await;
    play.settle("nothing while suspended", 5, look).await;
    suspend(play, false).await;
    play.settle("of two missed slots one, and none after its deadline", 15, look).await;
}

async fn evictions(play: &mut Play) {
    let budget = "apis/policy/v1/poddisruptionbudgets";
    let look = async |play: &Play| {
        let counts = ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"];
        json!([
            play.told("apis/policy/v1/poddisruptionbudgets/web", &counts, &["DisruptionAllowed"]).await,
            play.deployment().await
        ])
    };
    let of = |spec: Value| json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": spec});
    let selector = json!({"matchLabels": {"app": "web"}});
    play.create("apis/apps/v1/deployments", "web", deployment(4, &json!({}))).await;
    play.create(budget, "web", of(json!({"minAvailable": "60%", "selector": selector}))).await;
    play.settle("one may go", 60, look).await;
    // Two at the same moment: what takes the place of the first is not Ready yet.
    let refused = async |play: &Play| {
        let pods = play.list("api/v1/pods").await;
        let mut answers = Vec::new();
        for pod in pods.iter().take(4) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let metadata = json!({"name": name, "namespace": play.namespace});
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
            let (code, answer) = play.call("POST", &format!("api/v1/pods/{name}/eviction"), &eviction).await;
            answers.push(json!([code, answer["reason"], answer["message"], answer["details"]]));
        }
        json!(answers)
    };
    play.patch("apis/policy/v1/poddisruptionbudgets/web", json!({"spec": {"minAvailable": 4}})).await;
    play.settle("none may go", 30, look).await;
    play.settle("all are refused", 0, refused).await;
    play.patch("apis/policy/v1/poddisruptionbudgets/web", json!({"spec": {"minAvailable": null, "maxUnavailable": "50%"}})).await;
    play.settle("two may go", 30, look).await;
    play.create(budget, "other", of(json!({"maxUnavailable": 1, "selector": selector}))).await;
    play.settle("two budgets for one pod", 10, async |play: &Play| {
        let other = play.told("apis/policy/v1/poddisruptionbudgets/other", &["disruptionsAllowed"], &[]).await;
        json!([other, if other["told"]["disruptionsAllowed"] == 1 { refused(play).await } else { Value::Null }])
    })
    .await;
    let (code, _) = play.call("DELETE", "apis/policy/v1/poddisruptionbudgets/other", &Value::Null).await;
    assert_eq!(code, 200);
    let before = play.list("api/v1/pods").await;
    let name = before[0]["metadata"]["name"].as_str().unwrap();
    let metadata = json!({"name": name, "namespace": play.namespace});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
    let (code, _) = play.call("POST", &format!("api/v1/pods/{name}/eviction"), &eviction).await;
    play.settle("one went, and another came", 60, async |play: &Play| {
        let is_there = play.list("api/v1/pods").await.iter().any(|pod| pod["metadata"]["name"] == name);
        json!([code, is_there, look(play).await])
    })
    .await;
}

/// Two nodes of sixteen cores; a pod takes six.
async fn taints(play: &mut Play) {
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "away", "effect": effect}]}});
    let clean = json!({"spec": {"taints": null}});
    play.patch("api/v1/nodes/physics-a", taint("NoSchedule")).await;
    let requests = json!({"cpu": "6", "memory": "1Gi"});
    let container = json!([{"name": "web", "image": "web:1", "resources": {"requests": requests}}]);
    let template = json!({"nodeSelector": {"physics": "yes"}, "containers": container});
    play.create("apis/apps/v1/deployments", "web", deployment(3, &template)).await;
    play.settle("no room on the one that takes any", 45, Play::spread).await;
    play.patch("api/v1/nodes/physics-a", clean.clone()).await;
    play.settle("the taint is gone", 60, Play::spread).await;
    play.patch("api/v1/nodes/physics-b", taint("NoExecute")).await;
    play.settle("what is not tolerated goes", 60, Play::spread).await;
    play.patch("api/v1/nodes/physics-b", clean.clone()).await;
    let tolerations = json!([{"key": "away", "operator": "Exists"}]);
    play.patch(WEB, json!({"spec": {"template": {"spec": {"tolerations": tolerations}}, "strategy": {"type": "Recreate", "rollingUpdate": null}}})).await;
    play.settle("tolerated", 90, async |play: &Play| {
        let ready = play.told(WEB, &["readyReplicas", "updatedReplicas"], &[]).await;
        json!([ready, play.list("api/v1/pods").await.len()])
    })
    .await;
    play.patch("api/v1/nodes/physics-a", taint("NoExecute")).await;
    play.patch("api/v1/nodes/physics-b", taint("NoExecute")).await;
    play.settle("what is tolerated stays", 20, async |play: &Play| json!(play.list("api/v1/pods").await.len())).await;
    play.patch("api/v1/nodes/physics-a", clean.clone()).await;
    play.patch("api/v1/nodes/physics-b", clean).await;
}

const SCRIPTS: [&str; 7] = ["rollouts", "autoscaling", "numbered", "jobs", "crons", "evictions", "taints"];

/// Plays one script to its end.
async fn through(script: &'static str, client: Client, clock: Option<Clock>, expected: Option<Outcomes>) -> Outcomes {
    let mut play = Play { client, clock, namespace: script, expected, outcomes: Vec::new() };
    match script {
        "rollouts" => rollouts(&mut play).await,
        "autoscaling" => autoscaling(&mut play).await,
        "numbered" => numbered(&mut play).await,
        "jobs" => jobs(&mut play).await,
        "crons" => crons(&mut play).await,
        "evictions" => evictions(&mut play).await,
        "taints" => taints(&mut play).await,
        other => panic!("no script {other}"),
    }
    play.outcomes
}

/// Every script on a simulated cluster of its own.
fn simulated() -> Vec<Outcomes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let one = |script: &'static str| async move {
        let clock = Clock::starting("2026-11-23T08:00:00Z".parse().unwrap());
        let server = Server::new("region", 5_000_000, clock.clone(), fastrand::Rng::with_seed(7));
        server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": script}})).unwrap();
        let allocatable = json!({"cpu": "16", "memory": "64Gi", "pods": "110"});
        for name in NODES {
            server.seed(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"physics": "yes"}}, "status": {"allocatable": allocatable}})).unwrap();
        }
        // Pods of the bed are Ready, and Jobs end, as soon as they start.
        let pace = Pace {
            ready_after: Duration::from_millis(500),
            job_runs: Duration::from_secs(1),
            ends_after: Duration::from_millis(500),
            ..Pace::default()
        };
        tokio::spawn(physics::run(server.clone(), Physics::new(pace), || None));
        let link = Link::new(server, "a", Fates::calm(), fastrand::Rng::with_seed(1));
        through(script, link.client(), Some(clock), None).await
    };
    SCRIPTS.map(|script| runtime.block_on(one(script))).to_vec()
}

#[test]
fn the_simulated_controllers_bring_about_what_the_real_ones_do() {
    on_stage(async |stage| {
        // What is tainted is nobody else's: nodes and pods of another region.
        let (region, other) = (stage.bed.region("us-east").unwrap(), stage.bed.region("ap-south").unwrap());
        let (tainted, real) = (client(&region.kubeconfig()).await, client(&other.kubeconfig()).await);
        let expected = tokio::task::spawn_blocking(simulated).await.unwrap();
        for name in NODES {
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"physics": "yes"}}});
            region.kubectl(&["create", "--filename", "-"], Some(&node.to_string())).await.unwrap();
        }
        let place = |script: &str| if script == "taints" { region } else { other };
        for script in SCRIPTS {
            place(script).kubectl(&["create", "namespace", script], None).await.unwrap();
        }
        let plays = SCRIPTS.iter().zip(&expected).map(|(script, expected)| {
            let client = if *script == "taints" { tainted.clone() } else { real.clone() };
            through(script, client, None, Some(expected.clone()))
        });
        let seen = join_all(plays).await;
        for name in NODES {
            region.kubectl(&["delete", "node", name], None).await.unwrap();
        }
        for script in SCRIPTS {
            place(script).kubectl(&["delete", "namespace", script, "--wait=false"], None).await.unwrap();
        }
        let mut differences = Vec::new();
        let mut steps = 0;
        for (script, (expected, seen)) in SCRIPTS.iter().zip(expected.iter().zip(&seen)) {
            for ((step, ours), (_, real)) in expected.iter().zip(seen) {
                steps += 1;
                if ours != real {
                    differences.push(format!("{script}, {step}:\n  real:      {real}\n  simulated: {ours}"));
                }
            }
        }
        eprintln!("{steps} steps of {} scripts compared", SCRIPTS.len());
        assert!(differences.is_empty(), "{} of {steps} steps differ:\n{}", differences.len(), differences.join("\n"));
    });
}
