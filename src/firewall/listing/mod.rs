#![forbid(unsafe_code)]
//! Tables, chains, sets and rules as the kernel has them at one moment, anybody's. Every answer is read as if it were
//! hostile; what is not understood is shown, never guessed.

mod act;
mod compat;
mod expr;
mod reader;
pub mod rule;
pub mod sets;

use super::nft::{TxnError, msg, query};
use super::rules;
use crate::base::name::Name;
use crate::base::range::Family;
use crate::plan::listed::{Base, Chain, Table};
use crate::plan::{Direction, Policy};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{Msg, MsgBuf, attr, be32};
use crate::sys::routes;
use expr::{Expr, shown, until_nul};
use mnl::Bus;
use nix::errno::Errno;

// NFTA_TABLE_*, NFTA_CHAIN_*, NFTA_RULE_*, NFTA_SET_*: the table's name is always the first.
const TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const SET_NAME: u16 = 2;
/// NFT_TABLE_F_DORMANT
const DORMANT: u32 = 1;
/// How often reading begins anew when others change something meanwhile.
const TRIES: u32 = 20;

/// A table on its way.
struct Draft {
    family: u8,
    name: Vec<u8>,
    dormant: bool,
    table: Table,
    sets: Vec<sets::Listed>,
    /// The names of the chains as the kernel has them, sorted, with their places.
    chains: Vec<(Vec<u8>, usize)>,
}

/// The tables that `wanted` says yes to, by the words for family and name, as they are at one moment.
///
/// # Errors
/// The system call or the kernel's error; EBUSY if others changed something again and again.
pub fn read(wanted: &dyn Fn(&str, &str) -> bool) -> Result<Vec<Table>, TxnError> {
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    for _ in 0..TRIES {
        let before = query::generation(&mut socket)?;
        let tables = read_once(&mut socket, wanted)?;
        if query::generation(&mut socket)? == before {
            return Ok(tables);
        }
    }
    Err(Lost::Sys("reading nf_tables", Errno::EBUSY).into())
}

/// The word for a family of tables.
#[must_use]
pub fn family_word(family: u8) -> &'static str {
    match i32::from(family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        libc::NFPROTO_ARP => "arp",
        libc::NFPROTO_BRIDGE => "bridge",
        libc::NFPROTO_NETDEV => "netdev",
        _ => "unknown",
    }
}

fn read_once(socket: &mut NlSocket, wanted: &dyn Fn(&str, &str) -> bool) -> Result<Vec<Table>, TxnError> {
    let mut drafts = tables(socket, wanted)?;
    // Ours first: its sets keep their names.
    drafts.sort_by_key(|draft| !draft.table.ours);
    let mut used: Vec<Name> = Vec::new();
    for draft in &mut drafts {
        read_sets(socket, draft, &mut used)?;
    }
    for draft in &mut drafts {
        read_chains(socket, draft)?;
        read_rules(socket, draft)?;
    }
    Ok(drafts.into_iter().map(|draft| draft.table).collect())
}

/// The attributes of a message behind `nfgenmsg`, and its family.
fn body<'a>(m: &Msg<'a>) -> (u8, &'a [u8]) {
    (m.payload.first().copied().unwrap_or(0), m.payload.get(4..).unwrap_or_default())
}

#[inline(never)]
fn tables(socket: &mut NlSocket, wanted: &dyn Fn(&str, &str) -> bool) -> Result<Vec<Draft>, Lost> {
    let found = std::cell::RefCell::new(Vec::new());
    query::dump(socket, 0, msg::GETTABLE, &|_| (), &mut || found.borrow_mut().clear(), &mut |m| {
        let (family, body) = body(&m);
        let name = attr(body, TABLE).map(until_nul).unwrap_or_default();
        let (word, text) = (family_word(family), shown(name));
        if !wanted(word, &text) {
            return;
        }
        let table = Table {
            title: [word, " ", &text].concat(),
            family: match i32::from(family) {
                libc::NFPROTO_IPV4 => Some(Family::V4),
                libc::NFPROTO_IPV6 => Some(Family::V6),
                _ => None,
            },
            ours: family == rules::TABLE.family && text == rules::TABLE.name.as_str(),
            ..Table::default()
        };
        let dormant = Expr(body).or_0(TABLE_FLAGS) & DORMANT != 0;
        let name = name.to_vec();
        found.borrow_mut().push(Draft { family, name, dormant, table, sets: Vec::new(), chains: Vec::new() });
    })?;
    Ok(found.into_inner())
}

/// Names a table, as a question does.
fn of_table<'a>(draft: &'a Draft) -> impl Fn(&mut MsgBuf) + 'a {
    |buf| buf.attr(TABLE, &[draft.name.as_slice(), &[0]].concat())
}

