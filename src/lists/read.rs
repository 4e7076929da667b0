#![forbid(unsafe_code)]
//! A list's file, read through: its entries, and what is wrong with it. `mef check`, the commands and the
//! daemon read with this; they differ only in how much they tell. Knows no kernel.

use super::exempt::Exempt;
use crate::ban::{ListForm, ListMembers};
use crate::base::count::count;
use crate::base::range::{Family, Range};
use crate::base::siphash::Sip;
use crate::config::{ListCounts, ListEntry, ListKind, ListLine, read_list};
use crate::sys::fs::{FileFacts, Links, facts_of, invalid, is_full, open_regular};
use ipnet::IpNet;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;

/// What is to be told to people.
pub type ListNote<'n> = &'n mut dyn FnMut(&dyn Display);

/// How much is told of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing of single lines.
    Nothing,
    /// Some lines, each in one line, for a log.
    Some,
    /// Many lines, each shown with its mark, where people ask for them.
    Shown,
}

impl Detail {
    /// Lines of one file, of each sort, that are told one by one.
    const fn most(self) -> u32 {
        match self {
            Detail::Nothing => 0,
            Detail::Some => 5,
            Detail::Shown => 50,
        }
    }
}

/// Bytes of an allow list, which is held in memory, at most.
const ALLOW_BYTES: u64 = 4 << 20;
/// Bytes of a deny list: a million entries with long comments have room.
const DENY_BYTES: u64 = 512 << 20;
/// Bytes of a deny list that takes a while.
const LARGE: u64 = 1 << 20;
/// Entries of an allow list.
const ALLOW_ENTRIES: usize = 65_536;

/// The file at `path`, if it can be a list.
pub(super) fn open(kind: ListKind, path: &Path) -> io::Result<File> {
    let file = open_regular(path, Links::Follow)?;
    let size = facts_of(&file)?.size;
    match kind {
        ListKind::Allow if size > ALLOW_BYTES => Err(invalid("it is larger than 4 MiB: no allow list is")),
        ListKind::Deny if size > DENY_BYTES => Err(invalid("it is larger than 512 MiB: no deny list is")),
        _ => Ok(file),
    }
}

/// The entries of an allow list, which has at most so many that they can be held.
///
/// # Errors
/// When it cannot be opened or read, is too large, or is being written.
pub fn entries(
    kind: ListKind,
    path: &Path,
    detail: Detail,
    note: ListNote<'_>,
) -> io::Result<(Vec<ListEntry>, ListCounts)> {
    let mut file = open(kind, path)?;
    let before = facts_of(&file)?;
    let mut found = Vec::new();
    let mut more = false;
    let counts = lines(kind, path, &mut file, detail, note, &mut |entry, _| {
        more |= found.len() == ALLOW_ENTRIES;
        if !more {
            found.push(*entry);
        }
    })?;
    unchanged(&file, before)?;
    match more {
        true => Err(invalid("it has more than 65536 entries")),
        false => Ok((found, counts)),
    }
}

/// Calls `each` with the entries of a list of any size.
///
/// # Errors
/// When it cannot be opened or read.
pub fn each_entry(kind: ListKind, path: &Path, each: &mut dyn FnMut(&ListEntry)) -> io::Result<ListCounts> {
    let mut file = open(kind, path)?;
    lines(kind, path, &mut file, Detail::Nothing, &mut |_| (), &mut |entry, _| each(entry))
}

fn unchanged(file: &File, before: FileFacts) -> io::Result<()> {
    match facts_of(file)? {
        now if (now.size, now.mtime) == (before.size, before.mtime) => Ok(()),
        _ => Err(invalid("it is being written")),
    }
}

