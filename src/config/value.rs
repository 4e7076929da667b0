#![forbid(unsafe_code)]
//! Values as people write them: durations, networks, commands, lists of words.
//! The command line uses the same readers. Knows no file and no key.

use super::ini::has;
use crate::base::clock::Span;
use crate::base::diag::{Bad, Checked};
use crate::base::net::unmapped;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Longest name of a rule.
const NAME_MAX: usize = 32;
/// The longest domain name that an IPv6 address can stand before.
const DOMAIN_MAX: usize = 180;

/// What a duration looks like, for hints.
const DURATION_FORMS: &str = "expected a duration such as 90, 90s, 10m, 1h, 7d or 1h30m";

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A duration in seconds: `90`, `90s`, `10m`, `1h`, `7d`, `2w`, or several of them joined (`1h30m`), each
/// with a fraction if need be (`1.5h`). What is shorter than a second (`500ms`) counts as a whole one.
///
/// # Errors
/// Anything else, and what does not fit into 32 bits.
pub fn duration(text: &str) -> Checked<u32> {
    let wrong = || Bad::word(0, text, "is not a duration", DURATION_FORMS);
    let mut total = 0u64;
    let mut rest = text;
    loop {
        let (number, tail) = digits(rest);
        let (fraction, tail) = tail.strip_prefix('.').map_or(("", tail), digits);
        let exact = number.len() + fraction.len() < rest.len() - tail.len();
        let letters = tail.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let (word, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
        let unit = match word {
            "" if rest.len() == text.len() && !exact => SECOND,
            "ms" => SECOND / 1000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "d" => 86_400 * SECOND,
            "w" => 604_800 * SECOND,
            _ => return Err(wrong()),
        };
        let whole = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
        let part = part_of(fraction, unit).filter(|_| exact != fraction.is_empty()).ok_or_else(wrong)?;
        total = whole.checked_add(part).and_then(|n| n.checked_add(total)).ok_or_else(wrong)?;
        rest = tail;
        if rest.is_empty() {
            return u32::try_from(total.div_ceil(SECOND)).map_err(|_| wrong());
        }
    }
}

/// The digits that a text begins with, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// So much of a unit as the digits behind a point say.
fn part_of(digits: &str, unit: u64) -> Option<u64> {
    let scale = 10u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let part: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    u64::try_from(part * u128::from(unit) / u128::from(scale)).ok()
}

/// Whether this is one of the words for a time that never comes.
pub(super) fn is_never(text: &str) -> bool {
    matches!(text, "never" | "false" | "no" | "off")
}

/// How long a ban lasts: a duration of at least one second, or `permanent`.
///
/// # Errors
/// Anything else, and a duration of zero.
pub fn span(text: &str) -> Checked<Span> {
    if text == "permanent" {
        return Ok(Span::Permanent);
    }
    match duration(text) {
        Ok(0) => Err(Bad::word(0, text, "is too short", "a ban lasts at least 1s")),
        Ok(secs) => Ok(Span::Secs(u64::from(secs))),
        Err(mut bad) => {
            bad.hint.push_str(", or permanent");
            Err(bad)
        }
    }
}

/// Seconds of a day.
const DAY: u32 = 86_400;

/// How far back, as `journalctl --since` has it: `2 min ago`, `-1h30min`, `now`, `today`, or a duration.
///
/// # Errors
/// Anything else.
pub fn ago(text: &str) -> Checked<u32> {
    // Days have their own beginning everywhere: whoever asks for one gets it whole.
    match text {
        "now" => return Ok(0),
        "today" => return Ok(DAY),
        "yesterday" => return Ok(2 * DAY),
        _ => {}
    }
    let Some(words) = text.strip_suffix("ago").or_else(|| text.strip_prefix('-')) else {
        return duration(text);
    };
    const FORMS: &str = "expected for example '2 min ago', -1h30m or today; a date would not move on";
    let short = shortened(words).and_then(|short| duration(&short).ok());
    short.ok_or_else(|| Bad::word(0, text, "is not a time span", FORMS))
}

/// A duration with units as they are written out, in those of one letter.
fn shortened(mut words: &str) -> Option<String> {
    let mut short = String::new();
    loop {
        words = words.trim_ascii();
        if words.is_empty() {
            return Some(short).filter(|short| !short.is_empty());
        }
        let (number, rest) = cut_behind(words, |b| b.is_ascii_digit() || b == b'.');
        if number.is_empty() {
            return None;
        }
        let (unit, rest) = cut_behind(rest.trim_ascii_start(), |b| b.is_ascii_alphabetic());
        short.push_str(number);
        let one = unit.strip_suffix('s').filter(|one| !matches!(*one, "" | "m")).unwrap_or(unit);
        short.push_str(match one {
            "ms" | "msec" => "ms",
            "" | "s" | "sec" | "second" => "s",
            "m" | "min" | "minute" => "m",
            "h" | "hr" | "hour" => "h",
            "d" | "day" => "d",
            "w" | "week" => "w",
            _ => return None,
        });
        words = rest;
    }
}

/// The bytes in front that are wanted, and the rest.
fn cut_behind(text: &str, is_wanted: impl Fn(u8) -> bool) -> (&str, &str) {
    let len = text.bytes().take_while(|&b| is_wanted(b)).count();
    text.split_at_checked(len).unwrap_or((text, ""))
}

/// An address, a CIDR or `address/netmask`, without the bits behind the prefix; mapped IPv4 is IPv4.
///
/// # Errors
/// Names, ranges, netmasks with holes, and a prefix of length 0: nobody means the whole internet.
pub fn net(text: &str) -> Checked<IpNet> {
    match any_net(text)? {
        net if net.prefix_len() == 0 => Err(Bad::word(0, text, "is the whole internet", NET_FORMS)),
        net => Ok(net),
    }
}

const NET_FORMS: &str = "expected an address, 192.0.2.0/24 or 192.0.2.0/255.255.255.0";

/// The same with a prefix of length 0, too.
pub(super) fn any_net(text: &str) -> Checked<IpNet> {
    let wrong = |why: &str| Bad::word(0, text, why, NET_FORMS);
    let (addr, len) = match text.split_once('/') {
        None => (text, None),
        Some((addr, len)) => (addr, Some(len)),
    };
    let addr: IpAddr = addr.parse().map_err(|_| wrong("is not an address or network"))?;
    let net = match len {
        None => Some(IpNet::from(addr)),
        Some(len) if len.bytes().all(|b| b.is_ascii_digit()) => {
            len.parse().ok().and_then(|len| IpNet::new(addr, len).ok())
        }
        Some(mask) => mask.parse().ok().and_then(|mask| IpNet::with_netmask(addr, mask).ok()),
    };
    Ok(unmapped(net.ok_or_else(|| wrong("has no valid prefix length or netmask"))?.trunc()))
}

/// Calls `each` with the place and text of every item of a comma list; stops at the first fault.
pub(super) fn items(text: &str, each: &mut dyn FnMut(usize, &str) -> Checked<()>) -> Checked<()> {
    let mut at = 0;
    for part in text.split(',') {
        let lead = part.len() - part.trim_ascii_start().len();
        let item = part.trim_ascii();
        if item.is_empty() {
            let hint = "remove the comma, or write what is missing";
            return Err(Bad::new(at..at + part.len().max(1), "an empty item".into(), hint));
        }
        each(at + lead, item)?;
        at += part.len() + 1;
    }
    Ok(())
}

/// A comma list as words without blanks inside; empty text is an empty list.
pub(super) fn names(text: &str) -> Checked<Vec<String>> {
    let mut out = Vec::new();
    if !text.is_empty() {
        items(text, &mut |at, item| {
            if item.bytes().any(|b| b.is_ascii_whitespace()) {
                return Err(Bad::word(at, item, "has a space inside", "separate items by commas"));
            }
            out.push(item.to_string());
            Ok(())
        })?;
    }
    Ok(out)
}

/// A comma list of absolute paths, which may hold blanks and globs; empty text is an empty list.
pub(super) fn paths(text: &str) -> Checked<Vec<String>> {
    let mut out = Vec::new();
    if !text.is_empty() {
        items(text, &mut |at, item| {
            path(item).map_err(|bad| bad.moved(at))?;
            alone(item).map_err(|bad| bad.moved(at))?;
            out.push(item.to_string());
            Ok(())
        })?;
    }
    Ok(out)
}

/// That an item of a list of paths is one path: others separate them by blanks.
fn alone(item: &str) -> Checked<()> {
    let Some(blank) =
        item.bytes().zip(item.bytes().skip(1)).position(|(a, b)| matches!(a, b' ' | b'\t') && b == b'/')
    else {
        return Ok(());
    };
    let (first, second) = item.split_at(blank + 1);
    Err(Bad::word(
        blank + 1,
        second,
        "is a second path after a space",
        &["a list of paths is separated by commas: ", first.trim_ascii_end(), ",/…"].concat(),
    ))
}

/// An absolute path.
pub(super) fn path(text: &str) -> Checked<()> {
    if text.starts_with('/') {
        return Ok(());
    }
    Err(Bad::word(0, text, "is not an absolute path", "a path begins with '/'"))
}

/// A comma list of networks; `none` is an empty list.
pub(super) fn nets(text: &str) -> Checked<Vec<IpNet>> {
    let mut out = Vec::new();
    if text != "none" {
        items(text, &mut |at, item| {
            out.push(net(item).map_err(|bad| bad.moved(at))?);
            Ok(())
        })?;
    }
    Ok(out)
}

/// A program and its arguments, split at blanks; double quotes keep blanks. `none` and empty text are no
/// program. What only a shell would understand is refused, because no shell will see it.
pub(super) fn command(text: &str) -> Checked<Vec<String>> {
    let mut out = Vec::new();
    if text == "none" {
        return Ok(out);
    }
    let mut rest = text.trim_ascii_start();
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        if first == '"' {
            let inner = rest.get(1..).unwrap_or("");
            let Some((word, tail)) = inner.split_once('"') else {
                return Err(Bad::word(at, rest, "has no closing quote", "close it with '\"'"));
            };
            out.push(word.to_string());
            rest = tail.trim_ascii_start();
            continue;
        }
        let end = rest.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if matches!(word, "|" | "||" | "&" | "&&" | ">" | ">>" | "<" | ";" | "2>&1") || has(word, "$(") {
            let hint = "write a script and name it here; quotes make it an ordinary argument";
            return Err(Bad::word(at, word, "has no meaning: no shell runs this", hint));
        }
        out.push(word.to_string());
        rest = tail.trim_ascii_start();
    }
    Ok(out)
}

