//! Counts newlines: most of the work that a quiet log makes. Knows nothing of lines.

/// What was seen in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenBytes {
    /// How many newlines there are.
    pub newlines: usize,
    /// Whether the other byte is there, too.
    pub has_other: bool,
}

/// How many newlines there are.
#[must_use]
pub fn newlines(text: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 has SSE2; std would not run without it.
    let count = unsafe { many::newlines(text) };
    #[cfg(not(target_arch = "x86_64"))]
    let count = memchr::memchr_iter(b'\n', text).count();
    count
}

/// How many newlines there are, and whether `other` is among the bytes.
#[must_use]
pub fn newlines_and(other: u8, text: &[u8]) -> SeenBytes {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 has SSE2; std would not run without it.
    let seen = unsafe { many::newlines_and(other, text) };
    #[cfg(not(target_arch = "x86_64"))]
    let seen = one_by_one(other, text);
    seen
}

fn one_by_one(other: u8, text: &[u8]) -> SeenBytes {
    let newlines = memchr::memchr_iter(b'\n', text).count();
    SeenBytes { newlines, has_other: memchr::memchr(other, text).is_some() }
}

/// Sixteen bytes at a time.
#[cfg(target_arch = "x86_64")]
mod many {
    use super::{SeenBytes, one_by_one};
    use core::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_sad_epu8, _mm_set1_epi8, _mm_setzero_si128, _mm_sub_epi8, _mm_unpackhi_epi64,
    };

    /// Four times sixteen bytes.
    type Chunk = [[u8; 16]; 4];
    /// Chunks after which sums are taken: a byte of a sum holds 255 at most.
    const CHUNKS: usize = 63;

    #[target_feature(enable = "sse2")]
    pub(super) fn newlines(text: &[u8]) -> usize {
        let mut newlines = 0;
        let (chunks, rest) = chunks(text);
        for chunks in chunks.chunks(CHUNKS) {
            let mut sums = _mm_setzero_si128();
            for [a, b, c, d] in chunks {
                sums = counted(counted(counted(counted(sums, load(a)), load(b)), load(c)), load(d));
            }
            newlines += sum(sums);
        }
        newlines + memchr::memchr_iter(b'\n', rest).count()
    }

    #[target_feature(enable = "sse2")]
    pub(super) fn newlines_and(other: u8, text: &[u8]) -> SeenBytes {
        let mut newlines = 0;
        let (chunks, rest) = chunks(text);
        let mut others = _mm_setzero_si128();
        let wanted = _mm_set1_epi8(i8::from_le_bytes([other]));
        for chunks in chunks.chunks(CHUNKS) {
            let mut sums = _mm_setzero_si128();
            for [a, b, c, d] in chunks {
                let [a, b, c, d] = [load(a), load(b), load(c), load(d)];
                sums = counted(counted(counted(counted(sums, a), b), c), d);
                let two = _mm_or_si128(_mm_cmpeq_epi8(a, wanted), _mm_cmpeq_epi8(b, wanted));
                let two_more = _mm_or_si128(_mm_cmpeq_epi8(c, wanted), _mm_cmpeq_epi8(d, wanted));
                others = _mm_or_si128(others, _mm_or_si128(two, two_more));
            }
            newlines += sum(sums);
        }
        let rest = one_by_one(other, rest);
        let has_other = _mm_movemask_epi8(others) != 0 || rest.has_other;
        SeenBytes { newlines: newlines + rest.newlines, has_other }
    }

    fn chunks(text: &[u8]) -> (&[Chunk], &[u8]) {
        let (sixteens, _) = text.as_chunks::<16>();
        let (chunks, _) = sixteens.as_chunks::<4>();
        (chunks, text.get(size_of_val(chunks)..).unwrap_or_default())
    }

    /// Sums, and in each byte of them one more where there is a newline.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn counted(sums: __m128i, part: __m128i) -> __m128i {
        // All bits of what is equal are set: -1.
        _mm_sub_epi8(sums, _mm_cmpeq_epi8(part, _mm_set1_epi8(10)))
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn sum(sums: __m128i) -> usize {
        let halves = _mm_sad_epu8(sums, _mm_setzero_si128());
        let sum = _mm_cvtsi128_si64(halves) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(halves, halves));
        usize::try_from(sum).unwrap_or(0)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn load(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: the sixteen bytes that are read are there; they may stand anywhere.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{SeenBytes, newlines_and};

    #[test]
    fn each_newline_counts_once() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let most = if rng.u8(..8) == 0 { 20_000 } else { 80 };
            let range = if rng.bool() { 10..=10 } else { 8..=12 };
            let mut text: Vec<u8> = (0..rng.usize(..most)).map(|_| rng.u8(range.clone())).collect();
            if !text.is_empty() && rng.bool() {
                let at = rng.usize(..text.len());
                text[at] = 27;
            }
            let newlines = text.iter().filter(|b| **b == b'\n').count();
            let want = SeenBytes { newlines, has_other: text.contains(&27) };
            assert_eq!(newlines_and(27, &text), want);
            assert_eq!(super::newlines(&text), newlines);
        }
    }
}
