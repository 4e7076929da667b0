#![forbid(unsafe_code)]
//! `mefctl`: the existing product's command language. Each of its words is one of ours with other options;
//! what has no counterpart says so. Only what those words can do and ours cannot has code here.

mod bans;
mod config;
mod listing;
mod rotation;
mod services;
mod text;
mod words;

use super::context::settings;
use super::output::{Output, OutputError, required};
use super::{check, export, fmt, load, report, status, unban, version};
use crate::base::build_part::BuildPart;
use crate::config::ago;
use crate::rulefile::DEFAULT_PATH;
use crate::setup::{Manifest, Root};
use crate::sys::stdio;
use crate::sys::terminal::AnswersFrom;
use std::path::Path;
use text::HELP;
use words::{GivenWords, unknown};

/// Where `rules migrate --write` puts what it found.
const MIGRATED: &str = "/etc/mef/rules.migrate";
/// How long rules wait for their confirmation.
const TRIAL: &str = "30s";

/// Seconds that `stats` looks back at most.
const WINDOW_MAX: u32 = 14 * 86_400;

/// The words of the existing product.
const WORDS: [&str; 15] = [
    "rules", "bans", "lists", "config", "stats", "status", "fix", "start", "stop", "restart", "reload",
    "enable", "disable", "version", "update",
];

