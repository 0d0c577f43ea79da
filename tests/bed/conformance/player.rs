//! Plays sequences to a server, and keeps what it answered, without what it chose itself.

use super::Call;
use super::kinds::{KINDS, Template};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What a server did with all sequences.
pub struct Played {
    /// By sequence and call.
    pub answers: Vec<Vec<(u16, Value)>>,
    /// What watches told, by object.
    pub events: BTreeMap<String, Vec<Value>>,
}

/// A client of an administrator's kubeconfig.
pub async fn client(kubeconfig: &Path) -> Client {
    let file = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// One request: the code, and the body as JSON (text where it is none).
pub async fn ask(client: &Client, method: &str, line: &str, content: &str, body: &Value) -> (u16, Value) {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let content = if content.is_empty() { "application/json" } else { content };
    let request =
        http::Request::builder().method(method).uri(line).header("content-type", content).body(Body::from(bytes)).unwrap();
    let answer = client.send(request).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
}

/// Plays all sequences, and watches every kind meanwhile: everything, and what is labelled `watched=yes`.
pub async fn play(client: &Client, namespace: &str, sequences: &[Vec<Call>], templates: &[Template]) -> Played {
    let mut watches = Vec::new();
    // There is always more behind every page.
    for (known, template) in KINDS.iter().zip(templates) {
        let mut more = template.clone();
        more["metadata"] = json!({"name": "zz-more"});
        let (code, answer) = ask(client, "POST", &known.path(namespace), "", &more).await;
        assert_eq!(code, 201, "{answer:#}");
    }
    for known in &KINDS {
        for selector in ["run=yes", "run=yes,watched=yes"] {
            let path = known.path(namespace);
            let (_, list) = ask(client, "GET", &path, "", &Value::Null).await;
            let since = list["metadata"]["resourceVersion"].as_str().unwrap();
            let query = format!("watch=1&resourceVersion={since}&timeoutSeconds=900&labelSelector={}", encoded(selector));
            let request = http::Request::builder().uri(format!("{path}?{query}")).body(Body::empty()).unwrap();
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let prefix = format!("{} {selector}", known.kind);
            watches.push(tokio::spawn(told(answer.into_body(), prefix)));
        }
    }
    let plays = sequences.iter().enumerate().map(|(number, sequence)| one(client, namespace, number, sequence, templates));
    let answers = stream::iter(plays).buffered(4).collect().await;
    // The last object of each kind ends its watches.
    for (known, template) in KINDS.iter().zip(templates) {
        let mut last = template.clone();
        last["metadata"] = json!({"name": "zz-last", "labels": {"run": "yes", "watched": "yes"}});
        let (code, answer) = ask(client, "POST", &known.path(namespace), "", &last).await;
        assert_eq!(code, 201, "{answer:#}");
    }
    let mut events = BTreeMap::new();
    for watch in watches {
        events.extend(watch.await.unwrap());
    }
    for known in &KINDS {
        for name in ["zz-last", "zz-more"] {
            ask(client, "DELETE", &format!("{}/{name}", known.path(namespace)), "", &Value::Null).await;
        }
    }
    Played { answers, events }
}

/// Everything that a watch tells until it has told of the last object, by object.
async fn told(body: Body, prefix: String) -> BTreeMap<String, Vec<Value>> {
    let (mut rest, mut events) = (Vec::new(), BTreeMap::<String, Vec<Value>>::new());
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        rest.extend_from_slice(&chunk.unwrap());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).unwrap();
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_else(|| panic!("{prefix}: {event:#}")).to_owned();
            if name == "zz-last" {
                return events;
            }
            let all = events.entry(format!("{prefix}: {name}")).or_default();
            let event = json!({"type": event["type"], "object": bare(&event["object"])});
            // A change of nothing but who owns what.
            let is_nothing = event["type"] == "MODIFIED" && all.last().is_some_and(|last| last["object"] == event["object"]);
            if !is_nothing {
                all.push(event);
            }
        }
    }
    panic!("{prefix}: the watch ended before the last object");
}

