#![forbid(unsafe_code)]
//! What a rule asks of a packet, gathered from its expressions: registers with what was loaded into them, and
//! the conditions on that. The first thing that a plan cannot hold is the reason why the rule is none.

use super::expr::{hex, next, previous};
use super::sets::{self, Element};
use crate::base::name::IfName;
use crate::base::range::{Family, Range};
use crate::firewall::field;
use crate::plan::field::ROUTING_TYPE;
use crate::plan::{
    Addresses, Field, Interfaces, PacketSide, PacketVerdict, Ports, Rule, TableOf, Test, Values, ct, meet,
};

/// ARPHRD_ETHER as it is compared.
const ETHERNET: [u8; 2] = field::ETHERNET.to_ne_bytes();
/// First of the 32-bit registers; the four of 128 bits lie over them.
const REG32: u32 = 8;
const NAT_TWICE: &str = "it asks twice for what NAT does";

/// What stands in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Interface {
        is_in: bool,
        by_index: bool,
    },
    Family {
        ether: bool,
    },
    Protocol,
    Address {
        family: Family,
        side: PacketSide,
    },
    Port {
        side: PacketSide,
    },
    State,
    /// Source and destination, addresses of a family or ports, which nft(8) compares at once.
    Pair {
        of: Option<Family>,
    },
    /// One of those that a plan looks at in one way.
    Field(Field),
    /// An extension header of IPv6: whether it is there, or its type.
    Header {
        kind: u8,
        typed: bool,
    },
    /// What kind of interface it came in by.
    Hardware,
    /// What the path's MTU leaves for segments.
    PathMss,
    /// The mark with some bits changed: mask that stays in `mask`, and what is set.
    MarkSet(u32),
    /// Bytes that the rule itself has loaded; they stand in `mask`.
    Data,
    /// A number in the host's order.
    Number,
    Other,
}

/// A loaded value.
#[derive(Debug, Clone)]
pub struct Value {
    pub what: What,
    pub text: String,
    pub len: usize,
    pub mask: Option<Vec<u8>>,
}

/// The name of an interface by its number.
pub type Interface = fn(u32) -> Option<IfName>;

/// From the first to the last key, both in the order of the wire.
pub type Keys<'a> = (&'a [u8], &'a [u8]);

/// One value or list that is looked for, or anything but it.
pub struct FieldTest<'a> {
    pub keys: &'a [Keys<'a>],
    pub not: bool,
}

/// A rule being read.
pub struct RuleReader {
    pub rule: Rule,
    /// About what nft(8) writes.
    pub text: String,
    /// Why it is no rule of a plan.
    pub bad: Option<String>,
    /// States without a connection that it is for, too, whatever it asks of what NAT does.
    pub alone: u8,
    /// Protocols; `None` = all.
    pub protos: Option<Vec<u8>>,
    uses_ports: bool,
    /// What the table is for.
    of: TableOf,
    /// Frames are of Ethernet, which alone says nothing.
    is_ether: bool,
    /// They have a tag, of whatever virtual LAN.
    is_tagged: bool,
    registers: Vec<(u32, u32, Value)>,
}

impl RuleReader {
    /// A rule of a table of this family, before its first expression.
    pub fn new(family: Option<Family>, of: TableOf) -> RuleReader {
        let rule = Rule { family, counter: false, ..Rule::new(PacketVerdict::Next) };
        RuleReader {
            rule,
            text: String::new(),
            bad: None,
            alone: 0,
            protos: None,
            uses_ports: false,
            of,
            is_ether: false,
            is_tagged: false,
            registers: Vec::new(),
        }
    }

    /// Notes why it is no rule of a plan; the first reason counts.
    pub fn fail(&mut self, why: &str) {
        self.bad.get_or_insert_with(|| why.to_owned());
    }

