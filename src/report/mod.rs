//! What people read of a drill: plain text from plain data. Pure.

use crate::api::{Basis, DrillStatus};
use crate::terms::Timestamp;
use std::time::Duration;

/// What is going on, in one line without what changes every second.
#[must_use]
pub fn line(status: &DrillStatus) -> String {
    status.message.clone()
}

/// A bar of shares (name and percent), with text behind it.
#[must_use]
pub fn bar(shares: &[(String, u64)], text: &str) -> String {
    let cells: Vec<String> = shares.iter().map(|(region, percent)| format!("{region} {percent:>2} %")).collect();
    format!("[{}]  {text}", cells.join(" | "))
}

/// The facts of a drill as name and value.
#[must_use]
pub fn facts(status: &DrillStatus) -> Vec<(&'static str, String)> {
    let times = &status.times;
    let took = |from: Option<Timestamp>, to: Option<Timestamp>| {
        let passed: Option<Duration> = from.zip(to).and_then(|(from, to)| (to - from).to_std().ok());
        passed.map_or_else(|| "not observed".to_owned(), crate::decide::go_duration)
    };
    let basis = match status.basis {
        Some(Basis::Observed) => "observed",
        Some(Basis::Assumed) => "assumed, not observed",
        None => "not observed",
    };
    vec![
        ("time to healthy", status.time_to_healthy.clone().unwrap_or_else(|| "never healthy".to_owned())),
        ("no users in the region", basis.to_owned()),
        (
            "fewest requests seen",
            status.fewest_requests.map_or_else(|| "none".to_owned(), |count| format!("{count} in a window")),
        ),
        ("evacuating took", took(times.evacuating, times.evacuated)),
        ("evacuated for", took(times.evacuated, times.returning)),
        ("coming back took", took(times.returning, times.done)),
    ]
}
