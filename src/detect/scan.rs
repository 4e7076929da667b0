#![forbid(unsafe_code)]
//! Which lines of a block can matter, and to which patterns: those that hold a literal which a pattern needs.
//!
//! One pass over the block, before lines are cut, however many literals there are. Of each literal a window
//! is chosen, all of the same length, and the block is probed only every few bytes: wherever a window stands,
//! one of the probes meets one of its runs of four bytes, and there the whole literal is compared. A line
//! that is found is only worth a look: one too many costs time, one too few is a missed attack. Must not know
//! headers or addresses.

use super::{DetectRule, Program, RuleBits};
use crate::sys::buffer::Buffer;
use memchr::arch::all::is_prefix;
use memchr::{memchr, memrchr};
use std::cmp::Reverse;
use std::ops::Range;

/// Bytes of a probe.
const RUN: usize = 4;
/// Shortest literal that is better than the name of a program.
pub(super) const LONG: usize = 9;
/// Places of the table that says at once that a probe is none of ours; few literals use a part of it.
const TABLE: usize = 1 << 14;
/// Places for each run, as far as the table reaches: each one more that is taken stops a probe for nothing.
const PLACES: usize = 32;
/// Longest literal.
const LITERAL_MAX: usize = 16;
/// Steps from probe to probe whose loops are written out; the windows are of the length that one of them
/// needs.
const STEPS: [usize; 4] = [12, 8, 6, 4];

/// Four bytes of a literal, and where they stand in it.
#[derive(Clone, Copy)]
struct LiteralRun {
    bytes: u32,
    /// The last bytes of its literal, which are compared first: many begin alike.
    last: u32,
    /// Index of its literal in `LiteralScan::literals`.
    literal: u16,
    offset: u8,
    /// From where they stand to those last bytes, which may be themselves.
    ahead: u8,
}

/// What patterns of a rule need.
struct Literal {
    bytes: [u8; LITERAL_MAX],
    len: u8,
    rule: u8,
    /// The patterns, as a set of `bit`s.
    patterns: u64,
    /// They are of success, all of them.
    success: bool,
}

impl Literal {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// A literal, its rule, the bit of the pattern that needs it, and whether that is one of success.
type Needed<'a> = (&'a [u8], u8, u64, bool);

/// Literals of about the same length, which are looked for together: the shortest sets the pace.
struct Class {
    /// By the slot of a run: 0 if no run has it; otherwise one more than the part of `runs` in which the
    /// first that has it stands.
    table: Buffer,
    /// By how many bits a mixed run is shifted to give its slot.
    shift: u32,
    /// In the order of their slots.
    runs: Box<[LiteralRun]>,
    /// Runs in one part.
    part: usize,
    /// Bytes from probe to probe: no window is so short that it fits between two of them.
    step: usize,
    /// The rules that have some.
    rules: RuleBits,
}

/// Finds candidates.
pub(super) struct LiteralScan {
    /// The long literals, then the short ones.
    classes: [Class; 2],
    literals: Box<[Literal]>,
    /// By rule: patterns that need no literal long enough to be looked for, in lines and in messages of
    /// records.
    open: Box<[[u64; 2]]>,
    /// Rules of which every line has to be looked at: a pattern of failures is open. Likewise of records.
    every: [RuleBits; 2],
    /// Whether patterns of success are looked for.
    pub(super) successes: bool,
}

/// How far a block was looked through: by class, one more than the next place where a window stands, the
/// largest number if there is none. Zeros for a block that was not looked at yet.
pub(super) type Ahead = [usize; 2];

/// What a text is, beside what it says.
#[derive(Clone, Copy)]
pub(super) enum TextKind {
    /// A line, with the name of its program if it has one.
    Line,
    /// The message of a record.
    Message,
}

/// What can match in a line: the patterns, by rule.
pub(super) struct Possible {
    /// Rules of which some pattern can match; of the others nothing is known here.
    pub(super) rules: RuleBits,
    kind: TextKind,
    patterns: Box<[u64]>,
}

impl Possible {
    /// For so many rules.
    pub(super) fn new(rules: usize) -> Possible {
        Possible { rules: 0, kind: TextKind::Line, patterns: vec![0; rules].into() }
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
pub(super) fn bits(mut set: RuleBits) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let n = u8::try_from(set.trailing_zeros()).ok().filter(|n| u32::from(*n) < RuleBits::BITS)?;
        set &= set - 1;
        Some(n)
    })
}

