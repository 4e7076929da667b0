#![forbid(unsafe_code)]
//! Tables as the kernel holds them, ours and those of others: what of them is a plan, and for the rest the
//! words to show it. A compiled rule set can be recorded in the same form, to be compared.

use super::{Direction, Elements, Family, Name, PacketVerdict, Policy, RangeList, Rule, Set, Sink};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedTable {
    /// Family and name for people.
    pub title: String,
    /// The only family of its packets.
    pub family: Option<Family>,
    /// Whether `mef load` made it.
    pub ours: bool,
    /// Named sets that are plain lists.
    pub sets: Vec<Set>,
    /// Everything else than chains, for people, with the reason why it cannot be said.
    pub unsaid: Vec<(String, String)>,
    /// Its chains, in the order in which they were made.
    pub chains: Vec<ListedChain>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChain {
    /// For people.
    pub name: String,
    /// What packets come into it.
    pub base: ChainBase,
    /// Its rules.
    pub rules: Vec<ListedRule>,
}

/// What the words for a base chain at an unknown hook end with, if its policy drops.
pub const DROPS: &str = ", policy drop";

/// Where a chain hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainBase {
    /// Nowhere: rules jump to it.
    None,
    /// At a hook that the language knows.
    Filter(Direction, i32, Policy),
    /// At another one; why the language cannot say it.
    Other(String),
}

/// A rule of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRule {
    /// About as nft(8) writes it.
    pub text: String,
    /// Rules of a plan, of which no packet matches two, that are this one together; or why there are none.
    pub parts: Result<Vec<RulePart>, String>,
    /// Whether packets may leave its chain by it undecided: by `return` or `goto`.
    pub leaves: bool,
}

/// One rule of a plan, and what is beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulePart {
    /// The rule; its verdict is `Next` where `to` decides.
    pub rule: Rule,
    /// The chain that goes on.
    pub to: Option<ChainTarget>,
    /// How refused packets are answered, where that is not what `rule` says; else empty.
    pub answer: String,
    /// What its log lines have in them.
    pub logs: LogDetail,
}

/// What the kernel writes into a log line of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDetail {
    /// What it does unless a rule asks for more.
    Usual,
    /// Options, sequence numbers, users or frames, too.
    More,
}

/// A chain that a rule leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainTarget {
    /// Its name.
    pub chain: String,
    /// Whether the way leads back behind the rule.
    pub back: bool,
}

impl RulePart {
    /// A part as the plan has it.
    #[must_use]
    pub fn of(rule: &Rule) -> RulePart {
        let mut part =
            RulePart { rule: rule.clone(), to: None, answer: String::new(), logs: LogDetail::Usual };
        if let PacketVerdict::Jump(name) = rule.verdict {
            part.rule.verdict = PacketVerdict::Next;
            part.to = Some(ChainTarget { chain: name.as_str().to_owned(), back: true });
        }
        part
    }
}

impl ListedTable {
    /// An empty table of `mef load`.
    #[must_use]
    pub fn ours() -> ListedTable {
        ListedTable { title: "inet mef".into(), ours: true, ..ListedTable::default() }
    }

    fn push(&mut self, name: &str, base: ChainBase) {
        self.chains.push(ListedChain { name: name.to_owned(), base, rules: Vec::new() });
    }
}

/// Records a plan as the table that it makes.
impl Sink for ListedTable {
    fn base(&mut self, direction: Direction, policy: Policy) {
        self.push(hook(direction), ChainBase::Filter(direction, priority(direction), policy));
    }

    fn set(&mut self, set: &Set) {
        // A table for frames has sets of its own, which are the same.
        if !self.sets.iter().any(|known| known.name == set.name) {
            self.sets.push(set.clone());
        }
    }

    fn listed(&mut self, name: Name, family: Family, list: &RangeList) {
        let elements = list.digest(family).map_or_else(
            || {
                let mut ranges = Vec::new();
                list.each(family, &mut |range| ranges.push(range));
                Elements::Addresses(family, ranges)
            },
            |digest| Elements::Many(family, digest),
        );
        self.set(&Set { name, elements });
    }

    fn buckets(&mut self, _: Name, _: Family, _: u32) {}

    fn chain(&mut self, name: Name) {
        self.push(name.as_str(), ChainBase::None);
    }

    fn rule(&mut self, chain: super::Chain, rule: &Rule) {
        let here = |c: &&mut ListedChain| match (&chain, &c.base) {
            (super::Chain::Base(dir), ChainBase::Filter(hook, ..)) => dir == hook,
            (super::Chain::Own(name), ChainBase::None) => c.name == name.as_str(),
            _ => false,
        };
        // Base chains stand at the front; the chain of a rule was made a moment ago.
        let found = match chain {
            super::Chain::Base(_) => self.chains.iter_mut().find(here),
            super::Chain::Own(_) => self.chains.iter_mut().rev().find(here),
        };
        if let Some(chain) = found {
            chain.rules.push(ListedRule {
                text: String::new(),
                parts: Ok(vec![RulePart::of(rule)]),
                leaves: false,
            });
        }
    }
}

/// The name of a hook, and of our chain there.
#[must_use]
pub const fn hook(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "input",
        Direction::Out => "output",
        Direction::Fwd => "forward",
        Direction::Bridge => "frames",
        Direction::Pre => "nat-pre",
        Direction::Post => "nat-post",
        Direction::Local => "nat-out",
    }
}

/// The priority of our chain of a direction.
#[must_use]
pub const fn priority(direction: Direction) -> i32 {
    match direction {
        Direction::In | Direction::Out | Direction::Fwd | Direction::Bridge => 0,
        Direction::Pre | Direction::Local => -100,
        Direction::Post => 100,
    }
}
