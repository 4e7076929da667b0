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
    let mut used = vec![false; set.sets.len()];
    let mut told = Vec::new();
    let mut needs = needs(host);
    // The short forms stand apart: all of them are looked at for every rule.
    let (mut shorts, mut rules) = (Vec::new(), Vec::new());
    set.each(&mut |place, rule| {
        mark_used(set, rule, &mut used);
        missing_interfaces(set, host, place, rule, &mut told, &mut found);
        for need in &mut needs {
            need.see(set, rule);
        }
        if host.thorough {
            let short = short(place, rule);
            shadowed(set, &short, rule, &shorts, &rules, &mut found);
            shorts.push(short);
            rules.push(rule.clone());
        }
    });
    for ((place, named), _) in set.sets.iter().zip(used).filter(|(_, used)| !used) {
        let what = ["no rule uses the set ", named.name.as_str()].concat();
        found.push((place.file, set.mark(*place, Severity::Warning, "name", what, "")));
    }
    let policy = set.policies.first().copied().flatten();
    let accepts = policy.is_none_or(|(_, action)| action == Action::Accept);
    for Need { what, hint, verdict, .. } in needs {
        if !verdict.unwrap_or(accepts) {
            found.push(match policy {
                Some((at, _)) => (at.file, set.mark(at, Severity::Warning, "action", what, hint)),
                None => (0, Problem::whole(Severity::Warning, what, hint.to_owned())),
            });
        }
    }
    found
}

fn mark_used(set: &RuleSet, rule: &Rule, used: &mut [bool]) {
    for ((_, named), used) in set.sets.iter().zip(used) {
        let addresses = rule.src.iter().chain(&rule.dst).any(|a| *a == Address::Set(named.name));
        *used |= addresses || rule.sport.iter().chain(&rule.dport).any(|p| *p == Port::Set(named.name));
    }
}

fn missing_interfaces(
    set: &RuleSet,
    host: &Host<'_>,
    place: Place,
    rule: &Rule,
    told: &mut Vec<IfName>,
    found: &mut Vec<(u16, Problem)>,
) {
    for (key, list) in [("iif", &rule.iif), ("oif", &rule.oif)] {
        let Interfaces::Names { names, .. } = list else { continue };
        for name in names {
            let known = name.wildcard().is_some() || host.interfaces.iter().any(|i| name.matches(i));
            if !known && !told.contains(name) {
                told.push(*name);
                let what = ["there is no interface ", name.as_str(), " now"].concat();
                let hint = "the rule matches when it comes up";
                found.push((place.file, set.mark(place, Severity::Warning, key, what, hint)));
            }
        }
    }
}

/// A packet that has to get in.
struct Need {
    probe: Probe,
    what: String,
    hint: &'static str,
    /// Whether it does, once a rule has decided.
    verdict: Option<bool>,
}

impl Need {
    /// A rule that might accept it counts, one that might drop it does not.
    fn see(&mut self, set: &RuleSet, rule: &Rule) {
        if self.verdict.is_some() || rule.dir != Direction::In {
            return;
        }
        let accepts = rule.action == Action::Accept;
        let least = if accepts { Match::Maybe } else { Match::Yes };
        if matches(set, rule, &self.probe) >= least {
            self.verdict = Some(accepts);
        }
    }
}

/// What this host needs to get through.
fn needs(host: &Host<'_>) -> Vec<Need> {
    let probe = |family, proto, sport, dport, state| Probe { family, proto, sport, dport, state, src: None };
    let need = |probe, what: &str, hint| Need { probe, what: what.to_owned(), hint, verdict: None };
    let mut needs = vec![
        // Neighbour discovery and router advertisements are not tracked.
        need(
            probe(Family::V6, Proto::Icmp6, 0, 0, 0),
            "neighbour discovery does not get in, so IPv6 will not work",
            "rule dir=in action=accept proto=icmp6",
        ),
        need(
            probe(Family::V4, Proto::Tcp, 443, 50_000, ct::ESTABLISHED),
            "answers to what this host asks for do not get in",
            "rule dir=in action=accept proto=all ct=established,related",
        ),
    ];
    let dhcp = [
        (Family::V4, (67, 68), "rule dir=in action=accept proto=udp sport=67 dport=68"),
        (Family::V6, (547, 546), "rule dir=in action=accept proto=udp sport=547 dport=546"),
    ];
    for ((family, (sport, dport), hint), _) in dhcp.into_iter().zip(host.dhcp).filter(|(_, waits)| *waits) {
        let packet = probe(family, Proto::Udp, sport, dport, ct::NEW);
        needs.push(need(packet, "answers of the DHCP server do not get in", hint));
    }
    if let Some((peer, port)) = host.ssh {
        let packet = Probe { src: Some(peer), ..probe(Family::of(&peer), Proto::Tcp, 50_000, port, ct::NEW) };
        let what =
            ["no new SSH session gets in from ", &peer.to_string(), " to port ", &port.to_string()].concat();
        needs.push(need(packet, &what, "that is where you are logged in from"));
    }
    needs
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
        Interfaces::Any | Interfaces::Every => Match::Yes,
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

/// A rule that matches nothing because one before it matches all of it.
fn shadowed(
    set: &RuleSet,
    short: &Short,
    rule: &Rule,
    shorts: &[Short],
    rules: &[Rule],
    found: &mut Vec<(u16, Problem)>,
) {
    let mut before = shorts.iter().zip(rules);
    if let Some((cover, _)) = before.find(|(s, r)| may_cover(s, short) && covers(r, rule)) {
        let what = ["this rule can never match: ", &set.place(cover.place), " takes all of it"].concat();
        let hint = "remove one of them, or change their order";
        found.push((short.place.file, set.mark(short.place, Severity::Warning, "", what, hint)));
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
    // Neither a limit nor anything that `b` leaves open.
    a.asks & (!b.asks & 31 | 32) == 0
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
        (Interfaces::Any, Interfaces::Auto) | (Interfaces::Every, _) => true,
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
