use serde_json::{Value, json};

use super::json::{at, map, set};
use super::kind::Kind;
use super::refusal::Refusal;
use super::store::Key;
use crate::seam::Clock;

/// The fields of metadata that only the server writes.
pub(crate) fn is_servers(field: &str) -> bool {
    matches!(
        field,
        "uid"
            | "creationTimestamp"
            | "deletionTimestamp"
            | "deletionGracePeriodSeconds"
            | "generation"
            | "resourceVersion"
            | "selfLink"
    )
}

pub(crate) fn is_namespace(key: &Key) -> bool {
    key.plural == "namespaces" && key.group.is_empty()
}

pub(crate) fn is_going(object: &Value) -> bool {
    at(object, "metadata.deletionTimestamp").is_string()
}

pub(crate) fn has_finalizers(object: &Value) -> bool {
    at(object, "metadata.finalizers").as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Whether two states differ in something that the generation counts. A custom kind without `/status` has no status of its own: that counts too.
pub(crate) fn differs_outside(kind: &Kind, one: &Value, other: &Value) -> bool {
    // Of a Deployment the annotations count too.
    if kind.kind == "Deployment" && at(one, "metadata.annotations") != at(other, "metadata.annotations") {
        return true;
    }
    let counts = |field: &str| field != "metadata" && (field != "status" || !kind.status_subresource);
    let fields = |object| Value::as_object(object).into_iter().flatten().filter(|(field, _)| counts(field));
    fields(one).ne(fields(other))
}

pub(crate) fn set_status(object: &mut Value, from: &Value) {
    if let (Some(object), status) = (object.as_object_mut(), at(from, "status")) {
        if status.is_null() {
            object.remove("status")
        } else {
            object.insert("status".into(), status.clone())
        };
    }
}

/// The empty members of metadata are not stored by the real server, so that writing them is no change; `[{}]` is how managedFields are emptied.
pub(crate) fn tidy(object: &mut Value) {
    map(object, "metadata").retain(|field, value| match value {
        Value::Null => false,
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !(items.is_empty() || field == "managedFields" && *items == [json!({})]),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    });
}

pub(crate) fn typed(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    let same = |field: &str, wanted: &str| at(object, field).as_str().is_none_or(|given| given.is_empty() || given == wanted);
    if !object.is_object() || !same("kind", &kind.kind) || !same("apiVersion", &kind.api_version()) {
        return Err(Refusal::other_kind(kind, object));
    }
    set(object, "apiVersion", json!(kind.api_version()));
    set(object, "kind", json!(kind.kind));
    Ok(())
}

/// Whole seconds, as `creationTimestamp` has them: code that orders by it must find ties here too.
pub(crate) fn timestamp(clock: &Clock) -> String {
    clock.now().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The alphabet of generateName: no vowels, nothing that looks like something else.
pub(crate) fn suffix(rng: &mut fastrand::Rng) -> String {
    rng.choose_multiple("bcdfghjklmnpqrstvwxz2456789".chars().collect::<Vec<_>>(), 5).into_iter().collect()
}

pub(crate) fn uid(rng: &mut fastrand::Rng) -> String {
    let bits = (rng.u128(..) & !(0xf000 << 64) & !(0xc000 << 48)) | (0x4000 << 64) | (0x8000 << 48);
    let hex = format!("{bits:032x}");
    let (mut text, mut rest) = (String::new(), hex.as_str());
    for length in [8, 4, 4, 4] {
        let (head, tail) = rest.split_at(length);
        text = text + head + "-";
        rest = tail;
    }
    text + rest
}
