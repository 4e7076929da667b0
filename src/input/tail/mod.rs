#![forbid(unsafe_code)]
//! Follows log files by name, through every kind of rotation. One object for all files of all rules: one
//! inotify descriptor, one buffer. Knows no rule but as a bit, and stores no position itself.

mod follow;
mod known;
mod marks;
mod name;
mod reader;
mod ready;
mod rotate;
mod scan;
#[cfg(test)]
mod tests;
mod turn;

use super::glob::{Fit, Glob};
use super::watch::Watches;
use super::{Item, Position, Progress, Source, Tags};
use crate::base::clock::{Mono, Now};
use crate::sys::buffer::Buffer;
use crate::sys::clock;
use crate::sys::inotify::{FileEvent, Mask};
use name::WatchedName;
use reader::{FileReader, LARGE, SMALL};
use ready::{ReadyNames, WatchPlaces};
use smallvec::SmallVec;
use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How many of the files that one pattern with wildcards matches are followed.
#[derive(Debug, Clone, Copy)]
pub struct Recent {
    /// The newest so many; at least 1.
    pub limit: usize,
    /// Only those that changed within so many seconds.
    pub window: u64,
}

struct PathPattern {
    glob: Glob,
    tags: Tags,
    said_limit: bool,
}

/// The file source.
pub struct Tail {
    patterns: Vec<PathPattern>,
    recent: Recent,
    names: Vec<WatchedName>,
    watches: Watches,
    buffer: Buffer,
    /// Whose files a container's engine writes, and room for lines without its wrappers.
    containers: Tags,
    unwrapped: Option<Buffer>,
    /// More than the first page of the buffer was used.
    warm: bool,
    /// Directories changed: expand all patterns again.
    rescan: bool,
    /// When all patterns were last expanded: files born later are read from their start. In
    /// nanoseconds since 1970.
    scanned: u64,
    /// Whose turn it is.
    turn: usize,
    ready: ReadyNames,
    places: WatchPlaces,
    /// What `found` has answered, until something happens.
    found: Cell<Option<Tags>>,
    /// A name is gone, and still among the others.
    parting: bool,
    /// A file may have two names.
    aliased: bool,
    cut: u64,
    /// A file was opened since somebody asked.
    opened: bool,
}

impl Tail {
    /// Begins to follow what fits the patterns. A name in `saved` continues where it was, also if the file
    /// was renamed since; others begin at their end, except those that came while we were away. The first
    /// [`Source::drain`] is due at once.
    #[must_use]
    pub fn open(
        patterns: Vec<(Glob, Tags)>,
        recent: Recent,
        saved: &[(PathBuf, Position)],
        now: Now,
    ) -> Tail {
        // Where no rule wants a file the kernel has nothing to tell.
        let watches = if patterns.is_empty() { Watches::none() } else { Watches::open() };
        let mut tail = Tail {
            patterns: patterns
                .into_iter()
                .map(|(glob, tags)| PathPattern { glob, tags, said_limit: false })
                .collect(),
            recent: Recent { limit: recent.limit.max(1), ..recent },
            names: Vec::new(),
            watches,
            buffer: Buffer::new(LARGE),
            containers: Tags(0),
            unwrapped: None,
            warm: false,
            rescan: false,
            scanned: clock::wall_nanos(),
            turn: 0,
            ready: ReadyNames::Any,
            places: WatchPlaces::default(),
            found: Cell::new(None),
            parting: false,
            aliased: false,
            cut: 0,
            opened: false,
        };
        tail.scan(now, Some(saved));
        tail
    }

    /// Opens what is only followed from its end on, before anything is read: that is known then.
    pub fn open_ends(&mut self) {
        for i in 0..self.names.len() {
            if self.names.get(i).is_some_and(|name| name.old) {
                self.check(i);
            }
        }
    }

    /// Files that these want are written by a container's engine: they get what the service said.
    pub fn unwrap(&mut self, tags: Tags) {
        self.containers = tags;
        self.unwrapped = (!tags.is_empty()).then(|| Buffer::new(LARGE));
    }

