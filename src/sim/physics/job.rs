use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::pod::{is_active, is_ready, make};
use super::{Physics, count, is, owned, put, with_condition};
use crate::sim::json::{at, text};
use crate::sim::kind::Kind;
use crate::sim::object::{is_going, timestamp};
use crate::sim::store::{Deletion, Key, Object, Store};

impl Physics {
    /// As many pods as may run at once, until enough have succeeded or too many have failed.
    #[allow(clippy::unused_self, reason = "called as its siblings are")]
    pub(super) fn job(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let job = store.get(key)?.clone();
        if is_going(&job) || is(&job, "Complete", "True") || is(&job, "Failed", "True") {
            return None;
        }
        let pods = store.kind("Pod")?;
        let own = owned(store, &pods, &job);
        let of_phase = |phase: &str| own.iter().filter(|(_, pod)| text(pod, "status.phase") == phase).count() as u64;
        let (succeeded, failed) = (of_phase("Succeeded"), of_phase("Failed"));
        let active: Vec<&(Key, Object)> = own.iter().filter(|(_, pod)| is_active(pod)).collect();
        let parallel = count(&job, "spec.parallelism", 1);
        let completions = at(&job, "spec.completions").as_u64().unwrap_or(1);
        let stamp = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let suspended = *at(&job, "spec.suspend") == true;
        let has_failed = failed > count(&job, "spec.backoffLimit", 6);
        let is_complete = succeeded >= completions;
        let mut values = vec![("status.succeeded", json!(succeeded)), ("status.failed", json!(failed))];
        let mut running = active.len() as u64;
        if suspended || has_failed || is_complete {
            for (pod, _) in &active {
                let _ = store.delete(&pods, pod, &Deletion::default(), false);
            }
            running = 0;
        } else {
            if at(&job, "status.startTime").is_null() {
                values.push(("status.startTime", json!(stamp)));
            }
            while running < parallel.min(completions - succeeded) {
                make(store, &job, at(&job, "spec.template"), None, &labels(&job))?;
                running += 1;
            }
        }
        values.push(("status.active", json!(running)));
        values.push(("status.ready", json!(active.iter().filter(|(_, pod)| is_ready(pod)).count())));
        let told = timestamp(&store.clock);
        if is_complete {
            values.push(("status.completionTime", json!(stamp)));
            values.push(("status.conditions", with_condition(&job, "Complete", true, "CompletionsReached", "", &told)));
        } else if has_failed {
            values.push(("status.conditions", with_condition(&job, "Failed", true, "BackoffLimitExceeded", "", &told)));
        } else if suspended || is(&job, "Suspended", "True") {
            values.push(("status.conditions", with_condition(&job, "Suspended", suspended, "", "", &told)));
        }
        put(store, kind, key, values);
        Some(())
    }
}

fn labels(job: &Value) -> [(&'static str, &str); 2] {
    [("batch.kubernetes.io/job-name", text(job, "metadata.name")), ("job-name", text(job, "metadata.name"))]
}
