#![forbid(unsafe_code)]
//! Allow and deny lists: one address or network a line, and behind it words: `force` takes what looks like a
//! mistake at its word, `until=2026-11-25T21:00:00Z` ends an entry. A deny list may have a million lines, so it is
//! read through a fixed buffer and every entry is handed on at once.

use super::value;
use crate::base::clock::Wall;
use crate::base::diag::{Bad, Problem, Severity};
use crate::base::utc;
use ipnet::{IpNet, Ipv4Net};
use std::io::{self, Read};
use std::ops::Range;

/// Longest line of a list, comment included.
const LINE_MAX: usize = 4096;
const BUFFER: usize = 16 * 1024;

/// What a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Who is never banned. Host names have their place here.
    Allow,
    /// Who is always dropped.
    Deny,
}

impl ListKind {
    /// The shortest prefixes, IPv4 and IPv6, that nobody writes by mistake.
    const fn shortest(self) -> [u8; 2] {
        match self {
            ListKind::Allow => [1, 1],
            ListKind::Deny => [8, 16],
        }
    }
}

/// An entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListEntry {
    /// Whom it names.
    pub net: IpNet,
    /// When it ends, if it does.
    pub until: Option<Wall>,
    /// Taken at its word, however wide it is and whoever is in it.
    pub force: bool,
}

/// What one line of a list is.
pub enum ListLine<'a> {
    /// An entry.
    Entry(ListEntry),
    /// A host name in an allow list, and its line.
    Host(&'a str, u32),
    /// No entry: why, and the line's text to show it with (of a longer line its beginning).
    Bad(Problem, &'a str),
}

/// How many lines of a list were good and bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Entries handed on.
    pub good: u32,
    /// Lines that are no entry.
    pub bad: u32,
}

impl Counts {
    /// More than half of the list is bad: it is no list, or it was cut or garbled, and none of it may be used.
    #[must_use]
    pub fn refused(self) -> bool {
        self.bad > self.good
    }
}

