#![forbid(unsafe_code)]
//! What tables and screens for people share: widths, local time, colours.

use crate::base::clock::Wall;
use crate::base::json::Object;
use crate::base::utc;
use crate::base::width::{fitting, width as columns_of};
use crate::sys::{clock, stdio};
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// Where a line is cut: at the width of the terminal, nowhere else.
pub(super) fn width() -> usize {
    stdio::columns().filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}

/// Writes a line, cut to a width; `…` stands for what is missing.
pub(super) fn line(out: &mut dyn Write, text: &str, width: usize) -> io::Result<()> {
    let text = text.trim_end();
    match cut_at(text, width) {
        None => writeln!(out, "{text}"),
        Some(part) => writeln!(out, "{part}…"),
    }
}

/// A line, and behind it why it is so; below it where that has no room: it is what was asked for.
pub(super) fn explained(out: &mut dyn Write, line: &str, why: &str) -> io::Result<()> {
    explain(out, line, why, width())
}

fn explain(out: &mut dyn Write, text: &str, why: &str, width: usize) -> io::Result<()> {
    let whole = [text, "  ", why].concat();
    if why.is_empty() || columns_of(&whole) <= width {
        return line(out, &whole, width);
    }
    line(out, text, width)?;
    out.write_all(wrapped(&["    ", why].concat(), width).as_bytes())
}

/// How a line is written.
type LineForm = fn(&mut dyn Write, &str, usize) -> io::Result<()>;

/// Makes something else of every line that is written.
pub(super) struct EachLine<'a> {
    out: &'a mut dyn Write,
    form: LineForm,
    width: usize,
    held: Vec<u8>,
}

impl<'a> EachLine<'a> {
    /// Cuts it to the width of the terminal.
    pub(super) fn cut(out: &'a mut dyn Write) -> EachLine<'a> {
        EachLine { out, form: line, width: width(), held: Vec::new() }
    }

    /// Makes a JSON object of it; what is indented begins with what is done.
    pub(super) fn objects(out: &'a mut dyn Write) -> EachLine<'a> {
        EachLine { out, form: object, width: 0, held: Vec::new() }
    }
}

fn object(out: &mut dyn Write, line: &str, _: usize) -> io::Result<()> {
    let line = line.trim_end();
    if line.is_empty() {
        return Ok(());
    }
    let step = line.strip_prefix("  ").and_then(|step| step.split_once(' '));
    let object = match step.filter(|(step, _)| step.bytes().all(|b| b.is_ascii_lowercase())) {
        Some((step, text)) => Object::new().text("step", step).text("text", text.trim_start()),
        None => Object::new().text("text", line.trim_start()),
    };
    writeln!(out, "{}", object.finish())
}

impl Write for EachLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            self.held.extend_from_slice(part);
            if part.ends_with(b"\n") {
                (self.form)(self.out, &String::from_utf8_lossy(&self.held), self.width)?;
                self.held.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line cut to a width.
pub(super) fn cut(text: &str, width: usize) -> String {
    let text = text.trim_end();
    cut_at(text, width).map_or_else(|| text.to_owned(), |part| [part, "…"].concat())
}

/// A text whose lines are broken between words where they are wider than a terminal; what follows stands
/// below the beginning of its column.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines() {
        let blanks = |text: &str| text.len() - text.trim_start().len();
        let body = line.trim_start();
        let column = body.find("  ").map_or(0, |at| at + blanks(body.get(at..).unwrap_or_default()));
        let indent = blanks(line) + if column * 2 < width { column } else { 0 };
        let (begin, rest) = line.split_at_checked(indent).unwrap_or(("", line));
        out.push_str(begin);
        let mut used = indent;
        for (at, word) in rest.split(' ').enumerate() {
            let len = columns_of(word);
            if at > 0 && used + 1 + len > width {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', indent));
                used = indent;
            } else if at > 0 {
                out.push(' ');
                used += 1;
            }
            out.push_str(word);
            used += len;
        }
        out.push('\n');
    }
    out
}

/// What is left of a line that is too wide.
fn cut_at(text: &str, width: usize) -> Option<&str> {
    // No character takes more columns than bytes.
    if text.len() <= width || columns_of(text) <= width {
        return None;
    }
    let end = fitting(text, width.saturating_sub(1));
    Some(text.get(..end).unwrap_or(text).trim_end())
}

/// A line of a table, put together in place: long lists allocate nothing for their cells.
#[derive(Default)]
pub(super) struct TableRow {
    text: String,
    /// Where the cell begins that is being written.
    cell: usize,
}

impl TableRow {
    /// Writes more of the cell.
    pub(super) fn put(&mut self, text: &dyn fmt::Display) {
        let _ = write!(self.text, "{text}");
    }

