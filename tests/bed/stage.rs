//! The stage that all tests share: a bed with the shop, and the chart's roles; the operator runs under exactly those.

use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use testbed::{AuditEvent, Bed, Cluster, Load, Options, shop, until};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

pub const NAMESPACE: &str = "firedrill";
/// The bed's regions.
pub const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];
const METRICS: &str = "127.0.0.1:18090";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static STAGE: Mutex<Option<Stage>> = Mutex::const_new(None);

pub struct Stage {
    pub bed: Bed,
    folder: PathBuf,
    kubeconfig: PathBuf,
}

/// One process of the operator; ended with SIGKILL when dropped.
pub struct Operator {
    child: Child,
}

/// Where the audit logs stood.
pub struct Mark(BTreeMap<String, u64>);

/// The route that helm owns.
pub const HELMS: &str = "catalog";

/// Runs a test on the stage, which the first one builds, when it is its turn. A test that fails takes its stage down with it: who
/// comes next gets a new one, and shall not fail for what the other left.
pub fn on_stage(test: impl AsyncFnOnce(&Stage)) {
    run(test, true);
}

/// As [`on_stage`], for a test that leaves behind what nobody else should have to live with.
pub fn on_spent_stage(test: impl AsyncFnOnce(&Stage)) {
    run(test, false);
}

fn run(test: impl AsyncFnOnce(&Stage), others_follow: bool) {
    testbed::become_root().unwrap();
    RUNTIME.block_on(async {
        let mut turn = STAGE.lock().await;
        let stage = match turn.take() {
            Some(stage) => stage,
            None => Stage::build().await,
        };
        stage.calm().await;
        test(&stage).await;
        *turn = Some(stage).filter(|_| others_follow);
    });
}

