#![forbid(unsafe_code)]
//! What is known of chains while they are followed.

use super::flat::DEPTH_MAX;
use super::groups::GroupChain;
use crate::base::name::Name;
use crate::plan::PacketVerdict;
use crate::plan::listed::{ListedRule, ListedTable, RulePart};

/// A chain that cannot stand in the places of the jumps to it.
pub(super) struct ApartChain {
    /// The title of its table.
    table: String,
    /// Its place in that.
    at: usize,
    /// Why not.
    why: String,
}

/// Chains are looked at more than once.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ExportPass {
    /// Which of them stand apart is found out.
    #[default]
    Search,
    /// Those become groups.
    Make,
    /// All of it is said.
    Say,
}

/// What is known of the chains of all tables, each by its table's title.
#[derive(Default)]
pub(super) struct FlatState {
    /// Names of the chains of the table that was asked for last, sorted.
    names: (String, Vec<(String, usize)>),
    pub(super) said: Vec<(String, usize)>,
    pub(super) lost: Vec<(String, usize)>,
    /// Chains with buckets that stand somewhere already.
    pub(super) bounded: Vec<(String, usize)>,
    /// Chains with buckets that would stand at two places: they would let through twice as much.
    pub(super) shared: Vec<(String, usize)>,
    /// All that cannot stand in the places of the jumps to them, for that or another reason.
    apart: Vec<ApartChain>,
    /// Those chains apart that are groups.
    pub(super) groups: Vec<GroupChain>,
    /// The names of our own groups.
    pub(super) declared: Vec<Name>,
    pub(super) pass: ExportPass,
    /// The chain that is looked at is of a hook whose rules can lead to groups.
    pub(super) leads: bool,
    /// Jumps that were followed.
    pub(super) steps: usize,
    /// Of the chains of the table that was asked for last, whether they have no effect; as far as is known.
    idle: (String, Vec<Option<bool>>),
}

impl FlatState {
    /// The chain of a name.
    pub(super) fn find(&mut self, table: &ListedTable, name: &str) -> Option<usize> {
        if self.names.0 != table.title {
            let mut names: Vec<(String, usize)> =
                table.chains.iter().enumerate().map(|(at, chain)| (chain.name.clone(), at)).collect();
            names.sort_unstable();
            self.names = (table.title.clone(), names);
        }
        let names = &self.names.1;
        let at = names.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        names.get(at).map(|(_, chain)| *chain)
    }

    /// Whether a chain does nothing to any packet but to lead it to others like it.
    pub(super) fn is_idle(&mut self, table: &ListedTable, chain: usize, depth: usize) -> bool {
        if self.idle.0 != table.title {
            self.idle = (table.title.clone(), vec![None; table.chains.len()]);
        }
        if let Some(Some(known)) = self.idle.1.get(chain) {
            return *known;
        }
        let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        let idle = depth < DEPTH_MAX && rules.iter().all(|rule| self.does_nothing(table, rule, depth));
        if let Some(slot) = self.idle.1.get_mut(chain) {
            *slot = Some(idle);
        }
        idle
    }

    fn does_nothing(&mut self, table: &ListedTable, rule: &ListedRule, depth: usize) -> bool {
        let plain = |part: &RulePart| part.rule.log.is_none() && part.rule.changes.is_empty();
        rule.parts.as_deref().is_ok_and(|parts| {
            parts.iter().all(|part| match &part.to {
                Some(to) => {
                    let to = self.find(table, &to.chain);
                    plain(part) && to.is_some_and(|to| self.is_idle(table, to, depth + 1))
                }
                None => plain(part) && part.rule.verdict == PacketVerdict::Return,
            })
        })
    }

    /// The last of these rules that does something.
    pub(super) fn last_busy(&mut self, table: &ListedTable, rules: &[ListedRule]) -> Option<usize> {
        rules.iter().rposition(|rule| !self.does_nothing(table, rule, 0))
    }

    /// Begins to make groups, and forgets everything but which chains stand apart; how many these are.
    pub(super) fn make(&mut self) -> usize {
        let (apart, shared) = (std::mem::take(&mut self.apart), std::mem::take(&mut self.shared));
        let (count, declared) = (apart.len(), std::mem::take(&mut self.declared));
        *self = FlatState { apart, shared, declared, pass: ExportPass::Make, ..FlatState::default() };
        count
    }

    /// Whether no chain stands apart beside those; if so, all can be said by the groups that there are.
    pub(super) fn is_settled(&mut self, apart: usize) -> bool {
        self.pass = ExportPass::Say;
        self.bounded.clear();
        self.steps = 0;
        self.apart.len() == apart
    }

    /// Why a chain stands apart, if it does.
    pub(super) fn apart(&self, table: &ListedTable, at: usize) -> Option<&str> {
        let found = self.apart.iter().find(|chain| chain.at == at && chain.table == table.title);
        found.map(|chain| chain.why.as_str())
    }

    /// Notes that one does.
    pub(super) fn set_apart(&mut self, table: &ListedTable, at: usize, why: &str) {
        if self.apart(table, at).is_none() {
            self.apart.push(ApartChain { table: table.title.clone(), at, why: why.to_owned() });
        }
    }

    /// The group of a chain.
    pub(super) fn group(&self, table: &ListedTable, at: usize) -> Option<&GroupChain> {
        self.groups.iter().find(|group| group.at == at && group.table == table.title)
    }

    /// Notes that the rules of a chain stand elsewhere.
    pub(super) fn said(&mut self, table: &ListedTable, chain: usize) {
        self.said.push((table.title.clone(), chain));
    }

    /// Makes the next question quick.
    pub(super) fn sort(&mut self) {
        self.said.sort_unstable();
        self.lost.sort_unstable();
    }

    /// Whether they do, wherever they are jumped to from. Asked when all is noted and sorted.
    pub(super) fn is_said(&self, table: &ListedTable, chain: usize) -> bool {
        let is = |(title, at): &(String, usize)| (title.as_str(), *at).cmp(&(table.title.as_str(), chain));
        self.said.binary_search_by(is).is_ok() && self.lost.binary_search_by(is).is_err()
    }
}
