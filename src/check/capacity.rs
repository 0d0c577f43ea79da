use super::blocker;
use crate::api::{CapacityMode, Finding};
use crate::dialect::size::{Room, Workload, fits, place};
use crate::terms::RegionName;
use std::collections::BTreeMap;

const CHECK: &str = "Capacity";

/// What one region has: its workloads and the free room of its nodes.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its workloads.
    pub workloads: Vec<Workload>,
    /// The free room per node.
    pub rooms: BTreeMap<String, Room>,
}

/// How much of the leaving region's load a survivor could take, in thousandths of it, by the workload that has the least room.
///
/// `free(s)`: the least over the plan's workloads of (more pods of it that fit, up to its autoscaler's maximum) / its replicas in
/// the leaving region.
#[must_use]
pub fn free(leaving: &Site, survivor: &Site) -> u64 {
    /// A hundred times the leaving region: beyond it more room changes no decision.
    const MOST: u64 = 100_000;
    leaving
        .workloads
        .iter()
        .filter(|workload| workload.replicas > 0)
        .map(|workload| {
            let Some(there) = counterpart(survivor, workload) else { return 0 };
            let room: i64 = survivor.rooms.values().map(|room| fits(room, &there.request).min(1_000_000)).sum();
            let ceiling = there.autoscaler.as_ref().map_or(u32::MAX, |scaler| scaler.maximum);
            let more = u64::try_from(room).unwrap_or(0).min(u64::from(ceiling.saturating_sub(there.replicas)));
            (more.saturating_mul(1000) / u64::from(workload.replicas)).min(MOST)
        })
        .min()
        .unwrap_or(1000)
}

/// The workload of the same kind, namespace and name.
#[must_use]
pub fn counterpart<'a>(site: &'a Site, workload: &Workload) -> Option<&'a Workload> {
    let same = |other: &&Workload| {
        let (one, two) = (&other.target, &workload.target);
        (one.kind, &one.namespace, &one.name) == (two.kind, &two.namespace, &two.name)
    };
    site.workloads.iter().find(same)
}

/// The pods that a workload needs when it takes `part` of `whole` of what the leaving region had:
/// `ceil((own + leaving × part / whole) × (1 + margin))`. What takes over nothing needs what it has.
#[must_use]
pub fn want(own: u32, leaving: u32, part: u64, whole: u64, margin_percent: u32) -> u32 {
    if leaving == 0 || part == 0 || whole == 0 {
        return own;
    }
    let load = u128::from(own) * u128::from(whole) + u128::from(leaving) * u128::from(part);
    let pods = (load * (100 + u128::from(margin_percent))).div_ceil(u128::from(whole) * 100);
    u32::try_from(pods).unwrap_or(u32::MAX)
}

/// Whether a survivor can have what `wants` asks of each workload: in both regions, below the autoscaler's maximum, and with
/// room for all pods together.
#[must_use]
pub fn check(
    region: &RegionName,
    survivor: &Site,
    leaving: &Site,
    wants: &[(Workload, u32)],
    mode: CapacityMode,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for workload in leaving.workloads.iter().filter(|workload| workload.replicas > 0) {
        let label = workload.target.label();
        match counterpart(survivor, workload) {
            None => findings.push(blocker(
                CHECK,
                region.as_str(),
                &label,
                format!("{label} runs in the leaving region and does not exist in {region}"),
                "Deploy it there, or leave its namespace out of the plan.",
            )),
            Some(there) if there.replicas == 0 => findings.push(blocker(
                CHECK,
                region.as_str(),
                &label,
                format!("{label} is scaled to zero in {region}; an autoscaler does not start it from there"),
                "Run at least one pod of it there.",
            )),
            Some(_) => {}
        }
    }
    let mut rooms = survivor.rooms.clone();
    for (workload, want) in wants {
        let label = workload.target.label();
        if let Some(scaler) = workload.autoscaler.as_ref().filter(|scaler| *want > scaler.maximum) {
            findings.push(blocker(
                CHECK,
                region.as_str(),
                &label,
                format!("{label} in {region} needs {want} pods to take over, its autoscaler allows {}", scaler.maximum),
                "Raise maxReplicas.",
            ));
        }
        if mode == CapacityMode::StaticStability && !workload.has(*want) {
            findings.push(blocker(
                CHECK,
                region.as_str(),
                &label,
                format!("{label} in {region} has to take over and {}", workload.readiness(*want)),
                "Run them all the time (capacity.mode StaticStability), or let the drill raise them (ScaleFirst).",
            ));
        }
        let more = i64::from(want.saturating_sub(workload.replicas));
        let left = place(&mut rooms, &workload.request, more);
        if left > 0 {
            findings.push(blocker(
                CHECK,
                region.as_str(),
                &label,
                format!("{left} of {more} more pods of {label} find no room on the nodes of {region}"),
                "Add nodes, or lower what its pods request.",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_needs_its_own_load_and_its_part_with_a_margin() {
        assert_eq!(want(3, 3, 1, 2, 10), 5, "(3 + 1.5) x 1.1 = 4.95");
        assert_eq!(want(3, 3, 1, 2, 0), 5, "4.5 rounded up");
        assert_eq!(want(3, 0, 1, 2, 10), 3, "what takes over nothing needs what it has");
        assert_eq!(want(0, 4, 1, 1, 0), 4);
    }
}
