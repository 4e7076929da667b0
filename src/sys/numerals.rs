//! Text that is addresses of IPv4 and nothing else, one a line, as long lists are: looked through once,
//! sixteen bytes at a time. Knows nothing of lists.

use memchr::memchr_iter;

/// What a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numerals {
    /// How many lines end in it.
    pub newlines: usize,
    /// Whether it has nothing but digits, dots, slashes and newlines.
    pub is_plain: bool,
}

/// Two bytes that are sought near the beginning of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineBegin {
    /// How far behind the newline the first one is: 1 or 2.
    distance: usize,
    pair: [u8; 2],
}

impl LineBegin {
    /// For lines that begin like this: of three bytes and more the first is the one that says least.
    #[must_use]
    pub fn of(text: &[u8]) -> Option<LineBegin> {
        match *text {
            [_, a, b, ..] => Some(LineBegin { distance: 2, pair: [a, b] }),
            [a, b] => Some(LineBegin { distance: 1, pair: [a, b] }),
            _ => None,
        }
    }
}

/// Looks through a text. `each` gets where lines begin that may begin as sought, but for the first line:
/// every one that does, and some others.
pub fn look_through(text: &[u8], begin: LineBegin, each: &mut dyn FnMut(usize)) -> Numerals {
    #[cfg(target_arch = "x86_64")]
    let (seen, at) = many_at_once(text, begin, each);
    #[cfg(not(target_arch = "x86_64"))]
    let (seen, at) = (Numerals { newlines: 0, is_plain: true }, 0);
    let rest = text.get(at..).unwrap_or_default();
    let LineBegin { distance, pair } = begin;
    let mut newlines = seen.newlines;
    for end in memchr_iter(b'\n', rest) {
        newlines += 1;
        if rest.get(end + distance..).is_some_and(|rest| rest.starts_with(&pair)) {
            each(at + end + 1);
        }
    }
    Numerals { newlines, is_plain: seen.is_plain && is_plain(rest) }
}

/// Whether there is nothing but digits, dots, slashes and newlines. Eight bytes at a time, in one number.
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let (eights, rest) = text.as_chunks::<8>();
    let strange = eights.iter().fold(0, |strange, eight| {
        let all = u64::from_le_bytes(*eight);
        let low = all & !HIGH;
        // The high bit of each byte says what is true of it; no sum overflows into the next.
        let is_numeral = (low + ONES * (0x80 - 0x2e)) & !(low + ONES * (0x80 - 0x3a));
        let is_newline = !((low ^ (ONES * 0x0a)) + ONES * 0x7f);
        strange | all | !(is_numeral | is_newline)
    });
    strange & HIGH == 0 && rest.iter().all(|b| matches!(b, b'.'..=b'9' | b'\n'))
}

/// What was seen up to the first hit.
#[cfg(target_arch = "x86_64")]
struct Stretch {
    seen: Numerals,
    /// Where it ends.
    at: usize,
    /// A bit for each newline of the last sixteen bytes that has the pair behind it.
    hits: u32,
}

/// As `look_through`, up to where less is left than is looked at together; says where that is.
#[cfg(target_arch = "x86_64")]
fn many_at_once(text: &[u8], begin: LineBegin, each: &mut dyn FnMut(usize)) -> (Numerals, usize) {
    let (mut all, mut start) = (Numerals { newlines: 0, is_plain: true }, 0);
    while let Some(rest) = text.get(start..).filter(|rest| rest.len() >= WINDOW) {
        // SAFETY: every x86_64 has SSE2; std would not run without it.
        let Stretch { seen, at, mut hits } = unsafe { to_first_hit(rest, begin) };
        start += at;
        all.newlines += seen.newlines;
        all.is_plain &= seen.is_plain;
        while hits != 0 {
            each(start - STEP + hits.trailing_zeros() as usize + 1);
            hits &= hits - 1;
        }
    }
    (all, start)
}

/// Bytes that are looked at together.
#[cfg(target_arch = "x86_64")]
const STEP: usize = 16;
/// With those behind them.
#[cfg(target_arch = "x86_64")]
const WINDOW: usize = STEP + 3;

