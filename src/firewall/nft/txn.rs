#![forbid(unsafe_code)]
//! A transaction: messages that the kernel applies all or none, and its refusals named by object.

use super::elem::{Elem, ElemMsg, Timeout};
use super::ffi::{self, Head, Object, Rule, Scratch};
use super::{TableId, UDATA_SET_COMMENT, comment_udata, message, msg};
use crate::base::name::Name;
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{self, ACK, APPEND, CREATE, EXCL, Msg, MsgBuf, REQUEST};
use nftnl::nftnl_sys as sys;
use nix::errno::Errno;
use smallvec::SmallVec;

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// NLMSGERR_ATTR_MSG: the kernel's own words.
const ERR_MSG: u16 = 1;
/// How often an exchange whose answers were lost is repeated.
const TRIES: u32 = 4;

/// What a message does, for the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The transaction as a whole.
    Commit,
    /// Adds or deletes the table.
    Table,
    /// Adds a chain.
    Chain(Name),
    /// Deletes a chain.
    DeleteChain(Name),
    /// Empties a chain.
    Flush(Name),
    /// Adds a set.
    Set(Name),
    /// Deletes a set.
    DeleteSet(Name),
    /// Adds a rule: its chain, its number in the transaction, whether mef can do without it.
    Rule(Name, u16, Optional),
    /// Adds elements.
    Add(Name),
    /// Deletes elements.
    Delete(Name),
}

/// Whether a refusal of a rule can be borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optional {
    /// Nothing works without it.
    No,
    /// Drops are not logged without it.
    Log,
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Op::Commit => f.write_str("the transaction"),
            Op::Table => f.write_str("the table"),
            Op::Chain(name) => write!(f, "chain {name}"),
            Op::DeleteChain(name) => write!(f, "to delete chain {name}"),
            Op::Flush(name) => write!(f, "to empty chain {name}"),
            Op::Set(name) => write!(f, "set {name}"),
            Op::DeleteSet(name) => write!(f, "to delete set {name}"),
            Op::Rule(chain, no, _) => write!(f, "rule {no} of chain {chain}"),
            Op::Add(set) => write!(f, "new elements of set {set}"),
            Op::Delete(set) => write!(f, "to delete elements of set {set}"),
        }
    }
}

/// One message that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it would have done.
    pub op: Op,
    /// Why not.
    pub errno: Errno,
    /// The kernel's own words, often empty.
    pub words: SmallVec<[u8; 32]>,
}

/// Why a transaction changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnError {
    /// The kernel refused these messages, and so all.
    Refused(SmallVec<[Refusal; 1]>),
    /// The exchange failed.
    Lost(Lost),
}

impl From<Lost> for TxnError {
    fn from(lost: Lost) -> Self {
        TxnError::Lost(lost)
    }
}

impl TxnError {
    /// The first refusal's error number, or that of the failed system call.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            TxnError::Refused(all) => all.first().map_or(Errno::UnknownErrno, |r| r.errno),
            TxnError::Lost(Lost::Sys(_, errno)) => *errno,
            TxnError::Lost(Lost::Answers) => Errno::ENOBUFS,
        }
    }
}

impl std::fmt::Display for TxnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TxnError::Refused(all) => {
                for (i, r) in all.iter().enumerate() {
                    let words = std::str::from_utf8(&r.words).unwrap_or("");
                    let sep = if i == 0 { "" } else { "; " };
                    write!(f, "{sep}the kernel refused {}: {}", r.op, r.errno.desc())?;
                    if !words.is_empty() {
                        write!(f, " ({words})")?;
                    }
                    f.write_str(advice(r))?;
                }
                Ok(())
            }
            TxnError::Lost(Lost::Answers) => {
                f.write_str("netlink: answers of the kernel were lost again and again")
            }
            TxnError::Lost(Lost::Sys(call, errno)) => {
                let advice = if *errno == Errno::EPERM { ROOT } else { "" };
                write!(f, "{call}: {}{advice}", errno.desc())
            }
        }
    }
}

const ROOT: &str = ": run it as root (CAP_NET_ADMIN in this network namespace)";

fn advice(r: &Refusal) -> &'static str {
    match (r.errno, r.op) {
        (Errno::EPERM, _) => ROOT,
        (Errno::ENFILE, Op::Add(_)) => ": the set is full",
        (Errno::ENOMEM, _) => ": no memory for it, perhaps the cgroup's limit",
        (Errno::ENOENT | Errno::EOPNOTSUPP, Op::Rule(..) | Op::Chain(_) | Op::Set(_)) => {
            ": this kernel lacks a part of nf_tables (on OpenWrt see the kmod-nft packages)"
        }
        (Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EINVAL, Op::Commit | Op::Table) => {
            ": this kernel has no nf_tables"
        }
        _ => "",
    }
}

