#![forbid(unsafe_code)]
//! A rule set to the plan of what the kernel gets. A rule of the language is one rule of the kernel where
//! that can say it, and several where it cannot: one a family, one a list that is no single set, one that
//! only logs.

use super::ast::{Action, LimitOption, Protos, RuleStatement, StatementPlace, not, proto};
use super::loopback::{self, ApartDirections, LO};
use super::{GROUP_PREFIX, RuleSet, extra};
use crate::base::line::quotable_plain;
use crate::base::name::{IfName, Name};
use crate::base::range::Family;
use crate::plan::{
    self, Chain, Change, Direction, Limit, LogTarget, Nat, NatKind, NatPick, PacketVerdict, Policy, Rate,
    Refusal, Reject, Rule as Part, Sink, TableOf,
};
use sets::named_set;
pub(super) use sets::{PORTS, family_set, joined, port_set};

/// Packets that a bucket holds where `burst=` is not given, as nft(8) has it.
pub(super) const BURST: u32 = 5;
/// Shortest life of the bucket of one source, s, and the longest: what the set remembers must not be what
/// somebody filled it with yesterday.
const BUCKET_MIN: u32 = 60;
const BUCKET_MAX: u32 = 3600;

/// Compiles a rule set without errors; `auto` are the interfaces of the default routes.
pub fn compile(set: &RuleSet, auto: &[IfName], sink: &mut dyn Sink) {
    compile_beside(set, auto, sink, &mut |_, _| {});
}

