//! What must never be so, held against every change of every object at the moment it is made, and never against firedrill's own status.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::Since;
use crate::world::DRILL;
use chrono::{DateTime, TimeDelta, Utc};
use firedrill::cli::embedded::{Embedded, NAMESPACE};
use firedrill::sim::Server;
use firedrill::sim::store::Key;

const CLAIM: &str = "firedrill.dev/claim";
const EPOCH: &str = "firedrill.dev/epoch";

/// What was seen.
#[derive(Clone, Default)]
pub struct Eyes {
    broken: Arc<Mutex<Vec<String>>>,
    written: Arc<Mutex<BTreeMap<String, Weights>>>,
}

/// Whose claim stands where.
type Owners = Arc<Mutex<BTreeMap<String, String>>>;

/// When a workload of a region had fewer Ready pods than the moment before, and how many those were: what was decided on them may be
/// under way.
type Falls = Arc<Mutex<Vec<(DateTime<Utc>, String, String, u64)>>>;

/// A route as it was before the drill: the weight of each backend.
type Weights = Vec<u64>;

impl Eyes {
    /// Looks at every server of a fleet from now on. `hands`: somebody else changes routes, so shares are not held against the baseline;
    /// `patience`: how long what was sent before may be under way.
    pub fn on(fleet: &Embedded, hands: bool, patience: TimeDelta, gate: &Since, newer: &Since) -> Self {
        let eyes = Self::default();
        let hub = fleet.server("hub").unwrap();
        let routes: BTreeMap<String, Weights> =
            hub.list("HTTPRoute", "").iter().map(|route| (name(route).to_owned(), weights(route))).collect();
        let ready = ready_everywhere(fleet);
        let (owners, falls) = (Owners::default(), Falls::default());
        for (place, server) in &fleet.servers {
            let (said, place, routes, ready) = (Arc::clone(&eyes.broken), place.clone(), routes.clone(), ready.clone());
            let regions: Vec<(String, Server)> = fleet
                .servers
                .iter()
                .filter(|(name, _)| *name != "hub")
                .map(|(name, server)| (name.clone(), server.clone()))
                .collect();
            let (gate, newer, clock, owners) = (Arc::clone(gate), Arc::clone(newer), fleet.clock.clone(), Arc::clone(&owners));
            let (falls, written) = (Arc::clone(&falls), Arc::clone(&eyes.written));
            let mut copies = 0_usize;
            let shows = std::env::var_os("FIREDRILL_STORY").is_some();
            server.eye(move |who, key, before, after| {
                if shows && is_foreign(key) {
                    println!("{} {place} {}", clock.now().format("%T%.3f"), shown(who, key, before, after));
                }
                if let ("deployments", Some(before), Some(after)) = (key.plural.as_str(), before, after) {
                    let counts = |object: &Value| object["status"]["readyReplicas"].as_u64().unwrap_or(0);
                    if counts(after) < counts(before) {
                        falls.lock().unwrap().push((clock.now(), place.clone(), key.name.clone(), counts(before)));
                    }
                }
                if key.plural == "configmaps" && key.namespace == NAMESPACE {
                    let is_copy = |object: &Value| object["metadata"]["labels"]["firedrill.dev/claimed"].is_string();
                    copies = copies + usize::from(before.is_none() && after.is_some_and(is_copy))
                        - usize::from(after.is_none() && copies > 0);
                }
                let say = |what: String| said.lock().unwrap().push(format!("{place} {}/{}: {what}", key.plural, key.name));
                epochs(before, after).into_iter().for_each(&say);
                if is_foreign(key) {
                    two_drills(&owners, format!("{place} {}/{}", key.plural, key.name), after).into_iter().for_each(&say);
                }
                let (false, Some(before), Some(after)) = (who.is_empty(), before, after) else { return };
                if is_foreign(key) {
                    claims(before, after).into_iter().for_each(&say);
                    // Singletons have their claims by their own status.
                    let by_drill = after["metadata"]["annotations"][CLAIM].as_str().is_some_and(|claim| !claim.contains("shop/"));
                    let is_its = |object: &Value| claim(object).is_some_and(|claim| claim["by"]["name"] == DRILL);
                    let unread = newer.lock().unwrap().filter(|since| clock.now() - *since > patience);
                    if let (Some(since), true) = (unread, is_its(before) || is_its(after)) {
                        say(format!("written for a drill whose status nobody has understood since {since}"));
                    }
                    if place != "hub" && by_drill && copies == 0 {
                        say("claimed where no copy of the contract is".to_owned());
                    }
                }
                if key.plural == "httproutes" {
                    let claim = claim(after).unwrap_or_default();
                    let entries = claim["undo"].as_array().into_iter().flatten();
                    let first = entries.filter(|entry| index_of(entry) == Some(0)).filter_map(|entry| entry["is"].as_u64());
                    written.lock().unwrap().entry(key.name.clone()).or_default().extend(first);
                }
                if key.plural == "httproutes" && !hands {
                    let baseline = routes.get(&key.name).cloned().unwrap_or_default();
                    let unknown = gate.lock().unwrap().filter(|since| clock.now() - *since > patience);
                    if let (Some(since), true) = (unknown, outward(&weights(before), &weights(after))) {
                        say(format!("users are led away although the gate has not been green since {since}"));
                    }
                    shares(&baseline, &weights(before), &weights(after)).into_iter().for_each(&say);
                    let lately = clock.now() - patience;
                    let had = |region: &str, workload: &str| {
                        let falls = falls.lock().unwrap();
                        let its = falls.iter().filter(|(at, place, name, _)| *at > lately && place == region && name == workload);
                        its.map(|(.., count)| *count).max().unwrap_or(0)
                    };
                    carried(&baseline, &weights(before), &weights(after), &ready, &regions, had).into_iter().for_each(&say);
                }
            });
        }
        eyes
    }

