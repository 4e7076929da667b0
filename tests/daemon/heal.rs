//! Others delete our tables; the daemon puts them back when it next wakes, with the bans and the time that
//! each has left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::backend::is_fallback;
use common::daemon::{LOG, ends, failed, fails, host, same_ends};
use common::{Net, load, uncounted, wait_or_show, wait_until};
use std::time::Instant;

/// Told, not judged: a busy machine takes as long as it takes.
fn say(text: &str) {
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
}

/// Waits until the daemon has repaired the tables so often.
#[track_caller]
fn repaired(net: &Net, daemon: usize, times: u64) {
    let noun = if times == 1 { "time" } else { "times" };
    let (said, what) = (|| net.said("daemon"), format!("; the table was restored {times} {noun}"));
    let ask = || {
        net.signal(daemon, libc::SIGUSR1);
        said().contains(&what).then_some(())
    };
    wait_or_show(&format!("repair {times}"), ask, said);
}

/// Wakes the daemon with a line that counts for nothing.
fn wake(net: &Net) {
    net.append(LOG, "Nov 22 08:00:01 host sshd[130]: nothing to see here\n");
}

/// The rules of a chain, in no order: those of ports may stand before or behind those of all.
fn rules(net: &Net, chain: &str) -> Vec<String> {
    let listing = uncounted(&net.nft_list(&format!("chain inet mef_guard {chain}")));
    let mut lines: Vec<String> = listing.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A host whose daemon has banned, with bans by hand and an allow list beside.
fn banned_host() -> (Net, usize) {
    let mut net = host("heal_interval=0", "maxretry=1\nbantime=10m");
    net.rule_for("ports", "ports.log", "maxretry=1\nports=22,80");
    net.append("ports.log", "");
    net.write("whitelist/local.conf", "198.51.100.0/24\n2001:db8:ffff::/48\n");
    let daemon = net.daemon("daemon");
    net.append("ports.log", failed("203.0.113.9"));
    net.append(LOG, fails("203.0.113.1", 1) + &fails("2001:db8:1::2", 1));
    net.mark(LOG);
    wait_until("the ban of ports", || net.banned().contains(&"203.0.113.9".to_owned()));
    net.mef(&["ban", "192.0.2.0/28", "--for", "2h"]).ok();
    net.mef(&["ban", "192.0.2.99", "--permanent", "--reason", "by hand"]).ok();
    (net, daemon)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_flushed_rule_set_is_back_with_the_time_that_each_ban_has_left() {
    let (net, daemon) = banned_host();
    let (before, gate) = (ends(&net), rules(&net, "gate"));
    assert_eq!(before.len(), 5, "{before:?}");
    for (i, command) in ["flush ruleset", "delete table inet mef_guard", "flush ruleset\ntable ip x {}"]
        .into_iter()
        .enumerate()
    {
        let flushed = Instant::now();
        net.nft(command);
        wake(&net);
        let there = |set: &str, what: &str| net.nft_list(&format!("set inet mef_guard {set}")).contains(what);
        wait_until("the bans", || there("ban4", "203.0.113.1") && there("bannet4", "192.0.2.0/28"));
        say(&format!("from the start of `nft {command}` to nft listing the bans: {:?}\n", flushed.elapsed()));
        repaired(&net, daemon, i as u64 + 1);
        same_ends(&before, &ends(&net));
        assert_eq!(rules(&net, "gate"), gate);
        assert!(there("allow4", "198.51.100.0/24") && there("allow6", "2001:db8:ffff::/48"));
    }
    net.wait_said("daemon", "the guard table was gone: it is recreated");
    // Who is banned afterwards is banned in the new table.
    net.append(LOG, failed("203.0.113.2"));
    net.mark(LOG);
    assert!(net.banned().contains(&"203.0.113.2".to_owned()));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_is_deleted_inside_the_table_is_put_back() {
    let (net, daemon) = banned_host();
    let before = ends(&net);
    let chains = || ["gate", "hit", "hit6"].map(|chain| rules(&net, chain));
    let whole = chains();
    let handle = net.cmd("nft", &["-a", "list", "chain", "inet", "mef_guard", "gate"]).ok();
    let handle = handle.split("# handle ").nth(2).unwrap().split_whitespace().next().unwrap().to_owned();
    for (i, command) in [
        "flush chain inet mef_guard gate".to_owned(),
        format!("delete rule inet mef_guard gate handle {handle}"),
        "flush chain inet mef_guard gate; delete chain inet mef_guard gate; delete set inet mef_guard ban4"
            .into(),
        "flush chain inet mef_guard hit".into(),
        "flush chain inet mef_guard hit6".into(),
    ]
    .into_iter()
    .enumerate()
    {
        // The handle is that of a rule that the repair before has replaced.
        if net.input("nft", &["-f", "-"], command.as_bytes()).status != 0 {
            assert!(command.contains("handle"), "{command}");
            net.nft("flush chain inet mef_guard gate");
        }
        repaired(&net, daemon, i as u64 + 1);
        wait_until(&command, || chains() == whole);
        same_ends(&before, &ends(&net));
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_of_ours_and_changes_of_others_cause_no_repair() {
    let (net, daemon) = banned_host();
    net.nft("table inet other { chain c { type filter hook input priority 0; ip saddr 192.0.2.1 drop; }; }");
    net.nft("delete table inet other");
    net.mef(&["ban", "192.0.2.100", "--ports", "25"]).ok();
    net.mef(&["unban", "192.0.2.3"]).ok();
    net.nft("delete element inet mef_guard ban4 { 192.0.2.99 }");
    net.append(LOG, fails("203.0.113.7", 1));
    net.mark(LOG);
    net.counts(daemon, "daemon");
    assert!(net.said("daemon").contains("; the table was restored 0 times"), "{}", net.said("daemon"));
    assert!(
        !net.banned().contains(&"192.0.2.99".to_owned()),
        "an element that somebody deletes stays deleted"
    );
}

/// What there is of a set of ours, for people.
fn text_of(net: &Net, set: &str) -> String {
    if is_fallback() { net.ipset(set) } else { net.nft_list(&format!("set inet mef_guard {set}")) }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_set_that_others_empty_is_filled_again() {
    let (net, daemon) = &banned_host();
    net.write("blacklist/some.conf", "198.51.99.7\n");
    let denied = || net.mef(&["why", "198.51.99.7", "--config", "mef.conf"]).stdout.contains("some.conf");
    let again = |what: &str, is_there: &dyn Fn() -> bool| {
        let ask = || {
            wake(net);
            is_there().then_some(())
        };
        wait_or_show(what, ask, || net.said("daemon"));
    };
    again("the deny list", &denied);
    let before = ends(net);
    for set in ["ban4", "ban6", "bannet4"] {
        net.flush_sets(&[set]);
        again(set, &|| ends(net).len() == before.len());
        same_ends(&before, &ends(net));
    }
    net.wait_said("daemon", "sets of the guard table were emptied: they are filled again");
    for (set, who) in [("allow4", "198.51.100.0"), ("allow6", "2001:db8:ffff::")] {
        net.flush_sets(&[set]);
        again(set, &|| text_of(net, set).contains(who));
    }
    net.wait_said("daemon", "the allow list of the guard table was emptied: it is filled again");
    let shown = net.shown();
    let mut words = shown.split(|c: char| !c.is_alphanumeric() && c != '_');
    let set = words.find(|word| word.contains("deny4_")).unwrap().trim_start_matches("mef_");
    net.flush_sets(&[set]);
    again("the deny list again", &|| denied() && text_of(net, set).is_empty());
    same_ends(&before, &ends(net));
    // Each was a repair, but the list, which is no part of the table.
    repaired(net, *daemon, 5);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_ends_by_itself_or_by_a_command_stays_ended() {
    let (net, daemon) = banned_host();
    let look = || {
        // It reports before it looks, and so has looked when it reports again.
        net.counts(daemon, "daemon");
        net.counts(daemon, "daemon");
    };
    let config = net.path("mef.conf").display().to_string();
    look();
    // The last ones of their sets.
    net.mef(&["unban", "192.0.2.0/28"]).ok();
    net.mef(&["unban", "2001:db8:1::2"]).ok();
    look();
    net.mef(&["ban", "192.0.2.16/28", "--for", "1s"]).ok();
    look();
    wait_until("its end", || !net.banned().contains(&"192.0.2.16/28".to_owned()));
    net.mef(&["disallow", "2001:db8:ffff::/48", "--config", &config]).ok();
    look();
    net.mef(&["unban", "--all", "--config", &config]).ok();
    look();
    net.mef(&["ban", "203.0.113.80", "--config", &config]).ok();
    net.mef(&["unban", "203.0.113.80", "--config", &config]).ok();
    net.nft("table inet other {}");
    look();
    assert_eq!(net.banned(), ["192.0.2.99"], "the one for good");
    assert!(!text_of(&net, "allow6").contains("2001:db8:ffff::"));
    let said = net.said("daemon");
    assert!(said.contains("; the table was restored 0 times") && !said.contains("emptied"), "{said}");
}

/// The kernel lists what there is by counting, and what is not yet in force counts: beside transactions, and
/// beside such as it refuses, it lists rules twice, or not at all.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn transactions_while_the_daemon_looks_are_no_damage() {
    let (net, daemon) = banned_host();
    let refused = "insert rule inet mef_guard gate counter\n".repeat(30) + "delete table inet nothing\n";
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..100 {
                let _ = net.input("nft", &["-f", "-"], refused.as_bytes());
            }
        });
        threads.spawn(|| {
            for port in 1000..1040 {
                let _ = net.mef(&["ban", "192.0.2.200", "--ports", &port.to_string()]);
            }
        });
        for _ in 0..200 {
            wake(&net);
            net.nft("add table inet other; delete table inet other");
        }
    });
    net.counts(daemon, "daemon");
    assert!(net.said("daemon").contains("; the table was restored 0 times"), "{}", net.said("daemon"));
    net.nft("flush chain inet mef_guard gate");
    repaired(&net, daemon, 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn two_programs_that_fight_are_bounded() {
    let (net, daemon) = banned_host();
    for times in 1..=5 {
        net.nft("delete table inet mef_guard");
        repaired(&net, daemon, times);
    }
    net.nft("delete table inet mef_guard");
    wake(&net);
    net.wait_said("daemon", "our tables are deleted repeatedly: the next repair is in 1 s");
    // It comes nevertheless.
    repaired(&net, daemon, 6);
    net.nft("delete table inet mef_guard");
    wake(&net);
    net.wait_said("daemon", "the next repair is in 2 s");
    // A ban does not wait for that.
    net.append(LOG, failed("203.0.113.2"));
    net.mark(LOG);
    assert!(net.banned().contains(&"203.0.113.2".to_owned()));
}

/// The rule set that a daemon is to put back.
const DROPS: &str = "policy dir=in action=drop\nrule dir=in action=accept proto=all iif=lo\n";

/// A banned host whose daemon puts that back.
fn managed_host() -> (Net, usize) {
    let (mut net, daemon) = banned_host();
    net.stop(daemon);
    net.write("etc/mef/mef.rules", DROPS);
    net.configure("load_managed=true", &[LOG]);
    let daemon = net.daemon("daemon");
    (net, daemon)
}

/// Whether it is in force.
fn there(net: &Net) -> bool {
    net.nft_list("table inet mef").contains("policy drop")
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_managed_rule_set_is_loaded_again_but_not_after_unload() {
    let (net, daemon) = managed_host();
    net.nft("flush ruleset");
    repaired(&net, daemon, 1);
    assert!(!there(&net), "what was never loaded is not gone");
    load(&net, DROPS);
    assert!(there(&net));
    net.nft("flush ruleset");
    wake(&net);
    net.wait_said("daemon", "the table inet mef was gone: /etc/mef/mef.rules is loaded again");
    assert!(there(&net));
    net.mef(&["unload"]).ok();
    net.nft("delete table inet mef_guard");
    repaired(&net, daemon, 3);
    assert!(!there(&net), "{}", net.said("daemon"));
    // Changed on the disk and wrong: told, and nothing is loaded.
    load(&net, DROPS);
    net.write("etc/mef/mef.rules", "rule nonsense\n");
    net.nft("flush ruleset");
    wake(&net);
    net.wait_said(
        "daemon",
        "the table inet mef is gone, and /etc/mef/mef.rules cannot be loaded: it has errors",
    );
    repaired(&net, daemon, 4);
    assert!(!there(&net));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_managed_rule_set_is_not_loaded_while_somebody_loads_one() {
    let (net, daemon) = managed_host();
    load(&net, DROPS);
    let turn = mef::trial::TrialTurn::take(&net.path("run/mef")).unwrap();
    net.nft("delete table inet mef");
    let look = || {
        net.counts(daemon, "daemon");
        net.counts(daemon, "daemon");
    };
    look();
    assert!(!there(&net), "{}", net.said("daemon"));
    drop(turn);
    wait_until("the rules", || there(&net));
    // Whoever had the turn has loaded others: these stay.
    let turn = mef::trial::TrialTurn::take(&net.path("run/mef")).unwrap();
    net.nft("delete table inet mef");
    look();
    net.nft("table inet mef { chain input { type filter hook input priority 0; }; }");
    drop(turn);
    look();
    assert!(!there(&net), "{}", net.said("daemon"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn rules_for_frames_that_are_deleted_alone_are_loaded_again() {
    const RULES: &str = "rule dir=in action=accept proto=all iif=lo\n";
    const FRAMES: &str = "policy dir=bridge action=drop\n";
    const SAID: &str = "the table bridge mef was gone: /etc/mef/mef.rules is loaded again";
    let (mut net, daemon) = banned_host();
    net.stop(daemon);
    let both = [RULES, FRAMES].concat();
    net.write("etc/mef/mef.rules", &both);
    net.configure("load_managed=true", &[LOG]);
    let daemon = net.daemon("daemon");
    let frames = |net: &Net| net.nft_list("table bridge mef").contains("policy drop");
    load(&net, &both);
    wake(&net);
    net.mark(LOG);
    net.nft("delete table bridge mef");
    wake(&net);
    wait_until("the table", || frames(&net));
    net.wait_said("daemon", SAID);
    assert!(net.nft_list("table inet mef").contains("iif"), "the rest is there, too");
    // Other rules have taken it away; and a change of somebody else later is no reason to look for it.
    load(&net, RULES);
    wake(&net);
    net.mark(LOG);
    net.nft("table inet other {}");
    net.nft("delete table inet mef_guard");
    repaired(&net, daemon, 1);
    assert!(!frames(&net) && net.said("daemon").matches(SAID).count() == 1, "{}", net.said("daemon"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_daemon_is_no_member_of_the_kernels_events() {
    let (net, daemon) = banned_host();
    let pid = net.pid(daemon).to_string();
    let sockets = net.cmd("cat", &["/proc/net/netlink"]).ok();
    let mut own = 0;
    for line in sockets.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Protocol 12 is that of netfilter; of the groups, bit 6 is NFNLGRP_NFTABLES.
        let groups = u32::from_str_radix(words[3], 16).unwrap();
        assert!(words[1] != "12" || groups & 1 << 6 == 0, "{line}");
        own += usize::from(words[1] == "12" && words[2] == pid);
    }
    assert!(own > 0, "{pid} in\n{sockets}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_first_line_after_a_flush_finds_the_table_whole() {
    let mut net = host("heal_interval=0", "maxretry=1\nbantime=10m");
    let daemon = net.daemon("daemon");
    net.append(LOG, failed("203.0.113.1"));
    net.mark(LOG);
    net.nft("flush ruleset");
    net.append(LOG, failed("203.0.113.2"));
    wait_until("both bans", || net.banned() == ["203.0.113.1", "203.0.113.2"]);
    // Before the ban, not by it: whoever bans into a table that is gone says so in other words.
    repaired(&net, daemon, 1);
    let said = net.said("daemon");
    assert_eq!(said.matches("the guard table was gone").count(), 1, "{said}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_flush_that_nothing_follows_is_healed_by_the_clock() {
    let mut net = host("", "maxretry=1\nbantime=10m");
    net.daemon("daemon");
    net.append(LOG, failed("203.0.113.1"));
    net.mark(LOG);
    for _ in 0..3 {
        net.nft("flush ruleset");
        wait_until("the ban", || net.nft_list("ruleset").contains("203.0.113.1"));
    }
    net.nft("delete set inet mef_guard made");
    net.wait_said("daemon", "sets of the guard table were deleted: they are recreated");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn deny_lists_that_others_delete_are_loaded_again() {
    let mut net = host("", "maxretry=1\nbantime=10m");
    net.write("blacklist/some.conf", "198.51.100.7\n203.0.113.0/26\n");
    let daemon = net.daemon("daemon");
    let denied = || {
        let listing = net.nft_list("table inet mef_guard");
        listing.contains("198.51.100.7") && listing.contains("203.0.113.0/26")
    };
    wait_until("the list", denied);
    // It looks at what has just been loaded: what it never saw it does not miss.
    net.mark(LOG);
    net.nft("flush chain inet mef_guard deny; flush chain inet mef_guard denynet");
    // The next line wakes it.
    net.mark(LOG);
    let rules = || ["deny", "denynet"].map(|chain| net.nft_list(&format!("chain inet mef_guard {chain}")));
    wait_until("its rules", || rules().iter().all(|chain| chain.contains("@deny4_")) && denied());
    // No damage to the table itself.
    net.signal(daemon, libc::SIGUSR1);
    net.wait_said("daemon", "; the table was restored 0 times");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_storm_of_events_is_survived() {
    let (net, daemon) = banned_host();
    let before = ends(&net);
    // The daemon sleeps while more happens than its socket holds.
    net.signal(daemon, libc::SIGSTOP);
    let mut text = String::from("table ip big { set s { type ipv4_addr; }; }\n");
    for i in 0..40_000u32 {
        let [_, a, b, c] = i.to_be_bytes();
        text += &format!("add element ip big s {{ 10.{a}.{b}.{c} }}\n");
    }
    for _ in 0..2 {
        net.nft(&text);
        net.nft("flush set ip big s");
    }
    net.nft("delete table inet mef_guard");
    net.signal(daemon, libc::SIGCONT);
    repaired(&net, daemon, 1);
    same_ends(&before, &ends(&net));
}
