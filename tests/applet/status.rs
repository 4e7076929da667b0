//! What `mef status` says first: whether this host is protected, and for which rules nothing is seen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{LOG, fails, host};
use common::{Net, Output, wait_until};
use std::fs;

/// The verdict and the exit status, by people's form and by JSON.
fn verdict(net: &Net) -> (i32, String) {
    let config = net.path("mef.conf").display().to_string();
    let people = net.mef(&["status", "--config", &config]);
    let json = net.mef(&["status", "--json", "--config", &config]);
    let first = people.stdout.lines().next().unwrap().to_owned();
    assert_eq!(people.status, json.status, "{}{}", people.stdout, json.stdout);
    let word = json.stdout.split("\"verdict\":\"").nth(1).unwrap().split('"').next().unwrap();
    let short = if word == "sees nothing for some" { "sees nothing for " } else { word };
    assert!(first.starts_with(short), "{first}: {}", json.stdout);
    (people.status, first)
}

fn prometheus(net: &Net) -> Output {
    net.mef(&["status", "--prometheus"])
}

/// A host with the rule `app` alone.
fn alone(settings: &str) -> Net {
    let net = host(settings, "maxretry=3");
    for name in ["sshd", "sshd-keys", "dropbear"] {
        net.rule(name, "enabled=false\nprograms=x\nfailregex=<HOST>");
    }
    net
}

