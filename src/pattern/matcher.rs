#![forbid(unsafe_code)]
//! The quick way to match: tries one way after the other, most lines are decided within a few steps.
//! It has a fixed stack and a fixed number of steps in proportion to the text; when either is used up it gives up,
//! and `pike`, which is slower but linear on any text, answers instead. Both give the same answer.

use super::addr;
use super::parse::Look;
use super::pike::Pike;
use super::program::{Inst, NONE, Order, Program};
use super::set;
use memchr::{memchr, memrchr};

/// Longest text that is matched, in bytes: positions are 16 bits wide.
pub(super) const MAX_TEXT: usize = 65_000;
/// Slots of captures a program may have: two for each group.
pub(super) const SLOTS: usize = 14;
/// Ways not yet tried that the quick matcher keeps.
const STACK: usize = 128;

/// Where a match and its groups stand.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) begin: usize,
    pub(super) end: usize,
    pub(super) slots: [u16; SLOTS],
}

/// Working memory for matching, made once for a set of patterns and used for one text at a time.
pub struct Scratch {
    stack: Box<[Entry; STACK]>,
    pub(super) pike: Pike,
    /// Steps taken so far, to show that matching is linear.
    #[cfg(test)]
    pub(super) steps: usize,
}

impl Scratch {
    /// Memory that is enough for each of these patterns.
    pub fn for_patterns<'a>(patterns: impl Iterator<Item = &'a super::Pattern>) -> Scratch {
        let mut pike = Pike::default();
        for pattern in patterns {
            pike.fit(&pattern.program);
        }
        Scratch {
            stack: Box::new([Entry::NOTHING; STACK]),
            pike,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        size_of_val(&*self.stack) + self.pike.heap_size()
    }
}

/// What is still to be done if the present way fails.
#[derive(Clone, Copy)]
enum Entry {
    /// Go on at this instruction and position.
    Go { pc: u16, at: u16 },
    /// The loop at `pc` may also end at any position from `lo` to `hi`, the last first.
    Back { pc: u16, lo: u16, hi: u16 },
    /// The same, the first first.
    Ahead { pc: u16, lo: u16, hi: u16 },
    /// Put this slot back.
    Restore { slot: u8, old: u16 },
}

impl Entry {
    const NOTHING: Entry = Entry::Restore { slot: u8::MAX, old: NONE };
}

/// How an attempt ended.
enum Outcome {
    Match(usize),
    Fail,
    /// Too much work or too many ways: nothing is known.
    GaveUp,
}

/// Finds the leftmost match in which the ip group begins at none of the positions `skip`.
/// Of those that begin there, the one that the pattern prefers.
pub(super) fn search(program: &Program, text: &[u8], scratch: &mut Scratch, skip: &[u16]) -> Option<Found> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let mut quick = Quick {
        program,
        text,
        skip,
        stack: &mut scratch.stack,
        depth: 0,
        slots: [NONE; SLOTS],
        fuel: i32::try_from(text.len()).map_or(i32::MAX, |n| 4 * n + 500),
    };
    #[cfg(test)]
    let fuel = quick.fuel;
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

struct GaveUp;

struct Quick<'a> {
    program: &'a Program,
    text: &'a [u8],
    skip: &'a [u16],
    stack: &'a mut [Entry; STACK],
    depth: usize,
    slots: [u16; SLOTS],
    /// Steps left.
    fuel: i32,
}

