#![forbid(unsafe_code)]
//! Tables of the kernel to statements of mef.rules. A statement means what the rule in the kernel means, or
//! the rule becomes a comment that shows it. Knows the kernel only through `plan`.

mod except;
mod flat;
mod own;
mod statement;
mod union;
mod words;

use super::RuleSet;
use super::ast::{
    Action, InterfaceList, RuleStatement, SetElements, SetStatement, Statement, StatementPlace,
};
use super::words::LOST;
use crate::base::name::Name;
use crate::base::range::Family;
use crate::plan::listed::{ChainBase, DROPS, ListedChain, ListedRule, ListedTable, RulePart, hook};
use crate::plan::run::GROUP_PREFIX;
use crate::plan::{Direction, PacketVerdict, Policy, Reject};
use flat::Flat;
pub use own::is_foreign;
use own::{ends_rejecting, is_own, stated};
use statement::RuleGroup;
use words::{answered, harmless, why_not};

/// Where sets stand that were read from the kernel.
const NOWHERE: StatementPlace = StatementPlace { file: 0, line: 0 };

/// What became of tables.
#[derive(Debug, Default)]
pub struct Exported {
    /// The lines of a rule set, without newlines.
    pub lines: Vec<String>,
    /// Statements of rules.
    pub said: usize,
    /// Comments in place of what cannot be said.
    pub unsaid: usize,
    /// Those among them that drop or refuse packets; each has a statement that is an error until somebody
    /// deletes it.
    pub lost: usize,
    /// Hooks of which a packet comes to several chains.
    pub meet: Vec<&'static str>,
}

/// What statements are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportPurpose {
    /// A file to load.
    File,
    /// To be compared: what another program has put there is shown, each rule as one, and not said.
    Comparison,
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
        let groups = table.chains.iter().filter_map(group_of);
        export.out.lines.extend(groups.map(|name| Statement::Group(name).to_string()));
    }
    let before = export.out.lines.len();
    let mut orders = Vec::new();
    for table in tables {
        export.groups(table, before, &mut orders);
    }
    for dir in Direction::EVERY {
        for (table, chain) in chains(tables, dir) {
            if is_own(dir, chain) {
                export.own_chain(table, chain, before, &mut orders);
            }
        }
    }
    let mut lines = export.out.lines.split_off(before);
    orders.sort_unstable();
    for (_, at) in orders {
        export.out.lines.extend(lines.get_mut(at).map(std::mem::take));
    }
    for dir in Direction::EVERY {
        let foreign = chains(tables, dir).into_iter().filter(|(_, chain)| !is_own(dir, chain));
        foreign.for_each(|(table, chain)| export.foreign_chain(table, chain));
    }
    export.left_over();
    export.out
}

/// Tables as one rule set, with comments that say where everything comes from.
#[must_use]
#[inline(never)]
pub fn all(tables: &mut [ListedTable]) -> Exported {
    if let [table] = tables
        && table.ours
    {
        let mut out = ours(table, ExportPurpose::File);
        out.lines.insert(0, ["# table ", &table.title].concat());
        return out;
    }
    tables.iter_mut().for_each(normal);
    let mut export = Export::new(tables);
    for table in &*tables {
        export.comment(&["table ", &table.title].concat());
    }
    for dir in Direction::DECIDING {
        if meet_at(tables, dir) {
            export.out.meet.push(hook(dir));
            export.comment(
                &[
                    "Of hook ",
                    hook(dir),
                    " there are several chains: in the kernel, what one accepts goes on to the next one;",
                ]
                .concat(),
            );
            export.comment("here, the first rule decides. Check what they accept before you load this.");
        }
    }
    export.sets();
    export.unsaid_objects();
    // Only when every way into a chain is known, it is known whose limits are shared.
    for dir in Direction::EVERY {
        for (table, chain) in chains(tables, dir) {
            flat::flatten(&mut export.flat, table, chain, &chain.rules);
        }
    }
    export.flat.again();
    for table in tables.iter().filter(|table| table.ours) {
        export.groups(table, 0, &mut Vec::new());
    }
    for dir in Direction::EVERY {
        let all = chains(tables, dir);
        for (i, (table, chain)) in all.iter().enumerate() {
            let ChainBase::Filter(_, priority, _) = chain.base else { continue };
            let priority = priority.to_string();
            export.comment(
                &["table ", &table.title, ", chain ", &chain.name, ", priority ", &priority].concat(),
            );
            if table.ours {
                export.own_chain(table, chain, 0, &mut Vec::new());
            } else {
                export.chain(table, chain);
            }
            export.end_of_chain(dir, table, chain, i + 1 == all.len());
        }
    }
    export.left_over();
    export.out
}

