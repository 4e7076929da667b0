//! Files that no journald would write, made by hand. What journald writes is read in tests/input/journal.rs.

mod lies;
mod places;

use super::format::{ENTRY_HEAD, FormatRefusal, ReadAt};
use super::reader::{FileWindow, JournalReader, JournalStep, WINDOW};
use super::unpack::unpack;
use super::*;
use crate::base::program::Program;
use format::Compression;
use std::cell::RefCell;
use std::rc::Rc;

/// A file in memory that a test may change while it is read.
#[derive(Clone)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl ReadAt for Shared {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> usize {
        let bytes = self.0.borrow();
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        n
    }

    fn size(&self) -> u64 {
        self.0.borrow().len() as u64
    }
}

/// A writer of journal files.
struct Maker {
    compact: bool,
    bytes: Vec<u8>,
    /// Where the entries are, and their array.
    entries: Vec<usize>,
    array: usize,
    /// Where the fields with the messages are.
    messages: Vec<usize>,
}

const BEGIN: usize = 256;
const ROOM: usize = 8;

impl Maker {
    fn new(compact: bool) -> Maker {
        let mut bytes = vec![0; BEGIN];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        bytes[12] = 4 | if compact { 16 } else { 0 };
        bytes[56..72].fill(7);
        bytes[72..88].fill(9);
        let mut maker = Maker { compact, bytes, entries: Vec::new(), array: 0, messages: Vec::new() };
        maker.put(88, BEGIN as u64);
        let width = if compact { 4 } else { 8 };
        maker.array = maker.object(6, 0, &vec![0; 8 + ROOM * width]);
        maker.put(176, maker.array as u64);
        maker
    }

