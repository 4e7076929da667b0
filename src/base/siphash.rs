#![forbid(unsafe_code)]
//! SipHash-1-3 with a secret key: nobody outside can choose addresses that share a place in a table.

/// A hash being made.
#[derive(Clone, Copy)]
pub struct Sip {
    v: [u64; 4],
}

impl Sip {
    /// Begins a hash under `key`.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Sip {
        Sip {
            v: [
                key[0] ^ 0x736f_6d65_7073_6575,
                key[1] ^ 0x646f_7261_6e64_6f6d,
                key[0] ^ 0x6c79_6765_6e65_7261,
                key[1] ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    /// Takes in eight bytes, lowest first.
    #[must_use]
    pub fn word(mut self, word: u64) -> Sip {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
        self
    }

    /// Ends the hash: `rest` holds the up to seven bytes that make no whole word, `len` is how many bytes
    /// went in altogether.
    #[must_use]
    pub fn finish(self, rest: u64, len: usize) -> u64 {
        let mut sip = self.word(rest | ((len as u64) << 56));
        sip.v[2] ^= 0xff;
        sip.round();
        sip.round();
        sip.round();
        sip.v[0] ^ sip.v[1] ^ sip.v[2] ^ sip.v[3]
    }

    #[inline(always)]
    fn round(&mut self) {
        let [a, b, c, d] = &mut self.v;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*b);
        *a = a.wrapping_add(*d);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
    }
}

/// The hash of `bytes` under `key`.
#[must_use]
pub fn sip13(key: [u64; 2], bytes: &[u8]) -> u64 {
    hash(key, bytes, |byte| byte)
}

/// The same with ASCII capitals as small letters.
#[must_use]
pub fn sip13_folded(key: [u64; 2], bytes: &[u8]) -> u64 {
    hash(key, bytes, |byte| byte.to_ascii_lowercase())
}

fn hash(key: [u64; 2], bytes: &[u8], fold: fn(u8) -> u8) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(fold(byte)));
    let blocks = bytes.chunks_exact(8);
    let rest = number(blocks.remainder());
    blocks.fold(Sip::new(key), |sip, block| sip.word(number(block))).finish(rest, bytes.len())
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
    fn folded_only_letters_are_alike() {
        let folded = |text: &[u8]| sip13_folded([1, 2], text);
        assert_eq!(folded(b"Anna@Example.ORG"), sip13([1, 2], b"anna@example.org"));
        assert_ne!(folded(b"a[b"), folded(b"a{b"));
        assert_ne!(folded("\u{c4}".as_bytes()), folded("\u{e4}".as_bytes()));
    }

    #[test]
    fn both_halves_of_the_key_matter() {
        let plain = sip13([0, 0], b"192.0.2.1");
        assert_ne!(sip13([1, 0], b"192.0.2.1"), plain);
        assert_ne!(sip13([0, 1], b"192.0.2.1"), plain);
    }
}
