#![forbid(unsafe_code)]
//! What is allowed and yet probably not meant: rules that can never match, sets that nobody uses, a host that cuts
//! itself off. Knows the host only as far as it is told.

use super::RuleSet;
use super::ast::{Action, Address, Interfaces, Place, Port, Proto, Rule};
use crate::base::diag::{Problem, Severity};
use crate::base::name::IfName;
use crate::base::range::{Family, Range};
use crate::plan::{Direction, ct};
use std::net::IpAddr;

/// What a rule set is checked against.
pub struct Host<'a> {
    /// Names of the interfaces that exist.
    pub interfaces: &'a [String],
    /// The SSH session that the check runs in: its peer and the port on this host.
    pub ssh: Option<(IpAddr, u16)>,
    /// Whether a DHCP client waits for answers, over IPv4 and IPv6.
    pub dhcp: [bool; 2],
    /// Whether every rule is compared with those before it.
    pub thorough: bool,
}

/// A packet of which some things are known.
struct Probe {
    family: Family,
    proto: Proto,
    sport: u16,
    dport: u16,
    /// Bit of `plan::ct`; 0 = conntrack leaves it alone.
    state: u8,
    src: Option<IpAddr>,
}

/// How a rule takes a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Maybe,
    Yes,
}

/// All warnings.
#[must_use]
pub fn warnings(set: &RuleSet, host: &Host<'_>) -> Vec<(u16, Problem)> {
    let mut found = Vec::new();
    unused_sets(set, &mut found);
    missing_interfaces(set, host, &mut found);
    if host.thorough {
        shadowed(set, &mut found);
    }
    cut_off(set, host, &mut found);
    found
}

fn unused_sets(set: &RuleSet, found: &mut Vec<(u16, Problem)>) {
    let mut used = vec![false; set.sets.len()];
    set.each(&mut |_, rule| {
        for ((_, named), used) in set.sets.iter().zip(&mut used) {
            let addresses = rule.src.iter().chain(&rule.dst).any(|a| *a == Address::Set(named.name));
            *used |= addresses || rule.sport.iter().chain(&rule.dport).any(|p| *p == Port::Set(named.name));
        }
    });
    for ((place, named), _) in set.sets.iter().zip(used).filter(|(_, used)| !used) {
        let what = ["no rule uses the set ", named.name.as_str()].concat();
        found.push((place.file, set.mark(*place, Severity::Warning, "name", what, "")));
    }
}

fn missing_interfaces(set: &RuleSet, host: &Host<'_>, found: &mut Vec<(u16, Problem)>) {
    let mut told: Vec<IfName> = Vec::new();
    set.each(&mut |place, rule| {
        for (key, list) in [("iif", &rule.iif), ("oif", &rule.oif)] {
            let Interfaces::Names { names, .. } = list else { continue };
            for name in names {
                if name.wildcard().is_none()
                    && !told.contains(name)
                    && !host.interfaces.iter().any(|i| name.matches(i))
                {
                    told.push(*name);
                    let what = ["there is no interface ", name.as_str(), " now"].concat();
                    let hint = "the rule matches when it comes up";
                    found.push((place.file, set.mark(place, Severity::Warning, key, what, hint)));
                }
            }
        }
    });
}

/// What this host needs to get through, and does not.
fn cut_off(set: &RuleSet, host: &Host<'_>, found: &mut Vec<(u16, Problem)>) {
    let probe = |family, proto, sport, dport, state| Probe { family, proto, sport, dport, state, src: None };
    let mut needs = vec![
        // Neighbour discovery and router advertisements are not tracked.
        (
            probe(Family::V6, Proto::Icmp6, 0, 0, 0),
            "neighbour discovery does not get in, so IPv6 will not work".to_owned(),
            "rule dir=in action=accept proto=icmp6",
        ),
        (
            probe(Family::V4, Proto::Tcp, 443, 50_000, ct::ESTABLISHED),
            "answers to what this host asks for do not get in".to_owned(),
            "rule dir=in action=accept proto=all ct=established,related",
        ),
    ];
    let dhcp = [
        (
            probe(Family::V4, Proto::Udp, 67, 68, ct::NEW),
            "rule dir=in action=accept proto=udp sport=67 dport=68",
        ),
        (
            probe(Family::V6, Proto::Udp, 547, 546, ct::NEW),
            "rule dir=in action=accept proto=udp sport=547 dport=546",
        ),
    ];
    for ((probe, hint), _) in dhcp.into_iter().zip(host.dhcp).filter(|(_, waits)| *waits) {
        needs.push((probe, "answers of the DHCP server do not get in".to_owned(), hint));
    }
    if let Some((peer, port)) = host.ssh {
        let family = Family::of(&peer);
        let packet = Probe { src: Some(peer), ..probe(family, Proto::Tcp, 50_000, port, ct::NEW) };
        let what =
            ["no new SSH session gets in from ", &peer.to_string(), " to port ", &port.to_string()].concat();
        needs.push((packet, what, "that is where you are logged in from"));
    }
    let place = set.policies.first().copied().flatten();
    for (packet, what, hint) in needs {
        if !accepted(set, &packet) {
            found.push(match place {
                Some((at, _)) => (at.file, set.mark(at, Severity::Warning, "action", what, hint)),
                None => (0, Problem::whole(Severity::Warning, what, hint.to_owned())),
            });
        }
    }
}

