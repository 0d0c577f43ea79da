//! Putting back by hand what drills have changed, from the clusters alone: with the hub, whose lead is taken first, or without it.

use super::sweep::{read, suspects};
use crate::claim::{self, Conflict, LABEL, Read, Write};
use crate::cluster::{Api, Body, CallError, Counters, Fleet, FleetError, Leadership, Lease};
use crate::decide::{Contract, Open, Swept, sweep};
use crate::dialect::size;
use crate::observe::observe;
use crate::seam::Seam;
use crate::terms::{ClusterUid, Kind, Object, Target, Term, Version};
use crate::world::Needs;
use futures::future::join_all;
use http::Method;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(5);
/// How long a former leader may still act by the lease that it was granted.
const GRANTED: Duration = Duration::from_secs(15);

/// The clusters of an installation, as a person reaches them.
pub struct Restore {
    /// All of them by name; the hub as `the hub`.
    clusters: BTreeMap<ClusterUid, (String, Api)>,
    hub: Option<ClusterUid>,
    fleet: Fleet,
    seam: Seam,
    namespace: String,
    leadership: Leadership,
    /// A person has seen that users are back where they were, or that the routes are gone for good.
    traffic_is_back: bool,
}

/// What is to be put back, as it was seen at once.
#[derive(Debug, Default)]
pub struct Plan {
    /// Every value, in the order of the way back.
    pub items: Vec<Item>,
    /// Clusters that could not be looked at, and why.
    pub unseen: Vec<String>,
    /// Claims that are not a drill's, and stay: singletons are handed over only by their own loop.
    pub kept: Vec<String>,
    /// The lead's term when it was planned.
    term: Option<Term>,
    writes: Vec<Write>,
    copies: Vec<(Target, Version)>,
}

/// One value, or one claim without any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    #[serde(skip)]
    order: u8,
    /// In which cluster.
    pub place: String,
    /// On which object.
    pub object: String,
    /// Where on it; empty for the claim itself.
    pub spot: String,
    /// What stands there, as JSON; empty for absent.
    pub found: String,
    /// What was there before the drill, as JSON; empty for absent.
    pub was: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Fate {
    /// It is put back now.
    Back,
    /// It waits for others to be back, or for its region.
    Waits(String),
    /// Somebody else has changed it: it is left as it is.
    Conflict,
    /// Only the claim is left, and is removed now.
    ClaimRemoved,
}

impl Restore {
    /// Knows which clusters stand behind `regions` and `hub`.
    ///
    /// # Errors
    /// The first that does not tell, by its name; a lost hub is given as `None`.
    pub async fn new(
        hub: Option<Api>,
        regions: BTreeMap<String, Api>,
        seam: Seam,
        namespace: &str,
        traffic_is_back: bool,
    ) -> Result<Self, String> {
        let some = hub.clone().or_else(|| regions.values().next().cloned()).ok_or("no cluster is named")?;
        let fleet = Fleet::new(some, namespace, seam.clone(), Counters::default());
        let mut clusters = BTreeMap::new();
        let uid = async |name: &str, api: &Api| -> Result<ClusterUid, String> {
            fleet.identify(api).await.map_err(|error: FleetError| format!("{name} cannot be identified: {error}"))
        };
        let mut hub_uid = None;
        if let Some(api) = &hub {
            let found = uid("the hub", api).await?;
            clusters.insert(found.clone(), ("the hub".to_owned(), api.clone()));
            hub_uid = Some(found);
        }
        for (name, api) in &regions {
            let found = uid(name, api).await?;
            clusters.insert(found, (name.clone(), api.clone()));
        }
        for (uid, (_, api)) in &clusters {
            fleet.remember(uid, api);
        }
        let (namespace, leadership) = (namespace.to_owned(), Leadership::default());
        Ok(Self { clusters, hub: hub_uid, fleet, seam, namespace, leadership, traffic_is_back })
    }

