#![forbid(unsafe_code)]
//! A rule set to the plan of what the kernel gets. A rule of the language is one rule of the kernel where
//! that can say it, and several where it cannot: one a family, one a list that is no single set, one that
//! only logs.

use super::RuleSet;
use super::ast::{Action, Address, InterfaceList, Port, Proto, RuleStatement, SetElements};
use super::loopback::{self, ApartDirections, LO};
use super::words::is_of_nft;
use crate::base::line::quotable;
use crate::base::name::{IfName, Name};
use crate::base::range::{Family, merge};
use crate::plan::{
    self, Addresses, Chain, Direction, Limit, PacketVerdict, Policy, Ports, Rate, Reject, Rule as Part, Sink,
};

/// Packets that a bucket holds where `burst=` is not given, as nft(8) has it.
pub(super) const BURST: u32 = 5;
/// Shortest life of the bucket of one source, s, and the longest: what the set remembers must not be what
/// somebody filled it with yesterday.
const BUCKET_MIN: u32 = 60;
const BUCKET_MAX: u32 = 3600;

/// Compiles a rule set without errors; `auto` are the interfaces of the default routes.
pub fn compile(set: &RuleSet, auto: &[IfName], sink: &mut dyn Sink) {
    let apart = begin(set, auto, sink);
    let mut origin = 0;
    set.each(&mut |_, one| {
        origin += 1;
        later(set, (auto, apart), one, origin, sink);
    });
    end(set, sink);
}

/// The same, which takes the text away from the rule set.
pub fn compile_last(set: &mut RuleSet, auto: &[IfName], sink: &mut dyn Sink) {
    let apart = begin(set, auto, sink);
    let mut origin = 0;
    set.each_last(&mut |set, one| {
        origin += 1;
        later(set, (auto, apart), one, origin, sink);
    });
    end(set, sink);
}

/// Chains, sets, and what is decided on loopback where its rules stand apart: for which directions they do.
fn begin(set: &RuleSet, auto: &[IfName], sink: &mut dyn Sink) -> ApartDirections {
    let action = |dir: Direction| {
        let given = set.policies.get(dir as usize).copied().flatten();
        given.map_or(Action::Accept, |(_, action)| action)
    };
    for dir in Direction::ALL {
        let accepts = action(dir) == Action::Accept;
        sink.base(dir, if accepts { Policy::Accept } else { Policy::Drop });
    }
    for (_, named) in &set.sets {
        named_set(named, sink);
    }
    let apart = set.apart(auto);
    set.each_of_loopback(&mut |origin, one| {
        if apart.has(one.dir) {
            rule(set, auto, one, (origin, true), sink);
        }
    });
    for dir in Direction::ALL.into_iter().filter(|dir| apart.has(*dir) && !set.loopback_ends(*dir)) {
        for (verdict, proto) in verdicts(action(dir), Proto::All) {
            let mut part = Part { proto, ..Part::new(verdict) };
            let place = if dir == Direction::In { &mut part.iif } else { &mut part.oif };
            *place = Some(plan::Interfaces {
                not: false,
                names: IfName::new(LO).into_iter().collect(),
                except_lo: false,
            });
            sink.rule(Chain::Base(dir), &part);
        }
    }
    apart
}

/// Compiles a rule, if `begin` has not done so.
fn later(
    set: &RuleSet,
    (auto, apart): (&[IfName], ApartDirections),
    one: &RuleStatement,
    origin: u32,
    sink: &mut dyn Sink,
) {
    let apart = apart.has(one.dir);
    if !apart || !loopback::is_only(one) {
        rule(set, auto, one, (origin, apart), sink);
    }
}

fn end(set: &RuleSet, sink: &mut dyn Sink) {
    for (dir, policy) in Direction::ALL.into_iter().zip(set.policies) {
        if policy.is_some_and(|(_, action)| action == Action::Reject) {
            for (verdict, proto) in verdicts(Action::Reject, Proto::All) {
                sink.rule(Chain::Base(dir), &Part { proto, ..Part::new(verdict) });
            }
        }
    }
}

/// Compiles one rule, whose sets are those of `set`; of `origin` its number, and whether no packet of
/// loopback comes to the rules that do not name it.
pub(super) fn rule(
    set: &RuleSet,
    auto: &[IfName],
    rule: &RuleStatement,
    (origin, apart): (u32, bool),
    sink: &mut dyn Sink,
) {
    Compiler { set, auto, rule, origin, apart }.run(sink);
}

