#![forbid(unsafe_code)]
//! The expressions of nf_tables rules, one function each; what they mean is in nft(8) and
//! linux/netfilter/nf_tables.h. A failed allocation is noticed when the rule is written.

use super::ffi::{Expr, NftRule};
use crate::base::name::Name;
use crate::plan::Policy;
use nftnl::nftnl_sys as sys;

/// NFT_REG_1: where single values stand.
pub const REG: u32 = 1;
/// NFT_REG32_00 + n: the 32-bit registers, for concatenated keys (00 is the start of `REG`).
pub const REG32: u32 = 8;

/// Base of a payload expression (`enum nft_payload_bases`).
#[derive(Clone, Copy)]
pub enum PayloadBase {
    /// The frame's header.
    LinkLayer = 0,
    /// The IP header.
    Network = 1,
    /// The TCP or UDP header.
    Transport = 2,
}

/// How a comparison compares (`enum nft_cmp_ops`, `enum nft_range_ops` for the first two).
#[derive(Clone, Copy)]
pub enum Cmp {
    /// Equal, or inside a range.
    Eq = 0,
    /// Not equal, or outside a range.
    Neq = 1,
    /// Not greater; for `cmp` only.
    AtMost = 3,
}

/// The end of a rule.
#[derive(Clone, Copy)]
pub enum NftVerdict<'a> {
    /// Leaves this hook's base chain.
    Accept,
    /// Final.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Into a chain and back.
    Jump(&'a Name),
    /// Into a chain for good.
    Goto(&'a Name),
}

/// Appends `meta` into `REG`.
pub fn push_meta(rule: &mut NftRule, key: i32) {
    rule.push_known((b'm', key.cast_unsigned(), 0, 0), &[], &|| meta(key, REG));
}

/// Appends `payload` into `REG`.
pub fn push_payload(rule: &mut NftRule, base: PayloadBase, offset: u32, len: u32) {
    rule.push_known((b'p', base as u32, offset, len), &[], &|| payload(base, offset, len, REG));
}

/// Appends `cmp` of `REG`.
pub fn push_cmp(rule: &mut NftRule, op: Cmp, data: &[u8]) {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    rule.push_known((b'c', op as u32, len, 0), data, &|| cmp(op, REG, data));
}

/// Appends `counter`.
pub fn push_counter(rule: &mut NftRule) {
    rule.push_known((b'n', 0, 0, 0), &[], &counter);
}

/// Appends a verdict that needs no chain.
pub fn push_policy(rule: &mut NftRule, policy: Policy) {
    let end = match policy {
        Policy::Accept => NftVerdict::Accept,
        Policy::Drop => NftVerdict::Drop,
    };
    rule.push_known((b'v', policy as u32, 0, 0), &[], &|| verdict(end));
}

/// `meta KEY` into a register (`NFT_META_*`).
#[must_use]
pub fn meta(key: i32, dreg: u32) -> Expr {
    Expr::new(c"meta")
        .with_u32(sys::NFTNL_EXPR_META_KEY, key.cast_unsigned())
        .with_u32(sys::NFTNL_EXPR_META_DREG, dreg)
}

/// Bytes of a header into a register.
#[must_use]
pub fn payload(base: PayloadBase, offset: u32, len: u32, dreg: u32) -> Expr {
    Expr::new(c"payload")
        .with_u32(sys::NFTNL_EXPR_PAYLOAD_BASE, base as u32)
        .with_u32(sys::NFTNL_EXPR_PAYLOAD_OFFSET, offset)
        .with_u32(sys::NFTNL_EXPR_PAYLOAD_LEN, len)
        .with_u32(sys::NFTNL_EXPR_PAYLOAD_DREG, dreg)
}

/// Goes on if the register compares.
#[must_use]
pub fn cmp(op: Cmp, sreg: u32, data: &[u8]) -> Expr {
    Expr::new(c"cmp")
        .with_u32(sys::NFTNL_EXPR_CMP_SREG, sreg)
        .with_u32(sys::NFTNL_EXPR_CMP_OP, op as u32)
        .with(sys::NFTNL_EXPR_CMP_DATA, data)
}

/// Goes on if the register is inside (or outside) the range, ends included.
#[must_use]
pub fn range(op: Cmp, sreg: u32, from: &[u8], to: &[u8]) -> Expr {
    Expr::new(c"range")
        .with_u32(sys::NFTNL_EXPR_RANGE_SREG, sreg)
        .with_u32(sys::NFTNL_EXPR_RANGE_OP, op as u32)
        .with(sys::NFTNL_EXPR_RANGE_FROM_DATA, from)
        .with(sys::NFTNL_EXPR_RANGE_TO_DATA, to)
}

/// `reg = reg & mask`; mask as long as the value.
#[must_use]
pub fn mask(reg: u32, mask: &[u8]) -> Expr {
    const ZERO: [u8; 16] = [0; 16];
    mask_and_set(reg, mask, ZERO.get(..mask.len()).unwrap_or_default())
}

/// `reg = reg & mask ^ set`
#[must_use]
pub fn mask_and_set(reg: u32, mask: &[u8], set: &[u8]) -> Expr {
    let len = mask.len().min(set.len());
    Expr::new(c"bitwise")
        .with_u32(sys::NFTNL_EXPR_BITWISE_SREG, reg)
        .with_u32(sys::NFTNL_EXPR_BITWISE_DREG, reg)
        .with_u32(sys::NFTNL_EXPR_BITWISE_LEN, u32::try_from(len).unwrap_or(0))
        .with(sys::NFTNL_EXPR_BITWISE_MASK, mask)
        .with(sys::NFTNL_EXPR_BITWISE_XOR, set)
}

/// Goes on if the register is in the set (or not in it).
#[must_use]
pub fn lookup(op: Cmp, set: &Name, set_id: u32, sreg: u32) -> Expr {
    let e = Expr::new(c"lookup")
        .with_u32(sys::NFTNL_EXPR_LOOKUP_SREG, sreg)
        .with(sys::NFTNL_EXPR_LOOKUP_SET, set.as_cstr().to_bytes_with_nul())
        .with_u32(sys::NFTNL_EXPR_LOOKUP_SET_ID, set_id);
    match op {
        Cmp::Eq | Cmp::AtMost => e,
        Cmp::Neq => e.with_u32(sys::NFTNL_EXPR_LOOKUP_FLAGS, libc::NFT_LOOKUP_F_INV.cast_unsigned()),
    }
}

/// Counts packets and bytes.
#[must_use]
pub fn counter() -> Expr {
    Expr::new(c"counter")
}

/// Ends the rule with a verdict.
#[must_use]
pub fn verdict(verdict: NftVerdict<'_>) -> Expr {
    let (code, chain) = match verdict {
        NftVerdict::Accept => (libc::NF_ACCEPT, None),
        NftVerdict::Drop => (libc::NF_DROP, None),
        NftVerdict::Return => (libc::NFT_RETURN, None),
        NftVerdict::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
        NftVerdict::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
    };
    let e = Expr::new(c"immediate")
        .with_u32(sys::NFTNL_EXPR_IMM_DREG, libc::NFT_REG_VERDICT.cast_unsigned())
        .with_u32(sys::NFTNL_EXPR_IMM_VERDICT, code.cast_unsigned());
    match chain {
        Some(chain) => e.with(sys::NFTNL_EXPR_IMM_CHAIN, chain.as_cstr().to_bytes_with_nul()),
        None => e,
    }
}

/// On which side of a limit a rule goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSide {
    /// As long as it is not exceeded.
    UpTo,
    /// Only when it is exceeded.
    Above,
}

