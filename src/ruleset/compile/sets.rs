#![forbid(unsafe_code)]
//! Named sets: their names in the kernel, and what is in them.

use super::super::ast::{SetElements, SetStatement};
use super::super::words::is_of_nft;
use super::BUCKET_MAX;
use crate::base::name::Name;
use crate::base::range::{Family, merge};
use crate::base::range_list::{MANY, RangeList};
use crate::plan::{self, Sink};

/// The set, or the two sets of its families.
pub(super) fn named_set(set: &SetStatement, sink: &mut dyn Sink) {
    if let Some(name) = set.ipset() {
        for family in Family::ALL {
            sink.foreign(family_set(set.name, set.family, family), name);
        }
        return;
    }
    match &set.elements {
        SetElements::Ports(list) => {
            let elements = plan::Elements::Ports(joined(list.clone()));
            sink.set(&plan::Set { name: port_set(set.name), elements });
        }
        SetElements::Interfaces(_) => {}
        SetElements::Dynamic => {
            for family in Family::ALL {
                sink.buckets(family_set(set.name, None, family), family, BUCKET_MAX);
            }
        }
        SetElements::Listed(list) => listed(set, list, sink),
        // As what is kept for the next boot has those of a file.
        SetElements::Addresses(list) if list.len() >= MANY => {
            let mut all = RangeList::default();
            list.iter().for_each(|range| all.push(*range));
            all.finish();
            listed(set, &all, sink);
        }
        SetElements::Addresses(list) => {
            for family in Family::ALL.into_iter().filter(|f| set.family.is_none_or(|only| only == *f)) {
                let mut ranges: Vec<_> = list.iter().filter(|r| r.family() == family).copied().collect();
                merge(&mut ranges);
                let name = family_set(set.name, set.family, family);
                sink.set(&plan::Set { name, elements: plan::Elements::Addresses(family, ranges) });
            }
        }
    }
}

/// The sets of many ranges.
fn listed(set: &SetStatement, list: &RangeList, sink: &mut dyn Sink) {
    for family in Family::ALL.into_iter().filter(|f| set.family.is_none_or(|only| only == *f)) {
        sink.listed(family_set(set.name, set.family, family), family, list);
    }
}

/// The name in the kernel of what a set has of a family: a set of both is two, and none is called like a word
/// of nft.
pub(in crate::ruleset) fn family_set(name: Name, only: Option<Family>, family: Family) -> Name {
    let suffix = if family == Family::V4 { ".4" } else { ".6" };
    if only.is_none() || is_of_nft(name.as_str()) { suffixed(name, suffix) } else { name }
}

/// Likewise of a set of ports.
pub(in crate::ruleset) fn port_set(name: Name) -> Name {
    if is_of_nft(name.as_str()) { suffixed(name, PORTS) } else { name }
}

fn suffixed(name: Name, suffix: &str) -> Name {
    Name::new(&[name.as_str(), suffix].concat()).unwrap_or(name)
}

/// What the kernel's name of a set of ports ends with, if it must not be the plain one.
pub(in crate::ruleset) const PORTS: &str = ".p";

/// Sorts ranges of ports and joins those that meet or touch.
pub(in crate::ruleset) fn joined(mut list: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    let mut out: Vec<(u16, u16)> = Vec::with_capacity(list.len());
    while let Some(least) = list.iter().copied().enumerate().min_by_key(|(_, range)| *range).map(|(i, _)| i) {
        let (first, last) = list.swap_remove(least);
        match out.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}