impl Stage {
    async fn build() -> Self {
        let options = Options {
            operator_metrics: Some(METRICS.to_owned()),
            regions: REGIONS.map(str::to_owned).to_vec(),
            ..Options::default()
        };
        let bed = Bed::up(options).await.unwrap();
        let folder = std::env::temp_dir().join(format!("firedrill-bed-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (hub, region) = (chart(&bed, &["--set", "mode=hub"]), chart(&bed, &["--set", "mode=region"]));
        install(bed.hub(), &hub).await;
        join_all(bed.regions().iter().map(|cluster| install(cluster, &region))).await;
        shop::install(&bed, shop::Size::default()).await.unwrap();
        bed.hub().kubectl(&["delete", "httproute", HELMS, "-n", shop::NAMESPACE], None).await.unwrap();
        for cluster in bed.regions() {
            let kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, "firedrill").await.unwrap();
            let file = folder.join(cluster.name());
            std::fs::write(&file, kubeconfig).unwrap();
            let from = format!("--from-file=kubeconfig={}", file.display());
            bed.hub().kubectl(&["create", "secret", "generic", cluster.name(), "-n", NAMESPACE, &from], None).await.unwrap();
        }
        let kubeconfig = folder.join("hub");
        std::fs::write(&kubeconfig, bed.hub().service_account_kubeconfig(NAMESPACE, "firedrill").await.unwrap()).unwrap();
        let stage = Self { bed, folder, kubeconfig };
        stage.helm(34).await.unwrap();
        stage.apply(&regions()).await;
        stage.apply(&routes()).await;
        stage.apply(&plan("shop", &json!({}))).await;
        stage.apply(&plan("quick", &quick())).await;
        stage
    }

    /// Has helm install or upgrade the release of the route [`HELMS`], with this weight of the first region, without force.
    pub async fn helm(&self, first: u32) -> Result<(), String> {
        let chart = self.folder.join("chart");
        std::fs::create_dir_all(chart.join("templates")).unwrap();
        let manifest = shop::route(HELMS, &[("eu-west", 0), ("us-east", 33), ("ap-south", 33)]);
        let template = manifest.replace("weight: 0", "weight: {{ .Values.first }}");
        std::fs::write(chart.join("Chart.yaml"), "apiVersion: v2\nname: route\nversion: 1.0.0\n").unwrap();
        std::fs::write(chart.join("templates/route.yaml"), template).unwrap();
        let output = tokio::process::Command::new(&self.bed.tools().helm)
            .args(["upgrade", "--install", HELMS, &chart.display().to_string(), "--namespace", shop::NAMESPACE])
            .args(["--kubeconfig", &self.hub().kubeconfig().display().to_string(), "--set", &format!("first={first}")])
            .output()
            .await
            .unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Users: 240 requests a second. Comes back when there was some traffic, so that rates exist and shares can be confirmed.
    pub async fn load(&self) -> Load {
        let load = Load::start(&self.bed.edge().unwrap(), &shop::ROUTES, 240).unwrap();
        more(&load, 1200).await;
        load
    }

    /// A secret of the operator's namespace on the hub with this kubeconfig.
    pub async fn secret(&self, name: &str, kubeconfig: &str) {
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        self.apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": kubeconfig}}),
        )
        .await;
    }

    /// The owner's manifest of a route again, by force, since values are somebody else's: for the tests that follow.
    pub async fn owners_again(&self, route: &str) {
        let manifest = shop::route(route, &[("eu-west", 34), ("us-east", 33), ("ap-south", 33)]);
        let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager", shop::FIELD_MANAGER, "-f", "-"];
        self.hub().kubectl(&arguments, Some(&manifest)).await.unwrap();
    }

    /// Sets what a person wants of a drill.
    pub async fn control(&self, drill: &str, control: &str) {
        let patch = json!({"spec": {"control": control}}).to_string();
        self.hub().kubectl(&["patch", "drill", drill, "--type=merge", "-p", &patch], None).await.unwrap();
    }

    /// From here on.
    pub fn mark(&self) -> Mark {
        let clusters = self.bed.regions().iter().chain([self.hub()]);
        Mark(clusters.map(|cluster| (cluster.name().to_owned(), cluster.audit_since(0).unwrap().1)).collect())
    }

    /// The operator's writes since a mark, in all clusters: of drills' status and of everything that is not its own.
    pub fn writes(&self, mark: &Mark) -> Vec<AuditEvent> {
        let clusters = self.bed.regions().iter().chain([self.hub()]);
        let counts = |event: &AuditEvent| {
            let resource = event.object_ref.as_ref().map(|object| object.resource.as_str()).unwrap_or_default();
            event.wrote()
                && !matches!(
                    resource,
                    "leases" | "events" | "regions" | "evacuationplans" | "trafficroutes" | "singletonworkloads"
                )
        };
        clusters.flat_map(|cluster| since(mark, cluster)).filter(counts).collect()
    }

    /// Every object is as in the snapshot, and nothing of a drill is left.
    pub async fn assert_restored(&self, before: &BTreeMap<String, Value>) {
        self.assert_restored_but(before, |_| false).await;
    }

    /// As [`Stage::assert_restored`], but for what somebody else has changed.
    pub async fn assert_restored_but(&self, before: &BTreeMap<String, Value>, foreign: impl Fn(&str) -> bool) {
        self.assert_nothing_left().await;
        let after = self.snapshot().await;
        for (key, object) in before.iter().filter(|(key, _)| !foreign(key)) {
            assert_eq!(Some(object), after.get(key), "{key}");
        }
    }

    pub fn hub(&self) -> &Cluster {
        self.bed.hub()
    }

    pub async fn apply(&self, manifest: &Value) {
        self.hub().kubectl(&["apply", "-f", "-"], Some(&manifest.to_string())).await.unwrap();
    }

    pub fn operator(&self, identity: &str) -> Operator {
        self.operator_with(identity, &[])
    }

    pub fn operator_with(&self, identity: &str, arguments: &[&str]) -> Operator {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join(format!("{identity}.log"))).unwrap();
        // It must not outlive a test that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_firedrill")])
            .args(["controller", "--namespace", NAMESPACE, "--identity", identity, "--log-format", "text"])
            .args(["--listen", if identity == "second" { "127.0.0.1:18091" } else { METRICS }])
            .args(["--prometheus", self.bed.prometheus().unwrap()])
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Operator { child }
    }

