//! The embedded fleet that simulated drills run on, and what is watched there.

use crate::base;
use firedrill::api::{DrillStatus, Level, Phase};
use firedrill::cli::embedded::{Embedded, NAMESPACE};
use firedrill::seam::Clock;
use firedrill::sim::physics::Pace;
use firedrill::sim::{Call, End, Fate, Fates};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const DRILL: &str = "test";

pub fn pace() -> Pace {
    Pace { ready_after: Duration::from_secs(1), scaled_after: Duration::from_secs(1), ..Pace::default() }
}

pub fn seeds(count: u64) -> Range<u64> {
    let Ok(text) = std::env::var("FIREDRILL_SEEDS") else { return 0..count };
    let (from, to) = text.split_once("..").expect("FIREDRILL_SEEDS is a..b");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// A fleet whose regions are known to a first, calm operator, which is stopped again.
pub struct World {
    pub fleet: Embedded,
    pub before: BTreeMap<String, Value>,
}

impl World {
    pub async fn new(seed: u64) -> Self {
        Self::at(seed, &pace()).await
    }

    /// A fleet at another pace.
    pub async fn at(seed: u64, pace: &Pace) -> Self {
        let mut fleet = Embedded::new(seed, base()).unwrap();
        fleet.hurry().unwrap();
        fleet.start(pace);
        let first = fleet.operator("first", &Fates::calm());
        tokio::time::sleep(Duration::from_secs(10)).await;
        first.stop().await;
        let before = fleet.snapshot();
        Self { fleet, before }
    }

    pub fn status(&self) -> DrillStatus {
        let drill = self.fleet.server("hub").unwrap().get("Drill", "", DRILL).unwrap_or_default();
        serde_json::from_value(drill.get("status").cloned().unwrap_or_default()).unwrap_or_default()
    }

    pub async fn until(&self, what: &str, wanted: impl Fn(&DrillStatus) -> bool) -> DrillStatus {
        let end = self.fleet.clock.now() + chrono::TimeDelta::minutes(45);
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(self.fleet.clock.now() < end, "{what} did not come about: {status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until more than so many percent of the region's share have been moved.
    pub async fn moved_beyond(&self, percent: u32) -> DrillStatus {
        let beyond = |level: Level| level.moved_percent > percent;
        self.until("the shift", |status| status.steps.iter().any(|step| step.level.is_some_and(beyond))).await
    }

    pub async fn done(&self) -> DrillStatus {
        self.until("the end", |status| status.phase == Phase::Done).await
    }

    /// Nothing of the drill is left, and every object is as it was.
    pub fn assert_restored(&self, context: &str) {
        let after = self.fleet.snapshot();
        for (key, object) in &self.before {
            assert_eq!(after.get(key), Some(object), "{context}: {key} is not as it was");
        }
        for (name, server) in &self.fleet.servers {
            for (key, object) in server.dump() {
                let own = key.contains("firedrill.dev") || (name == "hub" && key.starts_with("configmaps/"));
                let text = object["metadata"].to_string();
                assert!(own || !text.contains("firedrill.dev/claim"), "{context}: {name} {key} still has a claim: {text}");
                assert!(
                    name == "hub" || !key.starts_with(&format!("configmaps/{NAMESPACE}/")),
                    "{context}: {name} {key} is left"
                );
            }
        }
    }

    /// After every write of a route each share lies between baseline and target within one unit, and nothing is lost or made.
    pub fn watch_shares(&self) -> tokio::task::JoinHandle<()> {
        let hub = self.fleet.server("hub").unwrap().clone();
        tokio::spawn(async move {
            let mut changes = hub.changes();
            loop {
                changes.changed().await;
                for route in ["checkout", "shop"] {
                    let object = hub.get("HTTPRoute", "shop", route).unwrap();
                    let references = object["spec"]["rules"][0]["backendRefs"].as_array().unwrap();
                    let weights: Vec<u64> = references.iter().map(|reference| reference["weight"].as_u64().unwrap()).collect();
                    let total: u64 = weights.iter().sum();
                    assert!(total.is_multiple_of(100), "{route}: {weights:?}");
                    let factor = total / 100;
                    assert!(weights[0] <= 34 * factor, "{route}: {weights:?}");
                    assert!(weights[1..].iter().all(|weight| *weight >= 33 * factor), "{route}: {weights:?}");
                }
            }
        })
    }
}

pub fn test<F: Future<Output = ()>>(body: F) {
    crate::run(body);
}

/// Whether a call is a write of a drill: neither a dry run nor the leader's lease.
pub fn writes(call: &Call) -> bool {
    !matches!(call.verb, "get" | "list" | "watch") && !call.dry_run && !call.path.contains("/leases/firedrill")
}

/// Counts the writes of an instance and does something to one of them.
pub fn at_write(number: u64, end: End) -> (Fates, Arc<Mutex<u64>>) {
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let fates = Fates::new(move |call| {
        let mut end_now = End::Deliver;
        if writes(call) {
            let mut count = counted.lock().unwrap();
            if *count == number {
                end_now = end.clone();
            }
            *count += 1;
        }
        Fate { before: Duration::from_millis(1), after: Duration::from_millis(1), end: end_now }
    });
    (fates, count)
}

/// Faults of every kind for the first minutes; then the network is calm.
pub fn stormy(seed: u64, until: chrono::DateTime<chrono::Utc>, clock: &Clock) -> Fates {
    let mut random = fastrand::Rng::with_seed(seed);
    let clock = clock.clone();
    Fates::new(move |_| {
        let mut fate = Fate {
            before: Duration::from_millis(random.u64(0..40)),
            after: Duration::from_millis(random.u64(0..40)),
            end: End::Deliver,
        };
        if clock.now() < until {
            match random.u32(0..100) {
                0..2 => fate.end = End::Refuse(503, "ServiceUnavailable"),
                2 => fate.end = End::LoseAnswer,
                3 => fate.end = End::Break,
                4 => fate.end = End::Lost,
                // Later than any time-out: a write that lands when nobody waits for it any more.
                5 => fate.before = Duration::from_secs(random.u64(5..20)),
                _ => {}
            }
        }
        fate
    })
}
