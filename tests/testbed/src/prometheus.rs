//! Prometheus in the machine's own namespace; it scrapes the edge, and the operator if asked to, every second.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use crate::{
    edge::free_port,
    error::{Context as _, Result},
    process::{Ledger, Process, Program},
    tools::Tools,
    wait::{http_get, until},
};

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    #[expect(dead_code, reason = "it runs as long as it is held")]
    process: Process,
    /// `http://HOST:PORT`.
    pub url: String,
}

impl Prometheus {
    /// Starts it with one target (`HOST:PORT`) for each job, and waits until it is ready.
    pub(crate) async fn start(tools: &Tools, ledger: &Ledger, run: &Path, targets: &[(&str, String)]) -> Result<Self> {
        let mut config = "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n".to_owned();
        for (job, target) in targets {
            let _ = writeln!(config, "- job_name: {job}\n  static_configs:\n  - targets: [\"{target}\"]");
        }
        let folder = run.join("prometheus");
        let file = folder.join("prometheus.yml");
        fs::create_dir_all(&folder).and_then(|()| fs::write(&file, config)).context(|| format!("write {}", file.display()))?;
        let address = format!("127.0.0.1:{}", free_port(19090)?);
        let args = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let log = run.join("prometheus.log");
        let program =
            Program { name: "prometheus".to_owned(), namespace: None, path: &tools.prometheus, args, env: Vec::new(), log };
        let mut process = Process::start(ledger, program)?;
        let url = format!("http://{address}");
        let ready = format!("{url}/-/ready");
        until("Prometheus is ready", Duration::from_secs(30), || {
            let running = process.running();
            let answer = http_get(&ready);
            async move {
                running?;
                match answer.await? {
                    (200, _) => Ok(()),
                    (status, body) => Err(format!("{status} {body}")),
                }
            }
        })
        .await?;
        Ok(Self { process, url })
    }
}
