//! Random sequences of calls: three objects of one kind or two, under every guard.

use super::Call;
use super::kinds::{KINDS, Known, Template};
use super::player::encoded;
use serde_json::{Value, json};

/// The calls of a seed; the same in every run.
pub fn sequence(seed: u64, templates: &[Template]) -> Vec<Call> {
    let mut random = fastrand::Rng::with_seed(seed);
    let kinds = [random.usize(..KINDS.len()), random.usize(..KINDS.len())];
    let length = random.usize(6..14);
    let mut calls = vec![create(kinds[0], 'a', &mut random, templates)];
    while calls.len() < length {
        let kind = *random.choice(&kinds).unwrap();
        let name = random.choice(['a', 'a', 'a', 'b', 'c']).unwrap();
        calls.push(any(kind, name, &mut random, templates));
    }
    calls
}

pub fn call(kind: usize, method: &'static str, name: Option<char>, body: Value) -> Call {
    Call { kind, method, name, subresource: "", query: String::new(), patch: "", body }
}

pub fn object(kind: usize, templates: &[Template]) -> Value {
    let mut body = templates[kind].clone();
    body["metadata"] = json!({"name": "$name", "labels": {"run": "yes", "seq": "s$number"}});
    body
}

pub fn set(body: &mut Value, known: &Known, number: u64) {
    if let Some(place) = body.pointer_mut(known.field) {
        *place = (known.values)(number);
    } else if let Some((parent, field)) = known.field.rsplit_once('/') {
        body.pointer_mut(parent).unwrap()[field] = (known.values)(number);
    }
}

fn create(kind: usize, name: char, random: &mut fastrand::Rng, templates: &[Template]) -> Call {
    let mut body = object(kind, templates);
    let meta = &mut body["metadata"];
    if random.u8(..3) == 0 {
        meta["finalizers"] = json!(["example.com/hold"]);
    }
    if random.u8(..3) == 0 {
        meta["labels"]["watched"] = json!("yes");
    }
    if random.u8(..3) == 0 {
        meta["annotations"] = json!({"note": "one", "empty": ""});
    }
    let mut query = String::new();
    match random.u8(..24) {
        0 => meta["resourceVersion"] = json!("1"),
        1 => meta["namespace"] = json!("elsewhere"),
        2 => body["kind"] = json!("Elephant"),
        3 => meta["name"] = json!(""),
        4 => meta["name"] = json!("Not_A_Name-$number"),
        5 => meta["labels"]["bad"] = json!("-x-"),
        6 => meta["uid"] = json!("11111111-2222-4333-8444-555555555555"),
        7 => meta["generation"] = json!(7),
        8 => body["status"] = json!({}),
        9 => query.push_str("dryRun=All"),
        _ => {}
    }
    Call { query, ..call(kind, "POST", Some(name), body) }
}

/// The version that a write is guarded by, if any.
fn guard(random: &mut fastrand::Rng) -> Option<&'static str> {
    random.choice([None, Some("$version"), Some("$version"), Some("$first")]).unwrap()
}

fn any(kind: usize, name: char, random: &mut fastrand::Rng, templates: &[Template]) -> Call {
    let known = &KINDS[kind];
    match random.u8(..20) {
        0 | 1 => create(kind, name, random, templates),
        2 | 3 => call(kind, "GET", Some(name), Value::Null),
        4 => list(kind, random),
        5 | 6 => update(kind, name, random, templates),
        7..=9 => merge(kind, name, random),
        10..=12 => json_patch(kind, name, random),
        13 | 14 if known.status => status(kind, name, random),
        15 if known.scale => scale(kind, name, random),
        16 => {
            let query = format!("labelSelector={}", encoded("seq=s$number"));
            Call { query, ..call(kind, "DELETE", None, Value::Null) }
        }
        _ => delete(kind, name, random),
    }
}

fn list(kind: usize, random: &mut fastrand::Rng) -> Call {
    let selector = random
        .choice([
            "seq=s$number",
            "seq=s$number,watched",
            "seq=s$number,!watched",
            "seq in (s$number),watched notin (no)",
            "seq=s$number,run!=yes",
            "seq=s$number,=x",
        ])
        .unwrap();
    let mut query = format!("labelSelector={}", encoded(selector));
    if random.bool() {
        query += "&limit=1";
    }
    Call { query, ..call(kind, "GET", None, Value::Null) }
}

fn update(kind: usize, name: char, random: &mut fastrand::Rng, templates: &[Template]) -> Call {
    let mut body = object(kind, templates);
    set(&mut body, &KINDS[kind], random.u64(..3));
    let meta = &mut body["metadata"];
    if let Some(version) = guard(random) {
        meta["resourceVersion"] = json!(version);
    }
    match random.u8(..8) {
        0 => meta["uid"] = json!("$uid"),
        1 => meta["uid"] = json!("11111111-2222-4333-8444-555555555555"),
        2 => meta["labels"]["watched"] = json!("yes"),
        3 => meta["finalizers"] = json!(["example.com/hold"]),
        4 => meta["name"] = json!("other"),
        _ => {}
    }
    let query = if random.u8(..8) == 0 { "dryRun=All".to_owned() } else { String::new() };
    Call { query, ..call(kind, "PUT", Some(name), body) }
}

