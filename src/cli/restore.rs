use super::{cluster, kubeconfig};
use crate::cluster::{Category, Internet};
use crate::operator::restore::{Fate, Item, Plan, Restore as Work};
use crate::seam::{Clock, Network, Seam};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long between two looks at what waits.
const LOOK: Duration = Duration::from_secs(2);
/// Somebody else has changed values: they were left as they are.
const CONFLICTS: u8 = 3;
/// Something could not be put back yet.
const LEFT: u8 = 4;

/// Put back what drills have changed, by hand, from kubeconfigs alone.
///
/// For the day when the operator cannot: it takes the leader's lease from it, orders acting drills to abort, and puts everything back
/// in the order of every way back: nodes, users, then headroom. Nothing is overwritten that somebody else has changed.
///
/// Exit codes: 0 nothing is left; 1 it failed; 2 the command line is wrong; 3 all is back but for values that somebody else has
/// changed, which are listed and left; 4 something waits, and is listed with what for. With --dry-run 4 says that there is something to
/// put back.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The kubeconfig file; absent means KUBECONFIG or ~/.kube/config.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The context of the hub.
    #[arg(long, required_unless_present = "hub_lost")]
    hub: Option<String>,
    /// The hub is gone: contracts are read from the regions' copies, and no lead is taken. Refused while the context of --hub answers.
    #[arg(long)]
    hub_lost: bool,
    /// A region's context, as `eu-west=context` or, where both are the same, `eu-west`; once for each region.
    #[arg(long = "region", required = true)]
    regions: Vec<String>,
    /// The operator's namespace, on the hub and in every region.
    #[arg(long, default_value = "firedrill")]
    namespace: String,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// You have seen that users are back where they were, or the routes are gone for good: headroom goes down without looking at them.
    #[arg(long)]
    traffic_is_back: bool,
    /// How long to wait for what has to wait.
    #[arg(long, default_value = "10m")]
    timeout: kube::core::Duration,
    /// `json` for machines: one object, when it is over.
    #[arg(short, long, value_parser = ["json"])]
    output: Option<String>,
}

/// What it came to, for machines.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    drills_aborted: Vec<String>,
    written: usize,
    conflicts: Vec<Item>,
    left: Vec<Item>,
    unseen: Vec<String>,
    kept: Vec<String>,
    failed: Vec<String>,
}

