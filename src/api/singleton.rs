use super::{Condition, Direction, Intent};
use crate::terms::{Epoch, Json, Timestamp};
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Exactly one region runs this.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "firedrill.dev",
    version = "v1alpha1",
    kind = "SingletonWorkload",
    namespaced,
    status = "SingletonWorkloadStatus",
    category = "firedrill",
    shortname = "fds"
)]
#[kube(printcolumn = r#"{"name":"Workload","type":"string","jsonPath":".status.workload"}"#)]
#[kube(printcolumn = r#"{"name":"Holder","type":"string","jsonPath":".status.holder"}"#)]
#[kube(printcolumn = r#"{"name":"Runs-In","type":"string","jsonPath":".status.runsIn"}"#)]
#[kube(printcolumn = r#"{"name":"Exclusive","type":"string","jsonPath":".status.conditions[?(@.type==\"Exclusive\")].status"}"#)]
#[kube(printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#)]
#[kube(printcolumn = r#"{"name":"Stage","type":"string","jsonPath":".status.stage"}"#)]
#[kube(printcolumn = r#"{"name":"Epoch","type":"integer","jsonPath":".status.epoch"}"#)]
#[kube(printcolumn = r#"{"name":"Enforcement","type":"string","jsonPath":".spec.enforcement","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Home","type":"string","jsonPath":".status.home","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[x_kube(validation = Rule::new("self.workload == oldSelf.workload").message("spec.workload cannot change: delete this SingletonWorkload, which leaves the workload as it runs, and create another"))]
#[x_kube(validation = Rule::new("!has(self.keep) || self.keep in self.regions").message("keep must be one of regions"))]
#[x_kube(validation = Rule::new("!has(self.missedRuns) || self.workload.kind == 'CronJob'").message("missedRuns is for a CronJob"))]
#[x_kube(validation = Rule::new("!has(self.stop) || !has(self.stop.runningJobs) || self.workload.kind == 'CronJob'").message("stop.runningJobs is for a CronJob"))]
#[x_kube(validation = Rule::new("self.enforcement == 'Enforce' || !has(self.token)").message("a token is written only with enforcement: Enforce"))]
#[serde(rename_all = "camelCase")]
pub struct SingletonWorkloadSpec {
    /// The workload, of the same kind and name in each region, in this namespace.
    pub workload: WorkloadRef,
    /// The regions that may run it, in order of succession. Its home is the one that runs it when enforcement begins.
    #[schemars(length(min = 2, max = 16), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub regions: Vec<String>,
    /// `Report` tells of two holders or none and writes nothing; `Enforce` stops whoever else runs it, and hands it over in drills.
    pub enforcement: Enforcement,
    /// Which region stays if two are found running when enforcement begins; absent means that it is only told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub keep: Option<String>,
    /// How it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// What becomes of a run that was due while no region ran the `CronJob`; absent means `Skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_runs: Option<MissedRuns>,
    /// Where the epoch is written before the workload is started, for it to pass to its storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Whether its storage refuses old epochs. Without that, two holders are detected within seconds, not excluded. Absent means
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_fencing: Option<bool>,
}

/// A workload by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadRef {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds that can be led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// Stopped by `suspend: true`.
    CronJob,
    /// Stopped by `replicas: 0`.
    Deployment,
    /// Stopped by `replicas: 0`.
    StatefulSet,
}

/// Whether firedrill acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// It only tells.
    #[default]
    Report,
    /// It stops and starts.
    Enforce,
}

/// How a workload is stopped.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.settle) || duration(self.settle) >= duration('15s')").message("settle must be at least 15s: what controllers do late shows within it"))]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// After this a stop that is not proven asks for a person; absent means `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub timeout: Option<Duration>,
    /// What becomes of Jobs that run; absent means `Wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_jobs: Option<RunningJobs>,
    /// How long it must be quiet after the stop, and after a run that was due about then; absent means `15s`, which is the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration")]
    pub settle: Option<Duration>,
}

/// What becomes of Jobs that run when their `CronJob` is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunningJobs {
    /// They run to their end.
    #[default]
    Wait,
    /// They are deleted, with their pods.
    Delete,
}

/// What becomes of a run that was due while no region ran the `CronJob`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MissedRuns {
    /// It is left out.
    #[default]
    Skip,
    /// The last one is run by the new holder, if the old one did not run it.
    RunOnce,
}

/// Where the epoch is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// A `ConfigMap` of this namespace, in every region, which firedrill makes.
    pub config_map: TokenRef,
}

/// A key of a `ConfigMap`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenRef {
    /// The `ConfigMap`'s name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key; its value is the epoch in decimal digits. Absent means `epoch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: Option<String>,
}

