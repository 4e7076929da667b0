#![forbid(unsafe_code)]
//! Who is never dropped: some for good, some for a time, which the kernel ends by itself. Knows no file.

use super::{Failure, Guard, layout, networks};
use crate::base::clock::Wall;
use crate::base::range::{Family, Key, Range, any_meets, covers, cut, merge};
use crate::firewall::nft::SetSpec;
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::sys::clock;
use nix::errno::Errno;
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
type Entry = (Range, Option<Wall>);

/// Reads the allow list when a table is made; it hears who is allowed in what is left of the former table.
pub type Reader = Box<dyn FnMut(Vec<Entry>) -> Allowed>;

/// From where a table that is made gets its allow list.
pub(super) enum Source {
    /// It gets none.
    Nothing,
    /// This is the one that was written last.
    Kept(Allowed),
    Reader(Reader),
}

/// Elements that one transaction changes at most, where they can be parted: a listener of others costs the
/// kernel 8 kB for each.
const CHANGES: usize = 256;
/// How often a change is worked out anew when others changed the sets meanwhile.
const TRIES: u32 = 8;
/// Seconds that an end may differ and still be the same.
const SAME: u64 = 2;

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

    /// Whether it does not fit into one transaction.
    pub(super) fn is_long(&self) -> bool {
        self.ranges.len() + self.timed.len() > CHANGES
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
        cut(range, &self.ranges).iter().flat_map(|part| cut(part, &timed)).collect()
    }

    /// Everything that is allowed now.
    fn entries(&self, now: Wall) -> Vec<Entry> {
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

/// Entries to be deleted, and to be added.
type Change = (Vec<Entry>, Vec<Entry>);

/// What makes one list out of the other, in parts that do not touch each other.
fn changes(mut have: Vec<Entry>, mut want: Vec<Entry>) -> Vec<Change> {
    let order = |(range, until): &Entry| (until.is_some(), *range);
    have.sort_unstable_by_key(order);
    want.sort_unstable_by_key(order);
    let same = |a: &Entry, b: &Entry| {
        let ends = [a.1, b.1].map(|until| until.map_or(0, |until| until.0));
        a.0 == b.0 && a.1.is_some() == b.1.is_some() && ends[0].abs_diff(ends[1]) <= SAME
    };
    let among = |list: &[Entry], entry: &Entry| {
        let at = list.binary_search_by_key(&order(entry), order);
        at.ok().and_then(|at| list.get(at)).is_some_and(|other| same(other, entry))
    };
    let deleted = have.iter().filter(|entry| !among(&want, entry)).map(|entry| (*entry, true));
    let added = want.iter().filter(|entry| !among(&have, entry)).map(|entry| (*entry, false));
    let mut all: Vec<(Entry, bool)> = deleted.chain(added).collect();
    all.sort_unstable_by_key(|(entry, _)| order(entry));
    let mut parts: Vec<Change> = Vec::new();
    let mut reach: Option<Entry> = None;
    for (entry, deletes) in all {
        let before = reach.filter(|before| before.1.is_some() == entry.1.is_some());
        let joined = before.and_then(|before| before.0.joined(&entry.0));
        if joined.is_none() {
            parts.push(Change::default());
        }
        reach = Some((joined.unwrap_or(entry.0), entry.1));
        if let Some((deleted, added)) = parts.last_mut() {
            if deletes { deleted.push(entry) } else { added.push(entry) }
        }
    }
    parts
}

impl Guard {
    /// Takes a way to the allow list that a table gets when it is made, from its first transaction on.
    pub fn fill_with(&mut self, reader: Reader) {
        self.allow = Source::Reader(reader);
    }

    /// Replaces who is never dropped: also in every table that is made from now on.
    ///
    /// # Errors
    /// What the kernel refused. Nobody who was and is to be allowed fell off then.
    pub fn set_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure> {
        allowed.settle();
        self.allow = Source::Kept(allowed.clone());
        self.sync_allowed(allowed)
    }

    /// What of a range would not pass by the list that was written last; all of it, where none is known.
    #[must_use]
    pub fn not_allowed(&self, range: &Range, now: Wall) -> Vec<Range> {
        match &self.allow {
            Source::Kept(allowed) => allowed.without(range, now),
            Source::Nothing | Source::Reader(_) => vec![*range],
        }
    }

    /// The list that a new table gets.
    pub(super) fn allow_list(&mut self) -> Result<Option<Allowed>, Failure> {
        let there = self.allowed_until()?;
        Ok(match &mut self.allow {
            Source::Nothing => None,
            Source::Kept(allowed) => Some(allowed.clone()),
            Source::Reader(read) => {
                let mut allowed = read(there);
                allowed.settle();
                self.allow = Source::Kept(allowed.clone());
                Some(allowed)
            }
        })
    }

    /// Writes a list that is too long for the transaction that makes the table before that, into sets that
    /// nothing asks yet.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(super) fn fill_before(&mut self, allowed: &Allowed) -> Result<(), Failure> {
        self.txn.add_table();
        self.write_allow_sets();
        self.txn.commit(&mut self.socket)?;
        self.sync_allowed(allowed)
    }

    pub(super) fn write_allow_sets(&mut self) {
        for family in Family::ALL {
            let key = layout::key_type(family);
            self.txn.add_set(&SetSpec::new(layout::allow_set(family), libc::NFT_SET_INTERVAL, key));
            let timed = libc::NFT_SET_INTERVAL | libc::NFT_SET_TIMEOUT;
            self.txn.add_set(&SetSpec::new(layout::allow_timed_set(family), timed, key));
        }
    }

    /// Writes the whole list into the transaction, in place of what is there.
    pub(super) fn write_allowed(&mut self, allowed: &Allowed) {
        for family in Family::ALL {
            self.txn.flush_set(&layout::allow_set(family));
            self.txn.flush_set(&layout::allow_timed_set(family));
        }
        let now = clock::wall();
        allowed.entries(now).iter().for_each(|entry| self.write_allow(entry, now));
    }

    fn write_allow(&mut self, (range, until): &Entry, now: Wall) {
        let (set, timeout) = match until {
            None => (layout::allow_set(range.family()), Timeout::None),
            Some(until) => {
                let ms = until.0.saturating_sub(now.0).max(1).saturating_mul(1000);
                (layout::allow_timed_set(range.family()), Timeout::Ms(ms))
            }
        };
        let (key, end) = (range.key(), range.end_key());
        let end = end.as_ref().map(Key::bytes);
        // That both ends are new: what shares one with another interval is not the same.
        self.txn.add_new_elem(&set, &Elem { key: key.bytes(), end, timeout, comment: "" });
    }

    fn delete_allow(&mut self, (range, until): &Entry) {
        let family = range.family();
        let set = if until.is_some() { layout::allow_timed_set(family) } else { layout::allow_set(family) };
        let (key, end) = (range.key(), range.end_key());
        let end = end.as_ref().map(Key::bytes);
        self.txn.delete_elem(&set, &Elem { key: key.bytes(), end, timeout: Timeout::None, comment: "" });
    }

    /// Changes what is there into the list, a part in each transaction if there is much to change: whoever is
    /// to be allowed before and after is so in between.
    fn sync_allowed(&mut self, allowed: &Allowed) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_sync(allowed) {
                // An entry ended meanwhile, others wrote, or this was done and the answer lost: what is there
                // is read again.
                Err(e) if tries < TRIES && matches!(e.errno(), Errno::ENOENT | Errno::EEXIST) => {
                    if self.look()?.is_none() && tries > 1 {
                        return Err(e);
                    }
                }
                result => return result,
            }
        }
    }

    fn try_sync(&mut self, allowed: &Allowed) -> Result<(), Failure> {
        let now = clock::wall();
        let want = allowed.entries(now);
        let mut count = 0;
        for (deleted, added) in changes(self.allowed_until()?, want) {
            let more = deleted.len() + added.len();
            if count > 0 && count + more > CHANGES {
                self.txn.commit(&mut self.socket)?;
                self.listeners.wait();
                count = 0;
            }
            deleted.iter().for_each(|entry| self.delete_allow(entry));
            added.iter().for_each(|entry| self.write_allow(entry, now));
            count += more;
        }
        if count > 0 {
            self.txn.commit(&mut self.socket)?;
        }
        Ok(())
    }

    /// Who is never dropped, as the kernel has it.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn allowed(&mut self) -> Result<Vec<Range>, Failure> {
        Ok(self.allowed_until()?.into_iter().map(|(range, _)| range).collect())
    }

    /// The same, each until when.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn allowed_until(&mut self) -> Result<Vec<Entry>, Failure> {
        let mut found = Vec::new();
        let now = clock::wall();
        for family in Family::ALL {
            for set in [layout::allow_set(family), layout::allow_timed_set(family)] {
                networks::read(&mut self.socket, &set, &mut |piece| {
                    let left = (piece.timeout_ms > 0).then_some(piece.left_ms.div_ceil(1000));
                    found.push((piece.range, left.map(|left| Wall(now.0.saturating_add(left)))));
                })?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(rng: &mut fastrand::Rng) -> Range {
        let (a, b) = (rng.u8(..), rng.u8(..).min(16));
        let first = std::net::IpAddr::from([10, 0, 0, a]);
        Range::new(first, std::net::IpAddr::from([10, 0, 0, a.saturating_add(b)])).unwrap()
    }

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

    #[test]
    fn a_list_becomes_another_in_parts_none_of_which_cuts_off_who_is_in_both() {
        let mut rng = fastrand::Rng::with_seed(7);
        let list = |rng: &mut fastrand::Rng| {
            let mut all = Allowed::default();
            (0..rng.usize(..8)).for_each(|_| all.add(pick(rng), None));
            (0..rng.usize(..4)).for_each(|_| all.add(pick(rng), Some(Wall(rng.u64(90..200)))));
            all.settle();
            all.entries(Wall(100))
        };
        for round in 0..500 {
            let (have, want) = (list(&mut rng), list(&mut rng));
            let mut now = have.clone();
            for (deleted, added) in changes(have.clone(), want.clone()) {
                for entry in &deleted {
                    let at = now.iter().position(|e| e == entry).unwrap();
                    now.swap_remove(at);
                }
                for entry in added {
                    // The kernel refuses what overlaps.
                    assert!(now.iter().all(|e| e.1.is_some() != entry.1.is_some() || !e.0.meets(&entry.0)));
                    now.push(entry);
                }
                for n in 0..=255 {
                    let one = Range::from(std::net::IpAddr::from([10, 0, 0, n]));
                    let in_all = |list: &[Entry], timed: bool| {
                        list.iter().any(|e| e.1.is_some() == timed && e.0.meets(&one))
                    };
                    for timed in [false, true] {
                        let both = in_all(&have, timed) && in_all(&want, timed);
                        assert!(!both || in_all(&now, timed), "round {round}: {one}");
                    }
                }
            }
            let key = |e: &Entry| (e.1.is_some(), e.0);
            now.sort_unstable_by_key(key);
            let mut want = want;
            want.sort_unstable_by_key(key);
            let near = |a: &Entry, b: &Entry| {
                a.0 == b.0 && a.1.map_or(0, |u| u.0).abs_diff(b.1.map_or(0, |u| u.0)) <= SAME
            };
            assert!(
                now.len() == want.len() && now.iter().zip(&want).all(|(a, b)| near(a, b)),
                "round {round}"
            );
        }
    }
}
