//! A netlink socket that others send through: to the kernel the socket is who speaks, and what a socket owns
//! only that socket may change. One exchange for each connection: a datagram with the port of the socket that
//! is meant (there may be others in other network namespaces) and messages, and one with the error number of
//! the system call and what the kernel answered. Does not know what the messages are about.

use super::buffer::Buffer;
use super::clock;
use super::netlink::Lost;
use super::socket::{private, remove};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, NetlinkAddr, SockFlag, SockType, UnixAddr, bind, connect, getsockname,
    getsockopt, listen, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

/// Places for those who have connected and not yet sent anything, which takes them microseconds. When all are
/// taken, the next one gets that of another, who has to come again.
const CLIENTS: usize = 16;
/// What stands for the listening socket among the clients' numbers.
const LISTENER: u64 = CLIENTS as u64;
/// Connections in the kernel's queue, and those that one turn takes out of it.
const QUEUE: i32 = 128;
const NEWCOMERS: u32 = 64;
/// Longest question: the largest transaction, with its marks.
const LONGEST: usize = HEAD + (1 << 20) + (16 << 10);
/// Bytes that one receive from the kernel can bring.
const RECEIVE: usize = 16 << 10;
/// Answers beyond this many bytes need a larger send buffer than there is as a rule.
const SMALL: usize = 64 << 10;
/// Bytes of the number in front of a question and an answer.
const HEAD: usize = 4;
/// Longest wait for an answer, ms, and the time between two tries to ask while the queue is full.
const WAIT: u64 = 20_000;
const STEP: Duration = Duration::from_millis(5);
/// What is answered when another socket is meant.
const ELSEWHERE: Errno = Errno::EXDEV;
/// What fails when it is the process at the other end.
pub const CALL: &str = "the daemon that owns the table";

/// Whether messages may be sent.
pub type MessageFilter = fn(&[u8]) -> bool;

/// The end of the process whose socket it is.
pub struct Relay {
    /// Another descriptor of that socket.
    netlink: OwnedFd,
    port: u32,
    judge: MessageFilter,
    listener: UnixListener,
    epoll: Epoll,
    clients: RefCell<Clients>,
    path: PathBuf,
}

#[derive(Default)]
struct Clients {
    places: [Option<UnixStream>; CLIENTS],
    /// The place that is taken away next.
    next: usize,
    /// Given up for a moment when there are no more descriptors: who cannot be taken in is told so by its
    /// end.
    spare: Option<OwnedFd>,
}

thread_local! {
    /// The one of this process, null = none: whoever waits for another process serves it meanwhile, since
    /// that one may wait for us. No smart pointer: what is dropped at the end of a thread takes 10 kB of
    /// program.
    static OURS: Cell<*const Relay> = const { Cell::new(ptr::null()) };
}

