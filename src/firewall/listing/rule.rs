#![forbid(unsafe_code)]
//! A rule's expressions to rules of a plan, or to words that show it with the reason why it is none. An expression
//! that is not known, or that stands where it means something else, is always such a reason.

use super::compat;
use super::expr::{DATA, Expr, NAME, hex, shown, until_nul};
use super::reader::{Keys, Reader, Test, Value, What, compared, shown as key_shown};
use super::sets::{self, Content, Element};
use crate::base::name::IfName;
use crate::base::range::Family;
use crate::firewall::nft::{UDATA_RULE_COMMENT, comment_udata, udata_comment};
use crate::firewall::rules::UDATA_ORIGIN;
use crate::plan::listed::{Listed, Part, Target};
use crate::plan::{Addresses, Limit, Ports, Rate, Reject, Rule, Verdict};
use crate::sys::nlattr::{self, attr, attrs, be64};

/// Verdicts of one map that become rules of their own.
const VERDICTS_MAX: usize = 64;
/// Elements of a set that are shown.
const SHOWN_MAX: usize = 16;
/// Level of log lines where none is told, as the kernel has it.
const LOG_LEVEL: u32 = 4;

/// What a rule is read with.
pub struct Context<'a> {
    /// The only family of the table's packets.
    pub family: Option<Family>,
    /// The table's sets, sorted by their names.
    pub sets: &'a [sets::Listed],
    /// The name of an interface now.
    pub interface: fn(u32) -> Option<IfName>,
}

/// How far the rule is: what comes later must not look at packets any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Matches,
    Bounded,
    Logged,
    Decided,
}

struct Walk<'a, 'c> {
    context: &'a Context<'c>,
    stage: Stage,
    to: Option<Target>,
    answer: String,
    leaves: bool,
    verdicts: Vec<(Value, Element)>,
    r: Reader,
}

/// Reads a rule: NFTA_RULE_EXPRESSIONS and NFTA_RULE_USERDATA.
pub fn read(context: &Context<'_>, expressions: &[u8], userdata: &[u8]) -> Listed {
    let r = Reader::new(context.family);
    let mut walk = Walk {
        context,
        stage: Stage::Matches,
        to: None,
        answer: String::new(),
        leaves: false,
        verdicts: Vec::new(),
        r,
    };
    walk.r.rule.origin = origin(userdata).unwrap_or(0);
    let text = udata_comment(userdata, UDATA_RULE_COMMENT).unwrap_or_default();
    walk.r.rule.comment = if walk.r.rule.origin > 0 { kept(text) } else { comment(text) };
    for (_, expression) in attrs(expressions) {
        let name = attr(expression, NAME).map(until_nul).unwrap_or_default();
        walk.expression(name, Expr(attr(expression, DATA).unwrap_or_default()));
    }
    if !walk.r.rule.comment.is_empty() {
        let comment = walk.r.rule.comment.clone();
        walk.r.say(&["comment \"", &comment, "\""]);
    }
    walk.finish()
}

/// A comment as it is in the kernel when mef has put it there.
#[must_use]
pub fn kept(text: &str) -> String {
    udata_comment(&comment_udata(UDATA_RULE_COMMENT, text), UDATA_RULE_COMMENT).unwrap_or_default().to_owned()
}

/// A comment of others in words that the language can say.
fn comment(text: &str) -> String {
    kept(&text.replace('\\', "/"))
}

fn origin(mut data: &[u8]) -> Option<u32> {
    while let [kind, len, rest @ ..] = data {
        let (value, next) = rest.split_at_checked(usize::from(*len))?;
        if *kind == UDATA_ORIGIN {
            return nlattr::be32(value);
        }
        data = next;
    }
    None
}

impl Walk<'_, '_> {
    fn expression(&mut self, name: &[u8], e: Expr<'_>) {
        if self.stage == Stage::Decided {
            self.r.fail("something stands behind its verdict");
        }
        match name {
            b"meta" => self.meta(e),
            b"payload" => self.payload(e),
            b"ct" => self.conntrack(e),
            b"bitwise" => self.bitwise(e),
            b"cmp" => self.cmp(e),
            b"range" => self.range(e),
            b"lookup" => self.lookup(e),
            b"limit" => self.limit(e),
            b"dynset" => self.buckets(e),
            b"counter" => {
                self.r.rule.counter = true;
                self.r.say(&["counter"]);
            }
            b"log" => self.log(e),
            b"reject" => self.reject(e),
            b"immediate" => self.immediate(e),
            b"match" | b"target" => self.compat(name == b"match", e),
            _ => {
                self.r.say(&[&shown(name)]);
                self.r.fail(&["the language has no ", &shown(name)].concat());
            }
        }
    }

