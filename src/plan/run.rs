#![forbid(unsafe_code)]
//! Runs a plan: what it does to packets of which some things are known. What is not known is never guessed to
//! be a match: rules that might accept are told apart from those that do, and so are those that might drop.

use super::{
    Addresses, Chain, Change, Direction, Elements, Family, Field, Interfaces, Nat, PacketVerdict, Policy,
    Ports, Rule, Set, Sink, Test, Values,
};
use crate::base::name::{IfName, Name};
use crate::base::range::Range;
use crate::base::range_list::RangeList;
use std::net::IpAddr;

/// What the names of groups begin with.
pub const GROUP_PREFIX: &str = "g.";

/// A packet. What is `None` is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The chain that it comes to.
    pub direction: Direction,
    /// IPv4 or IPv6.
    pub family: Family,
    /// `IPPROTO_*`
    pub proto: u8,
    /// Its ports, if it has some.
    pub ports: (Option<u16>, Option<u16>),
    /// Its type, if it is one of ICMP.
    pub icmp: Option<u8>,
    /// Bit of `ct`; 0 = conntrack leaves it alone.
    pub state: u8,
    /// Its addresses.
    pub addrs: (Option<IpAddr>, Option<IpAddr>),
    /// Where it comes in, and where it goes out. One that is not known is not loopback.
    pub links: (Option<IfName>, Option<IfName>),
    /// Whether it has to pass however many others come: what a limit lets through is not certain then.
    pub always: bool,
    /// What else is known of it. A field that it has not, such as the user of a packet that no program sends,
    /// is `None`, and whatever looks at it does not match.
    pub facts: Vec<(Field, Option<u128>)>,
}

impl Packet {
    /// Whether it is one of IPv4 or IPv6, and no frame of another kind.
    fn is_ip(&self) -> bool {
        let ether = self.facts.iter().find(|fact| fact.0 == Field::Ether);
        ether.is_none_or(|(_, ether)| ether.is_some_and(|kind| matches!(kind, 0x0800 | 0x86dd)))
    }
}

/// Whether a packet is matched, or passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PacketAnswer {
    /// For sure not.
    No,
    /// It depends on what is not known.
    Maybe,
    /// For sure.
    Yes,
}

impl From<bool> for PacketAnswer {
    fn from(is: bool) -> PacketAnswer {
        if is { PacketAnswer::Yes } else { PacketAnswer::No }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketFate {
    /// Whether it passes.
    pub passes: PacketAnswer,
    /// The rule of the language that decided, 0 = the policy did.
    pub origin: u32,
}

/// The plan is told to it, and runs packets through the rules as they come.
pub struct PacketRun {
    packets: Vec<Packet>,
    fates: Vec<Option<PacketFate>>,
    /// Whether a rule that was passed might have accepted it.
    perhaps: Vec<bool>,
    policies: [Policy; 7],
    sets: Vec<Set>,
    /// Who was put into which set, by rules that packets came to.
    added: Vec<(Name, IpAddr)>,
    /// The groups, and the chain that was begun last: rules jump to a chain only after all of its own.
    own: Vec<(Name, Vec<Rule>)>,
}

impl PacketRun {
    /// A run of these packets, with what one before has put into sets.
    #[must_use]
    pub fn new(packets: Vec<Packet>, added: Vec<(Name, IpAddr)>) -> PacketRun {
        let (fates, perhaps) = (vec![None; packets.len()], vec![false; packets.len()]);
        PacketRun {
            packets,
            fates,
            perhaps,
            policies: [Policy::Accept; 7],
            sets: Vec::new(),
            added,
            own: Vec::new(),
        }
    }

    /// Who was put into which set.
    #[must_use]
    pub fn added(&self) -> &[(Name, IpAddr)] {
        &self.added
    }

    /// What became of each packet, in their order.
    #[must_use]
    pub fn fates(self) -> Vec<PacketFate> {
        let policies = self.policies;
        let each = self.packets.iter().zip(self.fates).zip(self.perhaps);
        let fate = |((packet, fate), perhaps): ((&Packet, Option<PacketFate>), bool)| {
            let policy = policies.get(packet.direction as usize) == Some(&Policy::Accept);
            let mut fate = fate.unwrap_or(PacketFate { passes: policy.into(), origin: 0 });
            if perhaps {
                fate.passes = fate.passes.max(PacketAnswer::Maybe);
            }
            fate
        };
        each.map(fate).collect()
    }

    fn matches(&self, rule: &Rule, packet: &Packet) -> PacketAnswer {
        let plain = rule.family.is_none_or(|family| family == packet.family && packet.is_ip())
            && rule.proto.is_none_or(|proto| proto == packet.proto && packet.is_ip())
            && (rule.ct == 0 || rule.ct & packet.state != 0);
        if !plain {
            return PacketAnswer::No;
        }
        let limit = rule.limit.as_ref().is_none_or(|limit| limit.over == packet.always);
        let all = [
            interfaces(rule.iif.as_ref(), packet.links.0),
            interfaces(rule.oif.as_ref(), packet.links.1),
            self.addresses(rule.src.as_ref(), packet.addrs.0),
            self.addresses(rule.dst.as_ref(), packet.addrs.1),
            self.ports(rule.sport.as_ref(), packet.ports.0),
            self.ports(rule.dport.as_ref(), packet.ports.1),
            limit.into(),
        ];
        let tests = rule.tests.iter().map(|test| self.test(test, packet));
        all.into_iter().chain(tests).min().unwrap_or(PacketAnswer::Yes)
    }

    fn addresses(&self, list: Option<&Addresses>, addr: Option<IpAddr>) -> PacketAnswer {
        let Some(list) = list else { return PacketAnswer::Yes };
        let Some(addr) = addr else { return PacketAnswer::Maybe };
        let ranges = match list {
            Addresses::Ranges(ranges) => ranges,
            Addresses::Set(name) => match self.set(name) {
                Some(Elements::Addresses(_, ranges)) => ranges,
                // Packets fill it.
                _ if self.added.contains(&(*name, addr)) => return PacketAnswer::Yes,
                _ => return PacketAnswer::Maybe,
            },
        };
        let addr = Range::from(addr);
        ranges.iter().any(|range| range.covers(&addr)).into()
    }

    fn ports(&self, list: Option<&Ports>, port: Option<u16>) -> PacketAnswer {
        let Some(list) = list else { return PacketAnswer::Yes };
        let Some(port) = port else { return PacketAnswer::Maybe };
        let ranges = match list {
            Ports::Ranges(ranges) => ranges,
            Ports::Set(name) => match self.set(name) {
                Some(Elements::Ports(ranges)) => ranges,
                _ => return PacketAnswer::No,
            },
        };
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&port)).into()
    }

