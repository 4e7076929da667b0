#![forbid(unsafe_code)]
//! Which names there are: expands the patterns, keeps to the limits, watches the directories.

use super::known::KnownFiles;
use super::name::WatchedName;
use super::reader::FileReader;
use super::rotate::{self, DirNames};
use super::{PathPattern, Tail};
use crate::base::clock::{LineTime, Now};
use crate::base::position::{FOLLOWED, Position, WRITTEN, moment, time_behind};
use crate::input::glob::Fit;
use crate::input::watch::WatchNeed;
use crate::input::{Shown, Tags};
use crate::sys::{birth, busy, clock, fs};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The clock of the file system may lag behind ours by a tick.
const GRAIN: u64 = 1_000_000_000;

/// A file that a pattern matches.
struct MatchedFile {
    mtime: (i64, i64),
    path: PathBuf,
}

/// Whether two paths have the same bytes: of many files each is compared with each.
fn is_same(a: &Path, b: &Path) -> bool {
    a.as_os_str() == b.as_os_str()
}

impl Tail {
    /// Expands all patterns. `saved` is given at the start only: what is found then and not in it begins at
    /// its end.
    pub(super) fn scan(&mut self, now: Now, saved: Option<&[(PathBuf, Position)]>) {
        self.rescan = false;
        if self.patterns.is_empty() {
            return;
        }
        self.watches.begin();
        let before = std::mem::replace(&mut self.scanned, clock::wall_nanos());
        let names = DirNames::default();
        for k in 0..self.patterns.len() {
            let mut found = Vec::new();
            self.expand(k, Path::new("/"), 0, &mut found);
            self.known_before(k, saved.unwrap_or(&[]), &mut found);
            self.newest(k, now, &mut found);
            let fresh = self.names.len();
            for file in found {
                busy::tell();
                self.enter(file.path, (saved, &names), |path| born_before(path, before));
            }
            self.evict(k, fresh);
        }
        self.keep_link_dirs();
        self.watches.sweep();
        // What happened before a directory was watched told nobody.
        self.names.iter_mut().for_each(|n| n.check = true);
        self.stir();
    }

    /// Watches the directories of pattern `k` from `depth` on and collects what fits.
    fn expand(&mut self, k: usize, dir: &Path, depth: usize, found: &mut Vec<MatchedFile>) {
        let Some(glob) = self.patterns.get(k).map(|p| &p.glob) else { return };
        let last = depth + 1 >= glob.depth();
        if let Some(part) = glob.plain(depth) {
            let path = dir.join(part);
            self.watches.dir(dir, if last { WatchNeed::Must } else { WatchNeed::May });
            if last {
                let literal = glob.literal().is_some();
                let mtime = fs::facts(&path).map(|f| f.mtime);
                if literal || mtime.is_ok() {
                    found.push(MatchedFile { mtime: mtime.unwrap_or_default(), path });
                }
                return;
            }
            // A directory cannot tell that it was removed while we hold a file in it: its parent does.
            if path.is_dir() {
                self.expand(k, &path, depth + 1, found);
            } else if let Some(path) = glob.literal() {
                found.push(MatchedFile { mtime: (0, 0), path });
            }
            return;
        }
        self.watches.dir(dir, WatchNeed::Must);
        let mut inner = Vec::new();
        let _ = fs::each_name(dir, &mut |name| {
            if self.patterns.get(k).is_some_and(|p| p.glob.fits(depth, name)) {
                inner.push(dir.join(OsStr::from_bytes(name)));
            }
        });
        for path in inner {
            match fs::facts(&path) {
                Ok(facts) if last && !path.is_dir() => found.push(MatchedFile { mtime: facts.mtime, path }),
                Ok(_) if !last && path.is_dir() => self.expand(k, &path, depth + 1, found),
                _ => {}
            }
        }
    }

    /// Names that were followed when we stopped and are gone now: their files may have another name.
    fn known_before(&self, k: usize, saved: &[(PathBuf, Position)], found: &mut Vec<MatchedFile>) {
        let Some(pattern) = self.patterns.get(k) else { return };
        for (path, _) in saved {
            if pattern.glob.judge(path) == Fit::File && !found.iter().any(|f| is_same(&f.path, path)) {
                found.push(MatchedFile { mtime: (i64::MAX, 0), path: path.clone() });
            }
        }
    }

    /// Keeps the newest files of a pattern with wildcards, shortest names first.
    fn newest(&mut self, k: usize, now: Now, found: &mut Vec<MatchedFile>) {
        let Some(pattern) = self.patterns.get_mut(k) else { return };
        if pattern.glob.literal().is_none() {
            let oldest = i64::try_from(now.wall.0.saturating_sub(self.recent.window)).unwrap_or(i64::MAX);
            found.retain(|f| f.mtime.0 >= oldest);
            found.sort_unstable_by_key(|f| std::cmp::Reverse(f.mtime));
            if found.len() > self.recent.limit {
                pattern.say_limit(self.recent.limit);
                found.truncate(self.recent.limit);
            }
        }
        // A log before its older generations, which are read as part of it.
        found.sort_unstable_by_key(|f| f.path.as_os_str().len());
    }

