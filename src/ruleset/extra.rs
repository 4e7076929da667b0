#![forbid(unsafe_code)]
//! The keys of rules that look at one number each, or set one: a row for each of them, which says how its
//! values are written and what it goes together with. Reading, printing and compiling walk the table.

use super::ast::{Action, Extra, RuleStatement, not, proto};
use super::extra_words::{
    DAYS, DSCP, ETHER_TYPES, FLAGS, HEADERS, ICMP_WORD, ICMP_WORDS, KINDS, LEVELS, PACKET_TYPES, PICKS,
    REFUSALS, ROUTING_TYPE,
};
pub use super::extra_words::{ETHER_IP, ETHER_IP6, ICMP_TYPES, WEEK};
use super::value;
use super::words::expected;
use crate::base::diag::{Bad, Checked};
use crate::base::range::Family;
use crate::plan::{Direction, Field};
use std::fmt::{Display, Formatter, Result, Write};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A comma list of words, numbers and ranges.
    List,
    /// One word or number.
    One,
    /// One word, which may be excepted.
    Header,
    /// Value and mask, numbers.
    Bits,
    /// Value and mask, comma lists of words.
    Flags,
    /// A comma list of six hexadecimal bytes each.
    Mac,
    /// A comma list of from-to in hours and minutes.
    Time,
    /// A number, with `/src` behind it or not.
    Count,
}

/// What a rule needs for a key to mean something; more than one may be needed.
pub const ICMP: u16 = 1;
const TCP: u16 = 2;
const SENDS: u16 = 4;
const COMES_IN: u16 = 8;
const LOG: u16 = 16;
const FORWARDS: u16 = 32;
const THROUGH: u16 = 64;
const FRAMES: u16 = 128;
const ROUTED: u16 = 256;
const REJECT: u16 = 512;
const NAT: u16 = 1024;

/// One key.
pub struct Row {
    /// Its name.
    pub key: &'static str,
    /// How its values are written.
    pub form: Form,
    /// The field that it looks at, if it looks at one.
    pub field: Option<Field>,
    /// Words for numbers.
    pub words: &'static [(&'static str, u64)],
    /// Greatest number.
    pub max: u64,
    /// What a value is.
    noun: &'static str,
    needs: u16,
}

const fn row(key: &'static str, form: Form, field: Option<Field>, max: u64, noun: &'static str) -> Row {
    Row { key, form, field, words: &[], max, noun, needs: 0 }
}

/// Places in `ROWS`.
pub mod at {
    #![allow(missing_docs, reason = "the names are the keys")]
    pub const ICMP: u8 = 0;
    pub const UID: u8 = 3;
    pub const GID: u8 = 4;
    pub const DSCP: u8 = 5;
    pub const RPF: u8 = 9;
    pub const CONNS: u8 = 10;
    pub const LEVEL: u8 = 11;
    pub const GROUP: u8 = 12;
    pub const SET_MARK: u8 = 13;
    pub const MSS: u8 = 14;
    pub const OFFLOAD: u8 = 15;
    pub const ETHER: u8 = 16;
    pub const TTL: u8 = 18;
    pub const SRC_KIND: u8 = 20;
    pub const DST_KIND: u8 = 21;
    pub const EXTHDR: u8 = 22;
    pub const WITH: u8 = 23;
    pub const PICK: u8 = 24;
}

/// How many keys there are.
pub const LEN: usize = 25;

