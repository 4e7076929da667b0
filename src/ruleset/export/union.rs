#![forbid(unsafe_code)]
//! All that rules of the kernel hold, as one rule of the language. Whether it means the same is found out by
//! compiling it.

use super::statement::{RuleGroup, addresses, interfaces, of_nft, plain, ports};
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::plan::listed::RulePart;
use crate::plan::run::GROUP_PREFIX;
use crate::plan::{
    Change, Direction, Field, Limit, LogTarget, NatKind, NatPick, PacketVerdict, Refusal, Reject, Rule, Test,
    Values, ct,
};
use crate::ruleset::RuleSet;
use crate::ruleset::ast::{Action, Address, Extra, LimitOption, Port, Protos, RuleStatement, not, proto};
use crate::ruleset::compile::{self, BURST};
use crate::ruleset::extra::{self, Form};
use crate::ruleset::words::KINDS;

/// The statement; `None` if the language has no words for something.
#[inline(never)]
pub(super) fn union(sets: &RuleSet, group: RuleGroup<'_>) -> Option<RuleStatement> {
    let last = &group.base.last()?.rule;
    let mut rule = RuleStatement::new(group.dir, Action::Count);
    if group.of.is_some() {
        rule.rare.group = group.of;
    }
    rule.action = action(group)?;
    rule.comment = last.comment.as_str().into();
    let (mut limit, mut ratelimit) = (None, None);
    let mut extras: Vec<Extra> = Vec::new();
    for part in group.own.iter().chain(group.base).map(|part| &part.rule) {
        let only_logs = part.log.is_some() && part.verdict == PacketVerdict::Next && part.changes.is_empty();
        let bound = if only_logs && rule.action != Action::Log { &mut ratelimit } else { &mut limit };
        *bound = bound.or(part.limit);
        if rule.rare.log.is_none() && part.log.is_some() {
            rule.rare.log = part.log.as_deref().map(Into::into);
            log_target(part.log_to, &mut extras);
        }
        if let PacketVerdict::Nat(nat) = part.verdict {
            rule.rare.to = (nat.to.is_some() || nat.ports.is_some()).then_some((nat.to, nat.ports));
            let pick = NatPick::ALL.iter().find(|(pick, _)| nat.pick == Some(*pick));
            extras.extend(pick.map(|(_, bit)| number(extra::at::PICK, (*bit).into(), (*bit).into())));
        }
        part.changes.iter().for_each(|change| changed(*change, &mut extras));
    }
    bounds(&mut rule, limit, ratelimit, &mut extras);
    (rule.proto, rule.not) = protos(group.base)?;
    if let Some(refusal) = refusal(&group, &rule) {
        extras.push(number(extra::at::WITH, refusal as u64, refusal as u64));
    }
    // Whether `any` leaves out something that the rules would match.
    let named = !group.apart && group.of.is_none();
    let is_out = matches!(group.dir, Direction::Out | Direction::Post | Direction::Local);
    rule.iif = interfaces(named && group.dir == Direction::In, group.base, |r| &r.iif)?;
    rule.oif = interfaces(named && is_out, group.base, |r| &r.oif)?;
    for part in group.base {
        rule.ct |= part.rule.ct;
    }
    lists(sets, group.base, &mut rule);
    for part in group.base {
        part.rule.tests.iter().try_for_each(|test| tested(&part.rule, test, &mut rule, &mut extras))?;
    }
    if rule.is_not(not::CT) {
        rule.ct ^= ct::ALL;
    }
    extras.sort_unstable_by_key(|extra| extra.row);
    if rule.extra_default_flags(&extras) {
        extras.retain(|extra| field(extra) != Some(Field::Flags));
    }
    if !extras.is_empty() {
        rule.rare.extras = extras;
    }
    Some(rule)
}

fn field(extra: &Extra) -> Option<Field> {
    extra::ROWS.get(usize::from(extra.row)).and_then(|row| row.field)
}

impl RuleStatement {
    /// Whether flags are asked for that `mss=` asks for by itself.
    fn extra_default_flags(&self, extras: &[Extra]) -> bool {
        let flags = extras.iter().find(|extra| field(extra) == Some(Field::Flags));
        let syn = flags.is_some_and(|extra| !extra.not && *extra.items == [(2, 6)]);
        syn && extras.iter().any(|extra| extra.row == extra::at::MSS)
    }
}

