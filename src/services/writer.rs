#![forbid(unsafe_code)]
//! Patterns that begin with who wrote the line, as in `^postfix/smtpd\[\d+\]: `. With `programs=` that part
//! of a line is read before any pattern is asked, and records of the journal do not have it as text: the
//! pattern goes on behind it.

use crate::detect::Program;
use crate::pattern::{Demand, MatchScratch, Pattern};

/// Names that a pattern may begin with, at most.
const NAMES_MAX: usize = 16;

/// What messages may begin with. A date is none of it.
const PROSE: [&str; 6] =
    ["", "word ", "a word ", "words in a row ", "error 12 ", "more than 2 words of 12 letters "];
/// What lines begin with before the host.
const DATES: [&str; 3] =
    ["Nov 26 02:10:00 ", "2026-11-26T02:10:00+00:00 ", "2026-11-26T02:10:00.123456+00:00 "];
/// A host for patterns that name none.
const ANY_HOST: &str = "host";

/// What a pattern says of the writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nothing: it begins with the message.
    None,
    /// One of the rule's programs; this is the pattern of the message.
    Own(String),
    /// Somebody else, as it seems: it would never match.
    Other,
    /// Nothing but what stands in front of it, a date and a host: it would never match.
    Before,
}

/// Takes the writer off a pattern of a rule with `programs`.
pub(super) fn writer(pattern: &str, programs: &[String]) -> Writer {
    let mut other = false;
    for colon in colons(pattern) {
        let (Some(head), Some(rest)) = (pattern.get(..colon), pattern.get(colon + 1..)) else { continue };
        let words = HeadWords::of(head);
        let names = [names(head.trim_start_matches('^')), names(words.last)].concat();
        // A message may have a colon, too: only a number in brackets, or the whole name, says that this is
        // none.
        let pid = head.contains("\\[");
        let is_name = names.iter().any(|name| programs.contains(name));
        if !pid && !is_name || head.contains("(?P<") || head.contains('<') {
            continue;
        }
        let is_own = |name: &&str| programs.iter().any(|p| Program::new(p).fits(name.as_bytes()));
        let plain = programs.iter().filter(|program| !program.contains('*')).map(String::as_str);
        let own = names.iter().map(String::as_str).filter(is_own);
        // A number in brackets stands behind the name of a program, whatever stands before it.
        let host = if words.last.contains("\\[") { words.literal_host() } else { words.host() };
        if plain.chain(own).any(|name| fits(head, &host, name)) {
            let rest = without_space(rest);
            return Writer::Own([if rest.starts_with('^') { "" } else { "^" }, rest].concat());
        }
        // Messages may begin with a level and a number in brackets, in capitals.
        let is_lower = |name: &&String| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase());
        other |= pid && names.iter().filter(is_lower).any(|name| fits(head, &host, name));
    }
    if other {
        Writer::Other
    } else if programs.iter().any(|program| stands_behind(pattern, program)) {
        Writer::Before
    } else {
        Writer::None
    }
}

/// Whether a pattern that is tied to the beginning has the name of a program behind what can only be the
/// date and the host of its lines: no message begins with it.
fn stands_behind(pattern: &str, program: &str) -> bool {
    let anchored = pattern.starts_with('^') || pattern.starts_with("\\A");
    let head = pattern.find(program).filter(|_| anchored).and_then(|at| pattern.get(..at));
    let Some(head) = head.filter(|head| !head.contains("(?P<") && !head.contains('<')) else { return false };
    let host = HeadWords::of(head).host();
    let dated: Vec<String> = before(&host).skip(1).collect();
    !fits_any(head, &PROSE) && fits_any(head, &dated)
}

/// The last words of a beginning. Patterns have blanks in many forms.
struct HeadWords<'p> {
    /// All before the last but one.
    rest: &'p str,
    last_but_one: &'p str,
    last: &'p str,
}

impl HeadWords<'_> {
    fn of(head: &str) -> HeadWords<'_> {
        let blank = |text: &str| {
            let ends =
                [" ", "\\s", "\\x20"].iter().filter_map(|blank| Some(text.rfind(blank)? + blank.len()));
            ends.max().unwrap_or(0)
        };
        let (front, last) = head.split_at(blank(head));
        let front = front.trim_end_matches(' ').trim_end_matches("\\s").trim_end_matches("\\x20");
        let (rest, last_but_one) = front.split_at(blank(front));
        let more = ['+', '*', '?'];
        let (last_but_one, last) = (last_but_one.trim_start_matches(more), last.trim_start_matches(more));
        HeadWords { rest, last_but_one, last }
    }

    /// The host that lines of the pattern have if its last but one word is that: the one which it names.
    fn literal_host(&self) -> String {
        let named = literal(self.last_but_one).filter(|host| !host.is_empty());
        named.unwrap_or_else(|| ANY_HOST.to_owned())
    }

    /// Likewise if a date stands before it: else it is a word of a message, and lines have any host.
    fn host(&self) -> String {
        let is_dated = fits_any(self.rest, &DATES) && !fits_any(self.rest, &PROSE);
        if is_dated { self.literal_host() } else { ANY_HOST.to_owned() }
    }
}

/// What can stand in front of the writer: nothing, or a date and a host.
fn before(host: &str) -> impl Iterator<Item = String> {
    let dated = DATES.iter().map(move |date| [date, host, " "].concat());
    std::iter::once(String::new()).chain(dated)
}

/// Whether one of these texts can be all that a pattern's beginning stands for.
fn fits_any(head: &str, texts: &[impl AsRef<str>]) -> bool {
    let Ok(pattern) = Pattern::new(&[head, "$"].concat(), Demand::Nothing) else { return false };
    let mut scratch = MatchScratch::for_patterns([&pattern].into_iter());
    texts.iter().any(|text| pattern.is_match(text.as_ref().as_bytes(), &mut scratch))
}