/// Every key, in the order in which they are printed.
pub const ROWS: [Row; LEN] = [
    Row {
        words: &ICMP_WORDS,
        needs: ICMP,
        ..row("icmp", Form::List, Some(Field::Icmp), 255, "type of ICMP")
    },
    Row { words: &FLAGS, needs: TCP, ..row("flags", Form::Flags, Some(Field::Flags), 255, "flag of TCP") },
    row("mark", Form::Bits, Some(Field::Mark), 0xffff_ffff, "mark"),
    Row { needs: SENDS, ..row("uid", Form::List, Some(Field::Uid), 0xffff_fffe, "user") },
    Row { needs: SENDS, ..row("gid", Form::List, Some(Field::Gid), 0xffff_fffe, "group") },
    Row { words: &DSCP, ..row("dscp", Form::List, Some(Field::Dscp), 63, "code point") },
    Row { needs: COMES_IN, ..row("mac", Form::Mac, Some(Field::Mac), 0xffff_ffff_ffff, "Ethernet address") },
    Row { words: &DAYS, ..row("days", Form::List, Some(Field::Day), 6, "day") },
    row("time", Form::Time, Some(Field::Time), 86_399, "time of day"),
    Row {
        words: &[("fail", 0)],
        needs: COMES_IN,
        ..row("rpf", Form::One, Some(Field::WayBack), 0, "result of a reverse path check")
    },
    row("conns", Form::Count, None, 0xffff_ffff, "number of connections"),
    Row { words: &LEVELS, needs: LOG, ..row("log-level", Form::One, None, 7, "log level") },
    Row { needs: LOG, ..row("log-group", Form::One, None, 65_535, "log group") },
    row("set-mark", Form::Bits, None, 0xffff_ffff, "mark"),
    Row {
        words: &[("pmtu", 0)],
        needs: TCP | FORWARDS,
        ..row("mss", Form::One, None, 65_535, "segment size")
    },
    Row {
        words: &[("auto", 0)],
        needs: THROUGH,
        ..row("offload", Form::One, None, 0, "way to offload connections")
    },
    Row {
        words: &ETHER_TYPES,
        needs: FRAMES,
        ..row("ether", Form::List, Some(Field::Ether), 0xffff, "type of frame")
    },
    Row { needs: FRAMES, ..row("vlan", Form::List, Some(Field::Vlan), 4095, "virtual LAN") },
    row("ttl", Form::List, Some(Field::Ttl), 255, "number of hops"),
    Row {
        words: &PACKET_TYPES,
        needs: COMES_IN,
        ..row("pkttype", Form::List, Some(Field::PacketType), 0, "type of packet")
    },
    Row {
        words: &KINDS,
        needs: ROUTED,
        ..row("src-kind", Form::List, Some(Field::SrcKind), 0, "kind of address")
    },
    Row {
        words: &KINDS,
        needs: ROUTED,
        ..row("dst-kind", Form::List, Some(Field::DstKind), 0, "kind of address")
    },
    Row {
        words: &HEADERS,
        needs: ROUTED,
        ..row("exthdr", Form::Header, Some(Field::Header), 0, "extension header of IPv6")
    },
    Row { words: &REFUSALS, needs: REJECT, ..row("with", Form::One, None, 0, "answer") },
    Row { words: &PICKS, needs: NAT, ..row("pick", Form::One, None, 0, "way to pick") },
];

/// The types that an item of `icmp=` means, of one of the two protocols.
#[must_use]
pub fn icmp_types((first, last): (u64, u64), family: Family) -> Vec<(u128, u128)> {
    let Some(word) = first.checked_sub(ICMP_WORD) else { return vec![(first.into(), last.into())] };
    let row = usize::try_from(word).ok().and_then(|at| ICMP_TYPES.get(at));
    let types = row.map_or(&[][..], |(_, v4, v6)| if family == Family::V6 { v6 } else { v4 });
    types.iter().map(|t| (u128::from(*t), u128::from(*t))).collect()
}

/// The item of `icmp=` for one type.
#[must_use]
pub fn icmp_item(number: u8, family: Family) -> u64 {
    let single =
        |(_, v4, v6): &(&str, &[u8], &[u8])| *(if family == Family::V6 { v6 } else { v4 }) == [number];
    let found = (ICMP_WORD..).zip(&ICMP_TYPES).find(|(_, row)| single(row));
    found.map_or(number.into(), |(word, _)| word)
}

/// The row of a key, and its place.
#[must_use]
pub fn find(key: &str) -> Option<(u8, &'static Row)> {
    (0u8..).zip(&ROWS).find(|(_, row)| row.key == key)
}

/// Reads the values of a key. `named` has numbers for words that only the host knows.
pub(super) fn read(
    (place, row): (u8, &Row),
    text: &str,
    named: &dyn Fn(&str, &str) -> Option<u64>,
) -> Checked<Extra> {
    let looks = row.field.is_some() && row.form != Form::One;
    let (not, list) = match text.strip_prefix('!').filter(|_| looks) {
        Some(list) => (true, list),
        None => (false, text),
    };
    let mut items = Vec::new();
    let read = match row.form {
        Form::Bits | Form::Flags | Form::One | Form::Header | Form::Count => {
            row.item(list, named).map(|item| items.push(item)).ok_or_else(|| row.wrong(list, 0))
        }
        _ => value::items(list, &mut |item, at| {
            items.push(row.item(item, named).ok_or_else(|| row.wrong(item, at))?);
            Ok(())
        }),
    };
    read.map_err(|bad| bad.moved(usize::from(not)))?;
    if not && row.form == Form::Header && items.iter().any(|(first, _)| first & ROUTING_TYPE != 0) {
        let what = "has no opposite";
        return Err(Bad::word(1, list, what, "a packet may have no routing header at all: exthdr=!rt"));
    }
    Ok(Extra { row: place, not, items: items.into() })
}

