//! The pattern engine against the `regex` crate and against a matcher that follows every path: random
//! patterns of the whole subset on random lines over small alphabets, on which matches are likely.
//!
//! `PATTERN_SEED` and `PATTERN_CASES` in the environment repeat a failure or make the run longer.

#![allow(clippy::unwrap_used, reason = "a test: to fail is its purpose")]

mod maker;

use maker::{Maker, Tree, write};
use mef::pattern::{CaptureGroup, Demand, MAX_READINGS, MatchScratch, Pattern};
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
    let mut scratch = MatchScratch::for_patterns(std::iter::empty());
    let (mut done, mut matches, mut groups) = (0, 0, 0);
    while done < cases {
        maker.names = vec!["user", "ip"];
        let mut text = String::new();
        write(&maker.tree(4), &mut text);
        let ours = match Pattern::new(&text, Demand::Nothing) {
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
            for (group, name) in [(CaptureGroup::Ip, "ip"), (CaptureGroup::User, "user")] {
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

/// Where the ip group stands on one path.
type Ip = Option<(usize, usize)>;

/// Follows every path through a pattern, in order of preference.
struct Walker<'a> {
    text: &'a [u8],
    classes: &'a mut Vec<(String, Regex)>,
    /// Steps left; below 0 the case is too large to be tested this way.
    left: i64,
}

impl Walker<'_> {
    fn is_in(&mut self, class: &str, fold: bool, byte: u8) -> bool {
        let name = format!("{}^{class}$", if fold { "(?i)" } else { "" });
        let at = self.classes.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
            self.classes.push((name.clone(), reference(&name)));
            self.classes.len() - 1
        });
        self.classes[at].1.is_match(&[byte])
    }

    fn walk(
        &mut self,
        tree: &Tree,
        at: usize,
        fold: bool,
        ip: Ip,
        then: &mut dyn FnMut(&mut Self, usize, Ip),
    ) {
        self.left -= 1;
        if self.left < 0 {
            return;
        }
        match tree {
            Tree::Empty => then(self, at, ip),
            Tree::Byte(b) => {
                let same = |x: &u8| if fold { x.eq_ignore_ascii_case(b) } else { x == b };
                if self.text.get(at).is_some_and(same) {
                    then(self, at + 1, ip);
                }
            }
            Tree::Class(class) => {
                if self.text.get(at).is_some_and(|&b| self.is_in(class, fold, b)) {
                    then(self, at + 1, ip);
                }
            }
            Tree::Look(look) => {
                let word = |i: Option<usize>| {
                    i.and_then(|i| self.text.get(i)).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
                };
                let boundary = word(at.checked_sub(1)) != word(Some(at));
                let holds = match *look {
                    "^" => at == 0,
                    "$" => at == self.text.len(),
                    r"\b" => boundary,
                    _ => !boundary,
                };
                if holds {
                    then(self, at, ip);
                }
            }
            Tree::Plain(t) => self.walk(t, at, fold, ip, then),
            Tree::Fold(t) => self.walk(t, at, true, ip, then),
            Tree::Named(_, t) => self.walk(t, at, fold, ip, &mut |w, end, _| then(w, end, Some((at, end)))),
            Tree::Cat(all) => self.sequence(all, at, fold, ip, then),
            Tree::Alt(all) => all.iter().for_each(|t| self.walk(t, at, fold, ip, then)),
            Tree::Repeat(t, min, max, greedy) => {
                let counts = (*min, max.unwrap_or(u32::MAX), *greedy);
                self.times(t, 0, counts, at, fold, ip, then);
            }
        }
    }

    fn sequence(
        &mut self,
        all: &[Tree],
        at: usize,
        fold: bool,
        ip: Ip,
        then: &mut dyn FnMut(&mut Self, usize, Ip),
    ) {
        match all.split_first() {
            None => then(self, at, ip),
            Some((first, rest)) => {
                self.walk(first, at, fold, ip, &mut |w, at, ip| w.sequence(rest, at, fold, ip, then));
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a test: what repeats, and the state of the walk")]
    fn times(
        &mut self,
        tree: &Tree,
        done: u32,
        (min, max, greedy): (u32, u32, bool),
        at: usize,
        fold: bool,
        ip: Ip,
        then: &mut dyn FnMut(&mut Self, usize, Ip),
    ) {
        if done >= min && !greedy {
            then(self, at, ip);
        }
        if done < max {
            self.walk(tree, at, fold, ip, &mut |w, at, ip| {
                w.times(tree, done + 1, (min, max, greedy), at, fold, ip, then);
            });
        }
        if done >= min && greedy {
            then(self, at, ip);
        }
    }
}

#[test]
fn shows_every_other_reading() {
    let seed = number("PATTERN_SEED", 0x6d65_6603);
    let cases = number("PATTERN_CASES", 200_000) / 10;
    let mut maker = Maker { rng: fastrand::Rng::with_seed(seed), names: vec![], full_loops: true };
    let mut scratch = MatchScratch::for_patterns(std::iter::empty());
    let mut classes = Vec::new();
    let (mut done, mut several, mut too_many) = (0, 0, 0);
    while done < cases {
        let ip = Tree::Named("ip", Box::new(maker.tree(2)));
        let tree = Tree::Cat(vec![maker.tree(3), ip, maker.tree(2)]);
        let mut text = String::new();
        write(&tree, &mut text);
        let ours = Pattern::new(&text, Demand::Address).unwrap();
        for _ in 0..6 {
            let line = maker.line();
            let mut spans: Vec<(usize, usize)> = Vec::new();
            let mut walker = Walker { text: &line, classes: &mut classes, left: 20_000 };
            for begin in 0..=line.len() {
                walker.walk(&tree, begin, false, None, &mut |_, _, ip| {
                    let span = ip.unwrap();
                    if spans.iter().all(|s| s.0 != span.0) {
                        spans.push(span);
                    }
                });
            }
            if walker.left < 0 {
                continue;
            }
            let mut got = Vec::new();
            let mut all = true;
            if let Some(found) = ours.find(&line, &mut scratch) {
                let ip = found.get(CaptureGroup::Ip).unwrap();
                got.push((ip.start, ip.end));
                all = ours.other_readings(&line, &found, &mut scratch, &mut |r| got.push((r.start, r.end)));
            }
            let show = || format!("{text:?} on b\"{}\", PATTERN_SEED={seed}", line.escape_ascii());
            let want = &spans[..spans.len().min(1 + MAX_READINGS)];
            assert_eq!((got.as_slice(), all), (want, want.len() == spans.len()), "{}", show());
            several += u64::from(spans.len() > 1);
            too_many += u64::from(!all);
            done += 1;
        }
    }
    assert!(several > cases / 20 && too_many > 0, "the cases do not test enough: {several}, {too_many}");
}
