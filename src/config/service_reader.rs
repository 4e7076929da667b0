#![forbid(unsafe_code)]
//! Reads the lines of a service rule, of one file or of several that add up.

use super::Spanned;
use super::foreign;
use super::ini::{self, IniEntry};
use super::keys::{self, SettingSlot};
use super::parts::{ConfigPart, Replacing, RuleDefault};
use super::service::{Engine, FailPattern, LogFormat, Mode, ServiceRule, Source, blank};
use super::service::{KEYS, PATTERN_KEYS};
use super::value;
use super::webscan::{self, WebscanReader};
use crate::base::build_part::BuildPart;
use crate::base::diag::decode;
use crate::base::diag::{Problem, Severity};

/// The section that a line belongs to: [detection] and [action] are [rule] continued, for files of the
/// existing product.
pub(super) fn section_of<'a>(entry: &IniEntry<'a>) -> &'a str {
    if matches!(entry.section, "detection" | "action") { "rule" } else { entry.section }
}

/// Reads the lines of a service rule.
pub(super) fn read<'a>(
    text: &'a str,
    problems: &mut Vec<Problem>,
    each: &mut dyn FnMut(&IniEntry<'a>, &mut Vec<Problem>),
) {
    ini::read(text, SECTIONS, problems, &mut |entry, problems| {
        // The manual of the existing product has it so.
        match entry.value.split_once('=') {
            Some((key @ "source", value)) if entry.key == "input" => {
                each(&entry.reread(key, value), problems)
            }
            _ => each(entry, problems),
        }
    });
}

/// Reads one file of rules.d; `stem` is its name without `.conf`. No rule comes back when there are errors.
#[must_use]
pub fn parse_service(stem: &str, text: &[u8]) -> (Option<ServiceRule>, Vec<Problem>) {
    parse_parts(stem, &[], &[ConfigPart { path: "", text, adds: false }])
}

/// Reads a rule that is made of several texts. Problems say in which one they are.
pub(super) fn parse_parts(
    stem: &str,
    defaults: &[RuleDefault],
    parts: &[ConfigPart<'_>],
) -> (Option<ServiceRule>, Vec<Problem>) {
    let mut problems: Vec<Problem> = Vec::new();
    let (mut rule, mut web) = (blank(), WebscanReader::default());
    // A default that no line of mef.conf has is that of webscan_dir.
    let mut origin = Origin { enabled: false, elsewhere: defaults.iter().any(|default| default.line == 0) };
    keys::set_defaults(KEYS, &mut rule);
    // They were read before, and found to be right.
    for default in defaults {
        let _ = keys::find(KEYS, default.key).map(|key| (key.slot)(&mut rule).set(&default.value));
    }
    let replacing = Replacing::of(parts);
    for (at, part) in parts.iter().enumerate() {
        let mut own = Vec::new();
        let Some(text) = decode(part.text, &mut own) else {
            own.iter_mut().for_each(|problem| problem.part = at);
            problems.extend(own);
            return (None, problems);
        };
        let mut reader = ServiceRuleReader { rule: &mut rule, web: &mut web, origin: &mut origin, part: at };
        read(text, &mut own, &mut |e, problems| {
            if !replacing.replaced(at, e) {
                reader.entry(e, problems);
            }
        });
        own.iter_mut().for_each(|problem| problem.part = at);
        problems.extend(own);
    }
    let before = problems.len();
    if rule.name.is_empty() {
        rule.name.push_str(stem);
        if let Err(bad) = value::name(stem) {
            let hint = "give the rule a name with name=".to_string();
            problems.push(Problem::whole(Severity::Error, ["the file's name ", &bad.what].concat(), hint));
        }
    }
    // What is missing is only told of a file without errors: it may be in a line that was refused.
    if !failed(&problems) {
        complete(&mut rule, &web, &mut problems);
        origin.complete(&mut problems);
    }
    // What is said of the whole is said of the file that somebody wrote last.
    for problem in problems.iter_mut().skip(before) {
        problem.part = parts.len().saturating_sub(1);
    }
    (if failed(&problems) { None } else { Some(rule) }, problems)
}

fn failed(problems: &[Problem]) -> bool {
    problems.iter().any(|p| p.severity == Severity::Error)
}

/// Whether a rule was written for the existing product, in which a rule without `enabled=` is off.
struct Origin {
    enabled: bool,
    elsewhere: bool,
}

impl Origin {
    fn entry(&mut self, entry: &IniEntry<'_>) {
        self.enabled |= section_of(entry) == "rule" && entry.key == "enabled";
        self.elsewhere |= matches!(entry.section, "detection" | "action")
            || matches!(entry.key, "backend" | "uri_hash_limit" | "ua_hash_limit");
    }

    fn complete(&self, problems: &mut Vec<Problem>) {
        if self.elsewhere && !self.enabled {
            let what = "there is no enabled=, so the rule is on".to_string();
            let hint =
                "where this file comes from it would be off: add enabled=true or enabled=false".to_string();
            problems.push(Problem::whole(Severity::Warning, what, hint));
        }
    }
}

/// The key of a pattern: `failregex[MODE]@WEIGHT`.
pub(super) struct PatternKey<'a> {
    pub(super) name: &'a str,
    mode: Option<&'a str>,
    weight: Option<&'a str>,
}

