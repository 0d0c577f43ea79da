//! Cordon: nothing new is scheduled in the leaving region. With `Mark` there is nothing to write: the Region's status says it.

use super::{Stride, View, plain};
use crate::api::StepStatus;
use crate::decide::contract::Step;

pub(super) fn stride(step: &Step, before: &StepStatus, view: &View<'_>) -> Stride {
    let (stride, settled) = plain(step, before, view);
    if settled { stride.done(view.now) } else { stride }
}
