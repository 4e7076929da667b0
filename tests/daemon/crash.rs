//! The daemon is killed at any moment, a thousand times, while logs are written and people ban by hand: what
//! was told to be banned is banned after the next start, also when the kernel has forgotten everything. And
//! writes that end in the middle of a record.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use common::bans::{rows, text};
use common::daemon::{LOG, failed, fails, host};
use common::{Net, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Kills, over all tests of this file together.
const KILLS: usize = 1000;
/// Tests that share them, which run at the same time.
const SHARES: usize = 2;
/// Kills between two looks at everything.
const BETWEEN: usize = 10;
/// Longest time from start to kill.
const LIFE: u64 = 30;
/// Addresses that the log names, and those that are banned by hand: few, so that they come again and again.
const POOL: u32 = 3000;
const BY_HAND: u32 = 40;
/// The log is emptied when it is larger.
const LOG_MAX: u64 = 4 << 20;

/// What must be so after a restart.
#[derive(Default)]
struct Known {
    banned: BTreeSet<String>,
    lifted: BTreeSet<String>,
}

impl Known {
    fn banned(&mut self, addr: &str) {
        self.lifted.remove(addr);
        self.banned.insert(addr.to_owned());
    }

    /// Takes in what a command or the daemon has said, line by line; the last line may be torn.
    fn hear(&mut self, said: &str) {
        for line in said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let word =
                |after: &str| Some(line[line.find(after)? + after.len()..].split(' ').next()?.to_owned());
            if let Some(addr) = line.strip_prefix("unbanned ") {
                self.banned.remove(addr);
                self.lifted.insert(addr.to_owned());
            } else if let Some(rest) = line.strip_prefix("banned ") {
                self.banned(rest.split(' ').next().unwrap());
            } else if let Some(addr) = word("ban ").filter(|_| line.contains(" rule=")) {
                self.banned(&addr);
            }
        }
    }
}

/// Writes lines into the log until the end of the test.
fn attack(path: &std::path::Path, stop: &AtomicBool, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut log = fs::File::options().append(true).open(path).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let mut lines = String::new();
        for _ in 0..rng.u32(1..40) {
            let [_, _, high, low] = rng.u32(0..POOL).to_be_bytes();
            lines += &failed(&format!("10.1.{high}.{low}"));
        }
        if log.metadata().unwrap().len() > LOG_MAX {
            log.set_len(0).unwrap();
        }
        log.write_all(lines.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(rng.u64(1..5)));
    }
}

/// Kills the daemon again and again.
fn kill_often(settings: &str, seed: u64) {
    let settings = format!("max_bans_per_minute=1000000\n{settings}");
    let mut net = host(&settings, "maxretry=1\nbantime=5h");
    let (path, stop) = (net.path(LOG), AtomicBool::new(false));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut known = Known::default();
    let mut checked = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| attack(&path, &stop, seed));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=KILLS / SHARES {
                let look = round % BETWEEN == 0;
                one_round(&mut net, &mut rng, &mut known, look);
                checked += if look { known.banned.len() } else { 0 };
            }
        }));
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(
        known.banned.len() > 1000 && checked > 10_000,
        "too little happened: {} {checked}",
        known.banned.len()
    );
    assert!(known.banned.iter().any(|addr| addr.starts_with("172.")), "nobody was banned by hand");
}

/// One life of the daemon. With `look` it is first asked for everything that has to be there.
fn one_round(net: &mut Net, rng: &mut fastrand::Rng, known: &mut Known, look: bool) {
    let daemon = net.start_daemon("daemon");
    if look {
        net.wait_ready("daemon");
        look_at_everything(net, known);
    }
    // Bans by hand, beside it; some are killed, too.
    let by_hand = format!("172.16.0.{}", rng.u32(0..BY_HAND));
    let verb = if rng.u32(0..3) == 0 { "unban" } else { "ban" };
    let mut args = vec![verb, by_hand.as_str()];
    if verb == "ban" {
        args.extend(["--for", "5h"]);
    }
    // Until it has said what it did, nothing is known.
    known.banned.remove(&by_hand);
    known.lifted.remove(&by_hand);
    let hand = net.start("hand", net.mef_command(&args));
    std::thread::sleep(Duration::from_micros(rng.u64(0..LIFE * 1000)));
    net.signal(daemon, libc::SIGKILL);
    if rng.bool() {
        net.signal(hand, libc::SIGKILL);
    }
    net.wait(daemon);
    net.wait(hand);
    known.hear(&net.said("daemon"));
    known.hear(&net.said("hand"));
    // What a reboot does to the kernel; the daemon may have been killed before there was a table.
    let _ = net.cmd("nft", &["delete", "table", "inet", "mef_guard"]);
}

