#![forbid(unsafe_code)]
//! Sockets that each talk to one server, by datagrams or by a stream of messages with their lengths in front;
//! one descriptor tells when any of them has something. Knows nothing of what is said.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, send, socket,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By datagrams.
    Udp,
    /// In a stream, with their lengths in front.
    Tcp,
}

/// Bytes of a message of a stream, its length included, at most.
const MESSAGE: usize = 2 + 4096;

/// A conversation.
struct Peer {
    fd: OwnedFd,
    /// Only for streams, which are rare: nobody else has memory for one.
    stream: Option<Box<PeerStream>>,
}

/// A question that is being sent, and then its answer that comes.
struct PeerStream {
    data: [u8; MESSAGE],
    /// Bytes of the question; 0 = it is sent.
    asked: usize,
    /// Bytes of either that are done.
    done: usize,
}

/// So many conversations at a time.
pub struct Peers<const N: usize> {
    epoll: Epoll,
    peers: [Option<Peer>; N],
}

impl<const N: usize> Peers<N> {
    /// Without any.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn new() -> io::Result<Peers<N>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Peers { epoll, peers: std::array::from_fn(|_| None) })
    }

    /// For polling: readable when any conversation has something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Begins a conversation with a server, from a port that the system chooses, in place of the slot's
    /// previous one.
    ///
    /// # Errors
    /// What the system says; that a stream cannot be had may only be told later.
    pub fn open(&mut self, slot: usize, server: SocketAddr, transport: Transport) -> io::Result<()> {
        self.close(slot);
        let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let kind = match transport {
            Transport::Tcp => SockType::Stream,
            Transport::Udp => SockType::Datagram,
        };
        let is_stream = transport == Transport::Tcp;
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let mut wanted = EpollFlags::EPOLLIN;
        wanted.set(EpollFlags::EPOLLOUT, is_stream);
        self.epoll.add(&fd, EpollEvent::new(wanted, 0))?;
        let stream = is_stream.then(|| Box::new(PeerStream { data: [0; MESSAGE], asked: 0, done: 0 }));
        if let Some(place) = self.peers.get_mut(slot) {
            *place = Some(Peer { fd, stream });
        }
        Ok(())
    }

    /// Sends a message: a datagram now, into a stream as soon as it takes it.
    ///
    /// # Errors
    /// What the system says, or that the message is too long.
    pub fn send(&mut self, slot: usize, message: &[u8]) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(slot).and_then(Option::as_mut) else { return Err(gone()) };
        let Some(stream) = &mut peer.stream else {
            send(peer.fd.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?;
            return Ok(());
        };
        let length = u16::try_from(message.len()).map_err(|_| gone())?;
        let whole = stream.data.get_mut(..2 + message.len()).ok_or_else(gone)?;
        let (head, rest) = whole.split_at_mut(2);
        head.copy_from_slice(&length.to_be_bytes());
        rest.copy_from_slice(message);
        (stream.asked, stream.done) = (2 + message.len(), 0);
        Ok(())
    }

    /// Receives a message if there is a whole one, and goes on with what is still to be sent.
    ///
    /// # Errors
    /// What the system says; that the other side has ended, or that the message does not fit into `room`.
    pub fn receive(&mut self, slot: usize, room: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(peer) = self.peers.get_mut(slot).and_then(Option::as_mut) else { return Err(gone()) };
        let fd = peer.fd.as_raw_fd();
        let Some(stream) = &mut peer.stream else {
            return unless_blocked(|| recv(fd, room, MsgFlags::empty()));
        };
        if stream.asked > 0 {
            let rest = stream.data.get(stream.done..stream.asked).unwrap_or_default();
            match unless_blocked(|| send(fd, rest, MsgFlags::MSG_NOSIGNAL))? {
                None => return Ok(None),
                Some(sent) => stream.done += sent,
            }
            if stream.done < stream.asked {
                return Ok(None);
            }
            (stream.asked, stream.done) = (0, 0);
            self.epoll.modify(&peer.fd, &mut EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        }
        stream.receive(fd, room)
    }

    /// Ends a conversation.
    pub fn close(&mut self, slot: usize) {
        // The kernel takes it out of the set with its last descriptor.
        self.peers.get_mut(slot).and_then(Option::take);
    }
}

