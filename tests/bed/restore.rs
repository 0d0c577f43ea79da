//! `firedrill restore`: what drills have changed is put back by hand, with the hub and without.

use crate::stage::{NAMESPACE, REGIONS, Stage, moved, on_stage, plan};
use serde_json::{Value, json};
use std::process::{Command, Output};

/// A kubeconfig with a context for each cluster, as a person has it.
fn kubeconfig(stage: &Stage) -> std::path::PathBuf {
    let file = stage.file("everything");
    let clusters = stage.bed.regions().iter().chain([stage.hub()]);
    let files: Vec<String> = clusters.map(|cluster| cluster.kubeconfig().display().to_string()).collect();
    let merged = Command::new(&stage.bed.tools().kubectl)
        .args(["config", "view", "--flatten"])
        .env("KUBECONFIG", files.join(":"))
        .output()
        .unwrap();
    std::fs::write(&file, merged.stdout).unwrap();
    file
}

fn restore(file: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firedrill"));
    command.args(["restore", "--namespace", NAMESPACE]).arg("--kubeconfig").arg(file);
    for region in REGIONS {
        command.args(["--region", region]);
    }
    command.args(arguments).output().unwrap()
}

/// Somebody else sets the second region's weight.
async fn edit(stage: &Stage, route: &str, weight: u32) {
    let patch = json!([{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": weight}]).to_string();
    let arguments = ["patch", "httproute", route, "-n", "shop", "--type=json", "--field-manager=somebody", "-p", &patch];
    stage.hub().kubectl(&arguments, None).await.unwrap();
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn everything_is_put_back_by_hand_with_the_hub_and_what_can_be_without_it() {
    on_stage(async |stage| {
        let file = kubeconfig(stage);
        let operator = stage.operator("first");
        let load = stage.load().await;
        let before = stage.snapshot().await;
        let nothing = restore(&file, &["--hub", "hub", "--dry-run"]);
        assert_eq!((nothing.status.code(), text(&nothing).trim()), (Some(0), "no drill has left anything behind"));
        stage.apply(&plan("by-hand", &json!({"failback": "Manual", "guards": {"contention": "Hold"}}))).await;
        stage.drill("by-hand", "by-hand", "eu-west").await;
        stage.until("by-hand", 300, |status| moved(status) == 100).await;
        // Somebody edits a weight in between; that stays as it is, and is told.
        edit(stage, "cart", 7).await;
        // With the hub: the operator lives, and its lead is taken.
        let shown = restore(&file, &["--hub", "hub", "--dry-run"]);
        assert_eq!(shown.status.code(), Some(4), "{}", text(&shown));
        assert!(text(&shown).contains("hub: HTTPRoute shop/shop spec.rules"), "{}", text(&shown));
        assert!(text(&shown).contains("waits for traffic to be seen back"), "{}", text(&shown));
        let refused = restore(&file, &["--hub", "hub", "--hub-lost"]);
        assert!(text(&refused).contains("the hub answers"), "{}", text(&refused));
        let done = restore(&file, &["--hub", "hub", "-o", "json"]);
        assert_eq!(done.status.code(), Some(3), "{}", text(&done));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["drillsAborted"], json!(["by-hand"]), "{report:#}");
        assert!(report["written"].as_u64().unwrap() > 20 && report["left"] == json!([]), "{report:#}");
        let conflicts = report["conflicts"].as_array().unwrap();
        assert!(
            !conflicts.is_empty()
                && conflicts
                    .iter()
                    .all(|one| one["object"] == "HTTPRoute shop/cart" && one["found"] == "7" && one["was"] == "33"),
            "{report:#}"
        );
        let status = stage.done("by-hand", 120).await;
        assert_eq!(status["verdict"], "Aborted", "{status:#}");
        stage.assert_restored_but(&before, |key| key.ends_with("HTTPRoute cart")).await;
        let cart = stage.get(stage.hub(), "httproute", "cart").await;
        assert_eq!(cart["spec"]["rules"][0]["backendRefs"][1]["weight"], 7, "{cart:#}");
        stage.owners_again("cart").await;
        // Without the hub: it is stopped, with its etcd, in mid-drill. The edge goes on with the weights that it knows.
        stage.calm().await;
        let before = stage.snapshot().await;
        stage.drill("lost", "by-hand", "eu-west").await;
        stage.until("lost", 300, |status| moved(status) == 100).await;
        operator.kill();
        stage.hub().stop_api();
        let done = restore(&file, &["--hub", "hub", "--hub-lost", "--timeout", "4s"]);
        assert_eq!(done.status.code(), Some(4), "{}", text(&done));
        assert!(
            text(&done).contains("not put back: us-east: HorizontalPodAutoscaler shop/shop spec.minReplicas"),
            "{}",
            text(&done)
        );
        let west = stage.bed.region("eu-west").unwrap();
        let nodes = west.kubectl(&["get", "nodes", "-o", "json"], None).await.unwrap();
        assert!(!nodes.contains("firedrill.dev"), "the nodes take pods again");
        // A person looks at the edge, and says so.
        let done = restore(&file, &["--hub-lost", "--traffic-is-back"]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done));
        assert!(text(&done).contains("nothing of any drill is left"), "{}", text(&done));
        // The hub comes back, and what was left on it is put back too.
        stage.hub().start_api().await.unwrap();
        let operator = stage.operator("first");
        let status = stage.done("lost", 300).await;
        assert_eq!(status["verdict"], "Aborted", "{status:#}");
        assert!(status["whyMessage"].as_str().unwrap().starts_with("the contract's copy was removed"), "{status:#}");
        stage.assert_restored(&before).await;
        load.stop().await;
        operator.kill();
    });
}
