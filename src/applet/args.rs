#![forbid(unsafe_code)]
//! The arguments of a command.

use super::output::OutputError;
use argh::FromArgs;

/// What stands for `-` among the arguments: standard input.
pub(super) const STDIN: &str = crate::rulefile::STDIN;

/// Reads a command's arguments.
pub(super) fn parse<T: FromArgs>(name: &str, args: &[&str]) -> Result<T, OutputError> {
    T::from_args(&["mef", name], &usual(args)).map_err(early)
}

/// Arguments as argh knows them, which takes everything with a dash for an option: `-` alone is standard
/// input, and `--name=value` is an option with its value. Behind `--reason` any text is one.
fn usual<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut usual = Vec::with_capacity(args.len());
    let (mut before, mut only_operands) = ("", false);
    for &arg in args {
        let is_text = before == "--reason";
        only_operands |= arg == "--" && !is_text;
        match arg.split_once('=').filter(|(name, _)| name.starts_with("--") && name.len() > 2) {
            Some((name, value)) if !is_text && !only_operands => {
                let is_input = value == "-" && name != "--reason";
                usual.extend([name, if is_input { STDIN } else { value }]);
            }
            _ if arg == "-" && !is_text => usual.push(STDIN),
            _ => usual.push(arg),
        }
        before = arg;
    }
    usual
}

fn early(early: argh::EarlyExit) -> OutputError {
    match early.status {
        // argh aligns the first line of examples alone, and ends without a newline.
        Ok(()) => OutputError::Help(early.output.trim_end().replace("\n    mef", "\n  mef") + "\n"),
        Err(()) => OutputError::Usage(early.output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_may_have_its_value_behind_a_sign() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["--for=1h", "192.0.2.1"], &["--for", "1h", "192.0.2.1"]),
            (&["--for", "1h"], &["--for", "1h"]),
            (&["--reason=a=b"], &["--reason", "a=b"]),
            (&["--reason="], &["--reason", ""]),
            (&["--reason", "--a=b"], &["--reason", "--a=b"]),
            (&["--reason", "-"], &["--reason", "-"]),
            (&["--reason=-"], &["--reason", "-"]),
            (&["--html=-"], &["--html", STDIN]),
            (&["--", "--a=b"], &["--", "--a=b"]),
            (&["-"], &[STDIN]),
            (&["a=b", "--=c"], &["a=b", "--=c"]),
        ];
        for (args, want) in cases {
            assert_eq!(usual(args), *want, "{args:?}");
        }
    }
}
