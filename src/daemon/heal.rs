#![forbid(unsafe_code)]
//! Puts back what others delete from the kernel: the table of bans, and, where the configuration says so, the rule
//! set. Sleeps until the kernel tells of a change that is not ours.

use super::judge::Judge;
use crate::base::clock::{Mono, Now};
use crate::firewall::events::{Events, Harm, News};
use crate::firewall::guard::Guard;
use crate::firewall::rules;
use crate::rulefile;
use std::os::fd::BorrowedFd;

/// Repairs that follow each other at once; from then on each waits twice as long as the one before.
const AT_ONCE: u32 = 5;
/// Milliseconds after which a repair has held.
const HELD: u64 = 60_000;
/// Seconds between two repairs at most, while somebody else keeps deleting.
const PAUSE_MAX: u64 = 60;

/// What is to be repaired, and when.
pub(super) struct Heal {
    events: Option<Events>,
    news: News,
    /// The rule set is ours to put back.
    managed: bool,
    due: Option<Mono>,
    last: Option<Mono>,
    /// Repairs that did not hold.
    streak: u32,
}

impl Heal {
    /// Listens from now on. Without events the daemon goes on, and says so.
    pub(super) fn open(guard: &Guard, managed: bool) -> Heal {
        let events = guard.events();
        if let Err(e) = &events {
            log::warn!("{e}; a table that others delete is put back with the next ban only");
        }
        let (news, due, last, streak) = (News::default(), None, None, 0);
        Heal { events: events.ok(), news, managed, due, last, streak }
    }

    pub(super) fn set_managed(&mut self, managed: bool) {
        self.managed = managed;
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(Events::fd)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due
    }

    /// Hears what there is, and repairs what is broken; whether anything was.
    pub(super) fn look(&mut self, now: Now, judge: &mut Judge) -> bool {
        self.hear();
        if !self.broken() {
            // What is of no concern now must not be taken for news later.
            let _ = self.news.take_harm();
            self.due = None;
            return false;
        }
        if now.mono < *self.due.get_or_insert_with(|| next(now.mono, self.last, self.streak)) {
            return false;
        }
        self.due = None;
        let (harm, rules_gone, by) = self.news.take_harm();
        let mended = judge.mend(now.wall, harm);
        // Another process may have put it back already, or be about to.
        let rules = self.managed && rules_gone && !rules::there().unwrap_or(true);
        if rules {
            load_rules();
        }
        if mended == Some(false) && !rules {
            // Messages were lost, but no harm was done.
            return false;
        }
        self.streak = if held(now.mono, self.last) { 1 } else { self.streak.saturating_add(1) };
        self.last = Some(now.mono);
        if let Some((pid, name)) = by {
            log::info!("that was done by '{name}', process {pid}");
        }
        if mended.is_none() {
            // It cannot be repaired now: tried again, less and less often.
            self.news.guard = self.news.guard.max(harm);
            self.due = Some(now.mono.after(1000 << self.streak.min(6)));
        }
        true
    }

    /// Whether others have deleted deny lists.
    pub(super) fn take_lists(&mut self) -> bool {
        std::mem::take(&mut self.news.lists_gone)
    }

    fn broken(&self) -> bool {
        self.news.guard != Harm::None || (self.managed && self.news.rules_gone)
    }

    fn hear(&mut self) {
        if let Some(events) = &mut self.events
            && let Err(e) = events.hear(&mut self.news)
        {
            log::warn!("{e}; a table that others delete is put back with the next ban only");
            self.events = None;
        }
    }
}

/// Whether the last repair is long enough ago.
fn held(now: Mono, last: Option<Mono>) -> bool {
    last.is_none_or(|last| now.since(last) >= HELD)
}

/// When to repair: at once, but not again and again while somebody else keeps deleting.
fn next(now: Mono, last: Option<Mono>, streak: u32) -> Mono {
    match last {
        Some(last) if !held(now, Some(last)) && streak >= AT_ONCE => {
            let wait = (1 << (streak - AT_ONCE).min(16)).min(PAUSE_MAX);
            log::warn!("our tables are deleted again and again: the next repair is in {wait} s");
            now.max(last.after(wait * 1000))
        }
        _ => now,
    }
}

/// Puts the rule set back, as `mef load` would.
fn load_rules() {
    let mut set = rulefile::read(rulefile::DEFAULT_PATH, false);
    let loaded = if set.failed() {
        let shown = rulefile::shown(&set);
        shown.first().into_iter().flat_map(|text| text.lines()).for_each(|line| log::error!("{line}"));
        Err("it has errors".to_owned())
    } else {
        rulefile::batch(&mut set).and_then(|batch| rulefile::load(&set, batch).map_err(|(why, _)| why))
    };
    let path = rulefile::DEFAULT_PATH;
    match loaded {
        Ok(()) => log::warn!("the table inet mef was gone: {path} is loaded again"),
        Err(why) => log::error!("the table inet mef is gone, and {path} cannot be loaded: {why}"),
    }
}
