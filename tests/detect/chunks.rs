//! The search over blocks loses nothing: whatever the chunks in which a log is read, its hits are those of
//! the same lines, judged one by one by patterns that no literal was looked for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::conf::Conf;
use mef::detect::{Detector, Hit, MAX_RULES, RuleBits};
use mef::input::lines::{HALF, MAX_LINE, Splitter};

/// Matches nothing and needs no literal: as one more alternative it leaves a pattern without literals.
const NEVER: &str = r"\b\B<HOST>";

/// The rules that ship, and the same with patterns that need no literal.
fn detectors(confs: &[Conf]) -> (Detector, Detector) {
    let open = |conf: &Conf| {
        let open = |text: &String| format!("(?:{text}|{NEVER})");
        let fail = conf.fail.iter().map(|(weight, text)| (*weight, open(text))).collect();
        let ignore = conf.ignore.iter().map(open).collect();
        let (name, programs) = (conf.name.clone(), conf.programs.clone());
        let success = conf.success.iter().map(open).collect();
        let webscan = conf.webscan.clone();
        let (files, examples, successes) = (vec![], vec![], vec![]);
        Conf { name, programs, files, fail, ignore, success, webscan, examples, successes }
    };
    let rules = confs.iter().map(|conf| conf.rule(|_| true)).collect();
    let plain: Vec<_> = confs.iter().map(|conf| open(conf).rule(|_| true)).collect();
    for rule in &plain {
        assert!(
            rule.patterns().all(|p| p.required().next().is_none()),
            "{}: literals are looked for",
            rule.name
        );
    }
    (Detector::new(rules), Detector::new(plain))
}

/// A line of one of the examples, as it is or damaged.
fn line(rng: &mut fastrand::Rng, examples: &[&[u8]]) -> Vec<u8> {
    let mut line = rng.choice(examples).unwrap().to_vec();
    let at = rng.usize(..=line.len());
    match rng.u8(..24) {
        0 => line.truncate(at),
        1 => line.drain(..at).for_each(drop),
        2 => line.insert(at, 0),
        3 => line.insert(at, rng.u8(..)),
        4 => line.extend_from_slice(rng.choice(examples).unwrap()),
        5 => line.splice(at..at, rng.choice(examples).unwrap().iter().copied()).for_each(drop),
        6 => line.clear(),
        // As long as a line may be, give or take a few bytes.
        7 if rng.u8(..8) == 0 => {
            let long = MAX_LINE.saturating_sub(line.len()) + rng.usize(..40);
            line.splice(at..at, std::iter::repeat_n(b'x', long)).for_each(drop);
        }
        _ => {}
    }
    line
}

#[test]
fn chunks_lose_no_hit() {
    Conf::all().chunks(MAX_RULES).for_each(of_blocks);
}

fn of_blocks(confs: &[Conf]) {
    let (mut whole, mut plain) = detectors(confs);
    let successes = confs.iter().flat_map(|c| &c.successes).map(|e| e.1.as_slice());
    let examples = confs.iter().flat_map(|c| &c.examples).map(|e| e.1.as_slice());
    let examples: Vec<&[u8]> = examples.chain(successes).collect();
    let seed = 0x6d65_6608;
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut by_rule, mut long) = (vec![0; confs.len()], 0);
    // Something of each rule, as it is, again and again: chance might leave one out.
    let hit = |conf: &Conf| Some(conf.examples.iter().find(|e| e.0.is_some())?.1.clone());
    let each_rules: Vec<_> = confs.iter().filter_map(hit).collect();
    let mut each_rules = each_rules.iter().cycle();
    for round in 0..20 {
        let mut text = Vec::new();
        for _ in 0..rng.usize(1..200) {
            if rng.u8(..8) == 0 {
                text.extend_from_slice(each_rules.next().unwrap());
                text.push(b'\n');
            }
            text.extend(line(&mut rng, &examples));
            text.extend_from_slice(rng.choice([&b"\n"[..], b"\n", b"\n", b"\r\n", b"\n\n"]).unwrap());
        }
        if rng.bool() {
            let end = text.iter().rposition(|&b| b != b'\n' && b != b'\r').map_or(0, |at| at + 1);
            text.truncate(end);
        }

        let mut want: Vec<(u64, Vec<u8>, Hit)> = Vec::new();
        let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|&b| b == b'\n');
        for (number, line) in (0..).zip(lines) {
            let mut line = line.to_vec();
            if line.len() > MAX_LINE {
                long += 1;
                line.drain(HALF..line.len() - HALF);
            }
            plain.block(RuleBits::MAX, &line, &mut |_, line, hit| want.push((number, line.to_vec(), hit)));
        }
        want.iter().for_each(|(_, _, hit)| by_rule[usize::from(hit.rule)] += 1);

        let mut found: Vec<(u64, Vec<u8>, Hit)> = Vec::new();
        let start = whole.counts().lines;
        let mut each = |block: &[u8]| {
            let before = whole.counts().lines - start;
            whole.block(RuleBits::MAX, block, &mut |at, line, hit| {
                let number = block[..at].iter().filter(|&&b| b == b'\n').count();
                found.push((before + number as u64, line.to_vec(), hit));
            });
        };
        let mut splitter = Splitter::new(rng.usize(1..70_000));
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let space = splitter.space();
            let n = rng.usize(1..=space.len().min(rest.len()));
            space[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            splitter.filled(n, &mut each);
        }
        splitter.finish(&mut each);
        assert!(found == want, "seed {seed:#x}, round {round}: {}", difference(&found, &want));
    }
    assert!(long > 3, "{long} long lines");
    let never: Vec<_> = confs.iter().zip(&by_rule).filter(|(_, n)| **n == 0).map(|(c, _)| &c.name).collect();
    assert!(never.is_empty(), "no hits: {never:?}");
}

#[test]
fn records_lose_no_hit() {
    let hits: usize = Conf::all().chunks(MAX_RULES).map(of_records).sum();
    assert!(hits > 50, "{hits} hits");
}

fn of_records(confs: &[Conf]) -> usize {
    let (mut whole, mut plain) = detectors(confs);
    let mut hits = 0;
    for conf in confs.iter().filter(|conf| !conf.programs.is_empty()) {
        for (_, line) in &conf.examples {
            let Some(header) = mef::detect::header::parse(line) else { continue };
            let judge = |detector: &mut Detector| {
                let mut found = Vec::new();
                detector.record(RuleBits::MAX, header.program, header.pid, header.message, &mut |h| {
                    found.push(h)
                });
                found
            };
            let want = judge(&mut plain);
            hits += want.len();
            assert_eq!(judge(&mut whole), want, "{}: {}", conf.name, line.escape_ascii());
        }
    }
    hits
}

/// The first hit in which two lists differ.
fn difference(found: &[(u64, Vec<u8>, Hit)], want: &[(u64, Vec<u8>, Hit)]) -> String {
    let at = found.iter().zip(want).take_while(|(a, b)| a == b).count();
    let shown = |all: &[(u64, Vec<u8>, Hit)]| {
        all.get(at).map_or("nothing".into(), |(n, line, hit)| {
            format!("{hit:?} in line {n}: {}", line.escape_ascii())
        })
    };
    format!("found {}\nwant {}", shown(found), shown(want))
}
