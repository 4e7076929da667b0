#![forbid(unsafe_code)]
//! The chains and sets of the guard table, and the transactions that make them.
//!
//! Honest packets meet hash look-ups only. The allow list, an interval set, is consulted behind a hit, so
//! that it wins over everything and costs nothing; banned networks, interval sets too, only by packets
//! that can begin a flow: everything but TCP, and SYNs.

use super::allow;
use super::feature::Digests;
use super::gate::ban_flags;
use super::scope::{Scopes, SetKind};
use super::words::{IPV4_ADDR, IPV6_ADDR, key_type};
use super::{FEATURES, Guard, TABLE, TableState, bare, upgrade};
use crate::ban::{Capabilities, Capability, Failure, Options, Reach, Scope};
use crate::base::name::Name;
use crate::base::range::Family;
use crate::firewall::nft::{Hook, Optional, SetSpec};
use crate::firewall::nft::{Op, TxnError, query};

pub(super) const GATE: Name = Name::of("gate");
/// What becomes of packets of whom is banned, by family: each packet is asked only what can be so.
pub(super) const fn hit(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("hit"),
        Family::V6 => Name::of("hit6"),
    }
}
/// The rules that look deny lists up: before and behind the place where TCP that begins no flow is let
/// through.
pub(super) const DENY: [Name; 2] = [Name::of("deny"), Name::of("denynet")];
/// An empty set whose comment tells what the table was made with.
pub(super) use crate::firewall::tables::MADE;
/// IPv6 networks in which each address counts alone: those that stand for the IPv4 Internet, and those that
/// this host is in.
pub(super) const SINGLE6: Name = Name::of("single6");
/// How often the table is written while others make and flush it.
const REWRITES_MAX: u32 = 8;

/// `NF_IP_PRI_RAW`: before conntrack.
const PRIORITY_RAW: i32 = -300;
/// Changes with the layout: an older table is rebuilt.
const VERSION: &str = "mef 5";

/// What a table is found to have.
#[derive(Default)]
struct Layout {
    /// Those that have sets.
    scopes: Scopes,
    /// What the table was made with.
    marked: Option<TableState>,
    /// Whether all sets of the allow list are there.
    has_allow: bool,
    /// It has the previous layout.
    outdated: bool,
}

/// Whether keys of bans are as long as in the table that was there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ipv6Prefix {
    /// They are, or there was none.
    Same,
    /// Those of IPv6 are not: what is there would never be found.
    Changed,
}

/// Where the rules of a scope go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RulePosition {
    /// Behind the rules that this transaction has added.
    Last,
    /// Likewise, and the sets are emptied.
    Anew,
    /// Before the rules that are there; EEXIST if the scope is there already.
    First,
}

/// Who is never dropped.
pub(super) const fn allow_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("allow4"),
        Family::V6 => Name::of("allow6"),
    }
}

/// Who is not dropped for a time.
pub(super) const fn allow_timed_set(family: Family) -> Name {
    match family {
        Family::V4 => Name::of("allowt4"),
        Family::V6 => Name::of("allowt6"),
    }
}

/// What the comment of the set `made` tells of the table.
fn write_mark(made: TableState) -> String {
    let TableState { ipv6_prefix, logs, features, ingress, missing: lacks } = made;
    let ([logs, ingress], lacks) = ([logs, ingress].map(u8::from), lacks.number());
    let mut mark = format!("{VERSION} prefix6={ipv6_prefix} log={logs} ingress={ingress} lacks={lacks}");
    for (feature, digest) in features.pairs() {
        mark.push_str(&format!(" {}={digest}", feature.word()));
    }
    mark
}

