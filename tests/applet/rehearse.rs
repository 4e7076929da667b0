//! `mef test` says what the daemon would do: whom it would ban for how long, and whom not, and why.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::daemon::{failed, host};
use common::{Net, wait_until};

/// A line of sshd at a time of a day.
fn at(time: &str, addr: &str) -> String {
    format!("Nov 22 {time} host sshd[130]: Failed password for root from {addr} port 40022 ssh2\n")
}

/// So many of them in a minute.
fn burst(minute: &str, addr: &str, count: usize) -> String {
    (0..count).map(|second| at(&format!("{minute}:{second:02}"), addr)).collect()
}

fn test(net: &Net, args: &[&str], log: &str) -> String {
    let config = net.path("mef.conf").display().to_string();
    let all = [&["test", "--config", &config], args, &["app", "-"]].concat();
    net.mef_input(&all, log.as_bytes()).ok()
}

/// What becomes of an address, in the order of the lines.
fn fates(net: &Net, addr: &str, log: &str) -> Vec<String> {
    let text = test(net, &[], log);
    let of = |line: &&str| line.contains(&format!(" {addr}"));
    text.lines().filter(of).map(|line| line.split_once(": ").unwrap().1.to_owned()).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_is_never_banned_is_not_and_the_reason_is_said() {
    let net = host("trusted_proxies=203.0.113.128/25", "maxretry=3");
    net.write("whitelist/local.conf", "198.51.100.0/24\n");
    net.ip("addr add 192.0.2.1/32 dev lo");
    let offender = ["198.51.100.7", "203.0.113.200", "192.0.2.1", "203.0.113.7"];
    let log: String = offender.iter().map(|addr| burst("08:00", addr, 7)).collect();
    let why = |addr: &str| fates(&net, addr, &log).join("; ");
    assert_eq!(why(offender[0]), "no ban of 198.51.100.7 after 3 hits: it is on the allow list");
    assert_eq!(why(offender[1]), "no ban of 203.0.113.200 after 3 hits: it is a trusted reverse proxy");
    assert_eq!(why(offender[2]), "no ban of 192.0.2.1 after 3 hits: it is this host's own address");
    assert_eq!(why(offender[3]), "ban 203.0.113.7 after 3 hits, for 1h");
    let text = test(&net, &[], &log);
    assert!(
        text.contains("\n1 ban (3 hits within 10m), 1 time by an address that is already banned, 6 times by"),
        "{text}"
    );
    let json = test(&net, &["--json"], &log);
    for (event, count) in [("ban", 1), ("exempt", 6), ("repeat", 1), ("summary", 1)] {
        assert_eq!(json.matches(&format!("\"event\":\"{event}\"")).count(), count, "{event}: {json}");
    }
    assert!(
        json.contains("\"for\":3600,\"bans\":1,\"ports\":\"all\"}")
            && json.contains("\"why\":\"on the allow list\"")
    );
    assert!(json.ends_with("\"bans\":1,\"repeated\":1,\"exempt\":6,\"detected\":0}\n"), "{json}");
    // Nothing of that has to do with which lines hit.
    let hits = test(&net, &["--hits"], &log);
    let lines: Vec<String> = (0..28).map(|n| format!("{}\t{}\n", n + 1, offender[n / 7])).collect();
    assert_eq!(hits, lines.concat());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn who_comes_back_is_banned_for_longer() {
    let log: String =
        ["08:00", "08:20", "10:00", "14:00"].iter().map(|m| burst(m, "203.0.113.7", 3)).collect();
    let net = host("bantime_factor=4\nbantime_max=1d", "maxretry=3\nbantime=10m");
    assert_eq!(
        fates(&net, "203.0.113.7", &log),
        [
            "ban 203.0.113.7 after 3 hits, for 10m",
            "ban 203.0.113.7 after 3 hits, for 40m (ban 2 of it)",
            "ban 203.0.113.7 after 3 hits, for 2h 40m (ban 3 of it)",
            "ban 203.0.113.7 after 3 hits, for 10h 40m (ban 4 of it)",
        ]
    );
    let net = host("bantime_increment=false", "maxretry=3\nbantime=10m");
    assert!(fates(&net, "203.0.113.7", &log).iter().all(|line| line.contains(", for 10m")));
    let net = host(
        "",
        "maxretry=3\nescalation_enabled=true\nescalation_window=1d\npermanent_threshold=3\nports=22",
    );
    let fates = fates(&net, "203.0.113.7", &log);
    assert!(fates[0].ends_with(", for 1h on ports 22") && fates[2].contains("for good"), "{fates:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_rule_that_only_detects_bans_nobody_here_either() {
    let net = host("", "maxretry=3\naction=detect");
    let log = burst("08:00", "203.0.113.7", 3);
    assert_eq!(fates(&net, "203.0.113.7", &log), ["detect 203.0.113.7 after 3 hits"]);
    assert!(
        test(&net, &[], &log)
            .contains("\n0 bans (3 hits within 10m), 1 time only reported (action=detect)\n")
    );
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_the_daemon_does_is_what_was_said() {
    let mut net = host("ipv6_escalate=56", "maxretry=3");
    net.write("whitelist/local.conf", "198.51.100.7\n");
    let offender = [
        "203.0.113.1",
        "198.51.100.7",
        "2001:db8:1:1::5",
        "2001:db8:1:2::5",
        "2001:db8:1:3::5",
        "2001:db8:1:4::5",
    ];
    let log: String = offender.iter().map(|addr| failed(addr).repeat(3)).collect();
    let said = test(&net, &["--json"], &log);
    let mut want: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("{\"event\":\"ban\""))
        .map(|line| line.split("\"address\":\"").nth(1).unwrap().split('"').next().unwrap())
        .collect();
    let daemon = net.daemon("daemon");
    net.append(common::daemon::LOG, &log);
    net.mark(common::daemon::LOG);
    net.stop(daemon);
    let bans = net.mef(&["bans", "--json"]).ok();
    let mut got: Vec<&str> = bans
        .lines()
        .filter(|line| line.contains("\"rule\":\"app\""))
        .map(|line| line.split("\"address\":\"").nth(1).unwrap().split('"').next().unwrap())
        .collect();
    want.sort_unstable();
    got.sort_unstable();
    assert_eq!(want, got, "{said}{bans}");
    assert!(want.contains(&"2001:db8:1::/56") && want.len() == 6, "{want:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn the_journal_is_read_as_the_daemon_reads_it_in_every_form() {
    let mut net = host("", "maxretry=3");
    net.journald("", &[], true);
    let message = |addr: &str, n: u32| format!("Failed password for root from {addr} port {n} ssh2");
    let mut sshd = net.speaker("sshd", 0, "ssh.service", "sshd");
    let mut forger = net.speaker("forger", 65534, "session-3.scope", "sshd");
    for n in 1..=4 {
        sshd.say(&message("203.0.113.1", n));
        forger.say(&message("203.0.113.2", n));
    }
    sshd.say(&message("203.0.113.3", 1));
    let entries = || net.journalctl(true, "system.journal").len();
    wait_until("the entries", || entries() >= 9);
    let file = net.journal_dirs()[1].join("system.journal");
    let config = net.path("mef.conf").display().to_string();
    let base = ["test", "--config", &config];
    let reported = |text: &str, addr: &str| text.contains(&format!("ban {addr} after 3 hits, for 1h"));
    let direct = net.mef(&[&base[..], &["--journal", "--since", "1h", "app"]].concat());
    let said = &direct.stdout;
    assert!(
        direct.status == 0 && reported(said, "203.0.113.1") && said.starts_with("entry "),
        "{said}{}",
        direct.stderr
    );
    assert!(!said.contains("203.0.113.2") && said.contains(" 5 hits,"), "a forger was believed: {said}");
    assert!(direct.stderr.contains("4 entries do not count"), "{}", direct.stderr);
    for form in
        ["short", "short-iso", "short-precise", "short-iso-precise", "short-full", "with-unit", "json"]
    {
        let args = ["--quiet", "--no-pager", "-o", form, "--file", file.to_str().unwrap()];
        let printed = net.command("journalctl", &args).output().unwrap().stdout;
        let shown = String::from_utf8_lossy(&printed).into_owned();
        let output = net.mef_input(&[&base[..], &["app", "-"]].concat(), &printed);
        let said = &output.stdout;
        assert!(
            output.status == 0 && reported(said, "203.0.113.1"),
            "{form}: {said}{}\n{shown}",
            output.stderr
        );
        // Who wrote it is only in some of the forms.
        let senders = ["with-unit", "json"].contains(&form);
        assert_eq!(reported(said, "203.0.113.2"), !senders, "{form}: {said}\n{shown}");
        let hits = net.mef_input(&[&base[..], &["--hits", "app", "-"]].concat(), &printed).stdout;
        let number = |(n, line): (usize, &str)| line.contains("203.0.113.3").then_some(n + 1);
        let at = shown.lines().enumerate().find_map(number).unwrap();
        assert!(hits.lines().any(|line| line == format!("{at}\t203.0.113.3")), "{form}: {hits}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn wrong_ways_to_ask_for_the_journal_are_usage() {
    let net = host("", "maxretry=3");
    for args in [
        &["test", "--since", "1h", "app", "-"][..],
        &["test", "--journal", "app", "-"],
        &["test", "--journal", "--since", "soon", "app"],
        &["test", "app"],
    ] {
        assert_eq!(net.mef(args).status, 2, "{args:?}");
    }
}