async fn one(client: &Client, namespace: &str, number: usize, sequence: &[Call], templates: &[Template]) -> Vec<(u16, Value)> {
    let mut known: BTreeMap<(usize, char), (String, String, String)> = BTreeMap::new();
    let mut answers = Vec::new();
    for call in sequence {
        let about = call.name.map(|name| (call.kind, name));
        let said = about.and_then(|about| known.get(&about)).cloned().unwrap_or_else(|| ("1".into(), "1".into(), "none".into()));
        let name = call.name.map(|name| format!("s{number}-{name}"));
        let fill = |text: &str| {
            text.replace("$version", &said.0)
                .replace("$first", &said.1)
                .replace("$uid", &said.2)
                .replace("$name", name.as_deref().unwrap_or_default())
                .replace("$number", &number.to_string())
        };
        let mut body = call.body.clone();
        if body == "$template" {
            body = templates[call.kind].clone();
        }
        let body: Value = serde_json::from_str(&fill(&body.to_string())).unwrap();
        let mut path = KINDS[call.kind].path(namespace);
        if let Some(name) = name.as_ref().filter(|_| call.method != "POST") {
            path = format!("{path}/{name}");
        }
        if !call.subresource.is_empty() {
            path = format!("{path}/{}", call.subresource);
        }
        if !call.query.is_empty() {
            path = format!("{path}?{}", fill(&call.query));
        }
        let (code, answer) = ask(client, call.method, &path, call.patch, &body).await;
        let meta = &answer["metadata"];
        let is_stored = !call.query.contains("dryRun") && answer["items"].is_null();
        if let (Some(about), Some(version), Some(uid), true) =
            (about, meta["resourceVersion"].as_str(), meta["uid"].as_str(), is_stored)
        {
            let entry = known.entry(about).or_insert_with(|| (String::new(), version.to_owned(), String::new()));
            if entry.2 != uid {
                version.clone_into(&mut entry.1);
            }
            (entry.0, entry.2) = (version.to_owned(), uid.to_owned());
        }
        answers.push((code, bare(&answer)));
    }
    answers
}

/// A body without what the server chose itself: uids, versions, times and who owns which field; a status that says nothing counts as none.
pub fn bare(body: &Value) -> Value {
    let mut body = body.clone();
    strip(&mut body);
    if let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(strip);
        items.sort_by_key(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    }
    body
}

fn strip(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    if map.get("kind").is_some_and(|kind| kind == "Status") {
        if let Some(details) = map.get_mut("details").and_then(Value::as_object_mut) {
            details.remove("uid");
        }
        if let Some(message) = map.get_mut("message") {
            *message = json!(neutral(message.as_str().unwrap_or_default()));
        }
        if let Some(causes) = map.get_mut("details").and_then(|details| details.get_mut("causes")).and_then(Value::as_array_mut) {
            for cause in &mut *causes {
                cause["message"] = json!(neutral(cause["message"].as_str().unwrap_or_default()));
            }
            // The same rule may be checked more than once, and is told as often; the message repeats it.
            causes.dedup();
            if causes.len() == 1 {
                let said = format!("{}: {}", causes[0]["field"].as_str().unwrap(), causes[0]["message"].as_str().unwrap());
                let message = map["message"].as_str().unwrap();
                let head = message.split(" is invalid: ").next().unwrap().to_owned();
                if message.contains(" is invalid: [") {
                    map["message"] = json!(format!("{head} is invalid: {said}"));
                }
            }
        }
        return;
    }
    if let Some(status) = map.get_mut("status") {
        let says = |value: &Value| !(value.is_null() || *value == json!(0) || *value == json!([]) || *value == json!({}));
        if let Some(fields) = status.as_object_mut() {
            fields.retain(|_, value| says(value));
        }
        if *status == json!({}) {
            map.remove("status");
        }
    }
    let Some(meta) = map.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink"] {
        meta.remove(field);
    }
    for field in ["deletionTimestamp", "continue"] {
        if let Some(value) = meta.get_mut(field).filter(|value| **value != json!("")) {
            *value = json!("some");
        }
    }
}

/// A message without uids and versions.
fn neutral(text: &str) -> String {
    let is_uid = |word: &str| word.len() == 36 && word.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    let is_version = |word: &str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_digit());
    // A server that asks its cache first names the key without its root.
    let text = &text.replace("Key: /registry/", "Key: /");
    let mut out = String::new();
    for part in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        let word = part.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        out.push_str(if is_uid(word) {
            "UID"
        } else if is_version(word) {
            "VERSION"
        } else {
            word
        });
        out.push_str(part.get(word.len()..).unwrap_or_default());
    }
    out
}

/// For a query.
pub fn encoded(text: &str) -> String {
    text.replace('=', "%3D").replace(',', "%2C").replace('!', "%21").replace(' ', "%20")
}
