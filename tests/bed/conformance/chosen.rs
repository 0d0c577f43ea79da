//! Chosen sequences: for every kind what an object lives through, and every rule that firedrill leans on, one after the other.

use super::Call;
use super::kinds::{KINDS, Template};
use super::player::encoded;
use super::random::{call, object, set};
use serde_json::{Value, json};

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

/// Twenty-six for each kind.
pub fn sequences(templates: &[Template]) -> Vec<Vec<Call>> {
    (0..KINDS.len()).flat_map(|kind| of(kind, templates)).collect()
}

fn of(kind: usize, templates: &[Template]) -> Vec<Vec<Call>> {
    let known = &KINDS[kind];
    let create = || call(kind, "POST", Some('a'), object(kind, templates));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = object(kind, templates);
        change(&mut body);
        call(kind, "POST", Some('a'), body)
    };
    let get = || call(kind, "GET", Some('a'), Value::Null);
    let put = |number: u64, change: &dyn Fn(&mut Value)| {
        let mut body = object(kind, templates);
        set(&mut body, known, number);
        body["metadata"]["resourceVersion"] = json!("$version");
        change(&mut body);
        call(kind, "PUT", Some('a'), body)
    };
    let patch = |body: Value| Call { patch: JSON, ..call(kind, "PATCH", Some('a'), body) };
    let merge = |body: Value| Call { patch: MERGE, ..call(kind, "PATCH", Some('a'), body) };
    let field = |number: u64| json!({"op": "replace", "path": known.field, "value": (known.values)(number)});
    let delete = |guards: Value| {
        let body =
            if guards.is_null() { guards } else { json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": guards}) };
        call(kind, "DELETE", Some('a'), body)
    };
    let dry = |call: Call| Call { query: "dryRun=All".to_owned(), ..call };
    let list = |selector: &str, more: &str| Call {
        query: format!("labelSelector={}{more}", encoded(selector)),
        ..call(kind, "GET", None, Value::Null)
    };
    let held = |body: &mut Value| body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let at = |value: &str| json!({"op": "test", "path": "/metadata/resourceVersion", "value": value});
    let swap = |value: &str| json!({"op": "replace", "path": "/metadata/resourceVersion", "value": value});
    let mut all = vec![
        // What an object lives through.
        vec![create(), get(), put(1, &|_| {}), get(), delete(Value::Null), get(), create(), get(), delete(Value::Null)],
        vec![create(), create(), delete(Value::Null), delete(Value::Null)],
        vec![get(), put(1, &|_| {}), patch(json!([field(1)])), merge(json!({})), delete(Value::Null)],
        // A change of nothing moves no version.
        vec![create(), put(1, &|_| {}), put(1, &|_| {}), patch(json!([at("$version"), field(1)])), merge(json!({})), get()],
        // Guards by version: in an update, a JSON patch both ways, a merge patch.
        vec![create(), patch(json!([field(1)])), put(2, &|body| body["metadata"]["resourceVersion"] = json!("$first")), get()],
        vec![create(), patch(json!([at("$version"), field(1)])), patch(json!([at("$first"), field(2)])), get()],
        vec![create(), patch(json!([swap("$version"), field(1)])), patch(json!([swap("$first"), field(2)])), get()],
        vec![
            create(),
            merge(json!({"metadata": {"resourceVersion": "$version", "annotations": {"a": "b"}}})),
            merge(json!({"metadata": {"resourceVersion": "$first", "annotations": {"a": "c"}}})),
            get(),
        ],
        // Guards by uid.
        vec![
            create(),
            put(1, &|body| body["metadata"]["uid"] = json!("$uid")),
            put(2, &|body| body["metadata"]["uid"] = json!(OTHER)),
        ],
        vec![create(), delete(json!({"uid": OTHER})), get(), delete(json!({"uid": "$uid"})), get()],
        vec![
            create(),
            patch(json!([field(2)])),
            delete(json!({"resourceVersion": "$first"})),
            delete(json!({"resourceVersion": "$version"})),
            get(),
        ],
        // Finalizers: marked, changed meanwhile, no new ones, gone with the last.
        vec![
            with(&held),
            delete(Value::Null),
            get(),
            delete(Value::Null),
            merge(json!({"metadata": {"annotations": {"late": "yes"}}})),
            merge(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/new"]}})),
            create(),
            merge(json!({"metadata": {"finalizers": null}})),
            get(),
        ],
        vec![with(&held), delete(Value::Null), patch(json!([{"op": "remove", "path": "/metadata/finalizers"}])), get()],
        // Dry runs answer and store nothing.
        vec![
            dry(create()),
            get(),
            create(),
            dry(put(1, &|_| {})),
            get(),
            dry(patch(json!([field(2)]))),
            dry(delete(Value::Null)),
            get(),
        ],
        vec![create(), dry(patch(json!([at("$first"), field(2)]))), dry(patch(json!([swap("1"), field(2)]))), get()],
        // JSON patches that do not apply.
        vec![
            create(),
            patch(json!([{"op": "test", "path": "/metadata/uid", "value": OTHER}])),
            patch(json!([{"op": "remove", "path": "/metadata/annotations/none"}])),
            patch(json!([{"op": "replace", "path": "/metadata/annotations/none", "value": "x"}])),
            patch(json!([{"op": "add", "path": "/metadata/annotations/none", "value": "x"}])),
            patch(json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}])),
            get(),
        ],
        // Annotations and labels come and go.
        vec![
            create(),
            patch(json!([{"op": "add", "path": "/metadata/annotations", "value": {"firedrill.dev/claim": "{}"}}])),
            patch(
                json!([{"op": "test", "path": "/metadata/annotations/firedrill.dev~1claim", "value": "{}"}, {"op": "remove", "path": "/metadata/annotations/firedrill.dev~1claim"}]),
            ),
            get(),
            merge(json!({"metadata": {"labels": {"watched": "yes"}}})),
            merge(json!({"metadata": {"labels": {"watched": null}}})),
            merge(json!({"metadata": {"labels": {"watched": "-"}}})),
            get(),
        ],
        // What no creation may say.
        vec![
            with(&|body| body["metadata"]["resourceVersion"] = json!("1")),
            with(&|body| body["metadata"]["name"] = json!("UPPER")),
            with(&|body| body["metadata"]["name"] = json!("")),
            with(&|body| body["kind"] = json!("Elephant")),
            with(&|body| body["apiVersion"] = json!("v0")),
            with(&|body| body["metadata"]["labels"]["x"] = json!("a b")),
            get(),
        ],
        // What the server alone writes.
        vec![
            with(&|body| {
                body["metadata"]["uid"] = json!(OTHER);
                body["metadata"]["generation"] = json!(9);
                body["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
            }),
            put(1, &|body| body["metadata"]["generation"] = json!(9)),
            merge(json!({"metadata": {"generation": 9, "creationTimestamp": "2020-01-01T00:00:00Z"}})),
            get(),
        ],
        // Lists by label; pages.
        vec![
            create(),
            Call { name: Some('b'), ..with(&|body| body["metadata"]["labels"]["watched"] = json!("yes")) },
            list("seq=s$number", ""),
            list("seq=s$number,watched", ""),
            list("seq=s$number,!watched", ""),
            list("seq=s$number,watched!=yes", ""),
            list("seq in (s$number,none)", "&limit=1"),
            list("seq==s$number", "&limit=5"),
        ],
        vec![
            create(),
            list("seq=s$number,(", ""),
            list("a b", ""),
            list("seq=s$number", "&limit=x"),
            list("seq=s$number", "&fieldSelector=spec.none%3Dx"),
        ],
        vec![
            create(),
            Call {
                query: "fieldSelector=metadata.name%3D$name".replace("$name", "s$number-a"),
                ..call(kind, "GET", None, Value::Null)
            },
            Call { query: "fieldSelector=metadata.name%3Dnone".to_owned(), ..call(kind, "GET", None, Value::Null) },
        ],
        // Collections go at once.
        vec![
            create(),
            Call { name: Some('b'), ..with(&held) },
            Call { query: format!("labelSelector={}", encoded("seq=s$number")), ..call(kind, "DELETE", None, Value::Null) },
            get(),
            call(kind, "GET", Some('b'), Value::Null),
        ],
        // Methods and paths that nobody serves.
        vec![
            create(),
            Call { subresource: "none", ..get() },
            call(kind, "PUT", None, json!({})),
            Call { patch: "text/plain", ..call(kind, "PATCH", Some('a'), json!({})) },
            Call { patch: MERGE, ..call(kind, "PATCH", Some('a'), json!([])) },
            Call { patch: JSON, ..call(kind, "PATCH", Some('a'), json!({})) },
        ],
        // The name on the URL is the object's.
        vec![
            create(),
            put(1, &|body| body["metadata"]["name"] = json!("other")),
            merge(json!({"metadata": {"name": "other"}})),
            get(),
        ],
    ];
    if known.namespaced {
        all.push(vec![with(&|body| body["metadata"]["namespace"] = json!("elsewhere")), get()]);
    }
    if known.status {
        let status = |body: Value| Call { subresource: "status", ..merge(body) };
        let said = match known.status_field {
            "/status/lastScheduleTime" => json!({"lastScheduleTime": "2026-11-23T08:00:00Z"}),
            "/status/parents" => json!({"parents": []}),
            "" => json!({}),
            _ => json!({"observedGeneration": 3}),
        };
        let mut body = json!({"metadata": {"labels": {"by": "status"}, "annotations": {"by": "status"}}, "status": said});
        if said == json!({}) {
            // Its defaults are the real server's to fill in.
            body.as_object_mut().unwrap().remove("status");
        }
        all.push(vec![create(), status(body), get(), patch(json!([field(2)])), get()]);
        let mut through_main = json!({"status": said});
        through_main["metadata"]["annotations"]["by"] = json!("main");
        all.push(vec![create(), merge(through_main), get()]);
        let spec = (known.field, (known.values)(2));
        all.push(vec![
            create(),
            Call { subresource: "status", ..patch(json!([{"op": "replace", "path": spec.0, "value": spec.1}])) },
            get(),
            Call { subresource: "status", ..get() },
        ]);
    }
    if known.scale {
        let scale = |body: Value| Call { subresource: "scale", ..merge(body) };
        all.push(vec![
            create(),
            Call { subresource: "scale", ..get() },
            scale(json!({"spec": {"replicas": 5}})),
            scale(json!({"spec": {"replicas": -1}})),
            scale(json!({"metadata": {"resourceVersion": "$first"}, "spec": {"replicas": 4}})),
            get(),
        ]);
    }
    all
}
