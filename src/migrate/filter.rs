#![forbid(unsafe_code)]
//! A filter of fail2ban as a service rule. fail2ban cuts the date out of a line and looks for its patterns in
//! what is left; here a pattern sees the message of a program, or the whole line. What has no counterpart is
//! refused by its name: a pattern is never widened.

mod pattern;

use super::foreign_ini::ForeignIni;
use super::samples::{self, Sample};
use crate::config::{ServiceRule, parse_service};
use crate::detect::Detector;
use crate::pattern::{Demand, Pattern};
use crate::setup::Root;
use pattern::{date, seen, whole};

/// Rounds of putting values in the place of their names.
const ROUNDS: u32 = 40;
/// Longest pattern.
const PATTERN_MAX: usize = 16 * 1024;
/// Names of programs that one rule may have.
const PROGRAMS_MAX: usize = 16;
/// Stands for what fail2ban calls the prefix of a line.
const PREFIX: char = '\u{1}';

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
}
