#![forbid(unsafe_code)]
//! What a rule of a plan asks of a packet, in the words of `iptables-restore`: what one rule there can ask
//! for stands in it, and of the rest each alternative is a rule of its own.

use crate::base::name::IfName;
use crate::base::range::{Family, Range};
use crate::plan::{Addresses, Field, Interfaces, Ports, Rule, Test, Values, ct};

/// Ports that one rule can ask for; a range counts twice.
const MULTIPORT_MAX: usize = 15;
/// Networks of a list that are rules of their own; more of them become a set.
const NETS_MAX: usize = 4;
/// Bits of TCP flags that iptables has words for.
const FLAGS: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
/// Kinds of addresses, by their numbers.
const KINDS: [&str; 6] = ["UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST"];
const BROADCAST: u128 = 3;
/// States of a connection, in the order of the bits of `plan::ct`.
const STATES: [&str; 7] = ["ESTABLISHED", "RELATED", "NEW", "INVALID", "UNTRACKED", "DNAT", "SNAT"];
const DAY_END: u128 = 86_399;

/// The words for the matches of one rule, for packets of one family.
#[derive(Default)]
pub(super) struct Matches {
    /// What every packet has to pass, at once.
    pub(super) plain: String,
    /// Lists: a packet has to pass one of each, or (`true`) none of each.
    pub(super) lists: Vec<(bool, Vec<String>)>,
    /// No packet can pass.
    pub(super) never: bool,
    /// What cannot be said: the key of the language, and why.
    pub(super) unsaid: Option<(&'static str, &'static str)>,
}

/// What is known of named sets.
pub(super) trait Names {
    /// The ports of a set.
    fn ports(&self, set: &str) -> Vec<(u16, u16)>;
    /// The name of a set of addresses in the kernel.
    fn addresses(&self, set: &str) -> String;
    /// Makes a set for one rule.
    fn list(&mut self, family: Family, ranges: &[Range]) -> String;
}

/// An option of a module, or what is not to be so.
pub(super) fn option(not: bool, module: &str, name: &str, value: &str) -> String {
    [" -m ", module, if not { " ! --" } else { " --" }, name, " ", value].concat()
}

/// What stands between: `a-b`, or `a` if that is all.
pub(super) fn span(first: &str, between: &str, last: &str) -> String {
    if first == last { first.to_owned() } else { [first, between, last].concat() }
}

impl Matches {
    pub(super) fn of(rule: &Rule, family: Family, names: &mut dyn Names) -> Matches {
        let mut this = Matches::default();
        if let Some(proto) = rule.proto {
            this.plain = [" -p ", &proto.to_string()].concat();
        }
        for (list, letter) in [(&rule.iif, "i"), (&rule.oif, "o")] {
            list.iter().for_each(|list| this.interfaces(list, letter));
        }
        for (list, is_source) in [(&rule.src, true), (&rule.dst, false)] {
            match list {
                None => {}
                Some(Addresses::Set(set)) => this.set(false, &names.addresses(set.as_str()), is_source),
                Some(Addresses::Ranges(ranges)) => this.addresses(false, ranges, (family, is_source), names),
            }
        }
        for (list, is_source) in [(&rule.sport, true), (&rule.dport, false)] {
            match list {
                None => {}
                Some(Ports::Set(set)) => this.ports(false, &names.ports(set.as_str()), is_source),
                Some(Ports::Ranges(ranges)) => this.ports(false, ranges, is_source),
            }
        }
        if rule.ct != 0 {
            this.states(false, rule.ct);
        }
        rule.tests.iter().for_each(|test| this.test(test, rule.proto, family, names));
        this
    }

    /// One of these, or none of these. Of what can stand in a rule once only, what is not to be is a list of
    /// rules, too.
    fn either(&mut self, not: bool, once: bool, mut all: Vec<String>) {
        match (not, all.len()) {
            (false, 0) => self.never = true,
            (false, 1) => self.plain.extend(all.pop()),
            (false, _) => self.lists.push((false, all)),
            (true, _) if !once => self.plain.extend(all),
            (true, 0) => {}
            (true, _) => self.lists.push((true, all)),
        }
    }

    fn interfaces(&mut self, list: &Interfaces, letter: &str) {
        let word = |name: &IfName| [" -", letter, " ", &name.as_str().replace('*', "+")].concat();
        let plus = list.names.iter().any(|name| name.as_str().trim_end_matches('*').ends_with('+'));
        if plus {
            self.unsaid = Some((if letter == "i" { "iif" } else { "oif" }, "a + ends wildcards there"));
        }
        match list.names.as_slice() {
            [one] if list.not => self.plain.extend([" !", &word(one)]),
            all => self.either(list.not, true, all.iter().map(word).collect()),
        }
        if list.except_lo {
            self.lists.push((true, vec![[" -", letter, " lo"].concat()]));
        }
    }

