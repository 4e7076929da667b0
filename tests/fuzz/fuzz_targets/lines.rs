#![no_main]
//! The splitter against the obvious way, with hostile bytes in hostile pieces; and patterns for file names.

use libfuzzer_sys::fuzz_target;
use mef::input::glob::Glob;
use mef::input::lines::{HALF, MAX_LINE, Splitter};
use std::path::Path;

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (piece, data) = input;
    let mut splitter = Splitter::new(usize::from(piece) + 1);
    let mut got = Vec::new();
    let mut rest = data.as_slice();
    while !rest.is_empty() {
        let space = splitter.space();
        let n = space.len().min(rest.len()).min(usize::from(piece) + 1);
        space[..n].copy_from_slice(&rest[..n]);
        splitter.filled(n, &mut |b| got.extend_from_slice(b));
        rest = &rest[n..];
    }
    splitter.finish(&mut |b| got.extend_from_slice(b));

    let mut want = Vec::new();
    for line in data.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() > MAX_LINE {
            want.extend_from_slice(&line[..HALF]);
            want.extend_from_slice(&line[line.len() - HALF..]);
        } else {
            want.extend_from_slice(line);
        }
        want.push(b'\n');
    }
    assert_eq!(got, want);

    if let Ok(glob) = Glob::parse(&data) {
        let _ = glob.judge(Path::new("/var/log/auth.log"));
    }
});