/// Whether the packet may get in: a rule that might accept it counts, one that might drop it does not.
fn accepted(set: &RuleSet, probe: &Probe) -> bool {
    let mut verdict = None;
    set.each(&mut |_, rule| {
        if verdict.is_some() || rule.dir != Direction::In {
            return;
        }
        let accepts = rule.action == Action::Accept;
        let least = if accepts { Match::Maybe } else { Match::Yes };
        if matches(set, rule, probe) >= least {
            verdict = Some(accepts);
        }
    });
    let policy = set.policies.first().copied().flatten();
    verdict.unwrap_or(policy.is_none_or(|(_, action)| action == Action::Accept))
}

fn matches(set: &RuleSet, rule: &Rule, probe: &Probe) -> Match {
    let state = rule.ct == 0 || rule.ct & probe.state != 0;
    let family = rule.only_family().is_none_or(|f| f == probe.family);
    let proto = rule.proto == Proto::All || rule.proto == probe.proto;
    if !state || !family || !proto {
        return Match::No;
    }
    let mut all = if rule.limit.is_some() || !rule.dst.is_empty() { Match::Maybe } else { Match::Yes };
    for (list, port) in [(&rule.sport, probe.sport), (&rule.dport, probe.dport)] {
        let has = |p: &Port| match p {
            Port::Range(first, last) => (*first..=*last).contains(&port),
            Port::Set(name) => set.set(name).is_some_and(|s| s.has_port(port)),
        };
        if !list.is_empty() && !list.iter().any(has) {
            return Match::No;
        }
    }
    if !rule.src.is_empty() {
        all = all.min(match probe.src {
            None => Match::Maybe,
            Some(src) if set.has_address(&rule.src, src) => Match::Yes,
            Some(_) => Match::No,
        });
    }
    all.min(match &rule.iif {
        Interfaces::Any => Match::Yes,
        Interfaces::Names { not: false, names } if names.iter().all(|n| n.as_str() == "lo") => Match::No,
        _ => Match::Maybe,
    })
}

/// What a rule needs for a first look at whether it covers another one.
struct Short {
    /// Bits of what the rule asks for.
    asks: u8,
    dir: Direction,
    proto: Proto,
    states: u8,
    /// The first port of the first item of dport.
    port: u16,
    /// The first address of the first item of src.
    src: u32,
    place: Place,
}

/// Rules that match nothing because one before them matches all of it.
fn shadowed(set: &RuleSet, found: &mut Vec<(u16, Problem)>) {
    let mut rules: Vec<(Short, Rule)> = Vec::with_capacity(set.rules());
    set.each(&mut |place, rule| rules.push((short(place, rule), rule.clone())));
    for (i, (short, rule)) in rules.iter().enumerate() {
        let before = rules.iter().take(i);
        let cover = before.into_iter().find(|(s, r)| may_cover(s, short) && covers(r, rule));
        if let Some((cover, _)) = cover {
            let what = ["this rule can never match: ", &set.place(cover.place), " takes all of it"].concat();
            let hint = "remove one of them, or change their order";
            found.push((short.place.file, set.mark(short.place, Severity::Warning, "", what, hint)));
        }
    }
}

