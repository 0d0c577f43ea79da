//! What stands in an embedded fleet: the shop of the demo, or what a file of manifests names.

use super::embedded::REGIONS;
use crate::api::{Drill, EvacuationPlan, Region, SingletonWorkload, TrafficRoute, WorkloadKind};
use crate::terms::{Json, RegionName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeSet;

/// What stands in an embedded fleet.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Its regions.
    pub regions: Vec<String>,
    /// Where the workloads and routes are.
    pub namespaces: Vec<String>,
    /// Further objects, each with the server that has it; the hub is `hub`.
    pub objects: Vec<(String, Json)>,
    /// The drill that the manifests have, if any: its name and region.
    pub drill: Option<(String, String)>,
    /// Whether its regions have what is named and nothing else; else they are furnished with nodes and workloads.
    pub bare: bool,
}

impl Layout {
    /// The shop of the demo: three regions, two routes, one plan.
    #[must_use]
    pub fn shop() -> Self {
        let routes = ["checkout", "shop"].map(|name| (name.to_owned(), vec![34, 33, 33]));
        Self::fleet(&REGIONS.map(str::to_owned), &routes)
    }

    /// A shop in these regions, with these routes: a name, and the weight of each region's backend.
    #[must_use]
    pub fn fleet(regions: &[String], routes: &[(String, Vec<u64>)]) -> Self {
        let mut objects: Vec<Json> = regions.iter().map(|name| region(name)).collect();
        for (name, weights) in routes {
            let backends: Vec<(String, String)> =
                regions.iter().map(|region| (region.clone(), format!("{name}-{region}"))).collect();
            objects.push(http_route(
                "shop",
                name,
                backends.iter().map(|(_, backend)| backend.as_str()).zip(weights.iter().copied()),
            ));
            objects.push(traffic_route(name, &backends));
        }
        objects.push(plan(regions));
        Self {
            regions: regions.to_vec(),
            namespaces: vec!["shop".to_owned()],
            objects: objects.into_iter().map(|object| ("hub".to_owned(), object)).collect(),
            drill: None,
            bare: false,
        }
    }

