//! The little of a service rule's file that these tests need. The real reader is `config::service`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use mef::detect::{DetectRule, Detector, Hit, MAX_RULES, Program, RuleBits};
use mef::pattern::{Demand, Pattern};
use std::net::IpAddr;

pub struct Conf {
    pub name: String,
    pub programs: Vec<String>,
    pub files: Vec<String>,
    /// Weight and text.
    pub fail: Vec<(u8, String)>,
    pub ignore: Vec<String>,
    pub success: Vec<String>,
    /// Of a rule with engine=webscan.
    pub webscan: Option<Box<mef::base::webscan::WebscanSettings>>,
    /// What the line must be a hit for, and the line.
    pub examples: Vec<(Option<IpAddr>, Vec<u8>)>,
    /// Whose success the line must be, and the line.
    pub successes: Vec<(IpAddr, Vec<u8>)>,
}

impl Conf {
    /// With what it counts in every mode: what is hostile in one is in another.
    pub fn read(name: &str) -> Conf {
        Conf::read_but(name, &[])
    }

    /// As a host has it that says nothing of modes.
    pub fn normal(name: &str) -> Conf {
        Conf::read_but(name, &["aggressive"])
    }

    fn read_but(name: &str, left_out: &[&str]) -> Conf {
        let path = format!("{}/rootfs/etc/mef/rules.d/{name}.conf", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let rule = mef::config::parse_service(name, text.as_bytes()).0.unwrap();
        let webscan = (rule.engine == mef::config::Engine::Webscan).then(|| Box::new(rule.webscan));
        let mut conf = Conf {
            name: name.into(),
            programs: vec![],
            files: vec![],
            fail: vec![],
            ignore: vec![],
            success: vec![],
            webscan,
            examples: vec![],
            successes: vec![],
        };
        for line in text.lines() {
            let marked = line.strip_prefix("#+[").and_then(|line| line.split_once("] "));
            if let Some(example) = line.strip_prefix("#+ ").or(marked.map(|(_, example)| example)) {
                let (addr, line) = example.split_once(' ').unwrap();
                conf.examples.push((Some(addr.parse().unwrap()), unescape(line)));
            } else if let Some(example) = line.strip_prefix("#= ") {
                let (addr, line) = example.split_once(' ').unwrap();
                conf.successes.push((addr.parse().unwrap(), unescape(line)));
            } else if let Some(line) = line.strip_prefix("#- ") {
                conf.examples.push((None, unescape(line)));
            } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                assert!(!value.contains(" #") && !value.contains(" ;"), "would be a comment: {line}");
                assert_eq!(value.trim(), value, "{line}");
                let (key, weight) = key.split_once('@').unwrap_or((key, "1"));
                let (key, mode) = key.split_once('[').unwrap_or((key, ""));
                match (key, weight) {
                    ("failregex", _) if left_out.contains(&mode.trim_end_matches(']')) => {}
                    ("failregex", weight) => conf.fail.push((weight.parse().unwrap(), value.into())),
                    ("successregex", _) => conf.success.push(value.into()),
                    ("ignoreregex", _) => conf.ignore.push(value.into()),
                    ("files", _) => conf.files = value.split(',').map(Into::into).collect(),
                    ("programs", _) => conf.programs = value.split(',').map(Into::into).collect(),
                    _ => {}
                }
            }
        }
        assert!(!conf.fail.is_empty() || conf.webscan.is_some(), "{path}");
        conf
    }

