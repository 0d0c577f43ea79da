use crate::api::{ClusterRef, Contention, Failback, Gate, Mode, Scenario};
use crate::claim::{Change, Taken};
use crate::dialect::traffic::http_route::Rule;
use crate::terms::{ClusterUid, Json, Owner, RegionName, Segment, Spot, Target, Timestamp, digest};
use crate::world::{Query, fill};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The format of contracts that this version writes and reads.
pub(super) const FORMAT: u8 = 1;

/// The drill as accepted: parsed once, stored verbatim, immutable, hashed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contract {
    /// Always 1; other formats are left alone and reported.
    pub format: u8,
    /// The drill.
    pub drill: Owner,
    /// The plan's name.
    pub plan: String,
    /// What is done.
    pub mode: Mode,
    /// What is assumed.
    pub scenario: Scenario,
    /// The region that is evacuated.
    pub leaving: RegionName,
    /// The hub's cluster.
    pub hub: ClusterUid,
    /// Every region's cluster.
    pub regions: BTreeMap<RegionName, ClusterUid>,
    /// How every region's cluster is reached, so that a later edit or deletion of a Region does not touch a running drill.
    pub access: BTreeMap<RegionName, ClusterRef>,
    /// The plan's namespaces.
    pub namespaces: Vec<String>,
    /// How the leaving share is dealt out to the survivors: parts of their sum.
    pub split: BTreeMap<RegionName, u64>,
    /// The graph of steps.
    pub steps: Vec<Step>,
    /// Per region, how many Ready pods each workload had and must have for the whole load.
    pub replicas: BTreeMap<RegionName, Vec<Replicas>>,
    /// The gates.
    pub gates: Vec<Gate>,
    /// The Prometheus that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<String>,
    /// The uid of every object that may be written: another object of that name is somebody else's.
    pub uids: BTreeMap<Target, String>,
    /// What the first write of each object takes from other managers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taken: BTreeMap<Target, Vec<Taken>>,
    /// Times and rules.
    pub limits: Limits,
}

/// One node of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Must be out before this one goes out.
    pub after: BTreeSet<String>,
    /// Must be back before this one goes back.
    pub after_back: BTreeSet<String>,
    /// What it does.
    pub work: Work,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    /// Survivors are raised; the leaving region's own floor is held.
    Headroom(Vec<Size>),
    /// The leaving region's nodes are tainted; none for `Mark`.
    Cordon(Vec<Target>),
    /// Users are led elsewhere.
    Traffic(Traffic),
    /// What runs in one region at a time is handed over; each by its own loop, which writes it.
    Singletons(Vec<Led>),
}

/// A singleton that the leaving region holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Led {
    /// The `SingletonWorkload` on the hub.
    pub target: Target,
    /// Its uid.
    pub uid: String,
    /// Who holds it, and holds it again afterwards.
    pub from: RegionName,
    /// Who holds it meanwhile.
    pub to: RegionName,
}

/// One size that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    /// In which region.
    pub region: RegionName,
    /// The object: an autoscaler, or a workload that has none.
    pub target: Target,
    /// The spot of the number.
    pub spot: Spot,
    /// The number before; absent is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<u32>,
    /// The number wanted.
    pub to: u32,
}

/// How many Ready pods a workload had and must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// The workload.
    pub target: Target,
    /// At the baseline.
    pub base: u32,
    /// For the whole load (survivors), or the baseline again (the leaving region).
    pub want: u32,
}

/// Users are led elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// The routes.
    pub routes: Vec<Route>,
    /// Levels on the way out, in percent moved; the last is 100.
    pub out: Vec<u32>,
    /// Levels on the way back, in percent moved; the last is 0.
    pub back: Vec<u32>,
    /// How long each level is held on the way out.
    pub hold_out: Duration,
    /// How long each level is held on the way back.
    pub hold_back: Duration,
}

/// One route as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The `HTTPRoute`.
    pub target: Target,
    /// Its rules that send to the leaving region.
    pub rules: Vec<Rule>,
    /// How long users keep coming after a write.
    pub convergence: Duration,
    /// How requests are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Confirmation>,
}

/// How requests are seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// The query with its variables.
    pub query: String,
    /// The range it looks back over.
    pub window: Duration,
    /// How many requests in it make a share count.
    pub minimum: u32,
    /// How far a share may be off, in percent of all requests.
    pub tolerance: u32,
    /// The backends that are asked for.
    pub backends: Vec<(RegionName, String)>,
}

