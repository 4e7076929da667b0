#![forbid(unsafe_code)]
//! The process that reads lines: how it is started, ended, and started again.

use super::succession::Succession;
use super::{ObserverEnd, ObserverLink};
use crate::base::clock::Mono;
use crate::daemon::sources::{KeptSources, SourceSettings, Wants};
use crate::daemon::wire::HitReports;
use crate::sys::child::{Child, ChildExit};
use crate::sys::desk::ProgramDesk;
use crate::sys::runner::RunProgram;
use crate::sys::{clock, fork, relay, seqpacket};
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The first pause before it is started again, and the longest, in milliseconds.
pub(super) const PAUSE: u64 = 100;
pub(super) const PAUSE_MAX: u64 = 10_000;
/// How often it is tried to start one where one has run.
pub(super) const FORKS: u32 = 10;
/// One that ran so long after its start, in milliseconds, ran well.
pub(super) const WELL: u64 = 60_000;
/// How often one that was killed is looked at, and the time between: a disk may hold it for longer.
const END_LOOKS: u32 = 500;
const END_LOOK: Duration = Duration::from_millis(1);
/// A process that runs.
pub(super) struct RunningObserver {
    fd: OwnedFd,
    child: Child,
    /// How it ended, if that is known.
    end: Option<ChildExit>,
    pub(super) desk: ProgramDesk,
    forked: Mono,
}

/// When it had done what it was first told, and last.
#[derive(Clone, Copy)]
pub(super) struct Answers {
    pub(super) first: Mono,
    pub(super) last: Mono,
}

/// The process, in what it has come to.
pub(super) enum ObserverProcess {
    /// There is none. It is started then; at once, if that says nothing.
    Absent(Option<Mono>),
    /// It has not done yet what it was first told.
    Opening(RunningObserver),
    /// It has.
    Reading(RunningObserver, Answers),
}

impl ObserverProcess {
    /// The one that runs.
    pub(super) fn running(&self) -> Option<&RunningObserver> {
        match self {
            ObserverProcess::Absent(_) => None,
            ObserverProcess::Opening(running) | ObserverProcess::Reading(running, _) => Some(running),
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut RunningObserver> {
        match self {
            ObserverProcess::Absent(_) => None,
            ObserverProcess::Opening(running) | ObserverProcess::Reading(running, _) => Some(running),
        }
    }

    /// It has done something that it was told.
    pub(super) fn set_answered(&mut self, now: Mono) {
        *self = match std::mem::replace(self, ObserverProcess::Absent(None)) {
            ObserverProcess::Opening(running) => {
                ObserverProcess::Reading(running, Answers { first: now, last: now })
            }
            ObserverProcess::Reading(running, answers) => {
                ObserverProcess::Reading(running, Answers { last: now, ..answers })
            }
            absent => absent,
        };
    }

    /// It runs no more, if it did.
    fn end(&mut self) -> Option<(RunningObserver, Option<Answers>)> {
        match std::mem::replace(self, ObserverProcess::Absent(None)) {
            ObserverProcess::Opening(running) => Some((running, None)),
            ObserverProcess::Reading(running, answers) => Some((running, Some(answers))),
            absent @ ObserverProcess::Absent(_) => {
                *self = absent;
                None
            }
        }
    }
}

impl ObserverLink {
    /// Forks it. `work` is what it does there, with its ends.
    ///
    /// # Errors
    /// No room for another process, no descriptor left.
    pub(in crate::daemon) fn fork(
        programs: Vec<RunProgram>,
        work: &mut dyn FnMut([OwnedFd; 2]),
    ) -> io::Result<ForkedObserver> {
        let (ours, theirs) = seqpacket::pair()?;
        let (desk, asks) = seqpacket::pair()?;
        let child = fork::fork_apart([theirs, asks], work)?;
        let desk = ProgramDesk::new(desk, programs);
        Ok(ForkedObserver(RunningObserver { fd: ours, child, end: None, desk, forked: clock::mono() }))
    }

    /// It was forked.
    pub(in crate::daemon) fn set_running(&mut self, forked: ForkedObserver) {
        (self.process, self.failed) = (ObserverProcess::Opening(forked.0), 0);
        (self.asked, self.ask_at) = (None, None);
        self.succession = Succession::default();
        self.pending.clear();
        self.heard.set(clock::mono());
        (self.reports, self.reopens) = (HitReports::Unwanted, false);
    }

    /// Its number.
    pub(in crate::daemon) fn pid(&self) -> Option<i32> {
        self.process.running().map(|running| running.child.number())
    }

    /// For polling.
    pub(in crate::daemon) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.process.running().map(|running| running.fd.as_fd())
    }

    /// Likewise, for what it wants to have run.
    pub(in crate::daemon) fn desk_fd(&self) -> Option<BorrowedFd<'_>> {
        self.process.running().map(|running| running.desk.fd())
    }

    /// Has a program run that it asks for.
    pub(in crate::daemon) fn serve(&mut self) -> Result<(), Errno> {
        self.process.running_mut().ok_or(Errno::ESRCH)?.desk.turn()
    }

