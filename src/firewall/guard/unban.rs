#![forbid(unsafe_code)]
//! Ends bans. A dump of a set is no snapshot: what has to be complete is looked for until nothing more is
//! found.

use super::ban::kind;
use super::change::{BATCH, plain};
use super::list::host;
use super::networks;
use super::scope::SetKind;
use super::{Guard, TABLE, TableState};
use crate::ban::WhichBans;
use crate::ban::{Failure, Repeat, Scope, Standing};
use crate::base::name::Name;
use crate::base::range::{AddrKey, Family, Range};
use crate::firewall::nft::{TxnError, query};
use nix::errno::Errno;

/// Dumps of a set at most, each of which has found something; those that found as much as is taken note of
/// are a twentieth.
const PASSES: usize = 50 * SHORT;
const SHORT: usize = 20;
/// Addresses of which note is taken in one dump: memory stays the same, however many there are.
const PART: usize = 1 << 16;
/// How often a batch is sent without those that were not there.
const RESENDS_MAX: usize = 4;

/// Questions that cost more than to find out first whether a set is empty, as most are.
const LOOKUPS_MAX: usize = 16;

/// A range with its number among those that are asked for.
type Asked = (usize, Range);

/// A set in which bans are ended.
struct UnbanTarget {
    set: Name,
    scope: Scope,
    kind: SetKind,
    /// Whether an element of it shuts somebody out; who is only counted is not banned.
    shuts_out: bool,
}

impl Guard {
    /// Ends the bans of all addresses of each range, whatever ports and rules they were for; how many there
    /// were of each. `remembered` are offenders inside that a dump may leave out.
    ///
    /// # Errors
    /// The system call, or what the kernel refused.
    pub fn unban(&mut self, ranges: &[Range], remembered: &[Range]) -> Result<Vec<usize>, Failure> {
        let mut counts = vec![0; ranges.len()];
        let Some(made) = self.probe()? else { return Ok(counts) };
        let scopes = self.all_scopes()?;
        for family in Family::ALL {
            let mine = (0..).zip(ranges.iter().copied()).filter(|(_, range)| range.family() == family);
            let asked: Vec<Asked> = mine.collect();
            if asked.is_empty() {
                continue;
            }
            for target in self.targets(&scopes, family) {
                let mut ended = |at: usize, n: usize| {
                    if let Some(count) = counts.get_mut(at).filter(|_| target.shuts_out) {
                        *count += n;
                    }
                };
                match target.kind {
                    SetKind::Networks => self.remove_from_networks(&target.set, &asked, &mut ended)?,
                    _ => self.remove_from_hosts(made, &target, (&asked, remembered), &mut ended)?,
                }
            }
        }
        Ok(counts)
    }

    /// Takes each range out of a set of networks. Those that it has nothing of are found out together.
    fn remove_from_networks(
        &mut self,
        set: &Name,
        asked: &[Asked],
        ended: &mut dyn FnMut(usize, usize),
    ) -> Result<(), Failure> {
        // An address is asked for; of a prefix any part may be there.
        let (single, mut wide): (Vec<Asked>, Vec<Asked>) =
            asked.iter().partition(|(_, range)| range.first() == range.last());
        let mut met = self.present(set, &single)?;
        if wide.len() > 1 {
            let mut meets = vec![false; wide.len()];
            networks::read(&mut self.socket, set, &mut |piece| {
                wide.iter().zip(&mut meets).for_each(|((_, range), met)| *met |= piece.range.meets(range));
            })?;
            let mut meets = meets.into_iter();
            wide.retain(|_| meets.next() == Some(true));
        }
        met.append(&mut wide);
        for (at, range) in &met {
            ended(*at, self.remove_range(set, range)?);
        }
        Ok(())
    }

