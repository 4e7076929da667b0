#![forbid(unsafe_code)]
//! What headers are made of, each read at the head of what is left of a line: numbers, stamps, tags.

use super::{Civil, HOST_MAX, HeaderStamp, PROGRAM_MAX, Tagged, message};

/// A name that a program may have. The characters that end it or could begin a message are not in it.
pub(super) fn is_program(word: &[u8]) -> bool {
    program_len(word).is_some_and(|len| len == word.len())
}

/// How many bytes at the head of `text` may be the name of a program, at most 64; `None`: there is no name.
#[inline]
pub(super) fn program_len(text: &[u8]) -> Option<usize> {
    let mut len = 0;
    while text.get(len).is_some_and(|&b| IN_PROGRAM.get(usize::from(b)).is_some_and(|&fits| fits)) {
        len += 1;
    }
    (len > 0 && len <= PROGRAM_MAX).then_some(len)
}

/// By byte: whether it may be part of the name of a program.
const IN_PROGRAM: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0u8;
    while b < 128 {
        let mark = matches!(b, b'_' | b'.' | b'/' | b'-' | b'@' | b'+' | b'(' | b')');
        table[b as usize] = b.is_ascii_alphanumeric() || mark;
        b += 1;
    }
    table
};

/// A decimal number that fits, nothing else around it.
#[inline]
pub(super) fn number(word: &[u8]) -> Option<u32> {
    if word.is_empty() || word.len() > 19 {
        return None;
    }
    let mut number = 0u64;
    for b in word {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    u32::try_from(number).ok()
}

/// The number of a month by its English name.
pub(super) fn month(name: &[u8; 3]) -> Option<u8> {
    Some(match name {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    })
}

pub(super) fn is_weekday(name: &[u8; 3]) -> bool {
    matches!(name, b"Mon" | b"Tue" | b"Wed" | b"Thu" | b"Fri" | b"Sat" | b"Sun")
}

/// The part of the line that has not been read.
#[derive(Clone, Copy)]
pub(super) struct HeaderText<'a>(pub(super) &'a [u8]);

impl<'a> HeaderText<'a> {
    #[inline(always)]
    pub(super) fn byte(&mut self, want: u8) -> Option<()> {
        let (&first, rest) = self.0.split_first()?;
        (first == want).then(|| self.0 = rest)
    }

