use super::annotation::{ANNOTATION, Claim, LABEL, LIMIT, Read, Undo, read};
use super::fields::{Taken, given_back};
use crate::terms::{Json, Object, Owner, Spot, Target, Term, Version};
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use jsonptr::PointerBuf;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// One value of the world as a contract wants it; absent is `None`, so adding and removing are changes too.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Where.
    pub spot: Spot,
    /// The value of the contract's baseline.
    pub was: Option<Json>,
    /// What we last committed to put there (`was` before the first change).
    pub from: Option<Json>,
    /// What is to stand there.
    pub to: Option<Json>,
}

/// A guarded write to an object that is not ours: all of it to exactly `version`, or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The object.
    pub target: Target,
    /// The state that it was decided about; another state answers 409.
    pub version: Version,
    /// One JSON patch whose first operation sets `metadata.resourceVersion` to `version`.
    pub patch: Patch,
}

/// A value that is neither as it was nor as we left it: somebody else's, reported and never overwritten.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conflict {
    /// On which object.
    pub target: Target,
    /// Where.
    pub spot: String,
    /// What stands there, as JSON; empty for absent or when the place is gone.
    pub found: String,
    /// What the baseline had, as JSON; empty for absent.
    pub was: String,
    /// What we had put there, as JSON; empty for absent.
    pub ours: String,
}

/// Why a write is not made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else's hand is on the values.
    #[error("{} was changed by somebody else", .0.first().map_or("a value", |c| c.spot.as_str()))]
    Foreign(Vec<Conflict>),
    /// Another drill's or a singleton's claim is on the object.
    #[error("claimed by {}", .0.name)]
    ClaimedByOther(Owner),
    /// Another version's claim is on the object.
    #[error("its claim has format {0}, which this version does not read")]
    Format(u64),
    /// The claim would be longer than [`LIMIT`].
    #[error("the claim would be {0} bytes long, at most {LIMIT} are allowed")]
    TooLong(usize),
    /// The object as it is cannot be patched.
    #[error("cannot be patched: {0}")]
    Unpatchable(String),
}

/// What taking back, or a write, means for one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The write; `None` if nothing differs.
    pub write: Option<Write>,
    /// What others have changed meanwhile.
    pub conflicts: Vec<Conflict>,
}

impl Outcome {
    /// The write, if it is of everything.
    fn whole(self) -> Result<Option<Write>, Refusal> {
        if self.conflicts.is_empty() { Ok(self.write) } else { Err(Refusal::Foreign(self.conflicts)) }
    }
}

/// What a value that is neither as it was nor as we left it means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hand {
    /// It is somebody else's: a conflict, left alone.
    Respected,
    /// It is written over.
    Overruled,
}

/// An edit of one value, and how many containers around it go too if they are left empty.
struct Edit {
    spot: Spot,
    to: Option<Json>,
    prune: usize,
}

/// Brings `seen` to what `changes` want, with the claim of `by` in the same patch.
///
/// The contract's baseline (`was`) is the truth, so a claim that vanished or is older than our last write is written anew.
///
/// # Errors
/// [`Refusal`]; nothing is to be written then.
pub fn write(
    seen: &Object,
    target: &Target,
    by: &Owner,
    term: Term,
    changes: &[Change],
    taken: &[Taken],
) -> Result<Option<Write>, Refusal> {
    bring(seen, target, by, term, changes, taken, Hand::Respected)?.whole()
}

/// Takes `changes` back to their baseline: what is ours goes back, what is somebody else's stays and is told, all entries are
/// dropped.
///
/// # Errors
/// [`Refusal`] other than `Foreign`.
pub fn undo(
    seen: &Object,
    target: &Target,
    by: &Owner,
    term: Term,
    changes: &[Change],
    taken: &[Taken],
) -> Result<Outcome, Refusal> {
    let back: Vec<Change> = changes.iter().map(|change| Change { to: change.was.clone(), ..change.clone() }).collect();
    bring(seen, target, by, term, &back, taken, Hand::Respected)
}

/// As [`write()`], whatever stands there now: for a singleton that somebody else has started in a second region. The guard still
/// makes it apply to no other state than the one that was decided about.
///
/// # Errors
/// [`Refusal`]; `Foreign` only where the place is gone.
pub fn insist(
    seen: &Object,
    target: &Target,
    by: &Owner,
    term: Term,
    changes: &[Change],
    taken: &[Taken],
) -> Result<Option<Write>, Refusal> {
    bring(seen, target, by, term, changes, taken, Hand::Overruled)?.whole()
}

