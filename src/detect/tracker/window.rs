#![forbid(unsafe_code)]
//! The hits of one offender on one rule, in a few words of memory lent by the table.
//!
//! Up to [`EXACT`] hits the window slides exactly: the words are the hits, oldest first, and one fewer than
//! the limit is enough, because the hit that reaches the limit is never stored. Each says when it was, what
//! name it was for (as a few bits of a keyed hash) and how many further hits of that name were spared since.
//! Beyond that, hits are counted in [`PARTS`] sub-windows of findtime/16 each, of which only those that lie
//! wholly inside findtime count. So a hit that has left the window never counts (no ban is earlier than the
//! exact one), and every hit of the last 15/16 of findtime does (no ban is later than the exact one
//! of a findtime shorter by a sixteenth). Of names nothing is known there.
//!
//! Times are ticks of the rule's clock; this module knows neither what a tick is nor who the offender is.

/// Largest limit that is counted exactly.
pub(super) const EXACT: u32 = 32;
/// Largest limit at all; sub-windows count in 16 bits.
pub(super) const LIMIT_MAX: u32 = u16::MAX as u32;
/// Shortest window: each sub-window is at least one tick.
pub(super) const WINDOW_MIN: u32 = 16;
/// Sub-windows of an inexact window.
const PARTS: usize = WINDOW_MIN as usize;

/// What one rule asks for, in ticks.
#[derive(Clone, Copy)]
pub(super) struct WindowRule {
    /// Length of the window, at least `WINDOW_MIN`: a hit exactly this old is outside.
    pub(super) window: u32,
    /// Hits that make a verdict, 1 to `LIMIT_MAX`.
    pub(super) limit: u32,
    /// How long further hits of the same name are spared; 0 = never.
    pub(super) same: u32,
    /// That many are spared in an hour; 0 = all.
    pub(super) spare: u32,
    /// An hour.
    pub(super) hour: u32,
}

impl WindowRule {
    /// Words that the hits of one offender need.
    pub(super) fn words(self) -> usize {
        if self.exact() { self.limit as usize - 1 } else { 1 + PARTS / 2 }
    }

    fn exact(self) -> bool {
        self.limit <= EXACT
    }

    /// How long a hit is remembered: as long as it counts, or what was spared for its sake.
    pub(super) fn memory(self) -> u32 {
        let spared = if self.same > 0 && self.spare > 0 { self.hour } else { self.same };
        self.window.max(spared)
    }

    /// Length of a sub-window.
    fn part(self) -> u32 {
        (self.window / WINDOW_MIN).max(1)
    }

    /// What is left of `spared` hits after `ticks`: they are made up for evenly.
    fn left(self, spared: u32, ticks: u32) -> u32 {
        let gone = u64::from(self.spare) * u64::from(ticks) / u64::from(self.hour.max(1));
        spared.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
    }
}

/// What a hit is for: a name, of which six bits are kept, and in which of four ways it failed.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct HitMark(u8);

impl HitMark {
    /// No name: each such hit stands for itself.
    pub(super) const NONE: HitMark = HitMark(0);

    /// For a hash of a name and the number of a pattern.
    pub(super) fn new(hash: u64, way: u8) -> HitMark {
        let name = u8::try_from(hash % 63).unwrap_or(0) + 1;
        HitMark(name << 2 | way & 3)
    }

    fn name(self) -> u8 {
        self.0 >> 2
    }

    #[cfg(test)]
    pub(super) fn bits(self) -> u8 {
        self.0
    }
}

/// A stored hit.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub(super) time: u32,
    pub(super) mark: HitMark,
    /// Hits of the same mark that were spared, as far as that is not made up for.
    pub(super) spared: u32,
}

impl Stored {
    fn read(word: u32) -> Stored {
        let [spared, mark, low, high] = word.to_le_bytes();
        Stored { time: u16::from_le_bytes([low, high]).into(), mark: HitMark(mark), spared: spared.into() }
    }

    fn word(self) -> u32 {
        let spared = self.spared.min(0xff);
        self.time << 16 | u32::from(self.mark.0) << 8 | spared
    }
}

fn time(word: u32) -> u32 {
    word >> 16
}

/// The stored hits: `len` of `words` are in use (one for a counting window that was begun).
pub(super) struct Hits<'a> {
    pub(super) len: usize,
    pub(super) words: &'a mut [u32],
}

