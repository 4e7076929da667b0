#![forbid(unsafe_code)]
//! Whom a report is about: an IPv4 address, an IPv6 network of 64 bits, or one IPv6 address; as a name below
//! a zone, as a key to sort by, and what of the world can be listed at all.

use crate::base::range::Range;
use crate::dns::name::Name;
use ipnet::{IpNet, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of the IPv6 networks that reports are about.
const NETWORK: u8 = 64;
/// Bits of the networks of which only so much is listed.
const WIDE_V4: u32 = 24;
const WIDE_V6: u32 = 48;

/// Somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An IPv4 address.
    V4(u32),
    /// An IPv6 network of 64 bits.
    Net(u64),
    /// One IPv6 address.
    V6(u128),
}

/// Networks that belong to nobody on the internet, or to too many: private, reserved, for documentation,
/// multicast, and those of tunnels.
const RESERVED: &[(u32, u8)] = &[
    (0, 8),
    (0x0a00_0000, 8),
    (0x6440_0000, 10),
    (0x7f00_0000, 8),
    (0xa9fe_0000, 16),
    (0xac10_0000, 12),
    (0xc000_0000, 24),
    (0xc000_0200, 24),
    (0xc058_6300, 24),
    (0xc0a8_0000, 16),
    (0xc612_0000, 15),
    (0xc633_6400, 24),
    (0xcb00_7100, 24),
    (0xe000_0000, 3),
];

/// The same of IPv6, by their first 64 bits; everything outside 2000::/3 is, too.
const RESERVED_V6: &[(u64, u8)] = &[
    // Protocols, Teredo, benchmarks.
    (0x2001_0000_0000_0000, 23),
    (0x2001_0db8_0000_0000, 32),
    // IPv4 addresses of others.
    (0x2002_0000_0000_0000, 16),
    (0x3fff_0000_0000_0000, 20),
];

impl Subject {
    /// Who is banned, if reports can be about it.
    #[must_use]
    pub fn of(net: IpNet) -> Option<Subject> {
        match net {
            IpNet::V4(v4) if v4.prefix_len() == 32 => Some(Subject::V4(v4.addr().to_bits())),
            IpNet::V6(v6) if v6.prefix_len() == NETWORK => Some(Subject::Net(high(v6.addr()))),
            IpNet::V6(v6) if v6.prefix_len() == 128 => Some(Subject::V6(v6.addr().to_bits())),
            _ => None,
        }
    }

    /// The same as a range.
    #[must_use]
    pub fn range(&self) -> Range {
        match *self {
            Subject::V4(bits) => IpAddr::from(Ipv4Addr::from_bits(bits)).into(),
            Subject::Net(bits) => {
                let addr = Ipv6Addr::from_bits(u128::from(bits) << 64);
                Ipv6Net::new(addr, NETWORK).map_or(IpAddr::from(addr).into(), |net| IpNet::V6(net).into())
            }
            Subject::V6(bits) => IpAddr::from(Ipv6Addr::from_bits(bits)).into(),
        }
    }

    /// The name of it below `zone`: octets or nibbles, the last first; of a network those that it has.
    #[must_use]
    pub fn name(&self, zone: &Name) -> Option<Name> {
        match *self {
            Subject::V4(bits) => Name::of_addr(Ipv4Addr::from_bits(bits).into(), zone),
            Subject::Net(bits) => nibbles(Name::default(), bits.into(), 16)?.join(zone),
            Subject::V6(bits) => nibbles(Name::default(), bits, 32)?.join(zone),
        }
    }

    /// The name under which a list has it: an address that is asked for is asked for whole, so a network is
    /// the wildcard of all that is in it.
    #[must_use]
    pub fn listed_name(&self, zone: &Name) -> Option<Name> {
        match *self {
            Subject::Net(bits) => nibbles(Name::default().push(b"*")?, bits.into(), 16)?.join(zone),
            _ => self.name(zone),
        }
    }

