#![forbid(unsafe_code)]
//! One line of a web server's access log: who asked for what, and how it was answered.
//!
//! The common and combined formats (nginx, Apache, lighttpd, Traefik; with a virtual host before the address,
//! too), and JSON as Caddy, Traefik and nginx write it. Paths, agents and user names are written by
//! attackers: the address stands before all of them, quotes inside a field are escaped by the servers, and of
//! JSON only keys count that stand where the server puts them. Must not know rules, windows or thresholds.

use super::header::{self, HeaderStamp};
use crate::base::net::parse_addr;
use memchr::{memchr, memrchr};
use std::net::IpAddr;
use std::ops::Range;

/// Objects and lists inside each other at most.
const DEPTH: usize = 16;

/// What a line tells. Places are within the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The path without its query; of a request that is none, all of it.
    pub path: Range<usize>,
    /// The user agent; empty if the format has none.
    pub agent: Range<usize>,
    /// HTTP status; 0 to 999.
    pub status: u16,
    /// When, where the format tells.
    pub stamp: Option<HeaderStamp>,
}

/// Who a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessClient {
    /// One address.
    Addr(IpAddr),
    /// A name, perhaps.
    Unknown,
}

/// Reads a line; `None` if it is none of an access log.
#[must_use]
pub fn parse(line: &[u8]) -> Option<(AccessClient, HttpRequest)> {
    if line.first() == Some(&b'{') { json(line) } else { common(line) }
}

/// Where the quoted text that begins at `from` ends: at the next quote that no backslash protects.
fn quoted(line: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        let rest = line.get(at..)?;
        let next = memchr::memchr2(b'"', b'\\', rest)?;
        at += next;
        if line.get(at) == Some(&b'"') {
            return Some(from..at);
        }
        at += 2;
    }
}

/// `[VHOST ]ADDR IDENT USER [TIME] "REQUEST" STATUS SIZE "REFERER" "AGENT"`; what follows the status may be
/// missing, and more may follow.
fn common(line: &[u8]) -> Option<(AccessClient, HttpRequest)> {
    let first = memchr(b' ', line)?;
    let rest = line.get(first + 1..)?;
    let second = memchr(b' ', rest)?;
    let mut begin = quoted(line, first + 1)?.end + 1;
    // Apache writes a name that is empty as two quotes.
    if line.get(begin - 1..)?.starts_with(b"\"\" [") {
        begin = quoted(line, begin + 1)?.end + 1;
    }
    // Behind the user's name, who may be called anything but a quote.
    let head = line.get(..begin)?.strip_suffix(b"] \"")?;
    let stamp_at = memrchr(b'[', head)?;
    let stamp = header::web(head.get(stamp_at + 1..)?);
    let client = client(
        [line.get(..first)?, rest.get(..second)?],
        head.get(first + second + 2..stamp_at).unwrap_or_default(),
    );
    let request = quoted(line, begin)?;
    let mut at = request.end + 1;
    let tail = line.get(at..)?;
    let [b' ', digits @ .., b' '] = tail.first_chunk::<5>()? else { return None };
    let status = number(digits)?;
    at += 4;
    let mut agent = 0..0;
    let more = |at: usize| Some(at + memchr(b'"', line.get(at..)?)? + 1);
    if let Some(begin) = more(at)
        && let Some(referer) = quoted(line, begin)
        && let Some(begin) = more(referer.end + 1)
        && let Some(found) = quoted(line, begin)
    {
        agent = found;
    }
    Some((client, HttpRequest { path: path(line, request), agent, status, stamp }))
}

/// Who asks, by the first two words of a line and what stands between them and the stamp. `ADDR - USER ` is
/// the usual form; `VHOST ADDR - USER ` begins with a name that the client chose, perhaps one that looks like
/// an address; `ADDR VHOST USER ` has it second.
fn client([one, two]: [&[u8]; 2], rest: &[u8]) -> AccessClient {
    let known = |text: &[u8]| parse_addr(text).map_or(AccessClient::Unknown, AccessClient::Addr);
    // A mark in the place of ident, and a user behind it: only then the first word is a name.
    let hosted = two != b"-" && rest.strip_prefix(b"- ").is_some_and(|user| !user.is_empty());
    match known(one) {
        first @ AccessClient::Addr(_) if !hosted => first,
        _ => known(two),
    }
}

/// A number of decimal digits.
pub(super) fn number(digits: &[u8]) -> Option<u16> {
    let mut number = 0u16;
    for digit in digits {
        number = number.checked_mul(10)?.checked_add(u16::from(digit.wrapping_sub(b'0')))?;
        if !digit.is_ascii_digit() {
            return None;
        }
    }
    (!digits.is_empty()).then_some(number)
}

