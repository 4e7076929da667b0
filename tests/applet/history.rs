//! `mef history`: what happened, from the ban journal, over restarts and compactions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::{Row, Value, number, rows, text};
use common::daemon::{LOG, failed, fails, host};
use common::{Net, wait_until};
use std::fs;

fn history(net: &Net, more: &[&str]) -> Vec<Row> {
    let args: Vec<&str> = ["history", "--json"].iter().chain(more).copied().collect();
    rows(&net.mef(&args).ok())
}

/// Events as `WORD ADDRESS`, the newest first.
fn told(net: &Net, more: &[&str]) -> Vec<String> {
    let all = history(net, more);
    all.iter().map(|row| format!("{} {}", text(row, "event"), text(row, "address"))).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_host_without_a_past_says_so_and_makes_nothing() {
    let net = Net::new();
    let output = net.mef(&["history"]);
    assert_eq!((output.status, &*output.stdout), (0, ""));
    assert_eq!(output.stderr, "mef: nothing in the history\n");
    // A table has its names although it has no rows.
    assert!(net.mef(&["history", "--csv"]).stdout.starts_with("time,event,address,"));
    assert!(!net.path("lib/mef/bans").exists(), "asking makes no journal");
    for wrong in [vec!["--json", "--csv"], vec!["--since", "yesterdays"], vec!["host.example"]] {
        let args: Vec<&str> = std::iter::once("history").chain(wrong).collect();
        assert_eq!(net.mef(&args).status, 2, "{args:?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_hands_do_is_told_the_newest_first() {
    let net = Net::new();
    net.mef(&["ban", "192.0.2.1", "--reason", "too \u{1b}[31mmany"]).ok();
    net.mef(&["ban", "192.0.2.2", "--ports", "22,25", "--for", "2h"]).ok();
    net.mef(&["ban", "198.51.100.0/24", "--permanent"]).ok();
    net.mef(&["ban", "192.0.2.1", "--for", "7d"]).ok();
    net.mef(&["unban", "192.0.2.2"]).ok();
    // Who had no ban is no news.
    assert_eq!(net.mef(&["unban", "192.0.2.2"]).status, 1);
    assert_eq!(net.mef(&["unban", "203.0.113.77", "203.0.113.0/28"]).status, 1);
    // Nor were any of many.
    let many: String = (1..60).map(|n| format!("203.0.113.{n}\n")).collect();
    assert_eq!(net.mef_input(&["unban", "-"], many.as_bytes()).status, 1);
    net.mef(&["deny", "203.0.113.50"]).ok();
    net.mef(&["unban", "--all"]).ok();
    net.mef(&["unban", "--all", "--permanent"]).ok();
    let all = told(&net, &[]);
    let want = ["unban all all", "unban all all timed", "unban 192.0.2.2"];
    assert_eq!(all[..3], want);
    assert!(all[3].ends_with(" 192.0.2.1"), "{all:?}");
    assert_eq!(all[4..], ["ban 198.51.100.0/24", "ban 192.0.2.2", "ban 192.0.2.1"]);
    let of_one = history(&net, &["192.0.2.2"]);
    // The end of all bans is about everybody.
    assert_eq!(of_one.len(), 4, "{of_one:?}");
    let ban = &of_one[3];
    assert_eq!((text(ban, "ports").as_str(), ban["rule"].clone()), ("22,25", Value::Null));
    assert_eq!(number(ban, "until").unwrap() - number(ban, "since").unwrap(), 7200);
    assert_eq!(told(&net, &["--rule", "manual"]).len(), 4);
    assert_eq!(told(&net, &["--rule", "sshd"]).len(), 0);
    let people = net.mef(&["history"]).ok();
    assert!(people.starts_with("WHEN ") && people.contains("too \\x1b[31mmany"), "{people}");
    assert!(!people.contains('\u{1b}'), "{people:?}");
    let csv = net.mef(&["history", "--csv"]).ok();
    assert_eq!(csv.lines().count(), 8);
    let columns = csv.lines().next().unwrap().matches(',').count();
    assert!(csv.lines().filter(|line| !line.contains('"')).all(|l| l.matches(',').count() == columns));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_line_that_decided_stays_with_its_ban_over_restarts() {
    let mut net = host("", "maxretry=3");
    net.append(LOG, "");
    let daemon = net.daemon("first");
    net.append(LOG, fails("203.0.113.1", 3));
    // When the mark is banned, what came before is in the journal, too.
    wait_until("the ban", || net.banned().contains(&"203.0.113.1".to_owned()));
    net.mark(LOG);
    let line = failed("203.0.113.1");
    let of = |net: &Net| {
        let all = history(net, &["203.0.113.1"]);
        let bans: Vec<Row> = all.into_iter().filter(|row| text(row, "event") == "ban").collect();
        assert_eq!(bans.len(), 1, "{bans:?}");
        bans.into_iter().next().unwrap()
    };
    let before = of(&net);
    assert_eq!(text(&before, "line"), line.trim_end());
    assert_eq!((text(&before, "rule").as_str(), number(&before, "hits")), ("app", Some(3)));
    assert!(net.mef(&["history"]).ok().contains(line.trim_end()));
    net.stop(daemon);
    let daemon = net.daemon("second");
    assert_eq!(of(&net), before, "a restart changes nothing");
    net.mef(&["unban", "203.0.113.1"]).ok();
    assert_eq!(told(&net, &["203.0.113.1"]), ["unban 203.0.113.1", "ban 203.0.113.1"]);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_have_their_lines_however_large_the_journal_is() {
    let mut net = host("", "maxretry=3");
    net.append(LOG, "");
    net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 3));
    wait_until("the ban", || net.banned().contains(&"203.0.113.1".to_owned()));
    net.mark(LOG);
    let many = (0..12_000u32).map(|n| format!("{}\n", std::net::Ipv4Addr::from(0x0b00_0000 + 3 * n)));
    let reason = "x".repeat(100);
    net.mef_input(&["ban", "-", "--reason", &reason], many.collect::<String>().as_bytes()).ok();
    assert!(fs::metadata(net.path("lib/mef/bans")).unwrap().len() > 1 << 20);
    assert_eq!(text(&net.ban_of("203.0.113.1"), "line"), failed("203.0.113.1").trim_end());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_line_of_an_attacker_is_cut_and_shown_as_what_it_is() {
    let mut net = host("", "maxretry=3");
    let log = net.path(LOG).display().to_string();
    net.rule("bad", &format!("programs=bad\nfiles={log}\nfailregex=^bad .* from <HOST>$\nmaxretry=1"));
    net.daemon("daemon");
    let line = format!(
        "Nov 22 08:00:01 host bad[7]: bad \u{1b}]0;x\u{7}\u{202e}{} from 203.0.113.9",
        "y".repeat(900)
    );
    net.append(LOG, format!("{line}\n"));
    wait_until("the ban", || net.banned().contains(&"203.0.113.9".to_owned()));
    net.mark(LOG);
    let kept = text(&history(&net, &["203.0.113.9"])[0], "line");
    let begin = "Nov 22 08:00:01 host bad[7]: bad \\x1b]0;x\\x07\\u{202e}yyy";
    assert!(kept.starts_with(begin) && kept.len() <= 200, "{kept:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_history_is_bounded() {
    let net = Net::new();
    for (max, want) in [("3", 3), ("0", 0)] {
        net.configure(&format!("history_max={max}"), &[]);
        let config = net.path("mef.conf").display().to_string();
        let addresses: String = (0..3000).map(|n| format!("10.1.{}.{}\n", n / 250, n % 250)).collect();
        // Enough for a compaction.
        for _ in 0..3 {
            net.mef_input(&["ban", "-", "--config", &config], addresses.as_bytes()).ok();
            net.mef(&["unban", "10.1.0.0/16", "--config", &config]).ok();
        }
        let size = fs::metadata(net.path("lib/mef/bans")).unwrap().len();
        assert!(size < 600_000, "{size}");
        assert_eq!(history(&net, &["--config", &config]).len(), want);
    }
    assert!(net.mef(&["history", "--config", "mef.conf"]).stderr.contains("history_max=0"));
    assert!(net.mef(&["report", "--config", "mef.conf"]).stdout.contains("history_max=0"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn asking_leaves_a_journal_of_another_version_where_it_is() {
    let net = Net::new();
    net.mef(&["ban", "192.0.2.7"]).ok();
    fs::write(net.path("lib/mef/bans"), "something else\n".repeat(99)).unwrap();
    let history = net.mef(&["history"]);
    assert!(history.status == 1 && history.stderr.contains("cannot use "), "{history:?}");
    // What the kernel has is listed all the same, and what is missing is told.
    for command in [&["bans"][..], &["why", "192.0.2.8"]] {
        let listed = net.mef(command);
        assert!(listed.status == 0 && listed.stderr.contains("cannot use "), "{listed:?}");
    }
    assert!(net.mef(&["bans"]).stdout.contains("192.0.2.7"));
    assert!(net.read("lib/mef/bans").starts_with("something else\n"));
    fs::remove_file(net.path("lib/mef/bans")).unwrap();
    fs::create_dir(net.path("lib/mef/bans")).unwrap();
    let listed = net.mef(&["bans"]);
    assert!(listed.status == 0 && listed.stdout.contains("192.0.2.7"), "{listed:?}");
}
