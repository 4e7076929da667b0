#![forbid(unsafe_code)]
//! What a rule of a plan asks of a packet, in the words of `iptables-restore`: what one rule there can ask
//! for stands in it, and of the rest each alternative is a rule of its own.

use crate::base::name::IfName;
use crate::base::range::{Family, Range};
use crate::plan::field::ROUTING_TYPE;
use crate::plan::{Addresses, Field, Interfaces, PacketSide, Ports, Rule, Test, Values, ct};

/// Ports that one rule can ask for; a range counts twice.
const MULTIPORT_MAX: usize = 15;
/// Networks of a list that are rules of their own; more of them become a set.
const NETS_MAX: usize = 4;
/// Words of what a rule asks for, of the 255 that `iptables-restore` takes; more are rules of their own.
const WORDS_MAX: usize = 100;
/// Bits of TCP flags that iptables has words for.
const FLAGS: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
/// Kinds of addresses, by their numbers.
const KINDS: [&str; 6] = ["UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST"];
const UNICAST: u128 = 1;
const BROADCAST: u128 = 3;
/// For whom frames are, by their numbers.
const PACKET_TYPES: [&str; 3] = ["unicast", "broadcast", "multicast"];
/// Extension headers by their numbers, and the modules that ask for them.
const HEADERS: [(u128, &str); 4] = [(0, "hbh"), (43, "rt"), (44, "frag"), (60, "dst")];
/// States of a connection, in the order of the bits of `plan::ct`.
const STATES: [&str; 7] = ["ESTABLISHED", "RELATED", "NEW", "INVALID", "UNTRACKED", "DNAT", "SNAT"];
const DAY_END: u128 = 86_399;

/// The words for the matches of one rule, for packets of one family.
#[derive(Default)]
pub(super) struct Matches {
    /// What every packet has to pass, at once.
    pub(super) plain: String,
    /// Lists: a packet has to pass one of each, or none of each.
    pub(super) lists: Vec<(Sense, Vec<String>)>,
    /// No packet can pass.
    pub(super) never: bool,
    /// What cannot be said: the key of the language, and why.
    pub(super) unsaid: Option<(&'static str, &'static str)>,
}

/// Whether a packet is to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    Is,
    IsNot,
}

impl Sense {
    fn from_not(not: bool) -> Sense {
        if not { Sense::IsNot } else { Sense::Is }
    }

    fn opposite(self) -> Sense {
        self.of(Sense::IsNot, Sense::Is)
    }

    /// Of two things, that for this one.
    fn of<T>(self, is: T, is_not: T) -> T {
        match self {
            Sense::Is => is,
            Sense::IsNot => is_not,
        }
    }
}

/// How often one rule there can ask for the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Once,
    Often,
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
pub(super) fn option(sense: Sense, module: &str, name: &str, value: &str) -> String {
    [" -m ", module, sense.of(" --", " ! --"), name, " ", value].concat()
}

/// What stands between: `a-b`, or `a` if that is all.
pub(super) fn span(first: &str, between: &str, last: &str) -> String {
    if first == last { first.to_owned() } else { [first, between, last].concat() }
}

impl Matches {
    pub(super) fn of(rule: &Rule, family: Family, names: &mut dyn Names) -> Matches {
        let mut this = Matches::default();
        if let Some(proto) = rule.proto {
            this.plain = protocol(proto.into(), family);
        }
        for (list, letter) in [(&rule.iif, "i"), (&rule.oif, "o")] {
            list.iter().for_each(|list| this.interfaces(list, letter));
        }
        for side in PacketSide::BOTH {
            match side.of(&rule.src, &rule.dst) {
                None => {}
                Some(Addresses::Set(set)) => this.set(Sense::Is, &names.addresses(set.as_str()), side),
                Some(Addresses::Ranges(ranges)) => this.addresses(Sense::Is, ranges, (family, side), names),
            }
            match side.of(&rule.sport, &rule.dport) {
                None => {}
                Some(Ports::Set(set)) => this.ports(Sense::Is, &names.ports(set.as_str()), side),
                Some(Ports::Ranges(ranges)) => this.ports(Sense::Is, ranges, side),
            }
        }
        if rule.ct != 0 {
            this.states(Sense::Is, rule.ct);
        }
        rule.tests.iter().for_each(|test| this.test(test, rule.proto, family, names));
        this
    }