/// The set, or the two sets of its families.
fn named_set(set: &super::ast::SetStatement, sink: &mut dyn Sink) {
    match &set.elements {
        SetElements::Ports(list) => {
            let elements = plan::Elements::Ports(joined(list.clone()));
            sink.set(&plan::Set { name: port_set(set.name), elements });
        }
        SetElements::Addresses(list) => {
            for family in Family::ALL.into_iter().filter(|f| set.family.is_none_or(|only| only == *f)) {
                let mut ranges: Vec<_> = list.iter().filter(|r| r.family() == family).copied().collect();
                merge(&mut ranges);
                let name = family_set(set.name, set.family.is_none(), family);
                sink.set(&plan::Set { name, elements: plan::Elements::Addresses(family, ranges) });
            }
        }
    }
}

/// The name in the kernel: a set of both families is two, and none is called like a word of nft.
fn family_set(name: Name, both: bool, family: Family) -> Name {
    let suffix = if family == Family::V4 { ".4" } else { ".6" };
    if both || is_of_nft(name.as_str()) { suffixed(name, suffix) } else { name }
}

/// Likewise of a set of ports.
fn port_set(name: Name) -> Name {
    if is_of_nft(name.as_str()) { suffixed(name, PORTS) } else { name }
}

fn suffixed(name: Name, suffix: &str) -> Name {
    Name::new(&[name.as_str(), suffix].concat()).unwrap_or(name)
}

/// What the kernel's name of a set of ports ends with, if it must not be the plain one.
pub(super) const PORTS: &str = ".p";

