use crate::api::{Drill, EvacuationPlan, Mode, Phase, Region, TrafficRoute};
use crate::cli::layout::Layout;
use crate::cluster::{Api, Category, Fleet};
use crate::terms::{Json, Kind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(15);
/// The version of the file format.
const FORMAT: u32 = 1;
/// Where in the copy the pods stand that only take room.
pub(super) const ROOM: &str = "firedrill-rehearsal-room";

/// A copy of a fleet: what a rehearsal needs of it, and nothing else. No Secret is in it, and of pods no environment, command or annotation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Copy {
    format: u32,
    /// When it was taken.
    pub taken: Timestamp,
    /// The plan that is rehearsed.
    pub plan: String,
    /// What the hub has.
    pub hub: Vec<Json>,
    /// What each region has.
    pub regions: BTreeMap<String, Vec<Json>>,
    /// How long each image took from its node to Ready, in seconds.
    pub starts: BTreeMap<String, u64>,
}

impl Copy {
    /// Copies the fleet of a plan, reading only; `ways` lead to regions otherwise than their Regions say.
    ///
    /// # Errors
    /// What cannot be read or rehearsed, for people.
    pub async fn take(fleet: &Fleet, plan: Option<&str>, mut ways: BTreeMap<String, Api>) -> Result<Self, String> {
        let mut copy = Self::of_hub(&fleet.hub, plan, fleet.now()).await?;
        if let Some(name) = ways.keys().find(|name| !copy.regions.contains_key(*name)) {
            return Err(format!("--via {name}: the plan has no Region {name}"));
        }
        for object in copy.hub.clone().iter().filter(|object| kind(object) == "Region") {
            let name = name(object);
            let region: Region = parse(object)?;
            let api = match ways.remove(name) {
                Some(api) => api,
                None => fleet.connect(&region.spec.cluster).await.map_err(|error| {
                    format!("region {name}: {error}; `firedrill rehearse --via {name}=CONTEXT` names a context for it")
                })?,
            };
            copy.add(name, &api).await?;
        }
        Ok(copy)
    }

    /// Reads what the hub says of a plan: the plan, its regions, routes and singletons.
    ///
    /// # Errors
    /// What cannot be read or rehearsed, for people.
    async fn of_hub(hub: &Api, plan: Option<&str>, now: Timestamp) -> Result<Self, String> {
        let plans = list(hub, Kind::EvacuationPlan, None).await?;
        let names = || plans.iter().map(|plan| name(plan).to_owned()).collect::<Vec<_>>().join(", ");
        let chosen = match plan {
            Some(wanted) => plans.iter().find(|plan| name(plan) == wanted).ok_or_else(|| {
                let there = names();
                format!(
                    "there is no EvacuationPlan {wanted}; there {}",
                    if there.is_empty() { "is none".into() } else { format!("is {there}") }
                )
            })?,
            None => match plans.as_slice() {
                [one] => one,
                [] => return Err("the hub has no EvacuationPlan: is --hub its context?".into()),
                _ => return Err(format!("the hub has several plans, name one with --plan: {}", names())),
            },
        };
        let plan: EvacuationPlan = parse(chosen)?;
        for drill in list(hub, Kind::Drill, None).await? {
            let drill: Drill = parse(&drill)?;
            let phase = drill.status.as_ref().map_or(Phase::Pending, |status| status.phase);
            // A Check changes nothing.
            if !matches!(phase, Phase::Pending | Phase::Done) && drill.spec.mode != Mode::Check {
                return Err(format!(
                    "Drill {} is {phase:?}: a copy would take what it has changed for how things are; rehearse when it is over",
                    drill.metadata.name.unwrap_or_default()
                ));
            }
        }
        let mut copy = Self {
            format: FORMAT,
            taken: now,
            plan: name(chosen).to_owned(),
            hub: Vec::new(),
            regions: BTreeMap::new(),
            starts: BTreeMap::new(),
        };
        copy.hub.extend(tidy(chosen));
        for region in list(hub, Kind::Region, None).await? {
            if plan.spec.regions.iter().any(|wanted| wanted == name(&region)) {
                copy.regions.insert(name(&region).to_owned(), Vec::new());
                copy.hub.extend(tidy(&region));
            }
        }
        for namespace in &plan.spec.namespaces {
            for kind in [Kind::TrafficRoute, Kind::SingletonWorkload, Kind::HTTPRoute] {
                copy.hub.extend(list(hub, kind, Some(namespace)).await?.iter().filter_map(tidy));
            }
        }
        let elsewhere = copy.hub.iter().filter(|object| kind(object) == "TrafficRoute").filter_map(|object| {
            let route: TrafficRoute = parse(object).ok()?;
            route.spec.cluster.map(|cluster| format!("TrafficRoute {} has its weights in cluster {cluster}", name(object)))
        });
        if let Some(elsewhere) = elsewhere.into_iter().next() {
            return Err(format!("{elsewhere}: only routes on the hub can be rehearsed"));
        }
        Ok(copy)
    }

