#![forbid(unsafe_code)]
//! Which rules can never match, since one before them takes all that they would. Knows neither the host nor
//! named sets' elements: what it does not see is not told.

use super::RuleSet;
use super::ast::{Action, Address, InterfaceList, Port, Protos, RuleStatement, StatementPlace, not};
use crate::plan::{Direction, ct};
use std::net::IpAddr;

/// What a rule needs for a first look at whether it covers another one.
pub(super) struct Short {
    /// Bits of what the rule asks for.
    asks: u8,
    dir: Direction,
    proto: Protos,
    states: u8,
    /// The first port of the first item of dport.
    port: u16,
    /// The first address of the first item of src.
    src: u32,
    /// Which rule of the rule set it is, counted from 0.
    number: u32,
}

/// The rules so far. One that asks for a single port or address covers only what asks for the same: such
/// rules are found by it, so that ten thousand of them are not compared with each other.
pub(super) struct ShadowingRules<'s> {
    /// Has them as trees.
    set: &'s RuleSet,
    // Apart, since the short forms are what is looked at most.
    shorts: Vec<Short>,
    /// Places of the rules that ask for neither.
    others: Vec<u32>,
    /// By a hash of what they ask for, the last of the rules that do.
    last: Vec<u32>,
    /// For every rule the one before it that has the same hash.
    before: Vec<u32>,
}

/// Hashes; a power of two.
const HASHES: u32 = 1024;
/// Of no rule.
const NONE: u32 = u32::MAX;

/// The hash of a port or an address.
fn hash(one: u32) -> usize {
    (one.wrapping_mul(0x9e37_79b1) / (u32::MAX / HASHES + 1)) as usize
}

impl ShadowingRules<'_> {
    /// None yet of a rule set that keeps all of its rules.
    pub(super) fn new(set: &RuleSet) -> ShadowingRules<'_> {
        let (shorts, others) = (Vec::new(), Vec::new());
        ShadowingRules { set, shorts, others, last: Vec::new(), before: Vec::new() }
    }

    pub(super) fn add(&mut self, short: Short) {
        if short.asks & COVERS_NOTHING != 0 {
            return;
        }
        let place = u32::try_from(self.shorts.len()).unwrap_or(u32::MAX);
        let mut before = NONE;
        match short.port_key().or(short.src_key()) {
            Some(one) => {
                self.last.resize(HASHES as usize, NONE);
                if let Some(last) = self.last.get_mut(hash(one)) {
                    before = std::mem::replace(last, place);
                }
            }
            None => self.others.push(place),
        }
        self.before.push(before);
        self.shorts.push(short);
    }

    /// Where the first rule stands that matches all that this one matches.
    pub(super) fn cover(&self, short: &Short, rule: &RuleStatement) -> Option<StatementPlace> {
        let covers = |place: &u32| {
            let other = self.shorts.get(*place as usize).filter(|other| may_cover(other, short));
            other.and_then(|other| self.set.tree(other.number)).is_some_and(|other| covers(other, rule))
        };
        let same = |one: u32| {
            let known = |place: &u32| *place != NONE;
            let last = self.last.get(hash(one)).copied().filter(known);
            std::iter::successors(last, move |at| self.before.get(*at as usize).copied().filter(known))
        };
        let ones = [short.port_key(), short.src_key()].into_iter().flatten();
        let found = ones.flat_map(same).filter(covers).chain(self.others.iter().copied().find(covers));
        self.set.rule_place(self.shorts.get(found.min()? as usize)?.number + 1)
    }
}

impl Short {
    /// The single port that it asks for.
    fn port_key(&self) -> Option<u32> {
        (self.asks & ONE_DPORT != 0).then_some(u32::from(self.port))
    }

    /// The single address.
    fn src_key(&self) -> Option<u32> {
        (self.asks & ONE_SRC != 0).then_some(self.src)
    }
}

const ASKS_SRC: u8 = 1;
const ASKS_DPORT: u8 = 2;
/// It covers no other rule for sure.
const COVERS_NOTHING: u8 = 32;
/// One item that is a range, so that `src` or `port` alone tells it.
const ONE_SRC: u8 = 64;
const ONE_DPORT: u8 = 128;

/// Whether a rule is not compared: packets go on from it, or it looks at more than this knows.
fn covers_nothing(rule: &RuleStatement) -> bool {
    let goes_on = rule.action.goes_on() || matches!(rule.action, Action::Group(_));
    let more = rule.not != 0 || rule.rare.group.is_some() || rule.ct & (ct::DNAT | ct::SNAT) != 0;
    rule.rare.limit.is_some() || goes_on || more || !rule.rare.extras.is_empty()
}

