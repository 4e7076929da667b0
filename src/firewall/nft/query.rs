#![forbid(unsafe_code)]
//! Questions to nf_tables: one object, or a dump that is whole (one generation) or repeated.

use super::{TableId, UDATA_SET_COMMENT, UDATA_SET_MORE, elem, message, msg, udata_comment};
use crate::base::name::Name;
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{self, ACK, DUMP, DUMP_INTR, Msg, MsgBuf, NLMSG_DONE, REQUEST, attr, be32, be64};
use mnl::Bus;
use nix::errno::Errno;

const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_USERDATA: u16 = 13;
const SET_HANDLE: u16 = 16;
/// NFTA_SET_COUNT
const SET_COUNT: u16 = 20;
/// NFTA_GEN_ID
const GEN_ID: u16 = 1;
/// What fails when the kernel says no to a question.
pub(in crate::firewall) const QUERY: &str = "netlink question";
/// Questions that are asked in one go: the answer to each may take 8 kB of the socket's room.
const QUESTIONS: usize = 16;
/// How often a dump that others disturb is begun anew. Each lasts milliseconds.
const REDUMPS_MAX: u32 = 50;

/// What is known of a set.
pub struct SetInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// `NFT_SET_*`
    pub flags: u32,
    /// Its comment.
    pub comment: &'a str,
    /// What of that has its place elsewhere.
    pub more: &'a str,
    /// The number that it has in its table; none that comes later has a smaller one. 0 before Linux 4.16.
    pub handle: u64,
    /// How many elements it has (Linux 6.16 and newer tell it).
    pub count: Option<u32>,
}

