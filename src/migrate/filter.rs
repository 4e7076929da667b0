#![forbid(unsafe_code)]
//! A filter of fail2ban as a service rule. fail2ban cuts the date out of a line and looks for its patterns in
//! what is left; here a pattern sees the message of a program, or the whole line. What has no counterpart is
//! refused by its name: a pattern is never widened.

use super::foreign_ini::ForeignIni;
use super::samples::{self, Sample};
use crate::config::{ServiceRule, parse_service};
use crate::detect::Detector;
use crate::pattern::{Demand, Pattern};
use crate::setup::Root;

/// Rounds of putting values in the place of their names.
const ROUNDS: u32 = 40;
/// Longest pattern.
const PATTERN_MAX: usize = 16 * 1024;
/// Names of programs that one rule may have.
const PROGRAMS_MAX: usize = 16;
/// Stands for what fail2ban calls the prefix of a line.
const PREFIX: char = '\u{1}';
/// The dates that fail2ban finds by itself, those that are used.
const DATE: &str = concat!(
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
const STRPTIME: [(char, &str); 16] = [
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

/// A filter as a rule.
pub struct ImportedFilter {
    /// The file of the rule.
    pub text: String,
    /// What of it could not be said, and why.
    pub refused: Vec<String>,
    /// Samples that were run.
    pub samples: usize,
}

/// A filter, and what is said of it elsewhere.
pub(super) struct FilterSource<'a> {
    pub(super) root: &'a Root,
    pub(super) path: &'a str,
    /// `name=value` of the jail, in the brackets behind the filter.
    pub(super) parameters: &'a str,
    /// Lines of the rule that the jail says.
    pub(super) keys: &'a str,
    /// Lines of logs, as fail2ban's tests have them.
    pub(super) samples: &'a str,
}

/// Makes a rule of it.
///
/// # Errors
/// Why there is none, for people.
pub(super) fn import(source: &FilterSource<'_>) -> Result<ImportedFilter, String> {
    let mut ini = ForeignIni::default();
    ini.read(source.root, source.path);
    if let Some(stem) = source.path.strip_suffix(".conf") {
        ini.read(source.root, &[stem, ".local"].concat());
    }
    if ini.raw("Definition", "failregex").is_none() {
        return Err("it has no [Definition] with a failregex".into());
    }
    let mut filter = FilterText { ini, own: Vec::new(), by_program: false };
    let mode = |filter: &FilterText| filter.get("Definition", "mode").unwrap_or_else(|| "normal".into());
    let usual = mode(&filter);
    filter.own.extend(parameters(source.parameters).map(|(name, value)| (name.to_owned(), value.to_owned())));
    let samples = samples::read(source.samples, &mode(&filter), &usual);
    let name = source.path.rsplit('/').next().unwrap_or("").trim_end_matches(".conf");
    let mut why = String::new();
    // By the program's name a rule hears of the journal, too, and knows who wrote a line.
    for by_program in [true, false] {
        filter.by_program = by_program;
        match filter.rule(name, source.keys).and_then(|made| tried(made, &samples)) {
            Ok(made) => return Ok(made),
            Err(problem) if why.is_empty() => why = problem,
            Err(_) => {}
        }
    }
    Err(why)
}

/// What a jail tells its filter, `name=value, name="value"]`: names and values, of which the first counts.
pub(super) fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.trim_end_matches(']').split(',').filter_map(|part| part.split_once('='));
    parts.map(|(name, value)| (name.trim(), value.trim().trim_matches(['"', '\''])))
}

/// Whether a rule does with its samples what they say.
fn tried((text, refused): (String, Vec<String>), samples: &[Sample]) -> Result<ImportedFilter, String> {
    let rule: ServiceRule = match parse_service("imported", text.as_bytes()) {
        (Some(rule), _) => rule,
        (None, problems) => {
            return Err(problems.first().map_or_else(String::new, |problem| problem.what.clone()));
        }
    };
    let rule = crate::services::compile(&rule)
        .map_err(|problems| problems.first().map_or_else(String::new, |p| p.what.clone()))?;
    let mut detector = Detector::new(vec![rule]);
    let mut shown = String::new();
    for sample in samples {
        let mut got = None;
        detector.block(1, &[sample.line.as_bytes(), b"\n"].concat(), &mut |_, _, hit| got = Some(hit.addr));
        if got != sample.hit {
            let why = refused.first().map(|why| ["; ", why].concat()).unwrap_or_default();
            let what = if got.is_none() { "is no hit" } else { "is a hit for somebody else" };
            return Err(["its own sample ", what, ": ", &sample.line, &why].concat());
        }
        shown += &sample.example();
    }
    Ok(ImportedFilter { text: text + &shown, refused, samples: samples.len() })
}

