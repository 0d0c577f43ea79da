use super::*;
use crate::terms::{ClusterUid, Kind, Segment};
use proptest::prelude::*;

fn target() -> Target {
    Target { cluster: ClusterUid("c".into()), kind: Kind::HTTPRoute, namespace: Some("shop".into()), name: "web".into() }
}

fn drill(uid: &str) -> Owner {
    Owner { name: format!("drill-{uid}"), uid: uid.into() }
}

/// The server's side: all of the patch to exactly that version, or nothing.
fn apply(object: &Object, write: &Write) -> Option<Object> {
    if write.version != Version::of(object) {
        return None;
    }
    let mut json = object.json().clone();
    json_patch::patch(&mut json, &write.patch.0).unwrap();
    let next: u64 = object.resource_version().parse::<u64>().unwrap() + 1;
    json["metadata"]["resourceVersion"] = json!(next.to_string());
    Some(Object::new(json))
}

/// The object without what a server changes by itself.
fn values(object: &Object) -> Json {
    let mut json = object.json().clone();
    json["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    json
}

fn route(weights: &[(&str, Option<i64>)]) -> Object {
    let refs: Vec<Json> = weights
        .iter()
        .map(|(name, weight)| weight.map_or_else(|| json!({"name": name}), |weight| json!({"name": name, "weight": weight})))
        .collect();
    Object::new(
        json!({"metadata": {"name": "web", "uid": "u1", "resourceVersion": "7"}, "spec": {"rules": [{"backendRefs": refs}]}}),
    )
}

fn weight(name: &str, ordinal: u16) -> Spot {
    let rule = Segment::item(&json!({}), &["name"], 0);
    let reference = Segment::item(&json!({ "name": name }), &["name", "port"], ordinal);
    Spot::fields(&["spec", "rules"])
        .then(rule)
        .then(Segment::Field("backendRefs".into()))
        .then(reference)
        .then(Segment::Field("weight".into()))
}

fn change(name: &str, was: Option<i64>, to: Option<i64>) -> Change {
    let was = was.map(Json::from);
    Change { spot: weight(name, 0), from: was.clone(), was, to: to.map(Json::from) }
}

#[test]
fn undo_gives_back_the_object_to_the_byte() {
    let before = route(&[("a", Some(60)), ("b", None)]);
    let changes = [change("a", Some(60), Some(0)), change("b", None, Some(100))];
    let write = write(&before, &target(), &drill("d"), Term(1), &changes, &[]).unwrap().unwrap();
    let during = apply(&before, &write).unwrap();
    assert_eq!(during.at("/spec/rules/0/backendRefs/0/weight"), Some(&json!(0)));
    assert_eq!(during.label(LABEL), Some("d"));
    assert!(apply(&during, &write).is_none(), "the same write cannot land twice");

    let back = undo(&during, &target(), &drill("d"), Term(1), &changes, &[]).unwrap();
    assert_eq!(back.conflicts, []);
    let undone = apply(&during, &back.write.unwrap()).unwrap();
    assert!(undone.annotation(ANNOTATION).is_some(), "the claim stays for one more write");
    let released = apply(&undone, &release(&undone, &target(), &drill("d")).unwrap().unwrap()).unwrap();
    assert_eq!(values(&released), values(&before));
}

#[test]
fn a_foreign_value_is_a_conflict_and_stays() {
    let before = route(&[("a", Some(60)), ("b", Some(40))]);
    let changes = [change("a", Some(60), Some(0)), change("b", Some(40), Some(100))];
    let write_ = write(&before, &target(), &drill("d"), Term(1), &changes, &[]).unwrap().unwrap();
    let mut json = apply(&before, &write_).unwrap().json().clone();
    json["spec"]["rules"][0]["backendRefs"][1]["weight"] = json!(77);
    let edited = Object::new(json);

    let refused = write(&edited, &target(), &drill("d"), Term(1), &changes, &[]).unwrap_err();
    let Refusal::Foreign(conflicts) = refused else { panic!("{refused}") };
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].found, "77");
    assert_eq!(conflicts[0].spot, "spec.rules[].backendRefs[name=b].weight");

    let back = undo(&edited, &target(), &drill("d"), Term(1), &changes, &[]).unwrap();
    assert_eq!(back.conflicts, conflicts);
    let undone = apply(&edited, &back.write.unwrap()).unwrap();
    assert_eq!(undone.at("/spec/rules/0/backendRefs/0/weight"), Some(&json!(60)));
    assert_eq!(undone.at("/spec/rules/0/backendRefs/1/weight"), Some(&json!(77)));
    let released = apply(&undone, &release(&undone, &target(), &drill("d")).unwrap().unwrap()).unwrap();
    assert_eq!(released.at("/metadata/annotations"), None);
}

