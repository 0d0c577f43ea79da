use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::json::{at, items};
use super::route::pairs;
use super::server::Server;

/// What a query is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// One series with this value; `f64::NAN` is written as Prometheus does.
    Value(f64),
    /// An empty vector.
    NoData,
    /// A vector of several series, labelled `series="0"` and so on.
    Several(Vec<f64>),
    /// An error of this code, with Prometheus's body.
    Error(StatusCode),
    /// A body of so many bytes, to try limits on.
    Bytes(usize),
}

/// A Prometheus that sees the traffic which the weights on the hub make: a query that names a backend gets this backend's requests per second as they
/// were some time ago. Other queries are answered from a table, and with 0 where that says nothing. Clones are handles on the same one.
#[derive(Clone)]
pub struct Prometheus {
    hub: Server,
    settings: Arc<Mutex<Settings>>,
}

struct Settings {
    requests: f64,
    lag: TimeDelta,
    table: BTreeMap<String, Sample>,
}

impl Prometheus {
    /// Sees 1,000 requests per second on every route, at once.
    #[must_use]
    pub fn new(hub: Server) -> Self {
        Self {
            hub,
            settings: Arc::new(Mutex::new(Settings { requests: 1000.0, lag: TimeDelta::zero(), table: BTreeMap::new() })),
        }
    }

    /// How many requests per second every route gets in all.
    pub fn requests(&self, per_second: f64) {
        self.settings(|settings| settings.requests = per_second);
    }

    /// How long users keep coming, and samples take, after a weight was written.
    pub fn lag(&self, lag: std::time::Duration) {
        self.settings(|settings| settings.lag = TimeDelta::from_std(lag).unwrap_or(TimeDelta::MAX));
    }

    /// Answers this query so from now on, whatever the weights say.
    pub fn set(&self, query: &str, sample: Sample) {
        self.settings(|settings| settings.table.insert(query.into(), sample));
    }

    /// Takes such an answer back.
    pub fn unset(&self, query: &str) {
        self.settings(|settings| settings.table.remove(query));
    }

    fn settings<T>(&self, work: impl FnOnce(&mut Settings) -> T) -> T {
        work(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to `GET` of this path and query; `/api/v1/query` is all it serves.
    #[must_use]
    pub fn answer(&self, path_and_query: &str) -> (StatusCode, Bytes) {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        if path != "/api/v1/query" {
            return (StatusCode::NOT_FOUND, Bytes::from_static(b"404 page not found\n"));
        }
        let Some((_, query)) = pairs(query).into_iter().find(|(key, value)| key == "query" && !value.is_empty()) else {
            return failed(
                StatusCode::BAD_REQUEST,
                "bad_data",
                "invalid parameter \"query\": unknown position: parse error: no expression found in input",
            );
        };
        let (set, requests, lag) =
            self.settings(|settings| (settings.table.get(&query).cloned(), settings.requests, settings.lag));
        let now = self.hub.now();
        let seen = || self.share(&query, now - lag).map_or(Sample::Value(0.0), |share| Sample::Value(requests * share));
        let one = |labels: Value, value: f64| json!({"metric": labels, "value": [seconds(now), number(value)]});
        match set.unwrap_or_else(seen) {
            Sample::Value(value) => vector(&[one(json!({}), value)]),
            Sample::NoData => vector(&[]),
            Sample::Several(values) => {
                let series =
                    values.into_iter().enumerate().map(|(index, value)| one(json!({"series": index.to_string()}), value));
                vector(&series.collect::<Vec<_>>())
            }
            Sample::Error(code) => failed(
                code,
                if code == StatusCode::SERVICE_UNAVAILABLE { "timeout" } else { "execution" },
                "injected by the simulation",
            ),
            Sample::Bytes(length) => (StatusCode::OK, Bytes::from(vec![b' '; length])),
        }
    }

    /// The share of the backend whose name the query has, as the weights stood then; `None` if it names none. Of names that contain each other the
    /// longest counts. A route's rules get equal parts of its traffic.
    fn share(&self, query: &str, then: DateTime<Utc>) -> Option<f64> {
        self.hub.with(|store| {
            let routes = store.as_of(&store.kind("HTTPRoute")?, |change| change.at > then);
            let mut best: Option<(usize, f64)> = None;
            for route in routes.values() {
                let rules: Vec<&Value> = items(route, "spec.rules").collect();
                let backends = rules.iter().flat_map(|rule| items(rule, "backendRefs"));
                let named = backends.filter_map(|backend| at(backend, "name").as_str()).filter(|name| query.contains(name));
                if let Some(name) =
                    named.max_by_key(|name| name.len()).filter(|name| best.is_none_or(|(length, _)| name.len() > length))
                {
                    let parts = u32::try_from(rules.len()).unwrap_or(u32::MAX);
                    best = Some((name.len(), rules.iter().map(|rule| part(rule, name)).sum::<f64>() / f64::from(parts)));
                }
            }
            best.map(|(_, share)| share)
        })
    }
}

/// The part of a rule's traffic that goes to a backend. Where all weights are 0 the data plane answers by itself, and no backend gets any.
fn part(rule: &Value, name: &str) -> f64 {
    let weight = |backend: &Value| at(backend, "weight").as_f64().unwrap_or(1.0);
    let backends = || items(rule, "backendRefs");
    let all: f64 = backends().map(weight).sum();
    let this: f64 = backends().filter(|backend| *at(backend, "name") == name).map(weight).sum();
    if all > 0.0 { this / all } else { 0.0 }
}

fn seconds(at: DateTime<Utc>) -> Value {
    let text = format!("{}.{:03}", at.timestamp(), at.timestamp_subsec_millis());
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Numbers are strings on this wire, and not all of them are numbers.
fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

fn vector(series: &[Value]) -> (StatusCode, Bytes) {
    let body = json!({"status": "success", "data": {"resultType": "vector", "result": series}});
    (StatusCode::OK, Bytes::from(body.to_string()))
}

fn failed(code: StatusCode, kind: &str, error: &str) -> (StatusCode, Bytes) {
    (code, Bytes::from(json!({"status": "error", "errorType": kind, "error": error}).to_string()))
}
