#![forbid(unsafe_code)]
//! The records of the ban journal as bytes. Pure: no file, no clock.
//!
//! A record is: two magic bytes, its length (2 bytes), the body, and the CRC-32C of all that (4 bytes). The
//! body is: kind, family and prefix length (1 byte: IPv4 0 to 32, IPv6 100 to 228), the address (4 or 16
//! bytes); for a ban also since, until (8 bytes each, all ones is permanent), hits, bans (4 bytes each), and
//! scope, rule, reason and starts, each with a byte of length before it. Numbers are little endian. A later
//! version must use other magic bytes; a kind that is not known is passed over.
//!
//! Three kinds are for people alone, and change nothing that is in force; versions before them pass them
//! over. A note (address, time of 8 bytes, text) stands right before the record of the same address that it
//! is about: when that happened, and the line that decided. A kind with the bit [`PAST`] is a record that is
//! over, kept for the history. `Carried` ends the bans that a compaction has written anew: they are in the
//! history behind it, if at all.
//!
//! A reader that meets damage goes on at the next magic bytes that begin a whole record, so damage costs only
//! the records that it hits.

use crate::base::clock::{Span, Wall};
use crate::base::crc::crc32c;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The first line of the file up to the number that fills it: bytes after the last compaction.
pub const HEADER_WORDS: &[u8; 11] = b"mef bans 1 ";
/// Length of the first line, its newline included.
pub const HEADER_LEN: usize = 22;
/// Largest record.
pub const RECORD_MAX: usize = 1088;

const MAGIC: [u8; 2] = [0xb4, 0x6d];
const CRC_LEN: usize = 4;
/// Smallest one.
pub const RECORD_MIN: usize = 2 + 2 + 1 + CRC_LEN;
const PERMANENT: u64 = u64::MAX;
const KIND_BAN: u8 = 1;
const KIND_UNBAN: u8 = 2;
const KIND_CLEAR: u8 = 3;
const KIND_CLEAR_TIMED: u8 = 4;
const KIND_NOTE: u8 = 5;
const KIND_CARRIED: u8 = 6;
/// In the kind of a record that only tells of the past.
const PAST: u8 = 0x40;
const V6: u8 = 100;

/// One ban as it is remembered. An address is banned for as long as the latest end of all that cover it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanRecord<'a> {
    /// The banned address or network.
    pub addr: IpNet,
    /// What is banned: empty is everything, else ports (and protocol) in canonical form. At most 255 bytes.
    pub scope: &'a str,
    /// The service rule that banned, or another word for the reason. At most 255 bytes.
    pub rule: &'a str,
    /// What a person gave as the reason. At most 255 bytes.
    pub reason: &'a str,
    /// When the ban began.
    pub since: Wall,
    /// When it ends, none if never.
    pub until: Option<Wall>,
    /// Hits that led to it.
    pub hits: u32,
    /// Bans of this address so far that count, for longer ones; 0 = none.
    pub bans: u32,
    /// How many seconds before `since` each of them began, 4 bytes each, the newest first; empty = only this
    /// one is known. At most 255 bytes.
    pub starts: &'a [u8],
    /// The line that decided, made safe to show; written as a note before it.
    pub line: &'a str,
}

