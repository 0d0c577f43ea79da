//! Bugs planted at the seam: the hunt finds every one within the seeds that are named here.

use super::eyes::index_of;
use super::story::{Says, Story, What};
use super::{ERRORS, Plant, hunt, tell};
use firedrill::cli::embedded::Instance;
use firedrill::sim::{Call, End, Fate, Sample};
use serde_json::{Value, json};
use std::time::Duration;

/// The hunt finds this bug within so many seeds, and nothing without it.
fn is_found(what: &str, within: u64, plant: &Plant) {
    is_found_where(what, within, |_| true, plant);
}

/// The same, leaving out stories in which it cannot show.
fn is_found_where(what: &str, within: u64, may_show: impl Fn(&Story) -> bool, plant: &Plant) {
    let seeds = (0..within).filter(|seed| may_show(&Story::of(*seed)));
    let (story, broken) = hunt(seeds, plant).unwrap_or_else(|| panic!("{what}: not found within {within} seeds"));
    println!("{what}: seed {}: {broken}", story.seed);
    tell(&story, &super::unplanted).unwrap();
}

/// Whether this happens while users are likely to be led away, in a story where nothing else delays that.
fn in_the_shift(story: &Story, wanted: impl Fn(&What) -> bool) -> bool {
    let mut at = 0;
    let calm = |what: &What| !matches!(what, What::Kill | What::Second | What::Cut { .. } | What::Pause { .. });
    story.storm == 0
        && story.events.iter().all(|event| calm(&event.what))
        && story.events.iter().any(|event| {
            at += event.after;
            at < 15_000 && wanted(&event.what)
        })
}

fn is_write_of(call: &Call, plural: &str) -> bool {
    call.verb == "patch" && !call.dry_run && call.path.contains(&format!("/{plural}/"))
}

/// Removes the operations of a JSON patch that are like this.
fn without(patch: &mut Value, unwanted: impl Fn(&str) -> bool) {
    if let Some(operations) = patch.as_array_mut() {
        operations.retain(|operation| !operation["path"].as_str().is_some_and(&unwanted));
    }
}

#[test]
fn a_write_without_its_claim() {
    is_found("claim left out", 5, &|_, instance| {
        for link in instance.links.values() {
            link.forge(|call, body| {
                if is_write_of(call, "horizontalpodautoscalers") {
                    without(body, |path| path.contains("annotations") || path.contains("labels"));
                }
            });
        }
    });
}

#[test]
fn a_baseline_that_is_written_over_although_somebody_has_changed_it() {
    let edited = |story: &Story| story.events.iter().any(|event| matches!(event.what, What::Weight { .. }));
    is_found_where("restored over a foreign edit", 200, edited, &|fleet, instance| {
        // The route always looks as the last write of ours left it.
        let Some(link) = instance.links.get("hub") else { return };
        let hub = fleet.server("hub").unwrap().clone();
        let first: Vec<(String, Value)> = hub
            .list("HTTPRoute", "shop")
            .iter()
            .map(|route| {
                (route["metadata"]["name"].as_str().unwrap().to_owned(), route["spec"]["rules"][0]["backendRefs"].clone())
            })
            .collect();
        link.lie(move |call, json| {
            let Some((_, baseline)) = first.iter().find(|(name, _)| call.path.ends_with(&format!("/httproutes/{name}"))) else {
                return;
            };
            let Some(claim) = json["metadata"]["annotations"]["firedrill.dev/claim"].as_str() else {
                if json["spec"]["rules"][0]["backendRefs"].is_array() {
                    json["spec"]["rules"][0]["backendRefs"] = baseline.clone();
                }
                return;
            };
            let claim: Value = serde_json::from_str(claim).unwrap_or_default();
            for entry in claim["undo"].as_array().into_iter().flatten() {
                // Only the first backend's weight is what persons edit here.
                if let (Some(is), Some(0)) = (entry.get("is"), index_of(entry)) {
                    json["spec"]["rules"][0]["backendRefs"][0]["weight"] = is.clone();
                }
            }
        });
    });
}

#[test]
fn a_first_write_that_is_not_compared_with_the_baseline() {
    // What users do would tell; here nothing tells what they do.
    let edited = |story: &Story| story.unseen && story.events.iter().any(|event| matches!(event.what, What::Weight { .. }));
    is_found_where("baseline not compared", 400, edited, &|fleet, instance| {
        // A route without a claim always looks as it was at first.
        let Some(link) = instance.links.get("hub") else { return };
        let hub = fleet.server("hub").unwrap().clone();
        let routes = hub.list("HTTPRoute", "shop");
        let first: Vec<(String, Value)> = routes
            .iter()
            .map(|route| (route["metadata"]["name"].as_str().unwrap().to_owned(), route["spec"]["rules"].clone()))
            .collect();
        link.lie(move |call, json| {
            let named = first.iter().find(|(name, _)| call.path.ends_with(&format!("/httproutes/{name}")));
            if let (Some((_, rules)), true, true) =
                (named, json["metadata"]["annotations"]["firedrill.dev/claim"].is_null(), json["spec"]["rules"].is_array())
            {
                json["spec"]["rules"] = rules.clone();
            }
        });
    });
}

