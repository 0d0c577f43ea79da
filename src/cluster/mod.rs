//! The door to API servers.

mod api;
mod fleet;
mod kubeconfig;
mod lease;
mod network;

pub use api::{Api, Body, CallError, Category, Counters, Observation};
pub use fleet::{Fleet, FleetError};
pub use kubeconfig::{KubeconfigError, parse};
pub use lease::{Leadership, Lease};
pub use network::Internet;
