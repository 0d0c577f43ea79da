//! One control plane in its namespace: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK with its nodes.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

use crate::{
    error::{Context as _, Error, Result},
    namespace::Namespace,
    pki::{Authority, Credential, kubeconfig, kubeconfig_entries},
    process::{Ledger, Process, Program, failed},
    tools::Tools,
    wait::until,
};

/// How long one request of kubectl may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How long one call of kubectl may take with all its requests.
const CALL: Duration = Duration::from_mins(1);
/// How long an API server may take to be ready; 4 s alone, 9 s with three others on two cores.
const START: Duration = Duration::from_mins(2);

/// The API server as it is reached from within its namespace.
const INSIDE: &str = "https://127.0.0.1:6443";
/// The edge's kubeconfig in a cluster's folder: its own user, so that the audit log tells its writes from an administrator's.
const EDGE_KUBECONFIG: &str = "traefik.kubeconfig";

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// `hub`, or the region's name.
    pub name: String,
    /// Its place in the network.
    pub namespace: Namespace,
    /// Its own folder.
    pub folder: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// How long a scheduled pod takes to be ready.
    pub pod_ready: Duration,
}

/// One control plane. It ends when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    spec: Spec,
    tools: Arc<Tools>,
    ledger: Arc<Ledger>,
    ca: String,
    entries: [String; 3],
    /// First, so that they are gone before what they talk to.
    controllers: Vec<Process>,
    /// etcd and the API server; empty while stopped.
    api: Mutex<Vec<Process>>,
}

/// One line of an audit log: a request that was answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Who asked.
    pub user: AuditUser,
    /// The client's name for itself.
    #[serde(default)]
    pub user_agent: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The object; none for requests that are for no resource.
    pub object_ref: Option<AuditObject>,
    /// The answer.
    pub response_status: Option<AuditStatus>,
    /// The body of a write, as it was sent; a JSON patch is a list.
    #[serde(default)]
    pub request_object: serde_json::Value,
    /// When the request came: RFC 3339, microseconds.
    pub request_received_timestamp: String,
    /// When it was answered: RFC 3339, microseconds.
    pub stage_timestamp: String,
}

/// Who asked.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditUser {
    /// The user's name, such as `admin` or `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(default)]
    pub username: String,
}

/// What an audited request was for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The resource in the plural, such as `httproutes`.
    pub resource: String,
    /// `status`, `scale`, ...; empty for the object itself.
    pub subresource: String,
    /// Its namespace; empty when it has none.
    pub namespace: String,
    /// Its name; empty for lists and for creates with a generated name.
    pub name: String,
}

/// How an audited request was answered.
#[derive(Debug, Clone, Deserialize)]
pub struct AuditStatus {
    /// The HTTP status.
    #[serde(default)]
    pub code: u16,
}

impl AuditEvent {
    /// Whether it changed something: a write that was answered with success and was no dry run.
    #[must_use]
    pub fn wrote(&self) -> bool {
        let write = matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
        write
            && self.response_status.as_ref().is_some_and(|status| (200..300).contains(&status.code))
            && !self.request_uri.contains("dryRun=")
    }
}

