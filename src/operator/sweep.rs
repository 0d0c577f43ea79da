//! The standing sweep: claims whose owner is over are taken back, or removed where they do not speak. Nothing undoes itself by
//! time; this is for what a crash, a late request, a rollback or a removed finalizer left behind.

use super::{Error, Operator};
use crate::api::Phase;
use crate::claim::{self, ANNOTATION, LABEL, Read};
use crate::cluster::Api;
use crate::decide::Contract;
use crate::terms::{ClusterUid, Kind, Object, Target, Term, Timestamp, digest};
use chrono::TimeDelta;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often it sweeps.
const EVERY: TimeDelta = TimeDelta::seconds(30);
/// How long a list may take.
const LIST: Duration = Duration::from_secs(5);
/// The kinds that firedrill claims.
const CLAIMED: [Kind; 5] = [Kind::HTTPRoute, Kind::HorizontalPodAutoscaler, Kind::Deployment, Kind::StatefulSet, Kind::Node];

pub(super) async fn activate(operator: &Operator, term: Term) -> Result<Option<Timestamp>, Error> {
    let hub = operator.hub()?;
    let mut clusters: BTreeSet<ClusterUid> = operator
        .store
        .regions()
        .iter()
        .filter_map(|region| region.status.as_ref()?.cluster_uid.clone())
        .map(ClusterUid)
        .collect();
    clusters.insert(hub.clone());
    let acting: BTreeSet<String> = operator
        .store
        .drills()
        .into_iter()
        .filter(|drill| drill.status.as_ref().is_none_or(|status| status.phase != Phase::Done))
        .filter_map(|drill| drill.metadata.uid)
        .collect();
    let namespaces: BTreeSet<String> = operator.store.plans().into_iter().flat_map(|plan| plan.spec.namespaces).collect();
    let reached = clusters.into_iter().filter_map(|cluster| Some((operator.fleet.by_uid(&cluster)?, cluster)));
    let reached: Vec<(Api, ClusterUid)> = reached.collect();
    // A claim speaks only while its owner's contract is open: in a region while the copy is there, which the drill deletes after
    // the last undo; on the hub, where the original stays for the record, while any region has one.
    let copies = reached.iter().filter(|(_, cluster)| *cluster != hub);
    let open: BTreeMap<&ClusterUid, Vec<Contract>> = join_all(copies.map(async |(api, cluster)| {
        let copies = contracts(api, &operator.settings.namespace).await;
        (cluster, copies)
    }))
    .await
    .into_iter()
    .collect();
    let everywhere: Vec<&Contract> = open.values().flatten().collect();
    join_all(reached.iter().map(|(api, cluster)| {
        let speaking = open.get(cluster).map_or_else(|| everywhere.clone(), |copies| copies.iter().collect());
        let (acting, namespaces) = (&acting, &namespaces);
        async move { sweep(operator, (api, cluster), &speaking, acting, namespaces, term).await }
    }))
    .await;
    Ok(Some(operator.seam.clock.now() + EVERY))
}

async fn sweep(
    operator: &Operator,
    (api, cluster): (&Api, &ClusterUid),
    contracts: &[&Contract],
    acting: &BTreeSet<String>,
    namespaces: &BTreeSet<String>,
    term: Term,
) {
    for kind in CLAIMED {
        for object in suspects(api, kind, namespaces).await {
            let target = Target {
                cluster: cluster.clone(),
                kind,
                namespace: Some(object.namespace().to_owned()).filter(|namespace| !namespace.is_empty()),
                name: object.name().to_owned(),
            };
            if object.label(LABEL).is_some_and(|owner| acting.contains(owner)) {
                continue;
            }
            let write = match claim::read(&object, &target) {
                Read::Claim(claim) if acting.contains(&claim.by.uid) => continue,
                Read::Claim(claim) if contracts.iter().any(|contract| speaks(contract, &claim, &target)) => {
                    match claim::undo_claim(&object, &claim, term) {
                        Ok(outcome) => match outcome.write {
                            Some(write) => Ok(Some(write)),
                            None => claim::release(&object, &target, &claim.by),
                        },
                        Err(refusal) => Err(refusal),
                    }
                }
                Read::Claim(_) | Read::Nothing | Read::Copied | Read::Broken(_) => claim::strip(&object, &target),
            };
            match write {
                Ok(Some(write)) => match operator.write(&write, false).await {
                    Ok(_) => {
                        tracing::info!(object = target.label(), %cluster, "a claim whose owner is over was taken back or removed");
                    }
                    Err(error) => tracing::warn!(object = target.label(), %cluster, %error, "a claim could not be swept"),
                },
                Ok(None) => {}
                Err(refusal) => tracing::warn!(object = target.label(), %cluster, %refusal, "a claim could not be swept"),
            }
        }
    }
}

/// What may have a claim: whatever has the label, anywhere; and in the plans' namespaces whatever has the annotation, since a
/// rollback brings that back without the label.
async fn suspects(api: &Api, kind: Kind, namespaces: &BTreeSet<String>) -> Vec<Object> {
    // A kind that is not installed there, or a cluster that does not answer, has nothing to sweep now.
    let list = async |path: String, query: &str| api.list(&path, query, LIST).await.unwrap_or_default();
    let mut found = list(kind.path(None), &format!("&labelSelector={LABEL}")).await;
    for namespace in namespaces.iter().filter(|_| kind.resource().2) {
        found.extend(list(kind.path(Some(namespace)), "").await);
    }
    let mut seen = BTreeSet::new();
    let claimed = |object: &Object| object.label(LABEL).is_some() || object.annotation(ANNOTATION).is_some();
    found.into_iter().map(Object::new).filter(|object| claimed(object) && seen.insert(object.uid().to_owned())).collect()
}

/// Whether the contract is the claim's owner's and lists its target and every spot.
fn speaks(contract: &Contract, claim: &claim::Claim, target: &Target) -> bool {
    contract.drill.uid == claim.by.uid
        && contract.uids.get(target) == Some(&claim.uid)
        && contract.steps.iter().flat_map(|step| contract.changes(step, 0, 100)).any(|(listed, changes)| {
            listed == *target && claim.undo.iter().all(|entry| changes.iter().any(|change| change.spot == entry.spot))
        })
}

async fn contracts(api: &Api, namespace: &str) -> Vec<Contract> {
    let path = Kind::ConfigMap.path(Some(namespace));
    let items = api.list(&path, &format!("&labelSelector={LABEL}"), LIST).await.unwrap_or_default();
    items
        .into_iter()
        .map(Object::new)
        .filter_map(|object| {
            let text = object.text("/data/contract");
            let hash = digest(&serde_json::from_str(text).ok()?);
            Contract::parse(text, &hash).ok()
        })
        .collect()
}
