//! The ban journal: any bytes are read without a panic, and records around any damage are found.

use super::made;
use mef::base::clock::Wall;
use mef::state::record::{BanRecord, JournalRecord, encode, scan};

/// A ban, what ends it, and the same with damage between.
pub fn seeds() -> Vec<Vec<u8>> {
    let addr = "192.0.2.0/24".parse().unwrap();
    let ban = BanRecord {
        addr,
        scope: "tcp/22",
        rule: "sshd",
        reason: "3 hits",
        since: Wall(1_800_000_000),
        until: Some(Wall(1_800_003_600)),
        hits: 3,
        bans: 2,
        starts: &[0, 1, 2, 3],
        line: "Failed password for root from 192.0.2.7 port 22 ssh2",
    };
    let records = [JournalRecord::Ban(ban), JournalRecord::Unban(addr), JournalRecord::Carried];
    let whole = made(|out| records.iter().for_each(|record| encode(record, out)));
    vec![[&whole[..], b"damage\xb4\x6d", &whole].concat(), whole]
}

/// What has to hold of any bytes.
pub fn run(bytes: &[u8]) {
    let mut records = 0;
    let mut again = Vec::new();
    let damaged = scan(bytes, &mut |at, record| {
        assert!(at < bytes.len());
        records += 1;
        encode(&record, &mut again);
    });
    assert!(damaged <= bytes.len());
    let mut copies = 0;
    assert_eq!(scan(&again, &mut |_, _| copies += 1), 0, "what was read is written as it was read");
    assert_eq!(copies, records);

    // Whatever stands before it, a whole record is found.
    let mut followed = bytes.to_vec();
    let start = followed.len();
    encode(&JournalRecord::Clear, &mut followed);
    let mut found = false;
    scan(&followed, &mut |at, record| found |= at == start && record == JournalRecord::Clear);
    assert!(found, "a whole record behind other bytes is found");
}
