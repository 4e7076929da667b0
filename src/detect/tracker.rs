#![forbid(unsafe_code)]
//! The fixed table of offenders: who hit which rule how often within its findtime.
//!
//! The table is set-associative: an address has eight places, chosen by a hash with a secret key,
//! so that nobody can aim at another's place. When all eight are taken, the least dangerous offender gives way:
//! first one whose hits have left the window, then the one with the fewest hits, then the one whose last hit is oldest. A crowd
//! of addresses with one hit each therefore fights over one place of a set and leaves the other seven alone.
//! The rule is not part of the hash, so forgetting an address looks at one set, and a reload that renumbers the rules moves nothing.
//!
//! All memory is one vector of zeros, sized at construction: an empty place is all zeros, and a place that was
//! never used costs no memory on Linux, because the kernel provides zeroed pages on first write.
//!
//! Time comes in with every call. It may stand still, jump ahead by years, and go back (lines of several sources): the
//! window of an offender ends at its newest hit. This module knows no clock, no pattern and no firewall.

mod window;

#[cfg(test)]
mod tests;

use super::places::{HEAD, Key, SLOTS_MAX, WAYS};
use crate::base::clock::Mono;
use crate::sys::buffer::Buffer;
use ipnet::IpNet;
use window::{Hits, Rule};

/// Words of the largest place.
const WORDS_MAX: usize = HEAD + window::EXACT as usize - 1;
/// A window is at most this many ticks long, so that two of them and the time since fit into 32 bits.
const WINDOW_TICKS_MAX: u64 = 1 << 30;

/// When a rule has had enough of an offender.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Length of the window in seconds; 0 counts as 1. Up to 12 days it is exact to the millisecond,
    /// beyond that to a fraction of 1/500,000,000 of the longest findtime.
    pub findtime: u32,
    /// Hits within the window, 1 to 65535; others count as the nearest of these. Up to 32 the window slides
    /// exactly; beyond, the oldest hits leave the window up to findtime/16 early.
    pub maxretry: u32,
}

/// The table of offenders.
pub struct Tracker {
    key: [u64; 2],
    rules: Vec<Rule>,
    /// Tick 0 of the stored times, in milliseconds.
    base: u64,
    /// A tick is `1 << shift` milliseconds.
    shift: u32,
    /// Words of one place.
    stride: usize,
    /// Sets of eight places.
    sets: u64,
    words: Buffer<u32>,
    used: usize,
    evicted: u64,
}

/// The first word of a place, without the words of hits in use.
fn tag(key: Key, rule: u16) -> u32 {
    key.tag(u32::from(rule) << 8)
}

