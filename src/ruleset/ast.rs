#![forbid(unsafe_code)]
//! The statements of mef.rules as a tree. Values are checked and their order is kept, so that a statement can
//! be printed as it was meant; what it means for packets is `compile`'s matter.

use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range};
use crate::plan::{Direction, Rate};

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementPlace {
    /// Which of the files that were read, counted from 0; the first one includes the others.
    pub file: u16,
    /// Line, counted from 1.
    pub line: u32,
}

/// A line with something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// What happens to packets that no rule decides on.
    Policy(Direction, Action),
    /// A rule.
    Rule(Box<RuleStatement>),
    /// A named set.
    Set(SetStatement),
    /// Other files, in the order of their names: a path or a glob, relative to the including file.
    Include(String),
}

/// What a rule or policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The packet passes.
    Accept,
    /// The packet is gone.
    Drop,
    /// The packet is gone, and its sender hears of it.
    Reject,
}

impl Action {
    /// All of them, in the order of `words::ACTIONS`.
    pub const ALL: [Action; 3] = [Action::Accept, Action::Drop, Action::Reject];
}

/// `proto=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    /// Every protocol.
    All,
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP, and so IPv4
    Icmp,
    /// ICMPv6, and so IPv6
    Icmp6,
}

impl Proto {
    /// All of them, in the order of `words::PROTOCOLS`.
    pub const ALL: [Proto; 5] = [Proto::All, Proto::Tcp, Proto::Udp, Proto::Icmp, Proto::Icmp6];

    /// Whether its packets have ports that a rule can name.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Proto::Tcp | Proto::Udp)
    }

    /// The only family that it is of.
    #[must_use]
    pub const fn family(self) -> Option<Family> {
        match self {
            Proto::Icmp => Some(Family::V4),
            Proto::Icmp6 => Some(Family::V6),
            _ => None,
        }
    }
}

/// `limit=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOption {
    /// Packets in a time.
    pub rate: Rate,
    /// A bucket for each source address instead of one for all.
    pub per_source: bool,
}

/// `iif=`, `oif=`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceList {
    /// Every one but loopback.
    Any,
    /// Every one, `*`.
    Every,
    /// That of the default route.
    Auto,
    /// By name: these, or (`not`) every one but these.
    Names {
        /// Written with `!` before the first name.
        not: bool,
        /// At least one.
        names: Box<[IfName]>,
    },
}

/// One item of `src=`, `dst=`, or of a set of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// An address, a network or a range.
    Range(Range),
    /// The elements of a named set.
    Set(Name),
}

/// One item of `sport=`, `dport=`, or of a set of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// First and last port.
    Range(u16, u16),
    /// The elements of a named set.
    Set(Name),
}

/// A `rule` statement with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStatement {
    /// `dir=`
    pub dir: Direction,
    /// `action=`
    pub action: Action,
    /// `proto=`
    pub proto: Proto,
    /// `family=`; `None` is any. What `proto=icmp` forces is not written here.
    pub family: Option<Family>,
    /// `log=prefix:TEXT`
    pub log: Option<Box<str>>,
    /// `ratelimit=`: bounds what is logged.
    pub ratelimit: Option<Rate>,
    /// `limit=`: bounds what matches.
    pub limit: Option<LimitOption>,
    /// `burst=`, of `limit`; 0 = not given.
    pub burst: u32,
    /// `iif=`
    pub iif: InterfaceList,
    /// `oif=`
    pub oif: InterfaceList,
    /// `src=`; empty is any.
    pub src: Box<[Address]>,
    /// `dst=`; empty is any.
    pub dst: Box<[Address]>,
    /// `sport=`; empty is any.
    pub sport: Box<[Port]>,
    /// `dport=`; empty is any.
    pub dport: Box<[Port]>,
    /// `ct=`: bits of `plan::ct`; 0 is any.
    pub ct: u8,
    /// `comment=`
    pub comment: Box<str>,
}

impl RuleStatement {
    /// The family that `family=` or `proto=` leaves.
    #[must_use]
    pub fn only_family(&self) -> Option<Family> {
        self.family.or(self.proto.family())
    }
}

/// A `set` statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatement {
    /// `name=`
    pub name: Name,
    /// `family=`; `None` is any. Of a set of ports always `None`.
    pub family: Option<Family>,
    /// `type=` and `elements=`
    pub elements: SetElements,
}

/// What a set holds, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetElements {
    /// `type=addr`
    Addresses(Vec<Range>),
    /// `type=port`
    Ports(Vec<(u16, u16)>),
}
