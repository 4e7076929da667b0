#![forbid(unsafe_code)]
//! `mef load`, `mef confirm` and `mef unload`: the rule set into the kernel, and out of it.

use super::{Error, Output, STDIN, parse, settings};
use crate::base::diag::Severity;
use crate::config::duration;
use crate::firewall::rules;
use crate::rulefile::{self, DEFAULT_PATH};
use crate::ruleset::RuleSet;
use crate::trial::{self, End, Turn};
use argh::FromArgs;
use std::path::Path;

/// Longest trial, s.
const TRIAL_MAX: u32 = 86_400;

/// Put the rule set into the kernel, in one transaction, in place of the one that is there.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Bans are not touched. A rule set with errors, or one that the kernel refuses, changes nothing.",
    note = "With --confirm, the former rules return by themselves: when nobody confirms in time, when the terminal hangs up, and with ^C.",
    example = "mef load\n  mef load --check /etc/mef/mef.rules\n  mef load --confirm 30s"
)]
struct LoadArgs {
    /// the rule set (default /etc/mef/mef.rules); - is standard input
    #[argh(positional, arg_name = "FILE")]
    file: Option<String>,
    /// only say what is wrong with it
    #[argh(switch)]
    check: bool,
    /// how long the rules are on trial, such as 30s: then the former ones return, unless you type yes or `mef confirm` is run
    #[argh(option, arg_name = "time")]
    confirm: Option<String>,
}

pub(super) fn load(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: LoadArgs = parse("load", args)?;
    let path = args.file.as_deref().unwrap_or(DEFAULT_PATH);
    let seconds = args.confirm.as_deref().map(time).transpose()?;
    let mut set = rulefile::read(path, args.check);
    tell(&set, output)?;
    let batch = rulefile::batch(&mut set).map_err(|text| failed(&text, output))?;
    let (rules, parts) = (set.rules(), batch.rules);
    let name = if path == STDIN { "standard input" } else { path };
    if args.check {
        writeln!(output.out, "{name}: {rules} rules, {} sets, no errors", set.sets.len())?;
        return Ok(());
    }
    let turn = turn(output)?;
    // It is used once: by this process, or by the watcher of a trial.
    let mut batch = Some(batch);
    let run_dir = settings(None, output).run_dir;
    let mut load = || {
        batch.take().map_or(Ok(()), |batch| rulefile::load(&set, batch))?;
        trial::note(Path::new(&run_dir), true);
        Ok(())
    };
    let end = match seconds {
        None => load().map(|()| End::Kept).map_err(|(why, _)| why),
        Some(seconds) => turn.trial(seconds, &mut load, &mut |text| output.note(&text)),
    };
    match end.map_err(Error::Failed)? {
        End::Kept => {}
        End::Back => {
            let what = ["not confirmed: the former rules are back, but ", name, " has still the new ones"];
            return Err(Error::Failed(what.concat()));
        }
        End::Stuck => return Err(Error::Failed(STUCK.into())),
    }
    writeln!(output.out, "{name}: {rules} rules ({parts} in the kernel), {} sets", set.sets.len())?;
    Ok(())
}

const STUCK: &str =
    "not confirmed, but the kernel refuses the former rules: the new ones stay (the system's log says more)";

/// The time of a trial, s.
fn time(text: &str) -> Result<u32, Error> {
    let wrong = |why: &str| Error::Usage(["--confirm ", text, ": ", why].concat());
    match duration(text).map_err(|bad| wrong(&bad.hint))? {
        seconds @ 1..=TRIAL_MAX => Ok(seconds),
        _ => Err(wrong("expected 1s to 1d")),
    }
}

fn turn(output: &mut Output<'_>) -> Result<Turn, Error> {
    Turn::take(Path::new(&settings(None, output).run_dir)).map_err(Error::Failed)
}

/// Keep the rules that `mef load --confirm` has put on trial.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), example = "mef confirm")]
struct ConfirmArgs {}

pub(super) fn confirm(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let ConfirmArgs {} = parse("confirm", args)?;
    let run_dir = settings(None, output).run_dir;
    trial::confirm(Path::new(&run_dir)).map_err(Error::Failed)?;
    writeln!(output.out, "the rules stay")?;
    Ok(())
}

/// Shows what is wrong on standard error. Errors end the command.
pub(super) fn tell(set: &RuleSet, output: &mut Output<'_>) -> Result<(), Error> {
    for text in rulefile::shown(set) {
        output.raw(&text);
    }
    let errors = set.problems.iter().filter(|(_, p)| p.severity == Severity::Error).count();
    if errors > 0 {
        let noun = if errors == 1 { " error" } else { " errors" };
        return Err(Error::Failed([errors.to_string().as_str(), noun, "; nothing was changed"].concat()));
    }
    Ok(())
}

/// A text that is complete in itself.
pub(super) fn failed(text: &str, output: &mut Output<'_>) -> Error {
    output.raw(text);
    Error::Failed("nothing was changed".into())
}

/// Take the rule set out of the kernel. Bans stay.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), example = "mef unload")]
struct UnloadArgs {}

pub(super) fn unload(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let UnloadArgs {} = parse("unload", args)?;
    let _turn = turn(output)?;
    // Before it: the daemon must not take it for an accident.
    trial::note(Path::new(&settings(None, output).run_dir), false);
    rules::unload().map_err(|e| Error::Failed(e.to_string()))
}
