use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::json::{at, items, text};
use super::physics::serves;
use super::server::Server;
use super::store::{Change, Store};

/// Where users come in: it turns the weights of the `HTTPRoute`s of one cluster into streams of requests, some time after they were written, and knows
/// what the regions answer with. Backends are told apart by their names. Clones are handles on the same one.
#[derive(Clone)]
pub struct Edge {
    hub: Server,
    settings: Arc<Mutex<Settings>>,
}

struct Settings {
    requests: f64,
    delay: TimeDelta,
    late: f64,
    tail: TimeDelta,
    /// The region of each backend.
    places: BTreeMap<String, String>,
    regions: BTreeMap<String, Capacity>,
}

struct Capacity {
    server: Server,
    per_pod: f64,
}

impl Edge {
    /// Every route has 1,000 requests per second, all users follow a weight at once, and no region has a limit.
    #[must_use]
    pub fn new(hub: Server) -> Self {
        let zero = TimeDelta::zero();
        let (places, regions) = (BTreeMap::new(), BTreeMap::new());
        let settings = Settings { requests: 1000.0, delay: zero, late: 0.0, tail: zero, places, regions };
        Self { hub, settings: Arc::new(Mutex::new(settings)) }
    }

    /// How many requests per second every route gets in all.
    pub fn requests(&self, per_second: f64) {
        self.settings(|settings| settings.requests = per_second);
    }

    /// How long a written weight takes to reach the users.
    pub fn delay(&self, delay: Duration) {
        self.settings(|settings| settings.delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX));
    }

    /// This part of the users, from 0 to 1, follows only so long after the write: resolvers that do not honour a TTL, connections that are kept.
    pub fn stragglers(&self, part: f64, after: Duration) {
        self.settings(|settings| (settings.late, settings.tail) = (part, TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX)));
    }

    /// Behind this backend is this region.
    pub fn place(&self, backend: &str, region: &str) {
        self.settings(|settings| settings.places.insert(backend.into(), region.into()));
    }

    /// The Ready pods of workloads in this region carry so many requests per second each, which may be infinitely many; what comes above fails.
    pub fn limit(&self, region: &Server, per_pod: f64) {
        self.settings(|settings| settings.regions.insert(region.name().into(), Capacity { server: region.clone(), per_pod }));
    }

    /// The backends that the weights name now.
    #[must_use]
    pub fn backends(&self) -> BTreeSet<String> {
        let names = |store: &mut Store| {
            let routes = store.kind("HTTPRoute")?;
            let rules = store.list(&routes, "").flat_map(|(_, route)| items(route, "spec.rules"));
            Some(rules.flat_map(|rule| items(rule, "backendRefs")).map(|backend| text(backend, "name").to_owned()).collect())
        };
        self.hub.with(names).unwrap_or_default()
    }

    /// The requests per second of this backend, over the window until now.
    #[must_use]
    pub fn rate(&self, backend: &str, window: Duration) -> f64 {
        let window = TimeDelta::from_std(window).unwrap_or(TimeDelta::zero());
        let (requests, delay, late, tail) =
            self.settings(|settings| (settings.requests, settings.delay, settings.late, settings.tail));
        let now = self.hub.now();
        self.hub.with(|store| {
            let prompt = mean(store, backend, now - delay - window, now - delay);
            let tardy = if late > 0.0 { mean(store, backend, now - tail - window, now - tail) } else { prompt };
            requests * ((1.0 - late) * prompt + late * tardy)
        })
    }

    /// What comes to this region now over what it carries; `None` where it has no limit.
    #[must_use]
    pub fn load(&self, region: &str) -> Option<f64> {
        let (arrives, carries) = self.balance(region)?;
        Some(if arrives == 0.0 { 0.0 } else { arrives / carries })
    }

    /// What comes to this region now, in requests per second, and how many Ready pods of workloads it has for that.
    #[must_use]
    pub fn users(&self, region: &str) -> Option<(f64, f64)> {
        let (server, backends) = self.settings(|settings| {
            let server = settings.regions.get(region)?.server.clone();
            let here = settings.places.iter().filter(|(_, place)| *place == region);
            Some((server, here.map(|(name, _)| name.clone()).collect::<Vec<_>>()))
        })?;
        let arrives = backends.iter().map(|backend| self.rate(backend, Duration::ZERO)).sum();
        Some((arrives, f64::from(u32::try_from(server.with(serves)).unwrap_or(u32::MAX))))
    }

    /// The part of the requests that fail now, to this region or to all, from 0 to 1.
    #[must_use]
    pub fn errors(&self, region: Option<&str>) -> f64 {
        let names: Vec<String> = match region {
            Some(region) => vec![region.into()],
            None => self.settings(|settings| settings.regions.keys().cloned().collect()),
        };
        let sums = names.iter().filter_map(|name| self.balance(name));
        let (failed, all) =
            sums.fold((0.0, 0.0), |(failed, all), (arrives, carries)| (failed + f64::max(arrives - carries, 0.0), all + arrives));
        if all > 0.0 { failed / all } else { 0.0 }
    }

    /// The regions that have a limit.
    #[must_use]
    pub fn regions(&self) -> Vec<String> {
        self.settings(|settings| settings.regions.keys().cloned().collect())
    }

    /// What arrives at a region, and what it carries, in requests per second; `None` where it has no limit.
    fn balance(&self, region: &str) -> Option<(f64, f64)> {
        let per_pod = self.settings(|settings| settings.regions.get(region).map(|capacity| capacity.per_pod))?;
        if per_pod.is_infinite() {
            return None;
        }
        let (arrives, pods) = self.users(region)?;
        Some((arrives, pods * per_pod))
    }

    fn settings<T>(&self, work: impl FnOnce(&mut Settings) -> T) -> T {
        work(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The mean number of routes whose traffic goes to this backend between two moments: 1 is all of one route.
fn mean(store: &Store, backend: &str, from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    let Some(routes) = store.kind("HTTPRoute") else { return 0.0 };
    let then = |moment: DateTime<Utc>| -> f64 {
        let stood = store.as_of(&routes, "", |change: &Change| change.at > moment);
        stood.values().map(|route| share(route, backend)).sum()
    };
    if from >= to {
        return then(to);
    }
    let mut turns: Vec<DateTime<Utc>> = store
        .log
        .iter()
        .rev()
        .take_while(|change| change.at > from)
        .filter(|change| change.key.plural == routes.plural && change.key.group == routes.group && change.at <= to)
        .map(|change| change.at)
        .collect();
    turns.extend([from, to]);
    turns.sort_unstable();
    turns.dedup();
    let seconds = |span: TimeDelta| span.as_seconds_f64();
    let parts = turns.iter().zip(turns.iter().skip(1));
    parts.map(|(start, end)| then(*start) * seconds(*end - *start)).sum::<f64>() / seconds(to - from)
}

/// The part of a route's traffic that goes to a backend; its rules get equal parts. Where all weights of a rule are 0 the data plane answers by
/// itself, and no backend gets any.
fn share(route: &Value, backend: &str) -> f64 {
    let rules = items(route, "spec.rules");
    let weight = |one: &Value| at(one, "weight").as_f64().unwrap_or(1.0);
    let part = |rule: &Value| {
        let all: f64 = items(rule, "backendRefs").map(weight).sum();
        let this: f64 = items(rule, "backendRefs").filter(|one| text(one, "name") == backend).map(weight).sum();
        if all > 0.0 { this / all } else { 0.0 }
    };
    let count = u32::try_from(rules.len()).unwrap_or(u32::MAX).max(1);
    rules.map(part).sum::<f64>() / f64::from(count)
}
