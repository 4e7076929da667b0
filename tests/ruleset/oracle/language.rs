//! Random rules, and what they mean: a plain interpreter of the language that knows nothing of the program's
//! parser and compiler. Each word of a rule stands beside the condition that a packet has to fulfil.

use crate::common::backend::is_fallback;
use crate::common::world::{Fate, Kind, Packet, Spot, World};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The direction that the rules of a rule set are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
    Fwd,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::In, Way::Out, Way::Fwd];

    pub fn word(self) -> &'static str {
        ["in", "out", "fwd"][self as usize]
    }

    /// Who sends to whom.
    pub fn routes(self) -> &'static [(Spot, Spot)] {
        match self {
            Way::In => &[(Spot::Friend, Spot::Host), (Spot::Stranger, Spot::Host), (Spot::Host, Spot::Host)],
            Way::Out => &[(Spot::Host, Spot::Friend), (Spot::Host, Spot::Stranger), (Spot::Host, Spot::Host)],
            Way::Fwd => &[(Spot::Friend, Spot::Stranger), (Spot::Stranger, Spot::Friend)],
        }
    }
}

/// What the firewall sees of a packet.
#[derive(Debug)]
pub struct Seen {
    kind: Kind,
    v6: bool,
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
    established: bool,
    /// Where it comes in and goes out; empty where it does not.
    iif: &'static str,
    oif: &'static str,
}

impl Seen {
    pub fn new(world: &World, packet: &Packet, established: bool) -> Seen {
        let Packet { kind, from, to, v6, sport, dport } = *packet;
        let link = |spot| match spot {
            Spot::Host if from == to => "lo",
            Spot::Host => "",
            Spot::Friend => "v0",
            Spot::Stranger => "v1",
        };
        let (src, dst) = (world.address(from, to, v6), world.address(to, from, v6));
        Seen { kind, v6, src, dst, sport, dport, established, iif: link(from), oif: link(to) }
    }
}

type Condition = Box<dyn Fn(&Seen) -> bool>;

/// `limit=`: the packets that were let through, by source or in all.
struct Bucket {
    burst: u32,
    by_source: bool,
    used: BTreeMap<String, u32>,
}

impl Bucket {
    /// Takes a packet, if there is room. Buckets are not filled again within an hour.
    fn take(&mut self, packet: &Seen) -> bool {
        let source = match packet.src {
            // iptables has a bucket for each family.
            _ if !self.by_source => (is_fallback() && packet.src.is_ipv6()).to_string(),
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("{:x?}", &v6.octets()[..8]),
        };
        let used = self.used.entry(source).or_default();
        *used += 1;
        *used <= self.burst
    }
}

/// One rule: its text and what it means.
pub struct Rule {
    pub text: String,
    /// None = the next rule decides, too.
    fate: Option<Fate>,
    /// Rules of the group that it leads to.
    group: Vec<Rule>,
    conditions: Vec<Condition>,
    bucket: Option<Bucket>,
}

/// What a packet meets: the first rule that matches, or the policy.
pub fn judge(rules: &mut [Rule], policy: Fate, packet: &Seen) -> Fate {
    for rule in rules {
        let fulfilled = rule.conditions.iter().all(|fulfilled| fulfilled(packet));
        if fulfilled && rule.bucket.as_mut().is_none_or(|bucket| bucket.take(packet)) {
            let inner = rule.group.iter().find(|rule| {
                rule.fate.is_some() && rule.conditions.iter().all(|fulfilled| fulfilled(packet))
            });
            if let Some(fate) = inner.and_then(|rule| rule.fate).or(rule.fate) {
                return fate;
            }
        }
    }
    policy
}

pub fn pick<T: Clone>(rng: &mut fastrand::Rng, all: &[T]) -> T {
    all[rng.usize(0..all.len())].clone()
}

pub const ACTIONS: [(&str, Fate); 3] =
    [("accept", Fate::Passes), ("drop", Fate::Lost), ("reject", Fate::Refused)];
/// Sets that rules name.
pub const SETS: &str = "\
let both=v0,v1
let far=198.51.100.0/24,2001:db8:1::/64
set name=links family=any type=iface elements=v1,nothing*
set name=one family=any type=addr elements=198.51.100.2,2001:db8:1::/64
set name=low family=any type=port elements=1000,1001
";

