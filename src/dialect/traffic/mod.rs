//! Shares of a route.

/// Gateway API `HTTPRoute`.
pub mod http_route;
