//! The one format in which times are written: RFC 3339, UTC, microseconds.

use std::cell::Cell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A time as `2026-01-31T23:59:59.123456Z`. Times before 1970 are shown as 1970; years have four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339(pub SystemTime);

thread_local! {
    /// The last second formatted, and its text: every request formats times for log lines and records, mostly within the
    /// same second as the previous one.
    static SECOND: Cell<(u64, [u8; 27])> = const { Cell::new((0, *b"1970-01-01T00:00:00.000000Z")) };
}

impl Rfc3339 {
    /// The 27 characters of the text.
    pub fn digits(self) -> [u8; 27] {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (known, mut text) = SECOND.get();
        if known != since.as_secs() {
            text = whole_second(since.as_secs());
            SECOND.set((since.as_secs(), text));
        }
        let micros = u64::from(since.subsec_micros());
        put(&mut text, [(20, micros / 10_000), (22, micros / 100), (24, micros)]);
        text
    }
}

/// The text of the beginning of a second, counted from 1970.
#[cold]
fn whole_second(seconds: u64) -> [u8; 27] {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put(&mut text, [(0, year / 100), (2, year), (5, month), (8, day), (11, hour), (14, minute), (17, second)]);
    text
}

/// Writes the last two decimal digits of numbers at positions in the text.
fn put<const N: usize>(text: &mut [u8; 27], pairs: [(usize, u64); N]) {
    for (at, number) in pairs {
        let number = (number % 100) as u8;
        text[at] = b'0' + number / 10;
        text[at + 1] = b'0' + number % 10;
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

/// Year, month and day of a number of days since 1970, by Hinnant's algorithm: years begin in March, so that the leap day
/// is the last of its year, and 400 years always have 146 097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_moments() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_000_000, "2000-02-28T23:59:59.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (951_868_800_000_001, "2000-03-01T00:00:00.000001Z"),
            (1_798_761_599_999_999, "2026-12-31T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ];
        // Run twice, so that each is formatted after a time in another second.
        for (micros, text) in cases.into_iter().chain(cases) {
            assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_micros(micros)).to_string(), text);
        }
        assert_eq!(Rfc3339(UNIX_EPOCH - Duration::from_secs(1)).to_string(), "1970-01-01T00:00:00.000000Z");
    }
}
