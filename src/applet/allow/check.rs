#![forbid(unsafe_code)]
//! What may be put on a list, or be taken off it, and why not.

use super::super::args::STDIN;
use super::super::output::{Output, OutputError, failed};
use super::super::target::{self, Safety, TargetReader};
use super::{AllowChange, find};
use crate::ban::{BanEntry, Scope};
use crate::base::range::{Family, Range, covers, merge};
use crate::config::{ListKind, ListWord, list_word};
use crate::firewall::backend::View;
use crate::lists::hosts::plain;
use crate::lists::{Exempt, LOCAL, Paths};

/// Says the command that was meant, of those who are shut out otherwise than by a list.
pub(super) fn meant(
    guard: &mut dyn View,
    kind: ListKind,
    missing: &[Range],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    for range in missing {
        let mut is_banned = false;
        guard.bans_of(range, &mut |_| is_banned = true).map_err(failed)?;
        if is_banned {
            output.note(&format_args!("{range} is banned: `mef unban {range}` ends that"));
        }
        let denied = guard.denied(&[*range]).map_err(failed)?.into_iter().flatten().next();
        if let Some(list) = denied.filter(|_| kind == ListKind::Allow) {
            output.note(&format_args!("{range} is on the deny list {list}: see mef undeny"));
        }
    }
    Ok(())
}

/// Who is to be put on a list, or to be taken off it.
pub(super) struct Wanted {
    pub(super) ranges: Vec<Range>,
    /// Host names, in small letters. Allow lists only have them.
    pub(super) hosts: Vec<String>,
}

/// Whether a word is a host name, for whom that may be meant. In a file one without a dot is a name, too;
/// here it is more likely a word of the command line.
fn host_name(kind: ListKind, text: &str) -> Option<String> {
    match list_word(kind, text.as_bytes()) {
        ListWord::Host(name, false) => Some(plain(name)).filter(|name| name.contains('.')),
        _ => None,
    }
}

/// The addresses and names that are meant, and that may be listed.
pub(super) fn wanted(
    change: &AllowChange,
    safety: &Safety,
    ipv6_prefix: u8,
    output: &mut Output<'_>,
) -> Result<Wanted, OutputError> {
    let AllowChange { kind, adds, .. } = *change;
    let exempt = if kind == ListKind::Deny { Exempt::read() } else { Exempt::default() };
    let (mut ranges, mut hosts, reader) = (Vec::new(), Vec::new(), TargetReader::new(ipv6_prefix));
    let mut take = |text: &str, place: &str, output: &mut Output<'_>| {
        let range = match reader.read(text) {
            Err(what) => {
                match host_name(kind, text) {
                    Some(name) if adds.is_some_and(|terms| terms.until.is_some()) => {
                        output.problem(&format_args!("{place}{name} is a host name: --for is for addresses"));
                    }
                    Some(name) => hosts.push(name),
                    None => output.problem(&format_args!("{place}{what}")),
                }
                return Ok(());
            }
            Ok(range) => range,
        };
        let why = || {
            let force = adds.is_none_or(|terms| terms.force);
            let objection = || safety.objection(&range).filter(|_| kind == ListKind::Deny).map(str::to_owned);
            let wide = || too_wide(&range, kind).map(str::to_owned);
            if force { None } else { objection().or_else(|| exempt.network_of(&range)).or_else(wide) }
        };
        if let Some(why) = why() {
            output.problem(&format_args!("{place}{range} is {why}: not listed (use --force to override)"));
            return Ok(());
        }
        if kind == ListKind::Deny
            && adds.is_some()
            && let Some(parts) = safety.passing_parts(&range)
        {
            output.note(&format_args!("{place}{range} is denied except {parts}: on the allow list"));
        }
        ranges.push(range);
        Ok(())
    };
    for text in &change.addresses {
        if text == STDIN {
            target::each_stdin_line(output, &mut take)?;
        } else {
            take(text, "", output)?;
        }
    }
    Ok(Wanted { ranges, hosts })
}

/// Keeps those whose packets this kernel can drop.
pub(super) fn droppable(
    guard: &mut dyn View,
    ranges: &mut Vec<Range>,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    for family in Family::ALL {
        if ranges.iter().any(|range| range.family() == family)
            && let Some(why) = guard.cannot_drop(family).map_err(failed)?
        {
            ranges.retain(|range| {
                let is_meant = range.family() == family;
                if is_meant {
                    output.problem(&format_args!("{range}: this kernel {why}: not listed"));
                }
                !is_meant
            });
        }
    }
    Ok(())
}

/// Says why a range cannot be taken off.
pub(super) fn not_listed(range: &Range, paths: &Paths, kind: ListKind, output: &mut Output<'_>) -> bool {
    match find(paths, kind, &[*range]) {
        Some((name, listed)) if name == LOCAL => {
            output.problem(&format_args!("{range} is part of {listed} in {LOCAL}: remove that"));
        }
        Some((name, listed)) => {
            output.problem(&format_args!("{range} is not in {LOCAL}: {name} has {listed}"));
        }
        None => output.problem(&format_args!("{range} was not listed")),
    }
    false
}

/// Keeps those that the kernel lets pass now, and says which it does not.
pub(super) fn only_in_force(
    guard: &mut dyn View,
    ranges: &mut Vec<Range>,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    let mut allowed = guard.allowed().map_err(failed)?;
    merge(&mut allowed);
    ranges.retain(|range| {
        let passes = covers(&allowed, range);
        if !passes {
            output.problem(&format_args!("{range} is not allowed: its line has no effect"));
        }
        passes
    });
    Ok(())
}

/// What is banned for good, on all ports, within ranges that are sorted and merged.
pub(super) fn permanently_banned(guard: &mut dyn View, ranges: &[Range]) -> Result<Vec<Range>, OutputError> {
    let mut found = Vec::new();
    let mut each = |ban: &BanEntry<'_>| {
        if ban.left.is_none() && *ban.scope == Scope::ALL && covers(ranges, &ban.addr) {
            found.push(ban.addr);
        }
    };
    match ranges {
        [] => Ok(()),
        // One is looked up, however many others are banned.
        [one] => guard.bans_of(one, &mut each),
        _ => guard.list(&mut each),
    }
    .map_err(failed)?;
    Ok(found)
}

/// What a list would refuse without `force`.
pub(super) fn too_wide(range: &Range, kind: ListKind) -> Option<&'static str> {
    let wide = range.nets().any(|net| crate::config::too_wide(kind, &net));
    wide.then_some("too large a part of the internet")
}