    /// Works as the only one that writes: takes the lead from whoever has it and holds it, waits until nobody else may act by an older
    /// one, and orders every acting drill to go back, so that it does not go on afterwards. `work` is given the names of those. Without
    /// a hub nobody else can act.
    ///
    /// # Errors
    /// What the hub refused.
    pub async fn alone<T>(&self, identity: &str, work: impl AsyncFnOnce(Vec<String>) -> T) -> Result<T, CallError> {
        let Some((_, api)) = self.hub.as_ref().and_then(|hub| self.clusters.get(hub)) else { return Ok(work(Vec::new()).await) };
        let lease = Lease {
            api: api.clone(),
            seam: self.seam.clone(),
            namespace: self.namespace.clone(),
            identity: identity.to_owned(),
            leadership: self.leadership.clone(),
        };
        let terms = drills(api).await?.into_iter().filter_map(|drill| u64::try_from(drill.number("/status/term")?).ok());
        let highest = Term(terms.max().unwrap_or(0));
        lease.seize(highest).await?;
        let works = async {
            tokio::time::sleep(GRANTED).await;
            Ok(work(order_back(api).await?).await)
        };
        let done = tokio::select! {
            biased;
            done = works => done,
            never = lease.hold(|| highest) => never,
        };
        lease.give_back().await;
        done
    }

    /// Looks at everything, and says what is to be done now and what has to wait.
    pub async fn plan(&self) -> Plan {
        let mut plan = Plan { term: self.term(), ..Plan::default() };
        let mut unread = BTreeSet::new();
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut open: BTreeMap<ClusterUid, Option<Open>> = BTreeMap::new();
        let mut copies = Vec::new();
        for (uid, (name, api)) in &self.clusters {
            let path = Kind::ConfigMap.path(Some(&self.namespace));
            match api.list(&path, &format!("&labelSelector={LABEL}"), CALL).await {
                Ok(found) => {
                    let found: Vec<Object> = found.into_iter().map(Object::new).collect();
                    let contracts = read(&found);
                    known.extend(contracts.contracts.iter().map(|contract| contract.drill.uid.clone()));
                    // The hub keeps the originals for the record, also of drills that are over: only copies let a claim speak.
                    if Some(uid) != self.hub.as_ref() {
                        copies.extend(found.into_iter().map(|copy| (uid.clone(), copy)));
                        open.insert(uid.clone(), Some(contracts));
                    }
                }
                Err(error) => {
                    plan.unseen.push(format!("{name}: {error}"));
                    unread.insert(uid);
                    if Some(uid) != self.hub.as_ref() {
                        open.insert(uid.clone(), None);
                    }
                }
            }
        }
        let contracts: Vec<&Contract> = open.values().flatten().flat_map(|open| &open.contracts).collect();
        let namespaces: BTreeSet<String> = contracts.iter().flat_map(|contract| contract.namespaces.iter().cloned()).collect();
        let is_region = |uid: &ClusterUid| contracts.iter().any(|contract| contract.regions.values().any(|region| region == uid));
        let suspected = join_all(self.clusters.iter().map(async |(uid, (_, api))| {
            let only_routes = Some(uid) == self.hub.as_ref() && !is_region(uid);
            (uid, suspects(api, uid, only_routes, &namespaces).await)
        }))
        .await;
        let owner = |target: &Target, object: &Object| match claim::read(object, target) {
            Read::Claim(claim) | Read::Copied(claim) => Some(claim.by.clone()),
            Read::Nothing | Read::Broken(_) | Read::Format(_) => None,
        };
        let mut needs = Needs::default();
        for contract in &contracts {
            let leaving = contract.regions.get(&contract.leaving);
            needs.lists.extend(leaving.into_iter().flat_map(|cluster| size::lists(cluster, &contract.namespaces, false)));
        }
        let all = || suspected.iter().flat_map(|(_, (found, _))| found);
        // Without its contract a claim says nothing of whose it is but for its name.
        let strangers = all().filter_map(|(target, object)| owner(target, object)).filter(|by| !known.contains(&by.uid));
        for contract in &contracts {
            let unnamed = contract.regions.iter().filter(|(_, cluster)| !self.clusters.contains_key(*cluster));
            let said = unnamed
                .map(|(region, _)| format!("{region}: drill {} has been there, and no --region names it", contract.drill.name));
            plan.unseen.extend(said);
        }
        plan.unseen.sort();
        plan.unseen.dedup();
        let swept = Swept {
            acting: strangers.map(|by| by.uid).collect(),
            over: BTreeMap::new(),
            claimed: all().map(|(target, object)| (target.clone(), super::sweep::owner(target, object))).collect(),
            looked: suspected.iter().filter(|(_, (_, whole))| *whole).map(|(uid, _)| (*uid).clone()).collect(),
            world: observe(&self.fleet, &self.seam, &needs).await,
            traffic_is_back: self.traffic_is_back,
        };
        let term = plan.term.unwrap_or_default();
        let mut conflicts: BTreeSet<Conflict> = BTreeSet::new();
        for (uid, (found, whole)) in &suspected {
            let name = self.clusters.get(*uid).map_or("", |(name, _)| name.as_str());
            if !whole && !unread.contains(uid) {
                plan.unseen.push(format!("{name}: not everything could be listed"));
            }
            let is_hub = Some(*uid) == self.hub.as_ref();
            let speaking: Vec<Option<&Open>> =
                open.iter().filter(|(other, _)| is_hub || other == uid).map(|(_, open)| open.as_ref()).collect();
            for (target, object) in found {
                if let Some(by) = owner(target, object).filter(|by| swept.acting.contains(&by.uid)) {
                    match target.kind {
                        Kind::ReplicaSet => {}
                        _ if by.is_singleton() => plan.kept.push(format!("{name}: {} is claimed by {}", target.label(), by.name)),
                        _ => plan.orphan(name, target, &by.name),
                    }
                    continue;
                }
                let outcome = sweep(object, target, &swept, &speaking, term);
                plan.add(name, target, object, &outcome);
                if let Ok(outcome) = outcome {
                    conflicts.extend(outcome.conflicts);
                    plan.writes.extend(outcome.write);
                }
            }
        }
        plan.items.sort();
        if plan.items.is_empty() && plan.unseen.is_empty() && self.hub.is_none() {
            plan.copies = copies.into_iter().map(|(uid, copy)| (self.copy(&uid, &copy), Version::of(&copy))).collect();
        }
        plan
    }

