#![forbid(unsafe_code)]
//! The pattern engine: the documented subset of regular expressions of service rules.
//!
//! A pattern is parsed (`parse`), translated to a small program (`program`) and run over the bytes of a line.
//! Time is linear in the line's length whatever the line holds, and nothing is allocated while matching.
//! Which match is found, and what its groups hold, is what the `regex` crate's `regex::bytes` finds without
//! Unicode; what has no counterpart there is `<HOST>` (see `addr`). Knows nothing of rules, logs or bans.

mod addr;
mod advice;
mod builder;
mod class;
mod literals;
mod matcher;
mod parse;
mod pike;
mod program;
mod set;
#[cfg(test)]
mod tests;

use crate::base::bytes::find;
use core::ops::Range;
use program::{Case, IP_BEGIN, Inst, NONE, PatternProgram};

pub use matcher::MatchScratch;

/// Other readings that are looked for in one text.
pub const MAX_READINGS: usize = 8;

/// What a part of a pattern may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureGroup {
    /// The address to ban; `<HOST>` and `<ADDR>` are such groups.
    Ip,
    /// The user name.
    User,
    /// The sender's port.
    Port,
    /// The requested URI.
    Uri,
    /// The HTTP status.
    Status,
    /// The user agent.
    Ua,
    /// The HTTP or authentication method.
    Method,
}

impl CaptureGroup {
    /// All groups, in the order of their numbers.
    pub const ALL: [CaptureGroup; 7] = [
        CaptureGroup::Ip,
        CaptureGroup::User,
        CaptureGroup::Port,
        CaptureGroup::Uri,
        CaptureGroup::Status,
        CaptureGroup::Ua,
        CaptureGroup::Method,
    ];

    /// The name in patterns.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CaptureGroup::Ip => "ip",
            CaptureGroup::User => "user",
            CaptureGroup::Port => "port",
            CaptureGroup::Uri => "uri",
            CaptureGroup::Status => "status",
            CaptureGroup::Ua => "ua",
            CaptureGroup::Method => "method",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatternError {
    /// The bytes of the pattern that it is about.
    pub at: Range<usize>,
    /// What is wrong, naming the construct.
    pub what: String,
    /// What to write instead; may be empty.
    pub hint: String,
}

impl PatternError {
    fn new(at: Range<usize>, what: &str, hint: &str) -> PatternError {
        PatternError { at, what: what.into(), hint: hint.into() }
    }
}

/// A compiled pattern.
#[derive(Clone)]
pub struct Pattern {
    program: PatternProgram,
    /// See `literals`.
    needles: Box<[u8]>,
    /// Whether it pays to look for the needle first: there is one, and no match begins in an easier way.
    scan: bool,
}

/// What every match of a pattern must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// An ip group: somebody is to be banned for it.
    Address,
    /// Nothing.
    Nothing,
}

impl Pattern {
    /// Compiles `text` as written in failregex and ignoreregex.
    ///
    /// # Errors
    /// The first thing in `text` that is wrong, not supported or too large.
    pub fn new(text: &str, demand: Demand) -> Result<Pattern, PatternError> {
        let part = parse::parse(text)?;
        let ip = CaptureGroup::Ip.bit();
        if demand == Demand::Address && part.always & ip == 0 {
            let (what, hint) = if part.may & ip == 0 {
                ("the pattern has no address", "write <HOST> where the address is")
            } else {
                (
                    "the pattern can match without an address",
                    "each alternative needs <HOST>, and none may be optional",
                )
            };
            return Err(PatternError::new(0..text.len(), what, hint));
        }
        let program = PatternProgram::new(&part);
        let needles = literals::required(&part.node);
        let lead = program.code.iter().find(|inst| !matches!(inst, Inst::Save(_)));
        let scan = literals::iter(&needles).count() == 1
            && !program.has_head()
            && !matches!(lead, Some(Inst::Lit { case: Case::Exact, .. }));
        Ok(Pattern { program, needles, scan })
    }

