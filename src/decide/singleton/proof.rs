//! Proof that a region does not run a singleton any more: what is remembered between looks, and what is missing yet.
//!
//! *Stopped* means, from quorum lists: the stop is seen written with the next epoch, no Job or pod is unfinished, none vanished
//! without its end being sure, and it was quiet for `settle` after the write and after any run that was due about then.

use super::Facts;
use crate::api::{RegionRun, Running, SeenPod, SingletonWorkloadStatus, Stage};
use crate::dialect::run::Site;
use crate::terms::{ClusterUid, Json, Kind, Object, RegionName, Target, Timestamp};
use crate::world::{Blind, World};
use chrono::TimeDelta;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most pods of one singleton that are remembered: a status has room for no more.
pub(super) const MOST_PODS: usize = 128;

/// Every region as it was seen.
pub(super) type Sites = BTreeMap<RegionName, Result<Site, Blind>>;

/// How long it must be quiet.
pub(super) fn settle(facts: &Facts) -> TimeDelta {
    let settle = facts.spec.stop.as_ref().and_then(|stop| stop.settle).map_or(Duration::from_secs(15), Duration::from);
    TimeDelta::from_std(settle).unwrap_or(TimeDelta::MAX)
}

/// A node of a region.
pub(super) fn node(cluster: &ClusterUid, name: &str) -> Target {
    Target { cluster: cluster.clone(), kind: Kind::Node, namespace: None, name: name.to_owned() }
}

/// Brings what is remembered up to what was seen: pods first, then each region.
pub(super) fn remember(facts: &Facts, next: &mut SingletonWorkloadStatus, sites: &Sites, world: &World, now: Timestamp) {
    let before = std::mem::take(&mut next.pods);
    let mut pods: Vec<SeenPod> = Vec::new();
    for pod in before {
        let site = sites.iter().find(|(region, _)| region.as_str() == pod.region).map(|(_, site)| site);
        let cluster = facts.clusters.iter().find(|(region, _)| region.as_str() == pod.region).map(|(_, cluster)| cluster);
        let there = cluster.map_or(Err(Blind::Unasked), |cluster| world.object(&node(cluster, &pod.node)));
        pods.extend(kept(pod, site, &there, settle(facts), now));
    }
    for (region, site) in sites {
        for pod in site.iter().flat_map(Site::alive) {
            match pods.iter_mut().find(|seen| seen.uid == pod.uid) {
                Some(seen) => seen.node.clone_from(&pod.node),
                None => pods.push(SeenPod {
                    uid: pod.uid.clone(),
                    region: region.to_string(),
                    name: pod.name.clone(),
                    node: pod.node.clone(),
                    boot: String::new(),
                    grace: pod.grace,
                    gone: None,
                }),
            }
        }
    }
    // What is remembered is not given up for what can still be seen.
    pods.truncate(MOST_PODS);
    next.pods = pods;
    let epoch = next.handover.as_ref().filter(|_| next.stage == Stage::Stopping).map(|handover| handover.epoch);
    let regions: Vec<RegionRun> = sites
        .iter()
        .map(|(region, site)| {
            let before = next.region(region.as_str());
            let stopped_before = before.and_then(|run| run.stopped).filter(|_| epoch.is_some());
            let mut run = RegionRun {
                region: region.to_string(),
                running: Running::Unknown,
                message: String::new(),
                stopped: stopped_before,
                quiet: None,
            };
            let site = match site {
                Ok(site) => site,
                Err(blind) => {
                    run.message = blind.to_string().chars().take(512).collect();
                    return run;
                }
            };
            let busy = silent(facts, next, region, world).or_else(|| site.busy());
            let unsure = unsure(next, region);
            run.running = if site.is_on() || site.busy().is_some() { Running::Yes } else { Running::No };
            // A holder that is not there any more cannot be stopped: it may be made anew, as it was.
            let is_nothing = site.object.is_none() && next.holder.as_deref() != Some(region.as_str());
            let is_off = is_nothing || (site.object.is_some() && !site.is_on() && site.stamped() == epoch);
            run.stopped = stopped_before.or(Some(now)).filter(|_| epoch.is_some() && is_off);
            if run.stopped.is_some() && busy.is_none() && unsure.is_none() {
                run.quiet = before.and_then(|run| run.quiet).or(Some(now));
            }
            run.message = busy.or(unsure).unwrap_or_default().chars().take(512).collect();
            run
        })
        .collect();
    next.regions = regions;
}

