#![forbid(unsafe_code)]
//! What two rules match in common. What is not certain is refused: no answer is wider or narrower than the truth.

use super::{Addresses, Interfaces, Ports, Rule};
use crate::base::range::Range;

/// Why there is no answer.
pub type Unknown = &'static str;

/// Leaves in `to` the ports that are in both lists; an empty list is none.
///
/// # Errors
/// Two named sets, or a set and a list, have no name in common.
pub fn ports(to: &mut Option<Ports>, other: Option<&Ports>) -> Result<(), Unknown> {
    match (&mut *to, other) {
        (_, None) => {}
        (None, Some(other)) => *to = Some(other.clone()),
        (Some(Ports::Ranges(ranges)), Some(Ports::Ranges(others))) => {
            let mut both = Vec::new();
            for a in others {
                for b in &*ranges {
                    let (first, last) = (a.0.max(b.0), a.1.min(b.1));
                    if first <= last {
                        both.push((first, last));
                    }
                }
            }
            *ranges = both;
        }
        (Some(one), Some(other)) if one == other => {}
        _ => return Err("it looks at the port in two ways"),
    }
    Ok(())
}

/// Leaves in `to` the addresses that are in both lists; an empty list is none.
///
/// # Errors
/// As `ports`.
pub fn addresses(to: &mut Option<Addresses>, other: Option<&Addresses>) -> Result<(), Unknown> {
    match (&mut *to, other) {
        (_, None) => {}
        (None, Some(other)) => *to = Some(other.clone()),
        (Some(Addresses::Ranges(ranges)), Some(Addresses::Ranges(others))) => {
            let mut both = Vec::new();
            for a in others {
                for b in &*ranges {
                    both.extend(Range::new(a.first().max(b.first()), a.last().min(b.last())));
                }
            }
            *ranges = both;
        }
        (Some(one), Some(other)) if one == other => {}
        _ => return Err("it looks at the address in two ways"),
    }
    Ok(())
}

/// Leaves in `to` the interfaces that are in both lists.
///
/// # Errors
/// They are not two lists of exceptions.
pub fn interfaces(to: &mut Option<Interfaces>, other: Option<&Interfaces>) -> Result<(), Unknown> {
    match (&mut *to, other) {
        (_, None) => {}
        (None, Some(other)) => *to = Some(other.clone()),
        (Some(one), Some(other)) if one == other => {}
        (Some(one), Some(other)) if one.not && other.not => {
            one.names.extend(&other.names);
            one.names.sort_unstable();
            one.names.dedup();
        }
        _ => return Err("it looks at the interface in two ways"),
    }
    Ok(())
}

/// Makes of `rule` what it is for those packets only that `outer` matches, too; false if there can be none.
///
/// # Errors
/// Why that is no rule.
pub fn rules(outer: &Rule, rule: &mut Rule) -> Result<bool, Unknown> {
    let families = outer.family.zip(rule.family).is_some_and(|(a, b)| a != b);
    let protos = outer.proto.zip(rule.proto).is_some_and(|(a, b)| a != b);
    let states = outer.ct != 0 && rule.ct != 0 && outer.ct & rule.ct == 0;
    if families || protos || states {
        return Ok(false);
    }
    rule.family = rule.family.or(outer.family);
    rule.proto = rule.proto.or(outer.proto);
    interfaces(&mut rule.iif, outer.iif.as_ref())?;
    interfaces(&mut rule.oif, outer.oif.as_ref())?;
    addresses(&mut rule.src, outer.src.as_ref())?;
    addresses(&mut rule.dst, outer.dst.as_ref())?;
    ports(&mut rule.sport, outer.sport.as_ref())?;
    ports(&mut rule.dport, outer.dport.as_ref())?;
    rule.ct = if outer.ct != 0 && rule.ct != 0 { outer.ct & rule.ct } else { outer.ct | rule.ct };
    if rule.comment.is_empty() {
        rule.comment.clone_from(&outer.comment);
    }
    Ok(!never(rule))
}

/// Whether one of the lists is empty.
#[must_use]
pub fn never(rule: &Rule) -> bool {
    let no_address =
        [&rule.src, &rule.dst].iter().any(|l| matches!(l, Some(Addresses::Ranges(r)) if r.is_empty()));
    no_address
        || [&rule.sport, &rule.dport].iter().any(|l| matches!(l, Some(Ports::Ranges(r)) if r.is_empty()))
}

/// Whether two rules match the same packets, before any bound.
#[must_use]
pub fn same(a: &Rule, b: &Rule) -> bool {
    a.family == b.family
        && a.proto == b.proto
        && (&a.iif, &a.oif, a.ct) == (&b.iif, &b.oif, b.ct)
        && (&a.src, &a.dst) == (&b.src, &b.dst)
        && (&a.sport, &a.dport) == (&b.sport, &b.dport)
}
