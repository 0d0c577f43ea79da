//! Bugs planted at the seam of singletons' hand-overs: the watch of the simulation finds every one.

use crate::fleet::{Fleet, Watch};
use crate::world::{DRILL, test};
use firedrill::cli::embedded::Instance;
use firedrill::sim::{Call, End, Fate, Fates, Server};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs a hand-over of a Deployment with a bug at the seam; what the watch saw.
async fn with_bug(plant: impl Fn(&Fleet, &Instance), fates: &Fates) -> Watch {
    let fleet = Fleet::new(5, &["Deployment"], &json!({})).await;
    let instance = fleet.world.fleet.operator("a", fates);
    fleet.until("adoption", 2, |fleet| fleet.is_at("Deployment", "eu-west")).await;
    plant(&fleet, &instance);
    fleet.world.fleet.drill(DRILL, "eu-west").unwrap();
    fleet.pass(180).await;
    instance.kill();
    fleet.watch.clone()
}

/// Makes a workload look stopped with the epoch of the hand-over that is under way.
fn looks_stopped(hub: Server) -> impl Fn(&Call, &mut Value) {
    move |call, json| {
        let singleton = hub.get("SingletonWorkload", "shop", "deployment").unwrap();
        if singleton["status"]["stage"] == "Held" && singleton["status"]["holder"] == "eu-west" {
            return;
        }
        if call.verb == "get" && call.path.ends_with("/deployments/deployment") {
            json["spec"]["replicas"] = json!(0);
            json["metadata"]["labels"]["firedrill.dev/epoch"] = json!(singleton["status"]["handover"]["epoch"].to_string());
        }
        if call.verb == "list" && call.path.ends_with("/pods") {
            json["items"] = json!([]);
        }
    }
}

/// A stop at home is answered and not stored.
fn pretended() -> Fates {
    Fates::new(move |call| {
        let stops = call.server == "eu-west" && call.verb == "patch" && call.path.contains("/deployments/deployment");
        Fate { before: Duration::ZERO, after: Duration::ZERO, end: if stops { End::Pretend } else { End::Deliver } }
    })
}

#[test]
fn a_stop_that_was_never_written_would_be_found() {
    test(async {
        // From then on the region looks as if it had been.
        let plant = |fleet: &Fleet, instance: &Instance| {
            let hub = fleet.world.fleet.server("hub").unwrap().clone();
            instance.links["eu-west"].lie(looks_stopped(hub));
        };
        let watch = with_bug(plant, &pretended()).await;
        assert!(!watch.0.lock().unwrap().two.is_empty(), "two regions ran it, and nobody saw that");
    });
}

#[test]
fn a_stop_that_is_only_claimed_to_be_written_starts_nothing_elsewhere() {
    test(async {
        let watch = with_bug(|_, _| {}, &pretended()).await;
        watch.assert_one("the answer alone proves nothing");
    });
}

#[test]
fn a_start_before_the_proof_would_be_found() {
    test(async {
        // The stop is written, and its pods take five minutes to end; the lists do not show them.
        let plant = |fleet: &Fleet, instance: &Instance| {
            // A kubelet that is gone ends no pod.
            fleet.silence("eu-west", "deployment");
            instance.links["eu-west"].lie(|call, json| {
                if call.verb == "list" && call.path.ends_with("/pods") {
                    json["items"] = json!([]);
                }
                if call.verb == "get" && call.path.contains("/nodes/") {
                    json["status"]["conditions"][0]["status"] = json!("True");
                }
            });
        };
        let watch = with_bug(plant, &Fates::calm()).await;
        assert!(!watch.0.lock().unwrap().two.is_empty(), "two regions ran it, and nobody saw that");
    });
}

#[test]
fn an_epoch_that_falls_would_be_found() {
    test(async {
        let plant = |fleet: &Fleet, _: &Instance| {
            let hub = fleet.world.fleet.server("hub").unwrap().clone();
            let clock = fleet.world.fleet.clock.clone();
            let end = clock.now() + chrono::TimeDelta::seconds(120);
            tokio::spawn(async move {
                // As if the epoch were not read from where it is kept.
                while clock.now() < end {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    hub.edit("Lease", "shop", "firedrill-deployment", |lease| {
                        lease["metadata"]["annotations"]["firedrill.dev/epoch"] = json!("1");
                    })
                    .unwrap();
                }
            });
        };
        let watch = with_bug(plant, &Fates::calm()).await;
        assert!(!watch.0.lock().unwrap().falls.is_empty(), "an epoch fell, and nobody saw that");
    });
}