/// A pod that was seen to run, unless it is sure now that it has ended.
fn kept(
    mut pod: SeenPod,
    site: Option<&Result<Site, Blind>>,
    node: &Result<Option<&Object>, Blind>,
    settle: TimeDelta,
    now: Timestamp,
) -> Option<SeenPod> {
    // Where its region cannot be seen, or is none of the fleet's any more, nobody has seen it end.
    let Some(Ok(site)) = site else { return Some(SeenPod { gone: None, ..pod }) };
    let seen = site.pods.iter().find(|seen| seen.uid == pod.uid);
    let boot = |node: &Object| node.text("/status/nodeInfo/bootID").to_owned();
    if seen.is_some_and(|seen| !seen.ended) || site.listed.contains(&pod.uid) {
        if let Ok(Some(node)) = node {
            pod.boot = boot(node);
        }
        pod.gone = None;
        return Some(pod);
    }
    // Without a node nothing ever ran it; a node that is gone, or has been booted since, runs nothing of before.
    if pod.node.is_empty() {
        return None;
    }
    match node {
        Ok(None) => None,
        Ok(Some(node)) if !pod.boot.is_empty() && boot(node) != pod.boot => None,
        // Nobody on a node that is not ready tells what still runs there, whatever the API server says of the pod.
        Ok(Some(node)) if !is_ready(node) => Some(SeenPod { gone: None, ..pod }),
        Ok(Some(_)) if seen.is_some() => None,
        // It vanished: ended, or deleted by force. Its node's kubelet, which is there, ends it within its grace.
        Ok(Some(_)) => {
            let gone = *pod.gone.get_or_insert(now);
            (now - gone < TimeDelta::seconds(i64::from(pod.grace)) + settle).then_some(pod)
        }
        Err(_) => Some(SeenPod { gone: None, ..pod }),
    }
}

fn is_ready(node: &Object) -> bool {
    let is = |condition: &Json, key: &str, value: &str| condition.get(key).and_then(Json::as_str) == Some(value);
    node.list("/status/conditions").iter().any(|condition| is(condition, "type", "Ready") && is(condition, "status", "True"))
}

/// A pod that runs on a node which is not ready, for people.
pub(super) fn silent(facts: &Facts, next: &SingletonWorkloadStatus, region: &RegionName, world: &World) -> Option<String> {
    let cluster = facts.clusters.get(region)?;
    let pods = next.pods.iter().filter(|pod| pod.region == region.as_str() && !pod.node.is_empty());
    let on_silent = |pod: &&SeenPod| matches!(world.object(&node(cluster, &pod.node)), Ok(Some(node)) if !is_ready(node));
    pods.into_iter().find(on_silent).map(|pod| {
        format!(
            "pod {} runs on node {}, which is not ready: it counts until the node is ready again, booted anew or deleted",
            pod.name, pod.node
        )
    })
}

/// A pod of a region of which it is not sure that it has ended, for people.
pub(super) fn unsure(next: &SingletonWorkloadStatus, region: &RegionName) -> Option<String> {
    next.pods.iter().find(|pod| pod.region == region.as_str()).map(|pod| match pod.gone {
        Some(_) => format!(
            "pod {} on node {} was not seen to end: a forced deletion does not stop it; it counts as running for its grace of {} s and settle",
            pod.name, pod.node, pod.grace
        ),
        None => format!("pod {} may still run on node {}, which nobody has seen to end it", pod.name, pod.node),
    })
}

