//! The hand-over: stopped everywhere, proven, published, started, seen to run.

use super::hands::Catch;
use super::{Step, Turn, View, followed, proof};
use crate::api::{Handover, MissedRuns, Place, Stage};
use crate::decide::gate::elapsed;
use crate::dialect::run::{self, Site};
use crate::terms::{RegionName, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

impl View<'_> {
    pub(super) fn begin(&self, turn: &mut Turn, to: String, why: &str) {
        turn.next.handover = Some(Handover {
            to,
            epoch: self.highest(&turn.next).max(turn.next.epoch).next(),
            since: self.now,
            why: why.chars().take(512).collect(),
            stopped: None,
            last_run: turn.next.handover.as_ref().filter(|_| turn.next.stage != Stage::Held).and_then(|before| before.last_run),
            started: None,
        });
        turn.next.followed = self.facts.order.as_ref().map(followed);
        turn.next.looked = Some(self.now);
        for region in &mut turn.next.regions {
            region.stopped = None;
            region.quiet = None;
        }
        turn.step(Step::MoveAsked);
    }

    /// Everybody is stopped with the next epoch, until that is proven.
    pub(super) fn stop(&self, turn: &mut Turn) {
        let Some(mut handover) = turn.next.handover.clone() else { return };
        // Nothing is committed yet: another order only names another holder.
        let (wanted, why) = self.wanted(&turn.next);
        let asked = self.facts.order.as_ref().map(followed);
        if wanted != handover.to {
            handover.to = wanted;
            handover.why = why;
            turn.next.handover = Some(handover.clone());
        }
        if asked.is_some() {
            turn.next.followed = asked;
        }
        for (_, site) in self.seen() {
            if site.object.is_some() && (site.is_on() || site.stamped() != Some(handover.epoch)) {
                self.put(turn, site, run::stopped(site.target.kind), Some(handover.epoch), Catch::None);
            }
            self.delete_jobs(turn, site);
        }
        let open: BTreeSet<String> = turn.next.open.iter().map(|intent| intent.target.clone()).collect();
        let is_open = |region: &RegionName| {
            self.facts.clusters.get(region).is_some_and(|cluster| open.contains(&self.facts.workload(cluster).to_string()))
        };
        let mut lacks = Vec::new();
        for (region, site) in self.sites {
            let may_run = turn.next.holder.as_deref() == Some(region.as_str())
                || turn.next.pods.iter().any(|pod| pod.region == region.as_str())
                || is_open(region);
            // Who neither held it, nor has a pod or a write of ours under way, was stopped when it was last seen.
            if site.is_ok() || may_run {
                lacks.extend(proof::proven(self.facts, &turn.next, region, self.sites, self.now).err());
            }
        }
        let gone = turn.next.holder.clone().filter(|_| !self.is_known(&turn.next));
        if let Some(holder) = &gone {
            lacks.push(Self::unknown(holder));
        }
        if lacks.is_empty() {
            handover.stopped = Some(self.now);
            // Whoever ran it last, also before a hand-over that was begun anew; nobody can tell if neither this holder nor one before did.
            let last = turn.next.holder.as_ref().and_then(|holder| self.site(holder)).and_then(Site::last_run);
            let anywhere = self.seen().filter_map(|(_, site)| site.last_run()).chain(handover.last_run).max();
            handover.last_run = anywhere.filter(|_| last.or(handover.last_run).is_some());
            turn.next.epoch = self.highest(&turn.next).max(handover.epoch);
            turn.next.handover = Some(handover);
            // What these writes were for is proven; they are not made in vain.
            turn.effects.clear();
            return turn.step(Step::ProvenStopped);
        }
        let is_deleted = turn.next.holder.as_ref().and_then(|holder| self.site(holder)).is_some_and(|site| site.object.is_none());
        turn.person = gone.is_some()
            || is_deleted
            || self.sites.values().any(Result::is_err)
            || self.is_overdue(&handover)
            || self.sites.keys().any(|region| proof::silent(self.facts, &turn.next, region, self.world).is_some());
        turn.wait(lacks.join("; "));
    }

    /// Whether it takes so long that a person is asked.
    fn is_overdue(&self, handover: &Handover) -> bool {
        let timeout = self.facts.spec.stop.as_ref().and_then(|stop| stop.timeout).map_or(Duration::from_mins(10), Duration::from);
        elapsed(handover.since, self.now) >= timeout
    }

    /// Leases and token are written before anything starts.
    pub(super) fn publish(&self, turn: &mut Turn) {
        let Some(handover) = turn.next.handover.clone() else { return };
        if let Some(why) = self.must_stop_again(turn, &handover) {
            return self.begin(turn, self.wanted(&turn.next).0, &why);
        }
        turn.next.epoch = self.highest(&turn.next).max(turn.next.epoch);
        let published = self.published(&turn.next, &handover.to);
        turn.effects.extend(published.effects);
        match published.waits {
            None => {
                // From here on it may be started there.
                self.name(&mut turn.next, &handover.to);
                turn.step(Step::Published);
            }
            Some(waits) => {
                let is_unseen = self.site(&handover.to).is_none();
                turn.person = is_unseen || self.foreign(&handover.to).is_some() || self.is_overdue(&handover);
                turn.wait(if is_unseen { format!("nobody runs it; {waits}") } else { waits });
            }
        }
    }

    /// The new holder is started, and seen to run.
    pub(super) fn start(&self, turn: &mut Turn) {
        let Some(mut handover) = turn.next.handover.clone() else { return };
        if let Some(why) = self.must_stop_again(turn, &handover) {
            return self.begin(turn, self.wanted(&turn.next).0, &why);
        }
        turn.person = self.is_overdue(&handover);
        let Some(site) = self.site(&handover.to) else {
            turn.person = true;
            return turn.wait(format!("it is to be started in {}, which cannot be seen", handover.to));
        };
        if site.object.is_none() {
            turn.person = true;
            return turn.wait(format!("{} is to be started in {} and does not exist there", site.target.label(), handover.to));
        }
        if site.is_up() && site.stamped() == Some(turn.next.epoch) {
            return turn.step(Step::SeenRunning);
        }
        if site.is_on() && site.stamped() == Some(turn.next.epoch) {
            return turn.wait(format!("{} is started in {}; none of its pods is ready yet", site.target.label(), handover.to));
        }
        let started = *handover.started.get_or_insert(self.now);
        let catch = if self.runs_missed(site, &handover, started) { Catch::Up } else { Catch::None };
        let site_of = handover.to.clone();
        turn.next.handover = Some(handover);
        // At home as many as before, elsewhere as many as the holder had.
        let place = site.object.as_ref().map(|object| self.place(&turn.next, site, object));
        let was = place.and_then(|place| Place::value(&place.switch)?.as_u64()).and_then(|was| u32::try_from(was).ok());
        let is_home = turn.next.home.as_ref() == Some(&site_of);
        let size = was.filter(|was| is_home && *was > 0).or(turn.next.size).unwrap_or(1);
        let epoch = turn.next.epoch;
        turn.wait(format!("{} is being started in {}", site.target.label(), site_of.as_str()));
        self.put(turn, site, run::started(site.target.kind, size), Some(epoch), catch);
    }

    /// Why a start must not go on: another is wanted, or somebody else has started it elsewhere.
    fn must_stop_again(&self, turn: &Turn, handover: &Handover) -> Option<String> {
        let mut others = self.seen().filter(|(region, _)| region.as_str() != handover.to);
        if let Some((region, site)) = others.find(|(_, site)| site.is_on() || site.busy().is_some()) {
            let what = site.busy().unwrap_or_else(|| format!("{} was started by somebody else", site.target.label()));
            return Some(format!("{region} runs it again: {what}"));
        }
        let (wanted, why) = self.wanted(&turn.next);
        (wanted != handover.to).then_some(why)
    }

    /// Whether the run that nobody made in the meantime is made up for.
    fn runs_missed(&self, site: &Site, handover: &Handover, started: Timestamp) -> bool {
        if self.facts.spec.missed_runs != Some(MissedRuns::RunOnce) {
            return false;
        }
        let due = site.schedule().and_then(|schedule| schedule.last(started));
        match (due, handover.last_run) {
            (Some(due), Some(last)) => due > last,
            // The old holder never ran it, or nobody can tell: what is not sure is not run twice.
            (_, None) | (None, _) => false,
        }
    }
}
