//! The hunt: random fleets, drills, faults, orders and hands. After every change what must hold is held against what is true, and
//! what breaks is shrunk to the fewest events that still break it.
//!
//! `FIREDRILL_SEEDS=a..b` chooses the seeds, `FIREDRILL_FRESH` (eight hex digits, such as of a commit) adds fifty of its own;
//! `FIREDRILL_STORY=file` replays one story.

mod eyes;
mod planted;
mod story;

use crate::base;
use crate::world::{DRILL, pace, seeds, stormy};
use eyes::Eyes;
use firedrill::api::{Basis, DrillStatus, Phase, Verdict};
use firedrill::cli::embedded::{Embedded, Instance, NAMESPACE};
use firedrill::sim::{Pace, Sample};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use story::{Event, Lost, Order, Says, Story, What};

/// The drill that is applied beside the first, where there is one.
const SECOND: &str = "second";
/// The query of the plan's gate.
const ERRORS: &str = "error_ratio";
/// An image whose pods never become Ready.
const BAD: &str = "bad";
/// How long a drill may take at most: its deadline, a bounded way back, and what holds of persons add.
const BOUND: i64 = 60;

/// Since when something is so, if it is.
type Since = Arc<Mutex<Option<chrono::DateTime<chrono::Utc>>>>;

/// Does something to every instance that is started: a bug at the seam.
type Plant = dyn Fn(&Embedded, &Instance);

/// One run of a story.
struct Run<'a> {
    story: &'a Story,
    fleet: Embedded,
    plant: &'a Plant,
    instances: Vec<Instance>,
    /// What the gate truly answers, and since when it is not green.
    gate: Since,
    /// Since when the drill's status is of a format that only a newer version knows.
    newer: Since,
    /// What persons set, by route: they keep it.
    hands: BTreeMap<String, u64>,
    two: Option<String>,
}

/// Runs a story; the servers' traces as one hash, or what broke.
fn tell(story: &Story, plant: &Plant) -> Result<String, String> {
    let mut outcome = Err("it did not run".to_owned());
    crate::run(async { outcome = Run::through(story, plant).await });
    outcome
}

impl<'a> Run<'a> {
    async fn through(story: &'a Story, plant: &'a Plant) -> Result<String, String> {
        let mut fleet = Embedded::with(story.seed, base(), &story.layout())?;
        fleet.hurry()?;
        fleet.start(&Pace { images: BTreeMap::from([(BAD.to_owned(), Duration::MAX)]), ..pace() });
        let first = fleet.operator("first", &firedrill::sim::Fates::calm());
        tokio::time::sleep(Duration::from_secs(15)).await;
        first.stop().await;
        let before = fleet.snapshot();
        let (gate, newer) = (Since::default(), Since::default());
        let has_weights = story.events.iter().any(|event| matches!(event.what, What::Weight { .. }));
        // A look each half second and a call; of a stormy network some arrive twenty seconds later.
        let is_calm = story.storm == 0
            && !story
                .events
                .iter()
                .any(|event| matches!(event.what, What::Kill | What::Second | What::Cut { .. } | What::Pause { .. }));
        let eyes = Eyes::on(&fleet, has_weights, chrono::TimeDelta::seconds(if is_calm { 2 } else { 60 }), &gate, &newer);
        let mut run = Self { story, fleet, plant, instances: Vec::new(), gate, newer, hands: BTreeMap::new(), two: None };
        run.begin("a0", story.storm);
        run.fleet.drill(DRILL, &story.names()[0])?;
        if story.twice {
            run.fleet.drill(SECOND, &story.names()[0])?;
        }
        for (number, event) in story.events.iter().enumerate() {
            run.pass(event.after).await;
            run.happen(number, event).await?;
        }
        let ended = run.end().await;
        // What is under way lands, the sweep looks twice, singletons are home and a CronJob has had its regular run.
        run.pass(300_000).await;
        let seen = eyes.broken();
        if let Some(first) = seen.first() {
            return Err(format!("{} times what must not be, first: {first}", seen.len()));
        }
        let ended = ended?;
        if std::env::var_os("FIREDRILL_STORY").is_some() {
            for status in &ended {
                println!("ended: {:?}: {} {:?}", status.verdict, status.message, status.findings);
            }
        }
        run.judge(&before, &ended, &eyes)?;
        if let Some(two) = run.two.take() {
            return Err(two);
        }
        Ok(run.fleet.servers.values().map(firedrill::sim::Server::log_hash).collect::<Vec<_>>().join(" "))
    }