/// Runs a command of ours by its name; `None`: there is no such command.
pub(super) type MefctlCall<'a> =
    dyn Fn(&str, &[&str], &mut Output<'_>) -> Option<Result<(), OutputError>> + 'a;

/// Does what the words say.
pub(super) fn run(args: &[&str], call: &MefctlCall<'_>, output: &mut Output<'_>) -> Result<(), OutputError> {
    let Some((word, rest)) = args.split_first() else { return Err(OutputError::Usage(HELP.to_owned())) };
    // Hints name commands of ours, and this may be the only name that the program has here.
    if !WORDS.contains(word)
        && let Some(result) = call(word, rest, output)
    {
        return result;
    }
    // Every word explains itself by the one page there is.
    if ["help", "--help", "-h"].iter().any(|help| args.contains(help)) {
        return Err(OutputError::Help(HELP.to_owned()));
    }
    match *word {
        "rules" => rules(rest, output),
        "bans" => bans::run(rest, output),
        "lists" => listing::run(rest, output),
        "config" => config::run(rest, output),
        "status" => state(rest, output),
        "stats" => stats(rest, output),
        "fix" => fix(rest, call, output),
        "update" => update(rest, output),
        "version" | "--version" | "-version" | "-v" => {
            GivenWords::read(rest, &[], &[])?.none()?;
            version::run(&[], output)
        }
        "start" | "stop" | "restart" | "reload" | "enable" | "disable" => services::run(word, rest, output),
        _ => Err(unknown("command", word, &WORDS)),
    }
}

/// `rules apply|validate|fmt|clear|migrate`.
fn rules(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    const ALL: &[&str] = &["apply", "validate", "fmt", "clear", "migrate"];
    let (action, rest) = words::action("rules", args, ALL)?;
    match action {
        "apply" => apply(rest, output),
        "validate" => {
            let words = GivenWords::read(rest, &[], &[])?;
            load::load(&["--check", words.file(DEFAULT_PATH)?], output)
        }
        "fmt" => {
            let words = GivenWords::read(rest, &["--write"], &["--out"])?;
            let file = words.file(DEFAULT_PATH)?;
            match words.value("--out") {
                Some(_) if words.has("--write") => {
                    Err(OutputError::Usage("--write and --out exclude each other".into()))
                }
                Some(to) => words::into_file(to, output, |output| fmt::run(&["--v1", file], output)),
                None if words.has("--write") => fmt::run(&["--v1", "--write", file], output),
                None => fmt::run(&["--v1", file], output),
            }
        }
        "clear" => clear(&GivenWords::read(rest, &["--all", "--force"], &[])?, output),
        _ => {
            let words = GivenWords::read(rest, &["--write"], &["--out", "--family", "--table"])?;
            words.none()?;
            required(BuildPart::Export)?;
            let mut args = Vec::new();
            for option in ["--family", "--table"] {
                args.extend(words.value(option).into_iter().flat_map(|value| [option, value]));
            }
            match words.value("--out").or(words.has("--write").then_some(MIGRATED)) {
                Some(to) => words::into_file(to, output, |output| export::run(&args, output)),
                None => export::run(&args, output),
            }
        }
    }
}

/// Without `--yes` the rules go again by themselves, unless somebody says so in time: at the terminal, by
/// what is piped to us, as there, or with `confirm`.
fn apply(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let words = GivenWords::read(args, &["--yes"], &["--timeout"])?;
    let file = words.file(DEFAULT_PATH)?;
    if !words.has("--yes") {
        let time = words.value("--timeout").unwrap_or(TRIAL);
        return load::load_by(&["--confirm", time, file], AnswersFrom::StandardInput, output);
    }
    // What an init system starts while there are no rules is the start of the host: rules that nobody has
    // confirmed before it are not loaded.
    settings(None, output);
    let by_init = std::env::var_os("INVOCATION_ID").is_some() && !stdio::is_terminal();
    if by_init && crate::firewall::loader::is_loaded().is_ok_and(|loaded| !loaded) {
        return load::load(&["--boot", file], output);
    }
    load::load(&[file], output)
}

/// `--all` is the whole table there, bans included.
fn clear(words: &GivenWords<'_>, output: &mut Output<'_>) -> Result<(), OutputError> {
    words.none()?;
    if !words.has("--all") {
        return load::unload(&[], output);
    }
    let question = "this removes the rules, whatever other programs have put into their table, and all bans \
        that have an end; type yes to go on: ";
    if !words.has("--force") && !words::confirmed(question, output)? {
        return Err(OutputError::Failed("nothing was changed".into()));
    }
    load::unload(&[], output)?;
    unban::run(&["--all"], output)
}

/// `status [--verbose] [fastpath]`.
fn state(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let words = GivenWords::read(args, &["--verbose"], &[])?;
    match words.rest() {
        [] => {
            let all: &[&str] = if words.has("--verbose") { &["--all"] } else { &[] };
            let status = status::run(all, output);
            rotation::tell(&settings(None, output), output)?;
            status
        }
        ["fastpath"] => listing::fastpath(output),
        [other, ..] => Err(unknown("target", other, &["fastpath"])),
    }
}

/// Of the attacks of the past.
fn stats(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    const OURS: [(&str, &str); 5] = [
        ("--window", "--since"),
        ("--scope", "--scope"),
        ("--top-ports", "--top-ports"),
        ("--top-sources", "--top-sources"),
        ("--log-path", "--log"),
    ];
    let known = ["--window", "--scope", "--top-ports", "--top-sources", "--log-path", "--format"];
    let words = GivenWords::read(args, &[], &known)?;
    words.none()?;
    let window = words.value("--window").or(words.value("--scope").is_none().then_some("24h"));
    if window.is_some_and(|text| ago(text).is_ok_and(|secs| secs > WINDOW_MAX)) {
        return Err(OutputError::Usage("--window: at most 14d; `mef report --since` has no limit".into()));
    }
    let mut args = Vec::new();
    for (theirs, option) in OURS {
        let value = if theirs == "--window" { window } else { words.value(theirs) };
        args.extend(value.into_iter().flat_map(|value| [option, value]));
    }
    match words.value("--format") {
        None | Some("text") => {}
        Some("json") => args.push("--json"),
        Some(other) => return Err(unknown("format", other, &["text", "json"])),
    }
    required(BuildPart::Report)?;
    report::run(&args, output)
}

/// Whether what starts mef here is ours: an upgrade of what others have set up would start it twice.
fn is_set_up() -> bool {
    !Manifest::read(&Root::new(Path::new("/"))).files.is_empty()
}

/// `fix check` says what is wrong, `fix all` brings what was installed up to date.
fn fix(args: &[&str], call: &MefctlCall<'_>, output: &mut Output<'_>) -> Result<(), OutputError> {
    let (action, rest) = words::action("fix", args, &["check", "all"])?;
    GivenWords::read(rest, &[], &[])?.none()?;
    if action == "all" {
        let upgraded = if is_set_up() { call("setup", &["--upgrade"], output) } else { None };
        let done = match upgraded {
            Some(result) => result,
            None => {
                output.note(&"the services here are not those of `mef setup`: they stay as they are");
                output.end()
            }
        };
        return rotation::mend(&settings(None, output), output).and(done);
    }
    let found = check::everything(output);
    writeln!(output.out)?;
    let status = status::run(&[], output);
    let rotated = rotation::tell(&settings(None, output), output)?;
    status.and(found).and(if rotated { Ok(()) } else { Err(OutputError::Told) })
}

/// There is no network traffic of our own: a new version is brought by whoever installed this one.
fn update(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let words = GivenWords::read(args, &["--force"], &["--version"])?;
    let check = match words.rest() {
        [] => false,
        ["check"] => true,
        [other, ..] => return Err(unknown("action", other, &["check"])),
    };
    version::run(&[], output)?;
    let how = services::updated_by();
    let text = "mef makes no network traffic of its own, and so neither looks for a newer version nor \
        fetches one.";
    writeln!(output.out, "{text}\n{how}")?;
    if check { Ok(()) } else { Err(OutputError::Told) }
}
