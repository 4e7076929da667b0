#![forbid(unsafe_code)]
//! What two rules match in common. What is not certain is refused: no answer is wider or narrower than the truth.

use super::{Addresses, Interfaces, Ports, Rule};
use crate::base::range::Range;

/// Why there is no answer.
pub type Unknown = &'static str;

/// The ports of both lists; an empty list is none.
///
/// # Errors
/// Two named sets, or a set and a list, have no name in common.
pub fn ports(a: Option<Ports>, b: Option<Ports>) -> Result<Option<Ports>, Unknown> {
    match (a, b) {
        (None, other) | (other, None) => Ok(other),
        (Some(Ports::Ranges(a)), Some(Ports::Ranges(b))) => {
            let both = |&(first, last): &(u16, u16)| {
                b.iter().map(move |&(f, l)| (first.max(f), last.min(l))).filter(|(first, last)| first <= last)
            };
            Ok(Some(Ports::Ranges(a.iter().flat_map(both).collect())))
        }
        (a, b) if a == b => Ok(a),
        _ => Err("it looks at the port in two ways"),
    }
}

/// The addresses of both lists; an empty list is none.
///
/// # Errors
/// As `ports`.
pub fn addresses(a: Option<Addresses>, b: Option<Addresses>) -> Result<Option<Addresses>, Unknown> {
    match (a, b) {
        (None, other) | (other, None) => Ok(other),
        (Some(Addresses::Ranges(a)), Some(Addresses::Ranges(b))) => {
            let both = |a: &Range| {
                let a = *a;
                b.iter().filter_map(move |b| Range::new(a.first().max(b.first()), a.last().min(b.last())))
            };
            Ok(Some(Addresses::Ranges(a.iter().flat_map(both).collect())))
        }
        (a, b) if a == b => Ok(a),
        _ => Err("it looks at the address in two ways"),
    }
}

/// The interfaces of both lists.
///
/// # Errors
/// They are not two lists of exceptions.
pub fn interfaces(a: Option<Interfaces>, b: Option<Interfaces>) -> Result<Option<Interfaces>, Unknown> {
    match (a, b) {
        (None, other) | (other, None) => Ok(other),
        (a, b) if a == b => Ok(a),
        (Some(mut a), Some(b)) if a.not && b.not => {
            a.names.extend(b.names);
            a.names.sort_unstable();
            a.names.dedup();
            Ok(Some(a))
        }
        _ => Err("it looks at the interface in two ways"),
    }
}

/// The rule `inner` for those packets only that `outer` matches, too; `None` if there can be none.
///
/// # Errors
/// Why that is no rule.
pub fn rules(outer: &Rule, inner: &Rule) -> Result<Option<Rule>, Unknown> {
    let differ = |a: Option<u8>, b: Option<u8>| a.zip(b).is_some_and(|(a, b)| a != b);
    let families = outer.family.zip(inner.family).is_some_and(|(a, b)| a != b);
    let states = outer.ct != 0 && inner.ct != 0 && outer.ct & inner.ct == 0;
    if families || states || differ(outer.proto, inner.proto) {
        return Ok(None);
    }
    let comment = if inner.comment.is_empty() { &outer.comment } else { &inner.comment };
    let rule = Rule {
        family: outer.family.or(inner.family),
        proto: outer.proto.or(inner.proto),
        iif: interfaces(outer.iif.clone(), inner.iif.clone())?,
        oif: interfaces(outer.oif.clone(), inner.oif.clone())?,
        src: addresses(outer.src.clone(), inner.src.clone())?,
        dst: addresses(outer.dst.clone(), inner.dst.clone())?,
        sport: ports(outer.sport.clone(), inner.sport.clone())?,
        dport: ports(outer.dport.clone(), inner.dport.clone())?,
        ct: if outer.ct != 0 && inner.ct != 0 { outer.ct & inner.ct } else { outer.ct | inner.ct },
        comment: comment.clone(),
        ..inner.clone()
    };
    Ok(Some(rule).filter(|rule| !never(rule)))
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
