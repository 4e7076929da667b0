#![forbid(unsafe_code)]
//! Matches and targets of xtables inside of nf_tables, as iptables-nft writes them: the common ones. Their
//! structures (linux/netfilter/xt_*.h) are in the host's order. What has an option that is not read here is
//! not understood.

use super::act::{ADMIN_PROHIBITED, HOST_UNREACHABLE, NO_ROUTE, PORT_UNREACHABLE, RESET, marked, picked};
use super::expr::until_nul;
use super::reader::other_ports;
use crate::base::range::{Family, Range};
use crate::firewall::field::ROUTING;
use crate::plan::field::ROUTING_TYPE;
use crate::plan::listed::LogDetail;
use crate::plan::{Change, Field, LogTarget, Nat, NatKind, PacketSide, Test};
use crate::sys::nlattr::{u16_at, u32_at};

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XtKind {
    Match,
    Target,
}

/// What one of them does.
pub enum Xt {
    Comment(String),
    Tests(Vec<CompatTest>),
    Log {
        prefix: String,
        to: LogTarget,
        detail: LogDetail,
    },
    Change(Change),
    /// With the bits of how it picks.
    Nat(Nat, u32),
    /// How it answers.
    Reject(&'static str),
}

/// What a packet must have.
pub enum CompatTest {
    Ports {
        side: PacketSide,
        ranges: Vec<(u16, u16)>,
    },
    /// Bits as in `ct state` of nf_tables.
    States(u32),
    /// None of these, nor of what NAT does, by bits of `ct status`.
    NoStates {
        states: u32,
        status: u16,
    },
    /// Anything else that one field has.
    Field(Test),
}

/// Reads a match or a target.
#[inline(never)]
pub fn read(kind: XtKind, name: &[u8], rev: u32, info: &[u8], family: Option<Family>) -> Option<Xt> {
    match (kind, name, rev) {
        (XtKind::Match, b"comment", 0) => {
            Some(Xt::Comment(String::from_utf8_lossy(until_nul(info)).into_owned()))
        }
        (XtKind::Match, b"tcp", 0) => tcp(info),
        (XtKind::Match, b"icmp" | b"icmp6", 0) => icmp(info),
        (XtKind::Match, b"mark", 1) => {
            let (value, mask, not) = (u32_at(info, 0)?, u32_at(info, 4)?, *info.get(8)? != 0);
            let mask = if mask == u32::MAX { 0 } else { mask };
            field(Test { not, ..Test::bits(Field::Mark, value.into(), mask.into()) })
        }
        (XtKind::Match, b"addrtype", 1) => kinds(info),
        (XtKind::Match, b"dscp", 0) => number(Field::Dscp, *info.first()?, *info.get(1)? != 0),
        // IPT_TTL_EQ, IPT_TTL_NE, and the same of hop limits.
        (XtKind::Match, b"ttl" | b"hl", 0) => {
            let not = *info.first().filter(|mode| **mode < 2)? == 1;
            number(Field::Ttl, *info.get(1)?, not)
        }
        (XtKind::Match, b"mac", 0) => {
            let address = info.get(..6)?.iter().fold(0, |all, byte| all << 8 | u128::from(*byte));
            field(Test { not: u32_at(info, 8)? != 0, ..Test::new(Field::Mac, vec![(address, address)]) })
        }
        (XtKind::Match, b"owner", 1) => owner(info),
        (XtKind::Match, b"pkttype", 0) => {
            let of = u8::try_from(u32_at(info, 0)?).ok().filter(|of| *of < 4)?;
            number(Field::PacketType, of, u32_at(info, 4)? != 0)
        }
        (XtKind::Match, b"rt", 0) => routing(info),
        (XtKind::Target, b"MARK", 2) => {
            let (value, mask) = (u32_at(info, 0)?, u32_at(info, 4)?);
            marked(value, mask).map(Xt::Change)
        }
        (XtKind::Target, b"TCPMSS", 0) => {
            let size = u16_at(info, 0)?;
            Some(Xt::Change(Change::Mss(if size == u16::MAX { 0 } else { size })))
        }
        (XtKind::Target, b"SNAT" | b"DNAT" | b"MASQUERADE" | b"REDIRECT", _) => nat(name, rev, info, family?),
        (XtKind::Match, b"udp", 0) => ports(info, *info.get(8)?),
        (XtKind::Match, b"multiport", 1) => multiport(info),
        (XtKind::Match, b"conntrack", 1..=3) => conntrack(info, rev),
        // Here, 64 is untracked.
        (XtKind::Match, b"state", 0) => u32_at(info, 0).map(|bits| Xt::Tests(vec![CompatTest::States(bits)])),
        (XtKind::Target, b"LOG", 0) => log(info),
        (XtKind::Target, b"REJECT", 0) => reject(u32_at(info, 0)?, family),
        _ => None,
    }
}

/// `xt_tcp` and `xt_udp` begin alike; `inverse` are the bits for source and destination.
fn ports(info: &[u8], inverse: u8) -> Option<Xt> {
    let mut tests = Vec::new();
    for (side, at, bit) in [(PacketSide::Source, 0, 1), (PacketSide::Destination, 4, 2)] {
        let range = (u16_at(info, at)?, u16_at(info, at + 2)?);
        let not = inverse & bit != 0;
        if range.0 > range.1 {
            return None;
        }
        if not || range != (0, u16::MAX) {
            let ranges = if not { other_ports(&[range]) } else { vec![range] };
            tests.push(CompatTest::Ports { side, ranges });
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
    let side = if flags == 0 { PacketSide::Source } else { PacketSide::Destination };
    (inverse == 0 && flags < 2 && apart).then_some(Xt::Tests(vec![CompatTest::Ports { side, ranges }]))
}

/// `xt_conntrack_mtinfo1` to `3`: only what asks for states alone.
#[inline(never)]
fn conntrack(info: &[u8], rev: u32) -> Option<Xt> {
    // XT_CONNTRACK_STATE, and what `-m state` adds to it.
    const STATE: u16 = 1;
    const ALIAS: u16 = 1 << 13;
    let (flags, inverse) = (u16_at(info, 146)?, u16_at(info, 148)?);
    let bits = if rev == 1 { u16::from(*info.get(150)?) } else { u16_at(info, 150)? };
    // Here, 64 and 128 are what NAT does, and 256 is untracked.
    let (nat, plain) = (bits & (64 | 128), u32::from(bits & 0x3f) | u32::from(bits >> 8) << 6);
    let tests = match (inverse & STATE, nat) {
        (0, 0) => vec![CompatTest::States(plain)],
        (0, _) if plain != 0 => return None,
        (0, _) => {
            vec![CompatTest::Field(Test { not: true, ..Test::bits(Field::Status, 0, u128::from(nat >> 2)) })]
        }
        (_, _) => vec![CompatTest::NoStates { states: plain, status: nat >> 2 }],
    };
    (flags & !ALIAS == STATE && inverse & !STATE == 0).then_some(Xt::Tests(tests))
}

fn field(test: Test) -> Option<Xt> {
    Some(Xt::Tests(vec![CompatTest::Field(test)]))
}

fn number(of: Field, value: u8, not: bool) -> Option<Xt> {
    field(Test { not, ..Test::new(of, vec![(value.into(), value.into())]) })
}

/// `xt_tcp`: behind the ports an option, a mask of flags, their values and what is inverse.
fn tcp(info: &[u8]) -> Option<Xt> {
    let &[option, mask, value, inverse] = info.get(8..12)?.first_chunk()?;
    let Xt::Tests(mut tests) = ports(info, inverse & 3)? else { return None };
    if mask > 0 {
        let test = Test { not: inverse & 4 != 0, ..Test::bits(Field::Flags, value.into(), mask.into()) };
        tests.push(CompatTest::Field(test));
    }
    (option == 0 && inverse & !7 == 0).then_some(Xt::Tests(tests))
}

/// `ipt_icmp`, `ip6t_icmp`: type, first and last code, inverse. Codes have no words.
fn icmp(info: &[u8]) -> Option<Xt> {
    let &[kind, first, last, inverse] = info.first_chunk()?;
    ((first, last) == (0, 255) && inverse < 2 && kind < 255).then_some(())?;
    number(Field::Icmp, kind, inverse == 1)
}

/// `xt_addrtype_info_v1`: bits of kinds of the source and of the destination, and how they are looked at.
fn kinds(info: &[u8]) -> Option<Xt> {
    let flags = u32_at(info, 4).filter(|flags| *flags < 4)?;
    let mut tests = Vec::new();
    for (of, at, bit) in [(Field::SrcKind, 0, 1), (Field::DstKind, 2, 2)] {
        let bits = u16_at(info, at)?;
        let all = (0..12u8).filter(|n| bits & 1 << n != 0).map(|n| (u128::from(n), u128::from(n)));
        if bits > 0 {
            tests.push(CompatTest::Field(Test { not: flags & bit != 0, ..Test::new(of, all.collect()) }));
        }
    }
    Some(Xt::Tests(tests))
}

/// `ip6t_rt`: type, segments that are left, length; which of them count, and what is inverse.
fn routing(info: &[u8]) -> Option<Xt> {
    // What is left is always looked at.
    (u32_at(info, 4)? == 0 && u32_at(info, 8)? == u32::MAX).then_some(())?;
    let which = match (u32_at(info, 0)?, info.get(16..18)?) {
        (kind @ 0..128, [1, 0]) => ROUTING_TYPE | u128::from(kind) << 8 | ROUTING,
        (_, [0, 0]) => ROUTING,
        _ => return None,
    };
    field(Test::new(Field::Header, vec![(which, which)]))
}

/// `xt_owner_match_info`: users, groups, which of them count, and what is inverse.
fn owner(info: &[u8]) -> Option<Xt> {
    let (of, at, not) = match info.get(16..18)? {
        [1, inverse] => (Field::Uid, 0, *inverse & 1 != 0),
        [2, inverse] => (Field::Gid, 8, *inverse & 2 != 0),
        _ => return None,
    };
    let (first, last) = (u32_at(info, at)?, u32_at(info, at + 4)?);
    (first == last).then_some(())?;
    field(Test { not, ..Test::new(of, vec![(first.into(), last.into())]) })
}

/// `nf_nat_range` and `nf_nat_range2`: flags, two addresses, two ports. Of IPv4 in older revisions one
/// `nf_nat_ipv4_range` behind how many there are.
#[inline(never)]
fn nat(name: &[u8], rev: u32, info: &[u8], family: Family) -> Option<Xt> {
    let kind = match name {
        b"SNAT" => NatKind::Snat,
        b"DNAT" => NatKind::Dnat,
        b"MASQUERADE" => NatKind::Masquerade,
        _ => NatKind::Redirect,
    };
    let old = rev == 0 && family == Family::V4;
    if old && u32_at(info, 0)? != 1 {
        return None;
    }
    let (at, first, last, ports) = if old { (4, 8, 12, 16) } else { (0, 4, 20, 36) };
    let flags = u32_at(info, at)?;
    let pick = picked(flags)?;
    let addr = |at: usize| Range::from_key(info.get(at..at + family.bytes())?);
    let port = |at: usize| Some(u16::from_be_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let to = match flags & 1 {
        0 => None,
        _ => Some(Range::new(addr(first)?.first(), addr(last)?.first())?),
    };
    let ports = if flags & 2 == 0 { None } else { Some((port(ports)?, port(ports + 2)?)) };
    Some(Xt::Nat(Nat { kind, to, ports, pick }, flags))
}

/// `xt_log_info`: level, flags, prefix.
#[inline(never)]
fn log(info: &[u8]) -> Option<Xt> {
    let prefix = std::str::from_utf8(until_nul(info.get(2..32)?)).ok()?;
    let [level @ 0..8, flags] = info.first_chunk::<2>()? else { return None };
    let detail = if *flags == 0 { LogDetail::Usual } else { LogDetail::More };
    Some(Xt::Log { prefix: prefix.to_owned(), to: LogTarget::Level(*level), detail })
}

/// `ipt_reject_info`, `ip6t_reject_info`: numbers of their own.
#[inline(never)]
fn reject(with: u32, family: Option<Family>) -> Option<Xt> {
    Some(Xt::Reject(match (family?, with) {
        (Family::V4, 3) | (Family::V6, 4) => PORT_UNREACHABLE,
        (Family::V4, 7) | (Family::V6, 6) => RESET,
        (_, 0) => NO_ROUTE,
        (Family::V4, 1) | (Family::V6, 3) => HOST_UNREACHABLE,
        (Family::V4, 2) => "icmp prot-unreachable",
        (Family::V4, 5) => "icmp net-prohibited",
        (Family::V4, 6) => "icmp host-prohibited",
        (Family::V4, 8) | (Family::V6, 1) => ADMIN_PROHIBITED,
        _ => return None,
    }))
}