impl Relay {
    /// Makes the socket at `path`, in place of one that a previous process left. `judge` says what may be
    /// sent.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, netlink: BorrowedFd<'_>, judge: MessageFilter) -> io::Result<Rc<Relay>> {
        remove(path);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let address = UnixAddr::new(path)?;
        private(|| bind(listener.as_raw_fd(), &address))?;
        listen(&listener, Backlog::new(QUEUE)?)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let clients = Clients { spare: Some(netlink.try_clone_to_owned()?), ..Clients::default() };
        let relay = Rc::new(Relay {
            netlink: netlink.try_clone_to_owned()?,
            port: getsockname::<NetlinkAddr>(netlink.as_raw_fd())?.pid(),
            judge,
            listener: listener.into(),
            epoll,
            clients: RefCell::new(clients),
            path: path.to_owned(),
        });
        OURS.set(Rc::as_ptr(&relay));
        Ok(relay)
    }

    /// For polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Serves whoever is ready; a bounded piece of work. Not while an exchange with the kernel is under way.
    pub fn turn(&self) {
        let Ok(mut clients) = self.clients.try_borrow_mut() else { return };
        let mut events = [EpollEvent::empty(); CLIENTS + 1];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let mut newcomers = false;
        for event in events.iter().take(ready) {
            let place = usize::try_from(event.data()).unwrap_or(CLIENTS);
            let Some(client) = clients.places.get_mut(place).and_then(Option::take) else {
                newcomers |= event.data() == LISTENER;
                continue;
            };
            self.answer(&client);
        }
        for _ in 0..NEWCOMERS {
            if !newcomers || !self.accept(&mut clients) {
                break;
            }
        }
    }

    /// Takes one in; `false` if there is none.
    fn accept(&self, clients: &mut Clients) -> bool {
        match self.listener.accept() {
            Ok((client, _)) => self.take(clients, client),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                drop(clients.spare.take());
                drop(self.listener.accept());
                clients.spare = self.netlink.try_clone().ok();
                return clients.spare.is_some();
            }
            Err(e) => return e.kind() == io::ErrorKind::Interrupted,
        }
        true
    }

    fn take(&self, clients: &mut Clients, client: UnixStream) {
        let own = nix::unistd::geteuid().as_raw();
        let root = |peer: libc::uid_t| peer == 0 || peer == own;
        let known = getsockopt(&client, sockopt::PeerCredentials).is_ok_and(|peer| root(peer.uid()));
        if !known || self.answer(&client) {
            return;
        }
        let free = clients.places.iter().position(Option::is_none);
        let at = free.unwrap_or(clients.next % CLIENTS);
        clients.next = at + 1;
        let number = u64::try_from(at).unwrap_or(LISTENER);
        if self.epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, number)).is_ok()
            && let Some(place) = clients.places.get_mut(at)
        {
            *place = Some(client);
        }
    }

    /// Sends what the client asks for, and the answer back; `false` if it has not asked yet.
    fn answer(&self, client: &UnixStream) -> bool {
        let question = match datagram(client.as_raw_fd(), LONGEST) {
            Ok(question) => question,
            Err(Errno::EAGAIN) => return false,
            Err(_) => return true,
        };
        // Who has gone away does not hear what became of it, and must not have it done.
        if is_gone(client) {
            return true;
        }
        let mut answer = vec![0; HEAD];
        let done = match question.split_first_chunk::<HEAD>() {
            Some((port, _)) if u32::from_ne_bytes(*port) != self.port => Err(ELSEWHERE),
            Some((_, messages)) if (self.judge)(messages) => self.exchange(messages, &mut answer),
            _ => Err(Errno::EPERM),
        };
        let errno = done.err().map_or(0, |e| e as i32);
        if let Some(head) = answer.first_chunk_mut() {
            *head = errno.to_ne_bytes();
        }
        if answer.len() > SMALL {
            let _ = setsockopt(client, sockopt::SndBufForce, &answer.len());
        }
        // Who is gone, or has no room, learns by the end that the answer is lost.
        let _ = send(client.as_raw_fd(), &answer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        true
    }

    /// The kernel does everything within the system call: its answers are there when that returns.
    fn exchange(&self, question: &[u8], answer: &mut Vec<u8>) -> Result<(), Errno> {
        let mut room = [0; RECEIVE];
        // What is left of earlier exchanges.
        while self.receive(&mut room) != Err(Errno::EAGAIN) {}
        let mut grown = false;
        loop {
            match send(self.netlink.as_raw_fd(), question, MsgFlags::empty()) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EMSGSIZE) if !grown => {
                    grown = true;
                    let _ = setsockopt(&self.netlink, sockopt::SndBufForce, &question.len());
                }
                Err(e) => return Err(e),
            }
        }
        let mut result = Ok(());
        loop {
            match self.receive(&mut room) {
                Ok(n) => answer.extend_from_slice(room.get(..n).unwrap_or_default()),
                Err(Errno::EAGAIN) => return result,
                Err(e) => result = Err(e),
            }
        }
    }

    /// What the kernel has answered; EAGAIN when that was all, ENOBUFS if some of it was lost.
    fn receive(&self, room: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match recv(self.netlink.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => {}
                Err(e) if e != Errno::ENOBUFS => return Err(Errno::EAGAIN),
                result => return result,
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if ptr::eq(OURS.get(), self) {
            forget();
        }
        remove(&self.path);
    }
}

fn is_gone(client: &UnixStream) -> bool {
    let mut fds = [PollFd::new(client.as_fd(), PollFlags::empty())];
    let looked = ppoll(&mut fds, Some(TimeSpec::from(Duration::ZERO)), None);
    !matches!(looked, Ok(0))
}

