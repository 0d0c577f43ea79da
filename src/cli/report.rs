use super::{cluster, columns, kubeconfig};
use crate::api::Drill;
use crate::cluster::{Body, Category, Internet};
use crate::decide::Contract;
use crate::report::{self, html, text};
use crate::seam::{Clock, Network};
use crate::terms::{Kind, Object};
use http::Method;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(5);

/// The report of a drill, from the hub alone: as it stands, and for good once it is over.
///
/// Exit codes: 0 it was made; 1 it could not be; 2 the command line is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Report {
    /// The drill.
    drill: String,
    /// The kubeconfig file; absent means KUBECONFIG or ~/.kube/config.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The context of the hub; absent means the current one.
    #[arg(long)]
    context: Option<String>,
    /// The operator's namespace, where contracts are kept.
    #[arg(long, default_value = "firedrill")]
    namespace: String,
    /// `html` for a page that stands alone, `json` for machines.
    #[arg(short, long, default_value = "text", value_parser = ["text", "html", "json"])]
    output: String,
}

impl Report {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let report = runtime.block_on(self.read())?;
        let said = match self.output.as_str() {
            "html" => html(&report)?,
            "json" => serde_json::to_string_pretty(&report).map_err(|error| error.to_string())? + "\n",
            _ => text(&report, columns()),
        };
        anstream::print!("{said}");
        Ok(ExitCode::SUCCESS)
    }

    async fn read(&self) -> Result<report::Report, String> {
        let network: Arc<dyn Network> =
            Arc::new(Internet::new().map_err(|error| format!("the machine's certificates cannot be read: {error}"))?);
        let hub = cluster(&kubeconfig(self.kubeconfig.as_deref())?, self.context.as_deref(), &network, &Clock::Wall).await?;
        let path = format!("{}/{}", Kind::Drill.path(None), self.drill);
        let json = hub.call(Method::GET, &path, Body::Nothing, CALL).await.map_err(|error| match error.category {
            Category::NotFound => format!("there is no Drill {} in this cluster; is --context the hub's?", self.drill),
            _ => format!("Drill {}: {error}", self.drill),
        })?;
        let drill: Drill = serde_json::from_value(json).map_err(|error| format!("Drill {}: {error}", self.drill))?;
        let reference = drill.status.as_ref().and_then(|status| status.contract.clone());
        let mut contract = None;
        if let Some(reference) = reference {
            let path = format!("{}/{}", Kind::ConfigMap.path(Some(&self.namespace)), reference.config_map);
            let read = hub.call(Method::GET, &path, Body::Nothing, CALL).await.map_err(|error| error.to_string());
            let parsed = read.and_then(|json| {
                let map = Object::new(json);
                Contract::parse(map.text("/data/contract"), &reference.hash).map_err(|error| error.to_string())
            });
            match parsed {
                Ok(read) => contract = Some(read),
                Err(error) => anstream::eprintln!(
                    "without its contract (shares, gates and the objective are not told): ConfigMap {}/{}: {error}",
                    self.namespace,
                    reference.config_map
                ),
            }
        }
        let drills = hub.list(&Kind::Drill.path(None), "", CALL).await.map_err(|error| format!("Drills: {error}"))?;
        let drills: Vec<Drill> = drills.into_iter().filter_map(|json| serde_json::from_value(json).ok()).collect();
        Ok(report::Report::of(&drill, contract.as_ref()).beside(&drills))
    }
}
