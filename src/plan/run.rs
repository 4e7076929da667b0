#![forbid(unsafe_code)]
//! Runs a plan: what it does to packets of which some things are known. What is not known is never guessed to
//! be a match: rules that might accept are told apart from those that do, and so are those that might drop.

use super::{
    Addresses, Chain, Direction, Elements, Family, Interfaces, PacketVerdict, Policy, Ports, Rule, Set, Sink,
};
use crate::base::name::{IfName, Name};
use crate::base::range::Range;
use std::net::IpAddr;

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
    /// Bit of `ct`; 0 = conntrack leaves it alone.
    pub state: u8,
    /// Its addresses.
    pub addrs: (Option<IpAddr>, Option<IpAddr>),
    /// Where it comes in, and where it goes out. One that is not known is not loopback.
    pub links: (Option<IfName>, Option<IfName>),
    /// Whether it has to pass however many others come: what a limit lets through is not certain then.
    pub always: bool,
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
    policies: [Policy; 3],
    sets: Vec<Set>,
    /// The chain that was begun last: rules jump to it only after all of its own.
    own: Option<(Name, Vec<Rule>)>,
}

impl PacketRun {
    /// A run of these packets.
    #[must_use]
    pub fn new(packets: Vec<Packet>) -> PacketRun {
        let (fates, perhaps) = (vec![None; packets.len()], vec![false; packets.len()]);
        PacketRun { packets, fates, perhaps, policies: [Policy::Accept; 3], sets: Vec::new(), own: None }
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
        let plain = rule.family.is_none_or(|family| family == packet.family)
            && rule.proto.is_none_or(|proto| proto == packet.proto)
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
        all.into_iter().min().unwrap_or(PacketAnswer::Yes)
    }

    fn addresses(&self, list: Option<&Addresses>, addr: Option<IpAddr>) -> PacketAnswer {
        let Some(list) = list else { return PacketAnswer::Yes };
        let Some(addr) = addr.map(Range::from) else { return PacketAnswer::Maybe };
        let ranges = match list {
            Addresses::Ranges(ranges) => ranges,
            Addresses::Set(name) => match self.set(name) {
                Some(Elements::Addresses(_, ranges)) => ranges,
                _ => return PacketAnswer::No,
            },
        };
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
            PacketVerdict::Return | PacketVerdict::Next => return None,
        };
        if matches == PacketAnswer::Maybe {
            *perhaps |= decision;
            return None;
        }
        Some(decision)
    }

    /// What the rules of a chain decide, if they do.
    fn inside(&self, name: Name, packet: &Packet, perhaps: &mut bool) -> Option<bool> {
        let rules = self.own.as_ref().filter(|(own, _)| *own == name).map_or(&[][..], |(_, rules)| rules);
        for rule in rules {
            // Chains of ours jump to no others.
            match rule.verdict {
                PacketVerdict::Return if self.matches(rule, packet) == PacketAnswer::Yes => return None,
                PacketVerdict::Accept | PacketVerdict::Drop | PacketVerdict::Reject(_) => {
                    if let Some(decision) = self.decides(rule, packet, perhaps) {
                        return Some(decision);
                    }
                }
                _ => {}
            }
        }
        None
    }
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

    fn buckets(&mut self, _: Name, _: Family, _: u32) {}

    fn chain(&mut self, name: Name) {
        self.own = Some((name, Vec::new()));
    }

    fn rule(&mut self, chain: Chain, rule: &Rule) {
        let direction = match (chain, &mut self.own) {
            (Chain::Own(name), Some((own, rules))) if name == *own => return rules.push(rule.clone()),
            (Chain::Own(_), _) => return,
            (Chain::Base(direction), _) => direction,
        };
        for at in 0..self.packets.len() {
            let Some(packet) = self.packets.get(at) else { break };
            if packet.direction != direction || self.fates.get(at) != Some(&None) {
                continue;
            }
            let mut perhaps = false;
            let decision = self.decides(rule, packet, &mut perhaps);
            if let Some(slot) = self.perhaps.get_mut(at) {
                *slot |= perhaps;
            }
            if let (Some(passes), Some(slot)) = (decision, self.fates.get_mut(at)) {
                *slot = Some(PacketFate { passes: passes.into(), origin: rule.origin });
            }
        }
    }
}
