#![forbid(unsafe_code)]
//! Messages that a syslog daemon forwards, a datagram each: by a socket in a directory of ours, which only
//! root can write to, or by UDP on loopback, to which every local user can. Knows no header: that is the
//! reader's business.

use super::lines::each_block;
use super::{Item, Progress, Source, Tags};
use crate::base::clock::{LineTime, Mono, Now};
use crate::sys::buffer::Buffer;
use crate::sys::socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Longest datagram that is taken whole: the longest that UDP has.
const DATAGRAM: usize = 65_536;
/// Datagrams are gathered in this much before they are looked at.
const RECEIVE_BUFFER: usize = 2 * DATAGRAM;
/// What a datagram counts for in a budget beside its bytes: each is a system call, even if it is empty.
const CALL: usize = 64;
/// Failures in a row after which the socket is left alone.
const FAILURES: u32 = 16;

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPlace {
    /// A path.
    Unix(PathBuf),
    /// An address and port.
    Udp(SocketAddr),
}

impl std::fmt::Display for SocketPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SocketPlace::Unix(path) => write!(f, "{}", path.to_string_lossy()),
            SocketPlace::Udp(addr) => write!(f, "{addr}"),
        }
    }
}

/// The syslog source: one socket.
pub struct Syslog {
    place: SocketPlace,
    socket: OwnedFd,
    tags: Tags,
    buffer: Buffer,
    cut: u64,
    truncated: u64,
    said: bool,
    /// It fails again and again: to wait for it would be to spin.
    broken: bool,
    /// Its name is another process's to remove.
    is_lent: bool,
}

impl Syslog {
    /// Opens the socket. What is left of one of ours at that path is replaced.
    ///
    /// # Errors
    /// What the system says; something else than a socket is at the path.
    pub fn open(place: SocketPlace, tags: Tags) -> io::Result<Syslog> {
        let socket = match &place {
            SocketPlace::Unix(path) => socket::listen_at(path)?,
            SocketPlace::Udp(addr) => socket::listen_on(*addr)?,
        };
        Ok(Syslog { is_lent: false, ..Syslog::lent(place, socket, tags) })
    }

    /// Takes a socket that another process has opened, and closes.
    #[must_use]
    pub fn lent(place: SocketPlace, socket: OwnedFd, tags: Tags) -> Syslog {
        let buffer = Buffer::new(RECEIVE_BUFFER);
        Syslog {
            place,
            socket,
            tags,
            buffer,
            cut: 0,
            truncated: 0,
            said: false,
            broken: false,
            is_lent: true,
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> &SocketPlace {
        &self.place
    }

    /// Who wants its messages from now on.
    pub fn set_tags(&mut self, tags: Tags) {
        self.tags = tags;
    }

    /// How many datagrams were longer than what is taken, and lost their end.
    #[must_use]
    pub fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Removes the socket's name: nobody will read there.
    pub fn close(&self) {
        if let SocketPlace::Unix(path) = &self.place
            && !self.is_lent
        {
            socket::remove(path);
        }
    }

    /// Gathers datagrams in the buffer, as lines. How many bytes, and whether there may be more.
    fn gather(&mut self, budget: usize) -> (usize, bool) {
        let (mut used, mut failures, mut left) = (0, 0, budget);
        loop {
            // One byte more than is taken, for the newline.
            let room = self.buffer.get_mut(used..=used + DATAGRAM);
            let Some(room) = room.filter(|_| left > 0) else { return (used, true) };
            left = left.saturating_sub(CALL);
            match socket::receive(&self.socket, room) {
                Ok(None) => return (used, false),
                Ok(Some(length)) => {
                    failures = 0;
                    self.truncated += u64::from(length > DATAGRAM);
                    left = left.saturating_sub(length);
                    used += tidy(room, length.min(DATAGRAM));
                }
                // A datagram that could not be had, for want of memory for example, is gone; the next may
                // come.
                Err(e) => {
                    if !std::mem::replace(&mut self.said, true) {
                        log::warn!("{}: {e}", self.place);
                    }
                    failures += 1;
                    if failures == FAILURES {
                        self.broken = true;

                        return (used, false);
                    }
                }
            }
        }
    }
}

/// Makes the first `length` bytes one line: newlines at its end are dropped, one inside becomes a space, so
/// that a message cannot pass for two. Returns the length of the line with its newline, for which `room` must
/// have a byte more than `length`; 0 when nothing is left.
pub fn tidy(room: &mut [u8], length: usize) -> usize {
    let text = room.get(..length).unwrap_or_default();
    let end = text.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | 0)).map_or(0, |at| at + 1);
    if end == 0 {
        return 0;
    }
    if let Some(text) = room.get_mut(..end) {
        text.iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b' ');
    }
    if let Some(last) = room.get_mut(end) {
        *last = b'\n';
    }
    end + 1
}

impl Source for Syslog {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.broken).then(|| self.socket.as_fd())
    }

    fn deadline(&self) -> Option<Mono> {
        None
    }

    fn drain(&mut self, _: Now, budget: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> Progress {
        let (used, more) = self.gather(budget);
        let tags = self.tags;
        if let Some(lines) = self.buffer.get_mut(..used) {
            self.cut += each_block(lines, &mut |lines| {
                sink(tags, Item::Block { lines, time: LineTime::Now, attested: false })
            });
        }
        if !more && used > 4096 {
            self.buffer.shrink(4096);
        }
        if more { Progress::More } else { Progress::Idle }
    }

    fn cut_lines(&self) -> u64 {
        self.cut
    }
}

