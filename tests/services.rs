//! The service rules that ship, judged by the program itself: every file has examples of hits, of lines that are none, and of
//! text by which an attacker would have somebody else banned. Whether the examples are what services write is shown by
//! tests/services/*.sh (`make services`), which run the services.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Has done nothing: the address that attackers write.
const EVIL: &str = "198.51.100.9";

fn rules() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs/etc/mef/rules.d");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn mef(args: &[&str], files: &[PathBuf]) -> String {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mef");
    let binary = std::env::var_os("MEF_BIN").map_or(default, PathBuf::from);
    let out = Command::new(&binary).args(args).args(files).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "mef {args:?}:\n{text}");
    text.into_owned()
}

#[test]
fn the_examples_are_judged_as_they_say() {
    let files = rules();
    let text = mef(&["test", "--self"], &files);
    assert!(text.contains(&format!("{} rules, ", files.len())), "{text}");
    for line in mef(&["check"], &files).lines() {
        assert!(line.ends_with("1 service rules; 0 errors, 0 warnings"), "{line}");
    }
}

#[test]
fn every_rule_has_examples_of_all_kinds() {
    for file in rules() {
        let text = std::fs::read_to_string(&file).unwrap();
        let examples = |kind: &str| -> Vec<String> {
            text.lines().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect()
        };
        let (hits, others) = (examples("#+ "), examples("#- "));
        assert!(!hits.is_empty() && !others.is_empty(), "{}: examples are missing", file.display());
        assert!(hits.iter().all(|hit| !hit.starts_with(EVIL)), "{}: {EVIL} has done nothing", file.display());
        let injected = hits.iter().chain(&others).filter(|line| line.contains(EVIL)).count();
        assert!(injected > 0, "{}: no example has {EVIL} in text of an attacker", file.display());
        let says = |key: &str| text.lines().any(|line| line.starts_with(key));
        assert!(says("enabled=") && says("source=") && says("action="), "{}", file.display());
        let name = format!("name={}", file.file_stem().unwrap().display());
        assert!(text.lines().any(|line| line == name), "{}: {name} is missing", file.display());
    }
}
