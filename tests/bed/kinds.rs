use crate::stage::{Stage, on_stage};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const KINDS: [(&str, &str); 5] = [
    ("Region", include_str!("../../crds/regions.yaml")),
    ("TrafficRoute", include_str!("../../crds/trafficroutes.yaml")),
    ("EvacuationPlan", include_str!("../../crds/evacuationplans.yaml")),
    ("Drill", include_str!("../../crds/drills.yaml")),
    ("SingletonWorkload", include_str!("../../crds/singletonworkloads.yaml")),
];

/// One spec to be tried: what is special about it, and the place that a refusal names (none: it is accepted).
struct Try {
    kind: &'static str,
    spec: Value,
    what: String,
    refused: Option<String>,
}

/// Specs that together have every field, and each value of which is right.
fn examples(kind: &str) -> Vec<Value> {
    let backends = json!([{"region": "a", "name": "x"}, {"region": "b", "name": "y"}]);
    let pace = json!({"firstPercent": 1, "growthPercent": 200, "maxStepPercent": 20, "hold": "30s"});
    match kind {
        "Region" => {
            vec![json!({"cluster": {"local": {}}}), json!({"cluster": {"kubeconfigSecret": {"name": "x", "key": "kubeconfig"}}})]
        }
        "TrafficRoute" => vec![json!({
            "cluster": "a", "httpRoute": {"name": "r"}, "backends": backends, "convergence": "10s",
            "confirm": {"query": "rate(x{${backend}})", "window": "30s", "minimumRequests": 20, "splitTolerancePercent": 5},
        })],
        "EvacuationPlan" => vec![json!({
            "regions": ["a", "b"], "namespaces": ["shop"], "cordon": "Mark", "failback": "AfterSoak", "soak": "30m", "deadline": "1h30m",
            "capacity": {"mode": "ScaleFirst", "marginPercent": 10}, "objectives": {"timeToHealthy": "10m", "stableFor": "2m"},
            "pace": {"evacuate": pace, "failback": pace}, "guards": {"minServing": 1, "contention": "Abort"},
            "prometheus": {"url": "http://prometheus:9090"},
            "gates": [{
                "name": "errors", "role": "UserHealth", "query": "q", "min": "0", "max": "0.01", "interval": "10s",
                "failureLimit": 0, "noData": "Hold", "onFailure": "Abort",
            }],
        })],
        "Drill" => vec![json!({
            "plan": "p", "region": "r", "mode": "Exercise", "scenario": "Degraded", "reason": "Q4", "control": "Run",
            "start": {"at": "2026-12-08T10:00:00Z", "within": "1h"},
        })],
        "SingletonWorkload" => vec![
            json!({
                "workload": {"kind": "Deployment", "name": "w"}, "regions": ["a0", "a1"], "enforcement": "Enforce",
                "stop": {"timeout": "10m", "settle": "15s"}, "selfFencing": true,
            }),
            json!({
                "workload": {"kind": "CronJob", "name": "w"}, "regions": ["a0", "a1"], "enforcement": "Enforce", "keep": "a1",
                "stop": {"runningJobs": "Wait"}, "missedRuns": "Skip", "token": {"configMap": {"name": "t", "key": "epoch"}},
            }),
        ],
        other => panic!("no example of a {other}"),
    }
}

