#![forbid(unsafe_code)]
//! systemd's journal, read from its files: no library of systemd's, no child. One file is open at a time,
//! read with pread (a mapped file that is truncated kills its reader); inotify wakes. Knows no rule but as
//! the programs it names, and leaves it to others whether a sender is believed.
//!
//! journald writes `system.journal`; when that is full it gets another name and a new one is begun. So the
//! way is: read the open file to its end, then look which file begins behind the place that was reached, and
//! go on there.

mod entry;
mod find;
mod format;
pub mod json;
mod place;
mod reader;
#[cfg(test)]
mod tests;
mod unpack;

pub use entry::WantedPrograms;
pub use format::{FormatRefusal, ReadAt};

use super::lines::MAX_LINE;
use super::watch::{WatchNeed, Watches};
use super::{Item, Position, Progress, Shown, Source, Tags, Written};
use crate::base::build_part::BuildPart;
use crate::base::clock::{LineTime, Mono, Now, Wall};
use crate::base::position::time_behind;
use crate::sys::fs::{self, FileId};
use crate::sys::inotify::{Mask, WatchDescriptor};
use entry::{Entries, EntryOutcome};
use find::{ACTIVE, NewFile};
use place::{JournalPosition, Storage};
use reader::{FileWindow, JournalReader, JournalStep, WINDOW};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What an entry counts of the budget, about; what is none counts less.
const ENTRY: usize = 512;
const DAMAGED: usize = 64;
/// Looks at the directories in one turn: more are needed only if files are moved all the while.
const LOOKS: usize = 8;

/// What is said once.
#[derive(Clone, Copy)]
enum JournalTopic {
    Unknown = 1,
    Foreign = 2,
    Damaged = 4,
    Unreadable = 8,
    Missing = 16,
    Closed = 32,
}

/// The file that is being read.
struct Current {
    reader: JournalReader,
    path: PathBuf,
    id: FileId,
    storage: Storage,
    /// Its numbers go on from where the place was.
    sequence: format::Id,
    /// So many entries of the microsecond of the place are still to be left out.
    skip: u64,
    /// The watch that tells of its growth.
    wd: Option<WatchDescriptor>,
}

/// The journal source.
pub struct JournalSource {
    /// Below /run and below /var.
    dirs: [PathBuf; 2],
    watches: Watches,
    /// Of the active file in either directory.
    files: [Option<WatchDescriptor>; 2],
    entries: Entries,
    place: JournalPosition,
    current: Option<Current>,
    /// Files to read next, the first one last.
    queue: Vec<NewFile>,
    /// Files came, went or were moved.
    rescan: bool,
    /// There is a file that journald writes to.
    there: bool,
    /// When it was written what is read from now on.
    time: LineTime,
    said: u8,
    damaged: u64,
    unreadable: u64,
    cut: u64,
}

impl JournalSource {
    /// Where journald keeps the files of this machine; `None` if the machine has no name.
    #[must_use]
    #[inline(always)]
    pub fn dirs() -> Option<[PathBuf; 2]> {
        if BuildPart::Journal.is_in() { JournalSource::dirs_of_machine() } else { None }
    }

    /// The same, of a program that can read them.
    fn dirs_of_machine() -> Option<[PathBuf; 2]> {
        let name = fs::content(Path::new("/etc/machine-id")).ok()?;
        let name = name.trim_ascii_end();
        format::id(name)?;
        let name = std::ffi::OsStr::from_bytes(name);
        Some(["/run/log/journal", "/var/log/journal"].map(|dir| Path::new(dir).join(name)))
    }

    /// Whether there is a journal.
    #[must_use]
    pub fn exists(dirs: &[PathBuf; 2]) -> bool {
        dirs.iter().any(|dir| fs::facts(&dir.join(ACTIVE)).is_ok())
    }

    /// Begins to read what the rules want, from the saved place on; without one, what was written in the last
    /// `since` seconds. The first [`Source::drain`] is due at once.
    #[must_use]
    pub fn open(
        dirs: [PathBuf; 2],
        wanted: Vec<WantedPrograms>,
        saved: &[(PathBuf, Position)],
        since: u32,
        now: Now,
    ) -> JournalSource {
        let begin = || JournalPosition::since(now.wall.0.saturating_sub(since.into()));
        let place = JournalPosition::find(saved);
        let time = if place.is_some() { time_behind(saved) } else { LineTime::Stamped };
        JournalSource {
            dirs,
            watches: Watches::open(),
            files: [None; 2],
            entries: Entries::new(wanted),
            place: place.unwrap_or_else(begin),
            current: None,
            queue: Vec::new(),
            rescan: true,
            there: false,
            time,
            said: 0,
            damaged: 0,
            unreadable: 0,
            cut: 0,
        }
    }

    /// How far it was read: what [`JournalSource::open`] wants next time.
    pub fn positions(&self, each: &mut dyn FnMut(&Path, Position)) {
        self.place.save(each);
    }

    /// Entries that were passed over: damaged ones, and those whose message is packed so that it cannot be
    /// read.
    #[must_use]
    pub fn passed_over(&self) -> (u64, u64) {
        (self.damaged, self.unreadable)
    }

