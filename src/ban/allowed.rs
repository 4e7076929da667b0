#![forbid(unsafe_code)]
//! Who is never dropped: some for good, some for a time.

use crate::base::clock::Wall;
use crate::base::range::{Family, Range, any_meets, covers, merge, split};
use std::collections::BTreeSet;
use std::rc::Rc;

/// The allow list. A copy costs nothing: who decides and who makes the table have the same one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// For good; sorted and merged by [`Allowed::settle`].
    ranges: Rc<Vec<Range>>,
    /// Until a moment; the last one first once they are settled.
    timed: Rc<Vec<(Range, Wall)>>,
}

impl From<Vec<Range>> for Allowed {
    fn from(ranges: Vec<Range>) -> Allowed {
        Allowed { ranges: Rc::new(ranges), timed: Rc::default() }
    }
}

/// A range, and until when; `None` is for good.
pub type AllowEntry = (Range, Option<Wall>);

/// Reads the allow list when a table is made; it hears who is allowed in what is left of the previous table.
pub type AllowReader = Box<dyn FnMut(Vec<AllowEntry>) -> Allowed>;

/// From where a table gets its allow list when it is made.
pub enum AllowSource {
    /// This is the one that was written last.
    Kept(Allowed),
    /// It is read then.
    Reader(AllowReader),
}

impl From<Allowed> for AllowSource {
    fn from(allowed: Allowed) -> AllowSource {
        AllowSource::Kept(allowed)
    }
}

impl From<AllowReader> for AllowSource {
    fn from(reader: AllowReader) -> AllowSource {
        AllowSource::Reader(reader)
    }
}

impl AllowSource {
    /// The list for a table that is made, read now unless one was written before. `there` is who is allowed
    /// in what is left of the previous table.
    pub fn for_table(&mut self, there: Vec<AllowEntry>) -> Allowed {
        match self {
            AllowSource::Kept(allowed) => allowed.clone(),
            AllowSource::Reader(read) => {
                let mut allowed = read(there);
                allowed.settle();
                *self = AllowSource::Kept(allowed.clone());
                allowed
            }
        }
    }

    /// The list that was written last, if one was.
    #[must_use]
    pub fn kept(&self) -> Option<&Allowed> {
        match self {
            AllowSource::Kept(allowed) => Some(allowed),
            AllowSource::Reader(_) => None,
        }
    }

    /// What of a range would not pass by the list that was written last; all of it, where none is known.
    #[must_use]
    pub fn not_allowed(&self, range: &Range, now: Wall) -> Vec<Range> {
        match self {
            AllowSource::Kept(allowed) => allowed.without(range, now),
            AllowSource::Reader(_) => vec![*range],
        }
    }
}

impl Allowed {
    /// Takes one in, for good or until a moment.
    pub fn add(&mut self, range: Range, until: Option<Wall>) {
        match until {
            None => Rc::make_mut(&mut self.ranges).push(range),
            Some(until) => Rc::make_mut(&mut self.timed).push((range, until)),
        }
    }

    /// Puts everything into the order in which it is searched.
    pub fn settle(&mut self) {
        let apart = |w: &[Range]| matches!(w, [a, b] if a < b && a.joined(b).is_none());
        if !self.ranges.windows(2).all(apart) {
            merge(Rc::make_mut(&mut self.ranges));
        }
        if !self.timed.is_sorted_by(|a, b| a.1 >= b.1) {
            Rc::make_mut(&mut self.timed).sort_by_key(|&(range, until)| (std::cmp::Reverse(until), range));
        }
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len() + self.timed.len()
    }

