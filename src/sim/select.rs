use serde_json::Value;

use super::json::{at, items, members, text};
use super::kind::Kind;
use super::refusal::Refusal;

/// A label selector and a field selector together; the default selects everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(&'static str, bool, String)>,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    is: Is,
}

#[derive(Clone, Debug)]
enum Is {
    In(Vec<String>),
    /// Objects without the label match too, as in the real server.
    NotIn(Vec<String>),
    There,
    Absent,
}

impl Selector {
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Refusal> {
        let labels =
            split(labels).into_iter().enumerate().map(|(place, text)| requirement(place, text)).collect::<Result<_, _>>()?;
        let fields = split(fields).into_iter().map(|text| field(kind, text)).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// A label selector as objects have it; `None` for one that is not understood.
    pub(crate) fn of(selector: &Value) -> Option<Self> {
        let equal = members(selector, "matchLabels")
            .map(|(key, value)| Some(Requirement { key: key.clone(), is: Is::In(vec![value.as_str()?.to_owned()]) }));
        let expressed = items(selector, "matchExpressions").map(|one| {
            let values = || items(one, "values").filter_map(Value::as_str).map(str::to_owned).collect();
            let is = match text(one, "operator") {
                "In" => Is::In(values()),
                "NotIn" => Is::NotIn(values()),
                "Exists" => Is::There,
                "DoesNotExist" => Is::Absent,
                _ => return None,
            };
            Some(Requirement { key: text(one, "key").to_owned(), is })
        });
        Some(Self { labels: equal.chain(expressed).collect::<Option<_>>()?, fields: Vec::new() })
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = at(object, "metadata.labels");
        self.labels.iter().all(|wanted| {
            let value = labels.get(&wanted.key).and_then(Value::as_str);
            match &wanted.is {
                Is::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                Is::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                Is::There => value.is_some(),
                Is::Absent => value.is_none(),
            }
        }) && self.fields.iter().all(|(pointer, equal, wanted)| {
            let value = object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            (value == wanted) == *equal
        })
    }
}

/// At commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

fn requirement(place: usize, text: &str) -> Result<Requirement, Refusal> {
    if let Some(wrong) = text.chars().next().filter(|first| "=(<>)".contains(*first)) {
        let expected = if place == 0 { "!, identifier, or 'end of string'" } else { "identifier after ','" };
        return Err(Refusal::bad_request(format!("found '{wrong}', expected: {expected}")));
    }
    let set = |rest: &str| -> Option<Vec<String>> {
        let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let (key, is) = if let Some((key, rest)) = text.split_once(" notin ") {
        (key, set(rest).map(Is::NotIn))
    } else if let Some((key, rest)) = text.split_once(" in ") {
        (key, set(rest).map(Is::In))
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Some(Is::NotIn(vec![value.trim().to_owned()])))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Some(Is::In(vec![value.trim().to_owned()])))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Some(Is::Absent))
    } else {
        (text, Some(Is::There))
    };
    match is {
        Some(is) if !key.trim().contains(|c: char| c.is_whitespace() || "()<>!".contains(c)) => {
            Ok(Requirement { key: key.trim().to_owned(), is })
        }
        _ => {
            let found = text.split_whitespace().nth(1).unwrap_or(text);
            let expected = "in, notin, =, ==, !=, gt, lt";
            Err(Refusal::bad_request(format!("unable to parse requirement: found '{found}', expected: {expected}")))
        }
    }
}

/// Only the fields that the operator selects by: the real server has a fixed list per kind too, and refuses the rest.
fn field(kind: &Kind, text: &str) -> Result<(&'static str, bool, String), Refusal> {
    let (key, equal, value) = if let Some((key, value)) = text.split_once("!=") {
        (key, false, value)
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, true, value)
    } else {
        return Err(Refusal::bad_request(format!("invalid selector: '{text}'; can't understand '{text}'")));
    };
    let pointer = match key {
        "metadata.name" => "/metadata/name",
        "metadata.namespace" => "/metadata/namespace",
        "spec.nodeName" => "/spec/nodeName",
        // Kinds with fields of their own say it in other words.
        _ if kind.is_custom()
            || matches!(kind.kind.as_str(), "Secret" | "Pod" | "Node" | "Event" | "Namespace" | "Job" | "ReplicaSet") =>
        {
            return Err(Refusal::bad_request(format!("field label not supported: {key}")));
        }
        _ => {
            let known = "only \"metadata.name\", \"metadata.namespace\"";
            return Err(Refusal::bad_request(format!("\"{key}\" is not a known field selector: {known}")));
        }
    };
    Ok((pointer, equal, value.to_owned()))
}
