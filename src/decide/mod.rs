//! Deciding, purely: no client, no clock, no chance.
//!
//! [`needs`] says what to look at, [`decide`] what follows from it; before there is a contract, [`needs_accept`], [`accept`] and
//! [`seal`] do the same for a drill that applies to be run.

mod accept;
mod contract;
mod drill;
mod gate;
mod graph;
mod phase;
mod step;
mod stored;
mod sweep;
mod verdict;
mod words;

pub use accept::{Application, RegionFacts, RouteFacts, accept, first_writes, more, needs_accept, seal};
pub use contract::{Confirmation, Contract, ContractError, Limits, Replicas, Route, Size, Step, Traffic, Work, hash};
pub use drill::{Decision, Effect, Orders, decide, needs, refuse, unusable};
pub use gate::{Colour, colour};
pub use phase::{Event, IllegalTransition, transition};
pub use stored::Stored;
pub use sweep::{Open, Swept, sweep};
pub use verdict::{conditions, go_duration};
