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
    kept: &'static [u16],
}

/// All kinds, in an order in which each needs only those before it. A set's elements follow it.
const KINDS: [Kind; 6] = [
    Kind { name: "table", get: msg::GETTABLE, new: msg::NEWTABLE, kept: &[2, 6] },
    Kind { name: "chain", get: msg::GETCHAIN, new: msg::NEWCHAIN, kept: &[3, 4, 5, 7, 8, 10, 12] },
    Kind { name: "object", get: msg::GETOBJ, new: msg::NEWOBJ, kept: &[2, 3, 4, 8] },
    Kind { name: "flowtable", get: msg::GETFLOWTABLE, new: msg::NEWFLOWTABLE, kept: &[2, 3, 7] },
    Kind {
        name: "set",
        get: msg::GETSET,
        new: msg::NEWSET,
        kept: &[2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18],
    },
    Kind { name: "rule", get: msg::GETRULE, new: msg::NEWRULE, kept: &[2, 4, 5, 7] },
];

/// What a table was at one moment: perhaps nothing.
pub struct Snapshot {
    socket: NlSocket,
    txn: Txn,
}

impl Snapshot {
    /// Reads the table, and asks the kernel whether it would take it back.
    ///
    /// # Errors
    /// What could not be read, or what of the table the kernel would refuse.
    pub fn take(table: TableId) -> Result<Snapshot, TxnError> {
        let mut this = Snapshot { socket: NlSocket::open(Bus::Netfilter)?, txn: Txn::new(table, 4096) };
        for _ in 0..TRIES {
            let before = query::generation(&mut this.socket)?;
            this.txn.clear();
            rules::clear_into(&mut this.txn);
            let read = this.read(&table);
            if query::disturbed(&read) {
                this.socket.drain();
                continue;
            }
            read?;
            if query::generation(&mut this.socket)? == before {
                this.txn.check(&mut this.socket)?;
                return Ok(this);
            }
        }
        Err(TxnError::Lost(Lost::Sys("netlink dump", Errno::EINTR)))
    }

    /// Puts the table back as it was.
    ///
    /// # Errors
    /// What the kernel refused; then nothing was changed, and it may be tried again.
    pub fn restore(&mut self) -> Result<(), TxnError> {
        self.txn.commit_copy(&mut self.socket)
    }

    fn read(&mut self, table: &TableId) -> Result<(), Lost> {
        for kind in &KINDS {
            let mut all = Copies::default();
            all.dump(&mut self.socket, table, (kind.get, None), &mut |attrs, out| {
                let kept = whole_attrs(attrs).filter(|(number, _)| kind.kept.contains(number));
                kept.for_each(|(_, whole)| out.extend_from_slice(whole));
            })?;
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
                    self.elements(table, number, object)?;
                }
            }
        }
        Ok(())
    }

    fn elements(&mut self, table: &TableId, number: u32, set: &[u8]) -> Result<(), Lost> {
        let name = attr(set, SET_NAME).unwrap_or_default();
        let mut all = Copies::default();
        all.dump(&mut self.socket, table, (msg::GETSETELEM, Some(name)), &mut |attrs, out| {
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
        query::objects(socket, table, what, &mut |attrs| {
            copy(attrs, &mut self.bytes);
            self.ends.push(self.bytes.len());
        })
        .map(drop)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| self.bytes.get(start..end).unwrap_or_default())
    }
}
