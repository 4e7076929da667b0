#![forbid(unsafe_code)]
//! How the kernel gets at the fields of a plan: a row for each, which says what is loaded and how its bytes
//! stand. Rules are written and read back by the same rows. Expressions that libnftnl need not know are
//! written here as bytes.

use super::nft::NftRule;
use super::nft::expr::{self, Cmp, PayloadBase, REG};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::plan::field::ROUTING_TYPE;
use crate::plan::{Field, Nat, NatKind, NatPick};
use crate::sys::nlattr::MsgBuf;

/// What loads a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// `meta`, by its key.
    Meta(u32),
    /// `ct`, by its key.
    Ct(u32),
    /// A header: base, offset and bytes.
    Payload(u32, u32, u32),
    /// `fib`: result and flags.
    Fib(u32, u32),
    /// `exthdr`: which one is for the value to say.
    Header,
}

/// How a field stands in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// What loads it.
    pub load: Load,
    /// Bytes.
    pub len: usize,
    /// Whether its bytes stand in the host's order.
    pub host: bool,
    /// Bits that it is moved to the left.
    pub shift: u32,
    /// Bits of what is loaded that are its own; 0 = all.
    pub mask: u128,
    /// Type number of nft(8), only shown.
    pub shown: u32,
}

/// Types of nft(8) whose bytes stand in the host's order: those of `host` below.
pub const HOST_ORDER: [u32; 6] = [19, 20, 24, 25, 28, 38];
/// NFT_META_IIFTYPE
pub const META_IIFTYPE: u32 = 8;
/// NFT_META_PKTTYPE
pub const META_PKTTYPE: u32 = 19;
/// Number of routing headers of IPv6, and where their type stands.
pub const ROUTING: u128 = 43;
pub const ROUTING_TYPE_AT: u32 = 2;
/// ARPHRD_ETHER
pub const ETHERNET: u16 = 1;
/// Types of tags, ETH_P_8021Q and ETH_P_8021AD: the kernel takes both off a frame in the same way.
pub const TAGS: [u128; 2] = [0x8100, 0x88a8];
/// Where the outermost tag stands: its type, and the number of the virtual LAN in the last twelve bits.
pub const TAG: u32 = 12;
const TAG_BITS: u32 = 16;
/// The last number of a virtual LAN.
pub const VLAN_LAST: u128 = 0xfff;
/// NFT_FIB_RESULT_OIF, NFT_FIB_RESULT_ADDRTYPE
const FIB_OIF: u32 = 1;
const FIB_TYPE: u32 = 3;
// NFTA_FIB_F_*
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_IIF: u32 = 8;

const fn layout(load: Load, len: usize, shown: u32) -> Layout {
    Layout { load, len, host: false, shift: 0, mask: 0, shown }
}

const fn host(load: Load, shown: u32) -> Layout {
    Layout { host: true, ..layout(load, 4, shown) }
}

/// How a field stands in packets of a family; protocols are told apart for the sake of listings.
#[must_use]
pub fn of(field: Field, family: Option<Family>, is_icmp6: bool) -> Layout {
    let v6 = family == Some(Family::V6);
    let bytes = if v6 { 16 } else { 4 };
    let shown = if v6 { 8 } else { 7 };
    let network = |v4, at6| Load::Payload(1, if v6 { at6 } else { v4 }, if v6 { 16 } else { 4 });
    match field {
        Field::Proto => layout(Load::Meta(libc::NFT_META_L4PROTO.cast_unsigned()), 1, 12),
        Field::Src => layout(network(12, 8), bytes, shown),
        Field::Dst => layout(network(16, 24), bytes, shown),
        Field::Sport => layout(Load::Payload(2, 0, 2), 2, 13),
        Field::Dport => layout(Load::Payload(2, 2, 2), 2, 13),
        Field::Icmp => layout(Load::Payload(2, 0, 1), 1, if is_icmp6 { 29 } else { 14 }),
        Field::Flags => layout(Load::Payload(2, 13, 1), 1, 15),
        Field::Mark => host(Load::Meta(libc::NFT_META_MARK.cast_unsigned()), 19),
        Field::Status => host(Load::Ct(2), 28),
        Field::Uid => host(Load::Meta(10), 24),
        Field::Gid => host(Load::Meta(11), 25),
        Field::Dscp if v6 => Layout { shift: 6, mask: 0x0fc0, ..layout(Load::Payload(1, 0, 2), 2, 36) },
        Field::Dscp => Layout { shift: 2, mask: 0xfc, ..layout(Load::Payload(1, 1, 1), 1, 36) },
        Field::Ttl => layout(Load::Payload(1, if v6 { 7 } else { 8 }, 1), 1, 4),
        Field::Mac => layout(Load::Payload(0, 6, 6), 6, 9),
        Field::Day => layout(Load::Meta(31), 1, 45),
        // Compared by order, and so turned around first.
        Field::Time => layout(Load::Meta(32), 4, 44),
        Field::SrcKind => host(Load::Fib(FIB_TYPE, FIB_SADDR), 38),
        Field::DstKind => host(Load::Fib(FIB_TYPE, FIB_DADDR), 38),
        Field::Ether => layout(Load::Meta(libc::NFT_META_PROTOCOL.cast_unsigned()), 2, 10),
        // The type of the tag is looked at, too.
        Field::Vlan => Layout { mask: 0xffff_0fff, ..layout(Load::Payload(0, TAG, 4), 4, 4) },
        Field::WayBack => host(Load::Fib(FIB_OIF, FIB_SADDR | FIB_IIF), 20),
        Field::PacketType => layout(Load::Meta(META_PKTTYPE), 1, 31),
        Field::Header => layout(Load::Header, 1, 4),
    }
}

