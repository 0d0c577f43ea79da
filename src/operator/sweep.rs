//! The standing sweep: claims whose owner is over are taken back, or removed where they do not speak. Nothing undoes itself by
//! time; this is for what a crash, a late request, a rollback or a removed finalizer left behind.

use super::{Error, Operator};
use crate::api::{Drill, Phase, SingletonWorkloadStatus};
use crate::claim::{ANNOTATION, Conflict, LABEL, Outcome, Refusal};
use crate::cluster::{Api, CallError, Category};
use crate::decide::{self, Contract, Open, Swept, conditions, is_needed, record, settled};
use crate::dialect::size;
use crate::observe::observe;
use crate::terms::{ClusterUid, Kind, Object, RegionName, Target, Term, Timestamp, Version, digest};
use crate::world::{Needs, World};
use chrono::TimeDelta;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often it sweeps.
const EVERY: TimeDelta = TimeDelta::seconds(30);
/// How long a list may take.
const LIST: Duration = Duration::from_secs(5);
/// The kinds that firedrill claims, and the one that copies what a Deployment has.
const CLAIMED: [Kind; 7] = [
    Kind::HTTPRoute,
    Kind::HorizontalPodAutoscaler,
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::StatefulSet,
    Kind::CronJob,
    Kind::Node,
];

pub(super) async fn activate(operator: &Operator, term: Term) -> Result<Option<Timestamp>, Error> {
    let hub = operator.hub()?;
    let store = &operator.store;
    let known = store.regions().into_iter().filter_map(|region| region.status?.cluster_uid).map(ClusterUid);
    let regions: BTreeSet<ClusterUid> = known.collect();
    let clusters: BTreeSet<ClusterUid> = regions.iter().chain([&hub]).cloned().collect();
    let led = store.singletons().into_iter().filter_map(|singleton| singleton.metadata.namespace);
    let namespaces: BTreeSet<String> = store.plans().into_iter().flat_map(|plan| plan.spec.namespaces).chain(led).collect();
    // First the claims, then whose they may be: a drill that made one of them is then seen, acting or over. What it did since is
    // guarded by the version.
    let suspects = join_all(clusters.iter().map(async |cluster| match operator.fleet.by_uid(cluster) {
        Some(api) => suspects(&api, cluster, *cluster == hub && !regions.contains(&hub), &namespaces).await,
        None => (Vec::new(), false),
    }))
    .await;
    let drills: Vec<Object> =
        operator.fleet.hub.list(&Kind::Drill.path(None), "", LIST).await?.into_iter().map(Object::new).collect();
    // A singleton that is there speaks for itself: its loop alone writes and gives back.
    let singletons: Vec<Object> =
        operator.fleet.hub.list(&Kind::SingletonWorkload.path(None), "", LIST).await?.into_iter().map(Object::new).collect();
    let done = format!("{:?}", Phase::Done);
    // Of a newer version's drill nobody here knows whether it is over.
    let is_over = |drill: &&Object| drill.text("/status/phase") == done && drill.number("/status/format") <= Some(1);
    let (over, act): (Vec<&Object>, Vec<&Object>) = drills.iter().partition(is_over);
    let acting: BTreeSet<String> = act
        .iter()
        .map(|drill| drill.uid().to_owned())
        .chain(singletons.iter().map(|singleton| singleton.uid().to_owned()))
        .collect();
    let copies = join_all(clusters.iter().filter(|cluster| **cluster != hub).map(async |cluster| {
        let path = Kind::ConfigMap.path(Some(&operator.settings.namespace));
        let copies = match operator.fleet.by_uid(cluster) {
            Some(api) => api.list(&path, &format!("&labelSelector={LABEL}"), LIST).await.ok(),
            None => None,
        };
        (cluster, copies.map(|copies| copies.into_iter().map(Object::new).collect::<Vec<_>>()))
    }))
    .await;
    let open: BTreeMap<ClusterUid, Option<Open>> =
        copies.iter().map(|(cluster, copies)| ((*cluster).clone(), copies.as_deref().map(read))).collect();
    let swept = Swept {
        claimed: suspects
            .iter()
            .flat_map(|(found, _)| found)
            .map(|(target, object)| (target.clone(), owner(target, object)))
            .collect(),
        looked: clusters.iter().zip(&suspects).filter(|(_, (_, all))| *all).map(|(cluster, _)| cluster.clone()).collect(),
        world: leaving(operator, open.values().flatten().flat_map(|open| &open.contracts), &acting).await,
        over: over
            .iter()
            .filter_map(|drill| Some((drill.uid().to_owned(), drill.text("/status/times/done").parse().ok()?)))
            .collect(),
        acting,
        traffic_is_back: false,
    };
    operator.count_claims(clusters.iter().zip(&suspects));
    let mut back = Vec::new();
    let mut conflicts: BTreeMap<String, Vec<Conflict>> = BTreeMap::new();
    for (cluster, (found, _)) in clusters.iter().zip(&suspects) {
        // In a region a claim speaks while the copy is there, which the drill deletes after the last undo; on the hub, where the
        // original stays for the record, while any region has one.
        let speaking: Vec<Option<&Open>> =
            open.iter().filter(|(other, _)| *cluster == hub || *other == cluster).map(|(_, open)| open.as_ref()).collect();
        for (target, object) in found {
            let outcome = decide::sweep(object, target, &swept, &speaking, term);
            if let (Ok(outcome), Some(owner)) = (&outcome, object.label(LABEL)) {
                conflicts.entry(owner.to_owned()).or_default().extend(outcome.conflicts.iter().cloned());
            }
            back.push((target, outcome));
        }
    }
    let status = |singleton: &Object| serde_json::from_value(singleton.at("/status").cloned().unwrap_or_default()).ok();
    let led = singletons.iter().map(|singleton| (singleton.uid().to_owned(), status(singleton))).collect();
    // First said, then done: a value that is somebody else's is seen only once, since the write forgets it.
    for drill in &over {
        let found = conflicts.get(drill.uid()).map_or(&[][..], Vec::as_slice);
        settle(operator, drill, found, &swept, &open, &led).await?;
    }
    for (target, outcome) in back {
        take_back(operator, target, outcome).await;
    }
    let suspects: BTreeMap<&ClusterUid, &Vec<(Target, Object)>> =
        clusters.iter().zip(&suspects).filter(|(_, (_, all))| *all).map(|(cluster, (found, _))| (cluster, found)).collect();
    for (cluster, copies) in &copies {
        let claimed = [*cluster, &hub].map(|cluster| suspects.get(cluster));
        let ([Some(here), Some(there)], Some(copies)) = (claimed, copies) else { continue };
        let now = operator.seam.clock.now();
        for copy in copies.iter().filter(|copy| !is_needed(copy, &swept, here.iter().chain(*there), now)) {
            forget(operator, cluster, copy).await;
        }
    }
    Ok(Some(operator.seam.clock.now() + EVERY))
}

