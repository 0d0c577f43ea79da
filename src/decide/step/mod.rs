//! The steps: one file each with one function that serves both ways. It computes where the world should be and emits the
//! difference; done = the world shows it.

mod cordon;
mod headroom;
mod singletons;
mod traffic;

use super::contract::{Contract, Step, Work};
use super::gate::Signal;
use crate::api::{Basis, Direction, HoldReason, StepState, StepStatus};
use crate::claim::{self, Change, Conflict, Refusal, Write};
use crate::dialect::size;
use crate::terms::{Json, Kind, Object, RegionName, Spot, Target, Term, Timestamp};
use crate::world::{Blind, World};

/// What a step may know.
pub(super) struct View<'a> {
    pub contract: &'a Contract,
    pub world: &'a World,
    pub now: Timestamp,
    pub term: Term,
    pub direction: Direction,
    /// The way back is an abort: at once, no gates, no holds.
    pub quick: bool,
    pub signal: &'a Signal,
}

/// What one step says in one activation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stride {
    pub status: StepStatus,
    pub writes: Vec<Write>,
    /// Somebody else's hand.
    pub conflicts: Vec<Conflict>,
    /// Why it does not move on.
    pub hold: Option<(HoldReason, String)>,
    /// What cannot be done because its cluster cannot be seen.
    pub debts: Vec<Target>,
    /// Of a traffic step that is out: since when no user reached the region, and on what evidence.
    pub quiet: Option<(Timestamp, Basis)>,
    /// The fewest requests that confirmed a share in this activation.
    pub requests: Option<u64>,
}

/// One step's stride.
pub(super) fn stride(step: &Step, before: &StepStatus, view: &View<'_>) -> Stride {
    match &step.work {
        Work::Headroom(_) => headroom::stride(step, before, view),
        Work::Cordon(_) => cordon::stride(step, before, view),
        Work::Traffic(traffic) => traffic::stride(step, traffic, before, view),
        Work::Singletons(led) => singletons::stride(led, before, view),
    }
}

/// How one object stands to what is wanted of it.
enum Put {
    /// As wanted.
    There,
    /// Not yet.
    Write(Write),
    /// Somebody else's hand is on it.
    Foreign(Vec<Conflict>),
    /// It cannot be written.
    Refused(String),
    /// It cannot be seen.
    Blind(Blind),
}

impl Stride {
    fn new(before: &StepStatus, direction: Direction) -> Self {
        let mut status = before.clone();
        if status.direction != direction {
            status.direction = direction;
            status.done = None;
        }
        status.state = StepState::Moving;
        status.message.clear();
        Self { status, writes: Vec::new(), conflicts: Vec::new(), hold: None, debts: Vec::new(), quiet: None, requests: None }
    }

    fn wait(mut self, reason: HoldReason, message: String) -> Self {
        self.status.message.clone_from(&message);
        self.hold.get_or_insert((reason, message));
        self
    }

    fn done(mut self, now: Timestamp) -> Self {
        self.status.state = StepState::Done;
        self.status.done.get_or_insert(now);
        self
    }

    fn unseen(&mut self, target: &Target) {
        self.debts.push(target.clone());
    }
}

