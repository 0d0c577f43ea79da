use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::pod::{is_active, is_available, is_ready, make};
use super::{Physics, count, owned, put};
use crate::sim::json::{at, text};
use crate::sim::kind::Kind;
use crate::sim::object::is_going;
use crate::sim::store::{Deletion, Key, Store};

impl Physics {
    /// As many pods as it wants; too many go in the real controller's order: not placed, not running, not Ready, young.
    pub(super) fn replicaset(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let object = store.get(key)?.clone();
        if is_going(&object) {
            return None;
        }
        let pods = store.kind("Pod")?;
        let mut active = owned(store, &pods, &object);
        active.retain(|(_, pod)| is_active(pod));
        let wanted = usize::try_from(count(&object, "spec.replicas", 1)).unwrap_or(usize::MAX);
        if active.len() > wanted {
            let rank =
                |pod: &Value| (!text(pod, "spec.nodeName").is_empty(), text(pod, "status.phase") == "Running", is_ready(pod));
            active.sort_by(|(_, one), (_, other)| {
                let young = |pod| std::cmp::Reverse(text(pod, "metadata.creationTimestamp"));
                rank(one).cmp(&rank(other)).then_with(|| young(one).cmp(&young(other)))
            });
            for (extra, _) in active.drain(..active.len() - wanted) {
                let _ = store.delete(&pods, &extra, &Deletion::default(), false);
            }
        }
        for _ in active.len()..wanted {
            let made = make(store, &object, at(&object, "spec.template"), None, &[])?;
            active.push((Key::new(&pods, &key.namespace, text(&made, "metadata.name")), made));
        }
        self.counted(store, kind, key, &object, &active.iter().map(|(_, pod)| pod.as_ref()).collect::<Vec<_>>(), now);
        Some(())
    }

    /// Writes how many pods there are, are Ready and available into the status of what controls them.
    pub(super) fn counted(
        &mut self,
        store: &mut Store,
        kind: &Kind,
        key: &Key,
        seen: &Value,
        pods: &[&Value],
        now: DateTime<Utc>,
    ) {
        let patience = count(seen, "spec.minReadySeconds", 0);
        let mut available = 0;
        for pod in pods {
            match is_available(pod, patience, now) {
                Ok(true) => available += 1,
                Ok(false) => {}
                Err(due) => self.come(due),
            }
        }
        let values = vec![
            ("status.observedGeneration", at(seen, "metadata.generation").clone()),
            ("status.replicas", json!(pods.len())),
            ("status.readyReplicas", json!(pods.iter().filter(|pod| is_ready(pod)).count())),
            ("status.availableReplicas", json!(available)),
        ];
        put(store, kind, key, values);
    }
}
