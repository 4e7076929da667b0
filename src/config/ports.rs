#![forbid(unsafe_code)]
//! Sets of ports: `all`, or a list with ranges. Read from rule files and from the command line.

use super::value::items;
use crate::base::diag::{Bad, Checked};
use std::fmt;

/// Ranges at most in one set: more is no list that a person wrote.
const RANGES_MAX: usize = 256;

/// Bytes of the shortest text that says the same: a set of bans is known by it, and has to have room for it.
const TEXT_MAX: usize = 236;

/// Either every port, or ranges that are sorted, do not overlap and do not touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortRanges(Vec<(u16, u16)>);

impl PortRanges {
    /// Reads `all`, or a comma list of ports and ranges such as `22,25,1000-2000`.
    ///
    /// # Errors
    /// Names the item that is no port (1 to 65535) or no rising range.
    pub fn parse(text: &str) -> Checked<PortRanges> {
        let mut ranges = Vec::new();
        if text == "all" {
            return Ok(PortRanges(ranges));
        }
        items(text, &mut |at, item| add(&mut ranges, at, item))?;
        Ok(PortRanges(joined(ranges)))
    }

    /// Likewise, for what is banned.
    ///
    /// # Errors
    /// As [`PortRanges::parse`]; there are more than can be kept of a ban.
    pub fn of_ban(text: &str) -> Checked<PortRanges> {
        let ports = PortRanges::parse(text)?;
        if ports.to_string().len() > TEXT_MAX {
            let hint = "at most 236 characters, such as 22,25,1000-2000: name ranges, or all";
            return Err(Bad::new(0..text.len(), "more ports than a ban can be for".to_owned(), hint));
        }
        Ok(ports)
    }

    /// Whether this is every port.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last port of each range, rising; empty means every port.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Whether `port` belongs to the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.is_all() || self.0.iter().any(|&(first, last)| (first..=last).contains(&port))
    }
}

/// Ports that the port scan guard does not count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExcludedPorts {
    /// Every port that a local socket listens on.
    pub listening: bool,
    /// Ports named by hand; `None` when there are none.
    pub named: Option<PortRanges>,
}

impl ExcludedPorts {
    /// `auto`, ports, or both: the word stands among the ports.
    pub(super) fn parse(text: &str) -> Checked<ExcludedPorts> {
        let mut ranges = Vec::new();
        let mut listening = false;
        items(text, &mut |at, item| {
            if item == "auto" {
                listening = true;
                return Ok(());
            }
            add(&mut ranges, at, item)
        })?;
        let named = if ranges.is_empty() { None } else { Some(PortRanges(joined(ranges))) };
        Ok(ExcludedPorts { listening, named })
    }
}

/// The form that `parse` reads back, the same for equal sets.
impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all");
        }
        for (i, (first, last)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(first, f)?;
            if last != first {
                f.write_str("-")?;
                fmt::Display::fmt(last, f)?;
            }
        }
        Ok(())
    }
}

/// One port or `first-last`.
fn range(item: &str) -> Checked<(u16, u16)> {
    let (first, last) = match item.split_once('-') {
        None => (item, item),
        Some((first, last)) => (first.trim_ascii_end(), last.trim_ascii_start()),
    };
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(_), Some(_)) => Err(Bad::word(0, item, "is reversed", "the lower port comes first")),
        _ => Err(Bad::word(
            0,
            item,
            "is not a port",
            "expected all, or ports from 1 to 65535 as in 22,25,1000-2000",
        )),
    }
}

/// 1 to 65535 in digits only.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&n| digits && n > 0)
}

/// Adds the item's range in order. Lists are short: a library sort would be eight times this module.
fn add(ranges: &mut Vec<(u16, u16)>, at: usize, item: &str) -> Checked<()> {
    if ranges.len() == RANGES_MAX {
        return Err(Bad::word(at, item, "is one too many", "at most 256 ports and ranges"));
    }
    let new = range(item).map_err(|bad| bad.moved(at))?;
    let place = ranges.iter().position(|old| *old > new).unwrap_or(ranges.len());
    ranges.insert(place, new);
    Ok(())
}

/// Joins what overlaps or touches; `ranges` is sorted.
fn joined(ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    let mut out: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    // Every port by enumeration is still every port.
    if out.as_slice() == [(1, u16::MAX)] {
        out.clear();
    }
    out
}
