//! When the windows of a budget or quota begin and end.
//!
//! With a start, windows are anchored at its clock time in the schedule's time zone: a month that began on 18 May 02:41 ends
//! on 18 June 02:41. In a month that lacks the anchor's day, a window ends on that month's last day, and the next one ends on
//! the anchor's day again. Without a start, windows follow the calendar: days from midnight, weeks from Monday, quarters from
//! January. Local times that a clock change skips or repeats are resolved as in RFC 5545: a skipped time moves on by the
//! gap, and of a repeated time the first one counts.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Unit, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Period {
    /// A day.
    #[serde(alias = "daily")]
    Daily,
    /// Seven days.
    #[serde(alias = "weekly")]
    Weekly,
    /// A month.
    #[serde(alias = "monthly")]
    Monthly,
    /// Three months.
    #[serde(alias = "quarterly")]
    Quarterly,
}

impl Period {
    /// The spelling in configuration and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "DAILY",
            Self::Weekly => "WEEKLY",
            Self::Monthly => "MONTHLY",
            Self::Quarterly => "QUARTERLY",
        }
    }

    /// Days of its longest window, with an hour that a clock change adds.
    pub const fn longest_days(self) -> u64 {
        match self {
            Self::Daily => 2,
            Self::Weekly => 8,
            Self::Monthly => 32,
            Self::Quarterly => 93,
        }
    }

    fn times(self, n: i64) -> Span {
        match self {
            Self::Daily => n.days(),
            Self::Weekly => n.weeks(),
            Self::Monthly => n.months(),
            Self::Quarterly => n.saturating_mul(3).months(),
        }
    }

    /// The number of whole periods between two local times, which may be off by one.
    fn between(self, from: DateTime, to: DateTime) -> i64 {
        let unit = if matches!(self, Self::Daily | Self::Weekly) { Unit::Day } else { Unit::Month };
        let Ok(span) = from.until((unit, to)) else { return 0 };
        match self {
            Self::Daily => i64::from(span.get_days()),
            Self::Weekly => i64::from(span.get_days()).div_euclid(7),
            Self::Monthly => i64::from(span.get_months()),
            Self::Quarterly => i64::from(span.get_months()).div_euclid(3),
        }
    }

    /// The start of the calendar window that contains this day.
    fn calendar(self, day: Date) -> Date {
        match self {
            Self::Daily => day,
            Self::Weekly => day.nth_weekday(-1, Weekday::Monday).ok().filter(|_| day.weekday() != Weekday::Monday).unwrap_or(day),
            Self::Monthly => day.first_of_month(),
            Self::Quarterly => Date::new(day.year(), (day.month() - 1) / 3 * 3 + 1, 1).unwrap_or(day),
        }
    }
}

/// A window: from `start` (inclusive) to `end` (exclusive), in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first moment in the window.
    pub start: i64,
    /// The first moment after the window.
    pub end: i64,
}

impl Window {
    /// Whether a moment lies in the window.
    pub fn contains(&self, micros: i64) -> bool {
        (self.start..self.end).contains(&micros)
    }
}

/// Why a schedule is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The time zone is unknown.
    #[error("`{0}` is no time zone of the IANA database; an example is Europe/Berlin")]
    TimeZone(String),
    /// The end is not after the start.
    #[error("the end lies before the start")]
    Backwards,
}

/// The rule by which windows begin and end.
#[derive(Debug, Clone)]
pub struct Schedule {
    period: Period,
    zone: TimeZone,
    /// The local time at which the first window starts.
    anchor: Option<DateTime>,
    start: Option<i64>,
    end: Option<i64>,
}

impl Schedule {
    /// A schedule in a time zone of the IANA database. `start` anchors the windows, and nothing is counted before it; the last
    /// window ends at `end`. Both are microseconds since the Unix epoch.
    ///
    /// # Errors
    /// The time zone is unknown, or the end is not after the start.
    pub fn new(period: Period, zone: &str, start: Option<i64>, end: Option<i64>) -> Result<Self, ScheduleError> {
        let zone = TimeZone::get(zone).map_err(|_| ScheduleError::TimeZone(zone.to_owned()))?;
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            return Err(ScheduleError::Backwards);
        }
        let anchor = start.and_then(|start| local(&zone, start));
        Ok(Self { period, zone, anchor, start, end })
    }

    /// The length of a window.
    pub fn period(&self) -> Period {
        self.period
    }

    /// The window of a moment; `None` before the start and after the end.
    pub fn window(&self, micros: i64) -> Option<Window> {
        if self.start.is_some_and(|start| micros < start) || self.end.is_some_and(|end| micros >= end) {
            return None;
        }
        let now = local(&self.zone, micros)?;
        let first = self.anchor.unwrap_or_else(|| self.period.calendar(now.date()).to_datetime(jiff::civil::Time::midnight()));
        let nth = self.period.between(first, now);
        // Counting by local time can be off by one around the end of a month and around clock changes.
        let window = (nth - 1..=nth + 1).find_map(|n| {
            let window = Window { start: self.at(first, n)?, end: self.at(first, n + 1)? };
            window.contains(micros).then_some(window)
        })?;
        Some(Window { start: window.start, end: self.end.map_or(window.end, |end| end.min(window.end)) })
    }

    /// The window before one of this schedule's windows; `None` before the first.
    pub fn before(&self, window: Window) -> Option<Window> {
        self.window(window.start - 1)
    }

    /// The start of the nth window after the first, in microseconds since the Unix epoch.
    fn at(&self, first: DateTime, n: i64) -> Option<i64> {
        let zoned: Zoned = first.checked_add(self.period.times(n)).ok()?.to_zoned(self.zone.clone()).ok()?;
        Some(zoned.timestamp().as_microsecond())
    }
}