impl Row {
    fn wrong(&self, item: &str, at: usize) -> Box<Bad> {
        if self.form == Form::Flags && item == "none" {
            let hint = "say which flags are not set: none/fin,syn,rst,psh,ack,urg";
            return Bad::word(at, item, "alone says nothing", hint);
        }
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        let hint = match self.form {
            _ if matches!(self.key, "uid" | "gid") => {
                "expected a name that this host has, or a number".into()
            }
            Form::Flags => expected(item, &words) + ", as in syn or syn/fin,syn,rst,ack",
            Form::Bits if self.field.is_none() => {
                "expected a number, value/mask or ^bits: 0x1, 0x4000/0x4000, ^0x4000".into()
            }
            Form::Bits => "expected a number, or value/mask: 0x1, 0x4000/0x4000".into(),
            Form::Mac => "expected six bytes, as in 00:16:3e:12:34:56".into(),
            Form::Time => "expected from-to in UTC, as in 08:00-18:30".into(),
            Form::Count => "expected 20, or 20/src for each source".into(),
            _ if words.is_empty() => ["expected a number, at most ", &self.max.to_string()].concat(),
            _ if self.max == 0 => expected(item, &words),
            _ => expected(item, &words) + "; or a number, at most " + &self.max.to_string(),
        };
        Bad::word(at, item, &["is no ", self.noun].concat(), &hint)
    }

    fn item(&self, text: &str, named: &dyn Fn(&str, &str) -> Option<u64>) -> Option<(u64, u64)> {
        match self.form {
            Form::Flags => {
                let flags =
                    |list: &str| list.split(',').try_fold(0, |all, word| Some(all | self.word(word)?));
                match text.split_once('/') {
                    Some((value, mask)) => Some((flags(value)?, flags(mask)?)),
                    None => flags(text).filter(|all| *all > 0).map(|all| (all, all)),
                }
                .filter(|(value, mask)| *mask > 0 && value & !mask == 0)
            }
            Form::Bits => match (text.split_once('/'), text.strip_prefix('^')) {
                // Bits that are turned over.
                (None, Some(bits)) if self.field.is_none() => {
                    return Some((self.number(bits).filter(|bits| *bits > 0)?, 0));
                }
                (Some((value, mask)), _) => Some((self.number(value)?, self.number(mask)?)),
                (None, _) => Some((self.number(text)?, self.max)),
            }
            .filter(|(value, mask)| *mask > 0 && value & !mask == 0),
            Form::Mac => {
                let bytes = text.split(':').map(|b| u8::from_str_radix(b, 16).ok().filter(|_| b.len() == 2));
                let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
                let number = bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
                (bytes.len() == 6).then_some((number, number))
            }
            Form::Time => {
                let time = |text: &str| {
                    let (hour, minute) = text.split_once(':')?;
                    let digits = |t: &str| t.parse::<u64>().ok().filter(|_| t.len() == 2);
                    let (hour, minute) = (digits(hour)?, digits(minute)?);
                    (hour < 24 && minute < 60 || hour == 24 && minute == 0)
                        .then_some(hour * 3600 + minute * 60)
                };
                let (from, to) = text.split_once('-')?;
                Some((time(from)?, time(to)?)).filter(|(from, to)| from != to && *from <= self.max)
            }
            Form::Count => {
                let (number, each) = match text.strip_suffix("/src") {
                    Some(number) => (number, 1),
                    None => (text, 0),
                };
                self.number(number).filter(|n| *n > 0).map(|n| (n, each))
            }
            Form::List | Form::One | Form::Header => {
                let one =
                    |text: &str| self.word(text).or(self.number(text)).or_else(|| named(self.key, text));
                if let Some(number) = one(text) {
                    return Some((number, number));
                }
                let (first, last) = text.split_once('-').filter(|_| self.form == Form::List)?;
                let range = (one(first)?, one(last)?);
                if self.field == Some(Field::Day) && range.0 > range.1 {
                    // Over the end of the week.
                    return Some((range.0, range.1 + WEEK));
                }
                let plain = range.0 <= range.1 && range.1 <= self.max;
                // Numbers in the host's order have no ranges in the kernel's sets.
                (plain && self.max < 0xffff_0000).then_some(range)
            }
        }
    }

    /// Whether its numbers are told in hexadecimal.
    fn is_hex(&self) -> bool {
        self.field == Some(Field::Ether)
    }

    fn word(&self, text: &str) -> Option<u64> {
        self.words.iter().find(|(word, _)| *word == text).map(|(_, number)| *number)
    }

    fn number(&self, text: &str) -> Option<u64> {
        let number = match text.strip_prefix("0x") {
            Some(hex) if self.form == Form::Bits || self.is_hex() => u64::from_str_radix(hex, 16).ok()?,
            _ if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
            _ => return None,
        };
        // No size is the word's number.
        let is_word = number == 0 && self.key == "mss";
        (number <= self.max && self.max != 0 && !is_word).then_some(number)
    }

