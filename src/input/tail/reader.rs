#![forbid(unsafe_code)]
//! One open log file: reads on from where it was, whole lines only. Knows no names and no rotation.

use crate::base::position::Position;
use crate::input::lines::{HALF, MAX_LINE, each_block};
use crate::sys::buffer::Buffer;
use crate::sys::fs::{self, FileId, Links};
use crate::sys::inotify::WatchDescriptor;
use memchr::{memchr, memrchr};
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes read when a file had little news; the first page of the buffer.
pub(super) const SMALL: usize = 4096;
/// Bytes read at once under load: the size of the shared buffer.
pub(super) const LARGE: usize = 64 * 1024;
/// Bytes before the offset that are remembered (as a hash) to know the file again.
const TAIL: usize = 64;

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This many bytes were looked at; `more` unless the end of the file was seen.
    Read { bytes: usize, more: bool },
    /// The file is no longer the one that was read: `shrunk` below the offset, or rewritten.
    Changed { shrunk: bool },
}

/// An open file. `offset` is always the start of a line that was not handed out, so an incomplete line needs no memory:
/// it is read again when more of it comes.
pub(super) struct Reader {
    file: File,
    pub(super) id: FileId,
    offset: u64,
    /// Mark of the bytes before `offset`.
    tail: u64,
    /// Mark of the first bytes, as many of them as were read when it was taken.
    first: u64,
    first_len: u64,
    /// Up to here there is no newline: set when the line at `offset` is too long to be read again and again.
    scan: u64,
    pub(super) wd: Option<WatchDescriptor>,
    /// There may be something to read.
    pub(super) dirty: bool,
    /// The last read filled the room: use the whole buffer.
    pub(super) hot: bool,
    /// Nobody but its service and root can write to it.
    pub(super) attested: bool,
}

impl Reader {
    /// Opens a regular file, at its start.
    pub(super) fn open(path: &Path) -> io::Result<Reader> {
        let file = fs::open_regular(path, Links::Follow)?;
        let id = fs::facts_of(&file)?.id;
        Ok(Reader {
            file,
            id,
            offset: 0,
            tail: mark(&[]),
            first: mark(&[]),
            first_len: 0,
            scan: 0,
            wd: None,
            dirty: true,
            hot: false,
            attested: false,
        })
    }

    pub(super) fn facts(&self) -> io::Result<fs::Facts> {
        fs::facts_of(&self.file)
    }

    /// A path that leads to this very file, where /proc is mounted.
    pub(super) fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Where it is, for [`Reader::resume`]. Lines of equal length may end alike, but begin with a time: the first bytes
    /// of the file are in the mark, too.
    pub(super) fn position(&self) -> Position {
        let tail = both(self.first, self.tail);
        Position { dev: self.id.dev, ino: self.id.ino, offset: self.offset, tail }
    }

    /// Goes to a position taken in this file or in one it was copied from, if the bytes before it are the same.
    /// At offset 0 nothing tells files apart but the inode.
    pub(super) fn resume(&mut self, at: &Position) -> bool {
        if at.offset == 0 {
            return at.ino == self.id.ino;
        }
        let first_len = at.offset.min(TAIL as u64);
        let (Some(first), Some(tail)) = (self.before(first_len), self.before(at.offset)) else {
            return false;
        };
        let known = both(first, tail) == at.tail;
        if known {
            (self.offset, self.scan, self.tail) = (at.offset, at.offset, tail);
            (self.first, self.first_len) = (first, first_len);
        }
        known
    }

