//! `firedrill rehearse` predicts from a copy what the real drill beside it then takes, and writes nothing.

use crate::stage::{NAMESPACE, REGIONS, on_stage, plan, since};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// A Go duration in seconds.
fn seconds(text: &Value) -> f64 {
    let duration: kube::core::Duration = text.as_str().unwrap().parse().unwrap();
    Duration::from(duration).as_secs_f64()
}

#[test]
fn a_rehearsal_writes_nothing_and_predicts_what_the_drill_then_takes() {
    on_stage(async |stage| {
        let load = stage.load().await;
        let pace = json!({"firstPercent": 10, "growthPercent": 300, "maxStepPercent": 50, "hold": "5s"});
        stage.apply(&plan("rehearsed", &json!({"pace": {"evacuate": pace, "failback": pace}}))).await;
        // No operator runs: who is called firedrill is the rehearsal.
        let mark = stage.mark();
        let copy = stage.file("copy.json");
        let rehearse = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
            command.args(["rehearse", "eu-west"]).args(arguments).output().unwrap()
        };
        let (file, saved) = (stage.hub_file().display().to_string(), copy.display().to_string());
        let arguments = ["--plan", "rehearsed", "--kubeconfig", &file, "--namespace", NAMESPACE, "--save", &saved, "-o", "json"];
        let made = rehearse(&arguments);
        assert!(made.status.success(), "{} {}", String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
        let mut calls = 0;
        for cluster in stage.bed.regions().iter().chain([stage.hub()]) {
            for event in since(&mark, cluster) {
                calls += 1;
                assert!(matches!(event.verb.as_str(), "get" | "list"), "{} {}", event.verb, event.request_uri);
            }
        }
        let text = std::fs::read_to_string(&copy).unwrap();
        assert!(!text.contains("token") && !text.contains("\"Secret\""), "a secret is in the copy");
        eprintln!("{calls} calls, all read; the copy has {} KiB", text.len() / 1024);
        // The same copy, the same prediction.
        let again = rehearse(&["--from", &saved, "-o", "json"]);
        assert_eq!(made.stdout, again.stdout);
        eprintln!("{}", String::from_utf8_lossy(&rehearse(&["--from", &saved]).stdout));
        let predicted: Value = serde_json::from_slice::<Value>(&made.stdout).unwrap()[0].clone();
        // A Check asks the operator for the same, and keeps it.
        let operator = stage.operator("first");
        let object = |spec: Value| json!({"apiVersion": "firedrill.dev/v1alpha1", "kind": "Drill", "metadata": {"name": "foreseen"}, "spec": spec});
        stage.apply(&object(json!({"plan": "rehearsed", "region": "eu-west", "mode": "Check"}))).await;
        let checked = stage.done("foreseen", 180).await;
        let kept = &checked["prediction"];
        assert_eq!(kept["verdict"], "Passed", "{checked:#}");
        assert!(checked["message"].as_str().unwrap().contains("Passed, users healthy after"), "{checked:#}");
        let close = seconds(&kept["timeToHealthy"]) / seconds(&predicted["timeToHealthy"]);
        assert!(
            (0.8..1.25).contains(&close),
            "the Check predicts {} and the command {}",
            kept["timeToHealthy"],
            predicted["timeToHealthy"]
        );
        eprintln!("{}", stage.report("foreseen", "text"));
        stage.drill("rehearsed", "rehearsed", "eu-west").await;
        let status = stage.done("rehearsed", 400).await;
        assert_eq!(status["verdict"], "Passed", "{status:#}");
        assert_eq!(predicted["verdict"], "Passed", "{predicted:#}");
        let report: Value = serde_json::from_str(&stage.report("rehearsed", "json")).unwrap();
        eprintln!("time to healthy: predicted {}, measured {}", predicted["timeToHealthy"], report["timeToHealthy"]);
        for (ours, real) in predicted["phases"].as_array().unwrap().iter().zip(report["phases"].as_array().unwrap()) {
            assert_eq!(ours["phase"], real["phase"]);
            eprintln!("{}: predicted {}, measured {}", real["phase"], ours["took"], real["took"]);
        }
        let beside = &report["prediction"];
        assert_eq!(beside["drill"], "foreseen", "{report:#}");
        assert_eq!(
            beside["lines"][1],
            json!({"what": "time to healthy", "predicted": kept["timeToHealthy"], "measured": report["timeToHealthy"]})
        );
        eprintln!("{}", stage.report("rehearsed", "text"));
        let ratio = seconds(&predicted["timeToHealthy"]) / seconds(&report["timeToHealthy"]);
        assert!((0.5..2.0).contains(&ratio), "predicted {ratio} times what it took");
        for region in REGIONS {
            assert!(predicted["pods"][region][0].as_u64().unwrap() > 0, "{predicted:#}");
        }
        operator.kill();
        drop(load);
    });
}
