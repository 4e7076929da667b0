#![forbid(unsafe_code)]
//! The rules of the kernel that match what a rule of the language matches: every alternative that one rule of
//! the kernel cannot hold is one more.

use super::super::ast::{Action, Address, Extra, InterfaceList, Port, SetElements, not, proto};
use super::super::extra::{self, Form};
use super::super::loopback::{self, LO};
use super::super::words::KINDS;
use super::{Compiler, family_set, joined, port_set};
use crate::base::name::IfName;
use crate::base::range::{Family, merge};
use crate::plan::{
    self, Addresses, Change, Direction, Field, PacketVerdict, Ports, Rule as Part, Test, Values, ct,
};
use smallvec::SmallVec;

/// What one rule of the kernel can ask for beside others.
#[derive(Clone)]
enum Alternative {
    /// Everything.
    Any,
    Iif(plan::Interfaces),
    Oif(plan::Interfaces),
    Src(Addresses),
    Dst(Addresses),
    Sport(Ports),
    Dport(Ports),
    States(u8),
    StatesAnd(u8, Test),
    Tests(Vec<Test>),
}

/// Mostly there is one.
type Alternatives = SmallVec<[Alternative; 1]>;

fn one(alternative: Alternative) -> Alternatives {
    Alternatives::from_buf([alternative])
}

