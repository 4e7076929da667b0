#![forbid(unsafe_code)]
//! What is allowed and yet probably not meant: rules that can never match, sets that nobody uses, a host that cuts
//! itself off. Knows the host only as far as it is told.

use super::ast::{Action, Address, Interfaces, Place, Port, Proto, Rule};
use super::shadow::{Seen, short};
use super::{RuleSet, full};
use crate::base::diag::{Problem, Severity};
use crate::base::name::IfName;
use crate::base::range::{Family, Range};
use crate::plan::{Direction, ct};
use std::net::IpAddr;

/// What a rule set is checked against.
pub struct Host<'a> {
    /// Whether there is an interface of this name.
    pub has_interface: &'a dyn Fn(&str) -> bool,
    /// The SSH session that the check runs in: its peer and the port on this host.
    pub ssh: Option<(IpAddr, u16)>,
    /// Whether a DHCP client waits for answers, over IPv4 and IPv6.
    pub dhcp: [bool; 2],
    /// Whether every rule is compared with those before it.
    pub thorough: bool,
}

/// A packet of which some things are known.
#[derive(Clone, Copy)]
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
    let mut asked = Vec::new();
    let mut needs = needs(host);
    let mut seen = Seen::default();
    set.each(&mut |place, rule| {
        if full(&mut found, place.file, Severity::Warning) {
            return;
        }
        mark_used(set, rule, &mut used);
        missing_interfaces(set, host, place, rule, &mut asked, &mut found);
        for need in &mut needs {
            need.see(set, rule);
        }
        if host.thorough {
            let short = short(place, rule);
            if let Some(cover) = seen.cover(&short, rule) {
                let what = ["this rule can never match: ", &set.place(cover), " takes all of it"].concat();
                let hint = "remove one of them, or change their order";
                found.push((place.file, set.mark(place, Severity::Warning, "", what, hint)));
            }
            seen.add(short, rule.clone());
        }
    });
    for ((place, named), _) in set.sets.iter().zip(used).filter(|(_, used)| !used) {
        if full(&mut found, place.file, Severity::Warning) {
            return found;
        }
        let what = ["no rule uses the set ", named.name.as_str()].concat();
        found.push((place.file, set.mark(*place, Severity::Warning, "name", what, "")));
    }
    let policy = set.policies.first().copied().flatten();
    let accepts = policy.is_none_or(|(_, action)| action == Action::Accept);
    for need in needs {
        if let Some(what) = need.unmet(accepts) {
            found.push(match policy {
                Some((at, _)) => (at.file, set.mark(at, Severity::Warning, "action", what, need.hint)),
                None => (0, Problem::whole(Severity::Warning, what, need.hint.to_owned())),
            });
        }
    }
    found
}

fn mark_used(set: &RuleSet, rule: &Rule, used: &mut [bool]) {
    let addresses = rule.src.iter().chain(&rule.dst);
    let ports = rule.sport.iter().chain(&rule.dport);
    let addresses = addresses.filter_map(|a| if let Address::Set(name) = a { Some(name) } else { None });
    let ports = ports.filter_map(|p| if let Port::Set(name) = p { Some(name) } else { None });
    for name in addresses.chain(ports) {
        if let Some(slot) = set.position(name).ok().and_then(|i| used.get_mut(i)) {
            *slot = true;
        }
    }
}

fn missing_interfaces(
    set: &RuleSet,
    host: &Host<'_>,
    place: Place,
    rule: &Rule,
    asked: &mut Vec<IfName>,
    found: &mut Vec<(u16, Problem)>,
) {
    for (key, list) in [("iif", &rule.iif), ("oif", &rule.oif)] {
        let Interfaces::Names { names, .. } = list else { continue };
        for name in names {
            // Every network has its loopback.
            if name.as_str() == "lo" || name.wildcard().is_some() || asked.contains(name) {
                continue;
            }
            asked.push(*name);
            if !(host.has_interface)(name.as_str()) {
                let what = ["there is no interface ", name.as_str(), " now"].concat();
                let hint = "the rule matches when it comes up";
                found.push((place.file, set.mark(place, Severity::Warning, key, what, hint)));
            }
        }
    }
}

/// Packets that have to get in, all of them.
struct Need {
    /// Each with whether it does, once a rule has decided, and the words for it.
    probes: Vec<(Probe, Option<bool>, &'static str)>,
    what: String,
    hint: &'static str,
}

impl Need {
    /// A rule that might accept a packet counts, one that might drop it does not.
    fn see(&mut self, set: &RuleSet, rule: &Rule) {
        if rule.dir != Direction::In {
            return;
        }
        let accepts = rule.action == Action::Accept;
        let least = if accepts { Match::Maybe } else { Match::Yes };
        for (probe, verdict, _) in &mut self.probes {
            if verdict.is_none() && matches(set, rule, probe) >= least {
                *verdict = Some(accepts);
            }
        }
    }

    /// What does not get in, if something does not; `accepts` is the policy.
    fn unmet(&self, accepts: bool) -> Option<String> {
        let left_out = self.probes.iter().filter(|(_, verdict, _)| !verdict.unwrap_or(accepts));
        let words: Vec<&str> = left_out.map(|(.., word)| *word).collect();
        match words.len() {
            0 => None,
            all if all == self.probes.len() => Some(self.what.clone()),
            _ => Some([self.what.as_str(), ": ", &words.join(", ")].concat()),
        }
    }
}

/// What this host needs to get through.
fn needs(host: &Host<'_>) -> Vec<Need> {
    let probe = |family, proto, sport, dport, state| Probe { family, proto, sport, dport, state, src: None };
    let need =
        |probe, what: &str, hint| Need { probes: vec![(probe, None, "")], what: what.to_owned(), hint };
    let answer =
        |family, proto, sport, dport, word| (probe(family, proto, sport, dport, ct::ESTABLISHED), None, word);
    let error = |family, proto, word| (probe(family, proto, 0, 0, ct::RELATED), None, word);
    let mut needs = vec![
        // Neighbour discovery and router advertisements are not tracked.
        need(
            probe(Family::V6, Proto::Icmp6, 0, 0, 0),
            "neighbour discovery does not get in, so IPv6 will not work",
            "rule dir=in action=accept proto=icmp6",
        ),
        Need {
            probes: vec![
                answer(Family::V4, Proto::Tcp, 443, 50_000, "TCP over IPv4"),
                answer(Family::V6, Proto::Tcp, 443, 50_000, "TCP over IPv6"),
                answer(Family::V4, Proto::Udp, 53, 50_000, "UDP over IPv4"),
                answer(Family::V6, Proto::Udp, 53, 50_000, "UDP over IPv6"),
                error(Family::V4, Proto::Icmp, "ICMP errors"),
                error(Family::V6, Proto::Icmp6, "ICMPv6 errors"),
            ],
            what: "answers to what this host asks for do not get in".into(),
            hint: "rule dir=in action=accept proto=all ct=established,related",
        },
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