/// The name under which a syslog daemon finds us, in the directory of what runs.
#[must_use]
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("log")
}

#[cfg(test)]
mod tests {
    use super::super::lines::{HALF, MAX_LINE};
    use super::*;
    use crate::sys::clock;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net::UnixDatagram;

    /// Reads until the socket is empty: the lines, and how often it gave way.
    fn read(syslog: &mut Syslog, budget: usize) -> (Vec<u8>, usize) {
        let (mut got, mut turns) = (Vec::new(), 0);
        loop {
            let progress = syslog.drain(clock::now(), budget, &mut |tags, item| match item {
                Item::Block { lines, time, .. } => {
                    assert!(tags == Tags(2) && time == LineTime::Now && lines.ends_with(b"\n"));
                    got.extend_from_slice(lines);
                }
                Item::Record(_) => panic!("datagrams are lines"),
            });
            if progress == Progress::Idle {
                return (got, turns);
            }
            turns += 1;
        }
    }

    struct SyslogBench {
        path: PathBuf,
        syslog: Syslog,
        sender: UnixDatagram,
    }

    impl SyslogBench {
        fn new(name: &str) -> SyslogBench {
            let path = std::env::temp_dir().join(format!("mef-syslog-{name}-{}", std::process::id()));
            let syslog = Syslog::open(SocketPlace::Unix(path.clone()), Tags(2)).unwrap();
            let sender = UnixDatagram::unbound().unwrap();
            sender.connect(&path).unwrap();
            SyslogBench { path, syslog, sender }
        }
    }

    impl Drop for SyslogBench {
        fn drop(&mut self) {
            self.syslog.close();
            assert!(!self.path.exists());
        }
    }

    #[test]
    fn a_datagram_is_one_line_whatever_is_in_it() {
        let cases: &[(&str, &[u8], &[u8])] = &[
            ("plain", b"<38>Nov 22 08:00:01 sshd[1]: x", b"<38>Nov 22 08:00:01 sshd[1]: x\n"),
            ("ended", b"x\n", b"x\n"),
            ("ended as by C and DOS", b"x\r\n\0", b"x\n"),
            (
                "with a forged line",
                b"<38>a: b\n<38>Nov 22 08:00:01 sshd[1]: Failed",
                b"<38>a: b <38>Nov 22 08:00:01 sshd[1]: Failed\n",
            ),
            ("with other bytes", b"a\0b\xff\r\x1bc", b"a\0b\xff\r\x1bc\n"),
            ("empty", b"", b""),
            ("newlines only", b"\n\n\0\n", b""),
        ];
        let mut b = SyslogBench::new("line");
        for (name, datagram, want) in cases {
            b.sender.send(datagram).unwrap();
            assert_eq!(read(&mut b.syslog, 1 << 20).0, *want, "{name}");
        }
    }

    #[test]
    fn only_the_owner_can_write_to_the_path() {
        let b = SyslogBench::new("mode");
        let meta = std::fs::metadata(&b.path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
        // A new daemon takes the place of a dead one, but not of a file.
        drop(Syslog::open(SocketPlace::Unix(b.path.clone()), Tags(2)).unwrap());
        std::fs::remove_file(&b.path).unwrap();
        std::fs::write(&b.path, "precious").unwrap();
        assert!(Syslog::open(SocketPlace::Unix(b.path.clone()), Tags(2)).is_err());
        assert_eq!(std::fs::read(&b.path).unwrap(), b"precious");
    }

    #[test]
    fn long_datagrams_keep_their_ends_and_endless_ones_are_counted() {
        let mut b = SyslogBench::new("long");
        let long = [vec![b'h'; 10_000], vec![b't'; 10_000]].concat();
        b.sender.send(&long).unwrap();
        let want = [vec![b'h'; HALF], vec![b't'; HALF], b"\n".to_vec()].concat();
        assert!(read(&mut b.syslog, 1 << 20).0 == want);
        assert_eq!((b.syslog.cut_lines(), b.syslog.truncated()), (1, 0));
        b.sender.send(&vec![b'x'; DATAGRAM]).unwrap();
        b.sender.send(&vec![b'x'; DATAGRAM + 1]).unwrap();
        b.sender.send(b"after").unwrap();
        let (got, _) = read(&mut b.syslog, 1 << 20);
        assert!(got.len() == 2 * (MAX_LINE + 1) + 6 && got.ends_with(b"x\nafter\n"));
        assert_eq!((b.syslog.cut_lines(), b.syslog.truncated()), (3, 1));
    }

    #[test]
    fn a_flood_gives_way_to_others_and_is_read_to_its_end() {
        let mut syslog = Syslog::open(SocketPlace::Udp("127.0.0.1:0".parse().unwrap()), Tags(2)).unwrap();
        let there: nix::sys::socket::SockaddrStorage =
            nix::sys::socket::getsockname(std::os::fd::AsRawFd::as_raw_fd(&syslog.socket)).unwrap();
        let port = there.as_sockaddr_in().unwrap().port();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..500 {
            sender.send_to(format!("{n}").as_bytes(), ("127.0.0.1", port)).unwrap();
            sender.send_to(b"", ("127.0.0.1", port)).unwrap();
        }
        let (got, turns) = read(&mut syslog, 1000);
        let want: String = (0..500).map(|n| format!("{n}\n")).collect();
        assert_eq!(got, want.as_bytes());
        assert!(turns >= 50, "{turns}");
    }
}
