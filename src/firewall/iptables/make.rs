#![forbid(unsafe_code)]
//! Makes everything, anew or in place of what is not as it should be.

use super::guards::everybody;
use super::mark::Mark;
use super::text::{DROPS, GATES, family_name, set_name};
use super::{Fallback, MADE, MARK, elems, is_ours, packets, spec};
use crate::ban::{Capabilities, Capability, Doing, Failure, Scope};
use crate::base::range::Family;
use crate::firewall::guard::SetKind;
use crate::firewall::ipset::DoneBefore;
use crate::firewall::ipset::message::{Command, Elem, SetSpec, Type};
use nix::errno::Errno;
use std::cell::Cell;

/// What is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What bans need.
    Bans,
    /// That, and what watches packets.
    Whole,
}

impl Fallback {
    /// Makes everything anew; bans and lists that are there stay.
    pub(super) fn rebuild(&mut self) -> Result<Mark, Failure> {
        self.make(Extent::Whole)
    }

    /// Makes the sets that are missing, fills the allow list if it is, and writes all rules anew, those for
    /// packets only of the whole: who makes a ban knows nothing of these.
    pub(super) fn make(&mut self, extent: Extent) -> Result<Mark, Failure> {
        self.make_set(&SetSpec { timed: true, ..spec(MADE, Type::Hosts, Family::V4) })?;
        let registry = self.registry()?;
        let former = registry.mark;
        if former.is_none() {
            self.drop_lists()?;
        }
        self.make_allowed(former)?;
        let prefix = self.options.ipv6_prefix.clamp(1, 128);
        for family in Family::ALL {
            for kind in SetKind::ALL {
                self.recreated |= self.make_bans(&Scope::ALL, kind, family, prefix)?;
            }
            self.make_counter(family)?;
            self.make_set(&spec(&family_name(GATES, family), Type::Sets, family))?;
            for base in ["deny", "denynet"] {
                self.make_set(&spec(&family_name(base, family), Type::Sets, family))?;
            }
        }
        for (scope, kind) in &registry.scopes {
            for family in Family::ALL {
                self.recreated |= self.make_bans(scope, *kind, family, prefix)?;
            }
        }
        self.recreated |= former.is_none();
        self.scopes = registry.scopes;
        let kept = (extent == Extent::Bans).then(|| former.map_or(0, |former| former.parts));
        let mut lacks = self.options.without;
        if extent == Extent::Whole {
            former.map_or(Ok(()), |former| self.forget_counts(former, prefix))?;
            lacks = lacks.and(self.make_packet_sets(lacks, prefix)?);
        } else {
            lacks = lacks.and(former.map_or(Capabilities::NONE, |former| former.lacks));
        }
        let mut mark = self.write_rules(former, (prefix, kept), lacks)?;
        if !self.options.ingress.is_empty() {
            mark.lacks = mark.lacks.and(Capability::Ingress);
        }
        if kept.is_none() {
            self.drop_packet_sets(mark.lacks)?;
        }
        if extent == Extent::Whole && mark.parts & packets::SCAN != 0 {
            self.calm()?;
        }
        if former != Some(mark) {
            self.register(MARK, &mark.write())?;
        }
        self.mark = Some(mark);
        self.settle()?;
        Ok(mark)
    }

    /// Makes the set that counts dropped packets; what it has counted stays.
    fn make_counter(&mut self, family: Family) -> Result<(), Failure> {
        let name = family_name(DROPS, family);
        self.make_set(&SetSpec { counters: true, ..spec(&name, Type::Networks, family) })?;
        let all = elems::net_elems(&[everybody(family)], None, "");
        let mut why = None;
        self.sets.write(Command::Add, DoneBefore::Refused, &name, &all, &mut |_, code| {
            why = why.or(Some(code).filter(|code| !code.is_known()));
        })?;
        // Without its halves it counts nothing, and says so by being none.
        match why {
            Some(_) => self.about_ours(Command::Flush, &name),
            None => Ok(()),
        }
    }

