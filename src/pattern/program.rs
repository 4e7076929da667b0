#![forbid(unsafe_code)]
//! Tree to program: a compact list of instructions, made once per pattern. Knows nothing of texts.

use super::CaptureGroup;
use super::builder::Builder;
use super::parse::{Look, Node, PatternPart};
use super::set::{self, ByteSet, COMMON};

/// No instruction, no position, no slot.
pub(super) const NONE: u16 = u16::MAX;
/// The slot in which the ip group begins; each group has two, in the order of `CaptureGroup::ALL`.
pub(super) const IP_BEGIN: u8 = 0;

/// One step. Instructions follow each other unless they say otherwise.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Inst {
    /// The pattern matches.
    Match,
    /// The bytes `pool[at..at + len]`.
    /// `rare` is the index of the byte that is seen least in logs.
    Lit { case: Case, len: u8, rare: u8, at: u16 },
    /// One byte of this set.
    Set(u16),
    /// Any number of bytes of a set; if `limit` is not `NONE`, only so many: see `PatternProgram::limit`.
    Loop { order: Order, set: u16, limit: u16 },
    /// Any number of bytes of a set; what follows is the end of the text or begins with a byte
    /// of the set `next`.
    Until { order: Order, set: u16, next: u16 },
    /// First go on there; if that fails, there. `sure`: at most one of them can lead to a match.
    Fork { sure: bool, first: u16, second: u16 },
    /// Go on there.
    Jump(u16),
    /// Note the position in this slot.
    Save(u8),
    /// A condition on the place.
    Look(Look),
    /// An address, which is an ip group. `id` counts them.
    Addr { id: u8 },
}

/// How the letters of a literal are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Case {
    /// As they stand.
    Exact,
    /// They are lower case and stand for either case.
    Either,
}

/// In which order a loop tries its numbers of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Order {
    /// The most first.
    Greedy,
    /// The fewest first.
    Lazy,
    /// Only the most can match: what follows begins with another byte.
    Sure,
}

/// Pairs of alternatives that are compared to find out whether a fork is sure.
const EFFORT: u32 = 64;

/// An address may stand at the head of the text.
const AT_HEAD: u8 = 1;
/// All ways to an address come over the instruction before it.
const STRAIGHT: u8 = 2;

/// A compiled pattern.
#[derive(Clone)]
pub(super) struct PatternProgram {
    pub(super) code: Box<[Inst]>,
    /// The bytes of all literals, and of the limits of loops.
    pub(super) pool: Box<[u8]>,
    /// Sets beyond `COMMON`.
    sets: Box<[ByteSet]>,
    /// Slots up to the last one in use.
    pub(super) slots: u8,
    /// Address instructions.
    pub(super) addrs: u8,
    /// Matches begin at the head of the text only.
    pub(super) anchored: bool,
    /// Every ip group is an address instruction.
    pub(super) addresses_only: bool,
    /// So many bytes of the pool must stand at the head of the text.
    head: u8,
    /// The byte that stands before every address; 0 if that cannot be said.
    pub(super) lead: u8,
    /// What else is known of what leads to addresses: `AT_HEAD`, `STRAIGHT`.
    leads: u8,
    /// No text has two matches in which the ip group begins at different positions.
    pub(super) one_reading: bool,
}

impl PatternProgram {
    /// Translates a parsed pattern.
    pub(super) fn new(part: &PatternPart) -> PatternProgram {
        let mut b = Builder::default();
        b.node(&part.node);
        b.code.push(Inst::Match);
        let mut program = PatternProgram {
            code: b.code.into_boxed_slice(),
            pool: b.pool.into_boxed_slice(),
            sets: b.sets.into_boxed_slice(),
            slots: b.slots,
            addrs: b.addrs,
            anchored: anchored(&part.node),
            addresses_only: false,
            head: 0,
            lead: 0,
            leads: 0,
            one_reading: false,
        };
        if let [Inst::Look(Look::Start), Inst::Lit { case: Case::Exact, len, at: 0, .. }, ..] = *program.code
        {
            program.head = len;
        }
        program.addresses_only = !program.code.iter().any(|inst| matches!(inst, Inst::Save(IP_BEGIN)));
        program.look_ahead();
        program.number_counts();
        program.look_behind();
        program.one_reading = part.always & CaptureGroup::Ip.bit() == 0 || program.has_one_reading();
        program
    }