    fn meta(&mut self, e: Expr<'_>) {
        const WORDS: [&str; 17] = [
            "length",
            "protocol",
            "priority",
            "mark",
            "iif",
            "oif",
            "iifname",
            "oifname",
            "iiftype",
            "oiftype",
            "skuid",
            "skgid",
            "nftrace",
            "rtclassid",
            "secmark",
            "nfproto",
            "l4proto",
        ];
        let key = e.or_0(2);
        let word = WORDS.get(key as usize).map_or_else(|| key.to_string(), |word| (*word).to_owned());
        let (what, len) = match key {
            1 => (What::Family { ether: true }, 2),
            4 | 5 => (What::Interface { is_in: key == 4, by_index: true }, 4),
            6 | 7 => (What::Interface { is_in: key == 6, by_index: false }, 16),
            15 => (What::Family { ether: false }, 1),
            16 => (What::Protocol, 1),
            _ => (What::Number, 4),
        };
        let text = ["meta ", &word].concat();
        self.loaded(e, 1, 3, Value { what, text, len, mask: None });
    }

    fn conntrack(&mut self, e: Expr<'_>) {
        const WORDS: [&str; 4] = ["state", "direction", "status", "mark"];
        let key = e.or_0(2);
        let state = e.number(2) == Some(0) && e.bytes(3).is_none();
        let what = if state { What::State } else { What::Number };
        let word =
            WORDS.get(key as usize).map_or_else(|| ["key ", &key.to_string()].concat(), |w| (*w).to_owned());
        let text = ["ct ", &word].concat();
        self.loaded(e, 1, 4, Value { what, text, len: 4, mask: None });
    }

    /// What an expression loads; with a source register it writes to the packet instead.
    fn loaded(&mut self, e: Expr<'_>, to: u16, from: u16, value: Value) {
        if e.bytes(from).is_some() || e.bytes(to).is_none() {
            self.r.say(&[&value.text, " set"]);
            return self.r.fail(&["it sets ", &value.text].concat());
        }
        self.r.load(e.or_0(to), Some(value));
    }

    fn payload(&mut self, e: Expr<'_>) {
        let (base, offset, len) = (e.or_0(2), e.or_0(3), e.or_0(4));
        let v6 = self.r.rule.family == Some(Family::V6);
        let address = |family: Family, is_source| {
            (What::Address { family, is_source }, if is_source { " saddr" } else { " daddr" })
        };
        let full = len as usize <= if v6 { 16 } else { 4 } && len > 0;
        let (what, word) = match (base, offset) {
            (1, 12 | 16) if !v6 && full => address(Family::V4, offset == 12),
            (1, 8 | 24) if v6 && full => address(Family::V6, offset == 8),
            (1, 9) if self.r.rule.family == Some(Family::V4) && len == 1 => (What::Protocol, " protocol"),
            (1, 12) if !v6 && len == 8 => (What::Pair { of: Some(Family::V4) }, " saddr, daddr"),
            (1, 8) if v6 && len == 32 => (What::Pair { of: Some(Family::V6) }, " saddr, daddr"),
            (2, 0) if len == 4 => (What::Pair { of: None }, " sport, dport"),
            (2, 0 | 2) if len == 2 => {
                (What::Port { is_source: offset == 0 }, if offset == 0 { " sport" } else { " dport" })
            }
            (2, 0) if len == 1 && matches!(self.r.protos.as_deref(), Some([1 | 58])) => {
                (What::Other, " icmp type")
            }
            (2, 13) if len == 1 && matches!(self.r.protos.as_deref(), Some([6])) => {
                (What::Other, " tcp flags")
            }
            _ => (What::Other, ""),
        };
        let head = match (what, base) {
            (What::Port { .. } | What::Pair { of: None }, _) => match self.r.protos.as_deref() {
                Some([6]) => "tcp",
                Some([17]) => "udp",
                _ => "th",
            },
            (What::Other, _) if !word.is_empty() => "",
            (_, 1) if word.is_empty() => "@nh",
            (_, 2) if word.is_empty() => "@th",
            (_, _) if word.is_empty() => "@ll",
            _ if v6 => "ip6",
            _ => "ip",
        };
        let place =
            [",", &offset.saturating_mul(8).to_string(), ",", &len.saturating_mul(8).to_string()].concat();
        let text = [head, if word.is_empty() { &place } else { word }].concat();
        let value = Value { what, text: text.trim_start().to_owned(), len: len.min(64) as usize, mask: None };
        self.loaded(e, 1, 5, value);
    }

