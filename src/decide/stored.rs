use super::contract::Contract;
use super::decision::{Effect, Orders};
use super::words::place;
use crate::api::{ContractRef, HoldReason, Phase};
use crate::claim;
use crate::terms::{ClusterUid, Json, Kind, Object, Target, Version};
use crate::world::{Blind, List, World};
use serde_json::json;

/// Where a contract is stored, and the lock beside it: what must stand before anything foreign is written, and is taken away
/// after the last undo.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The operator's namespace, on the hub and in every region.
    pub namespace: String,
    /// The `ConfigMap`'s name.
    pub name: String,
}

impl Stored {
    /// The lock on the hub: one acting drill per installation.
    #[must_use]
    pub fn lock(namespace: &str, hub: &ClusterUid) -> Target {
        own(hub, Kind::Lease, namespace, "firedrill-drill")
    }

    /// All drills: a lock held by none that acts is free.
    pub(super) fn drills(hub: &ClusterUid) -> List {
        List { cluster: hub.clone(), kind: Kind::Drill, namespace: None }
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
                holder => match acting(contract, world, holder) {
                    Err(blind) => *hold = Some((HoldReason::Unreachable, format!("the drill that has the lock {blind}"))),
                    Ok(None) => effects.push(Effect::Replace(lock, held_by(lease, Some(uid)))),
                    Ok(Some(name)) => return Err(name),
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

/// The name of the drill with this uid, if there is one that is not over: by a list of this look, since a watch may not show one
/// that another instance has just begun.
fn acting(contract: &Contract, world: &World, uid: &str) -> Result<Option<String>, Blind> {
    let over = format!("{:?}", Phase::Done);
    let drills = world.list(&Stored::drills(&contract.hub))?;
    let holder = drills.iter().find(|drill| drill.uid() == uid && drill.text("/status/phase") != over);
    Ok(holder.map(|drill| drill.name().to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Control;
    use crate::world::Seen;

    #[test]
    fn the_lock_is_taken_from_a_drill_only_if_a_list_shows_that_it_is_over() {
        let contract: Contract = serde_json::from_str(include_str!("contract.golden.json")).unwrap();
        let stored = Stored { namespace: "firedrill".into(), name: "contract".into() };
        let orders = Orders { control: Control::Run, deleted: false, finalizer: true, generation: 1 };
        let tried = |drills: Result<Vec<Object>, Blind>| {
            let (lock, at) = (Stored::lock("firedrill", &contract.hub), contract.limits.declared);
            let lease = Object::new(json!({"metadata": {"name": "firedrill-drill"}, "spec": {"holderIdentity": "other"}}));
            let mut world = World::default();
            world.objects.insert(lock, Seen { at, what: Ok(Some(lease)) });
            world.lists.insert(Stored::drills(&contract.hub), Seen { at, what: drills });
            let mut hold = None;
            let effects = stored.put_up(&contract, &orders, &world, &mut hold);
            (effects.map(|effects| effects.len()), hold.map(|(reason, _)| reason))
        };
        let drill = |phase: &str| Object::new(json!({"metadata": {"name": "first", "uid": "other"}, "status": {"phase": phase}}));
        assert_eq!(tried(Ok(vec![drill("Evacuating")])), (Err("first".to_owned()), None));
        assert_eq!(tried(Ok(vec![drill("Done")])), (Ok(1), None));
        assert_eq!(tried(Ok(Vec::new())), (Ok(1), None), "it was removed");
        assert_eq!(tried(Err(Blind::TimedOut)), (Ok(0), Some(HoldReason::Unreachable)));
    }
}
