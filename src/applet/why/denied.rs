#![forbid(unsafe_code)]
//! What deny lists drop of a range: the entries of their files, as far as the kernel has them.

use super::Sources;
use super::facts::{Facts, list_fact};
use crate::applet::output::{OutputError, failed};
use crate::ban::Failure;
use crate::base::range::{Range, split};
use crate::config::{ListEntry, ListKind};
use crate::firewall::backend::{DenySet, Lists};
use crate::lists::{self, Exempt, Paths};
use crate::sys::clock;
use std::path::Path;

/// Entries of which the kernel is asked together.
const QUESTIONS: usize = 256;

/// What is read of files.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Everything.
    All,
    /// What was found before, since what drops could not all be kept.
    Again,
}

impl Facts {
    /// Finds what deny lists drop.
    pub(super) fn read_denied(&mut self, sources: &mut Sources) -> Result<(), OutputError> {
        let range = self.range;
        let of_first = sources.guard.denied(&[range]).map_err(failed)?.pop().unwrap_or_default();
        let mut without_entry = of_first.clone();
        if range.first() != range.last() {
            self.read_lists(sources, &range, Reading::All, &mut without_entry)?;
        } else {
            // Of one address the kernel has said which lists drop it.
            for name in of_first {
                let path = Paths::of(&sources.settings).dir(ListKind::Deny).join(&name);
                let mut list = DenyList::of(self, &path, range);
                list.read(None).map_err(failed)?;
                without_entry.retain(|other| !list.has_first || *other != name);
            }
        }
        for name in without_entry {
            let path = Paths::of(&sources.settings).dir(ListKind::Deny).join(&name);
            let first = Range::from(range.first());
            self.holds.drop(&first);
            self.denied.push(&first, || list_fact(first, &path, 0, None));
        }
        Ok(())
    }

    /// Finds what drops everything once more, from an address on.
    pub(super) fn read_drops_again(
        &mut self,
        sources: &mut Sources,
        from: &Range,
    ) -> Result<(), OutputError> {
        let Some(rest) = Range::new(from.first(), self.range.last()) else { return Ok(()) };
        let holds = &mut self.holds;
        let each = &mut |entry: &crate::ban::BanEntry<'_>| {
            if entry.scope.is_all() {
                holds.drop(&entry.addr);
            }
        };
        sources.guard.bans_of(&rest, each).map_err(failed)?;
        self.read_lists(sources, &rest, Reading::Again, &mut Vec::new())
    }

    /// Reads the lists of which something is in force. Of the names of `without_entry` those stay whose lists
    /// have no entry for the first address.
    fn read_lists(
        &mut self,
        sources: &mut Sources,
        range: &Range,
        reading: Reading,
        without_entry: &mut Vec<String>,
    ) -> Result<(), OutputError> {
        let (paths, guard) = (Paths::of(&sources.settings), &mut *sources.guard);
        let dir = paths.dir(ListKind::Deny);
        let mut sets = guard.deny_sets().map_err(failed)?;
        sets.retain(|set| set.in_force() && set.family() == range.family());
        let names = lists::names_in_force(dir, &sets, range.family());
        let exempt = if names.is_empty() { Exempt::default() } else { Exempt::read() };
        for name in names {
            let path = dir.join(&name);
            let of_list: Vec<&DenySet> =
                sets.iter().filter(|set| set.id.list == lists::list_id(&name)).collect();
            let mut list = DenyList::of(self, &path, *range);
            list.reading = reading;
            list.read(Some((guard, &of_list, &exempt))).map_err(failed)?;
            without_entry.retain(|other| !list.has_first || *other != name);
        }
        Ok(())
    }
}

/// What is asked of the kernel about the entries of a list: whether its sets have them, and who of them was
/// left out.
type InKernel<'k> = (&'k mut dyn Lists, &'k [&'k DenySet], &'k Exempt);

/// What of an entry the kernel may have.
struct AskedPart {
    line: u32,
    entry: ListEntry,
    part: Range,
}

/// A list that is read.
struct DenyList<'f> {
    facts: &'f mut Facts,
    path: &'f Path,
    range: Range,
    reading: Reading,
    /// Whether it has an entry for the first address.
    has_first: bool,
    asked: Vec<AskedPart>,
    /// The last one that was told.
    told: Option<(u32, ListEntry)>,
}

impl<'f> DenyList<'f> {
    fn of(facts: &'f mut Facts, path: &'f Path, range: Range) -> DenyList<'f> {
        let (reading, asked) = (Reading::All, Vec::new());
        DenyList { facts, path, range, reading, has_first: false, asked, told: None }
    }

    /// Reads it; without a kernel that is to be asked all of its entries are in force.
    fn read(&mut self, mut kernel: Option<InKernel<'_>>) -> Result<(), Failure> {
        let (mut result, now) = (Ok(()), clock::wall());
        let (path, range) = (self.path, self.range);
        let mut each = |line, entry: ListEntry| {
            if result.is_err() || entry.until.is_some_and(|until| until <= now) {
                return;
            }
            let exempt = kernel.as_ref().map(|(_, _, exempt)| *exempt).filter(|_| !entry.force);
            self.take(line, entry, exempt);
            if self.asked.len() >= QUESTIONS {
                result = self.settle(&mut kernel);
            }
        };
        // What cannot be read is told by `mef lists`.
        let _ = lists::entries_of(ListKind::Deny, path, &range, &mut each);
        result.and_then(|()| self.settle(&mut kernel))
    }

    /// Takes an entry, but for what is allowed of it. One that is beyond all that can be kept counts, and
    /// nobody is asked about it: it decides nothing.
    fn take(&mut self, line: u32, entry: ListEntry, exempt: Option<&Exempt>) {
        let Some(part) = Range::from(entry.net).common(&self.range) else { return };
        let parts = exempt.map_or(vec![part], |exempt| exempt.without(&part));
        let (known, holds) = (self.asked.len(), &self.facts.holds);
        let mut is_beyond = false;
        for part in parts.iter().flat_map(|part| split(part, &holds.allowed)) {
            is_beyond = holds.dropped.is_beyond(&part);
            if !is_beyond {
                self.asked.push(AskedPart { line, entry, part });
            }
        }
        if is_beyond && self.asked.len() == known && self.reading == Reading::All {
            self.facts.denied.more += 1;
        }
    }

    /// Asks about the entries that have come together.
    fn settle(&mut self, kernel: &mut Option<InKernel<'_>>) -> Result<(), Failure> {
        let parts: Vec<Range> = self.asked.iter().map(|asked| asked.part).collect();
        let mut is_in_force = vec![kernel.is_none(); parts.len()];
        if let Some((guard, sets, _)) = kernel {
            for set in *sets {
                for at in guard.deny_has(set, &parts)? {
                    is_in_force.get_mut(at).into_iter().for_each(|is| *is = true);
                }
            }
        }
        for (AskedPart { line, entry, part }, is_in_force) in self.asked.drain(..).zip(is_in_force) {
            if !is_in_force {
                continue;
            }
            let whole = Range::from(entry.net);
            self.has_first |= whole.covers(&Range::from(self.range.first()));
            self.facts.holds.drop(&part);
            if self.reading == Reading::All && self.told != Some((line, entry)) {
                self.facts.denied.push(&part, || list_fact(whole, self.path, line, entry.until));
                self.told = Some((line, entry));
            }
        }
        Ok(())
    }
}
