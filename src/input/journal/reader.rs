#![forbid(unsafe_code)]
//! Walks through the entries of one journal file, oldest first, while it grows. What is not there yet is
//! waited for, what is damaged is passed over, and no lie in the file makes the walk endless: it only goes
//! forward, and not further than entries fit into the file. Knows no field.

use super::format::{
    self, ARRAY_HEAD, ENTRY_ARRAY, ENTRY_HEAD, EntryHead, FileHeader, FormatRefusal, HEADER, ReadAt,
};

/// Bytes of a file that are looked at through one window.
pub const WINDOW: usize = 8192;
/// So much of it lies before the entry that moved it: a writer puts new fields before the entry that they
/// belong to.
const BACK: u64 = 2048;
/// Entry arrays in one file at most; each is twice as long as the one before.
const ARRAYS: u32 = 4096;
/// Offsets read at once.
const OFFSETS: usize = 256;

/// A piece of a file in memory.
pub struct FileWindow<'a> {
    buf: &'a mut [u8],
    at: u64,
    len: usize,
}

impl<'a> FileWindow<'a> {
    /// A window that shows nothing yet.
    pub fn new(buf: &'a mut [u8]) -> FileWindow<'a> {
        FileWindow { buf, at: 0, len: 0 }
    }

    /// Up to `len` bytes at `at` if the window shows all of them.
    pub fn shown(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        let end = from.checked_add(len).filter(|&end| end <= self.len)?;
        self.buf.get(from..end)
    }

    /// `len` bytes at `at`, for which the window is moved if need be.
    pub fn get(&mut self, file: &dyn ReadAt, at: u64, len: usize) -> Option<&[u8]> {
        if self.shown(at, len).is_none() {
            self.at = at.saturating_sub(BACK);
            self.len = file.read_at(self.at, self.buf);
        }
        self.shown(at, len)
    }

    /// Forgets what it shows: the file may have changed.
    pub fn forget(&mut self) {
        self.len = 0;
    }
}

/// What the next step through a file gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalStep {
    /// An entry.
    Entry(EntryHead),
    /// Something that should be an entry and is none.
    Damaged,
    /// Nothing more for now.
    End,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// The entry array, 0 before the first.
    array: u64,
    /// Offsets that it has room for.
    room: u64,
    /// The next one in it.
    index: u64,
    /// Entries before this one, in all arrays.
    done: u64,
    /// Arrays so far.
    arrays: u32,
}

/// One file.
pub struct JournalReader {
    file: Box<dyn ReadAt>,
    header: FileHeader,
    size: u64,
    /// Entries that there can be.
    total: u64,
    cursor: Cursor,
    /// Number of the last entry, and of the one before it.
    last: u64,
    before: u64,
    /// Where `offsets` were read, and how many bytes of them.
    offsets_at: u64,
    offsets_len: usize,
    offsets: [u8; OFFSETS],
}

