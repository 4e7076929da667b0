#![forbid(unsafe_code)]
//! The expressions behind those that look at a packet: limits, logs and what becomes of it. Whatever the
//! language has no words for makes the rule none.

use super::compat;
use super::expr::{DATA, ListedExpr, NAME, hex, shown, until_nul};
use super::reader::{Value, What};
use super::rule::{ExprWalk, Stage, foreign_comment};
use super::sets::SetContent;
use crate::base::name::Name;
use crate::base::range::{Family, Range};
use crate::firewall::field::{self, Load};
use crate::plan::listed::{ChainTarget, LogDetail};
use crate::plan::{
    Change, Field, Limit, LogTarget, Nat, NatKind, NatPick, PacketSide, PacketVerdict, Ports, Rate, Refusal,
    Reject,
};
use crate::sys::nlattr::{attr, be64};

/// Level of log lines where none is told, as the kernel has it.
const LOG_LEVEL: u32 = 4;

// How a rule answers, in words that listings of either kind of rule have.
pub(super) const RESET: &str = "tcp reset";
pub(super) const NO_ROUTE: &str = "no-route";
pub(super) const PORT_UNREACHABLE: &str = "port-unreachable";
pub(super) const HOST_UNREACHABLE: &str = "host-unreachable";
pub(super) const ADMIN_PROHIBITED: &str = "admin-prohibited";

