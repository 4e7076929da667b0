#![forbid(unsafe_code)]
//! From paths to settings and rules: which files there are, and which of them counts.
//!
//! Every `NAME.conf` of rules_dir is a rule, and every one of webscan_dir, where engine=webscan need not be
//! said. Built-in rules stay in force beside them until
//! the directory has a file or a rule of the same name; such a file with `enabled=false` switches one off.
//! Taking a file away therefore brings the built-in back, as it does for mef.conf, where a missing key is its
//! default. Hidden files and every other ending are left alone: editors and package managers put their copies
//! there.

use super::builtin::{builtin, builtin_text};
use super::global::parse_global;
use super::parts::{ConfigPart, RuleDefault, is_whole, merged, own_name};
use super::service::{Enabled, Engine, ServiceRule, parse_parts};
use super::settings::Settings;
use crate::base::build_part::BuildPart;
use crate::base::count::count;
use crate::base::crc::crc32c;
use crate::base::diag::{Problem, Severity};
use crate::sys::fs as files;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where mef.conf is.
pub const DEFAULT_PATH: &str = "/etc/mef/mef.conf";

/// Largest file that is read.
const FILE_MAX: u64 = 1 << 20;
/// Rules at most, and so files read at most.
const RULES_MAX: usize = 256;

/// A problem, the file it is in, and how it is shown.
pub struct FileProblem {
    /// The file.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
    /// `problem` with its line, made from the text that was read.
    pub shown: String,
}

/// Everything the configuration says.
pub struct Loaded {
    /// mef.conf.
    pub settings: Settings,
    /// Rules without errors, built-in ones included, switched-off ones too; by name.
    pub rules: Vec<ServiceRule>,
    /// All problems of all files.
    pub problems: Vec<FileProblem>,
    /// What stands for the files as they were read, their paths included.
    pub mark: u32,
}

impl Loaded {
    fn new(settings: Settings) -> Loaded {
        Loaded { settings, rules: Vec::new(), problems: Vec::new(), mark: 0 }
    }

    /// A file was read.
    fn mark(&mut self, path: &str, text: &[u8]) {
        if !BuildPart::Observer.is_in() {
            return;
        }
        let parts =
            [self.mark, crc32c(path.as_bytes()), crc32c(text), u32::try_from(text.len()).unwrap_or(0)];
        self.mark = crc32c(parts.map(u32::to_le_bytes).as_flattened());
    }

    /// Whether there is an error, so that this configuration must not be used.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.problems.iter().any(|p| p.problem.severity == Severity::Error)
    }

    fn add(&mut self, path: &str, text: &[u8], problems: Vec<Problem>) {
        let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
        for problem in problems {
            let shown = problem.render(path, &text);
            self.problems.push(FileProblem { path: path.to_string(), problem, shown });
        }
    }

    fn add_whole(&mut self, path: &str, severity: Severity, what: &str, hint: &str) {
        self.add(path, b"", vec![Problem::whole(severity, what.to_string(), hint.to_string())]);
    }
}

/// What is said of keys that are not needed, except by who asks for all of it: that there are some.
#[must_use]
pub fn not_needed(problems: &[FileProblem]) -> Option<String> {
    let all = problems.iter().filter(|p| p.problem.severity == Severity::Obsolete).count();
    let keys = count(all, "key");
    (all > 0).then(|| format!("the configuration has {keys} that mef does not need: 'mef check' shows why"))
}