impl View<'_> {
    /// The object behind a target, if it is the one that the contract was made for.
    fn object(&self, target: &Target, ours: &[Change]) -> Result<Result<&Object, Vec<Conflict>>, Blind> {
        let conflict = |found: &str| {
            vec![Conflict {
                target: target.clone(),
                spot: "metadata.uid".into(),
                found: found.into(),
                was: self.contract.uids.get(target).cloned().unwrap_or_default(),
                ours: ours.first().map(|change| change.spot.to_string()).unwrap_or_default(),
            }]
        };
        Ok(match self.world.object(target)? {
            // A node that is gone takes no pods and has no taint to take away: autoscalers remove nodes.
            None if target.kind == Kind::Node => return Ok(Err(Vec::new())),
            None => Err(conflict("")),
            Some(object) if self.contract.uids.get(target).is_some_and(|uid| uid != object.uid()) => Err(conflict(object.uid())),
            Some(object) => Ok(object),
        })
    }

    /// What it takes to bring an object to `changes`.
    fn out(&self, target: &Target, changes: &[Change]) -> Put {
        let taken = self.contract.taken_of(target);
        match self.object(target, changes) {
            Err(blind) => Put::Blind(blind),
            Ok(Err(conflicts)) if conflicts.is_empty() => Put::There,
            Ok(Err(conflicts)) => Put::Foreign(conflicts),
            Ok(Ok(object)) => match claim::write(object, target, &self.contract.drill, self.term, changes, taken) {
                Ok(None) => Put::There,
                Ok(Some(write)) => Put::Write(write),
                Err(Refusal::Foreign(conflicts)) => Put::Foreign(conflicts),
                Err(refusal) => Put::Refused(refusal.to_string()),
            },
        }
    }

    /// What it takes to take `changes` back, claim and field ownership included, and what others have changed meanwhile.
    fn back(&self, target: &Target, changes: &[Change]) -> (Put, Vec<Conflict>) {
        let taken = self.contract.taken_of(target);
        let drill = &self.contract.drill;
        let refused = |refusal: &Refusal| Put::Refused(refusal.to_string());
        match self.object(target, changes) {
            Err(blind) => (Put::Blind(blind), Vec::new()),
            Ok(Err(conflicts)) => (Put::There, conflicts),
            Ok(Ok(object)) => match claim::undo(object, target, drill, self.term, changes, taken) {
                Err(refusal) => (refused(&refusal), Vec::new()),
                Ok(outcome) => match outcome.write {
                    Some(write) => (Put::Write(write), outcome.conflicts),
                    None => match claim::release(object, target, drill) {
                        Ok(Some(write)) => (Put::Write(write), outcome.conflicts),
                        // A copy of a claim, or its label alone, which somebody else's hand has left.
                        Ok(None) => match claim::strip_dead(object, target) {
                            Ok(Some(write)) => (Put::Write(write), outcome.conflicts),
                            Ok(None) => (Put::There, outcome.conflicts),
                            Err(refusal) => (refused(&refusal), outcome.conflicts),
                        },
                        Err(refusal) => (refused(&refusal), outcome.conflicts),
                    },
                },
            },
        }
    }

    /// Whether a value of an object is not as wanted: a write to it is of more than a claim.
    fn differs<'c>(&self, target: &Target, mut wanted: impl Iterator<Item = (&'c Spot, &'c Option<Json>)>) -> bool {
        let Ok(Some(object)) = self.world.object(target) else { return false };
        wanted.any(|(spot, value)| spot.find(object.json()).is_ok_and(|found| found.value != *value))
    }

    /// Whether every survivor can be seen and has the Ready pods that `moved` percent of the load need; why not.
    fn survivors_ready(&self, moved: u32) -> Result<(), (HoldReason, String)> {
        for (region, cluster) in self.contract.survivors() {
            if let Some(blind) = self.world.blind(cluster) {
                return Err((HoldReason::RegionBlind, format!("{region} {blind}; nothing is raised towards it")));
            }
            let want = |replicas: &super::Replicas| {
                let more = u64::from(replicas.want.saturating_sub(replicas.base)) * u64::from(moved);
                replicas.base.saturating_add(u32::try_from(more.div_ceil(100)).unwrap_or(u32::MAX))
            };
            match carries(self.contract, self.world, region, want) {
                Ok((100, _)) => {}
                Ok((_, short)) => return Err((HoldReason::CapacityNotReady, short)),
                Err(blind) => return Err((HoldReason::RegionBlind, format!("{region} {blind}"))),
            }
        }
        Ok(())
    }
}

/// The share of the baseline (in percent, at most 100) that a region's Ready pods carry of what `wanted` asks, and who has least.
///
/// # Errors
/// Why the region could not be seen.
pub(super) fn carries(
    contract: &Contract,
    world: &World,
    region: &RegionName,
    wanted: impl Fn(&super::Replicas) -> u32,
) -> Result<(u32, String), Blind> {
    let Some(cluster) = contract.regions.get(region) else { return Err(Blind::Unasked) };
    let there = size::workloads(world, cluster, &contract.namespaces)?;
    let mut least = (100, String::new());
    for replicas in contract.replicas.get(region).map_or(&[][..], Vec::as_slice) {
        let want = wanted(replicas);
        let workload = there.iter().find(|workload| workload.target == replicas.target);
        let ready = workload.and_then(|workload| workload.ready).unwrap_or(0);
        let percent = if want == 0 { 100 } else { (u64::from(ready) * 100 / u64::from(want)).min(100) };
        let percent = u32::try_from(percent).unwrap_or(100);
        if percent < least.0 {
            let readiness = workload.map_or_else(|| "does not exist".to_owned(), |workload| workload.readiness(want));
            least = (percent, format!("{} in {region} {readiness}", replicas.target.label()));
        }
    }
    Ok(least)
}

/// A step whose objects are independent of each other and know no levels.
fn plain(step: &Step, before: &StepStatus, view: &View<'_>) -> (Stride, bool) {
    let mut stride = Stride::new(before, view.direction);
    let mut pending = 0_usize;
    for (target, changes) in view.contract.changes(step, 100, 100) {
        let region = view.contract.region_of(&target.cluster);
        let (put, conflicts) = match view.direction {
            Direction::Out => (view.out(&target, &changes), Vec::new()),
            Direction::Back => view.back(&target, &changes),
        };
        stride.conflicts.extend(conflicts);
        match put {
            Put::There => {}
            Put::Write(write) => {
                pending += 1;
                stride.writes.push(write);
            }
            Put::Foreign(conflicts) => stride.conflicts.extend(conflicts),
            Put::Refused(message) => {
                pending += 1;
                stride = stride.wait(HoldReason::WriteRefused, format!("{}: {message}", target.label()));
            }
            // What is in the leaving region is its own affair while it is out: it must not keep traffic there.
            Put::Blind(_) if view.direction == Direction::Out && region == Some(&view.contract.leaving) => stride.unseen(&target),
            Put::Blind(blind) => {
                pending += 1;
                stride.unseen(&target);
                let place = region.map_or("the hub", RegionName::as_str);
                let reason = if view.direction == Direction::Out { HoldReason::RegionBlind } else { HoldReason::Unreachable };
                stride = stride.wait(reason, format!("{} in {place} {blind}", target.label()));
            }
        }
    }
    if pending > 0 && stride.status.message.is_empty() {
        stride.status.message = format!("{pending} objects to write");
    }
    (stride, pending == 0)
}
