use crate::api::Control;
use crate::claim::Write;
use crate::terms::{Json, Target, Timestamp, Version};

/// What people and the API server say about a drill, beside its status.
#[derive(Clone, Debug, PartialEq)]
pub struct Orders {
    /// What a person wants.
    pub control: Control,
    /// The object is being deleted.
    pub deleted: bool,
    /// The finalizer is on it.
    pub finalizer: bool,
    /// The spec's generation.
    pub generation: i64,
}

/// Effects of one decision are independent of each other: any order, any subset, at most one write per object.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A guarded write to an object that is not ours.
    Write(Write),
    /// An own object is made.
    Create(Target, Json),
    /// An own object is replaced, guarded by the resourceVersion in it.
    Replace(Target, Json),
    /// An own object is deleted, or a Job that a singleton says is not to run on, guarded by its uid.
    Delete(Target, Version),
    /// The finalizer of the object that is decided about is put on (true) or taken off.
    Finalizer(bool),
}

impl Effect {
    /// What it is about; the finalizer is on the very object that is decided about.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Write(write) => Some(&write.target),
            Self::Create(target, _) | Self::Replace(target, _) | Self::Delete(target, _) => Some(target),
            Self::Finalizer(_) => None,
        }
    }
}

/// The whole answer: commit `progress`, then perform `effects` in any order, then sleep until `wake` or a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<P> {
    /// What is stored.
    pub progress: P,
    /// What is done then.
    pub effects: Vec<Effect>,
    /// When to look again at the latest; `None` if nothing is left to do.
    pub wake: Option<Timestamp>,
}