    /// How many packets were dropped, where that is counted.
    pub(super) fn count_drops(&mut self) -> Result<Option<u64>, Failure> {
        let (mut all, mut counts) = (0, false);
        for family in Family::ALL {
            let sum = Cell::new(0);
            let halves = Cell::new(0);
            self.sets.elements(
                &family_name(DROPS, family),
                &mut || (sum.set(0), halves.set(0)).0,
                &mut |half| {
                    sum.set(sum.get() + half.packets.unwrap_or(0));
                    halves.set(halves.get() + 1);
                },
            )?;
            counts |= halves.get() > 0;
            all += sum.get();
        }
        Ok(counts.then_some(all))
    }

    /// Makes a set, unless there is one of ours; whether it was made.
    pub(super) fn make_set(&mut self, spec: &SetSpec<'_>) -> Result<bool, Failure> {
        if self.sets.create(spec)? {
            return Ok(true);
        }
        if self.is_made(spec.name)? == Some(spec.kind) {
            return Ok(false);
        }
        let text = format!(
            "ip_set {0}: there is a set of that name that mef did not create: rename it \
            (ipset rename {0} NAME)",
            spec.name
        );
        Err(Failure::new(Doing::Change, Errno::EEXIST, text))
    }

    /// What kind of set of that name we have made, if there is one.
    fn is_made(&mut self, name: &str) -> Result<Option<Type>, Failure> {
        let mut made = None;
        self.sets.header(name, &mut |header| made = header.kind.filter(|kind| is_ours(header, *kind)))?;
        Ok(made)
    }

    /// Does something with a set of ours, if it is there.
    pub(super) fn about_ours(&mut self, command: Command, name: &str) -> Result<(), Failure> {
        if self.is_made(name)?.is_some() {
            self.sets.about(command, name, None)?;
        }
        Ok(())
    }

    /// Makes a set of bans; one that does not count what it is to count gives its place to one with the same
    /// bans, and one that stands for other prefixes to an empty one. Whether it may lack some.
    pub(super) fn make_bans(
        &mut self,
        scope: &Scope,
        kind: SetKind,
        family: Family,
        prefix: u8,
    ) -> Result<bool, Failure> {
        let name = set_name(scope.set(kind, family));
        let hosts = kind == SetKind::Hosts;
        let wanted = SetSpec {
            timed: true,
            counters: self.options.element_counters,
            // The kernel does not tell of one of 128 bits.
            netmask: if hosts && family == Family::V6 { prefix % 128 } else { 0 },
            ..spec(&name, if hosts { Type::Hosts } else { Type::Networks }, family)
        };
        if self.make_set(&wanted)? {
            return Ok(true);
        }
        let (mut fits, mut counts) = (true, true);
        self.sets.header(&name, &mut |header| {
            (fits, counts) = (header.netmask == wanted.netmask, header.counters == wanted.counters);
        })?;
        if !fits {
            self.replace(&wanted, &[])?;
        } else if !counts {
            self.replace_bans(&wanted, scope, (kind, prefix))?;
        }
        // Who was banned while it was filled is in the journal alone.
        Ok(!fits || !counts)
    }

    /// Makes a set, in place of one that is made in another way, whose content is gone then; whether it is
    /// new.
    pub(super) fn make_exact(&mut self, wanted: &SetSpec<'_>) -> Result<bool, Failure> {
        if self.make_set(wanted)? {
            return Ok(true);
        }
        let mut same = true;
        self.sets.header(wanted.name, &mut |header| {
            same = header.netmask == wanted.netmask && header.counters == wanted.counters;
        })?;
        if !same {
            self.replace(wanted, &[])?;
        }
        Ok(!same)
    }

    /// Puts a set with these elements in the place of one that rules ask, at once.
    pub(super) fn replace(&mut self, spec: &SetSpec<'_>, elems: &[Elem<'_>]) -> Result<(), Failure> {
        let beside = [spec.name, "_new"].concat();
        self.about_ours(Command::Destroy, &beside)?;
        self.make_set(&SetSpec { name: &beside, ..*spec })?;
        let done = self
            .add(&beside, elems)
            .and_then(|()| self.sets.about(Command::Swap, &beside, Some(spec.name)).map(drop));
        self.sets.about(Command::Destroy, &beside, None)?;
        done
    }
}
