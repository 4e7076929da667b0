//! The splitter against the obvious way, with hostile bytes in hostile pieces; and patterns for file names.

use mef::input::glob::Glob;
use mef::input::lines::{HALF, MAX_LINE, Splitter};
use std::path::Path;

/// Lines that fit, that do not, and patterns.
pub fn seeds() -> Vec<Vec<u8>> {
    let long = [&[0, 9][..], &[b'x'; 2 * MAX_LINE], b"\nshort\n"].concat();
    vec![long, b"\xff\xffone\ntwo\r\n\nthree".to_vec(), b"\0\x01/var/log/**/[a-z]*.{log,txt}".to_vec()]
}

/// What has to hold of any bytes: the first two say in what pieces the rest comes.
pub fn run(data: &[u8]) {
    let Some((piece, data)) = data.split_first_chunk() else { return };
    let piece = u16::from_be_bytes(*piece);
    let mut splitter = Splitter::new(usize::from(piece) + 1);
    let mut got = Vec::new();
    let mut rest = data;
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

    if let Ok(glob) = Glob::parse(data) {
        let _ = glob.judge(Path::new("/var/log/auth.log"));
    }
}
