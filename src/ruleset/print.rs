#![forbid(unsafe_code)]
//! Statements in canonical form: every key, in the order of `words`, so that equal statements are equal
//! texts.

use super::ast::{
    Action, Address, InterfaceList, NatTarget, Port, RuleStatement, SetElements, SetStatement, Statement, not,
};
use super::lex::{StatementLine, cut};
use super::words::{
    ACTIONS, DIRECTIONS, KINDS, NAT_DIRECTIONS, NO_ELEMENTS, PROTOCOLS, STATES, UNITS, family_word,
};
use crate::base::range::Family;
use crate::plan::{Direction, Rate};
use std::fmt::{Display, Formatter, Result, Write};

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Statement::Policy(dir, action) => {
                f.write_str("policy dir=")?;
                f.write_str(direction(*dir))?;
                f.write_str(" action=")?;
                self::action(f, *action)
            }
            Statement::Let(name, value) => {
                f.write_str("let ")?;
                f.write_str(name)?;
                f.write_char('=')?;
                text(f, value, Quotes::Needed)
            }
            Statement::Group(name) => {
                f.write_str("group name=")?;
                f.write_str(name.as_str())
            }
            Statement::Rule(r) => rule(f, r),
            Statement::Set(s) => set(f, s),
            Statement::Include(file) => {
                f.write_str("include file=")?;
                text(f, file, Quotes::Needed)
            }
        }
    }
}

/// Whether the existing product can read a printed statement.
pub(super) fn is_v1(text: &str) -> bool {
    let mut line = StatementLine::default();
    let is_cut = cut(text, &mut line).is_ok();
    let addresses = |raw: &str| raw.bytes().all(|b| b.is_ascii_hexdigit() || b".:/,".contains(&b));
    is_cut
        && matches!(line.word, "policy" | "rule" | "set")
        && line.pairs.iter().all(|pair| match (pair.key, pair.raw) {
            ("dir", dir) => dir != "bridge" && DIRECTIONS.contains(&dir),
            ("action", action) => matches!(action, "accept" | "drop" | "reject"),
            ("proto", proto) => matches!(proto, "all" | "tcp" | "udp" | "icmp" | "icmp6"),
            ("src" | "dst", raw) => raw == "any" || raw.starts_with('@') || addresses(raw),
            ("sport" | "dport" | "ct", raw) => !raw.starts_with('!'),
            ("iif" | "oif", raw) => raw != "*" && !raw.trim_start_matches('!').starts_with('@'),
            ("type", kind) => kind != "iface",
            (key, _) => V1_KEYS.contains(&key),
        })
}

/// Keys of it whose values are as here.
const V1_KEYS: [&str; 6] = ["name", "elements", "family", "log", "ratelimit", "comment"];

/// The word for a direction.
pub(super) fn direction(dir: Direction) -> &'static str {
    let word = DIRECTIONS.iter().zip(Direction::DECIDING).find(|(_, d)| *d == dir);
    let nat = || NAT_DIRECTIONS.iter().zip(Direction::NAT).find(|(_, d)| *d == dir);
    word.or_else(nat).map_or("", |(word, _)| word)
}

fn action(f: &mut Formatter<'_>, action: Action) -> Result {
    let word = Action::ALL.iter().zip(ACTIONS).find(|(known, _)| **known == action);
    match (action, word) {
        (Action::Group(name), _) => {
            f.write_str("group:")?;
            f.write_str(name.as_str())
        }
        (Action::Add(name, seconds), _) => {
            f.write_str("add:@")?;
            f.write_str(name.as_str())?;
            let unit = UNITS.iter().rev().find(|(_, unit)| seconds.is_multiple_of(*unit));
            let (unit, of) = unit.copied().unwrap_or(("s", 1));
            f.write_char('/')?;
            Display::fmt(&(seconds / of), f)?;
            f.write_str(unit)
        }
        (_, word) => f.write_str(word.map_or("", |(_, word)| word)),
    }
}

fn protos(f: &mut Formatter<'_>, r: &RuleStatement) -> Result {
    if r.proto.numbers().is_empty() {
        return f.write_str("all");
    }
    for (at, number) in r.proto.numbers().iter().enumerate() {
        f.write_str(if at > 0 { "," } else { "" })?;
        match PROTOCOLS.iter().find(|(_, n)| n == number) {
            Some((word, _)) => f.write_str(word)?,
            None => Display::fmt(number, f)?,
        }
    }
    Ok(())
}

