//! Rule sets in the kernel: what nft shows of them, that one replaces the other at once, that bans stay apart.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{Net, load, uncounted};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const TABLE: &str = "table inet mef";

/// A namespace with the interfaces that the examples name, and a default route.
fn host() -> Net {
    let net = Net::new();
    for (link, host) in [("eth0", 1), ("eth1", 2)] {
        net.ip(&format!("link add {link} type veth peer name {link}p"));
        net.ip(&format!("addr add 10.0.{host}.1/24 dev {link}"));
        net.ip(&format!("link set {link} up"));
    }
    net.ip("route add default via 10.0.1.2");
    net
}

/// The listing without what the kernel counts.
fn listed(net: &Net) -> String {
    uncounted(&net.nft_list(TABLE))
}

#[test]
fn nft_shows_and_reads_every_kind_of_rule() {
    let net = host();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let text = fs::read_to_string(directory.join("everything.rules")).unwrap();
    load(&net, &text);
    let shown = listed(&net);
    let golden = directory.join("everything.nft");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&golden).unwrap());

    // What nft lists, nft reads; and it makes the same of it as mef.
    let whole = net.nft_list(TABLE);
    assert_eq!(net.mef(&["unload"]).status, 0);
    assert_eq!(net.nft_list(TABLE), "");
    assert_eq!(net.input("nft", &["-c", "-f", "-"], whole.as_bytes()).ok(), "");
    net.nft(&whole);
    assert_eq!(listed(&net), shown);
}

#[test]
fn the_same_policy_by_hand_lists_the_same() {
    let cases: &[(&str, &str, &str)] = &[
        ("a port", "proto=tcp dport=22", "iifname != \"lo\" tcp dport 22 counter accept"),
        ("loopback", "proto=all iif=lo", "iifname \"lo\" counter accept"),
        ("two interfaces", "proto=all iif=a,b", "iifname { a, b } counter accept"),
        ("loopback too", "proto=all iif=*", "counter accept"),
        ("a wildcard", "proto=all iif=ppp*", "iifname \"ppp*\" counter accept"),
        ("none of two", "proto=all iif=!a,b", "iifname != \"a\" iifname != \"b\" counter accept"),
        ("a list of ports", "proto=udp sport=5,7-9", "iifname != \"lo\" udp sport { 5, 7-9 } counter accept"),
        ("a range of ports", "proto=udp dport=7-9", "iifname != \"lo\" udp dport 7-9 counter accept"),
        ("an address", "proto=all src=192.0.2.1", "iifname != \"lo\" ip saddr 192.0.2.1 counter accept"),
        ("a network", "proto=all dst=192.0.2.0/23", "iifname != \"lo\" ip daddr 192.0.2.0/23 counter accept"),
        (
            "odd bits",
            "proto=all dst=192.0.2.64/27",
            "iifname != \"lo\" ip daddr 192.0.2.64/27 counter accept",
        ),
        (
            "a v6 network",
            "proto=all src=2001:db8::/33",
            "iifname != \"lo\" ip6 saddr 2001:db8::/33 counter accept",
        ),
        (
            "a range of addresses",
            "proto=all src=192.0.2.1-192.0.2.9",
            "iifname != \"lo\" ip saddr 192.0.2.1-192.0.2.9 counter accept",
        ),
        (
            "a list of addresses",
            "proto=all src=192.0.2.1,192.0.2.3",
            "iifname != \"lo\" ip saddr { 192.0.2.1, 192.0.2.3 } counter accept",
        ),
        (
            "neighbours are joined",
            "proto=all src=192.0.2.0/25,192.0.2.128/25,10.0.0.1",
            "iifname != \"lo\" ip saddr { 10.0.0.1, 192.0.2.0/24 } counter accept",
        ),
        ("a family", "proto=all family=ip6", "meta nfproto ipv6 iifname != \"lo\" counter accept"),
        ("states", "proto=all ct=new,invalid", "iifname != \"lo\" ct state invalid,new counter accept"),
        ("a limit", "proto=all limit=5/m", "iifname != \"lo\" limit rate 5/minute counter accept"),
        (
            "a burst",
            "proto=all limit=5/h burst=9",
            "iifname != \"lo\" limit rate 5/hour burst 9 packets counter accept",
        ),
        ("a log", "proto=all log=prefix:x", "iifname != \"lo\" log prefix \"x\" counter accept"),
        ("a comment", "proto=all comment=\"a b\"", "iifname != \"lo\" counter accept comment \"a b\""),
        (
            "the whole internet",
            "proto=all src=0.0.0.0/0",
            "meta nfproto ipv4 iifname != \"lo\" counter accept",
        ),
    ];
    let (ours, theirs) = (Net::new(), Net::new());
    for (name, rule, nft) in cases {
        ours.within_self(|| load(&ours, &format!("rule dir=in action=accept {rule}\n")));
        theirs.within_self(|| {
            theirs.nft(&format!(
                "table inet mef\ndelete table inet mef\ntable inet mef {{\n\
                 chain input {{ type filter hook input priority filter; policy accept; {nft}; }}\n\
                 chain output {{ type filter hook output priority filter; policy accept; }}\n\
                 chain forward {{ type filter hook forward priority filter; policy accept; }}\n}}"
            ));
        });
        let shown = ours.within_self(|| listed(&ours));
        assert_eq!(shown, theirs.within_self(|| listed(&theirs)), "{name}");
    }
}

