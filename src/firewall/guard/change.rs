#![forbid(unsafe_code)]
//! Bans and unbans: which set each goes to, in batches that the kernel takes whole or that are halved until
//! the one it refuses is found.

use super::layout::Place;
use super::list::host;
use super::scope::Kind;
use super::{Failure, Guard, Made, Refresh, Scope, TABLE};
use crate::base::clock::Span;
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::{TxnError, query};
use nix::errno::Errno;
use smallvec::SmallVec;
use std::io::Write as _;

/// Bans of one transaction: what fits one message.
const BATCH: usize = 768;

/// A ban as the kernel is to hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban<'a> {
    /// Whom.
    pub who: Range,
    /// Which ports.
    pub scope: &'a Scope,
    /// For how long from now.
    pub time: Span,
    /// The service rule, or empty for a ban by hand.
    pub rule: &'a str,
    /// Hits that led to it.
    pub hits: u32,
    /// Free text, or empty.
    pub reason: &'a str,
    /// Bans of it so far that count; only remembered, the kernel does not hold it.
    pub bans: u32,
    /// When these began, as the journal keeps it; only remembered, too.
    pub starts: &'a [u8],
}

impl Ban<'_> {
    fn timeout(&self) -> Timeout {
        Timeout::Ms(match self.time {
            Span::Permanent => 0,
            Span::Secs(s) => s.max(1).saturating_mul(1000),
        })
    }

    /// `RULE hits=N: REASON`, each part only if it is there.
    fn comment(&self) -> SmallVec<[u8; 64]> {
        let mut text = SmallVec::new();
        text.extend_from_slice(self.rule.as_bytes());
        if self.hits > 0 {
            let _ = write!(text, " hits={}", self.hits);
        }
        if !self.reason.is_empty() {
            let _ = write!(text, ": {}", self.reason);
        }
        text
    }

    fn kind(&self, made: Made) -> Kind {
        kind(&self.who, made.ipv6_prefix)
    }
}

/// Where a range belongs: IPv4 addresses and IPv6 prefixes of the table's length are keys of hash sets.
fn kind(who: &Range, ipv6_prefix: u8) -> Kind {
    let length = match who.family() {
        Family::V4 => 32,
        Family::V6 => ipv6_prefix,
    };
    match who.as_net() {
        Some(net) if net.prefix_len() == length => Kind::Hosts,
        _ => Kind::Networks,
    }
}

/// Whether a smaller batch may succeed: one bad element, no memory, a send buffer that may not grow.
fn can_halve(e: &TxnError) -> bool {
    matches!(e, TxnError::Refused(_)) || matches!(e.errno(), Errno::EMSGSIZE | Errno::ENOBUFS)
}

/// Whether the table or a set of it is not there any more: somebody flushed the rule set.
fn is_gone(e: &Failure) -> bool {
    matches!(e, Failure::Change(e) if e.errno() == Errno::ENOENT)
}

/// Hears what the kernel did with each change: its index, and why it failed if it did.
pub type Report<'r> = &'r mut dyn FnMut(usize, Result<(), &Failure>);

