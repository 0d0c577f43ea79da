use super::contract::Contract;
use super::decision::{Effect, Orders};
use super::words::place;
use crate::api::{ContractRef, HoldReason};
use crate::claim;
use crate::terms::{ClusterUid, Json, Kind, Object, Target, Version};
use crate::world::World;
use serde_json::json;
use std::collections::BTreeMap;

/// Where a contract is stored, and the lock beside it: what must stand before anything foreign is written, and is taken away
/// after the last undo.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The operator's namespace, on the hub and in every region.
    pub namespace: String,
    /// The `ConfigMap`'s name.
    pub name: String,
    /// Drills that are not over, by uid, with their names: a lock held by any other is free.
    pub acting: BTreeMap<String, String>,
}

impl Stored {
    /// The lock on the hub: one acting drill per installation.
    #[must_use]
    pub fn lock(namespace: &str, hub: &ClusterUid) -> Target {
        own(hub, Kind::Lease, namespace, "firedrill-drill")
    }

    /// What takes the lock away from a drill, if it has it.
    #[must_use]
    pub fn unlock(lock: &Target, lease: &Object, drill: &str) -> Option<Effect> {
        (lease.text("/spec/holderIdentity") == drill).then(|| Effect::Replace(lock.clone(), held_by(lease, None)))
    }

    /// The contract's copy in a cluster.
    pub(super) fn copy(&self, cluster: &ClusterUid) -> Target {
        own(cluster, Kind::ConfigMap, &self.namespace, &self.name)
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

    /// What is still missing before anything foreign is written: the finalizer and the lock, then a copy in every region; why it
    /// cannot be put there.
    ///
    /// # Errors
    /// The name of the drill that has the lock.
    pub(super) fn put_up(
        &self,
        contract: &Contract,
        orders: &Orders,
        world: &World,
        hold: &mut Option<(HoldReason, String)>,
    ) -> Result<Vec<Effect>, String> {
        let mut effects = Vec::new();
        if !orders.finalizer {
            effects.push(Effect::Finalizer(true));
        }
        let (lock, uid) = (Self::lock(&self.namespace, &contract.hub), contract.drill.uid.as_str());
        match world.object(&lock) {
            Err(blind) => *hold = Some((HoldReason::Unreachable, format!("the drill lock {blind}"))),
            Ok(None) => effects.push(Effect::Create(lock, self.lease(uid))),
            Ok(Some(lease)) => match lease.text("/spec/holderIdentity") {
                holder if holder == uid => {}
                holder => match self.acting.get(holder) {
                    None => effects.push(Effect::Replace(lock, held_by(lease, Some(uid)))),
                    Some(name) => return Err(name.clone()),
                },
            },
        }
        if !effects.is_empty() || hold.is_some() {
            return Ok(effects);
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
        Ok(effects)
    }

    /// The copies that are still to be taken away.
    pub(super) fn take_down(&self, contract: &Contract, world: &World) -> Vec<Effect> {
        let copies = contract.copies().into_iter().map(|cluster| self.copy(&cluster));
        copies
            .filter_map(|target| match world.object(&target) {
                Ok(Some(object)) => Some(Effect::Delete(target.clone(), Version::of(object))),
                Ok(None) | Err(_) => None,
            })
            .collect()
    }

    fn lease(&self, holder: &str) -> Json {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "firedrill-drill", "namespace": self.namespace},
            "spec": {"holderIdentity": holder},
        })
    }
}

fn own(cluster: &ClusterUid, kind: Kind, namespace: &str, name: &str) -> Target {
    Target { cluster: cluster.clone(), kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
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
