use super::blocker;
use crate::api::Finding;
use crate::claim::Refusal;
use crate::terms::{RegionName, Target};

/// What a refused first write of an object means: checks `Writable` and `ClaimFits`.
#[must_use]
pub fn refused(region: Option<&RegionName>, target: &Target, refusal: &Refusal) -> Finding {
    let region = region.map(RegionName::as_str).unwrap_or_default();
    let label = target.label();
    let message = format!("{label}: {refusal}");
    match refusal {
        Refusal::TooLong(_) => {
            blocker("ClaimFits", region, &label, message, "Split the object: it has too many values to claim.")
        }
        Refusal::Format(_) => {
            blocker("Writable", region, &label, message, "Let the version of firedrill that wrote it finish its drill.")
        }
        Refusal::ClaimedByOther(_) => {
            blocker("Writable", region, &label, message, "Wait until that drill is over, or see why it is not.")
        }
        Refusal::Foreign(_) | Refusal::Unpatchable(_) => {
            blocker("Writable", region, &label, message, "It changed while it was looked at: create the drill again.")
        }
    }
}

/// What a refused dry run of a first write means.
#[must_use]
pub fn dry_run(region: Option<&RegionName>, target: &Target, message: &str) -> Finding {
    blocker(
        "Writable",
        region.map(RegionName::as_str).unwrap_or_default(),
        &target.label(),
        format!("{} cannot be written: {message}", target.label()),
        "Give the operator's account in that cluster the chart's role, and see which admission policy refuses it.",
    )
}
