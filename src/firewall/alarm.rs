#![forbid(unsafe_code)]
//! What packets that rules of ours report are reported for, and to whom: the rules write it, and `nflog`
//! reads it.

/// The group of port scans and floods.
pub const ALARMS: u16 = 5;
/// The group of new sources, of which there may be more: none of them is read before an alarm.
pub const NEWS: u16 = 6;
/// Bytes of a packet that are reported: the headers.
pub const SNAPLEN: u32 = 64;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// SYN packets.
    Syn,
    /// New connections.
    New,
    /// Connections at the same time.
    Conns,
}

impl Limit {
    /// All of them, in the order in which a packet meets them.
    pub const ALL: [Limit; 3] = [Limit::Syn, Limit::New, Limit::Conns];

    /// The configuration's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Limit::Syn => "syn_rate",
            Limit::New => "newconn_rate",
            Limit::Conns => "connlimit",
        }
    }
}

/// What a rule reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// A port scan, whose source is banned.
    Scan,
    /// A source that has gone over a limit of a port.
    Flood(Limit),
    /// A source that has not been seen for a time.
    New,
}

impl Alarm {
    pub(super) const ALL: [Alarm; 5] = [
        Alarm::Scan,
        Alarm::Flood(Limit::Syn),
        Alarm::Flood(Limit::New),
        Alarm::Flood(Limit::Conns),
        Alarm::New,
    ];

    /// The prefix by which rules tell it.
    #[must_use]
    pub const fn prefix(self) -> &'static std::ffi::CStr {
        match self {
            Alarm::Scan => c"mef scan",
            Alarm::Flood(Limit::Syn) => c"mef flood syn",
            Alarm::Flood(Limit::New) => c"mef flood new",
            Alarm::Flood(Limit::Conns) => c"mef flood conns",
            Alarm::New => c"mef new",
        }
    }
}
