#![forbid(unsafe_code)]
//! The calendar in UTC, for stamps in files. Knows no clock and no time zone.

use crate::base::clock::Wall;
use std::fmt;

const DAY: u64 = 86_400;
/// Days in 400 years, after which the calendar repeats.
const ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01. Years that begin in March have their leap day at the end.
const BEFORE_1970: u64 = 719_468;

/// Year, month (1 to 12), day (1 to 31) of a day counted from 1970-01-01.
#[must_use]
pub fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(BEFORE_1970);
    let (era, day) = (days / ERA, days % ERA);
    // Days of the 400 years without the leap days before this one; the last day of an era is a leap day.
    let year = (day - day / 1_460 + day / 36_524 - day / (ERA - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, months have 31, 30, 31, 30, 31 days and again: 153 in five months.
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let (year, month) = (era * 400 + year, if month < 10 { month + 3 } else { month - 9 });
    (year + u64::from(month <= 2), month, day - first + 1)
}

/// RFC 3339: `2026-11-22T08:00:01Z`.
pub struct Stamp(pub Wall);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0.0 / DAY);
        let (hour, minute, second) = (self.0.0 % DAY / 3600, self.0.0 % 3600 / 60, self.0.0 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        let cases: &[(u64, &str)] = &[
            (0, "1970-01-01T00:00:00Z"),
            (86_399, "1970-01-01T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (2_147_483_648, "2038-01-19T03:14:08Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_563_200, "2400-02-29T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ];
        for (secs, want) in cases {
            assert_eq!(Stamp(Wall(*secs)).to_string(), *want, "{secs}");
        }
        assert!(Stamp(Wall(u64::MAX)).to_string().ends_with('Z'));
    }

    /// A thousand years, counted day by day with nothing but the rule for leap years.
    #[test]
    fn the_calendar_day_by_day() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..366_000 {
            assert_eq!(date(days), (year, month, day), "day {days}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
