#![forbid(unsafe_code)]
//! What happened, in the order of the records: bans and the ends of bans by hand, each with its time and the
//! line that led to it.

use super::{BanJournal, StateError};
use crate::base::clock::Wall;
use crate::base::range::Range;
use crate::state::record::{
    Checksum, Followed, JournalRecord, RECORD_MAX, RECORD_MIN, RecordStep, skim, skim_marks, skim_others,
    step,
};
use ipnet::{IpNet, Ipv4Net};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Bytes read at once; at least two records.
const CHUNK: usize = 16 * 1024;
/// The same for who is waited for.
const QUICK: usize = 128 * 1024;

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub struct JournalEvent<'a> {
    /// When; of an end of a ban that versions before wrote down, that of the event before it.
    pub at: Wall,
    /// The line that led to it, safe to show; perhaps empty.
    pub line: &'a str,
    /// A ban, or the end of one.
    pub record: JournalRecord<'a>,
    /// Where it begins.
    offset: u64,
}

impl JournalEvent<'_> {
    /// Whom it is about: everybody, where all bans were ended.
    #[must_use]
    pub fn addr(&self) -> IpNet {
        match self.record {
            JournalRecord::Ban(entry) => entry.addr,
            JournalRecord::Unban(net) | JournalRecord::Note(net, ..) => net,
            JournalRecord::Clear | JournalRecord::ClearTimed | JournalRecord::Carried => {
                IpNet::from(Ipv4Net::default())
            }
        }
    }
}

/// A note that waits for its record.
struct PendingNote {
    addr: IpNet,
    at: Wall,
    line: String,
    offset: u64,
}

/// Finds the events of a part of the file.
pub(super) struct EventScan {
    at: u64,
    end: u64,
    note: PendingNote,
    /// The record before this one was that.
    is_noted: bool,
    /// That of the last event.
    time: Wall,
    /// Behind the last mark: what stands before it is no event, or not any more.
    pub(super) mark: u64,
    buf: Vec<u8>,
    /// No checksum has to be looked at again.
    trusts: bool,
    /// Whom events must meet; everything else is passed over.
    only: Option<Range>,
    /// The same if it is one address of IPv4.
    addr: Option<[u8; 4]>,
}

