#![forbid(unsafe_code)]
//! The quick way to match: tries one way after the other, most lines are decided within a few steps.
//! It has a fixed stack and a fixed number of steps in proportion to the text; when either is used up it
//! gives up, and `pike`, which is slower but linear on any text, answers instead. Both give the same answer.

use super::addr;
use super::parse::Look;
use super::pike::Pike;
use super::program::{Case, IP_BEGIN, Inst, NONE, Order, PatternProgram};
use super::set::ByteSet;
use super::{Captures, SLOTS, set};
use memchr::{memchr, memchr2, memrchr};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

/// Longest text that is matched, in bytes: positions are 16 bits wide.
pub(super) const MAX_TEXT: usize = 65_000;
/// Ways not yet tried that the quick matcher keeps.
const STACK: usize = 128;
/// No address has been read.
const NOWHERE: (u16, u16, IpAddr) = (NONE, NONE, IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// Working memory for matching, made once for a set of patterns and used for one text at a time.
pub struct MatchScratch {
    /// The address that was read last, and where it began and ended: it is not read again.
    seen: (u16, u16, IpAddr),
    stack: Box<[StackEntry; STACK]>,
    pub(super) pike: Pike,
    /// Steps taken so far, to show that matching is linear.
    #[cfg(test)]
    pub(super) steps: usize,
}

impl MatchScratch {
    /// Memory that is enough for each of these patterns.
    pub fn for_patterns<'a>(patterns: impl Iterator<Item = &'a super::Pattern>) -> MatchScratch {
        let mut pike = Pike::default();
        for pattern in patterns {
            pike.fit(&pattern.program);
        }
        MatchScratch {
            seen: NOWHERE,
            stack: Box::new([StackEntry::NOTHING; STACK]),
            pike,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// The address there, if it is the one that the last search read last.
    #[must_use]
    pub fn address(&self, at: &Range<usize>) -> Option<IpAddr> {
        let (begin, end, addr) = self.seen;
        (usize::from(begin) == at.start && usize::from(end) == at.end).then_some(addr)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        size_of_val(&*self.stack) + self.pike.heap_size()
    }
}

/// What is still to be done if the present way fails.
#[derive(Clone, Copy)]
enum StackEntry {
    /// Go on at this instruction and position.
    Go { pc: u16, at: u16 },
    /// The loop at `pc` may also end at any position from `lo` to `hi`, the last first.
    Back { pc: u16, lo: u16, hi: u16 },
    /// The same, the first first.
    Ahead { pc: u16, lo: u16, hi: u16 },
    /// Put this slot back.
    Restore { slot: u8, old: u16 },
}

impl StackEntry {
    const NOTHING: StackEntry = StackEntry::Restore { slot: u8::MAX, old: NONE };
}

/// Finds the leftmost match in which the ip group begins at none of the positions `skip`.
/// Of those that begin there, the one that the pattern prefers.
pub(super) fn search(
    program: &PatternProgram,
    text: &[u8],
    scratch: &mut MatchScratch,
    skip: &[u16],
) -> Option<Captures> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let fuel = i32::try_from(text.len()).map_or(0, |n| 4 * n + 500);
    let slots = [NONE; SLOTS];
    scratch.seen = NOWHERE;
    let MatchScratch { seen, stack, .. } = scratch;
    let mut quick = Quick { program, text, skip, seen, stack, depth: 0, slots, fuel };
    let answer = quick.search();
    #[cfg(test)]
    {
        scratch.steps += usize::try_from(fuel - quick.fuel).unwrap_or(0);
    }
    match answer {
        Ok(found) => found,
        Err(GaveUp) => {
            scratch.pike.fit(program);
            let found = scratch.pike.search(program, text, skip);
            #[cfg(test)]
            {
                scratch.steps += scratch.pike.steps;
            }
            found
        }
    }
}

/// Too much work or too many ways: nothing is known.
struct GaveUp;

struct Quick<'a> {
    program: &'a PatternProgram,
    text: &'a [u8],
    skip: &'a [u16],
    seen: &'a mut (u16, u16, IpAddr),
    stack: &'a mut [StackEntry; STACK],
    depth: usize,
    slots: [u16; SLOTS],
    /// Steps left; below 0 the search is given up. What takes no byte and leads to no other way is not
    /// counted: there is less of it than instructions.
    fuel: i32,
}