/// What may have a claim: whatever has the label, anywhere; and in the plans' namespaces whatever has the annotation, since a
/// rollback brings that back without the label. And whether all of it could be looked at. On a hub that is no region there are
/// only routes.
pub(crate) async fn suspects(
    api: &Api,
    cluster: &ClusterUid,
    only_routes: bool,
    namespaces: &BTreeSet<String>,
) -> (Vec<(Target, Object)>, bool) {
    let kinds = || CLAIMED.iter().filter(move |kind| !only_routes || **kind == Kind::HTTPRoute);
    let labelled = kinds().map(|kind| (*kind, kind.path(None), format!("&labelSelector={LABEL}")));
    let planned = kinds().filter(|kind| kind.resource().2).flat_map(|kind| {
        let path = |namespace: &String| (*kind, kind.path(Some(namespace)), String::new());
        namespaces.iter().map(path)
    });
    let lists = join_all(labelled.chain(planned).map(async |(kind, path, query)| match api.list(&path, &query, LIST).await {
        Ok(items) => Some((kind, items)),
        Err(CallError { category: Category::NotInstalled, .. }) => Some((kind, Vec::new())),
        Err(_) => None,
    }))
    .await;
    let all = lists.iter().all(Option::is_some);
    let mut found = BTreeMap::new();
    for (kind, items) in lists.into_iter().flatten() {
        for object in items.into_iter().map(Object::new) {
            let namespace = Some(object.namespace().to_owned()).filter(|namespace| !namespace.is_empty());
            let target = Target { cluster: cluster.clone(), kind, namespace, name: object.name().to_owned() };
            if object.label(LABEL).is_some() || object.annotation(ANNOTATION).is_some() {
                found.insert(target, object);
            }
        }
    }
    (found.into_iter().collect(), all)
}

impl Operator {
    /// Keeps how many objects have a claim, per cluster that was seen whole.
    fn count_claims<'a>(&self, seen: impl Iterator<Item = (&'a ClusterUid, &'a (Vec<(Target, Object)>, bool))>) {
        let Ok(mut claims) = self.claims.lock() else { return };
        for (cluster, (found, all)) in seen {
            let claimed = found.iter().filter(|(target, _)| target.kind != Kind::ReplicaSet).count();
            if *all {
                claims.insert(cluster.clone(), u32::try_from(claimed).unwrap_or(u32::MAX));
            }
        }
    }

    /// What each region owes from drills that are over.
    pub(super) fn owed(&self) -> BTreeMap<RegionName, String> {
        let mut owed: BTreeMap<RegionName, String> = BTreeMap::new();
        for drill in self.store.drills() {
            let Some(status) = drill.status.filter(|status| status.phase == Phase::Done) else { continue };
            let name = drill.metadata.name.unwrap_or_default();
            for debt in &status.debts {
                let Some((region, what)) = debt.split_once(": ") else { continue };
                // What the hub has to lead back, the region that was left waits for.
                let region = if region == "the hub" { drill.spec.region.as_str() } else { region };
                let Ok(region) = RegionName::try_from(region) else { continue };
                let text = owed.entry(region).or_insert_with(|| format!("drill {name} left"));
                if text.len() < 512 {
                    text.extend([" ", what, ","]);
                }
            }
        }
        for text in owed.values_mut() {
            text.truncate(text.trim_end_matches(',').len());
        }
        owed
    }
}

