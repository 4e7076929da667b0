#![forbid(unsafe_code)]
//! Sockets that take datagrams. Must not know what is in them.

use super::fs::{c_path, invalid};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind,
    recv, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::stat::{Mode, SFlag, lstat, umask};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

/// Bytes that the kernel keeps for us while we do something else.
const QUEUE: usize = 1 << 20;

/// A socket at `path` that only root can write to. A socket that was there is replaced: whoever held it is
/// gone, or loses it.
///
/// # Errors
/// What the system says; something else than a socket is at the path.
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let addr = UnixAddr::new(path)?;
    match lstat(&*c_path(path)?) {
        Ok(st) if SFlag::from_bits_truncate(st.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK => remove(path),
        Ok(_) => return Err(invalid("something other than a socket is there")),
        Err(_) => {}
    }
    datagrams(AddressFamily::Unix, &addr)
}

/// A UDP socket at `addr`.
///
/// # Errors
/// What the system says.
pub fn listen_on(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    datagrams(family, &SockaddrStorage::from(addr))
}

fn datagrams(family: AddressFamily, addr: &dyn SockaddrLike) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(family, SockType::Datagram, flags, None)?;
    // More than the limit for others where we may, else up to it; without, it is the system's default.
    if setsockopt(&made, sockopt::RcvBufForce, &QUEUE).is_err() {
        let _ = setsockopt(&made, sockopt::RcvBuf, &QUEUE);
    }
    private(|| bind(made.as_raw_fd(), addr))?;
    // Nothing is ever sent from it, whoever it is lent to. Of UDP that holds although it is refused, for want
    // of somebody at the other end.
    let _ = shutdown(made.as_raw_fd(), Shutdown::Write);
    Ok(made)
}

/// Binds sockets that nobody else is let in to, not even for a moment: what `make` makes is its owner's
/// alone. By the mask, since a confined daemon may change the mode of nothing.
pub fn private<R>(make: impl FnOnce() -> R) -> R {
    let before = umask(Mode::from_bits_truncate(0o177));
    let made = make();
    umask(before);
    made
}

/// Removes the name of a socket.
pub fn remove(path: &Path) {
    let _ = c_path(path).map(|path| nix::unistd::unlink(&*path));
}

/// Receives one datagram into `room`. Its length is that of the datagram, also where only its begin had room.
/// `None`: there is none.
///
/// # Errors
/// What the system says.
pub fn receive(socket: &OwnedFd, room: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match recv(socket.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(Errno::EINTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    /// All that is there, in one.
    fn received(socket: &OwnedFd) -> Vec<u8> {
        let mut room = [0; 8];
        let each = std::iter::from_fn(|| receive(socket, &mut room).unwrap().map(|len| room[..len].to_vec()));
        each.flatten().collect()
    }

    #[test]
    fn what_takes_datagrams_sends_none() {
        let path = std::env::temp_dir().join(format!("mef-sends-none-{}", std::process::id()));
        let other = path.with_extension("other");
        let _ = std::fs::remove_file(&other);
        let (unix, there) = (listen_at(&path).unwrap(), UnixDatagram::bind(&other).unwrap());
        there.send_to(b"a", &path).unwrap();
        there.send_to(b"b", &path).unwrap();
        let ours = UnixDatagram::from(unix.try_clone().unwrap());
        assert_eq!(ours.send_to(b"x", &other).unwrap_err().kind(), ErrorKind::BrokenPipe);
        ours.connect(&other).unwrap();
        assert_eq!(ours.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(received(&unix), b"ab", "who sends nothing receives on");
        remove(&path);
        remove(&other);

        for any in ["127.0.0.1:0", "[::1]:0"] {
            // Where there is no IPv6 there is nothing to send by it.
            let Ok(udp) = listen_on(any.parse().unwrap()) else { continue };
            let there = UdpSocket::bind(any).unwrap();
            let ours = UdpSocket::from(udp.try_clone().unwrap());
            there.send_to(b"a", ours.local_addr().unwrap()).unwrap();
            let to = there.local_addr().unwrap();
            assert_eq!(ours.send_to(b"x", to).unwrap_err().kind(), ErrorKind::BrokenPipe);
            ours.connect(to).unwrap();
            assert_eq!(ours.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            there.send_to(b"b", ours.local_addr().unwrap()).unwrap();
            assert_eq!(received(&udp), b"ab", "{any}");
        }
    }
}
