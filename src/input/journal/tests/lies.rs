//! Files that say what is not so. Reading must end, and give nothing that was not written.

use super::*;

const HUGE: [u64; 5] = [u64::MAX, 1 << 63, (1 << 63) - 8, i64::MAX as u64, 1 << 40];

#[test]
fn what_this_version_does_not_know_is_refused() {
    let mut file = Maker::numbered(true, 1).bytes;
    file[12] |= 64;
    assert_eq!(messages(&file), Err(FormatRefusal::Unknown(64)));
    file[12] = 31;
    assert!(messages(&file).is_ok());
    let cases: &[(&str, &[u8], FormatRefusal)] = &[
        ("nothing", b"", FormatRefusal::NotYet),
        ("zeros", &[0; 500], FormatRefusal::NotYet),
        ("the begin", &file[..100], FormatRefusal::NotYet),
        ("text", &[b'x'; 500], FormatRefusal::Foreign),
        ("little text", b"x", FormatRefusal::Foreign),
    ];
    for (name, bytes, want) in cases {
        assert_eq!(messages(bytes), Err(*want), "{name}");
    }
    file[88..96].copy_from_slice(&100u64.to_le_bytes());
    assert_eq!(messages(&file), Err(FormatRefusal::Foreign), "a header that is too short");
}

#[test]
fn lying_numbers_end_the_way_and_not_the_reader() {
    for compact in [false, true] {
        let maker = Maker::numbered(compact, 4);
        let (array, entry, message) = (maker.array, maker.entries[1], maker.messages[1]);
        // Where the lie stands, and how many of the four are given all the same at least.
        let places = [
            ("the number of entries", 152, 4),
            ("the place of the first array", 176, 0),
            ("the size of the array", array + 8, 0),
            ("the next array", array + 16, 4),
            ("the size of an entry", entry + 8, 3),
            ("the number of an entry", entry + 16, 3),
            ("the size of a field", message + 8, 3),
            ("the begin of objects", 88, 0),
            ("the newest number", 160, 4),
        ];
        for (name, at, least) in places {
            for huge in HUGE {
                let mut lie =
                    Maker { bytes: maker.bytes.clone(), entries: Vec::new(), messages: Vec::new(), ..maker };
                lie.put(at, huge);
                let got = messages(&lie.bytes).map(|(got, _)| got).unwrap_or_default();
                let wrong = got.iter().filter(|m| !numbers(0..4).contains(m)).count();
                assert!(wrong == 0 && got.len() >= least, "{name}, {huge:#x}: {got:?}");
            }
        }
    }
}

#[test]
fn circles_are_not_followed() {
    for compact in [false, true] {
        let width = if compact { 4 } else { 8 };
        let mut maker = Maker::numbered(compact, ROOM);
        maker.put(152, u64::MAX);
        // An array that is its own successor, and one that leads back.
        maker.put(maker.array + 16, maker.array as u64);
        assert_eq!(messages(&maker.bytes).map(|(got, _)| got), Ok(numbers(0..ROOM)));
        let second = maker.object(6, 0, &vec![0; 8 + ROOM * width]);
        maker.put(maker.array + 16, second as u64);
        maker.put(second + 16, maker.array as u64);
        // The same entry again and again in the second one.
        for n in 0..ROOM {
            let offset = maker.offset(maker.entries[0]);
            let at = second + 24 + n * width;
            maker.bytes[at..at + width].copy_from_slice(&offset);
        }
        assert_eq!(messages(&maker.bytes).map(|(got, _)| got), Ok(numbers(0..ROOM)));
        // Arrays without end, each with one place.
        let mut chain = Maker::numbered(compact, 1);
        let mut last = chain.array;
        for _ in 0..20_000 {
            let next = chain.object(6, 0, &[0; 16]);
            chain.put(last + 16, next as u64);
            let offset = chain.offset(chain.entries[0]);
            chain.bytes[next + 24..next + 24 + width].copy_from_slice(&offset);
            last = next;
        }
        chain.put(152, u64::MAX);
        chain.bytes[chain.array + 24..chain.array + 24 + ROOM * width].fill(1);
        assert!(messages(&chain.bytes).is_ok());
    }
}

#[test]
fn every_flipped_byte_is_survived() {
    for compact in [false, true] {
        let mut maker = Maker::numbered(compact, 3);
        // Something packed is among it.
        let text = b"MESSAGE=packed packed packed packed packed packed packed";
        let packed = [&(text.len() as u64).to_le_bytes()[..], &lz4_flex::block::compress(text)].concat();
        let program = maker.field(0, b"SYSLOG_IDENTIFIER=app");
        let message = maker.field(2, &packed);
        maker.entry(&[program, message]);
        let mut all = numbers(0..3);
        all.push("packed packed packed packed packed packed packed".into());
        assert_eq!(messages(&maker.bytes).unwrap().0, all);
        let head = if compact { 72 } else { 64 };
        let mut texts: Vec<_> = maker.messages.iter().map(|&at| at + head + 8..at + head + 17).collect();
        texts.push(message + head..message + head + packed.len());
        for at in 0..maker.bytes.len() {
            for flip in [1, 2, 8, 0x80, 0xff] {
                maker.bytes[at] ^= flip;
                let got = messages(&maker.bytes).map(|(got, _)| got).unwrap_or_default();
                maker.bytes[at] ^= flip;
                let own = texts.iter().any(|text| text.contains(&at));
                // A shorter text is the work of a size that was hit: not other bytes than were written.
                let foreign =
                    |m: &&String| !all.iter().any(|a| a.starts_with(*m) || m.starts_with(a.as_str()));
                assert!(own || !got.iter().any(|m| foreign(&m)), "byte {at} ^ {flip:#x}: {got:?}");
                assert!(got.len() <= all.len(), "byte {at} ^ {flip:#x}: {got:?}");
            }
        }
    }
}

#[test]
fn a_file_that_ends_anywhere_or_has_holes_is_survived() {
    let maker = Maker::numbered(true, 3);
    let all = numbers(0..3);
    for len in 0..maker.bytes.len() {
        let got = messages(&maker.bytes[..len]).map(|(got, _)| got).unwrap_or_default();
        assert!(got.iter().all(|m| all.contains(m)), "{len} bytes: {got:?}");
        let mut holed = maker.bytes.clone();
        holed[len..].fill(0);
        let got = messages(&holed).map(|(got, _)| got).unwrap_or_default();
        assert!(
            got.iter().all(|m| all
                .iter()
                .any(|a| a.as_str() == m.trim_end_matches('\0') || a.starts_with(m.trim_end_matches('\0')))),
            "{len}: {got:?}"
        );
    }
}
