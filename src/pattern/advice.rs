#![forbid(unsafe_code)]
//! What patterns of other tools may hold and ours may not: its name, and what to write instead.

use super::parse::Place;

/// Names the construct behind `(?` and says what to do.
pub(super) fn unsupported(rest: &[u8]) -> (&'static str, &'static str) {
    const EXCLUDE: &str = "exclude lines by ignoreregex, or write what may be there";
    match rest {
        [b'=', ..] => ("look-ahead is not supported", "write what follows as part of the pattern"),
        [b'!', ..] => ("negative look-ahead is not supported", EXCLUDE),
        [b'<', b'=', ..] => ("look-behind is not supported", "write what precedes as part of the pattern"),
        [b'<', b'!', ..] => ("negative look-behind is not supported", EXCLUDE),
        [b'>', ..] => ("atomic groups are not supported", "write (?: ): matching takes linear time anyway"),
        [b'(', ..] => ("conditional groups are not supported", "write the alternatives out: (?:a|b)"),
        [b'|', ..] => ("branch reset groups are not supported", "names may occur in several alternatives"),
        [b'#', ..] => ("comments are not supported", "put the comment on a line of its own"),
        [b'P', b'=', ..] => ("back references are not supported", "write the second text as a pattern too"),
        [b'P', b'>', ..] | [b'R' | b'&' | b'0'..=b'9', ..] => {
            ("recursion is not supported", "write the pattern out")
        }
        [b'm', ..] => ("the flag m is not supported", "^ and $ are the ends of the line already"),
        [b'x', ..] => ("the flag x is not supported", "write the pattern without spaces and comments"),
        [b'u', ..] => ("Unicode matching is not supported", "patterns match bytes"),
        [b'U', ..] => ("the flag U is not supported", "write the lazy repeats as *? and +?"),
        _ => ("unknown kind of group", "known are ( ), (?: ), (?i), (?i: ), (?s) and (?P<name> )"),
    }
}

/// Names the escape `\b` and says what to do.
pub(super) fn unknown_escape(b: u8, place: Place) -> (String, &'static str) {
    let what = |text: &str| text.to_string();
    match b {
        b'1'..=b'9' | b'k' | b'g' => {
            (what("back references are not supported"), "write the second text as a pattern too")
        }
        b'p' | b'P' | b'X' => (what("Unicode classes are not supported"), "write \\w, \\d, \\s or [^ ]"),
        b'A' | b'z' | b'Z' if place == Place::Class => {
            (what("an end of the line is not a byte"), "it belongs before the [")
        }
        b'0' => (what("\\0 is not supported"), "write \\x00"),
        b'b' | b'B' if place == Place::Class => {
            (what("\\b has no meaning in a class"), "a backspace is \\x08")
        }
        b'K' => (what("\\K is not supported"), "name the part you need: (?P<ip> )"),
        b'h' => (what("\\h is not supported"), "write [ \\t]"),
        b'Q' | b'E' => (what("\\Q and \\E are not supported"), "escape each byte: \\."),
        b if b.is_ascii_graphic() => (
            format!("unknown escape \\{}", char::from(b)),
            "known are \\d \\w \\s \\D \\W \\S \\b \\B \\t \\n \\r \\xHH",
        ),
        _ => (what("unknown escape"), "only punctuation needs a \\ before it"),
    }
}