    /// Whether the head of the text decides about most texts.
    pub(super) fn has_head(&self) -> bool {
        self.head > 0
    }

    /// Whether a match is possible, judged by the head of the text alone.
    #[inline]
    pub(super) fn may_match(&self, text: &[u8]) -> bool {
        memchr::arch::all::is_prefix(text, self.bytes(0, self.head))
    }

    /// The set of this number.
    #[inline(always)]
    pub(super) fn set(&self, id: u16) -> &ByteSet {
        let id = usize::from(id);
        COMMON.get(id).or_else(|| self.sets.get(id - COMMON.len())).unwrap_or(&ByteSet::EMPTY)
    }

    /// The bytes of a literal.
    #[inline(always)]
    pub(super) fn bytes(&self, at: u16, len: u8) -> &[u8] {
        let at = usize::from(at);
        self.pool.get(at..at + usize::from(len)).unwrap_or_default()
    }

    /// States a matcher has to tell apart: the instructions, each byte of a literal, three ways to be in an
    /// address, each number of bytes that a loop with a limit has taken.
    pub(super) fn states(&self) -> usize {
        let ends = self.limits().map(|(_, limit)| usize::from(limit.first) + usize::from(limit.max));
        ends.max().unwrap_or_else(|| self.plain_states())
    }

    /// Those without the numbers.
    fn plain_states(&self) -> usize {
        self.code.len() + self.pool.len() + 3 * usize::from(self.addrs)
    }

    /// Finds out what stands before addresses.
    fn look_behind(&mut self) {
        let addrs = (0..self.code.len()).filter(|&pc| matches!(self.code[pc], Inst::Addr { .. }));
        let mut todo: Vec<usize> = addrs.collect();
        let mut seen = vec![false; self.code.len()];
        let (mut lead, mut leads) = (0, false);
        while let Some(pc) = todo.pop() {
            if pc == 0 {
                return;
            }
            for (before, inst) in self.code.iter().enumerate().filter(|(at, _)| self.goes_to(*at, pc)) {
                let byte = match inst {
                    Inst::Lit { .. } => self.literal(before).last().copied(),
                    Inst::Look(Look::Start) => {
                        leads = true;
                        continue;
                    }
                    Inst::Save(_) | Inst::Fork { .. } | Inst::Jump(_) | Inst::Look(_) => {
                        if !std::mem::replace(&mut seen[before], true) {
                            todo.push(before);
                        }
                        continue;
                    }
                    _ => None,
                };
                let Some(byte) = byte.filter(|byte| lead == 0 || lead == *byte) else { return };
                lead = byte;
            }
        }
        self.lead = lead;
        let is_addr = |pc: &usize| matches!(self.code[*pc], Inst::Addr { .. });
        let straight = !(0..self.code.len()).filter(is_addr).any(|pc| self.is_target(pc));
        self.leads = if leads { AT_HEAD } else { 0 } | if straight { STRAIGHT } else { 0 };
    }

    /// Whether an address may stand at the head of the text.
    pub(super) fn may_lead(&self) -> bool {
        self.leads & AT_HEAD != 0
    }

    /// Whether the instruction `to` may come right behind `from`.
    fn goes_to(&self, from: usize, to: usize) -> bool {
        match self.code[from] {
            Inst::Jump(next) => usize::from(next) == to,
            Inst::Fork { first, second, .. } => [first, second].contains(&index(to)),
            Inst::Match => false,
            _ => from + 1 == to,
        }
    }

    /// Gives the loops with a limit their states.
    fn number_counts(&mut self) {
        let mut next = self.plain_states();
        let limits: Vec<_> = self.limits().collect();
        for (at, limit) in limits {
            let first = index(next).to_ne_bytes();
            self.pool[usize::from(at) + 2..usize::from(at) + 4].copy_from_slice(&first);
            next += usize::from(limit.max);
        }
    }

    fn limits(&self) -> impl Iterator<Item = (u16, LoopLimit)> {
        self.code.iter().filter_map(|inst| match *inst {
            Inst::Loop { limit, .. } => self.limit(limit).map(|found| (limit, found)),
            _ => None,
        })
    }

    /// The limit of a loop, if it has one.
    #[inline]
    pub(super) fn limit(&self, limit: u16) -> Option<LoopLimit> {
        if limit == NONE {
            return None;
        }
        let &[a, b, c, d] = self.pool.get(usize::from(limit)..)?.first_chunk()?;
        Some(LoopLimit { max: u16::from_ne_bytes([a, b]), first: u16::from_ne_bytes([c, d]) })
    }