/// Whether a pattern's beginning fits how lines of this program begin.
fn fits(head: &str, host: &str, program: &str) -> bool {
    let text = |before: &str| [[before, program, "[12345]:"].concat(), [before, program, ":"].concat()];
    let texts: Vec<String> = before(host).flat_map(|before| text(&before)).collect();
    fits_any(&[head, ":"].concat(), &texts)
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

/// What a pattern may begin with, up to the first part that stands for more than a few texts.
fn names(mut rest: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    while let Some((choices, behind)) = choices(rest) {
        if names.len() * choices.len() > NAMES_MAX {
            break;
        }
        let longer =
            |name: &String| choices.iter().map(|choice| [&**name, &**choice].concat()).collect::<Vec<_>>();
        names = names.iter().flat_map(longer).collect();
        rest = behind;
    }
    names
}

/// The texts that a pattern's first character or group stands for, and the rest of the pattern.
fn choices(pattern: &str) -> Option<(Vec<String>, &str)> {
    let Some(group) = pattern.strip_prefix('(') else {
        let len = if pattern.starts_with('\\') { 2 } else { 1 };
        return Some((vec![literal(pattern.get(..len)?)?], pattern.get(len..)?));
    };
    let (inner, behind) = group.strip_prefix("?:").unwrap_or(group).split_once(')')?;
    let mut choices = inner.split('|').map(literal).collect::<Option<Vec<_>>>()?;
    let optional = behind.strip_prefix('?');
    choices.extend(optional.map(|_| String::new()));
    Some((choices, optional.unwrap_or(behind)))
}

/// The text that a pattern stands for if each of its characters stands for itself.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = c == '\\';
        let c = if escaped { chars.next()? } else { c };
        let is_mark = matches!(c, '/' | '-' | '_' | '.');
        text.push(c);
        if !is_mark && (escaped || !c.is_ascii_alphanumeric()) {
            return None;
        }
    }
    Some(text)
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
            (r"^\w+ \d+ [\d:]+ \S+ postfix/smtpd\[\d+\]: x", &["postfix"], "^x"),
            (r"^Nov\s+\d+\s+\S+\s+mx\.example\.net\s+postfix/smtpd\[\d+\]: x", &["postfix"], "^x"),
            (r"\d\d:\d\d:\d\d mx dovecot: x", &["dovecot"], "^x"),
            (r"^\d{4}-\S+ mx dovecot: x", &["dovecot"], "^x"),
            (r"^.* mx sshd\[\d+\]: x", &["sshd"], "^x"),
            (r"postfix/(?:submission/)?smtpd\[\d+\]: warning", &["postfix/*"], "^warning"),
            (r"postfix/(submission/|)smtpd\[\d+\]: warning", &["*"], "^warning"),
            (r"postfix/(?:smtps|submission)/smtpd\[\d+\]: warning", &["postfix"], "^warning"),
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
            r"service sshd: authentication failure <HOST>",
            r"^.* service sshd: authentication failure <HOST>",
            r"^\S+ in service sshd: authentication failure <HOST>",
            r"error \d+ of service sshd: authentication failure <HOST>",
            r"error \[\d+\] service sshd: authentication failure <HOST>",
            r"^.* sshd closed <HOST>",
            r"^\S+ \S+ sshd closed <HOST>",
        ] {
            assert_eq!(of(pattern, &["sshd", "postfix/smtpd"]), Writer::None, "{pattern}");
        }
    }

    #[test]
    fn what_stands_in_front_of_the_writer_is_cut_off() {
        for pattern in [
            r"^Nov .* sshd.*Failed <HOST>",
            r"\A\S+\s+\d+\s+[0-9:]+\s+\S+\s+sshd <HOST>",
            r"^\d{4}-\S+ mail sshd/x <HOST>",
        ] {
            assert_eq!(of(pattern, &["sshd"]), Writer::Before, "{pattern}");
            assert_eq!(of(pattern, &["cron"]), Writer::None, "{pattern}");
        }
        for pattern in [
            r"^.*sshd: <HOST>",
            r"Nov .* sshd.*Failed <HOST>",
            r"^pam_unix\(sshd:auth\): <HOST>",
            r"^<HOST> \S+ sshd <HOST>",
            r"^(?:a sshd|b) <HOST>",
        ] {
            assert_ne!(of(pattern, &["sshd"]), Writer::Before, "{pattern}");
        }
        for (head, rest, last_but_one, last) in [
            (r"^\w+\s+\d+ +\S+ host\s+a", r"^\w+\s+\d+ +\S+ ", "host", "a"),
            ("a b", "", "a", "b"),
            ("a", "", "", "a"),
            ("", "", "", ""),
        ] {
            let words = HeadWords::of(head);
            assert_eq!((words.rest, words.last_but_one, words.last), (rest, last_but_one, last));
        }
    }

    #[test]
    fn another_programs_lines_never_come() {
        assert_eq!(of(r"^dropbear\[\d+\]: Bad", &["sshd"]), Writer::Other);
        assert_eq!(of(r"^postfix/smtpd\[\d+\]: NOQUEUE", &["postfix/submission"]), Writer::Other);
        assert_eq!(of(r"^postfix/(?:submission/)?smtpd\[\d+\]: x", &["postfix/qmgr"]), Writer::Other);
        assert_eq!(names("(a|b)(c|d)(e|f)(g|h)(i|j)k").len(), 16, "no more than that are tried");
    }
}
