#![forbid(unsafe_code)]
//! From paths to settings and rules: which files there are, and which of them counts.
//!
//! Every `NAME.conf` of rules_dir is a rule. Built-in rules stay in force beside them until
//! the directory has a file or a rule of the same name; such a file with `enabled=false` switches one off.
//! Taking a file away therefore brings the built-in back, as it does for mef.conf, where a missing key is its
//! default. Hidden files and every other ending are left alone: editors and package managers put their copies
//! there.

use super::builtin::{builtin, builtin_text};
use super::global::parse_global;
use super::service::{ServiceRule, parse_service};
use super::settings::Settings;
use crate::base::diag::{Problem, Severity};
use crate::sys::fs as files;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
}

impl Loaded {
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

/// Reads mef.conf at `conf` and what it names. A missing mef.conf is no problem if `conf` is
/// [`DEFAULT_PATH`]: nobody asked for it. `check` sees every rule without errors while its text is at hand,
/// and adds what it finds wrong (patterns that do not compile); the rule is then dropped. It may also switch
/// a rule off.
#[must_use]
pub fn load(conf: &Path, check: &mut dyn FnMut(&mut ServiceRule, &mut Vec<Problem>)) -> Loaded {
    let mut loaded = Loaded { settings: Settings::default(), rules: Vec::new(), problems: Vec::new() };
    let path = conf.to_string_lossy();
    match read(conf) {
        Ok((text, problem)) => {
            let (settings, mut problems) = parse_global(&text);
            loaded.settings = settings;
            problems.extend(problem);
            loaded.add(&path, &text, problems);
        }
        Err(Unread::Missing) if path == DEFAULT_PATH => {}
        Err(e) => loaded.add_whole(&path, Severity::Error, &e.words(), ""),
    }
    let names = rule_files(&mut loaded);
    for name in &names {
        let path = [&loaded.settings.rules_dir, "/", name].concat();
        match read(Path::new(&path)) {
            Ok((text, problem)) => {
                let stem = name.strip_suffix(".conf").unwrap_or(name);
                add_rule(&mut loaded, stem, &path, &text, problem, check);
            }
            // Gone between listing and reading: as if it had never been there.
            Err(Unread::Missing) => {}
            Err(e) => loaded.add_whole(&path, Severity::Error, &e.words(), ""),
        }
    }
    builtin(&mut |name, text| {
        let file = names.iter().any(|n| n.strip_suffix(".conf") == Some(name));
        if !file && !loaded.rules.iter().any(|r| r.name == *name) {
            add_rule(&mut loaded, name, &["<built-in ", name, ">"].concat(), text.as_bytes(), None, check);
        }
        true
    });
    loaded
}

/// Reads one rule, by the path of its file or by the name of a rule in `settings.rules_dir` or of a built-in
/// one.
#[must_use]
pub fn load_rule(
    settings: Settings,
    rule: &str,
    check: &mut dyn FnMut(&mut ServiceRule, &mut Vec<Problem>),
) -> Loaded {
    let mut loaded = Loaded { settings, rules: Vec::new(), problems: Vec::new() };
    let path = match rule.contains('/') {
        true => rule.to_string(),
        false => [&loaded.settings.rules_dir, "/", rule, ".conf"].concat(),
    };
    let stem = Path::new(&path).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    match (read(Path::new(&path)), builtin_text(rule)) {
        (Ok((text, problem)), _) => add_rule(&mut loaded, &stem, &path, &text, problem, check),
        (Err(Unread::Missing), Some(text)) => {
            add_rule(&mut loaded, rule, &["<built-in ", rule, ">"].concat(), text.as_bytes(), None, check);
        }
        (Err(e), _) => loaded.add_whole(&path, Severity::Error, &e.words(), ""),
    }
    loaded
}

/// Parses a rule and has it checked; it is kept when nothing is wrong.
fn add_rule(
    loaded: &mut Loaded,
    stem: &str,
    path: &str,
    text: &[u8],
    problem: Option<Problem>,
    check: &mut dyn FnMut(&mut ServiceRule, &mut Vec<Problem>),
) {
    let (rule, mut problems) = parse_service(stem, text);
    problems.extend(problem);
    if let Some(mut rule) = rule {
        rule.path = path.to_string();
        if let Some(other) = loaded.rules.iter().find(|r| r.name == rule.name) {
            let what = ["the name '", &rule.name, "' is taken by ", &other.path].concat();
            problems.push(Problem::whole(
                Severity::Error,
                what,
                "give one of them another name=".to_string(),
            ));
        }
        check(&mut rule, &mut problems);
        if !problems.iter().any(|p| p.severity == Severity::Error) {
            // In order as they come: a library sort would be larger than this module.
            let place = loaded.rules.partition_point(|r| r.name < rule.name);
            loaded.rules.insert(place, rule);
        }
    }
    loaded.add(path, text, problems);
}

/// Names of the rule files. A directory that is not there has none.
fn rule_files(loaded: &mut Loaded) -> Vec<String> {
    let dir = loaded.settings.rules_dir.clone();
    let mut names = match conf_files(Path::new(&dir)) {
        Ok(names) => names,
        Err(e) => {
            loaded.add_whole(&dir, Severity::Error, &Unread::from(&e).words(), "");
            Vec::new()
        }
    };
    if names.len() > RULES_MAX {
        loaded.add_whole(&dir, Severity::Error, "more than 256 rule files", "");
        names.truncate(RULES_MAX);
    }
    names
}

/// Names of the files in `dir` that count: `*.conf` that are not hidden, sorted. A missing directory has
/// none.
///
/// # Errors
/// When the directory is there and cannot be read, or holds a name that is not UTF-8.
pub fn conf_files(dir: &Path) -> io::Result<Vec<String>> {
    let (mut names, mut unreadable) = (Vec::new(), false);
    let read = files::each_name(dir, &mut |name| match std::str::from_utf8(name) {
        Ok(name) if name.starts_with('.') || !name.ends_with(".conf") => {}
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
    let what = ["the file can be written by ", who].concat();
    Some(Problem::whole(Severity::Warning, what, "chmod 644, owner root".to_string()))
}