    /// One of these, or none of these. Of what can stand in a rule once only, what is not to be is a list of
    /// rules, too.
    fn either(&mut self, sense: Sense, asks: Asks, mut all: Vec<String>) {
        match (sense, all.len()) {
            (Sense::Is, 0) => self.never = true,
            (Sense::Is, 1) => self.plain.extend(all.pop()),
            (Sense::IsNot, 0) => {}
            (Sense::IsNot, _) if asks == Asks::Often && self.has_room_for(&all) => self.plain.extend(all),
            (Sense::IsNot, _) if asks == Asks::Often => {
                // Whoever is one of them leaves the list.
                let is = |one: &String| one.replace(" ! --", " --");
                self.lists.push((sense, all.iter().map(is).collect()));
            }
            _ => self.lists.push((sense, all)),
        }
    }

    /// Whether one rule can ask for all of these, too.
    fn has_room_for(&self, all: &[String]) -> bool {
        let words = all.iter().chain([&self.plain]).map(|text| text.matches(' ').count());
        words.sum::<usize>() <= WORDS_MAX
    }

    fn interfaces(&mut self, list: &Interfaces, letter: &str) {
        let word = |name: &IfName| [" -", letter, " ", &name.as_str().replace('*', "+")].concat();
        let sense = Sense::from_not(list.not);
        let plus = list.names.iter().any(|name| name.as_str().trim_end_matches('*').ends_with('+'));
        if plus {
            self.unsaid = Some((if letter == "i" { "iif" } else { "oif" }, "a + ends wildcards there"));
        }
        match list.names.as_slice() {
            [one] if sense == Sense::IsNot => self.plain.extend([" !", &word(one)]),
            all => self.either(sense, Asks::Once, all.iter().map(word).collect()),
        }
        if list.except_lo {
            self.lists.push((Sense::IsNot, vec![[" -", letter, " lo"].concat()]));
        }
    }

    fn set(&mut self, sense: Sense, set: &str, side: PacketSide) {
        self.plain += &option(sense, "set", "match-set", set);
        // A set of others may have a port and one more address beside it.
        self.plain += match set.starts_with(super::written::PREFIX) {
            true => side.of(" src", " dst"),
            false => side.of(" src,dst,dst", " dst,dst,src"),
        };
    }

    fn addresses(
        &mut self,
        sense: Sense,
        ranges: &[Range],
        (family, side): (Family, PacketSide),
        names: &mut dyn Names,
    ) {
        if ranges.len() > NETS_MAX {
            return self.set(sense, &names.list(family, ranges), side);
        }
        let (letter, word) = side.of((" -s ", "src-range"), (" -d ", "dst-range"));
        let one = |range: &Range| match range.as_net() {
            Some(net) if sense == Sense::Is => [letter, &net.to_string()].concat(),
            _ => {
                let (first, last) = (range.first().to_string(), range.last().to_string());
                option(sense, "iprange", word, &[&first, "-", &last].concat())
            }
        };
        self.either(sense, Asks::Often, ranges.iter().map(one).collect());
    }

    fn ports(&mut self, sense: Sense, mut ranges: &[(u16, u16)], side: PacketSide) {
        let (mut all, word) = (Vec::new(), side.of("sports", "dports"));
        while !ranges.is_empty() {
            let mut slots = 0;
            let fits = |(first, last): &&(u16, u16)| {
                slots += if first == last { 1 } else { 2 };
                slots <= MULTIPORT_MAX
            };
            let (some, rest) = ranges.split_at(ranges.iter().take_while(fits).count().max(1));
            all.push(option(
                sense,
                "multiport",
                word,
                &joined(some, &|a, b| span(&number(a), ":", &number(b))),
            ));
            ranges = rest;
        }
        self.either(sense, Asks::Often, all);
    }

    fn states(&mut self, sense: Sense, bits: u8) {
        let words: Vec<&str> = set_words(&STATES, bits.into());
        self.plain += &option(sense, "conntrack", "ctstate", &words.join(","));
    }

