#![forbid(unsafe_code)]
//! The fixed table of offenders: who hit which rule how often within its findtime.
//!
//! The table is set-associative: an address has eight places, chosen by a hash with a secret key,
//! so that nobody can aim at another's place. When all eight are taken, the least dangerous offender gives
//! way: first one whose hits have left the window, then the one with the fewest hits, then the one whose last
//! hit is oldest. A crowd of addresses with one hit each therefore fights over one place of a set and leaves
//! the other seven alone. The rule is not part of the hash, so forgetting an address looks at one set, and a
//! reload that renumbers the rules moves nothing.
//!
//! All memory is one vector of zeros, sized at construction: an empty place is all zeros, and a place that
//! was never used costs no memory on Linux, because the kernel provides zeroed pages on first write.
//!
//! Time comes in with every call. It may stand still, jump ahead by years, and go back (lines of several
//! sources): the window of an offender ends at its newest hit. This module knows no clock, no pattern and no
//! firewall.
//!
//! Whoever fails with the same name again and again (an old password in a mail program) is no guesser: such
//! hits are spared, up to a number. Whoever then gets in takes back the hits of that name, and of no other.

mod carry;
mod window;

#[cfg(test)]
mod tests;

use super::places::{HEAD, NetKey, SLOTS_MAX, WAYS};
use crate::base::clock::Mono;
use crate::base::siphash::sip13_folded;
use crate::sys::buffer::Buffer;
use ipnet::IpNet;
use window::{HitMark, Hits};

/// Words of the largest place.
const WORDS_MAX: usize = HEAD + window::EXACT as usize - 1;
/// What is remembered of a rule is at most this many ticks long: two of them and the time since fit into 16
/// bits.
const MEMORY_TICKS_MAX: u64 = 1 << 14;
const TICK_MAX: u64 = u16::MAX as u64;
/// In what makes an offender dangerous, the hits stand above so many bits of time.
const LIVE: u32 = 48;
/// An hour, in milliseconds.
const HOUR: u64 = 3_600_000;

/// When a rule has had enough of an offender.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Length of the window in seconds; 0 counts as 1. Up to 16 s it is exact to the millisecond, beyond that
    /// to a fraction of 1/8000 of it, or of an hour where hits are spared.
    pub findtime: u32,
    /// Hits within the window, 1 to 65535; others count as the nearest of these. Up to 32 the window slides
    /// exactly; beyond, the oldest hits leave the window up to findtime/16 early, and nobody is spared.
    pub maxretry: u32,
    /// Seconds in which further hits of the same name that failed in the same way are spared; 0 = none is.
    pub same_user: u32,
    /// That many are spared in an hour, 255 at most; 0 = all.
    pub same_user_max: u32,
}

impl Limits {
    /// Each hit counts.
    #[must_use]
    pub fn plain(findtime: u32, maxretry: u32) -> Limits {
        Limits { findtime, maxretry, same_user: 0, same_user_max: 0 }
    }
}

/// What a hit is for.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// What it counts for.
    pub weight: u8,
    /// The name that was tried, or what stands for it; case does not matter.
    pub name: Option<&'a [u8]>,
    /// In which way it failed: of these two numbers are told apart where their last two bits differ.
    pub way: u8,
}

/// A rule's limits, and the clock by which its hits are stored.
#[derive(Clone, Copy)]
struct TrackedRule {
    limits: window::WindowRule,
    /// Tick 0 of the stored times, in milliseconds: a multiple of a tick.
    base: u64,
    /// A tick is `1 << shift` milliseconds.
    shift: u32,
}

