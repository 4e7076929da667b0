//! Bans against a plain map of addresses: whatever is banned, lifted, ended and restarted, the kernel bans
//! each address until the latest end of the bans that cover it and were not lifted since.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use ipnet::IpNet;
use mef::ban::WhichBans;
use mef::ban::{Ban, BanOutcome, Options, Repeat, Scope, Transports};
use mef::base::clock::{Span, Wall};
use mef::base::range::Range;
use mef::enforce::Enforcer;
use mef::firewall::guard::Guard;
use mef::state::journal::BanJournal;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far an end may lie beside the model's: the journal counts in seconds, as the kernel's clock and ours
/// do not begin at the same moment. `World::near` has more of it where steps take long.
const NEAR: f64 = 5.0;

fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn wall() -> Wall {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds since 1970")]
    Wall(clock() as u64)
}

/// The addresses that the model knows: 64 of IPv4, and both halves of 32 prefixes of IPv6.
fn known() -> Vec<IpAddr> {
    let v6 = (0..64u128).map(|n| 0x2001_0db8 << 96 | (n / 2) << 64 | (n % 2) << 63);
    (0..64u8).map(|n| IpAddr::from([192, 0, 2, n])).chain(v6.map(|n| IpAddr::from(n.to_be_bytes()))).collect()
}

/// One of them, a prefix of them, or a range.
fn target(rng: &mut fastrand::Rng) -> Range {
    let n = rng.u8(..64);
    match rng.u8(..10) {
        0 | 1 => {
            let len = [59, 60, 62, 64, 64, 64, 65, 128][rng.usize(..8)];
            Range::from(format!("2001:db8:0:{:x}::/{len}", n / 2).parse::<IpNet>().unwrap().trunc())
        }
        2 => {
            let address = |n: u8| IpAddr::from([192, 0, 2, n]);
            Range::new(address(n), address(n.saturating_add(rng.u8(..9)).min(63))).unwrap()
        }
        3..6 => Range::from(format!("192.0.2.{n}/{}", rng.u8(26..32)).parse::<IpNet>().unwrap().trunc()),
        _ => Range::from(IpAddr::from([192, 0, 2, n])),
    }
}

type Model = BTreeMap<(IpAddr, usize), f64>;

struct World {
    dir: PathBuf,
    enforcer: Option<Enforcer>,
    model: Model,
    scopes: [Scope; 2],
    near: f64,
}

fn open(dir: &Path) -> Enforcer {
    let (journal, note) = BanJournal::open(dir, wall(), [1, 2], Duration::from_secs(1)).unwrap();
    assert!(note.is_none());
    Enforcer::new(
        Box::new(Guard::open(Options::default(), mef::ban::Allowed::default()).unwrap()),
        Some(journal),
    )
}