    /// Adds words to the text.
    pub fn say(&mut self, words: &[&str]) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        words.iter().for_each(|word| self.text.push_str(word));
    }

    /// Puts a value into a register.
    pub fn load(&mut self, register: u32, value: Option<Value>) {
        let Some(from) = word(register) else { return self.fail("it uses an unknown register") };
        let words = value.as_ref().map_or(4, |v| u32::try_from(v.len.div_ceil(4)).unwrap_or(16));
        self.registers.retain(|(at, len, _)| *at >= from + words || at + len <= from);
        self.registers.extend(value.map(|value| (from, words, value)));
    }

    /// What stands in a register.
    pub fn value(&self, register: u32) -> Option<Value> {
        self.value_behind(register, 0)
    }

    /// What stands so many bytes behind the beginning of a register.
    pub fn value_behind(&self, register: u32, bytes: usize) -> Option<Value> {
        let from = word(register)? + u32::try_from(bytes / 4).ok()?;
        self.registers.iter().find(|(at, ..)| *at == from).map(|(.., value)| value.clone())
    }

    /// Goes on with packets whose value passes.
    #[inline(never)]
    pub fn test(&mut self, value: &Value, test: &FieldTest<'_>, interface: Interface) {
        let result = match value.what {
            What::Hardware if !test.not && test.keys == [(&ETHERNET[..], &ETHERNET[..])] => {
                self.is_ether = true;
                Ok(())
            }
            What::Other | What::Number | What::Hardware | What::PathMss | What::MarkSet(_) | What::Data => {
                Err(["the language does not match ", &value.text].concat())
            }
            _ if test.keys.iter().any(|(first, last)| first.len().max(last.len()) > value.len) => {
                Err("it matches several things together".into())
            }
            What::Interface { is_in, by_index } => self.interfaces(is_in, by_index, value, test, interface),
            _ if test
                .keys
                .iter()
                .any(|(first, last)| first.len() != value.len || last.len() != value.len) =>
            {
                Err("values of two lengths are compared".into())
            }
            What::Header { kind, typed } => self.extension(kind, typed, test),
            What::Pair { of } => self.pair(of, value, test),
            What::Field(field) => self.field(field, value, test),
            What::Address { family, side } => self.address(family, side, value, test),
            _ if value.mask.is_some() && !matches!(value.what, What::State | What::Field(_)) => {
                Err("single bits are matched".into())
            }
            What::Port { side } => self.port(side, test),
            What::State => self.states(value, test),
            What::Protocol | What::Family { .. } => self.header(value, test),
        };
        if let Err(why) = result {
            self.fail(&why);
        }
    }

    /// The layout of a field in this rule.
    pub fn layout(&self, field: Field) -> field::Layout {
        field::of(field, self.rule.family, self.protos.as_deref() == Some(&[58]))
    }

    #[inline(never)]
    fn field(&mut self, field: Field, value: &Value, test: &FieldTest<'_>) -> Result<(), String> {
        let of = self.layout(field);
        let numbers = test.keys.iter().map(|(first, last)| (of.value(first), of.value(last)));
        let mut test = Test { not: test.not, ..Test::new(field, numbers.collect()) };
        match &value.mask {
            None if of.mask > 0 => return Err("it looks at more than a field".into()),
            None => {}
            Some(mask) if of.mask > 0 && of.bytes(of.mask >> of.shift) == *mask => {}
            Some(_) if of.mask > 0 => return Err("single bits are matched".into()),
            Some(mask) => {
                test.mask = of.value(mask);
                let (Values::Ranges(list), true) = (&test.values, test.mask > 0) else {
                    return Err("single bits are matched".into());
                };
                let &[(first, last)] = list.as_slice() else { return Err("single bits are matched".into()) };
                if first != last || first & !test.mask != 0 {
                    return Err("single bits are matched".into());
                }
            }
        }
        if field == Field::Vlan {
            return self.vlan(test);
        }
        if field == Field::Mac && !self.is_ether && self.of == TableOf::Packets {
            return Err("it looks at frames of any kind".into());
        }
        self.add_test(test);
        Ok(())
    }

    #[inline(never)]
    fn extension(&mut self, kind: u8, typed: bool, test: &FieldTest<'_>) -> Result<(), String> {
        let which = match *test.keys {
            [(&[1], &[1])] if !typed => (kind.into(), test.not),
            [(&[0], &[0])] if !typed => (kind.into(), !test.not),
            [(&[first], &[last])] if typed && first == last && first < 128 => {
                (ROUTING_TYPE | u128::from(first) << 8 | u128::from(kind), test.not)
            }
            _ => return Err("it asks more of an extension header than the language does".into()),
        };
        if self.rule.family.replace(Family::V6).is_some_and(|family| family != Family::V6) {
            return Err("it matches no packet".into());
        }
        self.rule.tests.push(Test { not: which.1, ..Test::new(Field::Header, vec![(which.0, which.0)]) });
        Ok(())
    }

    /// Goes on with frames that have a tag of either type, of these virtual LANs or of others.
    fn vlan(&mut self, mut test: Test) -> Result<(), String> {
        let Values::Ranges(list) = &mut test.values else { return Ok(()) };
        *list = field::untagged(list).ok_or("tags of one type are meant")?;
        if !test.not && *list == [(0, field::VLAN_LAST)] {
            self.is_tagged = true;
            return Ok(());
        }
        if test.not && !self.is_tagged {
            return Err("frames without a tag are meant, too".into());
        }
        self.rule.tests.push(test);
        Ok(())
    }

    /// Goes on with packets that pass a test, in the words of the plan: one bit is set, and not "not clear",
    /// but for those of NAT; all bits are a whole.
    pub fn add_test(&mut self, mut test: Test) {
        // What has no connection would be let in without it.
        if test.field == Field::Status && self.alone != 0 {
            return self.fail(NAT_TWICE);
        }
        let of = self.layout(test.field);
        let whole = of.value([0xff; 16].get(..of.len).unwrap_or_default());
        if let (Values::Ranges(list), true) = (&test.values, test.mask > 0)
            && let Some(&(first, _)) = list.first()
        {
            let single = test.mask.is_power_of_two();
            if test.field == Field::Status {
                if single && first == test.mask {
                    test = Test { not: !test.not, ..Test::bits(test.field, 0, test.mask) };
                }
            } else if single && first == 0 {
                test = Test { not: !test.not, ..Test::bits(test.field, test.mask, test.mask) };
            } else if test.mask == whole {
                test.mask = 0;
            }
        }
        // What matches have no expression for is asked for by the match itself.
        self.is_ether |= test.field == Field::Mac;
        self.rule.tests.push(test);
    }

    /// Goes on with packets whose field is not in a named set.
    pub fn except_set(&mut self, field: Field, name: crate::base::name::Name) {
        self.rule.tests.push(Test { field, mask: 0, not: true, values: Values::Set(name) });
    }

    #[inline(never)]
    fn header(&mut self, value: &Value, test: &FieldTest<'_>) -> Result<(), String> {
        let ether = value.what == What::Family { ether: true };
        let family = |key: &[u8]| match (ether, key) {
            (false, [2]) | (true, [8, 0]) => Some(Family::V4),
            (false, [10]) | (true, [0x86, 0xdd]) => Some(Family::V6),
            _ => None,
        };
        // Of frames there are more kinds than families.
        let one = matches!(test.keys, [(key, last)] if key == last && family(key).is_some()) && !test.not;
        if ether && self.of == TableOf::Frames && !one {
            let number = |key: &[u8]| key.try_into().ok().map(u16::from_be_bytes).map_or(0, u128::from);
            let numbers: Vec<_> =
                test.keys.iter().map(|(first, last)| (number(first), number(last))).collect();
            if numbers.iter().any(|(first, last)| first == last && field::TAGS.contains(first)) {
                return Err("it looks at tags behind the outermost one".into());
            }
            self.rule.tests.push(Test { not: test.not, ..Test::new(Field::Ether, numbers) });
            return Ok(());
        }
        if value.what == What::Protocol {
            self.protocols(test);
            return Ok(());
        }
        if test.keys.iter().any(|(first, last)| first != last) {
            return Err("families are in a range".into());
        }
        if test.not {
            return Err("families are excepted".into());
        }
        let (mut v4, mut v6) = (false, false);
        for (key, _) in test.keys {
            match family(key) {
                Some(Family::V4) => v4 = true,
                Some(Family::V6) => v6 = true,
                None => return Err("packets of other families are meant".into()),
            }
        }
        let one = if v4 { Family::V4 } else { Family::V6 };
        match self.rule.family {
            _ if v4 && v6 => Ok(()),
            known if v4 == v6 || known.is_some_and(|known| known != one) => {
                Err("it matches no packet".into())
            }
            _ => {
                self.rule.family = Some(one);
                Ok(())
            }
        }
    }

    /// Goes on with packets of these protocols, or of all others; numbers that are neighbours are a range.
    #[inline(never)]
    fn protocols(&mut self, test: &FieldTest<'_>) {
        let ranges: Vec<(u8, u8)> =
            test.keys.iter().filter_map(|(first, last)| Some((*first.first()?, *last.first()?))).collect();
        if test.not {
            let numbers = ranges.iter().map(|(first, last)| (u128::from(*first), u128::from(*last)));
            self.rule.tests.push(Test::none_of(Field::Proto, numbers.collect()));
            return;
        }
        let asked: Vec<u8> = ranges.into_iter().flat_map(|(first, last)| first..=last).collect();
        self.protos = Some(match self.protos.take() {
            None => asked,
            Some(known) => known.into_iter().filter(|proto| asked.contains(proto)).collect(),
        });
    }

    fn address(
        &mut self,
        family: Family,
        side: PacketSide,
        value: &Value,
        test: &FieldTest<'_>,
    ) -> Result<(), String> {
        let mut ranges = Vec::new();
        for (first, last) in test.keys {
            ranges.push(prefix(family, value, first, last).ok_or("single bits of addresses are matched")?);
        }
        if test.not {
            if self.rule.family != Some(family) {
                return Err("it looks at the header of one family in packets of both".into());
            }
            let numbers = ranges.iter().map(Range::numbers).collect();
            self.rule.tests.push(Test::none_of(side.address(), numbers));
            return Ok(());
        }
        crate::base::range::merge(&mut ranges);
        // All of them: only the family counts.
        let all = whole(family).is_some_and(|whole| ranges == [whole]);
        self.add_addresses(family, side, (!all).then_some(Addresses::Ranges(ranges)))
    }

    /// Goes on with packets of these addresses.
    pub fn add_addresses(
        &mut self,
        family: Family,
        side: PacketSide,
        list: Option<Addresses>,
    ) -> Result<(), String> {
        if self.rule.family != Some(family) {
            return Err("it looks at the header of one family in packets of both".into());
        }
        let slot = side.of(&mut self.rule.src, &mut self.rule.dst);
        Ok(meet::addresses(slot, list.as_ref())?)
    }

    #[inline(never)]
    fn pair(&mut self, of: Option<Family>, value: &Value, test: &FieldTest<'_>) -> Result<(), String> {
        let &[(key, last)] = test.keys else { return Err("it matches several things together".into()) };
        let halves =
            key.split_at_checked(value.len / 2).filter(|_| key == last && !test.not && value.mask.is_none());
        let (src, dst) = halves.ok_or("source and destination are matched together")?;
        let half = |what| Value { what, text: String::new(), len: value.len / 2, mask: None };
        for (side, key) in [(PacketSide::Source, src), (PacketSide::Destination, dst)] {
            let test = FieldTest { keys: &[(key, key)], not: false };
            match of {
                Some(family) => self.address(family, side, &half(What::Other), &test)?,
                None => self.port(side, &test)?,
            }
        }
        Ok(())
    }

    fn port(&mut self, side: PacketSide, test: &FieldTest<'_>) -> Result<(), String> {
        let element =
            |(first, last): &Keys<'_>| Element { first: first.to_vec(), last: last.to_vec(), verdict: None };
        let list: Vec<Element> = test.keys.iter().map(element).collect();
        let ranges = sets::ports(&list);
        if test.not {
            self.uses_ports = true;
            let numbers = ranges.iter().map(|(a, b)| (u128::from(*a), u128::from(*b))).collect();
            self.rule.tests.push(Test::none_of(side.port(), numbers));
            return Ok(());
        }
        self.add_ports(side, Ports::Ranges(ranges))
    }

    /// Goes on with packets of these ports.
    pub fn add_ports(&mut self, side: PacketSide, list: Ports) -> Result<(), String> {
        self.uses_ports = true;
        let slot = side.of(&mut self.rule.sport, &mut self.rule.dport);
        Ok(meet::ports(slot, Some(&list))?)
    }

    #[inline(never)]
    fn states(&mut self, value: &Value, test: &FieldTest<'_>) -> Result<(), String> {
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
        let all = || {
            let same = test.keys.iter().all(|(first, last)| first == last);
            let bits = test.keys.iter().try_fold(0, |all, (key, _)| Some(all | number(key)?));
            bits.filter(|_| same)
        };
        let bits = match (&value.mask, test.keys) {
            // Likewise that none of them is, or that it is another one.
            (Some(mask), [_]) if !test.not && all() == Some(0) => {
                return self.except_states(number(mask).unwrap_or(0), 0);
            }
            (None, _) if test.not => return self.except_states(all().unwrap_or(0), 0),
            // nft asks whether one of the bits is set.
            (Some(mask), [(zero, last)]) if test.not && zero == last && number(zero) == Some(0) => {
                number(mask)
            }
            (None, _) => all(),
            _ => None,
        };
        self.add_states(bits.ok_or("states are excepted")?)
    }

    /// Goes on with packets in one of these states of the kernel.
    pub fn add_states(&mut self, bits: u32) -> Result<(), String> {
        self.meet_states(states_of(bits)?)
    }

    /// Goes on with packets in none of these states, to whose connections NAT has done nothing of `status`.
    /// What has no connection has no status.
    pub fn except_states(&mut self, bits: u32, status: u16) -> Result<(), String> {
        let known = if bits == 0 && status != 0 { 0 } else { states_of(bits)? };
        self.meet_states(ct::ALL & !known)?;
        let alone = self.rule.ct & (ct::INVALID | ct::UNTRACKED);
        if status == 0 || alone == self.rule.ct {
            return Ok(());
        }
        if alone != 0 && self.rule.tests.iter().any(|test| test.field == Field::Status) {
            return Err(NAT_TWICE.into());
        }
        self.rule.ct &= !alone;
        self.rule.tests.push(Test::bits(Field::Status, 0, status.into()));
        self.alone = alone;
        Ok(())
    }

    fn meet_states(&mut self, ours: u8) -> Result<(), String> {
        // Of what has no connection some would be let in that the later condition leaves out.
        if self.alone != 0 {
            return Err("it asks for states again after what NAT does".into());
        }
        self.rule.ct = if self.rule.ct == 0 { ours } else { self.rule.ct & ours };
        if self.rule.ct == 0 { Err("it matches no packet".into()) } else { Ok(()) }
    }

    #[inline(never)]
    fn interfaces(
        &mut self,
        is_in: bool,
        by_index: bool,
        value: &Value,
        test: &FieldTest<'_>,
        interface: Interface,
    ) -> Result<(), String> {
        let mut names = Vec::new();
        for (key, last) in test.keys {
            let name = if by_index {
                (*key).try_into().ok().map(u32::from_ne_bytes).and_then(interface)
            } else {
                if_name(key)
            };
            let name = name.filter(|_| key == last && value.mask.is_none());
            names.push(name.ok_or("the language cannot name this interface")?);
        }
        names.sort_unstable();
        let slot = if is_in { &mut self.rule.iif } else { &mut self.rule.oif };
        Ok(meet::interfaces(slot, Some(&Interfaces { not: test.not, names, except_lo: false }))?)
    }

    /// Whether the rule so far is one; else the reason.
    pub fn finish(&mut self) {
        let with_ports = [6, 17, 33, 132, 136];
        let has_ports = |protos: &Vec<u8>| protos.iter().all(|p| with_ports.contains(p));
        if self.uses_ports && !self.protos.as_ref().is_some_and(has_ports) {
            self.fail("it looks at ports of any protocol");
        }
        if let Some([only]) = self.protos.as_deref() {
            self.rule.proto = Some(*only);
        }
        let has = |field: Field| self.rule.tests.iter().any(|test| test.field == field);
        let (mac, vlan) = (has(Field::Mac), has(Field::Vlan));
        if self.is_ether && !mac {
            self.fail("the language does not match meta iiftype");
        }
        if self.is_tagged && !vlan {
            self.rule.tests.push(Test::new(Field::Vlan, vec![(0, field::VLAN_LAST)]));
        }
        let folded = meet::fold(&mut self.rule);
        if !folded || meet::never(&self.rule) || self.protos.as_ref().is_some_and(Vec::is_empty) {
            self.fail("it matches no packet");
        }
    }
}