impl Hits<'_> {
    /// Adds `n` hits at `time` and returns how many then lie within the window that ends at the newest hit.
    /// Hits that are older than that window are not counted. When the result reaches the rule's limit,
    /// nothing was stored and the caller is to forget the offender. Of a hit that is spared nothing is
    /// counted.
    pub(super) fn add(&mut self, rule: WindowRule, time: u32, n: u32, mark: HitMark) -> u32 {
        if !rule.exact() {
            return self.add_count(rule, time, n);
        }
        let end = newest(rule, self.len, self.words).map_or(time, |last| last.max(time));
        self.drop_before(rule, end);
        if end - time >= rule.window {
            return self.live(rule, end);
        }
        match self.set_aside(rule, time, mark) {
            Some(spared) => self.add_time(rule, Stored { time, mark, spared }, n, end),
            None => self.live(rule, end),
        }
    }

    /// Puts back `n` hits that were stored elsewhere, as far as they fit without a verdict.
    pub(super) fn put_back(&mut self, rule: WindowRule, hit: Stored, n: u32) {
        if !rule.exact() {
            self.add_count(rule, hit.time, n);
            return;
        }
        let room = (rule.words()).saturating_sub(self.len);
        let n = n.min(u32::try_from(room).unwrap_or(0));
        let end = newest(rule, self.len, self.words).map_or(hit.time, |last| last.max(hit.time));
        if n > 0 && end - hit.time < rule.memory() {
            self.add_time(rule, hit, n, end);
        }
    }

    /// Takes back the hits of a name. Returns whether there were any.
    pub(super) fn take_back(&mut self, rule: WindowRule, mark: HitMark) -> bool {
        if !rule.exact() {
            return false;
        }
        let mut kept = 0;
        for at in 0..self.len {
            let Some(&word) = self.words.get(at) else { break };
            if Stored::read(word).mark.name() != mark.name() {
                if let Some(place) = self.words.get_mut(kept) {
                    *place = word;
                }
                kept += 1;
            }
        }
        let any = kept < self.len;
        self.len = kept;
        any
    }

    fn live(&self, rule: WindowRule, end: u32) -> u32 {
        live(rule, self.len, self.words, end.into())
    }

    fn stored(&self) -> &[u32] {
        self.words.get(..self.len).unwrap_or(&[])
    }

    /// Forgets what is remembered no longer.
    fn drop_before(&mut self, rule: WindowRule, end: u32) {
        let memory = rule.memory();
        let gone = self.stored().iter().take_while(|&&word| end - time(word) >= memory).count();
        self.remove(0..gone);
    }

    fn remove(&mut self, range: std::ops::Range<usize>) {
        if !range.is_empty() {
            self.words.copy_within(range.end..self.len, range.start);
            self.len -= range.len();
        }
    }

    /// `None` if a hit is spared for one of the same mark; else how many were spared before, which the hit
    /// takes over.
    fn set_aside(&mut self, rule: WindowRule, time: u32, mark: HitMark) -> Option<u32> {
        if mark == HitMark::NONE || rule.same == 0 {
            return Some(0);
        }
        let known = self.stored().iter().rposition(|&word| Stored::read(word).mark == mark);
        let Some(place) = known.and_then(|at| self.words.get_mut(at)) else { return Some(0) };
        let mut known = Stored::read(*place);
        let ticks = time.saturating_sub(known.time);
        if ticks < rule.same && (rule.spare == 0 || known.spared < rule.spare) {
            known.spared += u32::from(rule.spare > 0);
            *place = known.word();
            return None;
        }
        let left = rule.left(known.spared, ticks);
        *place = Stored { spared: 0, ..known }.word();
        Some(left)
    }

    fn add_time(&mut self, rule: WindowRule, hit: Stored, n: u32, end: u32) -> u32 {
        let count = self.live(rule, end).saturating_add(n);
        let more = n as usize;
        if count >= rule.limit {
            return count;
        }
        // What counts no longer gives way, first that for whose sake nothing was spared.
        while self.len + more > self.words.len().min(rule.words()) {
            let old = self.stored().iter().take_while(|&&word| end - time(word) >= rule.window);
            let mut old = old.map(|&word| Stored::read(word).spared).enumerate();
            let Some(first) = old.next() else { return count };
            let at = if first.1 == 0 { first } else { old.find(|old| old.1 == 0).unwrap_or(first) }.0;
            self.remove(at..at + 1);
        }
        let from = self.len;
        let later = self.stored().iter().rev().take_while(|&&word| time(word) > hit.time).count();
        if later > 0 {
            self.words.copy_within(from - later..from, from - later + more);
        }
        let plain = Stored { spared: 0, ..hit }.word();
        let new = self.words.iter_mut().skip(from - later).take(more);
        new.rev()
            .zip(std::iter::once(hit.word()).chain(std::iter::repeat(plain)))
            .for_each(|(to, w)| *to = w);
        self.len += more;
        count
    }

    fn add_count(&mut self, rule: WindowRule, time: u32, n: u32) -> u32 {
        let part = rule.part();
        let (mut start, mut counts) = if self.len == 0 { (time, [0; PARTS]) } else { load(self.words) };
        let mut into = 0;
        if let Some(ahead) = time.checked_sub(start) {
            let steps = ahead / part;
            let keep = PARTS.saturating_sub(steps as usize);
            counts.copy_within(..keep, PARTS - keep);
            counts.iter_mut().take(PARTS - keep).for_each(|count| *count = 0);
            start += steps * part;
        } else {
            into = (start - time).div_ceil(part) as usize;
        }
        if let Some(count) = counts.get_mut(into) {
            *count = count.saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
        }
        store(self.words, start, &counts);
        self.len = 1;
        counts.iter().map(|&count| u32::from(count)).sum()
    }
}