/// Ranges of virtual LANs as they stand behind tags of either type.
#[must_use]
pub fn tagged(ranges: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let behind = |tag: u128| ranges.iter().map(move |(a, b)| (tag << TAG_BITS | a, tag << TAG_BITS | b));
    TAGS.into_iter().flat_map(behind).collect()
}

/// The ranges of virtual LANs of which these are what stands behind tags of either type.
#[must_use]
pub fn untagged(ranges: &[(u128, u128)]) -> Option<Vec<(u128, u128)>> {
    let half = ranges.get(..ranges.len() / 2)?;
    let numbers: Vec<_> = half.iter().map(|(a, b)| (a & VLAN_LAST, b & VLAN_LAST)).collect();
    (tagged(&numbers) == ranges).then_some(numbers)
}

impl Layout {
    /// A value as the kernel compares it, in the first bytes.
    #[must_use]
    pub fn bytes(&self, value: u128) -> Vec<u8> {
        let all = (value << self.shift).to_be_bytes();
        let mut bytes = all.get(16 - self.len.min(16)..).unwrap_or_default().to_vec();
        if self.host && cfg!(target_endian = "little") {
            bytes.reverse();
        }
        bytes
    }

    /// A value of these bytes.
    #[must_use]
    pub fn value(&self, bytes: &[u8]) -> u128 {
        let number = |all: &mut dyn Iterator<Item = &u8>| all.fold(0, |n, b| n << 8 | u128::from(*b));
        let turned = self.host && cfg!(target_endian = "little");
        let value = if turned { number(&mut bytes.iter().rev()) } else { number(&mut bytes.iter()) };
        value >> self.shift
    }
}

/// Loads a field into the register.
pub fn push_load(rule: &mut NftRule, field: Field, layout: &Layout) {
    match layout.load {
        Load::Meta(key) => expr::push_meta(rule, key.cast_signed()),
        Load::Ct(key) => rule.push(expr::ct(key.cast_signed(), REG)),
        Load::Payload(1, offset, len) => expr::push_payload(rule, PayloadBase::Network, offset, len),
        Load::Payload(2, offset, len) => expr::push_payload(rule, PayloadBase::Transport, offset, len),
        Load::Payload(base, offset, len) => {
            push(rule, "payload", &[(1, REG), (2, base), (3, offset), (4, len)], None);
        }
        Load::Fib(result, flags) => push(rule, "fib", &[(1, REG), (2, result), (3, flags)], None),
        Load::Header => {}
    }
    if field == Field::Time {
        push_hton(rule, 4);
    }
}

/// Turns the register around, from the host's order to that of the network.
fn push_hton(rule: &mut NftRule, len: u32) {
    push(rule, "byteorder", &[(1, REG), (2, REG), (3, 1), (4, len), (5, len)], None);
}

/// Appends an expression of numbers and, by its attribute, a value.
pub fn push(rule: &mut NftRule, name: &str, numbers: &[(u16, u32)], value: Option<(u16, &[u8])>) {
    let mut out = MsgBuf::with_capacity(96);
    // NFTA_EXPR_NAME, NFTA_EXPR_DATA
    out.attr_str(1, name);
    let data = out.nest(2);
    numbers.iter().for_each(|&(kind, number)| out.attr_be32(kind, number));
    if let Some((kind, value)) = value {
        let nest = out.nest(kind);
        out.attr(1, value);
        out.end(nest);
    }
    out.end(data);
    rule.push_bytes(out.bytes());
}

/// Puts a value into a register.
pub fn push_immediate(rule: &mut NftRule, register: u32, value: &[u8]) {
    push(rule, "immediate", &[(1, register)], Some((2, value)));
}

/// Sets bits of the mark.
pub fn push_set_mark(rule: &mut NftRule, value: u32, mask: u32) {
    const MARK: u32 = libc::NFT_META_MARK.cast_unsigned();
    if mask == u32::MAX {
        push_immediate(rule, REG, &value.to_ne_bytes());
    } else {
        expr::push_meta(rule, MARK.cast_signed());
        rule.push(expr::mask_and_set(REG, &(!mask).to_ne_bytes(), &value.to_ne_bytes()));
    }
    push(rule, "meta", &[(2, MARK), (3, REG)], None);
}