impl ExprWalk<'_, '_> {
    #[inline(never)]
    pub(super) fn limit(&mut self, e: ListedExpr<'_>) {
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
    #[inline(never)]
    pub(super) fn buckets(&mut self, e: ListedExpr<'_>) {
        let name = e.bytes(1).map(until_nul).unwrap_or_default();
        let value = self.r.value(e.or_0(4));
        let text = value.as_ref().map_or("", |v| v.text.as_str());
        let inner = e
            .bytes(7)
            .and_then(|inner| Some((attr(inner, NAME).map(until_nul)?, ListedExpr(attr(inner, DATA)?))));
        let limit = inner.and_then(|(name, inner)| match name {
            b"limit" => bucket(inner),
            b"connlimit" => Some(connections(inner)),
            _ => None,
        });
        self.r.say(&["update @", &shown(name), " { ", text, if limit.is_some() { " limit }" } else { " }" }]);
        let keeps_sources = |v: &Value| {
            let v6 = [[0xff; 8], [0; 8]].concat();
            match v.what {
                What::Address { family: Family::V4, side: PacketSide::Source } => {
                    v.mask.is_none() && v.len == 4
                }
                What::Address { family: Family::V6, side: PacketSide::Source } => {
                    v.mask.as_ref() == Some(&v6)
                }
                _ => false,
            }
        };
        let set = match self.set(name).map(|set| &set.content) {
            Some(SetContent::Buckets(set)) if e.or_0(3) == 1 && e.bytes(5).is_none() => Some(*set),
            _ => None,
        };
        if let (None, Some(set), Some(value)) = (inner, set, &value) {
            return self.remembered(set, value, e.bytes(6).and_then(be64));
        }
        let known = set.is_some() && value.as_ref().is_some_and(keeps_sources);
        self.bound(limit.filter(|_| known).map(|limit| Limit { set, ..limit }));
    }

    /// `action=add:` as mef writes it.
    fn remembered(&mut self, set: Name, value: &Value, timeout: Option<u64>) {
        let family = match value.what {
            What::Address { family, side: PacketSide::Source } if value.mask.is_none() => Some(family),
            _ => None,
        };
        let seconds =
            timeout.filter(|ms| ms.is_multiple_of(1000)).and_then(|ms| u32::try_from(ms / 1000).ok());
        match seconds.filter(|_| family.is_some_and(|family| value.len == family.bytes())) {
            Some(seconds) => self.changed(Change::Add(set, seconds)),
            None => self.r.fail("it remembers something other than sources"),
        }
    }

    /// `flow add`
    pub(super) fn offload(&mut self, e: ListedExpr<'_>) {
        self.r.say(&["flow add @", &shown(e.bytes(1).map(until_nul).unwrap_or_default())]);
        self.changed(Change::Offload);
    }

    /// Notes what is done to the packet.
    fn changed(&mut self, change: Change) {
        self.stage = self.stage.max(Stage::Bounded);
        self.r.rule.changes.push(change);
    }

    /// `meta mark set`
    pub(super) fn set_mark(&mut self, e: ListedExpr<'_>) {
        let value = self.r.value(e.or_0(3));
        let number = |bytes: &Option<Vec<u8>>| {
            bytes.as_deref().and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
        };
        self.r.say(&["meta mark set ", value.as_ref().map_or("", |value| &value.text)]);
        let change = value.and_then(|value| match value.what {
            What::Data => Some((number(&value.mask)?, u32::MAX)),
            What::MarkSet(bits) => Some((bits, !number(&value.mask)?)),
            What::Field(Field::Mark) => Some((0, !number(&value.mask)?)),
            _ => None,
        });
        match change.and_then(|(bits, mask)| marked(bits, mask)) {
            Some(change) => self.changed(change),
            None => self.r.fail("it sets the mark in a way that the language does not have"),
        }
    }

    pub(super) fn connections(&mut self, e: ListedExpr<'_>) {
        let limit = connections(e);
        let over = if limit.over { "over " } else { "" };
        self.r.say(&["ct count ", over, &limit.rate.packets.to_string()]);
        self.bound(Some(limit));
    }

    pub(super) fn fib(&mut self, e: ListedExpr<'_>) {
        // NFTA_FIB_F_PRESENT: whether there is a result.
        let (result, flags) = (e.or_0(2), e.or_0(3));
        let known = [Field::SrcKind, Field::DstKind, Field::WayBack];
        let is = |field: &Field| self.r.layout(*field).load == Load::Fib(result, flags & !32);
        let found = known.into_iter().find(is);
        let what = found.filter(|f| flags & 32 == 0 || *f == Field::WayBack).map_or(What::Other, What::Field);
        let text = match found {
            Some(Field::SrcKind) => "fib saddr type".to_owned(),
            Some(Field::DstKind) => "fib daddr type".to_owned(),
            Some(Field::WayBack) => "fib saddr . iif oif".to_owned(),
            _ => ["fib ", &result.to_string(), " flags ", &flags.to_string()].concat(),
        };
        self.r.load(e.or_0(1), Some(Value { what, text, len: 4, mask: None }));
    }

    pub(super) fn byteorder(&mut self, e: ListedExpr<'_>) {
        let value = self.r.value(e.or_0(1));
        match value.filter(|value| matches!(value.what, What::Field(Field::Time) | What::PathMss)) {
            Some(value) if e.or_0(3) == 1 => self.r.load(e.or_0(2), Some(value)),
            _ => self.r.fail("it turns bytes around"),
        }
    }

    pub(super) fn route(&mut self, e: ListedExpr<'_>) {
        let what = if e.number(2) == Some(3) { What::PathMss } else { What::Other };
        let text = ["rt ", if what == What::PathMss { "mtu" } else { "other" }].concat();
        self.r.load(e.or_0(1), Some(Value { what, text, len: 2, mask: None }));
    }

    /// `tcp option maxseg size set`, and extension headers of IPv6.
    pub(super) fn header_option(&mut self, e: ListedExpr<'_>) {
        if e.bytes(1).is_some() {
            return self.header(e);
        }
        let place = (e.bytes(2), e.or_0(3), e.or_0(4), e.or_0(6));
        let value = e.number(7).and_then(|register| self.r.value(register));
        let size = value.and_then(|value| match value.what {
            What::PathMss => Some(0),
            What::Data => {
                value.mask.as_deref().and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes)
            }
            _ => None,
        });
        self.r.say(&["tcp option maxseg size set"]);
        match size.filter(|_| place == (Some(&[2][..]), 2, 2, 1)) {
            Some(size) => self.changed(Change::Mss(size)),
            None => self.r.fail("it looks at or sets an option of a header"),
        }
    }

    /// An extension header: whether it is there, or the type of one for routing.
    fn header(&mut self, e: ListedExpr<'_>) {
        const WORDS: [(u8, &str); 5] = [(0, "hbh"), (43, "rt"), (44, "frag"), (60, "dst"), (135, "mh")];
        let kind = e.bytes(2).and_then(|kind| kind.first().copied()).unwrap_or(0);
        // NFT_EXTHDR_F_PRESENT; NFT_EXTHDR_OP_IPV6 is 0.
        let there = e.or_0(5) == 1 && e.or_0(3) == 0;
        let typed = u128::from(kind) == field::ROUTING && e.or_0(3) == field::ROUTING_TYPE_AT;
        let known = e.or_0(6) == 0 && (there || typed && e.or_0(5) == 0) && e.or_0(4) <= 1;
        let what = if known { What::Header { kind, typed } } else { What::Other };
        let word = WORDS.iter().find(|(number, _)| *number == kind && e.or_0(6) == 0);
        let word = word.map_or_else(|| kind.to_string(), |(_, word)| (*word).to_owned());
        let text = ["exthdr ", &word, if typed { " type" } else { "" }].concat();
        self.r.load(e.or_0(1), Some(Value { what, text, len: 1, mask: None }));
    }

