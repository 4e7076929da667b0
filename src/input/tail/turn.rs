#![forbid(unsafe_code)]
//! Which file a name has: begins with it, turns from one generation to the next, goes on after a restart.

use super::follow::{RESCANS_MAX, is_attested};
use super::known::{KnownFiles, SearchReason};
use super::name::NameTrouble;
use super::reader::FileReader;
use super::rotate::DirNames;
use super::{Tail, rotate};
use crate::base::bytes::of_path;
use crate::base::clock::LineTime;
use crate::base::position::Position;
use crate::input::Shown;
use crate::input::watch::WatchNeed;
use crate::sys::fs;
use std::path::{Path, PathBuf};

/// How long it may take until positions are written down, in nanoseconds: the disk may be slow.
const SLOW: u64 = 10_000_000_000;

fn seconds(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX)
}

impl Tail {
    /// Sees which file has the name now.
    pub(super) fn check(&mut self, i: usize) {
        let Some(name) = self.names.get_mut(i) else { return };
        name.check = false;
        let path = name.path.clone();
        self.see_link(i, &path);
        let found = fs::facts(&path);
        let taken = found.as_ref().is_ok_and(|f| self.held_by_other(i, f.id));
        let Some(name) = self.names.get_mut(i) else { return };
        name.alias = None;
        match (found, &mut name.head) {
            (Ok(facts), Some(head)) if head.id == facts.id => {
                head.attested = is_attested(&facts, &path, name.target.as_deref());
                if !head.dirty {
                    name.time = LineTime::Now;
                }
                name.trouble(NameTrouble::None);
            }
            (Ok(_), Some(head)) => {
                // What was written before the name changed hands comes first.
                head.dirty = true;
                name.turning = true;
            }
            (Ok(facts), None) if taken => {
                name.alias = Some(facts.id);
                self.aliased = true;
            }
            (Ok(_), None) => self.begin(i, &path),
            (Err(e), head) => {
                let missing = NameTrouble::of(&e) == NameTrouble::Missing;
                // A file that was moved away may still be written to; one that was deleted belongs to nobody.
                let lost = head.as_ref().is_none_or(|h| h.facts().is_ok_and(|f| f.links == 0));
                name.gone = name.wild && missing && lost;
                self.parting |= name.gone;
                match head {
                    Some(head) if missing && !name.gone => {
                        // In the midst of a rotation, perhaps of more than one.
                        head.dirty = true;
                        name.turning = true;
                    }
                    None if missing && !name.gone => {
                        name.trouble(NameTrouble::of(&e));
                        self.begin(i, &path); // it may have come and been rotated meanwhile
                    }
                    _ => name.trouble(NameTrouble::of(&e)),
                }
            }
        }
    }