/// Which of the two words the comma list has.
pub(super) fn some_of(text: &str, words: [&str; 2]) -> Checked<[bool; 2]> {
    let mut found = [false; 2];
    items(text, &mut |at, item| {
        let i = word(item, &words).map_err(|bad| bad.moved(at))?;
        found.iter_mut().skip(i).take(1).for_each(|f| *f = true);
        Ok(())
    })?;
    Ok(found)
}

/// A domain name, short enough for addresses to stand before it.
pub(super) fn domain(text: &str) -> Checked<()> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let mut at = 0;
    for label in name.split('.') {
        if !(1..=63).contains(&label.len()) {
            let what = if label.is_empty() { "an empty part" } else { "a part that is too long" };
            return Err(Bad::new(at..at + label.len(), what.to_string(), "parts have 1 to 63 characters"));
        }
        let bad = |c: &(usize, char)| !c.1.is_ascii_alphanumeric() && !matches!(c.1, '-' | '_');
        if let Some((bad, c)) = label.char_indices().find(bad) {
            let what = "not a domain name character".to_string();
            return Err(Bad::new(at + bad..at + bad + c.len_utf8(), what, "letters, digits, '-' and '_'"));
        }
        at += label.len() + 1;
    }
    if name.len() > DOMAIN_MAX {
        return Err(Bad::new(0..text.len(), "too long".to_string(), "at most 180 characters"));
    }
    Ok(())
}