/// The workloads of the regions that contracts whose drill is over had emptied: users go back there only when they are Ready.
async fn leaving(operator: &Operator, contracts: impl Iterator<Item = &Contract>, acting: &BTreeSet<String>) -> World {
    let mut needs = Needs::default();
    for contract in contracts.filter(|contract| !acting.contains(&contract.drill.uid)) {
        operator.reach(contract).await;
        if let Some(cluster) = contract.regions.get(&contract.leaving) {
            needs.lists.extend(size::lists(cluster, &contract.namespaces, false));
        }
    }
    observe(&operator.fleet, &operator.seam, &needs).await
}

/// Whose claim, or label of one, is on an object: the uid.
pub(crate) fn owner(target: &Target, object: &Object) -> String {
    match crate::claim::read(object, target) {
        crate::claim::Read::Claim(claim) => claim.by.uid,
        _ => object.label(LABEL).unwrap_or_default().to_owned(),
    }
}

/// The contracts that copies hold.
pub(crate) fn read(copies: &[Object]) -> Open {
    let mut open = Open::default();
    for copy in copies {
        let text = copy.text("/data/contract");
        let hash = serde_json::from_str(text).map(|json| digest(&json)).unwrap_or_default();
        match Contract::parse(text, &hash) {
            Ok(contract) => open.contracts.push(contract),
            Err(_) => drop(open.unread.insert(copy.label(LABEL).unwrap_or_default().to_owned())),
        }
    }
    open
}

/// Says of a drill that is over what was found while its debts were paid, and which of them are.
async fn settle(
    operator: &Operator,
    seen: &Object,
    conflicts: &[Conflict],
    swept: &Swept,
    open: &BTreeMap<ClusterUid, Option<Open>>,
    led: &BTreeMap<String, Option<SingletonWorkloadStatus>>,
) -> Result<(), Error> {
    let Ok(drill) = serde_json::from_value::<Drill>(seen.json().clone()) else { return Ok(()) };
    let Some(status) = drill.status else { return Ok(()) };
    if status.debts.is_empty() && conflicts.is_empty() {
        return Ok(());
    }
    let contract = match &status.contract {
        Some(reference) => operator.contract(reference).await.ok(),
        None => None,
    };
    let now = operator.seam.clock.now();
    let Some(mut next) = settled(contract.as_deref(), &status, conflicts, swept, open, led) else { return Ok(()) };
    conditions(&mut next, drill.metadata.generation.unwrap_or(0), now);
    record(&status, &mut next, now);
    let after = operator.commit(Kind::Drill, seen, &next).await?;
    for conflict in next.conflicts.iter().filter(|conflict| !status.conflicts.contains(conflict)).take(8) {
        operator.tell(Kind::Drill, &after, true, "ForeignChangeKept", conflict).await;
    }
    let paid: Vec<&str> = status.debts.iter().filter(|debt| !next.debts.contains(debt)).map(String::as_str).collect();
    if !paid.is_empty() {
        let rest = if next.debts.is_empty() { String::new() } else { format!("; left: {}", next.debts.join("; ")) };
        let note = format!("what could not be put back at its end is put back now: {}{rest}", paid.join("; "));
        tracing::info!(drill = seen.name(), note, "debts paid");
        operator.tell(Kind::Drill, &after, false, "DebtsPaid", &note).await;
    }
    Ok(())
}

async fn take_back(operator: &Operator, target: &Target, outcome: Result<Outcome, Refusal>) {
    let (object, cluster) = (target.label(), &target.cluster);
    match outcome.map(|outcome| outcome.write) {
        Ok(None) => {}
        Ok(Some(write)) => match operator.write(&write, false).await {
            Ok(_) => tracing::info!(object, %cluster, "a claim whose owner is over was taken back or removed"),
            Err(error) => tracing::warn!(object, %cluster, %error, "a claim could not be swept"),
        },
        Err(refusal) => tracing::warn!(object, %cluster, %refusal, "a claim could not be swept"),
    }
}

/// Deletes a copy of a contract that nobody needs any more.
async fn forget(operator: &Operator, cluster: &ClusterUid, copy: &Object) {
    let namespace = Some(operator.settings.namespace.clone());
    let target = Target { cluster: cluster.clone(), kind: Kind::ConfigMap, namespace, name: copy.name().to_owned() };
    match operator.delete(&target, &Version::of(copy)).await {
        Ok(()) => tracing::info!(object = target.label(), %cluster, "a contract's copy that nobody needs was deleted"),
        Err(error) => tracing::warn!(object = target.label(), %cluster, %error, "a contract's copy could not be deleted"),
    }
}