/// How many hits lie within the window that ends at `now`.
pub(super) fn live(rule: WindowRule, len: usize, words: &[u32], now: u64) -> u32 {
    if len == 0 {
        return 0;
    }
    if rule.exact() {
        let hits = words.get(..len).unwrap_or(&[]);
        let gone = |&&word: &&u32| now.saturating_sub(time(word).into()) >= rule.window.into();
        let gone = hits.iter().take_while(gone).count();
        return u32::try_from(hits.len() - gone).unwrap_or(u32::MAX);
    }
    let (start, counts) = load(words);
    let steps = now.saturating_sub(start.into()) / u64::from(rule.part());
    let keep = PARTS.saturating_sub(usize::try_from(steps).unwrap_or(PARTS));
    counts.iter().take(keep).map(|&count| u32::from(count)).sum()
}

/// When the newest hit was; for a counting window when its sub-window began.
pub(super) fn newest(rule: WindowRule, len: usize, words: &[u32]) -> Option<u32> {
    if rule.exact() { words.get(len.checked_sub(1)?).copied().map(time) } else { words.first().copied() }
}

/// Calls `each` with the stored hits and how many each stands for, newest first.
pub(super) fn each(rule: WindowRule, len: usize, words: &[u32], mut each: impl FnMut(Stored, u32)) {
    if rule.exact() {
        words.iter().take(len).rev().for_each(|&word| each(Stored::read(word), 1));
    } else if len > 0 {
        let (start, counts) = load(words);
        for (age, &count) in (0u32..).zip(&counts).filter(|&(_, &count)| count > 0) {
            let time = start.saturating_sub(age * rule.part());
            each(Stored { time, mark: HitMark::NONE, spared: 0 }, count.into());
        }
    }
}

/// Start and counts of a counting window, newest sub-window first.
fn load(words: &[u32]) -> (u32, [u16; PARTS]) {
    let mut counts = [0; PARTS];
    let (start, packed) = words.split_first().unwrap_or((&0, &[]));
    for (pair, word) in counts.chunks_exact_mut(2).zip(packed) {
        let bytes = word.to_ne_bytes();
        pair[0] = u16::from_ne_bytes([bytes[0], bytes[1]]);
        pair[1] = u16::from_ne_bytes([bytes[2], bytes[3]]);
    }
    (*start, counts)
}

fn store(words: &mut [u32], start: u32, counts: &[u16; PARTS]) {
    let Some((first, packed)) = words.split_first_mut() else { return };
    *first = start;
    for (pair, word) in counts.chunks_exact(2).zip(packed) {
        let (low, high) = (pair[0].to_ne_bytes(), pair[1].to_ne_bytes());
        *word = u32::from_ne_bytes([low[0], low[1], high[0], high[1]]);
    }
}