/// Reads a list to its end; `each` gets its entries and their lines.
pub(super) fn lines(
    kind: ListKind,
    path: &Path,
    file: &mut File,
    detail: Detail,
    note: ListNote<'_>,
    each: &mut dyn FnMut(&ListEntry, u32),
) -> io::Result<ListCounts> {
    let shown = path.to_string_lossy();
    let mut wrong = 0u32;
    let mut counts = read_list(kind, file, &mut |line| match line {
        ListLine::Entry(entry, number) => each(&entry, number),
        // The daemon looks them up.
        ListLine::Host(..) => {}
        ListLine::Bad(p, text) | ListLine::Foreign(p, text) => {
            wrong += 1;
            if wrong > detail.most() {
            } else if detail == Detail::Shown {
                note(&p.render_line(&shown, text).trim_end());
            } else {
                let (open, close) = if p.hint.is_empty() { ("", "") } else { (" (", ")") };
                note(&format_args!(
                    "{shown}:{}:{}: {}{open}{}{close}: skipped",
                    p.line, p.col, p.what, p.hint
                ));
            }
        }
    })?;
    // Editors leave out the last line's end, too; a full disk cuts where it likes.
    counts.cut = counts.cut && is_full(file);
    let most = detail.most();
    if most > 0 && wrong > most {
        note(&format_args!("{shown}: {} in total", count(wrong, "bad line")));
    }
    Ok(counts)
}

/// What a deny list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListSurvey {
    /// Good and bad lines.
    pub counts: ListCounts,
    /// Single addresses and networks, each of IPv4 and IPv6, as the kernel is to get them.
    pub kinds: [[u32; 2]; 2],
    /// Entries that name this host or what it needs, and were left out or cut.
    pub spared: u32,
    /// Stands for everything that the kernel is to get.
    pub content: u64,
}

impl ListSurvey {
    /// How many of a family, of addresses or of networks.
    pub(super) fn count(&self, form: ListForm) -> u32 {
        let [hosts, nets] = self.kinds;
        let [v4, v6] = match form.members {
            ListMembers::Addresses => hosts,
            ListMembers::Networks => nets,
        };
        if form.family == Family::V4 { v4 } else { v6 }
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
    exempt: &'a Exempt,
}

impl<'a> DenyFile<'a> {
    pub(super) fn open(path: &'a Path, exempt: &'a Exempt) -> io::Result<DenyFile<'a>> {
        Ok(DenyFile { file: open(ListKind::Deny, path)?, path, exempt })
    }

    /// Whether reading it takes long beside everything else.
    pub(super) fn is_large(&self) -> bool {
        facts_of(&self.file).is_ok_and(|facts| facts.size >= LARGE)
    }

    /// Reads it from its beginning; `each` gets what the kernel is to get.
    pub(super) fn survey(
        &mut self,
        detail: Detail,
        note: ListNote<'_>,
        each: &mut dyn FnMut(IpNet),
    ) -> io::Result<ListSurvey> {
        self.file.rewind()?;
        let mut survey = ListSurvey::default();
        // The same content is the same number in every process: the key is no secret.
        let (mut hash, mut words) = (Sip::new([0, 0]), 0usize);
        let mut take = |net: IpNet, survey: &mut ListSurvey| {
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
        let (exempt, path, now) = (self.exempt, self.path.to_string_lossy(), crate::sys::clock::wall());
        let mut left_out = Vec::new();
        let counts = lines(ListKind::Deny, self.path, &mut self.file, detail, note, &mut |entry, line| {
            if entry.until.is_some_and(|until| until <= now) {
                return;
            }
            let range = Range::from(entry.net);
            if entry.force || !exempt.meets(&range) {
                take(entry.net, &mut survey);
                return;
            }
            survey.spared += 1;
            if survey.spared <= detail.most() {
                left_out.push((line, range));
            }
            exempt.without(&range).into_iter().flat_map(Range::nets).for_each(|net| take(net, &mut survey));
        })?;
        for (line, range) in &left_out {
            note(&format_args!(
                "{path}:{line}: {range} except {}, unless force is appended",
                exempt.named(range)
            ));
        }
        if survey.spared > detail.most() && detail != Detail::Nothing {
            note(&format_args!(
                "{path}: {} entries in total cover this host or what it needs, which is left out",
                survey.spared
            ));
        }
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
pub fn survey(path: &Path, exempt: &Exempt, detail: Detail, note: ListNote<'_>) -> io::Result<ListSurvey> {
    DenyFile::open(path, exempt)?.survey(detail, note, &mut |_| ())
}
