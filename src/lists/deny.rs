#![forbid(unsafe_code)]
//! Deny lists into the kernel: each file is read twice (for what is wrong with it and how much there is, then
//! for its entries), and nothing of it is kept in memory. What the kernel has already is not loaded again.

use super::kept::{DENY_ENTRIES, Kept, list_names};
use super::read::{DenyFile, Detail, ListNote, ListSurvey, entries};
use super::{Before, Exempt, Gone, ListTurn, Paths, nets, refusal};
use crate::ban::{Failure, ListForm, ListId, ListMembers, Shortage};
use crate::base::count::count;
use crate::base::range::{Family, Range};
use crate::base::siphash::sip13;
use crate::config::{ListEntry, ListKind};
use crate::firewall::backend::{DenySet, Filling, Lists};
use crate::sys::fs::invalid;
use crate::sys::trim;
use ipnet::IpNet;
use std::fmt::Display;
use std::io;
use std::path::Path;

/// How often a file that is written while it is read is begun anew; its writer's end is heard of as well.
const REREADS_MAX: u32 = 3;

/// What has become of a deny list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFate {
    /// The kernel has all of it.
    InForce,
    /// The kernel has a previous content of it.
    Previous,
    /// The kernel has nothing of it.
    Missing,
}

/// Why a list was not loaded.
enum LoadTrouble {
    Kernel(Failure),
    File(io::Error),
    /// So many addresses and networks do not fit.
    Memory(u32, u32, Shortage),
    /// It was written meanwhile.
    Changed,
}

impl From<Failure> for LoadTrouble {
    fn from(e: Failure) -> LoadTrouble {
        LoadTrouble::Kernel(e)
    }
}

impl From<io::Error> for LoadTrouble {
    fn from(e: io::Error) -> LoadTrouble {
        LoadTrouble::File(e)
    }
}

/// The number by which the kernel knows the list of a name.
#[must_use]
pub fn list_id(name: &str) -> u64 {
    sip13([0, 0], name.as_bytes())
}

/// Compares a list with what the kernel has of it.
#[must_use]
pub fn fate(sets: &[DenySet], name: &str, survey: &ListSurvey) -> ListFate {
    let list = list_id(name);
    let all = sets.iter().filter(|s| s.id.list == list && s.in_force()).count();
    let same =
        sets.iter().filter(|s| s.id == ListId { list, content: survey.content } && s.in_force()).count();
    let want = ListForm::ALL.iter().filter(|form| survey.count(**form) > 0).count();
    // Of a list that is refused nothing is wanted; that the kernel has nothing does not put it in force.
    let whole = all == want && same == want && !(all == 0 && survey.counts.refused());
    match (whole, all) {
        (true, _) => ListFate::InForce,
        (false, 0) => ListFate::Missing,
        (false, _) => ListFate::Previous,
    }
}

impl Display for LoadTrouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadTrouble::Kernel(e) => write!(f, "{e}"),
            LoadTrouble::File(e) => write!(f, "{e}"),
            LoadTrouble::Memory(addresses, networks, short) => {
                write!(f, "{} and {}: {short}", count(*addresses, "address"), count(*networks, "network"))
            }
            LoadTrouble::Changed => f.write_str("it is being written"),
        }
    }
}

/// Which lists are to be brought into the kernel, and how.
pub struct ListJob<'a> {
    /// These, or all.
    pub only: Option<&'a [String]>,
    /// What becomes of files that are gone.
    pub gone: Gone,
    /// Whether a file that is empty now was emptied by a command.
    pub emptied: bool,
}

/// What became of it.
pub struct Done {
    /// Whether all is in force that should be.
    pub good: bool,
    /// Files that are gone, and whose entries are still denied.
    pub waits: Vec<String>,
}

