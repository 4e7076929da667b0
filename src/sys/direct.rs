#![forbid(unsafe_code)]
//! Networks that this host is connected to directly, beside the one by which it reaches the internet: the LAN
//! behind a router, bridges of containers, VPNs (rtnetlink, linux/rtnetlink.h). Knows no list.

use super::host::{RTA_GATEWAY, RTA_VIA, RTM_GETROUTE, RTMSG, dump};
use super::routes::{default_interfaces, interface};
use crate::base::name::IfName;
use crate::base::range::Range;
use crate::sys::nlattr::{Msg, attr, u32_at};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// RT_TABLE_MAIN
const MAIN: u8 = 254;
/// RTN_UNICAST
const UNICAST: u8 = 1;
/// Who makes routes for the addresses of an interface: RTPROT_KERNEL, RTPROT_RA, RTPROT_DHCP.
const FOR_ADDRESSES: [u8; 3] = [2, 9, 16];
/// Networks at most; a host with more has them from a routing protocol.
const NETWORKS_MAX: usize = 1024;

/// What no router of the internet forwards: a route into it is one into somebody's own network.
const PRIVATE: [IpNet; 5] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
];

/// The networks that are connected on interfaces that no default route uses, and their interfaces. Without a
/// default route these are all that are connected.
#[must_use]
pub fn direct_networks() -> Vec<(Range, IfName)> {
    let uplinks = default_interfaces().unwrap_or_default();
    let mut found: Vec<(Range, u32)> = Vec::new();
    // Half an answer is better than none: what it has is there.
    let _ = dump(RTM_GETROUTE, &mut |msg| {
        let route = direct_route(msg).filter(|route| !found.contains(route) && found.len() < NETWORKS_MAX);
        found.extend(route);
    });
    let named = found.into_iter().filter_map(|(range, index)| Some((range, interface(index)?)));
    named.filter(|(_, name)| name.as_str() != "lo" && !uplinks.contains(name)).collect()
}

/// The network and the interface in one answer to RTM_GETROUTE, if it is reached without a gateway.
fn direct_route(msg: Msg<'_>) -> Option<(Range, u32)> {
    let (&[_, len, _, _, table, protocol, _, kind, ..], attributes) =
        msg.payload.split_first_chunk::<RTMSG>()?;
    if len == 0 || table != MAIN || kind != UNICAST {
        return None;
    }
    if attr(attributes, RTA_GATEWAY).is_some() || attr(attributes, RTA_VIA).is_some() {
        return None;
    }
    let addr = super::host::address(attr(attributes, RTA_DST)?)?;
    let range = Range::from(IpNet::new(addr, len).ok()?);
    // Routes that somebody wrote may lead into a tunnel with half of the internet behind it.
    let private = || PRIVATE.iter().any(|net| Range::from(*net).covers(&range));
    let index = attr(attributes, RTA_OIF).and_then(|data| u32_at(data, 0))?;
    (FOR_ADDRESSES.contains(&protocol) || private()).then_some((range, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nlattr::{MsgBuf, messages};

    #[test]
    fn networks_of_addresses_and_private_ones() {
        const BOOT: u8 = 3;
        const KERNEL: u8 = 2;
        /// Destination, length, table, protocol, type, gateway, whether it counts
        type DirectCase = ([u8; 4], u8, u8, u8, u8, bool, bool);
        let cases: [DirectCase; 10] = [
            ([192, 168, 1, 0], 24, MAIN, KERNEL, UNICAST, false, true),
            ([198, 51, 100, 0], 24, MAIN, KERNEL, UNICAST, false, true),
            ([198, 51, 100, 0], 24, MAIN, 16, UNICAST, false, true),
            ([10, 8, 0, 0], 24, MAIN, BOOT, UNICAST, false, true),
            ([10, 9, 0, 0], 24, MAIN, BOOT, UNICAST, true, false),
            ([128, 0, 0, 0], 1, MAIN, BOOT, UNICAST, false, false),
            ([0, 0, 0, 0], 0, MAIN, BOOT, UNICAST, false, false),
            ([192, 168, 1, 1], 32, 255, KERNEL, 2, false, false),
            ([192, 168, 2, 0], 24, MAIN, KERNEL, 7, false, false),
            ([10, 0, 0, 0], 7, MAIN, BOOT, UNICAST, false, false),
        ];
        let mut wire = MsgBuf::default();
        for (dst, len, table, protocol, kind, gateway, _) in cases {
            let m = wire.start(24, 0, 1);
            wire.put(&[2, len, 0, 0, table, protocol, 253, kind, 0, 0, 0, 0]);
            wire.attr(RTA_DST, &dst);
            if gateway {
                wire.attr(RTA_GATEWAY, &[192, 168, 1, 9]);
            }
            wire.attr(RTA_OIF, &7u32.to_ne_bytes());
            wire.finish(m);
        }
        let got: Vec<bool> = messages(wire.bytes()).map(|m| direct_route(m).is_some()).collect();
        assert_eq!(got, cases.map(|case| case.6));
        let whole = wire.bytes().to_vec();
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            let at = rng.usize(16..bytes.len());
            bytes[at] = rng.u8(..);
            assert!(messages(&bytes).filter_map(direct_route).count() <= cases.len());
        }
    }
}
