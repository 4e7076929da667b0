//! Rule sets in the kernel: what nft shows of them, that one replaces the other at once, that bans stay
//! apart.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::{Net, load, uncounted};
use mef::firewall::nft::query;
use mef::sys::netlink::NlSocket;
use mef::sys::nlattr::MsgBuf;
use mnl::Bus;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

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
#[cfg_attr(not_root, ignore = "needs root")]
pub fn nft_shows_and_reads_every_kind_of_rule() {
    let net = host();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ruleset/rules");
    for case in ["everything", "words"] {
        shows_and_reads(&net, &directory.join(case));
    }
}

/// What nft lists of a rule set is as expected and can be read; and the export is the same rule set.
fn shows_and_reads(net: &Net, case: &Path) {
    let text = fs::read_to_string(case.with_extension("rules")).unwrap();
    load(net, &text);
    let shown = listed(net);
    let golden = case.with_extension("nft");
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
    assert_eq!(listed(net), shown);

    // What mef reads back is what was written, in a trial as well as for good.
    load(net, &text);
    let path = net.write("again.rules", &text);
    let path = path.to_str().unwrap();
    assert_eq!(net.mef(&["diff", path]).ok(), "");
    let exported = net.mef(&["export"]).ok();
    assert!(!exported.contains("cannot be expressed"), "{exported}");
    load(net, &exported);
    assert_eq!(net.mef(&["diff", path]).ok(), "", "{exported}");
    net.mef_input(&["load", "--force", "--confirm", "1s", path], b"");
    assert_eq!(net.mef(&["diff", path]).ok(), "", "the previous rules are back");
}

