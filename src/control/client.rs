#![forbid(unsafe_code)]
//! A command's end of the control socket.

use super::NAME;
use super::proto::Request;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon may take for an answer, for one that is work, and to take a question in.
const ANSWER: Duration = Duration::from_secs(5);
const WORK: Duration = Duration::from_secs(60);
const QUESTION: Duration = Duration::from_millis(200);
/// Longest line of an answer that is read, bytes.
const LINE_MAX: u64 = 4096;

/// How long the lines of an answer are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For a few seconds each.
    Bounded,
    /// For a minute each: they come when something is done.
    Work,
    /// They come when they come.
    Endless,
}

/// A connection to the daemon. The daemon may end it while nothing is asked: then it is made anew.
pub struct ControlClient {
    stream: UnixStream,
    run_dir: PathBuf,
}

impl ControlClient {
    /// Connects; `None` if no daemon listens there.
    ///
    /// # Errors
    /// What the system says: it is somebody else's socket, or the daemon takes no more connections.
    pub fn connect(run_dir: &Path) -> io::Result<Option<ControlClient>> {
        Ok(open(run_dir)?.map(|stream| ControlClient { stream, run_dir: run_dir.to_owned() }))
    }

    /// Says something.
    ///
    /// # Errors
    /// What the system says.
    pub fn notify(&mut self, request: &Request<'_>) -> io::Result<()> {
        let line = format!("{request}\n");
        match self.stream.write_all(line.as_bytes()) {
            Err(e) if is_ended(&e) => {
                self.reconnect()?;
                self.stream.write_all(line.as_bytes())
            }
            result => result,
        }
    }

    /// The number of the process at the other end, as the kernel knows it: what a daemon says of itself is no
    /// reason to end a process.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        getsockopt(&self.stream, sockopt::PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
    }

    fn reconnect(&mut self) -> io::Result<()> {
        self.stream = open(&self.run_dir)?.ok_or(ErrorKind::NotConnected)?;
        Ok(())
    }

    /// Gives each line of the answer to `each`, until that returns false or there are no more.
    ///
    /// # Errors
    /// What the system says; `TimedOut` where nothing came in time.
    pub fn lines(&self, patience: Patience, each: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
        let bound = match patience {
            Patience::Bounded => Some(ANSWER),
            Patience::Work => Some(WORK),
            Patience::Endless => None,
        };
        self.stream.set_read_timeout(bound)?;
        let mut reader = BufReader::with_capacity(2048, &self.stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match io::Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let bound = bound.unwrap_or_default().as_secs();
                    return Err(io::Error::new(ErrorKind::TimedOut, format!("no answer within {bound} s")));
                }
                Err(e) => return Err(e),
            }
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
            // Root's terminal does what they say; a daemon that is somebody else's by now may say anything.
            let text = text.replace(|c: char| c.is_control() && c != '\t', "?");
            if !each(&text) {
                return Ok(());
            }
        }
    }

    /// Tells the daemon and waits until it has heard; `false` without an answer.
    ///
    /// # Errors
    /// What the system says.
    pub fn ask(&mut self, request: &Request<'_>) -> io::Result<bool> {
        self.ask_all(std::slice::from_ref(request))
    }

    /// Likewise of several requests, each of which is answered; few enough for the buffers on the way.
    ///
    /// # Errors
    /// What the system says.
    pub fn ask_all(&mut self, requests: &[Request<'_>]) -> io::Result<bool> {
        let mut heard = 0;
        for last in [false, true] {
            let rest = requests.get(heard..).unwrap_or_default();
            let text: String = rest.iter().map(|request| format!("{request}\n")).collect();
            match self.stream.write_all(text.as_bytes()) {
                // It ended while nothing was asked.
                Err(e) if !last && is_ended(&e) => {
                    self.reconnect()?;
                    continue;
                }
                result => result?,
            }
            let before = heard;
            let ended = self.lines(Patience::Bounded, &mut |line| {
                heard += usize::from(line == "ok");
                line == "ok" && heard < requests.len()
            });
            match ended {
                Err(e) if last || e.kind() != ErrorKind::ConnectionReset => return Err(e),
                _ if heard > before || last => break,
                // It ended before the question was there.
                _ => self.reconnect()?,
            }
        }
        Ok(heard == requests.len())
    }
}

/// Whether the daemon has ended the connection, in favour of somebody who asks something.
fn is_ended(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn open(run_dir: &Path) -> io::Result<Option<UnixStream>> {
    // A daemon that stands still must not stop us.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &UnixAddr::new(&run_dir.join(NAME))?) {
        Err(nix::Error::ENOENT | nix::Error::ECONNREFUSED | nix::Error::ENOTDIR) => return Ok(None),
        Err(nix::Error::EAGAIN) => return Err(io::Error::other("it takes no more connections")),
        connected => connected?,
    }
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(QUESTION))?;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(Some(stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    /// Answers on a socket of its own; the first connections are ended before anything is asked.
    fn answers(name: &str, ended: usize) -> (PathBuf, std::thread::JoinHandle<usize>) {
        let dir = std::env::temp_dir().join(format!("mef-client-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let listener = UnixListener::bind(dir.join(NAME)).unwrap();
        let thread = std::thread::spawn(move || {
            (0..ended).for_each(|_| drop(listener.accept().unwrap()));
            let (mut stream, _) = listener.accept().unwrap();
            let (mut lines, mut room) = (0, [0; 512]);
            while let Ok(n @ 1..) = stream.read(&mut room) {
                let asked = room.iter().take(n).filter(|&&b| b == b'\n').count();
                lines += asked;
                let _ = stream.write_all("ok\n".repeat(asked).as_bytes());
            }
            lines
        });
        (dir, thread)
    }

    #[test]
    fn a_connection_that_was_ended_while_nothing_was_asked_is_made_anew() {
        for ended in [0, 1] {
            let (dir, thread) = answers(&format!("anew-{ended}"), ended);
            let mut client = ControlClient::connect(&dir).unwrap().unwrap();
            while ended > 0 && client.stream.write(b"").is_ok() && !closed(&client.stream) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let requests = [Request::Status, Request::Status, Request::Status];
            assert!(client.ask_all(&requests).unwrap(), "{ended}");
            drop(client);
            assert_eq!(thread.join().unwrap(), requests.len());
            std::fs::remove_dir_all(dir).unwrap();
        }
    }

    fn closed(stream: &UnixStream) -> bool {
        super::super::server::is_gone(stream)
    }
}
