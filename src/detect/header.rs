#![forbid(unsafe_code)]
//! The syslog header of a line, in every form that the log writers of spec/06 produce.
//!
//! Read strictly from the left: a time stamp, then at most a host and a `facility.level`, then the program.
//! What stands behind the program's colon is the message and never looked into, so a header that an
//! attacker's text imitates is text. Must not know rules, patterns or clocks: the moment is an argument.

mod foreign;
mod loose;
mod message;

pub(super) use loose::{any_stamp, seconds};
pub(super) use message::{own_process, repeated};

use crate::base::clock::Wall;
use crate::base::net::parse_addr;

/// Longest program name that is believed; RFC 5424 allows 48.
const PROGRAM_MAX: usize = 64;
/// Longest host name that is believed.
const HOST_MAX: usize = 255;

const FACILITIES: [&[u8]; 14] = [
    b"auth",
    b"authpriv",
    b"cron",
    b"daemon",
    b"ftp",
    b"kern",
    b"lpr",
    b"mail",
    b"news",
    b"ntp",
    b"security",
    b"syslog",
    b"user",
    b"uucp",
];
const LEVELS: [&[u8]; 11] = [
    b"alert", b"crit", b"debug", b"emerg", b"err", b"error", b"info", b"notice", b"panic", b"warn",
    b"warning",
];

/// What stands before and behind the header of one line.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogHeader<'a> {
    /// Name of the program that wrote the message, such as `sshd` or `postfix/smtpd`; 1 to 64 bytes.
    pub program: &'a [u8],
    /// Its process, where the header has one.
    pub pid: Option<u32>,
    /// The text of the message, leading spaces and byte order mark removed.
    pub message: &'a [u8],
    /// When it was written, as far as the format tells.
    pub stamp: Option<HeaderStamp>,
}

/// A time stamp as written. [`HeaderStamp::age`] makes sense of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderStamp {
    /// Seconds since 1970-01-01 UTC.
    Unix(u64),
    /// Date and time of day.
    Civil(Civil),
}

/// A date and a time of day; each field is within its range, the day within 1 to 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// The year, where the format has one.
    pub year: Option<u16>,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// Seconds since midnight, below 86,401 (a leap second is kept).
    pub second: u32,
    /// Seconds east of UTC; `None` is the zone of the machine that wrote the line.
    pub zone: Option<i32>,
}

impl HeaderStamp {
    /// Seconds from this stamp to `now`, 0 when it lies ahead. `local` is this machine's zone in seconds
    /// east of UTC, for stamps without zone. A stamp without year is the latest such date that is at most
    /// a day ahead of `now`.
    #[must_use]
    pub fn age(self, now: Wall, local: i32) -> u64 {
        let at = match self {
            HeaderStamp::Unix(at) => at,
            HeaderStamp::Civil(c) => c.unix(now, local),
        };
        now.0.saturating_sub(at)
    }
}

impl Civil {
    fn unix(self, now: Wall, local: i32) -> u64 {
        const DAY: i64 = 86_400;
        let zone = i64::from(self.zone.unwrap_or(local));
        let moment = |year: i64| days(year, self.month, self.day) * DAY + i64::from(self.second) - zone;
        let at = match self.year {
            Some(year) => moment(i64::from(year)),
            None => {
                let now = i64::try_from(now.0).unwrap_or(i64::MAX / 2);
                // The mean year is near enough: an error of a day only matters around New Year, and there
                // the candidates are a year apart.
                let year = 1970 + now / 31_556_952;
                let latest = |at: &i64| *at <= now + DAY;
                [year + 1, year, year - 1].into_iter().map(moment).find(latest).unwrap_or(now)
            }
        };
        u64::try_from(at).unwrap_or(0)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: u8, day: u8) -> i64 {
    // Counted in years that begin in March, so that the leap day is the last.
    let (month, day) = (i64::from(month), i64::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 306 + 5) / 10
        + day
        - 719_469
}

/// Reads the header of `line`, which has no newline at its end. `None`: there is no header that can be
/// relied on, and no rule with programs may judge the line.
#[must_use]
pub fn parse(line: &[u8]) -> Option<LogHeader<'_>> {
    parse_after(line, &mut StampMemo::default())
}

