#![forbid(unsafe_code)]
//! A table as it is, ready to be put back in one transaction. Copies what the kernel tells and understands none of
//! it: neither rules nor who wrote them.

use super::nft::{TableId, Txn, TxnError, msg, query};
use super::rules;
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{attr, be32, whole_attrs};
use mnl::Bus;
use nix::errno::Errno;

// Attributes of sets and elements (linux/netfilter/nf_tables.h).
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_ID: u16 = 10;
const ELEMENTS: u16 = 3;
/// NFT_SET_CONCAT
const CONCAT: u32 = 0x80;
/// Bytes of elements in one message, so that the nest's length fits 16 bits.
const NEST_MAX: usize = 32 * 1024;
/// How often the table is read anew because others change it.
const TRIES: u32 = 20;

/// A kind of objects: what asks for all of them, what makes one, and the attributes that make it again: the others
/// (its handle, its number of users) are the kernel's.
struct Kind {
    name: &'static str,
    get: u16,
    new: u16,
    /// Whether every kernel with nf_tables knows it.
    always: bool,
    kept: &'static [u16],
}

/// All kinds, in an order in which each needs only those before it. A set's elements follow it.
const KINDS: [Kind; 6] = [
    Kind { name: "table", get: msg::GETTABLE, new: msg::NEWTABLE, always: true, kept: &[2, 6] },
    Kind {
        name: "chain",
        get: msg::GETCHAIN,
        new: msg::NEWCHAIN,
        always: true,
        kept: &[3, 4, 5, 7, 8, 10, 12],
    },
    Kind { name: "object", get: msg::GETOBJ, new: msg::NEWOBJ, always: false, kept: &[2, 3, 4, 8] },
    Kind {
        name: "flowtable",
        get: msg::GETFLOWTABLE,
        new: msg::NEWFLOWTABLE,
        always: false,
        kept: &[2, 3, 7],
    },
    Kind {
        name: "set",
        get: msg::GETSET,
        new: msg::NEWSET,
        always: true,
        kept: &[2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18],
    },
    Kind { name: "rule", get: msg::GETRULE, new: msg::NEWRULE, always: true, kept: &[2, 4, 5, 7] },
];

/// What a table was at one moment: perhaps nothing.
pub struct Snapshot {
    txn: Txn,
}

impl Snapshot {
    /// Reads the table, and asks the kernel whether it would take it back.
    ///
    /// # Errors
    /// What could not be read, or what of the table the kernel would refuse.
    pub fn take(table: TableId) -> Result<Snapshot, TxnError> {
        let mut socket = NlSocket::open(Bus::Netfilter)?;
        let mut last: Option<Snapshot> = None;
        for _ in 0..TRIES {
            let before = query::generation(&mut socket)?;
            let mut this = Snapshot { txn: Txn::new(table, 4096) };
            rules::clear_into(&mut this.txn);
            this.read(&mut socket, &table)?;
            // Others may change their tables all the time: then ours is whole if it is the same twice.
            let same = last.as_ref().is_some_and(|last| last.txn.bytes() == this.txn.bytes());
            if same || query::generation(&mut socket)? == before {
                this.txn.check(&mut socket)?;
                return Ok(this);
            }
            last = Some(this);
        }
        Err(TxnError::Lost(Lost::Sys("netlink dump", Errno::EINTR)))
    }

    /// Whether there was no such table.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.txn.messages() == 2
    }

    /// Puts the table back as it was.
    ///
    /// # Errors
    /// What the kernel refused; then nothing was changed, and it may be tried again.
    pub fn restore(&mut self) -> Result<(), TxnError> {
        // A socket of its own: the copies of two processes would share one, and its answers.
        self.txn.commit_copy(&mut NlSocket::open(Bus::Netfilter)?)
    }

    fn read(&mut self, socket: &mut NlSocket, table: &TableId) -> Result<(), Lost> {
        for kind in &KINDS {
            let mut all = Copies::default();
            let read = all.dump(socket, table, (kind.get, None), &mut |attrs, out| {
                let kept = whole_attrs(attrs).filter(|(number, _)| kind.kept.contains(number));
                kept.for_each(|(_, whole)| out.extend_from_slice(whole));
            });
            match read {
                // Older kernels know neither objects nor flowtables.
                Err(Lost::Sys(_, Errno::EINVAL | Errno::EOPNOTSUPP)) if !kind.always => continue,
                read => read?,
            }
            for (number, object) in (1..).zip(all.iter()) {
                let is_set = kind.new == msg::NEWSET;
                self.txn.add_former((kind.name, number), kind.new, &mut |out| {
                    out.put(object);
                    // The kernel wants a number, though rules find their sets by name here, anonymous ones too.
                    if is_set {
                        out.attr_be32(SET_ID, number);
                    }
                });
                if is_set {
                    self.elements(socket, table, number, object)?;
                }
            }
        }
        Ok(())
    }

    fn elements(
        &mut self,
        socket: &mut NlSocket,
        table: &TableId,
        number: u32,
        set: &[u8],
    ) -> Result<(), Lost> {
        let name = attr(set, SET_NAME).unwrap_or_default();
        let mut all = Copies::default();
        all.dump(socket, table, (msg::GETSETELEM, Some(name)), &mut |attrs, out| {
            out.extend_from_slice(attr(attrs, ELEMENTS).unwrap_or_default());
        })?;
        let flags = attr(set, SET_FLAGS).and_then(be32).unwrap_or(0);
        let intervals = flags & (libc::NFT_SET_INTERVAL.cast_unsigned() | CONCAT);
        let mut each: Vec<&[u8]> = all.iter().flat_map(|m| whole_attrs(m).map(|(_, whole)| whole)).collect();
        if intervals == libc::NFT_SET_INTERVAL.cast_unsigned() {
            // The kernel tells the ends of intervals from the last to the first, and wants them the other way round.
            each.reverse();
        }
        let mut rest = each.as_slice();
        while !rest.is_empty() {
            let mut len = 0;
            let fits = rest.iter().take_while(|e| {
                len += e.len();
                len <= NEST_MAX
            });
            let (now, later) = rest.split_at(fits.count().max(1).min(rest.len()));
            self.txn.add_former(("elements of set", number), msg::NEWSETELEM, &mut |out| {
                out.attr(SET_NAME, name);
                let nest = out.nest(ELEMENTS);
                now.iter().for_each(|element| out.put(element));
                out.end(nest);
            });
            rest = later;
        }
        Ok(())
    }
}

/// Copied pieces, one behind the other.
#[derive(Default)]
struct Copies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Copies {
    /// Fills it with what `copy` takes of each object's attributes.
    fn dump(
        &mut self,
        socket: &mut NlSocket,
        table: &TableId,
        what: (u16, Option<&[u8]>),
        copy: &mut dyn FnMut(&[u8], &mut Vec<u8>),
    ) -> Result<(), Lost> {
        for _ in 0..TRIES {
            self.bytes.clear();
            self.ends.clear();
            let read = query::objects(socket, table, what, &mut |attrs| {
                copy(attrs, &mut self.bytes);
                self.ends.push(self.bytes.len());
            });
            if !query::disturbed(&read) {
                return read.map(drop);
            }
            socket.drain();
        }
        Err(Lost::Sys("netlink dump", Errno::EINTR))
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| self.bytes.get(start..end).unwrap_or_default())
    }
}
