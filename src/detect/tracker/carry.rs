#![forbid(unsafe_code)]
//! What a table takes along: to other rules after a reload, to another time 0, to another process.

use super::window::{self, Hits, Stored};
use super::{HEAD, Limits, TICK_MAX, TrackedRule, Tracker, WORDS_MAX, measure, tag, tag_parts, write};
use crate::base::clock::Mono;
use crate::detect::places::NetKey;
use crate::sys::buffer::Buffer;

impl Tracker {
    /// Takes over new rules after a reload: `map` tells the new number of an old rule, none if it is gone.
    /// Counters are kept, and judged by the new limits at the next hit. Memory is taken anew only when the
    /// places change size.
    pub fn remap(&mut self, now: Mono, rules: &[Limits], map: &dyn Fn(u16) -> Option<u16>) {
        let (mut rules, stride) = measure(rules);
        rules.iter_mut().for_each(|rule| rule.rebase(now));
        self.rebuild(rules, stride, map);
    }

    #[cold]
    pub(super) fn rebase_rule(&mut self, now: Mono, rule: u16) {
        let mut rules = self.rules.clone();
        if let Some(rule) = rules.get_mut(usize::from(rule)) {
            rule.rebase(now);
        }
        self.rebuild(rules, self.stride, &Some);
    }

    /// Writes every place anew: for other rules, another length of a place, another time 0.
    fn rebuild(&mut self, rules: Vec<TrackedRule>, stride: usize, map: &dyn Fn(u16) -> Option<u16>) {
        let old_words = (stride != self.stride).then(|| Buffer::new(self.words.len() / self.stride * stride));
        let old_words = old_words.map(|words| std::mem::replace(&mut self.words, words));
        let old_rules = std::mem::replace(&mut self.rules, rules);
        let old_stride = std::mem::replace(&mut self.stride, stride);
        self.used = 0;
        for place in 0..self.words.len() / stride {
            let from = place * old_stride..(place + 1) * old_stride;
            let Some(from) = old_words.as_deref().unwrap_or(&self.words).get(from) else { continue };
            let Some(key) = NetKey::stored(from) else { continue };
            let mut copy = [0; WORDS_MAX];
            copy.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            let at = place * stride;
            self.words.iter_mut().skip(at).take(stride).for_each(|word| *word = 0);
            let (old, len) = tag_parts(copy[0]);
            let Some(&old_rule) = old_rules.get(usize::from(old)) else { continue };
            let Some(new) = map(old) else { continue };
            window::each(old_rule.limits, len, copy.get(HEAD..).unwrap_or(&[]), |hit, n| {
                self.put_back(at, key, new, (old_rule.millis(hit.time), hit), n);
            });
            self.used += usize::from(self.words.get(at).is_some_and(|&tag| tag != 0));
        }
    }

    /// Adds hits that were counted before, newest first, to the place at `at`, as far as they fit and never
    /// up to a verdict of their own.
    fn put_back(&mut self, at: usize, key: NetKey, rule: u16, (millis, hit): (u64, Stored), n: u32) {
        let Some(&own) = self.rules.get(usize::from(rule)) else { return };
        let Some(time) = own.tick(millis).and_then(|tick| u32::try_from(tick.min(TICK_MAX)).ok()) else {
            return;
        };
        let Some((head, words)) =
            self.words.get_mut(at..at + self.stride).and_then(|place| place.split_at_mut_checked(HEAD))
        else {
            return;
        };
        let mut hits = Hits { len: tag_parts(head[0]).1, words };
        hits.put_back(own.limits, Stored { time, ..hit }, n);
        if hits.len > 0 {
            write(key, head, rule, hits.len);
        }
    }

    /// Calls `each` with what is remembered of everybody, in no order, for a table with the same rules: the
    /// time 0 of the rule, and the words of the place.
    pub(in crate::detect) fn hand_over(&self, now: Mono, each: &mut dyn FnMut(u64, &[u32])) {
        for (at, place) in (0..).step_by(self.stride).zip(self.words.chunks_exact(self.stride)) {
            let Some((rule, ..)) = self.stored(at) else { continue };
            if now.since(Mono(self.last(at))) >> rule.shift < rule.limits.memory().into() {
                each(rule.base, place);
            }
        }
    }

    /// Takes in what a table with the same rules had of somebody, who is not here yet. Nothing has to be true
    /// of it: `None` for what is no such place. No hit is later than now, and none makes a verdict of its
    /// own.
    pub(in crate::detect) fn take_in(&mut self, now: Mono, base: u64, place: &[u32]) -> Option<()> {
        let key = NetKey::stored(place).filter(|_| place.len() == self.stride)?;
        let (rule, len) = tag_parts(*place.first()?);
        // The clock of the rule may have to go on first.
        self.tick(now, rule)?;
        let own = *self.rules.get(usize::from(rule))?;
        let set = self.set(key.exact_net().map(NetKey::of)?);
        if self.find(set, tag(key, rule), key).is_some() {
            return None;
        }
        let at = self.make_room(set, now);
        window::each(own.limits, len, place.get(HEAD..)?, |hit, n| {
            let millis = base.saturating_add(u64::from(hit.time) << own.shift).min(now.0);
            self.put_back(at, key, rule, (millis, hit), n);
        });
        self.used += usize::from(self.words.get(at).is_some_and(|&tag| tag != 0));
        Some(())
    }

    /// Goes on from a table that had so many give way.
    pub(in crate::detect) fn go_on_from(&mut self, evicted: u64) {
        self.evicted = evicted;
    }
}
