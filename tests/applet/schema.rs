//! Every `--json` against the schema that ships, by somebody else's validator.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::Net;
use common::daemon::{LOG, fails, host};
use common::wait_until;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/usr/share/doc/mef/json-schema.json");

/// Judges lines `COMMAND OBJECT`; says which are wrong, and of which objects of the schema there were some.
const JUDGE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator as Validator
schema = json.load(open(sys.argv[1]))
Validator.check_schema(schema)
of = {name: [Validator(one) for one in part["oneOf"]] for name, part in schema["$defs"].items()}
seen = set()
for line in sys.stdin:
    name, text = line.split(" ", 1)
    fits = [at for at, one in enumerate(of[name]) if one.is_valid(json.loads(text))]
    seen |= {(name, at) for at in fits}
    if len(fits) != 1:
        print("WRONG", name, text, [e.message for one in of[name] for e in one.iter_errors(json.loads(text))])
print("seen", len({name for name, _ in seen}), "of", len(of))
print("missing", sorted(set(of) - {name for name, _ in seen}))
"#;

/// What a schema says of lines.
fn judged(net: &Net, lines: &str) -> String {
    net.input("python3", &["-W", "ignore", "-c", JUDGE, SCHEMA], lines.as_bytes()).ok()
}

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
