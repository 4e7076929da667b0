#![forbid(unsafe_code)]
//! Which lines of a block can matter, and to which patterns: those that hold a literal which a pattern needs.
//!
//! One pass over the block, before lines are cut, however many literals there are. Of each literal a window is
//! chosen, all of the same length, and the block is probed only every few bytes: wherever a window stands, one of
//! the probes meets one of its runs of four bytes. A line that is found is only worth a look: one too many costs
//! time, one too few is a missed attack. Must not know headers or addresses.

use super::{MAX_RULES, Rule};
use memchr::arch::all::is_prefix;
use memchr::{memchr, memrchr};
use std::ops::Range;

/// Bytes of a probe.
const RUN: usize = 4;
/// Bits of the table that says at once that a probe is none of ours.
const TABLE: usize = 1 << 14;
/// Parts into which that is cut, to find the runs of one slot soon.
const PARTS: usize = 256;
/// Longest window: longer steps gain little.
const WINDOW_MAX: usize = 11;

/// Four bytes of a window, and where they stand in it.
#[derive(Clone, Copy)]
struct Run {
    bytes: u32,
    /// Index of the window in `Scan::windows`.
    window: u16,
    offset: u8,
}

/// A part of a literal that a pattern needs.
struct Window {
    bytes: [u8; WINDOW_MAX],
    rule: u8,
    /// Number of the pattern's bit.
    pattern: u8,
}

/// Finds candidates.
pub(super) struct Scan {
    table: Box<[u64; TABLE / 64]>,
    /// In the order of their slots.
    runs: Box<[Run]>,
    /// Where in `runs` those of each part of the table begin, and where the last ones end.
    parts: Box<[u32; PARTS + 1]>,
    windows: Box<[Window]>,
    /// By rule: patterns that need no literal long enough to be looked for.
    open: Box<[u64]>,
    /// Rules of which every line has to be looked at: a pattern of failures is open.
    every: u64,
    /// Length of all windows.
    window: usize,
}

/// What can match in a line: the patterns, by rule.
pub(super) struct Possible {
    /// Rules of which some pattern can match; of the others nothing is known here.
    pub(super) rules: u64,
    patterns: [u64; MAX_RULES],
}

impl Possible {
    pub(super) fn new() -> Possible {
        Possible { rules: 0, patterns: [0; MAX_RULES] }
    }

    /// The patterns of a rule in `rules`, as a set of `bit`s.
    pub(super) fn patterns(&self, rule: u8) -> u64 {
        self.patterns.get(usize::from(rule)).copied().unwrap_or(0)
    }
}

/// Pattern `n` of a rule in a set of patterns: those of failures, then those that take a failure back. From the 64th
/// on they share a bit.
pub(super) fn bit(n: usize) -> u64 {
    1 << n.min(63)
}

/// The numbers below `len` of the patterns whose bits are in `set`.
pub(super) fn numbers(mut set: u64, len: usize) -> impl Iterator<Item = usize> {
    let mut shared = 63;
    std::iter::from_fn(move || {
        let n = usize::try_from(set.trailing_zeros()).unwrap_or(64);
        let n = if n < 63 { n } else { shared };
        if n < 63 {
            set &= set - 1;
        } else {
            shared += 1;
        }
        (set != 0 || n < 63).then_some(n)
    })
    .take_while(move |&n| n < len)
}

impl Scan {
    pub(super) fn new(rules: &[Rule]) -> Scan {
        let mut open = vec![0; rules.len()];
        let mut every = 0;
        let mut literals: Vec<(&[u8], u8, u8)> = Vec::new();
        for ((rule, index), open) in rules.iter().zip(0u8..).zip(&mut open) {
            if rule.webscan.is_some() {
                // Every request counts.
                *open = u64::MAX;
                every |= 1 << index;
                continue;
            }
            let patterns = rule.fail.iter().map(|f| &f.0).chain(&rule.ignore);
            for (pattern, n) in patterns.zip(0usize..) {
                let usable =
                    pattern.required().all(|l| l.len() >= RUN) && pattern.required().next().is_some();
                if usable {
                    let bit = u8::try_from(n).unwrap_or(u8::MAX).min(63);
                    literals.extend(pattern.required().map(|l| (l, index, bit)));
                } else {
                    *open |= bit(n);
                    every |= u64::from(n < rule.fail.len()) << index;
                }
            }
        }
        let shortest = literals.iter().map(|l| l.0.len()).min().unwrap_or(RUN);
        let window = shortest.min(WINDOW_MAX);
        let mut table = Box::new([0; TABLE / 64]);
        let (mut runs, mut windows) = (Vec::new(), Vec::with_capacity(literals.len()));
        for (literal, rule, pattern) in literals {
            let best = literal.windows(window).max_by_key(|w| rarity(w)).unwrap_or_default();
            let mut bytes = [0; WINDOW_MAX];
            bytes.iter_mut().zip(best).for_each(|(to, from)| *to = *from);
            let number = u16::try_from(windows.len()).unwrap_or(u16::MAX);
            windows.push(Window { bytes, rule, pattern });
            for (run, offset) in best.windows(RUN).zip(0u8..) {
                let bytes = run.first_chunk().map_or(0, |run| u32::from_le_bytes(*run));
                if let Some(word) = table.get_mut(slot(bytes) / 64) {
                    *word |= 1 << (slot(bytes) % 64);
                }
                runs.push(Run { bytes, window: number, offset });
            }
        }
        runs.sort_unstable_by_key(|run| slot(run.bytes));
        let mut parts = Box::new([0; PARTS + 1]);
        for (begin, part) in parts.iter_mut().zip(0..) {
            let before = runs.partition_point(|run| slot(run.bytes) < part * (TABLE / PARTS));
            *begin = u32::try_from(before).unwrap_or(u32::MAX);
        }
        Scan { table, runs: runs.into(), parts, windows: windows.into(), open: open.into(), every, window }
    }

