//! How many fault-free drills of the embedded three-region shop one core simulates in a second: `cargo bench`.
//! Each is whole: the fleet is made, the shipped operator drills it, every object is compared with what it was. Rates on shared
//! machines drift: compare those of one run.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use firedrill::cli::embedded::Embedded;
use firedrill::sim::Fates;
use firedrill::sim::physics::Pace;
use std::time::{Duration, Instant};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What one drill took.
struct Run {
    virtual_time: Duration,
    requests: usize,
}

fn main() {
    for (what, hurried, count) in [("hurried, as tests do it", true, 40), ("at the demo's pace", false, 10)] {
        // Once before the clock runs.
        drill(0, hurried);
        let begun = Instant::now();
        let runs: Vec<Run> = (1..=count).map(|seed| drill(seed, hurried)).collect();
        let took = begun.elapsed();
        let requests: usize = runs.iter().map(|run| run.requests).sum();
        let virtual_time: Duration = runs.iter().map(|run| run.virtual_time).sum();
        let seconds = took.as_secs_f64();
        println!(
            "{what}: {:.1} drills/s, {:.0} requests/s ({} requests and {:.0} s of virtual time a drill), {:.0} times real time",
            f64::from(u32::try_from(count).unwrap()) / seconds,
            f64::from(u32::try_from(requests).unwrap()) / seconds,
            requests / runs.len(),
            virtual_time.as_secs_f64() / f64::from(u32::try_from(count).unwrap()),
            virtual_time.as_secs_f64() / seconds
        );
    }
}

fn drill(seed: u64, hurried: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut fleet = Embedded::new(seed, "2026-11-23T08:00:00Z".parse().unwrap()).unwrap();
        if hurried {
            fleet.hurry().unwrap();
        }
        fleet.start(&Pace::default());
        let instance = fleet.operator("bench", &Fates::calm());
        tokio::time::sleep(Duration::from_secs(15)).await;
        let (before, begun) = (fleet.snapshot(), fleet.clock.now());
        fleet.drill("bench", "eu-west").unwrap();
        let hub = fleet.server("hub").unwrap();
        let mut changes = hub.changes();
        loop {
            let drill = hub.get("Drill", "", "bench").unwrap();
            if drill["status"]["phase"] == "Done" {
                assert_eq!(drill["status"]["verdict"], "Passed", "{drill:#}");
                break;
            }
            changes.changed().await;
        }
        let virtual_time = (fleet.clock.now() - begun).to_std().unwrap();
        instance.stop().await;
        assert_eq!(before, fleet.snapshot(), "something is not as it was before");
        Run { virtual_time, requests: fleet.servers.values().map(|server| server.log().len()).sum() }
    })
}
