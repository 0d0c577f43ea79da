//! Sizes of workloads: replicas, and the autoscalers that own them.

use crate::terms::{ClusterUid, Json, Kind, Object, Quantity, Spot, Target};
use crate::world::{Blind, List, World};
use std::collections::BTreeMap;

/// A workload of one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// The Deployment or `StatefulSet`.
    pub target: Target,
    /// How many pods its spec wants; absent counts as 1.
    pub replicas: u32,
    /// How many are Ready; unknown until its controller has seen the spec as it is.
    pub ready: Option<u32>,
    /// What one pod requests.
    pub request: Request,
    /// Its autoscaler.
    pub autoscaler: Option<Autoscaler>,
}

impl Workload {
    /// Whether so many are known to be Ready.
    #[must_use]
    pub fn has(&self, want: u32) -> bool {
        self.ready.unwrap_or(0) >= want
    }

    /// What is known of its Ready pods, where so many are wanted.
    #[must_use]
    pub fn readiness(&self, want: u32) -> String {
        match self.ready {
            Some(ready) => format!("has {ready} of {want} pods Ready"),
            None => "was changed, and its controller has not seen that yet".to_owned(),
        }
    }
}

/// An autoscaler of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoscaler {
    /// The `HorizontalPodAutoscaler`.
    pub target: Target,
    /// Its minimum as written; absent counts as 1.
    pub minimum: Option<u32>,
    /// Its maximum.
    pub maximum: u32,
}

/// What one pod takes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// CPU in cores.
    pub cpu: Quantity,
    /// Memory in bytes.
    pub memory: Quantity,
}

/// The room that is free on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may still be requested.
    pub free: Request,
    /// How many more pods.
    pub pods: i64,
}

impl Workload {
    /// Where its size is written: object, spot, and the value as it is.
    #[must_use]
    pub fn size(&self) -> (Target, Spot, Option<u32>) {
        self.autoscaler.as_ref().map_or_else(
            || (self.target.clone(), Spot::fields(&["spec", "replicas"]), Some(self.replicas)),
            |scaler| (scaler.target.clone(), Spot::fields(&["spec", "minReplicas"]), scaler.minimum),
        )
    }
}

/// The lists that [`workloads`] and [`rooms`] read, `deep` with nodes and pods.
#[must_use]
pub fn lists(cluster: &ClusterUid, namespaces: &[String], deep: bool) -> Vec<List> {
    let list = |kind, namespace: Option<&String>| List { cluster: cluster.clone(), kind, namespace: namespace.cloned() };
    let kinds = [Kind::Deployment, Kind::StatefulSet, Kind::HorizontalPodAutoscaler];
    let mut lists: Vec<List> = namespaces.iter().flat_map(|namespace| kinds.map(|kind| list(kind, Some(namespace)))).collect();
    if deep {
        lists.extend([list(Kind::Node, None), list(Kind::Pod, None)]);
    }
    lists
}

/// The workloads of one region's `namespaces`.
///
/// # Errors
/// Why they could not be seen.
pub fn workloads(world: &World, cluster: &ClusterUid, namespaces: &[String]) -> Result<Vec<Workload>, Blind> {
    let mut found = Vec::new();
    for namespace in namespaces {
        let list = |kind| world.list(&List { cluster: cluster.clone(), kind, namespace: Some(namespace.clone()) });
        let scalers = list(Kind::HorizontalPodAutoscaler)?;
        for kind in [Kind::Deployment, Kind::StatefulSet] {
            for object in list(kind)? {
                let target = |kind, name: &str| Target {
                    cluster: cluster.clone(),
                    kind,
                    namespace: Some(namespace.clone()),
                    name: name.to_owned(),
                };
                let scales = |scaler: &&Object| {
                    scaler.text("/spec/scaleTargetRef/kind") == kind.to_string()
                        && scaler.text("/spec/scaleTargetRef/name") == object.name()
                };
                found.push(Workload {
                    target: target(kind, object.name()),
                    replicas: count(object, "/spec/replicas").unwrap_or(1),
                    ready: object.observed().then(|| count(object, "/status/readyReplicas").unwrap_or(0)),
                    request: pod_request(object.at("/spec/template/spec")),
                    autoscaler: scalers.iter().find(scales).map(|scaler| Autoscaler {
                        target: target(Kind::HorizontalPodAutoscaler, scaler.name()),
                        minimum: count(scaler, "/spec/minReplicas"),
                        maximum: count(scaler, "/spec/maxReplicas").unwrap_or(u32::MAX),
                    }),
                });
            }
        }
    }
    Ok(found)
}

fn count(object: &Object, pointer: &str) -> Option<u32> {
    object.number(pointer).and_then(|number| u32::try_from(number).ok())
}

