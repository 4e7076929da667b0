#![forbid(unsafe_code)]
//! What two rules match in common. What is not certain is refused: no answer is wider or narrower than the
//! truth.

use super::{Addresses, Field, Interfaces, Ports, Rule, Test, Values};
use crate::base::name::IfName;
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

/// Leaves in `to` the interfaces that are in both lists; a list without names is none, if it is no list of
/// exceptions.
///
/// # Errors
/// An exception is one of those that a wildcard stands for.
pub fn interfaces(to: &mut Option<Interfaces>, other: Option<&Interfaces>) -> Result<(), Unknown> {
    let (Some(one), Some(other)) = (&mut *to, other) else {
        if let Some(other) = other {
            *to = Some(other.clone());
        }
        return Ok(());
    };
    one.except_lo |= other.except_lo;
    match (one.not, other.not) {
        (true, true) => {
            one.names.extend(&other.names);
            one.names.sort_unstable();
            one.names.dedup();
        }
        (false, false) => {
            let pairs = one.names.iter().flat_map(|a| other.names.iter().map(move |b| (a, b)));
            let mut both: Vec<IfName> = pairs.filter_map(|(a, b)| narrower(a, b)).copied().collect();
            both.sort_unstable();
            both.dedup();
            one.names = both;
        }
        (true, false) => {
            let exceptions = std::mem::replace(&mut one.names, other.names.clone());
            one.not = false;
            without(one, &exceptions)?;
        }
        (false, true) => without(one, &other.names)?,
    }
    Ok(())
}

/// Of two names, where all that the one stands for the other does, too: the one.
fn narrower<'a>(a: &'a IfName, b: &'a IfName) -> Option<&'a IfName> {
    if covers(b, a) { Some(a) } else { Some(b).filter(|b| covers(a, b)) }
}

/// Whether `a` stands for all that `b` does.
fn covers(a: &IfName, b: &IfName) -> bool {
    match (a.wildcard(), b.wildcard()) {
        (Some(a), Some(b)) => b.starts_with(a),
        (None, Some(_)) => false,
        _ => a.matches(b.as_str()),
    }
}

/// Takes exceptions out of a list of names.
fn without(list: &mut Interfaces, exceptions: &[IfName]) -> Result<(), Unknown> {
    list.names.retain(|name| !exceptions.iter().any(|except| covers(except, name)));
    for except in exceptions {
        if list.names.iter().any(|name| covers(name, except)) {
            if except.as_str() != "lo" {
                return Err("it looks at the interface in two ways");
            }
            list.except_lo = true;
        }
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
    rule.tests.extend_from_slice(&outer.tests);
    if !fold(rule) {
        return Ok(false);
    }
    rule.ct = if outer.ct != 0 && rule.ct != 0 { outer.ct & rule.ct } else { outer.ct | rule.ct };
    if rule.comment.is_empty() {
        rule.comment.clone_from(&outer.comment);
    }
    Ok(!never(rule))
}

/// Makes one test of those that look at the same field, where that can be; false if no packet passes them.
pub fn fold(rule: &mut Rule) -> bool {
    let mut tests = std::mem::take(&mut rule.tests);
    if let Some(proto) = rule.proto {
        let of_proto = |test: &Test| test.field == Field::Proto;
        if tests.iter().any(|test| of_proto(test) && test.passes(proto.into()) == Some(false)) {
            return false;
        }
        tests.retain(|test| !of_proto(test));
    }
    for test in &tests {
        let (Values::Ranges(excepted), true, 0) = (&test.values, test.not, test.mask) else { continue };
        let list = match test.field {
            Field::Src => &mut rule.src,
            Field::Dst => &mut rule.dst,
            _ => continue,
        };
        if let (Some(Addresses::Ranges(ranges)), Some(family)) = (list, rule.family) {
            for except in excepted.iter().filter_map(|numbers| Range::of_numbers(family, *numbers)) {
                *ranges = ranges.iter().flat_map(|range| range.without(&except)).flatten().collect();
            }
        }
    }
    let ranges = |list: &Option<Addresses>| matches!(list, Some(Addresses::Ranges(_)));
    let (src, dst) = (ranges(&rule.src), ranges(&rule.dst));
    let folded = |test: &Test| {
        matches!((test.field, &test.values), (Field::Src, Values::Ranges(_)) if src)
            || matches!((test.field, &test.values), (Field::Dst, Values::Ranges(_)) if dst)
    };
    tests.retain(|test| !folded(test));
    tests.sort_unstable();
    tests.dedup();
    tests.dedup_by(|next, kept| {
        let alike = next.field == kept.field && next.not == kept.not && next.mask == 0 && kept.mask == 0;
        let (Values::Ranges(a), Values::Ranges(b)) = (&next.values, &kept.values) else { return false };
        if !alike {
            return false;
        }
        let list = if next.not { [a.as_slice(), b].concat() } else { common(a, b) };
        *kept = Test { not: kept.not, ..Test::new(kept.field, list) };
        true
    });
    rule.tests = tests;
    true
}

/// The numbers that are in both lists.
fn common(a: &[(u128, u128)], b: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
    pairs.filter(|(first, last)| first <= last).collect()
}

/// Whether one of the lists is empty.
#[must_use]
pub fn never(rule: &Rule) -> bool {
    let no_address =
        [&rule.src, &rule.dst].iter().any(|l| matches!(l, Some(Addresses::Ranges(r)) if r.is_empty()));
    let no_interface = [&rule.iif, &rule.oif].into_iter().flatten().any(|l| !l.not && l.names.is_empty());
    let nothing = |test: &Test| !test.not && matches!(&test.values, Values::Ranges(r) if r.is_empty());
    no_address
        || no_interface
        || rule.tests.iter().any(nothing)
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
        && (&a.tests, &a.changes) == (&b.tests, &b.changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Interfaces {
        let (not, names) = text.strip_prefix('!').map_or((false, text), |names| (true, names));
        let names = names.split(',').filter(|name| !name.is_empty()).map(|name| IfName::new(name).unwrap());
        Interfaces { not, names: names.collect(), except_lo: false }
    }

    #[test]
    fn interfaces_in_both_lists() {
        // What is left, `-` = it cannot be said.
        let cases = [
            ("docker0", "!docker0", ""),
            ("docker0,br-1", "!docker0", "br-1"),
            ("!docker0", "br-1,docker0", "br-1"),
            ("eth0", "eth0,eth1", "eth0"),
            ("eth*", "eth0,wg0", "eth0"),
            ("eth1*", "eth*", "eth1*"),
            ("eth*", "wg*", ""),
            ("!eth0", "!eth1", "!eth0,eth1"),
            ("eth*", "!eth*,lo", ""),
            ("eth*", "!wg0", "eth*"),
            ("eth*", "!eth0", "-"),
            ("eth*,wg0", "!wg*", "eth*"),
            ("l*", "!lo", "l* but lo"),
        ];
        for (one, other, want) in cases {
            let mut to = Some(list(one));
            let said = interfaces(&mut to, Some(&list(other)));
            let to = to.unwrap();
            let mut names = to.names.clone();
            names.sort_unstable();
            let names: Vec<&str> = names.iter().map(IfName::as_str).collect();
            let found =
                [if to.not { "!" } else { "" }, &names.join(","), if to.except_lo { " but lo" } else { "" }];
            let found = if said.is_ok() { found.concat() } else { "-".into() };
            assert_eq!(found, want, "{one} and {other}");
        }
    }
}