/// The stamp of the line before: lines come in bursts, and most writers know whole seconds.
#[derive(Default)]
pub(super) struct StampMemo {
    /// `Nov 22 08:00:01 `, at the begin of a line; it means something only with the stamp.
    text: [u8; 16],
    stamp: Option<HeaderStamp>,
}

impl StampMemo {
    /// Reads a date at the begin of a line, as [`HeaderText::dated`] does.
    fn dated(&mut self, text: &mut HeaderText<'_>) -> Option<HeaderStamp> {
        let whole = text.0;
        let head = whole.first_chunk();
        // Behind it may stand the year.
        let usual = || whole.get(self.text.len()).is_none_or(|b| !b.is_ascii_digit());
        if let (Some(stamp), true) = (self.stamp, head == Some(&self.text) && usual()) {
            text.take(self.text.len() - 1)?;
            return Some(stamp);
        }
        let stamp = text.dated()?;
        if let (Some(head), true) = (head, whole.len() == text.0.len() + self.text.len() - 1) {
            (self.text, self.stamp) = (*head, Some(stamp));
        }
        Some(stamp)
    }
}

/// As [`parse`], where the line before has left its stamp.
pub(super) fn parse_after<'l>(line: &'l [u8], memo: &mut StampMemo) -> Option<LogHeader<'l>> {
    let mut text = HeaderText(line);
    let priority = text.priority();
    if text.0.starts_with(b"1 ") {
        return rfc5424(HeaderText(text.0.get(2..)?));
    }
    let whole = text.0;
    let stamp = match text.0.first()? {
        b'0'..=b'9' if text.0.get(4) == Some(&b' ') => text.year_first(),
        b'0'..=b'9' => text.iso(),
        b'@' => text.tai64n(),
        b'A'..=b'Z' if text.at_date() => memo.dated(&mut text),
        _ => None,
    };
    let found = if stamp.is_some() {
        text.byte(b' ')?;
        bracketed(text, stamp)
            .or_else(|| tagged(text))
            .or_else(|| rfc5424_fields(text).filter(|(_, pid, _)| pid.is_some()))
            .map(|found| (stamp, found))
    } else {
        rarely(whole, priority)
    };
    let (stamp, (program, pid, message)) = found?;
    Some(LogHeader { program, pid, message: message::plain(program, message), stamp })
}

/// What begins with none of the stamps that most writers of logs use.
#[cold]
fn rarely(whole: &[u8], priority: bool) -> Option<(Option<HeaderStamp>, Tagged<'_>)> {
    let mut text = HeaderText(whole);
    if let Some(stamp) = foreign::dated(&mut text) {
        text.byte(b' ')?;
        return Some((stamp, tagged(text)?));
    }
    if let Some(stamp) = loose::stamped(&mut text) {
        text.byte(b' ')?;
        // Many a service begins lines of its own like that: only what has a process is a header.
        return Some((Some(stamp), tagged(text).filter(|(_, pid, _)| pid.is_some())?));
    }
    // A datagram may carry its priority and nothing else; without either there is no header.
    if priority { Some((None, tagged(HeaderText(whole))?)) } else { None }
}

/// Who wrote, with which process, and what.
type Tagged<'a> = (&'a [u8], Option<u32>, &'a [u8]);