/// What the rules do with a packet.
fn action(group: RuleGroup<'_>) -> Option<Action> {
    let mut action = None;
    // Who is above a limit of its source leaves the rule's own chain by a return: that is none of the group.
    let own = group.own.iter().filter(|part| part.rule.verdict != PacketVerdict::Return);
    for part in own.chain(group.base) {
        let to = part.to.as_ref().map(|to| to.chain.as_str());
        let found = match (part.rule.verdict, to) {
            (PacketVerdict::Accept, _) => Action::Accept,
            (PacketVerdict::Drop, _) => Action::Drop,
            (PacketVerdict::Reject(_), _) => Action::Reject,
            (PacketVerdict::Nat(nat), _) => match nat.kind {
                NatKind::Masquerade => Action::Masquerade,
                NatKind::Snat => Action::Snat,
                NatKind::Dnat => Action::Dnat,
                NatKind::Redirect => Action::Redirect,
            },
            (PacketVerdict::Return, None) if group.of.is_some() => Action::Return,
            (PacketVerdict::Next, Some(chain)) => match chain.strip_prefix(GROUP_PREFIX) {
                Some(name) => Action::Group(Name::new(name)?),
                None => continue,
            },
            (PacketVerdict::Next, None) => {
                let added = part.rule.changes.iter().find_map(|change| match change {
                    Change::Add(name, seconds) => Some((stem(name)?, *seconds)),
                    _ => None,
                });
                match added {
                    Some((name, seconds)) => Action::Add(name, seconds),
                    None if part.rule.log.is_some() => Action::Log,
                    None => Action::Count,
                }
            }
            _ => continue,
        };
        // What decides counts more than what goes on, and what does something more than what counts.
        let weight = |action: Action| match action {
            Action::Count => 0,
            Action::Log => 1,
            _ => 2,
        };
        if action.is_none_or(|known| weight(known) < weight(found)) {
            // A rule that counts alone beside one that logs is one that logs apart.
            action = Some(found);
        }
    }
    action
}

/// How the rules answer, where that is not what the language has by itself.
fn refusal(group: &RuleGroup<'_>, rule: &RuleStatement) -> Option<Refusal> {
    let verdicts = || group.own.iter().chain(group.base).map(|part| part.rule.verdict);
    let refusal = verdicts().find_map(|verdict| match verdict {
        PacketVerdict::Reject(Reject::With(refusal)) => Some(refusal),
        _ => None,
    })?;
    let resets = verdicts().any(|verdict| verdict == PacketVerdict::Reject(Reject::Reset));
    let numbers = rule.proto.numbers();
    let has_tcp = numbers.is_empty() || numbers.contains(&proto::TCP) != rule.is_not(not::PROTO);
    let usual = refusal == Refusal::PortUnreachable && (resets || !has_tcp);
    (!usual).then_some(refusal)
}

/// The name of a dynamic set in the language.
fn stem(name: &Name) -> Option<Name> {
    Name::new(name.as_str().strip_suffix(".4").or(name.as_str().strip_suffix(".6"))?)
}

fn number(row: u8, first: u64, last: u64) -> Extra {
    Extra { row, not: false, items: Box::new([(first, last)]) }
}

fn log_target(to: LogTarget, extras: &mut Vec<Extra>) {
    match to {
        LogTarget::DEFAULT => {}
        LogTarget::Level(level) => extras.push(number(extra::at::LEVEL, level.into(), level.into())),
        LogTarget::Group(group) => extras.push(number(extra::at::GROUP, group.into(), group.into())),
    }
}

fn changed(change: Change, extras: &mut Vec<Extra>) {
    let extra = match change {
        Change::Mark(value, mask) => number(extra::at::SET_MARK, value.into(), mask.into()),
        Change::Mss(size) => number(extra::at::MSS, size.into(), size.into()),
        Change::Offload => number(extra::at::OFFLOAD, 0, 0),
        Change::Add(..) => return,
    };
    if !extras.contains(&extra) {
        extras.push(extra);
    }
}

fn bounds(rule: &mut RuleStatement, limit: Option<Limit>, logs: Option<Limit>, extras: &mut Vec<Extra>) {
    if let Some(logs) = logs {
        rule.rare.ratelimit = Some(logs.rate);
    }
    let Some(limit) = limit else { return };
    if limit.rate.per == 0 {
        let each = u64::from(limit.set.is_some());
        return extras.push(number(extra::at::CONNS, limit.rate.packets.into(), each));
    }
    rule.rare.limit = Some(LimitOption { rate: limit.rate, per_source: limit.set.is_some() });
    rule.rare.burst = if limit.burst == BURST { 0 } else { limit.burst };
}

