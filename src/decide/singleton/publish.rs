//! The epoch where others read it: a Lease on the hub and in every region, and the token in the holder's.

use super::View;
use crate::api::SingletonWorkloadStatus;
use crate::decide::decision::Effect;
use crate::dialect::run::EPOCH;
use crate::terms::{ClusterUid, Epoch, Json, Object, Target};
use serde_json::json;

/// The annotation that says for which singleton an object was made.
const SINGLETON: &str = "firedrill.dev/singleton";

/// What is still to be written, and what of it is waited for.
pub(super) struct Published {
    pub effects: Vec<Effect>,
    pub waits: Option<String>,
}

impl View<'_> {
    /// The highest epoch that stands anywhere in sight: epochs only rise, whoever raised one.
    pub(super) fn highest(&self, next: &SingletonWorkloadStatus) -> Epoch {
        let facts = self.facts;
        let clusters = || facts.clusters.values().chain([&facts.hub]);
        let object = |target: &Target| self.world.object(target).ok().flatten();
        let leases = clusters().filter_map(|cluster| Epoch::parse(object(&facts.lease(cluster))?.annotation(EPOCH)?));
        let tokens = facts.clusters.values().filter_map(|cluster| {
            let (target, key) = facts.token(cluster)?;
            Epoch::parse(object(&target)?.at("/data")?.get(key)?.as_str()?)
        });
        let stamps = self.seen().filter_map(|(_, site)| site.stamped());
        // Somebody's number that leaves no room for hand-overs after it is a mistake, and is written over.
        let believable = leases.chain(tokens).chain(stamps).filter(|epoch| epoch.0 <= Epoch::MOST / 2);
        believable.chain([next.epoch]).max().unwrap_or_default()
    }

    /// What it takes for leases and token to show the holder and its epoch. The hub, the holder's region and the token in it are
    /// waited for; other regions get theirs when they can be seen.
    pub(super) fn published(&self, next: &SingletonWorkloadStatus, holder: &str) -> Published {
        let facts = self.facts;
        let mut published = Published { effects: Vec::new(), waits: None };
        let home = facts.clusters.iter().find(|(region, _)| region.as_str() == holder).map(|(_, cluster)| cluster);
        let mut clusters: Vec<&ClusterUid> = facts.clusters.values().chain([&facts.hub]).collect();
        clusters.sort();
        clusters.dedup();
        for cluster in clusters {
            let lease = facts.lease(cluster);
            let counts = *cluster == facts.hub || Some(cluster) == home;
            let written = match self.world.object(&lease) {
                // Told by what is wrong with it.
                Ok(Some(seen)) if self.is_foreign(seen) => {
                    if counts {
                        published.waits = Some(format!("{} belongs to somebody else", lease.label()));
                    }
                    continue;
                }
                Ok(seen) => {
                    let body = self.lease_body(&lease, seen, next.epoch, holder);
                    body.map(|body| {
                        if seen.is_some() { Effect::Replace(lease.clone(), body) } else { Effect::Create(lease.clone(), body) }
                    })
                }
                Err(blind) => {
                    if counts {
                        let place = if *cluster == facts.hub { "the hub" } else { holder };
                        published.waits = Some(format!("{place}: {}: {blind}", lease.label()));
                    }
                    continue;
                }
            };
            if let (Some(_), true) = (&written, counts) {
                published.waits.get_or_insert_with(|| format!("{} is being written", lease.label()));
            }
            published.effects.extend(written);
        }
        let Some((token, key)) = home.and_then(|cluster| facts.token(cluster)) else { return published };
        match self.world.object(&token) {
            Err(blind) => published.waits = Some(format!("{holder}: the token, {}: {blind}", token.label())),
            Ok(seen) => {
                if seen.is_some_and(|seen| self.is_foreign(seen)) {
                    published.waits = Some(format!("{} belongs to somebody else", token.label()));
                    return published;
                }
                let text = next.epoch.to_string();
                if seen.and_then(|seen| seen.at("/data")?.get(key)?.as_str()) == Some(text.as_str()) {
                    return published;
                }
                published.waits = Some(format!("the token, {}, is being written", token.label()));
                let mut body = seen.map_or_else(|| self.own("v1", "ConfigMap", &token), |seen| seen.json().clone());
                if let Some(body) = body.as_object_mut() {
                    let data = body.entry("data").or_insert_with(|| json!({}));
                    if let Some(data) = data.as_object_mut() {
                        data.insert(key.to_owned(), text.into());
                    }
                }
                published.effects.push(match seen {
                    Some(_) => Effect::Replace(token, body),
                    None => Effect::Create(token, body),
                });
            }
        }
        published
    }

    /// An own object of a region, or of the hub, that is somebody else's: why nothing can be published there.
    pub(super) fn foreign(&self, region: &str) -> Option<(&'static str, String)> {
        let cluster = self.facts.clusters.iter().find(|(name, _)| name.as_str() == region).map(|(_, cluster)| cluster);
        let lease = |cluster, place: &str| {
            let lease = self.facts.lease(cluster);
            let remedy = "rename this SingletonWorkload, or delete it";
            self.others(&lease)
                .then(|| ("LeaseForeign", format!("{place}: {} belongs to somebody else: {remedy}", lease.label())))
        };
        let token = || {
            let (token, _) = self.facts.token(cluster?)?;
            let remedy = "name another in spec.token, or delete it";
            self.others(&token)
                .then(|| ("TokenForeign", format!("{region}: {} belongs to somebody else: {remedy}", token.label())))
        };
        lease(&self.facts.hub, "the hub").or_else(|| lease(cluster?, region)).or_else(token)
    }

    fn others(&self, target: &Target) -> bool {
        self.world.object(target).ok().flatten().is_some_and(|seen| self.is_foreign(seen))
    }

    fn is_foreign(&self, seen: &Object) -> bool {
        seen.annotation(SINGLETON) != Some(self.facts.owner.name.as_str())
    }

    fn lease_body(&self, lease: &Target, seen: Option<&Object>, epoch: Epoch, holder: &str) -> Option<Json> {
        let text = epoch.to_string();
        if seen.is_some_and(|seen| {
            seen.annotation(EPOCH) == Some(text.as_str()) && seen.annotation("firedrill.dev/holder") == Some(holder)
        }) {
            return None;
        }
        let mut body = seen.map_or_else(|| self.own("coordination.k8s.io/v1", "Lease", lease), |seen| seen.json().clone());
        let metadata = body.get_mut("metadata")?.as_object_mut()?;
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()?;
        annotations.insert(EPOCH.to_owned(), text.into());
        annotations.insert("firedrill.dev/holder".to_owned(), holder.into());
        let spec = body.as_object_mut()?.entry("spec").or_insert_with(|| json!({})).as_object_mut()?;
        spec.insert("holderIdentity".to_owned(), holder.into());
        Some(body)
    }

    /// An own object. It stays when the singleton is deleted: an epoch must never fall, whoever leads the workload next.
    fn own(&self, version: &str, kind: &str, target: &Target) -> Json {
        json!({
            "apiVersion": version, "kind": kind,
            "metadata": {
                "name": target.name, "namespace": target.namespace,
                "labels": {"app.kubernetes.io/managed-by": "firedrill"},
                "annotations": {SINGLETON: self.facts.owner.name},
            },
        })
    }
}
