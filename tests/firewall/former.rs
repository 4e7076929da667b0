//! Another backend in mef.conf, and nothing has moved yet: commands look where bans are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common::backend::with_iptables;
use crate::common::{Net, wait_or_show, wait_until};

fn choose(net: &Net, backend: &str) {
    net.write("etc-mef/mef.conf", &format!("[global]\nfirewall_backend={backend}\n"));
}

/// Whether the kernel drops somebody by a ban of this backend.
fn drops(net: &Net, backend: &str, addr: &str) -> bool {
    match backend {
        "iptables" => net.ipset("ban4").contains(&format!("{addr} ")),
        _ => net.nft_list("set inet mef_guard ban4").contains(addr),
    }
}

const NOTE: &str = "another backend than firewall_backend names has them";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn commands_look_where_bans_are_until_they_move_with_all_lists() {
    with_iptables(|| {
        for [from, to] in [["iptables", "nftables"], ["nftables", "iptables"]] {
            let net = Net::new();
            choose(&net, from);
            net.mef(&["allow", "198.51.100.0/24"]).ok();
            net.mef(&["deny", "198.18.0.0/15"]).ok();
            net.mef(&["ban", "203.0.113.7", "203.0.113.9"]).ok();
            net.mef(&["ban", "203.0.113.10", "--permanent", "--ports", "22"]).ok();
            choose(&net, to);
            let bans = net.mef(&["bans"]);
            assert!(bans.stdout.contains("203.0.113.10") && bans.stderr.contains(NOTE), "{bans:?}");
            let why = |addr: &str| net.mef(&["why", addr]);
            for addr in ["203.0.113.7", "198.18.0.1"] {
                let why = why(addr);
                assert!(why.status == 1 && why.stderr.contains(NOTE), "{from}: {why:?}");
            }
            assert_eq!(why("203.0.113.8").status, 0);
            let lists = net.mef(&["lists"]).stdout;
            assert!(lists.matches("in force").count() >= 2 && !lists.contains("not in force"), "{lists}");
            assert!(net.mef(&["status"]).stdout.contains("bans        3"), "{:?}", net.mef(&["status"]));
            // Who is unbanned is let in now, and not banned again when the others move.
            let out = net.mef(&["unban", "203.0.113.7"]);
            assert!(out.status == 0 && !drops(&net, from, "203.0.113.7"), "{from}: {out:?}");
            assert!(drops(&net, from, "203.0.113.9"));
            net.mef(&["ban", "203.0.113.8"]).ok();
            assert!(!drops(&net, from, "203.0.113.9") && drops(&net, to, "203.0.113.9"), "{from}");
            let bans = net.mef(&["bans"]);
            assert!(!bans.stdout.contains("203.0.113.7") && bans.stdout.contains("203.0.113.10"), "{bans:?}");
            assert_eq!(bans.stderr, "");
            assert_eq!([why("203.0.113.7").status, why("198.18.0.1").status], [0, 1], "{from}");
            let left = match from {
                "iptables" => net.cmd("ipset", &["list", "-n"]).stdout,
                _ => net.nft_list("ruleset"),
            };
            assert_eq!(left, "", "{from}");
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nothing_moves_away_from_a_daemon_that_has_not_read_it_yet() {
    with_iptables(|| {
        let mut net = Net::new();
        choose(&net, "iptables");
        net.configure("", &[]);
        let daemon = net.daemon("daemon");
        net.mef(&["ban", "203.0.113.7"]).ok();
        choose(&net, "nftables");
        let out = net.mef(&["ban", "203.0.113.8"]);
        assert_eq!(out.status, 0, "{out:?}");
        for addr in ["203.0.113.7", "203.0.113.8"] {
            assert!(drops(&net, "iptables", addr) && net.mef(&["why", addr]).status == 1, "{addr}");
        }
        assert_eq!(net.nft_list("ruleset"), "");
        let bans = net.mef(&["bans"]);
        assert!(bans.stderr.contains("has them: `mef reload` moves them"), "{bans:?}");
        net.mef(&["unban", "203.0.113.7"]).ok();
        assert!(!drops(&net, "iptables", "203.0.113.7") && drops(&net, "iptables", "203.0.113.8"));
        assert!(!net.said("daemon").contains("was gone"), "{}", net.said("daemon"));
        // Without it they move.
        net.stop(daemon);
        net.mef(&["ban", "203.0.113.9"]).ok();
        assert!(drops(&net, "nftables", "203.0.113.8") && drops(&net, "nftables", "203.0.113.9"));
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_could_not_move_is_unbanned_in_both_once_it_can() {
    with_iptables(|| {
        let net = Net::new();
        net.mef(&["ban", "203.0.113.7"]).ok();
        choose(&net, "nftables");
        // Somebody holds the lock, as the program says it.
        let programs = ["iptables", "ip6tables"]
            .map(|it| ["", "-legacy", "-nft"].map(|v| format!("sbin/{it}{v}-restore")));
        let words = "Another app is currently holding the xtables lock.";
        for name in programs.iter().flatten() {
            let _ = std::fs::remove_file(net.path(name));
            net.program(name, &format!("#!/bin/sh\necho '{words}' >&2\nexit 4\n"));
        }
        let out = net.mef(&["ban", "203.0.113.8"]);
        assert!(out.status == 0 && out.stderr.contains("stay in force there"), "{out:?}");
        assert!(drops(&net, "iptables", "203.0.113.7") && drops(&net, "nftables", "203.0.113.7"));
        let bans = net.mef(&["bans"]);
        assert!(bans.stderr.contains("has some, too: the next ban moves them"), "{bans:?}");
        assert_eq!(bans.stdout.matches("203.0.113.").count(), 2, "none twice: {bans:?}");
        // Who is dropped by the former one alone is dropped.
        net.cmd("ipset", &["add", "mef_ban4", "203.0.113.50", "timeout", "600"]).ok();
        assert_eq!(net.mef(&["why", "203.0.113.50"]).status, 1);
        assert!(net.mef(&["bans"]).stdout.contains("203.0.113.50"));
        assert!(net.mef(&["status"]).stdout.contains("bans        3"));
        // Who is unbanned passes in both, and whoever is banned next does not bring him back.
        let out = net.mef(&["unban", "203.0.113.50"]);
        assert!(
            out.status == 0 && out.stdout.contains("unbanned") && !drops(&net, "iptables", "203.0.113.50")
        );
        net.mef(&["ban", "203.0.113.9"]).ok();
        assert_eq!(net.mef(&["why", "203.0.113.50"]).status, 0);
        programs.iter().flatten().for_each(|name| std::fs::remove_file(net.path(name)).unwrap());
        net.choose_variant("legacy");
        let out = net.mef(&["unban", "203.0.113.7"]);
        assert!(out.status == 0, "{out:?}");
        assert!(!drops(&net, "nftables", "203.0.113.7") && drops(&net, "nftables", "203.0.113.8"));
        assert_eq!(net.cmd("ipset", &["list", "-n"]).stdout, "");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_daemon_takes_out_what_it_could_not_take_out_before() {
    with_iptables(|| {
        // By the clock, and at the next reload.
        for interval in ["1s", "0"] {
            let mut net = Net::new();
            choose(&net, "iptables");
            net.configure(&format!("heal_interval={interval}"), &[]);
            let daemon = net.daemon("daemon");
            net.mef(&["ban", "203.0.113.7", "203.0.113.9"]).ok();
            let config =
                net.read("mef.conf").replace("firewall_backend=iptables", "firewall_backend=nftables");
            net.write("mef.conf", &config);
            choose(&net, "nftables");
            net.refuse_rules("*", "echo 'Another app is currently holding the xtables lock.' >&2; exit 4");
            net.signal(daemon, libc::SIGHUP);
            net.wait_said("daemon", "bans of another backend stay in force there");
            let in_both = |addr: &str| drops(&net, "iptables", addr) && drops(&net, "nftables", addr);
            assert!(in_both("203.0.113.7") && in_both("203.0.113.9"));
            net.mef(&["unban", "203.0.113.7"]).ok();
            ["iptables", "ip6tables"]
                .iter()
                .flat_map(|it| ["", "-legacy", "-nft"].map(|v| format!("sbin/{it}{v}-restore")))
                .for_each(|name| std::fs::remove_file(net.path(&name)).unwrap());
            net.choose_variant("legacy");
            if interval == "0" {
                net.signal(daemon, libc::SIGHUP);
            }
            let gone = || net.cmd("ipset", &["list", "-n"]).stdout.is_empty() && rules(&net).is_empty();
            wait_or_show("the end of the former", || gone().then_some(()), || net.said("daemon"));
            assert!(!drops(&net, "nftables", "203.0.113.7"), "what was unbanned is not banned again");
            assert!(drops(&net, "nftables", "203.0.113.9"));
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn sets_of_others_keep_what_they_hold_whatever_their_names_are() {
    with_iptables(|| {
        for name in ["mef_deny4", "mef_denynet6", "mef_allow4_new", "mef_allow6_new", "mef_scan_ban4"] {
            let net = Net::new();
            let addr = if name.contains('6') { "2001:db8::99" } else { "192.0.2.99" };
            let family = if name.contains('6') { "inet6" } else { "inet" };
            net.cmd("ipset", &["create", name, "hash:ip", "family", family]).ok();
            net.cmd("ipset", &["add", name, addr]).ok();
            let out = net.mef(&["ban", "203.0.113.1"]);
            let words = format!("{name}: there is a set of that name");
            assert!(name == "mef_scan_ban4" || out.status == 1 && out.stderr.contains(&words), "{out:?}");
            net.mef(&["unload", "--all"]);
            let held = net.cmd("ipset", &["list", name]).stdout;
            assert!(held.contains(&format!("{addr}\n")), "{name}: {held}");
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_for_some_ports_leaves_all_others_as_they_are() {
    with_iptables(|| {
        let net = Net::new();
        net.mef(&["ban", "198.51.100.5-198.51.100.9"]).ok();
        net.mef(&["ban", "198.51.100.77", "--ports", "22"]).ok();
        let bans = net.mef(&["bans"]).stdout;
        assert_eq!(bans.matches("198.51.100.").count(), 3, "{bans}");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_ban_for_as_many_ports_as_can_be_said_is_seen_and_ended() {
    with_iptables(|| {
        for backend in ["nftables", "iptables"] {
            let net = Net::new();
            choose(&net, backend);
            let ports = |count: u32| -> Vec<String> {
                (0..count).map(|n| if n < 5 { 1001 + 2 * n } else { 10_001 + 2 * n }.to_string()).collect()
            };
            let most = ports(40).join(",");
            assert!(most.len() > 230, "{}", most.len());
            for addr in ["203.0.113.7", "2001:db8:5::5", "198.51.100.0/25"] {
                net.mef(&["ban", addr, "--ports", &most]).ok();
                net.mef(&["ban", "192.0.2.1", "--ports", &most]).ok();
                let bans = net.mef(&["bans", "--json"]).stdout;
                assert_eq!(bans.matches(&most).count(), 2, "{backend}: {bans}");
                assert_eq!(net.mef(&["why", addr]).status, 1, "{backend}");
                net.mef(&["unban", addr, "192.0.2.1"]).ok();
                assert_eq!(net.mef(&["bans", "--json"]).stdout, "", "{backend}");
                assert_eq!(net.mef(&["why", addr]).status, 0, "{backend}");
            }
            // More than that is refused, and nothing is made for it.
            let out = net.mef(&["ban", "198.51.100.78", "--ports", &ports(41).join(",")]);
            assert!(out.status == 2 && out.stderr.contains("more ports than a ban can be for"), "{out:?}");
            assert_eq!(net.mef(&["bans", "--json"]).stdout, "", "{backend}");
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn dropped_packets_are_counted_in_both_families_and_by_every_ban() {
    with_iptables(|| {
        let mut net = Net::new();
        let peer = net.peer();
        net.mef(&["ban", "203.0.113.9", "2001:db8:5::5"]).ok();
        let dropped = || {
            let json = net.mef(&["status", "--json"]).stdout;
            json.split("\"dropped\":").nth(1).unwrap().split(',').next().unwrap().to_owned()
        };
        assert_eq!(dropped(), "0");
        let send = |from: &str, to: std::net::IpAddr, count: usize| {
            let addr: std::net::IpAddr = from.parse().unwrap();
            net.speak_as(&peer, addr);
            net.within(&peer.ns, |_| {
                let socket = std::net::UdpSocket::bind((addr, 0)).unwrap();
                (0..count).for_each(|_| assert_eq!(socket.send_to(b"x", (to, 9)).unwrap(), 1));
            });
        };
        send("203.0.113.9", peer.host4.into(), 3);
        wait_until("three", || dropped() == "3");
        send("2001:db8:5::5", peer.host6.into(), 2);
        wait_until("five", || dropped() == "5");
        // What makes everything anew forgets none, and an allowed one is not counted.
        net.mef(&["reload"]).ok();
        assert_eq!(dropped(), "5");
        net.mef(&["allow", "203.0.113.9"]).ok();
        send("203.0.113.9", peer.host4.into(), 2);
        send("2001:db8:5::5", peer.host6.into(), 1);
        wait_until("six", || dropped() == "6");
        assert!(net.mef(&["status"]).stdout.contains("dropped     6 packets"));
    });
}

/// What iptables has of ours, without counts.
fn rules(net: &Net) -> Vec<String> {
    let all = net.rules_of_iptables();
    let rule = |line: &str| line.split_once("] -A ").map(|(_, rule)| rule.to_owned());
    let mut all: Vec<String> = all.lines().filter_map(rule).filter(|rule| rule.contains("mef_")).collect();
    all.sort();
    all
}

/// Changes to nftables, and looks whether something is left.
fn leaves_nothing(net: &Net, what: &str) {
    choose(net, "nftables");
    net.mef(&["ban", "203.0.113.99"]).ok();
    assert_eq!(rules(net), Vec::<String>::new(), "{what}");
    assert_eq!(net.cmd("ipset", &["list", "-n"]).stdout, "", "{what}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn many_first_bans_at_once_make_the_rules_of_one() {
    with_iptables(|| {
        let one = Net::new();
        choose(&one, "iptables");
        one.mef(&["ban", "203.0.113.1"]).ok();
        let net = Net::new();
        choose(&net, "iptables");
        let bans = (1..=20).map(|n| net.mef_command(&["ban", &format!("203.0.113.{n}")]).spawn().unwrap());
        let ended = bans.collect::<Vec<_>>().into_iter().filter_map(|mut ban| ban.wait().ok());
        assert!(ended.collect::<Vec<_>>().iter().all(std::process::ExitStatus::success));
        assert_eq!(net.banned().len(), 20);
        assert_eq!(rules(&net), rules(&one));
        leaves_nothing(&net, "after bans at once");
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn one_jump_that_somebody_deletes_keeps_none_of_the_others() {
    with_iptables(|| {
        let cases = ["mef_hit", "mef_gate"].into_iter().flat_map(|jump| [(jump, false), (jump, true)]);
        for (jump, heals) in cases {
            let mut net = Net::new();
            choose(&net, "iptables");
            net.configure("", &[]);
            let daemon = heals.then(|| net.daemon("daemon"));
            net.mef(&["ban", "203.0.113.1"]).ok();
            let all = rules(&net);
            for (program, digit) in [("iptables-legacy", "4"), ("ip6tables-legacy", "6")] {
                let words = match jump {
                    "mef_hit" => format!("-m set --match-set mef_ban{digit} src -j mef_hit"),
                    _ => format!("-m set ! --match-set mef_gates{digit} src -j mef_gate"),
                };
                let delete = format!("-t raw -D PREROUTING {words}");
                let delete: Vec<&str> = delete.split(' ').collect();
                net.cmd(program, &delete).ok();
            }
            assert_eq!(rules(&net).len(), all.len() - 2);
            if let Some(daemon) = daemon {
                let now = || rules(&net);
                wait_or_show(
                    "the jump",
                    || (now() == all).then_some(()),
                    || format!("{:#?}", (all.clone(), now())),
                );
                net.stop(daemon);
            }
            leaves_nothing(&net, jump);
        }
    });
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn another_place_for_the_rules_has_what_it_would_have_from_the_beginning() {
    const PLACES: [&str; 5] = [
        "",
        "ban_action=reject",
        "ban_action=reject\nban_scope=host",
        "ban_action=reject\nban_scope=forward",
        "ban_scope=host",
    ];
    with_iptables(|| {
        let fresh = PLACES.map(|place| {
            let mut net = Net::new();
            net.configure(place, &[]);
            net.daemon("daemon");
            rules(&net)
        });
        assert!(fresh.iter().all(|rules| rules.iter().any(|rule| rule.ends_with("-j mef_gate"))));
        let mut net = Net::new();
        net.configure(PLACES[0], &[]);
        net.daemon("daemon");
        // From each to each other.
        let mut before = 0;
        for to in (1..5).flat_map(|step| (0..5).map(move |n| (n + 1) * step % 5)) {
            net.configure(PLACES[to], &[]);
            net.mef(&["reload"]).ok();
            assert_eq!(rules(&net), fresh[to], "{:?} after {:?}", PLACES[to], PLACES[before]);
            before = to;
        }
    });
}