    /// How a condition takes a packet. Of most fields nothing is known.
    fn test(&self, test: &Test, packet: &Packet) -> PacketAnswer {
        let number = |addr: Option<IpAddr>| addr.map(|addr| Range::from(addr).numbers().0);
        let value = match test.field {
            // What is no IP has none: it is not even another one.
            Field::Proto if !packet.is_ip() => return PacketAnswer::No,
            Field::Proto => Some(packet.proto.into()),
            Field::Icmp => packet.icmp.map(u128::from),
            Field::Src => number(packet.addrs.0),
            Field::Dst => number(packet.addrs.1),
            Field::Sport => packet.ports.0.map(u128::from),
            Field::Dport => packet.ports.1.map(u128::from),
            field => match packet.facts.iter().find(|fact| fact.0 == field) {
                Some((_, None)) => return PacketAnswer::No,
                fact => fact.and_then(|fact| fact.1),
            },
        };
        let Some(value) = value else { return PacketAnswer::Maybe };
        if let Values::Set(name) = &test.values {
            let has = |(first, last): (u128, u128)| (first..=last).contains(&value);
            let found = match self.set(name) {
                Some(Elements::Addresses(_, all)) => all.iter().any(|range| has(range.numbers())),
                Some(Elements::Ports(all)) => all.iter().any(|(a, b)| has(((*a).into(), (*b).into()))),
                Some(Elements::Many(..)) | None => return PacketAnswer::Maybe,
            };
            return (found != test.not).into();
        }
        test.passes(value).map_or(PacketAnswer::Maybe, PacketAnswer::from)
    }

    fn set(&self, name: &Name) -> Option<&Elements> {
        self.sets.iter().find(|set| set.name == *name).map(|set| &set.elements)
    }

    /// What a rule of a base chain decides on a packet; `perhaps` becomes true if it might accept it.
    fn decides(&self, rule: &Rule, packet: &Packet, perhaps: &mut bool) -> Option<bool> {
        let matches = self.matches(rule, packet);
        let decision = match rule.verdict {
            _ if matches == PacketAnswer::No => return None,
            PacketVerdict::Accept => true,
            PacketVerdict::Drop | PacketVerdict::Reject(_) => false,
            PacketVerdict::Jump(name) => self.inside(name, packet, perhaps)?,
            PacketVerdict::Nat(nat) => stays(&nat, packet),
            PacketVerdict::Return | PacketVerdict::Next => return None,
        };
        if matches == PacketAnswer::Maybe {
            *perhaps |= decision;
            return None;
        }
        Some(decision)
    }

    /// Whether what goes to another port may come to this one: then it is that other one which people use.
    fn leads_here(&self, rule: &Rule, packet: &Packet) -> bool {
        let PacketVerdict::Nat(nat) = rule.verdict else { return false };
        let other = Packet { ports: (packet.ports.0, None), ..packet.clone() };
        nat.ports.is_some() && stays(&nat, packet) && self.matches(rule, &other) != PacketAnswer::No
    }

