use std::ops::Bound;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::json::{at, map, members, set, text};
use super::kind::Kind;
use super::patch::{parse, patched};
use super::refusal::Refusal;
use super::route::Ask;
use super::server::shaped;
use super::store::{Deletion, Key, Object, Part, Store};
use super::watch::Terms;

/// What a request comes to.
pub(crate) enum Served {
    Object(u16, Object),
    Plain(u16, Value),
    List(Listed),
    Watch(Box<Terms>),
}

/// A page of a collection; the objects themselves are shared.
pub(crate) struct Listed {
    api_version: String,
    kind: String,
    metadata: Value,
    items: Vec<Object>,
    /// Real servers leave apiVersion and kind out of the items of built-in kinds; who needs them has to know that.
    bare: bool,
}

/// An item of a list.
struct Item<'a>(&'a Value, bool);

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items: Vec<Item<'_>> = self.items.iter().map(|object| Item(object, self.bare)).collect();
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("apiVersion", &self.api_version)?;
        map.serialize_entry("items", &items)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.end()
    }
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(object, bare) = self;
        match object.as_object().filter(|_| *bare) {
            Some(fields) => {
                serializer.collect_map(fields.iter().filter(|(field, _)| !matches!(field.as_str(), "apiVersion" | "kind")))
            }
            None => object.serialize(serializer),
        }
    }
}

/// The one place that knows which verb on which path does what.
pub(crate) fn serve(store: &mut Store, ask: &Ask) -> Result<Served, Refusal> {
    let Some(place) = &ask.place else { return plain(ask) };
    let known = store
        .kinds
        .iter()
        .find(|kind| kind.group == place.group && kind.version == place.version && kind.plural == place.plural)
        .cloned();
    let kind = known.ok_or_else(Refusal::no_such_path)?;
    let across = place.namespace.is_none() && place.name.is_none();
    if kind.namespaced != place.namespace.is_some() && !(kind.namespaced && across) {
        return Err(Refusal::no_such_path());
    }
    let namespace = place.namespace.as_deref().unwrap_or_default();
    let Some(name) = &place.name else {
        return match ask.verb {
            "list" => list(store, &kind, namespace, ask),
            "watch" => watch(store, kind, namespace, ask),
            "create" if kind.namespaced && across => Err(Refusal::not_allowed()),
            "create" => Ok(Served::Object(201, store.create(&kind, namespace, parse(&ask.body)?, false, ask.dry_run)?)),
            "deletecollection" if !across || !kind.namespaced => delete_collection(store, &kind, namespace, ask),
            "update" if kind.is_custom() => Err(Refusal::bad_request("name must be provided")),
            _ => Err(Refusal::not_allowed()),
        };
    };
    let key = Key::new(&kind, namespace, name);
    match place.subresource.as_deref() {
        None => main(store, &kind, &key, ask),
        Some("status") if kind.status_subresource => change(store, &kind, &key, Part::Status, ask),
        Some("scale") if kind.scale => scale(store, &kind, &key, ask),
        Some("eviction") if kind.kind == "Pod" => evict(store, &kind, &key, ask),
        Some(_) if kind.is_custom() => Err(Refusal::not_found(&kind, name)),
        Some(_) => Err(Refusal::no_subresource()),
    }
}

fn plain(ask: &Ask) -> Result<Served, Refusal> {
    match (ask.verb, ask.path.as_str()) {
        ("get", "/version") => {
            let build =
                json!({"gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "sim"});
            let mut version = json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"});
            version
                .as_object_mut()
                .into_iter()
                .for_each(|version| version.extend(build.as_object().cloned().unwrap_or_default()));
            Ok(Served::Plain(200, version))
        }
        _ => Err(Refusal::no_such_path()),
    }
}

fn main(store: &mut Store, kind: &Kind, key: &Key, ask: &Ask) -> Result<Served, Refusal> {
    if ask.verb != "delete" {
        return change(store, kind, key, Part::Main, ask);
    }
    let how = deletion(&if ask.body.is_empty() { json!({}) } else { parse(&ask.body)? });
    let (object, gone) = store.delete(kind, key, &how, ask.dry_run)?;
    if !gone {
        return Ok(Served::Object(200, object));
    }
    let mut details = json!({"name": key.name, "kind": kind.plural, "uid": at(&object, "metadata.uid")});
    if !kind.group.is_empty() {
        set(&mut details, "group", json!(kind.group));
    }
    Ok(Served::Plain(200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})))
}

/// Foreground deletion is done as background: the simulation's collector needs no time.
fn deletion(options: &Value) -> Deletion {
    let guard = |field: &str| at(options, "preconditions").get(field)?.as_str().map(str::to_owned);
    Deletion { uid: guard("uid"), version: guard("resourceVersion"), orphan: *at(options, "propagationPolicy") == "Orphan" }
}

