#![forbid(unsafe_code)]
//! The table `inet mef`: a plan as one transaction that replaces it as a whole. Knows nothing of bans.

mod matches;
mod sets;

use super::field;
use super::nft::expr::{self, REG};
use super::nft::{Hook, SetSpec, TableId};
use super::nft::{NftRule as Parts, Txn, TxnError, UDATA_RULE_COMMENT, comment_udata, msg, query};
use super::tables::{BRIDGES, FLOWS, RULES as TABLE, clear_frames_into, clear_into, hook_of};
use super::trial::{self, Pending, Previous};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::base::range_list::RangeList;
use crate::plan::listed;
use crate::plan::run::GROUP_PREFIX;
use crate::plan::{
    Chain, Change, Direction, Elements, Field, LogTarget, PacketVerdict, Policy, Reject, Rule, Set, Sink,
    TableOf,
};
use crate::sys::netlink::{Lost, NlSocket};
use crate::sys::{routes, trim};
use mnl::Bus;
use sets::{ADDRESS, ElementForm};
use std::ffi::CString;

/// Type of user data that holds which rule of the rule set a rule of the kernel is a part of; nft passes it
/// over.
pub const UDATA_ORIGIN: u8 = 0x4d;

/// Sources that a dynamic set of buckets remembers. When it is full, a rule with it matches for no new
/// source.
const BUCKETS: u32 = 65_535;
/// After so many rules, and each time again, the code that was needed before them is given back: where the
/// rules are large, it need not take memory beside them.
const RULES_PER_DROP: u32 = 2048;

/// The transaction that makes the table anew, or that puts a rule set beside the one which is there.
pub struct TableBatch {
    txn: Txn,
    rule: Parts,
    /// What is being written.
    of: TableOf,
    /// Whether there is anything for frames.
    frames: bool,
    /// The named sets by the names that the plan has for them, sorted: the kernel's names and their numbers.
    ids: Vec<(Name, (Name, u32))>,
    /// Of a trial, what the rules stand beside.
    beside: Option<Beside>,
    /// The chains of groups.
    groups: Vec<Name>,
    /// The flowtable, if a rule offloads.
    flows: Option<Name>,
    /// Why its interfaces are not known.
    lost: Option<Lost>,
    /// Sets without a name so far.
    anonymous: u32,
    /// Rules of the kernel written.
    pub rules: u32,
}

/// The rules that are in force when those of the trial are not.
struct Beside {
    previous: Previous,
    time_ms: u64,
    /// The set that the gates ask.
    set: u32,
    policies: [Policy; 7],
    /// The directions that there are beside those for packets.
    more: Vec<Direction>,
    /// The set of the table for frames.
    set_of_frames: Option<u32>,
}

/// Anonymous sets of a trial are counted from here: those of the previous rules have lower numbers.
const BESIDE: u32 = 1_000_000;

impl Default for TableBatch {
    fn default() -> Self {
        TableBatch::new()
    }
}

impl TableBatch {
    /// A transaction that deletes the table, if it is there, and makes an empty one.
    #[must_use]
    pub fn new() -> TableBatch {
        let mut batch = TableBatch::empty();
        batch.renew();
        batch
    }

    fn empty() -> TableBatch {
        let (txn, rule) = (Txn::new(TABLE, 4096), Parts::new());
        let (ids, groups) = (Vec::new(), Vec::new());
        TableBatch {
            txn,
            rule,
            of: TableOf::Packets,
            frames: false,
            ids,
            beside: None,
            groups,
            flows: None,
            lost: None,
            anonymous: 0,
            rules: 0,
        }
    }

    fn renew(&mut self) {
        clear_into(&mut self.txn);
        self.txn.add_table();
    }

    /// A transaction that does the same if a trial goes on, and nothing if it is over.
    #[must_use]
    pub fn confirm(pending: &Pending) -> TableBatch {
        let mut batch = TableBatch::empty();
        trial::demand(&mut batch.txn, pending);
        batch.renew();
        batch
    }