    /// A child has ended: calls `each` for its programs; how it ended itself, if it did.
    pub(in crate::daemon) fn child_ended(
        &mut self,
        each: &mut dyn FnMut(i32, ChildExit),
    ) -> Option<ChildExit> {
        self.ending.retain(|program| program.ended().is_none());
        let running = self.process.running_mut()?;
        running.desk.child_ended(each);
        running.end = running.child.ended();
        running.end
    }

    /// Ends it, if it has not ended. What it has said before can still be taken.
    pub(in crate::daemon) fn kill(&mut self) {
        let running = self.process.running_mut();
        let Some(running) = running.filter(|running| running.end.is_none()) else { return };
        running.child.kill();
        for _ in 0..END_LOOKS {
            running.end = running.child.ended();
            if running.end.is_some() {
                return;
            }
            relay::pause(END_LOOK);
        }
    }

    /// It was killed, or has ended: it is started again, later each time it did not run well; at once if
    /// nothing is wrong but that it has read another configuration.
    pub(in crate::daemon) fn lose(&mut self, why: ObserverEnd) -> Option<ObserverLoss> {
        let (running, answers) = self.process.end()?;
        let RunningObserver { child, end, desk, forked, .. } = running;
        if end.is_none() {
            self.ending.push(child);
        }
        self.ending.extend(desk.stop());
        self.pending.clear();
        self.end_reading(why, clock::wall());
        let now = clock::mono();
        let end = end.unwrap_or(ChildExit::Signal(libc::SIGKILL));
        if why.is_wanted() {
            self.process = ObserverProcess::Absent(Some(now));
            return Some(ObserverLoss { end, pause: 0 });
        }
        // It did nothing well from its last answer to the one that did not come.
        let last = answers.map_or(forked, |answers| answers.last);
        let until = if why == ObserverEnd::Late { last } else { now };
        if answers.is_some_and(|answers| until.since(answers.first) >= WELL) {
            self.pause = PAUSE;
        }
        // As long as it took to begin, if that was longer: one that ends again and again is not all that is
        // done.
        let pause = self.pause.max(answers.map_or(until, |answers| answers.first).since(forked));
        self.process = ObserverProcess::Absent(Some(now.after(pause)));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Some(ObserverLoss { end, pause })
    }

    /// Whether it has not done yet what it was first told.
    pub(in crate::daemon) fn is_opening(&self) -> bool {
        matches!(self.process, ObserverProcess::Opening(_))
    }

    /// It could not be started. Whether that is tried again, as it may be where one has run before: by then
    /// there may be room.
    pub(in crate::daemon) fn try_later(&mut self, now: Mono) -> bool {
        self.failed += 1;
        let later = self.heard.get() != Mono::default() && self.failed < FORKS;
        if later {
            self.process = ObserverProcess::Absent(Some(now.after(PAUSE << self.failed)));
        }
        later
    }

    /// Whether it is to be started now.
    pub(in crate::daemon) fn may_start(&self) -> bool {
        match self.process {
            ObserverProcess::Absent(again) => again.is_none_or(|at| at <= clock::mono()),
            _ => false,
        }
    }

    /// It is started now.
    pub(in crate::daemon) fn hurry(&mut self) {
        if let ObserverProcess::Absent(again) = &mut self.process {
            *again = Some(clock::mono());
        }
    }

    /// For good. Its sockets go with it.
    pub(in crate::daemon) fn end(&mut self) {
        self.kill();
        let _ = self.lose(ObserverEnd::Died);
        self.process = ObserverProcess::Absent(None);
        self.sockets.iter().flatten().for_each(crate::input::syslog::Syslog::close);
    }

    /// What it was to read, for another reader; what is open of that.
    pub(in crate::daemon) fn into_wants(mut self) -> (Wants, SourceSettings, KeptSources) {
        self.kill();
        let _ = self.lose(ObserverEnd::Died);
        (self.wants, self.settings, KeptSources::of(self.sockets, self.ending))
    }
}

/// A process that was forked, and waits to be told what to do.
pub(in crate::daemon) struct ForkedObserver(RunningObserver);

/// How it ended, and how many milliseconds later it is started again.
pub(in crate::daemon) struct ObserverLoss {
    pub(in crate::daemon) end: ChildExit,
    pub(in crate::daemon) pause: u64,
}

#[cfg(test)]
impl ObserverLink {
    /// Has a process that does nothing; what is sent by the returned end is what it says.
    pub(in crate::daemon) fn pretend(&mut self) -> OwnedFd {
        let forked = ObserverLink::fork(Vec::new(), &mut |[_, asks]| {
            let _ = seqpacket::receive(asks.as_fd(), &mut [0], seqpacket::PacketWait::Waits);
        });
        let (ours, theirs) = seqpacket::pair().unwrap();
        self.set_running(ForkedObserver(RunningObserver { fd: ours, ..forked.unwrap().0 }));
        theirs
    }
}
