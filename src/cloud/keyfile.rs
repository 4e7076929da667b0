#![forbid(unsafe_code)]
//! Files with keys: who can read one can speak for its owner, so nobody else may.

use crate::dns::tsig::Key;
use crate::sys::fs::{self, Links, facts_of};
use crate::sys::random;
use std::path::Path;

/// Bytes of such a file at most.
const SIZE: u64 = 4096;

/// Reads a key: one line as [`Key::parse`] takes it, beside empty ones and comments.
///
/// # Errors
/// Why it cannot be used, for people.
pub fn read(path: &Path) -> Result<Key, String> {
    let shown = path.to_string_lossy();
    let failed = |why: &dyn std::fmt::Display| format!("{shown}: {why}");
    let file = fs::open_regular(path, Links::Follow).map_err(|e| failed(&e))?;
    let facts = facts_of(&file).map_err(|e| failed(&e))?;
    if facts.mode & 0o077 != 0 {
        return Err(failed(&"others can read this key: chmod 600 it"));
    }
    let text = fs::read(file, SIZE).map_err(|e| failed(&e))?;
    let text = str::from_utf8(&text).map_err(|_| failed(&"it is no text"))?;
    let mut lines =
        text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(line), None) => Key::parse(line).map_err(|why| failed(&why)),
        _ => Err(failed(&"expected one line: hmac-sha256:NAME:SECRET")),
    }
}

/// A secret that nobody can guess.
#[must_use]
pub fn secret() -> Vec<u8> {
    (0..2).flat_map(|_| random::key()).flat_map(u64::to_be_bytes).collect()
}