    /// Who has that name below a zone of so many labels; a wildcard's star is passed over. What is written in
    /// another way than [`Subject::name`] does it is nobody.
    #[must_use]
    pub fn parse(name: &Name, zone_labels: usize) -> Option<Subject> {
        let mut labels = name.labels().peekable();
        let star = labels.next_if(|label| *label == b"*").is_some();
        let count = labels.clone().count().checked_sub(zone_labels)?;
        let labels = labels.take(count);
        match (count, star) {
            (4, false) => {
                let mut bits = 0u32;
                for label in labels {
                    bits = bits >> 8 | octet(label)? << 24;
                }
                Some(Subject::V4(bits))
            }
            (16 | 32, _) => {
                let mut bits = 0u128;
                for label in labels {
                    let &[digit] = label else { return None };
                    bits = bits >> 4 | u128::from(char::from(digit).to_digit(16)?) << 124;
                }
                match (count, star) {
                    (16, _) => Some(Subject::Net(u64::try_from(bits >> 64).ok()?)),
                    (_, false) => Some(Subject::V6(bits)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The network around it of which not too much is listed.
    #[must_use]
    pub fn wide(&self) -> u64 {
        match *self {
            Subject::V4(bits) => u64::from(bits >> (32 - WIDE_V4)),
            Subject::Net(bits) => 1 << 63 | bits >> (64 - WIDE_V6),
            Subject::V6(bits) => 1 << 63 | u64::try_from(bits >> 64).unwrap_or(0) >> (64 - WIDE_V6),
        }
    }

    /// Whether it is somebody on the internet.
    #[must_use]
    pub fn is_global(&self) -> bool {
        let high = match *self {
            Subject::V4(bits) => {
                return !RESERVED.iter().any(|(net, len)| (bits ^ net) >> (32 - len) == 0);
            }
            Subject::Net(bits) => bits,
            Subject::V6(bits) => u64::try_from(bits >> 64).unwrap_or(0),
        };
        high >> 61 == 1 && !RESERVED_V6.iter().any(|(net, len)| (high ^ net) >> (64 - len) == 0)
    }

    /// As bytes, their number in front.
    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        match *self {
            Subject::V4(bits) => {
                out.push(4);
                out.extend_from_slice(&bits.to_be_bytes());
            }
            Subject::Net(bits) => {
                out.push(8);
                out.extend_from_slice(&bits.to_be_bytes());
            }
            Subject::V6(bits) => {
                out.push(16);
                out.extend_from_slice(&bits.to_be_bytes());
            }
        }
    }

    /// Reads what [`Subject::pack`] wrote, and what follows it.
    pub(super) fn unpack(bytes: &[u8]) -> Option<(Subject, &[u8])> {
        let (length, rest) = bytes.split_first()?;
        match length {
            4 => rest.split_first_chunk().map(|(own, rest)| (Subject::V4(u32::from_be_bytes(*own)), rest)),
            8 => rest.split_first_chunk().map(|(own, rest)| (Subject::Net(u64::from_be_bytes(*own)), rest)),
            16 => rest.split_first_chunk().map(|(own, rest)| (Subject::V6(u128::from_be_bytes(*own)), rest)),
            _ => None,
        }
    }
}

fn high(addr: Ipv6Addr) -> u64 {
    u64::try_from(addr.to_bits() >> 64).unwrap_or(0)
}

/// The lowest `count` nibbles of some bits, the last first, behind a name.
fn nibbles(mut name: Name, bits: u128, count: u32) -> Option<Name> {
    for at in 0..count {
        let digit = char::from_digit(u32::try_from(bits >> (4 * at) & 15).ok()?, 16)?;
        name = name.push(&[u8::try_from(digit).ok()?])?;
    }
    Some(name)
}

/// A number from 0 to 255 without leading zeros.
fn octet(label: &[u8]) -> Option<u32> {
    let plain = matches!(label.len(), 1..=3) && (label.len() == 1 || label.first() != Some(&b'0'));
    let digits = label
        .iter()
        .try_fold(0u32, |n, digit| digit.is_ascii_digit().then(|| n * 10 + u32::from(digit - b'0')));
    digits.filter(|n| plain && *n < 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(net: &str) -> Subject {
        Subject::of(net.parse().unwrap()).unwrap()
    }

    #[test]
    fn names_and_back() {
        let zone = Name::parse(b"web1.r.cloud.example").unwrap();
        let cases = [
            ("192.0.2.99/32", "99.2.0.192.web1.r.cloud.example", false),
            ("2001:db8:0:a1::/64", "1.a.0.0.0.0.0.0.8.b.d.0.1.0.0.2.web1.r.cloud.example", true),
            (
                "2001:db8::a1/128",
                "1.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.web1.r.cloud.example",
                false,
            ),
        ];
        for (net, name, starred) in cases {
            let who = subject(net);
            assert_eq!(who.name(&zone).unwrap().to_string(), name);
            let listed = who.listed_name(&zone).unwrap();
            assert_eq!(listed.to_string(), if starred { format!("*.{name}") } else { name.into() });
            for name in [who.name(&zone).unwrap(), listed] {
                assert_eq!(Subject::parse(&name, 4), Some(who));
            }
            assert_eq!(who.range(), net.parse::<IpNet>().unwrap().into());
            let mut packed = Vec::new();
            who.pack(&mut packed);
            packed.push(7);
            assert_eq!(Subject::unpack(&packed), Some((who, &[7][..])));
        }
        for bad in
            ["web1.r.cloud.example", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "a.b.c.d", "*.1.2.3.4"]
        {
            let name = Name::parse(bad.as_bytes()).unwrap();
            let name = if bad.starts_with("web1") { name } else { name.join(&zone).unwrap() };
            assert_eq!(Subject::parse(&name, 4), None, "{bad}");
        }
        for net in ["192.0.2.0/24", "2001:db8::/48", "2001:db8::/127", "0.0.0.0/0"] {
            assert_eq!(Subject::of(net.parse().unwrap()), None, "{net}");
        }
    }

    #[test]
    fn who_is_nobody_on_the_internet() {
        for net in [
            "0.1.2.3/32",
            "10.0.0.1/32",
            "100.64.0.1/32",
            "100.127.255.255/32",
            "127.0.0.2/32",
            "169.254.1.1/32",
            "172.16.0.1/32",
            "172.31.255.255/32",
            "192.0.0.8/32",
            "192.0.2.1/32",
            "192.168.7.7/32",
            "198.18.0.1/32",
            "198.19.255.255/32",
            "198.51.100.1/32",
            "203.0.113.1/32",
            "224.0.0.1/32",
            "240.0.0.1/32",
            "255.255.255.255/32",
            "fe80::/64",
            "fc00::/64",
            "fd12:3456::1/128",
            "::1/128",
            "::ffff:7f00:2/128",
            "64:ff9b::/64",
            "2001:db8::/64",
            "2001:0:1::/64",
            "2002:102:304::/64",
            "3fff:1::/64",
            "ff02::1/128",
            "4000::/64",
        ] {
            assert!(!subject(net).is_global(), "{net}");
        }
        for net in [
            "1.1.1.1/32",
            "9.255.255.255/32",
            "11.0.0.1/32",
            "100.63.0.1/32",
            "100.128.0.1/32",
            "126.0.0.1/32",
            "172.15.0.1/32",
            "172.32.0.1/32",
            "192.0.1.1/32",
            "198.17.0.1/32",
            "198.20.0.1/32",
            "223.255.255.254/32",
            "2001:200::/64",
            "2a00:1450::/64",
            "2a00::1/128",
            "3ffe::/64",
        ] {
            assert!(subject(net).is_global(), "{net}");
        }
    }

    #[test]
    fn neighbours_share_a_wide_network() {
        assert_eq!(subject("1.2.3.4/32").wide(), subject("1.2.3.250/32").wide());
        assert_ne!(subject("1.2.3.4/32").wide(), subject("1.2.4.4/32").wide());
        assert_eq!(subject("2a00:1:2:3::/64").wide(), subject("2a00:1:2:4::9/128").wide());
        assert_ne!(subject("2a00:1:2:3::/64").wide(), subject("2a00:1:3:3::/64").wide());
        assert_ne!(subject("0.0.0.1/32").wide(), subject("::/64").wide());
    }
}
