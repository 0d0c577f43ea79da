use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::pod::{is_active, is_ready};
use super::{count, portion, put, with_condition};
use crate::sim::json::{at, items, text};
use crate::sim::kind::Kind;
use crate::sim::object::{is_going, timestamp};
use crate::sim::refusal::Refusal;
use crate::sim::select::Selector;
use crate::sim::store::{Key, Object, Store};

/// How many of the pods that a budget selects may go now.
pub(super) fn budget(store: &mut Store, kind: &Kind, key: &Key) -> Option<()> {
    let budget = store.get(key)?.clone();
    if is_going(&budget) {
        return None;
    }
    let selector = Selector::of(at(&budget, "spec.selector"))?;
    let pods = store.kind("Pod")?;
    let selected: Vec<Object> = store
        .list(&pods, &key.namespace)
        .filter(|(_, pod)| selector.matches(pod) && !matches!(text(pod, "status.phase"), "Succeeded" | "Failed"))
        .map(|(_, pod)| Arc::clone(pod))
        .collect();
    let healthy = selected.iter().filter(|pod| is_active(pod) && is_ready(pod)).count() as u64;
    let least = at(&budget, "spec.minAvailable");
    let (expected, desired) = if least.is_u64() {
        (selected.len() as u64, count(&budget, "spec.minAvailable", 0))
    } else {
        let expected = expected(store, &selected);
        if least.is_string() {
            (expected, portion(&budget, "spec.minAvailable", "", expected, true))
        } else {
            (expected, expected.saturating_sub(portion(&budget, "spec.maxUnavailable", "", expected, true)))
        }
    };
    let allowed = if expected == 0 { 0 } else { healthy.saturating_sub(desired) };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    let stamp = timestamp(&store.clock);
    let values = vec![
        ("status.observedGeneration", at(&budget, "metadata.generation").clone()),
        ("status.currentHealthy", json!(healthy)),
        ("status.desiredHealthy", json!(desired)),
        ("status.expectedPods", json!(expected)),
        ("status.disruptionsAllowed", json!(allowed)),
        ("status.conditions", with_condition(&budget, "DisruptionAllowed", allowed > 0, reason, "", &stamp)),
    ];
    put(store, kind, key, values);
    Some(())
}

/// The sizes that the controllers of these pods want; a `ReplicaSet` counts as what it is set to.
fn expected(store: &Store, pods: &[Object]) -> u64 {
    let owners: BTreeSet<(&str, &str, &str)> = pods
        .iter()
        .filter_map(|pod| {
            let owner = items(pod, "metadata.ownerReferences").find(|owner| *at(owner, "controller") == true)?;
            Some((text(owner, "kind"), text(pod, "metadata.namespace"), text(owner, "name")))
        })
        .collect();
    let size = |(kind, namespace, name): &(&str, &str, &str)| {
        let kind = store.kind(kind)?;
        store.get(&Key::new(&kind, namespace, name)).map(|owner| count(owner, "spec.replicas", 1))
    };
    owners.iter().filter_map(size).sum()
}

/// Whether a budget lets this pod be evicted; takes it from the budget if it does.
pub(crate) fn may_evict(store: &mut Store, key: &Key, dry: bool) -> Result<(), Refusal> {
    let (Some(budgets), Some(pod)) = (store.kind("PodDisruptionBudget"), store.get(key).cloned()) else { return Ok(()) };
    // Nothing is lost with these.
    if is_going(&pod) || matches!(text(&pod, "status.phase"), "Succeeded" | "Failed" | "Pending") {
        return Ok(());
    }
    let about: Vec<(Key, Object)> = store
        .list(&budgets, &key.namespace)
        .filter(|(_, budget)| Selector::of(at(budget, "spec.selector")).is_some_and(|selector| selector.matches(&pod)))
        .map(|(key, budget)| (key.clone(), Arc::clone(budget)))
        .collect();
    let (at_key, budget) = match about.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => return Err(Refusal::two_budgets()),
    };
    if at(budget, "status.observedGeneration") != at(budget, "metadata.generation") {
        return Err(Refusal::budget_unknown(&at_key.name));
    }
    let (healthy, desired) = (count(budget, "status.currentHealthy", 0), count(budget, "status.desiredHealthy", 0));
    let may_if_sick = text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow" || healthy >= desired && desired > 0;
    if !is_ready(&pod) && may_if_sick {
        return Ok(());
    }
    let allowed = count(budget, "status.disruptionsAllowed", 0);
    if allowed == 0 {
        return Err(Refusal::budget_spent(&at_key.name, desired, healthy));
    }
    if !dry {
        put(store, &budgets, at_key, vec![("status.disruptionsAllowed", json!(allowed - 1))]);
    }
    Ok(())
}
