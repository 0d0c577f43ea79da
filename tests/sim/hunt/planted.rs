//! Bugs planted at the seam: the hunt finds every one within the seeds that are named here.

use super::{Plant, hunt, tell};
use firedrill::sim::Call;
use serde_json::Value;

/// The hunt finds this bug within so many seeds, and nothing without it.
fn is_found(what: &str, within: u64, plant: &Plant) {
    let (story, broken) = hunt(0..within, plant).unwrap_or_else(|| panic!("{what}: not found within {within} seeds"));
    println!("{what}: seed {}: {broken}", story.seed);
    tell(&story, &super::unplanted).unwrap();
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
    is_found("restored over a foreign edit", 20, &|fleet, instance| {
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

/// Which backend an entry of a claim speaks of, by the region's letter in its name.
fn index_of(entry: &Value) -> Option<usize> {
    let spot = entry["spot"].to_string();
    let letter = spot.split("region-").nth(1)?.chars().next()?;
    Some(usize::try_from(u32::from(letter) - u32::from('a')).unwrap_or(usize::MAX))
}

#[test]
fn without_a_bug_nothing_is_found() {
    assert_eq!(hunt(0..5, &super::unplanted), None);
}
