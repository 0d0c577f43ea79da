use super::{Json, Timestamp};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A Kubernetes object as it was read: cheap to share, never changed in place.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(Arc<Json>);

impl Object {
    /// Wraps what a server answered.
    #[must_use]
    pub fn new(json: Json) -> Self {
        Self(Arc::new(json))
    }

    /// The whole object.
    #[must_use]
    pub fn json(&self) -> &Json {
        &self.0
    }

    /// What the whole object says, typed.
    ///
    /// # Errors
    /// Where it is not of that type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(self.json())
    }

    /// The value at a JSON pointer, absent when there is none.
    #[must_use]
    pub fn at(&self, pointer: &str) -> Option<&Json> {
        self.0.pointer(pointer)
    }

    /// The text at a JSON pointer, empty when there is none.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Json::as_str).unwrap_or_default()
    }

    /// The whole number at a JSON pointer.
    #[must_use]
    pub fn number(&self, pointer: &str) -> Option<i64> {
        self.at(pointer).and_then(Json::as_i64)
    }

    /// The list at a JSON pointer, empty when there is none.
    #[must_use]
    pub fn list(&self, pointer: &str) -> &[Json] {
        self.at(pointer).and_then(Json::as_array).map_or(&[], Vec::as_slice)
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `metadata.namespace`, empty for cluster-scoped kinds.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// `metadata.uid`.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    /// `metadata.resourceVersion`.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    /// `metadata.creationTimestamp`; none before the object is stored.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.text("/metadata/creationTimestamp").parse().ok()
    }

    /// One annotation's text.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.at("/metadata/annotations")?.get(key)?.as_str()
    }

    /// One label's text.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.at("/metadata/labels")?.get(key)?.as_str()
    }

    /// Whether the status speaks of the spec as it is now (`observedGeneration`).
    #[must_use]
    pub fn observed(&self) -> bool {
        self.number("/status/observedGeneration") >= self.number("/metadata/generation")
    }
}
