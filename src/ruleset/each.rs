#![forbid(unsafe_code)]
//! The rules of a rule set, one after the other: the first ones from memory, the others parsed anew from its
//! text.

use super::ast::{RuleStatement, Statement, StatementPlace};
use super::{RuleSet, first_line, parse};

/// Text that goes at once when its rules have passed, bytes.
const PASSED: u32 = 64 * 1024;

/// A rule, and the first byte of its line.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleAt {
    pub place: StatementPlace,
    pub at: u32,
}

const START: RuleAt = RuleAt { place: StatementPlace { file: 0, line: 0 }, at: 0 };

/// Where rules stand, each told by its distance from the one before: two bytes where that is another line of
/// the file.
#[derive(Debug)]
pub(super) struct RulePlaces {
    bytes: Vec<u8>,
    len: u32,
    last: RuleAt,
}

impl Default for RulePlaces {
    fn default() -> Self {
        RulePlaces { bytes: Vec::new(), len: 0, last: START }
    }
}

impl RulePlaces {
    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Adds one; in a file, the lines come in their order.
    pub(super) fn push(&mut self, rule: RuleAt) {
        let jumps = rule.place.file != self.last.place.file;
        let from = if jumps { START } else { self.last };
        self.number((rule.place.line - from.place.line) << 1 | u32::from(jumps));
        if jumps {
            self.number(rule.place.file.into());
        }
        self.number(rule.at - from.at);
        self.last = rule;
        self.len += 1;
    }

    fn number(&mut self, mut number: u32) {
        while let low @ 128.. = number {
            self.bytes.push(low.to_le_bytes()[0] | 128);
            number >>= 7;
        }
        self.bytes.push(number.to_le_bytes()[0]);
    }

    pub(super) fn iter(&self) -> RuleWalk<'_> {
        RuleWalk { bytes: &self.bytes, last: START }
    }
}

/// One after the other.
pub(super) struct RuleWalk<'a> {
    bytes: &'a [u8],
    last: RuleAt,
}

impl RuleWalk<'_> {
    fn number(&mut self) -> u32 {
        let (mut number, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            number |= u32::from(byte & 127) << shift;
            shift += 7;
            if *byte < 128 || shift > 28 {
                break;
            }
        }
        number
    }
}

impl Iterator for RuleWalk<'_> {
    type Item = RuleAt;

    fn next(&mut self) -> Option<RuleAt> {
        if self.bytes.is_empty() {
            return None;
        }
        let head = self.number();
        if head & 1 == 1 {
            self.last = START;
            self.last.place.file = u16::try_from(self.number()).unwrap_or(0);
        }
        self.last.place.line = self.last.place.line.wrapping_add(head >> 1);
        self.last.at = self.last.at.wrapping_add(self.number());
        Some(self.last)
    }
}

impl RuleSet {
    /// Calls `each` with every rule in the order in which they count.
    pub fn each(&self, each: &mut dyn FnMut(StatementPlace, &RuleStatement)) {
        let mut none = Vec::new();
        let mut kept = self.kept.iter();
        for RuleAt { place, at } in self.rules.iter() {
            if let Some(rule) = kept.next() {
                each(place, rule);
                continue;
            }
            let (statement, _) = parse::line_of(self.line(place, at), place.line, &self.names, &mut none);
            if let Some(Statement::Rule(rule)) = statement {
                each(place, &rule);
            }
        }
    }

    /// The same for the last time: the text goes as its rules have passed, so that it does not take memory
    /// beside what becomes of them. Afterwards nothing can be marked in it.
    pub fn each_last(&mut self, each: &mut dyn FnMut(&RuleSet, &RuleStatement)) {
        let mut none = Vec::new();
        let mut kept = std::mem::take(&mut self.kept).into_iter();
        let mut texts: Vec<(String, u32)> =
            self.files.iter_mut().map(|file| (std::mem::take(&mut file.text), 0)).collect();
        let rules = std::mem::take(&mut self.rules);
        for RuleAt { place, at } in rules.iter() {
            if let Some(rule) = kept.next() {
                each(self, &rule);
                continue;
            }
            let Some((text, gone)) = texts.get_mut(usize::from(place.file)) else { continue };
            if at - *gone > PASSED {
                *text = text.get((at - *gone) as usize..).unwrap_or("").to_owned();
                *gone = at;
            }
            let line = text.get((at - *gone) as usize..).map_or("", |rest| first_line(rest).0);
            if let (Some(Statement::Rule(rule)), _) = parse::line_of(line, place.line, &self.names, &mut none)
            {
                each(self, &rule);
            }
        }
        self.rules = rules;
    }

    /// Where rule number `number` stands, counted from 1.
    #[must_use]
    pub fn rule_place(&self, number: u32) -> Option<StatementPlace> {
        self.rules.iter().nth((number as usize).checked_sub(1)?).map(|rule| rule.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_as_they_were_and_take_two_bytes() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let mut places = RulePlaces::default();
            let (mut wanted, mut next) = (Vec::new(), [(0u32, 0u32); 4]);
            for _ in 0..rng.usize(0..60) {
                // Files are read within each other, each of them from its start to its end.
                let file = rng.usize(0..4);
                let (line, at) = &mut next[file];
                let (lines, bytes) = (1 << rng.u32(0..20), 1 << rng.u32(0..24));
                *line += 1 + rng.u32(0..lines);
                *at += rng.u32(0..bytes);
                let file = [0, 1, 200, 1023][file];
                wanted.push((file, *line, *at));
                places.push(RuleAt { place: StatementPlace { file, line: *line }, at: *at });
            }
            let found: Vec<_> = places.iter().map(|r| (r.place.file, r.place.line, r.at)).collect();
            assert_eq!((found, places.len() as usize), (wanted.clone(), wanted.len()));
        }
        let mut places = RulePlaces::default();
        for line in 1..=1000 {
            places.push(RuleAt { place: StatementPlace { file: 0, line }, at: line * 60 });
        }
        assert!(places.bytes.len() <= 2001);
    }
}
