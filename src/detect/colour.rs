#![forbid(unsafe_code)]
//! Text without the escape sequences by which a program colours what it prints. Must not know patterns or
//! rules.
//!
//! Only sequences that change nothing but the looks of text are taken out, so a line says without them what a
//! terminal would show. Whoever can put one into a line could have written the rest of it as well.

use crate::base::bytes::find;
use memchr::memchr;

/// The byte that begins a sequence.
pub(super) const ESCAPE: u8 = 0x1b;
/// How sequences begin: as they are, and as syslog daemons write control characters.
const BEGINS: [&[u8]; 2] = [b"\x1b[", b"#033["];
/// What chooses the usual set of characters, which some programs print with their colours.
const CHARSET: &[u8] = b"\x1b(B";

/// Whether there may be a sequence in a text.
pub(super) fn is_in(text: &[u8]) -> bool {
    memchr(ESCAPE, text).is_some() || find(text, BEGINS[1]).is_some()
}

/// The length of the sequence at the begin of `text`, 0 if there is none.
fn sequence(text: &[u8]) -> usize {
    if text.starts_with(CHARSET) {
        return CHARSET.len();
    }
    let Some(begin) = BEGINS.iter().find(|begin| text.starts_with(begin)) else { return 0 };
    let rest = text.get(begin.len()..).unwrap_or_default();
    let numbers = rest.iter().take_while(|b| b.is_ascii_digit() || matches!(b, b';' | b':')).count();
    match rest.get(numbers) {
        Some(b'm' | b'K') => begin.len() + numbers + 1,
        _ => 0,
    }
}

/// Writes `text` without its sequences to `out`, as far as that has room. How much that is; `None` = there
/// was none.
pub(super) fn strip(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut at, mut len) = (0, 0);
    while let Some(&byte) = text.get(at) {
        let skip = if matches!(byte, ESCAPE | b'#') { sequence(text.get(at..)?) } else { 0 };
        if skip > 0 {
            at += skip;
            continue;
        }
        let Some(slot) = out.get_mut(len) else { break };
        *slot = byte;
        (at, len) = (at + 1, len + 1);
    }
    (at > len).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_colours_is_taken_out() {
        let cases: &[(&str, Option<&str>)] = &[
            ("", None),
            ("plain # text [1m", None),
            ("from \x1b[1m192.0.2.1:22\x1b[0m: x", Some("from 192.0.2.1:22: x")),
            ("\x1b[m\x1b[1;31mx\x1b[38:5:1my\x1b[K", Some("xy")),
            ("a\x1b(B\x1b[mb", Some("ab")),
            ("a#033[1mb#033[0mc", Some("abc")),
            ("\x1b[2J\x1b[1Ax", None),
            ("\x1b[1", None),
            ("\x1b", None),
            ("\x1b[\x1b[1mm", Some("\x1b[m")),
        ];
        for (text, want) in cases {
            let mut out = [0; 64];
            let len = strip(text.as_bytes(), &mut out);
            assert_eq!(len.map(|len| &out[..len]), want.map(str::as_bytes), "{text:?}");
            assert!(want.is_none() || is_in(text.as_bytes()));
        }
        assert_eq!(strip(b"\x1b[mabc", &mut [0; 2]), Some(2), "what has no room");
    }
}
