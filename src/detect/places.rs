#![forbid(unsafe_code)]
//! Tables of addresses in fixed memory: what is common to them, and the one for things known of an address.
//!
//! An address has eight places, chosen by a hash with a secret key, so that nobody can aim at another's
//! place. When all eight are taken, the one that its owner ranks lowest gives way. All memory is one vector
//! of zeros: an empty place is all zeros, and one that was never used costs nothing, because the kernel
//! provides zeroed pages on first write. This module knows neither time nor what is kept.

use crate::base::siphash::Sip;
use crate::sys::buffer::Buffer;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Places that one address may take.
pub(super) const WAYS: usize = 8;
/// Words of a place before what is kept: the tag and the address.
pub(super) const HEAD: usize = 5;
/// Largest table; far beyond what is sensible, so that sizes cannot overflow.
pub(super) const SLOTS_MAX: usize = 1 << 22;
/// Families in the tag, plus the prefix length; 0 is an empty place.
const V4: u32 = 1;
const V6: u32 = 100;

/// An address as it is stored: family and prefix length, then the bits.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct NetKey {
    kind: u32,
    words: [u32; 4],
}

impl NetKey {
    pub(super) fn of(addr: IpNet) -> NetKey {
        match addr {
            IpNet::V4(net) => {
                NetKey { kind: V4 + u32::from(net.prefix_len()), words: [net.addr().to_bits(), 0, 0, 0] }
            }
            IpNet::V6(net) => {
                let mut words = [0; 4];
                for (word, bytes) in words.iter_mut().zip(net.addr().octets().chunks_exact(4)) {
                    *word = bytes.iter().fold(0, |w, &b| (w << 8) | u32::from(b));
                }
                NetKey { kind: V6 + u32::from(net.prefix_len()), words }
            }
        }
    }

    /// The address of a place, none if the place is empty.
    pub(super) fn stored(place: &[u32]) -> Option<NetKey> {
        let (tag, rest) = place.split_first()?;
        let words = rest.get(..4)?.try_into().ok()?;
        (*tag != 0).then_some(NetKey { kind: tag >> 24, words })
    }

    pub(super) fn net(self) -> Option<IpNet> {
        if let Some(len) = self.kind.checked_sub(V6) {
            let bits = self.words.iter().fold(0, |bits: u128, &w| (bits << 32) | u128::from(w));
            return Ipv6Net::new(Ipv6Addr::from_bits(bits), u8::try_from(len).ok()?).ok().map(IpNet::V6);
        }
        let len = u8::try_from(self.kind.checked_sub(V4)?).ok()?;
        Ipv4Net::new(Ipv4Addr::from_bits(self.words[0]), len).ok().map(IpNet::V4)
    }

    pub(super) fn hash(self, key: [u64; 2]) -> u64 {
        let [a, b, c, d] = self.words.map(u64::from);
        Sip::new(key).word((a << 32) | b).word((c << 32) | d).finish(self.kind.into(), 20)
    }

    /// Likewise, if it is one with nothing behind its prefix.
    pub(super) fn exact_net(self) -> Option<IpNet> {
        self.net().filter(|net| NetKey::of(net.trunc()) == self)
    }

    /// The words of the address.
    pub(super) fn words(self) -> [u32; 4] {
        self.words
    }

    /// The first word of a place: with 24 bits that belong to whoever keeps it.
    pub(super) fn tag(self, own: u32) -> u32 {
        (self.kind << 24) | own
    }

    /// Writes the first words of a place.
    pub(super) fn write(self, head: &mut [u32], own: u32) {
        let [a, b, c, d] = self.words;
        if let [tag, w0, w1, w2, w3] = head {
            (*tag, *w0, *w1, *w2, *w3) = (self.tag(own), a, b, c, d);
        }
    }
}

/// What is known of addresses: places of `stride` words, those of the head included.
pub(super) struct OffenderTable {
    key: [u64; 2],
    stride: usize,
    /// Sets of eight places.
    sets: u64,
    words: Buffer<u32>,
}

impl OffenderTable {
    /// A table of `slots` places (rounded up to a multiple of 8, at most 4 million); none of them: nothing is
    /// kept.
    pub(super) fn new(slots: usize, stride: usize, key: [u64; 2]) -> OffenderTable {
        let slots = slots.min(SLOTS_MAX).next_multiple_of(WAYS);
        OffenderTable { key, stride, sets: (slots / WAYS) as u64, words: Buffer::new(slots * stride) }
    }

    /// Words in all.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.words.len()
    }

    /// A hash of the address that nobody outside can foretell.
    pub(super) fn hash(&self, addr: IpNet) -> u64 {
        NetKey::of(addr).hash(self.key)
    }

    /// The place of an address.
    pub(super) fn get(&self, addr: IpNet) -> Option<&[u32]> {
        let at = self.find(NetKey::of(addr))?;
        self.words.get(at..at + self.stride)
    }

    /// The place of an address, made if there is none: of the eight that it may take, an empty one, or that
    /// of the lowest rank. The 24 bits of the tag that belong to the caller are set to `own`.
    pub(super) fn place(&mut self, addr: IpNet, own: u32, rank: &dyn Fn(&[u32]) -> u64) -> &mut [u32] {
        let key = NetKey::of(addr);
        let at = self.find(key).unwrap_or_else(|| {
            let mut lowest = (u64::MAX, 0);
            for at in self.set(key) {
                let place = self.words.get(at..at + self.stride).unwrap_or(&[]);
                let taken = place.first().is_some_and(|&tag| tag != 0);
                let rank = if taken { rank(place).max(1) } else { 0 };
                lowest = lowest.min((rank, at));
            }
            if let Some(place) = self.words.get_mut(lowest.1..lowest.1 + self.stride) {
                place.fill(0);
            }
            lowest.1
        });
        let place = self.words.get_mut(at..at + self.stride).unwrap_or(&mut []);
        if let Some(head) = place.get_mut(..HEAD) {
            key.write(head, own);
        }
        place
    }

    /// Empties the place of exactly this address or network.
    pub(super) fn clear(&mut self, addr: IpNet) {
        if let Some(at) = self.find(NetKey::of(addr)) {
            self.words.get_mut(at..at + self.stride).unwrap_or(&mut []).fill(0);
        }
    }

    /// Forgets an address; of a network, every address and network in it.
    pub(super) fn forget(&mut self, addr: IpNet) {
        if addr.prefix_len() == addr.max_prefix_len() {
            return self.clear(addr);
        }
        for place in self.words.chunks_exact_mut(self.stride) {
            if NetKey::stored(place).and_then(NetKey::net).is_some_and(|net| addr.contains(&net)) {
                place.fill(0);
            }
        }
    }

    /// Words of a place.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Every place that is taken.
    pub(super) fn taken(&self) -> impl Iterator<Item = &[u32]> {
        let stride = self.stride.max(1);
        self.words.chunks_exact(stride).filter(|place| place.first().is_some_and(|&tag| tag != 0))
    }

    /// Where the eight places that `key` may take begin.
    fn set(&self, key: NetKey) -> impl Iterator<Item = usize> {
        let set = ((key.hash(self.key) >> 32) * self.sets) >> 32;
        let first = usize::try_from(set).unwrap_or(0) * self.stride * WAYS;
        (first..first + self.stride * WAYS).step_by(self.stride)
    }

    fn find(&self, key: NetKey) -> Option<usize> {
        self.set(key).find(|&at| self.words.get(at..).and_then(NetKey::stored) == Some(key))
    }
}
