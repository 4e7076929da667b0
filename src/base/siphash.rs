#![forbid(unsafe_code)]
//! SipHash-1-3 with a secret key: nobody outside can choose addresses that share a place in a table.

/// The hash of `bytes` under `key`.
#[must_use]
pub fn sip13(key: [u64; 2], bytes: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut blocks = bytes.chunks_exact(8);
    for block in &mut blocks {
        let word = little_endian(block);
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    let last = little_endian(blocks.remainder()) | ((bytes.len() as u64) << 56);
    v[3] ^= last;
    round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// Up to eight bytes as a number, lowest first.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte))
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hasher as _};

    /// The standard library's hasher is SipHash-1-3 with a key of zeros.
    #[test]
    fn agrees_with_the_standard_library() {
        let bytes: Vec<u8> = (0u8..64).map(|i| i.wrapping_mul(37)).collect();
        for len in 0..=bytes.len() {
            let mut std = DefaultHasher::new();
            std.write(&bytes[..len]);
            assert_eq!(sip13([0, 0], &bytes[..len]), std.finish(), "{len} bytes");
        }
    }

    #[test]
    fn both_halves_of_the_key_matter() {
        let plain = sip13([0, 0], b"192.0.2.1");
        assert_ne!(sip13([1, 0], b"192.0.2.1"), plain);
        assert_ne!(sip13([0, 1], b"192.0.2.1"), plain);
    }
}
