use super::api::{Api, Body, CallError, Category};
use crate::seam::Seam;
use crate::terms::{Json, Kind, Object, Term, Timestamp};
use chrono::TimeDelta;
use http::Method;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The annotation that keeps the term.
const TERM: &str = "firedrill.dev/term";
/// How long a lease holds after its last renewal: as Kubernetes' own controllers, so that a paused process or a slow API server
/// does not change the leader at once.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed: three tries fit in before it is over.
const RENEW: Duration = Duration::from_secs(4);
/// How long one try may take.
const CALL: Duration = Duration::from_secs(3);

/// Whether this instance leads, and until when it may act.
#[derive(Clone, Default)]
pub struct Leadership(Arc<Mutex<Option<Held>>>);

#[derive(Clone, Copy, Debug)]
struct Held {
    term: Term,
    until: Timestamp,
    until_monotonic: tokio::time::Instant,
}

impl Leadership {
    /// The term and the rest of the lease, if it is held by both clocks: a suspended machine stops the monotonic one.
    #[must_use]
    pub fn held(&self, seam: &Seam) -> Option<(Term, Duration)> {
        let held = (*self.0.lock().ok()?)?;
        let wall = (held.until - seam.clock.now()).to_std().ok()?;
        let monotonic = held.until_monotonic.checked_duration_since(seam.clock.monotonic())?;
        let rest = wall.min(monotonic);
        (!rest.is_zero()).then_some((held.term, rest))
    }

    /// Leads no more: a higher term than its own was seen. The next try takes a higher one still.
    pub fn resign(&self) {
        self.set(None);
    }

    fn set(&self, held: Option<Held>) {
        if let Ok(mut place) = self.0.lock() {
            *place = held;
        }
    }
}

/// The leader's lease on the hub.
pub struct Lease {
    /// The hub.
    pub api: Api,
    /// Clock and chance.
    pub seam: Seam,
    /// The operator's namespace.
    pub namespace: String,
    /// This instance.
    pub identity: String,
    /// Where the outcome stands.
    pub leadership: Leadership,
}

impl Lease {
    fn path(&self) -> String {
        Kind::Lease.path(Some(&self.namespace))
    }

    /// Takes and renews the lease for ever; `at_least` is the highest term seen in any drill.
    pub async fn hold(&self, at_least: impl Fn() -> Term) -> ! {
        // Another's lease is over when it has not changed for its whole duration by our own clock: clocks of others are not
        // compared.
        let mut other: Option<(String, tokio::time::Instant)> = None;
        loop {
            let begun = (self.seam.clock.now(), self.seam.clock.monotonic());
            match self.once(&at_least, &mut other).await {
                Ok(Some(term)) => self.leadership.set(Some(held(term, begun))),
                Ok(None) => self.leadership.set(None),
                Err(error) => tracing::warn!(%error, "the leader's lease could not be renewed"),
            }
            tokio::time::sleep(self.seam.jitter(RENEW)).await;
        }
    }

    /// Takes the lease from whoever has it, by a term above `at_least` and the lease's own. Who had it may act until what it was
    /// granted is over.
    ///
    /// # Errors
    /// What the hub refused, or that another was quicker.
    pub async fn seize(&self, at_least: Term) -> Result<Term, CallError> {
        let begun = (self.seam.clock.now(), self.seam.clock.monotonic());
        let path = format!("{}/firedrill", self.path());
        let (term, answer) = match self.api.call(Method::GET, &path, Body::Nothing, CALL).await {
            Ok(json) => {
                let seen = Object::new(json);
                let found = Term(seen.annotation(TERM).and_then(|text| text.parse().ok()).unwrap_or(0));
                let term = Term(found.max(at_least).0 + 1);
                let transitions = seen.number("/spec/leaseTransitions").unwrap_or(0) + 1;
                let body = self.body(seen.at("/metadata").cloned().unwrap_or_default(), term, transitions, "");
                (term, self.api.call(Method::PUT, &path, Body::Json(body), CALL).await)
            }
            Err(error) if error.category == Category::NotFound => {
                let term = Term(at_least.0 + 1);
                let body = self.body(json!({"name": "firedrill", "namespace": self.namespace}), term, 0, "");
                (term, self.api.call(Method::POST, &self.path(), Body::Json(body), CALL).await)
            }
            Err(error) => return Err(error),
        };
        answer?;
        self.leadership.set(Some(held(term, begun)));
        Ok(term)
    }

