#![forbid(unsafe_code)]
//! What a rule leaves of the packets that come to it: the rules behind one that leads out of a chain are for
//! those.

use crate::base::range::Family;
use crate::plan::listed::ListedRule;
use crate::plan::{Addresses, Field, Interfaces, Rule, Test, Values, ct, meet};

/// What every packet has: where something is missing, neither a test nor its opposite matches.
const ALWAYS: [Field; 8] = [
    Field::Proto,
    Field::Src,
    Field::Dst,
    Field::Mark,
    Field::SrcKind,
    Field::DstKind,
    Field::Day,
    Field::Time,
];

/// Leaves in `outer` the packets that a rule does not match; false if there are none.
pub(super) fn except(outer: &mut Rule, rule: &ListedRule, family: Option<Family>) -> Result<bool, String> {
    let unknown = || "some packets return from its chain, and which ones do not cannot be said".to_owned();
    let Ok([part]) = rule.parts.as_deref() else { return Err(unknown()) };
    let rule = &part.rule;
    let alone = rule.family.is_none() || rule.family == family || rule.family == outer.family;
    let lists = [&rule.iif, &rule.oif].into_iter().filter(|list| list.is_some()).count()
        + [&rule.src, &rule.dst].into_iter().filter(|list| list.is_some()).count()
        + usize::from(rule.ct != 0)
        + usize::from(rule.proto.is_some() && rule.proto != outer.proto)
        + rule.tests.len();
    if lists == 0 && alone && rule.limit.is_none() && rule.sport.is_none() && rule.dport.is_none() {
        return Ok(false);
    }
    let always = rule.tests.iter().all(|test| ALWAYS.contains(&test.field));
    let more = rule.limit.is_some() || rule.sport.is_some() || rule.dport.is_some();
    if lists != 1 || !alone || !always || more {
        return Err(unknown());
    }
    for (to, list) in [(&mut outer.iif, &rule.iif), (&mut outer.oif, &rule.oif)] {
        if let Some(list) = list {
            if list.except_lo {
                return Err(unknown());
            }
            meet::interfaces(to, Some(&Interfaces { not: !list.not, ..list.clone() }))?;
        }
    }
    for (field, list) in [(Field::Src, &rule.src), (Field::Dst, &rule.dst)] {
        match list {
            Some(_) if outer.family.is_none() => return Err(unknown()),
            Some(Addresses::Ranges(ranges)) => {
                let numbers = ranges.iter().map(|range| range.numbers()).collect();
                outer.tests.push(Test::none_of(field, numbers));
            }
            Some(Addresses::Set(name)) => {
                outer.tests.push(Test { field, mask: 0, not: true, values: Values::Set(*name) });
            }
            None => {}
        }
    }
    outer.tests.extend(rule.tests.iter().map(|test| Test { not: !test.not, ..test.clone() }));
    if let Some(proto) = rule.proto.filter(|proto| outer.proto != Some(*proto)) {
        outer.tests.push(Test::none_of(Field::Proto, vec![(proto.into(), proto.into())]));
    }
    if rule.ct != 0 {
        let others = !rule.ct & ct::ALL;
        outer.ct = if outer.ct == 0 { others } else { outer.ct & others };
        if outer.ct == 0 {
            return Ok(false);
        }
    }
    Ok(meet::fold(outer) && !meet::never(outer))
}
