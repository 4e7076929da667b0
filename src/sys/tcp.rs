#![forbid(unsafe_code)]
//! Connections to servers by TCP, for processes that have nothing else to do meanwhile: each step waits, but
//! never for longer than it was told to.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// A connection.
pub struct TcpConnection(OwnedFd);

impl TcpConnection {
    /// Connects to `addr`; this and every step that follows takes `secs` at most.
    ///
    /// # Errors
    /// What the system says; `ETIMEDOUT` when time is up.
    pub fn connect(addr: SocketAddr, secs: u32) -> io::Result<TcpConnection> {
        let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        let time = TimeVal::new(secs.into(), 0);
        setsockopt(&made, sockopt::SendTimeout, &time)?;
        setsockopt(&made, sockopt::ReceiveTimeout, &time)?;
        // Whatever is sent is a whole request.
        let _ = setsockopt(&made, sockopt::TcpNoDelay, &true);
        connect(made.as_raw_fd(), &SockaddrStorage::from(addr)).map_err(|e| match e {
            // So the kernel says that the time is up.
            Errno::EINPROGRESS | Errno::EAGAIN => Errno::ETIMEDOUT,
            e => e,
        })?;
        Ok(TcpConnection(made))
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// What the system says; `ETIMEDOUT` when time is up.
    pub fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(e) => interrupted(e)?,
            }
        }
        Ok(())
    }

    /// Receives what there is, at least a byte; nothing when the other side has ended.
    ///
    /// # Errors
    /// What the system says; `ETIMEDOUT` when time is up.
    pub fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match recv(self.0.as_raw_fd(), room, MsgFlags::empty()) {
                Ok(length) => return Ok(length),
                Err(e) => interrupted(e)?,
            }
        }
    }
}

/// Nothing, if it is worth another try.
fn interrupted(e: Errno) -> io::Result<()> {
    match e {
        Errno::EINTR => Ok(()),
        Errno::EAGAIN => Err(Errno::ETIMEDOUT.into()),
        e => Err(e.into()),
    }
}
