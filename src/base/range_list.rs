#![forbid(unsafe_code)]
//! Many ranges of addresses in little room: eight bytes for each of IPv4, so that a country's networks are a
//! few megabytes.

use super::range::{Family, Range, merge};
use super::siphash::Sip;

/// Ranges of both families.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeList {
    /// The first address of each in the upper half, the last one in the lower half.
    v4: Vec<u64>,
    v6: Vec<Range>,
}

/// So many of a family are many.
pub const MANY: usize = 16_384;
/// Between their number and the hash of what they are.
pub const DIGEST: &str = " elements, hash ";

/// The last address of a packed range.
const LAST: u64 = 0xffff_ffff;

fn pack(range: &Range) -> u64 {
    let half = |n: u128| u64::try_from(n).unwrap_or(LAST) & LAST;
    let (first, last) = range.numbers();
    half(first) << 32 | half(last)
}

fn unpack(packed: u64) -> Option<Range> {
    Range::of_numbers(Family::V4, ((packed >> 32).into(), (packed & LAST).into()))
}

impl RangeList {
    /// Adds one; they come in any order.
    pub fn push(&mut self, range: Range) {
        match range.family() {
            Family::V4 => self.v4.push(pack(&range)),
            Family::V6 => self.v6.push(range),
        }
    }

    /// Puts them in order, and joins those that meet or touch.
    pub fn finish(&mut self) {
        self.v4.sort_unstable();
        self.v4.dedup_by(|next, kept| {
            let joins = *next >> 32 <= (*kept & LAST) + 1;
            if joins {
                *kept = *kept & !LAST | (*kept & LAST).max(*next & LAST);
            }
            joins
        });
        merge(&mut self.v6);
    }

    /// Calls `each` with those of a family, in order.
    pub fn each(&self, family: Family, each: &mut dyn FnMut(Range)) {
        match family {
            Family::V4 => self.v4.iter().filter_map(|packed| unpack(*packed)).for_each(each),
            Family::V6 => self.v6.iter().copied().for_each(each),
        }
    }

    /// What stands for those of a family, of a list that is in order, if there are many: a kernel takes
    /// minutes to list a million of them, since it begins each part of its answer at the first one.
    #[must_use]
    pub fn digest(&self, family: Family) -> Option<String> {
        let len = if family == Family::V4 { self.v4.len() } else { self.v6.len() };
        let mut sip = Sip::new([0; 2]);
        let half = |n: u128| u64::try_from(n & u128::from(u64::MAX)).unwrap_or(0);
        let mut word = |n: u128| sip = sip.word(half(n >> 64)).word(half(n));
        if len < MANY {
            return None;
        }
        self.each(family, &mut |range| {
            let (first, last) = range.numbers();
            word(first);
            word(last);
        });
        Some(format!("{len}{DIGEST}{:x}", sip.finish(0, len)))
    }

    /// The one, of a list that is in order, that an address is in.
    #[must_use]
    pub fn find(&self, addr: &Range) -> Option<Range> {
        let found = match addr.family() {
            Family::V4 => {
                let behind = self.v4.partition_point(|packed| *packed >> 32 <= pack(addr) >> 32);
                unpack(*self.v4.get(behind.checked_sub(1)?)?)
            }
            Family::V6 => {
                let behind = self.v6.partition_point(|range| range.first() <= addr.first());
                self.v6.get(behind.checked_sub(1)?).copied()
            }
        };
        found.filter(|range| range.covers(addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn addr(v6: bool, n: u32) -> IpAddr {
        if v6 { Ipv6Addr::from(u128::from(n) << 64).into() } else { Ipv4Addr::from(n).into() }
    }

    #[test]
    fn many_are_known_by_what_they_are_and_few_by_themselves() {
        let of = |len: usize, v6: bool, last: u32| {
            let mut list = RangeList::default();
            let each = (0..u32::try_from(len - 1).unwrap()).map(|n| n * 2);
            each.chain([last]).rev().for_each(|n| list.push(Range::from(addr(v6, n))));
            list.finish();
            list
        };
        for (v6, family) in [(false, Family::V4), (true, Family::V6)] {
            let digest = |len, last| of(len, v6, last).digest(family);
            assert_eq!(digest(MANY - 1, u32::MAX), None);
            let known = digest(MANY, u32::MAX).unwrap();
            assert!(known.starts_with("16384 elements, hash "), "{known}");
            assert_eq!(digest(MANY, u32::MAX), Some(known.clone()));
            assert_ne!(digest(MANY, u32::MAX - 1), Some(known.clone()));
            assert_ne!(digest(MANY + 1, u32::MAX), Some(known));
            let other = if v6 { Family::V4 } else { Family::V6 };
            assert_eq!(of(MANY, v6, u32::MAX).digest(other), None);
        }
    }

    /// Whatever is pushed, the list has exactly those addresses, in ranges that are in order and apart.
    #[test]
    fn a_list_has_what_was_pushed_and_nothing_else() {
        let mut rng = fastrand::Rng::with_seed(9);
        for round in 0..400 {
            let v6 = round % 2 == 1;
            let family = if v6 { Family::V6 } else { Family::V4 };
            // Some at the very end of the addresses, where there is none behind.
            let base = if rng.bool() { u32::MAX - 63 } else { 1000 };
            let (mut list, mut wanted) = (RangeList::default(), [false; 64]);
            for _ in 0..rng.usize(0..12) {
                let first = rng.usize(0..64);
                let last = (first + rng.usize(0..6)).min(63);
                let at = |n: usize| addr(v6, base + u32::try_from(n).unwrap_or(0));
                list.push(Range::new(at(first), at(last)).unwrap_or(Range::EVERYBODY_V4));
                // IPv6 ranges are between multiples: only their ends are asked for.
                wanted[first..=last].fill(true);
            }
            list.finish();
            let mut all = Vec::new();
            list.each(family, &mut |range| all.push(range));
            let mut merged = all.clone();
            merge(&mut merged);
            assert_eq!(all, merged, "in order and joined");
            for (n, want) in wanted.iter().enumerate() {
                let one = Range::from(addr(v6, base + u32::try_from(n).unwrap_or(0)));
                assert_eq!(list.find(&one).is_some(), *want, "{family:?} {n} of {all:?}");
            }
            let other = Range::from(addr(!v6, base));
            assert_eq!(list.find(&other), None);
        }
    }
}