/// Reads the comment back; `None` for a table of another layout than this one and the one before. Bans mean
/// the same in both: until the daemon writes such a table again it keeps its guards.
pub(super) fn read_mark(comment: &str) -> Option<TableState> {
    let words = comment
        .strip_prefix(VERSION)
        .or_else(|| comment.strip_prefix(upgrade::PREVIOUS))?
        .strip_prefix(' ')?;
    let number = |name: &str| -> Option<u16> {
        words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    Some(TableState {
        ipv6_prefix: u8::try_from(number("prefix6")?).ok()?,
        logs: number("log")? == 1,
        features: Digests::read(&number),
        ingress: number("ingress")? == 1,
        missing: Capabilities::of_number(u8::try_from(number("lacks")?).ok()?),
    })
}

impl Guard {
    /// Writes chains and rules anew with the current options, in one transaction; the sets and their
    /// elements stay. What this kernel lacks and mef can do without is left out.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn rebuild(&mut self) -> Result<TableState, Failure> {
        let mut made = self.write_anew()?;
        for _ in 0..REWRITES_MAX {
            if self.shape.is_none() || self.settle()? {
                break;
            }
            // Somebody may have deleted a part of it before it was looked at.
            made = self.write_anew()?;
        }
        Ok(made)
    }

    fn write_anew(&mut self) -> Result<TableState, Failure> {
        let mut claim = self.claim()?;
        let mut there = self.read_sets()?;
        if claim.renews {
            there = Layout::default();
        }
        let Layout { mut scopes, marked, has_allow, outdated } = there;
        let mut renamed = if outdated { Some(self.read_renamed()?) } else { None };
        // No rule asks for bans in a table that has lost its allow list, or never had one.
        let mut allowed = match has_allow && marked.is_some() {
            true => None,
            false => Some(self.allow_list()?),
        };
        if let Some(list) = &allowed
            && allow::is_long(list)
        {
            if claim.renews {
                self.remove()?;
                claim.renews = false;
            }
            self.txn.set_table_flags(claim.flags);
            self.fill_before(&list.clone())?;
            allowed = None;
        }
        self.recreated |= marked.is_none();
        let mut lacks = self.options.without;
        let mut prefix = match marked.is_some_and(|m| m.ipv6_prefix != self.wanted(lacks).ipv6_prefix) {
            true => Ipv6Prefix::Changed,
            false => Ipv6Prefix::Same,
        };
        let made = loop {
            let made = self.wanted(lacks);
            self.begin_table(claim);
            self.write_table(made, &scopes, prefix, marked);
            if let Some(renamed) = &renamed {
                self.write_renamed(made, renamed);
            }
            if let Some(list) = &allowed {
                self.write_allowed(list);
            }
            match self.txn.commit(&mut self.socket) {
                Err(e) if lacks.and(missing_bits(&e, made)) != lacks => {
                    lacks = lacks.and(missing_bits(&e, made));
                    continue;
                }
                result => result?,
            }
            (prefix, claim.renews, renamed) = (Ipv6Prefix::Same, false, None);
            // The rules of a scope that another process added meanwhile are gone, its sets are not.
            let now = self.read_sets()?.scopes;
            let missed = now.iter().any(|scope| !scopes.contains(scope));
            scopes = now;
            if !missed {
                break made;
            }
        };
        self.made = Some(made);
        self.scopes = scopes;
        Ok(made)
    }

    /// What the options ask for, on a kernel that lacks this.
    fn wanted(&self, lacks: Capabilities) -> TableState {
        let wants = |what: bool, part: Capability| what && !lacks.has(part);
        let Options { log, ingress, reach, .. } = &self.options;
        TableState {
            ipv6_prefix: self.options.ipv6_prefix.clamp(1, 128),
            logs: wants(log.is_some(), Capability::DropLog),
            features: Digests::of(&self.options, lacks),
            ingress: wants(!ingress.is_empty() && *reach == Reach::HostAndForward, Capability::Ingress),
            missing: lacks,
        }
    }

    fn read_sets(&mut self) -> Result<Layout, Failure> {
        let mut found = Layout::default();
        let names = Family::ALL.map(|family| [allow_set(family), allow_timed_set(family)]);
        let mut allow = [false; 4];
        query::sets(&mut self.socket, &TABLE, &mut |set| {
            let own = names.iter().flatten().map(|name| name.as_str() == set.name);
            allow.iter_mut().zip(own).for_each(|(there, own)| *there |= own);
            if set.name == MADE.as_str() {
                found.marked = read_mark(set.comment);
                found.outdated = found.marked.is_some() && set.comment.starts_with(upgrade::PREVIOUS);
            } else if let Some(scope) = read_scope(&set)
                && !found.scopes.contains(&scope)
            {
                found.scopes.push(scope);
            }
        })?;
        found.has_allow = allow == [true; 4];
        Ok(found)
    }

    /// The chains that everything goes through, without their rules.
    fn write_chains(&mut self, made: TableState) {
        let number = match self.options.reach {
            _ if made.ingress => libc::NF_INET_INGRESS,
            Reach::HostAndForward => libc::NF_INET_PRE_ROUTING,
            Reach::Host => libc::NF_INET_LOCAL_IN,
            Reach::Forward => libc::NF_INET_FORWARD,
        };
        // A chain's hook and a set's comment cannot be changed: they are made anew. What is added first
        // can be deleted without an error, whether it was there or not.
        self.txn.add_chain(&GATE, None);
        self.txn.flush_chain(&GATE);
        self.txn.delete_chain(&GATE);
        let devices: &[_] = if made.ingress { &self.options.ingress } else { &[] };
        self.txn.add_chain(&GATE, Some(Hook { priority: PRIORITY_RAW, devices, ..Hook::new(number) }));
        for family in Family::ALL {
            self.txn.add_chain(&hit(family), None);
            self.txn.flush_chain(&hit(family));
        }
        // What is in these belongs to the deny lists.
        DENY.iter().for_each(|chain| self.txn.add_chain(chain, None));
    }

    fn write_table(
        &mut self,
        made: TableState,
        scopes: &[(Scope, SetKind)],
        prefix: Ipv6Prefix,
        marked: Option<TableState>,
    ) {
        self.write_chains(made);
        let mark = write_mark(made);
        self.txn.add_set(&SetSpec::new(MADE, 0, IPV4_ADDR));
        self.txn.delete_set(&MADE);
        self.txn.add_set(&SetSpec { comment: &mark, ..SetSpec::new(MADE, 0, IPV4_ADDR) });
        self.write_allow_sets();
        for family in Family::ALL {
            for kind in SetKind::ALL {
                let spec = SetSpec::new(Scope::ALL.set(kind, family), ban_flags(kind), key_type(family));
                match (prefix, kind, family) {
                    (Ipv6Prefix::Changed, SetKind::Hosts, Family::V6) => self.renew_ban_set(&spec),
                    _ => {
                        self.txn.add_set(&spec);
                    }
                }
            }
        }
        if let Some(previous) = marked {
            self.unwrite_features(previous, made);
            self.write_begin(None);
            if previous.bare_packets() && !made.bare_packets() {
                self.delete_packet_sets();
            }
        }
        self.txn.add_set(&SetSpec::new(SINGLE6, libc::NFT_SET_INTERVAL, IPV6_ADDR));
        if made.bare_packets() {
            self.write_packet_sets();
        }
        if self.tracks(made) {
            self.write_begin(Some(made));
        }
        self.write_features(made, marked, prefix);
        if prefix == Ipv6Prefix::Changed && made.bare_packets() {
            self.txn.flush_set(&bare::ban_set(Family::V6));
        }
        for (scope, kind) in scopes {
            let place = match (prefix, kind) {
                (Ipv6Prefix::Changed, SetKind::Hosts) => RulePosition::Anew,
                _ => RulePosition::Last,
            };
            self.write_scope(scope, *kind, made.ipv6_prefix, place);
        }
        self.write_gate(made);
        Family::ALL.into_iter().for_each(|family| self.write_hit(family, made));
    }
}

