//! Whatever happens to the process that reads logs, and whenever: each offence that was written is banned,
//! once, and nobody again whose ban was ended.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common;

use super::observer::{failed, kill};
use common::daemon::{LOG, host, observers};
use common::{Net, wait_or_show, wait_until};
use std::time::Duration;

/// What happens at random moments.
const ROUNDS: usize = 40;
/// Ends of the observer at most: it is started again later each time.
const ENDS: usize = 5;
/// Hits that the second rule wants; they are written at once.
const HITS: usize = 3;

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    Killed,
    Stopped,
    Continued,
    /// It stands still, and is asked for something.
    Hangs,
    Reload,
    Rotation,
    /// Somebody's ban is ended by hand.
    Unban,
}

impl Trouble {
    fn any(rng: &mut fastrand::Rng) -> Trouble {
        match rng.u32(0..14) {
            0..2 => Trouble::Killed,
            2..4 => Trouble::Stopped,
            4..6 => Trouble::Continued,
            6 => Trouble::Hangs,
            7..9 => Trouble::Reload,
            9 => Trouble::Rotation,
            10..12 => Trouble::Unban,
            _ => Trouble::Nothing,
        }
    }

    /// Whether the observer is started anew for it, and so counts.
    fn ends(self) -> bool {
        matches!(self, Trouble::Killed | Trouble::Hangs)
    }

    fn happens(self, net: &Net, daemon: u32) {
        let all = |signal| observers(daemon).into_iter().for_each(|pid| kill(pid, signal));
        match self {
            Trouble::Nothing | Trouble::Unban => {}
            Trouble::Killed => all(libc::SIGKILL),
            Trouble::Stopped => all(libc::SIGSTOP),
            Trouble::Continued => all(libc::SIGCONT),
            Trouble::Hangs => {
                all(libc::SIGSTOP);
                net.mef(&["status"]);
            }
            Trouble::Reload => kill(daemon, libc::SIGHUP),
            Trouble::Rotation => {
                // Once: of what was renamed twice while nobody read nothing is promised.
                let (log, old) = (net.path("two.log"), net.path("two.log.1"));
                if !old.exists() {
                    std::fs::rename(log, old).unwrap();
                    net.append("two.log", "");
                }
            }
        }
    }
}

/// Ends the ban of somebody who is banned for what was written, if there is one.
fn unban(net: &Net, written: &[String]) -> Option<String> {
    let banned = net.banned().into_iter().find(|addr| written.contains(addr))?;
    // A short ban may be over by now.
    (net.mef(&["unban", &banned]).status == 0).then_some(banned)
}

fn every_offence_is_banned_once(seed: u64, settings: &str, bantime: &str) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut net =
        host(&format!("max_bans_per_minute=1000000\n{settings}"), &format!("maxretry=1\nbantime={bantime}"));
    net.append("two.log", "");
    net.rule_for("two", "two.log", &format!("maxretry={HITS}\nbantime={bantime}"));
    // Lines that do not say when they were written.
    net.append("bare.log", "");
    let bare = net.path("bare.log");
    net.rule(
        "bare",
        &format!("files={}\nfailregex=^bad <HOST>$\nmaxretry=1\nbantime={bantime}", bare.display()),
    );
    let started = net.daemon("daemon");
    let daemon = net.pid(started);
    let (mut written, mut ends, mut happened) = (Vec::new(), 0, Vec::new());
    let mut forgiven = Vec::new();
    for round in 0..ROUNDS {
        for n in 0..rng.usize(1..8) {
            let [one, two, three] = [1, 2, 3].map(|log| format!("10.{log}.{round}.{n}"));
            net.append(LOG, failed(&one));
            net.append("two.log", failed(&two).repeat(HITS));
            net.append("bare.log", format!("bad {three}\n"));
            written.extend([one, two, three]);
        }
        let trouble = Some(Trouble::any(&mut rng)).filter(|it| !it.ends() || ends < ENDS);
        let trouble = trouble.unwrap_or(Trouble::Nothing);
        ends += usize::from(trouble.ends());
        happened.push(trouble);
        trouble.happens(&net, daemon);
        if trouble == Trouble::Unban {
            // One that stands still is ended for it, which takes its time.
            if ends >= ENDS {
                Trouble::Continued.happens(&net, daemon);
            }
            let before = observers(daemon);
            forgiven.extend(unban(&net, &written));
            ends += usize::from(observers(daemon) != before);
        }
        // Any moment will do: that of what it does now is what differs.
        std::thread::sleep(Duration::from_micros(rng.u64(0..60_000)));
    }
    assert!(ends > 1 && happened.contains(&Trouble::Reload), "{happened:?}");
    Trouble::Continued.happens(&net, daemon);
    let times = |said: &str, addr: &String| said.matches(&format!("ban {addr} rule=")).count();
    wait_or_show(
        "every ban",
        || {
            let said = net.said("daemon");
            written.iter().all(|addr| times(&said, addr) > 0).then_some(())
        },
        || {
            let said = net.said("daemon");
            let lost: Vec<_> = written.iter().filter(|addr| times(&said, addr) == 0).collect();
            format!("{happened:?} {lost:?}\n{said}")
        },
    );
    // What is read again once more changes nothing.
    observers(daemon).into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    net.append(LOG, failed("203.0.113.9"));
    wait_until("the last ban", || times(&net.said("daemon"), &"203.0.113.9".to_owned()) > 0);
    let said = net.said("daemon");
    for addr in &written {
        assert_eq!(times(&said, addr), 1, "{addr} {happened:?}\n{said}");
    }
    let banned = net.banned();
    let others = banned.iter().filter(|addr| *addr != "203.0.113.9" && !written.contains(addr));
    assert_eq!(others.count(), 0, "nobody else is banned");
    for addr in &forgiven {
        assert!(!banned.contains(addr), "{addr} was unbanned {happened:?}\n{said}");
    }
    net.stop(started);
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn every_offence_is_banned_once_whatever_happens_to_who_reads() {
    for seed in 1..=3 {
        every_offence_is_banned_once(seed, "state_sync=5", "5h");
    }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn and_where_positions_are_asked_for_only_now_and_then() {
    every_offence_is_banned_once(4, "state_sync=never", "5h");
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn and_who_was_banned_for_a_moment_is_not_banned_for_longer() {
    every_offence_is_banned_once(5, "state_sync=5", "1s");
}
