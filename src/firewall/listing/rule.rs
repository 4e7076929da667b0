#![forbid(unsafe_code)]
//! A rule's expressions to rules of a plan, or to words that show it with the reason why it is none. An
//! expression that is not known, or that stands where it means something else, is always such a reason.

use super::act::{leaves, verdict};
use super::compat::XtKind;
use super::expr::{DATA, ListedExpr, NAME, hex, shown, until_nul};
use super::reader::{FieldTest, Keys, RuleReader, Value, What, compared, shown as key_shown};
use super::sets::{self, Element, SetContent};
use crate::base::name::IfName;
use crate::base::range::Family;
use crate::firewall::emit::UDATA_ORIGIN;
use crate::firewall::field;
use crate::firewall::nft::{UDATA_RULE_COMMENT, comment_udata, udata_comment};
use crate::plan::listed::{ChainTarget, ListedRule, LogDetail, RulePart};
use crate::plan::{Addresses, Field, PacketSide, PacketVerdict, Ports, Rule, TableOf, Test};
use crate::sys::nlattr::{self, attr, attrs};

/// Elements of a map or list that become rules of their own.
const ELEMENTS_MAX: usize = 64;
/// Elements of a set that are shown.
const SHOWN_MAX: usize = 16;

/// Why what bounds or logs packets cannot be in several rules.
const SHARED: &str = "one limit or log is for several rules of the language";

/// What a rule is read with.
pub struct Context<'a> {
    /// The only family of the table's packets.
    pub family: Option<Family>,
    /// What its chains see.
    pub of: TableOf,
    /// The table's sets, sorted by their names.
    pub sets: &'a [sets::ListedSet],
    /// The name of an interface now.
    pub interface: fn(u32) -> Option<IfName>,
}

/// How far the rule is: what comes later must not look at packets any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Matches,
    Bounded,
    Logged,
    Decided,
}

