#![forbid(unsafe_code)]
//! The bytes of a systemd journal file as numbers: header, objects, entry arrays (systemd's
//! JOURNAL_FILE_FORMAT and journal-def.h; all numbers are little-endian). Offsets and sizes are only taken
//! apart here; whoever follows them finds out whether there is anything. Knows no file of the system and no
//! meaning of a field.

/// 128 bits that name something: the halves as systemd prints them, the first one first. All zeros names
/// nothing.
pub type Id = [u64; 2];

/// What a journal file is read through.
pub trait ReadAt {
    /// Fills `buf` from offset `at` on and returns how much there was. What cannot be read is not there.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> usize;
    /// Bytes in the file.
    fn size(&self) -> u64;
}

/// Bytes of the header that every file has. What later versions put behind them is of no use to a reader.
pub const HEADER: usize = 208;
/// The first bytes of a journal file.
const SIGNATURE: &[u8] = b"LPKSHHRH";
/// Flags of features that change what is read: XZ, LZ4, keyed hash, ZSTD, compact.
const KNOWN: u32 = 0b1_1111;
const COMPACT: u32 = 16;

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatRefusal {
    /// It is empty, or only zeros so far.
    NotYet,
    /// It is something else.
    Foreign,
    /// It uses features that this reader does not know; these are their flags.
    Unknown(u32),
}

/// What the header of a file says. Any of it may be wrong.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct FileHeader {
    /// Offsets in entries and entry arrays take 4 bytes instead of 8.
    pub layout: FileLayout,
    /// Where the first object may begin.
    pub begin: u64,
    /// The boot of the newest entry, in most versions.
    pub boot: Id,
    /// All files of one sequence of numbers have the same.
    pub sequence: Id,
    /// Entries in the file.
    pub entries: u64,
    /// Number of the newest entry, and of the oldest.
    pub last: u64,
    /// See `last`.
    pub first: u64,
    /// Where the first entry array is.
    pub array: u64,
    /// When the oldest entry was written, in microseconds since 1970.
    pub first_time: u64,
    /// When the newest was.
    pub last_time: u64,
    /// When the newest was, in microseconds since its boot.
    pub last_mono: u64,
}

impl FileHeader {
    /// Takes a header apart; `bytes` are the first ones of the file, at most [`HEADER`].
    ///
    /// # Errors
    /// Why the file cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<FileHeader, FormatRefusal> {
        if bytes.len() < HEADER || bytes.iter().all(|&b| b == 0) {
            let begins = bytes.iter().zip(SIGNATURE).all(|(a, b)| a == b) || bytes.iter().all(|&b| b == 0);
            return Err(if begins { FormatRefusal::NotYet } else { FormatRefusal::Foreign });
        }
        let word = |at| u64_at(bytes, at);
        let flags = u32_at(bytes, 12);
        if !bytes.starts_with(SIGNATURE) || word(88) < HEADER as u64 {
            return Err(FormatRefusal::Foreign);
        }
        if flags & !KNOWN != 0 {
            return Err(FormatRefusal::Unknown(flags & !KNOWN));
        }
        Ok(FileHeader {
            layout: if flags & COMPACT != 0 { FileLayout::Compact } else { FileLayout::Regular },
            begin: word(88),
            boot: id_at(bytes, 56),
            sequence: id_at(bytes, 72),
            entries: word(152),
            last: word(160),
            first: word(168),
            array: word(176),
            first_time: word(184),
            last_time: word(192),
            last_mono: word(200),
        })
    }
}

/// Kinds of objects that are read.
pub const DATA: u8 = 1;
/// See [`DATA`].
pub const ENTRY: u8 = 3;
/// See [`DATA`].
pub const ENTRY_ARRAY: u8 = 6;

/// Bytes before the offsets in an entry.
pub const ENTRY_HEAD: usize = 64;
/// Bytes before the offsets in an entry array.
pub const ARRAY_HEAD: usize = 24;
/// Bytes before the text of a field, in compact files.
pub const DATA_HEAD: usize = 72;

