#![forbid(unsafe_code)]
//! What of the table `inet mef` is of `mef load`, and what others have put there.

use super::{origin, parts, statement};
use crate::plan::listed::{ChainBase, ListedChain, ListedRule, ListedTable, hook};
use crate::plan::{Direction, Policy};
use crate::ruleset::ast::Action;

/// Whether a base chain of our table is the one that `mef load` makes for this direction.
pub(super) fn is_own(dir: Direction, chain: &ListedChain) -> bool {
    let at = |priority: i32| priority == crate::plan::listed::priority(dir);
    chain.name == hook(dir) && matches!(chain.base, ChainBase::Filter(_, priority, _) if at(priority))
}

/// The rules of a base chain of ours that are statements, those for loopback apart from the others, which
/// then see nothing of it. The rest is what `mef load` adds by itself.
pub(super) fn stated(dir: Direction, chain: &ListedChain) -> (bool, [&[ListedRule]; 2]) {
    let rejects = ends_rejecting(chain);
    let rules = match rejects {
        true => chain.rules.get(..chain.rules.len().saturating_sub(2)).unwrap_or_default(),
        false => &chain.rules,
    };
    let action = match chain.base {
        ChainBase::Filter(.., Policy::Drop) if rejects => Action::Reject,
        ChainBase::Filter(.., Policy::Drop) => Action::Drop,
        _ => Action::Accept,
    };
    let (of_lo, ends) = statement::loopback(dir, rules, action);
    let (head, rest) = rules.split_at_checked(of_lo).unwrap_or_default();
    (of_lo > 0, [head.get(..of_lo - ends).unwrap_or_default(), rest])
}

/// Whether another program has made the table of that name, or has put base chains or rules into it.
#[must_use]
pub fn is_foreign(table: &ListedTable) -> bool {
    let tables = std::slice::from_ref(table);
    let own =
        |dir| super::chains(tables, dir).into_iter().filter(|(_, chain)| is_own(dir, chain)).count() == 1;
    let bases = table.chains.iter().filter(|chain| chain.base != ChainBase::None).count();
    let others = |chain: &ListedChain| match chain.base {
        ChainBase::Filter(dir, ..) => {
            stated(dir, chain).1.iter().any(|part| part.iter().any(|rule| origin(rule) == 0))
        }
        _ => false,
    };
    let known = Direction::EVERY.into_iter().filter(|dir| own(*dir)).count();
    !Direction::ALL.into_iter().all(own) || bases != known || table.chains.iter().any(others)
}

/// Whether a chain ends as `policy action=reject` makes it.
pub(super) fn ends_rejecting(chain: &ListedChain) -> bool {
    let ChainBase::Filter(.., Policy::Drop) = chain.base else { return false };
    let from = chain.rules.len().saturating_sub(2);
    let last = chain.rules.get(from..).unwrap_or_default();
    statement::policy_rejects(&parts(last))
}
