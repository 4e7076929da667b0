#![forbid(unsafe_code)]
//! `mef check`: every problem of every file, at once.
//! A file whose name ends in `.rules` is a rule set, `mef.conf` the configuration, one in a directory of
//! lists a list, everything else a service rule.

mod backend;

use super::args::parse;
use super::context::settings;
use super::output::{Output, OutputError, OutputShape};
use crate::base::count::count;
use crate::base::diag::{Problem, Severity};
use crate::base::json::Object;
use crate::config::{DEFAULT_PATH, ListKind, Loaded, Settings, conf_files, load, load_rule};
use crate::firewall;
use crate::lists::{self, Paths};
use crate::rulefile::{self, DEFAULT_PATH as DEFAULT_RULES};
use crate::sys::capability;
use argh::FromArgs;
use std::path::Path;

/// Check the rule set, configuration and service rules, and show every problem with its line.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Without files: /etc/mef/mef.rules if it exists, mef.conf, all service rules and lists that it \
        names, and the built-in ones.",
    example = "mef check\n  mef check /etc/mef/mef.rules /etc/mef/rules.d/sshd.conf"
)]
struct CheckArgs {
    /// rule sets, service rules or a mef.conf to check
    #[argh(positional, arg_name = "FILE")]
    files: Vec<String>,
    /// one JSON object for each problem, and one for each thing that was checked
    #[argh(switch)]
    json: bool,
    /// path to mef.conf
    #[argh(option, arg_name = "file", default = "DEFAULT_PATH.to_owned()")]
    config: String,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: CheckArgs = parse("check", args)?;
    choose(&args.config);
    // What is kept of lists belongs to the daemon's user.
    capability::give_up_all_but(&[capability::DAC_READ_SEARCH]);
    judge(&args, output)
}

/// Finds out which backend rule sets are for, as long as it may be asked what works.
fn choose(config: &str) {
    let text = crate::sys::fs::content(Path::new(config)).unwrap_or_default();
    firewall::choose(crate::config::parse_global(&text).0.firewall_backend.into());
    if firewall::may_have_left() && firewall::loader::is_fallback() {
        firewall::loader::ask_for_ipv6();
    }
}

/// Checks everything that mef.conf names, for a command that has more to do: it gives up nothing.
pub(super) fn everything(output: &mut Output<'_>) -> Result<(), OutputError> {
    judge(&CheckArgs { files: Vec::new(), json: false, config: DEFAULT_PATH.to_owned() }, output)
}

fn judge(args: &CheckArgs, output: &mut Output<'_>) -> Result<(), OutputError> {
    let (mut failed, shape) = (false, args.json.into());
    if args.files.is_empty() {
        if Path::new(DEFAULT_RULES).exists() {
            failed = rule_set(DEFAULT_RULES, shape, output)?;
        }
        let mut loaded = load(Path::new(&args.config), &mut crate::services::check);
        loaded.problems.extend(backend::problems(&args.config, &loaded.settings));
        failed |= report(&loaded, shape, output)?;
        let paths = Paths::of(&loaded.settings);
        for kind in [ListKind::Allow, ListKind::Deny] {
            let dir = paths.dir(kind);
            for name in
                conf_files(dir).map_err(|e| OutputError::Failed(format!("{}: {e}", dir.to_string_lossy())))?
            {
                failed |= list(kind, &dir.join(name), &paths, shape, output)?;
            }
        }
    }
    let mut paths = None;
    for file in &args.files {
        if file.ends_with(".rules") {
            failed |= rule_set(file, shape, output)?;
            continue;
        }
        let paths = paths.get_or_insert_with(|| {
            Paths::of(&settings(Some(args.config.as_str()).filter(|path| *path != DEFAULT_PATH), output))
        });
        let kind = [ListKind::Allow, ListKind::Deny]
            .into_iter()
            .find(|kind| Path::new(file).parent() == Some(paths.dir(*kind)));
        if let Some(kind) = kind {
            failed |= list(kind, Path::new(file), paths, shape, output)?;
            continue;
        }
        let loaded = if Path::new(file).file_name().is_some_and(|name| name == "mef.conf") {
            load(Path::new(file), &mut crate::services::check)
        } else {
            // A path is never taken for a rule's name.
            let path = if file.contains('/') { file.clone() } else { format!("./{file}") };
            load_rule(Settings::default(), &path, &mut crate::services::check)
        };
        failed |= report(&loaded, shape, output)?;
    }
    if failed { Err(OutputError::Told) } else { Ok(()) }
}

