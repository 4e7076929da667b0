#![forbid(unsafe_code)]
//! The table `inet mef`: a plan as one transaction that replaces it as a whole. Knows nothing of bans.

use super::field;
use super::nft::elem::{Elem, Timeout};
use super::nft::expr::{self, Cmp, PayloadBase, REG};
use super::nft::{Hook, SetSpec};
use super::nft::{NftRule as Parts, Txn, TxnError, UDATA_RULE_COMMENT, comment_udata, msg, query};
use super::tables::{FLOWS, RULES as TABLE};
use super::trial::{self, Pending, Previous};
use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range};
use crate::base::range_list::RangeList;
use crate::plan::listed;
use crate::plan::run::GROUP_PREFIX;
use crate::plan::{
    Addresses, Chain, Change, Direction, Elements, Field, Interfaces, Limit, LogTarget, PacketVerdict,
    Policy, Ports, Reject, Rule, Set, Sink, Test, Values,
};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::{routes, trim};
use mnl::Bus;
use std::ffi::CString;

/// Type of user data that holds which rule of the rule set a rule of the kernel is a part of; nft passes it
/// over.
pub const UDATA_ORIGIN: u8 = 0x4d;

/// Set types of nft(8), only shown, and bytes of a key.
const ADDRESS: [(u32, u32); 2] = [(7, 4), (8, 16)];
const SERVICE: (u32, u32) = (13, 2);
const INTERFACE: (u32, u32) = (41, 16);
/// Sources that a dynamic set of buckets remembers. When it is full, a rule with it matches for no new
/// source.
const BUCKETS: u32 = 65_535;
/// Prefix of an IPv6 address that shares one bucket.
const BUCKET_PREFIX: u32 = 64;
/// Bytes of an interface name with its NUL (IFNAMSIZ).
const IFNAMSIZ: usize = 16;

/// After so many rules, and each time again, the code that was needed before them is given back: where the
/// rules are large, it need not take memory beside them.
const RULES_PER_DROP: u32 = 2048;

/// The transaction that makes the table anew, or that puts a rule set beside the one which is there.
pub struct TableBatch {
    txn: Txn,
    rule: Parts,
    /// The named sets by the names that the plan has for them, sorted: the kernel's names and their numbers.
    ids: Vec<(Name, (Name, u32))>,
    /// Of a trial, what the rules stand beside.
    beside: Option<Beside>,
    /// The chains of groups.
    groups: Vec<Name>,
    /// The flowtable, if a rule offloads.
    flows: Option<Name>,
    /// Why its interfaces are not known.
    lost: Option<Lost>,
    /// Sets without a name so far.
    anonymous: u32,
    /// Rules of the kernel written.
    pub rules: u32,
}

/// The rules that are in force when those of the trial are not.
struct Beside {
    previous: Previous,
    /// The set that the gates ask.
    set: u32,
    policies: [Policy; 3],
    /// Those of the directions that translate addresses.
    nat: Vec<Direction>,
}

/// Anonymous sets of a trial are counted from here: those of the previous rules have lower numbers.
const BESIDE: u32 = 1_000_000;

impl Default for TableBatch {
    fn default() -> Self {
        TableBatch::new()
    }
}

impl TableBatch {
    /// A transaction that deletes the table, if it is there, and makes an empty one.
    #[must_use]
    pub fn new() -> TableBatch {
        let mut batch = TableBatch::empty();
        batch.renew();
        batch
    }

    fn empty() -> TableBatch {
        let (txn, rule) = (Txn::new(TABLE, 4096), Parts::new());
        let (ids, groups) = (Vec::new(), Vec::new());
        TableBatch { txn, rule, ids, beside: None, groups, flows: None, lost: None, anonymous: 0, rules: 0 }
    }

    fn renew(&mut self) {
        clear_into(&mut self.txn);
        self.txn.add_table();
    }

    /// A transaction that does the same if a trial goes on, and nothing if it is over.
    #[must_use]
    pub fn confirm(pending: &Pending) -> TableBatch {
        let mut batch = TableBatch::empty();
        trial::demand(&mut batch.txn, pending);
        batch.renew();
        batch
    }