    /// A condition on a field.
    fn test(&mut self, test: &Test, proto: Option<u8>, family: Family, names: &mut dyn Names) {
        let side = match test.field {
            Field::Src | Field::Sport | Field::SrcKind => PacketSide::Source,
            _ => PacketSide::Destination,
        };
        let sense = Sense::from_not(test.not);
        let ranges = match (&test.values, test.field) {
            (Values::Set(set), Field::Src | Field::Dst) => {
                return self.set(sense, &names.addresses(set.as_str()), side);
            }
            (Values::Set(set), _) => return self.ports(sense, &names.ports(set.as_str()), side),
            (Values::Ranges(ranges), _) => ranges.as_slice(),
        };
        let value = ranges.first().map_or(0, |(first, _)| *first);
        match test.field {
            Field::Src | Field::Dst => {
                let ranges: Vec<Range> =
                    ranges.iter().filter_map(|numbers| Range::of_numbers(family, *numbers)).collect();
                self.addresses(sense, &ranges, (family, side), names);
            }
            Field::Sport | Field::Dport => {
                let port = |n: u128| u16::try_from(n).unwrap_or(u16::MAX);
                let ranges: Vec<(u16, u16)> = ranges.iter().map(|(a, b)| (port(*a), port(*b))).collect();
                self.ports(sense, &ranges, side);
            }
            Field::Proto => {
                let all: Vec<String> = each(ranges).iter().map(|n| protocol(*n, family)).collect();
                match all.as_slice() {
                    [one] if sense == Sense::IsNot && one.starts_with(" -p") => {
                        self.plain.extend([" !", one]);
                    }
                    _ => self.either(sense, Asks::Once, all),
                }
            }
            Field::Flags => self.flags(sense, value, test.mask),
            Field::Mark => {
                let mask = if test.mask > 0 { test.mask } else { u128::from(u32::MAX) };
                self.plain += &option(sense, "mark", "mark", &[&number(value), "/", &number(mask)].concat());
            }
            // Which of the bits are set.
            Field::Status => {
                let bits = u8::try_from((test.mask & 16) << 2 | test.mask & 32).unwrap_or(0);
                self.states(sense.opposite(), bits & (ct::DNAT | ct::SNAT));
            }
            Field::SrcKind | Field::DstKind => self.kinds(sense, ranges, side, family),
            Field::Day => {
                let days = joined_each(ranges, &DAYS);
                self.plain += &option(sense, "time", "weekdays", &days);
            }
            Field::Time => self.times(sense, ranges),
            // A rule set with frames is refused as a whole.
            Field::Ether | Field::Vlan => {}
            Field::WayBack => {
                self.unsaid = Some(("rpf", "only other tables can check the way back"));
            }
            Field::PacketType if ranges.iter().any(|(_, last)| *last > 2) => {
                self.unsaid = Some(("pkttype", "frames for others have no name there"));
            }
            Field::Header => match HEADERS.iter().find(|(number, _)| value & 0xff == *number) {
                Some((_, module)) => {
                    self.plain += &[" -m ", module].concat();
                    if value & ROUTING_TYPE != 0 {
                        self.plain +=
                            &[sense.of(" --", " ! --"), "rt-type ", &number(value >> 8 & 0x7f)].concat();
                    } else if test.not {
                        self.unsaid = Some(("exthdr", "what is not there cannot be asked for there"));
                    }
                }
                None => self.unsaid = Some(("exthdr", "it cannot ask for this header alone")),
            },
            Field::Icmp
            | Field::Uid
            | Field::Gid
            | Field::Dscp
            | Field::Ttl
            | Field::Mac
            | Field::PacketType => {
                self.values(test.field, sense, ranges, (family, proto));
            }
        }
    }