    fn bitwise(&mut self, e: Expr<'_>) {
        let Some(mut value) = self.r.value(e.or_0(1)) else { return self.r.fail("it computes something") };
        let mask = e.value(4).unwrap_or_default();
        value.text = [value.text.as_str(), " & ", &key_shown(value.what, mask)].concat();
        let plain = e.or_0(6) == 0 && e.value(5).is_some_and(|xor| xor.iter().all(|b| *b == 0));
        if !plain || mask.len() != value.len || value.mask.is_some() || e.number(8).is_some() {
            value.what = What::Other;
        }
        value.mask = Some(mask.to_vec());
        self.r.load(e.or_0(2), Some(value));
    }

    fn cmp(&mut self, e: Expr<'_>) {
        const SIGNS: [&str; 6] = [" ", " != ", " < ", " <= ", " > ", " >= "];
        let (op, data) = (e.or_0(2), e.value(3).unwrap_or_default());
        let Some(value) = self.r.value(e.or_0(1)) else {
            self.r.say(&["cmp ", &hex(data)]);
            return self.r.fail("it compares something unknown");
        };
        let sign = SIGNS.get(op as usize).unwrap_or(&" ? ");
        self.r.say(&[&value.text, sign, &key_shown(value.what, data)]);
        let ordered = matches!(value.what, What::Address { .. } | What::Port { .. });
        match compared(op, data).filter(|_| op < 2 || ordered) {
            Some((first, last, not)) => self.test(&value, &[(&first, &last)], not),
            None => self.r.fail("it compares by order"),
        }
    }

    fn range(&mut self, e: Expr<'_>) {
        let (from, to) = (e.value(3).unwrap_or_default(), e.value(4).unwrap_or_default());
        let Some(value) = self.r.value(e.or_0(1)) else {
            return self.r.fail("it compares something unknown");
        };
        let not = e.or_0(2) == 1;
        let sign = if not { " != " } else { " " };
        self.r.say(&[&value.text, sign, &key_shown(value.what, from), "-", &key_shown(value.what, to)]);
        if matches!(value.what, What::Address { .. } | What::Port { .. }) && from <= to && e.or_0(2) < 2 {
            self.test(&value, &[(from, to)], not);
        } else {
            self.r.fail("it compares by order");
        }
    }