impl Quick<'_> {
    /// Tries each position at which a match may begin.
    fn search(&mut self) -> Result<Option<Captures>, GaveUp> {
        let mut begin = 0;
        loop {
            if let Some(end) = self.attempt(begin) {
                return Ok(Some(Captures { begin: narrow(begin), end: narrow(end), slots: self.slots }));
            }
            if self.fuel < 0 {
                return Err(GaveUp);
            }
            if self.program.anchored {
                return Ok(None);
            }
            match self.next_begin(begin + 1) {
                Some(next) => begin = next,
                None => return Ok(None),
            }
            self.slots = [NONE; SLOTS];
        }
    }

    /// The first position from `at` on at which an attempt is worth its while.
    fn next_begin(&mut self, at: usize) -> Option<usize> {
        let rest = self.text.get(at..)?;
        let program = self.program;
        let mut lead = program.code.iter().filter(|inst| !matches!(inst, Inst::Save(_)));
        let skipped = match lead.next() {
            Some(&Inst::Lit { case: Case::Exact, at, .. }) => {
                memchr(*program.pool.get(usize::from(at))?, rest)?
            }
            // What `.*X` did not find from here it does not find from further on in the same line.
            Some(&(Inst::Loop { set: 0, limit: NONE, .. } | Inst::Until { set: 0, .. }))
                if self.skip.is_empty() =>
            {
                memchr(b'\n', self.text.get(at - 1..)?)?
            }
            _ => 0,
        };
        self.burn(skipped);
        Some(at + skipped)
    }

    fn burn(&mut self, bytes: usize) {
        self.fuel = self.fuel.saturating_sub(1 + i32::try_from(bytes / 8).unwrap_or(i32::MAX));
    }

    /// The end of the match at `begin`. If there is none, `fuel` tells whether that is certain.
    fn attempt(&mut self, begin: usize) -> Option<usize> {
        self.depth = 0;
        let program = self.program;
        let (mut pc, mut at) = (0, begin);
        loop {
            // Each arm goes on with the next instruction, or falls out of the match to try another way.
            match *program.code.get(pc)? {
                Inst::Match => return Some(at),
                Inst::Lit { case, len, at: lit, .. } => {
                    if is_at(self.text, at, program.bytes(lit, len), case) {
                        (pc, at) = (pc + 1, at + usize::from(len));
                        continue;
                    }
                }
                Inst::Set(set) => {
                    if self.text.get(at).is_some_and(|&b| program.set(set).has(b)) {
                        (pc, at) = (pc + 1, at + 1);
                        continue;
                    }
                }
                Inst::Loop { order, set, limit } => {
                    if let Some(end) = self.take(pc, order, set, limit, at) {
                        (pc, at) = (pc + 1, end);
                        continue;
                    }
                }
                Inst::Until { order, set, .. } => {
                    if let Some(end) = self.take(pc, order, set, NONE, at) {
                        (pc, at) = (pc + 1, end);
                        continue;
                    }
                }
                Inst::Fork { sure, first, second } => {
                    self.fuel -= 1;
                    (pc, at) = self.fork(sure, first, second, at);
                    if self.fuel >= 0 {
                        continue;
                    }
                }
                Inst::Jump(to) => {
                    pc = to.into();
                    continue;
                }
                Inst::Save(slot) => {
                    if self.save(slot, at) {
                        pc += 1;
                        continue;
                    }
                }
                Inst::Look(look) => {
                    if holds(look, self.text, at) {
                        pc += 1;
                        continue;
                    }
                }
                Inst::Addr { .. } => {
                    if let Some(end) = self.address(pc, at) {
                        (pc, at) = (pc + 1, end);
                        continue;
                    }
                }
            }
            (pc, at) = self.other_way()?;
        }
    }

    /// Where the loop at `pc` ends first.
    fn take(&mut self, pc: usize, order: Order, set: u16, limit: u16, at: usize) -> Option<usize> {
        let most = at + self.run(set, limit, at);
        let end = match order {
            Order::Sure => Some(most),
            Order::Greedy => self.back(pc, at, most),
            Order::Lazy => self.ahead(pc, at, most),
        };
        end.filter(|_| self.fuel >= 0)
    }

    /// The bytes with which a text may go on behind the loop at `pc`, if these are known.
    fn next_set(program: &PatternProgram, pc: usize) -> Option<&ByteSet> {
        match program.code.get(pc) {
            Some(&Inst::Until { next, .. }) => Some(program.set(next)),
            _ => None,
        }
    }

    /// The way to go first; the other is kept. A literal that decides the matter is looked at right away.
    #[inline]
    fn fork(&mut self, sure: bool, first: u16, second: u16, at: usize) -> (usize, usize) {
        let program = self.program;
        let mut go = (usize::from(first), at);
        if let Some(&Inst::Lit { case, len, at: lit, .. }) = program.code.get(go.0) {
            if !is_at(self.text, at, program.bytes(lit, len), case) {
                return (usize::from(second), at);
            }
            go = (go.0 + 1, at + usize::from(len));
            if sure {
                return go;
            }
        }
        self.push(StackEntry::Go { pc: second, at: narrow(at) });
        go
    }

    /// Keeps a way for later. Without room for it the attempt is given up.
    fn push(&mut self, entry: StackEntry) {
        match self.stack.get_mut(self.depth) {
            Some(place) => {
                *place = entry;
                self.depth += 1;
            }
            None => self.fuel = -1,
        }
    }

    /// The last way that was kept and leads anywhere.
    fn other_way(&mut self) -> Option<(usize, usize)> {
        while self.fuel >= 0 {
            self.depth = self.depth.checked_sub(1)?;
            self.fuel -= 1;
            match *self.stack.get(self.depth)? {
                StackEntry::Go { pc, at } => return Some((pc.into(), at.into())),
                StackEntry::Restore { slot, old } => {
                    if let Some(value) = self.slots.get_mut(usize::from(slot)) {
                        *value = old;
                    }
                }
                StackEntry::Back { pc, lo, hi } => {
                    let end = self.back(pc.into(), lo.into(), hi.into());
                    if let Some(end) = end {
                        return Some((usize::from(pc) + 1, end));
                    }
                }
                StackEntry::Ahead { pc, lo, hi } => {
                    let end = self.ahead(pc.into(), lo.into(), hi.into());
                    if let Some(end) = end {
                        return Some((usize::from(pc) + 1, end));
                    }
                }
            }
        }
        None
    }

    #[inline(always)]
    fn save(&mut self, slot: u8, at: usize) -> bool {
        let at = narrow(at);
        if slot == IP_BEGIN && self.skip.contains(&at) {
            return false;
        }
        if let Some(value) = self.slots.get_mut(usize::from(slot)) {
            let old = std::mem::replace(value, at);
            if self.depth > 0 {
                self.push(StackEntry::Restore { slot, old });
            }
        }
        true
    }

    fn address(&mut self, pc: usize, at: usize) -> Option<usize> {
        let ends = addr::ends(self.text, at);
        let end = ends.full.or(ends.short)?;
        if let Some(addr) = ends.addr {
            *self.seen = (narrow(at), narrow(end), addr);
        }
        if !self.save(IP_BEGIN, at) {
            return None;
        }
        if let Some(short) = ends.short.filter(|_| ends.full.is_some()) {
            // Taken in reverse: the slot of the end is set, matching goes on there, the slot is put back.
            let slot = IP_BEGIN + 1;
            self.push(StackEntry::Restore { slot, old: self.slots[usize::from(slot)] });
            self.push(StackEntry::Go { pc: narrow(pc + 1), at: narrow(short) });
            self.push(StackEntry::Restore { slot, old: narrow(short) });
        }
        self.save(IP_BEGIN + 1, end);
        Some(end)
    }

    /// How many bytes from `at` on are in the set, up to the limit.
    fn run(&mut self, set: u16, limit: u16, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let rest = match self.program.limit(limit) {
            Some(limit) => rest.get(..usize::from(limit.max)).unwrap_or(rest),
            None => rest,
        };
        let len = match set::OUTSIDE.get(usize::from(set)) {
            Some([one]) => memchr(*one, rest),
            Some([one, other]) => memchr2(*one, *other, rest),
            _ => {
                let set = self.program.set(set);
                rest.iter().position(|&b| !set.has(b))
            }
        };
        let len = len.unwrap_or(rest.len());
        self.burn(len);
        len
    }

    /// Ends the loop at `pc` at the last position from `lo` to `hi` where it is worth to go on; keeps the
    /// others.
    fn back(&mut self, pc: usize, lo: usize, hi: usize) -> Option<usize> {
        let program = self.program;
        let at = match program.then(pc) {
            Some((_, _, Some(escape))) if self.text.get(hi) == Some(&escape) => hi,
            Some((lit, rare, _)) => {
                let byte = *lit.get(rare)?;
                let end = self.text.len().min(hi + rare + 1);
                let mut window = self.text.get(lo + rare..end)?;
                loop {
                    let Some(found) = memrchr(byte, window) else {
                        self.burn(window.len());
                        return None;
                    };
                    self.burn(window.len() - found);
                    if is_at(self.text, lo + found, lit, Case::Exact) {
                        break lo + found;
                    }
                    window = window.get(..found)?;
                }
            }
            _ => match Self::next_set(program, pc) {
                Some(next) => {
                    let fits = |at: &usize| self.text.get(*at).is_none_or(|&b| next.has(b));
                    let found = (lo..=hi).rev().find(fits);
                    self.burn(hi - found.unwrap_or(lo));
                    found?
                }
                None => hi,
            },
        };
        if at > lo {
            self.push(StackEntry::Back { pc: narrow(pc), lo: narrow(lo), hi: narrow(at - 1) });
        }
        Some(at)
    }

    /// Ends the loop at `pc` at the first position from `lo` to `hi` where it is worth to go on; keeps the
    /// others.
    fn ahead(&mut self, pc: usize, lo: usize, hi: usize) -> Option<usize> {
        let program = self.program;
        let at = match program.then(pc) {
            Some((lit, rare, None)) => {
                let byte = *lit.get(rare)?;
                let end = self.text.len().min(hi + rare + 1);
                let mut from = lo;
                loop {
                    let window = self.text.get(from + rare..end)?;
                    let Some(found) = memchr(byte, window) else {
                        self.burn(window.len());
                        return None;
                    };
                    self.burn(found);
                    if is_at(self.text, from + found, lit, Case::Exact) {
                        break from + found;
                    }
                    from += found + 1;
                }
            }
            _ => match Self::next_set(program, pc) {
                Some(next) => {
                    let fits = |at: &usize| self.text.get(*at).is_none_or(|&b| next.has(b));
                    let found = (lo..=hi).find(fits);
                    self.burn(found.unwrap_or(hi) - lo);
                    found?
                }
                None => lo,
            },
        };
        if at < hi {
            self.push(StackEntry::Ahead { pc: narrow(pc), lo: narrow(at + 1), hi: narrow(hi) });
        }
        Some(at)
    }
}