    /// What `firedrill report` says of a drill.
    pub fn report(&self, drill: &str, output: &str) -> String {
        let made = Command::new(env!("CARGO_BIN_EXE_firedrill"))
            .args(["report", drill, "--namespace", NAMESPACE, "--output", output, "--kubeconfig"])
            .arg(self.hub().kubeconfig())
            .output()
            .unwrap();
        assert!(made.status.success() && made.stderr.is_empty(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap()
    }

    /// The kubeconfig of the operator's account in a region.
    pub fn file(&self, region: &str) -> PathBuf {
        self.folder.join(region)
    }

    /// The kubeconfig of the operator's account on the hub.
    pub fn hub_file(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// The last lines of an operator's log, for a failed test.
    pub fn log(&self, identity: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join(format!("{identity}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Puts every workload back to its size. Without metrics an autoscaler never lowers one, so that every drill would start from
    /// more than the one before.
    pub async fn calm(&self) {
        let calls = self.bed.regions().iter().flat_map(|cluster| (0..shop::AUTOSCALED).map(move |number| (cluster, number)));
        join_all(calls.map(async |(cluster, number)| {
            let name = format!("deployment/{}", shop::DEPLOYMENTS[number]);
            let size = format!("--replicas={}", shop::replicas(number));
            cluster.kubectl(&["scale", &name, "-n", shop::NAMESPACE, &size], None).await.unwrap();
        }))
        .await;
    }

    /// Starts a drill now.
    pub async fn drill(&self, name: &str, plan: &str, region: &str) {
        let at = self.hub().kubectl(&["get", "--raw=/version"], None).await.map(|_| now()).unwrap();
        let spec = json!({"plan": plan, "region": region, "mode": "Exercise", "start": {"at": at}});
        self.apply(&json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": name}, "spec": spec}))
            .await;
    }

    pub async fn get(&self, cluster: &Cluster, kind: &str, name: &str) -> Value {
        let namespace = if matches!(kind, "drill" | "node" | "region") { "default" } else { shop::NAMESPACE };
        let text =
            cluster.kubectl(&["get", kind, name, "-n", namespace, "-o", "json", "--show-managed-fields"], None).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub async fn status(&self, drill: &str) -> Value {
        self.get(self.hub(), "drill", drill).await["status"].clone()
    }

    pub async fn until(&self, drill: &str, bound: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        let wanted = &wanted;
        let what = format!("drill {drill}");
        let seen = until(&what, Duration::from_secs(bound), || async move {
            // Every look is a process, and there are two cores for all of the bed.
            tokio::time::sleep(Duration::from_millis(250)).await;
            let status = self.status(drill).await;
            let over = status["phase"] == "Done";
            if wanted(&status) {
                Ok(Ok(status))
            } else if over {
                Ok(Err(format!("it is over: {status:#}")))
            } else {
                Err(format!("{status:#}"))
            }
        })
        .await
        .map_err(|error| error.to_string())
        .and_then(|seen| seen);
        seen.unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.log("first"), self.log("second")))
    }

    /// Waits until the region is evacuated and users are healthy without it.
    pub async fn healthy(&self, drill: &str) -> Value {
        self.until(drill, 300, |status| status["phase"] == "Evacuated" && status["times"]["healthy"].is_string()).await
    }

    /// The status of a singleton.
    pub async fn singleton(&self, name: &str) -> Value {
        self.get(self.hub(), "singletonworkload", name).await["status"].clone()
    }

    /// Waits until a singleton is as wanted.
    pub async fn until_singleton(&self, name: &str, bound: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        let wanted = &wanted;
        let what = format!("singleton {name}");
        let seen = until(&what, Duration::from_secs(bound), || async move {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let status = self.singleton(name).await;
            if wanted(&status) { Ok(status) } else { Err(format!("{status:#}")) }
        });
        seen.await.unwrap_or_else(|error| panic!("{error}\n{}", self.log("first")))
    }

    pub async fn done(&self, drill: &str, bound: u64) -> Value {
        self.until(drill, bound, |status| status["phase"] == "Done").await
    }

    /// Every object that a drill may touch, without what servers change by themselves.
    pub async fn snapshot(&self) -> BTreeMap<String, Value> {
        const KINDS: &str = "deployments,replicasets,horizontalpodautoscalers,poddisruptionbudgets";
        let of_regions =
            self.bed.regions().iter().flat_map(|cluster| [(cluster, KINDS, shop::NAMESPACE), (cluster, "nodes", "default")]);
        let reads = of_regions.chain([(self.hub(), "httproutes", shop::NAMESPACE)]).map(async |(cluster, kinds, namespace)| {
            let arguments = ["get", kinds, "-n", namespace, "-o", "json", "--show-managed-fields"];
            let list: Value = serde_json::from_str(&cluster.kubectl(&arguments, None).await.unwrap()).unwrap();
            let items = list["items"].as_array().unwrap().clone();
            let scaled: Vec<&str> = items
                .iter()
                .filter(|object| object["kind"] == "HorizontalPodAutoscaler")
                .filter_map(|object| object["spec"]["scaleTargetRef"]["name"].as_str())
                .collect();
            let named = items.iter().map(|object| {
                let name = object["metadata"]["name"].as_str().unwrap();
                let owner = object["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or(name);
                let live = matches!(object["kind"].as_str(), Some("Deployment" | "ReplicaSet")) && scaled.contains(&owner);
                (format!("{} {} {name}", cluster.name(), object["kind"].as_str().unwrap()), bare(object, live))
            });
            named.collect::<Vec<_>>()
        });
        join_all(reads).await.into_iter().flatten().collect()
    }

    /// No claim, label or contract's copy is left anywhere.
    pub async fn assert_nothing_left(&self) {
        join_all(self.bed.regions().iter().map(async |cluster| {
            let kinds = "deployments,replicasets,horizontalpodautoscalers,nodes";
            let text = cluster.kubectl(&["get", kinds, "-A", "-o", "json"], None).await.unwrap();
            assert!(!text.contains("firedrill.dev/claim"), "{}: a claim is left", cluster.name());
            let copies = ["get", "configmaps", "-n", NAMESPACE, "-l", "firedrill.dev/claimed", "-o", "name"];
            assert_eq!(cluster.kubectl(&copies, None).await.unwrap().trim(), "", "{}: a contract's copy is left", cluster.name());
        }))
        .await;
        let routes = self.hub().kubectl(&["get", "httproutes", "-A", "-o", "json"], None).await.unwrap();
        assert!(!routes.contains("firedrill.dev/claim"), "the hub: a claim is left");
    }
}

/// An object without what a server changes by itself, and without the live size of what an autoscaler owns.
fn bare(object: &Value, live: bool) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("resourceVersion");
    metadata.remove("generation");
    if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
        // Who wrote a status, and when what was written, is not ownership of the spec.
        entries.retain(|entry| entry["subresource"] != "status" && entry["subresource"] != "scale");
        // The deployment controller and the autoscaler come and go with what they do; the owner's entries are what must come back.
        entries.retain(|entry| entry["manager"] != "kube-controller-manager");
        for entry in entries.iter_mut() {
            entry.as_object_mut().unwrap().remove("time");
            // An autoscaler that scales takes the live size from its owner.
            if let (true, Some(spec)) = (live, entry.pointer_mut("/fieldsV1/f:spec").and_then(Value::as_object_mut)) {
                spec.remove("f:replicas");
            }
        }
        entries.sort_by_key(ToString::to_string);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !(live && key.starts_with("deployment.kubernetes.io/")));
        // The controller keeps the sizes of a Deployment on its ReplicaSets.
        annotations.retain(|key, _| !key.ends_with("-replicas"));
    }
    if live {
        object["spec"].as_object_mut().unwrap().remove("replicas");
    }
    object
}

impl Operator {
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The ports on this machine of its connections to an address.
    pub fn ports(&self, address: &str) -> Vec<String> {
        let output = Command::new("ss").args(["-Htnp", "dst", address]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let pid = format!("pid={},", self.child.id());
        let local = |line: &str| line.split_whitespace().nth(3)?.rsplit(':').next().map(str::to_owned);
        text.lines().filter(|line| line.contains(&pid)).filter_map(local).collect()
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn peak_memory(&self) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        text.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.end();
    }
}

fn now() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What the chart renders, less its Deployment: the tests start the operator themselves, under the chart's roles.
fn chart(bed: &Bed, arguments: &[&str]) -> String {
    let output = Command::new(&bed.tools().helm)
        .args(["template", "firedrill", concat!(env!("CARGO_MANIFEST_DIR"), "/charts/firedrill"), "--namespace", NAMESPACE])
        .args(["--set", "fullnameOverride=firedrill"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let keep =
        |document: &&str| !document.contains("\nkind: Deployment\n") && !document.contains("\nkind: PodDisruptionBudget\n");
    text.split("\n---").filter(keep).collect::<Vec<_>>().join("\n---")
}

async fn install(cluster: &Cluster, manifest: &str) {
    cluster.kubectl(&["create", "namespace", NAMESPACE], None).await.unwrap();
    cluster.kubectl(&["apply", "--server-side", "-f", "-"], Some(manifest)).await.unwrap();
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn regions() -> Value {
    let region = |name: &&str| {
        let cluster = json!({"kubeconfigSecret": {"name": name}});
        json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Region", "metadata": {"name": name}, "spec": {"cluster": cluster}})
    };
    list(&REGIONS.iter().map(region).collect::<Vec<_>>())
}

fn routes() -> Value {
    let route = |name: &&str| {
        let backends: Vec<Value> =
            REGIONS.iter().map(|region| json!({"region": region, "name": format!("{name}-{region}")})).collect();
        let query = r#"sum(rate(traefik_service_requests_total{service=~".*-svc-shop-${backend}-.*"}[3s])) or vector(0)"#;
        json!({
            "apiVersion": "firedrill.dev/v1alpha1", "kind": "TrafficRoute", "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "httpRoute": {"name": name}, "backends": backends,
                "confirm": {"query": query, "window": "3s", "splitTolerancePercent": 10},
            },
        })
    };
    list(&shop::ROUTES.iter().map(route).collect::<Vec<_>>())
}

/// The operator's requests in a cluster since a mark, by the API server's audit log.
pub fn since(mark: &Mark, cluster: &Cluster) -> Vec<AuditEvent> {
    everybody_since(mark, cluster).into_iter().filter(|event| event.user.username.ends_with(":firedrill")).collect()
}

/// As [`since`], of everybody.
pub fn everybody_since(mark: &Mark, cluster: &Cluster) -> Vec<AuditEvent> {
    cluster.audit_since(mark.0[cluster.name()]).unwrap().0
}

/// Waits for so many more requests.
pub async fn more(load: &Load, count: u64) {
    let seen = load.snapshot().requests;
    until(&format!("{count} more requests"), Duration::from_secs(120), || async {
        let now = load.snapshot().requests;
        if now > seen + count { Ok(()) } else { Err(format!("{} of them", now - seen)) }
    })
    .await
    .unwrap();
}

/// The condition of a status.
pub fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {status:#}"))
}

/// How much of the region's share has been moved, in percent.
pub fn moved(status: &Value) -> u64 {
    let steps = status["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().filter_map(|step| step["level"]["movedPercent"].as_u64()).max().unwrap_or(0)
}

/// A plan over the whole shop, with holds at zero and short windows, so that what is measured is firedrill and not waiting.
pub fn plan(name: &str, with: &Value) -> Value {
    let errors = r#"(sum(rate(traefik_service_requests_total{code=~"5.."}[3s])) or vector(0)) / sum(rate(traefik_service_requests_total[3s]))"#;
    let pace = json!({"firstPercent": 20, "growthPercent": 400, "maxStepPercent": 80, "hold": "0s"});
    let mut spec = json!({
        "regions": REGIONS, "namespaces": ["shop"], "cordon": "Nodes", "soak": "10s", "deadline": "10m",
        "objectives": {"timeToHealthy": "5m", "stableFor": "3s"},
        "pace": {"evacuate": pace, "failback": pace},
        "gates": [{"name": "errors", "role": "UserHealth", "max": "0.01", "query": errors, "interval": "1s"}],
    });
    for (field, value) in with.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "EvacuationPlan", "metadata": {"name": name}, "spec": spec})
}

/// One level each way and hardly a soak: for tests of which one drill alone shows little.
fn quick() -> Value {
    let pace = json!({"firstPercent": 100, "maxStepPercent": 100, "hold": "0s"});
    json!({"soak": "1s", "objectives": {"timeToHealthy": "5m", "stableFor": "1s"}, "pace": {"evacuate": pace, "failback": pace}})
}
