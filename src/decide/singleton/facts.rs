use crate::api::{Direction, SingletonWorkloadSpec, WorkloadKind};
use crate::terms::{ClusterUid, Kind, Owner, RegionName, Target};
use std::collections::BTreeMap;

/// What the hub says of a singleton, beside its status.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The singleton: `shop/nightly`, and its uid.
    pub owner: Owner,
    /// Its namespace, in the hub and in every region.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: SingletonWorkloadSpec,
    /// The spec's generation.
    pub generation: i64,
    /// The object is being deleted.
    pub deleted: bool,
    /// The finalizer is on it.
    pub finalizer: bool,
    /// The hub's cluster.
    pub hub: ClusterUid,
    /// The clusters of its regions, as far as they are known.
    pub clusters: BTreeMap<RegionName, ClusterUid>,
    /// Why it cannot be led: a reason as one word, and for people.
    pub problem: Option<(&'static str, String)>,
    /// What an acting drill wants of it.
    pub order: Option<Order>,
    /// The acting drill that names it.
    pub named: Option<String>,
    /// A drill that is over and has not put everything back yet: it stays where it is until then.
    pub owed: Option<String>,
}

/// What an acting drill wants of a singleton.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The drill.
    pub drill: Owner,
    /// Which way.
    pub direction: Direction,
    /// Who is to hold it.
    pub to: RegionName,
}

impl Facts {
    /// The kind of its workload.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.spec.workload.kind {
            WorkloadKind::CronJob => Kind::CronJob,
            WorkloadKind::Deployment => Kind::Deployment,
            WorkloadKind::StatefulSet => Kind::StatefulSet,
        }
    }

    /// The workload in a cluster.
    #[must_use]
    pub fn workload(&self, cluster: &ClusterUid) -> Target {
        self.own(cluster, self.kind(), &self.spec.workload.name)
    }

    /// The Lease that keeps the epoch in a cluster.
    #[must_use]
    pub fn lease(&self, cluster: &ClusterUid) -> Target {
        self.own(cluster, Kind::Lease, &format!("firedrill-{}", self.name))
    }

    /// The `ConfigMap` of the token in a cluster, and its key.
    #[must_use]
    pub fn token(&self, cluster: &ClusterUid) -> Option<(Target, &str)> {
        let token = &self.spec.token.as_ref()?.config_map;
        Some((self.own(cluster, Kind::ConfigMap, &token.name), token.key.as_deref().unwrap_or("epoch")))
    }

    fn own(&self, cluster: &ClusterUid, kind: Kind, name: &str) -> Target {
        Target { cluster: cluster.clone(), kind, namespace: Some(self.namespace.clone()), name: name.to_owned() }
    }
}
