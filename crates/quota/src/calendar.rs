//! Calendar windows: when a minute, a day or a month begins and ends in a named time zone. Pure: the zone database is part of
//! the program, one for each release, so it is the same wherever this runs; only the quota leader asks, and the log has the
//! answer.

use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use tidegate_model::Millis;

use crate::guard;

/// A recurring stretch of the calendar. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Period {
    Minute,
    Hour,
    Day,
    /// From Monday on.
    Week,
    Month,
    Year,
    /// One window that never ends.
    Total,
}

/// A window of the calendar, in UTC: `start` belongs to it, `end` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub start: Millis,
    pub end: Millis,
}

impl Span {
    /// A window is a number in the log: the minute it begins in, so that numbers grow.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.start.0 / 60_000
    }
}

impl Period {
    /// Of a usual one; a month's is the shortest.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 28 * 86_400,
            Self::Year => 365 * 86_400,
            Self::Total => 100 * 365 * 86_400,
        }
    }
}

/// Wall clocks agree that are no further apart.
pub const APART: Millis = Millis(1_000);

/// By how many milliseconds a clock is ahead of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    pub least: i64,
    pub most: i64,
}

impl Ahead {
    /// Of itself.
    pub const NOT: Self = Self { least: 0, most: 0 };

    /// Of one that said `told`, whenever between question and answer it was looked at.
    #[must_use]
    pub fn of(told: Millis, asked: Millis, answered: Millis) -> Self {
        let ahead = |of: Millis| of.0.cast_signed().saturating_sub(told.0.cast_signed());
        Self { least: ahead(asked), most: ahead(answered) }
    }

    /// Do they agree, once the clock was put back by `wrong`? An answer that took longer than clocks may be apart says nothing.
    fn agrees(self, wrong: i64) -> bool {
        let apart = APART.0.cast_signed();
        wrong.saturating_sub(apart) <= self.least && self.most <= wrong.saturating_add(apart)
    }
}

/// By how many milliseconds a leader's clock is ahead of a majority of the voters whose clocks agree: 0 if it is one of them,
/// otherwise by the slowest of them. `None`: there is no such majority, and no window opens. `ahead`: of those that answered,
/// itself included if it is a voter.
#[must_use]
pub fn ahead_of_majority(ahead: &[Ahead], voters: usize) -> Option<i64> {
    let agree = |wrong: i64| ahead.iter().filter(|ahead| ahead.agrees(wrong)).count() > voters / 2;
    if agree(0) || !guard!("windows-open-by-agreement") {
        return Some(0);
    }
    ahead.iter().map(|ahead| ahead.most).filter(|wrong| agree(*wrong)).max()
}

/// The time that a majority agrees on. `asked` and `now` were read before and after the others were asked: a clock that is set
/// meanwhile opens nothing early.
#[must_use]
pub fn agreed(asked: Millis, now: Millis, wrong: i64) -> Millis {
    Millis(asked.min(now).0.saturating_sub_signed(wrong))
}

/// Is this the name of a time zone?
#[must_use]
pub fn is_zone(name: &str) -> bool {
    zone(name).is_some()
}

/// The window of `period` in `name` that `at` lies in. `None`: there is no such zone, or the calendar ends.
#[must_use]
pub fn window(period: Period, name: &str, at: Millis) -> Option<Span> {
    if period == Period::Total {
        return Some(Span { start: Millis(60_000), end: Millis(u64::MAX) });
    }
    let now = Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    let zone = zone(name)?;
    let local = now.to_zoned(zone.clone());
    let whole_days = |first: Date, next: Date| Some((begins(first, &zone)?, begins(next, &zone)?));
    let today = local.date();
    let (start, end) = match period {
        Period::Minute => shorter_than_a_day(now, local.offset().seconds(), 60)?,
        Period::Hour => shorter_than_a_day(now, local.offset().seconds(), 3_600)?,
        Period::Day => whole_days(today, today.tomorrow().ok()?)?,
        Period::Week => {
            let monday = today.checked_sub(i64::from(today.weekday().since(Weekday::Monday)).days()).ok()?;
            whole_days(monday, monday.checked_add(7.days()).ok()?)?
        }
        Period::Month => {
            let first = today.first_of_month();
            whole_days(first, first.checked_add(1.month()).ok()?)?
        }
        Period::Year => {
            let first = today.first_of_year();
            whole_days(first, first.checked_add(1.year()).ok()?)?
        }
        Period::Total => return None,
    };
    Some(Span { start, end })
}

