use super::layout::Layout;
use crate::cluster::{Api, Counters};
use crate::operator::restore::Restore;
use crate::operator::{Operator, Rehearser, Settings};
use crate::seam::{Clock, Network, Seam};
use crate::sim::physics::{self, Pace};
use crate::sim::{Edge, Fates, Kind, Link, Physics, Prometheus, Server};
use crate::terms::{Json, Timestamp};
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The regions of an embedded fleet.
pub const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];
/// The operator's namespace.
pub const NAMESPACE: &str = "firedrill";
/// The base URL of the embedded Prometheus.
const PROMETHEUS: &str = "http://prometheus.embedded:9090";

/// A fleet in memory: a hub and regions, a shop with users, and a Prometheus that sees them.
pub struct Embedded {
    /// The time.
    pub clock: Clock,
    /// The hub and the regions, by name; the hub is `hub`.
    pub servers: BTreeMap<String, Server>,
    /// The users.
    pub edge: Edge,
    /// What sees them.
    pub prometheus: Arc<Prometheus>,
    /// Who rehearses for its operators.
    pub rehearser: Option<Arc<dyn Rehearser>>,
    seed: u64,
    physics: Vec<JoinHandle<()>>,
}

/// One instance of the operator on an embedded fleet.
pub struct Instance {
    /// The operator.
    pub operator: Arc<Operator>,
    /// Its network to each server, by name.
    pub links: BTreeMap<String, Link>,
    stop: watch::Sender<bool>,
    run: JoinHandle<()>,
}

struct Embedding {
    links: BTreeMap<String, Link>,
    prometheus: Arc<Prometheus>,
}

impl Network for Embedding {
    fn client(&self, config: kube::Config) -> Result<kube::Client, String> {
        let host = config.cluster_url.host().unwrap_or_default();
        let name = host.strip_suffix(".embedded").unwrap_or(host);
        self.links.get(name).map(Link::client).ok_or_else(|| format!("no server {host}"))
    }

    fn get(&self, url: String, limit: usize) -> BoxFuture<'static, Result<(u16, Vec<u8>), String>> {
        let answer = url.strip_prefix(PROMETHEUS).map(|path| self.prometheus.answer(path));
        Box::pin(async move {
            let (status, body) = answer.ok_or_else(|| format!("no server at {url}"))?;
            if body.len() > limit {
                return Err("length limit exceeded".to_owned());
            }
            Ok((status.as_u16(), body.to_vec()))
        })
    }
}

impl Embedded {
    /// A fleet whose shop runs; everything in it follows from `seed`.
    ///
    /// # Errors
    /// What the API server in memory refused, for people.
    pub fn new(seed: u64, base: Timestamp) -> Result<Self, String> {
        Self::with(seed, base, &Layout::shop())
    }