    #[inline(always)]
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// Up to the next space, which is removed; `None` when there is none.
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().take(HOST_MAX + 1).position(|&b| b == b' ')?;
        let word = self.take(end)?;
        self.byte(b' ')?;
        Some(word)
    }

    /// Exactly `len` digits.
    pub(super) fn digits(&mut self, len: usize) -> Option<u32> {
        number(self.take(len)?)
    }

    /// Exactly two digits.
    #[inline(always)]
    pub(super) fn two(&mut self) -> Option<u32> {
        let [tens, ones, rest @ ..] = self.0 else { return None };
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        if tens > 9 || ones > 9 {
            return None;
        }
        self.0 = rest;
        Some(u32::from(tens) * 10 + u32::from(ones))
    }

    /// `<PRI>`, when it is there.
    pub(super) fn priority(&mut self) -> bool {
        let Some((b'<', rest)) = self.0.split_first() else { return false };
        let Some(end) = rest.iter().take(4).position(|&b| b == b'>') else { return false };
        let found = number(rest.get(..end).unwrap_or_default()).is_some();
        if found {
            self.0 = rest.get(end + 1..).unwrap_or_default();
        }
        found
    }

    /// `program: message` or `program[pid]: message` at this place.
    pub(super) fn tag(&self) -> Option<Tagged<'a>> {
        let (program, rest) = self.0.split_at_checked(program_len(self.0)?)?;
        // Some programs name themselves by their path.
        let program = match program {
            [b'/', ..] => program.rsplit(|&b| b == b'/').next().filter(|name| !name.is_empty())?,
            name => name,
        };
        let mut rest = HeaderText(rest);
        let mut pid = None;
        if rest.byte(b'[').is_some() {
            let close = rest.0.iter().take(33).position(|b| matches!(b, b']' | b' '))?;
            pid = number(rest.take(close)?);
            rest.byte(b']')?;
        }
        rest.byte(b':')?;
        // `name:` is a tag only at its end: `2001:db8::1` is a host.
        match rest.0.first() {
            None | Some(b' ') => Some((program, pid, message(rest.0))),
            _ => None,
        }
    }

    pub(super) fn at_date(&self) -> bool {
        self.0.first_chunk().is_some_and(|word| month(word).is_some() || is_weekday(word))
    }

    /// `Nov 22 08:00:01`, `Sun Nov 22 08:00:01 2026` or `Sun 2026-11-22 08:00:01 CET`.
    pub(super) fn dated(&mut self) -> Option<HeaderStamp> {
        let first = self.0.first_chunk().and_then(month);
        let weekday = first.is_none();
        if weekday {
            self.take(3)?.first_chunk().filter(|word| is_weekday(word))?;
            self.byte(b' ')?;
            if self.0.first().is_some_and(u8::is_ascii_digit) {
                return self.full();
            }
        }
        let month = first.or_else(|| self.0.first_chunk().and_then(month))?;
        self.take(3)?;
        self.byte(b' ')?;
        let padded = self.byte(b' ').is_some();
        let one_digit = padded || self.0.get(1) == Some(&b' ');
        let day = if one_digit { self.digits(1)? } else { self.two()? };
        self.byte(b' ')?;
        let mut year = None;
        if self.0.get(4) == Some(&b' ') {
            year = Some(u16::try_from(self.digits(4)?).ok()?);
            self.byte(b' ')?;
        }
        let second = self.time()?;
        if weekday && year.is_none() {
            self.byte(b' ')?;
            year = Some(u16::try_from(self.digits(4)?).ok()?);
        }
        if let (None, [b' ', b'1' | b'2', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', ..]) = (year, self.0) {
            self.byte(b' ')?;
            year = Some(u16::try_from(self.digits(4)?).ok()?);
        }
        civil(year, month, day, second, None)
    }

    /// `2026-11-22 08:00:01 CET`, as journalctl has it behind the day of the week.
    pub(super) fn full(&mut self) -> Option<HeaderStamp> {
        let stamp = self.iso()?;
        self.byte(b' ')?;
        let name =
            self.0.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'+' || **b == b'-').count();
        let name = self.take(name).filter(|name| (2..=6).contains(&name.len()))?;
        match stamp {
            HeaderStamp::Civil(at) if name == b"UTC" => {
                Some(HeaderStamp::Civil(Civil { zone: Some(0), ..at }))
            }
            // Other names mean different things in different countries: it is that of the machine.
            stamp => Some(stamp),
        }
    }

    /// `2026 Nov 22 08:00:01`, as appliances write it.
    pub(super) fn year_first(&mut self) -> Option<HeaderStamp> {
        let year = u16::try_from(self.digits(4)?).ok()?;
        self.byte(b' ')?;
        match self.dated()? {
            HeaderStamp::Civil(civil) if civil.year.is_none() => {
                Some(HeaderStamp::Civil(Civil { year: Some(year), ..civil }))
            }
            _ => None,
        }
    }

    /// `2026-11-22T08:00:01.123456+01:00`; a space for the T, `Z` or no zone, and no fraction are fine.
    pub(super) fn iso(&mut self) -> Option<HeaderStamp> {
        let year = u16::try_from(self.digits(4)?).ok()?;
        self.byte(b'-')?;
        let month = u8::try_from(self.two()?).ok()?;
        self.byte(b'-')?;
        let day = self.two()?;
        // runit writes `2026-11-22_08:00:01.12345`.
        self.take(1).filter(|between| matches!(between, [b'T' | b' ' | b'_']))?;
        let second = self.time()?;
        let zone = self.zone()?;
        civil(Some(year), month, day, second, zone)
    }

    /// `08:00:01` with or without a fraction, as seconds since midnight.
    pub(super) fn time(&mut self) -> Option<u32> {
        let hour = self.two().filter(|&h| h < 24)?;
        self.byte(b':')?;
        let minute = self.two().filter(|&m| m < 60)?;
        self.byte(b':')?;
        let second = self.two().filter(|&s| s <= 60)?;
        if matches!(self.0, [b'.' | b',', b'0'..=b'9', ..]) {
            let fraction = self.0.iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
            self.take(fraction + 1)?;
        }
        Some(hour * 3600 + minute * 60 + second)
    }

    /// `Z`, `+01:00`, `+0100` or nothing; the outer `None` is a broken zone.
    pub(super) fn zone(&mut self) -> Option<Option<i32>> {
        let east = match self.0.first() {
            Some(b'Z' | b'z') => {
                self.take(1)?;
                return Some(Some(0));
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(None),
        };
        self.take(1)?;
        let hours = i32::try_from(self.two().filter(|&h| h < 24)?).ok()?;
        let _colon = self.byte(b':');
        let minutes = i32::try_from(self.two().filter(|&m| m < 60)?).ok()?;
        Some(Some(east * (hours * 3600 + minutes * 60)))
    }

    /// `@` and 24 hexadecimal digits: seconds since 1970 plus 2^62 + 10, then nanoseconds.
    pub(super) fn tai64n(&mut self) -> Option<HeaderStamp> {
        self.byte(b'@')?;
        let hex = self.take(24)?;
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let seconds = std::str::from_utf8(hex.get(..16)?).ok()?;
        let label = u64::from_str_radix(seconds, 16).ok()?;
        Some(HeaderStamp::Unix(label.checked_sub((1 << 62) + 10)?))
    }

    /// One or more `[id name="value" …]`; inside quotes `\` protects the next byte.
    pub(super) fn structured_data(&mut self) -> Option<()> {
        while self.byte(b'[').is_some() {
            let (mut quoted, mut escaped) = (false, false);
            let end = self.0.iter().position(|&b| {
                let plain = !escaped;
                escaped = plain && quoted && b == b'\\';
                quoted ^= plain && b == b'"';
                plain && b == b']' && !quoted
            })?;
            self.take(end + 1)?;
        }
        matches!(self.0.first(), None | Some(b' ')).then_some(())
    }
}

pub(super) fn civil(
    year: Option<u16>,
    month: u8,
    day: u32,
    second: u32,
    zone: Option<i32>,
) -> Option<HeaderStamp> {
    let day = u8::try_from(day).ok()?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then_some(HeaderStamp::Civil(Civil { year, month, day, second, zone }))
}
