#![forbid(unsafe_code)]
//! One open log file: reads on from where it was, whole lines only. Knows no names and no rotation.

use super::marks::{Begin, Beginnings, First, MarkedLine, both, mark};
use crate::base::position::Position;
use crate::input::container::{ContainerLog, LOOK_BACK};
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
/// Bytes that are looked at before the first are handed out: more than a line may have.
const BEGIN: usize = MAX_LINE + SMALL;
/// Bytes before the offset that are remembered (as a hash) to know the file again.
pub(super) const TAIL: usize = 64;

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TailStep {
    /// This many bytes were looked at; `more` unless the end of the file was seen.
    Read { bytes: usize, more: bool },
    /// The file is no longer the one that was read: `shrunk` below the offset, or rewritten.
    Changed { shrunk: bool },
    /// Nothing of it was read, and it was truncated since it was looked at.
    Replaced,
}

/// An open file. `offset` is always the start of a line that was not handed out, so an incomplete line needs
/// no memory: it is read again when more of it comes.
pub(super) struct FileReader {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) offset: u64,
    /// Mark of the bytes before `offset`.
    pub(super) tail: u64,
    pub(super) first: First,
    pub(super) beginnings: Beginnings,
    /// The last line that was handed out, if it was in one piece.
    pub(super) line: MarkedLine,
    /// Up to here there is no newline: set when the line at `offset` is too long to be read again and again.
    pub(super) scan: u64,
    pub(super) wd: Option<WatchDescriptor>,
    /// There may be something to read.
    pub(super) dirty: bool,
    /// The last read filled the room: use the whole buffer.
    pub(super) hot: bool,
    /// Nobody but its service and root can write to it.
    pub(super) attested: bool,
    /// Where the lines of a container's engine go on, once that was asked for.
    pub(super) container: Option<ContainerLog>,
}

impl FileReader {
    /// Opens a regular file, at its start.
    pub(super) fn open(path: &Path) -> io::Result<FileReader> {
        let file = fs::open_regular(path, Links::Follow)?;
        let id = fs::facts_of(&file)?.id;
        Ok(FileReader {
            file,
            id,
            offset: 0,
            tail: mark(&[]),
            first: First::NONE,
            beginnings: Beginnings::NONE,
            line: MarkedLine::default(),
            scan: 0,
            wd: None,
            dirty: true,
            hot: false,
            attested: false,
            container: None,
        })
    }

    pub(super) fn facts(&self) -> io::Result<fs::FileFacts> {
        fs::facts_of(&self.file)
    }

    /// A path that leads to this very file, where /proc is mounted.
    pub(super) fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Where it is, for [`FileReader::resume`]. Lines of equal length may end alike, but begin with a time:
    /// the first bytes of the file are in the mark, too.
    pub(super) fn position(&self) -> Position {
        let tail = both(self.first.mark(), self.tail);
        Position { dev: self.id.dev, ino: self.id.ino, offset: self.offset, tail }
    }

    /// Goes to a position taken in this file or in one it was copied from, if the bytes before it are the
    /// same. At offset 0 nothing tells files apart but the inode.
    pub(super) fn resume(&mut self, at: &Position) -> bool {
        if at.offset == 0 {
            return at.ino == self.id.ino;
        }
        let Some((first, tail)) = self.matches(at) else { return false };
        (self.offset, self.scan, self.tail) = (at.offset, at.offset, tail);
        self.first = first;
        self.beginnings.grow(&self.file, at.offset);
        true
    }

    /// The marks of what was read until `at`, if that is in this file.
    pub(super) fn matches(&self, at: &Position) -> Option<(First, u64)> {
        let (first, tail) = (First::of(&self.file, at.offset)?, self.before(at.offset)?);
        (both(first.mark(), tail) == at.tail).then_some((first, tail))
    }

    /// Whether nothing was handed out yet.
    pub(super) fn is_at_start(&self) -> bool {
        self.offset == 0
    }

    pub(super) fn begins_otherwise(&self) -> bool {
        self.first.len > 0 && self.before(self.first.len as u64) != Some(self.first.mark())
    }