impl TrackedRule {
    fn new(limits: &Limits) -> TrackedRule {
        let millis = |secs: u32| u64::from(secs) * 1000;
        let window = millis(limits.findtime.max(1));
        let spared = if limits.same_user_max > 0 { HOUR } else { 0 };
        let spared = if limits.same_user > 0 { spared.max(millis(limits.same_user)) } else { 0 };
        let memory = window.max(spared);
        let shift = (0..u64::BITS).find(|&shift| memory >> shift <= MEMORY_TICKS_MAX).unwrap_or(0);
        let ticks = |millis: u64| u32::try_from(millis >> shift).unwrap_or(u32::MAX);
        let limits = window::WindowRule {
            window: ticks(window).max(window::WINDOW_MIN),
            limit: limits.maxretry.clamp(1, window::LIMIT_MAX),
            same: ticks(millis(limits.same_user)),
            spare: limits.same_user_max.min(255),
            hour: ticks(HOUR),
        };
        TrackedRule { limits, base: 0, shift }
    }

    /// The time in ticks; `None` before tick 0.
    fn tick(&self, now: u64) -> Option<u64> {
        Some(now.checked_sub(self.base)? >> self.shift)
    }

    fn millis(&self, tick: u32) -> u64 {
        self.base + (u64::from(tick) << self.shift)
    }

    /// Moves tick 0 so that the time `now` fits, and all that is remembered of before.
    fn rebase(&mut self, now: Mono) {
        let before = u64::from(self.limits.memory()) * 2;
        self.base = (now.0 >> self.shift).saturating_sub(before) << self.shift;
    }
}

/// The table of offenders.
pub struct Tracker {
    key: [u64; 2],
    rules: Vec<TrackedRule>,
    /// Words of one place.
    stride: usize,
    /// Sets of eight places.
    sets: u64,
    words: Buffer<u32>,
    used: usize,
    evicted: u64,
}

/// The first word of a place, without the words of hits in use.
fn tag(key: NetKey, rule: u16) -> u32 {
    key.tag(u32::from(rule) << 8)
}

/// Writes the words of a place before the hits, of which `len` words are in use.
fn write(key: NetKey, head: &mut [u32], rule: u16, len: usize) {
    key.write(head, u32::from(rule) << 8 | (u32::try_from(len).unwrap_or(0) & 0xff));
}

/// The rule of a place and how many words of hits are in use.
fn tag_parts(tag: u32) -> (u16, usize) {
    let [_, high, low, len] = tag.to_be_bytes();
    (u16::from_be_bytes([high, low]), usize::from(len))
}

impl Tracker {
    /// A table of `slots` places (rounded up to a multiple of 8, at most 4 million) for rules numbered as in
    /// `rules`. `key` must be secret and random. Memory is `slots` times 20 bytes plus 4 for
    /// each hit below the largest maxretry (36 bytes for 5, 60 bytes from 33 on, 144 bytes for 32).
    #[must_use]
    pub fn new(slots: usize, rules: &[Limits], key: [u64; 2]) -> Tracker {
        let (rules, stride) = measure(rules);
        let slots = slots.clamp(1, SLOTS_MAX).next_multiple_of(WAYS);
        let sets = (slots / WAYS) as u64;
        let words = Buffer::new(slots * stride);
        Tracker { key, rules, stride, sets, words, used: 0, evicted: 0 }
    }

    /// Counts `weight` hits of `who` on `rule` at `now`, each of which stands for itself: see
    /// [`Tracker::attempt`].
    pub fn hit(&mut self, now: Mono, rule: u16, addr: IpNet, weight: u8) -> Option<u32> {
        self.attempt(now, rule, addr, &Attempt { weight, name: None, way: 0 })
    }

