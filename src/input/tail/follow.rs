#![forbid(unsafe_code)]
//! What is done for one name: read a piece, notice that the file changed, find what was copied away.

use super::known::{NameSurvey, SearchReason};
use super::marks::Begin;
use super::name::{NameTrouble, WatchedName};
use super::reader::{FileReader, TailStep};
use super::{Tail, rotate};
use crate::base::bytes::of_path;
use crate::base::clock::LineTime;
use crate::input::{Item, Shown, Tags};
use crate::sys::fs::{self, FileId};
use std::path::{Path, PathBuf};

/// How often a directory is listed again because names moved meanwhile.
pub(super) const RESCANS_MAX: usize = 8;
/// What looking at names costs in bytes read, so that it counts against the budget.
const LOOK: usize = 4096;

impl WatchedName {
    /// Whether [`Tail::follow`] has something to do.
    pub(super) fn pending(&self) -> bool {
        let dirty = |r: &Option<FileReader>| r.as_ref().is_some_and(|r| r.dirty);
        !self.gone && (self.check || self.turning || dirty(&self.head) || dirty(&self.late))
    }
}

/// Whether only root and the service that writes a file can change it: judged by the file, the directory that
/// it is in, and that of the link which leads there. Whoever writes as a person, or lets a group of people
/// write, is no service.
pub(super) fn is_attested(file: &fs::FileFacts, path: &Path, target: Option<&Path>) -> bool {
    let mut dirs = [Some(path), target].into_iter().flatten().filter_map(Path::parent);
    file.is_private(file.owner) && dirs.all(|dir| fs::facts(dir).is_ok_and(|dir| dir.is_private(file.owner)))
}

