#![forbid(unsafe_code)]
//! A transaction: messages that the kernel applies all or none, and its refusals named by object.

use super::elem::{self, Elem, ElemCounter, ElemMsg, Timeout};
use super::ffi::NftRule;
use super::refusal::{Op, Ops, Optional};
use super::spec::{Hook, SetSpec};
use super::{TableId, message, msg, rule_attr, set_udata};
use crate::base::name::{IfName, Name};
use crate::sys::nlattr::{self, APPEND, CREATE, ECHO, EXCL, MsgBuf, REQUEST};

// Attributes (linux/netfilter/nf_tables.h). The table's name is the first one of every object.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVS: u16 = 4;
const DEVICE_NAME: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DESC: u16 = 9;
const SET_ID: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const SET_USERDATA: u16 = 13;
const DESC_SIZE: u16 = 1;
const FLOWTABLE_NAME: u16 = 2;
const FLOWTABLE_HOOK: u16 = 3;
const FLOWTABLE_DEVS: u16 = 3;
/// Most interfaces of a flowtable (NFT_NETDEVICE_MAX).
const DEVICES_MAX: usize = 256;
/// NFTNL_UDATA_SET_KEYBYTEORDER, and nft's number for the host's order.
const UDATA_SET_KEYBYTEORDER: u8 = 0;
const HOST_ENDIAN: u32 = 1;

const TABLE_FLAGS: u16 = 2;

/// Elements of one transaction at most, where it can be cut: as long as anybody listens to what changes, the
/// kernel holds 8 kB for each until the transaction is through. An interval is two.
pub const ELEMENTS_MAX: u32 = 512;

/// A transaction being written. When the kernel's answers are lost it is sent again. So whoever writes one
/// makes it do the same twice, or bears ENOENT for what it deletes and EEXIST for what must be new.
pub struct Txn {
    pub(super) buf: MsgBuf,
    pub(super) table: TableId,
    /// `NFT_TABLE_F_*` that the table gets when it is added; 0 = those that it has, or none.
    pub(super) flags: u32,
    pub(super) ops: Ops,
    /// Bytes that it keeps between transactions.
    pub(super) capacity: usize,
    /// Whether elements that have a life are added with a counter.
    pub(super) counters: bool,
    pub(super) intact: bool,
    pub(super) elems: Option<OpenElems>,
    pub(super) elements: u32,
    /// Whether the kernel is asked which generation of the ruleset a commit has made.
    pub(super) follows: bool,
    /// The last generation up to which every change is known or was made here.
    pub(super) generation: u32,
}

pub(super) struct OpenElems {
    op: Op,
    message: nlattr::Open,
    content: ElemMsg,
}

impl Txn {
    /// An empty transaction for one table, with room for `capacity` bytes.
    #[must_use]
    pub fn new(table: TableId, capacity: usize) -> Txn {
        Txn {
            buf: MsgBuf::with_capacity(capacity),
            table,
            flags: 0,
            ops: Ops::default(),
            capacity,
            counters: false,
            intact: true,
            elems: None,
            elements: 0,
            follows: false,
            generation: 0,
        }
    }

    /// What follows is about another table.
    pub fn turn_to(&mut self, table: TableId) {
        self.close_elems();
        self.table = table;
    }

    /// From now on the generation of the ruleset is followed: what is known of it stands for `generation`.
    pub fn follow(&mut self, generation: u32) {
        (self.follows, self.generation) = (true, generation);
    }

    /// The generation that was told to [`Txn::follow`], or that commits of this transaction have made of it
    /// since, if nobody else's came between; 0 = nothing was told.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Adds the table with these flags from now on, `NFT_TABLE_F_*`. The kernel refuses those that the table
    /// cannot get any more; 0 leaves them as they are.
    pub fn set_table_flags(&mut self, flags: u32) {
        self.flags = flags;
    }

    /// Whether elements of sets with timeouts are added with a counter of their own.
    pub fn set_counters(&mut self, counters: bool) {
        self.counters = counters;
    }

