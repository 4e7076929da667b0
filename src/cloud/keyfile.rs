#![forbid(unsafe_code)]
//! Files with keys: who can read one can speak for its owner, so nobody else may.

use crate::dns::tsig::Key;
use crate::sys::fs::{self, Links, facts_of};
use crate::sys::random;
use std::io;
use std::path::Path;

/// Bytes of such a file at most.
const SIZE: u64 = 4096;

/// Reads a key: one line as [`Key::parse`] takes it, beside empty ones and comments.
///
/// # Errors
/// Why it cannot be used, for people.
pub fn read(path: &Path) -> Result<Key, String> {
    match try_read(path) {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(why)) => Err(format!("{}: {why}", path.to_string_lossy())),
        Err(e) => Err(format!("{}: {e}", path.to_string_lossy())),
    }
}

fn try_read(path: &Path) -> io::Result<Result<Key, &'static str>> {
    let file = fs::open_regular(path, Links::Follow)?;
    if facts_of(&file)?.mode & 0o077 != 0 {
        return Ok(Err("others can read this key: chmod 600 it"));
    }
    let text = fs::read(file, SIZE)?;
    let Ok(text) = str::from_utf8(&text) else { return Ok(Err("it is not text")) };
    let mut lines =
        text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(match (lines.next(), lines.next()) {
        (Some(line), None) => Key::parse(line),
        _ => Err("expected one line: hmac-sha256:NAME:SECRET"),
    })
}

/// A secret that nobody can guess.
#[must_use]
pub fn secret() -> Vec<u8> {
    let mut secret = Vec::with_capacity(32);
    for word in [random::key(), random::key()].as_flattened() {
        secret.extend_from_slice(&word.to_be_bytes());
    }
    secret
}
