#![forbid(unsafe_code)]
//! What rules of the guard say: whom they look for, and what they do with those.

use super::layout::{SINGLE6, hit};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::nft::NftRule;
use crate::firewall::nft::expr::{self, Cmp, NftVerdict, PayloadBase, REG};

/// Source address in the IP header: offset.
pub(super) const fn source_offset(family: Family) -> u32 {
    match family {
        Family::V4 => 12,
        Family::V6 => 8,
    }
}

pub(super) const fn key_type(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => IPV4_ADDR,
        Family::V6 => IPV6_ADDR,
    }
}

/// The rule with its verdict.
pub(super) fn end(mut rule: NftRule, verdict: NftVerdict<'_>) -> NftRule {
    rule.push(expr::verdict(verdict));
    rule
}

pub(super) fn push_meta(rule: &mut NftRule, key: i32, value: i32) {
    rule.push(expr::meta(key, REG));
    rule.push(expr::cmp(Cmp::Eq, REG, &[u8::try_from(value).unwrap_or(0)]));
}

/// Loads the source address, if the packet is of the family; an IPv6 one masked to `prefix` bits.
pub(super) fn push_source(rule: &mut NftRule, family: Family, prefix: u8) {
    let nfproto = match family {
        Family::V4 => libc::NFPROTO_IPV4,
        Family::V6 => libc::NFPROTO_IPV6,
    };
    push_meta(rule, libc::NFT_META_NFPROTO, nfproto);
    let len = u32::try_from(family.bytes()).unwrap_or(0);
    rule.push(expr::payload(PayloadBase::Network, source_offset(family), len, REG));
    if family == Family::V6 && prefix < 128 {
        push_mask(rule, prefix);
    }
}

/// What stands for the source of a packet: the address, or of most IPv6 addresses the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketSource {
    /// An IPv4 address.
    V4,
    /// An IPv6 address that counts alone, as [`SINGLE6`] says.
    Single,
    /// The IPv6 prefix of so many bits of all others.
    Prefix(u8),
}

impl PacketSource {
    pub(super) fn family(self) -> Family {
        if self == PacketSource::V4 { Family::V4 } else { Family::V6 }
    }
}

/// What stands for sources, each packet being of one kind.
pub(super) fn sources(ipv6_prefix: u8) -> impl Iterator<Item = PacketSource> {
    [PacketSource::V4, PacketSource::Prefix(ipv6_prefix), PacketSource::Single]
        .into_iter()
        .take(2 + usize::from(ipv6_prefix < 128))
}

/// Loads what stands for the source, if the packet is of that kind.
pub(super) fn push_key(rule: &mut NftRule, source: PacketSource) {
    push_source(rule, source.family(), 128);
    match source {
        PacketSource::V4 | PacketSource::Prefix(128..) => {}
        PacketSource::Single => rule.push(expr::lookup(Cmp::Eq, &SINGLE6, 0, REG)),
        PacketSource::Prefix(bits) => {
            rule.push(expr::lookup(Cmp::Neq, &SINGLE6, 0, REG));
            push_mask(rule, bits);
        }
    }
}

pub(super) fn push_mask(rule: &mut NftRule, prefix: u8) {
    let bits = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    rule.push(expr::mask(REG, &bits.to_be_bytes()));
}

pub(super) fn push_jump(rule: &mut NftRule, set: &Name, family: Family) {
    rule.push(expr::lookup(Cmp::Eq, set, 0, REG));
    rule.push(expr::verdict(NftVerdict::Jump(&hit(family))));
}

/// Type numbers of `nft`, with the bytes of a key.
pub(super) const IPV4_ADDR: (u32, u32) = (7, 4);

pub(super) const IPV6_ADDR: (u32, u32) = (8, 16);
