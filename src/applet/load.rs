#![forbid(unsafe_code)]
//! `mef load` and `mef unload`: the rule set into the kernel, and out of it.

use super::{Error, Output, STDIN, parse};
use crate::base::diag::Severity;
use crate::firewall::rules;
use crate::rulefile::{self, DEFAULT_PATH};
use crate::ruleset::RuleSet;
use argh::FromArgs;

/// Put the rule set into the kernel, in one transaction, in place of the one that is there.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Bans are not touched. A rule set with errors, or one that the kernel refuses, changes nothing.",
    example = "mef load\n  mef load --check /etc/mef/mef.rules"
)]
struct LoadArgs {
    /// the rule set (default /etc/mef/mef.rules); - is standard input
    #[argh(positional, arg_name = "FILE")]
    file: Option<String>,
    /// only say what is wrong with it
    #[argh(switch)]
    check: bool,
}

pub(super) fn load(args: &[&str], output: &mut Output<'_>) -> Result<(), Error> {
    let args: LoadArgs = parse("load", args)?;
    let path = args.file.as_deref().unwrap_or(DEFAULT_PATH);
    let set = rulefile::read(path, args.check);
    tell(&set, output)?;
    let batch = rulefile::batch(&set).map_err(|text| failed(&text, output))?;
    let (rules, parts) = (set.rules(), batch.rules);
    let name = if path == STDIN { "standard input" } else { path };
    if args.check {
        writeln!(output.out, "{name}: {rules} rules, {} sets, no errors", set.sets.len())?;
        return Ok(());
    }
    rulefile::load(&set, batch).map_err(Error::Failed)?;
    writeln!(output.out, "{name}: {rules} rules ({parts} in the kernel), {} sets", set.sets.len())?;
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

pub(super) fn unload(args: &[&str], _: &mut Output<'_>) -> Result<(), Error> {
    let UnloadArgs {} = parse("unload", args)?;
    rules::unload().map_err(|e| Error::Failed(e.to_string()))
}
