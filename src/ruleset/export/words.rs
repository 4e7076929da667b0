#![forbid(unsafe_code)]
//! What stands beside a statement: how the kernel's rule answers those whom it refuses, why a rule is none,
//! and text that is safe in a comment.

use crate::plan::listed::{LogDetail, RulePart};
use crate::plan::{Field, PacketVerdict, Reject, Rule};
use crate::ruleset::ast::proto;

/// Longest comment that shows a rule, bytes.
const COMMENT_MAX: usize = 4096;

/// The rules that refuse as the language does, and how the kernel's rule answers if that is another way. The
/// same packets are refused.
#[inline(never)]
pub(super) fn answered(part: &RulePart) -> Result<(Vec<RulePart>, &str), &'static str> {
    let tcp = Some(proto::TCP);
    // Several protocols, TCP among them, are refused by two rules as all of them are.
    let of_proto = |test: &crate::plan::Test| test.field == Field::Proto;
    let listed = part.rule.tests.iter().find(|test| of_proto(test));
    let other = listed.is_some_and(|test| test.passes(proto::TCP.into()) == Some(false));
    let several = part.rule.proto.is_none() && !other;
    let (mut all, mut one) = (Vec::new(), RulePart { logs: LogDetail::Usual, ..part.clone() });
    let PacketVerdict::Reject(reject) = part.rule.verdict else { return Ok((vec![one], "")) };
    let note = if part.answer.is_empty() { "icmpx port-unreachable" } else { part.answer.as_str() };
    let note = match part.rule.proto {
        proto if reject == Reject::Reset && proto != tcp => return Err("it resets what may not be TCP"),
        None if other => part.answer.as_str(),
        None if part.rule.limit.is_some() || part.rule.log.is_some() => {
            return Err("it refuses every protocol, and limits or logs them");
        }
        proto if proto.is_some() && (proto != tcp || reject == Reject::Reset) => part.answer.as_str(),
        _ => note,
    };
    one.answer.clear();
    if several {
        all.push(one.clone());
    }
    all.push(one);
    for (i, one) in all.iter_mut().enumerate() {
        // Of two, the first one is for TCP.
        let reset = part.rule.proto == tcp || several && i == 0;
        one.rule.verdict = PacketVerdict::Reject(if reset { Reject::Reset } else { Reject::PortUnreachable });
        one.rule.proto = if reset { tcp } else { part.rule.proto };
        if reset {
            one.rule.tests.retain(|test| !of_proto(test));
        }
    }
    Ok((all, note))
}

/// Why a rule of a plan is no statement.
pub(super) fn why_not(rule: &Rule) -> &'static str {
    match rule.limit {
        Some(limit) if limit.over => "it matches what is over a limit",
        _ => "the language cannot express this combination",
    }
}

/// Text that ends neither a comment nor a line, and does nothing to a terminal.
pub(super) fn harmless(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if out.len() > COMMENT_MAX {
            out.push_str("...");
            break;
        }
        out.push(if c.is_control() || turns(c) { '?' } else { c });
    }
    out
}
