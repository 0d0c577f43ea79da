use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::pod::{is_over, is_ready};
use super::scheduler::tolerated;
use super::{Physics, edit, is, put, with_condition};
use crate::sim::json::{at, items, text};
use crate::sim::kind::Kind;
use crate::sim::object::{is_going, timestamp};
use crate::sim::store::{Deletion, Key, Store};

const LOST: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

impl Physics {
    /// A node is ready unless somebody has said no; of one that is not, the pods count as not Ready, and go when nobody tolerates it any longer.
    /// They end only when it is back, for nobody else can say that they have.
    pub(super) fn node(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let node = store.get(key)?.clone();
        let stamp = timestamp(&store.clock);
        let mut values = Vec::new();
        let says_something = items(&node, "status.conditions").any(|one| text(one, "type") == "Ready");
        if !says_something {
            values.push(("status.conditions", with_condition(&node, "Ready", true, "KubeletReady", "", &stamp)));
        }
        // The kubelet's own limit.
        if at(&node, "status.allocatable.pods").is_null() {
            values.push(("status.allocatable.pods", json!("110")));
        }
        let is_ready_node = !says_something || is(&node, "Ready", "True");
        let lost = if is(&node, "Ready", "False") { "node.kubernetes.io/not-ready" } else { "node.kubernetes.io/unreachable" };
        let is_lost = !is_ready_node && self.is_due(&node, "doubted", lost.to_owned(), self.pace.doubted_after, now);
        let taints: Vec<&Value> = items(&node, "spec.taints").collect();
        let is_told = taints.iter().any(|taint| text(taint, "key") == lost);
        let has_any = taints.iter().any(|taint| LOST.contains(&text(taint, "key")));
        if is_lost && !is_told || is_ready_node && has_any {
            let mut taints: Vec<Value> =
                taints.into_iter().filter(|taint| !LOST.contains(&text(taint, "key"))).cloned().collect();
            if is_lost {
                taints.push(json!({"key": lost, "effect": "NoSchedule"}));
                taints.push(json!({"key": lost, "effect": "NoExecute", "timeAdded": stamp}));
            }
            if taints.is_empty() {
                edit(store, kind, key, |node| {
                    node.pointer_mut("/spec").and_then(Value::as_object_mut).and_then(|spec| spec.remove("taints"));
                });
            } else {
                values.push(("spec.taints", json!(taints)));
            }
        }
        put(store, kind, key, values);
        let node = store.get(key)?.clone();
        let pods = store.kind("Pod")?;
        let repelling: Vec<&Value> = items(&node, "spec.taints").filter(|taint| text(taint, "effect") == "NoExecute").collect();
        if repelling.is_empty() && !is_lost {
            return None;
        }
        let here: Vec<Key> =
            store.list(&pods, "").filter(|(_, pod)| text(pod, "spec.nodeName") == key.name).map(|(key, _)| key.clone()).collect();
        for there in here {
            let pod = store.get(&there)?.clone();
            if is_lost && is_ready(&pod) {
                let conditions = with_condition(&pod, "Ready", false, "NodeNotReady", "", &stamp);
                put(store, &pods, &there, vec![("status.conditions", conditions)]);
            }
            if is_going(&pod) || is_over(&pod) {
                continue;
            }
            for taint in &repelling {
                let patience = match tolerated(taint, &pod) {
                    None => Some(0),
                    Some(toleration) => at(toleration, "tolerationSeconds").as_u64(),
                };
                let state = format!("{} {}", text(taint, "key"), text(taint, "timeAdded"));
                if let Some(patience) = patience
                    && self.is_due(&pod, "tolerates", state, Duration::from_secs(patience), now)
                {
                    let _ = store.delete(&pods, &there, &Deletion::default(), false);
                    break;
                }
            }
        }
        Some(())
    }
}
