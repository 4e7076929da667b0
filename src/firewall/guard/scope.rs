#![forbid(unsafe_code)]
//! The ports that a ban covers, and the set that stands for them.

use crate::base::name::{NAME_MAX, Name};
use crate::base::range::Family;
use std::fmt::Write as _;

/// What kind of set holds a ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A hash: IPv4 addresses, IPv6 prefixes of one length.
    Hosts,
    /// Intervals: networks and ranges.
    Networks,
    /// A hash, too: those that the kernel itself has banned for a port scan.
    Scans,
}

impl Kind {
    /// Those that bans of ours go to.
    pub const ALL: [Kind; 2] = [Kind::Hosts, Kind::Networks];
}

/// Scopes, each with a kind of set that there is for it.
pub(super) type Scopes = Vec<(Scope, Kind)>;

/// What a ban covers: everything, or some ports of TCP, UDP or both. Rules and hand-made bans with the
/// same ports share a set, so the number of look-ups does not grow with the number of rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    ports: Vec<(u16, u16)>,
    tcp: bool,
    udp: bool,
}

impl Scope {
    /// Every packet.
    pub const ALL: Scope = Scope { ports: Vec::new(), tcp: true, udp: true };

    /// Sorted ranges of ports, ends included; none = all ports and protocols.
    #[must_use]
    pub fn new(ports: Vec<(u16, u16)>, tcp: bool, udp: bool) -> Scope {
        if ports.is_empty() { Scope::ALL } else { Scope { ports, tcp, udp } }
    }

    /// Whether it covers every packet.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.ports.is_empty()
    }

    /// The ranges of ports, ends included.
    #[must_use]
    pub fn ports(&self) -> &[(u16, u16)] {
        &self.ports
    }

    /// The protocols that a rule has to ask for.
    #[must_use]
    pub fn protocols(&self) -> (bool, bool) {
        (self.tcp, self.udp)
    }

    /// The set of its bans, of one kind and family.
    #[must_use]
    pub fn set(&self, kind: Kind, family: Family) -> Name {
        if self.is_all() {
            return match (kind, family) {
                (Kind::Hosts, Family::V4) => Name::of("ban4"),
                (Kind::Hosts, Family::V6) => Name::of("ban6"),
                (Kind::Networks, Family::V4) => Name::of("bannet4"),
                (Kind::Networks, Family::V6) => Name::of("bannet6"),
                (Kind::Scans, Family::V4) => Name::of("scan_ban4"),
                (Kind::Scans, Family::V6) => Name::of("scan_ban6"),
            };
        }
        let base = match kind {
            Kind::Hosts | Kind::Scans => "ban_",
            Kind::Networks => "bannet_",
        };
        let mut text = String::from(base);
        text.push_str(match (self.tcp, self.udp) {
            (true, false) => "t",
            (false, true) => "u",
            _ => "",
        });
        for (i, (from, to)) in self.ports.iter().enumerate() {
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

    /// Reads what `Display` writes.
    #[must_use]
    pub fn read(text: &str) -> Option<Scope> {
        let (ports, protocol) = match text.split_once('/') {
            Some((ports, protocol)) => (ports, Some(protocol)),
            None => (text, None),
        };
        let (tcp, udp) = match protocol {
            None => (true, true),
            Some("tcp") => (true, false),
            Some("udp") => (false, true),
            Some(_) => return None,
        };
        let mut ranges = Vec::new();
        for part in ports.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            ranges.push((from.parse().ok()?, to.parse().ok()?));
        }
        (ranges.iter().all(|(from, to)| from <= to)).then(|| Scope::new(ranges, tcp, udp))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (from, to)) in self.ports.iter().enumerate() {
            write!(f, "{}{from}", if i > 0 { "," } else { "" })?;
            if to > from {
                write!(f, "-{to}")?;
            }
        }
        match (self.is_all(), self.tcp, self.udp) {
            (true, ..) => f.write_str("all"),
            (false, true, false) => f.write_str("/tcp"),
            (false, false, true) => f.write_str("/udp"),
            _ => Ok(()),
        }
    }
}

/// FNV-1a, to name a set of ports whose list is too long for a name. Names need no secrecy.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_names_and_texts_that_read_back() {
        type Row = (&'static [(u16, u16)], bool, bool, &'static str, &'static str);
        let cases: &[Row] = &[
            (&[(22, 22)], true, true, "22", "ban_22_4"),
            (&[(80, 80), (443, 443)], true, false, "80,443/tcp", "ban_t80_443_4"),
            (&[(1000, 2000)], true, true, "1000-2000", "ban_1000.2000_4"),
            (&[(25, 25), (465, 465), (587, 587)], true, true, "25,465,587", "ban_########_4"),
            (&[(53, 53)], false, true, "53/udp", "ban_u53_4"),
        ];
        for (ports, tcp, udp, text, name) in cases {
            let scope = Scope::new(ports.to_vec(), *tcp, *udp);
            assert_eq!(scope.to_string(), *text);
            assert_eq!(Scope::read(text), Some(scope.clone()));
            let got = scope.set(Kind::Hosts, Family::V4);
            if name.contains('#') {
                assert!(got.as_str().starts_with("ban_") && got.as_str().ends_with("_4"), "{got}");
            } else {
                assert_eq!(got.as_str(), *name);
            }
            assert!(scope.set(Kind::Networks, Family::V6).as_str().starts_with("bannet_"));
        }
        assert_eq!(Scope::ALL.set(Kind::Networks, Family::V6).as_str(), "bannet6");
        for bad in ["", "x", "22,", "5-4", "22/sctp", "70000"] {
            assert_eq!(Scope::read(bad), None, "{bad}");
        }
    }
}
