#![forbid(unsafe_code)]
//! The syslog header of a line, in every form that the log writers of spec/06 produce.
//!
//! Read strictly from the left: a time stamp, then at most a host and a `facility.level`, then the program.
//! What stands behind the program's colon is the message and never looked into, so a header that an
//! attacker's text imitates is text. Must not know rules, patterns or clocks: the moment is an argument.

mod foreign;
mod loose;
mod message;
mod text;

pub(super) use loose::{any_stamp, seconds};
pub(super) use message::{own_process, repeated};

use crate::base::clock::Wall;
use crate::base::net::parse_addr;
use text::{HeaderText, civil, is_program, month, number, program_len};

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
    text.0 = whole;
    let unix = loose::unix(&mut text);
    if unix.is_none() {
        text.0 = whole;
    }
    if let Some(stamp) = unix.or_else(|| loose::stamped(&mut text)) {
        text.byte(b' ')?;
        // Many a service begins lines of its own like that: only what has a process is a header.
        return Some((Some(stamp), tagged(text).filter(|(_, pid, _)| pid.is_some())?));
    }
    // socklog's logger may be told to leave its own stamp out.
    if let Some(found) = HeaderText(whole).tag().filter(|tag| tag.1.is_none() && is_level(tag.0)) {
        return Some((None, socklog(found)?));
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
        return if first.1.is_none() { socklog(first) } else { Some(first) };
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

/// `[ADDRESS: ]LEVEL: [STAMP] [HOST] program[pid]: message`, as socklog writes down what a program sent; of
/// that the first name is `tag`. What has another name there is no such line.
fn socklog(tag: Tagged<'_>) -> Option<Tagged<'_>> {
    let level = |tag: &Tagged<'_>| tag.1.is_none() && is_level(tag.0);
    let relayed = parse_addr(tag.0).and_then(|_| HeaderText(tag.2).tag());
    let Some(found) = relayed.or(Some(tag)).filter(level) else { return Some(tag) };
    let mut text = HeaderText(found.2);
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

/// `auth.info` and the like.
fn is_level(word: &[u8]) -> bool {
    let Some(dot) = word.iter().position(|&b| b == b'.') else { return false };
    let (facility, level) = word.split_at(dot);
    let level = level.get(1..).unwrap_or_default();
    let local = matches!(facility, [b'l', b'o', b'c', b'a', b'l', b'0'..=b'7']);
    LEVELS.contains(&level) && (local || FACILITIES.contains(&facility))
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
