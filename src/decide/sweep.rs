use super::contract::{Contract, Led};
use super::singleton::is_home;
use super::step::carries;
use super::words::{describe, place, union};
use crate::api::{DrillStatus, SingletonWorkloadStatus};
use crate::claim::{self, Claim, Conflict, LABEL, Outcome, Read, Refusal};
use crate::terms::{ClusterUid, Kind, Object, Target, Term, Timestamp};
use crate::world::World;
use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};

/// How old a copy of a contract must be that nobody needs any more before it is deleted: many times the longest time-out.
const FORGOTTEN: TimeDelta = TimeDelta::minutes(10);
/// How long a drill must be over before nothing of it can be under way any more: no call takes longer than a few seconds.
const LANDED: TimeDelta = TimeDelta::minutes(1);

/// The contracts that are open in a cluster: a claim speaks only through one of them.
#[derive(Clone, Debug, Default)]
pub struct Open {
    /// Those that were read.
    pub contracts: Vec<Contract>,
    /// Whose contract is there but cannot be read: drills' uids.
    pub unread: BTreeSet<String>,
}

/// What a sweep has seen of the fleet.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Uids of drills that are not over, and of singletons that are led.
    pub acting: BTreeSet<String>,
    /// Drills that are over, by uid, and since when.
    pub over: BTreeMap<String, Timestamp>,
    /// What has a claim, or the label of one, and whose: the uid.
    pub claimed: BTreeMap<Target, String>,
    /// The clusters in which all of that was seen.
    pub looked: BTreeSet<ClusterUid>,
    /// The leaving regions of open contracts: their workloads.
    pub world: World,
    /// A person has seen that users are back where they were.
    pub traffic_is_back: bool,
}

/// What becomes of an object that has a claim, or the label of one, when nobody acts on it.
///
/// `open` are the clusters whose contracts may let the claim speak, `None` for one that could not be looked at: a claim of which
/// it is not known that it is dead is left alone. One that speaks goes back in the order of every way back: users when their
/// region is seen to carry them, headroom when no route is out any more.
///
/// # Errors
/// [`Refusal`]; nothing is to be written then.
pub fn sweep(object: &Object, target: &Target, swept: &Swept, open: &[Option<&Open>], term: Term) -> Result<Outcome, Refusal> {
    let acting = &swept.acting;
    let write = |write| Outcome { write, conflicts: Vec::new() };
    if object.label(LABEL).is_some_and(|owner| acting.contains(owner)) {
        return Ok(Outcome::default());
    }
    match claim::read(object, target) {
        // A Deployment copies its annotations to its ReplicaSets, and never takes them back.
        Read::Copied(claim) if target.kind == Kind::ReplicaSet => {
            let uid = &claim.by.uid;
            let mut contracts = open.iter().flatten().flat_map(|open| &open.contracts);
            let lives = acting.contains(uid) || contracts.any(|contract| contract.drill.uid == *uid);
            if lives && !is_released(&claim, target, swept) {
                return Ok(Outcome::default());
            }
            claim::strip(object, target).map(write)
        }
        Read::Claim(claim) | Read::Copied(claim) if acting.contains(&claim.by.uid) => Ok(Outcome::default()),
        Read::Claim(claim) => {
            let uid = &claim.by.uid;
            let mut contracts = open.iter().flatten().flat_map(|open| &open.contracts);
            if let Some(contract) = contracts.find(|contract| speaks(contract, &claim, target)) {
                if !has_its_turn(contract, target, swept) {
                    return Ok(Outcome::default());
                }
                let Outcome { write, conflicts } = claim::undo_claim(object, &claim, term)?;
                let write = if write.is_some() { write } else { claim::release(object, target, &claim.by)? };
                Ok(Outcome { write, conflicts })
            } else if open.iter().all(|open| open.is_some_and(|open| !open.unread.contains(uid))) {
                claim::strip(object, target).map(write)
            } else {
                Ok(Outcome::default())
            }
        }
        Read::Nothing | Read::Copied(_) | Read::Broken(_) => claim::strip_dead(object, target).map(write),
        Read::Format(format) => Err(Refusal::Format(format)),
    }
}

