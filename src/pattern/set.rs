#![forbid(unsafe_code)]
//! Sets of bytes: what one step of a pattern accepts. Knows nothing of patterns.

/// A set of byte values as a bitmap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSet([u32; 8]);

impl ByteSet {
    /// No byte.
    pub(super) const EMPTY: ByteSet = ByteSet([0; 8]);

    /// This set and all bytes from `lo` to `hi`, both included.
    pub(super) const fn with(self, lo: u8, hi: u8) -> ByteSet {
        let mut bits = self.0;
        let mut b = lo as usize;
        while b <= hi as usize {
            bits[b >> 5] |= 1 << (b & 31);
            b += 1;
        }
        ByteSet(bits)
    }

    /// All bytes that are not in this set.
    pub(super) const fn not(self) -> ByteSet {
        let [a, b, c, d, e, f, g, h] = self.0;
        ByteSet([!a, !b, !c, !d, !e, !f, !g, !h])
    }

    /// The bytes of either set.
    pub(super) fn or(self, other: ByteSet) -> ByteSet {
        ByteSet(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// This set, and of each ASCII letter in it the other case too.
    pub(super) fn folded(self) -> ByteSet {
        (b'a'..=b'z').fold(self, |set, low| {
            let up = low.to_ascii_uppercase();
            if self.has(low) || self.has(up) { set.with(low, low).with(up, up) } else { set }
        })
    }

    /// Whether no byte is in both sets.
    pub(super) fn disjoint(&self, other: &ByteSet) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & b == 0)
    }

    /// Whether few bytes are in it, as where words may begin.
    pub(super) fn is_small(&self) -> bool {
        self.count() < 64
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Its bytes, if they are no more than `most`; otherwise none.
    pub(super) fn few(&self, most: usize) -> impl Iterator<Item = u8> {
        let all = usize::try_from(self.count()).is_ok_and(|count| count <= most);
        (0..=u8::MAX).filter(move |&b| all && self.has(b))
    }

    /// Whether no byte is in it.
    pub(super) fn is_empty(&self) -> bool {
        *self == ByteSet::EMPTY
    }

    /// Whether `b` is in it.
    #[inline(always)]
    pub(super) fn has(&self, b: u8) -> bool {
        self.0[usize::from(b >> 5)] >> (b & 31) & 1 != 0
    }
}

/// `\d`.
pub(super) const DIGIT: ByteSet = ByteSet::EMPTY.with(b'0', b'9');
/// `\w`.
pub(super) const WORD: ByteSet = DIGIT.with(b'A', b'Z').with(b'a', b'z').with(b'_', b'_');
/// `\s`.
pub(super) const SPACE: ByteSet = ByteSet::EMPTY.with(b'\t', b'\r').with(b' ', b' ');
/// `.`: all but the newline.
pub(super) const ANY: ByteSet = ByteSet::EMPTY.with(b'\n', b'\n').not();

/// What the rules that ship are made of: sets that every program may use without carrying them. `ANY` comes
/// first; those of `OUTSIDE` follow.
pub(super) static COMMON: [ByteSet; 39] = [
    ANY,
    DIGIT,
    WORD,
    SPACE,
    DIGIT.not(),
    WORD.not(),
    SPACE.not(),
    ByteSet::EMPTY.with(b' ', b' '),
    of(b" ").not(),
    of(b"\"").not(),
    of(b"]").not(),
    of(b"\"\\").not(),
    of(b"<>").not(),
    of(b"()").not(),
    of(b" \"").not(),
    UPPER,
    LOWER,
    UPPER.with(b'a', b'z'),
    LOWER.with(b'_', b'_'),
    LOWER.with(b' ', b' '),
    DIGIT.with(b':', b':'),
    DIGIT.with(b'-', b'-'),
    DIGIT.with(b'.', b'.'),
    DIGIT.with(b':', b':').with(b'.', b'.'),
    DIGIT.with(b':', b':').with(b',', b','),
    DIGIT
        .with(b' ', b' ')
        .with(b'.', b'.')
        .with(b'+', b'+')
        .with(b'[', b'[')
        .with(b']', b']')
        .with(b'-', b'-'),
    WORD.with(b'.', b'.'),
    WORD.with(b'-', b'-'),
    WORD.with(b'-', b'.'),
    DIGIT.with(b'A', b'F').with(b'a', b'f').with(b'.', b'.').with(b':', b':'),
    of(b"+-"),
    of(b"18"),
    of(b"?# "),
    of(b" \"-").not(),
    of(b" \"?").not(),
    of(b" \"/").not(),
    of(b" \"?/").not(),
    of(b" ()[]").not(),
    of(b" <>").not(),
];

/// Of those at the same place in `COMMON`: the bytes that are not in it, if they are few enough to be looked
/// for at once.
pub(super) const OUTSIDE: [&[u8]; 15] =
    [b"\n", b"", b"", b"", b"", b"", b"", b"", b" ", b"\"", b"]", b"\"\\", b"<>", b"()", b" \""];

const UPPER: ByteSet = ByteSet::EMPTY.with(b'A', b'Z');
const LOWER: ByteSet = ByteSet::EMPTY.with(b'a', b'z');

/// These bytes.
const fn of(bytes: &[u8]) -> ByteSet {
    let (mut set, mut at) = (ByteSet::EMPTY, 0);
    while at < bytes.len() {
        set = set.with(bytes[at], bytes[at]);
        at += 1;
    }
    set
}

/// Whether `b` is a letter, a digit or `_`, for `\b`.
pub(super) fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}
