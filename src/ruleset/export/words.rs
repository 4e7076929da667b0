#![forbid(unsafe_code)]
//! What stands beside a statement: how the kernel's rule answers those whom it refuses, why a rule is none,
//! and text that is safe in a comment.

use crate::plan::listed::{LogDetail, RulePart};
use crate::plan::{PacketVerdict, Reject, Rule};
use crate::ruleset::ast::proto;

/// Longest comment that shows a rule, bytes.
const COMMENT_MAX: usize = 4096;

/// The rule that refuses as the language does, and how the kernel's answers if the language has no word for
/// that. The same packets are refused.
#[inline(never)]
pub(super) fn answered(part: &RulePart) -> Result<(RulePart, &str), &'static str> {
    let one = RulePart { logs: LogDetail::Usual, answer: String::new(), ..part.clone() };
    if part.rule.verdict == PacketVerdict::Reject(Reject::Reset) && part.rule.proto != Some(proto::TCP) {
        return Err("it resets what may not be TCP");
    }
    Ok((one, &part.answer))
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
