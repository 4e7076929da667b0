//! The service rules that ship, judged by the program itself: every file has examples of hits, of lines that
//! are none, and of text by which an attacker would have somebody else banned. Whether the examples are what
//! services write is shown by tests/services/*.sh (`make services`), which run the services.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

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
    let out = Command::new(common::mef_binary()).args(args).args(files).output().unwrap();
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
        assert!(line.ends_with("1 service rule; 0 errors, 0 warnings"), "{line}");
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
        assert!(says("enabled=") && says("source="), "{}", file.display());
        // What is as everywhere is left to [defaults] of mef.conf.
        let defaults = ["action=ban", "bantime=10m", "findtime=10m", "maxretry=5", "ports=all"];
        let said = text.lines().find(|line| defaults.contains(line));
        assert_eq!(said, None, "{}", file.display());
        let name = format!("name={}", file.file_stem().unwrap().display());
        assert!(text.lines().any(|line| line == name), "{}: {name} is missing", file.display());
    }
}

#[test]
fn the_page_names_the_rules_that_count_more_or_less_by_mode() {
    let page = include_str!("../../rootfs/usr/share/doc/mef/service-rules.md");
    let table = page.split("| rule | left out with").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut named = Vec::new();
    for row in table.lines().skip(2) {
        let [_, names, normal, aggressive, _] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let names = names.split(',').map(|name| name.trim().trim_matches('`').to_owned());
        named.extend(names.map(|name| (name, !normal.trim().is_empty(), !aggressive.trim().is_empty())));
    }
    named.sort();
    let mut have = Vec::new();
    for file in rules() {
        let text = std::fs::read_to_string(&file).unwrap();
        let [normal, aggressive] =
            ["normal", "aggressive"].map(|mode| text.contains(&format!("\nfailregex[{mode}]")));
        if normal || aggressive {
            have.push((file.file_stem().unwrap().to_str().unwrap().to_owned(), normal, aggressive));
        }
    }
    have.sort();
    assert_eq!(named, have, "the rule, and what it has for normal and aggressive");
}

#[test]
fn all_rules_at_once_read_what_they_would_read() {
    let dir = std::env::temp_dir().join(format!("mef-services-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/etc/mef/rules.d");
    let run = |args: &[&str], log: &str| {
        let path = dir.join("log");
        std::fs::write(&path, log).unwrap();
        mef(&[&["test", "--rules-dir", rules], args, &["all"]].concat(), &[path])
    };
    let failed = |n: u32, addr: &str| {
        format!("Nov 22 08:00:0{n} host sshd[130]: Failed password for u{n} from {addr} port 4 ssh2\n")
    };
    let dropbear = "Nov 22 08:00:05 host dropbear[131]: Bad password attempt for 'root' from 192.0.2.8:5\n";
    let mut log: String = (0..5).map(|n| failed(n, "192.0.2.7")).collect();
    log += dropbear;
    let text = run(&[], &log);
    assert!(text.contains("line 5: ban 192.0.2.7 after 5 hits, for 10m (sshd)\n"), "{text}");
    assert!(text.contains("all: 6 lines, 6 hits, ") && text.contains("\n1 ban\n"), "{text}");
    assert!(text.ends_with("dropbear: 1 hit, 0 bans\nsshd: 5 hits, 1 ban\n"), "{text}");
    let text = run(&["--json"], &log);
    assert!(
        text.contains(r#"{"event":"ban","line":5,"address":"192.0.2.7","hits":5,"rule":"sshd","for":600,"#),
        "{text}"
    );
    assert!(text.contains(r#"{"event":"rule","rule":"dropbear","hits":1,"bans":0,"#), "{text}");
    assert!(text.contains(r#"{"event":"summary","rule":"all","lines":6,"hits":6,"#), "{text}");
    // What was folded counts as often as it was written, and is never more than enough.
    let folded = failed(1, "192.0.2.7").replace("Failed", "message repeated 200 times: [ Failed");
    let text = run(&[], &folded.replace("ssh2\n", "ssh2]\n"));
    assert!(text.contains("line 1: ban 192.0.2.7 after 5 hits, for 10m (sshd)\n"), "{text}");
    // What is no syslog is read by rules for files.
    let request =
        "192.0.2.9 - root [22/Nov/2026:08:00:00 +0000] \"GET /admin HTTP/1.1\" 401 172 \"-\" \"curl/8\"\n";
    let text = run(&[], &(request.to_owned() + dropbear));
    assert!(text.contains("nginx-auth: 1 hit, 0 bans\n") && !text.contains("dropbear:"), "{text}");
    let text = run(&["--hits"], &log);
    assert!(text.starts_with("1\t192.0.2.7\n2\t") && text.contains("\n6\t192.0.2.8\n"), "{text}");
    std::fs::remove_dir_all(&dir).unwrap();
}
