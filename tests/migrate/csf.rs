//! `mef migrate csf`: a configuration as CSF has it, and what becomes of each part of it.

use crate::common;

use common::Net;
use common::world::{Fate, Kind, Packet, Spot, World};

const CONF: &str = r#"
TESTING = "0"
TCP_IN = "22,1000,2000,30000:35000"
TCP_OUT = "22,1000"
UDP_IN = "9,53,1001"
UDP_OUT = "9,53,1001"
TCP6_IN = "22,1001"
TCP6_OUT = "22,1000"
UDP6_IN = "9,53"
UDP6_OUT = "9,53,1001"
ICMP_IN = "1"
ICMP_IN_RATE = "0"
ICMP_OUT = "1"
IPV6 = "1"
DROP = "DROP"
DROP_OUT = "REJECT"
ETH_DEVICE_SKIP = "tun0"
CONNLIMIT = "1000;5,7;2"
PORTFLOOD = "2000;tcp;3;300,1000;tcp;20;5,nonsense"
LF_INTERVAL = "3600"
LF_SSHD = "5"
LF_SSHD_PERM = "1"
LF_POP3D = "0"
LF_IMAPD = "0"
LF_SMTPAUTH = "7"
LF_EXIMSYNTAX = "10"
CT_LIMIT = "300"
CC_DENY = "XX"
"#;

