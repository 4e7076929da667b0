#![forbid(unsafe_code)]
//! Closes TCP sockets of this host whose peer is banned, and finds who has one, through NETLINK_SOCK_DIAG.

use crate::ban::Scope;
use crate::base::net::canonical;
use crate::base::range::Range;
use crate::firewall::nft::TxnError;
use crate::firewall::targets::{Flow, TCP, Targets};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{DUMP, Msg, MsgBuf, REQUEST};
use crate::sys::sweep::{Swept, sweep};
use ipnet::IpNet;
use mnl::Bus;
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `struct inet_diag_sockid`: ports, addresses, interface, cookie. In answers it follows four bytes.
const SOCKID: usize = 48;
const SOCKID_AT: usize = 4;
/// Every state but TIME_WAIT (6), CLOSE (7) and LISTEN (10): there is nothing to end in those.
const STATES: u32 = 0x1ffe & !(1 << 6 | 1 << 7 | 1 << 10);
/// TCP_ESTABLISHED: both sides have heard each other, so the peer's address is its own.
const ESTABLISHED: u32 = 1 << 1;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_BC_D_COND: u8 = 8;

/// Closes the sockets of the targets; `None` if the kernel cannot do that.
pub(super) fn destroy(targets: &Targets<'_>) -> Result<Option<u32>, Errno> {
    let swept = NlSocket::open(Bus::SockDiag).and_then(|mut socket| {
        sweep(&mut socket, &mut |buf, seq| ask(buf, seq, targets.only(), STATES), &mut |msg, buf, seq| {
            pick(msg, buf, seq, targets)
        })
    });
    match swept {
        Ok(Swept { refused: Some(errno), .. }) => absent(Lost::Sys("SOCK_DESTROY", errno)),
        Ok(swept) => Ok(Some(swept.deleted)),
        Err(lost) => absent(lost),
    }
}

/// Which of the sources have an established connection with this host, each in its place.
///
/// # Errors
/// The kernel cannot tell, or the system call that failed.
pub fn connected(sources: &[Range]) -> Result<Vec<bool>, TxnError> {
    let mut found = vec![false; sources.len()];
    if sources.is_empty() {
        return Ok(found);
    }
    let all = Scope::ALL;
    let targets = Targets::new(sources, &all);
    let mut socket = NlSocket::open(Bus::SockDiag)?;
    sweep(&mut socket, &mut |buf, seq| ask(buf, seq, targets.only(), ESTABLISHED), &mut |msg, _, _| {
        if let Some(flow) = read(msg).filter(|flow| targets.cover(flow)) {
            let peer = Range::from(canonical(flow.peer));
            sources.iter().zip(&mut found).for_each(|(source, found)| *found |= source.covers(&peer));
        }
        false
    })?;
    Ok(found)
}

/// A kernel without the feature is no failure.
fn absent(lost: Lost) -> Result<Option<u32>, Errno> {
    match lost {
        Lost::Sys(_, Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::ENOENT) => {
            Ok(None)
        }
        Lost::Sys(_, errno) => Err(errno),
        Lost::Overrun => Err(Errno::ENOBUFS),
    }
}

/// Asks for the TCP sockets in these states of both families in one walk, with the kernel's own filter if
/// there is only one target. The newer request of SOCK_DIAG takes one family, and each walk of a large
/// server's table costs half a millisecond.
fn ask(buf: &mut MsgBuf, seq: u32, only: Option<IpNet>, states: u32) {
    let msg = buf.start(TCPDIAG_GETSOCK, REQUEST | DUMP, seq);
    // `struct inet_diag_req`: family and prefix lengths (not looked at), extensions, identity, states, 0.
    buf.put(&[0; SOCKID_AT]);
    buf.put(&[0; SOCKID]);
    buf.put(&states.to_ne_bytes());
    buf.put(&[0; 4]);
    if let Some(net) = only {
        let (kind, octets): (u8, &[u8]) = match &net {
            IpNet::V4(n) => (AF_INET, &n.addr().octets()),
            IpNet::V6(n) => (AF_INET6, &n.addr().octets()),
        };
        // One instruction (code, length, where to go when it fails) and its `inet_diag_hostcond`:
        // family, prefix length, any port. Running past the end means "leave it out".
        let len = 4 + 8 + if kind == AF_INET { 4u8 } else { 16 };
        let mut code = [0u8; 28];
        let [op, yes, no_low, no_high, fam, prefix, _, _, port @ ..] = &mut code;
        (*op, *yes, *fam, *prefix) = (INET_DIAG_BC_D_COND, len, kind, net.prefix_len());
        [*no_low, *no_high] = u16::from(len + 4).to_ne_bytes();
        let (port, addr) = port.split_at_mut(4);
        port.copy_from_slice(&(-1i32).to_ne_bytes());
        addr.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        buf.attr(INET_DIAG_REQ_BYTECODE, code.get(..usize::from(len)).unwrap_or(&code));
    }
    buf.finish(msg);
}

