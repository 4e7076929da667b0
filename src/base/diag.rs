#![forbid(unsafe_code)]
//! Problems in files that people write, shown with the line and the offending word marked.

use super::width;
use std::fmt::Write as _;
use std::ops::Range;

/// Characters of a long line that are shown.
const LINE_SHOWN: usize = 240;

/// How bad a problem is. Only errors make a file refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file works, and says something that is no longer needed. Shown as a warning.
    Obsolete,
    /// The file works, something in it has no effect or looks wrong.
    Warning,
    /// The file is refused.
    Error,
}

/// One thing wrong at one place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// Line, counted from 1; 0 means the file as a whole.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub col: u32,
    /// Characters to mark, at least 1.
    pub len: u32,
    /// What is wrong, naming the word.
    pub what: String,
    /// What was expected or what to do; may be empty.
    pub hint: String,
    /// In which text, of several that make up one thing.
    pub part: usize,
}

impl Problem {
    /// A problem at the byte range `at` of line number `line`, whose text is `text`.
    #[must_use]
    pub fn at(
        severity: Severity,
        line: u32,
        text: &str,
        at: Range<usize>,
        what: String,
        hint: String,
    ) -> Problem {
        let start = chars(text, at.start);
        let len = chars(text, at.end).saturating_sub(start).max(1);
        Problem { severity, line, col: start.saturating_add(1), len, what, hint, part: 0 }
    }

    /// A problem with the file as a whole.
    #[must_use]
    pub fn whole(severity: Severity, what: String, hint: String) -> Problem {
        Problem { severity, line: 0, col: 1, len: 1, what, hint, part: 0 }
    }

    /// Shows the problem in the form `path:line:col: what`, the line, and the mark under the word.
    /// `text` is the text that was parsed, so that the view never differs from what was judged.
    #[must_use]
    pub fn render(&self, path: &str, text: &str) -> String {
        if self.line == 0 {
            let kind = if self.severity < Severity::Error { "warning: " } else { "" };
            let mut out = String::new();
            let _ = write!(out, "{path}: {kind}{}", self.what);
            if !self.hint.is_empty() {
                let _ = write!(out, " ({})", self.hint);
            }
            out.push('\n');
            return out;
        }
        self.render_line(path, text.lines().nth(self.line as usize - 1).unwrap_or(""))
    }

    /// The same where only the text of the line is at hand.
    #[must_use]
    pub fn render_line(&self, path: &str, line: &str) -> String {
        let mut out = String::new();
        let kind = if self.severity < Severity::Error { "warning: " } else { "" };
        let _ = writeln!(out, "{path}:{}:{}: {kind}{}", self.line, self.col, self.what);
        let _ = write!(out, "{:>5} | ", self.line);
        // Of a line that no terminal shows, the part around the mark.
        let at = self.col.saturating_sub(1) as usize;
        let long = line.chars().nth(LINE_SHOWN).is_some();
        let from = if long { at.saturating_sub(LINE_SHOWN / 3) } else { 0 };
        let part = || line.chars().skip(from).take(LINE_SHOWN);
        out.push_str(if from > 0 { "..." } else { "" });
        out.extend(part().map(printable));
        out.push_str(if line.chars().nth(from + LINE_SHOWN).is_some() { "..." } else { "" });
        out.push_str("\n      | ");
        out.push_str(if from > 0 { "   " } else { "" });
        let (mark, mut marked) = (at - from, 0);
        // Below a character stands as much as it is wide.
        for (place, c) in part().map(printable).enumerate().take(mark.saturating_add(self.len as usize)) {
            let columns = width::of(c);
            match place < mark {
                true if c == '\t' => out.push(c),
                true => out.extend(std::iter::repeat_n(' ', columns)),
                false => marked += columns,
            }
        }
        out.push('^');
        out.extend(std::iter::repeat_n('~', marked.saturating_sub(1)));
        if !self.hint.is_empty() {
            let _ = write!(out, " {}", self.hint);
        }
        out.push('\n');
        out
    }
}

/// What is wrong with a value, and which bytes of it are to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Byte range within the value.
    pub at: Range<usize>,
    /// What is wrong, naming the word.
    pub what: String,
    /// What was expected.
    pub hint: String,
}

/// A value, or what is wrong with it: behind a pointer, since it is handed through many hands.
pub type Checked<T> = Result<T, Box<Bad>>;

impl Bad {
    /// Blames these bytes.
    #[must_use]
    pub fn new(at: Range<usize>, what: String, hint: &str) -> Box<Bad> {
        Box::new(Bad { at, what, hint: hint.to_owned() })
    }

    /// Blames `word`, which begins `at` bytes into the value: "'word' why", and what was expected.
    #[must_use]
    pub fn word(at: usize, word: &str, why: &str, hint: &str) -> Box<Bad> {
        Bad::new(at..at + word.len(), ["'", word, "' ", why].concat(), hint)
    }

