use serde::Serialize;
use serde_json::{Map, Value};

const NULL: &Value = &Value::Null;

/// JSON as it goes over the wire.
pub(crate) fn bytes(value: &impl Serialize) -> Vec<u8> {
    // Fails only for maps whose keys are not strings.
    serde_json::to_vec(value).unwrap_or_default()
}

/// What is at a dotted path of field names; `null` if nothing is.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').try_fold(value, |value, field| value.get(field)).unwrap_or(NULL)
}

/// The string at a path, or the empty one.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The items of the list at a path.
pub(crate) fn items<'a>(value: &'a Value, path: &str) -> std::slice::Iter<'a, Value> {
    at(value, path).as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// The members of the object at a path.
pub(crate) fn members<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(value, path).as_object().into_iter().flatten()
}

/// The object at a path, made where there is none.
pub(crate) fn map<'a>(value: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let mut value = value;
    for field in path.split('.') {
        value = object(value).entry(field).or_insert(Value::Null);
    }
    object(value)
}

/// Puts `to` at a path.
pub(crate) fn set(value: &mut Value, path: &str, to: Value) {
    match path.rsplit_once('.') {
        Some((parent, field)) => map(value, parent).insert(field.into(), to),
        None => object(value).insert(path.into(), to),
    };
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(members) => members,
        _ => unreachable!("made an object just above"),
    }
}