impl Cluster {
    /// Starts a control plane and waits until its API server is ready. What waits for its controllers is [`Cluster::create_nodes`].
    pub(crate) async fn start(spec: Spec, tools: Arc<Tools>, ledger: Arc<Ledger>) -> Result<Self> {
        let Spec { name, namespace, folder, .. } = &spec;
        fs::create_dir_all(folder).context(|| format!("create {}", folder.display()))?;
        let authority = Authority::create(folder)?;
        authority.server(folder, namespace.address)?;
        let outside = format!("https://{}:6443", namespace.address);
        let entries = kubeconfig_entries(
            name,
            &outside,
            &authority.certificate,
            &Credential::Certificate(&authority.client("admin", Some("system:masters"))?),
        );
        let admin = std::slice::from_ref(&entries);
        write(folder, "kubeconfig", &kubeconfig(name, admin))?;
        write(folder, "audit.yaml", include_str!("../assets/audit.yaml"))?;
        write(
            folder,
            "stages.yaml",
            &include_str!("../assets/stages.yaml").replace("POD_READY_MS", &spec.pod_ready.as_millis().to_string()),
        )?;
        for (file, user, group, server) in [
            ("kcm.kubeconfig", "system:kube-controller-manager", None, INSIDE),
            ("scheduler.kubeconfig", "system:kube-scheduler", None, INSIDE),
            ("kwok.kubeconfig", "kwok", Some("system:masters"), INSIDE),
            (EDGE_KUBECONFIG, "traefik", Some("system:masters"), outside.as_str()),
        ] {
            let identity = authority.client(user, group)?;
            let entries = kubeconfig_entries(name, server, &authority.certificate, &Credential::Certificate(&identity));
            write(folder, file, &kubeconfig(name, &[entries]))?;
        }
        let mut cluster = Self {
            ca: authority.certificate,
            entries,
            controllers: Vec::new(),
            api: Mutex::new(Vec::new()),
            spec,
            tools,
            ledger,
        };
        cluster.start_api().await?;
        cluster.start_controllers()?;
        Ok(cluster)
    }

