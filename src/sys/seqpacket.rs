//! Messages between two processes of ours: whole ones, in their order, and descriptors beside them. Must not
//! know what is in them.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Descriptors beside a message at most.
const DESCRIPTORS_MAX: usize = 4;

/// Room for them: what the kernel writes beside a message, if some came.
#[repr(C, align(8))]
struct BesideRoom {
    head: libc::cmsghdr,
    /// Less than 0: none.
    fds: [RawFd; DESCRIPTORS_MAX],
}

/// Bytes of it. What the alignment adds would be room for another one.
const BESIDE_LEN: usize = offset_of!(BesideRoom, fds) + size_of::<[RawFd; DESCRIPTORS_MAX]>();

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

/// Takes one message: its length. Nothing can come beside it: the kernel gives no descriptors to who has no
/// room for them.
///
/// # Errors
/// There is none (EAGAIN); it is longer than `room` (EMSGSIZE); something was beside it (EBADMSG); the other
/// end is gone (ECONNRESET).
pub fn receive(from: BorrowedFd<'_>, room: &mut [u8], patience: PacketWait) -> Result<usize, Errno> {
    loop {
        let mut bytes = [IoSliceMut::new(room)];
        match recvmsg::<()>(from.as_raw_fd(), &mut bytes, None, patience.flags()) {
            Err(Errno::EINTR) => {}
            Ok(got) => return check(got.bytes, got.flags),
            Err(e) => return Err(e),
        }
    }
}

/// Likewise, and what came beside it.
///
/// # Errors
/// As [`receive`]; more was beside it than there is room for, or can be open (EBADMSG): then all of it is
/// closed.
pub fn receive_beside(
    from: BorrowedFd<'_>,
    room: &mut [u8],
    patience: PacketWait,
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    // SAFETY: there are numbers in it, which may be 0.
    let mut beside: BesideRoom = unsafe { zeroed() };
    // SAFETY: numbers, and pointers, which may be null.
    let mut message: libc::msghdr = unsafe { zeroed() };
    beside.fds = [-1; DESCRIPTORS_MAX];
    let mut bytes = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut bytes, 1);
    message.msg_control = (&raw mut beside).cast();
    message.msg_controllen = u8::try_from(BESIDE_LEN).map_or(0, Into::into);
    let flags = (patience.flags() | MsgFlags::MSG_CMSG_CLOEXEC).bits();
    let len = loop {
        // SAFETY: what is pointed to lives, is nobody else's, and has the lengths that are said.
        match Errno::result(unsafe { libc::recvmsg(from.as_raw_fd(), &raw mut message, flags) }) {
            Err(Errno::EINTR) => {}
            len => break len?,
        }
    };
    // Those that fit are open also if there were more of them. Nothing else is ever asked for.
    let came = (beside.head.cmsg_level, beside.head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let fds = beside.fds.into_iter().filter(|fd| came && *fd >= 0);
    // SAFETY: the kernel has just made them, for nobody else.
    let fds = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    let len = usize::try_from(len).unwrap_or(0);
    check(len, MsgFlags::from_bits_retain(message.msg_flags)).map(|len| (len, fds))
}

/// Whether a message is whole, with what was beside it.
fn check(len: usize, flags: MsgFlags) -> Result<usize, Errno> {
    match len {
        0 => Err(Errno::ECONNRESET),
        _ if flags.contains(MsgFlags::MSG_TRUNC) => Err(Errno::EMSGSIZE),
        _ if flags.contains(MsgFlags::MSG_CTRUNC) => Err(Errno::EBADMSG),
        len => Ok(len),
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
        assert_eq!(receive(ours.as_fd(), &mut room, PacketWait::Waits).unwrap(), 3);
        assert_eq!(&room[..3], b"one");
        assert_eq!(receive(ours.as_fd(), &mut room, PacketWait::None).unwrap(), 8);
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
        let (len, fds) = receive_beside(ours.as_fd(), &mut [0; 4], PacketWait::Waits).unwrap();
        assert_eq!((len, fds.len()), (1, 2));
        // None, as many as there is room for, and more; a message that is too long; who takes none.
        send(theirs.as_fd(), b"x", &[], PacketWait::Waits).unwrap();
        assert!(receive_beside(ours.as_fd(), &mut [0; 4], PacketWait::Waits).unwrap().1.is_empty());
        for (count, want) in [(3, Ok(3)), (4, Ok(4)), (5, Err(Errno::EBADMSG)), (250, Err(Errno::EBADMSG))] {
            send(theirs.as_fd(), b"x", &vec![write.as_fd(); count], PacketWait::Waits).unwrap();
            let got = receive_beside(ours.as_fd(), &mut [0; 4], PacketWait::Waits);
            assert_eq!(got.map(|(_, fds)| fds.len()), want, "{count}");
        }
        send(theirs.as_fd(), b"too long", &beside, PacketWait::Waits).unwrap();
        let got = receive_beside(ours.as_fd(), &mut [0; 4], PacketWait::Waits);
        assert_eq!(got.unwrap_err(), Errno::EMSGSIZE);
        send(theirs.as_fd(), b"x", &beside, PacketWait::Waits).unwrap();
        assert_eq!(receive(ours.as_fd(), &mut [0; 4], PacketWait::Waits), Err(Errno::EBADMSG));
        drop((write, fds));
        assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0, "nobody has the other end");
    }
}
