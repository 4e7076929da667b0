#![forbid(unsafe_code)]
//! A ban as an element of a set, written and read: `SINCE[-UNTIL] RULE hits=N: REASON` in its comment, for
//! ip_set remembers no beginning, and no end that is further away than 24 days.

use crate::ban::{Ban, SCANS, Standing};
use crate::base::clock::{Span, Wall};
use crate::base::line::quotable;
use crate::base::net::prefix;
use crate::base::range::{Family, Range};
use crate::firewall::guard::{SetKind, read_comment};
use crate::firewall::ipset::message::{COMMENT_MAX, Elem, Found, Key, TIMEOUT_MAX};
use ipnet::IpNet;
use std::cmp::Ordering;
use std::fmt::Write as _;

/// What a set holds of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) range: Range,
    pub(super) standing: Standing,
    /// When it began, if that is known.
    pub(super) since: Option<u64>,
    pub(super) packets: Option<u64>,
    /// Seconds that its element has left, if it has an end of its own.
    pub(super) element_left: Option<u32>,
}

/// The comment of a ban.
pub(super) fn comment(ban: &Ban<'_>, now: Wall) -> String {
    let mut text = String::new();
    let _ = write!(text, "{}", now.0.saturating_sub(ban.age));
    if let Span::Secs(secs) = ban.time
        && secs > u64::from(TIMEOUT_MAX)
    {
        let _ = write!(text, "-{}", now.0.saturating_add(secs));
    }
    let _ = write!(text, " {}", ban.rule);
    if ban.hits > 0 {
        let _ = write!(text, " hits={}", ban.hits);
    }
    if !ban.reason.is_empty() {
        let _ = write!(text, ": {}", ban.reason);
    }
    // `ipset save` writes it between quotes, and knows no escapes.
    if text.contains(|c| quotable(c) != c) {
        text = text.chars().map(quotable).collect();
    }
    fit(&mut text);
    text
}

/// Cuts what ip_set has no room for, between characters.
pub(super) fn fit(comment: &mut String) {
    while comment.len() > COMMENT_MAX {
        comment.pop();
    }
}

/// Seconds that the element of a ban lives, 0 = for good.
pub(super) fn timeout(time: Span) -> u32 {
    match time {
        Span::Permanent => 0,
        Span::Secs(secs) => u32::try_from(secs.max(1)).unwrap_or(u32::MAX).min(TIMEOUT_MAX),
    }
}

/// Takes apart what the kernel has of an element.
pub(super) fn read(found: &Found<'_>, kind: SetKind, ipv6_prefix: u8, now: Wall) -> Option<Held> {
    let mut range = found.range?;
    if kind != SetKind::Networks && range.family() == Family::V6 && range.first() == range.last() {
        range = Range::from(prefix(range.first(), ipv6_prefix));
    }
    let (times, rest) = found.comment.split_once(' ').unwrap_or((found.comment, ""));
    let (since, until) = times.split_once('-').map_or((times, None), |(a, b)| (a, Some(b)));
    let since: Option<u64> = since.parse().ok();
    let until: Option<u64> = until.and_then(|until| until.parse().ok());
    // What rules of iptables add has no comment.
    let rest = if since.is_some() { rest } else { found.comment };
    let comment = read_comment(rest);
    let by_kernel = kind == SetKind::Scans && found.comment.is_empty();
    let left = match (until, found.left) {
        (Some(until), Some(_)) => Some(until.saturating_sub(now.0).max(1)),
        (_, left) => left.map(u64::from),
    };
    let standing = Standing {
        age: since.map_or(0, |since| now.0.saturating_sub(since)),
        left,
        rule: if by_kernel { SCANS } else { comment.rule }.to_owned(),
        hits: comment.hits,
        reason: comment.reason.to_owned(),
    };
    Some(Held { range, standing, since, packets: found.packets, element_left: found.left })
}

/// The key of a host, or of a prefix, in a hash of addresses.
pub(super) fn host_key(range: &Range) -> Key<'static> {
    Key::Net(range.first(), 0)
}

/// Hosts, or prefixes, as elements of a hash of addresses.
pub(super) fn host_elems(all: &[Range]) -> Vec<Elem<'static>> {
    all.iter().map(|range| plain(host_key(range))).collect()
}

/// Ranges as elements of a set of networks: those of length 0 it does not take.
pub(super) fn net_elems<'c>(ranges: &[Range], timeout: Option<u32>, comment: &'c str) -> Vec<Elem<'c>> {
    let mut all = Vec::with_capacity(ranges.len());
    for range in ranges {
        for net in nets(*range) {
            all.push(Elem { key: Key::Net(net.addr(), net.prefix_len()), timeout, comment });
        }
    }
    all
}

/// The networks that are a range, none of them everything.
pub(super) fn nets(range: Range) -> Vec<IpNet> {
    let mut all = Vec::new();
    for net in range.nets() {
        match net.subnets(1) {
            Ok(halves) if net.prefix_len() == 0 => all.extend(halves),
            _ => all.push(net),
        }
    }
    all
}

/// Puts them in an order: one function for all, so that sorting is in the program once.
pub(super) fn sort(all: &mut [Held], order: fn(&Held, &Held) -> Ordering) {
    all.sort_by(order);
}

