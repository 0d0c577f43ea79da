use super::contract::{Contract, Step, Work};
use super::decision::{Decision, Effect, Orders};
use super::finish::{finish, replica_sets};
use super::gate::{elapsed, judge};
use super::intent;
use super::phase::{Event, transition};
use super::step::{Stride, View, stride};
use super::stored::Stored;
use super::verdict;
use super::words::{busy_with, cut, describe, place, summary, union};
use crate::api::{
    Basis, Contention, ContractRef, Control, Direction, DrillStatus, Failback, Finding, Hold, HoldReason, Phase, Return,
    StepState, StepStatus, Verdict, Why,
};
use crate::claim::{Change, Conflict};
use crate::dialect::size;
use crate::terms::{Kind, Target, Term, Timestamp};
use crate::world::{List, Needs, World};
use chrono::TimeDelta;
use std::collections::{BTreeMap, BTreeSet};

/// How often an acting drill looks again: what a gate's abort may lose on top of the gate's own interval is this and one look.
const TICK: TimeDelta = TimeDelta::milliseconds(500);
/// How long a drill that only soaks may go without a look, however slow its gates are.
const SOAKING: TimeDelta = TimeDelta::seconds(5);
/// What was not looked at for so long was not seen to be green, nor users to follow.
const UNWATCHED: TimeDelta = TimeDelta::seconds(15);
/// How often the time of the last look is stored when nothing else changes.
const LOOKED: TimeDelta = TimeDelta::seconds(5);

/// What the next decision about an acting drill has to look at.
#[must_use]
pub fn needs(contract: &Contract, stored: &Stored, progress: &DrillStatus) -> Needs {
    let mut needs = Needs::default();
    needs.objects.insert(Stored::lock(&stored.namespace, &contract.hub));
    needs.objects.extend(contract.copies().iter().map(|cluster| stored.copy(cluster)));
    if progress.phase == Phase::Checking {
        needs.lists.insert(Stored::drills(&contract.hub));
    }
    for cluster in contract.regions.values() {
        needs.lists.extend(size::lists(cluster, &contract.namespaces, false));
        if progress.phase == Phase::Returning {
            needs.lists.extend(replica_sets(contract, cluster));
        }
    }
    for step in &contract.steps {
        match &step.work {
            Work::Headroom(_) => {}
            Work::Singletons(led) => needs.objects.extend(led.iter().map(|led| led.target.clone())),
            Work::Cordon(nodes) => needs.lists.extend(nodes.iter().map(|node| List {
                cluster: node.cluster.clone(),
                kind: Kind::Node,
                namespace: None,
            })),
            Work::Traffic(traffic) => {
                for route in &traffic.routes {
                    needs.objects.insert(route.target.clone());
                    needs.queries.extend(route.confirm.iter().flat_map(|c| contract.request_queries(c)).map(|(_, query)| query));
                }
            }
        }
    }
    needs.queries.extend(contract.gates.iter().flat_map(|gate| contract.gate_queries(gate)).map(|(_, query)| query));
    needs
}

/// A drill that is not run, and why.
#[must_use]
pub fn refuse(progress: &DrillStatus, orders: &Orders, findings: Vec<Finding>, now: Timestamp) -> DrillStatus {
    let mut next = progress.clone();
    next.findings = findings;
    if let Ok(phase) = transition(progress.phase, Event::Refused) {
        enter(&mut next, phase, now);
    }
    next.verdict = Some(Verdict::Refused);
    next.reasons = next.findings.iter().take(16).map(|finding| cut(&finding.message)).collect();
    next.message = format!("refused: {}", next.reasons.first().map_or("", String::as_str));
    verdict::conditions(&mut next, orders.generation, now);
    next
}

