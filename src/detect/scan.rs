#![forbid(unsafe_code)]
//! Which lines of a block can matter, and to which patterns: those that hold a literal which a pattern needs.
//!
//! One pass over the block, before lines are cut, however many literals there are. Of each literal a window
//! is chosen, all of the same length, and the block is probed only every few bytes: wherever a window stands,
//! one of the probes meets one of its runs of four bytes. A line that is found is only worth a look: one too
//! many costs time, one too few is a missed attack. Must not know headers or addresses.

use super::{DetectRule, MAX_RULES};
use memchr::arch::all::is_prefix;
use memchr::{memchr, memrchr};
use std::ops::Range;

/// Bytes of a probe.
const RUN: usize = 4;
/// Bits of the table that says at once that a probe is none of ours.
const TABLE: usize = 1 << 14;
/// Longest window: longer steps gain little.
const WINDOW_MAX: usize = 11;
/// Shortest of the long literals.
const LONG: usize = 9;

/// Four bytes of a window, and where they stand in it.
#[derive(Clone, Copy)]
struct LiteralRun {
    bytes: u32,
    /// Index of its window in `LiteralScan::windows`.
    window: u16,
    offset: u8,
}

/// A part of a literal that patterns of a rule need.
struct LiteralWindow {
    bytes: [u8; WINDOW_MAX],
    rule: u8,
    /// The patterns, as a set of `bit`s.
    patterns: u64,
}

/// Literals of about the same length, which are looked for together: the shortest sets the pace.
struct Class {
    /// One bit for each slot that a run has.
    table: Box<[u64; TABLE / 64]>,
    /// In the order of their slots.
    runs: Box<[LiteralRun]>,
    /// Where in `runs` those of each word of the table begin, and where the last ones end.
    parts: Box<[u32; TABLE / 64 + 1]>,
    /// Length of its windows.
    window: usize,
    /// The rules that have some.
    rules: u64,
}

/// Finds candidates.
pub(super) struct LiteralScan {
    /// The long literals, then the short ones.
    classes: [Class; 2],
    windows: Box<[LiteralWindow]>,
    /// By rule: patterns that need no literal long enough to be looked for.
    open: Box<[u64]>,
    /// Rules of which every line has to be looked at: a pattern of failures is open.
    every: u64,
}

/// How far a block was looked through: by class, one more than the next place where a window stands, the
/// largest number if there is none. Zeros for a block that was not looked at yet.
pub(super) type Ahead = [usize; 2];

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

/// Pattern `n` of a rule in a set of patterns: as `DetectRule::patterns` counts them. From the 64th
/// on they share a bit.
pub(super) fn bit(n: usize) -> u64 {
    1 << n.min(63)
}

/// The numbers of the bits that are set.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let n = u8::try_from(set.trailing_zeros()).ok().filter(|n| *n < 64)?;
        set &= set - 1;
        Some(n)
    })
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

impl LiteralScan {
    pub(super) fn new(rules: &[DetectRule]) -> LiteralScan {
        let mut open = vec![0; rules.len()];
        let mut every = 0;
        let mut literals: Vec<(&[u8], u8, u64)> = Vec::new();
        for ((rule, index), open) in rules.iter().zip(0u8..).zip(&mut open) {
            if rule.webscan.is_some() {
                // Every request counts.
                *open = u64::MAX;
                every |= 1 << index;
                continue;
            }
            let ignored = rule.fail.len()..rule.fail.len() + rule.ignore.len();
            for (pattern, n) in rule.patterns().zip(0usize..) {
                let usable =
                    pattern.required().all(|l| l.len() >= RUN) && pattern.required().next().is_some();
                if usable {
                    literals.extend(pattern.required().map(|l| (l, index, bit(n))));
                } else {
                    *open |= bit(n);
                    every |= u64::from(!ignored.contains(&n)) << index;
                }
            }
        }
        let mut windows = Vec::with_capacity(literals.len());
        let (long, short): (Vec<_>, Vec<_>) = literals.into_iter().partition(|l| l.0.len() >= LONG);
        let classes = [long, short].map(|literals| Class::new(&literals, &mut windows));
        LiteralScan { classes, windows: windows.into(), open: open.into(), every }
    }

    /// The first line in `block` that can matter to the rules in `wanted` and begins at or behind `at`, which
    /// is the begin of a line. `possible` tells what can match in it. `ahead` goes from call to call for one
    /// block.
    pub(super) fn next(
        &self,
        wanted: u64,
        block: &[u8],
        at: usize,
        ahead: &mut Ahead,
        possible: &mut Possible,
    ) -> Option<Range<usize>> {
        block.get(at..).filter(|rest| !rest.is_empty())?;
        let mut hint = usize::MAX;
        for (class, ahead) in self.classes.iter().zip(&mut *ahead) {
            if class.rules & wanted == 0 {
                continue;
            }
            if *ahead <= at {
                *ahead = self.find(class, wanted, block, at).map_or(usize::MAX, |place| place + 1);
            }
            hint = hint.min(*ahead - 1);
        }
        self.begin(wanted, possible);
        let hint = if possible.rules == 0 { hint } else { at };
        let begin = memrchr(b'\n', block.get(at..hint)?).map_or(at, |n| at + n + 1);
        let end = memchr(b'\n', block.get(hint..)?).map_or(block.len(), |n| hint + n);
        for (class, place) in self.classes.iter().zip(ahead) {
            if (1..=end).contains(place) {
                self.note_all(class, wanted, block.get(..end)?, *place - 1, possible);
            }
        }
        Some(begin..end)
    }