impl World {
    fn new(name: &str) -> World {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root is needed");
        let dir = std::env::temp_dir().join(format!("mef-bans-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let scopes = [Scope::ALL, Scope::new(vec![(22, 22)], Transports::Tcp)];
        World { enforcer: Some(open(&dir)), dir, model: Model::new(), scopes, near: NEAR }
    }

    fn enforcer(&mut self) -> &mut Enforcer {
        self.enforcer.as_mut().unwrap()
    }

    /// When a step ends. An end that it set lies up to its duration beside ours.
    fn took(&mut self, start: f64) -> f64 {
        let now = clock();
        self.near = self.near.max(NEAR + now - start);
        now
    }

    fn ban(&mut self, addr: Range, scope: usize, time: Span) {
        let scopes = self.scopes.clone();
        let ban = Ban {
            addr,
            scope: &scopes[scope],
            time,
            age: 0,
            rule: "test",
            hits: 0,
            reason: "",
            bans: 0,
            starts: &[],
            line: "",
        };
        let mut outcome = None;
        let report = &mut |_: usize, result: Result<BanOutcome, &_>| outcome = Some(result.unwrap());
        let start = clock();
        self.enforcer().ban(wall(), &[ban], Repeat::Prolongs, report, &mut |e| panic!("{e}"));
        let end = match time {
            Span::Permanent => f64::INFINITY,
            Span::Secs(secs) => clock() + f64::from(u32::try_from(secs).unwrap()),
        };
        let now = self.took(start);
        let near = self.near;
        let covered: Vec<IpAddr> = known().into_iter().filter(|a| addr.covers(&Range::from(*a))).collect();
        // What is said of it is true.
        let least = covered
            .iter()
            .map(|a| self.model.get(&(*a, scope)).copied().unwrap_or(0.0))
            .fold(f64::INFINITY, f64::min);
        match outcome.unwrap() {
            BanOutcome::InForce(_) => assert!(least >= end - near, "{addr} said to be in force already"),
            // All of a network may have been banned by other prefixes: that is not looked for.
            BanOutcome::Banned => assert!(least < now + near || covered.len() != 1, "{addr} said to be new"),
            BanOutcome::Extended(_) => {}
        }
        for address in covered {
            let best = self.model.entry((address, scope)).or_insert(end);
            *best = best.max(end);
        }
    }

    fn unban(&mut self, addr: Range) {
        let start = clock();
        let lifted = self.enforcer().unban(wall(), &[addr], &mut |e| panic!("{e}")).unwrap();
        assert!(lifted.written);
        let (now, near) = (self.took(start), self.near);
        let any = self.model.iter().any(|((a, _), end)| addr.covers(&Range::from(*a)) && *end > now + near);
        assert!(lifted.counts[0] > 0 || !any, "{addr} was banned, and not said to be");
        self.model.retain(|(a, _), _| !addr.covers(&Range::from(*a)));
    }

    fn restart(&mut self, loses_table: bool) {
        let start = clock();
        self.enforcer = None;
        if loses_table {
            let args = ["delete", "table", "inet", "mef_guard"];
            let _ = std::process::Command::new("nft").args(args).output().expect("package nftables");
        }
        self.enforcer = Some(open(&self.dir));
        self.enforcer().guard().ensure().unwrap();
        self.enforcer().restore(wall(), &mut |e| panic!("{e}")).unwrap();
        self.took(start);
    }

    /// Compares every address with what the kernel has.
    fn compare(&mut self, what: &str) {
        let mut kernel = Model::new();
        let scopes = self.scopes.clone();
        let now = clock();
        let known = known();
        let mut seen = Vec::new();
        self.enforcer()
            .guard()
            .list(&mut |e| {
                let scope = scopes.iter().position(|scope| scope == e.scope).unwrap();
                assert!(!seen.contains(&(e.addr, scope)), "{} is listed twice", e.addr);
                seen.push((e.addr, scope));
                // It is told in whole seconds that have begun.
                let left =
                    e.left.map_or(f64::INFINITY, |left| now - 0.5 + f64::from(u32::try_from(left).unwrap()));
                for address in known.iter().filter(|a| e.addr.meets(&Range::from(**a))) {
                    let best = kernel.entry((*address, scope)).or_insert(left);
                    *best = best.max(left);
                }
            })
            .unwrap();
        self.took(now);
        let near = self.near;
        for address in known {
            for scope in 0..2 {
                let key = (address, scope);
                let want = self.model.get(&key).copied().filter(|end| *end > now - near);
                let got = kernel.get(&key).copied();
                let (a, b) = (want.unwrap_or(now), got.unwrap_or(now));
                let same = (a - b).abs() < near || a == b;
                assert!(same, "{what}: {address} in scope {scope}: {want:?} expected, {got:?} in the kernel");
            }
        }
    }
}

fn run(seed: u64, steps: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::new(&seed.to_string());
    for step in 0..steps {
        let (addr, scope) = (target(&mut rng), rng.usize(..2));
        match rng.u32(..1000) {
            0..5 => world.restart(true),
            5..8 => world.restart(false),
            8 => {
                world.enforcer().unban_all(WhichBans::Timed, &mut |e| panic!("{e}")).unwrap();
                world.model.retain(|_, end| *end == f64::INFINITY);
            }
            9 => {
                world.enforcer().unban_all(WhichBans::All, &mut |e| panic!("{e}")).unwrap();
                world.model.clear();
            }
            10..13 => world.enforcer().close(wall()).unwrap(),
            13..350 => world.unban(addr),
            _ => {
                let time = match rng.u8(..6) {
                    0 => Span::Permanent,
                    1 => Span::Secs(rng.u64(1..15)),
                    _ => Span::Secs(rng.u64(60..7200)),
                };
                world.ban(addr, scope, time);
            }
        }
        world.compare(&format!("seed {seed}, step {step} ({addr})"));
    }
    world.restart(true);
    world.compare(&format!("seed {seed}, after a reboot"));
    std::fs::remove_dir_all(&world.dir).unwrap();
}

/// More of them: `BANS_STEPS=10000 cargo test --test main enforce::bans`.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn each_address_is_banned_until_its_latest_end() {
    let steps = std::env::var("BANS_STEPS").map_or(600, |steps| steps.parse().unwrap());
    for seed in 1..=3 {
        run(seed, steps);
    }
}
