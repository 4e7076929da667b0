#![forbid(unsafe_code)]
//! A table of the layout before this one: it becomes one of this layout in the transaction that writes the
//! chains anew. Bans and allow lists stay as they are; sets that have other names now hand on what is in
//! them.

use super::bare::exempt_set;
use super::networks;
use super::words::key_type;
use super::{Guard, Lost, TableState};
use crate::base::name::Name;
use crate::base::range::{Family, Range, merge};
use crate::firewall::nft::SetSpec;
use crate::firewall::nft::elem::Timeout;

/// What the marks of that layout begin with.
pub(super) const PREVIOUS: &str = "mef 4";

/// What `exemptN` and `bogonsN` were called.
const fn renamed(family: Family) -> [Name; 2] {
    match family {
        Family::V4 => [Name::of("spare4"), Name::of("seen_not4")],
        Family::V6 => [Name::of("spare6"), Name::of("seen_not6")],
    }
}

/// What a table of the previous layout holds under other names: whom bare packets never have banned.
#[derive(Default)]
pub(super) struct Renamed {
    exempt: Vec<Range>,
}

impl Guard {
    /// Reads what is to be handed on.
    pub(super) fn read_renamed(&mut self) -> Result<Renamed, Lost> {
        let mut exempt = Vec::new();
        for family in Family::ALL {
            let [set, _] = renamed(family);
            networks::read(&mut self.socket, &set, &mut |interval| exempt.push(interval.range))?;
        }
        merge(&mut exempt);
        Ok(Renamed { exempt })
    }

    /// Behind the rules and sets of this layout: fills the sets that have taken the place of others, and
    /// deletes those, which no rule asks any more.
    pub(super) fn write_renamed(&mut self, made: TableState, previous: &Renamed) {
        if made.bare_packets() {
            Family::ALL.iter().for_each(|&family| self.txn.flush_set(&exempt_set(family)));
            for range in &previous.exempt {
                self.write_range(&exempt_set(range.family()), range, Timeout::None, "");
            }
        }
        for family in Family::ALL {
            for set in renamed(family) {
                // What is added first can be deleted without an error, whether it was there or not.
                self.txn.add_set(&SetSpec::new(set, libc::NFT_SET_INTERVAL, key_type(family)));
                self.txn.delete_set(&set);
            }
        }
    }
}
