use super::{Condition, Prediction};
use crate::terms::Timestamp;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One run, immutable, executed once: run again = create again.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "firedrill.dev",
    version = "v1alpha1",
    kind = "Drill",
    status = "DrillStatus",
    category = "firedrill",
    shortname = "fdd"
)]
#[kube(printcolumn = r#"{"name":"Region","type":"string","jsonPath":".spec.region"}"#)]
#[kube(printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#)]
#[kube(printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#)]
#[kube(printcolumn = r#"{"name":"Verdict","type":"string","jsonPath":".status.verdict"}"#)]
#[kube(printcolumn = r#"{"name":"Healthy-After","type":"string","jsonPath":".status.timeToHealthy"}"#)]
#[kube(printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#)]
#[kube(printcolumn = r#"{"name":"Plan","type":"string","jsonPath":".spec.plan","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[x_kube(validation = Rule::new("self.mode == 'Check' || has(self.start)").message("mode Exercise needs start.at: without it a manifest applied again from Git would evacuate by accident"))]
#[x_kube(validation = Rule::new("self.plan == oldSelf.plan && self.region == oldSelf.region && self.mode == oldSelf.mode && has(self.scenario) == has(oldSelf.scenario) && (!has(self.scenario) || self.scenario == oldSelf.scenario) && has(self.start) == has(oldSelf.start) && (!has(self.start) || self.start == oldSelf.start) && has(self.reason) == has(oldSelf.reason) && (!has(self.reason) || self.reason == oldSelf.reason)").message("a drill is immutable but for control: create another one"))]
#[serde(rename_all = "camelCase")]
pub struct DrillSpec {
    /// The `EvacuationPlan` that is run.
    #[schemars(length(min = 1, max = 253))]
    pub plan: String,
    /// The region that is evacuated.
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// Whether anything is done or only looked at.
    pub mode: Mode,
    /// What is assumed to be wrong with the region; absent means `Degraded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Scenario>,
    /// When it starts; required for mode `Exercise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Why, for people and the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// What a person wants now; absent means `Run`. The only field that may change; `Abort` and `Failback` latch in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

/// Whether anything is done or only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The checks and the prediction; nothing is written but firedrill's own objects on the hub.
    Check,
    /// The region is evacuated and brought back.
    Exercise,
}

/// What is assumed to be wrong with the region; absent means `Degraded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Scenario {
    /// It serves, but worse: traffic leaves gradually.
    #[default]
    Degraded,
}

/// When a drill starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    /// Not before this time.
    pub at: Timestamp,
    /// Not later than this after it: later is refused; absent means `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub within: Option<Duration>,
}

/// What a person wants now, the only field that may change; absent means `Run`. `Abort` and `Failback` latch in the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Control {
    /// Go on.
    #[default]
    Run,
    /// Stand at the next safe point.
    Pause,
    /// Put everything back, quickly.
    Abort,
    /// End the soak now and come back at the plan's pace.
    Failback,
}

/// Where a drill is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Its start is not reached.
    #[default]
    Pending,
    /// Looking, and storing the contract; nothing is written to any region yet but the contract's copies.
    Checking,
    /// Steps go out.
    Evacuating,
    /// All are out; soaking.
    Evacuated,
    /// Steps go back.
    Returning,
    /// Over, for good.
    Done,
}

/// The way back; the same road at another pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Return {
    /// Deliberate, slow, gated.
    Failback,
    /// At once.
    Abort,
}

/// Why a drill goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Why {
    /// The soak is over.
    SoakOver,
    /// A person asked for it.
    Person,
    /// A gate failed.
    Gate,
    /// The deadline passed.
    Deadline,
    /// Somebody else's hand is on a claimed value.
    Contention,
    /// The drill was deleted.
    Deleted,
}

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// Healthy without the region within the objective, seen, and everything restored.
    Passed,
    /// Healthy, but later than promised, or never.
    ObjectiveMissed,
    /// It ended, but something that Passed needs was not observed or not restored.
    Inconclusive,
    /// It went back before it was through.
    Aborted,
    /// It never started.
    Refused,
}

/// Why a drill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum HoldReason {
    /// `control: Pause`.
    Paused,
    /// A gate is not green, or has no data.
    Gate,
    /// A region that traffic would be raised towards cannot be seen.
    RegionBlind,
    /// The survivors' pods are not Ready yet in the numbers that the next level needs.
    CapacityNotReady,
    /// What users do does not agree with the weights yet.
    NotConfirmed,
    /// Somebody else's hand is on a claimed value.
    Contention,
    /// An API server refuses a write.
    WriteRefused,
    /// A region needed for the way back cannot be reached.
    Unreachable,
    /// The stored contract is gone or cannot be read.
    ContractLost,
    /// A singleton cannot be handed over until a person has acted.
    NeedsHuman,
}

/// Which way a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Direction {
    /// Out of the region.
    Out,
    /// Back into it.
    Back,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum StepState {
    /// Something before it is not done.
    #[default]
    Waiting,
    /// Under way.
    Moving,
    /// The world shows it.
    Done,
}

