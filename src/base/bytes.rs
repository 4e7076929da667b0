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

/// How often a byte is in a text. Eight at a time: in a program that is built for size, memchr's way takes
/// three times as long.
#[must_use]
pub fn count(text: &[u8], byte: u8) -> u32 {
    const ONES: u64 = u64::MAX / 255;
    const LOW: u64 = ONES * 0x7f;
    let (words, rest) = text.as_chunks::<8>();
    let mut sum = 0;
    // No byte of a sum overflows.
    for words in words.chunks(255) {
        let mut sums = 0u64;
        for word in words {
            let other = u64::from_ne_bytes(*word) ^ (ONES * u64::from(byte));
            let is_other = ((other & LOW) + LOW) | other;
            sums += !is_other >> 7 & ONES;
        }
        sum += sums.to_ne_bytes().into_iter().map(u32::from).sum::<u32>();
    }
    sum + rest.iter().map(|b| u32::from(*b == byte)).sum::<u32>()
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
    #[test]
    fn every_byte_is_counted_once() {
        let mut rng = fastrand::Rng::with_seed(26);
        for len in [0, 1, 7, 8, 9, 255 * 8, 255 * 8 + 7, 5000] {
            for alphabet in [2u8, 11, 255] {
                let text: Vec<u8> = (0..len).map(|_| rng.u8(..alphabet)).collect();
                for byte in [0, 1, 10, 127, 128, 254] {
                    let want = text.iter().filter(|b| **b == byte).count();
                    assert_eq!(super::count(&text, byte) as usize, want, "{len} {alphabet} {byte}");
                }
            }
        }
        assert_eq!(super::count(&[b'\n'; 5000], b'\n'), 5000);
    }
}
