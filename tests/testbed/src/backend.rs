//! The shop's server in a region: counts requests, says which region it is, and fails on request.
//!
//! It runs on a thread of the bed's own process that has entered the region's network namespace, so it needs no binary of its own and answers a test
//! that asks for its counts without a request. Its runtime is its own too: a test that blocks its runtime does not slow the shop down.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderValue, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    error::{Context as _, Error, Result},
    namespace::Namespace,
};

/// The port that the `EndpointSlices` of the shop point at.
pub(crate) const PORT: u16 = 8080;

/// What a region's backend has served since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests, those that were made to fail included.
    pub requests: u64,
    /// Requests that were made to fail.
    pub failed: u64,
    /// Requests by the first part of their path, such as `/cart`.
    pub paths: BTreeMap<String, u64>,
    /// When the last request came, in milliseconds since 1970; 0 when none did.
    pub last_millis: u64,
}

/// A part of the requests that fails.
#[derive(Debug, Clone, Deserialize)]
struct Fault {
    /// Requests whose path starts so.
    prefix: String,
    /// The status they get.
    status: u16,
    /// The part of them that fails, 0 to 1.
    ratio: f64,
    /// What is owed to the ratio: a request fails when this reaches one, so that a ratio of 0.25 fails exactly every fourth.
    #[serde(skip)]
    owed: f64,
}

#[derive(Debug, Default)]
struct Memory {
    counts: Counts,
    faults: Vec<Fault>,
}

#[derive(Debug, Clone)]
struct Shared {
    region: String,
    memory: Arc<Mutex<Memory>>,
    delay_millis: Arc<AtomicU64>,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A running backend. Dropping it resets its connections, as a crash would.
#[derive(Debug)]
pub struct Backend {
    shared: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts the backend of `region` in `namespace`.
    pub(crate) fn start(region: &str, namespace: &Namespace) -> Result<Self> {
        let shared = Shared { region: region.to_owned(), memory: Arc::default(), delay_millis: Arc::default() };
        let (stop, stopped) = oneshot::channel();
        let (namespace, state) = (namespace.clone(), shared.clone());
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let listener = namespace.enter().and_then(|()| {
                let listener = std::net::TcpListener::bind((namespace.address, PORT));
                let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
                listener.context(|| format!("listen on {}:{PORT}", namespace.address))
            });
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context(|| "start a runtime".to_owned());
            match listener.and_then(|listener| Ok((listener, runtime?))) {
                Ok((listener, runtime)) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(async {
                        tokio::select! {
                            () = serve(listener, state) => {}
                            _ = stopped => {}
                        }
                    });
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        let thread = thread::Builder::new()
            .name(format!("backend-{region}"))
            .spawn(body)
            .context(|| format!("start the backend of {region}"))?;
        outcome.recv().map_err(|_| Error::Invalid {
            what: format!("start the backend of {region}"),
            why: "its thread ended".to_owned(),
        })??;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// What it has served until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.memory().counts.clone()
    }

    /// Makes `ratio` (0 to 1) of the requests whose path starts with `prefix` fail with `status`, evenly spread, until [`Backend::recover`].
    pub fn fail(&self, prefix: &str, status: u16, ratio: f64) {
        self.shared.memory().faults.push(Fault { prefix: prefix.to_owned(), status, ratio, owed: 0.0 });
    }

    /// Adds `millis` milliseconds to every answer; 0 is the default.
    pub fn delay(&self, millis: u64) {
        self.shared.delay_millis.store(millis, Ordering::Relaxed);
    }

    /// Ends every fault and delay.
    pub fn recover(&self) {
        self.shared.memory().faults.clear();
        self.delay(0);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Shared) {
    let app = Router::new()
        .route("/_control/counts", get(async |State(shared): State<Shared>| Json(shared.memory().counts.clone())))
        .route("/_control/fail", post(control_fail))
        .route("/_control/recover", post(async |State(shared): State<Shared>| shared.memory().faults.clear()))
        .fallback(answer)
        .with_state(shared);
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => drop(axum::serve(listener, app).await),
        Err(error) => eprintln!("testbed: a backend could not listen: {error}"),
    }
}

/// `POST /_control/fail?prefix=/cart&status=503&ratio=0.5`
async fn control_fail(State(shared): State<Shared>, Query(fault): Query<Fault>) {
    shared.memory().faults.push(fault);
}

async fn answer(State(shared): State<Shared>, uri: Uri) -> Response {
    let delay = shared.delay_millis.load(Ordering::Relaxed);
    if delay > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
    }
    let status = count(&mut shared.memory(), uri.path());
    let mut response = (status, Json(serde_json::json!({ "region": shared.region, "path": uri.path() }))).into_response();
    if let Ok(region) = HeaderValue::from_str(&shared.region) {
        response.headers_mut().insert("x-region", region);
    }
    response
}

/// Counts a request and says how it ends.
fn count(memory: &mut Memory, path: &str) -> StatusCode {
    let mut status = StatusCode::OK;
    for fault in memory.faults.iter_mut().filter(|fault| path.starts_with(&fault.prefix)) {
        fault.owed += fault.ratio;
        if fault.owed >= 1.0 {
            fault.owed -= 1.0;
            status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
    let counts = &mut memory.counts;
    counts.requests += 1;
    counts.failed += u64::from(status != StatusCode::OK);
    let first = path.split('/').nth(1).unwrap_or_default();
    *counts.paths.entry(format!("/{first}")).or_default() += 1;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    counts.last_millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_requests_under_the_prefix_fails_and_no_other() {
        let mut memory = Memory::default();
        memory.faults.push(Fault { prefix: "/cart".to_owned(), status: 503, ratio: 0.25, owed: 0.0 });
        let mut failed = |path: &str| (0..40).filter(|_| count(&mut memory, path) == StatusCode::SERVICE_UNAVAILABLE).count();
        assert_eq!(failed("/cart/1"), 10);
        assert_eq!(failed("/shop"), 0);
        assert_eq!(memory.counts.paths.get("/cart"), Some(&40));
    }
}
