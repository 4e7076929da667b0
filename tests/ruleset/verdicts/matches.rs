//! Which packets a rule means: interfaces, families, addresses, ports, protocols, sets.

use crate::common::world::Fate::{Lost, Passes};
use crate::common::world::Kind::{Ping, Tcp, Udp};
use crate::common::world::{Fate, Packet, Spot, World, packet};

const LOCAL: Packet = packet(Udp, Spot::Host);
const FRIEND: Packet = packet(Udp, Spot::Friend);
const STRANGER: Packet = packet(Udp, Spot::Stranger);
/// Everybody who can send to the host, over IPv4 and IPv6.
const ALL: [Packet; 6] = [LOCAL, LOCAL.in_v6(), FRIEND, FRIEND.in_v6(), STRANGER, STRANGER.in_v6()];

/// Which of the packets a rule with these keys matches: it accepts them, and everything else is dropped; and
/// it drops them, and everything else is accepted.
#[track_caller]
fn matching(world: &mut World, keys: &str, packets: &[Packet]) -> Vec<bool> {
    let sides = [("accept", "drop", Passes), ("drop", "accept", Lost)];
    let [first, second] = sides.map(|(action, policy, matched)| {
        world.load(&format!(
            "policy dir=in action={policy}\nrule dir=in action={action} {keys}\n\
             set name=both family=any type=addr \
             elements=192.0.2.0/25,2001:db8:1::/64,203.0.113.1-203.0.113.9\n\
             set name=six family=ip6 type=addr elements=2001:db8::2\n\
             set name=ports family=any type=port elements=1000-1001,5001"
        ));
        packets.iter().map(|packet| world.judge(*packet) == matched).collect::<Vec<bool>>()
    });
    assert_eq!(first, second, "{keys}");
    first
}