#[test]
fn an_epoch_that_is_not_raised_would_be_found() {
    test(async {
        // Every stop and start stamps 1, and looks as if it stamped what was decided.
        let plant = |fleet: &Fleet, instance: &Instance| {
            for (_, link) in instance.links.iter().filter(|(name, _)| *name != "hub") {
                link.forge(|call, body| {
                    let writes = call.verb == "patch" && call.path.ends_with("/deployments/deployment");
                    for operation in body.as_array_mut().into_iter().flatten().filter(|_| writes) {
                        if operation["path"].as_str().is_some_and(|path| path.ends_with("firedrill.dev~1epoch")) {
                            operation["value"] = json!("1");
                        }
                        if operation["value"]["firedrill.dev/epoch"].is_string() {
                            operation["value"]["firedrill.dev/epoch"] = json!("1");
                        }
                    }
                });
                let hub = fleet.world.fleet.server("hub").unwrap().clone();
                link.lie(move |call, json| {
                    let singleton = hub.get("SingletonWorkload", "shop", "deployment").unwrap();
                    let epoch = &singleton["status"]["handover"]["epoch"];
                    let label = json.pointer_mut("/metadata/labels/firedrill.dev~1epoch");
                    if let (Some(label), true, false) = (label, call.path.ends_with("/deployments/deployment"), epoch.is_null()) {
                        *label = json!(epoch.to_string());
                    }
                });
            }
        };
        let watch = with_bug(plant, &Fates::calm()).await;
        assert!(!watch.0.lock().unwrap().falls.is_empty(), "an epoch was not raised, and nobody saw that");
    });
}

#[test]
fn a_start_that_is_taken_for_settled_while_it_may_still_land_would_be_found() {
    test(async {
        // The start is under way for a minute and a half. The version that guards it is shown as gone, and what is there as stopped; the
        // drill goes back.
        let held = Arc::new(Mutex::new(false));
        let flag = Arc::clone(&held);
        let fates = Fates::new(move |call| {
            let writes = call.verb == "patch" && call.path.ends_with("/deployments/deployment") && !call.dry_run;
            let mut fate = Fate { before: Duration::ZERO, after: Duration::ZERO, end: End::Deliver };
            if call.server == "us-east" && writes && *flag.lock().unwrap() {
                fate.before = Duration::from_secs(90);
            }
            fate
        });
        let plant = |fleet: &Fleet, instance: &Instance| {
            let hub = fleet.world.fleet.server("hub").unwrap().clone();
            let (status, sees) = (hub.clone(), Arc::clone(&held));
            instance.links["us-east"].lie(move |call, json| {
                if *sees.lock().unwrap() && call.verb == "get" && call.path.ends_with("/deployments/deployment") {
                    let singleton = status.get("SingletonWorkload", "shop", "deployment").unwrap();
                    // The start is decided about what is truly there, and everything after it about what is not.
                    if singleton["status"]["stage"] == "Starting" && singleton["status"]["handover"]["started"].is_null() {
                        return;
                    }
                    json["metadata"]["resourceVersion"] = json!("1");
                    json["metadata"]["labels"]["firedrill.dev/epoch"] =
                        json!(singleton["status"]["handover"]["epoch"].to_string());
                    json["spec"]["replicas"] = json!(0);
                }
            });
            let held = Arc::clone(&held);
            tokio::spawn(async move {
                let stage = || hub.get("SingletonWorkload", "shop", "deployment").unwrap()["status"]["stage"].clone();
                while stage() != "Publishing" {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                *held.lock().unwrap() = true;
                while hub.get("SingletonWorkload", "shop", "deployment").unwrap()["status"]["handover"]["started"].is_null() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                hub.edit("Drill", "", DRILL, |drill| drill["spec"]["control"] = json!("Abort")).unwrap();
            });
        };
        let watch = with_bug(plant, &fates).await;
        assert!(!watch.0.lock().unwrap().two.is_empty(), "two regions ran it, and nobody saw that");
    });
}