fn look_at_everything(net: &Net, known: &mut Known) {
    let said = net.said("daemon");
    // While the kernel makes room in a set, a listing of it may lack some elements.
    let mut there = BTreeSet::new();
    wait_until("every ban that was told to be back", || {
        there = rows(&net.mef(&["bans", "--json"]).ok()).iter().map(|row| text(row, "address")).collect();
        known.banned.is_subset(&there)
    });
    let again: Vec<&String> = known.lifted.intersection(&there).collect();
    assert!(again.is_empty(), "lifted and back: {again:?}\n{said}");
    assert!(!said.contains("damaged lines") && !said.contains("is not a file of this version"), "{said}");
    let odd =
        fs::read_dir(net.path("lib/mef")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let odd: Vec<String> = odd.filter(|name| name.contains(".bad-")).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn killed_at_any_moment_it_loses_no_ban_that_was_told() {
    kill_often("state_sync=5m", 1);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn nor_when_everything_is_written_at_once() {
    kill_often("state_sync=0", 2);
}

/// The daemon under a limit of so many KiB for every file that it writes.
fn limited(net: &Net, kib: u32, die: bool) -> Command {
    let (conf, mef) = (net.path("mef.conf"), common::mef_binary());
    // Beyond the limit a write ends in the middle, and the next one is an error, or a signal that kills.
    let trap = if die { "" } else { "trap '' XFSZ; " };
    let script =
        format!("{trap}ulimit -c 0; ulimit -f {}; exec \"$@\" >{} 2>&1", kib * 2, net.path("pipe").display());
    let mut command = net.command(
        "sh",
        &[
            "-c",
            &script,
            "sh",
            mef.to_str().unwrap(),
            "daemon",
            "--foreground",
            "--config",
            conf.to_str().unwrap(),
        ],
    );
    net.own(&mut command);
    command.stdin(Stdio::null());
    command
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn a_write_that_ends_in_the_middle_costs_nothing_that_was_told() {
    for die in [true, false] {
        let mut net = host("max_bans_per_minute=1000000", "maxretry=1\nbantime=5h");
        // What it says goes through a pipe: the limit is for files.
        let pipe = net.path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        net.start("daemon", net.command("cat", &[pipe.to_str().unwrap()]));
        let quiet = net.start("limited", limited(&net, 64, die));
        net.wait_ready("daemon");
        let mut known = Known::default();
        let mut n = 0_u32;
        let mut crowd = || {
            n += 100;
            (n - 100..n).map(|i| failed(&format!("10.2.{}.{}", i / 250, i % 250))).collect::<String>()
        };
        if die {
            // 64 KiB are some 400 bans with their lines; those of a write that kills are told of nobody.
            for _ in 0..30 {
                net.append(LOG, crowd());
            }
            assert_eq!(net.wait(quiet), -1, "the limit kills it");
        } else {
            for _ in 0..30 {
                net.append(LOG, crowd());
            }
            net.mark(LOG);
            net.append(LOG, fails("203.0.113.9", 1));
            net.mark(LOG);
            assert!(net.in_set("ban4", "203.0.113.9".parse().unwrap()), "bans go on");
            net.signal(quiet, libc::SIGKILL);
            net.wait(quiet);
        }
        known.hear(&net.said("daemon"));
        let reported = known.banned.len();
        assert!(reported > 200, "{reported}");
        let size = fs::metadata(net.path("lib/mef/bans")).unwrap().len();
        assert!(size <= 64 * 1024, "{size}");
        net.nft("delete table inet mef_guard");
        net.daemon("again");
        let there = || -> BTreeSet<String> { net.banned().into_iter().collect() };
        if die {
            wait_until("every ban that was told to be back", || known.banned.is_subset(&there()));
        } else {
            let said = net.said("daemon");
            assert_eq!(said.matches("cannot write ").count(), 1, "told once: {said}");
            wait_until("what was written before to be back", || there().len() > 200);
        }
        net.append(LOG, failed("203.0.113.10"));
        net.mark(LOG);
        assert!(net.in_set("ban4", "203.0.113.10".parse().unwrap()), "and it goes on");
    }
}