/// The spec with another value at a place, or with none.
fn with(spec: &Value, place: &str, value: Option<Value>) -> Value {
    let mut spec = spec.clone();
    let (parent, last) = place.rsplit_once('/').unwrap();
    match (spec.pointer_mut(parent).unwrap(), value) {
        (Value::Object(map), Some(value)) => drop(map.insert(last.to_owned(), value)),
        (Value::Object(map), None) => drop(map.remove(last)),
        (Value::Array(list), Some(value)) => list[last.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{place}: {other}"),
    }
    spec
}

/// A place as the API server writes it: `spec.gates[0].name`.
fn dotted(place: &str) -> String {
    place.split('/').skip(1).fold("spec".to_owned(), |text, part| match part.parse::<usize>() {
        Ok(index) => format!("{text}[{index}]"),
        Err(_) => format!("{text}.{part}"),
    })
}

/// A right value stretched to a length.
fn stretched(text: &str, length: usize) -> String {
    let more = length - text.len();
    if text.ends_with(['s', 'm', 'h']) && text.starts_with(|c: char| c.is_ascii_digit()) {
        // A duration: more parts.
        let odd = if more % 2 == 1 { "10s" } else { "" };
        text.to_owned() + odd + &"1s".repeat((more - odd.len()) / 2)
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        "0".repeat(more) + text
    } else {
        text.to_owned() + &"a".repeat(more)
    }
}

/// Every bound of `schema` at `place` of a right spec: one value just within it and one just outside.
fn bounds(kind: &'static str, spec: &Value, schema: &Value, place: &str, tries: &mut Vec<Try>) {
    let Some(value) = spec.pointer(place) else { return };
    // Another field of the spec has a say in it; its rule is tried by name.
    let has = |field: &str| spec.pointer(field).is_some();
    if place == "/keep" || (place == "/workload/kind" && has("/missedRuns")) || (place == "/enforcement" && has("/token")) {
        return;
    }
    let mut add = |what: String, value: Option<Value>, refused: Option<String>| {
        let what = format!("{kind} {}: {what}", dotted(place));
        tries.push(Try { kind, spec: with(spec, place, value), what, refused });
    };
    let here = || Some(dotted(place));
    if let (Some(most), Some(text)) = (schema["maxLength"].as_u64(), value.as_str()) {
        let most = usize::try_from(most).unwrap();
        add(format!("{most} characters"), Some(json!(stretched(text, most))), None);
        add(format!("{} characters", most + 1), Some(json!(stretched(text, most + 1))), here());
    }
    if schema["minLength"].as_u64() == Some(1) {
        add("empty".to_owned(), Some(json!("")), here());
    }
    if schema["pattern"].is_string() {
        add("a wrong pattern".to_owned(), Some(json!("-?-")), here());
        if value.as_str().is_some_and(|text| text.ends_with(['s', 'm', 'h']) && text.starts_with(|c: char| c.is_ascii_digit())) {
            add("longer than any time".to_owned(), Some(json!("9999999999999999h")), here());
        }
    }
    if schema["format"] == "date-time" {
        add("no time".to_owned(), Some(json!("yesterday")), here());
    }
    for (bound, outside) in [("minimum", -1), ("maximum", 1)] {
        if let Some(at) = schema[bound].as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "bounds of integers")]
            let at = at as i64;
            add(format!("{at}"), Some(json!(at)), None);
            add(format!("{}", at + outside), Some(json!(at + outside)), here());
        }
    }
    for allowed in schema["enum"].as_array().into_iter().flatten() {
        add(format!("{allowed}"), Some(allowed.clone()), None);
    }
    if schema["enum"].is_array() {
        add("no such word".to_owned(), Some(json!("Nonsense")), here());
    }
    if let Some(items) = value.as_array() {
        let many = |count: u64| -> Value {
            let distinct = |number| match &items[0] {
                Value::String(_) => json!(format!("a{number}")),
                item => with(item, "/name", Some(json!(format!("a{number}")))),
            };
            (0..count).map(distinct).collect()
        };
        for (bound, outside) in [("minItems", -1), ("maxItems", 1)] {
            if let Some(at) = schema[bound].as_i64() {
                let at = u64::try_from(at).unwrap();
                add(format!("{at} items"), Some(many(at)), None);
                let beyond = at.checked_add_signed(outside).unwrap();
                add(format!("{beyond} items"), Some(many(beyond)), here());
            }
        }
        if schema["x-kubernetes-list-type"].is_string() {
            add("an item twice".to_owned(), Some(json!([items[0], items[0]])), Some(format!("{}[1]", dotted(place))));
        }
        bounds(kind, spec, &schema["items"], &format!("{place}/0"), tries);
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let at = format!("{place}/{name}");
        let what = format!("{kind} {}: absent", dotted(&at));
        tries.push(Try { kind, spec: with(spec, &at, None), what, refused: Some(dotted(&at)) });
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        bounds(kind, spec, inner, &format!("{place}/{name}"), tries);
    }
}

/// Every field of a schema by its place, and the message of every rule.
fn walk(schema: &Value, place: &str, fields: &mut BTreeSet<String>, rules: &mut BTreeSet<String>) {
    fields.insert(place.to_owned());
    let messages = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.extend(messages.map(|rule| rule["message"].as_str().expect("every rule says what to do").to_owned()));
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &format!("{place}/{name}"), fields, rules);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{place}/0"), fields, rules);
    }
}

