#![forbid(unsafe_code)]
//! Fields of messages: written one behind the other, and read as exactly as they were written.

use crate::base::clock::Mono;
use crate::base::line::shown;
use crate::base::net::canonical;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The shortest prefix of IPv6 that can be accused.
const PREFIX_MIN: u8 = 32;

/// The bytes of a message.
pub(super) struct MessageWriter(pub(super) Vec<u8>);

impl MessageWriter {
    pub(super) fn of(kind: u8) -> MessageWriter {
        MessageWriter(vec![kind])
    }

    pub(super) fn number<const N: usize>(mut self, bytes: [u8; N]) -> MessageWriter {
        self.0.extend_from_slice(&bytes);
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8], most: usize) -> MessageWriter {
        let bytes = bytes.get(..most).unwrap_or(bytes);
        self.0.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn text(self, text: &str, most: usize) -> MessageWriter {
        let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.bytes(text.get(..end).unwrap_or_default().as_bytes(), most)
    }

    /// Text up to the end.
    pub(super) fn raw(mut self, text: &str) -> Vec<u8> {
        self.0.extend_from_slice(text.as_bytes());
        self.0
    }

    pub(super) fn addr(self, addr: IpAddr) -> MessageWriter {
        match addr {
            IpAddr::V4(addr) => self.number([4]).number(addr.octets()),
            IpAddr::V6(addr) => self.number([6]).number(addr.octets()),
        }
    }

    pub(super) fn net(self, net: IpNet) -> MessageWriter {
        self.addr(net.addr()).number([net.prefix_len()])
    }

    pub(super) fn time(self, at: Option<Mono>) -> MessageWriter {
        // Nothing has happened at the last moment that there is.
        self.number(at.map_or(u64::MAX, |at| at.0).to_le_bytes())
    }
}

/// What is left of a message that is read. Whatever is not there makes all of it none.
pub(super) struct MessageReader<'m>(pub(super) &'m [u8]);

impl<'m> MessageReader<'m> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self, most: usize) -> Option<&'m [u8]> {
        let length = usize::from(self.u16()?);
        let (bytes, rest) = self.0.split_at_checked(length).filter(|_| length <= most)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self, most: usize) -> Option<&'m str> {
        std::str::from_utf8(self.bytes(most)?).ok()
    }

    /// A text that goes into a log, the journal, and to a terminal.
    pub(super) fn shown(&mut self, most: usize) -> Option<&'m str> {
        self.text(most).filter(|text| shown(text) == *text)
    }

    pub(super) fn any_addr(&mut self) -> Option<IpAddr> {
        match self.byte()? {
            4 => Some(Ipv4Addr::from(self.take::<4>()?).into()),
            6 => Some(Ipv6Addr::from(self.take::<16>()?).into()),
            _ => None,
        }
    }

    /// An address. One of IPv4 in the dress of IPv6 would be on no allow list.
    pub(super) fn addr(&mut self) -> Option<IpAddr> {
        self.any_addr().filter(|addr| canonical(*addr) == *addr)
    }

    /// An address of IPv4, or a network of IPv6 that can be accused, with nothing behind its prefix.
    pub(super) fn net(&mut self) -> Option<IpNet> {
        let (addr, length) = (self.addr()?, self.byte()?);
        let net = match addr {
            IpAddr::V4(addr) => IpNet::V4(Ipv4Net::new(addr, length).ok().filter(|_| length == 32)?),
            IpAddr::V6(addr) => IpNet::V6(Ipv6Net::new(addr, length).ok().filter(|_| length >= PREFIX_MIN)?),
        };
        Some(net).filter(|net| net.trunc() == *net)
    }

    pub(super) fn time(&mut self) -> Option<Option<Mono>> {
        Some(Some(self.u64()?).filter(|at| *at != u64::MAX).map(Mono))
    }

    /// One of these, by number.
    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::from(self.byte()?)).copied()
    }
}

/// The number of one of these.
pub(super) fn number_of<T: PartialEq>(all: &[T], one: &T) -> [u8; 1] {
    [all.iter().position(|known| known == one).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)]
}
