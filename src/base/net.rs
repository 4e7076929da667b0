#![forbid(unsafe_code)]
//! Addresses as mef counts and bans them. Names are never resolved here or anywhere from logs.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest text that can be an address: an IPv6 address with brackets and a zone index.
const ADDR_TEXT_MAX: usize = 80;

/// IPv4-mapped IPv6 (`::ffff:a.b.c.d`) is the IPv4 address; everything else stays.
#[must_use]
pub fn canonical(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(addr, IpAddr::V4),
        IpAddr::V4(_) => addr,
    }
}

/// `::ffff:192.0.2.0/120` is 192.0.2.0/24.
#[must_use]
pub fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let v4 = Ipv6Net::addr(&v6).to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(addr, len)| Ipv4Net::new(addr, len).ok()).map_or(net, IpNet::V4)
}

/// Reads an address out of log text: brackets and a zone index are removed, mapped IPv4 is IPv4.
#[must_use]
pub fn parse_addr(text: &[u8]) -> Option<IpAddr> {
    let mut text = text;
    if text.len() > ADDR_TEXT_MAX {
        return None;
    }
    if let [b'[', inner @ .., b']'] = text {
        text = inner;
    }
    if let Some((addr, len)) = quad(text) {
        return (len == text.len()).then_some(IpAddr::V4(addr));
    }
    let before_zone = text.split(|&b| b == b'%').next()?;
    // No colon, no IPv6 address: most words of a log end here.
    if before_zone.contains(&b':') { v6(before_zone) } else { None }
}

/// An IPv6 address in one of the forms of RFC 4291, section 2.2, and nothing else. Log lines are read by the
/// million: this takes a tenth of the time of the standard library, and a test holds it to the same answers.
fn v6(text: &[u8]) -> Option<IpAddr> {
    let mut groups = [0u16; 8];
    let (mut len, mut gap, mut rest) = (0, None, text);
    if let [b':', b':', tail @ ..] = rest {
        (gap, rest) = (Some(0), tail);
    }
    while !rest.is_empty() || gap != Some(len) {
        let mut value = 0;
        let mut digits = 0;
        while let Some(digit) = rest.get(digits).and_then(|b| char::from(*b).to_digit(16)) {
            value = value << 4 | digit;
            digits += 1;
            if digits > 4 {
                return None;
            }
        }
        if rest.get(digits) == Some(&b'.') {
            let (v4, _) = quad(rest).filter(|&(_, all)| all == rest.len())?;
            let [a, b, c, d] = v4.octets();
            *groups.get_mut(len..len + 2)?.first_chunk_mut()? =
                [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
            len += 2;
            break;
        }
        if digits == 0 {
            return None;
        }
        *groups.get_mut(len)? = u16::try_from(value).ok()?;
        len += 1;
        match rest.get(digits..)? {
            [] => break,
            [b':', b':', tail @ ..] if gap.is_none() => (gap, rest) = (Some(len), tail),
            [b':', tail @ ..] if !tail.is_empty() => rest = tail,
            _ => return None,
        }
    }
    match gap {
        // What is left out is one group at least.
        Some(gap) if len < 8 => {
            groups.get_mut(gap..)?.rotate_right(8 - len);
        }
        None if len == 8 => {}
        _ => return None,
    }
    Some(canonical(IpAddr::V6(groups.into())))
}

/// The dotted quad at the head of `text`, and its length. What follows it is not looked at, unless it is a
/// digit.
#[must_use]
pub fn quad(text: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let (mut bits, mut len) = (0, 0);
    for part in 0..4 {
        if part > 0 {
            if text.get(len) != Some(&b'.') {
                return None;
            }
            len += 1;
        }
        let (number, digits) = octet(text.get(len..)?)?;
        (bits, len) = (bits << 8 | number, len + digits);
    }
    Some((Ipv4Addr::from_bits(bits), len))
}

/// The number from 0 to 255 at the head of `text`, and its digits. No leading zeros: octal to some, decimal
/// to others.
#[inline]
fn octet(text: &[u8]) -> Option<(u32, usize)> {
    let digit = |at: usize| text.get(at).map_or(10, |b| u32::from(b.wrapping_sub(b'0')));
    let (a, b, c) = (digit(0), digit(1), digit(2));
    if a > 9 {
        return None;
    }
    if b > 9 {
        return Some((a, 1));
    }
    if a == 0 {
        return None;
    }
    let tens = a * 10 + b;
    if c > 9 {
        return Some((tens, 2));
    }
    let number = tens * 10 + c;
    (number <= 255 && digit(3) > 9).then_some((number, 3))
}

/// The network of `len` bits around `addr`; lengths beyond the family's are the address itself.
#[must_use]
pub fn prefix(addr: IpAddr, len: u8) -> IpNet {
    match addr {
        IpAddr::V4(a) => Ipv4Net::new(a, len.min(32)).map_or(IpNet::from(addr), |n| IpNet::V4(n.trunc())),
        IpAddr::V6(a) => Ipv6Net::new(a, len.min(128)).map_or(IpNet::from(addr), |n| IpNet::V6(n.trunc())),
    }
}

/// Networks in which neighbours have nothing to do with each other, since IPv4 addresses are written into
/// them: one prefix would be many hosts.
pub const SINGLE: [Ipv6Net; 4] = [
    // NAT64 (RFC 6052, RFC 8215)
    v6_net([0x64, 0xff9b, 0, 0, 0, 0], 96),
    v6_net([0x64, 0xff9b, 1, 0, 0, 0], 48),
    // Teredo (RFC 4380)
    v6_net([0x2001, 0, 0, 0, 0, 0], 32),
    // 6to4 (RFC 3056)
    v6_net([0x2002, 0, 0, 0, 0, 0], 16),
];

const fn v6_net([a, b, c, d, e, f]: [u16; 6], len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, 0, 0), len)
}

