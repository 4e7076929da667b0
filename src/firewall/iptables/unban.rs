#![forbid(unsafe_code)]
//! The end of bans: elements inside a range are deleted, and those around it are cut, what is left of them
//! first.

use super::Fallback;
use super::bans::kind_of;
use super::elems::{self, Held, host_elems, host_key, joined, net_elems, plain};
use super::guards::Throttled;
use super::text::set_name;
use crate::ban::WhichBans;
use crate::ban::{Failure, Scope};
use crate::base::range::{Family, Range};
use crate::firewall::guard::SetKind;
use crate::firewall::ipset::DoneBefore;
use crate::firewall::ipset::message::{Command, Elem};
use crate::sys::clock;

/// A range with its number among those that are asked for.
type Asked = (usize, Range);

/// A set of bans.
struct Target {
    set: String,
    /// Its networks: what is left of a prefix is one.
    networks: String,
    kind: SetKind,
    prefix: u8,
}

impl Fallback {
    /// Ends the bans of all addresses of each range; how many there were of each.
    pub(super) fn unban_ranges(
        &mut self,
        ranges: &[Range],
        remembered: &[Range],
    ) -> Result<Vec<usize>, Failure> {
        let targets = self.targets()?;
        let mut counts = self.end_packet_bans(ranges, Throttled::Released)?;
        for (target, family) in targets {
            let mine = (0..).zip(ranges.iter().copied()).filter(|(_, range)| range.family() == family);
            let asked: Vec<Asked> = mine.collect();
            if asked.is_empty() || self.is_empty(&target.set)? {
                continue;
            }
            let mut ended = |at: usize, n: usize| {
                if let Some(count) = counts.get_mut(at) {
                    *count += n;
                }
            };
            match target.kind {
                SetKind::Networks => self.end_networks(&target, &asked, &mut ended)?,
                _ => self.end_hosts(&target, &asked, remembered, &mut ended)?,
            }
        }
        Ok(counts)
    }

    fn targets(&mut self) -> Result<Vec<(Target, Family)>, Failure> {
        let registry = self.registry()?;
        (self.scopes, self.mark) = (registry.scopes, registry.mark);
        let Some(mark) = registry.mark else { return Ok(Vec::new()) };
        let scopes = self.all_scopes();
        let target = |(scope, kind): &(Scope, SetKind), family| {
            let set = |kind| set_name(scope.set(kind, family));
            let prefix = mark.ipv6_prefix;
            (Target { set: set(*kind), networks: set(SetKind::Networks), kind: *kind, prefix }, family)
        };
        Ok(scopes.iter().flat_map(|one| Family::ALL.map(|family| target(one, family))).collect())
    }

    /// Likewise in a hash of addresses.
    fn end_hosts(
        &mut self,
        target: &Target,
        asked: &[Asked],
        remembered: &[Range],
        ended: &mut dyn FnMut(usize, usize),
    ) -> Result<(), Failure> {
        let is_host = |range: &Range| kind_of(range, target.prefix) != SetKind::Networks;
        let (single, wide): (Vec<Asked>, Vec<Asked>) = asked.iter().partition(|(_, range)| is_host(range));
        let keys: Vec<Range> = single.iter().map(|(_, range)| *range).collect();
        let keys = host_elems(&keys);
        for gone in self.delete(&target.set, &keys)? {
            ended(single.get(gone).map_or(usize::MAX, |(at, _)| *at), 1);
        }
        if wide.is_empty() {
            return Ok(());
        }
        let mut met = self.all_held(&target.set, target.kind, target.prefix)?;
        met.retain(|held| wide.iter().any(|(_, range)| range.meets(&held.range)));
        for (at, range) in &wide {
            let (inside, parts): (Vec<&Held>, Vec<&Held>) = met
                .iter()
                .filter(|held| range.meets(&held.range))
                .partition(|held| range.covers(&held.range));
            let also = remembered.iter().filter(|addr| range.covers(addr) && is_host(addr)).copied();
            let mut gone: Vec<Range> = inside.iter().map(|held| held.range).chain(also).collect();
            gone.sort_unstable();
            gone.dedup();
            for part in &parts {
                self.write_parts(&target.networks, part, range)?;
            }
            let parts = parts.iter().map(|part| part.range);
            gone.extend(parts);
            ended(*at, self.delete(&target.set, &host_elems(&gone))?.len());
        }
        Ok(())
    }

