#![forbid(unsafe_code)]
//! Which files of the journal hold something that was not read yet, in the order in which to read them. Only
//! the files of the system are looked at: what users write goes to files of theirs.

use super::format::{FileHeader, FormatRefusal, ReadAt};
use super::place::{JournalPosition, Storage};
use super::reader;
use crate::sys::fs::{self, FileId, Links};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The file that is being written.
pub const ACTIVE: &str = "system.journal";
/// Files that wait to be read at most; journald keeps 100.
const WAITING: usize = 4096;

/// A file that holds something new.
pub struct NewFile {
    /// Where it is.
    pub path: PathBuf,
    /// Below /var.
    pub storage: Storage,
    /// Which file it was when it was found.
    pub id: FileId,
    /// Its sequence goes on from the place, and the number (else the time) it begins with.
    order: (bool, u64),
}

impl ReadAt for File {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(at) = at.checked_add(done as u64) else { break };
            match std::os::unix::fs::FileExt::read_at(self, rest, at) {
                Ok(n) if n > 0 => done += n,
                _ => break,
            }
        }
        done
    }

    fn size(&self) -> u64 {
        fs::facts_of(self).map_or(0, |facts| facts.size)
    }
}

/// Opens a file of the journal.
pub fn open(path: &Path) -> io::Result<(File, FileId)> {
    let file = fs::open_regular(path, Links::Refuse)?;
    let id = fs::facts_of(&file)?.id;
    Ok((file, id))
}

/// Whether `name` is that of a file of the system: the active one, one that was put away, or one that was not
/// closed properly.
pub fn is_ours(name: &[u8]) -> bool {
    let archived =
        name.starts_with(b"system@") && (name.ends_with(b".journal") || name.ends_with(b".journal~"));
    name == ACTIVE.as_bytes() || archived
}

/// Adds the files in `dir` that have something new to `found`. Those that cannot be read go to `refused`.
pub fn list(
    (dir, storage): (&Path, Storage),
    place: &JournalPosition,
    current: Option<FileId>,
    found: &mut Vec<NewFile>,
    refused: &mut dyn FnMut(&Path, Result<FormatRefusal, io::Error>),
) {
    // A directory that is gone has no files.
    let _ = fs::each_name(dir, &mut |name| {
        if !is_ours(name) || found.len() >= WAITING {
            return;
        }
        let path = dir.join(OsStr::from_bytes(name));
        let (file, id) = match open(&path) {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => return refused(&path, Err(e)),
        };
        if Some(id) == current {
            return;
        }
        match reader::header(&file) {
            Ok(header) if place.precedes(storage, &header) => {
                let order = order(place.continues(storage, &header), &header);
                found.push(NewFile { path, storage, id, order });
            }
            Ok(_) | Err(FormatRefusal::NotYet) => {}
            Err(why) => refused(&path, Ok(why)),
        }
    });
}

/// Files that go on from the place come first, by number; the others by time.
fn order(continues: bool, header: &FileHeader) -> (bool, u64) {
    (!continues, if continues { header.first } else { header.first_time })
}

/// Puts the first file to read last.
pub fn sort(found: &mut [NewFile]) {
    found.sort_unstable_by_key(|f| std::cmp::Reverse(f.order));
}
