//! Any bytes behind a header of sshd: only addresses that stand in the text are blamed, and lines are
//! numbered right.

use super::texts;
use mef::base::net::parse_addr;
use mef::detect::{DetectRule, Detector, Program};
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
    Detector::new(vec![DetectRule {
        name: "sshd".into(),
        programs: vec![Program::new("sshd")],
        headless: false,
        fail: values("failregex").iter().map(|p| (Pattern::new(p, Demand::Address).unwrap(), 1)).collect(),
        success: values("successregex")
            .iter()
            .map(|p| (Pattern::new(p, Demand::Address).unwrap(), 0))
            .collect(),
        ignore: values("ignoreregex").iter().map(|p| Pattern::new(p, Demand::Nothing).unwrap()).collect(),
        webscan: None,
    }])
}

/// What sshd writes, and what people make it write.
pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        "Failed password for invalid user admin from 192.0.2.7 port 4242 ssh2",
        "Failed password for root from 2001:db8::7 port 4242 ssh2\nConnection closed by 192.0.2.7 port 1",
        "Invalid user from 10.0.0.1 from 192.0.2.7 port 9",
        "Accepted publickey for bob from 192.0.2.7 port 4242 ssh2: ED25519 SHA256:x",
        "Invalid user from\x1b(B 192.0.2.7 port 9",
        "Invalid user a#033[1mb from 192.0.2.7 port 9",
    ])
}

/// How escape sequences begin; lines are looked at without those for colours.
const ESCAPES: [&[u8]; 2] = [b"\x1b", b"#033["];

fn has_escapes(line: &[u8]) -> bool {
    ESCAPES.iter().any(|begin| line.windows(begin.len()).any(|window| window == *begin))
}

/// Whether the bytes of one stand in the other, in their order.
fn is_part(one: &[u8], other: &[u8]) -> bool {
    let mut rest = other.iter();
    one.iter().all(|byte| rest.any(|b| b == byte))
}

/// What has to hold of any bytes.
pub fn run(text: &[u8]) {
    let block = [b"Nov 22 08:00:01 host sshd[7]: ", text].concat();
    DETECTOR.with_borrow_mut(|detector| {
        detector.block(1, &block, &mut |n, line, hit| {
            let whole = block.split(|&b| b == b'\n').nth(n).unwrap();
            assert!(whole == line || has_escapes(whole) && is_part(line, whole));
            let mut words = line.split(|b| !(b.is_ascii_hexdigit() || b":.".contains(b)));
            let is = |word: &[u8]| parse_addr(word) == Some(hit.addr);
            assert!(words.any(|w| is(w) || w.strip_suffix(b":").is_some_and(is)));
        });
    });
}
