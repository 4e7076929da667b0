#![forbid(unsafe_code)]
//! What rules look at beside addresses, ports, interfaces and states, and what they change in a packet: one
//! shape for all of it, so that a new field is a row of a table and no new code.

use crate::base::name::Name;
use crate::base::range::Range;

/// A property of a packet, of its connection or of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Protocol number.
    Proto,
    /// Source address, of the rule's family.
    Src,
    /// Destination address.
    Dst,
    /// Source port.
    Sport,
    /// Destination port.
    Dport,
    /// Type of ICMP or ICMPv6, whichever the rule's protocol is.
    Icmp,
    /// Flags of TCP.
    Flags,
    /// The packet's mark.
    Mark,
    /// Bits of what NAT does to the connection, [`super::ct::status`].
    Status,
    /// The user whose socket sends it.
    Uid,
    /// The group whose socket sends it.
    Gid,
    /// Differentiated services code point.
    Dscp,
    /// How many routers a packet may pass yet: time to live of IPv4, hop limit of IPv6.
    Ttl,
    /// Source address of the Ethernet frame.
    Mac,
    /// Day of the week, Sunday is 0, in UTC.
    Day,
    /// Seconds since midnight, in UTC.
    Time,
    /// Kind of the source address (`RTN_*`).
    SrcKind,
    /// Kind of the destination address.
    DstKind,
    /// Type of the frame's content (`ETH_P_*`), behind its tag.
    Ether,
    /// Number of the virtual LAN, of a frame with a tag.
    Vlan,
    /// Interface that the way back to the source leads over, where that is the one it came in by; else 0.
    WayBack,
    /// For whom the frame was that it came in: `PACKET_*`.
    PacketType,
    /// An extension header of IPv6 that it has, by its number; with [`ROUTING_TYPE`] added, a routing header
    /// of the type in the upper byte.
    Header,
}

/// Added to the number of a routing header, of which one type is meant.
pub const ROUTING_TYPE: u128 = 0x8000;

/// Whose addresses and ports are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketSide {
    /// Of who sends the packet.
    Source,
    /// Of whom it is for.
    Destination,
}

impl PacketSide {
    /// Both, in the order in which headers have them.
    pub const BOTH: [PacketSide; 2] = [PacketSide::Source, PacketSide::Destination];

    /// Of two things, that for this side.
    #[must_use]
    pub fn of<T>(self, source: T, destination: T) -> T {
        match self {
            PacketSide::Source => source,
            PacketSide::Destination => destination,
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> Field {
        self.of(Field::Src, Field::Dst)
    }

    /// Its port.
    #[must_use]
    pub fn port(self) -> Field {
        self.of(Field::Sport, Field::Dport)
    }
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Values {
    /// First and last of each range; sorted, without overlaps.
    Ranges(Vec<(u128, u128)>),
    /// Those of a named set.
    Set(Name),
}

/// A condition on one field. A rule matches if all of its tests pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// What is looked at.
    pub field: Field,
    /// Bits of it that count; 0 = all.
    pub mask: u128,
    /// Every value but these.
    pub not: bool,
    /// The values.
    pub values: Values,
}

impl Test {
    /// That a field is in one of these ranges, which may come in any order.
    #[must_use]
    pub fn new(field: Field, mut ranges: Vec<(u128, u128)>) -> Test {
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1.saturating_add(1);
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        Test { field, mask: 0, not: false, values: Values::Ranges(ranges) }
    }

    /// That a field is in none of them.
    #[must_use]
    pub fn none_of(field: Field, ranges: Vec<(u128, u128)>) -> Test {
        Test { not: true, ..Test::new(field, ranges) }
    }

    /// That of the bits of `mask` those of `value` are set, and no others.
    #[must_use]
    pub fn bits(field: Field, value: u128, mask: u128) -> Test {
        Test { mask, ..Test::new(field, vec![(value, value)]) }
    }

    /// Whether a value passes; `None` if that hangs on a set.
    #[must_use]
    pub fn passes(&self, value: u128) -> Option<bool> {
        let value = if self.mask == 0 { value } else { value & self.mask };
        match &self.values {
            Values::Set(_) => None,
            Values::Ranges(all) => {
                Some(all.iter().any(|(first, last)| (*first..=*last).contains(&value)) != self.not)
            }
        }
    }
}

/// What a rule does to a packet that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Sets these bits of the mark: value and mask. With no mask, those of the value are turned over.
    Mark(u32, u32),
    /// Lowers the maximum segment size of TCP; 0 = to what the path's MTU leaves.
    Mss(u16),
    /// Remembers the source in a set, for so many seconds.
    Add(Name, u32),
    /// What follows of its connection is forwarded past the rules.
    Offload,
}

/// How an address of a packet is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// Its source, to these.
    Snat,
    /// Its destination, to these.
    Dnat,
    /// Its source, to the address of the interface that it goes out by.
    Masquerade,
    /// Its destination, to this host.
    Redirect,
}

/// How a new address or port is picked of those that there are, where the kernel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatPick {
    /// Ports at random.
    Random,
    /// The same, without a start that a packet tells.
    FullyRandom,
    /// A client has the same address each time.
    Persistent,
}

impl NatPick {
    /// All of them, with the bits of the kernel (`NF_NAT_RANGE_*`).
    pub const ALL: [(NatPick, u32); 3] =
        [(NatPick::Random, 4), (NatPick::FullyRandom, 16), (NatPick::Persistent, 8)];
}

/// Network address translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// What is translated.
    pub kind: NatKind,
    /// The new address, or some to choose from.
    pub to: Option<Range>,
    /// The new port, or some to choose from.
    pub ports: Option<(u16, u16)>,
    /// How they are picked.
    pub pick: Option<NatPick>,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// The kernel's log, with a level of syslog(3).
    Level(u8),
    /// A group of nfnetlink_log.
    Group(u16),
}

impl LogTarget {
    /// The level that the kernel takes where none is told.
    pub const DEFAULT: LogTarget = LogTarget::Level(4);
}