    fn begin(&mut self, identity: &str, storm: u64) {
        let calm = self.fleet.clock.now() + chrono::TimeDelta::seconds(i64::try_from(storm).unwrap());
        let fates = stormy(self.story.seed + self.instances.len() as u64 * 1000, calm, &self.fleet.clock);
        // Clocks differ by seconds.
        let skew = i64::try_from((self.story.seed + 2 * self.instances.len() as u64) % 7).unwrap() - 3;
        let instance = self.fleet.skewed(identity, &fates, chrono::TimeDelta::seconds(skew));
        (self.plant)(&self.fleet, &instance);
        self.instances.push(instance);
    }

    /// Lets time pass, and looks at what runs where.
    async fn pass(&mut self, millis: u64) {
        let end = self.fleet.clock.now() + chrono::TimeDelta::milliseconds(i64::try_from(millis).unwrap());
        while self.fleet.clock.now() < end {
            let left = (end - self.fleet.clock.now()).to_std().unwrap_or_default();
            let step = if self.story.singletons.is_empty() { left } else { left.min(Duration::from_millis(200)) };
            tokio::time::sleep(step).await;
            self.look();
        }
    }

    /// No singleton has running pods in two regions.
    fn look(&mut self) {
        for kind in &self.story.singletons {
            let name = format!("{kind:?}").to_lowercase();
            let is_it = |pod: &Value| pod["status"]["phase"] == "Running" && pod["metadata"]["labels"]["app"] == name.as_str();
            let runs = |region: &String| {
                self.fleet.server(region).unwrap().with(|store| {
                    let pods = store.kind("Pod").unwrap();
                    store.list(&pods, "shop").any(|(_, pod)| is_it(pod))
                })
            };
            let running: Vec<String> = self.story.names().into_iter().filter(runs).collect();
            if running.len() > 1 {
                self.two.get_or_insert(format!("{}: {name} runs in {}", self.fleet.clock.now(), running.join(" and ")));
            }
        }
    }

