//! What would go wrong: one file per check, each a pure function from what was seen to findings. A check that could not look is
//! a finding, not a pass.

/// Do the pods fit?
pub mod capacity;
/// Can every first write be made?
pub mod writable;

use crate::api::{Finding, Severity};

/// A finding that refuses the drill.
#[must_use]
pub fn blocker(check: &str, region: &str, object: &str, message: impl Into<String>, remedy: &str) -> Finding {
    finding(Severity::Blocker, check, region, object, message, remedy)
}

/// A finding that does not.
#[must_use]
pub fn warning(check: &str, region: &str, object: &str, message: impl Into<String>, remedy: &str) -> Finding {
    finding(Severity::Warning, check, region, object, message, remedy)
}

fn finding(severity: Severity, check: &str, region: &str, object: &str, message: impl Into<String>, remedy: &str) -> Finding {
    let cut = |text: String, most: usize| text.chars().take(most).collect::<String>();
    Finding {
        severity,
        check: check.to_owned(),
        region: region.to_owned(),
        object: object.to_owned(),
        message: cut(message.into(), 1024),
        remedy: remedy.to_owned(),
    }
}
