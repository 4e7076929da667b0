#![forbid(unsafe_code)]
//! `mef fmt`: a rule set in canonical form.

use super::args::{STDIN, parse};
use super::output::{Output, OutputError};
use crate::base::count::count;
use crate::base::json::Object;
use crate::rulefile::{DEFAULT_PATH, read_file, replace};
use crate::ruleset::{canonical, canonical_v1};
use crate::sys::capability;
use argh::FromArgs;

/// Show a rule set in canonical form: every key, always in the same order. Comments and blank lines stay.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    example = "mef fmt\n  mef fmt --write /etc/mef/mef.rules\n  mef fmt --v1"
)]
struct FmtArgs {
    /// the rule set (default /etc/mef/mef.rules); - is standard input
    #[argh(positional, arg_name = "FILE")]
    file: Option<String>,
    /// write it back into the file
    #[argh(switch)]
    write: bool,
    /// without keys that MEF does not know, so that it can still read the file
    #[argh(switch)]
    v1: bool,
    /// print a JSON object
    #[argh(switch)]
    json: bool,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: FmtArgs = parse("fmt", args)?;
    let path = args.file.as_deref().unwrap_or(DEFAULT_PATH);
    if args.write && path == STDIN {
        return Err(OutputError::Usage("--write needs a file".into()));
    }
    let failed = |e: std::io::Error| OutputError::Failed([path, ": ", &e.to_string()].concat());
    let bytes = read_file(path).map_err(failed)?;
    if !args.write {
        capability::give_up_all_but(&[]);
    }
    let (mut first, mut lines) = (None, 0u32);
    let mut beyond = |line| (first, lines) = (first.or(Some(line)), lines + 1);
    let text = if args.v1 { canonical_v1(&bytes, &mut beyond) } else { canonical(&bytes) };
    let text = match text {
        Ok(text) => text,
        Err(problems) => {
            let text = String::from_utf8_lossy(&bytes);
            for problem in problems {
                output.raw(&problem.render(path, &text));
            }
            return Err(OutputError::Told);
        }
    };
    if let Some(first) = first {
        let count = count(lines, "line");
        output.note(&format_args!("{path}:{first}: {count} with words that MEF does not know"));
    }
    let differs = text.as_bytes() != bytes;
    if args.write && differs {
        replace(path, text.as_bytes()).map_err(failed)?;
    }
    if args.json {
        let object = Object::new().text("file", path).flag("canonical", !differs);
        let object = object.flag("written", args.write && differs).text("text", text.as_str());
        writeln!(output.out, "{}", object.finish())?;
    } else if !args.write {
        output.out.write_all(text.as_bytes())?;
    }
    Ok(())
}
