use super::contract::Contract;
use super::drill::{Effect, Orders};
use super::words::place;
use crate::api::{ContractRef, HoldReason};
use crate::claim;
use crate::terms::{ClusterUid, Json, Kind, Object, Target, Version};
use crate::world::World;
use serde_json::json;
use std::collections::BTreeSet;

/// Where a contract is stored, and the lock beside it: what must stand before anything foreign is written, and is taken away
/// after the last undo.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The operator's namespace, on the hub and in every region.
    pub namespace: String,
    /// The `ConfigMap`'s name.
    pub name: String,
    /// Uids of drills that exist: a lock held by any other is free.
    pub drills: BTreeSet<String>,
}

impl Stored {
    /// The lock: one acting drill per installation.
    pub(super) fn lock(&self, contract: &Contract) -> Target {
        self.own(&contract.hub, Kind::Lease, "firedrill-drill")
    }

    /// The contract's copy in a cluster.
    pub(super) fn copy(&self, cluster: &ClusterUid) -> Target {
        self.own(cluster, Kind::ConfigMap, &self.name)
    }

    fn own(&self, cluster: &ClusterUid, kind: Kind, name: &str) -> Target {
        Target { cluster: cluster.clone(), kind, namespace: Some(self.namespace.clone()), name: name.to_owned() }
    }

    /// The contract as an immutable `ConfigMap`, the same on the hub and in every region.
    #[must_use]
    pub fn body(&self, contract: &Contract) -> Json {
        let text = serde_json::to_value(contract).map(|json| json.to_string()).unwrap_or_default();
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
            "metadata": {
                "name": self.name, "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": "firedrill", claim::LABEL: contract.drill.uid},
            },
            "data": {"contract": text},
        })
    }

    /// What is still missing before anything foreign is written: the finalizer, the lock, and a copy in every region; why it
    /// cannot be put there.
    pub(super) fn put_up(
        &self,
        contract: &Contract,
        orders: &Orders,
        world: &World,
        hold: &mut Option<(HoldReason, String)>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !orders.finalizer {
            effects.push(Effect::Finalizer(true));
        }
        let (lock, uid) = (self.lock(contract), contract.drill.uid.as_str());
        match world.object(&lock) {
            Err(blind) => *hold = Some((HoldReason::Unreachable, format!("the drill lock {blind}"))),
            Ok(None) => effects.push(Effect::Create(lock, self.lease(uid))),
            Ok(Some(lease)) => match lease.text("/spec/holderIdentity") {
                holder if holder == uid => {}
                holder if holder.is_empty() || !self.drills.contains(holder) => {
                    effects.push(Effect::Replace(lock, held_by(lease, Some(uid))));
                }
                holder => *hold = Some((HoldReason::Unreachable, format!("drill {holder} acts; one at a time"))),
            },
        }
        for cluster in contract.copies() {
            let target = self.copy(&cluster);
            match world.object(&target) {
                Ok(Some(_)) => {}
                Ok(None) => effects.push(Effect::Create(target, self.body(contract))),
                Err(blind) => {
                    *hold =
                        Some((HoldReason::RegionBlind, format!("the contract's copy in {}: {blind}", place(contract, &target))));
                }
            }
        }
        effects
    }

    /// What is still to be taken away after the last undo: the lock and, unless something is owed, which only an open contract
    /// lets be paid, the copies.
    pub(super) fn take_down(
        &self,
        contract: &Contract,
        world: &World,
        owed: bool,
        hold: &mut Option<(HoldReason, String)>,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for cluster in if owed { BTreeSet::new() } else { contract.copies() } {
            let target = self.copy(&cluster);
            if let Ok(Some(object)) = world.object(&target) {
                effects.push(Effect::Delete(target, Version::of(object)));
            }
        }
        let lock = self.lock(contract);
        match world.object(&lock) {
            Ok(Some(lease)) if lease.text("/spec/holderIdentity") == contract.drill.uid => {
                effects.push(Effect::Replace(lock, held_by(lease, None)));
            }
            Ok(_) => {}
            Err(blind) => *hold = Some((HoldReason::Unreachable, format!("the drill lock {blind}"))),
        }
        effects
    }

    fn lease(&self, holder: &str) -> Json {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "firedrill-drill", "namespace": self.namespace},
            "spec": {"holderIdentity": holder},
        })
    }
}

fn held_by(lease: &Object, holder: Option<&str>) -> Json {
    let mut body = lease.json().clone();
    if let Some(spec) = body.get_mut("spec").and_then(Json::as_object_mut) {
        match holder {
            Some(holder) => spec.insert("holderIdentity".into(), holder.into()),
            None => spec.remove("holderIdentity"),
        };
    }
    body
}

impl ContractRef {
    /// The reference to the contract with this hash of the drill with this uid.
    #[must_use]
    pub fn new(uid: &str, hash: &str) -> Self {
        let short = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).take(10).collect::<String>();
        Self { hash: hash.to_owned(), config_map: format!("firedrill-{}-{}", short(uid), short(hash)) }
    }
}
