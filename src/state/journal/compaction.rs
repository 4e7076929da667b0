#![forbid(unsafe_code)]
//! Rewriting the journal without what no longer counts, in small steps, beside writers that go on.

use super::history::EventScan;
use super::{BanJournal, NAME, TEMP, header};
use crate::base::clock::Wall;
use crate::state::StateError;
use crate::state::lock::{HeldLock, LockPart};
use crate::state::record::{BanRecord, HEADER_LEN, JournalRecord, encode, encode_past};
use crate::state::sweep::{SMALL, Sweep};
use crate::sys::dir::Access;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// A compaction under way. If it is dropped, or its process dies, the journal stays as it is.
pub struct Compaction {
    sweep: Sweep,
    now: Wall,
    temp: File,
    out: Vec<u8>,
    /// Where in the old file begins what was appended meanwhile.
    end: u64,
    /// The last events, which are copied once the bans are; how many there are is counted before.
    events: Option<EventScan>,
    is_counted: bool,
    /// Events found, and how many of them are too many.
    found: u64,
    most: u64,
    /// Which of its successive files the journal was reading.
    replaced: u32,
    /// One compaction at a time.
    _held: Option<HeldLock>,
}

/// What a compaction keeps beside the bans that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Bans that ended less than so many seconds ago, if they are worth it.
    pub ended: u64,
    /// How many of the last events.
    pub events: u64,
}

impl BanJournal {
    /// Begins a compaction that drops what is superseded and what had ended before `now` for longer than it
    /// is kept.
    ///
    /// # Errors
    /// `Busy` when another process is at it; or the new file cannot be written.
    pub fn compact(&mut self, now: Wall, keep: Keep) -> Result<Compaction, StateError> {
        self.flush()?;
        let held =
            self.lock.as_mut().map(|lock| lock.hold(LockPart::Compaction, Duration::ZERO)).transpose()?;
        let temp = self.dir.file(TEMP, Access::Write).map_err(|e| self.system("compact", e))?;
        temp.set_len(0).map_err(|e| self.system("compact", e))?;
        // Under the lock, so that the end is not in the middle of somebody's record.
        let bans = self.hold()?;
        let end = self.mark()?;
        drop(bans);
        let sweep = Sweep::new(self.key, (now, keep.ended), (self.start, end.at), Vec::new(), SMALL);
        let (out, replaced, end) = (header(0), end.replaced, end.at);
        let (events, is_counted, found) = (None, false, 0);
        Ok(Compaction {
            sweep,
            now,
            temp,
            out,
            end,
            events,
            is_counted,
            found,
            most: keep.events,
            replaced,
            _held: held,
        })
    }

    /// Does the next part of a compaction, a fraction of a millisecond long, and returns it if there is more
    /// to do. Of bans that have ended only those are kept that are `worth` it: so the file is bounded by what
    /// the caller can make use of.
    ///
    /// # Errors
    /// The new file cannot be written, or the journal was replaced by another process (`Busy`). The journal
    /// is then as it was.
    pub fn compact_step(
        &mut self,
        mut compaction: Compaction,
        worth: &dyn Fn(&BanRecord<'_>) -> bool,
    ) -> Result<Option<Compaction>, StateError> {
        let result = match self.advance(&mut compaction, worth) {
            Ok(true) => return Ok(Some(compaction)),
            Ok(false) => self.finish(&mut compaction),
            Err(error) => Err(self.system("compact", error)),
        };
        if result.is_err() {
            // While the compaction still has its lock: the next one's file has the same name.
            let _ = self.dir.remove(TEMP);
        }
        drop(compaction);
        result.map(|()| None)
    }

    /// Writes the bans that the next buffer of the old file holds. Returns whether there is more.
    fn advance(
        &self,
        compaction: &mut Compaction,
        worth: &dyn Fn(&BanRecord<'_>) -> bool,
    ) -> io::Result<bool> {
        let Compaction { sweep, out, now, events, .. } = compaction;
        let more = if events.is_some() {
            self.copy_events(compaction)?
        } else {
            let more = sweep.step(&self.file, &mut |entry| {
                if !entry.forgotten(*now, 0) || worth(&entry) {
                    encode(&JournalRecord::Ban(entry), out);
                }
            })?;
            if !more {
                if !out.is_empty() || compaction.temp.metadata()?.len() > HEADER_LEN as u64 {
                    encode(&JournalRecord::Carried, out);
                }
                *events = Some(EventScan::new(self.start, compaction.end));
            }
            more || compaction.most > 0
        };
        compaction.temp.write_all(&compaction.out)?;
        compaction.out.clear();
        Ok(more)
    }

    /// Reads the next events, to count them, and then to write those that are kept. Returns whether there is
    /// more.
    fn copy_events(&self, compaction: &mut Compaction) -> io::Result<bool> {
        let Compaction { events, out, is_counted, found, most, .. } = compaction;
        let Some(events) = events else { return Ok(false) };
        let more = events.step(&self.file, &mut |event| match event {
            None => *found = 0,
            Some(_) if !*is_counted => *found += 1,
            Some(_) if *found > *most => *found -= 1,
            Some(event) => {
                encode_past(&event.record, (event.addr(), event.at, event.line), out);
            }
        })?;
        if !more && !*is_counted {
            *is_counted = true;
            events.again();
            return Ok(*found > 0);
        }
        Ok(more)
    }

    /// Puts the new file in the place of the old one.
    fn finish(&mut self, compaction: &mut Compaction) -> Result<(), StateError> {
        let failed = |journal: &BanJournal, error| journal.system("compact", error);
        let temp = &mut compaction.temp;
        // Most of it goes to the disk before the lock is taken, so that nobody waits for that.
        temp.sync_data().map_err(|e| failed(self, e))?;
        let file = self.file.try_clone().map_err(|e| failed(self, e))?;
        let held = self.hold()?;
        let same = self.dir.holds(NAME, &file).map_err(|e| failed(self, e))?;
        if !same || self.replaced != compaction.replaced {
            return Err(StateError::Busy(self.path.clone()));
        }
        let mut copy = || -> io::Result<()> {
            let mut chunk = [0; 4096];
            loop {
                let got = file.read_at(&mut chunk, compaction.end)?;
                if got == 0 {
                    break;
                }
                temp.write_all(chunk.get(..got).unwrap_or(&[]))?;
                compaction.end += got as u64;
            }
            temp.write_all_at(&header(temp.metadata()?.len()), 0)?;
            temp.sync_data()?;
            self.dir.rename(TEMP, NAME)
        };
        copy().map_err(|e| failed(self, e))?;
        let durable = self.dir.sync();
        self.reopen()?;
        drop(held);
        durable.map_err(|e| failed(self, e))
    }
}
