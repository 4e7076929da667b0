#![forbid(unsafe_code)]
//! The daemon's end of the control socket. Nothing here waits: clients that send nothing, too much, or never
//! read lose their connection and hold nobody up. When all places are taken, those who come wait in the
//! kernel's queue until one is free, or somebody has nothing more to ask.

use super::NAME;
use super::proto::LINE_MAX;
use crate::base::clock::Mono;
use crate::sys::socket::private;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections at a time.
const CLIENTS: usize = 32;
/// Milliseconds without a question after which a client gives way to one that waits.
const GRACE: u64 = 500;
/// Milliseconds until it is tried again to take a connection, when the system has no descriptor or memory for
/// it.
const PAUSE: u64 = 1000;
/// Milliseconds in which a client has to finish a line.
const LINE_TIMEOUT: u64 = 5_000;
/// Reads at most from a client that has to go.
const LAST_READS: u32 = 1024;
/// What stands for the listening socket among the clients' numbers.
const LISTENER: u64 = CLIENTS as u64;

/// What becomes of a connection after a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next line.
    Next,
    /// The answer was all.
    Close,
    /// It is handed over by `ControlService::keep`.
    Keep,
}

/// Who answers.
pub trait ControlService {
    /// Answers a line.
    fn line(&mut self, line: &str, to: &UnixStream) -> Then;
    /// Takes a connection over.
    fn keep(&mut self, stream: UnixStream);
}

struct ControlConnection {
    stream: UnixStream,
    buf: [u8; LINE_MAX],
    len: usize,
    /// When it came, or finished its last line.
    since: Mono,
}

/// The socket and who is connected to it.
pub struct Server {
    listener: UnixListener,
    /// One descriptor for the loop, whoever is connected.
    epoll: Epoll,
    clients: [Option<Box<ControlConnection>>; CLIENTS],
    /// Until when nobody is taken in.
    paused: Option<Mono>,
    /// It was told that the system has nothing for more connections.
    reported: bool,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, in place of one that a previous daemon left: the caller holds the lock of run_dir.
    ///
    /// # Errors
    /// What the system says; the path of a socket has at most 107 bytes.
    pub fn open(run_dir: &Path) -> io::Result<Server> {
        let path = run_dir.join(NAME);
        let _ = std::fs::remove_file(&path);
        let listener = private(|| UnixListener::bind(&path))?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Server {
            listener,
            epoll,
            clients: [const { None }; CLIENTS],
            paused: None,
            reported: false,
            path,
        })
    }

    /// For polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// When the next client has been too slow, or somebody may be taken in again.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.clients.iter().flatten().map(|client| client.since.after(LINE_TIMEOUT)).chain(self.paused).min()
    }

    /// Serves whoever is ready; a bounded piece of work.
    pub fn serve(&mut self, now: Mono, service: &mut dyn ControlService) {
        let slow = |client: &Option<Box<ControlConnection>>| {
            client.as_ref().is_some_and(|client| client.since.after(LINE_TIMEOUT) <= now)
        };
        for at in 0..CLIENTS {
            if self.clients.get(at).is_some_and(slow) {
                self.part(at, now, service);
            }
        }
        let mut newcomers = self.paused.is_some_and(|at| at <= now);
        let mut events = [EpollEvent::empty(); CLIENTS + 1];
        let ready = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in events.iter().take(ready) {
            if event.data() == LISTENER {
                newcomers = true;
            } else {
                self.read(usize::try_from(event.data()).unwrap_or(CLIENTS), now, service);
            }
        }
        // Who has a place is answered first.
        if newcomers || (self.paused.is_some() && self.clients.iter().any(Option::is_none)) {
            self.accept(now, service);
        }
    }

    fn accept(&mut self, now: Mono, service: &mut dyn ControlService) {
        self.pause(None);
        for _ in 0..CLIENTS {
            let Some(at) = self.place(now, service) else {
                let next = self.clients.iter().flatten().map(|client| client.since.after(GRACE)).min();
                return self.pause(next.map(|next| next.max(now.after(1))));
            };
            match self.listener.accept() {
                Ok((stream, _)) => self.take(at, stream, now),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // The socket stays readable: to wait for it would be to spin.
                Err(e) => {
                    if !std::mem::replace(&mut self.reported, true) {
                        log::warn!("{}: {e}; commands have to wait", self.path.to_string_lossy());
                    }
                    return self.pause(Some(now.after(PAUSE)));
                }
            }
        }
    }

    /// A place that is free, or that somebody has who has asked nothing for a while.
    fn place(&mut self, now: Mono, service: &mut dyn ControlService) -> Option<usize> {
        if let Some(free) = self.clients.iter().position(Option::is_none) {
            return Some(free);
        }
        let idle = |c: &ControlConnection| c.len == 0 && c.since.after(GRACE) <= now;
        let all = self.clients.iter().enumerate().filter_map(|(at, c)| Some((at, c.as_ref()?)));
        let (at, _) = all.filter(|(_, c)| idle(c)).min_by_key(|(_, c)| c.since)?;
        self.part(at, now, service);
        self.clients.iter().position(Option::is_none)
    }

    fn take(&mut self, at: usize, stream: UnixStream, now: Mono) {
        self.reported = false;
        if !is_root(&stream) || stream.set_nonblocking(true).is_err() {
            return;
        }
        let number = u64::try_from(at).unwrap_or(LISTENER);
        if let Some(slot) = self.clients.get_mut(at)
            && self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number)).is_ok()
        {
            *slot = Some(Box::new(ControlConnection { stream, buf: [0; LINE_MAX], len: 0, since: now }));
        }
    }

    /// Waits for newcomers, or not for a time.
    fn pause(&mut self, until: Option<Mono>) {
        let flags = if until.is_some() { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        if until.is_some() != self.paused.is_some() {
            let _ = self.epoll.modify(&self.listener, &mut EpollEvent::new(flags, LISTENER));
        }
        self.paused = until;
    }

    /// Ends a connection: what the client has said before it learns of that is still heard.
    fn part(&mut self, at: usize, now: Mono, service: &mut dyn ControlService) {
        if let Some(Some(client)) = self.clients.get(at) {
            let _ = client.stream.shutdown(std::net::Shutdown::Read);
        }
        for _ in 0..LAST_READS {
            if self.clients.get(at).is_some_and(Option::is_some) {
                self.read(at, now, service);
            }
        }
        if let Some(slot) = self.clients.get_mut(at) {
            *slot = None;
        }
    }

    fn read(&mut self, at: usize, now: Mono, service: &mut dyn ControlService) {
        let Some(slot) = self.clients.get_mut(at) else { return };
        let Some(client) = slot else { return };
        match client.turn(now, service) {
            Then::Next => {}
            Then::Close => *slot = None,
            Then::Keep => {
                if let Some(client) = slot.take()
                    && self.epoll.delete(&client.stream).is_ok()
                {
                    service.keep(client.stream);
                }
            }
        }
    }
}

