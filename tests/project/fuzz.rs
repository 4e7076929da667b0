//! The bodies of the fuzz targets, so that they compile and hold: each on its seeds and on some thousand
//! mutations of them, the same ones every time. `FUZZ_SEED` and `FUZZ_CASES` in the environment make others,
//! or more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::fuzz::bodies::{ALL, Body};
use fastrand::Rng;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Bytes of an input at most.
const LENGTH: usize = 8192;
/// Numbers at which things begin or end.
const EDGES: [u8; 12] = [0, 1, 3, 4, 12, 16, 0x7f, 0x80, 0xbf, 0xc0, 0xfe, 0xff];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A part of some bytes.
fn piece(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let from = rng.usize(..=bytes.len());
    bytes[from..rng.usize(from..=bytes.len().min(from + 64))].to_vec()
}

/// Changes one thing.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let at = rng.usize(..=bytes.len());
    let to = rng.usize(at..=bytes.len().min(at + 32));
    match rng.u8(..9) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..to)),
        2 => drop(bytes.splice(at..at, [rng.u8(..)])),
        3 => {
            let other = rng.usize(..others.len());
            bytes.splice(at..to, piece(rng, &others[other]));
        }
        4 => {
            let own = piece(rng, bytes);
            bytes.splice(at..at, own);
        }
        5 => drop(bytes.splice(at..at, std::iter::repeat_n(rng.u8(..), rng.usize(..300)))),
        kind => {
            let Some(byte) = bytes.get_mut(at) else { return };
            match kind {
                6 => *byte ^= 1 << rng.u8(..8),
                7 => *byte = EDGES[rng.usize(..EDGES.len())],
                _ => *byte = byte.wrapping_add(rng.u8(..3)).wrapping_sub(1),
            }
        }
    }
    bytes.truncate(LENGTH);
}

/// Runs a body on one input; what it says is followed by the input.
fn run(body: &Body, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (body.run)(bytes))).is_err() {
        panic!("{}: does not hold of b\"{}\"", body.name, bytes.escape_ascii());
    }
}

fn holds(name: &str) {
    let body = ALL.iter().find(|body| body.name == name).unwrap();
    let seeds = (body.seeds)();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| run(body, seed));
    run(body, &[]);
    let mut rng = Rng::with_seed(number("FUZZ_SEED", 0x6d65_6602));
    for _ in 0..number("FUZZ_CASES", 2000) {
        let mut bytes = seeds[rng.usize(..seeds.len())].clone();
        for _ in 0..1 << rng.u8(..5) {
            mutate(&mut rng, &mut bytes, &seeds);
        }
        run(body, &bytes);
    }
}

macro_rules! tests {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                holds(stringify!($name));
            }
        )*
    };
}

tests! {
    access axfr bans client cloud config control detect dns dnsbl header hosts ipset journal lines listing
    nflog observer pattern positions ruleset sources tsig
}

/// Without extension, the files of a directory below tests/fuzz.
fn files(dir: &str) -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(dir);
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn each_body_is_tested_and_is_a_target() {
    let all: BTreeSet<String> = ALL.iter().map(|body| body.name.to_owned()).collect();
    assert!(TESTED.iter().copied().eq(ALL.iter().map(|body| body.name)));
    let mut bodies = files("bodies");
    assert!(bodies.remove("mod"));
    assert_eq!(bodies, all);
    assert_eq!(files("fuzz_targets"), all);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    for name in &all {
        let target = std::fs::read_to_string(dir.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert_eq!(target, format!("#![no_main]\nmef_fuzz::target!({name});\n"));
        assert!(
            manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")),
            "{name}"
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), all.len());
}
