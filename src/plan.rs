#![forbid(unsafe_code)]
//! A rule set as data, between the language and the kernel: what `ruleset` compiles to and `firewall` loads,
//! and what `firewall` reads back and `ruleset` exports. Knows neither the text of mef.rules nor nf_tables.

pub mod field;
pub mod listed;
pub mod meet;
pub mod run;

use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range};
use crate::base::range_list::RangeList;
pub use field::{Change, Field, LogTarget, Nat, NatKind, NatPick, PacketSide, Test, Values};

/// Which packets a chain sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Packets for this host (hook input).
    In,
    /// Packets of this host (hook output).
    Out,
    /// Packets between others (hook forward).
    Fwd,
    /// First packets of connections before it is known where they go (hook prerouting): translated only.
    Pre,
    /// Those that leave (hook postrouting).
    Post,
    /// Those of this host before they leave (hook output).
    Local,
    /// Frames between ports of a bridge of this host (hook forward of the family bridge).
    Bridge,
}

impl Direction {
    /// Those of rules that decide on packets, in the order in which they are written.
    pub const ALL: [Direction; 3] = [Direction::In, Direction::Out, Direction::Fwd];
    /// Likewise with those that decide on frames.
    pub const DECIDING: [Direction; 4] = [Direction::In, Direction::Out, Direction::Fwd, Direction::Bridge];
    /// Those of rules that translate addresses.
    pub const NAT: [Direction; 3] = [Direction::Pre, Direction::Post, Direction::Local];
    /// All of them, in the order of their numbers.
    pub const EVERY: [Direction; 7] = [
        Direction::In,
        Direction::Out,
        Direction::Fwd,
        Direction::Pre,
        Direction::Post,
        Direction::Local,
        Direction::Bridge,
    ];

    /// Whether its rules translate addresses.
    #[must_use]
    pub const fn is_nat(self) -> bool {
        matches!(self, Direction::Pre | Direction::Post | Direction::Local)
    }

    /// Whether its packets have come in by an interface.
    #[must_use]
    pub const fn comes_in(self) -> bool {
        matches!(self, Direction::In | Direction::Fwd | Direction::Bridge | Direction::Pre)
    }

    /// Whether its packets go out by an interface.
    #[must_use]
    pub const fn goes_out(self) -> bool {
        !matches!(self, Direction::In | Direction::Pre)
    }
}

/// What a chain does with packets that no rule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They pass.
    Accept,
    /// They do not.
    Drop,
}

/// A named set of a rule set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name in the kernel.
    pub name: Name,
    /// What it holds.
    pub elements: Elements,
}

/// The elements of a set, sorted, without overlaps and neighbours that could be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// Addresses of one family.
    Addresses(Family, Vec<Range>),
    /// Ports, first and last of each range.
    Ports(Vec<(u16, u16)>),
    /// Addresses of one family that are too many to be listed: what stands for them.
    Many(Family, String),
}

/// Interfaces by name, whether they exist or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interfaces {
    /// Every interface but these.
    pub not: bool,
    /// At least one.
    pub names: Vec<IfName>,
    /// Nor loopback, though a wildcard among them fits its name.
    pub except_lo: bool,
}

/// Addresses of the rule's family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// Sorted, without overlaps.
    Ranges(Vec<Range>),
    /// Those of a named set.
    Set(Name),
}

/// Ports of TCP or UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// First and last of each range; sorted, without overlaps.
    Ranges(Vec<(u16, u16)>),
    /// Those of a named set.
    Set(Name),
}

/// States of a connection, `ct state` of nft(8); bits may be joined.
pub mod ct {
    /// The connection is known and was answered.
    pub const ESTABLISHED: u8 = 1;
    /// It belongs to a known one.
    pub const RELATED: u8 = 2;
    /// Its first packet.
    pub const NEW: u8 = 4;
    /// Conntrack could not make sense of the packet.
    pub const INVALID: u8 = 8;
    /// Conntrack was told to leave it alone, or does so by itself, as with neighbour discovery.
    pub const UNTRACKED: u8 = 16;
    /// A packet has exactly one of these.
    pub const ALL: u8 = ESTABLISHED | RELATED | NEW | INVALID | UNTRACKED;
    /// In statements only: its destination is translated.
    pub const DNAT: u8 = 32;
    /// In statements only: its source is translated.
    pub const SNAT: u8 = 64;

    /// The bits of the kernel (`IPS_*`) that say the same.
    #[must_use]
    pub const fn status(bits: u8) -> u32 {
        (bits & SNAT) as u32 >> 2 | (bits & DNAT) as u32
    }
}

/// So many packets in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Packets, at least 1.
    pub packets: u32,
    /// Seconds: 1, 60, 3600 or 86400; 0 = connections at the same time, not packets.
    pub per: u32,
}

