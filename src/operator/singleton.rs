//! One activation of a singleton: needs, observe, decide, commit, perform. It alone writes its workloads, in drills and outside.

use super::{Error, Key, Operator};
use crate::api::{
    Direction, Phase, SINGLETON_FINALIZER, SingletonWorkload, SingletonWorkloadStatus, Stage, StepState, WorkloadKind,
};
use crate::claim;
use crate::cluster::{Body, Category};
use crate::decide::{Effect, Facts, Led, Order, Work, lead, led_debts, needs_singleton, tried};
use crate::observe::observe;
use crate::terms::{ClusterUid, Kind, Object, Owner, RegionName, Term, Timestamp};
use chrono::TimeDelta;
use futures::future::join_all;
use http::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a read of the singleton itself may take.
const READ: Duration = Duration::from_secs(3);
/// How soon it is looked at again when it could not be committed.
const SOON: TimeDelta = TimeDelta::milliseconds(200);
/// How soon when an API server refused what was to be written.
const AGAIN: TimeDelta = TimeDelta::seconds(1);

pub(super) async fn activate(operator: &Operator, key: &Key, term: Term) -> Result<Option<Timestamp>, Error> {
    let path = format!("{}/{}", Kind::SingletonWorkload.path(key.namespace.as_deref()), key.name);
    let seen = match operator.fleet.hub.call(Method::GET, &path, Body::Nothing, READ).await {
        Ok(json) => Object::new(json),
        Err(error) if matches!(error.category, Category::NotFound) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let singleton: SingletonWorkload =
        seen.parse().map_err(|error| Error::Malformed(format!("SingletonWorkload {}", key.name), error))?;
    let progress = singleton.status.clone().unwrap_or_default();
    if progress.format > 1 {
        tracing::error!(
            singleton = key.name,
            format = progress.format,
            "its status has a format that this version does not know"
        );
        return Ok(None);
    }
    let now = operator.seam.clock.now();
    if progress.term > term.0 {
        tracing::warn!(
            singleton = key.name,
            term = term.0,
            seen = progress.term,
            "a later term has been here: the lead is given up"
        );
        operator.leadership.resign();
        return Ok(None);
    }
    // Before anything is looked at, the former leader is kept from storing progress.
    if progress.term < term.0 && progress.stage != Stage::Observed {
        operator.commit(Kind::SingletonWorkload, &seen, &SingletonWorkloadStatus { term: term.0, ..progress }).await?;
        return Ok(Some(now));
    }
    let facts = operator.facts(&singleton, &seen, &progress).await?;
    let world = observe(&operator.fleet, &operator.seam, &needs_singleton(&facts, &progress)).await;
    let now = operator.seam.clock.now();
    let refusals = operator.refusals();
    let (mut decision, trials) = lead(&facts, &progress, &world, &refusals, now, term);
    if !trials.is_empty() {
        let answers = join_all(trials.iter().map(|trial| async move { (trial, operator.write(&trial.write, true).await) })).await;
        let mut informed = progress.clone();
        for (trial, answer) in answers {
            let target = &trial.write.target;
            match (world.object(target), answer) {
                (Ok(Some(before)), Ok(after)) => tried(&mut informed, trial, &claim::taken(before, &after)),
                // What cannot be tried is not written; the next look tries again.
                (_, Err(error)) => operator.remember(target, Some(&error)),
                (_, Ok(_)) => {}
            }
        }
        decision = lead(&facts, &informed, &world, &operator.refusals(), now, term).0;
    }
    let after = if decision.progress == progress {
        seen.clone()
    } else {
        match operator.commit(Kind::SingletonWorkload, &seen, &decision.progress).await {
            Ok(after) => after,
            Err(Error::Call(error)) if error.category == Category::Conflict => return Ok(Some(now + SOON)),
            Err(error) => return Err(error),
        }
    };
    // What stops a second holder does not wait for what is told of it.
    join_all(decision.effects.iter().map(|effect| operator.perform(effect, Kind::SingletonWorkload, &after))).await;
    tell(operator, &after, &progress, &decision.progress).await;
    let refusals = operator.refusals();
    let soon = match decision.effects.iter().filter_map(Effect::target).any(|target| refusals.contains_key(target)) {
        _ if decision.effects.is_empty() => return Ok(decision.wake),
        true => AGAIN,
        false => SOON,
    };
    Ok(decision.wake.map(|wake| wake.min(now + soon)))
}

/// Tells people what they would want to be woken by, and what they will look for afterwards.
async fn tell(operator: &Operator, seen: &Object, before: &SingletonWorkloadStatus, next: &SingletonWorkloadStatus) {
    let kind = Kind::SingletonWorkload;
    if before.stage != next.stage {
        tracing::info!(
            namespace = seen.namespace(), singleton = seen.name(), stage = ?next.stage, holder = next.holder, epoch = next.epoch.0,
            message = next.message, "stage"
        );
        let reason = if before.stage == Stage::Observed { "Adopted".to_owned() } else { format!("{:?}", next.stage) };
        operator.tell(kind, seen, false, &reason, &next.message).await;
    }
    for condition in &next.conditions {
        let was = before.conditions.iter().find(|was| was.kind == condition.kind).map(|was| was.reason.as_str());
        let alarms = matches!(condition.reason.as_str(), "TwoHolders" | "NoHolder" | "NeedsHuman" | "TokenForeign" | "Enforcing");
        if alarms && was != Some(&condition.reason) {
            tracing::warn!(
                namespace = seen.namespace(),
                singleton = seen.name(),
                reason = condition.reason,
                message = condition.message,
                "alarm"
            );
            operator.tell(kind, seen, true, &condition.reason, &condition.message).await;
        }
    }
    let raised = next.stage == before.stage && next.epoch > before.epoch && before.stage == Stage::Held;
    if raised {
        let note = format!("somebody raised the epoch from {} to {}; it never falls", before.epoch, next.epoch);
        operator.tell(kind, seen, true, "EpochRaised", &note).await;
    }
}

impl Operator {
    /// What the hub says of a singleton.
    async fn facts(
        &self,
        singleton: &SingletonWorkload,
        seen: &Object,
        progress: &SingletonWorkloadStatus,
    ) -> Result<Facts, Error> {
        let (uid, namespace) = (seen.uid(), seen.namespace());
        let drills = self.drills_naming(uid).await;
        let acting = drills.iter().find(|(_, _, _, done)| !done);
        let order = acting.and_then(|(owner, led, asked, _)| {
            let (led, direction) = (led.as_ref()?, (*asked)?);
            let to = if direction == Direction::Out { led.to.clone() } else { led.from.clone() };
            Some(Order { drill: owner.clone(), direction, to })
        });
        let owed = drills.iter().find(|(_, _, _, done)| *done).map(|(owner, ..)| owner.name.clone());
        let regions: BTreeMap<String, Option<ClusterUid>> = self
            .store
            .regions()
            .into_iter()
            .filter_map(|region| {
                Some((region.metadata.name?, region.status.and_then(|status| status.cluster_uid).map(ClusterUid)))
            })
            .collect();
        let spec = &singleton.spec;
        let mut names: Vec<String> = spec.regions.clone();
        names.extend(progress.holder.iter().chain(&progress.home).cloned());
        names.extend(order.iter().map(|order| order.to.to_string()));
        // Where something of ours may still stand, though the spec names that region no more; one Region for each such cluster.
        let stands =
            |cluster: &ClusterUid| progress.places.iter().any(|place| place.target.starts_with(&format!("{}/", cluster.0)));
        let mut sighted: BTreeSet<&ClusterUid> = names.iter().filter_map(|name| regions.get(name)?.as_ref()).collect();
        let known = regions.iter().filter_map(|(name, cluster)| Some((name, cluster.as_ref()?)));
        let held = known.filter(|(_, cluster)| stands(cluster) && sighted.insert(cluster));
        let held: Vec<String> = held.map(|(name, _)| name.clone()).collect();
        names.extend(held);
        let mut clusters = BTreeMap::new();
        let mut problem = None;
        for name in names {
            match (RegionName::try_from(name.as_str()), regions.get(&name)) {
                (Ok(region), Some(Some(cluster))) => drop(clusters.insert(region, cluster.clone())),
                (Ok(_), Some(None)) => {
                    problem = Some((
                        "RegionNotReady",
                        format!("region {name} has not been reached yet: see `kubectl describe region {name}`"),
                    ));
                }
                (..) => {
                    problem = Some(("RegionUnknown", format!("there is no Region {name}: create it, or correct spec.regions")));
                }
            }
        }
        if let Some(((one, _), (two, _))) = clusters
            .iter()
            .flat_map(|one| clusters.iter().map(move |two| (one, two)))
            .find(|((one, here), (two, there))| one < two && here == there)
        {
            problem = Some(("SameCluster", format!("{one} and {two} are one cluster: name only one of them in spec.regions")));
        }
        let older = |other: &SingletonWorkload| {
            let of = |object: &SingletonWorkload| {
                let metadata = &object.metadata;
                (metadata.creation_timestamp.as_ref().map(|at| at.0.to_string()), metadata.uid.clone())
            };
            other.metadata.namespace.as_deref() == Some(namespace)
                && other.spec.workload == spec.workload
                && other.metadata.uid.as_deref() != Some(uid)
                && of(other) < of(singleton)
        };
        if let Some(other) = self.store.singletons().into_iter().find(older) {
            let kind: WorkloadKind = spec.workload.kind;
            let name = other.metadata.name.unwrap_or_default();
            problem = Some((
                "AlreadyLed",
                format!(
                    "{kind:?} {namespace}/{} is led by SingletonWorkload {name} already, which is older: delete one of them",
                    spec.workload.name
                ),
            ));
        }
        Ok(Facts {
            owner: Owner { name: format!("{namespace}/{}", seen.name()), uid: uid.to_owned() },
            namespace: namespace.to_owned(),
            name: seen.name().to_owned(),
            spec: spec.clone(),
            generation: singleton.metadata.generation.unwrap_or(0),
            deleted: singleton.metadata.deletion_timestamp.is_some(),
            finalizer: seen.list("/metadata/finalizers").iter().any(|finalizer| finalizer.as_str() == Some(SINGLETON_FINALIZER)),
            hub: self.hub()?,
            clusters,
            problem,
            order,
            named: acting.map(|(owner, ..)| owner.name.clone()),
            owed,
        })
    }

    /// The drills whose contract names a singleton and that act, or are over and owe more than singletons: what each says of it, which
    /// way its step has begun to go, and whether it is over. One whose contract cannot be read may name it.
    async fn drills_naming(&self, uid: &str) -> Vec<(Owner, Option<Led>, Option<Direction>, bool)> {
        let mut named = Vec::new();
        for drill in self.store.drills() {
            let Some(status) = &drill.status else { continue };
            let over = status.phase == Phase::Done;
            let Some(reference) = status.contract.as_ref().filter(|_| !over || !status.debts.is_empty()) else { continue };
            let Ok(contract) = self.contract(reference).await else {
                let metadata = &drill.metadata;
                let owner =
                    Owner { name: metadata.name.clone().unwrap_or_default(), uid: metadata.uid.clone().unwrap_or_default() };
                named.push((owner, None, None, over));
                continue;
            };
            let debts = led_debts(&contract);
            if over && status.debts.iter().all(|debt| debts.contains_key(debt)) {
                continue;
            }
            for step in &contract.steps {
                let Work::Singletons(all) = &step.work else { continue };
                let Some(led) = all.iter().find(|led| led.uid == uid) else { continue };
                let begun = status.steps.iter().find(|one| one.name == step.name && one.state != StepState::Waiting);
                named.push((contract.drill.clone(), Some(led.clone()), begun.map(|step| step.direction), over));
            }
        }
        named
    }
}