/// Reads one kind of expression.
type RuleResult<W> = fn(&mut W, ListedExpr<'_>);

pub(super) struct ExprWalk<'a, 'c> {
    pub(super) context: &'a Context<'c>,
    pub(super) stage: Stage,
    pub(super) to: Option<ChainTarget>,
    pub(super) answer: String,
    pub(super) logs: LogDetail,
    pub(super) leaves: bool,
    /// What is looked for in a map, or as several things together, and its elements.
    pub(super) elements: Option<(Vec<Value>, &'a [Element])>,
    pub(super) r: RuleReader,
}

/// Reads a rule: NFTA_RULE_EXPRESSIONS and NFTA_RULE_USERDATA.
pub fn read(context: &Context<'_>, expressions: &[u8], userdata: &[u8]) -> ListedRule {
    let r = RuleReader::new(context.family, context.of);
    let mut walk = ExprWalk {
        context,
        stage: Stage::Matches,
        to: None,
        answer: String::new(),
        logs: LogDetail::Usual,
        leaves: false,
        elements: None,
        r,
    };
    walk.r.rule.origin = origin(userdata).unwrap_or(0);
    let text = udata_comment(userdata, UDATA_RULE_COMMENT).unwrap_or_default();
    walk.r.rule.comment = if walk.r.rule.origin > 0 { kept(text) } else { foreign_comment(text) };
    for (_, expression) in attrs(expressions) {
        let name = attr(expression, NAME).map(until_nul).unwrap_or_default();
        walk.expression(name, ListedExpr(attr(expression, DATA).unwrap_or_default()));
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
pub(super) fn foreign_comment(text: &str) -> String {
    kept(&text.replace('\\', "/"))
}

/// The number of the statement that a rule of `mef load` was made from, by its user data.
pub(super) fn origin(mut data: &[u8]) -> Option<u32> {
    while let [kind, len, rest @ ..] = data {
        let (value, next) = rest.split_at_checked(usize::from(*len))?;
        if *kind == UDATA_ORIGIN {
            return nlattr::be32(value);
        }
        data = next;
    }
    None
}

impl<'a> ExprWalk<'a, '_> {
    #[inline(never)]
    fn expression(&mut self, name: &[u8], e: ListedExpr<'_>) {
        if self.stage == Stage::Decided {
            self.r.fail("something follows its verdict");
        }
        let known: &[(&[u8], RuleResult<Self>)] = &[
            (b"meta", Self::meta),
            (b"payload", Self::payload),
            (b"ct", Self::conntrack),
            (b"bitwise", Self::bitwise),
            (b"cmp", Self::cmp),
            (b"range", Self::range),
            (b"lookup", Self::lookup),
            (b"limit", Self::limit),
            (b"connlimit", Self::connections),
            (b"dynset", Self::buckets),
            (b"fib", Self::fib),
            (b"byteorder", Self::byteorder),
            (b"rt", Self::route),
            (b"exthdr", Self::header_option),
            (b"flow_offload", Self::offload),
            (b"nat", Self::nat),
            (b"masq", Self::masquerade),
            (b"redir", Self::redirect),
            (b"counter", Self::counter),
            (b"log", Self::log),
            (b"reject", Self::reject),
            (b"immediate", Self::immediate),
            (b"match", |walk, e| walk.compat(XtKind::Match, e)),
            (b"target", |walk, e| walk.compat(XtKind::Target, e)),
        ];
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, read)) => read(self, e),
            None => {
                self.r.say(&[&shown(name)]);
                self.r.fail(&["the language has no ", &shown(name)].concat());
            }
        }
    }

    fn counter(&mut self, _: ListedExpr<'_>) {
        self.r.rule.counter = true;
        self.r.say(&["counter"]);
    }

    #[inline(never)]
    fn meta(&mut self, e: ListedExpr<'_>) {
        const WORDS: [&str; 20] = [
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
            "bri_iifname",
            "bri_oifname",
            "pkttype",
        ];
        let key = e.or_0(2);
        let word = WORDS.get(key as usize).map_or_else(|| key.to_string(), |word| (*word).to_owned());
        let (what, len) = match key {
            1 => (What::Family { ether: true }, 2),
            4 | 5 => (What::Interface { is_in: key == 4, by_index: true }, 4),
            6 | 7 => (What::Interface { is_in: key == 6, by_index: false }, 16),
            15 => (What::Family { ether: false }, 1),
            16 => (What::Protocol, 1),
            8 => (What::Hardware, 2),
            3 => (What::Field(Field::Mark), 4),
            10 => (What::Field(Field::Uid), 4),
            11 => (What::Field(Field::Gid), 4),
            field::META_PKTTYPE => (What::Field(Field::PacketType), 1),
            31 => (What::Field(Field::Day), 1),
            32 => (What::Field(Field::Time), 4),
            _ => (What::Number, 4),
        };
        let text = ["meta ", &word].concat();
        if key == 3 && e.bytes(3).is_some() {
            return self.set_mark(e);
        }
        self.loaded(e, 1, 3, Value { what, text, len, mask: None });
    }

    #[inline(never)]
    fn conntrack(&mut self, e: ListedExpr<'_>) {
        const WORDS: [&str; 4] = ["state", "direction", "status", "mark"];
        let key = e.or_0(2);
        let state = e.number(2) == Some(0) && e.bytes(3).is_none();
        let status = e.number(2) == Some(2) && e.bytes(3).is_none();
        let what = match () {
            () if state => What::State,
            () if status => What::Field(Field::Status),
            () => What::Number,
        };
        let word =
            WORDS.get(key as usize).map_or_else(|| ["key ", &key.to_string()].concat(), |w| (*w).to_owned());
        let text = ["ct ", &word].concat();
        self.loaded(e, 1, 4, Value { what, text, len: 4, mask: None });
    }

    /// What an expression loads; with a source register it writes to the packet instead.
    fn loaded(&mut self, e: ListedExpr<'_>, to: u16, from: u16, value: Value) {
        if e.bytes(from).is_some() || e.bytes(to).is_none() {
            self.r.say(&[&value.text, " set"]);
            return self.r.fail(&["it sets ", &value.text].concat());
        }
        self.r.load(e.or_0(to), Some(value));
    }

    #[inline(never)]
    fn payload(&mut self, e: ListedExpr<'_>) {
        let (base, offset, len) = (e.or_0(2), e.or_0(3), e.or_0(4));
        let v6 = self.r.rule.family == Some(Family::V6);
        let address =
            |family: Family, side: PacketSide| (What::Address { family, side }, side.of(" saddr", " daddr"));
        let at = |source| if offset == source { PacketSide::Source } else { PacketSide::Destination };
        let is_frame = self.context.of == TableOf::Frames;
        let full = len as usize <= if v6 { 16 } else { 4 } && len > 0;
        let (what, word) = match (base, offset) {
            (1, 12 | 16) if !v6 && full => address(Family::V4, at(12)),
            (1, 8 | 24) if v6 && full => address(Family::V6, at(8)),
            (1, 9) if self.r.rule.family == Some(Family::V4) && len == 1 => (What::Protocol, " protocol"),
            (1, 12) if !v6 && len == 8 => (What::Pair { of: Some(Family::V4) }, " saddr, daddr"),
            (1, 8) if v6 && len == 32 => (What::Pair { of: Some(Family::V6) }, " saddr, daddr"),
            (2, 0) if len == 4 => (What::Pair { of: None }, " sport, dport"),
            (2, 0 | 2) if len == 2 => (What::Port { side: at(0) }, at(0).of(" sport", " dport")),
            (2, 0) if len == 1 && matches!(self.r.protos.as_deref(), Some([1 | 58])) => {
                (What::Field(Field::Icmp), " icmp type")
            }
            (2, 13) if len == 1 && matches!(self.r.protos.as_deref(), Some([6])) => {
                (What::Field(Field::Flags), " tcp flags")
            }
            (1, 1) if len == 1 && self.r.rule.family == Some(Family::V4) => {
                (What::Field(Field::Dscp), " ip dscp")
            }
            (1, 0) if len == 2 && v6 => (What::Field(Field::Dscp), " ip6 dscp"),
            (1, 8) if len == 1 && self.r.rule.family == Some(Family::V4) => {
                (What::Field(Field::Ttl), " ip ttl")
            }
            (1, 7) if len == 1 && v6 => (What::Field(Field::Ttl), " ip6 hoplimit"),
            (0, 6) if len == 6 => (What::Field(Field::Mac), " ether saddr"),
            (0, field::TAG) if len == 2 => (What::Other, " ether type"),
            (0, field::TAG) if len == 4 && is_frame => (What::Field(Field::Vlan), " vlan"),
            _ => (What::Other, ""),
        };
        let head = match (what, base) {
            (What::Port { .. } | What::Pair { of: None }, _) => match self.r.protos.as_deref() {
                Some([6]) => "tcp",
                Some([17]) => "udp",
                _ => "th",
            },
            (What::Other | What::Field(_), _) if !word.is_empty() => "",
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

    #[inline(never)]
    fn bitwise(&mut self, e: ListedExpr<'_>) {
        let Some(mut value) = self.r.value(e.or_0(1)) else { return self.r.fail("it computes something") };
        let mask = e.value(4).unwrap_or_default();
        value.text = [value.text.as_str(), " & ", &key_shown(value.what, mask)].concat();
        let xor = e.value(5).unwrap_or_default();
        if value.what == What::Field(Field::Mark) && xor.iter().any(|b| *b != 0) && e.or_0(6) == 0 {
            let number = xor.try_into().ok().map(u32::from_ne_bytes);
            value.what = number.map_or(What::Other, What::MarkSet);
            value.mask = Some(mask.to_vec());
            return self.r.load(e.or_0(2), Some(value));
        }
        let plain = e.or_0(6) == 0 && e.value(5).is_some_and(|xor| xor.iter().all(|b| *b == 0));
        if !plain || mask.len() != value.len || value.mask.is_some() || e.number(8).is_some() {
            value.what = What::Other;
        }
        value.mask = Some(mask.to_vec());
        self.r.load(e.or_0(2), Some(value));
    }

    #[inline(never)]
    fn cmp(&mut self, e: ListedExpr<'_>) {
        const SIGNS: [&str; 6] = [" ", " != ", " < ", " <= ", " > ", " >= "];
        let (op, data) = (e.or_0(2), e.value(3).unwrap_or_default());
        let Some(value) = self.r.value(e.or_0(1)) else {
            self.r.say(&["cmp ", &hex(data)]);
            return self.r.fail("it compares something unknown");
        };
        let sign = SIGNS.get(op as usize).unwrap_or(&" ? ");
        self.r.say(&[&value.text, sign, &key_shown(value.what, data)]);
        match compared(op, data).filter(|_| op < 2 || self.is_ordered(value.what)) {
            Some((first, last)) => self.test(&value, &[(&first, &last)], op == 1),
            None => self.r.fail("it compares by order"),
        }
    }

    /// Whether the order of its bytes is that of its numbers.
    fn is_ordered(&self, what: What) -> bool {
        match what {
            What::Address { .. } | What::Port { .. } | What::Protocol | What::Family { ether: true } => true,
            What::Field(field) => !self.r.layout(field).host,
            _ => false,
        }
    }

    #[inline(never)]
    fn range(&mut self, e: ListedExpr<'_>) {
        let (from, to) = (e.value(3).unwrap_or_default(), e.value(4).unwrap_or_default());
        let Some(value) = self.r.value(e.or_0(1)) else {
            return self.r.fail("it compares something unknown");
        };
        let not = e.or_0(2) == 1;
        let sign = if not { " != " } else { " " };
        self.r.say(&[&value.text, sign, &key_shown(value.what, from), "-", &key_shown(value.what, to)]);
        if self.is_ordered(value.what) && from <= to && e.or_0(2) < 2 {
            self.test(&value, &[(from, to)], not);
        } else {
            self.r.fail("it compares by order");
        }
    }

    fn test(&mut self, value: &Value, keys: &[Keys<'_>], not: bool) {
        if self.stage != Stage::Matches {
            self.r.fail("it looks at packets after a limit or a log");
        }
        self.r.test(value, &FieldTest { keys, not }, self.context.interface);
    }

    pub(super) fn set(&self, name: &[u8]) -> Option<&'a sets::ListedSet> {
        let at = self.context.sets.binary_search_by(|set| set.name.as_slice().cmp(name)).ok()?;
        self.context.sets.get(at)
    }

    #[inline(never)]
    fn lookup(&mut self, e: ListedExpr<'_>) {
        let name = e.bytes(1).map(until_nul).unwrap_or_default();
        let not = e.or_0(5) & 1 != 0;
        let sign = if not { " != " } else { " " };
        let verdicts = e.number(3) == Some(0);
        let at = if verdicts { "vmap @" } else { "@" };
        let Some(value) = self.r.value(e.or_0(2)) else {
            // Of a map whose elements are not known, one may lead out of the chain.
            self.leaves |= verdicts;
            self.r.say(&["lookup ", at, &shown(name)]);
            return self.r.fail("it matches several things together");
        };
        let map = e.bytes(3).is_some();
        let found = self.set(name);
        if let Some((values, list)) = found.and_then(|set| self.together(e.or_0(2), set))
            && (map || found.is_some_and(sets::ListedSet::anonymous) && !not)
        {
            values.iter().for_each(|value| self.r.say(&[&value.text, " ."]));
            self.r.say(&[if map { "vmap" } else { "" }, " { ", &elements(What::Other, list), " }"]);
            return self.each_element(e, values, list);
        }
        match found.map(|set| &set.content) {
            Some(SetContent::List(list)) if map || found.is_some_and(sets::ListedSet::anonymous) => {
                let vmap = if map { " vmap" } else { "" };
                self.r.say(&[&value.text, vmap, sign, "{ ", &elements(value.what, list), " }"]);
                if map {
                    return self.each_element(e, vec![value], list);
                }
                let keys: Vec<Keys<'_>> =
                    list.iter().map(|e| (e.first.as_slice(), e.last.as_slice())).collect();
                self.test(&value, &keys, not);
            }
            Some(&(SetContent::Named(set, _) | SetContent::Buckets(set))) if !map => {
                let len = found.map_or(0, |set| set.key_len());
                self.r.say(&[&value.text, sign, "@", &shown(name)]);
                if self.stage != Stage::Matches {
                    self.r.fail("it looks at packets after a limit or a log");
                }
                let whole = value.mask.is_none() && value.len == len;
                let result = match value.what {
                    What::Address { family, side } if whole && family.bytes() == len && not => {
                        self.r.except_set(side.address(), set);
                        Ok(())
                    }
                    What::Port { side } if whole && not => {
                        self.r.except_set(side.port(), set);
                        Ok(())
                    }
                    What::Address { family, side } if whole && family.bytes() == len => {
                        self.r.add_addresses(family, side, Some(Addresses::Set(set)))
                    }
                    What::Port { side } if whole => self.r.add_ports(side, Ports::Set(set)),
                    _ => Err("it looks for something other than a whole address or port in a set".to_owned()),
                };
                result.unwrap_or_else(|why| self.r.fail(&why));
            }
            Some(SetContent::Odd(why)) => {
                self.leaves |= verdicts;
                self.r.say(&[&value.text, sign, at, &shown(name)]);
                self.r.fail(&["of the set ", &shown(name), ": ", why].concat());
            }
            _ => {
                self.leaves |= verdicts;
                self.r.say(&[&value.text, sign, at, &shown(name)]);
                self.r.fail("it uses a set in a way that the language does not have");
            }
        }
    }

    /// What stands side by side from a register on, if the keys of a set are several things together.
    fn together(&self, register: u32, set: &'a sets::ListedSet) -> Option<(Vec<Value>, &'a [Element])> {
        let SetContent::List(list) = &set.content else { return None };
        let (mut values, mut at) = (Vec::new(), 0);
        while at < set.key_len() {
            let value = self.r.value_behind(register, at)?;
            at += value.len.max(1).next_multiple_of(4);
            values.push(value);
        }
        (values.len() > 1 && at == set.key_len()).then_some((values, list))
    }

    /// A verdict map, or a list of several things together, becomes rules of their own, one for each element.
    #[inline(never)]
    fn each_element(&mut self, e: ListedExpr<'_>, values: Vec<Value>, list: &'a [Element]) {
        let map = e.bytes(3).is_some();
        let whole = list.iter().all(|e| e.verdict.is_some() == map) && (!map || e.number(3) == Some(0));
        let alone = self.elements.is_none() && self.stage == Stage::Matches;
        if !whole || !alone || list.is_empty() || list.len() > ELEMENTS_MAX {
            self.r.fail("it uses a map");
        }
        if map {
            self.stage = Stage::Decided;
            self.leaves |= list.iter().any(|e| e.verdict.as_ref().is_none_or(|(code, _)| leaves(*code)));
        }
        self.elements = list.get(..list.len().min(ELEMENTS_MAX)).map(|list| (values, list));
    }

    /// The rule as a whole: one for each protocol and for each verdict of a map.
    #[inline(never)]
    fn finish(mut self) -> ListedRule {
        let mut parts = Vec::new();
        match self.elements.take() {
            None => {
                self.r.finish();
                self.parts(&mut parts);
            }
            Some((values, list)) => {
                for element in list {
                    self.element(&values, element, &mut parts);
                }
                if list.len() > 1 && self.r.rule.log.is_some() {
                    self.r.fail(SHARED);
                }
            }
        }
        if parts.len() > 1 && self.r.rule.limit.is_some() {
            self.r.fail(SHARED);
        }
        ListedRule { text: self.r.text, parts: self.r.bad.map_or(Ok(parts), Err), leaves: self.leaves }
    }

    /// Adds a rule, and another one for what has no connection where the rule asks for what NAT does.
    fn push(&self, rule: Rule, parts: &mut Vec<RulePart>) {
        parts.push(self.part(rule));
        if self.r.alone == 0 {
            return;
        }
        if let Some(mut alone) = parts.last().cloned() {
            alone.rule.ct = self.r.alone;
            alone.rule.tests.retain(|test| test.field != Field::Status);
            parts.push(alone);
        }
    }

    fn part(&self, rule: Rule) -> RulePart {
        RulePart { rule, to: self.to.clone(), answer: self.answer.clone(), logs: self.logs }
    }

    /// One element of a map or list.
    #[inline(never)]
    fn element(&mut self, values: &[Value], element: &Element, parts: &mut Vec<RulePart>) {
        let (rule, protos, to) = (self.r.rule.clone(), self.r.protos.clone(), self.to.clone());
        self.stage = Stage::Matches;
        let mut at = 0;
        for value in values {
            let part = |key: &'_ [u8]| key.get(at..at + value.len).unwrap_or(key).to_vec();
            let (first, last) = (part(&element.first), part(&element.last));
            self.test(value, &[(&first, &last)], false);
            at += value.len.next_multiple_of(4);
        }
        self.r.finish();
        if let Some((code, chain)) = &element.verdict {
            let (verdict, to, _) = verdict(*code, chain);
            match verdict {
                Some(verdict) => (self.r.rule.verdict, self.to) = (verdict, to),
                None => self.r.fail("the language has no such verdict"),
            }
        }
        self.parts(parts);
        (self.r.rule, self.r.protos, self.to) = (rule, protos, to);
    }

    fn parts(&self, parts: &mut Vec<RulePart>) {
        let protos = self.r.protos.as_deref();
        // Several protocols are one rule, but where one of them is of one family alone.
        let icmp = |all: &&[u8]| self.r.rule.family.is_none() && all.iter().any(|n| matches!(n, 1 | 58));
        let joined = protos.filter(|all| all.len() > 1 && !icmp(all));
        if let Some(all) = joined {
            let mut rule = self.r.rule.clone();
            let numbers = all.iter().map(|n| (u128::from(*n), u128::from(*n))).collect();
            rule.tests.push(Test::new(Field::Proto, numbers));
            rule.tests.sort_unstable();
            self.push(rule, parts);
            return;
        }
        for at in 0..protos.map_or(1, <[u8]>::len) {
            let mut rule = self.r.rule.clone();
            rule.proto = protos.and_then(|all| all.get(at)).copied();
            // ICMP in packets of the other family is nothing that a host takes: to accept it is to accept
            // nothing.
            if rule.verdict == PacketVerdict::Accept && rule.family.is_none() {
                rule.family = match rule.proto {
                    Some(1) => Some(Family::V4),
                    Some(58) => Some(Family::V6),
                    _ => None,
                };
            }
            self.push(rule, parts);
        }
    }
}

/// Elements for people.
#[inline(never)]
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
