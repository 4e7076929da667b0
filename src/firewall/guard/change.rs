#![forbid(unsafe_code)]
//! Bans: which set each goes to, in batches that the kernel takes whole or that are halved until the one it
//! refuses is found. What is there already is not made shorter by anything.

use super::ban::kind;
use super::layout::RulePosition;
use super::networks::whole;
use super::scope::SetKind;
use super::{Guard, TABLE, TableState};
use crate::ban::{Ban, BanOutcome, BanReport, Doing, Failure, Repeat, Scope, Standing, meet};
use crate::base::name::Name;
use crate::base::net::offender;
use crate::base::range::{Family, Range};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::{TxnError, query};
use nix::errno::Errno;

/// Bans of one transaction: while anybody listens to the changes of nf_tables, the kernel holds 8 kB for each
/// until its end.
pub(super) const BATCH: usize = 256;
/// How often a batch is looked at anew because elements came or went meanwhile.
const RETRIES_MAX: u32 = 5;

/// Whether a smaller batch may succeed: one bad element, no memory, a send buffer that may not grow.
fn can_halve(e: &TxnError) -> bool {
    matches!(e, TxnError::Refused(_)) || matches!(e.errno(), Errno::EMSGSIZE | Errno::ENOBUFS)
}

/// Whether the table or a set of it is not there any more: somebody flushed the rule set.
fn is_gone(e: &Failure) -> bool {
    e.doing != Doing::Question && e.errno() == Errno::ENOENT
}

/// Bans that go to hash sets, with their numbers.
type Hosts<'b, 'a> = [(usize, &'b Ban<'a>)];

