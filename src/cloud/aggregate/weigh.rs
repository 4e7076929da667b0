#![forbid(unsafe_code)]
//! From the reports to those who could be listed, part by part: how many members of how many groups, what
//! they weigh, and how much of one network there is.

use super::{Aggregate, Listing, Outcome, PART_MAX, PARTS, Spill, Subject, WIDE_MAX, Why};
use std::io;

/// Levels of weight by which candidates are kept: powers of two.
pub(super) const LEVELS: usize = 32;
/// What is left of a report's weight after so many hours of a day, in parts of 65536: half after a day.
const DECAY: [u64; 24] = [
    65536, 63670, 61858, 60097, 58386, 56724, 55109, 53540, 52016, 50535, 49097, 47699, 46341, 45022, 43740,
    42495, 41285, 40110, 38968, 37859, 36781, 35734, 34716, 33728,
];

/// A report in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LoadedReport {
    who: Subject,
    member: u16,
    age: u16,
}

/// Somebody who could be listed.
pub(super) struct Candidate {
    pub(super) who: Subject,
    pub(super) listing: Listing,
    pub(super) weight: u32,
    /// Members without whom it would not be.
    pub(super) carriers: Vec<u16>,
}

impl Candidate {
    fn pack(&self, out: &mut Vec<u8>) {
        out.clear();
        self.who.pack(out);
        out.extend_from_slice(&self.listing.members.to_be_bytes());
        out.extend_from_slice(&self.listing.groups.to_be_bytes());
        self.carriers.iter().for_each(|member| out.extend_from_slice(&member.to_be_bytes()));
    }

    /// Reads what was packed into `self`; the weight is not among it.
    pub(super) fn unpack(&mut self, bytes: &[u8]) -> Option<()> {
        let (who, rest) = Subject::unpack(bytes)?;
        let (&[a, b, c, d], carriers) = rest.split_first_chunk::<4>()?;
        self.who = who;
        self.listing = Listing { members: u16::from_be_bytes([a, b]), groups: u16::from_be_bytes([c, d]) };
        self.carriers.clear();
        self.carriers.extend(carriers.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two)));
        Some(())
    }

    pub(super) fn blank() -> Candidate {
        let listing = Listing { members: 0, groups: 0 };
        Candidate { who: Subject::V4(0), listing, weight: 0, carriers: Vec::new() }
    }
}

/// What a report of that age weighs.
fn decayed(weight: u32, age: u16) -> u64 {
    let (days, hours) = (age / 24, usize::from(age % 24));
    (u64::from(weight) * DECAY.get(hours).copied().unwrap_or(0)) >> 16 >> days
}

/// Hears of who is not listed, and why; the bytes are room to work in.
type Not<'n> = &'n mut dyn FnMut(Subject, Why, &mut Vec<u8>) -> io::Result<()>;

/// What is needed again and again.
struct Scratch {
    groups: Vec<u16>,
    /// Those of one network.
    found: Vec<Candidate>,
    bytes: Vec<u8>,
}