/// `[program] message`, as metalog has it, whose stamps have no year. It takes the process off.
fn bracketed(mut text: HeaderText<'_>, stamp: Option<HeaderStamp>) -> Option<Tagged<'_>> {
    text.byte(b'[')?;
    if !matches!(stamp, Some(HeaderStamp::Civil(Civil { year: None, .. }))) {
        return None;
    }
    let program = text.take(program_len(text.0)?).filter(|word| parse_addr(word).is_none())?;
    text.byte(b']')?;
    text.byte(b' ')?;
    Some((program, None, message(text.0)))
}

/// Whether a line is one that a syslog daemon has written down, whatever file it is in: a host, and a process
/// with its number.
#[must_use]
pub fn is_relayed(line: &[u8]) -> bool {
    let Some(header) = parse(line) else { return false };
    let ahead = line.get(..line.len() - header.message.len()).unwrap_or_default();
    let words = ahead.split(|&b| b == b' ').filter(|word| !word.is_empty()).count();
    let stamp =
        if matches!(header.stamp, Some(HeaderStamp::Civil(Civil { year: None, .. }))) { 3 } else { 1 };
    header.pid.is_some() && words >= stamp + 2
}

/// `2026-11-22T08:00:01.123+01:00` alone.
pub(super) fn iso(text: &[u8]) -> Option<HeaderStamp> {
    HeaderText(text).iso()
}

/// The time stamp of web servers' access logs: `22/Nov/2026:08:00:01 +0100`, without its brackets.
pub(super) fn web(text: &[u8]) -> Option<HeaderStamp> {
    let mut text = HeaderText(text);
    let day = text.digits(2)?;
    text.byte(b'/')?;
    let month = text.take(3)?.first_chunk().and_then(month)?;
    text.byte(b'/')?;
    let year = u16::try_from(text.digits(4)?).ok()?;
    text.byte(b':')?;
    let second = text.time()?;
    text.byte(b' ')?;
    civil(Some(year), month, day, second, text.zone()?)
}

/// `[HOST] [facility.level] program[pid]: message`, each by its place: nothing further right is looked at.
fn tagged(mut text: HeaderText<'_>) -> Option<Tagged<'_>> {
    if let Some(first) = text.tag() {
        // socklog puts a colon behind the level, and leaves the stamp in the message.
        let level = first.1.is_none() && is_level(first.0);
        return if level { socklog(HeaderText(first.2)) } else { Some(first) };
    }
    let host = text.word()?;
    // What stands in brackets is an address, if it is a host.
    let odd = host.first() == Some(&b'[') && parse_addr(host).is_none();
    if host.is_empty() || host.len() > HOST_MAX || odd {
        return None;
    }
    let second = text.tag();
    if second.is_some() {
        return second;
    }
    let word = text.word()?;
    // A relay puts its own name before the host's. Only a process number tells that apart from a message, and
    // that both are names: H=(text of a client) of Exim's own log is none.
    let level = is_level(word);
    let relay = is_host(word) && (is_host(host) || host.starts_with(b"["));
    text.tag().filter(|(_, pid, _)| level || relay && pid.is_some())
}

fn is_host(word: &[u8]) -> bool {
    word.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'_'))
}

