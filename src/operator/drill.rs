//! One activation of a drill: needs, observe, decide, commit, perform.

use super::{Error, Key, Operator};
use crate::api::{
    ClusterRef, ContractRef, Control, Drill, DrillStatus, FINALIZER, Finding, Hold, HoldReason, Mode, Phase, Verdict,
};
use crate::cluster::{Body, CallError, Category};
use crate::decide::{
    self, Application, Contract, Effect, Event, Orders, RegionFacts, RouteFacts, SingletonFacts, Stored, accept, checked,
    conditions, decide, first_writes, hash, needs, needs_accept, nothing_stands, record, refuse, seal, transition, unusable,
};
use crate::observe::observe;
use crate::probe::prometheus;
use crate::terms::{ClusterUid, Kind, Object, Owner, RegionName, Target, Term, Timestamp};
use chrono::TimeDelta;
use futures::future::join_all;
use http::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Contracts that were read and checked, by hash: they never change.
pub(super) type Contracts = BTreeMap<String, Arc<Contract>>;

/// How long a read of the drill itself may take.
const READ: Duration = Duration::from_secs(3);
/// How soon a drill is looked at again that could not be committed.
const SOON: TimeDelta = TimeDelta::milliseconds(200);
/// How long nothing of what a new drill names is said to be missing: regions are looked at within a second or two of being seen.
const FRESH: TimeDelta = TimeDelta::seconds(6);
/// From when on an ordinary wait, for pods or for users to follow, is worth an event.
const LONG: TimeDelta = TimeDelta::seconds(60);
/// How soon a Check asks again whether it may be rehearsed.
const TURN: TimeDelta = TimeDelta::seconds(5);
/// How soon a new drill is looked at again then, and one of which every write was refused.
const AGAIN: TimeDelta = TimeDelta::seconds(1);

pub(super) async fn activate(operator: &Operator, key: &Key, term: Term) -> Result<Option<Timestamp>, Error> {
    let path = format!("{}/{}", Kind::Drill.path(None), key.name);
    let seen = match operator.fleet.hub.call(Method::GET, &path, Body::Nothing, READ).await {
        Ok(json) => Object::new(json),
        Err(error) if matches!(error.category, Category::NotFound) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let drill: Drill = seen.parse().map_err(|error| Error::Malformed(format!("Drill {}", key.name), error))?;
    let progress = drill.status.clone().unwrap_or_default();
    if progress.format > 1 {
        tracing::error!(
            drill = key.name,
            format = progress.format,
            "its status has a format that this version does not know; left alone"
        );
        return Ok(None);
    }
    let orders = Orders {
        control: drill.spec.control.unwrap_or(Control::Run),
        deleted: drill.metadata.deletion_timestamp.is_some(),
        finalizer: seen.list("/metadata/finalizers").iter().any(|name| name.as_str() == Some(FINALIZER)),
        generation: drill.metadata.generation.unwrap_or(0),
    };
    let now = operator.seam.clock.now();
    let run = Run { operator, drill: &drill, seen: &seen, progress: &progress, orders: &orders, term };
    match progress.phase {
        Phase::Done if !orders.finalizer => Ok(None),
        // The lock first: the finalizer says that it may still be there.
        Phase::Done => {
            let free = operator.unlock(seen.uid()).await?;
            operator.perform(&free.unwrap_or(Effect::Finalizer(false)), Kind::Drill, &seen).await;
            Ok(Some(now + SOON))
        }
        // A newer leader has been here: this instance leads no more, whatever its lease says.
        _ if progress.term > term.0 => {
            tracing::warn!(
                drill = key.name,
                term = term.0,
                seen = progress.term,
                "a later term has been here: the lead is given up"
            );
            operator.leadership.resign();
            Ok(None)
        }
        // Before anything is looked at, the former leader is kept from storing progress.
        _ if progress.term < term.0 && progress.contract.is_some() => {
            run.store(DrillStatus { term: term.0, ..progress.clone() }).await?;
            Ok(Some(now))
        }
        _ if progress.contract.is_some() => run.act().await,
        _ if orders.deleted => {
            if orders.finalizer {
                operator.perform(&Effect::Finalizer(false), Kind::Drill, &seen).await;
            }
            Ok(None)
        }
        Phase::Pending => run.wait(now).await,
        Phase::Checking | Phase::Evacuating | Phase::Evacuated | Phase::Returning => run.apply(now).await,
    }
}

/// One activation.
struct Run<'a> {
    operator: &'a Operator,
    drill: &'a Drill,
    seen: &'a Object,
    progress: &'a DrillStatus,
    orders: &'a Orders,
    term: Term,
}

