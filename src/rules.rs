#![forbid(unsafe_code)]
//! From service rules as files say them to rules as the detector runs them: patterns are compiled, and what
//! is wrong with one is told at its place in the file.

mod host;

pub use host::{of_syslog, on};

use crate::base::diag::Problem;
use crate::config::{Enabled, Engine, ServiceRule, Spanned};
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
    let webscan = (rule.engine == Engine::Webscan).then(|| Box::new(rule.webscan.clone()));
    Ok(Rule { name: rule.name.as_str().into(), programs, fail, ignore, webscan })
}

/// For `config::load`: adds what is wrong with a rule's patterns.
pub fn check(rule: &mut ServiceRule, problems: &mut Vec<Problem>) {
    if let Err(more) = compile(rule) {
        problems.extend(more);
    }
}

/// Rules of the daemon, each compiled while its file is read: so no text of a pattern outlives that.
#[derive(Default)]
pub struct Compiled(Vec<Rule>);

impl Compiled {
    /// For `config::load`: compiles a rule; what is not on here is switched off before its patterns cost anything.
    pub fn add(&mut self, rule: &mut ServiceRule, problems: &mut Vec<Problem>) {
        if on(rule).0 {
            match compile(rule) {
                Ok(compiled) => self.0.push(compiled),
                Err(more) => problems.extend(more),
            }
        } else {
            rule.enabled = Enabled::False;
        }
        rule.fail = Vec::new();
        rule.ignore = Vec::new();
    }

    /// The rule of this name.
    pub fn take(&mut self, name: &str) -> Option<Rule> {
        let at = self.0.iter().position(|rule| *rule.name == *name)?;
        Some(self.0.swap_remove(at))
    }
}
