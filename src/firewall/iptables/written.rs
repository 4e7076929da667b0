#![forbid(unsafe_code)]
//! A plan as texts for `iptables-restore`: chains of the tables filter and nat, and the sets that they ask,
//! under names that say which rule set they are of. Nothing here leads packets to them.

use super::spell::{Matches, Names, Sense, option, span};
use crate::base::diag::Severity;
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::base::siphash::sip13;
use crate::plan::{
    Chain, Change, Direction, Elements, Field, Limit, LogTarget, NatKind, PacketVerdict, Policy, Reject,
    Rule, Set, Sink, Test, Values,
};

/// Stands for the letter of the rule set until it is known which is free.
pub(super) const LETTER: char = '\u{1}';
/// What the names of chains and sets of rule sets begin with; with the letter behind it those of one.
pub(super) const PREFIX: &str = "mefr_";
/// Bytes before what is logged, to the kernel's log and to a group.
const LOG_PREFIX_MAX: [usize; 2] = [29, 63];
/// Bytes of a comment.
const COMMENT_MAX: usize = 200;
/// Seconds in which a bucket has to become full: the kernel cannot count further.
const FULL_MAX: u64 = 86_400;
/// Bits of an IPv6 address that share one bucket.
pub(super) const BUCKET_PREFIX: u8 = 64;
/// Buckets that there is room for: what has none would drop packets, so the sets have half as many.
const BUCKETS_MAX: &str = "131072";
/// Nobody is to be kept from making two rule sets alike; it is about accidents.
const FINGERPRINT_KEY: [u64; 2] = [0x6d65_6620_7275_6c65, 0x7320_6c6f_6164_6564];
/// What targets need of the protocol.
const TCP: &str = " -p 6";
const WITH_PORTS: [&str; 4] = [TCP, " -p 17", " -p 132", " -p 33"];
/// The tables, by whether their rules translate addresses.
pub(super) const TABLES: [&str; 2] = ["filter", "nat"];

/// A set that the rules ask.
pub(super) struct NewSet {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) ranges: Vec<Range>,
    /// Packets add to it: sources with an end, IPv6 ones by this many bits of them.
    pub(super) dynamic: Option<u8>,
}

/// What cannot be said.
pub struct Unsaid {
    /// The rule, by its number.
    pub statement: u32,
    /// The key that it is about.
    pub key: &'static str,
    /// Why, for people.
    pub why: &'static str,
    /// A warning: it is loaded nevertheless, and this is what is different.
    pub severity: Severity,
}

/// The rules of a table.
#[derive(Default)]
pub(super) struct TableText {
    pub(super) rules: String,
    /// The statement of each of its lines.
    origins: Vec<u32>,
    /// How many chains it has, which are called by numbers.
    pub(super) chains: u32,
}

/// The rules of a family.
#[derive(Default)]
pub(super) struct FamilyText {
    pub(super) tables: [TableText; 2],
    /// The chains of directions, by their numbers.
    pub(super) bases: [Option<u32>; 6],
    /// Chains of the plan that were written into a table.
    own: Vec<(Name, bool, u32)>,
}

/// A rule set as it is being written.
#[derive(Default)]
pub struct Text {
    pub(super) families: [FamilyText; 2],
    pub(super) sets: Vec<NewSet>,
    policies: [Option<Policy>; 3],
    ports: Vec<(Name, Vec<(u16, u16)>)>,
    /// The seconds that each of these sets remembers somebody.
    buckets: Vec<(Name, u32)>,
    /// Sets of other programs.
    foreign: Vec<(Name, String)>,
    /// Chains that rules lead to, written where they do.
    chains: Vec<(Name, Vec<Rule>)>,
    limits: u32,
    /// The number of the limit that parts of one rule share.
    shared: Option<u32>,
    unsaid: Vec<Unsaid>,
    /// Rules of the plan.
    pub rules: u32,
}

impl Names for Text {
    fn ports(&self, set: &str) -> Vec<(u16, u16)> {
        let found = self.ports.iter().find(|(name, _)| name.as_str() == set);
        found.map(|(_, ports)| ports.clone()).unwrap_or_default()
    }

    fn addresses(&self, set: &str) -> String {
        let foreign = self.foreign.iter().find(|(name, _)| name.as_str() == set);
        foreign.map_or_else(|| set_name(set), |(_, name)| name.clone())
    }

