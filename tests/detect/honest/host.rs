//! The way of a line to a verdict, with shipped rules and their limits, but without a daemon; and logs with
//! their times.

use mef::base::clock::Mono;
use mef::base::net::offender;
use mef::config::parse_service;
use mef::detect::tracker::{Attempt, Tracker};
use mef::detect::webscan::Webscan;
use mef::detect::{Detector, Hit, RuleBits};
use std::collections::BTreeMap;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const KEY: [u64; 2] = [0x6d65_6601, 0x686f_6e65_7374];

/// The daemon's way from a line to a verdict, with shipped rules and their limits.
pub struct Host {
    detector: Detector,
    tracker: Tracker,
    webscan: Webscan,
    names: Vec<String>,
}

/// When a line was written, in seconds, and the line.
pub type Line = (u64, String);
pub type Lines = Vec<Line>;

/// Who was banned first by which rule, at which line (from 1) of his own.
pub type Bans = BTreeMap<String, (String, usize)>;

impl Host {
    pub fn new(rules: &[&str]) -> Host {
        let (mut compiled, mut limits) = (Vec::new(), Vec::new());
        for name in rules {
            let text = std::fs::read(format!("{ROOT}/rootfs/etc/mef/rules.d/{name}.conf")).unwrap();
            let (rule, problems) = parse_service(name, &text);
            let rule = rule.unwrap_or_else(|| panic!("{name}: {problems:?}"));
            let own = mef::services::compile(&rule).unwrap();
            limits.push(mef::services::limits(&rule, &own));
            compiled.push(own);
        }
        Host {
            webscan: Webscan::new(&compiled, KEY),
            detector: Detector::new(compiled),
            tracker: Tracker::new(4096, &limits, KEY),
            names: rules.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// Reads lines with their times, in seconds. Whose line it is says the last word of `who`.
    pub fn read(&mut self, lines: &[Line], peer: impl Fn(&str) -> String) -> Bans {
        let (mut bans, mut own) = (Bans::new(), BTreeMap::<String, usize>::new());
        for (secs, line) in lines {
            *own.entry(peer(line)).or_default() += 1;
            let Host { detector, tracker, webscan, names } = self;
            let now = Mono((secs + 100_000) * 1000);
            detector.block(RuleBits::MAX, line.as_bytes(), &mut |_, text, hit: Hit| {
                let addr = offender(hit.addr, 64);
                let mut too_much = false;
                if hit.success {
                    if let Some(name) = hit.name(text) {
                        tracker.success(hit.rule, addr, name);
                    }
                } else if let Some(request) = &hit.request {
                    let excess = webscan.request(now, hit.rule, addr, text, request);
                    too_much = excess.is_some_and(|excess| !excess.detect);
                } else {
                    let attempt = Attempt { weight: hit.weight, name: hit.name(text), way: hit.way };
                    too_much = tracker.attempt(now, hit.rule, addr, &attempt).is_some();
                }
                if too_much {
                    let at = own.get(&hit.addr.to_string()).copied().unwrap_or(0);
                    let rule = names[usize::from(hit.rule)].clone();
                    bans.entry(hit.addr.to_string()).or_insert((rule, at));
                }
            });
        }
        bans
    }
}

/// The address in a line: the first word that is one.
pub fn sender(line: &str) -> String {
    let mut words = line.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    let found = words.find(|word| word.matches('.').count() == 3 && word.parse::<std::net::IpAddr>().is_ok());
    found.unwrap_or("").to_owned()
}

/// Seconds since midnight, from the only `HH:MM:SS` that a header or a stamp holds; a day more whenever it
/// goes back.
pub fn timed(text: &str) -> Lines {
    let (mut day, mut last) = (0, 0);
    let time = |line: &str| -> Option<u64> {
        let bytes = line.as_bytes();
        let at = (0..bytes.len().saturating_sub(7))
            .find(|&i| bytes[i + 2] == b':' && bytes[i + 5] == b':' && bytes[i].is_ascii_digit())?;
        let two = |from: usize| line.get(from..from + 2)?.parse::<u64>().ok();
        Some(two(at)? * 3600 + two(at + 3)? * 60 + two(at + 6)?)
    };
    text.lines()
        .map(|line| {
            let secs = time(line).unwrap_or(last);
            if secs + 3600 < last {
                day += 86_400;
            }
            last = secs;
            (day + secs, format!("{line}\n"))
        })
        .collect()
}
