//! The whole: one hub, its regions, the edge and Prometheus, and their common end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::task::{JoinSet, spawn_blocking};

use crate::{
    backend::Backend,
    cluster::{Cluster, Spec},
    edge::{Edge, free_port},
    error::{Context as _, Error, Result},
    guard::Guard,
    namespace::{Namespace, bridge},
    own::state_folder,
    process::Ledger,
    prometheus::Prometheus,
    tools::{Tools, cache_folder},
};

/// The regions of a bed when no others are asked for; the first three of them are the default.
pub const DEFAULT_REGIONS: [&str; 6] = ["eu-west", "us-east", "ap-south", "sa-east", "af-south", "eu-north"];

/// How a bed is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The regions' names: DNS labels of at most 20 characters, 1 to 9 of them.
    pub regions: Vec<String>,
    /// Nodes in each region (16 cores, 64Gi and 110 pods each); the hub has one.
    pub nodes: usize,
    /// How long a scheduled pod takes to be ready.
    pub pod_ready: Duration,
    /// Whether there is an edge.
    pub edge: bool,
    /// Whether there is a Prometheus.
    pub prometheus: bool,
    /// `HOST:PORT` of the operator's `/metrics`, which Prometheus then scrapes as job `firedrill`.
    pub operator_metrics: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        let regions = DEFAULT_REGIONS.iter().take(3).map(|region| (*region).to_owned()).collect();
        Self { regions, nodes: 6, pod_ready: Duration::from_secs(2), edge: true, prometheus: true, operator_metrics: None }
    }
}

/// A running bed, and the only one on this machine.
///
/// It ends with [`Bed::down`], which says if anything is left; when it is dropped; and, through the sweep (a shell script that waits beside it), when
/// its process ends in any way, SIGKILL included. So a bed in a `static` is fine.
#[derive(Debug)]
pub struct Bed {
    // Dropped in this order: who asks before who is asked; the guard, with the network, last.
    edge: Option<Edge>,
    prometheus: Option<Prometheus>,
    backends: BTreeMap<String, Backend>,
    hub: Cluster,
    regions: Vec<Cluster>,
    kubeconfig: PathBuf,
    tools: Arc<Tools>,
    guard: Guard,
}

impl Bed {
    /// Gets the tools, waits for another bed's end (at most 20 min), removes what a killed one left, and starts everything side by side: about 15 s on
    /// two cores once the tools are there.
    pub async fn up(options: Options) -> Result<Self> {
        let (options, tools, run, guard, ledger, namespaces) =
            spawn_blocking(move || prepare(options)).await.map_err(|error| panicked(&error))??;
        let ports = if options.edge { Some((free_port(18080)?, free_port(18081)?)) } else { None };
        let mut starting = JoinSet::new();
        for (number, namespace) in namespaces.into_iter().enumerate() {
            let (tools, ledger, run) = (tools.clone(), ledger.clone(), run.clone());
            let name =
                number.checked_sub(1).and_then(|region| options.regions.get(region)).map_or("hub", String::as_str).to_owned();
            let nodes = if number == 0 { 1 } else { options.nodes };
            let spec = Spec { folder: run.join(&name), name, namespace, nodes, pod_ready: options.pod_ready };
            starting.spawn(async move {
                let cluster = Cluster::start(spec, tools.clone(), ledger.clone()).await?;
                let edge =
                    async { if number == 0 { furnish_hub(&cluster, &tools, &ledger, &run, ports).await } else { Ok(None) } };
                let ((), edge) = tokio::try_join!(cluster.create_nodes(), edge)?;
                Ok((number, cluster, edge))
            });
        }
        let mut targets = Vec::new();
        targets.extend(ports.map(|(_, api)| ("edge", format!("127.0.0.1:{api}"))));
        targets.extend(options.operator_metrics.map(|address| ("firedrill", address)));
        let prometheus = if options.prometheus { Some(Prometheus::start(&tools, &ledger, &run, &targets).await?) } else { None };
        let (mut clusters, mut edge) = (BTreeMap::new(), None);
        while let Some(started) = starting.join_next().await {
            let (number, cluster, its_edge) = started.map_err(|error| panicked(&error))??;
            clusters.insert(number, cluster);
            edge = edge.or(its_edge);
        }
        let hub = clusters
            .remove(&0)
            .ok_or_else(|| Error::Invalid { what: "start the hub".to_owned(), why: "it is not there".to_owned() })?;
        let regions: Vec<Cluster> = clusters.into_values().collect();
        let backends =
            regions.iter().map(|region| Ok((region.name().to_owned(), Backend::start(region.name(), region.namespace())?)));
        let backends = backends.collect::<Result<_>>()?;

        let entries: Vec<_> = std::iter::once(&hub).chain(&regions).map(|cluster| cluster.entries().clone()).collect();
        let kubeconfig = run.join("kubeconfig");
        fs::write(&kubeconfig, crate::pki::kubeconfig("hub", &entries)).context(|| format!("write {}", kubeconfig.display()))?;
        Ok(Self { edge, prometheus, backends, hub, regions, kubeconfig, tools, guard })
    }

    /// The hub: firedrill's own API server, which also holds the Gateway API's objects.
    #[must_use]
    pub fn hub(&self) -> &Cluster {
        &self.hub
    }