    /// Goes to the end: behind the last newline, if there is one near.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        let size = self.facts()?.size;
        let mut room = [0; SMALL];
        let from = size.saturating_sub(SMALL as u64);
        let n = self.file.read_at(&mut room, from)?;
        let seen = room.get(..n).unwrap_or(&[]);
        self.offset = match memrchr(b'\n', seen) {
            Some(i) => from + i as u64 + 1,
            None => from + n as u64,
        };
        self.scan = self.offset;
        self.tail = self.before(self.offset).unwrap_or(0);
        self.know_first();
        Ok(())
    }

    /// Goes to the start of a file that was truncated. A writer that kept its own offset left a hole there: it is no line.
    pub(super) fn restart(&mut self) {
        (self.offset, self.scan, self.tail) = (0, 0, mark(&[]));
        (self.first, self.first_len) = (mark(&[]), 0);
        (self.dirty, self.hot) = (true, false);
        let Some(data) = lseek(&self.file, 0, Whence::SeekData).ok().and_then(|d| u64::try_from(d).ok())
        else {
            return;
        };
        if data == 0 {
            return;
        }
        let mut room = [0; SMALL];
        let n = self.file.read_at(&mut room, data).unwrap_or(0);
        let zeros = room.iter().take(n).take_while(|&&b| b == 0).count();
        let start = data + zeros as u64;
        if let Some(tail) = self.before(start) {
            (self.offset, self.scan, self.tail) = (start, start, tail);
            self.know_first();
        }
    }

    /// Reads once and hands out the lines that are complete. Lines that were cut are added to `cut`.
    pub(super) fn step(
        &mut self,
        buffer: &mut Buffer,
        cut: &mut u64,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Step> {
        if self.scan > self.offset {
            return self.step_long(buffer, cut, each);
        }
        let keep = usize::try_from(self.offset).unwrap_or(TAIL).min(TAIL);
        let want = if self.hot { buffer.len() } else { SMALL };
        let room = buffer.get_mut(..want).unwrap_or(&mut []);
        let n = self.file.read_at(room, self.offset - keep as u64)?;
        let full = n == room.len();
        let seen = room.get_mut(..n).unwrap_or(&mut []);
        let Some((before, data)) = seen.split_at_mut_checked(keep) else {
            return Ok(Step::Changed { shrunk: true });
        };
        if mark(before) != self.tail {
            return Ok(Step::Changed { shrunk: false });
        }
        let step = Step::Read { bytes: data.len(), more: full };
        match memrchr(b'\n', data) {
            Some(last) => {
                let end = keep + last + 1;
                self.offset += last as u64 + 1;
                self.scan = self.offset;
                self.tail = mark(seen.get(end.saturating_sub(TAIL)..end).unwrap_or(&[]));
                if let Some(lines) = seen.get_mut(keep..end) {
                    *cut += each_block(lines, each);
                }
                self.know_first();
            }
            None if data.len() > MAX_LINE => self.scan = self.offset + data.len() as u64,
            None => {}
        }
        self.hot = full;
        Ok(step)
    }

    /// Looks for the end of a line that is longer than a line may be, and hands out its two ends.
    fn step_long(
        &mut self,
        buffer: &mut Buffer,
        cut: &mut u64,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Step> {
        if self.facts()?.size < self.scan {
            return Ok(Step::Changed { shrunk: true });
        }
        if self.before(self.offset) != Some(self.tail) {
            return Ok(Step::Changed { shrunk: false });
        }
        // A hole is as long as its maker likes, and has no newline in it.
        if let Ok(data) = lseek(&self.file, self.scan.try_into().unwrap_or(i64::MAX), Whence::SeekData) {
            self.scan = u64::try_from(data).unwrap_or(0).max(self.scan);
        } else {
            self.scan = self.facts()?.size.max(self.scan);
        }
        let n = self.file.read_at(buffer, self.scan)?;
        let Some(i) = memchr(b'\n', buffer.get(..n).unwrap_or(&[])) else {
            self.scan += n as u64;
            self.hot = n == buffer.len();
            return Ok(Step::Read { bytes: n, more: self.hot });
        };
        let end = self.scan + i as u64;
        let line = buffer.get_mut(..=MAX_LINE).unwrap_or(&mut []);
        let Some((head, tail)) = line.split_at_mut_checked(HALF) else {
            return Ok(Step::Read { bytes: 0, more: false });
        };
        self.file.read_exact_at(head, self.offset)?;
        self.file.read_exact_at(tail, end - HALF as u64)?;
        self.tail = mark(tail.get(tail.len().saturating_sub(TAIL)..).unwrap_or(&[]));
        (self.offset, self.scan) = (end + 1, end + 1);
        self.know_first();
        *cut += 1;
        self.hot = true;
        each(line);
        Ok(Step::Read { bytes: i + MAX_LINE, more: true })
    }

    /// Marks the first bytes as soon as enough of them were read.
    fn know_first(&mut self) {
        let len = self.offset.min(TAIL as u64);
        if self.first_len < len
            && let Some(first) = self.before(len)
        {
            (self.first, self.first_len) = (first, len);
        }
    }

    /// The mark of the bytes before `offset`, if the file has them.
    fn before(&self, offset: u64) -> Option<u64> {
        let mut room = [0; TAIL];
        let keep = usize::try_from(offset).unwrap_or(TAIL).min(TAIL);
        let room = room.get_mut(..keep)?;
        self.file.read_exact_at(room, offset - keep as u64).ok()?;
        Some(mark(room))
    }
}

fn both(first: u64, tail: u64) -> u64 {
    first.rotate_left(32) ^ tail
}

/// FNV-1a: it tells an honest file from its successor. Whoever can forge a log needs no collision.
fn mark(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
