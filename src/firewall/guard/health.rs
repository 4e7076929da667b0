#![forbid(unsafe_code)]
//! Whether the table is as it was made, for who keeps it so: the generation of the ruleset tells that
//! somebody changed something, and the numbers that the kernel gave to what is in the table tell whether that
//! did damage. Nobody is a member of the kernel's group of nftables events: with any member the kernel keeps
//! some 8 kB for each element of each transaction, of everybody, until it is through.

use super::deny::looked_up;
use super::layout::{DENY, allow_set, allow_timed_set};
use super::{Guard, TABLE, deny};
use crate::ban::{Damage, Failure, Health, RuleTables};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::contents::Fill;
use crate::firewall::nft::{TableId, msg, query, rule_attr};
use crate::firewall::tables;
use crate::sys::clock;
use crate::sys::nlattr::{MsgBuf, attr, be64, text};

const TABLE_NAME: u16 = 1;
const TABLE_HANDLE: u16 = 4;
/// `NFPROTO_UNSPEC`
const EVERY_FAMILY: u8 = 0;
/// Of a table of a kernel that does not number them.
const UNNUMBERED: u64 = u64::MAX;

/// What the table was like when it was whole, by the numbers that the kernel gave: nothing gets the number of
/// what is gone. More than this is no damage, only less.
///
/// The kernel goes on with a listing by counting from the start, and counts what a transaction that is not
/// yet through has added, and says only of transactions that came through that they interrupted it. Beside
/// one, a listing shows the same rule twice, or one half of what was added; beside one that was refused, it
/// can leave out what is there.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Its number among all tables that there ever were; 0 = it is not there.
    table: u64,
    /// Of its rules, in order.
    rules: Vec<u64>,
    /// Of its sets, in order.
    sets: Vec<u64>,
    /// Deny lists, once for each rule that looks into a set of them, with the number of that rule, in order.
    lists: Vec<(u64, u64)>,
    /// Of the rule set.
    loaded: LoadedTables,
    /// What there is in sets of bans and of the allow list. This is no part of what it is like when it is
    /// whole.
    fills: Vec<(Name, Fill)>,
}

/// A deny list that there is a set of: the name of the set, and the list.
type DeniedSet = (String, u64);

/// The tables of the rule set. A rule set is loaded with new ones: whoever takes that for frames alone has
/// not loaded another.
#[derive(Debug, Clone, Copy, Default)]
struct LoadedTables {
    /// The number of that for packets; 0 = it is not there.
    packets: u64,
    /// That for frames.
    frames: FrameTable,
}

/// The table of the rule set for frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum FrameTable {
    #[default]
    None,
    Loaded,
    /// It was, and was deleted alone.
    Lost,
}

impl Guard {
    /// From the next `rebuild` on an eye is kept on the table.
    pub fn watch(&mut self) {
        self.shape.get_or_insert_default();
    }