#[test]
fn no_data_that_counts_as_green() {
    let no_data = |what: &What| matches!(what, What::Gate { says, millis } if !matches!(says, Says::Red) && *millis > 10_000);
    is_found_where("no data as green", 1500, |story| in_the_shift(story, no_data), &|fleet, _| {
        fleet.prometheus.lie(|query, sample| match sample {
            Sample::NoData | Sample::Several(_) if query == ERRORS => Sample::Value(0.0),
            Sample::Value(value) if query == ERRORS && value.is_nan() => Sample::Value(0.0),
            other => other,
        });
    });
}

#[test]
fn a_gate_that_is_never_asked() {
    let red = |what: &What| matches!(what, What::Gate { says: Says::Red, millis } if *millis > 10_000);
    is_found_where("gate ignored", 4000, |story| in_the_shift(story, red), &|fleet, _| {
        fleet.prometheus.lie(|query, sample| if query == ERRORS { Sample::Value(0.0) } else { sample });
    });
}

#[test]
fn users_that_are_led_to_pods_which_are_not_ready() {
    // All of the leaving region's weight goes to the first survivor at once.
    is_found("raised before Ready", 20, &|_, instance| {
        instance.links["hub"].forge(|call, body| {
            let Some(operations) = body.as_array_mut().filter(|_| is_write_of(call, "httproutes")) else { return };
            let weight = |operation: &Value, index: usize| {
                operation["path"].as_str().is_some_and(|path| path.ends_with(&format!("/backendRefs/{index}/weight")))
            };
            let Some(left) = operations.iter().find(|one| weight(one, 0)).and_then(|one| one["value"].as_u64()) else { return };
            for operation in operations {
                if weight(operation, 0) {
                    operation["value"] = json!(0);
                } else if weight(operation, 1) {
                    operation["value"] = json!(operation["value"].as_u64().unwrap_or(0) + left);
                }
            }
        });
    });
}

#[test]
fn a_region_without_a_copy_of_the_contract() {
    is_found("contract copy skipped", 5, &|_, instance| {
        for (_, link) in instance.links.iter().filter(|(name, _)| *name != "hub") {
            link.forge(|call, body| {
                if call.verb == "create" && call.path.ends_with("/configmaps") {
                    body["metadata"]["labels"] = json!({});
                }
            });
        }
    });
}

#[test]
fn a_claim_that_is_never_taken_off() {
    is_found("claim left behind", 5, &|_, instance| {
        for link in instance.links.values() {
            link.forge(|call, body| {
                if is_write_of(call, "horizontalpodautoscalers")
                    && let Some(operations) = body.as_array_mut()
                {
                    operations.retain(|operation| operation["op"] != "remove");
                }
            });
        }
    });
}

#[test]
fn an_undo_that_is_lost() {
    is_found("undo lost", 20, &|_, instance| {
        for link in instance.links.values() {
            link.forge(|call, body| {
                let goes_back = |body: &Value| !body.to_string().contains("minReplicas\\\"");
                if is_write_of(call, "horizontalpodautoscalers") && goes_back(body) {
                    without(body, |path| path == "/spec/minReplicas");
                }
            });
        }
    });
}

#[test]
fn a_stamp_that_is_skipped() {
    is_found("takeover stamp skipped", 60, &|_, instance| {
        for link in instance.links.values() {
            link.forge(|call, body| {
                let is_stamp = |body: &Value| {
                    body.as_array().is_some_and(|all| {
                        all.iter().all(|one| one["path"].as_str().is_some_and(|path| path.starts_with("/metadata")))
                    })
                };
                if is_write_of(call, "httproutes") && is_stamp(body) {
                    without(body, |path| path != "/metadata/resourceVersion");
                }
            });
        }
    });
}

/// Every fourth write of a route arrives when nobody waits for it any more.
fn late(instance: &Instance) {
    let Some(link) = instance.links.get("hub") else { return };
    let mut random = fastrand::Rng::with_seed(7);
    link.fates().replace(move |call| {
        let is_late = is_write_of(call, "httproutes") && random.u32(0..4) == 0;
        let before = Duration::from_millis(if is_late { random.u64(6_000..30_000) } else { random.u64(0..40) });
        Fate { before, after: Duration::ZERO, end: End::Deliver }
    });
}

#[test]
fn a_write_that_is_not_guarded_by_the_version_it_was_decided_on() {
    let guarded: &Plant = &|_, instance| late(instance);
    let unguarded: &Plant = &|_, instance| {
        late(instance);
        for link in instance.links.values() {
            link.forge(|call, body| {
                if is_write_of(call, "httproutes") {
                    without(body, |path| path == "/metadata/resourceVersion");
                }
            });
        }
    };
    let calm = (0..40).filter(|seed| Story::of(*seed).storm == 0);
    let (story, broken) = hunt(calm, unguarded).expect("guard dropped: not found within 40 seeds");
    println!("guard dropped: seed {}: {broken}", story.seed);
    tell(&story, guarded).unwrap();
}

#[test]
fn a_lock_that_is_ignored() {
    is_found_where("lock ignored", 200, |story| story.twice, &|_, instance| {
        // Whoever has it seems to be over.
        let Some(link) = instance.links.get("hub") else { return };
        link.lie(|call, json| {
            if call.verb == "list" && call.path.ends_with("/drills") {
                for drill in json["items"].as_array_mut().into_iter().flatten() {
                    drill["status"]["phase"] = json!("Done");
                }
            }
        });
    });
}

#[test]
fn without_a_bug_nothing_is_found() {
    assert_eq!(hunt(0..5, &super::unplanted), None);
}