fn target(f: &mut Formatter<'_>, (addr, port): &NatTarget) -> Result {
    f.write_str(" to=")?;
    let brackets = port.is_some() && addr.is_some_and(|addr| addr.first().is_ipv6());
    f.write_str(if brackets { "[" } else { "" })?;
    addr.map_or(Ok(()), |addr| Display::fmt(&addr, f))?;
    f.write_str(if brackets { "]" } else { "" })?;
    port.map_or(Ok(()), |(first, last)| {
        f.write_char(':')?;
        ports(f, first, last)
    })
}

fn action_of(f: &mut Formatter<'_>, r: &RuleStatement) -> Result {
    f.write_str(" action=")?;
    action(f, r.action)
}

fn family_of(f: &mut Formatter<'_>, r: &RuleStatement) -> Result {
    f.write_str(" family=")?;
    f.write_str(family_word(r.family))
}

fn proto_of(f: &mut Formatter<'_>, r: &RuleStatement) -> Result {
    f.write_str(if r.is_not(not::PROTO) { " proto=!" } else { " proto=" })?;
    protos(f, r)
}

/// What is logged, and how much of it and of the rule at all.
fn rates_of(f: &mut Formatter<'_>, r: &RuleStatement) -> Result {
    f.write_str(" log=")?;
    match &r.rare.log {
        None => f.write_str("none")?,
        Some(prefix) => text(f, &["prefix:", prefix].concat(), Quotes::Needed)?,
    }
    f.write_str(" ratelimit=")?;
    rate(f, r.rare.ratelimit)?;
    // The existing product does not know this key.
    if r.rare.limit.is_some() || !f.alternate() {
        f.write_str(" limit=")?;
        rate(f, r.rare.limit.map(|l| l.rate))?;
    }
    if r.rare.limit.is_some_and(|l| l.per_source) {
        f.write_str("/src")?;
    }
    if r.rare.burst > 0 {
        f.write_str(" burst=")?;
        Display::fmt(&r.rare.burst, f)?;
    }
    Ok(())
}

fn rule(f: &mut Formatter<'_>, r: &RuleStatement) -> Result {
    f.write_str(if r.dir.is_nat() { "nat " } else { "rule " })?;
    match r.rare.group {
        Some(name) => {
            f.write_str("group=")?;
            f.write_str(name.as_str())?;
        }
        None => {
            f.write_str("dir=")?;
            f.write_str(direction(r.dir))?;
        }
    }
    // The existing product has an order of its own.
    let keys: [fn(&mut Formatter<'_>, &RuleStatement) -> Result; 4] = match f.alternate() {
        true => [family_of, action_of, rates_of, proto_of],
        false => [action_of, proto_of, family_of, rates_of],
    };
    keys.iter().try_for_each(|key| key(f, r))?;
    interfaces(f, " iif=", &r.iif)?;
    interfaces(f, " oif=", &r.oif)?;
    let with_not = |key: &'static str, bit: u8, with: &'static str| if r.is_not(bit) { with } else { key };
    for (key, list) in
        [(with_not(" src=", not::SRC, " src=!"), &r.src), (with_not(" dst=", not::DST, " dst=!"), &r.dst)]
    {
        items(f, key, list.len(), &mut |f, i| match list.get(i) {
            Some(Address::Kind(kind)) => {
                f.write_str(KINDS.get(usize::from(*kind)).map_or("", |(word, _)| word))
            }
            Some(Address::Set(name)) => at_name(f, name.as_str()),
            Some(Address::Range(range)) => Display::fmt(range, f),
            None => Ok(()),
        })?;
    }
    for (key, list) in [
        (with_not(" sport=", not::SPORT, " sport=!"), &*r.rare.sport),
        (with_not(" dport=", not::DPORT, " dport=!"), &*r.dport),
    ] {
        items(f, key, list.len(), &mut |f, i| match list.get(i) {
            Some(Port::Set(name)) => at_name(f, name.as_str()),
            Some(Port::Range(first, last)) => ports(f, *first, *last),
            None => Ok(()),
        })?;
    }
    let ct = with_not(" ct=", not::CT, " ct=!");
    items(f, ct, usize::from(r.ct != 0), &mut |f, _| states(f, r.ct))?;
    r.rare.to.as_ref().map_or(Ok(()), |to| target(f, to))?;
    for extra in &r.rare.extras {
        f.write_char(' ')?;
        Display::fmt(extra, f)?;
    }
    f.write_str(" comment=")?;
    // There a comment stands in quotes.
    text(f, &r.comment, if f.alternate() { Quotes::Always } else { Quotes::Needed })
}

fn set(f: &mut Formatter<'_>, s: &SetStatement) -> Result {
    set_head(f, s)?;
    if !s.file.is_empty() {
        f.write_str(if s.ipset().is_some() { " source=" } else { " file=" })?;
        return text(f, &s.file, Quotes::Needed);
    }
    elements(f, &s.elements)
}

/// Writes a set with its elements, wherever they stand.
pub(super) fn set_itself(out: &mut String, s: &SetStatement) {
    let _ = write!(out, "{}", Whole(s));
}

struct Whole<'a>(&'a SetStatement);

