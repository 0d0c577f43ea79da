//! A singleton that nobody holds yet, or one region does: adopted, enforced, released.

use super::hands::{Catch, change, taken_of, value};
use super::proof::MOST_PODS;
use super::{Step, Turn, View, followed};
use crate::api::{Direction, Enforcement, Place};
use crate::claim;
use crate::decide::decision::Effect;
use crate::dialect::run::{self, Site};
use crate::terms::{Kind, RegionName};
use chrono::TimeDelta;

/// How long a second region may go on running what was stopped there, beyond its pods' grace, before the holder is stopped too.
const TOGETHER: TimeDelta = TimeDelta::seconds(10);

impl View<'_> {
    /// Nobody holds it: the fleet is taken as it is found.
    pub(super) fn observe(&self, turn: &mut Turn, is_problem: bool) {
        if self.facts.spec.enforcement == Enforcement::Report || self.facts.deleted {
            turn.next.holder = None;
            turn.next.holder_cluster = None;
            turn.next.home = None;
            turn.effects.extend(self.facts.finalizer.then_some(Effect::Finalizer(false)));
            return;
        }
        if !self.facts.finalizer {
            turn.effects.push(Effect::Finalizer(true));
            return;
        }
        if is_problem {
            return;
        }
        if let Some((region, Err(blind))) = self.sites.iter().find(|(_, site)| site.is_err()) {
            return turn.wait(format!("enforcement begins when every region was seen: {region} {blind}"));
        }
        let runs: Vec<&RegionName> =
            self.seen().filter(|(_, site)| site.is_on() || site.busy().is_some()).map(|(region, _)| region).collect();
        let is_on = |region: &RegionName| self.site(region.as_str()).is_some_and(Site::is_on);
        let named = runs.iter().find(|region| self.facts.spec.keep.as_deref() == Some(region.as_str()));
        let holder = match (runs.as_slice(), named) {
            ([only], _) if is_on(only) => (*only).clone(),
            ([only], _) => {
                let message = format!(
                    "{only} still runs it and has it stopped: it is led when the region that is to hold it runs it alone"
                );
                return turn.wait(message);
            }
            (_, Some(keep)) if is_on(keep) => (*keep).clone(),
            ([], None) => {
                let message = "no region runs it, so none is led: start it in the region that is to hold it";
                return turn.wait(message.to_owned());
            }
            (several, _) => {
                let names: Vec<&str> = several.iter().map(|region| region.as_str()).collect();
                let message = format!("{} run it: stop all but one, or name who stays in spec.keep", names.join(" and "));
                turn.person = true;
                return turn.wait(message);
            }
        };
        // Where it could not be stopped, nothing is promised.
        if !self.all_tried(turn) {
            return turn.wait("enforcement begins when it was tried in every region whether it can be written".to_owned());
        }
        turn.next.epoch = self.highest(&turn.next).next();
        turn.next.home = Some(holder.to_string());
        self.name(&mut turn.next, holder.as_str());
        turn.step(Step::Adopted);
    }

    /// One region holds it: whoever else runs it is stopped, orders are followed.
    pub(super) fn hold(&self, turn: &mut Turn) {
        let holder = turn.next.holder.clone().unwrap_or_default();
        turn.next.epoch = self.highest(&turn.next).max(turn.next.epoch);
        if turn.next.holder_cluster.is_none() {
            self.name(&mut turn.next, &holder);
        }
        if !self.is_known(&turn.next) {
            turn.person = true;
            turn.wait(Self::unknown(&holder));
            // It may run it still: nobody else may.
            self.enforce(turn, &holder);
            return;
        }
        if let Some(site) = self.site(&holder).filter(|site| site.size() > 0) {
            turn.next.size = Some(site.size());
        }
        let (wanted, why) = self.wanted(&turn.next);
        if wanted != holder {
            // What cannot be started there is not stopped here, nor what has more pods than the proof can remember.
            let site = self.site(&holder);
            let outwards = self.facts.order.as_ref().is_some_and(|order| order.direction == Direction::Out);
            let foreign = self.foreign(&wanted);
            let lacks = match () {
                () if site.is_some_and(|site| site.alive().count() > MOST_PODS) => {
                    Some(format!("it has more than {MOST_PODS} pods: scale it down"))
                }
                // Who stopped it meant that: nobody starts it elsewhere.
                () if outwards && site.is_some_and(|site| !site.is_on()) => {
                    Some(format!("somebody has stopped it in {holder}: start it there, or abort the drill"))
                }
                () if foreign.is_some() => foreign.map(|(_, message)| message),
                () if self.site(&wanted).is_none_or(|site| site.object.is_none()) => {
                    Some(format!("{wanted} cannot be seen to have it"))
                }
                () => None,
            };
            let Some(lacks) = lacks else { return self.begin(turn, wanted, &why) };
            turn.person = true;
            turn.wait(format!("{why} in {wanted}, and {lacks}; it stays in {holder}"));
        } else if let Some(order) = &self.facts.order {
            turn.next.followed = Some(followed(order));
        }
        let is_home = turn.next.home.as_deref() == Some(holder.as_str());
        let ends = self.facts.deleted || self.facts.spec.enforcement == Enforcement::Report;
        if ends && is_home && self.facts.named.is_none() {
            return self.release(turn);
        }
        if ends && !is_home && self.facts.named.is_none() {
            let home = turn.next.home.clone().unwrap_or_default();
            turn.wait(format!("enforcement ends when it is home again, and {home} cannot be seen"));
        }
        turn.effects.extend(self.published(&turn.next, &holder).effects);
        if let Some(late) = self.enforce(turn, &holder) {
            // The other region could not be stopped at once: nobody runs it until it is.
            return self.begin(turn, holder, &late);
        }
        self.tidy(turn, &holder, is_home);
    }

    /// Stops whoever is not the holder; why that did not help in time.
    fn enforce(&self, turn: &mut Turn, holder: &str) -> Option<String> {
        let mut late = None;
        for (region, site) in self.seen().filter(|(region, _)| region.as_str() != holder) {
            if !site.is_on() && site.busy().is_none() {
                continue;
            }
            let busy = site.busy();
            let what = busy.clone().unwrap_or_else(|| format!("{} is not stopped", site.target.label()));
            turn.wait(format!("{region} runs it too, and is stopped: {what}"));
            if site.is_on() {
                let epoch = turn.next.epoch;
                self.put(turn, site, run::stopped(site.target.kind), Some(epoch), Catch::None);
            }
            self.delete_jobs(turn, site);
            let grace = site.alive().map(|pod| pod.grace).max().filter(|_| site.target.kind != Kind::CronJob).unwrap_or(0);
            let bearable = TOGETHER + TimeDelta::seconds(i64::from(grace));
            // Where nothing runs, somebody only goes on switching it on: nobody is the better for stopping the holder.
            if busy.is_some() && turn.next.two_since.is_some_and(|since| self.now - since >= bearable) {
                late = Some(format!("{region} could not be stopped at once, so all are: {what}"));
            }
        }
        late
    }

    /// After a hand-over: the deadline goes when the first regular run has passed; at home nothing of ours stays.
    fn tidy(&self, turn: &mut Turn, holder: &str, is_home: bool) {
        let quiet = self.facts.named.is_none() && turn.next.two_since.is_none();
        for (region, site) in self.seen() {
            let started = turn.next.handover.as_ref().and_then(|handover| handover.started);
            let has_run = match (site.target.kind, started) {
                (Kind::CronJob, Some(started)) if region.as_str() == holder => site.last_run().is_some_and(|last| last > started),
                _ => true,
            };
            // A region that was taken out of the spec is let go of when nothing of ours is left there.
            let is_let_go = region.as_str() != holder && !self.facts.spec.regions.iter().any(|one| one == region.as_str());
            if is_let_go && quiet {
                self.give_back(turn, site, true);
            } else if has_run && is_home && quiet {
                self.give_back(turn, site, false);
            } else if has_run && region.as_str() == holder && site.target.kind == Kind::CronJob {
                let claim = site.object.as_ref().and_then(|object| self.claim(object, &site.target));
                if claim.is_some_and(|claim| claim.undo.iter().any(|entry| entry.spot == run::deadline())) {
                    // Whoever has suspended it meanwhile meant that.
                    let stands = site.object.as_ref().and_then(|object| value(object, &run::switch(site.target.kind)));
                    self.put(turn, site, stands.unwrap_or_else(|| run::started(site.target.kind, 0)), None, Catch::Up);
                }
            }
        }
    }

    /// Enforcement ends: what runs runs on, and every claim is given back.
    fn release(&self, turn: &mut Turn) {
        let mut left = false;
        for (region, site) in self.sites {
            match site {
                Ok(site) => left |= self.give_back(turn, site, true),
                Err(blind) => {
                    left = true;
                    turn.wait(format!("its claim in {region} is given back when that can be seen: {blind}"));
                }
            }
        }
        if !left && turn.effects.is_empty() && turn.next.open.is_empty() {
            turn.next.places.clear();
            turn.next.pods.clear();
            turn.step(Step::Released);
        }
    }

    /// Gives a claim back; whether there is something left to do. The switch stays as it stands: putting it back to what it was
    /// could start a second one. `whatever` the switch was before; else only where it is as it was.
    fn give_back(&self, turn: &mut Turn, site: &Site, whatever: bool) -> bool {
        let Some(object) = &site.object else { return false };
        let Some(claim) = self.claim(object, &site.target) else { return false };
        let (switch, kind) = (run::switch(site.target.kind), site.target.kind);
        let entry = claim.undo.iter().find(|entry| entry.spot == switch);
        if !whatever && entry.is_some() {
            return false;
        }
        let stands = value(object, &switch);
        let place = self.place(&turn.next, site, object);
        let mut changes = vec![change(object, switch, stands.clone(), stands), change(object, run::epoch(), None, None)];
        if kind == Kind::CronJob {
            let was = Place::value(&place.deadline);
            changes.push(change(object, run::deadline(), was.clone(), was));
        }
        let taken = taken_of(&place);
        let by = &self.facts.owner;
        let write = match claim::insist(object, &site.target, by, self.term, &changes, &taken) {
            Ok(None) => claim::release(object, &site.target, by),
            other => other,
        };
        turn.push(&site.target, write);
        true
    }
}
