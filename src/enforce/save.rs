#![forbid(unsafe_code)]
//! What the journal has taken in goes to the disk, and what it does not need any more out of it.

use super::Enforcer;
use crate::base::clock::Wall;
use crate::state::StateError;
use crate::state::journal::{BanJournal, Keep};
use crate::state::record::BanRecord;

/// What the journal is to keep of bans that have ended.
#[derive(Clone, Copy)]
pub struct Memory<'m> {
    /// Seconds since their end at most.
    pub keep: u64,
    /// Which of them are of use.
    pub worth: &'m dyn Fn(&BanRecord<'_>) -> bool,
}

impl Memory<'static> {
    /// For who does not count bans: what others may want to count, for a year.
    pub const OF_OTHERS: Memory<'static> = Memory { keep: 366 * 86_400, worth: &|entry| entry.bans > 0 };
}

/// How far the journal is to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedUntil {
    /// The system has it: it outlives this process.
    System,
    /// The disk has it: it outlives the system, too.
    Disk,
}

/// Seconds between a compaction that failed and the next one.
const RETRY: u64 = 300;

impl Enforcer {
    /// Bytes that the journal has taken in and not yet written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.journal.as_ref().map_or(0, BanJournal::pending)
    }

    /// Whether something waits that the journal has taken in, or that it had no room for.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.missed || self.pending() > 0
    }

    /// Whether the journal may be written; so it seems, too, where there is none.
    #[must_use]
    pub fn may_write(&self) -> bool {
        !self.journal.as_ref().is_some_and(BanJournal::is_refused)
    }

    /// Hands what the journal has taken in to the system.
    ///
    /// # Errors
    /// What cannot be written is kept for the next try.
    pub fn save(&mut self, until: SavedUntil) -> Result<(), StateError> {
        self.write()?;
        self.catch_up()?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        match until {
            SavedUntil::Disk => journal.sync(),
            SavedUntil::System => Ok(()),
        }
    }

    /// Begins a compaction of the journal if it is worth one.
    ///
    /// # Errors
    /// It cannot begin, and will be tried again later.
    pub fn begin_compaction(&mut self, now: Wall, memory: Memory<'_>) -> Result<(), StateError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if self.compaction.is_none() && now >= self.retry && journal.wants_compaction() {
            let kept = Keep { ended: memory.keep, events: self.history.into() };
            let begun = journal.compact(now, kept).map(Some);
            self.compaction = self.failed(now, begun)?.flatten();
        }
        Ok(())
    }

    /// What became of a part of a compaction, `None` if it failed. That somebody else is at it is no error.
    fn failed<T>(&mut self, now: Wall, result: Result<T, StateError>) -> Result<Option<T>, StateError> {
        if result.is_err() {
            self.retry = Wall(now.0.saturating_add(RETRY));
        }
        match result {
            Ok(done) => Ok(Some(done)),
            Err(StateError::Busy(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether a compaction is under way.
    #[must_use]
    pub fn compacts(&self) -> bool {
        self.compaction.is_some()
    }

    /// Does the next part of a compaction, a fraction of a millisecond long.
    ///
    /// # Errors
    /// It failed: the journal is as it was, and will be compacted another time.
    pub fn compact(&mut self, now: Wall, memory: Memory<'_>) -> Result<(), StateError> {
        if let (Some(journal), Some(compaction)) = (&mut self.journal, self.compaction.take()) {
            let result = journal.compact_step(compaction, memory.worth);
            self.compaction = self.failed(now, result)?.flatten();
        }
        Ok(())
    }

    /// As [`Enforcer::save`], for commands: compacts the journal, too, if it is worth it.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn close(&mut self, now: Wall) -> Result<(), StateError> {
        self.save(SavedUntil::System)?;
        self.begin_compaction(now, Memory::OF_OTHERS)?;
        while self.compacts() {
            self.compact(now, Memory::OF_OTHERS)?;
        }
        Ok(())
    }
}