/// The short form of a rule.
pub(super) fn short(number: u32, rule: &RuleStatement) -> Short {
    let mut asks = 0;
    for (bit, is) in [
        (ASKS_SRC, !rule.src.is_empty()),
        (ASKS_DPORT, !rule.dport.is_empty()),
        (4, !rule.dst.is_empty()),
        (8, !rule.rare.sport.is_empty()),
        (16, rule.only_family().is_some()),
        // Nothing is covered for sure by what a limit lets through, or by a rule that goes on.
        (COVERS_NOTHING, covers_nothing(rule)),
    ] {
        asks |= if is { bit } else { 0 };
    }
    let (dir, proto) = (rule.dir, rule.proto);
    // What excepts states is not covered by what asks for some, but where those are all others.
    let states = if rule.is_not(not::CT) { ct::ALL & !rule.ct } else { rule.ct };
    let mut short = Short { asks, dir, proto, states, port: 0, src: 0, number };
    if let [Port::Range(first, last)] = *rule.dport
        && first == last
        && !rule.is_not(not::DPORT)
    {
        (short.port, short.asks) = (first, short.asks | ONE_DPORT);
    }
    if let [Address::Range(range)] = &*rule.src
        && let (IpAddr::V4(first), true) = (range.first(), range.first() == range.last())
        && !rule.is_not(not::SRC)
    {
        (short.src, short.asks) = (first.into(), short.asks | ONE_SRC);
    }
    short
}

/// The cheap part of `covers`; most pairs end here.
fn may_cover(a: &Short, b: &Short) -> bool {
    let both = a.asks & b.asks;
    // Neither a limit nor anything that `b` leaves open.
    a.asks & (!b.asks & 31 | COVERS_NOTHING) == 0
        && (both & ONE_SRC == 0 || a.src == b.src)
        && (both & ONE_DPORT == 0 || a.port == b.port)
        && a.dir == b.dir
        && (a.proto == Protos::ALL || b.proto.are(a.proto.numbers()))
        && (a.states == 0 || b.states != 0 && b.states & !a.states == 0)
}

/// Whether every packet that `b` matches is matched by `a`.
fn covers(a: &RuleStatement, b: &RuleStatement) -> bool {
    let family = a.only_family().is_none_or(|f| b.only_family() == Some(f));
    // What a list excepts is a list of everything else.
    let empty = |bit| b.is_not(bit);
    family
        && b.rare.group.is_none()
        && (a.proto == Protos::ALL || !empty(not::PROTO))
        && addresses_cover(&a.src, if empty(not::SRC) { &[] } else { &b.src })
        && addresses_cover(&a.dst, if empty(not::DST) { &[] } else { &b.dst })
        && ports_cover(&a.rare.sport, if empty(not::SPORT) { &[] } else { &b.rare.sport })
        && ports_cover(&a.dport, if empty(not::DPORT) { &[] } else { &b.dport })
        && interfaces_cover(&a.iif, &b.iif)
        && interfaces_cover(&a.oif, &b.oif)
}

fn addresses_cover(a: &[Address], b: &[Address]) -> bool {
    let inside = |item: &Address| match item {
        Address::Set(_) | Address::Kind(_) => a.contains(item),
        Address::Range(range) => a.iter().any(|other| matches!(other, Address::Range(r) if r.covers(range))),
    };
    a.is_empty() || !b.is_empty() && b.iter().all(inside)
}

fn ports_cover(a: &[Port], b: &[Port]) -> bool {
    let inside = |item: &Port| match *item {
        Port::Set(_) => a.contains(item),
        Port::Range(first, last) => {
            a.iter().any(|other| matches!(*other, Port::Range(f, l) if f <= first && last <= l))
        }
    };
    a.is_empty() || !b.is_empty() && b.iter().all(inside)
}

fn interfaces_cover(a: &InterfaceList, b: &InterfaceList) -> bool {
    match (a, b) {
        (InterfaceList::Any, InterfaceList::Names { not: false, names }) => {
            !names.iter().any(|n| n.matches("lo") || n.wildcard().is_some())
        }
        (InterfaceList::Any, InterfaceList::Auto | InterfaceList::Set(false, _))
        | (InterfaceList::Every, _) => true,
        (InterfaceList::Names { not: false, names: a }, InterfaceList::Names { not: false, names: b }) => {
            b.iter().all(|b| a.iter().any(|a| a == b || b.wildcard().is_none() && a.matches(b.as_str())))
        }
        (a, b) => a == b,
    }
}
