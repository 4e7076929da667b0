#![forbid(unsafe_code)]
//! The tables of `mef load`: the statements that they were made from.

use super::own::{ends_rejecting, is_own, stated};
use super::statement::{self, RuleGroup};
use super::{Export, ExportPurpose, Exported, base_policy, chains, flat, fold, normal, origin, parts};
use crate::base::name::Name;
use crate::plan::listed::{ChainBase, ListedChain, ListedRule, ListedTable};
use crate::plan::run::GROUP_PREFIX;
use crate::plan::{Direction, Policy};
use crate::ruleset::ast::{Action, Statement};

/// In which order lines were stated.
#[derive(Default)]
pub(super) struct StatementOrders {
    /// Lines that stay where they are: those before all of these.
    before: usize,
    /// Of each line behind them its statement's number, and its place.
    found: Vec<(u32, usize)>,
}

/// Rules of ours, all or some of those of a chain.
struct OwnRules<'r> {
    dir: Direction,
    /// What becomes of packets on which none of them decides.
    policy: Policy,
    table: &'r ListedTable,
    chain: &'r ListedChain,
    rules: &'r [ListedRule],
}

/// The table of `mef load` as statements without a header, in the order of the file that it was made from.
#[must_use]
pub fn ours(table: &mut ListedTable, purpose: ExportPurpose) -> Exported {
    normal(table);
    let tables = std::slice::from_ref(table);
    let mut export = Export::new(tables);
    export.purpose = purpose;
    for dir in Direction::ALL {
        let last = chains(tables, dir).into_iter().rfind(|(_, chain)| is_own(dir, chain));
        export.policy(dir, own_policy(last.map(|(_, chain)| chain)));
    }
    let frames = chains(tables, Direction::Bridge).into_iter().rfind(|(_, c)| is_own(Direction::Bridge, c));
    if let Some((_, chain)) = frames {
        export.policy(Direction::Bridge, own_policy(Some(chain)));
    }
    export.sets();
    export.unsaid_objects();
    for table in tables {
        export.declare_groups(table);
    }
    let before = export.out.lines.len();
    let mut orders = StatementOrders { before, found: Vec::new() };
    for table in tables {
        export.groups(table, &mut orders);
    }
    for dir in Direction::EVERY {
        for (table, chain) in chains(tables, dir) {
            if is_own(dir, chain) {
                export.own_chain(table, chain, &mut orders);
            }
        }
    }
    let mut lines = export.out.lines.split_off(before);
    orders.found.sort_unstable();
    for (_, at) in orders.found {
        export.out.lines.extend(lines.get_mut(at).map(std::mem::take));
    }
    for dir in Direction::EVERY {
        let foreign = chains(tables, dir).into_iter().filter(|(_, chain)| !is_own(dir, chain));
        foreign.for_each(|(table, chain)| export.foreign_chain(table, chain));
    }
    export.left_over();
    export.out
}