/// The same, and `each` is called with every rule, too: to parse one takes longer than what is done with it.
pub(super) fn compile_beside(
    set: &RuleSet,
    auto: &[IfName],
    sink: &mut dyn Sink,
    each: &mut dyn FnMut(StatementPlace, &RuleStatement),
) {
    let apart = begin(set, auto, sink);
    let mut origin = 0;
    set.each(&mut |place, one| {
        origin += 1;
        later(set, (auto, apart), one, origin, sink);
        each(place, one);
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
    bridges(set, auto, sink);
    let action = |dir: Direction| {
        let given = set.policies.get(dir as usize).copied().flatten();
        given.map_or(Action::Accept, |(_, action)| action)
    };
    for dir in Direction::ALL {
        sink.base(dir, policy(set, dir));
    }
    for (dir, _) in Direction::NAT.into_iter().zip(set.nat).filter(|(_, is)| *is) {
        sink.base(dir, Policy::Accept);
    }
    for (_, named) in &set.sets {
        named_set(named, sink);
    }
    groups(set, auto, sink);
    let apart = set.apart(auto);
    set.each_of_loopback(&mut |origin, one| {
        if apart.has(one.dir) {
            rule(set, auto, one, (origin, true), sink);
        }
    });
    for dir in Direction::ALL.into_iter().filter(|dir| apart.has(*dir) && !set.loopback_ends(*dir)) {
        for (verdict, is_tcp) in ends(action(dir)) {
            let mut part = Part { proto: is_tcp.then_some(proto::TCP), ..Part::new(verdict) };
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

/// What becomes of packets that no rule of a direction decides on.
fn policy(set: &RuleSet, dir: Direction) -> Policy {
    let given = set.policies.get(dir as usize).copied().flatten();
    if given.is_none_or(|(_, action)| action == Action::Accept) { Policy::Accept } else { Policy::Drop }
}

/// The table for frames between ports of bridges, if there is anything to say of them. It sees no set of the
/// other one, and so has those that its rules name.
fn bridges(set: &RuleSet, auto: &[IfName], sink: &mut dyn Sink) {
    if set.first_bridge.is_none() {
        return;
    }
    sink.table(TableOf::Frames);
    sink.base(Direction::Bridge, policy(set, Direction::Bridge));
    for (_, named) in set.sets.iter().filter(|(_, named)| set.of_bridges.contains(&named.name)) {
        named_set(named, sink);
    }
    let mut origin = 0;
    set.each(&mut |_, one| {
        origin += 1;
        if one.dir == Direction::Bridge {
            rule(set, auto, one, (origin, false), sink);
        }
    });
    sink.table(TableOf::Packets);
}

/// The rules of the groups, before those that lead to them.
fn groups(set: &RuleSet, auto: &[IfName], sink: &mut dyn Sink) {
    set.groups.iter().filter_map(|(_, name)| group_chain(*name)).for_each(|name| sink.chain(name));
    let mut origin = 0;
    if !set.groups.is_empty() {
        set.each(&mut |_, one| {
            origin += 1;
            if one.rare.group.is_some() {
                rule(set, auto, one, (origin, false), sink);
            }
        });
    }
}

/// The kernel's name of a group.
pub(super) fn group_chain(name: Name) -> Option<Name> {
    Name::new(&[GROUP_PREFIX, name.as_str()].concat())
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
    if one.rare.group.is_some() || one.dir == Direction::Bridge {
        return;
    }
    if !apart || !loopback::is_only(one) {
        rule(set, auto, one, (origin, apart), sink);
    }
}

fn end(set: &RuleSet, sink: &mut dyn Sink) {
    for (dir, policy) in Direction::ALL.into_iter().zip(set.policies) {
        if policy.is_some_and(|(_, action)| action == Action::Reject) {
            for (verdict, is_tcp) in ends(Action::Reject) {
                let proto = is_tcp.then_some(proto::TCP);
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

/// What ends a chain, and whether that is for TCP alone.
pub(super) fn ends(action: Action) -> Vec<(PacketVerdict, bool)> {
    verdicts(action, Protos::ALL, false)
}

/// What ends a rule, and whether that is for TCP alone: rejecting more than that takes two answers.
fn verdicts(action: Action, protos: Protos, is_not: bool) -> Vec<(PacketVerdict, bool)> {
    let numbers = protos.numbers();
    let tcp = numbers.is_empty() || numbers.contains(&proto::TCP) != is_not;
    let single = match action {
        Action::Accept => PacketVerdict::Accept,
        Action::Drop => PacketVerdict::Drop,
        Action::Reject if numbers == [proto::TCP] && !is_not => PacketVerdict::Reject(Reject::Reset),
        Action::Reject if tcp => {
            let reset = (PacketVerdict::Reject(Reject::Reset), true);
            return vec![reset, (PacketVerdict::Reject(Reject::USUAL), false)];
        }
        Action::Reject => PacketVerdict::Reject(Reject::USUAL),
        Action::Return => PacketVerdict::Return,
        Action::Group(name) => group_chain(name).map_or(PacketVerdict::Next, PacketVerdict::Jump),
        _ => PacketVerdict::Next,
    };
    vec![(single, false)]
}

/// How a statement translates addresses.
fn nat(rule: &RuleStatement) -> Option<Nat> {
    let kind = match rule.action {
        Action::Masquerade => NatKind::Masquerade,
        Action::Snat => NatKind::Snat,
        Action::Dnat => NatKind::Dnat,
        Action::Redirect => NatKind::Redirect,
        _ => return None,
    };
    let (to, ports) = rule.rare.to.unwrap_or((None, None));
    let pick = first(rule, extra::at::PICK);
    let pick = NatPick::ALL.iter().find(|(_, bit)| pick == Some((*bit).into())).map(|(pick, _)| *pick);
    Some(Nat { kind, to, ports, pick })
}

/// The first number of a key of the table, if it is given.
fn first(rule: &RuleStatement, row: u8) -> Option<u64> {
    rule.extra(row)?.items.first().map(|(first, _)| *first)
}

/// How a statement answers, if it says so.
fn refusal(rule: &RuleStatement) -> Option<Refusal> {
    Refusal::ALL.get(usize::try_from(first(rule, extra::at::WITH)?).ok()?).copied()
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
        let only_logs = self.rule.action == Action::Log;
        let mut ends = verdicts(self.rule.action, self.rule.proto, self.rule.is_not(not::PROTO));
        if let Some(refusal) = refusal(self.rule) {
            ends = vec![(PacketVerdict::Reject(Reject::With(refusal)), false)];
        }
        if let Some(nat) = nat(self.rule) {
            ends = vec![(PacketVerdict::Nat(nat), false)];
        }
        let ratelimit = self.rule.rare.ratelimit.is_some() && !only_logs;
        let logs_apart = self.rule.rare.log.is_some() && (ratelimit || ends.len() > 1);
        let limit = self.limit(None);
        // What bounds packets or log lines must exist once, however many rules of the kernel match.
        let steps = ends.len() + usize::from(logs_apart);
        // A set of buckets that is full has no answer, and a rule with it does not match. Who is let in must
        // not hang on that: what is over the limit leaves the chain, all else is accepted.
        let open = self.per_source() && self.rule.action == Action::Accept;
        let bounded = open || limit.is_some() && (steps > 1 || matches.len() > 1 && !self.per_source());
        if bounded || ratelimit && matches.len() > 1 {
            return self.chain(matches, &ends, sink);
        }
        for mut part in matches {
            let base = self.base();
            let limit = self.buckets(part.family, sink);
            if logs_apart {
                let mut plain = Part { changes: Vec::new(), ..part.clone() };
                self.logging(base, &mut plain, sink);
            }
            (part.log, part.log_to) = if logs_apart { (None, LogTarget::DEFAULT) } else { self.prefix() };
            part.limit = limit;
            let Some(((verdict, is_tcp), before)) = ends.split_last() else { continue };
            for (verdict, is_tcp) in before {
                ending(part.clone(), *verdict, *is_tcp, (base, sink));
            }
            ending(part, *verdict, *is_tcp, (base, sink));
        }
    }

    /// Where the rule stands.
    fn base(&self) -> Chain {
        let group = self.rule.rare.group.and_then(group_chain);
        group.map_or(Chain::Base(self.rule.dir), Chain::Own)
    }

    /// The matches jump to a chain with the bounds, the log and the verdict.
    #[inline(never)]
    fn chain(&self, mut matches: Vec<Part>, ends: &[(PacketVerdict, bool)], sink: &mut dyn Sink) {
        let Some(name) = self.name("") else { return };
        let own = Chain::Own(name);
        sink.chain(name);
        let mut plain = Part::new(PacketVerdict::Return);
        plain.origin = self.origin;
        let mut families: Vec<Option<Family>> = Vec::new();
        for family in matches.iter().map(|part| part.family) {
            if self.bound().is_some() && !families.contains(&family) {
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
        if self.rule.rare.log.is_some() {
            self.logging(own, &mut plain, sink);
        }
        (plain.limit, plain.log, plain.log_to) = (None, None, LogTarget::DEFAULT);
        // The matches have looked at the protocol; only rejecting all of them looks again. What is changed
        // may hang on the family, and so stands with the matches where they are several.
        for (verdict, is_tcp) in ends.iter().filter(|_| self.rule.action != Action::Log) {
            (plain.verdict, plain.proto) = (*verdict, is_tcp.then_some(proto::TCP));
            let changes = matches.first().map(|part| part.changes.clone()).unwrap_or_default();
            if changes.iter().any(|change| matches!(change, Change::Add(..))) {
                self.added(own, &plain, &matches, sink);
                continue;
            }
            plain.changes = changes;
            sink.rule(own, &plain);
        }
        for mut part in matches {
            part.verdict = PacketVerdict::Jump(name);
            part.changes.clear();
            sink.rule(self.base(), &part);
        }
    }

    /// The rules that put sources of each family into its set.
    fn added(&self, own: Chain, plain: &Part, matches: &[Part], sink: &mut dyn Sink) {
        for family in Family::ALL {
            if let Some(part) = matches.iter().find(|part| part.family == Some(family)) {
                let (family, changes) = (Some(family), part.changes.clone());
                sink.rule(own, &Part { family, changes, ..plain.clone() });
            }
        }
    }

    /// The prefix of log lines, and where they go.
    fn prefix(&self) -> (Option<String>, LogTarget) {
        let prefix = self.rule.rare.log.as_deref();
        let number = |row| self.rule.extra(row).and_then(|extra| extra.items.first()).map(|item| item.0);
        let to = match (number(extra::at::GROUP), number(extra::at::LEVEL)) {
            (Some(group), _) => LogTarget::Group(u16::try_from(group).unwrap_or(0)),
            (None, Some(level)) => LogTarget::Level(u8::try_from(level).unwrap_or(4)),
            (None, None) => LogTarget::DEFAULT,
        };
        (prefix.map(|prefix| prefix.chars().map(quotable_plain).collect()), to)
    }

    /// The rule as one that only logs.
    fn logging(&self, chain: Chain, part: &mut Part, sink: &mut dyn Sink) {
        part.verdict = PacketVerdict::Next;
        (part.log, part.log_to) = self.prefix();
        let rate = self.rule.rare.ratelimit.filter(|_| self.rule.action != Action::Log);
        part.limit = rate.map(|rate| Limit { rate, burst: BURST, over: false, set: None });
        sink.rule(chain, part);
    }

    /// What bounds how many packets match: `limit=`, `conns=`, or `ratelimit=` of what only logs.
    fn bound(&self) -> Option<LimitOption> {
        let conns = || {
            let (packets, each) = *self.rule.extra(extra::at::CONNS)?.items.first()?;
            let rate = Rate { packets: u32::try_from(packets).unwrap_or(u32::MAX), per: 0 };
            Some(LimitOption { rate, per_source: each == 1 })
        };
        let only_logs = || {
            let rate = self.rule.rare.ratelimit.filter(|_| self.rule.action == Action::Log)?;
            Some(LimitOption { rate, per_source: false })
        };
        self.rule.rare.limit.or_else(conns).or_else(only_logs)
    }

    fn per_source(&self) -> bool {
        self.bound().is_some_and(|l| l.per_source)
    }

    fn limit(&self, set: Option<Name>) -> Option<Limit> {
        let burst = if self.rule.rare.burst > 0 { self.rule.rare.burst } else { BURST };
        self.bound().map(|l| {
            let burst = if l.rate.per == 0 { 0 } else { burst };
            Limit { rate: l.rate, burst, over: false, set }
        })
    }

    /// The limit, with its dynamic set if there is a bucket for each source.
    fn buckets(&self, family: Option<Family>, sink: &mut dyn Sink) -> Option<Limit> {
        let set = family.filter(|_| self.per_source()).and_then(|family| {
            let name = self.name(if family == Family::V4 { ".4" } else { ".6" })?;
            let Limit { rate: Rate { packets, per }, burst, .. } = self.limit(None)?;
            // When an empty bucket is full again it need not be remembered.
            let full = u64::from(burst) * u64::from(per) / u64::from(packets.max(1)) + 1;
            let life = u32::try_from(full).unwrap_or(BUCKET_MAX).clamp(BUCKET_MIN, BUCKET_MAX);
            // Who has connections is remembered as long as he has some: the kernel sees to that.
            let life = if per == 0 { 0 } else { life };
            sink.buckets(name, family, life);
            Some(name)
        });
        self.limit(set)
    }

    fn name(&self, suffix: &str) -> Option<Name> {
        Name::new(&["r", &self.origin.to_string(), suffix].concat())
    }
}

/// Adds a match with what ends it.
fn ending(mut part: Part, verdict: PacketVerdict, is_tcp: bool, (base, sink): (Chain, &mut dyn Sink)) {
    part.verdict = verdict;
    if is_tcp {
        only_tcp(&mut part);
    }
    sink.rule(base, &part);
}

/// Of a rule for several protocols the one for TCP.
fn only_tcp(part: &mut Part) {
    part.proto = Some(proto::TCP);
    part.tests.retain(|test| test.field != plan::Field::Proto);
}

mod matches;
mod sets;
