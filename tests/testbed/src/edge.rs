//! The edge: Traefik in the machine's own namespace, which serves the hub's Gateways on loopback.

use std::{net::TcpListener, path::Path, time::Duration};

use crate::{
    error::{Context as _, Result},
    process::{Ledger, Process, Program},
    tools::Tools,
    wait::{http_get, until},
};

/// A running edge.
#[derive(Debug)]
pub(crate) struct Edge {
    #[expect(dead_code, reason = "it runs as long as it is held")]
    process: Process,
    /// Where users come in, and so the listener port of every Gateway.
    pub port: u16,
    /// Its own metrics and API.
    pub api_port: u16,
}

impl Edge {
    /// Starts Traefik on these ports against the cluster of `kubeconfig` and waits until it answers.
    pub(crate) async fn start(
        tools: &Tools,
        ledger: &Ledger,
        run: &Path,
        kubeconfig: &Path,
        (port, api_port): (u16, u16),
    ) -> Result<Self> {
        let args = vec![
            format!("--entrypoints.web.address=127.0.0.1:{port}"),
            format!("--entrypoints.traefik.address=127.0.0.1:{api_port}"),
            "--providers.kubernetesgateway=true".to_owned(),
            // 2 s by default: that long may a changed weight lie unseen, which every test would wait for.
            "--providers.providersThrottleDuration=100ms".to_owned(),
            "--metrics.prometheus=true".to_owned(),
            "--metrics.prometheus.addServicesLabels=true".to_owned(),
            "--api.insecure=true".to_owned(),
            "--global.checknewversion=false".to_owned(),
            "--global.sendanonymoususage=false".to_owned(),
        ];
        let env = vec![("KUBECONFIG", kubeconfig.display().to_string())];
        let log = run.join("traefik.log");
        let mut process = Process::start(
            ledger,
            Program { name: "traefik".to_owned(), namespace: None, path: &tools.traefik, args, env, log },
        )?;
        let url = format!("http://127.0.0.1:{api_port}/api/version");
        until("the edge answers", Duration::from_secs(30), || {
            let running = process.running();
            let answer = http_get(&url);
            async move {
                running?;
                answer.await.map(drop)
            }
        })
        .await?;
        Ok(Self { process, port, api_port })
    }
}

/// `preferred`, or any port of loopback when another program has it.
pub(crate) fn free_port(preferred: u16) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", preferred)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    let address = listener.and_then(|listener| listener.local_addr()).context(|| "find a free port".to_owned())?;
    Ok(address.port())
}