    fn test(&mut self, value: &Value, keys: &[Keys<'_>], not: bool) {
        if self.stage != Stage::Matches {
            self.r.fail("it looks at packets behind a limit or a log");
        }
        self.r.test(value, &Test { keys, not }, self.context.interface);
    }

    fn set(&self, name: &[u8]) -> Option<&sets::Listed> {
        let at = self.context.sets.binary_search_by(|set| set.name.as_slice().cmp(name)).ok()?;
        self.context.sets.get(at)
    }

    fn lookup(&mut self, e: Expr<'_>) {
        let name = e.bytes(1).map(until_nul).unwrap_or_default();
        let not = e.or_0(5) & 1 != 0;
        let sign = if not { " != " } else { " " };
        let Some(value) = self.r.value(e.or_0(2)) else {
            self.r.say(&["lookup @", &shown(name)]);
            return self.r.fail("it looks for several things together");
        };
        let map = e.bytes(3).is_some();
        let found = self.set(name).map(|set| (set.anonymous(), set.content.clone()));
        match found {
            Some((anonymous, Content::List(list))) if anonymous || map => {
                let vmap = if map { " vmap" } else { "" };
                self.r.say(&[&value.text, vmap, sign, "{ ", &elements(value.what, &list), " }"]);
                if map {
                    return self.vmap(e, &value, list);
                }
                let keys: Vec<Keys<'_>> =
                    list.iter().map(|e| (e.first.as_slice(), e.last.as_slice())).collect();
                self.test(&value, &keys, not);
            }
            Some((_, Content::Named(set, len))) if !not && !map => {
                self.r.say(&[&value.text, " @", &shown(name)]);
                if self.stage != Stage::Matches {
                    self.r.fail("it looks at packets behind a limit or a log");
                }
                let whole = value.mask.is_none() && value.len == len;
                let result = match value.what {
                    What::Address { family, is_source } if whole && family.bytes() == len => {
                        self.r.add_addresses(family, is_source, Some(Addresses::Set(set)))
                    }
                    What::Port { is_source } if whole => self.r.add_ports(is_source, Ports::Set(set)),
                    _ => Err("it looks for something else than a whole address or port in a set".to_owned()),
                };
                result.unwrap_or_else(|why| self.r.fail(&why));
            }
            Some((_, Content::Odd(why))) => {
                self.r.say(&[&value.text, sign, "@", &shown(name)]);
                self.r.fail(&["of the set ", &shown(name), ": ", &why].concat());
            }
            _ => {
                self.r.say(&[&value.text, sign, "@", &shown(name)]);
                self.r.fail("it uses a set in a way that the language has not");
            }
        }
    }

    /// A verdict map becomes rules of their own, one for each verdict.
    fn vmap(&mut self, e: Expr<'_>, value: &Value, list: Vec<Element>) {
        let verdicts = e.number(3) == Some(0) && list.iter().all(|e| e.verdict.is_some());
        if !verdicts || self.stage != Stage::Matches || list.is_empty() || list.len() > VERDICTS_MAX {
            self.r.fail("it uses a map");
        }
        self.stage = Stage::Decided;
        self.leaves |= list.iter().any(|e| e.verdict.as_ref().is_none_or(|(code, _)| leaves(*code)));
        self.verdicts = list.into_iter().take(VERDICTS_MAX).map(|element| (value.clone(), element)).collect();
    }

    fn limit(&mut self, e: Expr<'_>) {
        let limit = bucket(e);
        match limit {
            Some(Limit { rate, burst, over, .. }) => {
                let over = if over { "over " } else { "" };
                let (packets, per) = (rate.packets.to_string(), rate.per.to_string());
                self.r.say(&["limit rate ", over, &packets, " in ", &per, " s burst ", &burst.to_string()]);
            }
            None => self.r.say(&["limit of bytes, or in an odd time"]),
        }
        self.bound(limit);
    }

    fn bound(&mut self, limit: Option<Limit>) {
        if limit.is_none() || self.stage != Stage::Matches {
            self.r.fail("the language has no such limit");
        }
        self.stage = self.stage.max(Stage::Bounded);
        self.r.rule.limit = limit;
    }

    /// `limit=…/src` as mef writes it.
    fn buckets(&mut self, e: Expr<'_>) {
        let name = e.bytes(1).map(until_nul).unwrap_or_default();
        let value = self.r.value(e.or_0(4));
        let text = value.as_ref().map_or("", |v| v.text.as_str());
        let inner = e.bytes(7).filter(|inner| attr(inner, NAME).map(until_nul) == Some(b"limit"));
        let limit = inner.and_then(|inner| bucket(Expr(attr(inner, DATA)?)));
        self.r.say(&["update @", &shown(name), " { ", text, if limit.is_some() { " limit }" } else { " }" }]);
        let is_source = |v: &Value| {
            let v6 = [[0xff; 8], [0; 8]].concat();
            match v.what {
                What::Address { family: Family::V4, is_source: true } => v.mask.is_none() && v.len == 4,
                What::Address { family: Family::V6, is_source: true } => v.mask.as_ref() == Some(&v6),
                _ => false,
            }
        };
        let set = match self.set(name).map(|set| &set.content) {
            Some(Content::Buckets(set)) if e.or_0(3) == 1 && e.bytes(5).is_none() => Some(*set),
            _ => None,
        };
        let known = set.is_some() && value.as_ref().is_some_and(is_source);
        self.bound(limit.filter(|_| known).map(|limit| Limit { set, ..limit }));
    }

    fn log(&mut self, e: Expr<'_>) {
        let prefix = e.bytes(2).map(until_nul).unwrap_or_default();
        self.r.say(&["log prefix \"", &shown(prefix), "\""]);
        if let Some(group) = e.bytes(1) {
            self.r.say(&["group ", &hex(group)]);
        }
        let plain = e.bytes(1).is_none() && e.number(5).unwrap_or(LOG_LEVEL) == LOG_LEVEL && e.or_0(6) == 0;
        self.logged(std::str::from_utf8(prefix).ok().filter(|_| plain));
    }

    fn logged(&mut self, prefix: Option<&str>) {
        if self.stage >= Stage::Logged {
            self.r.fail("it logs twice");
        }
        self.stage = Stage::Logged;
        match prefix.filter(|prefix| !prefix.chars().any(char::is_control)) {
            Some(prefix) => self.r.rule.log = Some(prefix.to_owned()),
            None => self.r.fail("it logs in a way that the language has not"),
        }
    }

    fn reject(&mut self, e: Expr<'_>) {
        let code = e.bytes(2).and_then(|code| code.first().copied()).unwrap_or(0);
        let answer = match (e.or_0(1), code, self.r.rule.family) {
            (1, ..) => "tcp reset",
            (2, 1, _) => "",
            (0, 3, Some(Family::V4)) | (0, 4, Some(Family::V6)) => "",
            (2, 0, _) => "icmpx no-route",
            (2, 2, _) => "icmpx host-unreachable",
            (2, 3, _) => "icmpx admin-prohibited",
            (0, ..) => "another icmp code",
            _ => return self.r.fail("it refuses in an unknown way"),
        };
        self.r.say(&["reject with ", if answer.is_empty() { "port-unreachable" } else { answer }]);
        self.refuse(answer);
    }

    fn refuse(&mut self, answer: &str) {
        self.stage = Stage::Decided;
        let reset = answer == "tcp reset";
        self.r.rule.verdict = Verdict::Reject(if reset { Reject::Reset } else { Reject::PortUnreachable });
        self.answer = if reset { String::new() } else { answer.to_owned() };
    }

    fn immediate(&mut self, e: Expr<'_>) {
        let Some((code, chain)) = e.verdict(2).filter(|_| e.number(1) == Some(0)) else {
            self.r.load(e.or_0(1), None);
            self.r.say(&["immediate ", &hex(e.value(2).unwrap_or_default())]);
            return self.r.fail("it sets something");
        };
        self.stage = Stage::Decided;
        let (verdict, to, text) = verdict(code, chain);
        self.r.say(&[&text]);
        self.leaves |= leaves(code);
        match verdict {
            Some(verdict) => (self.r.rule.verdict, self.to) = (verdict, to),
            None => self.r.fail("the language has no such verdict"),
        }
    }

    fn compat(&mut self, is_match: bool, e: Expr<'_>) {
        let (name, info) = (e.bytes(1).map(until_nul).unwrap_or_default(), e.bytes(3).unwrap_or_default());
        let kind = if is_match { "match " } else { "target " };
        let family = self.r.rule.family;
        let rev = e.or_0(2);
        match compat::read(is_match, name, rev, info, family) {
            Some(compat::Xt::Comment(text)) => {
                if self.r.rule.comment.is_empty() {
                    self.r.rule.comment = comment(&text);
                }
            }
            Some(compat::Xt::Tests(tests)) => {
                self.r.say(&["match ", &shown(name), " ", &hex(info.get(..16).unwrap_or(info))]);
                if self.stage != Stage::Matches {
                    self.r.fail("it looks at packets behind a limit or a log");
                }
                for test in tests {
                    let result = match test {
                        compat::Test::Ports { is_source, ranges } => {
                            self.r.add_ports(is_source, Ports::Ranges(ranges))
                        }
                        compat::Test::States(bits) => self.r.add_states(bits),
                    };
                    result.unwrap_or_else(|why| self.r.fail(&why));
                }
            }
            Some(compat::Xt::Log(prefix)) => {
                self.r.say(&["log prefix \"", &prefix.escape_debug().to_string(), "\""]);
                self.logged(Some(&prefix));
            }
            Some(compat::Xt::Reject(answer)) => {
                self.r.say(&["reject with ", if answer.is_empty() { "port-unreachable" } else { answer }]);
                self.refuse(answer);
            }
            None => {
                let rest = if info.len() > 64 { "..." } else { "" };
                self.r.say(&[kind, &shown(name), " ", &hex(info.get(..64).unwrap_or(info)), rest]);
                self.r.fail(&["the language has no ", kind, &shown(name)].concat());
            }
        }
    }

    /// The rule as a whole: one for each protocol and for each verdict of a map.
    fn finish(mut self) -> Listed {
        let mut parts = Vec::new();
        if self.verdicts.is_empty() {
            self.r.finish();
            parts.extend(self.parts());
        }
        let several = self.verdicts.len() > 1;
        for (value, element) in std::mem::take(&mut self.verdicts) {
            let (rule, protos, bad) = (self.r.rule.clone(), self.r.protos.clone(), self.r.bad.clone());
            let (code, chain) = element.verdict.unwrap_or_default();
            let (verdict, to, _) = verdict(code, &chain);
            self.stage = Stage::Matches;
            self.test(&value, &[(&element.first, &element.last)], false);
            self.r.finish();
            match verdict {
                Some(verdict) => (self.r.rule.verdict, self.to) = (verdict, to),
                None => self.r.fail("the language has no such verdict"),
            }
            if self.r.bad.is_none() {
                parts.extend(self.parts());
            }
            let failed = bad.or(self.r.bad.take());
            (self.r.rule, self.r.protos, self.r.bad) = (rule, protos, failed);
        }
        let shared = parts.len() > 1 && self.r.rule.limit.is_some() || several && self.r.rule.log.is_some();
        if shared {
            self.r.fail("one limit or log is for several rules of the language");
        }
        Listed { text: self.r.text, parts: self.r.bad.map_or(Ok(parts), Err), leaves: self.leaves }
    }

    fn parts(&self) -> Vec<Part> {
        let protos = match &self.r.protos {
            None => vec![None],
            Some(all) => all.iter().map(|proto| Some(*proto)).collect(),
        };
        let part = |proto| {
            let mut rule = Rule { proto, ..self.r.rule.clone() };
            // ICMP in packets of the other family is nothing that a host takes: to accept it is to accept nothing.
            if rule.verdict == Verdict::Accept && rule.family.is_none() {
                rule.family = match proto {
                    Some(1) => Some(Family::V4),
                    Some(58) => Some(Family::V6),
                    _ => None,
                };
            }
            Part { rule, to: self.to.clone(), answer: self.answer.clone() }
        };
        protos.into_iter().map(part).collect()
    }
}

fn verdict(code: i32, chain: &[u8]) -> (Option<Verdict>, Option<Target>, String) {
    let target = |back| Some(Target { chain: shown(chain), back });
    match code {
        libc::NF_ACCEPT => (Some(Verdict::Accept), None, "accept".into()),
        libc::NF_DROP => (Some(Verdict::Drop), None, "drop".into()),
        libc::NFT_RETURN => (Some(Verdict::Return), None, "return".into()),
        libc::NFT_CONTINUE => (Some(Verdict::Next), None, "continue".into()),
        libc::NFT_JUMP => (Some(Verdict::Next), target(true), ["jump ", &shown(chain)].concat()),
        libc::NFT_GOTO => (Some(Verdict::Next), target(false), ["goto ", &shown(chain)].concat()),
        _ => (None, None, ["verdict ", &code.to_string()].concat()),
    }
}

/// Whether a verdict ends the chain and decides nothing.
const fn leaves(code: i32) -> bool {
    matches!(code, libc::NFT_RETURN | libc::NFT_GOTO)
}

/// A limit of packets.
fn bucket(e: Expr<'_>) -> Option<Limit> {
    let number = |kind| e.bytes(kind).and_then(be64);
    let per = number(2).and_then(|per| u32::try_from(per).ok())?;
    let packets = number(1).and_then(|rate| u32::try_from(rate).ok())?;
    let good = matches!(per, 1 | 60 | 3600 | 86_400) && packets > 0 && e.or_0(4) == 0 && e.or_0(5) < 2;
    let rate = Rate { packets, per };
    good.then(|| Limit { rate, burst: e.or_0(3), over: e.or_0(5) == 1, set: None })
}

/// Elements for people.
fn elements(what: What, list: &[Element]) -> String {
    let mut out = String::new();
    for (i, element) in list.iter().enumerate() {
        if i == SHOWN_MAX {
            out.push_str(", ...");
            break;
        }
        out.push_str(if i > 0 { ", " } else { "" });
        out.push_str(&key_shown(what, &element.first));
        if element.first != element.last {
            out.push('-');
            out.push_str(&key_shown(what, &element.last));
        }
        if let Some((code, chain)) = &element.verdict {
            out.push_str(&[" : ", &verdict(*code, chain).2].concat());
        }
    }
    out
}
