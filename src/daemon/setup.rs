#![forbid(unsafe_code)]
//! From the configuration to what the loop needs: rules to detect, policies to act by, files to follow.

use super::judge::Tally;
use super::punish;
use super::sources::Wants;
use crate::base::clock::{Mono, Span};
use crate::base::program::Program;
use crate::config::{Action, Enabled, Flood, Loaded, ServiceRule, Source};
use crate::control::proto::KERNEL;
use crate::detect::escalate::Charge;
use crate::detect::tracker::Limits;
use crate::detect::{MAX_RULES, Rule};
use crate::firewall::guard::{FLOODS, Scope};
use crate::input::Tags;
use crate::input::glob::Glob;
use crate::input::journal::{Journal, Wanted};
use crate::rules::Compiled;
use std::cell::Cell;
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
    /// It reads what a syslog daemon has written down, wherever that is not said by the source.
    pub(super) of_syslog: bool,
    /// When there was a hit of which nobody knows the sender.
    pub(super) hearsay: Cell<Option<Mono>>,
    /// Where it reads, for people.
    pub(super) source: &'static str,
    pub(super) tally: Tally,
}

impl Policy {
    /// Whether something that counts now is only known from a log that any local process can write to.
    pub(super) fn is_hearsay(&self, now: Mono) -> bool {
        let window = u64::from(self.limits.findtime) * 1000;
        self.hearsay.get().is_some_and(|at| now.since(at) <= window)
    }
}

/// The rules that are on, each with its policy and bit, and what to read for them. One policy more than rules
/// is that of floods.
pub(super) struct Plan {
    pub(super) rules: Vec<Rule>,
    pub(super) policies: Vec<Policy>,
    pub(super) wants: Wants,
}

pub(super) fn plan(loaded: &Loaded, mut compiled: Compiled) -> Plan {
    let on = || loaded.rules.iter().filter(|rule| rule.enabled != Enabled::False);
    let room = on().count().min(MAX_RULES);
    let mut plan = Plan {
        rules: Vec::with_capacity(room),
        policies: Vec::with_capacity(room + 1),
        wants: Wants::default(),
    };
    let dirs = Journal::dirs();
    for rule in on() {
        if plan.rules.len() == MAX_RULES {
            log::warn!("rule {}: more than {MAX_RULES} rules are on; the rule is off", rule.name);
            continue;
        }
        let Some(compiled) = compiled.take(&rule.name) else { continue };
        want(&mut plan.wants, rule, Tags(1 << plan.rules.len()), dirs.as_ref());
        if rule.trust_any && (rule.bantime == Span::Permanent || rule.escalation_enabled) {
            log::warn!(
                "rule {}: with trust=any anybody can forge the evidence: its bans are never permanent",
                rule.name
            );
        }
        plan.policies.push(policy(rule, &compiled));
        // A copy, among what stays: what was read passes.
        plan.rules.push(compiled.clone());
    }
    if loaded.settings.flood.enabled {
        plan.policies.push(flood(&loaded.settings.flood));
    }
    plan
}

/// What becomes of the hits of a service rule.
pub(super) fn policy(rule: &ServiceRule, compiled: &Rule) -> Policy {
    let scope = crate::enforce::scope(rule);
    // What counts requests is not the tracker.
    let limits = match &compiled.webscan {
        Some(web) => Limits::plain(web.longest(), 1),
        None => crate::rules::limits(rule, compiled),
    };
    Policy {
        name: rule.name.as_str().into(),
        limits,
        charge: punish::charge(rule, &scope),
        scope,
        detect: rule.action == Action::Detect,
        trust_any: rule.trust_any,
        // A name in a line is only needed where many write.
        of_syslog: !rule.programs.is_empty() || rule.files.iter().any(|file| crate::rules::of_syslog(file)),
        hearsay: Cell::new(None),
        source: rule.source.word(),
        tally: Tally::default(),
    }
}

/// What becomes of those who flood again and again: each time that the kernel brings somebody into the
/// throttle is a hit.
fn flood(flood: &Flood) -> Policy {
    if flood.bantime == Span::Permanent {
        log::warn!("ddos_bantime=permanent: anybody can forge packets: its bans last bantime_max at most");
    }
    // Who is in the throttle cannot come into it: that time does not count.
    let inside = flood.stage1_timeout.saturating_mul(flood.escalation_hits.saturating_sub(1));
    Policy {
        name: FLOODS.into(),
        limits: Limits::plain(flood.escalation_window.saturating_add(inside), flood.escalation_hits),
        charge: punish::charge_of(flood.bantime, None, true, &Scope::ALL),
        scope: Scope::ALL,
        detect: !flood.escalation_enabled,
        trust_any: false,
        of_syslog: false,
        hearsay: Cell::new(None),
        source: KERNEL,
        tally: Tally::default(),
    }
}

/// Adds what a rule reads.
fn want(wants: &mut Wants, rule: &ServiceRule, bit: Tags, dirs: Option<&[PathBuf; 2]>) {
    match rule.source {
        Source::Syslog => wants.syslog = wants.syslog.and(bit),
        Source::Kmsg => wants.kmsg = wants.kmsg.and(bit),
        Source::Command => wants.command(&rule.command, bit),
        Source::Journal if dirs.is_some() => journal(wants, rule, bit),
        Source::Journal => wants.no_journal = wants.no_journal.and(bit),
        Source::File => files(wants, rule, bit),
        Source::Auto => {
            // A service that writes a file of its own does not write to the journal. Without programs nobody
            // could tell its messages from others' there.
            let common =
                !rule.programs.is_empty() && rule.files.iter().all(|file| crate::rules::of_syslog(file));
            if common && dirs.is_some_and(Journal::exists) {
                return journal(wants, rule, bit);
            }
            files(wants, rule, bit);
            if common {
                wants.auto = wants.auto.and(bit);
            }
        }
    }
}

fn journal(wants: &mut Wants, rule: &ServiceRule, bit: Tags) {
    let programs = rule.programs.iter().map(|name| Program::new(name)).collect();
    wants.journal.push(Wanted { programs, tags: bit });
}

fn files(wants: &mut Wants, rule: &ServiceRule, bit: Tags) {
    for file in &rule.files {
        match Glob::parse(file.as_bytes()) {
            Ok(glob) => wants.globs.push((glob, bit)),
            Err(why) => log::warn!("rule {}: files={file}: {why}", rule.name),
        }
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