    /// The same in a value that begins `by` bytes further on.
    #[must_use]
    pub fn moved(mut self: Box<Self>, by: usize) -> Box<Bad> {
        self.at = self.at.start + by..self.at.end + by;
        self
    }
}

/// Characters of `text` that begin before byte `end`.
fn chars(text: &str, end: usize) -> u32 {
    let n = text.char_indices().take_while(|(at, _)| *at < end).count();
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The text without a byte order mark, if it is UTF-8 without NUL; otherwise one problem that says where it
/// is not.
pub fn decode<'a>(bytes: &'a [u8], problems: &mut Vec<Problem>) -> Option<&'a str> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (good, what) = match std::str::from_utf8(bytes) {
        Ok(text) => match bytes.iter().position(|&b| b == 0) {
            None => return Some(text),
            Some(nul) => (nul, "a NUL byte"),
        },
        Err(e) => match bytes.iter().position(|&b| b == 0).filter(|&nul| nul < e.valid_up_to()) {
            Some(nul) => (nul, "a NUL byte"),
            None => (e.valid_up_to(), "a byte that is not UTF-8"),
        },
    };
    let before = bytes.get(..good).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("");
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    let text = before.rsplit('\n').next().unwrap_or("");
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    let hint = "the file must be plain text in UTF-8".to_string();
    problems.push(Problem::at(Severity::Error, line, text, text.len()..text.len(), what.to_string(), hint));
    None
}

/// Control characters must not reach a terminal.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

/// The known word that `word` was probably meant to be: at most two edits away, one for short words; or the
/// only one that it is a part of, or that is short for it, as fwd for forward.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(word, &mut known.into_iter())
}

/// Once for all kinds of lists.
fn nearest<'a>(word: &str, known: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if word.len() < 4 { 1 } else { 2 };
    let is_one_word = word.len() > 3 && word.bytes().all(|b| b.is_ascii_alphanumeric());
    let (mut near, mut nearest, mut related, mut count) = (None, limit + 1, None, 0);
    for one in known {
        // Capitals are no mistake of letters.
        let same = word.eq_ignore_ascii_case(one);
        let edits = if same { 0 } else { distance(word.as_bytes(), one.as_bytes()) };
        if edits < nearest {
            (near, nearest) = (Some(one), edits);
        }
        if is_one_word && (one.contains(word) || is_short_for(one, word)) {
            (related, count) = (Some(one), count + 1);
        }
    }
    near.or_else(|| related.filter(|_| count == 1))
}

/// Whether three letters or more of `word`, its first among them, are `short`.
fn is_short_for(short: &str, word: &str) -> bool {
    let mut rest = word.bytes();
    short.len() > 2
        && short.as_bytes().first() == word.as_bytes().first()
        && short.bytes().all(|letter| rest.any(|of| of == letter))
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other; words over 32 bytes never
/// match.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const MAX: usize = 32;
    if a.len() > MAX || b.len() > MAX {
        return usize::MAX;
    }
    let mut rows = [[0usize; MAX + 1]; 3];
    for (j, cell) in rows[1].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[1][j] + 1).min(rows[2][j - 1] + 1).min(rows[1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_and_marks_the_word() {
        let p = Problem {
            severity: Severity::Error,
            line: 2,
            col: 27,
            len: 9,
            what: "unknown protocol 'tpc'".into(),
            hint: "did you mean 'tcp'?".into(),
            part: 0,
        };
        let text = "# first\nrule dir=in action=accept proto=tpc dport=22\n";
        assert_eq!(
            p.render("mef.rules", text),
            "mef.rules:2:27: unknown protocol 'tpc'\n    2 | rule dir=in action=accept proto=tpc \
             dport=22\n      | \
             \u{20}                         ^~~~~~~~~ did you mean 'tcp'?\n"
        );
        assert!(!p.render("f", "x\n\x1b[31mred\n").contains('\x1b'));
        // The mark stands below wide characters as wide as they are.
        let wide = Problem { line: 1, col: 4, len: 2, hint: String::new(), ..p };
        let shown = wide.render("f", "a漢 字b\n");
        assert_eq!(shown.lines().skip(1).collect::<Vec<_>>(), ["    1 | a漢 字b", "      |     ^~~"]);
    }

    #[test]
    fn suggestions_are_near_words_only() {
        let known = ["maxretry", "findtime", "bantime", "tcp", "udp", "fwd", "log-level", "log-group"];
        let cases = [
            ("maxrety", Some("maxretry")),
            ("fnidtime", Some("findtime")),
            ("tpc", Some("tcp")),
            ("TCP", Some("tcp")),
            ("MAXRETRY", Some("maxretry")),
            ("zzz", None),
            ("forward", Some("fwd")),
            ("level", Some("log-level")),
            ("time", None),
            ("retry", Some("maxretry")),
            ("to", None),
            ("fwd,tcp/upd", None),
        ];
        for (word, want) in cases {
            assert_eq!(suggest(word, known), want, "{word}");
        }
    }
}
