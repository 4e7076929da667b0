#![forbid(unsafe_code)]
//! Which service rules are on, and why.

use super::DaemonAnswer;
use crate::base::count::count;
use crate::config::load;
use crate::control::proto::{KERNEL, RuleLine};
use crate::services::on;
use std::io::{self, Write};
use std::path::Path;

/// Whether a service rule is on, and why.
pub(super) struct DaemonState {
    pub(super) name: String,
    pub(super) on: bool,
    pub(super) why: String,
}

/// The service rules.
pub(super) struct RuleStates {
    /// By name: those of the configuration as it is now, and those that only the daemon still has.
    pub(super) all: Vec<DaemonState>,
    /// The configuration has errors: a daemon that starts now refuses it.
    pub(super) is_refused: bool,
}

impl RuleStates {
    pub(super) fn read(conf: &Path, answer: Option<&DaemonAnswer>) -> RuleStates {
        let mut states: Vec<DaemonState> = Vec::new();
        let mut add = |state: DaemonState| {
            let place = states.partition_point(|s| s.name < state.name);
            states.insert(place, state);
        };
        let loaded = load(conf, &mut |rule, _| {
            let (mut on, mut why) = on(rule);
            if let Some(answer) = answer {
                let has = answer.rule(&rule.name).is_some();
                if has != on {
                    why += "; the daemon learns of it at a reload";
                }
                on = has;
            }
            add(DaemonState { name: rule.name.clone(), on, why });
        });
        for rule in answer.iter().flat_map(|a| &a.rules).filter_map(|line| RuleLine::read(line)) {
            if rule.source != KERNEL && !loaded.rules.iter().any(|r| r.name == rule.name) {
                let why = "no longer in the configuration; the daemon learns of it at a reload".to_owned();
                add(DaemonState { name: rule.name.to_owned(), on: true, why });
            }
        }
        RuleStates { all: states, is_refused: loaded.failed() }
    }
}

/// Which rules are on, and why; how many are not shown.
pub(super) fn table(
    out: &mut dyn Write,
    states: &[DaemonState],
    is_shown: impl Fn(&DaemonState) -> bool,
) -> io::Result<()> {
    let shown = || states.iter().filter(|state| is_shown(state));
    let width = shown().map(|s| s.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "\n{:<width$}  ON   WHY", "RULE")?;
    for DaemonState { name, on, why } in shown() {
        writeln!(out, "{name:<width$}  {:<3}  {why}", if *on { "yes" } else { "no" })?;
    }
    match states.len() - shown().count() {
        0 => Ok(()),
        off => writeln!(out, "{} off: `mef rules` lists them", count(off, "rule")),
    }
}