    fn set(&mut self, not: bool, set: &str, is_source: bool) {
        self.plain += &option(not, "set", "match-set", set);
        // A set of others may have a port and one more address beside it.
        self.plain += match (set.starts_with(super::written::PREFIX), is_source) {
            (true, true) => " src",
            (true, false) => " dst",
            (false, true) => " src,dst,dst",
            (false, false) => " dst,dst,src",
        };
    }

    fn addresses(
        &mut self,
        not: bool,
        ranges: &[Range],
        (family, is_source): (Family, bool),
        names: &mut dyn Names,
    ) {
        if ranges.len() > NETS_MAX {
            return self.set(not, &names.list(family, ranges), is_source);
        }
        let (letter, word) = if is_source { (" -s ", "src-range") } else { (" -d ", "dst-range") };
        let one = |range: &Range| match range.as_net() {
            Some(net) if !not => [letter, &net.to_string()].concat(),
            _ => {
                let (first, last) = (range.first().to_string(), range.last().to_string());
                option(not, "iprange", word, &[&first, "-", &last].concat())
            }
        };
        self.either(not, false, ranges.iter().map(one).collect());
    }

    fn ports(&mut self, not: bool, mut ranges: &[(u16, u16)], is_source: bool) {
        let (mut all, word) = (Vec::new(), if is_source { "sports" } else { "dports" });
        while !ranges.is_empty() {
            let mut slots = 0;
            let fits = |(first, last): &&(u16, u16)| {
                slots += if first == last { 1 } else { 2 };
                slots <= MULTIPORT_MAX
            };
            let (some, rest) = ranges.split_at(ranges.iter().take_while(fits).count().max(1));
            all.push(option(
                not,
                "multiport",
                word,
                &joined(some, &|a, b| span(&number(a), ":", &number(b))),
            ));
            ranges = rest;
        }
        self.either(not, false, all);
    }

    fn states(&mut self, not: bool, bits: u8) {
        let words: Vec<&str> = set_words(&STATES, bits.into());
        self.plain += &option(not, "conntrack", "ctstate", &words.join(","));
    }

    /// A condition on a field.
    fn test(&mut self, test: &Test, proto: Option<u8>, family: Family, names: &mut dyn Names) {
        let is_source = matches!(test.field, Field::Src | Field::Sport | Field::SrcKind);
        let ranges = match (&test.values, test.field) {
            (Values::Set(set), Field::Src | Field::Dst) => {
                return self.set(test.not, &names.addresses(set.as_str()), is_source);
            }
            (Values::Set(set), _) => return self.ports(test.not, &names.ports(set.as_str()), is_source),
            (Values::Ranges(ranges), _) => ranges.as_slice(),
        };
        let value = ranges.first().map_or(0, |(first, _)| *first);
        let not = test.not;
        match test.field {
            Field::Src | Field::Dst => {
                let ranges: Vec<Range> =
                    ranges.iter().filter_map(|numbers| Range::of_numbers(family, *numbers)).collect();
                self.addresses(not, &ranges, (family, is_source), names);
            }
            Field::Sport | Field::Dport => {
                let port = |n: u128| u16::try_from(n).unwrap_or(u16::MAX);
                let ranges: Vec<(u16, u16)> = ranges.iter().map(|(a, b)| (port(*a), port(*b))).collect();
                self.ports(not, &ranges, is_source);
            }
            Field::Proto => {
                let all: Vec<String> =
                    each(ranges).iter().map(|n| [" -p ", &n.to_string()].concat()).collect();
                match all.as_slice() {
                    [one] if not => self.plain.extend([" !", one]),
                    _ => self.either(not, true, all),
                }
            }
            Field::Flags => self.flags(not, value, test.mask),
            Field::Mark => {
                let mask = if test.mask > 0 { test.mask } else { u128::from(u32::MAX) };
                self.plain += &option(not, "mark", "mark", &[&number(value), "/", &number(mask)].concat());
            }
            // Which of the bits are set.
            Field::Status => {
                let bits = u8::try_from((test.mask & 16) << 2 | test.mask & 32).unwrap_or(0);
                self.states(!not, bits & (ct::DNAT | ct::SNAT));
            }
            Field::SrcKind | Field::DstKind => self.kinds(not, ranges, is_source, family),
            Field::Day => {
                let days = joined_each(ranges, &DAYS);
                self.plain += &option(not, "time", "weekdays", &days);
            }
            Field::Time => self.times(not, ranges),
            Field::WayBack => {
                self.unsaid = Some(("rpf", "the way back can be asked for in other tables alone"));
            }
            Field::Icmp | Field::Uid | Field::Gid | Field::Dscp | Field::Mac => {
                self.values(test.field, not, ranges, (family, proto));
            }
        }
    }