impl Restore {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(self.restore())
    }

    async fn restore(self) -> Result<ExitCode, String> {
        let network: Arc<dyn Network> =
            Arc::new(Internet::new().map_err(|error| format!("the machine's certificates cannot be read: {error}"))?);
        let seam = Seam::new(Clock::Wall, Arc::clone(&network), u64::from(std::process::id()));
        let file = kubeconfig(self.kubeconfig.as_deref())?;
        let mut regions = BTreeMap::new();
        for text in &self.regions {
            let (name, context) = text.split_once('=').unwrap_or((text, text));
            regions.insert(name.to_owned(), cluster(&file, Some(context), &network, &seam.clock).await?);
        }
        let mut hub = match &self.hub {
            Some(context) => Some(cluster(&file, Some(context), &network, &seam.clock).await?),
            None => None,
        };
        if self.hub_lost {
            let answers = match &hub {
                // Whatever it answers, it lives, and so may its operator.
                Some(api) => match api.list("/api/v1/namespaces", "&limit=1", Duration::from_secs(5)).await {
                    Err(error) => !matches!(error.category, Category::Unreachable | Category::TimedOut),
                    Ok(_) => true,
                },
                None => false,
            };
            if answers {
                return Err(
                    "--hub-lost, but the hub answers: leave it out, so that the operator does not act at the same time".into()
                );
            }
            hub = None;
        }
        let work = Work::new(hub, regions, seam, &self.namespace, self.traffic_is_back).await?;
        self.go(&work).await
    }

    async fn go(&self, work: &Work) -> Result<ExitCode, String> {
        let human = self.output.is_none();
        let plan = work.plan().await;
        if human {
            show(&plan);
        }
        if self.dry_run {
            let something = !plan.items.is_empty() || !plan.unseen.is_empty();
            self.report(&Report::of(Vec::new(), 0, Vec::new(), plan, Vec::new()))?;
            return Ok(ExitCode::from(if something { LEFT } else { 0 }));
        }
        if human && self.hub.is_some() && !self.hub_lost {
            anstream::println!("taking the lead from the operator");
        }
        let identity = format!("restore-{}-{}", std::env::var("HOSTNAME").unwrap_or_default(), std::process::id());
        let report = work
            .alone(&identity, async |aborted| self.rounds(work, aborted, human).await)
            .await
            .map_err(|error| format!("the lead cannot be taken: {error}"))?;
        let code = report.code();
        if human {
            report.show();
        }
        self.report(&report)?;
        Ok(code)
    }

    /// Does what can be done, and looks again, until nothing is left or what is left has been waited for long enough.
    async fn rounds(&self, work: &Work, aborted: Vec<String>, human: bool) -> Report {
        let (mut written, mut conflicts, mut waited) = (0, Vec::new(), Duration::ZERO);
        loop {
            let plan = work.plan().await;
            conflicts.extend(plan.items.iter().filter(|item| item.fate == Fate::Conflict).cloned());
            let (done, failed) = work.perform(&plan).await;
            written += done;
            for item in plan.items.iter().filter(|item| human && matches!(item.fate, Fate::Back | Fate::ClaimRemoved)) {
                anstream::println!("  {}", line(item));
            }
            let over = plan.items.is_empty() && plan.is_idle() && plan.unseen.is_empty();
            if over || (done == 0 && waited >= Duration::from(self.timeout)) {
                conflicts.sort();
                conflicts.dedup();
                return Report::of(aborted, written, conflicts, plan, failed);
            }
            if done == 0 {
                if human && waited.is_zero() {
                    anstream::println!("waiting at most {} for what is left", self.timeout);
                }
                tokio::time::sleep(LOOK).await;
                waited += LOOK;
            } else {
                waited = Duration::ZERO;
            }
        }
    }

    fn report(&self, report: &Report) -> Result<(), String> {
        if self.output.is_some() {
            anstream::println!("{}", serde_json::to_string_pretty(report).map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

impl Report {
    fn of(drills_aborted: Vec<String>, written: usize, conflicts: Vec<Item>, plan: Plan, failed: Vec<String>) -> Self {
        let Plan { items: left, unseen, kept, .. } = plan;
        Self { drills_aborted, written, conflicts, left, unseen, kept, failed }
    }

    fn code(&self) -> ExitCode {
        if !self.left.is_empty() || !self.unseen.is_empty() || !self.failed.is_empty() {
            ExitCode::from(LEFT)
        } else if !self.conflicts.is_empty() {
            ExitCode::from(CONFLICTS)
        } else {
            ExitCode::SUCCESS
        }
    }

    fn show(&self) {
        anstream::println!("{} writes", self.written);
        for drill in &self.drills_aborted {
            anstream::println!("drill {drill} was ordered to abort; the operator ends it");
        }
        for item in &self.conflicts {
            anstream::println!("left as it is, somebody else has changed it: {}", line(item));
        }
        for item in &self.left {
            anstream::println!("not put back: {}", line(item));
        }
        for failed in &self.failed {
            anstream::println!("not taken: {failed}");
        }
        for unseen in &self.unseen {
            anstream::println!("not seen: {unseen}");
        }
        if self.left.is_empty() && self.unseen.is_empty() && self.failed.is_empty() {
            anstream::println!("nothing of any drill is left");
        }
    }
}

/// What was found, before anything is done.
fn show(plan: &Plan) {
    if plan.items.is_empty() && plan.unseen.is_empty() {
        anstream::println!("no drill has left anything behind");
    }
    for item in &plan.items {
        anstream::println!("{}", line(item));
    }
    for kept in &plan.kept {
        anstream::println!("kept, since only its own loop may hand it over: {kept}");
    }
    for unseen in &plan.unseen {
        anstream::println!("not seen: {unseen}");
    }
}

fn line(item: &Item) -> String {
    let or_absent = |text: &str| if text.is_empty() { "absent".to_owned() } else { text.to_owned() };
    let (found, was) = (or_absent(&item.found), or_absent(&item.was));
    let spot = if item.spot.is_empty() { String::new() } else { format!(" {}", item.spot) };
    let fate = match &item.fate {
        Fate::Back => format!("{found} goes back to {was}"),
        Fate::Waits(what) if item.spot.is_empty() => format!("waits {what}"),
        Fate::Waits(what) => format!("{found} goes back to {was}; waits {what}"),
        Fate::Conflict => format!("is {found}, was {was} before: changed by somebody else, stays"),
        Fate::ClaimRemoved => "its claim is removed".to_owned(),
    };
    format!("{}: {}{spot}: {fate}", item.place, item.object)
}