impl Quick<'_> {
    /// Tries each position at which a match may begin.
    fn search(&mut self) -> Result<Option<Found>, GaveUp> {
        let mut begin = 0;
        loop {
            match self.attempt(begin) {
                Outcome::Match(end) => return Ok(Some(Found { begin, end, slots: self.slots })),
                Outcome::GaveUp => return Err(GaveUp),
                Outcome::Fail if self.program.anchored => return Ok(None),
                Outcome::Fail => {}
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
            Some(&Inst::Lit { fold: false, at, .. }) => memchr(*program.pool.get(usize::from(at))?, rest)?,
            // What `.*X` did not find from here it does not find from further on in the same line.
            Some(&Inst::Loop { set: 0, .. }) if self.skip.is_empty() => {
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

    /// Matches at `begin`.
    fn attempt(&mut self, begin: usize) -> Outcome {
        self.depth = 0;
        let program = self.program;
        let (mut pc, mut at) = (0, begin);
        loop {
            self.fuel -= 1;
            let Some(inst) = program.code.get(pc) else { return Outcome::Fail };
            let step = match *inst {
                Inst::Match => return Outcome::Match(at),
                Inst::Lit { fold, len, at: lit, .. } => is_at(self.text, at, program.bytes(lit, len), fold)
                    .then_some((pc + 1, at + usize::from(len))),
                Inst::Set(set) => match self.text.get(at) {
                    Some(&b) if program.set(set).has(b) => Some((pc + 1, at + 1)),
                    _ => None,
                },
                Inst::Loop { order, set, then } => {
                    let most = at + self.run(set, at);
                    match order {
                        Order::Sure => Some((pc + 1, most)),
                        Order::Greedy => self.back(pc, then, at, most),
                        Order::Lazy => self.ahead(pc, then, at, most),
                    }
                }
                Inst::Fork { first, second, .. } => {
                    self.push(Entry::Go { pc: second, at: narrow(at) });
                    Some((usize::from(first), at))
                }
                Inst::Jump(to) => Some((usize::from(to), at)),
                Inst::Save(slot) => self.save(slot, at).then_some((pc + 1, at)),
                Inst::Look(look) => holds(look, self.text, at).then_some((pc + 1, at)),
                Inst::Addr { .. } => self.address(pc, at),
            };
            match step.or_else(|| self.other_way()) {
                _ if self.fuel < 0 => return Outcome::GaveUp,
                Some(next) => (pc, at) = next,
                None => return Outcome::Fail,
            }
        }
    }

    /// Keeps a way for later. Without room for it the attempt is given up.
    fn push(&mut self, entry: Entry) {
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
        loop {
            self.depth = self.depth.checked_sub(1)?;
            self.fuel -= 1;
            match *self.stack.get(self.depth)? {
                Entry::Go { pc, at } => return Some((pc.into(), at.into())),
                Entry::Restore { slot, old } => {
                    if let Some(value) = self.slots.get_mut(usize::from(slot)) {
                        *value = old;
                    }
                }
                Entry::Back { pc, lo, hi } => {
                    let next = self.back(pc.into(), self.then(pc), lo.into(), hi.into());
                    if next.is_some() || self.fuel < 0 {
                        return next;
                    }
                }
                Entry::Ahead { pc, lo, hi } => {
                    let next = self.ahead(pc.into(), self.then(pc), lo.into(), hi.into());
                    if next.is_some() || self.fuel < 0 {
                        return next;
                    }
                }
            }
        }
    }

    /// The literal that must follow the loop at `pc`.
    fn then(&self, pc: u16) -> u16 {
        match self.program.code.get(usize::from(pc)) {
            Some(&Inst::Loop { then, .. }) => then,
            _ => NONE,
        }
    }

    fn save(&mut self, slot: u8, at: usize) -> bool {
        let at = narrow(at);
        if slot == super::program::IP_BEGIN && self.skip.contains(&at) {
            return false;
        }
        if let Some(value) = self.slots.get_mut(usize::from(slot)) {
            let old = std::mem::replace(value, at);
            if self.depth > 0 {
                self.push(Entry::Restore { slot, old });
            }
        }
        true
    }

    fn address(&mut self, pc: usize, at: usize) -> Option<(usize, usize)> {
        let ends = addr::ends(self.text, at);
        if let (Some(_), Some(short)) = (ends.full, ends.short) {
            self.push(Entry::Go { pc: narrow(pc + 1), at: narrow(short) });
        }
        ends.full.or(ends.short).map(|end| (pc + 1, end))
    }

    /// How many bytes from `at` on are in the set.
    fn run(&mut self, set: u16, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let len = if set == 0 {
            memchr(b'\n', rest)
        } else {
            let set = self.program.set(set);
            rest.iter().position(|&b| !set.has(b))
        };
        let len = len.unwrap_or(rest.len());
        self.burn(len);
        len
    }

    /// Ends the loop at `pc` at the last position from `lo` to `hi` where it is worth to go on; keeps the others.
    fn back(&mut self, pc: usize, then: u16, lo: usize, hi: usize) -> Option<(usize, usize)> {
        let at = match self.program.code.get(usize::from(then)) {
            Some(&Inst::Lit { len, rare, at, .. }) => {
                let lit = self.program.bytes(at, len);
                let rare = usize::from(rare);
                let byte = *lit.get(rare)?;
                let end = self.text.len().min(hi + rare + 1);
                let mut window = self.text.get(lo + rare..end)?;
                loop {
                    let Some(found) = memrchr(byte, window) else {
                        self.burn(window.len());
                        return None;
                    };
                    self.burn(window.len() - found);
                    if is_at(self.text, lo + found, lit, false) {
                        break lo + found;
                    }
                    window = window.get(..found)?;
                }
            }
            _ => hi,
        };
        if at > lo {
            self.push(Entry::Back { pc: narrow(pc), lo: narrow(lo), hi: narrow(at - 1) });
        }
        Some((pc + 1, at))
    }

    /// Ends the loop at `pc` at the first position from `lo` to `hi` where it is worth to go on; keeps the others.
    fn ahead(&mut self, pc: usize, then: u16, lo: usize, hi: usize) -> Option<(usize, usize)> {
        let at = match self.program.code.get(usize::from(then)) {
            Some(&Inst::Lit { len, rare, at, .. }) => {
                let lit = self.program.bytes(at, len);
                let rare = usize::from(rare);
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
                    if is_at(self.text, from + found, lit, false) {
                        break from + found;
                    }
                    from += found + 1;
                }
            }
            _ => lo,
        };
        if at < hi {
            self.push(Entry::Ahead { pc: narrow(pc), lo: narrow(at + 1), hi: narrow(hi) });
        }
        Some((pc + 1, at))
    }
}

/// Positions and instruction numbers fit: `MAX_TEXT` and `parse::MAX_STEPS` bound them.
#[inline]
pub(super) fn narrow(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(NONE)
}

/// Whether the literal stands at `at`.
#[inline]
fn is_at(text: &[u8], at: usize, lit: &[u8], fold: bool) -> bool {
    let Some(rest) = text.get(at..) else { return false };
    if fold {
        rest.get(..lit.len()).is_some_and(|head| head.eq_ignore_ascii_case(lit))
    } else {
        memchr::arch::all::is_prefix(rest, lit)
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