    /// Whether a claim has ever said that an operator set the first backend of a route to this.
    pub fn has_written(&self, route: &str, weight: u64) -> bool {
        self.written.lock().unwrap().get(route).is_some_and(|weights| weights.contains(&weight))
    }

    /// What was seen so far that must not be.
    pub fn broken(&self) -> Vec<String> {
        self.broken.lock().unwrap().clone()
    }
}

/// One change in a line: whose, of what, from which values to which, and the claim's.
fn shown(who: &str, key: &Key, before: Option<&Value>, after: Option<&Value>) -> String {
    let said = |object: Option<&Value>| {
        let Some(object) = object else { return "nothing".to_owned() };
        let spec = &object["spec"];
        let values = match key.plural.as_str() {
            "httproutes" => json!(weights(object)),
            "horizontalpodautoscalers" => spec["minReplicas"].clone(),
            "nodes" => spec["taints"].clone(),
            "cronjobs" => spec["suspend"].clone(),
            _ => spec["replicas"].clone(),
        };
        let claim =
            claim(object).map(|claim| format!(" (claimed, term {}, {})", claim["term"], claim["sequence"])).unwrap_or_default();
        format!("{values}{claim}")
    };
    let who = if who.is_empty() { "somebody" } else { who };
    format!("{who}: {}/{}: {} becomes {}", key.plural, key.name, said(before), said(after))
}

