#![forbid(unsafe_code)]
//! Whether everything is as it was made, for who keeps it so. ip_set has no generation, and iptables tells
//! nobody of changes: the headers of the sets are read now and then, and the references in them show whether
//! the rules that ask them are there.

use super::restore::{self, Via};
use super::text::{PREFIX, family_name};
use super::{Fallback, MADE, is_ours, ruleset};
use crate::ban::{Damage, Failure, Health, RuleTables};
use crate::base::clock::Mono;
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::contents::Fill;
use crate::firewall::ipset::message::Type;
use crate::sys::clock;
use std::cell::RefCell;

/// Milliseconds between two looks at least, however often somebody asks.
const LOOK_INTERVAL: u64 = 1000;
/// Seconds between two questions while nothing happens.
pub(super) const POLL_INTERVAL: u32 = 10;
/// Milliseconds between two walks over all bans, for those whose end is far away.
const LONG_INTERVAL: u64 = 6 * 3_600_000;

/// Milliseconds between two looks whether a family without rules can have them after all.
const OPEN_INTERVAL: u64 = 300_000;

/// A set of ours: its name, how often it is asked, and how many members it has, if it has sets; of one that
/// holds bans or lists, 0 if it is empty, else 1.
type Seen = (String, u32, u32);

/// What is remembered.
#[derive(Default)]
pub(super) struct Watch {
    on: bool,
    shape: Option<Vec<Seen>>,
    /// Deny lists in force, by their numbers.
    lists: Vec<u64>,
    /// The variants of iptables that the host had chosen.
    chosen: [Via; 2],
    looked: Option<Mono>,
    prolonged: Option<Mono>,
    /// When tables were last looked for that were missing, and whether they have come.
    sought: Option<Mono>,
    found: bool,
}

impl Fallback {
    /// From the next `rebuild` on an eye is kept on it.
    pub(super) fn watch_it(&mut self) {
        self.health.on = true;
    }

    pub(super) fn is_watched(&self) -> bool {
        self.health.on
    }

    fn shape(&mut self) -> Result<Vec<Seen>, Failure> {
        let all: RefCell<Vec<Seen>> = RefCell::default();
        self.sets.headers(&mut || all.borrow_mut().clear(), &mut |header| {
            let of_rules = ruleset::is_of_rules(header.name);
            if (of_rules || header.name.starts_with(PREFIX))
                && header.kind.is_some_and(|kind| is_ours(header, kind))
            {
                let members = match (header.kind, header.elements) {
                    (Some(Type::Sets), count) => count.unwrap_or(0),
                    (_, Some(0)) => 0,
                    _ => u32::from(holds(header.name)),
                };
                all.borrow_mut().push((header.name.to_owned(), header.references, members));
            }
        })?;
        let mut all = all.into_inner();
        all.sort_unstable();
        Ok(all)
    }

    fn lists_in_force(&mut self) -> Result<Vec<u64>, Failure> {
        let sets = self.lists()?;
        let mut all: Vec<u64> = sets.iter().filter(|set| set.in_force()).map(|set| set.id.list).collect();
        all.sort_unstable();
        Ok(all)
    }

