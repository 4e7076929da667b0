#![forbid(unsafe_code)]
//! The enforcer's end of what it and the observer say to each other: the process, what it was last known to
//! have read, when it is started again, and how much of what it says is written to the log.

mod ended;
mod limits;
mod news;
mod places;
mod process;
mod succession;
#[cfg(test)]
mod tests;
mod told;

pub(super) use ended::ObserverEnd;
pub(super) use limits::{AnswerLimits, LOG_MAX, LogTopic, LogVerdict};
pub(super) use news::ReadingNews;
use news::ReadsDealtWith;
pub(super) use told::{PartOf, PendingOrder};

use super::sources::{SourceSettings, SyslogSockets, Wants, open_sockets};
use super::wire::{GivenSockets, HitReports, MESSAGE_MAX, Observed, ObserverCounts, ObserverOrder, Offender};
use crate::base::clock::{Mono, Wall};
use crate::base::position::Position;
use crate::control::proto::Sight;
use crate::sys::child::Child;
use crate::sys::poll::{Ready, wait};
use crate::sys::seqpacket::{self, PacketWait};
use crate::sys::{clock, relay};
use limits::{AnswersWaited, LogLimit};
use nix::errno::Errno;
use process::{ObserverProcess, PAUSE};
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use succession::Succession;

/// What a rule was last known to see.
pub(super) struct SeenRule {
    pub(super) sight: Sight,
    pub(super) kind: Box<str>,
    pub(super) text: Box<str>,
}

/// A message that has come.
pub(super) struct HeardMessage<'m>(&'m [u8]);

impl<'m> HeardMessage<'m> {
    /// What it says.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(&self) -> Result<Observed<'m>, Errno> {
        Observed::read(self.0).ok_or(Errno::EBADMSG)
    }

    /// Its bytes.
    pub(super) fn length(&self) -> usize {
        self.0.len()
    }
}

/// The observer, from here.
pub(super) struct ObserverLink {
    process: ObserverProcess,
    /// What it is to read.
    pub(super) wants: Wants,
    pub(super) settings: SourceSettings,
    /// Opened here, and read there.
    sockets: SyslogSockets,
    /// One that is gone, and its programs, which were killed and have not ended yet.
    ending: Vec<Child>,
    /// How long it is waited before it is started again, unless it runs well.
    pause: u64,
    /// How often in turn it could not be started.
    failed: u32,
    pub(super) limits: AnswerLimits,
    waited: AnswersWaited,
    pending: VecDeque<PendingOrder>,
    /// When it said something.
    heard: Cell<Mono>,
    /// When that it has read was dealt with, and that rules see something else.
    reads: ReadsDealtWith,
    sight_at: Option<Mono>,
    /// It opens what it reads anew, and does nothing else meanwhile.
    reopens: bool,
    /// What it reads, for people, as it said last.
    pub(super) described: String,
    /// How far it had read when it was last asked, and the second; before, how far the last daemon had, and
    /// where it has begun with what that had not read.
    places: Vec<(PathBuf, Position)>,
    places_at: Option<u64>,
    /// When nothing was unread that is behind them, and whether that is so still, for all that is known.
    caught_up: Option<Wall>,
    is_caught_up: bool,
    /// The file of positions does not have them yet.
    unwritten: bool,
    /// When it is to be asked again, and when it was asked last.
    ask_at: Option<Mono>,
    asked: Option<Mono>,
    succession: Succession,
    log_limits: [LogLimit; 3],
    pub(super) news: ReadingNews,
    pub(super) reports: HitReports,
    pub(super) counts: ObserverCounts,
    pub(super) seen: Vec<SeenRule>,
    pub(super) offenders: Vec<Offender>,
}

