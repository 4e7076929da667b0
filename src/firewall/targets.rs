#![forbid(unsafe_code)]
//! Which connections a ban is about: its addresses, and the ports if it covers only some.

use crate::ban::Scope;
use crate::base::net::canonical;
use crate::base::range::{Family, Range, merge};
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::IpAddr;

/// Protocol numbers with ports that a scope can name.
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;

/// The far end of a connection in one direction: who sends, to which of our ports.
pub(super) struct Flow {
    pub peer: IpAddr,
    pub protocol: u8,
    /// `None` for protocols without.
    pub port: Option<u16>,
}

/// Addresses and ports, ready to be asked about every connection of the host.
pub(super) struct Targets<'a> {
    /// Sorted, apart from each other, and IPv4 never in the form of IPv6.
    ranges: Cow<'a, [Range]>,
    scope: &'a Scope,
}

impl<'a> Targets<'a> {
    /// Nothing is copied when the ranges are sorted and apart already.
    pub fn new(ranges: &'a [Range], scope: &'a Scope) -> Targets<'a> {
        let apart = |(a, b): (&Range, &Range)| a < b && !a.meets(b);
        let ready =
            ranges.iter().zip(ranges.iter().skip(1)).all(apart) && ranges.iter().all(|r| r.canonical() == *r);
        let ranges = if ready {
            Cow::Borrowed(ranges)
        } else {
            let mut own: Vec<Range> = ranges.iter().map(|r| r.canonical()).collect();
            merge(&mut own);
            Cow::Owned(own)
        };
        Targets { ranges, scope }
    }

    /// Whether the address is in one of the ranges.
    fn has(&self, addr: IpAddr) -> bool {
        let addr = canonical(addr);
        let behind = self.ranges.partition_point(|r| r.first() <= addr);
        let nearest = behind.checked_sub(1).and_then(|i| self.ranges.get(i));
        nearest.is_some_and(|r| r.covers(&Range::from(addr)))
    }

    /// Whether such packets are banned. What has no port is covered only when all ports are.
    pub fn cover(&self, flow: &Flow) -> bool {
        let transports = self.scope.transports();
        let open = self.scope.is_all()
            || (flow.protocol == TCP && transports.has_tcp() || flow.protocol == UDP && transports.has_udp())
                && flow.port.is_some_and(|p| self.scope.ports().iter().any(|&(a, b)| (a..=b).contains(&p)));
        open && self.has(flow.peer)
    }

    /// The network, when there is only one: then the kernel can filter.
    pub fn only(&self) -> Option<IpNet> {
        if let [range] = *self.ranges { range.as_net() } else { None }
    }

    /// Whether there are targets of the family at all. IPv4 peers also show up on IPv6 sockets.
    pub fn any(&self, family: Family) -> bool {
        self.ranges.iter().any(|r| r.family() == family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Transports;

    fn ranges(text: &str) -> Vec<Range> {
        text.split_whitespace().map(|t| Range::from(t.parse::<IpNet>().unwrap())).collect()
    }

    #[test]
    fn ranges_cover_their_addresses() {
        let cases: &[(&str, &str, &str, bool)] = &[
            ("nothing", "", "192.0.2.1", false),
            ("itself", "192.0.2.1/32", "192.0.2.1", true),
            ("its neighbour", "192.0.2.1/32", "192.0.2.2", false),
            ("first", "192.0.2.0/24", "192.0.2.0", true),
            ("last", "192.0.2.0/24", "192.0.2.255", true),
            ("behind the last", "192.0.2.0/24", "192.0.3.0", false),
            ("before the first", "192.0.2.0/24", "192.0.1.255", false),
            ("unsorted", "203.0.113.0/24 192.0.2.1/32", "203.0.113.9", true),
            ("nested, wide", "192.0.2.0/24 192.0.2.8/32", "192.0.2.9", true),
            ("nested, narrow", "192.0.2.0/24 192.0.2.8/32", "192.0.2.8", true),
            ("IPv6 prefix", "2001:db8:1::/64", "2001:db8:1::5", true),
            ("other IPv6 prefix", "2001:db8:1::/64", "2001:db8:2::5", false),
            ("mapped peer", "192.0.2.1/32", "::ffff:192.0.2.1", true),
            ("mapped target", "::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("families apart", "::/0", "192.0.2.9", false),
            ("everything", "0.0.0.0/0", "192.0.2.9", true),
        ];
        for (name, list, addr, want) in cases {
            let list = ranges(list);
            assert_eq!(Targets::new(&list, &Scope::ALL).has(addr.parse().unwrap()), *want, "{name}");
        }
    }

    #[test]
    fn same_answer_as_asking_every_range() {
        let seed = 20;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut addr = |wide: u32| IpAddr::V4(std::net::Ipv4Addr::from(0xc000_0000 | rng.u32(0..wide)));
        for round in 0..300 {
            let list: Vec<Range> = (0..round % 40)
                .filter_map(|_| Range::new(addr(4096), addr(4096)))
                .filter(|r| round % 2 == 0 || r.as_net().is_some())
                .collect();
            let all = Scope::ALL;
            let targets = Targets::new(&list, &all);
            for _ in 0..50 {
                let a = addr(4096);
                let want = list.iter().any(|r| r.covers(&Range::from(a)));
                assert_eq!(targets.has(a), want, "seed {seed} round {round}: {a} in {list:?}");
            }
        }
    }

    #[test]
    fn a_scope_narrows_a_ban() {
        let list = ranges("192.0.2.1/32");
        let flow = |protocol, port| Flow { peer: "192.0.2.1".parse().unwrap(), protocol, port };
        let both = Scope::new(vec![(22, 22), (8000, 8010)], Transports::Both);
        let tcp = Scope::new(vec![(22, 22)], Transports::Tcp);
        let rows = [
            (&both, flow(TCP, Some(22)), true),
            (&both, flow(UDP, Some(8010)), true),
            (&both, flow(TCP, Some(8011)), false),
            (&both, flow(132, Some(22)), false),
            (&both, flow(1, None), false),
            (&tcp, flow(TCP, Some(22)), true),
            (&tcp, flow(UDP, Some(22)), false),
            (&Scope::ALL, flow(1, None), true),
        ];
        for (i, (scope, flow, want)) in rows.iter().enumerate() {
            assert_eq!(Targets::new(&list, scope).cover(flow), *want, "row {i}");
        }
    }

    #[test]
    fn sorted_targets_are_not_copied() {
        let list = ranges("192.0.2.1/32 198.51.100.0/24 2001:db8::/64");
        assert!(matches!(Targets::new(&list, &Scope::ALL).ranges, Cow::Borrowed(_)));
    }
}
