#![forbid(unsafe_code)]
//! A ban as an element of a set, written and read.

use super::TableState;
use super::scope::SetKind;
use crate::ban::{Ban, Standing};
use crate::base::bytes::find;
use crate::base::clock::Span;
use crate::base::net::prefix;
use crate::base::range::{Family, Range};
use crate::firewall::nft::elem::Timeout;
use crate::sys::clock;
use smallvec::SmallVec;
use std::io::Write as _;

impl Ban<'_> {
    pub(super) fn kind(&self, made: TableState) -> SetKind {
        kind(&self.addr, made.ipv6_prefix)
    }

    /// Milliseconds from now until it ends, `u64::MAX` if never.
    pub(super) fn left_ms(&self) -> u64 {
        match self.time {
            Span::Permanent => u64::MAX,
            Span::Secs(s) => s.max(1).saturating_mul(1000),
        }
    }

    pub(super) fn timeout(&self) -> Timeout {
        timeout(self.age.saturating_mul(1000), self.left_ms())
    }

    /// `RULE hits=N since=SECONDS: REASON`, each part only if it is there. Times that have an end are in the
    /// element itself.
    pub(super) fn comment(&self) -> SmallVec<[u8; 64]> {
        let mut text = SmallVec::new();
        text.extend_from_slice(self.rule.as_bytes());
        if self.hits > 0 {
            let _ = write!(text, " hits={}", self.hits);
        }
        if self.time == Span::Permanent {
            let _ = write!(text, " since={}", clock::wall().0.saturating_sub(self.age));
        }
        if !self.reason.is_empty() {
            let _ = write!(text, ": {}", self.reason);
        }
        text
    }
}

impl Standing {
    /// Takes apart what the kernel has of an element.
    pub(super) fn read(comment: &str, timeout_ms: u64, left_ms: u64) -> Standing {
        let Comment { rule, hits, since, reason } = read_comment(comment);
        let limited = timeout_ms > 0;
        let age = if limited {
            timeout_ms.saturating_sub(left_ms) / 1000
        } else {
            since.map_or(0, |since| clock::wall().0.saturating_sub(since))
        };
        // To the nearest second: what is written again and again must not grow or shrink by that.
        let left = limited.then(|| (left_ms.saturating_add(500) / 1000).max(1));
        Standing { age, left, rule: rule.to_owned(), hits, reason: reason.to_owned() }
    }
}

/// The life of an element that began `age` ms ago and has so many left, `u64::MAX` = all.
pub(super) fn timeout(age: u64, left: u64) -> Timeout {
    match left {
        u64::MAX => Timeout::Ms(0),
        left => Timeout::Left { total: age.saturating_add(left), left },
    }
}

/// Where a range belongs: IPv4 addresses and IPv6 prefixes of the table's length are keys of hash sets.
pub(in crate::firewall) fn kind(addr: &Range, ipv6_prefix: u8) -> SetKind {
    let length = match addr.family() {
        Family::V4 => 32,
        Family::V6 => ipv6_prefix,
    };
    match addr.as_net() {
        Some(net) if net.prefix_len() == length => SetKind::Hosts,
        _ => SetKind::Networks,
    }
}

/// The prefix of a hash set that has a range in it.
pub(super) fn prefix_of(range: &Range, ipv6_prefix: u8) -> Option<Range> {
    let whole = Range::from(prefix(range.first(), ipv6_prefix));
    whole.covers(range).then_some(whole)
}

/// The parts of a comment.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::firewall) struct Comment<'a> {
    pub(in crate::firewall) rule: &'a str,
    pub(in crate::firewall) hits: u32,
    /// Seconds since 1970 at which a permanent ban began.
    pub(super) since: Option<u64>,
    pub(in crate::firewall) reason: &'a str,
}

/// Takes apart what [`Ban::comment`] wrote.
pub(in crate::firewall) fn read_comment(comment: &str) -> Comment<'_> {
    let colon = find(comment.as_bytes(), b": ");
    let (head, reason) = colon.and_then(|at| comment.split_at_checked(at)).unwrap_or((comment, ""));
    let reason = reason.strip_prefix(": ").unwrap_or("");
    let mut rule = head;
    let mut number = |name: &str| {
        let (before, last) = rule.rsplit_once(' ').unwrap_or(("", rule));
        let number = last.strip_prefix(name)?.parse::<u64>();
        rule = before;
        number.ok()
    };
    let since = number("since=");
    let hits = number("hits=").and_then(|hits| u32::try_from(hits).ok()).unwrap_or(0);
    Comment { rule, hits, since, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Scope;

    #[test]
    fn comments_are_taken_apart() {
        let cases = [
            ("", ("", 0, None, "")),
            ("sshd hits=5", ("sshd", 5, None, "")),
            ("sshd hits=5 since=9", ("sshd", 5, Some(9), "")),
            (" since=9: x", ("", 0, Some(9), "x")),
            (" hits=5: a: b", ("", 5, None, "a: b")),
            ("a:b hits", ("a:b hits", 0, None, "")),
            ("sshd", ("sshd", 0, None, "")),
            (": too many: mails", ("", 0, None, "too many: mails")),
            ("sshd hits=x: why", ("sshd", 0, None, "why")),
        ];
        for (text, (rule, hits, since, reason)) in cases {
            assert_eq!(read_comment(text), Comment { rule, hits, since, reason }, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (rule, hits, reason, time) in [
            ("", 0, "", Span::Permanent),
            ("sshd", 5, "a: b", Span::Permanent),
            ("", 3, "by hand", Span::Secs(9)),
        ] {
            let addr = Range::EVERYBODY_V4;
            let ban = Ban {
                addr,
                scope: &Scope::ALL,
                time,
                age: 7,
                rule,
                hits,
                reason,
                bans: 0,
                starts: &[],
                line: "",
            };
            let comment = ban.comment();
            let text = std::str::from_utf8(&comment).unwrap();
            let (total, left) = if time == Span::Permanent { (0, 0) } else { (16_000, 9_000) };
            assert_eq!(Standing::read(text, total, left), Standing::of(&ban), "{text}");
        }
    }
}
