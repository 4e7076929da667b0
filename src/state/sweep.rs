#![forbid(unsafe_code)]
//! Finds the bans of a journal that still count, in memory that does not grow with the number of addresses in
//! it.
//!
//! An address is banned until the latest end of the bans that cover it, of those that no later record has
//! lifted. Which record of an address that is stands fast at the end of the file only, so there are two
//! passes: the first notes the offset of every address's best record in a table, the second picks out the
//! records at just these offsets. The table is as large as the file asks for, up to 4 MB (512 kB for a
//! compaction): that is enough for 190,000 addresses. Of more, they are divided by a hash into as many parts
//! as make each fit, with two passes for each part; a part that turns out too large is divided again. Only
//! the first pass looks at checksums, unless it finds damage; the others read no more of a record of another
//! part than whom it is about. The work is cut into steps of one buffer each, so that a caller with something
//! better to do is never held up.
//!
//! The table holds 64 bits of a keyed hash instead of the address: among 190,000 two that nobody can aim at
//! each other share them once in a billion journals, and then one ban is forgotten at a reboot. Networks are
//! few, and can overlap: they are kept as intervals ([`networks`](super::networks)), in less memory than they
//! take in the kernel.

use super::networks::{Networks, is_network};
use super::record::{BanRecord, Checksum, Followed, JournalRecord, RecordStep, glance, step};
use crate::base::clock::Wall;
use crate::base::siphash::{Sip, sip13};
use ipnet::IpNet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes read at once; at least `RECORD_MAX`.
const CHUNK: usize = 32 * 1024;
/// Places of the table, a power of two, for whoever waits for the result; 16 bytes each.
pub(super) const QUICK: u64 = 1 << 18;
/// The same for whoever has time but little memory.
pub(super) const SMALL: u64 = 1 << 15;
/// Bytes of a usual record.
const USUAL: u64 = 48;
/// Parts at most, so that their numbers fit beside the hash.
const PARTS_MAX: u64 = 1 << 16;

/// What the passes found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SweepTally {
    /// Whole records, of all kinds.
    pub(super) records: u64,
    /// Bytes that belong to no whole record.
    pub(super) damaged: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// The first pass, which looks at checksums.
    First,
    Index,
    Pick,
}

/// The best record of an address, or its last lifting.
#[derive(Clone, Copy, Default)]
struct SweepSlot {
    /// The hash of what it is about.
    hash: [u32; 2],
    /// Plus one; 0 is an empty place.
    offset: u32,
    /// When the ban ends, as far as 32 bits go.
    until: u32,
}

/// A search under way. It sees the bytes of the file from `start` to `end`, which must not change, and those
/// of `tail` behind them.
pub(super) struct Sweep {
    key: [u64; 2],
    now: Wall,
    keep: u64,
    start: u64,
    end: u64,
    /// What is to be read as if it stood behind the file.
    tail: Vec<u8>,
    at: u64,
    phase: Phase,
    part: u64,
    parts: u64,
    table: Vec<SweepSlot>,
    /// Places taken.
    taken: usize,
    /// Offsets of the last `Clear` and `ClearTimed`, plus one.
    cleared: u64,
    cleared_timed: u64,
    networks: Networks,
    /// The line that the next record is about.
    note: (Option<IpNet>, String),
    buf: Vec<u8>,
    pub(super) tally: SweepTally,
}

impl Sweep {
    /// Of the bans in the bytes from `start` to `end` and in `tail` (together less than 4 GiB), those that
    /// ended less than `keep` seconds before `now`, or have not ended. The table has at most `most` places.
    pub(super) fn new(
        key: [u64; 2],
        (now, keep): (Wall, u64),
        (start, end): (u64, u64),
        tail: Vec<u8>,
        most: u64,
    ) -> Sweep {
        let records = (end.saturating_sub(start) + tail.len() as u64) / USUAL + 16;
        let places = (records * 3 / 2).next_power_of_two().min(most);
        Sweep {
            key,
            now,
            keep,
            start,
            end,
            tail,
            at: start,
            phase: Phase::First,
            part: 0,
            parts: records.div_ceil(most / 4 * 3),
            table: vec![SweepSlot::default(); usize::try_from(places).unwrap_or(0)],
            taken: 0,
            cleared: 0,
            cleared_timed: 0,
            networks: Networks::default(),
            note: (None, String::new()),
            buf: vec![0; CHUNK],
            tally: SweepTally::default(),
        }
    }