fn said(net: &Net, text: &str) -> usize {
    net.said("daemon").matches(text).count()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_a_daemon_nothing_runs() {
    let net = alone("");
    let (status, first) = verdict(&net);
    assert!(status == 3 && first.starts_with("not running"), "{status} {first}");
    // Who scrapes wants the number.
    let text = prometheus(&net).ok();
    assert!(text.contains("\nmef_up 0\n"), "{text}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_vanishes_and_comes_back_is_told() {
    let mut net = alone("");
    net.append(LOG, "");
    let daemon = net.daemon("daemon");
    assert_eq!(verdict(&net), (0, "protected".to_owned()));
    let reads = |net: &Net| {
        let json = net.mef(&["status", "--json"]).shown();
        json.lines().find(|line| line.contains("\"rule\":\"app\"")).unwrap().to_owned()
    };
    let path = net.path(LOG).display().to_string();
    assert!(reads(&net).contains(&format!("\"kind\":\"file\",\"reads\":\"{path}\",\"blind\":null")));
    assert!(prometheus(&net).ok().contains("\nmef_rules_blind 0\n"));
    fs::remove_file(net.path(LOG)).unwrap();
    wait_until("a blind rule", || verdict(&net).0 == 1);
    let why = format!("no log file ({path})");
    assert_eq!(verdict(&net).1, format!("sees nothing for app: {why}"));
    assert!(reads(&net).contains(&format!("\"reads\":null,\"blind\":\"{why}\"")));
    let numbers = prometheus(&net).ok();
    // The rule that marks reads the same file.
    assert!(numbers.contains("\nmef_rules_blind 2\n"), "{numbers}");
    assert!(numbers.contains("\nmef_rule_blind{rule=\"app\",source=\"auto\"} 1\n"), "{numbers}");
    // The log hears of it when it lasts: a rotation is no news.
    net.wait_said("daemon", &format!("sees nothing for app: {why}; waiting"));
    net.append(LOG, fails("203.0.113.1", 3));
    wait_until("sight again", || verdict(&net) == (0, "protected".to_owned()));
    net.wait_said("daemon", &format!("sees app again: {path}"));
    assert!(net.in_set("ban4", "203.0.113.1".parse().unwrap()));
    // Rotated, nothing is lost from sight.
    for turn in 0..3 {
        fs::rename(net.path(LOG), net.path(&format!("old.{turn}"))).unwrap();
        net.append(LOG, fails(&format!("203.0.113.{}", 10 + turn), 3));
        net.mark(LOG);
        assert_eq!(verdict(&net).0, 0);
    }
    assert_eq!((said(&net, "sees nothing for app"), said(&net, "sees app again")), (1, 1));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn each_kind_of_source_says_why_it_sees_nothing() {
    let mut net = alone("");
    net.append(LOG, "");
    let dir = net.path("here");
    fs::create_dir_all(dir.join("is.log")).unwrap();
    let dir = dir.display();
    net.rule("none", "source=command\ncommand=/no/such/program -f\nfailregex=^x <HOST>$");
    net.rule("dir", &format!("source=file\nfiles={dir}/is.log\nfailregex=^x <HOST>$"));
    net.rule("two", &format!("source=file\nfiles={dir}/a.log,{dir}/b*.log\nfailregex=^x <HOST>$"));
    net.rule("socket", "source=syslog\nprograms=x\nfailregex=^x <HOST>$");
    net.rule("cat", "source=command\ncommand=/bin/sleep 1000\nfailregex=^x <HOST>$");
    let daemon = net.daemon("daemon");
    let want = [
        ("none", "/no/such/program -f does not run".to_owned()),
        ("dir", format!("{dir}/is.log is not a regular file")),
        ("two", format!("no log file ({dir}/a.log and 1 more)")),
    ];
    let shown = net.mef(&["status", "--config", net.path("mef.conf").to_str().unwrap()]);
    assert_eq!(shown.status, 1);
    let blind: Vec<&str> = shown.stdout.lines().filter_map(|l| l.strip_prefix("sees nothing for ")).collect();
    assert_eq!(blind.len(), want.len(), "{}", shown.stdout);
    for (rule, why) in want {
        assert!(blind.contains(&format!("{rule}: {why}").as_str()), "{rule} {why}: {}", shown.stdout);
        net.wait_said("daemon", &format!("sees nothing for {rule}: {why}; waiting"));
    }
    let row = |name: &str| shown.stdout.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap();
    assert!(
        row("cat").ends_with("  /bin/sleep 1000") && row("none").ends_with("  nothing"),
        "{}",
        shown.stdout
    );
    assert!(row("socket").ends_with("  /run/mef/log"), "{}", shown.stdout);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn with_no_rule_on_nothing_is_watched_and_zeros_are_left_out() {
    let mut net = alone("");
    net.rule("app", "enabled=false\nprograms=x\nfailregex=<HOST>");
    net.rule("mark", "enabled=false\nprograms=x\nfailregex=<HOST>");
    let daemon = net.daemon("daemon");
    let (status, first) = verdict(&net);
    assert!(status == 1 && first.starts_with("watches nothing"), "{status} {first}");
    let zeros = |args: &[&str]| {
        let text = net.mef(args).shown();
        text.lines().filter(|line| line.trim_start().starts_with("0 ")).count()
    };
    assert_eq!(zeros(&["status"]), 0);
    assert!(zeros(&["status", "--all"]) > 5);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_on_by_itself_may_wait_for_its_first_line() {
    let mut net = alone("");
    net.append(LOG, "");
    let late = net.path("late.log");
    // The program is here, its log is not.
    net.write(
        "rules.d/late.conf",
        &format!(
            "[rule]\nenabled=auto\nprograms=sh\nfiles={}\nfailregex=^x <HOST>$\nmaxretry=1\n",
            late.display()
        ),
    );
    let daemon = net.daemon("daemon");
    net.mark(LOG);
    let conf = net.path("mef.conf").display().to_string();
    let shown = net.mef(&["status", "--config", &conf]);
    assert_eq!((shown.status, shown.stdout.lines().next().unwrap()), (0, "protected"), "{}", shown.stdout);
    let row = shown.stdout.lines().find(|line| line.starts_with("late ")).unwrap();
    assert!(row.ends_with("  nothing yet"), "{row}");
    let json = net.mef(&["status", "--json", "--config", &conf]).stdout;
    assert!(json.contains(&format!("\"waits\":\"no log file ({})\"", late.display())), "{json}");
    assert!(!net.said("daemon").contains("late"), "{}", net.said("daemon"));
    // It is read when it comes, and missed when it goes.
    net.append("late.log", "Nov 22 08:00:01 host sh[1]: x 203.0.113.1\n");
    wait_until("the ban", || net.in_set("ban4", "203.0.113.1".parse().unwrap()));
    fs::remove_file(&late).unwrap();
    wait_until("a blind rule", || net.mef(&["status", "--config", &conf]).status == 1);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_rule_set_is_compared_with_its_file_and_the_boot() {
    let net = alone("");
    let file = "/etc/mef/mef.rules";
    let rules = |text: &str| {
        net.write("etc-mef/mef.rules", text);
    };
    let line = |label: &str| {
        let text = net.mef(&["status"]).stdout;
        text.lines().find_map(|line| line.strip_prefix(label)).unwrap().trim().to_owned()
    };
    let word = |member: &str| {
        let text = net.mef(&["status", "--json"]).stdout;
        text.split(&format!("\"{member}\":")).nth(1).unwrap().split([',', '}']).next().unwrap().to_owned()
    };
    let said = || (line("rule set "), word("rule_set"));
    assert_eq!(said(), ("not loaded".into(), "\"not loaded\"".into()));
    assert_eq!(line("at boot "), "the rule set is not loaded: there is no mef.rules");
    assert!(prometheus(&net).ok().contains("\nmef_rule_set_loaded 0\n"));
    rules("policy dir=in action=accept\n");
    net.mef(&["load"]).ok();
    assert_eq!(said(), (format!("loaded, as {file} says"), "\"loaded\"".into()));
    // What means the same is the same.
    rules("# a comment\npolicy   action=accept dir=in\n");
    assert_eq!(word("rule_set"), "\"loaded\"");
    rules("policy dir=in action=accept\nrule dir=in proto=tcp dport=22 action=accept\n");
    assert_eq!(said(), (format!("loaded, but {file} differs (see mef diff)"), "\"differs\"".into()));
    assert!(prometheus(&net).ok().contains("\nmef_rule_set_differs 1\n"));
    rules("nonsense\n");
    assert_eq!(word("rule_set"), "\"file has errors\"");
    fs::remove_file(net.path("etc-mef/mef.rules")).unwrap();
    assert_eq!(word("rule_set"), "\"no file\"");
    net.mef(&["unload"]).ok();
    assert_eq!(word("rule_set"), "\"not loaded\"");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_last_problems_are_told_and_no_more_than_those() {
    let mut net = alone("");
    net.append(LOG, "");
    net.daemon("daemon");
    let problems = |net: &Net| {
        let text = net.mef(&["status"]).stdout;
        let of = |line: &str| line.strip_prefix("problem ").map(|text| text.trim().to_owned());
        text.lines().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(problems(&net), Vec::<String>::new());
    fs::remove_file(net.path(LOG)).unwrap();
    wait_until("a problem", || !problems(&net).is_empty());
    let why =
        format!(" ago: warning: observer: sees nothing for app: no log file ({})", net.path(LOG).display());
    wait_until("the problem", || problems(&net).iter().any(|problem| problem.contains(&why)));
    let config = net.path("mef.conf").display().to_string();
    for line in 1..=6 {
        net.write("mef.conf", &("\n".repeat(line - 1) + "nonsense=1\n"));
        net.mef(&["reload"]);
    }
    // The newest first, none twice, and no lines of the file.
    let last = problems(&net);
    let lines = [6, 5, 4].map(|line| format!("{config}:{line}:1: "));
    assert!(last.len() == 4 && last[0].contains("the configuration has errors"), "{last:?}");
    assert!(lines.iter().zip(&last[1..]).all(|(line, problem)| problem.contains(line.as_str())), "{last:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn prometheus_takes_the_numbers_and_the_alert_rules() {
    let mut net = alone("rbl_enabled=true\nrbl_a_enabled=true\nrbl_a_zone=dnsbl.example.net");
    net.append(LOG, "");
    for with_daemon in [false, true] {
        if with_daemon {
            net.daemon("daemon");
        }
        let text = prometheus(&net).ok();
        let judged = net.input("promtool", &["check", "metrics"], text.as_bytes());
        assert_eq!((judged.status, judged.stdout.as_str(), judged.stderr.as_str()), (0, "", ""), "{text}");
        assert_eq!(text.contains("\nmef_dnsbl_answer_seconds{dnsbl=\"a\"} 0.000\n"), with_daemon, "{text}");
    }
    let alerts = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/usr/share/doc/mef/alerts.yml");
    let judged = net.cmd("promtool", &["check", "rules", alerts]);
    assert!(judged.status == 0 && judged.stdout.contains("SUCCESS: 5 rules found"), "{judged:?}");
    // It finds what is wrong.
    let wrong = net.input("promtool", &["check", "metrics"], b"# TYPE mef_x counter\nmef_x 1\n");
    assert_ne!(wrong.status, 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_dashboard_and_the_alerts_ask_for_numbers_that_there_are() {
    let mut net = alone("");
    net.append(LOG, "");
    net.daemon("daemon");
    let printed = prometheus(&net).ok();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/usr/share/doc/mef/");
    let read = |name: &str| fs::read_to_string(format!("{dir}{name}")).unwrap();
    let (dashboard, alerts) = (read("grafana.json"), read("alerts.yml"));
    assert_eq!(alerts.matches("- alert: ").count(), 5);
    assert!(dashboard.starts_with('{') && dashboard.matches("\"expr\"").count() >= 10);
    let number = regex::Regex::new("mef_[a-z_]+").unwrap();
    let mut asked = 0;
    for found in number.find_iter(&dashboard).chain(number.find_iter(&alerts)) {
        let known = |line: &str| line.strip_prefix(found.as_str()).is_some_and(|l| l.starts_with([' ', '{']));
        assert!(printed.lines().any(known), "mef status --prometheus has no {}", found.as_str());
        asked += 1;
    }
    assert!(asked >= 15, "{asked}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_configuration_that_no_daemon_starts_with_and_a_refused_list_are_told() {
    let mut net = alone("");
    net.append(LOG, "");
    net.daemon("daemon");
    let config = net.path("mef.conf").display().to_string();
    let people = || net.mef(&["status", "--config", &config]).shown();
    let object =
        || net.mef(&["status", "--json", "--config", &config]).shown().lines().next().unwrap().to_owned();
    assert!(!people().contains("problem  ") && object().contains("\"config_errors\":false"));
    net.write("blacklist/bad.conf", &"\u{1}\u{2}nonsense\n".repeat(9));
    let told = " ago: warning: deny lists have bad lines, or are not all in force: see `mef lists`";
    wait_until("the problem", || people().contains(told));
    let before = net.read("mef.conf");
    net.write("mef.conf", &(before.clone() + "state_sync=perhaps\n"));
    assert!(people().contains("\nproblem     the configuration has errors"), "{}", people());
    assert!(object().contains("\"config_errors\":true"));
    let numbers = net.mef(&["status", "--prometheus", "--config", &config]).shown();
    assert!(numbers.contains("\nmef_config_errors 1\n"), "{numbers}");
    net.write("mef.conf", &before);
    assert!(!people().contains("the configuration has errors"));
}
