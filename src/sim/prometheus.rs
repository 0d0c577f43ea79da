use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::edge::Edge;
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
    /// The requests per second of this backend, over this window.
    Requests(String, Duration),
    /// The part of the requests that fail, in this region or in all.
    Errors(Option<String>),
    /// A body of so many bytes, to try limits on.
    Bytes(usize),
}

/// A Prometheus that sees what the edge does. A query that names a backend gets this backend's requests per second, over the window that it names in
/// brackets; one of errors (`error`, `5..`) their part of all requests; one of utilization (`utili`, `saturation`) the busiest region's load; both of
/// one region where they name it. Any other is 0. Whatever is set for a query is answered instead. Clones are handles on the same one.
#[derive(Clone)]
pub struct Prometheus {
    edge: Edge,
    hub: Server,
    table: Arc<Mutex<BTreeMap<String, Sample>>>,
    lie: Arc<Mutex<Option<Lie>>>,
}

type Lie = Box<dyn Fn(&str, Sample) -> Sample + Send>;

impl Prometheus {
    /// Sees the traffic of this edge at once.
    #[must_use]
    pub fn new(hub: Server, edge: Edge) -> Self {
        Self { edge, hub, table: Arc::default(), lie: Arc::default() }
    }

    /// Answers this query so from now on, whatever the weights say.
    pub fn set(&self, query: &str, sample: Sample) {
        self.table(|table| table.insert(query.into(), sample));
    }

    /// Takes such an answer back.
    pub fn unset(&self, query: &str) {
        self.table(|table| table.remove(query));
    }

    /// Changes every answer so from now on: what a wrong reading looks like from outside, to see that it would be found.
    pub fn lie(&self, lie: impl Fn(&str, Sample) -> Sample + Send + 'static) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(lie));
    }

    fn table<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Sample>) -> T) -> T {
        work(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
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
        let set = self.table(|table| table.get(&query).cloned());
        let now = self.hub.now();
        let one = |labels: Value, value: f64| json!({"metric": labels, "value": [seconds(now), number(value)]});
        let sample = set.unwrap_or_else(|| Sample::Value(self.seen(&query)));
        let sample = match &*self.lie.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(lie) => lie(&query, sample),
            None => sample,
        };
        match sample {
            Sample::Value(value) => vector(&[one(json!({}), value)]),
            Sample::Requests(backend, window) => vector(&[one(json!({}), self.edge.rate(&backend, window))]),
            Sample::Errors(region) => vector(&[one(json!({}), self.edge.errors(region.as_deref()))]),
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

    /// What the edge says to a query. Of backends whose names contain each other the longest counts.
    fn seen(&self, query: &str) -> f64 {
        let named = self.edge.backends().into_iter().filter(|name| query.contains(name.as_str()));
        if let Some(backend) = named.max_by_key(String::len) {
            return self.edge.rate(&backend, window(query));
        }
        let regions = self.edge.regions();
        let region = regions.iter().filter(|name| query.contains(name.as_str())).max_by_key(|name| name.len());
        let says = |words: [&str; 2]| words.iter().any(|word| query.contains(word));
        if says(["error", "5.."]) {
            self.edge.errors(region.map(String::as_str))
        } else if says(["utili", "saturation"]) {
            let asked = region.map_or(regions.as_slice(), std::slice::from_ref);
            asked.iter().filter_map(|name| self.edge.load(name)).fold(0.0, f64::max)
        } else {
            0.0
        }
    }
}

/// The first range of a query (`[30s]`); none is a moment.
fn window(query: &str) -> Duration {
    let range = query.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(range, _)| range.trim());
    let of = |unit: &str, seconds: u64| Some(range?.strip_suffix(unit)?.parse::<u64>().ok()? * seconds);
    Duration::from_secs(of("s", 1).or_else(|| of("m", 60)).or_else(|| of("h", 3600)).unwrap_or(0))
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
