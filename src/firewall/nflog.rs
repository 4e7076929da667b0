#![forbid(unsafe_code)]
//! Packets that rules of ours report through nfnetlink_log. The kernel has acted on them before anybody reads
//! of it: who does not read misses news, and nothing else. Knows no ban.

use super::alarm::{ALARMS, NEWS, SNAPLEN};
use super::nft::{NFLOG, TxnError};
use crate::ban::{Alarm, Failure, ReportedPacket};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{ACK, Msg, MsgBuf, REQUEST, attr, u16_at};
use mnl::Bus;
use nix::errno::Errno;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

/// `NFNL_SUBSYS_ULOG << 8`, with NFULNL_MSG_PACKET and NFULNL_MSG_CONFIG.
const PACKET: u16 = 4 << 8;
const CONFIG: u16 = 4 << 8 | 1;
const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_QTHRESH: u16 = 5;
/// NFULNL_CFG_CMD_BIND
const BIND: u8 = 1;
/// NFULNL_COPY_PACKET
const COPY_PACKET: u8 = 2;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
/// Receives at most, in one turn of the daemon's loop.
const MAX_READS_PER_WAKEUP: u32 = 64;
/// Bytes of the receive buffer; the kernel doubles it, and takes them only while it is full.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// The way by which they come.
pub struct Packets {
    socket: NlSocket,
}

impl Packets {
    /// Listens to port scans and floods, which have one reader.
    ///
    /// # Errors
    /// The system call that failed; EBUSY if somebody else reads them.
    pub fn alarms() -> Result<Packets, Failure> {
        Packets::open(ALARMS).map_err(super::unanswered)
    }

    /// Likewise to new sources.
    ///
    /// # Errors
    /// As of alarms.
    pub fn news() -> Result<Packets, Failure> {
        Packets::open(NEWS).map_err(super::unanswered)
    }

    fn open(group: u16) -> Result<Packets, TxnError> {
        let mut socket = NlSocket::open(Bus::Netfilter)?;
        socket.reserve(0, RECEIVE_BUFFER);
        let seq = socket.next_seq();
        let mut buf = MsgBuf::with_capacity(64);
        let open = buf.start(CONFIG, REQUEST | ACK, seq);
        let [high, low] = group.to_be_bytes();
        buf.put(&[0, 0, high, low]);
        buf.attr(CFG_CMD, &[BIND]);
        let [a, b, c, d] = SNAPLEN.to_be_bytes();
        buf.attr(CFG_MODE, &[a, b, c, d, COPY_PACKET, 0]);
        // Each is told at once.
        buf.attr_be32(CFG_QTHRESH, 1);
        buf.finish(open);
        socket.send(buf.bytes())?;
        let mut answer = None;
        while answer.is_none() {
            socket.receive(&mut |m| {
                if m.seq == seq {
                    answer = answer.or(m.errno());
                }
            })?;
        }
        match answer {
            Some(0) => Ok(Packets { socket }),
            errno => Err(Lost::Sys(NFLOG, errno.map_or(Errno::UnknownErrno, Errno::from_raw)).into()),
        }
    }

    /// Tells `each` packet that there is; never waits, and reads a bounded number. How often the kernel had
    /// no room for more: each time at least one is missed.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn hear(&mut self, each: &mut dyn FnMut(ReportedPacket)) -> Result<u64, Failure> {
        let mut lost = 0;
        for _ in 0..MAX_READS_PER_WAKEUP {
            match self.socket.receive_now(&mut |m| packet(m).into_iter().for_each(&mut *each)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Lost::Overrun) => lost += 1,
                Err(e) => return Err(super::unanswered(e.into())),
            }
        }
        Ok(lost)
    }

    /// For polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

/// Reads a message; `None` if it tells of no packet, or of none of ours.
#[must_use]
pub fn packet(m: Msg<'_>) -> Option<ReportedPacket> {
    let body = m.payload.get(4..).filter(|_| m.kind == PACKET)?;
    let prefix = attr(body, PREFIX)?;
    let is = |alarm: &Alarm| prefix == alarm.prefix().to_bytes_with_nul();
    let alarm = Alarm::ALL.into_iter().find(is)?;
    let (from, port) = headers(attr(body, PAYLOAD)?)?;
    Some(ReportedPacket { alarm, from, port })
}

