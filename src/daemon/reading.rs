#![forbid(unsafe_code)]
//! Lines are read, by this process or by one of its own that is started for it, and what follows from that is
//! kept: who is banned, and how far everything was read.

use super::Daemon;
use super::judge::Judge;
use super::observer_link::{ObserverLink, ReadingNews};
use super::saving::NOTE;
use super::sources::{SocketsFrom, Sources};
use super::wire::ObserverOrder;
use crate::base::bytes::{of_path, to_path};
use crate::base::clock::Now;
use crate::base::position::{Position, WRITTEN};
use crate::state::positions::{LINES_MAX, Positions, line_max};
use crate::sys::alloc::{ForkSide, start_afresh};
use crate::sys::notify::ServiceState;
use crate::sys::poll::Ready;
use crate::sys::{clock, syslog};
use std::path::PathBuf;

/// Milliseconds from what was read to the next question how far, where positions are written only in the end.
const ASK: u64 = 60_000;
/// How often an observer is started at the end of the daemon.
const STARTS: usize = 2;
/// Milliseconds until it is known of one that it is gone; who needs longer was there, and is late.
const GONE: u64 = 1000;

impl Daemon {
    /// Starts the process that reads lines, if there is to be one and it does not run, or pause.
    #[inline(never)]
    pub(super) fn start_observer(&mut self, now: Now) {
        let reports = self.judge.wanted_reports();
        let Some(link) = self.judge.observer().filter(|link| link.may_start()) else { return };
        let (saved, programs) = (link.saved(), link.wants.programs());
        let forked = ObserverLink::fork(programs, &mut |ends| self.observe(ends, &saved));
        let Some(link) = self.judge.observer() else { return };
        match forked {
            Ok(forked) => {
                start_afresh(ForkSide::Parent);
                link.set_running(forked);
                link.reports = reports;
                let order = ObserverOrder::Start(link.given());
                self.judge.order(now, &order, &mut |_, _| ());
            }
            Err(e) if link.try_later(clock::mono()) => {
                log::warn!("the process that reads logs (the observer) cannot be started: {e}: tried again");
            }
            Err(e) => {
                log::warn!(
                    "the process that reads logs (the observer) cannot be started: {e}: this process reads \
                     them until a restart"
                );
                self.read_here(now, &saved);
            }
        }
    }

    /// Reads lines in this process from now on: rather so than not at all.
    fn read_here(&mut self, now: Now, saved: &[(PathBuf, Position)]) {
        let Some((wants, settings, kept)) = self.judge.end_observer() else { return };
        self.confined.set_together();
        self.sources = Sources::open(wants, &settings, saved, now, (SocketsFrom::Here, kept));
        self.read(now, None);
    }

    /// Reads what the sources have, those that are ready or all, and bans.
    pub(super) fn read(&mut self, now: Now, ready: Option<&[Ready]>) {
        let Daemon { judge, sources, .. } = self;
        let before = judge.seen();
        sources.drain(now, ready, &mut |tags, item| judge.take(now, tags.0, item));
        let mut news = ReadingNews { read: judge.seen() != before, ..ReadingNews::default() };
        self.decide(now);
        let Daemon { judge, sources, .. } = self;
        let change = sources.look_around(now.mono);
        if let Some(change) = &change {
            judge.log_sight(change, &|tags| sources.sight(now.mono, tags));
        }
        (news.opened, news.sight) = (sources.take_opened(), change.is_some() && ready.is_some());
        self.keep_news(now, news);
    }

    /// Reads what there is, and nothing more. What was forwarded to us is nowhere else.
    pub(super) fn stop_reading(&mut self, now: Now) {
        self.read(now, None);
        self.sources.stop();
        // One that waits for its next start reads it, too; and one that takes the place of another that was
        // gone already when it was told to stop.
        for _ in 0..STARTS {
            self.judge.observer().into_iter().for_each(ObserverLink::hurry);
            self.start_observer(now);
            let told = clock::mono();
            if self.judge.ask_places(now, &ObserverOrder::Stop) || clock::mono().since(told) > GONE {
                break;
            }
        }
        self.judge.observer().into_iter().for_each(ObserverLink::end);
        self.after_reading(now);
    }

    /// Bans whom the process that reads lines accuses, and keeps what it told.
    pub(super) fn after_reading(&mut self, now: Now) {
        self.decide(now);
        let news = self.judge.take_news(now);
        self.keep_news(now, news);
    }

