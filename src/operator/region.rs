//! A region: is its cluster reached, is it the one it was, what does a drill do with it just now.

use super::{Error, Key, Operator};
use crate::api::{Phase, Region, RegionState, RegionStatus, Status, set};
use crate::cluster::{Category, FleetError};
use crate::terms::{ClusterUid, Kind, RegionName, Timestamp};
use chrono::TimeDelta;

/// How often a region is looked at.
const HEARTBEAT: TimeDelta = TimeDelta::seconds(5);

pub(super) async fn activate(operator: &Operator, key: &Key) -> Result<Option<Timestamp>, Error> {
    let Some(seen) = operator.store.get(key) else { return Ok(None) };
    let region: Region = seen.parse().map_err(|error| Error::Malformed(format!("Region {}", key.name), error))?;
    let before = region.status.clone().unwrap_or_default();
    let looked = match operator.fleet.connect(&region.spec.cluster).await {
        Ok(api) => operator.fleet.identify(&api).await.map(|uid| (uid, api)),
        Err(error) => Err(error),
    };
    let now = operator.seam.clock.now();
    let generation = region.metadata.generation.unwrap_or(0);
    let mut next = RegionStatus { observed_generation: generation, state: state(operator, &key.name), ..before.clone() };
    let pinned = before.cluster_uid.clone().map(ClusterUid);
    let (reachable, ready, reason, message) = match looked {
        Ok((uid, _)) if pinned.as_ref().is_some_and(|pinned| *pinned != uid) => {
            // Who still reaches the cluster that it was, does so by its own kubeconfig.
            if let Some(pinned) = &pinned {
                operator.fleet.forget(pinned);
            }
            let message = format!(
                "another cluster answers (uid {uid}) than the one this region was ({}); delete and create the Region if that is meant",
                pinned.map(|uid| uid.0).unwrap_or_default()
            );
            (Status::True, Status::False, "ClusterChanged", message)
        }
        Ok((uid, api)) => {
            operator.fleet.remember(&uid, &api);
            next.cluster_uid = Some(uid.0);
            (Status::True, Status::True, "Ready", "its cluster answers".to_owned())
        }
        Err(FleetError::Call(error)) if matches!(error.category, Category::Unreachable | Category::TimedOut) => {
            (Status::False, Status::False, "Unreachable", format!("its cluster cannot be reached: {error}"))
        }
        Err(FleetError::Call(error)) => (Status::Unknown, Status::False, "Refused", format!("its cluster refuses: {error}")),
        Err(error @ FleetError::Secret { .. }) => (Status::Unknown, Status::False, "SecretUnusable", error.to_string()),
        Err(error @ FleetError::Kubeconfig { .. }) => (Status::Unknown, Status::False, "KubeconfigRefused", error.to_string()),
        Err(error) => (Status::Unknown, Status::False, "Unusable", error.to_string()),
    };
    set(&mut next.conditions, "Reachable", reachable, reason, &message, generation, now);
    set(&mut next.conditions, "Ready", ready, reason, &message, generation, now);
    let cluster = next.cluster_uid.clone().map(ClusterUid);
    let counted = cluster.and_then(|cluster| operator.claims.lock().ok()?.get(&cluster).copied());
    next.claims = counted.or(next.claims);
    let owed = RegionName::try_from(key.name.as_str()).ok().and_then(|region| operator.owed().remove(&region));
    let (settled, reason, message) = match owed {
        Some(owed) => {
            let message = format!(
                "{owed}; it is put back when the region can be reached, and no drill starts until then. What can never be put back is forgiven by deleting that drill"
            );
            (Status::False, "Debts", message)
        }
        None => (Status::True, "Settled", "nothing of a drill that is over is left here".to_owned()),
    };
    if settled == Status::False && !before.conditions.iter().any(|was| was.kind == "Settled" && was.status == settled) {
        operator.tell(Kind::Region, &seen, true, "Debts", &message).await;
    }
    set(&mut next.conditions, "Settled", settled, reason, &message, generation, now);
    if next != before {
        operator.commit(Kind::Region, &seen, &next).await?;
    }
    Ok(Some(now + HEARTBEAT))
}

fn state(operator: &Operator, name: &str) -> RegionState {
    operator
        .store
        .drills()
        .iter()
        .filter(|drill| drill.spec.region == name)
        .filter_map(|drill| drill.status.as_ref())
        .find_map(|status| match status.phase {
            Phase::Evacuating => Some(RegionState::Draining),
            Phase::Evacuated => Some(RegionState::Evacuated),
            Phase::Returning if status.times.evacuating.is_some() => Some(RegionState::Returning),
            Phase::Pending | Phase::Checking | Phase::Returning | Phase::Done => None,
        })
        .unwrap_or_default()
}
