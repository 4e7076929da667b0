//! A netlink socket through libmnl: open, bounded waits, and lost answers told apart from errors.

use crate::sys::buffer::Buffer;
use crate::sys::nlattr::{Msg, messages};
use crate::sys::relay;
use mnl::{Bus, Socket};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;

/// Bytes that one receive can bring; the kernel cuts its dumps to what the reader offers.
const RECV: usize = 16 * 1024;
/// Every option here is a C `int`.
const OPTION_LEN: libc::socklen_t = 4;
/// Where `rtm_dst_len`, `rtm_table`, `rtm_protocol` and `rtm_type` stand in a message about a route.
const ROUTE_LEN_AT: u32 = 17;
const ROUTE_TABLE_AT: u32 = 20;
const ROUTE_PROTOCOL_AT: u32 = 21;
const ROUTE_TYPE_AT: u32 = 23;
/// RT_TABLE_LOCAL and RT_TABLE_MAIN.
const TABLES: (u32, u32) = (255, 254);
/// RTN_LOCAL: to an address of this host.
const TO_US: u32 = 2;
/// RTPROT_STATIC: up to this, the kernel and people make routes.
const STATIC: u32 = 4;
/// RTPROT_RA, RTPROT_DHCP.
const ROUTERS: (u32, u32) = (9, 16);
/// Longest wait for an answer, ms. The kernel answers in microseconds; a commit under load takes longer.
const WAIT_MS: u16 = 20_000;

/// Why an exchange did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The receive buffer overflowed: the kernel has done the work, its answers are gone.
    Overrun,
    /// The system call failed.
    Sys(&'static str, Errno),
}

impl From<Lost> for std::io::Error {
    fn from(lost: Lost) -> std::io::Error {
        std::io::Error::other(match lost {
            Lost::Overrun => "netlink: netlink receive buffer overrun (ENOBUFS) repeatedly".to_owned(),
            Lost::Sys(call, errno) => format!("{call}: {}", strerror(errno)),
        })
    }
}

/// The C library's words for an error. nix has a table of its own, which would be one more in the program.
#[must_use]
pub fn strerror(errno: Errno) -> String {
    let mut text = std::io::Error::from(errno).to_string();
    // What std appends: " (os error 2)".
    if let Some(end) = text.bytes().rposition(|b| b == b'(') {
        text.truncate(end.saturating_sub(1));
    }
    text
}

/// A netlink socket of one bus, with its receive buffer.
pub struct NlSocket {
    socket: Socket,
    /// That of the socket: what is only polled needs no code of libmnl's in memory.
    fd: RawFd,
    seq: u32,
    buf: Buffer,
    detour: Detour,
}

/// The way around through another process, whose socket may do what this one may not.
#[derive(Default)]
struct Detour {
    /// Where it listens.
    path: Option<PathBuf>,
    asked: bool,
    /// It is taken, through the socket with this port.
    taken: Option<u32>,
    /// What came back.
    answer: Option<relay::RelayReply>,
}

