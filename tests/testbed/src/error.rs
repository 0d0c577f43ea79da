//! Why the bed could not do what was asked.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// What the bed's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the bed could not do what was asked: what was tried, and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Network namespaces need root, be it of a user namespace only.
    #[error("the test bed makes network namespaces: run it as root, or let ordinary users make user namespaces ({why})")]
    NotRoot {
        /// What stands in the way of an ordinary user.
        why: String,
    },
    /// A program that the machine must have is not there, or is of a version that does not do.
    #[error("{program}: {why}; or name a folder with ready binaries in FIREDRILL_TESTBED_ASSETS")]
    Missing {
        /// The program.
        program: String,
        /// What is wrong, and what is needed.
        why: String,
    },
    /// A package is not the one that was pinned.
    #[error("{package}: its sha256 is {found}, expected {expected}; nothing of it was used")]
    Checksum {
        /// The package's file name.
        package: String,
        /// The pinned digest, hexadecimal.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// A file, socket or process could not be worked with.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A command ended with a failure.
    #[error("{what} ended with {status}: {output}")]
    Command {
        /// The command, shortened.
        what: String,
        /// Its exit status.
        status: ExitStatus,
        /// What it wrote to its standard error (or output, when that is empty).
        output: String,
    },
    /// Something did not happen within its bound.
    #[error("{what}: not within {} s; last seen: {last}", bound.as_secs_f32())]
    Timeout {
        /// What was awaited.
        what: String,
        /// For how long.
        bound: Duration,
        /// The last reason why it was not so.
        last: String,
    },
    /// Another bed holds the machine.
    #[error("another test bed is up (lock {}); `testbed status` tells whose it is, `testbed down` ends one made by `testbed up`", lock.display())]
    Busy {
        /// The lock file.
        lock: PathBuf,
    },
    /// Text that should have had a shape did not have it.
    #[error("{what}: {why}")]
    Invalid {
        /// What was read, or asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Adds what was tried to a system error.
pub(crate) trait Context<T> {
    /// The error gets the text of `what`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
