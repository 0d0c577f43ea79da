//! The end of a drill: what is left when every step is back, and what becomes a debt.

use super::contract::Contract;
use super::decision::Effect;
use super::drill::{advance, all};
use super::intent;
use super::phase::Event;
use super::stored::Stored;
use super::verdict;
use super::words::{named, place};
use crate::api::{Direction, DrillStatus, HoldReason, StepState, StepStatus};
use crate::claim::{self, Read};
use crate::terms::{ClusterUid, Kind, Target, Timestamp};
use crate::world::{List, World};
use chrono::TimeDelta;
use std::collections::BTreeSet;

/// How long the way back waits for a region that cannot be reached, beyond the deadline, before the rest becomes debts: long
/// enough for a control plane's restart, short enough that nobody waits for a lost region.
const WAY_BACK: TimeDelta = TimeDelta::minutes(15);

/// Where copies of a Deployment's claim are.
pub(super) fn replica_sets(contract: &Contract, cluster: &ClusterUid) -> Vec<List> {
    let list = |namespace: &String| List { cluster: cluster.clone(), kind: Kind::ReplicaSet, namespace: Some(namespace.clone()) };
    contract.namespaces.iter().map(list).collect()
}

/// The end of the way back: dead copies of claims, copies of the contract; then it is over.
pub(super) fn finish(
    contract: &Contract,
    stored: &Stored,
    world: &World,
    next: &mut DrillStatus,
    effects: &mut Vec<Effect>,
    hold: &mut Option<(HoldReason, String)>,
    now: Timestamp,
) {
    if next.times.evacuating.is_none() {
        // Nothing foreign was written. A copy of the contract that cannot be seen now falls to the sweep.
        effects.extend(stored.take_down(contract, world));
        if effects.is_empty() {
            over(contract, next, now);
        }
        return;
    }
    let back = all(next, contract, Direction::Back);
    let late = next.times.blind.is_some_and(|since| now >= since + WAY_BACK) && now >= contract.limits.ends();
    let blind: BTreeSet<ClusterUid> = contract.regions.values().filter(|uid| world.blind(uid).is_some()).cloned().collect();
    let given_up = late && !blind.is_empty() && effects.is_empty();
    if !(back || given_up) {
        return;
    }
    // Whatever is still waited for will not come in time: it becomes a debt.
    *hold = None;
    let mut debts: BTreeSet<String> = next.debts.iter().cloned().collect();
    if !back {
        let open =
            contract.steps.iter().filter(|step| !next.steps.iter().any(|status| status.name == step.name && is_back(status)));
        let owed = open.flat_map(|step| contract.targets(step)).filter(|target| is_owed(contract, target, world));
        debts.extend(owed.map(|target| place(contract, &target)));
    }
    let mut unpaid = false;
    for cluster in contract.regions.values() {
        if blind.contains(cluster) {
            unpaid = true;
            debts.insert(format!("{}: claims and the contract's copy there were not seen to be gone", named(contract, cluster)));
            continue;
        }
        // A Deployment that is still claimed copies its claim to its ReplicaSets again: they are cleaned when it is not.
        for list in if back { replica_sets(contract, cluster) } else { Vec::new() } {
            for object in world.list(&list).unwrap_or_default() {
                let target = Target {
                    cluster: cluster.clone(),
                    kind: Kind::ReplicaSet,
                    namespace: list.namespace.clone(),
                    name: object.name().into(),
                };
                // What a singleton's Deployment copies is that one's: it would only be copied again.
                let is_others = matches!(claim::read(object, &target), Read::Copied(copied) if copied.by.is_singleton());
                if let (false, Ok(Some(write))) = (is_others, claim::strip_dead(object, &target)) {
                    effects.push(Effect::Write(write));
                }
            }
            if let Err(blind) = world.list(&list) {
                *hold = Some((HoldReason::Unreachable, format!("ReplicaSets in {}: {blind}", named(contract, cluster))));
                return;
            }
        }
    }
    let waits_for_region = unpaid && !late;
    if waits_for_region {
        *hold = Some((HoldReason::Unreachable, debts.first().cloned().unwrap_or_default()));
        return;
    }
    if !effects.is_empty() || next.open.iter().any(|intent| !intent::lost(intent, &blind)) {
        return;
    }
    // A claim speaks only while its contract exists: where something is still owed, the copies stay.
    if debts.is_empty() {
        effects.extend(stored.take_down(contract, world));
    }
    if effects.is_empty() && hold.is_none() {
        next.debts = debts.into_iter().take(128).collect();
        next.open.clear();
        over(contract, next, now);
    }
}

fn is_back(step: &StepStatus) -> bool {
    step.direction == Direction::Back && step.state == StepState::Done
}

/// Whether an object may still be as the drill left it.
fn is_owed(contract: &Contract, target: &Target, world: &World) -> bool {
    match world.object(target) {
        Ok(Some(object)) if target.kind != Kind::SingletonWorkload => {
            matches!(claim::read(object, target), Read::Claim(claim) if claim.by.uid == contract.drill.uid)
        }
        Ok(None) => false,
        Ok(Some(_)) | Err(_) => true,
    }
}

fn over(contract: &Contract, next: &mut DrillStatus, now: Timestamp) {
    let (verdict, reasons) = verdict::verdict(contract, next);
    next.verdict = Some(verdict);
    next.reasons = reasons;
    advance(next, Event::AllBack, now);
}
