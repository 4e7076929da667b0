#![forbid(unsafe_code)]
//! Messages between two processes of ours: whole ones, in their order, and descriptors beside them. Must not
//! know what is in them.

use super::runner::received;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// Descriptors beside a message at most.
const DESCRIPTORS_MAX: usize = 2;

/// What becomes of who finds no room, or no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketWait {
    /// It waits.
    Waits,
    /// It is told so: EAGAIN.
    None,
}

impl PacketWait {
    fn flags(self) -> MsgFlags {
        match self {
            PacketWait::Waits => MsgFlags::MSG_NOSIGNAL,
            PacketWait::None => MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
        }
    }
}

/// Two ends.
///
/// # Errors
/// No descriptor is left.
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends one message, which must not be empty.
///
/// # Errors
/// The other end is gone, or does not read.
pub fn send(
    to: BorrowedFd<'_>,
    bytes: &[u8],
    beside: &[BorrowedFd<'_>],
    patience: PacketWait,
) -> Result<(), Errno> {
    let fds: Vec<RawFd> = beside.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    loop {
        match sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], rights, patience.flags(), None) {
            Err(Errno::EINTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// Takes one message: its length, and what came beside it.
///
/// # Errors
/// There is none (EAGAIN); it is longer than `room` (EMSGSIZE); the other end is gone (ECONNRESET).
pub fn receive(
    from: BorrowedFd<'_>,
    room: &mut [u8],
    patience: PacketWait,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = patience.flags() | MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let mut bytes = [IoSliceMut::new(room)];
        let got = match recvmsg::<()>(from.as_raw_fd(), &mut bytes, Some(&mut space), flags) {
            Err(Errno::EINTR) => continue,
            got => got?,
        };
        let fds = received(got.cmsgs()?);
        return match got.bytes {
            0 => Err(Errno::ECONNRESET),
            _ if got.flags.contains(MsgFlags::MSG_TRUNC) => Err(Errno::EMSGSIZE),
            len => Ok((len, fds)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    #[test]
    fn messages_stay_whole_and_in_order() {
        let (ours, theirs) = pair().unwrap();
        let mut room = [0; 8];
        assert_eq!(receive(ours.as_fd(), &mut room, PacketWait::None).unwrap_err(), Errno::EAGAIN);
        for bytes in [&b"one"[..], b"two22222"] {
            send(theirs.as_fd(), bytes, &[], PacketWait::Waits).unwrap();
        }
        assert_eq!(receive(ours.as_fd(), &mut room, PacketWait::Waits).unwrap().0, 3);
        assert_eq!(&room[..3], b"one");
        assert_eq!(receive(ours.as_fd(), &mut room, PacketWait::None).unwrap().0, 8);
        send(theirs.as_fd(), b"too long!", &[], PacketWait::None).unwrap();
        assert_eq!(receive(ours.as_fd(), &mut room, PacketWait::None).unwrap_err(), Errno::EMSGSIZE);
        drop(theirs);
        assert_eq!(receive(ours.as_fd(), &mut room, PacketWait::Waits).unwrap_err(), Errno::ECONNRESET);
        assert_eq!(send(ours.as_fd(), b"x", &[], PacketWait::Waits).unwrap_err(), Errno::EPIPE);
    }

    #[test]
    fn who_does_not_read_stops_nobody_who_does_not_wait() {
        let (ours, _theirs) = pair().unwrap();
        let full = (0..100_000).map(|_| send(ours.as_fd(), &[1; 100], &[], PacketWait::None));
        assert_eq!(full.into_iter().find_map(Result::err), Some(Errno::EAGAIN));
    }

    #[test]
    fn descriptors_come_beside_and_what_is_not_taken_is_closed() {
        let (ours, theirs) = pair().unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let beside = [write.as_fd(), write.as_fd()];
        send(theirs.as_fd(), b"x", &beside, PacketWait::Waits).unwrap();
        let (len, fds) = receive(ours.as_fd(), &mut [0; 4], PacketWait::Waits).unwrap();
        assert_eq!((len, fds.len()), (1, 2));
        send(theirs.as_fd(), b"too long", &beside, PacketWait::Waits).unwrap();
        assert!(receive(ours.as_fd(), &mut [0; 4], PacketWait::Waits).is_err());
        drop((write, fds));
        assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0, "nobody has the other end");
    }
}
