#![forbid(unsafe_code)]
//! Why an observer runs no more, and what follows from that. Does no I/O.

use log::Level;
use nix::errno::Errno;
use std::fmt;

/// Why it has ended, or was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum ObserverEnd {
    /// By itself, or by somebody else.
    Died,
    /// It said what it must not.
    Lied,
    /// It did not do in time what it was told, or said nothing.
    Late,
    /// It has read another configuration than this process.
    OtherRules,
    /// It had not begun with the last configuration when there was another one.
    NotBegun,
    /// It has handed over to another one.
    Replaced,
    /// A call of ours failed.
    System(Errno),
}

impl ObserverEnd {
    /// Whether what it had said before counts: not behind that which it must not say, nor what is about rules
    /// that are in force no more.
    pub(in crate::daemon) fn counts_rest(self) -> bool {
        !matches!(self, ObserverEnd::Lied | ObserverEnd::OtherRules)
    }

    /// How important that is to who reads the log.
    pub(in crate::daemon) fn level(self) -> Level {
        if self == ObserverEnd::Replaced { Level::Debug } else { Level::Error }
    }

    /// Whether it had said how far it has read, and reads nothing since.
    pub(super) fn has_paused(self) -> bool {
        matches!(self, ObserverEnd::OtherRules | ObserverEnd::Replaced)
    }

    /// Whether nothing is wrong with it: the next one is started at once.
    pub(super) fn is_wanted(self) -> bool {
        matches!(self, ObserverEnd::OtherRules | ObserverEnd::NotBegun | ObserverEnd::Replaced)
    }
}

impl From<Errno> for ObserverEnd {
    fn from(e: Errno) -> ObserverEnd {
        match e {
            Errno::ECONNRESET | Errno::EPIPE => ObserverEnd::Died,
            Errno::EBADMSG | Errno::EMSGSIZE => ObserverEnd::Lied,
            Errno::ETIMEDOUT => ObserverEnd::Late,
            e => ObserverEnd::System(e),
        }
    }
}

/// What follows "has ended with signal 9".
impl fmt::Display for ObserverEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObserverEnd::Died => "",
            ObserverEnd::Lied => ", for it said what it must not",
            ObserverEnd::Late => ", for it did not answer",
            ObserverEnd::OtherRules => ", for it has read another configuration",
            ObserverEnd::NotBegun => ", for it had not begun with the last configuration yet",
            ObserverEnd::Replaced => ", for another one takes its place",
            ObserverEnd::System(e) => return write!(f, ", {}", crate::sys::strerror(*e)),
        })
    }
}