impl ControlConnection {
    /// Reads once and serves the lines that are whole.
    fn turn(&mut self, now: Mono, service: &mut dyn ControlService) -> Then {
        let room = self.buf.get_mut(self.len..).unwrap_or_default();
        match self.stream.read(room) {
            Ok(0) => return Then::Close,
            Ok(n) => self.len += n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Then::Next;
            }
            Err(_) => return Then::Close,
        }
        // As many as fit the buffer: none must be left, since only what is unread wakes us.
        loop {
            let held = self.buf.get(..self.len).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', held) else { break };
            let line = held.get(..end).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or("");
            let then = service.line(line, &self.stream);
            self.buf.copy_within(end + 1..self.len, 0);
            self.len -= end + 1;
            self.since = now;
            if then != Then::Next {
                return then;
            }
        }
        if self.len == LINE_MAX {
            send(&self.stream, b"error the line is too long\n");
            return Then::Close;
        }
        Then::Next
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the other end is root, or who runs this daemon.
fn is_root(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

/// What became of a line that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    All,
    /// The reader has not read enough of what came before.
    Full,
    /// There is no reader any more.
    Gone,
}

/// Sends a short line at once, all of it or nothing.
pub fn send(mut stream: &UnixStream, bytes: &[u8]) -> Sent {
    // A short line is one buffer of the kernel, which is there or not.
    match stream.write(bytes) {
        Ok(n) if n == bytes.len() => Sent::All,
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Sent::Full,
        _ => Sent::Gone,
    }
}

/// Whether the other end is closed. One that has said something more counts as gone, too: nobody asked.
#[must_use]
pub fn is_gone(stream: &UnixStream) -> bool {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    recv(stream.as_raw_fd(), &mut [0], flags) != Err(nix::Error::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;
    use std::os::unix::fs::PermissionsExt as _;

    struct Echo(Vec<UnixStream>);

    impl ControlService for Echo {
        fn line(&mut self, line: &str, to: &UnixStream) -> Then {
            send(to, format!("<{line}>\n").as_bytes());
            match line {
                "keep" => Then::Keep,
                "close" => Then::Close,
                _ => Then::Next,
            }
        }
        fn keep(&mut self, stream: UnixStream) {
            self.0.push(stream);
        }
    }

    fn server(name: &str) -> (Server, PathBuf) {
        let dir = std::env::temp_dir().join(format!("mef-control-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        (Server::open(&dir).unwrap(), dir)
    }

    fn turns(server: &mut Server, service: &mut Echo) {
        (0..8).for_each(|_| server.serve(clock::mono(), service));
    }

    fn heard(mut stream: &UnixStream) -> String {
        stream.set_nonblocking(true).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    fn gone(mut stream: &UnixStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        // What it sent may be lost on us, as its end is not.
        (0..3).any(|_| match stream.read(&mut [0; 4096]) {
            Ok(n) => n == 0,
            Err(e) => e.kind() != ErrorKind::WouldBlock,
        })
    }

    #[test]
    fn lines_are_answered_whole_or_in_pieces() {
        let (mut server, dir) = server("lines");
        let mut echo = Echo(Vec::new());
        let mut client = UnixStream::connect(dir.join(NAME)).unwrap();
        client.write_all(b"one\ntw").unwrap();
        turns(&mut server, &mut echo);
        assert_eq!(heard(&client), "<one>\n");
        client.write_all(b"o\n\xff\n\n").unwrap();
        turns(&mut server, &mut echo);
        assert_eq!(heard(&client), "<two>\n<>\n<>\n");
        client.write_all(b"keep\nmore\n").unwrap();
        turns(&mut server, &mut echo);
        assert_eq!((heard(&client), echo.0.len()), ("<keep>\n".into(), 1));
        drop(server);
        assert!(!dir.join(NAME).exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn bad_clients_lose_their_connection() {
        let (mut server, dir) = server("bad");
        let mut echo = Echo(Vec::new());
        let path = dir.join(NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let connect = || UnixStream::connect(&path).unwrap();
        let mut long = connect();
        long.write_all(&[b'x'; 1000]).unwrap();
        turns(&mut server, &mut echo);
        assert!(gone(&long));
        // Sends and never reads: its answers are lost, and nobody waits.
        let mut deaf = connect();
        deaf.set_nonblocking(true).unwrap();
        for _ in 0..20_000 {
            let _ = deaf.write(&[[b'y'; 250].as_slice(), b"\n"].concat());
            server.serve(clock::mono(), &mut echo);
        }
        // Says nothing: in time it is shut out.
        let silent = connect();
        server.serve(clock::mono(), &mut echo);
        assert!(!gone(&silent) && server.deadline().is_some());
        let late = clock::mono().after(LINE_TIMEOUT);
        server.serve(late, &mut echo);
        assert!(gone(&silent));
        std::fs::remove_dir_all(dir).unwrap();
    }
    #[test]
    fn as_many_as_come_are_answered() {
        let (mut server, dir) = server("many");
        let mut echo = Echo(Vec::new());
        let start = clock::mono();
        let clients: Vec<UnixStream> =
            (0..CLIENTS * 3).map(|_| UnixStream::connect(dir.join(NAME)).unwrap()).collect();
        let mut answers = 0;
        // All of them wait, and ask when all places are taken; none goes away.
        for turn in 0..6 {
            server.serve(start.after(turn * (GRACE + 1)), &mut echo);
            for mut client in &clients {
                let _ = client.write(b"what\n");
            }
            server.serve(start.after(turn * (GRACE + 1) + 1), &mut echo);
            answers += clients.iter().filter(|client| heard(client).contains("<what>")).count();
        }
        assert!(answers >= clients.len(), "{answers} of {}", clients.len());
        assert!(server.paused.is_none() || server.deadline().is_some());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn who_gives_way_is_heard_to_the_end() {
        let (mut server, dir) = server("last");
        let mut echo = Echo(Vec::new());
        let start = clock::mono();
        let connect = || UnixStream::connect(dir.join(NAME)).unwrap();
        let mut first = connect();
        server.serve(start, &mut echo);
        let _others: Vec<UnixStream> = (0..CLIENTS).map(|_| connect()).collect();
        server.serve(start, &mut echo);
        assert!(!gone(&first), "nobody gives way within a moment");
        server.serve(start.after(GRACE - 1), &mut echo);
        assert!(!gone(&first));
        first.write_all(&b"a\n".repeat(200)).unwrap();
        server.part(0, start.after(GRACE), &mut echo);
        assert_eq!(heard(&first).matches("<a>").count(), 200);
        assert!(gone(&first) && first.write(b"b\n").is_err());
        // Half a question keeps its place until its time is up.
        server.serve(start.after(GRACE + 1), &mut echo);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
