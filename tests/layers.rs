//! Modules may use only what stands in the rows above theirs, and of their own row only themselves.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

const ROWS: &[&[&str]] = &[
    &["base"],
    &["sys", "plan", "pattern"],
    &["config", "control", "detect", "firewall", "input", "ruleset", "state"],
    &["rules", "rulefile", "enforce", "lists", "trial"],
    &["daemon"],
    &["applet"],
    &["main"],
];

/// The row of a module, the lowest first.
fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Every file of rust below a directory.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The modules that follow `crate::` in a line that is no comment: one, or those in braces.
fn used(line: &str) -> Vec<String> {
    let line = line.split("//").next().unwrap_or("");
    let mut all = Vec::new();
    for rest in line.split("crate::").skip(1) {
        let group = rest.strip_prefix('{').and_then(|r| r.split('}').next()).unwrap_or(rest);
        let grouped = rest.starts_with('{');
        let name =
            |part: &str| part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        all.extend(group.split(',').take(if grouped { usize::MAX } else { 1 }).map(name));
    }
    all
}

/// What a file's module uses that it must not.
fn wrong(module: &str, text: &str) -> Vec<String> {
    let Some(own) = row(module) else { return vec![format!("{module} stands in no row")] };
    let uses =
        text.lines().enumerate().flat_map(|(at, line)| used(line).into_iter().map(move |u| (at + 1, u)));
    uses.filter(|(_, u)| u != module && row(u).is_none_or(|other| other >= own))
        .map(|(at, u)| format!("line {at}: {module} uses {u}"))
        .collect()
}

#[test]
fn arrows_point_upwards_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut problems = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap();
        let module = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap();
        if module != "lib" {
            let text = fs::read_to_string(file).unwrap();
            problems.extend(wrong(module, &text).into_iter().map(|p| format!("{}: {p}", inside.display())));
        }
    }
    assert!(files.len() > 50 && problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_wrong_arrow_is_found() {
    let cases = [
        ("base", "use crate::base::net::prefix;", true),
        ("sys", "use crate::base::net;", true),
        ("sys", "use crate::pattern::Pattern;", false),
        ("detect", "let x = crate::config::load();", false),
        ("detect", "// crate::config is not for us", true),
        ("detect", "use crate::{base::net, firewall::guard};", false),
        ("ruleset", "use crate::{base::net, plan::Rule};", true),
        ("ruleset", "use crate::firewall::nft;", false),
        ("firewall", "use crate::ruleset::ast;", false),
        ("daemon", "use crate::{base::net, enforce};", true),
        ("state", "    /// See [`crate::daemon`].", true),
        ("enforce", "use crate::rules::compile;", false),
        ("applet", "crate::nowhere::f()", false),
        ("elsewhere", "", false),
    ];
    for (module, text, good) in cases {
        assert_eq!(wrong(module, text).is_empty(), good, "{module}: {text}");
    }
}
