//! A singleton: exactly one region runs it. Enforced while it is held, and handed over by proof.
//!
//! [`needs_singleton`] says what to look at, [`lead`] what follows from it. Whatever is written goes into the status first; a
//! restart is an activation.

mod facts;
mod handover;
mod hands;
mod held;
mod proof;
mod publish;
mod stage;
mod words;

pub use facts::{Facts, Order};
pub use hands::{Trial, tried};

use super::decision::{Decision, Effect};
use super::intent;
use super::words::cut;
use crate::api::{Direction, Enforcement, Followed, SingletonWorkloadStatus, Stage};
use crate::claim::{Refusal, Write};
use crate::dialect::run::{self, Site};
use crate::terms::{RegionName, Target, Term, Timestamp};
use crate::world::{Needs, World};
use chrono::TimeDelta;
use hands::taken_of;
use proof::Sites;
use stage::{Step, follow};
use std::collections::BTreeMap;

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

/// What follows from the world for a singleton. `refusals` are what API servers did not take last, and why. What is to be tried
/// first is not written yet: run it dry, keep what that answered by [`tried`], and ask again.
#[must_use]
pub fn lead(
    facts: &Facts,
    progress: &SingletonWorkloadStatus,
    world: &World,
    refusals: &BTreeMap<Target, String>,
    now: Timestamp,
    term: Term,
) -> (Decision<SingletonWorkloadStatus>, Vec<Trial>) {
    let mut next = progress.clone();
    next.format = 1;
    next.term = term.0;
    next.observed_generation = facts.generation;
    next.workload = format!("{}/{}", facts.kind(), facts.spec.workload.name);
    let unsettled = intent::settle(&mut next.open, world);
    if next.stage == Stage::Stopping && next.looked.is_some_and(|last| now - last > UNWATCHED) {
        next.regions.iter_mut().for_each(|region| region.quiet = None);
        next.pods.iter_mut().for_each(|pod| pod.gone = None);
    }
    let sites: Sites =
        facts.clusters.iter().map(|(region, cluster)| (region.clone(), Site::see(world, &facts.workload(cluster)))).collect();
    proof::remember(facts, &mut next, &sites, world, now);
    if next.stage == Stage::Stopping && next.looked.is_none_or(|last| now - last >= LOOKED) {
        next.looked = Some(now);
    }
    let view = View { facts, world, sites: &sites, now, term };
    let problem = facts.problem.clone().or_else(|| view.problem());
    let mut turn = Turn { next, effects: Vec::new(), trials: Vec::new(), waits: None, person: false };
    view.two(&mut turn.next);
    match turn.next.stage {
        Stage::Observed => view.observe(&mut turn, problem.is_some()),
        Stage::Held => view.hold(&mut turn),
        Stage::Stopping => view.stop(&mut turn),
        Stage::Publishing => view.publish(&mut turn),
        Stage::Starting => view.start(&mut turn),
    }
    let Turn { mut next, mut effects, trials, waits, person } = turn;
    let taken =
        |target: &Target| next.places.iter().find(|place| place.target == target.to_string()).map(taken_of).unwrap_or_default();
    intent::stamps(&facts.owner, &unsettled, &mut effects, world, term, taken);
    intent::keep(&mut next.open, &effects);
    view.forget(&mut next);
    let targets = trials.iter().map(|trial| &trial.write.target).chain(effects.iter().filter_map(Effect::target));
    let refused =
        intent::refused(targets, refusals).map(|(target, message)| format!("{} is not taken: {message}", target.label()));
    let person = person || refused.is_some();
    words::tell(facts, &mut next, problem, refused.or(waits), person, now);
    let moves = matches!(next.stage, Stage::Stopping | Stage::Publishing | Stage::Starting);
    let pause = match () {
        () if moves => TICK,
        () if next.two_since.is_some() || facts.named.is_some() || facts.deleted || !effects.is_empty() => WATCH,
        // What is only tried before it is adopted has time.
        () if !trials.is_empty() && next.stage != Stage::Observed => WATCH,
        () => LOOK,
    };
    (Decision { progress: next, effects, wake: Some(now + pause) }, trials)
}