    /// The literal that must follow the loop at `pc`, and the index of its rare byte. Of what is between
    /// quotes that is what follows the whole, unless an escape does: that byte comes last.
    #[inline]
    pub(super) fn then(&self, pc: usize) -> Option<(&[u8], usize, Option<u8>)> {
        let (mut pc, loop_) = (pc + 1, *self.code.get(pc)?);
        let mut escape = None;
        if let (Inst::Loop { set, .. }, Some(&Inst::Fork { first, second, .. })) = (loop_, self.code.get(pc))
        {
            escape = self.literal(first.into()).first().copied();
            if escape.is_none_or(|byte| self.set(set).has(byte)) {
                return None;
            }
            pc = second.into();
        }
        let behind = self.code.get(pc..)?.iter().find(|inst| !matches!(inst, Inst::Save(_)));
        match behind {
            Some(&Inst::Lit { case: Case::Exact, len, rare, at }) => {
                Some((self.bytes(at, len), usize::from(rare), escape))
            }
            _ => None,
        }
    }

    /// For each address instruction what stands right before it and right behind it, as far as that is a
    /// literal.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let addrs = self.code.iter().enumerate().filter(|(_, inst)| matches!(inst, Inst::Addr { .. }));
        addrs.map(|(pc, _)| {
            let lead = pc.checked_sub(1).filter(|_| self.leads & STRAIGHT != 0);
            (self.literal(lead.unwrap_or(pc)), self.literal(pc + 1))
        })
    }

    /// The literal of this instruction; empty if it is none.
    fn literal(&self, pc: usize) -> &[u8] {
        match self.code.get(pc) {
            Some(&Inst::Lit { case: Case::Exact, len, at, .. }) => self.bytes(at, len),
            _ => &[],
        }
    }

    /// Whether something else than the instruction before it leads to this one.
    fn is_target(&self, pc: usize) -> bool {
        (0..self.code.len()).any(|from| from + 1 != pc && self.goes_to(from, pc))
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        size_of_val(&*self.code) + self.pool.len() + size_of_val(&*self.sets)
    }

    /// Finds out what follows loops and forks, so that matchers need not try in vain.
    fn look_ahead(&mut self) {
        for pc in 0..self.code.len() {
            let mut inst = self.code[pc];
            match &mut inst {
                Inst::Loop { set, order, limit } => {
                    let next = self.firsts(pc + 1);
                    if !next.done && self.set(*set).disjoint(&next.set) {
                        *order = Order::Sure;
                    } else if !next.done && *limit == NONE && self.then(pc).is_none() && next.set.is_small() {
                        inst = Inst::Until { order: *order, set: *set, next: self.set_id(next.set) };
                    }
                }
                Inst::Fork { sure, first, second } => {
                    *sure = self.exclusive(usize::from(*first), usize::from(*second), &mut { EFFORT });
                }
                _ => {}
            }
            self.code[pc] = inst;
        }
    }

    /// Whether at most one of the two ways can lead to a match, whatever the text. `work` bounds the effort.
    fn exclusive(&self, a: usize, b: usize, work: &mut u32) -> bool {
        *work = work.saturating_sub(1);
        match (self.code[a], self.code[b]) {
            _ if *work == 0 => false,
            (Inst::Fork { first, second, .. }, _) => {
                self.exclusive(usize::from(first), b, work) && self.exclusive(usize::from(second), b, work)
            }
            (_, Inst::Fork { .. }) => self.exclusive(b, a, work),
            (
                Inst::Lit { case: Case::Exact, len, at, .. },
                Inst::Lit { case: Case::Exact, len: len2, at: at2, .. },
            ) => {
                let (x, y) = (self.bytes(at, len), self.bytes(at2, len2));
                x.iter().zip(y).any(|(x, y)| x != y)
            }
            _ => {
                let (x, y) = (self.firsts(a), self.firsts(b));
                !x.done && !y.done && x.set.disjoint(&y.set)
            }
        }
    }

    /// The number of this set, which is kept if it is new.
    fn set_id(&mut self, set: ByteSet) -> u16 {
        let known = COMMON.iter().chain(&self.sets).position(|s| *s == set);
        let id = known.unwrap_or_else(|| {
            self.sets = [&*self.sets, &[set]].concat().into();
            COMMON.len() + self.sets.len() - 1
        });
        index(id)
    }

    /// The bytes with which a match may go on at this instruction.
    fn firsts(&self, pc: usize) -> Firsts {
        let mut firsts = Firsts { set: ByteSet::EMPTY, done: false };
        let mut seen = vec![false; self.code.len()];
        let mut todo = vec![pc];
        while let Some(pc) = todo.pop() {
            if std::mem::replace(&mut seen[pc], true) {
                continue;
            }
            let more = match self.code[pc] {
                Inst::Match => {
                    firsts.done = true;
                    continue;
                }
                // Nothing can follow the end of the text.
                Inst::Look(Look::End) => continue,
                Inst::Look(_) | Inst::Save(_) => ByteSet::EMPTY,
                Inst::Jump(to) => {
                    todo.push(usize::from(to));
                    continue;
                }
                Inst::Fork { first, second, .. } => {
                    todo.extend([usize::from(first), usize::from(second)]);
                    continue;
                }
                Inst::Loop { set, .. } | Inst::Until { set, .. } => *self.set(set),
                Inst::Set(set) => {
                    firsts.set = firsts.set.or(*self.set(set));
                    continue;
                }
                Inst::Lit { case, at, .. } => {
                    let one = self.pool.get(usize::from(at)).map(|&b| ByteSet::EMPTY.with(b, b));
                    let one = one.unwrap_or(ByteSet::EMPTY);
                    firsts.set = firsts.set.or(if case == Case::Either { one.folded() } else { one });
                    continue;
                }
                Inst::Addr { .. } => {
                    let hex = set::DIGIT.with(b'a', b'f').with(b'A', b'F').with(b':', b':').with(b'[', b'[');
                    firsts.set = firsts.set.or(hex);
                    continue;
                }
            };
            firsts.set = firsts.set.or(more);
            todo.push(pc + 1);
        }
        firsts
    }

    /// Whether every step up to the ip group is the only one possible.
    fn has_one_reading(&self) -> bool {
        let mut seen = vec![false; self.code.len()];
        let mut todo = vec![0];
        while let Some(pc) = todo.pop() {
            if std::mem::replace(&mut seen[pc], true) {
                continue;
            }
            match self.code[pc] {
                Inst::Save(IP_BEGIN) | Inst::Addr { .. } | Inst::Match => {}
                Inst::Fork { sure: true, first, second } => {
                    todo.extend([usize::from(first), usize::from(second)])
                }
                Inst::Fork { .. } | Inst::Until { .. } => return false,
                Inst::Loop { order: Order::Greedy | Order::Lazy, .. } => return false,
                Inst::Jump(to) => todo.push(usize::from(to)),
                _ => todo.push(pc + 1),
            }
        }
        self.anchored
    }
}