/// Lowers the maximum segment size; 0 = to what the path's MTU leaves.
pub fn push_mss(rule: &mut NftRule, size: u16) {
    if size == 0 {
        // NFT_RT_TCPMSS
        push(rule, "rt", &[(1, REG), (2, 3)], None);
        push_hton(rule, 2);
    } else {
        push_immediate(rule, REG, &size.to_be_bytes());
    }
    // Attributes: type (one byte), offset, length, operation (TCP options), source register.
    let mut out = MsgBuf::with_capacity(96);
    out.attr_str(1, "exthdr");
    let data = out.nest(2);
    out.attr(2, &[2]);
    [(3, 2), (4, 2), (6, 1), (7, REG)].iter().for_each(|&(kind, number)| out.attr_be32(kind, number));
    out.end(data);
    rule.push_bytes(out.bytes());
}

/// Asks for an extension header, or for a routing header of a type.
pub fn push_header(rule: &mut NftRule, value: u128, compare: Cmp) {
    let kind = u8::try_from(value & 0xff).unwrap_or(0);
    let typed = value & ROUTING_TYPE != 0;
    let compared = if typed { u8::try_from(value >> 8 & 0x7f).unwrap_or(0) } else { 1 };
    // Attributes: register, header, offset, length, NFT_EXTHDR_F_PRESENT.
    let mut out = MsgBuf::with_capacity(96);
    out.attr_str(1, "exthdr");
    let data = out.nest(2);
    out.attr_be32(1, REG);
    out.attr(2, &[kind]);
    let at = if typed { ROUTING_TYPE_AT } else { 0 };
    [(3, at), (4, 1), (5, u32::from(!typed))].iter().for_each(|&(kind, number)| out.attr_be32(kind, number));
    out.end(data);
    rule.push_bytes(out.bytes());
    expr::push_cmp(rule, compare, &[compared]);
}

/// Has a flowtable forward what follows of a connection, if it can.
pub fn push_offload(rule: &mut NftRule, flowtable: &Name) {
    let mut out = MsgBuf::with_capacity(64);
    out.attr_str(1, "flow_offload");
    let data = out.nest(2);
    out.attr_str(1, flowtable.as_str());
    out.end(data);
    rule.push_bytes(out.bytes());
}

/// NF_NAT_RANGE_PROTO_SPECIFIED
const NAT_PORT: u32 = 2;

/// Translates addresses.
pub fn push_nat(rule: &mut NftRule, nat: &Nat) {
    let mut registers = [0u32; 4];
    let mut next = 1;
    let mut load = |slot: usize, value: &[u8]| {
        push_immediate(rule, next, value);
        if let Some(slot) = registers.get_mut(slot) {
            *slot = next;
        }
        next += 1;
    };
    let mut flags = 0;
    if let Some(range) = nat.to {
        load(0, range.key().bytes());
        if range.first() != range.last() {
            load(1, crate::base::range::Range::from(range.last()).key().bytes());
        }
    }
    if let Some((first, last)) = nat.ports {
        load(2, &first.to_be_bytes());
        if first != last {
            load(3, &last.to_be_bytes());
        }
        flags = NAT_PORT;
    }
    flags |= NatPick::ALL.iter().find(|(pick, _)| nat.pick == Some(*pick)).map_or(0, |(_, bit)| *bit);
    let family = match nat.to.map(|range| range.family()) {
        Some(Family::V4) => libc::NFPROTO_IPV4.cast_unsigned(),
        Some(Family::V6) => libc::NFPROTO_IPV6.cast_unsigned(),
        // Other ports alone are for both; without a family the kernel refuses them.
        None => libc::NFPROTO_INET.cast_unsigned(),
    };
    // NFTA_NAT_*: type, family, addresses, ports, flags; of the other two, ports and flags by numbers of
    // their own.
    let [from, to, port, last_port] = registers;
    let (name, numbers) = match nat.kind {
        NatKind::Snat | NatKind::Dnat => {
            let kind = u32::from(nat.kind == NatKind::Dnat);
            (
                "nat",
                [(1, kind), (2, family), (3, from), (4, to), (5, port), (6, last_port), (7, flags)].to_vec(),
            )
        }
        NatKind::Masquerade => ("masq", [(2, port), (3, last_port), (1, flags)].to_vec()),
        NatKind::Redirect => ("redir", [(1, port), (2, last_port), (3, flags)].to_vec()),
    };
    let is_snat = |kind: u16| name == "nat" && kind <= 2;
    let given: Vec<_> = numbers.into_iter().filter(|(kind, n)| *n > 0 || is_snat(*kind)).collect();
    push(rule, name, &given, None);
}