    /// Adds what a region has: nodes, the workloads of the plan's namespaces, and how long their pods took to start.
    ///
    /// # Errors
    /// What cannot be read, for people.
    async fn add(&mut self, region: &str, api: &Api) -> Result<(), String> {
        let said = |error: String| format!("region {region}: {error}");
        let namespaces = self.namespaces()?;
        let mut objects: Vec<Json> = list(api, Kind::Node, None).await.map_err(said)?.iter().filter_map(tidy).collect();
        for namespace in &namespaces {
            for kind in [Kind::Deployment, Kind::StatefulSet, Kind::CronJob, Kind::HorizontalPodAutoscaler] {
                objects.extend(list(api, kind, Some(namespace)).await.map_err(said)?.iter().filter_map(tidy));
            }
        }
        let mut took: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (number, pod) in list(api, Kind::Pod, None).await.map_err(said)?.iter().enumerate() {
            let of = |pointer: &str| pod.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
            if matches!(of("/status/phase"), "Succeeded" | "Failed") || of("/spec/nodeName").is_empty() {
                continue;
            }
            let owner = of("/metadata/ownerReferences/0/kind");
            let copied = namespaces.iter().any(|namespace| namespace == of("/metadata/namespace"));
            if copied && matches!(owner, "ReplicaSet" | "StatefulSet" | "Job") {
                let image = of("/spec/containers/0/image").to_owned();
                took.entry(image).or_default().extend(start(pod));
            } else {
                objects.push(json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{number}"), "namespace": ROOM},
                    "spec": pod_spec(pod.pointer("/spec").unwrap_or(&Json::Null)), "status": {"phase": "Running"},
                }));
            }
        }
        for (image, mut times) in took {
            times.sort_unstable();
            if let Some(median) = times.get(times.len() / 2) {
                let known = self.starts.entry(image).or_default();
                *known = (*known).max(*median);
            }
        }
        self.regions.insert(region.to_owned(), objects);
        Ok(())
    }

    /// Reads a copy from a file.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(text: &str) -> Result<Self, String> {
        let format = serde_json::from_str::<Json>(text).map_err(|error| format!("it is no JSON: {error}"))?;
        match format.get("format").and_then(Json::as_u64) {
            Some(found) if found == u64::from(FORMAT) => {}
            found => {
                return Err(format!("its format is {found:?}, and this firedrill reads {FORMAT}; take a new copy with --save"));
            }
        }
        let copy: Self = serde_json::from_value(format).map_err(|error| format!("it is no copy of a fleet: {error}"))?;
        for object in copy.hub.iter().chain(copy.regions.values().flatten()) {
            if tidy(object).is_none() {
                return Err(format!("it has a {} {}: this kind is not known here", kind(object), name(object)));
            }
        }
        Ok(copy)
    }

    /// The plan's namespaces.
    pub fn namespaces(&self) -> Result<Vec<String>, String> {
        Ok(self.plan()?.spec.namespaces)
    }

    /// The plan.
    pub fn plan(&self) -> Result<EvacuationPlan, String> {
        let plan = self.hub.iter().find(|object| kind(object) == "EvacuationPlan");
        parse(plan.ok_or("it has no EvacuationPlan")?)
    }

    /// How many pods there are in it, or will be once it stands.
    pub fn pods(&self) -> u64 {
        let of = |object: &Json| match kind(object) {
            "Pod" => 1,
            "Deployment" | "StatefulSet" => object.pointer("/spec/replicas").and_then(Json::as_u64).unwrap_or(1),
            _ => 0,
        };
        self.regions.values().flatten().map(of).sum()
    }

    /// The routes.
    pub fn routes(&self) -> Result<Vec<TrafficRoute>, String> {
        self.hub.iter().filter(|object| kind(object) == "TrafficRoute").map(parse).collect()
    }

    /// What to build of it.
    ///
    /// # Errors
    /// What is missing for an evacuation.
    pub fn layout(&self) -> Result<Layout, String> {
        let plan = self.plan()?;
        let missing: Vec<&str> =
            plan.spec.regions.iter().filter(|name| !self.regions.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(format!("plan {} names regions that there are no Regions for: {}", self.plan, missing.join(", ")));
        }
        if self.regions.len() < 2 {
            let count = self.regions.len();
            return Err(format!("plan {} has {count} regions: losing one needs another to go to, so at least two", self.plan));
        }
        let mut objects: Vec<(String, Json)> = Vec::new();
        for object in &self.hub {
            let mut object = object.clone();
            let of = name(&object).to_owned();
            let is_region = kind(&object) == "Region";
            if let Some(spec) = object.pointer_mut("/spec").and_then(Json::as_object_mut) {
                // However it is reached and measured in life, here it is embedded.
                spec.remove("prometheus");
                if is_region {
                    spec.insert("cluster".to_owned(), json!({"kubeconfigSecret": {"name": of}}));
                }
                let gates = spec.get_mut("gates").and_then(Json::as_array_mut).into_iter().flatten();
                gates.filter_map(Json::as_object_mut).for_each(|gate| drop(gate.remove("prometheus")));
            }
            objects.push(("hub".to_owned(), object));
        }
        for (region, all) in &self.regions {
            objects.extend(all.iter().map(|object| (region.clone(), object.clone())));
        }
        let mut namespaces = plan.spec.namespaces;
        namespaces.push(ROOM.to_owned());
        Ok(Layout { regions: self.regions.keys().cloned().collect(), namespaces, objects, drill: None, bare: true })
    }
}