    /// The term of the lead, while it is held.
    fn term(&self) -> Option<Term> {
        self.leadership.held(&self.seam).map(|(term, _)| term)
    }

    fn copy(&self, cluster: &ClusterUid, copy: &Object) -> Target {
        let namespace = Some(self.namespace.clone());
        Target { cluster: cluster.clone(), kind: Kind::ConfigMap, namespace, name: copy.name().to_owned() }
    }

    /// Does what can be done now, while the lead is still held by which it was planned; how many writes were taken, and why others
    /// were not. Copies of contracts go last, and only without a hub: with one, the drill itself ends and takes them away.
    pub async fn perform(&self, plan: &Plan) -> (usize, Vec<String>) {
        let mut done = 0;
        let mut failed = Vec::new();
        let send = async |target: &Target, method: Method, path: String, body: Body| {
            let Some((name, api)) = self.clusters.get(&target.cluster) else {
                return Err(format!("{} is in a cluster that is not named here", target.label()));
            };
            // No call outlives the lead by which it was decided.
            let rest = match self.leadership.held(&self.seam) {
                _ if self.hub.is_none() => CALL,
                Some((term, rest)) if Some(term) == plan.term => rest,
                _ => return Err(format!("{name}: {}: the lead is not held any more, another may act", target.label())),
            };
            api.call(method, &path, body, CALL.min(rest)).await.map_err(|error| format!("{name}: {}: {error}", target.label()))
        };
        for write in &plan.writes {
            match send(&write.target, Method::PATCH, write.target.path(), Body::Patch(write.patch.clone())).await {
                Ok(_) => done += 1,
                Err(error) => failed.push(error),
            }
        }
        for (target, version) in &plan.copies {
            let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": version.uid}});
            match send(target, Method::DELETE, target.path(), Body::Json(body)).await {
                Ok(_) => done += 1,
                Err(error) => failed.push(error),
            }
        }
        (done, failed)
    }
}