/// Whether an object is somebody else's, and written by drills or singletons.
fn is_foreign(key: &Key) -> bool {
    ["httproutes", "horizontalpodautoscalers", "deployments", "statefulsets", "cronjobs", "nodes"].contains(&key.plural.as_str())
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn weights(route: &Value) -> Weights {
    let references = route["spec"]["rules"][0]["backendRefs"].as_array().cloned().unwrap_or_default();
    references.iter().map(|reference| reference["weight"].as_u64().unwrap_or(1)).collect()
}

/// Ready replicas of every workload of a region.
fn ready(server: &Server) -> BTreeMap<String, u64> {
    let of = |object: &Value| (name(object).to_owned(), object["status"]["readyReplicas"].as_u64().unwrap_or(0));
    server.list("Deployment", "shop").iter().filter(|object| name(object) != "deployment").map(of).collect()
}

fn ready_everywhere(fleet: &Embedded) -> Vec<BTreeMap<String, u64>> {
    fleet.servers.iter().filter(|(name, _)| *name != "hub").map(|(_, server)| ready(server)).collect()
}

/// The claim on an object.
fn claim(object: &Value) -> Option<Value> {
    serde_json::from_str(object["metadata"]["annotations"][CLAIM].as_str()?).ok()
}

/// Which backend an entry of a claim speaks of, by the region's letter in its name.
pub(super) fn index_of(entry: &Value) -> Option<usize> {
    let spot = entry["spot"].to_string();
    let letter = spot.split("region-").nth(1)?.chars().next()?;
    Some(usize::try_from(u32::from(letter) - u32::from('a')).unwrap_or(usize::MAX))
}

/// Never do two drills have claims at once.
fn two_drills(owners: &Owners, at: String, after: Option<&Value>) -> Option<String> {
    // Singletons have names with a namespace.
    let by = after.and_then(claim).map(|claim| claim["by"].to_string()).filter(|by| !by.contains("shop/"));
    let mut owners = owners.lock().unwrap();
    match by {
        None => drop(owners.remove(&at)),
        Some(by) => drop(owners.insert(at, by)),
    }
    let all: std::collections::BTreeSet<&String> = owners.values().collect();
    (all.len() > 1).then(|| format!("two drills have claims: {all:?}"))
}

/// No value of somebody else's object changes without a claim beside it, no claim of an older term follows a newer one, and no write of the same
/// owner follows one that was decided later.
fn claims(before: &Value, after: &Value) -> Option<String> {
    let (was, is) = (claim(before), claim(after));
    if before["spec"] != after["spec"] && is.is_none() {
        return Some(format!("written without a claim: {} to {}", before["spec"], after["spec"]));
    }
    let term = |claim: &Value| claim["term"].as_u64().unwrap_or(0);
    let (was, is) = (was?, is?);
    let order = |claim: &Value| (term(claim), claim["sequence"].as_u64().unwrap_or(0));
    (was["by"] == is["by"] && order(&is) < order(&was))
        .then(|| format!("{:?} (term, sequence) was written after {:?}", order(&is), order(&was)))
}

/// An epoch never falls, and never vanishes.
fn epochs(before: Option<&Value>, after: Option<&Value>) -> Option<String> {
    let epoch = |object: &Value| -> Option<u64> { object["metadata"]["annotations"][EPOCH].as_str()?.parse().ok() };
    let was = epoch(before?)?;
    let is = after.and_then(epoch);
    (is.is_none_or(|is| is < was)).then(|| format!("its epoch fell from {was} to {is:?}"))
}

/// Whether the first backend's share falls.
fn outward(before: &Weights, after: &Weights) -> bool {
    let all = |weights: &Weights| weights.iter().sum::<u64>().max(1);
    after.first().copied().unwrap_or(0) * all(before) < before.first().copied().unwrap_or(0) * all(after)
}

/// Between baseline and target, within one unit: the leaving region (the first) never gains, a survivor never loses.
fn shares(baseline: &Weights, before: &Weights, after: &Weights) -> Option<String> {
    let all = |weights: &Weights| weights.iter().sum::<u64>();
    if baseline.len() != after.len() || all(after) == 0 {
        return Some(format!("{before:?} became {after:?}"));
    }
    let factor = all(after) / all(baseline);
    if all(after) != all(baseline) * factor {
        return Some(format!("parts were lost or made: {before:?} became {after:?}, at first {baseline:?}"));
    }
    let within = after
        .iter()
        .zip(baseline)
        .enumerate()
        .all(|(index, (is, was))| if index == 0 { *is <= was * factor } else { is + factor >= was * factor });
    (!within).then(|| format!("{before:?} became {after:?}, at first {baseline:?}"))
}

/// A region's share rises only when its Ready pods carry it: its own users as before, and those who came by as many as carried them
/// where they came from.
fn carried(
    baseline: &Weights,
    before: &Weights,
    after: &Weights,
    at_first: &[BTreeMap<String, u64>],
    regions: &[(String, Server)],
    had: impl Fn(&str, &str) -> u64,
) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "weights and pods are few")]
    let share = |weights: &Weights, index: usize| weights[index] as f64 / weights.iter().sum::<u64>().max(1) as f64;
    if before.len() != after.len() || baseline.len() != after.len() {
        return None;
    }
    regions.iter().enumerate().find_map(|(index, (region, server))| {
        let to = share(after, index);
        if to <= share(before, index) {
            return None;
        }
        let now = ready(server);
        // The first is the one that they leave, and come back to.
        let own = if index == 0 { to / share(baseline, 0) } else { 1.0 };
        let came = if index == 0 { 0.0 } else { (to - share(baseline, index)).max(0.0) / share(baseline, 0) };
        at_first[index].iter().find_map(|(workload, pods)| {
            let theirs = at_first[0].get(workload).copied().unwrap_or(0);
            #[expect(clippy::cast_precision_loss, reason = "weights and pods are few")]
            let wanted = *pods as f64 * own + theirs as f64 * came;
            #[expect(clippy::cast_precision_loss, reason = "weights and pods are few")]
            let is = now.get(workload).copied().unwrap_or(0).max(had(region, workload)) as f64;
            (is + 1.0 < wanted).then(|| {
                format!("{region} is raised to {:.1} % of users, and {workload} has {is} of {wanted:.1} Ready pods", to * 100.0)
            })
        })
    })
}