impl BanRecord<'_> {
    /// How long the ban still lasts at `now`, none if it is over. A clock that stands before the beginning of
    /// the ban (a host without a battery after a reboot) does not make it longer than it was.
    #[must_use]
    pub fn left(&self, now: Wall) -> Option<Span> {
        let Some(until) = self.until else { return Some(Span::Permanent) };
        let secs = until.0.saturating_sub(now.0.max(self.since.0));
        (secs > 0).then_some(Span::Secs(secs))
    }

    /// Whether the ban had ended at least `keep` seconds before `now`.
    #[must_use]
    pub fn forgotten(&self, now: Wall, keep: u64) -> bool {
        self.until.is_some_and(|until| until.0.saturating_add(keep) <= now.0)
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalRecord<'a> {
    /// A ban that the kernel acknowledged.
    Ban(BanRecord<'a>),
    /// This network was taken out of all bans before: those inside it are over, wider ones have a hole. How
    /// often it was banned is forgotten.
    Unban(IpNet),
    /// Everything before was lifted by hand.
    Clear,
    /// Everything before that has an end was lifted by hand.
    ClearTimed,
    /// When the next record happened, and the line that led to it, if it is about the same network.
    Note(IpNet, Wall, &'a str),
    /// The bans before it were written anew by a compaction.
    Carried,
}

/// What stands at the beginning of some bytes.
pub enum RecordStep<'a> {
    /// A whole record of this many bytes.
    Whole(JournalRecord<'a>, usize),
    /// Likewise, of something that is over and kept for the history alone.
    Past(JournalRecord<'a>, usize),
    /// A whole record of this many bytes, of a kind that this version does not know.
    Unknown(usize),
    /// This many bytes that belong to no whole record.
    Damaged(usize),
    /// Perhaps a record, but more bytes are needed to tell.
    Short,
}

/// Appends the record to `out`. Texts beyond 255 bytes are cut at a character's beginning.
pub fn encode(record: &JournalRecord<'_>, out: &mut Vec<u8>) {
    if let JournalRecord::Ban(entry) = record
        && !entry.line.is_empty()
    {
        encode(&JournalRecord::Note(entry.addr, entry.since, entry.line), out);
    }
    encode_kind(record, 0, out);
}

/// Appends a record as one that is over, or that was never the journal's to keep, with its time and line.
pub fn encode_past(record: &JournalRecord<'_>, (addr, at, line): (IpNet, Wall, &str), out: &mut Vec<u8>) {
    encode_kind(&JournalRecord::Note(addr, at, line), 0, out);
    encode_kind(record, PAST, out);
}

fn encode_kind(record: &JournalRecord<'_>, past: u8, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0, 0]);
    match record {
        JournalRecord::Ban(entry) => {
            out.push(KIND_BAN | past);
            push_net(entry.addr, out);
            out.extend_from_slice(&entry.since.0.to_le_bytes());
            out.extend_from_slice(&entry.until.map_or(PERMANENT, |until| until.0).to_le_bytes());
            out.extend_from_slice(&entry.hits.to_le_bytes());
            out.extend_from_slice(&entry.bans.to_le_bytes());
            for text in [entry.scope, entry.rule, entry.reason] {
                push_text(text, out);
            }
            push_bytes(entry.starts.get(..entry.starts.len().min(255) & !3).unwrap_or(&[]), out);
        }
        JournalRecord::Unban(addr) => {
            out.push(KIND_UNBAN | past);
            push_net(*addr, out);
        }
        JournalRecord::Clear => out.push(KIND_CLEAR | past),
        JournalRecord::ClearTimed => out.push(KIND_CLEAR_TIMED | past),
        JournalRecord::Note(addr, at, line) => {
            out.push(KIND_NOTE);
            push_net(*addr, out);
            out.extend_from_slice(&at.0.to_le_bytes());
            push_text(line, out);
        }
        JournalRecord::Carried => out.push(KIND_CARRIED),
    }
    let len = u16::try_from(out.len() - start + CRC_LEN).unwrap_or(u16::MAX).to_le_bytes();
    if let Some(place) = out.get_mut(start + 2..start + 4) {
        place.copy_from_slice(&len);
    }
    let crc = crc32c(out.get(start..).unwrap_or(&[]));
    out.extend_from_slice(&crc.to_le_bytes());
}

fn push_net(net: IpNet, out: &mut Vec<u8>) {
    match net {
        IpNet::V4(net) => {
            out.push(net.prefix_len());
            out.extend_from_slice(&net.addr().octets());
        }
        IpNet::V6(net) => {
            out.push(V6 + net.prefix_len());
            out.extend_from_slice(&net.addr().octets());
        }
    }
}

fn push_text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(usize::from(u8::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    push_bytes(text.as_bytes().get(..end).unwrap_or(&[]), out);
}

fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(u8::try_from(bytes.len()).unwrap_or(0));
    out.extend_from_slice(bytes);
}

/// What comes behind some bytes of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// Others, which are not looked at here.
    ByMore,
    /// Nothing: they are the last ones.
    ByNothing,
}

/// What is made of the checksum of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Whether it is right.
    Verify,
    /// Nothing: it was right before.
    Trust,
}

/// The length of the record at the beginning of bytes that are known to be undamaged, and whom it is about;
/// none if it is about nobody, or not all there.
#[must_use]
pub fn glance(bytes: &[u8]) -> Option<(usize, IpNet)> {
    let len = usize::from(u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?));
    let mut body = bytes.get(4..len)?;
    let [kind] = *take(&mut body)?;
    matches!(kind, KIND_BAN | KIND_UNBAN).then_some(())?;
    Some((len, take_net(&mut body)?))
}

/// Likewise of bytes that may be damaged, and of notes and what is over, too: what looks like a record that
/// is about somebody.
#[must_use]
pub fn skim(bytes: &[u8]) -> Option<(usize, IpNet)> {
    let (head, _) = bytes.split_first_chunk::<4>()?;
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let whole = head.starts_with(&MAGIC) && (RECORD_MIN..=RECORD_MAX).contains(&len);
    let mut body = bytes.get(4..len).filter(|_| whole)?;
    let [kind] = *take(&mut body)?;
    matches!(kind & !PAST, KIND_BAN | KIND_UNBAN | KIND_NOTE).then_some(())?;
    Some((len, take_net(&mut body)?))
}

