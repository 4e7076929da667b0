#![forbid(unsafe_code)]
//! How many columns of a terminal a text takes. User names in logs are what attackers choose: one of wide
//! characters must not make two lines of one.

/// Characters below U+10000 that take two columns: those of Unicode 16 that are wide or full in width.
const WIDE: [[u16; 2]; 48] = [
    [0x1100, 0x115f],
    [0x231a, 0x231b],
    [0x2329, 0x232a],
    [0x23e9, 0x23ec],
    [0x23f0, 0x23f0],
    [0x23f3, 0x23f3],
    [0x25fd, 0x25fe],
    [0x2614, 0x2615],
    [0x2630, 0x2637],
    [0x2648, 0x2653],
    [0x267f, 0x267f],
    [0x268a, 0x268f],
    [0x2693, 0x2693],
    [0x26a1, 0x26a1],
    [0x26aa, 0x26ab],
    [0x26bd, 0x26be],
    [0x26c4, 0x26c5],
    [0x26ce, 0x26ce],
    [0x26d4, 0x26d4],
    [0x26ea, 0x26ea],
    [0x26f2, 0x26f3],
    [0x26f5, 0x26f5],
    [0x26fa, 0x26fa],
    [0x26fd, 0x26fd],
    [0x2705, 0x2705],
    [0x270a, 0x270b],
    [0x2728, 0x2728],
    [0x274c, 0x274c],
    [0x274e, 0x274e],
    [0x2753, 0x2755],
    [0x2757, 0x2757],
    [0x2795, 0x2797],
    [0x27b0, 0x27b0],
    [0x27bf, 0x27bf],
    [0x2b1b, 0x2b1c],
    [0x2b50, 0x2b50],
    [0x2b55, 0x2b55],
    [0x2e80, 0x3029],
    [0x302e, 0x303e],
    [0x3041, 0x3098],
    [0x309b, 0xa4cf],
    [0xa960, 0xa97c],
    [0xac00, 0xd7a3],
    [0xf900, 0xfaff],
    [0xfe10, 0xfe19],
    [0xfe30, 0xfe6f],
    [0xff01, 0xff60],
    [0xffe0, 0xffe6],
];

/// Marks that stand above or below the character before them, of the scripts where they are usual. One of
/// another script is counted as a column too many: its line is cut early, never late.
const MARKS: [[u16; 2]; 17] = [
    [0x0300, 0x036f],
    [0x0483, 0x0489],
    [0x0591, 0x05bd],
    [0x0610, 0x061a],
    [0x064b, 0x065f],
    [0x06d6, 0x06dc],
    [0x0e31, 0x0e31],
    [0x0e34, 0x0e3a],
    [0x0e47, 0x0e4e],
    [0x1ab0, 0x1ace],
    [0x1dc0, 0x1dff],
    [0x20d0, 0x20f0],
    [0x302a, 0x302d],
    [0x3099, 0x309a],
    // Of those that choose a form, the last one may make the character before it wide.
    [0xfe00, 0xfe0e],
    [0xfe20, 0xfe2f],
    [0xa66f, 0xa672],
];

/// Columns of a text.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(of).sum() }
}

/// The end of the part of a text that fits into so many columns.
#[must_use]
pub fn fitting(text: &str, columns: usize) -> usize {
    let mut used = 0;
    let ends = text.char_indices().find(|(_, c)| {
        used += of(*c);
        used > columns
    });
    ends.map_or(text.len(), |(at, _)| at)
}

/// Columns of a character.
#[must_use]
pub fn of(c: char) -> usize {
    let has = |ranges: &[[u16; 2]], code| ranges.iter().any(|[first, last]| (*first..=*last).contains(&code));
    match u32::from(c) {
        0..0x300 => 1,
        // Ideographs of rare use, and pictures with what stands between them.
        0x16fe0..=0x18dff | 0x1aff0..=0x1b2ff | 0x1d300..=0x1d376 | 0x20000..=0x3fffd => 2,
        0x1f004 | 0x1f0cf | 0x1f18e | 0x1f191..=0x1f19a | 0x1f1e6..=0x1f6ff | 0x1f7e0..=0x1f7f0 => 2,
        0x1f90c..=0x1f9ff | 0x1fa70..=0x1faff => 2,
        0xe0100..=0xe01ef => 0,
        code => match u16::try_from(code) {
            Ok(code) if has(&WIDE, code) => 2,
            Ok(code) if has(&MARKS, code) => 0,
            _ => 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_counted_and_not_characters() {
        for (text, want) in [
            ("", 0),
            ("root", 4),
            ("äöü", 3),
            ("漢字", 4),
            ("한국어", 6),
            ("ｆｕｌｌ", 8),
            ("ﾊﾝｶｸ", 4),
            ("e\u{301}a\u{308}", 2),
            ("が", 2),
            ("か\u{3099}", 2),
            ("😀🇩🇪", 6),
            ("❤\u{fe0f}", 2),
            ("𠀀", 2),
            ("▁█…↑", 4),
            ("ﬀ\u{fffd}", 2),
        ] {
            assert_eq!(width(text), want, "{text}");
        }
    }

    #[test]
    fn a_part_that_fits_ends_between_characters() {
        for (text, columns, want) in [
            ("abc", 2, "ab"),
            ("漢字", 4, "漢字"),
            ("漢字", 3, "漢"),
            ("漢字", 1, ""),
            ("e\u{301}e", 1, "e\u{301}"),
            ("", 0, ""),
        ] {
            assert_eq!(&text[..fitting(text, columns)], want, "{text} {columns}");
        }
    }
}
