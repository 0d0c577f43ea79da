//! firedrill on real control planes, under real traffic. One bed stands for all tests of this binary; they take it in turns.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::missing_panics_doc,
    clippy::duration_suboptimal_units,
    clippy::disallowed_methods
)]

mod conformance;
mod crash;
mod drill;
mod fencing;
mod hands;
mod kinds;
mod partition;
mod physics;
mod refusal;
mod rehearse;
mod restore;
mod singleton;
mod stage;
