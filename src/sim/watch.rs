use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::json::{bytes, set};
use super::kind::Kind;
use super::refusal::Refusal;
use super::select::Selector;
use super::server::{Server, shaped};
use super::signal::Ear;
use super::store::{Change, Object, Store};

/// How often a bookmark comes; the real server sends one about once a minute, and one shortly before the end.
const BOOKMARK: Duration = Duration::from_mins(1);
/// What the server does without `timeoutSeconds`: the least of its half to whole hour, so that nobody relies on more.
const TIMEOUT: u64 = 1800;

/// One line of a watch, and when it happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// When the server saw it: its way to the client starts here.
    pub at: DateTime<Utc>,
    /// JSON, with the newline.
    pub text: Vec<u8>,
}

/// A watch that was accepted. Whoever holds it asks for the next lines until there are none: the network between is not the server's.
pub struct Watch {
    server: Server,
    changed: Ear,
    kind: Kind,
    namespace: String,
    selector: Selector,
    metadata_only: bool,
    bookmarks: bool,
    /// Sent up to here; `None` = the present state has to be sent first.
    cursor: Option<u64>,
    bookmark_at: Instant,
    end: Instant,
    over: bool,
}

/// An event as it goes over the wire.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    object: &'a Value,
}

/// What a watch asks for.
pub(crate) struct Terms {
    pub kind: Kind,
    pub namespace: String,
    pub selector: Selector,
    pub metadata_only: bool,
    pub bookmarks: bool,
    pub since: Option<u64>,
    pub seconds: Option<u64>,
}

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "a watch lasts by the runtime's clock, which is the simulation's")]
    pub(crate) fn new(server: Server, changed: Ear, terms: Terms) -> Self {
        let Terms { kind, namespace, selector, metadata_only, bookmarks, since, seconds } = terms;
        let now = Instant::now();
        let end = now + Duration::from_secs(seconds.unwrap_or(TIMEOUT));
        // Who wants no bookmarks is not woken for them either.
        let bookmark_at = if bookmarks { now + BOOKMARK } else { end };
        Self {
            server,
            changed,
            kind,
            namespace,
            selector,
            metadata_only,
            bookmarks,
            cursor: since,
            bookmark_at,
            end,
            over: false,
        }
    }

    /// Waits for the next lines; `None` when the watch has ended.
    #[expect(clippy::disallowed_methods, reason = "a watch lasts by the runtime's clock, which is the simulation's")]
    pub async fn next(&mut self) -> Option<Vec<Line>> {
        while !self.over {
            self.changed.know();
            let server = self.server.clone();
            let mut lines = server.with(|store| self.news(store));
            let now = Instant::now();
            // The bookmark is a promise that nothing is missing up to its version: only after the changes, never instead of them.
            if self.bookmarks && !self.over && now >= self.bookmark_at.min(self.end) {
                lines.push(server.with(|store| self.bookmark(store)));
                self.bookmark_at = now + BOOKMARK;
            }
            self.over |= now >= self.end;
            if !lines.is_empty() {
                return Some(lines);
            }
            if !self.over {
                tokio::select! {
                    biased;
                    () = self.changed.changed() => {}
                    () = tokio::time::sleep_until(self.bookmark_at.min(self.end)) => {}
                }
            }
        }
        None
    }

    fn news(&mut self, store: &Store) -> Vec<Line> {
        let at = store.clock.now();
        let Some(since) = self.cursor.replace(store.revision()) else {
            let present = store.list(&self.kind, &self.namespace).filter(|(_, object)| self.selector.matches(object));
            return present.map(|(_, object)| self.line(at, "ADDED", object)).collect();
        };
        if since < store.floor {
            self.over = true;
            let status = Refusal::expired(since, store.floor).status();
            return vec![line(at, "ERROR", &status)];
        }
        let first = store.log.partition_point(|change| change.revision <= since);
        store.log.range(first..).filter_map(|change| self.event(change)).collect()
    }

    /// What a change means to who selects: an object that no longer matches is deleted, as far as this watch can see.
    fn event(&self, change: &Change) -> Option<Line> {
        let Change { revision, at, key, before, after } = change;
        if key.group != self.kind.group
            || key.plural != self.kind.plural
            || !self.namespace.is_empty() && key.namespace != self.namespace
        {
            return None;
        }
        let before = before.as_ref().filter(|object| self.selector.matches(object));
        let after = after.as_ref().filter(|object| self.selector.matches(object));
        match (before, after) {
            (None, None) => None,
            (None, Some(object)) => Some(self.line(*at, "ADDED", object)),
            (Some(_), Some(object)) => Some(self.line(*at, "MODIFIED", object)),
            (Some(object), None) => {
                // The last state that matched, at the version of the change that ended it.
                let mut last = Value::clone(object);
                set(&mut last, "metadata.resourceVersion", json!(revision.to_string()));
                Some(self.line(*at, "DELETED", &Object::new(last)))
            }
        }
    }

    fn line(&self, at: DateTime<Utc>, kind: &'static str, object: &Object) -> Line {
        line(at, kind, &shaped(object, self.metadata_only))
    }

    fn bookmark(&self, store: &Store) -> Line {
        let metadata = json!({"resourceVersion": store.revision().to_string(), "creationTimestamp": null});
        let object = json!({"apiVersion": self.kind.api_version(), "kind": self.kind.kind, "metadata": metadata});
        line(store.clock.now(), "BOOKMARK", &object)
    }
}

fn line(at: DateTime<Utc>, kind: &'static str, object: &Value) -> Line {
    let mut text = bytes(&Event { kind, object });
    text.push(b'\n');
    Line { at, text }
}