impl PeerStream {
    fn receive(&mut self, fd: RawFd, room: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let length = self.data.first_chunk().map_or(0, |head| usize::from(u16::from_be_bytes(*head)));
            let end = if self.done < 2 { 2 } else { 2 + length };
            if self.done == end {
                let whole = self.data.get(2..end).ok_or_else(gone)?;
                room.get_mut(..length).ok_or_else(gone)?.copy_from_slice(whole);
                return Ok(Some(length));
            }
            let rest = self.data.get_mut(self.done..end).ok_or_else(gone)?;
            match unless_blocked(|| recv(fd, rest, MsgFlags::empty()))? {
                None => return Ok(None),
                Some(0) => return Err(gone()),
                Some(got) => self.done += got,
            }
        }
    }
}

/// What a call gives that may have to wait, or be interrupted.
fn unless_blocked(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        return match call() {
            Ok(count) => Ok(Some(count)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(Errno::EINTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}

fn gone() -> io::Error {
    Errno::ENOTCONN.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{Ready, wait};
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, UdpSocket};

    fn received(peers: &mut Peers<2>, slot: usize) -> io::Result<Vec<u8>> {
        let mut room = [0; 4096];
        loop {
            if let Some(length) = peers.receive(slot, &mut room)? {
                return Ok(room[..length].to_vec());
            }
            let mut ready = [Ready::No];
            wait(&[Some(peers.fd())], &mut ready, None).unwrap();
            assert_eq!(ready, [Ready::Read]);
        }
    }

    #[test]
    fn datagrams_of_the_one_asked_are_heard_and_no_others() {
        let (server, other) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut peers = Peers::<2>::new().unwrap();
        peers.open(1, server.local_addr().unwrap(), Transport::Udp).unwrap();
        peers.send(1, b"question").unwrap();
        let mut room = [0; 99];
        let (length, from) = server.recv_from(&mut room).unwrap();
        assert_eq!(&room[..length], b"question");
        other.send_to(b"lie", from).unwrap();
        server.send_to(b"answer", from).unwrap();
        assert_eq!(received(&mut peers, 1).unwrap(), b"answer");
        assert!(peers.receive(1, &mut room).unwrap().is_none() && peers.receive(0, &mut room).is_err());
        drop(server);
        peers.send(1, b"anybody?").unwrap();
        assert!(received(&mut peers, 1).is_err(), "nobody is there");
    }

    #[test]
    fn messages_of_a_stream_come_whole() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            for part in [1, 3, 4098] {
                let mut stream = server.accept().unwrap().0;
                let mut room = [0; 10];
                stream.read_exact(&mut room).unwrap();
                assert_eq!(&room, b"\0\x08question");
                let answer = [&4096u16.to_be_bytes()[..], &[7; 4096]].concat();
                for part in answer.chunks(if part == 1 { 1000 } else { part }) {
                    stream.write_all(part).unwrap();
                }
            }
            server.accept().unwrap();
        });
        let mut peers = Peers::<2>::new().unwrap();
        for _ in 0..3 {
            peers.open(0, addr, Transport::Tcp).unwrap();
            peers.send(0, b"question").unwrap();
            assert_eq!(received(&mut peers, 0).unwrap(), [7; 4096]);
        }
        peers.open(0, addr, Transport::Tcp).unwrap();
        peers.send(0, b"question").unwrap();
        assert!(received(&mut peers, 0).is_err(), "the other side ends");
        assert!(peers.send(0, &[0; 4097]).is_err());
        thread.join().unwrap();
    }
}