    /// What the rule has loaded for a translation: an address or a port.
    fn loaded_data(&self, e: ListedExpr<'_>, kind: u16) -> Option<Vec<u8>> {
        self.r.value(e.number(kind)?).filter(|value| value.what == What::Data)?.mask
    }

    /// Ports of a translation, whose registers two attributes have; `Err` if they are not loaded by the rule.
    fn nat_ports(&self, e: ListedExpr<'_>, from: u16, to: u16) -> Result<Option<(u16, u16)>, ()> {
        if e.bytes(from).is_none() {
            return Ok(None);
        }
        let port = |kind| -> Option<u16> {
            let bytes = self.loaded_data(e, kind)?;
            bytes.as_slice().try_into().ok().map(u16::from_be_bytes)
        };
        let first = port(from).ok_or(())?;
        let last = if e.bytes(to).is_some() { port(to).ok_or(())? } else { first };
        if first <= last { Ok(Some((first, last))) } else { Err(()) }
    }

    fn translated(
        &mut self,
        kind: NatKind,
        to: Option<Range>,
        ports: Result<Option<(u16, u16)>, ()>,
        flags: u32,
    ) {
        let words = match kind {
            NatKind::Snat => "snat to ",
            NatKind::Dnat => "dnat to ",
            NatKind::Masquerade => "masquerade",
            NatKind::Redirect => "redirect",
        };
        self.r.say(&[words, &to.map(|to| to.to_string()).unwrap_or_default()]);
        if let Ok(Some((first, last))) = ports {
            self.r.say(&[" to :", &first.to_string(), "-", &last.to_string()]);
        }
        self.stage = Stage::Decided;
        match (ports, picked(flags)) {
            (Ok(ports), Some(pick)) => {
                self.r.rule.verdict = PacketVerdict::Nat(Nat { kind, to, ports, pick });
            }
            _ => self.r.fail("it translates addresses in a way that the language does not have"),
        }
    }

    #[inline(never)]
    pub(super) fn nat(&mut self, e: ListedExpr<'_>) {
        let kind = if e.or_0(1) == 0 { NatKind::Snat } else { NatKind::Dnat };
        let end = |bytes: Option<Vec<u8>>| Range::from_key(&bytes?);
        let (first, last) = (end(self.loaded_data(e, 3)), end(self.loaded_data(e, 4)));
        let to = match (first, last) {
            (Some(first), Some(last)) => Range::new(first.first(), last.first()),
            (Some(first), None) if e.bytes(4).is_none() => Some(first),
            _ => None,
        };
        let ports = self.nat_ports(e, 5, 6);
        if to.is_none() && (e.bytes(3).is_some() || ports == Ok(None)) {
            self.r.fail("it translates to addresses of a map");
        }
        // Other ports alone, in a table of both families, may be those of one.
        let one = match e.or_0(2).cast_signed() {
            libc::NFPROTO_IPV4 => Some(Family::V4),
            libc::NFPROTO_IPV6 => Some(Family::V6),
            _ => None,
        };
        let family = to.map(|to| to.family()).or(one);
        if let Some(of) = family {
            match self.r.rule.family {
                None => self.r.rule.family = Some(of),
                Some(family) if family != of => self.r.fail("it matches no packet"),
                Some(_) => {}
            }
        }
        self.translated(kind, to, ports, e.or_0(7));
    }

    pub(super) fn masquerade(&mut self, e: ListedExpr<'_>) {
        let ports = self.nat_ports(e, 2, 3);
        self.translated(NatKind::Masquerade, None, ports, e.or_0(1));
    }

    pub(super) fn redirect(&mut self, e: ListedExpr<'_>) {
        let ports = self.nat_ports(e, 1, 2);
        self.translated(NatKind::Redirect, None, ports, e.or_0(3));
    }