/// What a set is made of.
#[derive(Clone, Copy)]
pub struct SetSpec<'a> {
    /// Its name.
    pub name: Name,
    /// `NFT_SET_*` flags.
    pub flags: i32,
    /// Type number of `nft` (only shown), and bytes of a key.
    pub key: (u32, u32),
    /// Most elements; 0 = no limit but memory.
    pub size: u32,
    /// Default life of an element, ms; 0 = none.
    pub timeout_ms: u64,
    /// Shown by `nft list`; empty = none.
    pub comment: &'a str,
    /// EEXIST if it is there, rather than nothing.
    pub must_be_new: bool,
}

impl<'a> SetSpec<'a> {
    /// A set without size, default life and comment.
    #[must_use]
    pub fn new(name: Name, flags: i32, key: (u32, u32)) -> SetSpec<'a> {
        SetSpec { name, flags, key, size: 0, timeout_ms: 0, comment: "", must_be_new: false }
    }
}

/// Where and how a base chain hangs.
#[derive(Clone, Copy)]
pub struct Hook {
    /// `NF_INET_*`
    pub number: i32,
    /// Order among the chains of the hook.
    pub priority: i32,
}

/// A transaction being written. When the kernel's answers are lost it is sent again. So whoever writes one
/// makes it do the same twice, or bears ENOENT for what it deletes and EEXIST for what must be new.
pub struct Txn {
    buf: MsgBuf,
    scratch: Option<Scratch>,
    table: TableId,
    ops: Vec<(Op, usize)>,
    /// Bytes that it keeps between transactions.
    capacity: usize,
    /// Whether elements that have a life are added with a counter.
    counters: bool,
    whole: bool,
    elems: Option<OpenElems>,
}

