#![forbid(unsafe_code)]
//! Every source of the daemon behind one face: what to wait for, when to look, and whose turn it is to read.
//! Knows rules as bits only, and nothing of what becomes of the lines.
//!
//! A rule with source=auto reads the journal if there is one (`setup` has looked), else its files, else what
//! `logread -f` says. Where neither is there yet, both are waited for; the first that has something is it
//! from then on, and the other counts no more: nothing is counted twice.

mod sight;
mod wants;

use crate::base::build_part::BuildPart;
use crate::base::clock::{Mono, Now};
use crate::base::count::count;
use crate::input::command::CommandSource;
use crate::input::journal::JournalSource;
use crate::input::kmsg::{self, Kmsg};
use crate::input::syslog::{SocketPlace, Syslog};
use crate::input::tail::{Recent, Tail};
use crate::input::{Item, Position, Progress, Source, Tags};
use crate::sys::child::{self, Child};
use crate::sys::poll::Ready;
use crate::sys::process;
pub(super) use sight::SightChange;
use sight::SourceSight;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
pub(super) use wants::{SourceSettings, Wants};

/// Commands at most.
const COMMANDS: usize = 8;
/// Slots: files, the kernel's log, two sockets, the journal, and the commands.
const TAIL: usize = 0;
const KMSG: usize = 1;
const SOCKETS: [usize; 2] = [2, 3];
const JOURNAL: usize = 4;
const FIRST_COMMAND: usize = 5;
/// Sources at most, so that the loop can keep their descriptors on the stack.
pub(super) const MAX: usize = FIRST_COMMAND + COMMANDS;
/// Bytes that one turn of the loop reads at most, so that signals are heard under load.
const BUDGET: usize = 1 << 20;

/// Descriptors that are for something else than logs, at least.
const OTHER_FILES: usize = 64;

/// What shows the log of busybox and OpenWrt as it is written.
const RING: [&str; 2] = ["logread", "-f"];
/// Starts after which a ring that has said nothing is taken for none.
const RING_STARTS: u64 = 6;
/// Names in the list of positions.
const KMSG_NAME: &str = "kmsg";

/// Sockets of syslog daemons that are open.
pub(super) type SyslogSockets = [Option<Syslog>; 2];

/// Opens the sockets that rules want; those that are open stay so.
pub(super) fn open_sockets(tags: Tags, settings: &SourceSettings, open: &mut SyslogSockets) {
    for (socket, place) in open.iter_mut().zip(settings.places()) {
        *socket = open_socket(tags, place, socket.take());
    }
}

/// Who opens the sockets of syslog daemons.
pub(super) enum SocketsFrom {
    /// This process.
    Here,
    /// Another one has: what it gave.
    Given([Option<OwnedFd>; 2]),
}

/// What a new configuration may find open.
#[derive(Default)]
pub(super) struct KeptSources {
    kmsg: Option<Kmsg>,
    sockets: SyslogSockets,
    commands: Commands,
    ring: bool,
    ending: Vec<Child>,
}

impl KeptSources {
    /// These sockets are open, and these programs have not ended yet.
    pub(super) fn of(sockets: SyslogSockets, ending: Vec<Child>) -> KeptSources {
        KeptSources { sockets, ending, ..KeptSources::default() }
    }
}

/// Commands that run.
#[derive(Default)]
struct Commands(Vec<CommandSource>);

impl Commands {
    /// The command that is `argv`; a new one if it does not run.
    fn take(&mut self, argv: Vec<String>, tags: Tags) -> CommandSource {
        match self.0.iter().position(|command| command.argv() == argv) {
            Some(at) => {
                let mut command = self.0.swap_remove(at);
                command.set_tags(tags);
                command
            }
            None => CommandSource::new(argv, tags),
        }
    }
}

/// All sources. Each has a slot in the lists that the loop keeps.
pub(super) struct Sources {
    tail: Tail,
    kmsg: Option<Kmsg>,
    sockets: [Option<Syslog>; 2],
    journal: Option<JournalSource>,
    commands: Vec<CommandSource>,
    /// Rules with source=auto that have not found their source yet.
    undecided: Tags,
    /// Those that found another source than their files.
    not_files: Tags,
    /// The last of the commands is the ring.
    ring: bool,
    /// The ring was tried.
    ring_tried: bool,
    sight: SourceSight,
    /// Programs that were killed and have not ended yet.
    ending: Vec<Child>,
    /// By slot: its budget was used up.
    more: [bool; MAX],
}