impl NlSocket {
    /// Opens a socket. Needs no privilege yet: the kernel checks each request.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open(bus: Bus) -> Result<NlSocket, Lost> {
        let socket = Socket::open(bus).map_err(|e| sys("socket(AF_NETLINK)", &e))?;
        socket.bind(0, 0).map_err(|e| sys("bind(AF_NETLINK)", &e))?;
        let fd = socket.as_raw_fd();
        let this = NlSocket { socket, fd, seq: 0, buf: Buffer::new(RECV), detour: Detour::default() };
        fcntl(this.fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|e| Lost::Sys("fcntl", e))?;
        for option in [libc::NETLINK_CAP_ACK, libc::NETLINK_EXT_ACK] {
            // Older kernels may not have them: nothing depends on it.
            let _ = this.set_option(option, 1);
        }
        Ok(this)
    }

    /// Gives back the memory of what was received.
    pub fn shrink(&mut self) {
        self.buf.shrink(0);
    }

    /// Asks for room in both directions (0 to send: as it is); only a hint, since a container may refuse it.
    pub fn reserve(&self, send: usize, receive: usize) {
        if send > 0 {
            let _ = setsockopt(&self.fd(), sockopt::SndBufForce, &send);
        }
        let _ = setsockopt(&self.fd(), sockopt::RcvBufForce, &receive);
    }

    fn set_option(&self, option: i32, value: u32) -> Result<(), Errno> {
        // SAFETY: the descriptor is open as long as `self`; the kernel reads `size_of::<u32>()` bytes of
        // `value`, which lives until the call returns.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                std::ptr::from_ref(&value).cast(),
                OPTION_LEN,
            )
        };
        Errno::result(set).map(drop)
    }

    /// Has the socket hear of a group's messages about routes, but only of default routes, of this host's
    /// addresses and of what the kernel, people, DHCP and router advertisements make in the main table: on a
    /// router others come and go all the time.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn subscribe_own_routes(&self, group: u32) -> Result<(), Lost> {
        let mut program = own_routes();
        let len = u16::try_from(program.len()).unwrap_or(0);
        let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
        // SAFETY: the descriptor is open as long as `self`; the kernel copies the program, whose length is
        // told and which lives until the call returns.
        let set = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                std::ptr::from_ref(&filter).cast(),
                libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0),
            )
        };
        Errno::result(set).map_err(|e| Lost::Sys("setsockopt(SO_ATTACH_FILTER)", e))?;
        self.set_option(libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(|e| Lost::Sys("setsockopt(NETLINK_ADD_MEMBERSHIP)", e))
    }

    /// For polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: libmnl keeps this descriptor open until the socket is dropped, and the borrow ends before.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// The next sequence number; never 0, which is what events carry.
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Sends messages that belong together; a send buffer that is too small for them is enlarged.
    ///
    /// # Errors
    /// The system call that failed; EMSGSIZE when they are more than the send buffer takes and it may not
    /// grow: before Linux 5.16 user namespaces have no say in that.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Lost> {
        let mut grown = false;
        loop {
            match self.socket.send(bytes) {
                Ok(_) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                // The kernel doubles what is asked for.
                Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) && !grown => {
                    grown = true;
                    let _ = setsockopt(&self.fd(), sockopt::SndBufForce, &bytes.len());
                }
                Err(e) => return Err(sys("sendto(AF_NETLINK)", &e)),
            }
        }
    }

    /// Waits for one receive and hands its messages over.
    ///
    /// # Errors
    /// `Lost::Overrun` on overflow; ETIMEDOUT when the kernel stays silent.
    pub fn receive(&mut self, each: &mut dyn FnMut(Msg<'_>)) -> Result<(), Lost> {
        // Most answers are there when the question has been sent.
        if self.receive_now(each)? {
            return Ok(());
        }
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, PollTimeout::from(WAIT_MS)) {
                Ok(0) => return Err(Lost::Sys("recv(AF_NETLINK)", Errno::ETIMEDOUT)),
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Lost::Sys("poll", e)),
            }
        }
        self.receive_now(each).map(|_| ())
    }

    /// Takes what is there without waiting; `false` when nothing was.
    ///
    /// # Errors
    /// `Lost::Overrun` on overflow, else the system call that failed.
    pub fn receive_now(&mut self, each: &mut dyn FnMut(Msg<'_>)) -> Result<bool, Lost> {
        let fd = self.socket.as_raw_fd();
        let len = loop {
            match recv(fd, &mut self.buf, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
                Ok(n) => break n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::ENOBUFS) => return Err(Lost::Overrun),
                Err(e) => return Err(Lost::Sys("recv(AF_NETLINK)", e)),
            }
        };
        let bytes = self.buf.get(..len).ok_or(Lost::Sys("recv(AF_NETLINK)", Errno::EMSGSIZE))?;
        messages(bytes).for_each(each);
        Ok(true)
    }

    /// Tells of a process that may be asked to send transactions, if this one is not allowed to.
    pub fn set_detour(&mut self, path: PathBuf) {
        self.detour.path = Some(path);
    }

    /// Has transactions go through that process from now on, and its socket with this port; `false` if there
    /// is none to be asked.
    pub fn take_detour(&mut self, port: u32) -> bool {
        self.detour.taken = self.detour.path.as_ref().map(|_| port);
        self.detour.taken.is_some()
    }

    /// Whether that process listens; asked once.
    pub fn has_detour(&mut self) -> bool {
        let asked = std::mem::replace(&mut self.detour.asked, true);
        !asked && self.detour.path.as_ref().is_some_and(|path| path.exists())
    }

    /// Sends a transaction, through another process where that is to be asked. If that is gone, nothing
    /// stands in the way here any more.
    ///
    /// # Errors
    /// As `send`; `Lost::Overrun` when what became of it is not known.
    pub fn submit(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        if let (Some(path), Some(port)) = (&self.detour.path, self.detour.taken) {
            self.detour.answer = relay::ask(path, port, bytes)?;
            if self.detour.answer.is_some() {
                return Ok(());
            }
            self.detour.taken = None;
        }
        self.send(bytes)
    }

    /// What the kernel answers to a transaction, or a part of that.
    ///
    /// # Errors
    /// As `receive`.
    pub fn verdict(&mut self, each: &mut dyn FnMut(Msg<'_>)) -> Result<(), Lost> {
        match self.detour.answer.take() {
            Some(answer) => messages(answer.messages()).for_each(each),
            // All of it came at once.
            None if self.detour.taken.is_some() => return Err(Lost::Overrun),
            None => self.receive(each)?,
        }
        Ok(())
    }

    /// Throws away what is left of earlier exchanges.
    pub fn drain(&mut self) {
        while !matches!(self.receive_now(&mut |_| ()), Ok(false) | Err(Lost::Sys(..))) {}
    }
}