    fn decide(&mut self, now: Now) {
        if self.judge.commit(now) {
            self.compacts = self.judge.compact(now);
        }
    }

    /// Sees to it that what was read is written down in time, and told.
    fn keep_news(&mut self, now: Now, news: ReadingNews) {
        if let Some(sync) = self.state_sync {
            // Handed to the system at once: bans survive the daemon, and stay in order with those of
            // commands.
            self.judge.flush();
            if news.read {
                self.save_by(now.mono.after(u64::from(sync) * 1000));
            }
            // What is written to a file while we are away is only known to be new if it is known where it
            // ended.
            if news.opened {
                let at = self.noted_at.map_or(now.mono, |last| last.after(NOTE).max(now.mono));
                self.noted_at = Some(at);
                self.save_by(at);
                if at == now.mono {
                    self.note();
                }
            }
        }
        if self.state_sync.is_none()
            && let Some(link) = self.judge.observer()
        {
            if news.opened {
                link.ask_by(now.mono);
            }
            if news.read {
                self.save_by(now.mono.after(ASK));
            }
        }
        if news.sight {
            self.tell_supervisor(ServiceState::Same);
        }
    }

    /// Asks how far everything was read where that is written only in the end: another process goes on from
    /// there.
    pub(super) fn ask_places(&mut self, now: Now) {
        self.save_at = None;
        self.judge.ask_places(now, &ObserverOrder::Places);
    }

    /// What is read, for people.
    pub(super) fn describe(&mut self, now: Now) -> String {
        if self.judge.observer().is_some() { self.judge.describe(now) } else { self.sources.to_string() }
    }

    /// Writes what was lost to the log.
    pub(super) fn sources_report(&mut self, now: Now) {
        if self.judge.observer().is_some() {
            self.judge.order(now, &ObserverOrder::Report, &mut |_, _| ());
        } else {
            self.sources.report();
        }
    }
}

/// How far each file was read, by whoever reads it, to be written down; `None`: what was written stays.
pub(super) fn places_of(judge: &mut Judge, sources: &Sources, now: Now) -> Option<Vec<(PathBuf, Position)>> {
    if judge.observer().is_none() {
        return Some(places(sources));
    }
    judge.ask_places(now, &ObserverOrder::Places);
    judge.observer()?.take_places()
}

/// How far each file was read when that was last written down.
pub(super) fn load_places(positions: &mut Option<Positions>) -> Vec<(PathBuf, Position)> {
    let mut saved = Vec::new();
    let Some(file) = positions else { return saved };
    let each = &mut |path: &[u8], position| saved.push((to_path(path), position));
    file.load(each).unwrap_or_else(|e| syslog::warn(&e));
    let written = file.written_at().map(|tail| Position { tail, ..Position::default() });
    saved.extend(written.map(|at| (PathBuf::from(WRITTEN), at)));
    saved
}

/// How far each file was read.
pub(super) fn places(sources: &Sources) -> Vec<(PathBuf, Position)> {
    let mut all = Vec::new();
    sources.positions(&mut |path, position| all.push((path.to_owned(), position)));
    all
}

/// Leaves those for which the file of positions has room; how many it has none for. What is no file comes
/// last, and stays. Their order stays, too: of a name that was rotated the file that has it now comes first.
pub(super) fn fit(all: &mut Vec<(PathBuf, Position)>) -> usize {
    let mut room = LINES_MAX;
    let before = all.len();
    all.reverse();
    all.retain(|(path, _)| {
        let rest = room.checked_sub(line_max(of_path(path)));
        room = rest.unwrap_or(room);
        rest.is_some()
    });
    all.reverse();
    before - all.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_positions_are_said_as_are_read_back() {
        let name = |n: usize| PathBuf::from(format!("/var/log/containers/{n:06}.log"));
        let all = |count| (0..count).map(|n| (name(n), Position::default())).collect::<Vec<_>>();
        let most = LINES_MAX / line_max(of_path(&name(0)));
        assert!(most > 30_000, "{most}");
        for (count, want) in [(0, 0), (10_000, 0), (most, 0), (most + 7, 7)] {
            let mut some = all(count);
            assert_eq!((fit(&mut some), some.len()), (want, count - want));
            assert_eq!(some, all(count).split_off(want), "what comes last stays, in its order");
        }
    }
}