/// How a field is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    No,
    /// As one block of LZ4 behind its size.
    Lz4,
    /// As a frame of ZSTD.
    Zstd,
    /// As XZ, or in more than one way.
    Other,
}

/// What stands before the text of a field.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    /// How it is packed.
    pub packed: Compression,
    /// Where it begins in the object.
    pub head: usize,
    /// Its bytes in the file.
    pub len: u64,
}

/// How wide numbers and places are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileLayout {
    /// As in every file before systemd 252.
    #[default]
    Regular,
    /// Without 64 bits where 32 are enough.
    Compact,
}

impl FileLayout {
    /// Of two things, that for this layout.
    fn of<T>(self, regular: T, compact: T) -> T {
        match self {
            FileLayout::Regular => regular,
            FileLayout::Compact => compact,
        }
    }
}

impl Data {
    /// Takes the head of a data object apart.
    pub fn parse(bytes: &[u8], layout: FileLayout) -> Option<Data> {
        let head = layout.of(DATA_HEAD - 8, DATA_HEAD);
        let size = object(bytes, DATA, head)?;
        let packed = match bytes.get(1)? & 7 {
            0 => Compression::No,
            2 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => Compression::Other,
        };
        Some(Data { packed, head, len: size - head as u64 })
    }
}

/// An entry without its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryHead {
    /// Where it is in the file.
    pub at: u64,
    /// How many fields it has.
    pub fields: u64,
    /// Its number in the sequence.
    pub seqnum: u64,
    /// Microseconds since 1970.
    pub realtime: u64,
    /// Microseconds since the boot.
    pub monotonic: u64,
    /// Which boot.
    pub boot: Id,
}

impl EntryHead {
    /// Takes the first [`ENTRY_HEAD`] bytes of the entry at `at` apart.
    pub fn parse(bytes: &[u8], at: u64, layout: FileLayout) -> Option<EntryHead> {
        let size = object(bytes, ENTRY, ENTRY_HEAD)?;
        let word = |at| u64_at(bytes, at);
        let fields = (size - ENTRY_HEAD as u64) / item_width(layout);
        let [seqnum, realtime, monotonic] = [16, 24, 32].map(word);
        let whole = seqnum > 0 && realtime > 0 && fields > 0;
        whole.then(|| EntryHead { at, fields, seqnum, realtime, monotonic, boot: id_at(bytes, 40) })
    }
}

/// Bytes of one field in an entry: its offset, in large files with a hash behind it.
pub fn item_width(layout: FileLayout) -> u64 {
    layout.of(16, 4)
}

/// Bytes of one offset in an entry array.
pub fn offset_width(layout: FileLayout) -> u64 {
    layout.of(8, 4)
}

/// The offset at the begin of `bytes`; 0 = none yet.
pub fn offset(bytes: &[u8], layout: FileLayout) -> u64 {
    match layout {
        FileLayout::Regular => u64_at(bytes, 0),
        FileLayout::Compact => u64::from(u32_at(bytes, 0)),
    }
}

/// The size of an object if it is of this kind and holds at least `head` bytes, which `bytes` must do, too.
pub fn object(bytes: &[u8], kind: u8, head: usize) -> Option<u64> {
    let size = u64_at(bytes, 8);
    (*bytes.first()? == kind && bytes.len() >= head && size >= head as u64).then_some(size)
}

/// The number at `at`; 0 where there is nothing.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn id_at(bytes: &[u8], at: usize) -> Id {
    [u64_at(bytes, at).swap_bytes(), u64_at(bytes, at + 8).swap_bytes()]
}

/// The halves of an identifier from 32 hexadecimal digits.
pub fn id(digits: &[u8]) -> Option<Id> {
    let (high, low) = digits.split_at_checked(16)?;
    let half = |digits: &[u8]| {
        let hex = digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| hex)?;
        u64::from_str_radix(digits, 16).ok()
    };
    Some([half(high)?, half(low)?])
}
