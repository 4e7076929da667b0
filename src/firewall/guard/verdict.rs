#![forbid(unsafe_code)]
//! Who is dropped whoever bans or unbans: the deny lists, and the allow list that wins over them.

use super::layout::{allow_set, allow_timed_set};
use super::{DenySet, Guard, TABLE};
use crate::ban::Failure;
use crate::base::name::Name;
use crate::base::range::{AddrKey, Family, Range};
use crate::firewall::nft::query;

impl Guard {
    /// The names of the deny lists by which the first address of each range is dropped.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn denied(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure> {
        let sets: Vec<DenySet> = self.deny_sets()?.into_iter().filter(DenySet::in_force).collect();
        let mut all = vec![Vec::new(); ranges.len()];
        let mut denied = false;
        for set in &sets {
            for at in self.having(&set.name, set.family(), ranges)? {
                let names: Option<&mut Vec<String>> = all.get_mut(at);
                if let Some(names) = names.filter(|names| !names.contains(&set.label)) {
                    names.push(set.label.clone());
                    denied = true;
                }
            }
        }
        for family in Family::ALL.into_iter().filter(|_| denied) {
            for set in [allow_set(family), allow_timed_set(family)] {
                for at in self.having(&set, family, ranges)? {
                    all.get_mut(at).into_iter().for_each(Vec::clear);
                }
            }
        }
        Ok(all)
    }

    /// Which of the ranges begin with an address that a set has.
    pub(super) fn having(
        &mut self,
        set: &Name,
        family: Family,
        ranges: &[Range],
    ) -> Result<Vec<usize>, Failure> {
        let (numbers, keys): (Vec<usize>, Vec<AddrKey>) = (0..)
            .zip(ranges)
            .filter(|(_, range)| range.family() == family)
            .map(|(at, range)| (at, Range::from(range.first()).key()))
            .unzip();
        let keys: Vec<&[u8]> = keys.iter().map(AddrKey::bytes).collect();
        let found = query::present(&mut self.socket, &TABLE, set, &keys)?;
        Ok(found.into_iter().filter_map(|at| numbers.get(at).copied()).collect())
    }
}
