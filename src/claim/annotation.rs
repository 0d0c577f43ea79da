use super::Taken;
use crate::terms::{Json, Object, Owner, Spot, Target, Term};
use serde::{Deserialize, Serialize};

/// The annotation that holds a claim.
pub const ANNOTATION: &str = "firedrill.dev/claim";
/// The label beside it, whose value is the owner's uid, so that orphans can be listed.
pub const LABEL: &str = "firedrill.dev/claimed";
/// The longest claim, in bytes: an eighth of what Kubernetes allows all annotations of an object together, so that the
/// user's own still fit.
pub const LIMIT: usize = 32 * 1024;
/// The format of claims that this version writes and reads.
const FORMAT: u8 = 1;

/// On what, whose, in which term of leadership, which write of it, and how to take it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Always 1; other formats are left alone and reported.
    pub format: u8,
    /// The object it was written for: a claim copied to another object does not speak.
    pub on: Target,
    /// The uid of that object.
    pub uid: String,
    /// The drill it belongs to.
    pub by: Owner,
    /// The term of leadership of its last write.
    pub term: Term,
    /// Counts the writes, so that a stamp can move the version without changing a value.
    pub sequence: u32,
    /// What to take back; empty once all is back.
    pub undo: Vec<Undo>,
    /// What our first write took from other managers' field ownership.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Taken>,
    /// Whether the object had no annotations before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub made_annotations: bool,
    /// Whether the object had no labels before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub made_labels: bool,
}

/// One spot's way back: `was` is the value before the owner's first change, `is` the last it wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// Where.
    pub spot: Spot,
    /// Before; absent is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Json>,
    /// After our last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<Json>,
    /// How many containers our first write had to make around the value.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub made: usize,
}

/// What an object's annotation says.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// There is none.
    Nothing,
    /// A claim made for this very object.
    Claim(Box<Claim>),
    /// A claim made for another object, or another object of this name: copied or revived; it says nothing.
    Copied(Box<Claim>),
    /// Not a claim.
    Broken(String),
    /// Written by another version, which alone can read it: it is left alone.
    Format(u64),
}

/// What every version's claim says first.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Reads the claim on `seen`, which stands at `target`.
#[must_use]
pub fn read(seen: &Object, target: &Target) -> Read {
    let Some(text) = seen.annotation(ANNOTATION) else { return Read::Nothing };
    if text.len() > LIMIT {
        return Read::Broken(format!("{} bytes long, at most {LIMIT} are read", text.len()));
    }
    if let Some(format) =
        serde_json::from_str::<Format>(text).ok().map(|said| said.format).filter(|format| *format != u64::from(FORMAT))
    {
        return Read::Format(format);
    }
    match serde_json::from_str::<Claim>(text) {
        Err(error) => Read::Broken(error.to_string()),
        Ok(claim) if claim.on != *target || claim.uid != seen.uid() => Read::Copied(Box::new(claim)),
        Ok(claim) => Read::Claim(Box::new(claim)),
    }
}

impl Claim {
    /// A claim with nothing to undo yet, on `seen` as it is.
    pub(super) fn new(seen: &Object, target: &Target, by: &Owner, term: Term, taken: &[Taken]) -> Self {
        Self {
            format: FORMAT,
            on: target.clone(),
            uid: seen.uid().to_owned(),
            by: by.clone(),
            term,
            sequence: 0,
            undo: Vec::new(),
            taken: taken.to_vec(),
            made_annotations: seen.at("/metadata/annotations").is_none(),
            made_labels: seen.at("/metadata/labels").is_none(),
        }
    }
}
