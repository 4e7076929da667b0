#![forbid(unsafe_code)]
//! The hits of one offender on one rule, in a few words of memory lent by the table.
//!
//! Up to [`EXACT`] hits the window slides exactly: the words are the times of the hits, oldest first, and one
//! fewer than the limit is enough, because the hit that reaches the limit is never stored.
//! Beyond that, hits are counted in [`PARTS`] sub-windows of findtime/16 each, of which only those that lie wholly
//! inside findtime count. So a hit that has left the window never counts (no ban is earlier than the
//! exact one), and every hit of the last 15/16 of findtime does (no ban is later than the exact one
//! of a findtime shorter by a sixteenth).
//!
//! Times are ticks of the table's clock; this module knows neither what a tick is nor who the offender is.

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
pub(super) struct Rule {
    /// Length of the window, at least `WINDOW_MIN`: a hit exactly this old is outside.
    pub(super) window: u32,
    /// Hits that make a verdict, 1 to `LIMIT_MAX`.
    pub(super) limit: u32,
}

impl Rule {
    /// Words that the hits of one offender need.
    pub(super) fn words(self) -> usize {
        if self.exact() { self.limit as usize - 1 } else { 1 + PARTS / 2 }
    }

    fn exact(self) -> bool {
        self.limit <= EXACT
    }

    /// Length of a sub-window.
    fn part(self) -> u32 {
        (self.window / WINDOW_MIN).max(1)
    }
}

/// The stored hits: `len` of `words` are in use (one for a counting window that was begun).
pub(super) struct Hits<'a> {
    pub(super) len: usize,
    pub(super) words: &'a mut [u32],
}

impl Hits<'_> {
    /// Adds `n` hits at `time` and returns how many then lie within the window that ends at the newest hit.
    /// Hits that are older than that window are not counted. When the result reaches the rule's limit, nothing was
    /// stored and the caller is to forget the offender.
    pub(super) fn add(&mut self, rule: Rule, time: u32, n: u32) -> u32 {
        if rule.exact() { self.add_time(rule, time, n) } else { self.add_count(rule, time, n) }
    }

    /// How many more hits fit without a verdict.
    pub(super) fn room(&self, rule: Rule) -> u32 {
        if !rule.exact() {
            return u32::MAX;
        }
        rule.limit.saturating_sub(1).saturating_sub(u32::try_from(self.len).unwrap_or(u32::MAX))
    }

    fn add_time(&mut self, rule: Rule, time: u32, n: u32) -> u32 {
        let end = newest(rule, self.len, self.words).map_or(time, |last| last.max(time));
        let stored = self.words.get(..self.len).unwrap_or(&[]);
        let gone = stored.iter().take_while(|&&t| end - t >= rule.window).count();
        if gone > 0 {
            self.words.copy_within(gone..self.len, 0);
            self.len -= gone;
        }
        let live = u32::try_from(self.len).unwrap_or(u32::MAX);
        if end - time >= rule.window {
            return live;
        }
        let count = live.saturating_add(n);
        let (from, more) = (self.len, n as usize);
        if count >= rule.limit || from + more > self.words.len() {
            return count;
        }
        let later = self.words.iter().take(from).rev().take_while(|&&t| t > time).count();
        if later > 0 {
            self.words.copy_within(from - later..from, from - later + more);
        }
        self.words.iter_mut().skip(from - later).take(more).for_each(|word| *word = time);
        self.len += more;
        count
    }

    fn add_count(&mut self, rule: Rule, time: u32, n: u32) -> u32 {
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
pub(super) fn live(rule: Rule, len: usize, words: &[u32], now: u64) -> u32 {
    if len == 0 {
        return 0;
    }
    if rule.exact() {
        let times = words.get(..len).unwrap_or(&[]);
        let gone = times.iter().take_while(|&&t| now.saturating_sub(t.into()) >= rule.window.into()).count();
        return u32::try_from(times.len() - gone).unwrap_or(u32::MAX);
    }
    let (start, counts) = load(words);
    let steps = now.saturating_sub(start.into()) / u64::from(rule.part());
    let keep = PARTS.saturating_sub(usize::try_from(steps).unwrap_or(PARTS));
    counts.iter().take(keep).map(|&count| u32::from(count)).sum()
}

/// When the newest hit was; for a counting window when its sub-window began.
pub(super) fn newest(rule: Rule, len: usize, words: &[u32]) -> Option<u32> {
    if rule.exact() { words.get(len.checked_sub(1)?).copied() } else { words.first().copied() }
}

/// Calls `each` with the stored hits as (time, how many), newest first.
pub(super) fn each(rule: Rule, len: usize, words: &[u32], mut each: impl FnMut(u32, u32)) {
    if rule.exact() {
        words.iter().take(len).rev().for_each(|&time| each(time, 1));
    } else if len > 0 {
        let (start, counts) = load(words);
        for (age, &count) in (0u32..).zip(&counts).filter(|&(_, &count)| count > 0) {
            each(start.saturating_sub(age * rule.part()), count.into());
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
