#![forbid(unsafe_code)]
//! Rules of others in fewer words, when those of all chains stand in their order.

use super::flat::Flat;
use crate::plan::listed::LogDetail;
use crate::plan::{Direction, PacketVerdict, Policy, Rule, meet};

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
            let detail = rules.remove(at).one().map_or(LogDetail::Usual, |part| part.logs);
            if let Some(Ok([next])) = rules.get_mut(at).map(|flat| flat.parts.as_deref_mut()) {
                (next.rule.log, next.rule.log_to, next.logs) = (Some(log), to, detail);
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

/// No packet that leaves this host has come in by an interface, and none for it goes out by one: no name is
/// theirs.
pub(super) fn know_interfaces(rules: &mut [Flat], dir: Direction) {
    for parts in rules.iter_mut().filter_map(|flat| flat.parts.as_mut().ok()) {
        parts.retain_mut(|part| {
            let lists = [(dir.comes_in(), &mut part.rule.iif), (dir.goes_out(), &mut part.rule.oif)];
            lists.into_iter().all(|(is_known, list)| {
                let names = if is_known { None } else { list.take() };
                names.is_none_or(|names| names.not)
            })
        });
    }
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
