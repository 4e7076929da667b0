#![forbid(unsafe_code)]
//! What the configuration says of what is to be in force.

use super::Capabilities;
use crate::base::clock::Mono;
use crate::base::name::IfName;

/// Which traffic a ban covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To this host and through it.
    HostAndForward,
    /// To this host only.
    Host,
    /// Through this host only.
    Forward,
}

/// What of the kernel bans are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// nf_tables, or, where that cannot be used, what can.
    #[default]
    Auto,
    /// nf_tables.
    Nftables,
    /// iptables and ip_set.
    Iptables,
}

/// How dropped packets are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropLog {
    /// Text before the packet's description, at most 127 bytes.
    pub prefix: std::ffi::CString,
    /// As in syslog(3), 0 to 7.
    pub level: u32,
    /// Lines a second.
    pub rate: u32,
    /// Lines in a burst.
    pub burst: u32,
}

/// What the configuration says of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What it is to be in force in.
    pub backend: BackendChoice,
    /// Length of the prefix that an IPv6 offender is, 1 to 128.
    pub ipv6_prefix: u8,
    /// Refuse with RST or ICMP rather than drop.
    pub reject: bool,
    /// Which traffic is covered.
    pub reach: Reach,
    /// Log what is dropped.
    pub log: Option<DropLog>,
    /// Count packets for each banned address.
    pub element_counters: bool,
    /// The table is the daemon's own.
    pub owner: bool,
    /// Interfaces in whose ingress hook packets are dropped, instead of in prerouting; only for
    /// [`Reach::HostAndForward`].
    pub ingress: Vec<IfName>,
    /// Ban port scans inside the kernel.
    pub scan: Option<ScanOptions>,
    /// Hold floods back inside the kernel.
    pub flood: Option<FloodOptions>,
    /// Tell of sources that are new.
    pub seen: Option<SeenOptions>,
    /// What is done without, even where the kernel has it.
    pub without: Capabilities,
}

impl Default for Options {
    fn default() -> Self {
        let log = DropLog { prefix: c"MEF_".into(), level: 4, rate: 1, burst: 5 };
        Options {
            backend: BackendChoice::Auto,
            ipv6_prefix: 64,
            reject: false,
            reach: Reach::HostAndForward,
            log: Some(log),
            element_counters: false,
            owner: false,
            ingress: Vec::new(),
            scan: None,
            flood: None,
            seen: None,
            without: Capabilities::NONE,
        }
    }
}

/// What is a scan, and what becomes of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// Distinct closed ports within the interval that are still fine.
    pub limit: u32,
    /// Seconds.
    pub interval: u32,
    /// Seconds.
    pub bantime: u32,
    /// Whether datagrams count.
    pub udp: bool,
    /// Where scans are looked for; `None` = everywhere but there where they are not.
    pub interfaces: Option<Vec<IfName>>,
    /// Where they are not, in that case.
    pub excluded: Vec<IfName>,
    /// Whether ports that a socket listens on, or did within a day, are known by that, not to count.
    pub listening: bool,
    /// Ports that do not count, ends included.
    pub ports: Vec<(u16, u16)>,
    /// Before this nothing counts: services are still being started.
    pub calm_until: Mono,
}

/// Limits of one source for one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimits {
    /// SYN packets a second, and at once.
    pub syn: (u32, u32),
    /// First packets of connections a second, and at once.
    pub new: (u32, u32),
    /// Connections at the same time.
    pub conns: u32,
}

/// What is a flood, and what becomes of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloodOptions {
    /// First and last port, and their limits. Of several that have a port the first one counts.
    pub ports: Vec<(u16, u16, FloodLimits)>,
    /// Drop everything of a source in the throttle, and not only what is over a limit.
    pub drop: bool,
    /// Seconds that a source stays in the throttle.
    pub timeout: u32,
}

/// Whose connections are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenOptions {
    /// First and last TCP port of each range; empty = all.
    pub ports: Vec<(u16, u16)>,
    /// Seconds after which somebody is new again.
    pub timeout: u32,
}
