#![forbid(unsafe_code)]
//! How much the observer may write to the log, and for how long it is waited for. Does no I/O.

use crate::base::clock::Mono;
use crate::daemon::wire::ObserverOrder;
use crate::state::positions::LINES_MAX;

/// Messages for the log of one kind that are taken of it, and for how long that counts, in milliseconds: a
/// file that is not there, or a program that ends again and again, is told of for each.
pub(in crate::daemon) const LOG_MAX: u32 = 2000;
pub(super) const LOG_SPAN: u64 = 3_600_000;

/// What a message for the log is about, of which it is the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum LogTopic {
    /// What it says itself.
    Said,
    /// Offences that make no ban: rules that only tell, and who is exempt.
    Told,
    /// Bans that could not be made.
    Refused,
}

impl LogTopic {
    /// For people: what there was too much of.
    pub(in crate::daemon) fn what(self) -> &'static str {
        match self {
            LogTopic::Said => "messages of the process that reads logs (the observer)",
            LogTopic::Told => "messages about offences that make no ban",
            LogTopic::Refused => "messages about bans that are not made",
        }
    }
}

/// What becomes of a message for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum LogVerdict {
    /// It is written.
    Written,
    /// Likewise, behind a word about so many that were not.
    WrittenAfter(u32),
    /// It is the first that is not, which is written in its place.
    LastWritten,
    /// Nothing.
    Dropped,
}

/// How much it writes to the log: whoever has his code run there must not fill a disk.
#[derive(Default, Clone, Copy)]
pub(in crate::daemon) struct LogLimit {
    since: Mono,
    count: u32,
}

impl LogLimit {
    pub(in crate::daemon) fn take(&mut self, now: Mono) -> LogVerdict {
        if now.since(self.since) >= LOG_SPAN {
            let before = std::mem::replace(self, LogLimit { since: now, count: 1 });
            return match before.count.saturating_sub(LOG_MAX) {
                0 => LogVerdict::Written,
                more => LogVerdict::WrittenAfter(more),
            };
        }
        self.count = self.count.saturating_add(1);
        match self.count {
            ..=LOG_MAX => LogVerdict::Written,
            count if count == LOG_MAX + 1 => LogVerdict::LastWritten,
            _ => LogVerdict::Dropped,
        }
    }
}

/// Milliseconds for which [`AnswerLimits::all`] and [`AnswerLimits::all_needed`] count.
pub(super) const WAITED_SPAN: u64 = 60_000;

/// How long, and for how much, is waited when it was told to do something. While that lasts nothing else is
/// done here.
#[derive(Clone, Copy)]
pub(in crate::daemon) struct AnswerLimits {
    /// Milliseconds, for what has to be done before anything else can be: who has not done it by then is
    /// ended. That is less than what supervisors wait.
    pub(in crate::daemon) needed: u64,
    /// For all of that within a minute, and for each of it though that be used up: who is well does it at
    /// once.
    pub(in crate::daemon) all_needed: u64,
    pub(in crate::daemon) least: u64,
    /// For anything else: what it says later is heard later.
    pub(in crate::daemon) other: u64,
    /// For all of that within a minute.
    pub(in crate::daemon) all: u64,
    /// From its last message to its end, if it has not done something by then.
    pub(in crate::daemon) silence: u64,
    /// Bytes of all parts of an answer: of positions, those of their lines, which are all read back.
    pub(in crate::daemon) parts: usize,
}

impl AnswerLimits {
    /// Of every daemon.
    pub(super) const USUAL: AnswerLimits = AnswerLimits {
        needed: 10_000,
        all_needed: 20_000,
        least: 1_000,
        other: 3_000,
        all: 10_000,
        silence: 30_000,
        parts: LINES_MAX,
    };
}

/// What was used up of both.
#[derive(Default)]
pub(super) struct AnswersWaited {
    needed: Waited,
    other: Waited,
}

impl AnswersWaited {
    /// What counts for such an order.
    pub(super) fn of(&mut self, order: &ObserverOrder) -> &mut Waited {
        if order.may_be_late() { &mut self.other } else { &mut self.needed }
    }
}

/// For how long it was waited within the minute that began then.
#[derive(Default)]
pub(super) struct Waited {
    since: Mono,
    pub(super) millis: u64,
}

impl Waited {
    /// For how long within the minute of now.
    pub(super) fn within(&mut self, now: Mono) -> u64 {
        if now.since(self.since) >= WAITED_SPAN {
            *self = Waited { since: now, millis: 0 };
        }
        self.millis
    }
}
