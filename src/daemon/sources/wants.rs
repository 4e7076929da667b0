#![forbid(unsafe_code)]
//! What the rules want to read, and what the settings say of how it is read.

use super::{COMMANDS, has_ring, ring};
use crate::config::Settings;
use crate::input::Tags;
use crate::input::glob::Glob;
use crate::input::journal::WantedPrograms;
use crate::input::syslog::{self, SocketPlace};
use crate::sys::runner::RunProgram;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What the rules want to read.
#[derive(Default)]
pub(in crate::daemon) struct Wants {
    /// Files, also those of rules in `auto`.
    pub(in crate::daemon) globs: Vec<(Glob, Tags)>,
    /// Whose files the engine of a container writes.
    pub(in crate::daemon) containers: Tags,
    /// Datagrams of a syslog daemon.
    pub(in crate::daemon) syslog: Tags,
    /// The kernel's log.
    pub(in crate::daemon) kmsg: Tags,
    /// Files, else the ring of a syslog daemon.
    pub(in crate::daemon) auto: Tags,
    /// Programs that write to the journal.
    pub(in crate::daemon) journal: Vec<WantedPrograms>,
    /// Rules that want the journal of a machine that cannot have one.
    pub(in crate::daemon) no_journal: Tags,
    /// Rules that are on by themselves: they may wait for their source for as long as it takes.
    pub(in crate::daemon) by_itself: Tags,
    pub(super) commands: Vec<(Vec<String>, Tags)>,
}

impl Wants {
    /// The programs whose output is read, in an order that the same rules always have.
    pub(in crate::daemon) fn programs(&self) -> Vec<RunProgram> {
        let programs = self.commands.iter().map(|(argv, _)| argv.clone());
        let ring = (!self.auto.is_empty() && has_ring()).then(ring);
        programs.chain(ring).map(|argv| RunProgram { argv, identity: None }).collect()
    }

    /// Adds a command. Two rules with the same one share it.
    pub(in crate::daemon) fn command(&mut self, argv: &[String], tags: Tags) {
        if let Some((_, all)) = self.commands.iter_mut().find(|(known, _)| known == argv) {
            *all = all.and(tags);
        } else if self.commands.len() < COMMANDS - 1 {
            self.commands.push((argv.to_vec(), tags));
        } else {
            log::warn!("{}: more than {} commands; it is not run", argv.join(" "), COMMANDS - 1);
        }
    }
}

/// What of the settings says how is read.
#[derive(Clone)]
pub(in crate::daemon) struct SourceSettings {
    run_dir: PathBuf,
    syslog_udp: Option<SocketAddr>,
    pub(super) journal_since: u32,
    pub(super) recent: (u32, u32),
}

impl SourceSettings {
    pub(in crate::daemon) fn of(settings: &Settings) -> SourceSettings {
        SourceSettings {
            run_dir: PathBuf::from(&settings.run_dir),
            syslog_udp: settings.syslog_udp,
            journal_since: settings.journal_since,
            recent: (settings.file_recent_limit, settings.file_recent_window),
        }
    }

    /// Where sockets of syslog daemons are, if there are to be some.
    pub(super) fn places(&self) -> [Option<SocketPlace>; 2] {
        let unix = SocketPlace::Unix(syslog::path(&self.run_dir));
        [Some(unix), self.syslog_udp.map(SocketPlace::Udp)]
    }
}