impl Run<'_> {
    /// Commits, if anything changed, and tells what did.
    async fn store(&self, mut next: DrillStatus) -> Result<Object, Error> {
        if next == *self.progress {
            return Ok(self.seen.clone());
        }
        record(self.progress, &mut next, self.operator.seam.clock.now());
        let after = self.operator.commit(Kind::Drill, self.seen, &next).await?;
        let before = self.progress;
        tracing::debug!(drill = self.seen.name(), phase = ?next.phase, message = next.message, "stored");
        if before.phase != next.phase {
            tracing::info!(drill = self.seen.name(), region = self.drill.spec.region, phase = ?next.phase, message = next.message, "phase");
            let reason = next.verdict.map_or_else(|| format!("{:?}", next.phase), |verdict| format!("{verdict:?}"));
            let bad = matches!(next.verdict, Some(verdict) if verdict != Verdict::Passed);
            self.operator.tell(Kind::Drill, &after, bad, &reason, &next.message).await;
            if next.phase == Phase::Done {
                // Of a drill that was deleted these are all that stays.
                for conflict in next.conflicts.iter().take(8) {
                    self.operator.tell(Kind::Drill, &after, true, "ForeignChangeKept", conflict).await;
                }
                self.operator.telemetry.finished(self.drill, &next);
            }
        }
        if let Some(hold) = next.hold.as_ref().filter(|hold| is_news(hold, before, &next)) {
            tracing::info!(drill = self.seen.name(), region = self.drill.spec.region, reason = ?hold.reason, message = hold.message, "hold");
            self.operator.tell(Kind::Drill, &after, true, &format!("Hold{:?}", hold.reason), &hold.message).await;
        }
        Ok(after)
    }

    async fn wait(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let mut next = DrillStatus { format: 1, ..self.progress.clone() };
        let start = self.drill.spec.start.as_ref().map(|start| start.at);
        if let Some(at) = start.filter(|at| *at > now) {
            next.message = format!("starts at {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
            conditions(&mut next, self.orders.generation, now);
            self.store(next).await?;
            return Ok(Some(at));
        }
        if self.orders.control == Control::Pause {
            next.message = "paused before it began; `control: Run` begins it, `Abort` ends it".into();
            conditions(&mut next, self.orders.generation, now);
            self.store(next).await?;
            return Ok(Some(now + TimeDelta::seconds(5)));
        }
        if let Ok(phase) = transition(next.phase, Event::Due) {
            next.phase = phase;
            next.since = Some(now);
            next.times.declared = start;
            next.message = "checking".into();
        }
        conditions(&mut next, self.orders.generation, now);
        self.store(next).await?;
        Ok(Some(now))
    }

    /// The drill applies to be run: the checks, then the contract is stored, then the drill says so.
    async fn apply(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        if self.orders.control == Control::Abort {
            let finding = crate::check::blocker("Control", "", "", "a person set control: Abort before it began", "");
            self.store(refuse(self.progress, self.orders, vec![finding], now)).await?;
            return Ok(None);
        }
        let application = self.application()?;
        let named =
            |region: &RegionName| application.plan.iter().any(|plan| plan.regions.iter().any(|name| name == region.as_str()));
        let known = application.regions.iter().filter(|(region, _)| named(region));
        self.operator.reach_all(known.filter_map(|(region, facts)| Some((region, facts.cluster.as_ref()?, &facts.access)))).await;
        let world = observe(&self.operator.fleet, &self.operator.seam, &needs_accept(&application, now)).await;
        let now = self.operator.seam.clock.now();
        let (contract, findings) = match accept(&application, &world, now) {
            Ok(accepted) => accepted,
            // What was applied together with it may not have been seen, or not been looked at, yet.
            Err(_) if self.is_fresh(now) => return Ok(Some(now + AGAIN)),
            Err(findings) => return self.not_accepted(findings, now).await,
        };
        let writes = match first_writes(&contract, &world) {
            Ok(writes) => writes,
            Err(blockers) => return self.not_accepted(blockers, now).await,
        };
        let answers =
            join_all(writes.iter().map(|write| async move { (write.target.clone(), self.operator.write(write, true).await) }));
        let mut dry = BTreeMap::new();
        for (target, answer) in answers.await {
            match answer {
                // It moved on, or there was no answer: that says nothing about whether it can be written.
                Err(CallError {
                    category: Category::Conflict | Category::TimedOut | Category::Unreachable | Category::Unavailable,
                    ..
                }) => {
                    return Ok(Some(now + SOON));
                }
                answer => drop(dry.insert(target, answer.map_err(|error| error.to_string()))),
            }
        }
        let contract = match seal(contract, &world, &dry) {
            Ok(contract) => contract,
            Err(blockers) => return self.not_accepted(blockers, now).await,
        };
        if self.drill.spec.mode == Mode::Check {
            drop(world);
            return self.checked(findings).await;
        }
        let mut next = self.progress.clone();
        next.findings = bounded(findings);
        next.term = self.term.0;
        let reference = ContractRef::new(&contract.drill.uid, &hash(&contract));
        let stored = self.stored(&reference);
        // Stored first: a contract that nobody refers to is harmless, a reference to none would not be. Its owner is the drill,
        // so it goes with it.
        let mut body = stored.body(&contract);
        if let Some(metadata) = body.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            let owner = serde_json::json!([{
                "apiVersion": Kind::Drill.resource().0, "kind": "Drill", "name": contract.drill.name, "uid": contract.drill.uid,
            }]);
            metadata.insert("ownerReferences".into(), owner);
        }
        let target = Target {
            cluster: contract.hub.clone(),
            kind: Kind::ConfigMap,
            namespace: Some(self.operator.settings.namespace.clone()),
            name: reference.config_map.clone(),
        };
        let path = target.kind.path(target.namespace.as_deref());
        match self.operator.send(&target, Method::POST, &path, Body::Json(body)).await {
            Ok(_) => {}
            Err(error) if error.category == Category::Conflict => {}
            Err(error) => return Err(error.into()),
        }
        next.contract = Some(reference);
        next.message = "accepted".into();
        conditions(&mut next, self.orders.generation, now);
        self.store(next).await?;
        Ok(Some(now))
    }

    /// Whether it was made so short a time ago that watches may not show yet what it needs.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.seen.created().is_some_and(|created| now - created < FRESH)
    }

    async fn not_accepted(&self, findings: Vec<Finding>, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        if self.drill.spec.mode == Mode::Check {
            return self.checked(findings).await;
        }
        self.store(refuse(self.progress, self.orders, bounded(findings), now)).await?;
        Ok(None)
    }

    /// A Check is over with what was found and, where nothing stands in the way, with what a rehearsal comes to.
    async fn checked(&self, findings: Vec<Finding>) -> Result<Option<Timestamp>, Error> {
        let mut rehearsed = None;
        if let (Some(rehearser), true) = (&self.operator.settings.rehearser, nothing_stands(&findings)) {
            let (plan, region) = (self.drill.spec.plan.clone(), self.drill.spec.region.clone());
            rehearsed = rehearser.rehearse(self.operator.fleet.clone(), plan, region).await.transpose();
            if rehearsed.is_none() {
                // Another one is rehearsed. To wait for it here would keep drills that act from being looked at.
                return Ok(Some(self.operator.seam.clock.now() + TURN));
            }
        }
        let mut next = checked(self.progress, self.orders, &self.drill.spec, findings, rehearsed, self.operator.seam.clock.now());
        next.findings = bounded(next.findings);
        self.store(next).await?;
        Ok(None)
    }

    fn application(&self) -> Result<Application, Error> {
        let store = &self.operator.store;
        let spec = self.drill.spec.clone();
        let plan = store.plans().into_iter().find(|plan| plan.metadata.name.as_deref() == Some(&spec.plan)).map(|plan| plan.spec);
        let regions = store.regions().into_iter().filter_map(|region| {
            let name = RegionName::try_from(region.metadata.name.clone()?).ok()?;
            Some((name, facts(&region)))
        });
        let namespaces: BTreeSet<String> = plan.iter().flat_map(|plan| plan.namespaces.iter().cloned()).collect();
        let routes = store
            .routes()
            .into_iter()
            .filter_map(|route| {
                let namespace = route.metadata.namespace.clone().filter(|namespace| namespaces.contains(namespace))?;
                Some(RouteFacts { namespace, name: route.metadata.name.clone()?, spec: route.spec })
            })
            .collect();
        let singletons = store.singletons().into_iter().filter_map(|singleton| {
            let namespace = singleton.metadata.namespace.clone().filter(|namespace| namespaces.contains(namespace))?;
            Some(SingletonFacts {
                namespace,
                name: singleton.metadata.name?,
                uid: singleton.metadata.uid?,
                spec: singleton.spec,
                status: singleton.status.unwrap_or_default(),
            })
        });
        let settings = &self.operator.settings;
        let prometheus_refused = plan.as_ref().and_then(|plan| plan.prometheus.as_ref()).and_then(|chosen| {
            let host = prometheus::host(&chosen.url)?;
            let own = settings.prometheus.as_deref().and_then(prometheus::host);
            let allowed = own.as_ref() == Some(&host) || settings.allowed_hosts.contains(&host);
            (!allowed)
                .then(|| format!("the plan's prometheus.url names {host}, which is not on the operator's list of allowed hosts"))
        });
        let busy = store.drills().into_iter().find(|other| {
            other.metadata.uid != self.drill.metadata.uid
                && other.status.as_ref().is_some_and(|status| status.contract.is_some() && status.phase != Phase::Done)
        });
        Ok(Application {
            drill: self.owner(),
            spec,
            plan,
            regions: regions.collect(),
            routes,
            singletons: singletons.collect(),
            owed: self.operator.owed(),
            hub: self.operator.hub()?,
            prometheus: settings.prometheus.clone(),
            prometheus_refused,
            busy: busy.and_then(|drill| drill.metadata.name),
        })
    }

    fn owner(&self) -> Owner {
        Owner { name: self.seen.name().to_owned(), uid: self.seen.uid().to_owned() }
    }

    fn stored(&self, reference: &ContractRef) -> Stored {
        Stored { namespace: self.operator.settings.namespace.clone(), name: reference.config_map.clone() }
    }

    /// The drill acts.
    async fn act(&self) -> Result<Option<Timestamp>, Error> {
        let Some(reference) = &self.progress.contract else { return Ok(None) };
        let contract = match self.operator.contract(reference).await {
            Ok(contract) => contract,
            Err(error) => {
                tracing::error!(drill = self.seen.name(), %error, "its contract cannot be used: nothing is done");
                let now = self.operator.seam.clock.now();
                self.store(unusable(self.progress, self.orders, reference, &error, now)).await?;
                return Ok(Some(now + TimeDelta::seconds(5)));
            }
        };
        self.operator.reach(&contract).await;
        let stored = self.stored(reference);
        let world = observe(&self.operator.fleet, &self.operator.seam, &needs(&contract, &stored, self.progress)).await;
        let now = self.operator.seam.clock.now();
        let refusals = self.operator.refusals();
        let decision = decide(&contract, &stored, self.orders, self.progress, &world, &refusals, now, self.term);
        let over = decision.progress.phase == Phase::Done;
        let after = match self.store(decision.progress).await {
            Ok(after) => after,
            // Another hand was on the drill: nothing is done, and it is looked at anew.
            Err(Error::Call(error)) if error.category == Category::Conflict => return Ok(Some(now + SOON)),
            Err(error) => return Err(error),
        };
        join_all(decision.effects.iter().map(|effect| self.operator.perform(effect, Kind::Drill, &after))).await;
        if over {
            self.operator.forget(reference);
            return Ok(Some(now));
        }
        let refused = |effect: &Effect| effect.target().is_some_and(|target| refusals.contains_key(target));
        Ok(match decision.effects.as_slice() {
            [] => decision.wake,
            effects if effects.iter().all(refused) => Some(now + AGAIN),
            _ => decision.wake.map(|wake| wake.min(now + SOON)),
        })
    }
}

