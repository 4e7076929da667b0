#![forbid(unsafe_code)]
//! Tables, chains, sets and rules as the kernel has them at one moment, anybody's. Every answer is read as if
//! it were hostile; what is not understood is shown, never guessed.

mod act;
mod compat;
mod expr;
mod reader;
pub mod rule;
pub mod sets;

use super::nft::{TxnError, msg, query, rule_attr};
use super::tables::{BRIDGES, RULES};
use super::trial;
use crate::base::name::Name;
use crate::base::range::Family;
use crate::plan::listed::{ChainBase, DROPS, ListedChain, ListedTable};
use crate::plan::{Direction, Policy, Set, TableOf};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{MsgBuf, attr, be32};
use crate::sys::routes;
use expr::{ListedExpr, shown, until_nul};
use mnl::Bus;
use nix::errno::Errno;
use sets::SetOwner;

// NFTA_TABLE_*, NFTA_CHAIN_*, NFTA_RULE_*, NFTA_SET_*: the table's name is always the first.
const TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const SET_NAME: u16 = 2;
/// NFT_TABLE_F_DORMANT
const DORMANT: u32 = 1;
/// How often reading begins anew when others change something meanwhile.
const REREADS_MAX: u32 = 20;

/// A table on its way.
struct Draft {
    family: u8,
    name: Vec<u8>,
    dormant: bool,
    table: ListedTable,
    sets: Vec<sets::ListedSet>,
    /// The names of the chains as the kernel has them, sorted, with their places.
    chains: Vec<(Vec<u8>, usize)>,
    /// The trial whose objects stand among those of ours, and are passed over: it is the previous rules that
    /// are read.
    trial: Option<Name>,
}

impl Draft {
    /// What its chains see.
    fn of(&self) -> TableOf {
        if self.family == BRIDGES.family { TableOf::Frames } else { TableOf::Packets }
    }

    fn is_of_trial(&self, name: &[u8]) -> bool {
        self.trial.is_some_and(|trial| std::str::from_utf8(name).is_ok_and(|name| trial::is_of(&trial, name)))
    }
}

/// How much of tables is read. The kernel takes long to list large sets, and begins anew when somebody is
/// banned meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingScope {
    /// All of them.
    Whole,
    /// All but the elements of those large sets of ours that say themselves what is in them.
    ButLargeSets,
    /// Of tables of ours no elements of sets, and of the rules those that no statement was made to.
    OfOthers,
}