async fn list(api: &Api, kind: Kind, namespace: Option<&str>) -> Result<Vec<Json>, String> {
    let path = kind.path(namespace);
    match api.list(&path, "", CALL).await {
        Ok(mut objects) => {
            // Items of a list do not say what they are.
            for object in objects.iter_mut().filter_map(Json::as_object_mut) {
                object.insert("kind".to_owned(), json!(kind.to_string()));
                object.insert("apiVersion".to_owned(), json!(kind.resource().0));
            }
            Ok(objects)
        }
        // There are none of a kind that is not installed.
        Err(error) if error.category == Category::NotInstalled => Ok(Vec::new()),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

fn name(object: &Json) -> &str {
    object.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default()
}

fn kind(object: &Json) -> &str {
    object.get("kind").and_then(Json::as_str).unwrap_or_default()
}

fn parse<K: serde::de::DeserializeOwned>(object: &Json) -> Result<K, String> {
    serde_json::from_value(object.clone()).map_err(|error| format!("{} {}: {error}", kind(object), name(object)))
}

fn word<'a>(object: &'a Json, field: &str) -> &'a str {
    object.get(field).and_then(Json::as_str).unwrap_or_default()
}

/// Seconds from its node to Ready, if it is.
fn start(pod: &Json) -> Option<u64> {
    let since = |condition: &str| -> Option<Timestamp> {
        let all = pod.pointer("/status/conditions")?.as_array()?;
        let found = all.iter().find(|one| word(one, "type") == condition && word(one, "status") == "True")?;
        word(found, "lastTransitionTime").parse().ok()
    };
    let restarted = pod.pointer("/status/containerStatuses").and_then(Json::as_array).into_iter().flatten();
    // What has been Ready more than once says nothing about its start.
    if restarted.filter_map(|one| one.get("restartCount")?.as_u64()).any(|count| count > 0) {
        return None;
    }
    u64::try_from((since("Ready")? - since("PodScheduled")?).num_seconds()).ok()
}

