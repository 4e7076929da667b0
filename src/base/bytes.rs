#![forbid(unsafe_code)]
//! Bytes in bytes, and paths as bytes. Knows no format.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Where `part` stands in `text` for the first time. For short parts: at worst the time is the product of
/// both lengths.
#[must_use]
pub fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    // memchr's search for parts of any length costs 4 kB, and pays in large texts only.
    let Some((first, rest)) = part.split_first() else { return Some(0) };
    memchr::memchr_iter(*first, text)
        .find(|at| text.get(at + 1..).is_some_and(|behind| behind.starts_with(rest)))
}

/// A path's bytes.
#[must_use]
pub fn of_path(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// The path that these bytes are.
#[must_use]
pub fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_of_several_is_found() {
        let cases: &[(&str, &str, Option<usize>)] = &[
            ("", "", Some(0)),
            ("a", "", Some(0)),
            ("", "a", None),
            ("aab", "ab", Some(1)),
            ("abab", "ab", Some(0)),
            ("xxab", "ab", Some(2)),
            ("xxa", "ab", None),
            ("ab", "abc", None),
        ];
        for (text, part, want) in cases {
            assert_eq!(super::find(text.as_bytes(), part.as_bytes()), *want, "{part} in {text}");
        }
    }
}