/// The base chains of a hook in the order in which packets come to them.
fn chains(tables: &[ListedTable], dir: Direction) -> Vec<(&ListedTable, &ListedChain)> {
    let mut all = Vec::new();
    for table in tables {
        for chain in &table.chains {
            if matches!(chain.base, ChainBase::Filter(hook, ..) if hook == dir) {
                all.push((table, chain));
            }
        }
    }
    all.sort_by_key(
        |(_, chain)| if let ChainBase::Filter(_, priority, _) = chain.base { priority } else { 0 },
    );
    all
}

/// Whether a packet comes to several chains of a hook.
fn meet_at(tables: &[ListedTable], dir: Direction) -> bool {
    let all = chains(tables, dir);
    let of = |family| all.iter().filter(|(table, _)| table.family.is_none_or(|f| f == family)).count();
    of(Family::V4) > 1 || of(Family::V6) > 1
}

/// Brings what may be written in several ways into one.
fn normal(table: &mut ListedTable) {
    for chain in &mut table.chains {
        for rule in &mut chain.rules {
            for part in rule.parts.as_deref_mut().unwrap_or_default() {
                part.rule.counter = true;
                part.rule.tests.sort_unstable();
                part.rule.changes.sort_unstable();
                for list in [&mut part.rule.iif, &mut part.rule.oif].into_iter().flatten() {
                    list.names.sort_unstable();
                    list.names.dedup();
                }
            }
        }
    }
}

struct Export<'a> {
    tables: &'a [ListedTable],
    /// The named sets, for the statements that use them.
    sets: RuleSet,
    /// Sets that are no statement: name, and table.
    lost: Vec<(Name, &'a str)>,
    out: Exported,
    /// Chains whose rules stand elsewhere already, and those that a rule could not be followed into.
    flat: flat::FlatState,
    /// No packet of loopback comes to the rules that are looked at, if they do not name it.
    apart: bool,
    /// The group whose rules are looked at.
    of: Option<Name>,
    purpose: ExportPurpose,
}

/// What the hook does with packets that no rule of its chain decided on.
fn base_policy(chain: Option<&ListedChain>) -> Action {
    match chain {
        Some(ListedChain { base: ChainBase::Filter(.., Policy::Drop), .. }) => Action::Drop,
        _ => Action::Accept,
    }
}

/// Likewise, of a chain of ours: there, the last rules may be such a policy.
fn own_policy(chain: Option<&ListedChain>) -> Action {
    if chain.is_some_and(ends_rejecting) { Action::Reject } else { base_policy(chain) }
}

impl<'a> Export<'a> {
    fn compares(&self) -> bool {
        self.purpose == ExportPurpose::Comparison
    }

