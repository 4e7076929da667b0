//! Rule sets judged by packets: random rule sets are loaded, packets of every kind sent in random order, and
//! what becomes of them compared with a plain interpreter of the language. MEF_ORACLE_CASES sets how many
//! rule sets are tried.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;
mod language;

use common::world::{Fate, Kind, PORTS, Packet, Probe, World, sysctl};
use language::{ACTIONS, APART, INTERFACES, Rule, SETS, Seen, Way, judge, pick};

/// Datagrams from this port belong to flows that were answered before.
const ANSWERED: u16 = 6000;
/// Those of which answers are judged, too.
const PROTOS: [&str; 3] = ["tcp", "icmp", "icmp6"];

/// Of every rule set: what belongs to a connection passes, and so do answers of the host to itself; or
/// `whole`, all that it sends to itself.
fn passing(way: Way, whole: bool) -> String {
    let rule = |what: &str| format!("rule dir={} action=accept {what}\n", way.word());
    let link = match way {
        Way::In => "iif=lo",
        Way::Out => "oif=lo",
        Way::Fwd => return PROTOS.map(|proto| rule(&format!("proto={proto} ct=established"))).concat(),
    };
    let each = |proto: &str| {
        let lo =
            if whole { String::new() } else { rule(&format!("proto={proto} ct=established,related {link}")) };
        rule(&format!("proto={proto} ct=established")) + &lo
    };
    let lo = if whole { rule(&format!("proto=all {link}")) } else { String::new() };
    PROTOS.map(each).concat() + &lo
}

/// Every packet of a small world. A connection's source port is used once in a while only, so that it is a
/// new one.
fn packets(way: Way, seed: u64) -> Vec<Packet> {
    let fresh = u16::try_from(seed % 900).unwrap();
    let mut all = Vec::new();
    for &(from, to) in way.routes() {
        for v6 in [false, true] {
            let packet = Packet { kind: Kind::Ping, from, to, v6, sport: 0, dport: 0 };
            all.push(packet);
            for dport in PORTS {
                for (kind, sports) in
                    [(Kind::Tcp, [5001 + fresh, 6001 + fresh]), (Kind::Udp, [5000, ANSWERED])]
                {
                    all.extend(sports.map(|sport| Packet { kind, sport, dport, ..packet }));
                }
            }
        }
    }
    all
}

fn answered(packet: &Packet) -> bool {
    packet.kind == Kind::Udp && packet.sport == ANSWERED
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_becomes_of_packets_is_what_the_language_says() {
    let mut world = World::new();
    world.net.track();
    sysctl("netfilter/nf_conntrack_udp_timeout", "86400");
    for way in Way::ALL {
        packets(way, 0).into_iter().filter(answered).for_each(|packet| world.establish(packet));
    }
    let cases: u64 = std::env::var("MEF_ORACLE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(240);
    let (mut seen, mut own) = ([0; 3], 0);
    for seed in 0..cases {
        let mut rng = fastrand::Rng::with_seed(seed);
        let way = Way::ALL[usize::try_from(seed % 3).unwrap()];
        let links = if rng.bool() { &APART[..] } else { &INTERFACES };
        let whole = rng.u8(0..4) == 0;
        let mut rules: Vec<Rule> = (0..rng.usize(1..9)).map(|_| Rule::random(&mut rng, way, links)).collect();
        let (action, policy) = pick(&mut rng, &ACTIONS);
        let mut text =
            format!("policy dir={} action={action}\n{SETS}group name=g\n{}", way.word(), passing(way, whole));
        // The group is empty where nothing leads to it or to nothing.
        let size = rng.usize(0..4);
        let group_seed = rng.u64(..);
        let group = || {
            let mut rng = fastrand::Rng::with_seed(group_seed);
            (0..size).map(|_| Rule::grouped(&mut rng)).collect::<Vec<_>>()
        };
        group().iter().for_each(|rule| text += &format!("{}\n", rule.text));
        rules.iter_mut().filter(|rule| rule.is_leading()).for_each(|rule| rule.lead_to(group()));
        rules.iter().for_each(|rule| text += &format!("{}\n", rule.text));
        world.load(&text);

        let mut packets = packets(way, seed);
        rng.shuffle(&mut packets);
        let probes: Vec<Probe> = packets.iter().map(|packet| world.send(*packet)).collect();
        for &(from, to) in way.routes() {
            [false, true].into_iter().for_each(|v6| world.settle(from, to, v6));
        }
        for (packet, probe) in packets.iter().zip(&probes) {
            let of_lo = packet.from == packet.to;
            let wanted = match whole && of_lo {
                true => Fate::Passes,
                false => judge(&mut rules, policy, &Seen::new(&world, packet, answered(packet))),
            };
            own += usize::from(of_lo && wanted != Fate::Passes);
            assert_eq!(
                world.fate(probe),
                wanted,
                "seed {seed}: {packet:?}\n{text}{}",
                world.net.nft_list("table inet mef")
            );
            seen[wanted as usize] += 1;
        }
    }
    assert!(seen.iter().all(|fates| *fates > cases), "{seen:?}: the rule sets are too much alike");
    assert!(own > 0, "no packet of loopback was dropped");
}