    /// Reads one buffer of `file` and hands what is found to `each`. Returns whether there is more to do.
    pub(super) fn step(&mut self, file: &File, each: &mut dyn FnMut(BanRecord<'_>)) -> io::Result<bool> {
        if self.at < self.end {
            let mut buf = std::mem::take(&mut self.buf);
            let result = self.read(file, &mut buf, each);
            self.buf = buf;
            return result.map(|()| true);
        }
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.scan_records(&tail, Followed::ByNothing, each);
            self.tail = tail;
        }
        Ok(self.turn())
    }

    fn read(&mut self, file: &File, buf: &mut [u8], each: &mut dyn FnMut(BanRecord<'_>)) -> io::Result<()> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let got = match file.read_at(buf.get_mut(..want).unwrap_or(&mut []), self.at) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        if got == 0 {
            // Somebody has cut the file shorter.
            self.end = self.at;
            return Ok(());
        }
        let followed = if got == left || got < want { Followed::ByNothing } else { Followed::ByMore };
        self.scan_records(buf.get(..got).unwrap_or(&[]), followed, each);
        Ok(())
    }

    /// Takes in the records of some bytes, and moves on behind them.
    fn scan_records(&mut self, mut rest: &[u8], followed: Followed, each: &mut dyn FnMut(BanRecord<'_>)) {
        let intact = self.phase != Phase::First && self.tally.damaged == 0;
        let checksum = if intact { Checksum::Trust } else { Checksum::Verify };
        while !rest.is_empty() {
            let other = |addr: IpNet| intact && !is_network(addr) && !self.mine(self.hash(addr));
            let other = glance(rest).filter(|(_, addr)| other(*addr));
            let len = match other
                .map_or_else(|| step(rest, followed, checksum), |(len, _)| RecordStep::Unknown(len))
            {
                RecordStep::Whole(record, len) => {
                    self.record(record, each);
                    len
                }
                RecordStep::Past(_, len) | RecordStep::Unknown(len) => len,
                RecordStep::Damaged(len) => {
                    self.tally.damaged += if self.phase == Phase::First { len as u64 } else { 0 };
                    len
                }
                RecordStep::Short => break,
            };
            self.at += len as u64;
            rest = rest.get(len..).unwrap_or(&[]);
        }
    }

    /// Takes in the record at `self.at`.
    fn record(&mut self, record: JournalRecord<'_>, each: &mut dyn FnMut(BanRecord<'_>)) {
        let first = self.phase == Phase::First;
        self.tally.records += u64::from(first);
        match (self.phase, record) {
            (Phase::Pick, JournalRecord::Ban(entry)) => {
                let (addr, line) = std::mem::take(&mut self.note);
                let line = if addr == Some(entry.addr) { &*line } else { "" };
                self.pick(BanRecord { line, ..entry }, each);
            }
            (Phase::Pick, JournalRecord::Note(addr, _, line)) if !line.is_empty() => {
                self.note = (Some(addr), line.to_owned());
            }
            (Phase::Pick, _) | (_, JournalRecord::Note(..) | JournalRecord::Carried) => {}
            (_, JournalRecord::Ban(entry)) if is_network(entry.addr) => {
                if first {
                    self.networks.ban(self.at, &entry);
                }
            }
            (_, JournalRecord::Ban(entry)) => {
                let addr = self.hash(entry.addr);
                if self.mine(addr) {
                    self.note_ban(addr, &entry);
                }
            }
            (_, JournalRecord::Unban(addr)) => {
                if first {
                    self.networks.unban(self.at, addr);
                }
                let hash = self.hash(addr);
                if !is_network(addr) && self.mine(hash) {
                    self.note(self.unban_hash(hash), 0);
                }
            }
            (_, JournalRecord::Clear) => {
                self.cleared = self.at + 1;
                if first {
                    self.networks.clear();
                }
            }
            (_, JournalRecord::ClearTimed) => {
                self.cleared_timed = self.at + 1;
                if first {
                    self.networks.clear_timed();
                }
            }
        }
    }

