//! The operator: a driver shared by all kinds, and one file per kind.

mod act;
mod drill;
mod driver;
mod plan;
mod region;
/// Putting back by hand.
pub mod restore;
mod route;
mod singleton;
mod store;
mod sweep;

pub use driver::Key;
pub use store::Store;

use crate::api::Prediction;
use crate::cluster::{Api, CallError, Counters, Fleet, Leadership, Lease};
use crate::seam::Seam;
use crate::telemetry::Telemetry;
use crate::terms::{ClusterUid, Kind, Target, Term};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What an installation is told by its flags.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The operator's namespace: kubeconfig Secrets, contracts and leases are there, on the hub and in every region.
    pub namespace: String,
    /// This instance among its replicas.
    pub identity: String,
    /// The Prometheus to ask where a plan names none.
    pub prometheus: Option<String>,
    /// Hosts (with port) that plans may name beside it.
    pub allowed_hosts: Vec<String>,
    /// Who predicts for drills of mode Check; absent means that nobody does.
    pub rehearser: Option<Arc<dyn Rehearser>>,
}

/// Runs a drill forward on a copy of the fleet.
pub trait Rehearser: Send + Sync + std::fmt::Debug {
    /// What the drill of `region` by `plan` would come to; the fleet is only read. One at a time: none, at once, while another is rehearsed.
    ///
    /// # Errors
    /// Why it could not be rehearsed, for people.
    fn rehearse(&self, fleet: Fleet, plan: String, region: String) -> BoxFuture<'static, Result<Option<Prediction>, String>>;
}

/// One instance of the operator.
pub struct Operator {
    seam: Seam,
    settings: Settings,
    fleet: Fleet,
    store: Store,
    leadership: Leadership,
    telemetry: Arc<Telemetry>,
    hub: Mutex<Option<ClusterUid>>,
    contracts: Mutex<drill::Contracts>,
    refusals: Mutex<BTreeMap<Target, String>>,
    claims: Mutex<BTreeMap<ClusterUid, u32>>,
}

/// Why an activation failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the hub failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An object on the hub does not parse.
    #[error("{0} does not parse: {1}")]
    Malformed(String, serde_json::Error),
    /// This instance does not lead any more.
    #[error("this instance does not lead any more")]
    NotLeading,
    /// The hub has not told its identity yet.
    #[error("the hub has not been identified yet")]
    NoHub,
}

impl Error {
    /// A stable word for metrics.
    #[must_use]
    pub fn category(&self) -> String {
        match self {
            Self::Call(error) => format!("{:?}", error.category),
            Self::Malformed(..) => "Malformed".to_owned(),
            Self::NotLeading => "NotLeading".to_owned(),
            Self::NoHub => "NoHub".to_owned(),
        }
    }
}

impl Operator {
    /// An instance that reaches the hub by `client`.
    #[must_use]
    pub fn new(client: kube::Client, seam: Seam, settings: Settings) -> Arc<Self> {
        let counters = Counters::default();
        let telemetry = Arc::new(Telemetry::new());
        let sink = Arc::clone(&telemetry);
        counters.tell(Box::new(move |observation| sink.call(observation)));
        let hub = Api::new(client, seam.clock.clone(), counters.clone());
        let fleet = Fleet::new(hub, &settings.namespace, seam.clone(), counters);
        Arc::new(Self {
            seam,
            settings,
            fleet,
            store: Store::default(),
            leadership: Leadership::default(),
            telemetry,
            hub: Mutex::default(),
            contracts: Mutex::default(),
            refusals: Mutex::default(),
            claims: Mutex::default(),
        })
    }

    /// Runs until `stop` says so. The lease is given back at the end.
    pub async fn run(self: &Arc<Self>, mut stop: watch::Receiver<bool>) {
        let lease = Lease {
            api: self.fleet.hub.clone(),
            seam: self.seam.clone(),
            namespace: self.settings.namespace.clone(),
            identity: self.settings.identity.clone(),
            leadership: self.leadership.clone(),
        };
        let highest = || {
            let drills = self.store.drills().into_iter().filter_map(|drill| Some(drill.status?.term));
            let singletons = self.store.singletons().into_iter().filter_map(|singleton| Some(singleton.status?.term));
            Term(drills.chain(singletons).max().unwrap_or(0))
        };
        let watches = store::FOLLOWED.map(|kind| self.store.follow(kind, self));
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            // The highest term is known when the drills and the singletons are.
            () = async {
                self.store.synced(Kind::Drill).await;
                self.store.synced(Kind::SingletonWorkload).await;
                lease.hold(highest).await;
            } => {}
            () = self.identify_hub() => {}
            _ = futures::future::join_all(watches) => {}
            () = driver::drive(self) => {}
        }
        lease.give_back().await;
    }

    async fn identify_hub(&self) {
        loop {
            match self.fleet.identify(&self.fleet.hub).await {
                Ok(uid) => {
                    self.fleet.remember(&uid, &self.fleet.hub);
                    if let Ok(mut hub) = self.hub.lock() {
                        *hub = Some(uid);
                    }
                    return std::future::pending().await;
                }
                Err(error) => tracing::warn!(%error, "the hub cannot be identified"),
            }
            tokio::time::sleep(self.seam.jitter(Duration::from_secs(2))).await;
        }
    }

    fn hub(&self) -> Result<ClusterUid, Error> {
        self.hub.lock().ok().and_then(|hub| hub.clone()).ok_or(Error::NoHub)
    }

    /// What this instance still waits for before it serves; empty when ready.
    #[must_use]
    pub fn waits_for(&self) -> Vec<String> {
        let mut waits = self.store.waits_for();
        if self.hub().is_err() {
            waits.push("the hub's identity".to_owned());
        }
        waits
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.telemetry.render(
            &self.store.drills(),
            &self.store.routes(),
            &self.store.singletons(),
            &self.store.regions(),
            self.leadership.held(&self.seam).is_some(),
        )
    }
}
