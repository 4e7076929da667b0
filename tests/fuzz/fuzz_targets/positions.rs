//! Read positions: any bytes are read without a panic, and only lines with a right checksum count.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mef::base::position::Position;
use mef::state::positions::parse;

fuzz_target!(|bytes: &[u8]| {
    let mut good = 0;
    let damaged = parse(bytes, &mut |path: &[u8], _: Position| {
        assert!(!path.is_empty() && path.len() <= 4096 && !path.contains(&0));
        good += 1;
    });
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').count() as u64;
    assert!(good + damaged <= lines && lines <= good + damaged + 1);
});