    async fn happen(&mut self, number: usize, event: &Event) -> Result<(), String> {
        let names = self.story.names();
        let server = |index: usize| if index == 0 { "hub".to_owned() } else { names[index - 1].clone() };
        let hub = self.fleet.server("hub")?.clone();
        match &event.what {
            What::Kill => {
                if let Some(last) = self.instances.pop() {
                    last.kill();
                }
                self.begin(&format!("a{number}"), 30);
            }
            What::Second => self.begin(&format!("b{number}"), 30),
            What::Cut { server: index, millis, deaf } => {
                let link = self.instances.last().and_then(|instance| instance.links.get(&server(*index))).cloned();
                let link = link.ok_or("no link")?;
                if *deaf {
                    link.deafen();
                } else {
                    link.partition();
                }
                self.pass(*millis).await;
                link.heal();
            }
            What::Pause { millis } => {
                let links: Vec<_> =
                    self.instances.last().map(|instance| instance.links.values().cloned().collect()).unwrap_or_default();
                links.iter().for_each(firedrill::sim::Link::partition);
                self.pass(*millis).await;
                links.iter().for_each(firedrill::sim::Link::heal);
            }
            What::Order(Order::Delete) => drop(hub.delete("Drill", "", DRILL)),
            What::Order(order) => {
                // A drill that is over already takes no order; that is its business.
                let _ = hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!(format!("{order:?}")));
            }
            What::Weight { route, weight } => {
                let route = format!("route-{}", route % self.story.routes.len());
                let mut changed = false;
                let edited = hub.edit("HTTPRoute", "shop", &route, |object| {
                    let is = &mut object["spec"]["rules"][0]["backendRefs"][0]["weight"];
                    changed = is != weight;
                    *is = json!(weight);
                });
                edited.map_err(|refusal| format!("{refusal:?}"))?;
                // Who sets what stands there anyway changes nothing that anybody could see.
                if changed {
                    self.hands.insert(route, *weight);
                }
            }
            What::Revert { region } => {
                let region = self.fleet.server(&names[*region])?;
                let _ = region.edit("HorizontalPodAutoscaler", "shop", "web", |scaler| {
                    scaler["spec"]["minReplicas"] = json!(3);
                    scaler["metadata"]["annotations"] = json!({});
                });
            }
            What::Gate { says, millis } => {
                let sample = match says {
                    Says::Red => Sample::Value(0.5),
                    Says::Nothing => Sample::NoData,
                    Says::NotANumber => Sample::Value(f64::NAN),
                    Says::Several => Sample::Several(vec![0.0, 0.0]),
                };
                *self.gate.lock().unwrap() = Some(self.fleet.clock.now());
                self.fleet.prometheus.set(ERRORS, sample);
                self.pass(*millis).await;
                self.fleet.prometheus.unset(ERRORS);
                *self.gate.lock().unwrap() = None;
            }
            What::Rollout { region } => {
                let region = self.fleet.server(&names[*region])?;
                let _ = region.edit("Deployment", "shop", "checkout", |object| {
                    object["spec"]["template"]["metadata"]["labels"]["rollout"] = json!(format!("r{number}"));
                });
            }
            What::Node { region, millis } => {
                let server = self.fleet.server(&names[*region])?.clone();
                let node = format!("{}-1", names[*region]);
                silence(&server, &node, true);
                self.pass(*millis).await;
                silence(&server, &node, false);
            }
            What::BadRollout { region, millis } => {
                let server = self.fleet.server(&names[*region])?.clone();
                let image = |name: &'static str| {
                    move |object: &mut Value| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(name)
                };
                let _ = server.edit("Deployment", "shop", "checkout", image(BAD));
                self.pass(*millis).await;
                let _ = server.edit("Deployment", "shop", "checkout", image("checkout"));
            }
            What::Dies { region, millis } => self.dies(&names[*region], *millis).await?,
            What::Gone { object, millis } => {
                let (place, kind, namespace, name) = match object {
                    Lost::Plan => (hub, "EvacuationPlan", "", "shop"),
                    Lost::Route => (hub, "TrafficRoute", "shop", "route-0"),
                    Lost::Region => (hub, "Region", "", names[1].as_str()),
                    Lost::Secret => (hub, "Secret", NAMESPACE, names[1].as_str()),
                    Lost::Namespace => (self.fleet.server(&names[1])?.clone(), "Namespace", "", NAMESPACE),
                };
                let Some(mut object) = place.get(kind, namespace, name) else { return Ok(()) };
                let _ = place.delete(kind, namespace, name);
                self.pass(*millis).await;
                object["metadata"] = json!({"name": name, "namespace": namespace});
                object.as_object_mut().map(|object| object.remove("status"));
                place.seed(object).map_err(|refusal| format!("{refusal:?}"))?;
            }
            What::Newer { millis } => {
                // A drill that was deleted has none.
                let format = |format: u32| {
                    let _ = hub.edit("Drill", "", DRILL, |drill| drill["status"]["format"] = json!(format));
                };
                format(9);
                *self.newer.lock().unwrap() = Some(self.fleet.clock.now());
                self.pass(*millis).await;
                *self.newer.lock().unwrap() = None;
                format(1);
            }
            What::Compact { server: index } => self.fleet.server(&server(*index))?.compact(),
        }
        Ok(())
    }

    /// Nobody reaches the region, and nothing runs there.
    async fn dies(&mut self, region: &str, millis: u64) -> Result<(), String> {
        let server = self.fleet.server(region)?.clone();
        let nodes: Vec<String> =
            server.list("Node", "").iter().map(|node| node["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        let links = |run: &Self| run.instances.iter().filter_map(|one| one.links.get(region).cloned()).collect::<Vec<_>>();
        links(self).iter().for_each(firedrill::sim::Link::partition);
        for node in &nodes {
            silence(&server, node, true);
        }
        self.pass(millis).await;
        let status = self.status(DRILL).filter(|_| i64::try_from(millis).unwrap() > BOUND * 60_000);
        if let Some(status) = status.filter(|status| !matches!(status.phase, Phase::Done | Phase::Pending)) {
            return Err(format!("{DRILL} does not end without {region}: {}", status.message));
        }
        for node in &nodes {
            silence(&server, node, false);
        }
        links(self).iter().for_each(firedrill::sim::Link::heal);
        Ok(())
    }

    fn status(&self, drill: &str) -> Option<DrillStatus> {
        let drill = self.fleet.server("hub").ok()?.get("Drill", "", drill)?;
        Some(serde_json::from_value(drill.get("status").cloned().unwrap_or_default()).unwrap_or_default())
    }

    /// Waits until every drill is over; the last status of each that was not deleted.
    async fn end(&mut self) -> Result<Vec<DrillStatus>, String> {
        let second = if self.story.twice { self.end_of(SECOND).await? } else { None };
        Ok(self.end_of(DRILL).await?.into_iter().chain(second).collect())
    }

    async fn end_of(&mut self, drill: &str) -> Result<Option<DrillStatus>, String> {
        let end = self.fleet.clock.now() + chrono::TimeDelta::minutes(BOUND);
        loop {
            let Some(status) = self.status(drill) else { return Ok(None) };
            if status.phase == Phase::Done {
                return Ok(Some(status));
            }
            if self.fleet.clock.now() > end {
                return Err(format!("{drill} does not end: {}", status.message));
            }
            // What was paused before it began has no deadline: it waits for a person for ever, and here one comes.
            if status.phase == Phase::Pending {
                let hub = self.fleet.server("hub")?;
                let resumed = hub.edit("Drill", "", drill, |drill| {
                    if drill["spec"]["control"] == "Pause" {
                        drill["spec"]["control"] = json!("Run");
                    }
                });
                resumed.map_err(|refusal| format!("{refusal:?}"))?;
            }
            self.pass(200).await;
        }
    }

    fn judge(&self, before: &BTreeMap<String, Value>, ended: &[DrillStatus], eyes: &Eyes) -> Result<(), String> {
        let after = self.fleet.snapshot();
        for (key, object) in before.iter().filter(|_| !self.story.has_hands()) {
            if after.get(key) != Some(object) {
                return Err(format!("{key} is not as it was: {object} is {}", after.get(key).cloned().unwrap_or_default()));
            }
        }
        for (name, server) in &self.fleet.servers {
            for (key, object) in server.dump() {
                let own = key.contains("firedrill.dev") || (name == "hub" && key.starts_with("configmaps/"));
                if !own && object["metadata"].to_string().contains("firedrill.dev/claim") {
                    return Err(format!("{name} {key} still has a claim: {}", object["metadata"]));
                }
                if name != "hub" && key.starts_with(&format!("configmaps/{NAMESPACE}/")) {
                    return Err(format!("{name} {key} is left"));
                }
            }
            let lock = server.get("Lease", NAMESPACE, "firedrill-drill").unwrap_or_default();
            if lock["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty()) {
                return Err(format!("{name}: the lock is still held: {}", lock["spec"]));
            }
        }
        for (route, weight) in &self.hands {
            let object = self.fleet.server("hub")?.get("HTTPRoute", "shop", route).unwrap_or_default();
            let is = &object["spec"]["rules"][0]["backendRefs"][0]["weight"];
            // Who sets what a drill sets next cannot be told from it.
            if is != weight && !eyes.has_written(route, *weight) {
                return Err(format!("{route}: somebody set {weight}, and it is {is}"));
            }
        }
        for status in ended {
            let passed = status.verdict == Some(Verdict::Passed);
            let proven = status.basis == Some(Basis::Observed)
                && status.times.healthy.is_some()
                && status.conflicts.is_empty()
                && status.debts.is_empty();
            if passed && !proven {
                return Err(format!("passed without evidence: {status:?}"));
            }
        }
        Ok(())
    }
}

/// Eyes on one server hold the others, and so on round: without an end no fleet would ever be freed.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        for server in self.fleet.servers.values() {
            server.eye(|_, _, _, _| {});
        }
    }
}

