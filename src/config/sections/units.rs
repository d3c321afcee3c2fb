//! Values written with a unit: `200ms`, `16MiB`, `2027-01-31T12:00:00Z`.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time with its unit: `200ms`, `30s`, `5m`, `24h`, `7d`, or several as in `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Whole seconds.
    pub const fn seconds(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }

    /// Parses the written form; `None` without a unit, with an unknown unit, or beyond 10 years.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let amount: u64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = match &rest[..letters] {
                "us" => Duration::from_micros(1),
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_secs(60),
                "h" => Duration::from_secs(3600),
                "d" => Duration::from_secs(86_400),
                _ => return None,
            };
            rest = &rest[letters..];
            total = total.checked_add(unit.checked_mul(u32::try_from(amount).ok()?)?)?;
        }
        (!text.is_empty() && total <= Duration::from_secs(3650 * 86_400)).then_some(Self(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let units = [(86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1000, "ms")];
        // Writes a value such as 60s as people do: in minutes only from 5 on, in days only from 3 on.
        let found = units.iter().find(|(size, unit)| {
            let least = match *unit {
                "d" => 3,
                "m" => 5,
                _ => 1,
            };
            micros.is_multiple_of(*size) && micros / size >= least
        });
        match found {
            _ if micros == 0 => f.write_str("0s"),
            Some((size, unit)) => write!(f, "{}{unit}", micros / size),
            None => write!(f, "{micros}us"),
        }
    }
}

/// A number of bytes with its unit: `512B`, `64KiB`, `16MiB`, `1GiB`, `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Whole mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Parses the written form; `None` without a unit, with an unknown unit, or beyond 2⁶⁴.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let amount: u64 = text[..digits].parse().ok()?;
        let unit = match text[digits..].trim_start() {
            "B" => 1,
            // Zero needs no unit.
            "" if amount == 0 => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        amount.checked_mul(unit).map(Self)
    }

    /// The size as a `usize`, saturating.
    pub fn as_len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// An instant in RFC 3339 form, or a date (its first second, UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instant {
    /// The text as written.
    pub text: String,
    /// The moment that it denotes.
    pub at: SystemTime,
}

impl Instant {
    /// Parses `2027-01-31`, `2027-01-31T12:00:00Z` or `2027-01-31T12:00:00.5+02:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |s: &str| -> Option<i64> { s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse().ok())? };
        let date = text.get(..10)?;
        let mut parts = date.split('-');
        let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
        if date.len() != 10 || date.as_bytes()[4] != b'-' || date.as_bytes()[7] != b'-' || !(1970..=9999).contains(&year) {
            return None;
        }
        if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
            return None;
        }
        let mut seconds = days_since_epoch(year, month, day) * 86_400;
        let time = &text[10..];
        if !time.is_empty() {
            if !time.starts_with(['T', 't', ' ']) || time.get(3..4)? != ":" || time.get(6..7)? != ":" {
                return None;
            }
            let (hour, minute, second) = (number(time.get(1..3)?)?, number(time.get(4..6)?)?, number(time.get(7..9)?)?);
            if hour > 23 || minute > 59 || second > 60 {
                return None;
            }
            let zone = time[9..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
            let offset = match zone.as_bytes() {
                [b'Z' | b'z'] => 0,
                [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                    let minutes = number(&zone[1..3])? * 60 + number(&zone[4..6])?;
                    if *sign == b'+' { minutes } else { -minutes }
                }
                _ => return None,
            };
            seconds += hour * 3600 + minute * 60 + second - offset * 60;
        }
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))?;
        Some(Self { text: text.to_owned(), at })
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Deserialises a value from its text; an integer is accepted as its decimal form.
struct Written<T> {
    parse: fn(&str) -> Option<T>,
    expected: &'static str,
}

impl<T> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.expected)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! written {
    ($type:ty, $name:literal, $expected:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Written { parse: <$type>::parse, expected: $expected })
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "integer"], "pattern": $pattern, "description": $expected })
            }
        }
    };
}

written!(Span, "Duration", "a duration with its unit, such as 200ms, 30s, 5m or 24h", r"^([0-9]+(us|ms|s|m|h|d))+$");
written!(Size, "Size", "a size with its unit, such as 512B, 64KiB or 16MiB", r"^([0-9]+ ?(B|kB|KB|MB|GB|KiB|MiB|GiB)|0)$");
written!(Instant, "Instant", "an instant such as 2027-01-31 or 2027-01-31T12:00:00Z", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}");

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_keep_their_unit() {
        for text in ["200ms", "30s", "60s", "5m", "24h", "7d", "0s", "250us"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Span::parse("1h30m").unwrap().0, Duration::from_secs(5400));
        for wrong in ["", "30", "s", "30 s", "-1s", "1.5s", "30sec", "99999999d"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
        for text in ["16MiB", "64KiB", "1GiB", "100B"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Size::parse("10MB"), Some(Size(10_000_000)));
        for wrong in ["16M", "99999999999GiB", "16", ""] {
            assert_eq!(Size::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instants_are_read_in_any_zone() {
        let at = |text: &str| Instant::parse(text).map(|i| i.at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(at("2027-01-31"), Some(1_801_353_600));
        assert_eq!(at("2027-01-31T12:00:00Z"), Some(1_801_396_800));
        assert_eq!(at("2027-01-31T12:00:00.250+02:00"), Some(1_801_389_600));
        assert_eq!(at("2000-02-29"), Some(951_782_400));
        for wrong in ["2027-02-29", "2027-13-01", "2027-01-31T12:00", "2027-01-31T12:00:00", "soon", "1969-01-01", "2027-01-3é"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
