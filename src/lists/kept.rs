#![forbid(unsafe_code)]
//! What is in force of each list, kept in `state_dir/lists`: a file that becomes bad, empty or unreadable, or
//! is cut off with its directory, leaves what it had in force, also over a restart of the daemon or the
//! machine. Knows no kernel.
//!
//! Allow lists are kept whole: they are small, nobody else has them, and the kernel has only their union. Of
//! deny lists those of some thousand entries are kept, which people write by hand; a large one is a feed that
//! changes every hour and can be fetched again: keeping it would wear flash, and the kernel itself keeps it
//! until the machine restarts.

use super::Paths;
use super::read::{Detail, entries};
use crate::base::range::Range;
use crate::base::utc::Stamp;
use crate::config::{ListEntry, ListKind, conf_files};
use crate::sys::dir::{Access, Dir};
use crate::sys::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Entries of a deny list that is kept, at most.
pub(super) const DENY_ENTRIES: u32 = 4096;
const TEMPORARY: &str = ".new";

/// The copies of one kind of lists.
pub struct Kept {
    dir: PathBuf,
}

impl Kept {
    pub(super) fn of(paths: &Paths, kind: ListKind) -> Kept {
        let name = if kind == ListKind::Allow { "allow" } else { "deny" };
        Kept { dir: paths.state.join("lists").join(name) }
    }

    /// The files of which something is kept.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        conf_files(&self.dir).unwrap_or_default()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What was in force of a file; `None` if that is not known.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<ListEntry>> {
        // An entry of a copy is never too wide: `force` stands behind it then, for whichever list.
        let quiet: super::ListNote<'_> = &mut |_| ();
        entries(ListKind::Allow, &self.path(name), Detail::Nothing, quiet).ok().map(|(found, _)| found)
    }

    /// Keeps this, unless it is kept already.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, list: &[ListEntry]) -> io::Result<()> {
        let mut text = b"# What was in force of this list; made by mef.\n".to_vec();
        list.iter().for_each(|entry| write_entry(&mut text, entry));
        match fs::content(&self.path(name)) {
            Ok(there) if there == text => return Ok(()),
            _ => {}
        }
        Dir::create(&self.dir)?.replace(name, TEMPORARY, &text)
    }

    /// Keeps nothing of a file any more. That there was nothing is no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget(&self, name: &str) -> io::Result<()> {
        match Dir::open(&self.dir).and_then(|dir| dir.remove(name).and_then(|()| dir.sync())) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Takes what is inside the ranges out of what is kept of a file; for each range, whether there was
    /// anything.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: &str, ranges: &[Range]) -> io::Result<Vec<bool>> {
        let mut found = vec![false; ranges.len()];
        let Some(mut list) = self.read(name) else { return Ok(found) };
        list.retain(|entry| {
            let net = Range::from(entry.net);
            let mut stays = true;
            for (_, found) in ranges.iter().zip(&mut found).filter(|(range, _)| range.covers(&net)) {
                (*found, stays) = (true, false);
            }
            stays
        });
        if found.contains(&true) {
            self.write(name, &list)?;
        }
        Ok(found)
    }

    /// Adds to what is kept of a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&self, name: &str, more: &[ListEntry]) -> io::Result<()> {
        let mut list = self.read(name).unwrap_or_default();
        list.retain(|entry| more.iter().all(|new| new.net != entry.net));
        list.extend_from_slice(more);
        self.write(name, &list)
    }
}

/// An entry as it stands in a file.
pub(super) fn write_entry(text: &mut Vec<u8>, entry: &ListEntry) {
    let _ = write!(text, "{}", Range::from(entry.net));
    if let Some(until) = entry.until {
        let _ = write!(text, " until={}", Stamp(until));
    }
    text.extend_from_slice(if entry.force { b" force\n" } else { b"\n" });
}

/// The names of the lists in a directory, in order; `None` if the directory is not there.
///
/// # Errors
/// When it cannot be read to its end.
pub fn list_names(dir: &Path) -> io::Result<Option<Vec<String>>> {
    match Dir::open(dir) {
        Ok(_) => conf_files(dir).map(Some),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A file of run_dir for a lock; `None` where none can be made.
pub(super) fn lock_file(run: &Path, name: &str) -> Option<std::fs::File> {
    Dir::create(run).ok()?.file(name, Access::Write).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Wall;
    use crate::sys::dir::testing::ScratchDir;

    #[test]
    fn what_is_kept_comes_back() {
        let scratch = ScratchDir::new();
        let kept = Kept { dir: scratch.path().join("state/lists/allow") };
        let entry = |net: &str, until, force| ListEntry { net: net.parse().unwrap(), until, force };
        let list = vec![
            entry("192.0.2.7/32", None, false),
            entry("::/0", None, true),
            entry("2001:db8::/64", Some(Wall(1_795_640_400)), false),
        ];
        assert_eq!((kept.names(), kept.read("a.conf")), (vec![], None));
        kept.write("a.conf", &list).unwrap();
        assert_eq!((kept.names(), kept.read("a.conf")), (vec!["a.conf".to_owned()], Some(list.clone())));
        let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(kept.path("a.conf")).unwrap());
        let before = inode();
        kept.write("a.conf", &list).unwrap();
        assert_eq!(before, inode(), "the same is not written again");
        let first = [Range::from(list[0].net)];
        assert_eq!(kept.remove("a.conf", &first).unwrap(), [true]);
        assert_eq!(kept.remove("a.conf", &first).unwrap(), [false]);
        assert_eq!(kept.read("a.conf").unwrap(), list[1..]);
        kept.add("a.conf", &[entry("2001:db8::/64", None, false)]).unwrap();
        assert_eq!(kept.read("a.conf").unwrap(), [list[1], entry("2001:db8::/64", None, false)]);
        kept.write("a.conf", &[]).unwrap();
        assert_eq!(kept.read("a.conf"), Some(vec![]), "that there was nothing is known, too");
        kept.forget("a.conf").unwrap();
        kept.forget("a.conf").unwrap();
        assert!(kept.names().is_empty());
    }
}
