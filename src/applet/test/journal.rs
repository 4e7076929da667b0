#![forbid(unsafe_code)]
//! `mef test` on the journal: its files, or what `journalctl` has printed of it.

use super::{DetectorGroup, TestRun, bits};
use crate::applet::output::{Output, OutputError, required};
use crate::base::build_part::BuildPart;
use crate::base::bytes::find;
use crate::base::program::Program;
use crate::base::rule_bits::RuleBits;
use crate::config::ServiceRule;
use crate::daemon::rehearse::kin;
use crate::detect::{MAX_RULES, header};
use crate::input::journal::{JournalSource, WantedPrograms, json};
use crate::input::{Item, LogRecord, Progress, Source as _, Tags, Written};
use crate::sys::{clock, syslog};
use memchr::memchr;

/// Bytes of one turn.
const BUDGET: usize = 1 << 20;
/// Lines by which it is seen in which form something is written.
const SAMPLE: usize = 50;
/// How names of units of services end.
const UNIT: &[u8] = b".service";

impl TestRun<'_> {
    /// Reads this machine's journal of the last `since` seconds.
    pub(super) fn journal(&mut self, since: u32, output: &mut Output<'_>) -> Result<(), OutputError> {
        required(BuildPart::Journal)?;
        let none = || OutputError::Failed("there is no journal on this host".into());
        let dirs = JournalSource::dirs().filter(JournalSource::exists).ok_or_else(none)?;
        // What cannot be read is told there.
        syslog::install(syslog::LogTarget::Stderr, log::LevelFilter::Warn);
        let rules = self.own.iter().enumerate();
        // As with files, of all rules those that name programs.
        let wanted = rules.filter(|(_, rule)| self.own.len() == 1 || !rule.programs.is_empty());
        // They are in front, and the first group has them.
        let wanted = wanted.take(MAX_RULES);
        let wanted =
            wanted.map(|(n, rule)| WantedPrograms { programs: programs(rule), tags: Tags(1 << n) }).collect();
        let mut journal = JournalSource::open(dirs, wanted, &[], since, clock::now());
        self.report.entries();
        let mut more = Progress::More;
        while more == Progress::More && self.failed.is_none() {
            more = journal.drain(clock::now(), BUDGET, &mut |tags, item| {
                if let Item::Record(record) = item {
                    self.lines += 1;
                    self.record(0, tags.0, &record);
                }
            });
            self.failed = self.report.flush(output).err();
        }
        Ok(())
    }

    /// A block of lines in which each is an entry that says more than a line of a log; `false` if it is none.
    pub(super) fn printed(&mut self, block: &[u8]) -> bool {
        let mut first = lines(block);
        if block.starts_with(b"{") && first.next().is_some_and(|line| find(line, json::MARK).is_some()) {
            lines(block).for_each(|line| self.json(line));
        } else if first
            .take(SAMPLE)
            .filter(|line| find(line, UNIT).is_some())
            .any(|line| header::parse(line).is_some_and(|h| unit(h.program).is_some()))
        {
            lines(block).for_each(|line| self.with_unit(line));
        } else {
            return false;
        }
        true
    }

    fn json(&mut self, line: &[u8]) {
        let Some(entry) = json::JsonEntry::read(line) else { return self.lines += 1 };
        let record = entry.record();
        let fits = |rule: &ServiceRule| {
            let programs = programs(rule);
            (programs.is_empty() && self.own.len() == 1) || programs.iter().any(|p| p.fits(record.program))
        };
        let wanted: Vec<RuleBits> = self
            .groups
            .iter()
            .map(|group| bits(self.own.iter().skip(group.first).take(group.len), fits))
            .collect();
        self.lines += 1;
        for (group, wanted) in wanted.into_iter().enumerate() {
            self.record(group, wanted, &record);
        }
    }

    /// `journalctl -o with-unit` names the unit in place of the program: who wrote it is one of the rule's
    /// programs that such a unit runs.
    fn with_unit(&mut self, line: &[u8]) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let found = header::parse(text).and_then(|header| Some((header, unit(header.program)?)));
        let Some((header, unit)) = found else { return self.plain(line) };
        let TestRun { groups, report, own, lines, .. } = self;
        *lines += 1;
        groups.iter_mut().for_each(|group| group.rehearsal.set_time(header.stamp));
        for DetectorGroup { first, len, rehearsal } in groups {
            for (n, rule) in own.iter().skip(*first).take(*len).enumerate() {
                let Some(program) = rule.programs.iter().find(|p| kin(unit, stem(p))) else { continue };
                // The unit's own word is journald's; which of its programs it was is not known.
                let program = program.replace('*', "x");
                let record = LogRecord {
                    program: program.as_bytes(),
                    pid: header.pid,
                    message: header.message,
                    sender: None,
                    written: Written::Live,
                };
                rehearsal.record(1 << n, &record, &mut |event| report.event(*first, *lines, &event));
            }
        }
    }

    /// A record for the rules of a group whose bits are set.
    fn record(&mut self, group: usize, wanted: RuleBits, record: &LogRecord<'_>) {
        let TestRun { groups, report, lines, .. } = self;
        if let Some(DetectorGroup { first, rehearsal, .. }) = groups.get_mut(group).filter(|_| wanted != 0) {
            rehearsal.record(wanted, record, &mut |event| report.event(*first, *lines, &event));
        }
    }
}

fn programs(rule: &ServiceRule) -> Vec<Program> {
    rule.programs.iter().map(|name| Program::new(name)).collect()
}

/// The lines of a block, each with its newline.
fn lines(mut block: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr(b'\n', block).map_or(block.len(), |at| at + 1);
        let (line, rest) = block.split_at_checked(end)?;
        block = rest;
        (!line.is_empty()).then_some(line)
    })
}

/// The name of a service's unit without what stands behind it; `None` if it is the name of a program.
fn unit(program: &[u8]) -> Option<&[u8]> {
    let name = program.strip_suffix(UNIT)?;
    name.split(|&b| b == b'@').next()
}

/// What of a name in `programs` stands before wildcards and parts.
fn stem(name: &str) -> &[u8] {
    name.split(['*', '?', '/', '[']).next().unwrap_or("").as_bytes()
}