    /// Counts what `who` did on `rule` at `now`. When the rule's maxretry is reached within its findtime,
    /// returns the count and forgets the offender for this rule, so that counting starts anew. An unknown
    /// rule and a weight of 0 count nothing, nor does a hit that is older than findtime beside the offender's
    /// newest.
    pub fn attempt(&mut self, now: Mono, rule: u16, addr: IpNet, attempt: &Attempt<'_>) -> Option<u32> {
        let limits = self.rules.get(usize::from(rule))?.limits;
        let n = u32::from(attempt.weight);
        if n == 0 {
            return None;
        }
        let time = self.tick(now, rule)?;
        let mark = attempt.name.map_or(HitMark::NONE, |name| self.mark(name, attempt.way));
        let key = NetKey::of(addr);
        let set = self.set(key);
        let tag = tag(key, rule);
        let Some(at) = self.find(set, tag, key) else {
            if n >= limits.limit {
                return Some(n);
            }
            let at = self.make_room(set, now);
            let (head, words) = self.words.get_mut(at..at + self.stride)?.split_at_mut_checked(HEAD)?;
            let mut hits = Hits { len: 0, words };
            hits.add(limits, time, n, mark);
            write(key, head, rule, hits.len);
            self.used += 1;
            return None;
        };
        let (head, words) = self.words.get_mut(at..at + self.stride)?.split_at_mut_checked(HEAD)?;
        let mut hits = Hits { len: tag_parts(head[0]).1, words };
        let count = hits.add(limits, time, n, mark);
        write(key, head, rule, hits.len);
        if count < limits.limit {
            return None;
        }
        self.clear(at);
        Some(count)
    }

    /// Takes back the hits of `who` on `rule` for a name with which it has got in now. Returns whether there
    /// were any.
    pub fn success(&mut self, rule: u16, addr: IpNet, name: &[u8]) -> bool {
        let mark = self.mark(name, 0);
        let key = NetKey::of(addr);
        let Some(at) = self.find(self.set(key), tag(key, rule), key) else { return false };
        let Some(limits) = self.rules.get(usize::from(rule)).map(|rule| rule.limits) else { return false };
        let Some((head, words)) =
            self.words.get_mut(at..at + self.stride).and_then(|place| place.split_at_mut_checked(HEAD))
        else {
            return false;
        };
        let mut hits = Hits { len: tag_parts(head[0]).1, words };
        let any = hits.take_back(limits, mark);
        let left = hits.len;
        write(key, head, rule, left);
        if left == 0 {
            self.clear(at);
        }
        any
    }

    fn mark(&self, name: &[u8], way: u8) -> HitMark {
        HitMark::new(sip13_folded(self.key, name), way)
    }

    /// Forgets the hits of `who` on all rules; of a network, those of every address in it.
    pub fn forget(&mut self, addr: IpNet) {
        let set = self.set(NetKey::of(addr));
        let single = addr.prefix_len() == addr.max_prefix_len();
        let places = if single { set..set + self.stride * WAYS } else { 0..self.words.len() };
        for at in places.step_by(self.stride) {
            let stored = self.words.get(at..).and_then(NetKey::stored).and_then(NetKey::net);
            if stored.is_some_and(|net| addr.contains(&net)) {
                self.clear(at);
            }
        }
    }

    /// Hits of `who` on `rule` within the findtime that ends at `now`.
    #[must_use]
    pub fn count(&self, now: Mono, rule: u16, addr: IpNet) -> u32 {
        let key = NetKey::of(addr);
        let at = self.find(self.set(key), tag(key, rule), key);
        at.map_or(0, |at| self.live(at, now))
    }

