#![forbid(unsafe_code)]
//! Allow and deny lists, from their files into the kernel. The daemon and the commands go the same way. Knows no
//! log: what is to be told is handed to the caller.

mod deny;
mod edit;
mod nets;
mod read;

pub use deny::{Fate, apply, fate};
pub use edit::Edit;
pub use read::{Note, Survey, check, entries, survey};

use crate::base::range::Range;
use crate::config::{ListEntry, ListKind, Settings, conf_files};
use crate::firewall::guard::Allowed;
use crate::sys::clock;
use crate::sys::dir::{Access, Dir};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The file that commands write, in either directory.
pub const LOCAL: &str = "local.conf";

/// Where everything lies.
pub struct Paths {
    allow: PathBuf,
    deny: PathBuf,
    run: PathBuf,
}

impl Paths {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Paths {
        Paths {
            allow: PathBuf::from(&settings.whitelist_dir),
            deny: PathBuf::from(&settings.blacklist_dir),
            run: PathBuf::from(&settings.run_dir),
        }
    }

    /// The directory of a kind of list.
    #[must_use]
    pub fn dir(&self, kind: ListKind) -> &Path {
        match kind {
            ListKind::Allow => &self.allow,
            ListKind::Deny => &self.deny,
        }
    }

    /// A file of run_dir whose lock keeps all but one out of something; `None` where none can be made: going on
    /// without is better than not at all.
    fn lock_file(&self, name: &str) -> Option<File> {
        let dir = Dir::create(&self.run).ok()?;
        dir.file(name, Access::Write).ok()
    }
}

/// Reads all allow lists. A bad line is told and passed over; a file that is mostly bad, or cannot be read, is
/// told and left out.
pub fn allowed(paths: &Paths, note: Note<'_>) -> Allowed {
    let dir = paths.dir(ListKind::Allow);
    let mut all = Allowed::default();
    let now = clock::wall();
    for name in conf_files(dir).unwrap_or_else(|e| {
        note(&format_args!("{}: {e}", dir.to_string_lossy()));
        Vec::new()
    }) {
        let path = dir.join(&name);
        let mut found = Allowed::default();
        let mut each = |entry: &ListEntry| {
            if entry.until.is_none_or(|until| until > now) {
                found.add(Range::from(entry.net), entry.until);
            }
        };
        match entries(ListKind::Allow, &path, &mut each, note) {
            Ok(counts) if counts.refused() => note(&format_args!(
                "{}: more than half of its lines are bad: the file is left out",
                path.to_string_lossy()
            )),
            Ok(_) => all.append(found),
            // Gone between listing and reading: as if it had never been there.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => note(&format_args!("{}: {e}", path.to_string_lossy())),
        }
    }
    all
}
