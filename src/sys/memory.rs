#![forbid(unsafe_code)]
//! How much memory the machine has to give. Knows nothing of what for.

use super::fs;
use std::path::Path;

/// Bytes that can be had without anything being thrown out that is in use; `None` where the kernel does not
/// tell.
#[must_use]
pub fn available() -> Option<u64> {
    read("MemAvailable:")
}

/// Bytes of the kernel's own small objects that it cannot give back.
#[must_use]
pub fn objects() -> Option<u64> {
    read("SUnreclaim:")
}

fn read(name: &str) -> Option<u64> {
    value(&fs::content(Path::new("/proc/meminfo")).ok()?, name)
}

fn value(meminfo: &[u8], name: &str) -> Option<u64> {
    let text = std::str::from_utf8(meminfo).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_where_it_is_told() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"MemTotal:  9 kB\nMemFree: 1 kB\nMemAvailable:     2048 kB\n", Some(2 << 20)),
            (b"MemTotal:  9 kB\nMemFree: 1 kB\n", None),
            (b"MemAvailable: x kB\n", None),
            (b"MemAvailable: 5\n", None),
            (b"MemAvailable: 18446744073709551615 kB\n", None),
            (b"\xff", None),
        ];
        for (text, want) in cases {
            assert_eq!(value(text, "MemAvailable:"), *want);
        }
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        assert!(objects().is_some_and(|bytes| bytes > 1 << 16));
    }
}