    /// Opens the file that has the name, which had none. What was rotated before anybody looked comes first.
    fn begin(&mut self, i: usize, path: &Path) {
        if self.names.get(i).is_some_and(|n| !n.old) {
            match self.survey(i, SearchReason::Finished(None)) {
                Some(None) => {}
                Some(Some((older, reader))) => return self.go_to(i, reader, &older),
                None => {
                    if let Some(name) = self.names.get_mut(i) {
                        name.check = true;
                    }
                    return;
                }
            }
        }
        let opened = FileReader::open(path);
        let Some(name) = self.names.get_mut(i) else { return };
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(e) => {
                let trouble = NameTrouble::of(&e);
                name.old &= matches!(trouble, NameTrouble::Failed(_)); // only what is there can be old
                return name.trouble(trouble);
            }
        };
        if std::mem::take(&mut name.old)
            && let Err(e) = reader.skip_to_end()
        {
            name.trouble(NameTrouble::of(&e));
        }
        name.trouble(NameTrouble::None);
        self.adopt(i, reader, path);
    }

    /// The present file is read to its end: goes on with the next generation.
    pub(super) fn turn_over(&mut self, i: usize) {
        let Some(name) = self.names.get(i) else { return };
        let path = name.path.clone();
        let Some(facts) = name.head.as_ref().and_then(|h| h.facts().ok()) else {
            // Not even that can be asked of it (a server that forgot it): nothing more will come of it.
            let lost = self.names.get_mut(i).and_then(|name| {
                (name.turning, name.check) = (false, true);
                name.head.take()
            });
            lost.into_iter().for_each(|reader| self.release(reader));
            return;
        };
        let found = self.settled(|t| {
            let head = t.names.get(i).and_then(|n| n.head.as_ref());
            let mut survey = t.survey_name(i, SearchReason::Finished(head))?;
            if let Some((age, reader)) = survey.oldest.take() {
                return Some((survey, Some(age.name), Ok(Some(reader))));
            }
            let other = fs::facts(&path).is_ok_and(|f| t.held_by_other(i, f.id));
            // Opened while we look: a moment later the name may be another's.
            let opened = if other { Ok(None) } else { FileReader::open(&path).map(Some) };
            Some((survey, None, opened))
        });
        let Some(Some((survey, next, opened))) = found else { return };
        let Some(name) = self.names.get_mut(i) else { return };
        if name.late.as_ref().is_some_and(|r| r.dirty) {
            // Its place is needed: what was written to it before the next generation came is read first.
            return;
        }
        name.turning = false;
        name.check = next.is_some();
        name.known.keep(&survey, next.is_some());
        if next.is_none() {
            name.known.go_on(facts.mtime);
        }
        match opened {
            Ok(Some(reader)) => self.succeed(i, reader, &next.unwrap_or(path)),
            Ok(None) => {
                // Another name reads it.
                name.check = true;
                let late = std::mem::replace(&mut name.late, name.head.take());
                self.retire(i, late);
            }
            Err(e) if NameTrouble::of(&e) == NameTrouble::Missing => {
                if !name.check {
                    name.time = LineTime::Now;
                }
                name.deleted = facts.links == 0;
            }
            Err(e) => {
                name.check = false;
                name.trouble(NameTrouble::of(&e));
            }
        }
    }

    /// Reads `reader` after the present file.
    fn succeed(&mut self, i: usize, mut reader: FileReader, path: &Path) {
        let Some(name) = self.names.get_mut(i) else { return };
        let is = |r: &Option<FileReader>| r.as_ref().is_some_and(|r| r.id == reader.id);
        if is(&name.head) {
            return;
        }
        if is(&name.late) {
            // Renamed back: it goes on where it was.
            std::mem::swap(&mut name.head, &mut name.late);
            name.head.iter_mut().for_each(|h| h.dirty = true);
            return;
        }
        if let Some(before) = name.head.as_ref().filter(|head| !head.is_at_start()) {
            // A copy of what we read, moved into its place, or what an editor made of it.
            let same = before.begins_as_read(&reader) && reader.resume(&before.position());
            if !same && before.facts().is_ok_and(|f| f.links == 0) {
                reader.resume_edited(&before.trace(), &mut self.buffer);
            }
        }
        let late = std::mem::replace(&mut name.late, name.head.take());
        name.trouble(NameTrouble::None);
        self.retire(i, late);
        if let Some(late) = self.names.get_mut(i).and_then(|n| n.late.take_if(|late| late.id == reader.id)) {
            self.watches.forget(late.wd); // written into its place
        }
        self.adopt(i, reader, path);
    }

    /// Makes a reader the head of a name and watches its file.
    pub(super) fn adopt(&mut self, i: usize, mut reader: FileReader, path: &Path) {
        self.stir();
        // By the file itself: its name may be another's by now, and who writes to it need not know that.
        let by_file = self.watches.file(&reader.proc_path());
        let is_by_name = by_file.is_none();
        reader.wd = by_file.or_else(|| self.watches.file(path));
        reader.dirty = true;
        let same = fs::facts(path).is_ok_and(|f| f.id == reader.id);
        if is_by_name && !same {
            self.watches.forget(reader.wd.take());
        }
        if let Some(name) = self.names.get_mut(i) {
            reader.attested =
                reader.facts().is_ok_and(|facts| is_attested(&facts, path, name.target.as_deref()));
            name.check |= !same;
            name.deleted = false;
            name.head = Some(reader);
            self.opened = true;
        }
    }

    /// Lets go of an older generation, all of whose lines were read.
    fn retire(&mut self, i: usize, reader: Option<FileReader>) {
        let Some(reader) = reader else { return };
        if let Some(name) = self.names.get_mut(i)
            && !reader.is_altered()
            && !reader.is_at_start()
        {
            name.known.add(&reader);
        }
        self.release(reader);
    }

    /// Lets go of a file, or hands it to another name that waits for it.
    pub(super) fn release(&mut self, reader: FileReader) {
        self.stir();
        let heir = self.names.iter_mut().find(|n| n.alias == Some(reader.id) && n.head.is_none());
        match heir {
            Some(name) => {
                name.alias = None;
                name.check = true;
                name.head = Some(reader);
            }
            None => self.watches.forget(reader.wd),
        }
    }

    /// If the name is a link, its target's directory matters as well.
    fn see_link(&mut self, i: usize, path: &Path) {
        let target: Option<PathBuf> =
            fs::link_target(path).map(|direct| std::fs::canonicalize(path).unwrap_or(direct));
        if let Some(dir) = target.as_deref().and_then(Path::parent) {
            self.watches.dir(dir, WatchNeed::Must);
        }
        if let Some(name) = self.names.get_mut(i) {
            name.target = target;
        }
    }

    /// At the start there is no later.
    fn find_patiently(&mut self, path: &Path, at: &Position) -> Option<FileReader> {
        (0..RESCANS_MAX).find_map(|_| self.settled(|t| rotate::find(path, at, &|id| t.reads(id)))).flatten()
    }

    /// Sees what is accounted for, once names rest.
    fn account(&mut self, look: &dyn Fn() -> KnownFiles) -> KnownFiles {
        let settled = (0..RESCANS_MAX).find_map(|_| self.settled(|_| look()));
        settled.unwrap_or_else(|| look().or_older())
    }

    /// Finds where to go on with a name after a restart; `written` is when its place was written down,
    /// `older` are places in older generations.
    pub(super) fn resume(
        &mut self,
        i: usize,
        path: &Path,
        (at, written): (&Position, Option<u64>),
        (older, names): (&[Position], &DirNames),
    ) {
        // Before anything is opened: what comes beside it from now on is news.
        let there = self.account(&|| KnownFiles::all(names, path, &|_| false));
        let opened = FileReader::open(path).ok().map(|mut r| (r.resume(at), r));
        let (reader, known) = match opened {
            Some((true, reader)) => (Some(reader), there),
            present => match self.find_patiently(path, at) {
                Some(reader) => {
                    let known = self.account(&|| KnownFiles::after(names, path, &reader));
                    (Some(reader), known)
                }
                None => (present.map(|(_, reader)| reader), there),
            },
        };
        // Of a file that is not there any more all that came after it is news.
        let gone = at.offset > 0 && reader.as_ref().is_none_or(|reader| reader.offset != at.offset);
        let until = match written.filter(|_| gone) {
            Some(written) => Some(written.saturating_sub(SLOW)),
            None => Some(at.tail).filter(|_| at.offset == 0),
        };
        let known =
            until.map_or(known, |until| self.account(&|| KnownFiles::until(names, path, until, older)));
        if let Some(packed) = until.filter(|_| gone).and_then(|t| rotate::packed(path, seconds(t))) {
            log::warn!(
                "{}: the file that was read last is gone: what was written after that place may be in {} \
                 only, which is not read",
                Shown(of_path(path)),
                Shown(of_path(&packed))
            );
        }
        let Some(name) = self.names.get_mut(i) else { return };
        name.known = known;
        // One that was rewritten, and not only emptied, has old lines, too.
        let is_longer = |reader: &FileReader| reader.facts().is_ok_and(|facts| facts.size >= at.offset);
        if gone && reader.as_ref().is_some_and(is_longer) {
            name.time = LineTime::Stamped;
        }
        name.check = true;
        let late = older.first().and_then(|at| self.find_patiently(path, at));
        if let Some(mut late) =
            late.filter(|l| !l.is_at_start() && reader.as_ref().is_none_or(|r| r.id != l.id))
        {
            late.wd = self.watches.file(&late.proc_path());
            if let Some(name) = self.names.get_mut(i) {
                name.late = Some(late);
            }
        }
        if let Some(reader) = reader {
            self.adopt(i, reader, path);
        }
    }
}
