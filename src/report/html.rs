use super::{Report, clock};
use crate::api::Verdict;
use crate::terms::Timestamp;
use askama::Template;
use std::fmt::Write as _;

/// The plot's size and margins, in the units of its own drawing.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 26.0;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    plot: Option<Plot>,
    good: bool,
    bad: bool,
}

/// How much of the region's users was elsewhere, over time.
struct Plot {
    bands: Vec<Band>,
    line: String,
    area: String,
    ticks: Vec<(f64, String)>,
    levels: Vec<(f64, u32)>,
    marks: Vec<(f64, String)>,
}

/// A phase behind the line.
struct Band {
    x: f64,
    width: f64,
    phase: &'static str,
    took: String,
}

/// The report as a page of its own: no scripts, nothing fetched, light and dark as the reader's system is.
///
/// # Errors
/// What the template engine says; a report that it cannot fill in is a bug.
pub fn html(report: &Report) -> Result<String, String> {
    let good = report.verdict == Some(Verdict::Passed);
    let bad = matches!(report.verdict, Some(verdict) if verdict != Verdict::Passed);
    let plot = if report.is_check() { None } else { plot(report) };
    Page { report, plot, good, bad }.render().map_err(|error| error.to_string())
}

fn plot(report: &Report) -> Option<Plot> {
    let (first, last) = (report.timeline.first()?.at, report.timeline.last()?.at);
    let begun = report.phases.first().map_or(first, |took| took.from).min(first);
    let seconds = |at: Timestamp| {
        #[expect(clippy::cast_precision_loss, reason = "a drill takes hours at most")]
        let passed = (at - begun).num_milliseconds() as f64 / 1000.0;
        passed
    };
    let span = seconds(last).max(1.0);
    let x = |at: Timestamp| LEFT + seconds(at).clamp(0.0, span) / span * (WIDTH - LEFT - 8.0);
    let y = |percent: u32| TOP + (1.0 - f64::from(percent) / 100.0) * (HEIGHT - TOP - BOTTOM);
    let mut line = format!("M {:.1} {:.1}", x(begun), y(0));
    for moment in &report.timeline {
        let _ = write!(line, " H {:.1} V {:.1}", x(moment.at), y(moment.moved_percent));
    }
    let area = format!("{line} V {:.1} H {:.1} Z", y(0), x(begun));
    let bands = report.phases.iter().map(|took| Band {
        x: x(took.from),
        width: (x(took.to.unwrap_or(last)) - x(took.from)).max(0.0),
        phase: took.phase,
        took: took.took.clone(),
    });
    let ticks = (0..=6).map(|number| {
        let at = begun + chrono::TimeDelta::milliseconds((last - begun).num_milliseconds() * number / 6);
        (x(at), clock(at))
    });
    let marks =
        report.timeline.iter().filter(|moment| moment.what.starts_with("holds") || moment.what.starts_with("users are healthy"));
    let marks = marks.map(|moment| (x(moment.at), format!("{} {}", clock(moment.at), moment.what))).collect();
    Some(Plot {
        bands: bands.collect(),
        line,
        area,
        ticks: ticks.collect(),
        levels: [0, 50, 100].into_iter().map(|percent| (y(percent), percent)).collect(),
        marks,
    })
}
