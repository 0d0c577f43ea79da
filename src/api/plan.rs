use super::{Condition, Gate};
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How this fleet loses any one of its regions.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "firedrill.dev",
    version = "v1alpha1",
    kind = "EvacuationPlan",
    status = "EvacuationPlanStatus",
    category = "firedrill",
    shortname = "fdp"
)]
#[kube(printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#)]
#[kube(printcolumn = r#"{"name":"Regions","type":"string","jsonPath":".spec.regions"}"#)]
#[kube(
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#
)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase")]
pub struct EvacuationPlanSpec {
    /// The regions of the fleet.
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-list-type" = "set"), inner(length(min = 1, max = 63)))]
    pub regions: Vec<String>,
    /// The namespaces that belong to the plan, the same in each region: their workloads and `TrafficRoute`s.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// What the fleet promises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<Objectives>,
    /// How the survivors get room for what they take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// How the leaving region is marked; absent means `Mark`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Cordon>,
    /// The measurements that must stay within bounds. Without one of role `UserHealth` no drill can be Passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub gates: Option<Vec<Gate>>,
    /// How fast traffic moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// How long the region stays evacuated once healthy; absent means `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub soak: Option<Duration>,
    /// When the region comes back; absent means `AfterSoak`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback: Option<Failback>,
    /// What is never given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<Guards>,
    /// The Prometheus that gates and confirmations ask; absent means the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// How long after its start a drill may take until it goes back; absent means `2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub deadline: Option<Duration>,
}

/// What the fleet promises.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// From the start of the drill until users are healthy without the region; absent means `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub time_to_healthy: Option<Duration>,
    /// How long all gates must stay green to count as healthy; absent means `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub stable_for: Option<Duration>,
}

/// How the survivors get room for what they take over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Whether the room must be there already; absent means `ScaleFirst`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<CapacityMode>,
    /// Room above what arithmetic says, in percent; absent means 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub margin_percent: Option<u32>,
}

/// Whether the room must be there already; absent means `ScaleFirst`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CapacityMode {
    /// It must: a survivor that would have to grow first is a blocker.
    StaticStability,
    /// Survivors are raised, Ready and warm before traffic moves.
    #[default]
    ScaleFirst,
}

/// How the leaving region is marked; absent means `Mark`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cordon {
    /// Only in the Region's own status.
    #[default]
    Mark,
    /// Its nodes get the taint `firedrill.dev/evacuated:NoSchedule`, so that nothing new is scheduled there.
    Nodes,
}

/// How fast traffic moves, each way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pace {
    /// Out of the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuate: Option<PaceStep>,
    /// Back into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback: Option<PaceStep>,
}

/// How fast traffic moves: levels in percent of the leaving region's own share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaceStep {
    /// The first level; absent means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub first_percent: Option<u32>,
    /// How much larger each step is than the one before, in percent of it; absent means 200 (twice). At least 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1000))]
    pub growth_percent: Option<u32>,
    /// The largest step; absent means 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_step_percent: Option<u32>,
    /// How long each level is held; absent means `30s` out and `60s` back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub hold: Option<Duration>,
}

/// When the region comes back; absent means `AfterSoak`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Failback {
    /// By itself, when the soak is over.
    #[default]
    AfterSoak,
    /// When a person sets `control: Failback`.
    Manual,
}

/// What is never given up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// How many regions must keep serving each route; absent means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 15))]
    pub min_serving: Option<u32>,
    /// What somebody else's hand on a claimed value means; absent means `Abort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contention: Option<Contention>,
}

/// What somebody else's hand on a claimed value means; absent means `Abort`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Contention {
    /// The drill stands until the value is as it left it, a person decides, or the deadline comes.
    Hold,
    /// The drill is aborted; everything that is still ours goes back.
    #[default]
    Abort,
}

/// A Prometheus server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prometheus {
    /// Its base URL, `http://prometheus.monitoring:9090`; must be on the operator's list of allowed hosts.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"))]
    pub url: String,
}

/// What firedrill knows of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvacuationPlanStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Ready`: the plan is valid and everything it names exists.
    #[serde(default)]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
