#![forbid(unsafe_code)]
//! The networks of a journal: bans of them, as intervals with the latest end for each address, and their
//! liftings, which also cover the addresses inside them. In the order of the file.

use super::record::BanRecord;
use crate::base::intervals::Intervals;
use crate::base::range::{Family, Range};
use ipnet::IpNet;

/// IPv6 offenders are prefixes of this length unless the configuration says otherwise.
const OFFENDER_V6: u8 = 64;

/// When a ban ends (`u64::MAX` = never) and where its record stands.
type BanEnd = (u64, u64);

/// Whether bans and liftings of it are kept here, and not by address.
pub(super) fn is_network(addr: IpNet) -> bool {
    let length = match addr {
        IpNet::V4(_) => 32,
        IpNet::V6(_) => OFFENDER_V6,
    };
    addr.prefix_len() != length
}

/// What was read of networks so far.
#[derive(Default)]
pub(super) struct Networks {
    /// By scope.
    bans: Vec<(Box<str>, Intervals<BanEnd>)>,
    /// Addresses that were lifted with a network around them, and where the last such record stands, plus
    /// one.
    lifted: Intervals<u64>,
    /// Liftings of parts of IPv6 offenders, and where they stand.
    holes: Vec<(u64, Range)>,
    /// What is left of each ban: where its record stands, and a part of what it covers.
    left: Vec<(u64, Range)>,
}

impl Networks {
    /// Takes in a ban whose record stands at `at`.
    pub(super) fn ban(&mut self, at: u64, entry: &BanRecord<'_>) {
        let found = self.bans.iter().position(|(scope, _)| **scope == *entry.scope);
        let place = found.unwrap_or_else(|| {
            self.bans.push((entry.scope.into(), Intervals::default()));
            self.bans.len() - 1
        });
        if let Some((_, intervals)) = self.bans.get_mut(place) {
            let until = entry.until.map_or(u64::MAX, |until| until.0);
            intervals.raise(Range::from(entry.addr), (until, at));
        }
    }

    /// Takes in a lifting, of an address too.
    pub(super) fn unban(&mut self, at: u64, addr: IpNet) {
        let range = Range::from(addr);
        for (_, intervals) in &mut self.bans {
            intervals.cut(&range);
        }
        if is_network(addr) {
            match range.family() {
                Family::V6 if addr.prefix_len() > OFFENDER_V6 => self.holes.push((at, range)),
                _ => self.lifted.raise(range, at + 1),
            }
        }
    }

    /// Takes in that all bans were lifted.
    pub(super) fn clear(&mut self) {
        self.bans.iter_mut().for_each(|(_, intervals)| intervals.retain(|_| false));
    }

    /// Takes in that all bans were lifted that have an end.
    pub(super) fn clear_timed(&mut self) {
        for (_, intervals) in &mut self.bans {
            intervals.retain(|(until, _)| *until == u64::MAX);
        }
    }

    /// Where the last lifting of a network around an address stands, plus one; 0 if there is none.
    pub(super) fn lifted(&self, addr: IpNet) -> u64 {
        if self.lifted.parts().is_empty() {
            return 0;
        }
        self.lifted.within(&Range::from(addr)).iter().map(|(_, at)| *at).max().unwrap_or(0)
    }

    /// The whole file was read.
    pub(super) fn settle(&mut self) {
        for (_, intervals) in self.bans.drain(..) {
            self.left.extend(intervals.parts().iter().map(|&(part, (_, at))| (at, part)));
        }
        self.left.sort_unstable_by_key(|(at, _)| *at);
    }

    /// Hands on the parts that are left of the ban whose record stands at `at`.
    pub(super) fn pick(&self, at: u64, entry: BanRecord<'_>, each: &mut dyn FnMut(BanRecord<'_>)) {
        let from = self.left.partition_point(|(other, _)| *other < at);
        let parts = self.left.get(from..).unwrap_or_default().iter().take_while(|(other, _)| *other == at);
        parts.flat_map(|(_, part)| part.nets()).for_each(|addr| each(BanRecord { addr, ..entry }));
    }

    /// Hands on the ban of an offender whose record stands at `at`, without what was lifted of it later.
    pub(super) fn without_holes(&self, at: u64, entry: BanRecord<'_>, each: &mut dyn FnMut(BanRecord<'_>)) {
        let whole = Range::from(entry.addr);
        let mut rest = vec![];
        for (_, hole) in self.holes.iter().filter(|(hole, range)| *hole > at && range.meets(&whole)) {
            if rest.is_empty() {
                rest.push(whole);
            }
            rest = rest.iter().flat_map(|part| part.without(hole)).flatten().collect();
            if rest.is_empty() {
                return;
            }
        }
        if rest.is_empty() {
            return each(entry);
        }
        rest.iter().flat_map(|part| part.nets()).for_each(|addr| each(BanRecord { addr, ..entry }));
    }
}
