#![forbid(unsafe_code)]
//! From the configuration to what the loop needs: rules to detect, policies to act by, files to follow.

use super::policy::{self, ServicePolicy};
use super::sources::Wants;
use crate::base::clock::Span;
use crate::base::program::Program;
use crate::config::{Enabled, Loaded, LogFormat, ServiceRule, Source};
use crate::detect::{DetectRule, MAX_RULES};
use crate::dnsbl::Profile;
use crate::input::Tags;
use crate::input::glob::Glob;
use crate::input::journal::{JournalSource, WantedPrograms};
use crate::services::Compiled;
use std::path::PathBuf;

/// The rules that are on, each with its policy and bit, and what to read for them. Behind the policies of
/// rules are that of floods and those of DNSBLs.
pub(super) struct SetupPlan {
    pub(super) rules: Vec<DetectRule>,
    pub(super) policies: Vec<ServicePolicy>,
    pub(super) wants: Wants,
}

pub(super) fn plan(loaded: &Loaded, mut compiled: Compiled) -> SetupPlan {
    let on = || loaded.rules.iter().filter(|rule| rule.enabled != Enabled::False);
    let room = on().count().min(MAX_RULES);
    let mut plan = SetupPlan {
        rules: Vec::with_capacity(room),
        policies: Vec::with_capacity(room + 1),
        wants: Wants::default(),
    };
    let dirs = JournalSource::dirs();
    for rule in on() {
        if plan.rules.len() == MAX_RULES {
            log::warn!("rule {}: more than {MAX_RULES} rules are on; the rule is off", rule.name);
            continue;
        }
        let Some(compiled) = compiled.take(&rule.name) else { continue };
        let bit = Tags(1 << plan.rules.len());
        want(&mut plan.wants, rule, bit, dirs.as_ref());
        if rule.enabled == Enabled::Auto {
            plan.wants.by_itself = plan.wants.by_itself.and(bit);
        }
        if rule.trust_any && (rule.bantime == Span::Permanent || rule.escalation_enabled) {
            log::warn!(
                "rule {}: with trust=any anybody can forge the evidence: its bans are never permanent",
                rule.name
            );
        }
        plan.policies.push(policy::of(rule, &compiled));
        // A copy, among what stays: what was read passes.
        plan.rules.push(compiled.clone());
    }
    if loaded.settings.flood.enabled {
        plan.policies.push(policy::of_floods(&loaded.settings.flood));
    }
    let lists = loaded.settings.zones_on().filter(|zone| Profile::of(zone).is_some());
    plan.policies.extend(lists.map(policy::of_list));
    plan
}

/// Adds what a rule reads.
fn want(wants: &mut Wants, rule: &ServiceRule, bit: Tags, dirs: Option<&[PathBuf; 2]>) {
    if rule.format == LogFormat::Docker {
        wants.containers = wants.containers.and(bit);
        return files(wants, rule, bit);
    }
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
                !rule.programs.is_empty() && rule.files.iter().all(|file| crate::services::of_syslog(file));
            if common && dirs.is_some_and(JournalSource::exists) {
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
    wants.journal.push(WantedPrograms { programs, tags: bit });
}

fn files(wants: &mut Wants, rule: &ServiceRule, bit: Tags) {
    for file in &rule.files {
        match Glob::parse(file.as_bytes()) {
            Ok(glob) => wants.globs.push((glob, bit)),
            Err(why) => log::warn!("rule {}: files={file}: {why}", rule.name),
        }
    }
}