/// Times and rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// What time-to-healthy counts from.
    pub declared: Timestamp,
    /// The promise.
    pub time_to_healthy: Duration,
    /// How long gates must stay green to count as healthy.
    pub stable_for: Duration,
    /// How long the region stays out once healthy.
    pub soak: Duration,
    /// After this, counted from `declared`, it goes back.
    pub deadline: Duration,
    /// When it comes back.
    pub failback: Failback,
    /// What somebody else's hand means.
    pub contention: Contention,
}

impl Limits {
    /// When it goes back at the latest.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        let deadline = TimeDelta::from_std(self.deadline).unwrap_or(TimeDelta::MAX);
        self.declared.checked_add_signed(deadline).unwrap_or(Timestamp::MAX_UTC)
    }
}

/// Why a stored contract is not used.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// It does not parse.
    #[error("the stored contract does not parse: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another format.
    #[error("the stored contract has format {0}, this version reads {FORMAT}")]
    Format(u64),
    /// Its hash is not the one in the drill's status.
    #[error("the stored contract has hash {found}, the drill was accepted with {expected}")]
    Hash {
        /// Of what is stored.
        found: String,
        /// Of what was accepted.
        expected: String,
    },
    /// The graph of steps is not one.
    #[error("step {0} waits for itself or for a step that does not exist")]
    Graph(String),
}

/// SHA-256 of the contract's canonical JSON.
#[must_use]
pub fn hash(contract: &Contract) -> String {
    // A contract is made of strings, numbers, lists and maps with string keys: it always is JSON.
    digest(&serde_json::to_value(contract).unwrap_or(Json::Null))
}

impl Contract {
    /// Parses a stored contract and checks that it is the one with this hash.
    ///
    /// # Errors
    /// [`ContractError`].
    pub fn parse(text: &str, expected: &str) -> Result<Self, ContractError> {
        let json: Json = serde_json::from_str(text)?;
        let format = json.get("format").and_then(Json::as_u64).unwrap_or(0);
        if format != u64::from(FORMAT) {
            return Err(ContractError::Format(format));
        }
        let found = digest(&json);
        if found != expected {
            return Err(ContractError::Hash { found, expected: expected.to_owned() });
        }
        let contract: Self = serde_json::from_value(json)?;
        contract.check_graph()?;
        Ok(contract)
    }

    /// Checks that every step can be reached, both ways: nothing dangling, no circle.
    ///
    /// # Errors
    /// [`ContractError::Graph`].
    pub fn check_graph(&self) -> Result<(), ContractError> {
        for way in [|step: &Step| step.after.clone(), |step: &Step| step.after_back.clone()] {
            let mut done: BTreeSet<&str> = BTreeSet::new();
            let mut rest: Vec<&Step> = self.steps.iter().collect();
            while !rest.is_empty() {
                let (ready, waiting): (Vec<&Step>, Vec<&Step>) =
                    rest.iter().partition(|step| way(step).iter().all(|name| done.contains(name.as_str())));
                if let (true, Some(stuck)) = (ready.is_empty(), waiting.first()) {
                    return Err(ContractError::Graph(stuck.name.clone()));
                }
                done.extend(ready.iter().map(|step| step.name.as_str()));
                rest = waiting;
            }
        }
        Ok(())
    }

    /// The survivors: all regions but the leaving one.
    pub fn survivors(&self) -> impl Iterator<Item = (&RegionName, &ClusterUid)> {
        self.regions.iter().filter(|(name, _)| **name != self.leaving)
    }

    /// What the first write of an object takes from other managers.
    #[must_use]
    pub fn taken_of(&self, target: &Target) -> &[Taken] {
        self.taken.get(target).map_or(&[], Vec::as_slice)
    }

    /// The region whose cluster this is; the hub may be none.
    #[must_use]
    pub fn region_of(&self, cluster: &ClusterUid) -> Option<&RegionName> {
        self.regions.iter().find(|(_, uid)| *uid == cluster).map(|(name, _)| name)
    }

    /// The clusters that a copy of the contract goes to: every region's but the hub's, which has the original.
    #[must_use]
    pub fn copies(&self) -> BTreeSet<ClusterUid> {
        self.regions.values().filter(|cluster| **cluster != self.hub).cloned().collect()
    }

    /// The singletons that it has handed over.
    pub fn led(&self) -> impl Iterator<Item = &Led> {
        self.steps.iter().flat_map(|step| match &step.work {
            Work::Singletons(led) => led.as_slice(),
            Work::Headroom(_) | Work::Cordon(_) | Work::Traffic(_) => &[],
        })
    }

