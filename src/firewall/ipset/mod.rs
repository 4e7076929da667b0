#![forbid(unsafe_code)]
//! Sets of the kernel's ip_set, by its own netlink messages: no program is needed for them. Knows no ban, and
//! nothing of what asks the sets.

pub mod message;

use crate::ban::{Doing, Failure};
use crate::sys::netlink::{Lost, NlSocket, strerror};
use crate::sys::nlattr::{ACK, CREATE, DUMP, EXCL, Msg, MsgBuf, NLMSG_DONE};
use message::{Command, Depth, Elem, Elements, Found, Header, SetSpec};
use mnl::Bus;
use nix::errno::Errno;
use std::time::Duration;

/// What becomes of elements that are to be added and are there, or are to be deleted and are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoneBefore {
    /// That is right; what is there takes the new time and comment.
    Taken,
    /// They are refused.
    Refused,
}

/// Bytes of one message with elements: what is refused comes back as a whole, and has to fit a receive.
const MESSAGE_MAX: usize = 12 * 1024;
/// Elements of one message at most.
const ELEMENTS_MAX: usize = 512;
/// Receive buffer asked for.
const RECEIVE_BUFFER: usize = 1 << 20;
/// How often a listing is begun anew of which a part was lost.
const REDUMPS_MAX: u32 = 8;
/// How often, and after what time, a set is tried to be deleted that somebody lists.
const BUSY_TRIES: u32 = 25;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// `IPSET_ERR_*`: what ip_set says beyond the errors of the system.
const PROTOCOL: i32 = 4097;
const FIND_TYPE: i32 = 4098;
const MAX_SETS: i32 = 4099;
const BUSY: i32 = 4100;
const EXISTS: i32 = 4103;
const REFERENCED: i32 = 4108;
const HASH_FULL: i32 = 4352;

/// A refusal of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(i32);

impl Code {
    /// There is no such set.
    #[must_use]
    pub fn is_no_set(self) -> bool {
        self.0 == Errno::ENOENT as i32
    }

    /// What is to be added is there already, or what is to be deleted is not.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.0 == EXISTS
    }

    fn errno(self) -> Errno {
        match self.0 {
            PROTOCOL | FIND_TYPE => Errno::EOPNOTSUPP,
            MAX_SETS | HASH_FULL => Errno::ENOSPC,
            BUSY | REFERENCED => Errno::EBUSY,
            EXISTS => Errno::EEXIST,
            4096.. => Errno::EINVAL,
            code => Errno::from_raw(code),
        }
    }

    /// For people.
    fn words(self) -> String {
        let own = match self.0 {
            FIND_TYPE => {
                "this kernel lacks that type of set (Linux 3.14 and newer have it): load ip_set_hash_ip, \
                ip_set_hash_net, ip_set_list_set (OpenWrt: kmod-ipt-ipset)"
            }
            MAX_SETS => "the kernel has as many sets as it can have",
            BUSY | REFERENCED => "a rule of iptables or another set uses it",
            HASH_FULL => "the set is full",
            PROTOCOL => "this kernel's ip_set speaks another protocol",
            // nfnetlink answers so to a subsystem that it does not have.
            code if code == Errno::EINVAL as i32 => {
                "this kernel lacks ip_set: load it (OpenWrt: kmod-ipt-ipset)"
            }
            4096.. => return format!("error {} of ip_set", self.0),
            code if code == Errno::EPERM as i32 => {
                return [&strerror(Errno::EPERM), crate::firewall::nft::ROOT].concat();
            }
            code => return strerror(Errno::from_raw(code)),
        };
        own.to_owned()
    }

    /// As a refused change of this set.
    #[must_use]
    pub fn failure(self, set: &str) -> Failure {
        Failure::new(Doing::Change, self.errno(), format!("ip_set {set}: {}", self.words()))
    }
}

