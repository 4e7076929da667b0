#![forbid(unsafe_code)]
//! One line of text in a fixed buffer, safe for a log and a terminal whatever is written into it.

use std::fmt::{self, Write as _};

/// Longest line, bytes. Every syslog daemon takes it whole.
const MAX: usize = 1024;
/// What a line that was cut ends with.
const CUT: &[u8] = b"...";

/// A character that nft can read back between the quotes in which it lists it: it knows no escapes.
#[must_use]
pub fn quotable(c: char) -> char {
    match c {
        '"' => '\'',
        c if c.is_control() => '?',
        c => c,
    }
}

/// Likewise where it looks for variables.
#[must_use]
pub fn quotable_plain(c: char) -> char {
    if c == '$' { '_' } else { quotable(c) }
}

/// A line under construction. Control characters become escapes such as `\x1b`, characters that turn the
/// direction of writing become `\u{202e}`; what does not fit is cut off between characters.
pub struct Line {
    bytes: [u8; MAX],
    len: usize,
    cut: bool,
}

impl Line {
    /// An empty line.
    #[must_use]
    pub fn new() -> Line {
        Line { bytes: [0; MAX], len: 0, cut: false }
    }

    /// What has been written, without a newline.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// The same with a newline.
    #[must_use]
    pub fn with_newline(&mut self) -> &[u8] {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = b'\n';
        }
        self.bytes.get(..=self.len).unwrap_or(b"\n")
    }

    /// Appends what fits; room for the mark of a cut and for the newline is always kept.
    fn put(&mut self, text: &[u8]) {
        if self.cut {
            return;
        }
        let room = MAX - 1 - CUT.len();
        let fits = self.len + text.len() <= room;
        let text = if fits { text } else { CUT };
        if let Some(slot) = self.bytes.get_mut(self.len..self.len + text.len()) {
            slot.copy_from_slice(text);
            self.len += text.len();
        }
        self.cut = !fits;
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if harmless(c) {
                self.put(c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                // Escapes are whole or not there.
                self.put(escape(c).as_bytes());
            }
            if self.cut {
                break;
            }
        }
        Ok(())
    }
}

/// What is written in place of a character that is not harmless.
fn escape(c: char) -> String {
    match u32::from(c) {
        low @ 0..=0xff => format!("\\x{low:02x}"),
        high => format!("\\u{{{high:x}}}"),
    }
}

/// A text of somebody else, made as safe as a [`Line`].
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let _ = write!(shown, "{}", SafeText(text));
    shown
}

/// The same where it is written.
pub struct SafeText<'a>(pub &'a str);

impl fmt::Display for SafeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        loop {
            // Most texts are plain: they go over in one piece.
            let end = rest.bytes().position(|b| !matches!(b, b' '..=b'~')).unwrap_or(rest.len());
            let (plain, other) = rest.split_at_checked(end).unwrap_or((rest, ""));
            f.write_str(plain)?;
            let mut chars = other.chars();
            match chars.next() {
                None => return Ok(()),
                Some(c) if harmless(c) => f.write_char(c)?,
                Some(c) => f.write_str(&escape(c))?,
            }
            rest = chars.as_str();
        }
    }
}

/// Whether a character shows as itself and moves nothing else.
fn harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        && !matches!(c, '\u{61c}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        && !matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Bytes that may be anything, for writing into a `Line`: what is not UTF-8 becomes `\xNN`.
pub struct Raw<'a>(pub &'a [u8]);

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut line = Line::new();
        write!(line, "{}", Raw(bytes)).unwrap();
        String::from_utf8(line.bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_text_is_shown_as_in_a_line() {
        for text in ["", "scans \\ \"x\"", "a\nb\x1b[31m", "caf\u{e9} \u{9b}2J", "\u{202e}drow \u{feff}"] {
            let mut line = Line::new();
            line.write_str(text).unwrap();
            assert_eq!(super::shown(text).as_bytes(), line.bytes(), "{text}");
        }
    }

    #[test]
    fn nothing_dangerous_gets_through() {
        let cases: &[(&[u8], &str)] = &[
            (b"root from 192.0.2.1", "root from 192.0.2.1"),
            (b"a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"),
            (b"\x1b[31mred\x07\x7f\0", "\\x1b[31mred\\x07\\x7f\\x00"),
            ("caf\u{e9} \u{9b}2J".as_bytes(), "caf\u{e9} \\x9b2J"),
            ("\u{202e}drow".as_bytes(), "\\u{202e}drow"),
            ("\u{61c}a\u{e0041}".as_bytes(), "\\u{61c}a\\u{e0041}"),
            (b"\xff\xc3", "\\xff\\xc3"),
            (b"", ""),
        ];
        for (bytes, want) in cases {
            assert_eq!(shown(bytes), *want);
        }
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let room = MAX - 1 - CUT.len();
        assert_eq!(shown(&vec![b'x'; room]).len(), room);
        assert!(shown(&vec![b'x'; room + 1]).ends_with("x..."));
        for pad in 0..8 {
            let text = "x".repeat(room - pad) + "\u{e9}\u{e9}\u{202e}\u{202e}";
            let line = shown(text.as_bytes());
            assert!(line.ends_with("...") && !line.contains("\\..") && line.len() < MAX, "{pad}: {line}");
        }
        let mut line = Line::new();
        let _ = line.write_str(&"y".repeat(5000));
        assert_eq!((line.with_newline().len(), line.with_newline().last()), (MAX, Some(&b'\n')));
    }

    #[test]
    fn any_bytes_make_one_printable_line() {
        let seed = 11;
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..5000 {
            let bytes: Vec<u8> = (0..rng.usize(0..2000)).map(|_| rng.u8(..)).collect();
            let line = shown(&bytes);
            assert!(line.len() < MAX && line.chars().all(harmless), "seed {seed} round {round}: {line}");
        }
    }
}
