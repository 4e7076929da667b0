#![forbid(unsafe_code)]
//! One followed name and what can be wrong with it. Does no work itself.

use super::known::KnownFiles;
use super::reader::FileReader;
use crate::base::bytes::of_path;
use crate::base::clock::LineTime;
use crate::input::{Shown, Tags};
use crate::sys::fs::FileId;
use crate::sys::strerror;
use nix::errno::Errno;
use std::io;
use std::path::PathBuf;

/// Why a name is not read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NameTrouble {
    None,
    /// Nothing has the name.
    Missing,
    /// A directory, device, FIFO or socket has it.
    NotRegular,
    /// It leads into a file system in which the kernel answers.
    Kernel,
    /// An error number.
    Failed(i32),
}

impl NameTrouble {
    pub(super) fn of(error: &io::Error) -> NameTrouble {
        match error.raw_os_error() {
            Some(n) if n == Errno::ENOENT as i32 || n == Errno::ENOTDIR as i32 => NameTrouble::Missing,
            Some(n) => NameTrouble::Failed(n),
            None if error.kind() == io::ErrorKind::Unsupported => NameTrouble::Kernel,
            None => NameTrouble::NotRegular,
        }
    }
}

/// A path that is followed, whatever file has it.
pub(super) struct WatchedName {
    pub(super) path: PathBuf,
    /// Where it leads if it is a link.
    pub(super) target: Option<PathBuf>,
    pub(super) tags: Tags,
    /// The first pattern it fits.
    pub(super) pattern: usize,
    /// It came from a wildcard: it may leave again.
    pub(super) wild: bool,
    /// When it was written what is read from now on.
    pub(super) time: LineTime,
    /// Something happened to the name: see which file has it.
    pub(super) check: bool,
    /// Another file has the name: read the present one to its end, then turn to the next.
    pub(super) turning: bool,
    /// A file found under the name was there before we looked: begin at its end.
    pub(super) old: bool,
    /// The name is no longer followed.
    pub(super) gone: bool,
    /// The file that is read: the one that has the name, or an older generation with something left.
    pub(super) head: Option<FileReader>,
    /// The generation before: writers that were not told of the rotation still write to it.
    pub(super) late: Option<FileReader>,
    /// The file that has the name is read under another one, for us too.
    pub(super) alias: Option<FileId>,
    /// The file that is read was deleted, and no other has come.
    pub(super) deleted: bool,
    /// The older generations that are accounted for.
    pub(super) known: KnownFiles,
    trouble: NameTrouble,
}

impl WatchedName {
    pub(super) fn new(path: PathBuf, tags: Tags, pattern: usize, wild: bool) -> WatchedName {
        WatchedName {
            path,
            target: None,
            tags,
            pattern,
            wild,
            time: LineTime::Now,
            check: true,
            turning: false,
            old: false,
            gone: false,
            head: None,
            late: None,
            alias: None,
            deleted: false,
            known: KnownFiles::default(),
            trouble: NameTrouble::None,
        }
    }

    /// Whether a file is read by this name that may still be written to.
    pub(super) fn is_read(&self) -> bool {
        (self.head.is_some() && !self.deleted) || self.late.is_some()
    }

    /// Why the file that has the name cannot be read, if one has it.
    pub(super) fn unreadable(&self) -> Option<String> {
        let path = Shown(of_path(&self.path));
        match self.trouble {
            NameTrouble::None | NameTrouble::Missing => None,
            NameTrouble::NotRegular => Some(format!("{path} is not a regular file")),
            NameTrouble::Kernel => Some(format!("{path} leads to a kernel file (proc, sysfs)")),
            NameTrouble::Failed(n) => Some(format!("{path}: {}", strerror(Errno::from_raw(n)))),
        }
    }

    /// Whether this name holds the file open.
    pub(super) fn holds(&self, id: FileId) -> bool {
        [&self.head, &self.late].iter().any(|r| r.as_ref().is_some_and(|r| r.id == id))
    }

    /// Whether it reads that file, and nobody has written another into its place.
    pub(super) fn reads(&self, id: FileId) -> bool {
        let is = |r: &&FileReader| r.id == id;
        self.head.as_ref().is_some_and(|r| is(&r))
            || self.late.as_ref().filter(is).is_some_and(|r| !r.is_altered())
    }

    /// The watches of its files.
    pub(super) fn watches(&self) -> impl Iterator<Item = i32> {
        [&self.head, &self.late].into_iter().flatten().filter_map(|r| r.wd.map(|wd| wd.as_raw()))
    }

    /// The reader with this watch.
    pub(super) fn watched(&mut self, wd: i32) -> Option<&mut FileReader> {
        let found = |r: &&mut FileReader| r.wd.is_some_and(|w| w.as_raw() == wd);
        self.head.as_mut().filter(found).or(self.late.as_mut().filter(found))
    }

    /// That there is no file is no news.
    pub(super) fn expect_missing(&mut self) {
        if !self.path.exists() {
            self.trouble = NameTrouble::Missing;
        }
    }

    /// Remembers the state and says it when it is news.
    pub(super) fn trouble(&mut self, trouble: NameTrouble) {
        let before = std::mem::replace(&mut self.trouble, trouble);
        if before == trouble {
            return;
        }
        let path = Shown(of_path(&self.path));
        match trouble {
            NameTrouble::None => log::info!("{path}: followed again"),
            NameTrouble::Missing if self.wild => {}
            NameTrouble::Missing => log::info!("{path} does not exist: waiting for it"),
            NameTrouble::NotRegular => log::warn!("{path}: not a regular file, cannot be followed"),
            NameTrouble::Kernel => {
                log::warn!("{path}: leads to a kernel file (proc, sysfs), not followed")
            }
            NameTrouble::Failed(n) => log::warn!("{path}: {}", io::Error::from_raw_os_error(n)),
        }
    }
}
