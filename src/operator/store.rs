//! The hub's own kinds, kept by watches. Good enough to write by, never to prove by.

use super::Operator;
use super::driver::Key;
use crate::api::{Drill, EvacuationPlan, Region, SingletonWorkload, TrafficRoute};
use crate::terms::{Json, Kind, Object};
use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The kinds that are followed.
pub(super) const FOLLOWED: [Kind; 5] =
    [Kind::Region, Kind::EvacuationPlan, Kind::TrafficRoute, Kind::SingletonWorkload, Kind::Drill];
/// How long one watch lasts: a silent connection is noticed after this.
const WATCH: u32 = 20;
/// How long a list or a watch may take to begin to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The hub's own kinds.
#[derive(Default)]
pub struct Store {
    objects: Mutex<BTreeMap<Key, Object>>,
    synced: Mutex<BTreeSet<Kind>>,
}

impl Store {
    /// Follows one kind for ever; every change makes its key due.
    pub(super) async fn follow(&self, kind: Kind, operator: &Operator) {
        let (version, plural, _) = kind.resource();
        let group = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group.0, group.1, &kind.to_string()), plural);
        // A list whose answer is lost would be waited for without end: no answer may take longer to begin than a watch lasts.
        let hub = operator.fleet.hub.client();
        let bounded = tower::service_fn(move |request| {
            let hub = hub.clone();
            async move {
                let answer = tokio::time::timeout(ANSWER, hub.send(request)).await;
                answer.map_err(tower::BoxError::from)?.map_err(tower::BoxError::from)
            }
        });
        let client = kube::Client::new(bounded, "default");
        let api: kube::Api<DynamicObject> = kube::Api::all_with(client, &resource);
        let mut events = Box::pin(watcher(api, watcher::Config::default().timeout(WATCH)));
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    listed.extend(self.put(kind, &object));
                }
                Ok(watcher::Event::InitDone) => {
                    let gone: Vec<Key> = self.keys(kind).into_iter().filter(|key| !listed.contains(key)).collect();
                    for key in gone {
                        self.lock().remove(&key);
                    }
                    self.synced.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
                }
                Ok(watcher::Event::Apply(object)) => {
                    self.put(kind, &object);
                }
                Ok(watcher::Event::Delete(object)) => {
                    let key = Key { kind, namespace: object.metadata.namespace, name: object.metadata.name.unwrap_or_default() };
                    self.lock().remove(&key);
                }
                Err(error) => {
                    tracing::warn!(%kind, %error, "watch on the hub failed; it is begun anew");
                    tokio::time::sleep(operator.seam.jitter(Duration::from_secs(2))).await;
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, kind: Kind, object: &DynamicObject) -> Option<Key> {
        let json: Json = serde_json::to_value(object).ok()?;
        let key = Key { kind, namespace: object.metadata.namespace.clone(), name: object.metadata.name.clone()? };
        self.lock().insert(key.clone(), Object::new(json));
        Some(key)
    }

    /// All keys of a kind.
    #[must_use]
    pub fn keys(&self, kind: Kind) -> Vec<Key> {
        self.lock().keys().filter(|key| key.kind == kind).cloned().collect()
    }

    /// The version of every object: what changed is due.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<Key, String> {
        self.lock().iter().map(|(key, object)| (key.clone(), object.resource_version().to_owned())).collect()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Object> {
        self.lock().get(key).cloned()
    }

    fn all<T: DeserializeOwned>(&self, kind: Kind) -> Vec<T> {
        let objects: Vec<Object> =
            self.lock().iter().filter(|(key, _)| key.kind == kind).map(|(_, object)| object.clone()).collect();
        // What does not parse is told by its own activation.
        objects.iter().filter_map(|object| object.parse().ok()).collect()
    }

    /// All drills that parse.
    #[must_use]
    pub fn drills(&self) -> Vec<Drill> {
        self.all(Kind::Drill)
    }

    /// All regions that parse.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        self.all(Kind::Region)
    }

    /// All plans that parse.
    #[must_use]
    pub fn plans(&self) -> Vec<EvacuationPlan> {
        self.all(Kind::EvacuationPlan)
    }

    /// All routes that parse.
    #[must_use]
    pub fn routes(&self) -> Vec<TrafficRoute> {
        self.all(Kind::TrafficRoute)
    }

    /// All singletons that parse.
    #[must_use]
    pub fn singletons(&self) -> Vec<SingletonWorkload> {
        self.all(Kind::SingletonWorkload)
    }

    /// Waits until a kind has been listed.
    pub(super) async fn synced(&self, kind: Kind) {
        while !self.synced.lock().unwrap_or_else(PoisonError::into_inner).contains(&kind) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What has not been listed yet.
    #[must_use]
    pub fn waits_for(&self) -> Vec<String> {
        let synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        FOLLOWED
            .into_iter()
            .filter(|kind| !synced.contains(kind))
            .map(|kind| format!("the first list of {}", kind.resource().1))
            .collect()
    }
}
