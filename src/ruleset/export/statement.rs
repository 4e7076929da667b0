#![forbid(unsafe_code)]
//! Rules of the kernel back to the one statement that is compiled to exactly them. A statement is put
//! together from what the rules hold, and it counts only if it compiles to the same rules: nothing is said
//! that is not so.

use super::union::union;
use crate::base::name::{IfName, Name};
use crate::base::range::{Family, Range, merge};
use crate::plan::listed::{ChainBase, ListedRule, ListedTable, RulePart};
use crate::plan::run::GROUP_PREFIX;
use crate::plan::{self, Addresses, Direction, PacketVerdict, Policy, Ports, Reject, Sink};
use crate::ruleset::ast::{
    Address, InterfaceList, Port, RuleStatement, SetElements, SetStatement, Statement, proto,
};
use crate::ruleset::compile;
use crate::ruleset::words::is_of_nft;
use crate::ruleset::{LINE_MAX, RuleSet, parse};

/// The rules that one statement is compiled to.
#[derive(Clone, Copy)]
pub(super) struct RuleGroup<'a> {
    pub dir: Direction,
    /// Those in the base chain.
    pub base: &'a [&'a RulePart],
    /// Those in a chain of their own.
    pub own: &'a [&'a RulePart],
    /// The number of the statement that they were made from; 0 = of none.
    pub origin: u32,
    /// No packet of loopback comes to rules that do not name it.
    pub apart: bool,
    /// The group that they are in.
    pub of: Option<Name>,
}

/// The text of a statement, if it reads as what it is.
pub(super) fn text(statement: &Statement) -> Option<String> {
    let text = statement.to_string();
    let mut problems = Vec::new();
    let (read, comment) = parse::line(&text, 1, &mut problems);
    let good = problems.is_empty() && comment.is_empty() && read.as_ref() == Some(statement);
    let fits = text.len() <= LINE_MAX || matches!(statement, Statement::Set(_));
    (good && fits).then_some(text)
}

/// The statement that is compiled to these rules.
pub(super) fn rule(sets: &RuleSet, group: RuleGroup<'_>) -> Option<String> {
    let mut rule = union(sets, group)?;
    let first = group.base.first()?.rule.family;
    // What holds for one family may be clear without saying so.
    for family in [None, first].into_iter().take(if first.is_some() { 2 } else { 1 }) {
        rule.family = family;
        if compiles_to(sets, &rule, group)
            && let Some(text) = text(&Statement::Rule(Box::new(rule.clone())))
        {
            return Some(text);
        }
    }
    if rule.src.is_empty() && rule.dst.is_empty() {
        // One rule a family, though no address tells them apart: somebody wrote all addresses of both.
        rule.family = None;
        rule.src = Family::ALL.into_iter().filter_map(whole_family).map(Address::Range).collect();
        if compiles_to(sets, &rule, group) {
            return text(&Statement::Rule(Box::new(rule)));
        }
    }
    None
}

#[inline(never)]
fn compiles_to(sets: &RuleSet, rule: &RuleStatement, group: RuleGroup<'_>) -> bool {
    let mut table = ListedTable::default();
    table.base(group.dir, Policy::Accept);
    let of = group.of.and_then(compile::group_chain);
    of.into_iter().for_each(|chain| table.chain(chain));
    compile::rule(sets, &[], rule, (group.origin, group.apart), &mut table);
    super::normal(&mut table);
    let (mut base, mut own) = (Vec::new(), Vec::new());
    for chain in &table.chains {
        let is_own = chain.base == ChainBase::None && !chain.name.starts_with(GROUP_PREFIX);
        let to = if is_own { &mut own } else { &mut base };
        to.extend(super::parts(&chain.rules));
    }
    base == group.base && own == group.own
}

/// Rules of others that match loopback without naming it, which the language cannot say: one for loopback,
/// and one for the rest. What bounds packets cannot be in two rules.
pub(super) fn with_loopback(dir: Direction, apart: bool, parts: Vec<RulePart>) -> Vec<Vec<RulePart>> {
    let lo = IfName::new("lo");
    let list = |part: &RulePart| match dir {
        Direction::In => part.rule.iif.clone(),
        Direction::Out | Direction::Post | Direction::Local => part.rule.oif.clone(),
        Direction::Fwd | Direction::Pre | Direction::Bridge => None,
    };
    let silent = |list: &plan::Interfaces| {
        let named = list.names.iter().any(|name| name.matches("lo"));
        if list.not {
            !named
        } else {
            named && !list.except_lo && list.names.iter().all(|name| Some(*name) != lo)
        }
    };
    let alike = parts.iter().all(|part| list(part).as_ref().is_some_and(silent) && part.rule.limit.is_none());
    let (Some(lo), false, true) = (lo, apart || parts.is_empty(), alike) else { return vec![parts] };
    let with = |change: &dyn Fn(&mut plan::Interfaces)| -> Vec<RulePart> {
        let mut all = parts.clone();
        for part in &mut all {
            let list = if dir == Direction::In { &mut part.rule.iif } else { &mut part.rule.oif };
            list.iter_mut().for_each(change);
        }
        all
    };
    let of_lo = with(&|list| (list.not, list.names) = (false, vec![lo]));
    let others = with(&|list| if list.not { list.names.push(lo) } else { list.except_lo = true });
    let mut both = vec![of_lo, others];
    both.iter_mut().flatten().for_each(|part| {
        for list in [&mut part.rule.iif, &mut part.rule.oif].into_iter().flatten() {
            list.names.sort_unstable();
        }
    });
    both
}

