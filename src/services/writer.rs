#![forbid(unsafe_code)]
//! Patterns that begin with who wrote the line, as in `^postfix/smtpd\[\d+\]: `. With `programs=` that part
//! of a line is read before any pattern is asked, and records of the journal do not have it as text: the
//! pattern goes on behind it.

use crate::detect::Program;
use crate::pattern::{Demand, MatchScratch, Pattern};

/// What a pattern says of the writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nothing: it begins with the message.
    None,
    /// One of the rule's programs; this is the pattern of the message.
    Own(String),
    /// Somebody else, as it seems: it would never match.
    Other,
}

/// Takes the writer off a pattern of a rule with `programs`.
pub(super) fn writer(pattern: &str, programs: &[String]) -> Writer {
    let mut other = false;
    for colon in colons(pattern) {
        let (Some(head), Some(rest)) = (pattern.get(..colon), pattern.get(colon + 1..)) else { continue };
        let name = literal(head.trim_start_matches('^'));
        // A message may have a colon, too: only a number in brackets, or the whole name, says that this is
        // none.
        let pid = head.contains("\\[");
        if !pid && !programs.contains(&name) || head.contains("(?P<") || head.contains('<') {
            continue;
        }
        let own = programs.iter().any(|program| Program::new(program).fits(name.as_bytes()));
        let plain = programs.iter().filter(|program| !program.contains('*')).map(String::as_str);
        if plain.chain(own.then_some(name.as_str())).any(|name| fits(head, name)) {
            let rest = without_space(rest);
            return Writer::Own([if rest.starts_with('^') { "" } else { "^" }, rest].concat());
        }
        // Messages may begin with a level and a number in brackets, in capitals.
        let lower = !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
        other |= pid && lower && fits(head, &name);
    }
    if other { Writer::Other } else { Writer::None }
}

/// Whether a pattern's beginning fits how lines of this program begin.
fn fits(head: &str, program: &str) -> bool {
    const BEFORE: [&str; 4] = [
        "",
        "Nov 26 02:10:00 host ",
        "2026-11-26T02:10:00+00:00 host ",
        "2026-11-26T02:10:00.123456+00:00 host ",
    ];
    let Ok(pattern) = Pattern::new(&[head, ":$"].concat(), Demand::Nothing) else { return false };
    let mut scratch = MatchScratch::for_patterns([&pattern].into_iter());
    let mut is = |text: String| pattern.is_match(text.as_bytes(), &mut scratch);
    BEFORE
        .iter()
        .any(|before| is([before, program, "[12345]:"].concat()) || is([before, program, ":"].concat()))
}

/// Where colons stand outside of groups and classes.
fn colons(pattern: &str) -> impl Iterator<Item = usize> {
    let (mut escaped, mut class, mut depth) = (false, false, 0_u32);
    pattern.bytes().enumerate().filter_map(move |(at, byte)| {
        let here = !escaped && !class && depth == 0 && byte == b':';
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'[' => class = true,
            b']' => class = false,
            b'(' if !class => depth += 1,
            b')' if !class => depth = depth.saturating_sub(1),
            _ => {}
        }
        here.then_some(at)
    })
}

/// The characters that a pattern begins with, up to the first one that does not stand for itself.
fn literal(pattern: &str) -> String {
    let mut name = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(|&next| matches!(next, '/' | '-' | '_' | '.')) => {
                name.extend(chars.next());
            }
            c if c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.') => name.push(c),
            _ => break,
        }
    }
    name
}

/// A pattern without the blanks in front.
fn without_space(pattern: &str) -> &str {
    let blank = [" ", "\\s", "\\x20", "\\ ", "[ ]"];
    let Some(rest) = blank.iter().find_map(|blank| pattern.strip_prefix(blank)) else { return pattern };
    let rest = rest.strip_prefix(['+', '*', '?']).unwrap_or(rest);
    rest.strip_prefix('?').unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, programs: &[&str]) -> Writer {
        writer(pattern, &programs.iter().map(|&p| p.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_pattern_goes_on_behind_the_writer() {
        for (pattern, programs, want) in [
            (r"^postfix/smtpd\[\d+\]: NOQUEUE <HOST>", &["postfix/smtpd"][..], "^NOQUEUE <HOST>"),
            (r"^postfix\/smtpd\[[0-9]+\]:\s+NOQUEUE: x", &["postfix/*"], "^NOQUEUE: x"),
            (r"sshd\[\d+\]: Failed", &["sshd"], "^Failed"),
            (r"^sshd(?:-session)?\[\d+\]:\s*Failed", &["sshd"], "^Failed"),
            (r"^\S+\[\d+\]: Failed", &["sshd"], "^Failed"),
            (r"^dovecot: imap-login: x", &["dovecot"], "^imap-login: x"),
            (r"^\w{3}\s+\d+ \d\d:\d\d:\d\d \S+ sshd\[\d+\]: Failed", &["sshd"], "^Failed"),
            (r".* sshd\[\d+\]: Failed", &["sshd"], "^Failed"),
        ] {
            assert_eq!(of(pattern, programs), Writer::Own(want.into()), "{pattern}");
        }
    }

    #[test]
    fn a_message_is_no_writer() {
        for pattern in [
            r"^Failed password for .* from <HOST>",
            r"^error: maximum authentication attempts for <HOST>",
            r"^pam_unix\(sshd:auth\): authentication failure; rhost=<HOST>",
            r"^.*: refused <HOST>",
            r"^\[<HOST>\]: refused",
            r"^warning: \S+\[<HOST>\]: SASL",
            r"^[^:]+: a",
            r"^NOTICE ?\[\d+\]:? chan_sip\.c: Registration from <HOST>",
        ] {
            assert_eq!(of(pattern, &["sshd", "postfix/smtpd"]), Writer::None, "{pattern}");
        }
    }

    #[test]
    fn another_programs_lines_never_come() {
        assert_eq!(of(r"^dropbear\[\d+\]: Bad", &["sshd"]), Writer::Other);
        assert_eq!(of(r"^postfix/smtpd\[\d+\]: NOQUEUE", &["postfix/submission"]), Writer::Other);
    }
}
