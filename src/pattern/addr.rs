#![forbid(unsafe_code)]
//! What `<HOST>` matches: an address that stands as a word of its own. Knows nothing of programs.
//!
//! `192.0.2.1`, `2001:db8::1`, both also in brackets, IPv6 also with `%zone`. Never a part of something
//! longer: not within `a192.0.2.1`, `192.0.2.1.example.org` or `::ffff:192.0.2.1` (which matches as a whole).
//! What is accepted always parses, so a line with `999.1.1.1` is no match.

use crate::base::net::{parse_addr, quad};
use std::net::IpAddr;

/// Longest address with brackets and zone that is accepted, in bytes.
const MAX: usize = 80;

/// Where an address that begins at one position may end: the first is preferred.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct AddrBounds {
    /// Behind the whole word.
    pub(super) full: Option<usize>,
    /// Before the last colon of an IPv6 word, for daemons that write address and port as
    /// `2001:db8::1:50022`.
    pub(super) short: Option<usize>,
    /// The address of the whole word, if it was read on the way.
    pub(super) addr: Option<IpAddr>,
}

/// The ends of an address beginning exactly at `at`.
pub(super) fn ends(text: &[u8], at: usize) -> AddrBounds {
    let none = AddrBounds::default();
    let Some(&first) = text.get(at) else { return none };
    if first == b'[' {
        let inner = text.get(at + 1..).unwrap_or_default();
        if !inner.first().is_some_and(|&b| may_begin(b)) {
            return none;
        }
        let inner = inner.get(..inner.len().min(MAX)).unwrap_or_default();
        let len = inner.iter().position(|&b| b == b']').unwrap_or(0);
        let good = inner.get(..len).is_some_and(|a| parse_addr(a).is_some() && zone_is_plain(a));
        return AddrBounds { full: good.then_some(at + len + 2), ..none };
    }
    // Most words are none, and seen not to be by their first bytes. A colon at the head is one of two.
    if !may_begin(first) || first == b':' && text.get(at + 1) != Some(&b':') {
        return none;
    }
    let head =
        text.get(at..).unwrap_or_default().iter().take(5).take_while(|b| b.is_ascii_hexdigit()).count();
    if !matches!(text.get(at + head), Some(b'.' | b':')) || !begins_word(text.get(..at).unwrap_or_default()) {
        return none;
    }
    match quad(text.get(at..).unwrap_or_default()) {
        Some((addr, len)) if ends_word(text, at + len) => {
            AddrBounds { full: Some(at + len), addr: Some(IpAddr::V4(addr)), ..none }
        }
        Some(_) => none,
        None => v6(text, at),
    }
}

/// Whether an address may begin with this byte.
fn may_begin(b: u8) -> bool {
    b.is_ascii_hexdigit() || b == b':'
}

/// Whether what follows the `%` of an address in brackets, if anything, is a zone: no second address hides
/// there.
fn zone_is_plain(addr: &[u8]) -> bool {
    addr.iter().skip_while(|b| **b != b'%').skip(1).all(is_zone)
}

fn is_zone(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
}

/// Whether another address than that at `found` may stand in the text, judged by its dots and colons alone.
/// Addresses do not overlap, but for the same one with and without its brackets.
pub(super) fn another_possible(text: &[u8], found: core::ops::Range<usize>) -> bool {
    let (mut dots, mut colons) = (0, 0);
    for part in [text.get(..found.start), text.get(found.end..)] {
        let part = part.unwrap_or_default();
        for at in memchr::memchr2_iter(b'.', b':', part) {
            *(if part.get(at) == Some(&b'.') { &mut dots } else { &mut colons }) += 1;
            if dots > 2 || colons > 1 {
                return true;
            }
        }
    }
    false
}

/// Whether an address may begin behind `before`. A colon is fine behind a label (`client:`), not behind hex
/// digits or another colon, where it may be the inside of an IPv6 address.
fn begins_word(before: &[u8]) -> bool {
    match before.split_last() {
        None => true,
        Some((b'.' | b'-' | b'_' | b'%', _)) => false,
        Some((b':', label)) => {
            let near = label.get(label.len().saturating_sub(MAX)..).unwrap_or_default();
            near.iter()
                .rev()
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .any(|b| !b.is_ascii_hexdigit())
        }
        Some((b'm' | b'K', sequence)) => is_escape(sequence),
        Some((b, _)) => !b.is_ascii_alphanumeric(),
    }
}