impl<'a> PatternKey<'a> {
    pub(super) fn read(key: &'a str) -> PatternKey<'a> {
        let split = |(key, part): (&'a str, &'a str)| (key.trim_ascii_end(), Some(part.trim_ascii()));
        let (key, weight) = key.split_once('@').map_or((key, None), split);
        let (name, mode) = match key.strip_suffix(']').and_then(|key| key.split_once('[')) {
            Some(parts) => split(parts),
            None => (key, None),
        };
        PatternKey { name, mode, weight }
    }
}

/// What is read of a rule.
struct ServiceRuleReader<'r> {
    rule: &'r mut ServiceRule,
    /// Of [webscan] and [thresholds].
    web: &'r mut WebscanReader,
    origin: &'r mut Origin,
    /// Which of the texts.
    part: usize,
}

impl ServiceRuleReader<'_> {
    /// One line of the file.
    fn entry(&mut self, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) {
        self.origin.entry(entry);
        if webscan::SECTIONS.contains(&entry.section) {
            return self.web.entry(&mut self.rule.webscan, entry, problems);
        }
        let key = PatternKey::read(entry.key);
        if PATTERN_KEYS.contains(&key.name) {
            self.pattern(&key, entry, problems);
        } else if let Some(problem) = foreign::in_rule(entry) {
            problems.push(problem);
        } else if entry.key == "backend" {
            problems.push(keys::no_longer_needed(entry, "firewall_backend in mef.conf is for all rules"));
        } else if entry.key == "weight" {
            let hint = "it belongs to one pattern: failregex@3=…".to_string();
            problems.push(entry.key_problem(
                Severity::Error,
                "'weight' is not a key of its own".into(),
                hint,
            ));
        } else if let Some(key) = keys::find(KEYS, entry.key) {
            // Several lines of files add up.
            let before = if key.name == "files" { std::mem::take(&mut self.rule.files) } else { Vec::new() };
            keys::store((key.slot)(self.rule), key.default, entry, problems);
            self.rule.files.splice(0..0, before);
        } else {
            problems.push(keys::unknown(entry, KEYS.iter().map(|k| k.name).chain(PATTERN_KEYS)));
        }
    }

    /// `failregex=`, `failregex@3=`, `failregex[aggressive]=`, `ignoreregex=` or `successregex=`; an empty
    /// one says nothing.
    fn pattern(&mut self, key: &PatternKey<'_>, entry: &IniEntry<'_>, problems: &mut Vec<Problem>) {
        let mut error = |what: &str, hint: &str| {
            problems.push(entry.key_problem(Severity::Error, what.to_string(), hint.to_string()));
        };
        let text = self.spanned(entry);
        let rule = &mut *self.rule;
        if key.name != "failregex" && (key.weight.is_some() || key.mode.is_some()) {
            let what = if key.weight.is_some() { "a weight" } else { "a mode" };
            return error(&["only failregex has ", what].concat(), "other lines count nothing");
        }
        let number = match key.weight.map_or(Ok(1), |w| value::count(w.trim_ascii(), 0, 255)) {
            Ok(number) => u8::try_from(number).unwrap_or(u8::MAX),
            Err(bad) => return error(&["the weight ", &bad.what].concat(), &bad.hint),
        };
        let mut least = Mode::default();
        if let Err(bad) = key.mode.map_or(Ok(()), |mode| SettingSlot::Word(&mut least).set(mode)) {
            return error(&["the mode ", &bad.what].concat(), &bad.hint);
        }
        if rule.fail.len().max(rule.ignore.len()).max(rule.success.len()) >= PATTERNS_MAX {
            return error("too many patterns", "at most 256 in one rule");
        }
        let cut = ["<HOST>", "<ADDR>", "(?"].iter().any(|group| ini::has(entry.comment, group));
        if cut && !entry.quoted {
            let hint = "write the whole pattern in double quotes, or the space as \\x20".to_string();
            let what = "a part of this pattern is taken for a comment".to_string();
            problems.push(entry.key_problem(Severity::Warning, what, hint));
        }
        if entry.value.is_empty() {
            return;
        }
        match key.name {
            "failregex" => rule.fail.push(FailPattern { text, weight: number, least }),
            "ignoreregex" => rule.ignore.push(text),
            _ => rule.success.push(text),
        }
    }

    /// The value as it stands in the file.
    fn spanned(&self, entry: &IniEntry<'_>) -> Spanned {
        Spanned { text: entry.value.to_string(), line: entry.line, col: entry.value_col(), part: self.part }
    }
}