/// Reads mef.conf at `conf` and what it names. A missing mef.conf is no problem if `conf` is
/// [`DEFAULT_PATH`]: nobody asked for it. `check` sees every rule without errors while its text is at hand,
/// and adds what it finds wrong (patterns that do not compile); the rule is then dropped. It may also switch
/// a rule off.
#[must_use]
pub fn load(conf: &Path, check: &mut dyn FnMut(&mut ServiceRule, &mut Vec<Problem>)) -> Loaded {
    let mut loaded = Loaded::new(Settings::default());
    let path = conf.to_string_lossy();
    match read(conf) {
        Ok((text, problem)) => {
            loaded.mark(&path, &text);
            let (settings, mut problems) = parse_global(&text);
            loaded.settings = settings;
            problems.extend(problem);
            loaded.add(&path, &text, problems);
        }
        Err(Unread::Missing) if path == DEFAULT_PATH => {}
        Err(e) => loaded.add_whole(&path, Severity::Error, &e.words(), ""),
    }
    let dirs = [loaded.settings.rules_dir.clone(), loaded.settings.webscan_dir.clone()];
    let [rules, scans] = dirs.map(|dir| rule_files(&mut loaded, dir));
    // Files that may overlay what ships, until it is known what that is.
    let mut overlays: Vec<(&str, Vec<Own>)> = Vec::new();
    let mut off = Vec::new();
    for (files, name) in
        [&rules, &scans].into_iter().flat_map(|files| files.conf.iter().map(move |n| (files, n)))
    {
        let Some(own) = files.own(&mut loaded, name) else { continue };
        let settings = &loaded.settings;
        if own.first().is_some_and(|conf| is_whole(&conf.text, default_engine(settings, conf))) {
            add_rule(&mut loaded, name, None, &own, &mut off, check);
        } else {
            overlays.push((name, own));
        }
    }
    builtin(&mut |name, text| {
        let ship = Some(text);
        if let Some(at) = overlays.iter().position(|(file, _)| *file == name) {
            let (_, own) = overlays.swap_remove(at);
            add_rule(&mut loaded, name, ship, &own, &mut off, check);
        } else if ![&rules, &scans].iter().any(|files| files.conf.iter().any(|file| file == name))
            && !loaded.rules.iter().any(|r| r.name == *name)
        {
            let own = rules.own(&mut loaded, name).unwrap_or_default();
            add_rule(&mut loaded, name, ship, &own, &mut off, check);
        }
        true
    });
    for (name, own) in overlays {
        add_rule(&mut loaded, name, None, &own, &mut off, check);
    }
    rules.say_lonely(&mut loaded);
    scans.say_lonely(&mut loaded);
    loaded
}

/// Where a rule of this name stands, if it is in a file: one that is called so or says so itself, in
/// webscan_dir if that alone has it.
#[must_use]
pub fn rule_file(settings: &Settings, name: &str) -> PathBuf {
    let dirs = [&settings.rules_dir, &settings.webscan_dir].map(Path::new);
    let [path, scan] = dirs.map(|dir| dir.join([name, ".conf"].concat()));
    let there = [&path, &scan].into_iter().find(|path| path.exists()).cloned();
    let says_so = |dir: &Path| {
        let paths = conf_files(dir).unwrap_or_default().into_iter().map(|file| dir.join(file));
        let mut paths = paths.take(RULES_MAX);
        paths.find(|path| read(path).is_ok_and(|(text, _)| own_name(&text).is_some_and(|own| own == name)))
    };
    there.or_else(|| dirs.into_iter().find_map(says_so)).unwrap_or(path)
}

