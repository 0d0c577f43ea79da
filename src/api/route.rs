use super::Condition;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the weights of one user-facing route live.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "firedrill.dev",
    version = "v1alpha1",
    kind = "TrafficRoute",
    namespaced,
    status = "TrafficRouteStatus",
    category = "firedrill",
    shortname = "fdt"
)]
#[kube(printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#)]
#[kube(printcolumn = r#"{"name":"Route","type":"string","jsonPath":".spec.httpRoute.name"}"#)]
#[kube(printcolumn = r#"{"name":"Shares","type":"string","jsonPath":".status.summary"}"#)]
#[kube(
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct TrafficRouteSpec {
    /// The region in whose cluster the route lives; absent means the hub, where this object is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub cluster: Option<String>,
    /// The Gateway API `HTTPRoute` of this namespace whose weights are shifted.
    pub http_route: HttpRouteRef,
    /// Which backend of the route serves from which region.
    #[schemars(length(min = 2, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["region", "name"]))]
    pub backends: Vec<BackendRef>,
    /// How long users keep coming to a region after its weight is zero; absent means `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub convergence: Option<Duration>,
    /// How the requests that really arrive at a backend are seen. Without it a shift is only assumed, and no drill is Passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Confirm>,
}

/// An `HTTPRoute` by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRouteRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One backend of the route and the region that it serves from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendRef {
    /// The region's name.
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// The backend's name in the route's `backendRefs`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the requests that really arrive are seen.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.query.contains('${region}') || self.query.contains('${backend}')").message("the query must contain ${region} or ${backend}: it is asked once for each backend"))]
#[serde(rename_all = "camelCase")]
pub struct Confirm {
    /// A `PromQL` query for the requests per second of one `${backend}` or `${region}`; one number.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// The range that the query looks back over; absent means `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub window: Option<Duration>,
    /// A share counts only while all backends together had this many requests in the window; absent means 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub minimum_requests: Option<u32>,
    /// How far an observed share may be from the desired one, in percent of all requests; absent means 5. At the evacuated
    /// region nothing is borne.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub split_tolerance_percent: Option<u32>,
}

/// One region's share of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionShare {
    /// The region's name.
    #[schemars(length(max = 63))]
    pub region: String,
    /// Its share by the weights as they stand, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub desired_percent: u32,
}

/// What firedrill knows of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficRouteStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The regions' shares in one line.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub summary: String,
    /// Each region's share.
    #[serde(default)]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["region"]))]
    pub shares: Vec<RegionShare>,
    /// `Ready`.
    #[serde(default)]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
