//! The standing sweep: claims whose owner is over are taken back, or removed where they do not speak. Nothing undoes itself by
//! time; this is for what a crash, a late request, a rollback or a removed finalizer left behind.

use super::{Error, Operator};
use crate::api::Phase;
use crate::claim::{self, LABEL, Read};
use crate::cluster::Api;
use crate::decide::Contract;
use crate::terms::{ClusterUid, Kind, Object, Target, Term, Timestamp, digest};
use chrono::TimeDelta;
use std::collections::BTreeSet;
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
    clusters.insert(hub);
    let acting: BTreeSet<String> = operator
        .store
        .drills()
        .into_iter()
        .filter(|drill| drill.status.as_ref().is_none_or(|status| status.phase != Phase::Done))
        .filter_map(|drill| drill.metadata.uid)
        .collect();
    for cluster in clusters {
        if let Some(api) = operator.fleet.by_uid(&cluster) {
            sweep(operator, &api, &cluster, &acting, term).await;
        }
    }
    Ok(Some(operator.seam.clock.now() + EVERY))
}

async fn sweep(operator: &Operator, api: &Api, cluster: &ClusterUid, acting: &BTreeSet<String>, term: Term) {
    let namespace = &operator.settings.namespace;
    // A claim speaks only while its owner's contract exists: in the cluster itself, or on the hub.
    let mut contracts = contracts(api, namespace).await;
    contracts.extend(self::contracts(&operator.fleet.hub, namespace).await);
    for kind in CLAIMED {
        // A kind that is not installed there, or a cluster that does not answer, has nothing to sweep now.
        let Ok(items) = api.list(&kind.path(None), &format!("&labelSelector={LABEL}"), LIST).await else { continue };
        for object in items.into_iter().map(Object::new) {
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
