use serde_json::{Map, Value, json};

use super::json::set;
use super::kind::Kind;

/// A `Status` of failure, in the words of the real server: clients and operators do read `reason`, `details` and sometimes the message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Refusal {
    /// HTTP status code.
    pub code: u16,
    /// `reason`, such as `Conflict`; empty only for the plain-text 404 of a path that nobody serves.
    pub reason: &'static str,
    /// `message`.
    pub message: String,
    /// `details`.
    pub details: Value,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    fn about(code: u16, reason: &'static str, kind: &Kind, name: &str, message: String) -> Self {
        let mut details = Map::from_iter([("name".into(), json!(name)), ("kind".into(), json!(kind.plural))]);
        if !kind.group.is_empty() {
            details.insert("group".into(), json!(kind.group));
        }
        Self { code, reason, message, details: Value::Object(details) }
    }

    /// The body as it goes over the wire.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        if self.reason.is_empty() { self.message.clone().into_bytes() } else { self.status().to_string().into_bytes() }
    }

    /// The `Status` object.
    #[must_use]
    pub fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.code,
        })
    }

    /// Nobody serves this path: the mux answers, with text, not with a Status.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(404, "", "404 page not found\n")
    }

    /// The object is not there.
    #[must_use]
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(404, "NotFound", kind, name, format!("{kind} \"{name}\" not found"))
    }

    /// The object is there already.
    #[must_use]
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::about(409, "AlreadyExists", kind, name, format!("{kind} \"{name}\" already exists"))
    }

    /// The guard of a write or a deletion did not hold.
    #[must_use]
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        Self::about(409, "Conflict", kind, name, format!("Operation cannot be fulfilled on {kind} \"{name}\": {why}"))
    }

    /// The object was changed since the version that the write is guarded by.
    #[must_use]
    pub fn stale(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// The namespace is going away and takes nothing new.
    #[must_use]
    pub fn terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut refusal = Self::about(403, "Forbidden", kind, name, format!("{kind} \"{name}\" is forbidden: {why}"));
        set(
            &mut refusal.details,
            "causes",
            json!([{
                "reason": "NamespaceTerminating", "message": format!("namespace {namespace} is being terminated"), "field": "metadata.namespace",
            }]),
        );
        refusal
    }

    /// A field breaks a rule. `what` is the type of the error in words, such as `Forbidden: ...`.
    #[must_use]
    pub fn invalid(kind: &Kind, name: &str, field: &str, what: &str) -> Self {
        let message = format!("{} \"{name}\" is invalid: {field}: {what}", kind.qualified());
        let mut refusal = Self::about(422, "Invalid", kind, name, message);
        let reason = match what.split_once(':').map(|(head, _)| head) {
            Some("Forbidden") => "FieldValueForbidden",
            Some("Required value") => "FieldValueRequired",
            Some("Too long") => "FieldValueTooLong",
            _ => "FieldValueInvalid",
        };
        set(&mut refusal.details, "kind", json!(kind.kind));
        set(&mut refusal.details, "causes", json!([{"reason": reason, "message": what, "field": field}]));
        refusal
    }

    /// A JSON patch could not be applied: the real server does not say which operation.
    #[must_use]
    pub fn patch_failed() -> Self {
        Self::new(422, "Invalid", "the server rejected our request due to an error in our request")
    }

    /// Streaming lists are an option of the real server, and off here: the operator lists and watches.
    #[must_use]
    pub fn no_watch_list() -> Self {
        let what = "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        Self::invalid(&Kind::cluster("meta.k8s.io/v1", "ListOptions", "listoptions"), "", "sendInitialEvents", what)
    }

    /// A body of a type that is not taken. Server-side apply is among them on purpose: it would have to be exact, and the operator has no use for it.
    #[must_use]
    pub fn unsupported(accepted: &str) -> Self {
        let message = format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// The request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The path is served, but not with this method.
    #[must_use]
    pub fn not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// Created objects have no version yet.
    #[must_use]
    pub fn version_on_create() -> Self {
        Self::new(500, "InternalError", "resourceVersion should not be set on objects to be created")
    }

    /// The history does not reach back to this version.
    #[must_use]
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// The version is of the future, or of another server.
    #[must_use]
    pub fn too_large(asked: u64, current: u64) -> Self {
        let mut refusal = Self::new(504, "Timeout", format!("Timeout: Too large resource version: {asked}, current: {current}"));
        let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        refusal.details = json!({"causes": [cause], "retryAfterSeconds": 1});
        refusal
    }

    /// Any other answer, for faults: `429 TooManyRequests`, `403 Forbidden`, `503 ServiceUnavailable`.
    #[must_use]
    pub fn other(code: u16, reason: &'static str) -> Self {
        Self::new(code, reason, format!("{reason}: injected by the simulation"))
    }
}
