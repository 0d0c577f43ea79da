use super::rehearse::Checker;
use crate::cluster::Internet;
use crate::operator::{Operator, Settings};
use crate::seam::{Clock, Network, Seam};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long running activations may take to end after a signal: below Kubernetes' grace period of 30 s.
const GRACE: Duration = Duration::from_secs(20);

/// Run the operator.
#[derive(Debug, clap::Args)]
pub(super) struct Controller {
    /// The operator's namespace: kubeconfig Secrets, contracts and leases are there, on the hub and in every region.
    #[arg(long, env = "POD_NAMESPACE", default_value = "firedrill")]
    namespace: String,
    /// This instance among its replicas; the pod's name.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// The Prometheus to ask where a plan names none, for example <http://prometheus.monitoring:9090>.
    #[arg(long, env = "FIREDRILL_PROMETHEUS")]
    prometheus: Option<String>,
    /// A host (with port) that plans may name as their Prometheus beside it; may be given several times.
    #[arg(long = "allow-host", env = "FIREDRILL_ALLOWED_HOSTS", value_delimiter = ',')]
    allowed_hosts: Vec<String>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "FIREDRILL_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Logs as JSON or for people.
    #[arg(long, env = "FIREDRILL_LOG_FORMAT", default_value = "json", value_parser = ["json", "text"])]
    log_format: String,
}

impl Controller {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let filter =
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        if self.log_format == "json" {
            logs.json().flatten_event(true).with_current_span(false).init();
        } else {
            logs.init();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| format!("the runtime does not start: {error}"))?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> Result<ExitCode, String> {
        let network: Arc<dyn Network> =
            Arc::new(Internet::new().map_err(|error| format!("the machine's certificates cannot be read: {error}"))?);
        let config = kube::Config::infer().await.map_err(|error| {
            format!(
                "no hub cluster: neither a kubeconfig nor a service account was found ({error}); set KUBECONFIG or run in a pod"
            )
        })?;
        let client = network.client(config)?;
        // Two containers have the same process ids.
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "firedrill".to_owned());
        let identity = self.identity.unwrap_or_else(|| format!("{host}-{}", std::process::id()));
        let seam = Seam::new(Clock::Wall, network, u64::from(std::process::id()));
        let settings = Settings {
            namespace: self.namespace,
            identity,
            prometheus: self.prometheus,
            allowed_hosts: self.allowed_hosts,
            rehearser: Some(Arc::new(Checker::default())),
        };
        let operator = Operator::new(client, seam, settings);
        let listener = tokio::net::TcpListener::bind(self.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", self.listen))?;
        let (stop, stopped) = watch::channel(false);
        let mut served = stopped.clone();
        let server = axum::serve(listener, router(Arc::clone(&operator))).with_graceful_shutdown(async move {
            // The sender lives as long as this function: an error means that it is over too.
            let _ = served.wait_for(|stop| *stop).await;
        });
        tracing::info!(listen = %self.listen, version = env!("CARGO_PKG_VERSION"), "started");
        let mut runs = tokio::spawn(async move { operator.run(stopped).await });
        let serves = tokio::spawn(server.into_future());
        tokio::select! {
            biased;
            ended = &mut runs => return Err(format!("the operator ended by itself: {ended:?}")),
            signalled = signalled() => signalled?,
        }
        tracing::info!("stopping");
        // Both ends hold a receiver until they are over.
        let _ = stop.send(true);
        if tokio::time::timeout(GRACE, async { futures::join!(runs, serves) }).await.is_err() {
            tracing::warn!("not everything ended within {} s", GRACE.as_secs());
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn signalled() -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn router(operator: Arc<Operator>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(operator)
}

async fn readyz(State(operator): State<Arc<Operator>>) -> (StatusCode, String) {
    let waits = operator.waits_for();
    if waits.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waits for {}\n", waits.join(", ")))
    }
}

async fn metrics(State(operator): State<Arc<Operator>>) -> ([(&'static str, &'static str); 1], String) {
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], operator.metrics())
}