impl Aggregate<'_> {
    /// Everybody who could be listed, by levels of weight; and what became of others who are listed now.
    pub(super) fn weigh(&mut self) -> io::Result<(Spill, Spill)> {
        let mut candidates = Spill::new((self.room.file)()?, LEVELS);
        let mut outcomes = Spill::new((self.room.file)()?, PARTS);
        let mut scratch = Scratch { groups: Vec::new(), found: Vec::new(), bytes: Vec::new() };
        let (mut all, mut listed) = (Vec::new(), Vec::new());
        for part in 0..self.reports.parts() {
            self.load(part, &mut all, &mut listed)?;
            let mut rest = all.as_slice();
            while let Some(first) = rest.first() {
                let wide = first.who.wide();
                let (network, behind) =
                    rest.split_at(rest.iter().take_while(|report| report.who.wide() == wide).count());
                rest = behind;
                let mut not = |who, why: Why, bytes: &mut Vec<u8>| {
                    if listed.binary_search(&who).is_err() {
                        return Ok(());
                    }
                    Outcome::Not(why).pack(who, bytes);
                    outcomes.put(part, bytes)
                };
                self.network(network, &mut scratch, &mut candidates, &mut not)?;
            }
        }
        Ok((candidates, outcomes))
    }

    /// Reads a part: the reports, one of each member of each address, and who is listed.
    fn load(
        &mut self,
        part: usize,
        all: &mut Vec<LoadedReport>,
        listed: &mut Vec<Subject>,
    ) -> io::Result<()> {
        all.clear();
        listed.clear();
        let mut flooded = 0;
        self.reports.read(part, &mut |bytes| {
            let Some((who, &[a, b, c, d])) = Subject::unpack(bytes) else { return };
            if all.len() < PART_MAX {
                all.push(LoadedReport {
                    who,
                    member: u16::from_be_bytes([a, b]),
                    age: u16::from_be_bytes([c, d]),
                });
            } else {
                flooded += 1;
            }
        })?;
        self.summary.flooded += flooded;
        self.listed.read(part, &mut |bytes| {
            listed.extend(Subject::unpack(bytes).map(|(who, _)| who));
        })?;
        // Of several reports by one member the newest counts.
        all.sort_unstable_by_key(|report| (report.who.wide(), *report));
        all.dedup_by_key(|report| (report.who, report.member));
        listed.sort_unstable();
        listed.dedup();
        Ok(())
    }

    /// Looks at the reports of one network, sorted by address and member.
    fn network(
        &mut self,
        mut reports: &[LoadedReport],
        scratch: &mut Scratch,
        candidates: &mut Spill,
        not: Not<'_>,
    ) -> io::Result<()> {
        scratch.found.clear();
        while let Some(first) = reports.first() {
            let count = reports.iter().take_while(|report| report.who == first.who).count();
            let (own, behind) = reports.split_at(count);
            reports = behind;
            self.summary.addresses += 1;
            match self.address(own, &mut scratch.groups) {
                Ok(found) => scratch.found.push(found),
                Err(why) => {
                    self.summary.few += 1;
                    not(first.who, why, &mut scratch.bytes)?;
                }
            }
        }
        // All members, or then the heaviest.
        let everybody = self.members.len();
        let unanimous = |one: &Candidate| usize::from(one.listing.members) == everybody;
        if scratch.found.len() > WIDE_MAX {
            scratch.found.sort_by_key(|one| std::cmp::Reverse((unanimous(one), one.weight)));
        }
        let keep = scratch.found.iter().filter(|one| unanimous(one)).count().max(WIDE_MAX);
        for (at, one) in scratch.found.iter().enumerate() {
            if at < keep {
                one.pack(&mut scratch.bytes);
                let level = u32::BITS - one.weight.leading_zeros();
                candidates.put(LEVELS - 1 - (level as usize).min(LEVELS - 1), &scratch.bytes)?;
            } else {
                self.summary.wide += 1;
                not(one.who, Why::Wide, &mut scratch.bytes)?;
            }
        }
        Ok(())
    }

    /// Whether the reports of one address are enough.
    fn address(&self, reports: &[LoadedReport], groups: &mut Vec<u16>) -> Result<Candidate, Why> {
        let member = |report: &LoadedReport| self.members.get(usize::from(report.member));
        let group = |report: &LoadedReport| member(report).map_or(0, |member| member.group);
        let count = u16::try_from(reports.len()).unwrap_or(u16::MAX);
        if count < self.terms.min_members {
            return Err(Why::Members(count));
        }
        groups.clear();
        groups.extend(reports.iter().map(group));
        groups.sort_unstable();
        let different = groups.chunk_by(|a, b| a == b).count();
        let different = u16::try_from(different).unwrap_or(u16::MAX);
        if different < self.terms.min_groups {
            return Err(Why::Groups(different));
        }
        let weight: u64 =
            reports.iter().map(|report| decayed(member(report).map_or(0, |m| m.weight), report.age)).sum();
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        if weight < self.terms.min_weight {
            return Err(Why::Weight(weight));
        }
        // Who cannot be done without: one of just enough members, or the only one of just enough groups.
        let alone =
            |report: &LoadedReport| groups.iter().filter(|other| **other == group(report)).count() == 1;
        let (members_just, groups_just) =
            (count == self.terms.min_members, different == self.terms.min_groups);
        let carries = |report: &&LoadedReport| members_just || groups_just && alone(report);
        let mut carriers = Vec::new();
        if members_just || groups_just {
            carriers.extend(reports.iter().filter(carries).map(|report| report.member));
        }
        let listing = Listing { members: count, groups: different };
        Ok(Candidate {
            who: reports.first().map_or(Subject::V4(0), |first| first.who),
            listing,
            weight,
            carriers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_loses_half_its_weight_each_day() {
        let cases = [(0, 1000), (12, 707), (24, 500), (48, 250), (7 * 24, 7), (6, 840), (30, 420)];
        for (age, want) in cases {
            assert_eq!(decayed(1000, age), want, "{age} hours");
        }
        assert!((0..300).all(|age| decayed(1000, age + 1) <= decayed(1000, age)));
    }
}
