//! Traffic: users are led elsewhere in levels, each held until observation agrees and gates are green. All routes of a level are
//! written and confirmed before any starts the next.

use super::{Put, Stride, View, carries};
use crate::api::{Basis, Direction, HoldReason, Level, StepStatus};
use crate::decide::contract::{Route, Step, Traffic};
use crate::decide::gate::elapsed;
use crate::terms::RegionName;
use crate::world::{Blind, Reading};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the observed requests of one route say about a level.
enum Agreement {
    /// Users follow the weights: so many requests in the window.
    Yes(u64),
    /// Nothing sees the requests, or too few came to tell.
    Assumed(Option<u64>),
    /// They do not.
    No(String),
}

/// Why a level is not left.
enum Disagreement {
    /// What was written needs its time to be seen.
    Yet(String),
    /// Users do not follow.
    No(String),
}

impl Disagreement {
    fn told(self, mut stride: Stride) -> Stride {
        match self {
            Self::Yet(message) => {
                stride.status.message = message;
                stride
            }
            Self::No(message) => stride.wait(HoldReason::NotConfirmed, message),
        }
    }
}

pub(super) fn stride(step: &Step, traffic: &Traffic, before: &StepStatus, view: &View<'_>) -> Stride {
    let mut stride = Stride::new(before, view.direction);
    let start = Level { moved_percent: 0, from_percent: 0, green_percent: 0, standing: None, confirmed: None, basis: None };
    let mut level = before.level.unwrap_or(start);
    if view.direction == Direction::Back && before.direction == Direction::Out {
        level.confirmed = None;
    }
    stride.status.level = Some(level);
    match view.direction {
        Direction::Out => out(step, traffic, level, stride, view),
        Direction::Back => back(step, traffic, level, stride, view),
    }
}

fn out(step: &Step, traffic: &Traffic, mut level: Level, mut stride: Stride, view: &View<'_>) -> Stride {
    if let (Some(reason), true) = (&view.signal.step_back, level.green_percent < level.moved_percent) {
        // Never more than the leaving region's Ready pods carry, and more as they become Ready.
        let ready = carries(view.contract, view.world, &view.contract.leaving, |replicas| replicas.base);
        let (ready, short) = ready.unwrap_or((100, String::new()));
        let next = level.green_percent.max(100 - ready);
        if next >= level.moved_percent {
            // What was begun on the way to here goes on, what was begun outwards does not.
            let stride = if level.moved_percent < level.from_percent { drive(step, level, stride, view) } else { stride };
            return stride.wait(HoldReason::CapacityNotReady, short);
        }
        level = moved(level, next);
        stride.status.message = format!("back to the last green level: {reason}");
        return drive(step, level, stride, view);
    }
    stride = drive(step, level, stride, view);
    if !stride.conflicts.is_empty() || stride.hold.is_some() || !stride.writes.is_empty() {
        return stride;
    }
    let standing = *level.standing.get_or_insert(view.now);
    let agreed = match agreement(traffic, level, standing, view) {
        Ok((basis, requests)) => {
            stride.requests = requests;
            // What was assumed first and is observed now has been observed since now.
            if level.basis != Some(basis) {
                level.confirmed = None;
            }
            level.basis = Some(basis);
            level.confirmed.get_or_insert(view.now);
            basis
        }
        Err(disagreement) => {
            level.confirmed = None;
            stride.status.level = Some(level);
            return disagreement.told(stride);
        }
    };
    stride.status.level = Some(level);
    if level.moved_percent == 100 {
        stride.quiet = level.confirmed.map(|since| (since, agreed));
        level.green_percent = 100;
        stride.status.level = Some(level);
        return stride.done(view.now);
    }
    if let Some((reason, message)) = view.signal.hold.clone() {
        return stride.wait(reason, message);
    }
    level.green_percent = level.moved_percent;
    stride.status.level = Some(level);
    let held = if level.moved_percent == 0 { Duration::ZERO } else { traffic.hold_out };
    if elapsed(standing, view.now) < held {
        stride.status.message = format!("{} % moved, held for {} s", level.moved_percent, held.as_secs());
        return stride;
    }
    let next = traffic.out.iter().copied().find(|&next| next > level.moved_percent).unwrap_or(100);
    if let Err((reason, message)) = view.survivors_ready(next) {
        return stride.wait(reason, message);
    }
    drive(step, moved(level, next), stride, view)
}

