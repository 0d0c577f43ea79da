//! A singleton: exactly one region runs it. Enforced while it is held, and handed over by proof.
//!
//! [`needs_singleton`] says what to look at, [`lead`] what follows from it. Whatever is written goes into the status first; a
//! restart is an activation.

mod facts;
mod proof;
mod publish;
mod stage;
mod words;

pub use facts::{Facts, Order};
pub use stage::{IllegalStep, Step, follow};

use super::decision::{Decision, Effect};
use super::intent;
use super::words::cut;
use crate::api::{
    Direction, Enforcement, Followed, Handover, MissedRuns, Place, RunningJobs, SingletonWorkloadStatus, Stage, WorkloadKind,
};
use crate::claim::{self, Change, Read, Refusal, Taken, Write};
use crate::dialect::run::{self, Site};
use crate::terms::{Epoch, Json, Kind, Object, RegionName, Spot, Target, Term, Timestamp};
use crate::world::{Needs, World};
use chrono::TimeDelta;
use proof::Sites;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often a singleton is looked at while it is held and no drill acts: two holders are seen within this and one read.
const LOOK: TimeDelta = TimeDelta::seconds(5);
/// How often while a drill acts, or two regions run it.
const WATCH: TimeDelta = TimeDelta::seconds(1);
/// How often while it is handed over.
const TICK: TimeDelta = TimeDelta::milliseconds(500);
/// What was not looked at for so long was not seen to be quiet.
const UNWATCHED: TimeDelta = TimeDelta::seconds(15);
/// How often the time of the last look is stored when nothing else changes, while quiet is counted.
const LOOKED: TimeDelta = TimeDelta::seconds(5);
/// How long a second region may go on running what was stopped there, beyond its pods' grace, before the holder is stopped too.
const TOGETHER: TimeDelta = TimeDelta::seconds(10);

/// What the next decision about a singleton has to look at.
#[must_use]
pub fn needs_singleton(facts: &Facts, progress: &SingletonWorkloadStatus) -> Needs {
    let mut needs = Needs::default();
    let publishes = facts.spec.enforcement == Enforcement::Enforce || progress.holder.is_some();
    needs.objects.extend(publishes.then(|| facts.lease(&facts.hub)));
    for (region, cluster) in &facts.clusters {
        let workload = facts.workload(cluster);
        needs.lists.extend(run::lists(&workload));
        needs.objects.insert(workload);
        if publishes {
            needs.objects.insert(facts.lease(cluster));
            needs.objects.extend(facts.token(cluster).map(|(token, _)| token));
        }
        let nodes = progress.pods.iter().filter(|pod| pod.region == region.as_str() && !pod.node.is_empty());
        needs.objects.extend(nodes.map(|pod| proof::node(cluster, &pod.node)));
    }
    needs
}

/// To be run dry before [`lead`]'s effects are performed: for each workload whose field ownership has not been looked into, a write
/// of everything that a hand-over may ever write there. A stop and a start take different fields.
#[must_use]
pub fn untried(facts: &Facts, progress: &SingletonWorkloadStatus, effects: &[Effect], world: &World, term: Term) -> Vec<Write> {
    let is_new =
        |target: &Target| progress.places.iter().any(|place| place.target == target.to_string() && place.taken.is_none());
    let writes = effects.iter().filter_map(|effect| if let Effect::Write(write) = effect { Some(write) } else { None });
    let probe = |target: &Target| {
        let object = world.object(target).ok()??;
        let site = Site::see(world, target).ok()?;
        let kind = target.kind;
        let flipped = if site.is_on() { run::stopped(kind) } else { run::started(kind, 1) };
        let mut changes =
            vec![change(object, run::switch(kind), None, Some(flipped)), change(object, run::epoch(), None, Some("0".into()))];
        if kind == Kind::CronJob {
            let other = value(object, &run::deadline()).and_then(|value| value.as_u64()).unwrap_or_default() + 1;
            changes.push(change(object, run::deadline(), None, Some(other.into())));
        }
        claim::insist(object, target, &facts.owner, term, &changes, &[]).ok()?
    };
    writes.filter(|write| is_new(&write.target)).filter_map(|write| probe(&write.target)).collect()
}

