#![forbid(unsafe_code)]
//! Hits of wider IPv6 networks: who has a /48 has 65,536 prefixes of 64 bits to guess from, each within its
//! limits. So hits count for the /56 and the /48 as well, with limits that the failures of a house or an
//! office do not reach.

use super::tracker::{Limits, Tracker};
use crate::base::clock::Mono;
use crate::base::net::SINGLE;
use ipnet::{IpNet, Ipv6Net};

/// Prefix lengths, each with how many times a rule's maxretry is too much, and at least how many hits are.
const LEVELS: [(u8, u32, u32); 2] = [(56, 8, 40), (48, 32, 160)];
/// Of this one of the networks in which addresses count alone a /48 is one host: 6to4.
const OF_ONE: Ipv6Net = SINGLE[3];

/// The counts.
pub struct Wide(Tracker);

impl Wide {
    /// A table for `slots` networks; see [`Tracker::new`].
    #[must_use]
    pub fn new(slots: usize, rules: &[Limits], key: [u64; 2]) -> Wide {
        Wide(Tracker::new(slots, &wide(rules), key))
    }

    /// Counts `weight` hits of somebody in each wider network. Returns the widest for which that is too much,
    /// and its hits.
    pub fn hit(&mut self, now: Mono, rule: u16, addr: IpNet, weight: u8) -> Option<(IpNet, u32)> {
        let IpNet::V6(addr) = addr else { return None };
        let mut widest = None;
        for (n, (len, ..)) in (0..).zip(LEVELS).filter(|(_, level)| level.0 < addr.prefix_len()) {
            let net = Ipv6Net::new(addr.network(), len).map(|net| net.trunc());
            let Some(net) = net.ok().filter(|net| !counts_alone(net)).map(IpNet::V6) else { continue };
            if let Some(hits) = self.0.hit(now, number(rule, n), net, weight) {
                widest = Some((net, hits));
            }
        }
        widest
    }

    /// Forgets the hits of a network and of all inside it.
    pub fn forget(&mut self, addr: IpNet) {
        self.0.forget(addr);
    }

    /// What is remembered of everybody: see [`Tracker::hand_over`].
    pub(super) fn hand_over(&self, now: Mono, each: &mut dyn FnMut(u64, &[u32])) {
        self.0.hand_over(now, each);
    }

    /// Takes that in: see [`Tracker::take_in`].
    pub(super) fn take_in(&mut self, now: Mono, base: u64, place: &[u32]) -> Option<()> {
        self.0.take_in(now, base, place)
    }

    /// Takes over new rules: see [`Tracker::remap`].
    pub fn remap(&mut self, now: Mono, rules: &[Limits], map: &dyn Fn(u16) -> Option<u16>) {
        let levels = count();
        self.0.remap(now, &wide(rules), &|n| Some(number(map(n / levels)?, n % levels)));
    }
}

/// Whether an IPv6 network has, or is in, one of those in which addresses count alone.
fn counts_alone(addr: &Ipv6Net) -> bool {
    SINGLE.iter().any(|net| *net != OF_ONE && (net.contains(addr) || addr.contains(net)))
}

/// Whether hits are counted for such a network.
#[must_use]
pub fn is_counted(net: IpNet) -> bool {
    let IpNet::V6(net) = net else { return false };
    LEVELS.iter().any(|(len, ..)| *len == net.prefix_len()) && !counts_alone(&net)
}

fn count() -> u16 {
    u16::try_from(LEVELS.len()).unwrap_or(1)
}

/// What stands for a rule's hits at a level.
fn number(rule: u16, level: u16) -> u16 {
    rule.saturating_mul(count()).saturating_add(level)
}

/// The limits of each rule at each level.
fn wide(rules: &[Limits]) -> Vec<Limits> {
    let at = |rule: &Limits, times: u32, least: u32| {
        Limits::plain(rule.findtime, rule.maxretry.saturating_mul(times).max(least))
    };
    rules.iter().flat_map(|rule| LEVELS.map(|(_, times, least)| at(rule, times, least))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(wide: &mut Wide, addr: impl Fn(u32) -> String, most: u32) -> Option<(u32, String, u32)> {
        (0..most).find_map(|n| {
            let found = wide.hit(Mono(1000), 1, addr(n).parse().unwrap(), 1);
            found.map(|(net, hits)| (n + 1, net.to_string(), hits))
        })
    }

    #[test]
    fn a_spread_over_a_network_is_seen_and_neighbours_are_not() {
        let rules = [Limits::plain(600, 1), Limits::plain(600, 5)];
        let fresh = || Wide::new(64, &rules, [1, 2]);
        type WideRow = (&'static str, fn(u32) -> String, Option<(u32, &'static str)>);
        let cases: &[WideRow] = &[
            ("a /56", |n| format!("2001:db8:5:1{:02x}::/64", n % 256), Some((40, "2001:db8:5:100::/56"))),
            ("a /48", |n| format!("2001:db8:5:{:x}::/64", n << 8), Some((160, "2001:db8:5::/48"))),
            ("a /32", |n| format!("2001:db8:{n:x}::/64"), None),
            (
                "6to4 of one host",
                |n| format!("2002:cb00:7107:{n:x}00::1/128"),
                Some((160, "2002:cb00:7107::/48")),
            ),
            ("beside NAT64", |n| format!("64:ff9b:0:{:x}::/64", n + 1), None),
            ("NAT64", |n| format!("64:ff9b::203.0.113.{}/128", n % 256), None),
            ("Teredo", |n| format!("2001:0:1:2::{n:x}/128"), None),
            ("IPv4", |n| format!("203.0.113.{}/32", n % 256), None),
            ("the length of the level itself", |_| "2001:db8:5::/48".into(), None),
        ];
        for (name, addr, want) in cases {
            let got = hits(&mut fresh(), addr, 200);
            let got = got.as_ref().map(|(n, net, _)| (*n, net.as_str()));
            assert_eq!(got, *want, "{name}");
        }
        // With a rule that bans at the first hit, too, it takes so many.
        let mut one = fresh();
        let n = (0..200u32)
            .position(|n| one.hit(Mono(1), 0, format!("2001:db8::{n:x}/64").parse().unwrap(), 1).is_some());
        assert_eq!(n, Some(39));
    }

    #[test]
    fn counts_go_with_their_rule_and_can_be_forgotten() {
        let rules = [Limits::plain(600, 5), Limits::plain(600, 5)];
        let mut wide = Wide::new(64, &rules, [1, 2]);
        let net = |n: u32| format!("2001:db8:5:1{n:02x}::/64").parse::<IpNet>().unwrap();
        (0..39).for_each(|n| assert!(wide.hit(Mono(1000), 1, net(n), 1).is_none()));
        wide.remap(Mono(1000), &rules[1..], &|rule| rule.checked_sub(1));
        assert_eq!(wide.hit(Mono(1000), 0, net(40), 1), Some(("2001:db8:5:100::/56".parse().unwrap(), 40)));
        (0..39).for_each(|n| assert!(wide.hit(Mono(1000), 0, net(n), 1).is_none()));
        wide.forget("2001:db8:5::/48".parse().unwrap());
        assert!(wide.hit(Mono(1000), 0, net(40), 1).is_none());
    }
}