/// What a pod of this spec requests: the sum of its containers, or its largest init container if that is more.
///
/// Source: "Resource sharing within containers", Kubernetes documentation on init containers.
#[must_use]
pub fn pod_request(spec: Option<&Json>) -> Request {
    let of = |containers: &str, resource: &str| -> Vec<Quantity> {
        let list = spec.and_then(|spec| spec.get(containers)).and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let amount = |container: &Json| container.pointer("/resources/requests")?.get(resource).and_then(quantity);
        list.iter().filter_map(amount).collect()
    };
    let total = |resource: &str| {
        let sum = of("containers", resource).into_iter().fold(Quantity::default(), Quantity::plus);
        of("initContainers", resource).into_iter().fold(sum, Ord::max)
    };
    Request { cpu: total("cpu"), memory: total("memory") }
}

fn quantity(value: &Json) -> Option<Quantity> {
    match value {
        Json::String(text) => text.parse().ok(),
        Json::Number(number) => number.to_string().parse().ok(),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

/// The free room of each node of a cluster that takes new pods: ready, schedulable, without a taint that keeps pods away.
///
/// # Errors
/// Why it could not be seen.
pub fn rooms(world: &World, cluster: &ClusterUid) -> Result<BTreeMap<String, Room>, Blind> {
    let list = |kind| world.list(&List { cluster: cluster.clone(), kind, namespace: None });
    let mut rooms: BTreeMap<String, Room> = list(Kind::Node)?
        .iter()
        .filter(|node| takes_pods(node))
        .map(|node| {
            let amount = |resource: &str| {
                node.at("/status/allocatable").and_then(|all| all.get(resource)).and_then(quantity).unwrap_or_default()
            };
            let pods = amount("pods").fits(Quantity::whole(1)).unwrap_or(0);
            (node.name().to_owned(), Room { free: Request { cpu: amount("cpu"), memory: amount("memory") }, pods })
        })
        .collect();
    for pod in list(Kind::Pod)? {
        if matches!(pod.text("/status/phase"), "Succeeded" | "Failed") {
            continue;
        }
        if let Some(room) = rooms.get_mut(pod.text("/spec/nodeName")) {
            let request = pod_request(pod.at("/spec"));
            room.free = Request { cpu: room.free.cpu.less(request.cpu), memory: room.free.memory.less(request.memory) };
            room.pods -= 1;
        }
    }
    Ok(rooms)
}

fn takes_pods(node: &Object) -> bool {
    let ready = node.list("/status/conditions").iter().any(|condition| {
        condition.get("type").and_then(Json::as_str) == Some("Ready")
            && condition.get("status").and_then(Json::as_str) == Some("True")
    });
    let repels = node
        .list("/spec/taints")
        .iter()
        .any(|taint| matches!(taint.get("effect").and_then(Json::as_str), Some("NoSchedule" | "NoExecute")));
    ready && !repels && node.at("/spec/unschedulable").and_then(Json::as_bool) != Some(true)
}

/// How many pods of `request` fit into a room.
#[must_use]
pub fn fits(room: &Room, request: &Request) -> i64 {
    let by = |free: Quantity, part: Quantity| free.fits(part).unwrap_or(i64::MAX);
    by(room.free.cpu, request.cpu).min(by(room.free.memory, request.memory)).min(room.pods).max(0)
}

/// Takes `count` pods of `request` out of `rooms`, first fit; returns how many did not fit.
pub fn place(rooms: &mut BTreeMap<String, Room>, request: &Request, mut count: i64) -> i64 {
    for room in rooms.values_mut() {
        let here = fits(room, request).min(count);
        for _ in 0..here {
            room.free = Request { cpu: room.free.cpu.less(request.cpu), memory: room.free.memory.less(request.memory) };
        }
        room.pods -= here;
        count -= here;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_requests_its_containers_or_its_largest_init_container() {
        let request = |milli: &str| json!({"resources": {"requests": {"cpu": milli}}});
        let spec = json!({"containers": [request("100m"), request("200m")], "initContainers": [request("1")]});
        assert_eq!(pod_request(Some(&spec)).cpu, "1".parse().unwrap());
        assert_eq!(pod_request(None), Request::default());
    }

    #[test]
    fn pods_are_placed_where_they_fit_and_the_rest_is_counted() {
        let room = Room { free: Request { cpu: "1".parse().unwrap(), memory: Quantity::whole(1 << 30) }, pods: 10 };
        let mut rooms = BTreeMap::from([("a".to_owned(), room), ("b".to_owned(), Room { pods: 1, ..room })]);
        let request = Request { cpu: "400m".parse().unwrap(), memory: Quantity::default() };
        assert_eq!(place(&mut rooms, &request, 5), 2);
        assert_eq!(rooms["a"].pods, 8);
    }
}
