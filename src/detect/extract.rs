#![forbid(unsafe_code)]
//! The address out of a match, or the reason why there is none to be sure of.
//!
//! Log text is written by attackers. When the patterns of one rule allow a line to be read so that another
//! address is the sender, the line decides nothing. Must not know headers, rules' names or what a hit leads
//! to.

use super::scan::bit;
use crate::base::net::parse_addr;
use crate::pattern::{CaptureGroup, Captures, MatchScratch, Pattern};
use std::net::IpAddr;
use std::ops::Range;

/// What a line says to the patterns of one rule.
pub(super) enum AddrFinding {
    /// No pattern matches.
    Nothing,
    /// A pattern matches, but what stands for the address is none (a host name, perhaps).
    NoAddress,
    /// More than one address is possible.
    Ambiguous,
    /// The sender, and the weight of the pattern that found it.
    Sender(LineSender),
}

pub(super) struct LineSender {
    pub(super) addr: IpAddr,
    pub(super) weight: u8,
    /// The number of that pattern, or 0: what only accompanies an attempt is no other way to fail.
    pub(super) way: u8,
    /// Where everything stands in the text.
    pub(super) found: Captures,
}

/// Judges `text` by those patterns of a rule whose `scan::bit` is in `may` (the others cannot match): the
/// first that matches and has an address decides, if nothing contradicts.
pub(super) fn sender(
    fail: &[(Pattern, u8)],
    may: u64,
    text: &[u8],
    scratch: &mut MatchScratch,
) -> AddrFinding {
    let possible = |n: usize| may & bit(n) != 0;
    let mut matched = false;
    for (n, (pattern, weight)) in fail.iter().enumerate() {
        if !possible(n) {
            continue;
        }
        let Some(found) = pattern.find(text, scratch) else { continue };
        matched = true;
        let Some((ip, addr)) = address(text, &found, scratch) else { continue };
        if !only_address(text, &ip) {
            let others = fail.iter().enumerate().filter(|&(other, _)| other != n && possible(other));
            let others = others.map(|(_, (pattern, _))| pattern);
            if contradicted(pattern, &found, addr, others, text, scratch) {
                return AddrFinding::Ambiguous;
            }
        }
        return AddrFinding::Sender(LineSender {
            addr,
            weight: *weight,
            way: if *weight == 0 { 0 } else { u8::try_from(n).unwrap_or(u8::MAX) },
            found,
        });
    }
    if matched { AddrFinding::NoAddress } else { AddrFinding::Nothing }
}

fn address(text: &[u8], found: &Captures, scratch: &MatchScratch) -> Option<(Range<usize>, IpAddr)> {
    let ip = found.get(CaptureGroup::Ip)?;
    let addr = scratch.address(&ip).or_else(|| parse_addr(text.get(ip.clone())?))?;
    Some((ip, addr))
}

/// Whether another reading, by the same pattern or one of the `others`, gives another address than `addr`.
fn contradicted<'a>(
    pattern: &Pattern,
    found: &Captures,
    addr: IpAddr,
    others: impl Iterator<Item = &'a Pattern>,
    text: &[u8],
    scratch: &mut MatchScratch,
) -> bool {
    let differs = |ip: Range<usize>| text.get(ip).and_then(parse_addr).is_some_and(|other| other != addr);
    let mut contradicted = false;
    let complete = pattern.other_readings(text, found, scratch, &mut |ip| contradicted |= differs(ip));
    if contradicted || !complete {
        return true;
    }
    // Of another pattern the preferred reading is enough only if it has no further ones.
    for other in others {
        let Some(found) = other.find(text, scratch) else { continue };
        contradicted |= found.get(CaptureGroup::Ip).is_some_and(differs);
        let complete = other.other_readings(text, &found, scratch, &mut |ip| contradicted |= differs(ip));
        if contradicted || !complete {
            return true;
        }
    }
    false
}

/// Whether nothing outside of `ip` can be another address. Says no when in doubt: it only saves the search
/// for other readings, which most lines do not need. Within one word there is one address.
fn only_address(text: &[u8], ip: &Range<usize>) -> bool {
    let (Some(before), Some(after)) = (text.get(..ip.start), text.get(ip.end..)) else { return false };
    let begins_word = before.last().is_none_or(|b| !b.is_ascii_alphanumeric() && !b".-_%".contains(b));
    // What goes on next to it may be a part of it.
    let is_part = |b: &&u8| b.is_ascii_hexdigit() || matches!(b, b'.' | b':');
    let colons = |b: &&u8| **b == b':';
    begins_word
        && before.iter().rev().take_while(is_part).filter(colons).count() < 2
        && after.iter().take_while(is_part).filter(colons).count() < 2
        && !like_address(before)
        && !like_address(after)
}

