#![forbid(unsafe_code)]
//! Who is never dropped: some for good, some for a time, which the kernel ends by itself. Knows no file.

use super::words;
use super::{Guard, layout, networks};
use crate::ban::{AllowEntry, AllowSource, Allowed, Failure};
use crate::base::clock::Wall;
use crate::base::range::{AddrKey, Family, Range};
use crate::firewall::nft::SetSpec;
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::sys::clock;
use nix::errno::Errno;

/// Elements that one transaction changes at most, where they can be parted: a listener of others costs the
/// kernel 8 kB for each.
const CHANGES: usize = 256;
/// How often a change is worked out anew when others changed the sets meanwhile.
const RETRIES_MAX: u32 = 8;
/// Seconds that an end may differ and still be the same.
const SAME: u64 = 2;

/// Entries to be deleted, and to be added.
type ListChange = (Vec<AllowEntry>, Vec<AllowEntry>);

/// What makes one list out of the other, in parts that do not touch each other.
fn changes(mut have: Vec<AllowEntry>, mut want: Vec<AllowEntry>) -> Vec<ListChange> {
    let order = |(range, until): &AllowEntry| (until.is_some(), *range);
    have.sort_unstable_by_key(order);
    want.sort_unstable_by_key(order);
    let same = |a: &AllowEntry, b: &AllowEntry| {
        let ends = [a.1, b.1].map(|until| until.map_or(0, |until| until.0));
        a.0 == b.0 && a.1.is_some() == b.1.is_some() && ends[0].abs_diff(ends[1]) <= SAME
    };
    let among = |list: &[AllowEntry], entry: &AllowEntry| {
        let at = list.binary_search_by_key(&order(entry), order);
        at.ok().and_then(|at| list.get(at)).is_some_and(|other| same(other, entry))
    };
    let deleted = have.iter().filter(|entry| !among(&want, entry)).map(|entry| (*entry, true));
    let added = want.iter().filter(|entry| !among(&have, entry)).map(|entry| (*entry, false));
    let mut all: Vec<(AllowEntry, bool)> = deleted.chain(added).collect();
    all.sort_unstable_by_key(|(entry, _)| order(entry));
    let mut parts: Vec<ListChange> = Vec::new();
    let mut reach: Option<AllowEntry> = None;
    for (entry, deletes) in all {
        let before = reach.filter(|before| before.1.is_some() == entry.1.is_some());
        let joined = before.and_then(|before| before.0.joined(&entry.0));
        if joined.is_none() {
            parts.push(ListChange::default());
        }
        reach = Some((joined.unwrap_or(entry.0), entry.1));
        if let Some((deleted, added)) = parts.last_mut() {
            if deletes { deleted.push(entry) } else { added.push(entry) }
        }
    }
    parts
}

/// Whether it does not fit into one transaction.
pub(super) fn is_long(allowed: &Allowed) -> bool {
    allowed.len() > CHANGES
}

impl Guard {
    /// Replaces who is never dropped: also in every table that is made from now on.
    ///
    /// # Errors
    /// What the kernel refused. Nobody who was and is to be allowed fell off then.
    pub fn set_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure> {
        allowed.settle();
        self.allow = AllowSource::Kept(allowed.clone());
        self.sync_allowed(allowed)
    }

    /// What of a range would not pass by the list that was written last; all of it, where none is known.
    #[must_use]
    pub fn not_allowed(&self, range: &Range, now: Wall) -> Vec<Range> {
        self.allow.not_allowed(range, now)
    }

    /// The list that a new table gets.
    pub(super) fn allow_list(&mut self) -> Result<Allowed, Failure> {
        let there = self.allowed_until()?;
        Ok(self.allow.for_table(there))
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
            let key = words::key_type(family);
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

    fn write_allow(&mut self, (range, until): &AllowEntry, now: Wall) {
        let (set, timeout) = match until {
            None => (layout::allow_set(range.family()), Timeout::None),
            Some(until) => {
                let ms = until.0.saturating_sub(now.0).max(1).saturating_mul(1000);
                (layout::allow_timed_set(range.family()), Timeout::Ms(ms))
            }
        };
        let (key, end) = (range.key(), range.end_key());
        let end = end.as_ref().map(AddrKey::bytes);
        // That both ends are new: what shares one with another interval is not the same.
        self.txn.add_new_elem(&set, &Elem { key: key.bytes(), end, timeout, comment: "" });
    }

    fn delete_allow(&mut self, (range, until): &AllowEntry) {
        let family = range.family();
        let set = if until.is_some() { layout::allow_timed_set(family) } else { layout::allow_set(family) };
        let (key, end) = (range.key(), range.end_key());
        let end = end.as_ref().map(AddrKey::bytes);
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
                Err(e) if tries < RETRIES_MAX && matches!(e.errno(), Errno::ENOENT | Errno::EEXIST) => {
                    if self.probe()?.is_none() && tries > 1 {
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
    pub fn allowed_until(&mut self) -> Result<Vec<AllowEntry>, Failure> {
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
    use crate::ban::tests::pick;

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
                    let in_all = |list: &[AllowEntry], timed: bool| {
                        list.iter().any(|e| e.1.is_some() == timed && e.0.meets(&one))
                    };
                    for timed in [false, true] {
                        let both = in_all(&have, timed) && in_all(&want, timed);
                        assert!(!both || in_all(&now, timed), "round {round}: {one}");
                    }
                }
            }
            let key = |e: &AllowEntry| (e.1.is_some(), e.0);
            now.sort_unstable_by_key(key);
            let mut want = want;
            want.sort_unstable_by_key(key);
            let near = |a: &AllowEntry, b: &AllowEntry| {
                a.0 == b.0 && a.1.map_or(0, |u| u.0).abs_diff(b.1.map_or(0, |u| u.0)) <= SAME
            };
            assert!(
                now.len() == want.len() && now.iter().zip(&want).all(|(a, b)| near(a, b)),
                "round {round}"
            );
        }
    }
}
