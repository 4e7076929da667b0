#![forbid(unsafe_code)]
//! The general way to match: all ways at once, byte by byte, each state at most once per byte. Time is at
//! most the length of the text times the size of the program, on any text; memory is fixed per program.
//!
//! States are numbered: the instructions, then the bytes of the literals, then three for each address
//! instruction (within brackets, the whole word, the shorter end), then the bytes that loops with a
//! limit took. An address is taken in one piece: its
//! state waits for the end. That is sound because addresses of one kind never overlap (see `addr`), so no two
//! ends share a state.

use super::addr;
use super::matcher::{holds, narrow};
use super::program::{Case, IP_BEGIN, Inst, NONE, Order, PatternProgram};
use super::{Captures, SLOTS};

/// Slots of a thread: where the match begins, then the captures.
type Slots = [u16; SLOTS + 1];

/// A way that is being followed: an instruction that takes bytes, and how far it came.
#[derive(Clone, Copy, Default)]
struct Thread {
    pc: u16,
    /// Bytes of the literal or of the loop with a limit taken, or where the address ends.
    part: u16,
}

/// The threads at one position, the preferred first.
#[derive(Default)]
struct ThreadList {
    threads: Box<[Thread]>,
    len: usize,
    /// `stride` slots for each thread.
    slots: Box<[u16]>,
    stride: usize,
}

impl ThreadList {
    fn fit(&mut self, states: usize, stride: usize) {
        if self.threads.len() < states {
            self.threads = vec![Thread::default(); states].into();
        }
        if self.slots.len() < states * stride {
            self.slots = vec![NONE; states * stride].into();
        }
        self.stride = stride;
    }

    fn push(&mut self, thread: Thread, slots: &Slots) {
        let place = self.len * self.stride;
        let room = self.slots.get_mut(place..place + self.stride);
        if let (Some(to), Some(from), Some(entry)) =
            (room, slots.get(..self.stride), self.threads.get_mut(self.len))
        {
            to.copy_from_slice(from);
            *entry = thread;
            self.len += 1;
        }
    }

    fn thread(&self, i: usize) -> Option<Thread> {
        self.threads.get(..self.len)?.get(i).copied()
    }

    fn slots(&self, i: usize) -> Slots {
        let mut slots = [NONE; SLOTS + 1];
        let from = self.slots.get(i * self.stride..(i + 1) * self.stride).unwrap_or_default();
        slots.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        slots
    }
}

/// What is left to do while following instructions that take no byte.
#[derive(Clone, Copy)]
enum Todo {
    /// Go on there.
    Go(u16),
    /// Add this thread of a loop.
    Stay(Thread),
    /// Put this slot back.
    Restore { slot: u8, old: u16 },
}

/// Working memory.
#[derive(Default)]
pub(super) struct Pike {
    now: ThreadList,
    next: ThreadList,
    /// By state: the position (plus one) at which it was last reached.
    reached: Box<[u16]>,
    todo: Vec<Todo>,
    /// Steps of the last search.
    #[cfg(test)]
    pub(super) steps: usize,
}

/// What stays the same during a search.
struct Search<'a> {
    program: &'a PatternProgram,
    text: &'a [u8],
    skip: &'a [u16],
}

