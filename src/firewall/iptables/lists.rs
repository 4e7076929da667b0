#![forbid(unsafe_code)]
//! Deny lists: each has sets of its own, filled while the former ones are in force, and then members of the
//! sets of sets that rules ask. No rule is written for them.

use super::elems::{fit, host_elems, host_key, net_elems, plain};
use super::text::{family_name, set_name};
use super::{Fallback, OURS, OURS_MASK, destroy, number_of, spec};
use crate::ban::{Failure, ListForm, ListId, ListMembers};
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::firewall::backend::View as _;
use crate::firewall::contents::Fill;
use crate::firewall::guard::{DenySet, Filling, fresh_deny_name};
use crate::firewall::ipset::DoneBefore;
use crate::firewall::ipset::message::{Command, Elem, Key, SetSpec, Type};
use std::cell::RefCell;

/// Ranges that are handed to the kernel together.
const CHUNK: usize = 512;

/// What is registered of a set of a deny list.
pub(super) struct Registered {
    name: Name,
    id: ListId,
    members: ListMembers,
    label: String,
}

impl Registered {
    /// `list LIST CONTENT n|h NAME LABEL`
    fn write(&self) -> String {
        let kind = match self.members {
            ListMembers::Addresses => 'h',
            ListMembers::Networks => 'n',
        };
        let ListId { list, content } = self.id;
        let mut text =
            format!("list {list:016x} {content:016x} {kind} {} {}", self.name.as_str(), self.label);
        fit(&mut text);
        text
    }

    pub(super) fn read(comment: &str) -> Option<Registered> {
        let mut words = comment.strip_prefix("list ")?.splitn(5, ' ');
        let mut number = || u64::from_str_radix(words.next()?, 16).ok();
        let id = ListId { list: number()?, content: number()? };
        let members = if words.next()? == "n" { ListMembers::Networks } else { ListMembers::Addresses };
        let name = Name::new(words.next()?)?;
        Some(Registered { name, id, members, label: words.next().unwrap_or("").to_owned() })
    }
}

/// The set of sets that a set of a list is a member of.
fn list_of(form: ListForm) -> String {
    let what = match form.members {
        ListMembers::Addresses => "deny",
        ListMembers::Networks => "denynet",
    };
    family_name(what, form.family)
}

/// Elements that wait to be handed over.
#[derive(Default)]
pub(super) struct Waiting {
    set: String,
    members: ListMembers,
    ranges: Vec<Range>,
}

impl Fallback {
    /// All sets of deny lists.
    pub(super) fn lists(&mut self) -> Result<Vec<DenySet>, Failure> {
        let registered = self.registry()?.lists;
        let mut members = Vec::new();
        for form in ListForm::ALL {
            let found: RefCell<Vec<String>> = RefCell::default();
            self.sets.elements(&list_of(form), &mut || found.borrow_mut().clear(), &mut |e| {
                found.borrow_mut().push(e.member.to_owned());
            })?;
            members.extend(found.into_inner());
        }
        let set = |one: Registered| {
            let name = set_name(one.name);
            let rule = members.contains(&name).then_some((one.name, 0));
            let (fill, Registered { name, id, members, label }) = (Fill::Some, one);
            DenySet { name, id, members, label, rule, fill }
        };
        let mut all: Vec<DenySet> = registered.into_iter().map(set).collect();
        for set in all.iter_mut().filter(|set| set.is_asked()) {
            let mut count = None;
            self.sets.header(&set_name(set.name), &mut |header| count = header.elements)?;
            set.fill = Fill::from(count);
        }
        Ok(all)
    }

    /// Makes a set for so many elements that nothing asks yet.
    pub(super) fn open_list(
        &mut self,
        id: ListId,
        form: ListForm,
        size: u32,
        label: &str,
    ) -> Result<Filling, Failure> {
        let ListForm { family, members } = form;
        let name = fresh_deny_name(family);
        let wire = set_name(name);
        let (kind, each) = match members {
            ListMembers::Addresses => (Type::Hosts, 1),
            // A range is several networks.
            ListMembers::Networks => (Type::Networks, 64),
        };
        let most = size.saturating_mul(each).saturating_add(2) | OURS_MASK;
        let size = SetSpec { size: most & !OURS_MASK | OURS, expected: size, ..spec(&wire, kind, family) };
        if !self.sets.create(&size)? {
            return self.open_list(id, form, size.expected, label);
        }
        let label = label.replace('"', "'");
        self.register(number_of(name), &Registered { name, id, members, label }.write())?;
        self.waiting = Waiting { set: wire, members, ranges: Vec::new() };
        Ok(Filling { name, members, written: 0, piece: 0, available: None })
    }

    /// Adds ranges; the kernel has them after `close_list`.
    pub(super) fn fill_list(&mut self, filling: &Filling, ranges: &[Range]) -> Result<(), Failure> {
        let set = set_name(filling.name);
        if self.waiting.set != set {
            self.waiting = Waiting { set, members: filling.members, ranges: Vec::new() };
        }
        self.waiting.ranges.extend_from_slice(ranges);
        if self.waiting.ranges.len() >= CHUNK { self.close_list() } else { Ok(()) }
    }