async fn drills(api: &Api) -> Result<Vec<Object>, CallError> {
    Ok(api.list(&Kind::Drill.path(None), "", CALL).await?.into_iter().map(Object::new).collect())
}

/// Orders every acting drill to go back; their names.
async fn order_back(api: &Api) -> Result<Vec<String>, CallError> {
    let acts = |drill: &Object| drill.text("/status/phase") != "Done" && drill.at("/status/contract").is_some();
    let mut ordered = Vec::new();
    for drill in drills(api).await?.into_iter().filter(acts) {
        let path = format!("{}/{}", Kind::Drill.path(None), drill.name());
        api.call(Method::PATCH, &path, Body::Merge(json!({"spec": {"control": "Abort"}})), CALL).await?;
        ordered.push(drill.name().to_owned());
    }
    Ok(ordered)
}

impl Plan {
    /// Whether anything can be done now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.copies.is_empty()
    }

    /// A claim of a drill whose contract is nowhere.
    fn orphan(&mut self, place: &str, target: &Target, drill: &str) {
        let what = format!("for the contract of drill {drill}, which no cluster that is named has: is --namespace right?");
        self.items.push(Item {
            order: 4,
            place: place.to_owned(),
            object: target.label(),
            spot: String::new(),
            found: String::new(),
            was: String::new(),
            fate: Fate::Waits(what),
        });
    }

    fn add(&mut self, place: &str, target: &Target, object: &Object, outcome: &Result<claim::Outcome, claim::Refusal>) {
        // The way back: nodes take pods, users come back, then what was raised for them goes down; copies of claims at the end.
        let order = match target.kind {
            Kind::Node => 0,
            Kind::HTTPRoute => 1,
            Kind::ReplicaSet => 3,
            _ => 2,
        };
        let item = |spot: String, found: String, was: String, fate: Fate| Item {
            order,
            place: place.to_owned(),
            object: target.label(),
            spot,
            found,
            was,
            fate,
        };
        let values = match claim::read(object, target) {
            Read::Claim(claim) => claim.undo,
            Read::Nothing | Read::Copied(_) | Read::Broken(_) | Read::Format(_) => Vec::new(),
        };
        let (write, conflicts) = match outcome {
            Ok(outcome) => (outcome.write.is_some(), outcome.conflicts.as_slice()),
            Err(refusal) => {
                self.items.push(item(String::new(), String::new(), String::new(), Fate::Waits(refusal.to_string())));
                return;
            }
        };
        let waits = match target.kind {
            Kind::HTTPRoute => "for the region that was left to be Ready again",
            _ => "for traffic to be seen back",
        };
        if values.is_empty() && !write && target.kind == Kind::ReplicaSet {
            // A copy, which goes when what it was copied from is back.
            return;
        }
        if values.is_empty() {
            let fate = if write { Fate::ClaimRemoved } else { Fate::Waits("for its contract to be seen".to_owned()) };
            self.items.push(item(String::new(), String::new(), String::new(), fate));
        }
        for entry in values {
            let text = |value: Option<&crate::terms::Json>| value.map(ToString::to_string).unwrap_or_default();
            let found = entry.spot.find(object.json()).ok().and_then(|found| found.value);
            let spot = entry.spot.to_string();
            let fate = if conflicts.iter().any(|conflict| conflict.spot == spot) {
                Fate::Conflict
            } else if write {
                Fate::Back
            } else {
                Fate::Waits(waits.to_owned())
            };
            self.items.push(item(spot, text(found.as_ref()), text(entry.was.as_ref()), fate));
        }
    }
}