struct OpenElems {
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
            scratch: None,
            table,
            ops: Vec::new(),
            capacity,
            counters: false,
            whole: true,
            elems: None,
        }
    }

    /// Whether elements of sets with timeouts are added with a counter of their own.
    pub fn set_counters(&mut self, counters: bool) {
        self.counters = counters;
    }

    /// Forgets all messages. Keeps the memory that elements need; objects are written once in a while only.
    pub fn clear(&mut self) {
        self.scratch = None;
        self.buf.clear();
        self.buf.raw().shrink_to(self.capacity);
        self.ops.clear();
        self.elems = None;
        self.whole = true;
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    fn head(&mut self, op: Op, kind: u16, flags: u16) -> Head {
        self.close_elems();
        if self.ops.is_empty() {
            batch_mark(&mut self.buf, NFNL_MSG_BATCH_BEGIN);
        }
        self.ops.push((op, self.buf.len()));
        // The real sequence numbers are written when it is sent: they differ at each try.
        Head { kind, family: u16::from(self.table.family), flags: flags | REQUEST, seq: 0 }
    }

    /// Adds the table; no error if it is there.
    pub fn add_table(&mut self) {
        self.table_message(msg::NEWTABLE, CREATE);
    }

    /// Deletes the table with all that is in it.
    pub fn delete_table(&mut self) {
        self.table_message(msg::DELTABLE, 0);
    }

    fn table_message(&mut self, kind: u16, flags: u16) {
        let mut table = ffi::Table::new();
        table.set_name(sys::NFTNL_TABLE_NAME, &self.table.name);
        let head = self.head(Op::Table, kind, flags);
        self.whole &= table.is_whole();
        table.write(self.scratch.get_or_insert_default(), &mut self.buf, head);
    }

    /// Adds a chain, with a hook if it is a base chain (policy accept).
    pub fn add_chain(&mut self, name: &Name, hook: Option<Hook>) {
        let mut chain = ffi::Chain::new();
        chain.set_name(sys::NFTNL_CHAIN_TABLE, &self.table.name);
        chain.set_name(sys::NFTNL_CHAIN_NAME, name);
        if let Some(hook) = hook {
            chain.set_str(sys::NFTNL_CHAIN_TYPE, c"filter");
            chain.set_u32(sys::NFTNL_CHAIN_HOOKNUM, hook.number.cast_unsigned());
            chain.set_u32(sys::NFTNL_CHAIN_PRIO, hook.priority.cast_unsigned());
            chain.set_u32(sys::NFTNL_CHAIN_POLICY, libc::NF_ACCEPT.cast_unsigned());
        }
        let head = self.head(Op::Chain(*name), msg::NEWCHAIN, CREATE);
        self.whole &= chain.is_whole();
        chain.write(self.scratch.get_or_insert_default(), &mut self.buf, head);
    }

    /// Deletes a chain that has no rules.
    pub fn delete_chain(&mut self, name: &Name) {
        let mut chain = ffi::Chain::new();
        chain.set_name(sys::NFTNL_CHAIN_TABLE, &self.table.name);
        chain.set_name(sys::NFTNL_CHAIN_NAME, name);
        let head = self.head(Op::DeleteChain(*name), msg::DELCHAIN, 0);
        self.whole &= chain.is_whole();
        chain.write(self.scratch.get_or_insert_default(), &mut self.buf, head);
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, name: &Name) {
        let rule = self.rule(name);
        let head = self.head(Op::Flush(*name), msg::DELRULE, 0);
        self.whole &= rule.is_whole();
        rule.write(self.scratch.get_or_insert_default(), &mut self.buf, head);
    }

    /// An empty rule of a chain of this table.
    #[must_use]
    pub fn rule(&self, chain: &Name) -> Rule {
        let mut rule = Rule::new();
        rule.set_name(sys::NFTNL_RULE_TABLE, &self.table.name);
        rule.set_name(sys::NFTNL_RULE_CHAIN, chain);
        rule.set_u32(sys::NFTNL_RULE_FAMILY, u32::from(self.table.family));
        rule
    }

    /// Adds a rule at the chain's end, or (`first`) at its head.
    pub fn add_rule(&mut self, chain: &Name, rule: &Rule, first: bool, optional: Optional) {
        let no = 1 + self.ops.iter().filter(|(op, _)| matches!(op, Op::Rule(c, ..) if c == chain)).count();
        let op = Op::Rule(*chain, u16::try_from(no).unwrap_or(u16::MAX), optional);
        let head = self.head(op, msg::NEWRULE, CREATE | if first { 0 } else { APPEND });
        self.whole &= rule.is_whole();
        rule.write(self.scratch.get_or_insert_default(), &mut self.buf, head);
    }

    /// Adds a set; no error if it is there and of the same kind.
    pub fn add_set(&mut self, spec: &SetSpec<'_>) {
        let mut set = ffi::Set::new();
        set.set_name(sys::NFTNL_SET_TABLE, &self.table.name);
        set.set_name(sys::NFTNL_SET_NAME, &spec.name);
        set.set_u32(sys::NFTNL_SET_FAMILY, u32::from(self.table.family));
        set.set_u32(sys::NFTNL_SET_FLAGS, spec.flags.cast_unsigned());
        set.set_u32(sys::NFTNL_SET_KEY_TYPE, spec.key.0);
        set.set_u32(sys::NFTNL_SET_KEY_LEN, spec.key.1);
        set.set_u32(sys::NFTNL_SET_ID, u32::try_from(self.ops.len()).unwrap_or(0) + 1);
        if spec.size > 0 {
            set.set_u32(sys::NFTNL_SET_DESC_SIZE, spec.size);
        }
        if spec.timeout_ms > 0 {
            set.set(sys::NFTNL_SET_TIMEOUT, &spec.timeout_ms.to_ne_bytes());
        }
        if !spec.comment.is_empty() {
            set.set(sys::NFTNL_SET_USERDATA, &comment_udata(UDATA_SET_COMMENT, spec.comment));
        }
        let excl = if spec.must_be_new { EXCL } else { 0 };
        let head = self.head(Op::Set(spec.name), msg::NEWSET, CREATE | excl);
        self.whole &= set.is_whole();
        set.write(self.scratch.get_or_insert_default(), &mut self.buf, head);
    }

    /// Deletes a set that no rule uses.
    pub fn delete_set(&mut self, name: &Name) {
        let mut set = ffi::Set::new();
        set.set_name(sys::NFTNL_SET_TABLE, &self.table.name);
        set.set_name(sys::NFTNL_SET_NAME, name);
        let head = self.head(Op::DeleteSet(*name), msg::DELSET, 0);
        self.whole &= set.is_whole();
        set.write(self.scratch.get_or_insert_default(), &mut self.buf, head);
    }

    /// Deletes all elements of a set.
    pub fn flush_set(&mut self, name: &Name) {
        let head = self.head(Op::Delete(*name), msg::DELSETELEM, 0);
        let open = start(&mut self.buf, head);
        self.buf.attr_str(1, self.table.name.as_str());
        self.buf.attr_str(2, name.as_str());
        self.buf.finish(open);
    }

    /// Adds an element; it joins the open message if that is for the same set and has room.
    pub fn add_elem(&mut self, set: &Name, elem: &Elem<'_>) {
        self.elem(Op::Add(*set), msg::NEWSETELEM, CREATE, set, elem);
    }

    /// Adds an element of a set that gets its elements in this way only; EEXIST if it or one of its ends is there.
    pub fn add_new_elem(&mut self, set: &Name, elem: &Elem<'_>) {
        self.elem(Op::Add(*set), msg::NEWSETELEM, CREATE | EXCL, set, elem);
    }

    /// Deletes an element; ENOENT if it is not there.
    pub fn delete_elem(&mut self, set: &Name, elem: &Elem<'_>) {
        self.elem(Op::Delete(*set), msg::DELSETELEM, 0, set, elem);
    }

    fn elem(&mut self, op: Op, kind: u16, flags: u16, set: &Name, elem: &Elem<'_>) {
        if !self.elems.as_ref().is_some_and(|e| e.op == op && e.content.has_room(&self.buf)) {
            let head = self.head(op, kind, flags);
            let message = start(&mut self.buf, head);
            self.elems =
                Some(OpenElems { op, message, content: ElemMsg::open(&mut self.buf, &self.table, set) });
        }
        let counts = self.counters && kind == msg::NEWSETELEM && elem.timeout != Timeout::None;
        if let Some(open) = &self.elems {
            open.content.push(&mut self.buf, elem, counts);
        }
    }

    fn close_elems(&mut self) {
        if let Some(open) = self.elems.take() {
            open.content.close(&mut self.buf);
            self.buf.finish(open.message);
        }
    }

    /// Sends the transaction and reads the kernel's judgement. Nothing to send is success. It is cleared
    /// either way. When answers are lost it is sent again.
    ///
    /// # Errors
    /// What the kernel refused, or the system call that failed; then nothing was changed.
    pub fn commit(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        if self.is_empty() {
            return Ok(());
        }
        self.close_elems();
        batch_mark(&mut self.buf, NFNL_MSG_BATCH_END);
        let mut result = Err(TxnError::Lost(Lost::Sys("libnftnl", Errno::ENOMEM)));
        if self.whole {
            for _ in 0..TRIES {
                result = self.exchange(socket);
                if result != Err(TxnError::Lost(Lost::Answers)) {
                    break;
                }
                socket.drain();
            }
        }
        self.clear();
        result
    }

    fn exchange(&mut self, socket: &mut NlSocket) -> Result<(), TxnError> {
        let (begin, last) = self.number(socket);
        socket.send(self.buf.bytes())?;
        let mut refused: SmallVec<[Refusal; 1]> = SmallVec::new();
        let mut done = false;
        while !done {
            socket.receive(&mut |m| {
                let Some(errno) = m.errno() else { return };
                let index = m.seq.wrapping_sub(begin);
                if index as usize > self.ops.len() {
                    return;
                }
                if errno != 0 {
                    let op = (index as usize).checked_sub(1).and_then(|i| self.ops.get(i));
                    let op = op.map_or(Op::Commit, |&(op, _)| op);
                    refused.push(Refusal { op, errno: Errno::from_raw(errno), words: words(&m) });
                }
                // An error of the whole batch carries the number of its first message, and is the last word.
                done |= m.seq == last || (m.seq == begin && errno != 0);
            })?;
        }
        if refused.is_empty() { Ok(()) } else { Err(TxnError::Refused(refused)) }
    }

    /// Writes fresh sequence numbers and asks for one acknowledgement, on the last real message.
    fn number(&mut self, socket: &mut NlSocket) -> (u32, u32) {
        let (begin, mut last) = (socket.next_seq(), 0);
        set_seq(self.buf.raw(), 0, begin);
        for &(_, at) in &self.ops {
            last = socket.next_seq();
            set_seq(self.buf.raw(), at, last);
        }
        if let Some(&(_, at)) = self.ops.last() {
            self.buf.add_flags(at, ACK);
        }
        (begin, last)
    }
}

fn set_seq(bytes: &mut [u8], at: usize, seq: u32) {
    if let Some(slot) = bytes.get_mut(at + 8..at + 12) {
        slot.copy_from_slice(&seq.to_ne_bytes());
    }
}

fn start(buf: &mut MsgBuf, head: Head) -> nlattr::Open {
    let open = buf.start(message(head.kind), head.flags, head.seq);
    buf.put(&[u8::try_from(head.family).unwrap_or(0), 0, 0, 0]);
    open
}

fn batch_mark(buf: &mut MsgBuf, kind: u16) {
    let open = buf.start(kind, REQUEST, 0);
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    buf.put(&[0, 0, high, low]);
    buf.finish(open);
}

/// The extended acknowledgement's text, behind the error number and the capped request header.
fn words(m: &Msg<'_>) -> SmallVec<[u8; 32]> {
    let text =
        m.payload.get(4 + nlattr::HDR..).and_then(|tlvs| nlattr::attr(tlvs, ERR_MSG)).and_then(nlattr::text);
    SmallVec::from_slice(text.unwrap_or("").as_bytes())
}
