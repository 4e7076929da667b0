#![forbid(unsafe_code)]
//! The language of mef.rules: text to statements, checks, canonical text, and the way to and from `plan`.
//! Knows neither the kernel nor netlink.

pub mod ast;

use ast::{Place, Statement};

/// A rule set that can be loaded: no statement of it has an error, and every include is expanded.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// The files, in the order in which they were first read.
    pub files: Vec<String>,
    /// Policies, rules and sets in the order in which they count.
    pub statements: Vec<(Place, Statement)>,
}
