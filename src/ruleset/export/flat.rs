#![forbid(unsafe_code)]
//! The rules of a base chain with those of the chains that they jump to in their places. The language has no
//! jumps: what cannot be followed exactly is not followed.

use super::except;
use crate::base::range::Family;
use crate::plan::listed::{ListedChain, ListedRule, ListedTable, RulePart};
use crate::plan::{PacketVerdict, Policy, Rule, meet};

/// Chains within chains, as in the kernel (NFT_JUMP_STACK_SIZE).
const DEPTH_MAX: usize = 16;
/// Rules that a chain may become, and jumps that are followed: chains that jump twice each would double them.
const RULES_MAX: usize = 50_000;
const STEPS_MAX: usize = 50_000;

/// A rule as it would stand in the base chain.
pub(super) struct Flat {
    /// As in `ListedRule`, without targets.
    pub parts: Result<Vec<RulePart>, String>,
    pub text: String,
    /// Where it stands in the kernel.
    pub chain: String,
}

impl Flat {
    /// The rule if it is a single one.
    pub(super) fn one(&self) -> Option<&RulePart> {
        match self.parts.as_deref() {
            Ok([part]) => Some(part),
            _ => None,
        }
    }
}

/// What is known of the chains of all tables, each by its table's title.
#[derive(Default)]
pub(super) struct FlatState {
    /// Names of the chains of the table that was asked for last, sorted.
    names: (String, Vec<(String, usize)>),
    said: Vec<(String, usize)>,
    lost: Vec<(String, usize)>,
    /// Chains with buckets that stand somewhere already.
    bounded: Vec<(String, usize)>,
    /// Those that would stand at two places: two buckets would let through twice as much.
    shared: Vec<(String, usize)>,
    /// Jumps that were followed.
    steps: usize,
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
    fn last_busy(&mut self, table: &ListedTable, rules: &[ListedRule]) -> Option<usize> {
        rules.iter().rposition(|rule| !self.does_nothing(table, rule, 0))
    }

    /// Forgets what was said, but not what is shared.
    pub(super) fn again(&mut self) {
        *self = FlatState { shared: std::mem::take(&mut self.shared), ..FlatState::default() };
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

/// The rules of a chain, or of a part of it, with those of other chains in their places.
pub(super) fn flatten(
    state: &mut FlatState,
    table: &ListedTable,
    chain: &ListedChain,
    rules: &[ListedRule],
) -> Vec<Flat> {
    let mut out = Vec::new();
    let whole = rules.len() == chain.rules.len();
    let busy = if whole { state.last_busy(table, rules) } else { Some(rules.len()) };
    for (at, rule) in rules.iter().enumerate() {
        let (before, said) = (out.len(), state.said.len());
        let behind = Following::behind(at, busy);
        let place = Place { chain: &chain.name, back: Following::Nothing, behind };
        if let Err(why) = (Jump { table, state, depth: 0 }).rule(rule, place, None, &mut out) {
            state.said.truncate(said);
            out.truncate(before);
            out.push(Flat { parts: Err(why), text: rule.text.clone(), chain: chain.name.clone() });
        }
    }
    // What returns at the end of all has nothing to pass over.
    let returns = |part: &RulePart| {
        part.rule.verdict == PacketVerdict::Return && part.rule.log.is_none() && part.rule.changes.is_empty()
    };
    while whole
        && out.last().is_some_and(|flat| flat.parts.as_ref().is_ok_and(|parts| parts.iter().all(returns)))
    {
        out.pop();
    }
    out
}

/// What comes behind a rule, or where a chain leads back to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Following {
    /// Nothing with an effect before the policy.
    Nothing,
    /// Rules that packets must not come to which are past them.
    Rules,
}

/// Where a rule stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    chain: &'p str,
    /// Behind the rule that led to the chain; of a base chain, its policy.
    back: Following,
    /// Behind the rule itself, in the chain.
    behind: Following,
}

/// Who has left a chain by a rule, undecided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leavers {
    Nobody,
    /// Those that it matches: the rules behind it are for the others.
    Matching,
}

/// On whom the rules of a chain decide.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChainEnd {
    Some,
    All,
}

struct Jump<'a> {
    table: &'a ListedTable,
    state: &'a mut FlatState,
    depth: usize,
}

