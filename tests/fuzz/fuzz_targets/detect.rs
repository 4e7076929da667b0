#![no_main]
//! Any bytes behind a header of sshd: only addresses that stand in the text are blamed, and lines are
//! numbered right.

use libfuzzer_sys::fuzz_target;
use mef::base::net::parse_addr;
use mef::detect::{Detector, Program, Rule};
use mef::pattern::{Demand, Pattern};
use std::cell::RefCell;

thread_local! {
    static DETECTOR: RefCell<Detector> = RefCell::new(detector());
}

/// The patterns of the rule that ships.
fn detector() -> Detector {
    let lines = include_str!("../../../rootfs/etc/mef/rules.d/sshd.conf").lines();
    let values = |key: &str| {
        let key = key.to_string();
        let pair = lines.clone().filter_map(|l| l.split_once('='));
        pair.filter(move |(k, _)| k.starts_with(&key)).map(|(_, v)| v).collect::<Vec<_>>()
    };
    Detector::new(vec![Rule {
        name: "sshd".into(),
        programs: vec![Program::new("sshd")],
        fail: values("failregex").iter().map(|p| (Pattern::new(p, Demand::Address).unwrap(), 1)).collect(),
        success: values("successregex")
            .iter()
            .map(|p| (Pattern::new(p, Demand::Address).unwrap(), 0))
            .collect(),
        ignore: values("ignoreregex").iter().map(|p| Pattern::new(p, Demand::Nothing).unwrap()).collect(),
        webscan: None,
    }])
}

fuzz_target!(|text: &[u8]| {
    let block = [b"Nov 22 08:00:01 host sshd[7]: ", text].concat();
    DETECTOR.with_borrow_mut(|detector| {
        detector.block(1, &block, &mut |n, line, hit| {
            assert_eq!(block.split(|&b| b == b'\n').nth(n), Some(line));
            let mut words = line.split(|b| !(b.is_ascii_hexdigit() || b":.".contains(b)));
            let is = |word: &[u8]| parse_addr(word) == Some(hit.addr);
            assert!(words.any(|w| is(w) || w.strip_suffix(b":").is_some_and(is)));
        });
    });
});
