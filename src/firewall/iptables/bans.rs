#![forbid(unsafe_code)]
//! Bans: which set each goes to, and what becomes of it where one is in force already. An address is banned
//! while an element that covers it lives, so that networks may overlap, each with its own end.

use super::driver::NO_IPV6;
use super::elems::{self, Held, host_key, net_elems, nets, plain};
use super::text::{Plan, set_name};
use super::{Fallback, Mark, number_of, restore, write_scope};
use crate::ban::{
    Ban, BanEntry, BanOutcome, BanReport, Capabilities, Doing, Failure, Repeat, Scope, Standing, meet,
};
use crate::base::net::offender;
use crate::base::range::{Family, Range};
use crate::firewall::guard::{SetKind, kind};
use crate::firewall::ipset::DoneBefore;
use crate::firewall::ipset::message::{Command, Elem, Found, SetSpec};
use crate::sys::clock;
use nix::errno::Errno;
use std::cell::RefCell;

/// Bans that are worked on together.
const BATCH: usize = 256;

/// Where a range belongs: as in nf_tables, but that a hash has no place for 0.0.0.0 and ::.
pub(super) fn kind_of(addr: &Range, ipv6_prefix: u8) -> SetKind {
    if addr.first().is_unspecified() { SetKind::Networks } else { kind(addr, ipv6_prefix) }
}

/// Bans of a batch, with their numbers.
type Numbered<'n, 'b, 'a> = &'n [(usize, &'b Ban<'a>)];

