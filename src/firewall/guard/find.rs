#![forbid(unsafe_code)]
//! What the kernel has of one address: a few questions to hash sets, however much else is in them.

use super::ban::prefix_of;
use super::layout::{allow_set, allow_timed_set, hit};
use super::list::ListedBan;
use super::scope::SetKind;
use super::{Guard, TABLE, TableState};
use crate::ban::{AllowEntry, BanEntry, Failure, SCANS, Standing};
use crate::base::clock::Wall;
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::firewall::nft::elem::packets_of;
use crate::firewall::nft::{msg, query, rule_attr};
use crate::sys::clock;
use crate::sys::nlattr::{MsgBuf, attr, text};

/// Addresses of a range that are asked about one by one: a network of 24 bits. More are looked for among all
/// that a set has.
const FEW: u128 = 256;

fn has_few(range: &Range) -> bool {
    let (first, last) = range.numbers();
    last - first < FEW
}

impl Guard {
    /// Calls `each` for the bans in force that meet a range. One of more than a few addresses is looked for
    /// among all.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn bans_of(&mut self, range: &Range, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        let Some(made) = self.probe()? else { return Ok(()) };
        for (scope, kind) in self.all_scopes()? {
            let set = scope.set(kind, range.family());
            for found in self.found_in(made, (&set, kind), range)? {
                found.give(&scope, each);
            }
        }
        Ok(())
    }

    fn found_in(
        &mut self,
        made: TableState,
        (set, kind): (&Name, SetKind),
        range: &Range,
    ) -> Result<Vec<ListedBan>, Failure> {
        let Some(keys) = self.keys_in(made, (set, kind), range)? else {
            let mut all = self.all_of(made, set, kind)?;
            all.retain(|found| found.addr.meets(range));
            return Ok(all);
        };
        let mut all = Vec::new();
        for addr in keys {
            query::element(&mut self.socket, &TABLE, set, addr.key().bytes(), &mut |e| {
                let comment = if kind == SetKind::Scans && e.comment.is_empty() { SCANS } else { e.comment };
                let standing = Standing::read(comment, e.timeout_ms, e.left_ms);
                all.push(ListedBan { addr, standing, packets: e.packets });
            })?;
        }
        Ok(all)
    }

    /// The keys under which a set may have something of a range; none if all that it has must be looked at.
    fn keys_in(
        &mut self,
        made: TableState,
        (set, kind): (&Name, SetKind),
        range: &Range,
    ) -> Result<Option<Vec<Range>>, Failure> {
        if kind == SetKind::Networks {
            let is_none = has_few(range) && self.addresses_in(set, range)?.is_empty();
            return Ok(is_none.then(Vec::new));
        }
        if range.family() == Family::V4 {
            return has_few(range).then(|| self.addresses_in(set, range)).transpose();
        }
        // There are prefixes, and addresses that count alone.
        let prefix = prefix_of(range, made.ipv6_prefix).filter(|key| *key != *range);
        let is_wide = range.first() != range.last() && (prefix.is_some() || kind == SetKind::Scans);
        let keys: Vec<Range> = [*range].into_iter().chain(prefix).collect();
        let has_key = keys.iter().any(|key| super::kind(key, made.ipv6_prefix) == SetKind::Hosts);
        Ok((has_key && !is_wide).then_some(keys))
    }

    /// Which addresses of a range a set has.
    fn addresses_in(&mut self, set: &Name, range: &Range) -> Result<Vec<Range>, Failure> {
        let (first, last) = range.numbers();
        let all = (first..=last).filter_map(|n| Range::of_numbers(range.family(), (n, n)));
        let addresses: Vec<Range> = all.collect();
        let found = self.having(set, range.family(), &addresses)?;
        Ok(found.into_iter().filter_map(|at| addresses.get(at).copied()).collect())
    }

    /// Packets that the rules which drop have counted since they were made.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn dropped(&mut self) -> Result<u64, Failure> {
        let (mut all, now) = ([0; 2], std::cell::Cell::new(0));
        for (family, sum) in Family::ALL.into_iter().zip(&mut all) {
            let ask = |buf: &mut MsgBuf| {
                buf.attr_str(rule_attr::TABLE, TABLE.name.as_str());
                buf.attr_str(rule_attr::CHAIN, hit(family).as_str());
            };
            now.set(0);
            query::dump(&mut self.socket, TABLE.family, msg::GETRULE, &ask, &mut || now.set(0), &mut |m| {
                let body = m.payload.get(4..).unwrap_or_default();
                // Old kernels give the rules of all chains.
                if attr(body, rule_attr::CHAIN).and_then(text) == Some(hit(family).as_str()) {
                    now.set(now.get() + packets_of(attr(body, rule_attr::EXPRESSIONS).unwrap_or_default()));
                }
            })?;
            *sum = now.get();
        }
        Ok(all.iter().sum())
    }

    /// What of the allow list meets a range. Of one address it is the address itself.
    ///
    /// # Errors
    /// The system call or the kernel's error.
    pub fn allowed_of(&mut self, range: &Range) -> Result<Vec<AllowEntry>, Failure> {
        if range.first() != range.last() {
            let mut all = self.allowed_until()?;
            all.retain(|(allowed, _)| allowed.meets(range));
            return Ok(all);
        }
        let (mut found, now) = (Vec::new(), clock::wall());
        for set in [allow_set(range.family()), allow_timed_set(range.family())] {
            query::element(&mut self.socket, &TABLE, &set, range.key().bytes(), &mut |e| {
                let left = (e.timeout_ms > 0).then_some(e.left_ms.div_ceil(1000));
                found.push((*range, left.map(|left| Wall(now.0.saturating_add(left)))));
            })?;
        }
        Ok(found)
    }
}
