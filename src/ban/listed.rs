#![forbid(unsafe_code)]
//! What is in force, as the kernel tells it.

use super::{Capabilities, Scope};
use crate::base::range::{Family, Range};

/// A ban in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanEntry<'a> {
    /// Whom.
    pub addr: Range,
    /// Which ports.
    pub scope: &'a Scope,
    /// The service rule, empty for a ban by hand.
    pub rule: &'a str,
    /// Hits that led to it, 0 = not known.
    pub hits: u32,
    /// Free text, or empty.
    pub reason: &'a str,
    /// Seconds since it began; `None` if that is not known.
    pub age: Option<u64>,
    /// Seconds it has left; `None` for a permanent one.
    pub left: Option<u64>,
    /// Packets dropped, where each element counts.
    pub packets: Option<u64>,
}

/// The rule of bans that the kernel makes for port scans.
pub const SCANS: &str = "portscan";
/// What the history says of a scan before its ports.
pub const TOUCHED: &str = "touched closed ports ";
/// The rule of bans of those who flood again and again.
pub const FLOODS: &str = "flood";
/// What the rules of bans of whom a DNSBL lists begin with; the key of its profile follows.
pub const LISTED: &str = "rbl-";
/// The key of the community cloud among them.
pub const CLOUD: &str = "community";
/// What is shown for the rule of a ban by hand, which has none.
pub const BY_HAND: &str = "manual";

/// Milliseconds that a port is remembered after something has listened on it: a service that restarts is no
/// closed port.
pub const PORT_MEMORY: u64 = 86_400_000;
/// A scanner, and what it was seen to touch.
pub struct Scanner {
    /// An address, or an IPv6 prefix of the table's length.
    pub addr: Range,
    /// Closed ports, in no order.
    pub ports: Vec<u16>,
}

/// A source that is to be reported again when it comes again, as one that was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unseen {
    /// An address, or an IPv6 prefix of the table's length.
    pub who: Range,
    /// After so many seconds.
    pub after: u32,
}

/// What there is for bans, whatever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardState {
    /// Length of the prefix that an IPv6 offender is.
    pub ipv6_prefix: u8,
    /// Whether drops are logged.
    pub logs: bool,
    /// What of it is in force that a kernel can do by itself.
    pub watches: Capabilities,
    /// What is asked of the kernel, and lacks.
    pub lacks: Capabilities,
}

/// What a set of a deny list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListMembers {
    /// Single addresses.
    #[default]
    Addresses,
    /// Networks.
    Networks,
}

/// Which of the sets of a deny list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListForm {
    /// Of what family all of it is.
    pub family: Family,
    /// What it holds.
    pub members: ListMembers,
}

impl ListForm {
    /// All sets that a list can have.
    pub const ALL: [ListForm; 4] = [
        ListForm { family: Family::V4, members: ListMembers::Addresses },
        ListForm { family: Family::V6, members: ListMembers::Addresses },
        ListForm { family: Family::V4, members: ListMembers::Networks },
        ListForm { family: Family::V6, members: ListMembers::Networks },
    ];
}

/// Which list, and which content of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListId {
    /// Stands for the list's name.
    pub list: u64,
    /// Stands for what is in it.
    pub content: u64,
}
