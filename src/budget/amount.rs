//! Money as whole nano-USD: 1 USD = 10⁹.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::store::MAX_COUNT;

/// Nano-USD in one USD.
const UNIT: i64 = 1_000_000_000;

/// An amount of money in nano-USD. Written and read as decimal USD (`"50.00"`), so that no digit is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NanoUsd(pub i64);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a decimal number.
    #[error("an amount is a decimal number of USD such as \"50.00\"")]
    NotDecimal,
    /// It has digits below one nano-USD, which would be lost.
    #[error("an amount has at most nine digits after the point")]
    TooFine,
    /// Beyond what can be counted.
    #[error("an amount is at most 9007199.254740991 USD")]
    TooLarge,
}

impl FromStr for NanoUsd {
    type Err = AmountError;

    /// Reads `12`, `12.5` or `0.000000001`; no sign, no exponent.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
            return Err(AmountError::NotDecimal);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err(AmountError::TooFine);
        }
        let whole: i64 = whole.parse().map_err(|_| AmountError::TooLarge)?;
        let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        let nanos = whole.checked_mul(UNIT).and_then(|whole| whole.checked_add(nanos));
        nanos.filter(|nanos| *nanos <= MAX_COUNT).map(Self).ok_or(AmountError::TooLarge)
    }
}

impl fmt::Display for NanoUsd {
    /// The shortest form with at least two digits after the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let fraction = format!("{:09}", nanos % UNIT.unsigned_abs());
        let kept = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{}.{}", nanos / UNIT.unsigned_abs(), &fraction[..kept])
    }
}

struct Decimal;

impl Visitor<'_> for Decimal {
    type Value = NanoUsd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount in USD such as \"50.00\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<NanoUsd, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, whole: u64) -> Result<NanoUsd, E> {
        whole.to_string().parse().map_err(E::custom)
    }

    /// An amount written without quotes. The YAML parser has already converted it to binary; its shortest decimal form is what was
    /// written, for every amount that people write.
    fn visit_f64<E: Error>(self, number: f64) -> Result<NanoUsd, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for NanoUsd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Decimal)
    }
}

impl Serialize for NanoUsd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for NanoUsd {
    fn schema_name() -> Cow<'static, str> {
        "NanoUsd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount in USD, at most nine digits after the point: \"50.00\".",
            "oneOf": [{ "type": "string", "pattern": "^[0-9]{1,10}([.][0-9]{1,9})?$" }, { "type": "number", "minimum": 0 }]
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_products_conversions() {
        for (text, nanos) in [("1.00", 1_000_000_000), ("0.01", 10_000_000), ("50.00", 50_000_000_000), ("0.000000001", 1), ("7", 7 * UNIT)]
        {
            assert_eq!(text.parse(), Ok(NanoUsd(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount() {
        for text in ["", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", "0x1", " 1"] {
            assert_eq!(text.parse::<NanoUsd>(), Err(AmountError::NotDecimal), "{text:?}");
        }
        assert_eq!("0.0000000001".parse::<NanoUsd>(), Err(AmountError::TooFine));
        assert_eq!("9007199.254740991".parse(), Ok(NanoUsd(MAX_COUNT)));
        assert_eq!("9007199.254740992".parse::<NanoUsd>(), Err(AmountError::TooLarge));
        assert_eq!("99999999999999999999".parse::<NanoUsd>(), Err(AmountError::TooLarge));
    }

    #[test]
    fn amounts_in_yaml() {
        for (yaml, nanos) in [("\"50.00\"", 50 * UNIT), ("50", 50 * UNIT), ("0.1", UNIT / 10), ("12.345678901", 12_345_678_901)] {
            assert_eq!(serde_yaml::from_str::<NanoUsd>(yaml).unwrap(), NanoUsd(nanos), "{yaml}");
        }
    }

    #[test]
    fn money_is_written_exactly() {
        let written = [0, 1, 1_500_000_000, -20_000_000].map(|nanos| NanoUsd(nanos).to_string());
        assert_eq!(written, ["0.00", "0.000000001", "1.50", "-0.02"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in 0..=MAX_COUNT) {
            prop_assert_eq!(NanoUsd(nanos).to_string().parse(), Ok(NanoUsd(nanos)));
        }
    }
}