impl Sources {
    /// Opens what is wanted. What has a saved position continues there; what is open already and still wanted
    /// stays so.
    pub(super) fn open(
        wants: Wants,
        settings: &SourceSettings,
        saved: &[(PathBuf, Position)],
        now: Now,
        (from, mut kept): (SocketsFrom, KeptSources),
    ) -> Sources {
        let (sight, by_itself) = (SourceSight::of(&wants), wants.by_itself);
        let programs = Some(wants.journal).filter(|programs| !programs.is_empty());
        let journal = programs
            .zip(JournalSource::dirs())
            .map(|(programs, dirs)| JournalSource::open(dirs, programs, saved, settings.journal_since, now));
        let patterns = wants.globs.iter().filter(|(glob, _)| glob.literal().is_none()).count();
        let mut sources = Sources {
            tail: Tail::open(wants.globs, recent(settings.recent, patterns), saved, now),
            kmsg: open_kmsg(wants.kmsg, kept.kmsg, saved),
            sockets: kept.sockets,
            journal,
            commands: Vec::new(),
            undecided: wants.auto,
            not_files: Tags::default(),
            ring: false,
            ring_tried: false,
            sight,
            ending: kept.ending,
            more: [false; MAX],
        };
        sources.tail.expect_missing(by_itself);
        sources.tail.unwrap(wants.containers);
        match from {
            SocketsFrom::Given(given) if BuildPart::Observer.is_in() => {
                sources.take_sockets(settings, given, wants.syslog);
            }
            _ => open_sockets(wants.syslog, settings, &mut sources.sockets),
        }
        for (argv, tags) in wants.commands {
            sources.commands.push(kept.commands.take(argv, tags));
        }
        if !wants.auto.is_empty() && kept.ring {
            sources.start_ring(kept.commands.take(ring(), wants.auto));
        }
        let left = kept.commands.0.iter_mut().filter_map(CommandSource::stop);
        sources.ending.extend(left);
        sources
    }

    /// Takes a new configuration.
    pub(super) fn reopen(&mut self, wants: Wants, settings: &SourceSettings, now: Now, from: SocketsFrom) {
        let mut places = Vec::new();
        self.positions(&mut |path, position| places.push((path.to_owned(), position)));
        let kept = KeptSources {
            kmsg: self.kmsg.take(),
            sockets: std::mem::take(&mut self.sockets),
            commands: Commands(std::mem::take(&mut self.commands)),
            ring: self.ring,
            ending: std::mem::take(&mut self.ending),
        };
        *self = Sources::open(wants, settings, &places, now, (from, kept));
    }

    /// Takes sockets that another process has opened, unless it has them already.
    fn take_sockets(&mut self, settings: &SourceSettings, given: [Option<OwnedFd>; 2], tags: Tags) {
        for ((socket, place), given) in self.sockets.iter_mut().zip(settings.places()).zip(given) {
            let same =
                socket.take().filter(|_| given.is_some()).filter(|old| Some(old.place()) == place.as_ref());
            let new = || given.zip(place).map(|(fd, place)| Syslog::lent(place, fd, tags));
            *socket = same.or_else(new);
            socket.iter_mut().for_each(|socket| socket.set_tags(tags));
        }
    }

    /// The source of a slot.
    fn source(&self, slot: usize) -> Option<&dyn Source> {
        match slot {
            TAIL => Some(&self.tail),
            KMSG => self.kmsg.as_ref().map(|s| s as _),
            JOURNAL if BuildPart::Journal.is_in() => self.journal.as_ref().map(|s| s as _),
            FIRST_COMMAND.. => self.commands.get(slot - FIRST_COMMAND).map(|s| s as _),
            _ => self.sockets.get(slot.checked_sub(SOCKETS[0])?)?.as_ref().map(|s| s as _),
        }
    }

