//! Bounded waiting, and the one HTTP request that the bed makes of its own servers.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::error::{Error, Result};

/// How often a condition is looked at: short beside a second, long beside a process start.
const POLL: Duration = Duration::from_millis(100);

/// Waits until `probe` is `Ok`, at most `bound`. The probe says why it is not so yet; the last reason is part of the error.
pub async fn until<T, F, P>(what: &str, bound: Duration, mut probe: P) -> Result<T>
where
    P: FnMut() -> F,
    F: Future<Output = std::result::Result<T, String>>,
{
    let start = Instant::now();
    let mut last = "nothing".to_owned();
    loop {
        let left = bound.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => return Err(Error::Timeout { what: what.to_owned(), bound, last }),
        }
        // A probe that answers at once is never timed out.
        if start.elapsed() >= bound {
            return Err(Error::Timeout { what: what.to_owned(), bound, last });
        }
        tokio::time::sleep(POLL.min(bound.saturating_sub(start.elapsed()))).await;
    }
}

/// A plain HTTP GET of `url`, at most 5 s: the status and the body, or why there is none.
pub async fn http_get(url: &str) -> std::result::Result<(u16, String), String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = async {
        let response = client.get(uri).await.map_err(|error| format!("{url}: {error}"))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| format!("{url}: {error}"))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap_or_else(|_| Err(format!("{url}: no answer in 5 s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_though_every_probe_answers_at_once() {
        let waited = until::<(), _, _>("never", Duration::from_millis(1), || async { Err("no".to_owned()) }).await;
        assert!(matches!(waited, Err(Error::Timeout { last, .. }) if last == "no"));
    }
}
