//! An API server and the physics of a region, in memory: what stands behind the seams in the demo, in rehearsals and in simulation tests. It knows
//! nothing of drills, and anything it does not do as a real server does, it refuses.

/// Users: weights become requests, and requests answers.
pub mod edge;
/// Reading and setting JSON by path.
mod json;
/// One kind of object that the server serves, and the default set.
pub mod kind;
/// The network between one instance of the operator and one server.
pub mod link;
/// What the server keeps in order about one object.
mod object;
/// JSON patch and merge patch.
mod patch;
/// Controllers, scheduler and kubelets.
pub mod physics;
/// A Prometheus that sees the traffic that the weights make.
pub mod prometheus;
/// What a server says when it says no.
pub mod refusal;
/// What a request asks for, read from its line and headers.
pub mod route;
/// What an object must not be.
mod rules;
/// Label and field selectors.
mod select;
/// Which verb on which path does what.
mod serve;
/// The server: requests in, answers and the trace out.
pub mod server;
/// What wakes those who wait, in the order in which they began to.
pub mod signal;
/// The objects, their history and the rules of writing them.
pub mod store;
/// A watch: the history as a stream of JSON lines.
pub mod watch;

pub use self::edge::Edge;
pub use self::kind::Kind;
pub use self::link::{Call, End, Fate, Fates, Link};
pub use self::physics::{Pace, Physics};
pub use self::prometheus::{Prometheus, Sample};
pub use self::refusal::Refusal;
pub use self::server::{Entry, Server};
pub use self::store::{Key, Store};