    /// Hands on what of the ban at `self.at` still counts.
    fn pick(&self, entry: BanRecord<'_>, each: &mut dyn FnMut(BanRecord<'_>)) {
        if entry.forgotten(self.now, self.keep) {
            return;
        }
        if is_network(entry.addr) {
            // They are in no part: told with the first.
            if self.part == 0 {
                self.networks.pick(self.at, entry, each);
            }
        } else if self.counts(&entry) {
            self.networks.without_holes(self.at, entry, each);
        }
    }

    /// Whether the ban at `self.at` is the one that its address is banned by.
    fn counts(&self, entry: &BanRecord<'_>) -> bool {
        let here = self.at + 1;
        let addr = self.hash(entry.addr);
        // A table that was too crowded knows nothing of it.
        self.mine(addr)
            && [0, here].contains(&self.noted(self.ban_hash(addr, entry.scope)).0)
            && self.lifted(addr, entry.addr, entry.until.is_none()) < here
    }

    /// Where the last record stands that has lifted all bans of an address, plus one.
    fn lifted(&self, hash: u64, addr: IpNet, permanent: bool) -> u64 {
        let timed = if permanent { 0 } else { self.cleared_timed };
        let exact = self.noted(self.unban_hash(hash)).0;
        self.cleared.max(timed).max(exact).max(self.networks.lifted(addr))
    }

    /// At the end of a pass: begins the next one, returns whether there is one.
    fn turn(&mut self) -> bool {
        let crowded = self.crowded() && self.parts < PARTS_MAX;
        if self.phase == Phase::First {
            self.networks.settle();
        }
        if self.phase == Phase::Pick {
            self.part += 1;
            if self.part >= self.parts {
                return false;
            }
        } else if crowded {
            // More keys than records of the usual length would have: the two halves of this part, instead.
            self.part *= 2;
            self.parts *= 2;
        }
        if self.phase == Phase::Pick || crowded {
            self.table.fill(SweepSlot::default());
            self.taken = 0;
            self.phase = Phase::Index;
        } else {
            self.phase = Phase::Pick;
        }
        self.at = self.start;
        true
    }

    /// Whether more keys would make the table slow.
    fn crowded(&self) -> bool {
        self.taken > self.table.len() / 8 * 7
    }

    /// The hash of an address; it says which part the address belongs to.
    fn hash(&self, addr: IpNet) -> u64 {
        let prefix = u64::from(addr.prefix_len());
        match addr {
            IpNet::V4(net) => Sip::new(self.key).finish(prefix << 32 | u64::from(net.addr().to_bits()), 5),
            IpNet::V6(net) => {
                let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
                let bits = net.addr().to_bits();
                Sip::new(self.key).word(half(bits >> 64)).word(half(bits)).finish(prefix, 17)
            }
        }
    }

    /// The hash that bans of `scope` are noted under.
    fn ban_hash(&self, addr: u64, scope: &str) -> u64 {
        if scope.is_empty() { addr } else { sip13([addr, self.key[1]], scope.as_bytes()) }
    }

    /// The hash that liftings are noted under.
    fn unban_hash(&self, addr: u64) -> u64 {
        addr ^ (self.key[1] | 1)
    }

    /// Whether the address with this hash belongs to the part that is looked at.
    fn mine(&self, addr: u64) -> bool {
        ((addr >> 32) * self.parts) >> 32 == self.part
    }

    /// Where in the table the hash is, or where it may be put.
    fn place(&self, hash: u64) -> Option<(usize, SweepSlot)> {
        let mask = self.table.len().checked_sub(1)?;
        let [low, high] = halves(hash);
        let mut at = low as usize & mask;
        for _ in 0..self.table.len() {
            let place = *self.table.get(at)?;
            if place.offset == 0 || place.hash == [low, high] {
                return Some((at, place));
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Notes the ban at `self.at`, unless there is one that lasts longer and was not lifted in between.
    fn note_ban(&mut self, addr: u64, entry: &BanRecord<'_>) {
        let hash = self.ban_hash(addr, entry.scope);
        let until = entry.until.map_or(u32::MAX, |until| u32::try_from(until.0).unwrap_or(u32::MAX - 1));
        let (before, ends) = self.noted(hash);
        let stands = before > 0 && ends > until && before > self.lifted(addr, entry.addr, ends == u32::MAX);
        if !stands {
            self.note(hash, until);
        }
    }

    /// Notes `self.at` as the record that counts of the key with this hash.
    fn note(&mut self, hash: u64, until: u32) {
        let offset = u32::try_from(self.at + 1).unwrap_or(u32::MAX);
        // Once the table is crowded, the pass is done again for fewer keys.
        let Some((at, previous)) = self.place(hash).filter(|_| !self.crowded()) else { return };
        self.taken += usize::from(previous.offset == 0);
        if let Some(place) = self.table.get_mut(at) {
            *place = SweepSlot { hash: halves(hash), offset, until };
        }
    }

    /// Offset plus one of the record of the key with this hash, 0 if there is none, and its end.
    fn noted(&self, hash: u64) -> (u64, u32) {
        self.place(hash).map_or((0, 0), |(_, place)| (place.offset.into(), place.until))
    }
}

fn halves(hash: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
