#![forbid(unsafe_code)]
//! What packets that rules of ours report are reported for, and to whom: the rules write it, and `nflog`
//! reads it.

use crate::ban::{Alarm, FloodLimit};

/// The group of port scans and floods.
pub const ALARMS: u16 = 5;
/// The group of new sources, of which there may be more: none of them is read before an alarm.
pub const NEWS: u16 = 6;
/// Bytes of a packet that are reported: the headers.
pub const SNAPLEN: u32 = 64;

impl Alarm {
    pub(super) const ALL: [Alarm; 5] = [
        Alarm::Scan,
        Alarm::Flood(FloodLimit::Syn),
        Alarm::Flood(FloodLimit::New),
        Alarm::Flood(FloodLimit::Conns),
        Alarm::New,
    ];

    /// The prefix by which rules tell it.
    #[must_use]
    pub const fn prefix(self) -> &'static std::ffi::CStr {
        match self {
            Alarm::Scan => c"mef scan",
            Alarm::Flood(FloodLimit::Syn) => c"mef flood syn",
            Alarm::Flood(FloodLimit::New) => c"mef flood new",
            Alarm::Flood(FloodLimit::Conns) => c"mef flood conns",
            Alarm::New => c"mef new",
        }
    }
}
