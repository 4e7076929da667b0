#![forbid(unsafe_code)]
//! Deny lists: each list is a generation of sets of its own, filled while the previous one is in force, and
//! then looked up instead of it by one transaction. Knows no file: a list is a number, and so is its content.
//!
//! Single addresses are keys of a hash set whose size is known before, so that it never grows; networks are
//! intervals. Transactions are short (`room::piece`): somebody may listen to what changes.

use super::layout::DENY;
use super::words;
use super::{BATCH_BUFFER, Guard, TABLE, room};
use crate::ban::{Doing, Failure, ListForm, ListId, ListMembers};
use crate::base::name::Name;
use crate::base::range::{AddrKey, Family, Range};
use crate::firewall::contents::Fill;
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::{ELEMENTS_MAX, Optional, SetSpec};
use crate::firewall::nft::{NftRule, msg, query, rule_attr};
use crate::sys::nlattr::{attr, attrs, be64, text};
use crate::sys::{memory, random};
use nix::errno::Errno;
use std::fmt::Write as _;

/// Sets of single addresses, of each family, that every packet is looked up in; those of further lists are
/// asked only by packets that can begin a flow.
const EARLY: usize = 4;
/// Most bytes of one transaction.
const ROOM_MAX: usize = 1 << 20;
/// Fewest: a message with some elements.
const ROOM_MIN: usize = 4096;

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const LOOKUP_SET: u16 = 1;

/// A set of a deny list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenySet {
    /// Its name.
    pub(in crate::firewall) name: Name,
    /// What it was made of.
    pub id: ListId,
    /// What it holds.
    pub members: ListMembers,
    /// What it is called.
    pub label: String,
    /// The rule that looks it up; without one it is not in force: somebody is filling it, or died over it.
    pub(in crate::firewall) rule: Option<(Name, u64)>,
    /// Whether others have emptied it: nobody puts an empty one in force.
    pub(in crate::firewall) fill: Fill,
}

impl DenySet {
    /// Whether packets are looked up in it, and some are found.
    #[must_use]
    pub fn in_force(&self) -> bool {
        self.is_asked() && self.fill == Fill::Some
    }

    /// Whether packets are looked up in it.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.rule.is_some()
    }

    /// Whose addresses it holds.
    #[must_use]
    pub fn family(&self) -> Family {
        family_of(self.name.as_str())
    }
}

/// A set that is being filled.
pub struct Filling {
    /// Its name.
    pub(in crate::firewall) name: Name,
    pub(in crate::firewall) members: ListMembers,
    /// Elements that it has, and those of its next transaction.
    pub(in crate::firewall) written: u32,
    pub(in crate::firewall) piece: u32,
    /// Bytes of memory that there were when it was made.
    pub(in crate::firewall) available: Option<u64>,
}

