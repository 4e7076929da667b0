#![forbid(unsafe_code)]
//! From the configuration to what the loop needs: rules to detect, policies to act by, files to follow.

use super::punish;
use super::sources::Wants;
use crate::base::clock::Span;
use crate::config::{Action, Enabled, Engine, Loaded, ServiceRule, Source};
use crate::detect::escalate::Charge;
use crate::detect::tracker::Limits;
use crate::detect::{MAX_RULES, Rule};
use crate::firewall::guard::Scope;
use crate::input::Tags;
use crate::input::glob::Glob;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// What becomes of a rule's hits.
pub(super) struct Policy {
    pub(super) name: Box<str>,
    pub(super) limits: Limits,
    /// What its bans are to be.
    pub(super) charge: Charge,
    pub(super) scope: Scope,
    /// Only tell.
    pub(super) detect: bool,
    /// Take records from any sender.
    pub(super) trust_any: bool,
}

/// The rules that are on, each with its policy and bit, and what to read for them.
pub(super) struct Plan {
    pub(super) rules: Vec<Rule>,
    pub(super) policies: Vec<Policy>,
    pub(super) wants: Wants,
}

pub(super) fn plan(loaded: &Loaded) -> Plan {
    let mut plan = Plan { rules: Vec::new(), policies: Vec::new(), wants: Wants { globs: Vec::new() } };
    for rule in loaded.rules.iter().filter(|rule| rule.enabled != Enabled::False) {
        if let Some(why) = unable(rule) {
            // A built-in rule that has nothing to do here is no news.
            if rule.enabled == Enabled::True {
                log::warn!("rule {}: {why}; the rule is off", rule.name);
            }
            continue;
        }
        if plan.rules.len() == MAX_RULES {
            log::warn!("rule {}: more than {MAX_RULES} rules are on; the rule is off", rule.name);
            continue;
        }
        let Ok(compiled) = crate::rules::compile(rule) else { continue };
        let bit = Tags(1 << plan.rules.len());
        for file in &rule.files {
            match Glob::parse(file.as_bytes()) {
                Ok(glob) => plan.wants.globs.push((glob, bit)),
                Err(why) => log::warn!("rule {}: files={file}: {why}", rule.name),
            }
        }
        let scope = crate::enforce::scope(rule);
        if rule.trust_any && (rule.bantime == Span::Permanent || rule.escalation_enabled) {
            log::warn!(
                "rule {}: with trust=any anybody can forge the evidence: its bans are never permanent",
                rule.name
            );
        }
        plan.rules.push(compiled);
        plan.policies.push(Policy {
            name: rule.name.as_str().into(),
            limits: Limits { findtime: rule.findtime, maxretry: rule.maxretry },
            charge: punish::charge(rule, &scope),
            scope,
            detect: rule.action == Action::Detect,
            trust_any: rule.trust_any,
        });
    }
    plan
}

/// Why a rule cannot run, if so.
fn unable(rule: &ServiceRule) -> Option<&'static str> {
    match (rule.source, rule.engine) {
        (_, Engine::Webscan) => Some("engine=webscan is not in this version"),
        (Source::Auto | Source::File, _) if rule.files.is_empty() => Some("it names no files"),
        (Source::Auto | Source::File, _) => None,
        _ => Some("this version reads files only (source=file)"),
    }
}

/// A path from the bytes in which positions keep it.
pub(super) fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

/// A path's bytes.
pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
