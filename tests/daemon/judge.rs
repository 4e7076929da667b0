//! `mef daemon` on a host of its own: what it bans, whom it spares, and how it is steered.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::{number, text};
use common::daemon::{LOG, ends, failed, fails, host, observer, same_ends};
use common::{Net, ns, wait_for, wait_until};
use std::fs;
use std::time::Duration;

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn failed_log_ins_at_a_real_sshd_end_in_a_ban() {
    let mut net = Net::new();
    let (bad, good) = (net.peer(), net.peer());
    net.sshd();
    net.configure("ban_log_enabled=true", &["auth.log"]);
    net.shipped_sshd_rule("");
    let daemon = net.daemon("daemon");
    for name in ["root", "admin", "root", "guest", "root", "test"] {
        let said = net.ssh_fail(&bad, name).stderr;
        assert!(said.contains("Permission denied"), "{said}");
    }
    net.ssh_fail(&good, "root");
    net.mark("auth.log");
    assert!(net.bans().is_empty(), "four names are not enough: {}", net.said("daemon"));
    // Now and then two names share the few bits that are kept of each: then it takes one more.
    for n in 0..8 {
        if net.in_set("ban4", bad.v4.into()) {
            break;
        }
        net.ssh_fail(&bad, &format!("no-such-user{n}"));
        net.mark("auth.log");
    }
    wait_until("the ban", || net.in_set("ban4", bad.v4.into()));
    let row = net.ban_of("192.0.2.2");
    assert_eq!((text(&row, "rule").as_str(), number(&row, "hits")), ("sshd", Some(5)), "{row:?}");
    assert_eq!((text(&row, "ports"), net.banned().len()), ("all".into(), 1));
    assert!(net.shut_out(&bad, bad.host4.into(), 22) && net.reaches(&good, good.host4.into(), 22));
    wait_until("the ban log", || {
        net.read("log/mef.log")
            .lines()
            .any(|l| l.ends_with(" ban 192.0.2.2 rule=sshd hits=5 for=600 ports=all"))
    });
    net.wait_said("daemon", "ban 192.0.2.2 rule=sshd hits=5 for=600s ports=all");
    net.stop(daemon);
    assert!(net.read("daemon.out").contains("bans stay in force") && net.banned() == ["192.0.2.2"]);
    // The journal has it.
    let before = ends(&net);
    net.nft("delete table inet mef_guard");
    net.daemon("again");
    same_ends(&before, &ends(&net));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_ipv6_offender_is_its_prefix() {
    let mut net = Net::new();
    let peer = net.peer();
    net.sshd();
    net.configure("", &["auth.log"]);
    net.shipped_sshd_rule("maxretry=3");
    net.daemon("daemon");
    // One host, an address for each name. Of those, too, two may share the few bits that are kept.
    let mut guesses = 0;
    while net.banned().is_empty() && guesses < 11 {
        guesses += 1;
        net.speak_as(&peer, format!("2001:db8:a::{guesses}:1").parse().unwrap());
        net.ssh_fail_at(&peer, peer.host6.into(), &format!("no-such-user{guesses}"));
        net.mark("auth.log");
    }
    assert!(guesses > 2, "{guesses}");
    assert_eq!(net.banned(), ["2001:db8:a::/64"]);
    assert!(net.in_set("ban6", "2001:db8:a::".parse().unwrap()));
    net.speak_as(&peer, "2001:db8:a:0:9::9".parse().unwrap());
    assert!(net.shut_out(&peer, peer.host6.into(), 22), "a neighbour in the prefix");
    net.speak_as(&peer, "2001:db8:a:1::1".parse().unwrap());
    assert!(net.reaches(&peer, peer.host6.into(), 22), "a neighbour outside");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn maxretry_hits_ban_and_fewer_do_not() {
    let mut net = host("", "maxretry=3");
    net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2) + &fails("203.0.113.2", 3) + &fails("2001:db8:1::1", 2));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.2"]);
    net.append(LOG, fails("203.0.113.1", 1) + &fails("2001:db8:1::2", 1));
    net.mark(LOG);
    assert_eq!(net.banned(), ["2001:db8:1::/64", "203.0.113.1", "203.0.113.2"]);
    let row = net.ban_of("203.0.113.1");
    assert_eq!((number(&row, "hits"), text(&row, "rule")), (Some(3), "app".into()));
}

