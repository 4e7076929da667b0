#![forbid(unsafe_code)]
//! Deny lists into the kernel: each file is read twice (for what is wrong with it and how much there is, then for
//! its entries), and nothing of it is kept in memory. What the kernel has already is not loaded again.

use super::read::{DenyFile, Note, Survey};
use super::{Paths, nets};
use crate::base::range::{Family, Key, Range};
use crate::base::siphash::sip13;
use crate::config::{ListKind, conf_files};
use crate::firewall::guard::{DenySet, Failure, Filling, Guard, ListId};
use crate::sys::dir::Lock;
use crate::sys::host::Protected;
use ipnet::IpNet;
use std::io;
use std::path::Path;

/// How often a file that is written while it is read is begun anew; its writer's end is heard of as well.
const TRIES: u32 = 3;
/// What each of the sets of a list holds: its family, and whether that is networks.
const FORMS: [(Family, bool); 4] =
    [(Family::V4, false), (Family::V6, false), (Family::V4, true), (Family::V6, true)];

/// What has become of a deny list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The kernel has all of it.
    InForce,
    /// The kernel has a former content of it.
    Former,
    /// The kernel has nothing of it.
    Missing,
}

/// Why a list was not loaded.
enum Trouble {
    Kernel(Failure),
    File(io::Error),
    /// It was written meanwhile.
    Changed,
}

impl From<Failure> for Trouble {
    fn from(e: Failure) -> Trouble {
        Trouble::Kernel(e)
    }
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Trouble {
        Trouble::File(e)
    }
}

fn list_id(name: &str) -> u64 {
    sip13([0, 0], name.as_bytes())
}

/// Compares a list with what the kernel has of it.
#[must_use]
pub fn fate(sets: &[DenySet], name: &str, survey: &Survey) -> Fate {
    let list = list_id(name);
    let all = sets.iter().filter(|s| s.id.list == list && s.in_force()).count();
    let same =
        sets.iter().filter(|s| s.id == ListId { list, content: survey.content } && s.in_force()).count();
    let want = FORMS.iter().filter(|form| survey.count(**form) > 0).count();
    // Of a list that is refused nothing is wanted; that the kernel has nothing does not put it in force.
    let whole = all == want && same == want && !(all == 0 && survey.counts.refused());
    match (whole, all) {
        (true, _) => Fate::InForce,
        (false, 0) => Fate::Missing,
        (false, _) => Fate::Former,
    }
}

/// Has the kernel drop whom the deny lists name: all lists, or those of the names in `only`. Lists that are gone
/// are gone in the kernel, too. `note` hears what is wrong, `news` what was done. Whether all is in force that
/// should be.
///
/// # Errors
/// What the kernel refused; every list is then in force as it was before, or as it is now.
pub fn apply(
    guard: &mut Guard,
    paths: &Paths,
    only: Option<&[String]>,
    note: Note<'_>,
    news: Note<'_>,
) -> Result<bool, Failure> {
    let dir = paths.dir(ListKind::Deny);
    let lock = paths.lock_file("deny.lock");
    let _lock = lock.as_ref().and_then(|file| Lock::wait(file).ok());
    let names = match conf_files(dir) {
        Ok(names) => names,
        Err(e) => {
            note(&format_args!("{}: {e}", dir.to_string_lossy()));
            return Ok(false);
        }
    };
    let mut sets = guard.deny_sets()?;
    // Whoever was filling these is dead: all who fill sets hold the lock.
    for set in sets.iter().filter(|set| !set.in_force()) {
        guard.deny_drop(&set.name)?;
    }
    let protected = Protected::read().ranges();
    let wanted = |name: &str| only.is_none_or(|only| only.iter().any(|o| o == name));
    let mut good = true;
    for name in names.iter().filter(|name| wanted(name)) {
        let path = dir.join(name);
        let mut file = match DenyFile::open(&path, &protected) {
            Ok(file) => file,
            Err(e) => {
                note(&format_args!("{}: {e}", path.to_string_lossy()));
                good = false;
                continue;
            }
        };
        match load(guard, &mut file, (name, &path), &sets, note, news) {
            Ok(true) => sets = guard.deny_sets()?,
            Ok(false) => {}
            Err(Trouble::Kernel(e)) => return Err(e),
            Err(e) => {
                good = false;
                let path = path.to_string_lossy();
                match e {
                    Trouble::File(e) => note(&format_args!("{path}: {e}")),
                    _ => {
                        note(&format_args!("{path}: it is being written: the former content stays in force"))
                    }
                }
            }
        }
    }
    let known: Vec<u64> = names.iter().map(|name| list_id(name)).collect();
    let asked: Option<Vec<u64>> = only.map(|only| only.iter().map(|name| list_id(name)).collect());
    while let Some(list) = sets
        .iter()
        .map(|s| s.id.list)
        .find(|list| !known.contains(list) && asked.as_ref().is_none_or(|asked| asked.contains(list)))
    {
        guard.deny_swap(&sets, &[], list)?;
        sets.retain(|s| s.id.list != list);
        news(&format_args!("a deny list is gone: its entries are not denied any more"));
    }
    Ok(good)
}