/// The fields of `of` that are named.
fn only(of: &Json, fields: &[&str]) -> Json {
    Json::Object(fields.iter().filter_map(|field| Some(((*field).to_owned(), of.get(field)?.clone()))).collect())
}

/// An object with this field besides.
fn with(mut object: Json, field: &str, value: Json) -> Json {
    if let Some(object) = object.as_object_mut() {
        object.insert(field.to_owned(), value);
    }
    object
}

/// What scheduling and starting read of a pod.
fn pod_spec(spec: &Json) -> Json {
    let kept = [
        "nodeName",
        "nodeSelector",
        "tolerations",
        "affinity",
        "terminationGracePeriodSeconds",
        "restartPolicy",
        "schedulerName",
    ];
    let mut out = only(spec, &kept);
    for field in ["containers", "initContainers"] {
        if let Some(containers) = spec.get(field).and_then(Json::as_array) {
            let containers: Json = containers.iter().map(|one| only(one, &["name", "image", "resources"])).collect();
            json_patch::merge(&mut out, &json!({field: containers}));
        }
    }
    out
}

fn template(template: &Json) -> Json {
    let labels = template.pointer("/metadata/labels").cloned().unwrap_or_default();
    json!({"metadata": {"labels": labels}, "spec": pod_spec(template.get("spec").unwrap_or(&Json::Null))})
}

