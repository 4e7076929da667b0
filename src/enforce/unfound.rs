#![forbid(unsafe_code)]
//! Ranges of which the kernel had no ban, to be found by what the journal has: many by many, so in order.

use crate::base::range::Range;
use std::net::IpAddr;

/// The ranges, in the order of their first addresses.
pub(super) struct Unfound(Vec<UnfoundRange>);

struct UnfoundRange {
    range: Range,
    /// Its number among all that were asked for.
    number: usize,
    /// The last address of any up to this one.
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
        let mut reach = None;
        for one in &mut all {
            one.reach = reach.map_or(one.reach, |reach| one.reach.max(reach));
            reach = Some(one.reach);
        }
        Unfound(all)
    }

    /// Calls `each` with the numbers of those that a ban of these addresses is about.
    pub(super) fn each(&self, addr: &Range, each: &mut dyn FnMut(usize)) {
        let end = self.0.partition_point(|one| one.range.first() <= addr.last());
        let before = self.0.get(..end).unwrap_or_default().iter().rev();
        let near = before.take_while(|one| one.reach >= addr.first());
        near.filter(|one| one.range.meets(addr)).for_each(|one| each(one.number));
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
}
