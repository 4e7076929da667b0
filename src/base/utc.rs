#![forbid(unsafe_code)]
//! The calendar in UTC, for stamps in files. Knows no clock and no time zone.

use crate::base::clock::Wall;
use std::fmt::{self, Write as _};

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
        write_parts(f, self.0, ["T", "Z"])
    }
}

/// Date and time, with what stands between them and behind them. Lists have thousands of these: digits are
/// written without a formatter for each.
pub fn write_parts(f: &mut fmt::Formatter<'_>, at: Wall, [between, behind]: [&str; 2]) -> fmt::Result {
    let (year, month, day) = date(at.0 / DAY);
    if year > 9999 {
        write!(f, "{}", year / 100)?;
    } else {
        two(f, year / 100, "")?;
    }
    two(f, year % 100, "-")?;
    two(f, month, "-")?;
    two(f, day, between)?;
    two(f, at.0 % DAY / 3600, ":")?;
    two(f, at.0 % 3600 / 60, ":")?;
    two(f, at.0 % 60, behind)
}

/// Two digits, and what stands behind them.
fn two(f: &mut fmt::Formatter<'_>, number: u64, behind: &str) -> fmt::Result {
    for digit in [number / 10, number % 10] {
        f.write_char(char::from(b'0' + u8::try_from(digit % 10).unwrap_or(0)))?;
    }
    f.write_str(behind)
}

/// Reads what `Stamp` writes. The seconds need not be there, and other zones than UTC are not.
#[must_use]
pub fn parse(text: &str) -> Option<Wall> {
    let text = text.strip_suffix('Z')?;
    let (day, time) = text.split_once('T')?;
    if day.len() != 10 || !matches!(time.len(), 5 | 8) {
        return None;
    }
    let mut numbers = [0u64; 6];
    let mut slots = numbers.iter_mut();
    let parts = day.splitn(3, '-').chain(time.splitn(3, ':'));
    for part in parts {
        let digits = matches!(part.len(), 2 | 4) && part.bytes().all(|b| b.is_ascii_digit());
        *slots.next()? = if digits { part.parse().ok()? } else { return None };
    }
    let [year, month, day, hour, minute, second] = numbers;
    // Years that begin in March, as above.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day;
    let days = days.checked_sub(BEFORE_1970 + 1)?;
    let real = date(days) == (year, month, day) && hour < 24 && minute < 60 && second < 60;
    real.then_some(Wall(days * DAY + hour * 3600 + minute * 60 + second))
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
            assert_eq!(parse(want), Some(Wall(*secs)));
        }
        assert!(Stamp(Wall(u64::MAX)).to_string().ends_with('Z'));
    }

    #[test]
    fn what_is_no_stamp() {
        assert_eq!(parse("2026-11-25T21:00Z"), Some(Wall(1_795_640_400)));
        for bad in [
            "",
            "Z",
            "2026-11-25",
            "2026-11-25T21:00:00",
            "2026-02-29T00:00Z",
            "2026-13-01T00:00Z",
            "2026-00-01T00:00Z",
            "2026-01-00T00:00Z",
            "2026-01-01T24:00Z",
            "2026-01-01T00:60Z",
            "1969-12-31T23:59Z",
            "2026-01-01T00Z",
            "2026-11T21:00Z",
            "2026-01-01T00:00:00:00Z",
            "0000-01-01T00:00Z",
            "2026-1-1T00:00Z",
            "+026-01-01T00:00Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
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