/// Looks at the beginning of `bytes`, which must not be empty. [`RecordStep::Short`] is never the answer for
/// the last ones, nor when there are `RECORD_MAX` bytes.
#[must_use]
pub fn step(bytes: &[u8], followed: Followed, checksum: Checksum) -> RecordStep<'_> {
    let last = followed == Followed::ByNothing;
    let damaged = || {
        let next = bytes.iter().skip(1).position(|&byte| byte == MAGIC[0]);
        RecordStep::Damaged(next.map_or(bytes.len(), |next| next + 1))
    };
    let Some((head, _)) = bytes.split_at_checked(4) else {
        return if last || !MAGIC.starts_with(bytes.get(..2).unwrap_or(bytes)) {
            damaged()
        } else {
            RecordStep::Short
        };
    };
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    if !head.starts_with(&MAGIC) || !(RECORD_MIN..=RECORD_MAX).contains(&len) {
        return damaged();
    }
    let Some(record) = bytes.get(..len) else {
        return if last { damaged() } else { RecordStep::Short };
    };
    let (content, crc) = record.split_at(len - CRC_LEN);
    if checksum == Checksum::Verify && crc != crc32c(content).to_le_bytes() {
        return damaged();
    }
    match content.get(4..).and_then(decode) {
        Some((record, true)) => RecordStep::Past(record, len),
        Some((record, false)) => RecordStep::Whole(record, len),
        None => RecordStep::Unknown(len),
    }
}

/// Calls `each` with the offset and the content of every whole record of `bytes`; returns how many bytes
/// belonged to none.
pub fn scan<'a>(bytes: &'a [u8], each: &mut dyn FnMut(usize, JournalRecord<'a>)) -> usize {
    let (mut at, mut damaged) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        at += match step(rest, Followed::ByNothing, Checksum::Verify) {
            RecordStep::Whole(record, len) => {
                each(at, record);
                len
            }
            RecordStep::Past(_, len) | RecordStep::Unknown(len) => len,
            RecordStep::Damaged(len) => {
                damaged += len;
                len
            }
            RecordStep::Short => rest.len(),
        };
    }
    damaged
}

/// The length of what looks like a record about another address than this one: the quick way through bans of
/// many others, most of which are single addresses of IPv4.
#[must_use]
pub fn skim_others(bytes: &[u8], addr: [u8; 4]) -> Option<usize> {
    let head: &[u8; 10] = bytes.first_chunk()?;
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let known = head[4] & !PAST == KIND_BAN || head[4] & !PAST == KIND_UNBAN || head[4] == KIND_NOTE;
    let other = head[5] == 32 && head[6..] != addr;
    (known && other && head[..2] == MAGIC && (RECORD_MIN..=RECORD_MAX).contains(&len)).then_some(len)
}

/// Likewise of anything but the mark behind bans that were written anew; whether it is that.
#[must_use]
pub fn skim_marks(bytes: &[u8]) -> Option<(usize, bool)> {
    let head: &[u8; 5] = bytes.first_chunk()?;
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let whole = head[..2] == MAGIC && (RECORD_MIN..=RECORD_MAX).contains(&len);
    whole.then_some((len, head[4] == KIND_CARRIED))
}

/// A body without its checksum, and whether it is over.
fn decode(body: &[u8]) -> Option<(JournalRecord<'_>, bool)> {
    let (&kind, mut rest) = body.split_first()?;
    let rest = &mut rest;
    let is_past = kind & PAST != 0 && kind & !PAST <= KIND_CLEAR_TIMED;
    let record = match if is_past { kind & !PAST } else { kind } {
        KIND_BAN => JournalRecord::Ban(BanRecord {
            addr: take_net(rest)?,
            since: Wall(u64::from_le_bytes(*take(rest)?)),
            until: Some(u64::from_le_bytes(*take(rest)?)).filter(|&until| until != PERMANENT).map(Wall),
            hits: u32::from_le_bytes(*take(rest)?),
            bans: u32::from_le_bytes(*take(rest)?),
            scope: take_text(rest)?,
            rule: take_text(rest)?,
            reason: take_text(rest)?,
            starts: take_bytes(rest)?,
            line: "",
        }),
        KIND_UNBAN => JournalRecord::Unban(take_net(rest)?),
        KIND_CLEAR => JournalRecord::Clear,
        KIND_CLEAR_TIMED => JournalRecord::ClearTimed,
        KIND_NOTE => {
            JournalRecord::Note(take_net(rest)?, Wall(u64::from_le_bytes(*take(rest)?)), take_text(rest)?)
        }
        KIND_CARRIED => JournalRecord::Carried,
        _ => return None,
    };
    rest.is_empty().then_some((record, is_past))
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(taken)
}

fn take_net(rest: &mut &[u8]) -> Option<IpNet> {
    let [family] = *take(rest)?;
    if let Some(len) = family.checked_sub(V6) {
        return Ipv6Net::new(Ipv6Addr::from(*take::<16>(rest)?), len).ok().map(IpNet::V6);
    }
    Ipv4Net::new(Ipv4Addr::from(*take::<4>(rest)?), family).ok().map(IpNet::V4)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_bytes(rest)?).ok()
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [len] = *take(rest)?;
    let (bytes, left) = rest.split_at_checked(usize::from(len))?;
    *rest = left;
    Some(bytes)
}
