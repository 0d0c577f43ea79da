use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::pod::{KUBELET, is_over, is_ready};
use super::{Physics, edit, is, put, with_condition};
use crate::sim::json::{at, items, set, text};
use crate::sim::kind::Kind;
use crate::sim::object::{is_going, timestamp};
use crate::sim::store::{Key, Store};

impl Physics {
    /// On a node that is ready a placed pod starts at once, becomes Ready when its slowest image has started, and ends a while after its
    /// deletion, or by itself where it is of a Job.
    pub(super) fn kubelet(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let pod = store.get(key)?.clone();
        if !items(&pod, "metadata.finalizers").any(|name| name == KUBELET) {
            return None;
        }
        let nodes = store.kind("Node")?;
        let node = store.get(&Key::new(&nodes, "", text(&pod, "spec.nodeName")));
        if !node.is_some_and(|node| is(node, "Ready", "True")) {
            return None;
        }
        let stamp = timestamp(&store.clock);
        let phase = text(&pod, "status.phase");
        if is_going(&pod) {
            if phase != "Running" || self.is_due(&pod, "ends", String::new(), self.pace.ends_after, now) {
                edit(store, kind, key, |pod| set(pod, "metadata.finalizers", json!([])));
            }
        } else if is_over(&pod) {
            return None;
        } else if phase != "Running" {
            let conditions = with_condition(&pod, "Ready", false, "ContainersNotReady", "", &stamp);
            put(
                store,
                kind,
                key,
                vec![("status.phase", json!("Running")), ("status.startTime", json!(stamp)), ("status.conditions", conditions)],
            );
        } else if !is_ready(&pod) && self.is_due(&pod, "started", String::new(), self.starts_in(&pod), now) {
            put(store, kind, key, vec![("status.conditions", with_condition(&pod, "Ready", true, "", "", &stamp))]);
        } else if items(&pod, "metadata.ownerReferences").any(|owner| text(owner, "kind") == "Job")
            && self.is_due(&pod, "runs", String::new(), self.pace.job_runs, now)
        {
            let conditions = with_condition(&pod, "Ready", false, "PodCompleted", "", &stamp);
            put(store, kind, key, vec![("status.phase", json!("Succeeded")), ("status.conditions", conditions)]);
        }
        Some(())
    }

    /// How long until it is Ready: its slowest image.
    fn starts_in(&self, pod: &Value) -> Duration {
        let of = |container: &Value| self.pace.images.get(text(container, "image")).copied().unwrap_or(self.pace.ready_after);
        at(pod, "spec.containers").as_array().into_iter().flatten().map(of).max().unwrap_or(self.pace.ready_after)
    }
}