impl Operator {
    /// What takes the lock away from a drill that is over, if it has it.
    async fn unlock(&self, drill: &str) -> Result<Option<Effect>, Error> {
        let lock = Stored::lock(&self.settings.namespace, &self.hub()?);
        match self.fleet.hub.call(Method::GET, &lock.path(), Body::Nothing, READ).await {
            Ok(json) => Ok(Stored::unlock(&lock, &Object::new(json), drill)),
            Err(error) if error.category == Category::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A contract that is not needed any more.
    fn forget(&self, reference: &ContractRef) {
        if let Ok(mut known) = self.contracts.lock() {
            known.remove(&reference.hash);
        }
    }

    /// Finds the clients of a contract's clusters; those that were found before are kept.
    pub(super) async fn reach(&self, contract: &Contract) {
        let regions = contract.regions.iter();
        self.reach_all(regions.filter_map(|(region, uid)| Some((region, uid, contract.access.get(region)?)))).await;
    }

    /// Finds the clients of clusters, each of which must be the one that it is said to be.
    async fn reach_all<'a>(&self, regions: impl Iterator<Item = (&'a RegionName, &'a ClusterUid, &'a ClusterRef)>) {
        join_all(regions.map(|(region, uid, access)| async move {
            if self.fleet.by_uid(uid).is_some() {
                return;
            }
            let Ok(api) = self.fleet.connect(access).await else { return };
            match self.fleet.identify(&api).await {
                Ok(found) if found == *uid => self.fleet.remember(uid, &api),
                Ok(found) => tracing::error!(%region, %found, expected = %uid, "another cluster answers; it is not written"),
                Err(error) => tracing::warn!(%region, %error, "cannot be identified"),
            }
        }))
        .await;
    }

