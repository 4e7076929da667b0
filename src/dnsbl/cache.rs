#![forbid(unsafe_code)]
//! What lists said of addresses, until it is to be asked again. Its size is fixed: the entry that ends first
//! gives way. An address is known by a keyed hash of 64 bits, so that nobody can choose two that are one.

use crate::base::clock::Mono;
use crate::base::siphash::sip13;
use std::net::IpAddr;

/// Places: 16 bytes each.
const PLACES: usize = 256;
/// Places of which each address may have one.
const WAYS: usize = 8;

/// What is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// It is being asked.
    Asked,
    /// The list has it, with this code of 127.0.0.0/8: its last three bytes, for which there is room.
    Listed([u8; 3]),
    /// The list has it not.
    Clean,
    /// There was no answer that counts.
    Failed,
}

#[derive(Clone, Copy)]
struct CacheEntry {
    hash: u64,
    /// Seconds of the clock; 0 = free.
    until: u32,
    known: Known,
}

/// All that is known.
pub struct Cache {
    key: [u64; 2],
    entries: [CacheEntry; PLACES],
}

fn secs(now: Mono) -> u32 {
    u32::try_from(now.0 / 1000 + 1).unwrap_or(u32::MAX)
}

impl Cache {
    /// Without anything; `key` is to be secret.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Cache {
        Cache { key, entries: [CacheEntry { hash: 0, until: 0, known: Known::Asked }; PLACES] }
    }

    fn hash(&self, list: u8, addr: IpAddr) -> u64 {
        let mut bytes = [0; 17];
        let bits = match addr {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        for (to, from) in bytes.iter_mut().zip([list].into_iter().chain(bits)) {
            *to = from;
        }
        sip13(self.key, &bytes)
    }

    fn ways(&mut self, hash: u64) -> &mut [CacheEntry] {
        let sets = PLACES / WAYS;
        let set = usize::try_from(hash % sets as u64).unwrap_or(0);
        self.entries.get_mut(set * WAYS..(set + 1) * WAYS).unwrap_or_default()
    }

    /// What a list said of an address, if that still holds, and for how many seconds it does.
    pub fn get(&mut self, now: Mono, list: u8, addr: IpAddr) -> Option<(Known, u32)> {
        let (hash, now) = (self.hash(list, addr), secs(now));
        let found = self.ways(hash).iter().find(|entry| entry.hash == hash && entry.until > now);
        found.map(|entry| (entry.known, entry.until - now))
    }

    /// Notes what a list said, for so many seconds.
    pub fn put(&mut self, now: Mono, list: u8, addr: IpAddr, known: Known, ttl: u32) {
        let hash = self.hash(list, addr);
        let until = secs(now).saturating_add(ttl.max(1));
        let ways = self.ways(hash);
        let at = ways
            .iter()
            .position(|entry| entry.hash == hash)
            .or_else(|| ways.iter().enumerate().min_by_key(|(_, entry)| entry.until).map(|(at, _)| at));
        if let Some(entry) = at.and_then(|at| ways.get_mut(at)) {
            *entry = CacheEntry { hash, until, known };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_known_for_its_time_and_of_its_list() {
        let mut cache = Cache::new([1, 2]);
        let addr: IpAddr = "20.0.0.1".parse().unwrap();
        let now = Mono(5000);
        assert_eq!(cache.get(now, 0, addr), None);
        cache.put(now, 0, addr, Known::Asked, 5);
        cache.put(now, 0, addr, Known::Listed([0, 0, 2]), 60);
        assert_eq!(cache.get(now.after(59_999), 0, addr), Some((Known::Listed([0, 0, 2]), 1)));
        assert_eq!(size_of::<CacheEntry>(), 16);
        assert_eq!(cache.get(now.after(60_000), 0, addr), None);
        assert_eq!(cache.get(now, 1, addr), None);
        assert_eq!(cache.get(now, 0, "20.0.0.2".parse().unwrap()), None);
    }

    #[test]
    fn many_addresses_take_no_more_room_and_the_newest_are_known() {
        let mut cache = Cache::new([3, 4]);
        let addr = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        for n in 0..100_000 {
            cache.put(Mono(n.into()), 0, addr(n), Known::Clean, 900);
            assert_eq!(cache.get(Mono(n.into()), 0, addr(n)), Some((Known::Clean, 900)));
        }
        let still = (0..100_000).filter(|&n| cache.get(Mono(100_000), 0, addr(n)).is_some()).count();
        assert!((PLACES / 2..=PLACES).contains(&still), "{still}");
    }
}