/// States of the kernel in bits of the plan.
fn states_of(bits: u32) -> Result<u8, String> {
    let known = [(1, ct::INVALID), (2, ct::ESTABLISHED), (4, ct::RELATED), (8, ct::NEW), (64, ct::UNTRACKED)];
    if bits == 0 || bits & !(15 | 64) != 0 {
        return Err("the language does not know this state".into());
    }
    Ok(known.iter().filter(|(theirs, _)| bits & theirs != 0).fold(0, |all, (_, ours)| all | ours))
}

/// The first 32-bit word of a register.
fn word(register: u32) -> Option<u32> {
    match register {
        1..=4 => Some((register - 1) * 4),
        REG32..=23 => Some(register - REG32),
        _ => None,
    }
}

fn whole(family: Family) -> Option<Range> {
    Range::from_keys([0; 16].get(..family.bytes())?, None)
}

/// The addresses whose leading bytes are between two keys.
#[inline(never)]
fn prefix(family: Family, value: &Value, first: &[u8], last: &[u8]) -> Option<Range> {
    let (mut from, mut to) = ([0u8; 16], [0xffu8; 16]);
    from.get_mut(..first.len())?.copy_from_slice(first);
    to.get_mut(..last.len())?.copy_from_slice(last);
    let len = family.bytes();
    if let Some(mask) = &value.mask {
        let ones: u32 = mask.iter().map(|b| b.count_ones()).sum();
        let leading = mask
            .iter()
            .position(|b| *b != 0xff)
            .map_or(mask.len() * 8, |at| at * 8 + mask.get(at).map_or(0, |b| b.leading_ones() as usize));
        let outside = first.iter().zip(mask).any(|(b, m)| b & !m != 0);
        if first != last || mask.len() != first.len() || ones as usize != leading || outside {
            return None;
        }
        to.iter_mut().zip(mask).for_each(|(b, m)| *b |= !m);
    }
    let end = |bytes: &[u8; 16]| Some(Range::from_key(bytes.get(..len)?)?.first());
    Range::new(end(&from)?, end(&to)?)
}