/// A tree with what CSF leaves there.
fn tree(net: &Net) -> String {
    net.write("root/etc/csf/csf.conf", CONF);
    net.write(
        "root/etc/csf/csf.allow",
        "# office\n198.51.100.2 # the office\ntcp|in|d=1002|s=192.0.2.2 # db\n\
         udp|out|d=1002|d=192.0.2.2\ntcp|in|d=22|u=0\nInclude /etc/csf/more.allow\n",
    );
    net.write("root/etc/csf/more.allow", "2001:db8:ffff::1\n");
    net.write(
        "root/etc/csf/csf.deny",
        "203.0.113.9 # lfd: (sshd) 5 in the last 3600 secs\ntcp|in|d=22|s=203.0.113.10\n",
    );
    net.write("root/etc/csf/csf.ignore", "203.0.113.200\n");
    net.write("root/etc/csf/csf.dyndns", "admin.example.org\n");
    net.write(
        "root/etc/csf/csf.blocklists",
        "DROP|86400|0|https://feeds.example/drop.txt\n#OFF|3600|0|https://x\n",
    );
    net.write("root/etc/csf/csf.redirect", "*|666|*|1000|tcp\n");
    net.write("root/etc/csf/csfpre.sh", "#!/bin/sh\n");
    net.path("root").display().to_string()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn each_part_becomes_what_it_is_here_or_is_named() {
    let net = Net::new();
    let root = tree(&net);
    let out = net.mef(&["migrate", "csf", "--root", &root, "--write"]).ok();
    assert_eq!(
        net.read("root/etc/mef/whitelist/csf-allow.conf"),
        "# From csf.allow\n198.51.100.2 # the office\n2001:db8:ffff::1\n"
    );
    assert_eq!(net.read("root/etc/mef/whitelist/csf-ignore.conf"), "# From csf.ignore\n203.0.113.200\n");
    assert_eq!(net.read("root/etc/mef/whitelist/csf-dyndns.conf"), "# From csf.dyndns\nadmin.example.org\n");
    assert!(net.read("root/etc/mef/blacklist/csf.conf").contains("203.0.113.9 # lfd: (sshd)"));
    assert_eq!(
        net.read("root/etc/mef/rules.d/sshd.local"),
        "# From csf.conf\n[rule]\nmaxretry=5\nfindtime=1h\n"
    );
    assert!(net.read("root/etc/mef/rules.d/exim.local").contains("maxretry=7\n"), "the stricter of two");
    assert!(
        net.read("root/etc/mef/rules.d/dovecot.local").contains("enabled=false\n"),
        "off there, off here"
    );
    assert!(net.read("root/etc/mef/mef.conf").ends_with("[global]\nddos_enabled=true\nddos_connlimit=300\n"));
    for note in [
        "CC_DENY=XX: countries have no counterpart",
        "PORTFLOOD: not taken over: nonsense",
        "port 7 is not open: its limit is not taken over",
        "every 86400 s, from cron: curl -fsS -o /etc/mef/blacklist/.DROP 'https://feeds.example/drop.txt'",
        "LF_*_PERM=1: bans are not permanent here",
        "csfpre.sh: a script",
        "uid needs dir=out; write it by hand: rule dir=in action=accept proto=tcp dport=22 uid=0",
    ] {
        assert!(out.contains(note), "{note}\n{out}");
    }
    assert!(!out.contains("OFF"), "a list that is off: {out}");
    // All of it is right as it stands.
    for (kind, path) in [("rules", "etc/mef/mef.rules"), ("conf", "etc/mef/mef.conf")] {
        let path = format!("{root}/{path}");
        // The file of a set is where it will be.
        if kind == "rules" {
            let text = net.read("root/etc/mef/mef.rules").replace("file=/etc", &format!("file={root}/etc"));
            net.write("root/etc/mef/mef.rules", &text);
        }
        let checked = net.mef(&["check", &path]);
        assert!(!checked.stdout.contains(" error: ") && checked.stdout.contains("0 errors"), "{checked:?}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn ports_and_limits_hold_in_the_kernel() {
    let mut world = World::new();
    let root = tree(&world.net);
    world.net.mef(&["migrate", "csf", "--root", &root, "--write"]).ok();
    let text = world.net.read("root/etc/mef/mef.rules").replace("file=/etc", &format!("file={root}/etc"));
    let rules = world.net.write("migrated.rules", &text).display().to_string();
    world.net.mef(&["load", "--force", &rules]).ok();
    let one = |kind, from, dport, v6| Packet { kind, from, to: Spot::Host, v6, sport: 0, dport };
    let cases = [
        (one(Kind::Tcp, Spot::Friend, 1000, false), Fate::Passes),
        (one(Kind::Tcp, Spot::Friend, 1000, true), Fate::Lost),
        (one(Kind::Tcp, Spot::Friend, 1001, false), Fate::Lost),
        (one(Kind::Tcp, Spot::Friend, 1001, true), Fate::Passes),
        (one(Kind::Udp, Spot::Friend, 1001, false), Fate::Passes),
        (one(Kind::Tcp, Spot::Friend, 1002, false), Fate::Passes),
        (one(Kind::Udp, Spot::Friend, 1002, false), Fate::Lost),
        // The office may do anything.
        (one(Kind::Udp, Spot::Stranger, 1002, false), Fate::Passes),
        (one(Kind::Udp, Spot::Stranger, 1002, true), Fate::Lost),
        (
            Packet { from: Spot::Host, to: Spot::Friend, ..one(Kind::Tcp, Spot::Host, 1000, false) },
            Fate::Passes,
        ),
        (
            Packet { from: Spot::Host, to: Spot::Friend, ..one(Kind::Tcp, Spot::Host, 2000, false) },
            Fate::Refused,
        ),
    ];
    for (packet, want) in cases {
        assert_eq!(world.judge(packet), want, "{packet:?}\n{text}");
    }
    let flood = one(Kind::Tcp, Spot::Friend, 2000, false);
    assert_eq!(world.passing(5, flood), 3, "three in five minutes");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn bans_in_force_are_taken_along_with_the_time_that_is_left() {
    let net = Net::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    net.write("etc/csf/csf.conf", "TCP_IN = \"22\"\nIPV6 = \"1\"\n");
    let line = |age: u64, rest: &str| format!("{}|{rest}\n", now - age);
    net.write(
        "lib/csf/csf.tempban",
        &[
            line(100, "203.0.113.77||inout|3600|lfd - (sshd) Failed"),
            line(100, "203.0.113.78|80,443|in|3600|web"),
            line(4000, "203.0.113.79||in|3600|it is over"),
            "nonsense\n".into(),
        ]
        .concat(),
    );
    let out = net.mef(&["migrate", "csf", "--write"]).ok();
    assert!(out.contains("bans     2 in force"), "{out}");
    assert!(out.contains("banned 203.0.113.77 for 59m"), "{out}");
    let bans = net.mef(&["bans"]).ok();
    assert!(bans.contains("203.0.113.77") && !bans.contains("203.0.113.79"), "{bans}");
    assert!(bans.lines().any(|line| line.contains("203.0.113.78") && line.contains("80,443")), "{bans}");
}