/// Words that nft takes for no name, and others in which there are some.
const NAMES: &str = "\
    accept add ah all arp auto-merge cgroup chain comment continue counter ct day dccp define delete \
    describe destroy drop dup element elements esp ether export flags flush frag fwd get handle hbh hook \
    hour icmp icmpv6 iif iifname import inet insert interval ip ip6 ipsec jump last limit list ll log map \
    mark meta meter mh netdev oif or policy queue quota redirect reject rename reset return rt rule \
    ruleset sctp secmark set size snat socket synproxy table tcp th time timeout tproxy type typeof udp \
    update vlan vmap admins drop2 ip-x tcpports x4 Drop";

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn nft_reads_back_whatever_it_lists_of_names_and_texts() {
    let net = Net::new();
    let mut rules = String::from("policy dir=in action=accept\n");
    for (n, name) in NAMES.split(' ').enumerate() {
        let (kind, elements) = match n % 4 {
            0 => ("family=ip type=addr", "192.0.2.1,198.51.100.0/24"),
            1 => ("family=ip6 type=addr", "2001:db8::1"),
            2 => ("family=any type=addr", "192.0.2.1,2001:db8::1"),
            _ => ("family=any type=port", "22,1000-2000"),
        };
        rules += &format!("set name={name} {kind} elements={elements}\n");
        rules += &match n % 4 {
            3 => format!("rule dir=in action=accept proto=tcp sport=@{name} dport=@{name},7\n"),
            _ => format!("rule dir=in action=accept proto=tcp src=@{name} dst=@{name} dport=1\n"),
        };
    }
    for text in ["a$b ", "$", "a\\\"b", "tab\there", "a\\b", "#;{}@'", "%s*"] {
        rules += &format!("rule dir=in action=drop proto=udp log=\"prefix:{text}\" comment=\"{text}\"\n");
    }
    let file = net.write("names.rules", &rules);
    let file = file.to_str().unwrap();
    net.mef(&["load", file]).ok();
    let before = uncounted(&listed(&net));
    let again = net.write("listed.nft", &net.nft_list(TABLE));
    net.nft("flush ruleset");
    net.cmd("nft", &["-f", again.to_str().unwrap()]).ok();
    assert_eq!(uncounted(&listed(&net)), before);
    // What is plain stays so, and the names in the language are those that were given.
    for name in ["admins", "drop2", "ip-x", "tcpports", "Drop", "accept.4", "add.6"] {
        assert!(before.contains(&format!("set {name}")), "{name}\n{before}");
    }
    net.mef(&["load", file]).ok();
    assert_eq!(net.mef(&["diff", file]).ok(), "", "nothing differs");
    let exported = net.mef(&["export"]).ok();
    for name in NAMES.split(' ') {
        assert!(exported.contains(&format!("set name={name} ")), "{name}\n{exported}");
    }
    let exported = net.write("exported.rules", &exported);
    net.mef(&["load", exported.to_str().unwrap()]).ok();
    assert_eq!(uncounted(&listed(&net)), before, "the export is the same rule set");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn the_same_policy_by_hand_lists_the_same() {
    let cases: &[(&str, &str, &str)] = &[
        ("a port", "proto=tcp dport=22", "iifname != \"lo\" tcp dport 22 counter accept"),
        ("loopback", "proto=all iif=lo", "iifname \"lo\" counter accept"),
        ("two interfaces", "proto=all iif=a,b", "iifname { a, b } counter accept"),
        ("loopback too", "proto=all iif=*", "counter accept"),
        ("a wildcard", "proto=all iif=ppp*", "iifname \"ppp*\" counter accept"),
        (
            "none of two",
            "proto=all iif=!a,b",
            "iifname != \"a\" iifname != \"b\" iifname != \"lo\" counter accept",
        ),
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

/// Rules of loopback come first and decide on all of its packets, and the others do not except it, where that
/// changes nothing; and the file comes back in its order.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn loopback_stands_apart_where_that_means_the_same() {
    const SSH: &str = "accept proto=tcp dport=22";
    const WEB: &str = "accept proto=tcp dport=80";
    const LO: &str = "accept proto=all iif=lo";
    const DNS: &str = "drop proto=udp dport=53 iif=lo";
    const BUSY: &str = "accept proto=udp iif=lo limit=5/m log=prefix:x";
    let cases: &[(&str, &[&str], &str)] = &[
        ("accept", &[SSH, WEB], "lo accept; tcp dport 22 accept; tcp dport 80 accept"),
        ("drop", &[SSH, WEB], "lo drop; tcp dport 22 accept; tcp dport 80 accept"),
        (
            "reject",
            &[SSH, WEB],
            "lo meta l4proto tcp reject with tcp reset; lo reject; tcp dport 22 accept; tcp dport 80 accept; \
             meta l4proto tcp reject with tcp reset; reject",
        ),
        ("drop", &[LO, SSH], "lo accept; tcp dport 22 accept"),
        ("drop", &[SSH, WEB, LO], "lo accept; tcp dport 22 accept; tcp dport 80 accept"),
        (
            "reject",
            &[SSH, LO],
            "lo accept; tcp dport 22 accept; meta l4proto tcp reject with tcp reset; reject",
        ),
        (
            "drop",
            &[SSH, DNS, WEB, LO],
            "lo udp dport 53 drop; lo accept; tcp dport 22 accept; tcp dport 80 accept",
        ),
        ("drop", &[SSH, DNS, WEB], "lo udp dport 53 drop; lo drop; tcp dport 22 accept; tcp dport 80 accept"),
        (
            "drop",
            &[SSH, BUSY, WEB],
            "lo meta l4proto udp limit rate 5/minute log prefix x accept; lo drop; tcp dport 22 accept; \
             tcp dport 80 accept",
        ),
        (
            "drop",
            &[SSH, "accept proto=udp iif=!lo", LO],
            "lo accept; tcp dport 22 accept; meta l4proto udp accept",
        ),
        ("drop", &[LO, "accept proto=udp iif=*"], "lo accept; meta l4proto udp accept"),
        (
            "drop",
            &[LO, SSH, "drop proto=udp iif=lo,eth0"],
            "lo accept; tcp dport 22 accept; { lo eth0 } meta l4proto udp drop",
        ),
        // As the file has it where a rule is for both, and where it is one rule only.
        (
            "drop",
            &[SSH, "accept proto=udp iif=lo,eth0", WEB],
            "!= lo tcp dport 22 accept; { lo eth0 } meta l4proto udp accept; != lo tcp dport 80 accept",
        ),
        (
            "drop",
            &["drop proto=udp iif=*", SSH, LO, WEB],
            "meta l4proto udp drop; != lo tcp dport 22 accept; lo accept; != lo tcp dport 80 accept",
        ),
        // Neither an exception nor a wildcard is for loopback.
        (
            "drop",
            &["drop proto=udp iif=!eth0", LO, WEB],
            "lo accept; != eth0 meta l4proto udp drop; tcp dport 80 accept",
        ),
        (
            "drop",
            &["drop proto=udp iif=l*", LO, WEB],
            "lo accept; l* meta l4proto udp drop; tcp dport 80 accept",
        ),
        ("drop", &[SSH], "!= lo tcp dport 22 accept"),
        ("accept", &[DNS, LO], "lo udp dport 53 drop; lo accept"),
    ];
    let net = Net::new();
    for (dir, key, chain) in [("in", "iif", "input"), ("out", "oif", "output")] {
        for (policy, rules, want) in cases {
            let mut text = format!("policy dir={dir} action={policy}\n");
            rules
                .iter()
                .for_each(|rule| text += &format!("rule dir={dir} action={rule}\n").replace("iif", key));
            load(&net, &text);
            let before = listed(&net);
            assert_eq!(in_chain(&net, chain), *want, "{text}");
            assert_eq!(net.mef_input(&["diff", "-"], text.as_bytes()).ok(), "", "{text}");
            let exported = net.mef(&["export"]).ok();
            // Every rule is there, in its order.
            let order = |text: &str| -> Vec<String> {
                let words = |line: &str| {
                    let known = ["action=drop", "dport=22", "dport=53", "dport=80", "proto=all", "proto=udp"];
                    known.into_iter().filter(|word| line.contains(word)).collect::<String>()
                };
                text.lines().filter(|line| line.starts_with("rule")).map(words).collect()
            };
            assert_eq!(order(&exported), order(&text), "{exported}");
            load(&net, &exported);
            assert_eq!(listed(&net), before, "{text}{exported}");
        }
    }
    // What another program has put before ours stays before it.
    load(&net, &format!("policy dir=in action=drop\nrule dir=in action={SSH}\nrule dir=in action={LO}\n"));
    net.cmd("nft", &["insert", "rule", "inet", "mef", "input", "udp", "dport", "7", "accept"]).ok();
    let exported = net.mef(&["export"]).ok();
    let order: Vec<usize> =
        ["dport=7", "iif=lo", "dport=22"].iter().map(|w| exported.find(w).unwrap()).collect();
    assert!(order.is_sorted(), "{exported}");
}

/// The rules of a chain, without interfaces' key words, counters and what is around them.
fn in_chain(net: &Net, chain: &str) -> String {
    let shown = uncounted(&net.nft_list(&format!("chain inet mef {chain}")));
    let rules = shown.lines().filter(|line| line.starts_with("\t\t") && !line.contains("hook"));
    let mut all = rules.map(str::trim).collect::<Vec<_>>().join("; ");
    for gone in ["iifname ", "oifname ", "counter packets N bytes N ", "\"", ","] {
        all = all.replace(gone, "");
    }
    all.replace("eth0 lo", "lo eth0")
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn nothing_is_seen_between_two_rule_sets() {
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
    let (good, torn, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let mut loads = 0;
    let mut rng = fastrand::Rng::with_seed(7);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let Some(now) = undisturbed(|| net.cmd("nft", &["list", "table", "inet", "mef"])) else {
                    torn.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                let now = uncounted(&now);
                assert!(seen.contains(&now), "in between:\n{now}");
                good.fetch_add(1, Ordering::Relaxed);
            }
        });
        while !watcher.is_finished() && (loads < 200 || good.load(Ordering::Relaxed) < 20) && loads < 20_000 {
            load(&net, &sets[loads % 2]);
            loads += 1;
            // Without pauses hardly any look is undisturbed.
            std::thread::sleep(Duration::from_millis(rng.u64(0..40)));
        }
        done.store(true, Ordering::Relaxed);
    });
    let (good, torn) = (good.into_inner(), torn.into_inner());
    assert!(good >= 20, "{good} looks that count, {torn} disturbed ones, {loads} loads");
}

