#![forbid(unsafe_code)]
//! Stamps that no syslog header has: those of services that write logs of their own.

use super::text::{HeaderText, civil, is_weekday, month};
use super::{Civil, HeaderStamp};

/// A stamp at the begin of a text, in any form but those that only syslog headers have room for.
pub(in crate::detect) fn any_stamp(text: &[u8]) -> Option<HeaderStamp> {
    stamped(&mut HeaderText(text))
}

/// The same; what was read of the text is taken off.
pub(super) fn stamped(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    let forms = [loose, named, year_first, dated, mailed, packed, tai64n];
    let whole = text.0;
    forms.into_iter().find_map(|form| {
        text.0 = whole;
        form(text)
    })
}

/// `2026/11/22 08:00:01`, `2026-11-22T08:00:01.1+01:00`, and with a blank where an hour has no second digit
/// or before the zone.
fn loose(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    let year = u16::try_from(text.digits(4)?).ok()?;
    let between = *text.take(1)?.first().filter(|b| matches!(b, b'-' | b'/'))?;
    let month = u8::try_from(text.two()?).ok()?;
    text.byte(between)?;
    let day = text.two()?;
    text.byte(b'T').or_else(|| text.byte(b' '))?;
    let second = padded_time(text)?;
    let zone = far_zone(text);
    civil(Some(year), month, day, second, zone)
}

/// `1795766457.123456`, as journalctl writes with `-o short-unix`; elsewhere a number is none.
pub(super) fn unix(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    let seconds = u64::from(text.digits(9)?) * 10 + u64::from(text.digits(1)?);
    if text.byte(b'.').is_some() {
        let fraction = text.0.iter().take_while(|b| b.is_ascii_digit()).count();
        text.take(fraction)?;
    }
    (text.0.first() == Some(&b' ')).then_some(HeaderStamp::Unix(seconds))
}

/// `22/Nov/2026:08:00:01 +0100`, `22-Nov-2026 08:00:01.1`.
fn named(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    let day = text.two()?;
    let between = *text.take(1)?.first().filter(|b| matches!(b, b'-' | b'/'))?;
    let month = text.take(3)?.first_chunk().and_then(month)?;
    text.byte(between)?;
    let year = u16::try_from(text.digits(4)?).ok()?;
    text.byte(b':').or_else(|| text.byte(b' '))?;
    let second = text.time()?;
    let zone = far_zone(text);
    civil(Some(year), month, day, second, zone)
}

/// As [`HeaderText::dated`], but a line that begins with a weekday may have its year behind the zone.
fn dated(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    let whole = text.0;
    if let Some(stamp) = text.dated() {
        return Some(stamp);
    }
    text.0 = whole.get(4..)?;
    whole.first_chunk().filter(|word| is_weekday(word))?;
    let HeaderStamp::Civil(found) = text.dated()? else { return None };
    text.byte(b' ')?;
    let zone = text.0.iter().take(5).take_while(|b| b.is_ascii_uppercase()).count();
    let utc = matches!(text.take(zone)?, b"UTC" | b"GMT").then_some(0);
    text.byte(b' ')?;
    let year = u16::try_from(text.digits(4)?).ok()?;
    Some(HeaderStamp::Civil(Civil { year: Some(year), zone: utc, ..found }))
}

/// `Sun, 22 Nov 2026 08:00:01 +0100`; the weekday may be missing.
fn mailed(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    if text.0.first_chunk().is_some_and(is_weekday) {
        text.take(3)?;
        text.byte(b',')?;
        text.byte(b' ')?;
    }
    let day = if text.0.get(1) == Some(&b' ') { text.digits(1)? } else { text.two()? };
    text.byte(b' ')?;
    let month = text.take(3)?.first_chunk().and_then(month)?;
    text.byte(b' ')?;
    let year = u16::try_from(text.digits(4)?).ok()?;
    text.byte(b' ')?;
    let second = text.time()?;
    let zone = far_zone(text);
    civil(Some(year), month, day, second, zone)
}

/// `20261122-08:00:01`, `20261122T080001`, `261122  8:00:01`.
fn packed(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    let digits = text.0.iter().take(9).take_while(|b| b.is_ascii_digit()).count();
    let year = match digits {
        6 => 2000 + text.two()?,
        8 => text.digits(4)?,
        _ => return None,
    };
    let (month, day) = (u8::try_from(text.two()?).ok()?, text.two()?);
    let between = *text.take(1)?.first().filter(|b| matches!(b, b'-' | b' ' | b'T' | b'_'))?;
    let second = if between == b'T' && text.0.get(2) != Some(&b':') {
        let (hour, minute, second) = (text.two()?, text.two()?, text.two()?);
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)?
    } else {
        padded_time(text)?
    };
    civil(u16::try_from(year).ok(), month, day, second, None)
}

/// `2026 Nov 22 08:00:01`.
fn year_first(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    text.year_first()
}

/// `@` and 24 hexadecimal digits.
fn tai64n(text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
    text.tai64n()
}

/// Seconds since 1970 with or without a fraction, or milliseconds, such as `1795334401.123`. Many a number
/// looks like that: only for places where nothing else can stand.
pub(in crate::detect) fn seconds(text: &[u8]) -> Option<HeaderStamp> {
    // 2001 to 2286, which all have ten digits.
    const DIGITS: usize = 10;
    let digits = text.iter().take(DIGITS + 4).take_while(|b| b.is_ascii_digit()).count();
    let whole = std::str::from_utf8(text.get(..DIGITS)?).ok()?.parse().ok()?;
    match (digits, text.get(digits)) {
        (DIGITS, None | Some(b'.' | b',' | b'}' | b'"' | b' '))
        | (13, None | Some(b',' | b'}' | b'.' | b'"' | b' ')) => Some(HeaderStamp::Unix(whole)),
        _ => None,
    }
}

/// A time of day whose hour may have a blank in the place of a zero.
fn padded_time(text: &mut HeaderText<'_>) -> Option<u32> {
    if !matches!(text.0, [b' ', b'0'..=b'9', b':', ..]) {
        return text.time();
    }
    let mut padded = [0; 8];
    padded.iter_mut().zip(text.0).for_each(|(to, from)| *to = *from);
    padded[0] = b'0';
    text.take(8)?;
    HeaderText(&padded).time()
}

/// A zone right here or behind a blank, if there is one.
fn far_zone(text: &mut HeaderText<'_>) -> Option<i32> {
    let behind = text.0.strip_prefix(b" ").unwrap_or(text.0);
    if let [b'U', b'T', b'C', rest @ ..] | [b'G', b'M', b'T', rest @ ..] = behind {
        text.0 = rest;
        return Some(0);
    }
    // A minus behind a blank may be a dash.
    let zone = matches!(behind, [b'+' | b'-', a, b, ..] if a.is_ascii_digit() && b.is_ascii_digit());
    let direct = text.0.first() == Some(&b'Z');
    if !(zone || direct) {
        return None;
    }
    let mut behind = HeaderText(behind);
    let zone = behind.zone().flatten()?;
    text.0 = behind.0;
    Some(zone)
}