/// The rows say for which senders, in the order of `ALL`, a rule matches.
#[track_caller]
fn senders(world: &mut World, cases: &[(&str, [u8; 6])]) {
    for (keys, want) in cases {
        let got = matching(world, &["proto=udp ", keys].concat(), &ALL);
        assert_eq!(got, want.map(|one| one == 1), "{keys}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn interfaces() {
    senders(
        &mut World::new(),
        &[
            ("", [0, 0, 1, 1, 1, 1]),
            ("iif=any", [0, 0, 1, 1, 1, 1]),
            ("iif=lo", [1, 1, 0, 0, 0, 0]),
            ("iif=v0", [0, 0, 1, 1, 0, 0]),
            ("iif=v1,lo", [1, 1, 0, 0, 1, 1]),
            ("iif=v", [0; 6]),
            ("iif=v*", [0, 0, 1, 1, 1, 1]),
            ("iif=v1*", [0, 0, 0, 0, 1, 1]),
            ("iif=ppp*,l*", [0; 6]),
            ("iif=!v0", [0, 0, 0, 0, 1, 1]),
            ("iif=!lo,v1", [0, 0, 1, 1, 0, 0]),
            ("iif=!lo,!v1", [0, 0, 1, 1, 0, 0]),
            ("iif=!v*", [0; 6]),
            ("iif=!ppp*,lo", [0, 0, 1, 1, 1, 1]),
        ],
    );
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn the_interface_of_the_default_route() {
    let mut world = World::new();
    let rule = "rule dir=in action=accept proto=udp iif=auto";
    let out = world.net.mef_input(&["load", "-"], rule.as_bytes());
    assert!(out.status == 0 && out.stderr.contains("there is no default route"), "{out:?}");
    senders(&mut world, &[("iif=auto", [0; 6]), ("iif=auto limit=5/s", [0; 6])]);
    world.net.ip("route add default via 192.0.2.2");
    senders(&mut world, &[("iif=auto", [0, 0, 1, 1, 0, 0])]);
    // Another one of IPv6: both are meant, in either family.
    world.net.ip("route add default via 2001:db8:1::2");
    senders(&mut world, &[("iif=auto", [0, 0, 1, 1, 1, 1])]);
    world.net.ip("route del default via 192.0.2.2");
    senders(&mut world, &[("iif=auto", [0, 0, 0, 0, 1, 1])]);
    // That of a rule with dir=out is where it goes out.
    world.load("policy dir=out action=drop\nrule dir=out action=accept proto=udp oif=auto");
    assert_eq!(world.judge(LOCAL.to(Spot::Stranger)), Passes);
    assert_eq!(world.judge(LOCAL.to(Spot::Friend).in_v6()), Lost);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn families_and_addresses() {
    senders(
        &mut World::new(),
        &[
            ("family=any", [0, 0, 1, 1, 1, 1]),
            ("family=ip", [0, 0, 1, 0, 1, 0]),
            ("family=ip6 iif=!nothing", [0, 0, 0, 1, 0, 1]),
            ("src=192.0.2.2", [0, 0, 1, 0, 0, 0]),
            ("src=192.0.2.0/30", [0, 0, 1, 0, 0, 0]),
            ("src=192.0.2.4/30", [0; 6]),
            ("src=192.0.2.3-198.51.100.1", [0; 6]),
            ("src=192.0.2.2-198.51.100.2", [0, 0, 1, 0, 1, 0]),
            ("src=2001:db8::/47", [0, 0, 0, 1, 0, 1]),
            ("src=2001:db8::/48", [0, 0, 0, 1, 0, 0]),
            ("src=2001:db8::3-2001:db8:1::2", [0, 0, 0, 0, 0, 1]),
            ("src=0.0.0.0/0", [0, 0, 1, 0, 1, 0]),
            ("src=::/0,192.0.2.2", [0, 0, 1, 1, 0, 1]),
            ("src=@both", [0, 0, 1, 0, 0, 1]),
            ("src=@six", [0, 0, 0, 1, 0, 0]),
            ("src=@both,@six", [0, 0, 1, 1, 0, 1]),
            ("src=@six,198.51.100.2", [0, 0, 0, 1, 1, 0]),
            ("src=@both family=ip6", [0, 0, 0, 0, 0, 1]),
            ("dst=198.51.100.1,2001:db8::1", [0, 0, 0, 1, 1, 0]),
            ("src=@both dst=192.0.2.0/24,2001:db8::/32", [0, 0, 1, 0, 0, 1]),
            ("dst=127.0.0.0/8,::1 iif=lo", [1, 1, 0, 0, 0, 0]),
        ],
    );
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn protocols() {
    let mut world = World::new();
    let all = [Tcp, Udp, Ping].map(|kind| [packet(kind, Spot::Friend), packet(kind, Spot::Stranger).in_v6()]);
    let all = all.concat();
    let cases = [
        ("tcp", [1, 1, 0, 0, 0, 0]),
        ("udp", [0, 0, 1, 1, 0, 0]),
        ("icmp", [0, 0, 0, 0, 1, 0]),
        ("icmp6", [0, 0, 0, 0, 0, 1]),
        ("all", [1; 6]),
    ];
    for (protocol, want) in cases {
        let got = matching(&mut world, &["proto=", protocol].concat(), &all);
        assert_eq!(got, want.map(|one| one == 1), "{protocol}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn ports() {
    let mut world = World::new();
    let cases = [
        ("dport=1000", 0b1000),
        ("dport=1000,2000", 0b1001),
        ("dport=1001-1002", 0b0110),
        ("dport=1-1000,1002-1999", 0b1010),
        ("dport=1001-65535", 0b0111),
        ("dport=0-65535", 0b1111),
        ("dport=@ports", 0b1100),
        ("dport=@ports,2000", 0b1101),
        ("sport=5001", 0b0100),
        ("sport=5000-5001,7", 0b1100),
        ("sport=@ports", 0b0100),
        ("sport=@ports,5003 dport=1001,2000", 0b0101),
    ];
    for (kind, name) in [(Tcp, "tcp"), (Udp, "udp")] {
        let mut sport = 5000;
        let to = crate::common::world::PORTS.map(|port| {
            sport += 1;
            packet(kind, Spot::Friend).port(port).with_sport(sport - 1)
        });
        for (keys, want) in cases {
            for to in [to, to.map(Packet::in_v6)] {
                let got = matching(&mut world, &format!("proto={name} {keys}"), &to);
                let want: Vec<bool> = (0..4).map(|bit| want & 8 >> bit != 0).collect();
                assert_eq!(got, want, "proto={name} {keys}");
            }
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn counters_count_what_a_rule_matched() {
    let mut world = World::new();
    world.load(
        "policy dir=in action=drop\nrule dir=in action=accept proto=udp dport=1000 comment=first\n\
         rule dir=in action=reject proto=udp dport=1001 comment=second\n\
         rule dir=in action=accept proto=udp dport=1000-1001 comment=third",
    );
    let fates: [Fate; 5] = [1000, 1000, 1001, 1000, 1002].map(|port| world.judge(FRIEND.port(port)));
    assert_eq!(fates.iter().filter(|fate| **fate == Passes).count(), 3);
    let listing = world.net.nft_list("chain inet mef input");
    // A datagram of 4 bytes is 32 bytes long.
    for (comment, counted) in
        [("first", "packets 3 bytes 96"), ("second", "packets 1 bytes 32"), ("third", "packets 0 bytes 0")]
    {
        let line = listing.lines().find(|line| line.contains(comment)).unwrap();
        assert!(line.contains(&["counter ", counted, " "].concat()), "{line}");
    }
}