/// What the API server says to each, without storing it: the refusal, or none.
async fn answers(stage: &Stage, tries: &[Try]) -> Vec<Option<String>> {
    let items: Vec<Value> = tries
        .iter()
        .enumerate()
        .map(|(number, one)| {
            let metadata =
                json!({"name": format!("try-{number}"), "namespace": if matches!(one.kind, "TrafficRoute" | "SingletonWorkload") { "shop" } else { "" }});
            json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": one.kind, "metadata": metadata, "spec": one.spec})
        })
        .collect();
    let file = std::env::temp_dir().join(format!("firedrill-tries-{}.json", std::process::id()));
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).unwrap();
    let output = tokio::process::Command::new(&stage.bed.tools().kubectl)
        .args([
            "--kubeconfig",
            &stage.hub().kubeconfig().display().to_string(),
            "create",
            "--dry-run=server",
            "--validate=false",
            "-f",
        ])
        .arg(&file)
        .output()
        .await
        .unwrap();
    std::fs::remove_file(file).unwrap();
    let (made, refused) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let refusals: Vec<&str> = refused.split("\nThe ").flat_map(|text| text.split("\nError from server")).collect();
    let mut answers = Vec::new();
    for (number, one) in tries.iter().enumerate() {
        if made.contains(&format!("/try-{number} created")) {
            answers.push(None);
            continue;
        }
        let own = refusals.iter().find(|text| text.contains(&format!("\"try-{number}\"")));
        answers.push(Some((*own.unwrap_or_else(|| panic!("no answer about {}: {refused}", one.what))).to_owned()));
    }
    answers
}

