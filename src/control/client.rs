#![forbid(unsafe_code)]
//! A command's end of the control socket.

use super::NAME;
use super::proto::Request;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a daemon may take for an answer, and to take a question in.
const ANSWER: Duration = Duration::from_secs(5);
const QUESTION: Duration = Duration::from_millis(200);
/// Longest line of an answer that is read, bytes.
const LINE_MAX: u64 = 4096;

/// A connection to the daemon.
pub struct Client(UnixStream);

impl Client {
    /// Connects; `None` if no daemon listens there.
    ///
    /// # Errors
    /// What the system says: it is somebody else's socket, or the daemon takes no more connections.
    pub fn connect(run_dir: &Path) -> io::Result<Option<Client>> {
        // A daemon that stands still must not stop us.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), &UnixAddr::new(&run_dir.join(NAME))?) {
            Err(nix::Error::ENOENT | nix::Error::ECONNREFUSED | nix::Error::ENOTDIR) => return Ok(None),
            connected => connected?,
        }
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(QUESTION))?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(Some(Client(stream)))
    }

    /// Says something.
    ///
    /// # Errors
    /// What the system says.
    pub fn tell(&mut self, request: &Request<'_>) -> io::Result<()> {
        self.0.write_all(format!("{request}\n").as_bytes())
    }

    /// Gives each line of the answer to `each`, until that returns false or there are no more. `patient`: they come when
    /// they come.
    ///
    /// # Errors
    /// What the system says; a line that is too long.
    pub fn lines(&self, patient: bool, each: &mut dyn FnMut(&str) -> bool) -> io::Result<()> {
        if patient {
            self.0.set_read_timeout(None)?;
        }
        let mut reader = BufReader::with_capacity(2048, &self.0);
        let mut line = Vec::new();
        loop {
            line.clear();
            match io::Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
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
        self.tell(request)?;
        let mut heard = false;
        self.lines(false, &mut |line| {
            heard = line == "ok";
            false
        })?;
        Ok(heard)
    }
}