fn merge(kind: usize, name: char, random: &mut fastrand::Rng) -> Call {
    let known = &KINDS[kind];
    let mut body = json!({});
    match random.u8(..8) {
        0 => body["metadata"]["labels"]["watched"] = json!("yes"),
        1 => body["metadata"]["labels"]["watched"] = Value::Null,
        2 => body["metadata"]["annotations"]["note"] = json!("two"),
        3 => body["metadata"]["finalizers"] = random.choice([Value::Null, json!(["example.com/hold"])]).unwrap(),
        4 => body["metadata"]["annotations"] = Value::Null,
        5 => {}
        // A list cannot be merged into: those kinds are changed by JSON patch.
        _ if known.field.contains("/0/") => body["metadata"]["annotations"]["note"] = json!("three"),
        _ => {
            let mut inner = (known.values)(random.u64(..3));
            for part in known.field.split('/').skip(1).collect::<Vec<_>>().into_iter().rev() {
                inner = json!({part: inner});
            }
            body = inner;
        }
    }
    if let Some(version) = guard(random) {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    let query = if random.u8(..8) == 0 { "dryRun=All".to_owned() } else { String::new() };
    Call { query, patch: "application/merge-patch+json", ..call(kind, "PATCH", Some(name), body) }
}

fn json_patch(kind: usize, name: char, random: &mut fastrand::Rng) -> Call {
    let known = &KINDS[kind];
    let mut operations = Vec::new();
    match random.u8(..6) {
        0 => operations.push(json!({"op": "test", "path": "/metadata/resourceVersion", "value": "$version"})),
        1 => operations.push(json!({"op": "test", "path": "/metadata/resourceVersion", "value": "$first"})),
        2 => operations.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "$version"})),
        3 => operations.push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": "$first"})),
        4 => operations.push(json!({"op": "test", "path": "/metadata/uid", "value": "$uid"})),
        _ => {}
    }
    match random.u8(..8) {
        0 => operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {"note": "four"}})),
        1 => operations.push(json!({"op": "replace", "path": "/metadata/annotations/note", "value": "five"})),
        2 => operations.push(json!({"op": "remove", "path": "/metadata/annotations/note"})),
        3 => operations.push(json!({"op": "add", "path": "/metadata/labels/watched", "value": "yes"})),
        4 => operations.push(json!({"op": "remove", "path": "/metadata/finalizers"})),
        _ => operations.push(json!({"op": "replace", "path": known.field, "value": (known.values)(random.u64(..3))})),
    }
    Call { patch: "application/json-patch+json", ..call(kind, "PATCH", Some(name), json!(operations)) }
}

fn status(kind: usize, name: char, random: &mut fastrand::Rng) -> Call {
    let known = &KINDS[kind];
    let mut body = match known.status_field {
        "/status/lastScheduleTime" => json!({"status": {"lastScheduleTime": "2026-11-23T08:00:00Z"}}),
        "/status/parents" => json!({"status": {"parents": []}}),
        "" => json!({}),
        _ => json!({"status": {"observedGeneration": random.u64(1..4)}}),
    };
    match random.u8(..4) {
        0 => body["metadata"]["annotations"]["note"] = json!("by status"),
        1 => body["metadata"]["labels"]["watched"] = json!("yes"),
        _ => {}
    }
    if let Some(version) = guard(random) {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    Call { subresource: "status", patch: "application/merge-patch+json", ..call(kind, "PATCH", Some(name), body) }
}

fn scale(kind: usize, name: char, random: &mut fastrand::Rng) -> Call {
    if random.u8(..3) == 0 {
        return Call { subresource: "scale", ..call(kind, "GET", Some(name), Value::Null) };
    }
    let mut body = json!({"spec": {"replicas": random.u64(..4)}});
    if let Some(version) = guard(random) {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    Call { subresource: "scale", patch: "application/merge-patch+json", ..call(kind, "PATCH", Some(name), body) }
}

fn delete(kind: usize, name: char, random: &mut fastrand::Rng) -> Call {
    let guards = match random.u8(..6) {
        0 => json!({"uid": "$uid"}),
        1 => json!({"uid": "11111111-2222-4333-8444-555555555555"}),
        2 => json!({"resourceVersion": "$version"}),
        3 => json!({"resourceVersion": "$first"}),
        _ => Value::Null,
    };
    let mut body = Value::Null;
    if !guards.is_null() {
        body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": guards});
    }
    let query = if random.u8(..8) == 0 { "dryRun=All".to_owned() } else { String::new() };
    Call { query, ..call(kind, "DELETE", Some(name), body) }
}
