#![forbid(unsafe_code)]
//! What the enforcer says to the observer: what it is to do, and what it has asked.

use super::{MessageReader, MessageWriter, number_of};
use crate::base::range::Range;
use crate::sys::child::ChildExit;
use ipnet::IpNet;

const REPORTS: [HitReports; 2] = [HitReports::Wanted, HitReports::Unwanted];
const TRUTHS: [Truth; 2] = [Truth::Yes, Truth::No];

/// What the enforcer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObserverOrder {
    /// Open the sources, say where each of them begins, and then read what there is.
    Start(GivenSockets),
    /// Say how far everything was read, and read nothing until the next order.
    Pause,
    /// Take the configuration that there is now, if this is its mark.
    Reload(GivenSockets, u32),
    /// Read what there is, and end.
    Stop,
    /// Say how far everything was read.
    Places,
    /// Say what was counted, and what rules see.
    Status,
    /// Say who of a range is being counted, and how many that are.
    Offenders(Range),
    /// Say what is read.
    Describe,
    /// Tell the log what was lost.
    Report,
    /// Forget what was counted of all that is in a network.
    Forget(IpNet),
    /// Say what was counted, how far everything was read, and what was counted of whom, for another one, and
    /// read nothing until the next order; or nothing of that, if it is too much.
    HandOver,
    /// Tell of each hit from now on, or not.
    Hits(HitReports),
    /// A program has ended; to this there is no answer.
    Ended(i32, ChildExit),
    /// Who answers for an address, and whether that one is banned.
    Who(IpNet, Truth),
    /// The answer to another question.
    Truth(Truth),
}

/// Which sockets of syslog daemons come with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GivenSockets {
    /// That in run_dir.
    pub unix: bool,
    /// That of UDP.
    pub udp: bool,
}

/// Whether hits are told one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitReports {
    /// Somebody wants to know.
    Wanted,
    /// Nobody does.
    Unwanted,
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl ObserverOrder {
    /// Whether nothing depends on that it is carried out now.
    #[must_use]
    pub fn may_be_late(&self) -> bool {
        use ObserverOrder::{Describe, HandOver, Hits, Offenders, Places, Report, Start, Status};
        matches!(self, Start(_) | Places | Status | Offenders(_) | Describe | Report | Hits(_) | HandOver)
    }

    /// As it is sent.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let sockets = |given: &GivenSockets| [u8::from(given.unix), u8::from(given.udp)];
        match self {
            ObserverOrder::Start(given) => MessageWriter::of(0).number(sockets(given)).0,
            ObserverOrder::Reload(given, mark) => {
                MessageWriter::of(1).number(sockets(given)).number(mark.to_le_bytes()).0
            }
            ObserverOrder::Pause => vec![12],
            ObserverOrder::Stop => vec![2],
            ObserverOrder::Places => vec![3],
            ObserverOrder::Status => vec![4],
            ObserverOrder::Offenders(range) => MessageWriter::of(13).addr(range.first()).addr(range.last()).0,
            ObserverOrder::Describe => vec![5],
            ObserverOrder::Report => vec![6],
            ObserverOrder::Forget(net) => MessageWriter::of(7).net(*net).0,
            ObserverOrder::Hits(reports) => MessageWriter::of(8).number(number_of(&REPORTS, reports)).0,
            ObserverOrder::Ended(pid, end) => {
                let to = MessageWriter::of(9).number(pid.to_le_bytes());
                match end {
                    ChildExit::Status(status) => to.number([0]).number(status.to_le_bytes()).0,
                    ChildExit::Signal(signal) => to.number([1]).number(signal.to_le_bytes()).0,
                }
            }
            ObserverOrder::Who(net, is_banned) => {
                MessageWriter::of(10).net(*net).number(number_of(&TRUTHS, is_banned)).0
            }
            ObserverOrder::HandOver => vec![14],
            ObserverOrder::Truth(truth) => MessageWriter::of(11).number(number_of(&TRUTHS, truth)).0,
        }
    }

    /// Reads a message; `None` if it is none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<ObserverOrder> {
        let (kind, rest) = bytes.split_first()?;
        let mut from = MessageReader(rest);
        let sockets = |from: &mut MessageReader<'_>| {
            Some(GivenSockets { unix: from.one_of(&[false, true])?, udp: from.one_of(&[false, true])? })
        };
        let order = match *kind {
            0 => ObserverOrder::Start(sockets(&mut from)?),
            1 => ObserverOrder::Reload(sockets(&mut from)?, from.u32()?),
            2 => ObserverOrder::Stop,
            3 => ObserverOrder::Places,
            4 => ObserverOrder::Status,
            5 => ObserverOrder::Describe,
            6 => ObserverOrder::Report,
            7 => ObserverOrder::Forget(from.any_net()?),
            8 => ObserverOrder::Hits(from.one_of(&REPORTS)?),
            9 => {
                let pid = i32::from_le_bytes(from.take()?);
                let of = from.one_of(&[ChildExit::Status as fn(i32) -> ChildExit, ChildExit::Signal])?;
                ObserverOrder::Ended(pid, of(i32::from_le_bytes(from.take()?)))
            }
            10 => ObserverOrder::Who(from.any_net()?, from.one_of(&TRUTHS)?),
            11 => ObserverOrder::Truth(from.one_of(&TRUTHS)?),
            12 => ObserverOrder::Pause,
            13 => ObserverOrder::Offenders(Range::new(from.any_addr()?, from.any_addr()?)?),
            14 => ObserverOrder::HandOver,
            _ => return None,
        };
        from.0.is_empty().then_some(order)
    }
}

impl MessageReader<'_> {
    /// Any network: what the enforcer says is its own.
    fn any_net(&mut self) -> Option<IpNet> {
        let (addr, length) = (self.any_addr()?, self.byte()?);
        IpNet::new(addr, length).ok()
    }
}
