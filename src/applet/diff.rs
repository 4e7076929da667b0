#![forbid(unsafe_code)]
//! `mef diff`: the rule set against what is loaded.

use super::args::{STDIN, parse};
use super::load::{failed, places, report};
use super::output::{Output, OutputError, seen};
use crate::base::json::Object;
use crate::rulefile::{self, DEFAULT_PATH};
use crate::ruleset::diff::{LineChange, lines};
use argh::FromArgs;
use std::path::PathBuf;

/// Show what `mef load` would change: - before what would go, + before what would come.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Both sides are shown in canonical form, auto as the interfaces that it means. Exit status: 0 no \
        difference, 1 differences or an error.",
    note = "With iptables, the file that was loaded stands for what is in the kernel: what others changed \
        there since is not seen.",
    example = "mef diff\n  mef diff /etc/mef/mef.rules"
)]
struct DiffArgs {
    /// the rule set (default /etc/mef/mef.rules); - is standard input
    #[argh(positional, arg_name = "FILE")]
    file: Option<String>,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: DiffArgs = parse("diff", args)?;
    let (saved, _) = places(output);
    let file = args.file.as_deref().unwrap_or(DEFAULT_PATH);
    let mut kept: Vec<PathBuf> = saved.pending().into_iter().chain(saved.confirmed()).collect();
    kept.extend([file, DEFAULT_PATH].into_iter().filter(|file| *file != STDIN).map(PathBuf::from));
    let set = rulefile::read(file, rulefile::CheckDepth::Quick);
    report(&set, output)?;
    let new = rulefile::statements(&set).map_err(|text| failed(&text, output))?;
    drop(set);
    let old = rulefile::loaded(&kept).map_err(OutputError::Failed)?;
    let (mut differ, mut result) = (false, Ok(()));
    lines(&old, &new, &mut |change, line| {
        differ = true;
        let (sign, word) = if change == LineChange::Gone { ('-', "gone") } else { ('+', "new") };
        if result.is_ok() {
            result = if args.json {
                writeln!(output.out, "{}", Object::new().text("change", word).text("text", line).finish())
            } else {
                writeln!(output.out, "{sign} {line}")
            };
        }
    });
    seen(result)?;
    if differ { Err(OutputError::Told) } else { Ok(()) }
}
