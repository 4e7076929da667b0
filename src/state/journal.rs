#![forbid(unsafe_code)]
//! The ban journal: every ban and every lifting of one, appended to the file `bans` in state_dir.
//!
//! The scheme, and why:
//! - Records are only ever appended, whole, each with its own checksum. A process killed at any point leaves
//!   at most one torn record behind, which readers pass over; nothing has to be repaired.
//! - What is in force follows from the order of the records alone: an address is banned until the latest end
//!   of the bans that cover it and that no later record has lifted. Nothing that is written here was read
//!   from the kernel, whose dumps are no snapshots.
//! - `mef ban` and the daemon change the kernel and append to the same file under one lock ([`StateLock`]),
//!   so that both have the same order. Nobody keeps a map of it in memory: the kernel's sets are the table of
//!   bans, this file is what puts them back.
//! - The same records are the history, in their order. Notes among them say when, and which line decided.
//! - What is superseded or long over is dropped by compaction, but for as many of the last events as the
//!   history keeps, which are then marked as past: a new file is written beside the old one from
//!   the bans that still count, in small steps and without holding the lock; then, under the lock, what was
//!   appended meanwhile is copied behind it, and it takes the old one's name. Every writer, once it has the
//!   lock, looks whether the name still stands for the file it has open. The lock is a file of its own, which
//!   nobody renames.
//! - The first line tells the size after the last compaction, so any process knows when the next one is worth
//!   it.
//! - Records are gathered in a buffer of 16 KiB. [`BanJournal::flush`] hands them to the system, which
//!   survives the death of the process; [`BanJournal::sync`] puts them on the disk, which survives the death
//!   of the machine. How often is the caller's policy (`state_sync`).
//!
//! Memory is that buffer, and while bans are read back or compacted a table: 130 kB for 4,000 records, 1 MB
//! for 40,000, at most 4 MB. This module knows no kernel set: it takes and gives entries.

mod compaction;
mod history;
mod reading;

#[cfg(test)]
mod tests;

pub use compaction::{Compaction, Keep};
pub use history::{JournalEvent, PastEvents};
pub use reading::{JournalMark, JournalReading};

use super::StateError;
use super::lock::{HeldLock, LockPart, StateLock};
use super::record::{
    BanRecord, Checksum, Followed, HEADER_LEN, HEADER_WORDS, JournalRecord, RecordStep, encode, encode_past,
    scan, step,
};
use crate::base::clock::Wall;
use crate::sys::dir::{Access, Dir};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "bans";
const TEMP: &str = "bans.tmp";
/// Longest wait for a lock that was waited for in vain before.
const RETRY_WAIT_MAX: Duration = Duration::from_millis(20);
/// Bytes gathered before they are written.
const BUFFER: usize = 16 * 1024;
/// Largest journal: several million records. Offsets must fit into 32 bits.
const SIZE_MAX: u64 = 256 << 20;
/// A journal below this size is not worth compacting.
const SMALL: u64 = 64 * 1024;

/// An open journal.
pub struct BanJournal {
    dir: Dir,
    path: PathBuf,
    file: File,
    /// The system's answer to opening for writing, if it refused.
    refused: Option<i32>,
    key: [u64; 2],
    /// None where nothing can be written.
    lock: Option<StateLock>,
    patience: Duration,
    /// Somebody has kept the lock for longer than that: he is waited for once.
    gave_up: bool,
    buf: Vec<u8>,
    /// Where the records begin, and how large the file was after its last compaction.
    start: u64,
    compacted: u64,
    /// Counts how often another process replaced the file.
    replaced: u32,
}

impl BanJournal {
    /// Its name in state_dir.
    pub const FILE: &str = NAME;

