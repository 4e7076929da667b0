#![forbid(unsafe_code)]
//! From service rules as files say them to rules as the detector runs them: patterns are compiled, and what
//! is wrong with one is told at its place in the file.

mod host;
mod writer;

pub use host::{of_syslog, on};

use crate::base::diag::{Problem, Severity};
use crate::config::{Enabled, Engine, LogFormat, ServiceRule, Source, Spanned};
use crate::detect::tracker::Limits;
use crate::detect::{DetectRule, Program};
use crate::pattern::{CaptureGroup, Demand, Pattern};
use writer::{Writer, writer};

/// Compiles a rule's patterns.
///
/// # Errors
/// Every pattern that cannot be compiled, with its place.
pub fn compile(rule: &ServiceRule) -> Result<DetectRule, Vec<Problem>> {
    read(rule, &mut Vec::new())
}

/// Likewise; a rule that has no errors may have `warnings`.
fn read(rule: &ServiceRule, warnings: &mut Vec<Problem>) -> Result<DetectRule, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut pattern = |text: &Spanned, needs| {
        let compiled = Pattern::new(&text.text, needs);
        let compiled = compiled.map_err(|e| problems.push(text.problem(e.at, e.what, e.hint))).ok()?;
        match writer(&text.text, &rule.programs) {
            Writer::Own(message) => Pattern::new(&message, needs).ok().or(Some(compiled)),
            Writer::None => Some(compiled),
            wrong => {
                // Without programs= patterns see whole lines; but a record of the journal is its message.
                if !rule.programs.is_empty() || rule.source == Source::Journal {
                    warnings.push(misplaced(text, &wrong));
                }
                Some(compiled)
            }
        }
    };
    let fail: Vec<_> = rule
        .fail
        .iter()
        // One of another mode is to be right, too.
        .filter_map(|fail| Some((pattern(&fail.text, Demand::Address)?, fail)))
        .filter(|(_, fail)| rule.mode.reaches(fail.least))
        .map(|(pattern, fail)| (pattern, fail.weight))
        .collect();
    let ignore: Vec<_> = rule.ignore.iter().filter_map(|text| pattern(text, Demand::Nothing)).collect();
    let success: Vec<_> =
        rule.success.iter().filter_map(|text| Some((pattern(text, Demand::Address)?, 0))).collect();
    for (text, _) in
        rule.success.iter().zip(&success).filter(|(_, (pattern, _))| !pattern.has(CaptureGroup::User))
    {
        let hint = "name the part that is the user: (?P<user>\\S+)";
        problems.push(text.problem(0..text.text.len(), "the pattern has no user name".into(), hint.into()));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let programs = rule.programs.iter().map(|name| Program::new(name)).collect();
    let webscan = (rule.engine == Engine::Webscan).then(|| Box::new(rule.webscan.clone()));
    let headless = rule.format == LogFormat::Docker;
    Ok(DetectRule { name: rule.name.as_str().into(), programs, headless, fail, ignore, success, webscan })
}

/// What is wrong with a pattern that will hardly match, since it begins with what patterns do not see.
fn misplaced(text: &Spanned, begins: &Writer) -> Problem {
    let what = match begins {
        Writer::Before => "the pattern begins with the date and the host, which are cut off in front of it",
        _ => "the pattern begins like lines of a program that programs= does not name",
    };
    let hint = match begins {
        Writer::Before => "patterns see what follows PROGRAM[PID]: begin there",
        _ => "patterns see what follows PROGRAM[PID]: begin there, or name the program in programs=",
    };
    let whole = 0..text.text.len();
    Problem { severity: Severity::Warning, ..text.problem(whole, what.into(), hint.into()) }
}

/// When a rule has had enough of somebody. Where no pattern knows a name or a path nobody is spared.
#[must_use]
pub fn limits(rule: &ServiceRule, compiled: &DetectRule) -> Limits {
    let named =
        |(pattern, _): &(Pattern, u8)| pattern.has(CaptureGroup::User) || pattern.has(CaptureGroup::Uri);
    let plain = Limits::plain(rule.findtime, rule.maxretry);
    if compiled.fail.iter().any(named) {
        Limits { same_user: rule.same_user, same_user_max: rule.same_user_max, ..plain }
    } else {
        plain
    }
}

