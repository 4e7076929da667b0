#![forbid(unsafe_code)]
//! Where the rules of loopback stand. Packets of loopback and others never meet in a rule that is for one of
//! them only: then those of loopback come first and decide on all of its packets, and the others need not
//! except it one by one.

use super::ast::{Action, InterfaceList, Protos, RuleStatement, Statement};
use super::each::RuleAt;
use super::{RuleSet, parse};
use crate::base::name::IfName;
use crate::plan::Direction;

/// The name of the interface.
pub(super) const LO: &str = "lo";

/// What the rules of a direction have to do with loopback.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Loopback {
    /// One decides on all of its packets: what comes behind never sees any.
    ended: bool,
    /// One is for packets of loopback and for others.
    both: bool,
    /// So many are for every interface but loopback.
    any: u32,
}

/// The directions in which the rules of loopback stand apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApartDirections([bool; 3]);

impl ApartDirections {
    pub(super) fn has(self, dir: Direction) -> bool {
        self.0.get(dir as usize) == Some(&true)
    }
}

impl Loopback {
    /// Takes notice of a rule. Whether it is for loopback only.
    pub(super) fn note(&mut self, rule: &RuleStatement) -> bool {
        let Some(list) = list(rule) else { return false };
        if matches!(list, InterfaceList::Set(..)) {
            // No set has loopback in it.
            return false;
        }
        let only = is_only(rule);
        if only {
            self.ended |= is_for_all(rule);
        } else if leaves_out_lo(list) || self.ended && *list == InterfaceList::Every {
            self.any += 1;
        } else if !self.ended {
            self.both |= match list {
                InterfaceList::Names { names, .. } => names.iter().any(|name| name.as_str() == LO),
                _ => *list == InterfaceList::Every,
            };
        }
        only
    }

    /// Whether it is worth while: a rule more must not cost more than it saves.
    fn apart(self) -> bool {
        !self.both && self.any > u32::from(!self.ended)
    }
}

impl RuleSet {
    /// In which directions the rules of loopback stand apart; `auto` are the interfaces of the default
    /// routes.
    pub(super) fn apart(&self, auto: &[IfName]) -> ApartDirections {
        let lost = auto.iter().any(|name| name.as_str() == LO);
        ApartDirections(self.loopback.map(|dir| !lost && dir.apart()))
    }

    /// Whether a rule decides on all packets of loopback.
    pub(super) fn loopback_ends(&self, dir: Direction) -> bool {
        self.loopback.get(dir as usize).is_some_and(|dir| dir.ended)
    }

    /// Calls `each` with the rules for loopback only, and their numbers.
    pub(super) fn each_of_loopback(&self, each: &mut dyn FnMut(u32, &RuleStatement)) {
        let mut wanted = self.of_loopback.iter().copied().peekable();
        for (number, RuleAt { place, at }) in (0..).zip(self.rules.iter()) {
            if wanted.next_if_eq(&number).is_none() {
                if wanted.peek().is_none() {
                    break;
                }
            } else if let Some(rule) = self.tree(number) {
                each(number + 1, rule);
            } else if let (Some(Statement::Rule(rule)), _) =
                parse::line_of(self.line(place, at), place.line, &self.names, &mut Vec::new())
            {
                each(number + 1, &rule);
            }
        }
    }
}

/// The interfaces of a rule that may be loopback's.
fn list(rule: &RuleStatement) -> Option<&InterfaceList> {
    match rule.dir {
        Direction::In => Some(&rule.iif),
        Direction::Out => Some(&rule.oif),
        _ => None,
    }
}

fn are_lo(names: &[IfName]) -> bool {
    names.iter().all(|name| name.as_str() == LO)
}

/// Whether a rule is for packets of loopback only.
pub(super) fn is_only(rule: &RuleStatement) -> bool {
    matches!(list(rule), Some(InterfaceList::Names { not: false, names }) if are_lo(names))
}

/// Whether all interfaces but loopback are meant.
pub(super) fn is_any(list: &InterfaceList) -> bool {
    match list {
        InterfaceList::Names { not, names } => *not && are_lo(names),
        _ => *list == InterfaceList::Any,
    }
}

/// Whether loopback has to be left out of the list, since its words do not.
fn leaves_out_lo(list: &InterfaceList) -> bool {
    match list {
        InterfaceList::Names { not: true, .. } => true,
        InterfaceList::Names { not: false, names } => {
            names.iter().all(|name| name.as_str() != LO)
                && names.iter().any(|name| name.wildcard().is_some() && name.matches(LO))
        }
        _ => *list == InterfaceList::Any,
    }
}

/// Whether a rule decides on every packet of its interfaces.
fn is_for_all(rule: &RuleStatement) -> bool {
    let lists = rule.src.len() + rule.dst.len() + rule.rare.sport.len() + rule.dport.len();
    let plain = rule.proto == Protos::ALL && rule.family.is_none() && rule.rare.limit.is_none();
    plain
        && lists == 0
        && rule.ct == 0
        && rule.rare.extras.is_empty()
        && rule.not == 0
        && decides(rule.action)
}

/// Whether no packet goes on from an action for sure.
const fn decides(action: Action) -> bool {
    matches!(action, Action::Accept | Action::Drop | Action::Reject)
}
