use super::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One failure domain that serves users.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "firedrill.dev",
    version = "v1alpha1",
    kind = "Region",
    status = "RegionStatus",
    category = "firedrill",
    shortname = "fdr"
)]
#[kube(printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#)]
#[kube(printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#)]
#[kube(printcolumn = r#"{"name":"Settled","type":"string","jsonPath":".status.conditions[?(@.type==\"Settled\")].status"}"#)]
#[kube(printcolumn = r#"{"name":"Claims","type":"integer","jsonPath":".status.claims","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".status.clusterUid","priority":1}"#)]
#[kube(
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct RegionSpec {
    /// The cluster that the region runs on: exactly one of `local` and `kubeconfigSecret`.
    pub cluster: ClusterRef,
}

/// How a region's cluster is reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.local) != has(self.kubeconfigSecret)").message("set exactly one of local and kubeconfigSecret"))]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// The cluster that the operator itself runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// A Secret with a kubeconfig, in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig_secret: Option<SecretRef>,
}

/// The operator's own cluster; has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Local {}

/// A Secret in the operator's namespace that holds a kubeconfig. Only data in it is used: `exec`, `auth-provider` and file
/// references are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it; absent means `kubeconfig`, or else `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// What a region does just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RegionState {
    /// Users are served from it.
    #[default]
    Serving,
    /// A drill is taking it out of service.
    Draining,
    /// A drill has taken it out of service.
    Evacuated,
    /// A drill is bringing it back.
    Returning,
}

/// What firedrill knows of a region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// What the region does just now.
    #[serde(default)]
    pub state: RegionState,
    /// The uid of the cluster's `kube-system` namespace, pinned when first reached: another cluster behind the same kubeconfig
    /// is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_uid: Option<String>,
    /// How many objects in it have a claim of a drill or a singleton, as the last sweep that saw all of it counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<u32>,
    /// `Ready`, `Reachable` and `Settled`.
    #[serde(default)]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
