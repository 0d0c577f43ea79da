//! The words all else is built from; a wrong one cannot be built.

/// Fencing tokens.
mod epoch;
/// A Kubernetes object as it was read.
mod object;
/// Amounts of CPU, memory and pods.
mod quantity;
/// Names of regions.
mod region;
/// Places inside an object.
mod spot;
/// Objects, named completely.
mod target;

pub use epoch::Epoch;
pub use object::Object;
pub use quantity::{Quantity, QuantityError};
pub use region::{RegionName, RegionNameError};
pub use spot::{Found, Like, Segment, Spot, SpotGone};
pub use target::{ClusterUid, Kind, Owner, Target, Term, Version};

/// A moment: wall-clock time in UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// The JSON values that objects are made of.
pub type Json = serde_json::Value;

/// SHA-256 over the canonical JSON of `value` (keys sorted, no white space), as lower-case hex.
///
/// Canonical because `serde_json` keeps maps sorted when its `preserve_order` is off, which the golden test guards.
#[must_use]
pub fn digest(value: &Json) -> String {
    ring::digest::digest(&ring::digest::SHA256, value.to_string().as_bytes())
        .as_ref()
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_keys() {
        let one: Json = serde_json::from_str(r#"{"b":1,"a":{"d":2,"c":3}}"#).unwrap();
        let two: Json = serde_json::from_str(r#"{"a":{"c":3,"d":2},"b":1}"#).unwrap();
        assert_eq!(digest(&one), digest(&two));
        // Golden: contracts outlive versions, so this hash may never change.
        assert_eq!(digest(&one), "78d48859c3252943aab7306f76c80f3f07783582e05ab8f944ce0696f2dbfc67");
    }
}
