#![forbid(unsafe_code)]
//! Interfaces by name, and which of them default routes use (rtnetlink, linux/rtnetlink.h).

use super::host::{
    IFA_ADDRESS, IFA_LOCAL, IFADDRMSG, IFINFOMSG, RTA_MULTIPATH, RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE,
    RTMSG, RTNEXTHOP, address, dump,
};
use crate::base::name::IfName;
use crate::base::range::Range;
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{ACK, Msg, MsgBuf, REQUEST, attr, text, u16_at, u32_at};
use mnl::Bus;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const IFLA_IFNAME: u16 = 3;
/// RT_TABLE_LOCAL
const LOCAL: u8 = 255;
/// RTN_UNICAST
const UNICAST: u8 = 1;
/// RTNLGRP_IPV4_ROUTE and RTNLGRP_IPV6_ROUTE
const GROUPS: [u32; 2] = [7, 11];

/// Whether there is an interface of this name. Rules do not know it by another one that it may have.
#[must_use]
pub fn has_interface(name: &str) -> bool {
    let index = nix::net::if_::if_nametoindex(name);
    index.is_ok_and(|index| interface(index).is_some_and(|found| found.as_str() == name))
}

/// The interfaces of the default routes of both families, each once; empty if there is none.
///
/// # Errors
/// The system call that failed.
pub fn default_interfaces() -> io::Result<Vec<IfName>> {
    let mut found = Vec::new();
    dump(RTM_GETROUTE, &mut |msg| default_route(msg, &mut |route| found.push(route)))?;
    let mut indices: Vec<u32> = Vec::new();
    for WideRoute { family, part, index } in &found {
        let other = |other: RouteHalf| found.iter().any(|wide| wide.family == *family && wide.part == other);
        let whole = match part {
            RouteHalf::Whole => true,
            // As VPN programs do it, so that the default route need not be touched.
            RouteHalf::Low => other(RouteHalf::High),
            RouteHalf::High => other(RouteHalf::Low),
        };
        if whole && !indices.contains(index) {
            indices.push(*index);
        }
    }
    Ok(indices.into_iter().filter_map(interface).collect())
}

/// The addresses of this host, each with its interface.
#[must_use]
pub fn addresses() -> Vec<(IfName, IpAddr)> {
    let mut found = Vec::new();
    let _ = dump(RTM_GETADDR, &mut |msg| {
        // struct ifaddrmsg: the number of the interface is its last field.
        let Some((header, attributes)) = msg.payload.split_first_chunk::<IFADDRMSG>() else { return };
        let local = attr(attributes, IFA_LOCAL).or_else(|| attr(attributes, IFA_ADDRESS)).and_then(address);
        found.extend(u32_at(header, 4).zip(local));
    });
    found.into_iter().filter_map(|(index, addr)| Some((interface(index)?, addr))).collect()
}

/// All interfaces but loopback.
///
/// # Errors
/// The system call that failed.
pub fn interfaces() -> Result<Vec<IfName>, Lost> {
    let mut found = Vec::new();
    dump(RTM_GETLINK, &mut |msg| {
        let Some((_, attributes)) = msg.payload.split_first_chunk::<IFINFOMSG>() else { return };
        let name = attr(attributes, IFLA_IFNAME).and_then(text).and_then(IfName::new);
        found.extend(name.filter(|name| name.as_str() != "lo"));
    })?;
    Ok(found)
}

/// The interface over which packets to an address leave.
#[must_use]
pub fn interface_to(addr: IpAddr) -> Option<IfName> {
    let mut socket = NlSocket::open(Bus::Route).ok()?;
    let mut buf = MsgBuf::with_capacity(64);
    let seq = socket.next_seq();
    let open = buf.start(RTM_GETROUTE, REQUEST | ACK, seq);
    let key = Range::from(addr).key();
    let bits = u8::try_from(key.bytes().len() * 8).unwrap_or(0);
    let mut header = [0; RTMSG];
    (header[0], header[1]) = (if addr.is_ipv4() { AF_INET } else { AF_INET6 }, bits);
    buf.put(&header);
    buf.attr(RTA_DST, key.bytes());
    buf.finish(open);
    socket.send(buf.bytes()).ok()?;
    let (mut found, mut end) = (None, false);
    while !end {
        let each = &mut |msg: Msg<'_>| {
            if msg.seq != seq {
                return;
            }
            end |= msg.errno().is_some();
            let attributes = msg.payload.get(RTMSG..).filter(|_| msg.errno().is_none());
            found = found.or(attributes.and_then(|a| attr(a, RTA_OIF)).and_then(|data| u32_at(data, 0)));
        };
        socket.receive(each).ok()?;
    }
    interface(found?)
}

/// Tells when a default route, an address of this host or a network that is connected comes or goes.
pub struct OwnRoutes(NlSocket);