    /// A transaction that puts rules in force for a time, in milliseconds, beside the previous ones.
    #[must_use]
    pub fn trial(previous: Previous, time_ms: u64) -> TableBatch {
        let mut batch = TableBatch::empty();
        batch.txn.add_table();
        let set = trial::add_set(&mut batch.txn, previous.name, time_ms);
        batch.anonymous = BESIDE;
        let (policies, more) = ([Policy::Accept; 7], Vec::new());
        batch.beside = Some(Beside { previous, time_ms, set, policies, more, set_of_frames: None });
        batch
    }

    /// What a trial needs behind its rules.
    fn close(&mut self) {
        let chains = Direction::EVERY.map(|dir| (dir, self.chain_name(Chain::Base(dir))));
        let Some(beside) = self.beside.take() else { return };
        let used = |dir: &Direction| Direction::ALL.contains(dir) || beside.more.contains(dir);
        let (frames, packets): (Vec<_>, Vec<_>) =
            chains.into_iter().filter(|(dir, _)| used(dir)).partition(|(dir, _)| *dir == Direction::Bridge);
        self.gates(&beside, TABLE, beside.set, &packets);
        // What the previous rules have for frames is asked, too, when the new ones have nothing.
        if beside.set_of_frames.is_some() || beside.previous.has(BRIDGES) {
            self.txn.turn_to(BRIDGES);
            let set = beside.set_of_frames;
            let set =
                set.unwrap_or_else(|| trial::add_set(&mut self.txn, beside.previous.name, beside.time_ms));
            self.gates(&beside, BRIDGES, set, &frames);
            self.txn.turn_to(TABLE);
        }
    }

    /// The policies and the gates of one table.
    fn gates(&mut self, beside: &Beside, table: TableId, set: u32, chains: &[(Direction, Name)]) {
        // Only filters have a policy of their own.
        for (dir, chain) in chains.iter().filter(|(dir, _)| !dir.is_nat()) {
            let Some(policy) = beside.policies.get(*dir as usize) else { continue };
            self.rule.clear();
            expr::push_policy(&mut self.rule, *policy);
            self.txn.add_part(0, chain, &self.rule);
        }
        trial::add_gates(&mut self.txn, &mut self.rule, &beside.previous, (table, set), chains);
    }

    /// The kernel's name of a chain.
    fn chain_name(&self, chain: Chain) -> Name {
        let plain = match chain {
            Chain::Base(dir) => Name::of(listed::hook(dir)),
            Chain::Own(name) => name,
        };
        // The names of groups are as long as they can be: beside others they are numbers.
        let group =
            self.groups.iter().position(|name| *name == plain).map(|at| ["g", &at.to_string()].concat());
        let short = group.as_deref().unwrap_or(plain.as_str());
        let beside = |beside: &Beside| Name::new(&[beside.previous.name.as_str(), ".", short].concat());
        self.beside.as_ref().and_then(beside).unwrap_or(plain)
    }

    /// The kernel's name of a named set: beside others it is a number, since a name may be as long as it can
    /// be.
    fn set_name(&self, name: Name) -> Name {
        let number = self.ids.len().to_string();
        let beside = |beside: &Beside| Name::new(&[beside.previous.name.as_str(), ".", &number].concat());
        self.beside.as_ref().and_then(beside).unwrap_or(name)
    }

    /// Replaces the table.
    ///
    /// # Errors
    /// What the kernel refused, to tell of its interfaces, too; then nothing was changed.
    pub fn commit(mut self) -> Result<(), TxnError> {
        if let Some(e) = self.lost {
            return Err(e.into());
        }
        if self.rules >= RULES_PER_DROP {
            trim::drop_code_pages();
        }
        let is_trial = self.beside.is_some();
        self.close();
        let mut socket = NlSocket::open(Bus::Netfilter)?;
        if !is_trial && !self.frames && is_in(&mut socket, BRIDGES)? {
            clear_frames_into(&mut self.txn);
        }
        self.txn.commit(&mut socket)
    }

