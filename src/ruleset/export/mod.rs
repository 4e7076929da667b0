#![forbid(unsafe_code)]
//! Tables of the kernel to statements of mef.rules. A statement means what the rule in the kernel means, or
//! the rule becomes a comment that shows it. Knows the kernel only through `plan`.

mod except;
mod flat;
mod fold;
mod groups;
mod left;
mod ours;
mod own;
mod state;
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
use crate::plan::listed::{ChainBase, ListedChain, ListedRule, ListedTable, LogDetail, RulePart, hook};
use crate::plan::{Direction, PacketVerdict, Policy, Reject};
use flat::Flat;
pub use ours::ours;
use ours::{StatementOrders, own_policy};
use own::ends_rejecting;
pub use own::is_foreign;
use statement::RuleGroup;
use words::{answered, harmless, why_not};

/// Where sets stand that were read from the kernel.
const NOWHERE: StatementPlace = StatementPlace { file: 0, line: 0 };

/// What became of tables.
#[derive(Debug, Default)]
pub struct Exported {
    /// The lines of a rule set, without newlines.
    pub lines: Vec<String>,
    /// How many lines are of which kind.
    pub counts: ExportCounts,
    /// Hooks of which a packet comes to several chains.
    pub meet: Vec<&'static str>,
}

/// How many lines of an export are of which kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// Statements of rules.
    pub said: usize,
    /// Comments in place of what cannot be said.
    pub unsaid: usize,
    /// Those among them that drop or refuse packets; each has a statement that is an error until somebody
    /// deletes it.
    pub lost: usize,
}

impl ExportCounts {
    /// What has come behind others, or is left without them.
    fn since(self, others: ExportCounts) -> ExportCounts {
        ExportCounts {
            said: self.said - others.said,
            unsaid: self.unsaid - others.unsaid,
            lost: self.lost - others.lost,
        }
    }
}

/// What statements are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportPurpose {
    /// A file to load.
    File,
    /// To be compared: what another program has put there is shown, each rule as one, and not said.
    Comparison,
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
    for table in tables.iter().filter(|table| table.ours) {
        export.declare_groups(table);
    }
    export.groups_of_others();
    for table in tables.iter().filter(|table| table.ours) {
        export.groups(table, &mut StatementOrders::default());
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
                export.own_chain(table, chain, &mut StatementOrders::default());
            } else {
                export.chain(table, chain);
            }
            export.end_of_chain(dir, table, chain, i + 1 == all.len());
        }
    }
    export.drop_unled_groups();
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
    flat: state::FlatState,
    /// The statements so far that lead to groups.
    leads: Vec<groups::GroupLead>,
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
        let (out, flat) = (Exported::default(), state::FlatState::default());
        let (leads, purpose) = (Vec::new(), ExportPurpose::File);
        Export { tables, sets, lost, out, flat, leads, apart: false, of: None, purpose }
    }

    fn comment(&mut self, text: &str) {
        self.out.lines.push(["# ", &harmless(text)].concat());
    }

    fn unsaid(&mut self, why: &str, what: &str) {
        self.out.counts.unsaid += 1;
        self.comment(&["cannot be expressed: ", why, ": ", what].concat());
    }

    fn unsaid_rule(&mut self, why: &str, table: &ListedTable, chain: &str, text: &str) {
        let what = ["table ", &table.title, " chain ", chain, ": ", text].concat();
        let stops = text.split(' ').any(|word| matches!(word, "drop" | "reject"));
        if !stops || self.compares() {
            return self.unsaid(why, &what);
        }
        self.out.counts.unsaid += 1;
        self.out.counts.lost += 1;
        let text = ["cannot be expressed: ", why, ": ", &what].concat();
        self.out.lines.push([LOST, " action=drop # ", &harmless(&text)].concat());
    }

    fn statement(&mut self, text: String) {
        self.out.counts.said += 1;
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

    /// The rules of a base chain of others.
    fn chain(&mut self, table: &ListedTable, chain: &ListedChain) {
        let ChainBase::Filter(dir, _, policy) = chain.base else { return };
        let mut rules = flat::flatten(&mut self.flat, table, chain, &chain.rules);
        fold::know_interfaces(&mut rules, dir);
        fold::end_by_policy(&mut rules, policy);
        self.flat_rules(dir, table, rules);
    }

    fn flat_rules(&mut self, dir: Direction, table: &ListedTable, mut rules: Vec<Flat>) {
        fold::fold_logs(&mut rules);
        let mut at = 0;
        while let Some(rule) = rules.get(at) {
            // Three rules that log and reject, or two, may be one statement.
            let several = rule.one().is_some_and(begins_several);
            if let Some((text, len)) = self.joined(dir, rules.get(at..).filter(|_| several)) {
                self.note_leads(rules.get(at..at + len).unwrap_or_default());
                self.statement(text);
                at += len;
                continue;
            }
            match self.single(dir, rule) {
                Ok(texts) => {
                    self.note_leads(std::slice::from_ref(rule));
                    texts.into_iter().for_each(|text| self.statement(text));
                }
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

    /// Parts of a rule of others as one statement, or two for the sake of loopback.
    #[inline(never)]
    fn as_one(&self, dir: Direction, parts: Vec<RulePart>) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for parts in statement::with_loopback(dir, self.apart, parts) {
            let base: Vec<&RulePart> = parts.iter().collect();
            let group = RuleGroup { dir, base: &base, own: &[], origin: 0, apart: self.apart, of: self.of };
            texts.push(statement::rule(&self.sets, group)?);
        }
        Some(texts)
    }

    /// The statements for one rule of others.
    #[inline(never)]
    fn single(&self, dir: Direction, rule: &Flat) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        let parts = rule.parts.as_ref().map_err(Clone::clone)?;
        let plain = |part: &RulePart| part.answer.is_empty() && part.logs == LogDetail::Usual;
        // States that are excepted are two rules of the kernel.
        if parts.len() == 2
            && parts.iter().all(plain)
            && let Some(texts) = self.as_one(dir, parts.clone())
        {
            return Ok(texts);
        }
        for part in parts {
            let (answered, note) = answered(part)?;
            let logs_more = part.logs == LogDetail::More;
            for mut text in self.as_one(dir, vec![answered]).ok_or_else(|| why_not(&part.rule))? {
                if !note.is_empty() {
                    text.push_str(" # in the kernel answered with ");
                    text.push_str(&harmless(note));
                }
                if logs_more {
                    text.push_str(if note.is_empty() { " # " } else { "; " });
                    text.push_str("in the kernel its log lines have more in them");
                }
                texts.push(text);
            }
        }
        Ok(texts)
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

fn begins_several(part: &RulePart) -> bool {
    let logs = part.rule.log.is_some() && part.rule.verdict == PacketVerdict::Next;
    logs || part.rule.verdict == PacketVerdict::Reject(Reject::Reset)
}