/// Loads a list, unless the kernel has it; whether anything was changed.
fn load(
    guard: &mut Guard,
    file: &mut DenyFile<'_>,
    (name, path): (&str, &Path),
    sets: &[DenySet],
    note: Note<'_>,
    news: Note<'_>,
) -> Result<bool, Trouble> {
    let path = path.to_string_lossy();
    let mut room = usize::MAX;
    let mut tries = 0;
    loop {
        let mut quiet = |_: &dyn std::fmt::Display| ();
        let survey = file.survey(&mut |_| (), if tries == 0 { note } else { &mut quiet })?;
        tries += 1;
        if survey.counts.refused() {
            return Err(Trouble::File(crate::sys::fs::invalid(
                "more than half of its lines are bad: the former content stays in force",
            )));
        }
        if survey.spared > 0 && tries == 1 {
            note(&format_args!(
                "{path}: {} entries name this host or what it needs, and leave that out",
                survey.spared
            ));
        }
        if fate(sets, name, &survey) == Fate::InForce {
            return Ok(false);
        }
        let id = ListId { list: list_id(name), content: survey.content };
        let mut fillings = Vec::new();
        let result = fill(guard, file, (id, name), &survey, room, &mut fillings)
            .and_then(|()| Ok(guard.deny_swap(sets, &fillings, id.list)?));
        let Err(e) = result else {
            let (addresses, networks) = survey.totals();
            news(&format_args!("{path}: {addresses} addresses and {networks} networks are denied"));
            return Ok(true);
        };
        fillings.iter().for_each(|filling| drop(guard.deny_drop(&filling.name)));
        match &e {
            Trouble::Changed if tries < TRIES => {}
            Trouble::Kernel(refusal) => match Guard::deny_room(refusal, room) {
                Some(less) => room = less,
                None => return Err(e),
            },
            _ => return Err(e),
        }
    }
}

/// Makes the sets of a list and fills them.
fn fill(
    guard: &mut Guard,
    file: &mut DenyFile<'_>,
    (id, name): (ListId, &str),
    survey: &Survey,
    room: usize,
    fillings: &mut Vec<Filling>,
) -> Result<(), Trouble> {
    for form @ (family, networks) in FORMS.into_iter().filter(|form| survey.count(*form) > 0) {
        let mut filling = guard.deny_open(id, form, survey.count(form), name)?;
        let mut read = |each: &mut dyn FnMut(IpNet)| {
            let again = file.survey(
                &mut |net| {
                    let host = net.prefix_len() == net.max_prefix_len();
                    if Family::of(&net.addr()) == family && host != networks {
                        each(net);
                    }
                },
                &mut |_| (),
            )?;
            if again == *survey { Ok(()) } else { Err(Trouble::Changed) }
        };
        let result = if networks {
            nets::in_order(family, nets::HELD, &mut read, &mut |range| {
                let end = range.end_key();
                let end = end.as_ref().map(Key::bytes);
                Ok(guard.deny_add(&mut filling, range.key().bytes(), end, room)?)
            })
        } else {
            let mut added = Ok(());
            read(&mut |net| {
                if added.is_ok() {
                    added = guard.deny_add(&mut filling, Range::from(net).key().bytes(), None, room);
                }
            })
            .and(added.map_err(Trouble::from))
        };
        fillings.push(filling);
        result?;
        guard.deny_close()?;
    }
    Ok(())
}
