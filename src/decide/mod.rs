//! Deciding, purely: no client, no clock, no chance.
//!
//! [`needs`] says what to look at, [`decide`] what follows from it; before there is a contract, [`needs_accept`], [`accept`] and
//! [`seal`] do the same for a drill that applies to be run.

mod accept;
mod application;
mod checked;
mod contract;
mod decision;
mod drill;
mod finish;
mod gate;
mod graph;
mod intent;
mod phase;
mod record;
mod singleton;
mod step;
mod stored;
mod sweep;
mod verdict;
mod words;

pub use accept::{accept, first_writes, more, needs_accept, seal};
pub use application::{Application, RegionFacts, RouteFacts, SingletonFacts};
pub use checked::{checked, nothing_stands};
pub use contract::{Confirmation, Contract, ContractError, Led, Limits, Replicas, Route, Size, Step, Traffic, Work, hash};
pub use decision::{Decision, Effect, Orders};
pub use drill::{decide, needs, refuse, unusable};
pub use gate::{Colour, colour};
pub use phase::{Event, IllegalTransition, transition};
pub use record::record;
pub use singleton::{Facts, Order, Trial, has_followed, lead, needs_singleton, tried};
pub use stored::Stored;
pub use sweep::{Open, Swept, is_needed, led_debts, settled, sweep};
pub use verdict::{conditions, go_duration};