/// The texts of one rule, by the path of its file or by the name of a rule in `settings.rules_dir` or of a
/// built-in one: what ships, and the files. Nothing is there when none is; what cannot be read is a problem.
fn texts_of(loaded: &mut Loaded, rule: &str) -> (String, Option<String>, Vec<Own>) {
    let path = match rule.contains('/') {
        true => Path::new(rule).to_owned(),
        false => rule_file(&loaded.settings, rule),
    };
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let mut own = Vec::new();
    for (end, adds) in [("conf", false), ("local", true)] {
        // A file may be called anything when it is named by its path.
        let file = if adds || path.extension().is_some_and(|e| e == "local") {
            path.with_extension(end)
        } else {
            path.clone()
        };
        match read(&file) {
            Ok((text, problem)) => {
                own.push(Own { path: file.to_string_lossy().into_owned(), text, problem, adds })
            }
            Err(Unread::Missing) => {}
            Err(e) => loaded.add_whole(&file.to_string_lossy(), Severity::Error, &e.words(), ""),
        }
    }
    let whole = own
        .first()
        .is_some_and(|conf| !conf.adds && is_whole(&conf.text, default_engine(&loaded.settings, conf)));
    let ship = if whole { None } else { builtin_text(&stem) };
    // What ships is not meant by a path that is not there.
    let asked = own.iter().any(|own| Path::new(&own.path) == path) || !rule.contains('/');
    if !loaded.failed() && (!asked || own.is_empty() && ship.is_none()) {
        loaded.add_whole(&path.to_string_lossy(), Severity::Error, &Unread::Missing.words(), "");
    }
    (stem, ship, own)
}

/// Reads one rule, by the path of its file or by the name of a rule in `settings.rules_dir` or of a built-in
/// one.
#[must_use]
pub fn load_rule(
    settings: Settings,
    rule: &str,
    check: &mut dyn FnMut(&mut ServiceRule, &mut Vec<Problem>),
) -> Loaded {
    let mut loaded = Loaded::new(settings);
    let (stem, ship, own) = texts_of(&mut loaded, rule);
    if !loaded.failed() {
        add_rule(&mut loaded, &stem, ship.as_deref(), &own, &mut Vec::new(), check);
    }
    loaded
}

/// A rule as it is in force, each line with its origin: a rule file itself. `conf` is the path of mef.conf.
///
/// # Errors
/// What is wrong with the rule's texts.
pub fn in_force(settings: Settings, conf: &str, rule: &str) -> Result<String, Vec<FileProblem>> {
    let mut loaded = Loaded::new(settings);
    let (stem, ship, own) = texts_of(&mut loaded, rule);
    if loaded.failed() {
        return Err(loaded.problems);
    }
    let path = built_in(&stem);
    let parts = parts(&path, ship.as_deref(), &own);
    Ok(merged(&stem, conf, &defaults(&loaded.settings, &own), &parts))
}

/// A file of a rule.
struct Own {
    path: String,
    text: Vec<u8>,
    /// What is wrong with the file itself.
    problem: Option<Problem>,
    /// It is a `.local` file.
    adds: bool,
}

/// How a rule that ships is called where a path would be.
fn built_in(name: &str) -> String {
    ["<built-in ", name, ">"].concat()
}

/// What ships, and the files, as what a rule is made of.
fn parts<'a>(path: &'a str, ship: Option<&'a str>, own: &'a [Own]) -> Vec<ConfigPart<'a>> {
    let ship = ship.map(|text| ConfigPart { path, text: text.as_bytes(), adds: false });
    let own = own.iter().map(|own| ConfigPart { path: &own.path, text: &own.text, adds: own.adds });
    ship.into_iter().chain(own).collect()
}

/// The engine of a rule that does not say it: files of webscan_dir are about access logs.
fn default_engine(settings: &Settings, own: &Own) -> Engine {
    match Path::new(&own.path).parent() == Some(Path::new(&settings.webscan_dir)) {
        true => Engine::Webscan,
        false => Engine::default(),
    }
}

/// What holds for a rule that does not say it.
fn defaults(settings: &Settings, own: &[Own]) -> Vec<RuleDefault> {
    let mut all = settings.rule_defaults.clone();
    if own.first().is_some_and(|own| default_engine(settings, own) == Engine::Webscan) {
        all.push(RuleDefault { key: "engine", value: "webscan".to_string(), line: 0 });
    }
    all
}

/// Programs and files of rules that a file of the user's has switched off, and the file.
type Off = (Vec<String>, Vec<String>, String);