/// The path in `METHOD PATH?QUERY PROTOCOL`.
fn path(line: &[u8], request: Range<usize>) -> Range<usize> {
    let text = line.get(request.clone()).unwrap_or_default();
    let from = memchr(b' ', text).map_or(0, |at| at + 1);
    let end = memrchr(b' ', text).filter(|&end| end > from).unwrap_or(text.len());
    without_query(line, request.start + from..request.start + end)
}

/// The path up to its query.
pub(super) fn without_query(line: &[u8], uri: Range<usize>) -> Range<usize> {
    let text = line.get(uri.clone()).unwrap_or_default();
    let len = memchr::memchr2(b'?', b'#', text).unwrap_or(text.len());
    uri.start..uri.start + len
}

/// The stamp of a line in a format of somebody's own: one in brackets, or one at its begin.
pub(super) fn stamp(line: &[u8]) -> Option<HeaderStamp> {
    let bracketed = memchr(b'[', line).and_then(|at| header::web(line.get(at + 1..)?));
    bracketed.or_else(|| header::iso(line)).or_else(|| header::parse(line)?.stamp)
}

/// Objects whose keys count.
#[derive(Clone, Copy, PartialEq)]
enum FieldPlace {
    Other,
    Top,
    Request,
    Headers,
    Agent,
}

/// What is known so far of a line in JSON.
struct AccessFields {
    client: AccessClient,
    /// The address is that of `client_ip`, behind the proxies that the server trusts.
    certain: bool,
    path: Option<Range<usize>>,
    agent: Range<usize>,
    status: Option<u16>,
    stamp: Option<HeaderStamp>,
}

/// An object on one line. Its grammar is not judged beyond what is needed to find the place of each key.
fn json(line: &[u8]) -> Option<(AccessClient, HttpRequest)> {
    let mut found = AccessFields {
        client: AccessClient::Unknown,
        certain: false,
        path: None,
        agent: 0..0,
        status: None,
        stamp: None,
    };
    let mut places = [FieldPlace::Other; DEPTH];
    let mut depth = 0usize;
    let (mut at, mut key) = (0, 0..0);
    loop {
        let place =
            depth.checked_sub(1).and_then(|top| places.get(top)).copied().unwrap_or(FieldPlace::Other);
        match line.get(at)? {
            b'"' => {
                let text = quoted(line, at + 1)?;
                at = text.end + 1;
                if line.get(at) == Some(&b':') {
                    key = text;
                    at += 1;
                } else {
                    found.value(place, line, key.clone(), text);
                }
            }
            open @ (b'{' | b'[') => {
                let name = line.get(key.clone()).unwrap_or_default();
                *places.get_mut(depth)? = match (place, open, name) {
                    _ if depth == 0 => FieldPlace::Top,
                    (FieldPlace::Top, b'{', b"request") => FieldPlace::Request,
                    (FieldPlace::Request, b'{', b"headers") => FieldPlace::Headers,
                    (FieldPlace::Headers, b'[', b"User-Agent") => FieldPlace::Agent,
                    _ => FieldPlace::Other,
                };
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            b'0'..=b'9' => {
                let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-');
                let len = line.get(at..)?.iter().take_while(|b| is_part(b)).count();
                found.value(place, line, key.clone(), at..at + len);
                at += len;
            }
            _ => at += 1,
        }
    }
    let AccessFields { client, path, agent, status, stamp, .. } = found;
    Some((client, HttpRequest { path: without_query(line, path?), agent, status: status?, stamp }))
}

impl AccessFields {
    fn value(&mut self, place: FieldPlace, line: &[u8], key: Range<usize>, range: Range<usize>) {
        let (key, text) = (line.get(key).unwrap_or_default(), line.get(range.clone()).unwrap_or_default());
        let addr = || parse_addr(text).map_or(AccessClient::Unknown, AccessClient::Addr);
        match (place, key) {
            (FieldPlace::Top | FieldPlace::Request, b"client_ip") => {
                (self.client, self.certain) = (addr(), true)
            }
            (FieldPlace::Top | FieldPlace::Request, b"remote_ip")
            | (FieldPlace::Top, b"ClientHost" | b"remote_addr")
                if !self.certain =>
            {
                self.client = addr();
            }
            (FieldPlace::Top | FieldPlace::Request, b"uri")
            | (FieldPlace::Top, b"RequestPath" | b"request_uri") => {
                self.path = Some(range);
            }
            (FieldPlace::Top, b"status" | b"DownstreamStatus") => {
                self.status = number(text).filter(|&n| n < 1000)
            }
            (FieldPlace::Top, b"request_User-Agent" | b"http_user_agent") | (FieldPlace::Agent, _) => {
                self.agent = range;
            }
            (FieldPlace::Top, b"StartUTC" | b"time" | b"time_iso8601") => {
                self.stamp = header::iso(text).or(self.stamp);
            }
            (FieldPlace::Top, b"ts") => {
                let whole = text.split(|&b| b == b'.').next().and_then(|t| std::str::from_utf8(t).ok());
                self.stamp = whole.and_then(|t| t.parse().ok()).map(HeaderStamp::Unix);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
