//! Sets of service rules: a bit for each.

/// A set of rules, or of what reads for them.
pub type RuleBits = u128;
