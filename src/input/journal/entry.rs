#![forbid(unsafe_code)]
//! From an entry to a record: finds the few fields that say who wrote it and what, and reads the message only
//! when somebody wants to hear that program. Knows no rule but as the programs it names.

use super::format::{self, Compression, Data, EntryHead};
use super::reader::{FileWindow, JournalReader};
use super::unpack::{PACKED_MAX, unpack};
use crate::base::program::Program;
use crate::input::lines::{HALF, MAX_LINE};
use crate::input::{Item, LogRecord, NO_UNIT, Sender, Tags, Written};

/// Fields that are known by their place: a field that many entries share is stored once.
const KNOWN: usize = 64;
/// Fields of one entry that are looked at; journald takes 1024.
const FIELDS: u64 = 1100;
/// Offsets read at once.
const ITEMS: usize = 256;
/// Bytes of a field that are read to see what it is; a name that does not fit is no program's or unit's.
const PEEK: usize = 256;
/// Longest name of a program or unit: they are files.
const NAME: usize = 160;

const MESSAGE: &[u8] = b"MESSAGE=";
const GROUP: &[u8] = b"_SYSTEMD_CGROUP=";

/// What a field tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryFact {
    /// Nothing that matters.
    Nothing,
    Message,
    /// The program by the sender's own account, and who wants it.
    Program(Tags),
    Comm,
    Unit,
    /// The control group that it runs in.
    Group,
    User(Option<u32>),
    Process(Option<u32>),
    /// The process by the sender's own account.
    Claimed(Option<u32>),
    /// The kernel itself wrote it.
    Kernel,
    /// It cannot be seen without unpacking.
    Packed,
    Damaged,
}

/// Which rules want which programs.
pub struct WantedPrograms {
    /// No programs: all of them.
    pub programs: Vec<Program>,
    /// The rules.
    pub tags: Tags,
}

/// What came of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryOutcome {
    /// It went to the sink, or nobody wants it.
    Done,
    /// As [`EntryOutcome::Done`], but its message was longer than a line may be and lost its middle.
    Cut,
    /// It is damaged.
    Damaged,
    /// Its message is packed in a way that cannot be unpacked here.
    Unreadable,
}

/// What is known of an entry: the places of its fields, 0 = it has none.
#[derive(Default)]
struct EntryFacts {
    tags: Tags,
    message: u64,
    program: u64,
    comm: u64,
    unit: u64,
    group: u64,
    user: Option<u32>,
    process: Option<u32>,
    claimed: Option<u32>,
    kernel: bool,
    packed: u32,
}

/// Reads entries.
pub struct Entries {
    wanted: Vec<WantedPrograms>,
    known: Box<[(u64, EntryFact); KNOWN]>,
}

impl Entries {
    /// For these rules.
    pub fn new(wanted: Vec<WantedPrograms>) -> Entries {
        Entries { wanted, known: Box::new([(0, EntryFact::Nothing); KNOWN]) }
    }

    /// Forgets what it knows of the fields of a file.
    pub fn forget(&mut self) {
        self.known.fill((0, EntryFact::Nothing));
    }

    /// Who wants to hear a program.
    fn tags(&self, program: &[u8]) -> Tags {
        let mut tags = Tags::default();
        for wanted in &self.wanted {
            if wanted.programs.is_empty() || wanted.programs.iter().any(|p| p.fits(program)) {
                tags = tags.and(wanted.tags);
            }
        }
        tags
    }

    /// What an entry says, or why it is not wanted.
    fn facts(
        &mut self,
        reader: &JournalReader,
        window: &mut FileWindow<'_>,
        entry: &EntryHead,
    ) -> Result<EntryFacts, EntryOutcome> {
        let mut facts = EntryFacts::default();
        let (mut damaged, mut odd) = (false, false);
        let whole = self.each(reader, window, entry, &mut |_, place, fact| {
            match fact {
                EntryFact::Nothing => {}
                EntryFact::Message => facts.message = place,
                EntryFact::Program(Tags(0)) => return false,
                EntryFact::Program(tags) => (facts.program, facts.tags) = (place, tags),
                EntryFact::Comm => facts.comm = place,
                EntryFact::Unit => facts.unit = place,
                EntryFact::Group => facts.group = place,
                EntryFact::User(user) => {
                    odd |= facts.user.is_some();
                    facts.user = user;
                }
                EntryFact::Process(pid) => facts.process = pid,
                EntryFact::Claimed(pid) => facts.claimed = pid,
                EntryFact::Kernel => facts.kernel = true,
                EntryFact::Packed => facts.packed += 1,
                EntryFact::Damaged => damaged = true,
            }
            true
        });
        match whole {
            None => Err(EntryOutcome::Damaged),
            Some(false) => Err(EntryOutcome::Done),
            // journald lets nobody name a user twice: then it is not journald who speaks.
            Some(true) if damaged || odd => Err(EntryOutcome::Damaged),
            Some(true) => Ok(facts),
        }
    }

