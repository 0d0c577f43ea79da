//! The hands of a singleton: what it writes to its workloads, and what it remembers of them for that.

use super::{Turn, View};
use crate::api::{Place, RunningJobs, SingletonWorkloadStatus, WorkloadKind};
use crate::claim::{self, Change, Read, Refusal, Taken, Write};
use crate::decide::decision::Effect;
use crate::dialect::run::{self, Site};
use crate::terms::{Epoch, Json, Kind, Object, Spot, Target};
use std::collections::BTreeSet;

/// The first write to a workload, to be run dry: what it takes from other managers goes back with the claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Everything that may ever be written there.
    pub write: Write,
    place: Place,
}

/// Keeps what a trial answered; the workload may be written then.
pub fn tried(progress: &mut SingletonWorkloadStatus, trial: &Trial, taken: &[Taken]) {
    keep(progress, Place { taken: serde_json::to_string(taken).ok(), ..trial.place.clone() });
}

/// Whether a `CronJob` may start the slot that it missed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Catch {
    /// It may not.
    None,
    /// As it could before firedrill wrote it.
    Up,
}

impl View<'_> {
    /// Writes the switch, the epoch and whether a missed slot may start, all in one; before the first write it is tried.
    pub(super) fn put(&self, turn: &mut Turn, site: &Site, to: Json, epoch: Option<Epoch>, catch: Catch) {
        let Some(object) = &site.object else { return };
        let place = self.place(&turn.next, site, object);
        if self.is_untried(&place, object, &site.target) {
            return self.try_first(turn, site, object, place);
        }
        let kind = site.target.kind;
        let mut changes = vec![change(object, run::switch(kind), Place::value(&place.switch), Some(to))];
        if let Some(epoch) = epoch {
            changes.push(change(object, run::epoch(), None, Some(epoch.to_string().into())));
        }
        if kind == Kind::CronJob {
            let was = Place::value(&place.deadline);
            let least = was.as_ref().and_then(Json::as_u64).map_or(u64::from(run::DEADLINE), |was| was.min(run::DEADLINE.into()));
            let to = match catch {
                Catch::None => Some(least.into()),
                Catch::Up => was.clone(),
            };
            changes.push(change(object, run::deadline(), was, to));
        }
        let taken = taken_of(&place);
        keep(&mut turn.next, place);
        turn.push(&site.target, claim::insist(object, &site.target, &self.facts.owner, self.term, &changes, &taken));
    }

    /// Tries every workload that was not: whether all of them would take a write.
    pub(super) fn all_tried(&self, turn: &mut Turn) -> bool {
        let mut all = true;
        for (_, site) in self.seen() {
            let Some(object) = &site.object else { continue };
            let place = self.place(&turn.next, site, object);
            if self.is_untried(&place, object, &site.target) {
                all = false;
                self.try_first(turn, site, object, place);
            }
        }
        all
    }

    fn is_untried(&self, place: &Place, object: &Object, target: &Target) -> bool {
        place.taken.is_none() && self.claim(object, target).is_none()
    }

    fn try_first(&self, turn: &mut Turn, site: &Site, object: &Object, place: Place) {
        match self.trial(site, object) {
            Ok(write) => turn.trials.extend(write.map(|write| Trial { write, place })),
            Err(refusal) => turn.push(&site.target, Err(refusal)),
        }
    }

    /// A write of everything that a hand-over may ever write to a workload: a stop and a start take different fields.
    fn trial(&self, site: &Site, object: &Object) -> Result<Option<Write>, Refusal> {
        let kind = site.target.kind;
        let flipped = if site.is_on() { run::stopped(kind) } else { run::started(kind, 1) };
        let mut changes =
            vec![change(object, run::switch(kind), None, Some(flipped)), change(object, run::epoch(), None, Some("0".into()))];
        if kind == Kind::CronJob {
            let other = value(object, &run::deadline()).and_then(|value| value.as_u64()).unwrap_or_default() + 1;
            changes.push(change(object, run::deadline(), None, Some(other.into())));
        }
        claim::insist(object, &site.target, &self.facts.owner, self.term, &changes, &[])
    }

    /// What a workload was before the first write: as noted, while a claim of ours is on it or a write under way; else as it is.
    pub(super) fn place(&self, next: &SingletonWorkloadStatus, site: &Site, object: &Object) -> Place {
        let target = site.target.to_string();
        let known = next.places.iter().find(|place| place.target == target && place.uid == object.uid());
        let claim = self.claim(object, &site.target);
        let is_open = next.open.iter().any(|intent| intent.target == target);
        if let Some(known) = known.filter(|_| claim.is_some() || is_open) {
            return known.clone();
        }
        let was = |spot: Spot| {
            let kept = claim.as_ref().and_then(|claim| claim.undo.iter().find(|entry| entry.spot == spot));
            let value = kept.map_or_else(|| value(object, &spot), |entry| entry.was.clone());
            value.map(|value| value.to_string()).unwrap_or_default()
        };
        let switch = was(run::switch(site.target.kind));
        let deadline = if site.target.kind == Kind::CronJob { was(run::deadline()) } else { String::new() };
        // Tried already, and nobody has touched it since.
        let taken =
            known.filter(|known| known.switch == switch && known.deadline == deadline).and_then(|known| known.taken.clone());
        Place { target, uid: object.uid().to_owned(), switch, deadline, taken }
    }

    /// Forgets what workloads were that have no claim of ours any more, and no write of ours under way.
    pub(super) fn forget(&self, next: &mut SingletonWorkloadStatus) {
        let is_claimed = |site: &Site| site.object.as_ref().is_some_and(|object| self.claim(object, &site.target).is_some());
        let released: BTreeSet<String> =
            self.seen().filter(|(_, site)| !is_claimed(site)).map(|(_, site)| site.target.to_string()).collect();
        let open: BTreeSet<&String> = next.open.iter().map(|intent| &intent.target).collect();
        next.places.retain(|place| !released.contains(&place.target) || open.contains(&place.target));
    }

    /// Ends the Jobs of a region that is stopped, where the singleton says so.
    pub(super) fn delete_jobs(&self, turn: &mut Turn, site: &Site) {
        let jobs = self.facts.spec.stop.as_ref().and_then(|stop| stop.running_jobs).unwrap_or_default();
        if jobs == RunningJobs::Delete && self.facts.spec.workload.kind == WorkloadKind::CronJob {
            let running = site.jobs.iter().filter(|job| !job.leaving);
            turn.effects.extend(running.map(|job| Effect::Delete(job.target.clone(), job.version.clone())));
        }
    }

    pub(super) fn claim(&self, object: &Object, target: &Target) -> Option<claim::Claim> {
        match claim::read(object, target) {
            Read::Claim(claim) if claim.by.uid == self.facts.owner.uid => Some(*claim),
            Read::Claim(_) | Read::Nothing | Read::Copied(_) | Read::Broken(_) | Read::Format(_) => None,
        }
    }
}

fn keep(next: &mut SingletonWorkloadStatus, place: Place) {
    next.places.retain(|known| known.target != place.target);
    next.places.push(place);
    next.places.sort_by(|one, two| one.target.cmp(&two.target));
}

pub(super) fn value(object: &Object, spot: &Spot) -> Option<Json> {
    spot.find(object.json()).ok().and_then(|found| found.value)
}

pub(super) fn change(object: &Object, spot: Spot, was: Option<Json>, to: Option<Json>) -> Change {
    let from = value(object, &spot);
    Change { spot, was, from, to }
}

/// What the first write took from other managers.
pub(super) fn taken_of(place: &Place) -> Vec<Taken> {
    place.taken.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
