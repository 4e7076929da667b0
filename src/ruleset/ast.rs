#![forbid(unsafe_code)]
//! The statements of mef.rules as a tree. Values are checked and their order is kept, so that a statement can
//! be printed as it was meant; what it means for packets is `compile`'s matter.

use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range};
use crate::base::range_list::RangeList;
use crate::plan::{Direction, Rate};
use std::ops::{Deref, DerefMut};

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
    /// A name for a text that stands in values as `$name`.
    Let(String, String),
    /// A group of rules.
    Group(Name),
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
    /// It is logged, and the next rule decides.
    Log,
    /// It is counted, and the next rule decides.
    Count,
    /// The source is that of the interface.
    Masquerade,
    /// The source is that of `to=`.
    Snat,
    /// The destination is that of `to=`.
    Dnat,
    /// The destination is this host.
    Redirect,
    /// Its source is remembered in a set for so many seconds, and the next rule decides.
    Add(Name, u32),
    /// The rules behind the one that leads to the group decide.
    Return,
    /// The rules of a group decide, and if they do not, the next one.
    Group(Name),
}

impl Action {
    /// Those without a name, in the order of `words::ACTIONS`.
    pub const ALL: [Action; 10] = [
        Action::Accept,
        Action::Drop,
        Action::Reject,
        Action::Log,
        Action::Count,
        Action::Return,
        Action::Masquerade,
        Action::Snat,
        Action::Dnat,
        Action::Redirect,
    ];

    /// Whether the next rule decides, too.
    #[must_use]
    pub const fn goes_on(self) -> bool {
        matches!(self, Action::Log | Action::Count | Action::Add(..))
    }

    /// Whether it translates addresses.
    #[must_use]
    pub const fn is_nat(self) -> bool {
        matches!(self, Action::Masquerade | Action::Snat | Action::Dnat | Action::Redirect)
    }
}

/// `proto=`: numbers of protocols in the order of the text; none are all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protos([u8; Protos::MAX]);

impl Protos {
    /// Most protocols in a list.
    pub const MAX: usize = 8;

    /// Every protocol.
    pub const ALL: Protos = Protos([0; Protos::MAX]);

    /// These; `None` if they are too many. Number 0 is none.
    #[must_use]
    pub fn new(numbers: &[u8]) -> Option<Protos> {
        let mut all = Protos::ALL;
        all.0.get_mut(..numbers.len())?.copy_from_slice(numbers);
        Some(all)
    }

    /// The numbers.
    #[must_use]
    pub fn numbers(&self) -> &[u8] {
        let len = self.0.iter().position(|n| *n == 0).unwrap_or(Protos::MAX);
        self.0.get(..len).unwrap_or_default()
    }

    /// Whether there is one, and all of them are among these.
    #[must_use]
    pub fn are(&self, known: &[u8]) -> bool {
        !self.numbers().is_empty() && self.numbers().iter().all(|n| known.contains(n))
    }
}

/// Numbers of protocols.
pub mod proto {
    #![allow(missing_docs, reason = "the names are the protocols")]
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMP6: u8 = 58;
    /// Those whose packets have ports that a rule can name.
    pub const WITH_PORTS: [u8; 5] = [TCP, UDP, 33, 132, 136];
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
    /// Those of a named set, or (`true`) every one but those.
    Set(bool, Name),
}

/// One item of `src=`, `dst=`, or of a set of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// An address, a network or a range.
    Range(Range),
    /// The elements of a named set.
    Set(Name),
    /// A kind of address, by its place in `words::KINDS`.
    Kind(u8),
}

/// Bits of `RuleStatement::not`.
pub mod not {
    #![allow(missing_docs, reason = "the names are the keys")]
    pub const PROTO: u8 = 1;
    pub const SRC: u8 = 2;
    pub const DST: u8 = 4;
    pub const SPORT: u8 = 8;
    pub const DPORT: u8 = 16;
    pub const CT: u8 = 32;
}

/// A key that `extra::ROWS` has, with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Its place in that table.
    pub row: u8,
    /// Written with `!` before the first value.
    pub not: bool,
    /// Numbers that mean what the row says: from and to, or value and mask.
    pub items: Box<[(u64, u64)]>,
}

/// `to=`: the new address or some to choose from, and likewise the port.
pub type NatTarget = (Option<Range>, Option<(u16, u16)>);

/// One item of `sport=`, `dport=`, or of a set of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// First and last port.
    Range(u16, u16),
    /// The elements of a named set.
    Set(Name),
}

/// Keys that most rules do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RareKeys {
    /// `sport=`; empty is any.
    pub sport: Vec<Port>,
    /// `group=`: the group that it belongs to. Its direction is that of whoever leads to it; here `Fwd`.
    pub group: Option<Name>,
    /// `log=prefix:TEXT`
    pub log: Option<Box<str>>,
    /// `ratelimit=`: bounds what is logged.
    pub ratelimit: Option<Rate>,
    /// `limit=`: bounds what matches.
    pub limit: Option<LimitOption>,
    /// `burst=`, of `limit`; 0 = not given.
    pub burst: u32,
    /// `to=`
    pub to: Option<NatTarget>,
    /// The keys of `extra::ROWS`, in its order.
    pub extras: Vec<Extra>,
}