    /// Likewise in a set of networks.
    fn end_networks(
        &mut self,
        target: &Target,
        asked: &[Asked],
        ended: &mut dyn FnMut(usize, usize),
    ) -> Result<(), Failure> {
        for (at, range) in asked {
            let alone = range.first() == range.last();
            if alone && !self.sets.test(&target.set, &plain(host_key(range)))? {
                continue;
            }
            let networks = self.networks(&target.set)?;
            let met = networks.iter().filter(|held| held.range.meets(range));
            let met: Vec<Held> = met.cloned().collect();
            let mut gone = Vec::new();
            for held in &met {
                self.write_parts(&target.set, held, range)?;
                gone.extend(net_elems(&[held.range], None, ""));
            }
            self.delete(&target.set, &gone)?;
            let whole = joined(networks);
            ended(*at, whole.iter().filter(|held| held.range.meets(range)).count());
        }
        Ok(())
    }

    /// Bans what is left of a ban without a range as networks, each for as long as it was.
    fn write_parts(&mut self, set: &str, held: &Held, without: &Range) -> Result<(), Failure> {
        let now = clock::wall();
        for rest in held.range.without(without).into_iter().flatten() {
            let scope = Scope::ALL;
            let ban = held.standing.ban(rest, &scope);
            let comment = elems::comment(&ban, now);
            let there = if self.is_empty(set)? { Vec::new() } else { self.networks(set)? };
            let mut parts = net_elems(&[rest], Some(elems::timeout(ban.time)), &comment);
            parts.retain(|part| {
                let same =
                    |other: &Held| net_elems(&[other.range], None, "").iter().any(|e| e.key == part.key);
                !there.iter().any(|other| other.end() > held.end() && same(other))
            });
            self.add(set, &parts)?;
        }
        Ok(())
    }

    /// Deletes elements; the numbers of those that were there.
    pub(super) fn delete(&mut self, set: &str, elems: &[Elem<'_>]) -> Result<Vec<usize>, Failure> {
        let (mut refused, mut why) = (Vec::new(), None);
        self.sets.write(Command::Del, DoneBefore::Refused, set, elems, &mut |at, code| {
            refused.push(at);
            if !code.is_known() {
                why.get_or_insert(code);
            }
        })?;
        match why {
            Some(code) if !code.is_no_set() => Err(code.failure(set)),
            _ => Ok((0..elems.len()).filter(|at| refused.binary_search(at).is_err()).collect()),
        }
    }

    /// Ends all bans, or those that have an end.
    pub(super) fn end_all(&mut self, which: WhichBans) -> Result<(), Failure> {
        let targets = self.targets()?;
        let throttled = if which == WhichBans::ButThrottled { Throttled::Stay } else { Throttled::Released };
        self.end_packet_bans(&[Range::EVERYBODY_V4, Range::EVERYBODY_V6], throttled)?;
        for (target, _) in targets {
            if which == WhichBans::All {
                self.sets.about(Command::Flush, &target.set, None)?;
                continue;
            }
            let all = self.all_held(&target.set, target.kind, target.prefix)?;
            let timed = all.iter().filter(|held| held.standing.left.is_some()).map(|held| held.range);
            let timed: Vec<Range> = timed.collect();
            let gone = match target.kind {
                SetKind::Networks => net_elems(&timed, None, ""),
                _ => host_elems(&timed),
            };
            self.delete(&target.set, &gone)?;
        }
        Ok(())
    }
}
