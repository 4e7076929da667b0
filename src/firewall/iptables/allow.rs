#![forbid(unsafe_code)]
//! Who is never dropped: a set that is filled beside the one in force, and then takes its place at once.

use super::text::family_name;
use super::{Fallback, Mark, elems, spec};
use crate::ban::{AllowEntry, AllowSource, Allowed, Failure};
use crate::base::clock::{Span, Wall};
use crate::base::range::{Family, Range, covers};
use crate::firewall::ipset::message::{Elem, Found, SetSpec, Type};
use crate::sys::clock;
use std::cell::RefCell;

impl Fallback {
    /// Makes the sets, and fills them if they are new, or nobody knows what is in them: there is no mark.
    pub(super) fn make_allowed(&mut self, former: Option<Mark>) -> Result<(), Failure> {
        let mut new = former.is_none();
        for family in Family::ALL {
            new |= self.make_set(&allow_spec(&family_name("allow", family), family))?;
        }
        if !new {
            return Ok(());
        }
        let there = self.allowed_entries()?;
        let allowed = self.allow.for_table(there);
        self.fill_allowed(&allowed)
    }

    /// Replaces the list, also for what is made from now on.
    pub(super) fn replace_allowed(&mut self, allowed: &mut Allowed) -> Result<(), Failure> {
        allowed.settle();
        self.allow = AllowSource::Kept(allowed.clone());
        if self.registry()?.mark.is_some() { self.fill_allowed(allowed) } else { Ok(()) }
    }

    fn fill_allowed(&mut self, allowed: &Allowed) -> Result<(), Failure> {
        let now = clock::wall();
        let entries = allowed.entries(now);
        let for_good: Vec<Range> =
            entries.iter().filter(|(_, until)| until.is_none()).map(|(range, _)| *range).collect();
        for family in Family::ALL {
            let mut elems: Vec<Elem<'_>> = Vec::new();
            for (range, until) in entries.iter().filter(|(range, _)| range.family() == family) {
                let time = until.map_or(Span::Permanent, |until| Span::Secs(until.0.saturating_sub(now.0)));
                let timeout = Some(elems::timeout(time));
                let mut nets: Vec<Range> = elems::nets(*range).into_iter().map(Range::from).collect();
                // The same network would get an end that it has not.
                nets.retain(|net| until.is_none() || !covers(&for_good, net));
                elems.extend(elems::net_elems(&nets, timeout, ""));
            }
            self.replace(&allow_spec(&family_name("allow", family), family), &elems)?;
        }
        Ok(())
    }

    /// Who is never dropped, each until when, as the kernel has it.
    pub(super) fn allowed_entries(&mut self) -> Result<Vec<AllowEntry>, Failure> {
        let (now, mut all) = (clock::wall(), Vec::new());
        for family in Family::ALL {
            let found: RefCell<Vec<AllowEntry>> = RefCell::default();
            let each = &mut |e: Found<'_>| {
                let until = e.left.map(|left| Wall(now.0.saturating_add(left.into())));
                found.borrow_mut().extend(e.range.map(|range| (range, until)));
            };
            self.sets.elements(&family_name("allow", family), &mut || found.borrow_mut().clear(), each)?;
            let mut found = found.into_inner();
            found.sort_unstable();
            // Parts of one range are it again.
            for (range, until) in found {
                match all.last_mut() {
                    Some((last, end)) if *end == until && is_next(last, &range) => {
                        *last = last.joined(&range).unwrap_or(*last);
                    }
                    _ => all.push((range, until)),
                }
            }
        }
        Ok(all)
    }
}

fn is_next(last: &Range, range: &Range) -> bool {
    !last.meets(range) && last.joined(range).is_some()
}

fn allow_spec(name: &str, family: Family) -> SetSpec<'_> {
    SetSpec { timed: true, ..spec(name, Type::Networks, family) }
}