    /// What a file of manifests names: its regions, and behind its routes and singletons what they lead.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(text: &str) -> Result<Self, String> {
        let documents: Vec<Json> = serde_saphyr::from_multiple(text).map_err(|error| format!("it is no YAML: {error}"))?;
        let documents: Vec<Json> = documents.into_iter().filter(|document| !document.is_null()).collect();
        let mut layout = Self::default();
        let mut plans = Vec::new();
        let (mut routes, mut singletons) = (Vec::new(), Vec::new());
        for (number, document) in documents.iter().enumerate() {
            let of = |pointer: &str| document.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
            let (version, kind, name) = (of("/apiVersion"), of("/kind"), of("/metadata/name"));
            let at = |error: String| format!("document {}, {kind} {name}: {error}", number + 1);
            if version != "firedrill.dev/v1alpha1" || name.is_empty() {
                return Err(at("it must have apiVersion firedrill.dev/v1alpha1, a kind and a name".to_owned()));
            }
            match kind {
                "Region" => {
                    let _: Region = parse(document).map_err(at)?;
                    RegionName::try_from(name).map_err(|error| at(error.to_string()))?;
                    layout.regions.push(name.to_owned());
                }
                "EvacuationPlan" => plans.push(parse::<EvacuationPlan>(document).map_err(at)?),
                "TrafficRoute" => routes.push(parse::<TrafficRoute>(document).map_err(at)?),
                "SingletonWorkload" => singletons.push(parse::<SingletonWorkload>(document).map_err(at)?),
                "Drill" => {
                    let drill: Drill = parse(document).map_err(at)?;
                    layout.drill = Some((name.to_owned(), drill.spec.region));
                    continue;
                }
                _ => {
                    return Err(at(
                        "this kind is not known here: Region, EvacuationPlan, TrafficRoute, SingletonWorkload or Drill".into(),
                    ));
                }
            }
            // However it is reached in life, here it is embedded.
            layout.objects.push(("hub".to_owned(), if kind == "Region" { region(name) } else { document.clone() }));
        }
        let [plan] = plans.as_slice() else { return Err(format!("it has {} EvacuationPlans, and must have one", plans.len())) };
        if layout.regions.len() < 2 {
            return Err(format!("it has {} Regions: losing one needs another to go to, so at least two", layout.regions.len()));
        }
        if let Some(unknown) = plan.spec.regions.iter().find(|name| !layout.regions.contains(name)) {
            return Err(format!("its plan names region {unknown}, and there is no such Region in it"));
        }
        layout.namespaces.clone_from(&plan.spec.namespaces);
        for route in &routes {
            let namespace = route.metadata.namespace.clone().unwrap_or_default();
            let backends: Vec<String> = route.spec.backends.iter().map(|backend| backend.name.clone()).collect();
            if !layout.namespaces.contains(&namespace) {
                return Err(format!(
                    "TrafficRoute {} is in namespace {namespace:?}, which its plan does not have",
                    name_of(&route.metadata)
                ));
            }
            // Users in equal parts.
            let references = backends.iter().map(|backend| (backend.as_str(), 100));
            layout.objects.push(("hub".to_owned(), http_route(&namespace, &route.spec.http_route.name, references)));
        }
        let known: BTreeSet<&String> = layout.regions.iter().collect();
        let mut workloads = Vec::new();
        for singleton in &singletons {
            let namespace = singleton.metadata.namespace.clone().unwrap_or_default();
            for (index, region) in singleton.spec.regions.iter().filter(|region| known.contains(region)).enumerate() {
                let workload = &singleton.spec.workload;
                workloads.push((region.clone(), once(workload.kind, &namespace, &workload.name, index == 0)));
            }
        }
        layout.objects.extend(workloads);
        Ok(layout)
    }

    /// Whether something in it must run once in the world.
    #[must_use]
    pub fn has_singletons(&self) -> bool {
        self.objects.iter().any(|(_, object)| object.get("kind").is_some_and(|kind| kind == "SingletonWorkload"))
    }

    /// Adds a singleton and its workload in every region; the first of them runs it.
    pub fn lead(&mut self, kind: WorkloadKind, name: &str, regions: &[&str]) {
        for (index, region) in regions.iter().enumerate() {
            self.objects.push(((*region).to_owned(), once(kind, "shop", name, index == 0)));
        }
        let spec = json!({
            "workload": {"kind": kind, "name": name}, "regions": regions, "enforcement": "Enforce",
            "token": {"configMap": {"name": format!("{name}-epoch")}},
        });
        let metadata = json!({"name": name, "namespace": "shop"});
        let singleton =
            json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "SingletonWorkload", "metadata": metadata, "spec": spec});
        self.objects.push(("hub".to_owned(), singleton));
    }
}

fn name_of(metadata: &kube::core::ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

/// A manifest as its kind; a field that the kind does not have is an error, as `kubectl apply` makes it one.
fn parse<K: DeserializeOwned + Serialize>(document: &Json) -> Result<K, String> {
    let typed: K = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let known = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    match stray(document.get("spec"), known.get("spec"), "spec") {
        Some(path) => Err(format!("{path} is no field of this kind, or has a value that it cannot have")),
        None => Ok(typed),
    }
}

/// Where `given` has something that `known` does not.
fn stray(given: Option<&Json>, known: Option<&Json>, path: &str) -> Option<String> {
    match (given?, known) {
        (Json::Object(given), Some(Json::Object(known))) => {
            given.iter().find_map(|(key, value)| stray(Some(value), known.get(key), &format!("{path}.{key}")))
        }
        (Json::Array(given), Some(Json::Array(known))) => {
            given.iter().enumerate().find_map(|(index, value)| stray(Some(value), known.get(index), &format!("{path}[{index}]")))
        }
        (Json::Null, _) | (_, Some(_)) => None,
        (_, None) => Some(path.to_owned()),
    }
}

fn region(name: &str) -> Json {
    json!({
        "apiVersion": "firedrill.dev/v1alpha1", "kind": "Region", "metadata": {"name": name},
        "spec": {"cluster": {"kubeconfigSecret": {"name": name}}},
    })
}

fn http_route<'a>(namespace: &str, name: &str, backends: impl Iterator<Item = (&'a str, u64)>) -> Json {
    let references: Vec<Json> =
        backends.map(|(backend, weight)| json!({"name": backend, "port": 80, "weight": weight})).collect();
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": namespace},
        "spec": {"rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": format!("/{name}")}}], "backendRefs": references,
        }]},
    })
}

