use super::{Json, Object};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A cluster, known by the uid of its `kube-system` namespace, so that one object has one name however it is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterUid(pub String);

impl fmt::Display for ClusterUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The foreign and own kinds that firedrill reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// `v1` `ConfigMap`: contracts and their copies.
    ConfigMap,
    /// `v1` Event.
    Event,
    /// `v1` Namespace.
    Namespace,
    /// `v1` Node.
    Node,
    /// `v1` Pod.
    Pod,
    /// `v1` Secret: kubeconfigs.
    Secret,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` `ReplicaSet`.
    ReplicaSet,
    /// `apps/v1` `StatefulSet`.
    StatefulSet,
    /// `batch/v1` `CronJob`.
    CronJob,
    /// `batch/v1` Job.
    Job,
    /// `autoscaling/v2` `HorizontalPodAutoscaler`.
    HorizontalPodAutoscaler,
    /// `coordination.k8s.io/v1` Lease.
    Lease,
    /// `gateway.networking.k8s.io/v1` `HTTPRoute`.
    HTTPRoute,
    /// `firedrill.dev/v1alpha1` Region.
    Region,
    /// `firedrill.dev/v1alpha1` `EvacuationPlan`.
    EvacuationPlan,
    /// `firedrill.dev/v1alpha1` Drill.
    Drill,
    /// `firedrill.dev/v1alpha1` `TrafficRoute`.
    TrafficRoute,
    /// `firedrill.dev/v1alpha1` `SingletonWorkload`.
    SingletonWorkload,
}

impl Kind {
    /// Group and version (`v1` for the core group), plural, and whether objects live in namespaces.
    #[must_use]
    pub fn resource(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::ConfigMap => ("v1", "configmaps", true),
            Self::Event => ("v1", "events", true),
            Self::Namespace => ("v1", "namespaces", false),
            Self::Node => ("v1", "nodes", false),
            Self::Pod => ("v1", "pods", true),
            Self::Secret => ("v1", "secrets", true),
            Self::Deployment => ("apps/v1", "deployments", true),
            Self::ReplicaSet => ("apps/v1", "replicasets", true),
            Self::StatefulSet => ("apps/v1", "statefulsets", true),
            Self::CronJob => ("batch/v1", "cronjobs", true),
            Self::Job => ("batch/v1", "jobs", true),
            Self::HorizontalPodAutoscaler => ("autoscaling/v2", "horizontalpodautoscalers", true),
            Self::Lease => ("coordination.k8s.io/v1", "leases", true),
            Self::HTTPRoute => ("gateway.networking.k8s.io/v1", "httproutes", true),
            Self::Region => ("firedrill.dev/v1alpha1", "regions", false),
            Self::EvacuationPlan => ("firedrill.dev/v1alpha1", "evacuationplans", false),
            Self::Drill => ("firedrill.dev/v1alpha1", "drills", false),
            Self::TrafficRoute => ("firedrill.dev/v1alpha1", "trafficroutes", true),
            Self::SingletonWorkload => ("firedrill.dev/v1alpha1", "singletonworkloads", true),
        }
    }

    /// The path of a collection: `/apis/apps/v1/namespaces/shop/deployments`; of all namespaces without one.
    #[must_use]
    pub fn path(self, namespace: Option<&str>) -> String {
        let (version, plural, _) = self.resource();
        let root = if version.contains('/') { "apis" } else { "api" };
        match namespace {
            Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("/{root}/{version}/{plural}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One object, named completely: which API server, kind, namespace, name.
///
/// As JSON it is one string, `cluster-uid/Kind/namespace/name`, so that it can be the key of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Which API server.
    pub cluster: ClusterUid,
    /// Of which kind.
    pub kind: Kind,
    /// `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Target {
    /// The object's path on its API server.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.path(self.namespace.as_deref()), self.name)
    }

    /// `Kind namespace/name`, for messages; the cluster is named by its region beside it.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} {namespace}/{}", self.kind, self.name),
            None => format!("{} {}", self.kind, self.name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        write!(f, "{}/{}/{namespace}/{}", self.cluster, self.kind, self.name)
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("`{text}` is not cluster/Kind/namespace/name"));
        let parts: Vec<&str> = text.split('/').collect();
        let [cluster, kind, namespace, name] = parts.as_slice() else { return Err(wrong()) };
        Ok(Self {
            cluster: ClusterUid((*cluster).to_owned()),
            kind: serde_json::from_value(Json::from(*kind)).map_err(|_| wrong())?,
            namespace: Some((*namespace).to_owned()).filter(|n| !n.is_empty()),
            name: (*name).to_owned(),
        })
    }
}

/// The exact state of an object that was looked at; the guard of every write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Which object behind the name.
    pub uid: String,
    /// Which state of it; opaque.
    pub resource: String,
}

impl Version {
    /// The version of `object` as it was read.
    #[must_use]
    pub fn of(object: &Object) -> Self {
        Self { uid: object.uid().to_owned(), resource: object.resource_version().to_owned() }
    }
}

/// Whose a claim is: the drill's or the singleton's, by name and uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// Its name, for people; a singleton's with its namespace: `shop/nightly`.
    pub name: String,
    /// Its uid, which decides.
    pub uid: String,
}

impl Owner {
    /// Whether it is a singleton: its name has its namespace before it, which a drill has none.
    #[must_use]
    pub fn is_singleton(&self) -> bool {
        self.name.contains('/')
    }
}

/// A term of leadership: rises by at least one with every new leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_survives_its_text_form() {
        for namespace in [None, Some("shop".to_owned())] {
            let target = Target { cluster: ClusterUid("c-1".into()), kind: Kind::HTTPRoute, namespace, name: "web".into() };
            let text = serde_json::to_value(&target).unwrap();
            assert_eq!(serde_json::from_value::<Target>(text).unwrap(), target);
        }
        assert!(serde_json::from_value::<Target>("a/b".into()).is_err());
        assert!(serde_json::from_value::<Target>("a/NoKind//b".into()).is_err());
    }

    #[test]
    fn paths_are_those_of_the_api_server() {
        assert_eq!(Kind::Deployment.path(Some("shop")), "/apis/apps/v1/namespaces/shop/deployments");
        assert_eq!(Kind::Node.path(None), "/api/v1/nodes");
    }
}
