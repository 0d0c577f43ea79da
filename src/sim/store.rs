use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::json::{at, items, map, members, set, text};
use super::kind::Kind;
use super::object::{
    differs_outside, has_finalizers, is_going, is_namespace, is_servers, set_status, suffix, tidy, timestamp, typed, uid,
};
use super::refusal::Refusal;
use crate::seam::Clock;

/// An object as stored; shared, since history and watches hold it too.
pub type Object = Arc<Value>;

/// Where an object is. `namespace` is empty for cluster-scoped ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// API group, empty for the core.
    pub group: String,
    /// Resource, such as `deployments`.
    pub plural: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of an object of this kind.
    #[must_use]
    pub fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.namespaced { namespace.into() } else { String::new() };
        Self { group: kind.group.clone(), plural: kind.plural.clone(), namespace, name: name.into() }
    }
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status, as through the main resource.
    Main,
    /// The status only, as through `/status`.
    Status,
    /// Everything, for controllers and foreign hands of the simulation.
    Whole,
}

/// The guards of a deletion, and what it does to dependents.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    /// Only this incarnation.
    pub uid: Option<String>,
    /// Only at this version.
    pub version: Option<String>,
    /// Dependents stay and forget their owner.
    pub orphan: bool,
}

/// One change, as history keeps it.
#[derive(Debug)]
pub(crate) struct Change {
    pub revision: u64,
    pub at: DateTime<Utc>,
    pub key: Key,
    pub before: Option<Object>,
    pub after: Option<Object>,
}

/// The objects of one server, their recent history, and the rules of writing them.
pub struct Store {
    pub(crate) clock: Clock,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) log: VecDeque<Change>,
    /// The newest revision whose change the log no longer has.
    pub(crate) floor: u64,
    pub(crate) log_limit: usize,
    revision: u64,
    objects: BTreeMap<Key, Object>,
    /// By uid of the owner; may name keys that are gone.
    dependents: BTreeMap<String, BTreeSet<Key>>,
    uids: fastrand::Rng,
    steps: fastrand::Rng,
}

impl Store {
    pub(crate) fn new(revision: u64, clock: Clock, mut rng: fastrand::Rng) -> Self {
        Self {
            clock,
            kinds: Kind::defaults(),
            log: VecDeque::new(),
            floor: revision,
            log_limit: 10_000,
            revision,
            objects: BTreeMap::new(),
            dependents: BTreeMap::new(),
            uids: rng.fork(),
            steps: rng.fork(),
        }
    }

