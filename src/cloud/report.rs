#![forbid(unsafe_code)]
//! One turn of reporting, in a process of its own: what is new goes into the file, and if it is time, the
//! server hears of what it does not know.

use super::keyfile;
use super::reports::{Event, Reports, Standing};
use super::session::{Session, Trouble};
use crate::base::clock::{Mono, Now, Wall};
use crate::dns::name::Name;
use crate::dns::tsig::FUDGE;
use crate::sys::clock;
use crate::sys::dir::Dir;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Reports in one update at most.
const BATCH: usize = 100;
/// Seconds between two tries at most, when they fail, unless the interval is longer.
const LONGEST: u64 = 3600;
/// Intervals after which the server is asked again for the time, when it says another one than our clock.
const ASKED_AGAIN: u64 = 10;
/// Before this (the year 2025) it cannot be: the clock has not been set yet.
const EPOCH: u64 = 1_735_689_600;

/// Whom to report to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server.
    pub server: SocketAddr,
    /// Our zone on it, as text.
    pub zone: String,
    /// Our name, and that of the key.
    pub member: String,
    /// Where the key is.
    pub key_file: PathBuf,
    /// Seconds between reports.
    pub interval: u32,
    /// Where the file is.
    pub dir: PathBuf,
}

/// Seconds between the last try and the next.
#[must_use]
pub fn pause(standing: &Standing, interval: u32) -> u64 {
    let interval = u64::from(interval.max(1));
    // While the clock is wrong it is looked at, not the server.
    let doublings = if is_of_clock(standing) { 0 } else { standing.failures.min(12) };
    (interval << doublings).min(LONGEST.max(interval))
}

fn is_of_clock(standing: &Standing) -> bool {
    matches!(standing.trouble(), Some(Trouble::Clock(_) | Trouble::NoClock))
}

/// When there is something to do next, of what stands in the file; `None` if there is not.
#[must_use]
pub fn due(standing: &Standing, interval: u32) -> Option<Wall> {
    let next = standing.tried_at.0.saturating_add(pause(standing, interval));
    match standing {
        Standing { waiting: 0, sent: 0, .. } => None,
        Standing { waiting: 0, ends_at, .. } => Some(Wall(ends_at.0.max(next))),
        _ => Some(Wall(next)),
    }
}

/// Whether something may be signed with the time of our clock.
fn check_clock(standing: &Standing, now: Now, interval: u32) -> Result<(), Trouble> {
    let slack = u64::from(FUDGE);
    if now.wall.0 < EPOCH || now.wall.0 + slack < standing.done_at.0 {
        return Err(Trouble::NoClock);
    }
    if let Some(Trouble::Clock(time)) = standing.trouble()
        && now.mono >= standing.trouble_at
    {
        let passed = now.mono.since(standing.trouble_at) / 1000;
        // Who was wrong is not known: some time later the server is asked again.
        if passed < u64::from(interval) * ASKED_AGAIN && now.wall.0.abs_diff(time.0 + passed) > slack {
            return Err(Trouble::Clock(Wall(time.0 + passed)));
        }
    }
    Ok(())
}

/// What becomes of reports that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// They are sent.
    Due,
    /// They wait for another turn.
    Later,
}

/// What is new, of which this is all that is known so far.
#[derive(Debug, Clone, Copy)]
pub struct News<'a> {
    /// What happened.
    pub events: &'a [Event],
    /// How much more did, for which there was no room.
    pub lost: u64,
}

/// Takes in what is new, and reports what there is to. Whether the file was broken, and so begun anew.
///
/// # Errors
/// The file cannot be read or written. What the server says stands in it.
pub fn turn(target: &Target, news: News<'_>, sending: Sending) -> io::Result<bool> {
    let dir = Dir::create(&target.dir)?;
    let (mut all, broken) = Reports::load(&dir)?;
    let now = clock::now();
    news.events.iter().for_each(|event| all.take(now.wall, event));
    all.lost(news.lost);
    all.expire(now.wall);
    if sending == Sending::Due && all.is_due() {
        all.tried(now.wall);
        // Whatever becomes of this process while it waits for the server.
        all.settle();
        all.save(&dir)?;
        send(target, &mut all, now);
    }
    all.settle();
    all.save(&dir)?;
    Ok(broken)
}

/// Has the server do all that is due, in as many updates as that takes.
fn send(target: &Target, all: &mut Reports, now: Now) {
    if let Err(trouble) = check_clock(&all.standing, now, target.interval) {
        return wait_for_clock(all, now, trouble);
    }
    let mut batch = Vec::new();
    let result = converse(target, all, &mut batch);
    if let Err(trouble) = result {
        all.failed(now, &batch, trouble);
    }
}

