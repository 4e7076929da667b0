//! Rules that ship, changed by files of a few lines: in the daemon, at a reload, and in every command that
//! names a rule.

use crate::common::{self, Net, wait_until};
use std::fs;

const LOG: &str = "auth.log";

/// A host whose rule for sshd is the shipped one with our log and these lines.
fn host(lines: &str) -> Net {
    let net = Net::new();
    net.configure("", &[LOG]);
    net.append(LOG, "");
    overlay(&net, lines);
    net
}

fn overlay(net: &Net, lines: &str) {
    let files = net.path(LOG).display().to_string();
    net.write("rules.d/sshd.conf", &format!("[rule]\nsource=file\nfiles={files}\n{lines}\n"));
}

fn mef(net: &Net, args: &[&str]) -> common::Output {
    net.mef(&[args, &["--config", net.path("mef.conf").to_str().unwrap()]].concat())
}

/// So many wrong passwords of as many users: one who tries the same name again has guessed once.
fn guesses(addr: &str, count: usize) -> String {
    let line = |n| {
        format!("Nov 22 08:00:01 host sshd[13{n}]: Failed password for u{n} from {addr} port 58216 ssh2\n")
    };
    (0..count).map(line).collect()
}

fn is_banned(net: &Net, addr: &str) -> bool {
    net.in_set("ban4", addr.parse().unwrap())
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn one_line_changes_a_number_and_a_reload_takes_it() {
    let mut net = host("maxretry=2");
    let daemon = net.daemon("daemon");
    // By the patterns that ship: this is none of the rule's for tests. The rule that ships bans at five.
    // Names are told apart by a few bits of a hash under a key of the daemon's: two may count as one.
    let banned_at = guesses("203.0.113.1", 4).lines().position(|guess| {
        net.append(LOG, format!("{guess}\n"));
        net.mark(LOG);
        is_banned(&net, "203.0.113.1")
    });
    assert!(banned_at.is_some_and(|at| at > 0), "{banned_at:?}");
    net.append(LOG, guesses("203.0.113.2", 1));
    net.mark(LOG);
    assert!(!is_banned(&net, "203.0.113.2"));
    let reload = |net: &mut Net, count: usize| {
        net.signal(daemon, libc::SIGHUP);
        wait_until("a reload", || net.said("daemon").matches("configuration read").count() == count);
    };
    // What is local is stronger.
    net.write("rules.d/sshd.local", "[rule]\nmaxretry=1\n");
    reload(&mut net, 1);
    net.append(LOG, guesses("203.0.113.3", 1));
    wait_until("the ban", || is_banned(&net, "203.0.113.3"));
    // A bad one is refused, and what was in force stays.
    net.write("rules.d/sshd.local", "[rule]\nmaxretry=none\n");
    net.signal(daemon, libc::SIGHUP);
    let place = format!("{}:2:10: 'none' is not a whole number", net.path("rules.d/sshd.local").display());
    net.wait_said("daemon", &place);
    net.append(LOG, guesses("203.0.113.4", 1));
    wait_until("the ban", || is_banned(&net, "203.0.113.4"));
    assert_eq!(mef(&net, &["check"]).status, 1);
    // Off is off.
    net.write("rules.d/sshd.local", "[rule]\nenabled=false\n");
    net.write("rules.d/sshd-keys.conf", "[rule]\nenabled=false\n");
    reload(&mut net, 2);
    net.append(LOG, guesses("203.0.113.5", 9));
    net.mark(LOG);
    assert!(!is_banned(&net, "203.0.113.5"));
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_command_knows_the_changed_rule() {
    let net = host("maxretry=2");
    net.write("rules.d/sshd.local", "[rule]\nbantime=3h\n");
    let listed = mef(&net, &["rules"]).ok();
    let row = listed.lines().find(|line| line.starts_with("sshd ")).unwrap().to_owned();
    let (conf, local) = (net.path("rules.d/sshd.conf"), net.path("rules.d/sshd.local"));
    let from = format!("<built-in sshd> + {} + {}", conf.display(), local.display());
    assert!(row.contains(" on ") && row.ends_with(&from), "{row}");
    let json = mef(&net, &["rules", "--json"]).ok();
    assert_eq!(json.lines().count(), listed.lines().count());
    assert!(
        json.contains(&format!(
            "{{\"rule\":\"sshd\",\"on\":true,\"why\":\"enabled=true\",\"from\":\"{from}\"}}"
        )),
        "{json}"
    );
    // The rule that is shown is one.
    let shown = mef(&net, &["rules", "sshd"]).ok();
    for (line, origin) in
        [("maxretry=2", format!("{}:4", conf.display())), ("bantime=3h", format!("{}:2", local.display()))]
    {
        let found = shown.lines().find(|shown| shown.starts_with(line)).unwrap();
        assert!(found.ends_with(&format!(" # {origin}")), "{found}");
    }
    assert!(shown.contains("\n# built-in\nfailregex=^Failed "), "{shown}");
    net.write("all.conf", &shown);
    let all = net.path("all.conf").display().to_string();
    assert!(mef(&net, &["check", &all]).ok().contains("1 service rule; 0 errors, 0 warnings"));
    // It does what the parts do.
    net.append(LOG, guesses("203.0.113.1", 2));
    let log = net.path(LOG).display().to_string();
    for rule in ["sshd", &all, conf.to_str().unwrap()] {
        let tested = mef(&net, &["test", rule, &log]).ok();
        assert!(tested.contains("ban 203.0.113.1 after 2 hits, for 3h"), "{rule}: {tested}");
    }
    // What is only inside is found, too.
    fs::remove_dir_all(net.path("rules.d")).unwrap();
    let tested = mef(&net, &["test", "sshd", &log]).ok();
    assert!(tested.contains("203.0.113.1") || tested.contains("2 hits"), "{tested}");
    assert!(mef(&net, &["rules", "xrdp"]).ok().contains("\nprograms="));
    let missing = mef(&net, &["rules", "nosuch"]);
    assert!(missing.status == 1 && missing.stderr.contains("nosuch.conf: no such file"), "{missing:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn defaults_reach_what_ships() {
    let net = host("");
    let text = net.read("mef.conf") + "[defaults]\nmaxretry=2\naction=detect\nfindtime=1m\n";
    net.write("mef.conf", &text);
    let shown = mef(&net, &["rules", "sshd"]).ok();
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    let conf = net.path("mef.conf").display().to_string();
    assert!(line("maxretry=2 ").contains(&format!(" # {conf}:")), "{shown}");
    assert!(line("action=detect ").contains(&format!(" # {conf}:")), "{shown}");
    // Two hours are the rule's own.
    assert!(line("findtime=2h ").ends_with(" # built-in"), "{shown}");
    net.append(LOG, guesses("203.0.113.1", 2));
    let tested = mef(&net, &["test", "sshd", net.path(LOG).to_str().unwrap()]).ok();
    assert!(tested.contains("203.0.113.1") && !tested.contains("\nban "), "{tested}");
}
