//! An ordered map of key to due time; a change of an object, a wake, a lease change or a finished run moves entries. At most one
//! run per key, bounded concurrency.

use super::{Error, Operator, drill, plan, region, route, singleton, sweep};
use crate::terms::{Kind, Term, Timestamp};
use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinSet};

/// How many activations run at once: a region that does not answer must not keep others waiting.
const AT_ONCE: usize = 8;
/// How often the driver looks for changes and due keys.
const LOOK: Duration = Duration::from_millis(100);
/// How long one object is left alone after a run: two hands that undo each other's work, be one of them ours, must not keep an API
/// server busy.
const SPACED: TimeDelta = TimeDelta::milliseconds(50);
/// How soon a failed activation is tried again.
const AGAIN: TimeDelta = TimeDelta::seconds(1);

/// One object that is taken care of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind; `Namespace` stands for the sweep.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// Runs what is due, for ever; nothing while another instance leads.
pub(super) async fn drive(operator: &Arc<Operator>) {
    let mut due: BTreeMap<Key, Timestamp> = BTreeMap::new();
    let mut seen: BTreeMap<Key, String> = BTreeMap::new();
    let mut running: BTreeSet<Key> = BTreeSet::new();
    let mut runs: JoinSet<Option<Timestamp>> = JoinSet::new();
    let mut keys: BTreeMap<Id, Key> = BTreeMap::new();
    let mut ended: BTreeMap<Key, Timestamp> = BTreeMap::new();
    let mut term = None;
    let sweep = Key { kind: Kind::Namespace, namespace: None, name: "sweep".to_owned() };
    loop {
        let now = operator.seam.clock.now();
        let held = operator.leadership.held(&operator.seam).map(|(term, _)| term);
        if held != term {
            ended.clear();
            // What ran under another term must not go on; what it committed is found in the world.
            runs.abort_all();
            while runs.join_next().await.is_some() {}
            running.clear();
            keys.clear();
            seen.clear();
            due.clear();
            term = held;
            tracing::info!(leads = term.is_some(), term = term.map(|term| term.0), "leadership changed");
        }
        if let (Some(term), true) = (term, operator.waits_for().is_empty()) {
            let versions = operator.store.versions();
            for (key, version) in &versions {
                if seen.get(key) != Some(version) {
                    due.insert(key.clone(), now);
                }
            }
            due.retain(|key, _| versions.contains_key(key) || *key == sweep);
            ended.retain(|_, at| now < *at + SPACED);
            due.entry(sweep.clone()).or_insert(now);
            seen = versions;
            // Drills first, then who waits longest: regions that do not answer must not keep them waiting.
            let mut ready: Vec<(bool, Timestamp, Key)> = due
                .iter()
                .filter(|(key, at)| **at <= now && !running.contains(*key) && !ended.contains_key(*key))
                .map(|(key, at)| (key.kind != Kind::Drill, *at, key.clone()))
                .collect();
            ready.sort();
            for (_, _, key) in ready.into_iter().take(AT_ONCE.saturating_sub(running.len())) {
                // Until it says otherwise: a safety net, as informers' resync is.
                due.insert(key.clone(), now + TimeDelta::seconds(30));
                running.insert(key.clone());
                let run = runs.spawn(activate(Arc::clone(operator), key.clone(), term));
                keys.insert(run.id(), key);
            }
        }
        tokio::select! {
            biased;
            Some(done) = runs.join_next_with_id() => {
                let (id, wake) = match done {
                    Ok((id, wake)) => (id, wake),
                    // A panic is a bug; it must not freeze its object, nor the others.
                    Err(error) => {
                        tracing::error!(%error, "an activation broke off; it is tried again");
                        (error.id(), Some(operator.seam.clock.now() + AGAIN))
                    }
                };
                let Some(key) = keys.remove(&id) else { continue };
                running.remove(&key);
                ended.insert(key.clone(), operator.seam.clock.now());
                if let (Some(wake), Some(at)) = (wake, due.get_mut(&key)) {
                    *at = (*at).min(wake);
                }
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn activate(operator: Arc<Operator>, key: Key, term: Term) -> Option<Timestamp> {
    let begun = operator.seam.clock.monotonic();
    let result: Result<Option<Timestamp>, Error> = match key.kind {
        Kind::Drill => drill::activate(&operator, &key, term).await,
        Kind::Region => region::activate(&operator, &key).await,
        Kind::EvacuationPlan => plan::activate(&operator, &key).await,
        Kind::TrafficRoute => route::activate(&operator, &key).await,
        Kind::SingletonWorkload => singleton::activate(&operator, &key, term).await,
        _ => sweep::activate(&operator, term).await,
    };
    let seconds = (operator.seam.clock.monotonic() - begun).as_secs_f64();
    operator.telemetry.activation(key.kind, seconds, result.as_ref().err().map(Error::category));
    result.unwrap_or_else(|error| {
        tracing::warn!(kind = %key.kind, name = key.name, %error, "activation failed; it is tried again");
        Some(operator.seam.clock.now() + AGAIN)
    })
}