static NO_KEYS: RareKeys = RareKeys::NONE;

impl RareKeys {
    const NONE: RareKeys = RareKeys {
        sport: Vec::new(),
        group: None,
        log: None,
        ratelimit: None,
        limit: None,
        burst: 0,
        to: None,
        extras: Vec::new(),
    };
}

/// Those keys, which take memory once one of them is written: of ten thousand rules that are compared with
/// each other they would be a quarter.
#[derive(Debug, Clone, Default)]
pub struct Rare(Option<Box<RareKeys>>);

impl Deref for Rare {
    type Target = RareKeys;

    fn deref(&self) -> &RareKeys {
        self.0.as_deref().unwrap_or(&NO_KEYS)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut RareKeys {
        self.0.get_or_insert_with(|| Box::new(RareKeys::NONE))
    }
}

impl PartialEq for Rare {
    fn eq(&self, other: &Rare) -> bool {
        **self == **other
    }
}

impl Eq for Rare {}

/// A `rule` statement with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStatement {
    /// `dir=`
    pub dir: Direction,
    /// `action=`
    pub action: Action,
    /// `proto=`
    pub proto: Protos,
    /// Which lists begin with `!`: bits of `not`.
    pub not: u8,
    /// `family=`; `None` is any. What `proto=icmp` forces is not written here.
    pub family: Option<Family>,
    /// `iif=`
    pub iif: InterfaceList,
    /// `oif=`
    pub oif: InterfaceList,
    /// `src=`; empty is any.
    pub src: Box<[Address]>,
    /// `dst=`; empty is any.
    pub dst: Box<[Address]>,
    /// `dport=`; empty is any.
    pub dport: Box<[Port]>,
    /// `ct=`: bits of `plan::ct`; 0 is any.
    pub ct: u8,
    /// `comment=`
    pub comment: Box<str>,
    /// All other keys.
    pub rare: Rare,
}

impl RuleStatement {
    /// A rule that does this to every packet of a direction.
    #[must_use]
    pub fn new(dir: Direction, action: Action) -> RuleStatement {
        RuleStatement {
            dir,
            action,
            proto: Protos::ALL,
            not: 0,
            family: None,
            iif: InterfaceList::Any,
            oif: InterfaceList::Any,
            src: Box::default(),
            dst: Box::default(),
            dport: Box::default(),
            ct: 0,
            comment: Box::default(),
            rare: Rare::default(),
        }
    }

    /// Whether a list begins with `!`; of bits of `not`.
    #[must_use]
    pub const fn is_not(&self, bit: u8) -> bool {
        self.not & bit != 0
    }

    /// The only family that its protocols are of.
    #[must_use]
    pub fn proto_family(&self) -> Option<Family> {
        match self.proto {
            _ if self.is_not(not::PROTO) => None,
            all if all.are(&[proto::ICMP]) => Some(Family::V4),
            all if all.are(&[proto::ICMP6]) => Some(Family::V6),
            _ => None,
        }
    }

    /// Whether its packets have ports that it can name.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        !self.is_not(not::PROTO) && self.proto.are(&proto::WITH_PORTS)
    }

    /// The family that `family=`, `proto=` or `to=` leaves.
    #[must_use]
    pub fn only_family(&self) -> Option<Family> {
        let to = self.rare.to.as_ref().and_then(|to| to.0).map(|range| range.family());
        let of_header = self.extra(super::extra::at::EXTHDR).map(|_| Family::V6);
        self.family.or(self.proto_family()).or(to).or(of_header)
    }

    /// The values of a key of `extra::ROWS`.
    #[must_use]
    pub fn extra(&self, row: u8) -> Option<&Extra> {
        self.rare.extras.iter().find(|extra| extra.row == row)
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
    /// `file=`: where the elements stand, one or more per line, relative to the including file; or `source=`
    /// with its [`IPSET`].
    pub file: Box<str>,
}

/// What `source=` begins with: a set of ip_set that somebody else fills.
pub const IPSET: &str = "ipset:";

impl SetStatement {
    /// The set of ip_set that it stands for, if it has no elements of its own.
    #[must_use]
    pub fn ipset(&self) -> Option<&str> {
        self.file.strip_prefix(IPSET)
    }
}

/// What a set holds, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetElements {
    /// `type=addr`
    Addresses(Vec<Range>),
    /// `type=addr` with `file=`: in order, whatever that of the file.
    Listed(RangeList),
    /// `type=port`
    Ports(Vec<(u16, u16)>),
    /// `type=iface`
    Interfaces(Vec<IfName>),
    /// None yet: rules with `action=add:` put addresses in.
    Dynamic,
}