/// Parses a rule and has it checked; it is kept when nothing is wrong.
fn add_rule(
    loaded: &mut Loaded,
    stem: &str,
    ship: Option<&str>,
    own: &[Own],
    off: &mut Vec<Off>,
    check: &mut dyn FnMut(&mut ServiceRule, &mut Vec<Problem>),
) {
    let path = built_in(stem);
    let parts = parts(&path, ship, own);
    let (rule, mut problems) = parse_parts(stem, &defaults(&loaded.settings, own), &parts);
    let first = usize::from(ship.is_some());
    for (at, problem) in own.iter().enumerate().filter_map(|(at, own)| Some((at, own.problem.clone()?))) {
        problems.push(Problem { part: first + at, ..problem });
    }
    let last = parts.len().saturating_sub(1);
    if let Some(mut rule) = rule {
        rule.path = parts.iter().map(|part| part.path).collect::<Vec<_>>().join(" + ");
        if let Some(other) = loaded.rules.iter().find(|r| r.name == rule.name) {
            let what = ["the name '", &rule.name, "' is taken by ", &other.path].concat();
            let hint = "give one of them another name=".to_string();
            problems.push(Problem { part: last, ..Problem::whole(Severity::Error, what, hint) });
        }
        if ship.is_none() && rule.enabled == Enabled::False {
            off.push((rule.programs.clone(), rule.files.clone(), rule.path.clone()));
        } else if own.is_empty() {
            problems.extend(switched_off(&mut rule, off));
        }
        check(&mut rule, &mut problems);
        if !problems.iter().any(|p| p.severity == Severity::Error) {
            // In order as they come: a library sort would be larger than this module.
            let place = loaded.rules.partition_point(|r| r.name < rule.name);
            loaded.rules.insert(place, rule);
        }
    }
    for (at, part) in parts.iter().enumerate() {
        let (these, others) = problems.into_iter().partition(|problem| problem.part == at);
        problems = others;
        loaded.add(part.path, part.text, these);
    }
}

/// Switches off a rule that ships when a file of the user's has switched off the same service under another
/// name.
fn switched_off(rule: &mut ServiceRule, off: &[Off]) -> Option<Problem> {
    let covers =
        |all: &[String], some: &[String]| !some.is_empty() && some.iter().all(|one| all.contains(one));
    let same = |(programs, files, _): &&Off| match rule.programs.is_empty() {
        true => covers(files, &rule.files),
        false => covers(programs, &rule.programs),
    };
    let (_, _, path) = off.iter().find(same).filter(|_| rule.enabled != Enabled::False)?;
    rule.enabled = Enabled::False;
    let what = ["it is off, since ", path, " is about the same service and is off"].concat();
    let hint = ["a file ", &rule.name, ".conf in rules_dir with enabled=true switches it on"].concat();
    Some(Problem::whole(Severity::Warning, what, hint))
}

/// The files of rules_dir, by their names without ending.
struct RuleFiles {
    dir: String,
    conf: Vec<String>,
    local: Vec<String>,
}

impl RuleFiles {
    /// The texts of NAME.conf and NAME.local. Nothing when one of them cannot be read, which is a problem.
    fn own(&self, loaded: &mut Loaded, name: &str) -> Option<Vec<Own>> {
        let mut own = Vec::new();
        for (names, end, adds) in [(&self.conf, ".conf", false), (&self.local, ".local", true)] {
            if !names.iter().any(|other| other == name) {
                continue;
            }
            let path = [&self.dir, "/", name, end].concat();
            match read(Path::new(&path)) {
                Ok((text, problem)) => {
                    loaded.mark(&path, &text);
                    own.push(Own { path, text, problem, adds });
                }
                // Gone between listing and reading: as if it had never been there.
                Err(Unread::Missing) => {}
                Err(e) => {
                    loaded.add_whole(&path, Severity::Error, &e.words(), "");
                    return None;
                }
            }
        }
        Some(own).filter(|own| !own.is_empty())
    }

