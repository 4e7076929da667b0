//! Makes packets of TCP as strangers send them, with any sender, in any number.

use super::ns::Wire;
use super::{Net, Peer};
use std::net::IpAddr;

/// Flags of the TCP header.
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// A way from a neighbour to the host, whose addresses it may forge.
pub struct Way {
    pub wire: Wire,
    /// The Ethernet addresses of both ends.
    macs: [u8; 12],
}

/// A packet of TCP.
#[derive(Clone, Copy)]
pub struct Segment {
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    pub flags: u8,
}

impl Way {
    #[must_use]
    pub fn new(net: &Net, peer: &Peer) -> Way {
        let mac = |net: &Net| {
            let text = net.ip(&format!("-o link show {}", peer.link));
            let text = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
            let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
            bytes
        };
        let mut both = mac(net);
        let (wire, other) = net.within(&peer.ns, |net| (Wire::new(&peer.link), mac(net)));
        both.extend(other);
        Way { wire, macs: both.try_into().unwrap() }
    }

    /// The frame that brings a packet to the host.
    #[must_use]
    pub fn frame(&self, segment: &Segment) -> Vec<u8> {
        let Segment { from, to, flags } = *segment;
        let mut tcp = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
        if flags & ACK != 0 {
            tcp[11] = 1;
        }
        let mut frame = self.macs.to_vec();
        let mut pseudo = Vec::new();
        match (from.0, to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([8, 0]);
                let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
                ip.extend([from.octets(), to.octets()].concat());
                pseudo.extend(&ip[12..]);
                let sum = checksum(&ip);
                ip[10..12].copy_from_slice(&sum);
                frame.extend(ip);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
                let both = [from.octets(), to.octets()].concat();
                frame.extend(&both);
                pseudo.extend(both);
            }
            _ => panic!("two families"),
        }
        pseudo.extend([0, 6, 0, 20]);
        pseudo.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&pseudo));
        frame.extend(tcp);
        frame
    }

    /// Sends so many packets of one sender, each from another port.
    pub fn burst(&self, from: IpAddr, to: (IpAddr, u16), flags: u8, count: u16) {
        let frames: Vec<Vec<u8>> =
            (0..count).map(|n| self.frame(&Segment { from: (from, 1024 + n), to, flags })).collect();
        self.wire.send(&frames);
    }
}

/// The checksum of the Internet (RFC 1071).
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}