impl Display for Whole<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        set_head(f, self.0)?;
        elements(f, &self.0.elements)
    }
}

fn set_head(f: &mut Formatter<'_>, s: &SetStatement) -> Result {
    f.write_str("set name=")?;
    f.write_str(s.name.as_str())?;
    f.write_str(" family=")?;
    f.write_str(family_word(s.family))?;
    f.write_str(match &s.elements {
        SetElements::Addresses(_) | SetElements::Listed(_) | SetElements::Dynamic => " type=addr",
        SetElements::Ports(_) => " type=port",
        SetElements::Interfaces(_) => " type=iface",
    })
}

const ELEMENTS: &str = " elements=";

fn elements(f: &mut Formatter<'_>, elements: &SetElements) -> Result {
    match elements {
        SetElements::Dynamic => Ok(()),
        SetElements::Addresses(list) => {
            members(f, list.len(), &mut |f, i| list.get(i).map_or(Ok(()), |r| Display::fmt(r, f)))
        }
        SetElements::Listed(list) => {
            let (mut written, mut sign) = (f.write_str(ELEMENTS), "");
            for family in Family::ALL {
                list.each(family, &mut |range| {
                    written = written.and_then(|()| write!(f, "{sign}{range}"));
                    sign = ",";
                });
            }
            if sign.is_empty() { written.and_then(|()| f.write_str(NO_ELEMENTS)) } else { written }
        }
        SetElements::Ports(list) => {
            members(f, list.len(), &mut |f, i| list.get(i).map_or(Ok(()), |&(a, b)| ports(f, a, b)))
        }
        SetElements::Interfaces(list) => {
            members(f, list.len(), &mut |f, i| list.get(i).map_or(Ok(()), |n| f.write_str(n.as_str())))
        }
    }
}

/// The elements of a set as they stand in memory.
fn members(
    f: &mut Formatter<'_>,
    len: usize,
    each: &mut dyn FnMut(&mut Formatter<'_>, usize) -> Result,
) -> Result {
    if len == 0 {
        return f.write_str(ELEMENTS).and_then(|()| f.write_str(NO_ELEMENTS));
    }
    items(f, ELEMENTS, len, each)
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
        InterfaceList::Set(not, name) => {
            f.write_str(key)?;
            f.write_str(if *not { "!" } else { "" })?;
            at_name(f, name.as_str())
        }
        InterfaceList::Names { not, names } => items(f, key, names.len(), &mut |f, i| {
            // There each has its own mark.
            if *not && (i == 0 || f.alternate()) {
                f.write_char('!')?;
            }
            names.get(i).map_or(Ok(()), |name| f.write_str(name.as_str()))
        }),
    }
}

/// When a value stands in quotes.
#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    /// If the language needs them.
    Needed,
    /// If it can.
    Always,
}

/// A value. It needs no quotes for a `"` inside: a value that ends with a backslash can be written without
/// them only.
fn text(f: &mut Formatter<'_>, value: &str, quotes: Quotes) -> Result {
    let plain =
        !value.is_empty() && !value.starts_with('"') && !value.bytes().any(|b| b.is_ascii_whitespace());
    if plain && (quotes == Quotes::Needed || value.ends_with('\\')) {
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
