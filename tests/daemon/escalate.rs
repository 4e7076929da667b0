//! Who comes back is banned for longer, at last for good; wider IPv6 networks; too many bans at a time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::{number, text};
use common::daemon::{LOG, ends, failed, fails, host, same_ends};
use common::{Net, wait_until};
use std::fs;
use std::net::IpAddr;

const WHO: &str = "203.0.113.1";

/// Makes the address fail until it is banned, and waits for the end of that ban.
fn ban_and_wait(net: &Net, set: &str) {
    let addr: IpAddr = WHO.parse().unwrap();
    net.append(LOG, failed(WHO));
    net.mark(LOG);
    wait_until("the end of the ban", || !net.in_set(set, addr));
}

/// What the daemon said of bans of an address.
fn reported(net: &Net, names: &[&str], addr: &str) -> Vec<String> {
    let said: String = names.iter().map(|name| net.said(name)).collect();
    let start = format!("ban {addr} ");
    said.lines().filter_map(|line| Some(line[line.find(&start)? + start.len()..].to_owned())).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn each_further_ban_is_longer_also_after_a_restart_and_a_reload() {
    let mut net = host("bantime_factor=2\nbantime_max=1h", "maxretry=1\nbantime=1");
    let daemon = net.daemon("one");
    ban_and_wait(&net, "ban4");
    ban_and_wait(&net, "ban4");
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    net.nft("delete table inet mef_guard");
    let daemon = net.daemon("two");
    net.append(LOG, failed(WHO));
    net.mark(LOG);
    // Other settings are taken over with what is known.
    net.configure("bantime_factor=10\nbantime_max=8", &[LOG]);
    net.signal(daemon, libc::SIGHUP);
    net.wait_said("two", "configuration read");
    // Lines that were still on their way change nothing.
    net.append(LOG, fails(WHO, 5));
    net.mark(LOG);
    wait_until("the end of the ban", || !net.in_set("ban4", WHO.parse().unwrap()));
    // The daemon counts in seconds: what comes within one of the end belongs to the same ban.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    net.append(LOG, failed(WHO));
    net.mark(LOG);
    let lines = reported(&net, &["one", "two"], WHO);
    assert!(lines.len() > 3, "{lines:#?}\n{}{}", net.said("one"), net.said("two"));
    let expect = |at: usize, time: &str, bans: u32| {
        let want = format!("rule=app hits=1 for={time} ports=all bans={bans}");
        assert_eq!(lines[at], want, "{lines:#?}");
    };
    expect(0, "1s", 1);
    expect(1, "2s", 2);
    expect(2, "4s", 3);
    assert!(lines[3..lines.len() - 1].iter().all(|line| line.ends_with("bans=3")), "{lines:#?}");
    expect(lines.len() - 1, "8s", 4);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn without_increment_every_ban_is_the_rule_s() {
    let mut net = host("bantime_increment=false", "maxretry=1\nbantime=1");
    net.daemon("daemon");
    ban_and_wait(&net, "ban4");
    ban_and_wait(&net, "ban4");
    let lines = reported(&net, &["daemon"], WHO);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains(" for=1s ")), "{lines:#?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn enough_bans_within_the_window_are_for_good() {
    let rule = "maxretry=1\nbantime=1\nescalation_enabled=true\nescalation_window=1h\npermanent_threshold=3";
    let mut net = host("", rule);
    let daemon = net.daemon("one");
    ban_and_wait(&net, "ban4");
    ban_and_wait(&net, "ban4");
    net.stop(daemon);
    net.nft("delete table inet mef_guard");
    let daemon = net.daemon("two");
    net.append(LOG, failed(WHO) + &failed("203.0.113.2"));
    net.mark(LOG);
    let row = net.ban_of(WHO);
    assert_eq!((number(&row, "left"), text(&row, "rule").as_str()), (None, "app"));
    let permanent = net.mef(&["bans", "--permanent"]).ok();
    assert!(permanent.contains(WHO) && !permanent.contains("203.0.113.2"), "{permanent}");
    // Lines that were still on their way do not make it shorter.
    net.append(LOG, fails(WHO, 3));
    net.mark(LOG);
    assert_eq!(number(&net.ban_of(WHO), "left"), None);
    // The other one's second may be over by now.
    let ends_of_it = |net: &Net| {
        let mut ends = ends(net);
        ends.retain(|(addr, _), _| addr == WHO);
        ends
    };
    let before = ends_of_it(&net);
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    net.nft("delete table inet mef_guard");
    net.daemon("three");
    same_ends(&before, &ends_of_it(&net));
    net.append(LOG, failed(WHO));
    net.mark(LOG);
    assert_eq!(number(&net.ban_of(WHO), "left"), None, "nor after a restart");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn evidence_that_anybody_can_forge_never_leads_to_a_long_ban() {
    let rule = "maxretry=1\nbantime=1\ntrust=any\nescalation_enabled=true\npermanent_threshold=2";
    let mut net = host("bantime_max=2h", rule);
    net.rule_for("forever", "forever.log", "maxretry=1\nbantime=permanent\ntrust=any");
    net.append("forever.log", "");
    net.daemon("daemon");
    for _ in 0..3 {
        ban_and_wait(&net, "ban4");
    }
    let lines = reported(&net, &["daemon"], WHO);
    assert!(lines.len() == 3 && lines.iter().all(|line| line.contains(" for=1s ")), "{lines:#?}");
    net.append("forever.log", failed("203.0.113.3"));
    wait_until("the other ban", || net.in_set("ban4", "203.0.113.3".parse().unwrap()));
    assert!(number(&net.ban_of("203.0.113.3"), "left").is_some_and(|left| left > 7000 && left <= 7200));
    let said = net.said("daemon");
    for rule in ["app", "forever"] {
        assert!(
            said.contains(&format!("rule {rule}: with trust=any anybody can forge the evidence")),
            "{said}"
        );
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn four_parts_of_a_wider_network_ban_it_unless_somebody_in_it_is_allowed() {
    let mut net = host("ipv6_escalate=56,48", "maxretry=1");
    net.write("whitelist/friend.conf", "2001:db8:2:99::/64\n");
    let daemon = net.daemon("daemon");
    let line = |part: &str| failed(&format!("2001:db8:{part}::1"));
    net.append(LOG, ["1:0", "1:1", "1:1", "1:2"].map(line).concat());
    net.mark(LOG);
    assert_eq!(net.banned(), ["2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:1::/64"]);
    // What is known of parts survives a restart.
    net.signal(daemon, libc::SIGKILL);
    net.wait(daemon);
    let daemon = net.daemon("again");
    net.append(LOG, line("1:3") + &["2:0", "2:1", "2:2", "2:3", "2:4"].map(line).concat());
    net.mark(LOG);
    // What follows from bans comes after them.
    wait_until("the ban of the /56", || net.in_set("bannet6", "2001:db8:1:ff::1".parse().unwrap()));
    assert!(!net.in_set("bannet6", "2001:db8:1:100::1".parse().unwrap()));
    let row = net.ban_of("2001:db8:1::/56");
    assert_eq!(
        (text(&row, "reason").as_str(), text(&row, "rule").as_str()),
        ("four of its parts were banned", "app")
    );
    assert!(!net.in_set("bannet6", "2001:db8:2::1".parse().unwrap()));
    let spared = "2001:db8:2::/56 is not banned after 1 hit: it is on the allow list";
    net.wait_said("again", spared);
    let said = net.said("again");
    assert_eq!(said.matches(spared).count(), 1, "{said}");
    // Of each of three more /56 one part: with the first they are four parts of the /48.
    net.append(LOG, ["1:100", "1:200", "1:300"].map(line).concat());
    net.mark(LOG);
    wait_until("the ban of the /48", || net.in_set("bannet6", "2001:db8:1:ffff::1".parse().unwrap()));
    assert!(!net.banned().contains(&"2001:db8:1::/56".to_owned()), "it is a part of what is banned");
    net.stop(daemon);
    let before = ends(&net);
    net.nft("delete table inet mef_guard");
    net.daemon("third");
    same_ends(&before, &ends(&net));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn this_host_s_own_network_is_never_banned_for_its_parts() {
    let mut net = Net::new();
    let peer = net.peer();
    net.configure("ipv6_escalate=48", &[LOG]);
    net.rule_for("app", LOG, "maxretry=1");
    net.append(LOG, "");
    net.daemon("daemon");
    assert!(peer.host6.to_string().starts_with("2001:db8::"));
    net.append(LOG, (1..7).map(|n| failed(&format!("2001:db8:0:{n}::1"))).collect::<String>());
    net.mark(LOG);
    assert_eq!(net.banned().len(), 6);
    assert!(net.said("daemon").contains("2001:db8::/48 is not banned"), "{}", net.said("daemon"));
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn too_many_bans_within_a_minute_are_short_and_told_once() {
    let mut net = host("max_bans_per_minute=10", "maxretry=1\nbantime=2h");
    net.rule_for(
        "forever",
        LOG,
        "maxretry=2\nbantime=permanent\nescalation_enabled=true\npermanent_threshold=1",
    );
    let daemon = net.daemon("daemon");
    net.append(LOG, (1..60).map(|n| failed(&format!("203.0.113.{n}"))).collect::<String>());
    net.mark(LOG);
    net.append(LOG, fails("203.0.113.200", 2));
    net.mark(LOG);
    let bans = net.bans();
    let of = |time: u64| {
        bans.iter()
            .filter(|row| number(row, "left").is_some_and(|left| left <= time && left + 100 > time))
            .count()
    };
    assert_eq!((bans.len(), of(7200), of(600)), (60, 10, 50), "{bans:#?}");
    let said = net.said("daemon");
    assert_eq!(said.matches("more than 10 bans within a minute (max_bans_per_minute)").count(), 1, "{said}");
    // None of the short ones counts after a restart either.
    net.stop(daemon);
    net.nft("delete table inet mef_guard");
    net.daemon("again");
    net.mef(&["unban", "203.0.113.50"]).ok();
    net.append(LOG, failed("203.0.113.50"));
    net.mark(LOG);
    assert_eq!(reported(&net, &["again"], "203.0.113.50"), ["rule=app hits=1 for=7200s ports=all bans=1"]);
}

/// So many wrong passwords from each of these.
fn guesses(hosts: impl Iterator<Item = String>, each: usize) -> String {
    hosts.map(|host| fails(&host, each)).collect()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_spread_over_a_wide_network_is_banned_and_one_prefix_is_no_spread() {
    let mut net = host("", "maxretry=5\nfindtime=600\nbantime=10m");
    net.daemon("daemon");
    // One prefix that is read of all at once, and neighbours with a typo each: nobody but that one is banned.
    net.append(LOG, guesses((0..1).map(|_| "2001:db8:7:100::1".into()), 400));
    net.append(LOG, guesses((1..35).map(|n| format!("2001:db8:7:1{n:02x}::1")), 1));
    net.mark(LOG);
    assert_eq!(net.banned(), ["2001:db8:7:100::/64"]);
    // Four guesses of each prefix are fine alone.
    net.append(LOG, guesses((0..12).map(|n| format!("2001:db8:5:2{n:02x}::1")), 4));
    net.mark(LOG);
    let ban = net.ban_of("2001:db8:5:200::/56");
    assert_eq!(
        (text(&ban, "rule"), text(&ban, "reason")),
        ("app".into(), "hits of many of its prefixes".into())
    );
    net.append(LOG, guesses((0..60).map(|n| format!("2001:db8:6:{:x}::1", n << 8)), 4));
    net.mark(LOG);
    wait_until("the ban", || net.banned().contains(&"2001:db8:6::/48".to_owned()));
    // What is unbanned begins anew.
    net.mef(&["unban", "2001:db8:6::/48"]).ok();
    net.append(LOG, guesses((0..35).map(|n| format!("2001:db8:6:{:x}::1", n << 8)), 4));
    net.mark(LOG);
    assert!(!net.banned().contains(&"2001:db8:6::/48".to_owned()));
    // And of other networks nobody was.
    assert_eq!(net.banned().len(), 2, "{:?}", net.banned());
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn neighbours_and_addresses_with_ipv4_in_them_are_banned_alone() {
    let mut net = host("", "maxretry=2");
    let peer = net.peer();
    net.daemon("daemon");
    let host6 = peer.host6.to_bits();
    let neighbour = std::net::Ipv6Addr::from(host6 + 0x77);
    let alone = [
        neighbour.to_string(),
        "64:ff9b::cb00:7107".into(),
        "64:ff9b:1:2::cb00:7107".into(),
        "2001:0:53aa:64c:0:1:34ff:8ef8".into(),
        "2002:cb00:7107::1".into(),
    ];
    for addr in &alone {
        net.append(LOG, fails(addr, 2));
        net.mark(LOG);
    }
    let mut want: Vec<String> =
        alone.iter().map(|addr| addr.parse::<std::net::Ipv6Addr>().unwrap().to_string()).collect();
    want.sort();
    assert_eq!(net.banned(), want);
    assert!(
        net.in_set("bannet6", neighbour.into())
            && !net.in_set("bannet6", std::net::Ipv6Addr::from(host6 + 0x78).into())
    );
    // The host itself is no neighbour.
    net.append(LOG, fails(&peer.host6.to_string(), 2));
    net.wait_said(
        "daemon",
        &format!("{} is not banned after 2 hits: it is this host's own address", peer.host6),
    );
    // By hand, too.
    net.mef(&["unban", "--all"]).ok();
    net.mef(&["ban", &neighbour.to_string(), "64:ff9b::cb00:7107", "2001:db8:9::1"]).ok();
    assert_eq!(net.banned(), ["2001:db8:9::/64".into(), neighbour.to_string(), "64:ff9b::cb00:7107".into()]);
    assert_eq!(net.mef(&["ban", &peer.host6.to_string()]).status, 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn evictions_raise_one_alarm() {
    let mut net = host("track_max=64", "maxretry=5");
    net.daemon("daemon");
    net.append(LOG, guesses((0..4).map(|n| format!("203.0.113.{n}")), 1));
    net.mark(LOG);
    assert!(!net.said("daemon").contains("more offenders at a time than are tracked"));
    for round in 0..4u32 {
        net.append(
            LOG,
            guesses(
                (0..500u32).map(|n| std::net::Ipv4Addr::from(0x1400_0000 + round * 500 + n).to_string()),
                1,
            ),
        );
        net.mark(LOG);
    }
    assert_eq!(net.said("daemon").matches("more offenders at a time than are tracked").count(), 1);
    assert!(net.said("daemon").contains("track_max=64 may be raised"));
}

/// How long the ban of an address lasts; `None` = for good.
fn left(net: &Net, offender: &str) -> Option<u64> {
    wait_until("the ban", || net.banned().iter().any(|addr| addr == offender));
    number(&net.ban_of(offender), "left")
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_any_local_process_can_write_leads_to_a_day_at_most() {
    use std::os::unix::fs::PermissionsExt as _;
    let net = Net::new();
    net.configure("syslog_trusted=false\nbantime_max=30d", &[LOG]);
    net.append(LOG, "");
    let own = |name: &str, dir: &str| {
        fs::create_dir_all(net.path(dir)).unwrap();
        let file = net.path(&format!("{dir}/app.log"));
        fs::write(&file, "").unwrap();
        let lines =
            "failregex=^fail from <HOST>$\nfailregex=: fail from <HOST>$\nmaxretry=1\nbantime=permanent";
        net.rule(name, &format!("source=file\nfiles={}\n{lines}", file.display()));
        file
    };
    let mode =
        |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let owner = |path: &std::path::Path, uid| std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
    // Of the service itself; of one with a user of its own; the others are open to somebody.
    type Case<'c> = (&'c str, &'c dyn Fn(&std::path::Path), bool);
    let cases: &[Case<'_>] = &[
        ("root", &|_| {}, true),
        (
            "service",
            &|file| [file, file.parent().unwrap()].into_iter().for_each(|path| owner(path, 33)),
            true,
        ),
        ("everybody", &|file| mode(file, 0o666), false),
        ("directory", &|file| mode(file.parent().unwrap(), 0o1777), false),
        ("person", &|file| owner(file, 12345), false),
        ("owner", &|file| owner(file.parent().unwrap(), 34), false),
        (
            "group",
            &|file| {
                mode(file, 0o664);
                std::os::unix::fs::chown(file, None, Some(12345)).unwrap();
            },
            false,
        ),
    ];
    let files: Vec<_> = cases
        .iter()
        .map(|(name, open, _)| {
            let file = own(name, name);
            open(&file);
            file
        })
        .collect();
    net.rule_for("syslog", "auth.log", "bantime=permanent\nmaxretry=1");
    net.append("auth.log", "");
    let mut net = net;
    net.daemon("daemon");
    net.append("auth.log", failed("198.51.100.99"));
    for (n, file) in files.iter().enumerate() {
        let text = format!("fail from 198.51.100.{n}\n").into_bytes();
        std::io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(file).unwrap(), &text)
            .unwrap();
    }
    assert!(left(&net, "198.51.100.99").is_some_and(|left| left <= 86_400), "a syslog daemon's file");
    for (n, (name, _, permanent)) in cases.iter().enumerate() {
        let left = left(&net, &format!("198.51.100.{n}"));
        assert_eq!(left.is_none(), *permanent, "{name}: {left:?}");
        assert!(left.is_none_or(|left| (86_000..=86_400).contains(&left)), "{name}: {left:?}");
    }
    // Open to others later, and a line of a syslog daemon in a file of that name.
    mode(&files[0], 0o622);
    net.append("root/app.log", "fail from 198.51.100.50\n");
    assert!(left(&net, "198.51.100.50").is_some());
    net.append("service/app.log", "Nov 28 08:00:01 host app[7]: fail from 198.51.100.51\n");
    assert!(left(&net, "198.51.100.51").is_some());
}
