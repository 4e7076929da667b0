#![forbid(unsafe_code)]
//! The sets of bans: which one stands for which ports.

use crate::ban::{Scope, Transports};
use crate::base::name::{NAME_MAX, Name};
use crate::base::range::Family;
use std::fmt::Write as _;

/// What kind of set holds a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firewall) enum SetKind {
    /// A hash: IPv4 addresses, IPv6 prefixes of one length.
    Hosts,
    /// Intervals: networks and ranges.
    Networks,
    /// A hash, too: those that the kernel itself has banned for a port scan.
    Scans,
}

impl SetKind {
    /// Those that bans of ours go to.
    pub(in crate::firewall) const ALL: [SetKind; 2] = [SetKind::Hosts, SetKind::Networks];
}

/// Scopes, each with a kind of set that there is for it.
pub(super) type Scopes = Vec<(Scope, SetKind)>;

impl Scope {
    /// The set of its bans, of one kind and family.
    pub(in crate::firewall) fn set(&self, kind: SetKind, family: Family) -> Name {
        if self.is_all() {
            return match (kind, family) {
                (SetKind::Hosts, Family::V4) => Name::of("ban4"),
                (SetKind::Hosts, Family::V6) => Name::of("ban6"),
                (SetKind::Networks, Family::V4) => Name::of("bannet4"),
                (SetKind::Networks, Family::V6) => Name::of("bannet6"),
                (SetKind::Scans, Family::V4) => Name::of("scan_ban4"),
                (SetKind::Scans, Family::V6) => Name::of("scan_ban6"),
            };
        }
        let base = match kind {
            SetKind::Hosts | SetKind::Scans => "ban_",
            SetKind::Networks => "bannet_",
        };
        let mut text = String::from(base);
        text.push_str(match self.transports() {
            Transports::Tcp => "t",
            Transports::Udp => "u",
            Transports::Both => "",
        });
        for (i, (from, to)) in self.ports().iter().enumerate() {
            let _ = write!(text, "{}{from}", if i > 0 { "_" } else { "" });
            if to > from {
                let _ = write!(text, ".{to}");
            }
        }
        let digit = match family {
            Family::V4 => "_4",
            Family::V6 => "_6",
        };
        if text.len() + 2 > NAME_MAX {
            let hash = fnv1a(self.to_string().as_bytes()) & 0x00ff_ffff;
            text = format!("{base}{hash:06x}");
        }
        text.push_str(digit);
        Name::new(&text).unwrap_or(Name::of("ban_x"))
    }
}

/// FNV-1a, to name a set of ports whose list is too long for a name. Names need no secrecy.
pub(in crate::firewall) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_with_the_same_ports_share_a_set() {
        type ScopeRow = (&'static [(u16, u16)], Transports, &'static str);
        let cases: &[ScopeRow] = &[
            (&[(22, 22)], Transports::Both, "ban_22_4"),
            (&[(80, 80), (443, 443)], Transports::Tcp, "ban_t80_443_4"),
            (&[(1000, 2000)], Transports::Both, "ban_1000.2000_4"),
            (&[(25, 25), (465, 465), (587, 587)], Transports::Both, "ban_########_4"),
            (&[(53, 53)], Transports::Udp, "ban_u53_4"),
        ];
        for (ports, transports, name) in cases {
            let scope = Scope::new(ports.to_vec(), *transports);
            let got = scope.set(SetKind::Hosts, Family::V4);
            if name.contains('#') {
                assert!(got.as_str().starts_with("ban_") && got.as_str().ends_with("_4"), "{got}");
            } else {
                assert_eq!(got.as_str(), *name);
            }
            assert!(scope.set(SetKind::Networks, Family::V6).as_str().starts_with("bannet_"));
        }
        assert_eq!(Scope::ALL.set(SetKind::Networks, Family::V6).as_str(), "bannet6");
    }
}
