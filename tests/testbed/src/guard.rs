//! Who may stand on this machine, and who cleans up after it.
//!
//! A lock file admits one bed at a time. Beside the bed runs the *sweep*, a small shell script that waits on a pipe which the bed holds: when the bed
//! closes it, exits or is killed, the sweep removes processes, namespaces and links. It holds the same lock, so the next bed starts on a clean machine.
//! The one way down is thereby taken at every end, and tried in every test.

use std::{
    fs::{self, File, TryLockError},
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    error::{Context as _, Error, Result},
    own::state_folder,
};

/// How long a second bed waits for the first: longer than any test lane.
const PATIENCE: Duration = Duration::from_mins(20);

const SWEEP: &str = include_str!("../assets/sweep.sh");

/// The right to stand, and the sweep that follows.
#[derive(Debug)]
pub(crate) struct Guard {
    sweep: Child,
}

impl Guard {
    /// Waits for the lock (at most 20 min, with a message), sweeps what a killed bed may have left, and starts the sweep of this one. `data` is the
    /// bed's run folder.
    pub(crate) fn take(data: &Path) -> Result<Self> {
        let state = state_folder();
        fs::create_dir_all(&state).context(|| format!("create {}", state.display()))?;
        let lock = lock(&state.join("lock"))?;
        let output = sweep(data, false)?.output().context(|| "sweep what was left".to_owned())?;
        if !output.status.success() {
            return Err(crate::process::failed("sweep of what an earlier bed left".to_owned(), &output));
        }
        // The sweep's standard output is the lock: a lock belongs to the open file, so it lasts until both the bed and its sweep have ended.
        let command = &mut sweep(data, true)?;
        command.stdin(Stdio::piped()).stdout(lock).stderr(Stdio::piped());
        Ok(Self { sweep: command.spawn().context(|| "start the sweep".to_owned())? })
    }

    /// Starts the sweep and waits for its end; an error says what is left.
    pub(crate) fn finish(&mut self) -> Result<()> {
        drop(self.sweep.stdin.take());
        let status = self.sweep.wait().context(|| "wait for the sweep".to_owned())?;
        let mut said = String::new();
        if let Some(mut stderr) = self.sweep.stderr.take() {
            stderr.read_to_string(&mut said).context(|| "read what the sweep says".to_owned())?;
        }
        if status.success() {
            Ok(())
        } else {
            Err(Error::Command { what: "sweep".to_owned(), status, output: said.trim().to_owned() })
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Without `finish` before, this is a bed that was dropped: nobody is there to be told.
        let _ = self.finish();
    }
}

/// The sweep as a command; with `hold` it first waits for the end of its standard input.
fn sweep(data: &Path, hold: bool) -> Result<Command> {
    let script = state_folder().join("sweep.sh");
    if !hold {
        fs::write(&script, SWEEP).context(|| format!("write {}", script.display()))?;
    }
    let mut command = Command::new("setsid");
    command.arg("sh").arg(script).arg(state_folder()).arg(data).stdin(Stdio::null());
    if hold {
        command.arg("hold");
    }
    Ok(command)
}

/// Whether a bed stands now, or is being swept.
#[must_use]
pub fn locked() -> bool {
    File::open(state_folder().join("lock")).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn lock(path: &Path) -> Result<File> {
    let file =
        File::options().create(true).truncate(false).write(true).open(path).context(|| format!("open {}", path.display()))?;
    let start = Instant::now();
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).context(|| format!("lock {}", path.display())),
            Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => return Err(Error::Busy { lock: path.to_owned() }),
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            eprintln!("testbed: another bed is up; waiting for its end, at most {} min", PATIENCE.as_secs() / 60);
            told = true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
