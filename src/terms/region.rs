use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a region: a DNS label, as Kubernetes object names of cluster-scoped kinds are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionName(String);

/// Why a string is not a region's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a region name: use 1 to 63 lower-case letters, digits and `-`, starting and ending with a letter or digit")]
pub struct RegionNameError(String);

impl RegionName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RegionName {
    type Error = RegionNameError;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let valid = bytes.len() <= 63
            && bytes.iter().all(|&b| letter(b) || b == b'-')
            && bytes.first().copied().is_some_and(letter)
            && bytes.last().copied().is_some_and(letter);
        if valid { Ok(Self(name)) } else { Err(RegionNameError(name)) }
    }
}

impl TryFrom<&str> for RegionName {
    type Error = RegionNameError;
    fn try_from(name: &str) -> Result<Self, Self::Error> {
        name.to_owned().try_into()
    }
}

impl From<RegionName> for String {
    fn from(name: RegionName) -> Self {
        name.0
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_name_is_a_dns_label() {
        for good in ["eu-west", "a", "1", "ap-south-1"] {
            assert_eq!(RegionName::try_from(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "EU", "a.b", "a b", &"x".repeat(64)] {
            assert!(RegionName::try_from(bad).is_err(), "{bad}");
        }
    }
}