impl OwnRoutes {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn open() -> io::Result<OwnRoutes> {
        let socket = NlSocket::open(Bus::Route)?;
        GROUPS.iter().try_for_each(|&group| socket.subscribe_own_routes(group))?;
        Ok(OwnRoutes(socket))
    }

    /// Takes in what there is to hear; whether default routes may be concerned.
    pub fn hear(&mut self) -> bool {
        let mut wide = false;
        loop {
            // The second byte of `struct rtmsg` is the length of the prefix.
            let each = &mut |msg: Msg<'_>| wide |= msg.payload.get(1).is_none_or(|len| *len <= 1);
            match self.0.receive_now(each) {
                Ok(true) => {}
                Err(Lost::Overrun) => wide = true,
                Ok(false) | Err(Lost::Sys(..)) => break,
            }
        }
        self.0.shrink();
        wide
    }

    /// For polling.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}

/// The name of an interface by its number.
#[must_use]
pub fn interface(index: u32) -> Option<IfName> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    IfName::new(name.to_str().ok()?)
}

/// How much of all addresses a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RouteHalf {
    Whole,
    /// Those whose first bit is 0.
    Low,
    High,
}

/// A route to all addresses of a family, or to half of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WideRoute {
    family: u8,
    part: RouteHalf,
    index: u32,
}

/// The interfaces in one answer to RTM_GETROUTE, if it is a default route or half of one, of any table that
/// leads to others: which of them is asked, rules say that look at more than the address.
fn default_route(msg: Msg<'_>, each: &mut dyn FnMut(WideRoute)) {
    let Some((&[family, bits, _, _, table, _, _, UNICAST, ..], attributes)) =
        msg.payload.split_first_chunk::<RTMSG>()
    else {
        return;
    };
    let high = attr(attributes, RTA_DST).and_then(<[u8]>::first).is_some_and(|byte| byte & 0x80 != 0);
    let part = match (bits, high) {
        (0, _) => RouteHalf::Whole,
        (1, false) => RouteHalf::Low,
        (1, true) => RouteHalf::High,
        _ => return,
    };
    if table == LOCAL {
        return;
    }
    let each = &mut |index: u32| each(WideRoute { family, part, index });
    attr(attributes, RTA_OIF).and_then(|data| u32_at(data, 0)).into_iter().for_each(&mut *each);
    let mut hops = attr(attributes, RTA_MULTIPATH).unwrap_or(&[]);
    while let Some(len) = u16_at(hops, 0).map(usize::from).filter(|&len| len >= RTNEXTHOP) {
        u32_at(hops, 4).into_iter().for_each(&mut *each);
        hops = hops.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nlattr::{MsgBuf, messages};

    #[test]
    fn default_routes_and_halves_of_them() {
        let mut wire = MsgBuf::default();
        const MAIN: u8 = 254;
        let cases: [(&str, [u8; 12], u32); 6] = [
            ("default", [2, 0, 0, 0, MAIN, 0, 0, UNICAST, 0, 0, 0, 0], 1),
            ("a network", [2, 8, 0, 0, MAIN, 0, 0, UNICAST, 0, 0, 0, 0], 2),
            ("another table", [2, 0, 0, 0, 100, 0, 0, UNICAST, 0, 0, 0, 0], 3),
            ("unreachable", [10, 0, 0, 0, MAIN, 0, 0, 7, 0, 0, 0, 0], 4),
            ("half", [2, 1, 0, 0, MAIN, 0, 0, UNICAST, 0, 0, 0, 0], 5),
            ("local", [2, 0, 0, 0, LOCAL, 0, 0, UNICAST, 0, 0, 0, 0], 6),
        ];
        for (_, header, oif) in &cases {
            let m = wire.start(24, 0, 1);
            wire.put(header);
            wire.attr(RTA_OIF, &oif.to_ne_bytes());
            wire.finish(m);
        }
        let m = wire.start(24, 0, 1);
        wire.put(&cases[0].1);
        let paths = wire.nest(RTA_MULTIPATH);
        for hop in [7u8, 8] {
            wire.put(&[8, 0, 0, 0, hop, 0, 0, 0]);
        }
        wire.end(paths);
        wire.finish(m);
        let mut all = Vec::new();
        messages(wire.bytes()).for_each(|m| default_route(m, &mut |wide| all.push((wide.part, wide.index))));
        let wanted = [
            (RouteHalf::Whole, 1),
            (RouteHalf::Whole, 3),
            (RouteHalf::Low, 5),
            (RouteHalf::Whole, 7),
            (RouteHalf::Whole, 8),
        ];
        assert_eq!(all, wanted);

        let whole = wire.bytes().to_vec();
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            let at = rng.usize(16..bytes.len());
            bytes[at] = rng.u8(..);
            messages(&bytes).for_each(|m| default_route(m, &mut |_| ()));
        }
    }
}
