#![forbid(unsafe_code)]
//! What the observer says that somebody has to deal with, and when that is done. Does no I/O.

use super::ObserverLink;
use crate::base::clock::Mono;
use crate::daemon::wire::ObserverNews;

/// Milliseconds between two looks at what rules see because it says that there is news of it.
pub(super) const SIGHT: u64 = 10_000;

/// So often news of lines is dealt with within so many milliseconds: each time positions are written. It says
/// so ten times in a second at most; one whose code is not ours may do so always.
pub(super) const READS_MAX: u32 = 20;
pub(super) const READS_SPAN: u64 = 1000;

/// How much news of lines was dealt with since when.
#[derive(Default, Clone, Copy)]
pub(super) struct ReadsDealtWith {
    since: Mono,
    count: u32,
}

impl ReadsDealtWith {
    /// When more may be dealt with.
    fn next(self) -> Mono {
        if self.count < READS_MAX { Mono(0) } else { self.since.after(READS_SPAN) }
    }

    fn add(&mut self, now: Mono) {
        if now.since(self.since) >= READS_SPAN {
            *self = ReadsDealtWith { since: now, count: 0 };
        }
        self.count += 1;
    }
}

/// What it told that nobody has dealt with yet.
#[derive(Default, Clone, Copy)]
pub(in crate::daemon) struct ReadingNews {
    /// Something was read.
    pub(in crate::daemon) read: bool,
    /// A file was opened.
    pub(in crate::daemon) opened: bool,
    /// What rules see has changed.
    pub(in crate::daemon) sight: bool,
}

impl ReadingNews {
    pub(in crate::daemon) fn add(&mut self, news: ObserverNews) {
        match news {
            ObserverNews::Read => self.read = true,
            ObserverNews::Opened => self.opened = true,
            ObserverNews::Sight => self.sight = true,
            // That it says something is all.
            ObserverNews::Busy => {}
        }
    }
}

impl ObserverLink {
    /// When what it told is to be dealt with.
    pub(super) fn news_at(&self) -> Option<Mono> {
        let ReadingNews { read, opened, sight } = self.news;
        let opened = opened.then_some(Mono(0));
        let read = read.then(|| self.reads.next());
        let sight = sight.then(|| self.sight_at.map_or(Mono(0), |last| last.after(SIGHT)));
        [opened, read, sight].into_iter().flatten().min()
    }

    /// What is to be dealt with now of what it told.
    pub(in crate::daemon) fn take_news(&mut self, now: Mono) -> ReadingNews {
        let mut news = std::mem::take(&mut self.news);
        if news.read {
            if now < self.reads.next() {
                (news.read, self.news.read) = (false, true);
            } else {
                self.reads.add(now);
            }
        }
        if news.sight {
            if self.sight_at.is_some_and(|last| now.since(last) < SIGHT) {
                (news.sight, self.news.sight) = (false, true);
            } else {
                self.sight_at = Some(now);
            }
        }
        news
    }
}