/// Reads a list to its end. `each` gets every line but empty ones and comments. Memory does not grow with the list.
///
/// # Errors
/// What reading returns; entries handed on until then must not be used.
pub fn read_list(
    kind: ListKind,
    input: &mut dyn Read,
    each: &mut dyn FnMut(ListLine<'_>),
) -> io::Result<Counts> {
    let mut buffer = vec![0u8; BUFFER];
    let mut lines = Lines { kind, counts: Counts::default(), number: 0, skip: false, each };
    let mut held = 0;
    loop {
        let space = buffer.get_mut(held..).unwrap_or_default();
        let n = match input.read(space) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let filled = held + n;
        let mut data = buffer.get(..filled).unwrap_or_default();
        while let Some(end) = memchr::memchr(b'\n', data) {
            let (line, rest) = data.split_at(end);
            lines.line(line);
            data = rest.get(1..).unwrap_or_default();
        }
        if n == 0 {
            if !data.is_empty() {
                lines.line(data);
            }
            return Ok(lines.counts);
        }
        held = data.len();
        if held > LINE_MAX {
            lines.too_long(data);
            held = 0;
        } else {
            buffer.copy_within(filled - held..filled, 0);
        }
    }
}

/// The same for a list that is already in memory.
pub fn list_lines(kind: ListKind, text: &[u8], each: &mut dyn FnMut(ListLine<'_>)) -> Counts {
    let mut text = text;
    // Reading from a slice cannot fail.
    read_list(kind, &mut text, each).unwrap_or_default()
}

/// What stands on a line, without the file around it.
pub enum ListWord<'a> {
    /// Nothing, or a comment.
    Nothing,
    /// An entry.
    Entry(ListEntry),
    /// A host name in an allow list.
    Host(&'a str),
    /// No entry: why, and which bytes of the line are to blame.
    Bad(Box<Bad>),
}

/// Reads one line.
#[must_use]
pub fn list_word(kind: ListKind, line: &[u8]) -> ListWord<'_> {
    let end = line.iter().position(|b| matches!(b, b'#' | b';')).unwrap_or(line.len());
    let text = line.get(..end).unwrap_or_default();
    let start = text.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(end);
    let text = text.get(start..).unwrap_or_default().trim_ascii_end();
    if text.is_empty() {
        return ListWord::Nothing;
    }
    if let Some(net) = plain(text).filter(|net| net.prefix_len() >= kind.shortest()[0]) {
        return ListWord::Entry(ListEntry { net: IpNet::V4(net), until: None, force: false });
    }
    match std::str::from_utf8(text) {
        Ok(text) => slow(kind, text, start),
        Err(_) => {
            ListWord::Bad(Bad::new(start..start + text.len(), "bytes that are not UTF-8".to_string(), ""))
        }
    }
}

/// An IPv4 address or network in its usual form; everything else is for `slow`.
fn plain(text: &[u8]) -> Option<Ipv4Net> {
    let (mut addr, mut part, mut digits, mut dots) = (0u32, 0u32, 0, 0);
    let mut len = 32;
    for (at, &b) in text.iter().enumerate() {
        match b {
            // No leading zeros: some read them as octal.
            b'0'..=b'9' if digits == 0 || part > 0 => {
                (part, digits) = (part * 10 + u32::from(b - b'0'), digits + 1);
                if part > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && dots < 3 => {
                (addr, part, digits, dots) = (addr << 8 | part, 0, 0, dots + 1);
            }
            b'/' => {
                len = match *text.get(at + 1..)? {
                    [a @ b'0'..=b'9'] => a - b'0',
                    [a @ b'1'..=b'3', b @ b'0'..=b'9'] => (a - b'0') * 10 + (b - b'0'),
                    _ => return None,
                };
                break;
            }
            _ => return None,
        }
    }
    let whole = digits > 0 && dots == 3;
    Ipv4Net::new((addr << 8 | part).into(), len).ok().filter(|_| whole).map(|net| net.trunc())
}

/// Every form. `at` is where the text begins in its line.
fn slow(kind: ListKind, text: &str, at: usize) -> ListWord<'_> {
    let mut words = text.split_ascii_whitespace();
    let word = words.next().unwrap_or("");
    let (mut until, mut force) = (None, false);
    for more in words {
        let begins = at + more.as_ptr().addr() - text.as_ptr().addr();
        let stamp = more.strip_prefix("until=").and_then(utc::parse);
        match (more, stamp) {
            ("force", _) => force = true,
            (_, Some(stamp)) => until = Some(stamp),
            _ => {
                let hint = "expected force, or until=2026-11-25T21:00:00Z";
                return ListWord::Bad(Bad::word(begins, more, "is not known behind an address", hint));
            }
        }
    }
    let net = match value::any_net(word) {
        Ok(net) => net,
        Err(_) if kind == ListKind::Allow && is_host(word) => return ListWord::Host(word),
        Err(bad) => return ListWord::Bad(bad.moved(at)),
    };
    if too_wide(kind, &net) && !force {
        let hint = "write force behind it if that is meant";
        return ListWord::Bad(Bad::word(at, word, "is too large a part of the internet", hint));
    }
    ListWord::Entry(ListEntry { net, until, force })
}

/// Whether nobody names so large a network without meaning to.
#[must_use]
pub fn too_wide(kind: ListKind, net: &IpNet) -> bool {
    let [v4, v6] = kind.shortest();
    net.prefix_len() < if matches!(net, IpNet::V4(_)) { v4 } else { v6 }
}

/// Whether this can be the name of a host (RFC 1123): no address is one.
fn is_host(word: &str) -> bool {
    let label = |l: &str| {
        let good = l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        good && (1..64).contains(&l.len()) && !l.starts_with('-') && !l.ends_with('-')
    };
    let name = word.strip_suffix('.').unwrap_or(word);
    let last = name.rsplit('.').next().unwrap_or("");
    name.len() < 254 && name.split('.').all(label) && last.bytes().any(|b| b.is_ascii_alphabetic())
}

struct Lines<'f> {
    kind: ListKind,
    counts: Counts,
    number: u32,
    /// The rest of a line that was too long is passed over.
    skip: bool,
    each: &'f mut dyn FnMut(ListLine<'_>),
}

impl Lines<'_> {
    fn line(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.skip) {
            return;
        }
        if bytes.len() > LINE_MAX {
            self.too_long(bytes);
            self.skip = false;
            return;
        }
        self.number = self.number.saturating_add(1);
        let bytes =
            if self.number == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
        match list_word(self.kind, bytes) {
            ListWord::Nothing => {}
            ListWord::Entry(entry) => {
                self.counts.good = self.counts.good.saturating_add(1);
                (self.each)(ListLine::Entry(entry));
            }
            ListWord::Host(name) => (self.each)(ListLine::Host(name, self.number)),
            ListWord::Bad(bad) => {
                let Bad { at, what, hint } = *bad;
                let text = String::from_utf8_lossy(bytes);
                let at = place(bytes, at);
                self.report(Problem::at(Severity::Warning, self.number, &text, at, what, hint), &text);
            }
        }
    }

    fn too_long(&mut self, bytes: &[u8]) {
        if std::mem::replace(&mut self.skip, true) {
            return;
        }
        self.number = self.number.saturating_add(1);
        let head = String::from_utf8_lossy(bytes.get(..80).unwrap_or(bytes));
        let what = "a line of more than 4096 bytes".to_string();
        let hint = "one address or network a line".to_string();
        self.report(Problem::at(Severity::Warning, self.number, &head, 0..1, what, hint), &head);
    }

    fn report(&mut self, problem: Problem, text: &str) {
        self.counts.bad = self.counts.bad.saturating_add(1);
        (self.each)(ListLine::Bad(problem, text));
    }
}

/// Where bytes of a line are in its text, in which what is no UTF-8 has become marks.
fn place(bytes: &[u8], at: Range<usize>) -> Range<usize> {
    let len = |end| String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).len();
    len(at.start)..len(at.end)
}