/// `[STAMP] [HOST] program[pid]: message`, which a program sent and socklog wrote down behind the level.
fn socklog(mut text: HeaderText<'_>) -> Option<Tagged<'_>> {
    if text.at_date() {
        text.dated()?;
        text.byte(b' ')?;
    }
    text.tag().or_else(|| {
        let _host = text.word().filter(|word| is_host(word))?;
        text.tag().filter(|(_, pid, _)| pid.is_some())
    })
}

/// What follows the version: `STAMP HOST APP PROCID MSGID SD [BOM]MESSAGE`, `-` for what is not known.
fn rfc5424(mut text: HeaderText<'_>) -> Option<LogHeader<'_>> {
    let stamp = if text.byte(b'-').is_some() { None } else { Some(text.iso()?) };
    text.byte(b' ')?;
    let (program, pid, message) = rfc5424_fields(text)?;
    Some(LogHeader { program, pid, message: message::plain(program, message), stamp })
}

/// What follows the stamp. sysklogd writes this without priority and version.
fn rfc5424_fields(mut text: HeaderText<'_>) -> Option<Tagged<'_>> {
    let _host = text.word().filter(|w| !w.is_empty())?;
    let program = text.word().filter(|&w| w != b"-" && is_program(w))?;
    let pid = number(text.word()?);
    let _kind = text.word().filter(|w| !w.is_empty())?;
    if text.byte(b'-').is_none() {
        text.structured_data()?;
    }
    if !text.0.is_empty() {
        text.byte(b' ')?;
    }
    Some((program, pid, message(text.0)))
}

fn message(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let spaces = text.iter().take_while(|&&b| b == b' ').count();
    text.get(spaces..).unwrap_or_default()
}

/// A name that a program may have. The characters that end it or could begin a message are not in it.
fn is_program(word: &[u8]) -> bool {
    program_len(word).is_some_and(|len| len == word.len())
}

/// How many bytes at the head of `text` may be the name of a program, at most 64; `None`: there is no name.
#[inline]
fn program_len(text: &[u8]) -> Option<usize> {
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

/// `auth.info` and the like.
fn is_level(word: &[u8]) -> bool {
    let Some(dot) = word.iter().position(|&b| b == b'.') else { return false };
    let (facility, level) = word.split_at(dot);
    let level = level.get(1..).unwrap_or_default();
    let local = matches!(facility, [b'l', b'o', b'c', b'a', b'l', b'0'..=b'7']);
    LEVELS.contains(&level) && (local || FACILITIES.contains(&facility))
}

/// A decimal number that fits, nothing else around it.
#[inline]
fn number(word: &[u8]) -> Option<u32> {
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
fn month(name: &[u8; 3]) -> Option<u8> {
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

fn is_weekday(name: &[u8; 3]) -> bool {
    matches!(name, b"Mon" | b"Tue" | b"Wed" | b"Thu" | b"Fri" | b"Sat" | b"Sun")
}

/// The part of the line that has not been read.
#[derive(Clone, Copy)]
struct HeaderText<'a>(&'a [u8]);

impl<'a> HeaderText<'a> {
    #[inline(always)]
    fn byte(&mut self, want: u8) -> Option<()> {
        let (&first, rest) = self.0.split_first()?;
        (first == want).then(|| self.0 = rest)
    }

    #[inline(always)]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// Up to the next space, which is removed; `None` when there is none.
    fn word(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().take(HOST_MAX + 1).position(|&b| b == b' ')?;
        let word = self.take(end)?;
        self.byte(b' ')?;
        Some(word)
    }

    /// Exactly `len` digits.
    fn digits(&mut self, len: usize) -> Option<u32> {
        number(self.take(len)?)
    }

    /// Exactly two digits.
    #[inline(always)]
    fn two(&mut self) -> Option<u32> {
        let [tens, ones, rest @ ..] = self.0 else { return None };
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        if tens > 9 || ones > 9 {
            return None;
        }
        self.0 = rest;
        Some(u32::from(tens) * 10 + u32::from(ones))
    }

    /// `<PRI>`, when it is there.
    fn priority(&mut self) -> bool {
        let Some((b'<', rest)) = self.0.split_first() else { return false };
        let Some(end) = rest.iter().take(4).position(|&b| b == b'>') else { return false };
        let found = number(rest.get(..end).unwrap_or_default()).is_some();
        if found {
            self.0 = rest.get(end + 1..).unwrap_or_default();
        }
        found
    }

    /// `program: message` or `program[pid]: message` at this place.
    fn tag(&self) -> Option<Tagged<'a>> {
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

    fn at_date(&self) -> bool {
        self.0.first_chunk().is_some_and(|word| month(word).is_some() || is_weekday(word))
    }

    /// `Nov 22 08:00:01`, `Sun Nov 22 08:00:01 2026` or `Sun 2026-11-22 08:00:01 CET`.
    fn dated(&mut self) -> Option<HeaderStamp> {
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
    fn full(&mut self) -> Option<HeaderStamp> {
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
    fn year_first(&mut self) -> Option<HeaderStamp> {
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
    fn iso(&mut self) -> Option<HeaderStamp> {
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
    fn time(&mut self) -> Option<u32> {
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
    fn zone(&mut self) -> Option<Option<i32>> {
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
    fn tai64n(&mut self) -> Option<HeaderStamp> {
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
    fn structured_data(&mut self) -> Option<()> {
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

fn civil(year: Option<u16>, month: u8, day: u32, second: u32, zone: Option<i32>) -> Option<HeaderStamp> {
    let day = u8::try_from(day).ok()?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
    valid.then_some(HeaderStamp::Civil(Civil { year, month, day, second, zone }))
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
