#![forbid(unsafe_code)]
//! A plan as texts for `iptables-restore`: chains of the tables filter and nat, and the sets that they ask,
//! under names that say which rule set they are of. Nothing here leads packets to them.

use super::spell::{Matches, Names, Sense, option};
use super::target::TCP;
use crate::base::diag::Severity;
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::base::siphash::sip13;
use crate::plan::{Chain, Direction, Elements, Field, Policy, Rule, Set, Sink, Test, Values};

/// Stands for the letter of the rule set until it is known which is free.
pub(super) const LETTER: char = '\u{1}';
/// What the names of chains and sets of rule sets begin with; with the letter behind it those of one.
pub(super) const PREFIX: &str = "mefr_";
/// Bytes of a comment.
const COMMENT_MAX: usize = 200;
/// Bits of an IPv6 address that share one bucket.
pub(super) const BUCKET_PREFIX: u8 = 64;
/// Nobody is to be kept from making two rule sets alike; it is about accidents.
const FINGERPRINT_KEY: [u64; 2] = [0x6d65_6620_7275_6c65, 0x7320_6c6f_6164_6564];
/// The tables, in the order of [`TableKind`].
pub(super) const TABLES: [&str; 2] = ["filter", "nat"];

/// A table, by what its rules do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TableKind {
    /// They let pass or drop.
    Filter,
    /// They translate addresses.
    Nat,
}

/// A table of a family.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) family: Family,
    table: TableKind,
}

impl Place {
    fn of(family: Family, dir: Direction) -> Place {
        Place { family, table: if dir.is_nat() { TableKind::Nat } else { TableKind::Filter } }
    }
}

/// A chain of the plan that was written into a table.
struct WrittenChain {
    name: Name,
    table: TableKind,
    number: u32,
}

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
    own: Vec<WrittenChain>,
}

/// A rule set as it is being written.
#[derive(Default)]
pub struct Text {
    pub(super) families: [FamilyText; 2],
    pub(super) sets: Vec<NewSet>,
    policies: [Option<Policy>; 3],
    ports: Vec<(Name, Vec<(u16, u16)>)>,
    /// The seconds that each of these sets remembers somebody.
    pub(super) buckets: Vec<(Name, u32)>,
    /// Sets of other programs.
    foreign: Vec<(Name, String)>,
    /// Chains that rules lead to, written where they do.
    chains: Vec<(Name, Vec<Rule>)>,
    pub(super) limits: u32,
    /// The number of the limit that parts of one rule share.
    pub(super) shared: Option<u32>,
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
pub(super) fn quoted(text: &str, max: usize) -> String {
    let mut out = String::from("\"");
    for c in text.chars().map(|c| if matches!(c, '"' | '\\') || c.is_control() { '\'' } else { c }) {
        if out.len() + c.len_utf8() > max + 1 {
            break;
        }
        out.push(c);
    }
    out + "\""
}

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

    fn table(&mut self, place: Place) -> &mut TableText {
        let [filter, nat] = &mut self.family(place.family).tables;
        match place.table {
            TableKind::Filter => filter,
            TableKind::Nat => nat,
        }
    }

    fn new_chain(&mut self, place: Place) -> u32 {
        let table = self.table(place);
        table.chains += 1;
        table.chains - 1
    }

    pub(super) fn line(&mut self, place: Place, (chain, origin): (u32, u32), parts: [&str; 2]) {
        let table = self.table(place);
        table.rules.extend(["-A ", &chain_name(chain), parts[0], parts[1], "\n"]);
        table.origins.push(origin);
    }

    pub(super) fn say(
        &mut self,
        statement: u32,
        (key, why): (&'static str, &'static str),
        severity: Severity,
    ) {
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
                self.line(Place::of(family, dir), (base, 0), ["", " -j DROP"]);
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
            let number = self.new_chain(Place::of(family, dir));
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
    fn rule_into(&mut self, place: Place, chain: u32, rule: &Rule) {
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
        let mut matches = Matches::of(rule, place.family, self);
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

    /// The number of a chain that the plan has named, which is written first if it is not there.
    pub(super) fn own(&mut self, place: Place, name: Name) -> u32 {
        let table = place.table;
        let known = self.family(place.family).own.iter().find(|own| own.name == name && own.table == table);
        if let Some(known) = known {
            return known.number;
        }
        let number = self.new_chain(place);
        self.family(place.family).own.push(WrittenChain { name, table, number });
        let at = self.chains.iter().position(|(known, _)| *known == name);
        let rules = at.and_then(|at| self.chains.get_mut(at)).map(|(_, rules)| std::mem::take(rules));
        let rules = rules.unwrap_or_default();
        rules
            .iter()
            .filter(|rule| fits(rule, place.family))
            .for_each(|rule| self.rule_into(place, number, rule));
        if let Some((_, slot)) = at.and_then(|at| self.chains.get_mut(at)) {
            *slot = rules;
        }
        number
    }
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
            // Only what was read back is so.
            Elements::Many(..) => {}
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
                    self.rule_into(Place::of(family, dir), base, rule);
                }
            }
        }
    }
}
