#![forbid(unsafe_code)]
//! What tells one log file from another, and where in it a place is: hashes of what it begins with, of what
//! stands before the place, of the last line. No times.

use super::reader::{FileReader, TAIL};
use crate::base::position::Position;
use crate::sys::buffer::Buffer;
use crate::sys::fs::{self, FileId};
use memchr::memrchr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// What was read of a file: how it began and how it ended.
pub(super) struct Trace {
    first: First,
    line: MarkedLine,
}

/// The first bytes of a file, as many of them as were read when they were looked at.
#[derive(Clone, Copy)]
pub(super) struct First {
    bytes: [u8; TAIL],
    pub(super) len: usize,
}

impl First {
    pub(super) const NONE: First = First { bytes: [0; TAIL], len: 0 };

    /// Of bytes that begin where the file does.
    pub(super) fn new(seen: &[u8]) -> First {
        let mut first = First { len: seen.len().min(TAIL), ..First::NONE };
        first.bytes.iter_mut().zip(seen).for_each(|(to, from)| *to = *from);
        first
    }

    pub(super) fn of(file: &File, len: u64) -> Option<First> {
        let mut first = First { len: usize::try_from(len).unwrap_or(TAIL).min(TAIL), ..First::NONE };
        file.read_exact_at(first.bytes.get_mut(..first.len)?, 0).ok()?;
        Some(first)
    }

    fn seen(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    pub(super) fn mark(&self) -> u64 {
        mark(self.seen())
    }

    /// Whether `file` begins so, as far as it goes.
    fn begins(&self, file: &File, len: u64) -> bool {
        let Some(other) = First::of(file, len) else { return false };
        let both = self.len.min(other.len);
        both > 0 && self.seen().get(..both) == other.seen().get(..both)
    }
}

/// Lengths of beginnings that are remembered: four from one power of two to the next.
const STEPS: usize = 24;
/// The longest of them.
const LONGEST: usize = TAIL << (STEPS / 4);

fn length(step: usize) -> usize {
    (TAIL + TAIL / 4 * (step % 4 + 1)) << (step / 4)
}

/// Marks of beginnings of what was read of a file: what tells a copy of a part of it from a successor that
/// begins with the same line, or the same time.
#[derive(Clone, Copy)]
pub(super) struct Beginnings {
    marks: [u64; STEPS],
    known: usize,
}

impl Beginnings {
    pub(super) const NONE: Beginnings = Beginnings { marks: [0; STEPS], known: 0 };

    /// Takes in what was read up to `offset`.
    pub(super) fn grow(&mut self, file: &File, offset: u64) {
        let is_read = |step: usize| step < STEPS && length(step) as u64 <= offset;
        if !is_read(self.known) {
            return;
        }
        let Some(new) = Beginnings::of(file, offset) else { return };
        // What is remembered was read; the file may be another by now.
        for (mark, new) in self.marks.iter_mut().zip(new.marks).skip(self.known) {
            *mark = new;
        }
        self.known = self.known.max(new.known);
    }

    fn of(file: &File, len: u64) -> Option<Beginnings> {
        let mut room = [0; LONGEST];
        let seen = room.get_mut(..usize::try_from(len).unwrap_or(LONGEST).min(LONGEST))?;
        file.read_exact_at(seen, 0).ok()?;
        let mut new = Beginnings::NONE;
        let (mut hash, mut from) = (mark(&[]), 0);
        for (step, mark) in new.marks.iter_mut().enumerate() {
            let Some(more) = seen.get(from..length(step)) else { break };
            (hash, from) = (mark_on(hash, more), length(step));
            *mark = hash;
            new.known = step + 1;
        }
        Some(new)
    }

    /// Whether the first `len` bytes of `file` are those, as far as they were remembered.
    fn begin(&self, file: &File, len: u64) -> bool {
        Beginnings::of(file, len).is_some_and(|other| {
            let both = self.known.min(other.known);
            self.marks.get(..both) == other.marks.get(..both)
        })
    }
}

/// A line, without its newline.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MarkedLine {
    len: usize,
    mark: u64,
}

impl MarkedLine {
    pub(super) fn of(line: &[u8]) -> MarkedLine {
        MarkedLine { len: line.len(), mark: mark(line) }
    }
}

/// What a file began with.
#[derive(Clone, Copy)]
pub(super) struct Begin {
    pub(super) len: usize,
    pub(super) mark: u64,
}

/// A file whose lines are accounted for up to `size`, and what tells it from another.
#[derive(Clone, Copy)]
pub(super) struct LogMark {
    id: FileId,
    size: u64,
    pub(super) mtime: (i64, i64),
    first: u64,
    tail: u64,
}

impl LogMark {
    pub(super) fn is_of(&self, other: &LogMark) -> bool {
        self.id == other.id
    }

    pub(super) fn is_in(&self, id: FileId) -> bool {
        self.id == id
    }

    pub(super) fn position(&self) -> Position {
        let tail = both(self.first, self.tail);
        Position { dev: self.id.dev, ino: self.id.ino, offset: self.size, tail }
    }
}

