#![forbid(unsafe_code)]
//! What is done for one name: read a piece, notice that the file changed, turn to the next generation.

use super::name::{Name, Trouble};
use super::reader::{Reader, Step};
use super::{Tail, rotate};
use crate::base::position::Position;
use crate::input::{Item, Tags};
use crate::sys::fs::{self, FileId};
use std::path::{Path, PathBuf};

/// How often a directory is listed again because names moved meanwhile.
const PATIENCE: usize = 8;
/// What looking at names costs in bytes read, so that it counts against the budget.
const LOOK: usize = 4096;

impl Name {
    /// Whether [`Tail::follow`] has something to do.
    pub(super) fn pending(&self) -> bool {
        let dirty = |r: &Option<Reader>| r.as_ref().is_some_and(|r| r.dirty);
        !self.gone && (self.check || self.turning || dirty(&self.head) || dirty(&self.late))
    }
}

/// Whether only root and the service that writes a file can change it: judged by the file, the directory that it is in, and
/// that of the link which leads there. Whoever writes as a person, or lets a group of people write, is no service.
fn is_attested(file: &fs::Facts, path: &Path, target: Option<&Path>) -> bool {
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
        if name.late.as_ref().is_some_and(|r| r.dirty) {
            bytes = self.read_late(i, sink);
        } else if name.head.as_ref().is_some_and(|r| r.dirty) {
            bytes = self.read_head(i, sink);
        } else if name.turning {
            self.turn_over(i);
        } else if name.check {
            self.check(i);
        }
        (bytes, self.names.get(i).is_some_and(Name::pending))
    }

    /// One read of the file before the present one.
    fn read_late(&mut self, i: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> usize {
        let Some(mut late) = self.names.get_mut(i).and_then(|n| n.late.take()) else { return 0 };
        let step = self.lend(i, &mut late, true, sink);
        let (bytes, keep) = match step {
            Ok(Step::Read { bytes, more }) => {
                late.dirty = more;
                // With no name left, holding it open would only keep its disk space.
                (bytes, more || late.facts().is_ok_and(|f| f.links > 0))
            }
            _ => (0, false),
        };
        if keep {
            if let Some(name) = self.names.get_mut(i) {
                name.late = Some(late);
            }
        } else {
            self.release(late);
        }
        bytes
    }

    /// One read of the present file.
    fn read_head(&mut self, i: usize, sink: &mut dyn FnMut(Tags, Item<'_>)) -> usize {
        let Some(name) = self.names.get_mut(i) else { return 0 };
        let live = name.live;
        let Some(mut head) = name.head.take() else { return 0 };
        if name.check {
            // Others may write there since.
            let facts = head.facts();
            head.attested &= facts.is_ok_and(|f| is_attested(&f, &name.path, name.target.as_deref()));
        }
        let step = self.lend(i, &mut head, live, sink);
        let Some(name) = self.names.get_mut(i) else { return 0 };
        match step {
            Ok(Step::Read { bytes, more }) => {
                head.dirty = more;
                name.live |= !more && !name.check && !name.turning;
                name.head = Some(head);
                bytes
            }
            Ok(Step::Changed { shrunk }) => {
                self.changed(i, head, shrunk);
                0
            }
            Err(e) => {
                head.dirty = false;
                name.trouble(Trouble::of(&e));
                name.head = Some(head);
                0
            }
        }
    }

    /// Lets a reader read once, for all names that its file has.
    fn lend(
        &mut self,
        i: usize,
        reader: &mut Reader,
        live: bool,
        sink: &mut dyn FnMut(Tags, Item<'_>),
    ) -> std::io::Result<Step> {
        let own = self.names.get(i).map_or(Tags(0), |n| n.tags);
        let others = self.names.iter().filter(|n| n.alias == Some(reader.id));
        let tags = others.fold(own, |all, n| all.and(n.tags));
        self.warm |= reader.hot;
        let attested = reader.attested;
        reader.step(&mut self.buffer, &mut self.cut, &mut |lines| {
            sink(tags, Item::Block { lines, live, attested });
        })
    }

    /// The file was truncated or rewritten under us. If it was copied away first, what we had not read is in the copy.
    fn changed(&mut self, i: usize, mut head: Reader, shrunk: bool) {
        let at = head.position();
        let Some(path) = self.names.get(i).map(|n| n.path.clone()) else { return };
        let copy = if at.offset > 0 {
            self.settled(|t| rotate::find(&path, &at, &|id| t.held(id)))
        } else {
            Some(None)
        };
        let Some(name) = self.names.get_mut(i) else { return };
        let Some(copy) = copy else {
            name.head = Some(head); // still dirty: the next read finds it changed again
            return;
        };
        if let Some(copy) = copy {
            name.head = Some(copy);
            name.check = true;
            self.release(head);
            return;
        }
        head.restart();
        // Old lines may come again where a file is rewritten as a whole: let their stamps decide.
        name.live &= shrunk;
        name.head = Some(head);
    }

    /// Sees which file has the name now.
    fn check(&mut self, i: usize) {
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
                name.live |= !head.dirty;
                name.trouble(Trouble::None);
            }
            (Ok(_), Some(head)) => {
                // What was written before the name changed hands comes first.
                head.dirty = true;
                name.turning = true;
            }
            (Ok(facts), None) if taken => name.alias = Some(facts.id),
            (Ok(_), None) => self.begin(i, &path),
            (Err(e), head) => {
                let missing = Trouble::of(&e) == Trouble::Missing;
                // A file that was moved away may still be written to; one that was deleted belongs to nobody.
                let lost = head.as_ref().is_none_or(|h| h.facts().is_ok_and(|f| f.links == 0));
                name.gone = name.wild && missing && lost;
                match head {
                    Some(head) if missing && !name.gone => {
                        // In the midst of a rotation, perhaps of more than one.
                        head.dirty = true;
                        name.turning = true;
                    }
                    _ => name.trouble(Trouble::of(&e)),
                }
            }
        }
    }

    /// Opens the file that has the name, which had none.
    fn begin(&mut self, i: usize, path: &Path) {
        let opened = Reader::open(path);
        let Some(name) = self.names.get_mut(i) else { return };
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(e) => {
                let trouble = Trouble::of(&e);
                name.old &= matches!(trouble, Trouble::Failed(_)); // only what is there can be old
                return name.trouble(trouble);
            }
        };
        if std::mem::take(&mut name.old)
            && let Err(e) = reader.skip_to_end()
        {
            name.trouble(Trouble::of(&e));
        }
        name.trouble(Trouble::None);
        self.adopt(i, reader, path);
    }

    /// The present file is read to its end: goes on with the next generation.
    fn turn_over(&mut self, i: usize) {
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
            let next = rotate::next(&path, facts.id, facts.mtime, &|id| t.held(id));
            let file = next.as_ref().unwrap_or(&path);
            let other = fs::facts(file).is_ok_and(|f| t.held_by_other(i, f.id));
            // Opened while we look: a moment later the name may be another's.
            let opened = if other { Ok(None) } else { Reader::open(file).map(Some) };
            (next, opened)
        });
        let Some((next, opened)) = found else { return };
        let Some(name) = self.names.get_mut(i) else { return };
        if name.late.as_ref().is_some_and(|r| r.dirty) {
            // Its place is needed: what was written to it before the next generation came is read first.
            return;
        }
        name.turning = false;
        name.check = next.is_some();
        match opened {
            Ok(Some(reader)) => self.succeed(i, reader, &next.unwrap_or(path)),
            Ok(None) => {
                // Another name reads it.
                name.check = true;
                let late = std::mem::replace(&mut name.late, name.head.take());
                late.into_iter().for_each(|r| self.release(r));
            }
            Err(e) if Trouble::of(&e) == Trouble::Missing => {
                name.live |= !name.check;
                name.deleted = facts.links == 0;
            }
            Err(e) => {
                name.check = false;
                name.trouble(Trouble::of(&e));
            }
        }
    }

    /// Reads `reader` after the present file.
    fn succeed(&mut self, i: usize, mut reader: Reader, path: &Path) {
        let Some(name) = self.names.get_mut(i) else { return };
        let is = |r: &Option<Reader>| r.as_ref().is_some_and(|r| r.id == reader.id);
        if is(&name.head) {
            return;
        }
        if is(&name.late) {
            // Renamed back: it goes on where it was.
            std::mem::swap(&mut name.head, &mut name.late);
            name.head.iter_mut().for_each(|h| h.dirty = true);
            return;
        }
        if let Some(at) = name.head.as_ref().map(Reader::position).filter(|at| at.offset > 0) {
            reader.resume(&at); // a copy of what we read, moved into its place
        }
        let late = std::mem::replace(&mut name.late, name.head.take());
        name.trouble(Trouble::None);
        late.into_iter().for_each(|r| self.release(r));
        self.adopt(i, reader, path);
    }

    /// Makes a reader the head of a name and watches its file.
    pub(super) fn adopt(&mut self, i: usize, mut reader: Reader, path: &Path) {
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

    /// Lets go of a file, or hands it to another name that waits for it.
    pub(super) fn release(&mut self, reader: Reader) {
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

    /// Whether any name reads the file.
    pub(super) fn held(&self, id: FileId) -> bool {
        self.names.iter().any(|n| n.holds(id))
    }

    fn held_by_other(&self, i: usize, id: FileId) -> bool {
        self.names.iter().enumerate().any(|(j, n)| j != i && n.holds(id))
    }

    /// Looks through a directory until no name moved in it meanwhile. Gives up for now where names never rest.
    fn settled<T>(&mut self, look: impl Fn(&Tail) -> T) -> Option<T> {
        for _ in 0..PATIENCE {
            let found = look(self);
            if !self.events() {
                return Some(found);
            }
        }
        None
    }

    /// If the name is a link, its target's directory matters as well.
    fn see_link(&mut self, i: usize, path: &Path) {
        let target: Option<PathBuf> =
            fs::link_target(path).map(|direct| std::fs::canonicalize(path).unwrap_or(direct));
        if let Some(dir) = target.as_deref().and_then(Path::parent) {
            self.watches.dir(dir, true);
        }
        if let Some(name) = self.names.get_mut(i) {
            name.target = target;
        }
    }

    /// At the start there is no later.
    fn find_patiently(&mut self, path: &Path, at: &Position) -> Option<Reader> {
        (0..PATIENCE).find_map(|_| self.settled(|t| rotate::find(path, at, &|id| t.held(id)))).flatten()
    }

    /// Finds where to go on with a name after a restart.
    pub(super) fn resume(&mut self, i: usize, path: &Path, at: &Position) {
        let opened = Reader::open(path).ok().map(|mut r| (r.resume(at), r));
        let reader = match opened {
            Some((true, reader)) => Some(reader),
            present => self.find_patiently(path, at).or(present.map(|(_, reader)| reader)),
        };
        let Some(name) = self.names.get_mut(i) else { return };
        name.live = false;
        name.check = true;
        if let Some(reader) = reader {
            self.adopt(i, reader, path);
        }
    }
}