/// Address instructions of which it is looked at what stands next to them; few patterns have two.
const AROUND: usize = 4;

/// Whether an address may be read elsewhere than at `begin`, judged by what stands next to it. `program` has
/// no other ip groups than address instructions.
pub(super) fn another_place(program: &PatternProgram, text: &[u8], begin: usize) -> bool {
    let mut around = [(&[][..], &[][..]); AROUND];
    around.iter_mut().zip(program.addresses()).for_each(|(place, found)| *place = found);
    let around = around.get(..program.addrs.into()).unwrap_or_default();
    let fits = |at: usize| {
        // What stands before it is looked at first: to read an address takes longer.
        if !text.get(at).is_some_and(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'[')) {
            return false;
        }
        let before = text.get(..at).unwrap_or_default();
        let led = |lead: &[u8]| at == 0 || before.ends_with(lead);
        if !around.iter().any(|(lead, _)| led(lead)) {
            return false;
        }
        let ends = addr::ends(text, at);
        let mut both = [ends.full, ends.short].into_iter().flatten();
        both.any(|end| around.iter().any(|(lead, tail)| led(lead) && is_at(text, end, tail, Case::Exact)))
    };
    program.lead == 0
        || usize::from(program.addrs) > AROUND
        || (program.may_lead() && begin > 0 && fits(0))
        || memchr::memchr_iter(program.lead, text).any(|at| at + 1 != begin && fits(at + 1))
}

/// Positions and instruction numbers fit: `MAX_TEXT` and `parse::MAX_STEPS` bound them.
#[inline(always)]
pub(super) fn narrow(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(NONE)
}

/// Whether the literal stands at `at`.
#[inline(always)]
fn is_at(text: &[u8], at: usize, lit: &[u8], case: Case) -> bool {
    let Some(rest) = text.get(at..) else { return false };
    match case {
        Case::Exact => memchr::arch::all::is_prefix(rest, lit),
        Case::Either => rest.get(..lit.len()).is_some_and(|head| head.eq_ignore_ascii_case(lit)),
    }
}

/// Whether the condition holds between the bytes before and behind `at`.
pub(super) fn holds(look: Look, text: &[u8], at: usize) -> bool {
    let word = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|&b| set::is_word(b));
    match look {
        Look::Start => at == 0,
        Look::End => at == text.len(),
        Look::Word => word(at.checked_sub(1)) != word(Some(at)),
        Look::NotWord => word(at.checked_sub(1)) == word(Some(at)),
    }
}