    /// The first line in `block` that can matter to the rules in `wanted` and begins at or behind `at`, which is the
    /// begin of a line. `possible` tells what can match in it.
    pub(super) fn next(
        &self,
        wanted: u64,
        block: &[u8],
        at: usize,
        possible: &mut Possible,
    ) -> Option<Range<usize>> {
        let rest = block.get(at..).filter(|rest| !rest.is_empty())?;
        self.begin(wanted, possible);
        let (mut hint, mut next) = (0, 0);
        while possible.rules == 0 {
            hint = self.probe(rest, next)?;
            next = hint + self.step();
            self.note(wanted, rest, hint, possible);
        }
        let begin = memrchr(b'\n', rest.get(..hint)?).map_or(0, |n| n + 1);
        let end = memchr(b'\n', rest.get(hint..)?).map_or(rest.len(), |n| hint + n);
        self.note_all(wanted, rest.get(..end)?, next, possible);
        Some(at + begin..at + end)
    }

    /// What can match in `text`.
    pub(super) fn text(&self, wanted: u64, text: &[u8], possible: &mut Possible) {
        self.begin(wanted, possible);
        self.note_all(wanted, text, 0, possible);
    }

    fn begin(&self, wanted: u64, possible: &mut Possible) {
        possible.rules = 0;
        let every = self.every & wanted;
        for (rule, _) in (0u8..).zip(&self.open).filter(|&(rule, _)| every >> rule & 1 == 1) {
            self.add(rule, 0, possible);
        }
    }

    fn add(&self, rule: u8, set: u64, possible: &mut Possible) {
        let index = usize::from(rule);
        let (Some(patterns), Some(open)) = (possible.patterns.get_mut(index), self.open.get(index)) else {
            return;
        };
        if possible.rules >> rule & 1 == 0 {
            possible.rules |= 1 << rule;
            *patterns = *open;
        }
        *patterns |= set;
    }

    /// Adds the patterns whose windows probes meet in `text` from `at` on.
    fn note_all(&self, wanted: u64, text: &[u8], mut at: usize, possible: &mut Possible) {
        while let Some(found) = self.probe(text, at) {
            self.note(wanted, text, found, possible);
            at = found + self.step();
        }
    }

    /// Adds the patterns of which a window stands where the probe at `at` says.
    fn note(&self, wanted: u64, text: &[u8], at: usize, possible: &mut Possible) {
        let Some(bytes) = run_at(text, at) else { return };
        let part = slot(bytes) / (TABLE / PARTS);
        let limit = |part: usize| self.parts.get(part).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
        let runs = self.runs.get(limit(part)..limit(part + 1)).unwrap_or_default();
        for run in runs.iter().filter(|run| run.bytes == bytes) {
            let Some(window) = self.windows.get(usize::from(run.window)) else { continue };
            let begin = at.wrapping_sub(usize::from(run.offset));
            let stands = text.get(begin..).zip(window.bytes.get(..self.window));
            if wanted >> window.rule & 1 == 1 && stands.is_some_and(|(text, window)| is_prefix(text, window))
            {
                self.add(window.rule, 1 << window.pattern, possible);
            }
        }
    }

    /// No window is so short that it fits between two probes.
    #[inline]
    fn step(&self) -> usize {
        self.window + 1 - RUN
    }

    /// The first place from `at` on, in steps, where a run of ours may stand.
    #[inline(never)]
    fn probe(&self, text: &[u8], mut at: usize) -> Option<usize> {
        let (step, table) = (self.step(), &*self.table);
        while let Some(bytes) = run_at(text, at) {
            let slot = slot(bytes);
            if table.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1) {
                return Some(at);
            }
            at += step;
        }
        None
    }
}

#[inline]
fn run_at(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..)?.first_chunk::<RUN>().map(|run| u32::from_le_bytes(*run))
}

/// Where the table speaks of a run.
#[inline]
fn slot(bytes: u32) -> usize {
    // The high bits of a product with an odd number depend on all bits of the run.
    let mixed = bytes.wrapping_mul(0x9e37_79b1) >> (u32::BITS - TABLE.ilog2());
    usize::try_from(mixed).unwrap_or(0)
}

/// How seldom log text has such bytes, roughly: capitals and marks are seldom, small letters and blanks are not.
fn rarity(text: &[u8]) -> u32 {
    let of = |b: &u8| match b {
        b' ' | b'a' | b'e' | b'i' | b'n' | b'o' | b'r' | b's' | b't' | b'0'..=b'9' => 0,
        b'a'..=b'z' | b':' | b'.' | b'[' | b']' => 1,
        _ => 2,
    };
    text.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_set_are_those_of_its_bits() {
        let of = |set, len| numbers(set, len).collect::<Vec<_>>();
        assert_eq!(of(0, 70), []);
        assert_eq!(of(0b1011, 70), [0, 1, 3]);
        assert_eq!(of(0b1011, 2), [0, 1]);
        assert_eq!(of(1 << 62, 70), [62]);
        // The last bit stands for all patterns from the 64th on.
        assert_eq!(of(1 << 63 | 4, 66), [2, 63, 64, 65]);
        assert_eq!(of(bit(65), 64), [63]);
    }
}
