use serde_json::{Map, Value, json};

use super::json::{bytes, set};
use super::kind::Kind;

/// A `Status` of failure, in the words of the real server: clients and operators do read `reason`, `details` and sometimes the message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Refusal {
    /// HTTP status code.
    pub code: u16,
    /// `reason`, such as `Conflict`; empty for the plain-text 404 of a path that nobody serves, and for what the server did not expect.
    pub reason: &'static str,
    /// `message`.
    pub message: String,
    /// `details`; null for none.
    pub details: Value,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    fn about(code: u16, reason: &'static str, kind: &Kind, name: &str, message: String) -> Self {
        let mut details = Map::from_iter([("kind".into(), json!(kind.plural))]);
        if !name.is_empty() {
            details.insert("name".into(), json!(name));
        }
        if !kind.group.is_empty() {
            details.insert("group".into(), json!(kind.group));
        }
        Self { code, reason, message, details: Value::Object(details) }
    }

    /// The body as it goes over the wire.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        if self.code == 404 && self.reason.is_empty() { self.message.clone().into_bytes() } else { bytes(&self.status()) }
    }

    /// The `Status` object.
    #[must_use]
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            set(&mut status, "reason", json!(self.reason));
        }
        if !self.details.is_null() {
            set(&mut status, "details", self.details.clone());
        }
        status
    }

    /// Nobody serves this path: the mux answers, with text, not with a Status.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(404, "", "404 page not found\n")
    }

    /// The body is an object of another kind.
    #[must_use]
    pub fn other_kind(kind: &Kind, object: &Value) -> Self {
        let or = |field: &str, otherwise: &str| {
            object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or(otherwise).to_owned()
        };
        let (given, version) = (or("kind", &kind.kind), or("apiVersion", &kind.api_version()));
        if kind.is_custom() {
            if version != kind.api_version() {
                return Self::bad_request(format!(
                    "the API version in the data ({version}) does not match the expected API version ({})",
                    kind.api_version()
                ));
            }
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let wrong = Kind { kind: given.clone(), ..kind.clone() };
            return Self::invalid(&wrong, name, "kind", &format!("Invalid value: \"{given}\": must be {}", kind.kind));
        }
        let short = version.rsplit('/').next().unwrap_or_default();
        Self::bad_request(format!(
            "{given} in version \"{short}\" cannot be handled as a {}: no kind \"{given}\" is registered for version \"{version}\" in scheme \
             \"pkg/runtime/scheme.go:110\"",
            kind.kind
        ))
    }

    /// As of a custom resource, in the words of built-in kinds.
    #[must_use]
    pub fn unsupported_type() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
    }

    /// The object has no such subresource.
    #[must_use]
    pub fn no_subresource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
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

    /// The object is there still, and goes.
    #[must_use]
    pub fn being_deleted(kind: &Kind, name: &str) -> Self {
        let refusal = Self::already_exists(kind, name);
        Self { message: format!("object is being deleted: {}", refusal.message), ..refusal }
    }

    /// The guard of a deletion did not hold: these are told with the kind in the place of the resource.
    #[must_use]
    pub fn not_that_one(kind: &Kind, name: &str, why: &str) -> Self {
        Self::conflict(&Kind { plural: kind.kind.clone(), ..kind.clone() }, name, why)
    }

    /// The object of the write is another one of the same name.
    #[must_use]
    pub fn other_uid(kind: &Kind, namespace: &str, name: &str, given: &str, is: &str) -> Self {
        let group = if kind.is_custom() { format!("{}/", kind.group) } else { String::new() };
        let place = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{group}{}/{place}{name}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {given}, UID in object meta: {is}",
            kind.plural
        );
        Self::conflict(kind, name, &why)
    }

    /// These kinds are only updated under a version.
    #[must_use]
    pub fn unconditional(kind: &Kind, name: &str) -> Self {
        let resource = Kind { kind: kind.plural.clone(), ..kind.clone() };
        Self::invalid(&resource, name, "metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
    }

    /// The guard of a write did not hold.
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

    /// Says that rules were left out, as it is said of custom resources.
    pub fn not_all_checked(&mut self) {
        let what = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing \
                    errors to complete validation";
        if let Some(causes) = self.details.get_mut("causes").and_then(Value::as_array_mut) {
            causes.push(json!({"reason": "FieldValueInvalid", "message": what, "field": "<nil>"}));
        }
        let (head, said) = self.message.split_once(" is invalid: ").unwrap_or_default();
        self.message = format!("{head} is invalid: [{said}, <nil>: {what}]");
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
        Self { details: Value::Null, ..Self::new(415, "UnsupportedMediaType", message) }
    }

    /// The request makes no sense.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { details: Value::Null, ..Self::new(400, "BadRequest", message) }
    }

    /// The path is served, but not with this method.
    #[must_use]
    pub fn not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// Created objects have no version yet.
    #[must_use]
    pub fn version_on_create() -> Self {
        Self { details: Value::Null, ..Self::new(500, "", "resourceVersion should not be set on objects to be created") }
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

    /// A budget has nothing left for this pod.
    #[must_use]
    pub fn budget_spent(budget: &str, desired: u64, healthy: u64) -> Self {
        Self::budget(&format!("The disruption budget {budget} needs {desired} healthy pods and has {healthy} currently"), None)
    }

    /// Its controller has not looked at a budget yet.
    #[must_use]
    pub fn budget_unknown(budget: &str) -> Self {
        Self::budget(&format!("The disruption budget {budget} is still being processed by the server."), Some(10))
    }

    /// Several budgets select one pod.
    #[must_use]
    pub fn two_budgets() -> Self {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        Self { details: Value::Null, ..Self::new(500, "", why) }
    }

    fn budget(message: &str, again: Option<u64>) -> Self {
        let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": message}]});
        if let Some(seconds) = again {
            set(&mut details, "retryAfterSeconds", json!(seconds));
        }
        let why = "Cannot evict pod as it would violate the pod's disruption budget.";
        Self { details, ..Self::new(429, "TooManyRequests", why) }
    }

    /// Any other answer, for faults: `429 TooManyRequests`, `403 Forbidden`, `503 ServiceUnavailable`.
    #[must_use]
    pub fn other(code: u16, reason: &'static str) -> Self {
        Self::new(code, reason, format!("{reason}: injected by the simulation"))
    }
}
