//! The test bed for a person: `up` leaves one standing, `down` ends it.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use testbed::{Bed, DEFAULT_REGIONS, Error, Load, Options, Result, Tools, alone, become_root, locked, shop, state_folder};
use tokio::signal::unix::{SignalKind, signal};

/// How often the holder writes what `status` shows.
const STATUS: Duration = Duration::from_secs(1);
/// How long `down` waits for the end of everything; two seconds are usual.
const DOWN: Duration = Duration::from_mins(1);
/// How long `up` waits for a sweep that is under way; a second or two are usual.
const SWEEP: Duration = Duration::from_secs(10);

/// Real control planes on this machine: a hub and regions, an edge, Prometheus, and a shop with its users on request.
#[derive(Debug, Parser)]
#[command(name = "testbed")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a bed and leave it up. The first time it builds its tools, for about ten minutes.
    Up(Shape),
    /// End the bed that `up` started.
    Down,
    /// Show the bed that `up` started.
    Status,
    /// Build and unpack the tools, and show where they are.
    Tools,
    /// Hold a bed until a signal comes; `up` starts this in the background.
    #[command(hide = true)]
    Hold(Shape),
}

/// What the bed is like.
#[derive(Debug, Args)]
struct Shape {
    /// How many regions.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=6))]
    regions: u8,
    /// Nodes in each region, of 16 cores, 64Gi and 110 pods each.
    #[arg(long, default_value_t = 6)]
    nodes: usize,
    /// Seconds that a pod takes to be ready.
    #[arg(long, default_value_t = 2)]
    pod_ready: u64,
    /// Install the shop: Deployments in every region, weighted routes on the hub.
    #[arg(long)]
    shop: bool,
    /// Send this many requests a second to the shop (implies --shop).
    #[arg(long, value_name = "PER_SECOND")]
    load: Option<u32>,
    /// Scrape the operator's metrics at this address.
    #[arg(long, value_name = "HOST:PORT")]
    operator_metrics: Option<String>,
}

