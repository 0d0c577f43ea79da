use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use ring::digest::{Context, SHA256, digest};
use serde_json::{Value, json};

use super::json::{at, bytes, text};
use super::kind::Kind;
use super::refusal::Refusal;
use super::route::Ask;
use super::serve::{Served, serve};
use super::signal::{Ear, Signal};
use super::store::{Deletion, Key, Object, Part, Store};
use super::watch::Watch;
use crate::seam::Clock;

/// How many entries of the trace are kept to look at; the hash covers all.
const TRACE: usize = 100_000;

/// One request as the server saw it: the trace is the evidence that two runs are the same run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it arrived, by the server's clock.
    pub at: DateTime<Utc>,
    /// Who sent it.
    pub instance: String,
    /// Verb as in RBAC.
    pub verb: &'static str,
    /// Path and query.
    pub path: String,
    /// The first 64 bits of the SHA-256 of the body, in hex; empty without a body.
    pub body_hash: String,
    /// Status code of the answer.
    pub code: u16,
    /// Whether nothing was to be stored.
    pub dry_run: bool,
}

/// The answer to one request.
pub enum Answer {
    /// A whole body.
    Whole {
        /// Status code.
        code: u16,
        /// JSON, or the text of the 404 of a path that nobody serves.
        body: Vec<u8>,
    },
    /// A stream of lines.
    Watch(Box<Watch>),
}

/// One API server in memory. Clones are handles on the same one.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    name: String,
    state: Mutex<State>,
    changed: Signal,
}

struct State {
    store: Store,
    trace: VecDeque<Entry>,
    sum: Context,
    /// What sees every change, and the last revision that it has seen.
    eye: Option<(Eye, u64)>,
}

/// Sees a change: who made it (empty for the simulation's own hands), of what, before and after.
type Eye = Box<dyn FnMut(&str, &Key, Option<&Value>, Option<&Value>) + Send>;

impl Server {
    /// An empty server with the default kinds and the namespaces `default` and `kube-system`. Each server of a fleet starts at a revision of its own,
    /// far from the others', so that a version carried from one to another shows at once.
    #[must_use]
    pub fn new(name: &str, revision_start: u64, clock: Clock, rng: fastrand::Rng) -> Self {
        let store = Store::new(revision_start, clock, rng);
        let state = State { store, trace: VecDeque::new(), sum: Context::new(&SHA256), eye: None };
        let server = Self(Arc::new(Inner { name: name.into(), state: Mutex::new(state), changed: Signal::new(revision_start) }));
        for namespace in ["default", "kube-system"] {
            // Cannot be refused: nothing is there yet.
            let _ = server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
        }
        server
    }

    /// Its name, for traces and faults.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Serves one more kind, as after installing a CRD.
    pub fn register(&self, kind: Kind) {
        self.with(|store| store.kinds.push(kind));
    }

