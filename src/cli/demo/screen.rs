use crate::api::{DrillStatus, Phase};
use crate::cli::embedded::Embedded;
use crate::decide::go_duration;
use crate::report::bar;
use crate::terms::{Json, Timestamp};
use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// The drill as it goes on: redrawn in place on a terminal, a line for each change elsewhere.
pub(super) struct Screen {
    rows: Option<Rows>,
    last: String,
    begun: Timestamp,
    watch: std::time::Instant,
}

struct Rows {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
    colour: bool,
}

impl Screen {
    /// A screen for so many regions; `quiet` shows nothing.
    #[expect(clippy::disallowed_methods, reason = "the reader's own time, shown beside the fleet's; nothing is decided by it")]
    pub fn new(fleet: &Embedded, quiet: bool) -> Self {
        let live = std::io::stdout().is_terminal() && !quiet;
        let rows = live.then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            // The head, a row for each region, the gates, what is waited for.
            let bars = (0..fleet.servers.len() + 2).map(|_| all.add(ProgressBar::new(1).with_style(style.clone()))).collect();
            let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
            Rows { all, bars, colour }
        });
        Self { rows, last: String::new(), begun: fleet.clock.now(), watch: std::time::Instant::now() }
    }

    /// Whether it is redrawn in place.
    pub fn is_live(&self) -> bool {
        self.rows.is_some()
    }

    /// Something that was done to the fleet.
    pub fn strike(&self, fleet: &Embedded, what: &str) {
        let line = format!("{:>7}  {:<10}  {what}", self.passed(fleet), "!");
        match &self.rows {
            Some(rows) => drop(rows.all.println(line)),
            None => anstream::println!("{line}"),
        }
    }

    /// The drill as it stands.
    pub fn show(&mut self, fleet: &Embedded, region: &str, status: &DrillStatus) {
        let phase = format!("{:?}", status.phase);
        let Some(rows) = &self.rows else {
            if status.message != self.last {
                let cells: Vec<String> =
                    shares(fleet).iter().map(|(region, percent)| format!("{region} {percent:>3.0} %")).collect();
                anstream::println!("{:>7}  {phase:<10}  [{}]  {}", self.passed(fleet), cells.join(" | "), status.message);
                self.last.clone_from(&status.message);
            }
            return;
        };
        let paint = |style: Style, text: String| if rows.colour { format!("{style}{text}{style:#}") } else { text };
        let head = format!(
            "{} of the fleet's time, {:.0?} of yours",
            self.passed(fleet),
            Duration::from_secs(self.watch.elapsed().as_secs())
        );
        let mut lines = vec![format!("{}  {head}", paint(colour(status.phase).bold(), format!("{phase:<10}")))];
        for (name, percent) in &shares(fleet) {
            let leaves = if name == region { "  evacuated" } else { "" };
            let style = Style::new().fg_color(Some(if name == region { AnsiColor::Yellow } else { AnsiColor::Green }.into()));
            lines.push(format!("  {name:<14} {} {percent:>3.0} % of users{leaves}", paint(style, bar(*percent))));
        }
        lines.push(format!("  {}", gates(fleet)));
        lines.push(format!("  {}", status.message));
        for (row, line) in rows.bars.iter().zip(lines) {
            row.set_message(line);
            row.tick();
        }
    }

    /// Clears what was redrawn; what follows stands in its place.
    pub fn close(self) {
        if let Some(rows) = self.rows {
            let _ = rows.all.clear();
        }
    }

    fn passed(&self, fleet: &Embedded) -> String {
        go_duration((fleet.clock.now() - self.begun).to_std().unwrap_or_default())
    }
}

fn colour(phase: Phase) -> Style {
    let colour = match phase {
        Phase::Pending | Phase::Checking => AnsiColor::BrightBlack,
        Phase::Evacuating => AnsiColor::Yellow,
        Phase::Evacuated => AnsiColor::Magenta,
        Phase::Returning => AnsiColor::Cyan,
        Phase::Done => AnsiColor::Green,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// Each region's share of users by the weights of all routes, in percent.
fn shares(fleet: &Embedded) -> Vec<(String, f64)> {
    let Ok(hub) = fleet.server("hub") else { return Vec::new() };
    let routes = hub.list("TrafficRoute", "");
    let regions = fleet.servers.keys().filter(|name| *name != "hub");
    let weights = |region: Option<&str>| -> f64 {
        let of = |route: &Json| {
            let text = |pointer: &str| route.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned();
            let http = hub.get("HTTPRoute", &text("/metadata/namespace"), &text("/spec/httpRoute/name")).unwrap_or_default();
            let list =
                |object: &Json, pointer: &str| object.pointer(pointer).and_then(Json::as_array).cloned().unwrap_or_default();
            let names: Vec<Json> = list(route, "/spec/backends")
                .into_iter()
                .filter(|backend| region.is_none_or(|region| backend.get("region").is_some_and(|name| name == region)))
                .filter_map(|backend| backend.get("name").cloned())
                .collect();
            let references = list(&http, "/spec/rules/0/backendRefs");
            let chosen = references.iter().filter(|reference| reference.get("name").is_some_and(|name| names.contains(name)));
            chosen.map(|reference| reference.get("weight").and_then(Json::as_f64).unwrap_or(1.0)).sum::<f64>()
        };
        routes.iter().map(of).sum()
    };
    let all = weights(None).max(1.0);
    regions.map(|region| (region.clone(), weights(Some(region)) * 100.0 / all)).collect()
}

/// Every gate of the plan with what its query answers now.
fn gates(fleet: &Embedded) -> String {
    let Ok(hub) = fleet.server("hub") else { return String::new() };
    let plan = hub.list("EvacuationPlan", "").into_iter().next().unwrap_or_default();
    let gates = plan.pointer("/spec/gates").and_then(Json::as_array).cloned().unwrap_or_default();
    let said = gates.iter().map(|gate| {
        let text = |key: &str| gate.get(key).and_then(Json::as_str).unwrap_or_default();
        let query = crate::probe::prometheus::encode(text("query"));
        let (_, body) = fleet.prometheus.answer(&format!("/api/v1/query?query={query}"));
        let answer: Json = serde_json::from_slice(&body).unwrap_or_default();
        let value = answer.pointer("/data/result/0/value/1").and_then(Json::as_str).unwrap_or("no data");
        let bound = if text("max").is_empty() { format!("at least {}", text("min")) } else { format!("at most {}", text("max")) };
        format!("gate {} {value} ({bound})", text("name"))
    });
    said.collect::<Vec<_>>().join(", ")
}