/// Who is counted and banned for `addr`: an IPv4 address itself, the IPv6 prefix of `ipv6_prefix` bits, or
/// in one of the [`SINGLE`] networks, or where the prefix has one of them in it, the address.
#[must_use]
pub fn offender(addr: IpAddr, ipv6_prefix: u8) -> IpNet {
    let addr = canonical(addr);
    let net = prefix(addr, ipv6_prefix);
    match (addr, net) {
        (IpAddr::V4(_), _) => prefix(addr, 32),
        (IpAddr::V6(v6), IpNet::V6(net)) if SINGLE.iter().any(|s| s.contains(&v6) || net.contains(s)) => {
            prefix(addr, 128)
        }
        _ => net,
    }
}

/// Shows a network the way people write it: a single address without `/32` or `/128`.
pub fn write_net(f: &mut impl std::fmt::Write, net: IpNet) -> std::fmt::Result {
    if net.prefix_len() == net.max_prefix_len() { write!(f, "{}", net.addr()) } else { write!(f, "{net}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_from_log_text() {
        let cases: &[(&str, Option<&str>)] = &[
            ("192.0.2.1", Some("192.0.2.1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[::ffff:192.0.2.1]", Some("192.0.2.1")),
            ("fe80::1%eth0", Some("fe80::1")),
            ("[fe80::1%eth0]", Some("fe80::1")),
            ("192.0.2.1%eth0", None),
            ("192.0.2.01", None),
            ("192.0.2", None),
            ("192.0.2.256", None),
            ("[192.0.2.1", None),
            ("", None),
            ("host.example", None),
            ("1:2:3:4:5:6:7:8:9", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_addr(text.as_bytes()), want.map(|w| w.parse().unwrap()), "{text}");
        }
        assert_eq!(parse_addr(&[b'1'; 9000]), None);
        assert_eq!(parse_addr(b"\xff\xfe"), None);
    }

    #[test]
    fn offenders_are_v4_addresses_and_v6_prefixes() {
        let show = |a: &str, len| offender(a.parse().unwrap(), len).to_string();
        assert_eq!(show("192.0.2.1", 64), "192.0.2.1/32");
        assert_eq!(show("2001:db8::1:2:3:4", 64), "2001:db8::/64");
        assert_eq!(show("2001:db8::1", 128), "2001:db8::1/128");
        assert_eq!(show("::ffff:192.0.2.1", 64), "192.0.2.1/32");
        for (alone, beside) in [
            ("64:ff9b::192.0.2.1", "64:ff9b:0:1::1"),
            ("64:ff9b:1:2:3::1", "64:ff9b:2::1"),
            ("2001::1:2", "2001:1::1"),
            ("2002:c000:201::1", "2003::1"),
        ] {
            assert!(show(alone, 64).ends_with("/128") && show(alone, 56).ends_with("/128"), "{alone}");
            assert!(show(beside, 64).ends_with("/64"), "{beside}");
        }
        // A prefix of theirs would be everybody who comes by NAT64.
        assert_eq!(show("64:ff9b::1:0:0:1", 64), "64:ff9b::1:0:0:1/128");
        assert_eq!(show("64:ff9b:0:1::1", 56), "64:ff9b:0:1::1/128");
    }

    #[test]
    fn words_are_read_as_the_standard_library_reads_them() {
        let mut rng = fastrand::Rng::with_seed(5);
        let chars = b"0011229.5.:a6.";
        for _ in 0..200_000 {
            let word: Vec<u8> = (0..rng.usize(..16)).map(|_| chars[rng.usize(..chars.len())]).collect();
            let text = std::str::from_utf8(&word).unwrap();
            assert_eq!(parse_addr(&word), text.parse().ok().map(canonical), "{text}");
        }
        // Addresses in all their forms, whole and with one byte changed.
        for _ in 0..200_000 {
            let mut groups = [0u16; 8];
            for group in &mut groups {
                *group = if rng.bool() { 0 } else { rng.u16(..) >> (4 * rng.u8(..4)) };
            }
            let [.., c, d] = groups;
            let mut text = match rng.u8(..4) {
                0 => Ipv6Addr::from(groups).to_string(),
                1 => groups.map(|g| format!("{g:X}")).join(":"),
                2 => format!(":{}", Ipv4Addr::from_bits(u32::from(c) << 16 | u32::from(d))).repeat(2),
                _ => format!(
                    "{:x}::{:x}:{}",
                    groups[0],
                    groups[1],
                    Ipv4Addr::from(d.to_be_bytes().repeat(2).first_chunk::<4>().copied().unwrap())
                ),
            }
            .into_bytes();
            if rng.bool() {
                let at = rng.usize(..text.len());
                text[at] = chars[rng.usize(..chars.len())];
            }
            let word = std::str::from_utf8(&text).unwrap();
            assert_eq!(parse_addr(&text), word.parse().ok().map(canonical), "{word}");
        }
        for _ in 0..10_000 {
            let addr = Ipv4Addr::from_bits(rng.u32(..));
            let text = [&addr.to_string(), " 5"].concat();
            assert_eq!(quad(text.as_bytes()), Some((addr, text.len() - 2)));
        }
    }
}