#[test]
fn nothing_is_seen_between_two_rule_sets() {
    let net = host();
    let sets = ["10", "20"].map(|port| {
        let rule = |i: usize| {
            format!("rule dir=in action=accept proto=tcp dport={port}{i:02} src=192.0.2.{i},10.0.0.0/8\n")
        };
        (0..40).map(rule).collect::<String>() + "policy dir=in action=drop\n"
    });
    let seen = sets.each_ref().map(|text| {
        load(&net, text);
        listed(&net)
    });
    assert_ne!(seen[0], seen[1]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = [0; 2];
            while !done.load(Ordering::Relaxed) {
                // nft gives up when it is disturbed too often: then it has shown nothing.
                let shown = net.cmd("nft", &["list", "table", "inet", "mef"]);
                if shown.status != 0 {
                    continue;
                }
                let now = uncounted(&shown.stdout);
                let which =
                    seen.iter().position(|s| *s == now).unwrap_or_else(|| panic!("in between:\n{now}"));
                looks[which] += 1;
            }
            looks
        });
        for i in 0..200 {
            load(&net, &sets[i % 2]);
        }
        done.store(true, Ordering::Relaxed);
        let looks = watcher.join().unwrap();
        assert!(looks[0] + looks[1] > 10, "{looks:?}");
    });
}

#[test]
fn a_bad_rule_set_changes_nothing() {
    let net = host();
    load(&net, "rule dir=in action=accept proto=tcp dport=1\n");
    let before = net.nft_list(TABLE);
    for bad in
        ["rule dir=in\n", "rule dir=in action=accept proto=all iif=auto oif=lo\n", "include file=/gone\n"]
    {
        assert_eq!(net.mef_input(&["load", "-"], bad.as_bytes()).status, 1, "{bad}");
    }
    net.ip("route del default");
    let out = net.mef_input(&["load", "-"], b"rule dir=in action=accept proto=all iif=auto\n");
    assert!(out.stderr.contains("/dev/stdin:1:41: auto: there is no default route"), "{out:?}");
    assert_eq!(net.mef(&["load", "--check", "/nowhere.rules"]).status, 1);
    assert_eq!(net.nft_list(TABLE), before);
    assert_eq!(net.mef(&["load", "--help"]).status, 0);
}

#[test]
fn without_privilege_one_line_says_so() {
    let net = Net::new();
    net.write("a.rules", "rule dir=in action=accept proto=all\n");
    let path = net.path("a.rules");
    let mef = common::mef_binary();
    let out = net.cmd(
        "setpriv",
        &[
            "--reuid",
            "65534",
            "--clear-groups",
            "--bounding-set=-all",
            mef.to_str().unwrap(),
            "load",
            path.to_str().unwrap(),
        ],
    );
    assert_eq!((out.status, out.stderr.lines().count()), (1, 1), "{out:?}");
    assert!(out.stderr.contains("run it as root (CAP_NET_ADMIN"), "{out:?}");
}

#[test]
fn bans_and_rules_leave_each_other_alone() {
    let net = host();
    net.mef(&["ban", "203.0.113.7", "2001:db8:7::/48"]).ok();
    load(&net, "rule dir=in action=accept proto=tcp dport=1\n");
    let rules = net.nft_list(TABLE);
    assert_eq!(net.banned().len(), 2);
    net.mef(&["ban", "203.0.113.8"]).ok();
    net.mef(&["unban", "203.0.113.7"]).ok();
    assert_eq!(net.nft_list(TABLE), rules);
    net.mef(&["unload"]).ok();
    net.mef(&["unload"]).ok();
    assert_eq!(net.banned().len(), 2);
}

#[test]
fn ten_thousand_rules() {
    let net = host();
    let rule = |i: u32| {
        format!(
            "rule dir=in action=drop proto=tcp dport={} src=10.{}.{}.1\n",
            i % 60_000 + 1,
            i / 256,
            i % 256
        )
    };
    load(&net, &(0..10_000).map(rule).collect::<String>());
    assert_eq!(net.nft_list(TABLE).matches("tcp dport").count(), 10_000);
}
