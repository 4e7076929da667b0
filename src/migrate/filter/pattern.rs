#![forbid(unsafe_code)]
//! Patterns of fail2ban as patterns of ours: its tags, its dates, and what its regular expressions take that
//! ours do not.

use super::{PREFIX, alternatives};
use crate::pattern::{Demand, Pattern};

/// The dates that fail2ban finds by itself, those that are used.
pub(super) const DATE: &str = concat!(
    r"(?:\d{4}[-/.]?\d\d[-/.]?\d\d[T ,]+\d?\d:\d\d:\d\d(?:[.,]\d+)?(?: ?",
    r"(?:Z|UTC|[+-]\d\d:?\d\d))?",
    r"|(?:[A-Z]{3,4} )?(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} [ \d]\d,? (?:\d{4} )?\d\d:\d\d:\d\d",
    r"(?:[.,]\d+)?(?: (?:[A-Z]{3,4} )?\d{4})?",
    r"|(?:[A-Z][a-z]{2},? )?\d\d?[-/ .](?:\d\d|[A-Z][a-z]{2})[-/ .]\d{2,4}[ :T]\d\d:\d\d:\d\d",
    r"(?:[.,]\d+)?(?: [+-]\d{4})?",
    r"|\d{6} [ \d]\d:\d\d:\d\d",
    r"|\d{10}(?:\.\d+)?",
    r"|@[0-9a-f]{24})",
);

/// Letters of strptime(3), as patterns.
pub(super) const STRPTIME: [(char, &str); 16] = [
    ('Y', r"\d{4}"),
    ('y', r"\d\d"),
    ('m', r"\d\d?"),
    ('d', r"[ \d]?\d"),
    ('H', r"\d\d?"),
    ('I', r"\d\d?"),
    ('M', r"\d\d"),
    ('S', r"\d\d"),
    ('b', "[A-Z][a-z]{2}"),
    ('B', "[A-Z][a-z]+"),
    ('a', "[A-Z][a-z]{2}"),
    ('A', "[A-Z][a-z]+"),
    ('p', "[AP]M"),
    ('f', r"\d+"),
    ('z', r"(?:Z|[+-]\d\d:?\d\d)"),
    ('Z', "[A-Z]{3,4}"),
];

/// A failregex with the prefregex that stands around it.
pub(super) fn whole(prefix: &str, line: &str) -> Result<String, String> {
    if prefix.is_empty() {
        return Ok(line.to_owned());
    }
    let parts = prefix.split_once("<F-CONTENT>").and_then(|(before, rest)| {
        let (content, behind) = rest.split_once("</F-CONTENT>")?;
        Some((before, content, behind))
    });
    let Some((before, content, behind)) = parts else { return Err("prefregex without <F-CONTENT>".into()) };
    if !matches!(content, ".+" | ".*" | ".+?" | ".*?") && !begins(line, content) {
        return Err(["prefregex whose <F-CONTENT> is ", content].concat());
    }
    let (free, line) = match line.strip_prefix('^') {
        Some(line) => ("", line),
        None => (".*", line),
    };
    // What ends a line ends the content.
    Ok(match line.strip_suffix('$').filter(|line| !line.ends_with('\\')) {
        Some(line) => [before, "(?:", free, line, ")", behind].concat(),
        None => [before, "(?:", free, line, ")"].concat(),
    })
}

/// Whether what a pattern finds begins with one of the words that the content has to begin with.
pub(super) fn begins(line: &str, content: &str) -> bool {
    let words = content.strip_suffix(".+").or_else(|| content.strip_suffix(".*")).and_then(alternatives);
    let Some((words, "")) = words else { return false };
    let Some(line) = line.strip_prefix('^') else { return false };
    // As far as it is words.
    let starts = (0..=line.len()).rev().filter_map(|end| line.get(..end));
    let known = starts.filter(|start| !start.is_empty()).find_map(|start| match alternatives(start) {
        Some((all, "")) => Some(all),
        _ => None,
    });
    known.is_some_and(|all| all.iter().all(|text| words.iter().any(|word| text.starts_with(word.as_str()))))
}

/// A pattern as it is here, and whether it is about messages of a program. An empty problem: the line is
/// about no failure.
pub(super) fn seen(line: &str, date: &Date) -> Result<(String, bool), String> {
    if ["<F-NOFAIL>", "<F-MLFGAINED>"].iter().any(|tag| line.contains(tag)) {
        return Err(String::new());
    }
    let line = groups(line)?.replace(r"(?:\[\])?", "");
    if line.contains(PREFIX) {
        let start = line.trim_start_matches('^').trim_start_matches(r"\s*");
        let message = start.strip_prefix(PREFIX).filter(|rest| !rest.contains(PREFIX));
        let message = message.ok_or("the prefix of the line is a choice")?;
        return Ok((["^", message].concat(), true));
    }
    let line = match line.strip_prefix('^') {
        _ if line.contains(r"\[\]") => line.replacen(r"\[\]", &[r"\[ ?", &date.pattern, r" ?\]"].concat(), 1),
        // Whose address begins the line has the date behind it, in what the pattern passes over.
        Some(rest) if rest.trim_start_matches(r"\s*").starts_with("<HOST>") => line,
        Some(rest) => {
            let rest = rest.strip_prefix(date.before.as_str()).unwrap_or(rest);
            ["^", &date.before, r"\[?", &date.pattern, r"\]?", rest].concat()
        }
        None => line,
    };
    Ok((line, false))
}

