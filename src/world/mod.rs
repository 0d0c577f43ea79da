//! What was seen, or why not: all that one activation may know. Ordered maps only, so that runs can be reproduced.

use crate::terms::{ClusterUid, Kind, Object, RegionName, Target, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen, when; or why it could not be. All reads are quorum reads (no resourceVersion) or fresh probes, so that each
/// may serve as a proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<T> {
    /// When the answer came.
    pub at: Timestamp,
    /// The answer.
    pub what: Result<T, Blind>,
}

/// Why something could not be seen. Absence is a fact and no blindness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blind {
    /// No connection.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// Not allowed to look.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// The API server does not know the kind.
    #[error("the kind is not installed there")]
    NotInstalled,
    /// An answer that makes no sense.
    #[error("the answer makes no sense: {0}")]
    Malformed(String),
    /// Nobody looked.
    #[error("was not looked at")]
    Unasked,
}

/// All objects of a kind in a namespace (all of the cluster for cluster-scoped kinds).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct List {
    /// Which API server.
    pub cluster: ClusterUid,
    /// Of which kind.
    pub kind: Kind,
    /// In which namespace.
    pub namespace: Option<String>,
}

/// One query to Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    /// Base URL of the server.
    pub url: String,
    /// The `PromQL` text, variables already put in.
    pub text: String,
}

/// What the next decision has to look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Objects to get.
    pub objects: BTreeSet<Target>,
    /// Lists to get.
    pub lists: BTreeSet<List>,
    /// Queries to ask.
    pub queries: BTreeSet<Query>,
}

/// What a query answered. Anything but one finite number is a reading of its own, and never green.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// One finite number.
    Value(f64),
    /// No series.
    NoData,
    /// More than one series.
    Several(usize),
    /// NaN or infinite.
    NotFinite,
}

/// All that one activation may know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Objects that were asked for, by name.
    pub objects: BTreeMap<Target, Seen<Option<Object>>>,
    /// Lists that were asked for.
    pub lists: BTreeMap<List, Seen<Vec<Object>>>,
    /// Answers of Prometheus.
    pub readings: BTreeMap<Query, Seen<Reading>>,
}

impl World {
    /// One object: as it was got, or from a list that it would be in.
    ///
    /// # Errors
    /// Why it could not be seen.
    pub fn object(&self, target: &Target) -> Result<Option<&Object>, Blind> {
        if let Some(seen) = self.objects.get(target) {
            return seen.what.as_ref().map(Option::as_ref).map_err(Clone::clone);
        }
        let list = List { cluster: target.cluster.clone(), kind: target.kind, namespace: target.namespace.clone() };
        self.list(&list).map(|objects| objects.iter().find(|object| object.name() == target.name))
    }

    /// One list.
    ///
    /// # Errors
    /// Why it could not be seen.
    pub fn list(&self, list: &List) -> Result<&[Object], Blind> {
        self.lists.get(list).map_or(Err(Blind::Unasked), |seen| seen.what.as_ref().map(Vec::as_slice).map_err(Clone::clone))
    }

    /// One reading.
    ///
    /// # Errors
    /// Why there is none.
    pub fn reading(&self, query: &Query) -> Result<Reading, Blind> {
        self.readings.get(query).map_or(Err(Blind::Unasked), |seen| seen.what.clone())
    }

    /// Why a cluster cannot be seen, if any look at it failed. That a kind is not installed there was seen.
    #[must_use]
    pub fn blind(&self, cluster: &ClusterUid) -> Option<Blind> {
        let gone = |blind: &Blind| match blind {
            Blind::Unreachable(_) | Blind::TimedOut | Blind::Forbidden(_) | Blind::Malformed(_) => true,
            Blind::NotInstalled | Blind::Unasked => false,
        };
        let lists =
            self.lists.iter().filter(|(list, _)| list.cluster == *cluster).filter_map(|(_, seen)| seen.what.as_ref().err());
        let objects =
            self.objects.iter().filter(|(target, _)| target.cluster == *cluster).filter_map(|(_, seen)| seen.what.as_ref().err());
        lists.chain(objects).find(|blind| gone(blind)).cloned()
    }
}

/// Puts a region and a backend into a query's `${region}` and `${backend}`.
#[must_use]
pub fn fill(query: &str, region: &RegionName, backend: &str) -> String {
    query.replace("${region}", region.as_str()).replace("${backend}", backend)
}