/// A drill whose contract is there no more, or cannot be read: nothing is done, and it says so.
#[must_use]
pub fn unusable(progress: &DrillStatus, orders: &Orders, stored: &ContractRef, why: &str, now: Timestamp) -> DrillStatus {
    let message = cut(&format!(
        "ConfigMap {} in the operator's namespace, on the hub or in any region, does not give the contract: {why}; put it back (every copy \
         is the same), or remove the drill's finalizer and see that nothing is left",
        stored.config_map
    ));
    let mut next = progress.clone();
    let since = progress.hold.as_ref().filter(|hold| hold.reason == HoldReason::ContractLost).map_or(now, |hold| hold.since);
    next.message.clone_from(&message);
    next.hold = Some(Hold { reason: HoldReason::ContractLost, message, since });
    verdict::conditions(&mut next, orders.generation, now);
    next
}

/// What follows from the world for an acting drill. `refusals` are what API servers did not take last, and why.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "all that a decision may know, each by its name")]
pub fn decide(
    contract: &Contract,
    stored: &Stored,
    orders: &Orders,
    progress: &DrillStatus,
    world: &World,
    refusals: &BTreeMap<Target, String>,
    now: Timestamp,
    term: Term,
) -> Decision<DrillStatus> {
    let mut next = progress.clone();
    next.format = 1;
    watched(&mut next, now);
    next.term = term.0;
    next.debts.clear();
    let unsettled = intent::settle(&mut next.open, world);
    let (streaks, signal) = judge(contract, &progress.streaks, world, now);
    next.streaks = streaks;
    if signal.green() {
        next.times.green.get_or_insert(now);
    } else {
        next.times.green = None;
    }

    let is_blind = contract.regions.values().any(|uid| world.blind(uid).is_some());
    next.times.blind = is_blind.then(|| next.times.blind.unwrap_or(now));

    let closed = contract.copies().into_iter().map(|cluster| stored.copy(&cluster)).find(|copy| world.object(copy) == Ok(None));
    if let Some((way, why, message)) = asked_back(contract, orders, &next, signal.abort.as_ref(), closed.as_ref(), now) {
        go_back(&mut next, way, why, &message, now);
    }
    let mut effects = Vec::new();
    let mut hold = None;
    let mut foreign: BTreeSet<Conflict> = BTreeSet::new();
    // An abort and a step back work while paused.
    let paused = orders.control == Control::Pause && next.way_back != Some(Return::Abort) && signal.step_back.is_none();
    match next.phase {
        Phase::Checking => {
            effects = match begin(contract, stored, orders, world, &mut next, &mut hold, now) {
                Ok(effects) => effects,
                Err(busy) => {
                    let progress = refuse(progress, orders, vec![busy_with(&busy)], now);
                    return Decision { progress, effects: Vec::new(), wake: Some(now) };
                }
            };
        }
        Phase::Evacuating | Phase::Evacuated | Phase::Returning if paused => {
            hold = Some((HoldReason::Paused, "a person set control: Pause".to_owned()));
            unconfirm(&mut next);
        }
        // What was never begun has no way back.
        Phase::Returning if next.times.evacuating.is_none() => {}
        Phase::Evacuating | Phase::Evacuated | Phase::Returning => {
            let strides = walk(contract, &mut next, &signal, world, now, term);
            foreign.extend(strides.iter().flat_map(|stride| stride.conflicts.iter().cloned()));
            let contended = !foreign.is_empty() && next.phase != Phase::Returning;
            if contended && contract.limits.contention == Contention::Abort {
                let first = foreign.first().map(describe).unwrap_or_default();
                go_back(&mut next, Return::Abort, Why::Contention, &first, now);
                // What was to be written outwards is not; the next look begins the way back.
            } else {
                // What a person must see to comes before what only waits.
                let holds = strides.iter().filter_map(|stride| stride.hold.clone());
                hold = holds.min_by_key(|(reason, _)| *reason != HoldReason::NeedsHuman);
                if contended {
                    hold = foreign.first().map(|conflict| (HoldReason::Contention, describe(conflict)));
                }
                effects.extend(strides.iter().flat_map(|stride| stride.writes.iter().cloned()).map(Effect::Write));
            }
            if hold.is_none() && matches!(next.phase, Phase::Evacuating | Phase::Evacuated) {
                hold.clone_from(&signal.hold);
            }
            measure(contract, &mut next, &strides, now);
            let debts: BTreeSet<String> =
                strides.iter().flat_map(|stride| &stride.debts).map(|target| place(contract, target)).collect();
            next.debts = debts.into_iter().take(128).collect();
        }
        Phase::Pending | Phase::Done => {}
    }
    if next.phase == Phase::Evacuating && all(&next, contract, Direction::Out) {
        advance(&mut next, Event::AllOut, now);
    }
    if next.phase == Phase::Returning && !paused {
        next.conflicts = union(&next.conflicts, foreign.iter().map(describe));
        finish(contract, stored, world, &mut next, &mut effects, &mut hold, now);
    }
    intent::stamps(&contract.drill, &unsettled, &mut effects, world, term, |target| contract.taken_of(target).to_vec());
    intent::fit(&mut effects, next.open.len());
    if let (Some((target, message)), None) = (intent::refused(effects.iter().filter_map(Effect::target), refusals), &hold) {
        hold = Some((HoldReason::WriteRefused, format!("{} is not taken: {message}", place(contract, target))));
    }
    intent::keep(&mut next.open, &effects);
    next.hold = hold.map(|(reason, message)| {
        let since = progress.hold.as_ref().filter(|before| before.reason == reason).map_or(now, |before| before.since);
        Hold { reason, message: message.chars().take(1024).collect(), since }
    });
    if next.contract.is_some() {
        next.message = summary(contract, &next);
    }
    verdict::conditions(&mut next, orders.generation, now);
    let wake = (next.phase != Phase::Done).then(|| now + pause(contract, &next));
    Decision { progress: next, effects, wake }
}