/// Keeps what a dry run answered: what the first write takes from other managers.
pub fn tried(progress: &mut SingletonWorkloadStatus, target: &Target, taken: &[Taken]) {
    if let Some(place) = progress.places.iter_mut().find(|place| place.target == target.to_string()) {
        place.taken = serde_json::to_string(taken).ok();
    }
}

/// What follows from the world for a singleton. `refusals` are what API servers did not take last, and why.
#[must_use]
pub fn lead(
    facts: &Facts,
    progress: &SingletonWorkloadStatus,
    world: &World,
    refusals: &BTreeMap<Target, String>,
    now: Timestamp,
    term: Term,
) -> Decision<SingletonWorkloadStatus> {
    let mut next = progress.clone();
    next.format = 1;
    next.term = term.0;
    next.observed_generation = facts.generation;
    next.workload = format!("{}/{}", facts.kind(), facts.spec.workload.name);
    let unsettled = intent::settle(&mut next.open, world);
    if next.looked.is_some_and(|last| now - last > UNWATCHED) {
        next.regions.iter_mut().for_each(|region| region.quiet = None);
    }
    let sites: Sites =
        facts.clusters.iter().map(|(region, cluster)| (region.clone(), Site::see(world, &facts.workload(cluster)))).collect();
    proof::remember(facts, &mut next, &sites, world, now);
    if next.stage == Stage::Stopping && next.looked.is_none_or(|last| now - last >= LOOKED) {
        next.looked = Some(now);
    }
    let view = View { facts, world, sites: &sites, now, term };
    let problem = facts.problem.clone().or_else(|| view.problem());
    let mut turn = Turn { next, effects: Vec::new(), waits: None, person: false };
    view.two(&mut turn.next);
    match turn.next.stage {
        Stage::Observed => view.observe(&mut turn, problem.is_some()),
        Stage::Held => view.hold(&mut turn),
        Stage::Stopping => view.stop(&mut turn),
        Stage::Publishing => view.publish(&mut turn),
        Stage::Starting => view.start(&mut turn),
    }
    let Turn { mut next, mut effects, waits, person } = turn;
    let taken = |target: &Target| taken_of(&next, target);
    intent::stamps(&facts.owner, &unsettled, &mut effects, world, term, taken);
    intent::keep(&mut next.open, &effects);
    view.forget(&mut next);
    let refused =
        intent::refused(&effects, refusals).map(|(target, message)| format!("{} is not taken: {message}", target.label()));
    words::tell(facts, &mut next, problem, waits, refused, person, now);
    let moves = matches!(next.stage, Stage::Stopping | Stage::Publishing | Stage::Starting);
    let pause = match () {
        () if moves => TICK,
        () if next.two_since.is_some() || facts.named.is_some() || facts.deleted || !effects.is_empty() => WATCH,
        () => LOOK,
    };
    Decision { progress: next, effects, wake: Some(now + pause) }
}

/// What is decided in one activation.
struct Turn {
    next: SingletonWorkloadStatus,
    effects: Vec<Effect>,
    /// What is waited for.
    waits: Option<String>,
    /// A person must act.
    person: bool,
}

impl Turn {
    fn step(&mut self, step: Step) {
        // A step is taken only in a stage that knows it; the machine's own tests hold the list.
        if let Ok(stage) = follow(self.next.stage, step) {
            self.next.stage = stage;
        }
    }

    fn wait(&mut self, message: String) {
        self.waits.get_or_insert(message);
    }

    fn push(&mut self, target: &Target, write: Result<Option<Write>, Refusal>) {
        let is_written = |effect: &Effect| matches!(effect, Effect::Write(write) if write.target == *target);
        match write {
            // At most one write per object: what comes first counts.
            Ok(_) if self.effects.iter().any(is_written) => {}
            Ok(write) => self.effects.extend(write.map(Effect::Write)),
            Err(refusal) => {
                self.person = true;
                self.wait(format!("{} cannot be written: {refusal}", target.label()));
            }
        }
    }
}

struct View<'a> {
    facts: &'a Facts,
    world: &'a World,
    sites: &'a Sites,
    now: Timestamp,
    term: Term,
}