    /// Opens the journal in `dir` (made if missing) for reading and appending. `key` must be secret and
    /// random. `patience` is how long to wait when another process has it locked, which is milliseconds
    /// unless that process is stopped.
    ///
    /// A file that holds no state of this version is renamed to `bans.bad-TIME`; a directory that can only be
    /// read is read. Both come back as the second value, to be told to the user.
    ///
    /// # Errors
    /// The directory cannot be made or opened, or there is no journal in it and none can be made.
    pub fn open(
        dir: &Path,
        now: Wall,
        key: [u64; 2],
        patience: Duration,
    ) -> Result<(BanJournal, Option<StateError>), StateError> {
        let (mut journal, mut note) = BanJournal::opened(dir, key, patience)?;
        if !journal.read_header()? {
            if journal.refused.is_some() {
                return Err(journal.is_strange());
            }
            note = Some(journal.set_aside(now)?);
        }
        Ok((journal, note))
    }

    /// Opens the journal in `dir` for a question: a file of another version stays where it is.
    ///
    /// # Errors
    /// It cannot be opened, or holds no state of this version.
    pub fn view(dir: &Path) -> Result<BanJournal, StateError> {
        let (mut journal, _) = BanJournal::opened(dir, [0; 2], Duration::ZERO)?;
        if journal.read_header()? { Ok(journal) } else { Err(journal.is_strange()) }
    }

    fn is_strange(&self) -> StateError {
        self.system("use", io::ErrorKind::InvalidData.into())
    }

    #[inline(never)]
    fn opened(
        dir: &Path,
        key: [u64; 2],
        patience: Duration,
    ) -> Result<(BanJournal, Option<StateError>), StateError> {
        let at = |call, path: &Path| {
            let path = path.to_owned();
            move |error| StateError::System { call, path, error }
        };
        let path = dir.join(NAME);
        let lock = StateLock::open(dir).ok();
        let dir = Dir::create(dir).map_err(at("open", dir))?;
        let (file, note) = match dir.file(NAME, Access::Append) {
            Ok(file) => (file, None),
            Err(error) => match dir.file(NAME, Access::Read) {
                Ok(file) => (file, Some(error)),
                Err(_) => return Err(at("open", &path)(error)),
            },
        };
        let refused = note.as_ref().map(|error| error.raw_os_error().unwrap_or(0));
        let note = note.map(at("write", &path));
        let (buf, start, compacted, replaced, gave_up) = (Vec::new(), 0, 0, 0, false);
        let journal = BanJournal {
            dir,
            path,
            file,
            refused,
            key,
            lock,
            patience,
            gave_up,
            buf,
            start,
            compacted,
            replaced,
        };
        Ok((journal, note))
    }

    /// Takes in a record; it is written by the next [`BanJournal::flush`], or at once when the buffer is
    /// full.
    ///
    /// # Errors
    /// As [`BanJournal::flush`], and then `record` was not taken.
    pub fn put(&mut self, record: &JournalRecord<'_>) -> Result<(), StateError> {
        self.make_room()?;
        encode(record, &mut self.buf);
        Ok(())
    }

    /// Likewise of a ban that others keep in force: it is in the history, and nowhere else.
    ///
    /// # Errors
    /// As [`BanJournal::put`].
    pub fn put_past(&mut self, entry: &BanRecord<'_>) -> Result<(), StateError> {
        self.make_room()?;
        encode_past(&JournalRecord::Ban(*entry), (entry.addr, entry.since, entry.line), &mut self.buf);
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), StateError> {
        if self.buf.capacity() == 0 {
            self.buf.reserve_exact(BUFFER);
        }
        // A ban may have a note before it.
        if self.buf.len() + 2 * super::record::RECORD_MAX > BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    /// Bytes taken in and not yet written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buf.len()
    }

