#![forbid(unsafe_code)]
//! Which lines of a block can matter, and to which patterns: those that hold a literal which a pattern needs.
//!
//! One pass over the block, before lines are cut, however many literals there are. Of each literal a window is
//! chosen, all of the same length, and the block is probed only every few bytes: wherever a window stands, one of
//! the probes meets one of its runs of four bytes. A line that is found is only worth a look: one too many costs
//! time, one too few is a missed attack. Must not know headers or addresses.

use super::Rule;
use memchr::{memchr, memrchr};
use std::ops::Range;

/// Bytes of a probe.
const RUN: usize = 4;
/// Bits of the table that says at once that a probe is none of ours.
const TABLE: usize = 1 << 14;
/// Longest window: longer steps gain little.
const WINDOW_MAX: usize = 11;

/// A window of a literal, as one of its runs leads to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    bytes: u32,
    /// Where the run stands in the window.
    offset: u8,
    rule: u8,
    /// See `bit`.
    pattern: u64,
    window: [u8; WINDOW_MAX],
}

/// Finds candidates.
pub(super) struct Scan {
    table: Box<[u64; TABLE / 64]>,
    /// Sorted, so that equal bytes stand together.
    runs: Box<[Run]>,
    /// By rule: patterns that need no literal long enough to be looked for.
    open: Box<[u64]>,
    /// Length of all windows.
    window: usize,
}

/// Pattern `n` of a rule in a set of patterns. From the 64th on they share a bit.
pub(super) fn bit(n: usize) -> u64 {
    1 << n.min(63)
}

impl Scan {
    pub(super) fn new(rules: &[Rule]) -> Scan {
        let mut open = vec![0; rules.len()];
        let mut literals: Vec<(&[u8], u8, u64)> = Vec::new();
        for ((rule, index), open) in rules.iter().zip(0u8..).zip(&mut open) {
            for (n, (pattern, _)) in rule.fail.iter().enumerate() {
                let usable =
                    pattern.required().all(|l| l.len() >= RUN) && pattern.required().next().is_some();
                if usable {
                    literals.extend(pattern.required().map(|l| (l, index, bit(n))));
                } else {
                    *open |= bit(n);
                }
            }
        }
        let shortest = literals.iter().map(|l| l.0.len()).min().unwrap_or(RUN);
        let window = shortest.min(WINDOW_MAX);
        let mut table = Box::new([0; TABLE / 64]);
        let mut runs = Vec::new();
        for (literal, rule, pattern) in literals {
            let best = literal.windows(window).max_by_key(|w| rarity(w)).unwrap_or_default();
            let mut padded = [0; WINDOW_MAX];
            padded.iter_mut().zip(best).for_each(|(to, from)| *to = *from);
            for (run, offset) in best.windows(RUN).zip(0u8..) {
                let bytes = run.first_chunk().map_or(0, |run| u32::from_le_bytes(*run));
                if let Some(word) = table.get_mut(slot(bytes) / 64) {
                    *word |= 1 << (slot(bytes) % 64);
                }
                runs.push(Run { bytes, offset, rule, pattern, window: padded });
            }
        }
        runs.sort_unstable();
        runs.dedup();
        Scan { table, runs: runs.into(), open: open.into(), window }
    }

    /// The first line in `block` that can matter to the rules in `wanted` and begins at or behind `at`, which is the
    /// begin of a line.
    pub(super) fn next(&self, wanted: u64, block: &[u8], at: usize) -> Option<Range<usize>> {
        let rest = block.get(at..).filter(|rest| !rest.is_empty())?;
        let is_wanted = |rule: u8| wanted >> rule & 1 == 1;
        let every_line = (0u8..).zip(&self.open).any(|(rule, &open)| open != 0 && is_wanted(rule));
        let hint = if every_line { 0 } else { self.windows(rest).find(|(_, run)| is_wanted(run.rule))?.0 };
        let begin = memrchr(b'\n', rest.get(..hint)?).map_or(0, |n| n + 1);
        let end = memchr(b'\n', rest.get(begin..)?).map_or(rest.len(), |n| begin + n);
        Some(at + begin..at + end)
    }

    /// The patterns of `rule` that can match in `text`, as a set of `bit`s.
    pub(super) fn patterns(&self, rule: u8, text: &[u8]) -> u64 {
        let open = self.open.get(usize::from(rule)).copied().unwrap_or(0);
        let found = self.windows(text).filter(|(_, run)| run.rule == rule);
        found.fold(open, |set, (_, run)| set | run.pattern)
    }

    /// The windows of ours in `text`, with the places of the probes that met them.
    fn windows<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, &'a Run)> {
        self.probes(text).flat_map(move |(at, bytes)| {
            let first = self.runs.partition_point(|run| run.bytes < bytes);
            let runs = self.runs.iter().skip(first).take_while(move |run| run.bytes == bytes);
            let stands = move |run: &&Run| {
                let begin = at.checked_sub(usize::from(run.offset));
                let there = begin.and_then(|begin| text.get(begin..begin + self.window));
                there.is_some() && there == run.window.get(..self.window)
            };
            runs.filter(stands).map(move |run| (at, run))
        })
    }

    /// The probes that may be runs of ours, with their places. No window is so short that it fits between two.
    fn probes<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut at = 0;
        std::iter::from_fn(move || {
            while let Some(run) = text.get(at..).and_then(|rest| rest.first_chunk::<RUN>()) {
                let (place, bytes) = (at, u32::from_le_bytes(*run));
                at += self.window + 1 - RUN;
                let slot = slot(bytes);
                if self.table.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1) {
                    return Some((place, bytes));
                }
            }
            None
        })
    }
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
