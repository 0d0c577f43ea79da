//! What users write and read: one file per kind, spec and status, its rules beside its fields.

mod condition;
mod drill;
mod gate;
mod plan;
mod region;
mod route;

pub use condition::{Condition, Status, set};
pub use drill::{
    Basis, ContractRef, Control, Direction, Drill, DrillSpec, DrillStatus, Finding, Hold, HoldReason, Intent, Level, Mode, Phase,
    Return, Scenario, Severity, Start, StepState, StepStatus, Streak, Times, Verdict, Why,
};
pub use gate::{Gate, NoData, OnFailure, Role};
pub use plan::{
    Capacity, CapacityMode, Contention, Cordon, EvacuationPlan, EvacuationPlanSpec, EvacuationPlanStatus, Failback, Guards, Objectives,
    Pace, PaceStep, Prometheus,
};
pub use region::{ClusterRef, Local, Region, RegionSpec, RegionState, RegionStatus, SecretRef};
pub use route::{BackendRef, Confirm, HttpRouteRef, RegionShare, TrafficRoute, TrafficRouteSpec, TrafficRouteStatus};

/// The API group of all kinds.
pub const GROUP: &str = "firedrill.dev";
/// The finalizer of an acting drill.
pub const FINALIZER: &str = "firedrill.dev/drill";

/// All CRDs, in the order in which they are installed.
#[must_use]
pub fn crds() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt;
    vec![Region::crd(), EvacuationPlan::crd(), Drill::crd(), TrafficRoute::crd()]
}

/// The schema of a Go duration (`90s`, `1h30m`).
pub(crate) fn duration(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$",
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
