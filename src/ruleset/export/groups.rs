#![forbid(unsafe_code)]
//! Chains that cannot stand in the places of the jumps to them: because limits in them are one for all who
//! come, because the jump itself is limited, or because of how packets leave them. They become groups.

use super::flat::{ChainEnd, Flat, Following, Jump, flatten, has_unknown_way_out};
use super::state::{ExportPass, FlatState};
use super::{Export, ExportCounts, chains};
use crate::base::name::{NAME_MAX, Name};
use crate::plan::listed::{ChainTarget, ListedChain, RulePart};
use crate::plan::run::GROUP_PREFIX;
use crate::plan::{Direction, PacketVerdict, Rule};
use crate::ruleset::ast::Statement;
use std::ops::Range;

/// A chain that is a group.
pub(super) struct GroupChain {
    /// The title of its table.
    pub table: String,
    /// Its place in that.
    pub at: usize,
    name: Name,
    end: ChainEnd,
    rules: Vec<Flat>,
    /// What says them.
    said: GroupLines,
}

/// Where a group stands in an export, and what was counted of it there.
#[derive(Default)]
struct GroupLines {
    /// The line that declares it.
    declared: usize,
    /// Those of its rules.
    lines: Range<usize>,
    counts: ExportCounts,
}

/// A statement that leads to a group.
pub(super) struct GroupLead {
    /// The group that it stands in itself.
    of: Option<Name>,
    to: Name,
}

impl Jump<'_> {
    /// Notes that a chain stands apart, if it may become a group for that.
    pub(super) fn set_apart(&mut self, at: usize, why: &str) -> Option<()> {
        self.state.leads.then(|| self.state.set_apart(self.table, at, why))
    }

    /// Leads to the group of a chain, which is made of it if it is none yet.
    pub(super) fn grouped(&mut self, at: usize, outer: &Rule, out: &mut Vec<Flat>) -> Option<ChainEnd> {
        let (name, end) = if self.state.leads { of_chain(self, at)? } else { return None };
        let to = Some(ChainTarget { chain: [GROUP_PREFIX, name.as_str()].concat(), back: true });
        let part = RulePart { to, ..RulePart::of(outer) };
        let chain = self.table.chains.get(at)?.name.clone();
        out.push(Flat { parts: Ok(vec![part]), text: ["jump ", &chain].concat(), chain });
        self.state.said(self.table, at);
        Some(end)
    }
}

/// The group of a chain, which is made if there is none; how it ends. Those that it leads to come before it.
fn of_chain(jump: &mut Jump<'_>, at: usize) -> Option<(Name, ChainEnd)> {
    if let Some(group) = jump.state.group(jump.table, at) {
        return Some((group.name, group.end));
    }
    let table = jump.table;
    let chain = table.chains.get(at).filter(|chain| !has_unknown_way_out(chain))?;
    let name = name(jump.state, chain).filter(|_| jump.state.pass == ExportPass::Make)?;
    let mut rules = Vec::new();
    jump.depth += 1;
    let left = jump.inside(chain, Following::Nothing, &Rule::new(PacketVerdict::Next), &mut rules);
    jump.depth -= 1;
    let end = jump.end(chain, left.ok()?);
    let group = GroupChain { table: table.title.clone(), at, name, end, rules, said: GroupLines::default() };
    jump.state.groups.push(group);
    Some((name, end))
}

/// How often it is tried to find all chains that stand apart: what one leads to may be another.
const TRIES: usize = 8;

impl Export<'_> {
    /// Finds out which chains stand apart, and says them as groups.
    pub(super) fn groups_of_others(&mut self) {
        self.follow_all();
        let settled = (0..TRIES).any(|_| {
            let apart = self.flat.make();
            self.follow_all();
            self.flat.is_settled(apart)
        });
        let mut groups = std::mem::take(&mut self.flat.groups);
        if !settled {
            return;
        }
        let first = self.out.lines.len();
        self.out.lines.extend(groups.iter().map(|group| Statement::Group(group.name).to_string()));
        for (at, group) in groups.iter_mut().enumerate() {
            let (rules, before) = (std::mem::take(&mut group.rules), self.out.counts);
            let from = self.out.lines.len();
            if let Some(table) = self.tables.iter().find(|table| table.title == group.table) {
                self.of = Some(group.name);
                self.flat_rules(Direction::Fwd, table, rules);
                self.of = None;
            }
            let lines = from..self.out.lines.len();
            group.said = GroupLines { declared: first + at, lines, counts: self.out.counts.since(before) };
        }
        self.flat.groups = groups;
    }

    /// Notes to which groups a statement for these rules leads.
    pub(super) fn note_leads(&mut self, rules: &[Flat]) {
        let parts = rules.iter().filter_map(|rule| rule.parts.as_deref().ok()).flatten();
        let names = parts.filter_map(|part| Name::new(part.to.as_ref()?.chain.strip_prefix(GROUP_PREFIX)?));
        let of = self.of;
        self.leads.extend(names.map(|to| GroupLead { of, to }));
    }

    /// Takes groups out again that nothing leads to, since the rule that would have was refused in the end:
    /// what is in them is left over.
    pub(super) fn drop_unled_groups(&mut self) {
        let mut declared = Vec::new();
        // Those that lead to others come behind them, and the lines of groups behind those that declare them.
        for group in std::mem::take(&mut self.flat.groups).into_iter().rev() {
            if self.leads.iter().any(|lead| lead.to == group.name) {
                continue;
            }
            self.leads.retain(|lead| lead.of != Some(group.name));
            self.out.lines.drain(group.said.lines);
            self.out.counts = self.out.counts.since(group.said.counts);
            declared.push(group.said.declared);
            self.flat.lost.push((group.table, group.at));
        }
        // The last one comes first.
        declared.into_iter().for_each(|at| drop(self.out.lines.remove(at)));
    }

    fn follow_all(&mut self) {
        for dir in Direction::EVERY {
            for (table, chain) in chains(self.tables, dir) {
                flatten(&mut self.flat, table, chain, &chain.rules);
            }
        }
    }
}

/// The name of a chain as the language has names, which no other group has.
fn name(state: &FlatState, chain: &ListedChain) -> Option<Name> {
    let is_free =
        |name: &Name| !state.declared.contains(name) && state.groups.iter().all(|group| group.name != *name);
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain: String = chain.name.chars().filter(|c| fits(*c)).collect();
    let stem = plain.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let stem = if stem.is_empty() { "chain" } else { stem };
    let room = NAME_MAX - GROUP_PREFIX.len();
    (1..1000).find_map(|n: u32| {
        let end = if n > 1 { n.to_string() } else { String::new() };
        let stem = stem.get(..room - end.len()).unwrap_or(stem);
        Name::new(&[stem, &end].concat()).filter(is_free)
    })
}
