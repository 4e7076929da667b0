#![forbid(unsafe_code)]
//! The text format of Prometheus. A rule's series keep their labels whatever it reads.

use super::ruleset::RuleSetState;
use super::{DaemonAnswer, KernelStatus};
use crate::control::proto::{FACTS, Growth, RuleLine, Sight};
use std::io::{self, Write};

/// Writes every number.
pub(super) fn prometheus(
    out: &mut dyn Write,
    answer: Option<&DaemonAnswer>,
    kernel: &KernelStatus,
    is_refused: bool,
) -> io::Result<()> {
    let mut one = |name: &str, grows: bool, about: &str, value: u64| {
        let (kind, total) = if grows { ("counter", "_total") } else { ("gauge", "") };
        writeln!(
            out,
            "# HELP mef_{name}{total} {about}.\n# TYPE mef_{name}{total} {kind}\nmef_{name}{total} {value}"
        )
    };
    one("up", false, "Whether the daemon runs and answers", answer.is_some().into())?;
    one("table", false, "Whether the table of bans exists", kernel.state.is_some().into())?;
    one("bans_in_force", false, "Bans that the kernel holds", kernel.bans)?;
    one("allowed", false, "Ranges on the allow list that the kernel holds", kernel.allowed)?;
    one("throttled", false, "Sources in the flood throttle", kernel.throttled)?;
    if let Some(packets) = kernel.dropped {
        one("dropped_packets", true, "Packets dropped since counting began", packets)?;
    }
    one(
        "config_errors",
        false,
        "Whether the configuration has errors, so that no daemon starts",
        is_refused.into(),
    )?;
    if let Some(rules) = &kernel.rules {
        let loaded = !matches!(rules.state, RuleSetState::NotLoaded | RuleSetState::Unknown);
        let differs = rules.state == RuleSetState::Differs;
        one("rule_set_loaded", false, "Whether the kernel has the rule set", loaded.into())?;
        one("rule_set_differs", false, "Whether the file says something else", differs.into())?;
    }
    let Some(answer) = answer else { return Ok(()) };
    one("start_time_seconds", false, "When the daemon was started", answer.since)?;
    let blind = answer.sights().filter(|line| line.sight == Sight::Blind).count();
    one("rules_blind", false, "Service rules that read nothing", blind as u64)?;
    if let Some(bytes) = answer.resident() {
        one("resident_bytes", false, "Memory of the daemon", bytes)?;
    }
    for (fact, value) in FACTS.iter().zip(answer.facts) {
        one(fact.name, fact.growth == Growth::Counter, fact.about, value)?;
    }
    type Column = (&'static str, &'static str, &'static str, fn(&DaemonAnswer, &RuleLine<'_>) -> Option<u64>);
    let columns: [Column; 5] = [
        ("rule_hits_total", "counter", "Hits of a service rule", |_, rule| Some(rule.hits)),
        ("rule_bans_total", "counter", "Bans of a service rule", |_, rule| Some(rule.bans)),
        ("rule_read_age_seconds", "gauge", "Time since something was read for a service rule", |_, rule| {
            rule.read
        }),
        ("rule_hit_age_seconds", "gauge", "Time since the last hit of a service rule", |_, rule| rule.hit),
        ("rule_blind", "gauge", "Whether a service rule reads nothing", |answer, rule| {
            answer.sight(rule.name).map(|line| u64::from(line.sight == Sight::Blind))
        }),
    ];
    for (name, kind, about, value) in columns {
        writeln!(out, "# HELP mef_{name} {about}.\n# TYPE mef_{name} {kind}")?;
        for rule in answer.rules.iter().filter_map(|line| RuleLine::read(line)) {
            if let Some(value) = value(answer, &rule) {
                // Names of rules are letters, digits and '-': nothing in them needs an escape.
                writeln!(out, "mef_{name}{{rule=\"{}\",source=\"{}\"}} {value}", rule.name, rule.source)?;
            }
        }
    }
    lists(out, answer)
}

/// The same of DNSBLs.
fn lists(out: &mut dyn Write, answer: &DaemonAnswer) -> io::Result<()> {
    const COLUMNS: [(&str, &str, &str); 5] = [
        ("asked_total", "counter", "Addresses that a DNSBL was asked about"),
        ("listed_total", "counter", "Of these, addresses that it lists"),
        ("failed_total", "counter", "Of these, addresses without a usable answer"),
        ("answer_seconds", "gauge", "Time an answer takes"),
        ("up", "gauge", "Whether a DNSBL is asked"),
    ];
    if answer.lists.is_empty() {
        return Ok(());
    }
    for (at, (name, kind, about)) in COLUMNS.iter().enumerate() {
        writeln!(out, "# HELP mef_dnsbl_{name} {about}.\n# TYPE mef_dnsbl_{name} {kind}")?;
        for line in answer.lists() {
            let value = line.numbers.get(at).copied().unwrap_or(u64::from(line.state == "on"));
            write!(out, "mef_dnsbl_{name}{{dnsbl=\"{}\"}} ", line.name)?;
            match *name {
                // What the daemon tells is milliseconds.
                "answer_seconds" => writeln!(out, "{}.{:03}", value / 1000, value % 1000)?,
                _ => writeln!(out, "{value}")?,
            }
        }
    }
    Ok(())
}