/// Whether what the claim was copied from has it no more: it would only be copied again.
fn is_released(claim: &Claim, target: &Target, swept: &Swept) -> bool {
    claim.on.cluster == target.cluster
        && swept.looked.contains(&target.cluster)
        && swept.claimed.get(&claim.on) != Some(&claim.by.uid)
}

/// The debts that are of singletons: paid by their own loops, when the rest is.
#[must_use]
pub fn led_debts(contract: &Contract) -> BTreeMap<String, &Led> {
    contract.led().map(|led| (place(contract, &led.target), led)).collect()
}

/// What is left to be said of a drill that ended with debts: with `conflicts` that were found when they were paid, and without the
/// debts that are. Without its `contract` nobody knows where to look, and nothing is paid. `open` are the clusters beside the hub, as
/// for [`sweep`]; `led` the singletons there are, by uid, `None` for one whose status cannot be read. Nothing if nothing changes.
#[must_use]
pub fn settled(
    contract: Option<&Contract>,
    progress: &DrillStatus,
    conflicts: &[Conflict],
    swept: &Swept,
    open: &BTreeMap<ClusterUid, Option<Open>>,
    led: &BTreeMap<String, Option<SingletonWorkloadStatus>>,
) -> Option<DrillStatus> {
    let mut next = progress.clone();
    next.conflicts = union(&next.conflicts, conflicts.iter().map(describe));
    if let Some(contract) = contract {
        let singletons = led_debts(contract);
        let are_back = are_back(contract, swept, open);
        // One that is there no more is led by nobody.
        let is_home = |one: &Led| {
            let status = led.get(&one.uid);
            status.is_none_or(|status| status.as_ref().is_some_and(|status| is_home(status, one.from.as_str())))
        };
        next.debts.retain(|debt| !singletons.get(debt).map_or(are_back, |one| is_home(one)));
    }
    if next.debts.is_empty() && !progress.debts.is_empty() {
        next.open.clear();
    }
    (next != *progress).then_some(next)
}

/// Whether every cluster of a contract was seen, and nothing of its drill in any.
fn are_back(contract: &Contract, swept: &Swept, open: &BTreeMap<ClusterUid, Option<Open>>) -> bool {
    let uid = &contract.drill.uid;
    let has_copy = |open: &Open| open.contracts.iter().any(|open| open.drill.uid == *uid) || open.unread.contains(uid);
    let is_gone = |cluster: &ClusterUid| {
        // The hub has the original, for the record.
        swept.looked.contains(cluster)
            && (*cluster == contract.hub
                || open.get(cluster).is_some_and(|open| open.as_ref().is_some_and(|open| !has_copy(open))))
    };
    !swept.claimed.values().any(|owner| owner == uid) && contract.regions.values().chain([&contract.hub]).all(is_gone)
}

/// Whether a contract's copy is still needed: its drill acts, something that was `seen` in its cluster or on the hub may be its
/// claim, or it is so young that a write of its drill may be under way, which would leave a claim without it.
#[must_use]
pub fn is_needed<'a>(copy: &Object, swept: &Swept, mut seen: impl Iterator<Item = &'a (Target, Object)>, now: Timestamp) -> bool {
    let Some(owner) = copy.label(LABEL) else { return true };
    let young = match swept.over.get(owner) {
        Some(done) => now - *done < LANDED,
        None => copy.created().is_none_or(|created| now - created < FORGOTTEN),
    };
    let may_be_its = |(target, object): &(Target, Object)| match claim::read(object, target) {
        Read::Claim(claim) | Read::Copied(claim) => claim.by.uid == owner,
        Read::Nothing => object.label(LABEL) == Some(owner),
        Read::Broken(_) | Read::Format(_) => true,
    };
    young || swept.acting.contains(owner) || seen.any(may_be_its)
}