    /// Hands what was taken in to the system: from then on it survives the death of this process.
    ///
    /// # Errors
    /// The file cannot be locked in time, opened, or written. Nothing of it was written then, and it is kept
    /// for the next try.
    pub fn flush(&mut self) -> Result<(), StateError> {
        if self.buf.is_empty() {
            return Ok(());
        }
        if let Some(errno) = self.refused {
            return Err(self.system("write", io::Error::from_raw_os_error(errno)));
        }
        let _held = self.hold()?;
        if !self.dir.holds(NAME, &self.file).map_err(|e| self.system("open", e))? {
            self.reopen()?;
        }
        let size = self.size()?;
        if size + (HEADER_LEN + self.buf.len()) as u64 > SIZE_MAX {
            return Err(StateError::Full(self.path.clone()));
        }
        let first = if size == 0 { header(HEADER_LEN as u64) } else { Vec::new() };
        let written = (&self.file).write_all(&first).and_then(|()| (&self.file).write_all(&self.buf));
        if let Err(error) = written {
            // Half a batch must not stay: it would be written again by the next try.
            let _ = self.file.set_len(size);
            return Err(self.system("write", error));
        }
        if size == 0 {
            (self.start, self.compacted) = (HEADER_LEN as u64, HEADER_LEN as u64);
        }
        self.buf.clear();
        Ok(())
    }

    /// Puts what was flushed on the disk: from then on it survives the death of the machine.
    ///
    /// # Errors
    /// What the system says; an error here can mean a full disk.
    pub fn sync(&mut self) -> Result<(), StateError> {
        match self.refused {
            Some(_) => Ok(()),
            None => self.file.sync_data().map_err(|e| self.system("sync", e)),
        }
    }

    /// Gives every ban that still counts to `each`, once, in no order: those that have not ended at `now`,
    /// and those that ended less than `keep` seconds before (for counting how often an address was banned;
    /// [`BanRecord::left`] tells them apart). What is not written yet counts too. Returns how many bytes of
    /// the file are damaged and were passed over.
    ///
    /// # Errors
    /// The file cannot be read. What was given before is good.
    pub fn live(
        &mut self,
        now: Wall,
        keep: u64,
        each: &mut dyn FnMut(BanRecord<'_>),
    ) -> Result<u64, StateError> {
        let mut reading = self.reading(now, keep)?;
        while reading.step(each)? {}
        Ok(reading.damaged())
    }

    /// Whether changes can be ordered by the lock of state_dir.
    #[must_use]
    pub fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether nothing can be written: a read-only disk.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Forgets those of the records that are not written yet which are not wanted.
    pub fn retain(&mut self, wanted: &mut dyn FnMut(&JournalRecord<'_>) -> bool) {
        let mut kept = Vec::with_capacity(self.buf.capacity());
        scan(&self.buf, &mut |_, record| {
            if wanted(&record) {
                encode(&record, &mut kept);
            }
        });
        self.buf = kept;
    }

    /// Takes the lock on bans: kernel and journal change under it. None where there can be none.
    ///
    /// # Errors
    /// `Busy` when another process has it for too long.
    pub fn hold(&mut self) -> Result<Option<HeldLock>, StateError> {
        self.hold_for(self.patience)
    }

    /// Likewise, with another patience.
    ///
    /// # Errors
    /// As [`BanJournal::hold`].
    pub fn hold_for(&mut self, patience: Duration) -> Result<Option<HeldLock>, StateError> {
        let patience = if self.gave_up { patience.min(RETRY_WAIT_MAX) } else { patience };
        let held = self.lock.as_mut().map(|lock| lock.hold(LockPart::Bans, patience)).transpose();
        self.gave_up = matches!(held, Err(StateError::Busy(_)));
        held
    }

    /// Has all others that wait for the lock let this process go first.
    pub fn go_first(&mut self) {
        self.lock.iter_mut().for_each(StateLock::go_first);
    }

    /// Bytes of the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn size(&self) -> Result<u64, StateError> {
        self.file.metadata().map(|meta| meta.len()).map_err(|e| self.system("read", e))
    }

    /// Whether the file has at least doubled since its last compaction, so that another one is worth its
    /// writes.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        self.refused.is_none() && self.size().is_ok_and(|size| size > SMALL + 2 * self.compacted)
    }

