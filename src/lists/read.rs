#![forbid(unsafe_code)]
//! A list's file, read through: its entries for the kernel, and what is wrong with it. Knows no kernel.

use crate::base::range::{Family, Range, any_meets};
use crate::base::siphash::Sip;
use crate::config::{Counts, ListEntry, ListKind, ListLine, read_list};
use crate::sys::fs::{Links, open_regular};
use ipnet::IpNet;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;

/// What is to be told to people.
pub type Note<'n> = &'n mut dyn FnMut(&dyn std::fmt::Display);

/// Bad lines of one file that are told one by one.
const TOLD: u32 = 5;
/// The same where people ask for them.
const CHECKED: u32 = 50;

/// Reads the file at `path` to its end; `each` gets its entries, `note` what is wrong with single lines.
///
/// # Errors
/// When it cannot be opened or read.
pub fn entries(
    kind: ListKind,
    path: &Path,
    each: &mut dyn FnMut(&ListEntry),
    note: Note<'_>,
) -> io::Result<Counts> {
    lines(kind, path, &mut open_regular(path, Links::Follow)?, each, note)
}

fn lines(
    kind: ListKind,
    path: &Path,
    file: &mut File,
    each: &mut dyn FnMut(&ListEntry),
    note: Note<'_>,
) -> io::Result<Counts> {
    let shown = path.to_string_lossy();
    let (mut bad, mut hosts) = (0u32, 0u32);
    let counts = read_list(kind, file, &mut |line| match line {
        ListLine::Entry(entry) => each(&entry),
        ListLine::Host(name, number) => {
            hosts += 1;
            if hosts <= TOLD {
                note(&format_args!("{shown}:{number}: {name}: this version does not look up host names"));
            }
        }
        ListLine::Bad(p, _) => {
            bad += 1;
            if bad <= TOLD {
                let (open, close) = if p.hint.is_empty() { ("", "") } else { (" (", ")") };
                note(&format_args!(
                    "{shown}:{}:{}: {}{open}{}{close}: passed over",
                    p.line, p.col, p.what, p.hint
                ));
            }
        }
    })?;
    if bad > TOLD || hosts > TOLD {
        note(&format_args!("{shown}: {bad} bad lines, {hosts} host names in all"));
    }
    Ok(counts)
}

/// Shows what is wrong with a list, each line with its mark, to `show`; how many good and bad lines there are.
///
/// # Errors
/// When it cannot be opened or read.
pub fn check(kind: ListKind, path: &Path, show: &mut dyn FnMut(&str)) -> io::Result<Counts> {
    let shown = path.to_string_lossy();
    let mut bad = 0;
    let counts = read_list(kind, &mut open_regular(path, Links::Follow)?, &mut |line| match line {
        ListLine::Entry(_) => {}
        ListLine::Host(name, number) => {
            show(&format!("{shown}:{number}: {name}: this version does not look up host names\n"));
        }
        ListLine::Bad(p, text) => {
            bad += 1;
            if bad <= CHECKED {
                show(&p.render_line(&shown, text));
            }
        }
    })?;
    if bad > CHECKED {
        show(&format!("{shown}: {} more lines like that\n", bad - CHECKED));
    }
    if counts.refused() {
        show(&format!("{shown}: more than half of its lines are bad: none of it has an effect\n"));
    }
    Ok(counts)
}

/// What a deny list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Good and bad lines.
    pub counts: Counts,
    /// Single addresses and networks, each of IPv4 and IPv6, as the kernel is to get them.
    pub kinds: [[u32; 2]; 2],
    /// Entries that name this host or what it needs, and were left out or cut.
    pub spared: u32,
    /// Stands for everything that the kernel is to get.
    pub content: u64,
}

impl Survey {
    /// How many of a family, of addresses or of networks.
    pub(super) fn count(&self, (family, networks): (Family, bool)) -> u32 {
        let [hosts, nets] = self.kinds;
        let [v4, v6] = if networks { nets } else { hosts };
        if family == Family::V4 { v4 } else { v6 }
    }

    /// Counts an entry.
    pub fn count_in(&mut self, net: &IpNet) {
        let [hosts, nets] = &mut self.kinds;
        let [v4, v6] = if net.prefix_len() == net.max_prefix_len() { hosts } else { nets };
        let number = if matches!(net, IpNet::V4(_)) { v4 } else { v6 };
        *number = number.saturating_add(1);
    }

    /// Addresses and networks of both families.
    #[must_use]
    pub fn totals(&self) -> (u32, u32) {
        let [[a, b], [c, d]] = self.kinds;
        (a.saturating_add(b), c.saturating_add(d))
    }
}

/// An open deny list, and whom it must not name.
pub(super) struct DenyFile<'a> {
    file: File,
    path: &'a Path,
    protected: &'a [Range],
}

impl<'a> DenyFile<'a> {
    /// Opens it; `protected` is sorted and merged.
    pub(super) fn open(path: &'a Path, protected: &'a [Range]) -> io::Result<DenyFile<'a>> {
        Ok(DenyFile { file: open_regular(path, Links::Follow)?, path, protected })
    }

    /// Reads it from its beginning; `each` gets what the kernel is to get.
    pub(super) fn survey(&mut self, each: &mut dyn FnMut(IpNet), note: Note<'_>) -> io::Result<Survey> {
        self.file.rewind()?;
        let mut survey = Survey::default();
        // The same content is the same number in every process: the key is no secret.
        let (mut hash, mut words) = (Sip::new([0, 0]), 0usize);
        let mut take = |net: IpNet, survey: &mut Survey| {
            survey.count_in(&net);
            hash = match net {
                IpNet::V4(n) => hash.word(u64::from(u32::from(n.addr())) << 8 | u64::from(n.prefix_len())),
                IpNet::V6(n) => {
                    let [high, low] = halves(u128::from(n.addr()));
                    hash.word(high).word(low).word(u64::from(n.prefix_len()))
                }
            };
            words += 1;
            each(net);
        };
        let (protected, now) = (self.protected, crate::sys::clock::wall());
        let counts = lines(
            ListKind::Deny,
            self.path,
            &mut self.file,
            &mut |entry| {
                if entry.until.is_some_and(|until| until <= now) {
                    return;
                }
                let range = Range::from(entry.net);
                if entry.force || !any_meets(protected, &range) {
                    take(entry.net, &mut survey);
                    return;
                }
                survey.spared += 1;
                let mut rest = vec![range];
                for p in protected.iter().filter(|p| p.meets(&range)) {
                    rest = rest.iter().flat_map(|r| r.without(p)).flatten().collect();
                }
                rest.into_iter().flat_map(Range::nets).for_each(|net| take(net, &mut survey));
            },
            note,
        )?;
        survey.counts = counts;
        survey.content = hash.finish(0, words);
        Ok(survey)
    }
}

fn halves(n: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, low @ ..] = n.to_be_bytes();
    [u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes(low)]
}

/// Reads a deny list through, without its having an effect.
///
/// # Errors
/// When it cannot be opened or read.
pub fn survey(path: &Path, protected: &[Range], note: Note<'_>) -> io::Result<Survey> {
    DenyFile::open(path, protected)?.survey(&mut |_| (), note)
}
