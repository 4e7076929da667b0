#![forbid(unsafe_code)]
//! Ranges of which the kernel had no ban, to be found by what the journal has: many by many, so in order.

use crate::base::range::Range;
use std::net::IpAddr;

/// The ranges in the order of their first addresses, as a tree: the one in the middle is its root, and those
/// on its sides are trees, too. So a wide one among many is no reason to look at all of them.
pub(super) struct Unfound(Vec<UnfoundRange>);

struct UnfoundRange {
    range: Range,
    /// Its number among all that were asked for.
    number: usize,
    /// The last address of any in its tree.
    reach: IpAddr,
}

impl Unfound {
    /// Those of the ranges whose counts are 0.
    pub(super) fn of(ranges: &[Range], counts: &[usize]) -> Unfound {
        let unfound = ranges.iter().zip(counts).enumerate().filter(|(_, (_, count))| **count == 0);
        let unfound =
            unfound.map(|(number, (range, _))| UnfoundRange { range: *range, number, reach: range.last() });
        let mut all: Vec<UnfoundRange> = unfound.collect();
        all.sort_unstable_by_key(|one| one.range.first());
        set_reach(&mut all);
        Unfound(all)
    }

    /// Calls `each` with the numbers of those that a ban of these addresses is about.
    pub(super) fn each(&self, addr: &Range, each: &mut dyn FnMut(usize)) {
        look(&self.0, addr, &mut |one| {
            if one.range.meets(addr) {
                each(one.number);
            }
        });
    }
}

/// Finds out how far each tree in a tree reaches.
fn set_reach(tree: &mut [UnfoundRange]) -> Option<IpAddr> {
    let (before, rest) = tree.split_at_mut(tree.len() / 2);
    let (root, behind) = rest.split_first_mut()?;
    root.reach = set_reach(before).into_iter().chain(set_reach(behind)).fold(root.reach, IpAddr::max);
    Some(root.reach)
}

/// Shows those of a tree that may be about these addresses.
fn look(tree: &[UnfoundRange], addr: &Range, each: &mut dyn FnMut(&UnfoundRange)) {
    let (before, rest) = tree.split_at(tree.len() / 2);
    let Some((root, behind)) = rest.split_first().filter(|(root, _)| root.reach >= addr.first()) else {
        return;
    };
    look(before, addr, each);
    each(root);
    if root.range.first() <= addr.last() {
        look(behind, addr, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn what_is_found_is_what_looking_at_all_finds() {
        let mut rng = fastrand::Rng::with_seed(22);
        let mut range = || {
            let (first, len) = (rng.u8(..200), [0, 0, 0, 3, 40][rng.usize(..5)]);
            let v6 = rng.bool();
            let [first, last] = [first, first + len].map(|n| match v6 {
                true => IpAddr::from(Ipv6Addr::from(u128::from(n))),
                false => IpAddr::from(Ipv4Addr::from(u32::from(n))),
            });
            Range::new(first, last).unwrap()
        };
        for _ in 0..200 {
            let ranges: Vec<Range> = (0..20).map(|_| range()).collect();
            let counts: Vec<usize> = (0..20).map(|n| n % 3).collect();
            let unfound = Unfound::of(&ranges, &counts);
            for _ in 0..50 {
                let (ban, mut found) = (range(), Vec::new());
                unfound.each(&ban, &mut |at| found.push(at));
                found.sort_unstable();
                let all = (0..20).filter(|n| counts[*n] == 0 && ranges[*n].meets(&ban));
                assert_eq!(found, all.collect::<Vec<_>>(), "{ban} among {ranges:?}");
            }
        }
    }

    #[test]
    fn a_wide_range_among_many_is_no_reason_to_look_at_all() {
        let range =
            |first: u32, last: u32| Range::new(Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into());
        let mut ranges: Vec<Range> = (0..4096).map(|n| range(n * 16, n * 16 + n % 3).unwrap()).collect();
        ranges.push(range(0, 65_535).unwrap());
        let unfound = Unfound::of(&ranges, &vec![0; ranges.len()]);
        for addr in (0..65_536).step_by(999) {
            let mut looked = 0;
            look(&unfound.0, &range(addr, addr).unwrap(), &mut |_| looked += 1);
            assert!((1..64).contains(&looked), "{looked} for {addr}");
        }
    }
}
