#![forbid(unsafe_code)]
//! The values of the language: text in, a value or the bytes to blame out.

use super::ast::NatTarget;
use super::words::{COMMENT_MAX, PREFIX_MAX, STATES, UNITS, expected};
use crate::base::diag::{Bad, Checked};
use crate::base::name::{NAME_MAX, Name};
use crate::base::range::Range as Addresses;
use crate::plan::Rate;
use ipnet::IpNet;
use std::net::IpAddr;

/// How many items a comma list has.
pub(super) fn count(text: &str) -> usize {
    1 + text.bytes().filter(|&b| b == b',').count()
}

/// The bytes before the first one that is `end`, and those behind it.
fn split(text: &str, end: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|b| b == end)?;
    text.get(..at).zip(text.get(at + 1..))
}

/// Calls `each` with every item of a comma list and where it stands.
pub(super) fn items(text: &str, each: &mut dyn FnMut(&str, usize) -> Checked<()>) -> Checked<()> {
    let mut rest = text;
    loop {
        let at = text.len() - rest.len();
        let parts = split(rest, b',');
        let (item, behind) = parts.unwrap_or((rest, ""));
        if item.is_empty() {
            let what = if text.is_empty() { "an empty value" } else { "an empty item" };
            return Err(Bad::new(at..at + 1, what.into(), "expected a list such as a,b,c"));
        }
        each(item, at)?;
        if parts.is_none() {
            return Ok(());
        }
        rest = behind;
    }
}

/// An address, a network or `first-last`. Mapped IPv4 (`::ffff:192.0.2.1`) is IPv6 here: rules drop such
/// packets.
pub(super) fn range(text: &str, at: usize) -> Checked<Addresses> {
    let wrong = |what| {
        Bad::word(at, text, what, "expected 192.0.2.1, 192.0.2.0/24, 192.0.2.1-192.0.2.9 or the like in IPv6")
    };
    if let Some((first, last)) = split(text, b'-') {
        let ends = (first.parse::<IpAddr>(), last.parse::<IpAddr>());
        let (Ok(first), Ok(last)) = ends else { return Err(wrong("is not an address range")) };
        return Addresses::new(first, last).ok_or_else(|| wrong("is reversed, or between families"));
    }
    if split(text, b'/').is_some() {
        return text.parse::<IpNet>().map(Addresses::from).map_err(|_| wrong("is not a network"));
    }
    text.parse::<IpAddr>().map(Addresses::from).map_err(|_| wrong("is not an address or network"))
}

/// A port or `first-last`.
pub(super) fn ports(text: &str, at: usize) -> Checked<(u16, u16)> {
    let (first, last) = match split(text, b'-') {
        Some((first, last)) => (port(first), port(last)),
        None => {
            let both = port(text);
            (both, both)
        }
    };
    match (first, last) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(_), Some(_)) => Err(Bad::word(at, text, "is reversed", "the lower port comes first")),
        _ => Err(Bad::word(at, text, "is not a port", "expected 22 or 1000-2000, at most 65535")),
    }
}

/// Digits alone.
fn port(text: &str) -> Option<u16> {
    let mut number = 0u32;
    for digit in text.bytes().map(|b| b.wrapping_sub(b'0')) {
        number = number * 10 + u32::from(digit);
        if digit > 9 || number > u32::from(u16::MAX) {
            return None;
        }
    }
    u16::try_from(number).ok().filter(|_| !text.is_empty())
}

/// `@name`
pub(super) fn set_name(text: &str, at: usize) -> Checked<Name> {
    let name = text.strip_prefix('@').and_then(Name::new);
    name.ok_or_else(|| Bad::word(at, text, "is not a set name", "expected @ and the name of a set statement"))
}

/// `N/s`, `N/m`, `N/h`, `N/d`
pub(super) fn rate(text: &str) -> Checked<Rate> {
    let read = || {
        let (packets, unit) = text.split_once('/')?;
        let (_, per) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let packets = packets.parse().ok().filter(|&n| n > 0)?;
        Some(Rate { packets, per: *per })
    };
    read().ok_or_else(|| {
        Bad::word(0, text, "is not a rate", "expected any, or packets per time: 5/s, 10/m, 100/h, 1000/d")
    })
}