    /// Has the kernel take what was added last.
    pub(super) fn close_list(&mut self) -> Result<(), Failure> {
        let Waiting { set, members, ranges } = std::mem::take(&mut self.waiting);
        let elems: Vec<Elem<'_>> = match members {
            ListMembers::Addresses => host_elems(&ranges),
            ListMembers::Networks => net_elems(&ranges, None, ""),
        };
        let done = self.add_listed(&set, &elems);
        self.waiting = Waiting { set, members, ranges: Vec::new() };
        done
    }

    /// Adds elements; an address that no hash has a place for is one that nobody has.
    fn add_listed(&mut self, set: &str, elems: &[Elem<'_>]) -> Result<(), Failure> {
        let nobody = |at: usize| {
            elems.get(at).is_some_and(|e| matches!(e.key, Key::Net(addr, 0) if addr.is_unspecified()))
        };
        let mut first = None;
        self.sets.write(Command::Add, DoneBefore::Taken, set, elems, &mut |at, code| {
            if !nobody(at) {
                first.get_or_insert(code);
            }
        })?;
        first.map_or(Ok(()), |code| Err(code.failure(set)))
    }

    /// Has the new sets asked instead of those of the list that are: for a moment both are.
    pub(super) fn swap_list(&mut self, all: &[DenySet], new: &[Filling], list: u64) -> Result<(), Failure> {
        for (at, filling) in new.iter().enumerate() {
            if let Err(e) = self.member(Command::Add, filling.name, filling.members) {
                for before in new.iter().take(at) {
                    self.member(Command::Del, before.name, before.members)?;
                }
                return Err(e);
            }
        }
        for old in all.iter().filter(|set| set.id.list == list && set.is_asked()) {
            self.member(Command::Del, old.name, old.members)?;
            self.drop_list(old.name)?;
        }
        self.settle()
    }

    fn member(&mut self, command: Command, name: Name, members: ListMembers) -> Result<(), Failure> {
        let (set, list) = (set_name(name), list_of(ListForm { family: family_of(name), members }));
        let mut why = None;
        self.sets.write(command, DoneBefore::Taken, &list, &[plain(Key::Set(&set))], &mut |_, code| {
            why.get_or_insert(code);
        })?;
        // What is no member any more need not be taken out.
        match why {
            Some(code) if command == Command::Add => Err(code.failure(&list)),
            _ => Ok(()),
        }
    }

    /// Deletes a set that nothing asks. It may be gone already.
    pub(super) fn drop_list(&mut self, name: Name) -> Result<(), Failure> {
        self.sets.about(Command::Destroy, &set_name(name), None)?;
        self.unregister(number_of(name))
    }

    /// Deletes what there is of lists: nobody knows which they are.
    pub(super) fn drop_lists(&mut self) -> Result<(), Failure> {
        for form in ListForm::ALL {
            self.about_ours(Command::Flush, &list_of(form))?;
        }
        ["mef_deny4_", "mef_deny6_"].iter().try_for_each(|prefix| destroy(&mut self.sets, prefix, &[]))
    }

    /// The names of the lists by which the first address of each range is dropped.
    pub(super) fn denied_by(&mut self, ranges: &[Range]) -> Result<Vec<Vec<String>>, Failure> {
        let mut all = vec![Vec::new(); ranges.len()];
        for set in self.lists()?.iter().filter(|set| set.in_force()) {
            for at in self.having(set, ranges)? {
                all.get_mut(at).into_iter().for_each(|names: &mut Vec<String>| names.push(set.label.clone()));
            }
        }
        Ok(all)
    }

    /// Which of the ranges begin with an address that a part of a list has and that is dropped for it.
    pub(super) fn having(&mut self, set: &DenySet, ranges: &[Range]) -> Result<Vec<usize>, Failure> {
        let mut found = Vec::new();
        if set.family() == Family::V6 && self.cannot_drop(Family::V6)?.is_some() {
            return Ok(found);
        }
        let name = set_name(set.name);
        for (at, range) in ranges.iter().enumerate().filter(|(_, range)| range.family() == set.family()) {
            if self.sets.test(&name, &plain(host_key(&range.first().into())))? {
                found.push(at);
            }
        }
        Ok(found)
    }
}

fn family_of(name: Name) -> Family {
    if name.as_str().starts_with("deny6") { Family::V6 } else { Family::V4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_is_read_back() {
        let label = "a name with spaces".to_owned();
        let id = ListId { list: 7, content: u64::MAX };
        let text =
            Registered { name: Name::of("deny6_abc"), id, members: ListMembers::Networks, label }.write();
        let read = Registered::read(&text).unwrap();
        assert_eq!(
            (read.id, read.members, read.label.as_str()),
            (id, ListMembers::Networks, "a name with spaces")
        );
        assert_eq!(family_of(read.name), Family::V6);
        for bad in ["", "list", "list x", "list 1 2 n", "list 1 2 n 4x l"] {
            assert!(Registered::read(bad).is_none(), "{bad}");
        }
    }
}