fn back(step: &Step, traffic: &Traffic, mut level: Level, mut stride: Stride, view: &View<'_>) -> Stride {
    if level.moved_percent > 0 {
        let (ready, short) = match carries(view.contract, view.world, &view.contract.leaving, |replicas| replicas.base) {
            Ok(ready) => ready,
            Err(blind) => {
                let message = format!("{} {blind}; no user is led back to a region that cannot be seen", view.contract.leaving);
                return stride.wait(HoldReason::Unreachable, message);
            }
        };
        // Never more than the returning region's Ready pods carry.
        let floor = 100 - ready;
        if !view.quick {
            stride = drive(step, level, stride, view);
            if stride.hold.is_some() || !stride.writes.is_empty() {
                return stride;
            }
            let standing = *level.standing.get_or_insert(view.now);
            stride.status.level = Some(level);
            if let Err(disagreement) = agreement(traffic, level, standing, view) {
                return disagreement.told(stride);
            }
            if let Some((reason, message)) = view.signal.hold.clone() {
                return stride.wait(reason, message);
            }
            if level.moved_percent < 100 && elapsed(standing, view.now) < traffic.hold_back {
                stride.status.message =
                    format!("{} % back, held for {} s", 100 - level.moved_percent, traffic.hold_back.as_secs());
                return stride;
            }
        }
        let next =
            if view.quick { 0 } else { traffic.back.iter().copied().find(|&next| next < level.moved_percent).unwrap_or(0) };
        let next = next.max(floor);
        if next >= level.moved_percent {
            stride = drive(step, level, stride, view);
            return stride.wait(HoldReason::CapacityNotReady, short);
        }
        level = moved(level, next);
        stride.conflicts.clear();
    }
    if level.moved_percent > 0 { drive(step, level, stride, view) } else { home(step, level, stride, view) }
}

fn moved(level: Level, to: u32) -> Level {
    Level { moved_percent: to, from_percent: level.moved_percent, standing: None, confirmed: None, basis: None, ..level }
}

/// Writes every route towards the level. Nothing is raised towards a region that cannot be seen, or whose Ready pods do not carry it.
fn drive(step: &Step, level: Level, mut stride: Stride, view: &View<'_>) -> Stride {
    stride.status.level = Some(level);
    let mut writes = Vec::new();
    let mut moves = false;
    for (target, changes) in view.contract.changes(step, level.from_percent, level.moved_percent) {
        match view.out(&target, &changes) {
            Put::Write(write) => {
                moves |= view.differs(&target, changes.iter().map(|change| (&change.spot, &change.to)));
                writes.push(write);
            }
            Put::Foreign(conflicts) if view.direction == Direction::Out => stride.conflicts.extend(conflicts),
            // On the way back a route with somebody else's hand on it waits for the last level, which tells and leaves it.
            Put::There | Put::Foreign(_) => {}
            Put::Refused(message) => stride = stride.wait(HoldReason::WriteRefused, format!("{}: {message}", target.label())),
            Put::Blind(blind) => {
                stride.unseen(&target);
                stride = stride.wait(HoldReason::RegionBlind, format!("{} {blind}", target.label()));
            }
        }
    }
    if let (Some((region, blind)), false) = (unseen(level, view), writes.is_empty()) {
        return stride.wait(HoldReason::RegionBlind, format!("{region} {blind}; nothing is raised towards it"));
    }
    if let (true, Err((reason, message))) = (moves, carried(level, view)) {
        return stride.wait(reason, message);
    }
    if !writes.is_empty() && stride.status.message.is_empty() {
        stride.status.message = format!("to {} % moved", level.moved_percent);
    }
    stride.writes.extend(writes);
    stride
}

/// Whether the Ready pods of the regions that a level raises carry it, now: between the first and the last of its routes a region
/// may have died and come back empty.
fn carried(level: Level, view: &View<'_>) -> Result<(), (HoldReason, String)> {
    if level.moved_percent > level.from_percent {
        return view.survivors_ready(level.moved_percent);
    }
    match carries(view.contract, view.world, &view.contract.leaving, |replicas| replicas.base) {
        Ok((ready, short)) if ready + level.moved_percent < 100 => Err((HoldReason::CapacityNotReady, short)),
        Ok(_) => Ok(()),
        Err(blind) => Err((HoldReason::Unreachable, format!("{} {blind}", view.contract.leaving))),
    }
}

/// A region that cannot be seen and that writing a level would raise: a survivor outwards, the leaving region backwards.
fn unseen<'a>(level: Level, view: &View<'a>) -> Option<(&'a RegionName, Blind)> {
    let outwards = level.moved_percent > level.from_percent;
    let mut raised = view.contract.regions.iter().filter(|(region, _)| (**region != view.contract.leaving) == outwards);
    raised.find_map(|(region, uid)| Some((region, view.world.blind(uid)?)))
}