/// What is done to a dynamic set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynsetOp {
    /// An element that is there stays as it is.
    Add,
    /// The timeout of an element that is there begins again.
    Update,
}

/// A token bucket; `per` in seconds.
#[must_use]
pub fn limit(rate: u64, per: u64, burst: u32, side: LimitSide) -> Expr {
    let above = side == LimitSide::Above;
    Expr::new(c"limit")
        .with(sys::NFTNL_EXPR_LIMIT_RATE, &rate.to_ne_bytes())
        .with(sys::NFTNL_EXPR_LIMIT_UNIT, &per.to_ne_bytes())
        .with_u32(sys::NFTNL_EXPR_LIMIT_BURST, burst)
        .with_u32(sys::NFTNL_EXPR_LIMIT_TYPE, libc::NFT_LIMIT_PKTS.cast_unsigned())
        .with_u32(sys::NFTNL_EXPR_LIMIT_FLAGS, if above { libc::NFT_LIMIT_F_INV.cast_unsigned() } else { 0 })
}

/// Writes to the kernel log; `level` as in syslog(3).
#[must_use]
pub fn log(prefix: &std::ffi::CStr, level: u32) -> Expr {
    Expr::new(c"log")
        .with(sys::NFTNL_EXPR_LOG_PREFIX, prefix.to_bytes_with_nul())
        .with_u32(sys::NFTNL_EXPR_LOG_LEVEL, level)
}

