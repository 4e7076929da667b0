#![forbid(unsafe_code)]
//! Allow and deny lists, from their files into the kernel. The daemon and the commands go the same way. Knows
//! no log: what is to be told is handed to the caller.

mod allow;
mod check;
mod deny;
mod edit;
mod exempt;
pub mod hosts;
mod kept;
mod nets;
mod read;
mod seek;
mod turn;

pub use allow::{Gone, InForce, ListReading, allowed, drop_allowed, reader};
pub use check::{ListVerdict, check};
pub use deny::{Done, ListFate, ListJob, apply, drop_denied, fate, had, list_id, names_in_force};
pub use edit::{Edit, ListTerms};
pub use exempt::Exempt;
pub use kept::{Kept, list_names};
pub use read::{Detail, ListNote, ListSurvey, each_entry, entries, survey};
pub use seek::entries_of;
pub use turn::ListTurn;

use crate::ban::{BackendChoice, Options};
use crate::config::{ListCounts, ListKind, Settings};
use std::path::{Path, PathBuf};

/// The file that commands write, in either directory.
pub const LOCAL: &str = "local.conf";

const MOSTLY_BAD: &str = "more than half of its lines are bad";
const EMPTY: &str = "it is empty, and was not";
const CUT: &str = "it ends in the middle of a line, and its file system is full";

/// What a list held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Entries, which are not to be lost.
    Entries,
    /// Nothing, or what may go.
    Nothing,
}

impl From<bool> for Before {
    /// Of whether it held anything.
    fn from(had: bool) -> Before {
        if had { Before::Entries } else { Before::Nothing }
    }
}

/// Why a file with such lines is refused as a whole, if something of it was in force or not.
#[must_use]
pub fn refusal(counts: ListCounts, before: Before) -> Option<&'static str> {
    match counts {
        counts if counts.refused() => Some(MOSTLY_BAD),
        counts if counts.good == 0 && before == Before::Entries => Some(EMPTY),
        counts if counts.cut && before == Before::Entries => Some(CUT),
        _ => None,
    }
}

/// Where everything lies.
pub struct Paths {
    allow: PathBuf,
    deny: PathBuf,
    run: PathBuf,
    state: PathBuf,
    backend: BackendChoice,
}

impl Paths {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Paths {
        Paths {
            allow: PathBuf::from(&settings.whitelist_dir),
            deny: PathBuf::from(&settings.blacklist_dir),
            run: PathBuf::from(&settings.run_dir),
            state: PathBuf::from(&settings.state_dir),
            backend: settings.firewall_backend.into(),
        }
    }

    /// Where the daemon has its sockets.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// How to ask for what is in force.
    #[must_use]
    pub fn options(&self) -> Options {
        Options { backend: self.backend, ..Options::default() }
    }

    /// The directory of a kind of list.
    #[must_use]
    pub fn dir(&self, kind: ListKind) -> &Path {
        match kind {
            ListKind::Allow => &self.allow,
            ListKind::Deny => &self.deny,
        }
    }

    /// What is kept of the files in it.
    #[must_use]
    pub fn kept(&self, kind: ListKind) -> Kept {
        Kept::of(self, kind)
    }
}