const ASKS_SRC: u8 = 1;
const ASKS_DPORT: u8 = 2;
/// One item that is a range, so that `src` or `port` alone tells it.
const ONE_SRC: u8 = 64;
const ONE_DPORT: u8 = 128;

fn short(place: Place, rule: &Rule) -> Short {
    let mut asks = 0;
    for (bit, is) in [
        (ASKS_SRC, !rule.src.is_empty()),
        (ASKS_DPORT, !rule.dport.is_empty()),
        (4, !rule.dst.is_empty()),
        (8, !rule.sport.is_empty()),
        (16, rule.only_family().is_some()),
        // Nothing is covered for sure by what a limit lets through.
        (32, rule.limit.is_some()),
    ] {
        asks |= if is { bit } else { 0 };
    }
    let mut short = Short { asks, dir: rule.dir, proto: rule.proto, states: rule.ct, port: 0, src: 0, place };
    if let [Port::Range(first, last)] = *rule.dport
        && first == last
    {
        (short.port, short.asks) = (first, short.asks | ONE_DPORT);
    }
    if let [Address::Range(range)] = &*rule.src
        && let (IpAddr::V4(first), true) = (range.first(), range.first() == range.last())
    {
        (short.src, short.asks) = (first.into(), short.asks | ONE_SRC);
    }
    short
}

/// The cheap part of `covers`; most pairs end here.
fn may_cover(a: &Short, b: &Short) -> bool {
    let both = a.asks & b.asks;
    a.asks & 32 == 0
        && a.asks & !b.asks & 31 == 0
        && (both & ONE_SRC == 0 || a.src == b.src)
        && (both & ONE_DPORT == 0 || a.port == b.port)
        && a.dir == b.dir
        && (a.proto == Proto::All || a.proto == b.proto)
        && (a.states == 0 || b.states != 0 && b.states & !a.states == 0)
}

/// Whether every packet that `b` matches is matched by `a`.
fn covers(a: &Rule, b: &Rule) -> bool {
    let family = a.only_family().is_none_or(|f| b.only_family() == Some(f));
    family
        && addresses_cover(&a.src, &b.src)
        && addresses_cover(&a.dst, &b.dst)
        && ports_cover(&a.sport, &b.sport)
        && ports_cover(&a.dport, &b.dport)
        && interfaces_cover(&a.iif, &b.iif)
        && interfaces_cover(&a.oif, &b.oif)
}

fn addresses_cover(a: &[Address], b: &[Address]) -> bool {
    let inside = |item: &Address| match item {
        Address::Set(_) => a.contains(item),
        Address::Range(range) => a.iter().any(|other| matches!(other, Address::Range(r) if r.covers(range))),
    };
    a.is_empty() || !b.is_empty() && b.iter().all(inside)
}

fn ports_cover(a: &[Port], b: &[Port]) -> bool {
    let inside = |item: &Port| match *item {
        Port::Set(_) => a.contains(item),
        Port::Range(first, last) => {
            a.iter().any(|other| matches!(*other, Port::Range(f, l) if f <= first && last <= l))
        }
    };
    a.is_empty() || !b.is_empty() && b.iter().all(inside)
}

fn interfaces_cover(a: &Interfaces, b: &Interfaces) -> bool {
    match (a, b) {
        (Interfaces::Any, Interfaces::Names { not: false, names }) => {
            !names.iter().any(|n| n.matches("lo") || n.wildcard().is_some())
        }
        (Interfaces::Any, Interfaces::Auto) => true,
        (Interfaces::Names { not: false, names: a }, Interfaces::Names { not: false, names: b }) => {
            b.iter().all(|b| a.iter().any(|a| a == b || b.wildcard().is_none() && a.matches(b.as_str())))
        }
        (a, b) => a == b,
    }
}

impl super::ast::Set {
    fn has_port(&self, port: u16) -> bool {
        matches!(&self.elements, super::ast::Elements::Ports(list) if list.iter().any(|(a, b)| (*a..=*b).contains(&port)))
    }
}

impl RuleSet {
    fn has_address(&self, list: &[Address], addr: IpAddr) -> bool {
        let one = Range::from(addr);
        list.iter().any(|item| match item {
            Address::Range(range) => range.covers(&one),
            Address::Set(name) => self.set(name).is_some_and(|set| {
                matches!(&set.elements, super::ast::Elements::Addresses(all) if all.iter().any(|r| r.covers(&one)))
            }),
        })
    }
}