    /// Tells of `.local` files that belong to nothing.
    fn say_lonely(&self, loaded: &mut Loaded) {
        for name in self.local.iter().filter(|name| !self.conf.contains(name)) {
            if builtin_text(name).is_none() {
                let path = [&self.dir, "/", name, ".local"].concat();
                let what = "it has no effect: no shipped rule and no .conf file beside it has this name";
                loaded.add_whole(&path, Severity::Warning, what, "");
            }
        }
    }
}

/// Names of the rule files. A directory that is not there has none.
fn rule_files(loaded: &mut Loaded, dir: String) -> RuleFiles {
    let mut names = |end: &str| {
        let mut names = match files_ending(Path::new(&dir), end) {
            Ok(names) => names,
            Err(e) => {
                // What cannot be listed was told with the first ending.
                if end == ".conf" {
                    loaded.add_whole(&dir, Severity::Error, &Unread::from(&e).words(), "");
                }
                Vec::new()
            }
        };
        if names.len() > RULES_MAX {
            loaded.add_whole(&dir, Severity::Error, "more than 256 rule files", "");
            names.truncate(RULES_MAX);
        }
        names.iter_mut().for_each(|name| name.truncate(name.len() - end.len()));
        names
    };
    let (conf, local) = (names(".conf"), names(".local"));
    RuleFiles { dir, conf, local }
}

/// Names of the files in `dir` that count: `*.conf` that are not hidden, sorted. A missing directory has
/// none.
///
/// # Errors
/// When the directory is there and cannot be read, or holds a name that is not UTF-8.
pub fn conf_files(dir: &Path) -> io::Result<Vec<String>> {
    files_ending(dir, ".conf")
}

fn files_ending(dir: &Path, end: &str) -> io::Result<Vec<String>> {
    let (mut names, mut unreadable) = (Vec::new(), false);
    let read = files::each_name(dir, &mut |name| match std::str::from_utf8(name) {
        Ok(name) if name.starts_with('.') || !name.ends_with(end) => {}
        Ok(name) => names.insert(names.partition_point(|n: &String| n.as_str() < name), name.to_owned()),
        Err(_) => unreadable = true,
    });
    match read {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ if unreadable => Err(files::invalid("the name of a file in it is not UTF-8")),
        _ => Ok(names),
    }
}

/// Why a file could not be read.
enum Unread {
    Missing,
    Failed(String),
}

impl Unread {
    fn from(e: &io::Error) -> Unread {
        if e.kind() == ErrorKind::NotFound { Unread::Missing } else { Unread::Failed(e.to_string()) }
    }

    fn words(&self) -> String {
        match self {
            Unread::Missing => "no such file".to_string(),
            Unread::Failed(why) => ["cannot be read: ", why].concat(),
        }
    }
}

/// The file's bytes, and a warning when others may write it. Only ordinary files: opening a pipe would hang.
fn read(path: &Path) -> Result<(Vec<u8>, Option<Problem>), Unread> {
    let meta = fs::metadata(path).map_err(|e| Unread::from(&e))?;
    if !meta.is_file() {
        return Err(Unread::Failed("it is not a file".to_string()));
    }
    let text =
        files::open(path).and_then(|file| files::read(file, FILE_MAX + 1)).map_err(|e| Unread::from(&e))?;
    if text.len() as u64 > FILE_MAX {
        return Err(Unread::Failed("it is larger than 1 MiB".to_string()));
    }
    Ok((text, writable(meta.mode(), meta.gid())))
}

/// Whoever may write the configuration can let himself in, or run programs as root.
fn writable(mode: u32, gid: u32) -> Option<Problem> {
    let who = match (mode & 0o002 != 0, mode & 0o020 != 0 && gid != 0) {
        (true, _) => "everybody",
        (_, true) => "its group",
        _ => return None,
    };
    let what = ["the file is writable by ", who].concat();
    Some(Problem::whole(Severity::Warning, what, "chmod 644, owner root".to_string()))
}
