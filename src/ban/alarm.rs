#![forbid(unsafe_code)]
//! What the kernel reports of what it does by itself.

use std::net::IpAddr;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloodLimit {
    /// SYN packets.
    Syn,
    /// New connections.
    New,
    /// Connections at the same time.
    Conns,
}

impl FloodLimit {
    /// All of them, in the order in which a packet meets them.
    pub const ALL: [FloodLimit; 3] = [FloodLimit::Syn, FloodLimit::New, FloodLimit::Conns];

    /// The configuration's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            FloodLimit::Syn => "syn_rate",
            FloodLimit::New => "newconn_rate",
            FloodLimit::Conns => "connlimit",
        }
    }
}

/// What a rule reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// A port scan, whose source is banned.
    Scan,
    /// A source that has gone over a limit of a port.
    Flood(FloodLimit),
    /// A source that has not been seen for a time.
    New,
}

/// A packet that was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportedPacket {
    /// Why.
    pub alarm: Alarm,
    /// Who sent it; nothing proves that.
    pub from: IpAddr,
    /// The port that it went to; 0 = behind headers that are not looked into.
    pub port: u16,
}