#[test]
fn a_claim_that_vanished_is_written_anew_from_the_baseline() {
    let before = route(&[("a", Some(60))]);
    let first = [change("a", Some(60), Some(30))];
    let write_ = write(&before, &target(), &drill("d"), Term(1), &first, &[]).unwrap().unwrap();
    let during = apply(&before, &write_).unwrap();
    let stripped = apply(&during, &strip(&during, &target()).unwrap().unwrap()).unwrap();
    let second = [Change { from: Some(json!(30)), to: Some(json!(0)), ..change("a", Some(60), None) }];
    let anew = write(&stripped, &target(), &drill("d"), Term(1), &second, &[]).unwrap().unwrap();
    let Read::Claim(claim) = read(&apply(&stripped, &anew).unwrap(), &target()) else { panic!() };
    assert_eq!(claim.undo[0].was, Some(json!(60)));
}

#[test]
fn a_claim_on_another_object_or_another_uid_does_not_speak() {
    let before = route(&[("a", Some(60))]);
    let write_ = write(&before, &target(), &drill("d"), Term(1), &[change("a", Some(60), Some(0))], &[]).unwrap().unwrap();
    let during = apply(&before, &write_).unwrap();
    let elsewhere = Target { name: "copy".into(), ..target() };
    assert!(matches!(read(&during, &elsewhere), Read::Copied(_)));
    let mut json = during.json().clone();
    json["metadata"]["uid"] = json!("u2");
    assert!(matches!(read(&Object::new(json.clone()), &target()), Read::Copied(_)));
    for forged in ["", "{}", "[1]", &"x".repeat(LIMIT + 1), r#"{"format":1}"#] {
        json["metadata"]["annotations"][ANNOTATION] = json!(forged);
        assert!(matches!(read(&Object::new(json.clone()), &target()), Read::Broken(_)), "{forged:.20}");
    }
    // Another version's may speak, but not to this one: it is neither removed nor written over.
    json["metadata"]["annotations"][ANNOTATION] = json!(r#"{"format":2}"#);
    let newer = Object::new(json);
    assert_eq!(read(&newer, &target()), Read::Format(2));
    let refused = write(&newer, &target(), &drill("d"), Term(1), &[change("a", Some(60), Some(0))], &[]);
    assert_eq!(refused, Err(Refusal::Format(2)));
}

#[test]
fn a_value_that_somebody_puts_back_beside_our_claim_is_theirs() {
    let before = route(&[("a", Some(60))]);
    let first = [change("a", Some(60), Some(30))];
    let during = apply(&before, &write(&before, &target(), &drill("d"), Term(1), &first, &[]).unwrap().unwrap()).unwrap();
    let mut json = during.json().clone();
    json["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(60);
    let healed = Object::new(json);
    let refused = write(&healed, &target(), &drill("d"), Term(1), &first, &[]);
    assert!(matches!(refused, Err(Refusal::Foreign(conflicts)) if conflicts[0].found == "60"), "a fight with whoever heals it");
    let outcome = undo(&healed, &target(), &drill("d"), Term(1), &first, &[]).unwrap();
    assert!(outcome.conflicts.is_empty(), "back is where it shall be");
}

#[test]
fn a_stamp_that_comes_first_keeps_what_it_takes_from_others() {
    let before = route(&[("a", Some(60))]);
    let taken = [serde_json::from_value(json!({"manager": "gitops", "operation": "Apply"})).unwrap()];
    let stamped = apply(&before, &stamp(&before, &target(), &drill("d"), Term(1), &taken).unwrap()).unwrap();
    let Read::Claim(claim) = read(&stamped, &target()) else { panic!() };
    assert_eq!(claim.taken, taken);
}

#[test]
fn another_drills_claim_is_never_overwritten() {
    let before = route(&[("a", Some(60))]);
    let changes = [change("a", Some(60), Some(0))];
    let write_ = write(&before, &target(), &drill("d"), Term(1), &changes, &[]).unwrap().unwrap();
    let during = apply(&before, &write_).unwrap();
    let refused = |result: Result<(), Refusal>| assert_eq!(result, Err(Refusal::ClaimedByOther(drill("d"))));
    refused(write(&during, &target(), &drill("e"), Term(2), &changes, &[]).map(drop));
    refused(undo(&during, &target(), &drill("e"), Term(2), &changes, &[]).map(drop));
    refused(stamp(&during, &target(), &drill("e"), Term(2), &[]).map(drop));
    refused(release(&during, &target(), &drill("e")).map(drop));
}

#[test]
fn a_claim_that_would_be_too_long_is_refused() {
    let before = route(&[("a", None)]);
    let spot = Spot::fields(&["spec", "note"]);
    let change = Change { spot, was: None, from: None, to: Some("x".repeat(LIMIT).into()) };
    assert!(matches!(write(&before, &target(), &drill("d"), Term(1), &[change], &[]), Err(Refusal::TooLong(_))));
}

#[test]
fn a_stamp_moves_the_version_and_nothing_else() {
    let before = route(&[("a", Some(60))]);
    let late = write(&before, &target(), &drill("d"), Term(1), &[change("a", Some(60), Some(0))], &[]).unwrap().unwrap();
    let stamped = apply(&before, &stamp(&before, &target(), &drill("d"), Term(2), &[]).unwrap()).unwrap();
    assert!(apply(&stamped, &late).is_none(), "the request of the former leader cannot land any more");
    let released = apply(&stamped, &release(&stamped, &target(), &drill("d")).unwrap().unwrap()).unwrap();
    assert_eq!(values(&released), values(&before));
}

/// What may happen to the object between our writes.
#[derive(Clone, Debug)]
enum Hand {
    /// We move all weights to this level.
    Level(i64),
    /// Somebody edits one weight.
    Edit(usize, Option<i64>),
    /// Somebody reorders the list.
    Rotate(usize),
    /// Somebody inserts a backend in front.
    Insert(String),
    /// Somebody removes one.
    Remove(usize),
    /// Somebody's tool drops all annotations.
    DropClaim,
    /// Somebody restores an older copy of the annotation.
    Revive,
    /// We are not sure that our write landed.
    Stamp,
}

fn hands() -> impl Strategy<Value = Vec<Hand>> {
    let hand = prop_oneof![
        4 => (0..100_i64).prop_map(Hand::Level),
        1 => (0..4_usize, proptest::option::of(200..300_i64)).prop_map(|(at, to)| Hand::Edit(at, to)),
        1 => (0..4_usize).prop_map(Hand::Rotate),
        1 => "[w-z]".prop_map(Hand::Insert),
        1 => (0..4_usize).prop_map(Hand::Remove),
        1 => Just(Hand::DropClaim),
        1 => Just(Hand::Revive),
        1 => Just(Hand::Stamp),
    ];
    proptest::collection::vec(hand, 0..12)
}

proptest! {
    #[test]
    fn after_any_sequence_of_hands_undo_is_exact_or_a_named_conflict(
        names in proptest::collection::vec("[a-c]", 1..4),
        weights in proptest::collection::vec(proptest::option::of(0..100_i64), 3),
        annotated in any::<bool>(),
        hands in hands(),
    ) {
        let by = drill("d");
        let mut before = route(&names.iter().map(String::as_str).zip(weights.iter().copied()).collect::<Vec<_>>()).json().clone();
        if annotated {
            before["metadata"]["annotations"] = json!({"mine": "1"});
        }
        let before = Object::new(before);
        // Every backend by name and ordinal among equals, as the dialect names them.
        let ordinal = |at: usize| u16::try_from(names[..at].iter().filter(|name| **name == names[at]).count()).unwrap();
        let changes = |level: Option<i64>, to: i64| -> Vec<Change> {
            (0..names.len()).map(|at| {
                let was = weights[at].map(Json::from);
                let from = level.map_or(was.clone(), |level| Some(json!(level + 1000)));
                Change { spot: weight(&names[at], ordinal(at)), was, from, to: Some(json!(to + 1000)) }
            }).collect()
        };
        let mut now = before.clone();
        let mut level = None;
        let mut old = None;
        let mut touched = false;
        for hand in hands {
            let edit = |json: Json| {
                let next: u64 = now.resource_version().parse::<u64>().unwrap() + 1;
                let mut json = json;
                json["metadata"]["resourceVersion"] = json!(next.to_string());
                Object::new(json)
            };
            let mut json = now.json().clone();
            match hand {
                Hand::Level(to) => {
                    match write(&now, &target(), &by, Term(1), &changes(level, to), &[]) {
                        Ok(Some(write)) => {
                            old = now.annotation(ANNOTATION).map(str::to_owned);
                            now = apply(&now, &write).unwrap();
                            level = Some(to);
                        }
                        Ok(None) => level = Some(to),
                        Err(refusal) => prop_assert!(touched, "{refusal}"),
                    }
                    continue;
                }
                Hand::Stamp => {
                    now = apply(&now, &stamp(&now, &target(), &by, Term(1), &[]).unwrap()).unwrap();
                    continue;
                }
                Hand::DropClaim => {
                    if let Some(map) = json.pointer_mut("/metadata/annotations").and_then(Json::as_object_mut) { map.remove(ANNOTATION); }
                }
                Hand::Revive => if let Some(old) = &old { json["metadata"]["annotations"][ANNOTATION] = json!(old); },
                Hand::Edit(at, to) => {
                    touched = true;
                    if let Some(item) = json["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap().get_mut(at) {
                        match to {
                            Some(to) => item["weight"] = json!(to),
                            None => { item.as_object_mut().unwrap().remove("weight"); }
                        }
                    }
                }
                Hand::Rotate(by) => {
                    // Among equals the order is the identity, so a rotation may be a foreign edit.
                    touched = true;
                    let list = json["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap();
                    let by = by % list.len().max(1);
                    list.rotate_left(by);
                }
                Hand::Insert(name) => json["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap().insert(0, json!({"name": name, "weight": 5})),
                Hand::Remove(at) => {
                    touched = true;
                    let list = json["spec"]["rules"][0]["backendRefs"].as_array_mut().unwrap();
                    if at < list.len() { list.remove(at); }
                }
            }
            now = edit(json);
        }
        let back = undo(&now, &target(), &by, Term(1), &changes(level, 0), &[]).unwrap();
        let restored = back.write.as_ref().map_or_else(|| now.clone(), |write| apply(&now, write).unwrap());
        let restored = release(&restored, &target(), &by).unwrap().map_or_else(|| restored.clone(), |write| apply(&restored, &write).unwrap());
        prop_assert!(restored.annotation(ANNOTATION).is_none());
        prop_assert!(restored.label(LABEL).is_none() || back.write.is_none());
        for (at, name) in names.iter().enumerate() {
            let spot = weight(name, ordinal(at));
            let found = spot.find(restored.json()).ok().map(|found| found.value);
            let named = back.conflicts.iter().any(|conflict| conflict.spot == spot.to_string());
            prop_assert!(named || found == Some(weights[at].map(Json::from)), "{spot}: {found:?}");
            prop_assert!(touched || !named, "a conflict without a foreign hand: {:?}", back.conflicts);
        }
    }
}

#[test]
fn a_value_of_the_level_before_is_somebodys_once_the_claim_says_the_next() {
    // From 60 over 11 to 0; the claim says 0, and somebody sets 11.
    let before = route(&[("a", Some(60))]);
    let last = [Change { from: Some(json!(11)), ..change("a", Some(60), Some(0)) }];
    let write_ = write(&before, &target(), &drill("d"), Term(1), &last, &[]).unwrap().unwrap();
    let mut json = apply(&before, &write_).unwrap().json().clone();
    json["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(11);
    let edited = Object::new(json.clone());
    let refused = write(&edited, &target(), &drill("d"), Term(2), &last, &[]).unwrap_err();
    let Refusal::Foreign(conflicts) = refused else { panic!("{refused}") };
    assert_eq!((conflicts[0].found.as_str(), conflicts[0].ours.as_str()), ("11", "0"));
    // Beside a claim of the level before that, it is what our own last write left.
    let first = [change("a", Some(60), Some(40))];
    let older = apply(&before, &write(&before, &target(), &drill("d"), Term(1), &first, &[]).unwrap().unwrap()).unwrap();
    json["metadata"]["annotations"] = older.json()["metadata"]["annotations"].clone();
    assert!(write(&Object::new(json), &target(), &drill("d"), Term(2), &last, &[]).unwrap().is_some());
}
