#![forbid(unsafe_code)]
//! Whether the table is as it was made, for who keeps it so: the generation of the ruleset tells that
//! somebody changed something, and the numbers that the kernel gave to what is in the table tell whether that
//! did damage. Nobody is a member of the kernel's group of nftables events: with any member the kernel keeps
//! some 8 kB for each element of each transaction, of everybody, until it is through.

use super::deny::looked_up;
use super::layout::DENY;
use super::{Failure, Guard, TABLE, deny};
use crate::firewall::nft::{TableId, msg, query, rule_attr};
use crate::firewall::rules;
use crate::sys::nlattr::{MsgBuf, attr, be64, text};

const TABLE_NAME: u16 = 1;
const TABLE_HANDLE: u16 = 4;
/// FNV-1a's numbers, for 64 bits.
const HASH: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// What was done to the table, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Damage {
    /// Nothing that concerns us.
    #[default]
    None,
    /// Chains or rules were deleted.
    Rules,
    /// Sets were deleted, with what they held.
    Sets,
    /// All of it was deleted.
    Table,
}

/// What a look at the kernel found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Of the table of bans.
    pub damage: Damage,
    /// Deny lists are not in force any more that were.
    pub lists_lost: bool,
    /// There is a table of the rule set.
    pub rules_loaded: bool,
}

/// What the table was like when it was whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Its number among all tables that there ever were; 0 = it is not there.
    table: u64,
    /// The highest numbers of its rules and of its sets: whatever comes later has a higher one, and is no
    /// loss when it goes. Two, since rules are read after the sets, and what came between is in one of them
    /// only.
    newest: Newest,
    rules: u64,
    sets: u64,
    /// Deny lists, once for each set of them that is in force, in order.
    lists: Vec<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Newest {
    rule: u64,
    set: u64,
}

impl Newest {
    const ANY: Newest = Newest { rule: u64::MAX, set: u64::MAX };
}

/// What there is in a table, of which a part may have been there before.
struct Found {
    all: Shape,
    /// The hashes of rules and sets that are no newer than was asked.
    old: (u64, u64),
    rules_loaded: bool,
}