    /// A region's cluster; an error when the bed has no such region.
    pub fn region(&self, name: &str) -> Result<&Cluster> {
        self.regions.iter().find(|region| region.name() == name).ok_or_else(|| unknown(name))
    }

    /// All regions, in the order in which they were asked for.
    #[must_use]
    pub fn regions(&self) -> &[Cluster] {
        &self.regions
    }

    /// A region's backend; an error when the bed has no such region.
    pub fn backend(&self, region: &str) -> Result<&Backend> {
        self.backends.get(region).ok_or_else(|| unknown(region))
    }

    /// Where users come in: `HOST:PORT`. An error when the bed has no edge.
    pub fn edge(&self) -> Result<String> {
        self.edge.as_ref().map(|edge| format!("127.0.0.1:{}", edge.port)).ok_or_else(|| without("edge"))
    }

    /// The port of the edge, which a Gateway's listener names. An error when the bed has no edge.
    pub fn edge_port(&self) -> Result<u16> {
        self.edge.as_ref().map(|edge| edge.port).ok_or_else(|| without("edge"))
    }

    /// The edge's own API and metrics: `http://HOST:PORT`; `/api/http/services` shows the weights in force. An error when the bed has no edge.
    pub fn edge_api(&self) -> Result<String> {
        self.edge.as_ref().map(|edge| format!("http://127.0.0.1:{}", edge.api_port)).ok_or_else(|| without("edge"))
    }

    /// Prometheus: `http://HOST:PORT`. An error when the bed has none.
    pub fn prometheus(&self) -> Result<&str> {
        self.prometheus.as_ref().map(|prometheus| prometheus.url.as_str()).ok_or_else(|| without("Prometheus"))
    }

    /// An administrator's kubeconfig with a context for each cluster, named as it; the current one is `hub`.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The programs.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Ends everything. An error names what is left: a process, a namespace, a link. Logs stay until the next bed.
    pub async fn down(self) -> Result<()> {
        let end = move || {
            let Self { edge, prometheus, backends, hub, regions, kubeconfig: _, tools: _, mut guard } = self;
            drop((edge, prometheus));
            drop(backends);
            drop((hub, regions));
            guard.finish()
        };
        spawn_blocking(end).await.map_err(|error| panicked(&error))?
    }
}

/// What the hub has more than a region: the Gateway API's kinds, and the edge that serves them.
async fn furnish_hub(
    hub: &Cluster,
    tools: &Tools,
    ledger: &Ledger,
    run: &Path,
    ports: Option<(u16, u16)>,
) -> Result<Option<Edge>> {
    let crds = tools.gateway_api_crds.display().to_string();
    hub.kubectl(&["create", "--validate=false", "--filename", &crds], None).await?;
    match ports {
        Some(ports) => Edge::start(tools, ledger, run, &hub.edge_kubeconfig(), ports).await.map(Some),
        None => Ok(None),
    }
}

type Prepared = (Options, Arc<Tools>, PathBuf, Guard, Arc<Ledger>, Vec<Namespace>);

/// All that comes before the first process: options checked, tools, the machine for us, an empty run folder, the network.
fn prepare(options: Options) -> Result<Prepared> {
    let Options { regions, .. } = &options;
    let label = |name: &String| {
        let inner = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        inner && !name.is_empty() && name.len() <= 20 && !name.starts_with('-') && !name.ends_with('-') && name != "hub"
    };
    let distinct: std::collections::BTreeSet<_> = regions.iter().collect();
    if !(1..=9).contains(&regions.len()) || !regions.iter().all(label) || distinct.len() != regions.len() {
        let why = format!(
            "the regions are {regions:?}; 1 to 9 different DNS labels of at most 20 characters are possible, `hub` is taken"
        );
        return Err(Error::Invalid { what: "start a bed".to_owned(), why });
    }
    if !rustix::process::geteuid().is_root() {
        let why = "this process is an ordinary user's and did not call `become_root`".to_owned();
        return Err(Error::NotRoot { why });
    }
    let tools = Arc::new(Tools::ensure()?);
    let run = cache_folder()?.join("bed");
    let guard = Guard::take(&run)?;
    if run.exists() {
        fs::remove_dir_all(&run).context(|| format!("remove {}", run.display()))?;
    }
    fs::create_dir_all(&run).context(|| format!("create {}", run.display()))?;
    let ledger = Arc::new(Ledger::create(&state_folder().join("processes"))?);
    bridge()?;
    let names = std::iter::once("hub").chain(regions.iter().map(String::as_str));
    let namespaces = names.zip(0..).map(|(name, number)| Namespace::create(name, number)).collect::<Result<_>>()?;
    Ok((options, tools, run, guard, ledger, namespaces))
}

fn unknown(region: &str) -> Error {
    Error::Invalid { what: format!("region {region}"), why: "the bed has no such region".to_owned() }
}

fn without(part: &str) -> Error {
    Error::Invalid { what: part.to_owned(), why: "the bed was made without it".to_owned() }
}

fn panicked(error: &tokio::task::JoinError) -> Error {
    Error::Invalid { what: "start or stop the bed".to_owned(), why: error.to_string() }
}