/// Keeps in mind that the clock is wrong, and since when that is known.
fn wait_for_clock(all: &mut Reports, now: Now, trouble: Trouble) {
    let known = matches!((all.standing.trouble(), trouble), (Some(Trouble::Clock(_)), Trouble::Clock(_)));
    if !known {
        all.failed(now, &[], trouble);
    }
}

fn converse(target: &Target, all: &mut Reports, batch: &mut Vec<usize>) -> Result<(), Trouble> {
    let key = keyfile::read(&target.key_file).map_err(|_| Trouble::Key)?;
    let zone = Name::parse(target.zone.as_bytes()).ok_or(Trouble::Key)?;
    let mut session = Session::open(target.server, &key)?;
    loop {
        *batch = all.batch(BATCH);
        if batch.is_empty() {
            return Ok(());
        }
        session.update(&zone, &mut |writer| all.write(batch, &zone, writer))?;
        all.done(clock::wall(), batch);
    }
}

/// What `mef cloud status` shows: how it goes, if anything was ever reported.
///
/// # Errors
/// The file cannot be read.
pub fn standing(dir: &Path) -> io::Result<Option<Standing>> {
    match Dir::open(dir) {
        Ok(dir) => Reports::standing(&dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// When that is by the clock that never jumps; within the hour, since the other one may jump.
#[must_use]
pub fn mono_of(at: Wall, now: Now) -> Mono {
    now.mono.after(at.0.saturating_sub(now.wall.0).min(LONGEST) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { wall: Wall(1_800_000_000), mono: Mono(5_000_000) };

    fn standing(trouble: Option<Trouble>, failures: u32) -> Standing {
        let trouble = trouble.map_or((0, 0), Trouble::pack);
        Standing {
            waiting: 1,
            failures,
            trouble,
            trouble_at: NOW.mono,
            tried_at: NOW.wall,
            ..Standing::default()
        }
    }

    #[test]
    fn pauses_grow_to_an_hour() {
        let refused = Some(Trouble::Refused(5, 0));
        let cases =
            [(0, 60, 60), (1, 60, 120), (3, 60, 480), (9, 60, 3600), (99, 60, 3600), (99, 7200, 7200)];
        for (failures, interval, want) in cases {
            assert_eq!(pause(&standing(refused, failures), interval), want, "{failures} failures");
        }
        assert_eq!(pause(&standing(Some(Trouble::Clock(Wall(1))), 9), 60), 60, "the clock may be right soon");
    }

    #[test]
    fn nothing_is_due_when_there_is_nothing_to_report() {
        assert_eq!(due(&Standing::default(), 60), None);
        assert_eq!(due(&standing(None, 0), 60), Some(Wall(NOW.wall.0 + 60)));
        let sent = Standing { waiting: 0, sent: 3, ends_at: Wall(NOW.wall.0 + 999), ..standing(None, 0) };
        assert_eq!(due(&sent, 60), Some(sent.ends_at));
        assert_eq!(due(&Standing { ends_at: NOW.wall, ..sent }, 60), Some(Wall(NOW.wall.0 + 60)));
    }

    #[test]
    fn nothing_is_signed_with_a_wrong_time() {
        let none = standing(None, 0);
        let at = |wall, mono| Now { wall: Wall(wall), mono: Mono(mono) };
        assert_eq!(check_clock(&none, at(0, 1), 360), Err(Trouble::NoClock), "the clock begins in 1970");
        assert_eq!(check_clock(&none, NOW, 360), Ok(()));
        let done = Standing { done_at: Wall(NOW.wall.0 + 1000), ..none };
        assert_eq!(check_clock(&done, NOW, 360), Err(Trouble::NoClock), "it was set back");
        // The server said that it is an hour later.
        let wrong = standing(Some(Trouble::Clock(Wall(NOW.wall.0 + 3600))), 1);
        assert!(matches!(check_clock(&wrong, NOW, 360), Err(Trouble::Clock(_))));
        assert!(check_clock(&wrong, at(NOW.wall.0 + 600, 5_600_000), 360).is_err(), "ten minutes later");
        assert_eq!(
            check_clock(&wrong, at(NOW.wall.0 + 3600 + 600, 5_600_000), 360),
            Ok(()),
            "it was set right"
        );
        // Perhaps it is the server's that was wrong; and after a boot nobody knows.
        assert_eq!(check_clock(&wrong, at(NOW.wall.0 + 3600, 5_000_000 + 3_600_000), 360), Ok(()));
        assert_eq!(check_clock(&wrong, at(NOW.wall.0, 1000), 360), Ok(()));
    }
}