#[inline(never)]
fn read_sets(socket: &mut NlSocket, draft: &mut Draft, used: &mut Vec<Name>) -> Result<(), Lost> {
    let found = std::cell::RefCell::new(Vec::new());
    let (name, ours) = (draft.name.clone(), draft.table.ours);
    query::dump(
        socket,
        draft.family,
        msg::GETSET,
        &of_table(draft),
        &mut || found.borrow_mut().clear(),
        &mut |m| {
            found.borrow_mut().extend(sets::set(body(&m).1, &name, ours));
        },
    )?;
    for mut set in found.into_inner() {
        if set.is_list() {
            let name = set.name.clone();
            let cell = std::cell::RefCell::new(&mut set);
            let ask_name = |buf: &mut MsgBuf| {
                of_table(draft)(buf);
                buf.attr(SET_NAME, &[name.as_slice(), &[0]].concat());
            };
            query::dump(
                socket,
                draft.family,
                msg::GETSETELEM,
                &ask_name,
                &mut || cell.borrow_mut().clear(),
                &mut |m| {
                    sets::elements(body(&m).1, &mut cell.borrow_mut());
                },
            )?;
            sets::finish(&mut set);
        }
        draft.sets.push(set);
    }
    for set in draft.sets.iter_mut().filter(|set| !set.anonymous()) {
        if matches!(set.content, sets::Content::Buckets(_)) {
            continue;
        }
        match sets::named(set, ours, used) {
            Ok(made) => draft.table.sets.push(made),
            Err(why) => draft.table.unsaid.push((sets::title(set, &draft.table.title), why)),
        }
    }
    draft.sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

#[inline(never)]
fn read_chains(socket: &mut NlSocket, draft: &mut Draft) -> Result<(), Lost> {
    let found = std::cell::RefCell::new(Vec::new());
    query::dump(
        socket,
        draft.family,
        msg::GETCHAIN,
        &|_| (),
        &mut || found.borrow_mut().clear(),
        &mut |m| {
            let (_, body) = body(&m);
            if attr(body, TABLE).map(until_nul) == Some(&draft.name) {
                let name = attr(body, CHAIN_NAME).map(until_nul).unwrap_or_default();
                let chain = Chain { name: shown(name), base: base(draft, body), rules: Vec::new() };
                found.borrow_mut().push((name.to_vec(), chain));
            }
        },
    )?;
    for (at, (name, chain)) in found.into_inner().into_iter().enumerate() {
        draft.chains.push((name, at));
        draft.table.chains.push(chain);
    }
    draft.chains.sort_unstable();
    Ok(())
}

/// Where a chain hangs.
#[inline(never)]
fn base(draft: &Draft, chain: &[u8]) -> Base {
    let Some(hook) = attr(chain, CHAIN_HOOK).map(Expr) else { return Base::None };
    let kind = attr(chain, CHAIN_TYPE).map(until_nul).unwrap_or_default();
    let (number, priority) = (hook.or_0(1), hook.or_0(2).cast_signed());
    let directions = [None, Some(Direction::In), Some(Direction::Fwd), Some(Direction::Out)];
    let direction = directions.get(number as usize).copied().flatten();
    let policy = attr(chain, CHAIN_POLICY).and_then(be32);
    let policy = if policy == Some(libc::NF_DROP.cast_unsigned()) { Policy::Drop } else { Policy::Accept };
    let devices = hook.bytes(3).is_some() || hook.bytes(4).is_some();
    let known =
        matches!(i32::from(draft.family), libc::NFPROTO_INET | libc::NFPROTO_IPV4 | libc::NFPROTO_IPV6);
    match direction {
        _ if draft.dormant => Base::Other("the table is dormant".into()),
        Some(direction) if known && kind == b"filter" && !devices => {
            Base::Filter(direction, priority, policy)
        }
        _ => {
            let hooks = ["prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"];
            let (word, name) = match hooks.get(number as usize) {
                Some(name) if known => (" hook ", *name),
                _ => (" in family ", family_word(draft.family)),
            };
            Base::Other(["type ", &shown(kind), word, name].concat())
        }
    }
}

#[inline(never)]
fn read_rules(socket: &mut NlSocket, draft: &mut Draft) -> Result<(), Lost> {
    let context =
        rule::Context { family: draft.table.family, sets: &draft.sets, interface: routes::interface };
    let (name, chains) = (&draft.name, &draft.chains);
    let ask = |buf: &mut MsgBuf| buf.attr(TABLE, &[name.as_slice(), &[0]].concat());
    let to = std::cell::RefCell::new(&mut draft.table.chains);
    let mut restart = || to.borrow_mut().iter_mut().for_each(|chain| chain.rules.clear());
    query::dump(socket, draft.family, msg::GETRULE, &ask, &mut restart, &mut |m| {
        let (_, body) = body(&m);
        let chain = attr(body, RULE_CHAIN).map(until_nul).unwrap_or_default();
        let at = chains.binary_search_by(|(known, _)| known.as_slice().cmp(chain)).ok();
        let at = at.and_then(|at| chains.get(at)).map(|(_, at)| *at);
        let of = attr(body, TABLE).map(until_nul);
        let mut chains = to.borrow_mut();
        if let Some(chain) = at.filter(|_| of == Some(name)).and_then(|at| chains.get_mut(at)) {
            let bytes = |kind| attr(body, kind).unwrap_or_default();
            chain.rules.push(rule::read(&context, bytes(RULE_EXPRESSIONS), bytes(RULE_USERDATA)));
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
