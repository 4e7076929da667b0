//! Any bytes as pattern and line: no panic, and the same answer as the `regex` crate where it knows the
//! pattern.

use mef::pattern::{CaptureGroup, Demand, MatchScratch, Pattern};
use regex::bytes::RegexBuilder;

/// A pattern with its length in front, and a line.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed =
        |pattern: &str, line: &str| [&[pattern.len() as u8], pattern.as_bytes(), line.as_bytes()].concat();
    vec![
        seed(
            r"^Failed \S+ for (?P<user>.*) from <HOST>( port \d+)?$",
            "Failed password for a b from 192.0.2.7 port 2",
        ),
        seed(r"(?i)(a|[^b-d]{2,3})+?\bx*$", "aXefx"),
        seed(r"^(?:\[\w+\] )?(?P<ip>[0-9a-f:.]+): (no|bad) \x41", "[x1] 2001:db8::7: bad A"),
    ]
}

/// What has to hold of any bytes.
pub fn run(data: &[u8]) {
    let Some((&len, data)) = data.split_first() else { return };
    let (text, line) = data.split_at(data.len().min(len.into()));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let _ = Pattern::new(text, Demand::Address);
    let Ok(ours) = Pattern::new(text, Demand::Nothing) else { return };
    let mut scratch = MatchScratch::for_patterns(std::iter::once(&ours));
    let got = ours.find(line, &mut scratch);
    if let Some(found) = &got {
        let _ = ours.other_readings(line, found, &mut scratch, &mut |ip| assert!(ip.end <= line.len()));
        let mut needles = ours.required().peekable();
        assert!(needles.peek().is_none() || needles.any(|n| line.windows(n.len()).any(|w| w == n)));
    }
    if means_something_else(text) {
        return;
    }
    let Ok(theirs) = RegexBuilder::new(text).unicode(false).build() else { return };
    let want = theirs.captures(line);
    assert_eq!(got.as_ref().map(|c| c.whole()), want.as_ref().and_then(|c| c.get(0)).map(|m| m.range()));
    for group in CaptureGroup::ALL {
        let want = want.as_ref().and_then(|c| c.name(group.name())).map(|m| m.range());
        assert_eq!(got.as_ref().and_then(|c| c.get(group)), want);
    }
}

/// Addresses, and what the `regex` crate has unlike other engines: `\<`, and in classes sets and operators,
/// and a leading `]` that begins no range.
fn means_something_else(text: &str) -> bool {
    let marks = ["<HOST>", "<ADDR>", r"\<", r"\>", r"\b{", "&&", "--", "~~", "[]-", "[^]-"];
    if marks.iter().any(|mark| text.contains(mark)) {
        return true;
    }
    let mut class = None;
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let escaped = (b == b'\\').then(|| bytes.next());
        match (b, class) {
            (b'[', Some(_)) => return true,
            (b'[', None) => class = Some(0),
            (b'^', Some(0)) => {}
            (b']', Some(n)) if n > 0 && escaped.is_none() => class = None,
            (_, Some(n)) => class = Some(n + 1),
            _ => {}
        }
    }
    false
}