/// A token bucket; a packet that finds it empty does not match (or, with `over`, no other one does).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How fast it fills.
    pub rate: Rate,
    /// How much it holds, packets.
    pub burst: u32,
    /// Matches what the bucket has no room for.
    pub over: bool,
    /// The dynamic set with a bucket for each source (an IPv6 one by its /64); without it all packets share
    /// one.
    pub set: Option<Name>,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// With a TCP reset.
    Reset,
    /// With an error of ICMP or ICMPv6.
    With(Refusal),
}

/// The errors of ICMP that both families have, by the numbers that the kernel has for them
/// (`NFT_REJECT_ICMPX_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no way to the network.
    NoRoute,
    /// Nobody listens.
    PortUnreachable,
    /// The host is not there.
    HostUnreachable,
    /// It is forbidden.
    AdminProhibited,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Refusal; 4] =
        [Refusal::NoRoute, Refusal::PortUnreachable, Refusal::HostUnreachable, Refusal::AdminProhibited];
}

impl Reject {
    /// How those are answered of whom nothing else is said, if it is not TCP.
    pub const USUAL: Reject = Reject::With(Refusal::PortUnreachable);
}

/// What becomes of a packet that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketVerdict {
    /// It passes this chain.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and the sender hears of it.
    Reject(Reject),
    /// Its connection is translated.
    Nat(Nat),
    /// The rules of a chain that is not a base chain decide, and if they do not, the next rule.
    Jump(Name),
    /// Back to where the chain was jumped to from.
    Return,
    /// The next rule decides.
    Next,
}

/// Which packets a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableOf {
    /// What this host receives, sends and routes.
    Packets,
    /// What its bridges forward.
    Frames,
}

/// Where rules stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// A base chain.
    Base(Direction),
    /// A chain that rules jump to.
    Own(Name),
}

/// What a rule set is compiled to, object by object: nothing is kept, so that its size does not matter.
pub trait Sink {
    /// What follows is for this kind of table; at first it is for packets.
    fn table(&mut self, _of: TableOf) {}
    /// A base chain; all of them come first in their table.
    fn base(&mut self, direction: Direction, policy: Policy);
    /// A named set.
    fn set(&mut self, set: &Set);
    /// A named set of the ranges of a family; there may be many.
    fn listed(&mut self, name: Name, family: Family, list: &RangeList) {
        let mut ranges = Vec::new();
        list.each(family, &mut |range| ranges.push(range));
        self.set(&Set { name, elements: Elements::Addresses(family, ranges) });
    }
    /// A named set that stands for one of ip_set, which somebody else fills; only iptables can ask it.
    fn foreign(&mut self, _name: Name, _set: &str) {}
    /// A dynamic set of token buckets, one for each source of a family; a bucket is forgotten after `timeout`
    /// s.
    fn buckets(&mut self, name: Name, family: Family, timeout: u32);
    /// A chain that the following rules jump to.
    fn chain(&mut self, name: Name);
    /// A rule at the end of a chain.
    fn rule(&mut self, chain: Chain, rule: &Rule);
}

/// One rule of the kernel. What is `None` or empty matches every packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// IPv4 or IPv6 packets only.
    pub family: Option<Family>,
    /// Protocol number (`IPPROTO_*`).
    pub proto: Option<u8>,
    /// Where the packet came in.
    pub iif: Option<Interfaces>,
    /// Where it goes out.
    pub oif: Option<Interfaces>,
    /// Its source.
    pub src: Option<Addresses>,
    /// Its destination.
    pub dst: Option<Addresses>,
    /// Its source port.
    pub sport: Option<Ports>,
    /// Its destination port.
    pub dport: Option<Ports>,
    /// Bits of `ct`, 0 = any.
    pub ct: u8,
    /// What else has to hold, in the order of the fields.
    pub tests: Vec<Test>,
    /// Bounds how many packets match.
    pub limit: Option<Limit>,
    /// Prefix of the kernel's log line for the packet.
    pub log: Option<String>,
    /// Where that goes.
    pub log_to: LogTarget,
    /// What is done to the packet.
    pub changes: Vec<Change>,
    /// Whether packets and bytes are counted.
    pub counter: bool,
    /// What becomes of the packet.
    pub verdict: PacketVerdict,
    /// For people; may be empty.
    pub comment: String,
    /// Which rule of the language this is a part of, counted from 1 over the whole rule set; 0 = none.
    pub origin: u32,
}

impl Rule {
    /// A rule that matches every packet.
    #[must_use]
    pub fn new(verdict: PacketVerdict) -> Rule {
        Rule {
            family: None,
            proto: None,
            iif: None,
            oif: None,
            src: None,
            dst: None,
            sport: None,
            dport: None,
            ct: 0,
            tests: Vec::new(),
            limit: None,
            log: None,
            log_to: LogTarget::DEFAULT,
            changes: Vec::new(),
            counter: true,
            verdict,
            comment: String::new(),
            origin: 0,
        }
    }
}