/// The texts of a filter, as fail2ban puts them together.
struct FilterText {
    ini: ForeignIni,
    /// What is stronger than the files.
    own: Vec<(String, String)>,
    /// The prefix of a line is that of a program's message.
    by_program: bool,
}

impl FilterText {
    fn raw(&self, section: &str, name: &str) -> Option<String> {
        if let Some((_, value)) = self.own.iter().find(|(own, _)| own == name) {
            return Some(value.clone());
        }
        let (section, key) = match name.split_once('/') {
            Some(("known", _)) | None => (section, name),
            Some(other) => other,
        };
        let known = key.strip_prefix("known/");
        let sections = [section, "Definition", "Init"].map(|of| (of, key));
        // What was known before is what all filters have, if the filter itself says it once.
        sections.into_iter().chain([("DEFAULT", known.unwrap_or(key))]).find_map(|(of, key)| {
            let (value, _) = self.ini.own(of, key)?;
            let is_prefix = self.by_program && (of, key) == ("DEFAULT", "__prefix_line");
            Some(if is_prefix { PREFIX.to_string() } else { value.to_owned() })
        })
    }

    /// A value with every name that it has replaced by what that stands for.
    fn get(&self, section: &str, name: &str) -> Option<String> {
        let mut text = self.raw(section, name)?;
        for _ in 0..ROUNDS {
            let next = self.tags(section, &self.percents(section, &text));
            if next == text || next.len() > PATTERN_MAX {
                break;
            }
            text = next;
        }
        Some(text.replace("%%", "%"))
    }

    /// `%(name)s`, once.
    fn percents(&self, section: &str, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, behind)) = rest.split_once("%(") {
            let Some((name, behind)) = behind.split_once(")s") else { break };
            out += before;
            out += &self.raw(section, name).unwrap_or_default();
            rest = behind;
        }
        out + rest
    }

    /// `<name>` whose name is known, once, the innermost first.
    fn tags(&self, section: &str, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(end) = rest.find('>') {
            let (head, behind) = rest.split_at(end);
            let start = head.rfind('<');
            let found = start.and_then(|at| {
                let (before, name) = head.split_at(at);
                let name = name.strip_prefix('<')?;
                let is_group = before.ends_with("?P") || before.ends_with("(?");
                if is_group { None } else { self.raw(section, name).map(|value| (before, value)) }
            });
            match found {
                Some((before, value)) => {
                    out += before;
                    out += &value;
                }
                None => {
                    out += head;
                    out.push('>');
                }
            }
            rest = behind.strip_prefix('>').unwrap_or(behind);
        }
        out + rest
    }

    /// The rule, and what is refused of it.
    fn rule(&self, name: &str, keys: &str) -> Result<(String, Vec<String>), String> {
        let daemon = self.get("Definition", "_daemon").unwrap_or_default();
        let get = |key: &str| self.get("Definition", key).unwrap_or_default();
        if get("maxlines").trim().parse::<u32>().is_ok_and(|lines| lines > 1) {
            return Err("maxlines: a pattern is about one line here".into());
        }
        let date = date(&get("datepattern"));
        let prefix = get("prefregex");
        let mut programs = Vec::new();
        let (mut body, mut refused, mut count) = (String::new(), Vec::new(), 0u32);
        for (key, needs) in [("failregex", Demand::Address), ("ignoreregex", Demand::Nothing)] {
            let text = get(key);
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let made = whole(&prefix, line).and_then(|line| seen(&line, &date)).and_then(
                    |(line, is_message)| {
                        if is_message && programs.is_empty() {
                            programs = names(&daemon)?;
                        }
                        Pattern::new(&line, needs).map_err(|e| e.what).map(|_| (line, is_message))
                    },
                );
                match made {
                    Ok((line, is_message)) if is_message == self.by_program => {
                        count += u32::from(needs == Demand::Address);
                        body += &[key, "=", &line, "\n"].concat();
                    }
                    // The other form is that of these lines.
                    Ok(_) => return Err(String::new()),
                    Err(why) if why.is_empty() => {}
                    Err(why) => {
                        let said = [&why, ": ", &line.replace(PREFIX, "%(__prefix_line)s")].concat();
                        if needs == Demand::Nothing {
                            return Err(["ignoreregex: ", &said].concat());
                        }
                        refused.push(said);
                    }
                }
            }
        }
        if count == 0 {
            return Err(refused.into_iter().next().unwrap_or_else(|| "it has no failregex".into()));
        }
        let mut head = ["# From the filter ", name, " of fail2ban\n[rule]\n"].concat();
        if self.by_program {
            head += &["programs=", &programs.join(","), "\n"].concat();
        } else if !keys.contains("files=") {
            head += "source=file\n# A guess: no jail says which files it reads.\nfiles=/var/log/syslog\n";
        }
        Ok((head + keys + &body, refused))
    }
}

