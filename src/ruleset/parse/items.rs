#![forbid(unsafe_code)]
//! The items of lists: addresses, ports, interfaces, elements of sets.

use crate::base::diag::{Bad, Checked};
use crate::base::name::IfName;
use crate::base::range::Family;
use crate::ruleset::ast::{Address, InterfaceList, Port, SetElements};
use crate::ruleset::words::{expected, family_word};
use crate::ruleset::{value, words};

const NO_INTERFACE: &str = "is not an interface name";

/// Adds an element of a set.
pub(in crate::ruleset) fn add_element(
    list: &mut SetElements,
    family: Option<Family>,
    text: &str,
    at: usize,
) -> Checked<()> {
    match list {
        SetElements::Addresses(ranges) => ranges.push(address(family, text, at)?),
        SetElements::Listed(ranges) => ranges.push(address(family, text, at)?),
        SetElements::Ports(ports) => ports.push(value::ports(text, at)?),
        SetElements::Interfaces(names) => {
            let hint = "at most 15 characters; a * may end it; lo is named by rules only";
            let name = IfName::new(text).filter(|name| !name.matches("lo") && !text.starts_with('$'));
            names.push(name.ok_or_else(|| Bad::word(at, text, NO_INTERFACE, hint))?);
        }
        SetElements::Dynamic => {}
    }
    Ok(())
}

/// An element of a set of addresses.
fn address(family: Option<Family>, text: &str, at: usize) -> Checked<crate::base::range::Range> {
    let range = value::range(text, at)?;
    if family.is_some_and(|family| range.family() != family) {
        let what = [range.to_string().as_str(), " is not of family ", family_word(family)].concat();
        let hint = "the family of all elements, or family=any";
        return Err(Bad::new(at..at + text.len(), what, hint));
    }
    Ok(range)
}

pub(super) fn interfaces(text: &str) -> Checked<InterfaceList> {
    match text {
        "auto" => return Ok(InterfaceList::Auto),
        "*" => return Ok(InterfaceList::Every),
        _ => {}
    }
    let (not, list, skipped) = match text.strip_prefix('!') {
        Some(list) => (true, list, 1),
        None => (false, text, 0),
    };
    if list.starts_with('@') {
        return Ok(InterfaceList::Set(not, value::set_name(list, skipped)?));
    }
    let mut names = Vec::with_capacity(value::count(list));
    value::items(list, &mut |item, at| {
        // Each may have its own mark.
        let item = item.strip_prefix('!').filter(|_| not).unwrap_or(item);
        let (name, why, hint) = match item {
            "any" | "auto" => (None, "stands alone", "without ! and other names"),
            _ => (IfName::new(item), NO_INTERFACE, "at most 15 characters; a * may end it"),
        };
        names.push(name.ok_or_else(|| Bad::word(at, item, why, hint))?);
        Ok(())
    })
    .map_err(|bad| bad.moved(skipped))?;
    Ok(InterfaceList::Names { not, names: names.into() })
}

/// Takes the `!` before a list: `bit` is noted in `bits` then.
fn without_not<'a>(text: &'a str, (bit, bits): (u8, &mut u8)) -> (&'a str, usize) {
    match text.strip_prefix('!') {
        Some(list) => {
            *bits |= bit;
            (list, 1)
        }
        None => (text, 0),
    }
}

pub(super) fn addresses(text: &str, not: (u8, &mut u8)) -> Checked<Box<[Address]>> {
    let (text, skipped) = without_not(text, not);
    let mut list = Vec::with_capacity(value::count(text));
    value::items(text, &mut |item, at| {
        let kind = (0u8..).zip(&words::KINDS).find(|(_, (word, _))| *word == item);
        list.push(match (kind, item.strip_prefix('@')) {
            (Some((kind, _)), _) => Address::Kind(kind),
            (None, Some(_)) => Address::Set(value::set_name(item, at)?),
            (None, None) if item.bytes().all(|b| b.is_ascii_lowercase()) => {
                let words = words::KINDS.map(|(word, _)| word);
                return Err(Bad::word(at, item, "is not an address or network", &expected(item, &words)));
            }
            (None, None) => Address::Range(value::range(item, at)?),
        });
        Ok(())
    })
    .map_err(|bad| bad.moved(skipped))?;
    Ok(list.into())
}

pub(super) fn ports(text: &str, not: (u8, &mut u8)) -> Checked<Box<[Port]>> {
    let (text, skipped) = without_not(text, not);
    let mut list = Vec::with_capacity(value::count(text));
    value::items(text, &mut |item, at| {
        list.push(match item.strip_prefix('@') {
            Some(_) => Port::Set(value::set_name(item, at)?),
            None => value::ports(item, at).map(|(first, last)| Port::Range(first, last))?,
        });
        Ok(())
    })
    .map_err(|bad| bad.moved(skipped))?;
    Ok(list.into())
}