/// The last level of the way back: the baseline to the byte, claims and ownership given back.
fn home(step: &Step, level: Level, mut stride: Stride, view: &View<'_>) -> Stride {
    stride.status.level = Some(level);
    let all = Level { from_percent: 100, ..level };
    let mut pending = false;
    let mut moves = false;
    for (target, changes) in view.contract.changes(step, level.from_percent, 0) {
        let (put, conflicts) = view.back(&target, &changes);
        stride.conflicts.extend(conflicts);
        match put {
            Put::There | Put::Foreign(_) => {}
            Put::Write(write) => {
                pending = true;
                moves |= view.differs(&target, changes.iter().map(|change| (&change.spot, &change.was)));
                stride.writes.push(write);
            }
            Put::Refused(message) => {
                pending = true;
                stride = stride.wait(HoldReason::WriteRefused, format!("{}: {message}", target.label()));
            }
            Put::Blind(blind) => {
                pending = true;
                stride.unseen(&target);
                stride = stride.wait(HoldReason::Unreachable, format!("{} {blind}", target.label()));
            }
        }
    }
    if !pending {
        return stride.done(view.now);
    }
    if let (Some((region, blind)), false) = (unseen(all, view), stride.writes.is_empty()) {
        stride.writes.clear();
        return stride
            .wait(HoldReason::Unreachable, format!("{region} {blind}; no user is led back to a region that cannot be seen"));
    }
    if let (true, Err((reason, message))) = (moves, carried(all, view)) {
        stride.writes.clear();
        return stride.wait(reason, message);
    }
    stride
}

/// Whether users follow the weights of a level on every route; the weakest basis and the fewest requests, or who does not.
fn agreement(
    traffic: &Traffic,
    level: Level,
    standing: crate::terms::Timestamp,
    view: &View<'_>,
) -> Result<(Basis, Option<u64>), Disagreement> {
    let mut basis = Basis::Observed;
    let mut fewest: Option<u64> = None;
    for route in &traffic.routes {
        let window = route.confirm.as_ref().map_or(Duration::ZERO, |confirm| confirm.window);
        // At the baseline nothing has been written that could take its time.
        let within = |time: Duration| level.moved_percent > 0 && elapsed(standing, view.now) < time;
        let yet = |what: &str| {
            let label = route.target.label();
            Err(Disagreement::Yet(format!("{} % moved; {what} of {label} is not over yet", level.moved_percent)))
        };
        let requests = match observe(route, level.moved_percent, view) {
            // Requests of before the write would agree with a small step too, and disagree with a large one.
            Agreement::Yes(_) if within(window) => return yet("the window"),
            Agreement::No(_) if within(window + route.convergence) => return yet("the window and convergence"),
            Agreement::Yes(requests) => Some(requests),
            Agreement::No(message) => return Err(Disagreement::No(message)),
            Agreement::Assumed(requests) => {
                if within(route.convergence) {
                    return yet("the convergence");
                }
                basis = Basis::Assumed;
                requests
            }
        };
        fewest = match (fewest, requests) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
    }
    Ok((basis, fewest))
}

fn observe(route: &Route, moved: u32, view: &View<'_>) -> Agreement {
    let Some(confirm) = &route.confirm else { return Agreement::Assumed(None) };
    let (leaving, split) = (&view.contract.leaving, &view.contract.split);
    let label = route.target.label();
    // A region may have several backends, one for each rule; without ${backend} in it the query is the same for all of them.
    let mut rates: BTreeMap<RegionName, f64> = BTreeMap::new();
    let queries: BTreeSet<_> = view.contract.request_queries(confirm).into_iter().collect();
    for (region, query) in queries {
        match view.world.reading(&query) {
            Ok(Reading::Value(rate)) if rate >= 0.0 => *rates.entry(region).or_default() += rate,
            Ok(reading) => return Agreement::No(format!("{label}: the requests of {region} cannot be read: {reading:?}")),
            Err(blind) => return Agreement::No(format!("{label}: the requests of {region} cannot be read: Prometheus: {blind}")),
        }
    }
    let total: f64 = rates.values().sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate times a window; saturates")]
    let requests = (total * confirm.window.as_secs_f64()) as u64;
    if requests < u64::from(confirm.minimum) {
        return Agreement::Assumed(Some(requests));
    }
    let tolerance = f64::from(confirm.tolerance) / 100.0;
    for (region, rate) in &rates {
        if region == leaving && moved == 100 {
            if *rate > 0.0 {
                return Agreement::No(format!("{label}: {region} still gets {rate:.2} requests a second"));
            }
            continue;
        }
        let shares = || route.rules.iter().map(|rule| rule.share(region, leaving, split, moved));
        let (least, most) = (shares().fold(1.0, f64::min), shares().fold(0.0, f64::max));
        let share = rate / total;
        if share < least - tolerance || share > most + tolerance {
            let percent = |share: f64| (share * 1000.0).round() / 10.0;
            return Agreement::No(format!(
                "{label}: {region} gets {} % of the requests, its weights say {} %",
                percent(share),
                percent(least)
            ));
        }
    }
    Agreement::Yes(requests)
}