/// The ports that are in none of the ranges.
pub fn other_ports(ranges: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let mut out = Vec::new();
    let mut next = Some(0u16);
    for (first, last) in ranges {
        if let Some(from) = next
            && let Some(to) = first.checked_sub(1).filter(|to| from <= *to)
        {
            out.push((from, to));
        }
        next = last.checked_add(1);
    }
    out.extend(next.map(|from| (from, u16::MAX)));
    out
}

/// A name with its NUL is one interface, one without it begins the names of several.
#[inline(never)]
fn if_name(key: &[u8]) -> Option<IfName> {
    let len = key.iter().position(|b| *b == 0);
    let text = std::str::from_utf8(key.get(..len.unwrap_or(key.len()))?).ok()?;
    let rest = len.and_then(|at| key.get(at..)).unwrap_or_default();
    if rest.iter().any(|b| *b != 0) {
        return None;
    }
    let name = IfName::new(&[text, if len.is_none() { "*" } else { "" }].concat())?;
    (name.wildcard().is_some() == len.is_none()).then_some(name)
}

/// The first and the last key that an order (`NFT_CMP_*`) leaves; of `!=`, the one that it leaves out.
#[inline(never)]
pub fn compared(op: u32, data: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut first, mut last) = (data.to_vec(), data.to_vec());
    match op {
        0 | 1 => {}
        2 | 3 => first.fill(0),
        4 | 5 => last.fill(0xff),
        _ => return None,
    }
    match op {
        2 => last = previous(data)?,
        4 => first = next(data)?,
        _ => {}
    }
    Some((first, last))
}

