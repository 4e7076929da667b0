#![forbid(unsafe_code)]
//! Two backends, both of which drop packets: what is asked is asked of both, and what is changed is changed
//! in the one that is wanted.

use super::former::Former;
use crate::ban::{AllowEntry, BanEntry, Failure, GuardState, ListForm, ListId, Scope, Shortage};
use crate::base::range::{Family, Range};
use crate::firewall::backend::{DenySet, Filling, Lists, View};
use std::path::Path;

/// The one that is wanted, and the other one.
pub(super) struct InBoth {
    wanted: Box<dyn Lists>,
    former: Former,
}

impl InBoth {
    pub(super) fn new(wanted: Box<dyn Lists>, former: Former) -> InBoth {
        InBoth { wanted, former }
    }

    /// Gives bans to `each` that are in force in the former backend alone.
    fn more(&mut self, only: Option<&Range>, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        let InBoth { wanted, former } = self;
        let mut each = |entry: &BanEntry<'_>| {
            if !wanted.has_ban(&entry.addr, entry.scope).unwrap_or(false) {
                each(entry);
            }
        };
        match only {
            Some(range) => former.view().bans_of(range, &mut each),
            None => former.view().list(&mut each),
        }
    }
}

impl View for InBoth {
    fn state(&mut self) -> Result<Option<GuardState>, Failure> {
        self.wanted.state()
    }

    fn name(&self) -> &'static str {
        self.wanted.name()
    }

    fn place(&self) -> &'static str {
        self.wanted.place()
    }

    fn hook(&self) -> Option<&'static str> {
        self.wanted.hook()
    }

    fn cannot_drop(&mut self, family: Family) -> Result<Option<&'static str>, Failure> {
        self.wanted.cannot_drop(family)
    }

    fn lacking(&mut self, state: GuardState) -> Vec<String> {
        self.wanted.lacking(state)
    }

    fn owned_by(&mut self, run_dir: &Path) -> Result<Option<String>, Failure> {
        self.wanted.owned_by(run_dir)
    }

    fn has_ban(&mut self, addr: &Range, scope: &Scope) -> Result<bool, Failure> {
        Ok(self.wanted.has_ban(addr, scope)? || self.former.view().has_ban(addr, scope)?)
    }

    fn list(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.wanted.list(each)?;
        self.more(None, each)
    }

    fn glance(&mut self, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.list(each)
    }

    fn bans_of(&mut self, range: &Range, each: &mut dyn FnMut(&BanEntry<'_>)) -> Result<(), Failure> {
        self.wanted.bans_of(range, each)?;
        self.more(Some(range), each)
    }

    fn allowed_until(&mut self) -> Result<Vec<AllowEntry>, Failure> {
        self.wanted.allowed_until()
    }

    fn throttled(&mut self) -> Result<u64, Failure> {
        Ok(self.wanted.throttled()? + self.former.view().throttled()?)
    }

    fn each_throttled(&mut self, each: &mut dyn FnMut(Range, u64)) -> Result<(), Failure> {
        self.wanted.each_throttled(each)?;
        self.former.view().each_throttled(each)
    }

    fn dropped(&mut self) -> Result<Option<u64>, Failure> {
        let all = [self.wanted.dropped()?, self.former.view().dropped()?];
        Ok(all.into_iter().flatten().reduce(|a, b| a + b))
    }

    fn denied(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure> {
        let mut all = self.wanted.denied(ranges)?;
        for (names, more) in all.iter_mut().zip(self.former.view().denied(ranges)?) {
            names.extend(more);
            names.sort_unstable();
            names.dedup();
        }
        Ok(all)
    }
}

impl Lists for InBoth {
    fn go_through(&mut self, run_dir: &Path) {
        self.wanted.go_through(run_dir);
    }

    fn end_throttle(&mut self, ranges: &[Range]) -> Result<usize, Failure> {
        self.wanted.end_throttle(ranges)
    }

    fn deny_sets(&mut self) -> Result<Vec<DenySet>, Failure> {
        self.wanted.deny_sets()
    }

    fn deny_has(&mut self, set: &DenySet, ranges: &[Range]) -> Result<Vec<usize>, Failure> {
        self.wanted.deny_has(set, ranges)
    }

    fn deny_open(&mut self, id: ListId, form: ListForm, size: u32, label: &str) -> Result<Filling, Failure> {
        self.wanted.deny_open(id, form, size, label)
    }

    fn deny_add(&mut self, filling: &mut Filling, ranges: &[Range], room: usize) -> Result<(), Failure> {
        self.wanted.deny_add(filling, ranges, room)
    }

    fn deny_close(&mut self) -> Result<(), Failure> {
        self.wanted.deny_close()
    }

    fn deny_room(&self, e: &Failure, room: usize) -> Option<usize> {
        self.wanted.deny_room(e, room)
    }

    fn deny_swap(&mut self, all: &[DenySet], new: &[Filling], list: u64) -> Result<(), Failure> {
        self.wanted.deny_swap(all, new, list)
    }

    fn deny_forget(&mut self, filling: &Filling) -> Result<(), Failure> {
        self.wanted.deny_forget(filling)
    }

    fn deny_drop(&mut self, set: &DenySet) -> Result<(), Failure> {
        self.wanted.deny_drop(set)
    }

    fn room_for_list(&self, hosts: u64, networks: u64) -> Result<(), Shortage> {
        self.wanted.room_for_list(hosts, networks)
    }
}
