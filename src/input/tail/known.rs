#![forbid(unsafe_code)]
//! Which older generations of a log are accounted for: read, or there before anybody looked. All others
//! hold lines that nobody has read. Contents decide, not times: what a file begins with, and what stands
//! before the place that was read.

use super::marks::LogMark;
use super::reader::FileReader;
use super::rotate::{self, DirNames, RotationAge};
use crate::base::position::Position;
use crate::sys::clock::{self, wall_nanos};
use crate::sys::fs::{self, FileId};
use std::path::{Path, PathBuf};

/// So many generations are kept in mind, the newest ones.
const GENERATIONS_MAX: usize = u64::BITS as usize;
/// The clocks of file systems may lag behind ours, in seconds.
const GRAIN: i64 = 1;
const SECOND: u64 = 1_000_000_000;

/// What is accounted for beside one log.
#[derive(Default)]
pub(super) struct KnownFiles {
    /// What was last changed before is accounted for, in seconds since 1970.
    since: i64,
    marks: Vec<LogMark>,
    /// There was no room for marks of what was last changed until then.
    floor: (i64, i64),
    /// The log held no line that was not read, nor did anything beside it, at this time in nanoseconds
    /// since 1970.
    pub(super) blank: u64,
}

/// Why somebody looks for unread generations.
#[derive(Clone, Copy)]
pub(super) enum SearchReason<'a> {
    /// Nothing was read of this file yet: what it held before may have been copied away.
    AtStart(&'a FileReader),
    /// What was read of this file is no longer in it.
    Truncated(&'a FileReader),
    /// This file is read to its end, and another has its name; or none had.
    Finished(Option<&'a FileReader>),
}

/// What was found.
pub(super) struct NameSurvey {
    /// The oldest generation of which nothing was read.
    pub(super) oldest: Option<(RotationAge, FileReader)>,
    /// Copies of what was read.
    copies: Vec<LogMark>,
    /// Which of the generations that are accounted for are still there, one bit for each.
    there: u64,
    /// When it began, in nanoseconds since 1970.
    begun: u64,
}

fn nanos((seconds, nanoseconds): (i64, i64)) -> u64 {
    clock::nanos(seconds, nanoseconds)
}

/// Leaves the newest; when the newest of the others was changed.
fn newest(found: &mut Vec<RotationAge>) -> (i64, i64) {
    found.sort_unstable_by_key(|age| std::cmp::Reverse(age.mtime));
    let floor = found.get(GENERATIONS_MAX).map_or((0, 0), |age| age.mtime);
    found.truncate(GENERATIONS_MAX);
    floor
}

impl KnownFiles {
    /// All generations that are there now, but those that `later` says.
    pub(super) fn all(names: &DirNames, path: &Path, later: &dyn Fn(&RotationAge) -> bool) -> KnownFiles {
        let begun = wall_nanos();
        let (mut found, mut floor): (Vec<RotationAge>, _) = (Vec::new(), (0, 0));
        let mut since = i64::try_from(begun / SECOND).unwrap_or(0);
        rotate::generations_among(names, path, &mut |age, facts| {
            if later(&age) {
                since = since.min(age.mtime.0);
            } else if facts.size > 0 {
                found.push(age);
                if found.len() > 2 * GENERATIONS_MAX {
                    floor = floor.max(newest(&mut found));
                }
            }
        });
        floor = floor.max(newest(&mut found));
        let opened = found.iter().filter_map(|age| FileReader::open(&age.name).ok());
        let marks = opened.filter_map(|reader| reader.whole()).collect();
        KnownFiles { since, marks, floor, blank: begun }
    }

    /// What is known after a restart of a log of which nothing was read at `blank`: what was written
    /// before, and of what was written about that time the files that `read` tells.
    pub(super) fn until(names: &DirNames, path: &Path, blank: u64, read: &[Position]) -> KnownFiles {
        let sure = blank.saturating_sub(SECOND);
        let is_read = |age: &RotationAge| {
            let known = |file: &FileReader| read.iter().any(|at| at.offset > 0 && file.has_read(at));
            FileReader::open(&age.name).is_ok_and(|file| known(&file))
        };
        // Those older than all of which there are marks were read before.
        let mut oldest: Option<RotationAge> = None;
        rotate::generations_among(names, path, &mut |age, _| {
            if nanos(age.mtime) > sure && oldest.as_ref().is_none_or(|o| age.before(o)) && is_read(&age) {
                oldest = Some(age);
            }
        });
        let full = read.len() >= GENERATIONS_MAX;
        let is_before =
            |age: &RotationAge, oldest: &RotationAge| age.before(oldest) || full && age.mtime == oldest.mtime;
        let before = |age: &RotationAge| oldest.as_ref().is_some_and(|oldest| is_before(age, oldest));
        let later = |age: &RotationAge| nanos(age.mtime) > sure && !before(age) && !is_read(age);
        let known = KnownFiles::all(names, path, &|age| (1..=wall_nanos()).contains(&blank) && later(age));
        KnownFiles { blank: blank.min(known.blank), ..known }
    }

    /// What [`KnownFiles::until`] has to be told of, if nothing was read of the log itself.
    pub(super) fn recent(&self, each: &mut dyn FnMut(Position)) {
        let sure = self.blank.saturating_sub(2 * SECOND);
        self.marks.iter().filter(|m| nanos(m.mtime) > sure).for_each(|mark| each(mark.position()));
    }

    /// What is known after a restart that found `reader`: all but what came after it, where it is a
    /// generation itself.
    pub(super) fn after(names: &DirNames, path: &Path, reader: &FileReader) -> KnownFiles {
        let mut own = None;
        rotate::generations_among(names, path, &mut |age, facts| {
            if facts.id == reader.id {
                own = Some(age);
            }
        });
        KnownFiles::all(names, path, &|age| own.as_ref().is_some_and(|own| own.before(age)))
    }

    /// Where names never rest some are overlooked: what is older than something that is accounted for is,
    /// too.
    pub(super) fn or_older(mut self) -> KnownFiles {
        self.floor = self.marks.iter().map(|mark| mark.mtime).max().unwrap_or(self.floor).max(self.floor);
        self
    }

    /// Accounts for a file whose lines were read.
    pub(super) fn add(&mut self, reader: &FileReader) {
        if let Some(mark) = reader.whole() {
            self.push(mark);
        }
    }

    fn push(&mut self, mark: LogMark) {
        self.marks.retain(|m| !m.is_of(&mark));
        if self.marks.len() >= GENERATIONS_MAX
            && let Some((oldest, of)) = self.marks.iter().enumerate().min_by_key(|(_, m)| m.mtime)
        {
            self.floor = self.floor.max(of.mtime);
            self.marks.swap_remove(oldest);
        }
        self.marks.push(mark);
    }

    /// Looks for generations of which nothing was read. `taken` are those that are read now.
    pub(super) fn survey(
        &self,
        path: &Path,
        why: SearchReason<'_>,
        taken: &dyn Fn(FileId, &Path) -> bool,
    ) -> NameSurvey {
        let mut survey = NameSurvey { oldest: None, copies: Vec::new(), there: 0, begun: wall_nanos() };
        let bound = older_than(path, why);
        // What has the name now comes next.
        let log = Some(why)
            .filter(|why| matches!(why, SearchReason::Finished(_)))
            .and_then(|_| FileReader::open(path).ok());
        rotate::generations(path, &mut |age, facts| {
            for (bit, _) in self.marks.iter().enumerate().filter(|(_, mark)| mark.is_in(facts.id)) {
                survey.there |= 1 << bit;
            }
            let written = facts.size > 0 && facts.mtime.0 >= self.since.saturating_sub(GRAIN);
            if written
                && facts.mtime > self.floor
                && !why.head().is_some_and(|head| head.id == facts.id)
                && !taken(facts.id, &age.name)
                && let Ok(reader) = FileReader::open(&age.name)
                && !self.marks.iter().any(|mark| reader.is_known_by(mark))
                && bound.as_ref().is_none_or(|bound| age.before(bound))
            {
                survey.consider(why, log.as_ref(), age, reader);
            }
        });
        survey
    }

    /// Keeps what a survey has found out.
    pub(super) fn keep(&mut self, survey: &NameSurvey, found: bool) {
        if !found {
            let mut there = survey.there;
            self.marks.retain(|_| {
                let kept = there & 1 != 0;
                there >>= 1;
                kept
            });
            self.blank = survey.begun;
        }
        survey.copies.iter().for_each(|mark| self.push(*mark));
    }

    /// The log goes on after a file that was last changed then.
    pub(super) fn go_on(&mut self, mtime: (i64, i64)) {
        self.since = self.since.max(mtime.0);
    }

    /// Names a compressed generation that came since, once: it may hold lines that nobody has read.
    pub(super) fn packed_since(&mut self, path: &Path) -> Option<PathBuf> {
        let found = rotate::packed(path, self.since)?;
        self.since = i64::try_from(wall_nanos() / SECOND).unwrap_or(0).max(self.since);
        Some(found)
    }
}

impl<'a> SearchReason<'a> {
    fn head(self) -> Option<&'a FileReader> {
        match self {
            SearchReason::AtStart(head) | SearchReason::Truncated(head) => Some(head),
            SearchReason::Finished(head) => head,
        }
    }
}

impl NameSurvey {
    /// Takes in a generation that is not accounted for.
    fn consider(
        &mut self,
        why: SearchReason<'_>,
        log: Option<&FileReader>,
        age: RotationAge,
        reader: FileReader,
    ) {
        let copied = match why {
            SearchReason::Finished(_) if log.is_some_and(|log| log.holds_all_of(&reader)) => return,
            // Nothing of it is lost, and perhaps it is still being copied.
            SearchReason::AtStart(head) | SearchReason::Truncated(head) if head.holds_all_of(&reader) => {
                return;
            }
            SearchReason::AtStart(_) | SearchReason::Finished(None) => false,
            SearchReason::Truncated(head) => head.began_like(&reader),
            SearchReason::Finished(Some(head)) => head.holds_all_of(&reader),
        };
        if copied {
            self.copies.extend(reader.whole().filter(|_| self.copies.len() < GENERATIONS_MAX));
        } else if self.oldest.as_ref().is_none_or(|(oldest, _)| age.before(oldest)) {
            self.oldest = Some((age, reader));
        }
    }
}

/// What was in a file before it was renamed is older than the file, also what was copied from it; what came
/// after its last line comes later.
fn older_than(path: &Path, why: SearchReason<'_>) -> Option<RotationAge> {
    let (SearchReason::AtStart(head) | SearchReason::Truncated(head)) = why else { return None };
    if fs::facts(path).is_ok_and(|f| f.id == head.id) {
        return None;
    }
    let mut own = None;
    rotate::generations(path, &mut |age, facts| {
        if facts.id == head.id {
            own = Some(age);
        }
    });
    own.or_else(|| head.facts().ok().map(|f| RotationAge { mtime: f.mtime, name: path.to_owned() }))
}
