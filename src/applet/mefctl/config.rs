#![forbid(unsafe_code)]
//! `mefctl config`: which keys mef.conf has, which have their defaults, and which nobody knows.

use super::words::{self, GivenWords};
use crate::applet::output::{Output, OutputError};
use crate::base::count::count;
use crate::base::diag::Severity;
use crate::base::line::shown;
use crate::config::{DEFAULT_PATH, missing_keys, parse_global};
use crate::rulefile::{read_file, replace};

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let (action, rest) = words::action("config", args, &["check", "update", "show"])?;
    match action {
        "check" => {
            let words = GivenWords::read(rest, &[], &[])?;
            check(words.file(DEFAULT_PATH)?, output)
        }
        "show" => {
            let words = GivenWords::read(rest, &[], &[])?;
            show(words.file(DEFAULT_PATH)?, output)
        }
        _ => {
            // Whoever forces it wants what is done in any case.
            let words = GivenWords::read(rest, &["--dry-run", "--force"], &[])?;
            update(
                words.file(DEFAULT_PATH)?,
                if words.has("--dry-run") { Effect::Shown } else { Effect::Written },
                output,
            )
        }
    }
}

fn failed(path: &str, e: &std::io::Error) -> OutputError {
    OutputError::Failed(format!("{path}: {e}"))
}

fn check(path: &str, output: &mut Output<'_>) -> Result<(), OutputError> {
    let bytes = read_file(path).map_err(|e| failed(path, &e))?;
    let text = String::from_utf8_lossy(&bytes);
    let (_, problems) = parse_global(&bytes);
    for problem in &problems {
        write!(output.out, "{}", problem.render(path, &text))?;
    }
    let missing = missing_keys(&bytes);
    for (name, default) in &missing {
        writeln!(output.out, "{path}: {name} is not set, its default is {default}")?;
    }
    let errors = problems.iter().filter(|p| p.severity == Severity::Error).count();
    writeln!(
        output.out,
        "{path}: {}, {}, {} not set",
        count(errors, "error"),
        count(problems.len() - errors, "warning"),
        count(missing.len(), "key")
    )?;
    if errors > 0 { Err(OutputError::Told) } else { Ok(()) }
}

/// Every key with its value: what stands in the file, and the defaults of what does not.
fn show(path: &str, output: &mut Output<'_>) -> Result<(), OutputError> {
    let bytes = read_file(path).map_err(|e| failed(path, &e))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';', '[']));
    for line in lines {
        writeln!(output.out, "{}", shown(line))?;
    }
    for (name, default) in missing_keys(&bytes) {
        writeln!(output.out, "{name}={default}")?;
    }
    Ok(())
}

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Written,
    /// It is only said what it would be.
    Shown,
}

/// Writes out the defaults of what a file leaves unsaid; what stands in it stays as it is.
fn update(path: &str, effect: Effect, output: &mut Output<'_>) -> Result<(), OutputError> {
    let mut bytes = read_file(path).map_err(|e| failed(path, &e))?;
    let missing = missing_keys(&bytes);
    if missing.is_empty() {
        writeln!(output.out, "{path}: every key is set")?;
        return Ok(());
    }
    let previous = bytes.clone();
    if bytes.last().is_some_and(|&b| b != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(b"\n[global]\n");
    for part in missing.iter().flat_map(|(name, default)| [name, "=", default, "\n"]) {
        bytes.extend_from_slice(part.as_bytes());
    }
    let backup = [path, ".bak"].concat();
    if effect == Effect::Written {
        replace(&backup, &previous).map_err(|e| failed(&backup, &e))?;
        replace(path, &bytes).map_err(|e| failed(path, &e))?;
    }
    let verb = if effect == Effect::Written { "added" } else { "would add" };
    missing.iter().try_for_each(|(name, default)| writeln!(output.out, "{verb} {name}={default}"))?;
    if effect == Effect::Written {
        writeln!(output.out, "{path} is written; the previous one is {backup}")?;
    }
    Ok(())
}