impl Compiler<'_> {
    /// The rules without bounds, log and verdict.
    #[inline(never)]
    pub(super) fn matches(&self) -> Vec<Part> {
        let rule = self.rule;
        let comment = rule.comment.to_string();
        let mut all = Vec::new();
        for family in self.families() {
            let mut base = Part::new(PacketVerdict::Next);
            (base.family, base.origin) = (family, self.origin);
            base.comment.clone_from(&comment);
            if !self.protocols(&mut base) || !self.extras(&mut base) {
                continue;
            }
            self.changes(&mut base);
            let is_in = rule.dir == Direction::In && rule.rare.group.is_none();
            let is_out = matches!(rule.dir, Direction::Out | Direction::Post | Direction::Local);
            // Every alternative with every other one; the last list changes fastest.
            let mut parts = vec![base];
            with_each(&mut parts, self.interfaces(&rule.iif, is_in, Alternative::Iif));
            with_each(&mut parts, self.interfaces(&rule.oif, is_out, Alternative::Oif));
            for (list, bit, field) in [(&rule.src, not::SRC, Field::Src), (&rule.dst, not::DST, Field::Dst)] {
                if rule.is_not(bit) {
                    self.no_addresses(&mut parts, list, field, family);
                } else if !list.is_empty() {
                    with_each(&mut parts, self.addresses(list, field, family));
                }
            }
            for (list, bit, field) in
                [(&*rule.rare.sport, not::SPORT, Field::Sport), (&*rule.dport, not::DPORT, Field::Dport)]
            {
                if rule.is_not(bit) {
                    no_ports(&mut parts, list, field)
                } else if !list.is_empty() {
                    with_each(&mut parts, ports(list, field))
                }
            }
            if rule.ct != 0 {
                with_each(
                    &mut parts,
                    if rule.is_not(not::CT) { no_states(rule.ct) } else { states(rule.ct) },
                );
            }
            for part in &mut parts {
                part.tests.sort_unstable();
                part.tests.dedup();
            }
            all.append(&mut parts);
        }
        all
    }

    fn families(&self) -> Vec<Option<Family>> {
        let rule = self.rule;
        let only = rule.only_family();
        let by_address = |list: &[Address]| list.iter().any(|a| !matches!(a, Address::Kind(_)));
        let numbers = rule.proto.numbers();
        let icmp = numbers.contains(&proto::ICMP) || numbers.contains(&proto::ICMP6);
        let by_family = by_address(&rule.src)
            || by_address(&rule.dst)
            || self.per_source()
            || icmp && !rule.is_not(not::PROTO)
            || [extra::at::DSCP, extra::at::TTL].iter().any(|row| rule.extra(*row).is_some())
            || matches!(rule.action, Action::Add(..));
        if !by_family || only.is_some() && rule.src.is_empty() && rule.dst.is_empty() {
            return vec![only];
        }
        let [src, dst] = self.set.both_families(rule);
        let mut all = Vec::new();
        for ((src, dst), family) in src.into_iter().zip(dst).zip(Family::ALL) {
            if src && dst && only.is_none_or(|only| only == family) {
                all.push(Some(family));
            }
        }
        all
    }

    /// Asks for the protocols that there are in the family; false if there are none.
    fn protocols(&self, part: &mut Part) -> bool {
        let is_not = self.rule.is_not(not::PROTO);
        let foreign = match part.family {
            Some(Family::V4) => proto::ICMP6,
            Some(Family::V6) => proto::ICMP,
            None => 0,
        };
        let all = self.rule.proto.numbers();
        let kept = |n: &&u8| is_not || **n != foreign || all.len() == 1;
        match *all.iter().filter(kept).copied().collect::<Vec<u8>>() {
            [] => return all.is_empty(),
            [one] if !is_not => part.proto = Some(one),
            ref list => {
                let list = list.iter().map(|n| (u128::from(*n), u128::from(*n))).collect();
                part.tests.push(Test { not: is_not, ..Test::new(Field::Proto, list) });
            }
        }
        true
    }

    /// Asks for what the keys of the table ask for; false if no packet of the family has it.
    fn extras(&self, part: &mut Part) -> bool {
        for extra in &self.rule.rare.extras {
            let row = extra::ROWS.get(usize::from(extra.row));
            let Some((row, field)) = row.and_then(|row| Some((row, row.field?))) else { continue };
            let test = match row.form {
                Form::Bits | Form::Flags => {
                    let (value, mask) = extra.items.first().copied().unwrap_or_default();
                    let mask = if mask == row.max { 0 } else { mask.into() };
                    Test { not: extra.not, ..Test::bits(field, value.into(), mask) }
                }
                _ => Test { not: extra.not, ..Test::new(field, ranges(extra, row.form, field, part.family)) },
            };
            if let (Field::Ether, false, Values::Ranges(list)) = (field, test.not, &test.values)
                && let Some(family) = ether_family(list)
            {
                part.family = Some(family);
                continue;
            }
            match test.values {
                Values::Ranges(ref list) if list.is_empty() && extra.not => {}
                Values::Ranges(ref list) if list.is_empty() => return false,
                _ => part.tests.push(test),
            }
        }
        true
    }

    /// What is done to the packets.
    fn changes(&self, part: &mut Part) {
        let first = |row| self.rule.extra(row).and_then(|extra| extra.items.first()).copied();
        if let Some((value, mask)) = first(extra::at::SET_MARK) {
            let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
            part.changes.push(Change::Mark(number(value), number(mask)));
        }
        if let Some((size, _)) = first(extra::at::MSS) {
            part.changes.push(Change::Mss(u16::try_from(size).unwrap_or(u16::MAX)));
            // Only what opens a connection has the option; of rst nothing is expected.
            if part.tests.iter().all(|test| test.field != Field::Flags) {
                part.tests.push(Test::bits(Field::Flags, 2, 6));
            }
        }
        if self.rule.extra(extra::at::OFFLOAD).is_some() {
            part.changes.push(Change::Offload);
        }
        if let (Action::Add(name, seconds), Some(family)) = (self.rule.action, part.family) {
            part.changes.push(Change::Add(family_set(name, None, family), seconds));
        }
    }

    /// Alternatives of which each is one match.
    fn interfaces(
        &self,
        list: &InterfaceList,
        not_lo: bool,
        place: fn(plan::Interfaces) -> Alternative,
    ) -> Alternatives {
        let (not, names) = match list {
            _ if not_lo && self.apart && loopback::is_any(list) => return one(Alternative::Any),
            InterfaceList::Any if not_lo => (true, IfName::new(LO).into_iter().collect()),
            InterfaceList::Any | InterfaceList::Every => return one(Alternative::Any),
            InterfaceList::Auto => (false, self.auto.to_vec()),
            InterfaceList::Names { not, names } => (*not, names.to_vec()),
            InterfaceList::Set(not, name) => match self.set.set(name).map(|set| &set.elements) {
                Some(SetElements::Interfaces(names)) => (*not, names.clone()),
                _ => return Alternatives::new(),
            },
        };
        if not {
            let list = self.exceptions(names, not_lo);
            // Of a set without elements nothing is excepted.
            return one(if list.names.is_empty() { Alternative::Any } else { place(list) });
        }
        let (mut exact, mut all) = (Vec::new(), Alternatives::new());
        for name in names {
            if name.wildcard().is_none() {
                exact.push(name);
            } else {
                // Loopback is matched by its name only.
                let except_lo = not_lo && !self.apart && name.matches(LO);
                all.push(place(plan::Interfaces { not, names: vec![name], except_lo }));
            }
        }
        if !exact.is_empty() {
            all.insert(0, place(plan::Interfaces { not, names: exact, except_lo: false }));
        }
        all
    }

    /// Every interface but these, and but loopback.
    fn exceptions(&self, mut names: Vec<IfName>, not_lo: bool) -> plan::Interfaces {
        if not_lo
            && !self.apart
            && !names.iter().any(|name| name.matches(LO))
            && let Some(lo) = IfName::new(LO)
        {
            names.push(lo);
        }
        plan::Interfaces { not: true, names, except_lo: false }
    }

    fn addresses(&self, list: &[Address], field: Field, family: Option<Family>) -> Alternatives {
        let place = if field == Field::Src { Alternative::Src } else { Alternative::Dst };
        let (mut ranges, mut all, mut kinds) = (Vec::new(), Alternatives::new(), Vec::new());
        for item in list {
            match item {
                Address::Range(range) if Some(range.family()) == family => ranges.push(*range),
                Address::Range(_) => {}
                Address::Kind(kind) => kinds.extend(KINDS.get(usize::from(*kind)).map(|(_, n)| number(*n))),
                Address::Set(name) => {
                    let fits =
                        |f: &Family| self.set.set(name).is_some_and(|s| s.family.is_none_or(|o| o == *f));
                    if let Some(family) = family.filter(fits) {
                        let only = self.set.set(name).and_then(|set| set.family);
                        all.push(place(Addresses::Set(family_set(*name, only, family))));
                    }
                }
            }
        }
        merge(&mut ranges);
        if ranges.iter().any(|r| r.as_net().is_some_and(|net| net.prefix_len() == 0)) {
            return one(Alternative::Any);
        }
        if !ranges.is_empty() {
            all.insert(0, place(Addresses::Ranges(ranges)));
        }
        if !kinds.is_empty() {
            all.push(Alternative::Tests(vec![Test::new(kind_of(field), kinds)]));
        }
        all
    }

    /// Asks for none of the addresses.
    fn no_addresses(&self, parts: &mut [Part], list: &[Address], field: Field, family: Option<Family>) {
        let (mut ranges, mut kinds, mut tests) = (Vec::new(), Vec::new(), Vec::new());
        for item in list {
            match item {
                Address::Range(range) if Some(range.family()) == family => ranges.push(range.numbers()),
                Address::Range(_) => {}
                Address::Kind(kind) => kinds.extend(KINDS.get(usize::from(*kind)).map(|(_, n)| number(*n))),
                Address::Set(name) => {
                    let set = self.set.set(name);
                    let fits = |f: &Family| set.is_some_and(|s| s.family.is_none_or(|only| only == *f));
                    if let (Some(family), Some(set)) = (family.filter(fits), set) {
                        let values = Values::Set(family_set(*name, set.family, family));
                        tests.push(Test { field, mask: 0, not: true, values });
                    }
                }
            }
        }
        for (field, list) in [(field, ranges), (kind_of(field), kinds)] {
            if !list.is_empty() {
                tests.push(Test::none_of(field, list));
            }
        }
        parts.iter_mut().for_each(|part| part.tests.extend_from_slice(&tests));
    }
}