/// Sorts them by range, those of one range by their ends, the latest first; leaves the first of each.
pub(super) fn sort_and_dedup(all: &mut Vec<Held>) {
    sort(all, |a, b| a.range.cmp(&b.range).then(b.end().cmp(&a.end())));
    all.dedup_by(|next, one| next.range == one.range);
}

impl Held {
    /// The seconds that it has left, of those without an end the most.
    pub(super) fn end(&self) -> u64 {
        self.standing.left.unwrap_or(u64::MAX)
    }
}

/// An element as it is named to be deleted or asked for.
pub(super) fn plain(key: Key<'_>) -> Elem<'_> {
    Elem { key, timeout: None, comment: "" }
}

/// Puts networks together that are parts of one ban, and leaves those out that a longer one is around.
pub(super) fn joined(mut all: Vec<Held>) -> Vec<Held> {
    // The first of those that begin at the same address is the widest, and of the same the longest.
    sort(&mut all, |a, b| {
        let order = |h: &Held| (h.range.family() == Family::V6, h.range.first());
        order(a).cmp(&order(b)).then(b.range.last().cmp(&a.range.last())).then(b.end().cmp(&a.end()))
    });
    let mut done: Vec<Held> = Vec::with_capacity(all.len());
    // Those around what comes next.
    let mut around: Vec<(Range, u64)> = Vec::new();
    for held in all {
        around.retain(|(range, _)| range.covers(&held.range));
        let hidden = around.iter().any(|(_, end)| *end >= held.end());
        around.push((held.range, held.end()));
        if hidden {
            continue;
        }
        match done.last_mut() {
            Some(last) if is_part(last, &held) => {
                last.range = last.range.joined(&held.range).unwrap_or(last.range);
            }
            _ => done.push(held),
        }
    }
    done
}

/// Whether two that follow each other are of one ban.
fn is_part(one: &Held, next: &Held) -> bool {
    let near = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) <= 1,
        (a, b) => a == b,
    };
    let (a, b) = (&one.standing, &next.standing);
    !one.range.meets(&next.range)
        && one.range.joined(&next.range).is_some()
        && one.since == next.since
        && near(a.left, b.left)
        && (&a.rule, a.hits, &a.reason) == (&b.rule, b.hits, &b.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Scope;

    fn held(range: &str, left: Option<u64>, since: u64) -> Held {
        let range = match range.parse::<IpNet>() {
            Ok(net) => Range::from(net),
            Err(_) => Range::from(range.parse::<std::net::IpAddr>().unwrap()),
        };
        let standing = Standing { left, ..Standing::default() };
        Held { range, standing, since: Some(since), packets: None, element_left: None }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let now = Wall(1_700_000_000);
        for (rule, hits, reason, time) in [
            ("", 0, "", Span::Permanent),
            ("sshd", 5, "a: b", Span::Secs(60)),
            ("", 3, "by hand", Span::Secs(90 * 86_400)),
        ] {
            let addr = Range::from("192.0.2.7".parse::<std::net::IpAddr>().unwrap());
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
            let (text, secs) = (comment(&ban, now), timeout(time));
            assert!(secs <= TIMEOUT_MAX);
            let left = Some(secs).filter(|secs| *secs > 0);
            let found =
                Found { range: Some(addr), port: (0, 0), member: "", left, comment: &text, packets: None };
            let read = read(&found, SetKind::Hosts, 64, now).unwrap();
            assert_eq!((read.range, read.standing), (addr, Standing::of(&ban)), "{text}");
        }
    }

    #[test]
    fn comments_are_bounded_and_have_no_quotes() {
        let reason = "\"ü".repeat(200);
        let ban = Ban {
            addr: Range::EVERYBODY_V4,
            scope: &Scope::ALL,
            time: Span::Permanent,
            age: 0,
            rule: "x",
            hits: 1,
            reason: &reason,
            bans: 0,
            starts: &[],
            line: "",
        };
        let text = comment(&ban, Wall(1_700_000_000));
        assert!(text.len() <= COMMENT_MAX && text.len() > 250 && !text.contains('"'), "{text}");
    }

    #[test]
    fn parts_of_a_ban_are_one_and_the_longer_hides_the_shorter() {
        let show = |all: Vec<Held>| {
            let text = |h: &Held| format!("{} {:?}", h.range, h.standing.left);
            joined(all).iter().map(text).collect::<Vec<_>>()
        };
        let all = vec![
            held("203.0.113.5", Some(60), 1),
            held("203.0.113.6/31", Some(59), 1),
            held("203.0.113.8/31", Some(60), 1),
            held("203.0.113.10/31", Some(60), 2),
        ];
        assert_eq!(show(all), ["203.0.113.5-203.0.113.9 Some(60)", "203.0.113.10/31 Some(60)"]);
        let all = vec![held("10.1.0.0/16", Some(5), 1), held("10.0.0.0/8", Some(60), 1)];
        assert_eq!(show(all), ["10.0.0.0/8 Some(60)"]);
        let all = vec![held("10.1.0.0/16", None, 1), held("10.0.0.0/8", Some(60), 1)];
        assert_eq!(show(all), ["10.0.0.0/8 Some(60)", "10.1.0.0/16 None"]);
        assert_eq!(nets(Range::EVERYBODY_V4).len(), 2);
    }
}
