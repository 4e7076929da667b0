//! The ban journal: any bytes are read without a panic, and records around any damage are found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mef::state::record::{Record, encode, scan};

fuzz_target!(|bytes: &[u8]| {
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
    encode(&Record::Clear, &mut followed);
    let mut found = false;
    scan(&followed, &mut |at, record| found |= at == start && record == Record::Clear);
    assert!(found, "a whole record behind other bytes is found");
});