    /// A transaction that puts rules in force for a time, in milliseconds, beside the previous ones.
    #[must_use]
    pub fn trial(previous: Previous, time_ms: u64) -> TableBatch {
        let mut batch = TableBatch::empty();
        batch.txn.add_table();
        let set = trial::add_set(&mut batch.txn, previous.name, time_ms);
        batch.anonymous = BESIDE;
        batch.beside = Some(Beside { previous, set, policies: [Policy::Accept; 3], nat: Vec::new() });
        batch
    }

    /// What a trial needs behind its rules.
    fn close(&mut self) {
        let chains = Direction::EVERY.map(|dir| self.chain_name(Chain::Base(dir)));
        let Some(beside) = self.beside.take() else { return };
        // Only filters have a policy of their own.
        for (chain, policy) in chains.iter().zip(beside.policies) {
            self.rule.clear();
            expr::push_accept_or_drop(&mut self.rule, policy == Policy::Accept);
            self.txn.add_part(0, chain, &self.rule);
        }
        let used = |dir: &Direction| !dir.is_nat() || beside.nat.contains(dir);
        let chains: Vec<_> = Direction::EVERY.into_iter().zip(chains).filter(|(dir, _)| used(dir)).collect();
        trial::add_gates(&mut self.txn, &mut self.rule, &beside.previous, beside.set, &chains);
    }

    /// The kernel's name of a chain.
    fn chain_name(&self, chain: Chain) -> Name {
        let plain = match chain {
            Chain::Base(dir) => Name::of(listed::hook(dir)),
            Chain::Own(name) => name,
        };
        // The names of groups are as long as they can be: beside others they are numbers.
        let group =
            self.groups.iter().position(|name| *name == plain).map(|at| ["g", &at.to_string()].concat());
        let short = group.as_deref().unwrap_or(plain.as_str());
        let beside = |beside: &Beside| Name::new(&[beside.previous.name.as_str(), ".", short].concat());
        self.beside.as_ref().and_then(beside).unwrap_or(plain)
    }

    /// The kernel's name of a named set: beside others it is a number, since a name may be as long as it can
    /// be.
    fn set_name(&self, name: Name) -> Name {
        let number = self.ids.len().to_string();
        let beside = |beside: &Beside| Name::new(&[beside.previous.name.as_str(), ".", &number].concat());
        self.beside.as_ref().and_then(beside).unwrap_or(name)
    }

    /// Replaces the table.
    ///
    /// # Errors
    /// What the kernel refused, to tell of its interfaces, too; then nothing was changed.
    pub fn commit(mut self) -> Result<(), TxnError> {
        if let Some(e) = self.lost {
            return Err(e.into());
        }
        if self.rules >= RULES_PER_DROP {
            trim::drop_code_pages();
        }
        self.close();
        let mut socket = NlSocket::open(Bus::Netfilter)?;
        self.txn.commit(&mut socket)
    }

    /// Adds a set; one without a name belongs to one rule.
    fn push_set(&mut self, statement: u32, name: Option<Name>, key: (u32, u32), flags: i32) -> (Name, u32) {
        let host_order = key == INTERFACE || field::HOST_ORDER.contains(&key.0);
        let own = if name.is_none() { libc::NFT_SET_ANONYMOUS | libc::NFT_SET_CONSTANT } else { 0 };
        let known = name.map(|name| self.set_name(name)).unwrap_or_else(|| {
            self.anonymous += 1;
            Name::anonymous(self.anonymous - 1)
        });
        let spec = SetSpec { statement, host_order, ..SetSpec::new(known, flags | own, key) };
        let id = self.txn.add_set(&spec);
        if let Some(name) = name {
            self.remember(name, (known, id));
        }
        (known, id)
    }

    fn push_elem(&mut self, statement: u32, set: (Name, u32), key: &[u8], end: Option<&[u8]>) {
        let elem = Elem { key, end, timeout: Timeout::None, comment: "" };
        self.txn.add_elem_of(statement, &set.0, set.1, &elem);
    }

    fn named(&self, name: Name) -> (Name, u32) {
        let found = self.ids.binary_search_by_key(&name, |(known, _)| *known);
        found.ok().and_then(|at| self.ids.get(at)).map_or((name, 0), |(_, set)| *set)
    }

