use crate::seam::Network;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// The real network.
pub struct Internet {
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Internet {
    /// The real network, trusting the machine's certificates.
    ///
    /// # Errors
    /// If the machine has no certificates to trust.
    pub fn new() -> std::io::Result<Self> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
        Ok(Self { http: Client::builder(TokioExecutor::new()).build(connector) })
    }
}

impl Network for Internet {
    fn client(&self, mut config: kube::Config) -> Result<kube::Client, String> {
        // A retry would send a write a second time behind our back, and every call has its own time-out.
        config.default_retry = false;
        // Longer than a watch lasts: a quiet one is no failure, a silent connection is.
        config.read_timeout = Some(std::time::Duration::from_secs(30));
        config.reset_reader_on_write = true;
        config.connect_timeout = Some(std::time::Duration::from_secs(3));
        kube::Client::try_from(config).map_err(|error| error.to_string())
    }

    fn get(&self, url: String, limit: usize) -> BoxFuture<'static, Result<(u16, Vec<u8>), String>> {
        let http = self.http.clone();
        Box::pin(async move {
            let uri = url.parse().map_err(|error| format!("{url} is no URL: {error}"))?;
            let response = http.get(uri).await.map_err(|error| format!("{error}: {}", cause(&error)))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), limit).collect().await.map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes().to_vec()))
        })
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