impl Tail {
    /// Does one piece of work for a name. Returns the bytes read, and whether there may be more to do.
    pub(super) fn follow(&mut self, i: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> (usize, bool) {
        let Some(name) = self.names.get(i) else { return (0, false) };
        if name.gone || !name.pending() {
            return (0, false);
        }
        let mut bytes = LOOK;
        let grows = [&name.late, &name.head].into_iter().flatten().any(|r| r.dirty);
        if !grows {
            self.stir();
        }
        let Some(name) = self.names.get(i) else { return (0, false) };
        if name.late.as_ref().is_some_and(|r| r.dirty) {
            bytes = self.read_late(i, sink);
        } else if name.head.as_ref().is_some_and(|r| r.dirty) {
            bytes = self.read_head(i, sink);
        } else if name.turning {
            self.turn_over(i);
        } else if name.check {
            self.check(i);
        }
        (bytes, self.names.get(i).is_some_and(WatchedName::pending))
    }

    /// One read of the file before the present one.
    fn read_late(&mut self, i: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> usize {
        let Some(mut late) = self.names.get_mut(i).and_then(|n| n.late.take()) else { return 0 };
        let time = self.names.get(i).map_or(LineTime::Stamped, |n| n.time);
        let head = self.names.get(i).and_then(|n| n.head.as_ref());
        // Nothing was in it when it was renamed.
        let copied = late.is_at_start() && head.is_some_and(|head| head.is_copied_to(&late));
        let step = match copied {
            true => Ok(TailStep::Replaced),
            false => self.lend(i, &mut late, time, None, sink),
        };
        let Some(name) = self.names.get_mut(i) else { return 0 };
        if let Ok(TailStep::Read { bytes, more }) = step {
            late.dirty = more;
            // With no name left, holding it open would only keep its disk space.
            if more || late.facts().is_ok_and(|f| f.links > 0) {
                name.late = Some(late);
            } else {
                self.release(late);
            }
            return bytes;
        }
        // Its successor was copied into its place, perhaps before anybody read it.
        if let Some(head) = name.head.as_mut().filter(|head| head.is_at_start()) {
            head.dirty = true;
        }
        self.release(late);
        0
    }

    /// One read of the present file.
    fn read_head(&mut self, i: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> usize {
        let Some(name) = self.names.get_mut(i) else { return 0 };
        let time = name.time;
        let Some(mut head) = name.head.take() else { return 0 };
        if name.check {
            // Others may write there since.
            let facts = head.facts();
            head.attested &= facts.is_ok_and(|f| is_attested(&f, &name.path, name.target.as_deref()));
        }
        let mut begin = None;
        if head.is_at_start() {
            match self.before_start(i, &mut head) {
                Ok(Start::Here(found)) => begin = Some(found),
                Ok(Start::Unsettled) => {
                    self.put_back(i, head);
                    return LOOK;
                }
                Ok(Start::Copied(copy, path)) => {
                    // The copy first; what the file holds now comes as the next generation.
                    self.release(head);
                    self.go_to(i, *copy, &path);
                    return LOOK;
                }
                Err(_) => {} // the read finds it, too
            }
        }
        let step = self.lend(i, &mut head, time, begin, sink);
        let Some(name) = self.names.get_mut(i) else { return 0 };
        match step {
            Ok(TailStep::Read { bytes, more }) => {
                head.dirty = more;
                if !more && !name.check && !name.turning {
                    name.time = LineTime::Now;
                }
                name.head = Some(head);
                bytes
            }
            Ok(TailStep::Changed { shrunk }) => {
                self.changed(i, head, shrunk);
                0
            }
            Ok(TailStep::Replaced) => {
                name.head = Some(head); // still dirty: looked at again
                0
            }
            Err(e) => {
                head.dirty = false;
                name.trouble(NameTrouble::of(&e));
                name.head = Some(head);
                0
            }
        }
    }

    /// Lets a reader read once, for all names that its file has.
    fn lend(
        &mut self,
        i: usize,
        reader: &mut FileReader,
        time: LineTime,
        begin: Option<Begin>,
        sink: &mut dyn FnMut(Tags, Item<'_>),
    ) -> std::io::Result<TailStep> {
        let own = self.names.get(i).map_or(Tags(0), |n| n.tags);
        let others = || self.names.iter().filter(|n| n.alias == Some(reader.id));
        let tags = if self.aliased { others().fold(own, |all, n| all.and(n.tags)) } else { own };
        self.warm |= reader.hot;
        let attested = reader.attested;
        let wrapped = tags.within(self.containers);
        let Some(room) = self.unwrapped.as_mut().filter(|_| !wrapped.is_empty()) else {
            return reader.step(&mut self.buffer, &mut self.cut, begin, &mut |lines| {
                sink(tags, Item::Block { lines, time, attested });
            });
        };
        let (plain, mut container) = (tags.without(wrapped), reader.container());
        let step = reader.step(&mut self.buffer, &mut self.cut, begin, &mut |lines| {
            if !plain.is_empty() {
                sink(plain, Item::Block { lines, time, attested });
            }
            let len = container.unwrap(lines, room);
            sink(wrapped, Item::Block { lines: room.get(..len).unwrap_or_default(), time, attested });
        });
        reader.container = Some(container);
        step
    }

    /// Nothing was read of `head` yet. Before that begins, sees whether something was in it and was copied
    /// away.
    fn before_start(&mut self, i: usize, head: &mut FileReader) -> std::io::Result<Start> {
        // In this order: what is copied after this look is seen by its beginning.
        let begin = head.begin(&mut self.buffer)?;
        let Some(found) = self.survey(i, SearchReason::AtStart(head)) else { return Ok(Start::Unsettled) };
        Ok(found.map_or(Start::Here(begin), |(path, copy)| Start::Copied(Box::new(copy), path)))
    }

    /// The oldest generation of which nothing was read, once names rest. `None` where they never do.
    pub(super) fn survey(
        &mut self,
        i: usize,
        why: SearchReason<'_>,
    ) -> Option<Option<(PathBuf, FileReader)>> {
        let survey = self.settled(|t| t.survey_name(i, why))??;
        let name = self.names.get_mut(i)?;
        name.known.keep(&survey, survey.oldest.is_some());
        Some(survey.oldest.map(|(age, reader)| (age.name, reader)))
    }

    pub(super) fn survey_name(&self, i: usize, why: SearchReason<'_>) -> Option<NameSurvey> {
        let name = self.names.get(i)?;
        let taken = |id, path: &Path| self.names.iter().any(|n| n.path == path || n.reads(id));
        Some(name.known.survey(&name.path, why, &taken))
    }

    fn put_back(&mut self, i: usize, head: FileReader) {
        self.stir();
        if let Some(name) = self.names.get_mut(i) {
            name.head = Some(head);
        }
    }

    /// Reads a generation that was found beside the log, and then what came after it.
    pub(super) fn go_to(&mut self, i: usize, reader: FileReader, path: &Path) {
        // It may have been written into the place of one that was read.
        let late = self.names.get_mut(i).and_then(|n| n.late.take_if(|late| late.id == reader.id));
        late.into_iter().for_each(|late| self.watches.forget(late.wd));
        self.adopt(i, reader, path);
        if let Some(name) = self.names.get_mut(i) {
            name.check = true;
        }
    }

    /// The file was truncated or rewritten under us. If it was copied away first, what we had not read is
    /// in the copy.
    fn changed(&mut self, i: usize, mut head: FileReader, shrunk: bool) {
        self.stir();
        let at = head.position();
        let Some(path) = self.names.get(i).map(|n| n.path.clone()) else { return };
        let look = |t: &Tail| {
            let copy = rotate::find(&path, &at, &|id| id == head.id || t.reads(id)).filter(|_| at.offset > 0);
            let survey = t.survey_name(i, SearchReason::Truncated(&head));
            (copy, survey)
        };
        let Some((copy, Some(survey))) = self.settled(look) else {
            return self.put_back(i, head); // still dirty: the next read finds it changed again
        };
        let Some(name) = self.names.get_mut(i) else { return };
        if copy.is_none() {
            name.known.keep(&survey, survey.oldest.is_some());
        }
        let oldest = survey.oldest.map(|(age, reader)| (reader, age.name));
        if let Some((copy, from)) = copy.map(|copy| (copy, path.clone())).or(oldest) {
            self.release(head);
            return self.go_to(i, copy, &from);
        }
        let before = head.trace();
        if !head.resume_edited(&before, &mut self.buffer) {
            if let Some(packed) = name.known.packed_since(&path) {
                log::warn!(
                    "{}: what was written just before it was truncated is in {} only, which is not read",
                    Shown(of_path(&path)),
                    Shown(of_path(&packed))
                );
            }
            head.restart();
            // Old lines may come again where a file is rewritten as a whole: let their stamps decide.
            if !shrunk {
                name.time = LineTime::Stamped;
            }
        }
        name.head = Some(head);
    }

    /// Whether any name reads the file, as it is.
    pub(super) fn reads(&self, id: FileId) -> bool {
        self.names.iter().any(|n| n.reads(id))
    }

    pub(super) fn held_by_other(&self, i: usize, id: FileId) -> bool {
        self.names.iter().enumerate().any(|(j, n)| j != i && n.holds(id))
    }

    /// Looks through a directory until no name moved in it meanwhile. Gives up for now where names never
    /// rest.
    pub(super) fn settled<T>(&mut self, look: impl Fn(&Tail) -> T) -> Option<T> {
        for _ in 0..RESCANS_MAX {
            let found = look(self);
            if !self.events() {
                return Some(found);
            }
        }
        None
    }
}

/// What comes before the first line of a file.
enum Start {
    /// Nothing: it begins so.
    Here(Begin),
    /// A copy of what it held before.
    Copied(Box<FileReader>, PathBuf),
    /// Names move too fast to say.
    Unsettled,
}
