//! What the sender of a packet hears of it: accepted, dropped, rejected with the answer that its protocol
//! has.

use crate::common::world::Fate::{Lost, Passes, Refused};
use crate::common::world::Kind::{Ping, Tcp, Udp};
use crate::common::world::{Fate, Kind, Packet, Spot, World, packet};

/// The rules, and what becomes of TCP and UDP to port 1000 and of an echo request, in IPv4 and IPv6.
type Case = (&'static str, [Fate; 3], [Fate; 3]);

const CASES: [Case; 16] = [
    ("", [Passes; 3], [Passes; 3]),
    ("policy dir=in action=accept", [Passes; 3], [Passes; 3]),
    ("policy dir=in action=drop", [Lost; 3], [Lost; 3]),
    ("policy dir=in action=reject", [Refused; 3], [Refused; 3]),
    ("policy dir=out action=accept\npolicy dir=fwd action=drop", [Passes; 3], [Passes; 3]),
    ("rule dir=in action=drop proto=tcp dport=1000", [Lost, Passes, Passes], [Lost, Passes, Passes]),
    ("rule dir=in action=reject proto=tcp", [Refused, Passes, Passes], [Refused, Passes, Passes]),
    ("rule dir=in action=reject proto=udp dport=1000", [Passes, Refused, Passes], [Passes, Refused, Passes]),
    ("rule dir=in action=reject proto=icmp", [Passes, Passes, Refused], [Passes; 3]),
    ("rule dir=in action=reject proto=icmp6", [Passes; 3], [Passes, Passes, Refused]),
    ("rule dir=in action=reject proto=all", [Refused; 3], [Refused; 3]),
    ("rule dir=in action=reject proto=all family=ip6", [Passes; 3], [Refused; 3]),
    ("rule dir=in action=reject proto=all src=192.0.2.0/24", [Refused; 3], [Passes; 3]),
    (
        "rule dir=in action=drop proto=all src=@all\nset name=all family=any type=addr elements=::/0",
        [Passes; 3],
        [Lost, Lost, Lost],
    ),
    (
        "rule dir=in action=accept proto=icmp\nrule dir=in action=accept proto=udp dport=1000\n\
         policy dir=in action=reject",
        [Refused, Passes, Passes],
        [Refused, Passes, Refused],
    ),
    (
        "rule dir=in action=accept proto=icmp6\nrule dir=in action=accept proto=tcp dport=1000\n\
         policy dir=in action=drop",
        [Passes, Lost, Lost],
        [Passes, Lost, Passes],
    ),
];

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn every_action_has_its_answer() {
    let mut world = World::new();
    for (rules, v4, v6) in CASES {
        world.load(rules);
        for (in_v6, fates) in [(false, v4), (true, v6)] {
            for (kind, want) in [Tcp, Udp, Ping].into_iter().zip(fates) {
                let packet = Packet { v6: in_v6, ..packet(kind, Spot::Friend) };
                let before = unreachable(&world, in_v6);
                assert_eq!(world.judge(packet), want, "{rules}: {packet:?}");
                // TCP is refused by a reset, the others by ICMP; an error of port 1000 is all that it can be.
                let answers = unreachable(&world, in_v6) - before;
                assert_eq!(answers, u64::from(want == Refused && kind != Tcp), "{rules}: {packet:?}");
            }
        }
    }
}

/// How many errors of ICMP have come to the friend.
fn unreachable(world: &World, v6: bool) -> u64 {
    let (file, name) = if v6 { ("snmp6", "Icmp6InDestUnreachs") } else { ("snmp", "IcmpMsg:") };
    let text = world.at(Spot::Friend, || std::fs::read_to_string(format!("/proc/thread-self/net/{file}")));
    let text = text.unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(name)).map(str::split_whitespace);
    if v6 {
        return lines.next().unwrap().nth(1).unwrap().parse().unwrap();
    }
    // Names in one line, values in the next; no line before the first message.
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    names.zip(values).find(|(name, _)| *name == "InType3").map_or(0, |(_, value)| value.parse().unwrap())
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn the_first_rule_that_matches_decides() {
    let mut world = World::new();
    world.load(
        "policy dir=in action=drop\nrule dir=in action=reject proto=udp dport=1000-1001\n\
         rule dir=in action=accept proto=udp dport=1001-1002\nrule dir=in action=reject proto=udp",
    );
    let to = |port| packet(Udp, Spot::Stranger).port(port);
    assert_eq!(
        [1000, 1001, 1002, 2000].map(|port| world.judge(to(port))),
        [Refused, Refused, Passes, Refused]
    );
    assert_eq!(world.judge(packet(Tcp, Spot::Stranger)), Lost);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_ban_comes_before_every_rule() {
    let mut world = World::new();
    world.load("rule dir=in action=accept proto=all\nrule dir=in action=accept proto=all src=192.0.2.2");
    let all: [Kind; 3] = [Tcp, Udp, Ping];
    assert_eq!(all.map(|kind| world.judge(packet(kind, Spot::Friend))), [Passes; 3]);
    let friend = world.friend.v4.to_string();
    world.net.mef(&["ban", &friend]).ok();
    let dropped = world.net.dropped();
    // The sentinel of a banned address has no way: that of a neighbour tells that the packets are gone.
    let probes = all.map(|kind| world.send(packet(kind, Spot::Friend)));
    crate::common::wait_until("the packets to be dropped", || world.net.dropped() >= dropped + 3);
    assert_eq!(probes.map(|probe| world.fate(&probe)), [Lost; 3]);
    assert_eq!(world.judge(packet(Udp, Spot::Stranger)), Passes);
    assert_eq!(world.judge(packet(Udp, Spot::Friend).in_v6()), Passes);
    // Nor does a rule set that is loaded later undo it.
    world.load("rule dir=in action=accept proto=all");
    let probe = world.send(packet(Udp, Spot::Friend));
    crate::common::wait_until("the packet to be dropped", || world.net.dropped() >= dropped + 4);
    assert_eq!(world.fate(&probe), Lost);
    world.net.mef(&["unban", &friend]).ok();
    assert_eq!(all.map(|kind| world.judge(packet(kind, Spot::Friend))), [Passes; 3]);
}
