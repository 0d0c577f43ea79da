//! firedrill evacuates a region of a Kubernetes fleet: on a calendar as a drill with real traffic, and for real when the
//! region fails. This page is the map of the house; the lowest floor comes first.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod terms;

pub mod api;
pub mod claim;

pub mod world;

pub mod dialect;

pub mod check;

pub mod decide;

pub mod report;

pub mod seam;

pub mod cluster;
pub mod probe;

pub mod observe;

pub mod telemetry;

pub mod operator;

pub mod sim;

pub mod cli;