    fn list(&mut self, family: Family, ranges: &[Range]) -> String {
        // No name of the language begins with a digit.
        let name = set_name(&self.sets.len().to_string());
        self.sets.push(NewSet { name: name.clone(), family, ranges: ranges.to_vec(), dynamic: None });
        name
    }
}

fn set_name(name: &str) -> String {
    [PREFIX, &String::from(LETTER), "_", name].concat()
}

/// The name of a chain by its number.
pub(super) fn chain_name(number: u32) -> String {
    [PREFIX, &String::from(LETTER), &number.to_string()].concat()
}

/// What may stand between quotes, and how much of it.
fn quoted(text: &str, max: usize) -> String {
    let mut out = String::from("\"");
    for c in text.chars().map(|c| if matches!(c, '"' | '\\') || c.is_control() { '\'' } else { c }) {
        if out.len() + c.len_utf8() > max + 1 {
            break;
        }
        out.push(c);
    }
    out + "\""
}

/// What is done to a packet: what it must be for that, and the target.
type Step = (&'static str, String);

impl Text {
    /// What cannot be said of the rule set, in the order of its rules.
    #[must_use]
    pub fn unsaid(&self) -> &[Unsaid] {
        &self.unsaid
    }

    pub(super) fn family(&mut self, family: Family) -> &mut FamilyText {
        let [v4, v6] = &mut self.families;
        if family == Family::V4 { v4 } else { v6 }
    }

    fn table(&mut self, (family, nat): (Family, bool)) -> &mut TableText {
        let [filter, translating] = &mut self.family(family).tables;
        if nat { translating } else { filter }
    }

    fn new_chain(&mut self, place: (Family, bool)) -> u32 {
        let table = self.table(place);
        table.chains += 1;
        table.chains - 1
    }

    fn line(&mut self, place: (Family, bool), (chain, origin): (u32, u32), parts: [&str; 2]) {
        let table = self.table(place);
        table.rules.extend(["-A ", &chain_name(chain), parts[0], parts[1], "\n"]);
        table.origins.push(origin);
    }

    fn say(&mut self, statement: u32, (key, why): (&'static str, &'static str), severity: Severity) {
        // A rule of both families says it twice.
        if !self.unsaid.iter().any(|known| known.statement == statement && known.key == key) {
            self.unsaid.push(Unsaid { statement, key, why, severity });
        }
    }

    /// The end of the rule set: what no rule decides on.
    pub(super) fn close(&mut self) {
        for (dir, policy) in Direction::ALL.into_iter().zip(std::mem::take(&mut self.policies)) {
            for family in Family::ALL.into_iter().filter(|_| policy == Some(Policy::Drop)) {
                let base = self.base_of(family, dir);
                self.line((family, false), (base, 0), ["", " -j DROP"]);
            }
        }
    }

    /// A number that stands for all of it, by which it is known again in the kernel.
    pub(crate) fn fingerprint(&mut self) -> u64 {
        self.close();
        let mut all = Family::ALL.map(|family| self.whole(family, LETTER).0).concat();
        for NewSet { name, family, ranges, .. } in &self.sets {
            all.extend([name.as_str(), if *family == Family::V4 { "4" } else { "6" }]);
            ranges.iter().for_each(|range| all.extend([" ", &range.to_string()]));
        }
        sip13(FINGERPRINT_KEY, all.as_bytes())
    }

    /// The chain of a direction.
    fn base_of(&mut self, family: Family, dir: Direction) -> u32 {
        let known = self.family(family).bases.get(dir as usize).copied().flatten();
        known.unwrap_or_else(|| {
            let number = self.new_chain((family, dir.is_nat()));
            self.family(family).bases.get_mut(dir as usize).into_iter().for_each(|s| *s = Some(number));
            number
        })
    }

    /// All of a family, with nothing that leads to it; and the statement of each line.
    pub(super) fn whole(&self, family: Family, letter: char) -> (String, Vec<u32>) {
        let (mut text, mut origins) = (String::new(), Vec::new());
        let [v4, v6] = &self.families;
        let tables = if family == Family::V4 { &v4.tables } else { &v6.tables };
        for (table, name) in tables.iter().zip(TABLES).filter(|(table, _)| table.chains > 0) {
            text.extend(["*", name, "\n"]);
            (0..table.chains).for_each(|n| text.extend([":", &chain_name(n), " - [0:0]\n"]));
            text.extend([&table.rules, "COMMIT\n"]);
            origins.extend(std::iter::repeat_n(0, table.chains as usize + 1));
            origins.extend(table.origins.iter().chain(&[0]));
        }
        (text.replace(LETTER, &String::from(letter)), origins)
    }

    /// A rule into a chain of a table.
    fn rule_into(&mut self, place: (Family, bool), chain: u32, rule: &Rule) {
        // Each protocol is a rule of its own: ports can be asked for of one only.
        let of_proto = |test: &Test| test.field == Field::Proto && !test.not;
        if let Some(Values::Ranges(all)) = rule.tests.iter().find(|t| of_proto(t)).map(|t| &t.values) {
            let mut one = rule.clone();
            one.tests.retain(|test| !of_proto(test));
            // They share what bounds them.
            self.limits += 1;
            self.shared = Some(self.limits);
            for number in all.iter().flat_map(|(first, last)| *first..=*last) {
                one.proto = u8::try_from(number).ok();
                self.rule_into(place, chain, &one);
            }
            self.shared = None;
            return;
        }
        let origin = rule.origin;
        let mut matches = Matches::of(rule, place.0, self);
        if let Some(unsaid) = matches.unsaid {
            self.say(origin, unsaid, Severity::Error);
        }
        if matches.never {
            return;
        }
        if !rule.comment.is_empty() {
            matches.plain += &option(Sense::Is, "comment", "comment", &quoted(&rule.comment, COMMENT_MAX));
        }
        let steps = self.steps(place, rule);
        // Ports, types of ICMP and some targets want the protocol to stand in the same rule.
        let proto = rule.proto.map(|n| [" -p ", &n.to_string()].concat()).unwrap_or_default();
        let (mut chain, mut plain) = (chain, matches.plain);
        for (sense, list) in matches.lists {
            let next = self.new_chain(place);
            let jump = [" -j ", &chain_name(next)].concat();
            for one in list {
                if sense == Sense::IsNot {
                    self.line(place, (next, origin), [&[&proto, &*one].concat(), " -j RETURN"]);
                } else {
                    self.line(place, (chain, origin), [&[plain.as_str(), &one].concat(), &jump]);
                }
            }
            if sense == Sense::IsNot {
                self.line(place, (chain, origin), [&plain, &jump]);
            }
            (chain, plain) = (next, proto.clone());
        }
        if let Some(limit) = &rule.limit {
            plain = self.limit(place, (chain, origin), plain, limit);
        }
        if steps.len() > 1 {
            let next = self.new_chain(place);
            self.line(place, (chain, origin), [&plain, &[" -j ", &chain_name(next)].concat()]);
            (chain, plain) = (next, proto.clone());
        }
        for (needs, target) in &steps {
            let needs = if proto.is_empty() { needs } else { needs.trim_start_matches(TCP) };
            self.line(place, (chain, origin), [&[&plain, needs].concat(), target]);
        }
    }

    /// What is done to packets, one after the other; at least one step.
    fn steps(&mut self, place: (Family, bool), rule: &Rule) -> Vec<Step> {
        let mut all = Vec::new();
        if let Some(prefix) = &rule.log {
            let [plain, group] = LOG_PREFIX_MAX;
            let (target, number, word, max) = match rule.log_to {
                LogTarget::Level(level) => {
                    (" -j LOG --log-level ", u16::from(level), " --log-prefix ", plain)
                }
                LogTarget::Group(number) => (" -j NFLOG --nflog-group ", number, " --nflog-prefix ", group),
            };
            if prefix.len() > max {
                self.say(
                    rule.origin,
                    ("log", "the prefix is cut: 29 bytes, or 63 to a group"),
                    Severity::Warning,
                );
            }
            all.push(("", [target, &number.to_string(), word, &quoted(prefix, max)].concat()));
        }
        for change in &rule.changes {
            all.push(match change {
                Change::Mark(value, mask) => {
                    ("", [" -j MARK --set-xmark ", &value.to_string(), "/", &mask.to_string()].concat())
                }
                Change::Mss(size) => {
                    let syn = " -p 6 -m tcp --tcp-flags SYN,RST SYN";
                    let clamp = " -j TCPMSS --clamp-mss-to-pmtu".to_owned();
                    let fixed = [" -j TCPMSS --set-mss ", &size.to_string()].concat();
                    (syn, if *size == 0 { clamp } else { fixed })
                }
                Change::Offload => {
                    self.say(rule.origin, ("offload", "it has no flow offload"), Severity::Error);
                    continue;
                }
                Change::Add(set, seconds) => {
                    let name = self.addresses(set.as_str());
                    // Its sources stand for themselves, not for the network of a bucket.
                    let made = self.sets.iter_mut().filter(|made| made.name == name);
                    made.for_each(|made| made.dynamic = Some(0));
                    ("", add(&name, *seconds))
                }
            });
        }
        let target = self.verdict(place, rule);
        match rule.verdict {
            PacketVerdict::Reject(Reject::Reset) => all.push((TCP, target)),
            PacketVerdict::Nat(nat) if nat.ports.is_some() && rule.proto.is_none() => {
                // Whoever led here has looked at the protocol; ports want to know it once more.
                WITH_PORTS.iter().for_each(|proto| all.push((proto, target.clone())));
            }
            _ if !target.is_empty() || all.is_empty() => all.push(("", target)),
            _ => {}
        }
        all
    }

    fn verdict(&mut self, place: (Family, bool), rule: &Rule) -> String {
        let fixed = match &rule.verdict {
            PacketVerdict::Accept => " -j ACCEPT",
            PacketVerdict::Drop => " -j DROP",
            PacketVerdict::Return => " -j RETURN",
            PacketVerdict::Next => "",
            PacketVerdict::Reject(Reject::Reset) => " -j REJECT --reject-with tcp-reset",
            PacketVerdict::Reject(Reject::PortUnreachable) if place.0 == Family::V4 => {
                " -j REJECT --reject-with icmp-port-unreachable"
            }
            PacketVerdict::Reject(Reject::PortUnreachable) => {
                " -j REJECT --reject-with icmp6-port-unreachable"
            }
            PacketVerdict::Jump(name) => return [" -j ", &chain_name(self.own(place, *name))].concat(),
            PacketVerdict::Nat(nat) => {
                let ports = nat.ports.map(|(a, b)| span(&a.to_string(), "-", &b.to_string()));
                let (target, word) = match nat.kind {
                    NatKind::Snat => (" -j SNAT", " --to-source "),
                    NatKind::Dnat => (" -j DNAT", " --to-destination "),
                    NatKind::Masquerade => (" -j MASQUERADE", " --to-ports "),
                    NatKind::Redirect => (" -j REDIRECT", " --to-ports "),
                };
                let to = nat.to.map(|range| span(&range.first().to_string(), "-", &range.last().to_string()));
                let braced = to.map(|to| if to.contains(':') { ["[", &to, "]"].concat() } else { to });
                let behind = matches!(nat.kind, NatKind::Snat | NatKind::Dnat) && ports.is_some();
                let all =
                    braced.unwrap_or_default() + if behind { ":" } else { "" } + &ports.unwrap_or_default();
                return [target, if all.is_empty() { "" } else { word }, &all].concat();
            }
        };
        fixed.to_owned()
    }

    /// The number of a chain that the plan has named, which is written first if it is not there.
    fn own(&mut self, place: (Family, bool), name: Name) -> u32 {
        let known = self.family(place.0).own.iter().find(|(n, nat, _)| (*n, *nat) == (name, place.1));
        if let Some((.., number)) = known {
            return *number;
        }
        let number = self.new_chain(place);
        self.family(place.0).own.push((name, place.1, number));
        let at = self.chains.iter().position(|(known, _)| *known == name);
        let rules = at.and_then(|at| self.chains.get_mut(at)).map(|(_, rules)| std::mem::take(rules));
        let rules = rules.unwrap_or_default();
        rules.iter().filter(|rule| fits(rule, place.0)).for_each(|rule| self.rule_into(place, number, rule));
        if let Some((_, slot)) = at.and_then(|at| self.chains.get_mut(at)) {
            *slot = rules;
        }
        number
    }

    /// The matches with a bound on how many packets pass them. Whom a set of buckets has no room for is under
    /// no limit.
    fn limit(&mut self, place: (Family, bool), at: (u32, u32), plain: String, limit: &Limit) -> String {
        let (v6, per) = (place.0 == Family::V6, u64::from(limit.rate.per));
        let side = if limit.over { "above " } else { "upto " };
        let count = limit.rate.packets.to_string();
        let mask = match (limit.set, v6) {
            (None, _) => "0",
            (Some(_), false) => "32",
            (Some(_), true) => "64",
        };
        if per == 0 {
            return plain
                + &[
                    " -m connlimit --connlimit-",
                    side,
                    &count,
                    " --connlimit-saddr --connlimit-mask ",
                    mask,
                ]
                .concat();
        }
        let unit = match per {
            1 => "/sec",
            60 => "/min",
            3600 => "/hour",
            _ => "/day",
        };
        let packets = u64::from(limit.rate.packets.max(1));
        let burst = u64::from(limit.burst).min((FULL_MAX * packets / per).max(1));
        if burst < u64::from(limit.burst) {
            self.say(
                at.1,
                ("limit", "the burst is less, so that an empty bucket is full after a day"),
                Severity::Warning,
            );
        }
        let full = burst * per / packets + 1;
        let mut number = self.shared.unwrap_or_else(|| {
            self.limits += 1;
            self.limits
        });
        let mut kind = "_";
        let (mut set, mut life, mut mode) = (String::new(), full.min(FULL_MAX), String::new());
        if let Some(name) = limit.set {
            // Rules that ask the same set share its buckets.
            if let Some(at) = self.buckets.iter().position(|(known, _)| *known == name) {
                life = self.buckets.get(at).map_or(life, |(_, life)| (*life).into());
                (number, kind) = (u32::try_from(at).unwrap_or(0), "s");
            }
            let name = self.addresses(name.as_str());
            self.line(place, at, [&plain, &add(&name, u32::try_from(life).unwrap_or(u32::MAX))]);
            set = option(Sense::Is, "set", "match-set", &name) + " src";
            mode = [" --hashlimit-mode srcip --hashlimit-srcmask ", mask].concat();
        }
        let life = (life * 1000).to_string();
        let bound = [
            &set,
            " -m hashlimit --hashlimit-",
            side,
            &count,
            unit,
            " --hashlimit-burst ",
            &burst.to_string(),
            &mode,
            " --hashlimit-name mefr_",
            &String::from(LETTER),
            kind,
            &number.to_string(),
            " --hashlimit-htable-max ",
            BUCKETS_MAX,
            " --hashlimit-htable-expire ",
            &life,
        ];
        plain + &bound.concat()
    }
}

/// A target that puts the source into a set, or has it stay there for longer.
fn add(set: &str, seconds: u32) -> String {
    [" -j SET --add-set ", set, " src --exist --timeout ", &seconds.to_string()].concat()
}

/// Whether a rule is about packets of a family.
fn fits(rule: &Rule, family: Family) -> bool {
    rule.family.is_none_or(|only| only == family)
}

impl Sink for Text {
    fn base(&mut self, direction: Direction, policy: Policy) {
        if let Some(slot) = self.policies.get_mut(direction as usize) {
            *slot = Some(policy);
            for family in Family::ALL {
                self.base_of(family, direction);
            }
        }
    }

    fn set(&mut self, set: &Set) {
        match &set.elements {
            Elements::Ports(ports) => self.ports.push((set.name, ports.clone())),
            Elements::Addresses(family, ranges) => {
                let (name, ranges) = (set_name(set.name.as_str()), ranges.clone());
                self.sets.push(NewSet { name, family: *family, ranges, dynamic: None });
            }
        }
    }

    fn foreign(&mut self, name: Name, set: &str) {
        if !self.foreign.iter().any(|(known, _)| *known == name) {
            self.foreign.push((name, set.to_owned()));
        }
    }

    fn buckets(&mut self, name: Name, family: Family, timeout: u32) {
        // Connections need no set: the kernel counts them.
        if timeout > 0 && !self.buckets.iter().any(|(known, _)| *known == name) {
            self.buckets.push((name, timeout));
            let bits = if family == Family::V6 { BUCKET_PREFIX } else { 0 };
            let name = set_name(name.as_str());
            self.sets.push(NewSet { name, family, ranges: Vec::new(), dynamic: Some(bits) });
        }
    }

    fn chain(&mut self, name: Name) {
        self.chains.push((name, Vec::new()));
    }

    fn rule(&mut self, chain: Chain, rule: &Rule) {
        self.rules += 1;
        match chain {
            Chain::Own(name) => {
                let known = self.chains.iter_mut().rev().find(|(known, _)| *known == name);
                known.into_iter().for_each(|(_, rules)| rules.push(rule.clone()));
            }
            Chain::Base(dir) => {
                for family in Family::ALL.into_iter().filter(|family| fits(rule, *family)) {
                    let base = self.base_of(family, dir);
                    self.rule_into((family, dir.is_nat()), base, rule);
                }
            }
        }
    }
}