/// The family that a type of frame is, if it is one: that is asked for in one way only.
fn ether_family(list: &[(u128, u128)]) -> Option<Family> {
    let is = |kind: u64| *list == [(kind.into(), kind.into())];
    match () {
        () if is(extra::ETHER_IP) => Some(Family::V4),
        () if is(extra::ETHER_IP6) => Some(Family::V6),
        () => None,
    }
}

fn number(n: u8) -> (u128, u128) {
    (n.into(), n.into())
}

/// The field that has the kind of an address.
fn kind_of(field: Field) -> Field {
    if field == Field::Src { Field::SrcKind } else { Field::DstKind }
}

/// The numbers that a key asks for.
fn ranges(extra: &Extra, form: Form, field: Field, family: Option<Family>) -> Vec<(u128, u128)> {
    let mut all = Vec::new();
    for &(first, last) in &extra.items {
        match form {
            _ if field == Field::Icmp => {
                all.extend(extra::icmp_types((first, last), family.unwrap_or(Family::V4)));
            }
            _ if field == Field::Day && last >= extra::WEEK => {
                all.push((first.into(), u128::from(extra::WEEK) - 1));
                all.push((0, (last - extra::WEEK).into()));
            }
            // Over midnight; the end is not in it.
            Form::Time if first > last => {
                all.push((first.into(), 86_399));
                all.extend(last.checked_sub(1).map(|last| (0, last.into())));
            }
            Form::Time => all.push((first.into(), u128::from(last).saturating_sub(1))),
            _ => all.push((first.into(), last.into())),
        }
    }
    all
}