/// Asks for one set; `Ok(false)` if the set or its table is not there.
///
/// # Errors
/// The system call or the kernel's error.
pub fn set(
    socket: &mut NlSocket,
    table: &TableId,
    name: &Name,
    each: &mut dyn FnMut(SetInfo<'_>),
) -> Result<bool, Lost> {
    let ask = |buf: &mut MsgBuf| {
        buf.attr_str(SET_TABLE, table.name.as_str());
        buf.attr_str(SET_NAME, name.as_str());
    };
    exchange(socket, table.family, (msg::GETSET, ACK), &ask, &mut || (), &mut |m| set_info(m, each))
}

/// All sets of a table, at least once each (a disturbed dump is repeated from its start).
///
/// # Errors
/// As `set`.
pub fn sets(socket: &mut NlSocket, table: &TableId, each: &mut dyn FnMut(SetInfo<'_>)) -> Result<bool, Lost> {
    sets_once(socket, table, &mut || (), each)
}

/// Likewise, each once: `restart` is called when the dump begins anew.
///
/// # Errors
/// As `set`.
pub fn sets_once(
    socket: &mut NlSocket,
    table: &TableId,
    restart: &mut dyn FnMut(),
    each: &mut dyn FnMut(SetInfo<'_>),
) -> Result<bool, Lost> {
    let ask = |buf: &mut MsgBuf| buf.attr_str(SET_TABLE, table.name.as_str());
    exchange(socket, table.family, (msg::GETSET, DUMP), &ask, restart, &mut |m| set_info(m, each))
}

fn set_info(m: Msg<'_>, each: &mut dyn FnMut(SetInfo<'_>)) {
    let body = m.payload.get(4..).unwrap_or_default();
    let Some(name) = attr(body, SET_NAME).and_then(nlattr::text) else { return };
    let flags = attr(body, SET_FLAGS).and_then(be32).unwrap_or(0);
    let text = |kind| attr(body, SET_USERDATA).and_then(|u| udata_comment(u, kind)).unwrap_or("");
    let (comment, more) = (text(UDATA_SET_COMMENT), text(UDATA_SET_MORE));
    let handle = attr(body, SET_HANDLE).and_then(be64).unwrap_or(0);
    let count = attr(body, SET_COUNT).and_then(be32);
    each(SetInfo { name, flags, comment, more, handle, count });
}

/// All elements of a set, at least once each. `restart` is called when a dump begins anew, so that what
/// was collected can be thrown away.
///
/// # Errors
/// As `set`.
pub fn elements(
    socket: &mut NlSocket,
    table: &TableId,
    name: &Name,
    restart: &mut dyn FnMut(),
    each: &mut dyn FnMut(elem::ListedElem<'_>),
) -> Result<bool, Lost> {
    let ask = |buf: &mut MsgBuf| {
        buf.attr_str(SET_TABLE, table.name.as_str());
        buf.attr_str(SET_NAME, name.as_str());
    };
    exchange(socket, table.family, (msg::GETSETELEM, DUMP), &ask, restart, &mut |m| {
        elem::found(m.payload.get(4..).unwrap_or_default()).for_each(&mut *each);
    })
}

/// Whether a set that is there has no element, however many it may have: only the beginning of the answer is
/// waited for, on a socket of its own.
///
/// # Errors
/// As `set`.
pub fn is_empty(table: &TableId, name: &Name) -> Result<bool, Lost> {
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    let seq = socket.next_seq();
    let mut buf = MsgBuf::with_capacity(128);
    let open = buf.start(message(msg::GETSETELEM), REQUEST | DUMP, seq);
    buf.put(&[table.family, 0, 0, 0]);
    buf.attr_str(SET_TABLE, table.name.as_str());
    buf.attr_str(SET_NAME, name.as_str());
    buf.finish(open);
    socket.send(buf.bytes())?;
    let (mut has_any, mut is_over) = (false, false);
    while !has_any && !is_over {
        socket.receive(&mut |m| {
            is_over |= m.errno().is_some() || m.kind == NLMSG_DONE;
            has_any |= !is_over && elem::found(m.payload.get(4..).unwrap_or_default()).next().is_some();
        })?;
    }
    Ok(!has_any)
}

/// Asks for the element that equals `key` (or, in an interval set, the interval that holds it).
///
/// # Errors
/// As `set`.
pub fn element(
    socket: &mut NlSocket,
    table: &TableId,
    name: &Name,
    key: &[u8],
    each: &mut dyn FnMut(elem::ListedElem<'_>),
) -> Result<bool, Lost> {
    let ask = |buf: &mut MsgBuf| key_of(buf, table, name, key);
    exchange(socket, table.family, (msg::GETSETELEM, ACK), &ask, &mut || (), &mut |m| {
        elem::found(m.payload.get(4..).unwrap_or_default()).for_each(&mut *each);
    })
}

/// Which of the keys a set has (or, an interval set, intervals that hold them), in any order. Many are asked
/// in one go: a question alone costs more than its answer.
///
/// # Errors
/// As `set`.
pub fn present(
    socket: &mut NlSocket,
    table: &TableId,
    name: &Name,
    keys: &[&[u8]],
) -> Result<Vec<usize>, Lost> {
    let mut found = Vec::new();
    for (number, part) in keys.chunks(QUESTIONS).enumerate() {
        let first = number * QUESTIONS;
        let mut tries = 0;
        loop {
            let result = present_at_once(socket, table, name, part);
            tries += 1;
            if tries < REDUMPS_MAX && disturbed(&result) {
                socket.drain();
                continue;
            }
            found.extend(result?.into_iter().map(|at| first + at));
            break;
        }
    }
    Ok(found)
}

fn present_at_once(
    socket: &mut NlSocket,
    table: &TableId,
    name: &Name,
    keys: &[&[u8]],
) -> Result<Vec<usize>, Lost> {
    let mut buf = MsgBuf::with_capacity(keys.len() * 96);
    let mut first = None;
    for key in keys {
        let seq = socket.next_seq();
        first.get_or_insert(seq);
        let open = buf.start(message(msg::GETSETELEM), REQUEST | ACK, seq);
        buf.put(&[table.family, 0, 0, 0]);
        key_of(&mut buf, table, name, key);
        buf.finish(open);
    }
    let Some(first) = first else { return Ok(Vec::new()) };
    socket.send(buf.bytes())?;
    let (mut found, mut answers, mut refused) = (Vec::new(), 0, None);
    while answers < keys.len() {
        socket.receive(&mut |m| {
            let at = usize::try_from(m.seq.wrapping_sub(first)).unwrap_or(usize::MAX);
            let Some(errno) = m.errno().filter(|_| at < keys.len()) else { return };
            answers += 1;
            match Errno::from_raw(errno) {
                Errno::ENOENT => {}
                _ if errno == 0 => found.push(at),
                other => refused = Some(other),
            }
        })?;
    }
    refused.map_or(Ok(found), |errno| Err(Lost::Sys(QUERY, errno)))
}

fn key_of(buf: &mut MsgBuf, table: &TableId, name: &Name, key: &[u8]) {
    buf.attr_str(SET_TABLE, table.name.as_str());
    let content = elem::ElemMsg::open(buf, name, 0);
    content.push(
        buf,
        &elem::Elem { key, end: None, timeout: elem::Timeout::None, comment: "" },
        elem::ElemCounter::None,
    );
    content.close(buf);
}

/// All objects of a kind (`NFT_MSG_GET*`) of a family, 0 = of all, as messages; `ask` says of which table or
/// set. `restart` is called when the dump begins anew. `Ok(false)` if the table or set is not there.
///
/// # Errors
/// As `set`.
pub fn dump(
    socket: &mut NlSocket,
    family: u8,
    kind: u16,
    ask: &dyn Fn(&mut MsgBuf),
    restart: &mut dyn FnMut(),
    each: &mut dyn FnMut(Msg<'_>),
) -> Result<bool, Lost> {
    exchange(socket, family, (kind, DUMP), ask, restart, each)
}

/// The number of the generation of all tables, which every change makes another one.
///
/// # Errors
/// As `set`.
pub fn generation(socket: &mut NlSocket) -> Result<u32, Lost> {
    let mut id = 0;
    exchange(socket, 0, (msg::GETGEN, ACK), &|_| (), &mut || (), &mut |m| {
        id = m.payload.get(4..).and_then(|body| attr(body, GEN_ID)).and_then(be32).unwrap_or(0);
    })?;
    Ok(id)
}

/// All objects of one kind in a table, each as the attributes of its message; `kind` is `NFT_MSG_GET*`, and
/// `set` names the one whose elements are meant. `restart` is called when the dump begins anew.
///
/// # Errors
/// As `set`.
pub fn objects(
    socket: &mut NlSocket,
    table: &TableId,
    (kind, set): (u16, Option<&[u8]>),
    restart: &mut dyn FnMut(),
    each: &mut dyn FnMut(&[u8]),
) -> Result<bool, Lost> {
    let ask = |buf: &mut MsgBuf| {
        // Tables are not looked for in a table.
        if kind != msg::GETTABLE {
            buf.attr_str(SET_TABLE, table.name.as_str());
        }
        if let Some(set) = set {
            buf.attr(SET_NAME, set);
        }
    };
    exchange(socket, table.family, (kind, DUMP), &ask, restart, &mut |m| {
        // Not every dump heeds the table.
        let body = m.payload.get(4..).unwrap_or_default();
        let name = attr(body, SET_TABLE).and_then(nlattr::text);
        if m.payload.first() == Some(&table.family) && name == Some(table.name.as_str()) {
            each(body);
        }
    })
}

/// Asks until it is answered as a whole; `kind` is `NFT_MSG_*` and `NLM_F_*`.
fn exchange(
    socket: &mut NlSocket,
    family: u8,
    kind: (u16, u16),
    ask: &dyn Fn(&mut MsgBuf),
    restart: &mut dyn FnMut(),
    each: &mut dyn FnMut(Msg<'_>),
) -> Result<bool, Lost> {
    let mut tries = 0;
    loop {
        restart();
        let result = one_exchange(socket, family, kind, ask, each);
        tries += 1;
        if tries == REDUMPS_MAX || !disturbed(&result) {
            return result;
        }
        socket.drain();
    }
}

/// Whether another commit came between, or answers were lost: both are cured by asking again.
fn disturbed<T>(result: &Result<T, Lost>) -> bool {
    matches!(result, Err(Lost::Overrun | Lost::Sys(_, Errno::EINTR | Errno::EAGAIN)))
}

/// One question. A dump ends with NLMSG_DONE, a question for one object with its acknowledgement.
fn one_exchange(
    socket: &mut NlSocket,
    family: u8,
    (kind, flags): (u16, u16),
    ask: &dyn Fn(&mut MsgBuf),
    each: &mut dyn FnMut(Msg<'_>),
) -> Result<bool, Lost> {
    let seq = socket.next_seq();
    let mut buf = MsgBuf::with_capacity(128);
    let open = buf.start(message(kind), REQUEST | flags, seq);
    buf.put(&[family, 0, 0, 0]);
    ask(&mut buf);
    buf.finish(open);
    socket.send(buf.bytes())?;
    let (mut end, mut torn) = (None, false);
    while end.is_none() {
        socket.receive(&mut |m| {
            if m.seq != seq || end.is_some() {
                return;
            }
            torn |= m.flags & DUMP_INTR != 0 && flags & DUMP != 0;
            match m.errno() {
                Some(errno) => end = Some(errno),
                None if m.kind == NLMSG_DONE => end = Some(0),
                None => each(m),
            }
        })?;
    }
    match end.map(Errno::from_raw) {
        Some(Errno::ENOENT) => Ok(false),
        _ if torn => Err(Lost::Sys("netlink dump", Errno::EINTR)),
        Some(errno) if errno as i32 != 0 => Err(Lost::Sys(QUERY, errno)),
        _ => Ok(true),
    }
}