/// How many bytes a loop takes.
pub(super) struct LoopLimit {
    pub(super) max: u16,
    /// The number of the state in which it has taken one; those with more follow.
    pub(super) first: u16,
}

struct Firsts {
    set: ByteSet,
    /// Whether the match may be complete without a further byte, and not only at the end of the text.
    done: bool,
}

/// Whether the node matches at the head of the text only.
fn anchored(node: &Node) -> bool {
    match node {
        Node::Look(look) => *look == Look::Start,
        Node::Group(_, inner) => anchored(inner),
        Node::Repeat { what, min, .. } => *min > 0 && anchored(what),
        Node::Alt(all) => all.iter().all(anchored),
        Node::Cat(all) => {
            let lead = all
                .iter()
                .find(|n| !matches!(n, Node::Empty | Node::Look(Look::Word | Look::NotWord | Look::End)));
            lead.is_some_and(anchored)
        }
        Node::Empty | Node::Byte(_) | Node::Letter(_) | Node::Set(_) | Node::Addr => false,
    }
}

/// Numbers of instructions fit: `parse::MAX_STEPS` bounds them.
pub(super) fn index(pc: usize) -> u16 {
    u16::try_from(pc).unwrap_or(NONE)
}

/// How seldom a byte is in logs, roughly: 0 for the blank, more for what is rarer.
pub(super) fn rarity(b: u8) -> u8 {
    match b {
        b' ' => 0,
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'0'..=b'9' => 1,
        b'd' | b'l' | b'u' | b'c' | b'm' | b'p' | b'h' | b':' | b'.' => 2,
        b'a'..=b'z' | b'-' | b'=' | b'/' | b',' | b'[' | b']' => 3,
        _ => 4,
    }
}