    /// What the rules of a chain decide, if they do.
    fn inside(&self, name: Name, packet: &Packet, perhaps: &mut bool) -> Option<bool> {
        let rules = self.own.iter().find(|(own, _)| *own == name).map_or(&[][..], |(_, rules)| rules);
        // Who may have left the chain is not decided on by the rules behind.
        let mut may_have_left = false;
        for rule in rules {
            // Groups lead to those before them only.
            match rule.verdict {
                PacketVerdict::Return => match self.matches(rule, packet) {
                    PacketAnswer::Yes => return None,
                    PacketAnswer::Maybe => may_have_left = true,
                    PacketAnswer::No => {}
                },
                PacketVerdict::Accept
                | PacketVerdict::Drop
                | PacketVerdict::Reject(_)
                | PacketVerdict::Jump(_) => {
                    if let Some(decision) = self.decides(rule, packet, perhaps) {
                        *perhaps |= may_have_left && decision;
                        return (!may_have_left).then_some(decision);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Whether a packet gets where it went to though its destination is translated.
fn stays(nat: &Nat, packet: &Packet) -> bool {
    let port = |port| nat.ports.is_none_or(|(first, last)| (first..=last).contains(&port));
    let target = nat.to.zip(packet.addrs.1);
    let here = target.is_none_or(|(to, here)| to.covers(&Range::from(here)));
    here && packet.ports.1.is_some_and(port)
}

/// How a list of interfaces takes one of them; no list takes every one.
fn interfaces(list: Option<&Interfaces>, link: Option<IfName>) -> PacketAnswer {
    let Some(list) = list else { return PacketAnswer::Yes };
    match link {
        Some(link) => {
            let named = list.names.iter().any(|name| name.matches(link.as_str()));
            (named != list.not && !(list.except_lo && link.as_str() == "lo")).into()
        }
        None if list.names.iter().all(|name| name.as_str() == "lo") => list.not.into(),
        None => PacketAnswer::Maybe,
    }
}

impl Sink for PacketRun {
    fn base(&mut self, direction: Direction, policy: Policy) {
        if let Some(slot) = self.policies.get_mut(direction as usize) {
            *slot = policy;
        }
    }

    fn set(&mut self, set: &Set) {
        self.sets.push(set.clone());
    }

    fn listed(&mut self, name: Name, family: Family, list: &RangeList) {
        // Of all of them, those count that one of the packets is in.
        let of = |packet: &Packet| [packet.addrs.0, packet.addrs.1];
        let asked = self.packets.iter().flat_map(of).flatten().map(Range::from);
        let kept = asked.filter(|addr| addr.family() == family).filter_map(|addr| list.find(&addr)).collect();
        self.sets.push(Set { name, elements: Elements::Addresses(family, kept) });
    }

    fn buckets(&mut self, _: Name, _: Family, _: u32) {}

    fn chain(&mut self, name: Name) {
        // No rule jumps to those of one rule any more; groups stay.
        self.own.retain(|(known, _)| known.as_str().starts_with(GROUP_PREFIX));
        self.own.push((name, Vec::new()));
    }

    fn rule(&mut self, chain: Chain, rule: &Rule) {
        let direction = match chain {
            Chain::Own(name) => {
                let found = self.own.iter_mut().find(|(own, _)| *own == name);
                return found.into_iter().for_each(|(_, rules)| rules.push(rule.clone()));
            }
            Chain::Base(direction) => direction,
        };
        for at in 0..self.packets.len() {
            let Some(packet) = self.packets.get(at) else { break };
            if packet.direction != direction {
                continue;
            }
            if self.fates.get(at) != Some(&None) {
                let leads = self.leads_here(rule, packet);
                self.perhaps.get_mut(at).into_iter().for_each(|perhaps| *perhaps |= leads);
                continue;
            }
            let mut perhaps = self.leads_here(rule, packet);
            let decision = self.decides(rule, packet, &mut perhaps);
            let adds = rule.changes.iter().filter_map(|change| match change {
                Change::Add(name, _) => Some(*name),
                _ => None,
            });
            if let Some(addr) = packet.addrs.0
                && rule.verdict == PacketVerdict::Next
                && self.matches(rule, packet) == PacketAnswer::Yes
            {
                self.added.extend(adds.map(|name| (name, addr)));
            }
            if let Some(slot) = self.perhaps.get_mut(at) {
                *slot |= perhaps;
            }
            if let (Some(passes), Some(slot)) = (decision, self.fates.get_mut(at)) {
                *slot = Some(PacketFate { passes: passes.into(), origin: rule.origin });
            }
        }
    }
}
