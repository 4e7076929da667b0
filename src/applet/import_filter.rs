#![forbid(unsafe_code)]
//! `mef import-filter`: filters of fail2ban as service rules.

use super::args::parse;
use super::output::{Output, OutputError};
use crate::base::json::Object;
use crate::base::line::shown;
use crate::migrate::{ImportedFilter, import_filter, own_rule};
use crate::sys::{capability, fs};
use argh::FromArgs;
use std::path::Path;

/// Show a filter of fail2ban as a service rule, for a file in /etc/mef/rules.d. What cannot be said as the
/// filter says it is refused, and named.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "A file of log lines with failJSON in front of them, as fail2ban's tests have it, becomes \
        examples: a filter\nthat fails one is refused. Several filters are written one after the other.",
    example = "mef import-filter /etc/fail2ban/filter.d/nsd.conf > nsd.conf\n  mef import-filter myapp.conf \
        samples/myapp --jail /etc/fail2ban/jail.local"
)]
struct ImportFilterArgs {
    /// filters, and lines of logs for them
    #[argh(positional, arg_name = "FILE")]
    files: Vec<String>,
    /// a file with a jail: its limits, ports and files
    #[argh(option, arg_name = "file")]
    jail: Option<String>,
    /// one JSON object for each filter
    #[argh(switch)]
    json: bool,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: ImportFilterArgs = parse("import-filter", args)?;
    capability::give_up_all_but(&[capability::DAC_READ_SEARCH]);
    let (mut filters, mut samples) = (Vec::new(), String::new());
    let absolute = |path: &String| fs::absolute(Path::new(path)).unwrap_or_default();
    let jail = args.jail.as_ref().map(|path| absolute(path).to_string_lossy().into_owned());
    for path in args.files.iter().chain(&args.jail) {
        let bytes =
            fs::content(Path::new(path)).map_err(|e| OutputError::Failed(format!("{}: {e}", shown(path))))?;
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("failJSON:") {
            samples += &text;
        } else if Some(path) != args.jail.as_ref() {
            filters.push(absolute(path).to_string_lossy().into_owned());
        }
    }
    if filters.is_empty() {
        return Err(OutputError::Usage("missing FILE; `mef import-filter --help` shows examples".into()));
    }
    for path in &filters {
        let imported = import_filter(path, jail.as_deref(), &samples);
        if args.json {
            writeln!(output.out, "{}", object(path, &imported))?;
            output.problems += u32::from(imported.is_err());
        } else {
            show(path, &imported, output)?;
        }
    }
    output.end()
}

/// What a filter is called.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path).trim_end_matches(".conf")
}

fn object(path: &str, imported: &Result<ImportedFilter, String>) -> String {
    let made = imported.as_ref().ok();
    let left_out = made.map(|made| made.refused.join("\n")).filter(|text| !text.is_empty());
    Object::new()
        .text("filter", name(path))
        .text("rule_of_mef", own_rule(name(path)))
        .text("text", made.map(|made| made.text.as_str()))
        .text("left_out", left_out.as_deref())
        .text("refused", imported.as_ref().err().map(String::as_str))
        .finish()
}

fn show(
    path: &str,
    imported: &Result<ImportedFilter, String>,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let name = shown(name(path));
    if let Some(ours) = own_rule(&name) {
        output.note(&format_args!("{name}: mef has a rule for it: mef rules {ours}"));
    }
    match imported {
        Ok(made) => {
            output.out.write_all(made.text.as_bytes())?;
            for why in &made.refused {
                output.note(&format_args!("{name}: left out: {}", shown(why)));
            }
        }
        Err(why) => output.problem(&format_args!("{name}: refused: {}", shown(why))),
    }
    Ok(())
}
