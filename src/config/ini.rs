#![forbid(unsafe_code)]
//! The INI reader: lines to entries that know where they stand. Knows no key and no value.
//!
//! `[section]`, `key=value` with blanks around the `=`, comments behind `#` or `;` at the start of a
//! line or behind a value after a blank. A value may stand in double quotes, which end a comment's
//! power: `"a # b"`. In quotes `\"` is a quote and every other backslash is itself. A value that only begins
//! with a quote (`"GET [^"]*" 404`) is taken as it stands, so that patterns need no quoting.

use crate::base::diag::{Bad, Problem, Severity};
use std::borrow::Cow;
use std::ops::Range;

/// Longest line, in bytes.
pub const LINE_MAX: usize = 8 * 1024;
/// Problems reported of one file: the ten-thousandth helps nobody.
const PROBLEMS_MAX: usize = 200;

/// One `key=value` and where it stands.
#[derive(Clone, Copy)]
pub(super) struct IniEntry<'a> {
    /// The section's name.
    pub section: &'a str,
    /// Without blanks around it.
    pub key: &'a str,
    /// Without blanks, comment and enclosing quotes; a slice of the line.
    pub value: &'a str,
    /// The value stood in quotes.
    pub quoted: bool,
    /// Everything behind the value.
    pub comment: &'a str,
    /// Line, counted from 1.
    pub line: u32,
    text: &'a str,
}

impl<'a> IniEntry<'a> {
    /// The value with `\"` inside quotes turned into `"`.
    pub fn unquoted(&self) -> Cow<'a, str> {
        if !self.quoted || !has(self.value, "\\\"") {
            return Cow::Borrowed(self.value);
        }
        let mut out = String::with_capacity(self.value.len());
        let mut chars = self.value.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('\\', Some('"')) => {}
                ('\\', Some(_)) => {
                    out.push(c);
                    out.extend(chars.next());
                }
                _ => out.push(c),
            }
        }
        Cow::Owned(out)
    }

    /// The same line read in another way: key and value are parts of it.
    pub fn reread(&self, key: &'a str, value: &'a str) -> IniEntry<'a> {
        IniEntry { key, value, ..*self }
    }

    /// A problem that marks the key.
    pub fn key_problem(&self, severity: Severity, what: String, hint: String) -> Problem {
        Problem::at(severity, self.line, self.text, self.place(self.key), what, hint)
    }

    /// A problem that marks the faulty part of the value, or the key when the value is empty.
    pub fn value_error(&self, bad: Bad) -> Problem {
        let at = self.place(self.value);
        let part = at.start.saturating_add(bad.at.start)..at.start.saturating_add(bad.at.end).min(at.end);
        let at = if self.value.is_empty() { self.place(self.key) } else { part };
        Problem::at(Severity::Error, self.line, self.text, at, bad.what, bad.hint)
    }

    /// Column of the value in characters, counted from 1.
    pub fn value_col(&self) -> u32 {
        Problem::at(Severity::Error, 0, self.text, self.place(self.value), String::new(), String::new()).col
    }

    /// Where in the line `part` stands, which is a slice of it.
    fn place(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + part.len()
    }
}

/// Whether `part` stands somewhere in `text`. The library's search is made for long texts, and as long
/// itself.
pub(super) fn has(text: &str, part: &str) -> bool {
    text.as_bytes().windows(part.len()).any(|w| w == part.as_bytes())
}

/// Reads `text` and calls `each` with every entry of the `sections` that are known. Of a broken line a
/// problem is kept and reading goes on; the entries below an unknown or broken header are skipped.
pub(super) fn read<'a>(
    text: &'a str,
    sections: &[&str],
    problems: &mut Vec<Problem>,
    each: &mut dyn FnMut(&IniEntry<'a>, &mut Vec<Problem>),
) {
    let mut section = Some("");
    // Words of other programs are told even where their section is.
    let rules = sections.contains(&"rule");
    for (line, text) in (1u32..).zip(text.lines()) {
        if problems.len() >= PROBLEMS_MAX {
            let hint = "the rest of the file was not read".to_string();
            problems.push(Problem::whole(Severity::Error, "too many problems".into(), hint));
            return;
        }
        let trimmed = text.trim_ascii();
        if text.len() > LINE_MAX {
            let what = ["a line of ", &text.len().to_string(), " bytes"].concat();
            problems.push(Problem::at(
                Severity::Error,
                line,
                text,
                0..0,
                what,
                "at most 8192 are allowed".into(),
            ));
        } else if trimmed.starts_with('[') {
            section = header(line, text, sections, problems);
        } else if !trimmed.is_empty() && !trimmed.starts_with(['#', ';']) {
            match (entry(line, text, section.unwrap_or("")), section) {
                (Err(problem), _) => problems.push(problem),
                (Ok(e), None) => problems.extend(rules.then(|| super::foreign::in_rule(&e)).flatten()),
                (Ok(e), Some("")) => {
                    let hint = ["put [", sections.first().unwrap_or(&""), "] above it"].concat();
                    problems.push(e.key_problem(
                        Severity::Error,
                        "a key outside of any section".into(),
                        hint,
                    ));
                }
                (Ok(e), Some(_)) => each(&e, problems),
            }
        }
    }
}

