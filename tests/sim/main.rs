//! The simulated API server, its network and its physics, through a real client.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::similar_names,
    clippy::missing_panics_doc,
    clippy::format_collect,
    clippy::must_use_candidate,
    clippy::duration_suboptimal_units,
    clippy::disallowed_methods
)]

/// A simulated drill is mostly small allocations.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod debts;
mod demo;
mod drill;
mod faults;
mod fleet;
mod held;
mod hunt;
mod network;
mod physics;
mod planted;
mod rehearse;
mod rules;
mod singleton;
mod watches;
mod world;

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use firedrill::seam::Clock;
use firedrill::sim::{Fates, Kind, Link, Server};
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::Status;
use kube::{Api, Client};
use serde_json::{Value, json};

/// Every test runs on paused time; none may hang for more than a simulated day.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_hours(24), test).await.expect("hangs") })
}

pub fn base() -> DateTime<Utc> {
    "2026-11-23T08:00:00.250Z".parse().unwrap()
}

pub fn server() -> Server {
    named("hub", 5_000_000)
}

pub fn named(name: &str, revision: u64) -> Server {
    let server = Server::new(name, revision, Clock::starting(base()), fastrand::Rng::with_seed(7));
    server.register(Kind::cluster("firedrill.dev/v1alpha1", "Drill", "drills").with_status());
    server.seed(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).unwrap();
    server
}

pub fn link(server: &Server) -> Link {
    Link::new(server.clone(), "a", Fates::calm(), fastrand::Rng::with_seed(1))
}

pub fn client(server: &Server) -> Client {
    link(server).client()
}

pub fn deployments(server: &Server) -> Api<Deployment> {
    Api::namespaced(client(server), "shop")
}

pub fn web(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1", "resources": {"requests": {"cpu": "500m"}}}]},
            },
        },
    })
}

pub fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("not refused: {other:?}"),
    }
}

pub async fn raw(server: &Server, method: &str, line: &str, kind: &str, body: Value) -> kube::Result<Value> {
    let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
    let request = http::Request::builder().method(method).uri(line).header("content-type", kind).body(body).unwrap();
    client(server).request(request).await
}

pub async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}
