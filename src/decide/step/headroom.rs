//! Headroom: survivors are raised, Ready and warm before traffic moves; the leaving region's own floor is held, so that the way
//! back is instant. What is restored is the minimum; the live size is the autoscaler's afterwards.

use super::{Stride, View, plain};
use crate::api::{Direction, StepStatus};
use crate::decide::contract::Step;

pub(super) fn stride(step: &Step, before: &StepStatus, view: &View<'_>) -> Stride {
    let (stride, settled) = plain(step, before, view);
    if !settled {
        return stride;
    }
    match view.direction {
        Direction::Back => stride.done(view.now),
        Direction::Out => match view.survivors_ready(100) {
            Ok(()) => stride.done(view.now),
            Err((reason, message)) => stride.wait(reason, message),
        },
    }
}