/// What other languages of patterns take as it stands, as we want it: `{` that begins no count, a count
/// without a beginning.
pub(super) fn braces(line: &str) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some((before, behind)) = rest.split_once('{') {
        out += before;
        rest = behind;
        let count = behind.split('}').next().unwrap_or("");
        let is_count = behind.contains('}')
            && !count.is_empty()
            && count.bytes().all(|b| b.is_ascii_digit() || b == b',');
        // A character behind a backslash, or among others in brackets, stands for itself.
        let is_class = out.rfind('[') > out.rfind(']');
        out += if out.ends_with('\\') || is_class {
            "{"
        } else if !is_count {
            r"\{"
        } else if count.starts_with(',') {
            "{0"
        } else {
            "{"
        };
    }
    out + rest
}

/// Whether there is a choice at the top of a pattern.
pub(super) fn is_choice(pattern: &str) -> bool {
    let (mut depth, mut in_class, mut escaped) = (0, false, false);
    for c in pattern.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => in_class = false,
            '[' => in_class = true,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth -= 1,
            '|' if depth == 0 && !in_class => return true,
            _ => {}
        }
    }
    false
}

/// Tags and named groups of fail2ban as ours.
pub(super) fn groups(line: &str) -> Result<String, String> {
    let mut line = braces(line);
    // What lines of one session have in common is no group if it is no choice.
    while let Some((before, rest)) = line.split_once("<F-MLFID>")
        && let Some((inner, behind)) = rest.split_once("</F-MLFID>")
    {
        let (open, close) = if is_choice(inner) { ("(?:", ")") } else { ("", "") };
        line = [before, open, inner, close, behind].concat();
    }
    for tag in ["<ADDR>", "<IP4>", "<IP6>", "<SUBNET>", "<CIDR>"] {
        line = line.replace(tag, "<HOST>");
    }
    if line.contains("<DNS>") || line.contains("<F-ID") {
        return Err("what is banned is no address".into());
    }
    let (mut out, mut rest, mut has_user) = (String::new(), line.as_str(), false);
    while let Some(at) = rest.find("<F-").into_iter().chain(rest.find("</F-")).chain(rest.find("(?P<")).min()
    {
        let (before, tag) = rest.split_at(at);
        out += before;
        let end = tag.find('>').ok_or("a tag without an end")?;
        let (name, behind) = tag.split_at(end);
        rest = behind.strip_prefix('>').unwrap_or(behind);
        let mut group = |is_user: bool| {
            let named = is_user && !has_user;
            has_user |= named;
            if named { "(?P<user>" } else { "(?:" }
        };
        match name {
            "(?P<user" => out += group(true),
            "(?P<host" | "(?P<ip4" | "(?P<ip6" => out += "(?P<ip>",
            _ if name.starts_with("(?P<") => out += "(?:",
            _ if name.ends_with('/') => {}
            "<F-USER" => out += group(true),
            _ if name.starts_with("</") => out.push(')'),
            _ => out += group(false),
        }
    }
    Ok(out + rest)
}

/// How a date looks, and what stands before it when it does not begin the line.
pub(super) struct Date {
    pattern: String,
    before: String,
}

/// The dates that a filter has.
pub(super) fn date(text: &str) -> Date {
    let (mut all, mut before) = (Vec::new(), String::new());
    for line in text.lines().map(str::trim) {
        let line = line.trim_start_matches("{^LN-BEG}").trim_start_matches('^');
        if let Some((head, _)) = line.split_once("{DATE}").filter(|(head, _)| !head.contains(['[', '('])) {
            before = head.to_owned();
        }
        if line.is_empty() || line.contains("{DATE}") {
            all.push(DATE.to_owned());
        } else if let Some(date) = strptime(line) {
            all.push(date);
        }
    }
    all.dedup();
    let pattern = if all.is_empty() { DATE.into() } else { ["(?:", &all.join("|"), ")"].concat() };
    Date { pattern, before }
}

/// A format of strptime(3) in a regular expression, as one; `None` if there is more in it than we know.
pub(super) fn strptime(format: &str) -> Option<String> {
    let (mut out, mut chars) = (String::new(), format.chars());
    while let Some(c) = chars.next() {
        match c {
            '%' => {
                let letter = chars.by_ref().find(|c| !matches!(c, 'E' | 'x' | '-'))?;
                out += STRPTIME.iter().find(|(name, _)| *name == letter)?.1;
            }
            c => out.push(c),
        }
    }
    Pattern::new(&out, Demand::Nothing).is_ok().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_groups_and_what_is_no_failure_is_none() {
        let date = Date { pattern: "DATE".into(), before: String::new() };
        let seen = |line: &str| seen(line, &date).map(|(line, _)| line);
        assert_eq!(
            seen("^<F-USER>a|b</F-USER> from <ADDR>$"),
            Ok(r"^\[?DATE\]?(?P<user>a|b) from <HOST>$".into())
        );
        assert_eq!(seen("^\u{1}bad <HOST>"), Ok("^bad <HOST>".into()));
        assert_eq!(seen(r#"^<HOST> \S+ \[\] "GET"#), Ok(r#"^<HOST> \S+ \[ ?DATE ?\] "GET"#.into()));
        assert_eq!(seen("^<F-NOFAIL>x</F-NOFAIL> <HOST>"), Err(String::new()));
        assert!(seen("^<F-ID>x</F-ID>").is_err());
        assert_eq!(seen("^<F-MLFID>\u{1}a</F-MLFID>b <HOST>"), Ok("^ab <HOST>".into()));
        assert_eq!(braces(r"a{2}b{,3}c{d}\{e[{]"), r"a{2}b{0,3}c\{d}\{e[{]");
        assert!(seen("^(?:\u{1}|x) <HOST>").is_err());
    }
}
