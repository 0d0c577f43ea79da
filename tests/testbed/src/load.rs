//! Users: requests through the edge at a steady rate, and what became of each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::sync::oneshot;

use crate::error::{Context as _, Error, Result};

/// How often due requests are sent.
const TICK: Duration = Duration::from_millis(5);
/// A request that takes longer has failed: users do not wait either.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests under way at most: a second and a half of 200 a second that hang altogether; more would only queue up behind them.
const IN_FLIGHT: u64 = 400;
/// How many failures are kept with their reason; all are counted.
const REASONS: usize = 20;

/// One request that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When it was sent.
    pub at: SystemTime,
    /// The route it was for.
    pub route: String,
    /// The status, or what happened on the connection.
    pub reason: String,
}

/// Requests that one region answered with 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub requests: u64,
    /// When the last of them was sent.
    pub last: SystemTime,
}

/// What became of the requests until now.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Requests that have ended, well or not.
    pub requests: u64,
    /// Those that did not end with status 200 within 5 s.
    pub failed: u64,
    /// The first 20 failures.
    pub failures: Vec<Failure>,
    /// Requests that were due but not sent, because 400 were under way.
    pub skipped: u64,
    /// The longest time that a good request took.
    pub slowest: Duration,
    /// Good requests by route, then by the region that answered.
    pub routes: BTreeMap<String, BTreeMap<String, Seen>>,
}

impl Totals {
    /// Good requests that `region` answered, over all routes; none if there were none.
    #[must_use]
    pub fn region(&self, region: &str) -> Option<Seen> {
        let seen = self.routes.values().filter_map(|regions| regions.get(region)).copied();
        seen.reduce(|a, b| Seen { requests: a.requests + b.requests, last: a.last.max(b.last) })
    }
}

#[derive(Debug, Default)]
struct Memory {
    totals: Totals,
    in_flight: u64,
}

type Shared = Arc<Mutex<Memory>>;

/// A running load, on a thread and runtime of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    memory: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts `per_second` requests a second (of 1 to 2,000) to `edge` (`HOST:PORT`), over the path prefixes `routes` (such as `cart`) in turn.
    pub fn start(edge: &str, routes: &[&str], per_second: u32) -> Result<Self> {
        if routes.is_empty() || !(1..=2000).contains(&per_second) {
            let why = format!("{} routes, {per_second} requests a second; at least one and 1 to 2000 are possible", routes.len());
            return Err(Error::Invalid { what: "start the load".to_owned(), why });
        }
        let memory = Shared::default();
        let (stop, stopped) = oneshot::channel();
        let targets: Vec<_> = routes.iter().map(|route| ((*route).to_owned(), format!("http://{edge}/{route}/item"))).collect();
        let shared = memory.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context(|| "start a runtime".to_owned())?;
        let body = move || runtime.block_on(drive(shared, targets, per_second, stopped));
        let thread = thread::Builder::new().name("load".to_owned()).spawn(body).context(|| "start the load".to_owned())?;
        Ok(Self { memory, stop: Some(stop), thread: Some(thread) })
    }

    /// What became of the requests until now.
    #[must_use]
    pub fn snapshot(&self) -> Totals {
        lock(&self.memory).totals.clone()
    }

    /// Sends no more requests, waits for those under way (at most 5 s) and returns the totals.
    pub async fn stop(mut self) -> Totals {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.snapshot()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sends what is due until told to stop, then waits for what is under way.
async fn drive(memory: Shared, targets: Vec<(String, String)>, per_second: u32, mut stopped: oneshot::Receiver<()>) {
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let start = Instant::now();
    let mut due = targets.iter().cycle();
    let mut sent = 0;
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = tick.tick() => {}
        }
        // Open loop: the rate does not follow the answers, or a slow edge would be asked less.
        let wanted = start.elapsed().as_millis() * u128::from(per_second) / 1000;
        while sent < wanted {
            sent += 1;
            let Some((route, url)) = due.next() else { return };
            let mut state = lock(&memory);
            if state.in_flight >= IN_FLIGHT {
                state.totals.skipped += 1;
                continue;
            }
            state.in_flight += 1;
            tokio::spawn(ask(client.clone(), memory.clone(), route.clone(), url.clone()));
        }
    }
    let patience = Instant::now() + PATIENCE;
    while lock(&memory).in_flight > 0 && Instant::now() < patience {
        tokio::time::sleep(TICK).await;
    }
}

/// One request and its record.
async fn ask(client: Client<HttpConnector, Empty<Bytes>>, memory: Shared, route: String, url: String) {
    let (at, start) = (SystemTime::now(), Instant::now());
    let outcome = tokio::time::timeout(PATIENCE, get(&client, &url)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer in {} s", PATIENCE.as_secs())));
    let mut state = lock(&memory);
    state.in_flight -= 1;
    let totals = &mut state.totals;
    totals.requests += 1;
    match outcome {
        Ok(region) => {
            totals.slowest = totals.slowest.max(start.elapsed());
            let seen = totals.routes.entry(route).or_default().entry(region).or_insert(Seen { requests: 0, last: at });
            seen.requests += 1;
            seen.last = seen.last.max(at);
        }
        Err(reason) => {
            totals.failed += 1;
            if totals.failures.len() < REASONS {
                totals.failures.push(Failure { at, route, reason });
            }
        }
    }
}

/// The region that answered with 200, or why there is none.
async fn get(client: &Client<HttpConnector, Empty<Bytes>>, url: &str) -> std::result::Result<String, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let response = client.get(uri).await.map_err(|error| chain(&error))?;
    let region = response.headers().get("x-region").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = response.status();
    response.into_body().collect().await.map_err(|error| chain(&error))?;
    match region {
        Some(region) if status == http::StatusCode::OK => Ok(region),
        Some(region) => Err(format!("{status} from {region}")),
        None => Err(format!("{status} from the edge")),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