    /// Whether there is something to read, now or soon.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.there && self.current.is_some()
    }

    /// Says something the first time.
    fn say(&mut self, once: JournalTopic, path: &Path, what: std::fmt::Arguments<'_>) {
        let bit = once as u8;
        if self.said & bit == 0 {
            self.said |= bit;
            log::warn!("journal: {}: {what}", Shown(path.as_os_str().as_bytes()));
        }
    }

    /// Takes in what inotify has to tell.
    fn events(&mut self) {
        let mut lost: Vec<i32> = Vec::new();
        let JournalSource { dirs, watches, current, rescan, .. } = self;
        watches.read(&mut |event| {
            if watches.is_dir(event.wd) {
                // Of the directories above ours only the next step towards them matters.
                let way = |dir: &Path| {
                    let path = dir.join(std::ffi::OsStr::from_bytes(event.name));
                    dirs.iter().any(|d| d.starts_with(&path))
                };
                *rescan |= find::is_ours(event.name) || watches.paths(event.wd).any(way);
                if event.mask.contains(Mask::IN_IGNORED) {
                    lost.push(event.wd);
                }
            } else {
                // The file that is read is looked at in any case.
                let own = current.as_ref().and_then(|c| c.wd).is_some_and(|wd| wd.as_raw() == event.wd);
                *rescan |= !own || event.mask.contains(Mask::IN_Q_OVERFLOW);
            }
        });
        lost.into_iter().for_each(|wd| self.watches.lost_dir(wd));
    }

    /// Looks which files have something new, and sees to it that further ones are heard of.
    fn scan(&mut self) {
        self.rescan = false;
        self.watches.begin();
        for (dir, file) in self.dirs.iter().zip(&mut self.files) {
            watch(&mut self.watches, dir);
            let wd = self.watches.file(&dir.join(ACTIVE));
            let old = std::mem::replace(file, wd);
            if old != wd {
                self.watches.forget(old);
            }
        }
        self.watches.sweep();
        let current = self.current.as_ref().map(|c| c.id);
        let mut refused = Vec::new();
        self.queue.clear();
        for (at, dir) in self.dirs.iter().enumerate() {
            let storage = if at == 1 { Storage::Persistent } else { Storage::Volatile };
            find::list((dir, storage), &self.place, current, &mut self.queue, &mut |path, why| {
                refused.push((path.to_owned(), why));
            });
        }
        find::sort(&mut self.queue);
        for (path, why) in refused {
            match why {
                Ok(FormatRefusal::Unknown(flags)) => self.say(
                    JournalTopic::Unknown,
                    &path,
                    format_args!("written by a newer journald (flags {flags:#x}); such files are not read"),
                ),
                Ok(_) => self.say(JournalTopic::Foreign, &path, format_args!("no journal file")),
                Err(e) => self.say(JournalTopic::Closed, &path, format_args!("cannot be opened: {e}")),
            }
        }
        self.there = JournalSource::exists(&self.dirs);
        if current.is_none() && !self.there {
            let dir = self.dirs[1].clone();
            self.say(JournalTopic::Missing, &dir, format_args!("no journal yet: waiting for one"));
        }
    }

    /// Goes to another file.
    fn enter(&mut self, found: NewFile, window: &mut FileWindow<'_>) {
        let NewFile { path, storage, id, .. } = found;
        let reader = match find::open(&path) {
            Ok((file, now)) if now == id => JournalReader::open(Box::new(file)).ok(),
            _ => None,
        };
        let Some(mut reader) = reader else {
            // It was moved meanwhile: what now has this name may come later.
            self.rescan = true;
            return;
        };
        self.leave();
        window.forget();
        self.entries.forget();
        let header = reader.header();
        let (sequence, continues) = (header.sequence, self.place.continues(storage, header));
        let place = self.place;
        reader.seek(window, &|entry| place.covers(continues, entry));
        let skip = if continues { 0 } else { place.same };
        let active = path.ends_with(ACTIVE);
        let wd = self.files.get(storage as usize).copied().flatten().filter(|_| active);
        self.current = Some(Current { reader, path, id, storage, sequence, skip, wd });
    }

    /// Closes the current file.
    fn leave(&mut self) {
        if let Some(current) = self.current.take() {
            let left = current.reader.left();
            self.damaged += left;
            if left > 0 {
                self.say(JournalTopic::Damaged, &current.path, format_args!("damaged entries are skipped"));
            }
        }
    }

    /// Reads the current file until there is no more, or `left` is used up: then true.
    fn read(
        &mut self,
        left: &mut usize,
        window: &mut FileWindow<'_>,
        room: &mut [u8],
        sink: &mut dyn FnMut(Tags, Item<'_>),
    ) -> bool {
        let Some(current) = &mut self.current else { return false };
        let (mut damaged, mut unreadable) = (0, 0);
        let more = loop {
            if *left == 0 {
                break true;
            }
            let entry = match current.reader.next(window) {
                JournalStep::End => break false,
                JournalStep::Damaged => {
                    damaged += 1;
                    *left = left.saturating_sub(DAMAGED);
                    continue;
                }
                JournalStep::Entry(entry) => entry,
            };
            *left = left.saturating_sub(ENTRY);
            if current.skip > 0 {
                current.skip -= 1;
                if self.place.coincides(&entry) {
                    continue;
                }
                current.skip = 0;
            }
            let at = Wall(entry.realtime / 1_000_000);
            let written = match self.time {
                LineTime::Now => Written::Live,
                LineTime::Since(then) => Written::At(at.max(then)),
                LineTime::Stamped => Written::At(at),
            };
            match self.entries.read(&current.reader, window, room, (&entry, written), sink) {
                EntryOutcome::Done => {}
                EntryOutcome::Cut => self.cut += 1,
                EntryOutcome::Unreadable => unreadable += 1,
                // The newest one may not be whole yet. What has others behind it will never be.
                EntryOutcome::Damaged if current.reader.left() == 0 => {
                    current.reader.back();
                    self.entries.forget();
                    break false;
                }
                EntryOutcome::Damaged => damaged += 1,
            }
            self.place.pass(current.storage, current.sequence, &entry);
        };
        let path = current.path.clone();
        self.damaged += damaged;
        self.unreadable += unreadable;
        if damaged > 0 {
            self.say(JournalTopic::Damaged, &path, format_args!("damaged entries are skipped"));
        }
        if unreadable > 0 {
            let what = "messages compressed with XZ, or longer than 128 KiB, are not read";
            self.say(JournalTopic::Unreadable, &path, format_args!("{what}"));
        }
        more
    }

    /// Whether the current file has grown. One that cannot be read any more has not.
    fn grown(&mut self, window: &mut FileWindow<'_>) -> bool {
        window.forget();
        self.current.as_mut().is_some_and(|c| c.reader.refresh() == Ok(true))
    }
}