    /// What is done to packets that go on.
    fn change(&mut self, rule: &Rule, change: Change) {
        match change {
            Change::Mark(value, mask) => field::push_set_mark(&mut self.rule, value, mask),
            Change::Mss(size) => field::push_mss(&mut self.rule, size),
            Change::Add(set, seconds) => {
                let of = field::of(Field::Src, rule.family, false);
                field::push_load(&mut self.rule, Field::Src, &of);
                let (set, id) = self.named(set);
                let timeout = u64::from(seconds) * 1000;
                self.rule.push(expr::dynset(&set, id, REG, timeout, expr::DynsetOp::Update, None));
            }
            Change::Offload => {
                let name = self.flowtable(rule.origin);
                field::push_offload(&mut self.rule, &name);
            }
        }
    }

    /// The flowtable with the interfaces that there are, which is made when it is first asked for.
    fn flowtable(&mut self, statement: u32) -> Name {
        if let Some(name) = self.flows {
            return name;
        }
        // An interface is in one flowtable only: that of the previous rules serves a trial, too.
        let own = self.beside.as_ref().filter(|beside| !beside.previous.offloads);
        let name = own.and_then(|beside| Name::new(&[beside.previous.name.as_str(), ".", "f"].concat()));
        let name = *self.flows.insert(name.unwrap_or(FLOWS));
        match routes::interfaces() {
            Ok(interfaces) => self.txn.add_flowtable(statement, &name, &interfaces),
            Err(e) => self.lost = Some(e),
        }
        name
    }

    fn verdict(&mut self, verdict: PacketVerdict) {
        self.rule.push(match &verdict {
            PacketVerdict::Accept => return expr::push_policy(&mut self.rule, Policy::Accept),
            PacketVerdict::Drop => return expr::push_policy(&mut self.rule, Policy::Drop),
            PacketVerdict::Return => expr::verdict(expr::NftVerdict::Return),
            PacketVerdict::Jump(chain) => {
                let name = self.chain_name(Chain::Own(*chain));
                expr::verdict(expr::NftVerdict::Jump(&name))
            }
            PacketVerdict::Reject(Reject::Reset) => expr::reject_tcp(),
            PacketVerdict::Reject(Reject::With(refusal)) => expr::reject_with(*refusal as u8),
            PacketVerdict::Nat(nat) => return field::push_nat(&mut self.rule, nat),
            PacketVerdict::Next => return,
        });
    }
}

impl Sink for TableBatch {
    fn table(&mut self, of: TableOf) {
        self.of = of;
        // Each has sets of its own.
        self.ids.clear();
        if of == TableOf::Packets {
            return self.txn.turn_to(TABLE);
        }
        self.frames = true;
        self.txn.turn_to(BRIDGES);
        match &mut self.beside {
            Some(beside) => {
                self.txn.add_table();
                let set = trial::add_set(&mut self.txn, beside.previous.name, beside.time_ms);
                beside.set_of_frames = Some(set);
            }
            None => {
                clear_into(&mut self.txn);
                self.txn.add_table();
            }
        }
    }

    fn base(&mut self, direction: Direction, policy: Policy) {
        let name = self.chain_name(Chain::Base(direction));
        if let Some(beside) = &mut self.beside {
            if let Some(slot) = beside.policies.get_mut(direction as usize) {
                *slot = policy;
            }
            if !Direction::ALL.contains(&direction) {
                beside.more.push(direction);
            }
            return self.txn.add_chain(&name, None);
        }
        let policy = if policy == Policy::Accept { libc::NF_ACCEPT } else { libc::NF_DROP };
        self.txn.add_chain(&name, Some(Hook { policy, ..hook_of(direction) }));
    }

    fn set(&mut self, set: &Set) {
        match &set.elements {
            Elements::Addresses(family, ranges) => {
                self.ranges(0, Some(set.name), *family, ranges);
            }
            Elements::Ports(ranges) => {
                self.port_ranges(0, Some(set.name), ranges);
            }
            // Only what was read back is so.
            Elements::Many(..) => {}
        }
    }