/// What keys cannot say alone.
fn complete(rule: &mut ServiceRule, reader: &WebscanReader, problems: &mut Vec<Problem>) {
    let mut say = |severity, what: &str, hint: &str| {
        problems.push(Problem::whole(severity, what.to_string(), hint.to_string()));
    };
    let web = rule.engine == Engine::Webscan;
    if rule.format == LogFormat::Docker && !matches!(rule.source, Source::File | Source::Auto) {
        say(
            Severity::Error,
            "format=docker needs files",
            "the engine of a container writes files: source=file",
        );
    }
    if !web && (rule.fail.is_empty() || rule.is_of_other_modes()) {
        if rule.fail.is_empty() {
            say(Severity::Error, "the rule can never match", "it needs a failregex= in section [rule]");
        } else {
            // [defaults] may bring that on a rule that has done nothing wrong.
            say(Severity::Warning, "the rule is off", "each failregex= is for another mode=");
        }
    }
    match rule.source {
        Source::File if rule.files.is_empty() => {
            say(Severity::Error, "source=file without files", "add files=/var/log/…");
        }
        Source::Auto if rule.format == LogFormat::Docker && rule.files.is_empty() => {
            let hint = "add files=/var/lib/docker/containers/*/*-json.log";
            say(Severity::Error, "format=docker without files", hint);
        }
        Source::Command if rule.command.is_empty() => {
            say(Severity::Error, "source=command without a command", "add command=logread -f");
        }
        Source::Journal if !BuildPart::Journal.is_in() => {
            say(Severity::Error, &BuildPart::Journal.is_missing(), "name files= instead");
        }
        Source::Journal if rule.programs.is_empty() && !rule.trust_any => {
            say(
                Severity::Error,
                "source=journal without programs",
                "add programs=, or trust=any for any sender",
            );
        }
        Source::Auto if rule.programs.is_empty() && rule.files.is_empty() => {
            say(Severity::Error, "nothing says where the lines come from", "add programs= or files=");
        }
        _ => {}
    }
    if web {
        reader.complete(&mut rule.webscan, &mut |what, hint| say(Severity::Error, what, hint));
    } else if !rule.webscan.thresholds.is_empty() || reader.has_windows() {
        say(Severity::Warning, "[webscan] and [thresholds] have no effect", "they need engine=webscan");
    }
}

/// Patterns at most in one rule.
const PATTERNS_MAX: usize = 256;

const SECTIONS: &[&str] = &["rule", "detection", "action", "webscan", "thresholds", "whitelist"];