impl Pike {
    /// Makes room for this program.
    pub(super) fn fit(&mut self, program: &PatternProgram) {
        let states = program.states();
        let stride = usize::from(program.slots) + 1;
        self.now.fit(states, stride);
        self.next.fit(states, stride);
        if self.reached.len() < states {
            self.reached = vec![0; states].into();
        }
        let more = (program.code.len() + 1).saturating_sub(self.todo.capacity());
        if more > 0 {
            self.todo.reserve_exact(program.code.len() + 1);
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        let list = |l: &ThreadList| size_of_val(&*l.threads) + size_of_val(&*l.slots);
        list(&self.now)
            + list(&self.next)
            + size_of_val(&*self.reached)
            + self.todo.capacity() * size_of::<Todo>()
    }

    /// As `matcher::search`; the memory was made to fit.
    pub(super) fn search(&mut self, program: &PatternProgram, text: &[u8], skip: &[u16]) -> Option<Captures> {
        let search = Search { program, text, skip };
        #[cfg(test)]
        {
            self.steps = 0;
        }
        self.reached.fill(0);
        self.now.len = 0;
        self.next.len = 0;
        let mut best = None;
        for at in 0..=text.len() {
            // A new attempt has the lowest rank, and none is needed once there is a match.
            if best.is_none() && (at == 0 || !program.anchored) {
                let mut slots = [NONE; SLOTS + 1];
                slots[0] = narrow(at);
                // The states of `now` were marked for this position when it was `next`.
                self.follow(&search, Thread::default(), at, &mut slots);
                self.merge();
            }
            if self.now.len == 0 && (best.is_some() || program.anchored) {
                break;
            }
            if let Some(found) = self.step(&search, at) {
                best = Some(found);
            }
            std::mem::swap(&mut self.now, &mut self.next);
            self.next.len = 0;
        }
        best
    }

    /// Appends what `follow` put into `next` to `now`.
    fn merge(&mut self) {
        for i in 0..self.next.len {
            if let Some(thread) = self.next.thread(i) {
                self.now.push(thread, &self.next.slots(i));
            }
        }
        self.next.len = 0;
    }

    /// Lets each thread take the byte at `at`. Returns the match of the first that is complete here; those
    /// behind it are dropped.
    fn step(&mut self, search: &Search, at: usize) -> Option<Captures> {
        let program = search.program;
        let byte = search.text.get(at).copied();
        for i in 0..self.now.len {
            #[cfg(test)]
            {
                self.steps += 1;
            }
            let thread = self.now.thread(i)?;
            let pc = usize::from(thread.pc);
            let inst = *program.code.get(pc)?;
            if matches!(inst, Inst::Match) {
                return Some(captures(&self.now.slots(i), at));
            }
            let Some(byte) = byte else { continue };
            let next = match inst {
                Inst::Lit { case, len, at: lit, .. } => {
                    let want = program.pool.get(usize::from(lit + thread.part));
                    let byte = if case == Case::Either { byte.to_ascii_lowercase() } else { byte };
                    if want != Some(&byte) {
                        continue;
                    }
                    let part = thread.part + 1;
                    if part < u16::from(len) {
                        if self.reach(program.code.len() + usize::from(lit + part), at + 1) {
                            self.next.push(Thread { pc: thread.pc, part }, &self.now.slots(i));
                        }
                        continue;
                    }
                    pc + 1
                }
                Inst::Set(set) if program.set(set).has(byte) => pc + 1,
                Inst::Until { set, .. } if program.set(set).has(byte) => pc,
                Inst::Loop { set, limit, .. } if program.set(set).has(byte) => {
                    let part = if limit == NONE { 0 } else { thread.part + 1 };
                    self.follow(search, Thread { pc: thread.pc, part }, at + 1, &mut self.now.slots(i));
                    continue;
                }
                Inst::Addr { .. } if usize::from(thread.part) == at + 1 => {
                    let mut slots = self.now.slots(i);
                    slots[usize::from(IP_BEGIN) + 2] = thread.part;
                    self.follow(search, Thread { pc: narrow(pc + 1), part: 0 }, at + 1, &mut slots);
                    continue;
                }
                Inst::Addr { .. } => {
                    self.next.push(thread, &self.now.slots(i));
                    continue;
                }
                _ => continue,
            };
            let next = Thread { pc: narrow(next), part: 0 };
            self.follow(search, next, at + 1, &mut self.now.slots(i));
        }
        None
    }

    /// Notes that the state is reached at `at`; false if it was before.
    fn reach(&mut self, state: usize, at: usize) -> bool {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let mark = narrow(at + 1);
        self.reached.get_mut(state).is_some_and(|last| std::mem::replace(last, mark) != mark)
    }

    /// Adds to `next` all threads that begin there without taking a byte, in order of preference.
    fn follow(&mut self, search: &Search, from: Thread, at: usize, slots: &mut Slots) {
        self.todo.clear();
        self.follow_one(search, from, at, slots);
        while let Some(todo) = self.todo.pop() {
            match todo {
                Todo::Go(pc) => self.follow_one(search, Thread { pc, part: 0 }, at, slots),
                Todo::Stay(thread) => self.next.push(thread, slots),
                Todo::Restore { slot, old } => {
                    if let Some(value) = slots.get_mut(1 + usize::from(slot)) {
                        *value = old;
                    }
                }
            }
        }
    }

    fn follow_one(&mut self, search: &Search, from: Thread, at: usize, slots: &mut Slots) {
        let program = search.program;
        let (mut pc, mut part) = (usize::from(from.pc), from.part);
        while let Some(inst) = program.code.get(pc) {
            let thread = Thread { pc: narrow(pc), part };
            let mut full = false;
            let mut state = pc;
            if let Inst::Loop { limit, .. } = *inst
                && part > 0
                && let Some(limit) = program.limit(limit)
            {
                full = part >= limit.max;
                state = usize::from(limit.first) + usize::from(part) - 1;
            }
            if !self.reach(state, at) {
                return;
            }
            (pc, part) = (pc + 1, 0);
            match *inst {
                Inst::Jump(to) => pc = to.into(),
                Inst::Fork { first, second, .. } => {
                    self.todo.push(Todo::Go(second));
                    pc = first.into();
                }
                Inst::Save(slot) => {
                    let at = narrow(at);
                    if slot == IP_BEGIN && search.skip.contains(&at) {
                        return;
                    }
                    if let Some(value) = slots.get_mut(1 + usize::from(slot)) {
                        let old = std::mem::replace(value, at);
                        self.todo.push(Todo::Restore { slot, old });
                    }
                }
                Inst::Look(look) if holds(look, search.text, at) => {}
                Inst::Look(_) => return,
                Inst::Loop { .. } if full => {}
                Inst::Loop { order: Order::Lazy, .. } | Inst::Until { order: Order::Lazy, .. } => {
                    // Leaving comes first: the thread that stays is added behind all that leaving leads to.
                    self.todo.push(Todo::Stay(thread));
                }
                Inst::Loop { .. } | Inst::Until { .. } => self.next.push(thread, slots),
                Inst::Addr { id } => return self.address(search, thread.pc, id, at, slots),
                Inst::Lit { .. } | Inst::Set(_) | Inst::Match => return self.next.push(thread, slots),
            }
        }
    }

    fn address(&mut self, search: &Search, pc: u16, id: u8, at: usize, slots: &Slots) {
        if search.skip.contains(&narrow(at)) {
            return;
        }
        let mut slots = *slots;
        slots[usize::from(IP_BEGIN) + 1] = narrow(at);
        let ends = addr::ends(search.text, at);
        let first = search.program.code.len() + search.program.pool.len() + 3 * usize::from(id);
        let bracket = search.text.get(at) == Some(&b'[');
        for (end, state) in [(ends.full, if bracket { first } else { first + 1 }), (ends.short, first + 2)] {
            if let Some(end) = end.filter(|_| self.reach(state, at)) {
                self.next.push(Thread { pc, part: narrow(end) }, &slots);
            }
        }
    }
}

fn captures(slots: &Slots, end: usize) -> Captures {
    let mut groups = [NONE; SLOTS];
    groups.iter_mut().zip(slots.iter().skip(1)).for_each(|(to, from)| *to = *from);
    Captures { begin: slots[0], end: narrow(end), slots: groups }
}
