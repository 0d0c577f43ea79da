use serde_json::Value;

use super::json::{at, items, members};
use super::kind::Kind;
use super::refusal::Refusal;

/// Annotations of one object together, keys and values: the real server's limit, which claims have to respect.
const ANNOTATIONS: usize = 262_144;

/// The rules of validation that the operator can run into with objects it writes; the schemas of the kinds are not among them.
pub(crate) fn check(kind: &Kind, name: &str, old: Option<&Value>, new: &Value) -> Result<(), Refusal> {
    let invalid = |field: &str, what: String| Err(Refusal::invalid(kind, name, field, &what));
    let meta = at(new, "metadata");
    if kind.kind == "StatefulSet" && (name.len() > 63 || !is_label(name)) {
        let what = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
             and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        );
        return invalid("metadata.name", what);
    }
    // Of a budget the real server takes any name.
    if kind.kind != "PodDisruptionBudget" && (name.len() > 253 || !name.split('.').all(is_label)) {
        let what = format!(
            "Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
             and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        return invalid("metadata.name", what);
    }
    let annotations = members(meta, "annotations");
    if annotations.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum::<usize>() > ANNOTATIONS {
        return invalid("metadata.annotations", format!("Too long: may not be more than {ANNOTATIONS} bytes"));
    }
    for field in ["annotations", "labels"] {
        for (key, value) in members(meta, field) {
            let Some(value) = value.as_str() else {
                return invalid(&format!("metadata.{field}"), format!("Invalid value: \"{key}\": must be a string"));
            };
            if field == "labels" && !is_label_value(value) {
                return invalid(
                    "metadata.labels",
                    format!(
                        "Invalid value: \"{value}\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' \
                         or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
                         used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                    ),
                );
            }
        }
    }
    let Some(old) = old else { return Ok(()) };
    if at(old, "metadata.deletionTimestamp").is_string() {
        let had = at(old, "metadata.finalizers").as_array().cloned().unwrap_or_default();
        let new: Vec<String> = items(meta, "finalizers").filter(|one| !had.contains(one)).map(Value::to_string).collect();
        if !new.is_empty() {
            let found = format!("found new finalizers []string{{{}}}", new.join(", "));
            let what = format!("Forbidden: no new finalizers can be added if the object is being deleted, {found}");
            return invalid("metadata.finalizers", what);
        }
    }
    if matches!(kind.kind.as_str(), "ConfigMap" | "Secret") && kind.group.is_empty() && *at(old, "immutable") == true {
        for field in ["immutable", "data", "binaryData", "stringData"] {
            if at(old, field) != at(new, field) {
                return invalid(field, "Forbidden: field is immutable when `immutable` is set".to_owned());
            }
        }
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(fits) && text.ends_with(fits) && text.chars().all(|c| fits(c) || c == '-')
}

fn is_label_value(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(|c| edge(c) || "-_.".contains(c))
}