    /// That a file which only these want is missing at the start is no news.
    pub fn expect_missing(&mut self, tags: Tags) {
        for name in self.names.iter_mut().filter(|name| name.tags.without(tags).is_empty()) {
            name.expect_missing();
        }
    }

    /// How far each name was read: what [`Tail::open`] wants next time. Zeros for a name that no file has.
    /// Where nothing was read yet, the mark is the time until which all was. Then come older generations.
    pub fn positions(&self, each: &mut dyn FnMut(&Path, Position)) {
        for name in &self.names {
            let blank = Position { tail: name.known.blank, ..Position::default() };
            match &name.head {
                Some(head) if head.is_at_start() => {
                    each(&name.path, Position { dev: head.id.dev, ino: head.id.ino, ..blank });
                }
                Some(head) => each(&name.path, head.position()),
                None if name.alias.is_some() || name.old => continue,
                None => each(&name.path, blank),
            }
            if let Some(late) = name.late.as_ref().filter(|late| !late.is_at_start()) {
                each(&name.path, late.position());
            }
            if name.head.as_ref().is_none_or(FileReader::is_at_start) {
                name.known.recent(&mut |at| each(&name.path, at));
            }
        }
    }

    /// How many files are open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.names.iter().map(|n| usize::from(n.head.is_some()) + usize::from(n.late.is_some())).sum()
    }

    /// Whether a file was opened since the last call: its position should be kept, so that a crash loses
    /// nothing of it.
    pub fn take_opened(&mut self) -> bool {
        std::mem::take(&mut self.opened)
    }

    /// The files that are read for somebody: the first, and how many there are.
    #[must_use]
    pub fn read_for(&self, tags: Tags) -> Option<(&Path, usize)> {
        let mut read = self.names.iter().filter(|n| n.is_read() && !n.tags.within(tags).is_empty());
        let first = read.next()?;
        Some((&first.path, 1 + read.count()))
    }

    /// Why a file that somebody wants cannot be read.
    #[must_use]
    pub fn trouble_of(&self, tags: Tags) -> Option<String> {
        self.names.iter().filter(|n| !n.tags.within(tags).is_empty()).find_map(WatchedName::unreadable)
    }

    /// What somebody wants to be read: the first path as it was written, and how many there are.
    #[must_use]
    pub fn wanted_by(&self, tags: Tags) -> Option<(&[u8], usize)> {
        let mut wanted = self.patterns.iter().filter(|p| !p.tags.within(tags).is_empty());
        let first = wanted.next()?;
        Some((first.glob.text(), 1 + wanted.count()))
    }

    /// Whether a drain would find something without an event.
    fn pending(&self) -> bool {
        self.rescan || self.any_ready()
    }

    /// Takes in what inotify has to tell. True when names came, went or moved.
    fn events(&mut self) -> bool {
        let mut moved = false;
        let mut fresh: Vec<(PathBuf, bool)> = Vec::new();
        let watches = std::mem::replace(&mut self.watches, Watches::none());
        let mut lost: Vec<i32> = Vec::new();
        watches.read(&mut |event| {
            if watches.is_dir(event.wd) {
                moved = true;
                self.stir();
                if event.mask.intersects(
                    Mask::IN_DELETE_SELF | Mask::IN_MOVE_SELF | Mask::IN_IGNORED | Mask::IN_UNMOUNT,
                ) {
                    self.rescan = true;
                    if event.mask.contains(Mask::IN_IGNORED) {
                        lost.push(event.wd);
                    }
                }
                for dir in watches.paths(event.wd) {
                    self.dir_event(dir, &event, &mut fresh);
                }
            } else if event.mask.contains(Mask::IN_Q_OVERFLOW) {
                moved = true;
                self.look_at_everything();
            } else {
                self.file_event(&event);
            }
        });
        self.watches = watches;
        lost.into_iter().for_each(|wd| self.watches.lost_dir(wd));
        for (path, created) in fresh {
            self.consider(path, created);
        }
        moved
    }

    fn file_event(&mut self, event: &FileEvent<'_>) {
        let Some(i) = self.place_of(event.wd) else { return };
        let Some(name) = self.names.get_mut(i) else { return };
        if let Some(reader) = name.watched(event.wd) {
            if event.mask.intersects(Mask::IN_IGNORED | Mask::IN_UNMOUNT) {
                reader.wd = None;
            }
            reader.dirty = true;
            name.check |= !event.mask.contains(Mask::IN_MODIFY);
        }
        self.wake(i);
    }

    /// Something happened to a name in a directory.
    fn dir_event(&mut self, dir: &Path, event: &FileEvent<'_>, fresh: &mut Vec<(PathBuf, bool)>) {
        if event.name.is_empty() {
            // Who may write in it has changed, perhaps.
            self.names.iter_mut().filter(|n| n.path.parent() == Some(dir)).for_each(|n| n.check = true);
            return;
        }
        let path = dir.join(OsStr::from_bytes(event.name));
        let mut known = false;
        for name in &mut self.names {
            let own = name.path == path;
            if own || name.target.as_ref().is_some_and(|t| *t == path) {
                name.check = true;
                known |= own;
            }
        }
        let appeared = event.mask.intersects(Mask::IN_CREATE | Mask::IN_MOVED_TO | Mask::IN_ATTRIB);
        for pattern in &self.patterns {
            match pattern.glob.judge(&path) {
                Fit::No => {}
                // A change of rights opens a directory as its creation does.
                Fit::Above => self.rescan = true,
                Fit::File if appeared && !known && !event.mask.contains(Mask::IN_ISDIR) => {
                    if fresh.len() >= self.recent.limit {
                        self.rescan = true; // so many at once: see which are the newest
                        return;
                    }
                    fresh.push((path, event.mask.contains(Mask::IN_CREATE)));
                    return;
                }
                Fit::File => {}
            }
        }
    }

    /// Events were lost, or there are none.
    fn look_at_everything(&mut self) {
        self.rescan = true;
        self.stir();
        for name in &mut self.names {
            name.check = true;
            for reader in [&mut name.head, &mut name.late].into_iter().flatten() {
                reader.dirty = true;
            }
        }
    }

    /// Lets every name read one piece in turn until all are done or the budget is.
    fn read_all(&mut self, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> Progress {
        let mut left = budget;
        loop {
            let ready = std::mem::replace(&mut self.ready, ReadyNames::Only(SmallVec::new()));
            let some = match &ready {
                ReadyNames::Any => None,
                ReadyNames::Only(some) => Some(some.as_slice()),
            };
            for n in 0..some.map_or(self.names.len(), <[usize]>::len) {
                let i = match some {
                    Some(some) => some.get(n).copied().unwrap_or(usize::MAX),
                    None => {
                        self.turn = if self.turn + 1 < self.names.len() { self.turn + 1 } else { 0 };
                        self.turn
                    }
                };
                let (bytes, more) = self.follow(i, sink);
                if more {
                    self.wake(i);
                }
                left = left.saturating_sub(bytes);
                if left == 0 {
                    match some {
                        None => self.stir(),
                        Some(some) => self.wake_first(some.get(n + 1..).unwrap_or_default()),
                    }
                    return Progress::More;
                }
            }
            if matches!(&self.ready, ReadyNames::Only(some) if some.is_empty()) {
                return Progress::Idle;
            }
        }
    }
}

impl Source for Tail {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watches.fd()
    }

    fn deadline(&self) -> Option<Mono> {
        if self.pending() { Some(Mono::default()) } else { self.watches.deadline() }
    }

    fn drain(&mut self, now: Now, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> Progress {
        self.events();
        if self.watches.poll_due(now.mono) {
            self.look_at_everything();
        }
        if self.rescan {
            self.scan(now, None);
        }
        let progress = self.read_all(budget, sink);
        if std::mem::take(&mut self.parting) {
            self.bury();
        }
        if progress == Progress::Idle && std::mem::take(&mut self.warm) {
            self.buffer.shrink(SMALL);
        }
        if self.rescan { Progress::More } else { progress }
    }

    fn cut_lines(&self) -> u64 {
        self.cut
    }
}