/// Sorts ranges of ports and joins those that meet or touch.
fn joined(mut list: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    let mut out: Vec<(u16, u16)> = Vec::with_capacity(list.len());
    while let Some(least) = list.iter().copied().enumerate().min_by_key(|(_, range)| *range).map(|(i, _)| i) {
        let (first, last) = list.swap_remove(least);
        match out.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// What ends a rule: rejecting every protocol takes two answers.
pub(super) fn verdicts(action: Action, proto: Proto) -> Vec<(PacketVerdict, Option<u8>)> {
    let number = number(proto);
    match (action, proto) {
        (Action::Accept, _) => vec![(PacketVerdict::Accept, number)],
        (Action::Drop, _) => vec![(PacketVerdict::Drop, number)],
        (Action::Reject, Proto::Tcp) => vec![(PacketVerdict::Reject(Reject::Reset), number)],
        (Action::Reject, Proto::All) => vec![
            (PacketVerdict::Reject(Reject::Reset), self::number(Proto::Tcp)),
            (PacketVerdict::Reject(Reject::PortUnreachable), None),
        ],
        (Action::Reject, _) => vec![(PacketVerdict::Reject(Reject::PortUnreachable), number)],
    }
}

/// The number of a protocol; `None` is all of them.
pub(super) fn number(proto: Proto) -> Option<u8> {
    let number = match proto {
        Proto::All => return None,
        Proto::Tcp => libc::IPPROTO_TCP,
        Proto::Udp => libc::IPPROTO_UDP,
        Proto::Icmp => libc::IPPROTO_ICMP,
        Proto::Icmp6 => libc::IPPROTO_ICMPV6,
    };
    u8::try_from(number).ok()
}

struct Compiler<'a> {
    set: &'a RuleSet,
    auto: &'a [IfName],
    rule: &'a RuleStatement,
    origin: u32,
    apart: bool,
}

impl Compiler<'_> {
    fn run(&self, sink: &mut dyn Sink) {
        let matches = self.matches();
        if matches.is_empty() {
            // No interface has the default route, so none is meant.
            return;
        }
        let ends = verdicts(self.rule.action, self.rule.proto);
        let logs_apart = self.rule.log.is_some() && (self.rule.ratelimit.is_some() || ends.len() > 1);
        let limit = self.limit(None);
        // What bounds packets or log lines must exist once, however many rules of the kernel match.
        let steps = ends.len() + usize::from(logs_apart);
        // A set of buckets that is full has no answer, and a rule with it does not match. Who is let in must
        // not hang on that: what is over the limit leaves the chain, all else is accepted.
        let open = self.per_source() && self.rule.action == Action::Accept;
        let bounded = open || limit.is_some() && (steps > 1 || matches.len() > 1 && !self.per_source());
        if bounded || self.rule.ratelimit.is_some() && matches.len() > 1 {
            return self.chain(matches, &ends, sink);
        }
        for mut part in matches {
            let base = Chain::Base(self.rule.dir);
            let limit = self.buckets(part.family, sink);
            if logs_apart {
                self.logging(base, &mut part, sink);
            }
            part.log = if logs_apart { None } else { self.prefix() };
            part.limit = limit;
            for (verdict, proto) in &ends {
                (part.verdict, part.proto) = (*verdict, *proto);
                sink.rule(base, &part);
            }
        }
    }

    /// The matches jump to a chain with the bounds, the log and the verdict.
    #[inline(never)]
    fn chain(&self, mut matches: Vec<Part>, ends: &[(PacketVerdict, Option<u8>)], sink: &mut dyn Sink) {
        let Some(name) = self.name("") else { return };
        let own = Chain::Own(name);
        sink.chain(name);
        let mut plain = Part::new(PacketVerdict::Return);
        plain.origin = self.origin;
        let mut families: Vec<Option<Family>> = Vec::new();
        for family in matches.iter().map(|part| part.family) {
            if self.rule.limit.is_some() && !families.contains(&family) {
                families.push(family);
            }
        }
        // Nobody is refused because a set is full: then it is the jump that does not match.
        let closed = self.per_source() && self.rule.action != Action::Accept;
        let limits: Vec<_> = families.iter().filter(|_| closed).map(|f| self.buckets(*f, sink)).collect();
        if closed {
            for part in &mut matches {
                let at = families.iter().position(|family| *family == part.family);
                part.limit = at.and_then(|at| limits.get(at).copied().flatten());
            }
            families.clear();
        }
        if !self.per_source() {
            families.truncate(1);
        }
        for family in families {
            plain.limit = self.buckets(family, sink).map(|limit| Limit { over: true, ..limit });
            plain.family = family.filter(|_| self.per_source());
            sink.rule(own, &plain);
        }
        plain.family = None;
        if self.rule.log.is_some() {
            self.logging(own, &mut plain, sink);
        }
        (plain.limit, plain.log) = (None, None);
        for (verdict, proto) in ends {
            // The matches have looked at the protocol; only rejecting all of them looks again.
            (plain.verdict, plain.proto) = (*verdict, proto.filter(|_| ends.len() > 1));
            sink.rule(own, &plain);
        }
        for mut part in matches {
            part.verdict = PacketVerdict::Jump(name);
            sink.rule(Chain::Base(self.rule.dir), &part);
        }
    }

    fn prefix(&self) -> Option<String> {
        self.rule.log.as_deref().map(|prefix| prefix.chars().map(|c| quotable(c, true)).collect())
    }

    /// The rule as one that only logs.
    fn logging(&self, chain: Chain, part: &mut Part, sink: &mut dyn Sink) {
        part.verdict = PacketVerdict::Next;
        part.log = self.prefix();
        part.limit = self.rule.ratelimit.map(|rate| Limit { rate, burst: BURST, over: false, set: None });
        sink.rule(chain, part);
    }

    fn per_source(&self) -> bool {
        self.rule.limit.is_some_and(|l| l.per_source)
    }

    fn limit(&self, set: Option<Name>) -> Option<Limit> {
        let burst = if self.rule.burst > 0 { self.rule.burst } else { BURST };
        self.rule.limit.map(|l| Limit { rate: l.rate, burst, over: false, set })
    }

    /// The limit, with its dynamic set if there is a bucket for each source.
    fn buckets(&self, family: Option<Family>, sink: &mut dyn Sink) -> Option<Limit> {
        let set = family.filter(|_| self.per_source()).and_then(|family| {
            let name = self.name(if family == Family::V4 { ".4" } else { ".6" })?;
            let Limit { rate: Rate { packets, per }, burst, .. } = self.limit(None)?;
            // When an empty bucket is full again it need not be remembered.
            let full = u64::from(burst) * u64::from(per) / u64::from(packets.max(1)) + 1;
            let life = u32::try_from(full).unwrap_or(BUCKET_MAX).clamp(BUCKET_MIN, BUCKET_MAX);
            sink.buckets(name, family, life);
            Some(name)
        });
        self.limit(set)
    }

    fn name(&self, suffix: &str) -> Option<Name> {
        Name::new(&["r", &self.origin.to_string(), suffix].concat())
    }

    /// The rules of the kernel that match what this rule matches, without bounds, log and verdict.
    #[inline(never)]
    fn matches(&self) -> Vec<Part> {
        let rule = self.rule;
        let proto = number(rule.proto);
        let comment = rule.comment.to_string();
        let mut all = Vec::new();
        for family in self.families() {
            let mut base = Part::new(PacketVerdict::Next);
            (base.family, base.proto, base.ct, base.origin) = (family, proto, rule.ct, self.origin);
            base.comment.clone_from(&comment);
            let (is_in, is_out) = (rule.dir == Direction::In, rule.dir == Direction::Out);
            // Every alternative with every other one; the last list changes fastest.
            let mut parts = vec![base];
            with_each(&mut parts, &self.interfaces(&rule.iif, is_in), |part| &mut part.iif);
            with_each(&mut parts, &self.interfaces(&rule.oif, is_out), |part| &mut part.oif);
            with_each(&mut parts, &self.addresses(&rule.src, family), |part| &mut part.src);
            with_each(&mut parts, &self.addresses(&rule.dst, family), |part| &mut part.dst);
            with_each(&mut parts, &ports(&rule.sport), |part| &mut part.sport);
            with_each(&mut parts, &ports(&rule.dport), |part| &mut part.dport);
            all.append(&mut parts);
        }
        all
    }

    fn families(&self) -> Vec<Option<Family>> {
        let rule = self.rule;
        let only = rule.only_family();
        if rule.src.is_empty() && rule.dst.is_empty() && !self.per_source() {
            return vec![only];
        }
        let (src, dst) = (self.set.families(&rule.src), self.set.families(&rule.dst));
        let mut all = Vec::new();
        for ((src, dst), family) in src.into_iter().zip(dst).zip(Family::ALL) {
            if src && dst && only.is_none_or(|only| only == family) {
                all.push(Some(family));
            }
        }
        all
    }

    /// Alternatives of which each is one match; `None` matches everything.
    fn interfaces(&self, list: &InterfaceList, not_lo: bool) -> Vec<Option<plan::Interfaces>> {
        let (not, names) = match list {
            _ if not_lo && self.apart && loopback::is_any(list) => return vec![None],
            InterfaceList::Any if not_lo => (true, IfName::new(LO).into_iter().collect()),
            InterfaceList::Any | InterfaceList::Every => return vec![None],
            InterfaceList::Auto => (false, self.auto.to_vec()),
            InterfaceList::Names { not, names } => (*not, names.to_vec()),
        };
        if not {
            return vec![Some(self.exceptions(names, not_lo))];
        }
        let (mut exact, mut all) = (Vec::new(), Vec::new());
        for name in names {
            if name.wildcard().is_none() {
                exact.push(name);
            } else {
                // Loopback is matched by its name only.
                let except_lo = not_lo && !self.apart && name.matches(LO);
                all.push(Some(plan::Interfaces { not, names: vec![name], except_lo }));
            }
        }
        if !exact.is_empty() {
            all.insert(0, Some(plan::Interfaces { not, names: exact, except_lo: false }));
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

    fn addresses(&self, list: &[Address], family: Option<Family>) -> Vec<Option<Addresses>> {
        let Some(family) = family.filter(|_| !list.is_empty()) else { return vec![None] };
        let (mut ranges, mut all) = (Vec::new(), Vec::new());
        for item in list {
            match item {
                Address::Range(range) if range.family() == family => ranges.push(*range),
                Address::Range(_) => {}
                Address::Set(name) => {
                    if let Some(set) = self.set.set(name).filter(|s| s.family.is_none_or(|f| f == family)) {
                        all.push(Some(Addresses::Set(family_set(*name, set.family.is_none(), family))));
                    }
                }
            }
        }
        merge(&mut ranges);
        if ranges.iter().any(|r| r.as_net().is_some_and(|net| net.prefix_len() == 0)) {
            return vec![None];
        }
        if !ranges.is_empty() {
            all.insert(0, Some(Addresses::Ranges(ranges)));
        }
        all
    }
}

/// Makes of each part one for each alternative of a list, which goes to `place`.
fn with_each<T: Clone>(parts: &mut Vec<Part>, list: &[Option<T>], place: fn(&mut Part) -> &mut Option<T>) {
    if let [one] = list {
        // The usual case needs no copies.
        return parts.iter_mut().for_each(|part| place(part).clone_from(one));
    }
    for part in std::mem::take(parts) {
        for one in list {
            let mut part = part.clone();
            place(&mut part).clone_from(one);
            parts.push(part);
        }
    }
}

fn ports(list: &[Port]) -> Vec<Option<Ports>> {
    let (mut ranges, mut all) = (Vec::new(), Vec::new());
    for item in list {
        match item {
            Port::Range(first, last) => ranges.push((*first, *last)),
            Port::Set(name) => all.push(Some(Ports::Set(port_set(*name)))),
        }
    }
    if !ranges.is_empty() {
        all.insert(0, Some(Ports::Ranges(joined(ranges))));
    } else if all.is_empty() {
        all.push(None);
    }
    all
}
