#![forbid(unsafe_code)]
//! A rule set as it is registered: what there is of it, so that it is found and taken away again.

use super::super::restore::Via;
use super::index;
use crate::base::range::Family;

/// One rule set, as it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::firewall::iptables) struct Made {
    /// Chains in the tables of each family.
    pub(super) chains: [[u32; 2]; 2],
    /// The directions that have one, as bits, and the numbers of those chains.
    pub(in crate::firewall::iptables) bases: [[Option<u32>; 6]; 2],
    pub(super) via: [Via; 2],
    /// What stands for its content.
    pub(super) fingerprint: u64,
}

impl Made {
    pub(super) fn write(&self) -> String {
        let mut text = VERSION.to_owned();
        let mut push = |n: usize| text.extend([" ", &n.to_string()]);
        self.chains.iter().flatten().for_each(|n| push(*n as usize));
        self.bases.iter().flatten().for_each(|base| push(base.map_or(0, |n| n as usize + 1)));
        self.via.iter().for_each(|via| push(*via));
        text.extend([" ", &self.fingerprint.to_string()]);
        text
    }

    pub(super) fn read(comment: &str) -> Option<Made> {
        let mut numbers =
            comment.strip_prefix(VERSION)?.split_whitespace().map_while(|n| n.parse::<u64>().ok());
        let mut small = || numbers.next()?.try_into().ok();
        let mut this = Made::default();
        for slot in this.chains.iter_mut().flatten() {
            *slot = small()?;
        }
        for slot in this.bases.iter_mut().flatten() {
            *slot = u32::checked_sub(small()?, 1);
        }
        for slot in &mut this.via {
            *slot = small()? as usize;
        }
        this.fingerprint = numbers.next()?;
        Some(this)
    }

    pub(super) fn via_of(&self, family: Family) -> Via {
        self.via.get(index(family)).copied().unwrap_or(0)
    }
}

/// Changes with the layout.
pub(super) const VERSION: &str = "mef rules 2";
