#![forbid(unsafe_code)]
//! The rules of a base chain with those of the chains that they jump to in their places. The language has no
//! jumps: what cannot be followed exactly is not followed.

use super::except;
use super::state::FlatState;
use crate::base::range::Family;
use crate::plan::listed::{ChainBase, ListedChain, ListedRule, ListedTable, RulePart};
use crate::plan::{Direction, PacketVerdict, Rule, meet};

/// Chains within chains, as in the kernel (NFT_JUMP_STACK_SIZE).
pub(super) const DEPTH_MAX: usize = 16;
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

/// The rules of a chain, or of a part of it, with those of other chains in their places.
pub(super) fn flatten(
    state: &mut FlatState,
    table: &ListedTable,
    chain: &ListedChain,
    rules: &[ListedRule],
) -> Vec<Flat> {
    let mut out = Vec::new();
    state.leads = matches!(chain.base, ChainBase::Filter(dir, ..) if Direction::ALL.contains(&dir));
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
pub(super) enum Following {
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
pub(super) enum Leavers {
    Nobody,
    /// Those that it matches: the rules behind it are for the others.
    Matching,
}

/// On whom the rules of a chain decide.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChainEnd {
    Some,
    All,
}

pub(super) struct Jump<'a> {
    pub table: &'a ListedTable,
    pub state: &'a mut FlatState,
    pub depth: usize,
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
            let lines = out.len();
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
                    let once =
                        met.rule.limit.is_some() || met.rule.log.is_some() || !met.rule.changes.is_empty();
                    if once && out.len() > lines {
                        return Err("it limits, logs or changes packets, and would be two rules".into());
                    }
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
        let known = self.state.apart(self.table, at).map(str::to_owned);
        if known.is_some()
            && let Some(end) = self.grouped(at, outer, out)
        {
            return Ok(end);
        }
        let (before, said) = (out.len(), self.state.said.len());
        let why = match self.follow(at, back, outer, out) {
            Ok(end) => return Ok(end),
            Err(why) => known.unwrap_or(why),
        };
        out.truncate(before);
        self.state.said.truncate(said);
        let ended = self.set_apart(at, &why).and_then(|()| self.grouped(at, outer, out));
        if ended.is_none() {
            self.state.lost.push(self.here(at));
        }
        ended.ok_or(why)
    }

    pub(super) fn here(&self, at: usize) -> (String, usize) {
        (self.table.title.clone(), at)
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
        if super::parts(&chain.rules).iter().any(|part| part.rule.limit.is_some()) {
            if self.state.bounded.contains(&self.here(at)) {
                self.state.shared.push(self.here(at));
            }
            if self.state.shared.contains(&self.here(at)) {
                return Err(["the limits of the chain ", name, " are shared with other rules"].concat());
            }
            self.state.bounded.push(self.here(at));
        }
        if has_unknown_way_out(chain) {
            return Err(
                ["a rule of the chain ", name, " that packets may leave it by cannot be expressed"].concat()
            );
        }
        self.depth += 1;
        let result = self.inside(chain, back, outer, out);
        self.depth -= 1;
        let gone = result?;
        self.state.said(table, at);
        Ok(self.end(chain, gone))
    }

    /// On whom a chain decides that packets leave like this.
    pub(super) fn end(&self, chain: &ListedChain, gone: Leavers) -> ChainEnd {
        let family = self.table.family;
        let ends = |rule: &ListedRule| matches!(rule.parts.as_deref(), Ok([part]) if is_end(part, family));
        // What the last rule decides on is not what an earlier one let out.
        let all = gone == Leavers::Nobody && chain.rules.last().is_some_and(ends);
        if all { ChainEnd::All } else { ChainEnd::Some }
    }

    /// The rules of a chain; whether some packets leave it undecided by one of them. A jump out of it that
    /// cannot be followed comes back: it is shown in its place.
    pub(super) fn inside(
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

/// Whether packets leave a chain by a rule of which it cannot be said which ones do: what the rules behind it
/// decide is not for all packets.
pub(super) fn has_unknown_way_out(chain: &ListedChain) -> bool {
    chain.rules.iter().any(|rule| rule.leaves && rule.parts.is_err())
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
