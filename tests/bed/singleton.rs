//! Singletons on real control planes: handed over by proof, judged by the Jobs' and Pods' own times.

use crate::stage::{REGIONS, Stage, everybody_since, on_stage, plan, since};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed::{AuditEvent, Cluster, shop, until};

/// The singletons: kind and name.
const ALL: [(&str, &str); 3] = [("CronJob", "nightly"), ("Deployment", "consumer"), ("StatefulSet", "writer")];
/// Within this a second holder is stopped, as docs/singletons.md says: a look each second while a drill acts, and what a look and a write
/// may take before they are given up and made again.
const DETECTED: TimeDelta = TimeDelta::seconds(15);

fn workload(kind: &str, name: &str, is_home: bool, concurrency: &str) -> Value {
    let template = json!({
        "metadata": {"labels": {"singleton": name}},
        "spec": {
            "terminationGracePeriodSeconds": 2, "restartPolicy": if kind == "CronJob" { "Never" } else { "Always" },
            "containers": [{"name": "one", "image": "one"}],
        },
    });
    let metadata = json!({"name": name, "namespace": shop::NAMESPACE});
    if kind == "CronJob" {
        return json!({
            "apiVersion": "batch/v1", "kind": kind, "metadata": metadata,
            "spec": {
                "schedule": "* * * * *", "suspend": !is_home, "concurrencyPolicy": concurrency,
                "successfulJobsHistoryLimit": 50, "jobTemplate": {"spec": {"template": template}},
            },
        });
    }
    let mut spec = json!({
        "replicas": if is_home { 2 } else { 0 }, "selector": {"matchLabels": {"singleton": name}}, "template": template,
    });
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
        spec["podManagementPolicy"] = json!("Parallel");
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// The workloads in every region, as their owner has them, and a singleton for each. `running` is what becomes of running Jobs,
/// `concurrency` the `CronJob`'s own policy.
async fn install(stage: &Stage, running: &str, concurrency: &str) {
    join_all(stage.bed.regions().iter().map(async |cluster| {
        let is_home = cluster.name() == REGIONS[0];
        let items: Vec<Value> = ALL.iter().map(|(kind, name)| workload(kind, name, is_home, concurrency)).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        shop::apply_server_side(cluster, &list).await.unwrap();
    }))
    .await;
    for (kind, name) in ALL {
        let mut spec = json!({
            "workload": {"kind": kind, "name": name}, "regions": REGIONS, "enforcement": "Enforce",
            "token": {"configMap": {"name": format!("{name}-epoch")}}, "stop": {"settle": "15s"},
        });
        if kind == "CronJob" {
            spec["stop"]["runningJobs"] = json!(running);
        }
        let metadata = json!({"name": name, "namespace": shop::NAMESPACE});
        stage
            .apply(
                &json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "SingletonWorkload", "metadata": metadata, "spec": spec}),
            )
            .await;
    }
}

/// Everything of them goes again; the next test begins anew.
async fn remove(stage: &Stage) {
    for (_, name) in ALL {
        stage.hub().kubectl(&["delete", "singletonworkload", name, "-n", shop::NAMESPACE, "--timeout=60s"], None).await.unwrap();
    }
    let names: Vec<String> = ALL.iter().map(|(kind, name)| format!("{}/{name}", kind.to_lowercase())).collect();
    join_all(stage.bed.regions().iter().map(async |cluster| {
        let mut arguments = vec!["delete", "-n", shop::NAMESPACE, "--timeout=60s", "--ignore-not-found"];
        arguments.extend(names.iter().map(String::as_str));
        cluster.kubectl(&arguments, None).await.unwrap();
        // What keeps the epochs stays when a singleton goes: they must never fall.
        for (_, name) in ALL {
            cluster.kubectl(&["get", "lease", &format!("firedrill-{name}"), "-n", shop::NAMESPACE], None).await.unwrap();
        }
    }))
    .await;
}

/// What ran, by its own times: per singleton, region and pod; and the slots that each region started.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<(Runs, Slots)>>);

/// By the name of a slot's Job: the regions that made one.
type Slots = BTreeMap<String, BTreeSet<String>>;

/// By singleton, region and pod: from when until when it ran.
type Runs = BTreeMap<(String, String, String), (DateTime<Utc>, DateTime<Utc>)>;

