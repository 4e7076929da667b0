#![forbid(unsafe_code)]
//! `mef test --self`: every service rule against the examples in its own file.

use crate::applet::output::{Output, OutputError};
use crate::base::count::count;
use crate::config::{Example, Mode, ServiceRule, Settings, conf_files, examples, load_rule};
use crate::detect::Detector;
use std::net::IpAddr;
use std::path::Path;

/// Runs the examples of the named rules, or of all files of `rules_dir`.
pub(super) fn run(settings: Settings, names: &[String], output: &mut Output<'_>) -> Result<(), OutputError> {
    let dir = settings.rules_dir.clone();
    let mut paths: Vec<String> = names
        .iter()
        .map(|name| if name.contains('/') { name.clone() } else { format!("{dir}/{name}.conf") })
        .collect();
    if names.is_empty() {
        let files = conf_files(Path::new(&dir)).map_err(|e| {
            OutputError::Failed(format!("{dir}: {e} (the built-in rules come without their examples)"))
        })?;
        paths.extend(files.iter().map(|file| format!("{dir}/{file}")));
    }
    if paths.is_empty() {
        return Err(OutputError::Failed(format!(
            "{dir}: there is no service rule in it (built-in ones have no examples)"
        )));
    }
    let mut settings = Some(settings);
    let mut total = 0;
    for path in &paths {
        let examples = one(settings.take().unwrap_or_default(), path, output)?;
        writeln!(output.out, "{path}: {}", count(examples, "example"))?;
        total += examples;
    }
    if output.problems == 0 {
        writeln!(output.out, "{}, {}: all as expected", count(paths.len(), "rule"), count(total, "example"))?;
    }
    output.end()
}

/// Runs the examples of one file; how many there are.
fn one(settings: Settings, path: &str, output: &mut Output<'_>) -> Result<usize, OutputError> {
    let mut read = None;
    let loaded = load_rule(settings, path, &mut |rule, problems| {
        crate::services::check(rule, problems);
        read = Some(rule.clone());
    });
    super::report(&loaded, output);
    let Some(mut rule) = read.filter(|_| !loaded.failed()) else {
        output.problem(&format_args!("{path}: has errors"));
        return Ok(0);
    };
    let text =
        crate::sys::fs::content(Path::new(path)).map_err(|e| OutputError::Failed(format!("{path}: {e}")))?;
    let text = String::from_utf8_lossy(&text);
    let (examples, problems) = examples(&text);
    for problem in &problems {
        output.problem(&problem.render(path, &text).trim_end());
    }
    judge(&rule, examples.iter().filter(|example| example.mode.is_none()), path, output);
    for mode in [Mode::Strict, Mode::Normal, Mode::Aggressive] {
        rule.mode = mode;
        // In a mode that counts less than its own an example is none.
        let of_mode =
            |example: &&Example| example.mode.is_some_and(|least| mode == least || !mode.reaches(least));
        judge(&rule, examples.iter().filter(of_mode), path, output);
    }
    Ok(examples.len())
}

/// Runs examples on a rule as it is; those of a mode that it does not reach must be no hits.
fn judge<'a>(
    rule: &ServiceRule,
    examples: impl Iterator<Item = &'a Example>,
    path: &str,
    output: &mut Output<'_>,
) {
    let mut examples = examples.peekable();
    let Some(rule_of) = examples.peek().and_then(|_| crate::services::compile(rule).ok()) else { return };
    let mut detector = Detector::new(vec![rule_of]);
    for example in examples {
        let mut got: Option<(IpAddr, bool)> = None;
        detector.block(1, &example.text, &mut |_, _, hit| got = Some((hit.addr, hit.success)));
        let name = |found: Option<(IpAddr, bool)>| match found {
            Some((addr, false)) => format!("a hit for {addr}"),
            Some((addr, true)) => format!("a success of {addr}"),
            None => "no hit".to_owned(),
        };
        let counts = example.mode.is_none_or(|least| rule.mode.reaches(least));
        let want = example.hit.filter(|_| counts).map(|addr| (addr, example.success));
        if got != want {
            let (want, got) = (name(want), name(got));
            let mode = example.mode.map_or(String::new(), |_| format!(" with mode={}", rule.mode.word()));
            output.problem(&format_args!("{path}:{}: expected {want}, got {got}{mode}", example.line));
        }
    }
}
