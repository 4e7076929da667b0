#![forbid(unsafe_code)]
//! The instructions of a program, node by node of the tree. Knows nothing of what is found out about them.

use super::parse::Node;
use super::program::{Case, IP_BEGIN, Inst, NONE, Order, index, rarity};
use super::set::{ByteSet, COMMON};

/// What a program is made of, as far as it is made.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) code: Vec<Inst>,
    pub(super) pool: Vec<u8>,
    pub(super) sets: Vec<ByteSet>,
    pub(super) slots: u8,
    pub(super) addrs: u8,
    /// The last place that something jumps to: literals must not grow over it.
    label: usize,
}

impl Builder {
    fn here(&mut self) -> u16 {
        self.label = self.code.len();
        index(self.code.len())
    }

    /// The instructions for a node.
    pub(super) fn node(&mut self, node: &Node) {
        match node {
            Node::Empty => {}
            Node::Byte(b) => self.byte(*b, Case::Exact),
            Node::Letter(b) => self.byte(*b, Case::Either),
            Node::Set(set) => {
                let id = self.set_id(*set);
                self.code.push(Inst::Set(id));
            }
            Node::Look(look) => self.code.push(Inst::Look(*look)),
            Node::Addr => {
                self.slots = self.slots.max(IP_BEGIN + 2);
                self.code.push(Inst::Addr { id: self.addrs });
                self.addrs = self.addrs.saturating_add(1);
            }
            Node::Group(group, inner) => {
                let slot = *group as u8 * 2;
                self.slots = self.slots.max(slot + 2);
                self.code.push(Inst::Save(slot));
                self.node(inner);
                self.code.push(Inst::Save(slot + 1));
            }
            Node::Cat(all) => all.iter().for_each(|n| self.node(n)),
            Node::Alt(all) => self.alternatives(all),
            Node::Repeat { what, min, max, order, empty } => {
                let (what, order) = (&**what, *order);
                match max {
                    Some(max) => self.bounded(what, *min, *max, order),
                    None => self.unbounded(what, *min, order, *empty),
                }
            }
        }
    }

    fn byte(&mut self, b: u8, case: Case) {
        let end = self.pool.len();
        // A byte that is no letter fits in both kinds of literals.
        let fits = |to: Case| to == case || (to == Case::Either && !b.is_ascii_alphabetic());
        let label = self.label;
        let count = self.code.len();
        if let Some(Inst::Lit { case: to, len, rare, at }) = self.code.last_mut()
            && fits(*to)
            && *len < u8::MAX
            && label < count
        {
            let best = self.pool.get(usize::from(*at) + usize::from(*rare));
            if best.is_some_and(|&best| rarity(b) > rarity(best)) {
                *rare = *len;
            }
            *len += 1;
            self.pool.push(b);
            return;
        }
        self.pool.push(b);
        self.code.push(Inst::Lit { case, len: 1, rare: 0, at: index(end) });
    }

    fn set_id(&mut self, set: ByteSet) -> u16 {
        let known = COMMON.iter().chain(&self.sets).position(|s| *s == set);
        let id = known.unwrap_or_else(|| {
            self.sets.push(set);
            COMMON.len() + self.sets.len() - 1
        });
        index(id)
    }

    /// Room for a fork at this place; `patch` fills it.
    fn fork(&mut self) -> usize {
        let at = usize::from(self.here());
        self.code.push(Inst::Fork { sure: false, first: NONE, second: NONE });
        at
    }

    fn patch(&mut self, fork: usize, first: u16, second: u16) {
        self.code[fork] = Inst::Fork { sure: false, first, second };
    }

    fn alternatives(&mut self, all: &[Node]) {
        let Some((last, others)) = all.split_last() else { return };
        let mut ends = Vec::with_capacity(others.len());
        for node in others {
            let fork = self.fork();
            self.node(node);
            ends.push(self.code.len());
            self.code.push(Inst::Jump(NONE));
            let next = self.here();
            self.patch(fork, index(fork + 1), next);
        }
        self.node(last);
        let end = self.here();
        ends.iter().for_each(|&at| self.code[at] = Inst::Jump(end));
    }

    /// A fork that enters `body` or leaves to `exit`.
    fn enter(&mut self, fork: usize, body: u16, exit: u16, order: Order) {
        let (first, second) = if order == Order::Lazy { (exit, body) } else { (body, exit) };
        self.patch(fork, first, second);
    }

