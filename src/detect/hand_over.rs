#![forbid(unsafe_code)]
//! What was counted of everybody, for another observer with the same rules and the same key. Who takes it in
//! believes nothing of it: a hit more or less of somebody, none later than now, is all that it can be.

use super::observe::Observer;
use crate::base::clock::Mono;

/// A table of an observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountTable {
    /// Of addresses and prefixes.
    Sources,
    /// Of wider networks.
    Networks,
    /// Of requests, for a rule.
    Requests(u16),
}

/// What was counted of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedPlace<'p> {
    /// Where.
    pub table: CountTable,
    /// Since when its time counts, in milliseconds.
    pub base: u64,
    /// Words, each of four bytes, the lowest first.
    pub bytes: &'p [u8],
}

impl Observer {
    /// Calls `each` with what is remembered of everybody.
    pub fn hand_over(&self, now: Mono, each: &mut dyn FnMut(CountedPlace<'_>)) {
        let mut room = Vec::new();
        let mut place = |table, base, words: &[u32]| {
            room.clear();
            words.iter().for_each(|word| room.extend_from_slice(&word.to_le_bytes()));
            each(CountedPlace { table, base, bytes: &room });
        };
        let counter = &self.counter;
        counter.tracker.hand_over(now, &mut |base, words| place(CountTable::Sources, base, words));
        counter.wide.hand_over(now, &mut |base, words| place(CountTable::Networks, base, words));
        counter.webscan.hand_over(now, &mut |rule, words| place(CountTable::Requests(rule), 0, words));
    }

    /// Takes that in, of somebody of whom nothing is known here. `None`: it is no such thing.
    pub fn take_in(&mut self, now: Mono, place: &CountedPlace<'_>) -> Option<()> {
        let words: Vec<u32> = place.bytes.chunks_exact(4).map(word).collect();
        let counter = &mut self.counter;
        match place.table {
            CountTable::Sources => counter.tracker.take_in(now, place.base, &words),
            CountTable::Networks => counter.wide.take_in(now, place.base, &words),
            CountTable::Requests(rule) => counter.webscan.take_in(now, rule, &words),
        }
    }

    /// Goes on from one in which so many had to give way.
    pub fn go_on_from(&mut self, evicted: u64) {
        self.counter.tracker.go_on_from(evicted);
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::base::clock::Mono;
    use crate::detect::tracker::{Attempt, Limits};
    use ipnet::IpNet;

    const KEY: [u64; 2] = [5, 9];
    const NOW: Mono = Mono(1_000_000_000);

    /// Rules that count exactly, by parts, and with names that are spared.
    fn observer() -> Observer {
        let named = Limits { findtime: 600, maxretry: 4, same_user: 600, same_user_max: 30 };
        let limits = vec![Limits::plain(600, 5), Limits::plain(3600, 60), named];
        Observer::new(Vec::new(), limits, 64, 64, KEY)
    }

    fn net(n: u8) -> IpNet {
        IpNet::from(std::net::IpAddr::from([203, 0, 113, n]))
    }

    fn hit(observer: &mut Observer, at: u64, rule: u16, n: u8) -> Option<u32> {
        observer.counter.tracker.hit(Mono(NOW.0 + at), rule, net(n), 1)
    }

    /// As much as one has, in another one.
    fn next(from: &Observer, at: u64) -> Observer {
        let mut to = observer();
        let now = Mono(NOW.0 + at);
        from.hand_over(now, &mut |place| assert!(to.take_in(now, &place).is_some(), "{place:?}"));
        to
    }

    #[test]
    fn who_is_near_a_limit_is_as_near_to_it_in_the_next_one() {
        let mut one = observer();
        (0..4).for_each(|n| assert_eq!(hit(&mut one, n * 1000, 0, 1), None));
        (0..59).for_each(|n| assert_eq!(hit(&mut one, n * 1000, 1, 1), None));
        assert_eq!(hit(&mut one, 0, 0, 2), None);
        let anna = Attempt { weight: 1, name: Some(b"anna"), way: 0 };
        (0..3).for_each(|_| assert_eq!(one.counter.tracker.attempt(NOW, 2, net(3), &anna), None));
        let wide: Vec<IpNet> =
            (0..39).map(|n| format!("2001:db8:5:1{n:02x}::/64").parse().unwrap()).collect();
        wide.iter().for_each(|net| assert!(one.counter.wide.hit(NOW, 0, *net, 1).is_none()));
        let mut two = next(&next(&one, 60_000), 60_000);
        assert_eq!(two.counter.tracker.used(), one.counter.tracker.used());
        assert_eq!(hit(&mut two, 60_000, 0, 1), Some(5));
        assert_eq!(hit(&mut two, 60_000, 1, 1), Some(60));
        for _ in 0..3 {
            assert_eq!(hit(&mut two, 60_000, 0, 2), None);
        }
        assert_eq!(hit(&mut two, 60_000, 0, 2), Some(5));
        // What is spared for a name is so still.
        assert_eq!(two.counter.tracker.attempt(NOW, 2, net(3), &anna), None);
        assert_eq!(two.counter.tracker.count(NOW, 2, net(3)), 1);
        let next = "2001:db8:5:1ff::/64".parse().unwrap();
        assert!(two.counter.wide.hit(NOW, 0, next, 1).is_some());
        // Who has not been here for long is not.
        let mut late = observer();
        one.hand_over(Mono(NOW.0 + 7_200_000), &mut |place| {
            let _ = late.take_in(NOW, &place);
        });
        assert_eq!(late.counter.tracker.used(), 0);
    }

    #[test]
    fn what_is_no_such_place_is_not_taken_and_no_hit_is_of_tomorrow() {
        let mut one = observer();
        (0..4).for_each(|_| assert_eq!(hit(&mut one, 0, 0, 1), None));
        let mut all = Vec::new();
        one.hand_over(NOW, &mut |place| all.push((place.table, place.base, place.bytes.to_vec())));
        let (table, base, bytes) = all.pop().unwrap();
        assert!(all.is_empty() && table == CountTable::Sources);
        let take = |table, base, bytes: &[u8]| observer().take_in(NOW, &CountedPlace { table, base, bytes });
        assert!(take(table, base, &bytes).is_some());
        assert!(take(table, base, &bytes[4..]).is_none() && take(table, base, &[]).is_none());
        for table in [CountTable::Requests(0), CountTable::Requests(9)] {
            assert!(take(table, base, &bytes).is_none());
        }
        // A rule that there is not, a family that there is not, bits behind a prefix.
        for (at, byte) in [(1, 9), (2, 9), (3, 0), (3, 250), (3, 25)] {
            let mut other = bytes.clone();
            other[at] = byte;
            assert!(take(table, base, &other).is_none(), "{at} {byte}");
        }
        // Hits of the future count as those of now: who has them is not safe from others.
        for base in [NOW.0 + 9_999_999_999, u64::MAX, 0] {
            let mut two = observer();
            assert!(two.take_in(NOW, &CountedPlace { table, base, bytes: &bytes }).is_some());
            // Who is known stays as he is; of what is too long ago nothing is.
            let again = two.take_in(NOW, &CountedPlace { table, base, bytes: &bytes });
            assert_eq!(again.is_some(), base == 0);
            let mut hits = (1..=5).map(|_| hit(&mut two, 700_000, 0, 1));
            assert_eq!(hits.position(|found| found.is_some()), Some(4), "{base}");
        }
        let mut rng = fastrand::Rng::with_seed(7);
        let mut two = observer();
        for _ in 0..20_000 {
            let mut other = bytes.clone();
            (0..rng.usize(1..9)).for_each(|_| other[rng.usize(..bytes.len())] = rng.u8(..));
            let table = [CountTable::Sources, CountTable::Networks, CountTable::Requests(0)][rng.usize(..3)];
            let base = NOW.0.wrapping_add(rng.u64(..) >> rng.u32(0..64));
            let _ = two.take_in(NOW, &CountedPlace { table, base, bytes: &other });
            let _ = hit(&mut two, rng.u64(..900_000), rng.u16(..3), 1);
        }
        assert!(two.counter.tracker.used() <= two.counter.tracker.slots());
    }
}
