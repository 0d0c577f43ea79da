use std::fmt;

/// An amount of a resource, exactly: CPU in cores, memory in bytes, pods in pods; kept in billionths.
///
/// The grammar is that of Kubernetes' `resource.Quantity` (decimal, binary and exponent suffixes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

/// Why a text is no quantity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a quantity")]
pub struct QuantityError(String);

const BILLION: i128 = 1_000_000_000;

impl Quantity {
    /// A whole amount.
    #[must_use]
    pub fn whole(amount: i64) -> Self {
        Self(i128::from(amount) * BILLION)
    }

    /// What is left after taking `other`, not below zero.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// How many times `part` goes into this; `None` when `part` is zero (no limit).
    #[must_use]
    pub fn fits(self, part: Self) -> Option<i64> {
        (part.0 > 0).then(|| i64::try_from(self.0 / part.0).unwrap_or(i64::MAX))
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || QuantityError(text.to_owned());
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let unit: i128 = match suffix {
            "n" => 1,
            "u" => 1_000,
            "m" => 1_000_000,
            "" => BILLION,
            "k" => BILLION * 1_000,
            "M" => BILLION * 1_000_000,
            "G" => BILLION * BILLION,
            "T" => BILLION * BILLION * 1_000,
            "P" => BILLION * BILLION * 1_000_000,
            "E" => BILLION * BILLION * BILLION,
            "Ki" => BILLION << 10,
            "Mi" => BILLION << 20,
            "Gi" => BILLION << 30,
            "Ti" => BILLION << 40,
            "Pi" => BILLION << 50,
            "Ei" => BILLION << 60,
            exponent if exponent.starts_with(['e', 'E']) => {
                let power: u32 = exponent.get(1..).and_then(|p| p.parse().ok()).ok_or_else(wrong)?;
                10_i128.checked_pow(power).and_then(|p| p.checked_mul(BILLION)).ok_or_else(wrong)?
            }
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) || (whole.is_empty() && fraction.is_empty()) {
            return Err(wrong());
        }
        let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
        let scale = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| wrong())?);
        digits.checked_mul(unit).map(|n| Self(n / scale)).ok_or_else(wrong)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % BILLION == 0 { write!(f, "{}", self.0 / BILLION) } else { write!(f, "{}m", self.0 / 1_000_000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        let parse = |text: &str| text.parse::<Quantity>().map(|q| q.0);
        assert_eq!(parse("100m"), Ok(100_000_000));
        assert_eq!(parse("1.5"), Ok(1_500_000_000));
        assert_eq!(parse("128Mi"), Ok((128 << 20) * BILLION));
        assert_eq!(parse("1e3"), Ok(1_000 * BILLION));
        assert_eq!(parse("1Ti"), Ok(BILLION << 40));
        for bad in ["", ".", "abc", "1x", "1.2.3", "99999999999999999999999999999999999Ei"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counting_how_often_a_part_fits_has_no_limit_for_nothing() {
        assert_eq!(Quantity::whole(4).fits("1500m".parse().unwrap()), Some(2));
        assert_eq!(Quantity::whole(4).fits(Quantity::default()), None);
    }
}
