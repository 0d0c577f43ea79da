use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A fencing token: rises by at least one with every hand-over, never falls. What a workload writes with an older one is refused
/// by a storage that knows the newer.
///
/// Source: M. Kleppmann, "How to do distributed locking", 2016.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The highest that is taken for one: a token is read by shells, SQL and JSON parsers, which keep whole numbers up to 2^53
    /// exactly. What is more is no epoch but somebody's mistake, and believing it would end the numbers.
    pub const MOST: u64 = 1 << 53;

    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Reads one as it stands in an annotation or a token: decimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|number| *number <= Self::MOST).map(Self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_whole_number_that_everybody_can_read() {
        assert_eq!(Epoch::parse("7\n"), Some(Epoch(7)));
        for wrong in ["", "-1", "7.5", "seven", "18446744073709551615"] {
            assert_eq!(Epoch::parse(wrong), None, "{wrong}");
        }
        assert!(Epoch(1).next() > Epoch(1));
    }
}
