#![forbid(unsafe_code)]
//! The inotify watches of a source that follows files and what happens when they cannot be had. Knows no
//! file's state.

use crate::base::clock::Mono;
use crate::sys::inotify::{FileEvent, Mask, WatchDescriptor, Watcher};
use nix::errno::Errno;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

/// How often everything is looked at when the kernel does not tell, in milliseconds.
const POLL: u64 = 2000;

/// A directory in which names come and go.
struct WatchedDir {
    path: PathBuf,
    wd: WatchDescriptor,
    used: bool,
}

/// What a watch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::input) enum WatchNeed {
    /// Without it something is missed: that it cannot be set is trouble.
    Must,
    /// It spares looking again.
    May,
}

/// All watches of one instance.
pub(in crate::input) struct Watches {
    watcher: Option<Watcher>,
    dirs: Vec<WatchedDir>,
    /// Some watch could not be set since [`Watches::begin`].
    failed: bool,
    said: bool,
    next_poll: Option<Mono>,
}

impl Watches {
    pub(in crate::input) fn open() -> Watches {
        let mut watches = Watches::none();
        match Watcher::open() {
            Ok(watcher) => watches.watcher = Some(watcher),
            Err(e) => watches.fail(&e.to_string()),
        }
        watches
    }

    /// A place holder without watches.
    pub(in crate::input) fn none() -> Watches {
        Watches { watcher: None, dirs: Vec::new(), failed: false, said: false, next_poll: None }
    }

    pub(in crate::input) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watcher.as_ref().map(|w| w.as_fd())
    }

    /// When everything must be looked at without an event; `None` while the kernel tells.
    pub(in crate::input) fn deadline(&self) -> Option<Mono> {
        self.failed.then(|| self.next_poll.unwrap_or_default())
    }

    /// Whether a poll is due; then the next one is planned.
    pub(in crate::input) fn poll_due(&mut self, now: Mono) -> bool {
        let due = self.deadline().is_some_and(|at| at <= now);
        if due {
            self.next_poll = Some(now.after(POLL));
        }
        due
    }

    /// Reads the events that are there.
    pub(in crate::input) fn read(&self, each: &mut dyn FnMut(FileEvent<'_>)) {
        if let Some(watcher) = &self.watcher
            && let Err(e) = watcher.read(each)
        {
            log::warn!("cannot read file events: {e}");
        }
    }

    /// Begins a new round of [`Watches::dir`] calls, at whose end [`Watches::sweep`] drops what nobody asked
    /// for.
    pub(in crate::input) fn begin(&mut self) {
        self.failed = self.watcher.is_none();
        self.dirs.iter_mut().for_each(|d| d.used = false);
    }

    /// Ends the round.
    pub(in crate::input) fn sweep(&mut self) {
        let Some(watcher) = &self.watcher else { return };
        let kept: Vec<i32> = self.dirs.iter().filter(|d| d.used).map(|d| d.wd.as_raw()).collect();
        self.dirs.retain(|d| {
            // Two paths may lead to one directory and share its watch.
            if !d.used && !kept.contains(&d.wd.as_raw()) {
                watcher.remove(d.wd);
            }
            d.used
        });
        if !self.failed && self.said {
            self.said = false;
            log::info!("file events work again");
        }
    }

    /// Watches a directory, which may be gone; again if the path leads to another one now. Whether it
    /// is watched now.
    pub(in crate::input) fn dir(&mut self, path: &Path, need: WatchNeed) -> bool {
        let mask = Mask::IN_CREATE
            | Mask::IN_MOVE
            | Mask::IN_DELETE
            | Mask::IN_ATTRIB
            | Mask::IN_DELETE_SELF
            | Mask::IN_MOVE_SELF
            | Mask::IN_ONLYDIR;
        if self.dirs.iter().any(|d| d.used && d.path == path) {
            return true;
        }
        let Some(wd) = self.add(path, mask, need) else { return false };
        match self.dirs.iter_mut().find(|d| d.path == path) {
            Some(dir) => {
                let old = std::mem::replace(&mut dir.wd, wd);
                dir.used = true;
                if old != wd && !self.is_dir(old.as_raw()) {
                    self.forget(Some(old));
                }
            }
            None => self.dirs.push(WatchedDir { path: path.to_path_buf(), wd, used: true }),
        }
        true
    }

    /// Watches a file for new content.
    pub(in crate::input) fn file(&mut self, path: &Path) -> Option<WatchDescriptor> {
        self.add(path, Mask::IN_MODIFY | Mask::IN_ATTRIB, WatchNeed::Must)
    }

    fn add(&mut self, path: &Path, mask: Mask, need: WatchNeed) -> Option<WatchDescriptor> {
        let error = match self.watcher.as_ref()?.add(path, mask) {
            Ok(wd) => return Some(wd),
            Err(e) => e,
        };
        let gone = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP];
        if need == WatchNeed::Must && !gone.iter().any(|&g| error.raw_os_error() == Some(g as i32)) {
            self.fail(&error.to_string());
        }
        None
    }

    /// Drops the watch of a file.
    pub(in crate::input) fn forget(&mut self, wd: Option<WatchDescriptor>) {
        if let (Some(watcher), Some(wd)) = (&self.watcher, wd) {
            watcher.remove(wd);
        }
    }

    /// The watch ended by itself: nothing under that number will come any more.
    pub(in crate::input) fn lost_dir(&mut self, wd: i32) {
        self.dirs.retain(|d| d.wd.as_raw() != wd);
    }

    /// Whether `wd` is a directory's.
    pub(in crate::input) fn is_dir(&self, wd: i32) -> bool {
        self.dirs.iter().any(|d| d.wd.as_raw() == wd)
    }

    /// The paths under which the directory `wd` is known.
    pub(in crate::input) fn paths(&self, wd: i32) -> impl Iterator<Item = &Path> {
        self.dirs.iter().filter(move |d| d.wd.as_raw() == wd).map(|d| d.path.as_path())
    }

    fn fail(&mut self, why: &str) {
        self.failed = true;
        if !self.said {
            self.said = true;
            log::warn!("no file events ({why}): checking log files every {} s instead", POLL / 1000);
        }
    }
}
