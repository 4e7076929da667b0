#![forbid(unsafe_code)]
//! The texts that a service rule is made of, the strongest last: what ships, a file that overlays it or is
//! all of the rule, and what is local to this host. A key that a later text has takes the place of all lines
//! of that key before it, as if those were not there; only the patterns of a `.local` file are added.

use super::ini::IniEntry;
use super::service::{self, Engine, PATTERN_KEYS, PatternKey};
use super::webscan;
use crate::base::diag::decode;
use crate::base::line::shown;

/// One of the texts.
pub struct ConfigPart<'a> {
    /// The file, or the built-in's name in angle brackets.
    pub path: &'a str,
    /// What is in it.
    pub text: &'a [u8],
    /// Its patterns are added to those before it.
    pub adds: bool,
}

/// A key of `[defaults]` in mef.conf. The value was found to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleDefault {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Line of mef.conf, counted from 1; 0: it comes from the directory of the rule.
    pub line: u32,
}

/// Which line this is, whatever its value: the section, and the key without a mode and a weight.
fn named<'a>(entry: &IniEntry<'a>) -> (&'a str, &'a str) {
    (service::section_of(entry), PatternKey::read(entry.key).name)
}

/// Calls `each` with every entry of a text that can be read.
fn entries<'a>(part: &ConfigPart<'a>, each: &mut dyn FnMut(&IniEntry<'a>)) {
    let mut ignored = Vec::new();
    if let Some(text) = decode(part.text, &mut ignored) {
        service::read(text, &mut ignored, &mut |entry, _| each(entry));
    }
}

/// For each text the keys that take the place of those before it.
pub(super) struct Replacing<'a>(Vec<Vec<(&'a str, &'a str)>>);

impl<'a> Replacing<'a> {
    pub(super) fn of(parts: &[ConfigPart<'a>]) -> Replacing<'a> {
        let keys = |part: &ConfigPart<'a>| {
            let mut keys = Vec::new();
            entries(part, &mut |entry| {
                let name = named(entry);
                if !(part.adds && PATTERN_KEYS.contains(&name.1)) {
                    keys.push(name);
                }
            });
            keys
        };
        // Of one text nothing is replaced, and of the first one nothing replaces anything.
        let all = parts.iter().enumerate();
        Replacing(all.map(|(at, part)| if at == 0 { Vec::new() } else { keys(part) }).collect())
    }

    /// Whether a text behind this one has the key.
    pub(super) fn replaced(&self, part: usize, entry: &IniEntry<'_>) -> bool {
        self.0.iter().skip(part + 1).any(|keys| keys.contains(&named(entry)))
    }
}

/// The name that a rule gives itself.
pub(super) fn own_name(text: &[u8]) -> Option<String> {
    let mut name = None;
    entries(&ConfigPart { path: "", text, adds: false }, &mut |entry| {
        if named(entry) == ("rule", "name") {
            name = Some(entry.unquoted().into_owned());
        }
    });
    name
}

/// Whether a text is a rule of its own: it has patterns, or is one of engine=webscan with its thresholds.
/// `default` is the engine of a rule that does not say it.
pub(super) fn is_whole(text: &[u8], default: Engine) -> bool {
    let (mut patterns, mut engine, mut thresholds) = (false, default == Engine::Webscan, false);
    entries(&ConfigPart { path: "", text, adds: false }, &mut |entry| match named(entry) {
        ("rule", "failregex") => patterns |= !entry.value.is_empty(),
        ("rule", "engine") => engine = true,
        ("thresholds", _) => thresholds = true,
        _ => {}
    });
    patterns || engine && thresholds
}

/// A line that is in force.
struct LineInForce<'a> {
    section: &'a str,
    key: &'a str,
    /// As it stands in its file, quotes included.
    value: String,
    origin: String,
}

/// Longest line of a setting with its origin; what is longer has it above.
const WIDTH: usize = 100;

impl LineInForce<'_> {
    fn write(&self, out: &mut String) {
        let line = [self.key, "=", &self.value].concat();
        let lines = if PATTERN_KEYS.contains(&PatternKey::read(self.key).name) || line.len() > WIDTH / 2 {
            ["# ", &self.origin, "\n", &line, "\n"].concat()
        } else {
            let blanks = " ".repeat(32_usize.saturating_sub(line.len()));
            [&line, &blanks, " # ", &self.origin, "\n"].concat()
        };
        out.push_str(&lines);
    }
}

/// Every line that is in force, in the order of the texts.
fn lines_in_force<'a>(parts: &[ConfigPart<'a>]) -> Vec<LineInForce<'a>> {
    let replacing = Replacing::of(parts);
    let mut lines: Vec<LineInForce<'a>> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        entries(part, &mut |entry| {
            let (section, key) = named(entry);
            if replacing.replaced(at, entry) || entry.value.is_empty() {
                return;
            }
            let origin = match part.path.starts_with('<') {
                true => "built-in".to_owned(),
                false => [&*shown(part.path), ":", &entry.line.to_string()].concat(),
            };
            let repeats = section == "whitelist"
                || key == "windows"
                || section == "thresholds" && !key.starts_with("rule_")
                || section == "rule" && (key == "files" || PATTERN_KEYS.contains(&key));
            let value =
                if entry.quoted { ["\"", entry.value, "\""].concat() } else { entry.value.to_owned() };
            let line = LineInForce { section, key: entry.key, value, origin };
            // The last one counts, but the first one has its place.
            let same = |other: &&mut LineInForce<'_>| (other.section, other.key) == (section, entry.key);
            match lines.iter_mut().find(same).filter(|_| !repeats) {
                Some(other) => *other = line,
                None => lines.push(line),
            }
        });
    }
    lines
}

/// A rule as it is in force, each line with its origin; a rule file itself. `conf` is the path of mef.conf.
#[must_use]
pub fn merged(name: &str, conf: &str, defaults: &[RuleDefault], parts: &[ConfigPart<'_>]) -> String {
    let lines = lines_in_force(parts);
    let mut out = String::from("[rule]\n");
    for key in service::KEYS {
        let mut said = false;
        for line in lines.iter().filter(|line| (line.section, line.key) == ("rule", key.name)) {
            line.write(&mut out);
            said = true;
        }
        let (value, origin) = match defaults.iter().rfind(|default| default.key == key.name) {
            Some(RuleDefault { value, line: 0, .. }) => (value.as_str(), "webscan_dir".to_owned()),
            Some(RuleDefault { value, line, .. }) => {
                (value.as_str(), [&*shown(conf), ":", &line.to_string()].concat())
            }
            None if key.name == "name" => (name, "the file's name".to_owned()),
            None => (key.default, "default".to_owned()),
        };
        if !said && !value.is_empty() {
            LineInForce { section: "rule", key: key.name, value: value.to_owned(), origin }.write(&mut out);
        }
    }
    for line in lines
        .iter()
        .filter(|line| line.section == "rule" && PATTERN_KEYS.contains(&PatternKey::read(line.key).name))
    {
        line.write(&mut out);
    }
    for section in webscan::SECTIONS {
        let mut head = ["\n[", section, "]\n"].concat();
        for line in lines.iter().filter(|line| line.section == section) {
            out.push_str(&std::mem::take(&mut head));
            line.write(&mut out);
        }
    }
    out
}