    #[inline(never)]
    pub(super) fn log(&mut self, e: ListedExpr<'_>) {
        let prefix = e.bytes(2).map(until_nul).unwrap_or_default();
        self.r.say(&["log prefix \"", &shown(prefix), "\""]);
        if let Some(group) = e.bytes(1) {
            self.r.say(&["group ", &hex(group)]);
        }
        let level = u8::try_from(e.number(5).unwrap_or(LOG_LEVEL)).ok().filter(|level| *level < 8);
        let group = e.bytes(1).and_then(|group| group.try_into().ok()).map(u16::from_be_bytes);
        let to = match (group, level) {
            (Some(group), _) => Some(LogTarget::Group(group)),
            (None, level) => level.map(LogTarget::Level),
        };
        self.logs = if e.or_0(6) == 0 { LogDetail::Usual } else { LogDetail::More };
        // How much of a packet, and how many of them at once.
        let plain = e.or_0(3) == 0 && e.bytes(4).is_none_or(|n| n.iter().all(|b| *b == 0));
        self.r.rule.log_to = to.unwrap_or(LogTarget::DEFAULT);
        self.logged(std::str::from_utf8(prefix).ok().filter(|_| plain && to.is_some()));
    }

    fn logged(&mut self, prefix: Option<&str>) {
        if self.stage >= Stage::Logged {
            self.r.fail("it logs twice");
        }
        self.stage = Stage::Logged;
        match prefix.filter(|prefix| !prefix.chars().any(char::is_control)) {
            Some(prefix) => self.r.rule.log = Some(prefix.to_owned()),
            None => self.r.fail("it logs in a way that the language does not have"),
        }
    }

    #[inline(never)]
    pub(super) fn reject(&mut self, e: ListedExpr<'_>) {
        let code = e.bytes(2).and_then(|code| code.first().copied()).unwrap_or(0);
        let answer = match (e.or_0(1), code, self.r.rule.family) {
            (1, ..) => RESET,
            (2, 0, _) | (0, 0, Some(_)) => NO_ROUTE,
            (2, 1, _) | (0, 3, Some(Family::V4)) | (0, 4, Some(Family::V6)) => PORT_UNREACHABLE,
            (2, 2, _) | (0, 1, Some(Family::V4)) | (0, 3, Some(Family::V6)) => HOST_UNREACHABLE,
            (2, 3, _) | (0, 13, Some(Family::V4)) | (0, 1, Some(Family::V6)) => ADMIN_PROHIBITED,
            (0, ..) => "another icmp code",
            _ => return self.r.fail("it refuses in an unknown way"),
        };
        self.r.say(&["reject with ", answer]);
        self.refuse(answer);
    }

    /// Notes how it answers; what both families have is said by the verdict itself.
    fn refuse(&mut self, answer: &str) {
        self.stage = Stage::Decided;
        let (reject, other) = match answer {
            RESET => (Reject::Reset, ""),
            NO_ROUTE => (Reject::With(Refusal::NoRoute), ""),
            HOST_UNREACHABLE => (Reject::With(Refusal::HostUnreachable), ""),
            ADMIN_PROHIBITED => (Reject::With(Refusal::AdminProhibited), ""),
            PORT_UNREACHABLE => (Reject::USUAL, ""),
            other => (Reject::USUAL, other),
        };
        (self.r.rule.verdict, self.answer) = (PacketVerdict::Reject(reject), other.to_owned());
    }