    /// What it begins with: length and mark of a line at least, if there is one.
    pub(super) fn begin(&mut self, buffer: &mut Buffer) -> io::Result<Begin> {
        let room = buffer.get_mut(..BEGIN).unwrap_or(&mut []);
        let len = self.file.read_at(room, 0)?;
        self.hot |= len >= SMALL;
        Ok(Begin { len, mark: mark(room.get(..len).unwrap_or(&[])) })
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

    /// Goes to the start of a file that was truncated. A writer that kept its own offset left a hole there:
    /// it is no line.
    pub(super) fn restart(&mut self) {
        (self.offset, self.scan, self.tail) = (0, 0, mark(&[]));
        (self.first, self.line, self.container) = (First::NONE, MarkedLine::default(), None);
        self.beginnings = Beginnings::NONE;
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

    /// Reads once and hands out the lines that are complete. Lines that were cut are added to `cut`. A file
    /// that does not begin as it did at a look before is another one.
    pub(super) fn step(
        &mut self,
        buffer: &mut Buffer,
        cut: &mut u64,
        begin: Option<Begin>,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<TailStep> {
        if self.scan > self.offset {
            return self.step_long(buffer, cut, each);
        }
        let keep = usize::try_from(self.offset).unwrap_or(TAIL).min(TAIL);
        let want = if self.hot { buffer.len() } else { SMALL };
        let room = buffer.get_mut(..want).unwrap_or(&mut []);
        let n = self.file.read_at(room, self.offset - keep as u64)?;
        // Of what came since somebody looked nothing is known.
        let more = n == room.len() || begin.is_some_and(|begin| begin.len < n);
        let seen = room.get_mut(..begin.map_or(n, |begin| begin.len.min(n))).unwrap_or(&mut []);
        let Some((before, data)) = seen.split_at_mut_checked(keep) else {
            return Ok(TailStep::Changed { shrunk: true });
        };
        // Lines that were copied away and others of the same length may end alike.
        if mark(before) != self.tail || self.offset > TAIL as u64 && self.begins_otherwise() {
            return Ok(TailStep::Changed { shrunk: false });
        }
        if let Some(begin) = begin
            && data.get(..begin.len).is_none_or(|data| mark(data) != begin.mark)
        {
            return Ok(TailStep::Replaced);
        }
        let step = TailStep::Read { bytes: data.len(), more };
        match memrchr(b'\n', data) {
            Some(last) => {
                let end = keep + last + 1;
                self.offset += last as u64 + 1;
                self.scan = self.offset;
                self.tail = mark(seen.get(end.saturating_sub(TAIL)..end).unwrap_or(&[]));
                if let Some(lines) = seen.get_mut(keep..end) {
                    let text = lines.strip_suffix(b"\n").unwrap_or(&[]);
                    self.line = MarkedLine::of(text.rsplit(|&b| b == b'\n').next().unwrap_or(&[]));
                    *cut += each_block(lines, each);
                }
                if self.first.len < TAIL && self.offset - (last as u64) <= TAIL as u64 + 1 {
                    self.first = First::new(seen.get(..end).unwrap_or(&[]));
                }
                self.beginnings.grow(&self.file, self.offset);
            }
            None if data.len() > MAX_LINE => self.scan = self.offset + data.len() as u64,
            None => {}
        }
        self.hot = more;
        Ok(step)
    }

    /// Looks for the end of a line that is longer than a line may be, and hands out its two ends.
    fn step_long(
        &mut self,
        buffer: &mut Buffer,
        cut: &mut u64,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<TailStep> {
        if self.facts()?.size < self.scan {
            return Ok(TailStep::Changed { shrunk: true });
        }
        if self.is_altered() {
            return Ok(TailStep::Changed { shrunk: false });
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
            return Ok(TailStep::Read { bytes: n, more: self.hot });
        };
        let end = self.scan + i as u64;
        let line = buffer.get_mut(..=MAX_LINE).unwrap_or(&mut []);
        let Some((head, tail)) = line.split_at_mut_checked(HALF) else {
            return Ok(TailStep::Read { bytes: 0, more: false });
        };
        self.file.read_exact_at(head, self.offset)?;
        self.file.read_exact_at(tail, end - HALF as u64)?;
        self.tail = mark(tail.get(tail.len().saturating_sub(TAIL)..).unwrap_or(&[]));
        (self.offset, self.scan, self.line) = (end + 1, end + 1, MarkedLine::default());
        self.know_first();
        *cut += 1;
        self.hot = true;
        each(line);
        Ok(TailStep::Read { bytes: i + MAX_LINE, more: true })
    }

    /// Marks the first bytes as soon as enough of them were read.
    fn know_first(&mut self) {
        let len = self.offset.min(TAIL as u64);
        if (self.first.len as u64) < len
            && let Some(first) = First::of(&self.file, len)
        {
            self.first = first;
        }
        self.beginnings.grow(&self.file, self.offset);
    }

    /// How lines of a container's engine go on here.
    pub(super) fn container(&self) -> ContainerLog {
        let mut room = [0; LOOK_BACK];
        let keep = usize::try_from(self.offset).unwrap_or(LOOK_BACK).min(LOOK_BACK);
        let before = room.get_mut(..keep).unwrap_or_default();
        self.container.unwrap_or_else(|| {
            // What cannot be read is no end of a line.
            let _ = self.file.read_exact_at(before, self.offset - keep as u64);
            ContainerLog::behind(before)
        })
    }

    /// The mark of the bytes before `offset`, if the file has them.
    pub(super) fn before(&self, offset: u64) -> Option<u64> {
        let mut room = [0; TAIL];
        let keep = usize::try_from(offset).unwrap_or(TAIL).min(TAIL);
        let room = room.get_mut(..keep)?;
        self.file.read_exact_at(room, offset - keep as u64).ok()?;
        Some(mark(room))
    }
}
