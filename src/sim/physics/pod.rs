use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{is, reference};
use crate::sim::json::{at, items, map, set, text};
use crate::sim::object::is_going;
use crate::sim::store::{Object, Store};

/// Keeps a pod until its kubelet has ended it.
pub(super) const KUBELET: &str = "sim/kubelet";

/// Whether a pod counts for its controller: neither ended nor ending.
pub(super) fn is_active(pod: &Value) -> bool {
    !is_going(pod) && !is_over(pod)
}

/// Whether nothing of it will run any more.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "status.phase"), "Succeeded" | "Failed")
}

pub(super) fn is_ready(pod: &Value) -> bool {
    is(pod, "Ready", "True")
}

/// Whether it has been Ready for so many seconds; else when it will have been, if it is Ready.
pub(super) fn is_available(pod: &Value, seconds: u64, now: DateTime<Utc>) -> Result<bool, DateTime<Utc>> {
    let ready = items(pod, "status.conditions").find(|one| text(one, "type") == "Ready" && text(one, "status") == "True");
    let Some(ready) = ready else { return Ok(false) };
    let since: Option<DateTime<Utc>> = text(ready, "lastTransitionTime").parse().ok();
    let due = since.map(|since| since + TimeDelta::seconds(i64::try_from(seconds).unwrap_or(0)));
    match due.filter(|due| seconds > 0 && *due > now) {
        Some(due) => Err(due),
        None => Ok(true),
    }
}

/// Makes a pod of this template, under this name or one of its own.
pub(super) fn make(
    store: &mut Store,
    owner: &Value,
    template: &Value,
    name: Option<&str>,
    labels: &[(&str, &str)],
) -> Option<Object> {
    let kind = store.kind("Pod")?;
    let mut metadata = json!({"ownerReferences": [reference(owner)]});
    for field in ["labels", "annotations"] {
        if let Some(given) = at(template, "metadata").get(field) {
            set(&mut metadata, field, given.clone());
        }
    }
    for (key, value) in labels {
        map(&mut metadata, "labels").insert((*key).into(), json!(value));
    }
    match name {
        Some(name) => set(&mut metadata, "name", json!(name)),
        None => set(&mut metadata, "generateName", json!(format!("{}-", text(owner, "metadata.name")))),
    }
    let mut spec = at(template, "spec").clone();
    // As the admission of pods does: a node that is lost is waited for, for five minutes.
    let mut tolerations: Vec<Value> = items(&spec, "tolerations").cloned().collect();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|one| at(one, "key").as_str().is_none_or(|given| given == key)) {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
    set(&mut spec, "tolerations", json!(tolerations));
    let pod = json!({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}});
    store.create(&kind, text(owner, "metadata.namespace"), pod, true, false).ok()
}
