//! Singletons: each is handed over by its own loop, which alone writes its workload. The drill only says which way; done = every
//! loop's status names this drill, this way and the holder.

use super::{Stride, View};
use crate::api::{Direction, HoldReason, SingletonWorkloadStatus, Stage, StepStatus};
use crate::claim::Conflict;
use crate::decide::contract::Led;
use crate::decide::singleton::has_followed;
use crate::terms::Json;

pub(super) fn stride(led: &[Led], before: &StepStatus, view: &View<'_>) -> Stride {
    let mut stride = Stride::new(before, view.direction);
    let mut pending = Vec::new();
    for one in led {
        let label = one.target.label();
        let wanted = if view.direction == Direction::Out { &one.to } else { &one.from };
        let object = match view.world.object(&one.target) {
            Err(blind) => {
                stride = stride.wait(HoldReason::Unreachable, format!("{label} {blind}"));
                pending.push(label);
                continue;
            }
            Ok(object) => object.filter(|object| object.uid() == one.uid),
        };
        let status = |object: &crate::terms::Object| -> SingletonWorkloadStatus {
            object.at("/status").cloned().and_then(|status: Json| serde_json::from_value(status).ok()).unwrap_or_default()
        };
        let Some(status) = object.map(status).filter(|status| status.stage != Stage::Observed) else {
            // Nobody leads it any more: what runs runs on, where it is.
            stride.conflicts.push(Conflict {
                target: one.target.clone(),
                spot: "metadata.uid".into(),
                found: String::new(),
                was: one.uid.clone(),
                ours: format!("held by {wanted}"),
            });
            continue;
        };
        if has_followed(&status, &view.contract.drill.uid, view.direction, wanted.as_str()) {
            continue;
        }
        let message = format!("{label}: {}", status.message);
        let needs_human = status.conditions.iter().any(|condition| condition.reason == "NeedsHuman");
        if needs_human {
            stride = stride.wait(HoldReason::NeedsHuman, message.clone());
        }
        pending.push(message);
    }
    if pending.is_empty() {
        return stride.done(view.now);
    }
    if stride.status.message.is_empty() {
        stride.status.message = pending.swap_remove(0);
    }
    stride
}
