#![forbid(unsafe_code)]
//! Networks that nobody on the Internet has.

use crate::base::range::Range;
use ipnet::IpNet;
use std::net::IpAddr;

/// Private, of one link, reserved (RFC 6890, RFC 5737, RFC 6598), of no sender. No DNSBL is asked about them,
/// and none of them is ever listed. They do not overlap.
pub const BOGONS: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    // What is not 2000::/3 is not the Internet.
    "::/3",
    "4000::/2",
    "8000::/1",
    // RFC 3849
    "2001:db8::/32",
];

/// Whether an address is in one of them.
#[must_use]
pub fn is_bogon(addr: IpAddr) -> bool {
    let addr = Range::from(addr);
    BOGONS.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| Range::from(net).covers(&addr))
}
