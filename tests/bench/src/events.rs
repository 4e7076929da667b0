//! The kernel's word that an element stands in a set: the nftables event group, of this network namespace.

use crate::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
    sockopt,
};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// NFNLGRP_NFTABLES is group 7.
const GROUPS: u32 = 1 << 6;
/// NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWSETELEM.
const NEW_ELEMENT: u16 = 10 << 8 | 12;
const HEADER: usize = 16;

pub struct Events {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Events {
    pub fn open() -> Result<Events> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        // Room for a burst of bans: what does not fit is lost.
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Events { socket, buffer: vec![0; 256 << 10] })
    }

    /// Waits until `deadline` for an element that holds the address, or for any element. False: it did not
    /// come.
    pub fn wait(&mut self, address: Option<Ipv4Addr>, deadline: Instant) -> Result<bool> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => {
                    if has_element(&self.buffer[..length], address) {
                        return Ok(true);
                    }
                }
                Err(Errno::EAGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    self.sleep(left)?;
                }
                // ENOBUFS: some were lost; the one that is waited for may still come.
                Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        // Rounded up, so that the last millisecond is slept through and not spun through.
        let time = PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], time) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn has_element(mut messages: &[u8], address: Option<Ipv4Addr>) -> bool {
    while messages.len() >= HEADER {
        let length = u32::from_ne_bytes([messages[0], messages[1], messages[2], messages[3]]) as usize;
        let kind = u16::from_ne_bytes([messages[4], messages[5]]);
        if !(HEADER..=messages.len()).contains(&length) {
            return false;
        }
        let body = &messages[HEADER..length];
        if kind == NEW_ELEMENT && address.is_none_or(|a| body.windows(4).any(|key| key == a.octets())) {
            return true;
        }
        messages = &messages[length.next_multiple_of(4).min(messages.len())..];
    }
    false
}
