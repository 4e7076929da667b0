#![forbid(unsafe_code)]
//! Every source of the daemon behind one face: what to wait for, when to look, and whose turn it is to read. Knows
//! rules as bits only, and nothing of what becomes of the lines.

use crate::base::clock::{Mono, Now};
use crate::config::Settings;
use crate::input::glob::Glob;
use crate::input::tail::{Recent, Tail};
use crate::input::{Item, Position, Progress, Source, Tags};
use crate::sys::poll::Ready;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// Sources at most, so that the loop can keep their descriptors on the stack.
pub(super) const MAX: usize = 1;
/// Bytes that one turn of the loop reads at most, so that signals are heard under load.
const BUDGET: usize = 1 << 20;

/// What the rules want to read.
pub(super) struct Wants {
    /// Files.
    pub(super) globs: Vec<(Glob, Tags)>,
}

/// All sources. Each has a slot in the lists that the loop keeps.
pub(super) struct Sources {
    tail: Tail,
    /// By slot: its budget was used up.
    more: [bool; MAX],
}

impl Sources {
    /// Opens what is wanted. What has a saved position continues there.
    pub(super) fn open(
        wants: Wants,
        settings: &Settings,
        saved: &[(PathBuf, Position)],
        now: Now,
    ) -> Sources {
        let tail = Tail::open(wants.globs, recent(settings), saved, now);
        Sources { tail, more: [false; MAX] }
    }

    /// The source of a slot.
    fn source(&self, slot: usize) -> Option<&dyn Source> {
        match slot {
            0 => Some(&self.tail),
            _ => None,
        }
    }

    fn source_mut(&mut self, slot: usize) -> Option<&mut dyn Source> {
        match slot {
            0 => Some(&mut self.tail),
            _ => None,
        }
    }

    /// What to wait for, by slot.
    pub(super) fn fds<'a>(&'a self, fds: &mut [Option<BorrowedFd<'a>>]) {
        for (slot, fd) in fds.iter_mut().enumerate() {
            *fd = self.source(slot).and_then(Source::fd);
        }
    }

    /// When to drain even if nothing is readable; a moment that has passed means now.
    pub(super) fn deadline(&self) -> Option<Mono> {
        (0..MAX).filter_map(|slot| self.due(slot)).min()
    }

    fn due(&self, slot: usize) -> Option<Mono> {
        let more = self.more.get(slot) == Some(&true);
        if more { Some(Mono::default()) } else { self.source(slot)?.deadline() }
    }

    /// Lets every source that is ready or due read; without `ready`, every source. They share one budget evenly.
    pub(super) fn drain(&mut self, now: Now, ready: Option<&[Ready]>, sink: &mut dyn FnMut(Tags, Item<'_>)) {
        let turn = |sources: &Sources, slot: usize| {
            let due = sources.due(slot).is_some_and(|at| at <= now.mono);
            due || ready.is_none_or(|r| r.get(slot).is_some_and(|r| *r != Ready::No))
        };
        let busy = (0..MAX).filter(|&slot| turn(self, slot)).count();
        for slot in 0..MAX {
            if !turn(self, slot) {
                continue;
            }
            let Some(source) = self.source_mut(slot) else { continue };
            let more = source.drain(now, BUDGET / busy.max(1), sink) == Progress::More;
            if let Some(flag) = self.more.get_mut(slot) {
                *flag = more;
            }
        }
    }

    /// How far each source has read: what [`Sources::open`] wants next time. Files go by their path, which begins
    /// with `/`; a source of another kind by a name of its own, which does not.
    pub(super) fn positions(&self, each: &mut dyn FnMut(&Path, Position)) {
        self.tail.positions(each);
    }
}

/// What is read, for people.
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.tail.open_files())
    }
}

fn recent(settings: &Settings) -> Recent {
    let limit = usize::try_from(settings.file_recent_limit).unwrap_or(usize::MAX);
    // 0 says: no limit.
    let limit = if limit == 0 { usize::MAX } else { limit };
    let window =
        if settings.file_recent_window == 0 { u64::MAX } else { u64::from(settings.file_recent_window) };
    Recent { limit, window }
}