    /// Whether nobody is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether anybody of a family is on it for good.
    #[must_use]
    pub fn has_for_good(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| range.family() == family)
    }

    /// Whether anybody of a family is on it for some time yet.
    #[must_use]
    pub fn has_for_a_time(&self, family: Family, now: Wall) -> bool {
        self.timed.iter().any(|(range, until)| *until > now && range.family() == family)
    }

    /// Whether an address of the range is allowed now.
    #[must_use]
    pub fn meets(&self, range: &Range, now: Wall) -> bool {
        any_meets(&self.ranges, range) || self.timed.iter().any(|(r, until)| *until > now && r.meets(range))
    }

    /// Whether every address of the range is allowed now.
    #[must_use]
    pub fn covers(&self, range: &Range, now: Wall) -> bool {
        covers(&self.ranges, range) || self.without(range, now).is_empty()
    }

    /// What of the range is not allowed now.
    #[must_use]
    pub fn without(&self, range: &Range, now: Wall) -> Vec<Range> {
        let timed = self.timed.iter().filter(|(r, until)| *until > now && r.meets(range));
        let mut timed: Vec<Range> = timed.map(|(r, _)| *r).collect();
        merge(&mut timed);
        split(range, &self.ranges).iter().flat_map(|part| split(part, &timed)).collect()
    }

    /// Everything that is allowed now, in parts that do not overlap; needs a settled list.
    #[must_use]
    pub fn entries(&self, now: Wall) -> Vec<AllowEntry> {
        let for_good = self.ranges.iter().map(|range| (*range, None));
        for_good.chain(self.timed_parts(now).into_iter().map(|(range, until)| (range, Some(until)))).collect()
    }

    /// What is allowed for a time, in parts that do not overlap, each with the longest time that it has.
    /// Needs a settled list.
    fn timed_parts(&self, now: Wall) -> Vec<(Range, Wall)> {
        let mut parts: Vec<(Range, Wall)> = Vec::new();
        // What has its longest time already. A range that is taken in swallows those that it meets, so none
        // is met twice.
        let mut taken: BTreeSet<Range> = BTreeSet::new();
        for &(range, until) in self.timed.iter().filter(|(_, until)| *until > now) {
            let everybody = match range.family() {
                Family::V4 => Range::EVERYBODY_V4,
                Family::V6 => Range::EVERYBODY_V6,
            };
            let behind = Range::new(range.last(), everybody.last()).unwrap_or(range);
            let (mut rest, mut whole) = (Some(range), range);
            while let Some(other) = taken.range(..=behind).next_back().copied().filter(|o| o.meets(&range)) {
                taken.remove(&other);
                let [before, after] = rest.map_or([None, None], |rest| rest.without(&other));
                parts.extend(after.map(|part| (part, until)));
                rest = before;
                whole = whole.min(other).joined(&whole.max(other)).unwrap_or(whole);
            }
            parts.extend(rest.map(|part| (part, until)));
            taken.insert(whole);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::tests::pick;

    #[test]
    fn the_list_is_searched_as_a_walk_would() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let mut all = Allowed::default();
            (0..6).for_each(|_| all.add(pick(&mut rng), None));
            (0..3).for_each(|_| all.add(pick(&mut rng), Some(Wall(rng.u64(90..110)))));
            let plain = all.clone();
            all.settle();
            for _ in 0..20 {
                let range = pick(&mut rng);
                let want = plain.ranges.iter().any(|r| r.meets(&range))
                    || plain.timed.iter().any(|(r, until)| until.0 > 100 && r.meets(&range));
                assert_eq!(all.meets(&range, Wall(100)), want, "{range} in {all:?}");
                let one = Range::from(range.first());
                let allowed = all.meets(&one, Wall(100));
                assert_eq!(all.covers(&one, Wall(100)), allowed);
                let rest = all.without(&range, Wall(100));
                assert_eq!(rest.iter().any(|r| r.meets(&one)), !allowed, "{range} without {all:?}");
                assert_eq!(rest.is_empty(), all.covers(&range, Wall(100)));
            }
        }
        assert!(!Allowed::default().meets(&pick(&mut rng), Wall(0)));
    }

    #[test]
    fn times_that_overlap_leave_each_address_its_longest() {
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..200 {
            let mut all = Allowed::default();
            (0..5).for_each(|_| all.add(pick(&mut rng), Some(Wall(rng.u64(90..110)))));
            all.settle();
            let parts = all.timed_parts(Wall(100));
            for n in 0..=255 {
                let one = Range::from(std::net::IpAddr::from([10, 0, 0, n]));
                let want =
                    all.timed.iter().filter(|(r, u)| u.0 > 100 && r.meets(&one)).map(|(_, u)| *u).max();
                let got: Vec<Wall> = parts.iter().filter(|(r, _)| r.meets(&one)).map(|(_, u)| *u).collect();
                assert_eq!(got, want.into_iter().collect::<Vec<_>>(), "{one} in {all:?}");
            }
        }
    }

    #[test]
    fn many_times_are_put_in_order_without_comparing_each_with_all() {
        let mut rng = fastrand::Rng::with_seed(8);
        let mut all = Allowed::default();
        let count = 200_000;
        for n in 0..count {
            let first = std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n);
            all.add(Range::from(std::net::IpAddr::from(first)), Some(Wall(rng.u64(101..100_000))));
        }
        // All of them, for longer than some and not as long as others.
        let net: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
        all.add(Range::from(net), Some(Wall(50_000)));
        all.settle();
        let parts = all.timed_parts(Wall(100));
        let longer = parts.iter().filter(|(_, until)| until.0 > 50_000).count();
        assert!(longer > 0 && longer < parts.len() && parts.iter().all(|(_, until)| until.0 >= 50_000));
        let mut ranges: Vec<Range> = parts.iter().map(|(range, _)| *range).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|w| !w[0].meets(&w[1])), "parts that overlap");
        merge(&mut ranges);
        assert_eq!(ranges, [Range::from(net)]);
    }
}