/// Writes the words of a place before the hits, of which `len` words are in use.
fn write(key: Key, head: &mut [u32], rule: u16, len: usize) {
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
        let (rules, shift, stride) = measure(rules);
        let slots = slots.clamp(1, SLOTS_MAX).next_multiple_of(WAYS);
        let sets = (slots / WAYS) as u64;
        let words = Buffer::new(slots * stride);
        Tracker { key, rules, base: 0, shift, stride, sets, words, used: 0, evicted: 0 }
    }

    /// Counts `weight` hits of `who` on `rule` at `now`. When the rule's maxretry is reached within its findtime,
    /// returns the count and forgets the offender for this rule, so that counting starts anew. An unknown rule
    /// and a weight of 0 count nothing, nor does a hit that is older than findtime beside the offender's newest.
    pub fn hit(&mut self, now: Mono, rule: u16, who: IpNet, weight: u8) -> Option<u32> {
        let limits = *self.rules.get(usize::from(rule))?;
        let n = u32::from(weight);
        if n == 0 {
            return None;
        }
        let time = self.tick(now)?;
        let key = Key::of(who);
        let set = self.set(key);
        let tag = tag(key, rule);
        let Some(at) = self.find(set, tag, key) else {
            if n >= limits.limit {
                return Some(n);
            }
            let at = self.make_room(set, time);
            let (head, words) = self.words.get_mut(at..at + self.stride)?.split_at_mut_checked(HEAD)?;
            let mut hits = Hits { len: 0, words };
            hits.add(limits, time, n);
            write(key, head, rule, hits.len);
            self.used += 1;
            return None;
        };
        let (head, words) = self.words.get_mut(at..at + self.stride)?.split_at_mut_checked(HEAD)?;
        let mut hits = Hits { len: tag_parts(head[0]).1, words };
        let count = hits.add(limits, time, n);
        write(key, head, rule, hits.len);
        if count < limits.limit {
            return None;
        }
        self.clear(at);
        Some(count)
    }

    /// Forgets the hits of `who` on all rules; of a network, those of every address in it.
    pub fn forget(&mut self, who: IpNet) {
        let set = self.set(Key::of(who));
        let single = who.prefix_len() == who.max_prefix_len();
        let places = if single { set..set + self.stride * WAYS } else { 0..self.words.len() };
        for at in places.step_by(self.stride) {
            let stored = self.words.get(at..).and_then(Key::stored).and_then(Key::net);
            if stored.is_some_and(|net| who.contains(&net)) {
                self.clear(at);
            }
        }
    }

    /// Hits of `who` on `rule` within the findtime that ends at `now`.
    #[must_use]
    pub fn count(&self, now: Mono, rule: u16, who: IpNet) -> u32 {
        let key = Key::of(who);
        let at = self.find(self.set(key), tag(key, rule), key);
        at.map_or(0, |at| self.live(at, self.tick_wide(now)))
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

    /// Calls `each` with rule, address, hits within findtime and the time of the last one, for every offender that has any, in no order.
    /// Where maxretry is beyond 32 the time of the last hit is up to findtime/16 early.
    pub fn for_each(&self, now: Mono, each: &mut dyn FnMut(u16, IpNet, u32, Mono)) {
        let now = self.tick_wide(now);
        for (at, place) in (0..).step_by(self.stride).zip(self.words.chunks_exact(self.stride)) {
            let Some(who) = Key::stored(place).and_then(Key::net) else { continue };
            let count = self.live(at, now);
            if count > 0 {
                each(tag_parts(place[0]).0, who, count, Mono(self.base + (self.last(at) << self.shift)));
            }
        }
    }

    /// Takes over new rules after a reload: `map` tells the new number of an old rule, none if it is gone. Counters
    /// are kept, and judged by the new limits at the next hit. Memory is taken anew only when the
    /// places change size.
    pub fn remap(&mut self, now: Mono, rules: &[Limits], map: &dyn Fn(u16) -> Option<u16>) {
        let (rules, shift, stride) = measure(rules);
        self.rebuild(now, rules, shift, stride, map);
    }

    /// The time `now` in ticks, none if it lies long before all windows. Every few weeks the stored times are moved
    /// so that it fits.
    fn tick(&mut self, now: Mono) -> Option<u32> {
        if self.tick_wide(now) > u64::from(u32::MAX) {
            self.rebase(now);
        }
        u32::try_from(now.0.checked_sub(self.base)? >> self.shift).ok()
    }

    fn tick_wide(&self, now: Mono) -> u64 {
        now.since(Mono(self.base)) >> self.shift
    }

    #[cold]
    fn rebase(&mut self, now: Mono) {
        let rules = self.rules.clone();
        self.rebuild(now, rules, self.shift, self.stride, &Some);
    }

    /// Writes every place anew: for other rules, another length of a tick or of a place, another time 0.
    fn rebuild(
        &mut self,
        now: Mono,
        rules: Vec<Rule>,
        shift: u32,
        stride: usize,
        map: &dyn Fn(u16) -> Option<u16>,
    ) {
        let longest = rules.iter().map(|rule| u64::from(rule.window) << shift).max().unwrap_or(0);
        let old_words = (stride != self.stride).then(|| Buffer::new(self.words.len() / self.stride * stride));
        let old_words = old_words.map(|words| std::mem::replace(&mut self.words, words));
        let old_rules = std::mem::replace(&mut self.rules, rules);
        let (old_base, old_shift, old_stride) = (self.base, self.shift, self.stride);
        (self.base, self.shift, self.stride) =
            (now.0.saturating_sub(longest.saturating_mul(2)), shift, stride);
        self.used = 0;
        for place in 0..self.words.len() / stride {
            let from = place * old_stride..(place + 1) * old_stride;
            let Some(from) = old_words.as_deref().unwrap_or(&self.words).get(from) else { continue };
            let Some(key) = Key::stored(from) else { continue };
            let mut copy = [0; WORDS_MAX];
            copy.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            let at = place * stride;
            self.words.iter_mut().skip(at).take(stride).for_each(|word| *word = 0);
            let (old, len) = tag_parts(copy[0]);
            let Some(&old_rule) = old_rules.get(usize::from(old)) else { continue };
            let Some(new) = map(old) else { continue };
            window::each(old_rule, len, copy.get(HEAD..).unwrap_or(&[]), |tick, n| {
                self.put_back(at, key, new, old_base + (u64::from(tick) << old_shift), n);
            });
            self.used += usize::from(self.words.get(at).is_some_and(|&tag| tag != 0));
        }
    }

    /// Adds hits that were counted before, newest first, to the place at `at`, as far as they fit and never up to a verdict of their own.
    fn put_back(&mut self, at: usize, key: Key, rule: u16, millis: u64, n: u32) {
        let Some(&limits) = self.rules.get(usize::from(rule)) else { return };
        let Some(time) = millis.checked_sub(self.base).and_then(|ms| u32::try_from(ms >> self.shift).ok())
        else {
            return;
        };
        let Some((head, words)) =
            self.words.get_mut(at..at + self.stride).and_then(|place| place.split_at_mut_checked(HEAD))
        else {
            return;
        };
        let mut hits = Hits { len: tag_parts(head[0]).1, words };
        let n = n.min(hits.room(limits));
        if n > 0 {
            hits.add(limits, time, n);
            write(key, head, rule, hits.len);
        }
    }

    /// Where the eight places that `key` may take begin.
    fn set(&self, key: Key) -> usize {
        let set = ((key.hash(self.key) >> 32) * self.sets) >> 32;
        usize::try_from(set).unwrap_or(0) * self.stride * WAYS
    }

    /// Where in the set at `set` the place of `key` and of the rule of `tag` begins.
    fn find(&self, set: usize, tag: u32, key: Key) -> Option<usize> {
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

    /// Where in the set at `set` a new offender may be put: an empty place, else that of the least dangerous one, emptied.
    fn make_room(&mut self, set: usize, now: u32) -> usize {
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
        self.evicted += u64::from(least.0 >> 32 > 0);
        self.clear(least.1);
        least.1
    }

    /// What makes an offender worth keeping: hits inside the window, then how late the last one was; 0 for an empty place.
    fn danger(&self, at: usize, now: u32) -> u64 {
        let Some((rule, len, words)) = self.stored(at).filter(|stored| stored.1 > 0) else { return 0 };
        let live = window::live(rule, len, words, now.into());
        let last = window::newest(rule, len, words).unwrap_or(0);
        (u64::from(live) << 32) | u64::from(last.max(1))
    }

    fn clear(&mut self, at: usize) {
        if let Some(place) = self.words.get_mut(at..at + self.stride).filter(|place| place[0] != 0) {
            place.fill(0);
            self.used -= 1;
        }
    }

    /// The rule, and the words of hits in use, of the place at `at`; none if it is empty.
    fn stored(&self, at: usize) -> Option<(Rule, usize, &[u32])> {
        let (head, words) = self.words.get(at..at + self.stride)?.split_at_checked(HEAD)?;
        let (rule, len) = tag_parts(*head.first()?);
        Some((*self.rules.get(usize::from(rule))?, len, words))
    }

    fn live(&self, at: usize, now: u64) -> u32 {
        self.stored(at).map_or(0, |(rule, len, words)| window::live(rule, len, words, now))
    }

    /// The tick of the last hit.
    fn last(&self, at: usize) -> u64 {
        self.stored(at).and_then(|(rule, len, words)| window::newest(rule, len, words)).map_or(0, u64::from)
    }
}

/// The rules in ticks, the length of a tick as a power of two of milliseconds, and the words of one place.
fn measure(limits: &[Limits]) -> (Vec<Rule>, u32, usize) {
    let millis = |limits: &Limits| u64::from(limits.findtime.max(1)) * 1000;
    let longest = limits.iter().map(millis).max().unwrap_or(0);
    let shift = (0..u64::BITS).find(|&shift| longest >> shift <= WINDOW_TICKS_MAX).unwrap_or(0);
    let rule = |limits: &Limits| Rule {
        window: u32::try_from(millis(limits) >> shift).unwrap_or(u32::MAX).max(window::WINDOW_MIN),
        limit: limits.maxretry.clamp(1, window::LIMIT_MAX),
    };
    let rules: Vec<Rule> = limits.iter().map(rule).collect();
    let words = rules.iter().map(|rule| rule.words()).max().unwrap_or(0);
    (rules, shift, HEAD + words)
}