/// A failregex with the prefregex that stands around it.
fn whole(prefix: &str, line: &str) -> Result<String, String> {
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
fn begins(line: &str, content: &str) -> bool {
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
fn seen(line: &str, date: &Date) -> Result<(String, bool), String> {
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
fn braces(line: &str) -> String {
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
fn is_choice(pattern: &str) -> bool {
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
fn groups(line: &str) -> Result<String, String> {
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
struct Date {
    pattern: String,
    before: String,
}

/// The dates that a filter has.
fn date(text: &str) -> Date {
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
fn strptime(format: &str) -> Option<String> {
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

/// The names that a pattern of a program means, if these are few.
fn names(pattern: &str) -> Result<Vec<String>, String> {
    let all = alternatives(pattern.trim()).filter(|(names, rest)| rest.is_empty() && !names.is_empty());
    let (mut all, _) = all.ok_or_else(|| ["_daemon=", pattern, " is no list of names"].concat())?;
    all.sort();
    all.dedup();
    if all.len() > PROGRAMS_MAX || all.iter().any(String::is_empty) {
        return Err(["_daemon=", pattern, " is no list of names"].concat());
    }
    Ok(all)
}

/// Reads alternatives up to the end or a closing bracket: the texts that they mean, and what is left.
fn alternatives(pattern: &str) -> Option<(Vec<String>, &str)> {
    let (mut all, mut now, mut rest) = (Vec::new(), vec![String::new()], pattern);
    loop {
        let Some(c) = rest.chars().next() else {
            all.append(&mut now);
            return Some((all, rest));
        };
        if c == ')' {
            all.append(&mut now);
            return Some((all, rest));
        }
        let behind = rest.get(c.len_utf8()..)?;
        if c == '|' {
            all.append(&mut now);
            (now, rest) = (vec![String::new()], behind);
            continue;
        }
        let (part, behind) = match c {
            '(' => {
                let (part, behind) = alternatives(behind.strip_prefix("?:").unwrap_or(behind))?;
                (part, behind.strip_prefix(')')?)
            }
            '[' => {
                let (class, behind) = behind.split_once(']')?;
                let plain = class.chars().all(|c| c.is_ascii_alphanumeric());
                (class.chars().filter(|_| plain).map(String::from).collect(), behind)
            }
            '\\' => {
                let c = behind.chars().next().filter(|c| !c.is_alphanumeric())?;
                (vec![c.to_string()], behind.get(c.len_utf8()..)?)
            }
            '.' | '*' | '+' | '^' | '$' | '{' | '?' => return None,
            c => (vec![c.to_string()], behind),
        };
        let (may_miss, behind) = match behind.strip_prefix('?') {
            Some(behind) => (true, behind),
            None => (false, behind),
        };
        if part.is_empty() || behind.starts_with(['*', '+', '{']) || now.len() * (part.len() + 1) > 64 {
            return None;
        }
        let none = [String::new()];
        let choices = part.iter().chain(none.iter().filter(|_| may_miss));
        now = choices.flat_map(|end| now.iter().map(move |start| [start.as_str(), end].concat())).collect();
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_are_written_out_or_refused() {
        let list = |text: &str| names(text).map(|all| all.join(" ")).unwrap_or_default();
        assert_eq!(list("sshd"), "sshd");
        assert_eq!(list("sshd(?:-session)?"), "sshd sshd-session");
        assert_eq!(
            list("(?:sendmail|sm-(?:mta|acceptingconnections))"),
            "sendmail sm-acceptingconnections sm-mta"
        );
        assert_eq!(list("smtp[ds]"), "smtpd smtps");
        assert_eq!(list("ipop3d?"), "ipop3 ipop3d");
        for wrong in [r"\S*", "apache\\d*", "a.b", "(?:a", "", "a{2}", "(?:)"] {
            assert!(names(wrong).is_err(), "{wrong}");
        }
    }

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
