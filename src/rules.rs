#![forbid(unsafe_code)]
//! From service rules as files say them to rules as the detector runs them: patterns are compiled, and what
//! is wrong with one is told at its place in the file.

mod host;

pub use host::{of_syslog, on};

use crate::base::diag::Problem;
use crate::config::{Enabled, ServiceRule, Spanned};
use crate::detect::{Program, Rule};
use crate::pattern::Pattern;

/// Compiles a rule's patterns.
///
/// # Errors
/// Every pattern that cannot be compiled, with its place.
pub fn compile(rule: &ServiceRule) -> Result<Rule, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut pattern = |text: &Spanned, need_ip| {
        let compiled = Pattern::new(&text.text, need_ip);
        compiled.map_err(|e| problems.push(text.problem(e.at, e.what, e.hint))).ok()
    };
    let fail: Vec<_> =
        rule.fail.iter().filter_map(|(text, weight)| Some((pattern(text, true)?, *weight))).collect();
    let ignore: Vec<_> = rule.ignore.iter().filter_map(|text| pattern(text, false)).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let programs = rule.programs.iter().map(|name| Program::new(name)).collect();
    Ok(Rule { name: rule.name.as_str().into(), programs, fail, ignore })
}

/// For `config::load`: adds what is wrong with a rule's patterns.
pub fn check(rule: &mut ServiceRule, problems: &mut Vec<Problem>) {
    if let Err(more) = compile(rule) {
        problems.extend(more);
    }
}

/// For `config::load` in the daemon: what is not on here is switched off before its patterns cost anything.
pub fn check_here(rule: &mut ServiceRule, problems: &mut Vec<Problem>) {
    if on(rule).0 {
        return check(rule, problems);
    }
    rule.enabled = Enabled::False;
    rule.fail = Vec::new();
    rule.ignore = Vec::new();
}
