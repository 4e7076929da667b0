#![forbid(unsafe_code)]
//! What the kernel writes to its log, read from /dev/kmsg a record at a time: firewall log lines, for
//! example. Lines that programs put there are no lines of the kernel's. The form of a record is in the
//! kernel's Documentation/ABI/testing/dev-kmsg.

use super::{Item, LogRecord, Position, Progress, Source, Tags, Written};
use crate::base::clock::{Mono, Now, Wall};
use crate::sys::buffer::Buffer;
use crate::sys::{fs, host};
use nix::errno::Errno;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

/// The device.
pub const PATH: &str = "/dev/kmsg";
/// Longest record that the kernel gives.
const RECORD_MAX: usize = 8192;
/// What a record counts for in a budget beside its bytes: each is a system call.
const CALL: usize = 64;
/// Failures in a row after which the log is left alone.
const FAILURES: u32 = 16;
/// Who wrote it, for the rules.
const PROGRAM: &[u8] = b"kernel";

/// The kmsg source.
pub struct Kmsg {
    file: File,
    tags: Tags,
    buffer: Buffer,
    /// Of this boot.
    boot: [u64; 2],
    /// The record that comes next, once that is known.
    next: Option<u64>,
    /// Records before this are not for us: they were read in an earlier run, or, at the very first, they are
    /// all that there is. 0 once everything that was written before we came has been read.
    from: u64,
    lost: u64,
    said: bool,
    /// It fails again and again: to wait for it would be to spin.
    broken: bool,
}

impl Kmsg {
    /// Reads on from `saved` if that is a position of this boot, else from the end.
    ///
    /// # Errors
    /// There is no such device here, or we may not read it.
    pub fn open(tags: Tags, saved: Option<Position>) -> io::Result<Kmsg> {
        let file = fs::open_stream(Path::new(PATH))?;
        let boot = host::boot_id();
        // Not by a seek to the end: then nobody could tell how far it was read until the next record comes.
        let next = saved.filter(|p| [p.dev, p.ino] == boot && boot != [0, 0]).map(|p| p.offset);
        let from = next.unwrap_or(u64::MAX);
        Ok(Kmsg {
            file,
            tags,
            buffer: Buffer::new(RECORD_MAX),
            boot,
            next,
            from,
            lost: 0,
            said: false,
            broken: false,
        })
    }

    /// Who wants its lines from now on.
    pub fn set_tags(&mut self, tags: Tags) {
        self.tags = tags;
    }

    /// How far it was read; `None` while that is not known.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        let [dev, ino] = self.boot;
        Some(Position { dev, ino, offset: self.next?, tail: 0 })
    }

    /// How many records the kernel overwrote before they were read.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Reads one record. `None`: there is none.
    fn step(&mut self, now: Now, sink: &mut dyn FnMut(Tags, Item<'_>)) -> io::Result<Option<usize>> {
        let n = match self.file.read(&mut self.buffer) {
            Ok(0) => return Ok(None),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // The next read gives the oldest record that is left.
            Err(e)
                if e.kind() == io::ErrorKind::Interrupted
                    || e.raw_os_error() == Some(Errno::EPIPE as i32) =>
            {
                return Ok(Some(0));
            }
            Err(e) => return Err(e),
        };
        let Some(entry) = parse(self.buffer.get(..n).unwrap_or_default()) else { return Ok(Some(n)) };
        let old = entry.seq < self.from;
        if !old || self.from == u64::MAX {
            self.lost += self.next.map_or(0, |next| entry.seq.saturating_sub(next));
            self.next = Some(entry.seq.saturating_add(1));
        }
        if entry.kernel && !old {
            let age = now.mono.0.saturating_sub(entry.usec / 1000) / 1000;
            let then = Wall(now.wall.0.saturating_sub(age));
            let written = if self.from == 0 { Written::Live } else { Written::At(then) };
            let record =
                LogRecord { program: PROGRAM, pid: None, message: entry.text, sender: None, written };
            sink(self.tags, Item::Record(record));
        }
        Ok(Some(n))
    }
}

