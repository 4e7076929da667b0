#![forbid(unsafe_code)]
//! Finds the bans of a journal that still count, in memory that does not grow with the journal.
//!
//! Which record of an address is the last one is only known at the end of the file, and a map of all addresses would be as large as
//! the journal. So the addresses are divided by a hash into as many parts as make each fit into one table, and each part
//! takes two passes over the file: the first notes the offset of every key's last record, the second picks out the
//! records at just these offsets. One more pass at the start counts the records. Up to 40,000 records that is three passes in all;
//! 100,000 take seven. The work is cut into steps of one buffer each, so that a caller with something better to do is never held up.
//!
//! The table holds 64 bits of a keyed hash instead of the key: among 40,000 keys two that nobody can aim at each other share them once in
//! twenty billion journals, and then one ban is forgotten at a reboot.

use super::record::{Entry, Record, Step, step};
use crate::base::clock::Wall;
use crate::base::siphash::sip13;
use ipnet::IpNet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes read at once; at least `RECORD_MAX`.
const CHUNK: usize = 32 * 1024;
/// Keys of one part.
const KEYS_MAX: u64 = 40_000;
/// Places of the largest table, a power of two; 12 bytes each.
const PLACES_MAX: u64 = 1 << 16;

/// What the passes found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Whole records, of all kinds.
    pub(super) records: u64,
    /// Bytes that belong to no whole record.
    pub(super) damaged: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Count,
    Index,
    Pick,
}

/// A search under way. It sees the bytes of the file from `start` to `end`; they must not change.
pub(super) struct Sweep {
    key: [u64; 2],
    now: Wall,
    keep: u64,
    start: u64,
    end: u64,
    at: u64,
    phase: Phase,
    part: u64,
    parts: u64,
    /// Hash of the key (two words) and offset of its last record plus one; an offset of 0 is an empty place.
    table: Vec<[u32; 3]>,
    /// Offset of the last `Clear` plus one.
    cleared: u64,
    buf: Vec<u8>,
    pub(super) tally: Tally,
}

/// The hash of an address, and the hash that its unban is noted under.
struct Hashes {
    who: u64,
    unban: u64,
}

impl Sweep {
    /// Of the bans in the bytes from `start` to `end` (less than 4 GiB), those that ended less than `keep` seconds before `now`, or have not ended.
    pub(super) fn new(key: [u64; 2], now: Wall, keep: u64, start: u64, end: u64) -> Sweep {
        Sweep {
            key,
            now,
            keep,
            start,
            end,
            at: start,
            phase: Phase::Count,
            part: 0,
            parts: 1,
            table: Vec::new(),
            cleared: 0,
            buf: vec![0; CHUNK],
            tally: Tally::default(),
        }
    }