    /// Ends the cell, which is so many columns wide.
    pub(super) fn end(&mut self, width: usize) {
        let used = self.text.get(self.cell..).map_or(0, columns_of);
        self.text.extend(std::iter::repeat_n(' ', width.saturating_sub(used) + 2));
        self.cell = self.text.len();
    }

    /// A whole cell.
    pub(super) fn cell(&mut self, text: &dyn fmt::Display, width: usize) {
        self.put(text);
        self.end(width);
    }

    /// What was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Writes the line, cut to a width, and begins the next one.
    pub(super) fn line(&mut self, out: &mut dyn Write, width: usize) -> io::Result<()> {
        let written = line(out, &self.text, width);
        self.text.clear();
        self.cell = 0;
        written
    }
}

/// A moment for people, in the time zone of this host.
pub(super) struct Local(pub(super) Wall);

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Wall(0) {
            return f.write_str("-");
        }
        let local = self.0.0.saturating_add_signed(offset(self.0).into());
        utc::write_parts(f, Wall(local), [" ", ""])
    }
}

thread_local! {
    /// A quarter of an hour, and the offset in it: no zone changes within one.
    static OFFSET: Cell<(u64, i32)> = const { Cell::new((0, 0)) };
}

/// Seconds east of UTC. Asking is slow, and long lists are in order.
pub(super) fn offset(at: Wall) -> i32 {
    let quarter = at.0 / 900;
    let (known, offset) = OFFSET.get();
    if known == quarter {
        return offset;
    }
    let offset = clock::local_offset(at);
    OFFSET.set((quarter, offset));
    offset
}

/// Whether a screen has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    On,
    Off,
}

/// Colours may be used on a terminal, and unless NO_COLOR says otherwise.
pub(super) fn colours() -> Colours {
    let may = stdio::is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if may { Colours::On } else { Colours::Off }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, width: usize) -> String {
        let mut out = Vec::new();
        line(&mut out, text, width).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_cut_between_characters_and_say_so() {
        let cases = [
            ("abc", 3, "abc\n"),
            ("abcd", 3, "ab…\n"),
            ("a  d", 3, "a…\n"),
            ("äöü", 3, "äöü\n"),
            ("äöüß", 3, "äö…\n"),
            ("abc  ", 3, "abc\n"),
            ("abcd", 1, "…\n"),
            ("abcd", usize::MAX, "abcd\n"),
            ("漢字", 4, "漢字\n"),
            ("漢字字", 5, "漢字…\n"),
            ("漢字字", 4, "漢…\n"),
            ("e\u{301}e", 2, "e\u{301}e\n"),
        ];
        for (text, width, want) in cases {
            assert_eq!(written(text, width), want, "{text} {width}");
            assert_eq!(cut(text, width) + "\n", want, "{text} {width}");
        }
    }
    #[test]
    fn a_reason_without_room_stands_below() {
        let mut out = Vec::new();
        for why in ["", "short"] {
            explain(&mut out, "a      b", why, 20).unwrap();
        }
        explain(&mut out, "a      b", "a reason that is long", 20).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown, "a      b\na      b  short\na      b\n    a reason that is\n    long\n");
    }

    #[test]
    fn long_lines_are_broken_between_words_below_their_column() {
        let text = "Usage: mef x\n\n  --for     how long it is\n  two words\nverylongword a\n";
        assert_eq!(wrapped(text, 200), text);
        assert_eq!(wrapped(text, usize::MAX), text);
        let want = "Usage: mef x\n\n  --for     how long\n            it is\n  two words\nverylongword a\n";
        assert_eq!(wrapped(text, 22), want);
        assert_eq!(wrapped("  a bb ccc\n", 6), "  a bb\n  ccc\n");
        assert_eq!(wrapped("verylong a\n", 4), "verylong\na\n");
    }
}
