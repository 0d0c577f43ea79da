/// The rehearsal of a drill of mode Check.
mod check;
/// What a rehearsal reads of a fleet, as a file too.
mod copy;
/// The copy run forward.
mod forward;

pub(super) use check::Checker;

use self::copy::Copy;
use self::forward::{Forecast, REQUESTS, Rehearsal};
use super::embedded::NAMESPACE;
use super::{cluster, columns, kubeconfig};
use crate::api::{Prediction, Verdict};
use crate::cluster::{Counters, Fleet, Internet};
use crate::report::text;
use crate::seam::{Clock, Network, Seam};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The drill would not pass.
const WOULD_NOT_PASS: u8 = 3;
/// Predict an evacuation: copy the fleet into memory, read only, and run the drill forward there.
///
/// Nothing is written anywhere. Secrets are read only to reach installed Regions, and never enter the copy.
///
/// Exit codes: 0 the drill would pass; 1 it could not be rehearsed; 2 the command line is wrong; 3 the drill would not pass.
#[derive(Debug, clap::Args)]
pub(super) struct Rehearse {
    /// The region to evacuate; absent means each of the plan's regions in turn.
    region: Option<String>,
    /// The plan; needed only where there are several.
    #[arg(long)]
    plan: Option<String>,
    /// The kubeconfig file; absent means KUBECONFIG or ~/.kube/config.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The context of the hub; absent means the current one.
    #[arg(long)]
    hub: Option<String>,
    /// How a region is reached, as `eu-west=context`; once for each. Absent means as its Region says.
    #[arg(long = "via")]
    via: Vec<String>,
    /// The operator's namespace, where the Secrets of Regions are.
    #[arg(long, default_value = NAMESPACE)]
    namespace: String,
    /// Keep the copy in this file, to look at it or to rehearse it again.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Rehearse a copy that was saved, instead of taking one.
    #[arg(long, conflicts_with_all = ["kubeconfig", "hub", "via", "plan", "save"])]
    from: Option<PathBuf>,
    /// How many requests a second each route has.
    #[arg(long, default_value_t = REQUESTS)]
    requests: f64,
    /// Everything that happens follows from this.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// `json` for machines.
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

impl Rehearse {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let copy = self.copy()?;
        let plan = copy.plan()?;
        let regions = match &self.region {
            None => plan.spec.regions,
            Some(region) if plan.spec.regions.contains(region) => vec![region.clone()],
            Some(region) => {
                return Err(format!("plan {} has no region {region}; it has {}", copy.plan, plan.spec.regions.join(", ")));
            }
        };
        let human = self.output == "text";
        let rehearsal = Rehearsal { copy, requests: self.requests, seed: self.seed, patience: None };
        let mut forecasts = Vec::new();
        for region in &regions {
            let forecast = rehearsal.run(region)?;
            if human {
                show(&forecast, regions.len() == 1);
            }
            forecasts.push(forecast);
        }
        if !human {
            anstream::println!("{}", serde_json::to_string_pretty(&forecasts).map_err(|error| error.to_string())?);
        }
        let passes = forecasts.iter().all(|forecast| forecast.prediction.verdict == Some(Verdict::Passed));
        Ok(ExitCode::from(if passes { 0 } else { WOULD_NOT_PASS }))
    }

    fn copy(&self) -> Result<Copy, String> {
        if let Some(path) = &self.from {
            let said = |error: String| format!("{}: {error}", path.display());
            return Copy::read(&std::fs::read_to_string(path).map_err(|error| said(error.to_string()))?).map_err(said);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let copy = runtime.block_on(self.take())?;
        if let Some(path) = &self.save {
            let json = serde_json::to_string_pretty(&copy).map_err(|error| error.to_string())?;
            std::fs::write(path, json + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(copy)
    }

    /// Copies the fleet, reading only.
    async fn take(&self) -> Result<Copy, String> {
        let network: Arc<dyn Network> =
            Arc::new(Internet::new().map_err(|error| format!("the machine's certificates cannot be read: {error}"))?);
        let file = kubeconfig(self.kubeconfig.as_deref())?;
        let hub = cluster(&file, self.hub.as_deref(), &network, &Clock::Wall).await?;
        let seam = Seam::new(Clock::Wall, Arc::clone(&network), u64::from(std::process::id()));
        let mut ways = BTreeMap::new();
        for text in &self.via {
            let (name, context) = text.split_once('=').unwrap_or((text, text));
            ways.insert(name.to_owned(), cluster(&file, Some(context), &network, &Clock::Wall).await?);
        }
        Copy::take(&Fleet::new(hub, &self.namespace, seam, Counters::default()), self.plan.as_deref(), ways).await
    }
}

fn show(forecast: &Forecast, whole: bool) {
    let Prediction { taken, verdict, reasons, time_to_healthy, phases, busiest, not_modelled } = &forecast.prediction;
    let width = columns().max(40);
    let options = textwrap::Options::new(width).subsequent_indent("      ");
    let line = |text: &str| anstream::println!("{}", textwrap::fill(text, &options));
    let fact = |name: &str, value: &str| line(&format!("  {name:<26}{value}"));
    let verdict = verdict.map_or_else(|| "no end".to_owned(), |verdict| format!("{verdict:?}"));
    line(&format!("Predicted without {}: {verdict}: {}", forecast.region, reasons.join("; ")));
    line(&format!(
        "From a copy of plan {} and its fleet of {}. Nothing was touched.",
        forecast.plan,
        taken.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    ));
    line("");
    let objective = forecast.objective.as_ref().map(|objective| format!(" (objective {objective})")).unwrap_or_default();
    fact("time to healthy", &format!("{}{objective}", time_to_healthy.as_deref().unwrap_or("never")));
    for took in phases {
        fact(&took.phase, &took.took);
    }
    if let Some(busy) = busiest {
        fact("worst utilisation", &format!("{}: {} % of the users a Ready pod has there today", busy.region, busy.percent));
    }
    for (region, [before, most]) in &forecast.pods {
        fact(&format!("pods in {region}"), &format!("{before} today, at most {most}"));
    }
    if whole && !forecast.report.timeline.is_empty() {
        line("");
        let said = text(&forecast.report, width);
        let from = said.find("What happened").unwrap_or(said.len());
        anstream::print!("{}", said.get(from..).unwrap_or_default());
    } else {
        for finding in &forecast.findings {
            line(&format!(
                "  {:?}: {}: {} {} {} {}",
                finding.severity, finding.check, finding.region, finding.object, finding.message, finding.remedy
            ));
        }
    }
    line("");
    line("Not modelled");
    for gap in not_modelled {
        line(&format!("  {gap}"));
    }
    line("");
}