impl Source for Kmsg {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.broken).then(|| self.file.as_fd())
    }

    fn deadline(&self) -> Option<Mono> {
        None
    }

    fn drain(&mut self, now: Now, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> Progress {
        let (mut left, mut failures) = (budget, 0);
        while left > 0 {
            left = left.saturating_sub(CALL);
            match self.step(now, sink) {
                Ok(None) => {
                    self.from = 0;
                    return Progress::Idle;
                }
                Ok(Some(n)) => {
                    failures = 0;
                    left = left.saturating_sub(n);
                }
                Err(e) => {
                    if !std::mem::replace(&mut self.said, true) {
                        log::warn!("{PATH}: {e}");
                    }
                    failures += 1;
                    if failures == FAILURES {
                        self.broken = true;

                        return Progress::Idle;
                    }
                }
            }
        }
        Progress::More
    }

    fn cut_lines(&self) -> u64 {
        0
    }
}

/// One record.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub struct KmsgEntry<'a> {
    /// Its number, one more than that of the record before.
    pub seq: u64,
    /// Microseconds since boot.
    pub usec: u64,
    /// Written by the kernel itself: facility 0, which it gives to nobody else.
    pub kernel: bool,
    /// The message.
    pub text: &'a [u8],
}

/// `priority,sequence,microseconds,flags[,more];text`, and further lines that begin with a space and are not
/// for us.
#[must_use]
pub fn parse(record: &[u8]) -> Option<KmsgEntry<'_>> {
    let semicolon = record.iter().position(|&b| b == b';')?;
    let (head, text) = record.split_at_checked(semicolon)?;
    let mut fields = head.split(|&b| b == b',').map(|field| std::str::from_utf8(field).ok());
    let mut number = || fields.next().flatten()?.parse::<u64>().ok();
    let (priority, seq, usec) = (number()?, number()?, number()?);
    let text = text.get(1..)?.split(|&b| b == b'\n').next()?;
    Some(KmsgEntry { seq, usec, kernel: priority >> 3 == 0, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_apart() {
        let entry = |seq, usec, kernel, text| Some(KmsgEntry { seq, usec, kernel, text });
        let cases: &[(&str, &[u8], Option<KmsgEntry<'_>>)] = &[
            (
                "of the kernel",
                b"4,339,5140900,-;IN=eth0 SRC=192.0.2.1 \n",
                entry(339, 5_140_900, true, b"IN=eth0 SRC=192.0.2.1 "),
            ),
            (
                "with facts",
                b"6,340,5690716,-,caller=T7;a; b\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n",
                entry(340, 5_690_716, true, b"a; b"),
            ),
            ("of a program", b"12,1,2,-;IN=eth0\n", entry(1, 2, false, b"IN=eth0")),
            ("of a program at a high level", b"8,1,2,-;x\n", entry(1, 2, false, b"x")),
            ("without a text", b"6,1,2,-;\n", entry(1, 2, true, b"")),
            ("without an end", b"6,1,2,-;x", entry(1, 2, true, b"x")),
            ("nothing", b"", None),
            ("no text", b"6,1,2,-", None),
            ("no numbers", b";x", None),
            ("too few", b"6,1;x", None),
            ("not a number", b"6,-1,2,-;x", None),
            ("too large", b"6,99999999999999999999,2,-;x", None),
            ("not UTF-8", b"6,\xff,2,-;x", None),
        ];
        for (name, record, want) in cases {
            assert_eq!(parse(record), *want, "{name}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let bytes: Vec<u8> =
                (0..rng.usize(..40)).map(|_| *rng.choice(b"0123456789,;- \n\xff").unwrap()).collect();
            let _ = parse(&bytes);
        }
    }
}
