#![forbid(unsafe_code)]
//! Statements in canonical form: every key, in the order of `words`, so that equal statements are equal
//! texts.

use super::ast::{
    Action, Address, InterfaceList, Port, Proto, RuleStatement, SetElements, SetStatement, Statement,
};
use super::parse::family_word;
use super::words::{DIRECTIONS, PROTOCOLS, STATES, UNITS};
use crate::plan::{Direction, Rate};
use std::fmt::{Display, Formatter, Result, Write};

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Statement::Policy(dir, action) => {
                let (dir, action) = (direction(*dir), action_word(*action));
                f.write_str("policy dir=")?;
                f.write_str(dir)?;
                f.write_str(" action=")?;
                f.write_str(action)
            }
            Statement::Rule(r) => rule(f, r),
            Statement::Set(s) => set(f, s),
            Statement::Include(file) => {
                f.write_str("include file=")?;
                text(f, file)
            }
        }
    }
}

/// The word for a direction.
pub(super) fn direction(dir: Direction) -> &'static str {
    DIRECTIONS.get(dir as usize).unwrap_or(&"")
}

/// The word for an action.
pub(super) const fn action_word(action: Action) -> &'static str {
    match action {
        Action::Accept => "accept",
        Action::Drop => "drop",
        Action::Reject => "reject",
    }
}

/// The word for a protocol.
fn proto(proto: Proto) -> &'static str {
    PROTOCOLS.get(proto as usize).unwrap_or(&"")
}

fn rule(f: &mut Formatter<'_>, r: &RuleStatement) -> Result {
    for (key, word) in [
        ("rule dir=", direction(r.dir)),
        (" action=", action_word(r.action)),
        (" proto=", proto(r.proto)),
        (" family=", family_word(r.family)),
    ] {
        f.write_str(key)?;
        f.write_str(word)?;
    }
    f.write_str(" log=")?;
    match &r.log {
        None => f.write_str("none")?,
        Some(prefix) => text(f, &["prefix:", prefix].concat())?,
    }
    f.write_str(" ratelimit=")?;
    rate(f, r.ratelimit)?;
    f.write_str(" limit=")?;
    rate(f, r.limit.map(|l| l.rate))?;
    if r.limit.is_some_and(|l| l.per_source) {
        f.write_str("/src")?;
    }
    if r.burst > 0 {
        f.write_str(" burst=")?;
        Display::fmt(&r.burst, f)?;
    }
    interfaces(f, " iif=", &r.iif)?;
    interfaces(f, " oif=", &r.oif)?;
    for (key, list) in [(" src=", &r.src), (" dst=", &r.dst)] {
        items(f, key, list.len(), &mut |f, i| match list.get(i) {
            Some(Address::Set(name)) => at_name(f, name.as_str()),
            Some(Address::Range(range)) => Display::fmt(range, f),
            None => Ok(()),
        })?;
    }
    for (key, list) in [(" sport=", &r.sport), (" dport=", &r.dport)] {
        items(f, key, list.len(), &mut |f, i| match list.get(i) {
            Some(Port::Set(name)) => at_name(f, name.as_str()),
            Some(Port::Range(first, last)) => ports(f, *first, *last),
            None => Ok(()),
        })?;
    }
    items(f, " ct=", usize::from(r.ct != 0), &mut |f, _| states(f, r.ct))?;
    f.write_str(" comment=")?;
    text(f, &r.comment)
}

fn set(f: &mut Formatter<'_>, s: &SetStatement) -> Result {
    f.write_str("set name=")?;
    f.write_str(s.name.as_str())?;
    f.write_str(" family=")?;
    f.write_str(family_word(s.family))?;
    match &s.elements {
        SetElements::Addresses(list) => {
            f.write_str(" type=addr")?;
            items(f, " elements=", list.len(), &mut |f, i| list.get(i).map_or(Ok(()), |r| Display::fmt(r, f)))
        }
        SetElements::Ports(list) => {
            f.write_str(" type=port")?;
            items(f, " elements=", list.len(), &mut |f, i| {
                list.get(i).map_or(Ok(()), |&(a, b)| ports(f, a, b))
            })
        }
    }
}

/// A comma list; an empty one is any.
fn items(
    f: &mut Formatter<'_>,
    key: &str,
    len: usize,
    each: &mut dyn FnMut(&mut Formatter<'_>, usize) -> Result,
) -> Result {
    f.write_str(key)?;
    if len == 0 {
        return f.write_str("any");
    }
    for i in 0..len {
        if i > 0 {
            f.write_char(',')?;
        }
        each(f, i)?;
    }
    Ok(())
}

fn at_name(f: &mut Formatter<'_>, name: &str) -> Result {
    f.write_char('@')?;
    f.write_str(name)
}

fn ports(f: &mut Formatter<'_>, first: u16, last: u16) -> Result {
    Display::fmt(&first, f)?;
    if last > first {
        f.write_char('-')?;
        Display::fmt(&last, f)?;
    }
    Ok(())
}

fn states(f: &mut Formatter<'_>, bits: u8) -> Result {
    let mut first = true;
    for (i, word) in STATES.iter().enumerate() {
        if bits & (1 << i) != 0 {
            if !first {
                f.write_char(',')?;
            }
            f.write_str(word)?;
            first = false;
        }
    }
    Ok(())
}

fn rate(f: &mut Formatter<'_>, rate: Option<Rate>) -> Result {
    let Some(Rate { packets, per }) = rate else { return f.write_str("any") };
    let unit = UNITS.iter().find(|(_, seconds)| *seconds == per).map_or("s", |(unit, _)| unit);
    Display::fmt(&packets, f)?;
    f.write_char('/')?;
    f.write_str(unit)
}

fn interfaces(f: &mut Formatter<'_>, key: &str, list: &InterfaceList) -> Result {
    match list {
        InterfaceList::Any => items(f, key, 0, &mut |_, _| Ok(())),
        InterfaceList::Auto | InterfaceList::Every => {
            f.write_str(key)?;
            f.write_str(if *list == InterfaceList::Auto { "auto" } else { "*" })
        }
        InterfaceList::Names { not, names } => items(f, key, names.len(), &mut |f, i| {
            if *not && i == 0 {
                f.write_char('!')?;
            }
            names.get(i).map_or(Ok(()), |name| f.write_str(name.as_str()))
        }),
    }
}

/// A value, in quotes if the language needs them. Not for a `"` inside: a value that ends with a backslash
/// can be written without them only.
fn text(f: &mut Formatter<'_>, value: &str) -> Result {
    if !value.is_empty() && !value.starts_with('"') && !value.bytes().any(|b| b.is_ascii_whitespace()) {
        return f.write_str(value);
    }
    f.write_char('"')?;
    for c in value.chars() {
        if c == '"' {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