    /// Fields of which one rule asks for one value, or one range.
    fn values(
        &mut self,
        field: Field,
        not: bool,
        ranges: &[(u128, u128)],
        (family, proto): (Family, Option<u8>),
    ) {
        let (module, name) = match field {
            Field::Icmp if proto == Some(58) => ("icmp6", "icmpv6-type"),
            Field::Icmp => ("icmp", "icmp-type"),
            Field::Uid => ("owner", "uid-owner"),
            Field::Gid => ("owner", "gid-owner"),
            Field::Dscp => ("dscp", "dscp"),
            _ => ("mac", "mac-source"),
        };
        let owner = module == "owner";
        if field == Field::Icmp && (module == "icmp6") != (family == Family::V6) {
            // A group has rules for packets of either family.
            self.never = true;
        }
        let all: Vec<String> = if owner {
            let range = |(a, b): &(u128, u128)| span(&number(*a), "-", &number(*b));
            ranges.iter().map(|range_of| option(not, module, name, &range(range_of))).collect()
        } else {
            let word = |n: u128| if field == Field::Mac { mac(n) } else { number(n) };
            each(ranges).into_iter().map(|n| option(not, module, name, &word(n))).collect()
        };
        // A packet that no socket sends has no owner, of whom it could be said who he is not.
        if owner && not {
            self.plain += " -m owner --socket-exists";
        }
        if field == Field::Icmp && ranges.iter().any(|(_, last)| *last == 255) {
            self.unsaid = Some(("icmp", "type 255 stands for every type there"));
        }
        self.either(not, false, all);
    }

    fn flags(&mut self, not: bool, value: u128, mask: u128) {
        let known = (1 << FLAGS.len()) - 1;
        let mask = if mask == 0 { 255 } else { mask };
        if mask & !known != 0 {
            self.unsaid = Some(("flags", "ecn and cwr have no names there"));
        }
        let words = |bits: u128| {
            let words = set_words(&FLAGS, bits);
            if words.is_empty() { "NONE".to_owned() } else { words.join(",") }
        };
        self.plain += &option(not, "tcp", "tcp-flags", &[&words(mask), " ", &words(value)].concat());
    }

    fn kinds(&mut self, not: bool, ranges: &[(u128, u128)], is_source: bool, family: Family) {
        let mut known = each(ranges);
        known.retain(|n| family == Family::V4 || *n != BROADCAST);
        if known.is_empty() {
            // IPv6 has no broadcasts.
            self.never |= !not;
            return;
        }
        let words: Vec<&str> = known.iter().map(|n| word(&KINDS, *n)).collect();
        let name = if is_source { "src-type" } else { "dst-type" };
        self.plain += &option(not, "addrtype", name, &words.join(","));
    }

    fn times(&mut self, not: bool, ranges: &[(u128, u128)]) {
        let mut outside = Vec::new();
        if not {
            let mut next = 0;
            for (first, last) in ranges {
                outside.extend(first.checked_sub(1).filter(|end| next <= *end).map(|end| (next, end)));
                next = last + 1;
            }
            outside.extend((next <= DAY_END).then_some((next, DAY_END)));
        }
        let one = |(first, last): &(u128, u128)| {
            option(false, "time", "timestart", &[&clock(*first), " --timestop ", &clock(*last)].concat())
        };
        let ranges = if not { outside.as_slice() } else { ranges };
        self.either(false, false, ranges.iter().map(one).collect());
    }
}

/// A number in words for a list: `0x` is understood where marks stand, and nowhere else.
fn number(n: impl Into<u128>) -> String {
    let n: u128 = n.into();
    n.to_string()
}

fn word<'w>(words: &[&'w str], at: u128) -> &'w str {
    usize::try_from(at).ok().and_then(|at| words.get(at)).copied().unwrap_or("")
}

/// The words of the bits that are set.
fn set_words<'w>(words: &[&'w str], bits: u128) -> Vec<&'w str> {
    words.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, word)| *word).collect()
}

fn joined_each(ranges: &[(u128, u128)], words: &[&str]) -> String {
    each(ranges).into_iter().map(|n| word(words, n)).collect::<Vec<_>>().join(",")
}

fn joined(ranges: &[(u16, u16)], one: &dyn Fn(u16, u16) -> String) -> String {
    ranges.iter().map(|(first, last)| one(*first, *last)).collect::<Vec<_>>().join(",")
}

/// Every number; what has so many that it matters has no ranges.
fn each(ranges: &[(u128, u128)]) -> Vec<u128> {
    let mut all = Vec::new();
    ranges.iter().for_each(|(first, last)| all.extend(*first..=*last));
    all
}

fn mac(n: u128) -> String {
    let bytes = (0..6).map(|at| {
        let byte = n >> (40 - at * 8) & 0xff;
        [16, 1].map(|unit| char::from_digit(u32::try_from(byte / unit % 16).unwrap_or(0), 16).unwrap_or('0'))
    });
    bytes.map(String::from_iter).collect::<Vec<_>>().join(":")
}

fn clock(seconds: u128) -> String {
    let parts = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    parts.map(|part| [if part < 10 { "0" } else { "" }, &part.to_string()].concat()).join(":")
}