#[test]
fn every_bound_of_every_field_accepts_what_is_within_and_refuses_what_is_beyond() {
    let mut tries = Vec::new();
    for (kind, crd) in KINDS {
        let crd: Value = serde_saphyr::from_str(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let (mut fields, mut rules) = (BTreeSet::new(), BTreeSet::new());
        walk(schema, "", &mut fields, &mut rules);
        let specs = examples(kind);
        for field in fields {
            assert!(specs.iter().any(|spec| spec.pointer(&field).is_some()), "{kind}: no example has {field}");
        }
        for spec in specs {
            bounds(kind, &spec, schema, "", &mut tries);
            tries.push(Try { kind, spec, what: format!("{kind}: the example"), refused: None });
        }
    }
    assert!(tries.len() > 200, "only {}", tries.len());
    on_stage(async |stage| {
        for (one, answer) in tries.iter().zip(answers(stage, &tries).await) {
            match (&one.refused, answer) {
                (None, None) => {}
                (None, Some(refusal)) => panic!("{} should be accepted: {refusal}", one.what),
                (Some(_), None) => panic!("{} should be refused", one.what),
                (Some(place), Some(refusal)) => assert!(refusal.contains(place.as_str()), "{}: not named in {refusal}", one.what),
            }
        }
    });
}

#[test]
fn every_rule_accepts_what_it_should_and_says_what_to_do_about_the_rest() {
    let example = |kind: &str| examples(kind).remove(0);
    let exercise = example("Drill");
    let led = examples("SingletonWorkload").remove(1);
    let mut tries = Vec::new();
    for (kind, good, bad) in [
        ("Region", json!({"cluster": {"local": {}}}), json!({"cluster": {"local": {}, "kubeconfigSecret": {"name": "x"}}})),
        ("Region", json!({"cluster": {"kubeconfigSecret": {"name": "x"}}}), json!({"cluster": {}})),
        (
            "TrafficRoute",
            with(&example("TrafficRoute"), "/confirm/query", Some(json!("${region}"))),
            with(&example("TrafficRoute"), "/confirm/query", Some(json!("rate(x)"))),
        ),
        (
            "EvacuationPlan",
            with(&example("EvacuationPlan"), "/gates/0/min", None),
            with(&example("EvacuationPlan"), "/gates/0", Some(json!({"name": "errors", "query": "q"}))),
        ),
        ("SingletonWorkload", led.clone(), with(&led, "/keep", Some(json!("mars")))),
        (
            "SingletonWorkload",
            example("SingletonWorkload"),
            with(&example("SingletonWorkload"), "/missedRuns", Some(json!("Skip"))),
        ),
        (
            "SingletonWorkload",
            with(&led, "/stop/runningJobs", Some(json!("Delete"))),
            with(&example("SingletonWorkload"), "/stop/runningJobs", Some(json!("Delete"))),
        ),
        ("SingletonWorkload", with(&led, "/token", None), with(&led, "/enforcement", Some(json!("Report")))),
        ("SingletonWorkload", with(&led, "/stop/settle", Some(json!("15s"))), with(&led, "/stop/settle", Some(json!("14s")))),
        ("Drill", with(&with(&exercise, "/mode", Some(json!("Check"))), "/start", None), with(&exercise, "/start", None)),
    ] {
        tries.push(Try { kind, spec: good, what: format!("{kind}: good"), refused: None });
        tries.push(Try { kind, spec: bad, what: format!("{kind}: bad"), refused: Some(String::new()) });
    }
    on_stage(async |stage| {
        let mut said = String::new();
        for (one, answer) in tries.iter().zip(answers(stage, &tries).await) {
            assert_eq!(one.refused.is_some(), answer.is_some(), "{}: {answer:?}", one.what);
            if let Some(refusal) = answer {
                let text = refusal.split_once("is invalid: ").unwrap_or_else(|| panic!("{refusal}")).1;
                let text = in_short(text);
                said = format!("{said}{}: {text}\n", one.kind);
            }
        }
        // The rule about changes needs a drill that is stored; its start is far away.
        let mut spec = exercise.clone();
        spec["start"]["at"] = json!("2036-12-08T10:00:00Z");
        let metadata = json!({"name": "immutable"});
        let drill = json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": metadata, "spec": spec});
        stage.apply(&drill).await;
        let change = async |patch: Value| {
            let patch = patch.to_string();
            let arguments = ["patch", "drill", "immutable", "--type=json", "--dry-run=server", "-p", &patch];
            stage.hub().kubectl(&arguments, None).await.map_err(|error| error.to_string())
        };
        for control in ["Run", "Pause", "Abort", "Failback"] {
            change(json!([{"op": "add", "path": "/spec/control", "value": control}])).await.unwrap();
        }
        change(json!([{"op": "remove", "path": "/spec/control"}])).await.unwrap();
        for (field, value) in [
            ("plan", json!("other")),
            ("region", json!("other")),
            ("mode", json!("Check")),
            ("reason", json!("other")),
            ("start", json!({"at": "2036-12-09T10:00:00Z"})),
        ] {
            let refused = change(json!([{"op": "replace", "path": format!("/spec/{field}"), "value": value}])).await.unwrap_err();
            assert!(refused.contains("a drill is immutable but for control: create another one"), "{field}: {refused}");
            if field == "plan" {
                let text = refused.split_once("is invalid: ").unwrap_or_else(|| panic!("{refused}")).1;
                said = format!("{said}Drill: {}\n", in_short(text));
            }
        }
        for field in ["scenario", "reason", "start"] {
            let refused = change(json!([{"op": "remove", "path": format!("/spec/{field}")}])).await.unwrap_err();
            assert!(refused.contains("a drill is immutable but for control"), "{field}: {refused}");
        }
        stage.hub().kubectl(&["delete", "drill", "immutable"], None).await.unwrap();
        let metadata = json!({"name": "immutable", "namespace": "shop"});
        let spec = json!({"workload": {"kind": "CronJob", "name": "w"}, "regions": ["a", "b"], "enforcement": "Report"});
        stage
            .apply(
                &json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "SingletonWorkload", "metadata": metadata, "spec": spec}),
            )
            .await;
        for (field, value) in [("name", "other"), ("kind", "Deployment")] {
            let patch = json!([{"op": "replace", "path": format!("/spec/workload/{field}"), "value": value}]).to_string();
            let arguments =
                ["patch", "singletonworkload", "immutable", "-n", "shop", "--type=json", "--dry-run=server", "-p", &patch];
            let refused = stage.hub().kubectl(&arguments, None).await.unwrap_err().to_string();
            let text = refused.split_once("is invalid: ").unwrap_or_else(|| panic!("{refused}")).1;
            if field == "name" {
                said = format!("{said}SingletonWorkload: {}\n", in_short(text));
            }
        }
        stage.hub().kubectl(&["delete", "singletonworkload", "immutable", "-n", "shop"], None).await.unwrap();
        let mut rules = BTreeSet::new();
        for (_, crd) in KINDS {
            walk(
                &serde_saphyr::from_str::<Value>(crd).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
                "",
                &mut BTreeSet::new(),
                &mut rules,
            );
        }
        for rule in &rules {
            assert!(said.contains(rule), "nothing tries the rule: {rule}\n{said}");
        }
        insta::assert_snapshot!(said, @"
        Region: spec.cluster: Invalid value: set exactly one of local and kubeconfigSecret
        Region: spec.cluster: Invalid value: set exactly one of local and kubeconfigSecret
        TrafficRoute: spec.confirm: Invalid value: the query must contain ${region} or ${backend}: it is asked once for each backend
        EvacuationPlan: spec.gates[0]: Invalid value: set min, max or both: a gate without a bound is always green
        SingletonWorkload: spec: Invalid value: keep must be one of regions
        SingletonWorkload: spec: Invalid value: missedRuns is for a CronJob
        SingletonWorkload: spec: Invalid value: stop.runningJobs is for a CronJob
        SingletonWorkload: spec: Invalid value: a token is written only with enforcement: Enforce
        SingletonWorkload: spec.stop: Invalid value: settle must be at least 15s: what controllers do late shows within it
        Drill: spec: Invalid value: mode Exercise needs start.at: without it a manifest applied again from Git would evacuate by accident
        Drill: spec: Invalid value: a drill is immutable but for control: create another one
        SingletonWorkload: spec: Invalid value: spec.workload cannot change: delete this SingletonWorkload, which leaves the workload as it runs, and create another
        ");
    });
}

/// A refusal in one line.
fn in_short(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