    /// Forgets all messages. Keeps the memory that elements need; objects are written once in a while only.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.buf.raw().shrink_to(self.capacity);
        self.ops.clear();
        self.elems = None;
        self.elements = 0;
        self.intact = true;
    }

    /// Gives memory back that it has used before and does not use now.
    pub fn shrink(&mut self) {
        self.buf.shrink();
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.len == 0
    }

    /// Elements written so far.
    #[must_use]
    pub fn elements(&self) -> u32 {
        self.elements
    }

    /// Whether so many elements are written that it is to be committed before there are more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.elements >= ELEMENTS_MAX
    }

    /// Messages written so far.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.ops.len
    }

    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buf.bytes()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Begins a message about an object of the table: what all of them carry stands in it then.
    fn open(&mut self, op: Op, kind: u16, flags: u16) -> nlattr::Open {
        self.first();
        self.begin(op, kind, flags)
    }

    /// Ends the message before, or writes what every transaction begins with.
    fn first(&mut self) {
        self.close_elems();
        if self.ops.len == 0 {
            super::commit::batch_begin(&mut self.buf);
            if self.follows {
                // The kernel tells the generation of a commit to whom the first message asks to be told of
                // what it does: one that does nothing.
                self.begin_table(CREATE | ECHO);
            }
        }
    }

    fn begin(&mut self, op: Op, kind: u16, flags: u16) -> nlattr::Open {
        self.ops.push(op);
        // The real sequence numbers are written when it is sent: they differ at each try.
        let open = self.buf.start(message(kind), flags | REQUEST, 0);
        self.buf.put(&[self.table.family, 0, 0, 0]);
        self.buf.attr_str(TABLE, self.table.name.as_str());
        open
    }

    fn op_of_table(&self) -> Op {
        if i32::from(self.table.family) == libc::NFPROTO_BRIDGE { Op::FrameTable } else { Op::Table }
    }

    fn begin_table(&mut self, flags: u16) {
        let open = self.begin(self.op_of_table(), msg::NEWTABLE, flags);
        if self.flags != 0 {
            self.buf.attr_be32(TABLE_FLAGS, self.flags);
        }
        self.buf.finish(open);
    }

    /// A message that says no more than the object's name.
    fn named(&mut self, op: Op, kind: u16, attr: u16, name: &Name) {
        let open = self.open(op, kind, 0);
        self.buf.attr_str(attr, name.as_str());
        self.buf.finish(open);
    }

    /// Adds the table; no error if it is there.
    pub fn add_table(&mut self) {
        self.first();
        self.begin_table(CREATE);
    }

    /// Deletes the table with all that is in it.
    pub fn delete_table(&mut self) {
        let open = self.open(self.op_of_table(), msg::DELTABLE, 0);
        self.buf.finish(open);
    }

    /// Adds a chain, with a hook if it is a base chain.
    pub fn add_chain(&mut self, name: &Name, hook: Option<Hook<'_>>) {
        let open = self.open(Op::Chain(*name), msg::NEWCHAIN, CREATE);
        self.buf.attr_str(CHAIN_NAME, name.as_str());
        if let Some(hook) = hook {
            let nest = self.buf.nest(CHAIN_HOOK);
            self.buf.attr_be32(HOOK_NUMBER, hook.number.cast_unsigned());
            self.buf.attr_be32(HOOK_PRIORITY, hook.priority.cast_unsigned());
            if !hook.devices.is_empty() {
                let devices = self.buf.nest(HOOK_DEVS);
                hook.devices.iter().for_each(|name| self.buf.attr_str(DEVICE_NAME, name.as_str()));
                self.buf.end(devices);
            }
            self.buf.end(nest);
            self.buf.attr_be32(CHAIN_POLICY, hook.policy.cast_unsigned());
            self.buf.attr_str(CHAIN_TYPE, if hook.is_nat { "nat" } else { "filter" });
        }
        self.buf.finish(open);
    }

    /// Deletes a chain that has no rules.
    pub fn delete_chain(&mut self, name: &Name) {
        self.named(Op::DeleteChain(*name), msg::DELCHAIN, CHAIN_NAME, name);
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, name: &Name) {
        self.named(Op::Flush(*name), msg::DELRULE, rule_attr::CHAIN, name);
    }

    /// Adds a rule at the chain's end.
    pub fn add_rule(&mut self, chain: &Name, rule: &NftRule, optional: Optional) {
        self.write_rule(self.next_rule(chain, optional), chain.as_str(), rule, APPEND);
    }

    /// Adds a rule at the chain's head.
    pub fn insert_rule(&mut self, chain: &Name, rule: &NftRule, optional: Optional) {
        self.write_rule(self.next_rule(chain, optional), chain.as_str(), rule, 0);
    }

    fn next_rule(&self, chain: &Name, optional: Optional) -> Op {
        let no = 1 + self.ops.rules(chain);
        Op::Rule(*chain, u16::try_from(no).unwrap_or(u16::MAX), optional)
    }

    /// Deletes a rule by the number that the kernel gave it; ENOENT if it is not there.
    pub fn delete_rule(&mut self, chain: &Name, handle: u64) {
        let open = self.open(Op::DeleteRule(*chain), msg::DELRULE, 0);
        self.buf.attr_str(rule_attr::CHAIN, chain.as_str());
        self.buf.attr_be64(rule_attr::HANDLE, handle);
        self.buf.finish(open);
    }

    /// As `insert_rule`, of a chain that may be somebody else's, with a name of any length.
    pub fn add_first(&mut self, chain: &str, rule: &NftRule) {
        self.write_rule(Op::Gate, chain, rule, 0);
    }

    /// As `delete_rule`, of a chain that may be somebody else's.
    pub fn delete_rule_of(&mut self, chain: &str, handle: u64) {
        let open = self.open(Op::Gate, msg::DELRULE, 0);
        self.buf.attr_str(rule_attr::CHAIN, chain);
        self.buf.attr_be64(rule_attr::HANDLE, handle);
        self.buf.finish(open);
    }

    /// Adds a part of rule number `statement` of a rule set at the chain's end.
    pub fn add_part(&mut self, statement: u32, chain: &Name, rule: &NftRule) {
        self.write_rule(Op::Statement(statement), chain.as_str(), rule, APPEND);
    }

    /// `place`: `APPEND`, or 0 for the chain's head.
    fn write_rule(&mut self, op: Op, chain: &str, rule: &NftRule, place: u16) {
        let open = self.open(op, msg::NEWRULE, CREATE | place);
        self.intact &= rule.is_intact();
        self.buf.attr_str(rule_attr::CHAIN, chain);
        let nest = self.buf.nest(rule_attr::EXPRESSIONS);
        self.buf.put(rule.expressions());
        self.buf.end(nest);
        if !rule.userdata().is_empty() {
            self.buf.attr(rule_attr::USERDATA, rule.userdata());
        }
        self.buf.finish(open);
    }

    /// Adds a set; no error if it is there and of the same kind. The number that it has in this transaction.
    pub fn add_set(&mut self, spec: &SetSpec<'_>) -> u32 {
        let excl = if spec.must_be_new { EXCL } else { 0 };
        let op = if spec.statement > 0 { Op::Statement(spec.statement) } else { Op::Set(spec.name) };
        let open = self.open(op, msg::NEWSET, CREATE | excl);
        let id = self.ops.len;
        self.buf.attr_str(SET_NAME, spec.name.as_str());
        let numbers = [
            (SET_FLAGS, spec.flags.cast_unsigned()),
            (SET_KEY_TYPE, spec.key.0),
            (SET_KEY_LEN, spec.key.1),
            (SET_ID, id),
        ];
        for (attr, number) in numbers {
            self.buf.attr_be32(attr, number);
        }
        if spec.size > 0 {
            let nest = self.buf.nest(SET_DESC);
            self.buf.attr_be32(DESC_SIZE, spec.size);
            self.buf.end(nest);
        }
        if spec.timeout_ms > 0 {
            self.buf.attr_be64(SET_TIMEOUT, spec.timeout_ms);
        }
        if !spec.comment.is_empty() {
            self.buf.attr(SET_USERDATA, &set_udata(spec.comment));
        } else if spec.host_order {
            let [a, b, c, d] = HOST_ENDIAN.to_ne_bytes();
            self.buf.attr(SET_USERDATA, &[UDATA_SET_KEYBYTEORDER, 4, a, b, c, d]);
        }
        self.buf.finish(open);
        id
    }

    /// Adds an element to the set that this transaction added as number `id`.
    pub fn add_elem_of(&mut self, statement: u32, set: &Name, id: u32, elem: &Elem<'_>) {
        let op = if statement > 0 { Op::Statement(statement) } else { Op::Add(*set) };
        self.elem(op, msg::NEWSETELEM, CREATE, (set, id), elem);
    }

    /// Adds a flowtable for rule number `statement`; one that is there gets the interfaces that it has not.
    pub fn add_flowtable(&mut self, statement: u32, name: &Name, devices: &[IfName]) {
        let open = self.open(Op::Statement(statement), msg::NEWFLOWTABLE, CREATE);
        self.buf.attr_str(FLOWTABLE_NAME, name.as_str());
        let hook = self.buf.nest(FLOWTABLE_HOOK);
        // NF_NETDEV_INGRESS
        self.buf.attr_be32(HOOK_NUMBER, 0);
        self.buf.attr_be32(HOOK_PRIORITY, 0);
        let list = self.buf.nest(FLOWTABLE_DEVS);
        let known = devices.iter().take(DEVICES_MAX);
        known.for_each(|name| self.buf.attr_str(DEVICE_NAME, name.as_str()));
        self.buf.end(list);
        self.buf.end(hook);
        self.buf.finish(open);
    }

    /// Deletes the flowtable of a trial, which no rule uses any more.
    pub fn delete_flowtable(&mut self, name: &Name) {
        self.named(Op::Gate, msg::DELFLOWTABLE, FLOWTABLE_NAME, name);
    }

    /// Deletes a set that no rule uses.
    pub fn delete_set(&mut self, name: &Name) {
        self.named(Op::DeleteSet(*name), msg::DELSET, SET_NAME, name);
    }

    /// Deletes all elements of a set.
    pub fn flush_set(&mut self, name: &Name) {
        self.named(Op::Delete(*name), msg::DELSETELEM, elem::LIST_SET, name);
    }

    /// Adds an element; it joins the open message if that is for the same set and has room.
    pub fn add_elem(&mut self, set: &Name, elem: &Elem<'_>) {
        self.elem(Op::Add(*set), msg::NEWSETELEM, CREATE, (set, 0), elem);
    }

    /// Adds an element of a set that gets its elements in this way only; EEXIST if it or one of its ends is
    /// there.
    pub fn add_new_elem(&mut self, set: &Name, elem: &Elem<'_>) {
        self.elem(Op::Add(*set), msg::NEWSETELEM, CREATE | EXCL, (set, 0), elem);
    }

    /// Deletes an element; ENOENT if it is not there.
    pub fn delete_elem(&mut self, set: &Name, elem: &Elem<'_>) {
        self.elem(Op::Delete(*set), msg::DELSETELEM, 0, (set, 0), elem);
    }

    /// Likewise in a message of its own, so that a refusal tells which one is not there.
    pub fn delete_elem_alone(&mut self, set: &Name, elem: &Elem<'_>) {
        self.close_elems();
        self.delete_elem(set, elem);
        self.close_elems();
    }

    fn elem(&mut self, op: Op, kind: u16, flags: u16, (set, id): (&Name, u32), elem: &Elem<'_>) {
        if !self.elems.as_ref().is_some_and(|e| e.op == op && e.content.has_room(&self.buf)) {
            let message = self.open(op, kind, flags);
            self.elems = Some(OpenElems { op, message, content: ElemMsg::open(&mut self.buf, set, id) });
        }
        self.elements += if elem.end.is_some() { 2 } else { 1 };
        let counts = self.counters && kind == msg::NEWSETELEM && elem.timeout != Timeout::None;
        let counter = if counts { ElemCounter::Own } else { ElemCounter::None };
        if let Some(open) = &self.elems {
            open.content.push(&mut self.buf, elem, counter);
        }
    }

    pub(super) fn close_elems(&mut self) {
        if let Some(open) = self.elems.take() {
            open.content.close(&mut self.buf);
            self.buf.finish(open.message);
        }
    }
}
