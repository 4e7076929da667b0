#![forbid(unsafe_code)]
//! `mef test --self`: every service rule against the examples in its own file.

use crate::applet::output::{Output, OutputError};
use crate::base::count::count;
use crate::config::{Settings, conf_files, examples, load_rule};
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
        writeln!(
            output.out,
            "{}, {}: all as they should be",
            count(paths.len(), "rule"),
            count(total, "example")
        )?;
    }
    output.end()
}

/// Runs the examples of one file; how many there are.
fn one(settings: Settings, path: &str, output: &mut Output<'_>) -> Result<usize, OutputError> {
    let mut compiled = None;
    let loaded = load_rule(settings, path, &mut |rule, problems| match crate::services::compile(rule) {
        Ok(rule) => compiled = Some(rule),
        Err(more) => problems.extend(more),
    });
    super::report(&loaded, output);
    let Some(rule) = compiled.filter(|_| !loaded.failed()) else {
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
    let mut detector = Detector::new(vec![rule]);
    for example in &examples {
        let mut got: Option<(IpAddr, bool)> = None;
        detector.block(1, &example.text, &mut |_, _, hit| got = Some((hit.addr, hit.success)));
        let name = |found: Option<(IpAddr, bool)>| match found {
            Some((addr, false)) => format!("a hit for {addr}"),
            Some((addr, true)) => format!("a success of {addr}"),
            None => "no hit".to_owned(),
        };
        let want = example.hit.map(|addr| (addr, example.success));
        if got != want {
            let (want, got) = (name(want), name(got));
            output.problem(&format_args!("{path}:{}: expected {want}, got {got}", example.line));
        }
    }
    Ok(examples.len())
}
