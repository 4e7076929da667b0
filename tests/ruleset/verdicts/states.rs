//! `ct=`: what belongs to something that went before.

use crate::common::world::Fate::{Lost, Passes, Refused};
use crate::common::world::Kind::{Ping, Tcp, Udp};
use crate::common::world::{Fate, Packet, Spot, World, packet};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::net::UdpSocket;

const DROP: &str = "policy dir=in action=drop\n";
const ASKED: Packet = packet(Tcp, Spot::Host).to(Spot::Friend);
const UNASKED: Packet = packet(Tcp, Spot::Friend);

#[track_caller]
fn check(world: &mut World, rules: &str, cases: &[(Packet, Fate)]) {
    world.load(&[DROP, rules].concat());
    for packet in cases.iter().flat_map(|&(packet, want)| [(packet, want), (packet.in_v6(), want)]) {
        assert_eq!(world.judge(packet.0), packet.1, "{:?}\n{rules}", packet.0);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn answers_come_in_and_questions_do_not() {
    let mut world = World::new();
    let ping = |packet: Packet| Packet { kind: Ping, ..packet };
    check(&mut world, "", &[(ASKED, Lost), (ping(ASKED), Lost), (UNASKED, Lost)]);
    check(
        &mut world,
        "rule dir=in action=accept proto=all ct=new",
        &[(ASKED, Lost), (ping(ASKED), Lost), (UNASKED, Passes), (ping(UNASKED), Passes)],
    );
    for states in ["established", "established,related", "invalid,established"] {
        check(
            &mut world,
            &format!("rule dir=in action=accept proto=all ct={states}"),
            &[(ASKED, Passes), (ping(ASKED), Passes), (UNASKED, Lost), (ping(UNASKED), Lost)],
        );
    }
    check(
        &mut world,
        "rule dir=in action=accept proto=tcp ct=established iif=v1",
        &[(ASKED, Lost), (ASKED.to(Spot::Stranger), Passes)],
    );
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_flow_is_established_once_it_is_answered() {
    let mut world = World::new();
    // Tracked before there is a rule set that asks for it.
    world.net.track();
    let flow = packet(Udp, Spot::Friend).with_sport(5000);
    for flow in [flow, flow.in_v6()] {
        world.net.mef(&["unload"]).ok();
        world.establish(flow);
        world.load(&[DROP, "rule dir=in action=accept proto=udp ct=established"].concat());
        assert_eq!(world.judge(flow), Passes);
        assert_eq!(world.judge(flow.with_sport(5001)), Lost);
        assert_eq!(world.judge(flow.port(1001)), Lost);
        world.load(&[DROP, "rule dir=in action=accept proto=udp ct=new"].concat());
        assert_eq!(world.judge(flow), Lost);
        assert_eq!(world.judge(flow.with_sport(5001)), Passes);
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn errors_are_related() {
    let mut world = World::new();
    // Nobody listens there.
    let closed = packet(Udp, Spot::Host).to(Spot::Friend).port(3000);
    check(&mut world, "rule dir=in action=accept proto=all ct=established,new", &[(closed, Lost)]);
    check(
        &mut world,
        "rule dir=in action=accept proto=all ct=related",
        &[(closed, Refused), (UNASKED, Lost)],
    );
    check(&mut world, "rule dir=in action=accept proto=all ct=related,established", &[(closed, Refused)]);
    check(&mut world, "rule dir=in action=accept proto=udp ct=related", &[(closed, Lost)]);
}

/// Sends an echo reply that nobody asked for from the friend; whether the host gets it.
fn stray(world: &World, v6: bool) -> bool {
    let (family, protocol, kind) = if v6 {
        (AddressFamily::Inet6, SockProtocol::IcmpV6, 129)
    } else {
        (AddressFamily::Inet, SockProtocol::Icmp, 0)
    };
    let raw = || -> UdpSocket {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        socket(family, SockType::Raw, flags, protocol).unwrap().into()
    };
    let near = raw();
    let host = world.address(Spot::Host, Spot::Friend, v6);
    // Type, code, checksum (in ICMPv6 the kernel's matter), identifier, number.
    let [high, low] = (!0x1235u16).to_be_bytes();
    let reply = [kind, 0, high, low, 0x12, 0x34, 0x00, 0x01];
    world.at(Spot::Friend, raw).send_to(&reply, (host, 0)).unwrap();
    world.settle(Spot::Friend, Spot::Host, v6);
    let mut text = [0; 64];
    std::iter::from_fn(|| near.recv(&mut text).ok().map(|len| text[..len].ends_with(&reply[4..])))
        .any(|is_it| is_it)
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_belongs_to_nothing_is_invalid() {
    let mut world = World::new();
    let cases = [
        ("policy dir=in action=drop", false),
        ("policy dir=in action=accept", true),
        ("policy dir=in action=drop\nrule dir=in action=accept proto=all ct=new,established,related", false),
        ("policy dir=in action=drop\nrule dir=in action=accept proto=all ct=invalid", true),
        ("rule dir=in action=drop proto=all ct=invalid", false),
        ("rule dir=in action=drop proto=all ct=new,established,related", true),
    ];
    for (rules, passes) in cases {
        world.load(rules);
        for v6 in [false, true] {
            assert_eq!(stray(&world, v6), passes, "{rules} IPv6: {v6}");
        }
    }
    world.load("rule dir=in action=drop proto=all ct=invalid");
    assert_eq!(world.judge(UNASKED), Passes);
    assert_eq!(world.judge(ASKED.in_v6()), Passes);
}