    /// Fields of which one rule asks for one value, or one range.
    fn values(
        &mut self,
        field: Field,
        sense: Sense,
        ranges: &[(u128, u128)],
        (family, proto): (Family, Option<u8>),
    ) {
        let (module, name) = match field {
            Field::Icmp if proto == Some(58) => ("icmp6", "icmpv6-type"),
            Field::Icmp => ("icmp", "icmp-type"),
            Field::Uid => ("owner", "uid-owner"),
            Field::Gid => ("owner", "gid-owner"),
            Field::Dscp => ("dscp", "dscp"),
            Field::Ttl if family == Family::V6 => ("hl", "hl-eq"),
            Field::Ttl => ("ttl", "ttl-eq"),
            Field::PacketType => ("pkttype", "pkt-type"),
            _ => ("mac", "mac-source"),
        };
        let owner = module == "owner";
        if field == Field::Icmp && (module == "icmp6") != (family == Family::V6) {
            // A group has rules for packets of either family.
            self.never = true;
        }
        let all: Vec<String> = if owner {
            let range = |(a, b): &(u128, u128)| span(&number(*a), "-", &number(*b));
            ranges.iter().map(|range_of| option(sense, module, name, &range(range_of))).collect()
        } else {
            let word = |n: u128| match field {
                Field::Mac => mac(n),
                Field::PacketType => word(&PACKET_TYPES, n).to_owned(),
                _ => number(n),
            };
            each(ranges).into_iter().map(|n| option(sense, module, name, &word(n))).collect()
        };
        // A packet that no socket sends has no owner, of whom it could be said who he is not.
        if owner && sense == Sense::IsNot {
            self.plain += " -m owner --socket-exists";
        }
        if field == Field::Icmp && ranges.iter().any(|(_, last)| *last == 255) {
            self.unsaid = Some(("icmp", "type 255 stands for every type there"));
        }
        self.either(sense, Asks::Often, all);
    }

    fn flags(&mut self, sense: Sense, value: u128, mask: u128) {
        let known = (1 << FLAGS.len()) - 1;
        let mask = if mask == 0 { 255 } else { mask };
        if mask & !known != 0 {
            self.unsaid = Some(("flags", "ecn and cwr have no names there"));
        }
        let words = |bits: u128| {
            let words = set_words(&FLAGS, bits);
            if words.is_empty() { "NONE".to_owned() } else { words.join(",") }
        };
        self.plain += &option(sense, "tcp", "tcp-flags", &[&words(mask), " ", &words(value)].concat());
    }

    fn kinds(&mut self, sense: Sense, ranges: &[(u128, u128)], side: PacketSide, family: Family) {
        let mut known = each(ranges);
        known.retain(|n| family == Family::V4 || *n != BROADCAST);
        if known.is_empty() {
            // IPv6 has no broadcasts.
            self.never |= sense == Sense::Is;
            return;
        }
        let name = side.of("src-type", "dst-type");
        if family == Family::V6 && (known.len() > 1 || known.contains(&UNICAST)) {
            // There a list means all of its kinds at once, and what is local is unicast, too.
            let is = |sense, kind: &str| option(sense, "addrtype", name, kind);
            let one = |n: &u128| match word(&KINDS, *n) {
                "UNICAST" => [("UNICAST", Sense::Is), ("LOCAL", Sense::IsNot), ("ANYCAST", Sense::IsNot)]
                    .map(|(kind, sense)| is(sense, kind))
                    .concat(),
                kind => is(Sense::Is, kind),
            };
            return self.either(sense, Asks::Once, known.iter().map(one).collect());
        }
        let words: Vec<&str> = known.iter().map(|n| word(&KINDS, *n)).collect();
        self.plain += &option(sense, "addrtype", name, &words.join(","));
    }

    fn times(&mut self, sense: Sense, ranges: &[(u128, u128)]) {
        let mut outside = Vec::new();
        if sense == Sense::IsNot {
            let mut next = 0;
            for (first, last) in ranges {
                outside.extend(first.checked_sub(1).filter(|end| next <= *end).map(|end| (next, end)));
                next = last + 1;
            }
            outside.extend((next <= DAY_END).then_some((next, DAY_END)));
        }
        let one = |(first, last): &(u128, u128)| {
            option(Sense::Is, "time", "timestart", &[&clock(*first), " --timestop ", &clock(*last)].concat())
        };
        let ranges = sense.of(ranges, outside.as_slice());
        self.either(Sense::Is, Asks::Often, ranges.iter().map(one).collect());
    }
}

/// Asks for a protocol. In IPv6, the one of AH is looked through there, and its header is asked for.
fn protocol(proto: u128, family: Family) -> String {
    const AH: u128 = 51;
    if (proto, family) == (AH, Family::V6) { " -m ah".to_owned() } else { [" -p ", &number(proto)].concat() }
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