    /// The contract of a drill, as stored on the hub, or else as one of its copies has it.
    pub(super) async fn contract(&self, reference: &ContractRef) -> Result<Arc<Contract>, String> {
        let known = self.contracts.lock().ok().and_then(|known| known.get(&reference.hash).cloned());
        if let Some(contract) = known {
            return Ok(contract);
        }
        let path = format!("{}/{}", Kind::ConfigMap.path(Some(&self.settings.namespace)), reference.config_map);
        let regions = self.store.regions();
        let uids = regions.iter().filter_map(|region| region.status.as_ref()?.cluster_uid.clone()).map(crate::terms::ClusterUid);
        let copies = uids.filter_map(|uid| self.fleet.by_uid(&uid));
        let mut found = Err("no cluster was asked".to_owned());
        for api in std::iter::once(self.fleet.hub.clone()).chain(copies) {
            found = match api.call(Method::GET, &path, Body::Nothing, READ).await {
                Err(error) => Err(error.to_string()),
                Ok(json) => {
                    let object = Object::new(json);
                    Contract::parse(object.text("/data/contract"), &reference.hash).map_err(|error| error.to_string())
                }
            };
            if found.is_ok() {
                break;
            }
        }
        let contract = found?;
        let contract = Arc::new(contract);
        if let Ok(mut known) = self.contracts.lock() {
            known.insert(reference.hash.clone(), Arc::clone(&contract));
        }
        Ok(contract)
    }
}

