//! `limit=`: how many packets match, in one bucket or in one for each source.

use crate::common::backend::is_fallback;
use crate::common::wait_until;
use crate::common::world::Fate::{Lost, Passes, Refused};
use crate::common::world::Kind::{Tcp, Udp};
use crate::common::world::{Packet, Spot, World, packet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const FRIEND: Packet = packet(Udp, Spot::Friend);
const STRANGER: Packet = packet(Udp, Spot::Stranger);
/// More than any bucket here holds.
const MANY: usize = 12;

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_limit_is_one_bucket_for_all() {
    let mut world = World::new();
    let all = [FRIEND, FRIEND.in_v6(), STRANGER, STRANGER.in_v6()];
    let families = "src=192.0.2.2,2001:db8::2,198.51.100.0/24,2001:db8:1::/48";
    let cases: [(&str, usize, &str); 6] = [
        ("as nft has it, where no burst is given", 5, "proto=udp limit=1/h"),
        ("a burst", 3, "proto=udp limit=1/h burst=3"),
        ("every protocol", 3, "proto=all limit=1/h burst=3"),
        ("two families", 3, &["proto=udp dport=1000 limit=1/h burst=3 ", families].concat()),
        ("rules of interfaces and wildcards", 4, "proto=udp iif=v0,v1*,w* limit=1/h burst=4"),
        ("with a log", 4, "proto=udp limit=1/h burst=4 log=prefix:limited ratelimit=1/h"),
    ];
    for (name, burst, rule) in cases {
        world.load(&format!("policy dir=in action=drop\nrule dir=in action=accept {rule}"));
        // In turn, so that two buckets would let pass more.
        let passed = (0..MANY).filter(|i| world.judge(all[i % all.len()]) == Passes).count();
        // iptables has one for each family.
        let families = if is_fallback() { 2 } else { 1 };
        assert_eq!(passed, burst.min(MANY / 2) * families, "{name}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_is_over_the_limit_meets_the_next_rule() {
    let mut world = World::new();
    for action in ["reject", "drop"] {
        let matched = if action == "reject" { Refused } else { Lost };
        world.load(&format!(
            "rule dir=in action={action} proto=all limit=1/h burst=2\nrule dir=in action=accept proto=udp\n\
             policy dir=in action=drop"
        ));
        let fates = [(); 4].map(|()| world.judge(FRIEND));
        assert_eq!(fates, [matched, matched, Passes, Passes], "{action}");
        assert_eq!(world.judge(packet(Tcp, Spot::Friend)), Lost, "{action}");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_bucket_fills_again() {
    let mut world = World::new();
    world.load("policy dir=in action=drop\nrule dir=in action=accept proto=udp limit=1/s burst=1");
    let start = Instant::now();
    assert_eq!(world.judge(FRIEND), Passes);
    wait_until("the next packet to pass", || world.judge(FRIEND) == Passes);
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
}

/// How many of `MANY` datagrams from an address beyond the friend's link pass.
fn from(world: &mut World, source: &str) -> usize {
    let source: IpAddr = source.parse().unwrap();
    let packet = Packet { v6: source.is_ipv6(), ..FRIEND };
    let mut pass = || {
        let probe = world.send_from(packet, source);
        world.settle(packet.from, packet.to, packet.v6);
        world.fate(&probe) == Passes
    };
    (0..MANY).filter(|_| pass()).count()
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn a_limit_by_source_is_a_bucket_for_each() {
    let mut world = World::new();
    let sources = [
        ("203.0.113.1", 2),
        ("203.0.113.2", 2),
        ("203.0.113.1", 0),
        // IPv6 sources of one network of 64 bits are one.
        ("2001:db8:a::1", 2),
        ("2001:db8:a::2", 0),
        ("2001:db8:a:0:ffff:ffff:ffff:ffff", 0),
        ("2001:db8:a:1::1", 2),
        ("2001:db8:9:ffff::1", 2),
    ];
    for (source, _) in sources {
        world.net.speak_as(&world.friend, source.parse().unwrap());
    }
    for log in ["", " log=prefix:limited ratelimit=1/h"] {
        world.load(&format!(
            "policy dir=in action=drop\nrule dir=in action=accept proto=udp limit=1/h/src burst=2{log}"
        ));
        for (source, want) in sources {
            assert_eq!(from(&mut world, source), want, "{source}{log}");
        }
        assert_eq!(world.passing(MANY, STRANGER), 2);
        assert_eq!(world.passing(MANY, STRANGER.in_v6()), 2);
    }
    // Two rules do not share their buckets.
    world.load(
        "policy dir=in action=drop\nrule dir=in action=accept proto=udp dport=1000 limit=1/h/src burst=2\n\
         rule dir=in action=accept proto=udp dport=1001 limit=1/h/src burst=3",
    );
    assert_eq!(world.passing(MANY, STRANGER), 2);
    assert_eq!(world.passing(MANY, STRANGER.port(1001)), 3);
}

/// Fills the set of buckets of the first rule behind those of the world with addresses that nobody here has.
fn fill(world: &World) {
    let each = |i: u32| format!("10.{}.{}.{}", i >> 16, i >> 8 & 255, i & 255);
    let elements: Vec<String> = (0..65_535).map(each).collect();
    world.net.nft(&format!("add element inet mef r6.4 {{ {} }}", elements.join(",")));
    let more = world.net.command("nft", &["add element inet mef r6.4 { 10.255.0.1 }"]).output().unwrap();
    assert!(!more.status.success(), "the set has room");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn nobody_is_refused_because_a_set_of_buckets_is_full() {
    let mut world = World::new();
    let accept = "rule dir=in action=accept proto=udp limit=1/h/src burst=2";
    let bounded =
        "rule dir=in action=DROP proto=udp limit=1/h/src burst=2\nrule dir=in action=accept proto=udp";
    let cases = [
        ("accepted", accept.to_owned()),
        ("accepted with a log", format!("{accept} log=prefix:limited ratelimit=1/h")),
        ("accepted at two places", format!("{accept} iif=v0,v1*,w*")),
        ("dropped", bounded.replace("DROP", "drop")),
        ("refused in two ways", bounded.replace("DROP", "reject").replacen("udp", "all", 1)),
        (
            "dropped with a log",
            bounded.replace("DROP", "drop").replacen("=2", "=2 log=prefix:x ratelimit=1/h", 1),
        ),
    ];
    for (name, rules) in cases {
        world.load(&format!("{rules}\npolicy dir=in action=drop"));
        // While there is room the limit holds, on both sides of it.
        let (before, after) = ([world.judge(STRANGER), world.judge(STRANGER)], world.judge(STRANGER));
        let accepts = rules.starts_with(accept);
        assert_eq!(before == [Passes; 2], accepts, "{name}");
        assert_eq!(after == Passes, !accepts, "{name}: over the limit");
        world.load(&format!("{rules}\npolicy dir=in action=drop"));
        fill(&world);
        for packet in [STRANGER, FRIEND, STRANGER] {
            assert_eq!(world.judge(packet), Passes, "{name}");
        }
        // The other family has its own.
        assert_eq!(world.judge(STRANGER.in_v6()) == Passes, accepts, "{name}");
    }
}

/// Nor because a set of who has connections is.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn nobody_is_refused_because_a_set_of_connections_is_full() {
    let mut world = World::new();
    for (verdict, rest) in [("accept", ""), ("drop", "rule dir=in action=accept proto=udp\n")] {
        let rule = format!("rule dir=in action={verdict} proto=udp ct=new conns=50/src");
        world.load(&format!("{rule}\n{rest}policy dir=in action=drop"));
        assert_eq!(world.judge(STRANGER) == Passes, verdict == "accept", "{rule}");
        world.load(&format!("{rule}\n{rest}policy dir=in action=drop"));
        fill(&world);
        for packet in [STRANGER, FRIEND, STRANGER] {
            assert_eq!(world.judge(packet), Passes, "{rule}");
        }
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
pub fn what_a_set_of_buckets_remembers_goes_soon() {
    let world = World::new();
    for (limit, life) in
        [("10/m/src", "1m"), ("1/m/src burst=10", "10m1s"), ("1/h/src", "1h"), ("3/d/src burst=100", "1h")]
    {
        world.net.mef_input(
            &["load", "-"],
            format!("rule dir=in action=accept proto=tcp dport=22 limit={limit}").as_bytes(),
        );
        let set = world.net.nft_list("set inet mef r1.4");
        assert!(set.contains(&format!("timeout {life}\n")), "{limit}: {set}");
    }
}