/// Takes back everything that `claim` on `seen` lists: for the sweep, which has no contract at hand.
///
/// # Errors
/// As [`undo`].
pub fn undo_claim(seen: &Object, claim: &Claim, term: Term) -> Result<Outcome, Refusal> {
    let changes: Vec<Change> = claim
        .undo
        .iter()
        .map(|entry| Change { spot: entry.spot.clone(), was: entry.was.clone(), from: entry.is.clone(), to: entry.was.clone() })
        .collect();
    bring(seen, &claim.on, &claim.by, term, &changes, &claim.taken, Hand::Respected)
}

/// Moves the version of `seen` by changing the claim's sequence number alone, so that a request still on its way can never land.
/// It may be the first write, which takes `taken` from others.
///
/// # Errors
/// [`Refusal`] if another drill's claim is there.
pub fn stamp(seen: &Object, target: &Target, by: &Owner, term: Term, taken: &[Taken]) -> Result<Write, Refusal> {
    let (before, fresh) = ours(seen, target, by, term, taken)?;
    let mut claim = before.unwrap_or(fresh);
    claim.term = term;
    claim.sequence += 1;
    with_claim(seen, target, Vec::new(), &claim)
}

/// Drops a claim that has nothing left to undo, and gives field ownership back in the same patch; `None` if there is no such
/// claim.
///
/// # Errors
/// [`Refusal`] if another drill's claim is there.
pub fn release(seen: &Object, target: &Target, by: &Owner) -> Result<Option<Write>, Refusal> {
    let (Some(claim), _) = ours(seen, target, by, Term::default(), &[])? else { return Ok(None) };
    if !claim.undo.is_empty() {
        return Ok(None);
    }
    drop_claim(seen, target, claim.made_annotations, claim.made_labels, &claim.taken).map(Some)
}

/// Removes a dead claim (copied, revived, forged, broken, or of an owner that is over), touching no value; `None` if there is
/// none.
///
/// # Errors
/// [`Refusal::Unpatchable`].
pub fn strip(seen: &Object, target: &Target) -> Result<Option<Write>, Refusal> {
    if seen.annotation(ANNOTATION).is_none() && seen.label(LABEL).is_none() {
        return Ok(None);
    }
    drop_claim(seen, target, false, false, &[]).map(Some)
}

/// As [`strip`], but only of what says nothing: a claim that speaks, and one of another version, stay.
///
/// # Errors
/// [`Refusal::Unpatchable`].
pub fn strip_dead(seen: &Object, target: &Target) -> Result<Option<Write>, Refusal> {
    match read(seen, target) {
        Read::Claim(_) | Read::Format(_) => Ok(None),
        Read::Nothing | Read::Copied(_) | Read::Broken(_) => strip(seen, target),
    }
}

fn bring(
    seen: &Object,
    target: &Target,
    by: &Owner,
    term: Term,
    changes: &[Change],
    taken: &[Taken],
    hand: Hand,
) -> Result<Outcome, Refusal> {
    let (before, fresh) = ours(seen, target, by, term, taken)?;
    let mut claim = before.clone().unwrap_or(fresh);
    let mut edits = Vec::new();
    let mut conflicts = Vec::new();
    for change in changes {
        let entry = claim.undo.iter().position(|entry| entry.spot == change.spot).map(|at| claim.undo.remove(at));
        let conflict = |found: Option<&Json>| Conflict {
            target: target.clone(),
            spot: change.spot.to_string(),
            found: text(found),
            was: text(change.was.as_ref()),
            ours: text(entry.as_ref().map_or(change.from.as_ref(), |entry| entry.is.as_ref())),
        };
        let Ok(found) = change.spot.find(seen.json()) else {
            conflicts.push(conflict(None));
            continue;
        };
        let there = &found.value;
        // Value and claim change in one write. So beside our claim only what it says we wrote is ours, and a value that somebody
        // has put back to the baseline is theirs; `from` is for a claim that is older than our last write, which one that says `to`
        // is not. Without a claim there may not have been a write yet.
        let known = hand == Hand::Overruled
            || *there == change.to
            || match &entry {
                Some(entry) => {
                    *there == entry.is || (entry.is != change.to && *there == change.from && change.from != change.was)
                }
                None => *there == change.was || *there == change.from,
            };
        if !known {
            conflicts.push(conflict(there.as_ref()));
            continue;
        }
        let made = entry.as_ref().map_or(found.missing, |entry| entry.made);
        if *there != change.to {
            edits.push(Edit {
                spot: change.spot.clone(),
                to: change.to.clone(),
                prune: if change.to.is_none() { made } else { 0 },
            });
        }
        if change.to != change.was {
            claim.undo.push(Undo { spot: change.spot.clone(), was: change.was.clone(), is: change.to.clone(), made });
        }
    }
    claim.undo.sort_by(|one, two| one.spot.cmp(&two.spot));
    let unchanged = edits.is_empty() && before.as_ref().map_or(claim.undo.is_empty(), |before| before.undo == claim.undo);
    if unchanged {
        return Ok(Outcome { write: None, conflicts });
    }
    claim.term = term;
    claim.sequence += 1;
    Ok(Outcome { write: Some(with_claim(seen, target, edits, &claim)?), conflicts })
}