impl Jump<'_> {
    /// Adds a rule as it is for the packets that `outer` matches.
    fn rule(
        &mut self,
        rule: &ListedRule,
        place: Place<'_>,
        outer: Option<&Rule>,
        out: &mut Vec<Flat>,
    ) -> Result<Leavers, String> {
        let flat = |parts| Flat { parts, text: rule.text.clone(), chain: place.chain.to_owned() };
        let parts = match &rule.parts {
            Ok(parts) => parts,
            Err(why) => {
                out.push(flat(Err(why.clone())));
                return Ok(Leavers::Nobody);
            }
        };
        let jumps = parts.iter().any(|part| part.to.is_some());
        let (mut plain, mut gone) = (Vec::new(), Leavers::Nobody);
        for part in parts {
            let mut met = part.clone();
            // Without a packet that matches both there is nothing to say.
            if let Some(outer) = outer
                && !meet::rules(outer, &mut met.rule)?
            {
                continue;
            }
            // Two looks at an interface may leave none.
            if meet::never(&met.rule) {
                continue;
            }
            let leaves = match &part.to {
                None => outer.is_some() && part.rule.verdict == PacketVerdict::Return,
                Some(to) => {
                    let back = if to.back { place.behind.max_of(place.back) } else { place.back };
                    let decided = self.to(&to.chain, back, &met.rule, out)?;
                    !to.back && decided == ChainEnd::Some
                }
            };
            match (place.back, place.behind) {
                _ if !leaves && part.to.is_none() => plain.push(met),
                _ if !leaves => {}
                // For the policy to say, whatever the rules between would.
                (Following::Nothing, Following::Rules) => {
                    (met.rule.verdict, met.to) = (PacketVerdict::Return, None);
                    out.push(flat(Ok(vec![met])));
                }
                // There would be no rule that does it.
                _ if part.rule.log.is_some() || !part.rule.changes.is_empty() => {
                    return Err("it logs or changes packets and returns".into());
                }
                (_, Following::Nothing) => {}
                _ => gone = Leavers::Matching,
            }
        }
        if jumps {
            out.extend(plain.into_iter().map(|part| flat(Ok(vec![part]))));
        } else if !plain.is_empty() {
            out.push(flat(Ok(plain)));
        }
        if out.len() > RULES_MAX { Err("its chains have too many rules".into()) } else { Ok(gone) }
    }

    /// Adds the rules of a chain that a rule leads to, and notes it where that cannot be.
    fn to(
        &mut self,
        name: &str,
        back: Following,
        outer: &Rule,
        out: &mut Vec<Flat>,
    ) -> Result<ChainEnd, String> {
        let at = self.state.find(self.table, name).ok_or("it leads to a chain that does not exist")?;
        if outer.log.is_none() && outer.changes.is_empty() && self.state.is_idle(self.table, at, 0) {
            return Ok(ChainEnd::Some);
        }
        let followed = self.follow(at, back, outer, out);
        if followed.is_err() {
            self.state.lost.push((self.table.title.clone(), at));
        }
        followed
    }

    #[inline(never)]
    fn follow(
        &mut self,
        at: usize,
        back: Following,
        outer: &Rule,
        out: &mut Vec<Flat>,
    ) -> Result<ChainEnd, String> {
        let table = self.table;
        let chain = table.chains.get(at).ok_or("it leads to a chain that does not exist")?;
        let name = chain.name.as_str();
        if outer.limit.is_some() || outer.log.is_some() || !outer.changes.is_empty() {
            return Err("it limits, logs or changes packets and then leads to another chain".into());
        }
        self.state.steps += 1;
        if self.depth == DEPTH_MAX || self.state.steps > STEPS_MAX {
            return Err("too many chains within chains".into());
        }
        let bounded = super::parts(&chain.rules).iter().any(|part| part.rule.limit.is_some());
        let here = (table.title.clone(), at);
        if bounded && self.state.bounded.contains(&here) {
            self.state.shared.push(here.clone());
        }
        if self.state.shared.contains(&here) {
            return Err(["the limits of the chain ", name, " are shared with other rules"].concat());
        }
        if bounded {
            self.state.bounded.push(here);
        }
        // What the rule behind one of these decides is not for all packets, and for which ones cannot be
        // said.
        if chain.rules.iter().any(|rule| rule.leaves && rule.parts.is_err()) {
            return Err(
                ["a rule of the chain ", name, " that packets may leave it by cannot be expressed"].concat()
            );
        }
        self.depth += 1;
        let result = self.inside(chain, back, outer, out);
        self.depth -= 1;
        let gone = result?;
        self.state.said(table, at);
        let ends =
            |rule: &ListedRule| matches!(rule.parts.as_deref(), Ok([part]) if is_end(part, table.family));
        // What the last rule decides on is not what an earlier one let out.
        let all = gone == Leavers::Nobody && chain.rules.last().is_some_and(ends);
        Ok(if all { ChainEnd::All } else { ChainEnd::Some })
    }

    /// The rules of a chain; whether some packets leave it undecided by one of them. A jump out of it that
    /// cannot be followed comes back: it is shown in its place.
    fn inside(
        &mut self,
        chain: &ListedChain,
        back: Following,
        outer: &Rule,
        out: &mut Vec<Flat>,
    ) -> Result<Leavers, String> {
        let (name, mut outer) = (chain.name.as_str(), outer.clone());
        let busy = self.state.last_busy(self.table, &chain.rules);
        let mut gone = Leavers::Nobody;
        for (at, rule) in chain.rules.iter().enumerate() {
            let (before, said) = (out.len(), self.state.said.len());
            let behind = Following::behind(at, busy);
            match self.rule(rule, Place { chain: name, back, behind }, Some(&outer), out) {
                Ok(Leavers::Nobody) => {}
                Ok(Leavers::Matching) => {
                    gone = Leavers::Matching;
                    if !except::except(&mut outer, rule, self.table.family)? {
                        break;
                    }
                }
                Err(why) if rule.leaves => return Err(why),
                Err(why) => {
                    self.state.said.truncate(said);
                    out.truncate(before);
                    out.push(Flat { parts: Err(why), text: rule.text.clone(), chain: name.to_owned() });
                }
            }
        }
        Ok(gone)
    }
}