impl LiteralScan {
    pub(super) fn new(rules: &[DetectRule]) -> LiteralScan {
        let mut open = vec![[0; 2]; rules.len()];
        let mut every: [RuleBits; 2] = [0; 2];
        let mut literals: Vec<Needed<'_>> = Vec::new();
        for ((rule, index), open) in rules.iter().zip(0u8..).zip(&mut open) {
            if rule.webscan.is_some() {
                // Every request counts.
                *open = [u64::MAX; 2];
                every = every.map(|every| every | 1 << index);
                continue;
            }
            let success = rule.fail.len() + rule.ignore.len();
            let ignored = rule.fail.len()..rule.fail.len() + rule.ignore.len();
            for (pattern, n) in rule.patterns().zip(0usize..) {
                let shortest = pattern.required().map(<[u8]>::len).min().unwrap_or(0);
                // Such a line has the name of its program, too; the message of a record has not.
                let named = shortest < LONG && rule.name_len() > shortest.max(RUN - 1);
                let usable = shortest >= RUN;
                if named {
                    let names = rule.programs.iter().map(Program::stem);
                    literals.extend(names.map(|name| (name, index, bit(n), n >= success)));
                } else if usable {
                    literals.extend(pattern.required().map(|l| (l, index, bit(n), n >= success)));
                }
                let failure = RuleBits::from(!ignored.contains(&n)) << index;
                if !usable || named {
                    open[1] |= bit(n);
                    every[1] |= failure;
                }
                if !usable && !named {
                    open[0] |= bit(n);
                    every[0] |= failure;
                }
            }
        }
        let border = border(&literals);
        let (long, short): (Vec<_>, Vec<_>) = literals.into_iter().partition(|l| l.0.len() >= border);
        let mut literals = Vec::with_capacity(long.len() + short.len());
        let classes = [long, short].map(|some| Class::new(&some, &mut literals));
        LiteralScan { classes, literals: literals.into(), open: open.into(), every, successes: true }
    }

    /// The first line in `block` that can matter to the rules in `wanted` and begins at or behind `at`, which
    /// is the begin of a line. `possible` tells what can match in it. `ahead` goes from call to call for one
    /// block.
    pub(super) fn next(
        &self,
        wanted: RuleBits,
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
                *ahead = self.find(class, wanted, block, at, &mut None).map_or(usize::MAX, |place| place + 1);
            }
            hint = hint.min(*ahead - 1);
        }
        self.begin(wanted, TextKind::Line, possible);
        let hint = if possible.rules == 0 { hint } else { at };
        let begin = memrchr(b'\n', block.get(at..hint)?).map_or(at, |n| at + n + 1);
        let end = memchr(b'\n', block.get(hint..)?).map_or(block.len(), |n| hint + n);
        for (class, place) in self.classes.iter().zip(ahead) {
            if *place > 0 && *place <= end {
                self.find(class, wanted, block.get(..end)?, *place - 1, &mut Some(possible));
            }
        }
        Some(begin..end)
    }

    /// What can match in `text`.
    pub(super) fn text(&self, wanted: RuleBits, text: &[u8], kind: TextKind, possible: &mut Possible) {
        self.begin(wanted, kind, possible);
        for class in self.classes.iter().filter(|class| class.rules & wanted != 0) {
            self.find(class, wanted, text, 0, &mut Some(possible));
        }
    }

    fn begin(&self, wanted: RuleBits, kind: TextKind, possible: &mut Possible) {
        (possible.rules, possible.kind) = (0, kind);
        for rule in bits(self.every.get(kind as usize).copied().unwrap_or(0) & wanted) {
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
            *patterns = open.get(possible.kind as usize).copied().unwrap_or(u64::MAX);
        }
        *patterns |= set;
    }

    /// The first place from `at` on where a probe meets a literal; where there is `possible`, none, but what
    /// can match since they all stand there.
    fn find(
        &self,
        class: &Class,
        wanted: RuleBits,
        text: &[u8],
        mut at: usize,
        possible: &mut Option<&mut Possible>,
    ) -> Option<usize> {
        loop {
            let found = class.probe(text, at)?;
            if self.stands(class, wanted, text, found, possible) {
                return Some(found);
            }
            at = found + class.step;
        }
    }

    /// Whether a literal stands where the probe at `at` says; where there is `possible`, all that do are
    /// added.
    fn stands(
        &self,
        class: &Class,
        wanted: RuleBits,
        text: &[u8],
        at: usize,
        possible: &mut Option<&mut Possible>,
    ) -> bool {
        let Some(bytes) = run_at(text, at) else { return false };
        let slot = slot(bytes, class.shift);
        let part = class.table.get(slot).map_or(0, |&part| usize::from(part).saturating_sub(1));
        for run in class.runs.get(part * class.part..).unwrap_or_default() {
            if run.bytes != bytes {
                if self::slot(run.bytes, class.shift) > slot {
                    break;
                }
                continue;
            }
            if run_at(text, at + usize::from(run.ahead)) != Some(run.last) {
                continue;
            }
            let Some(literal) = self.literals.get(usize::from(run.literal)) else { continue };
            if literal.success && !self.successes {
                continue;
            }
            let text = at.checked_sub(run.offset.into()).and_then(|begin| text.get(begin..));
            if wanted >> literal.rule & 1 == 1 && is_prefix(text.unwrap_or_default(), literal.bytes()) {
                match possible {
                    Some(possible) => self.add(literal.rule, literal.patterns, possible),
                    None => return true,
                }
            }
        }
        false
    }
}

