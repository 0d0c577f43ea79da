use super::Verdict;
use crate::terms::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a rehearsal on a copy of the fleet expects of a drill: when the mechanics would be through, never that users were seen healthy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// When the copy was taken.
    pub taken: Timestamp,
    /// How the drill would end; absent where it would not within a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What the verdict would rest on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    pub reasons: Vec<String>,
    /// From the start until users would be healthy without the region, as a Go duration in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub time_to_healthy: Option<String>,
    /// How long each phase would take.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub phases: Vec<PredictedPhase>,
    /// The survivor that would be busiest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busiest: Option<Busiest>,
    /// What the rehearsal leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub not_modelled: Vec<String>,
}

/// How long a phase would take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PredictedPhase {
    /// The phase, as reports name it.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// How long, as a Go duration in whole seconds.
    #[schemars(length(max = 32))]
    pub took: String,
}

/// The survivor that would be busiest, at its busiest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Busiest {
    /// The region.
    #[schemars(length(max = 63))]
    pub region: String,
    /// Its users per Ready pod, in percent of those when the copy was taken.
    #[schemars(range(min = 0))]
    pub percent: u32,
}
