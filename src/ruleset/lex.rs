#![forbid(unsafe_code)]
//! A line of mef.rules into a statement's word, its `key=value` pairs and the comment behind it. Knows no
//! key.

use smallvec::SmallVec;
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
pub struct StatementLine<'a> {
    /// The first word; empty if there is no statement.
    pub word: &'a str,
    /// Where it begins, in bytes.
    pub word_at: usize,
    /// The pairs in the order of the line.
    pub pairs: SmallVec<[Pair<'a>; 8]>,
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

/// Cuts a line into the parts of `line`, which holds nothing yet.
///
/// # Errors
/// What cannot be cut: the first fault of the line.
pub fn cut<'a>(text: &'a str, line: &mut StatementLine<'a>) -> Result<(), Broken> {
    let bytes = text.as_bytes();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or("");
    let mut at = 0;
    if let Some(c) = bytes.iter().position(|&b| b < b' ' && b != b'\t' || b == 0x7f) {
        return Err(Broken { at: c..c + 1, what: "a control character", hint: "remove it" });
    }
    loop {
        while let Some(b' ' | b'\t') = bytes.get(at) {
            at += 1;
        }
        if let None | Some(b'#') = bytes.get(at) {
            line.comment = part(at, bytes.len()).trim_ascii_end();
            return Ok(());
        }
        let end = until(bytes, at, b'=');
        let (key, is_key) = (part(at, end), bytes.get(end) == Some(&b'='));
        let wrong = |what, hint| Err(Broken { at: at..end.max(at + 1), what, hint });
        if line.word.is_empty() {
            if is_key {
                return wrong(
                    "a key without a statement",
                    "expected policy, rule, set or include at the line's start",
                );
            }
            (line.word, line.word_at) = (key, at);
            at = end;
            continue;
        }
        if !is_key || key.is_empty() {
            return wrong("a word that is not key=value", "spaces are allowed in double quotes only");
        }
        let quoted = bytes.get(end + 1) == Some(&b'"');
        let value_at = end + 1 + usize::from(quoted);
        let mut value_end = until(bytes, value_at, b' ');
        if quoted {
            let Some(len) = closing(part(value_at, bytes.len())) else {
                return wrong("quotes that are not closed", "a \" inside them is written \\\"");
            };
            value_end = value_at + len;
        }
        let raw = part(value_at, value_end);
        let pair = Pair { key, key_at: at, raw, value_at, quoted };
        at = value_end + usize::from(quoted);
        if quoted && !matches!(bytes.get(at), None | Some(b' ' | b'\t')) {
            return Err(Broken { at: at..at + 1, what: "text after the quotes", hint: "expected a space" });
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

/// Where the first blank, or `end`, is from `from` on.
fn until(bytes: &[u8], from: usize, end: u8) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|&b| b == b' ' || b == b'\t' || b == end).unwrap_or(rest.len())
}

/// Where the quotes end that enclose the start of `inner`.
fn closing(inner: &str) -> Option<usize> {
    let mut before = 0;
    inner.bytes().position(|b| {
        let ends = b == b'"' && before != b'\\';
        before = b;
        ends
    })
}
