#![forbid(unsafe_code)]
//! Messages that add or delete set elements. Our own, since a set's elements come in their thousands:
//! nothing is allocated for one, and no message outgrows its 16-bit lengths.

use super::{UDATA_ELEM_COMMENT, comment_udata};
use crate::base::name::Name;
use crate::sys::nlattr::{MsgBuf, Open, attr, attrs, be32, be64, text};

/// Elements of one message take at most this many bytes, so that the nest's length fits 16 bits.
const NEST_MAX: usize = 60 * 1024;

/// NFTA_SET_ELEM_LIST_SET
pub const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_SET_ID: u16 = 4;
const NESTED_ELEM: u16 = 1;
const ELEM_KEY: u16 = 1;
const ELEM_FLAGS: u16 = 3;
const ELEM_TIMEOUT: u16 = 4;
const ELEM_EXPIRATION: u16 = 5;
const ELEM_USERDATA: u16 = 6;
const ELEM_EXPR: u16 = 7;
const ELEM_EXPRESSIONS: u16 = 11;
const DATA_VALUE: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const COUNTER_PACKETS: u16 = 2;
/// NFT_SET_ELEM_INTERVAL_END
const INTERVAL_END: u32 = 1;

/// When an element goes by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// The set has no timeouts, or the element is to be deleted.
    None,
    /// Milliseconds from now, 0 = never. Told explicitly, with the expiration, so that an element that
    /// is there already is prolonged (Linux 6.12).
    Ms(u64),
    /// Likewise of an element that was given `total` ms some time ago (Linux 5.3; older ones take what is
    /// left for all).
    Left {
        /// ms
        total: u64,
        /// ms, at least 1
        left: u64,
    },
}

/// Whether an element counts what matches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElemCounter {
    /// It has a counter of its own.
    Own,
    /// It counts nothing.
    None,
}

/// An element as it is sent.
#[derive(Clone, Copy)]
pub struct Elem<'a> {
    /// The key's bytes in network order.
    pub key: &'a [u8],
    /// The first key behind the interval, without one if it reaches the last; only for interval sets.
    pub end: Option<&'a [u8]>,
    /// When it goes.
    pub timeout: Timeout,
    /// Shown by `nft list` and by `mef bans`; empty = none.
    pub comment: &'a str,
}

/// The open content of a message of elements of one set.
pub struct ElemMsg {
    nest: Open,
    from: usize,
}

impl ElemMsg {
    /// Begins the content of a message in which the headers and the table's name stand already.
    /// `id` is the set's number in the transaction that adds it; 0 = it was there before.
    pub fn open(out: &mut MsgBuf, set: &Name, id: u32) -> ElemMsg {
        out.attr_str(LIST_SET, set.as_str());
        if id > 0 {
            out.attr_be32(LIST_SET_ID, id);
        }
        let nest = out.nest(LIST_ELEMENTS);
        ElemMsg { nest, from: out.len() }
    }

    /// Whether another element fits.
    #[must_use]
    pub fn has_room(&self, out: &MsgBuf) -> bool {
        out.len() - self.from < NEST_MAX
    }

    /// Appends an element, with a counter of its own if it has one (Linux 5.7; older ones pass it over).
    pub fn push(&self, out: &mut MsgBuf, elem: &Elem<'_>, counter: ElemCounter) {
        let open = out.nest(NESTED_ELEM);
        put_key(out, elem.key);
        let times = match elem.timeout {
            Timeout::None => None,
            Timeout::Ms(ms) => Some((ms, ms)),
            Timeout::Left { total, left } => Some((total, left)),
        };
        if let Some((total, left)) = times {
            out.attr_be64(ELEM_TIMEOUT, total);
            if left > 0 {
                out.attr_be64(ELEM_EXPIRATION, left);
            }
        }
        if !elem.comment.is_empty() {
            out.attr(ELEM_USERDATA, &comment_udata(UDATA_ELEM_COMMENT, elem.comment));
        }
        if counter == ElemCounter::Own {
            let expr = out.nest(ELEM_EXPR);
            out.attr_str(EXPR_NAME, "counter");
            out.end(expr);
        }
        out.end(open);
        if let Some(end) = elem.end {
            let open = out.nest(NESTED_ELEM);
            put_key(out, end);
            out.attr_be32(ELEM_FLAGS, INTERVAL_END);
            out.end(open);
        }
    }

    /// Closes the content; the message itself is the caller's.
    pub fn close(self, out: &mut MsgBuf) {
        out.end(self.nest);
    }
}

fn put_key(out: &mut MsgBuf, key: &[u8]) {
    let nest = out.nest(ELEM_KEY);
    out.attr(DATA_VALUE, key);
    out.end(nest);
}

/// An element as the kernel tells it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct ListedElem<'a> {
    /// The key's bytes in network order.
    pub key: &'a [u8],
    /// Whether this is the first key behind an interval.
    pub is_end: bool,
    /// The whole time it was given, ms; 0 = it stays.
    pub timeout_ms: u64,
    /// The time it has left, ms.
    pub left_ms: u64,
    /// Packets that its own counter counted.
    pub packets: Option<u64>,
    /// Its comment.
    pub comment: &'a str,
}

/// The elements of a NEWSETELEM message (its payload behind `nfgenmsg`).
pub fn found(payload: &[u8]) -> impl Iterator<Item = ListedElem<'_>> {
    let list = attr(payload, LIST_ELEMENTS).unwrap_or_default();
    attrs(list).filter_map(|(_, e)| {
        let mut f =
            ListedElem { key: &[], is_end: false, timeout_ms: 0, left_ms: 0, packets: None, comment: "" };
        for (kind, data) in attrs(e) {
            match kind {
                ELEM_KEY => f.key = attr(data, DATA_VALUE).unwrap_or_default(),
                ELEM_FLAGS => f.is_end = be32(data).unwrap_or(0) & INTERVAL_END != 0,
                ELEM_TIMEOUT => f.timeout_ms = be64(data).unwrap_or(0),
                ELEM_EXPIRATION => f.left_ms = be64(data).unwrap_or(0),
                ELEM_USERDATA => f.comment = super::udata_comment(data, UDATA_ELEM_COMMENT).unwrap_or(""),
                ELEM_EXPR => f.packets = counted(data),
                ELEM_EXPRESSIONS => f.packets = attrs(data).find_map(|(_, x)| counted(x)),
                _ => {}
            }
        }
        (!f.key.is_empty()).then_some(f)
    })
}

/// The set's name in a message of elements.
#[must_use]
pub fn set_name(payload: &[u8]) -> Option<&str> {
    attr(payload, LIST_SET).and_then(text)
}

/// Packets that the counters among the expressions of a rule have counted.
#[must_use]
pub fn packets_of(expressions: &[u8]) -> u64 {
    let is_counter = |expr: &&[u8]| attr(expr, EXPR_NAME).and_then(text) == Some("counter");
    attrs(expressions).map(|(_, expr)| expr).filter(is_counter).filter_map(counted).sum()
}

fn counted(expr: &[u8]) -> Option<u64> {
    attr(attr(expr, EXPR_DATA)?, COUNTER_PACKETS).and_then(be64)
}