/// Has the kernel drop whom the deny lists name. Lists whose files were deleted are gone in the kernel, too;
/// a file that cannot be used leaves in force what it had. `note` hears what is wrong, `news` what was done.
///
/// # Errors
/// What the kernel refused; every list is then in force as it was before, or as it is now.
pub fn apply(
    guard: &mut dyn Lists,
    paths: &Paths,
    _turn: &ListTurn,
    job: &ListJob<'_>,
    note: ListNote<'_>,
    news: ListNote<'_>,
) -> Result<Done, Failure> {
    let sets = guard.deny_sets()?;
    // Whoever was filling these is dead: all who fill sets have the turn.
    for set in sets.iter().filter(|set| !set.is_asked()) {
        guard.deny_drop(set)?;
    }
    let kept = Kept::of(paths, ListKind::Deny);
    let done = Done { good: true, waits: Vec::new() };
    let exempt = Exempt::read();
    let mut work =
        DenyWork { guard, dir: paths.dir(ListKind::Deny), kept, exempt: &exempt, sets, note, news, done };
    let wanted = |list: u64| job.only.is_none_or(|only| only.iter().any(|name| list_id(name) == list));
    let names = match list_names(work.dir) {
        Ok(Some(names)) => names,
        other => {
            work.without_directory(other.err(), &wanted)?;
            return Ok(work.done);
        }
    };
    for name in names.iter().filter(|name| wanted(list_id(name))) {
        work.file(name, job.emptied)?;
    }
    let there: Vec<u64> = names.iter().map(|name| list_id(name)).collect();
    for (list, name) in work.previous().iter().filter(|(list, _)| wanted(*list) && !there.contains(list)) {
        work.gone(*list, name, job.gone)?;
    }
    Ok(work.done)
}

/// Takes out of the kernel what a deny list had in force, whatever its file is now, and keeps nothing of it.
///
/// # Errors
/// What the kernel refused, and what the system says.
pub fn drop_denied(
    guard: &mut dyn Lists,
    paths: &Paths,
    _turn: &ListTurn,
    name: &str,
) -> Result<bool, Failure> {
    let kept = Kept::of(paths, ListKind::Deny);
    let had = kept.read(name).is_some();
    // What cannot be removed is told by whoever reads it next.
    let _ = kept.forget(name);
    let sets = guard.deny_sets()?;
    let list = list_id(name);
    let denied = sets.iter().any(|set| set.id.list == list);
    if denied {
        guard.deny_swap(&sets, &[], list)?;
    }
    Ok(had || denied)
}

/// Whether something of a list is in force, or would be in force again.
#[must_use]
pub fn had(sets: &[DenySet], kept: Option<&[ListEntry]>, name: &str) -> bool {
    let list = list_id(name);
    kept.is_some_and(|kept| !kept.is_empty()) || sets.iter().any(|s| s.id.list == list && s.in_force())
}

/// The names of the lists in a directory of which entries of a family are in force; none where it cannot be
/// read.
#[must_use]
pub fn names_in_force(dir: &Path, sets: &[DenySet], family: Family) -> Vec<String> {
    let mut names = list_names(dir).ok().flatten().unwrap_or_default();
    let has = |list| sets.iter().any(|s| s.id.list == list && s.in_force() && s.family() == family);
    names.retain(|name| has(list_id(name)));
    names
}

/// One reading of the directory.
struct DenyWork<'a> {
    guard: &'a mut dyn Lists,
    dir: &'a Path,
    kept: Kept,
    exempt: &'a Exempt,
    sets: Vec<DenySet>,
    note: ListNote<'a>,
    news: ListNote<'a>,
    done: Done,
}