/// What nft has shown, if the kernel's tables were the same all the time: a listing is many questions, and
/// each is answered as things are then. The kernel raises the generation's number a moment before the change
/// is seen, without a lock for whoever asks; a transaction without its end waits for that lock, and so until
/// a change is whole.
fn undisturbed(show: impl FnOnce() -> common::Output) -> Option<String> {
    const BATCH_BEGIN: u16 = 16;
    const REQUEST: u16 = 1;
    const SUBSYS_NFTABLES: u8 = 10;
    let mut socket = NlSocket::open(Bus::Netfilter).unwrap();
    let before = query::generation(&mut socket).unwrap();
    let mut begin = MsgBuf::with_capacity(32);
    let open = begin.start(BATCH_BEGIN, REQUEST, 0);
    begin.put(&[0, 0, 0, SUBSYS_NFTABLES]);
    begin.finish(open);
    socket.send(begin.bytes()).unwrap();
    let shown = show();
    // nft gives up when it is disturbed too often.
    let same = query::generation(&mut socket).unwrap() == before;
    (same && shown.status == 0).then_some(shown.stdout)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_bad_rule_set_changes_nothing() {
    let net = host();
    load(&net, "rule dir=in action=accept proto=tcp dport=1\n");
    let before = net.nft_list(TABLE);
    for bad in
        ["rule dir=in\n", "rule dir=in action=accept proto=all iif=auto oif=lo\n", "include file=/gone\n"]
    {
        assert_eq!(net.mef_input(&["load", "-"], bad.as_bytes()).status, 1, "{bad}");
    }
    assert_eq!(net.mef(&["load", "--check", "/nowhere.rules"]).status, 1);
    assert_eq!(net.nft_list(TABLE), before);
    assert_eq!(net.mef(&["load", "--help"]).status, 0);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn without_privilege_one_line_says_so() {
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
#[cfg_attr(not_root, ignore = "needs root")]
pub fn bans_and_rules_leave_each_other_alone() {
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
    load(&net, "rule dir=in action=accept proto=tcp dport=1\n");
    net.mef(&["unload", "--all"]).ok();
    assert_eq!(net.nft_list("tables"), "");
    net.mef(&["unload", "--all"]).ok();
    // Whoever makes the table fills it.
    net.mef(&["ban", "203.0.113.9"]).ok();
    assert_eq!(net.banned().len(), 3);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn at_boot_the_bans_come_with_the_rules_and_without() {
    let net = host();
    net.mef(&["ban", "203.0.113.7", "--for", "1h"]).ok();
    for rules in [false, true] {
        net.mef(&["unload", "--all"]).ok();
        let path = net.path("etc-mef/mef.rules");
        if rules {
            net.write("etc-mef/mef.rules", "rule dir=in action=accept proto=tcp dport=1\n");
        }
        assert_eq!(path.exists(), rules);
        net.mef(&["load", "--boot"]).ok();
        assert_eq!(net.banned().len(), 1);
        assert_eq!(net.nft_list(TABLE).contains("dport 1 "), rules);
    }
    // Rules with errors keep no ban away.
    net.mef(&["unload", "--all"]).ok();
    net.write("etc-mef/mef.rules", "rule dir=in action=nothing\n");
    assert_eq!(net.mef(&["load", "--boot"]).status, 1);
    assert_eq!(net.banned().len(), 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn ten_thousand_rules() {
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