    /// A fleet of this layout, whose workloads run; everything in it follows from `seed`.
    ///
    /// # Errors
    /// What the API server in memory refused, for people.
    pub fn with(seed: u64, base: Timestamp, layout: &Layout) -> Result<Self, String> {
        let clock = Clock::starting(base);
        let mut servers = BTreeMap::new();
        for (index, name) in ["hub"].into_iter().chain(layout.regions.iter().map(String::as_str)).enumerate() {
            let index = index as u64;
            let random = fastrand::Rng::with_seed(seed.wrapping_mul(31).wrapping_add(index));
            let server = Server::new(name, 1_000_003 * (index + 1), clock.clone(), random);
            for (kind, namespaced) in [
                ("Region", false),
                ("EvacuationPlan", false),
                ("Drill", false),
                ("TrafficRoute", true),
                ("SingletonWorkload", true),
            ]
            .into_iter()
            .filter(|_| index == 0)
            {
                let plural = format!("{}s", kind.to_lowercase());
                let make = if namespaced { Kind::namespaced } else { Kind::cluster };
                server.register(make("firedrill.dev/v1alpha1", kind, &plural).with_status());
            }
            servers.insert(name.to_owned(), server);
        }
        let hub = servers.get("hub").cloned().ok_or("no hub")?;
        let edge = Edge::new(hub.clone());
        servers.values().filter(|server| server.name() != "hub").for_each(|server| edge.limit(server, f64::INFINITY));
        let prometheus = Arc::new(Prometheus::new(hub, edge.clone()));
        let fleet = Self { clock, servers, edge, prometheus, rehearser: None, seed, physics: Vec::new() };
        for name in fleet.servers.keys() {
            for namespace in layout.namespaces.iter().map(String::as_str).chain([NAMESPACE]) {
                fleet.add(name, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))?;
            }
        }
        for region in &layout.regions {
            fleet.reach(region)?;
            if !layout.bare {
                fleet.furnish(region, &layout.namespaces)?;
            }
        }
        for (server, object) in &layout.objects {
            fleet.add(server, object.clone())?;
            let text = |of: &Json, field: &str| of.get(field).and_then(Json::as_str).unwrap_or_default().to_owned();
            if text(object, "kind") == "TrafficRoute" {
                let backends = object.pointer("/spec/backends").and_then(Json::as_array).into_iter().flatten();
                backends.for_each(|backend| fleet.edge.place(&text(backend, "name"), &text(backend, "region")));
            }
        }
        Ok(fleet)
    }

    /// Every region's Ready pods carry what they have now with the headroom that losing one region takes, and no more; where they have no users,
    /// as much as the others' do.
    pub fn limit(&self) {
        let regions = || self.servers.iter().filter(|(name, _)| *name != "hub");
        let now = |name: &String| self.edge.users(name).filter(|(users, pods)| *users > 0.0 && *pods > 0.0);
        let (users, pods) =
            regions().filter_map(|(name, _)| now(name)).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let limits: Vec<(&Server, f64)> = regions()
            .map(|(name, server)| {
                let (users, pods) = now(name).unwrap_or((users, pods));
                (server, users / pods * self.headroom())
            })
            .collect();
        for (server, per_pod) in limits {
            self.edge.limit(server, per_pod);
        }
    }

    /// How much more than today the regions must carry when one of them is gone.
    #[must_use]
    pub fn headroom(&self) -> f64 {
        let regions = u32::try_from(self.servers.len().saturating_sub(1)).unwrap_or(u32::MAX);
        f64::from(regions) / f64::from(regions.saturating_sub(1).max(1))
    }

    /// Starts what controllers and kubelets do in every region.
    pub fn start(&mut self, pace: &Pace) {
        let run = |(name, server): (&String, &Server)| {
            let (name, edge) = (name.clone(), self.edge.clone());
            tokio::spawn(physics::run(server.clone(), Physics::new(pace.clone()), move || edge.load(&name)))
        };
        self.physics = self.servers.iter().map(run).collect();
    }

    /// Makes the plan's holds and windows a few seconds, so that a drill takes well under a minute.
    ///
    /// # Errors
    /// What the API server in memory refused.
    pub fn hurry(&self) -> Result<(), String> {
        let hub = self.server("hub")?;
        let quick = json!({"firstPercent": 10, "growthPercent": 300, "maxStepPercent": 50, "hold": "1s"});
        let spec = json!({
            "pace": {"evacuate": quick, "failback": quick}, "soak": "3s", "deadline": "10m",
            "objectives": {"timeToHealthy": "10m", "stableFor": "1s"},
        });
        hub.edit("EvacuationPlan", "", "shop", |plan| json_patch::merge(plan, &json!({"spec": spec})))
            .map_err(|refusal| format!("{refusal:?}"))?;
        let name = |route: &Json| route.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default().to_owned();
        for route in hub.list("TrafficRoute", "shop") {
            hub.edit("TrafficRoute", "shop", &name(&route), |route| {
                let Some(query) = route.pointer("/spec/confirm/query").and_then(Json::as_str) else { return };
                let query = query.replace("[30s]", "[2s]");
                json_patch::merge(route, &json!({"spec": {"confirm": {"window": "2s", "query": query}}}));
            })
            .map_err(|refusal| format!("{refusal:?}"))?;
        }
        Ok(())
    }

    /// One server.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn server(&self, name: &str) -> Result<&Server, String> {
        self.servers.get(name).ok_or_else(|| format!("no server {name}"))
    }

    /// Everything in the fleet that a drill touches, without what servers change by themselves.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, Json> {
        let mut all = BTreeMap::new();
        for (name, server) in &self.servers {
            for kind in ["HTTPRoute", "HorizontalPodAutoscaler", "Deployment", "StatefulSet", "CronJob", "Node"] {
                let namespace = if kind == "Node" { "" } else { "shop" };
                for mut object in server.list(kind, namespace) {
                    let of = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned();
                    let key = format!("{name}: {kind} {}", of("/metadata/name"));
                    // The live size of a workload that has an autoscaler is the autoscaler's.
                    let scaled =
                        kind == "Deployment" && server.get("HorizontalPodAutoscaler", "shop", &of("/metadata/name")).is_some();
                    if let Some(map) = object.as_object_mut() {
                        map.remove("status");
                    }
                    if let Some(metadata) = object.get_mut("metadata").and_then(Json::as_object_mut) {
                        metadata.remove("resourceVersion");
                        metadata.remove("generation");
                    }
                    if let (true, Some(spec)) = (scaled, object.get_mut("spec").and_then(Json::as_object_mut)) {
                        spec.remove("replicas");
                    }
                    all.insert(key, object);
                }
            }
        }
        all
    }

    /// Puts an object into a server, as somebody would have before.
    ///
    /// # Errors
    /// What the API server in memory refused, for people.
    pub fn add(&self, server: &str, object: Json) -> Result<(), String> {
        let of = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned();
        let name = format!("{} {}", of("/kind"), of("/metadata/name"));
        self.server(server)?.seed(object).map(drop).map_err(|refusal| format!("{server}: {name}: {refusal:?}"))
    }

    /// Nodes and workloads of a region.
    fn furnish(&self, region: &str, namespaces: &[String]) -> Result<(), String> {
        for node in 0..3 {
            let allocatable = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
            let ready = json!([{"type": "Ready", "status": "True"}]);
            self.add(
                region,
                json!({
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("{region}-{node}")}, "spec": {},
                    "status": {"allocatable": allocatable, "capacity": allocatable, "conditions": ready},
                }),
            )?;
        }
        for namespace in namespaces {
            for (workload, replicas, scaled) in [("cart", 3, true), ("checkout", 2, false), ("web", 4, true)] {
                self.add(region, deployment(namespace, workload, replicas))?;
                if scaled {
                    self.add(region, autoscaler(namespace, workload, replicas - 1))?;
                }
            }
        }
        Ok(())
    }

    /// How the hub reaches a region.
    fn reach(&self, region: &str) -> Result<(), String> {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": region,
            "contexts": [{"name": region, "context": {"cluster": region, "user": region}}],
            "clusters": [{"name": region, "cluster": {"server": format!("https://{region}.embedded:6443")}}],
            "users": [{"name": region, "user": {"token": "embedded"}}],
        });
        let data = serde_json::to_value(ByteString(kubeconfig.to_string().into_bytes())).map_err(|error| error.to_string())?;
        self.add(
            "hub",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": region, "namespace": NAMESPACE}, "data": {"kubeconfig": data}}),
        )
    }

    /// Creates a drill that starts now.
    ///
    /// # Errors
    /// What the server refused.
    pub fn drill(&self, name: &str, region: &str) -> Result<(), String> {
        self.drill_of(name, "shop", region)
    }

    /// Creates a drill of this plan that starts now.
    ///
    /// # Errors
    /// What the server refused.
    pub fn drill_of(&self, name: &str, plan: &str, region: &str) -> Result<(), String> {
        self.add(
            "hub",
            json!({
                "apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": name},
                "spec": {"plan": plan, "region": region, "mode": "Exercise", "start": {"at": self.clock.now().to_rfc3339()}},
            }),
        )
    }

    /// Starts one instance of the operator. `fates` decides what becomes of its calls.
    #[must_use]
    pub fn operator(&self, identity: &str, fates: &Fates) -> Instance {
        self.skewed(identity, fates, chrono::TimeDelta::zero())
    }

    /// The same, with a clock that is off by this much.
    #[must_use]
    pub fn skewed(&self, identity: &str, fates: &Fates, skew: chrono::TimeDelta) -> Instance {
        let links: BTreeMap<String, Link> = self
            .servers
            .iter()
            .enumerate()
            .map(|(index, (name, server))| {
                let random = fastrand::Rng::with_seed(self.seed.wrapping_mul(37).wrapping_add(index as u64));
                (name.clone(), Link::new(server.clone(), identity, fates.clone(), random))
            })
            .collect();
        let embedding = Embedding { links: links.clone(), prometheus: Arc::clone(&self.prometheus) };
        let seam = Seam::new(self.clock.skewed(skew), Arc::new(embedding), self.seed);
        let settings = Settings {
            namespace: NAMESPACE.to_owned(),
            identity: identity.to_owned(),
            prometheus: Some(PROMETHEUS.to_owned()),
            allowed_hosts: Vec::new(),
            rehearser: self.rehearser.clone(),
        };
        let (stop, stopped) = watch::channel(false);
        let client = links.get("hub").map(Link::client);
        let operator = Operator::new(client.unwrap_or_else(|| unreachable_client(&links)), seam, settings);
        let runs = Arc::clone(&operator);
        let run = tokio::spawn(async move { runs.run(stopped).await });
        Instance { operator, links, stop, run }
    }
}