    /// Reads one buffer of `file` and hands what is found to `each`: the ban and its record. Returns whether there is more to do.
    pub(super) fn step(&mut self, file: &File, each: &mut dyn FnMut(Entry<'_>, &[u8])) -> io::Result<bool> {
        if self.at >= self.end {
            return Ok(self.turn());
        }
        let mut buf = std::mem::take(&mut self.buf);
        let result = self.read(file, &mut buf, each);
        self.buf = buf;
        result.map(|()| true)
    }

    fn read(
        &mut self,
        file: &File,
        buf: &mut [u8],
        each: &mut dyn FnMut(Entry<'_>, &[u8]),
    ) -> io::Result<()> {
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
        let last = got == left || got < want;
        let mut rest = buf.get(..got).unwrap_or(&[]);
        while !rest.is_empty() {
            let len = match step(rest, last) {
                Step::Whole(record, len) => {
                    self.record(record, rest.get(..len).unwrap_or(&[]), each);
                    len
                }
                Step::Unknown(len) => len,
                Step::Damaged(len) => {
                    self.tally.damaged += if self.phase == Phase::Count { len as u64 } else { 0 };
                    len
                }
                Step::Short => break,
            };
            self.at += len as u64;
            rest = rest.get(len..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Takes in the record at `self.at`.
    fn record(&mut self, record: Record<'_>, bytes: &[u8], each: &mut dyn FnMut(Entry<'_>, &[u8])) {
        match (self.phase, record) {
            (Phase::Count, _) => self.tally.records += 1,
            (Phase::Index, Record::Ban(entry)) => {
                let hashes = self.hashes(entry.who);
                if self.mine(&hashes) {
                    self.note(self.ban_hash(&hashes, entry.scope));
                }
            }
            (Phase::Index, Record::Unban(who)) => {
                let hashes = self.hashes(who);
                if self.mine(&hashes) {
                    self.note(hashes.unban);
                }
            }
            (Phase::Index, Record::Clear) => self.cleared = self.at + 1,
            (Phase::Pick, Record::Ban(entry)) => {
                if !entry.forgotten(self.now, self.keep) && self.counts(&entry) {
                    each(entry, bytes);
                }
            }
            (Phase::Pick, _) => {}
        }
    }

    /// Whether the ban at `self.at` is the last word about its key.
    fn counts(&self, entry: &Entry<'_>) -> bool {
        let here = self.at + 1;
        let hashes = self.hashes(entry.who);
        here > self.cleared
            && self.mine(&hashes)
            && self.noted(self.ban_hash(&hashes, entry.scope)) <= here
            && self.noted(hashes.unban) < here
    }

    /// At the end of a pass: begins the next one, returns whether there is one.
    fn turn(&mut self) -> bool {
        match self.phase {
            Phase::Count => {
                self.parts = self.tally.records.div_ceil(KEYS_MAX).max(1);
                let places =
                    (self.tally.records / self.parts * 3 / 2 + 16).next_power_of_two().min(PLACES_MAX);
                self.table = vec![[0; 3]; usize::try_from(places).unwrap_or(0)];
                self.phase = Phase::Index;
            }
            Phase::Index => self.phase = Phase::Pick,
            Phase::Pick => {
                self.part += 1;
                if self.part >= self.parts {
                    return false;
                }
                self.table.fill([0; 3]);
                self.phase = Phase::Index;
            }
        }
        self.at = self.start;
        true
    }

    fn hashes(&self, who: IpNet) -> Hashes {
        let mut bytes = [0; 17];
        let len = match who {
            IpNet::V4(net) => {
                bytes.iter_mut().zip(net.addr().octets()).map(|(to, octet)| *to = octet).count()
            }
            IpNet::V6(net) => {
                bytes.iter_mut().zip(net.addr().octets()).map(|(to, octet)| *to = octet).count()
            }
        };
        bytes[len] = who.prefix_len();
        let who = sip13(self.key, bytes.get(..=len).unwrap_or(&bytes));
        Hashes { who, unban: sip13([who, self.key[0]], &[]) }
    }

    fn ban_hash(&self, hashes: &Hashes, scope: &str) -> u64 {
        sip13([hashes.who, self.key[1]], scope.as_bytes())
    }

    /// Whether the address belongs to this part.
    fn mine(&self, hashes: &Hashes) -> bool {
        ((hashes.who >> 32) * self.parts) >> 32 == self.part
    }

    /// Where in the table the hash is, or where it may be put.
    fn place(&self, hash: u64) -> Option<(usize, u32)> {
        let mask = self.table.len().checked_sub(1)?;
        let [low, high] = halves(hash);
        let mut at = low as usize & mask;
        for _ in 0..self.table.len() {
            let [a, b, offset] = *self.table.get(at)?;
            if offset == 0 || (a, b) == (low, high) {
                return Some((at, offset));
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Notes `self.at` as the last record of the key with this hash.
    fn note(&mut self, hash: u64) {
        let [low, high] = halves(hash);
        let offset = u32::try_from(self.at + 1).unwrap_or(u32::MAX);
        // A full table cannot be, by KEYS_MAX; if it were, the record would be kept beside its successor.
        if let Some(place) = self.place(hash).and_then(|(at, _)| self.table.get_mut(at)) {
            *place = [low, high, offset];
        }
    }

    /// Offset plus one of the last record of the key with this hash, 0 if there is none.
    fn noted(&self, hash: u64) -> u64 {
        self.place(hash).map_or(0, |(_, offset)| offset.into())
    }
}

fn halves(hash: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
