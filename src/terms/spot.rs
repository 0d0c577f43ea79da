use super::{Json, digest};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

/// A place inside an object. A list item is found by what it contains, never by index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spot(pub Vec<Segment>);

/// One step of the way to a spot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segment {
    /// A member of an object.
    Field(String),
    /// The `ordinal`-th (from 0) of the list items whose members are all `like` this.
    Item {
        /// What identifies the item.
        like: BTreeMap<String, Like>,
        /// Which among equals.
        #[serde(default, skip_serializing_if = "is_first")]
        ordinal: u16,
    },
}

/// What one member of a list item must be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Like {
    /// This text or number, written as JSON.
    Is(String),
    /// Not there.
    Absent,
    /// Anything whose canonical JSON has this SHA-256: for members too long to repeat.
    Digest(String),
}

/// A spot in one state of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// JSON pointer to the value, or to where it would be put.
    pub pointer: String,
    /// The value; absent is `None`.
    pub value: Option<Json>,
    /// How many containers around the absent value are absent too.
    pub missing: usize,
}

/// The way to a spot ends: an item that contains what was named is no longer there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{0} is not there any more")]
pub struct SpotGone(pub String);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_first(ordinal: &u16) -> bool {
    *ordinal == 0
}

impl Like {
    /// Matches exactly `value`.
    #[must_use]
    pub fn of(value: Option<&Json>) -> Self {
        value.map_or(Self::Absent, |value| {
            let text = value.to_string();
            // 64 characters hold every name; longer members (a rule's matches) would fill the claim.
            if text.len() <= 64 { Self::Is(text) } else { Self::Digest(digest(value)) }
        })
    }

    fn matches(&self, value: Option<&Json>) -> bool {
        match (self, value) {
            (Self::Absent, None) => true,
            (Self::Is(text), Some(value)) => serde_json::from_str::<Json>(text).is_ok_and(|is| is == *value),
            (Self::Digest(hash), Some(value)) => *hash == digest(value),
            (Self::Absent, Some(_)) | (Self::Is(_) | Self::Digest(_), None) => false,
        }
    }
}

impl Segment {
    /// The list item whose `keys` are as in `item`, the `ordinal`-th of them.
    #[must_use]
    pub fn item(item: &Json, keys: &[&str], ordinal: u16) -> Self {
        let like = keys.iter().map(|&key| (key.to_owned(), Like::of(item.get(key)))).collect();
        Self::Item { like, ordinal }
    }
}

impl Spot {
    /// A spot reached by members only: `Spot::fields(&["spec", "replicas"])`.
    #[must_use]
    pub fn fields(names: &[&str]) -> Self {
        Self(names.iter().map(|&name| Segment::Field(name.to_owned())).collect())
    }

    /// This spot, one segment further.
    #[must_use]
    pub fn then(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// Finds the spot in one state of an object.
    ///
    /// # Errors
    /// [`SpotGone`] if an item on the way (not the last segment) is not there, or a member on the way is no container.
    pub fn find(&self, root: &Json) -> Result<Found, SpotGone> {
        let mut found = Found { pointer: String::new(), value: Some(root.clone()), missing: 0 };
        let mut here = Some(root);
        for (index, segment) in self.0.iter().enumerate() {
            let last = index + 1 == self.0.len();
            match (segment, here) {
                (Segment::Field(name), Some(Json::Object(map))) => {
                    here = map.get(name);
                    found.pointer = format!("{}/{}", found.pointer, escape(name));
                }
                (Segment::Field(name), None) => {
                    found.missing += 1;
                    found.pointer = format!("{}/{}", found.pointer, escape(name));
                }
                (Segment::Item { like, ordinal }, Some(Json::Array(items))) => {
                    let fits = |item: &Json| like.iter().all(|(key, like)| like.matches(item.get(key)));
                    match items.iter().enumerate().filter(|(_, item)| fits(item)).nth(usize::from(*ordinal)) {
                        Some((position, item)) => {
                            here = Some(item);
                            found.pointer = format!("{}/{position}", found.pointer);
                        }
                        None if last => {
                            here = None;
                            found.pointer = format!("{}/-", found.pointer);
                        }
                        None => return Err(SpotGone(self.to_string())),
                    }
                }
                (Segment::Item { .. }, None) if last => {
                    found.missing += 1;
                    found.pointer = format!("{}/-", found.pointer);
                }
                (Segment::Field(_) | Segment::Item { .. }, _) => return Err(SpotGone(self.to_string())),
            }
        }
        found.value = here.cloned();
        Ok(found)
    }

    /// `value` wrapped in the last `missing` containers of the way: what to add when they are absent.
    #[must_use]
    pub fn wrap(&self, missing: usize, value: Json) -> Json {
        self.0.iter().rev().take(missing).fold(value, |inner, segment| match segment {
            Segment::Field(name) => json!({ name.as_str(): inner }),
            Segment::Item { .. } => json!([inner]),
        })
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if index == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Item { like, ordinal } => {
                    let names: Vec<String> = like
                        .iter()
                        .filter_map(|(key, like)| match like {
                            Like::Is(text) => Some(format!("{key}={}", text.trim_matches('"'))),
                            Like::Digest(hash) => Some(format!("{key}=sha256:{}", hash.get(..8).unwrap_or(hash))),
                            Like::Absent => None,
                        })
                        .collect();
                    write!(f, "[{}]", names.join(","))?;
                    if *ordinal > 0 {
                        write!(f, "#{ordinal}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight_of(name: &str) -> Spot {
        let item = json!({ "name": name });
        Spot(vec![Segment::Field("refs".into()), Segment::item(&item, &["name"], 0), Segment::Field("weight".into())])
    }

    #[test]
    fn an_item_is_found_by_what_it_contains_wherever_it_stands() {
        let spot = weight_of("b");
        let one = json!({"refs": [{"name": "a"}, {"name": "b", "weight": 3}]});
        let two = json!({"refs": [{"name": "b", "weight": 3}, {"name": "a"}]});
        assert_eq!(spot.find(&one).unwrap().pointer, "/refs/1/weight");
        assert_eq!(spot.find(&two).unwrap().pointer, "/refs/0/weight");
        assert_eq!(spot.find(&json!({"refs": []})), Err(SpotGone("refs[name=b].weight".into())));
    }

    #[test]
    fn an_absent_member_is_a_place_with_its_missing_containers() {
        let spot = Spot::fields(&["metadata", "annotations", "x/y"]);
        let found = spot.find(&json!({"metadata": {}})).unwrap();
        assert_eq!((found.pointer.as_str(), found.missing), ("/metadata/annotations/x~1y", 1));
        assert_eq!(spot.wrap(1, json!(1)), json!({"x/y": 1}));
    }
}
