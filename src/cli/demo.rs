use super::embedded::{Embedded, REGIONS};
use crate::api::{Direction, DrillStatus, Phase, StepState, Verdict};
use crate::report;
use crate::sim::Fates;
use crate::sim::physics::Pace;
use crate::terms::{Json, Timestamp};
use anstyle::{AnsiColor, Style};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

const DRILL: &str = "shop-eu-west-demo";
/// The demo ends after this much virtual time, whatever happens.
const LIMIT: Duration = Duration::from_hours(2);

/// Evacuate a region of an embedded fleet and show it.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// The seed that everything in the embedded fleet follows from: the same seed shows the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The region that is evacuated.
    #[arg(long, default_value = "eu-west", value_parser = REGIONS)]
    region: String,
    /// `json` prints the drill's last status instead.
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| format!("the runtime does not start: {error}"))?;
        runtime.block_on(self.show())
    }

    async fn show(self) -> Result<ExitCode, String> {
        let text = self.output == "text";
        // A fixed day, so that the same seed shows the same run.
        let base = Timestamp::from_timestamp(1_796_720_400, 0).ok_or("no such day")?;
        let mut fleet = Embedded::new(self.seed, base)?;
        fleet.prometheus.lag(Duration::from_secs(5));
        fleet.start(&Pace::default());
        if text {
            anstream::println!("An embedded fleet of three regions serves a shop; {} is evacuated and comes back.", self.region);
            anstream::println!("Time is the fleet's own: it passes as fast as this machine decides.\n");
        }
        let latency = Fates::latency(fastrand::Rng::with_seed(self.seed), Duration::from_millis(2)..=Duration::from_millis(20));
        let instance = fleet.operator("demo", &latency);
        // The shop is up and every region known before anybody drills.
        tokio::time::sleep(Duration::from_mins(1)).await;
        let before = fleet.snapshot();
        fleet.drill(DRILL, &self.region)?;
        let status = self.follow(&fleet, text).await?;
        instance.stop().await;
        let changed = differences(&before, &fleet.snapshot());
        if text {
            summary(&self.region, &status, &fleet, &changed);
        } else {
            let json = serde_json::to_string_pretty(&status).map_err(|error| error.to_string())?;
            anstream::println!("{json}");
        }
        let well = status.verdict == Some(Verdict::Passed) && changed.is_empty();
        Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn follow(&self, fleet: &Embedded, text: bool) -> Result<DrillStatus, String> {
        let begun = fleet.clock.now();
        let live = std::io::stdout().is_terminal();
        let mut last = String::new();
        loop {
            let drill = fleet.server("hub")?.get("Drill", "", DRILL).unwrap_or_default();
            let status: DrillStatus =
                serde_json::from_value(drill.get("status").cloned().unwrap_or_default()).unwrap_or_default();
            let line = report::line(&status);
            if text && line != last {
                let passed = (fleet.clock.now() - begun).to_std().unwrap_or_default();
                let style = color(status.phase);
                anstream::println!(
                    "{:>7}  {style}{:<10}{style:#}  {}",
                    crate::decide::go_duration(passed),
                    format!("{:?}", status.phase),
                    report::bar(&shares(fleet), &line)
                );
                last = line;
                if live {
                    // For the eye only: the fleet's own time does not pass meanwhile.
                    std::thread::sleep(Duration::from_millis(60));
                }
            }
            if status.phase == Phase::Done {
                return Ok(status);
            }
            if (fleet.clock.now() - begun).to_std().unwrap_or_default() > LIMIT {
                return Err(format!(
                    "the drill did not end within {} h of the fleet's time: {}",
                    LIMIT.as_secs() / 3600,
                    status.message
                ));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

fn color(phase: Phase) -> Style {
    let color = match phase {
        Phase::Pending | Phase::Checking => AnsiColor::BrightBlack,
        Phase::Evacuating => AnsiColor::Yellow,
        Phase::Evacuated => AnsiColor::Magenta,
        Phase::Returning => AnsiColor::Cyan,
        Phase::Done => AnsiColor::Green,
    };
    Style::new().fg_color(Some(color.into()))
}

/// Each region's share of the shop's route by its weights, in percent.
fn shares(fleet: &Embedded) -> Vec<(String, u64)> {
    let route = fleet.server("hub").ok().and_then(|hub| hub.get("HTTPRoute", "shop", "shop")).unwrap_or_default();
    let references = route.pointer("/spec/rules/0/backendRefs").and_then(Json::as_array).cloned().unwrap_or_default();
    let weight = |reference: &Json| reference.get("weight").and_then(Json::as_u64).unwrap_or(1);
    let total: u64 = references.iter().map(weight).sum::<u64>().max(1);
    REGIONS.iter().zip(&references).map(|(region, reference)| ((*region).to_owned(), weight(reference) * 100 / total)).collect()
}

fn differences(before: &BTreeMap<String, Json>, after: &BTreeMap<String, Json>) -> Vec<String> {
    before.iter().filter(|(key, object)| after.get(*key) != Some(object)).map(|(key, _)| key.clone()).collect()
}

fn summary(region: &str, status: &DrillStatus, fleet: &Embedded, changed: &[String]) {
    let good = Style::new().fg_color(Some(AnsiColor::Green.into())).bold();
    let bad = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    let passed = status.verdict == Some(Verdict::Passed);
    let style = if passed { good } else { bad };
    let verdict = status.verdict.map_or_else(|| "none".to_owned(), |verdict| format!("{verdict:?}"));
    anstream::println!("\n{style}{verdict}{style:#}: {}\n", status.reasons.join("; "));
    for (name, value) in report::facts(status) {
        anstream::println!("  {name:<28}{value}");
    }
    let steps = status.steps.iter().filter(|step| step.direction == Direction::Back && step.state == StepState::Done).count();
    anstream::println!("  {:<28}{steps} of {}", "steps put back", status.steps.len());
    if changed.is_empty() {
        anstream::println!("  {:<28}{good}every object is as it was before{good:#}", "restored");
    } else {
        anstream::println!("  {:<28}{bad}differs: {}{bad:#}", "restored", changed.join(", "));
    }
    let log: usize = fleet.servers.values().map(|server| server.log().len()).sum();
    let writes = fleet
        .servers
        .values()
        .flat_map(crate::sim::Server::log)
        .filter(|entry| entry.verb == "patch" && !entry.path.contains("firedrill.dev") && !entry.dry_run)
        .count();
    anstream::println!("  {:<28}{log} requests, {writes} of them writes to objects of the shop and its nodes", "API servers saw");
    anstream::println!(
        "\nNext: a drill on real control planes, see README.md; `firedrill demo --region {region} -o json` for machines."
    );
}
