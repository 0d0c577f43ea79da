use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::pod::{is_over, is_ready, make};
use super::{Physics, count, hash, owned, put};
use crate::sim::json::{at, text};
use crate::sim::kind::Kind;
use crate::sim::object::is_going;
use crate::sim::store::{Deletion, Key, Object, Store};

/// What the controller puts on pods to tell templates apart.
const REVISION: &str = "controller-revision-hash";

impl Physics {
    /// Pods with numbers: they come from the lowest and go from the highest, one after another unless they may go in parallel.
    pub(super) fn statefulset(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let object = store.get(key)?.clone();
        if is_going(&object) {
            return None;
        }
        let seen = self.seen(&object, now)?;
        let pods = store.kind("Pod")?;
        let template = at(&seen, "spec.template");
        let revision = format!("{}-{}", key.name, hash(template));
        let wanted = count(&seen, "spec.replicas", 1);
        let parallel = text(&seen, "spec.podManagementPolicy") == "Parallel";
        let number = |key: &Key| key.name.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok());
        let mut own: Vec<(u64, Key, Object)> =
            owned(store, &pods, &seen).into_iter().filter_map(|(key, pod)| Some((number(&key)?, key, pod))).collect();
        own.sort_by_key(|(number, ..)| *number);
        let is_well = |pod: &Value| !is_going(pod) && is_ready(pod);
        let mut waits = false;
        for ordinal in 0..wanted {
            match own.iter().find(|(number, ..)| *number == ordinal) {
                // One that has ended is made anew under its name.
                Some((_, key, pod)) if is_over(pod) && !is_going(pod) => {
                    let _ = store.delete(&pods, key, &Deletion::default(), false);
                }
                Some((_, _, pod)) if is_well(pod) => {}
                Some(_) if parallel => {}
                Some(_) => waits = true,
                None => {
                    let name = format!("{}-{ordinal}", key.name);
                    let labels = [
                        (REVISION, revision.as_str()),
                        ("statefulset.kubernetes.io/pod-name", name.as_str()),
                        ("apps.kubernetes.io/pod-index", &ordinal.to_string()),
                    ];
                    make(store, &seen, template, Some(&name), &labels)?;
                    waits = !parallel;
                }
            }
            if waits {
                break;
            }
        }
        let extra = || own.iter().rev().filter(|(number, ..)| *number >= wanted);
        if parallel {
            for (_, key, _) in extra().filter(|(_, _, pod)| !is_going(pod)) {
                let _ = store.delete(&pods, key, &Deletion::default(), false);
            }
        } else if let Some((_, key, pod)) = extra().next().filter(|_| !waits) {
            waits = true;
            if !is_going(pod) {
                let _ = store.delete(&pods, key, &Deletion::default(), false);
            }
        }
        let is_new = |pod: &Value| *at(pod, "metadata.labels").get(REVISION).unwrap_or(&Value::Null) == revision.as_str();
        let rolls = text(&seen, "spec.updateStrategy.type") != "OnDelete";
        if rolls && !waits && own.iter().all(|(_, _, pod)| is_well(pod)) {
            let floor = count(&seen, "spec.updateStrategy.rollingUpdate.partition", 0);
            if let Some((_, key, _)) =
                own.iter().rev().find(|(number, _, pod)| *number >= floor && *number < wanted && !is_new(pod))
            {
                let _ = store.delete(&pods, key, &Deletion::default(), false);
            }
        }
        let own: Vec<Object> = owned(store, &pods, &seen).into_iter().map(|(_, pod)| pod).filter(|pod| !is_over(pod)).collect();
        let updated = own.iter().filter(|pod| is_new(pod)).count();
        self.counted(store, kind, key, &seen, &own.iter().map(AsRef::as_ref).collect::<Vec<_>>(), now);
        put(
            store,
            kind,
            key,
            vec![
                ("status.updatedReplicas", json!(updated)),
                ("status.currentReplicas", json!(updated)),
                ("status.updateRevision", json!(revision)),
            ],
        );
        Some(())
    }
}
