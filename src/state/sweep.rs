#![forbid(unsafe_code)]
//! Finds the bans of a journal that still count, in memory that does not grow with the journal.
//!
//! Which record of an address is the last one is only known at the end of the file, so there are two passes: the first notes the
//! offset of every key's last record in a table, the second picks out the records at just these offsets. The table is as large as the file
//! asks for, up to 3 MB (800 kB for a compaction): that is enough for 190,000 keys. Of more, the addresses are divided by a hash into as many parts as make
//! each fit, with two passes for each part; a part that turns out too large is divided again. Only the first pass looks at checksums, unless it finds
//! damage; the others read no more of a record of another part than whom it is about. The work is cut into steps of one buffer
//! each, so that a caller with something better to do is never held up.
//!
//! The table holds 64 bits of a keyed hash instead of the key: among 190,000 keys two that nobody can aim at each other share them once in
//! a billion journals, and then one ban is forgotten at a reboot.

use super::record::{Entry, Record, Step, glance, step, step_again};
use crate::base::clock::Wall;
use crate::base::siphash::{Sip, sip13};
use ipnet::IpNet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes read at once; at least `RECORD_MAX`.
const CHUNK: usize = 32 * 1024;
/// Places of the table, a power of two, for whoever waits for the result; 12 bytes each.
pub(super) const QUICK: u64 = 1 << 18;
/// The same for whoever has time but little memory.
pub(super) const SMALL: u64 = 1 << 16;
/// Bytes of a usual record.
const USUAL: u64 = 48;
/// Parts at most, so that their numbers fit beside the hash.
const PARTS_MAX: u64 = 1 << 16;

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
    /// The first pass, which looks at checksums.
    First,
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
    /// Places taken.
    taken: usize,
    /// Offset of the last `Clear` plus one.
    cleared: u64,
    buf: Vec<u8>,
    pub(super) tally: Tally,
}

impl Sweep {
    /// Of the bans in the bytes from `start` to `end` (less than 4 GiB), those that ended less than `keep` seconds before `now`, or have not ended. The table has at most `most` places.
    pub(super) fn new(key: [u64; 2], now: Wall, keep: u64, start: u64, end: u64, most: u64) -> Sweep {
        let records = end.saturating_sub(start) / USUAL + 16;
        let places = (records * 3 / 2).next_power_of_two().min(most);
        Sweep {
            key,
            now,
            keep,
            start,
            end,
            at: start,
            phase: Phase::First,
            part: 0,
            parts: records.div_ceil(most / 4 * 3),
            table: vec![[0; 3]; usize::try_from(places).unwrap_or(0)],
            taken: 0,
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
        let intact = self.phase != Phase::First && self.tally.damaged == 0;
        let look = if intact { step_again } else { step };
        let mut rest = buf.get(..got).unwrap_or(&[]);
        while !rest.is_empty() {
            let other = glance(rest).filter(|(_, who)| intact && !self.mine(self.hash(*who)));
            let len = match other.map_or_else(|| look(rest, last), |(len, _)| Step::Unknown(len)) {
                Step::Whole(record, len) => {
                    self.record(record, rest.get(..len).unwrap_or(&[]), each);
                    len
                }
                Step::Unknown(len) => len,
                Step::Damaged(len) => {
                    self.tally.damaged += if self.phase == Phase::First { len as u64 } else { 0 };
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
        self.tally.records += u64::from(self.phase == Phase::First);
        match (self.phase, record) {
            (Phase::Pick, Record::Ban(entry)) => {
                if !entry.forgotten(self.now, self.keep) && self.counts(&entry) {
                    each(entry, bytes);
                }
            }
            (Phase::Pick, _) => {}
            (_, Record::Ban(entry)) => {
                let who = self.hash(entry.who);
                if self.mine(who) {
                    self.note(self.ban_hash(who, entry.scope));
                }
            }
            (_, Record::Unban(who)) => {
                let who = self.hash(who);
                if self.mine(who) {
                    self.note(self.unban_hash(who));
                }
            }
            (_, Record::Clear) => self.cleared = self.at + 1,
        }
    }

    /// Whether the ban at `self.at` is the last word about its key.
    fn counts(&self, entry: &Entry<'_>) -> bool {
        let here = self.at + 1;
        let who = self.hash(entry.who);
        here > self.cleared
            && self.mine(who)
            && self.noted(self.ban_hash(who, entry.scope)) <= here
            && self.noted(self.unban_hash(who)) < here
    }

    /// At the end of a pass: begins the next one, returns whether there is one.
    fn turn(&mut self) -> bool {
        let crowded = self.crowded() && self.parts < PARTS_MAX;
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
            self.table.fill([0; 3]);
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
    fn hash(&self, who: IpNet) -> u64 {
        let prefix = u64::from(who.prefix_len());
        match who {
            IpNet::V4(net) => Sip::new(self.key).finish(prefix << 32 | u64::from(net.addr().to_bits()), 5),
            IpNet::V6(net) => {
                let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
                let bits = net.addr().to_bits();
                Sip::new(self.key).word(half(bits >> 64)).word(half(bits)).finish(prefix, 17)
            }
        }
    }

    /// The hash that bans of `scope` are noted under.
    fn ban_hash(&self, who: u64, scope: &str) -> u64 {
        if scope.is_empty() { who } else { sip13([who, self.key[1]], scope.as_bytes()) }
    }

    /// The hash that liftings are noted under.
    fn unban_hash(&self, who: u64) -> u64 {
        who ^ (self.key[1] | 1)
    }

    /// Whether the address with this hash belongs to the part that is looked at.
    fn mine(&self, who: u64) -> bool {
        ((who >> 32) * self.parts) >> 32 == self.part
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
        // Once the table is crowded, the pass is done again for fewer keys.
        let Some((at, former)) = self.place(hash).filter(|_| !self.crowded()) else { return };
        self.taken += usize::from(former == 0);
        if let Some(place) = self.table.get_mut(at) {
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