/// Sends the packet as a whole to a NFLOG group.
#[must_use]
pub fn nflog_whole(prefix: &std::ffi::CStr, group: u16) -> Expr {
    Expr::new(c"log")
        .with(sys::NFTNL_EXPR_LOG_PREFIX, prefix.to_bytes_with_nul())
        .with(sys::NFTNL_EXPR_LOG_GROUP, &group.to_ne_bytes())
}

/// Sends the packet's first `snaplen` bytes to a NFLOG group.
#[must_use]
pub fn nflog(prefix: &std::ffi::CStr, group: u16, snaplen: u32) -> Expr {
    Expr::new(c"log")
        .with(sys::NFTNL_EXPR_LOG_PREFIX, prefix.to_bytes_with_nul())
        .with(sys::NFTNL_EXPR_LOG_GROUP, &group.to_ne_bytes())
        .with_u32(sys::NFTNL_EXPR_LOG_SNAPLEN, snaplen)
}

/// Refuses with a TCP reset.
#[must_use]
pub fn reject_tcp() -> Expr {
    reject(libc::NFT_REJECT_TCP_RST, 0)
}

/// Refuses with ICMP or ICMPv6 port unreachable, whichever fits the packet.
#[must_use]
pub fn reject_icmpx() -> Expr {
    reject_with(u8::try_from(libc::NFT_REJECT_ICMPX_PORT_UNREACH).unwrap_or(1))
}

/// Refuses with an error of ICMP or ICMPv6 (`NFT_REJECT_ICMPX_*`).
#[must_use]
pub fn reject_with(code: u8) -> Expr {
    reject(libc::NFT_REJECT_ICMPX_UNREACH, code)
}

fn reject(kind: i32, code: u8) -> Expr {
    Expr::new(c"reject")
        .with_u32(sys::NFTNL_EXPR_REJECT_TYPE, kind.cast_unsigned())
        .with(sys::NFTNL_EXPR_REJECT_CODE, &[code])
}

/// `ct KEY` into a register (`NFT_CT_*`).
#[must_use]
pub fn ct(key: i32, dreg: u32) -> Expr {
    Expr::new(c"ct")
        .with_u32(sys::NFTNL_EXPR_CT_KEY, key.cast_unsigned())
        .with_u32(sys::NFTNL_EXPR_CT_DREG, dreg)
}

/// Goes by whether there are at most `count` connections.
#[must_use]
pub fn connlimit(count: u32, side: LimitSide) -> Expr {
    Expr::new(c"connlimit")
        .with_u32(sys::NFTNL_EXPR_CONNLIMIT_COUNT, count)
        .with_u32(sys::NFTNL_EXPR_CONNLIMIT_FLAGS, u32::from(side == LimitSide::Above))
}