/// The first moment of a day: not always midnight, where clocks are put forward at midnight.
fn begins(day: Date, zone: &TimeZone) -> Option<Millis> {
    let first = day.to_zoned(zone.clone()).ok()?.timestamp();
    Some(Millis(u64::try_from(first.as_millisecond()).ok()?))
}

/// Minutes and hours as the clock on the wall shows them, also where it is half an hour off.
fn shorter_than_a_day(now: Timestamp, offset: i32, seconds: i64) -> Option<(Millis, Millis)> {
    let into = (now.as_second() + i64::from(offset)).rem_euclid(seconds);
    let start = now.as_second() - into;
    let millis = |second: i64| Some(Millis(u64::try_from(second * 1_000).ok()?));
    Some((millis(start)?, millis(start + seconds)?))
}

fn zone(name: &str) -> Option<TimeZone> {
    static DATABASE: std::sync::LazyLock<TimeZoneDatabase> = std::sync::LazyLock::new(TimeZoneDatabase::bundled);
    DATABASE.get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Millis {
        let moment: Timestamp = text.parse().expect("a moment");
        Millis(u64::try_from(moment.as_millisecond()).expect("after 1970"))
    }

    fn check(period: Period, zone: &str, moment: &str, start: &str, end: &str) {
        let span = Span { start: at(start), end: at(end) };
        assert_eq!(window(period, zone, at(moment)), Some(span), "{period:?} of {moment} in {zone}");
        assert_eq!(window(period, zone, span.start), Some(span), "its first moment");
        assert_eq!(window(period, zone, Millis(span.end.0 - 1)), Some(span), "its last moment");
        let next = window(period, zone, span.end).expect("goes on");
        assert_eq!(next.start, span.end, "no gap after {end}");
        assert!(next.number() > span.number());
    }

    #[test]
    fn days_are_as_long_as_they_are() {
        let berlin = "Europe/Berlin";
        check(Period::Day, berlin, "2026-01-15T12:00:00Z", "2026-01-14T23:00:00Z", "2026-01-15T23:00:00Z");
        check(Period::Day, berlin, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"); // 23 h
        check(Period::Day, berlin, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"); // 25 h
        // Clocks are put forward by half an hour.
        check(
            Period::Day,
            "Australia/Lord_Howe",
            "2026-10-04T00:00:00Z",
            "2026-10-03T13:30:00Z",
            "2026-10-04T13:00:00Z",
        );
    }

    #[test]
    fn a_day_without_a_midnight_begins_when_it_begins() {
        // 2025-09-07 in Santiago: 00:00 is put forward to 01:00.
        check(Period::Day, "America/Santiago", "2025-09-07T12:00:00Z", "2025-09-07T04:00:00Z", "2025-09-08T03:00:00Z");
        // Samoa went without the 30th of December 2011.
        check(Period::Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
        check(Period::Month, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-01T10:00:00Z", "2011-12-31T10:00:00Z");
    }

    #[test]
    fn hours_and_minutes_follow_the_clock_on_the_wall() {
        check(Period::Hour, "Asia/Kolkata", "2026-01-15T12:00:00Z", "2026-01-15T11:30:00Z", "2026-01-15T12:30:00Z");
        check(Period::Hour, "Asia/Kathmandu", "2026-01-15T12:00:00Z", "2026-01-15T11:15:00Z", "2026-01-15T12:15:00Z");
        check(Period::Minute, "Asia/Kathmandu", "2026-01-15T12:00:30Z", "2026-01-15T12:00:00Z", "2026-01-15T12:01:00Z");
        // The hour from 02:00 to 03:00 comes twice, and each is a window.
        check(Period::Hour, "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z");
        check(Period::Hour, "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z");
    }

    #[test]
    fn weeks_begin_on_monday_and_months_and_years_on_the_first() {
        check(Period::Week, "UTC", "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z");
        check(Period::Month, "UTC", "2028-02-29T05:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
        check(Period::Month, "Europe/Berlin", "2026-03-15T05:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
        check(Period::Year, "Asia/Tokyo", "2026-03-15T05:00:00Z", "2025-12-31T15:00:00Z", "2026-12-31T15:00:00Z");
    }

    #[test]
    fn a_clock_agrees_that_is_within_a_second_whenever_it_was_looked_at() {
        let agreed = |told| Ahead::of(Millis(told), Millis(10_000), Millis(10_400)).agrees(0);
        assert!(agreed(9_400) && agreed(11_000), "as far apart as they may be");
        assert!(!agreed(9_399) && !agreed(11_001));
        assert!(!Ahead::of(Millis(11_000), Millis(10_000), Millis(12_001)).agrees(0), "too long ago to say");
    }

    #[test]
    fn a_clock_that_runs_wild_goes_by_those_that_agree() {
        const HOUR: i64 = 3_600_000;
        let majority = |ahead: &[(i64, i64)], voters| {
            let ahead: Vec<Ahead> = ahead.iter().map(|&(least, most)| Ahead { least, most }).collect();
            ahead_of_majority(&ahead, voters)
        };
        assert_eq!(majority(&[(0, 0), (-3, 2)], 3), Some(0), "the third need not be asked");
        assert_eq!(majority(&[(0, 0), (HOUR, HOUR + 4), (0, 3)], 3), Some(0), "another one is wrong");
        assert_eq!(majority(&[(0, 0), (HOUR, HOUR + 4), (HOUR - 5, HOUR + 2)], 3), Some(HOUR + 4), "this one is");
        assert_eq!(majority(&[(0, 0), (-HOUR, -HOUR + 4), (-HOUR, -HOUR + 2)], 3), Some(-HOUR + 4));
        assert_eq!(majority(&[(0, 0), (HOUR, HOUR), (-HOUR, -HOUR)], 3), None);
        assert_eq!(majority(&[(0, 0)], 3), None);
        assert_eq!(majority(&[(0, 0), (0, 0)], 4), None, "half are no majority");
        assert_eq!(majority(&[(0, 0)], 1), Some(0));
        assert_eq!(majority(&[(0, 0), (-1_200, 20)], 3), None, "an answer that took longer says too little");
        let four_of_five = [(0, 0), (900, 900), (1_500, 1_500), (1_600, 1_600), (2_000, 2_000)];
        assert_eq!(majority(&four_of_five, 5), Some(2_000));
    }

    #[test]
    fn a_clock_that_is_set_while_the_others_are_asked_opens_nothing_early() {
        assert_eq!(agreed(Millis(5_000), Millis(5_010), 0), Millis(5_000));
        assert_eq!(agreed(Millis(5_000), Millis(90_000), 0), Millis(5_000), "put forward after they had answered");
        assert_eq!(agreed(Millis(90_000), Millis(5_000), 0), Millis(5_000), "put right before they were asked");
        assert_eq!(agreed(Millis(90_000), Millis(90_010), 85_000), Millis(5_000));
    }

    #[test]
    fn names_that_are_no_zone_have_no_windows() {
        assert!(is_zone("Europe/Berlin") && is_zone("UTC") && !is_zone("Europe/Atlantis") && !is_zone(""));
        assert_eq!(window(Period::Day, "Mars/Base", at("2026-01-15T12:00:00Z")), None);
        assert_eq!(window(Period::Day, "UTC", Millis(u64::MAX)), None);
        assert_eq!(window(Period::Total, "UTC", Millis(5)).map(|span| span.number()), Some(1));
    }
}
