#![forbid(unsafe_code)]
//! Which lines of a block can matter: those that hold a literal which some pattern needs.
//!
//! Each literal is searched over the whole block, before lines are cut, and never twice over the same bytes. With many literals that
//! would cost more than to look at every line, so then every line is a candidate. A candidate is only a line
//! worth a look: too many are slow, one too few is a missed attack. Must not know headers or addresses.

use super::Rule;
use memchr::{memchr, memmem, memrchr};
use std::ops::Range;

/// Searches over a block that are worth their time.
const NEEDLES_MAX: usize = 6;

/// A literal, which rules need it, and where it stands next.
struct Needle {
    literal: Box<[u8]>,
    rules: u64,
    /// Begin of the next occurrence; `usize::MAX`: none in this block.
    next: usize,
}

/// Finds candidates in blocks.
pub(super) struct Scan {
    needles: Box<[Needle]>,
    /// Rules with a pattern that needs no literal.
    open: u64,
    wanted: u64,
    every_line: bool,
}

impl Scan {
    pub(super) fn new(rules: &[Rule]) -> Scan {
        let mut found: Vec<(&[u8], u64)> = Vec::new();
        let mut open = 0;
        for (rule, bit) in rules.iter().zip((0..).map(|n| 1u64 << (n & 63))) {
            for (pattern, _) in &rule.fail {
                if pattern.required().next().is_none() {
                    open |= bit;
                }
                for literal in pattern.required() {
                    match found.iter_mut().find(|(known, _)| *known == literal) {
                        Some((_, rules)) => *rules |= bit,
                        None => found.push((literal, bit)),
                    }
                }
            }
        }
        // What holds a longer literal holds the shorter one within.
        let within = |(long, rules): &(&[u8], u64)| {
            let inside = |(short, of): &&(&[u8], u64)| {
                short.len() < long.len() && rules & !of == 0 && memmem::find(long, short).is_some()
            };
            !found.iter().any(|f| inside(&f))
        };
        let needles = found.iter().filter(|f| within(f)).map(|&(literal, rules)| Needle {
            literal: literal.into(),
            rules,
            next: 0,
        });
        Scan { needles: needles.collect(), open, wanted: 0, every_line: true }
    }

    /// Starts with another block, for the rules in `wanted`.
    pub(super) fn begin(&mut self, wanted: u64) {
        self.wanted = wanted;
        self.needles.iter_mut().for_each(|n| n.next = 0);
        let searches = self.needles.iter().filter(|n| n.rules & wanted != 0).count();
        self.every_line = self.open & wanted != 0 || searches > NEEDLES_MAX;
    }

    /// The first candidate line in `block` that begins at or behind `at`, which is the begin of a line.
    pub(super) fn next(&mut self, block: &[u8], at: usize) -> Option<Range<usize>> {
        let rest = block.get(at..).filter(|rest| !rest.is_empty())?;
        let hint = if self.every_line { at } else { self.literal(block, at)? };
        let begin = memrchr(b'\n', block.get(at..hint)?).map_or(at, |n| at + n + 1);
        let end = memchr(b'\n', rest.get(hint - at..)?).map_or(block.len(), |n| hint + n);
        Some(begin..end)
    }

    /// Where the next literal stands.
    fn literal(&mut self, block: &[u8], at: usize) -> Option<usize> {
        let mut first = usize::MAX;
        for needle in self.needles.iter_mut().filter(|n| n.rules & self.wanted != 0) {
            // `next` is at most one search behind: 0 means that nothing was searched yet.
            if needle.next < at || (needle.next == 0 && at == 0) {
                let rest = block.get(at..).unwrap_or_default();
                needle.next = memmem::find(rest, &needle.literal).map_or(usize::MAX, |n| at + n);
            }
            first = first.min(needle.next);
        }
        (first != usize::MAX).then_some(first)
    }
}
