#![forbid(unsafe_code)]
//! The enforcer's end of what it and the observer say to each other: the process, what it was last known to
//! have read, and when it is started again. Decides nothing.

use super::sources::{SourceSettings, SyslogSockets, Wants, open_sockets};
use super::wire::{
    GivenSockets, HitReports, MESSAGE_MAX, ObserverCounts, ObserverNews, ObserverOrder, Offender,
};
use crate::base::bytes::to_path;
use crate::base::clock::{Mono, Now};
use crate::base::position::{Position, WRITTEN};
use crate::control::proto::Sight;
use crate::sys::child::{Child, ChildExit};
use crate::sys::poll::{Ready, wait};
use crate::sys::runner::ProgramDesk;
use crate::sys::seqpacket::{self, PacketWait};
use crate::sys::{child, clock};
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// The first pause before it is started again, and the longest, in milliseconds.
const PAUSE: u64 = 100;
const PAUSE_MAX: u64 = 300_000;
/// One that ran so long, in milliseconds, ran well.
const WELL: u64 = 60_000;
/// Longest wait for what it was told to do, in milliseconds: what it first reads may be much.
const ANSWER_MAX: u64 = 60_000;
/// Nanoseconds of a second.
const NANOS: u64 = 1_000_000_000;

/// What a rule was last known to see.
pub(super) struct SeenRule {
    pub(super) sight: Sight,
    pub(super) kind: Box<str>,
    pub(super) text: Box<str>,
}

/// What it told that nobody has dealt with yet.
#[derive(Default, Clone, Copy)]
pub(super) struct ReadingNews {
    /// Something was read.
    pub(super) read: bool,
    /// A file was opened.
    pub(super) opened: bool,
    /// What rules see has changed.
    pub(super) sight: bool,
}

impl ReadingNews {
    pub(super) fn add(&mut self, news: ObserverNews) {
        match news {
            ObserverNews::Read => self.read = true,
            ObserverNews::Opened => self.opened = true,
            ObserverNews::Sight => self.sight = true,
        }
    }
}

/// Messages for the log that are taken of it, and for how long that counts, in milliseconds: a file that is
/// not there, or a program that ends again and again, is told of for each.
const LOG_MAX: u32 = 2000;
const LOG_SPAN: u64 = 3_600_000;

/// What becomes of a message for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogVerdict {
    /// It is written.
    Written,
    /// It is the first that is not, which is written in its place.
    LastWritten,
    /// Nothing.
    Dropped,
}

/// How much it writes to the log: whoever has his code run there must not fill a disk.
#[derive(Default)]
pub(super) struct LogLimit {
    since: Mono,
    count: u32,
}