impl Export<'_> {
    /// Says which groups our table has, each once.
    pub(super) fn declare_groups(&mut self, table: &ListedTable) {
        for name in table.chains.iter().filter_map(group_of) {
            if !self.flat.declared.contains(&name) {
                self.out.lines.push(Statement::Group(name).to_string());
                self.flat.declared.push(name);
            }
        }
    }

    /// The rules of the groups of our table.
    pub(super) fn groups(&mut self, table: &ListedTable, orders: &mut StatementOrders) {
        for (at, chain) in table.chains.iter().enumerate() {
            let Some(name) = group_of(chain) else { continue };
            self.flat.said(table, at);
            self.of = Some(name);
            let (dir, policy, rules) = (Direction::Fwd, Policy::Accept, chain.rules.as_slice());
            self.statements(OwnRules { dir, policy, table, chain, rules }, orders);
            self.of = None;
        }
    }

    /// The rules of a base chain of ours, those of one statement together.
    pub(super) fn own_chain(
        &mut self,
        table: &ListedTable,
        chain: &ListedChain,
        orders: &mut StatementOrders,
    ) {
        let ChainBase::Filter(dir, _, policy) = chain.base else { return };
        let (apart, [head, rest]) = stated(dir, chain);
        self.apart = apart;
        for rules in [head, rest] {
            self.statements(OwnRules { dir, policy, table, chain, rules }, orders);
        }
        self.apart = false;
    }

    /// Rules of ours in a chain.
    fn statements(&mut self, own: OwnRules<'_>, orders: &mut StatementOrders) {
        let OwnRules { dir, policy, table, chain, rules } = own;
        // A rule of another program stays where it is: behind those before it.
        let mut order = 0;
        for group in rules.chunk_by(|a, b| origin(a) > 0 && origin(a) == origin(b)) {
            let number = group.first().map_or(0, origin);
            order = order.max(number);
            if number > 0 {
                self.group(dir, table, chain, group);
            } else if self.compares() {
                for rule in group {
                    self.unsaid_rule("it belongs to another program", table, &chain.name, &rule.text);
                }
            } else {
                let mut flat = flat::flatten(&mut self.flat, table, chain, group);
                fold::end_by_policy(&mut flat, policy);
                self.flat_rules(dir, table, flat);
            }
            for at in orders.found.len()..self.out.lines.len().saturating_sub(orders.before) {
                orders.found.push((order, at));
            }
        }
    }

    /// The rules that were made of one statement.
    #[inline(never)]
    fn group(&mut self, dir: Direction, table: &ListedTable, chain: &ListedChain, rules: &[ListedRule]) {
        let origin = rules.first().map_or(0, origin);
        let base = parts(rules);
        let mut targets = base.iter().filter_map(|part| part.to.as_ref()).map(|to| to.chain.as_str());
        let target = targets.find(|chain| !chain.starts_with(GROUP_PREFIX));
        let own = target.and_then(|name| self.flat.find(table, name));
        let own_rules = own.and_then(|at| table.chains.get(at)).map_or(&[][..], |c| c.rules.as_slice());
        let own_parts = parts(own_rules);
        if own_parts.len() == own_rules.len()
            && let Some(text) = statement::rule(
                &self.sets,
                RuleGroup { dir, base: &base, own: &own_parts, origin, apart: self.apart, of: self.of },
            )
        {
            if let Some(at) = own {
                self.flat.said(table, at);
            }
            return self.statement(text);
        }
        for rule in rules {
            let base = parts(std::slice::from_ref(rule));
            match statement::rule(
                &self.sets,
                RuleGroup { dir, base: &base, own: &[], origin, apart: self.apart, of: self.of },
            ) {
                Some(text) => self.statement(text),
                None => self.unsaid_rule("it was changed by another program", table, &chain.name, &rule.text),
            }
        }
    }

    /// A base chain of our table that `mef load` did not make.
    fn foreign_chain(&mut self, table: &ListedTable, chain: &ListedChain) {
        const WHY: &str = "a chain of another program at the same hook";
        let ChainBase::Filter(_, priority, policy) = chain.base else { return };
        let policy = if policy == Policy::Drop { " policy drop" } else { " policy accept" };
        self.unsaid_rule(WHY, table, &chain.name, &["priority ", &priority.to_string(), policy].concat());
        for rule in &chain.rules {
            self.unsaid_rule(WHY, table, &chain.name, &rule.text);
        }
    }
}

/// The policy of a chain, as `base_policy`, but of ours: there, the last rules may be one that rejects.
pub(super) fn own_policy(chain: Option<&ListedChain>) -> Action {
    if chain.is_some_and(ends_rejecting) { Action::Reject } else { base_policy(chain) }
}

/// The group whose chain this is: all of its rules are of ours.
fn group_of(chain: &ListedChain) -> Option<Name> {
    let name = chain.name.strip_prefix(GROUP_PREFIX).and_then(Name::new);
    name.filter(|_| chain.rules.iter().all(|rule| origin(rule) > 0))
}