    fn source_mut(&mut self, slot: usize) -> Option<&mut dyn Source> {
        match slot {
            TAIL => Some(&mut self.tail),
            KMSG => self.kmsg.as_mut().map(|s| s as _),
            JOURNAL if BuildPart::Journal.is_in() => self.journal.as_mut().map(|s| s as _),
            FIRST_COMMAND.. => self.commands.get_mut(slot - FIRST_COMMAND).map(|s| s as _),
            _ => self.sockets.get_mut(slot.checked_sub(SOCKETS[0])?)?.as_mut().map(|s| s as _),
        }
    }

    /// What the source of a slot waits for.
    pub(super) fn fd(&self, slot: usize) -> Option<BorrowedFd<'_>> {
        self.source(slot).and_then(Source::fd)
    }

    /// When to drain even if nothing is readable; a moment that has passed means now.
    pub(super) fn deadline(&self) -> Option<Mono> {
        (0..MAX).filter_map(|slot| self.due(slot)).chain(self.sight.deadline()).min()
    }

    /// Whether a source was left before all was read that it had.
    pub(super) fn has_more(&self) -> bool {
        self.more.contains(&true)
    }

    fn due(&self, slot: usize) -> Option<Mono> {
        let more = self.more.get(slot) == Some(&true);
        if more { Some(Mono::default()) } else { self.source(slot)?.deadline() }
    }

    /// Lets every source that is ready or due read; without `ready`, every source. They share one budget
    /// evenly.
    pub(super) fn drain(&mut self, now: Now, ready: Option<&[Ready]>, sink: &mut dyn FnMut(Tags, Item<'_>)) {
        let turn = |sources: &Sources, slot: usize| {
            let due = sources.due(slot).is_some_and(|at| at <= now.mono);
            sources.source(slot).is_some()
                && (due || ready.is_none_or(|r| r.get(slot).is_some_and(|r| *r != Ready::No)))
        };
        let busy = (0..MAX).filter(|&slot| turn(self, slot)).count();
        for slot in 0..MAX {
            if turn(self, slot) {
                self.drain_one(now, slot, BUDGET / busy.max(1), sink);
            }
            // Before the ring is read: what is in a file now may be in there, too.
            if slot == TAIL && !self.undecided.is_empty() {
                self.decide();
            }
        }
    }

    fn drain_one(&mut self, now: Now, slot: usize, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) {
        let never = if slot == TAIL { self.not_files } else { Tags::default() };
        let Some(source) = self.source_mut(slot) else { return };
        let mut said = false;
        let progress = source.drain(now, budget, &mut |tags, item| {
            said = true;
            let tags = tags.without(never);
            if !tags.is_empty() {
                sink(tags, item);
            }
        });
        if let Some(more) = self.more.get_mut(slot) {
            *more = progress == Progress::More;
        }
        if said && self.ring && slot + 1 == FIRST_COMMAND + self.commands.len() {
            self.not_files = self.not_files.and(self.undecided);
            self.undecided = Tags::default();
        }
    }

    /// Looks what there is for the rules that have not found their source.
    fn decide(&mut self) {
        self.undecided = self.undecided.without(self.tail.found());
        let none = self.undecided.is_empty();
        if !none && !std::mem::replace(&mut self.ring_tried, true) && has_ring() {
            self.start_ring(CommandSource::new(ring(), self.undecided));
        }
        if !self.ring {
            return;
        }
        let Some(ring) = self.commands.last_mut() else { return };
        ring.set_tags(self.undecided);
        if none || ring.starts() >= RING_STARTS {
            self.ring = false;
            let left = self.commands.pop().and_then(|mut ring| ring.stop());
            self.ending.extend(left);
        }
    }

    fn start_ring(&mut self, ring: CommandSource) {
        (self.ring, self.ring_tried) = (true, true);
        self.commands.push(ring);
    }

    /// Looks which programs have ended: to be called when some child has.
    pub(super) fn child_ended(&mut self) {
        self.commands.iter_mut().for_each(CommandSource::child_ended);
        self.ending.retain(|child| child.ended().is_none());
    }

    /// Ends what would outlive the daemon.
    pub(super) fn stop(&mut self) {
        self.sockets.iter().flatten().for_each(Syslog::close);
        self.commands.clear();
    }

    /// Whether something was opened since the last call that has a position of its own.
    pub(super) fn take_opened(&mut self) -> bool {
        self.tail.take_opened()
    }

    /// Begins with what is followed from its end on only.
    pub(super) fn open_ends(&mut self) {
        self.tail.open_ends();
    }

    /// How far each source has read: what [`Sources::open`] wants next time. Files go by their path, which
    /// begins with `/`; a source of another kind by a name of its own, which does not.
    pub(super) fn positions(&self, each: &mut dyn FnMut(&Path, Position)) {
        self.tail.positions(each);
        if let Some(position) = self.kmsg.as_ref().and_then(Kmsg::position) {
            each(Path::new(KMSG_NAME), position);
        }
        if let Some(journal) = &self.journal {
            journal.positions(each);
        }
    }

    /// Writes what was lost to the log.
    pub(super) fn report(&self) {
        let cut: u64 = (0..MAX).filter_map(|slot| self.source(slot)).map(Source::cut_lines).sum();
        let truncated: u64 = self.sockets.iter().flatten().map(Syslog::truncated).sum();
        let starts: u64 = self.commands.iter().map(CommandSource::starts).sum();
        let (damaged, packed) = self.journal.as_ref().map_or((0, 0), JournalSource::passed_over);
        let lost = self.kmsg.as_ref().map_or(0, Kmsg::lost);
        log::info!(
            "{self}: {cut} long lines cut, {truncated} datagrams cut off, {lost} lines of the kernel lost, \
             {starts} starts of commands, {damaged} damaged and {packed} unreadable entries of the journal"
        );
    }
}