    fn remember(&mut self, name: Name, set: (Name, u32)) {
        let (Ok(at) | Err(at)) = self.ids.binary_search_by_key(&name, |(known, _)| *known);
        self.ids.insert(at, (name, set));
    }

    fn lookup(&mut self, (name, id): (Name, u32)) {
        self.rule.push(expr::lookup(Cmp::Eq, &name, id, REG));
    }

    /// A set of ranges of addresses; those that are single addresses only need no intervals.
    fn ranges(
        &mut self,
        statement: u32,
        name: Option<Name>,
        family: Family,
        ranges: &[Range],
    ) -> (Name, u32) {
        let single = ranges.iter().all(|r| r.first() == r.last());
        let set = self.address_set(statement, name, family, single);
        ranges.iter().for_each(|range| self.push_range(statement, set, range, single));
        set
    }

    fn address_set(
        &mut self,
        statement: u32,
        name: Option<Name>,
        family: Family,
        single: bool,
    ) -> (Name, u32) {
        let flags = if single { 0 } else { libc::NFT_SET_INTERVAL };
        let key = ADDRESS.get(family as usize).copied().unwrap_or_default();
        self.push_set(statement, name, key, flags)
    }

    fn push_range(&mut self, statement: u32, set: (Name, u32), range: &Range, single: bool) {
        let end = range.end_key().filter(|_| !single);
        self.push_elem(statement, set, range.key().bytes(), end.as_ref().map(|k| k.bytes()));
    }

    fn port_ranges(&mut self, statement: u32, name: Option<Name>, ranges: &[(u16, u16)]) -> (Name, u32) {
        let single = ranges.iter().all(|(first, last)| first == last);
        let flags = if single { 0 } else { libc::NFT_SET_INTERVAL };
        let set = self.push_set(statement, name, SERVICE, flags);
        for (first, last) in ranges {
            let end = last.checked_add(1).filter(|_| !single).map(u16::to_be_bytes);
            self.push_elem(statement, set, &first.to_be_bytes(), end.as_ref().map(|e| e.as_slice()));
        }
        set
    }

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