/// Compiles a rule, and adds what is wrong with its patterns.
fn compiled(rule: &ServiceRule, problems: &mut Vec<Problem>) -> Option<DetectRule> {
    let mut warnings = Vec::new();
    let result = read(rule, &mut warnings);
    let (compiled, more) = result.map_or_else(|errors| (None, errors), |rule| (Some(rule), warnings));
    problems.extend(more);
    compiled
}

/// For `config::load`: adds what is wrong with a rule's patterns.
pub fn check(rule: &mut ServiceRule, problems: &mut Vec<Problem>) {
    compiled(rule, problems);
}

/// Rules of the daemon, each compiled while its file is read: so no text of a pattern outlives that.
#[derive(Default)]
pub struct Compiled(Vec<DetectRule>);

impl Compiled {
    /// For `config::load`: compiles a rule; what is not on here is switched off before its patterns cost
    /// anything.
    pub fn add(&mut self, rule: &mut ServiceRule, problems: &mut Vec<Problem>) {
        if on(rule).0 {
            self.0.extend(compiled(rule, problems));
        } else {
            rule.enabled = Enabled::False;
        }
        rule.fail = Vec::new();
        rule.ignore = Vec::new();
        rule.success = Vec::new();
    }

    /// The rule of this name.
    pub fn take(&mut self, name: &str) -> Option<DetectRule> {
        let at = self.0.iter().position(|rule| *rule.name == *name)?;
        Some(self.0.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_service;

    #[test]
    fn a_rule_for_other_modes_is_off_and_says_why() {
        for (mode, on) in [("strict", false), ("normal", true), ("aggressive", true)] {
            let text = format!("[rule]\nmode={mode}\nenabled=true\nfiles=/x\nfailregex[normal]=^x <HOST>$\n");
            let (rule, _) = parse_service("x", text.as_bytes());
            let why = if on { "enabled=true" } else { "each failregex= is for another mode=" };
            assert_eq!(super::on(&rule.unwrap()), (on, why.to_owned()), "{mode}");
        }
    }

    #[test]
    fn a_success_needs_an_address_and_a_name() {
        let cases = [
            ("^in <HOST> (?P<user>\\S+)$", ""),
            ("^in (?P<user>\\S+)$", "the pattern has no address"),
            ("^in <HOST>$", "the pattern has no user name"),
        ];
        for (pattern, want) in cases {
            let text = format!("[rule]\nfiles=/x\nfailregex=<HOST>\nsuccessregex={pattern}\n");
            let rule = parse_service("x", text.as_bytes()).0.unwrap();
            let reported = compile(&rule).err().unwrap_or_default();
            let reported: Vec<_> = reported.iter().map(|p| p.what.as_str()).collect();
            assert_eq!(reported.join(" "), want, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_of_another_writer_is_told_of() {
        let of = |lines: &str, pattern: &str| {
            let text = format!("[rule]\n{lines}\nfailregex={pattern}\n");
            let mut rule = parse_service("x", text.as_bytes()).0.unwrap();
            let mut problems = Vec::new();
            check(&mut rule, &mut problems);
            problems
                .iter()
                .map(|p| format!("{:?} {}:{}", p.severity, p.line, p.col))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let says = |pattern: &str| of("programs=sshd", pattern);
        assert_eq!(says("^dropbear\\[\\d+\\]: from <HOST>"), "Warning 3:11");
        // Where the whole line is seen, it can match.
        assert_eq!(of("files=/var/log/auth.log", "dropbear\\[\\d+\\]: from <HOST>"), "");
        assert_eq!(of("source=journal\ntrust=any", "dropbear\\[\\d+\\]: from <HOST>"), "Warning 4:11");
        assert_eq!(says("^sshd\\[\\d+\\]: from <HOST>"), "");
        assert_eq!(says("^error: from <HOST>"), "");
    }

    #[test]
    fn who_has_no_name_is_not_spared() {
        let same = |pattern: &str| {
            let text = format!("[rule]\nfiles=/x\nfailregex={pattern}\n");
            let rule = parse_service("x", text.as_bytes()).0.unwrap();
            let limits = limits(&rule, &compile(&rule).unwrap());
            (limits.same_user, limits.same_user_max)
        };
        assert_eq!(same("^(?P<user>\\S+) <HOST>"), (600, 30));
        assert_eq!(same("^(?P<uri>\\S+) <HOST>"), (600, 30));
        assert_eq!(same("^(?P<port>\\S+) <HOST>"), (0, 0));
    }
}
