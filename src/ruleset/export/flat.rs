#![forbid(unsafe_code)]
//! The rules of a base chain with those of the chains that they jump to in their places. The language has no
//! jumps: what cannot be followed exactly is not followed.

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
    for rule in rules {
        let before = out.len();
        let one = Jump { table, state, depth: 0 }.rule(rule, &chain.name, None, &mut out);
        if let Err(why) = one {
            out.truncate(before);
            out.push(Flat { parts: Err(why), text: rule.text.clone(), chain: chain.name.clone() });
        }
    }
    out
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
        chain: &str,
        outer: Option<&Rule>,
        out: &mut Vec<Flat>,
    ) -> Result<(), String> {
        let flat = |parts| Flat { parts, text: rule.text.clone(), chain: chain.to_owned() };
        let parts = match &rule.parts {
            Ok(parts) => parts,
            Err(why) => {
                out.push(flat(Err(why.clone())));
                return Ok(());
            }
        };
        let jumps = parts.iter().any(|part| part.to.is_some());
        let mut plain = Vec::new();
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
            match &part.to {
                None => plain.push(met),
                Some(to) => {
                    let followed = self.follow(&to.chain, to.back, &met.rule, out);
                    if let (Err(_), Some(at)) = (&followed, self.state.find(self.table, &to.chain)) {
                        self.state.lost.push((self.table.title.clone(), at));
                    }
                    followed?;
                }
            }
        }
        if jumps {
            out.extend(plain.into_iter().map(|part| flat(Ok(vec![part]))));
        } else if !plain.is_empty() {
            out.push(flat(Ok(plain)));
        }
        if out.len() > RULES_MAX { Err("its chains have too many rules".into()) } else { Ok(()) }
    }

    #[inline(never)]
    fn follow(&mut self, name: &str, back: bool, outer: &Rule, out: &mut Vec<Flat>) -> Result<(), String> {
        let table = self.table;
        let at = self.state.find(table, name).ok_or("it leads to a chain that does not exist")?;
        let chain = table.chains.get(at).ok_or("it leads to a chain that does not exist")?;
        if outer.limit.is_some() || outer.log.is_some() || !outer.changes.is_empty() {
            return Err("it limits, logs or changes packets and then leads to another chain".into());
        }
        self.state.steps += 1;
        if self.depth == DEPTH_MAX || self.state.steps > STEPS_MAX {
            return Err("too many chains within chains".into());
        }
        let (last, others) =
            chain.rules.split_last().map_or((None, &[][..]), |(last, rest)| (Some(last), rest));
        let ends = |rule: &ListedRule| matches!(rule.parts.as_deref(), Ok([part]) if is_end(part));
        if !back && !last.is_some_and(ends) {
            return Err(["packets do not come back from the chain ", name].concat());
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
        let returns = |part: &RulePart| part.rule.verdict == PacketVerdict::Return;
        // Behind the last rule packets return anyway.
        let rules = match last.map(|rule| rule.parts.as_deref()) {
            Some(Ok([part])) if returns(part) => others,
            _ => &chain.rules,
        };
        if super::parts(rules).into_iter().any(returns) {
            return Err(["some packets return from the chain ", name].concat());
        }
        // What the rule behind one of these decides is not for all packets, and for which ones cannot be
        // said.
        if rules.iter().any(|rule| rule.leaves && rule.parts.is_err()) {
            return Err(
                ["a rule of the chain ", name, " that packets may leave it by cannot be expressed"].concat()
            );
        }
        self.depth += 1;
        let result = self.inside(rules, name, outer, out);
        self.depth -= 1;
        result?;
        self.state.said(table, at);
        Ok(())
    }

    /// The rules of a chain. A jump out of it that cannot be followed comes back: it is shown in its place.
    fn inside(
        &mut self,
        rules: &[ListedRule],
        name: &str,
        outer: &Rule,
        out: &mut Vec<Flat>,
    ) -> Result<(), String> {
        for rule in rules {
            let before = out.len();
            if let Err(why) = self.rule(rule, name, Some(outer), out) {
                if rule.leaves {
                    return Err(why);
                }
                out.truncate(before);
                out.push(Flat { parts: Err(why), text: rule.text.clone(), chain: name.to_owned() });
            }
        }
        Ok(())
    }
}

/// Whether a rule decides on every packet.
fn is_end(part: &RulePart) -> bool {
    let decides = matches!(
        part.rule.verdict,
        PacketVerdict::Accept | PacketVerdict::Drop | PacketVerdict::Reject(_) | PacketVerdict::Nat(_)
    );
    let all = Rule { changes: part.rule.changes.clone(), ..Rule::new(part.rule.verdict) };
    decides && part.rule.limit.is_none() && meet::same(&part.rule, &all)
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
