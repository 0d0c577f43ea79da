//! The bed without root: in a user namespace of its own, an ordinary user is root of a network and of mounts that nobody else has.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use crate::{
    error::{Context as _, Error, Result},
    process::finish,
    tools::{Tools, cache_folder},
};

/// How the program is entered. `ip` keeps names of network namespaces in `/run`, so that is a new one too.
const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];
const SETUP: &str = r#"mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@""#;

/// Makes sure that this process may make network namespaces. For root there is nothing to do. For an ordinary user the process
/// becomes, under the same pid and with the same arguments, a new one of the same program in a user namespace of its own, from
/// which it does not come back: to be called first of all.
///
/// # Errors
/// The tools could not be built (in there nothing can be fetched), or this machine lets ordinary users have no such namespace.
pub fn become_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Tools::ensure()?;
    finish(Command::new("unshare").args(UNSHARE).args(["sh", "-c", SETUP, "sh", "true"]))
        .map_err(|error| Error::NotRoot { why: error.to_string() })?;
    let program = std::env::current_exe().context(|| "find this program".to_owned())?;
    let mut command = Command::new("unshare");
    command.args(UNSHARE).args(["sh", "-c", SETUP, "sh"]).arg(program).args(std::env::args_os().skip(1));
    Err(command.exec()).context(|| "start unshare".to_owned())
}

/// Whether the bed of this process is, or would be, in a user namespace: only the machine's own root has all users.
#[must_use]
pub fn alone() -> bool {
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all = users.split_whitespace().nth(2) == Some("4294967295");
    !all || !rustix::process::geteuid().is_root()
}

/// The folder of what is true of the machine until it is restarted: the lock, the list of processes and the words of the bed's holder. Root's
/// namespaces belong to the machine, so this does too and is not in a user's folder; those of an ordinary user's bed are that user's.
#[must_use]
pub fn state_folder() -> PathBuf {
    // Without a cache folder there are no tools and no bed.
    let own = || cache_folder().unwrap_or_default().join("state");
    if alone() { own() } else { PathBuf::from("/run/firedrill-testbed") }
}