fn traffic_route(name: &str, backends: &[(String, String)]) -> Json {
    let backends: Vec<Json> = backends.iter().map(|(region, backend)| json!({"region": region, "name": backend})).collect();
    json!({
        "apiVersion": "firedrill.dev/v1alpha1", "kind": "TrafficRoute", "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "httpRoute": {"name": name}, "backends": backends,
            "confirm": {"query": "sum(rate(requests_total{service=\"${backend}\"}[30s]))", "window": "30s"},
        },
    })
}

fn plan(regions: &[String]) -> Json {
    json!({
        "apiVersion": "firedrill.dev/v1alpha1", "kind": "EvacuationPlan", "metadata": {"name": "shop"},
        "spec": {
            "regions": regions, "namespaces": ["shop"], "soak": "5m",
            "objectives": {"timeToHealthy": "15m"},
            "gates": [{"name": "errors", "role": "UserHealth", "max": "0.01", "query": "error_ratio"}],
        },
    })
}

/// A workload that must run once in the world, stopped but at home.
fn once(kind: WorkloadKind, namespace: &str, name: &str, is_home: bool) -> Json {
    let template = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": name, "image": name}]},
    });
    let metadata = json!({"name": name, "namespace": namespace});
    let spec = match kind {
        WorkloadKind::CronJob => json!({
            "schedule": "* * * * *", "suspend": !is_home, "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": {"template": template}},
        }),
        WorkloadKind::Deployment | WorkloadKind::StatefulSet => json!({
            "replicas": i32::from(is_home), "selector": {"matchLabels": {"app": name}}, "template": template,
        }),
    };
    let version = if kind == WorkloadKind::CronJob { "batch/v1" } else { "apps/v1" };
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = include_str!("../../drills/first.yaml");

    #[test]
    fn every_manifest_that_is_shipped_makes_a_fleet() {
        let mut count = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/drills")).unwrap() {
            let path = entry.unwrap().path();
            let layout = Layout::read(&std::fs::read_to_string(&path).unwrap()).unwrap();
            assert!(layout.regions.len() > 1 && !layout.namespaces.is_empty(), "{}", path.display());
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn a_file_that_makes_no_fleet_says_what_is_wrong_and_where() {
        let refused = |text: &str| Layout::read(text).unwrap_err();
        assert!(refused("a: [").starts_with("it is no YAML: "));
        assert_eq!(refused(""), "it has 0 EvacuationPlans, and must have one");
        let misspelt = FIRST.replacen("{kubeconfigSecret: {name: us-east}}", "{kubeconfigSecret: {name: us-east}, nodez: 3}", 1);
        assert_eq!(
            refused(&misspelt),
            "document 2, Region us-east: spec.cluster.nodez is no field of this kind, or has a value that it cannot have"
        );
        let wrong = FIRST.replacen("kind: TrafficRoute", "kind: TrafficRouter", 1);
        assert!(refused(&wrong).contains("TrafficRouter shop: this kind is not known here"), "{}", refused(&wrong));
        let single: String = FIRST
            .split("---\n")
            .filter(|part| !part.contains("kind: Region") || part.contains("eu-west"))
            .collect::<Vec<_>>()
            .join("---\n");
        assert_eq!(refused(&single), "it has 1 Regions: losing one needs another to go to, so at least two");
    }
}