    /// Likewise of a hash set.
    fn remove_from_hosts(
        &mut self,
        made: TableState,
        target: &UnbanTarget,
        (asked, remembered): (&[Asked], &[Range]),
        ended: &mut dyn FnMut(usize, usize),
    ) -> Result<(), Failure> {
        let single = |range: &Range| kind(range, made.ipv6_prefix) == SetKind::Hosts;
        // What the kernel counts and bans by itself may be single addresses of a prefix.
        let by_key =
            |range: &Range| single(range) && !(target.kind == SetKind::Scans && range.family() == Family::V6);
        let (mut exact, mut wide): (Vec<Asked>, Vec<Asked>) =
            asked.iter().partition(|(_, range)| by_key(range));
        // Who is unbanned is in the first set most likely, and in no other one. A transaction that fails
        // costs the kernel more than many questions.
        if target.kind != SetKind::Hosts || !target.scope.is_all() {
            exact = self.present(&target.set, &exact)?;
        }
        for part in exact.chunks(BATCH) {
            let keys: Vec<Range> = part.iter().map(|(_, range)| *range).collect();
            for gone in self.remove_keys(&target.set, &keys)? {
                ended(part.get(gone).map_or(usize::MAX, |(at, _)| *at), 1);
            }
        }
        if wide.len() > 1 {
            let mut meets: Vec<bool> =
                wide.iter().map(|(_, range)| remembered.iter().any(|addr| range.covers(addr))).collect();
            query::elements(&mut self.socket, &TABLE, &target.set, &mut || (), &mut |e| {
                let Some(addr) = host(e.key, made) else { return };
                wide.iter().zip(&mut meets).for_each(|((_, range), met)| *met |= range.meets(&addr));
            })?;
            let mut meets = meets.into_iter();
            wide.retain(|_| meets.next() == Some(true));
        }
        for (at, range) in &wide {
            let inside = |other: &&Range| range.covers(other) && single(other);
            let also: Vec<Range> = remembered.iter().filter(inside).copied().collect();
            ended(*at, self.remove_hosts(made, target, range, &also)?);
        }
        Ok(())
    }