    /// Gives the entry to `sink` if somebody wants it. `room` takes a message that the window does not show;
    /// it has [`MAX_LINE`] bytes.
    pub fn read(
        &mut self,
        reader: &JournalReader,
        window: &mut FileWindow<'_>,
        room: &mut [u8],
        (entry, written): (&EntryHead, Written),
        sink: &mut dyn FnMut(Tags, Item<'_>),
    ) -> EntryOutcome {
        let mut facts = match self.facts(reader, window, entry) {
            Ok(facts) => facts,
            Err(outcome) => return outcome,
        };
        let mut text = Vec::new();
        let [mut program, mut comm, mut unit] = [[0; NAME]; 3];
        let comm = value(reader, window, facts.comm, &mut comm);
        let unknown = facts.unit == 0 && facts.group == 0 && facts.packed > u32::from(facts.message == 0);
        let unit = match facts.unit {
            // A group whose name is so long that it is packed.
            0 if unknown && self.packed(reader, window, entry, GROUP, &mut text) => NO_UNIT,
            0 => Sender::unit_of_group(value(reader, window, facts.group, &mut unit)),
            place => value(reader, window, place, &mut unit),
        };
        let mut program = value(reader, window, facts.program, &mut program);
        if program.is_empty() {
            program = comm;
            facts.tags = self.tags(program);
        }
        if facts.tags == Tags::default() {
            return EntryOutcome::Done;
        }
        let mut cut = false;
        let message = if facts.message != 0 {
            message(reader, window, facts.message, room, &mut cut)
        } else if facts.packed > 0 {
            match self.packed(reader, window, entry, MESSAGE, &mut text) {
                true => Some(shorten(&mut text, &mut cut)),
                false => return EntryOutcome::Unreadable,
            }
        } else {
            Some(&b""[..])
        };
        let Some(message) = message else { return EntryOutcome::Damaged };
        let sender = Sender { uid: facts.user, comm, unit };
        let record = LogRecord {
            program,
            pid: facts.process.or(facts.claimed),
            message,
            sender: (!facts.kernel).then_some(sender),
            written,
        };
        sink(facts.tags, Item::Record(record));
        if cut { EntryOutcome::Cut } else { EntryOutcome::Done }
    }

    /// Tells what the fields of an entry are until `each` says that it knows enough: then false. `None` if
    /// the list of fields cannot be read.
    fn each(
        &mut self,
        reader: &JournalReader,
        window: &mut FileWindow<'_>,
        entry: &EntryHead,
        each: &mut dyn FnMut(&mut FileWindow<'_>, u64, EntryFact) -> bool,
    ) -> Option<bool> {
        let layout = reader.header().layout;
        let width = format::item_width(layout);
        let (mut at, mut left) = (entry.at + format::ENTRY_HEAD as u64, entry.fields.min(FIELDS));
        let mut items = [0; ITEMS];
        while left > 0 {
            let count = left.min(ITEMS as u64 / width);
            let len = usize::try_from(count * width).unwrap_or(0);
            let room = items.get_mut(..len)?;
            room.copy_from_slice(window.get(reader.file(), at, len)?);
            for item in room.chunks_exact(usize::try_from(width).unwrap_or(16)) {
                let place = format::offset(item, layout);
                let fact = self.fact(reader, window, place);
                if !each(window, place, fact) {
                    return Some(false);
                }
            }
            at += count * width;
            left -= count;
        }
        Some(true)
    }

    /// What the field at a place tells.
    fn fact(&mut self, reader: &JournalReader, window: &FileWindow<'_>, place: u64) -> EntryFact {
        if place < reader.header().begin {
            return EntryFact::Damaged;
        }
        let slot = usize::try_from(place / 8).unwrap_or(0).wrapping_mul(0x9e37_79b1) >> 8;
        let slot = slot % KNOWN;
        match self.known.get(slot) {
            Some(&(known, fact)) if known == place => return fact,
            _ => {}
        }
        let mut room = [0; PEEK];
        let fact = match peek(reader, window, place, &mut room) {
            None => EntryFact::Damaged,
            Some((data, _)) if data.packed != Compression::No => EntryFact::Packed,
            Some((_, text)) => self.judge(text),
        };
        // What one entry alone says need not be remembered.
        if !matches!(fact, EntryFact::Message | EntryFact::Damaged)
            && let Some(known) = self.known.get_mut(slot)
        {
            *known = (place, fact);
        }
        fact
    }

    fn judge(&self, field: &[u8]) -> EntryFact {
        let Some(equals) = field.iter().position(|&b| b == b'=') else { return EntryFact::Nothing };
        let (name, value) = field.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        match name {
            b"MESSAGE" => EntryFact::Message,
            // What does not fit in is longer than any name.
            b"SYSLOG_IDENTIFIER" if value.len() > NAME => EntryFact::Program(Tags::default()),
            b"SYSLOG_IDENTIFIER" => EntryFact::Program(self.tags(value)),
            b"_COMM" => EntryFact::Comm,
            b"_SYSTEMD_UNIT" => EntryFact::Unit,
            b"_SYSTEMD_CGROUP" => EntryFact::Group,
            b"_UID" => EntryFact::User(number(value)),
            b"_PID" => EntryFact::Process(number(value)),
            b"SYSLOG_PID" => EntryFact::Claimed(number(value)),
            b"_TRANSPORT" if value == b"kernel" => EntryFact::Kernel,
            _ => EntryFact::Nothing,
        }
    }

    /// Unpacks the fields of an entry until one begins with `name`; what follows comes to stand in `text`.
    fn packed(
        &mut self,
        reader: &JournalReader,
        window: &mut FileWindow<'_>,
        entry: &EntryHead,
        name: &[u8],
        text: &mut Vec<u8>,
    ) -> bool {
        let mut found = false;
        self.each(reader, window, entry, &mut |window, place, fact| {
            if fact == EntryFact::Packed
                && let Some(mut field) = unpacked(reader, window, place)
                && field.starts_with(name)
            {
                field.drain(..name.len());
                *text = field;
                found = true;
            }
            !found
        });
        found
    }
}

/// The head of a field and the begin of its text, as far as it fits into `room`.
fn peek<'a>(
    reader: &JournalReader,
    window: &'a FileWindow<'_>,
    place: u64,
    room: &'a mut [u8; PEEK],
) -> Option<(Data, &'a [u8])> {
    let layout = reader.header().layout;
    if !place.is_multiple_of(8) {
        return None;
    }
    let bytes = match window.shown(place, PEEK) {
        Some(bytes) => bytes,
        None => {
            let n = reader.file().read_at(place, room);
            room.get(..n)?
        }
    };
    let data = Data::parse(bytes, layout)?;
    let text = bytes.get(data.head..)?;
    let len = usize::try_from(data.len).unwrap_or(usize::MAX);
    // One byte more than fits tells that it does not.
    let whole = len <= text.len() || place.checked_add(data.len)? <= reader.file().size();
    whole.then(|| (data, text.get(..len).unwrap_or(text)))
}

/// The text behind `=` of the field at `place`, as far as it fits into `out`; none without a place.
fn value<'a>(
    reader: &JournalReader,
    window: &FileWindow<'_>,
    place: u64,
    out: &'a mut [u8; NAME],
) -> &'a [u8] {
    let mut room = [0; PEEK];
    let Some((_, text)) = (if place == 0 { None } else { peek(reader, window, place, &mut room) }) else {
        return b"";
    };
    let value = text.iter().position(|&b| b == b'=').and_then(|at| text.get(at + 1..)).unwrap_or_default();
    let len = value.len().min(NAME);
    let Some(out) = out.get_mut(..len) else { return b"" };
    out.copy_from_slice(value.get(..len).unwrap_or_default());
    out
}