/// The scope and kind of a set of bans of some ports, by its comment and flags.
pub(super) fn read_scope(set: &query::SetInfo<'_>) -> Option<(Scope, SetKind)> {
    let ports = set.comment.strip_prefix("ports ")?;
    let scope = Scope::read(&[ports, set.more].concat())?;
    let networks = set.flags & libc::NFT_SET_INTERVAL.cast_unsigned() != 0;
    Some((scope, if networks { SetKind::Networks } else { SetKind::Hosts }))
}

/// The part that a chain or a set belongs to, if it is one that can be done without.
fn owner(name: Name) -> Option<Capability> {
    FEATURES.iter().find(|feature| feature.owns(name.as_str())).map(|feature| feature.part())
}

/// What this kernel lacks, by what it refused; none if mef cannot do without that.
fn missing_bits(e: &TxnError, made: TableState) -> Capabilities {
    let TxnError::Refused(all) = e else { return Capabilities::NONE };
    let mut lacks = Capabilities::NONE;
    for refusal in all {
        lacks = lacks.and(match refusal.op {
            Op::Rule(_, _, Optional::Part(part)) => part,
            Op::Set(name) | Op::Chain(name) if let Some(part) = owner(name) => part,
            // A device that is gone, a kernel before 5.10, or an expression that works elsewhere only.
            _ if made.ingress => return Capability::Ingress.into(),
            _ => return Capabilities::NONE,
        });
    }
    lacks
}