/// An object as it goes into the copy; none of a kind that does not.
fn tidy(object: &Json) -> Option<Json> {
    let spec = object.get("spec").cloned().unwrap_or_default();
    let spec = match kind(object) {
        "Region" | "EvacuationPlan" | "TrafficRoute" | "SingletonWorkload" => spec,
        "HTTPRoute" => {
            let rules = spec.get("rules").and_then(Json::as_array).into_iter().flatten();
            let rules: Vec<Json> = rules
                .map(|rule| {
                    let mut rule = only(rule, &["name", "matches", "backendRefs"]);
                    if let Some(references) = rule.get_mut("backendRefs").and_then(Json::as_array_mut) {
                        for one in references.iter_mut() {
                            *one = only(one, &["group", "kind", "namespace", "name", "port", "weight"]);
                        }
                    }
                    rule
                })
                .collect();
            json!({"rules": rules})
        }
        "Node" => only(&spec, &["taints", "unschedulable"]),
        "Deployment" | "StatefulSet" => {
            let out = only(
                &spec,
                &["replicas", "selector", "strategy", "updateStrategy", "minReadySeconds", "podManagementPolicy", "serviceName"],
            );
            with(out, "template", template(spec.get("template").unwrap_or(&Json::Null)))
        }
        "CronJob" => {
            let out = only(&spec, &["schedule", "timeZone", "suspend", "concurrencyPolicy", "startingDeadlineSeconds"]);
            let job = spec.pointer("/jobTemplate/spec").cloned().unwrap_or_default();
            let kept = only(&job, &["parallelism", "completions", "backoffLimit"]);
            let kept = with(kept, "template", template(job.get("template").unwrap_or(&Json::Null)));
            with(out, "jobTemplate", json!({"spec": kept}))
        }
        // What it scales by is not known here; its bounds are.
        "HorizontalPodAutoscaler" => only(&spec, &["scaleTargetRef", "minReplicas", "maxReplicas"]),
        "Pod" => pod_spec(&spec),
        _ => return None,
    };
    let mut metadata = only(object.get("metadata").unwrap_or(&Json::Null), &["name", "namespace", "labels"]);
    if let Some(labels) = metadata.get_mut("labels").and_then(Json::as_object_mut) {
        labels.retain(|key, _| !key.starts_with("firedrill.dev/"));
    }
    let out = json!({"apiVersion": object.get("apiVersion"), "kind": kind(object), "metadata": metadata, "spec": spec});
    if kind(object) == "Node" {
        let conditions = object.pointer("/status/conditions").and_then(Json::as_array).into_iter().flatten();
        let ready: Vec<Json> =
            conditions.filter(|one| word(one, "type") == "Ready").map(|one| only(one, &["type", "status"])).collect();
        return Some(with(out, "status", json!({"allocatable": object.pointer("/status/allocatable"), "conditions": ready})));
    }
    Some(if kind(object) == "Pod" { with(out, "status", json!({"phase": "Running"})) } else { out })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn no_environment_annotation_or_filter_enters_a_copy() {
        let container = json!({"name": "a", "image": "b", "env": [{"name": "P", "value": "hush"}], "command": ["hush"]});
        let template = json!({"metadata": {"labels": {"app": "a"}, "annotations": {"x": "hush"}}, "spec": {"containers": [container], "volumes": ["hush"]}});
        let metadata = json!({"name": "a", "namespace": "s", "annotations": {"x": "hush"}, "managedFields": ["hush"], "labels": {"firedrill.dev/claimed": "x", "app": "a"}});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2, "template": template}});
        let kept = tidy(&deployment).unwrap();
        assert!(!kept.to_string().contains("hush"), "{kept}");
        assert_eq!(kept["metadata"]["labels"], json!({"app": "a"}));
        assert_eq!(kept["spec"]["template"]["spec"]["containers"][0]["image"], "b");
        let rules = json!([{"filters": [{"set": "hush"}], "backendRefs": [{"name": "b", "filters": ["hush"]}]}]);
        let route = json!({"kind": "HTTPRoute", "metadata": {"name": "r"}, "spec": {"rules": rules}});
        assert!(!tidy(&route).unwrap().to_string().contains("hush"));
        assert!(tidy(&json!({"kind": "Secret", "metadata": {"name": "s"}})).is_none());
    }

    #[test]
    fn a_file_that_is_no_copy_says_what_is_wrong() {
        let refused = |text: &str| Copy::read(text).unwrap_err();
        assert!(refused("{").starts_with("it is no JSON: "));
        assert_eq!(refused("{\"format\": 9}"), "its format is Some(9), and this firedrill reads 1; take a new copy with --save");
        let file = |hub: Json, regions: Json| {
            json!({"format": 1, "taken": "2026-11-24T00:00:00Z", "plan": "shop", "hub": hub, "regions": regions, "starts": {}})
                .to_string()
        };
        let secret = json!([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}]);
        assert_eq!(refused(&file(secret, json!({}))), "it has a Secret s: this kind is not known here");
        let plan = |regions: Json| json!([{"apiVersion": "firedrill.dev/v1alpha1", "kind": "EvacuationPlan", "metadata": {"name": "shop"}, "spec": {"regions": regions, "namespaces": ["shop"]}}]);
        let laid = |plan: Json, regions: Json| Copy::read(&file(plan, regions)).unwrap().layout().unwrap_err();
        assert_eq!(laid(json!([]), json!({})), "it has no EvacuationPlan");
        assert_eq!(
            laid(plan(json!([])), json!({})),
            "plan shop has 0 regions: losing one needs another to go to, so at least two"
        );
        assert!(laid(plan(json!(["a"])), json!({"a": []})).starts_with("plan shop has 1 regions"));
        assert_eq!(laid(plan(json!(["a", "b"])), json!({"a": []})), "plan shop names regions that there are no Regions for: b");
    }
}
