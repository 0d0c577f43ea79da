//! The command line: one file per command.

mod controller;
mod crds;
mod demo;
/// A fleet in memory, with an operator on top of it.
pub mod embedded;
mod restore;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Evacuates a region of a Kubernetes fleet: as a drill with real traffic, and for real.
///
/// Exit codes: 0 it went well; 1 it did not; 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "firedrill", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Evacuate a region of an embedded fleet and show it.
    Demo(demo::Demo),
    /// Run the operator.
    Controller(controller::Controller),
    /// Print the CRDs as YAML, for `kubectl apply -f -`.
    Crds,
    /// Put back what drills have changed, by hand, from kubeconfigs alone.
    Restore(restore::Restore),
}

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Demo(demo) => demo.run(),
            Command::Controller(controller) => controller.run(),
            Command::Crds => crds::run(),
            Command::Restore(restore) => restore.run(),
        };
        match result {
            Ok(code) => code,
            Err(error) => {
                anstream::eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
