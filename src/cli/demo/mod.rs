/// What may happen during the demo's drill.
mod scenario;
/// The drill as it goes on.
mod screen;

use super::embedded::Embedded;
use super::layout::Layout;
use crate::api::{Drill, DrillStatus, Phase};
use crate::decide::Contract;
use crate::report::{Report, html, text};
use crate::sim::Fates;
use crate::sim::physics::Pace;
use crate::terms::{Json, Timestamp};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use scenario::{Scenario, Stage};
use screen::Screen;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The demo ends after this much virtual time, whatever happens.
const LIMIT: Duration = Duration::from_hours(6);
/// How often the drill is looked at, in the fleet's time.
const LOOK: Duration = Duration::from_millis(250);
/// How long after a drill singletons are left alone at the latest.
const SETTLED: Duration = Duration::from_mins(3);
/// Seconds of the fleet's time per second of the reader's, on a terminal.
const SPEED: u32 = 60;
/// The command line, or a file that it names, is wrong.
const WRONG: u8 = 2;

/// Evacuate a region of an embedded fleet and show it.
///
/// Exit codes: 0 the drill ended as its scenario says, and everything is as it was before; 1 it did not; 2 the command line or the
/// file is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// What happens during the drill.
    #[arg(long, value_enum, default_value_t = Scenario::Calm)]
    scenario: Scenario,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
    /// The seed that everything in the embedded fleet follows from: the same seed shows the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The region that is evacuated; absent means the file's drill's, or the first.
    #[arg(long)]
    region: Option<String>,
    /// Manifests that the fleet is made from, such as drills/first.yaml; absent means a shop in three regions.
    #[arg(long, conflicts_with = "scenario")]
    file: Option<PathBuf>,
    /// Seconds of the fleet's time per second of yours; absent means 60 on a terminal, and else as fast as the machine is.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    speed: Option<u32>,
    /// Where the report goes as a page; absent means firedrill-demo.html in the folder for temporary files.
    #[arg(long)]
    html: Option<PathBuf>,
    /// `json` prints the report for machines instead.
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        if self.list {
            for scenario in Scenario::value_variants() {
                let Some(value) = scenario.to_possible_value() else { continue };
                let about = value.get_help().map(ToString::to_string).unwrap_or_default();
                anstream::println!("{:<12} {about}", value.get_name());
            }
            return Ok(ExitCode::SUCCESS);
        }
        let layout = match self.layout() {
            Ok(layout) => layout,
            Err(error) => {
                anstream::eprintln!("error: {error}");
                return Ok(ExitCode::from(WRONG));
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| format!("the runtime does not start: {error}"))?;
        runtime.block_on(self.show(layout))
    }

    /// What stands in the fleet, from the file or as the demo has it.
    fn layout(&self) -> Result<Layout, String> {
        let layout = match &self.file {
            None => Layout::shop(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                Layout::read(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        match &self.region {
            Some(region) if !layout.regions.contains(region) => {
                Err(format!("--region {region}: there are {}", layout.regions.join(", ")))
            }
            _ => Ok(layout),
        }
    }

    async fn show(self, mut layout: Layout) -> Result<ExitCode, String> {
        let human = self.output == "text";
        // A fixed day, so that the same seed shows the same run.
        let base = Timestamp::from_timestamp(1_796_720_400, 0).ok_or("no such day")?;
        let (name, region) = layout.drill.clone().unwrap_or_default();
        let first = layout.regions.first().cloned().unwrap_or_default();
        let region = self.region.clone().unwrap_or(if region.is_empty() { first } else { region });
        let name = if name.is_empty() { format!("shop-{region}-demo") } else { name };
        self.scenario.furnish(&mut layout, &region);
        let mut fleet = Embedded::with(self.seed, base, &layout)?;
        self.scenario.prepare(&fleet, &region)?;
        fleet.edge.delay(Duration::from_secs(5));
        fleet.edge.stragglers(0.05, Duration::from_secs(25));
        fleet.start(&Pace::default());
        if human {
            line(&format!(
                "An embedded fleet of {} regions serves a shop. {region} is evacuated and returns.",
                layout.regions.len()
            ));
            anstream::println!("Time is the fleet's own: it passes as fast as this machine and --speed say.\n");
        }
        let latency = Fates::latency(fastrand::Rng::with_seed(self.seed), Duration::from_millis(2)..=Duration::from_millis(20));
        let mut stage = Stage::start(self.scenario, &fleet, &latency);
        // The shop is up and every region known before anybody drills.
        tokio::time::sleep(Duration::from_mins(1)).await;
        fleet.limit();
        let before = fleet.snapshot();
        let plan = fleet.server("hub")?.list("EvacuationPlan", "").into_iter().next().unwrap_or_default();
        let plan = plan.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default().to_owned();
        fleet.drill_of(&name, &plan, &region)?;
        self.follow(&fleet, &mut stage, &name, &region, human).await?;
        if layout.has_singletons() {
            // A CronJob keeps its claim until its first regular run has passed.
            tokio::time::sleep(SETTLED).await;
        }
        stage.stop().await;
        let changed = differences(&before, &fleet.snapshot());
        let drill: Drill = serde_json::from_value(fleet.server("hub")?.get("Drill", "", &name).unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let report = Report::of(&drill, contract(&fleet, &drill).as_ref());
        let path = self.html.clone().unwrap_or_else(|| std::env::temp_dir().join("firedrill-demo.html"));
        std::fs::write(&path, html(&report)?).map_err(|error| format!("{}: {error}", path.display()))?;
        let as_it_should = report.verdict == Some(self.scenario.verdict());
        if human {
            summary(&report, &fleet, &changed, as_it_should);
            anstream::println!("\nThe same as a page: {}", path.display());
            line("Next: `firedrill demo --list` for what can go wrong, and README.md for a drill on real control planes.");
        } else {
            anstream::println!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?);
        }
        Ok(if as_it_should && changed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn follow(&self, fleet: &Embedded, stage: &mut Stage, name: &str, region: &str, human: bool) -> Result<(), String> {
        let begun = fleet.clock.now();
        let mut screen = Screen::new(fleet, !human);
        let speed = self.speed.or(screen.is_live().then_some(SPEED));
        loop {
            let drill = fleet.server("hub")?.get("Drill", "", name).unwrap_or_default();
            let status: DrillStatus =
                serde_json::from_value(drill.get("status").cloned().unwrap_or_default()).unwrap_or_default();
            if human {
                screen.show(fleet, region, &status);
            }
            if let Some(done) = stage.act(fleet, region, &status).filter(|_| human) {
                screen.strike(fleet, &done);
            }
            if status.phase == Phase::Done {
                screen.close();
                return Ok(());
            }
            if (fleet.clock.now() - begun).to_std().unwrap_or_default() > LIMIT {
                let hours = LIMIT.as_secs() / 3600;
                return Err(format!("the drill did not end within {hours} h of the fleet's time: {}", status.message));
            }
            if let Some(speed) = speed {
                // For the eye only: the fleet's own time does not pass meanwhile.
                std::thread::sleep(LOOK / speed);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The contract that the drill acted by, from the hub.
fn contract(fleet: &Embedded, drill: &Drill) -> Option<Contract> {
    let reference = drill.status.as_ref()?.contract.as_ref()?;
    let map = fleet.server("hub").ok()?.get("ConfigMap", super::embedded::NAMESPACE, &reference.config_map)?;
    let text = map.pointer("/data/contract")?.as_str()?;
    Contract::parse(text, &reference.hash).ok()
}

fn differences(before: &BTreeMap<String, Json>, after: &BTreeMap<String, Json>) -> Vec<String> {
    before.iter().filter(|(key, object)| after.get(*key) != Some(object)).map(|(key, _)| key.clone()).collect()
}

fn summary(report: &Report, fleet: &Embedded, changed: &[String], as_it_should: bool) {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into())).bold();
    let (good, bad) = (colour(AnsiColor::Green), colour(AnsiColor::Red));
    let style = if as_it_should { good } else { bad };
    let said = text(report, super::columns());
    let (headline, rest) = said.split_once(':').unwrap_or((&said, ""));
    anstream::println!("\n{style}{headline}{style:#}:{rest}");
    if changed.is_empty() {
        anstream::println!("{good}Every object is as it was before.{good:#}");
    } else {
        anstream::println!("{bad}Not as before: {}{bad:#}", changed.join(", "));
    }
    let log: usize = fleet.servers.values().map(|server| server.log().len()).sum();
    let writes = fleet
        .servers
        .values()
        .flat_map(crate::sim::Server::log)
        .filter(|entry| entry.verb == "patch" && !entry.path.contains("firedrill.dev") && !entry.dry_run)
        .count();
    line(&format!("API servers saw {log} requests, {writes} of them writes to objects of the shop and its nodes."));
}

/// Prints prose as wide as the terminal is.
fn line(text: &str) {
    anstream::println!("{}", textwrap::fill(text, super::columns()));
}
