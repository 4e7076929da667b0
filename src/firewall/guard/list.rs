#![forbid(unsafe_code)]
//! The bans that the kernel holds, as its own sets tell them.

use super::scope::{Scopes, SetKind};
use super::{Guard, TABLE, TableState, layout, networks};
use crate::ban::{BanEntry, Failure, SCANS, Scope, Standing};
use crate::base::name::Name;
use crate::base::net::prefix;
use crate::base::range::{Family, Range};
use crate::firewall::nft::query;

/// Dumps of a set at most, until one brings nothing new.
const PASSES: usize = 8;

impl Guard {
    /// Every scope with its kind of set that the table has.
    pub(super) fn all_scopes(&mut self) -> Result<Scopes, Failure> {
        let mut scopes = SetKind::ALL.map(|kind| (Scope::ALL, kind)).to_vec();
        query::sets(&mut self.socket, &TABLE, &mut |set| {
            let scans = Scope::ALL.set(SetKind::Scans, Family::V4);
            let scope = match layout::read_scope(&set) {
                None if set.name == scans.as_str() => Some((Scope::ALL, SetKind::Scans)),
                scope => scope,
            };
            if let Some(scope) = scope
                && !scopes.contains(&scope)
            {
                scopes.push(scope);
            }
        })?;
        Ok(scopes)
    }

    /// Calls `each` for every ban in force, once: the kernel is asked until it has nothing new to tell.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn list(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        let Some(made) = self.probe()? else { return Ok(()) };
        let scopes = self.all_scopes()?;
        for (at, (scope, _)) in scopes.iter().enumerate() {
            if scopes.iter().take(at).any(|(other, _)| other == scope) {
                continue;
            }
            for family in Family::ALL {
                let mut all = Vec::new();
                for (_, kind) in scopes.iter().filter(|(other, _)| other == scope) {
                    all.extend(self.all_of(made, &scope.set(*kind, family), *kind)?);
                }
                // The same prefix may be in two sets: as an offender, and as what is left of a network. The
                // later end counts.
                let ends = |found: &ListedBan| found.standing.left.unwrap_or(u64::MAX);
                all.sort_by(|a, b| (a.addr, ends(b)).cmp(&(b.addr, ends(a))));
                all.dedup_by_key(|found| found.addr);
                all.iter().for_each(|found| found.give(scope, each));
            }
        }
        Ok(())
    }

    /// Calls `each` for the bans in force that the kernel tells when it is asked once: some may come twice,
    /// and some not. Takes no memory for them.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn glance(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        let Some(made) = self.probe()? else { return Ok(()) };
        for (scope, kind) in &self.all_scopes()? {
            for family in Family::ALL {
                let set = scope.set(*kind, family);
                self.pass(made, (&set, *kind), &mut || (), &mut |found| found.give(scope, each))?;
            }
        }
        Ok(())
    }

    /// One dump of a set; `restart` is called when it begins anew.
    fn pass(
        &mut self,
        made: TableState,
        (set, kind): (&Name, SetKind),
        restart: &mut dyn FnMut(),
        each: &mut dyn FnMut(ListedBan),
    ) -> Result<(), Failure> {
        if kind == SetKind::Networks {
            networks::read(&mut self.socket, set, &mut |p| {
                let standing = Standing::read(&p.comment, p.timeout_ms, p.left_ms);
                each(ListedBan { addr: p.range, standing, packets: p.packets });
            })?;
            return Ok(());
        }
        query::elements(&mut self.socket, &TABLE, set, restart, &mut |e| {
            // The kernel bans for port scans by itself, without a comment.
            let by_kernel = kind == SetKind::Scans && e.comment.is_empty();
            let comment = if by_kernel { SCANS } else { e.comment };
            if let Some(addr) = host(e.key, made) {
                let standing = Standing::read(comment, e.timeout_ms, e.left_ms);
                each(ListedBan { addr, standing, packets: e.packets });
            }
        })?;
        Ok(())
    }

    /// Everything that a set holds. A dump leaves elements out and doubles others while some end or the hash
    /// grows: it is repeated until it brings nothing new and nothing was changed meanwhile.
    pub(super) fn all_of(
        &mut self,
        made: TableState,
        set: &Name,
        kind: SetKind,
    ) -> Result<Vec<ListedBan>, Failure> {
        let mut all: Vec<ListedBan> = Vec::new();
        for _ in 0..PASSES {
            let before = query::generation(&mut self.socket)?;
            let known = all.len();
            let found = std::cell::RefCell::new(&mut all);
            let restart = &mut || found.borrow_mut().truncate(known);
            self.pass(made, (set, kind), restart, &mut |one| found.borrow_mut().push(one))?;
            // The later answer about the same address stands.
            all.reverse();
            all.sort_by_key(|found| found.addr);
            all.dedup_by_key(|found| found.addr);
            let calm = all.is_empty() || query::generation(&mut self.socket)? == before;
            if all.is_empty() || known == all.len() && calm {
                break;
            }
        }
        Ok(all)
    }
}

/// What a set holds of somebody.
pub(super) struct ListedBan {
    pub(super) addr: Range,
    pub(super) standing: Standing,
    pub(super) packets: Option<u64>,
}

impl ListedBan {
    pub(super) fn give(&self, scope: &Scope, each: &mut dyn FnMut(&BanEntry<'_>)) {
        let Standing { age, left, ref rule, hits, ref reason } = self.standing;
        let age = Some(age).filter(|age| left.is_some() || *age > 0);
        each(&BanEntry { addr: self.addr, scope, rule, hits, reason, age, left, packets: self.packets });
    }
}

/// The address or prefix that a key of a hash set stands for.
pub(super) fn host(key: &[u8], made: TableState) -> Option<Range> {
    let address = Range::from_key(key)?;
    let prefix = Range::from(prefix(address.first(), made.ipv6_prefix));
    // A key of bits behind the prefix is an address that counts alone.
    let is_prefix = address.family() == Family::V6 && prefix.first() == address.first();
    Some(if is_prefix { prefix } else { address })
}