    /// What the rule has not that this key needs, and what to write.
    pub(super) fn missing(&self, rule: &RuleStatement) -> Option<(&'static str, &'static str)> {
        let protos = |known: &[u8]| !rule.is_not(not::PROTO) && rule.proto.are(known);
        let any = rule.rare.group.is_some();
        let all: [(u16, bool, &str, &str); 11] = [
            (ICMP, protos(&[proto::ICMP, proto::ICMP6]), " needs ICMP", "expected proto=icmp or proto=icmp6"),
            (TCP, protos(&[proto::TCP]), " needs TCP", "expected proto=tcp"),
            (
                SENDS,
                any || matches!(rule.dir, Direction::Out | Direction::Local),
                " needs dir=out",
                "who sent it is known for packets of this host",
            ),
            (
                COMES_IN,
                any || rule.dir.comes_in(),
                " is not known in this direction",
                "where a packet came in is known with dir=in, dir=fwd and dir=pre",
            ),
            (LOG, rule.rare.log.is_some(), " without log", "add log=prefix:TEXT"),
            (
                FORWARDS,
                any || matches!(rule.dir, Direction::Out | Direction::Fwd),
                " needs dir=fwd or dir=out",
                "the size of segments is lowered where packets go out",
            ),
            (
                THROUGH,
                !any && rule.dir == Direction::Fwd,
                " needs dir=fwd, outside of groups",
                "only what is forwarded can be offloaded",
            ),
            (FRAMES, rule.dir == Direction::Bridge, " needs dir=bridge", "packets have left their frames"),
            (
                ROUTED,
                rule.dir != Direction::Bridge,
                " does not go with dir=bridge",
                "a bridge does not route",
            ),
            (
                REJECT,
                rule.action == Action::Reject,
                " needs action=reject",
                "it says how those are answered that are refused",
            ),
            (
                NAT,
                rule.action.is_nat(),
                " needs an action that translates",
                "expected action=masquerade, snat, dnat or redirect",
            ),
        ];
        let missing = all.into_iter().find(|(bit, is, ..)| self.needs & bit != 0 && !is);
        missing.map(|(_, _, what, hint)| (what, hint))
    }

    /// Writes an item.
    fn print(&self, f: &mut Formatter<'_>, (first, last): (u64, u64)) -> Result {
        let word = |number: u64| self.words.iter().find(|(_, n)| *n == number).map(|(word, _)| *word);
        let one = |f: &mut Formatter<'_>, number: u64| match word(number) {
            Some(word) => f.write_str(word),
            None if self.is_hex() => write!(f, "{number:#06x}"),
            None => Display::fmt(&number, f),
        };
        match self.form {
            Form::Flags => {
                flags(f, self.words, first)?;
                if first == last && first > 0 {
                    return Ok(());
                }
                f.write_char('/')?;
                flags(f, self.words, last)
            }
            Form::Bits if last == self.max => write!(f, "{first:#x}"),
            Form::Bits if last == 0 => write!(f, "^{first:#x}"),
            Form::Bits => write!(f, "{first:#x}/{last:#x}"),
            Form::Mac => {
                for at in 0..6 {
                    let byte = first >> (40 - at * 8) & 0xff;
                    write!(f, "{}{byte:02x}", if at > 0 { ":" } else { "" })?;
                }
                Ok(())
            }
            Form::Time => {
                let part = |n: u64| (n / 3600, n / 60 % 60);
                let ((a, b), (c, d)) = (part(first), part(last));
                write!(f, "{a:02}:{b:02}-{c:02}:{d:02}")
            }
            Form::Count => write!(f, "{first}{}", if last == 1 { "/src" } else { "" }),
            Form::One | Form::Header => one(f, first),
            Form::List => {
                one(f, first)?;
                if last > first {
                    f.write_char('-')?;
                    one(f, if self.field == Some(Field::Day) { last % WEEK } else { last })?;
                }
                Ok(())
            }
        }
    }
}

/// Writes the words of bits.
fn flags(f: &mut Formatter<'_>, words: &[(&str, u64)], bits: u64) -> Result {
    let mut first = true;
    for (word, bit) in words {
        if bits & bit != 0 || bits == 0 && *bit == 0 {
            f.write_str(if first { "" } else { "," })?;
            f.write_str(word)?;
            first = false;
        }
    }
    Ok(())
}

impl Display for Extra {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Some(row) = ROWS.get(usize::from(self.row)) else { return Ok(()) };
        f.write_str(row.key)?;
        f.write_str(if self.not { "=!" } else { "=" })?;
        for (at, item) in self.items.iter().enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            row.print(f, *item)?;
        }
        Ok(())
    }
}