    /// Places taken, those included whose hits have left the window but whose place nobody has needed yet.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Places in all.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.words.len() / self.stride
    }

    /// Offenders with hits inside their window that had to give way so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Calls `each` with rule, address, hits within findtime and the time of the last one, for every offender
    /// that has any, in no order; only for a few, `one` among them, if that is given. Where maxretry is
    /// beyond 32 the time of the last hit is up to findtime/16 early.
    pub fn for_each(&self, now: Mono, one: Option<IpNet>, each: &mut dyn FnMut(u16, IpNet, u32, Mono)) {
        let from = one.map_or(0, |one| self.set(NetKey::of(one)));
        let places = one.map_or(usize::MAX, |_| WAYS);
        let words = self.words.get(from..).unwrap_or_default().chunks_exact(self.stride).take(places);
        for (at, place) in (from..).step_by(self.stride).zip(words) {
            let Some(addr) = NetKey::stored(place).and_then(NetKey::net) else { continue };
            let count = self.live(at, now);
            if count > 0 {
                each(tag_parts(place[0]).0, addr, count, Mono(self.last(at)));
            }
        }
    }

    /// The time `now` in ticks of a rule, none if it lies long before its windows. Now and then the stored
    /// times are moved so that it fits.
    fn tick(&mut self, now: Mono, rule: u16) -> Option<u32> {
        let own = self.rules.get(usize::from(rule))?;
        if own.tick(now.0).is_some_and(|tick| tick > TICK_MAX) {
            self.rebase_rule(now, rule);
        }
        let tick = self.rules.get(usize::from(rule))?.tick(now.0)?;
        u32::try_from(tick).ok().filter(|_| tick <= TICK_MAX)
    }

    /// Where the eight places that `key` may take begin.
    fn set(&self, key: NetKey) -> usize {
        let set = ((key.hash(self.key) >> 32) * self.sets) >> 32;
        usize::try_from(set).unwrap_or(0) * self.stride * WAYS
    }

    /// Where in the set at `set` the place of `key` and of the rule of `tag` begins.
    fn find(&self, set: usize, tag: u32, key: NetKey) -> Option<usize> {
        let mut at = set;
        for _ in 0..WAYS {
            let [stored, words @ ..] = self.words.get(at..)?.first_chunk::<HEAD>()?;
            if stored & !0xff == tag && *words == key.words() {
                return Some(at);
            }
            at += self.stride;
        }
        None
    }

    /// Where in the set at `set` a new offender may be put: an empty place, else that of the least dangerous
    /// one, emptied.
    fn make_room(&mut self, set: usize, now: Mono) -> usize {
        let mut least = (u64::MAX, set);
        let mut at = set;
        for _ in 0..WAYS {
            let danger = self.danger(at, now);
            if danger < least.0 {
                least = (danger, at);
            }
            if danger == 0 {
                return at;
            }
            at += self.stride;
        }
        self.evicted += u64::from(least.0 >> LIVE > 0);
        self.clear(least.1);
        least.1
    }

    /// What makes an offender worth keeping: hits inside the window, then how late the last one was; 0 for an
    /// empty place.
    fn danger(&self, at: usize, now: Mono) -> u64 {
        if self.stored(at).is_none_or(|stored| stored.1 == 0) {
            return 0;
        }
        (u64::from(self.live(at, now).min(0xffff)) << LIVE) | self.last(at).clamp(1, (1 << LIVE) - 1)
    }

    fn clear(&mut self, at: usize) {
        if let Some(place) = self.words.get_mut(at..at + self.stride).filter(|place| place[0] != 0) {
            place.fill(0);
            self.used -= 1;
        }
    }

    /// The rule, and the words of hits in use, of the place at `at`; none if it is empty.
    fn stored(&self, at: usize) -> Option<(TrackedRule, usize, &[u32])> {
        let (head, words) = self.words.get(at..at + self.stride)?.split_at_checked(HEAD)?;
        let (rule, len) = tag_parts(*head.first()?);
        Some((*self.rules.get(usize::from(rule))?, len, words))
    }

    fn live(&self, at: usize, now: Mono) -> u32 {
        self.stored(at).map_or(0, |(rule, len, words)| {
            let tick = now.since(Mono(rule.base)) >> rule.shift;
            window::live(rule.limits, len, words, tick)
        })
    }

    /// When the last hit was, in milliseconds.
    fn last(&self, at: usize) -> u64 {
        let newest = |(rule, len, words): (TrackedRule, usize, &[u32])| {
            window::newest(rule.limits, len, words).map(|tick| rule.millis(tick))
        };
        self.stored(at).and_then(newest).unwrap_or(0)
    }
}

/// The rules in ticks, and the words of one place.
fn measure(limits: &[Limits]) -> (Vec<TrackedRule>, usize) {
    let rules: Vec<TrackedRule> = limits.iter().map(TrackedRule::new).collect();
    let words = rules.iter().map(|rule| rule.limits.words()).max().unwrap_or(0);
    (rules, HEAD + words)
}