impl Guard {
    /// Bans each. `report` is called once for each, after the kernel has acknowledged or refused it.
    pub fn ban(&mut self, bans: &[Ban<'_>], repeat: Repeat, report: BanReport<'_>) {
        for (i, batch) in bans.chunks(BATCH).enumerate() {
            let first = i * BATCH;
            let made = match self.prepare(batch) {
                Ok(made) => made,
                Err(e) => {
                    (first..first + batch.len()).for_each(|at| report(at, Err(&e)));
                    continue;
                }
            };
            if self.shape.is_some() {
                batch
                    .iter()
                    .for_each(|ban| self.contents.note(ban.scope.set(ban.kind(made), ban.addr.family())));
            }
            let numbered = || batch.iter().enumerate().map(|(at, ban)| (first + at, ban));
            let mut hosts: Vec<_> = numbered().filter(|(_, ban)| ban.kind(made) == SetKind::Hosts).collect();
            let covered = self.covered(&mut hosts, repeat, report);
            self.ban_hosts(&hosts, repeat, &mut |at, result| {
                let before = covered.iter().find(|(other, _)| *other == at);
                report(
                    at,
                    match (result, before) {
                        (Ok(BanOutcome::Banned), Some((_, after))) => Ok(BanOutcome::Extended(after.clone())),
                        (result, _) => result,
                    },
                );
            });
            for (at, ban) in numbered().filter(|(_, ban)| ban.kind(made) == SetKind::Networks) {
                let around = meet(self.offender_around(made, ban), ban, repeat);
                if let BanOutcome::InForce(_) = around {
                    report(at, Ok(around));
                    continue;
                }
                let mut result = self.ban_network(ban, repeat);
                if result.as_ref().is_err_and(is_gone) {
                    self.invalidate();
                    result = self.prepare(batch).and_then(|_| self.ban_network(ban, repeat));
                }
                match result {
                    Ok(BanOutcome::Banned) => report(at, Ok(around)),
                    Ok(outcome) => report(at, Ok(outcome)),
                    Err(e) => report(at, Err(&e)),
                }
            }
        }
    }

    /// Sees to it that the table and all sets of the batch are there, also when the table went away since the
    /// last look.
    pub(super) fn prepare(&mut self, batch: &[Ban<'_>]) -> Result<TableState, Failure> {
        match self.prepare_once(batch) {
            Err(e) if is_gone(&e) => {
                self.invalidate();
                self.prepare_once(batch)
            }
            result => result,
        }
    }

    fn prepare_once(&mut self, batch: &[Ban<'_>]) -> Result<TableState, Failure> {
        let made = match self.made {
            // Whoever rebuilt a flushed table may have given IPv6 keys another length, and a key of the wrong
            // length is never looked up: what is remembered is good enough for IPv4 only.
            Some(made) if batch.iter().all(|ban| ban.addr.family() == Family::V4) => made,
            _ => self.ensure()?,
        };
        for ban in batch.iter().filter(|ban| !ban.scope.is_all()) {
            let kind = ban.kind(made);
            if self.scopes.iter().any(|(s, k)| s == ban.scope && *k == kind) {
                continue;
            }
            let there = query::set(&mut self.socket, &TABLE, &ban.scope.set(kind, Family::V4), &mut |_| ())?;
            if !there {
                self.write_scope(ban.scope, kind, made.ipv6_prefix, RulePosition::First);
                match self.txn.commit(&mut self.socket) {
                    // Another process was first: sets and rules are there, both or neither.
                    Err(e) if e.errno() == Errno::EEXIST => {}
                    result => result?,
                }
            }
            self.scopes.push((ban.scope.clone(), kind));
        }
        Ok(made)
    }

    /// Takes those out of `hosts` who are banned for long enough with a network around them, and reports
    /// them. Returns what becomes of the others who are banned with one, but not for long enough.
    fn covered(
        &mut self,
        hosts: &mut Vec<(usize, &Ban<'_>)>,
        repeat: Repeat,
        report: BanReport<'_>,
    ) -> Vec<(usize, Standing)> {
        let (mut covered, mut empty) = (Vec::new(), Vec::new());
        hosts.retain(|(at, ban)| {
            let set = ban.scope.set(SetKind::Networks, ban.addr.family());
            if empty.contains(&set) || self.is_empty(&set) {
                empty.push(set);
                empty.dedup();
                return true;
            }
            let before = if ban.addr.first() == ban.addr.last() {
                self.standing(&set, ban.addr.key().bytes())
            } else {
                self.pieces(&set, &ban.addr).map(|pieces| whole(&pieces, &ban.addr))
            };
            // What cannot be asked now is refused when it is to be changed.
            match meet(before.unwrap_or(None), ban, repeat) {
                BanOutcome::Extended(after) => covered.push((*at, after)),
                BanOutcome::InForce(before) => {
                    report(*at, Ok(BanOutcome::InForce(before)));
                    return false;
                }
                BanOutcome::Banned => {}
            }
            true
        });
        covered
    }

    /// The ban of the IPv6 offender that a smaller prefix is a part of.
    fn offender_around(&mut self, made: TableState, ban: &Ban<'_>) -> Option<Standing> {
        let offender = Range::from(offender(ban.addr.first(), made.ipv6_prefix));
        if !offender.covers(&ban.addr) || offender == ban.addr {
            return None;
        }
        let set = ban.scope.set(SetKind::Hosts, ban.addr.family());
        self.standing(&set, offender.key().bytes()).ok().flatten()
    }

    /// Whether a set is known to have no elements, or is not there.
    fn is_empty(&mut self, set: &Name) -> bool {
        let mut count = None;
        let there = query::set(&mut self.socket, &TABLE, set, &mut |set| count = set.count);
        matches!((there, count), (Ok(false), _) | (_, Some(0)))
    }

    /// Bans those that go to hash sets, all of whom are new as a rule.
    fn ban_hosts(&mut self, hosts: &Hosts<'_, '_>, repeat: Repeat, report: BanReport<'_>) {
        hosts.iter().for_each(|(_, ban)| self.write_host(ban));
        match self.txn.commit(&mut self.socket) {
            Ok(()) => hosts.iter().for_each(|(at, _)| report(*at, Ok(BanOutcome::Banned))),
            Err(e) if e.errno() == Errno::EEXIST => self.ban_known(hosts, repeat, RETRIES_MAX, report),
            // The table went away under us: somebody flushed the rule set.
            Err(e) if e.errno() == Errno::ENOENT => {
                self.invalidate();
                let bans: Vec<Ban<'_>> = hosts.iter().map(|(_, ban)| **ban).collect();
                match self.prepare(&bans) {
                    Ok(_) => self.ban_known(hosts, repeat, RETRIES_MAX, report),
                    Err(e) => hosts.iter().for_each(|(at, _)| report(*at, Err(&e))),
                }
            }
            Err(e) => self.halve(hosts, (repeat, RETRIES_MAX), e, report),
        }
    }

    /// Bans those of whom some are banned already: each is asked for first.
    fn ban_known(&mut self, hosts: &Hosts<'_, '_>, repeat: Repeat, tries: u32, report: BanReport<'_>) {
        let same = |a: &Ban<'_>, b: &Ban<'_>| (a.addr, a.scope) == (b.addr, b.scope);
        let (mut once, mut again) = (Vec::<(usize, &Ban<'_>)>::with_capacity(hosts.len()), Vec::new());
        for host in hosts {
            let twin = once.iter().any(|(_, other)| same(other, host.1));
            if twin {
                again.push(*host)
            } else {
                once.push(*host)
            };
        }
        let mut outcomes = Vec::with_capacity(once.len());
        for (_, ban) in &once {
            let set = ban.scope.set(SetKind::Hosts, ban.addr.family());
            match self.standing(&set, ban.addr.key().bytes()) {
                Ok(before) => outcomes.push(meet(before, ban, repeat)),
                Err(e) => return hosts.iter().for_each(|(at, _)| report(*at, Err(&e))),
            }
        }
        let planned = || once.iter().map(|(_, ban)| *ban).zip(&outcomes);
        // Kernels that take the new time of what is there keep its comment: it is deleted and added anew.
        // First all of one kind, so that they share a message.
        for (ban, _) in planned().filter(|(_, outcome)| matches!(outcome, BanOutcome::Extended(_))) {
            let set = ban.scope.set(SetKind::Hosts, ban.addr.family());
            self.txn.delete_elem(&set, &plain(ban.addr.key().bytes()));
        }
        for (ban, outcome) in planned() {
            match outcome {
                BanOutcome::Banned => self.write_host(ban),
                BanOutcome::Extended(after) => self.write_host(&after.ban(ban.addr, ban.scope)),
                BanOutcome::InForce(_) => {}
            }
        }
        match self.txn.commit(&mut self.socket) {
            Ok(()) => {
                for ((at, _), outcome) in once.iter().zip(outcomes) {
                    report(*at, Ok(outcome));
                }
                if !again.is_empty() {
                    self.ban_known(&again, repeat, RETRIES_MAX, report);
                }
            }
            // An element has ended or was added between the question and the transaction.
            Err(e) if tries > 0 && matches!(e.errno(), Errno::EEXIST | Errno::ENOENT) => {
                self.ban_known(hosts, repeat, tries - 1, report);
            }
            Err(e) => self.halve(hosts, (repeat, tries), e, report),
        }
    }

    /// Bans the two halves of a batch that was refused, so that one bad element costs only itself.
    fn halve(
        &mut self,
        hosts: &Hosts<'_, '_>,
        (repeat, tries): (Repeat, u32),
        e: TxnError,
        report: BanReport<'_>,
    ) {
        if hosts.len() < 2 || !can_halve(&e) {
            let failure = Failure::from(e);
            return hosts.iter().for_each(|(at, _)| report(*at, Err(&failure)));
        }
        let (left, right) = hosts.split_at(hosts.len() / 2);
        self.ban_known(left, repeat, tries, report);
        self.ban_known(right, repeat, tries, report);
    }

    /// Whether bans of these ports are in force for any part of the range.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn has_ban(&mut self, addr: &Range, scope: &Scope) -> Result<bool, Failure> {
        let prefix = self.made.map_or(64, |made| made.ipv6_prefix);
        match kind(addr, prefix) {
            kind @ (SetKind::Hosts | SetKind::Scans) => {
                Ok(self.standing(&scope.set(kind, addr.family()), addr.key().bytes())?.is_some())
            }
            SetKind::Networks => {
                Ok(!self.pieces(&scope.set(SetKind::Networks, addr.family()), addr)?.is_empty())
            }
        }
    }

    /// What a hash set has of a key.
    pub(super) fn standing(&mut self, set: &Name, key: &[u8]) -> Result<Option<Standing>, Failure> {
        let mut found = None;
        query::element(&mut self.socket, &TABLE, set, key, &mut |e| {
            found = Some(Standing::read(e.comment, e.timeout_ms, e.left_ms));
        })?;
        Ok(found)
    }

    /// Writes an element that must be new.
    fn write_host(&mut self, ban: &Ban<'_>) {
        let (key, comment) = (ban.addr.key(), ban.comment());
        let comment = std::str::from_utf8(&comment).unwrap_or(ban.rule);
        let set = ban.scope.set(SetKind::Hosts, ban.addr.family());
        let elem = Elem { key: key.bytes(), end: None, timeout: ban.timeout(), comment };
        self.txn.add_new_elem(&set, &elem);
    }
}

/// An element as it is named to be deleted.
pub(super) fn plain(key: &[u8]) -> Elem<'_> {
    Elem { key, end: None, timeout: Timeout::None, comment: "" }
}