/// Whether there is a program that shows the log of busybox and OpenWrt.
pub(super) fn has_ring() -> bool {
    child::find(RING[0]).is_some()
}

/// How that is run.
pub(super) fn ring() -> Vec<String> {
    RING.map(String::from).to_vec()
}

/// What is read, for people.
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.journal.is_some() {
            f.write_str("the journal, ")?;
        }
        if self.kmsg.is_some() {
            write!(f, "{}, ", kmsg::PATH)?;
        }
        for socket in self.sockets.iter().flatten() {
            write!(f, "{}, ", socket.place())?;
        }
        for command in &self.commands {
            write!(f, "'{}', ", command.argv().join(" "))?;
        }
        write!(f, "{}", count(self.tail.open_files(), "file"))
    }
}

fn open_kmsg(tags: Tags, previous: Option<Kmsg>, saved: &[(PathBuf, Position)]) -> Option<Kmsg> {
    if tags.is_empty() {
        return None;
    }
    if let Some(mut kmsg) = previous {
        kmsg.set_tags(tags);
        return Some(kmsg);
    }
    let at = saved.iter().find(|(name, _)| name == Path::new(KMSG_NAME)).map(|(_, at)| *at);
    let opened = Kmsg::open(tags, at);
    opened.inspect_err(|e| log::warn!("{}: {e}; rules with source=kmsg read nothing", kmsg::PATH)).ok()
}

fn open_socket(tags: Tags, place: Option<SocketPlace>, previous: Option<Syslog>) -> Option<Syslog> {
    let place = place.filter(|_| !tags.is_empty());
    let (mut same, other) = match previous {
        Some(previous) if Some(previous.place()) == place.as_ref() => (Some(previous), None),
        other => (None, other),
    };
    if let Some(other) = other {
        other.close();
    }
    match &mut same {
        Some(socket) => {
            socket.set_tags(tags);
            same
        }
        None => {
            let shown = place.as_ref()?.to_string();
            let opened = Syslog::open(place?, tags);
            opened.inspect_err(|e| log::warn!("{shown}: {e}; nothing can be forwarded to it")).ok()
        }
    }
}

/// What is kept open of each of so many `patterns` of names.
fn recent((limit, window): (u32, u32), patterns: usize) -> Recent {
    const LEAST: usize = 16;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // 0 says: no limit but that of the system. A file that rests may be kept beside as many that do not.
    let room = (process::files_max() / 2).saturating_sub(OTHER_FILES) / patterns.max(1);
    let room = room.max(LEAST);
    let limit = if limit == 0 { usize::MAX } else { limit }.min(room);
    let window = if window == 0 { u64::MAX } else { u64::from(window) };
    Recent { limit, window }
}