/// Our claim on the object, if it has one that speaks, and the one that a first write would make.
fn ours(seen: &Object, target: &Target, by: &Owner, term: Term, taken: &[Taken]) -> Result<(Option<Claim>, Claim), Refusal> {
    let fresh = Claim::new(seen, target, by, term, taken);
    match read(seen, target) {
        Read::Claim(claim) if claim.by.uid == by.uid => Ok((Some(*claim), fresh)),
        Read::Claim(claim) => Err(Refusal::ClaimedByOther(claim.by)),
        Read::Format(format) => Err(Refusal::Format(format)),
        Read::Nothing | Read::Copied(_) | Read::Broken(_) => Ok((None, fresh)),
    }
}

fn with_claim(seen: &Object, target: &Target, mut edits: Vec<Edit>, claim: &Claim) -> Result<Write, Refusal> {
    let text = serde_json::to_string(claim).map_err(|error| Refusal::Unpatchable(error.to_string()))?;
    if text.len() > LIMIT {
        return Err(Refusal::TooLong(text.len()));
    }
    let (annotation, label) = claim_spots();
    edits.push(Edit { spot: annotation, to: Some(text.into()), prune: 0 });
    edits.push(Edit { spot: label, to: Some(claim.by.uid.clone().into()), prune: 0 });
    guarded(seen, target, &edits)
}

fn drop_claim(seen: &Object, target: &Target, annotations: bool, labels: bool, taken: &[Taken]) -> Result<Write, Refusal> {
    let (annotation, label) = claim_spots();
    let owners = Spot::fields(&["metadata", "managedFields"]);
    let mut edits = vec![
        Edit { spot: annotation, to: None, prune: usize::from(annotations) },
        Edit { spot: label, to: None, prune: usize::from(labels) },
    ];
    if let Some(list) = given_back(seen, taken) {
        edits.push(Edit { spot: owners, to: Some(list), prune: 0 });
    }
    guarded(seen, target, &edits)
}

fn claim_spots() -> (Spot, Spot) {
    (Spot::fields(&["metadata", "annotations", ANNOTATION]), Spot::fields(&["metadata", "labels", LABEL]))
}

/// One JSON patch of all `edits`, its first operation the guard. Each is placed in the object as the ones before leave it.
fn guarded(seen: &Object, target: &Target, edits: &[Edit]) -> Result<Write, Refusal> {
    let unpatchable = |error: &dyn std::fmt::Display| Refusal::Unpatchable(error.to_string());
    let version = Version::of(seen);
    let mut working = seen.json().clone();
    let mut operations = vec![PatchOperation::Replace(ReplaceOperation {
        path: PointerBuf::from_tokens(["metadata", "resourceVersion"]),
        value: json!(version.resource),
    })];
    for edit in edits {
        let found = edit.spot.find(&working).map_err(|error| unpatchable(&error))?;
        let mut pointer = PointerBuf::parse(found.pointer).map_err(|error| unpatchable(&error))?;
        let operation = match (&edit.to, found.value) {
            (None, None) => continue,
            (Some(to), Some(_)) => PatchOperation::Replace(ReplaceOperation { path: pointer, value: to.clone() }),
            (Some(to), None) => {
                for _ in 0..found.missing {
                    pointer.pop_back();
                }
                PatchOperation::Add(AddOperation { path: pointer, value: edit.spot.wrap(found.missing, to.clone()) })
            }
            (None, Some(_)) => {
                for _ in 0..edit.prune {
                    let mut parent = pointer.clone();
                    parent.pop_back();
                    let alone = match parent.resolve(&working).map_err(|error| unpatchable(&error))? {
                        Json::Object(map) => map.len() == 1,
                        Json::Array(list) => list.len() == 1,
                        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
                    };
                    if !alone {
                        break;
                    }
                    pointer = parent;
                }
                PatchOperation::Remove(RemoveOperation { path: pointer })
            }
        };
        json_patch::patch(&mut working, std::slice::from_ref(&operation)).map_err(|error| unpatchable(&error))?;
        operations.push(operation);
    }
    Ok(Write { target: target.clone(), version, patch: Patch(operations) })
}

fn text(value: Option<&Json>) -> String {
    value.map(Json::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests;