impl Following {
    /// What comes behind a rule, if this one is the last that does something.
    fn behind(at: usize, busy: Option<usize>) -> Following {
        if busy.is_some_and(|last| last > at) { Following::Rules } else { Following::Nothing }
    }

    /// What comes behind both.
    fn max_of(self, other: Following) -> Following {
        if self == Following::Nothing { other } else { self }
    }
}

/// Whether a rule decides on every packet of its table.
fn is_end(part: &RulePart, family: Option<Family>) -> bool {
    let decides = matches!(
        part.rule.verdict,
        PacketVerdict::Accept | PacketVerdict::Drop | PacketVerdict::Reject(_) | PacketVerdict::Nat(_)
    );
    let all = Rule { changes: part.rule.changes.clone(), ..Rule::new(part.rule.verdict) };
    let rule = Rule { family: part.rule.family.filter(|of| family != Some(*of)), ..part.rule.clone() };
    decides && part.rule.limit.is_none() && meet::same(&rule, &all)
}

/// A rule that only logs, before one that decides on the same packets: one rule that logs and decides.
#[inline(never)]
pub(super) fn fold_logs(rules: &mut Vec<Flat>) {
    let mut at = 0;
    while at + 1 < rules.len() {
        let one = |at| Some(&rules.get(at).and_then(Flat::one)?.rule);
        let log = one(at)
            .zip(one(at + 1))
            .filter(|(a, b)| is_log_of(a, b))
            .and_then(|(a, _)| Some((a.log.clone()?, a.log_to)));
        if let Some((log, to)) = log {
            rules.remove(at);
            if let Some(Ok([next])) = rules.get_mut(at).map(|flat| flat.parts.as_deref_mut()) {
                (next.rule.log, next.rule.log_to) = (Some(log), to);
            }
        }
        at += 1;
    }
}

/// Whether a rule only logs what the one behind it decides on.
fn is_log_of(a: &Rule, b: &Rule) -> bool {
    let only_logs =
        a.log.is_some() && a.limit.is_none() && a.verdict == PacketVerdict::Next && a.changes.is_empty();
    let decides = b.log.is_none() && b.limit.is_none() && b.verdict != PacketVerdict::Next;
    only_logs && decides && b.verdict != PacketVerdict::Return && meet::same(a, b) && single_answer(b)
}

/// Whether the language refuses these packets by one rule of the kernel.
fn single_answer(rule: &Rule) -> bool {
    !matches!(rule.verdict, PacketVerdict::Reject(_)) || rule.proto.is_some()
}

/// What returns from a base chain is left to its policy.
pub(super) fn end_by_policy(rules: &mut [Flat], policy: Policy) {
    for flat in rules {
        for part in flat.parts.as_deref_mut().unwrap_or_default() {
            if part.rule.verdict == PacketVerdict::Return {
                part.rule.verdict =
                    if policy == Policy::Accept { PacketVerdict::Accept } else { PacketVerdict::Drop };
            }
        }
    }
}