    /// Whether the ruleset is another one than what was last looked at and what came of our own changes
    /// since.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn has_moved(&mut self) -> Result<bool, Failure> {
        Ok(query::generation(&mut self.socket)? != self.txn.generation())
    }

    /// Takes the table for whole as it is now. `false`: others have changed the ruleset since it was made.
    pub(super) fn settle(&mut self) -> Result<bool, Failure> {
        let known = self.txn.generation();
        let mut shape = self.find()?;
        let now = query::generation(&mut self.socket)?;
        self.look_into(&mut shape);
        self.shape = Some(shape);
        self.txn.follow(now);
        Ok(known == now || known == 0)
    }

    /// Looks what others have done to the tables since the last look.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn check(&mut self) -> Result<Health, Failure> {
        // Before anything is read: what is done meanwhile is a change that the next question finds.
        let generation = query::generation(&mut self.socket)?;
        let mut shape = self.find()?;
        let mut health = shape.since(self.shape.as_ref().unwrap_or(&shape));
        let had_rules = self.shape.as_ref().is_some_and(|previous| previous.loaded.packets > 0);
        let lost_rules = had_rules && health.rules != RuleTables::Loaded;
        if health.damage != Damage::None || health.lists_lost || lost_rules {
            // What two listings do not show is gone.
            shape = self.find()?;
            health = shape.since(self.shape.as_ref().unwrap_or(&shape));
        }
        health.allow_lost = self.has_lost_allowed(&shape);
        self.look_into(&mut shape);
        if health.damage == Damage::None {
            if self.contents.has_emptied() {
                health.damage = Damage::Emptied;
            }
            if health.rules == RuleTables::WithoutFrames {
                shape.loaded.frames = FrameTable::Lost;
            }
            self.shape = Some(shape);
        }
        self.txn.follow(generation);
        Ok(health)
    }

    /// Takes in what there is in sets of bans.
    fn look_into(&mut self, shape: &mut Shape) {
        let fills = std::mem::take(&mut shape.fills).into_iter();
        fills
            .filter(|(set, _)| set.as_str().starts_with("ban"))
            .for_each(|(set, fill)| self.contents.look(set, fill));
    }

    /// Whether a set of the allow list is empty, and is not to be.
    fn has_lost_allowed(&self, shape: &Shape) -> bool {
        let Some(allowed) = self.allow.kept() else { return false };
        let is_empty = |set: Name| shape.fills.contains(&(set, Fill::Empty));
        Family::ALL.into_iter().any(|family| {
            is_empty(allow_set(family)) && allowed.has_for_good(family)
                || is_empty(allow_timed_set(family)) && allowed.has_for_a_time(family, clock::wall())
        })
    }

    fn find(&mut self) -> Result<Shape, Failure> {
        let mut shape = Shape::default();
        let ask = |_: &mut MsgBuf| ();
        query::dump(&mut self.socket, EVERY_FAMILY, msg::GETTABLE, &ask, &mut || (), &mut |m| {
            let body = m.payload.get(4..).unwrap_or_default();
            let is = |id: &TableId| {
                m.payload.first() == Some(&id.family)
                    && attr(body, TABLE_NAME).and_then(text) == Some(id.name.as_str())
            };
            // Kernels before 4.16 do not number their tables.
            let number = || attr(body, TABLE_HANDLE).and_then(be64).unwrap_or(UNNUMBERED);
            if is(&tables::RULES) {
                shape.loaded.packets = number();
            }
            if is(&tables::BRIDGES) {
                shape.loaded.frames = FrameTable::Loaded;
            }
            if is(&TABLE) {
                shape.table = number();
            }
        })?;
        if shape.table != 0 {
            let denied = self.find_sets(&mut shape)?;
            self.find_rules(&denied, &mut shape)?;
        }
        Ok(shape)
    }

    /// Notes the sets, and gives those of deny lists that have entries: their names and lists.
    fn find_sets(&mut self, shape: &mut Shape) -> Result<Vec<DeniedSet>, Failure> {
        let shared = std::cell::RefCell::new((&mut *shape, Vec::new(), Vec::new()));
        let mut again = || {
            let (shape, denied, counts) = &mut *shared.borrow_mut();
            shape.sets.clear();
            denied.clear();
            counts.clear();
        };
        query::sets_once(&mut self.socket, &TABLE, &mut again, &mut |set| {
            let (shape, denied, counts) = &mut *shared.borrow_mut();
            let is_counted = ["ban", "allow", "deny"].iter().any(|what| set.name.starts_with(what));
            counts.extend(Name::new(set.name).filter(|_| is_counted).map(|name| (name, set.count)));
            match deny::read_comment(set.comment) {
                Some(id) if deny::is_name(set.name) => denied.push((set.name.to_owned(), id.list)),
                _ => note(&mut shape.sets, set.handle),
            }
        })?;
        let (_, mut denied, counts) = shared.into_inner();
        for (name, count) in counts {
            let fill = self.fill_of(name, count)?;
            match denied.iter().position(|(denied, _): &DeniedSet| denied == name.as_str()) {
                Some(at) if fill == Fill::Empty => drop(denied.swap_remove(at)),
                Some(_) => {}
                None => shape.fills.push((name, fill)),
            }
        }
        Ok(denied)
    }

    /// Whether a set has elements; older kernels do not count them.
    pub(super) fn fill_of(&self, set: Name, count: Option<u32>) -> Result<Fill, Failure> {
        match count {
            None if query::is_empty(&TABLE, &set)? => Ok(Fill::Empty),
            count => Ok(Fill::from(count)),
        }
    }

    fn find_rules(&mut self, denied: &[DeniedSet], shape: &mut Shape) -> Result<(), Failure> {
        let ask = |buf: &mut MsgBuf| buf.attr_str(rule_attr::TABLE, TABLE.name.as_str());
        let shape = std::cell::RefCell::new(shape);
        let mut again = || {
            let mut shape = shape.borrow_mut();
            shape.rules.clear();
            shape.lists.clear();
        };
        query::dump(&mut self.socket, TABLE.family, msg::GETRULE, &ask, &mut again, &mut |m| {
            let mut shape = shape.borrow_mut();
            let body = m.payload.get(4..).unwrap_or_default();
            if m.payload.first() != Some(&TABLE.family)
                || attr(body, rule_attr::TABLE).and_then(text) != Some(TABLE.name.as_str())
            {
                return;
            }
            let handle = attr(body, rule_attr::HANDLE).and_then(be64).unwrap_or(0);
            let chain = attr(body, rule_attr::CHAIN).and_then(text).unwrap_or("");
            if DENY.iter().any(|deny| deny.as_str() == chain) {
                let set = looked_up(attr(body, rule_attr::EXPRESSIONS).unwrap_or_default());
                let list = denied.iter().find(|(name, _)| Some(name.as_str()) == set);
                if let Some((_, list)) = list {
                    note(&mut shape.lists, (*list, handle));
                }
                return;
            }
            note(&mut shape.rules, handle);
        })?;
        Ok(())
    }
}