    /// Follows a name from now on, if it is not followed yet.
    fn enter(
        &mut self,
        path: PathBuf,
        (saved, names): (Option<&[(PathBuf, Position)]>, &DirNames),
        old: impl Fn(&Path) -> bool,
    ) -> Option<usize> {
        let (tags, pattern, wild) = self.wanted(&path)?;
        let known = self.names.iter().any(|n| is_same(&n.path, &path) && !n.gone);
        let part =
            wild && self.names.iter().any(|n| n.tags.and(tags) == n.tags && rotate::descends(&n.path, &path));
        if known || part {
            return None;
        }
        let i = self.names.len();
        let mut name = WatchedName::new(path.clone(), tags, pattern, wild);
        name.known = KnownFiles::all(names, &path, &|_| false);
        let Some(saved) = saved else {
            name.old = wild && old(&path);
            self.names.push(name);
            return Some(i);
        };
        let at = saved.iter().find(|(p, _)| is_same(p, &path));
        // Its pattern was followed before: the file came while we were away.
        let came = wild && saved.iter().any(|(p, _)| self.wanted(p).is_some_and(|w| w.1 == pattern && w.2))
            || moment(saved, FOLLOWED).is_some_and(|then| birth::born(&path).is_some_and(|born| born > then));
        name.old = at.is_none() && !came && path.exists();
        name.time = if at.is_none() && !came { LineTime::Now } else { time_behind(saved) };
        self.names.push(name);
        if let Some((_, at)) = at {
            let older = saved.iter().filter(|(p, _)| is_same(p, &path)).skip(1).map(|(_, at)| *at);
            self.resume(i, &path, (at, moment(saved, WRITTEN)), (&older.collect::<Vec<_>>(), names));
        }
        Some(i)
    }

    /// A file appeared whose name fits a pattern.
    pub(super) fn consider(&mut self, path: PathBuf, created: bool) {
        let before = self.scanned;
        self.stir();
        let Some(i) =
            self.enter(path, (None, &DirNames::default()), |path| !created && born_before(path, before))
        else {
            return;
        };
        if let Some(pattern) = self.names.get(i).filter(|n| n.wild).map(|n| n.pattern) {
            self.evict(pattern, i);
        }
    }

    /// Lets go of the files of a pattern that rested longest, until it keeps to the limit. Names from `fresh`
    /// on stay. A file with something unread stays too, up to twice the limit.
    fn evict(&mut self, pattern: usize, fresh: usize) {
        let of_pattern = |n: &WatchedName| n.wild && !n.gone && n.pattern == pattern;
        let age = |n: &WatchedName| n.head.as_ref().and_then(|h| h.facts().ok()).map(|f| f.mtime);
        let count = self.names.iter().filter(|n| of_pattern(n)).count();
        for over in (self.recent.limit.saturating_add(1)..=count).rev() {
            if let Some(pattern) = self.patterns.get_mut(pattern) {
                pattern.say_limit(self.recent.limit);
            }
            let busy_too = over > self.recent.limit.saturating_mul(2);
            let rest = self.names.iter_mut().take(fresh);
            let oldest = rest.filter(|n| of_pattern(n) && (busy_too || !n.pending())).min_by_key(|n| age(n));
            let Some(oldest) = oldest else { return };
            oldest.gone = true;
            self.parting = true;
        }
    }

    /// Who wants a path: all tags, the first pattern, and whether only wildcards lead to it.
    fn wanted(&self, path: &Path) -> Option<(Tags, usize, bool)> {
        let mut out: Option<(Tags, usize, bool)> = None;
        for (k, pattern) in self.patterns.iter().enumerate() {
            if pattern.glob.judge(path) == Fit::File {
                let wild = pattern.glob.literal().is_none();
                let (tags, first, all) = out.unwrap_or((Tags(0), k, true));
                out = Some((tags.and(pattern.tags), first, all && wild));
            }
        }
        out
    }

    /// Ends the names that are gone.
    pub(super) fn bury(&mut self) {
        self.stir();
        let mut i = 0;
        while i < self.names.len() {
            if !self.names.get(i).is_some_and(|n| n.gone) {
                i += 1;
                continue;
            }
            let name = self.names.swap_remove(i);
            let readers: [Option<FileReader>; 2] = [name.head, name.late];
            readers.into_iter().flatten().for_each(|r| self.release(r));
        }
    }

    /// Directories that links lead into are wanted as long as the links are.
    fn keep_link_dirs(&mut self) {
        for i in 0..self.names.len() {
            let dir = self.names.get(i).and_then(|n| n.target.as_deref()?.parent()).map(Path::to_path_buf);
            if let Some(dir) = dir {
                self.watches.dir(&dir, WatchNeed::Must);
            }
        }
    }
}

impl PathPattern {
    fn say_limit(&mut self, limit: usize) {
        if !self.said_limit {
            self.said_limit = true;
            log::warn!(
                "{}: fits more than {limit} files, only the newest are followed",
                Shown(self.glob.text())
            );
        }
    }
}

/// Whether the file was there at `then`. Where the file system does not tell, it is new.
fn born_before(path: &Path, then: u64) -> bool {
    birth::born(path).is_some_and(|born| born.saturating_add(GRAIN) < then)
}
