//! The kernel: guarded writes to objects that are not ours, and the claims by which each is taken back exactly. Pure.
//!
//! [`write()`], [`insist`], [`undo`], [`stamp`], [`release`] and [`strip`] are the only constructors of a [`Write`].

mod annotation;
mod fields;
mod write;

pub use annotation::{ANNOTATION, Claim, LABEL, LIMIT, Read, Undo, read};
pub use fields::{FIELD_MANAGER, Taken, taken};
pub use write::{Change, Conflict, Outcome, Refusal, Write, insist, release, stamp, strip, strip_dead, undo, undo_claim, write};