/// The name in `[name]`, if it is known.
fn header<'a>(line: u32, text: &'a str, sections: &[&str], problems: &mut Vec<Problem>) -> Option<&'a str> {
    let start = text.len() - text.trim_ascii_start().len();
    let inner = text.trim_ascii_start().strip_prefix('[').unwrap_or("");
    let (name, rest) = match inner.split_once(']') {
        Some((name, rest))
            if rest.trim_ascii().is_empty() || rest.trim_ascii_start().starts_with(['#', ';']) =>
        {
            (name, rest)
        }
        _ => {
            let at = start..text.trim_ascii_end().len();
            let hint = "expected [section] on a line of its own".to_string();
            problems.push(Problem::at(
                Severity::Error,
                line,
                text,
                at,
                "a broken section header".into(),
                hint,
            ));
            return None;
        }
    };
    let known = name.trim_ascii();
    if sections.contains(&known) {
        return Some(known);
    }
    let mut hint = ["its keys have no effect; known: ", &sections.join(", ")].concat();
    let rules = sections.contains(&"rule");
    if let Some(instead) = super::foreign::section(known).filter(|_| rules) {
        hint = ["its keys have no effect; ", instead].concat();
    } else if let Some(near) = crate::base::diag::suggest(known, sections.iter().copied()) {
        hint = ["its keys have no effect; did you mean [", near, "]?"].concat();
    }
    let at = start..text.len() - rest.len();
    problems.push(Problem::at(
        Severity::Warning,
        line,
        text,
        at,
        ["unknown section [", known, "]"].concat(),
        hint,
    ));
    None
}

/// Cuts a line into key, value and comment.
fn entry<'a>(line: u32, text: &'a str, section: &'a str) -> Result<IniEntry<'a>, Problem> {
    let start = text.len() - text.trim_ascii_start().len();
    let wrong = |at: Range<usize>, what: &str, hint: &str| {
        Err(Problem::at(Severity::Error, line, text, at, what.to_string(), hint.to_string()))
    };
    let Some((key, right)) = text.split_once('=') else {
        let hint = match start {
            0 => "expected key=value, [section] or # comment",
            _ => "lines cannot be continued: repeat failregex= before each further pattern",
        };
        return wrong(start..text.trim_ascii_end().len(), "a line that is not a setting", hint);
    };
    let key = key.trim_ascii();
    if key.is_empty() {
        return wrong(start..start + 1, "a value without a key", "expected key=value");
    }
    let (value, quoted, comment) = quoted(right).unwrap_or_else(|| plain(right));
    let ctrl = |s: &str| s.contains(|c: char| c.is_control() && c != '\t');
    if ctrl(key) || ctrl(value) {
        let at = text.char_indices().find(|(_, c)| c.is_control() && *c != '\t').map_or(start, |(at, _)| at);
        return wrong(at..at + 1, "a control character", "remove it; in a pattern write it as \\x1b");
    }
    Ok(IniEntry { section, key, value, quoted, comment, line, text })
}

/// The value in quotes, if quotes enclose all of it: only blanks or a comment may follow.
fn quoted(right: &str) -> Option<(&str, bool, &str)> {
    let inner = right.trim_ascii_start().strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.find(|c: char| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    let (value, rest) = inner.split_at_checked(end)?;
    let rest = rest.strip_prefix('"')?;
    let comment = rest.trim_ascii_start();
    let blank = rest.len() != comment.len();
    (comment.is_empty() || blank && comment.starts_with(['#', ';'])).then_some((value, true, comment))
}

/// The value up to a comment, which begins at a `#` or `;` behind a blank.
fn plain(right: &str) -> (&str, bool, &str) {
    let mut blank = false;
    let end = right.find(|c: char| {
        let comment = blank && matches!(c, '#' | ';');
        blank = c.is_ascii_whitespace();
        comment
    });
    let (value, comment) = right.split_at_checked(end.unwrap_or(right.len())).unwrap_or((right, ""));
    (value.trim_ascii(), false, comment)
}
