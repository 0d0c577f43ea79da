//! Real control planes for firedrill's integration tests, and for a person who wants to see a drill.
//!
//! A [`Bed`] is a hub and N regions, each etcd, kube-apiserver (audit log on), kube-controller-manager, kube-scheduler and KWOK in its own network
//! namespace on one bridge; Traefik as the edge and Prometheus on loopback; and a [`Backend`] per region that counts requests and names its region.
//! [`shop`] fills it with workloads and routes, [`Load`] sends real requests through the edge.
//!
//! One bed stands at a time on a machine. However its process ends, nothing of it stays: see [`Bed`].

mod backend;
mod bed;
mod cluster;
mod edge;
mod error;
mod guard;
mod load;
mod namespace;
mod own;
mod pki;
mod process;
mod prometheus;
pub mod shop;
mod tools;
mod wait;

pub use crate::{
    backend::{Backend, Counts},
    bed::{Bed, DEFAULT_REGIONS, Options},
    cluster::{AuditEvent, AuditObject, AuditStatus, AuditUser, Cluster},
    error::{Error, Result},
    guard::locked,
    load::{Failure, Load, Seen, Totals},
    own::{alone, become_root, state_folder},
    tools::{Tools, cache_folder},
    wait::{http_get, until},
};