/// Takes an event; none is the mark behind bans that were written anew.
type EachEvent<'e> = &'e mut dyn FnMut(Option<JournalEvent<'_>>);

impl EventScan {
    pub(super) fn new(start: u64, end: u64) -> EventScan {
        EventScan::with_chunk(start, end, CHUNK)
    }

    fn with_chunk(start: u64, end: u64, chunk: usize) -> EventScan {
        let everybody = IpNet::from(Ipv4Net::default());
        let note = PendingNote { addr: everybody, at: Wall(0), line: String::new(), offset: 0 };
        let (time, buf, is_noted) = (Wall(0), vec![0; chunk], false);
        let (trusts, only, addr) = (false, None, None);
        EventScan { at: start, end, note, is_noted, time, mark: start, buf, trusts, only, addr }
    }

    /// Begins anew behind the last mark, in bytes that were looked at.
    pub(super) fn again(&mut self) {
        (self.at, self.is_noted, self.time, self.trusts) = (self.mark, false, Wall(0), true);
    }

    /// Reads one buffer; whether there is more.
    pub(super) fn step(&mut self, file: &File, each: EachEvent<'_>) -> io::Result<bool> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(false);
        }
        let mut buf = std::mem::take(&mut self.buf);
        let want = buf.len().min(left);
        let result = file.read_at(buf.get_mut(..want).unwrap_or_default(), self.at);
        match result {
            // Somebody has cut the file shorter.
            Ok(0) => self.end = self.at,
            Ok(got) => {
                let followed = if got == left || got < want { Followed::ByNothing } else { Followed::ByMore };
                self.take(buf.get(..got).unwrap_or_default(), followed, each);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        self.buf = buf;
        Ok(self.at < self.end)
    }

    /// Takes in the records of some bytes.
    fn take(&mut self, mut rest: &[u8], followed: Followed, each: EachEvent<'_>) {
        while !rest.is_empty() {
            if let Some(len) = self.others(rest).filter(|len| *len <= rest.len()) {
                self.at += len as u64;
                rest = rest.get(len..).unwrap_or_default();
                continue;
            }
            let checksum = if self.trusts { Checksum::Trust } else { Checksum::Verify };
            let len = match step(rest, followed, checksum) {
                RecordStep::Whole(record, len) | RecordStep::Past(record, len) => {
                    self.record(record, len as u64, each);
                    len
                }
                RecordStep::Unknown(len) | RecordStep::Damaged(len) => len,
                RecordStep::Short => break,
            };
            self.at += len as u64;
            rest = rest.get(len..).unwrap_or_default();
        }
    }

    /// The length of a record that is about others than whom is asked for.
    fn others(&self, rest: &[u8]) -> Option<usize> {
        let only = self.only?;
        if let Some(len) = self.addr.and_then(|addr| skim_others(rest, addr)) {
            return Some(len);
        }
        let (len, _) = skim(rest).filter(|(_, net)| !only.meets(&Range::from(*net)))?;
        Some(len)
    }

    fn record(&mut self, record: JournalRecord<'_>, len: u64, each: EachEvent<'_>) {
        let is_noted = std::mem::take(&mut self.is_noted);
        match record {
            JournalRecord::Note(addr, at, line) => {
                // In the room of the one before.
                let note = &mut self.note;
                (note.addr, note.at, note.offset) = (addr, at, self.at);
                note.line.clear();
                note.line.push_str(line);
                self.is_noted = true;
            }
            JournalRecord::Carried => {
                self.mark = self.at + len;
                each(None);
            }
            record => {
                let mut event = JournalEvent { at: self.time, line: "", record, offset: self.at };
                let note = Some(&self.note).filter(|note| is_noted && note.addr == event.addr());
                if let Some(note) = note {
                    (event.at, event.line, event.offset) = (note.at, &note.line, note.offset);
                } else if let JournalRecord::Ban(entry) = record {
                    event.at = entry.since;
                }
                self.time = event.at;
                each(Some(event));
            }
        }
    }

    /// The event at the beginning of some bytes, if they are undamaged.
    fn one(
        &mut self,
        mut bytes: &[u8],
        each: &mut dyn FnMut(&JournalEvent<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        (self.is_noted, self.time) = (false, Wall(0));
        let mut result = None;
        while result.is_none()
            && let RecordStep::Whole(record, len) | RecordStep::Past(record, len) =
                step(bytes, Followed::ByNothing, Checksum::Verify)
        {
            self.record(record, 0, &mut |event| result = event.map(|event| each(&event)));
            bytes = bytes.get(len..).filter(|rest| !rest.is_empty()).unwrap_or(&[0]);
        }
        result.unwrap_or(Ok(()))
    }
}

/// The history of a journal, as it was when this was opened.
pub struct PastEvents {
    file: File,
    path: PathBuf,
    start: u64,
    end: u64,
}

impl BanJournal {
    /// The events that are written.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn events(&mut self) -> Result<PastEvents, StateError> {
        let end = self.mark()?.at;
        let file = self.file.try_clone().map_err(|e| self.system("read", e))?;
        Ok(PastEvents { file, path: self.path.clone(), start: self.start, end })
    }
}

impl PastEvents {
    /// Gives the last `most` events that are `wanted` to `each`, the newest first. Memory is that of their
    /// places.
    ///
    /// # Errors
    /// The file cannot be read, or what `each` says.
    pub fn newest_first(
        &self,
        most: u32,
        wanted: &dyn Fn(&JournalEvent<'_>) -> bool,
        each: &mut dyn FnMut(&JournalEvent<'_>) -> io::Result<()>,
    ) -> Result<(), StateError> {
        let failed = |error: io::Error| StateError::System { call: "read", path: self.path.clone(), error };
        let mut scan = EventScan::new(self.start, self.end);
        self.skip_to_last_mark(&mut scan).map_err(failed)?;
        // As many as there can be: pages that are not reached cost nothing.
        let records =
            usize::try_from(self.end.saturating_sub(scan.at) / RECORD_MIN as u64).unwrap_or(usize::MAX);
        let mut places: VecDeque<(u32, u32)> = VecDeque::with_capacity(records.min(most as usize));
        let mut number = 0u32;
        // What is damaged is found when it is given.
        scan.trusts = true;
        let mut find = |event: Option<JournalEvent<'_>>| {
            let Some(event) = event else {
                places.clear();
                number = 0;
                return;
            };
            number = number.saturating_add(1);
            while places.front().is_some_and(|(first, _)| first.saturating_add(most) <= number) {
                places.pop_front();
            }
            if most > 0 && wanted(&event) {
                places.push_back((number, u32::try_from(event.offset).unwrap_or(u32::MAX)));
            }
        };
        while scan.step(&self.file, &mut find).map_err(failed)? {}
        let mut buf = std::mem::take(&mut scan.buf);
        let mut places = places.into_iter().rev().peekable();
        while let Some(&(_, last)) = places.peek() {
            // What ends with the next event to give: those before it are most likely in the same bytes.
            let end = u64::from(last).saturating_add(2 * RECORD_MAX as u64).min(self.end);
            let from = end.saturating_sub(buf.len() as u64);
            let got = self.file.read_at(&mut buf, from).map_err(failed)?;
            let bytes = buf.get(..got).unwrap_or_default();
            while let Some((_, place)) = places.next_if(|(_, place)| u64::from(*place) >= from) {
                let skip = usize::try_from(u64::from(place) - from).unwrap_or(usize::MAX);
                let rest = bytes.get(skip..).unwrap_or_default();
                scan.one(rest, each).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Has the scan begin where the events do: behind the last mark.
    fn skip_to_last_mark(&self, scan: &mut EventScan) -> io::Result<()> {
        let mut at = self.start;
        while at < self.end {
            let got = self.file.read_at(&mut scan.buf, at)?;
            let mut rest = scan.buf.get(..got).unwrap_or_default();
            let before = at;
            while let Some((len, is_mark)) = skim_marks(rest).filter(|(len, _)| *len <= rest.len()) {
                at += len as u64;
                scan.at = if is_mark { at } else { scan.at };
                rest = rest.get(len..).unwrap_or_default();
            }
            if at == before {
                // Damage: the careful way finds what is behind it.
                break;
            }
        }
        Ok(())
    }

    /// Gives every event that meets a range to `each`, the oldest first; none where what came before is no
    /// event any more.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oldest_first(&self, only: &Range, each: EachEvent<'_>) -> Result<(), StateError> {
        let failed = |error: io::Error| StateError::System { call: "read", path: self.path.clone(), error };
        let mut scan = EventScan::with_chunk(self.start, self.end, QUICK);
        scan.only = Some(*only);
        scan.addr = match (only.first(), only.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first == last => Some(first.octets()),
            _ => None,
        };
        while scan.step(&self.file, each).map_err(failed)? {}
        Ok(())
    }
}