impl Fallback {
    /// Bans each; `report` is called once for each.
    pub(super) fn ban_all(&mut self, bans: &[Ban<'_>], repeat: Repeat, report: BanReport<'_>) {
        for (i, batch) in bans.chunks(BATCH).enumerate() {
            let first = i * BATCH;
            match self.prepare(batch) {
                Ok(mark) => self.ban_batch(mark, (first, batch), repeat, report),
                Err(e) => (first..first + batch.len()).for_each(|at| report(at, Err(&e))),
            }
        }
    }

    fn ban_batch(
        &mut self,
        mark: Mark,
        (first, batch): (usize, &[Ban<'_>]),
        repeat: Repeat,
        report: BanReport<'_>,
    ) {
        let all = || batch.iter().enumerate().map(|(at, ban)| (first + at, ban));
        if self.is_watched() {
            let set = |ban: &Ban<'_>| ban.scope.set(kind_of(&ban.addr, mark.ipv6_prefix), ban.addr.family());
            batch.iter().for_each(|ban| self.contents.note(set(ban)));
        }
        let is_open = |(_, ban): &(usize, &Ban<'_>)| mark.is_open(ban.addr.family());
        if all().any(|one| is_open(&one)) {
            let why = Failure::new(Doing::Change, Errno::EOPNOTSUPP, ["this kernel ", NO_IPV6].concat());
            all().filter(is_open).for_each(|(at, _)| report(at, Err(&why)));
        }
        let numbered = || all().filter(|one| !is_open(one));
        let is_host = |ban: &Ban<'_>| kind_of(&ban.addr, mark.ipv6_prefix) == SetKind::Hosts;
        let mut hosts: Vec<(usize, &Ban<'_>)> = numbered().filter(|(_, ban)| is_host(ban)).collect();
        while let Some((_, one)) = hosts.first() {
            let of_one = |(_, ban): &(usize, &Ban<'_>)| {
                ban.scope == one.scope && ban.addr.family() == one.addr.family()
            };
            let (group, rest): (Vec<_>, Vec<_>) = hosts.iter().copied().partition(of_one);
            // Nothing was reported then: what went away meanwhile is made, and all are banned again.
            let mut done = self.ban_hosts(mark, &group, repeat, report);
            if done.is_err() {
                done = self.prepare(batch).and_then(|mark| self.ban_hosts(mark, &group, repeat, report));
            }
            if let Err(e) = done {
                group.iter().for_each(|(at, _)| report(*at, Err(&e)));
            }
            hosts = rest;
        }
        for (at, ban) in numbered().filter(|(_, ban)| !is_host(ban)) {
            match self.ban_network(mark, ban, repeat) {
                Ok(outcome) => report(at, Ok(outcome)),
                Err(e) => report(at, Err(&e)),
            }
        }
    }

    /// Sees to it that everything that the batch needs is there, and is asked.
    pub(super) fn prepare(&mut self, batch: &[Ban<'_>]) -> Result<Mark, Failure> {
        let mark = self.ensure()?;
        for ban in batch.iter().filter(|ban| !ban.scope.is_all()) {
            let kind = kind_of(&ban.addr, mark.ipv6_prefix);
            if !self.scopes.iter().any(|(scope, of)| scope == ban.scope && *of == kind) {
                self.add_scope(mark, ban.scope, kind)?;
            }
        }
        Ok(mark)
    }

    /// Makes the sets of a scope, and the rules that ask them.
    fn add_scope(&mut self, mark: Mark, scope: &Scope, kind: SetKind) -> Result<(), Failure> {
        let written = write_scope(scope, kind);
        super::fits(&written)?;
        for family in Family::ALL {
            self.make_bans(scope, kind, family, mark.ipv6_prefix)?;
        }
        for family in Family::ALL {
            // Another process may have been at it.
            if let Some((place, via)) = mark.of(family)
                && self.references(&set_name(scope.set(kind, family)))? == 0
            {
                let plan =
                    Plan { options: &self.options, scopes: &[], lacks: Capabilities::NONE, place, bare: &[] };
                restore::restore_via(family, &[plan.scope(family, scope, kind)], via)?;
            }
        }
        self.register(number_of(scope.set(kind, Family::V4)), &written)?;
        self.scopes.push((scope.clone(), kind));
        self.settle()
    }

    /// Bans hosts of one family and scope, all of whom are new as a rule.
    fn ban_hosts(
        &mut self,
        mark: Mark,
        hosts: Numbered<'_, '_, '_>,
        repeat: Repeat,
        report: BanReport<'_>,
    ) -> Result<(), Failure> {
        let Some((_, one)) = hosts.first() else { return Ok(()) };
        let (scope, family, now) = (one.scope, one.addr.family(), clock::wall());
        let around = self.around(scope, family, hosts)?;
        // Who is banned with a network around for long enough is banned.
        let before: Vec<BanOutcome> =
            hosts.iter().zip(around).map(|((_, ban), around)| meet(around, ban, repeat)).collect();
        let wanted = |at: &usize| before.get(*at).is_some_and(|o| !matches!(o, BanOutcome::InForce(_)));
        let indices: Vec<usize> = (0..hosts.len()).filter(wanted).collect();
        let bans: Vec<&Ban<'_>> = indices.iter().filter_map(|at| hosts.get(*at)).map(|(_, b)| *b).collect();
        let comments: Vec<String> = bans.iter().map(|ban| elems::comment(ban, now)).collect();
        let elems: Vec<Elem<'_>> =
            bans.iter().zip(&comments).map(|(ban, comment)| host_elem(ban, comment)).collect();
        let set = set_name(scope.set(SetKind::Hosts, family));
        let mut refused = Vec::new();
        self.sets.write(Command::Add, DoneBefore::Refused, &set, &elems, &mut |at, code| {
            refused.push((at, code))
        })?;
        let known: Vec<usize> =
            refused.iter().filter(|(_, code)| code.is_known()).map(|(at, _)| *at).collect();
        let mut outcomes = self.ban_known(mark, (&set, &bans), &known, repeat)?.into_iter();
        for (at, ((number, _), before)) in hosts.iter().zip(before).enumerate() {
            let Ok(among) = indices.binary_search(&at) else {
                report(*number, Ok(before));
                continue;
            };
            match refused.iter().find(|(at, _)| *at == among) {
                None => report(*number, Ok(before)),
                Some((_, code)) if code.is_known() => {
                    report(*number, Ok(outcomes.next().unwrap_or(BanOutcome::Banned)));
                }
                Some((_, code)) => report(*number, Err(&code.failure(&set))),
            }
        }
        Ok(())
    }

    /// What becomes of those who are in the set already. ip_set tells of one element only among all.
    fn ban_known(
        &mut self,
        mark: Mark,
        (set, bans): (&str, &[&Ban<'_>]),
        known: &[usize],
        repeat: Repeat,
    ) -> Result<Vec<BanOutcome>, Failure> {
        let mut wanted: Vec<Range> = known.iter().filter_map(|at| bans.get(*at)).map(|b| b.addr).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut standings: Vec<Option<Standing>> = vec![None; wanted.len()];
        if !wanted.is_empty() {
            let found = RefCell::new(&mut standings);
            self.each_held(set, SetKind::Hosts, mark.ipv6_prefix, &mut || (), &mut |held| {
                if let Ok(at) = wanted.binary_search(&held.range)
                    && let Some(slot) = found.borrow_mut().get_mut(at)
                {
                    *slot = Some(held.standing);
                }
            })?;
        }
        let (mut outcomes, now) = (Vec::new(), clock::wall());
        for ban in known.iter().filter_map(|at| bans.get(*at)) {
            let slot = wanted.binary_search(&ban.addr).ok().and_then(|at| standings.get_mut(at));
            let outcome = meet(slot.as_ref().and_then(|slot| (**slot).clone()), ban, repeat);
            let after = match &outcome {
                BanOutcome::InForce(_) => None,
                // It has ended between the two.
                BanOutcome::Banned => Some(Standing::of(ban)),
                BanOutcome::Extended(after) => Some(after.clone()),
            };
            if let Some(after) = after {
                let ban = after.ban(ban.addr, ban.scope);
                self.add(set, &[host_elem(&ban, &elems::comment(&ban, now))])?;
                slot.into_iter().for_each(|slot| *slot = Some(after.clone()));
            }
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// The longest ban of a network around each.
    fn around(
        &mut self,
        scope: &Scope,
        family: Family,
        hosts: Numbered<'_, '_, '_>,
    ) -> Result<Vec<Option<Standing>>, Failure> {
        let mut around = vec![None; hosts.len()];
        let set = set_name(scope.set(SetKind::Networks, family));
        if self.is_empty(&set)? {
            return Ok(around);
        }
        let mut any = false;
        for (_, ban) in hosts {
            // A network that begins where a prefix does may be narrower: it is passed over below.
            any |= self.sets.test(&set, &plain(host_key(&ban.addr)))?;
        }
        if any {
            let networks = self.networks(&set)?;
            for ((_, ban), slot) in hosts.iter().zip(&mut around) {
                *slot = longest(&networks, &ban.addr);
            }
        }
        Ok(around)
    }

    /// Bans a network or a range.
    fn ban_network(&mut self, mark: Mark, ban: &Ban<'_>, repeat: Repeat) -> Result<BanOutcome, Failure> {
        let set = set_name(ban.scope.set(SetKind::Networks, ban.addr.family()));
        let networks = if self.is_empty(&set)? { Vec::new() } else { self.networks(&set)? };
        let parts: Vec<(Range, Option<Standing>)> = nets(ban.addr)
            .into_iter()
            .map(Range::from)
            .map(|part| (part, longest(&networks, &part)))
            .collect();
        // The whole of it is banned for as long as the part that is so for the shortest time.
        let end = |standing: &Standing| standing.left.unwrap_or(u64::MAX);
        let whole: Option<Vec<&Standing>> = parts.iter().map(|(_, standing)| standing.as_ref()).collect();
        let mut before = whole.and_then(|all| all.into_iter().min_by_key(|one| end(one)).cloned());
        let offender = self.offender_around(mark, ban)?;
        if let Some(offender) = offender
            && before.as_ref().is_none_or(|before| end(before) < end(&offender))
        {
            before = Some(offender);
        }
        let outcome = meet(before, ban, repeat);
        let after = match &outcome {
            BanOutcome::InForce(_) => return Ok(outcome),
            BanOutcome::Banned => Standing::of(ban),
            BanOutcome::Extended(after) => after.clone(),
        };
        let now = clock::wall();
        let made = after.ban(ban.addr, ban.scope);
        let comment = elems::comment(&made, now);
        for (part, before) in &parts {
            if before.as_ref().is_some_and(|before| end(before) > end(&after)) {
                continue;
            }
            self.add(&set, &net_elems(&[*part], Some(elems::timeout(made.time)), &comment))?;
        }
        Ok(outcome)
    }

    /// The ban of the IPv6 offender that a smaller prefix is a part of.
    fn offender_around(&mut self, mark: Mark, ban: &Ban<'_>) -> Result<Option<Standing>, Failure> {
        let whole = Range::from(offender(ban.addr.first(), mark.ipv6_prefix));
        if whole == ban.addr || !whole.covers(&ban.addr) || ban.addr.family() == Family::V4 {
            return Ok(None);
        }
        let set = set_name(ban.scope.set(SetKind::Hosts, ban.addr.family()));
        if !self.sets.test(&set, &plain(host_key(&whole)))? {
            return Ok(None);
        }
        let mut found = None;
        self.each_held(&set, SetKind::Hosts, mark.ipv6_prefix, &mut || (), &mut |held| {
            if held.range == whole {
                found = Some(held.standing);
            }
        })?;
        Ok(found)
    }

    /// Whether a set is known to have no elements, or is not there.
    pub(super) fn is_empty(&mut self, set: &str) -> Result<bool, Failure> {
        let mut count = None;
        let there = self.sets.header(set, &mut |header| count = header.elements)?;
        Ok(!there || count == Some(0))
    }

    /// The networks of a set, each for itself.
    pub(super) fn networks(&mut self, set: &str) -> Result<Vec<Held>, Failure> {
        self.all_held(set, SetKind::Networks, 128)
    }

    pub(super) fn all_held(&mut self, set: &str, kind: SetKind, prefix: u8) -> Result<Vec<Held>, Failure> {
        let all = RefCell::new(Vec::new());
        let restart = &mut || all.borrow_mut().clear();
        self.each_held(set, kind, prefix, restart, &mut |held| all.borrow_mut().push(held))?;
        Ok(all.into_inner())
    }

    /// Everything that a set holds; `restart` is called when that is told anew.
    pub(super) fn each_held(
        &mut self,
        set: &str,
        kind: SetKind,
        prefix: u8,
        restart: &mut dyn FnMut(),
        each: &mut dyn FnMut(Held),
    ) -> Result<(), Failure> {
        let now = clock::wall();
        let each =
            &mut |found: Found<'_>| elems::read(&found, kind, prefix, now).into_iter().for_each(&mut *each);
        self.sets.elements(set, restart, each).map(drop)
    }

    /// Every scope with its kind of set.
    pub(super) fn all_scopes(&self) -> Vec<(Scope, SetKind)> {
        let all = SetKind::ALL.map(|kind| (Scope::ALL, kind));
        all.into_iter().chain(self.scopes.iter().cloned()).collect()
    }

    /// Calls `each` for every ban in force, once.
    pub(super) fn list_all(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        let Some(mark) = self.look()? else { return Ok(()) };
        let scopes = self.all_scopes();
        for (at, (scope, _)) in scopes.iter().enumerate() {
            if scopes.iter().take(at).any(|(other, _)| other == scope) {
                continue;
            }
            for family in Family::ALL {
                let mut all = Vec::new();
                for (_, kind) in scopes.iter().filter(|(other, _)| other == scope) {
                    let held = self.all_held(&set_name(scope.set(*kind, family)), *kind, mark.ipv6_prefix)?;
                    all.extend(if *kind == SetKind::Networks { elems::joined(held) } else { held });
                }
                if scope.is_all() {
                    all.extend(self.scan_bans()?.into_iter().filter(|held| held.range.family() == family));
                }
                // The same prefix may be in two sets; the later end counts.
                elems::sort_and_dedup(&mut all);
                all.iter().for_each(|held| give(held, scope, each));
            }
        }
        Ok(())
    }

    /// Likewise, asking once, with no memory for it: of a range each part is told.
    pub(super) fn glance_all(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        let Some(mark) = self.look()? else { return Ok(()) };
        for (scope, kind) in self.all_scopes() {
            for family in Family::ALL {
                let set = set_name(scope.set(kind, family));
                self.each_held(&set, kind, mark.ipv6_prefix, &mut || (), &mut |held| {
                    give(&held, &scope, each);
                })?;
            }
        }
        self.scan_bans()?.iter().for_each(|held| give(held, &Scope::ALL, each));
        Ok(())
    }

    /// Whether a ban of these ports is in force for any part of the range.
    pub(super) fn is_banned(&mut self, addr: &Range, scope: &Scope) -> Result<bool, Failure> {
        let prefix = self.mark.map_or(64, |mark| mark.ipv6_prefix);
        let kind = kind_of(addr, prefix);
        let set = set_name(scope.set(kind, addr.family()));
        if kind != SetKind::Networks {
            return self.sets.test(&set, &plain(host_key(addr)));
        }
        Ok(self.networks(&set)?.iter().any(|held| held.range.meets(addr)))
    }

    /// Bans whose end is further away than ip_set can count are given more time before theirs is over.
    pub(super) fn prolong_long(&mut self) -> Result<(), Failure> {
        let Some(mark) = self.mark else { return Ok(()) };
        let now = clock::wall();
        for (scope, kind) in self.all_scopes() {
            for family in Family::ALL {
                let set = set_name(scope.set(kind, family));
                let all = RefCell::new(Vec::new());
                self.each_held(
                    &set,
                    kind,
                    mark.ipv6_prefix,
                    &mut || all.borrow_mut().clear(),
                    &mut |held| {
                        let more = held.standing.left > held.element_left.map(|left| u64::from(left) + 60);
                        if more && held.element_left.is_some() {
                            all.borrow_mut().push(held);
                        }
                    },
                )?;
                for held in all.into_inner() {
                    let ban = held.standing.ban(held.range, &scope);
                    self.add(&set, &held_elems(&ban, kind, &elems::comment(&ban, now)))?;
                }
            }
        }
        Ok(())
    }

    /// Puts a set with the same bans in the place of one that is made in another way.
    pub(super) fn replace_bans(
        &mut self,
        wanted: &SetSpec<'_>,
        scope: &Scope,
        (kind, prefix): (SetKind, u8),
    ) -> Result<(), Failure> {
        let (now, held) = (clock::wall(), self.all_held(wanted.name, kind, prefix)?);
        let bans: Vec<Ban<'_>> = held.iter().map(|held| held.standing.ban(held.range, scope)).collect();
        let comments: Vec<String> = bans.iter().map(|ban| elems::comment(ban, now)).collect();
        let all = bans.iter().zip(&comments).flat_map(|(ban, comment)| held_elems(ban, kind, comment));
        self.replace(wanted, &all.collect::<Vec<_>>())
    }

    /// Whether rules ask for bans.
    pub(super) fn asks(&mut self, family: Family) -> Result<bool, Failure> {
        Ok(!self.jumps(family)?.contains(&0))
    }
}

/// A ban as its set has it.
fn held_elems<'e>(ban: &Ban<'_>, kind: SetKind, comment: &'e str) -> Vec<Elem<'e>> {
    match kind {
        SetKind::Networks => net_elems(&[ban.addr], Some(elems::timeout(ban.time)), comment),
        _ => vec![host_elem(ban, comment)],
    }
}

fn host_elem<'e>(ban: &Ban<'_>, comment: &'e str) -> Elem<'e> {
    Elem { key: host_key(&ban.addr), timeout: Some(elems::timeout(ban.time)), comment }
}

/// The longest of those that are around a range.
fn longest(all: &[Held], range: &Range) -> Option<Standing> {
    let around = all.iter().filter(|held| held.range.covers(range));
    around.max_by_key(|held| held.end()).map(|held| held.standing.clone())
}

fn give(held: &Held, scope: &Scope, each: &mut dyn FnMut(&BanEntry<'_>)) {
    let Standing { left, ref rule, hits, ref reason, age } = held.standing;
    let age = held.since.map(|_| age);
    each(&BanEntry { addr: held.range, scope, rule, hits, reason, age, left, packets: held.packets });
}