    /// Opens the file anew if another process has replaced or removed it, and reads the first line if there
    /// was none yet.
    fn follow(&mut self) -> Result<(), StateError> {
        match self.dir.holds(NAME, &self.file) {
            Ok(true) if self.start > 0 => Ok(()),
            Ok(true) => self.read_header().map(drop),
            Ok(false) if self.refused.is_some() => Ok(()),
            Ok(false) => self.reopen(),
            Err(error) => Err(self.system("open", error)),
        }
    }

    fn reopen(&mut self) -> Result<(), StateError> {
        let file = self.dir.file(NAME, Access::Append).or_else(|error| {
            // The directory itself may be gone, and a new one of its name there.
            if error.kind() == io::ErrorKind::NotFound {
                self.dir = Dir::create(self.path.parent().unwrap_or(Path::new("/")))?;
            }
            self.dir.file(NAME, Access::Append)
        });
        self.file = file.map_err(|e| self.system("open", e))?;
        self.replaced = self.replaced.wrapping_add(1);
        self.read_header().map(drop)
    }

    /// Reads the first line. Returns false if this is no journal of this version: neither the line nor any
    /// record is.
    fn read_header(&mut self) -> Result<bool, StateError> {
        let mut line = [0; HEADER_LEN];
        let got = self.file.read_at(&mut line, 0).map_err(|e| self.system("read", e))?;
        (self.start, self.compacted) = (0, 0);
        if let Some(compacted) = parse_header(&line) {
            (self.start, self.compacted) = (HEADER_LEN as u64, compacted);
            return Ok(true);
        }
        // An empty file, or one whose first write was torn.
        if header(0).starts_with(line.get(..got.min(HEADER_WORDS.len())).unwrap_or(&[])) && got < HEADER_LEN {
            return Ok(true);
        }
        self.any_record().map_err(|e| self.system("read", e))
    }

    /// Whether there is a whole record anywhere.
    fn any_record(&self) -> io::Result<bool> {
        let mut chunk = vec![0; BUFFER];
        let mut at = 0;
        loop {
            let got = self.file.read_at(&mut chunk, at)?;
            let Some(mut rest) = chunk.get(..got).filter(|rest| !rest.is_empty()) else { return Ok(false) };
            while !rest.is_empty() {
                let followed = if got < BUFFER { Followed::ByNothing } else { Followed::ByMore };
                let len = match step(rest, followed, Checksum::Verify) {
                    RecordStep::Whole(..) | RecordStep::Past(..) => return Ok(true),
                    RecordStep::Unknown(len) | RecordStep::Damaged(len) => len,
                    RecordStep::Short => break,
                };
                at += len as u64;
                rest = rest.get(len..).unwrap_or(&[]);
            }
        }
    }

    fn set_aside(&mut self, now: Wall) -> Result<StateError, StateError> {
        let name = format!("{NAME}.bad-{}", now.0);
        self.dir.rename(NAME, &name).map_err(|e| self.system("rename", e))?;
        self.reopen()?;
        Ok(StateError::SetAside { path: self.path.clone(), to: self.path.with_file_name(name) })
    }

    fn system(&self, call: &'static str, error: io::Error) -> StateError {
        StateError::System { call, path: self.path.clone(), error }
    }
}

/// The first line for a file that is `compacted` bytes long after its compaction.
fn header(compacted: u64) -> Vec<u8> {
    let mut line = HEADER_WORDS.to_vec();
    let _ = writeln!(line, "{:010}", compacted.min(SIZE_MAX));
    line
}

fn parse_header(line: &[u8; HEADER_LEN]) -> Option<u64> {
    let digits = line.strip_prefix(HEADER_WORDS)?.strip_suffix(b"\n")?;
    digits.iter().try_fold(0u64, |n, digit| digit.is_ascii_digit().then(|| n * 10 + u64::from(digit - b'0')))
}
