#![forbid(unsafe_code)]
//! The kernel's part of a trial. The table holds two rule sets: at the head of each base chain of the
//! previous one a gate asks a set whether the trial goes on, and leads to the chains of the new one while it
//! does. The set's only element goes by itself when the time is over, whatever has become of every process by
//! then: from that moment on the gates let packets pass to the previous rules. Knows neither files nor who
//! may confirm.

use super::nft::elem::{Elem, Timeout};
use super::nft::expr::{self, Cmp, NftVerdict, REG};
use super::nft::{
    NftRule, SetSpec, TableId, Txn, TxnError, UDATA_RULE_COMMENT, UDATA_SET_COMMENT, comment_udata, msg,
    query, rule_attr,
};
use super::tables::{BRIDGES, FLOWS, RULES as TABLE, clear_into, hook_of};
use crate::base::name::Name;
use crate::plan::Direction;
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::nlattr::{attr, be32, be64, text};
use mnl::Bus;
use std::cell::RefCell;

/// What marks the set that is asked, and the gates.
const SET_COMMENT: &str = "mef: the new rules are in force while this has an element";
const GATE_COMMENT: &str = "gate: to the new rules, pending `mef confirm`";
/// Names of the set; one that the previous rules have not. With a dot behind it, it begins the names of all
/// else that belongs to the trial.
const NAMES: [&str; 6] = ["trial", "trial2", "trial3", "trial4", "trial5", "trial6"];
/// Type number of `nft` for marks, and bytes of a key: the gates look for the mark of which no bit is left.
const MARK: (u32, u32) = (19, 4);
const NO_MARK: [u8; 4] = [0; 4];

// Attributes (linux/netfilter/nf_tables.h).
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const SET_NAME: u16 = 2;
const SET_USERDATA: u16 = 13;
const FLOWTABLE_NAME: u16 = 2;

/// A trial that the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The set that is asked.
    name: Name,
    /// The time that is left, ms; 0 = it is over, and the previous rules are in force.
    pub left_ms: u64,
}

impl Pending {
    /// One that another part of the kernel than nf_tables holds.
    pub(super) fn elsewhere(left_ms: u64) -> Pending {
        Pending { name: Name::of("trial"), left_ms }
    }
}

/// A base chain of the previous rules.
struct TrialBase {
    table: TableId,
    name: String,
    /// The direction whose rules of ours stand in it; none if it is somebody else's.
    direction: Option<Direction>,
}

/// What the table holds before a trial, as far as that has to know it.
pub struct Previous {
    pub(super) name: Name,
    bases: Vec<TrialBase>,
    /// Whether they have a flowtable.
    pub(super) offloads: bool,
}

impl Previous {
    /// Whether they have base chains in this table.
    pub(super) fn has(&self, table: TableId) -> bool {
        self.bases.iter().any(|base| base.table == table)
    }

    /// Those that another part of the kernel than nf_tables holds.
    pub(super) fn elsewhere() -> Previous {
        Previous { name: Name::of("trial"), bases: Vec::new(), offloads: false }
    }
}

/// The trial that the kernel holds, going on or over.
///
/// # Errors
/// What the kernel refused.
pub fn pending() -> Result<Option<Pending>, TxnError> {
    Ok(find(&mut NlSocket::open(Bus::Netfilter)?)?)
}

fn find(socket: &mut NlSocket) -> Result<Option<Pending>, Lost> {
    find_in(socket, TABLE)
}

/// What the table holds of a trial.
fn find_in(socket: &mut NlSocket, table: TableId) -> Result<Option<Pending>, Lost> {
    let mut name = None;
    query::sets(socket, &table, &mut |set| {
        if set.comment == SET_COMMENT {
            name = Name::new(set.name);
        }
    })?;
    let Some(name) = name else { return Ok(None) };
    let mut left_ms = 0;
    query::elements(socket, &table, &name, &mut || (), &mut |found| left_ms = found.left_ms)?;
    Ok(Some(Pending { name, left_ms }))
}