/// Whether people are to be told of a hold now: at once of what somebody must act on, of an ordinary wait when it becomes long.
fn is_news(hold: &Hold, before: &DrillStatus, next: &DrillStatus) -> bool {
    match hold.reason {
        HoldReason::NotConfirmed | HoldReason::CapacityNotReady => {
            let long = |status: &DrillStatus| status.times.looked.is_some_and(|looked| looked - hold.since >= LONG);
            long(next) && !long(before)
        }
        HoldReason::Paused
        | HoldReason::Gate
        | HoldReason::RegionBlind
        | HoldReason::Contention
        | HoldReason::WriteRefused
        | HoldReason::Unreachable
        | HoldReason::NeedsHuman
        | HoldReason::ContractLost => before.hold.as_ref().is_none_or(|before| before.reason != hold.reason),
    }
}

fn facts(region: &crate::api::Region) -> RegionFacts {
    let ready = region.status.as_ref().and_then(|status| status.conditions.iter().find(|condition| condition.kind == "Ready"));
    let problem = match ready {
        Some(condition) if condition.status == crate::api::Status::True => String::new(),
        Some(condition) => condition.message.clone(),
        None => "it has not been looked at yet".to_owned(),
    };
    RegionFacts {
        access: region.spec.cluster.clone(),
        cluster: region.status.as_ref().and_then(|status| status.cluster_uid.clone()).map(crate::terms::ClusterUid),
        problem,
    }
}

/// Findings for the status: at most 64, the rest counted.
fn bounded(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort();
    let rest = findings.len().saturating_sub(64);
    findings.truncate(64);
    if rest > 0 {
        findings.push(decide::more(rest));
    }
    findings
}