impl Shape {
    /// What has become of `previous`.
    fn since(&self, previous: &Shape) -> Health {
        let lists = |shape: &Shape| shape.lists.iter().map(|(list, _)| *list).collect::<Vec<_>>();
        let damage = if self.table != previous.table {
            Damage::Table
        } else if !contains(&self.sets, &previous.sets) {
            Damage::Sets
        } else if !contains(&self.rules, &previous.rules) {
            Damage::Rules
        } else {
            Damage::None
        };
        let lists_lost = damage < Damage::Table && !contains(&lists(self), &lists(previous));
        Health { damage, lists_lost, allow_lost: false, rules: self.loaded.since(previous.loaded) }
    }
}

impl LoadedTables {
    /// What has become of `previous`.
    fn since(self, previous: LoadedTables) -> RuleTables {
        let same = self.packets == previous.packets && self.packets != UNNUMBERED;
        match self.packets {
            0 => RuleTables::None,
            _ if same && self.frames != FrameTable::Loaded && previous.frames != FrameTable::None => {
                RuleTables::WithoutFrames
            }
            _ => RuleTables::Loaded,
        }
    }
}

/// Puts a number in its place, once; the kernel mostly lists them in order.
fn note<T: Ord>(numbers: &mut Vec<T>, number: T) {
    if let Err(place) = numbers.binary_search(&number) {
        numbers.insert(place, number);
    }
}

/// Whether all of `some` is in `all`, as often; both are in order.
fn contains(all: &[u64], some: &[u64]) -> bool {
    let mut rest = all.iter();
    some.iter().all(|one| rest.any(|other| other == one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_counts_as_often_as_it_is_there() {
        for (all, some, want) in [
            (&[][..], &[][..], true),
            (&[1, 2, 3], &[], true),
            (&[1, 2, 3], &[2], true),
            (&[1, 2, 3], &[1, 3], true),
            (&[1, 2, 3], &[1, 4], false),
            (&[1, 2, 2], &[2, 2], true),
            (&[1, 2], &[2, 2], false),
            (&[], &[1], false),
        ] {
            assert_eq!(contains(all, some), want, "{some:?} in {all:?}");
        }
    }

    #[test]
    fn only_what_is_gone_is_damage() {
        let shape = |table, rules: &[u64], sets: &[u64]| {
            let mut shape = Shape { table, ..Shape::default() };
            rules.iter().for_each(|rule| note(&mut shape.rules, *rule));
            sets.iter().for_each(|set| note(&mut shape.sets, *set));
            shape
        };
        let previous = shape(7, &[9, 3, 12], &[1, 2]);
        for (now, want) in [
            (shape(7, &[3, 9, 12], &[2, 1]), Damage::None),
            // Added, in the middle, too: by a transaction of which the previous look showed the end alone.
            (shape(7, &[3, 9, 11, 12, 13], &[1, 2, 14]), Damage::None),
            (shape(7, &[3, 9], &[1, 2]), Damage::Rules),
            // Replaced: the new one has another number.
            (shape(7, &[3, 9, 15], &[1, 2]), Damage::Rules),
            (shape(7, &[3, 9], &[1]), Damage::Sets),
            (shape(8, &[3, 9, 12], &[1, 2]), Damage::Table),
            (shape(0, &[], &[]), Damage::Table),
        ] {
            assert_eq!(now.since(&previous).damage, want, "{now:?}");
        }
    }

    #[test]
    fn frames_are_lost_only_beside_the_rules_that_they_came_with() {
        let alone = |packets| LoadedTables { packets, ..LoadedTables::default() };
        let with_frames = |packets| LoadedTables { frames: FrameTable::Loaded, packets };
        let without_frames = |packets| LoadedTables { frames: FrameTable::Lost, packets };
        for (now, previous, want) in [
            (alone(0), with_frames(7), RuleTables::None),
            (with_frames(7), with_frames(7), RuleTables::Loaded),
            (alone(7), with_frames(7), RuleTables::WithoutFrames),
            // Still, until somebody loads rules.
            (alone(7), without_frames(7), RuleTables::WithoutFrames),
            (alone(8), without_frames(7), RuleTables::Loaded),
            (with_frames(7), without_frames(7), RuleTables::Loaded),
            // Other rules, without frames.
            (alone(8), with_frames(7), RuleTables::Loaded),
            (alone(7), alone(7), RuleTables::Loaded),
            // Nobody knows whether it is the same table.
            (alone(UNNUMBERED), with_frames(UNNUMBERED), RuleTables::Loaded),
        ] {
            assert_eq!(now.since(previous), want, "{now:?} {previous:?}");
        }
    }
}
