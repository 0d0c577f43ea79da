//! A route: the shares that its weights make.

use super::{Error, Key, Operator};
use crate::api::{RegionShare, Status, TrafficRoute, TrafficRouteStatus, set};
use crate::observe::observe;
use crate::terms::{ClusterUid, Json, Kind, Object, Target, Timestamp};
use crate::world::Needs;
use chrono::TimeDelta;
use std::collections::BTreeMap;

/// How often a route is looked at.
const LOOK: TimeDelta = TimeDelta::seconds(5);

pub(super) async fn activate(operator: &Operator, key: &Key) -> Result<Option<Timestamp>, Error> {
    let Some(seen) = operator.store.get(key) else { return Ok(None) };
    let route: TrafficRoute = seen.parse().map_err(|error| Error::Malformed(format!("TrafficRoute {}", key.name), error))?;
    let before = route.status.clone().unwrap_or_default();
    let generation = route.metadata.generation.unwrap_or(0);
    let mut next = TrafficRouteStatus { observed_generation: generation, ..before.clone() };
    let (status, reason, message) = match cluster(operator, &route)? {
        Err(message) => (Status::False, "RegionUnknown", message),
        Ok(cluster) => {
            let target = Target {
                cluster,
                kind: Kind::HTTPRoute,
                namespace: key.namespace.clone(),
                name: route.spec.http_route.name.clone(),
            };
            let needs = Needs { objects: [target.clone()].into(), ..Needs::default() };
            let world = observe(&operator.fleet, &operator.seam, &needs).await;
            match world.object(&target) {
                Ok(Some(object)) => {
                    next.shares = shares(object, &route);
                    next.summary = next
                        .shares
                        .iter()
                        .map(|s| format!("{} {} %", s.region, s.desired_percent))
                        .collect::<Vec<_>>()
                        .join(", ");
                    (Status::True, "Ready", "its HTTPRoute was read".to_owned())
                }
                Ok(None) => (Status::False, "RouteMissing", format!("{} does not exist", target.label())),
                Err(blind) => (Status::Unknown, "RouteUnseen", format!("{} {blind}", target.label())),
            }
        }
    };
    let now = operator.seam.clock.now();
    set(&mut next.conditions, "Ready", status, reason, &message, generation, now);
    if next != before {
        operator.commit(Kind::TrafficRoute, &seen, &next).await?;
    }
    Ok(Some(now + LOOK))
}

fn cluster(operator: &Operator, route: &TrafficRoute) -> Result<Result<ClusterUid, String>, Error> {
    let Some(name) = &route.spec.cluster else { return Ok(Ok(operator.hub()?)) };
    let regions = operator.store.regions();
    let region = regions.iter().find(|region| region.metadata.name.as_ref() == Some(name));
    let uid = region.and_then(|region| region.status.as_ref()).and_then(|status| status.cluster_uid.clone());
    Ok(uid.map(ClusterUid).ok_or_else(|| format!("there is no ready Region {name}: correct spec.cluster")))
}

/// The regions' shares by the weights of the route's first rule that has any of its backends, in whole percent.
fn shares(object: &Object, route: &TrafficRoute) -> Vec<RegionShare> {
    let region_of =
        |name: &str| route.spec.backends.iter().find(|backend| backend.name == name).map(|backend| backend.region.clone());
    let mut weights: BTreeMap<String, u64> = BTreeMap::new();
    for rule in object.list("/spec/rules") {
        let references = rule.get("backendRefs").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        for reference in references {
            let weight = reference.get("weight").and_then(Json::as_u64).unwrap_or(1);
            if let Some(region) = reference.get("name").and_then(Json::as_str).and_then(region_of) {
                *weights.entry(region).or_default() += weight;
            }
        }
        if !weights.is_empty() {
            break;
        }
    }
    let total: u64 = weights.values().sum::<u64>().max(1);
    weights
        .into_iter()
        .map(|(region, weight)| RegionShare {
            region,
            desired_percent: u32::try_from((weight * 100 + total / 2) / total).unwrap_or(100),
        })
        .collect()
}