/// The source of an IP packet, and where TCP or UDP has it go.
fn headers(packet: &[u8]) -> Option<(IpAddr, u16)> {
    let first = *packet.first()?;
    let (from, protocol, length) = match first >> 4 {
        4 => {
            let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            (IpAddr::from(from), *packet.get(9)?, usize::from(first & 15) * 4)
        }
        6 => {
            let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            (IpAddr::from(from), *packet.get(6)?, 40)
        }
        _ => return None,
    };
    let has_ports = matches!(i32::from(protocol), libc::IPPROTO_TCP | libc::IPPROTO_UDP);
    let port = u16_at(packet, length + 2).filter(|_| has_ports && length >= 20).unwrap_or(0);
    Some((from, u16::from_be(port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nlattr::messages;

    fn v4(ihl: u8, protocol: u8) -> Vec<u8> {
        let mut bytes = vec![0x40 | ihl, 0, 0, 60, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 7, 10, 0, 0, 1];
        bytes.resize(usize::from(ihl) * 4, 1);
        bytes.extend([0x30, 0x39, 0x1f, 0x90, 0, 0]);
        bytes
    }

    fn v6(next: u8) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 20, next, 64];
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        bytes.extend([0; 16]);
        bytes.extend([0x30, 0x39, 0x1f, 0x90]);
        bytes
    }

    #[test]
    fn packets_tell_their_source_and_port() {
        type PacketRow = (&'static str, Vec<u8>, Option<(&'static str, u16)>);
        let mut short = v4(5, 6);
        short[0] = 0x41;
        let cases: &[PacketRow] = &[
            ("tcp", v4(5, 6), Some(("192.0.2.7", 8080))),
            ("udp with options", v4(7, 17), Some(("192.0.2.7", 8080))),
            ("no ports", v4(5, 1), Some(("192.0.2.7", 0))),
            ("a header too short to be one", short, Some(("192.0.2.7", 0))),
            ("cut", v4(5, 6)[..22].to_vec(), Some(("192.0.2.7", 0))),
            ("cut in the header", v4(5, 6)[..15].to_vec(), None),
            ("tcp6", v6(6), Some(("2001:db8::7", 8080))),
            ("an extension", v6(0), Some(("2001:db8::7", 0))),
            ("cut6", v6(6)[..23].to_vec(), None),
            ("neither", vec![0x50; 64], None),
            ("nothing", vec![], None),
        ];
        for (name, bytes, want) in cases {
            let want = want.map(|(addr, port)| (addr.parse().unwrap(), port));
            assert_eq!(headers(bytes), want, "{name}");
        }
    }

    fn message(prefix: &[u8], bytes: &[u8]) -> Vec<u8> {
        let mut buf = MsgBuf::default();
        let open = buf.start(PACKET, 0, 0);
        buf.put(&[2, 0, 0, 5]);
        buf.attr(1, &[8, 0, 1, 0]);
        buf.attr(PREFIX, prefix);
        buf.attr(PAYLOAD, bytes);
        buf.finish(open);
        buf.bytes().to_vec()
    }

    #[test]
    fn only_our_own_rules_are_heard() {
        let heard = |bytes: &[u8]| messages(bytes).find_map(packet).map(|p| p.alarm);
        assert_eq!(heard(&message(b"mef scan\0", &v4(5, 6))), Some(Alarm::Scan));
        for alarm in Alarm::ALL {
            assert_eq!(heard(&message(alarm.prefix().to_bytes_with_nul(), &v4(5, 6))), Some(alarm));
        }
        assert_eq!(heard(&message(b"other\0", &v4(5, 6))), None);
        assert_eq!(heard(&message(b"mef scan\0", b"")), None);
    }

    #[test]
    fn any_bytes_are_survived() {
        let whole = message(b"mef scan\0", &v6(6));
        let mut rng = fastrand::Rng::with_seed(11);
        let mut reported = 0;
        for _ in 0..40_000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.usize(0..4) {
                let at = rng.usize(0..bytes.len());
                bytes[at] = rng.u8(..);
            }
            bytes.truncate(rng.usize(0..=bytes.len() * 2));
            reported += messages(&bytes).filter_map(packet).count();
        }
        assert!(reported > 1000);
    }
}