/// Where a singleton is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// It is only looked at: `Report`, or nobody holds it yet.
    #[default]
    Observed,
    /// One region holds it.
    Held,
    /// Everybody is being stopped, with the next epoch.
    Stopping,
    /// All are proven stopped and the epoch is committed; leases and token are being written.
    Publishing,
    /// The new holder is being started.
    Starting,
}

/// What one region was seen to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Running {
    /// Its spec lets it run, or something of it still runs.
    Yes,
    /// Neither.
    No,
    /// It could not be seen.
    Unknown,
}

/// One region as it was seen, and what its proof of being stopped must remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionRun {
    /// The region.
    #[schemars(length(max = 63))]
    pub region: String,
    /// Whether it runs there.
    pub running: Running,
    /// What was seen, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    /// Of a hand-over: since when the stop was seen written with the next epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Timestamp>,
    /// Of a hand-over: since when nothing of it was seen to run, without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Timestamp>,
}

/// A hand-over that is under way, or the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handover {
    /// Who is to hold it.
    #[schemars(length(max = 63))]
    pub to: String,
    /// The epoch that it begins.
    pub epoch: Epoch,
    /// Since when.
    pub since: Timestamp,
    /// Why, for people.
    #[schemars(length(max = 512))]
    pub why: String,
    /// Since when all were proven stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Timestamp>,
    /// When the old holder last started a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// When the start was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
}

/// The drill whose order was last followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Followed {
    /// The drill's name.
    #[schemars(length(max = 253))]
    pub drill: String,
    /// The drill's uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Which way it asked.
    pub direction: Direction,
}

/// A workload that is led, as it was before the first write: what its claim may speak of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The workload: `cluster-uid/Kind/namespace/name`.
    #[schemars(length(max = 512))]
    pub target: String,
    /// Its uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// `spec.suspend` or `spec.replicas` as found, as JSON; empty for absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub switch: String,
    /// `spec.startingDeadlineSeconds` as found, as JSON; empty for absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub deadline: String,
    /// What the first write takes from other managers, as JSON; goes back with the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub taken: Option<String>,
}

/// A pod that was seen to run and has not been seen to end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeenPod {
    /// The pod's uid.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// In which region.
    #[schemars(length(max = 63))]
    pub region: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The node that it runs on; empty before it is scheduled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub node: String,
    /// The boot of that node, when it was last seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub boot: String,
    /// How many seconds it is given to end.
    pub grace: u32,
    /// Since when it is gone without having been seen to end, its node being ready all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
}

/// What firedrill knows of a singleton; all that survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SingletonWorkloadStatus {
    /// The format of this status; another than 1 is left alone.
    #[serde(default)]
    pub format: u8,
    /// The generation of the spec that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// The term of the leader that last wrote here; an older one can store nothing any more.
    #[serde(default)]
    pub term: u64,
    /// The workload in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 320))]
    pub workload: String,
    /// Where the singleton is.
    #[serde(default)]
    pub stage: Stage,
    /// Who holds it: the only region that may run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub holder: Option<String>,
    /// The uid of the holder's cluster: another one behind the same name proves nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub holder_cluster: Option<String>,
    /// The epoch of the holder.
    #[serde(default)]
    pub epoch: Epoch,
    /// Where it goes back to after drills: who held it when enforcement began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub home: Option<String>,
    /// The regions that were last seen to run it, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1100))]
    pub runs_in: String,
    /// How many pods the holder ran, for the next one to run as many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// How strong the guarantee is, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub guarantee: String,
    /// What is going on, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Since when two regions run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub two_since: Option<Timestamp>,
    /// The hand-over that is under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
    /// The drill whose order was last followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Followed>,
    /// Each region as it was last seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["region"]))]
    pub regions: Vec<RegionRun>,
    /// The workloads as they were before the first write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["target"]))]
    pub places: Vec<Place>,
    /// Pods that were seen to run and have not been seen to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub pods: Vec<SeenPod>,
    /// Writes that may be under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["target"]))]
    pub open: Vec<Intent>,
    /// The last look, to a few seconds: what stood unwatched for longer proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked: Option<Timestamp>,
    /// `Exclusive` and `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl SingletonWorkloadStatus {
    /// One region as it was last seen.
    #[must_use]
    pub fn region(&self, name: &str) -> Option<&RegionRun> {
        self.regions.iter().find(|region| region.region == name)
    }
}

impl Place {
    /// A value as found.
    #[must_use]
    pub fn value(text: &str) -> Option<Json> {
        serde_json::from_str(text).ok()
    }
}
