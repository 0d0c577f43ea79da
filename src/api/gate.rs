use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A measurement that must stay within bounds while a region is evacuated or comes back.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.min) || has(self.max)").message("set min, max or both: a gate without a bound is always green"))]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// The gate's name, unique in the plan.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What it speaks of; without a gate of role `UserHealth` no drill can be Passed. Absent means `Other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// A `PromQL` query that answers one number; `${region}` in it runs it once for each surviving region.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// The lowest green value, as a decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub min: Option<String>,
    /// The highest green value, as a decimal string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub max: Option<String>,
    /// How often it is measured; absent means `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub interval: Option<Duration>,
    /// How many consecutive red measurements are borne; absent means 0: the first one counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_limit: Option<u32>,
    /// What no answer means; absent means `Hold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<NoData>,
    /// What to do when it has failed; absent means `Abort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

/// What a gate speaks of; absent means `Other`. Without a gate of role `UserHealth` no drill can be Passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// What users feel: errors, latency.
    UserHealth,
    /// How full the survivors are.
    Saturation,
    /// Anything else.
    #[default]
    Other,
}

/// What no answer (no series, several, not a finite number, an error) means, never green; absent means `Hold`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoData {
    /// Nothing moves on until there is an answer.
    #[default]
    Hold,
    /// As red.
    Fail,
    /// The gate is left out.
    Ignore,
}

/// What to do when a gate has failed; absent means `Abort`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Nothing moves on until it is green.
    Hold,
    /// Back to the last level at which all gates were green.
    StepBack,
    /// The drill is aborted; everything goes back.
    #[default]
    Abort,
}
