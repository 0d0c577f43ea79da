//! A program that runs for the bed: in its own session, its output in a file, and known to the sweep before anything waits for it.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use crate::error::{Context as _, Error, Result};

/// The list of the bed's processes on disk, from which the sweep works when the bed is gone: one line `PID START NAME` each.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<File>);

impl Ledger {
    /// Starts an empty list at `path`.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Ok(Self(Mutex::new(File::create(path).context(|| format!("create {}", path.display()))?)))
    }

    fn add(&self, pid: u32, name: &str) -> Result<()> {
        let line = format!("{pid} {} {name}\n", start_time(pid).unwrap_or_default());
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(line.as_bytes()).context(|| format!("record process {pid}"))
    }
}

/// When process `pid` started, in clock ticks since boot, which with the pid names it for ever; none when there is no such process or it is a zombie.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may itself hold spaces; state is the field after it, the start time the 20th (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if *fields.first()? == "Z" { None } else { fields.get(19)?.parse().ok() }
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// Its name in messages and log files, such as `eu-west-etcd`.
    pub name: String,
    /// The network namespace it runs in; none is the machine's own.
    pub namespace: Option<&'a str>,
    /// The binary.
    pub path: &'a Path,
    /// Its arguments.
    pub args: Vec<String>,
    /// Additions to its environment.
    pub env: Vec<(&'static str, String)>,
    /// Where its output goes; appended to.
    pub log: PathBuf,
}

/// A running program. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `program` and records it in `ledger`.
    pub(crate) fn start(ledger: &Ledger, program: Program<'_>) -> Result<Self> {
        let Program { name, namespace, path, args, env, log } = program;
        let open = || OpenOptions::new().create(true).append(true).open(&log).context(|| format!("open {}", log.display()));
        // An own session: a Ctrl-C or a kill of the launcher's group is for the launcher, which then takes everything down in order. Both setsid and
        // nsenter exec, so the child's pid is the program's.
        let mut command = Command::new("setsid");
        if let Some(namespace) = namespace {
            command.args(["nsenter".to_owned(), format!("--net=/run/netns/{namespace}")]);
        }
        command.arg(path).args(args).envs(env).stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        let child = command.spawn().context(|| format!("start {name}"))?;
        let process = Self { name, log, child };
        ledger.add(process.child.id(), &process.name)?;
        Ok(process)
    }

    /// `Ok` while it runs; the end of its log when it has ended by itself.
    pub(crate) fn running(&mut self) -> std::result::Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended with {status}: {}", self.name, self.tail())),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// Its name, such as `eu-west-kwok`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends it a signal, by name: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        run("kill", &[format!("-{name}"), self.child.id().to_string()]).map(drop)
    }

    /// The last lines of its log.
    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: the state is throwaway, and an API server with an open watch would take a minute to stop otherwise. An error means that it ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a short command of the machine to its end; its standard output, or an error with what it said.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    finish(Command::new(program).args(args))
}

/// Runs `command` to its end; its standard output, or an error with what it said.
pub(crate) fn finish(command: &mut Command) -> Result<String> {
    let what = short(command);
    let output = command.stdin(Stdio::null()).output().context(|| what.clone())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(what, &output))
}

/// The error for a command that ended with a failure.
pub(crate) fn failed(what: String, output: &std::process::Output) -> Error {
    let stream = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Error::Command { what, status: output.status, output: String::from_utf8_lossy(stream).trim().to_owned() }
}

fn short(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text.chars().take(160).collect()
}