/// What a host pays all day. The program with debug information is as large as it is.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_daemon_that_waits_takes_next_to_no_memory() {
    let limit = if common::mef_binary().ends_with("target/mef") { 330 } else { 8192 };
    let mut net = host("", "");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 5));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.1"]);
    // Of both processes: what they have together counts once.
    let both = || [net.pid(daemon), observer(net.pid(daemon))];
    let now = || both().map(|pid| memory(pid, "Pss:")).iter().sum::<u64>();
    common::wait_or_show("little memory", || (now() <= limit).then_some(()), || now().to_string());
}

/// Memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    memory(pid, "Rss:")
}

/// Likewise, as the kernel counts by this name.
pub(super) fn memory(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nor_does_one_with_every_rule_and_what_was_read_for_them_is_gone() {
    let mut net = host("", "");
    // As many as can be on at once beside that of the host, the largest of all.
    let mut shipped: Vec<_> =
        fs::read_dir("rootfs/etc/mef/rules.d").unwrap().map(|entry| entry.unwrap().path()).collect();
    shipped.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    for (n, rule) in shipped.into_iter().enumerate() {
        if n + 1 >= mef::detect::MAX_RULES {
            net.write(&format!("rules.d/{}", rule.file_name().unwrap().display()), "[rule]\nenabled=false\n");
            continue;
        }
        let lines = fs::read_to_string(&rule).unwrap();
        // Keys cannot follow its sections.
        if rule.ends_with("webscan.conf") {
            continue;
        }
        let lines: Vec<&str> = lines.lines().filter(|line| !line.starts_with("source=")).collect();
        let name = rule.file_name().unwrap().to_str().unwrap();
        let on = format!("{}\nenabled=true\nsource=file\n", lines.join("\n"));
        net.write(&format!("rules.d/{name}"), &on);
    }
    let daemon = net.daemon("daemon");
    let pid = net.pid(daemon);
    let files = fs::read_dir(net.path("rules.d")).unwrap();
    let rules = files
        .filter(|file| fs::read_to_string(file.as_ref().unwrap().path()).unwrap().contains("\nenabled=true"));
    let rules = rules.count();
    assert!(net.said("daemon").contains(&format!(" for {rules} rules\n")), "{rules}: {}", net.said("daemon"));
    // What a daemon takes that waits, and 5 KiB for each rule.
    let limit = if common::mef_binary().ends_with("target/mef") { 256 + 5 * rules as u64 } else { 8192 };
    wait_until("little memory", || resident(pid) <= limit);
    for reloads in 1..=3 {
        net.signal(daemon, libc::SIGHUP);
        wait_until("a reload", || net.said("daemon").matches("configuration read").count() == reloads);
        net.mark(LOG);
        for pid in [pid, observer(pid)] {
            no_place_is_left(pid);
        }
    }
}

/// The place apart is 16 MiB of addresses. As large is only what was begun at the fork, 64 MiB of which a few
/// pages are used, and none of them is a huge one. The other process may have both of these.
fn no_place_is_left(pid: u32) {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut large, mut flags) = (Vec::new(), Vec::new());
    let mut size = 0;
    for line in maps.lines() {
        if let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) {
            let ends = [from, to].map(|end| u64::from_str_radix(end, 16).unwrap());
            size = if line.contains(" rw-p ") { ends[1] - ends[0] } else { 0 };
        } else if size >= 16 << 20 && line.starts_with("VmFlags:") {
            large.push(size >> 20);
            flags.push(line);
        }
    }
    assert!(large.iter().all(|size| size.is_multiple_of(64)) && (1..=2).contains(&large.len()), "{maps}");
    assert!(flags.iter().all(|flags| flags.contains(" nh")), "{flags:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn hits_before_findtime_are_forgotten() {
    let mut net = host("", "maxretry=3\nfindtime=1s");
    net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2));
    net.mark(LOG);
    // Later than this is as good: nothing here depends on how fast anything is.
    std::thread::sleep(Duration::from_millis(1100));
    net.append(LOG, fails("203.0.113.1", 2) + &fails("203.0.113.2", 3));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.2"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn two_rules_count_for_themselves() {
    let mut net = host("", "maxretry=3\nbantime=10m");
    let log = net.path(LOG);
    net.rule(
        "probe",
        &format!(
            "programs=sshd\nfiles={}\nfailregex=^Bad protocol version .* from <HOST>$\nmaxretry=2\n\
         bantime=permanent\nports=22",
            log.display()
        ),
    );
    net.rule_for("other", "other.log", "maxretry=1");
    net.daemon("daemon");
    let probe =
        |addr: &str| format!("Nov 22 08:00:01 host sshd[130]: Bad protocol version 'x' from {addr}\n");
    net.append(LOG, fails("203.0.113.1", 2) + &probe("203.0.113.1") + &fails("203.0.113.2", 2));
    net.mark(LOG);
    assert!(net.bans().is_empty(), "two of one and one of the other are no three");
    net.append(LOG, probe("203.0.113.1") + &fails("203.0.113.2", 1));
    net.append("other.log", failed("203.0.113.3"));
    net.mark(LOG);
    wait_until("the third ban", || net.bans().len() == 3);
    let (first, second) = (net.ban_of("203.0.113.1"), net.ban_of("203.0.113.2"));
    assert_eq!((text(&first, "rule").as_str(), text(&first, "ports").as_str()), ("probe", "22"));
    assert_eq!(number(&first, "left"), None);
    assert_eq!((text(&second, "rule").as_str(), text(&second, "ports").as_str()), ("app", "all"));
    assert!(number(&second, "left").is_some_and(|left| left > 500 && left <= 600));
    assert_eq!(text(&net.ban_of("203.0.113.3"), "rule"), "other");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_that_only_detects_bans_nobody() {
    let mut net = host("", "action=detect");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 3));
    net.mark(LOG);
    assert!(net.bans().is_empty());
    net.wait_said("daemon", "rule app detected 203.0.113.1 (3 hits; action=detect)");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_with_ports_closes_only_these() {
    let mut net = host("", "maxretry=1\nports=22,2200-2299\nproto=tcp");
    let peer = net.peer();
    net.daemon("daemon");
    let listen = |port: u16| std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let _listeners = [listen(22), listen(2250), listen(80)];
    net.append(LOG, failed("192.0.2.2"));
    net.mark(LOG);
    assert_eq!(text(&net.ban_of("192.0.2.2"), "ports"), "22,2200-2299/tcp");
    let shut_out = |port| net.shut_out(&peer, peer.host4.into(), port);
    assert!(shut_out(22) && shut_out(2250) && net.reaches(&peer, peer.host4.into(), 80));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_weight_counts_as_several() {
    let mut net = host(
        "",
        "maxretry=4\nfailregex@3=^Invalid user .* from <HOST> port \\d+$\nfailregex@0=^Seen <HOST>$",
    );
    net.daemon("daemon");
    let line = |text: &str| format!("Nov 22 08:00:01 host sshd[130]: {text}\n");
    net.append(LOG, line("Invalid user a from 203.0.113.1 port 1") + &failed("203.0.113.1"));
    net.append(LOG, line("Invalid user a from 203.0.113.2 port 1"));
    net.append(LOG, failed("203.0.113.3") + &line("Seen 203.0.113.3").repeat(9));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.1"]);
    assert_eq!(number(&net.ban_of("203.0.113.1"), "hits"), Some(4));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_ignored_line_is_no_hit() {
    let mut net = host("", "maxretry=1\nignoreregex=^Failed password for monitor from ");
    let daemon = net.daemon("daemon");
    net.append(LOG, failed("203.0.113.1").replace("root", "monitor") + &failed("203.0.113.2"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.2"]);
    let counts = net.counts(daemon, "daemon");
    assert_eq!(counts[..4], [3, 3, 2, 1], "lines, looked at, hits, ignored: {counts:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_allow_list_is_never_banned_and_told_once_each() {
    let mut net = host("", "maxretry=2");
    net.write("whitelist/office.conf", "203.0.113.0/28 # office\n2001:db8:aa::/48\n");
    net.daemon("daemon");
    let round = ["203.0.113.1", "203.0.113.2", "2001:db8:aa:1::1"].map(|addr| fails(addr, 2)).concat();
    for _ in 0..5 {
        net.append(LOG, &round);
    }
    net.append(LOG, fails("203.0.113.16", 2));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.16"]);
    let said = net.said("daemon");
    for offender in ["203.0.113.1 ", "203.0.113.2 ", "2001:db8:aa:1::/64 "] {
        let reported =
            said.lines().filter(|l| l.contains("on the allow list") && l.contains(offender)).count();
        assert_eq!(reported, 1, "{offender}:\n{said}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn an_allowed_neighbour_shields_nobody_and_does_not_suffer() {
    let mut net = Net::new();
    net.configure("", &[LOG]);
    net.rule_for("app", LOG, "maxretry=3");
    net.write("whitelist/friend.conf", "2001:db8:7::5\n");
    net.daemon("daemon");
    // What the friend does counts for nobody else.
    net.append(LOG, fails("2001:db8:7::5", 9) + &fails("2001:db8:7::6", 2));
    net.mark(LOG);
    assert!(net.banned().is_empty());
    assert!(net.said("daemon").contains("2001:db8:7::5 is not banned"), "{}", net.said("daemon"));
    net.append(LOG, fails("2001:db8:7::7", 1));
    net.mark(LOG);
    assert_eq!(net.banned(), ["2001:db8:7::/64"]);
    net.append(LOG, fails("2001:db8:7::5", 9));
    net.mark(LOG);
    assert_eq!(net.banned(), ["2001:db8:7::/64"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn own_addresses_and_trusted_proxies_are_never_banned() {
    let mut net = Net::new();
    let peer = net.peer();
    net.configure("trusted_proxies=203.0.113.80, 2001:db8:bb::/48", &[LOG]);
    net.rule_for("app", LOG, "maxretry=1");
    net.daemon("daemon");
    let spared = ["127.0.0.1", "::1", "203.0.113.80", "2001:db8:bb::9", "0.0.0.0", "224.0.0.1"];
    for addr in spared.into_iter().map(str::to_owned).chain([peer.host4.to_string(), peer.host6.to_string()])
    {
        net.append(LOG, fails(&addr, 3));
    }
    net.append(LOG, failed("192.0.2.3"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["192.0.2.3"]);
    let said = net.said("daemon");
    for what in [
        "203.0.113.80 is not banned",
        "a trusted reverse proxy",
        "192.0.2.1 is not banned",
        "this host's own address",
    ] {
        assert!(said.contains(what), "{what}:\n{said}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sighup_takes_a_new_configuration_and_keeps_the_counts() {
    // The ban log has a place from the start on: a confined daemon cannot have one later.
    let mut net = host("ban_log_enabled=true", "maxretry=3");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2));
    net.mark(LOG);
    net.rule_for("app", LOG, "maxretry=4\nbantime=2h");
    net.rule_for("new", "new.log", "maxretry=1\nports=25");
    net.configure("ipv6_prefix=56\nban_log_enabled=true", &[LOG]);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.append(LOG, fails("203.0.113.1", 1));
    net.mark(LOG);
    assert!(net.bans().is_empty(), "three are not enough any more");
    net.append(LOG, fails("203.0.113.1", 1) + &fails("2001:db8:1:1::1", 2) + &fails("2001:db8:1:2::1", 2));
    net.append("new.log", failed("203.0.113.3"));
    net.mark(LOG);
    wait_until("the ban by the new rule", || net.bans().len() == 3);
    assert_eq!(net.banned(), ["2001:db8:1::/56", "203.0.113.1", "203.0.113.3"]);
    let row = net.ban_of("203.0.113.1");
    assert_eq!(number(&row, "hits"), Some(4));
    assert!(number(&row, "left").is_some_and(|left| left > 7000));
    assert!(net.read("log/mef.log").contains(" ban 203.0.113.1 "));
    // The rule is gone, its bans stay.
    fs::remove_file(net.path("rules.d/new.conf")).unwrap();
    net.signal(daemon, libc::SIGHUP);
    wait_until("the second reload", || net.said("daemon").matches("configuration read").count() == 2);
    net.append("new.log", failed("203.0.113.4"));
    net.mark(LOG);
    assert_eq!(net.bans().len(), 3);
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sighup_with_a_broken_configuration_changes_nothing() {
    let mut net = host("", "maxretry=3");
    let daemon = net.daemon("daemon");
    net.append(LOG, fails("203.0.113.1", 2));
    net.mark(LOG);
    net.rule_for("app", LOG, "maxretry=1\nfailregex=^x (?=<HOST>)");
    net.write("mef.conf", "[global]\nlog=nowhere\n");
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "the previous one stays in force");
    let said = net.said("daemon");
    let conf = net.path("mef.conf").display().to_string();
    assert!(said.contains(&format!("{conf}:2:5: ")) && said.contains("nowhere"), "{said}");
    assert!(said.contains("expected"), "what would be right is said: {said}");
    net.append(LOG, failed("203.0.113.2") + &failed("203.0.113.1"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.1"], "two counted before and one after, as the old rule says");
    // A good file again.
    net.configure("", &[LOG]);
    net.rule_for("app", LOG, "maxretry=1");
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("daemon", "configuration read");
    net.append(LOG, failed("203.0.113.3"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.1", "203.0.113.3"]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sigusr1_tells_what_was_counted() {
    let mut net = host("", "maxretry=3");
    let daemon = net.daemon("daemon");
    net.append(LOG, "Nov 22 08:00:01 host cron[1]: nothing\n".repeat(10));
    net.append(LOG, fails("203.0.113.1", 3) + &fails("203.0.113.2", 1));
    net.mark(LOG);
    let counts = net.counts(daemon, "daemon");
    assert_eq!((counts[0], counts[2]), (15, 5), "lines and hits: {counts:?}");
    net.wait_said("daemon", "2 bans, ");
    net.stop(daemon);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_second_daemon_is_refused() {
    let mut net = host("", "maxretry=1");
    let daemon = net.daemon("daemon");
    let pid = net.pid(daemon);
    assert_eq!(net.read("run/mef/mef.pid"), format!("{pid}\n"));
    let config = net.path("mef.conf");
    for flag in [&["--foreground"][..], &[]] {
        let output = net.mef(&[&["daemon", "--config", config.to_str().unwrap()], flag].concat());
        assert_eq!(output.status, 1, "{output:?}");
        assert!(
            output.stderr.contains("/run/mef/mef.pid is locked: a daemon is running already"),
            "{output:?}"
        );
    }
    assert_eq!(net.read("run/mef/mef.pid"), format!("{pid}\n"), "the number is still the first one's");
    net.append(LOG, failed("203.0.113.1"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.1"], "and the first one works");
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    net.daemon("after");
}

/// Who was just killed may leave a child behind that has not closed the file yet.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_lock_that_is_held_a_moment_longer_refuses_nobody() {
    let mut net = host("", "maxretry=1");
    fs::create_dir(net.path("run/mef")).unwrap();
    let file = fs::File::create(net.path("run/mef/mef.pid")).unwrap();
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, e)| e)
        .unwrap();
    let daemon = net.start_daemon("daemon");
    let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].map(|call| call.to_string());
    wait_until("it to wait for the lock", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", net.pid(daemon))).unwrap();
        call.split(' ').next().is_some_and(|n| sleeps.iter().any(|sleep| sleep == n))
    });
    drop(lock);
    net.wait_ready("daemon");
}

/// A process that is nobody's child here; it ends with this value.
struct Stray(u32);

impl Drop for Stray {
    fn drop(&mut self) {
        if fs::exists(format!("/proc/{}", self.0)).unwrap_or(false) {
            ns::kill(self.0, libc::SIGKILL);
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_foreground_it_goes_into_the_background() {
    let net = host("log=syslog", "maxretry=1");
    // By a relative path, which means another file once it has gone into the background.
    net.mef(&["daemon", "--config", "mef.conf"]).ok();
    let pid = wait_for("the pid file", || net.read("run/mef/mef.pid").trim().parse().ok());
    let stray = Stray(pid);
    let says = |what: &str| {
        wait_until(what, || {
            net.read("daemon.log").contains(&format!("mef[{pid}]: ")) && net.read("daemon.log").contains(what)
        })
    };
    net.wait_ready("daemon");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let session = |stat: &str| stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
    let ours = session(&fs::read_to_string("/proc/self/stat").unwrap());
    assert!(
        fields[3] == session(&stat) && fields[3] != ours && fields[4] == "0",
        "session of its own, no terminal: {stat}"
    );
    net.append(LOG, failed("203.0.113.1"));
    net.mark(LOG);
    assert_eq!(net.banned(), ["203.0.113.1"]);
    ns::kill(pid, libc::SIGHUP);
    says("configuration read");
    ns::kill(pid, libc::SIGTERM);
    says("stopped; bans stay in force");
    wait_until("its end", || !fs::exists(format!("/proc/{pid}")).unwrap());
    drop(stray);
}
