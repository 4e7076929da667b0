#![forbid(unsafe_code)]
//! The aggregate: reports of all members in, the differences between the list that is there and the one that
//! is to be out. It knows no zone and no server. Memory is bounded: reports go to a file in parts by the
//! network around the address, and one part at a time is looked at.

mod difference;
mod share;
#[cfg(test)]
mod simulation;
mod weigh;

use super::spill::Spill;
use super::subject::Subject;
use crate::base::range::{Range, any_meets};
use crate::base::siphash::sip13;
use std::fs::File;
use std::io;

/// Parts of the reports: so many that one of ten million reports is small.
const PARTS: usize = 256;
/// Reports of one part that are looked at: beyond, somebody has aimed at it.
const PART_MAX: usize = 1_000_000;
/// Addresses of an IPv4 network of 24 bits, or an IPv6 one of 48, that are listed.
const WIDE_MAX: usize = 64;
/// What a member's report weighs when it is new.
pub const WHOLE: u32 = 1000;

/// A member, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// The number of its group: whoever is run by the same people.
    pub group: u16,
    /// What its reports weigh; [`WHOLE`] as a rule.
    pub weight: u32,
}

/// What an address must have to be listed.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// So many members report it.
    pub min_members: u16,
    /// They are of so many groups.
    pub min_groups: u16,
    /// Hours that a report holds.
    pub max_age: u16,
    /// What they weigh together, each report half as much every day.
    pub min_weight: u32,
    /// Percent of the list that may hang on one member.
    pub max_share: u32,
    /// Entries that may hang on one in any case: of a small list, percents are nothing.
    pub share_floor: u32,
}

impl Default for Terms {
    fn default() -> Terms {
        let max_age = 7 * 24;
        Terms { min_members: 3, min_groups: 3, max_age, min_weight: 0, max_share: 5, share_floor: 100 }
    }
}

/// What stands for an entry in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// How many members report it.
    pub members: u16,
    /// Of how many groups.
    pub groups: u16,
}

/// Why an address is not listed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody reports it.
    Unreported,
    /// It is allowed, a member's own, or nobody's on the internet.
    Exempt,
    /// So many members report it.
    Members(u16),
    /// They are of so many groups.
    Groups(u16),
    /// They weigh so much.
    Weight(u32),
    /// There is too much of the network around it.
    Wide,
    /// Too much of the list hangs on that member.
    Share(u16),
}

/// What is to be changed in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is to be listed.
    Add(Listing),
    /// It is listed, but another number of members reports it now, or its entry is not whole.
    Update(Listing),
    /// It is not to be listed.
    Remove(Why),
}

/// What came in and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Reports that count.
    pub reports: u64,
    /// Those of addresses that are allowed, a member's own, or nobody's on the internet.
    pub exempt: u64,
    /// Those that are too old, or from the future.
    pub stale: u64,
    /// Reports of networks that were reported so often that somebody must have aimed at them: not looked at.
    pub flooded: u64,
    /// Addresses that are reported.
    pub addresses: u64,
    /// Those of too few members, of too few groups, of too little weight.
    pub few: u64,
    /// Those of networks with too many others.
    pub wide: u64,
    /// Those that hang on a member on which too much hangs.
    pub share: u64,
    /// What may hang on one member.
    pub share_limit: u32,
    /// Entries of the list as it is to be.
    pub listed: u64,
    /// Changes.
    pub added: u64,
    /// Likewise.
    pub updated: u64,
    /// Likewise.
    pub removed: u64,
}

impl Summary {
    /// How many entries may hang on one member: all where nothing bounds them.
    #[must_use]
    pub fn may_depend(&self) -> u64 {
        if self.share_limit == u32::MAX { self.listed } else { self.share_limit.into() }
    }
}

/// What is needed on the way: files for what is too much for memory, and a key that nobody can guess.
pub struct Room<'r> {
    /// Makes an empty file that is nobody else's.
    pub file: &'r dyn Fn() -> io::Result<File>,
    /// Decides which networks are looked at together.
    pub key: [u64; 2],
}

/// An aggregate in the making. First comes the list that is there, then the reports, then the end.
pub struct Aggregate<'a> {
    terms: Terms,
    members: &'a [Member],
    /// Sorted and merged.
    exempt: &'a [Range],
    now: u64,
    room: Room<'a>,
    reports: Spill,
    listed: Spill,
    summary: Summary,
    record: Vec<u8>,
}

