//! Read positions: any bytes are read without a panic, and only lines with a right checksum count.

use super::texts;
use mef::base::position::Position;
use mef::state::positions::parse;

/// A line whose checksum is right would need its code: lines that look like one.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&["mef positions 1\n00000000 64769 131 4096 0123456789abcdef /var/log/auth.log\nx\n", "\n\n"])
}

/// What has to hold of any bytes.
pub fn run(bytes: &[u8]) {
    let mut good = 0;
    let damaged = parse(bytes, &mut |path: &[u8], _: Position| {
        assert!(!path.is_empty() && path.len() <= 4096 && !path.contains(&0));
        good += 1;
    });
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').count() as u64;
    assert!(good + damaged <= lines && lines <= good + damaged + 1);
}