fn add(hash: &mut u64, handle: u64) {
    *hash = (*hash ^ handle).wrapping_mul(PRIME);
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
        let found = self.find(Newest::ANY)?;
        let now = query::generation(&mut self.socket)?;
        self.shape = Some(found.all);
        self.txn.follow(now);
        Ok(known == now || known == 0)
    }

    /// Looks what others have done to the tables since the last look.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn probe(&mut self) -> Result<Health, Failure> {
        // Before anything is read: what is done meanwhile is a change that the next question finds.
        let generation = query::generation(&mut self.socket)?;
        let former = self.shape.clone().unwrap_or_default();
        let Found { all, old, rules_loaded } = self.find(former.newest)?;
        let damage = match (&self.shape, old) {
            (None, _) => Damage::None,
            (Some(former), _) if former.table != all.table => Damage::Table,
            (Some(former), (_, sets)) if former.sets != sets => Damage::Sets,
            (Some(former), (rules, _)) if former.rules != rules => Damage::Rules,
            _ => Damage::None,
        };
        let lists_lost = damage < Damage::Table && !contains(&all.lists, &former.lists);
        if damage == Damage::None {
            self.shape = Some(all);
        }
        self.txn.follow(generation);
        Ok(Health { damage, lists_lost, rules_loaded })
    }

    /// Reads what there is; what has a higher number than `newest` does not count for `old`.
    fn find(&mut self, newest: Newest) -> Result<Found, Failure> {
        let mut rules_loaded = false;
        let mut table = 0;
        let ask = |_: &mut MsgBuf| ();
        query::dump(&mut self.socket, TABLE.family, msg::GETTABLE, &ask, &mut || (), &mut |m| {
            let body = m.payload.get(4..).unwrap_or_default();
            let is = |id: &TableId| {
                m.payload.first() == Some(&id.family)
                    && attr(body, TABLE_NAME).and_then(text) == Some(id.name.as_str())
            };
            rules_loaded |= is(&rules::TABLE);
            if is(&TABLE) {
                // Kernels before 4.16 do not number their tables.
                table = attr(body, TABLE_HANDLE).and_then(be64).unwrap_or(u64::MAX);
            }
        })?;
        let empty = Shape { table, rules: HASH, sets: HASH, ..Shape::default() };
        let mut found = Found { all: empty, old: (HASH, HASH), rules_loaded };
        if table != 0 {
            let denied = self.find_sets(newest.set, &mut found)?;
            self.find_rules(newest.rule, &denied, &mut found)?;
        }
        Ok(found)
    }

    /// Notes the sets, and gives those of deny lists: their names and lists.
    fn find_sets(&mut self, newest: u64, found: &mut Found) -> Result<Vec<(String, u64)>, Failure> {
        let shared = std::cell::RefCell::new((found, Vec::new()));
        let mut again = || {
            let (found, denied) = &mut *shared.borrow_mut();
            (found.all.newest.set, found.all.sets, found.old.1) = (0, HASH, HASH);
            denied.clear();
        };
        query::sets_once(&mut self.socket, &TABLE, &mut again, &mut |set| {
            let (found, denied) = &mut *shared.borrow_mut();
            match deny::read_comment(set.comment) {
                Some(id) if deny::is_name(set.name) => denied.push((set.name.to_owned(), id.list)),
                _ => note(
                    &mut found.all.newest.set,
                    (&mut found.all.sets, &mut found.old.1),
                    newest,
                    set.handle,
                ),
            }
        })?;
        Ok(shared.into_inner().1)
    }

    fn find_rules(
        &mut self,
        newest: u64,
        denied: &[(String, u64)],
        found: &mut Found,
    ) -> Result<(), Failure> {
        let ask = |buf: &mut MsgBuf| buf.attr_str(rule_attr::TABLE, TABLE.name.as_str());
        let Found { all, old, .. } = found;
        let found = std::cell::RefCell::new((all, &mut old.0));
        let mut again = || {
            let mut found = found.borrow_mut();
            (found.0.newest.rule, found.0.rules, *found.1) = (0, HASH, HASH);
            found.0.lists.clear();
        };
        query::dump(&mut self.socket, TABLE.family, msg::GETRULE, &ask, &mut again, &mut |m| {
            let mut found = found.borrow_mut();
            let (all, old) = &mut *found;
            let body = m.payload.get(4..).unwrap_or_default();
            if m.payload.first() != Some(&TABLE.family)
                || attr(body, rule_attr::TABLE).and_then(text) != Some(TABLE.name.as_str())
            {
                return;
            }
            let chain = attr(body, rule_attr::CHAIN).and_then(text).unwrap_or("");
            if DENY.iter().any(|deny| deny.as_str() == chain) {
                let set = looked_up(attr(body, rule_attr::EXPRESSIONS).unwrap_or_default());
                let list = denied.iter().find(|(name, _)| Some(name.as_str()) == set);
                if let Some((_, list)) = list {
                    let place = all.lists.partition_point(|other| other < list);
                    all.lists.insert(place, *list);
                }
                return;
            }
            let handle = attr(body, rule_attr::HANDLE).and_then(be64).unwrap_or(0);
            note(&mut all.newest.rule, (&mut all.rules, *old), newest, handle);
        })?;
        Ok(())
    }
}

fn note(highest: &mut u64, (all, old): (&mut u64, &mut u64), newest: u64, handle: u64) {
    *highest = handle.max(*highest);
    add(all, handle);
    if handle <= newest {
        add(old, handle);
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
    fn what_came_later_counts_only_in_the_new_hash() {
        let (mut highest, mut all, mut old) = (0, HASH, HASH);
        for handle in [3, 9, 5] {
            note(&mut highest, (&mut all, &mut old), 5, handle);
        }
        let (mut want, mut before) = (HASH, HASH);
        [3, 9, 5].into_iter().for_each(|handle| add(&mut want, handle));
        [3, 5].into_iter().for_each(|handle| add(&mut before, handle));
        assert_eq!((highest, all, old), (9, want, before));
    }
}