fn local(zone: &TimeZone, micros: i64) -> Option<DateTime> {
    Timestamp::from_microsecond(micros).ok().map(|at| zone.to_datetime(at))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn text(window: Option<Window>) -> Option<(String, String)> {
        let show = |micros| Timestamp::from_microsecond(micros).unwrap().to_string();
        window.map(|w| (show(w.start), show(w.end)))
    }

    fn is(schedule: &Schedule, now: &str, start: &str, end: &str) {
        assert_eq!(text(schedule.window(at(now))), Some((start.into(), end.into())), "{now}");
    }

    #[test]
    fn a_start_anchors_the_windows_as_the_product_shows_them() {
        let monthly = Schedule::new(Period::Monthly, "UTC", Some(at("2026-05-18T02:41:00Z")), None).unwrap();
        is(&monthly, "2026-05-18T02:41:00Z", "2026-05-18T02:41:00Z", "2026-06-18T02:41:00Z");
        is(&monthly, "2026-06-18T02:40:59.999999Z", "2026-05-18T02:41:00Z", "2026-06-18T02:41:00Z");
        is(&monthly, "2027-06-18T02:41:00Z", "2027-06-18T02:41:00Z", "2027-07-18T02:41:00Z");
        assert_eq!(monthly.window(at("2026-05-18T02:40:59Z")), None, "before the start nothing counts");
    }

    #[test]
    fn the_last_day_of_a_month_is_an_anchor() {
        let monthly = Schedule::new(Period::Monthly, "UTC", Some(at("2026-01-31T10:00:00Z")), None).unwrap();
        is(&monthly, "2026-02-15T00:00:00Z", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z");
        is(&monthly, "2026-03-01T00:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z");
        is(&monthly, "2026-03-31T09:59:59Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z");
        is(&monthly, "2028-02-29T09:00:00Z", "2028-01-31T10:00:00Z", "2028-02-29T10:00:00Z");
    }

    #[test]
    fn without_a_start_the_calendar_decides() {
        let make = |period| Schedule::new(period, "Europe/Berlin", None, None).unwrap();
        is(&make(Period::Daily), "2026-07-01T21:59:59Z", "2026-06-30T22:00:00Z", "2026-07-01T22:00:00Z");
        is(&make(Period::Weekly), "2026-07-05T12:00:00Z", "2026-06-28T22:00:00Z", "2026-07-05T22:00:00Z");
        is(&make(Period::Weekly), "2026-06-29T12:00:00Z", "2026-06-28T22:00:00Z", "2026-07-05T22:00:00Z");
        is(&make(Period::Monthly), "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
        is(&make(Period::Quarterly), "2026-12-31T12:00:00Z", "2026-09-30T22:00:00Z", "2026-12-31T23:00:00Z");
    }

    #[test]
    fn clock_changes_make_a_day_shorter_or_longer() {
        let daily = Schedule::new(Period::Daily, "Europe/Berlin", None, None).unwrap();
        let hours = |now| daily.window(at(now)).map(|w| (w.end - w.start) / 3_600_000_000);
        assert_eq!(hours("2026-03-29T12:00:00Z"), Some(23));
        assert_eq!(hours("2026-10-25T12:00:00Z"), Some(25));
        // 02:30 does not exist on that day: the window begins an hour later, and no moment lies in two windows or none.
        let skipped = Schedule::new(Period::Daily, "Europe/Berlin", Some(at("2026-03-27T01:30:00Z")), None).unwrap();
        is(&skipped, "2026-03-29T12:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z");
    }

    #[test]
    fn an_end_ends_the_last_window() {
        let weekly = Schedule::new(Period::Weekly, "UTC", Some(at("2026-06-01T00:00:00Z")), Some(at("2026-06-10T00:00:00Z"))).unwrap();
        is(&weekly, "2026-06-09T00:00:00Z", "2026-06-08T00:00:00Z", "2026-06-10T00:00:00Z");
        assert_eq!(weekly.window(at("2026-06-10T00:00:00Z")), None);
        assert_eq!(text(weekly.before(weekly.window(at("2026-06-09T00:00:00Z")).unwrap())).unwrap().0, "2026-06-01T00:00:00Z");
        assert_eq!(weekly.before(weekly.window(at("2026-06-02T00:00:00Z")).unwrap()), None);
    }

    #[test]
    fn what_cannot_be() {
        assert_eq!(Schedule::new(Period::Daily, "Mars/Olympus", None, None).err(), Some(ScheduleError::TimeZone("Mars/Olympus".into())));
        assert_eq!(Schedule::new(Period::Daily, "UTC", Some(2), Some(2)).err(), Some(ScheduleError::Backwards));
    }

    fn period() -> impl Strategy<Value = Period> {
        prop_oneof![Just(Period::Daily), Just(Period::Weekly), Just(Period::Monthly), Just(Period::Quarterly)]
    }

    proptest! {
        /// Windows tile time: every moment lies in exactly one, and the next begins where it ends.
        #[test]
        fn windows_follow_one_another(
            period in period(),
            zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/New_York"), Just("Pacific/Apia"), Just("Australia/Lord_Howe")],
            anchored in any::<bool>(),
            start in 1_000_000_000_000_000_i64..2_000_000_000_000_000,
            later in 0_i64..300_000_000_000_000,
        ) {
            let schedule = Schedule::new(period, zone, anchored.then_some(start), None).unwrap();
            let window = schedule.window(start + later).unwrap();
            prop_assert!(window.contains(start + later));
            prop_assert_eq!(schedule.window(window.start), Some(window));
            prop_assert_eq!(schedule.window(window.end - 1), Some(window));
            prop_assert_eq!(schedule.window(window.end).unwrap().start, window.end);
        }
    }
}