impl Guard {
    /// Bans each; one that is there already gets the new time. `report` is called once for each, after the
    /// kernel has acknowledged or refused it.
    pub fn ban(&mut self, bans: &[Ban<'_>], report: Report<'_>) {
        for (i, batch) in bans.chunks(BATCH).enumerate() {
            let first = i * BATCH;
            let made = match self.prepare(batch) {
                Ok(made) => made,
                Err(e) => {
                    (first..first + batch.len()).for_each(|at| report(at, Err(&e)));
                    continue;
                }
            };
            self.ban_hosts(made, first, batch, true, report);
            for (at, ban) in batch.iter().enumerate().filter(|(_, ban)| ban.kind(made) == Kind::Networks) {
                let set = ban.scope.set(Kind::Networks, ban.who.family());
                let Timeout::Ms(ms) = ban.timeout() else { continue };
                let comment = ban.comment();
                let text = std::str::from_utf8(&comment).unwrap_or(ban.rule);
                let mut result = self.add_range((&set, ban.scope), &ban.who, ms, text);
                if result.as_ref().is_err_and(is_gone) {
                    self.forget();
                    result = self
                        .prepare(batch)
                        .and_then(|_| self.add_range((&set, ban.scope), &ban.who, ms, text));
                }
                report(first + at, result.as_ref().copied());
            }
        }
    }

    /// Sees to it that the table and all sets of the batch are there, also when the table went away since the
    /// last look.
    fn prepare(&mut self, batch: &[Ban<'_>]) -> Result<Made, Failure> {
        match self.prepare_once(batch) {
            Err(e) if is_gone(&e) => {
                self.forget();
                self.prepare_once(batch)
            }
            result => result,
        }
    }

    fn prepare_once(&mut self, batch: &[Ban<'_>]) -> Result<Made, Failure> {
        let made = match self.made {
            // Whoever rebuilt a flushed table may have given IPv6 keys another length, and a key of the wrong
            // length is never looked up: what is remembered is good enough for IPv4 only.
            Some(made) if batch.iter().all(|ban| ban.who.family() == Family::V4) => made,
            _ => self.ensure()?,
        };
        for ban in batch.iter().filter(|ban| !ban.scope.is_all()) {
            let kind = ban.kind(made);
            if self.scopes.iter().any(|(s, k)| s == ban.scope && *k == kind) {
                continue;
            }
            let there = query::set(&mut self.socket, &TABLE, &ban.scope.set(kind, Family::V4), &mut |_| ())?;
            if !there {
                self.write_scope(ban.scope, kind, made.ipv6_prefix, Place::First);
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

    /// Bans those that go to hash sets. A refused batch is halved, so that one bad element costs only itself.
    fn ban_hosts(&mut self, made: Made, first: usize, batch: &[Ban<'_>], retry: bool, report: Report<'_>) {
        self.write_hosts(made, batch);
        match self.txn.commit(&mut self.socket) {
            Ok(()) => {
                let hosts = batch.iter().enumerate().filter(|(_, ban)| ban.kind(made) == Kind::Hosts);
                hosts.for_each(|(at, _)| report(first + at, Ok(())));
            }
            // The table went away under us: somebody flushed the rule set.
            Err(e) if e.errno() == Errno::ENOENT && retry => {
                self.forget();
                if let Ok(made) = self.prepare(batch) {
                    self.ban_hosts(made, first, batch, false, report);
                } else {
                    self.refuse_hosts(made, first, batch, e, report);
                }
            }
            Err(e) if batch.len() > 1 && can_halve(&e) => {
                let (left, right) = batch.split_at(batch.len() / 2);
                self.ban_hosts(made, first, left, retry, report);
                self.ban_hosts(made, first + left.len(), right, retry, report);
            }
            Err(e) => self.refuse_hosts(made, first, batch, e, report),
        }
    }

    fn refuse_hosts(&self, made: Made, first: usize, batch: &[Ban<'_>], e: TxnError, report: Report<'_>) {
        let failure = Failure::Change(e);
        let hosts = batch.iter().enumerate().filter(|(_, ban)| ban.kind(made) == Kind::Hosts);
        hosts.for_each(|(at, _)| report(first + at, Err(&failure)));
    }

    fn write_hosts(&mut self, made: Made, batch: &[Ban<'_>]) {
        // Kernels that do not prolong: what is added can be deleted without an error, and then added anew.
        let passes: &[bool] = match made.refresh {
            Refresh::Update => &[true],
            Refresh::Replace => &[true, false, true],
        };
        for &adds in passes {
            for ban in batch.iter().filter(|ban| ban.kind(made) == Kind::Hosts) {
                let set = ban.scope.set(Kind::Hosts, ban.who.family());
                let (key, comment) = (ban.who.key(), ban.comment());
                let comment = std::str::from_utf8(&comment).unwrap_or(ban.rule);
                if adds {
                    let elem = Elem { key: key.bytes(), end: None, timeout: ban.timeout(), comment };
                    self.txn.add_elem(&set, &elem);
                } else {
                    self.txn.delete_elem(&set, &plain(key.bytes()));
                }
            }
        }
    }

    /// Ends the bans of all addresses of a range, whatever ports and rules they were for; how many there were.
    /// `inside` hears of each ban of a part of the range that ended with it; parts of networks are `Cut`s.
    ///
    /// # Errors
    /// The system call, or what the kernel refused.
    pub fn unban(&mut self, who: &Range, inside: &mut dyn FnMut(Range)) -> Result<usize, Failure> {
        let Some(made) = self.look()? else { return Ok(0) };
        let mut count = 0;
        for (scope, kind) in self.all_scopes()? {
            let set = scope.set(kind, who.family());
            match kind {
                Kind::Networks => count += usize::from(self.remove_range((&set, &scope), who)?),
                Kind::Hosts | Kind::Scans if self::kind(who, made.ipv6_prefix) == Kind::Hosts => {
                    count += usize::from(self.remove_key(&set, who.key().bytes())?);
                }
                Kind::Hosts | Kind::Scans => count += self.remove_keys(made, &set, who, inside)?,
            }
        }
        // Who is held back is shut out as by a ban if everything of it is dropped; whose closed ports were counted would
        // be banned again for one more, but that is no ban.
        let family = who.family();
        for (set, shuts_out) in [(self.throttle(family), true), (self.scan_rate(family), false)] {
            let Some(set) = set else { continue };
            let ended = match kind(who, made.ipv6_prefix) {
                Kind::Networks => self.remove_keys(made, &set, who, &mut |_| ())?,
                Kind::Hosts | Kind::Scans => usize::from(self.remove_key(&set, who.key().bytes())?),
            };
            count += if shuts_out { ended } else { 0 };
        }
        Ok(count)
    }

    /// Ends all bans, the permanent ones only if `permanent`.
    ///
    /// # Errors
    /// The system call, or what the kernel refused.
    pub fn unban_all(&mut self, permanent: bool) -> Result<(), Failure> {
        let Some(made) = self.look()? else { return Ok(()) };
        let mut kept = Vec::new();
        if !permanent {
            self.list(&mut |e| {
                if e.left.is_none() {
                    kept.push((e.who, e.scope.clone(), e.rule.to_owned(), e.hits, e.reason.to_owned()));
                }
            })?;
        }
        for (scope, kind) in self.all_scopes()? {
            for family in Family::ALL {
                self.txn.flush_set(&scope.set(kind, family));
            }
        }
        for family in Family::ALL {
            let counted = [self.throttle(family), self.scan_rate(family)];
            counted.iter().flatten().for_each(|set| self.txn.flush_set(set));
        }
        for (who, scope, rule, hits, reason) in &kept {
            let ban = Ban {
                who: *who,
                scope,
                time: Span::Permanent,
                rule,
                hits: *hits,
                reason,
                bans: 0,
                starts: &[],
            };
            let comment = ban.comment();
            let comment = std::str::from_utf8(&comment).unwrap_or("");
            let set = scope.set(ban.kind(made), who.family());
            match ban.kind(made) {
                Kind::Hosts | Kind::Scans => {
                    let key = who.key();
                    self.txn.add_elem(
                        &set,
                        &Elem { key: key.bytes(), end: None, timeout: Timeout::Ms(0), comment },
                    );
                }
                Kind::Networks => self.write_range(&set, who, Timeout::Ms(0), comment),
            }
        }
        Ok(self.txn.commit(&mut self.socket)?)
    }

    pub(super) fn remove_key(&mut self, set: &Name, key: &[u8]) -> Result<bool, Failure> {
        if !query::element(&mut self.socket, &TABLE, set, key, &mut |_| ())? {
            return Ok(false);
        }
        self.txn.delete_elem(set, &plain(key));
        match self.txn.commit(&mut self.socket) {
            // It expired between the question and the answer, or was deleted and the answer lost: it is gone.
            Err(e) if e.errno() == Errno::ENOENT => Ok(true),
            result => Ok(result.map(|()| true)?),
        }
    }

    fn remove_keys(
        &mut self,
        made: Made,
        set: &Name,
        who: &Range,
        inside: &mut dyn FnMut(Range),
    ) -> Result<usize, Failure> {
        let found = std::cell::RefCell::new(Vec::new());
        query::elements(&mut self.socket, &TABLE, set, &mut || found.borrow_mut().clear(), &mut |e| {
            // A prefix that is banned stays so when a part of it is named.
            found.borrow_mut().extend(host(e.key, made).filter(|host| who.covers(host)));
        })?;
        let mut count = 0;
        for host in found.into_inner() {
            if self.remove_key(set, host.key().bytes())? {
                count += 1;
                inside(host);
            }
        }
        Ok(count)
    }
}

fn plain(key: &[u8]) -> Elem<'_> {
    Elem { key, end: None, timeout: Timeout::None, comment: "" }
}