    fn new(tables: &'a [ListedTable]) -> Export<'a> {
        let (mut sets, mut lost) = (RuleSet::default(), Vec::new());
        for table in tables {
            let made = statement::sets(&table.sets, table.ours, &mut |name| {
                lost.push((*name, table.title.as_str()))
            });
            for set in made {
                let name = set.name;
                if sets.add(NOWHERE, set).is_err() {
                    lost.push((name, table.title.as_str()));
                }
            }
        }
        for part in tables.iter().flat_map(|table| &table.chains).flat_map(|chain| parts(&chain.rules)) {
            for name in union::filled(part) {
                let elements = SetElements::Dynamic;
                let _ =
                    sets.add(NOWHERE, SetStatement { name, family: None, elements, file: Box::default() });
            }
        }
        let (out, flat) = (Exported::default(), flat::FlatState::default());
        Export { tables, sets, lost, out, flat, apart: false, of: None, purpose: ExportPurpose::File }
    }

    fn comment(&mut self, text: &str) {
        self.out.lines.push(["# ", &harmless(text)].concat());
    }

    fn unsaid(&mut self, why: &str, what: &str) {
        self.out.unsaid += 1;
        self.comment(&["cannot be expressed: ", why, ": ", what].concat());
    }

    fn unsaid_rule(&mut self, why: &str, table: &ListedTable, chain: &str, text: &str) {
        let what = ["table ", &table.title, " chain ", chain, ": ", text].concat();
        let stops = text.split(' ').any(|word| matches!(word, "drop" | "reject"));
        if !stops || self.compares() {
            return self.unsaid(why, &what);
        }
        self.out.unsaid += 1;
        self.out.lost += 1;
        let text = ["cannot be expressed: ", why, ": ", &what].concat();
        self.out.lines.push([LOST, " action=drop # ", &harmless(&text)].concat());
    }

    fn statement(&mut self, text: String) {
        self.out.said += 1;
        self.out.lines.push(text);
    }

    fn sets(&mut self) {
        let texts: Vec<String> = self
            .sets
            .sets
            .iter()
            .filter(|(_, set)| set.elements != SetElements::Dynamic)
            .filter_map(|(_, set)| statement::text(&Statement::Set(set.clone())))
            .collect();
        self.out.lines.extend(texts);
        for (name, table) in std::mem::take(&mut self.lost) {
            let why = "it has no elements, or more than fit on a line";
            self.unsaid(why, &["set ", table, " ", name.as_str()].concat());
        }
    }

    fn unsaid_objects(&mut self) {
        for (what, why) in self.tables.iter().flat_map(|table| &table.unsaid) {
            self.unsaid(why, what);
        }
    }

    /// The policy of a direction as a statement.
    fn policy(&mut self, dir: Direction, action: Action) {
        self.out.lines.push(Statement::Policy(dir, action).to_string());
    }

    /// What becomes of packets that no rule of a chain decided on: said by the policy where that is exact.
    #[inline(never)]
    fn end_of_chain(&mut self, dir: Direction, table: &ListedTable, chain: &ListedChain, last: bool) {
        let ChainBase::Filter(.., policy) = chain.base else { return };
        if dir.is_nat() {
            return;
        }
        if last && table.family.is_none() {
            let of = if table.ours { own_policy } else { base_policy };
            return self.policy(dir, of(Some(chain)));
        }
        if policy == Policy::Accept {
            return;
        }
        let action = if table.ours && ends_rejecting(chain) { Action::Reject } else { Action::Drop };
        let comment: String =
            ["policy of ", &table.title, " ", &chain.name].concat().chars().take(60).collect();
        let every = |is: bool| if is { InterfaceList::Every } else { InterfaceList::Any };
        let rule = RuleStatement {
            family: table.family,
            iif: every(dir == Direction::In),
            oif: every(dir == Direction::Out),
            comment: comment.into(),
            ..RuleStatement::new(dir, action)
        };
        self.statement(Statement::Rule(Box::new(rule)).to_string());
    }

    /// The rules of the groups of our table.
    fn groups(&mut self, table: &ListedTable, before: usize, orders: &mut Vec<(u32, usize)>) {
        for (at, chain) in table.chains.iter().enumerate() {
            let Some(name) = group_of(chain) else { continue };
            self.flat.said(table, at);
            self.of = Some(name);
            self.statements(
                Direction::Fwd,
                Policy::Accept,
                (table, chain, &chain.rules),
                (before, &mut *orders),
            );
            self.of = None;
        }
    }

    /// The rules of a base chain of ours, those of one statement together. `orders` are of each line behind
    /// the first `before` its statement's number and its place.
    fn own_chain(
        &mut self,
        table: &ListedTable,
        chain: &ListedChain,
        before: usize,
        orders: &mut Vec<(u32, usize)>,
    ) {
        let ChainBase::Filter(dir, _, policy) = chain.base else { return };
        let (apart, [head, rest]) = stated(dir, chain);
        self.apart = apart;
        for part in [head, rest] {
            self.statements(dir, policy, (table, chain, part), (before, &mut *orders));
        }
        self.apart = false;
    }

    /// Rules of ours in a chain.
    fn statements(
        &mut self,
        dir: Direction,
        policy: Policy,
        (table, chain, rules): (&ListedTable, &ListedChain, &[ListedRule]),
        (before, orders): (usize, &mut Vec<(u32, usize)>),
    ) {
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
                let flat = flat::flatten(&mut self.flat, table, chain, group);
                self.flat_rules(dir, policy, table, flat);
            }
            for at in orders.len()..self.out.lines.len().saturating_sub(before) {
                orders.push((order, at));
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

    /// The rules of a base chain of others.
    fn chain(&mut self, table: &ListedTable, chain: &ListedChain) {
        let ChainBase::Filter(dir, _, policy) = chain.base else { return };
        let rules = flat::flatten(&mut self.flat, table, chain, &chain.rules);
        self.flat_rules(dir, policy, table, rules);
    }

    fn flat_rules(&mut self, dir: Direction, policy: Policy, table: &ListedTable, mut rules: Vec<Flat>) {
        flat::fold_logs(&mut rules);
        flat::end_by_policy(&mut rules, policy);
        let mut at = 0;
        while let Some(rule) = rules.get(at) {
            // Three rules that log and reject, or two, may be one statement.
            let several = rule.one().is_some_and(begins_several);
            if let Some((text, len)) = self.joined(dir, rules.get(at..).filter(|_| several)) {
                self.statement(text);
                at += len;
                continue;
            }
            match self.single(dir, rule) {
                Ok(texts) => texts.into_iter().for_each(|text| self.statement(text)),
                Err(why) => self.unsaid_rule(&why, table, &rule.chain, &rule.text),
            }
            at += 1;
        }
    }

    /// The statement for the first three rules, or the first two, and how many they are.
    #[inline(never)]
    fn joined(&self, dir: Direction, rules: Option<&[Flat]>) -> Option<(String, usize)> {
        for len in [3, 2] {
            let base: Vec<&RulePart> = rules?.iter().take(len).filter_map(Flat::one).collect();
            if base.len() == len
                && let Some(text) = statement::rule(
                    &self.sets,
                    RuleGroup { dir, base: &base, own: &[], origin: 0, apart: self.apart, of: self.of },
                )
            {
                return Some((text, len));
            }
        }
        None
    }

    /// The statements for one rule of others.
    #[inline(never)]
    fn single(&self, dir: Direction, rule: &Flat) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        for part in rule.parts.as_ref().map_err(Clone::clone)? {
            let (parts, note) = answered(part)?;
            for parts in statement::with_loopback(dir, self.apart, parts) {
                let base: Vec<&RulePart> = parts.iter().collect();
                let group =
                    RuleGroup { dir, base: &base, own: &[], origin: 0, apart: self.apart, of: self.of };
                let mut text = statement::rule(&self.sets, group).ok_or_else(|| why_not(&part.rule))?;
                if !note.is_empty() {
                    text.push_str(" # in the kernel answered with ");
                    text.push_str(&harmless(note));
                }
                texts.push(text);
            }
        }
        Ok(texts)
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

    /// Chains that were not followed, and those at hooks that the language does not know.
    fn left_over(&mut self) {
        self.flat.sort();
        for table in self.tables {
            let led = Led::new(table);
            for (at, chain) in table.chains.iter().enumerate() {
                let why = match &chain.base {
                    ChainBase::Filter(..) => continue,
                    ChainBase::Other(why) if self.compares() || why.ends_with(DROPS) => why.as_str(),
                    ChainBase::None if self.flat.is_said(table, at) => continue,
                    // What does nothing needs no words.
                    _ if !self.compares() && self.flat.is_idle(table, at, 0) => continue,
                    // Nor what no packet comes to.
                    ChainBase::None if !self.compares() && !led.to(&chain.name) => continue,
                    ChainBase::Other(why) => why.as_str(),
                    ChainBase::None => "a rule could not be followed into this chain",
                };
                // One without rules is there all the same.
                if chain.rules.is_empty() && self.compares() {
                    self.unsaid(why, &["table ", &table.title, " chain ", &chain.name].concat());
                }
                for rule in &chain.rules {
                    self.unsaid_rule(why, table, &chain.name, &rule.text);
                }
            }
        }
    }
}

/// Where the rules of a table lead.
struct Led<'t> {
    /// Sorted.
    names: Vec<&'t str>,
    /// The texts of rules that are not understood.
    texts: Vec<&'t str>,
    /// Whether one of them asks a map of verdicts, which may lead to any chain.
    maps: bool,
}

impl<'t> Led<'t> {
    fn new(table: &'t ListedTable) -> Led<'t> {
        let (mut names, mut texts) = (Vec::new(), Vec::new());
        for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
            match &rule.parts {
                Ok(parts) => {
                    names.extend(parts.iter().filter_map(|part| Some(part.to.as_ref()?.chain.as_str())))
                }
                Err(_) => texts.push(rule.text.as_str()),
            }
        }
        names.sort_unstable();
        let maps = texts.iter().any(|text| text.contains("vmap "));
        Led { names, texts, maps }
    }

    /// Whether a rule may lead to a chain.
    fn to(&self, chain: &str) -> bool {
        self.maps
            || self.names.binary_search(&chain).is_ok()
            || self.texts.iter().any(|text| text.contains(chain))
    }
}

/// The parts of those rules that have some.
fn parts(rules: &[ListedRule]) -> Vec<&RulePart> {
    let mut all = Vec::new();
    for rule in rules {
        all.extend(rule.parts.as_deref().unwrap_or_default());
    }
    all
}

/// The number of the statement that a rule was made from.
fn origin(rule: &ListedRule) -> u32 {
    rule.parts.as_ref().ok().and_then(|parts| parts.first()).map_or(0, |part| part.rule.origin)
}

/// The group whose chain this is: all of its rules are of ours.
fn group_of(chain: &ListedChain) -> Option<Name> {
    let name = chain.name.strip_prefix(GROUP_PREFIX).and_then(Name::new);
    name.filter(|_| chain.rules.iter().all(|rule| origin(rule) > 0))
}

fn begins_several(part: &RulePart) -> bool {
    let logs = part.rule.log.is_some() && part.rule.verdict == PacketVerdict::Next;
    logs || part.rule.verdict == PacketVerdict::Reject(Reject::Reset)
}
