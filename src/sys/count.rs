//! Counts newlines: most of the work that a quiet log makes. Knows nothing of lines.

/// How many newlines there are.
#[must_use]
pub fn newlines(text: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 has SSE2; std would not run without it.
    let count = unsafe { many_at_once(text) };
    #[cfg(not(target_arch = "x86_64"))]
    let count = memchr::memchr_iter(b'\n', text).count();
    count
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn many_at_once(text: &[u8]) -> usize {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_sad_epu8, _mm_set_epi64x, _mm_set1_epi8, _mm_setzero_si128,
        _mm_sub_epi8, _mm_unpackhi_epi64,
    };
    let mut count = 0;
    let (eights, _) = text.as_chunks::<8>();
    let (chunks, _) = eights.as_chunks::<8>();
    // A byte of the sums holds 255 at most.
    for chunks in chunks.chunks(63) {
        let mut sums = _mm_setzero_si128();
        let newline = _mm_set1_epi8(10);
        for [a, b, c, d, e, f, g, h] in chunks {
            // All bits of what is equal are set: -1.
            let one = _mm_set_epi64x(i64::from_le_bytes(*b), i64::from_le_bytes(*a));
            sums = _mm_sub_epi8(sums, _mm_cmpeq_epi8(one, newline));
            let two = _mm_set_epi64x(i64::from_le_bytes(*d), i64::from_le_bytes(*c));
            sums = _mm_sub_epi8(sums, _mm_cmpeq_epi8(two, newline));
            let three = _mm_set_epi64x(i64::from_le_bytes(*f), i64::from_le_bytes(*e));
            sums = _mm_sub_epi8(sums, _mm_cmpeq_epi8(three, newline));
            let four = _mm_set_epi64x(i64::from_le_bytes(*h), i64::from_le_bytes(*g));
            sums = _mm_sub_epi8(sums, _mm_cmpeq_epi8(four, newline));
        }
        let halves = _mm_sad_epu8(sums, _mm_setzero_si128());
        let sum = _mm_cvtsi128_si64(halves) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(halves, halves));
        count += usize::try_from(sum).unwrap_or(0);
    }
    let rest = text.get(chunks.len() * 64..).unwrap_or_default();
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
