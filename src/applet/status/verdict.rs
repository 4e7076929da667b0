#![forbid(unsafe_code)]
//! The first word of `mef status`: whether this host is protected, and if not, why not; and the exit status
//! that says so.

use super::{DaemonAnswer, KernelStatus};
use crate::applet::columns::{Colours, colours};
use crate::applet::output::{Output, OutputError};
use crate::base::line::shown;
use crate::control::proto::{KERNEL, RuleLine, Sight, SightLine};
use std::borrow::Cow;
use std::fmt;
use std::io;

/// Exit status while no daemon runs; as that of `status` in init scripts (LSB).
const NOT_RUNNING: u8 = 3;

/// How this host is, the worst of what is known.
pub(super) enum DaemonVerdict<'a> {
    /// Every rule that is on reads something, and what it decides is enforced.
    Protected,
    /// Some rules read nothing.
    Blind(Vec<SightLine<'a>>),
    /// No service rule is on.
    WatchesNothing,
    /// Bans cannot be made; why.
    CannotBan(Cow<'a, str>),
    /// A daemon listens, and says nothing; why.
    Silent(&'a str),
    /// There is no daemon.
    NotRunning,
}

impl<'a> DaemonVerdict<'a> {
    /// What is known of a daemon that answered, or why it did not although it is there.
    pub(super) fn of(
        answer: Option<&'a DaemonAnswer>,
        silent: Option<&'a str>,
        kernel: &'a KernelStatus,
    ) -> DaemonVerdict<'a> {
        let Some(answer) = answer else {
            return silent.map_or(DaemonVerdict::NotRunning, DaemonVerdict::Silent);
        };
        if let Some(why) = &kernel.missing {
            return DaemonVerdict::CannotBan(why.into());
        }
        if kernel.state.is_none() {
            return DaemonVerdict::CannotBan(["there is no table ", kernel.place].concat().into());
        }
        let mut rules = answer.rules.iter().filter_map(|line| RuleLine::read(line));
        if !rules.any(|rule| rule.source != KERNEL) {
            return DaemonVerdict::WatchesNothing;
        }
        let blind: Vec<_> = answer.sights().filter(|line| line.sight == Sight::Blind).collect();
        if blind.is_empty() { DaemonVerdict::Protected } else { DaemonVerdict::Blind(blind) }
    }

    /// For programs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            DaemonVerdict::Protected => "protected",
            DaemonVerdict::Blind(_) => "sees nothing for some",
            DaemonVerdict::WatchesNothing => "watches nothing",
            DaemonVerdict::CannotBan(_) => "cannot ban",
            DaemonVerdict::Silent(_) => "does not answer",
            DaemonVerdict::NotRunning => "not running",
        }
    }

    /// Writes it for people, coloured on a terminal.
    pub(super) fn show(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let (on, off) = match self {
            _ if colours() == Colours::Off => ("", ""),
            DaemonVerdict::Protected => ("\x1b[1;32m", "\x1b[0m"),
            DaemonVerdict::Blind(_) | DaemonVerdict::WatchesNothing => ("\x1b[1;33m", "\x1b[0m"),
            _ => ("\x1b[1;31m", "\x1b[0m"),
        };
        for line in self.to_string().lines() {
            writeln!(out, "{on}{line}{off}")?;
        }
        Ok(())
    }

    /// The exit status.
    pub(super) fn end(&self, output: &Output<'_>) -> Result<(), OutputError> {
        match self {
            DaemonVerdict::Protected => output.end(),
            DaemonVerdict::NotRunning => Err(OutputError::Status(NOT_RUNNING)),
            _ => Err(OutputError::Told),
        }
    }
}

impl fmt::Display for DaemonVerdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonVerdict::Protected => f.write_str("protected"),
            DaemonVerdict::Blind(blind) => {
                for (at, sight) in blind.iter().enumerate() {
                    let newline = if at == 0 { "" } else { "\n" };
                    write!(f, "{newline}sees nothing for {}: {}", sight.name, shown(sight.text))?;
                }
                Ok(())
            }
            DaemonVerdict::WatchesNothing => f.write_str("watches nothing: no service rule is on"),
            DaemonVerdict::CannotBan(why) => write!(f, "cannot ban: {why}"),
            DaemonVerdict::Silent(why) => write!(f, "the daemon does not answer: {}", shown(why)),
            DaemonVerdict::NotRunning => {
                f.write_str("not running: bans stay in force until they end, and nobody reads the logs")
            }
        }
    }
}
