#![forbid(unsafe_code)]
//! Sets of the table, named ones and those of one rule.

use super::TableBatch;
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::firewall::field;
use crate::firewall::nft::SetSpec;
use crate::firewall::nft::elem::{Elem, Timeout};
use crate::firewall::nft::expr::{self, Cmp, REG};

/// Set types of nft(8), only shown, and bytes of a key.
pub(super) const ADDRESS: [(u32, u32); 2] = [(7, 4), (8, 16)];
const SERVICE: (u32, u32) = (13, 2);
pub(super) const INTERFACE: (u32, u32) = (41, 16);

/// What the elements of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementForm {
    /// One key each.
    Single,
    /// From a key up to another one.
    Ranges,
}

impl ElementForm {
    /// Of a range from one key to another.
    pub(super) fn of<T: PartialEq>(first: T, last: T) -> ElementForm {
        if first == last { ElementForm::Single } else { ElementForm::Ranges }
    }

    /// Of elements of both forms.
    pub(super) fn or(self, other: ElementForm) -> ElementForm {
        if self == ElementForm::Single { other } else { self }
    }

    pub(super) fn flags(self) -> i32 {
        match self {
            ElementForm::Single => 0,
            ElementForm::Ranges => libc::NFT_SET_INTERVAL,
        }
    }
}

impl TableBatch {
    /// Adds a set; one without a name belongs to one rule.
    pub(super) fn push_set(
        &mut self,
        statement: u32,
        name: Option<Name>,
        key: (u32, u32),
        flags: i32,
    ) -> (Name, u32) {
        let host_order = key == INTERFACE || field::HOST_ORDER.contains(&key.0);
        let own = if name.is_none() { libc::NFT_SET_ANONYMOUS | libc::NFT_SET_CONSTANT } else { 0 };
        let known = name.map(|name| self.set_name(name)).unwrap_or_else(|| {
            self.anonymous += 1;
            Name::anonymous(self.anonymous - 1)
        });
        let spec = SetSpec { statement, host_order, ..SetSpec::new(known, flags | own, key) };
        let id = self.txn.add_set(&spec);
        if let Some(name) = name {
            self.remember(name, (known, id));
        }
        (known, id)
    }

    pub(super) fn push_elem(&mut self, statement: u32, set: (Name, u32), key: &[u8], end: Option<&[u8]>) {
        let elem = Elem { key, end, timeout: Timeout::None, comment: "" };
        self.txn.add_elem_of(statement, &set.0, set.1, &elem);
    }

    pub(super) fn named(&self, name: Name) -> (Name, u32) {
        let found = self.ids.binary_search_by_key(&name, |(known, _)| *known);
        found.ok().and_then(|at| self.ids.get(at)).map_or((name, 0), |(_, set)| *set)
    }

    pub(super) fn remember(&mut self, name: Name, set: (Name, u32)) {
        let (Ok(at) | Err(at)) = self.ids.binary_search_by_key(&name, |(known, _)| *known);
        self.ids.insert(at, (name, set));
    }

    pub(super) fn lookup(&mut self, (name, id): (Name, u32)) {
        self.rule.push(expr::lookup(Cmp::Eq, &name, id, REG));
    }

    /// A set of ranges of addresses; those that are single addresses only need no intervals.
    pub(super) fn ranges(
        &mut self,
        statement: u32,
        name: Option<Name>,
        family: Family,
        ranges: &[Range],
    ) -> (Name, u32) {
        let form =
            ranges.iter().fold(ElementForm::Single, |all, r| all.or(ElementForm::of(r.first(), r.last())));
        let set = self.address_set(statement, name, family, form);
        ranges.iter().for_each(|range| self.push_range(statement, set, range, form));
        set
    }

    pub(super) fn address_set(
        &mut self,
        statement: u32,
        name: Option<Name>,
        family: Family,
        form: ElementForm,
    ) -> (Name, u32) {
        let key = ADDRESS.get(family as usize).copied().unwrap_or_default();
        self.push_set(statement, name, key, form.flags())
    }

    pub(super) fn push_range(&mut self, statement: u32, set: (Name, u32), range: &Range, form: ElementForm) {
        let end = range.end_key().filter(|_| form == ElementForm::Ranges);
        self.push_elem(statement, set, range.key().bytes(), end.as_ref().map(|k| k.bytes()));
    }

    pub(super) fn port_ranges(
        &mut self,
        statement: u32,
        name: Option<Name>,
        ranges: &[(u16, u16)],
    ) -> (Name, u32) {
        let form =
            ranges.iter().fold(ElementForm::Single, |all, (from, to)| all.or(ElementForm::of(from, to)));
        let set = self.push_set(statement, name, SERVICE, form.flags());
        for (first, last) in ranges {
            let end = last.checked_add(1).filter(|_| form == ElementForm::Ranges).map(u16::to_be_bytes);
            self.push_elem(statement, set, &first.to_be_bytes(), end.as_ref().map(|e| e.as_slice()));
        }
        set
    }
}