/// `burst=`
pub(super) fn burst(text: &str) -> Checked<u32> {
    let packets = text.parse().ok().filter(|&n| n > 0);
    packets.ok_or_else(|| Bad::word(0, text, "is not a number of packets", "expected 1 or more"))
}

/// `prefix:TEXT`
pub(super) fn prefix(text: &str) -> Checked<Box<str>> {
    match text.strip_prefix("prefix:") {
        Some(prefix) if prefix.len() <= PREFIX_MAX => Ok(prefix.into()),
        Some(_) => Err(Bad::new(
            0..text.len(),
            "the prefix is too long".into(),
            "the kernel takes at most 127 bytes",
        )),
        None => Err(Bad::word(0, text, "says nothing about logging", "expected none or prefix:TEXT")),
    }
}

/// `comment=`
pub(super) fn comment(text: &str) -> Checked<Box<str>> {
    if text.len() > COMMENT_MAX {
        return Err(Bad::new(0..text.len(), "the comment is too long".into(), "nft shows at most 127 bytes"));
    }
    Ok(text.into())
}

/// `@set/TIME` behind `add:`: the set, and seconds.
pub(super) fn addition(text: &str) -> Checked<(Name, u32)> {
    let read = || {
        let (set, time) = text.split_once('/')?;
        let name = set.strip_prefix('@').and_then(Name::new);
        let name = name.filter(|name| name.as_str().len() + 2 <= NAME_MAX && !set.contains('.'))?;
        let (number, unit) = time.split_at_checked(time.len().checked_sub(1)?)?;
        let (_, seconds) = UNITS.iter().find(|(word, _)| *word == unit)?;
        let number: u32 = number.parse().ok().filter(|n| *n > 0)?;
        number.checked_mul(*seconds).map(|seconds| (name, seconds))
    };
    read().ok_or_else(|| {
        Bad::word(
            0,
            text,
            "is no set with a time",
            "expected @NAME/TIME, as in add:@seen/1h; at most 13 characters",
        )
    })
}

/// `to=`: an address or a range of addresses, a port or a range behind a colon; an IPv6 address with ports
/// stands in brackets.
pub(super) fn target(text: &str) -> Checked<NatTarget> {
    let wrong = || {
        Bad::word(
            0,
            text,
            "is nothing to translate to",
            "expected 192.0.2.1, 192.0.2.1:443, [2001:db8::1]:443, :8080, or ranges with - in them",
        )
    };
    let (addr, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (addr, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (addr, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None => match text.rsplit_once(':') {
            Some((addr, port)) if !addr.contains(':') => (addr, Some(port)),
            _ => (text, None),
        },
    };
    let ports = port.map(|port| ports(port, 0)).transpose().map_err(|_| wrong())?;
    // Nobody has port 0, and the kernel writes it into packets.
    if ports.is_some_and(|(first, _)| first == 0) {
        return Err(wrong());
    }
    if addr.is_empty() && ports.is_some() && !text.starts_with('[') {
        return Ok((None, ports));
    }
    let addr = range(addr, 0).map_err(|_| wrong())?;
    // Nor has anybody the address that is none.
    if addr.as_net().is_some_and(|net| net.prefix_len() == 0) || addr.numbers().0 == 0 {
        return Err(wrong());
    }
    Ok((Some(addr), ports))
}

/// A comma list of states of a connection.
pub(super) fn states(text: &str) -> Checked<u8> {
    let mut bits = 0;
    items(text, &mut |item, at| {
        let Some(i) = STATES.iter().position(|s| *s == item) else {
            let hint = expected(item, &STATES);
            return Err(Bad::word(at, item, "is not a connection state", &hint));
        };
        bits |= 1 << i;
        Ok(())
    })?;
    Ok(bits)
}
