//! Rules of packets that the host sends, and of those that pass through it.

use crate::common::world::Fate::{Lost, Passes, Refused};
use crate::common::world::Kind::{Ping, Tcp, Udp};
use crate::common::world::{Fate, Packet, Spot, World, packet};

/// Loopback is not filtered: the answers of `action=reject` to the host itself take it.
const LO: &str = "rule dir=out action=accept proto=all oif=lo\n";

#[track_caller]
fn check(world: &mut World, rules: &str, cases: &[(Packet, Fate)]) {
    world.load(rules);
    for (packet, want) in cases {
        assert_eq!(world.judge(*packet), *want, "{packet:?}\n{rules}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_the_host_sends() {
    let mut world = World::new();
    let friend = packet(Udp, Spot::Host).to(Spot::Friend);
    let stranger = friend.to(Spot::Stranger);
    let tcp = |packet: Packet| Packet { kind: Tcp, ..packet };
    let ping = |packet: Packet| Packet { kind: Ping, ..packet };
    let back = packet(Udp, Spot::Friend);
    let cases: [(&str, &[(Packet, Fate)]); 10] = [
        (
            "policy dir=out action=drop",
            &[
                (friend, Lost),
                (tcp(friend), Lost),
                (ping(stranger.in_v6()), Lost),
                (stranger.in_v6(), Lost),
                // What comes in is not what goes out.
                (back, Passes),
            ],
        ),
        (
            "policy dir=out action=reject",
            &[
                (friend, Refused),
                (friend.in_v6(), Refused),
                (tcp(friend), Refused),
                (tcp(stranger.in_v6()), Refused),
                (ping(friend), Refused),
            ],
        ),
        (
            "policy dir=out action=drop\nrule dir=out action=accept proto=udp oif=v0",
            &[
                (friend, Passes),
                (friend.in_v6(), Passes),
                (stranger, Lost),
                (stranger.in_v6(), Lost),
                (tcp(friend), Lost),
            ],
        ),
        (
            "rule dir=out action=drop proto=all oif=!v0",
            &[(friend, Passes), (tcp(friend), Passes), (stranger, Lost), (tcp(stranger.in_v6()), Lost)],
        ),
        (
            "rule dir=out action=drop proto=all oif=v1*,ppp0",
            &[(friend, Passes), (stranger, Lost), (ping(stranger.in_v6()), Lost)],
        ),
        (
            "rule dir=out action=drop proto=all dst=192.0.2.2,2001:db8:1::/48",
            &[
                (friend, Lost),
                (tcp(friend), Lost),
                (friend.in_v6(), Passes),
                (stranger, Passes),
                (stranger.in_v6(), Lost),
            ],
        ),
        (
            "rule dir=out action=drop proto=all src=198.51.100.1",
            &[(friend, Passes), (stranger, Lost), (stranger.in_v6(), Passes)],
        ),
        (
            "rule dir=out action=reject proto=tcp dport=1000-1001,2000\n\
             rule dir=out action=drop proto=udp sport=5000-5010",
            &[
                (tcp(friend), Refused),
                (tcp(friend.port(1002)), Passes),
                (tcp(stranger.port(2000).in_v6()), Refused),
                (friend, Passes),
                (friend.with_sport(5007), Lost),
                (friend.with_sport(5011), Passes),
            ],
        ),
        (
            // Any interface is every one but loopback, whatever the action.
            "rule dir=out action=drop proto=all oif=any",
            &[(friend, Lost), (packet(Udp, Spot::Host), Passes), (packet(Tcp, Spot::Host).in_v6(), Passes)],
        ),
        (
            "rule dir=out action=drop proto=icmp",
            &[(ping(friend), Lost), (ping(friend.in_v6()), Passes), (friend, Passes)],
        ),
    ];
    for (rules, packets) in cases {
        check(&mut world, &[LO, rules].concat(), packets);
    }
    check(&mut world, "policy dir=out action=drop", &[(packet(Udp, Spot::Host), Lost)]);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn answers_of_the_host_are_established() {
    let mut world = World::new();
    let asked = packet(Tcp, Spot::Friend);
    let own = packet(Tcp, Spot::Host).to(Spot::Friend);
    let drop = "policy dir=out action=drop\n";
    for packet in [asked, asked.in_v6()] {
        check(&mut world, drop, &[(packet, Lost)]);
        check(
            &mut world,
            &[drop, "rule dir=out action=accept proto=all ct=established"].concat(),
            &[
                (packet, Passes),
                (Packet { kind: Ping, ..packet }, Passes),
                (Packet { v6: packet.v6, ..own }, Lost),
            ],
        );
        check(&mut world, &[drop, "rule dir=out action=accept proto=all ct=new"].concat(), &[(packet, Lost)]);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_passes_through_the_host() {
    let mut world = World::new();
    let there = packet(Udp, Spot::Friend).to(Spot::Stranger);
    let back = packet(Udp, Spot::Stranger).to(Spot::Friend);
    let tcp = |packet: Packet| Packet { kind: Tcp, ..packet };
    let ping = |packet: Packet| Packet { kind: Ping, ..packet };
    let drop = "policy dir=fwd action=drop\n";
    let cases: [(&str, &[(Packet, Fate)]); 12] = [
        ("", &[(there, Passes), (back.in_v6(), Passes), (tcp(there), Passes), (ping(back), Passes)]),
        (
            "policy dir=fwd action=drop",
            &[
                (there, Lost),
                (back.in_v6(), Lost),
                (tcp(there), Lost),
                (ping(back), Lost),
                (packet(Udp, Spot::Friend), Passes),
                (packet(Udp, Spot::Host).to(Spot::Friend), Passes),
            ],
        ),
        (
            "policy dir=fwd action=reject",
            &[
                (there, Refused),
                (back.in_v6(), Refused),
                (tcp(there), Refused),
                (tcp(back.in_v6()), Refused),
                (ping(there), Refused),
                (ping(there.in_v6()), Refused),
            ],
        ),
        // Other directions do not touch it.
        (
            "policy dir=in action=drop\npolicy dir=out action=drop",
            &[(there, Passes), (tcp(back.in_v6()), Passes)],
        ),
        (
            "policy dir=fwd action=drop\nrule dir=fwd action=accept proto=udp iif=v0",
            &[(there, Passes), (there.in_v6(), Passes), (back, Lost), (tcp(there), Lost)],
        ),
        ("rule dir=fwd action=drop proto=udp oif=v0", &[(there, Passes), (back, Lost), (back.in_v6(), Lost)]),
        ("rule dir=fwd action=drop proto=udp iif=v0 oif=v0", &[(there, Passes), (back, Passes)]),
        ("rule dir=fwd action=drop proto=udp iif=!v1 oif=v*,lo", &[(there, Lost), (back, Passes)]),
        (
            "rule dir=fwd action=reject proto=all src=192.0.2.2 dst=198.51.100.0/24",
            &[(there, Refused), (tcp(there), Refused), (there.in_v6(), Passes), (back, Passes)],
        ),
        (
            "rule dir=fwd action=drop proto=udp dst=2001:db8:1::2,192.0.2.2",
            &[(there, Passes), (there.in_v6(), Lost), (back, Lost), (back.in_v6(), Passes)],
        ),
        (
            "rule dir=fwd action=drop proto=udp sport=5000 dport=1001,1002",
            &[
                (there.with_sport(5000), Passes),
                (there.port(1001), Passes),
                (there.with_sport(5000).port(1001), Lost),
                (back.with_sport(5000).port(1002).in_v6(), Lost),
                (tcp(there.with_sport(5000).port(1001)), Passes),
            ],
        ),
        (
            "rule dir=fwd action=drop proto=icmp6\nrule dir=fwd action=reject proto=tcp family=ip",
            &[
                (ping(there), Passes),
                (ping(there.in_v6()), Lost),
                (tcp(there), Refused),
                (tcp(there.in_v6()), Passes),
            ],
        ),
    ];
    for (rules, packets) in cases {
        check(&mut world, rules, packets);
    }
    // A connection needs both ways; what is established takes the one back.
    check(&mut world, &[drop, "rule dir=fwd action=accept proto=tcp iif=v0"].concat(), &[(tcp(there), Lost)]);
    let both = "rule dir=fwd action=accept proto=all iif=v0 ct=new\nrule dir=fwd action=accept proto=all \
        ct=established";
    check(
        &mut world,
        &[drop, both].concat(),
        &[
            (tcp(there), Passes),
            (tcp(there.in_v6()), Passes),
            (ping(there), Passes),
            (tcp(back), Lost),
            (ping(back.in_v6()), Lost),
        ],
    );
}