/// Shows what is wrong with an allow or deny list, as whoever loads it finds it; whether nothing of it can be
/// used.
fn list(
    kind: ListKind,
    path: &Path,
    paths: &Paths,
    shape: OutputShape,
    output: &mut Output<'_>,
) -> Result<bool, OutputError> {
    let mut shown = Ok(());
    let mut note = |text: &dyn std::fmt::Display| {
        if shown.is_ok() {
            shown = match shape {
                OutputShape::Json => {
                    writeln!(output.out, "{}", Object::new().text("problem", &*text.to_string()).finish())
                }
                OutputShape::Text => writeln!(output.out, "{text}"),
            };
        }
    };
    let verdict = lists::check(kind, path, paths, &mut note);
    shown?;
    let path = path.to_string_lossy();
    if shape == OutputShape::Json {
        let (is_bad, bad) = (verdict.refused.is_some(), verdict.counts.passed_over());
        writeln!(output.out, "{}", summary(&path, verdict.counts.good.into(), (is_bad.into(), bad.into())))?;
        return Ok(is_bad);
    }
    match verdict.refused {
        Some(why) => {
            writeln!(output.out, "{path}: {why}")?;
            Ok(true)
        }
        None => {
            let counts = verdict.counts;
            writeln!(
                output.out,
                "{path}: {}, {}",
                count(counts.good, "entry"),
                count(counts.passed_over(), "bad line")
            )?;
            Ok(false)
        }
    }
}

/// A problem, for programs.
fn problem(file: &str, p: &Problem) -> String {
    let at = |number: u32| Some(u64::from(number)).filter(|_| p.line > 0);
    Object::new()
        .text("problem", p.what.as_str())
        .text("file", file)
        .number("line", at(p.line))
        .number("column", at(p.col))
        .text("severity", if p.severity == Severity::Error { "error" } else { "warning" })
        .text("hint", Some(p.hint.as_str()).filter(|hint| !hint.is_empty()))
        .finish()
}

/// What was checked: how much of it is there, and how much is wrong.
fn summary(what: &str, entries: u64, (errors, warnings): (u64, u64)) -> String {
    let object = Object::new().text("checked", what).number("entries", entries);
    object.number("errors", errors).number("warnings", warnings).finish()
}

/// How much is wrong.
fn found(errors: usize, warnings: usize) -> String {
    format!("{}, {}", count(errors, "error"), count(warnings, "warning"))
}

/// Shows what is wrong with a rule set; whether any of it is an error.
fn rule_set(file: &str, shape: OutputShape, output: &mut Output<'_>) -> Result<bool, OutputError> {
    let set = rulefile::read(file, rulefile::CheckDepth::Thorough);
    if shape == OutputShape::Json {
        for (number, p) in &set.problems {
            let name = set.files.get(usize::from(*number)).map_or(file, |file| &file.name);
            writeln!(output.out, "{}", problem(name, p))?;
        }
    } else {
        for text in rulefile::shown(&set) {
            output.out.write_all(text.as_bytes())?;
        }
    }
    let errors = set.problems.iter().filter(|(_, p)| p.severity == Severity::Error).count();
    let (warnings, rules) = (set.problems.len() - errors, set.rules());
    if shape == OutputShape::Json {
        writeln!(output.out, "{}", summary(file, rules as u64, (errors as u64, warnings as u64)))?;
        return Ok(errors > 0);
    }
    writeln!(output.out, "{}; {}", count(rules, "rule"), found(errors, warnings))?;
    Ok(errors > 0)
}

/// Shows what is wrong; whether any of it is an error.
fn report(loaded: &Loaded, shape: OutputShape, output: &mut Output<'_>) -> Result<bool, OutputError> {
    for p in &loaded.problems {
        match shape {
            OutputShape::Json => writeln!(output.out, "{}", problem(&p.path, &p.problem))?,
            OutputShape::Text => write!(output.out, "{}", p.shown)?,
        }
    }
    let errors = loaded.problems.iter().filter(|p| p.problem.severity == Severity::Error).count();
    let warnings = loaded.problems.len() - errors;
    let rules = loaded.rules.len();
    if shape == OutputShape::Json {
        let found = (errors as u64, warnings as u64);
        writeln!(output.out, "{}", summary("service rules", rules as u64, found))?;
        return Ok(errors > 0);
    }
    writeln!(output.out, "{}; {}", count(rules, "service rule"), found(errors, warnings))?;
    Ok(errors > 0)
}
