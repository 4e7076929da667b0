#![forbid(unsafe_code)]
//! What everything in the kernel was made with, as a comment of one element.

use super::restore::Via;
use super::{packets, rules};
use crate::ban::{Capabilities, Capability, GuardState};
use crate::base::range::Family;

/// What everything was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) ipv6_prefix: u8,
    pub(super) logs: bool,
    /// Where the rules are, and by which program, of each family.
    pub(super) places: [usize; 2],
    pub(super) via: [Via; 2],
    pub(super) lacks: Capabilities,
    /// What is on of what packets are watched for, and the jumps there, of each family.
    pub(super) parts: packets::Parts,
    pub(super) jumps: [packets::Jumps; 2],
    /// By which limits packets were counted: scans, and new sources.
    pub(super) digests: [u16; 2],
}

impl Mark {
    pub(super) fn write(self) -> String {
        let Mark { ipv6_prefix, logs, places: [t4, t6], via: [v4, v6], lacks, parts, jumps, digests } = self;
        let ([j4, j6], [scan, seen], logs, lacks) = (jumps, digests, u8::from(logs), lacks.number());
        format!("{VERSION} {ipv6_prefix} {logs} {t4} {t6} {v4} {v6} {lacks} {parts} {j4} {j6} {scan} {seen}")
    }

    pub(super) fn read(comment: &str) -> Option<Mark> {
        let mut numbers = comment.strip_prefix(VERSION)?.strip_prefix(' ')?.split(' ');
        let mut next = || numbers.next()?.parse::<u16>().ok();
        Some(Mark {
            ipv6_prefix: next()?.try_into().ok()?,
            logs: next()? == 1,
            places: [next()?.into(), next()?.into()],
            via: [next()?.into(), next()?.into()],
            lacks: Capabilities::of_number(next()?.try_into().ok()?),
            parts: next()?.try_into().ok()?,
            jumps: [next()?, next()?],
            digests: [next()?, next()?],
        })
    }

    /// Where the rules of a family are, and by which program, if it has any.
    pub(super) fn of(self, family: Family) -> Option<(usize, Via)> {
        let [v4, v6] = [0, 1].map(|at: usize| self.places.get(at).copied().zip(self.via.get(at).copied()));
        let of = if family == Family::V4 { v4 } else { v6 };
        of.filter(|(_, via)| *via != NO_VIA)
    }

    /// Whether packets of a family come to this host, and no rule can ask who is banned.
    pub(super) fn is_open(self, family: Family) -> bool {
        family == Family::V6 && self.of(family).is_none() && rules::has_ipv6()
    }

    /// The jumps of a family to what watches packets.
    pub(super) fn jumps_of(self, family: Family) -> packets::Jumps {
        let [v4, v6] = self.jumps;
        if family == Family::V4 { v4 } else { v6 }
    }
}

impl From<Mark> for GuardState {
    fn from(mark: Mark) -> GuardState {
        let Mark { ipv6_prefix, logs, lacks, parts, .. } = mark;
        let on = [
            (packets::SCAN, Capability::Scans),
            (packets::FLOOD, Capability::Floods),
            (packets::NEW, Capability::NewSources),
        ];
        let on = on.into_iter().filter(|(part, _)| parts & part != 0);
        let watches = on.fold(Capabilities::NONE, |all, (_, one)| all.and(one));
        GuardState { ipv6_prefix, logs, watches, lacks }
    }
}

/// Changes with the layout.
pub(super) const VERSION: &str = "mef 2";

/// No rules of this family: the kernel has none.
pub(super) const NO_VIA: Via = 9;

#[cfg(test)]
mod tests {
    use super::super::{read_scope, write_scope};
    use super::*;
    use crate::ban::{Scope, Transports};
    use crate::firewall::guard::SetKind;

    #[test]
    fn what_is_registered_is_read_back() {
        let lacks = Capability::Scans.into();
        let (parts, jumps, digests) = (packets::SCAN, [1, 1023], [7, 65535]);
        let (places, via) = ([0, 1], [2, NO_VIA]);
        let mark = Mark { ipv6_prefix: 64, logs: true, places, via, lacks, parts, jumps, digests };
        assert_eq!(Mark::read(&mark.write()), Some(mark));
        let scope = Scope::new(vec![(22, 22), (1000, 2000)], Transports::Tcp);
        for kind in SetKind::ALL {
            assert_eq!(read_scope(&write_scope(&scope, kind)), Some((scope.clone(), kind)));
        }
        for bad in ["", "mef 2", "mef 1 64 1 0 0 0 0 0", "mef 2 64 1 0 0", "ports x", "other 22"] {
            assert!(Mark::read(bad).is_none() && read_scope(bad).is_none(), "{bad}");
        }
    }
}
