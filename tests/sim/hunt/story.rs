//! A story: a fleet, a drill in it, and everything that happens to them. All of it follows from a seed, and all of it can be written down.

use super::BOUND;
use firedrill::api::WorkloadKind;
use firedrill::cli::layout::Layout;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a run is made of. A found bug is kept as one of these, not as a seed: seeds mean something else when the generator changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Of uids, latencies and faults of calls.
    pub seed: u64,
    /// How many regions.
    pub regions: usize,
    /// Weights of the routes, a list each.
    pub routes: Vec<Vec<u64>>,
    /// What must run once, at the region that is evacuated.
    pub singletons: Vec<WorkloadKind>,
    /// Whether nodes are tainted.
    pub cordon: bool,
    /// For how many seconds calls fail now and then.
    pub storm: u64,
    /// What happens, in order.
    pub events: Vec<Event>,
    /// Whether a second drill is applied at the same moment: only one of them may act.
    #[serde(default)]
    pub twice: bool,
    /// Whether nothing tells where users go.
    #[serde(default)]
    pub unseen: bool,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// How long after the one before, in milliseconds.
    pub after: u64,
    /// What.
    pub what: What,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// The operator is killed, and another is started.
    Kill,
    /// A second instance is started beside it.
    Second,
    /// One server is cut off from the newest instance for so many milliseconds; 0 is the hub. `deaf`: it still hears, and is not heard.
    Cut {
        server: usize,
        millis: u64,
        #[serde(default)]
        deaf: bool,
    },
    /// The newest instance is cut off from everything, as if it were stopped.
    Pause { millis: u64 },
    /// A person's order.
    Order(Order),
    /// Somebody sets the weight of the first backend of a route.
    Weight { route: usize, weight: u64 },
    /// An owner's tool puts an autoscaler's minimum back, and strips what it does not know.
    Revert { region: usize },
    /// The gate's query answers so for so many milliseconds.
    Gate { says: Says, millis: u64 },
    /// A rollout begins in a region.
    Rollout { region: usize },
    /// History is compacted: every watch ends with 410.
    Compact { server: usize },
    /// A node falls silent for so many milliseconds.
    Node { region: usize, millis: u64 },
    /// A rollout whose pods never become Ready; rolled back after so many milliseconds.
    BadRollout { region: usize, millis: u64 },
    /// A survivor dies: nobody reaches it, and nothing runs there, for so many milliseconds.
    Dies { region: usize, millis: u64 },
    /// Somebody deletes an object, and puts it there again after so many milliseconds.
    Gone { object: Lost, millis: u64 },
    /// For so many milliseconds the drill's status is of a newer version's format.
    Newer { millis: u64 },
}

/// What somebody deletes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Lost {
    Plan,
    Route,
    Region,
    Secret,
    /// Of a region, with all that firedrill keeps there.
    Namespace,
}

/// A person's order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    Abort,
    Failback,
    Pause,
    Run,
    Delete,
}

/// What the gate's query answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Says {
    Red,
    Nothing,
    NotANumber,
    Several,
}

impl Story {
    /// The story of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x0f1d_0f1d);
        let regions = random.usize(2..=6);
        let weights = |random: &mut fastrand::Rng| (0..regions).map(|_| random.u64(1..=60)).collect();
        let routes = (0..random.usize(1..=3)).map(|_| weights(&mut random)).collect();
        let kinds = [WorkloadKind::CronJob, WorkloadKind::Deployment, WorkloadKind::StatefulSet];
        let singletons = if random.u32(0..4) == 0 { vec![kinds[random.usize(0..3)]] } else { Vec::new() };
        let events = (0..random.usize(0..7)).map(|_| Event::any(&mut random, regions)).collect();
        Self {
            seed,
            regions,
            routes,
            singletons,
            cordon: random.bool(),
            storm: if random.bool() { 0 } else { random.u64(1..120) },
            events,
            twice: random.u32(0..8) == 0,
            unseen: random.u32(0..8) == 0,
        }
    }

    /// The names of its regions; the first is evacuated.
    pub fn names(&self) -> Vec<String> {
        (0..self.regions).map(|index| format!("region-{}", char::from(b'a' + u8::try_from(index).unwrap()))).collect()
    }

    /// What stands in its fleet.
    pub fn layout(&self) -> Layout {
        let names = self.names();
        let routes: Vec<(String, Vec<u64>)> =
            self.routes.iter().enumerate().map(|(index, weights)| (format!("route-{index}"), weights.clone())).collect();
        let mut layout = Layout::fleet(&names, &routes);
        for kind in &self.singletons {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            layout.lead(*kind, &format!("{kind:?}").to_lowercase(), &names);
        }
        if let (true, Some((_, plan))) =
            (self.cordon, layout.objects.iter_mut().find(|(_, object)| object["kind"] == "EvacuationPlan"))
        {
            json_patch::merge(plan, &json!({"spec": {"cordon": "Nodes"}}));
        }
        for (_, route) in layout.objects.iter_mut().filter(|(_, object)| self.unseen && object["kind"] == "TrafficRoute") {
            json_patch::merge(route, &json!({"spec": {"confirm": null}}));
        }
        layout
    }

    /// Whether somebody else changes what a drill writes: then values may end as theirs.
    pub fn has_hands(&self) -> bool {
        self.events.iter().any(|event| {
            matches!(event.what, What::Weight { .. } | What::Revert { .. } | What::Rollout { .. } | What::BadRollout { .. })
        })
    }
}

impl Event {
    fn any(random: &mut fastrand::Rng, regions: usize) -> Self {
        let millis = random.u64(100..40_000);
        let what = match random.u32(0..19) {
            0 | 1 => What::Kill,
            2 => What::Second,
            3 | 4 => What::Cut { server: random.usize(0..=regions), millis, deaf: millis.is_multiple_of(3) },
            5 => What::Pause { millis },
            6 => What::Order(Order::Abort),
            7 => What::Order([Order::Failback, Order::Delete][random.usize(0..2)]),
            8 => What::Order([Order::Pause, Order::Run][random.usize(0..2)]),
            9 => What::Weight { route: random.usize(0..3), weight: random.u64(0..100) },
            10 => What::Revert { region: random.usize(0..regions) },
            11 => {
                let says = [Says::Red, Says::Nothing, Says::NotANumber, Says::Several];
                What::Gate { says: says[random.usize(0..4)], millis }
            }
            12 => What::Rollout { region: random.usize(0..regions) },
            13 => What::Compact { server: random.usize(0..=regions) },
            14 => What::Node { region: random.usize(0..regions), millis: millis * 20 },
            15 => What::BadRollout { region: random.usize(0..regions), millis },
            // Now and then for longer than a drill may take.
            16 => What::Dies {
                region: random.usize(1..regions),
                millis: if millis.is_multiple_of(8) { u64::try_from(BOUND + 5).unwrap() * 60_000 } else { millis * 10 },
            },
            17 => What::Newer { millis },
            _ => {
                let lost = [Lost::Plan, Lost::Route, Lost::Region, Lost::Secret, Lost::Namespace];
                What::Gone { object: lost[random.usize(0..5)], millis }
            }
        };
        Self { after: random.u64(0..20_000), what }
    }
}
