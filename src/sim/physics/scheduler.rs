use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::pod::{KUBELET, is_over};
use super::{edit, put, with_condition};
use crate::sim::json::{at, items, members, set, text};
use crate::sim::object::{is_going, timestamp};
use crate::sim::select::Selector;
use crate::sim::store::{Key, Object, Store};
use crate::terms::Quantity;

/// What a pod asks for, or a node has left: cores, bytes, pods.
type Amounts = [Quantity; 3];

/// Places the pods that have no node, in the order of their names: where they fit, are tolerated and selected, on the emptiest node.
pub(super) fn schedule(store: &mut Store) -> Option<()> {
    let (pods, nodes) = (store.kind("Pod")?, store.kind("Node")?);
    let is_waiting = |pod: &Value| text(pod, "spec.nodeName").is_empty() && !is_going(pod) && !is_over(pod);
    let waiting: Vec<(Key, Object)> =
        store.list(&pods, "").filter(|(_, pod)| is_waiting(pod)).map(|(key, pod)| (key.clone(), Arc::clone(pod))).collect();
    if waiting.is_empty() {
        return None;
    }
    let mut free: BTreeMap<String, (Object, Amounts)> = store
        .list(&nodes, "")
        .map(|(key, node)| (key.name.clone(), (Arc::clone(node), amounts(at(node, "status.allocatable"), Quantity::default()))))
        .collect();
    for (_, pod) in store.list(&pods, "").filter(|(_, pod)| !is_over(pod)) {
        if let Some((_, left)) = free.get_mut(text(pod, "spec.nodeName")) {
            *left = take(*left, asks(pod));
        }
    }
    for (key, pod) in waiting {
        let asked = asks(&pod);
        let fits = |left: &Amounts| left.iter().zip(asked).all(|(left, asked)| *left >= asked);
        let admitted = || free.iter().filter(|(name, (node, _))| admits(node, name, &pod));
        // Ties go to the first name.
        let best = admitted().filter(|(_, (_, left))| fits(left)).min_by_key(|(_, (_, left))| std::cmp::Reverse(*left));
        let best = best.map(|(name, _)| name.clone());
        let stamp = timestamp(&store.clock);
        if let Some(name) = best {
            edit(store, &pods, &key, |pod| {
                set(pod, "spec.nodeName", json!(name));
                set(pod, "metadata.finalizers", json!([KUBELET]));
                let conditions = with_condition(pod, "PodScheduled", true, "", "", &stamp);
                set(pod, "status.conditions", conditions);
            });
            if let Some((_, left)) = free.get_mut(&name) {
                *left = take(*left, asked);
            }
        } else {
            let (all, admitted) = (free.len(), admitted().count());
            let why = format!(
                "0/{all} nodes are available: {admitted} without room, {} with a taint or label against it.",
                all - admitted
            );
            let conditions = with_condition(&pod, "PodScheduled", false, "Unschedulable", &why, &stamp);
            put(store, &pods, &key, vec![("status.conditions", conditions)]);
        }
    }
    Some(())
}

fn amounts(of: &Value, absent: Quantity) -> Amounts {
    ["cpu", "memory", "pods"].map(|resource| quantity(at(of, resource)).unwrap_or(absent))
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64().map(Quantity::whole),
    }
}

fn take(left: Amounts, asked: Amounts) -> Amounts {
    let [cpu, memory, pods] = left;
    let [asked_cpu, asked_memory, asked_pods] = asked;
    [cpu.less(asked_cpu), memory.less(asked_memory), pods.less(asked_pods)]
}

/// Its containers together, or its greediest init container; a limit without a request is one.
fn asks(pod: &Value) -> Amounts {
    let of = |container: &Value, resource: &str| {
        let stated = |kind: &str| quantity(at(container, &format!("resources.{kind}")).get(resource)?);
        stated("requests").or_else(|| stated("limits")).unwrap_or_default()
    };
    let all = |resource: &str| {
        let sum = items(pod, "spec.containers").fold(Quantity::default(), |sum, one| sum.plus(of(one, resource)));
        items(pod, "spec.initContainers").map(|one| of(one, resource)).fold(sum, Ord::max)
    };
    [all("cpu"), all("memory"), Quantity::whole(1)]
}

/// Whether the node may have the pod, room aside.
fn admits(node: &Value, name: &str, pod: &Value) -> bool {
    let cordon = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    let cordon = (*at(node, "spec.unschedulable") == true).then_some(&cordon);
    let repels = |taint: &Value| text(taint, "effect") != "PreferNoSchedule" && tolerated(taint, pod).is_none();
    let labels = at(node, "metadata.labels");
    let selected = members(pod, "spec.nodeSelector").all(|(key, value)| labels.get(key) == Some(value));
    let required = at(pod, "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    let of_name = |term: &Value| {
        items(term, "matchFields")
            .all(|field| items(field, "values").any(|value| value == name) == (text(field, "operator") == "In"))
    };
    let wanted = |term: &Value| of_name(term) && Selector::of(term).is_some_and(|selector| selector.matches(node));
    selected
        && !items(node, "spec.taints").chain(cordon).any(repels)
        && required.as_array().is_none_or(|terms| terms.iter().any(wanted))
}

/// The pod's toleration of this taint.
pub(super) fn tolerated<'a>(taint: &Value, pod: &'a Value) -> Option<&'a Value> {
    items(pod, "spec.tolerations").find(|toleration| {
        let same = |field: &str| text(toleration, field).is_empty() || text(toleration, field) == text(taint, field);
        let exists = text(toleration, "operator") == "Exists";
        let key = text(toleration, "key");
        same("effect")
            && (key.is_empty() && exists || key == text(taint, "key"))
            && (exists || text(toleration, "value") == text(taint, "value"))
    })
}
