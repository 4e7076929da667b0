#![forbid(unsafe_code)]
//! The keys of rules that look at one number each, or set one: a row for each of them, which says how its
//! values are written and what it goes together with. Reading, printing and compiling walk the table.

use super::ast::{Extra, RuleStatement, not, proto};
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
pub const ICMP: u8 = 1;
const TCP: u8 = 2;
const SENDS: u8 = 4;
const COMES_IN: u8 = 8;
const LOG: u8 = 16;
const FORWARDS: u8 = 32;
const THROUGH: u8 = 64;
const FRAMES: u8 = 128;

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
    needs: u8,
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
}

/// How many keys there are.
pub const LEN: usize = 19;

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
];

/// Types of ICMP by their names; with what each of them is in ICMP and in ICMPv6. Behind the single ones
/// stand the groups.
pub const ICMP_TYPES: [(&str, &[u8], &[u8]); 29] = [
    ("echo-reply", &[0], &[129]),
    ("echo-request", &[8], &[128]),
    ("destination-unreachable", &[3], &[1]),
    ("time-exceeded", &[11], &[3]),
    ("parameter-problem", &[12], &[4]),
    ("redirect", &[5], &[137]),
    ("router-advertisement", &[9], &[134]),
    ("router-solicitation", &[10], &[133]),
    ("packet-too-big", &[], &[2]),
    ("neighbour-solicitation", &[], &[135]),
    ("neighbour-advertisement", &[], &[136]),
    ("mld-query", &[], &[130]),
    ("mld-report", &[], &[131]),
    ("mld-done", &[], &[132]),
    ("mld2-report", &[], &[143]),
    ("inverse-solicitation", &[], &[141]),
    ("inverse-advertisement", &[], &[142]),
    ("certificate-solicitation", &[], &[148]),
    ("certificate-advertisement", &[], &[149]),
    ("source-quench", &[4], &[]),
    ("timestamp-request", &[13], &[]),
    ("timestamp-reply", &[14], &[]),
    ("info-request", &[15], &[]),
    ("info-reply", &[16], &[]),
    ("address-mask-request", &[17], &[]),
    ("ping", &[0, 8], &[128, 129]),
    ("errors", &[3, 11, 12], &[1, 2, 3, 4]),
    ("nd", &[], &[133, 134, 135, 136]),
    ("mld", &[], &[130, 131, 132, 143]),
];

/// Numbers from here on are places in `ICMP_TYPES`.
const ICMP_WORD: u64 = 256;

const fn icmp_words() -> [(&'static str, u64); ICMP_TYPES.len()] {
    let mut words = [("", 0); ICMP_TYPES.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = (ICMP_TYPES[i].0, ICMP_WORD + i as u64);
        i += 1;
    }
    words
}
const ICMP_WORDS: [(&str, u64); ICMP_TYPES.len()] = icmp_words();
const FLAGS: [(&str, u64); 9] = [
    ("fin", 1),
    ("syn", 2),
    ("rst", 4),
    ("psh", 8),
    ("ack", 16),
    ("urg", 32),
    ("ecn", 64),
    ("cwr", 128),
    ("none", 0),
];
const ETHER_TYPES: [(&str, u64); 6] = [
    ("ip", ETHER_IP),
    ("ip6", ETHER_IP6),
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("pppoe-discovery", 0x8863),
    ("pppoe", 0x8864),
];
/// `ETH_P_IP`, which is a family.
pub const ETHER_IP: u64 = 0x0800;
/// `ETH_P_IPV6`, likewise.
pub const ETHER_IP6: u64 = 0x86dd;
const DAYS: [(&str, u64); 7] =
    [("sun", 0), ("mon", 1), ("tue", 2), ("wed", 3), ("thu", 4), ("fri", 5), ("sat", 6)];
const DSCP: [(&str, u64); 22] = [
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("ef", 46),
    ("lephb", 1),
];
const LEVELS: [(&str, u64); 8] = [
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warn", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
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
        Form::Bits | Form::Flags | Form::One | Form::Count => {
            row.item(list, named).map(|item| items.push(item)).ok_or_else(|| row.wrong(list, 0))
        }
        _ => value::items(list, &mut |item, at| {
            items.push(row.item(item, named).ok_or_else(|| row.wrong(item, at))?);
            Ok(())
        }),
    };
    read.map_err(|bad| bad.moved(usize::from(not)))?;
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
            Form::Bits => match text.split_once('/') {
                Some((value, mask)) => Some((self.number(value)?, self.number(mask)?)),
                None => Some((self.number(text)?, self.max)),
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
            Form::List | Form::One => {
                let one =
                    |text: &str| self.word(text).or(self.number(text)).or_else(|| named(self.key, text));
                if let Some(number) = one(text) {
                    return Some((number, number));
                }
                let (first, last) = text.split_once('-').filter(|_| self.form == Form::List)?;
                let range = (one(first)?, one(last)?);
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
        (number <= self.max && self.max != 0).then_some(number)
    }

    /// What the rule has not that this key needs, and what to write.
    pub(super) fn missing(&self, rule: &RuleStatement) -> Option<(&'static str, &'static str)> {
        let protos = |known: &[u8]| !rule.is_not(not::PROTO) && rule.proto.are(known);
        let any = rule.rare.group.is_some();
        let all: [(u8, bool, &str, &str); 8] = [
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
            Form::One => one(f, first),
            Form::List => {
                one(f, first)?;
                if last > first {
                    f.write_char('-')?;
                    one(f, last)?;
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