    /// Works on the store, atomically; watches hear of what changed.
    pub fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        self.locked("", |state| work(&mut state.store))
    }

    /// From now on this sees every change at once, before anything else happens: who made it (empty for the simulation's own hands),
    /// of what, before and after. It must not call this server.
    pub fn eye(&self, eye: impl FnMut(&str, &Key, Option<&Value>, Option<&Value>) + Send + 'static) {
        self.locked("", |state| state.eye = Some((Box::new(eye), state.store.revision())));
    }

    fn locked<T>(&self, who: &str, work: impl FnOnce(&mut State) -> T) -> T {
        // A test that panicked while it held the lock has failed already; the others may go on.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut state);
        let revision = state.store.revision();
        state.show(who, revision);
        drop(state);
        self.0.changed.set(revision);
        done
    }

    /// Serves one request, atomically, and writes it down.
    #[must_use]
    pub fn answer(&self, instance: &str, ask: &Ask) -> Answer {
        let served = self.locked(instance, |state| {
            let served = serve(&mut state.store, ask);
            let code = match &served {
                Ok(Served::Object(code, _) | Served::Plain(code, _)) => *code,
                Ok(Served::List(_) | Served::Watch(_)) => 200,
                Err(refusal) => refusal.code,
            };
            state.write_down(instance, ask, code);
            served
        });
        match served {
            Ok(Served::Object(code, object)) => Answer::Whole { code, body: bytes(&*shaped(&object, ask.metadata_only)) },
            Ok(Served::Plain(code, value)) => Answer::Whole { code, body: bytes(&value) },
            Ok(Served::List(list)) => Answer::Whole { code: 200, body: bytes(&list) },
            Ok(Served::Watch(terms)) => Answer::Watch(Box::new(Watch::new(self.clone(), self.changes(), *terms))),
            Err(refusal) => Answer::Whole { code: refusal.code, body: refusal.body() },
        }
    }

    /// The revision whenever it moves.
    #[must_use]
    pub fn changes(&self) -> Ear {
        self.0.changed.listen()
    }

    /// The present time of its clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.with(|store| store.clock.now())
    }

    /// Puts an object there as a manifest says, status and (if given) uid and creation time included. Without a namespace it goes to `default`.
    pub fn seed(&self, manifest: Value) -> Result<Value, Refusal> {
        let named = |field: &str| text(&manifest, field).to_owned();
        let (api_version, kind) = (named("apiVersion"), named("kind"));
        self.with(|store| {
            let known = store.kinds.iter().find(|known| known.kind == kind && known.api_version() == api_version).cloned();
            let kind = known
                .ok_or_else(|| Refusal::bad_request(format!("no matches for kind \"{kind}\" in version \"{api_version}\"")))?;
            let namespace = if kind.namespaced {
                at(&manifest, "metadata.namespace").as_str().unwrap_or("default").to_owned()
            } else {
                String::new()
            };
            store.create(&kind, &namespace, manifest, true, false).map(|object| Value::clone(&object))
        })
    }

    /// One object as it is stored. `kind` is a name (`Deployment`) or a resource (`events.events.k8s.io`); `namespace` empty for cluster-scoped ones.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.with(|store| store.get(&Key::new(&store.kind(kind)?, namespace, name)).map(|object| Value::clone(object)))
    }

    /// All objects of a kind in a namespace, in the order of names; of all namespaces if that is empty.
    #[must_use]
    pub fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        self.with(|store| {
            let Some(kind) = store.kind(kind) else { return Vec::new() };
            store.list(&kind, namespace).map(|(_, object)| Value::clone(object)).collect()
        })
    }

    /// The whole world, by `resource/namespace/name`.
    #[must_use]
    pub fn dump(&self) -> BTreeMap<String, Value> {
        let path = |key: &Key| {
            let dot = if key.group.is_empty() { "" } else { "." };
            format!("{}{dot}{}/{}/{}", key.plural, key.group, key.namespace, key.name)
        };
        self.with(|store| store.all().map(|(key, object)| (path(key), Value::clone(object))).collect())
    }

    /// Changes an object as somebody else would: all of it may change, and the rules hold but for the guard.
    pub fn edit(&self, kind: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> Result<Value, Refusal> {
        self.with(|store| {
            let (kind, key) = located(store, kind, namespace, name)?;
            let mut object = store.get(&key).map(|object| Value::clone(object)).ok_or_else(|| Refusal::not_found(&kind, name))?;
            change(&mut object);
            store.update(&kind, &key, object, Part::Whole, false).map(|object| Value::clone(&object))
        })
    }

    /// Deletes an object as somebody else would.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<(), Refusal> {
        self.with(|store| {
            let (kind, key) = located(store, kind, namespace, name)?;
            store.delete(&kind, &key, &Deletion::default(), false).map(|_| ())
        })
    }

    /// Forgets the history: every watch ends with 410, every page of a list starts anew.
    pub fn compact(&self) {
        self.with(Store::compact);
    }

    /// How many changes the history keeps; 10,000 unless told.
    pub fn keep_changes(&self, limit: usize) {
        self.with(|store| store.log_limit = limit);
    }

    /// The trace, oldest first: the last 100,000 requests.
    #[must_use]
    pub fn log(&self) -> Vec<Entry> {
        self.locked("", |state| state.trace.iter().cloned().collect())
    }

    /// SHA-256 over every request since the start, in hex.
    #[must_use]
    pub fn log_hash(&self) -> String {
        self.locked("", |state| hex(state.sum.clone().finish().as_ref()))
    }
}

impl State {
    /// Shows the eye what has changed since it looked last.
    fn show(&mut self, who: &str, revision: u64) {
        let Some((eye, seen)) = &mut self.eye else { return };
        let new = self.store.log.iter().rev().take_while(|change| change.revision > *seen).count();
        for change in self.store.log.iter().skip(self.store.log.len() - new) {
            eye(who, &change.key, change.before.as_deref(), change.after.as_deref());
        }
        *seen = revision;
    }

    fn write_down(&mut self, instance: &str, ask: &Ask, code: u16) {
        let body_hash = match ask.body.as_slice() {
            [] => String::new(),
            body => hex(digest(&SHA256, body).as_ref().get(..8).unwrap_or_default()),
        };
        let entry = Entry {
            at: self.store.clock.now(),
            instance: instance.into(),
            verb: ask.verb,
            path: ask.line.clone(),
            body_hash,
            code,
            dry_run: ask.dry_run,
        };
        let Entry { at, instance, verb, path, body_hash, code, dry_run } = &entry;
        let said = format!("{} {instance} {verb} {path} {body_hash} {code} {dry_run}\n", at.timestamp_micros());
        self.sum.update(said.as_bytes());
        self.trace.push_back(entry);
        while self.trace.len() > TRACE {
            self.trace.pop_front();
        }
    }
}

fn located(store: &Store, kind: &str, namespace: &str, name: &str) -> Result<(Kind, Key), Refusal> {
    let kind = store.kind(kind).ok_or_else(|| Refusal::bad_request(format!("no kind {kind:?} is served")))?;
    let key = Key::new(&kind, namespace, name);
    Ok((kind, key))
}

/// The object as asked for: all of it, or its metadata alone.
pub(crate) fn shaped(object: &Object, metadata_only: bool) -> Object {
    if metadata_only {
        Arc::new(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": at(object, "metadata")}))
    } else {
        Arc::clone(object)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