fn asked_back(
    contract: &Contract,
    orders: &Orders,
    next: &DrillStatus,
    gate: Option<&String>,
    closed: Option<&Target>,
    now: Timestamp,
) -> Option<(Return, Why, String)> {
    if next.phase == Phase::Done || next.way_back == Some(Return::Abort) {
        return None;
    }
    let acting = matches!(next.phase, Phase::Evacuating | Phase::Evacuated);
    let deadline = contract.limits.ends();
    if orders.deleted {
        Some((Return::Abort, Why::Deleted, "the drill was deleted".to_owned()))
    } else if orders.control == Control::Abort {
        Some((Return::Abort, Why::Person, "a person set control: Abort".to_owned()))
    } else if now >= deadline {
        Some((Return::Abort, Why::Deadline, format!("its deadline of {} passed", verdict::go_duration(contract.limits.deadline))))
    } else if let (Some(copy), true) = (closed, acting) {
        // Nothing is written in a cluster that does not hold the contract: who takes it away there ends the drill.
        let message = format!("the contract's copy was removed: {}", place(contract, copy));
        Some((Return::Abort, Why::Person, message))
    } else if let (Some(message), true) = (gate, acting) {
        Some((Return::Abort, Why::Gate, message.clone()))
    } else if orders.control == Control::Failback && acting {
        Some((Return::Failback, Why::Person, "a person set control: Failback".to_owned()))
    } else if next.phase == Phase::Evacuated && contract.limits.failback == Failback::AfterSoak && soaked(contract, next, now) {
        Some((Return::Failback, Why::SoakOver, format!("soaked for {}", verdict::go_duration(contract.limits.soak))))
    } else {
        None
    }
}

fn soaked(contract: &Contract, next: &DrillStatus, now: Timestamp) -> bool {
    match (next.times.healthy, next.times.evacuated) {
        (Some(healthy), Some(evacuated)) => elapsed(healthy.max(evacuated), now) >= contract.limits.soak,
        _ => false,
    }
}

fn go_back(next: &mut DrillStatus, way: Return, why: Why, message: &str, now: Timestamp) {
    next.way_back = Some(way);
    next.why = Some(why);
    next.why_message = message.chars().take(1024).collect();
    next.times.returning.get_or_insert(now);
    if next.phase != Phase::Returning {
        advance(next, Event::ReturnAsked, now);
    }
}