/// Whether what must go back before this is back.
fn has_its_turn(contract: &Contract, target: &Target, swept: &Swept) -> bool {
    match target.kind {
        Kind::HTTPRoute => {
            let ready = carries(contract, &swept.world, &contract.leaving, |replicas| replicas.base);
            matches!(ready, Ok((100, _)))
        }
        Kind::HorizontalPodAutoscaler | Kind::Deployment | Kind::StatefulSet => {
            let routes = contract.uids.keys().filter(|target| target.kind == Kind::HTTPRoute);
            swept.traffic_is_back
                || routes.into_iter().all(|route| swept.looked.contains(&route.cluster) && !swept.claimed.contains_key(route))
        }
        Kind::Node
        | Kind::ReplicaSet
        | Kind::ConfigMap
        | Kind::Event
        | Kind::Namespace
        | Kind::Pod
        | Kind::Secret
        | Kind::Lease
        | Kind::Region
        | Kind::EvacuationPlan
        | Kind::Drill
        | Kind::TrafficRoute
        | Kind::CronJob
        | Kind::Job
        | Kind::SingletonWorkload => true,
    }
}

/// Whether the contract is the claim's owner's and lists its target and every spot.
fn speaks(contract: &Contract, claim: &Claim, target: &Target) -> bool {
    contract.drill.uid == claim.by.uid
        && contract.uids.get(target) == Some(&claim.uid)
        && contract.steps.iter().flat_map(|step| contract.changes(step, 0, 100)).any(|(listed, changes)| {
            listed == *target && claim.undo.iter().all(|entry| changes.iter().any(|change| change.spot == entry.spot))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Stage;
    use crate::claim::ANNOTATION;
    use crate::decide::Work;
    use crate::terms::RegionName;
    use serde_json::json;

    #[test]
    fn a_claim_is_removed_only_when_every_contract_that_could_let_it_speak_was_looked_at() {
        let target = Target {
            cluster: ClusterUid("hub".into()),
            kind: Kind::HTTPRoute,
            namespace: Some("shop".into()),
            name: "shop".into(),
        };
        let claim = json!({
            "format": 1, "on": "hub/HTTPRoute/shop/shop", "uid": "u", "by": {"name": "d", "uid": "over"}, "term": 1, "sequence": 1, "undo": [],
        });
        let object = |claim: &str| {
            let annotations = json!({ANNOTATION: claim});
            let metadata =
                json!({"name": "shop", "namespace": "shop", "uid": "u", "resourceVersion": "1", "annotations": annotations});
            Object::new(json!({"metadata": metadata}))
        };
        let claimed = object(&claim.to_string());
        let nobody = Swept::default();
        let (seen, unread) = (Open::default(), Open { unread: ["over".to_owned()].into(), ..Open::default() });
        let swept = |open: &[Option<&Open>]| sweep(&claimed, &target, &nobody, open, Term(1)).unwrap().write.is_some();
        assert!(swept(&[Some(&seen)]), "no contract is open: it is dead");
        assert!(!swept(&[Some(&seen), None]), "one cluster was not seen");
        assert!(!swept(&[Some(&unread)]), "its contract is there and cannot be read");
        let acts = Swept { acting: ["over".to_owned()].into(), ..Swept::default() };
        assert_eq!(sweep(&claimed, &target, &acts, &[Some(&seen)], Term(1)).unwrap().write, None, "its drill acts");
        let created = "2026-12-08T10:00:00Z";
        let metadata = json!({"name": "copy", "creationTimestamp": created, "labels": {LABEL: "over"}});
        let copy = Object::new(json!({"metadata": metadata}));
        let now: Timestamp = "2026-12-08T10:11:00Z".parse().unwrap();
        let needed = |seen: &[(Target, Object)], now| is_needed(&copy, &nobody, seen.iter(), now);
        assert!(needed(&[(target.clone(), claimed.clone())], now), "its claim is there");
        assert!(!needed(&[], now));
        assert!(needed(&[], now - TimeDelta::minutes(5)), "too young");
        let over = Swept { over: [("over".to_owned(), now - TimeDelta::minutes(7))].into(), ..Swept::default() };
        assert!(!is_needed(&copy, &over, [].iter(), now - TimeDelta::minutes(5)), "its drill has been over for minutes");
        let newer = object(&claim.to_string().replace("\"format\":1", "\"format\":2"));
        assert_eq!(sweep(&newer, &target, &nobody, &[Some(&seen)], Term(1)), Err(Refusal::Format(2)));
    }

    #[test]
    fn a_debt_is_paid_only_when_every_cluster_of_its_contract_was_seen_without_a_trace_and_its_singleton_is_home() {
        let text = include_str!("contract.golden.json").trim();
        let mut contract: Contract = serde_json::from_str(text).unwrap();
        let target = Target {
            cluster: contract.hub.clone(),
            kind: Kind::SingletonWorkload,
            namespace: Some("shop".into()),
            name: "nightly".into(),
        };
        let regions: Vec<_> = contract.regions.keys().cloned().collect();
        let led = Led { target: target.clone(), uid: "s".into(), from: regions[0].clone(), to: regions[1].clone() };
        contract.steps[0].work = Work::Singletons(vec![led]);
        let singleton = place(&contract, &target);
        let progress = DrillStatus { debts: vec!["eu-west: Node n".into(), singleton.clone()], ..DrillStatus::default() };
        let everywhere: BTreeSet<ClusterUid> = contract.regions.values().chain([&contract.hub]).cloned().collect();
        let swept = Swept { looked: everywhere.clone(), ..Swept::default() };
        let open: BTreeMap<_, _> = everywhere.iter().map(|cluster| (cluster.clone(), Some(Open::default()))).collect();
        let status = |holder: &RegionName| SingletonWorkloadStatus {
            stage: Stage::Held,
            holder: Some(holder.to_string()),
            ..SingletonWorkloadStatus::default()
        };
        let (away, home) = (Some(status(&regions[1])), Some(status(&regions[0])));
        let left = |contract: Option<&Contract>, swept: &Swept, open: &BTreeMap<_, _>, led: Option<SingletonWorkloadStatus>| {
            let led = [("s".to_owned(), led)].into();
            settled(contract, &progress, &[], swept, open, &led).map_or(progress.debts.clone(), |next| next.debts)
        };
        assert_eq!(left(Some(&contract), &swept, &open, away.clone()), [singleton], "it goes home last");
        assert!(left(Some(&contract), &swept, &open, home.clone()).is_empty());
        let node = ["eu-west: Node n"];
        assert_eq!(left(None, &swept, &open, home.clone()), progress.debts, "its contract cannot be read");
        let mut unseen = swept.clone();
        unseen.looked.pop_first();
        assert_eq!(
            left(Some(&contract), &unseen, &open, home.clone()),
            node,
            "a cluster was not seen, or is none of the fleet's"
        );
        let claimed = Swept { claimed: [(target, contract.drill.uid.clone())].into(), ..swept.clone() };
        assert_eq!(left(Some(&contract), &claimed, &open, home.clone()), node, "a claim is left");
        let region = contract.regions.values().find(|cluster| **cluster != contract.hub).unwrap();
        let mut unread = open.clone();
        unread.insert(region.clone(), None);
        assert_eq!(left(Some(&contract), &swept, &unread, home.clone()), node, "copies could not be listed");
        let copy = Open { contracts: vec![contract.clone()], ..Open::default() };
        unread.insert(region.clone(), Some(copy));
        assert_eq!(left(Some(&contract), &swept, &unread, home), node, "a copy is left");
        assert_eq!(left(Some(&contract), &swept, &open, None).len(), 1, "its status cannot be read");
    }
}