impl Watch {
    /// Looks at the pods of every region until the future is over.
    async fn during<F: Future>(&self, stage: &Stage, work: F) -> F::Output {
        let looks = join_all(stage.bed.regions().iter().map(async |cluster| {
            loop {
                self.look(cluster).await;
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
        }));
        tokio::select! {
            done = work => done,
            _ = looks => unreachable!("it looks for ever"),
        }
    }

    async fn look(&self, cluster: &Cluster) {
        let arguments = ["get", "pods,jobs", "-n", shop::NAMESPACE, "-o", "json"];
        // A region that is cut off is looked at from inside all the same; one whose API server is down has nothing to show.
        let Ok(text) = cluster.kubectl(&arguments, None).await else { return };
        let now = Utc::now();
        let list: Value = serde_json::from_str(&text).unwrap();
        let (seen, slots) = &mut *self.0.lock().unwrap();
        for item in list["items"].as_array().unwrap() {
            if item["kind"] == "Job" {
                let slot = item["metadata"]["name"].as_str().unwrap().to_owned();
                slots.entry(slot).or_default().insert(cluster.name().to_owned());
                continue;
            }
            let time = |value: &Value| value.as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
            let Some(started) = time(&item["metadata"]["creationTimestamp"]) else { continue };
            let ended = time(&item["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]);
            let Some(name) = item["metadata"]["labels"]["singleton"].as_str().map(str::to_owned) else { continue };
            let uid = item["metadata"]["uid"].as_str().unwrap().to_owned();
            let entry = seen.entry((name, cluster.name().to_owned(), uid)).or_insert((started, now));
            *entry = (started, ended.unwrap_or(now));
        }
    }

    /// The longest time that two regions ran the same.
    fn together(&self) -> TimeDelta {
        let (seen, _) = &*self.0.lock().unwrap();
        assert!(!seen.is_empty(), "nothing was seen to run");
        let mut longest = TimeDelta::zero();
        for ((name, region, _), (from, to)) in seen {
            for ((other, elsewhere, _), (since, until)) in seen {
                if name == other && region != elsewhere {
                    let both = *to.min(until) - *from.max(since);
                    if both > longest {
                        eprintln!("{name}: {region} {from} to {to}, {elsewhere} {since} to {until}");
                        longest = both;
                    }
                }
            }
        }
        longest
    }

    /// Never two at once.
    fn assert_one(&self, when: &str) {
        assert_eq!(self.together(), TimeDelta::zero(), "two regions ran one {when}");
    }

    fn slots(&self) -> Slots {
        self.0.lock().unwrap().1.clone()
    }
}

/// No slot was started in two regions, in any of these watches together.
fn assert_no_slot_twice(watches: &[&Watch]) {
    let mut slots = Slots::new();
    for (slot, regions) in watches.iter().flat_map(|watch| watch.slots()) {
        slots.entry(slot).or_default().extend(regions);
    }
    let twice: Vec<_> = slots.iter().filter(|(_, regions)| regions.len() > 1).collect();
    assert!(twice.is_empty(), "slots ran twice: {twice:?} of {}", slots.len());
}

/// The writes of a hand-over to the second region, by the API servers' audit logs: what was not seen before.
struct Points {
    offsets: BTreeMap<String, u64>,
    seen: BTreeSet<String>,
}

impl Points {
    fn from_now(stage: &Stage) -> Self {
        let clusters = stage.bed.regions().iter().chain([stage.hub()]);
        let offsets = clusters.map(|cluster| (cluster.name().to_owned(), cluster.audit_since(0).unwrap().1)).collect();
        Self { offsets, seen: BTreeSet::new() }
    }

    /// The last write of a new sort, as `SINGLETON WHAT`.
    fn next(&mut self, stage: &Stage) -> Option<String> {
        let mut last = None;
        for cluster in stage.bed.regions().iter().chain([stage.hub()]) {
            let offset = self.offsets.get_mut(cluster.name()).unwrap();
            let (events, next) = cluster.audit_since(*offset).unwrap();
            *offset = next;
            let own = events.iter().filter(|event| event.wrote() && event.user.username.ends_with(":firedrill"));
            for point in own.filter_map(|event| Self::sort(cluster.name(), event)) {
                if self.seen.insert(point.clone()) {
                    last = Some(point);
                }
            }
        }
        last
    }

    fn sort(cluster: &str, event: &AuditEvent) -> Option<String> {
        let object = event.object_ref.as_ref()?;
        let is_one = |name: &&str| ALL.iter().any(|(_, one)| one == name);
        let (name, what) = match object.resource.as_str() {
            "singletonworkloads" => {
                let status = event.request_object.pointer("/1/value")?;
                let stage = status["stage"].as_str().filter(|_| status["handover"]["to"] == REGIONS[1])?;
                (object.name.as_str(), format!("commits {stage}"))
            }
            "leases" => (object.name.strip_prefix("firedrill-")?, format!("lease in {cluster}")),
            "configmaps" => (object.name.strip_suffix("-epoch")?, format!("token in {cluster}")),
            "cronjobs" | "deployments" | "statefulsets" => {
                let values = event.request_object.to_string();
                let starts = values.contains(r#""path":"/spec/suspend","value":false"#)
                    || values.contains(r#""path":"/spec/replicas","value":2"#);
                (object.name.as_str(), format!("{} in {cluster}", if starts { "started" } else { "stopped" }))
            }
            _ => return None,
        };
        is_one(&name).then(|| format!("{name} {what}"))
    }

    fn all_started(&self) -> bool {
        ALL.iter().all(|(_, name)| self.seen.contains(&format!("{name} commits Held")))
    }
}

async fn all_held_by(stage: &Stage, region: &str, bound: u64) {
    for (_, name) in ALL {
        stage.until_singleton(name, bound, |status| status["stage"] == "Held" && status["holder"] == region).await;
    }
}

async fn epochs(stage: &Stage) -> Vec<u64> {
    join_all(ALL.map(async |(_, name)| stage.singleton(name).await["epoch"].as_u64().unwrap())).await
}

/// The spec and the metadata of every workload, without what a run changes.
async fn specs(stage: &Stage) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for cluster in stage.bed.regions() {
        for (kind, name) in ALL {
            let object = stage.get(cluster, kind, name).await;
            let owners: Vec<Value> = object["metadata"]["managedFields"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|entry| entry["subresource"] != "status" && entry["manager"] != "kube-controller-manager")
                .map(|entry| json!([entry["manager"], entry["fieldsV1"]]))
                .collect();
            let mut annotations = object["metadata"]["annotations"].clone();
            if let Some(map) = annotations.as_object_mut() {
                map.retain(|key, _| !key.starts_with("deployment.kubernetes.io/"));
            }
            let annotations = Some(annotations).filter(|map| map.as_object().is_some_and(|map| !map.is_empty()));
            let metadata = json!([object["metadata"]["labels"], annotations, owners]);
            all.insert(format!("{} {kind}", cluster.name()), json!([object["spec"], metadata]));
        }
    }
    all
}

#[test]
fn a_drill_hands_singletons_over_and_back_and_who_starts_one_at_home_is_stopped_within_seconds() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        install(stage, "Delete", "Forbid").await;
        all_held_by(stage, REGIONS[0], 60).await;
        until("their pods are ready", Duration::from_secs(60), || async {
            let status = stage.get(stage.bed.region(REGIONS[0]).unwrap(), "statefulset", "writer").await;
            if status["status"]["readyReplicas"] == 2 { Ok(()) } else { Err(status["status"].to_string()) }
        })
        .await
        .unwrap();
        // The next holder's has missed three hours' slots: far more than the 100 that its controller counts.
        let long_ago = json!({"status": {"lastScheduleTime": Utc::now() - TimeDelta::hours(3)}}).to_string();
        let arguments =
            ["patch", "cronjob", "nightly", "-n", shop::NAMESPACE, "--subresource=status", "--type=merge", "-p", &long_ago];
        stage.bed.region(REGIONS[1]).unwrap().kubectl(&arguments, None).await.unwrap();
        let (before, first) = (specs(stage).await, epochs(stage).await);
        let (watch, fought) = (Watch::default(), Watch::default());
        stage.apply(&plan("led", &json!({"soak": "45s", "cordon": "Mark"}))).await;
        let begun = std::time::Instant::now();
        stage.drill("singletons", "led", REGIONS[0]).await;
        watch.during(stage, all_held_by(stage, REGIONS[1], 300)).await;
        eprintln!("all handed over {:?} after the start", begun.elapsed());
        // GitOps, which knows nothing of it, un-suspends at home every 10 s until the way back begins.
        let mark = stage.mark();
        let west = stage.bed.region(REGIONS[0]).unwrap();
        let hand = async {
            loop {
                for (kind, name) in ALL {
                    let spec = if kind == "CronJob" { json!({"suspend": false}) } else { json!({"replicas": 2}) };
                    let patch = json!({"spec": spec}).to_string();
                    west.kubectl(&["patch", kind, name, "-n", shop::NAMESPACE, "--type=merge", "-p", &patch], None)
                        .await
                        .unwrap();
                }
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        };
        let soak = stage.until("singletons", 200, |status| status["phase"] == "Returning");
        fought
            .during(stage, async {
                tokio::select! {
                    () = hand => {}
                    _ = soak => {}
                }
            })
            .await;
        // By the API server's own clock: from each of its writes to ours.
        let mut undone = Vec::new();
        let mut waits: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
        for event in everybody_since(&mark, west).into_iter().filter(AuditEvent::wrote) {
            let Some(object) = event.object_ref.as_ref().filter(|object| ALL.iter().any(|(_, name)| object.name == *name)) else {
                continue;
            };
            let at: DateTime<Utc> = event.stage_timestamp.parse().unwrap();
            let by_operator = event.user.username.ends_with(":firedrill");
            match (object.resource.as_str(), by_operator) {
                ("cronjobs" | "deployments" | "statefulsets", true) => {
                    undone.extend(waits.remove(&object.name).map(|since| at - since));
                }
                ("cronjobs" | "deployments" | "statefulsets", false) if event.user.username == "admin" => {
                    waits.entry(object.name.clone()).or_insert(at);
                }
                _ => {}
            }
        }
        undone.sort();
        eprintln!(
            "somebody else's starts were undone after {:?} ms",
            undone.iter().map(TimeDelta::num_milliseconds).collect::<Vec<_>>()
        );
        assert!(undone.len() >= 6, "the hand was seen {} times", undone.len());
        assert!(undone.last().is_some_and(|longest| *longest <= DETECTED), "{undone:?}");
        let together = fought.together();
        assert!(together <= DETECTED + TimeDelta::seconds(3), "two regions had pods of one for {together}");
        // Quietly home again.
        let home = Watch::default();
        let status = home.during(stage, stage.done("singletons", 400)).await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        watch.assert_one("on the way out");
        home.assert_one("on the way home");
        // While somebody else starts it, what it starts is not ours.
        assert_no_slot_twice(&[&watch, &home]);
        assert!(!fought.slots().is_empty() && !home.slots().is_empty(), "no slot was seen");
        assert_eq!(epochs(stage).await, first.iter().map(|epoch| epoch + 2).collect::<Vec<_>>(), "one per hand-over");
        until("everything is as it was", Duration::from_secs(150), || async {
            let after = specs(stage).await;
            let differs = before.iter().find(|(key, object)| after.get(*key) != Some(*object));
            differs.map_or(Ok(()), |(key, object)| Err(format!("{key}: {object:#} is {:#}", after[key])))
        })
        .await
        .unwrap();
        assert_eq!(load.stop().await.failed, 0);
        remove(stage).await;
        operator.kill();
    });
}

#[test]
fn an_operator_killed_at_ten_points_of_a_hand_over_and_partitions_of_each_side_never_make_two() {
    on_stage(async |stage| {
        let mut operator = stage.operator("first");
        let load = stage.load().await;
        install(stage, "Wait", "Allow").await;
        all_held_by(stage, REGIONS[0], 60).await;
        let watch = Watch::default();
        let (west, east) = (stage.bed.region(REGIONS[0]).unwrap(), stage.bed.region(REGIONS[1]).unwrap());
        stage.apply(&plan("led", &json!({"soak": "1s", "cordon": "Mark", "deadline": "20m"}))).await;
        stage.drill("killed", "led", REGIONS[0]).await;
        let mut kills: Vec<(String, String)> = Vec::new();
        let mut points = Points::from_now(stage);
        watch
            .during(stage, async {
                // At the first write of every sort, as soon as an API server has logged it, until all are handed over.
                let end = std::time::Instant::now() + Duration::from_secs(300);
                while !points.all_started() {
                    assert!(std::time::Instant::now() < end, "not handed over; killed at {kills:#?}\n{}", stage.log("first"));
                    if let Some(point) = points.next(stage) {
                        operator.signal("KILL");
                        let name = point.split(' ').next().unwrap();
                        let stands = stage.singleton(name).await["stage"].as_str().unwrap().to_owned();
                        kills.push((point, stands));
                        operator = stage.operator("first");
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let second = stage.operator("second");
                all_held_by(stage, REGIONS[1], 200).await;
                // On the way home, with a standby: the holder is cut off, then who is to be the next.
                stage.until_singleton("consumer", 300, |status| status["stage"] == "Stopping").await;
                east.partition_api().unwrap();
                let asked = |status: &Value| {
                    status["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["reason"] == "NeedsHuman"))
                };
                stage.until_singleton("consumer", 60, asked).await;
                stage.until("killed", 60, |status| status["hold"]["reason"] == "NeedsHuman").await;
                assert_eq!(stage.get(west, "deployment", "consumer").await["spec"]["replicas"], 0, "started without a proof");
                east.heal().unwrap();
                // The hub is gone for a while: who may not commit does not act.
                stage.hub().partition_api().unwrap();
                // What was committed before is done.
                tokio::time::sleep(Duration::from_secs(3)).await;
                let dark = stage.mark();
                tokio::time::sleep(Duration::from_secs(6)).await;
                for cluster in [west, east] {
                    let writes: Vec<_> = since(&dark, cluster).into_iter().filter(AuditEvent::wrote).collect();
                    assert!(writes.is_empty(), "written without the hub: {writes:#?}");
                }
                stage.hub().heal().unwrap();
                assert_eq!(stage.singleton("consumer").await["stage"], "Stopping");
                // Who is to be the next cannot be reached when all is proven: nobody runs it, and a person is asked.
                west.partition_api().unwrap();
                let alone = |status: &Value| {
                    status["stage"] == "Publishing"
                        && status["message"].as_str().is_some_and(|text| text.contains("nobody runs it"))
                };
                let status = stage.until_singleton("consumer", 120, alone).await;
                assert!(asked(&status), "{status:#}");
                for cluster in [west, east] {
                    assert_eq!(stage.get(cluster, "deployment", "consumer").await["spec"]["replicas"], 0, "{}", cluster.name());
                }
                west.heal().unwrap();
                // The leader is stopped for longer than its lease; the standby goes on.
                operator.signal("STOP");
                tokio::time::sleep(Duration::from_secs(22)).await;
                operator.signal("CONT");
                stage.done("killed", 400).await;
                second.kill();
            })
            .await;
        eprintln!("killed at, and then in stage: {kills:#?}");
        assert!(kills.len() >= 10, "killed {} times", kills.len());
        for stage in ["Stopping", "Publishing", "Starting"] {
            assert!(kills.iter().any(|(_, stands)| stands == stage), "never killed in {stage}");
        }
        let status = stage.status("killed").await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        watch.assert_one("in spite of all that");
        assert_no_slot_twice(&[&watch]);
        assert!(!watch.slots().is_empty(), "no slot was seen");
        assert_eq!(load.stop().await.failed, 0);
        remove(stage).await;
        operator.kill();
    });
}

#[test]
fn a_pod_on_a_silent_node_that_is_deleted_by_force_keeps_the_next_holder_from_starting() {
    on_stage(async |stage| {
        let operator = stage.operator("first");
        let load = stage.load().await;
        install(stage, "Wait", "Replace").await;
        all_held_by(stage, REGIONS[0], 60).await;
        let (west, east) = (stage.bed.region(REGIONS[0]).unwrap(), stage.bed.region(REGIONS[1]).unwrap());
        stage.apply(&plan("led", &json!({"soak": "1s", "cordon": "Mark", "deadline": "20m"}))).await;
        stage.drill("silent", "led", REGIONS[0]).await;
        stage
            .until("silent", 200, |status| {
                status["steps"].as_array().is_some_and(|steps| {
                    steps.iter().any(|step| step["name"] == "traffic" && step["level"]["movedPercent"] == 100)
                })
            })
            .await;
        // The kubelets fall silent: what is deleted from here on is only marked.
        west.kubelets(false).unwrap();
        stage.until_singleton("consumer", 100, |status| status["stage"] == "Stopping").await;
        let says = |status: &Value| status["message"].as_str().is_some_and(|text| text.contains("which is not ready"));
        stage.until_singleton("consumer", 150, says).await;
        assert_eq!(stage.get(east, "deployment", "consumer").await["spec"]["replicas"], 0, "started while a pod runs");
        let force = ["delete", "pods", "-n", shop::NAMESPACE, "-l", "singleton=consumer", "--force", "--grace-period=0"];
        west.kubectl(&force, None).await.unwrap();
        let gone =
            west.kubectl(&["get", "pods", "-n", shop::NAMESPACE, "-l", "singleton=consumer", "-o", "name"], None).await.unwrap();
        assert_eq!(gone.trim(), "", "the API server shows none");
        tokio::time::sleep(Duration::from_secs(30)).await;
        let status = stage.singleton("consumer").await;
        assert!(says(&status), "{status:#}");
        assert_eq!(stage.get(east, "deployment", "consumer").await["spec"]["replicas"], 0, "a forced deletion is no proof");
        west.kubelets(true).unwrap();
        // Simulated kubelets do not say again that a pod is ready which the control plane has written off.
        west.kubectl(&["delete", "pods", "-n", shop::NAMESPACE, "-l", "!singleton", "--wait=false"], None).await.unwrap();
        all_held_by(stage, REGIONS[1], 200).await;
        let status = stage.done("silent", 400).await;
        assert_eq!(status["conditions"][1]["type"], "Progressing", "{status:#}");
        load.stop().await;
        remove(stage).await;
        operator.kill();
    });
}