    /// Takes everything for whole as it is now.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        if self.health.on {
            let (shape, lists) = (self.shape()?, self.lists_in_force()?);
            self.look_into(&shape);
            (self.health.shape, self.health.lists) = (Some(shape), lists);
            self.health.chosen = Family::ALL.map(restore::chosen);
            self.health.found = false;
        }
        Ok(())
    }

    /// Whether anything of ours is another thing than it was; not looked for more often than once a second.
    pub(super) fn has_changed(&mut self) -> Result<bool, Failure> {
        let now = clock::mono();
        if self.health.looked.is_some_and(|looked| now.since(looked) < LOOK_INTERVAL) {
            return Ok(false);
        }
        self.health.looked = Some(now);
        if self.health.prolonged.is_none_or(|last| now.since(last) >= LONG_INTERVAL) {
            self.health.prolonged = Some(now);
            self.prolong_long()?;
        }
        let shape = self.shape()?;
        // A flush of all sets leaves no other trace.
        let whole = self.health.shape.as_ref() == Some(&shape) && !self.is_empty(MADE)?;
        // That a load was killed may be seen in nothing else.
        let is_half = ruleset::Rules::open()?.is_half()?;
        Ok(!whole || is_half || self.has_chosen_anew() || self.can_close(now))
    }

    /// Whether there are tables by now for a family whose packets no rule asks about.
    fn can_close(&mut self, now: Mono) -> bool {
        let is_due = self.health.sought.is_none_or(|last| now.since(last) >= OPEN_INTERVAL);
        if is_due && self.mark.is_some_and(|mark| mark.is_open(Family::V6)) {
            self.health.sought = Some(now);
            self.health.found = self.has_tables(Family::V6);
        }
        self.health.found
    }

    /// Whether the host uses another variant of iptables than it did: rules go where the others are.
    fn has_chosen_anew(&self) -> bool {
        self.health.chosen != Family::ALL.map(restore::chosen)
    }

    /// Finds out what others have done.
    pub(super) fn find_damage(&mut self) -> Result<Health, Failure> {
        let (shape, lists) = (self.shape()?, self.lists_in_force()?);
        let mark = self.registry()?.mark;
        let mut rule_set = ruleset::Rules::open()?;
        let rules = match rule_set.is_half()? {
            true => RuleTables::Half,
            false if rule_set.is_loaded()? => RuleTables::Loaded,
            false => RuleTables::None,
        };
        let known = self.health.shape.as_ref().map_or(&[][..], |shape| shape.as_slice());
        let mut damage = if mark.is_none() { Damage::Table } else { since(&shape, known) };
        if self.health.on && (self.has_chosen_anew() || self.health.found) {
            damage = damage.max(Damage::Rules);
        }
        let lost = damage < Damage::Table && self.health.lists.iter().any(|list| !lists.contains(list));
        let allow_lost = damage < Damage::Table && self.has_lost_allowed(&shape);
        self.look_into(&shape);
        // What is half loaded is asked for again.
        if damage == Damage::None && rules != RuleTables::Half {
            (self.health.shape, self.health.lists) = (Some(shape), lists);
        }
        for family in Family::ALL.into_iter().filter(|_| damage == Damage::None) {
            if mark.is_some_and(|mark| mark.of(family).is_some()) && !self.asks(family)? {
                return Ok(Health { damage: Damage::Rules, lists_lost: lost, allow_lost, rules });
            }
        }
        if damage == Damage::None && self.contents.has_emptied() {
            damage = Damage::Emptied;
        }
        Ok(Health { damage, lists_lost: lost, allow_lost, rules })
    }

    /// Takes in what there is in sets of bans.
    fn look_into(&mut self, shape: &[Seen]) {
        for (name, _, members) in shape.iter().filter(|(name, ..)| name.starts_with("mef_ban")) {
            let name = name.strip_prefix(PREFIX).and_then(Name::new);
            name.into_iter().for_each(|name| self.contents.look(name, Fill::from(Some(*members))));
        }
    }

    /// Whether a set of the allow list is empty, and is not to be.
    fn has_lost_allowed(&self, shape: &[Seen]) -> bool {
        let Some(allowed) = self.allow.kept() else { return false };
        Family::ALL.into_iter().any(|family| {
            let set = family_name("allow", family);
            shape.iter().any(|(name, _, members)| *name == set && *members == 0)
                && (allowed.has_for_good(family) || allowed.has_for_a_time(family, clock::wall()))
        })
    }
}

/// Whether it matters of a set that it is empty.
fn holds(name: &str) -> bool {
    ["mef_ban", "mef_allow", "mef_deny"].iter().any(|what| name.starts_with(what))
}

/// What has become of `former`. Sets of deny lists and of rule sets come and go by themselves.
fn since(now: &[Seen], former: &[Seen]) -> Damage {
    let mut damage = Damage::None;
    for (name, asked, _) in former.iter().filter(|(name, ..)| !is_list(name)) {
        damage = damage.max(match now.iter().find(|(other, ..)| other == name) {
            None => Damage::Sets,
            Some((_, references, _)) if references < asked => Damage::Rules,
            Some(_) => Damage::None,
        });
    }
    damage
}

fn is_list(name: &str) -> bool {
    ruleset::is_of_rules(name)
        || name.starts_with("mef_deny4_")
        || name.starts_with("mef_deny6_")
        || name.ends_with("_new")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_gone_is_damage() {
        let seen = |all: &[(&str, u32)]| -> Vec<Seen> {
            all.iter().map(|(name, asked)| ((*name).to_owned(), *asked, 0)).collect()
        };
        let former = seen(&[("mef_allow4", 1), ("mef_ban4", 1), ("mef_deny4_x", 1)]);
        for (now, want) in [
            (seen(&[("mef_allow4", 1), ("mef_ban4", 1), ("mef_deny4_x", 1)]), Damage::None),
            (seen(&[("mef_allow4", 1), ("mef_ban4", 2), ("mef_ban_22_4", 1)]), Damage::None),
            (seen(&[("mef_allow4", 1), ("mef_ban4", 0)]), Damage::Rules),
            (seen(&[("mef_ban4", 0)]), Damage::Sets),
        ] {
            assert_eq!(since(&now, &former), want, "{now:?}");
        }
    }
}
