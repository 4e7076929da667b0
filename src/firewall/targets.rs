#![forbid(unsafe_code)]
//! Which connections a ban is about: its networks, and the ports if it covers only some.

use crate::base::net::{canonical, plain, prefix};
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::IpAddr;

/// Networks and ports, ready to be asked about every connection of the host.
pub struct Targets<'a> {
    /// Sorted, without host bits and without IPv4 in IPv6 form.
    nets: Cow<'a, [IpNet]>,
    /// The prefix lengths that occur, per family: few, so that a look-up is a few binary searches
    /// and networks may lie in each other.
    lens4: Vec<u8>,
    lens6: Vec<u8>,
    /// Inclusive ranges of the banned ports; empty means all.
    ports: &'a [(u16, u16)],
}

impl<'a> Targets<'a> {
    /// Nothing is copied when `nets` is already sorted and every network is written without host bits.
    #[must_use]
    pub fn new(nets: &'a [IpNet], ports: &'a [(u16, u16)]) -> Targets<'a> {
        let nets = if nets.is_sorted() && nets.iter().all(|n| plain(*n) == *n) {
            Cow::Borrowed(nets)
        } else {
            let mut own: Vec<IpNet> = nets.iter().map(|n| plain(*n)).collect();
            own.sort_unstable();
            Cow::Owned(own)
        };
        let (mut lens4, mut lens6) = (Vec::new(), Vec::new());
        for net in nets.iter() {
            let lens = if net.addr().is_ipv4() { &mut lens4 } else { &mut lens6 };
            if !lens.contains(&net.prefix_len()) {
                lens.push(net.prefix_len());
            }
        }
        Targets { nets, lens4, lens6, ports }
    }

    /// Whether the address is in one of the networks.
    #[must_use]
    pub fn has(&self, addr: IpAddr) -> bool {
        let addr = canonical(addr);
        let lens = if addr.is_ipv4() { &self.lens4 } else { &self.lens6 };
        lens.iter().any(|&len| self.nets.binary_search(&prefix(addr, len)).is_ok())
    }

    /// Whether packets of `peer` to `port` are banned. A connection without ports is covered only when all ports are.
    #[must_use]
    pub fn cover(&self, peer: IpAddr, port: Option<u16>) -> bool {
        let open = |p: u16| self.ports.iter().any(|&(first, last)| (first..=last).contains(&p));
        (self.ports.is_empty() || port.is_some_and(open)) && self.has(peer)
    }

    /// The network, when there is only one: then the kernel can filter.
    #[must_use]
    pub fn only(&self) -> Option<IpNet> {
        if let [net] = *self.nets { Some(net) } else { None }
    }

    /// Whether there are targets of the family at all. IPv4 peers also show up on IPv6 sockets.
    #[must_use]
    pub fn any(&self, ipv4: bool) -> bool {
        !if ipv4 { &self.lens4 } else { &self.lens6 }.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn networks_cover_their_addresses() {
        let cases: &[(&str, &str, &str, bool)] = &[
            ("nothing", "", "192.0.2.1", false),
            ("itself", "192.0.2.1/32", "192.0.2.1", true),
            ("its neighbour", "192.0.2.1/32", "192.0.2.2", false),
            ("first", "192.0.2.0/24", "192.0.2.0", true),
            ("last", "192.0.2.0/24", "192.0.2.255", true),
            ("behind the last", "192.0.2.0/24", "192.0.3.0", false),
            ("host bits", "192.0.2.77/24", "192.0.2.1", true),
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
            let list = nets(list);
            assert_eq!(Targets::new(&list, &[]).has(addr.parse().unwrap()), *want, "{name}");
        }
    }

    #[test]
    fn same_answer_as_asking_every_network() {
        let seed = 20;
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..300 {
            let list: Vec<IpNet> = (0..rng.usize(0..40))
                .map(|_| {
                    let v4 = std::net::Ipv4Addr::from(0xc000_0000 | rng.u32(0..4096));
                    prefix(IpAddr::V4(v4), rng.u8(18..=32))
                })
                .collect();
            let targets = Targets::new(&list, &[]);
            for _ in 0..50 {
                let a = IpAddr::V4(std::net::Ipv4Addr::from(0xc000_0000 | rng.u32(0..4096)));
                let want = list.iter().any(|n| n.contains(&a));
                assert_eq!(targets.has(a), want, "seed {seed} round {round}: {a} in {list:?}");
            }
        }
    }

    #[test]
    fn ports_narrow_a_ban() {
        let list = nets("192.0.2.1/32");
        let peer = "192.0.2.1".parse().unwrap();
        let some = Targets::new(&list, &[(22, 22), (8000, 8010)]);
        let rows = [(Some(22), true), (Some(8010), true), (Some(8011), false), (None, false)];
        for (port, want) in rows {
            assert_eq!(some.cover(peer, port), want, "{port:?}");
        }
        assert!(Targets::new(&list, &[]).cover(peer, None));
        assert!(!some.cover("192.0.2.2".parse().unwrap(), Some(22)));
    }

    #[test]
    fn sorted_targets_are_not_copied() {
        let list = nets("192.0.2.1/32 198.51.100.0/24 2001:db8::/64");
        assert!(matches!(Targets::new(&list, &[]).nets, Cow::Borrowed(_)));
    }
}