/// `socket KEY` into a register (`NFT_SOCKET_*`).
#[must_use]
pub fn socket(key: u32, dreg: u32) -> Expr {
    Expr::new(c"socket").with_u32(sys::NFTNL_EXPR_SOCKET_KEY, key).with_u32(sys::NFTNL_EXPR_SOCKET_DREG, dreg)
}

/// Puts the register's value in a dynamic set, with an expression per element; `timeout_ms` 0 = for good.
#[must_use]
pub fn dynset(set: &Name, set_id: u32, key: u32, timeout_ms: u64, op: DynsetOp, inner: Option<Expr>) -> Expr {
    let op = match op {
        DynsetOp::Add => libc::NFT_DYNSET_OP_ADD,
        DynsetOp::Update => libc::NFT_DYNSET_OP_UPDATE,
    };
    let e = Expr::new(c"dynset")
        .with_u32(sys::NFTNL_EXPR_DYNSET_SREG_KEY, key)
        .with_u32(sys::NFTNL_EXPR_DYNSET_OP, op.cast_unsigned())
        .with(sys::NFTNL_EXPR_DYNSET_SET_NAME, set.as_cstr().to_bytes_with_nul())
        .with_u32(sys::NFTNL_EXPR_DYNSET_SET_ID, set_id);
    // Sets without timeouts refuse even none.
    let e =
        if timeout_ms > 0 { e.with(sys::NFTNL_EXPR_DYNSET_TIMEOUT, &timeout_ms.to_ne_bytes()) } else { e };
    match inner {
        Some(inner) => e.with_expr(inner),
        None => e,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken from an expression that libnftnl has written is what it would write.
    #[test]
    fn known_expressions_are_those_of_libnftnl() {
        let (mut known, mut made) = (NftRule::new(), NftRule::new());
        for data in [
            &b"abcd"[..],
            b"ef",
            b"gh",
            b"i",
            b"jklm",
            b"0123456789abcdef",
            b"lo\0",
            b"xyz",
            b"0123456789abcde",
        ] {
            for op in [Cmp::Eq, Cmp::Neq] {
                push_cmp(&mut known, op, data);
                made.push(cmp(op, REG, data));
            }
            for (key, policy, end) in [
                (libc::NFT_META_L4PROTO, Policy::Accept, NftVerdict::Accept),
                (libc::NFT_META_NFPROTO, Policy::Drop, NftVerdict::Drop),
            ] {
                push_meta(&mut known, key);
                push_payload(&mut known, PayloadBase::Network, 12, 4);
                push_payload(&mut known, PayloadBase::Transport, 2, 2);
                push_counter(&mut known);
                push_policy(&mut known, policy);
                made.push(meta(key, REG));
                made.push(payload(PayloadBase::Network, 12, 4, REG));
                made.push(payload(PayloadBase::Transport, 2, 2, REG));
                made.push(counter());
                made.push(verdict(end));
            }
            assert_eq!(known.expressions(), made.expressions());
        }
        assert!(known.is_intact() && known.expressions().len() > 4096);
    }

    /// An expression that cross/shim.c does not list cannot be allocated.
    #[test]
    fn the_shim_lists_the_expressions_of_this_file() {
        fn after<'a>(text: &'a str, mark: &str, end: char) -> Vec<&'a str> {
            let mut names: Vec<&str> =
                text.split(mark).skip(1).filter_map(|rest| rest.split(end).next()).collect();
            names.sort_unstable();
            names.dedup();
            names
        }
        let ours = after(include_str!("expr.rs"), "Expr::new(c\"", '"');
        let shim = include_str!("../../../cross/shim.c").split("#define DECLARE").next().unwrap_or("");
        let listed: Vec<&str> = after(shim, "X(", ')');
        assert!(listed.len() > 10);
        assert_eq!(ours, listed);
    }
}