    /// The leftmost match; of several beginning there, the one that the pattern prefers.
    /// Texts of more than 65,000 bytes do not match.
    pub fn find(&self, text: &[u8], scratch: &mut MatchScratch) -> Option<Captures> {
        if !self.program.may_match(text) {
            return None;
        }
        if self.scan && !self.required().any(|needle| find(text, needle).is_some()) {
            return None;
        }
        matcher::search(&self.program, text, scratch, &[])
    }

    /// Whether the pattern matches somewhere in `text`.
    pub fn is_match(&self, text: &[u8], scratch: &mut MatchScratch) -> bool {
        self.find(text, scratch).is_some()
    }

    /// Whether `text` can be read in another way: calls `each` with the ip group of every match of the whole
    /// text in which that group begins elsewhere than in `found` and in those shown before, in order of
    /// preference. Returns false if there are more than `MAX_READINGS`. Patterns that may match without an ip
    /// group show none.
    ///
    /// The same address can be read with and without its brackets: compare addresses, not positions. If
    /// `<HOST>` is the only ip group and the line holds no other address, that second way to read the same
    /// one may be left out.
    #[must_use]
    pub fn other_readings(
        &self,
        text: &[u8],
        found: &Captures,
        scratch: &mut MatchScratch,
        each: &mut dyn FnMut(Range<usize>),
    ) -> bool {
        if self.program.one_reading {
            return true;
        }
        let ip = found.get(CaptureGroup::Ip).unwrap_or_default();
        if self.program.addresses_only && !addr::another_possible(text, ip) {
            return true;
        }
        let begin = found.slots[usize::from(IP_BEGIN)];
        if self.program.addresses_only && !matcher::another_place(&self.program, text, begin.into()) {
            return true;
        }
        let mut seen = [begin; MAX_READINGS + 1];
        for n in 1..=MAX_READINGS {
            let Some(other) = matcher::search(&self.program, text, scratch, &seen[..n]) else { return true };
            seen[n] = other.slots[usize::from(IP_BEGIN)];
            if let Some(ip) = other.get(CaptureGroup::Ip) {
                each(ip);
            }
        }
        matcher::search(&self.program, text, scratch, &seen).is_none()
    }

    /// Literals of which at least one stands in every text that matches; none if there are no such literals.
    pub fn required(&self) -> impl Iterator<Item = &[u8]> {
        literals::iter(&self.needles)
    }

    /// Lets go of the literals: somebody else looks for those of `long` bytes or more. Of a shorter one it
    /// pays to know here that it is missing.
    pub fn forget_required(&mut self, long: usize) {
        let is_short = self.required().all(|needle| needle.len() < long);
        self.scan &= is_short;
        if !self.scan {
            self.needles = Box::default();
        }
    }

    /// Whether a match may say what this group is.
    #[must_use]
    pub fn has(&self, group: CaptureGroup) -> bool {
        let slot = u8::try_from(group as usize * 2).unwrap_or(u8::MAX);
        group == CaptureGroup::Ip
            || self.program.code.iter().any(|inst| matches!(inst, Inst::Save(s) if *s == slot))
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.program.heap_size() + self.needles.len()
    }
}

/// Slots of captures: two for each group.
const SLOTS: usize = 2 * CaptureGroup::ALL.len();

/// Where a match and its groups stand in the text.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq))]
pub struct Captures {
    begin: u16,
    end: u16,
    slots: [u16; SLOTS],
}

impl Captures {
    /// What the group matched, if it took part; of a repeated group, the last time.
    #[must_use]
    pub fn get(&self, group: CaptureGroup) -> Option<Range<usize>> {
        let slot = group as usize * 2;
        match (self.slots.get(slot), self.slots.get(slot + 1)) {
            (Some(&begin), Some(&end)) if begin != NONE && end != NONE => Some(begin.into()..end.into()),
            _ => None,
        }
    }

    /// The whole match.
    #[must_use]
    pub fn whole(&self) -> Range<usize> {
        self.begin.into()..self.end.into()
    }
}