impl Guard {
    /// All sets of deny lists that the kernel has.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn deny_sets(&mut self) -> Result<Vec<DenySet>, Failure> {
        let (mut sets, mut counts) = (Vec::<DenySet>::new(), Vec::new());
        query::sets(&mut self.socket, &TABLE, &mut |set| {
            if let (Some(name), Some(id)) = (Name::new(set.name), read_comment(set.comment))
                && is_name(set.name)
                && !sets.iter().any(|s| s.name == name)
            {
                let members = match set.flags & libc::NFT_SET_INTERVAL.cast_unsigned() {
                    0 => ListMembers::Addresses,
                    _ => ListMembers::Networks,
                };
                let label = read_label(set.comment).to_owned();
                sets.push(DenySet { name, id, members, label, rule: None, fill: Fill::Some });
                counts.push(set.count);
            }
        })?;
        let ask = |buf: &mut crate::sys::nlattr::MsgBuf| buf.attr_str(rule_attr::TABLE, TABLE.name.as_str());
        query::dump(&mut self.socket, TABLE.family, msg::GETRULE, &ask, &mut || (), &mut |m| {
            let body = m.payload.get(4..).unwrap_or_default();
            let chain = attr(body, rule_attr::CHAIN).and_then(text).and_then(Name::new);
            let handle = attr(body, rule_attr::HANDLE).and_then(be64);
            let Some((chain, handle)) = chain.filter(|c| DENY.contains(c)).zip(handle) else { return };
            let looked_up = looked_up(attr(body, rule_attr::EXPRESSIONS).unwrap_or_default());
            let set = sets.iter_mut().find(|s| Some(s.name.as_str()) == looked_up);
            set.into_iter().for_each(|set| set.rule = Some((chain, handle)));
        })?;
        for (set, count) in sets.iter_mut().zip(counts).filter(|(set, _)| set.is_asked()) {
            set.fill = self.fill_of(set.name, count)?;
        }
        Ok(sets)
    }

    /// Makes a set that nothing looks up yet, for `size` elements at most; `label` is for people.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn deny_open(
        &mut self,
        id: ListId,
        ListForm { family, members }: ListForm,
        size: u32,
        label: &str,
    ) -> Result<Filling, Failure> {
        let flags = match members {
            ListMembers::Addresses => 0,
            ListMembers::Networks => libc::NFT_SET_INTERVAL,
        };
        let comment = write_comment(id, size, label);
        let mut tries = 0;
        loop {
            let set = fresh_name(family);
            let spec = SetSpec::new(set, flags, words::key_type(family));
            // An interval set counts both ends, and needs no size.
            let size = if members == ListMembers::Networks { 0 } else { size };
            self.txn.add_set(&SetSpec { size, comment: &comment, must_be_new: true, ..spec });
            tries += 1;
            match self.txn.commit(&mut self.socket) {
                // Taken, or made by this very transaction, whose answer was lost.
                Err(e) if e.errno() == Errno::EEXIST && tries < 8 => {}
                result => {
                    let (available, piece) = (memory::available(), ELEMENTS_MAX);
                    let filling = Filling { name: set, members, written: 0, piece, available };
                    return Ok(result.map(|()| filling)?);
                }
            }
        }
    }

    /// Adds an address or a range; the kernel has it after `deny_close`.
    ///
    /// # Errors
    /// What the kernel refused; the set is then worth nothing.
    pub fn deny_add(&mut self, filling: &mut Filling, range: &Range, room: usize) -> Result<(), Failure> {
        let (key, end) = (range.key(), range.end_key().filter(|_| filling.members == ListMembers::Networks));
        let (key, end) = (key.bytes(), end.as_ref().map(AddrKey::bytes));
        self.txn.add_elem(&filling.name, &Elem { key, end, timeout: Timeout::None, comment: "" });
        let elements = self.txn.elements();
        if elements < filling.piece && self.txn.len() < room.min(ROOM_MAX) {
            return Ok(());
        }
        filling.written = filling.written.saturating_add(elements);
        if filling.members == ListMembers::Networks {
            filling.piece = room::piece(filling.written, filling.available);
        }
        self.txn.commit(&mut self.socket)?;
        self.listeners.wait();
        Ok(())
    }

    /// Has the kernel take what was added last.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn deny_close(&mut self) -> Result<(), Failure> {
        Ok(self.txn.commit(&mut self.socket)?)
    }

    /// The room to try next after a failure, if a smaller one may help.
    #[must_use]
    pub fn deny_room(e: &Failure, room: usize) -> Option<usize> {
        let short = e.doing == Doing::Exchange && matches!(e.errno(), Errno::EMSGSIZE | Errno::ENOBUFS);
        (short && room > ROOM_MIN).then(|| room.min(BATCH_BUFFER) / 4)
    }

    /// Has packets looked up in the sets of `new` instead of those of `old`, which are deleted.
    ///
    /// # Errors
    /// What the kernel refused; then nothing has changed.
    pub fn deny_swap(&mut self, all: &[DenySet], new: &[Filling], list: u64) -> Result<(), Failure> {
        let old = || all.iter().filter(|s| s.id.list == list && s.is_asked());
        for (chain, handle) in old().filter_map(|s| s.rule) {
            self.txn.delete_rule(&chain, handle);
        }
        for set in new {
            let family = family_of(set.name.as_str());
            let early = |s: &&DenySet| {
                s.id.list != list
                    && s.rule.is_some_and(|(c, _)| c == DENY[0])
                    && family_of(s.name.as_str()) == family
            };
            let late = set.members == ListMembers::Networks || all.iter().filter(early).count() >= EARLY;
            let mut rule = NftRule::new();
            words::push_source(&mut rule, family, 128);
            words::push_jump(&mut rule, &set.name, family);
            self.txn.add_rule(&DENY[usize::from(late)], &rule, Optional::No);
        }
        for set in old() {
            self.txn.delete_set(&set.name);
        }
        Ok(self.txn.commit(&mut self.socket)?)
    }

    /// Deletes a set that is not in force. It may be gone already.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn deny_drop(&mut self, set: &Name) -> Result<(), Failure> {
        self.txn.clear();
        self.txn.delete_set(set);
        match self.txn.commit(&mut self.socket) {
            Err(e) if e.errno() == Errno::ENOENT => Ok(()),
            result => Ok(result?),
        }
    }
}

/// Whether a set of this name belongs to a deny list.
pub(super) fn is_name(set: &str) -> bool {
    set.starts_with("deny")
}

fn family_of(set: &str) -> Family {
    if set.starts_with("deny6") { Family::V6 } else { Family::V4 }
}

/// `deny4_` or `deny6_` and nine letters and digits at random.
pub(in crate::firewall) fn fresh_name(family: Family) -> Name {
    let mut text = String::from(if family == Family::V6 { "deny6_" } else { "deny4_" });
    let [mut number, _] = random::key();
    for _ in 0..9 {
        text.extend(char::from_digit((number % 36) as u32, 36));
        number /= 36;
    }
    Name::new(&text).unwrap_or(Name::of("deny4_x"))
}

fn write_comment(id: ListId, size: u32, label: &str) -> String {
    let mut text = String::new();
    let _ = write!(text, "list {:016x} {:016x} {size} {label}", id.list, id.content);
    text
}

pub(super) fn read_comment(comment: &str) -> Option<ListId> {
    let mut words = comment.strip_prefix("list ")?.split(' ');
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    Some(ListId { list: number()?, content: number()? })
}

/// What stands behind two numbers and a size.
fn read_label(comment: &str) -> &str {
    comment.splitn(5, ' ').nth(4).unwrap_or("")
}

/// The set that a rule's expressions look up.
pub(super) fn looked_up(expressions: &[u8]) -> Option<&str> {
    let lookup = |e: &&[u8]| attr(e, EXPR_NAME).and_then(text) == Some("lookup");
    let lookup = attrs(expressions).map(|(_, e)| e).find(lookup)?;
    attr(attr(lookup, EXPR_DATA)?, LOOKUP_SET).and_then(text)
}
