#![forbid(unsafe_code)]
//! What of a rule others have to do with.

use super::ast::{
    Action, Address, InterfaceList, Port, RuleStatement, SetElements, SetStatement, StatementPlace,
};
use super::each::RuleAt;
use super::read::{FileLine, RuleFileReader};
use super::{RuleSet, TREES_MAX, Trees};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::plan::Direction;

impl RuleFileReader<'_> {
    pub(super) fn rule(&mut self, line: &FileLine<'_>, rule: Box<RuleStatement>) {
        let place = line.place;
        self.set.note_nat(place, &rule);
        if rule.dir == Direction::Bridge {
            self.set.note_bridge(place, &rule);
        }
        if let Action::Add(name, _) = rule.action
            && self.set.set(&name).is_none()
        {
            let elements = SetElements::Dynamic;
            let _ = self.set.add(place, SetStatement { name, family: None, elements, file: Box::default() });
        }
        if rule.rare.group.is_some() || matches!(rule.action, Action::Group(_)) {
            self.groups(line, &rule);
        }
        if rule.iif == InterfaceList::Auto || rule.oif == InterfaceList::Auto {
            self.set.first_auto = self.set.first_auto.or(Some(place));
        }
        self.set.second_look |= asks_for_sets(&rule);
        self.set.keep(RuleAt { place, at: line.at }, rule);
    }

    /// A group leads to none that comes behind it, so that no circle is possible.
    fn groups(&mut self, line: &FileLine<'_>, rule: &RuleStatement) {
        const NONE: &str = "there is no group ";
        const HINT: &str = "expected the name of a group statement before it";
        let groups = &self.set.groups;
        let position = |name: Name| groups.iter().position(|(_, known)| *known == name);
        let of = rule.rare.group.map(|name| (name, position(name)));
        let to = if let Action::Group(name) = rule.action { Some((name, position(name))) } else { None };
        if let Some((name, None)) = of {
            self.wrong_name(line, "group=", name, NONE, HINT);
        }
        match to {
            Some((name, None)) => self.wrong_name(line, "group:", name, NONE, HINT),
            Some((name, to)) if of.is_some_and(|(_, of)| of <= to) => {
                let what = "a group leads to itself or to a later one: ";
                self.wrong_name(line, "group:", name, what, "change their order");
            }
            _ => {}
        }
    }

    /// What is wrong with the name of a group, which stands behind `key`.
    fn wrong_name(&mut self, line: &FileLine<'_>, key: &str, name: Name, what: &str, hint: &str) {
        let at = line.text.find(key).unwrap_or(0);
        let rest = line.text.get(at..).unwrap_or("");
        let end = at + rest.find([' ', '\t']).unwrap_or(rest.len());
        self.wrong(line, at..end, [what, name.as_str()].concat(), hint);
    }
}

/// Whether a rule can be judged only when all sets are known.
fn asks_for_sets(rule: &RuleStatement) -> bool {
    let of = |list: &InterfaceList| matches!(list, InterfaceList::Set(..));
    rule.src.iter().chain(&rule.dst).any(|a| matches!(a, Address::Set(_)))
        || rule.rare.sport.iter().chain(&rule.dport).any(|p| matches!(p, Port::Set(_)))
        || of(&rule.iif)
        || of(&rule.oif)
        || matches!(rule.action, Action::Add(..))
        || !rule.src.is_empty() && !rule.dst.is_empty()
}

impl RuleSet {
    /// Notes where a rule stands, and the rule itself if it is to be kept.
    fn keep(&mut self, at: RuleAt, rule: Box<RuleStatement>) {
        if self.loopback.get_mut(rule.dir as usize).is_some_and(|dir| dir.note(&rule)) {
            self.of_loopback.push(self.rules.len());
        }
        self.rules.push(at);
        if self.trees == Trees::All || self.kept.len() < TREES_MAX {
            self.kept.push(*rule);
        }
    }

    fn note_nat(&mut self, place: StatementPlace, rule: &RuleStatement) {
        for (slot, dir) in self.nat.iter_mut().zip(Direction::NAT) {
            *slot |= rule.dir == dir;
        }
        if !rule.action.is_nat() || rule.action == Action::Redirect || rule.dir == Direction::Local {
            return;
        }
        // IPv6 is meant where it is named.
        let of = |f| move |a: &Address| matches!(a, Address::Range(range) if range.family() == f);
        let v6 = rule.src.iter().chain(&rule.dst).any(of(Family::V6));
        let v4 = rule.src.iter().chain(&rule.dst).any(of(Family::V4));
        let only = rule.only_family();
        let is = [only != Some(Family::V6) && (v4 || !v6), only == Some(Family::V6) || v6];
        for (slot, _) in self.first_nat.iter_mut().zip(is).filter(|(_, is)| *is) {
            *slot = slot.or(Some(place));
        }
    }

    /// The table for frames sees no set of the other one, and has those that its rules name.
    fn note_bridge(&mut self, place: StatementPlace, rule: &RuleStatement) {
        self.first_bridge = self.first_bridge.or(Some(place));
        let addresses = rule.src.iter().chain(&rule.dst);
        let of_addresses =
            addresses.filter_map(|a| if let Address::Set(name) = a { Some(*name) } else { None });
        let ports = rule.rare.sport.iter().chain(&rule.dport);
        let of_ports = ports.filter_map(|p| if let Port::Set(name) = p { Some(*name) } else { None });
        for name in of_addresses.chain(of_ports) {
            if !self.of_bridges.contains(&name) {
                self.of_bridges.push(name);
            }
        }
    }
}
