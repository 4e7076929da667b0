#![forbid(unsafe_code)]
//! The arguments of a command.

use super::output::OutputError;
use argh::FromArgs;

/// What stands for `-` among the arguments: standard input.
pub(super) const STDIN: &str = crate::rulefile::STDIN;

/// Reads a command's arguments.
pub(super) fn parse<T: FromArgs>(name: &str, args: &[&str]) -> Result<T, OutputError> {
    T::from_args(&["mef", name], &stdin_named(args)).map_err(early)
}

/// Alone, `-` is standard input; argh takes everything with a dash for an option. Behind `--reason` it is a
/// text.
fn stdin_named<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut named = args.to_vec();
    let mut before = "";
    for arg in &mut named {
        if *arg == "-" && before != "--reason" {
            *arg = STDIN;
        }
        before = arg;
    }
    named
}

fn early(early: argh::EarlyExit) -> OutputError {
    match early.status {
        Ok(()) => OutputError::Help(early.output),
        Err(()) => OutputError::Usage(early.output),
    }
}