/// The kubelet of a node falls silent, or is heard again.
fn silence(server: &firedrill::sim::Server, node: &str, silent: bool) {
    let _ = server.edit("Node", "", node, |node| {
        node["status"]["conditions"][0]["status"] = json!(if silent { "Unknown" } else { "True" });
    });
}

/// The fewest events that still break something, by leaving out one after the other.
fn shrunk(story: &Story, plant: &Plant) -> Story {
    let mut least = story.clone();
    let breaks = |story: &Story| tell(story, plant).is_err();
    let simpler: [fn(&mut Story); 6] = [
        |story| story.twice = false,
        |story| story.unseen = false,
        |story| story.storm = 0,
        |story| story.singletons.clear(),
        |story| story.cordon = false,
        |story| story.routes.truncate(1),
    ];
    for simplify in simpler {
        let mut candidate = least.clone();
        simplify(&mut candidate);
        if candidate != least && breaks(&candidate) {
            least = candidate;
        }
    }
    let mut index = 0;
    while index < least.events.len() {
        let mut without = least.clone();
        without.events.remove(index);
        if breaks(&without) {
            least = without;
        } else {
            index += 1;
        }
    }
    least
}

fn unplanted(_: &Embedded, _: &Instance) {}

/// Runs stories until one breaks something; which, and what.
fn hunt(seeds: impl Iterator<Item = u64>, plant: &Plant) -> Option<(Story, String)> {
    seeds.map(Story::of).find_map(|story| {
        let broken = tell(&story, plant).err()?;
        Some((story, broken))
    })
}