/// The name of a rule: it becomes part of set names, file names and log lines.
pub(super) fn name(text: &str) -> Checked<()> {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if good && !text.is_empty() && text.len() <= NAME_MAX {
        return Ok(());
    }
    let hint = "a name consists of letters, digits, '-' and '_', at most 32";
    Err(Bad::word(0, text, "is not a rule name", hint))
}

/// A comma list of addresses; `auto` is an empty list.
pub(super) fn addresses(text: &str) -> Checked<Vec<IpAddr>> {
    let mut out = Vec::new();
    if text != "auto" {
        items(text, &mut |at, item| {
            let wrong = || Bad::word(at, item, "is not an address", "expected auto, or addresses");
            out.push(item.parse().map_err(|_| wrong())?);
            Ok(())
        })?;
    }
    Ok(out)
}

/// A loopback address with a port; `off` is none.
pub(super) fn loopback(text: &str) -> Checked<Option<SocketAddr>> {
    let wrong = |why| Bad::word(0, text, why, "expected off, or for example 127.0.0.1:5514");
    if text == "off" {
        return Ok(None);
    }
    let addr: SocketAddr = text.parse().map_err(|_| wrong("is not an address with a port"))?;
    match addr.ip().is_loopback() && addr.port() != 0 {
        true => Ok(Some(addr)),
        false => Err(wrong("is not on loopback")),
    }
}

