use crate::claim::FIELD_MANAGER;
use crate::seam::Clock;
use crate::terms::Json;
use http::{Method, Request};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One API server. Every call has a time-out on both sides, and its outcome is counted.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    clock: Clock,
    counters: Counters,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing.
    Nothing,
    /// An object, whole.
    Json(Json),
    /// A JSON patch.
    Patch(json_patch::Patch),
    /// A merge patch.
    Merge(Json),
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What kind of failure.
    pub category: Category,
    /// What happened, for people.
    pub message: String,
}

/// What kind of failure a call met; stable, for metrics and decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// No connection.
    Unreachable,
    /// No answer in time; what was asked may have happened or may still happen.
    TimedOut,
    /// 401, 403.
    Forbidden,
    /// 404 of an object.
    NotFound,
    /// 404 of a kind.
    NotInstalled,
    /// 409: the object is not as it was decided about, or exists already.
    Conflict,
    /// 400, 422: the server does not take it.
    Invalid,
    /// 429, 5xx.
    Unavailable,
    /// An answer that makes no sense.
    Malformed,
}

/// One finished call, for metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// GET, POST, ...
    pub verb: String,
    /// The resource's plural.
    pub resource: String,
    /// `ok` or the category's name.
    pub outcome: String,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Where finished calls are told.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<Option<Sink>>>);

type Sink = Box<dyn Fn(&Observation) + Send>;

impl Counters {
    /// Tells every finished call to `sink` from now on.
    pub fn tell(&self, sink: Sink) {
        if let Ok(mut place) = self.0.lock() {
            *place = Some(sink);
        }
    }

    fn count(&self, observation: &Observation) {
        if let Ok(place) = self.0.lock()
            && let Some(sink) = place.as_ref()
        {
            sink(observation);
        }
    }
}

impl Api {
    /// A door to the server behind `client`.
    #[must_use]
    pub fn new(client: kube::Client, clock: Clock, counters: Counters) -> Self {
        Self { client, clock, counters }
    }

    /// The client itself, for watches.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// One call. `path` may have a query; the server is told to give up half a second before we do.
    ///
    /// # Errors
    /// [`CallError`]; after a time-out of a write nobody knows whether it landed.
    pub async fn call(&self, method: Method, path: &str, body: Body, limit: Duration) -> Result<Json, CallError> {
        let begun = self.clock.monotonic();
        let server = limit.saturating_sub(Duration::from_millis(500)).max(Duration::from_millis(100));
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut uri = format!("{path}{joint}timeout={}ms", server.as_millis());
        if !matches!(method, Method::GET | Method::DELETE) {
            uri = format!("{uri}&fieldManager={FIELD_MANAGER}");
        }
        let (kind, bytes) = match body {
            Body::Nothing => (None, Vec::new()),
            Body::Json(json) => (Some("application/json"), json.to_string().into_bytes()),
            Body::Merge(json) => (Some("application/merge-patch+json"), json.to_string().into_bytes()),
            Body::Patch(patch) => (Some("application/json-patch+json"), json!(patch).to_string().into_bytes()),
        };
        let mut request = Request::builder().method(method.clone()).uri(&uri).header("accept", "application/json");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let malformed = |message: String| CallError { category: Category::Malformed, message };
        let request = request.body(bytes).map_err(|error| malformed(error.to_string()))?;
        let answer = match tokio::time::timeout(limit, self.client.request::<Json>(request)).await {
            Err(_) => {
                Err(CallError { category: Category::TimedOut, message: format!("no answer within {} s", limit.as_secs_f32()) })
            }
            Ok(Err(error)) => Err(categorise(&error)),
            Ok(Ok(json)) => Ok(json),
        };
        self.counters.count(&Observation {
            verb: method.to_string(),
            resource: resource(path),
            outcome: answer.as_ref().map_or_else(|error| format!("{:?}", error.category), |_| "ok".to_owned()),
            seconds: (self.clock.monotonic() - begun).as_secs_f64(),
        });
        answer
    }

    /// The whole of a collection, page by page.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list(&self, path: &str, query: &str, limit: Duration) -> Result<Vec<Json>, CallError> {
        // 500 objects a page, as kubectl does.
        let mut next = String::new();
        let mut items = Vec::new();
        loop {
            let page = self.call(Method::GET, &format!("{path}?limit=500{query}{next}"), Body::Nothing, limit).await;
            let mut page = page.map_err(|error| match error.category {
                // A collection is never absent: a 404 means that the server does not know its kind.
                Category::NotFound => CallError { category: Category::NotInstalled, ..error },
                _ => error,
            })?;
            let token = page.pointer("/metadata/continue").and_then(Json::as_str).unwrap_or_default().to_owned();
            match page.get_mut("items").map(Json::take) {
                Some(Json::Array(more)) => items.extend(more),
                _ => return Err(CallError { category: Category::Malformed, message: format!("{path}: a list without items") }),
            }
            if token.is_empty() {
                return Ok(items);
            }
            next = format!("&continue={token}");
        }
    }
}

/// The plural in a path: its last part for a collection, the one before a name.
fn resource(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let skip = if parts.first() == Some(&"apis") { 3 } else { 2 };
    let rest = parts.get(skip..).unwrap_or_default();
    let rest = if rest.first() == Some(&"namespaces") && rest.len() > 2 { rest.get(2..).unwrap_or_default() } else { rest };
    (*rest.first().unwrap_or(&"")).to_owned()
}

fn categorise(error: &kube::Error) -> CallError {
    match error {
        kube::Error::Api(status) => {
            let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
            let category = match status.code {
                401 | 403 => Category::Forbidden,
                404 if named => Category::NotFound,
                404 => Category::NotInstalled,
                409 => Category::Conflict,
                400 | 405 | 413 | 415 | 422 => Category::Invalid,
                504 => Category::TimedOut,
                _ => Category::Unavailable,
            };
            CallError {
                category,
                message: if status.message.is_empty() { status.reason.clone() } else { status.message.clone() },
            }
        }
        kube::Error::SerdeError(error) => CallError { category: Category::Malformed, message: error.to_string() },
        other => CallError { category: Category::Unreachable, message: chain(other) },
    }
}

/// An error and its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_of_a_path_is_its_plural() {
        assert_eq!(resource("/apis/apps/v1/namespaces/shop/deployments/web?x=y"), "deployments");
        assert_eq!(resource("/api/v1/namespaces/kube-system"), "namespaces");
        assert_eq!(resource("/api/v1/nodes"), "nodes");
        assert_eq!(resource("/apis/firedrill.dev/v1alpha1/drills/a/status"), "drills");
        assert_eq!(resource("/version"), "");
    }
}
