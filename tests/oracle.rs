//! Rule sets judged by packets: random rule sets are loaded, random datagrams sent, and what arrives is compared with
//! a plain interpreter of the language. MEF_ORACLE_CASES sets how many rule sets are tried.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{LIMIT, Net, Peer, wait_for};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

const PORTS: [u16; 4] = [1000, 1001, 1002, 2000];
const SOURCES: [u16; 3] = [5000, 5001, 6000];
/// Always accepted: when this datagram has come, what was sent before it has come or is gone.
const SENTINEL: u16 = 9;
const PACKETS: u32 = 120;

/// A datagram.
#[derive(Debug, Clone, Copy)]
struct Packet {
    peer: usize,
    v6: bool,
    sport: u16,
    dport: u16,
}

type Condition = Box<dyn Fn(&Packet) -> bool>;

/// One rule: its text and, for each of its conditions, whether a packet fulfils it.
struct Rule {
    text: String,
    accepts: bool,
    conditions: Vec<Condition>,
}

fn pick<T: Clone>(rng: &mut fastrand::Rng, all: &[T]) -> T {
    all[rng.usize(0..all.len())].clone()
}

/// Items of a comma list, of which a packet has to fulfil one.
type Item = (&'static str, fn(&Packet) -> bool);

const ADDRESSES: [Item; 8] = [
    ("192.0.2.2", |p| !p.v6 && p.peer == 0),
    ("192.0.2.0/24", |p| !p.v6 && p.peer == 0),
    ("198.51.100.1-198.51.100.9", |p| !p.v6 && p.peer == 1),
    ("0.0.0.0/0", |p| !p.v6),
    ("2001:db8::2", |p| p.v6 && p.peer == 0),
    ("2001:db8:1::/48", |p| p.v6 && p.peer == 1),
    ("203.0.113.0/24", |_| false),
    ("@one", |p| p.peer == 1),
];
const DPORTS: [Item; 5] = [
    ("1000", |p| p.dport == 1000),
    ("1001-1999", |p| (1001..2000).contains(&p.dport)),
    ("2000", |p| p.dport == 2000),
    ("7", |_| false),
    ("@low", |p| p.dport < 1002),
];
const SPORTS: [Item; 3] =
    [("5000", |p| p.sport == 5000), ("5000-5999", |p| p.sport < 6000), ("6000", |p| p.sport == 6000)];
const INTERFACES: [Item; 6] = [
    ("v0", |p| p.peer == 0),
    ("v0,v1", |_| true),
    ("!v1", |p| p.peer == 0),
    ("v*", |_| true),
    ("lo", |_| false),
    ("lo,v1*,nothing", |p| p.peer == 1),
];
const FAMILIES: [Item; 3] = [("any", |_| true), ("ip", |p| !p.v6), ("ip6", |p| p.v6)];
const STATES: [Item; 4] =
    [("any", |_| true), ("new", |_| true), ("established,new", |_| true), ("established,invalid", |_| false)];
const PROTOCOLS: [Item; 3] = [("udp", |_| true), ("udp", |_| true), ("tcp", |_| false)];

fn list(rng: &mut fastrand::Rng, rule: &mut Rule, key: &str, all: &[Item]) {
    let chosen: Vec<Item> = (0..rng.usize(1..4)).map(|_| pick(rng, all)).collect();
    let words: Vec<&str> = chosen.iter().map(|(word, _)| *word).collect();
    rule.text += &format!(" {key}={}", words.join(","));
    rule.conditions.push(Box::new(move |p| chosen.iter().any(|(_, fulfils)| fulfils(p))));
}

fn one(rng: &mut fastrand::Rng, rule: &mut Rule, key: &str, all: &[Item]) {
    let (word, fulfils) = pick(rng, all);
    rule.text += &format!(" {key}={word}");
    rule.conditions.push(Box::new(fulfils));
}

fn rule(rng: &mut fastrand::Rng) -> Rule {
    let action = pick(rng, &["accept", "drop", "reject"]);
    let mut rule = Rule {
        text: format!("rule dir=in action={action}"),
        accepts: action == "accept",
        conditions: Vec::new(),
    };
    // Without proto=all every rule may have ports; a rule of another protocol matches nothing here.
    one(rng, &mut rule, "proto", &PROTOCOLS);
    if rng.u8(0..2) == 0 {
        list(rng, &mut rule, "src", &ADDRESSES);
    } else if rng.bool() {
        one(rng, &mut rule, "family", &FAMILIES);
    }
    if rng.bool() {
        list(rng, &mut rule, "dport", &DPORTS);
    }
    if rng.u8(0..4) == 0 {
        list(rng, &mut rule, "sport", &SPORTS);
    }
    if rng.u8(0..3) == 0 {
        one(rng, &mut rule, "iif", &INTERFACES);
    }
    if rng.u8(0..4) == 0 {
        one(rng, &mut rule, "ct", &STATES);
    }
    if rng.u8(0..4) == 0 {
        rule.text += " log=prefix:oracle ratelimit=1/d";
    }
    if rng.u8(0..4) == 0 {
        // Wide enough for all packets of a round.
        rule.text += " limit=1000000/s burst=100000";
    }
    rule
}

/// What the language says of a packet.
fn judge(rules: &[Rule], policy: bool, packet: &Packet) -> bool {
    let decides = rules.iter().find(|rule| rule.conditions.iter().all(|fulfilled| fulfilled(packet)));
    decides.map_or(policy, |rule| rule.accepts)
}

fn send(net: &Net, peers: &[Peer], packet: &Packet, id: u32) {
    let peer = &peers[packet.peer];
    let (any, to): (&str, IpAddr) =
        if packet.v6 { ("::", peer.host6.into()) } else { ("0.0.0.0", peer.host4.into()) };
    net.within(&peer.ns, |_| {
        let from: SocketAddr = (any.parse::<IpAddr>().unwrap(), packet.sport).into();
        UdpSocket::bind(from).unwrap().send_to(&id.to_ne_bytes(), (to, packet.dport)).unwrap();
    });
}

fn receive(socket: &UdpSocket) -> Option<u32> {
    let mut id = [0; 4];
    socket.recv_from(&mut id).ok().map(|_| u32::from_ne_bytes(id))
}

/// Everything sent so far by the peer over that family has come or is gone.
fn settle(net: &Net, peers: &[Peer], sentinel: &UdpSocket, peer: usize, v6: bool) {
    while receive(sentinel).is_some() {}
    let end = Instant::now() + LIMIT;
    // Lost only while a neighbour is looked up.
    let mark = u32::MAX - u32::try_from(peer).unwrap();
    send(net, peers, &Packet { peer, v6, sport: 7000, dport: SENTINEL }, mark);
    let mut tries = 0u32;
    wait_for("the sentinel", || {
        tries += 1;
        if tries.is_multiple_of(100) {
            send(net, peers, &Packet { peer, v6, sport: 7000, dport: SENTINEL }, mark);
        }
        assert!(Instant::now() < end);
        receive(sentinel).filter(|id| *id == mark)
    });
}

#[test]
fn what_passes_is_what_the_language_says() {
    let mut net = Net::new();
    let peers = [net.peer(), net.peer()];
    let listen = |port: u16| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let services = PORTS.map(listen);
    let sentinel = listen(SENTINEL);
    let cases: u64 = std::env::var("MEF_ORACLE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let (mut passed, mut died) = (0, 0);
    for seed in 0..cases {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rules: Vec<Rule> = (0..rng.usize(1..9)).map(|_| rule(&mut rng)).collect();
        let policy = pick(&mut rng, &["accept", "drop", "reject"]);
        let mut text = format!(
            "policy dir=in action={policy}\nset name=one family=any type=addr elements=198.51.100.2,2001:db8:1::/64\n\
             set name=low family=any type=port elements=1000,1001\n\
             rule dir=in action=accept proto=udp dport={SENTINEL}\nrule dir=in action=accept proto=icmp6\n"
        );
        rules.iter().for_each(|rule| text += &format!("{}\n", rule.text));
        let out = net.mef_input(&["load", "-"], text.as_bytes());
        assert_eq!(out.status, 0, "seed {seed}: {out:?}\n{text}");

        let packets: Vec<Packet> = (0..PACKETS)
            .map(|_| Packet {
                peer: rng.usize(0..2),
                v6: rng.bool(),
                sport: pick(&mut rng, &SOURCES),
                dport: pick(&mut rng, &PORTS),
            })
            .collect();
        let routes = [(0, false), (0, true), (1, false), (1, true)];
        routes.iter().for_each(|&(peer, v6)| settle(&net, &peers, &sentinel, peer, v6));
        services.iter().for_each(|service| while receive(service).is_some() {});
        for (id, packet) in (0..).zip(&packets) {
            send(&net, &peers, packet, id);
        }
        routes.iter().for_each(|&(peer, v6)| settle(&net, &peers, &sentinel, peer, v6));
        let mut came = BTreeSet::new();
        for service in &services {
            while let Some(id) = receive(service) {
                came.insert(id);
            }
        }
        for (id, packet) in (0..).zip(&packets) {
            let wanted = judge(&rules, policy == "accept", packet);
            assert_eq!(
                came.contains(&id),
                wanted,
                "seed {seed}: {packet:?}\n{text}{}",
                net.nft_list("table inet mef")
            );
            *(if wanted { &mut passed } else { &mut died }) += 1;
        }
    }
    assert!(passed > 100 && died > 100, "{passed} passed, {died} died: the rule sets are too much alike");
}
