//! Every `--json` against the schema that ships, by somebody else's validator.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::Net;
use common::daemon::{LOG, fails, host};
use common::schema::judged;
use common::wait_until;

fn ask(net: &Net, lines: &mut String, args: &[&str]) {
    let out = net.mef(&[args, &["--json"]].concat());
    assert!(!out.stdout.is_empty(), "{args:?} {}", out.stderr);
    lines.extend(out.stdout.lines().map(|line| format!("{} {line}\n", args[0])));
}

/// What commands say of a rule set.
fn rule_set(net: &mut Net, lines: &mut String) {
    let file = net.write("new.rules", "policy dir=in action=accept\n").display().to_string();
    let state = |net: &Net| {
        let status = net.mef(&["status", "--json"]).shown();
        status.split("\"rule_set\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    ask(net, lines, &["load", "--check", &file]);
    assert_eq!(state(net), "not loaded");
    ask(net, lines, &["load", &file]);
    assert_eq!(state(net), "no file");
    for command in ["fmt", "diff"] {
        net.write("new.rules", "policy dir=in action=accept\nrule dir=in dport=22 action=accept proto=tcp\n");
        ask(net, lines, &[command, &file]);
    }
    let trial = net.mef_command(&["load", "--confirm", "1h", "--json", &file]);
    let trial = net.start("trial", trial);
    wait_until("a trial", || state(net) == "pending confirmation");
    ask(net, lines, &["confirm"]);
    assert_eq!(net.wait(trial), 0);
    lines.extend(net.said("trial").lines().filter(|l| l.starts_with('{')).map(|l| format!("load {l}\n")));
    ask(net, lines, &["export", "--table", "mef"]);
    ask(net, lines, &["unload"]);
}

/// What is said of a cloud without a server, and of other programs' configuration.
fn others(net: &Net, lines: &mut String) {
    let operator = net.path("cloud.conf").display().to_string();
    let mut cloud =
        |words: &[&str]| ask(net, lines, &[&["cloud"], words, &["--operator", &operator]].concat());
    cloud(&["status"]);
    cloud(&["init", "cloud.example", "--server", "192.0.2.53"]);
    cloud(&["member", "add", "web1", "--group", "a", "--own", "192.0.2.7", "--own", "2001:db8::/48"]);
    cloud(&["member", "list"]);
    cloud(&["member", "remove", "web1"]);
    let filter = "[Definition]\nfailregex = ^login from <ADDR> failed$\n\x20           ^x <HOST> (?!y)$\n";
    let filter = net.write("app.conf", filter).display().to_string();
    let refused = net.write("no.conf", "[Definition]\nfailregex = ^no address$\n").display().to_string();
    ask(net, lines, &["import-filter", &filter, &refused]);
    assert!(
        lines.contains("import-filter {\"filter\":\"app\"") && lines.contains("\"refused\":\"the pattern"),
        "{lines}"
    );
    net.write("root/etc/ufw/ufw.conf", "ENABLED=yes\nLOGLEVEL=low\n");
    net.write("root/etc/ufw/user.rules", "*filter\n### RULES ###\nCOMMIT\n");
    let root = net.path("root").display().to_string();
    ask(net, lines, &["migrate", "ufw", "--root", &root]);
    ask(net, lines, &["migrate", "ufw", "--root", &root, "--write"]);
    for part in ["{\"found\":", "{\"file\":", "{\"stop\":", "{\"written\":"] {
        assert!(lines.contains(&format!("migrate {part}")), "{part} {lines}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_object_is_as_the_schema_says() {
    let mut net = host("", "maxretry=3\nfailregex@0=^Invalid user \\S+ from <HOST>");
    let mut lines = String::new();
    ask(&net, &mut lines, &["status"]);
    net.daemon("daemon");
    let watch = net.mef_command(&["watch", "--json"]);
    net.start("watch", watch);
    wait_until("a reader", || net.mef(&["status", "--json"]).shown().contains("\"watchers\":1"));
    net.append(LOG, "Nov 22 08:00:01 host sshd[130]: Invalid user \"\\x from 203.0.113.7 port 1\n");
    net.append(LOG, fails("203.0.113.7", 5) + &fails("203.0.113.8", 1));
    net.mark(LOG);
    ask(
        &net,
        &mut lines,
        &["ban", "192.0.2.7", "2001:db8::/64", "--for", "2h", "--reason", "a \"b\" \u{1b}[31m"],
    );
    ask(&net, &mut lines, &["ban", "192.0.2.7", "--permanent"]);
    ask(&net, &mut lines, &["ban", "192.0.2.8-192.0.2.11", "--ports", "22,25"]);
    for command in ["allow", "disallow", "deny", "undeny"] {
        ask(&net, &mut lines, &[command, "198.51.100.0/24"]);
    }
    net.mef(&["deny", "198.51.100.9"]).ok();
    net.mef(&["allow", "198.51.100.77", "--for", "2h"]).ok();
    let addresses = [
        "192.0.2.7",
        "192.0.2.8",
        "203.0.113.7",
        "203.0.113.8",
        "198.51.100.9",
        "198.51.100.77",
        "127.0.0.1",
    ];
    for addr in addresses {
        ask(&net, &mut lines, &["why", addr]);
    }
    for command in ["bans", "history", "lists", "rules", "top", "report"] {
        ask(&net, &mut lines, &[command]);
    }
    rule_set(&mut net, &mut lines);
    ask(&net, &mut lines, &["reload"]);
    ask(&net, &mut lines, &["status"]);
    assert!(lines.contains("status {\"problem\":"), "{lines}");
    ask(&net, &mut lines, &["setup", "--init", "systemd", "--dry-run"]);
    let log = net.path(LOG).display().to_string();
    let rule = net.path("rules.d/app.conf").display().to_string();
    ask(&net, &mut lines, &["test", &rule, &log]);
    ask(&net, &mut lines, &["rules", "sshd"]);
    ask(&net, &mut lines, &["check"]);
    net.write("bad.rules", "nonsense\npolicy dir=in action=accept\n");
    net.write("bad.conf", "failregex=(\nnothing=1\n");
    for file in ["bad.rules", "bad.conf"] {
        ask(&net, &mut lines, &["check", net.path(file).to_str().unwrap()]);
    }
    ask(&net, &mut lines, &["version"]);
    ask(&net, &mut lines, &["version", "--verbose"]);
    ask(&net, &mut lines, &["unban", "192.0.2.7", "203.0.113.99"]);
    ask(&net, &mut lines, &["history"]);
    ask(&net, &mut lines, &["why", "192.0.2.7"]);
    others(&net, &mut lines);
    ask(&net, &mut lines, &["unban", "--all", "--permanent"]);
    wait_until("the last event", || net.said("watch").contains("\"event\":\"unban\",\"address\":\"all\""));
    lines.extend(net.said("watch").lines().map(|line| format!("watch {line}\n")));
    let said = judged(&net, &lines);
    assert!(!said.contains("WRONG"), "{said}");
    // `lookup` needs a server of names; its tests judge it.
    assert!(said.contains("missing ['lookup']"), "{said}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_the_schema_does_not_know_is_found() {
    let net = Net::new();
    let good = "unban {\"address\":\"192.0.2.7\",\"result\":\"unbanned\"}\n";
    assert!(!judged(&net, good).contains("WRONG"));
    for bad in [
        "unban {\"address\":\"192.0.2.7\",\"result\":\"gone\"}\n",
        "unban {\"address\":7,\"result\":\"unbanned\"}\n",
        "unban {\"address\":\"192.0.2.7\"}\n",
        "unban {\"address\":\"192.0.2.7\",\"result\":\"unbanned\",\"more\":1}\n",
        "rules {\"rule\":\"a\",\"on\":1,\"why\":\"\",\"from\":\"\"}\n",
    ] {
        assert!(judged(&net, bad).contains("WRONG"), "{bad}");
    }
}
