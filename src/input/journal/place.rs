#![forbid(unsafe_code)]
//! How far the journal was read, and what that says about entries of other files. Within one sequence of
//! numbers the number decides; across sequences the time since the boot, and across boots the clock. No I/O.

use super::format::{EntryHead, FileHeader, Id};
use crate::base::position::Position;
use std::path::{Path, PathBuf};

/// Names under which the two halves of a place are kept among the positions of files, whose names begin with
/// `/`.
const NUMBER: &str = "journal";
const BOOT: &str = "journal-boot";

/// Where journald keeps a file, in its own words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    /// Below /run: it is gone after a reboot.
    #[default]
    Volatile,
    /// Below /var: it stays.
    Persistent,
}

/// The last entry that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalPosition {
    /// Where its file was.
    pub storage: Storage,
    /// Its sequence of numbers, and its number therein.
    pub sequence: Id,
    /// See `sequence`.
    pub seqnum: u64,
    /// When it was written, in microseconds since 1970.
    pub realtime: u64,
    /// Its boot.
    pub boot: Id,
    /// When it was written, in microseconds since that.
    pub monotonic: u64,
    /// How many entries of that very microsecond were read.
    pub same: u64,
}

impl JournalPosition {
    /// Behind everything that was written before `seconds` since 1970.
    pub fn since(seconds: u64) -> JournalPosition {
        JournalPosition { realtime: seconds.saturating_mul(1_000_000), ..JournalPosition::default() }
    }

    /// Finds the halves among saved positions. Without the second one the clock must do across sequences.
    pub fn find(saved: &[(PathBuf, Position)]) -> Option<JournalPosition> {
        let find = |name: &str| saved.iter().find(|(path, _)| path == Path::new(name)).map(|(_, p)| *p);
        let number = find(NUMBER)?;
        let boot = find(BOOT).unwrap_or_default();
        Some(JournalPosition {
            storage: if boot.tail & 1 == 1 { Storage::Persistent } else { Storage::Volatile },
            sequence: [number.dev, number.ino],
            seqnum: number.offset,
            realtime: number.tail,
            boot: [boot.dev, boot.ino],
            monotonic: boot.offset,
            same: boot.tail >> 1,
        })
    }

    /// The halves, to be saved.
    pub fn save(&self, each: &mut dyn FnMut(&Path, Position)) {
        let ([dev, ino], [boot_dev, boot_ino]) = (self.sequence, self.boot);
        each(Path::new(NUMBER), Position { dev, ino, offset: self.seqnum, tail: self.realtime });
        let tail = self.same << 1 | self.storage as u64;
        each(Path::new(BOOT), Position { dev: boot_dev, ino: boot_ino, offset: self.monotonic, tail });
    }

    /// Whether the numbers in a file go on from here. Not from /run to /var: what is moved there gets new
    /// numbers.
    pub fn continues(&self, storage: Storage, header: &FileHeader) -> bool {
        self.sequence == header.sequence && self.storage == storage
    }

    /// Whether a file seems to hold something newer.
    pub fn precedes(&self, storage: Storage, header: &FileHeader) -> bool {
        if self.continues(storage, header) {
            return header.last > self.seqnum;
        }
        // Some versions note a boot that is not that of the newest entry: rather look in vain.
        let later = self.boot == header.boot && header.last_mono > self.monotonic;
        header.entries > 0 && (later || header.last_time > self.realtime)
    }

    /// Whether an entry was read already, as far as one can tell without counting those of the same
    /// microsecond.
    pub fn covers(&self, continues: bool, entry: &EntryHead) -> bool {
        if continues {
            entry.seqnum <= self.seqnum
        } else if self.boot == entry.boot {
            entry.monotonic < self.monotonic
        } else {
            entry.realtime <= self.realtime
        }
    }

    /// Whether an entry was written in the same microsecond.
    pub fn coincides(&self, entry: &EntryHead) -> bool {
        self.boot == entry.boot && self.monotonic == entry.monotonic
    }

    /// Goes on to an entry.
    pub fn pass(&mut self, storage: Storage, sequence: Id, entry: &EntryHead) {
        let same = if self.coincides(entry) { self.same + 1 } else { 1 };
        let &EntryHead { seqnum, realtime, monotonic, boot, .. } = entry;
        *self = JournalPosition { storage, sequence, seqnum, realtime, boot, monotonic, same };
    }
}