/// Lets messages about routes through that concern this host; a jump tells how many steps are left out if it
/// is so, and if it is not.
fn own_routes() -> [libc::sock_filter; 13] {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const OVER: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    const END: u32 = libc::BPF_RET | libc::BPF_K;
    [
        step(LOAD, 0, 0, ROUTE_LEN_AT),
        // A prefix of one bit is half of a default route.
        step(OVER, 0, 10, 1),
        step(LOAD, 0, 0, ROUTE_TABLE_AT),
        step(IS, 0, 2, TABLES.0),
        step(LOAD, 0, 0, ROUTE_TYPE_AT),
        step(IS, 6, 5, TO_US),
        step(IS, 0, 4, TABLES.1),
        step(LOAD, 0, 0, ROUTE_PROTOCOL_AT),
        step(OVER, 0, 3, STATIC),
        step(IS, 2, 0, ROUTERS.0),
        step(IS, 1, 0, ROUTERS.1),
        step(END, 0, 0, 0),
        step(END, 0, 0, u32::MAX),
    ]
}

/// An instruction of a socket filter.
fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

fn sys(call: &'static str, e: &std::io::Error) -> Lost {
    Lost::Sys(call, e.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says of a message, step by step as the kernel takes it.
    fn passes(message: &[u8]) -> bool {
        let program = own_routes();
        let (mut at, mut byte) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let (code, jump) =
                (u32::from(step.code), |yes: bool| usize::from(if yes { step.jt } else { step.jf }));
            match (code & 7, code & 0xf0) {
                (libc::BPF_LD, _) => byte = u32::from(message[usize::try_from(step.k).unwrap()]),
                (libc::BPF_JMP, libc::BPF_JEQ) => at += jump(byte == step.k),
                (libc::BPF_JMP, libc::BPF_JGT) => at += jump(byte > step.k),
                (libc::BPF_RET, _) => return step.k > 0,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn routes_of_others_wake_nobody() {
        const MAIN: u8 = 254;
        const LOCAL: u8 = 255;
        /// Length, table, protocol, type, whether it is heard of
        type Case = (&'static str, u8, u8, u8, u8, bool);
        let cases: [Case; 14] = [
            ("a default route of BGP", 0, MAIN, 186, 1, true),
            ("half of one in a table of its own", 1, 100, 4, 1, true),
            ("a connected network", 24, MAIN, 2, 1, true),
            ("one by DHCP", 24, MAIN, 16, 1, true),
            ("one of a router's advertisement", 64, MAIN, 9, 1, true),
            ("one by hand", 24, MAIN, 3, 1, true),
            ("a static one", 24, MAIN, 4, 1, true),
            ("one of BGP", 24, MAIN, 186, 1, false),
            ("one of zebra", 24, MAIN, 11, 1, false),
            ("one of bird", 24, MAIN, 12, 1, false),
            ("a policy's", 24, 100, 4, 1, false),
            ("an address of this host", 32, LOCAL, 2, 2, true),
            ("a broadcast address", 32, LOCAL, 2, 3, false),
            ("multicast", 8, LOCAL, 2, 5, false),
        ];
        for (name, len, table, protocol, kind, heard) in cases {
            let mut message = vec![0; 16];
            message.extend([2, len, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]);
            assert_eq!(passes(&message), heard, "{name}");
        }
    }
}
