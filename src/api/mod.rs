//! What users write and read: one file per kind, spec and status, its rules beside its fields.

mod condition;
mod drill;
mod gate;
mod plan;
mod prediction;
mod region;
mod route;
mod singleton;

pub use condition::{Condition, Status, set};
pub use drill::{
    Basis, ContractRef, Control, Direction, Drill, DrillSpec, DrillStatus, Finding, Hold, HoldReason, Intent, Level, Mode,
    Moment, Phase, Return, Scenario, Severity, Start, StepState, StepStatus, Streak, Times, Verdict, Why,
};
pub use gate::{Gate, NoData, OnFailure, Role};
pub use plan::{
    Capacity, CapacityMode, Contention, Cordon, EvacuationPlan, EvacuationPlanSpec, EvacuationPlanStatus, Failback, Guards,
    Objectives, Pace, PaceStep, Prometheus,
};
pub use prediction::{Busiest, PredictedPhase, Prediction};
pub use region::{ClusterRef, Local, Region, RegionSpec, RegionState, RegionStatus, SecretRef};
pub use route::{BackendRef, Confirm, HttpRouteRef, RegionShare, TrafficRoute, TrafficRouteSpec, TrafficRouteStatus};
pub use singleton::{
    Enforcement, Followed, Handover, MissedRuns, Place, RegionRun, Running, RunningJobs, SeenPod, SingletonWorkload,
    SingletonWorkloadSpec, SingletonWorkloadStatus, Stage, Stop, Token, TokenRef, WorkloadKind, WorkloadRef,
};

/// The API group of all kinds.
pub const GROUP: &str = "firedrill.dev";
/// The finalizer of an acting drill.
pub const FINALIZER: &str = "firedrill.dev/drill";
/// The finalizer of a singleton that is led: its claims are given back before it goes.
pub const SINGLETON_FINALIZER: &str = "firedrill.dev/singleton";

/// All CRDs, in the order in which they are installed.
#[must_use]
pub fn crds() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt;
    let mut crds = vec![Region::crd(), EvacuationPlan::crd(), Drill::crd(), TrafficRoute::crd(), SingletonWorkload::crd()];
    for schema in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions).filter_map(|version| version.schema.as_mut()) {
        if let Some(schema) = &mut schema.open_api_v3_schema {
            signed(schema);
        }
    }
    crds
}

/// Kubernetes knows no unsigned formats and warns about each; their bounds say the same.
fn signed(schema: &mut k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrArray as Items;
    if schema.format.as_ref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(_, inner)| signed(inner));
    if let Some(Items::Schema(inner)) = &mut schema.items {
        signed(inner);
    }
}

/// The schema of a Go duration (`90s`, `1h30m`).
pub(crate) fn duration(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^([0-9]{1,6}(\\.[0-9]{1,3})?(ms|s|m|h))+$",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `FIREDRILL_BLESS=1 cargo test` rewrites the files.
    #[test]
    fn the_committed_crds_are_the_generated_ones() {
        for crd in crds() {
            let name = format!("{}/crds/{}.yaml", env!("CARGO_MANIFEST_DIR"), crd.spec.names.plural);
            let yaml = serde_saphyr::to_string(&crd).unwrap();
            if std::env::var_os("FIREDRILL_BLESS").is_some() {
                std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/crds")).unwrap();
                std::fs::write(&name, &yaml).unwrap();
            }
            let committed = std::fs::read_to_string(&name).unwrap_or_default();
            assert!(committed == yaml, "{name} is not what the code generates: run `FIREDRILL_BLESS=1 cargo test`");
            let chart = name.replace("/crds/", "/charts/firedrill/files/crds/");
            if std::env::var_os("FIREDRILL_BLESS").is_some() {
                std::fs::write(&chart, &yaml).unwrap();
            }
            assert!(std::fs::read_to_string(&chart).unwrap_or_default() == yaml, "{chart} is not the generated file");
        }
    }

    #[test]
    fn every_field_has_a_sentence() {
        fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
            if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
                for (name, inner) in properties {
                    let path = format!("{path}.{name}");
                    if inner.get("description").is_none() {
                        missing.push(path.clone());
                    }
                    walk(&path, inner, missing);
                }
            }
            if let Some(items) = schema.get("items") {
                walk(&format!("{path}[]"), items, missing);
            }
        }
        let mut missing = Vec::new();
        for crd in crds() {
            let json = serde_json::to_value(&crd).unwrap();
            let schema = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
            for part in ["spec", "status"] {
                walk(&format!("{}.{part}", crd.spec.names.kind), &schema[part], &mut missing);
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }
}