/// A word of a comma list, and what it says of a value.
pub type Item<T> = (&'static str, fn(T) -> bool);

fn begins(address: IpAddr, text: &str) -> bool {
    address.to_string().starts_with(text)
}

/// Those of the host.
const LOCAL: [&str; 6] = ["192.0.2.1", "198.51.100.1", "127.0.0.1", "::1", "2001:db8::1", "2001:db8:1::1"];
const ADDRESSES: [Item<IpAddr>; 12] = [
    ("local", |a| LOCAL.contains(&a.to_string().as_str())),
    ("multicast", |_| false),
    ("$far", |a| begins(a, "198.51.100.") || begins(a, "2001:db8:1:")),
    ("192.0.2.2", |a| a.to_string() == "192.0.2.2"),
    ("192.0.2.0/24", |a| begins(a, "192.0.2.")),
    ("192.0.2.2-198.51.100.1", |a| ["192.0.2.2", "198.51.100.1"].contains(&a.to_string().as_str())),
    ("0.0.0.0/0", |a| a.is_ipv4()),
    ("::/0", |a| a.is_ipv6()),
    ("2001:db8::2", |a| a.to_string() == "2001:db8::2"),
    ("2001:db8:1::/48", |a| begins(a, "2001:db8:1:")),
    ("203.0.113.0/24", |_| false),
    ("@one", |a| a.to_string() == "198.51.100.2" || begins(a, "2001:db8:1::")),
];
const DPORTS: [Item<u16>; 5] = [
    ("1000", |p| p == 1000),
    ("1001-1999", |p| (1001..2000).contains(&p)),
    ("2000", |p| p == 2000),
    ("7", |_| false),
    ("@low", |p| p < 1002),
];
const SPORTS: [Item<u16>; 4] = [
    ("5000", |p| p == 5000),
    ("5000-5999", |p| p < 6000),
    ("6000", |p| p == 6000),
    ("6001-7999", |p| p > 6000),
];
/// Of the names v0, v1 and lo.
pub const INTERFACES: [Item<&str>; 14] = [
    ("@links", |i| i == "v1"),
    ("!@links", |i| i == "v0"),
    ("$both", |i| i != "lo"),
    ("any", |i| i != "lo"),
    ("v0", |i| i == "v0"),
    ("v0,v1", |i| i != "lo"),
    ("!v1", |i| i == "v0"),
    ("l*", |_| false),
    ("lo*,v1", |i| i == "v1"),
    ("!lo", |i| i != "lo"),
    ("!lo,v0", |i| i == "v1"),
    ("v*", |i| i != "lo"),
    ("lo", |i| i == "lo"),
    ("lo,v1*,nothing", |i| i != "v0"),
];
/// Those for loopback only, and those without it.
pub const APART: [Item<&str>; 6] = [
    ("any", |i| i != "lo"),
    ("lo", |i| i == "lo"),
    ("lo", |i| i == "lo"),
    ("v0", |i| i == "v0"),
    ("!lo", |i| i != "lo"),
    ("!v1,lo", |i| i == "v0"),
];
const STATES: [Item<bool>; 8] = [
    ("!new", |established| established),
    ("!established,invalid,dnat", |established| !established),
    ("!related,snat", |_| true),
    ("any", |_| true),
    ("new", |established| !established),
    ("established", |established| established),
    ("new,established", |_| true),
    ("related,invalid", |_| false),
];
/// Of the protocol and whether it is IPv6.
const PROTOCOLS: [Item<(Kind, bool)>; 15] = [
    ("esp,igmp,vrrp", |_| false),
    ("!gre,112", |_| true),
    ("ah,89", |_| false),
    ("!esp,icmp,icmp6", |(kind, _)| kind != Kind::Ping),
    ("tcp,udp", |(kind, _)| kind != Kind::Ping),
    ("!tcp", |(kind, _)| kind != Kind::Tcp),
    ("!17,gre", |(kind, _)| kind != Kind::Udp),
    ("udp,esp", |(kind, _)| kind == Kind::Udp),
    ("icmp,icmp6", |(kind, _)| kind == Kind::Ping),
    ("tcp", |(kind, _)| kind == Kind::Tcp),
    ("udp", |(kind, _)| kind == Kind::Udp),
    ("udp", |(kind, _)| kind == Kind::Udp),
    ("all", |_| true),
    ("icmp", |(kind, v6)| kind == Kind::Ping && !v6),
    ("icmp6", |(kind, v6)| kind == Kind::Ping && v6),
];
/// All packets of ICMP are echo requests.
const ICMP: [Item<bool>; 8] = [
    ("ping", |_| true),
    ("echo-request", |_| true),
    ("errors", |_| false),
    ("!errors", |_| true),
    ("!ping,13", |_| false),
    ("8", |v6| !v6),
    ("128-137", |v6| v6),
    ("nd,echo-reply", |_| false),
];
/// Of connections that begin.
const FLAGS: [Item<bool>; 4] = [
    ("syn/fin,syn,rst,ack", |_| true),
    ("!syn", |_| false),
    ("syn,ack", |_| false),
    ("!none/fin,syn", |_| true),
];
const CODE_POINTS: [Item<bool>; 4] =
    [("cs0", |_| true), ("ef,cs1-cs3", |_| false), ("!ef", |_| true), ("0-63", |_| true)];
/// Of packets that come in; of whether it is IPv6.
const PACKET_TYPES: [Item<bool>; 4] =
    [("host", |_| true), ("!host", |_| false), ("broadcast,multicast", |_| false), ("!broadcast", |_| true)];
/// How those are answered who are refused: of these a sender hears at once.
const ANSWERS: [&str; 2] = ["port-unreachable", "admin-prohibited"];
const KINDS: [Item<IpAddr>; 4] = [
    ("local", |a| LOCAL.contains(&a.to_string().as_str())),
    ("!local", |a| !LOCAL.contains(&a.to_string().as_str())),
    ("local,unicast", |_| true),
    ("!multicast", |_| true),
];
const FAMILIES: [Item<bool>; 3] = [("any", |_| true), ("ip", |v6| !v6), ("ip6", |v6| v6)];

impl Rule {
    /// One of the words, about a value of the packet.
    fn one<T: 'static>(&mut self, rng: &mut fastrand::Rng, key: &str, all: &[Item<T>], of: fn(&Seen) -> T) {
        let (word, says) = pick(rng, all);
        self.text += &format!(" {key}={word}");
        self.conditions.push(Box::new(move |packet| says(of(packet))));
    }

    /// A comma list of which one word has to be right.
    fn list<T: Copy + 'static>(
        &mut self,
        rng: &mut fastrand::Rng,
        key: &str,
        all: &[Item<T>],
        of: fn(&Seen) -> T,
    ) {
        let chosen: Vec<Item<T>> = (0..rng.usize(1..4)).map(|_| pick(rng, all)).collect();
        let words: Vec<&str> = chosen.iter().map(|(word, _)| *word).collect();
        let not = rng.u8(0..4) == 0;
        self.text += &format!(" {key}={}{}", if not { "!" } else { "" }, words.join(","));
        let any = move |packet: &Seen| chosen.iter().any(|(_, says)| says(of(packet)));
        self.conditions.push(Box::new(move |packet| any(packet) != not));
    }

    pub fn random(rng: &mut fastrand::Rng, way: Way, links: &'static [Item<&'static str>]) -> Rule {
        loop {
            let rule = Rule::perhaps(rng, way, links);
            if rule.families_meet() && rule.has_kinds_once() {
                return rule;
            }
        }
    }

    /// Whether source and destination can be of one family; if not, the rule is an error.
    fn families_meet(&self) -> bool {
        let list = |key: &str| self.text.split(key).nth(1).and_then(|rest| rest.split(' ').next());
        let (Some(src), Some(dst)) = (list(" src="), list(" dst=")) else { return true };
        let of = |sign: char, list: &str| {
            list.starts_with('!')
                || list.contains([sign, '@', '$'])
                || list.contains("local")
                || list.contains("cast")
        };
        ['.', ':'].into_iter().any(|sign| of(sign, src) && of(sign, dst))
    }

    /// Whether kinds of addresses stand in one key of each side.
    fn has_kinds_once(&self) -> bool {
        ["src", "dst"].into_iter().all(|side| {
            let of = |key: &str| self.text.split(key).nth(1).and_then(|rest| rest.split(' ').next());
            let list = of(&[" ", side, "="].concat()).unwrap_or_default();
            let has_kind = list.contains("local") || list.contains("cast");
            !has_kind || of(&[" ", side, "-kind="].concat()).is_none()
        })
    }

    /// A rule of the group: without interfaces, limits and logs.
    pub fn grouped(rng: &mut fastrand::Rng) -> Rule {
        loop {
            let (action, fate) = pick(rng, &ACTIONS);
            let (action, fate) = if rng.u8(0..4) == 0 { ("count", None) } else { (action, Some(fate)) };
            let text = format!("rule group=g action={action}");
            let mut rule = Rule { text, fate, group: Vec::new(), conditions: Vec::new(), bucket: None };
            rule.headers(rng);
            rule.answer(rng);
            if rule.families_meet() && rule.has_kinds_once() {
                return rule;
            }
        }
    }

    fn perhaps(rng: &mut fastrand::Rng, way: Way, links: &'static [Item<&'static str>]) -> Rule {
        let (action, fate) = pick(rng, &ACTIONS);
        let (action, fate) = match rng.u8(0..8) {
            0 => ("count", None),
            1 => ("log log=prefix:on", None),
            2 => ("group:g", None),
            _ => (action, Some(fate)),
        };
        let text = format!("rule dir={} action={action}", way.word());
        let mut rule = Rule { text, fate, group: Vec::new(), conditions: Vec::new(), bucket: None };
        let udp = rule.headers(rng);
        rule.answer(rng);
        if way != Way::Out && rng.u8(0..6) == 0 {
            rule.one(rng, "pkttype", &PACKET_TYPES, |p| p.v6);
        }
        // Loopback is never meant by a rule that does not name an interface.
        let without = |rule: &mut Rule| rule.conditions.push(Box::new(|p| p.iif != "lo"));
        if way != Way::Out {
            if rng.u8(0..3) == 0 { rule.one(rng, "iif", links, |p| p.iif) } else { without(&mut rule) }
        }
        if way != Way::In {
            if rng.u8(0..3) == 0 { rule.one(rng, "oif", links, |p| p.oif) } else { without(&mut rule) }
        }
        if rng.u8(0..4) == 0 {
            rule.one(rng, "ct", &STATES, |p| p.established);
        }
        if rng.u8(0..4) == 0 && !rule.text.contains(" log=") {
            rule.text += " log=prefix:oracle ratelimit=1/d";
        }
        if rng.u8(0..6) == 0 {
            // Wide enough for all packets of a round.
            rule.text += " limit=1000000/s burst=100000";
        } else if udp && rng.u8(0..4) == 0 {
            // Of datagrams only: nothing sends them twice.
            let (burst, by_source) = (rng.u32(1..12), rng.bool());
            rule.text += &format!(" limit=1/h{} burst={burst}", if by_source { "/src" } else { "" });
            rule.bucket = Some(Bucket { burst, by_source, used: BTreeMap::new() });
        }
        rule
    }

    /// How it answers, if it refuses.
    fn answer(&mut self, rng: &mut fastrand::Rng) {
        if self.text.contains("action=reject") && rng.bool() {
            self.text += &format!(" with={}", pick(rng, &ANSWERS));
        }
    }

    /// Whether it leads to the group.
    pub fn is_leading(&self) -> bool {
        self.text.contains("action=group:g")
    }

    /// Has it lead to these rules.
    pub fn lead_to(&mut self, rules: Vec<Rule>) {
        self.group = rules;
    }

    /// Protocol, addresses, ports and the like. Whether all that matches is UDP.
    fn headers(&mut self, rng: &mut fastrand::Rng) -> bool {
        let rule = self;
        rule.one(rng, "proto", &PROTOCOLS, |p| (p.kind, p.v6));
        let proto = rule.text.rsplit('=').next().unwrap().to_owned();
        let (tcp, udp) = (proto == "tcp", proto == "udp");
        let (both, icmp) = (proto == "tcp,udp", proto.starts_with("icmp"));
        let mut addresses = false;
        for (key, of) in [("src", (|p| p.src) as fn(&Seen) -> IpAddr), ("dst", |p| p.dst)] {
            if !icmp && rng.u8(0..3) == 0 {
                rule.list(rng, key, &ADDRESSES, of);
                addresses = true;
            }
        }
        for (key, of) in [("src-kind", (|p| p.src) as fn(&Seen) -> IpAddr), ("dst-kind", |p| p.dst)] {
            if rng.u8(0..8) == 0 {
                rule.one(rng, key, &KINDS, of);
            }
        }
        if !addresses && !icmp && rng.u8(0..3) == 0 {
            rule.one(rng, "family", &FAMILIES, |p| p.v6);
        }
        if (tcp || udp || both) && rng.bool() {
            rule.list(rng, "dport", &DPORTS, |p| p.dport);
        }
        if (tcp || udp || both) && rng.u8(0..4) == 0 {
            rule.list(rng, "sport", &SPORTS, |p| p.sport);
        }
        if icmp && rng.bool() {
            rule.one(rng, "icmp", &ICMP, |p| p.v6);
        }
        if tcp && rng.u8(0..4) == 0 {
            rule.one(rng, "flags", &FLAGS, |p| p.v6);
        }
        if rng.u8(0..8) == 0 {
            rule.one(rng, "dscp", &CODE_POINTS, |p| p.v6);
        }
        udp
    }
}