/// The sets of the kernel.
pub struct Sets {
    socket: NlSocket,
    buf: MsgBuf,
}

/// What the kernel said at last, and about which element.
struct Answer(Code, Option<u32>);

impl Sets {
    /// Opens the way to them; asks nothing yet.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open() -> Result<Sets, Failure> {
        let socket = NlSocket::open(Bus::Netfilter).map_err(|e| lost(Doing::Exchange, "socket", e))?;
        socket.reserve(0, RECEIVE_BUFFER);
        Ok(Sets { socket, buf: MsgBuf::with_capacity(1024) })
    }

    /// Gives back the memory of messages.
    pub fn shrink(&mut self) {
        self.buf.clear();
        self.buf.shrink();
        self.socket.shrink();
    }

    /// Sends what was written, and hears the answer to it.
    fn exchange(&mut self, each: &mut dyn FnMut(Msg<'_>)) -> Result<Answer, Lost> {
        let seq = self.sequence();
        let sent = self.socket.send(self.buf.bytes());
        self.buf.clear();
        sent?;
        let mut end = None;
        while end.is_none() {
            self.socket.receive(&mut |m| {
                if m.seq != seq || end.is_some() {
                    return;
                }
                match m.errno() {
                    Some(errno) => end = Some(Answer(Code(errno), message::refused_line(m.payload))),
                    None if m.kind == NLMSG_DONE => end = Some(Answer(Code(0), None)),
                    None => each(m),
                }
            })?;
        }
        end.ok_or(Lost::Overrun)
    }

    /// The number of the message that is written now.
    fn sequence(&self) -> u32 {
        crate::sys::nlattr::messages(self.buf.bytes()).next().map_or(0, |m| m.seq)
    }

    /// Asks again where a part of the answer was lost; `Ok(false)`: there is no such set.
    fn question(
        &mut self,
        set: &str,
        depth: Depth,
        restart: &mut dyn FnMut(),
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Failure> {
        for round in 1.. {
            restart();
            let seq = self.socket.next_seq();
            message::list(&mut self.buf, (DUMP | ACK, seq), set, depth);
            match self.exchange(&mut |m| each(m.payload)) {
                Ok(Answer(Code(0), _)) => return Ok(true),
                Ok(Answer(code, _)) if code.is_no_set() => return Ok(false),
                Ok(Answer(code, _)) => {
                    let text = format!("ip_set: {}", code.words());
                    return Err(Failure::new(Doing::Question, code.errno(), text));
                }
                Err(Lost::Overrun) if round < REDUMPS_MAX => self.socket.drain(),
                Err(e) => return Err(lost(Doing::Question, set, e)),
            }
        }
        Ok(false)
    }

    /// Every set that there is, whoever made it. A set whose answer was lost comes again.
    ///
    /// # Errors
    /// The kernel's.
    pub fn headers(
        &mut self,
        restart: &mut dyn FnMut(),
        each: &mut dyn FnMut(&Header<'_>),
    ) -> Result<(), Failure> {
        self.question("", Depth::Header, restart, &mut |m| message::header(m).iter().for_each(&mut *each))
            .map(drop)
    }

    /// One set; `false`: it is not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn header(&mut self, set: &str, each: &mut dyn FnMut(&Header<'_>)) -> Result<bool, Failure> {
        self.question(set, Depth::Header, &mut || (), &mut |m| message::header(m).iter().for_each(&mut *each))
    }

    /// Every element of a set; `false`: there is no such set.
    ///
    /// # Errors
    /// The kernel's.
    pub fn elements(
        &mut self,
        set: &str,
        restart: &mut dyn FnMut(),
        each: &mut dyn FnMut(Found<'_>),
    ) -> Result<bool, Failure> {
        self.question(set, Depth::Elements, restart, &mut |m| message::elements(m).for_each(&mut *each))
    }

    /// Sends one message that is written now.
    fn change(&mut self, set: &str) -> Result<Answer, Failure> {
        self.exchange(&mut |_| ()).map_err(|e| lost(Doing::Exchange, set, e))
    }

    /// Makes a set; `false`: there is one of that name.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn create(&mut self, spec: &SetSpec<'_>) -> Result<bool, Failure> {
        let seq = self.socket.next_seq();
        message::create(&mut self.buf, (ACK | CREATE | EXCL, seq), spec);
        match self.change(spec.name)?.0 {
            Code(0) => Ok(true),
            code if code.0 == Errno::EEXIST as i32 => Ok(false),
            code => Err(code.failure(spec.name)),
        }
    }

    /// Does something with a set, or two; `false`: it is not there.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn about(&mut self, command: Command, set: &str, other: Option<&str>) -> Result<bool, Failure> {
        for left in (0..BUSY_TRIES).rev() {
            let seq = self.socket.next_seq();
            message::about(&mut self.buf, command, (ACK, seq), set, other);
            match self.change(set)?.0 {
                Code(0) => return Ok(true),
                // Whoever lists it keeps it for a moment.
                Code(BUSY) if left > 0 => std::thread::sleep(BUSY_PAUSE),
                code if code.is_no_set() => return Ok(false),
                code => return Err(code.failure(set)),
            }
        }
        Ok(false)
    }

    /// Whether a set has an element, or, a set of networks, one around it; not where there is no such set.
    ///
    /// # Errors
    /// The kernel's.
    pub fn test(&mut self, set: &str, elem: &Elem<'_>) -> Result<bool, Failure> {
        let seq = self.socket.next_seq();
        message::test(&mut self.buf, (ACK, seq), set, elem);
        match self.change(set)?.0 {
            Code(0) => Ok(true),
            code if code.is_known() || code.is_no_set() => Ok(false),
            code => Err(code.failure(set)),
        }
    }

    /// Adds or deletes elements. `refused` hears of each that was refused; the others were done.
    ///
    /// # Errors
    /// Nobody knows what was done.
    pub fn write(
        &mut self,
        command: Command,
        done_before: DoneBefore,
        set: &str,
        elems: &[Elem<'_>],
        refused: &mut dyn FnMut(usize, Code),
    ) -> Result<(), Failure> {
        let mut first = 0;
        while first < elems.len() {
            let flags = match done_before {
                DoneBefore::Taken => ACK,
                DoneBefore::Refused => ACK | EXCL,
            };
            let seq = self.socket.next_seq();
            let open = Elements::open(&mut self.buf, command, (flags, seq), set);
            let (mut number, mut next) = (0, first);
            for elem in elems.iter().skip(first).take(ELEMENTS_MAX) {
                number += 1;
                next += 1;
                open.push(&mut self.buf, number, elem);
                if self.buf.len() > MESSAGE_MAX {
                    break;
                }
            }
            open.close(&mut self.buf);
            match self.change(set)? {
                Answer(Code(0), _) => first = next,
                Answer(code, Some(line)) => {
                    // Those before it were done, those behind it were not looked at.
                    let at = first + usize::try_from(line).unwrap_or(1) - 1;
                    refused(at, code);
                    first = at.max(first) + 1;
                }
                Answer(code, None) => return Err(code.failure(set)),
            }
        }
        Ok(())
    }
}

/// What was lost of an exchange.
fn lost(doing: Doing, set: &str, e: Lost) -> Failure {
    let errno = match e {
        Lost::Overrun => Errno::ENOBUFS,
        Lost::Sys(_, errno) => errno,
    };
    Failure::new(doing, errno, format!("ip_set {set}: {}", std::io::Error::from(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_is_told_what_it_takes() {
        let words = Code(Errno::EPERM as i32).words();
        assert!(words.contains("run it as root (CAP_NET_ADMIN"), "{words}");
        assert!(!Code(Errno::ENOMEM as i32).words().contains("root"));
    }
}