impl DenyWork<'_> {
    /// The lists of which something is in force or kept.
    fn previous(&self) -> Vec<(u64, String)> {
        let names = self.kept.names().into_iter();
        let mut lists: Vec<_> = names.map(|name| (list_id(&name), name)).collect();
        for set in &self.sets {
            if lists.iter().all(|(list, _)| *list != set.id.list) {
                // Of a long name only the beginning.
                lists.push((set.id.list, set.label.clone()));
            }
        }
        lists
    }

    /// A file that is there.
    fn file(&mut self, name: &str, emptied: bool) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let had = had(&self.sets, self.kept.read(name).as_deref(), name);
        let before = Before::from(had && !emptied);
        let result = DenyFile::open(&path, self.exempt)
            .map_err(LoadTrouble::File)
            .and_then(|mut file| self.load(&mut file, (name, &path), before, Detail::Some));
        match result {
            Ok(survey) => {
                self.keep(name, &path, &survey);
                Ok(())
            }
            Err(LoadTrouble::Kernel(e)) => Err(e),
            Err(why) => {
                self.done.good = false;
                self.stays(name, &format_args!("{}: {why}", path.to_string_lossy()))
            }
        }
    }

    /// A list that has no file that can be used.
    fn stays(&mut self, name: &str, why: &dyn Display) -> Result<(), Failure> {
        if had(&self.sets, None, name) {
            (self.note)(&format_args!("{why}: its previous content stays in force"));
            return Ok(());
        }
        let copy = self.kept.path(name);
        let loaded = DenyFile::open(&copy, self.exempt)
            .map_err(LoadTrouble::File)
            .and_then(|mut file| self.load(&mut file, (name, &copy), Before::Nothing, Detail::Nothing));
        match loaded {
            Ok(survey) if survey.counts.good > 0 => {
                (self.note)(&format_args!("{why}: its previous content stays in force"))
            }
            Err(LoadTrouble::Kernel(e)) => return Err(e),
            _ => (self.note)(&format_args!("{why}: nothing of it is in force")),
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, path: &Path, survey: &ListSurvey) {
        let (addresses, networks) = survey.totals();
        let small = addresses.saturating_add(networks) <= DENY_ENTRIES;
        // What is not kept is not read into memory either.
        let list = small.then(|| entries(ListKind::Deny, path, Detail::Nothing, &mut |_| ()));
        let result = match list {
            Some(Ok((list, _))) => self.kept.write(name, &list),
            // It has changed again: then it is read again, too.
            Some(Err(_)) => Ok(()),
            None => self.kept.forget(name),
        };
        if let Err(e) = result {
            let path = self.kept.path(name);
            (self.note)(&format_args!("{}: {e}: what is in force is not saved", path.to_string_lossy()));
        }
    }

    fn gone(&mut self, list: u64, name: &str, gone: Gone) -> Result<(), Failure> {
        if gone == Gone::Wait {
            self.done.waits.push(name.to_owned());
            return Ok(());
        }
        let path = self.kept.path(name);
        if let Err(e) = self.kept.forget(name) {
            (self.note)(&format_args!("{}: {e}", path.to_string_lossy()));
        }
        self.guard.deny_swap(&self.sets, &[], list)?;
        self.sets.retain(|s| s.id.list != list);
        let path = self.dir.join(name);
        (self.note)(&format_args!(
            "{} was deleted: its entries are no longer denied",
            path.to_string_lossy()
        ));
        Ok(())
    }

    fn without_directory(
        &mut self,
        error: Option<io::Error>,
        wanted: &dyn Fn(u64) -> bool,
    ) -> Result<(), Failure> {
        let dir = self.dir.to_string_lossy().into_owned();
        if let Some(e) = &error {
            self.done.good = false;
            (self.note)(&format_args!("{dir}: {e}"));
        }
        for (_, name) in self.previous().iter().filter(|(list, _)| wanted(*list)) {
            let why = if error.is_some() { "cannot be read" } else { "does not exist" };
            self.stays(name, &format_args!("{dir} {why}: {name}"))?;
        }
        Ok(())
    }

    /// Loads a list, unless the kernel has it.
    fn load(
        &mut self,
        file: &mut DenyFile<'_>,
        (name, path): (&str, &Path),
        before: Before,
        detail: Detail,
    ) -> Result<ListSurvey, LoadTrouble> {
        let mut room = usize::MAX;
        let mut tries = 0;
        if file.is_large() {
            // A little of the program does all of the work: the rest is not to lie beside it.
            trim::drop_code_pages();
        }
        loop {
            let detail = if tries == 0 { detail } else { Detail::Nothing };
            let survey = file.survey(detail, self.note, &mut |_| ())?;
            tries += 1;
            if let Some(why) = refusal(survey.counts, before) {
                return Err(LoadTrouble::File(invalid(why)));
            }
            if fate(&self.sets, name, &survey) == ListFate::InForce {
                return Ok(survey);
            }
            let (addresses, networks) = survey.totals();
            self.guard
                .room_for_list(addresses.into(), networks.into())
                .map_err(|short| LoadTrouble::Memory(addresses, networks, short))?;
            let id = ListId { list: list_id(name), content: survey.content };
            let mut fillings = Vec::new();
            let result = fill(self.guard, file, (id, name), &survey, room, &mut fillings)
                .and_then(|()| Ok(self.guard.deny_swap(&self.sets, &fillings, id.list)?));
            let Err(e) = result else {
                self.sets = self.guard.deny_sets()?;
                (self.news)(&format_args!(
                    "{}: {} and {} denied",
                    path.to_string_lossy(),
                    count(addresses, "address"),
                    count(networks, "network")
                ));
                for family in Family::ALL {
                    let has_some =
                        ListForm::ALL.iter().any(|form| form.family == family && survey.count(*form) > 0);
                    if has_some && let Some(why) = self.guard.cannot_drop(family)? {
                        let path = path.to_string_lossy();
                        (self.note)(&format_args!("{path}: this kernel {why}: those are not denied"));
                    }
                }
                return Ok(survey);
            };
            fillings.iter().for_each(|filling| drop(self.guard.deny_forget(filling)));
            match &e {
                LoadTrouble::Changed if tries < REREADS_MAX => {}
                LoadTrouble::Kernel(refusal) => match self.guard.deny_room(refusal, room) {
                    Some(less) => room = less,
                    None => return Err(e),
                },
                _ => return Err(e),
            }
        }
    }
}