/// A key for people.
pub fn shown(what: What, key: &[u8]) -> String {
    match what {
        What::Address { family, .. } => {
            let mut whole = [0; 16];
            whole.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
            let first = whole.get(..family.bytes()).and_then(Range::from_key).map(|range| range.to_string());
            let len = if key.len() < family.bytes() {
                ["/", &(key.len() * 8).to_string()].concat()
            } else {
                String::new()
            };
            first.map_or_else(|| hex(key), |first| [first, len].concat())
        }
        What::Port { .. } => {
            key.try_into().ok().map(u16::from_be_bytes).map_or_else(|| hex(key), |port| port.to_string())
        }
        What::Interface { by_index: false, .. } => {
            let star = if key.contains(&0) { "" } else { "*" };
            [super::expr::shown(key).as_str(), star].concat()
        }
        What::Protocol => match key {
            [1] => "icmp".into(),
            [6] => "tcp".into(),
            [17] => "udp".into(),
            [58] => "ipv6-icmp".into(),
            _ => key.first().map_or_else(String::new, ToString::to_string),
        },
        What::Family { ether: false } => match key {
            [2] => "ipv4".into(),
            [10] => "ipv6".into(),
            _ => hex(key),
        },
        What::Number
        | What::State
        | What::Field(Field::Mark | Field::Uid | Field::Gid | Field::Status)
        | What::Interface { by_index: true, .. } => {
            let number = key.try_into().ok().map(u32::from_ne_bytes);
            number.map_or_else(|| hex(key), |number| hex(&number.to_be_bytes()))
        }
        _ => hex(key),
    }
}
