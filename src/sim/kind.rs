use std::fmt;

/// One kind of object: its names, its scope, and which subresources it has. One version per kind; conversion is not simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group, empty for the core.
    pub group: String,
    /// Version, such as `v1`.
    pub version: String,
    /// Name in `kind:`, such as `Deployment`.
    pub kind: String,
    /// Name in paths, such as `deployments`.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether `.status` is written through `/status` only.
    pub status_subresource: bool,
    /// Whether `/scale` is served, on `.spec.replicas`.
    pub scale: bool,
}

impl Kind {
    /// A cluster-scoped kind without subresources. `api_version` is written as in a manifest: `v1`, `apps/v1`.
    #[must_use]
    pub fn cluster(api_version: &str, kind: &str, plural: &str) -> Self {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: false,
            status_subresource: false,
            scale: false,
        }
    }

    /// A namespaced kind without subresources.
    #[must_use]
    pub fn namespaced(api_version: &str, kind: &str, plural: &str) -> Self {
        Self { namespaced: true, ..Self::cluster(api_version, kind, plural) }
    }

    /// The same with `/status`.
    #[must_use]
    pub fn with_status(self) -> Self {
        Self { status_subresource: true, ..self }
    }

    /// The same with `/scale`.
    #[must_use]
    pub fn with_scale(self) -> Self {
        Self { scale: true, ..self }
    }

    /// As in a manifest: `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind as messages about invalid objects name it: `ConfigMap`, `Deployment.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Whether a real server would know it from a CRD. Its list items then carry apiVersion and kind; those of built-in kinds do not.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.group.contains('.') && !matches!(self.group.as_str(), "events.k8s.io" | "coordination.k8s.io")
    }

    /// Whether the real server counts `metadata.generation` for it: custom resources always; of the core and the autoscalers none.
    #[must_use]
    pub fn has_generation(&self) -> bool {
        self.is_custom() || matches!(self.group.as_str(), "apps" | "batch" | "policy")
    }

    /// Whether an update that names no version is taken.
    #[must_use]
    pub fn takes_any_update(&self) -> bool {
        !self.is_custom() && !matches!(self.kind.as_str(), "PodDisruptionBudget" | "Lease")
    }

    /// What every cluster of the fleet serves.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::cluster("v1", "Namespace", "namespaces").with_status(),
            Self::cluster("v1", "Node", "nodes").with_status(),
            Self::namespaced("v1", "Pod", "pods").with_status(),
            Self::namespaced("v1", "Secret", "secrets"),
            Self::namespaced("v1", "ConfigMap", "configmaps"),
            Self::namespaced("v1", "Event", "events"),
            Self::namespaced("v1", "Service", "services").with_status(),
            Self::namespaced("v1", "ServiceAccount", "serviceaccounts"),
            Self::namespaced("events.k8s.io/v1", "Event", "events"),
            Self::namespaced("apps/v1", "Deployment", "deployments").with_status().with_scale(),
            Self::namespaced("apps/v1", "ReplicaSet", "replicasets").with_status().with_scale(),
            Self::namespaced("apps/v1", "StatefulSet", "statefulsets").with_status().with_scale(),
            Self::namespaced("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers").with_status(),
            Self::namespaced("batch/v1", "Job", "jobs").with_status(),
            Self::namespaced("batch/v1", "CronJob", "cronjobs").with_status(),
            Self::namespaced("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets").with_status(),
            Self::namespaced("coordination.k8s.io/v1", "Lease", "leases"),
            Self::namespaced("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes").with_status(),
        ]
    }
}

/// The resource as messages name it: `pods`, `deployments.apps`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.plural) } else { write!(f, "{}.{}", self.plural, self.group) }
    }
}