/// Whether a region is proven stopped; what is missing.
pub(super) fn proven(
    facts: &Facts,
    next: &SingletonWorkloadStatus,
    region: &RegionName,
    sites: &Sites,
    now: Timestamp,
) -> Result<(), String> {
    let site = match sites.get(region) {
        Some(Ok(site)) => site,
        Some(Err(blind)) => return Err(format!("{region} {blind}")),
        None => return Err(format!("{region} is no region of this fleet")),
    };
    if site.object.is_none() && next.holder.as_deref() == Some(region.as_str()) {
        let label = site.target.label();
        return Err(format!(
            "{region}: {label} does not exist there any more, and may be made anew as it ran: create it there, stopped"
        ));
    }
    let Some(run) = next.region(region.as_str()) else { return Err(format!("{region} was not looked at yet")) };
    let (Some(stopped), Some(quiet)) = (run.stopped, run.quiet) else {
        let what = if run.message.is_empty() { "the stop is not written yet" } else { &run.message };
        return Err(format!("{region}: {what}"));
    };
    let settle = settle(facts);
    // A run that was due about the stop may begin late. Where the schedule cannot be read, it may have been due any time.
    let due = match (site.target.kind, site.schedule()) {
        (Kind::CronJob, Some(schedule)) => schedule.last(stopped + settle),
        (Kind::CronJob, None) => Some(stopped + settle),
        _ => None,
    };
    let until = quiet.max(stopped).max(due.unwrap_or(stopped)) + settle;
    if now < until {
        return Err(format!("{region}: quiet, {} s to go", (until - now).num_seconds() + 1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::run::Pod;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn pod() -> SeenPod {
        SeenPod {
            uid: "u".into(),
            region: "eu-west".into(),
            name: "p".into(),
            node: "n".into(),
            boot: "b1".into(),
            grace: 30,
            gone: None,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as a look answers")]
    fn site(pods: Vec<Pod>) -> Result<Site, Blind> {
        let target = Target { cluster: ClusterUid("c".into()), kind: Kind::Deployment, namespace: None, name: "d".into() };
        Ok(Site { target, object: None, jobs: Vec::new(), pods, listed: BTreeSet::new(), autoscaler: None })
    }

    fn machine(ready: &str, boot: &str) -> Object {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        Object::new(json!({"status": {"conditions": conditions, "nodeInfo": {"bootID": boot}}}))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_pod_that_vanished_counts_as_running_for_its_grace_and_settle() {
        let (none, ready) = (site(Vec::new()), machine("True", "b1"));
        let look = |pod, now| kept(pod, Some(&none), &Ok(Some(&ready)), TimeDelta::seconds(15), at(now));
        let gone = look(pod(), 0).unwrap();
        assert_eq!(gone.gone, Some(at(0)));
        assert!(look(gone.clone(), 44).is_some());
        assert!(look(gone, 45).is_none());
    }

    #[test]
    fn a_pod_on_a_node_that_is_not_ready_counts_until_the_node_is_booted_anew_or_gone() {
        let ended = Pod { name: "p".into(), uid: "u".into(), node: "n".into(), grace: 30, ended: true };
        let look = |site: &Result<Site, Blind>, node: Result<Option<&Object>, Blind>| {
            kept(pod(), Some(site), &node, TimeDelta::seconds(15), at(1000)).is_some()
        };
        let (silent, ready, anew) = (machine("Unknown", "b1"), machine("True", "b1"), machine("True", "b2"));
        for pods in [Vec::new(), vec![ended.clone()]] {
            let there = site(pods);
            assert!(look(&there, Ok(Some(&silent))), "deleted by force, or said to have failed by the control plane");
            assert!(look(&there, Err(Blind::TimedOut)));
            assert!(!look(&there, Ok(None)));
            assert!(!look(&there, Ok(Some(&anew))));
        }
        assert!(!look(&site(vec![ended]), Ok(Some(&ready))), "its kubelet says so");
        assert!(look(&Err(Blind::TimedOut), Ok(None)), "its region cannot be seen");
        assert!(
            kept(pod(), None, &Err(Blind::Unasked), TimeDelta::seconds(15), at(1000)).is_some(),
            "its region is none any more"
        );
    }

    #[test]
    fn a_pod_that_has_lost_its_labels_or_its_owner_runs_on() {
        let mut elsewhere = site(Vec::new()).unwrap();
        elsewhere.listed.insert("u".into());
        let (there, ready) = (Ok(elsewhere), machine("True", "b1"));
        let look = |pod, now| kept(pod, Some(&there), &Ok(Some(&ready)), TimeDelta::seconds(15), at(now));
        let first = look(pod(), 0).unwrap();
        assert_eq!(look(first, 1000).unwrap().gone, None, "it is still listed, and has not ended");
    }
}