    fn addresses(&mut self, statement: u32, family: Family, is_source: bool, list: &Addresses) {
        let len = family.bytes();
        let offset = match (family, is_source) {
            (Family::V4, true) => 12,
            (Family::V4, false) => 16,
            (Family::V6, true) => 8,
            (Family::V6, false) => 24,
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

    fn limit(&mut self, family: Option<Family>, limit: &Limit) {
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
        let of = field::of(test.field, rule.family, rule.proto == Some(58));
        if test.field == Field::Mac {
            expr::push_meta(&mut self.rule, field::META_IIFTYPE.cast_signed());
            expr::push_cmp(&mut self.rule, Cmp::Eq, &field::ETHERNET.to_ne_bytes());
        }
        field::push_load(&mut self.rule, test.field, &of);
        let mask = if test.mask > 0 { of.bytes(test.mask) } else { of.bytes(of.mask >> of.shift) };
        if test.mask > 0 || of.mask > 0 {
            self.rule.push(expr::mask(REG, &mask));
        }
        let compare = if test.not { Cmp::Neq } else { Cmp::Eq };
        let ranges = match &test.values {
            Values::Ranges(ranges) => ranges,
            Values::Set(name) => {
                let (name, id) = self.named(*name);
                return self.rule.push(expr::lookup(compare, &name, id, REG));
            }
        };
        if let [(first, last)] = ranges.as_slice()
            && (first == last || !of.host)
        {
            let (from, to) = (of.bytes(*first), of.bytes(*last));
            if first == last {
                expr::push_cmp(&mut self.rule, compare, &from);
            } else {
                self.rule.push(expr::range(compare, REG, &from, &to));
            }
            return;
        }
        let single = of.host || ranges.iter().all(|(first, last)| first == last);
        let flags = if single { 0 } else { libc::NFT_SET_INTERVAL };
        let len = u32::try_from(of.len).unwrap_or(4);
        let set = self.push_set(rule.origin, None, (of.shown, len), flags);
        for (first, last) in ranges {
            // Numbers in the host's order have no order for the kernel.
            if single {
                (*first..=*last).for_each(|n| self.push_elem(rule.origin, set, &of.bytes(n), None));
                continue;
            }
            let end = after(of.bytes(*last));
            self.push_elem(rule.origin, set, &of.bytes(*first), end.as_deref());
        }
        self.rule.push(expr::lookup(compare, &set.0, set.1, REG));
    }

    /// What is done to packets that go on.
    fn change(&mut self, rule: &Rule, change: Change) {
        match change {
            Change::Mark(value, mask) => field::push_set_mark(&mut self.rule, value, mask),
            Change::Mss(size) => field::push_mss(&mut self.rule, size),
            Change::Add(set, seconds) => {
                let of = field::of(Field::Src, rule.family, false);
                field::push_load(&mut self.rule, Field::Src, &of);
                let (set, id) = self.named(set);
                let timeout = u64::from(seconds) * 1000;
                self.rule.push(expr::dynset(&set, id, REG, timeout, expr::DynsetOp::Update, None));
            }
            Change::Offload => {
                let name = self.flowtable(rule.origin);
                field::push_offload(&mut self.rule, &name);
            }
        }
    }

    /// The flowtable with the interfaces that there are, which is made when it is first asked for.
    fn flowtable(&mut self, statement: u32) -> Name {
        if let Some(name) = self.flows {
            return name;
        }
        // An interface is in one flowtable only: that of the previous rules serves a trial, too.
        let own = self.beside.as_ref().filter(|beside| !beside.previous.offloads);
        let name = own.and_then(|beside| Name::new(&[beside.previous.name.as_str(), ".", "f"].concat()));
        let name = *self.flows.insert(name.unwrap_or(FLOWS));
        match routes::interfaces() {
            Ok(interfaces) => self.txn.add_flowtable(statement, &name, &interfaces),
            Err(e) => self.lost = Some(e),
        }
        name
    }

    fn matches(&mut self, rule: &Rule) {
        let of = rule.origin;
        if let Some(family) = rule.family {
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
            for (is_source, list) in [(true, &rule.src), (false, &rule.dst)] {
                list.iter().for_each(|list| self.addresses(of, family, is_source, list));
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
        rule.tests.iter().filter(|test| !is_proto(test)).for_each(|test| self.test(rule, test));
    }

    fn meta(&mut self, key: i32, value: i32) {
        expr::push_meta(&mut self.rule, key);
        expr::push_cmp(&mut self.rule, Cmp::Eq, &[u8::try_from(value).unwrap_or(0)]);
    }

    fn verdict(&mut self, verdict: PacketVerdict) {
        self.rule.push(match &verdict {
            PacketVerdict::Accept | PacketVerdict::Drop => {
                return expr::push_accept_or_drop(&mut self.rule, verdict == PacketVerdict::Accept);
            }
            PacketVerdict::Return => expr::verdict(expr::NftVerdict::Return),
            PacketVerdict::Jump(chain) => {
                let name = self.chain_name(Chain::Own(*chain));
                expr::verdict(expr::NftVerdict::Jump(&name))
            }
            PacketVerdict::Reject(Reject::Reset) => expr::reject_tcp(),
            PacketVerdict::Reject(Reject::PortUnreachable) => expr::reject_icmpx(),
            PacketVerdict::Nat(nat) => return field::push_nat(&mut self.rule, nat),
            PacketVerdict::Next => return,
        });
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

/// Where the base chain of a direction hangs, with an accepting policy.
pub(super) fn hook_of(direction: Direction) -> Hook<'static> {
    let number = match direction {
        Direction::In => libc::NF_INET_LOCAL_IN,
        Direction::Out => libc::NF_INET_LOCAL_OUT,
        Direction::Fwd => libc::NF_INET_FORWARD,
        Direction::Pre => libc::NF_INET_PRE_ROUTING,
        Direction::Post => libc::NF_INET_POST_ROUTING,
        Direction::Local => libc::NF_INET_LOCAL_OUT,
    };
    Hook { priority: listed::priority(direction), is_nat: direction.is_nat(), ..Hook::new(number) }
}

impl Sink for TableBatch {
    fn base(&mut self, direction: Direction, policy: Policy) {
        let name = self.chain_name(Chain::Base(direction));
        if let Some(beside) = &mut self.beside {
            match beside.policies.get_mut(direction as usize) {
                Some(slot) => *slot = policy,
                None => beside.nat.push(direction),
            }
            return self.txn.add_chain(&name, None);
        }
        let policy = if policy == Policy::Accept { libc::NF_ACCEPT } else { libc::NF_DROP };
        self.txn.add_chain(&name, Some(Hook { policy, ..hook_of(direction) }));
    }

    fn set(&mut self, set: &Set) {
        match &set.elements {
            Elements::Addresses(family, ranges) => self.ranges(0, Some(set.name), *family, ranges),
            Elements::Ports(ranges) => self.port_ranges(0, Some(set.name), ranges),
        };
    }

    fn listed(&mut self, name: Name, family: Family, list: &RangeList) {
        let mut single = true;
        list.each(family, &mut |range| single &= range.first() == range.last());
        let set = self.address_set(0, Some(name), family, single);
        list.each(family, &mut |range| self.push_range(0, set, &range, single));
    }

    fn buckets(&mut self, name: Name, family: Family, timeout: u32) {
        // Without a time, what it counts tells when an element goes.
        let flags = libc::NFT_SET_EVAL | if timeout > 0 { libc::NFT_SET_TIMEOUT } else { 0 };
        let key = ADDRESS.get(family as usize).copied().unwrap_or_default();
        let timeout_ms = u64::from(timeout) * 1000;
        let known = self.set_name(name);
        let spec = SetSpec { size: BUCKETS, timeout_ms, ..SetSpec::new(known, flags, key) };
        let id = self.txn.add_set(&spec);
        self.remember(name, (known, id));
    }

    fn chain(&mut self, name: Name) {
        if name.as_str().starts_with(GROUP_PREFIX) {
            self.groups.push(name);
        }
        let name = self.chain_name(Chain::Own(name));
        self.txn.add_chain(&name, None);
    }

    fn rule(&mut self, chain: Chain, rule: &Rule) {
        self.rule.clear();
        self.matches(rule);
        if let Some(limit) = &rule.limit {
            self.limit(rule.family, limit);
        }
        if let Some(prefix) = &rule.log {
            let prefix = CString::new(prefix.as_str()).unwrap_or_default();
            self.rule.push(match rule.log_to {
                LogTarget::Level(level) => expr::log(&prefix, level.into()),
                LogTarget::Group(group) => expr::nflog_whole(&prefix, group),
            });
        }
        if rule.counter {
            expr::push_counter(&mut self.rule);
        }
        rule.changes.iter().for_each(|change| self.change(rule, *change));
        self.verdict(rule.verdict);
        if !rule.comment.is_empty() {
            self.rule.add_userdata(&comment_udata(UDATA_RULE_COMMENT, &rule.comment));
        }
        if rule.origin > 0 {
            let [a, b, c, d] = rule.origin.to_be_bytes();
            self.rule.add_userdata(&[UDATA_ORIGIN, 4, a, b, c, d]);
        }
        self.rules += 1;
        if self.rules.is_multiple_of(RULES_PER_DROP) {
            trim::drop_code_pages();
        }
        let name = self.chain_name(chain);
        self.txn.add_part(rule.origin, &name, &self.rule);
    }
}

/// Has the transaction begin with there being no such table.
pub fn clear_into(txn: &mut Txn) {
    // What is added first can be deleted without an error, whether it was there or not.
    txn.add_table();
    txn.delete_table();
}

/// Whether there is such a table.
///
/// # Errors
/// What the kernel refused.
pub fn there() -> Result<bool, TxnError> {
    let there = std::cell::Cell::new(false);
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    let kind = (msg::GETTABLE, None);
    query::objects(&mut socket, &TABLE, kind, &mut || there.set(false), &mut |_| there.set(true))?;
    Ok(there.get())
}

/// Deletes the table, if it is there.
///
/// # Errors
/// What the kernel refused.
pub fn unload() -> Result<(), TxnError> {
    let mut txn = Txn::new(TABLE, 256);
    clear_into(&mut txn);
    txn.commit(&mut NlSocket::open(Bus::Netfilter)?)
}
