#![forbid(unsafe_code)]
//! Lines are read, by this process or by one of its own that is started for it, and what follows from that is
//! kept: who is banned, and how far everything was read.

use super::judge::Judge;
use super::observer_link::{ObserverLink, ReadingNews};
use super::sources::Sources;
use super::wire::ObserverOrder;
use super::{Daemon, NOTE};
use crate::base::bytes::to_path;
use crate::base::clock::Now;
use crate::base::position::{Position, WRITTEN};
use crate::state::positions::Positions;
use crate::sys::alloc::{ForkSide, start_afresh};
use crate::sys::notify::ServiceState;
use crate::sys::poll::Ready;
use crate::sys::syslog;
use std::path::PathBuf;

impl Daemon {
    /// Starts the process that reads lines, if there is to be one and it does not run.
    #[inline(never)]
    pub(super) fn start_observer(&mut self, now: Now) {
        let Some(link) = self.judge.observer().filter(|link| link.fd().is_none()) else { return };
        let (mut saved, programs) = (link.saved(), link.wants.programs());
        if saved.is_empty() {
            saved = load_places(&mut self.positions);
        }
        let forked = ObserverLink::fork(programs, &mut |ends| self.observe(ends, &saved));
        let Some(link) = self.judge.observer() else { return };
        match forked {
            Ok(forked) => {
                start_afresh(ForkSide::Parent);
                link.set_running(forked);
                let order = ObserverOrder::Start(link.given());
                self.judge.order(now, &order, &mut |_, _| ());
            }
            Err(e) => {
                link.delay();
                log::error!("the observer cannot be started: {e}: no log is read");
            }
        }
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

    /// Bans whom the process that reads lines accuses, and keeps what it told.
    pub(super) fn after_reading(&mut self, now: Now) {
        self.decide(now);
        let news = self.judge.take_news();
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
        if news.sight {
            self.tell_supervisor(ServiceState::Same);
        }
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

/// How far each file was read, by whoever reads it.
pub(super) fn places_of(judge: &mut Judge, sources: &Sources, now: Now) -> Vec<(PathBuf, Position)> {
    match judge.observer() {
        Some(_) => judge.observer_places(now, &ObserverOrder::Places),
        None => places(sources),
    }
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