    /// The queries of a gate: one, or one per survivor.
    #[must_use]
    pub fn gate_queries(&self, gate: &Gate) -> Vec<(Option<RegionName>, Query)> {
        let url = self.prometheus.clone().unwrap_or_default();
        if gate.query.contains("${region}") {
            self.survivors()
                .map(|(region, _)| (Some(region.clone()), Query { url: url.clone(), text: fill(&gate.query, region, "") }))
                .collect()
        } else {
            vec![(None, Query { url, text: gate.query.clone() })]
        }
    }

    /// The queries that show a route's requests, one per backend.
    #[must_use]
    pub fn request_queries(&self, confirm: &Confirmation) -> Vec<(RegionName, Query)> {
        let url = self.prometheus.clone().unwrap_or_default();
        confirm
            .backends
            .iter()
            .map(|(region, backend)| (region.clone(), Query { url: url.clone(), text: fill(&confirm.query, region, backend) }))
            .collect()
    }

    /// What to change on each object of a step, from one level (in percent) to another; steps other than traffic know 0 and 100.
    #[must_use]
    pub fn changes(&self, step: &Step, from: u32, to: u32) -> Vec<(Target, Vec<Change>)> {
        match &step.work {
            Work::Headroom(sizes) => sizes
                .iter()
                .map(|size| {
                    let was = size.was.map(Json::from);
                    let level = |percent| if percent == 0 { was.clone() } else { Some(Json::from(size.to)) };
                    let change = Change { spot: size.spot.clone(), was: was.clone(), from: level(from), to: level(to) };
                    (size.target.clone(), vec![change])
                })
                .collect(),
            Work::Cordon(nodes) => nodes
                .iter()
                .map(|node| {
                    let taint = json!({"key": TAINT, "effect": "NoSchedule"});
                    let spot = Spot::fields(&["spec", "taints"]).then(Segment::item(&taint, &["key", "effect"], 0));
                    let level = |percent| (percent > 0).then(|| taint.clone());
                    (node.clone(), vec![Change { spot, was: None, from: level(from), to: level(to) }])
                })
                .collect(),
            Work::Traffic(traffic) => traffic
                .routes
                .iter()
                .map(|route| {
                    let changes =
                        route.rules.iter().flat_map(|rule| rule.changes(&self.leaving, &self.split, from, to)).collect();
                    (route.target.clone(), changes)
                })
                .collect(),
            // Written by their own loops.
            Work::Singletons(_) => Vec::new(),
        }
    }

    /// What a step has to put back: the objects that it writes, or has others write.
    #[must_use]
    pub fn targets(&self, step: &Step) -> Vec<Target> {
        match &step.work {
            Work::Singletons(led) => led.iter().map(|led| led.target.clone()).collect(),
            Work::Headroom(_) | Work::Cordon(_) | Work::Traffic(_) => {
                self.changes(step, 100, 0).into_iter().map(|(target, _)| target).collect()
            }
        }
    }
}

/// The taint of an evacuated region's nodes.
pub(super) const TAINT: &str = "firedrill.dev/evacuated";

#[cfg(test)]
mod tests {
    use super::*;

    /// A contract as format 1 stores it. It outlives versions: one that no longer reads it, or gives it another hash, breaks every
    /// drill that acts while firedrill is upgraded.
    const STORED: &str = include_str!("contract.golden.json");

    #[test]
    fn a_stored_contract_keeps_its_meaning_and_its_hash() {
        let json: Json = serde_json::from_str(STORED).unwrap();
        let contract: Contract = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&contract).unwrap(), json);
        let golden = "9bdb120fd915ed6afe7aefcf2e1e41e1af32e82ac856e616e836eba64ea3dfec";
        assert_eq!(hash(&contract), golden);
        assert_eq!(Contract::parse(STORED, golden).unwrap(), contract);
    }

    #[test]
    fn another_format_another_hash_and_a_circle_are_refused() {
        let mut json: Json = serde_json::from_str(STORED).unwrap();
        assert!(matches!(Contract::parse(STORED, "other"), Err(ContractError::Hash { .. })));
        json["steps"][0]["after"] = json!(["headroom"]);
        let text = json.to_string();
        assert!(matches!(Contract::parse(&text, &digest(&json)), Err(ContractError::Graph(step)) if step == "headroom"));
        json["format"] = json!(2);
        assert!(matches!(Contract::parse(&json.to_string(), &digest(&json)), Err(ContractError::Format(2))));
    }
}
