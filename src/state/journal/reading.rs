#![forbid(unsafe_code)]
//! Reads the bans that count, while others append.

use super::super::record::{BanRecord, JournalRecord, scan};
use super::super::sweep::{QUICK, Sweep};
use super::{BanJournal, StateError};
use crate::base::clock::Wall;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// A place in the journal: what was appended behind it can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalMark {
    /// Which of its successive files.
    pub(super) replaced: u32,
    pub(super) at: u64,
}

/// A reading under way, independent of what the journal does meanwhile.
pub struct JournalReading {
    sweep: Sweep,
    file: File,
    path: PathBuf,
    /// Where it ends.
    pub mark: JournalMark,
}

impl BanJournal {
    /// Begins to read every ban that has not ended at `now` or ended less than `keep` seconds before. What is
    /// not yet written counts, too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reading(&mut self, now: Wall, keep: u64) -> Result<JournalReading, StateError> {
        let mark = self.mark()?;
        let file = self.file.try_clone().map_err(|e| self.system("read", e))?;
        let sweep = Sweep::new(self.key, (now, keep), (self.start, mark.at), self.buf.clone(), QUICK);
        Ok(JournalReading { sweep, file, path: self.path.clone(), mark })
    }

    /// The end of what is written.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn mark(&mut self) -> Result<JournalMark, StateError> {
        self.follow()?;
        Ok(JournalMark { replaced: self.replaced, at: self.size()? })
    }

    /// Gives the records behind the mark to `each` and moves it behind them. Returns false if another file
    /// has taken the journal's place: then everything has to be read again. Under the lock nothing comes
    /// after them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn since(
        &mut self,
        mark: &mut JournalMark,
        each: &mut dyn FnMut(JournalRecord<'_>),
    ) -> Result<bool, StateError> {
        let end = self.mark()?;
        if end.replaced != mark.replaced || end.at < mark.at {
            return Ok(false);
        }
        let mut bytes = vec![0; usize::try_from(end.at - mark.at).unwrap_or(0)];
        if !bytes.is_empty() {
            self.file.read_exact_at(&mut bytes, mark.at).map_err(|e| self.system("read", e))?;
            scan(&bytes, &mut |_, record| each(record));
        }
        *mark = end;
        Ok(true)
    }
}

impl JournalReading {
    /// Reads on, a fraction of a millisecond long; returns whether there is more. Each ban comes once, in no
    /// order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn step(&mut self, each: &mut dyn FnMut(BanRecord<'_>)) -> Result<bool, StateError> {
        let failed = |error: io::Error| StateError::System { call: "read", path: self.path.clone(), error };
        self.sweep.step(&self.file, each).map_err(failed)
    }

    /// Bytes that are damaged and were passed over.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.sweep.tally.damaged
    }
}
