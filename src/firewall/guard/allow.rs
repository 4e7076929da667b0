#![forbid(unsafe_code)]
//! Who is never dropped: some for good, some for a time, which the kernel ends by itself. Knows no file.

use super::{Failure, Guard, TXN_ROOM, layout, networks};
use crate::base::clock::Wall;
use crate::base::range::{Family, Key, Range, any_meets, merge};
use crate::firewall::nft::TxnError;
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::sys::clock;
use nix::errno::Errno;

/// The allow list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    /// For good; sorted and merged by [`Allowed::settle`].
    ranges: Vec<Range>,
    /// Until a moment, the last one first.
    timed: Vec<(Range, Wall)>,
}

impl From<Vec<Range>> for Allowed {
    fn from(ranges: Vec<Range>) -> Allowed {
        Allowed { ranges, timed: Vec::new() }
    }
}

impl Allowed {
    /// Takes one in, for good or until a moment.
    pub fn add(&mut self, range: Range, until: Option<Wall>) {
        match until {
            None => self.ranges.push(range),
            Some(until) => {
                let place = self.timed.partition_point(|&(_, other)| other >= until);
                self.timed.insert(place, (range, until));
            }
        }
    }

    /// Takes all of another list in.
    pub fn append(&mut self, other: Allowed) {
        self.ranges.extend(other.ranges);
        other.timed.into_iter().for_each(|(range, until)| self.add(range, Some(until)));
    }

    /// Puts everything into the order in which it is searched.
    pub fn settle(&mut self) {
        merge(&mut self.ranges);
    }

    /// Whether an address of the range is allowed now.
    #[must_use]
    pub fn meets(&self, range: &Range, now: Wall) -> bool {
        any_meets(&self.ranges, range) || self.timed.iter().any(|(r, until)| *until > now && r.meets(range))
    }

    /// What is allowed for a time, in parts that do not overlap, each with the longest time that it has.
    fn timed_parts(&self, now: Wall) -> Vec<(Range, Wall)> {
        let mut parts: Vec<(Range, Wall)> = Vec::new();
        for &(range, until) in self.timed.iter().filter(|(_, until)| *until > now) {
            let mut fresh = vec![range];
            for (taken, _) in &parts {
                fresh = fresh.iter().flat_map(|r| r.without(taken)).flatten().collect();
            }
            parts.extend(fresh.into_iter().map(|range| (range, until)));
        }
        parts
    }
}

impl Guard {
    /// Replaces who is never dropped.
    ///
    /// # Errors
    /// What the kernel refused; then the former list stays in force.
    pub fn set_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure> {
        allowed.settle();
        match self.write_allowed(allowed, usize::MAX) {
            // More than one send takes, where the buffer may not grow: rather in pieces than not at all.
            Err(e) if e.errno() == Errno::EMSGSIZE => Ok(self.write_allowed(allowed, TXN_ROOM)?),
            result => Ok(result?),
        }
    }

    /// Empties the allow list and fills it, with a commit whenever a transaction has `room` bytes.
    fn write_allowed(&mut self, allowed: &Allowed, room: usize) -> Result<(), TxnError> {
        let now = clock::wall();
        for family in Family::ALL {
            self.txn.flush_set(&layout::allow_set(family));
            self.txn.flush_set(&layout::allow_timed_set(family));
        }
        let timed = allowed.timed_parts(now);
        let timed =
            timed.iter().map(|(range, until)| (range, until.0.saturating_sub(now.0).saturating_mul(1000)));
        for (range, ms) in allowed.ranges.iter().map(|range| (range, 0)).chain(timed) {
            let (key, end) = (range.key(), range.end_key());
            let end = end.as_ref().map(Key::bytes);
            let (set, timeout) = match ms {
                0 => (layout::allow_set(range.family()), Timeout::None),
                _ => (layout::allow_timed_set(range.family()), Timeout::Ms(ms)),
            };
            self.txn.add_elem(&set, &Elem { key: key.bytes(), end, timeout, comment: "" });
            if self.txn.len() >= room {
                self.txn.commit(&mut self.socket)?;
            }
        }
        self.txn.commit(&mut self.socket)
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
    pub fn allowed_until(&mut self) -> Result<Vec<(Range, Option<Wall>)>, Failure> {
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
}