/// Ranges that are handed over together.
const HELD: usize = 64;

/// A part of a list that is being filled.
struct ListPart<'p> {
    guard: &'p mut dyn Lists,
    filling: Filling,
    room: usize,
    held: Vec<Range>,
}

impl ListPart<'_> {
    fn add(&mut self, range: Range) -> Result<(), Failure> {
        self.held.push(range);
        if self.held.len() == HELD { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Failure> {
        let result = self.guard.deny_add(&mut self.filling, &self.held, self.room);
        self.held.clear();
        result
    }

    fn close(&mut self) -> Result<(), Failure> {
        self.hand_over()?;
        self.guard.deny_close()
    }
}

/// Makes the sets of a list and fills them.
fn fill(
    guard: &mut dyn Lists,
    file: &mut DenyFile<'_>,
    (id, name): (ListId, &str),
    survey: &ListSurvey,
    room: usize,
    fillings: &mut Vec<Filling>,
) -> Result<(), LoadTrouble> {
    for form in ListForm::ALL.into_iter().filter(|form| survey.count(*form) > 0) {
        let filling = guard.deny_open(id, form, survey.count(form), name)?;
        let mut part = ListPart { guard, filling, room, held: Vec::with_capacity(HELD) };
        let mut read = |each: &mut dyn FnMut(IpNet)| {
            let again = file.survey(Detail::Nothing, &mut |_| (), &mut |net| {
                let members = match net.prefix_len() == net.max_prefix_len() {
                    true => ListMembers::Addresses,
                    false => ListMembers::Networks,
                };
                if Family::of(&net.addr()) == form.family && members == form.members {
                    each(net);
                }
            })?;
            if again == *survey { Ok(()) } else { Err(LoadTrouble::Changed) }
        };
        let result = if form.members == ListMembers::Networks {
            nets::in_order(form.family, nets::NETS_PER_PASS, &mut read, &mut |range| Ok(part.add(*range)?))
        } else {
            let mut added = Ok(());
            read(&mut |net| {
                if added.is_ok() {
                    added = part.add(Range::from(net));
                }
            })
            .and(added.map_err(LoadTrouble::from))
        };
        let result = result.and_then(|()| Ok(part.close()?));
        fillings.push(part.filling);
        result?;
    }
    Ok(())
}