impl Embedded {
    /// What a person puts back by hand from outside, with the hub or without.
    ///
    /// # Errors
    /// A cluster that cannot be identified.
    pub async fn by_hand(&self, with_hub: bool, traffic_is_back: bool) -> Result<Restore, String> {
        self.by_hand_in(NAMESPACE, &REGIONS, with_hub, traffic_is_back).await
    }

    /// The same by somebody who names this namespace and these regions.
    ///
    /// # Errors
    /// A cluster that cannot be identified.
    pub async fn by_hand_in(
        &self,
        namespace: &str,
        regions: &[&str],
        with_hub: bool,
        traffic_is_back: bool,
    ) -> Result<Restore, String> {
        let link = |(index, (name, server)): (usize, (&String, &Server))| {
            let random = fastrand::Rng::with_seed(self.seed.wrapping_mul(41).wrapping_add(index as u64));
            (name.clone(), Link::new(server.clone(), "by-hand", Fates::calm(), random))
        };
        let links: BTreeMap<String, Link> = self.servers.iter().enumerate().map(link).collect();
        let api = |link: &Link| Api::new(link.client(), self.clock.clone(), Counters::default());
        let named = links.iter().filter(|(name, _)| regions.contains(&name.as_str()));
        let regions = named.map(|(name, link)| (name.clone(), api(link))).collect();
        let hub = links.get("hub").filter(|_| with_hub).map(api);
        let embedding = Embedding { links, prometheus: Arc::clone(&self.prometheus) };
        let seam = Seam::new(self.clock.clone(), Arc::new(embedding), self.seed);
        Restore::new(hub, regions, seam, namespace, traffic_is_back).await
    }
}

/// A fleet always has a hub; this only keeps the type total.
fn unreachable_client(links: &BTreeMap<String, Link>) -> kube::Client {
    let absent = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("the fleet has no hub"))
    });
    links.values().next().map_or_else(|| kube::Client::new(absent, "default"), Link::client)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        for task in &self.physics {
            task.abort();
        }
    }
}

impl Instance {
    /// Ends it at once, wherever it is, as SIGKILL would. What it sent may still arrive.
    pub fn kill(&self) {
        self.run.abort();
    }

    /// Ends it as SIGTERM would.
    pub async fn stop(self) {
        // The receiver is dropped only with the task, which then is over already.
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(Duration::from_secs(30), self.run).await;
    }
}

fn deployment(namespace: &str, name: &str, replicas: u32) -> Json {
    let requests = json!({"cpu": "250m", "memory": "256Mi"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": name, "resources": {"requests": requests}}]},
            },
        },
    })
}

fn autoscaler(namespace: &str, name: &str, minimum: u32) -> Json {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": minimum, "maxReplicas": 20,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 75}}}],
        },
    })
}
