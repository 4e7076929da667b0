#![forbid(unsafe_code)]
//! What a rule matches, as expressions.

use super::TableBatch;
use super::sets::INTERFACE;
use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range};
use crate::firewall::field;
use crate::firewall::nft::expr::{self, Cmp, PayloadBase, REG};
use crate::plan::{Addresses, Field, Interfaces, Limit, PacketSide, Ports, Rule, TableOf, Test, Values};
use smallvec::SmallVec;

/// Prefix of an IPv6 address that shares one bucket.
const BUCKET_PREFIX: u32 = 64;
/// Bytes of an interface name with its NUL (IFNAMSIZ).
const IFNAMSIZ: usize = 16;

impl TableBatch {
    fn interfaces(&mut self, statement: u32, key: i32, list: &Interfaces) {
        let compare = if list.not { Cmp::Neq } else { Cmp::Eq };
        if list.except_lo {
            expr::push_meta(&mut self.rule, key);
            expr::push_cmp(&mut self.rule, Cmp::Neq, b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        }
        if list.not || list.names.len() == 1 {
            for name in &list.names {
                expr::push_meta(&mut self.rule, key);
                let (bytes, len) = wire(name);
                expr::push_cmp(&mut self.rule, compare, bytes.get(..len).unwrap_or_default());
            }
            return;
        }
        let set = self.push_set(statement, None, INTERFACE, 0);
        for name in &list.names {
            self.push_elem(statement, set, &wire(name).0, None);
        }
        expr::push_meta(&mut self.rule, key);
        self.lookup(set);
    }

    fn addresses(&mut self, statement: u32, family: Family, side: PacketSide, list: &Addresses) {
        let len = family.bytes();
        let offset = match family {
            Family::V4 => side.of(12, 16),
            Family::V6 => side.of(8, 24),
        };
        let len = u32::try_from(len).unwrap_or(0);
        expr::push_payload(&mut self.rule, PayloadBase::Network, offset, len);
        match list {
            Addresses::Set(name) => {
                let set = self.named(*name);
                self.lookup(set);
            }
            Addresses::Ranges(ranges) if ranges.len() == 1 => self.one_range(ranges.first()),
            Addresses::Ranges(ranges) => {
                let set = self.ranges(statement, None, family, ranges);
                self.lookup(set);
            }
        }
    }

    fn one_range(&mut self, range: Option<&Range>) {
        let Some(range) = range else { return };
        let first = range.key();
        match range.as_net() {
            Some(net) => {
                if net.prefix_len() < net.max_prefix_len() {
                    let mut mask = [0u8; 16];
                    for (i, byte) in mask.iter_mut().enumerate() {
                        let bits = usize::from(net.prefix_len()).saturating_sub(i * 8).min(8);
                        *byte = u8::try_from(0xff00u16 >> bits & 0xff).unwrap_or(0xff);
                    }
                    let len = first.bytes().len();
                    self.rule.push(expr::mask(REG, mask.get(..len).unwrap_or_default()));
                }
                expr::push_cmp(&mut self.rule, Cmp::Eq, first.bytes());
            }
            None => {
                let last = Range::from(range.last()).key();
                self.rule.push(expr::range(Cmp::Eq, REG, first.bytes(), last.bytes()));
            }
        }
    }

    fn ports(&mut self, statement: u32, offset: u32, list: &Ports) {
        expr::push_payload(&mut self.rule, PayloadBase::Transport, offset, 2);
        match list {
            Ports::Set(name) => {
                let set = self.named(*name);
                self.lookup(set);
            }
            Ports::Ranges(ranges) => match ranges.as_slice() {
                [(first, last)] if first == last => {
                    expr::push_cmp(&mut self.rule, Cmp::Eq, &first.to_be_bytes());
                }
                [(first, last)] => {
                    self.rule.push(expr::range(Cmp::Eq, REG, &first.to_be_bytes(), &last.to_be_bytes()));
                }
                ranges => {
                    let set = self.port_ranges(statement, None, ranges);
                    self.lookup(set);
                }
            },
        }
    }

    pub(super) fn limit(&mut self, family: Option<Family>, limit: &Limit) {
        let Limit { rate, burst, over, set } = limit;
        let side = if *over { expr::LimitSide::Above } else { expr::LimitSide::UpTo };
        let bucket = match rate.per {
            0 => expr::connlimit(rate.packets, side),
            per => expr::limit(u64::from(rate.packets), u64::from(per), *burst, side),
        };
        let (Some(set), Some(family)) = (set, family) else {
            self.rule.push(bucket);
            return;
        };
        let (offset, len) = if family == Family::V4 { (12, 4) } else { (8, 16) };
        expr::push_payload(&mut self.rule, PayloadBase::Network, offset, len);
        if family == Family::V6 {
            let bits = u128::MAX << (128 - BUCKET_PREFIX);
            self.rule.push(expr::mask(REG, &bits.to_be_bytes()));
        }
        let (set, id) = self.named(*set);
        self.rule.push(expr::dynset(&set, id, REG, 0, expr::DynsetOp::Update, Some(bucket)));
    }

    /// A condition on a field.
    fn test(&mut self, rule: &Rule, test: &Test) {
        let compare = if test.not { Cmp::Neq } else { Cmp::Eq };
        if let (Field::Header, Values::Ranges(ranges)) = (test.field, &test.values) {
            let which = ranges.first().map_or(0, |(first, _)| *first);
            return field::push_header(&mut self.rule, which, compare);
        }
        let of = field::of(test.field, rule.family, rule.proto == Some(58));
        if test.field == Field::Mac && self.of == TableOf::Packets {
            expr::push_meta(&mut self.rule, field::META_IIFTYPE.cast_signed());
            expr::push_cmp(&mut self.rule, Cmp::Eq, &field::ETHERNET.to_ne_bytes());
        }
        field::push_load(&mut self.rule, test.field, &of);
        let mask = if test.mask > 0 { of.bytes(test.mask) } else { of.bytes(of.mask >> of.shift) };
        if test.mask > 0 || of.mask > 0 {
            self.rule.push(expr::mask(REG, &mask));
        }
        let (set, id) = match &test.values {
            Values::Set(name) => self.named(*name),
            Values::Ranges(ranges) => {
                let tagged = (test.field == Field::Vlan).then(|| field::tagged(ranges));
                let ranges = tagged.as_ref().unwrap_or(ranges);
                if let [(first, last)] = ranges.as_slice()
                    && (first == last || !of.host)
                {
                    return self.one_of(compare, &of.bytes(*first), &of.bytes(*last));
                }
                self.numbers(rule.origin, &of, ranges)
            }
        };
        self.rule.push(expr::lookup(compare, &set, id, REG));
    }

    /// Compares with a number or a range of them.
    fn one_of(&mut self, compare: Cmp, first: &[u8], last: &[u8]) {
        if first == last {
            expr::push_cmp(&mut self.rule, compare, first);
        } else {
            self.rule.push(expr::range(compare, REG, first, last));
        }
    }

    /// A set of numbers.
    fn numbers(&mut self, statement: u32, of: &field::Layout, ranges: &[(u128, u128)]) -> (Name, u32) {
        let single = of.host || ranges.iter().all(|(first, last)| first == last);
        let flags = if single { 0 } else { libc::NFT_SET_INTERVAL };
        let len = u32::try_from(of.len).unwrap_or(4);
        let set = self.push_set(statement, None, (of.shown, len), flags);
        for (first, last) in ranges {
            // Numbers in the host's order have no order for the kernel.
            if single {
                (*first..=*last).for_each(|n| self.push_elem(statement, set, &of.bytes(n), None));
                continue;
            }
            let end = after(of.bytes(*last));
            self.push_elem(statement, set, &of.bytes(*first), end.as_deref());
        }
        set
    }

    pub(super) fn matches(&mut self, rule: &Rule) {
        let of = rule.origin;
        if self.of == TableOf::Frames {
            self.frame(rule);
        } else if let Some(family) = rule.family {
            let number = if family == Family::V4 { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 };
            self.meta(libc::NFT_META_NFPROTO, number);
        }
        if let Some(list) = &rule.iif {
            self.interfaces(of, libc::NFT_META_IIFNAME, list);
        }
        if let Some(list) = &rule.oif {
            self.interfaces(of, libc::NFT_META_OIFNAME, list);
        }
        if let Some(family) = rule.family {
            for side in PacketSide::BOTH {
                let list = side.of(&rule.src, &rule.dst);
                list.iter().for_each(|list| self.addresses(of, family, side, list));
            }
        }
        if let Some(proto) = rule.proto {
            self.meta(libc::NFT_META_L4PROTO, i32::from(proto));
        }
        let is_proto = |test: &&Test| test.field == Field::Proto;
        rule.tests.iter().filter(is_proto).for_each(|test| self.test(rule, test));
        for (offset, list) in [(0, &rule.sport), (2, &rule.dport)] {
            list.iter().for_each(|list| self.ports(of, offset, list));
        }
        if rule.ct != 0 {
            self.rule.push(expr::ct(libc::NFT_CT_STATE, REG));
            self.rule.push(expr::mask(REG, &kernel_states(rule.ct).to_ne_bytes()));
            expr::push_cmp(&mut self.rule, Cmp::Neq, &[0; 4]);
        }
        let of_frame = |test: &&Test| match test.field {
            Field::Vlan => true,
            Field::Mac => self.of == TableOf::Frames,
            _ => false,
        };
        let rest: SmallVec<[&Test; 4]> =
            rule.tests.iter().filter(|test| !is_proto(test) && !of_frame(test)).collect();
        rest.into_iter().for_each(|test| self.test(rule, test));
    }

    /// What is asked of a frame before its content: where it comes from, its tag, and the family of what is
    /// in it. In this order nft lists what it reads back.
    fn frame(&mut self, rule: &Rule) {
        let of = |field: Field| rule.tests.iter().filter(move |test| test.field == field);
        of(Field::Mac).for_each(|test| self.test(rule, test));
        for test in of(Field::Vlan) {
            if test.not {
                // A frame without a tag is in no other virtual LAN, either.
                self.test(rule, &Test::new(Field::Vlan, vec![(0, field::VLAN_LAST)]));
            }
            self.test(rule, test);
        }
        let Some(family) = rule.family else { return };
        expr::push_meta(&mut self.rule, libc::NFT_META_PROTOCOL);
        let kind = if family == Family::V4 { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
        let kind = u16::try_from(kind).unwrap_or_default();
        expr::push_cmp(&mut self.rule, Cmp::Eq, &kind.to_be_bytes());
    }

    fn meta(&mut self, key: i32, value: i32) {
        expr::push_meta(&mut self.rule, key);
        expr::push_cmp(&mut self.rule, Cmp::Eq, &[u8::try_from(value).unwrap_or(0)]);
    }
}

/// The key behind this one, in network order; `None` behind the last.
fn after(mut key: Vec<u8>) -> Option<Vec<u8>> {
    for byte in key.iter_mut().rev() {
        let (next, carries) = byte.overflowing_add(1);
        *byte = next;
        if !carries {
            return Some(key);
        }
    }
    None
}

/// The bits of `ct state` as the kernel has them (`NF_CT_STATE_BIT`, `NF_CT_STATE_INVALID_BIT`) of those of
/// the plan.
fn kernel_states(bits: u8) -> u32 {
    let states = [
        (crate::plan::ct::INVALID, 1),
        (crate::plan::ct::ESTABLISHED, 2),
        (crate::plan::ct::RELATED, 4),
        (crate::plan::ct::NEW, 8),
        (crate::plan::ct::UNTRACKED, 64),
    ];
    states.iter().filter(|(ours, _)| bits & ours != 0).map(|(_, theirs)| theirs).sum()
}

/// The bytes that a name is compared with, and how many of them: a wildcard's end behind its stem.
fn wire(name: &IfName) -> ([u8; IFNAMSIZ], usize) {
    let mut bytes = [0; IFNAMSIZ];
    let text = name.wildcard().unwrap_or(name.as_str()).as_bytes();
    for (slot, byte) in bytes.iter_mut().zip(text) {
        *slot = *byte;
    }
    (bytes, if name.wildcard().is_some() { text.len() } else { IFNAMSIZ })
}