pub(super) fn advance(next: &mut DrillStatus, event: Event, now: Timestamp) {
    // An event is raised only in a phase that knows it; the machine's own tests hold the list.
    if let Ok(phase) = transition(next.phase, event) {
        enter(next, phase, now);
    }
}

fn enter(next: &mut DrillStatus, phase: Phase, now: Timestamp) {
    next.phase = phase;
    next.since = Some(now);
    match phase {
        Phase::Evacuating => next.times.evacuating = Some(now),
        Phase::Evacuated => next.times.evacuated = Some(now),
        Phase::Done => next.times.done = Some(now),
        Phase::Pending | Phase::Checking | Phase::Returning => {}
    }
}

/// What stood unwatched was not observed: the counts that need an unbroken watch begin anew.
fn watched(next: &mut DrillStatus, now: Timestamp) {
    if next.times.looked.is_some_and(|last| now - last > UNWATCHED) {
        next.times.green = None;
        unconfirm(next);
    }
    if next.times.looked.is_none_or(|last| now - last >= LOOKED) {
        next.times.looked = Some(now);
    }
}

/// That users follow a level is to be seen anew.
fn unconfirm(next: &mut DrillStatus) {
    for level in next.steps.iter_mut().filter_map(|step| step.level.as_mut()) {
        level.confirmed = None;
    }
}

/// How long until the next look: a drill that only soaks need not look more often than its fastest gate is measured.
fn pause(contract: &Contract, next: &DrillStatus) -> TimeDelta {
    let soaks = next.phase == Phase::Evacuated && next.hold.is_none() && next.times.healthy.is_some();
    if !soaks {
        return TICK;
    }
    let fastest = contract.gates.iter().map(super::gate::interval).min().unwrap_or_default();
    TimeDelta::from_std(fastest / 2).unwrap_or(SOAKING).clamp(TICK, SOAKING)
}

/// Before the first write: what must stand is put up, or, if the fleet has changed since the checks, taken away to check anew.
///
/// # Errors
/// The name of the drill that acts just now.
fn begin(
    contract: &Contract,
    stored: &Stored,
    orders: &Orders,
    world: &World,
    next: &mut DrillStatus,
    hold: &mut Option<(HoldReason, String)>,
    now: Timestamp,
) -> Result<Vec<Effect>, String> {
    if let Some(changed) = changed(contract, world) {
        let copies: Vec<Target> = contract.copies().iter().map(|cluster| stored.copy(cluster)).collect();
        if let Some((copy, blind)) = copies.iter().find_map(|copy| Some((copy, world.object(copy).err()?))) {
            let message =
                format!("{changed} changed since the checks; the contract's copy in {}: {blind}", place(contract, copy));
            *hold = Some((HoldReason::RegionBlind, message));
        } else if copies.iter().all(|copy| world.object(copy) == Ok(None)) {
            next.message = format!("{changed} changed since the checks; checked anew");
            next.contract = None;
        }
        return Ok(stored.take_down(contract, world));
    }
    let effects = stored.put_up(contract, orders, world, hold)?;
    if effects.is_empty() && hold.is_none() {
        advance(next, Event::Ready, now);
    }
    Ok(effects)
}

/// An object that is not any more as the contract's baseline has it; asked before the first write, so whoever did it may.
fn changed(contract: &Contract, world: &World) -> Option<String> {
    contract.steps.iter().flat_map(|step| contract.changes(step, 0, 0)).find_map(|(target, changes)| {
        let as_it_was = match world.object(&target) {
            Err(_) => true,
            Ok(None) => false,
            Ok(Some(object)) => {
                let stands = |change: &Change| change.spot.find(object.json()).is_ok_and(|found| found.value == change.was);
                contract.uids.get(&target).is_none_or(|uid| uid == object.uid()) && changes.iter().all(stands)
            }
        };
        (!as_it_was).then(|| place(contract, &target))
    })
}