/// Reads one file, whoever wrote it, from its begin to its end. Returns how many entries were damaged, and
/// how many messages could not be unpacked.
///
/// # Errors
/// Why the file is not read.
pub fn read_all(
    file: Box<dyn ReadAt>,
    wanted: Vec<WantedPrograms>,
    sink: &mut dyn FnMut(Tags, Item<'_>),
) -> Result<(u64, u64), FormatRefusal> {
    let (mut buf, mut room) = ([0; WINDOW], [0; MAX_LINE]);
    let mut window = FileWindow::new(&mut buf);
    let mut reader = JournalReader::open(file)?;
    let mut entries = Entries::new(wanted);
    let (mut damaged, mut unreadable) = (0, 0);
    loop {
        let entry = match reader.next(&mut window) {
            JournalStep::End => return Ok((damaged + reader.left(), unreadable)),
            JournalStep::Damaged => {
                damaged += 1;
                continue;
            }
            JournalStep::Entry(entry) => entry,
        };
        let written = Written::At(Wall(entry.realtime / 1_000_000));
        match entries.read(&reader, &mut window, &mut room, (&entry, written), sink) {
            EntryOutcome::Done | EntryOutcome::Cut => {}
            EntryOutcome::Damaged => damaged += 1,
            EntryOutcome::Unreadable => unreadable += 1,
        }
    }
}

/// Watches a directory, or what there is of the way to it.
fn watch(watches: &mut Watches, dir: &Path) {
    for _ in 0..LOOKS {
        let found = dir.ancestors().find(|path| watches.dir(path, WatchNeed::Must));
        // The next step may have been made just before the watch was set.
        let ahead = dir.ancestors().take_while(|path| Some(*path) != found);
        if !ahead.into_iter().any(|path| fs::facts(path).is_ok()) {
            return;
        }
    }
}

impl Source for JournalSource {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watches.fd()
    }

    fn deadline(&self) -> Option<Mono> {
        if self.rescan || !self.queue.is_empty() { Some(Mono::default()) } else { self.watches.deadline() }
    }

    fn drain(&mut self, now: Now, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> Progress {
        // On the stack, which is there anyway.
        let (mut buf, mut room) = ([0; WINDOW], [0; MAX_LINE]);
        let mut window = FileWindow::new(&mut buf);
        let mut left = budget;
        self.events();
        self.rescan |= self.watches.poll_due(now.mono);
        self.grown(&mut window);
        let mut looks = 0;
        loop {
            if self.read(&mut left, &mut window, &mut room, sink) {
                return Progress::More;
            }
            if self.rescan && looks < LOOKS {
                looks += 1;
                self.scan();
                // Once there is a newer file nothing is added to this one: what is in it now is all.
                if self.grown(&mut window) && self.read(&mut left, &mut window, &mut room, sink) {
                    return Progress::More;
                }
            }
            match self.queue.pop() {
                Some(found) => self.enter(found, &mut window),
                None if self.rescan && looks < LOOKS => {}
                None => break,
            }
        }
        self.time = LineTime::Now;
        Progress::Idle
    }

    fn cut_lines(&self) -> u64 {
        self.cut
    }
}