impl ObserverLink {
    /// For one that reads this, and goes on where `places` say.
    pub(super) fn new(
        wants: Wants,
        settings: SourceSettings,
        places: Vec<(PathBuf, Position)>,
    ) -> ObserverLink {
        let mut this = ObserverLink {
            process: ObserverProcess::Absent(None),
            wants,
            settings,
            sockets: SyslogSockets::default(),
            ending: Vec::new(),
            pause: PAUSE,
            failed: 0,
            limits: AnswerLimits::USUAL,
            waited: AnswersWaited::default(),
            pending: VecDeque::new(),
            heard: Cell::default(),
            reads: ReadsDealtWith::default(),
            sight_at: None,
            reopens: false,
            described: "logs, of which the observer has not said yet which".to_owned(),
            places,
            places_at: None,
            caught_up: None,
            is_caught_up: false,
            unwritten: false,
            ask_at: None,
            asked: None,
            succession: Succession::default(),
            log_limits: [LogLimit::default(); 3],
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
        // Rules have other numbers.
        self.succession = Succession::default();
        open_sockets(self.wants.syslog, &self.settings, &mut self.sockets);
        let programs = self.wants.programs();
        self.process.running_mut().into_iter().for_each(|running| running.desk.configure(programs.clone()));
    }

    /// What becomes of a message for the log.
    pub(super) fn log_verdict(&mut self, now: Mono, topic: LogTopic) -> LogVerdict {
        self.log_limits.get_mut(topic as usize).map_or(LogVerdict::Dropped, |limit| limit.take(now))
    }

    /// Which sockets go with an order.
    pub(super) fn given(&self) -> GivenSockets {
        let [unix, udp] = &self.sockets;
        GivenSockets { unix: unix.is_some(), udp: udp.is_some() }
    }

    /// When it is to be started, asked or ended, or what it told is to be dealt with.
    pub(super) fn due(&self) -> Option<Mono> {
        let asks = [self.ask_at, self.succession_at()].into_iter().flatten().min();
        let runs = match self.process {
            ObserverProcess::Absent(again) => again,
            _ => asks.filter(|_| !self.owes()),
        };
        [self.news_at(), runs, self.silent_at()].into_iter().flatten().min()
    }

    /// When it has said nothing for too long.
    fn silent_at(&self) -> Option<Mono> {
        (self.process.running().is_some() && self.owes()).then(|| self.heard.get().after(self.limits.silence))
    }

    /// Whether it has.
    pub(super) fn is_silent(&self, now: Mono) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }

    pub(super) fn send(&self, order: &ObserverOrder) -> Result<(), Errno> {
        let fd = self.fd().ok_or(Errno::ESRCH)?;
        let sockets: Vec<BorrowedFd<'_>> = match order {
            ObserverOrder::Start(_) | ObserverOrder::Reload(..) => {
                self.sockets.iter().flatten().map(|s| s.socket()).collect()
            }
            _ => Vec::new(),
        };
        seqpacket::send(fd, &order.write(), &sockets, PacketWait::None)
    }

    /// Takes a message, if there is one.
    pub(super) fn take<'m>(
        &self,
        room: &'m mut [u8; MESSAGE_MAX],
    ) -> Result<Option<HeardMessage<'m>>, Errno> {
        let fd = self.fd().ok_or(Errno::ESRCH)?;
        match seqpacket::receive(fd, room, PacketWait::None) {
            Ok(len) => {
                self.heard.set(clock::mono());
                Ok(Some(HeardMessage(room.get(..len).unwrap_or_default())))
            }
            Err(Errno::EAGAIN) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// It has said nothing more.
    pub(super) fn quiet(&self) -> Result<(), Errno> {
        let fd = self.fd().ok_or(Errno::ESRCH)?;
        match seqpacket::receive(fd, &mut [0], PacketWait::None) {
            Err(Errno::EAGAIN) => Ok(()),
            Err(Errno::ECONNRESET) => Err(Errno::ECONNRESET),
            _ => Err(Errno::EBADMSG),
        }
    }

    /// Waits until it says something, until then at most. What it wants to have run meanwhile is run, and who
    /// wants to ban by hand does not wait.
    pub(super) fn wait(&mut self, until: Mono) -> Result<(), Errno> {
        let mut ready = [Ready::No; 3];
        let relay = relay::ours();
        let relayed = relay.as_ref().map(|relay| relay.fd());
        wait(&[self.fd(), self.desk_fd(), relayed], &mut ready, Some(until)).map_err(|_| Errno::EIO)?;
        let [said, asked, calls] = ready;
        if calls != Ready::No {
            relay.into_iter().for_each(|relay| relay.turn());
        }
        // What it has said counts before what it wants, and before its end.
        if asked != Ready::No && said == Ready::No {
            self.serve()?;
        }
        Ok(())
    }
}