fn fresh() -> impl Iterator<Item = u64> {
    let text = std::env::var("FIREDRILL_FRESH").unwrap_or_default();
    let first = if text.is_empty() { None } else { Some(u64::from_str_radix(&text, 16).expect("FIREDRILL_FRESH is hex digits")) };
    first.into_iter().flat_map(|first| (0..50).map(move |number| (first << 8) + number))
}

#[test]
fn no_story_breaks_what_must_hold() {
    let all: Vec<u64> = seeds(250).chain(fresh()).collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let found = std::thread::scope(|scope| {
        let all = &all;
        let halves: Vec<_> =
            (0..cores).map(|core| scope.spawn(move || hunt(all.iter().copied().skip(core).step_by(cores), &unplanted))).collect();
        halves.into_iter().find_map(|half| half.join().unwrap())
    });
    if let Some((story, broken)) = found {
        let least = shrunk(&story, &unplanted);
        let again = tell(&least, &unplanted).err().unwrap_or_default();
        let text = serde_json::to_string(&least).unwrap();
        let file = std::env::temp_dir().join("firedrill-story.json");
        std::fs::write(&file, &text).unwrap();
        panic!(
            "seed {}: {broken}\nshrunk: {again}\n{text}\nreplay: FIREDRILL_STORY={} cargo test --test sim hunt::a_story_from_a_file",
            story.seed,
            file.display()
        );
    }
}

#[test]
fn a_story_from_a_file_holds_and_so_does_every_one_that_once_did_not() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/hunt/found");
    let kept = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = std::env::var_os("FIREDRILL_STORY").map(std::path::PathBuf::from);
    let mut count = 0;
    for path in kept.chain(named).filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let story: Story = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if let Err(broken) = tell(&story, &unplanted) {
            panic!("{}: {broken}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no story is kept in {folder}");
}

#[test]
fn the_same_story_leaves_the_same_trace_in_another_process() {
    // Alone, and after others.
    if let Ok(seed) = std::env::var("FIREDRILL_TRACE_OF") {
        println!("trace: {:?}", tell(&Story::of(seed.parse().unwrap()), &unplanted));
        return;
    }
    for seed in [3, 7, 11, 19] {
        let here = format!("trace: {:?}", tell(&Story::of(seed), &unplanted));
        let there = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hunt::the_same_story_leaves_the_same_trace_in_another_process", "--nocapture"])
            .env("FIREDRILL_TRACE_OF", seed.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&there.stdout).into_owned();
        assert!(text.contains(&here), "seed {seed}: {here}\n{text}");
    }
}