/// Writes the end of a socket if its peer is banned on the local port.
fn pick(msg: Msg<'_>, buf: &mut MsgBuf, seq: u32, targets: &Targets<'_>) -> bool {
    let (Some(&family), Some(id)) = (msg.payload.first(), msg.payload.get(SOCKID_AT..SOCKID_AT + SOCKID))
    else {
        return false;
    };
    if !flow(family, id).is_some_and(|flow| targets.cover(&flow)) {
        return false;
    }
    let message = buf.start(SOCK_DESTROY, REQUEST, seq);
    // `struct inet_diag_req_v2`
    buf.put(&[family, TCP, 0, 0]);
    buf.put(&STATES.to_ne_bytes());
    buf.put(id);
    buf.finish(message);
    true
}

/// The far end of the socket that an answer tells of.
fn read(msg: Msg<'_>) -> Option<Flow> {
    flow(*msg.payload.first()?, msg.payload.get(SOCKID_AT..SOCKID_AT + SOCKID)?)
}

/// The peer's address and the local port of a socket.
fn flow(family: u8, id: &[u8]) -> Option<Flow> {
    let local = u16::from_be_bytes(id.get(..2)?.try_into().ok()?);
    let peer = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(id.get(20..24)?).ok()?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(id.get(20..36)?).ok()?)),
        _ => return None,
    };
    Some(Flow { peer, protocol: TCP, port: Some(local) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Transports;
    use crate::sys::nlattr::messages;

    fn answer(family: u8, port: u16, addr: &[u8]) -> MsgBuf {
        let mut body = [0u8; 72];
        body[0] = family;
        body[4..6].copy_from_slice(&port.to_be_bytes());
        body[24..24 + addr.len()].copy_from_slice(addr);
        body[44] = 0x5c;
        let mut buf = MsgBuf::default();
        let m = buf.start(TCPDIAG_GETSOCK, 0, 1);
        buf.put(&body);
        buf.finish(m);
        buf
    }

    #[test]
    fn sockets_are_closed_by_their_full_identity() {
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let cases = [
            ("peer", answer(AF_INET, 22, &[192, 0, 2, 1]), true),
            ("other peer", answer(AF_INET, 22, &[192, 0, 3, 1]), false),
            ("other port", answer(AF_INET, 80, &[192, 0, 2, 1]), false),
            ("mapped", answer(AF_INET6, 22, &mapped), true),
            ("IPv6", answer(AF_INET6, 22, &v6.octets()), true),
            ("foreign family", answer(99, 22, &[192, 0, 2, 1]), false),
        ];
        let nets = ["192.0.2.0/24", "2001:db8::/64"].map(|n| Range::from(n.parse::<IpNet>().unwrap()));
        let scope = Scope::new(vec![(22, 22)], Transports::Both);
        let targets = Targets::new(&nets, &scope);
        for (name, given, want) in cases {
            let mut out = MsgBuf::default();
            let msg = messages(given.bytes()).next().unwrap();
            assert_eq!(pick(msg, &mut out, 3, &targets), want, "{name}");
            if want {
                let end = messages(out.bytes()).next().unwrap();
                assert_eq!((end.kind, end.payload.len()), (SOCK_DESTROY, 56), "{name}");
                assert_eq!(end.payload[8..], msg.payload[4..52], "{name}: with its cookie");
            }
        }
    }

    #[test]
    fn short_answers_are_left_alone() {
        let whole = answer(AF_INET, 22, &[192, 0, 2, 1]);
        let nets = [Range::from("0.0.0.0/0".parse::<IpNet>().unwrap())];
        let all = Scope::ALL;
        let targets = Targets::new(&nets, &all);
        for len in 0..52 {
            let msg = Msg { kind: TCPDIAG_GETSOCK, flags: 0, seq: 1, payload: &whole.bytes()[16..16 + len] };
            assert!(!pick(msg, &mut MsgBuf::default(), 1, &targets), "{len}");
        }
    }
}