/// Whether an object belongs to the trial of that name.
pub(super) fn is_of(name: &Name, object: &str) -> bool {
    object.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a rule is a gate, by its user data.
pub(super) fn is_gate(userdata: &[u8]) -> bool {
    super::nft::udata_comment(userdata, UDATA_RULE_COMMENT) == Some(GATE_COMMENT)
}

/// The name of the trial whose set this is, by its attributes.
pub(super) fn name_of(set: &[u8]) -> Option<Name> {
    let comment = super::nft::udata_comment(attr(set, SET_USERDATA)?, UDATA_SET_COMMENT);
    Name::new(&text_of(set, SET_NAME)?).filter(|_| comment == Some(SET_COMMENT))
}

/// Reads what is there before a trial begins. What an earlier one left behind is removed first.
///
/// # Errors
/// What the kernel refused.
pub fn previous() -> Result<Previous, TxnError> {
    tidy(&mut || ())?;
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    let mut names: Vec<String> = Vec::new();
    let mut bases = Vec::new();
    // Others change their tables all the time; ours is guarded by a lock, and the transaction names what is
    // missing.
    for table in [TABLE, BRIDGES] {
        each(&mut socket, table, msg::GETSET, &mut |set| names.extend(text_of(set, SET_NAME)))?;
        each(&mut socket, table, msg::GETCHAIN, &mut |chain| {
            names.extend(text_of(chain, CHAIN_NAME));
            bases.extend(base(table, chain));
        })?;
    }
    let mut offloads = false;
    each(&mut socket, TABLE, msg::GETFLOWTABLE, &mut |flows| {
        offloads |= text_of(flows, FLOWTABLE_NAME).is_some_and(|name| name == FLOWS.as_str());
    })?;
    let free = |name: &&&str| Name::new(name).is_some_and(|name| !names.iter().any(|n| is_of(&name, n)));
    let name = NAMES.iter().find(free).or(NAMES.first()).and_then(|name| Name::new(name));
    Ok(Previous { name: name.unwrap_or(Name::of("trial")), bases, offloads })
}

fn base(table: TableId, chain: &[u8]) -> Option<TrialBase> {
    let hook = attr(chain, CHAIN_HOOK)?;
    let number = |kind| attr(hook, kind).and_then(be32).map(u32::cast_signed);
    let name = text_of(chain, CHAIN_NAME)?;
    let is = |dir: &Direction| {
        let ours = hook_of(*dir);
        let at = number(HOOK_NUMBER) == Some(ours.number) && number(HOOK_PRIORITY) == Some(ours.priority);
        let fits = (*dir == Direction::Bridge) == (table == BRIDGES);
        fits && at
            && name == crate::plan::listed::hook(*dir)
            && text_of(chain, CHAIN_TYPE).as_deref() == Some(if ours.is_nat { "nat" } else { "filter" })
    };
    Some(TrialBase { table, direction: Direction::EVERY.into_iter().find(is), name })
}

fn text_of(object: &[u8], kind: u16) -> Option<String> {
    attr(object, kind).and_then(text).map(str::to_owned)
}

/// All objects of a kind in the table; asked again when others disturb.
fn each(socket: &mut NlSocket, table: TableId, kind: u16, each: &mut dyn FnMut(&[u8])) -> Result<(), Lost> {
    let found: RefCell<Vec<Vec<u8>>> = RefCell::default();
    query::objects(socket, &table, (kind, None), &mut || found.borrow_mut().clear(), &mut |object| {
        let kept = |attr: &(u16, &[u8])| kind != msg::GETRULE || attr.0 != rule_attr::EXPRESSIONS;
        // Ten thousand rules are asked for the few among them that are gates.
        if kind != msg::GETRULE || attr(object, rule_attr::USERDATA).is_some_and(is_gate) {
            let whole = crate::sys::nlattr::whole_attrs(object);
            let object = whole.filter(kept).flat_map(|(_, bytes)| bytes.iter().copied()).collect();
            found.borrow_mut().push(object);
        }
    })?;
    found.borrow().iter().for_each(|object| each(object));
    Ok(())
}

/// Writes the set that is asked, with its element.
pub(super) fn add_set(txn: &mut Txn, name: Name, time_ms: u64) -> u32 {
    let spec = SetSpec { size: 1, comment: SET_COMMENT, ..SetSpec::new(name, libc::NFT_SET_TIMEOUT, MARK) };
    let id = txn.add_set(&spec);
    txn.add_elem_of(0, &name, id, &Elem { timeout: Timeout::Ms(time_ms), ..element() });
    id
}

fn element() -> Elem<'static> {
    Elem { key: &NO_MARK, end: None, timeout: Timeout::None, comment: "" }
}

/// Has a transaction end with ENOENT if the trial is over.
pub(super) fn demand(txn: &mut Txn, pending: &Pending) {
    txn.delete_elem(&pending.name, &element());
}

/// Writes the gates: from the previous base chains, or from new ones where there is none, to `chains` of the
/// new rules.
pub(super) fn add_gates(
    txn: &mut Txn,
    rule: &mut NftRule,
    previous: &Previous,
    (table, set): (TableId, u32),
    chains: &[(Direction, Name)],
) {
    for &(dir, to) in chains {
        let ours = previous.bases.iter().find(|base| base.direction == Some(dir));
        let own = [previous.name.as_str(), ".b-", crate::plan::listed::hook(dir)].concat();
        let own = Name::new(own.get(..own.len().min(15)).unwrap_or_default()).unwrap_or(to);
        if ours.is_none() {
            txn.add_chain(&own, Some(hook_of(dir)));
        }
        gate(rule, previous.name, set, NftVerdict::Goto(&to));
        txn.add_first(ours.map_or(own.as_str(), |base| &base.name), rule);
    }
    // What others have hung into the table would go with it; and what only the previous rules translate, the
    // new ones leave alone.
    let known = |base: &TrialBase| chains.iter().any(|(dir, _)| base.direction == Some(*dir));
    for base in previous.bases.iter().filter(|base| base.table == table && !known(base)) {
        gate(rule, previous.name, set, NftVerdict::Accept);
        txn.add_first(&base.name, rule);
    }
}

