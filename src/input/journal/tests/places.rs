//! Where to go on.

use super::super::format::{EntryHead, FileHeader};
use super::super::place::{JournalPosition, Storage};

const PLACE: JournalPosition = JournalPosition {
    storage: Storage::Persistent,
    sequence: [1, 1],
    seqnum: 100,
    realtime: 5_000,
    boot: [2, 2],
    monotonic: 700,
    same: 2,
};

#[test]
fn what_is_new_is_told_by_number_then_boot_then_clock() {
    let entry = |seqnum, boot, monotonic, realtime| EntryHead {
        seqnum,
        boot: [boot, boot],
        monotonic,
        realtime,
        ..EntryHead::default()
    };
    let cases = [
        ("next number, though the clock went back", true, entry(101, 2, 701, 10), false),
        ("the same number", true, entry(100, 2, 700, 5_000), true),
        ("an old number, though the clock says later", true, entry(99, 2, 699, 9_000), true),
        ("a copy of an earlier one under a later number", false, entry(400, 2, 699, 4_999), true),
        ("of the same microsecond: to be counted", false, entry(401, 2, 700, 5_000), false),
        ("later in that boot, though the clock went back", false, entry(1, 2, 701, 10), false),
        ("another boot, earlier", false, entry(1, 3, 9_999, 5_000), true),
        ("another boot, later", false, entry(1, 3, 1, 5_001), false),
    ];
    for (name, continues, entry, covered) in cases {
        assert_eq!(PLACE.covers(continues, &entry), covered, "{name}");
    }
}

#[test]
fn a_file_with_something_new_is_noticed() {
    let header = |sequence, last, boot, last_mono, last_time| FileHeader {
        sequence: [sequence, sequence],
        last,
        boot: [boot, boot],
        last_mono,
        last_time,
        entries: 1,
        ..FileHeader::default()
    };
    let cases = [
        ("more of the sequence", Storage::Persistent, header(1, 101, 2, 0, 0), true),
        ("no more of the sequence", Storage::Persistent, header(1, 100, 2, 900, 9_000), false),
        ("another sequence, later in the boot", Storage::Persistent, header(3, 1, 2, 701, 10), true),
        ("another sequence, later by the clock", Storage::Persistent, header(3, 1, 4, 1, 5_001), true),
        ("another sequence, earlier", Storage::Persistent, header(3, 900, 4, 1, 5_000), false),
        ("the same below /run: other numbers", Storage::Volatile, header(1, 900, 2, 700, 5_000), false),
    ];
    for (name, storage, header, new) in cases {
        assert_eq!(PLACE.precedes(storage, &header), new, "{name}");
    }
    let empty = FileHeader { entries: 0, last_time: 9_000, ..FileHeader::default() };
    assert!(!PLACE.precedes(Storage::Persistent, &empty), "a file without entries");
}

#[test]
fn a_place_survives_being_saved() {
    for place in
        [PLACE, JournalPosition { storage: Storage::Volatile, same: 0, ..PLACE }, JournalPosition::since(77)]
    {
        let mut saved = vec![("/var/log/auth.log".into(), crate::base::position::Position::default())];
        assert_eq!(JournalPosition::find(&saved), None);
        place.save(&mut |path, position| saved.push((path.to_owned(), position)));
        assert_eq!(JournalPosition::find(&saved), Some(place));
    }
    let mut place = JournalPosition::since(0);
    let entry = EntryHead { seqnum: 5, monotonic: 9, boot: [1, 1], realtime: 3, ..EntryHead::default() };
    place.pass(Storage::Persistent, [4, 4], &entry);
    place.pass(Storage::Persistent, [4, 4], &entry);
    assert_eq!((place.seqnum, place.same, place.sequence), (5, 2, [4, 4]));
    place.pass(Storage::Persistent, [4, 4], &EntryHead { monotonic: 10, ..entry });
    assert_eq!(place.same, 1);
}