/// Whether a text is or ends with a terminal's escape sequence, but for the letter at its end: a colour,
/// often, that a program prints before an address. Some syslog daemons write the escape as `#033`.
fn is_escape(text: &[u8]) -> bool {
    let near = text.get(text.len().saturating_sub(MAX)..).unwrap_or_default();
    let numbers = near.iter().rev().take_while(|b| b.is_ascii_digit() || matches!(b, b';' | b':')).count();
    let begin = near.get(..near.len() - numbers).unwrap_or_default();
    begin.ends_with(b"\x1b[") || begin.ends_with(b"#033[")
}

/// Whether an address may end at `at`: what follows does not go on as a name would.
fn ends_word(text: &[u8], at: usize) -> bool {
    match text.get(at..).unwrap_or_default() {
        [] => true,
        [b'.' | b'-', next, ..] => !next.is_ascii_alphanumeric(),
        [b, ..] => !(b.is_ascii_alphanumeric() || *b == b'_'),
    }
}

/// The ends of an IPv6 address at `at`, its left side being looked at already.
fn v6(text: &[u8], at: usize) -> AddrBounds {
    let rest = text.get(at..).unwrap_or_default();
    let rest = rest.get(..rest.len().min(MAX)).unwrap_or_default();
    let len =
        rest.iter().position(|&b| !(b.is_ascii_hexdigit() || b == b':' || b == b'.')).unwrap_or(rest.len());
    let mut word = rest.get(..len).unwrap_or_default();
    if !word.contains(&b':') {
        return AddrBounds::default();
    }
    while let [shorter @ .., b'.'] = word {
        word = shorter;
    }
    let good = |len: usize| ends_word(text, at + len) && rest.get(..len).and_then(parse_addr).is_some();
    let zone = match rest.get(word.len()..) {
        Some([b'%', zone @ ..]) => 1 + zone.iter().position(|b| !is_zone(b)).unwrap_or(zone.len()),
        _ => 0,
    };
    if zone > 1 {
        let len = word.len() + zone;
        return AddrBounds { full: good(len).then_some(at + len), ..AddrBounds::default() };
    }
    let is_port = |tail: &[u8]| tail.len() <= 5 && tail.iter().all(u8::is_ascii_digit);
    let short = word
        .iter()
        .rposition(|&b| b == b':')
        .filter(|&len| word.get(len + 1..).is_some_and(is_port) && good(len));
    let full = at + word.len();
    let addr = if ends_word(text, full) { parse_addr(word) } else { None };
    AddrBounds { full: addr.map(|_| full), short: short.map(|len| at + len), addr }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_word_of_its_own() {
        // The text, where to look, what is taken, what is taken if that does not fit.
        let cases: &[(&str, usize, &str, &str)] = &[
            ("1.2.3.4", 0, "1.2.3.4", ""),
            ("from 1.2.3.4 port", 5, "1.2.3.4", ""),
            ("1.2.3.4.", 0, "1.2.3.4", ""),
            ("1.2.3.4, x", 0, "1.2.3.4", ""),
            ("1.2.3.4:22", 0, "1.2.3.4", ""),
            ("1.2.3.4- x", 0, "1.2.3.4", ""),
            ("rip=1.2.3.4", 4, "1.2.3.4", ""),
            ("source:1.2.3.4", 7, "1.2.3.4", ""),
            ("a1.2.3.4", 1, "", ""),
            ("11.2.3.4", 1, "", ""),
            ("a.1.2.3.4", 2, "", ""),
            ("a-1.2.3.4", 2, "", ""),
            ("1.2.3.4.evil.com", 0, "", ""),
            ("1.2.3.4-5.net", 0, "", ""),
            ("1.2.3.4x", 0, "", ""),
            ("1.2.3.45", 0, "1.2.3.45", ""),
            ("1.2.3.456", 0, "", ""),
            ("1.2.3.4.5", 0, "", ""),
            ("999.2.3.4", 0, "", ""),
            ("01.2.3.4", 0, "", ""),
            ("1.2.3", 0, "", ""),
            ("\x1b[1m1.2.3.4\x1b[0m", 4, "1.2.3.4", ""),
            ("\x1b[m1.2.3.4", 3, "1.2.3.4", ""),
            ("\x1b[1;31m2001:db8::1\x1b[0m", 7, "2001:db8::1", ""),
            ("#033[38;5;1m1.2.3.4#033[0m", 12, "1.2.3.4", ""),
            ("[1m1.2.3.4", 3, "", ""),
            ("\x1b1m1.2.3.4", 3, "", ""),
            ("\x1b[xm1.2.3.4", 4, "", ""),
            ("\x1b[1a1.2.3.4", 4, "", ""),
            ("::ffff:1.2.3.4", 0, "::ffff:1.2.3.4", ""),
            ("::ffff:1.2.3.4", 7, "", ""),
            ("::ffff:1.2.3.4", 1, "", ""),
            ("::ffff:1.2.3.4:22", 0, "", "::ffff:1.2.3.4"),
            ("2001:db8::1 x", 0, "2001:db8::1", ""),
            ("2001:db8::1:50022", 0, "", "2001:db8::1"),
            ("2001:db8::1:5002", 0, "2001:db8::1:5002", "2001:db8::1"),
            ("2001:db8::1: x", 0, "", "2001:db8::1"),
            ("2001:db8::1.", 0, "2001:db8::1", ""),
            ("2001:db8::", 0, "2001:db8::", ""),
            ("::1", 0, "::1", ""),
            ("::", 0, "::", ""),
            ("client:::1", 7, "::1", ""),
            ("2001:db8::1ghost", 0, "", ""),
            ("fe80::1%eth0.1 x", 0, "fe80::1%eth0.1", ""),
            ("fe80::1%", 0, "fe80::1", ""),
            ("12:30:45", 0, "", ""),
            ("[1.2.3.4]", 0, "[1.2.3.4]", ""),
            ("[1.2.3.4]", 1, "1.2.3.4", ""),
            ("mx[2001:db8::1]:25", 2, "[2001:db8::1]", ""),
            ("[fe80::1%eth0]", 0, "[fe80::1%eth0]", ""),
            ("[1.2.3.4", 0, "", ""),
            ("[[::1]]", 0, "", ""),
            ("[fe80::1%x:1.2.3.4]", 0, "", ""),
            ("[]", 0, "", ""),
            ("[", 0, "", ""),
            ("host", 0, "", ""),
            ("", 0, "", ""),
            ("x", 7, "", ""),
        ];
        for &(text, at, full, short) in cases {
            let got = ends(text.as_bytes(), at);
            let show = |end: Option<usize>| end.map_or("", |e| &text[at..e]);
            assert_eq!((show(got.full), show(got.short)), (full, short), "{text} at {at}");
            for end in [got.full, got.short].into_iter().flatten() {
                assert!(parse_addr(&text.as_bytes()[at..end]).is_some(), "{text} at {at}");
            }
        }
    }

    #[test]
    fn no_address_begins_within_another() {
        // The general matcher relies on it: see `pike`.
        let mut rng = fastrand::Rng::with_seed(7);
        let chars = b"12af:::..[]%gx -";
        for _ in 0..100_000 {
            let text: Vec<u8> = (0..rng.usize(..14)).map(|_| chars[rng.usize(..chars.len())]).collect();
            let (mut busy_until, mut bracket) = ([0; 2], 0);
            for at in 0..text.len() {
                let found = ends(&text, at);
                let Some(end) = found.full.max(found.short) else { continue };
                let busy = &mut busy_until[usize::from(text[at] == b'[')];
                assert!(text[at] == b'[' || at >= bracket || text[at - 1] == b'[');
                bracket = if text[at] == b'[' { end } else { bracket };
                assert!(at >= *busy, "{:?} at {at}", String::from_utf8_lossy(&text));
                *busy = end;
            }
        }
    }
}
