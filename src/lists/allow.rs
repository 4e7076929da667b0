#![forbid(unsafe_code)]
//! The allow list: all files of its directory, and what is kept of those that cannot be used. Nobody who was
//! on it falls off because a file is damaged. Knows the kernel only by what is in force there.

use super::kept::{Kept, list_names};
use super::read::{Detail, ListNote, entries};
use super::{Before, ListTurn, Paths, refusal};
use crate::ban::{AllowReader, Allowed};
use crate::base::clock::Wall;
use crate::base::count::count;
use crate::base::range::{Range, merge};
use crate::config::{ListCounts, ListEntry, ListKind};
use crate::sys::clock;
use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// Who is allowed in the kernel now, each until when.
pub type InForce<'f> = &'f mut dyn FnMut() -> Vec<(Range, Option<Wall>)>;

/// How files that were there and are not any more are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// They were deleted on purpose.
    Forget,
    /// They may be about to come back, as when an editor saves: what they had stays for now.
    Wait,
}

/// What the files say.
pub struct ListReading {
    /// The allow list.
    pub allowed: Allowed,
    /// Whether a file is not there, and what it had is still in this.
    pub waits: bool,
}

/// What may be used of a file: its entries, and whether all lines are good.
pub(super) type ListContent = (Vec<ListEntry>, bool);

/// Reads a file of which `kept` was in force. An error is why it cannot be used.
pub(super) fn content(
    path: &Path,
    kept: Option<&[ListEntry]>,
    detail: Detail,
    note: ListNote<'_>,
) -> (ListCounts, Result<ListContent, String>) {
    let had = kept.is_some_and(|kept| !kept.is_empty());
    match entries(ListKind::Allow, path, detail, note) {
        Ok((found, counts)) => {
            let result = match refusal(counts, Before::from(had)) {
                Some(why) => Err(why.to_owned()),
                None => Ok((found, counts.bad == 0)),
            };
            (counts, result)
        }
        Err(e) => (ListCounts::default(), Err(e.to_string())),
    }
}

/// One reading of the directory.
struct Pass<'a> {
    dir: &'a Path,
    kept: Kept,
    now: Wall,
    note: ListNote<'a>,
    /// What is kept may be written.
    writes: bool,
    all: Allowed,
    /// What the files cover that are known.
    known: Vec<Range>,
    /// Files that cannot be used, and of which nothing is known.
    unknown: Vec<String>,
    waits: bool,
}

/// Reads all allow lists, and keeps what is in force of each. A bad line is told and passed over, and what
/// the file had before stays beside its good lines; of a file that cannot be used what it had stays as it
/// was. `in_force` is asked when nothing is known of such a file: whoever is allowed then, and by no other
/// file, was allowed by this one.
pub fn allowed(
    paths: &Paths,
    turn: &ListTurn,
    gone: Gone,
    in_force: InForce<'_>,
    note: ListNote<'_>,
) -> ListReading {
    let dir = paths.dir(ListKind::Allow);
    let mut reader = Pass {
        dir,
        kept: Kept::of(paths, ListKind::Allow),
        now: clock::wall(),
        note,
        writes: turn.is_own(),
        all: Allowed::default(),
        known: Vec::new(),
        unknown: Vec::new(),
        waits: false,
    };
    let previous = reader.kept.names();
    let names = list_names(dir);
    match &names {
        Ok(Some(names)) => {
            names.iter().for_each(|name| reader.file(name));
            previous.iter().filter(|name| !names.contains(name)).for_each(|name| reader.gone(name, gone));
        }
        other => {
            previous.iter().for_each(|name| reader.stays(name));
            reader.without_directory(other.as_ref().err(), previous.len());
        }
    }
    for range in super::hosts::ranges(paths, gone) {
        reader.all.add(range, None);
        reader.known.push(range);
    }
    let lost = !matches!(names, Ok(Some(_))) && previous.is_empty();
    if lost || !reader.unknown.is_empty() {
        reader.ask(in_force);
    }
    ListReading { allowed: reader.all, waits: reader.waits }
}

