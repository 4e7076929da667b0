#![forbid(unsafe_code)]
//! What a running daemon tells of itself, for those commands that ask it.

use crate::base::build_part::BuildPart;
use crate::control::client::{ControlClient, Patience};
use crate::control::proto::{
    FACTS, ListLine, OffenderLine, ProblemLine, Request, RuleLine, SightLine, read_fact,
};
use crate::sys::{clock, fs};
use std::io;
use std::path::Path;

/// What a daemon answered.
#[derive(Default)]
pub(super) struct DaemonAnswer {
    pub(super) version: String,
    pub(super) pid: u64,
    /// The process that reads logs; 0: there is none but that of `pid`.
    observer: u64,
    pub(super) since: u64,
    /// What it has given up.
    pub(super) confined: String,
    pub(super) facts: [u64; FACTS.len()],
    /// As they came.
    pub(super) rules: Vec<String>,
    pub(super) offenders: Vec<String>,
    pub(super) sights: Vec<String>,
    pub(super) lists: Vec<String>,
    problems: Vec<String>,
}

impl DaemonAnswer {
    /// Asks; `None` if the daemon ended meanwhile.
    pub(super) fn get(daemon: &mut ControlClient, request: &Request<'_>) -> io::Result<Option<DaemonAnswer>> {
        daemon.notify(request)?;
        let mut answer = DaemonAnswer::default();
        daemon.lines(Patience::Bounded, &mut |line| {
            if let Some((at, value)) = read_fact(line) {
                if let Some(slot) = answer.facts.get_mut(at) {
                    *slot = value;
                }
            } else if line.starts_with("rule ") {
                answer.rules.push(line.to_owned());
            } else if SightLine::read(line).is_some() {
                answer.sights.push(line.to_owned());
            } else if line.starts_with("problem ") {
                answer.problems.push(line.to_owned());
            } else if line.starts_with("dnsbl ") {
                answer.lists.push(line.to_owned());
            } else if line.starts_with("offender ") {
                answer.offenders.push(line.to_owned());
            } else if let Some((word, value)) = line.split_once(' ') {
                match word {
                    "version" => answer.version = value.to_owned(),
                    "pid" => answer.pid = value.parse().unwrap_or(0),
                    "observer" => answer.observer = value.parse().unwrap_or(0),
                    "since" => answer.since = value.parse().unwrap_or(0),
                    "confined" => answer.confined = value.to_owned(),
                    _ => {}
                }
            }
            true
        })?;
        Ok((answer.pid != 0).then_some(answer))
    }

    /// A number by its name.
    pub(super) fn fact(&self, name: &str) -> u64 {
        FACTS.iter().zip(self.facts).find(|(fact, _)| fact.name == name).map_or(0, |(_, value)| value)
    }

    /// A rule that is on, by its name.
    pub(super) fn rule(&self, name: &str) -> Option<RuleLine<'_>> {
        self.rules.iter().filter_map(|line| RuleLine::read(line)).find(|rule| rule.name == name)
    }

    /// DNSBLs.
    pub(super) fn lists(&self) -> impl Iterator<Item = ListLine<'_>> {
        self.lists.iter().filter_map(|line| ListLine::read(line))
    }

    /// Those who are being counted, the nearest to a ban first.
    pub(super) fn offenders(&self) -> impl Iterator<Item = OffenderLine<'_>> {
        self.offenders.iter().filter_map(|line| OffenderLine::read(line))
    }

    /// What went wrong of late, the newest first.
    pub(super) fn problems(&self) -> impl Iterator<Item = ProblemLine<'_>> {
        self.problems.iter().filter_map(|line| ProblemLine::read(line))
    }

    /// What the rules read.
    pub(super) fn sights(&self) -> impl Iterator<Item = SightLine<'_>> {
        self.sights.iter().filter_map(|line| SightLine::read(line))
    }

    pub(super) fn sight(&self, name: &str) -> Option<SightLine<'_>> {
        self.sights().find(|sight| sight.name == name)
    }

    pub(super) fn age(&self) -> u64 {
        clock::wall().0.saturating_sub(self.since)
    }

    /// Bytes of the daemon in memory; of two processes, what both have counts once.
    pub(super) fn resident(&self) -> Option<u64> {
        match self.observer {
            observer if BuildPart::Observer.is_in() && observer > 0 => {
                Some(memory(self.pid, "Pss:")? + memory(observer, "Pss:").unwrap_or(0))
            }
            _ => memory(self.pid, "Rss:"),
        }
    }
}

/// Bytes of a process by one of the names by which the kernel counts.
fn memory(pid: u64, name: &str) -> Option<u64> {
    let text = fs::content(Path::new(&format!("/proc/{pid}/smaps_rollup"))).ok()?;
    let text = String::from_utf8_lossy(text.as_ref());
    let kb = text.lines().find_map(|line| line.strip_prefix(name))?;
    kb.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb * 1024)
}