impl<'a> Aggregate<'a> {
    /// Nothing yet, at that hour since 1970; `exempt` is sorted and merged.
    ///
    /// # Errors
    /// There is no file for it.
    pub fn new(
        terms: Terms,
        members: &'a [Member],
        exempt: &'a [Range],
        now: u64,
        room: Room<'a>,
    ) -> io::Result<Aggregate<'a>> {
        let (reports, listed) = (Spill::new((room.file)()?, PARTS), Spill::new((room.file)()?, PARTS));
        let (summary, record) = (Summary::default(), Vec::new());
        Ok(Aggregate { terms, members, exempt, now, room, reports, listed, summary, record })
    }

    /// An entry of the list that is there: one of its records, or all that it has. `None` is a record by
    /// which it is listed, else what it says.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn listed(&mut self, who: Subject, says: Option<Listing>) -> io::Result<()> {
        self.record.clear();
        who.pack(&mut self.record);
        self.record.push(says.is_some().into());
        let Listing { members, groups } = says.unwrap_or(Listing { members: 0, groups: 0 });
        self.record.extend_from_slice(&members.to_be_bytes());
        self.record.extend_from_slice(&groups.to_be_bytes());
        self.listed.put(part(self.room.key, who), &self.record)
    }

    /// A member has reported somebody in that hour since 1970.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn report(&mut self, member: u16, who: Subject, hour: u64) -> io::Result<()> {
        // Clocks may differ a little; who reports from the future wants to be heard for longer.
        let age = (self.now + 1).checked_sub(hour).map(|age| age.saturating_sub(1));
        let Some(age) = age.filter(|age| *age <= self.terms.max_age.into()) else {
            self.summary.stale += 1;
            return Ok(());
        };
        if self.is_exempt(who) {
            self.summary.exempt += 1;
            return Ok(());
        }
        self.summary.reports += 1;
        self.record.clear();
        who.pack(&mut self.record);
        self.record.extend_from_slice(&member.to_be_bytes());
        self.record.extend_from_slice(&u16::try_from(age).unwrap_or(u16::MAX).to_be_bytes());
        self.reports.put(part(self.room.key, who), &self.record)
    }

    fn is_exempt(&self, who: Subject) -> bool {
        !who.is_global() || any_meets(self.exempt, &who.range())
    }

    /// Decides, and hands on each change of the list.
    ///
    /// # Errors
    /// A file cannot be written or read, or `each` has ended it.
    pub fn finish(mut self, each: &mut dyn FnMut(Subject, Change) -> io::Result<()>) -> io::Result<Summary> {
        let (candidates, mut outcomes) = self.weigh()?;
        self.share(&candidates, &mut outcomes)?;
        drop(candidates);
        self.difference(&outcomes, each)?;
        Ok(self.summary)
    }
}

/// In which part somebody is: with all of the network around.
fn part(key: [u64; 2], who: Subject) -> usize {
    let hash = sip13(key, &who.wide().to_be_bytes());
    usize::try_from(hash % PARTS as u64).unwrap_or(0)
}

/// What was found of somebody, on its way to the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Listed(Listing),
    Not(Why),
}

impl Outcome {
    fn pack(self, who: Subject, out: &mut Vec<u8>) {
        let (tag, a, b) = match self {
            Outcome::Listed(Listing { members, groups }) => (0, u32::from(members), groups),
            Outcome::Not(Why::Unreported) => (1, 0, 0),
            Outcome::Not(Why::Exempt) => (2, 0, 0),
            Outcome::Not(Why::Members(n)) => (3, 0, n),
            Outcome::Not(Why::Groups(n)) => (4, 0, n),
            Outcome::Not(Why::Weight(n)) => (5, n, 0),
            Outcome::Not(Why::Wide) => (6, 0, 0),
            Outcome::Not(Why::Share(member)) => (7, 0, member),
        };
        out.clear();
        who.pack(out);
        out.push(tag);
        out.extend_from_slice(&a.to_be_bytes());
        out.extend_from_slice(&b.to_be_bytes());
    }

    fn unpack(bytes: &[u8]) -> Option<(Subject, Outcome)> {
        let (who, rest) = Subject::unpack(bytes)?;
        let &[tag, a, b, c, d, e, f] = rest else { return None };
        let (long, short) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
        let outcome = match tag {
            0 => Outcome::Listed(Listing { members: u16::from_be_bytes([c, d]), groups: short }),
            1 => Outcome::Not(Why::Unreported),
            2 => Outcome::Not(Why::Exempt),
            3 => Outcome::Not(Why::Members(short)),
            4 => Outcome::Not(Why::Groups(short)),
            5 => Outcome::Not(Why::Weight(long)),
            6 => Outcome::Not(Why::Wide),
            _ => Outcome::Not(Why::Share(short)),
        };
        Some((who, outcome))
    }
}