/// The text of the message at `place`.
fn message<'a>(
    reader: &JournalReader,
    window: &'a FileWindow<'_>,
    place: u64,
    room: &'a mut [u8],
    cut: &mut bool,
) -> Option<&'a [u8]> {
    let mut head = [0; PEEK];
    let (data, _) = peek(reader, window, place, &mut head)?;
    let at = place + data.head as u64 + MESSAGE.len() as u64;
    let len = data.len.checked_sub(MESSAGE.len() as u64)?;
    if let Some(short) = usize::try_from(len).ok().filter(|&len| len <= MAX_LINE) {
        // Not before it is known to be missing: the borrow would last.
        if window.shown(at, short).is_some() {
            return window.shown(at, short);
        }
        let room = room.get_mut(..short)?;
        return (reader.file().read_at(at, room) == short).then_some(room);
    }
    *cut = true;
    let (front, back) = room.get_mut(..MAX_LINE)?.split_at_mut_checked(HALF)?;
    let tail = at.checked_add(len)?.checked_sub(HALF as u64)?;
    let whole = reader.file().read_at(at, front) == HALF && reader.file().read_at(tail, back) == HALF;
    if whole { room.get(..MAX_LINE) } else { None }
}

/// Cuts the middle out of a text that is too long for a line.
fn shorten<'a>(text: &'a mut Vec<u8>, cut: &mut bool) -> &'a [u8] {
    if text.len() > MAX_LINE {
        text.drain(HALF..text.len() - HALF);
        *cut = true;
    }
    text
}

/// The text of the packed field at `place`.
fn unpacked(reader: &JournalReader, window: &FileWindow<'_>, place: u64) -> Option<Vec<u8>> {
    let mut room = [0; PEEK];
    let (data, _) = peek(reader, window, place, &mut room)?;
    let len = usize::try_from(data.len).ok().filter(|&len| len <= PACKED_MAX)?;
    let mut bytes = vec![0; len];
    let n = reader.file().read_at(place + data.head as u64, &mut bytes);
    if n == len { unpack(data.packed, &bytes) } else { None }
}

/// A number in decimal digits.
fn number(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}