    fn listed(&mut self, name: Name, family: Family, list: &RangeList) {
        let mut form = ElementForm::Single;
        list.each(family, &mut |range| form = form.or(ElementForm::of(range.first(), range.last())));
        let key = ADDRESS.get(family as usize).copied().unwrap_or_default();
        // By its comment it is known again without being listed.
        let (known, comment) = (self.set_name(name), list.digest(family).unwrap_or_default());
        let spec = SetSpec { comment: &comment, ..SetSpec::new(known, form.flags(), key) };
        let set = (known, self.txn.add_set(&spec));
        self.remember(name, set);
        list.each(family, &mut |range| self.push_range(0, set, &range, form));
    }

    fn buckets(&mut self, name: Name, family: Family, timeout: u32) {
        // Without a time, what it counts tells when an element goes.
        let flags = libc::NFT_SET_EVAL | if timeout > 0 { libc::NFT_SET_TIMEOUT } else { 0 };
        let key = ADDRESS.get(family as usize).copied().unwrap_or_default();
        let timeout_ms = u64::from(timeout) * 1000;
        let known = self.set_name(name);
        let spec = SetSpec { size: BUCKETS, timeout_ms, ..SetSpec::new(known, flags, key) };
        let id = self.txn.add_set(&spec);
        self.remember(name, (known, id));
    }

    fn chain(&mut self, name: Name) {
        if name.as_str().starts_with(GROUP_PREFIX) {
            self.groups.push(name);
        }
        let name = self.chain_name(Chain::Own(name));
        self.txn.add_chain(&name, None);
    }

    fn rule(&mut self, chain: Chain, rule: &Rule) {
        self.rule.clear();
        self.matches(rule);
        if let Some(limit) = &rule.limit {
            self.limit(rule.family, limit);
        }
        if let Some(prefix) = &rule.log {
            let prefix = CString::new(prefix.as_str()).unwrap_or_default();
            self.rule.push(match rule.log_to {
                LogTarget::Level(level) => expr::log(&prefix, level.into()),
                LogTarget::Group(group) => expr::nflog_whole(&prefix, group),
            });
        }
        if rule.counter {
            expr::push_counter(&mut self.rule);
        }
        rule.changes.iter().for_each(|change| self.change(rule, *change));
        self.verdict(rule.verdict);
        if !rule.comment.is_empty() {
            self.rule.add_userdata(&comment_udata(UDATA_RULE_COMMENT, &rule.comment));
        }
        if rule.origin > 0 {
            let [a, b, c, d] = rule.origin.to_be_bytes();
            self.rule.add_userdata(&[UDATA_ORIGIN, 4, a, b, c, d]);
        }
        self.rules += 1;
        if self.rules.is_multiple_of(RULES_PER_DROP) {
            trim::drop_code_pages();
        }
        let name = self.chain_name(chain);
        self.txn.add_part(rule.origin, &name, &self.rule);
    }
}

/// Whether there is such a table.
///
/// # Errors
/// What the kernel refused.
pub fn there() -> Result<bool, TxnError> {
    Ok(is_in(&mut NlSocket::open(Bus::Netfilter)?, TABLE)?)
}

/// Whether anything of ours is left, be it for frames only.
///
/// # Errors
/// What the kernel refused.
pub fn any_left() -> Result<bool, TxnError> {
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    Ok(is_in(&mut socket, TABLE)? || is_in(&mut socket, BRIDGES)?)
}

/// Whether there is this table.
fn is_in(socket: &mut NlSocket, table: TableId) -> Result<bool, Lost> {
    let there = std::cell::Cell::new(false);
    let kind = (msg::GETTABLE, None);
    query::objects(socket, &table, kind, &mut || there.set(false), &mut |_| there.set(true))?;
    Ok(there.get())
}

/// Deletes the table, if it is there.
///
/// # Errors
/// What the kernel refused.
pub fn unload() -> Result<(), TxnError> {
    let mut txn = Txn::new(TABLE, 256);
    clear_into(&mut txn);
    let mut socket = NlSocket::open(Bus::Netfilter)?;
    if is_in(&mut socket, BRIDGES)? {
        clear_frames_into(&mut txn);
    }
    txn.commit(&mut socket)
}
