use super::api::{Api, Body, CallError, Counters};
use super::kubeconfig::{self, KubeconfigError};
use crate::api::ClusterRef;
use crate::seam::Seam;
use crate::terms::{ClusterUid, Json, Kind, Object, Timestamp};
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long the look at a cluster's identity may take.
const LOOK: Duration = Duration::from_secs(3);

/// Why a region's cluster cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// The Secret is not there or cannot be read.
    #[error("Secret {namespace}/{name}: {message}")]
    Secret {
        /// The operator's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
        /// What is wrong with it.
        message: String,
    },
    /// Its kubeconfig is refused.
    #[error("Secret {namespace}/{name}: {source}")]
    Kubeconfig {
        /// The operator's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
        /// Why.
        source: KubeconfigError,
    },
    /// No client can be made.
    #[error("no client can be made: {0}")]
    Client(String),
    /// The cluster does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The cluster has no uid.
    #[error("the cluster does not tell the uid of its kube-system namespace")]
    NoUid,
}

/// The hub and every region's API server.
#[derive(Clone)]
pub struct Fleet {
    /// The hub.
    pub hub: Api,
    /// The operator's namespace, where kubeconfig Secrets are.
    pub namespace: String,
    seam: Seam,
    counters: Counters,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    uids: Arc<Mutex<BTreeMap<ClusterUid, Api>>>,
}

/// A client and what it was made from.
struct Known {
    text: SecretString,
    api: Api,
}

impl Fleet {
    /// A fleet of which only the hub is known yet.
    #[must_use]
    pub fn new(hub: Api, namespace: &str, seam: Seam, counters: Counters) -> Self {
        Self { hub, namespace: namespace.to_owned(), seam, counters, known: Arc::default(), uids: Arc::default() }
    }

    /// What its clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.seam.clock.now()
    }

    /// The client of a cluster that was identified before.
    #[must_use]
    pub fn by_uid(&self, uid: &ClusterUid) -> Option<Api> {
        self.uids.lock().ok()?.get(uid).cloned()
    }

    /// Remembers which cluster stands behind a client.
    pub fn remember(&self, uid: &ClusterUid, api: &Api) {
        if let Ok(mut uids) = self.uids.lock() {
            uids.insert(uid.clone(), api.clone());
        }
    }

    /// Forgets how a cluster is reached: what is known may lead to another.
    pub fn forget(&self, uid: &ClusterUid) {
        if let Ok(mut uids) = self.uids.lock() {
            uids.remove(uid);
        }
    }

    /// The client of a region, made anew when its kubeconfig changed.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn connect(&self, cluster: &ClusterRef) -> Result<Api, FleetError> {
        let Some(secret) = &cluster.kubeconfig_secret else { return Ok(self.hub.clone()) };
        let (namespace, name) = (self.namespace.clone(), secret.name.clone());
        let fail = |message: String| FleetError::Secret { namespace: namespace.clone(), name: name.clone(), message };
        let path = format!("{}/{}", Kind::Secret.path(Some(&self.namespace)), secret.name);
        let answer = self.hub.call(Method::GET, &path, Body::Nothing, LOOK).await.map_err(|error| fail(error.to_string()))?;
        let data = Object::new(answer);
        let keys: Vec<&str> = secret.key.as_deref().map_or_else(|| vec!["kubeconfig", "value"], |key| vec![key]);
        let encoded = keys.iter().find_map(|key| data.at("/data")?.get(*key)?.as_str());
        let encoded = encoded.ok_or_else(|| fail(format!("it has no key {}", keys.join(" or "))))?;
        // A ByteString is base64 on the wire; k8s-openapi decodes it.
        let bytes: k8s_openapi::ByteString =
            serde_json::from_value(Json::from(encoded)).map_err(|_| fail("its value is not base64".to_owned()))?;
        let text = String::from_utf8(bytes.0).map_err(|_| fail("its value is not text".to_owned()))?;
        let key = format!("{}/{}", secret.name, secret.key.as_deref().unwrap_or_default());
        if let Some(api) = self.unchanged(&key, &text) {
            return Ok(api);
        }
        let config = kubeconfig::parse(&text).await.map_err(|source| FleetError::Kubeconfig {
            namespace: self.namespace.clone(),
            name: secret.name.clone(),
            source,
        })?;
        let client = self.seam.network.client(config).map_err(FleetError::Client)?;
        let api = Api::new(client, self.seam.clock.clone(), self.counters.clone());
        if let Ok(mut known) = self.known.lock() {
            known.insert(key, Known { text: SecretString::from(text), api: api.clone() });
        }
        Ok(api)
    }

    fn unchanged(&self, key: &str, text: &str) -> Option<Api> {
        let known = self.known.lock().ok()?;
        known.get(key).filter(|known| known.text.expose_secret() == text).map(|known| known.api.clone())
    }

    /// The uid of the cluster behind a client.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn identify(&self, api: &Api) -> Result<ClusterUid, FleetError> {
        let path = format!("{}/kube-system", Kind::Namespace.path(None));
        let namespace = Object::new(api.call(Method::GET, &path, Body::Nothing, LOOK).await?);
        if namespace.uid().is_empty() { Err(FleetError::NoUid) } else { Ok(ClusterUid(namespace.uid().to_owned())) }
    }
}