    /// What can match in `text`.
    pub(super) fn text(&self, wanted: u64, text: &[u8], possible: &mut Possible) {
        self.begin(wanted, possible);
        for class in self.classes.iter().filter(|class| class.rules & wanted != 0) {
            self.note_all(class, wanted, text, 0, possible);
        }
    }

    fn begin(&self, wanted: u64, possible: &mut Possible) {
        possible.rules = 0;
        for rule in bits(self.every & wanted) {
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

    /// The first place from `at` on where a probe meets a window.
    fn find(&self, class: &Class, wanted: u64, text: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let found = class.probe(text, at)?;
            if self.standing(class, wanted, text, found).next().is_some() {
                return Some(found);
            }
            at = found + class.step();
        }
    }

    /// Adds the patterns whose windows probes meet in `text` from `at` on.
    fn note_all(&self, class: &Class, wanted: u64, text: &[u8], mut at: usize, possible: &mut Possible) {
        while let Some(found) = class.probe(text, at) {
            for window in self.standing(class, wanted, text, found) {
                self.add(window.rule, window.patterns, possible);
            }
            at = found + class.step();
        }
    }

    /// The windows that stand where the probe at `at` says.
    fn standing<'a>(
        &'a self,
        class: &'a Class,
        wanted: u64,
        text: &'a [u8],
        at: usize,
    ) -> impl Iterator<Item = &'a LiteralWindow> {
        let bytes = run_at(text, at);
        let runs = bytes.map_or(&[][..], |bytes| class.runs(slot(bytes)));
        runs.iter().filter(move |run| Some(run.bytes) == bytes).filter_map(move |run| {
            let window = self.windows.get(usize::from(run.window))?;
            let text = text.get(at.checked_sub(run.offset.into())?..)?;
            let stands = wanted >> window.rule & 1 == 1 && is_prefix(text, window.bytes.get(..class.window)?);
            stands.then_some(window)
        })
    }
}

impl Class {
    /// For literals, each with its rule and its pattern's bit. Chooses a window of each.
    fn new(literals: &[(&[u8], u8, u64)], windows: &mut Vec<LiteralWindow>) -> Class {
        let shortest = literals.iter().map(|l| l.0.len()).min().unwrap_or(RUN);
        let window = shortest.min(WINDOW_MAX);
        let (mut table, mut parts) = (Box::new([0; TABLE / 64]), Box::new([0; TABLE / 64 + 1]));
        let (mut runs, mut rules) = (Vec::new(), 0);
        let first = windows.len();
        for &(literal, rule, patterns) in literals {
            let best = literal.windows(window).max_by_key(|w| rarity(w)).unwrap_or_default();
            let mut bytes = [0; WINDOW_MAX];
            bytes.iter_mut().zip(best).for_each(|(to, from)| *to = *from);
            rules |= 1 << rule;
            // Literals come rule by rule.
            let mut own = windows.iter_mut().skip(first).rev().take_while(|w| w.rule == rule);
            if let Some(same) = own.find(|w| w.bytes == bytes) {
                same.patterns |= patterns;
                continue;
            }
            let number = u16::try_from(windows.len()).unwrap_or(u16::MAX);
            windows.push(LiteralWindow { bytes, rule, patterns });
            for (run, offset) in best.windows(RUN).zip(0u8..) {
                let bytes = run.first_chunk().map_or(0, |run| u32::from_le_bytes(*run));
                if let Some(word) = table.get_mut(slot(bytes) / 64) {
                    *word |= 1 << (slot(bytes) % 64);
                }
                runs.push(LiteralRun { bytes, window: number, offset });
            }
        }
        runs.sort_unstable_by_key(|run| slot(run.bytes));
        for (begin, part) in parts.iter_mut().zip(0..) {
            let before = runs.partition_point(|run| slot(run.bytes) / 64 < part);
            *begin = u32::try_from(before).unwrap_or(u32::MAX);
        }
        Class { table, runs: runs.into(), parts, window, rules }
    }

    /// Those that share the word of the table in which `slot` is.
    fn runs(&self, slot: usize) -> &[LiteralRun] {
        let limit = |part: usize| self.parts.get(part).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
        self.runs.get(limit(slot / 64)..limit(slot / 64 + 1)).unwrap_or_default()
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

/// How seldom log text has such bytes, roughly: capitals and marks are seldom, small letters and blanks are
/// not.
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