impl Shape {
    fn options(&self) -> Options {
        let regions = DEFAULT_REGIONS.iter().take(self.regions.into()).map(|region| (*region).to_owned()).collect();
        let pod_ready = Duration::from_secs(self.pod_ready);
        Options { regions, nodes: self.nodes, pod_ready, operator_metrics: self.operator_metrics.clone(), ..Options::default() }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Verb::Up(_) => up(),
        Verb::Down => down(),
        Verb::Status => {
            status();
            Ok(())
        }
        Verb::Tools => tools(),
        Verb::Hold(shape) => become_root()
            .and_then(|()| tokio::runtime::Runtime::new().map_err(|error| io("start a runtime", error)))
            .and_then(|runtime| runtime.block_on(hold(&shape))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The holder's files: its pid, what `status` shows, and what it said.
fn holder() -> [PathBuf; 3] {
    ["holder", "status", "holder.log"].map(|name| state_folder().join(name))
}

/// Starts this program again as `hold` with the same arguments, in its own session, and shows what it says until the bed stands.
fn up() -> Result<()> {
    let [pid_file, status_file, log] = holder();
    fs::create_dir_all(state_folder()).map_err(|error| io(&format!("create {}", state_folder().display()), error))?;
    // The sweep of a bed that has just ended is worth waiting for; a test's bed may stand for long.
    let start = Instant::now();
    while locked() {
        if holder_pid().is_some() || start.elapsed() > SWEEP {
            return Err(Error::Busy { lock: state_folder().join("lock") });
        }
        thread::sleep(Duration::from_millis(100));
    }
    let _ = fs::remove_file(&status_file);
    let file = fs::File::create(&log).map_err(|error| io(&format!("create {}", log.display()), error))?;
    let both = file.try_clone().map_err(|error| io("share the log", error))?;
    let program = std::env::current_exe().map_err(|error| io("find this program", error))?;
    let mut command = Command::new("setsid");
    command.arg(program).arg("hold").args(std::env::args_os().skip(2)).stdin(Stdio::null()).stdout(file).stderr(both);
    let mut child = command.spawn().map_err(|error| io("start the holder", error))?;
    fs::write(&pid_file, child.id().to_string()).map_err(|error| io(&format!("write {}", pid_file.display()), error))?;
    let mut shown = 0;
    loop {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let fresh = said.get(shown..).unwrap_or_default();
        let _ = std::io::stderr().write_all(fresh.as_bytes());
        shown = said.len();
        if let Ok(text) = fs::read_to_string(&status_file) {
            print!("{text}");
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Error::Command { what: "the holder of the bed".to_owned(), status, output: "see above".to_owned() });
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Holds a bed until SIGTERM or SIGINT.
async fn hold(shape: &Shape) -> Result<()> {
    let signals = signal(SignalKind::terminate()).and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = signals.map_err(|error| io("listen for signals", error))?;
    let start = Instant::now();
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stopped);
    let standing = async {
        let bed = Bed::up(shape.options()).await?;
        eprintln!("testbed: control planes up after {:.1} s", start.elapsed().as_secs_f32());
        if shape.shop || shape.load.is_some() {
            shop::install(&bed, shop::Size::default()).await?;
            eprintln!("testbed: shop open after {:.1} s", start.elapsed().as_secs_f32());
        }
        let load = shape.load.map(|per_second| Load::start(&bed.edge()?, &shop::ROUTES, per_second)).transpose()?;
        Ok((bed, load))
    };
    let (bed, load) = tokio::select! {
        standing = standing => standing?,
        // The sweep takes a half-made bed away; a return would first wait for a build that may be under way.
        () = &mut stopped => std::process::exit(0),
    };
    let [_, status_file, _] = holder();
    loop {
        let text = describe(&bed, load.as_ref(), shape)?;
        replace(&status_file, &text)?;
        tokio::select! {
            () = tokio::time::sleep(STATUS) => {}
            () = &mut stopped => break,
        }
    }
    if let Some(load) = load {
        load.stop().await;
    }
    let _ = fs::remove_file(&status_file);
    bed.down().await
}

/// What a person wants to know of the bed.
fn describe(bed: &Bed, load: Option<&Load>, shape: &Shape) -> Result<String> {
    let names: Vec<&str> = bed.regions().iter().map(testbed::Cluster::name).collect();
    let kubeconfig = bed.kubeconfig().display();
    let mut text = format!(
        "A hub and {} region(s): {}\nkubeconfig  {kubeconfig}\nedge        http://{}\nPrometheus  {}\n",
        names.len(),
        names.join(", "),
        bed.edge()?,
        bed.prometheus()?
    );
    if let Some(load) = load {
        let totals = load.snapshot();
        let _ = write!(text, "load        {} requests, {} failed", totals.requests, totals.failed);
        for name in &names {
            let _ = write!(text, ", {name} {}", totals.region(name).map_or(0, |seen| seen.requests));
        }
        text.push('\n');
    }
    let kubectl = bed.tools().kubectl.display();
    text.push_str("\nNext:\n");
    if alone() {
        let _ = writeln!(
            text,
            "  nsenter --preserve-credentials --user --net --target {}   # a shell in its network",
            std::process::id()
        );
    }
    let _ = write!(text, "  export KUBECONFIG={kubeconfig}\n  {kubectl} --context hub get namespaces\n");
    if shape.shop || shape.load.is_some() {
        let region = names.first().unwrap_or(&"hub");
        let _ = writeln!(text, "  {kubectl} --context {region} --namespace shop get deployments,hpa,pdb");
        let _ = write!(text, "  {kubectl} --context hub --namespace shop get httproutes\n  curl http://{}/shop\n", bed.edge()?);
    }
    text.push_str("  cargo run -p testbed -- status\n  cargo run -p testbed -- down\n");
    Ok(text)
}

/// Writes a file in one step: whoever reads it sees the old text or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text).and_then(|()| fs::rename(&part, path)).map_err(|error| io(&format!("write {}", path.display()), error))
}

fn down() -> Result<()> {
    let [pid_file, ..] = holder();
    let Some(pid) = holder_pid() else {
        if locked() {
            // A test's bed ends with the test.
            return Err(Error::Busy { lock: state_folder().join("lock") });
        }
        println!("no bed is up");
        return Ok(());
    };
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| io("stop the holder", error.into()))?;
    let start = Instant::now();
    while holder_pid().is_some() || locked() {
        if start.elapsed() > DOWN {
            return Err(Error::Timeout {
                what: "the bed's end".to_owned(),
                bound: DOWN,
                last: "its lock is still held".to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(100));
    }
    let _ = fs::remove_file(pid_file);
    println!("down after {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

fn status() {
    let [_, status_file, _] = holder();
    match fs::read_to_string(&status_file) {
        Ok(text) if holder_pid().is_some() => print!("{text}"),
        _ if locked() => println!("a bed is up that is a test's, or is starting or ending"),
        _ => println!("no bed is up"),
    }
}

fn tools() -> Result<()> {
    for (name, path) in Tools::ensure()?.list() {
        println!("{name:24}{}", path.display());
    }
    Ok(())
}

/// The pid of the process that `up` started, while it lives and is still that process.
fn holder_pid() -> Option<rustix::process::Pid> {
    let [pid_file, ..] = holder();
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    // A pid may be another program's by now: the holder is the one that was started as `hold`. A zombie has no command line.
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut args = line.split(|byte| *byte == 0);
    let ours = args.next()?.ends_with(b"testbed") && args.next()? == b"hold";
    rustix::process::Pid::from_raw(pid).filter(|_| ours)
}

fn io(what: &str, source: std::io::Error) -> Error {
    Error::Io { what: what.to_owned(), source }
}