impl View<'_> {
    fn seen(&self) -> impl Iterator<Item = (&RegionName, &Site)> {
        self.sites.iter().filter_map(|(region, site)| Some((region, site.as_ref().ok()?)))
    }

    /// Why it cannot be led, as the regions have it.
    fn problem(&self) -> Option<(&'static str, String)> {
        let label = format!("{}/{}", self.facts.namespace, self.facts.spec.workload.name);
        for (region, site) in self.seen() {
            if site.object.is_none() {
                let message = format!(
                    "there is no {} {label} in {region}: create it there (stopped), or correct spec.workload or spec.regions",
                    self.facts.kind()
                );
                return Some(("WorkloadMissing", message));
            }
            if let Some(scaler) = &site.autoscaler {
                let message = format!(
                    "HorizontalPodAutoscaler {scaler} in {region} scales {label}: a singleton is started and stopped by its replicas; delete \
                     the autoscaler"
                );
                return Some(("Autoscaled", message));
            }
            if site.alive().count() > proof::MOST_PODS {
                return Some(("TooLarge", format!("{label} in {region} has more than {} pods", proof::MOST_PODS)));
            }
            if let Some(refusal) = self.foreign_token(region) {
                return Some(("TokenForeign", refusal));
            }
        }
        None
    }

    /// Keeps since when two regions run it.
    fn two(&self, next: &mut SingletonWorkloadStatus) {
        let runs = self.seen().filter(|(_, site)| site.is_on() || site.busy().is_some()).count();
        next.two_since = (runs > 1).then(|| next.two_since.unwrap_or(self.now));
    }

    /// Nobody holds it: the fleet is taken as it is found.
    fn observe(&self, turn: &mut Turn, is_problem: bool) {
        if self.facts.spec.enforcement == Enforcement::Report || self.facts.deleted {
            turn.next.holder = None;
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
        let named = runs.iter().find(|region| self.facts.spec.keep.as_deref() == Some(region.as_str()));
        let holder = match (runs.as_slice(), named) {
            ([only], _) => (*only).clone(),
            (_, Some(keep)) => (*keep).clone(),
            ([], None) => {
                let message = "no region runs it, so none is led: start it in the region that is to hold it";
                return turn.wait(message.to_owned());
            }
            (several, None) => {
                let names: Vec<&str> = several.iter().map(|region| region.as_str()).collect();
                let message = format!("{} run it: stop all but one, or name who stays in spec.keep", names.join(" and "));
                turn.person = true;
                return turn.wait(message);
            }
        };
        turn.next.epoch = self.highest(&turn.next).next();
        turn.next.home = Some(holder.to_string());
        turn.next.holder = Some(holder.to_string());
        turn.step(Step::Adopted);
    }

    /// One region holds it: whoever else runs it is stopped, orders are followed.
    fn hold(&self, turn: &mut Turn) {
        let holder = turn.next.holder.clone().unwrap_or_default();
        turn.next.epoch = self.highest(&turn.next).max(turn.next.epoch);
        if let Some(site) = self.site(&holder).filter(|site| site.size() > 0) {
            turn.next.size = Some(site.size());
        }
        let (wanted, why) = self.wanted(&turn.next);
        if wanted != holder {
            // What cannot be started there is not stopped here.
            if self.site(&wanted).is_some_and(|site| site.object.is_some()) {
                return self.begin(turn, wanted, &why);
            }
            turn.person = true;
            turn.wait(format!("{why}, and {wanted} cannot be seen to have it: it stays in {holder}"));
        } else if let Some(order) = &self.facts.order {
            turn.next.followed = Some(followed(order));
        }
        let is_home = turn.next.home.as_deref() == Some(holder.as_str());
        let ends = self.facts.deleted || self.facts.spec.enforcement == Enforcement::Report;
        if ends && is_home && self.facts.named.is_none() {
            return self.release(turn);
        }
        turn.effects.extend(self.published(&turn.next, &holder).effects);
        if let Some(late) = self.enforce(turn, &holder) {
            // The other region could not be stopped at once: nobody runs it until it is.
            return self.begin(turn, holder, &late);
        }
        self.tidy(turn, &holder, is_home);
    }

    /// Who is to hold it now, and why.
    fn wanted(&self, next: &SingletonWorkloadStatus) -> (String, String) {
        let holder = next.holder.clone().unwrap_or_default();
        if let Some(order) = &self.facts.order {
            return (order.to.to_string(), format!("drill {} asks for it", order.drill.name));
        }
        let home = next.home.clone().unwrap_or_else(|| holder.clone());
        // A drill that has just begun, or has not put everything back, is not over for it.
        if self.facts.named.is_some() || self.facts.owed.is_some() || self.site(&home).is_none() {
            return (holder, String::new());
        }
        (home, "no drill wants it elsewhere any more".to_owned())
    }

    fn begin(&self, turn: &mut Turn, to: String, why: &str) {
        turn.next.handover = Some(Handover {
            to,
            epoch: self.highest(&turn.next).max(turn.next.epoch).next(),
            since: self.now,
            why: why.chars().take(512).collect(),
            stopped: None,
            last_run: None,
            started: None,
        });
        turn.next.followed = self.facts.order.as_ref().map(followed);
        turn.next.looked = Some(self.now);
        turn.next.regions.iter_mut().for_each(|region| {
            region.stopped = None;
            region.quiet = None;
        });
        turn.step(Step::MoveAsked);
    }

    /// Stops whoever is not the holder; why that did not help in time.
    fn enforce(&self, turn: &mut Turn, holder: &str) -> Option<String> {
        let mut late = None;
        for (region, site) in self.seen().filter(|(region, _)| region.as_str() != holder) {
            if !site.is_on() && site.busy().is_none() {
                continue;
            }
            let what = site.busy().unwrap_or_else(|| format!("{} is not stopped", site.target.label()));
            turn.wait(format!("{region} runs it too, and is stopped: {what}"));
            if site.is_on() {
                let epoch = turn.next.epoch;
                self.put(turn, site, run::stopped(site.target.kind), Some(epoch), Catch::None);
            }
            self.delete_jobs(turn, site);
            let grace = site.alive().map(|pod| pod.grace).max().filter(|_| site.target.kind != Kind::CronJob).unwrap_or(0);
            let bearable = TOGETHER + TimeDelta::seconds(i64::from(grace));
            if turn.next.two_since.is_some_and(|since| self.now - since >= bearable) {
                late = Some(format!("{region} could not be stopped at once, so all are: {what}"));
            }
        }
        late
    }

    /// Everybody is stopped with the next epoch, until that is proven.
    fn stop(&self, turn: &mut Turn) {
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
        let open: BTreeSet<String> =
            turn.next.open.iter().filter_map(|intent| Some(intent.target.split_once('/')?.0.to_owned())).collect();
        let mut lacks = Vec::new();
        for (region, site) in self.sites {
            let may_run = turn.next.holder.as_deref() == Some(region.as_str())
                || turn.next.pods.iter().any(|pod| pod.region == region.as_str())
                || self.facts.clusters.get(region).is_some_and(|cluster| open.contains(&cluster.0));
            // Who neither held it, nor has a pod or a write of ours under way, was stopped when it was last seen.
            if site.is_ok() || may_run {
                lacks.extend(proof::proven(self.facts, &turn.next, region, self.sites, self.now).err());
            }
        }
        if let Some(holder) = turn.next.holder.as_ref().filter(|holder| !self.sites.keys().any(|r| r.as_str() == holder.as_str()))
        {
            lacks.push(format!("{holder} is no region of this fleet any more, and nobody can see what runs there"));
        }
        if lacks.is_empty() {
            handover.stopped = Some(self.now);
            handover.last_run = turn.next.holder.as_ref().and_then(|holder| self.site(holder)).and_then(Site::last_run);
            turn.next.epoch = self.highest(&turn.next).max(handover.epoch);
            turn.next.holder = Some(handover.to.clone());
            turn.next.handover = Some(handover);
            // What these writes were for is proven; they are not made in vain.
            turn.effects.clear();
            return turn.step(Step::ProvenStopped);
        }
        let timeout = self.facts.spec.stop.as_ref().and_then(|stop| stop.timeout).map_or(Duration::from_mins(10), Duration::from);
        turn.person = self.sites.values().any(Result::is_err)
            || super::gate::elapsed(handover.since, self.now) >= timeout
            || self.sites.keys().any(|region| proof::silent(self.facts, &turn.next, region, self.world).is_some());
        turn.wait(lacks.join("; "));
    }

    /// Leases and token are written before anything starts.
    fn publish(&self, turn: &mut Turn) {
        let Some(handover) = turn.next.handover.clone() else { return };
        if let Some(why) = self.must_stop_again(turn, &handover) {
            return self.begin(turn, self.wanted(&turn.next).0, &why);
        }
        turn.next.epoch = self.highest(&turn.next).max(turn.next.epoch);
        let published = self.published(&turn.next, &handover.to);
        turn.effects.extend(published.effects);
        match published.waits {
            None => turn.step(Step::Published),
            Some(waits) => turn.wait(waits),
        }
    }

    /// The new holder is started, and seen to run.
    fn start(&self, turn: &mut Turn) {
        let Some(mut handover) = turn.next.handover.clone() else { return };
        if let Some(why) = self.must_stop_again(turn, &handover) {
            return self.begin(turn, self.wanted(&turn.next).0, &why);
        }
        let Some(site) = self.site(&handover.to) else {
            return turn.wait(format!("{} is to be started, and cannot be seen", handover.to));
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
        turn.next.handover = Some(handover);
        let size = turn.next.size.unwrap_or(1);
        let epoch = turn.next.epoch;
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

    /// After a hand-over: the deadline goes when the first regular run has passed; at home nothing of ours stays.
    fn tidy(&self, turn: &mut Turn, holder: &str, is_home: bool) {
        let quiet = self.facts.named.is_none() && turn.next.two_since.is_none();
        for (region, site) in self.seen() {
            let started = turn.next.handover.as_ref().and_then(|handover| handover.started);
            let has_run = match (site.target.kind, started) {
                (Kind::CronJob, Some(started)) if region.as_str() == holder => site.last_run().is_some_and(|last| last > started),
                _ => true,
            };
            if has_run && is_home && quiet {
                self.give_back(turn, site, false);
            } else if has_run && region.as_str() == holder && site.target.kind == Kind::CronJob {
                let (place, value) = (self.place(turn, site), site.object.as_ref().and_then(|o| value(o, &run::deadline())));
                let ours = |claim: claim::Claim| claim.undo.iter().any(|entry| entry.spot == run::deadline());
                let is_ours = site.object.as_ref().and_then(|object| self.claim(object, &site.target)).is_some_and(ours);
                if is_ours && value != Place::value(&place.deadline) {
                    self.put(turn, site, run::started(site.target.kind, 0), None, Catch::Up);
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
        let place = self.place(turn, site);
        let mut changes = vec![change(object, switch, stands.clone(), stands), change(object, run::epoch(), None, None)];
        if kind == Kind::CronJob {
            let was = Place::value(&place.deadline);
            changes.push(change(object, run::deadline(), was.clone(), was));
        }
        let taken = taken_of(&turn.next, &site.target);
        let by = &self.facts.owner;
        let write = match claim::insist(object, &site.target, by, self.term, &changes, &taken) {
            Ok(None) => claim::release(object, &site.target, by),
            other => other,
        };
        turn.push(&site.target, write);
        true
    }

    fn claim(&self, object: &Object, target: &Target) -> Option<claim::Claim> {
        match claim::read(object, target) {
            Read::Claim(claim) if claim.by.uid == self.facts.owner.uid => Some(*claim),
            Read::Claim(_) | Read::Nothing | Read::Copied(_) | Read::Broken(_) | Read::Format(_) => None,
        }
    }

    /// Writes the switch, the epoch and whether a missed slot may start, all in one.
    fn put(&self, turn: &mut Turn, site: &Site, to: Json, epoch: Option<Epoch>, catch: Catch) {
        let Some(object) = &site.object else { return };
        let place = self.place(turn, site);
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
        let taken = taken_of(&turn.next, &site.target);
        let write = claim::insist(object, &site.target, &self.facts.owner, self.term, &changes, &taken);
        turn.push(&site.target, write);
    }

    /// What a workload was before the first write; noted when it is first written.
    fn place(&self, turn: &mut Turn, site: &Site) -> Place {
        let (target, Some(object)) = (site.target.to_string(), &site.object) else {
            return Place {
                target: String::new(),
                uid: String::new(),
                switch: String::new(),
                deadline: String::new(),
                taken: None,
            };
        };
        let known = turn.next.places.iter().find(|place| place.target == target && place.uid == object.uid());
        let claim = self.claim(object, &site.target);
        // Without a claim on it, and nothing under way, it is everybody's: what stands there now is what it is.
        let writes = turn.next.open.iter().any(|intent| intent.target == target);
        if let Some(place) = known.filter(|_| claim.is_some() || writes) {
            return place.clone();
        }
        let was = |spot: Spot| {
            let kept = claim.as_ref().and_then(|claim| claim.undo.iter().find(|entry| entry.spot == spot));
            let value = kept.map_or_else(|| value(object, &spot), |entry| entry.was.clone());
            value.map(|value| value.to_string()).unwrap_or_default()
        };
        let taken = known.and_then(|place| place.taken.clone()).filter(|_| claim.is_some());
        let deadline = if site.target.kind == Kind::CronJob { was(run::deadline()) } else { String::new() };
        let place = Place {
            target: target.clone(),
            uid: object.uid().to_owned(),
            switch: was(run::switch(site.target.kind)),
            deadline,
            taken,
        };
        // Looked into already, and nobody has touched it since.
        if let Some(known) = known.filter(|known| known.switch == place.switch && known.deadline == place.deadline) {
            return known.clone();
        }
        if known != Some(&place) {
            turn.next.places.retain(|place| place.target != target);
            turn.next.places.push(place.clone());
            turn.next.places.sort_by(|one, two| one.target.cmp(&two.target));
        }
        place
    }

    /// Forgets what workloads were that have no claim of ours any more, and no write of ours under way.
    fn forget(&self, next: &mut SingletonWorkloadStatus) {
        let released = self.seen().filter_map(|(_, site)| {
            let object = site.object.as_ref()?;
            self.claim(object, &site.target).is_none().then(|| site.target.to_string())
        });
        let released: BTreeSet<String> = released.collect();
        let open: BTreeSet<&String> = next.open.iter().map(|intent| &intent.target).collect();
        next.places.retain(|place| !released.contains(&place.target) || open.contains(&place.target));
    }

    /// Ends the Jobs of a region that is stopped, where the singleton says so.
    fn delete_jobs(&self, turn: &mut Turn, site: &Site) {
        let jobs = self.facts.spec.stop.as_ref().and_then(|stop| stop.running_jobs).unwrap_or_default();
        if jobs == RunningJobs::Delete && self.facts.spec.workload.kind == WorkloadKind::CronJob {
            let running = site.jobs.iter().filter(|job| !job.leaving);
            turn.effects.extend(running.map(|job| Effect::Delete(job.target.clone(), job.version.clone())));
        }
    }

    fn site(&self, region: &str) -> Option<&Site> {
        self.seen().find(|(name, _)| name.as_str() == region).map(|(_, site)| site)
    }
}

/// Whether a `CronJob` may start the slot that it missed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Catch {
    /// It may not.
    None,
    /// As it could before firedrill wrote it.
    Up,
}

fn followed(order: &Order) -> Followed {
    Followed { drill: order.drill.name.clone(), uid: order.drill.uid.clone(), direction: order.direction }
}

fn value(object: &Object, spot: &Spot) -> Option<Json> {
    spot.find(object.json()).ok().and_then(|found| found.value)
}

fn change(object: &Object, spot: Spot, was: Option<Json>, to: Option<Json>) -> Change {
    let from = value(object, &spot);
    Change { spot, was, from, to }
}

fn taken_of(next: &SingletonWorkloadStatus, target: &Target) -> Vec<Taken> {
    let place = next.places.iter().find(|place| place.target == target.to_string());
    place.and_then(|place| serde_json::from_str(place.taken.as_deref()?).ok()).unwrap_or_default()
}

/// Whether a singleton's loop says that it has done what a drill asks: it names the drill, the direction and the holder.
#[must_use]
pub fn has_followed(status: &SingletonWorkloadStatus, drill: &str, direction: Direction, holder: &str) -> bool {
    status.stage == Stage::Held
        && status.holder.as_deref() == Some(holder)
        && status.followed.as_ref().is_some_and(|followed| followed.uid == drill && followed.direction == direction)
}