pub(super) fn interfaces(
    not_lo: bool,
    base: &[&RulePart],
    list: fn(&plan::Rule) -> &Option<plan::Interfaces>,
) -> Option<InterfaceList> {
    let mut found: Vec<IfName> = Vec::new();
    let mut except = false;
    for part in base {
        let Some(list) = list(&part.rule) else {
            let every = if not_lo { InterfaceList::Every } else { InterfaceList::Any };
            return found.is_empty().then_some(every);
        };
        except |= list.not;
        for name in &list.names {
            if !found.contains(name) {
                found.push(*name);
            }
        }
    }
    let only_lo = matches!(found.as_slice(), [name] if name.as_str() == "lo");
    if except && not_lo && only_lo {
        return Some(InterfaceList::Any);
    }
    Some(InterfaceList::Names { not: except, names: found.into() })
}

pub(super) fn addresses(
    sets: &RuleSet,
    base: &[&RulePart],
    list: fn(&plan::Rule) -> &Option<Addresses>,
) -> Vec<Address> {
    let (mut ranges, mut named): (Vec<Range>, Vec<Name>) = (Vec::new(), Vec::new());
    let (mut whole, mut listed): (Vec<Family>, _) = (Vec::new(), false);
    // The order of the sets is that of the rules in each family; behind the set that was met last comes a new
    // one.
    let (mut at, mut of) = (0, None);
    for part in base {
        let (family, list) = (part.rule.family, list(&part.rule));
        listed |= list.is_some();
        if of != family {
            (at, of) = (0, family);
        }
        match list {
            None => whole.extend(family),
            Some(Addresses::Ranges(more)) => {
                for range in more {
                    if !ranges.contains(range) {
                        ranges.push(*range);
                    }
                }
            }
            Some(Addresses::Set(name)) => {
                let name = plain(sets, name);
                let known = named.iter().position(|other| *other == name);
                if known.is_none() {
                    named.insert(at, name);
                }
                at = known.unwrap_or(at) + 1;
            }
        }
    }
    // No list in one family and one in the other: all addresses of the one.
    if listed {
        ranges.extend(whole.into_iter().filter_map(whole_family));
    }
    merge(&mut ranges);
    let mut all = Vec::with_capacity(ranges.len() + named.len());
    all.extend(ranges.into_iter().map(Address::Range));
    all.extend(named.into_iter().map(Address::Set));
    all
}

fn whole_family(family: Family) -> Option<Range> {
    let net = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
    net.parse::<ipnet::IpNet>().ok().map(Range::from)
}

/// The name of a set in the language, where one of both families is two in the kernel.
pub(super) fn plain(sets: &RuleSet, name: &Name) -> Name {
    let stem = name.as_str().strip_suffix(".4").or(name.as_str().strip_suffix(".6"));
    stem.and_then(Name::new).filter(|stem| sets.set(stem).is_some()).unwrap_or(*name)
}

/// The name of a set that is a word of nft, and has something behind it in the kernel for that.
pub(super) fn of_nft(name: &Name, suffix: &str) -> Option<Name> {
    Name::new(name.as_str().strip_suffix(suffix)?).filter(|stem| is_of_nft(stem.as_str()))
}

pub(super) fn ports(base: &[&RulePart], list: fn(&plan::Rule) -> &Option<Ports>) -> Vec<Port> {
    let mut found: Vec<Port> = Vec::new();
    let mut add = |item: Port| {
        if !found.contains(&item) {
            found.push(item);
        }
    };
    for list in base.iter().filter_map(|part| list(&part.rule).as_ref()) {
        match list {
            Ports::Set(name) => add(Port::Set(of_nft(name, compile::PORTS).unwrap_or(*name))),
            Ports::Ranges(ranges) => ranges.iter().for_each(|&(first, last)| add(Port::Range(first, last))),
        }
    }
    found
}