    async fn once(
        &self,
        at_least: &impl Fn() -> Term,
        other: &mut Option<(String, tokio::time::Instant)>,
    ) -> Result<Option<Term>, CallError> {
        let path = format!("{}/firedrill", self.path());
        let seen = match self.api.call(Method::GET, &path, Body::Nothing, CALL).await {
            Ok(json) => Object::new(json),
            Err(error) if error.category == Category::NotFound => {
                let term = Term(at_least().0 + 1);
                let body = self.body(json!({"name": "firedrill", "namespace": self.namespace}), term, 0, "");
                let made = self.api.call(Method::POST, &self.path(), Body::Json(body), CALL).await;
                return granted(made, term);
            }
            Err(error) => return Err(error),
        };
        let term = Term(seen.annotation(TERM).and_then(|text| text.parse().ok()).unwrap_or(0));
        let ours = seen.text("/spec/holderIdentity") == self.identity;
        if !ours && !seen.text("/spec/holderIdentity").is_empty() {
            let now = self.seam.clock.monotonic();
            let version = seen.resource_version().to_owned();
            let since = match other {
                Some((last, since)) if *last == version => *since,
                _ => now,
            };
            *other = Some((version, since));
            let duration = seen.number("/spec/leaseDurationSeconds").and_then(|s| u64::try_from(s).ok()).unwrap_or(15);
            if now - since < Duration::from_secs(duration) {
                return Ok(None);
            }
        }
        // Our own lease found again without having held it is a new term too: the former process may still have calls under way.
        let still = ours && self.leadership.held(&self.seam).is_some_and(|(held, _)| held == term);
        let term = if still { term } else { Term(term.max(at_least()).0 + 1) };
        let transitions = seen.number("/spec/leaseTransitions").unwrap_or(0) + i64::from(!still);
        let since = if still { seen.text("/spec/acquireTime") } else { "" };
        let body = self.body(seen.at("/metadata").cloned().unwrap_or_default(), term, transitions, since);
        let renewed = self.api.call(Method::PUT, &path, Body::Json(body), CALL).await;
        granted(renewed, term)
    }

    fn body(&self, mut metadata: Json, term: Term, transitions: i64, since: &str) -> Json {
        if let Some(map) = metadata.as_object_mut() {
            map.remove("managedFields");
            map.insert("annotations".into(), json!({ TERM: term.0.to_string() }));
        }
        let now = self.seam.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity, "leaseDurationSeconds": DURATION.as_secs(), "renewTime": now,
                "acquireTime": if since.is_empty() { &now } else { since }, "leaseTransitions": transitions,
            },
        })
    }

    /// Gives the lease back, so that another need not wait.
    pub async fn give_back(&self) {
        let held = self.leadership.held(&self.seam).is_some();
        self.leadership.set(None);
        if held {
            let path = format!("{}/firedrill", self.path());
            // Guarded by the version: one that comes late must not take a successor's.
            let given = async {
                let seen = Object::new(self.api.call(Method::GET, &path, Body::Nothing, CALL).await?);
                if seen.text("/spec/holderIdentity") != self.identity {
                    return Ok(());
                }
                let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 1});
                let body = Body::Merge(json!({"metadata": {"resourceVersion": seen.resource_version()}, "spec": spec}));
                self.api.call(Method::PATCH, &path, body, CALL).await.map(drop)
            };
            if let Err(error) = given.await {
                tracing::warn!(%error, "the leader's lease could not be given back");
            }
        }
    }
}

/// What a renewal that began then grants: a second less than others do.
fn held(term: Term, begun: (Timestamp, tokio::time::Instant)) -> Held {
    Held {
        term,
        until: begun.0 + TimeDelta::from_std(DURATION).unwrap_or_default() - TimeDelta::seconds(1),
        until_monotonic: begun.1 + DURATION - Duration::from_secs(1),
    }
}

fn granted(answer: Result<Json, CallError>, term: Term) -> Result<Option<Term>, CallError> {
    match answer {
        Ok(_) => Ok(Some(term)),
        Err(error) if error.category == Category::Conflict => Ok(None),
        Err(error) => Err(error),
    }
}