    /// The present revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A kind by its name (`Deployment`) or its resource (`events.events.k8s.io`), which is unique.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.kinds.iter().find(|kind| kind.kind == name || kind.to_string() == name).cloned()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// All objects, in the order of their keys.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.iter()
    }

    /// The objects of one kind in a namespace; in all if that is empty.
    pub fn list<'a>(&'a self, kind: &'a Kind, namespace: &'a str) -> impl Iterator<Item = (&'a Key, &'a Object)> {
        self.objects.range(Key::new(kind, namespace, "")..).take_while(move |(key, _)| {
            key.group == kind.group && key.plural == kind.plural && (namespace.is_empty() || key.namespace == namespace)
        })
    }

    /// The objects of one kind that name the owner of this uid.
    pub(crate) fn dependents<'a>(&'a self, kind: &'a Kind, owner: &'a str) -> impl Iterator<Item = (&'a Key, &'a Object)> {
        let named = self.dependents.get(owner).into_iter().flatten();
        named.filter(|key| key.plural == kind.plural && key.group == kind.group).filter_map(move |key| {
            let (key, object) = self.objects.get_key_value(key)?;
            items(object, "metadata.ownerReferences").any(|reference| *at(reference, "uid") == owner).then_some((key, object))
        })
    }

    /// The objects of one kind, in a namespace or in all, as they were before the changes that are `newer`; what the log has
    /// forgotten counts as unchanged.
    pub(crate) fn as_of<'a>(
        &'a self,
        kind: &'a Kind,
        namespace: &'a str,
        newer: impl Fn(&Change) -> bool,
    ) -> BTreeMap<&'a Key, &'a Object> {
        let own = |key: &Key| {
            key.group == kind.group && key.plural == kind.plural && (namespace.is_empty() || key.namespace == namespace)
        };
        let mut objects: BTreeMap<&Key, &Object> = self.list(kind, namespace).collect();
        for change in self.log.iter().rev().take_while(|change| newer(change)) {
            if own(&change.key) {
                match &change.before {
                    Some(object) => objects.insert(&change.key, object),
                    None => objects.remove(&change.key),
                };
            }
        }
        objects
    }

    /// Forgets all history, as a compaction does: every watch and every page of a list has to start anew.
    pub(crate) fn compact(&mut self) {
        self.log.clear();
        self.floor = self.revision;
    }

    /// Stores a new object. `whole` keeps the given status, uid and creation time: a seed, not a request.
    pub fn create(&mut self, kind: &Kind, namespace: &str, body: Value, whole: bool, dry: bool) -> Result<Object, Refusal> {
        let mut object = body;
        typed(kind, &mut object)?;
        let uids = &mut if dry { self.uids.clone() } else { self.uids.fork() };
        let now = timestamp(&self.clock);
        let meta = map(&mut object, "metadata");
        if !whole && meta.get("resourceVersion").and_then(Value::as_str).is_some_and(|version| !version.is_empty()) {
            return Err(Refusal::version_on_create());
        }
        if !kind.namespaced {
            meta.remove("namespace");
        }
        if meta.get("namespace").and_then(Value::as_str).is_some_and(|given| given != namespace) {
            return Err(Refusal::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let given = |field| meta.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = match (given("name"), given("generateName")) {
            ("", "") => {
                let what = "Required value: name or generateName is required";
                let mut refusal = Refusal::invalid(kind, "", "metadata.name", what);
                if kind.is_custom() {
                    refusal.not_all_checked();
                }
                return Err(refusal);
            }
            ("", prefix) => format!("{prefix}{}", suffix(uids)),
            (name, _) => name.to_owned(),
        };
        // Where nobody counts generations, the given one stays.
        let stays = |field: &str| {
            whole && matches!(field, "uid" | "creationTimestamp") || field == "generation" && !kind.has_generation()
        };
        meta.retain(|field, _| stays(field) || !is_servers(field));
        meta.insert("name".into(), json!(name));
        meta.entry("uid").or_insert_with(|| json!(uid(uids)));
        meta.entry("creationTimestamp").or_insert_with(|| json!(now));
        if kind.namespaced {
            meta.insert("namespace".into(), json!(namespace));
            self.open_namespace(kind, namespace, &name)?;
        }
        if kind.has_generation() {
            meta.insert("generation".into(), json!(1));
        }
        // Nodes are the one kind that may bring its status along: the kubelet registers itself.
        if kind.status_subresource && !whole && kind.kind != "Node" {
            object.as_object_mut().and_then(|object| object.remove("status"));
        }
        if kind.kind == "Namespace" {
            map(&mut object, "metadata.labels").insert("kubernetes.io/metadata.name".into(), json!(name));
            set(&mut object, "status", json!({"phase": "Active"}));
        }
        tidy(&mut object);
        super::rules::check(kind, &name, None, &object)?;
        let key = Key::new(kind, namespace, &name);
        if let Some(there) = self.objects.get(&key) {
            let refusal = if is_going(there) { Refusal::being_deleted } else { Refusal::already_exists };
            return Err(refusal(kind, &name));
        }
        Ok(if dry { Arc::new(object) } else { self.put(key, object) })
    }

    fn open_namespace(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        let namespaces = Kind::cluster("v1", "Namespace", "namespaces");
        match self.objects.get(&Key::new(&namespaces, "", namespace)) {
            None => Err(Refusal::not_found(&namespaces, namespace)),
            Some(object) if is_going(object) => Err(Refusal::terminating(kind, name, namespace)),
            Some(_) => Ok(()),
        }
    }

    /// Changes an object to `new`, as far as `part` reaches; guarded by `new`'s resourceVersion if it has one. A change of nothing moves no version.
    pub fn update(&mut self, kind: &Kind, key: &Key, mut new: Value, part: Part, dry: bool) -> Result<Object, Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(kind, &key.name))?;
        typed(kind, &mut new)?;
        let (was, is) = (at(&old, "metadata"), at(&new, "metadata"));
        if *at(is, "name") != *at(was, "name") || *at(is, "namespace") != *at(was, "namespace") && !at(is, "namespace").is_null()
        {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                text(is, "name"),
                text(was, "name")
            )));
        }
        if let Some(uid) = at(is, "uid").as_str().filter(|uid| *at(was, "uid") != *uid) {
            return Err(Refusal::other_uid(kind, &key.namespace, &key.name, uid, text(was, "uid")));
        }
        if at(is, "resourceVersion").as_str().is_some_and(|version| !version.is_empty() && *at(was, "resourceVersion") != version)
        {
            return Err(Refusal::stale(kind, &key.name));
        }
        let mut next = match part {
            // Of built-in kinds the metadata is written along.
            Part::Status => {
                let mut next = Value::clone(&old);
                set_status(&mut next, &new);
                if !kind.is_custom() {
                    set(&mut next, "metadata", at(&new, "metadata").clone());
                    if kind.kind == "Deployment" {
                        set(&mut next, "metadata.labels", at(&old, "metadata.labels").clone());
                    }
                }
                next
            }
            Part::Main | Part::Whole => new,
        };
        if part == Part::Main && kind.status_subresource {
            set_status(&mut next, &old);
        }
        let meta = map(&mut next, "metadata");
        meta.retain(|field, _| !is_servers(field));
        for (field, value) in members(&old, "metadata") {
            if is_servers(field) || field == "namespace" {
                meta.insert(field.clone(), value.clone());
            }
        }
        tidy(&mut next);
        super::rules::check(kind, &key.name, Some(&old), &next)?;
        if next == *old {
            return Ok(old);
        }
        if kind.has_generation() && part != Part::Status && differs_outside(kind, &next, &old) {
            set(&mut next, "metadata.generation", json!(at(&old, "metadata.generation").as_u64().unwrap_or(1) + 1));
        }
        if dry {
            return Ok(Arc::new(next));
        }
        if self.is_over(key, &next) { Ok(self.remove(key, Some(next), false)) } else { Ok(self.put(key.clone(), next)) }
    }

    /// Deletes an object, or marks it while something holds it. Answers the object and whether it is gone.
    pub fn delete(&mut self, kind: &Kind, key: &Key, how: &Deletion, dry: bool) -> Result<(Object, bool), Refusal> {
        let old = self.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(kind, &key.name))?;
        let meta = at(&old, "metadata");
        let guards = [
            ("UID", &how.uid, text(meta, "uid"), "The object might have been deleted and then recreated"),
            ("ResourceVersion", &how.version, text(meta, "resourceVersion"), "The object might have been modified"),
        ];
        for (what, wanted, is, hint) in guards {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != is) {
                let why = format!("the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). {hint}");
                return Err(Refusal::not_that_one(kind, &key.name, &why));
            }
        }
        if dry {
            let stays = is_namespace(key) || has_finalizers(&old);
            return Ok(if stays && !is_going(&old) { (Arc::new(self.marked(&old)), false) } else { (old, !stays) });
        }
        let gone = self.take(key, how.orphan);
        Ok(gone.map_or_else(|| (self.objects.get(key).cloned().unwrap_or(old), false), |object| (object, true)))
    }

    /// The unguarded deletion: what is gone at once is answered.
    fn take(&mut self, key: &Key, orphan: bool) -> Option<Object> {
        let old = self.objects.get(key)?;
        let is_namespace = is_namespace(key);
        if is_namespace || has_finalizers(old) {
            if !is_going(old) {
                let mut marked = self.marked(old);
                if is_namespace {
                    set(&mut marked, "status.phase", json!("Terminating"));
                }
                self.put(key.clone(), marked);
            }
            if is_namespace {
                let content: Vec<Key> = self.objects.keys().filter(|inner| inner.namespace == key.name).cloned().collect();
                for inner in content {
                    self.take(&inner, false);
                }
                return self.finish_namespace(&key.name);
            }
            return None;
        }
        Some(self.remove(key, None, orphan))
    }

    fn marked(&self, object: &Value) -> Value {
        let (mut marked, now) = (object.clone(), timestamp(&self.clock));
        let meta = map(&mut marked, "metadata");
        meta.extend([("deletionTimestamp".into(), json!(now)), ("deletionGracePeriodSeconds".into(), json!(0))]);
        // Its end counts as a change of what is wanted.
        if let Some(generation) = meta.get("generation").and_then(Value::as_u64).filter(|generation| *generation > 0) {
            meta.insert("generation".into(), json!(generation + 1));
        }
        marked
    }

    fn is_over(&self, key: &Key, object: &Value) -> bool {
        let empty = || !is_namespace(key) || !self.objects.keys().any(|inner| inner.namespace == key.name);
        is_going(object) && !has_finalizers(object) && empty()
    }

    /// A namespace that is going away goes with the last of its content, be it here or in a later write.
    fn finish_namespace(&mut self, name: &str) -> Option<Object> {
        let key = Key::new(&Kind::cluster("v1", "Namespace", "namespaces"), "", name);
        let over = self.objects.get(&key).is_some_and(|object| self.is_over(&key, object));
        over.then(|| self.remove(&key, None, false))
    }

    fn remove(&mut self, key: &Key, last: Option<Value>, orphan: bool) -> Object {
        let before = self.objects.remove(key);
        let mut last = last.or_else(|| before.as_deref().cloned()).unwrap_or_default();
        let revision = self.advance();
        set(&mut last, "metadata.resourceVersion", json!(revision.to_string()));
        self.record(Change { revision, at: self.clock.now(), key: key.clone(), before, after: None });
        self.collect(text(&last, "metadata.uid"), orphan);
        if !key.namespace.is_empty() {
            self.finish_namespace(&key.namespace);
        }
        Arc::new(last)
    }

    /// Garbage collection: dependents without another owner go with their owner, at once; the others forget it.
    fn collect(&mut self, owner: &str, orphan: bool) {
        for key in self.dependents.remove(owner).unwrap_or_default() {
            let Some(mut object) = self.objects.get(&key).map(|object| Value::clone(object)) else { continue };
            let Some(owners) = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut) else { continue };
            let before = owners.len();
            owners.retain(|reference| *at(reference, "uid") != owner);
            if owners.len() == before {
                continue;
            }
            if owners.is_empty() && !orphan {
                self.take(&key, false);
            } else {
                tidy(&mut object);
                self.put(key, object);
            }
        }
    }

    fn put(&mut self, key: Key, mut object: Value) -> Object {
        let revision = self.advance();
        set(&mut object, "metadata.resourceVersion", json!(revision.to_string()));
        for reference in items(&object, "metadata.ownerReferences") {
            self.dependents.entry(text(reference, "uid").to_owned()).or_default().insert(key.clone());
        }
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.record(Change { revision, at: self.clock.now(), key, before, after: Some(Arc::clone(&object)) });
        object
    }

    /// Revisions skip, so that code that adds one to a version fails at once.
    fn advance(&mut self) -> u64 {
        self.revision += self.steps.u64(1..=7);
        self.revision
    }

    fn record(&mut self, change: Change) {
        self.log.push_back(change);
        while self.log.len() > self.log_limit {
            self.floor = self.log.pop_front().map_or(self.floor, |change| change.revision);
        }
    }
}
