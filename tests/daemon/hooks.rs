//! Programs that the daemon runs at bans and unbans.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::number;
use common::daemon::{LOG, failed, host};
use common::{Net, wait_until};

/// Writes a script below the test's directory and returns its path.
fn script(net: &Net, name: &str, text: &str) -> String {
    let path = net.program(name, &format!("#!/bin/sh\n{text}\n"));
    path.display().to_string()
}

/// A host that bans at the first failure, with such a hook.
fn hooked(text: &str, args: &str) -> Net {
    let mut net = host("", "maxretry=1\nports=22,80");
    let path = script(&net, "hook", text);
    net.configure(&format!("on_ban={path} {args}\non_unban={path}"), &[LOG]);
    net.daemon("daemon");
    net
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_program_hears_the_facts_and_nothing_else() {
    let net = hooked(
        "exec 9>>\"${0%/*}/lock\"; flock 9; { echo \"$# $1 $2\"; env | sort; pwd; } >> \"${0%/*}/facts\"",
        "\"$(reboot)\" \"a b\"",
    );
    net.append(LOG, failed("203.0.113.1"));
    wait_until("the facts of a ban by a rule", || net.read("facts").ends_with("\n/\n"));
    let said = net.read("facts");
    let has = |said: &str, line: &str| said.lines().any(|l| l == line);
    assert!(said.starts_with("2 $(reboot) a b\n"), "{said}");
    for line in [
        "MEF_EVENT=ban",
        "MEF_ADDR=203.0.113.1",
        "MEF_RULE=app",
        "MEF_HITS=1",
        "MEF_BANS=1",
        "MEF_PORTS=22,80",
        "/",
    ] {
        assert!(has(&said, line), "{line}: {said}");
    }
    let value = |name: &str| {
        let line = said.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.parse::<u64>().unwrap()
    };
    assert_eq!(
        value("MEF_UNTIL=") - value("MEF_TIME="),
        number(&net.ban_of("203.0.113.1"), "left").map_or(0, |_| 3600)
    );
    assert!(!said.contains("HOME="), "{said}");
    // Each variable is documented, in both places, and there is no other.
    let mut given: Vec<&str> =
        said.lines().filter(|l| l.starts_with("MEF_")).filter_map(|l| l.split('=').next()).collect();
    given.sort_unstable();
    for page in ["doc/mef/monitoring.md", "man/man8/mef.8"] {
        let page = format!("{}/rootfs/usr/share/{page}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&page).unwrap();
        let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
        let mut named: Vec<&str> =
            text.split(|c| !is_part(c)).filter(|word| word.starts_with("MEF_") && word.len() > 4).collect();
        named.sort_unstable();
        named.dedup();
        assert_eq!(named, given, "{page}");
    }
    // Bans and unbans by hand, too.
    net.mef(&["ban", "192.0.2.0/24", "--permanent", "--reason", "a \"b\" $(c)"]).ok();
    wait_until("a ban by hand", || has(&net.read("facts"), "MEF_ADDR=192.0.2.0/24"));
    wait_until("its reason", || has(&net.read("facts"), "MEF_REASON=a \"b\" $(c)"));
    assert!(has(&net.read("facts"), "MEF_UNTIL=never") && has(&net.read("facts"), "MEF_RULE=manual"));
    net.mef(&["unban", "203.0.113.1"]).ok();
    wait_until("an unban", || has(&net.read("facts"), "MEF_EVENT=unban"));
    net.mef(&["unban", "--all"]).ok();
    wait_until("the end of all bans", || has(&net.read("facts"), "MEF_ADDR=all"));
    // Who was not banned is no event.
    assert_eq!(net.mef(&["unban", "203.0.113.77"]).status, 1);
    net.mef(&["unban", "192.0.2.7"]).ok();
    wait_until("the last one", || has(&net.read("facts"), "MEF_ADDR=192.0.2.7"));
    assert!(!net.read("facts").contains("203.0.113.77"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_that_hang_hold_nobody_up() {
    let net = hooked("sleep 1000 & sleep 1000", "");
    let lines: String = (0..200).map(|i| failed(&format!("203.0.113.{i}"))).collect();
    net.append(LOG, lines);
    net.mark(LOG);
    assert_eq!(net.banned().len(), 200);
    net.wait_said("daemon", "more than 64 events wait for on_ban and on_unban");
    assert_eq!(net.said("daemon").matches("events wait for").count(), 1, "told once");
    let lost = status(&net, "hooks_lost");
    // Four run, 64 wait; the marks are bans as well.
    assert!(lost >= 200 - 4 - 64, "{lost}");
    net.append(LOG, failed("198.51.100.1"));
    net.mark(LOG);
    assert!(net.banned().contains(&"198.51.100.1".to_owned()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn programs_that_print_fork_and_fail_are_told_of() {
    let net = hooked("yes | head -c 20000000; yes >&2 & (sleep 1000 &); exit 3", "");
    net.append(LOG, failed("203.0.113.1"));
    net.wait_said("daemon", "an on_ban or on_unban program ended with status 3");
    assert_eq!(net.said("daemon").matches("yyy").count() + net.said("daemon").matches("y\ny").count(), 0);
    wait_until("it to be counted", || status(&net, "hooks_lost") == 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_program_that_is_not_there_is_told_once() {
    let mut net = host("", "maxretry=1");
    net.configure("on_ban=/nowhere/hook", &[LOG]);
    net.daemon("daemon");
    for i in 0..5 {
        net.append(LOG, failed(&format!("203.0.113.{i}")));
        net.mark(LOG);
    }
    wait_until("all to be counted", || status(&net, "hooks_lost") == 10);
    assert_eq!(net.said("daemon").matches("/nowhere/hook: no such program").count(), 1);
}

/// A number of `mef status --json`.
fn status(net: &Net, name: &str) -> u64 {
    let text = net.mef(&["status", "--json"]).shown();
    let rest = text.split(&format!("\"{name}\":")).nth(1).unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}
