//! Commit and perform: the only places that write.

use super::{Error, Operator};
use crate::api::{FINALIZER, SINGLETON_FINALIZER};
use crate::claim::Write;
use crate::cluster::{Body, CallError, Category};
use crate::decide::Effect;
use crate::terms::{Json, Kind, Object, Target, Version};
use http::Method;
use json_patch::{AddOperation, Patch, PatchOperation, ReplaceOperation};
use jsonptr::PointerBuf;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one write may take at the most; never longer than the lease's rest.
const WRITE: Duration = Duration::from_secs(5);

impl Operator {
    /// Stores a status whole, guarded by the version that was decided about.
    pub(super) async fn commit<S: Serialize + Sync>(&self, kind: Kind, seen: &Object, status: &S) -> Result<Object, Error> {
        let status = serde_json::to_value(status).map_err(|error| Error::Malformed(kind.to_string(), error))?;
        let patch = Patch(vec![
            PatchOperation::Replace(ReplaceOperation {
                path: PointerBuf::from_tokens(["metadata", "resourceVersion"]),
                value: json!(seen.resource_version()),
            }),
            PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(["status"]), value: status }),
        ]);
        let namespace = Some(seen.namespace()).filter(|namespace| !namespace.is_empty());
        let path = format!("{}/{}/status", kind.path(namespace), seen.name());
        let limit = self.limit();
        if limit.is_zero() {
            return Err(Error::NotLeading);
        }
        Ok(Object::new(self.fleet.hub.call(Method::PATCH, &path, Body::Patch(patch), limit).await?))
    }

    /// The time a write may take: less than the rest of the lease, so that none is sent after it.
    fn limit(&self) -> Duration {
        self.leadership.held(&self.seam).map_or(Duration::ZERO, |(_, rest)| rest).min(WRITE)
    }

    /// Does one effect, if this instance still leads. Its outcome is told and nothing else: the next look shows what became of it.
    pub(super) async fn perform(&self, effect: &Effect, kind: Kind, of: &Object) {
        if self.leadership.held(&self.seam).is_none() {
            return;
        }
        let (target, outcome) = match effect {
            Effect::Write(write) => (write.target.clone(), self.write(write, false).await.map(drop)),
            Effect::Create(target, body) => {
                let path = target.kind.path(target.namespace.as_deref());
                (target.clone(), self.send(target, Method::POST, &path, Body::Json(body.clone())).await.map(drop))
            }
            Effect::Replace(target, body) => {
                (target.clone(), self.send(target, Method::PUT, &target.path(), Body::Json(body.clone())).await.map(drop))
            }
            Effect::Delete(target, version) => (target.clone(), self.delete(target, version).await),
            Effect::Finalizer(on) => {
                let Ok(hub) = self.hub() else { return };
                let namespace = Some(of.namespace().to_owned()).filter(|namespace| !namespace.is_empty());
                let target = Target { cluster: hub, kind, namespace, name: of.name().to_owned() };
                let finalizer = if kind == Kind::Drill { FINALIZER } else { SINGLETON_FINALIZER };
                let mut list: Vec<Json> = of.list("/metadata/finalizers").to_vec();
                list.retain(|name| name.as_str() != Some(finalizer));
                if *on {
                    list.push(finalizer.into());
                }
                let body = json!({"metadata": {"resourceVersion": of.resource_version(), "finalizers": list}});
                let outcome = self.send(&target, Method::PATCH, &target.path(), Body::Merge(body)).await.map(drop);
                (target, outcome)
            }
        };
        self.remember(&target, outcome.as_ref().err());
        self.telemetry.write(target.kind, outcome.as_ref().err().map(|error| error.category));
        match outcome {
            Ok(()) => tracing::info!(of = of.name(), cluster = %target.cluster, object = target.label(), "written"),
            // The object moved on, or another look did it already: the next one decides anew.
            Err(error) if matches!(error.category, Category::Conflict | Category::NotFound) => {
                tracing::info!(of = of.name(), object = target.label(), %error, "not written: it changed meanwhile");
            }
            Err(error) => {
                tracing::warn!(of = of.name(), cluster = %target.cluster, object = target.label(), %error, "not written");
            }
        }
    }

    /// Deletes an own object, or a Job, if it is still the one with this uid.
    pub(super) async fn delete(&self, target: &Target, version: &Version) -> Result<(), CallError> {
        // A Job's pods go first: until they have ended it is there, so that it is known whose they are.
        let propagation = if target.kind == Kind::Job { "Foreground" } else { "Background" };
        let body = Body::Json(json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation, "preconditions": {"uid": version.uid},
        }));
        self.send(target, Method::DELETE, &target.path(), body).await.map(drop)
    }

    /// Keeps why an API server does not take a write of an object, until it takes one. Losing it loses a message.
    pub(super) fn remember(&self, target: &Target, error: Option<&CallError>) {
        let Ok(mut refusals) = self.refusals.lock() else { return };
        match error {
            Some(CallError { category: Category::Forbidden | Category::Invalid, message }) => {
                refusals.insert(target.clone(), message.clone());
            }
            _ => drop(refusals.remove(target)),
        }
    }

    /// What API servers did not take last.
    pub(super) fn refusals(&self) -> BTreeMap<Target, String> {
        self.refusals.lock().map(|refusals| refusals.clone()).unwrap_or_default()
    }

    /// One guarded write, or its dry run; the object as it is then.
    pub(super) async fn write(&self, write: &Write, dry: bool) -> Result<Object, CallError> {
        let path = format!("{}{}", write.target.path(), if dry { "?dryRun=All" } else { "" });
        self.send(&write.target, Method::PATCH, &path, Body::Patch(write.patch.clone())).await.map(Object::new)
    }

    pub(super) async fn send(&self, target: &Target, method: Method, path: &str, body: Body) -> Result<Json, CallError> {
        let unknown = || CallError { category: Category::Unreachable, message: "its cluster is not known yet".to_owned() };
        let api = self.fleet.by_uid(&target.cluster).ok_or_else(unknown)?;
        let limit = self.limit();
        if limit.is_zero() {
            return Err(CallError {
                category: Category::Unreachable,
                message: "this instance does not lead any more".to_owned(),
            });
        }
        api.call(method, path, body, limit).await
    }

    /// Tells people what happened to an object, as a Kubernetes event. Losing one loses a message.
    pub(super) async fn tell(&self, kind: Kind, seen: &Object, warning: bool, reason: &str, note: &str) {
        let now = self.seam.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let namespace = if seen.namespace().is_empty() { "default" } else { seen.namespace() };
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": format!("{}.", seen.name()), "namespace": namespace},
            "involvedObject": {
                "apiVersion": kind.resource().0, "kind": kind.to_string(), "name": seen.name(), "uid": seen.uid(),
                "resourceVersion": seen.resource_version(),
            },
            "type": if warning { "Warning" } else { "Normal" },
            "reason": reason, "message": note.chars().take(1000).collect::<String>(),
            "source": {"component": "firedrill"}, "reportingComponent": "firedrill", "reportingInstance": self.settings.identity,
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        let path = Kind::Event.path(Some(namespace));
        if let Err(error) = self.fleet.hub.call(Method::POST, &path, Body::Json(body), WRITE).await {
            tracing::debug!(%error, "an event was not stored");
        }
    }
}