impl Pass<'_> {
    fn take(&mut self, list: &[ListEntry]) {
        for entry in list.iter().filter(|entry| entry.until.is_none_or(|until| until > self.now)) {
            let range = Range::from(entry.net);
            self.all.add(range, entry.until);
            self.known.push(range);
        }
    }

    fn live(&self, list: Option<Vec<ListEntry>>) -> Option<Vec<ListEntry>> {
        list.map(|mut list| {
            list.retain(|entry| entry.until.is_none_or(|until| until > self.now));
            list
        })
    }

    fn keep(&mut self, name: &str, list: &[ListEntry]) {
        if self.writes
            && let Err(e) = self.kept.write(name, list)
        {
            let path = self.kept.path(name);
            (self.note)(&format_args!("{}: {e}: what is in force is not saved", path.to_string_lossy()));
        }
    }

    /// A file that is there.
    fn file(&mut self, name: &str) {
        let path = self.dir.join(name);
        let kept = self.live(self.kept.read(name));
        let (mut list, good) = match content(&path, kept.as_deref(), Detail::Some, self.note).1 {
            Ok(content) => content,
            Err(why) => return self.refused(name, &path, &why, kept),
        };
        if !good {
            let mut there: Vec<_> = list.iter().map(|entry| entry.net).collect();
            there.sort_unstable();
            let mut also = kept.unwrap_or_default();
            also.retain(|entry| there.binary_search(&entry.net).is_err());
            if !also.is_empty() {
                (self.note)(&format_args!(
                    "{}: {} kept in force until its bad lines are fixed (mef lists --drop \
                     {name} ends that)",
                    path.to_string_lossy(),
                    count(also.len(), "previous entry")
                ));
            }
            list.extend(also);
        }
        self.take(&list);
        self.keep(name, &list);
    }

    fn refused(&mut self, name: &str, path: &Path, why: &str, kept: Option<Vec<ListEntry>>) {
        let stays: &dyn Display = match &kept {
            Some(list) if list.is_empty() => &"nothing of it is in force",
            Some(list) => &format_args!("{} kept in force", count(list.len(), "previous entry")),
            None => &"whoever is allowed stays allowed",
        };
        (self.note)(&format_args!("{}: {why}: {stays}", path.to_string_lossy()));
        match kept {
            Some(list) => self.take(&list),
            None => self.unknown.push(name.to_owned()),
        }
    }

    fn stays(&mut self, name: &str) {
        let kept = self.live(self.kept.read(name)).unwrap_or_default();
        self.take(&kept);
    }

    /// A file that was there.
    fn gone(&mut self, name: &str, gone: Gone) {
        let kept = self.live(self.kept.read(name)).unwrap_or_default();
        if gone == Gone::Wait || !self.writes {
            self.waits = true;
            self.take(&kept);
            return;
        }
        if let Err(e) = self.kept.forget(name) {
            (self.note)(&format_args!("{}: {e}", self.kept.path(name).to_string_lossy()));
        }
        let path = self.dir.join(name);
        if kept.is_empty() {
            return;
        }
        (self.note)(&format_args!(
            "{} was deleted: {} no longer allowed",
            path.to_string_lossy(),
            count(kept.len(), "entry")
        ));
    }

    fn without_directory(&mut self, error: Option<&io::Error>, files: usize) {
        let dir = self.dir.to_string_lossy();
        match error {
            Some(e) => (self.note)(&format_args!("{dir}: {e}: whoever is allowed stays allowed")),
            None if files > 0 => {
                (self.note)(&format_args!(
                    "{dir} does not exist: the previous content of {} stays in force",
                    count(files, "list")
                ));
            }
            None => {}
        }
    }

    /// What is in force and stands in no file that is known must be from one that is not.
    fn ask(&mut self, in_force: InForce<'_>) {
        merge(&mut self.known);
        let mut found = Vec::new();
        for (range, until) in in_force() {
            let mut rest = vec![range];
            let near = self.known.partition_point(|known| *known < range).saturating_sub(1);
            let near = self.known.get(near..).unwrap_or_default().iter();
            for known in near.skip_while(|k| !k.meets(&range)).take_while(|k| k.meets(&range)) {
                rest = rest.iter().flat_map(|r| r.without(known)).flatten().collect();
            }
            let nets = rest.into_iter().flat_map(Range::nets);
            found.extend(nets.map(|net| ListEntry { net, until, force: true }));
        }
        self.take(&found);
        if let Some(name) = self.unknown.first().cloned() {
            self.keep(&name, &found);
        }
    }
}

/// Forgets what is kept of a list; whether there was anything that its file does not say.
///
/// # Errors
/// What the system says.
pub fn drop_allowed(paths: &Paths, _turn: &ListTurn, name: &str) -> io::Result<bool> {
    let kept = Kept::of(paths, ListKind::Allow);
    let had = kept.read(name).is_some_and(|list| !list.is_empty());
    // That there is nothing has to be known where the file cannot be used: else the kernel would be asked.
    kept.write(name, &[])?;
    Ok(had)
}

/// For a table that is made: it reads the lists then, and tells what is wrong to `notes`.
#[must_use]
pub fn reader(paths: Paths, patience: Duration, notes: Rc<RefCell<Vec<String>>>) -> AllowReader {
    Box::new(move |there| {
        let turn = ListTurn::within(&paths, ListKind::Allow, patience);
        let mut in_force = || there.clone();
        let mut note = |text: &dyn Display| notes.borrow_mut().push(text.to_string());
        allowed(&paths, &turn, Gone::Wait, &mut in_force, &mut note).allowed
    })
}
