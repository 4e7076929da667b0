//! The pattern engine against the `regex` crate and against a matcher that follows every path: random patterns of
//! the whole subset on random lines over small alphabets, on which matches are likely.
//!
//! `PATTERN_SEED` and `PATTERN_CASES` in the environment repeat a failure or make the run longer.

#[path = "pattern/maker.rs"]
mod maker;

use maker::{Maker, write};
use mef::pattern::{Group, Pattern, Scratch};
use regex::bytes::{Regex, RegexBuilder};

fn reference(pattern: &str) -> Regex {
    RegexBuilder::new(pattern).unicode(false).build().unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn finds_what_the_regex_crate_finds() {
    let seed = number("PATTERN_SEED", 0x6d65_6601);
    let cases = number("PATTERN_CASES", 200_000);
    let mut maker = Maker { rng: fastrand::Rng::with_seed(seed), names: vec![], full_loops: false };
    let mut scratch = Scratch::for_patterns(std::iter::empty());
    let (mut done, mut matches, mut groups) = (0, 0, 0);
    while done < cases {
        maker.names = vec!["user", "ip"];
        let mut text = String::new();
        write(&maker.tree(4), &mut text);
        let ours = match Pattern::new(&text, false) {
            Ok(ours) => ours,
            Err(e) => panic!("{text:?}: {e:?}"),
        };
        let theirs = reference(&text);
        for _ in 0..12 {
            let line = maker.line();
            let got = ours.find(&line, &mut scratch);
            let want = theirs.captures(&line);
            let show =
                || format!("{text:?} on {:?} (b\"{}\"), PATTERN_SEED={seed}", line, line.escape_ascii());
            let whole = want.as_ref().and_then(|c| c.get(0)).map(|m| m.range());
            assert_eq!(got.as_ref().map(|c| c.whole()), whole, "{}", show());
            for (group, name) in [(Group::Ip, "ip"), (Group::User, "user")] {
                let want = want.as_ref().and_then(|c| c.name(name)).map(|m| m.range());
                groups += u64::from(want.is_some());
                assert_eq!(got.as_ref().and_then(|c| c.get(group)), want, "{name}: {}", show());
            }
            if whole.is_some() {
                matches += 1;
                let mut needles = ours.required().peekable();
                let none = needles.peek().is_none();
                assert!(
                    none || needles.any(|n| line.windows(n.len()).any(|w| w == n)),
                    "required: {}",
                    show()
                );
            }
            done += 1;
        }
    }
    assert!(matches > cases / 4 && groups > cases / 20, "the cases do not test enough: {matches}, {groups}");
}
