//! Eyes beyond API servers.

/// Prometheus, by its HTTP API.
pub mod prometheus;
