use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Physics, count, edit, hash, owned, portion, put, reference, with_condition};
use crate::sim::json::{at, map, members, set, text};
use crate::sim::kind::Kind;
use crate::sim::object::{is_going, timestamp};
use crate::sim::store::{Key, Object, Store};

/// What the controller puts on pods and `ReplicaSet`s to tell templates apart.
const HASH: &str = "pod-template-hash";

impl Physics {
    /// The `ReplicaSet` of the present template grows as the others shrink, within surge and unavailability.
    pub(super) fn deployment(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let object = store.get(key)?.clone();
        if is_going(&object) {
            return None;
        }
        let seen = self.seen(&object, now)?;
        let sets = store.kind("ReplicaSet")?;
        let present = present(store, &sets, &seen)?;
        let all = owned(store, &sets, &seen);
        for (set, size) in sizes(&seen, &present, &all) {
            put(store, &sets, &set, vec![("spec.replicas", json!(size))]);
        }
        // The real controller copies the annotations, whatever they are, and never takes one back.
        let copied = store.get(&present)?;
        if members(&seen, "metadata.annotations").any(|(name, value)| at(copied, "metadata.annotations").get(name) != Some(value))
        {
            edit(store, &sets, &present, |copy| {
                for (name, value) in members(&seen, "metadata.annotations") {
                    map(copy, "metadata.annotations").insert(name.clone(), value.clone());
                }
            });
        }
        let wanted = count(&seen, "spec.replicas", 1);
        let all = owned(store, &sets, &seen);
        let sum = |field: &str| all.iter().map(|(_, set)| count(set, &format!("status.{field}"), 0)).sum::<u64>();
        let updated = store.get(&present).map_or(0, |set| count(set, "status.replicas", 0));
        let (replicas, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
        let may_lack = portion(&seen, "spec.strategy.rollingUpdate.maxUnavailable", "25%", wanted, false);
        let is_available = available >= wanted.saturating_sub(may_lack);
        let reason = if is_available { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" };
        let stamp = timestamp(&store.clock);
        let values = vec![
            ("status.observedGeneration", at(&seen, "metadata.generation").clone()),
            ("status.replicas", json!(replicas)),
            ("status.updatedReplicas", json!(updated)),
            ("status.readyReplicas", json!(ready)),
            ("status.availableReplicas", json!(available)),
            ("status.unavailableReplicas", json!(wanted.max(replicas).saturating_sub(available))),
            ("status.conditions", with_condition(&object, "Available", is_available, reason, "", &stamp)),
        ];
        put(store, kind, key, values);
        Some(())
    }
}

/// The `ReplicaSet` of the present template; made where there is none.
fn present(store: &mut Store, sets: &Kind, deployment: &Value) -> Option<Key> {
    let template = at(deployment, "spec.template");
    if let Some((key, _)) =
        owned(store, sets, deployment).into_iter().find(|(_, set)| is_same(at(set, "spec.template"), template))
    {
        return Some(key);
    }
    let hash = hash(template);
    let mut labelled = template.clone();
    map(&mut labelled, "metadata.labels").insert(HASH.into(), json!(hash));
    let mut selector = at(deployment, "spec.selector").clone();
    map(&mut selector, "matchLabels").insert(HASH.into(), json!(hash));
    let name = format!("{}-{hash}", text(deployment, "metadata.name"));
    let metadata = json!({
        "name": name, "labels": at(&labelled, "metadata.labels"), "annotations": at(deployment, "metadata.annotations"),
        "ownerReferences": [reference(deployment)],
    });
    let mut spec = json!({"replicas": 0, "selector": selector, "template": labelled});
    if let Some(patience) = at(deployment, "spec").get("minReadySeconds") {
        set(&mut spec, "minReadySeconds", patience.clone());
    }
    let namespace = text(deployment, "metadata.namespace");
    store.create(sets, namespace, json!({"metadata": metadata, "spec": spec}), true, false).ok()?;
    Some(Key::new(sets, namespace, &name))
}

/// The hash is not part of what the user wrote.
fn is_same(one: &Value, other: &Value) -> bool {
    let labels = |template| members(template, "metadata.labels").filter(|(key, _)| *key != HASH);
    at(one, "spec") == at(other, "spec")
        && at(one, "metadata.annotations") == at(other, "metadata.annotations")
        && labels(one).eq(labels(other))
}

/// The sizes that change now: one move at a time, as pods become available the next.
fn sizes(deployment: &Value, present: &Key, sets: &[(Key, Object)]) -> Vec<(Key, u64)> {
    let wanted = count(deployment, "spec.replicas", 1);
    let size = |set: &Object| count(set, "spec.replicas", 0);
    let available = |set: &Object| count(set, "status.availableReplicas", 0);
    let Some((_, new)) = sets.iter().find(|(key, _)| key == present) else { return Vec::new() };
    let mut old: Vec<&(Key, Object)> = sets.iter().filter(|(key, set)| key != present && size(set) > 0).collect();
    old.sort_by_key(|(key, set)| (text(set, "metadata.creationTimestamp").to_owned(), key.clone()));
    if text(deployment, "spec.strategy.type") == "Recreate" {
        let all_over = sets.iter().all(|(key, set)| key == present || count(set, "status.replicas", 0) == 0);
        let mut moves: Vec<(Key, u64)> = old.iter().map(|(key, _)| (key.clone(), 0)).collect();
        if all_over {
            moves.push((present.clone(), wanted));
        }
        return moves;
    }
    if old.is_empty() || wanted == 0 {
        return old.iter().map(|(key, _)| (key.clone(), 0)).chain([(present.clone(), wanted)]).collect();
    }
    let surge = portion(deployment, "spec.strategy.rollingUpdate.maxSurge", "25%", wanted, true);
    let lack = portion(deployment, "spec.strategy.rollingUpdate.maxUnavailable", "25%", wanted, false);
    let lack = if surge == 0 { lack.max(1) } else { lack };
    let total: u64 = sets.iter().map(|(_, set)| size(set)).sum();
    let grown = size(new) + (wanted + surge).saturating_sub(total).min(wanted.saturating_sub(size(new)));
    if grown.min(wanted) != size(new) {
        return vec![(present.clone(), grown.min(wanted))];
    }
    let least = wanted.saturating_sub(lack);
    let mut may_go = total.saturating_sub(least + size(new).saturating_sub(available(new)));
    let mut moves = Vec::new();
    let mut left: u64 = sets.iter().map(|(_, set)| available(set)).sum::<u64>().saturating_sub(least);
    for (key, set) in old {
        // First what is not available anyway.
        let unhealthy = size(set).saturating_sub(available(set)).min(may_go);
        let healthy = (size(set) - unhealthy).min(left).min(may_go - unhealthy);
        (may_go, left) = (may_go - unhealthy - healthy, left - healthy);
        if unhealthy + healthy > 0 {
            moves.push((key.clone(), size(set) - unhealthy - healthy));
        }
    }
    moves
}
