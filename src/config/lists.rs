#![forbid(unsafe_code)]
//! Allow and deny lists: one address or network a line. A deny list may have a million lines, so it is read
//! through a fixed buffer and every entry is handed on at once.

use super::value;
use crate::base::diag::{Problem, Severity};
use ipnet::IpNet;
use std::io::{self, Read};

/// Longest line of a list, comment included.
const LINE_MAX: usize = 4096;
const BUFFER: usize = 16 * 1024;

/// What one line of a list is.
pub enum ListLine<'a> {
    /// An entry.
    Net(IpNet),
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
pub fn read_list(input: &mut dyn Read, each: &mut dyn FnMut(ListLine<'_>)) -> io::Result<Counts> {
    let mut buffer = vec![0u8; BUFFER];
    let mut lines = Lines { counts: Counts::default(), number: 0, skip: false, each };
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
pub fn list_lines(text: &[u8], each: &mut dyn FnMut(ListLine<'_>)) -> Counts {
    let mut text = text;
    // Reading from a slice cannot fail.
    read_list(&mut text, each).unwrap_or_default()
}

struct Lines<'f> {
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
        let word = bytes.split(|b| matches!(b, b'#' | b';')).next().unwrap_or_default().trim_ascii();
        if word.is_empty() {
            return;
        }
        let net = std::str::from_utf8(word).ok().and_then(|word| value::net(word).ok());
        match net {
            Some(net) => {
                self.counts.good = self.counts.good.saturating_add(1);
                (self.each)(ListLine::Net(net));
            }
            None => self.bad(bytes, word),
        }
    }

    /// The slow way, for a line that is known to be bad.
    fn bad(&mut self, bytes: &[u8], word: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let word = String::from_utf8_lossy(word);
        // Only blanks stand before the word, so its place is the same in the text with the marks put in.
        let start = bytes.len() - bytes.trim_ascii_start().len();
        let at = start..start + word.len();
        let (what, hint) = match value::net(&word) {
            Err(bad) => (bad.what, bad.hint),
            Ok(_) => ("bytes that are not UTF-8".to_string(), String::new()),
        };
        self.report(Problem::at(Severity::Warning, self.number, &text, at, what, hint), &text);
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