/// The address of a DNS server, with a port if it is another one than 53; empty text is none.
pub(super) fn server(text: &str) -> Checked<Option<SocketAddr>> {
    let addr = || text.parse::<IpAddr>().ok().map(|addr| SocketAddr::new(addr, 53));
    match text.parse().ok().or_else(addr) {
        _ if text.is_empty() => Ok(None),
        Some(addr) if addr.port() != 0 => Ok(Some(addr)),
        _ => {
            let hint = "expected for example 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53";
            Err(Bad::word(0, text, "is not the address of a server", hint))
        }
    }
}

/// A comma list of IPv6 prefix lengths, each shorter than the one before; `off` is an empty list.
pub(super) fn prefixes(text: &str) -> Checked<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    if text != "off" {
        items(text, &mut |at, item| {
            let len = count(item, 16, 127).map_err(|bad| bad.moved(at))?;
            let len = u8::try_from(len).unwrap_or(u8::MAX);
            if out.last().is_some_and(|before| len >= *before) {
                return Err(Bad::word(
                    at,
                    item,
                    "is not wider than the one before",
                    "expected for example 56,48",
                ));
            }
            out.push(len);
            Ok(())
        })?;
    }
    Ok(out)
}

/// Which of `words` the text is.
pub(super) fn word(text: &str, words: &[&str]) -> Checked<usize> {
    words.iter().position(|w| *w == text).ok_or_else(|| {
        let mut hint = ["expected one of: ", &words.join(", ")].concat();
        if let Some(near) = crate::base::diag::suggest(text, words.iter().copied()) {
            hint.push_str(&[" (did you mean '", near, "'?)"].concat());
        }
        Bad::word(0, text, "is not allowed here", &hint)
    })
}

/// A whole number from `min` to `max`.
pub(super) fn count(text: &str, min: u32, max: u32) -> Checked<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let n = if digits { text.parse().ok() } else { None };
    n.filter(|n| (min..=max).contains(n)).ok_or_else(|| {
        let hint = ["expected a number from ", &min.to_string(), " to ", &max.to_string()].concat();
        Bad::word(0, text, if digits { "is out of range" } else { "is not a whole number" }, &hint)
    })
}

/// A duration from `min` to `max` seconds.
pub(super) fn secs(text: &str, min: u32, max: u32) -> Checked<u32> {
    let n = duration(text)?;
    if (min..=max).contains(&n) {
        return Ok(n);
    }
    let hint = ["expected ", &written(min), " to ", &written(max)].concat();
    Err(Bad::word(0, text, "is out of range", &hint))
}

/// Seconds in the shortest form that `duration` reads back.
#[must_use]
pub fn written(secs: u32) -> String {
    let units = [(604_800, "w"), (86_400, "d"), (3600, "h"), (60, "m")];
    let fits = units.iter().find(|(n, _)| secs != 0 && secs.is_multiple_of(*n));
    match fits {
        Some((n, unit)) => [&(secs / n).to_string(), *unit].concat(),
        None => [&secs.to_string(), "s"].concat(),
    }
}
