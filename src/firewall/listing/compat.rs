#![forbid(unsafe_code)]
//! Matches and targets of xtables inside of nf_tables, as iptables-nft writes them: the common ones. Their
//! structures (linux/netfilter/xt_*.h) are in the host's order. What has an option that is not read here is
//! not understood.

use super::expr::until_nul;
use super::reader::other_ports;
use crate::base::range::Family;
use crate::sys::nlattr::{u16_at, u32_at};

/// What one of them does.
pub enum Xt {
    Comment(String),
    Tests(Vec<CompatTest>),
    Log(String),
    /// How it answers; empty = with port unreachable.
    Reject(&'static str),
}

/// What a packet must have.
pub enum CompatTest {
    Ports {
        is_source: bool,
        ranges: Vec<(u16, u16)>,
    },
    /// Bits as in `ct state` of nf_tables.
    States(u32),
}

/// Reads a match or a target.
#[inline(never)]
pub fn read(is_match: bool, name: &[u8], rev: u32, info: &[u8], family: Option<Family>) -> Option<Xt> {
    match (is_match, name, rev) {
        (true, b"comment", 0) => Some(Xt::Comment(String::from_utf8_lossy(until_nul(info)).into_owned())),
        (true, b"tcp", 0) => {
            // Neither an option nor flags.
            let plain = info.get(8..11) == Some(&[0; 3]);
            ports(info, *info.get(11)?).filter(|_| plain)
        }
        (true, b"udp", 0) => ports(info, *info.get(8)?),
        (true, b"multiport", 1) => multiport(info),
        (true, b"conntrack", 1..=3) => conntrack(info, rev),
        (true, b"state", 0) => u32_at(info, 0).map(|bits| Xt::Tests(vec![CompatTest::States(bits)])),
        (false, b"LOG", 0) => log(info),
        (false, b"REJECT", 0) => reject(u32_at(info, 0)?, family),
        _ => None,
    }
}

/// `xt_tcp` and `xt_udp` begin alike; `inverse` are the bits for source and destination.
fn ports(info: &[u8], inverse: u8) -> Option<Xt> {
    let mut tests = Vec::new();
    for (is_source, at, bit) in [(true, 0, 1), (false, 4, 2)] {
        let range = (u16_at(info, at)?, u16_at(info, at + 2)?);
        let not = inverse & bit != 0;
        if range.0 > range.1 {
            return None;
        }
        if not || range != (0, u16::MAX) {
            let ranges = if not { other_ports(&[range]) } else { vec![range] };
            tests.push(CompatTest::Ports { is_source, ranges });
        }
    }
    (inverse & !3 == 0).then_some(Xt::Tests(tests))
}

/// `xt_multiport_v1`: flags, count, 15 ports, 15 marks of ranges, inverse.
#[inline(never)]
fn multiport(info: &[u8]) -> Option<Xt> {
    let (&[flags, count], inverse) = (info.first_chunk()?, *info.get(47)?);
    let count = usize::from(count).min(15);
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < count {
        let first = u16_at(info, 2 + at * 2)?;
        let wide = *info.get(32 + at)? != 0;
        at += usize::from(wide);
        let last = u16_at(info, 2 + at * 2).filter(|last| first <= *last && at < count)?;
        ranges.push((first, last));
        at += 1;
    }
    ranges.sort_unstable();
    let apart = ranges.windows(2).all(|pair| matches!(pair, [a, b] if u32::from(a.1) + 1 < u32::from(b.0)));
    // XT_MULTIPORT_SOURCE, XT_MULTIPORT_DESTINATION; the third is either of them.
    let is_source = flags == 0;
    (inverse == 0 && flags < 2 && apart).then_some(Xt::Tests(vec![CompatTest::Ports { is_source, ranges }]))
}

/// `xt_conntrack_mtinfo1` to `3`: only what asks for states alone.
#[inline(never)]
fn conntrack(info: &[u8], rev: u32) -> Option<Xt> {
    // XT_CONNTRACK_STATE, and what `-m state` adds to it.
    const STATE: u16 = 1;
    const ALIAS: u16 = 1 << 13;
    let (flags, inverse) = (u16_at(info, 146)?, u16_at(info, 148)?);
    let bits = if rev == 1 { u16::from(*info.get(150)?) } else { u16_at(info, 150)? };
    (flags & !ALIAS == STATE && inverse == 0).then(|| Xt::Tests(vec![CompatTest::States(bits.into())]))
}

/// `xt_log_info`: level, flags, prefix.
#[inline(never)]
fn log(info: &[u8]) -> Option<Xt> {
    let prefix = std::str::from_utf8(until_nul(info.get(2..32)?)).ok()?;
    (info.get(..2) == Some(&[4, 0])).then(|| Xt::Log(prefix.to_owned()))
}

/// `ipt_reject_info`, `ip6t_reject_info`: numbers of their own.
#[inline(never)]
fn reject(with: u32, family: Option<Family>) -> Option<Xt> {
    Some(Xt::Reject(match (family?, with) {
        (Family::V4, 3) | (Family::V6, 4) => "",
        (Family::V4, 7) | (Family::V6, 6) => "tcp reset",
        (Family::V4, 0) => "icmp net-unreachable",
        (Family::V4, 1) => "icmp host-unreachable",
        (Family::V4, 2) => "icmp prot-unreachable",
        (Family::V4, 5) => "icmp net-prohibited",
        (Family::V4, 6) => "icmp host-prohibited",
        (Family::V4, 8) => "icmp admin-prohibited",
        (Family::V6, 0) => "icmpv6 no-route",
        (Family::V6, 1) => "icmpv6 admin-prohibited",
        (Family::V6, 3) => "icmpv6 addr-unreachable",
        _ => return None,
    }))
}