/// Whether a run of the bytes that addresses are made of has three dots, two colons side by side or six of
/// them: no address has less, and a time of day is none.
fn like_address(text: &[u8]) -> bool {
    let (mut dots, mut colons, mut behind) = (0u32, 0u32, 0);
    for at in memchr::memchr2_iter(b'.', b':', text) {
        let between = text.get(behind..at).unwrap_or_default();
        if !between.iter().all(u8::is_ascii_hexdigit) {
            (dots, colons) = (0, 0);
        }
        if text.get(at) == Some(&b'.') {
            dots += 1
        } else {
            colons += 1
        }
        let side_by_side = between.is_empty() && at > 0 && text.get(at - 1..=at) == Some(b"::");
        if dots == 3 || colons == 6 || side_by_side {
            return true;
        }
        behind = at + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Demand;

    fn judge(patterns: &[&str], text: &str) -> String {
        let fail: Vec<_> = patterns.iter().map(|p| (Pattern::new(p, Demand::Nothing).unwrap(), 1)).collect();
        let mut scratch = MatchScratch::for_patterns(fail.iter().map(|f| &f.0));
        match sender(&fail, u64::MAX, text.as_bytes(), &mut scratch) {
            AddrFinding::Nothing => "nothing".into(),
            AddrFinding::NoAddress => "no address".into(),
            AddrFinding::Ambiguous => "ambiguous".into(),
            AddrFinding::Sender(s) => s.addr.to_string(),
        }
    }

    #[test]
    fn who_sent_it() {
        const LOOSE: &str = "from (?P<ip>\\S+)";
        const ANCHORED: &str = "^bad .* from <HOST> port \\d+$";
        let cases: &[(&str, &[&str], &str, &str)] = &[
            ("plain", &[LOOSE], "x from 192.0.2.1 port 1", "192.0.2.1"),
            ("mapped", &[LOOSE], "x from ::ffff:192.0.2.1", "192.0.2.1"),
            ("host name", &[LOOSE], "x from host.example", "no address"),
            ("name, then another pattern", &[LOOSE, "rhost=<HOST>"], "from a.b rhost=192.0.2.1", "192.0.2.1"),
            ("no match", &[LOOSE], "x by 192.0.2.1", "nothing"),
            ("loose, two", &[LOOSE], "x from 192.0.2.1 from 192.0.2.2", "ambiguous"),
            ("loose, twice the same", &[LOOSE], "x from 192.0.2.1 from ::ffff:192.0.2.1", "192.0.2.1"),
            ("loose, address then name", &[LOOSE], "x from 192.0.2.1 from a.b", "192.0.2.1"),
            ("another address that no pattern reads", &[LOOSE], "x from 192.0.2.1 to 192.0.2.2", "192.0.2.1"),
            (
                "two patterns, two addresses",
                &["^a <HOST>", "<HOST> b$"],
                "a 192.0.2.1 and 192.0.2.2 b",
                "ambiguous",
            ),
            (
                "anchored, the tail decides",
                &[ANCHORED],
                "bad x from 192.0.2.1 port 1 from 192.0.2.2 port 2",
                "192.0.2.2",
            ),
            (
                "tail that may hold anything",
                &["^bad .* from <HOST> port \\d+.*$"],
                "bad x from 192.0.2.1 port 1 from 192.0.2.2 port 2",
                "ambiguous",
            ),
            ("brackets are the same address", &["<HOST>"], "x [2001:db8::1] y", "2001:db8::1"),
            ("cut out of a word", &[".*(?P<ip>\\d+\\.\\d+\\.\\d+\\.\\d+)$"], "x 11.2.3.4", "ambiguous"),
        ];
        for (name, patterns, text, want) in cases {
            assert_eq!(judge(patterns, text), *want, "{name}");
        }
    }

    #[test]
    fn more_readings_than_can_be_followed_are_ambiguous() {
        let many = "from 192.0.2.1 ".repeat(50);
        assert_eq!(judge(&["from <HOST>"], &many), "ambiguous");
    }

    #[test]
    fn other_addresses_are_noticed() {
        let cases: &[(&str, bool)] = &[
            ("", false),
            ("Failed password for root from  port 22 ssh2: x", false),
            ("at 12:30 v1.2", false),
            ("192.0.2.1", true),
            ("x=[::1]", true),
            ("::", true),
            ("fe80::1%eth0", true),
            ("12:30:59", false),
            ("12:30:59 1.2.3", false),
            ("1:2:3:4:5:6:7:8", true),
            ("1:2:3:4:5:6:192.0.2.1", true),
            ("1:2:3:4:5 6:7:8", false),
            ("x::", true),
            ("a:b::1", true),
            (":x:", false),
        ];
        for (text, want) in cases {
            assert_eq!(like_address(text.as_bytes()), *want, "{text}");
        }
    }
}