/// What is decided in one activation.
struct Turn {
    next: SingletonWorkloadStatus,
    effects: Vec<Effect>,
    trials: Vec<Trial>,
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
            // Who is only reported has neither Lease nor token.
            let foreign = || self.foreign(region.as_str()).filter(|_| self.facts.spec.enforcement == Enforcement::Enforce);
            if let Some(foreign) = foreign() {
                return Some(foreign);
            }
        }
        None
    }

    /// Keeps since when two regions run it.
    fn two(&self, next: &mut SingletonWorkloadStatus) {
        let runs = self.seen().filter(|(_, site)| site.is_on() || site.busy().is_some()).count();
        next.two_since = (runs > 1).then(|| next.two_since.unwrap_or(self.now));
    }

    /// Who is to hold it now, and why.
    fn wanted(&self, next: &SingletonWorkloadStatus) -> (String, String) {
        let holder = next.holder.clone().unwrap_or_default();
        if let Some(order) = &self.facts.order {
            return (order.to.to_string(), format!("drill {} wants it", order.drill.name));
        }
        let home = next.home.clone().unwrap_or_else(|| holder.clone());
        // A drill that has just begun, or has not put everything back, is not over for it.
        if self.facts.named.is_some() || self.facts.owed.is_some() || self.site(&home).is_none() {
            return (holder, String::new());
        }
        (home, "no drill wants it elsewhere any more, it belongs".to_owned())
    }

    /// Whether the holder's region is the cluster that it was when it became the holder.
    fn is_known(&self, next: &SingletonWorkloadStatus) -> bool {
        let cluster = next.holder.as_ref().and_then(|holder| self.cluster(holder));
        cluster.is_some() && (next.holder_cluster.is_none() || next.holder_cluster == cluster)
    }

    fn cluster(&self, region: &str) -> Option<String> {
        self.facts.clusters.iter().find(|(name, _)| name.as_str() == region).map(|(_, cluster)| cluster.0.clone())
    }

    /// What keeps a holder from being known, for people.
    fn unknown(holder: &str) -> String {
        format!(
            "the cluster that was {holder} is none of this fleet's any more, and nobody can see what runs there: create its Region again; \
             if it is gone for good, see \"A region that is gone for good\" in docs/singletons.md"
        )
    }

    /// Makes a region the holder.
    fn name(&self, next: &mut SingletonWorkloadStatus, holder: &str) {
        next.holder = Some(holder.to_owned());
        next.holder_cluster = self.cluster(holder);
    }

    fn site(&self, region: &str) -> Option<&Site> {
        self.seen().find(|(name, _)| name.as_str() == region).map(|(_, site)| site)
    }
}

fn followed(order: &Order) -> Followed {
    Followed { drill: order.drill.name.clone(), uid: order.drill.uid.clone(), direction: order.direction }
}

/// Whether a singleton's loop says that it has done what a drill asks: it names the drill, the direction and the holder.
#[must_use]
pub fn has_followed(status: &SingletonWorkloadStatus, drill: &str, direction: Direction, holder: &str) -> bool {
    status.stage == Stage::Held
        && status.holder.as_deref() == Some(holder)
        && status.followed.as_ref().is_some_and(|followed| followed.uid == drill && followed.direction == direction)
}

/// Whether a singleton that was led away from a region is at home again, or is led by nobody any more.
#[must_use]
pub fn is_home(status: &SingletonWorkloadStatus, from: &str) -> bool {
    let holder = status.holder.as_deref();
    match status.stage {
        Stage::Observed => true,
        Stage::Held => holder == Some(from) || holder == status.home.as_deref(),
        Stage::Stopping | Stage::Publishing | Stage::Starting => false,
    }
}