    #[inline(never)]
    pub(super) fn immediate(&mut self, e: ListedExpr<'_>) {
        let Some((code, chain)) = e.verdict(2).filter(|_| e.number(1) == Some(0)) else {
            let Some(bytes) = e.value(2) else { return self.r.fail("it sets something") };
            let value =
                Value { what: What::Data, text: hex(bytes), len: bytes.len(), mask: Some(bytes.to_vec()) };
            return self.r.load(e.or_0(1), Some(value));
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

    #[inline(never)]
    pub(super) fn compat(&mut self, kind: compat::XtKind, e: ListedExpr<'_>) {
        let (name, info) = (e.bytes(1).map(until_nul).unwrap_or_default(), e.bytes(3).unwrap_or_default());
        let word = if kind == compat::XtKind::Match { "match " } else { "target " };
        let family = self.r.rule.family;
        let rev = e.or_0(2);
        match compat::read(kind, name, rev, info, family) {
            Some(compat::Xt::Comment(text)) => {
                if self.r.rule.comment.is_empty() {
                    self.r.rule.comment = foreign_comment(&text);
                }
            }
            Some(compat::Xt::Tests(tests)) => {
                self.r.say(&["match ", &shown(name), " ", &hex(info.get(..16).unwrap_or(info))]);
                if self.stage != Stage::Matches {
                    self.r.fail("it looks at packets after a limit or a log");
                }
                for test in tests {
                    let result = match test {
                        compat::CompatTest::Ports { side, ranges } => {
                            self.r.add_ports(side, Ports::Ranges(ranges))
                        }
                        compat::CompatTest::States(bits) => self.r.add_states(bits),
                        compat::CompatTest::NoStates { states, status } => {
                            self.r.except_states(states, status)
                        }
                        compat::CompatTest::Field(test) => {
                            self.r.add_test(test);
                            Ok(())
                        }
                    };
                    result.unwrap_or_else(|why| self.r.fail(&why));
                }
            }
            Some(compat::Xt::Change(change)) => {
                self.r.say(&["target ", &shown(name)]);
                self.changed(change);
            }
            Some(compat::Xt::Nat(nat, flags)) => self.translated(nat.kind, nat.to, Ok(nat.ports), flags),
            Some(compat::Xt::Log { prefix, to, detail }) => {
                (self.r.rule.log_to, self.logs) = (to, detail);
                self.r.say(&["log prefix \"", &shown(prefix.as_bytes()), "\""]);
                self.logged(Some(&prefix));
            }
            Some(compat::Xt::Reject(answer)) => {
                self.r.say(&["reject with ", answer]);
                self.refuse(answer);
            }
            None => {
                let rest = if info.len() > 64 { "..." } else { "" };
                self.r.say(&[word, &shown(name), " ", &hex(info.get(..64).unwrap_or(info)), rest]);
                self.r.fail(&["the language has no ", word, &shown(name)].concat());
            }
        }
    }
}

/// A verdict by its number, with the chain that it leads to, and its words.
pub(super) fn verdict(code: i32, chain: &[u8]) -> (Option<PacketVerdict>, Option<ChainTarget>, String) {
    let target = |back| Some(ChainTarget { chain: shown(chain), back });
    match code {
        libc::NF_ACCEPT => (Some(PacketVerdict::Accept), None, "accept".into()),
        libc::NF_DROP => (Some(PacketVerdict::Drop), None, "drop".into()),
        libc::NFT_RETURN => (Some(PacketVerdict::Return), None, "return".into()),
        libc::NFT_CONTINUE => (Some(PacketVerdict::Next), None, "continue".into()),
        libc::NFT_JUMP => (Some(PacketVerdict::Next), target(true), ["jump ", &shown(chain)].concat()),
        libc::NFT_GOTO => (Some(PacketVerdict::Next), target(false), ["goto ", &shown(chain)].concat()),
        _ => (None, None, ["verdict ", &code.to_string()].concat()),
    }
}

/// Whether a verdict ends the chain and decides nothing.
pub(super) const fn leaves(code: i32) -> bool {
    matches!(code, libc::NFT_RETURN | libc::NFT_GOTO)
}

/// The mark that a rule sets, in the words of a plan: bits are set, or turned over.
pub(super) fn marked(bits: u32, mask: u32) -> Option<Change> {
    (bits & !mask == 0 || mask == 0).then_some(Change::Mark(bits, mask))
}

/// How an address or port is picked. NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED say no more than the rest.
pub(super) fn picked(flags: u32) -> Option<Option<NatPick>> {
    match flags & !3 {
        0 => Some(None),
        bits => NatPick::ALL.iter().find(|(_, bit)| *bit == bits).map(|(pick, _)| Some(*pick)),
    }
}

/// A number of connections at the same time.
fn connections(e: ListedExpr<'_>) -> Limit {
    let rate = Rate { packets: e.or_0(1), per: 0 };
    Limit { rate, burst: 0, over: e.or_0(2) & 1 == 1, set: None }
}

/// A limit of packets.
fn bucket(e: ListedExpr<'_>) -> Option<Limit> {
    let number = |kind| e.bytes(kind).and_then(be64);
    let per = number(2).and_then(|per| u32::try_from(per).ok())?;
    let packets = number(1).and_then(|rate| u32::try_from(rate).ok())?;
    let good = matches!(per, 1 | 60 | 3600 | 86_400) && packets > 0 && e.or_0(4) == 0 && e.or_0(5) < 2;
    let rate = Rate { packets, per };
    good.then(|| Limit { rate, burst: e.or_0(3), over: e.or_0(5) == 1, set: None })
}