    fn put(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Appends an object with this behind its head.
    fn object(&mut self, kind: u8, flags: u8, body: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([kind, flags, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend((16 + body.len() as u64).to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        at
    }

    fn field(&mut self, flags: u8, text: &[u8]) -> usize {
        let head = vec![0; if self.compact { 56 } else { 48 }];
        self.object(1, flags, &[&head, text].concat())
    }

    /// Appends an entry with these fields.
    fn entry(&mut self, fields: &[usize]) {
        let number = self.entries.len() as u64 + 1;
        let mut body = Vec::new();
        for word in [number, 1_000_000 * number, 500 * number] {
            body.extend(word.to_le_bytes());
        }
        body.extend([[7; 8], [7; 8], [0; 8]].concat());
        for &field in fields {
            body.extend(self.offset(field));
            if !self.compact {
                body.extend([0; 8]);
            }
        }
        let at = self.object(3, 0, &body);
        self.link(at);
    }

    fn offset(&self, at: usize) -> Vec<u8> {
        if self.compact {
            u32::try_from(at).unwrap().to_le_bytes().into()
        } else {
            (at as u64).to_le_bytes().into()
        }
    }

    /// Puts an object into the array of entries.
    fn link(&mut self, at: usize) {
        let offset = self.offset(at);
        let place = self.array + 24 + self.entries.len() * offset.len();
        self.bytes[place..place + offset.len()].copy_from_slice(&offset);
        self.entries.push(at);
        let count = self.entries.len() as u64;
        [(152, count), (160, count), (168, 1)].into_iter().for_each(|(at, value)| self.put(at, value));
        [(184, 1_000_000), (192, 1_000_000 * count)].into_iter().for_each(|(at, value)| self.put(at, value));
    }

    /// An entry of `app` with a message.
    fn say(&mut self, message: &str) {
        let program = self.field(0, b"SYSLOG_IDENTIFIER=app");
        let user = self.field(0, b"_UID=0");
        let message = self.field(0, &[b"MESSAGE=", message.as_bytes()].concat());
        self.messages.push(message);
        self.entry(&[program, user, message]);
    }

    /// So many entries, numbered.
    fn numbered(compact: bool, count: usize) -> Maker {
        let mut maker = Maker::new(compact);
        (0..count).for_each(|n| maker.say(&format!("message {n}")));
        maker
    }
}

fn wanted() -> Vec<WantedPrograms> {
    vec![WantedPrograms { programs: vec![Program::new("app")], tags: Tags(1) }]
}

/// The messages in a file, and what was passed over.
fn messages(bytes: &[u8]) -> Result<(Vec<String>, (u64, u64)), FormatRefusal> {
    let mut all = Vec::new();
    let file = Box::new(Shared(Rc::new(RefCell::new(bytes.to_vec()))));
    let passed = read_all(file, wanted(), &mut |_, item| {
        if let Item::Record(record) = item {
            all.push(String::from_utf8_lossy(record.message).into_owned());
        }
    })?;
    Ok((all, passed))
}

fn numbers(range: impl IntoIterator<Item = usize>) -> Vec<String> {
    range.into_iter().map(|n| format!("message {n}")).collect()
}

#[test]
fn what_a_test_writes_is_read() {
    for compact in [false, true] {
        let maker = Maker::numbered(compact, ROOM);
        assert_eq!(messages(&maker.bytes), Ok((numbers(0..ROOM), (0, 0))));
    }
}

#[test]
fn what_is_half_written_is_read_when_it_is_whole() {
    for compact in [false, true] {
        let whole = Maker::numbered(compact, 3);
        let file = Shared(Rc::new(RefCell::new(Vec::new())));
        assert_eq!(JournalReader::open(Box::new(file.clone())).err(), Some(FormatRefusal::NotYet));
        *file.0.borrow_mut() = whole.bytes.clone();
        // The newest entry, its place in the array, one of its fields: zeros until the writer comes to it.
        let (entry, message) = (whole.entries[2], whole.messages[2]);
        let place = whole.array + 24 + 2 * if compact { 4 } else { 8 };
        for range in [entry..entry + ENTRY_HEAD, place..place + 4, message..message + 80] {
            file.0.borrow_mut()[range.clone()].fill(0);
            let mut source = source(&file);
            let mut got = Vec::new();
            read(&mut source, &mut got);
            assert_eq!(got, numbers(0..2), "{range:?}");
            read(&mut source, &mut got);
            assert_eq!(got.len(), 2, "{range:?}");
            *file.0.borrow_mut() = whole.bytes.clone();
            read(&mut source, &mut got);
            assert_eq!(got, numbers(0..3), "{range:?}");
            assert_eq!(source.passed_over(), (0, 0));
        }
    }
}

/// A source that reads this file.
fn source(file: &Shared) -> JournalSource {
    let nowhere = || PathBuf::from("/nonexistent/mef");
    let mut journal = JournalSource::open([nowhere(), nowhere()], wanted(), &[], 0, Now::default());
    journal.rescan = false;
    let reader = JournalReader::open(Box::new(file.clone())).unwrap();
    let (path, id, sequence) = (nowhere(), FileId::default(), reader.header().sequence);
    let current = Current { reader, path, id, storage: Storage::Persistent, sequence, skip: 0, wd: None };
    journal.current = Some(current);
    journal
}

fn read(journal: &mut JournalSource, got: &mut Vec<String>) {
    let mut left = 1 << 20;
    let (mut buf, mut room) = ([0; WINDOW], [0; MAX_LINE]);
    let mut window = FileWindow::new(&mut buf);
    journal.grown(&mut window);
    let more = journal.read(&mut left, &mut window, &mut room, &mut |_, item| {
        if let Item::Record(record) = item {
            got.push(String::from_utf8_lossy(record.message).into_owned());
        }
    });
    assert!(!more);
}

#[test]
fn a_damaged_entry_that_others_follow_is_passed_over() {
    let mut maker = Maker::numbered(true, 3);
    maker.bytes[maker.entries[1]] = 0;
    maker.bytes[maker.messages[2]] = 0;
    let file = Shared(Rc::new(RefCell::new(maker.bytes.clone())));
    let (mut source, mut got) = (source(&file), Vec::new());
    read(&mut source, &mut got);
    assert_eq!((&got, source.passed_over()), (&numbers([0]), (1, 0)));
    maker.say("message 3");
    *file.0.borrow_mut() = maker.bytes;
    read(&mut source, &mut got);
    assert_eq!((&got, source.passed_over()), (&numbers([0, 3]), (2, 0)));
}

#[test]
fn seeking_finds_the_first_that_is_new() {
    for (compact, count) in [(false, 1), (true, 5), (true, ROOM)] {
        let maker = Maker::numbered(compact, count);
        for old in 0..=count as u64 {
            let file = Shared(Rc::new(RefCell::new(maker.bytes.clone())));
            let mut reader = JournalReader::open(Box::new(file)).unwrap();
            let mut buf = [0; WINDOW];
            let mut window = FileWindow::new(&mut buf);
            reader.seek(&mut window, &|e| e.seqnum <= old);
            let next = match reader.next(&mut window) {
                JournalStep::Entry(e) => e.seqnum,
                _ => count as u64 + 1,
            };
            assert_eq!(next, old + 1, "{count}");
        }
    }
}

#[test]
fn a_block_of_lz4_unpacks_to_what_was_packed_or_to_nothing() {
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..2000 {
        let (alphabet, bits) = (rng.u8(1..=255), rng.u32(0..14));
        let len = rng.usize(..1 << bits);
        let text: Vec<u8> = (0..len).map(|_| rng.u8(..alphabet)).collect();
        let block = lz4_flex::block::compress(&text);
        let packed = |len: u64| [&len.to_le_bytes()[..], &block].concat();
        assert_eq!(unpack(Compression::Lz4, &packed(text.len() as u64)), Some(text.clone()), "{round}");
        // A shorter length gives the begin, a longer one nothing.
        let part = rng.usize(..=text.len());
        assert_eq!(unpack(Compression::Lz4, &packed(part as u64)).as_deref(), Some(&text[..part]), "{round}");
        assert_eq!(unpack(Compression::Lz4, &packed(u64::MAX)), None);
        // Damage gives anything, of that length.
        let mut damaged = packed(text.len() as u64);
        let at = rng.usize(8..damaged.len());
        damaged[at] ^= rng.u8(1..);
        assert!(unpack(Compression::Lz4, &damaged).is_none_or(|t| t.len() == text.len()), "{round}");
        assert!(unpack(Compression::Lz4, &damaged[..at]).is_none_or(|t| t.len() == text.len()), "{round}");
    }
}

#[test]
fn a_bomb_of_zstd_stays_small() {
    // A window of 64 KiB, then blocks that each repeat one byte 64 Ki times.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x30];
    for _ in 0..1000 {
        bomb.extend([0x02, 0x00, 0x08, b'x']);
    }
    let text = unpack(Compression::Zstd, &bomb);
    assert!(text.is_some_and(|t| t.len() <= 256 * 1024 && t.iter().all(|&b| b == b'x')));
    // A window of a gigabyte is not even begun with.
    assert_eq!(unpack(Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xa0, 1, 0, 0]), None);
    for packed in [Compression::No, Compression::Other, Compression::Lz4, Compression::Zstd] {
        assert_eq!(unpack(packed, b""), None);
    }
}

#[test]
fn who_has_no_unit_is_placed_by_the_group() {
    let long = format!("_SYSTEMD_CGROUP=/docker/{}", "a".repeat(600));
    let other = format!("_CMDLINE={}", "a".repeat(600));
    let pack = |text: &str| {
        [&(text.len() as u64).to_le_bytes()[..], &lz4_flex::block::compress(text.as_bytes())].concat()
    };
    type JournalCase = (Vec<(u8, Vec<u8>)>, &'static str);
    let cases: [JournalCase; 7] = [
        (vec![], ""),
        (vec![(0, b"_SYSTEMD_CGROUP=/".to_vec())], ""),
        (vec![(0, b"_SYSTEMD_CGROUP=/docker/0123".to_vec())], "?"),
        (vec![(0, b"_SYSTEMD_CGROUP=/lxc/system.slice/ssh.service".to_vec())], "?"),
        (
            vec![(0, b"_SYSTEMD_CGROUP=/system.slice/a".to_vec()), (0, b"_SYSTEMD_UNIT=a.service".to_vec())],
            "a.service",
        ),
        (vec![(2, pack(&other)), (2, pack(&long))], "?"),
        (vec![(2, pack(&other))], ""),
    ];
    for (fields, want) in cases {
        for packed_message in [false, true] {
            let mut maker = Maker::new(true);
            let mut places = vec![maker.field(0, b"SYSLOG_IDENTIFIER=app"), maker.field(0, b"_UID=0")];
            places.push(match packed_message {
                true => maker.field(2, &pack(&format!("MESSAGE={}", "m".repeat(600)))),
                false => maker.field(0, b"MESSAGE=m"),
            });
            places.extend(fields.iter().map(|(flags, text)| maker.field(*flags, text)));
            maker.entry(&places);
            let (mut count, file) = (0, Box::new(Shared(Rc::new(RefCell::new(maker.bytes)))));
            let passed = read_all(file, wanted(), &mut |_, item| {
                let Item::Record(record) = item else { return };
                assert_eq!(record.sender.unwrap().unit, want.as_bytes(), "{fields:?}");
                assert!(record.message.starts_with(b"m") && !record.message.contains(&b'='), "{fields:?}");
                count += 1;
            });
            assert_eq!((passed, count), (Ok((0, 0)), 1), "{fields:?}");
        }
    }
}