impl LogLimit {
    pub(super) fn take(&mut self, now: Mono) -> LogVerdict {
        if now.since(self.since) >= LOG_SPAN {
            *self = LogLimit { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        match self.count {
            ..=LOG_MAX => LogVerdict::Written,
            count if count == LOG_MAX + 1 => LogVerdict::LastWritten,
            _ => LogVerdict::Dropped,
        }
    }
}

/// A process that runs.
struct RunningObserver {
    fd: OwnedFd,
    child: Child,
    desk: ProgramDesk,
    since: Mono,
}

/// The observer, from here.
pub(super) struct ObserverLink {
    running: Option<RunningObserver>,
    /// What it is to read.
    pub(super) wants: Wants,
    pub(super) settings: SourceSettings,
    /// Opened here, and read there.
    sockets: SyslogSockets,
    /// Programs of one that is gone, which were killed and have not ended yet.
    ending: Vec<Child>,
    /// When it is started again.
    again: Option<Mono>,
    pause: u64,
    /// How far it had read when it was last asked, and the second.
    places: Vec<(PathBuf, Position)>,
    places_at: u64,
    pub(super) log_limit: LogLimit,
    pub(super) news: ReadingNews,
    pub(super) reports: HitReports,
    pub(super) counts: ObserverCounts,
    pub(super) seen: Vec<SeenRule>,
    pub(super) offenders: Vec<Offender>,
}

impl ObserverLink {
    pub(super) fn new(wants: Wants, settings: SourceSettings) -> ObserverLink {
        let mut this = ObserverLink {
            running: None,
            wants,
            settings,
            sockets: SyslogSockets::default(),
            ending: Vec::new(),
            again: None,
            pause: PAUSE,
            places: Vec::new(),
            places_at: 0,
            log_limit: LogLimit::default(),
            news: ReadingNews::default(),
            reports: HitReports::Unwanted,
            counts: ObserverCounts::default(),
            seen: Vec::new(),
            offenders: Vec::new(),
        };
        open_sockets(this.wants.syslog, &this.settings, &mut this.sockets);
        this
    }

    /// Takes what a new configuration wants to read.
    pub(super) fn configure(&mut self, wants: Wants, settings: SourceSettings) {
        (self.wants, self.settings) = (wants, settings);
        open_sockets(self.wants.syslog, &self.settings, &mut self.sockets);
        let programs = self.wants.programs();
        self.running.iter_mut().for_each(|running| running.desk.configure(programs.clone()));
    }

    /// Forks it. `work` is what it does there, with its ends.
    ///
    /// # Errors
    /// No room for another process, no descriptor left.
    pub(super) fn fork(
        programs: Vec<crate::sys::runner::RunProgram>,
        work: &mut dyn FnMut([OwnedFd; 2]),
    ) -> io::Result<ForkedObserver> {
        let (ours, theirs) = seqpacket::pair()?;
        let (desk, asks) = seqpacket::pair()?;
        let child = child::fork_apart([theirs, asks], work)?;
        Ok(ForkedObserver(RunningObserver {
            fd: ours,
            child,
            desk: ProgramDesk::new(desk, programs),
            since: clock::mono(),
        }))
    }

    /// It was forked.
    pub(super) fn set_running(&mut self, forked: ForkedObserver) {
        (self.running, self.again) = (Some(forked.0), None);
        self.reports = HitReports::Unwanted;
    }

    /// Which sockets go with an order.
    pub(super) fn given(&self) -> GivenSockets {
        let [unix, udp] = &self.sockets;
        GivenSockets { unix: unix.is_some(), udp: udp.is_some() }
    }

    /// Its number.
    pub(super) fn pid(&self) -> Option<i32> {
        self.running.as_ref().map(|running| running.child.number())
    }

    /// For polling.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.fd.as_fd())
    }

    /// Likewise, for what it wants to have run.
    pub(super) fn desk_fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.desk.fd())
    }

    /// When it is to be started, or what it told is to be dealt with.
    pub(super) fn due(&self) -> Option<Mono> {
        let ReadingNews { read, opened, sight } = self.news;
        if read || opened || sight { Some(Mono(0)) } else { self.again }
    }

    pub(super) fn send(&self, order: &ObserverOrder) -> Result<(), Errno> {
        let fd = self.fd().ok_or(Errno::ESRCH)?;
        let sockets: Vec<BorrowedFd<'_>> = match order {
            ObserverOrder::Start(_) | ObserverOrder::Reload(_) => {
                self.sockets.iter().flatten().map(|s| s.socket()).collect()
            }
            _ => Vec::new(),
        };
        seqpacket::send(fd, &order.write(), &sockets, PacketWait::None)
    }

    /// Takes a message, if there is one.
    pub(super) fn take(&self, room: &mut [u8; MESSAGE_MAX]) -> Result<Option<usize>, Errno> {
        let fd = self.fd().ok_or(Errno::ESRCH)?;
        match seqpacket::receive(fd, room, PacketWait::None) {
            Ok((len, _)) => Ok(Some(len)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits until it says something; what it has run meanwhile is run. Until then at most.
    pub(super) fn wait(&mut self, until: Mono) -> Result<(), Errno> {
        let mut ready = [Ready::No; 2];
        wait(&[self.fd(), self.desk_fd()], &mut ready, Some(until)).map_err(|_| Errno::EIO)?;
        let [said, asked] = ready;
        if asked != Ready::No {
            self.serve()?;
        }
        if said == Ready::No && clock::mono() >= until { Err(Errno::ETIMEDOUT) } else { Ok(()) }
    }

    /// When an answer is late.
    pub(super) fn answer_until() -> Mono {
        clock::mono().after(ANSWER_MAX)
    }

    /// Has a program run that it asks for.
    pub(super) fn serve(&mut self) -> Result<(), Errno> {
        self.running.as_mut().ok_or(Errno::ESRCH)?.desk.turn()
    }

    /// A child has ended: calls `each` for its programs; how it ended itself, if it did.
    pub(super) fn child_ended(&mut self, each: &mut dyn FnMut(i32, ChildExit)) -> Option<ChildExit> {
        self.ending.retain(|program| program.ended().is_none());
        let running = self.running.as_mut()?;
        running.desk.child_ended(each);
        running.child.ended()
    }

    /// It has ended, or is to: it is started again, later each time it did not run well.
    pub(super) fn lose(&mut self, end: Option<ChildExit>) -> Option<ObserverLoss> {
        let running = self.running.take()?;
        if end.is_none() {
            running.child.kill();
        }
        let end = end.unwrap_or_else(|| running.child.wait());
        self.ending.extend(running.desk.stop());
        let now = clock::mono();
        if now.since(running.since) >= WELL {
            self.pause = PAUSE;
        }
        let pause = self.pause;
        (self.again, self.pause) = (Some(now.after(pause)), (pause * 2).min(PAUSE_MAX));
        Some(ObserverLoss { end, pause })
    }

    /// It cannot be started now.
    pub(super) fn delay(&mut self) {
        self.again = Some(clock::mono().after(self.pause));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// It is started now.
    pub(super) fn hurry(&mut self) {
        self.again = Some(clock::mono());
    }

    /// For good. Its sockets go with it.
    pub(super) fn end(&mut self) {
        let _ = self.lose(None);
        self.again = None;
        self.sockets.iter().flatten().for_each(crate::input::syslog::Syslog::close);
    }

    /// Begins to take how far it has read.
    pub(super) fn set_places(&mut self, now: Now, places: Vec<(PathBuf, Position)>) {
        (self.places, self.places_at) = (places, now.wall.0);
    }

    /// How far it had read when it was last asked.
    pub(super) fn places(&self) -> &[(PathBuf, Position)] {
        &self.places
    }

    /// Where it goes on when it is started again; empty if it was never asked.
    pub(super) fn saved(&self) -> Vec<(PathBuf, Position)> {
        let mut saved = self.places.clone();
        if !saved.is_empty() {
            let written = Position { tail: self.places_at.saturating_mul(NANOS), ..Position::default() };
            saved.push((PathBuf::from(WRITTEN), written));
        }
        saved
    }
}

/// A process that was forked, and waits to be told what to do.
pub(super) struct ForkedObserver(RunningObserver);

/// How it ended, and how many milliseconds later it is started again.
pub(super) struct ObserverLoss {
    pub(super) end: ChildExit,
    pub(super) pause: u64,
}

/// A path as it was told.
pub(super) fn path(bytes: &[u8]) -> PathBuf {
    to_path(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_messages_are_written_and_more_only_later() {
        let mut limit = LogLimit::default();
        let hour = Mono(LOG_SPAN * 7);
        for _ in 0..LOG_MAX {
            assert_eq!(limit.take(hour), LogVerdict::Written);
        }
        assert_eq!(limit.take(hour), LogVerdict::LastWritten);
        for later in [0, 1000, LOG_SPAN - 1] {
            assert_eq!(limit.take(hour.after(later)), LogVerdict::Dropped, "{later}");
        }
        let next = hour.after(LOG_SPAN);
        assert_eq!(limit.take(next), LogVerdict::Written);
        // Who says little is never left out.
        let calm = (1..100).map(|n| next.after(n * LOG_SPAN / 1000));
        assert!(calm.into_iter().all(|at| limit.take(at) == LogVerdict::Written));
    }
}
