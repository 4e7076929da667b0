#![forbid(unsafe_code)]
//! Allow and deny lists: one address or network per line, and behind it words: `force` takes what looks
//! like a mistake at its word, `until=2026-11-25T21:00:00Z` ends an entry. A deny list may have a million
//! lines, so it is read through a fixed buffer and every entry is handed on immediately.

use super::listline::{ListWord, list_word};
use crate::base::clock::Wall;
use crate::base::diag::{Bad, Problem, Severity};
use crate::sys::fs::invalid;
use ipnet::IpNet;
use std::io::{self, Read};
use std::ops::Range;

/// Longest line of a list, comment included.
pub const LIST_LINE_MAX: usize = 4096;
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
    pub(super) const fn shortest(self) -> [u8; 2] {
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
    /// An entry, and its line.
    Entry(ListEntry, u32),
    /// A host name in an allow list, whether private addresses are meant, too, and its line.
    Host(&'a str, bool, u32),
    /// What another program would understand, and the line's text.
    Foreign(Problem, &'a str),
    /// No entry: why, and the line's text to show it with (of a longer line its beginning).
    Bad(Problem, &'a str),
}

/// How many lines of a list were good and bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListCounts {
    /// Lines whose entries were handed on.
    pub good: u32,
    /// Lines that are no entry.
    pub bad: u32,
    /// Lines that another program would understand: they are no sign of damage.
    pub foreign: u32,
    /// The last line has no end: what was to follow it may be lost.
    pub cut: bool,
}

impl ListCounts {
    /// More than half of the list is bad: it is no list, or it was cut or garbled, and none of it may be
    /// used.
    #[must_use]
    pub fn refused(self) -> bool {
        self.bad > self.good
    }

    /// Lines that have no effect.
    #[must_use]
    pub fn passed_over(self) -> u32 {
        self.bad.saturating_add(self.foreign)
    }
}

/// Reads a list to its end. `each` gets every line but empty ones and comments. Memory does not grow with the
/// list.
///
/// # Errors
/// What reading returns, and `InvalidInput` for what its first line shows to be no list; entries handed on
/// until then must not be used.
pub fn read_list(
    kind: ListKind,
    input: &mut dyn Read,
    each: &mut dyn FnMut(ListLine<'_>),
) -> io::Result<ListCounts> {
    let mut buffer = vec![0u8; BUFFER];
    let mut lines =
        ListLines { kind, counts: ListCounts::default(), number: 0, skip: false, not_a_list: None, each };
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
        if n == 0 && !data.is_empty() {
            lines.line(data);
            lines.counts.cut = true;
        }
        if let Some(what) = lines.not_a_list {
            return Err(invalid(what));
        }
        if n == 0 {
            return Ok(lines.counts);
        }
        held = data.len();
        if held > LIST_LINE_MAX {
            lines.too_long(data);
            held = 0;
        } else {
            buffer.copy_within(filled - held..filled, 0);
        }
    }
}

/// The same for a list that is already in memory.
pub fn list_lines(kind: ListKind, text: &[u8], each: &mut dyn FnMut(ListLine<'_>)) -> ListCounts {
    let mut text = text;
    // Reading from a slice cannot fail.
    read_list(kind, &mut text, each).unwrap_or_default()
}

struct ListLines<'f> {
    kind: ListKind,
    counts: ListCounts,
    number: u32,
    /// The rest of a line that was too long is passed over.
    skip: bool,
    /// What the first line shows it to be.
    not_a_list: Option<&'static str>,
    each: &'f mut dyn FnMut(ListLine<'_>),
}

impl ListLines<'_> {
    fn line(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.skip) {
            return;
        }
        if bytes.len() > LIST_LINE_MAX {
            self.too_long(bytes);
            self.skip = false;
            return;
        }
        let bytes = self.begun(bytes);
        match list_word(self.kind, bytes) {
            ListWord::Nothing => {}
            ListWord::Entry(entry) => {
                self.counts.good = self.counts.good.saturating_add(1);
                (self.each)(ListLine::Entry(entry, self.number));
            }
            ListWord::Several(entries) => {
                self.counts.good = self.counts.good.saturating_add(1);
                entries.into_iter().for_each(|entry| (self.each)(ListLine::Entry(entry, self.number)));
            }
            ListWord::Host(name, force) => {
                self.counts.good += 1;
                (self.each)(ListLine::Host(name, force, self.number));
            }
            ListWord::Foreign(bad) => {
                self.counts.foreign = self.counts.foreign.saturating_add(1);
                let (problem, text) = self.problem(bytes, *bad);
                (self.each)(ListLine::Foreign(problem, &text));
            }
            ListWord::Bad(bad) => {
                let (problem, text) = self.problem(bytes, *bad);
                self.report(problem, &text);
            }
        }
    }

    /// Counts a line that begins with `bytes`, and sees what the first one tells.
    fn begun<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        self.number = self.number.saturating_add(1);
        if self.number > 1 {
            return bytes;
        }
        self.not_a_list = not_a_list(bytes);
        bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
    }

    fn problem(&self, bytes: &[u8], bad: Bad) -> (Problem, String) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let at = place(bytes, bad.at);
        (Problem::at(Severity::Warning, self.number, &text, at, bad.what, bad.hint), text)
    }

    fn too_long(&mut self, bytes: &[u8]) {
        if std::mem::replace(&mut self.skip, true) {
            return;
        }
        self.begun(bytes);
        let head = String::from_utf8_lossy(bytes.get(..80).unwrap_or(bytes));
        let what = "a line of more than 4096 bytes".to_string();
        let hint = "one address or network per line".to_string();
        self.report(Problem::at(Severity::Warning, self.number, &head, 0..1, what, hint), &head);
    }

    fn report(&mut self, problem: Problem, text: &str) {
        self.counts.bad = self.counts.bad.saturating_add(1);
        (self.each)(ListLine::Bad(problem, text));
    }
}

/// What a file is that begins with such a line, if it is no list at all.
fn not_a_list(first: &[u8]) -> Option<&'static str> {
    const BEGINS: [(&[u8], &str); 9] = [
        (b"\xff\xfe", UTF_16),
        (b"\xfe\xff", UTF_16),
        (b"\x1f\x8b", PACKED),
        (b"BZh", PACKED),
        (b"\xfd7zXZ", PACKED),
        (b"\x28\xb5\x2f\xfd", PACKED),
        (b"PK\x03\x04", PACKED),
        (b"<", "it is a page of HTML or XML, not a list"),
        (b"{\\rtf", "it is a word processor document: save it as plain text"),
    ];
    let begins = BEGINS.iter().find(|(begin, _)| first.trim_ascii_start().starts_with(begin));
    let old_mac = memchr::memchr(b'\r', first).is_some_and(|at| at + 1 < first.len());
    begins.map(|(_, what)| *what).or_else(|| {
        if memchr::memchr(0, first).is_some() {
            return Some("it is not text: it has NUL bytes");
        }
        old_mac.then_some("its lines end in CR alone: save it with Unix line ends")
    })
}

const UTF_16: &str = "it is UTF-16: save it as UTF-8";
const PACKED: &str = "it is compressed: unpack it first";

/// Where bytes of a line are in its text, in which what is no UTF-8 has become marks.
fn place(bytes: &[u8], at: Range<usize>) -> Range<usize> {
    let len = |end| String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).len();
    len(at.start)..len(at.end)
}