impl JournalReader {
    /// Looks at the header and stands before the first entry.
    ///
    /// # Errors
    /// Why the file cannot be read.
    pub fn open(file: Box<dyn ReadAt>) -> Result<JournalReader, FormatRefusal> {
        let mut reader = JournalReader {
            file,
            header: FileHeader::default(),
            size: 0,
            total: 0,
            cursor: Cursor::default(),
            last: 0,
            before: 0,
            offsets_at: 0,
            offsets_len: 0,
            offsets: [0; OFFSETS],
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// Looks how much there is now. True if that is more than was read.
    ///
    /// # Errors
    /// Why the file cannot be read any more.
    pub fn refresh(&mut self) -> Result<bool, FormatRefusal> {
        let header = header(&*self.file)?;
        if self.header.begin != 0 && header.layout != self.header.layout {
            return Err(FormatRefusal::Foreign);
        }
        self.header = header;
        self.size = self.file.size();
        self.total = header.entries.min(self.size / ENTRY_HEAD as u64);
        self.offsets_len = 0;
        Ok(self.left() > 0)
    }

    /// What the header said when it was last looked at.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// The file.
    pub fn file(&self) -> &dyn ReadAt {
        &*self.file
    }

    /// Entries that were not reached yet.
    pub fn left(&self) -> u64 {
        self.total.saturating_sub(self.cursor.done)
    }

    /// The next entry.
    pub fn next(&mut self, window: &mut FileWindow<'_>) -> JournalStep {
        if self.left() == 0 {
            return JournalStep::End;
        }
        while self.cursor.index >= self.cursor.room {
            match self.following() {
                Some(next) => self.cursor = next,
                None => return JournalStep::End,
            }
        }
        let at = self.offset(self.cursor.index);
        if at == 0 {
            return JournalStep::End;
        }
        let entry = self.entry(window, at);
        // The newest one may not be whole yet. What has others behind it will never be.
        if entry.is_none() && self.left() == 1 {
            return JournalStep::End;
        }
        self.cursor.index += 1;
        self.cursor.done += 1;
        match entry {
            // An offset that leads back would give an entry a second time.
            Some(entry) if entry.seqnum > self.last => {
                self.before = std::mem::replace(&mut self.last, entry.seqnum);
                JournalStep::Entry(entry)
            }
            _ => JournalStep::Damaged,
        }
    }

    /// Takes the last step back: the entry is to be read again.
    pub fn back(&mut self) {
        if self.cursor.index > 0 {
            self.cursor.index -= 1;
            self.cursor.done -= 1;
            self.last = self.before;
        }
    }

    /// Goes to the first entry that is not `old`; entries are old up to some point, and behind it none is. A
    /// damaged one counts as old.
    pub fn seek(&mut self, window: &mut FileWindow<'_>, old: &dyn Fn(&EntryHead) -> bool) {
        let mut from = Cursor::default();
        self.cursor = from;
        let is_old = |reader: &mut JournalReader, window: &mut FileWindow<'_>, index| {
            let at = reader.offset(index);
            reader.entry(window, at).is_none_or(|e| old(&e))
        };
        while let Some(next) = self.following() {
            self.cursor = next;
            if next.done >= self.total || !is_old(self, window, 0) {
                break;
            }
            from = next;
        }
        // In this array, everything before `low` is old and nothing from `high` on is.
        self.cursor = from;
        let mut high = from.room.min(self.total.saturating_sub(from.done));
        let mut low = high.min(1);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_old(self, window, middle) { low = middle + 1 } else { high = middle }
        }
        self.cursor.index = low;
        self.cursor.done += low;
        self.last = 0;
    }

    /// The begin of the array behind the one the cursor is in, if there is one already.
    fn following(&self) -> Option<Cursor> {
        let Cursor { array, room, index, done, arrays } = self.cursor;
        let mut head = [0; ARRAY_HEAD];
        let next = if array == 0 {
            self.header.array
        } else {
            self.file.read_at(array, &mut head);
            format::u64_at(&head, 16)
        };
        // A writer only appends: what leads back is a circle.
        if next <= array || next < self.header.begin || arrays >= ARRAYS {
            return None;
        }
        let n = self.file.read_at(next, &mut head);
        let size = format::object(head.get(..n)?, ENTRY_ARRAY, ARRAY_HEAD)?;
        next.checked_add(size).filter(|&end| end <= self.size)?;
        let space = (size - ARRAY_HEAD as u64) / format::offset_width(self.header.layout);
        let done = done + room.saturating_sub(index);
        (space > 0).then_some(Cursor { array: next, room: space, index: 0, done, arrays: arrays + 1 })
    }

    /// The offset at `index` in the current array; 0 = none yet.
    fn offset(&mut self, index: u64) -> u64 {
        let width = format::offset_width(self.header.layout);
        // Both lie in the file, as `following` made sure.
        let at = self.cursor.array + ARRAY_HEAD as u64 + index * width;
        let known = |reader: &JournalReader| {
            let from = usize::try_from(at.checked_sub(reader.offsets_at)?).ok()?;
            let bytes = reader.offsets.get(..reader.offsets_len)?.get(from..)?;
            (bytes.len() as u64 >= width).then(|| format::offset(bytes, reader.header.layout))
        };
        if let Some(offset) = known(self) {
            return offset;
        }
        self.offsets_at = at;
        self.offsets_len = self.file.read_at(at, &mut self.offsets);
        known(self).unwrap_or(0)
    }

    /// The entry at an offset.
    fn entry(&self, window: &mut FileWindow<'_>, at: u64) -> Option<EntryHead> {
        if !at.is_multiple_of(8) || at < self.header.begin {
            return None;
        }
        let entry = EntryHead::parse(window.get(&*self.file, at, ENTRY_HEAD)?, at, self.header.layout)?;
        // Numbers that the header does not know of are no numbers of this file.
        (self.header.first..=self.header.last).contains(&entry.seqnum).then_some(entry)
    }
}

/// Reads the header of a file.
///
/// # Errors
/// Why the file cannot be read.
pub fn header(file: &dyn ReadAt) -> Result<FileHeader, FormatRefusal> {
    let mut bytes = [0; HEADER];
    let n = file.read_at(0, &mut bytes);
    FileHeader::parse(bytes.get(..n).unwrap_or_default())
}
