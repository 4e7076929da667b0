//! Journal files: any bytes are read to an end, and what is given keeps its bounds.

use mef::base::program::Program;
use mef::input::journal::{ReadAt, WantedPrograms, read_all};
use mef::input::lines::MAX_LINE;
use mef::input::{Item, Tags};

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> usize {
        let rest = usize::try_from(at).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        n
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

/// A file with one entry, as it stands and with a packed message.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = [&[0][..], &entry(0, b"MESSAGE=Failed password")].concat();
    let packed = [0x1a, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x0b].into_iter().chain(*b"MESSAGE=Failed password....");
    vec![whole, [1].into_iter().chain(packed.clone()).collect(), [3].into_iter().chain(packed).collect()]
}

/// What has to hold of any bytes.
pub fn run(bytes: &[u8]) {
    // Most bytes would fail at the header, and what is packed at its checks: the first byte says how much is
    // given.
    let Some((&how, rest)) = bytes.split_first() else { return };
    let file = if how & 1 == 0 { rest.to_vec() } else { entry(how, rest) };
    let entries = file.len() / 64;
    let wanted = vec![WantedPrograms { programs: vec![Program::new("a*")], tags: Tags(1) }];
    let mut count = 0;
    let _ = read_all(Box::new(Bytes(file)), wanted, &mut |tags, item| {
        let Item::Record(record) = item else { panic!("a line") };
        assert!(tags == Tags(1) && record.message.len() <= MAX_LINE && record.program.starts_with(b"a"));
        count += 1;
    });
    assert!(count <= entries);
}

/// A file with one entry whose message is packed, with these bytes as what is packed.
fn entry(how: u8, packed: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 256];
    file[..8].copy_from_slice(b"LPKSHHRH");
    file[12] = 31;
    let mut put = |at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    for (at, value) in [(88, 256), (152, 1), (160, 1), (168, 1), (176, 256)] {
        put(at, value);
    }
    let mut object = |kind: u8, flags: u8, body: &[u8]| {
        let at = file.len();
        file.extend([kind, flags, 0, 0, 0, 0, 0, 0]);
        file.extend((16 + body.len() as u64).to_le_bytes());
        file.extend(body);
        file.resize(file.len().next_multiple_of(8), 0);
        at as u32
    };
    // Behind the array of one offset, 32 bytes, comes the entry, 72 bytes, and then its fields.
    let entry = 256 + 32u32;
    let fields = entry + 72;
    object(6, 0, &[&[0; 8][..], &entry.to_le_bytes(), &[0; 4]].concat());
    let mut body = [[1, 0, 0, 0, 0, 0, 0, 0]; 6].concat();
    body.extend(fields.to_le_bytes());
    body.extend((fields + 96).to_le_bytes());
    object(3, 0, &body);
    let program = object(1, 0, &[&[0; 56][..], b"SYSLOG_IDENTIFIER=app"].concat());
    assert_eq!(program, fields);
    object(1, if how & 2 == 0 { 2 } else { 4 }, &[&[0; 56][..], packed].concat());
    file
}
