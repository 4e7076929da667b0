#![forbid(unsafe_code)]
//! Who is dropped whoever bans or unbans: the deny lists, and the allow list that wins over them.

use super::layout::{allow_set, allow_timed_set};
use super::{DenySet, Failure, Guard, TABLE};
use crate::base::name::Name;
use crate::base::range::Range;
use crate::firewall::nft::query;

impl Guard {
    /// The names of the deny lists by which the first address of each range is dropped.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn denied(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure> {
        let sets: Vec<DenySet> = self.deny_sets()?.into_iter().filter(DenySet::in_force).collect();
        let mut all = Vec::with_capacity(ranges.len());
        for range in ranges {
            let (family, exact) = (range.family(), Range::from(range.first()));
            let mut has =
                |set: &Name| query::element(&mut self.socket, &TABLE, set, exact.key().bytes(), &mut |_| ());
            let mut names = Vec::new();
            for set in sets.iter().filter(|set| set.family() == family) {
                if has(&set.name)? && !names.contains(&set.label) {
                    names.push(set.label.clone());
                }
            }
            if !names.is_empty() && (has(&allow_set(family))? || has(&allow_timed_set(family))?) {
                names.clear();
            }
            all.push(names);
        }
        Ok(all)
    }
}