/// The tables that `wanted` says yes to, by the words for family and name, as they are at one moment.
///
/// # Errors
/// The system call or the kernel's error; EBUSY if others changed something again and again.
pub fn read(wanted: &dyn Fn(&str, &str) -> bool, scope: ListingScope) -> Result<Vec<ListedTable>, TxnError> {
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    for _ in 0..REREADS_MAX {
        let before = query::generation(&mut socket)?;
        let tables = read_once(&mut socket, wanted, scope)?;
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

fn read_once(
    socket: &mut NlSocket,
    wanted: &dyn Fn(&str, &str) -> bool,
    scope: ListingScope,
) -> Result<Vec<ListedTable>, TxnError> {
    let mut drafts = tables(socket, wanted)?;
    let mut used: Vec<Name> = Vec::new();
    for draft in &mut drafts {
        // Those of our rules for frames are the same as those of our rules for packets.
        let mut own = Vec::new();
        let apart = draft.table.ours && draft.of() == TableOf::Frames;
        read_sets(socket, draft, scope, if apart { &mut own } else { &mut used })?;
    }
    for draft in &mut drafts {
        read_chains(socket, draft)?;
        read_rules(socket, draft, scope)?;
    }
    Ok(joined(drafts))
}

/// The tables; what we have for frames stands with what we have for packets.
fn joined(mut drafts: Vec<Draft>) -> Vec<ListedTable> {
    let frames = drafts.iter().position(|draft| draft.table.ours && draft.of() == TableOf::Frames);
    if let Some(at) = frames.filter(|at| *at > 0)
        && drafts.first().is_some_and(|draft| draft.table.ours)
    {
        let frames = drafts.remove(at).table;
        if let Some(packets) = drafts.first_mut() {
            packets.table.chains.extend(frames.chains);
            packets.table.unsaid.extend(frames.unsaid);
            // They were made the same, and are one for people.
            let other = |set: &Set| {
                let known = packets.table.sets.iter().find(|known| known.name == set.name);
                known.is_none_or(|known| known.elements != set.elements)
            };
            let others = frames.sets.iter().filter(|set| other(set));
            let title = |set: &Set| ["set ", set.name.as_str(), " of table ", &frames.title].concat();
            let why = "another one than that of table inet mef";
            let all: Vec<_> = others.map(|set| (title(set), why.to_owned())).collect();
            packets.table.unsaid.extend(all);
        }
    }
    drafts.into_iter().map(|draft| draft.table).collect()
}

/// The attributes of all objects of a kind behind `nfgenmsg`, with their families; `names` are those of the
/// table and the set that are asked for. They are copied: a dump may begin anew.
fn objects(
    socket: &mut NlSocket,
    family: u8,
    kind: u16,
    names: &[&[u8]],
) -> Result<Vec<(u8, Vec<u8>)>, Lost> {
    objects_where(socket, family, kind, names, &|_| true)
}

/// Those of them that are wanted.
fn objects_where(
    socket: &mut NlSocket,
    family: u8,
    kind: u16,
    names: &[&[u8]],
    wanted: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<(u8, Vec<u8>)>, Lost> {
    let found = std::cell::RefCell::new(Vec::new());
    let ask = |buf: &mut MsgBuf| {
        for (kind, name) in [TABLE, SET_NAME].into_iter().zip(names) {
            buf.attr(kind, &[*name, &[0]].concat());
        }
    };
    query::dump(socket, family, kind, &ask, &mut || found.borrow_mut().clear(), &mut |m| {
        let family = m.payload.first().copied().unwrap_or(0);
        let body = m.payload.get(4..).unwrap_or_default();
        if wanted(body) {
            found.borrow_mut().push((family, body.to_vec()));
        }
    })?;
    Ok(found.into_inner())
}

/// A name in the attributes of an object.
fn name(body: &[u8], kind: u16) -> &[u8] {
    until_nul(attr(body, kind).unwrap_or_default())
}

/// The tables, ours first: its sets keep their names.
#[inline(never)]
fn tables(socket: &mut NlSocket, wanted: &dyn Fn(&str, &str) -> bool) -> Result<Vec<Draft>, Lost> {
    let mut drafts = Vec::new();
    for (family, body) in objects(socket, 0, msg::GETTABLE, &[])? {
        let name = name(&body, TABLE);
        let (word, text) = (family_word(family), shown(name));
        if !wanted(word, &text) {
            continue;
        }
        let table = ListedTable {
            title: [word, " ", &text].concat(),
            family: match i32::from(family) {
                libc::NFPROTO_IPV4 => Some(Family::V4),
                libc::NFPROTO_IPV6 => Some(Family::V6),
                _ => None,
            },
            ours: [RULES, BRIDGES].iter().any(|own| own.family == family && own.name.as_str() == text),
            ..ListedTable::default()
        };
        let dormant = ListedExpr(&body).or_0(TABLE_FLAGS) & DORMANT != 0;
        let at = if table.ours && family == RULES.family { 0 } else { drafts.len() };
        let name = name.to_vec();
        let (sets, chains) = (Vec::new(), Vec::new());
        drafts.insert(at, Draft { family, name, dormant, table, sets, chains, trial: None });
    }
    Ok(drafts)
}

#[inline(never)]
fn read_sets(
    socket: &mut NlSocket,
    draft: &mut Draft,
    scope: ListingScope,
    used: &mut Vec<Name>,
) -> Result<(), Lost> {
    let owner = if draft.table.ours { SetOwner::Ours } else { SetOwner::Others };
    let all = objects(socket, draft.family, msg::GETSET, &[&draft.name])?;
    draft.trial = all.iter().filter(|_| owner == SetOwner::Ours).find_map(|(_, body)| trial::name_of(body));
    for (_, body) in all {
        if draft.is_of_trial(name(&body, SET_NAME)) {
            continue;
        }
        let Some(mut set) = sets::set(&body, &draft.name, owner) else { continue };
        let is_named_of_ours = owner == SetOwner::Ours && !set.anonymous();
        if scope == ListingScope::ButLargeSets && is_named_of_ours {
            set.digest = sets::digest(&body);
        }
        let is_left_out = set.digest.is_some() || scope == ListingScope::OfOthers && is_named_of_ours;
        if set.is_list() && !is_left_out {
            for (_, body) in objects(socket, draft.family, msg::GETSETELEM, &[&draft.name, &set.name])? {
                sets::elements(&body, &mut set);
            }
            sets::finish(&mut set);
        }
        draft.sets.push(set);
    }
    for set in &mut draft.sets {
        if set.anonymous() || matches!(set.content, sets::SetContent::Buckets(_)) {
            continue;
        }
        match sets::named(set, owner, used) {
            Ok(made) => draft.table.sets.push(made),
            Err(why) => draft.table.unsaid.push((sets::title(set, &draft.table.title), why)),
        }
    }
    draft.sets.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

#[inline(never)]
fn read_chains(socket: &mut NlSocket, draft: &mut Draft) -> Result<(), Lost> {
    for (_, body) in objects(socket, draft.family, msg::GETCHAIN, &[])? {
        if name(&body, TABLE) == draft.name {
            let name = name(&body, CHAIN_NAME);
            if draft.is_of_trial(name) {
                continue;
            }
            draft.chains.push((name.to_vec(), draft.chains.len()));
            let base = base(draft, &body);
            draft.table.chains.push(ListedChain { name: shown(name), base, rules: Vec::new() });
        }
    }
    draft.chains.sort_unstable();
    Ok(())
}

/// Where a chain hangs.
#[inline(never)]
fn base(draft: &Draft, chain: &[u8]) -> ChainBase {
    let Some(hook) = attr(chain, CHAIN_HOOK).map(ListedExpr) else { return ChainBase::None };
    let kind = attr(chain, CHAIN_TYPE).map(until_nul).unwrap_or_default();
    let (number, priority) = (hook.or_0(1), hook.or_0(2).cast_signed());
    let directions = [None, Some(Direction::In), Some(Direction::Fwd), Some(Direction::Out)];
    let is_nat = kind == b"nat";
    let nat = [Some(Direction::Pre), None, None, Some(Direction::Local), Some(Direction::Post)];
    let frames = [None, None, Some(Direction::Bridge)];
    let table: &[Option<Direction>] = match draft.of() {
        TableOf::Frames => &frames,
        TableOf::Packets if is_nat => &nat,
        TableOf::Packets => &directions,
    };
    let direction = table.get(number as usize).copied().flatten();
    let policy = attr(chain, CHAIN_POLICY).and_then(be32);
    let policy = if policy == Some(libc::NF_DROP.cast_unsigned()) { Policy::Drop } else { Policy::Accept };
    let devices = hook.bytes(3).is_some() || hook.bytes(4).is_some();
    let known = draft.of() == TableOf::Frames && !is_nat
        || matches!(i32::from(draft.family), libc::NFPROTO_INET | libc::NFPROTO_IPV4 | libc::NFPROTO_IPV6);
    match direction {
        _ if draft.dormant => ChainBase::Other("the table is dormant".into()),
        Some(direction) if known && (is_nat || kind == b"filter") && !devices => {
            ChainBase::Filter(direction, priority, policy)
        }
        _ => {
            let hooks = ["prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"];
            let (word, name) = match hooks.get(number as usize) {
                Some(name) if known && draft.of() == TableOf::Packets => (" hook ", *name),
                _ => (" in family ", family_word(draft.family)),
            };
            let drops = if policy == Policy::Drop { DROPS } else { "" };
            ChainBase::Other(["type ", &shown(kind), word, name, drops].concat())
        }
    }
}

#[inline(never)]
fn read_rules(socket: &mut NlSocket, draft: &mut Draft, scope: ListingScope) -> Result<(), Lost> {
    let (family, of) = (draft.table.family, draft.of());
    let context = rule::Context { family, of, sets: &draft.sets, interface: routes::interface };
    let leaves_out = draft.table.ours && scope == ListingScope::OfOthers;
    let wanted = |body: &[u8]| {
        let of_statement = || rule::origin(attr(body, rule_attr::USERDATA).unwrap_or_default());
        !leaves_out || of_statement().is_none()
    };
    for (_, body) in objects_where(socket, draft.family, msg::GETRULE, &[&draft.name], &wanted)? {
        let (table, chain) = (name(&body, TABLE), name(&body, rule_attr::CHAIN));
        let at = draft.chains.binary_search_by(|(known, _)| known.as_slice().cmp(chain)).ok();
        let at = at.filter(|_| table == draft.name).and_then(|at| draft.chains.get(at));
        if let Some(chain) = at.and_then(|(_, at)| draft.table.chains.get_mut(*at)) {
            let bytes = |kind| attr(&body, kind).unwrap_or_default();
            if draft.trial.is_some() && trial::is_gate(bytes(rule_attr::USERDATA)) {
                continue;
            }
            chain.rules.push(rule::read(&context, bytes(rule_attr::EXPRESSIONS), bytes(rule_attr::USERDATA)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
