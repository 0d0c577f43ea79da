//! The command line: one file per command.

mod controller;
mod crds;
mod demo;
/// A fleet in memory, with an operator on top of it.
pub mod embedded;
/// What stands in a fleet in memory.
pub mod layout;
mod rehearse;
mod report;
mod restore;

use crate::cluster::{Api, Counters};
use crate::seam::{Clock, Network};
use clap::{Parser, Subcommand};
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

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
    /// Predict an evacuation on a copy of the live fleet; nothing is touched.
    Rehearse(rehearse::Rehearse),
    /// The report of a drill: on the terminal, as a page or for machines.
    Report(report::Report),
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
            Command::Rehearse(rehearse) => rehearse.run(),
            Command::Report(report) => report.run(),
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

/// How wide the terminal is; where there is none, as wide as is read well.
fn columns() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}

/// One cluster of a kubeconfig.
async fn cluster(file: &Kubeconfig, context: Option<&str>, network: &Arc<dyn Network>, clock: &Clock) -> Result<Api, String> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(file.clone(), &options)
        .await
        .map_err(|error| format!("context {}: {error}", context.unwrap_or("(the current one)")))?;
    Ok(Api::new(network.client(config)?, clock.clone(), Counters::default()))
}

/// The kubeconfig that is named, or the usual one.
fn kubeconfig(path: Option<&Path>) -> Result<Kubeconfig, String> {
    match path {
        Some(path) => Kubeconfig::read_from(path).map_err(|error| format!("{}: {error}", path.display())),
        None => Kubeconfig::read().map_err(|error| format!("no kubeconfig: {error}; name one with --kubeconfig")),
    }
}