    /// `hub`, or the region's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its address, which also the machine's own namespace reaches.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.spec.namespace.address
    }

    /// An administrator's kubeconfig: embedded data, usable from the machine's own namespace.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.spec.folder.join("kubeconfig")
    }

    /// The edge's kubeconfig for this cluster.
    pub(crate) fn edge_kubeconfig(&self) -> PathBuf {
        self.spec.folder.join(EDGE_KUBECONFIG)
    }

    /// Its entries for a kubeconfig of several clusters.
    pub(crate) fn entries(&self) -> &[String; 3] {
        &self.entries
    }

    /// Its place in the network.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.spec.namespace
    }

    /// The audit log of its API server: one JSON object a line. Writes with their bodies, reads of everybody but the control plane itself.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.spec.folder.join("audit.log")
    }

    /// The audited requests from byte `offset` of the log (0 is the start), in the order of their ends, and the offset to go on from.
    pub fn audit_since(&self, offset: u64) -> Result<(Vec<AuditEvent>, u64)> {
        let path = self.audit();
        let mut text = Vec::new();
        let mut file = fs::File::open(&path).context(|| format!("open {}", path.display()))?;
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_to_end(&mut text))
            .context(|| format!("read {}", path.display()))?;
        // The last line may be half written; it is for the next time.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let lines = text.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events = lines.map(serde_json::from_slice).collect::<std::result::Result<_, _>>();
        let events =
            events.map_err(|error| Error::Invalid { what: format!("read {}", path.display()), why: error.to_string() })?;
        Ok((events, offset + u64::try_from(whole).unwrap_or_default()))
    }

    /// Runs kubectl as administrator, within the region, so that no partition is in its way; its standard output. A request takes at most 10 s (unless `args` have their own `--request-timeout`), the call
    /// at most 1 min. `stdin` is what `-f -` reads.
    pub async fn kubectl(&self, args: &[&str], stdin: Option<&str>) -> Result<String> {
        let what = format!("kubectl --context {} {}", self.name(), args.join(" "));
        let mut command = tokio::process::Command::from(self.spec.namespace.command(&self.tools.kubectl));
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(["--server", INSIDE])
            .arg("--cache-dir")
            .arg(self.spec.folder.join("kubectl"));
        if !args.iter().any(|arg| arg.starts_with("--request-timeout")) {
            command.arg(format!("--request-timeout={}s", REQUEST.as_secs()));
        }
        let input = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command.args(args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context(|| what.clone())?;
        let feed = child.stdin.take();
        let run = async {
            if let (Some(mut pipe), Some(text)) = (feed, stdin) {
                // A kubectl that has refused its arguments reads nothing; its answer says so better than this error would.
                let _ = pipe.write_all(text.as_bytes()).await;
                drop(pipe);
            }
            child.wait_with_output().await.context(|| what.clone())
        };
        let output = tokio::time::timeout(CALL, run).await;
        let output =
            output.map_err(|_| Error::Timeout { what: what.clone(), bound: CALL, last: "still running".to_owned() })??;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(failed(what, &output))
        }
    }

    /// A kubeconfig of the service account, with a token for 8 h and embedded data, usable from the machine's own namespace.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<String> {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace, "--duration=8h"], None).await?;
        let server = format!("https://{}:6443", self.address());
        Ok(kubeconfig(self.name(), &[kubeconfig_entries(self.name(), &server, &self.ca, &Credential::Token(token.trim()))]))
    }

    /// The cluster's identity: the uid of its namespace `kube-system`.
    pub async fn uid(&self) -> Result<String> {
        let uid = self.kubectl(&["get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"], None).await?;
        Ok(uid.trim().to_owned())
    }

    /// Cuts the region off, silently and both ways: its API server and its backend. Within, everything goes on. Connections stay open and quiet.
    pub fn partition(&self) -> Result<()> {
        self.spec.namespace.cut(&self.tools.nft, "", Some(""))
    }

    /// Cuts off the API server alone, silently and both ways; users still reach the backend.
    pub fn partition_api(&self) -> Result<()> {
        self.spec.namespace.cut(&self.tools.nft, "tcp dport 6443", Some("tcp sport 6443"))
    }

    /// Loses the packets to the API server that match `filter`, in the words of nft (such as `meta length > 2000`), silently; their senders go on trying.
    pub fn lose_packets(&self, filter: &str) -> Result<()> {
        self.spec.namespace.cut(&self.tools.nft, &format!("tcp dport 6443 {filter}"), None)
    }

    /// How many packets that came to the region a partition or [`Cluster::lose_packets`] has dropped.
    pub fn lost_packets(&self) -> Result<u64> {
        self.spec.namespace.dropped(&self.tools.nft)
    }

    /// Ends a partition of any kind; nothing to do when there is none.
    pub fn heal(&self) -> Result<()> {
        self.spec.namespace.heal(&self.tools.nft)
    }

    /// Stops the controllers and the scheduler, or lets them go on: what is written then is written by whoever asks, and by nobody else.
    pub fn controllers(&self, run: bool) -> Result<()> {
        let mut own = self.controllers.iter().filter(|process| !process.name().ends_with("kwok"));
        own.try_for_each(|process| process.signal(if run { "CONT" } else { "STOP" }))
    }

    /// Stops what stands for the kubelets of all nodes, or lets it go on. Nodes are seen to be silent after about 50 s.
    pub fn kubelets(&self, run: bool) -> Result<()> {
        let kwok = self.controllers.iter().find(|process| process.name().ends_with("kwok"));
        kwok.map_or(Ok(()), |kwok| kwok.signal(if run { "CONT" } else { "STOP" }))
    }

    /// Kills the API server and its etcd (SIGKILL). The other processes stay and will reconnect.
    pub fn stop_api(&self) {
        self.api().clear();
    }

    /// Starts the API server and its etcd on the data that is there, and waits until it is ready. Nothing to do when it runs.
    pub async fn start_api(&self) -> Result<()> {
        self.spawn_api()?;
        let address = (self.address(), 6443);
        until(&format!("{}: the API server is ready", self.name()), START, || async move {
            self.api().iter_mut().try_for_each(Process::running)?;
            // A connection costs nothing, a kubectl a tenth of a second of a core that the server itself could use.
            tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let answer = self.kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"], None).await;
            if answer.is_err() {
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            answer.map_err(|error| error.to_string())
        })
        .await
        .map(drop)
    }

    fn spawn_api(&self) -> Result<()> {
        let mut api = self.api();
        if !api.is_empty() {
            return Ok(());
        }
        let Self { spec: Spec { name, namespace, folder, .. }, .. } = self;
        let file = |name: &str| folder.join(name).display().to_string();
        let etcd = vec![
            format!("--name={name}"),
            format!("--data-dir={}", file("etcd")),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
            format!("--initial-cluster={name}=http://127.0.0.1:2380"),
        ];
        let server = vec![
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            "--secure-port=6443".to_owned(),
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={}", namespace.address),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
            // Without these the controllers complain every minute that there is no authority for aggregated APIs.
            format!("--requestheader-client-ca-file={}", file("ca.crt")),
            "--requestheader-allowed-names=front-proxy".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        ];
        api.push(self.process("etcd", &self.tools.etcd, etcd)?);
        api.push(self.process("kube-apiserver", &self.tools.kube_apiserver, server)?);
        Ok(())
    }

    fn start_controllers(&mut self) -> Result<()> {
        let Self { spec: Spec { namespace, folder, .. }, .. } = &*self;
        let file = |name: &str| folder.join(name).display().to_string();
        let identity = |file: String| {
            let mut args = vec![format!("--kubeconfig={file}"), format!("--authentication-kubeconfig={file}")];
            args.extend([format!("--authorization-kubeconfig={file}"), "--leader-elect=false".to_owned()]);
            args.extend(["--kube-api-qps=500".to_owned(), "--kube-api-burst=1000".to_owned()]);
            args
        };
        let mut manager = identity(file("kcm.kubeconfig"));
        manager.extend([
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", file("sa.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            // 15 s by default, which every headroom step would wait for.
            "--horizontal-pod-autoscaler-sync-period=2s".to_owned(),
        ]);
        let kwok = vec![
            format!("--kubeconfig={}", file("kwok.kubeconfig")),
            format!("--config={}", file("stages.yaml")),
            "--manage-all-nodes=true".to_owned(),
            "--cidr=10.244.0.0/16".to_owned(),
            format!("--node-ip={}", namespace.address),
            "--node-lease-duration-seconds=40".to_owned(),
            "-v=WARN".to_owned(),
        ];
        let controllers = vec![
            self.process("kube-controller-manager", &self.tools.kube_controller_manager, manager)?,
            self.process("kube-scheduler", &self.tools.kube_scheduler, identity(file("scheduler.kubeconfig")))?,
            self.process("kwok", &self.tools.kwok, kwok)?,
        ];
        self.controllers = controllers;
        Ok(())
    }

    /// Makes the nodes, over three zones, and waits until they are ready and pods can be made.
    pub(crate) async fn create_nodes(&self) -> Result<()> {
        let (name, count) = (self.name(), self.spec.nodes);
        let mut manifest = String::new();
        for (number, zone) in (0..count).zip(["a", "b", "c"].iter().cycle()) {
            let node = format!("{name}-{number}");
            let _ = write!(
                manifest,
                "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {node}\n  labels:\n    kubernetes.io/hostname: {node}\n    \
                 kubernetes.io/os: linux\n    topology.kubernetes.io/region: {name}\n    topology.kubernetes.io/zone: {name}-{zone}\n"
            );
        }
        if count > 0 {
            // Without validation the server need not make its schema documents now, which takes it seconds.
            self.kubectl(&["create", "--validate=false", "--filename", "-"], Some(&manifest)).await?;
        }
        until(&format!("{name}: {count} nodes are ready"), START, || async {
            let path = "--output=jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
            let seen = self.kubectl(&["get", "nodes", path], None).await.map_err(|error| error.to_string())?;
            let ready = seen.split_whitespace().filter(|status| *status == "True").count();
            if ready < count { Err(format!("{ready} are")) } else { Ok(()) }
        })
        .await?;
        until(&format!("{name}: controllers work"), START, || async {
            self.kubectl(&["get", "serviceaccount", "default"], None).await.map_err(|error| error.to_string())
        })
        .await
        .map(drop)
    }

    fn process(&self, name: &str, path: &Path, args: Vec<String>) -> Result<Process> {
        let Spec { name: cluster, namespace, folder, .. } = &self.spec;
        let (namespace, log) = (Some(namespace.name.as_str()), folder.join(format!("{name}.log")));
        Process::start(&self.ledger, Program { name: format!("{cluster}-{name}"), namespace, path, args, env: Vec::new(), log })
    }

    fn api(&self) -> MutexGuard<'_, Vec<Process>> {
        self.api.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).context(|| format!("write {}", path.display()))
}