/// The protocols of the rules, and the bit that says whether they are excepted.
fn protos(base: &[&RulePart]) -> Option<(Protos, u8)> {
    let mut all: Vec<u8> = Vec::new();
    let mut is_not = 0;
    for part in base {
        let test = part.rule.tests.iter().find(|test| test.field == Field::Proto);
        let mut found: Vec<u8> = part.rule.proto.into_iter().collect();
        if let Some(Test { values: Values::Ranges(ranges), not, mask: 0, .. }) = test {
            for (first, last) in ranges {
                found.extend((*first..=*last).take(Protos::MAX + 1).filter_map(|n| u8::try_from(n).ok()));
            }
            if *not {
                is_not = not::PROTO;
                all.clear();
            }
        }
        if found.is_empty() {
            return Some((Protos::ALL, 0));
        }
        found.retain(|number| !all.contains(number));
        all.extend(found);
    }
    // Refusing everything but some begins with TCP alone.
    if is_not > 0 && all.first() == Some(&proto::TCP) {
        let excepted = base.iter().rev().find_map(|part| part.rule.tests.iter().find(|t| t.not));
        if excepted.is_some_and(|test| test.passes(proto::TCP.into()) == Some(true)) {
            all.remove(0);
        }
    }
    Some((Protos::new(&all)?, is_not))
}

/// The lists of addresses and ports that the rules ask for.
fn lists(sets: &RuleSet, base: &[&RulePart], rule: &mut RuleStatement) {
    // A part that asks for the kind of an address asks for no other.
    let without = |field: Field| -> Vec<&RulePart> {
        let side = if field == Field::SrcKind { Field::Src } else { Field::Dst };
        let kind = |part: &&&RulePart| {
            !asks(&part.rule, side) && part.rule.tests.iter().any(|test| test.field == field && !test.not)
        };
        base.iter().filter(|part| !kind(part)).copied().collect()
    };
    rule.src = addresses(sets, &without(Field::SrcKind), |r| &r.src).into();
    rule.dst = addresses(sets, &without(Field::DstKind), |r| &r.dst).into();
    let sports = ports(base, |r| &r.sport);
    if !sports.is_empty() {
        rule.rare.sport = sports;
    }
    rule.dport = ports(base, |r| &r.dport).into();
    for part in base {
        for test in &part.rule.tests {
            let (list, bit) = match test.field {
                Field::Src => (&mut rule.src, not::SRC),
                Field::Dst => (&mut rule.dst, not::DST),
                _ => continue,
            };
            let mut all = if rule.not & bit > 0 { list.to_vec() } else { Vec::new() };
            match (&test.values, part.rule.family) {
                (Values::Set(name), _) => all.push(Address::Set(plain(sets, name))),
                (Values::Ranges(ranges), Some(family)) => {
                    all.extend(
                        ranges.iter().filter_map(|n| Range::of_numbers(family, *n)).map(Address::Range),
                    );
                }
                _ => {}
            }
            let mut known: Vec<Address> = Vec::with_capacity(all.len());
            for one in all {
                if !known.contains(&one) {
                    known.push(one);
                }
            }
            *list = known.into();
            rule.not |= bit;
        }
    }
}