    fn bounded(&mut self, what: &Node, min: u32, max: u32, order: Order) {
        (0..min).for_each(|_| self.node(what));
        if let Some(set) = single(what)
            && max - min > 1
        {
            let limit = index(self.pool.len());
            let max = u16::try_from(max - min).unwrap_or(NONE);
            self.pool.extend(max.to_ne_bytes());
            self.pool.extend([0, 0]);
            return self.push_loop(set, limit, order);
        }
        let mut forks = Vec::new();
        for _ in min..max {
            forks.push(self.fork());
            self.node(what);
        }
        let exit = self.here();
        forks.iter().for_each(|&fork| self.enter(fork, index(fork + 1), exit, order));
    }

    /// `(?:[^"\\]|\\.)*` as `[^"\\]*(?:\\.[^"\\]*)*`, which matches the same in the same order: a step for
    /// each escape, not for each byte. So it is with each of them lazy, as either goes on where the other
    /// cannot.
    fn unrolled(&mut self, set: ByteSet, escapes: &[Node], order: Order) {
        self.push_loop(set, NONE, order);
        let fork = self.fork();
        self.alternatives(escapes);
        self.push_loop(set, NONE, order);
        self.code.push(Inst::Jump(index(fork)));
        let exit = self.here();
        self.enter(fork, index(fork + 1), exit, order);
    }

    fn push_loop(&mut self, set: ByteSet, limit: u16, order: Order) {
        let set = self.set_id(set);
        self.code.push(Inst::Loop { order, set, limit });
    }

    fn unbounded(&mut self, what: &Node, min: u32, order: Order, empty: bool) {
        if let Some(set) = single(what) {
            (0..min).for_each(|_| self.node(what));
            return self.push_loop(set, NONE, order);
        }
        if let Some((set, escapes)) = escaped(what) {
            (0..min).for_each(|_| self.node(what));
            return self.unrolled(set, escapes, order);
        }
        if min == 0 && !empty {
            let fork = self.fork();
            self.node(what);
            self.code.push(Inst::Jump(index(fork)));
            let exit = self.here();
            return self.enter(fork, index(fork + 1), exit, order);
        }
        // What may match nothing must not be entered again without having taken a byte: (x*)* is ((x*)+)?
        let question = (min == 0).then(|| self.fork());
        (1..min).for_each(|_| self.node(what));
        let body = self.here();
        self.node(what);
        let plus = self.fork();
        let exit = self.here();
        self.enter(plus, body, exit, order);
        if let Some(fork) = question {
            self.enter(fork, index(fork + 1), exit, order);
        }
    }
}

/// A set, and alternatives to it that begin with a byte that is not in it, if these are what the node may be.
fn escaped(node: &Node) -> Option<(ByteSet, &[Node])> {
    let Node::Alt(all) = node else { return None };
    let (plain, escapes) = all.split_first()?;
    let set = single(plain)?;
    let apart = |escape| begins(escape).is_some_and(|(first, empty)| !empty && set.disjoint(&first));
    (!escapes.is_empty() && escapes.iter().all(apart)).then_some((set, escapes))
}

/// The bytes with which what a node matches may begin, and whether it may match nothing, as far as that is
/// easily said.
fn begins(node: &Node) -> Option<(ByteSet, bool)> {
    let mut all = (ByteSet::EMPTY, false);
    match node {
        Node::Empty => all.1 = true,
        Node::Cat(parts) => {
            all.1 = true;
            for part in parts {
                let (first, empty) = begins(part)?;
                all = (all.0.or(first), empty);
                if !empty {
                    break;
                }
            }
        }
        Node::Alt(ways) => {
            for way in ways {
                let (first, empty) = begins(way)?;
                all = (all.0.or(first), all.1 || empty);
            }
        }
        Node::Repeat { what, min, .. } => {
            let (first, empty) = begins(what)?;
            all = (first, empty || *min == 0);
        }
        _ => all.0 = single(node)?,
    }
    Some(all)
}

/// The set of a node that takes exactly one byte.
fn single(node: &Node) -> Option<ByteSet> {
    match node {
        Node::Set(set) => Some(*set),
        Node::Byte(b) => Some(ByteSet::EMPTY.with(*b, *b)),
        Node::Letter(b) => Some(ByteSet::EMPTY.with(*b, *b).folded()),
        _ => None,
    }
}