/// A drill stands: why, since when, who must act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Why, as one word.
    pub reason: HoldReason,
    /// Why, for people.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// One step's state, and what it must remember because no world shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The step.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Where it is.
    pub state: StepState,
    /// What it waits for or did last, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Of a traffic step: the level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// When it was done in this direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Timestamp>,
}

/// How far traffic has left: in percent of the leaving region's own baseline share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// What is driven to now.
    #[schemars(range(min = 0, max = 100))]
    pub moved_percent: u32,
    /// What was driven to before; the world may still show it.
    #[schemars(range(min = 0, max = 100))]
    pub from_percent: u32,
    /// The last level at which all gates were green and the shares confirmed.
    #[schemars(range(min = 0, max = 100))]
    pub green_percent: u32,
    /// Since when all weights were seen to stand at this level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Timestamp>,
    /// Since when users were seen to follow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Timestamp>,
    /// On what evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
}

/// A write that may be under way: the version that guards it. It is settled when a fresh read shows another version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The object: `cluster-uid/Kind/namespace/name`.
    #[schemars(length(max = 512))]
    pub target: String,
    /// The uid that the write is guarded by.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The resourceVersion that the write is guarded by.
    #[schemars(length(max = 64))]
    pub resource_version: String,
}

/// How often in a row a gate was red.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Streak {
    /// The gate, with `@region` where it is asked per region.
    #[schemars(length(max = 128))]
    pub gate: String,
    /// Consecutive red measurements.
    pub red: u32,
    /// When it was last counted.
    pub last: Timestamp,
}

/// When what happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    /// The start that time-to-healthy counts from: `start.at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Timestamp>,
    /// The contract was stored; steps go out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuating: Option<Timestamp>,
    /// All steps are out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evacuated: Option<Timestamp>,
    /// Since when all gates have been green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green: Option<Timestamp>,
    /// The first instant after which all gates stayed green and the region had no requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Timestamp>,
    /// The last look, to a few seconds: what stood unwatched for longer counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Timestamp>,
    /// Since when a region cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<Timestamp>,
    /// The way back began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<Timestamp>,
    /// It is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Timestamp>,
}

/// On what evidence the region is said to be without traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Basis {
    /// Every route's requests were seen, enough of them, none at the region.
    Observed,
    /// Convergence was waited out; nothing saw the requests, or too few of them.
    Assumed,
}

/// Where the contract is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContractRef {
    /// SHA-256 of its canonical JSON.
    #[schemars(length(max = 64))]
    pub hash: String,
    /// The immutable `ConfigMap` in the operator's namespace, on the hub and in each region.
    #[schemars(length(max = 253))]
    pub config_map: String,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// The drill is refused.
    Blocker,
    /// It should be mended.
    Warning,
    /// Good to know.
    Info,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// Which check found it.
    #[schemars(length(max = 63))]
    pub check: String,
    /// In which region; empty for the hub.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub region: String,
    /// On which object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub object: String,
    /// What was found.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub remedy: String,
}

/// Something that happened in a drill, for the record: events are gone after an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When, to the look that saw it.
    pub at: Timestamp,
    /// The phase then.
    pub phase: Phase,
    /// How much of the leaving region's share was to be elsewhere then.
    #[schemars(range(min = 0, max = 100))]
    pub moved_percent: u32,
    /// What happened.
    #[schemars(length(max = 256))]
    pub what: String,
}

/// All that survives a crash; the progress that `decide` starts from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillStatus {
    /// The format of this status; another than 1 is left alone.
    #[serde(default)]
    pub format: u8,
    /// The generation of the spec that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Where the drill is.
    #[serde(default)]
    pub phase: Phase,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What is going on, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// How it goes back, once it does; latched.
    #[serde(default, rename = "return", skip_serializing_if = "Option::is_none")]
    pub way_back: Option<Return>,
    /// Why it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// Why it goes back, for people: the gate, the person's order, the value that changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub why_message: String,
    /// It stands, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// How it ended. A Check that ran has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What the verdict rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    pub reasons: Vec<String>,
    /// From the start until users were healthy without the region, as a Go duration in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub time_to_healthy: Option<String>,
    /// On what evidence the region is said to be without traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// The fewest requests in a window that confirmed a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewest_requests: Option<u64>,
    /// Where the contract is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractRef>,
    /// The term of the leader that last wrote here; an older one can store nothing any more.
    #[serde(default)]
    pub term: u64,
    /// The steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<StepStatus>,
    /// Writes that may be under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["target"]))]
    pub open: Vec<Intent>,
    /// How often in a row each gate was red.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["gate"]))]
    pub streaks: Vec<Streak>,
    /// When what happened.
    #[serde(default)]
    pub times: Times,
    /// What happened, in order; of more than 128 moments the middle ones are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub timeline: Vec<Moment>,
    /// How many moments are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
    /// What others changed meanwhile, in words; it was left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 2048)))]
    pub conflicts: Vec<String>,
    /// What could not be put back, because its region cannot be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 512)))]
    pub debts: Vec<String>,
    /// What the checks found, blockers first; at most 64, the rest counted in the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 65))]
    pub findings: Vec<Finding>,
    /// Of mode Check: what a rehearsal on a copy of the fleet expects of the drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// `Accepted`, `Progressing`, `Succeeded`, `Restored`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