/// The named sets of a table as statements; what cannot be one is given to `unsaid` by its name.
pub(super) fn sets(sets: &[plan::Set], ours: bool, unsaid: &mut dyn FnMut(&Name)) -> Vec<SetStatement> {
    let sibling = |name: &Name, from: &str, to: &str| {
        let stem = name.as_str().strip_suffix(from)?;
        let other = Name::new(&[stem, to].concat())?;
        let found = sets.iter().find(|s| s.name == other)?;
        Name::new(stem).filter(|_| ours).zip(Some(found))
    };
    let mut all = Vec::new();
    for set in sets {
        let made = match &set.elements {
            plan::Elements::Ports(list) => {
                let name = of_nft(&set.name, compile::PORTS).filter(|_| ours).unwrap_or(set.name);
                SetStatement {
                    name,
                    family: None,
                    elements: SetElements::Ports(list.clone()),
                    file: Box::default(),
                }
            }
            plan::Elements::Addresses(family, _) | plan::Elements::Many(family, _) => {
                let both = match family {
                    Family::V4 => sibling(&set.name, ".4", ".6"),
                    // It stands beside the other one.
                    Family::V6 if sibling(&set.name, ".6", ".4").is_some() => continue,
                    Family::V6 => None,
                };
                let suffix = if *family == Family::V4 { ".4" } else { ".6" };
                let alone = || of_nft(&set.name, suffix).filter(|_| ours).unwrap_or(set.name);
                let name = both.map_or_else(alone, |(stem, _)| stem);
                let family = both.is_none().then_some(*family);
                let (list, file) = members(set, both.map(|(_, other)| other));
                SetStatement { name, family, elements: SetElements::Addresses(list), file: file.into() }
            }
        };
        // What stands for many elements is for comparisons alone.
        let is_said = !made.file.is_empty() || text(&Statement::Set(made.clone())).is_some();
        if is_said { all.push(made) } else { unsaid(&made.name) }
    }
    all
}

/// The addresses of a set and of the one beside it; or the words for them, if either has too many.
fn members(set: &plan::Set, other: Option<&plan::Set>) -> (Vec<Range>, String) {
    let (mut list, mut words) = (Vec::new(), String::new());
    for set in [Some(set), other].into_iter().flatten() {
        match &set.elements {
            plan::Elements::Addresses(_, ranges) => list.extend(ranges),
            plan::Elements::Many(_, digest) => {
                words.extend([if words.is_empty() { "" } else { "; " }, digest.as_str()])
            }
            plan::Elements::Ports(_) => {}
        }
    }
    if !words.is_empty() {
        std::mem::take(&mut list).iter().for_each(|range: &Range| words += &format!("; {range}"));
    }
    (list, words)
}

/// Whether these are the rules that `policy action=reject` ends a chain with.
pub(super) fn policy_rejects(parts: &[&RulePart]) -> bool {
    let [first, last] = parts else { return false };
    let mut reset = plan::Rule::new(PacketVerdict::Reject(Reject::Reset));
    reset.proto = Some(proto::TCP);
    first.rule == reset && last.rule == plan::Rule::new(PacketVerdict::Reject(Reject::USUAL))
}

/// How many rules at the head of a chain of ours are for packets of loopback only and let none of them pass
/// on; 0 if others see them, too. And how many of these, the last ones, are no statement but what the policy
/// is for loopback.
pub(super) fn loopback(
    dir: Direction,
    rules: &[ListedRule],
    policy: crate::ruleset::ast::Action,
) -> (usize, usize) {
    let all = |part: &RulePart, not: bool| {
        let list = if dir == Direction::In { &part.rule.iif } else { &part.rule.oif };
        let names = list.as_ref().filter(|list| list.not == not).map_or(&[][..], |list| &list.names);
        matches!(names, [name] if name.as_str() == "lo")
    };
    let of_lo = |rule: &&ListedRule| matches!(rule.parts.as_deref(), Ok([part]) if all(part, false));
    let mut len = rules.iter().take_while(of_lo).count();
    // A statement is not cut in two.
    while let (Some(a), Some(b)) = (len.checked_sub(1).and_then(|at| rules.get(at)), rules.get(len))
        && super::origin(a) > 0
        && super::origin(a) == super::origin(b)
    {
        len -= 1;
    }
    let (head, rest) = rules.split_at_checked(len).unwrap_or_default();
    let head = super::parts(head);
    let plain = |part: &&&RulePart| {
        let mut rule = part.rule.clone();
        (rule.iif, rule.oif) = (None, None);
        rule
    };
    let ends = |part: &&RulePart| {
        let decides = matches!(
            part.rule.verdict,
            PacketVerdict::Accept | PacketVerdict::Drop | PacketVerdict::Reject(_)
        );
        let rule = plain(&part);
        let all = plan::Rule { verdict: rule.verdict, ..plan::Rule::new(PacketVerdict::Next) };
        decides && part.to.is_none() && rule.limit.is_none() && plan::meet::same(&rule, &all)
    };
    if !matches!(dir, Direction::In | Direction::Out)
        || !head.iter().any(ends)
        || super::parts(rest).iter().any(|part| all(part, true))
    {
        return (0, 0);
    }
    let mut end = Vec::new();
    for (verdict, is_tcp) in compile::ends(policy) {
        let proto = is_tcp.then_some(proto::TCP);
        end.push(plan::Rule { proto, ..plan::Rule::new(verdict) });
    }
    let from = len.saturating_sub(end.len());
    let last = head.get(from..).unwrap_or_default();
    let is_end = last.len() == end.len() && last.iter().zip(&end).all(|(part, rule)| plain(&part) == *rule);
    (len, if is_end { end.len() } else { 0 })
}