/// Makes of each part one for each alternative.
fn with_each(parts: &mut Vec<Part>, mut list: Alternatives) {
    if let [part] = &mut parts[..]
        && list.len() == 1
    {
        // The usual case needs no copies.
        return list.drain(..).for_each(|one| one.apply(part));
    }
    for part in std::mem::take(parts) {
        for one in &list {
            let mut part = part.clone();
            one.clone().apply(&mut part);
            parts.push(part);
        }
    }
}

impl Alternative {
    fn apply(self, part: &mut Part) {
        match self {
            Alternative::Any => {}
            Alternative::Iif(list) => part.iif = Some(list),
            Alternative::Oif(list) => part.oif = Some(list),
            Alternative::Src(list) => part.src = Some(list),
            Alternative::Dst(list) => part.dst = Some(list),
            Alternative::Sport(list) => part.sport = Some(list),
            Alternative::Dport(list) => part.dport = Some(list),
            Alternative::States(bits) => part.ct = bits,
            Alternative::StatesAnd(bits, test) => {
                part.ct = bits;
                part.tests.push(test);
            }
            Alternative::Tests(tests) => part.tests.extend(tests),
        }
    }
}

/// States of a connection, and what NAT does to it.
fn states(bits: u8) -> Alternatives {
    let (plain, status) = (bits & !(ct::DNAT | ct::SNAT), ct::status(bits));
    let mut all = Alternatives::new();
    if plain > 0 {
        all.push(Alternative::States(plain));
    }
    if status > 0 {
        all.push(Alternative::Tests(vec![Test { not: true, ..Test::bits(Field::Status, 0, status.into()) }]));
    }
    all
}

/// Every state but these. What has no connection is not translated, and not asked for that: it would match
/// neither that nor its opposite.
fn no_states(bits: u8) -> Alternatives {
    let (others, status) = (ct::ALL & !bits, ct::status(bits));
    if status == 0 {
        return one(Alternative::States(others));
    }
    let alone = others & (ct::INVALID | ct::UNTRACKED);
    let mut all = Alternatives::new();
    if others > alone {
        let plain = Test::bits(Field::Status, 0, status.into());
        all.push(Alternative::StatesAnd(others & !alone, plain));
    }
    if alone > 0 {
        all.push(Alternative::States(alone));
    }
    all
}

fn ports(list: &[Port], field: Field) -> Alternatives {
    let place = if field == Field::Sport { Alternative::Sport } else { Alternative::Dport };
    let (mut ranges, mut all) = (Vec::new(), Alternatives::new());
    for item in list {
        match item {
            Port::Range(first, last) => ranges.push((*first, *last)),
            Port::Set(name) => all.push(place(Ports::Set(port_set(*name)))),
        }
    }
    if !ranges.is_empty() {
        all.insert(0, place(Ports::Ranges(joined(ranges))));
    }
    all
}

/// Asks for none of the ports.
fn no_ports(parts: &mut [Part], list: &[Port], field: Field) {
    let (mut ranges, mut tests) = (Vec::new(), Vec::new());
    for item in list {
        match item {
            Port::Range(first, last) => ranges.push((u128::from(*first), u128::from(*last))),
            Port::Set(name) => {
                tests.push(Test { field, mask: 0, not: true, values: Values::Set(port_set(*name)) });
            }
        }
    }
    if !ranges.is_empty() {
        tests.push(Test::none_of(field, ranges));
    }
    parts.iter_mut().for_each(|part| part.tests.extend_from_slice(&tests));
}
