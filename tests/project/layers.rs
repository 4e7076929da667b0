//! Modules may use only what stands in the rows above theirs, and of their own row only themselves; and the
//! guides name files and functions that are there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

const ROWS: &[&[&str]] = &[
    &["base"],
    &["ban", "sys", "plan", "pattern"],
    &["config", "control", "detect", "dns", "firewall", "input", "ruleset", "state"],
    &["cloud", "dnsbl", "services", "report", "rulefile", "enforce", "lists", "trial"],
    &["daemon", "setup"],
    &["migrate"],
    &["applet"],
    &["main"],
];

/// The row of a module, the lowest first.
fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Every file of rust below a directory.
pub(super) fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
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
        ("enforce", "use crate::services::compile;", false),
        ("applet", "crate::nowhere::f()", false),
        ("elsewhere", "", false),
    ];
    for (module, text, good) in cases {
        assert_eq!(wrong(module, text).is_empty(), good, "{module}: {text}");
    }
}

/// Words that only drivers know: of netlink and nf_tables, and what is inside the seam.
const INSIDE: &[&str] = &[
    "netlink",
    "NlSocket",
    "nlattr",
    "TxnError",
    "NFT_",
    "NFTA_",
    "mnl::",
    "\"mef_guard\"",
    "firewall::nft",
    "firewall::guard",
    "firewall::emit",
    "firewall::trial",
    "firewall::tables",
    "firewall::listing",
    "firewall::alarm",
    "firewall::nflog",
    "firewall::sockdiag",
    "firewall::conntrack",
    "\"ban4\"",
    "\"bannet",
    "\"allow4\"",
    "\"allowt",
    "\"deny4",
    "\"scan_",
    "\"flood_",
    "\"seen_",
];

/// Where code names what only drivers know; what tests say, and comments, is not code.
fn leaks(text: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().lines().enumerate();
    let code = code.map(|(at, line)| (at + 1, line.split("//").next().unwrap()));
    let found = |line: &str| INSIDE.iter().copied().find(|word| line.contains(word));
    code.filter_map(|(at, line)| Some(format!("line {at}: {}", found(line)?))).collect()
}

#[test]
fn nothing_above_the_seam_names_what_is_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut problems = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&src).unwrap();
        let below = ["firewall", "sys"].iter().any(|dir| inside.starts_with(dir));
        if !below && !file.to_str().unwrap().contains("tests") {
            let text = fs::read_to_string(file).unwrap();
            problems.extend(leaks(&text).into_iter().map(|leak| format!("{}: {leak}", inside.display())));
        }
    }
    assert!(files.len() > 50 && problems.is_empty(), "{problems:#?}");
    let leaky = [
        "use crate::firewall::guard::Guard;",
        "fn f() -> Result<(), TxnError> {",
        "let set = Name::of(\"ban4\");",
        "use crate::sys::netlink::Lost;",
    ];
    for text in leaky {
        assert_eq!(leaks(text).len(), 1, "{text}");
    }
    assert!(leaks("// netlink\nuse crate::firewall::backend::Backend;").is_empty());
}

/// What stands between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What a guide names and is not there: paths, and functions of the file that was named before them.
fn unknown_names(root: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut file = "";
    let tops = ["src/", "tests/", "cross/", "rootfs/"];
    for span in spans(text).filter(|span| !span.contains(['*', ' '])) {
        if tops.iter().any(|top| span.starts_with(top)) {
            file = if span.ends_with(".rs") { span } else { file };
            if !root.join(span).exists() {
                problems.push(format!("{span} is not there"));
            }
        } else if let Some(name) = span.strip_suffix("()").filter(|_| !file.is_empty()) {
            let code = fs::read_to_string(root.join(file)).unwrap_or_default();
            if !code.contains(&format!("fn {name}(")) && !code.contains(&format!("fn {name}<")) {
                problems.push(format!("{file} has no function {name}"));
            }
        }
    }
    problems
}

/// Tables that a guide names, `LIKE_THIS`, and the program does not have.
fn unknown_tables<'a>(code: &str, text: &'a str) -> Vec<&'a str> {
    let is_table = |span: &&str| span.len() > 3 && span.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let is_unknown =
        |name: &&str| !["const", "static"].iter().any(|word| code.contains(&format!("{word} {name}: ")));
    spans(text).filter(is_table).filter(is_unknown).collect()
}

#[test]
fn the_guides_name_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let code: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for guide in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root.join(guide)).unwrap();
        assert_eq!(unknown_tables(&code, &text), [""; 0], "{guide}");
    }
    for guide in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let text = fs::read_to_string(root.join(guide)).unwrap();
        assert_eq!(unknown_names(root, &text), [""; 0], "{guide}");
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let named = spans(&architecture).filter(|span| span.ends_with("()")).count();
    assert!(named >= 30, "ARCHITECTURE.md names {named} functions");
    for module in ROWS.iter().flat_map(|row| row.iter()) {
        let named = architecture.contains(&format!("`src/{module}`"))
            || architecture.contains(&format!("`src/{module}.rs`"));
        assert!(named, "ARCHITECTURE.md does not name {module}");
    }
}

#[test]
fn a_name_that_is_not_there_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = [
        ("`src/main.rs` `main()`, and `tests`", 0),
        ("`src/nowhere.rs`", 1),
        ("`src/main.rs` has `nothing()` and `main()`", 1),
        ("`tests/*.rs` and `src/nowhere/` and `gone()`", 1),
    ];
    for (text, problems) in cases {
        assert_eq!(unknown_names(root, text).len(), problems, "{text}");
    }
    let code = "const ROWS: [u8; 1] = [1];\npub static SLOTS: u8 = 1;\nconst GONE_TOO: u8 = 1;";
    assert_eq!(unknown_tables(code, "`ROWS`, `SLOTS` and GONE; `GONE` of `mod.rs`"), ["GONE"]);
}