/// Looks at some hundred times sixteen bytes, or at fewer if one of them has a hit. It calls nothing, so that
/// all it works with stays in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline(never)]
fn to_first_hit(text: &[u8], begin: LineBegin) -> Stretch {
    use core::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_max_epu8,
        _mm_movemask_epi8, _mm_sad_epu8, _mm_set1_epi8, _mm_setzero_si128, _mm_sub_epi8, _mm_subs_epu8,
        _mm_unpackhi_epi64,
    };
    let load = |from: *const u8| -> __m128i {
        // SAFETY: `from` is the first to fourth byte of a window; sixteen bytes from there are within it.
        unsafe { _mm_loadu_si128(from.cast()) }
    };
    let [first, second] = begin.pair.map(|b| _mm_set1_epi8(b.cast_signed()));
    let (newline, lowest) = (_mm_set1_epi8(10), _mm_set1_epi8(0x2e));
    let distance = begin.distance.min(2);
    let (mut strange, mut sums, mut at, mut hits) = (_mm_setzero_si128(), _mm_setzero_si128(), 0, 0);
    // A byte of the sums holds 255 at most.
    for window in text.windows(WINDOW).step_by(STEP).take(255) {
        let bytes = load(window.as_ptr());
        // All bits of what is equal are set: -1.
        let ends = _mm_cmpeq_epi8(bytes, newline);
        sums = _mm_sub_epi8(sums, ends);
        // From a dot to the digit nine it is 11 at most, and more for all others; newlines become 0.
        strange = _mm_max_epu8(strange, _mm_subs_epu8(_mm_sub_epi8(bytes, lowest), ends));
        let behind = window.as_ptr().wrapping_add(distance);
        let like_first = _mm_cmpeq_epi8(load(behind), first);
        let like_second = _mm_cmpeq_epi8(load(behind.wrapping_add(1)), second);
        hits = _mm_movemask_epi8(_mm_and_si128(ends, _mm_and_si128(like_first, like_second)));
        at += STEP;
        if hits != 0 {
            break;
        }
    }
    let halves = _mm_sad_epu8(sums, _mm_setzero_si128());
    let sum = _mm_cvtsi128_si64(halves) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(halves, halves));
    let most = _mm_set1_epi8(0x39 - 0x2e);
    let is_plain = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(strange, most), most)) == 0xffff;
    Stretch {
        seen: Numerals { newlines: usize::try_from(sum).unwrap_or(0), is_plain },
        at,
        hits: hits.cast_unsigned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(text: &[u8], begin: &[u8]) -> (Numerals, Vec<usize>) {
        let is_plain = text.iter().all(|b| b.is_ascii_digit() || b"./\n".contains(b));
        let newlines = text.iter().filter(|b| **b == b'\n').count();
        let starts = (0..text.len()).filter(|at| text[*at] == b'\n').map(|at| at + 1);
        (Numerals { newlines, is_plain }, starts.filter(|at| text[*at..].starts_with(begin)).collect())
    }

    #[test]
    fn one_look_sees_what_three_do() {
        let mut rng = fastrand::Rng::with_seed(26);
        for _ in 0..3000 {
            let most = if rng.u8(..8) == 0 { 20_000 } else { 200 };
            let mut text: Vec<u8> =
                (0..rng.usize(..most)).map(|_| *rng.choice(b"1290./\n").unwrap()).collect();
            if rng.bool() && !text.is_empty() {
                let at = rng.usize(..text.len());
                text[at] = rng.u8(..);
            }
            for begin in [&b"1."[..], b"12.", b"129.", b"9.", b"\n\n", b"0.12"] {
                let (mut found, wanted) = (Vec::new(), naive(&text, begin));
                let seen = look_through(&text, LineBegin::of(begin).unwrap(), &mut |at| found.push(at));
                assert_eq!(seen, wanted.0);
                assert!(found.is_sorted_by(|a, b| a < b) && found.iter().all(|at| text[at - 1] == b'\n'));
                found.retain(|at| text[*at..].starts_with(begin));
                assert_eq!(found, wanted.1);
            }
        }
    }

    #[test]
    fn each_byte_alone_is_plain_or_not() {
        for byte in 0..=u8::MAX {
            let wanted = byte.is_ascii_digit() || b"./\n".contains(&byte);
            for len in [1, 8, 15, 200] {
                let mut text = vec![b'1'; len];
                text[len / 2] = byte;
                assert_eq!(is_plain(&text), wanted, "{byte}");
                let begin = LineBegin::of(b"1.").unwrap();
                assert_eq!(look_through(&text, begin, &mut |_| ()).is_plain, wanted, "{byte}");
            }
        }
        assert_eq!(LineBegin::of(b"1"), None);
    }
}