/// From which length on literals are looked for apart from the shorter ones, so that the fewest probes are
/// needed.
fn border(literals: &[Needed<'_>]) -> usize {
    let lengths = || literals.iter().map(|l| l.0.len());
    let probes = |shortest: Option<usize>| shortest.map_or(0, |len| 1000 / step(len));
    let cost = |border: &usize| {
        probes(lengths().filter(|len| len < border).min())
            + probes(lengths().filter(|len| len >= border).min())
    };
    lengths().min_by_key(cost).unwrap_or(0)
}

/// Bytes from probe to probe where the shortest literal has `len`.
fn step(len: usize) -> usize {
    let most = (len + 1).saturating_sub(RUN).max(1);
    STEPS.into_iter().find(|step| *step <= most).unwrap_or(most)
}

impl Class {
    /// Chooses a window of each literal.
    fn new(some: &[Needed<'_>], literals: &mut Vec<Literal>) -> Class {
        let step = step(some.iter().map(|l| l.0.len()).min().unwrap_or(RUN));
        let (mut runs, mut rules) = (Vec::new(), 0);
        let first = literals.len();
        for &(text, rule, patterns, success) in some {
            let text = text.get(..LITERAL_MAX).unwrap_or(text);
            rules |= 1 << rule;
            // Literals come rule by rule.
            let mut own = literals.iter_mut().skip(first).rev().take_while(|l| l.rule == rule);
            if let Some(same) = own.find(|l| l.bytes() == text) {
                same.patterns |= patterns;
                same.success &= success;
                continue;
            }
            let literal = u16::try_from(literals.len()).unwrap_or(u16::MAX);
            let mut bytes = [0; LITERAL_MAX];
            bytes.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
            let len = u8::try_from(text.len()).unwrap_or(0);
            literals.push(Literal { bytes, len, rule, patterns, success });
            let windows = (0u8..).zip(text.windows(step + RUN - 1));
            // The first of those that are as good.
            let best = windows.min_by_key(|(_, window)| Reverse(rarity(window)));
            let Some((begin, window)) = best else { continue };
            let last = run_at(text, text.len().saturating_sub(RUN)).unwrap_or(0);
            for (run, offset) in window.windows(RUN).zip(begin..) {
                let ahead = (len - offset).saturating_sub(4);
                runs.push(LiteralRun { bytes: run_at(run, 0).unwrap_or(0), last, literal, offset, ahead });
            }
        }
        let bits = (runs.len() * PLACES).next_power_of_two().clamp(64, TABLE).ilog2();
        let shift = u32::BITS - bits;
        runs.sort_unstable_by_key(|run| slot(run.bytes, shift));
        let part = runs.len().div_ceil(usize::from(u8::MAX)).max(1);
        let mut table = Buffer::new(if runs.is_empty() { 0 } else { TABLE });
        for (n, run) in runs.iter().enumerate().rev() {
            if let Some(place) = table.get_mut(slot(run.bytes, shift)) {
                *place = u8::try_from(n / part + 1).unwrap_or(u8::MAX);
            }
        }
        Class { table, shift, runs: runs.into(), part, step, rules }
    }

    /// The first place from `at` on, in steps, where a run of ours may stand.
    fn probe(&self, text: &[u8], at: usize) -> Option<usize> {
        let table = self.table.first_chunk::<TABLE>()?;
        let rest = text.get(at..)?;
        let found = match self.step {
            12 => by::<12, 48>(table, self.shift, rest),
            8 => by::<8, 32>(table, self.shift, rest),
            6 => by::<6, 24>(table, self.shift, rest),
            4 => by::<4, 16>(table, self.shift, rest),
            step => one_by_one(table, self.shift, rest, 0, step),
        };
        found.map(|found| at + found)
    }
}

/// The first place, in steps of `STEP` bytes, at which a run has a place in the table. Four steps are `FOUR`
/// bytes.
#[inline(never)]
fn by<const STEP: usize, const FOUR: usize>(table: &[u8; TABLE], shift: u32, text: &[u8]) -> Option<usize> {
    let (fours, _) = text.as_chunks::<FOUR>();
    let found = fours.iter().position(|four| {
        let mark = |at: usize| {
            let bytes = [four[at], four[at + 1], four[at + 2], four[at + 3]];
            table[slot(u32::from_le_bytes(bytes), shift) & (TABLE - 1)]
        };
        mark(0) | mark(STEP) | mark(2 * STEP) | mark(3 * STEP) != 0
    });
    one_by_one(table, shift, text, found.unwrap_or(fours.len()) * FOUR, STEP)
}

/// Likewise, from `at` on.
fn one_by_one(table: &[u8; TABLE], shift: u32, text: &[u8], mut at: usize, step: usize) -> Option<usize> {
    while table[slot(run_at(text, at)?, shift) & (TABLE - 1)] == 0 {
        at += step;
    }
    Some(at)
}

#[inline(always)]
fn run_at(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..)?.first_chunk::<RUN>().map(|run| u32::from_le_bytes(*run))
}

/// Where the table speaks of a run.
#[inline(always)]
fn slot(bytes: u32, shift: u32) -> usize {
    // The high bits of a product with an odd number depend on all bits of the run.
    usize::try_from(bytes.wrapping_mul(0x9e37_79b1) >> shift).unwrap_or(0)
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