/// Takes a datagram of at most `longest` bytes; EAGAIN if there is none, ECONNRESET if there never will be.
/// Its memory goes back to the system afterwards: a daemon has no other use for so much.
fn datagram(fd: RawFd, longest: usize) -> Result<Buffer, Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    let len = recv(fd, &mut [], flags | MsgFlags::MSG_PEEK)?;
    if len == 0 || len > longest {
        return Err(Errno::ECONNRESET);
    }
    let mut bytes = Buffer::new(len);
    recv(fd, &mut bytes, flags)?;
    Ok(bytes)
}

/// Waits for another process: sleeps, and serves those who send through a socket of this one meanwhile.
pub fn pause(time: Duration) {
    let Some(relay) = ours() else { return std::thread::sleep(time) };
    let end = clock::mono().after(1);
    loop {
        let mut fds = [PollFd::new(relay.fd(), PollFlags::POLLIN)];
        if !matches!(ppoll(&mut fds, Some(TimeSpec::from(time)), None), Ok(1..)) {
            return;
        }
        relay.turn();
        // Who is busy with others has waited, too.
        if clock::mono() >= end {
            return;
        }
    }
}

/// Serves those who wait, between two pieces of long work.
pub fn turn() {
    if let Some(relay) = ours() {
        relay.turn();
    }
}

/// The one of this process, if it has one: for whoever waits long for something else.
#[must_use]
pub fn ours() -> Option<Rc<Relay>> {
    let ours = Some(OURS.get()).filter(|ours| !ours.is_null())?;
    // SAFETY: it came from an `Rc`, and is null from the end of that on: it lives.
    unsafe { Rc::increment_strong_count(ours) };
    // SAFETY: as above; the count was raised for this one.
    Some(unsafe { Rc::from_raw(ours) })
}

/// In a second process, which has none of the descriptors.
pub(super) fn forget() {
    OURS.set(ptr::null());
}

/// What the kernel has answered to messages.
pub struct RelayReply(Buffer);

impl RelayReply {
    /// All of it, without padding in between.
    #[must_use]
    pub fn messages(&self) -> &[u8] {
        self.0.get(HEAD..).unwrap_or_default()
    }
}

/// Has messages sent by the process that listens at `path`, through its socket with that port, and gives the
/// kernel's answers. `None`: nobody listens who has that socket.
///
/// # Errors
/// `Lost::Overrun` when what became of them is not known; else the system call that failed, theirs or ours.
pub fn ask(path: &Path, port: u32, messages: &[u8]) -> Result<Option<RelayReply>, Lost> {
    let ours = |errno| Lost::Sys(CALL, errno);
    let end = clock::mono().after(WAIT);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(ours)?;
    let address = UnixAddr::new(path).map_err(ours)?;
    loop {
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR) => return Ok(None),
            Err(Errno::EAGAIN) if clock::mono() < end => std::thread::sleep(STEP),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(ours(Errno::ETIMEDOUT)),
            Err(e) => return Err(ours(e)),
        }
    }
    let question = [&port.to_ne_bytes(), messages].concat();
    if question.len() > SMALL {
        let _ = setsockopt(&fd, sockopt::SndBufForce, &question.len());
    }
    match send(fd.as_raw_fd(), &question, MsgFlags::MSG_NOSIGNAL) {
        Ok(_) => {}
        Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Lost::Overrun),
        Err(e) => return Err(ours(e)),
    }
    let answer = loop {
        let left = Duration::from_millis(end.since(clock::mono()));
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(TimeSpec::from(left)), None) {
            Ok(0) => return Err(ours(Errno::ETIMEDOUT)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(ours(e)),
        }
        match datagram(fd.as_raw_fd(), usize::MAX) {
            Ok(answer) => break answer,
            Err(Errno::EAGAIN) => {}
            Err(_) => return Err(Lost::Overrun),
        }
    };
    let head = answer.first_chunk::<HEAD>().ok_or(Lost::Overrun)?;
    match Errno::from_raw(i32::from_ne_bytes(*head)) {
        Errno::ENOBUFS => Err(Lost::Overrun),
        ELSEWHERE => Ok(None),
        errno if errno as i32 != 0 => Err(Lost::Sys("sendto(AF_NETLINK)", errno)),
        _ => Ok(Some(RelayReply(answer))),
    }
}