    /// Those that a set has.
    fn present(&mut self, set: &Name, asked: &[Asked]) -> Result<Vec<Asked>, Failure> {
        if asked.len() > LOOKUPS_MAX && !self.filled.contains(set) {
            let mut empty = true;
            query::elements(&mut self.socket, &TABLE, set, &mut || (), &mut |_| empty = false)?;
            if empty {
                return Ok(Vec::new());
            }
            self.filled.push(*set);
        }
        let keys: Vec<AddrKey> = asked.iter().map(|(_, range)| range.key()).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AddrKey::bytes).collect();
        let found = query::present(&mut self.socket, &TABLE, set, &keys)?;
        Ok(found.into_iter().filter_map(|at| asked.get(at).copied()).collect())
    }

    /// The sets that have to do with whom is shut out.
    fn targets(&self, scopes: &[(Scope, SetKind)], family: Family) -> Vec<UnbanTarget> {
        let of = |(scope, kind): &(Scope, SetKind)| {
            let set = scope.set(*kind, family);
            UnbanTarget { set, scope: scope.clone(), kind: *kind, shuts_out: true }
        };
        // Who is held back is shut out as by a ban if everything of it is dropped; whose closed ports were
        // counted would be banned again for one more, but that is no ban.
        let counted = [(self.throttle(family), true), (self.scan_rate(family), false)];
        let counted = counted.into_iter().filter_map(|(set, shuts_out)| {
            Some(UnbanTarget { set: set?, scope: Scope::ALL, kind: SetKind::Scans, shuts_out })
        });
        scopes.iter().map(of).chain(counted).collect()
    }

    /// Ends the bans of a hash set that lie inside a range, and cuts the range out of one that it is a part
    /// of.
    fn remove_hosts(
        &mut self,
        made: TableState,
        target: &UnbanTarget,
        range: &Range,
        also: &[Range],
    ) -> Result<usize, Failure> {
        let (mut count, mut passes, mut also) = (0, 0, also);
        while passes < PASSES {
            let (mut inside, mut parts) = (Vec::new(), Vec::new());
            let found = std::cell::RefCell::new((&mut inside, &mut parts));
            let restart = &mut || {
                let mut found = found.borrow_mut();
                found.0.clear();
                found.1.clear();
            };
            query::elements(&mut self.socket, &TABLE, &target.set, restart, &mut |e| {
                let Some(addr) = host(e.key, made) else { return };
                let mut found = found.borrow_mut();
                if range.covers(&addr) {
                    if found.0.len() < PART {
                        found.0.push(addr);
                    }
                } else if range.meets(&addr) {
                    found.1.push((addr, Standing::read(e.comment, e.timeout_ms, e.left_ms)));
                }
            })?;
            passes += if inside.len() < PART { SHORT } else { 1 };
            inside.extend(std::mem::take(&mut also));
            inside.sort_unstable();
            inside.dedup();
            if inside.is_empty() && parts.is_empty() {
                break;
            }
            for batch in inside.chunks(BATCH) {
                count += self.remove_keys(&target.set, batch)?.len();
            }
            for (addr, standing) in &parts {
                count += self.split_host(target, range, addr, standing)?;
            }
        }
        Ok(count)
    }

    /// Takes a part out of a banned prefix: what is left of it is banned as networks.
    fn split_host(
        &mut self,
        target: &UnbanTarget,
        range: &Range,
        addr: &Range,
        standing: &Standing,
    ) -> Result<usize, Failure> {
        if target.kind == SetKind::Hosts {
            for rest in addr.without(range).into_iter().flatten() {
                let ban = standing.ban(rest, &target.scope);
                self.prepare(&[ban])?;
                // The whole is still banned, and must not count as what stands in the way.
                self.ban_network(&ban, Repeat::Prolongs)?;
            }
        }
        Ok(self.remove_keys(&target.set, &[*addr])?.len())
    }

    /// Deletes keys of a hash set; the numbers of those that were there.
    pub(super) fn remove_keys(&mut self, set: &Name, keys: &[Range]) -> Result<Vec<usize>, Failure> {
        let mut there: Vec<usize> = (0..keys.len()).collect();
        for _ in 0..RESENDS_MAX {
            if there.is_empty() {
                break;
            }
            for key in there.iter().filter_map(|at| keys.get(*at)) {
                self.txn.delete_elem_alone(set, &plain(key.key().bytes()));
            }
            match self.txn.commit(&mut self.socket) {
                Ok(()) => return Ok(there),
                Err(TxnError::Refused(all)) if all.iter().all(|r| r.errno == Errno::ENOENT) => {
                    let gone: Vec<usize> = all.iter().filter_map(|r| usize::try_from(r.at).ok()).collect();
                    if gone.len() == there.len() {
                        return Ok(Vec::new());
                    }
                    let mut number = 0..;
                    there.retain(|_| number.next().is_some_and(|n| !gone.contains(&n)));
                }
                Err(e) => return Err(e.into()),
            }
        }
        // They end faster than they are asked for: one by one.
        let mut deleted = Vec::new();
        for at in there {
            if let Some(key) = keys.get(at)
                && self.remove_key(set, key.key().bytes())?
            {
                deleted.push(at);
            }
        }
        Ok(deleted)
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

    /// Ends all bans, or all that have an end. In many small transactions: one
    /// that flushes a large set takes the kernel 8 kB for each element while anybody listens to its changes.
    ///
    /// # Errors
    /// The system call, or what the kernel refused.
    pub fn unban_all(&mut self, which: WhichBans) -> Result<(), Failure> {
        let Some(made) = self.probe()? else { return Ok(()) };
        let permanent = which == WhichBans::All;
        let scopes = self.all_scopes()?;
        for family in Family::ALL {
            let spared = self.throttle(family).filter(|_| which == WhichBans::ButThrottled);
            for target in self.targets(&scopes, family) {
                if spared == Some(target.set) {
                    continue;
                }
                let mut passes = 0;
                while passes < PASSES {
                    let mut timed = Vec::new();
                    if target.kind == SetKind::Networks {
                        networks::read(&mut self.socket, &target.set, &mut |piece| {
                            if (permanent || piece.timeout_ms > 0) && timed.len() < PART {
                                timed.push(piece.range);
                            }
                        })?;
                    } else {
                        let found = std::cell::RefCell::new(&mut timed);
                        let restart = &mut || found.borrow_mut().clear();
                        query::elements(&mut self.socket, &TABLE, &target.set, restart, &mut |e| {
                            // Buckets of counts have an end whatever the kernel tells of it.
                            let ends = permanent || e.timeout_ms > 0 || !target.shuts_out;
                            let mut found = found.borrow_mut();
                            if ends && found.len() < PART {
                                found.extend(host(e.key, made));
                            }
                        })?;
                    }
                    if timed.is_empty() {
                        break;
                    }
                    passes += if timed.len() < PART { SHORT } else { 1 };
                    for batch in timed.chunks(BATCH) {
                        match target.kind {
                            SetKind::Networks => self.remove_ranges(&target.set, batch)?,
                            _ => self.remove_keys(&target.set, batch).map(drop)?,
                        }
                        self.listeners.wait();
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes intervals; those that end meanwhile cost the others nothing.
    fn remove_ranges(&mut self, set: &Name, ranges: &[Range]) -> Result<(), Failure> {
        ranges.iter().for_each(|range| self.delete_range(set, range));
        match self.txn.commit(&mut self.socket) {
            Err(e) if e.errno() == Errno::ENOENT && ranges.len() > 1 => {
                let (left, right) = ranges.split_at(ranges.len() / 2);
                self.remove_ranges(set, left)?;
                self.remove_ranges(set, right)
            }
            Err(e) if e.errno() == Errno::ENOENT => Ok(()),
            result => Ok(result?),
        }
    }
}
