#![forbid(unsafe_code)]
//! A line of mef.rules into a statement's word, its `key=value` pairs and the comment behind it. Knows no key.

use std::borrow::Cow;
use std::ops::Range;

/// Most pairs in a statement; there are not so many keys.
pub const PAIRS_MAX: usize = 32;

/// One `key=value` and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// Before the `=`.
    pub key: &'a str,
    /// Where the key begins, in bytes of the line.
    pub key_at: usize,
    /// Behind the `=`, without the quotes around it.
    pub raw: &'a str,
    /// Where `raw` begins, in bytes of the line.
    pub value_at: usize,
    quoted: bool,
}

impl<'a> Pair<'a> {
    /// The value with `\"` inside quotes turned into `"`.
    #[must_use]
    pub fn value(&self) -> Cow<'a, str> {
        if !self.quoted || !self.raw.contains('\\') {
            return Cow::Borrowed(self.raw);
        }
        let mut out = String::with_capacity(self.raw.len());
        let mut chars = self.raw.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '\\' || chars.peek() != Some(&'"') {
                out.push(c);
            }
        }
        Cow::Owned(out)
    }
}

/// What a line holds.
#[derive(Debug, Default)]
pub struct Line<'a> {
    /// The first word; empty if there is no statement.
    pub word: &'a str,
    /// Where it begins, in bytes.
    pub word_at: usize,
    /// The pairs in the order of the line.
    pub pairs: Vec<Pair<'a>>,
    /// From its `#` to the end of the line; empty if there is none.
    pub comment: &'a str,
}

/// Why a line cannot be cut, and which bytes of it are to blame.
pub struct Broken {
    /// The bytes.
    pub at: Range<usize>,
    /// What is wrong.
    pub what: &'static str,
    /// What was expected.
    pub hint: &'static str,
}

/// Cuts a line.
///
/// # Errors
/// What cannot be cut: the first fault of the line.
pub fn cut(text: &str) -> Result<Line<'_>, Broken> {
    let mut line = Line::default();
    let mut at = 0;
    if let Some(c) = text.bytes().position(|b| b.is_ascii_control() && b != b'\t') {
        return Err(Broken { at: c..c + 1, what: "a control character", hint: "remove it" });
    }
    loop {
        let rest = text.get(at..).unwrap_or("");
        at += rest.len() - rest.trim_ascii_start().len();
        let rest = rest.trim_ascii();
        if rest.is_empty() || rest.starts_with('#') {
            line.comment = rest;
            return Ok(line);
        }
        let end = rest.bytes().position(|b| b.is_ascii_whitespace() || b == b'=').unwrap_or(rest.len());
        let (key, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let wrong = |what, hint| Err(Broken { at: at..at + end.max(1), what, hint });
        if line.word.is_empty() {
            if behind.starts_with('=') {
                return wrong(
                    "a key without a statement",
                    "expected policy, rule, set or include at the line's start",
                );
            }
            (line.word, line.word_at) = (key, at);
            at += end;
            continue;
        }
        let Some(value) = behind.strip_prefix('=').filter(|_| !key.is_empty()) else {
            return wrong("a word that is no key=value", "blanks are allowed in double quotes only");
        };
        let value_at = at + end + 1;
        let pair = match value.strip_prefix('"') {
            None => {
                let len = value.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(value.len());
                Pair { key, key_at: at, raw: value.get(..len).unwrap_or(""), value_at, quoted: false }
            }
            Some(inner) => {
                let Some(len) = closing(inner) else {
                    return wrong("quotes that are not closed", "a \" inside of them is written \\\"");
                };
                Pair {
                    key,
                    key_at: at,
                    raw: inner.get(..len).unwrap_or(""),
                    value_at: value_at + 1,
                    quoted: true,
                }
            }
        };
        at = pair.value_at + pair.raw.len() + usize::from(pair.quoted);
        let next = text.as_bytes().get(at);
        if pair.quoted && next.is_some_and(|b| !b.is_ascii_whitespace()) {
            return Err(Broken { at: at..at + 1, what: "text behind the quotes", hint: "expected a blank" });
        }
        if line.pairs.len() == PAIRS_MAX {
            return Err(Broken {
                at: pair.key_at..at,
                what: "too many keys",
                hint: "no statement has so many",
            });
        }
        line.pairs.push(pair);
    }
}

/// Where the quotes end that enclose the start of `inner`.
fn closing(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    (0..bytes.len()).find(|&i| bytes.get(i) == Some(&b'"') && (i == 0 || bytes.get(i - 1) != Some(&b'\\')))
}
