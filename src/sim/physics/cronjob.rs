use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{Physics, is, owned, put, reference};
use crate::sim::json::{at, set, text};
use crate::sim::kind::Kind;
use crate::sim::object::is_going;
use crate::sim::store::{Deletion, Key, Object, Store};

impl Physics {
    /// A slot is started once, late if it must be and may; of several missed ones the last. Finished Jobs are kept for a while.
    pub(super) fn cronjob(&mut self, store: &mut Store, kind: &Kind, key: &Key, now: DateTime<Utc>) -> Option<()> {
        let object = store.get(key)?.clone();
        if is_going(&object) {
            return None;
        }
        let jobs = store.kind("Job")?;
        let mut own = owned(store, &jobs, &object);
        own.sort_by_key(|(key, job)| (text(job, "metadata.creationTimestamp").to_owned(), key.clone()));
        let is_done = |job: &Value, condition: &str| is(job, condition, "True");
        for (condition, field, absent) in
            [("Complete", "spec.successfulJobsHistoryLimit", 3), ("Failed", "spec.failedJobsHistoryLimit", 1)]
        {
            let kept = usize::try_from(at(&object, field).as_u64().unwrap_or(absent)).unwrap_or(usize::MAX);
            let done: Vec<&(Key, Object)> = own.iter().filter(|(_, job)| is_done(job, condition)).collect();
            for (old, _) in done.iter().take(done.len().saturating_sub(kept)) {
                let _ = store.delete(&jobs, old, &Deletion::default(), false);
            }
        }
        let active: Vec<&(Key, Object)> =
            own.iter().filter(|(_, job)| !is_done(job, "Complete") && !is_done(job, "Failed")).collect();
        let references: Vec<Value> = active
            .iter()
            .map(|(key, job)| json!({"apiVersion": "batch/v1", "kind": "Job", "name": key.name, "namespace": key.namespace, "uid": at(job, "metadata.uid")}))
            .collect();
        if at(&object, "status.active").as_array().map_or(&[][..], Vec::as_slice) != references.as_slice() {
            put(store, kind, key, vec![("status.active", json!(references))]);
        }
        let seen = self.seen(&object, now)?;
        if *at(&seen, "spec.suspend") == true {
            return None;
        }
        let (slot, next) = slots(&seen, now)?;
        self.come(next);
        let time = |path: &str| text(&object, path).parse::<DateTime<Utc>>().ok();
        let mut after = time("status.lastScheduleTime").or_else(|| time("metadata.creationTimestamp"))?;
        if let Some(deadline) = at(&seen, "spec.startingDeadlineSeconds").as_i64() {
            after = after.max(now - TimeDelta::seconds(deadline));
        }
        if slot <= after {
            return None;
        }
        match text(&seen, "spec.concurrencyPolicy") {
            "Forbid" if !active.is_empty() => return None,
            "Replace" => {
                for (running, _) in active {
                    let _ = store.delete(&jobs, running, &Deletion::default(), false);
                }
            }
            _ => {}
        }
        let stamp = slot.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let mut metadata =
            json!({"name": format!("{}-{}", key.name, slot.timestamp() / 60), "ownerReferences": [reference(&object)]});
        for field in ["labels", "annotations"] {
            if let Some(given) = at(&seen, "spec.jobTemplate.metadata").get(field) {
                set(&mut metadata, field, given.clone());
            }
        }
        let job = json!({"metadata": metadata, "spec": at(&seen, "spec.jobTemplate.spec")});
        store.create(&jobs, &key.namespace, job, true, false).ok()?;
        put(store, kind, key, vec![("status.lastScheduleTime", json!(stamp))]);
        Some(())
    }
}

/// The last slot until now, and the next. A zone that is not known never comes, as with the real controller.
fn slots(cronjob: &Value, now: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let schedule: croner::Cron = text(cronjob, "spec.schedule").parse().ok()?;
    let zone: chrono_tz::Tz = match text(cronjob, "spec.timeZone") {
        "" => chrono_tz::UTC,
        name => name.parse().ok()?,
    };
    let here = now.with_timezone(&zone);
    let last = schedule.find_previous_occurrence(&here, true).ok()?;
    let next = schedule.find_next_occurrence(&here, false).ok()?;
    Some((last.to_utc(), next.to_utc()))
}