/// Adds what a condition asks for; `None` if that cannot be said.
fn tested(part: &Rule, test: &Test, rule: &mut RuleStatement, extras: &mut Vec<Extra>) -> Option<()> {
    let of_ports = |rule: &mut RuleStatement, bit: u8, all: Vec<Port>| {
        let list = if bit == not::SPORT { &*rule.rare.sport } else { &*rule.dport };
        let mut known = if rule.not & bit > 0 { list.to_vec() } else { Vec::new() };
        for one in all {
            if !known.contains(&one) {
                known.push(one);
            }
        }
        match bit {
            not::SPORT => rule.rare.sport = known,
            _ => rule.dport = known.into(),
        }
        rule.not |= bit;
    };
    match (test.field, &test.values) {
        (Field::Proto | Field::Src | Field::Dst, _) => {}
        (Field::Sport | Field::Dport, values) => {
            let bit = if test.field == Field::Sport { not::SPORT } else { not::DPORT };
            let all = match values {
                Values::Set(name) => vec![Port::Set(of_nft(name, compile::PORTS).unwrap_or(*name))],
                Values::Ranges(ranges) => {
                    let port = |n: &u128| u16::try_from(*n).ok();
                    ranges
                        .iter()
                        .map(|(a, b)| Some(Port::Range(port(a)?, port(b)?)))
                        .collect::<Option<_>>()?
                }
            };
            of_ports(rule, bit, all);
        }
        (Field::SrcKind | Field::DstKind, Values::Ranges(ranges)) => {
            let is_source = test.field == Field::SrcKind;
            let side = if is_source { Field::Src } else { Field::Dst };
            let (list, bit) = if is_source { (&mut rule.src, not::SRC) } else { (&mut rule.dst, not::DST) };
            // Kinds and addresses are excepted together; only one family may have such addresses.
            let excepts = rule.not & bit > 0 && list.iter().any(|one| !matches!(one, Address::Kind(_)));
            let apart = if excepts { !test.not } else { asks(part, side) };
            if apart {
                return numbers(part, test.field, test, ranges, extras);
            }
            let mut all = list.to_vec();
            for number in ranges.iter().flat_map(|(first, last)| *first..=*last) {
                let place = KINDS.iter().position(|(_, n)| u128::from(*n) == number)?;
                let kind = Address::Kind(u8::try_from(place).ok()?);
                if !all.contains(&kind) {
                    all.push(kind);
                }
            }
            *list = all.into();
            rule.not |= if test.not { bit } else { 0 };
        }
        (Field::Status, Values::Ranges(ranges)) => {
            let bits = [(ct::DNAT, 0x20), (ct::SNAT, 0x10)];
            let known = bits.iter().filter(|(_, bit)| test.mask & bit != 0);
            let (all, mask) = known.fold((0, 0), |(all, mask), (ours, bit)| (all | ours, mask | bit));
            (mask == test.mask && *ranges == [(0, 0)]).then_some(())?;
            rule.ct |= all;
            rule.not |= if test.not { 0 } else { not::CT };
        }
        (field, Values::Ranges(ranges)) => return numbers(part, field, test, ranges, extras),
        _ => return None,
    }
    Some(())
}

/// Whether a rule asks for addresses of one side.
fn asks(part: &Rule, side: Field) -> bool {
    let list = if side == Field::Src { &part.src } else { &part.dst };
    list.is_some() || part.tests.iter().any(|test| test.field == side)
}

/// Adds the numbers that a key of the table asks for.
fn numbers(
    part: &Rule,
    field: Field,
    test: &Test,
    ranges: &[(u128, u128)],
    extras: &mut Vec<Extra>,
) -> Option<()> {
    let (row, of) = (0u8..).zip(&extra::ROWS).find(|(_, row)| row.field == Some(field))?;
    let n = |n: u128| u64::try_from(n).ok();
    let mut items = Vec::new();
    for &(first, last) in ranges {
        let (first, last) = (n(first)?, n(last)?);
        match of.form {
            Form::Bits | Form::Flags => {
                let mask = if test.mask == 0 { of.max } else { n(test.mask)? };
                items.push((first, mask));
            }
            Form::Time => items.push((first, last + 1)),
            _ if field == Field::Icmp => {
                let family = if part.proto == Some(proto::ICMP6) { Family::V6 } else { Family::V4 };
                for number in first..=last {
                    let item = extra::icmp_item(u8::try_from(number).ok()?, family);
                    items.push((item, item));
                }
            }
            // There are words for each of them, and none for what is between.
            _ if matches!(field, Field::SrcKind | Field::DstKind | Field::PacketType) => {
                items.extend((first..=last).take(16).map(|number| (number, number)));
            }
            _ => items.push((first, last)),
        }
    }
    let plain = matches!(of.form, Form::Bits | Form::Flags | Form::One | Form::Header);
    if plain && items.len() != 1 || !plain && test.mask > 0 || of.form == Form::One && test.not {
        return None;
    }
    // From midnight on, and until midnight: one span of time.
    if let (Form::Time, [(0, to), .., (from, 86_400)]) = (of.form, items.as_slice()) {
        let span = (*from, *to);
        items.remove(0);
        items.pop();
        items.push(span);
    }
    match extras.iter_mut().find(|extra| extra.row == row) {
        Some(known) => {
            let mut all = known.items.to_vec();
            items.retain(|item| !all.contains(item));
            all.extend(items);
            (known.not == test.not).then_some(())?;
            known.items = all.into();
        }
        None => extras.push(Extra { row, not: test.not, items: items.into() }),
    }
    Some(())
}

/// The names of the dynamic sets that rules fill.
pub(super) fn filled(part: &RulePart) -> impl Iterator<Item = Name> {
    part.rule.changes.iter().filter_map(|change| match change {
        Change::Add(name, _) => stem(name),
        _ => None,
    })
}
