//! A plan: does everything that it names exist?

use super::{Error, Key, Operator};
use crate::api::{EvacuationPlan, EvacuationPlanStatus, Status, set};
use crate::terms::{Kind, Timestamp};
use chrono::TimeDelta;

/// How often a plan is looked at.
const LOOK: TimeDelta = TimeDelta::seconds(10);

pub(super) async fn activate(operator: &Operator, key: &Key) -> Result<Option<Timestamp>, Error> {
    let Some(seen) = operator.store.get(key) else { return Ok(None) };
    let plan: EvacuationPlan = seen.parse().map_err(|error| Error::Malformed(format!("EvacuationPlan {}", key.name), error))?;
    let now = operator.seam.clock.now();
    let generation = plan.metadata.generation.unwrap_or(0);
    let before = plan.status.clone().unwrap_or_default();
    let (status, reason, message) = judge(operator, &plan);
    let mut next = EvacuationPlanStatus { observed_generation: generation, ..before.clone() };
    set(&mut next.conditions, "Ready", status, reason, &message, generation, now);
    if next != before {
        operator.commit(Kind::EvacuationPlan, &seen, &next).await?;
    }
    Ok(Some(now + LOOK))
}

fn judge(operator: &Operator, plan: &EvacuationPlan) -> (Status, &'static str, String) {
    let regions = operator.store.regions();
    for name in &plan.spec.regions {
        let Some(region) = regions.iter().find(|region| region.metadata.name.as_deref() == Some(name)) else {
            return (Status::False, "RegionMissing", format!("there is no Region {name}: create it, or correct spec.regions"));
        };
        let ready =
            region.status.as_ref().and_then(|status| status.conditions.iter().find(|condition| condition.kind == "Ready"));
        match ready {
            Some(condition) if condition.status == Status::True => {}
            Some(condition) => return (Status::False, "RegionNotReady", format!("region {name}: {}", condition.message)),
            None => return (Status::Unknown, "RegionNotReady", format!("region {name} has not been looked at yet")),
        }
    }
    let routes = operator.store.routes();
    let of_plan = |namespace: Option<&String>| namespace.is_some_and(|namespace| plan.spec.namespaces.contains(namespace));
    let count = routes.iter().filter(|route| of_plan(route.metadata.namespace.as_ref())).count();
    if count == 0 {
        let namespaces = plan.spec.namespaces.join(", ");
        return (
            Status::False,
            "NoRoutes",
            format!("no TrafficRoute in {namespaces}: create one for each route that users come by"),
        );
    }
    (
        Status::True,
        "Ready",
        format!("{} regions, {count} routes; run a Drill of mode Check for what would go wrong", plan.spec.regions.len()),
    )
}
