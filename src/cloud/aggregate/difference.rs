#![forbid(unsafe_code)]
//! From the list that is there to the one that is to be.

use super::{Aggregate, Change, Listing, Outcome, Spill, Subject, Why};
use std::io;

/// An entry that is there.
#[derive(Default, Clone, Copy)]
struct Entry {
    is_listed: bool,
    says: Option<Listing>,
}

impl Aggregate<'_> {
    pub(super) fn difference(
        &mut self,
        outcomes: &Spill,
        each: &mut dyn FnMut(Subject, Change) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut found: Vec<(Subject, Outcome)> = Vec::new();
        let mut there: Vec<(Subject, Entry)> = Vec::new();
        for part in 0..outcomes.parts() {
            found.clear();
            there.clear();
            outcomes.read(part, &mut |bytes| found.extend(Outcome::unpack(bytes)))?;
            self.listed.read(part, &mut |bytes| there.extend(read(bytes)))?;
            found.sort_unstable_by_key(|(who, _)| *who);
            there.sort_by_key(|(who, _)| *who);
            // The records of one entry come one by one.
            there.dedup_by(|next, entry| {
                let same = next.0 == entry.0;
                if same {
                    entry.1.is_listed |= next.1.is_listed;
                    entry.1.says = entry.1.says.or(next.1.says);
                }
                same
            });
            let entry = |who: &Subject| {
                let at = there.binary_search_by_key(who, |(other, _)| *other).ok();
                at.and_then(|at| there.get(at)).map(|(_, entry)| *entry)
            };
            for (who, outcome) in &found {
                let Outcome::Listed(listing) = outcome else { continue };
                match entry(who) {
                    None => self.change(*who, Change::Add(*listing), each)?,
                    Some(Entry { is_listed: true, says }) if says == Some(*listing) => {}
                    Some(_) => self.change(*who, Change::Update(*listing), each)?,
                }
            }
            for (who, _) in &there {
                let at = found.binary_search_by_key(who, |(other, _)| *other).ok();
                let why = match at.and_then(|at| found.get(at)) {
                    Some((_, Outcome::Listed(_))) => continue,
                    Some((_, Outcome::Not(why))) => *why,
                    None if self.is_exempt(*who) => Why::Exempt,
                    None => Why::Unreported,
                };
                self.change(*who, Change::Remove(why), each)?;
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        who: Subject,
        change: Change,
        each: &mut dyn FnMut(Subject, Change) -> io::Result<()>,
    ) -> io::Result<()> {
        let count = match change {
            Change::Add(_) => &mut self.summary.added,
            Change::Update(_) => &mut self.summary.updated,
            Change::Remove(_) => &mut self.summary.removed,
        };
        *count += 1;
        each(who, change)
    }
}

/// Reads a record of an entry.
fn read(bytes: &[u8]) -> Option<(Subject, Entry)> {
    let (who, rest) = Subject::unpack(bytes)?;
    let &[says, a, b, c, d] = rest else { return None };
    let listing = Listing { members: u16::from_be_bytes([a, b]), groups: u16::from_be_bytes([c, d]) };
    Some((who, Entry { is_listed: says == 0, says: (says != 0).then_some(listing) }))
}
