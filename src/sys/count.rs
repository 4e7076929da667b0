//! Counts newlines: most of the work that a quiet log makes. Knows nothing of lines.

/// How many newlines there are.
#[must_use]
pub fn newlines(text: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 has SSE2; std would not run without it.
    let count = unsafe { sixteen_at_once(text) };
    #[cfg(not(target_arch = "x86_64"))]
    let count = memchr::memchr_iter(b'\n', text).count();
    count
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn sixteen_at_once(text: &[u8]) -> usize {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_sad_epu8, _mm_set_epi64x, _mm_set1_epi8, _mm_setzero_si128,
        _mm_sub_epi8, _mm_unpackhi_epi64,
    };
    let half = |bytes: &[u8]| bytes.first_chunk().map_or(0, |half| i64::from_le_bytes(*half));
    let mut count = 0;
    let (chunks, rest) = text.as_chunks::<16>();
    // A byte of the sums holds 255 at most.
    for chunks in chunks.chunks(255) {
        let mut sums = _mm_setzero_si128();
        for chunk in chunks {
            let (low, high) = chunk.split_at(8);
            let bytes = _mm_set_epi64x(half(high), half(low));
            // All bits of what is equal are set: -1.
            sums = _mm_sub_epi8(sums, _mm_cmpeq_epi8(bytes, _mm_set1_epi8(10)));
        }
        let halves = _mm_sad_epu8(sums, _mm_setzero_si128());
        let sum = _mm_cvtsi128_si64(halves) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(halves, halves));
        count += usize::try_from(sum).unwrap_or(0);
    }
    count + memchr::memchr_iter(b'\n', rest).count()
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_newline_counts_once() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let most = if rng.u8(..8) == 0 { 20_000 } else { 80 };
            let range = if rng.bool() { 10..=10 } else { 8..=12 };
            let text: Vec<u8> = (0..rng.usize(..most)).map(|_| rng.u8(range.clone())).collect();
            let want = text.iter().filter(|b| **b == b'\n').count();
            assert_eq!(super::newlines(&text), want);
        }
    }
}
