//! firedrill evacuates a region of a Kubernetes fleet: on a calendar as a drill with real traffic, and for real when the
//! region fails. This page is the map of the house; the lowest floor comes first.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod terms;

pub mod api;
pub mod claim;

pub mod world;

pub mod dialect;

pub mod check;

pub mod decide;

pub mod report;

pub mod seam;

pub mod cluster;
pub mod probe;

pub mod observe;

pub mod telemetry;

pub mod operator;

pub mod sim;

pub mod cli;

#[cfg(test)]
mod house {
    use std::path::{Path, PathBuf};

    /// The floors, lowest first. Files of one floor do not import each other's folders, but for what is named here.
    const FLOORS: [&[&str]; 11] = [
        &["terms"],
        &["api", "claim"],
        &["world"],
        &["dialect"],
        &["check"],
        &["decide", "report"],
        &["seam"],
        &["cluster", "probe"],
        &["observe"],
        &["telemetry"],
        &["operator"],
    ];
    /// `report` says durations as `decide` does.
    const ALLOWED: [(&str, &str); 1] = [("report", "decide")];

    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }

    /// `sim` stands aside: it knows the seam's clock and `terms`, nothing of drills.
    #[test]
    fn no_import_points_upwards() {
        let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut all = Vec::new();
        files(&source, &mut all);
        assert!(all.len() > 50, "the house is larger than {} files", all.len());
        let mut wrong = Vec::new();
        for path in all {
            let place = path.strip_prefix(&source).unwrap();
            let room = place.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("crate::").skip(1) {
                let other: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let fine = match (room.as_str(), floor(&room), floor(&other)) {
                    (own, ..) if own == other => true,
                    ("sim", _, _) => matches!(other.as_str(), "seam" | "terms"),
                    ("cli" | "main" | "lib", ..) => true,
                    (_, Some(own), Some(theirs)) => theirs < own || ALLOWED.contains(&(&room, &other)),
                    (_, None, _) => false,
                    // Not a room: an item of the crate's root.
                    (_, Some(_), None) => !matches!(other.as_str(), "cli" | "sim"),
                };
                if !fine {
                    wrong.push(format!("{} imports crate::{other}", place.display()));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
