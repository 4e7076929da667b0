#![forbid(unsafe_code)]
//! The expressions behind those that look at a packet: limits, logs and what becomes of it. Whatever the
//! language has no words for makes the rule none.

use super::compat;
use super::expr::{DATA, ListedExpr, NAME, hex, shown, until_nul};
use super::reader::{Value, What};
use super::rule::{ExprWalk, Stage, foreign_comment};
use super::sets::SetContent;
use crate::base::range::Family;
use crate::plan::listed::ChainTarget;
use crate::plan::{Limit, PacketVerdict, Ports, Rate, Reject};
use crate::sys::nlattr::{attr, be64};

/// Level of log lines where none is told, as the kernel has it.
const LOG_LEVEL: u32 = 4;

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
        let inner = e.bytes(7).filter(|inner| attr(inner, NAME).map(until_nul) == Some(b"limit"));
        let limit = inner.and_then(|inner| bucket(ListedExpr(attr(inner, DATA)?)));
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
            Some(SetContent::Buckets(set)) if e.or_0(3) == 1 && e.bytes(5).is_none() => Some(*set),
            _ => None,
        };
        let known = set.is_some() && value.as_ref().is_some_and(is_source);
        self.bound(limit.filter(|_| known).map(|limit| Limit { set, ..limit }));
    }

    #[inline(never)]
    pub(super) fn log(&mut self, e: ListedExpr<'_>) {
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
            None => self.r.fail("it logs in a way that the language does not have"),
        }
    }

    #[inline(never)]
    pub(super) fn reject(&mut self, e: ListedExpr<'_>) {
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
        self.r.rule.verdict =
            PacketVerdict::Reject(if reset { Reject::Reset } else { Reject::PortUnreachable });
        self.answer = if reset { String::new() } else { answer.to_owned() };
    }

    #[inline(never)]
    pub(super) fn immediate(&mut self, e: ListedExpr<'_>) {
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

    #[inline(never)]
    pub(super) fn compat(&mut self, is_match: bool, e: ListedExpr<'_>) {
        let (name, info) = (e.bytes(1).map(until_nul).unwrap_or_default(), e.bytes(3).unwrap_or_default());
        let kind = if is_match { "match " } else { "target " };
        let family = self.r.rule.family;
        let rev = e.or_0(2);
        match compat::read(is_match, name, rev, info, family) {
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
                        compat::CompatTest::Ports { is_source, ranges } => {
                            self.r.add_ports(is_source, Ports::Ranges(ranges))
                        }
                        compat::CompatTest::States(bits) => self.r.add_states(bits),
                    };
                    result.unwrap_or_else(|why| self.r.fail(&why));
                }
            }
            Some(compat::Xt::Log(prefix)) => {
                self.r.say(&["log prefix \"", &shown(prefix.as_bytes()), "\""]);
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

/// A limit of packets.
fn bucket(e: ListedExpr<'_>) -> Option<Limit> {
    let number = |kind| e.bytes(kind).and_then(be64);
    let per = number(2).and_then(|per| u32::try_from(per).ok())?;
    let packets = number(1).and_then(|rate| u32::try_from(rate).ok())?;
    let good = matches!(per, 1 | 60 | 3600 | 86_400) && packets > 0 && e.or_0(4) == 0 && e.or_0(5) < 2;
    let rate = Rate { packets, per };
    good.then(|| Limit { rate, burst: e.or_0(3), over: e.or_0(5) == 1, set: None })
}