/// GET, PUT and PATCH, of the main resource and of `/status`.
fn change(store: &mut Store, kind: &Kind, key: &Key, part: Part, ask: &Ask) -> Result<Served, Refusal> {
    let object = store.get(key).cloned().ok_or_else(|| Refusal::not_found(kind, &key.name));
    let next = match ask.verb {
        "get" => {
            not_of_the_future(store, ask)?;
            return Ok(Served::Object(200, object?));
        }
        "update" => {
            let mut next: Value = parse(&ask.body)?;
            named(&next, key)?;
            // A Lease is the one kind of firedrill's that an update creates.
            if kind.kind == "Lease" && object.is_err() {
                return recreate(store, kind, key, next, ask);
            }
            let object = object?;
            let uid = text(&next, "metadata.uid");
            let is_other = !uid.is_empty() && uid != text(&object, "metadata.uid");
            if !kind.takes_any_update() && text(&next, "metadata.resourceVersion").is_empty() && !is_other {
                return Err(Refusal::unconditional(kind, &key.name));
            }
            // A client that knows nothing of field ownership does not give it up.
            if at(&next, "metadata.managedFields").is_null() && at(&next, "metadata").is_object() {
                set(&mut next, "metadata.managedFields", at(&object, "metadata.managedFields").clone());
            }
            next
        }
        "patch" => {
            let object = object?;
            let mut next = patched(&object, &ask.content_type, &ask.body, kind.is_custom())?;
            // Absent from a merge patch means unchanged, and a patch that removed it is not guarded.
            if at(&next, "metadata.name").is_null() {
                set(&mut next, "metadata.name", at(&object, "metadata.name").clone());
            }
            next
        }
        _ => return Err(Refusal::not_allowed()),
    };
    Ok(Served::Object(200, store.update(kind, key, next, part, ask.dry_run)?))
}

fn named(object: &Value, key: &Key) -> Result<(), Refusal> {
    let name = text(object, "metadata.name");
    if name == key.name {
        return Ok(());
    }
    let why = format!("the name of the object ({name}) does not match the name on the URL ({})", key.name);
    Err(Refusal::bad_request(why))
}

/// Whatever version the update was guarded by, but not whatever uid.
fn recreate(store: &mut Store, kind: &Kind, key: &Key, mut object: Value, ask: &Ask) -> Result<Served, Refusal> {
    let uid = text(&object, "metadata.uid");
    if !uid.is_empty() {
        return Err(Refusal::other_uid(kind, &key.namespace, &key.name, uid, ""));
    }
    map(&mut object, "metadata").remove("resourceVersion");
    Ok(Served::Object(201, store.create(kind, &key.namespace, object, false, ask.dry_run)?))
}

fn scale(store: &mut Store, kind: &Kind, key: &Key, ask: &Ask) -> Result<Served, Refusal> {
    let object = store.get(key).cloned().ok_or_else(|| Refusal::not_found(kind, &key.name))?;
    let next = match ask.verb {
        "get" => return Ok(Served::Plain(200, scale_of(&object))),
        "update" => parse(&ask.body)?,
        "patch" => patched(&scale_of(&object), &ask.content_type, &ask.body, false)?,
        _ => return Err(Refusal::not_allowed()),
    };
    let Some(replicas) = at(&next, "spec.replicas").as_u64().or(at(&next, "spec.replicas").is_null().then_some(0)) else {
        let what = format!("Invalid value: {}: must be greater than or equal to 0", at(&next, "spec.replicas"));
        return Err(Refusal::invalid(&Kind::cluster("autoscaling/v1", "Scale", "scales"), &key.name, "spec.replicas", &what));
    };
    let mut scaled = Value::clone(&object);
    set(&mut scaled, "metadata.resourceVersion", at(&next, "metadata.resourceVersion").clone());
    set(&mut scaled, "spec.replicas", json!(replicas));
    let scaled = store.update(kind, key, scaled, Part::Main, ask.dry_run)?;
    Ok(Served::Plain(200, scale_of(&scaled)))
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        set(&mut metadata, field, at(object, "metadata").get(field).cloned().unwrap_or_default());
    }
    let labels = members(object, "spec.selector.matchLabels");
    let selector: Vec<String> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let replicas = at(object, "spec.replicas").as_u64().unwrap_or(1);
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) },
        "status": {"replicas": at(object, "status.replicas").as_u64().unwrap_or(0), "selector": selector.join(",")},
    })
}