/// Every step whose turn it is takes one stride.
fn walk(
    contract: &Contract,
    next: &mut DrillStatus,
    signal: &super::gate::Signal,
    world: &World,
    now: Timestamp,
    term: Term,
) -> Vec<Stride> {
    let direction = if next.phase == Phase::Returning { Direction::Back } else { Direction::Out };
    let view = View { contract, world, now, term, direction, quick: next.way_back == Some(Return::Abort), signal };
    let done: BTreeSet<&str> = next
        .steps
        .iter()
        .filter(|step| step.direction == direction && step.state == StepState::Done)
        .map(|step| step.name.as_str())
        .collect();
    let turn = |step: &Step| {
        // An abort leads users back at once: the region's Ready pods carry them, whether or not its nodes take new ones yet.
        if view.quick && matches!(step.work, Work::Traffic(_)) {
            return true;
        }
        let before = if direction == Direction::Out { &step.after } else { &step.after_back };
        before.iter().all(|name| done.contains(name.as_str()))
    };
    let mut statuses: BTreeMap<String, StepStatus> = next.steps.iter().map(|step| (step.name.clone(), step.clone())).collect();
    let mut strides = Vec::new();
    for step in &contract.steps {
        let fresh = || StepStatus {
            name: step.name.clone(),
            direction,
            state: StepState::Waiting,
            message: String::new(),
            level: None,
            done: None,
        };
        let before = statuses.remove(&step.name).unwrap_or_else(fresh);
        if turn(step) {
            let mut taken = stride(step, &before, &view);
            taken.status.message = taken.status.message.chars().take(1024).collect();
            strides.push(taken);
            statuses.extend(strides.last().map(|stride| (step.name.clone(), stride.status.clone())));
        } else {
            statuses.insert(step.name.clone(), before);
        }
    }
    next.steps = contract.steps.iter().filter_map(|step| statuses.remove(&step.name)).collect();
    strides
}

pub(super) fn all(next: &DrillStatus, contract: &Contract, direction: Direction) -> bool {
    next.steps.len() == contract.steps.len()
        && next.steps.iter().all(|step| step.direction == direction && step.state == StepState::Done)
}

/// Health: the first instant after which all gates stayed green for `stableFor` and the region had no request over two windows.
fn measure(contract: &Contract, next: &mut DrillStatus, strides: &[Stride], now: Timestamp) {
    let fewest = strides.iter().filter_map(|stride| stride.requests).min();
    next.fewest_requests = match (next.fewest_requests, fewest) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    };
    if next.times.healthy.is_some() || !matches!(next.phase, Phase::Evacuating | Phase::Evacuated) {
        return;
    }
    let Some((since, basis)) = strides.iter().find_map(|stride| stride.quiet) else { return };
    next.basis = Some(basis);
    // One holder for every singleton belongs to health.
    let mut handed = contract.steps.iter().filter(|step| matches!(step.work, Work::Singletons(_))).map(|step| {
        let status = next.steps.iter().find(|status| status.name == step.name);
        status
            .filter(|status| status.direction == Direction::Out && status.state == StepState::Done)
            .and_then(|status| status.done)
    });
    let Some(since) = handed.try_fold(since, |since, done| Some(since.max(done?))) else { return };
    let Some(green) = next.times.green else { return };
    // The reading at `since` looks back over one window; the second one must have passed as quietly.
    let window = contract
        .steps
        .iter()
        .filter_map(|step| if let Work::Traffic(traffic) = &step.work { Some(traffic) } else { None })
        .flat_map(|traffic| &traffic.routes)
        .map(|route| route.confirm.as_ref().map_or(route.convergence, |confirm| confirm.window))
        .max()
        .unwrap_or_default();
    let quiet_enough = basis == Basis::Assumed || elapsed(since, now) >= window;
    if quiet_enough && elapsed(green, now) >= contract.limits.stable_for {
        next.times.healthy = Some(since.max(green));
        next.time_to_healthy = Some(verdict::go_duration(elapsed(contract.limits.declared, since.max(green))));
    }
}