fn gate(rule: &mut NftRule, name: Name, set: u32, verdict: NftVerdict<'_>) {
    rule.clear();
    expr::push_meta(rule, libc::NFT_META_MARK);
    rule.push(expr::mask(REG, &NO_MARK));
    rule.push(expr::lookup(Cmp::Eq, &name, set, REG));
    rule.push(expr::verdict(verdict));
    rule.add_userdata(&comment_udata(UDATA_RULE_COMMENT, GATE_COMMENT));
}

/// Ends a trial: the previous rules are in force, and nothing else is left. Whether there was one. `nothing`
/// is called before, if there were no previous rules.
///
/// # Errors
/// What the kernel refused; then nothing was changed.
pub fn withdraw(nothing: &mut dyn FnMut()) -> Result<bool, TxnError> {
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    let mut txn = Txn::new(TABLE, 1024);
    let Some(pending) = find(&mut socket)? else {
        // Somebody deleted the table for packets: what the trial has for frames goes, too.
        if let Some(pending) = find_in(&mut socket, BRIDGES)? {
            txn.turn_to(BRIDGES);
            remove(&mut txn, &mut socket, BRIDGES, &pending.name)?;
            txn.commit(&mut socket)?;
        }
        return Ok(false);
    };
    // Of frames there may be nothing.
    txn.turn_to(BRIDGES);
    remove(&mut txn, &mut socket, BRIDGES, &pending.name)?;
    txn.turn_to(TABLE);
    if remove(&mut txn, &mut socket, TABLE, &pending.name)? == LeftOver::Nothing {
        nothing();
    }
    let result = txn.commit(&mut socket);
    // Another process may have done it, or an answer that was lost told of success.
    if result.is_err() && matches!(find(&mut socket), Ok(None)) { Ok(true) } else { result.map(|()| true) }
}

/// As `withdraw`, but only if the time is over. Whether anything was left of a trial.
///
/// # Errors
/// As `withdraw`.
pub fn tidy(nothing: &mut dyn FnMut()) -> Result<bool, TxnError> {
    match pending()? {
        Some(Pending { left_ms: 0, .. }) => withdraw(nothing),
        _ => Ok(false),
    }
}

/// What stands in a table beside a trial.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeftOver {
    Nothing,
    Rules,
}

/// Writes what ends the trial in one table.
fn remove(txn: &mut Txn, socket: &mut NlSocket, table: TableId, name: &Name) -> Result<LeftOver, Lost> {
    let (mut chains, mut others) = (Vec::new(), false);
    each(socket, table, msg::GETCHAIN, &mut |chain| {
        let found = text_of(chain, CHAIN_NAME).unwrap_or_default();
        match Name::new(&found).filter(|_| is_of(name, &found)) {
            Some(ours) => chains.push(ours),
            None => others = true,
        }
    })?;
    if !others {
        if table == TABLE || !chains.is_empty() {
            clear_into(txn);
        }
        return Ok(LeftOver::Nothing);
    }
    each(socket, table, msg::GETRULE, &mut |rule| {
        let handle = attr(rule, rule_attr::HANDLE).and_then(be64);
        if let (Some(chain), Some(handle)) = (text_of(rule, rule_attr::CHAIN), handle)
            && !is_of(name, &chain)
        {
            txn.delete_rule_of(&chain, handle);
        }
    })?;
    chains.iter().for_each(|chain| txn.flush_chain(chain));
    chains.iter().for_each(|chain| txn.delete_chain(chain));
    let mut sets = Vec::new();
    each(socket, table, msg::GETSET, &mut |set| {
        sets.extend(text_of(set, SET_NAME).filter(|set| is_of(name, set)).and_then(|set| Name::new(&set)));
    })?;
    sets.iter().for_each(|set| txn.delete_set(set));
    each(socket, table, msg::GETFLOWTABLE, &mut |flows| {
        let ours = text_of(flows, FLOWTABLE_NAME).filter(|flows| is_of(name, flows));
        ours.and_then(|flows| Name::new(&flows)).iter().for_each(|flows| txn.delete_flowtable(flows));
    })?;
    Ok(LeftOver::Rules)
}