/// A deletion that budgets may refuse. Only `deleteOptions` is read, as in the real server: a misspelt
/// member is ignored, and the eviction then has no guard.
fn evict(store: &mut Store, kind: &Kind, key: &Key, ask: &Ask) -> Result<Served, Refusal> {
    if ask.verb != "create" {
        return Err(Refusal::not_allowed());
    }
    let eviction: Value = parse(&ask.body)?;
    if at(&eviction, "metadata.name").as_str().is_some_and(|name| name != key.name) {
        return Err(Refusal::bad_request("name in URL does not match name in Eviction object"));
    }
    let how = deletion(at(&eviction, "deleteOptions"));
    // What it is guarded by counts first, and costs a budget nothing.
    store.delete(kind, key, &how, true)?;
    super::physics::may_evict(store, key, ask.dry_run)?;
    store.delete(kind, key, &how, ask.dry_run)?;
    Ok(Served::Plain(201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
}

fn delete_collection(store: &mut Store, kind: &Kind, namespace: &str, ask: &Ask) -> Result<Served, Refusal> {
    let selector = ask.selector(kind)?;
    let chosen = store.list(kind, namespace).filter(|(_, object)| selector.matches(object));
    let chosen: Vec<(Key, Object)> = chosen.map(|(key, object)| (key.clone(), Object::clone(object))).collect();
    for (key, _) in &chosen {
        store.delete(kind, key, &Deletion::default(), ask.dry_run)?;
    }
    // Told as they were.
    Ok(Served::List(listed(kind, json!({}), chosen.iter().map(|(_, object)| object), ask.metadata_only)))
}

/// A version that this server never had: of the future, or of another server.
fn not_of_the_future(store: &Store, ask: &Ask) -> Result<Option<u64>, Refusal> {
    let asked = ask.number("resourceVersion")?.filter(|version| *version > 0);
    match asked {
        Some(version) if version > store.revision() => Err(Refusal::too_large(version, store.revision())),
        version => Ok(version),
    }
}

fn watch(store: &Store, kind: Kind, namespace: &str, ask: &Ask) -> Result<Served, Refusal> {
    if ask.is_set("sendInitialEvents") {
        return Err(Refusal::no_watch_list());
    }
    let selector = ask.selector(&kind)?;
    Ok(Served::Watch(Box::new(Terms {
        kind,
        namespace: namespace.into(),
        selector,
        metadata_only: ask.metadata_only,
        bookmarks: ask.is_set("allowWatchBookmarks"),
        since: not_of_the_future(store, ask)?,
        seconds: ask.number("timeoutSeconds")?,
    })))
}

fn list(store: &Store, kind: &Kind, namespace: &str, ask: &Ask) -> Result<Served, Refusal> {
    let asked = not_of_the_future(store, ask)?;
    let (revision, after) = match ask.parameter("continue") {
        Some(token) => page(token, kind).ok_or_else(|| Refusal::bad_request("continue key is not valid: unable to parse"))?,
        None if ask.parameter("resourceVersionMatch") == Some("Exact") => (asked.unwrap_or(store.revision()), None),
        None => (store.revision(), None),
    };
    if revision < store.floor {
        return Err(Refusal::expired(revision, store.floor));
    }
    let then = store.as_of(kind, namespace, |change| change.revision > revision);
    let selector = ask.selector(kind)?;
    let behind = |last: Option<&Key>| then.range::<Key, _>((last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
    let mut rest = behind(after.as_ref()).filter(|(_, object)| selector.matches(object));
    let limit =
        ask.number("limit")?.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let chosen: Vec<(&&Key, &&Object)> = rest.by_ref().take(limit).collect();
    let remaining = rest.count();
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    // Whether there is more is told by what lies behind the page, selected or not; how much only where nothing is selected.
    if let Some((last, _)) = chosen.last().filter(|(last, _)| chosen.len() == limit && behind(Some(last)).next().is_some()) {
        set(&mut metadata, "continue", json!(format!("{revision}.{}.{}", last.namespace, last.name)));
        if selector.is_everything() {
            set(&mut metadata, "remainingItemCount", json!(remaining));
        }
    }
    Ok(Served::List(listed(kind, metadata, chosen.into_iter().map(|(_, object)| *object), ask.metadata_only)))
}

fn listed<'a>(kind: &Kind, mut metadata: Value, objects: impl Iterator<Item = &'a Object>, metadata_only: bool) -> Listed {
    if kind.is_custom() && !metadata_only && at(&metadata, "continue").is_null() {
        set(&mut metadata, "continue", json!(""));
    }
    let (api_version, name) =
        if metadata_only { ("meta.k8s.io/v1".into(), "PartialObjectMetadata") } else { (kind.api_version(), kind.kind.as_str()) };
    Listed {
        api_version,
        kind: format!("{name}List"),
        metadata,
        items: objects.map(|object| shaped(object, metadata_only)).collect(),
        bare: !kind.is_custom() && !metadata_only,
    }
}

/// A continue token: the revision of the first page, so that all pages are of one moment, and where the last page ended.
fn page(token: &str, kind: &Kind) -> Option<(u64, Option<Key>)> {
    let mut parts = token.splitn(3, '.');
    let (revision, namespace, name) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    Some((revision, Some(Key::new(kind, namespace, name))))
}