    /// Every rule that ships and looks at single lines, by name.
    pub fn all() -> Vec<Conf> {
        let dir = format!("{}/rootfs/etc/mef/rules.d", env!("CARGO_MANIFEST_DIR"));
        let names = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path());
        let mut names: Vec<_> =
            names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names.retain(|name| {
            !std::fs::read_to_string(format!("{dir}/{name}.conf")).unwrap().contains("\nengine=")
        });
        names.iter().map(|name| Conf::read(name)).collect()
    }

    pub fn detector(&self) -> Detector {
        self.build(|_| true)
    }

    /// With the `n`th failregex alone.
    pub fn only(&self, n: usize) -> Detector {
        self.build(|i| i == n)
    }

    /// With the `n`th successregex alone.
    pub fn only_success(&self, n: usize) -> Detector {
        let mut rule = self.rule(|_| true);
        rule.success = vec![rule.success.swap_remove(n)];
        Detector::new(vec![rule])
    }

    fn build(&self, take: impl Fn(usize) -> bool) -> Detector {
        Detector::new(vec![self.rule(take)])
    }

    /// The rule, with those failregex whose numbers `take` accepts.
    pub fn rule(&self, take: impl Fn(usize) -> bool) -> DetectRule {
        let pattern =
            |text: &str, needs| Pattern::new(text, needs).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let fail = self.fail.iter().enumerate().filter(|&(n, _)| take(n));
        DetectRule {
            name: self.name.as_str().into(),
            headless: false,
            programs: self.programs.iter().map(|p| Program::new(p)).collect(),
            fail: fail.map(|(_, (weight, text))| (pattern(text, Demand::Address), *weight)).collect(),
            ignore: self.ignore.iter().map(|text| pattern(text, Demand::Nothing)).collect(),
            success: self.success.iter().map(|text| (pattern(text, Demand::Address), 0)).collect(),
            webscan: self.webscan.clone(),
        }
    }
}

/// Any number of rules, in as many detectors as that takes. Sets of rules have bits by their numbers here.
pub struct Detectors(Vec<Detector>);

impl Detectors {
    pub fn new(rules: Vec<DetectRule>) -> Detectors {
        Detectors(rules.chunks(MAX_RULES).map(|some| Detector::new(some.to_vec())).collect())
    }

    fn each(&mut self, wanted: u128, judge: &mut dyn FnMut(&mut Detector, RuleBits, u16)) {
        for (n, detector) in self.0.iter_mut().enumerate() {
            let bits = wanted.checked_shr(u32::try_from(n * MAX_RULES).unwrap()).unwrap_or(0);
            judge(detector, bits, u16::try_from(n * MAX_RULES).unwrap());
        }
    }

    pub fn block(&mut self, wanted: u128, block: &[u8], each: &mut dyn FnMut(usize, &[u8], Hit)) {
        self.each(wanted, &mut |detector, bits, first| {
            detector.block(bits, block, &mut |at, line, hit| {
                each(at, line, Hit { rule: first + hit.rule, ..hit });
            });
        });
    }

    pub fn record(
        &mut self,
        wanted: u128,
        program: &[u8],
        pid: Option<u32>,
        text: &[u8],
        each: &mut dyn FnMut(Hit),
    ) {
        self.each(wanted, &mut |detector, bits, first| {
            detector.record(bits, program, pid, text, &mut |hit| {
                each(Hit { rule: first + hit.rule, ..hit });
            });
        });
    }

    pub fn hits(&mut self, block: &[u8]) -> Vec<Hit> {
        let mut found = Vec::new();
        self.block(u128::MAX, block, &mut |_, _, hit| found.push(hit));
        found.retain(|hit| !hit.success);
        found
    }
}

/// `\xHH` is a byte and `\\` a backslash; there is no other escape.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            out.push(b'\\');
            out.extend_from_slice(parts.next().unwrap().as_bytes());
        } else {
            let hex = part.strip_prefix('x').and_then(|p| p.get(..2)).unwrap_or_else(|| panic!("{text}"));
            out.push(u8::from_str_radix(hex, 16).unwrap());
            out.extend_from_slice(&part.as_bytes()[3..]);
        }
    }
    out
}

/// The hits in one block.
pub fn hits(detector: &mut Detector, block: &[u8]) -> Vec<Hit> {
    let mut found = Vec::new();
    detector.block(RuleBits::MAX, block, &mut |_, _, hit| found.push(hit));
    found.retain(|hit| !hit.success);
    found
}

/// Who has logged in, according to one block.
pub fn successes(detector: &mut Detector, block: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    detector.block(RuleBits::MAX, block, &mut |_, _, hit| found.extend(hit.success.then_some(hit.addr)));
    found
}
