#![forbid(unsafe_code)]
//! The lines of `mef test --hits`, on which other tools build: number, tab, address.

use std::net::IpAddr;

/// Longest line of [`push_line`].
const LINE: usize = 20 + 1 + 39 + 1;

/// A number, a tab, an address and a newline, without the formatting machinery: there may be millions of
/// them.
pub(super) fn push_line(out: &mut Vec<u8>, number: u64, addr: IpAddr) {
    // From its end, as digits come.
    let mut line = [0; LINE];
    let mut at = LINE;
    let mut put = |byte: u8| {
        at -= 1;
        if let Some(place) = line.get_mut(at) {
            *place = byte;
        }
    };
    put(b'\n');
    match addr {
        IpAddr::V4(v4) => {
            for (octet, before) in v4.octets().into_iter().zip(*b"\t...").rev() {
                digits(octet.into(), &mut put);
                put(before);
            }
        }
        IpAddr::V6(v6) => {
            v6_backwards(v6.segments(), &mut put);
            put(b'\t');
        }
    }
    digits(number, &mut put);
    out.extend_from_slice(line.get(at..).unwrap_or_default());
}

/// An IPv6 address as RFC 5952 writes it, the last byte first.
fn v6_backwards(groups: [u16; 8], put: &mut impl FnMut(u8)) {
    let zeros = |from: &usize| groups.iter().skip(*from).take_while(|&&group| group == 0).count();
    // Of equals the first, which the last of a reversed order is.
    let begin = (0..8).rev().max_by_key(zeros).unwrap_or(0);
    let gap = begin..begin + Some(zeros(&begin)).filter(|&len| len > 1).unwrap_or(0);
    for (at, mut group) in groups.into_iter().enumerate().rev() {
        if gap.contains(&at) {
            // The other colon is that before the group behind.
            if at == gap.start {
                put(b':');
                (gap.end == 8).then(|| put(b':'));
            }
            continue;
        }
        loop {
            put(b"0123456789abcdef".get(usize::from(group % 16)).copied().unwrap_or(b'0'));
            group /= 16;
            if group == 0 {
                break;
            }
        }
        if at > 0 {
            put(b':');
        }
    }
}

/// The decimal digits of `n`, the last first.
fn digits(mut n: u64, put: &mut impl FnMut(u8)) {
    loop {
        put(b'0' + u8::try_from(n % 10).unwrap_or(0));
        n /= 10;
        if n == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_written_as_everywhere() {
        for number in [0, 7, 10, 4096, u64::MAX] {
            for text in ["0.0.0.0", "192.0.2.255", "255.255.255.255", "2001:db8::1", "::1"] {
                let mut out = Vec::new();
                push_line(&mut out, number, text.parse().unwrap());
                assert_eq!(String::from_utf8(out).unwrap(), format!("{number}\t{text}\n"));
            }
        }
    }

    #[test]
    fn ipv6_addresses_are_written_as_by_the_standard_library() {
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..20_000 {
            let groups: [u16; 8] =
                std::array::from_fn(|_| if rng.bool() { 0 } else { rng.u16(..) >> rng.u8(0..16) });
            let addr = std::net::Ipv6Addr::from(groups);
            // Mapped IPv4 is IPv4 here, and written so.
            if addr.to_ipv4_mapped().is_some() {
                continue;
            }
            let mut out = Vec::new();
            push_line(&mut out, 1, addr.into());
            assert_eq!(String::from_utf8(out).unwrap(), format!("1\t{addr}\n"));
        }
    }
}