impl FileReader {
    /// Whether this is the file in which the position was taken, or a copy.
    pub(super) fn has_read(&self, at: &Position) -> bool {
        let copy = || self.facts().is_ok_and(|f| f.size == at.offset);
        (at.ino == self.id.ino || copy()) && self.matches(at).is_some()
    }

    /// What tells the file as it is now from others. An empty one is like any other.
    pub(super) fn whole(&self) -> Option<LogMark> {
        let fs::FileFacts { size, mtime, .. } = self.facts().ok().filter(|f| f.size > 0)?;
        let (first, tail) = (self.before(size.min(TAIL as u64))?, self.before(size)?);
        Some(LogMark { id: self.id, size, mtime, first, tail })
    }

    fn holds(&self, mark: &LogMark) -> bool {
        self.before(mark.size.min(TAIL as u64)) == Some(mark.first)
            && self.before(mark.size) == Some(mark.tail)
    }

    /// Whether this is the file of the mark, which may have grown since, or a copy.
    pub(super) fn is_known_by(&self, mark: &LogMark) -> bool {
        let copy = || self.facts().is_ok_and(|f| f.size == mark.size);
        (mark.is_in(self.id) || copy()) && self.holds(mark)
    }

    /// Whether all of `copy` is in this file. Where all lines are alike, the earlier one is the copy.
    pub(super) fn holds_all_of(&self, copy: &FileReader) -> bool {
        let Some(mark) = copy.whole() else { return false };
        let earlier = || copy.facts().ok().zip(self.facts().ok()).is_some_and(|(a, b)| a.mtime <= b.mtime);
        let alike = || Beginnings::of(&copy.file, mark.size).is_some_and(|b| b.begin(&self.file, mark.size));
        self.holds(&mark) && alike() && (mark.first != mark.tail || earlier())
    }

    /// Whether all or the beginning of `copy` was copied from what this file is or was.
    pub(super) fn is_copied_to(&self, copy: &FileReader) -> bool {
        let at = self.position();
        self.holds_all_of(copy) || self.began_like(copy) || at.offset > 0 && copy.matches(&at).is_some()
    }

    /// Whether `copy` was copied from what this file was, before the last of it was read.
    pub(super) fn began_like(&self, copy: &FileReader) -> bool {
        let size = copy.facts().map_or(0, |f| f.size);
        let begins = || self.first.begins(&copy.file, size) && self.beginnings.begin(&copy.file, size);
        size < self.offset && begins()
    }

    /// Whether another file begins with what was read of this one, as far as that is remembered.
    pub(super) fn begins_as_read(&self, other: &FileReader) -> bool {
        self.beginnings.begin(&other.file, self.offset)
    }

    /// Whether what was read of it is not there any more.
    pub(super) fn is_altered(&self) -> bool {
        self.begins_otherwise() || self.before(self.offset) != Some(self.tail)
    }

    /// What [`FileReader::resume_edited`] knows it by.
    pub(super) fn trace(&self) -> Trace {
        Trace { first: self.first, line: self.line }
    }

    /// Goes behind what was read of this file `before` an editor wrote it anew, if that is to be seen: by
    /// its beginning and the last line that was read.
    pub(super) fn resume_edited(&mut self, before: &Trace, buffer: &mut Buffer) -> bool {
        let Trace { first, line } = *before;
        if first.len < TAIL || line.len == 0 || self.before(TAIL as u64) != Some(first.mark()) {
            return false;
        }
        let from = self.facts().map_or(0, |f| f.size.saturating_sub(buffer.len() as u64));
        let Ok(n) = self.file.read_at(buffer, from) else { return false };
        let Some(last) = memrchr(b'\n', buffer.get(..n).unwrap_or(&[])) else { return false };
        let (mut end, mut place) = (last, None);
        let seen = buffer.get(..last).unwrap_or(&[]);
        for text in seen.rsplit(|&b| b == b'\n') {
            let whole = from == 0 || text.len() < end;
            if whole && text.len() == line.len && mark(text) == line.mark && place.replace(end).is_some() {
                return false; // lines that are all alike tell nothing
            }
            end = end.saturating_sub(text.len() + 1);
        }
        place.is_some_and(|end| self.go_behind(from + end as u64 + 1, before))
    }

    fn go_behind(&mut self, offset: u64, before: &Trace) -> bool {
        let Some(tail) = self.before(offset) else { return false };
        (self.offset, self.scan, self.tail) = (offset, offset, tail);
        (self.first, self.line) = (before.first, before.line);
        self.beginnings = Beginnings::NONE; // an editor was there
        self.beginnings.grow(&self.file, offset);
        (self.dirty, self.hot) = (true, false);
        true
    }
}

pub(super) fn both(first: u64, tail: u64) -> u64 {
    first.rotate_left(32) ^ tail
}

/// FNV-1a: it tells an honest file from its successor. Whoever can forge a log needs no collision.
pub(super) fn mark(bytes: &[u8]) -> u64 {
    mark_on(0xcbf2_9ce4_8422_2325, bytes)
}

fn mark_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
